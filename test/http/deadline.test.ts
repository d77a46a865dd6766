// A request whose time is over is told how far its event came; the event itself goes on, and is stored once.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { partitionOf } from '../../src/event/partition.ts';
import { EssProcess } from '../support/ess_process.ts';
import { atRest, type BatchAnswer, jsonOf, outcomeOf, problemOf, type SingleAnswer } from './answers.ts';
import { Connection, requestText } from './connection.ts';

const partitions = 4;

describe('a request at its deadline', () => {
  let ess: EssProcess | null = null;

  async function start(flags: Readonly<Record<string, string | number>>): Promise<EssProcess> {
    ess = await EssProcess.start({ flags: { partitions, ...flags } });
    return ess;
  }
  afterEach(async () => {
    await ess?.dispose();
    ess = null;
  });

  test('with ack=store it says that the log has it, and where, and the event is stored exactly once', async () => {
    const running = await start({ 'sink-linger-ms': 2000, 'http-deadline-ms': 300 });
    const places = new Map<string, SingleAnswer>();
    await Promise.all(
      Array.from({ length: 20 }, async (_, i) => {
        const id = `late-${i}`;
        const problem = await problemOf(running.post(`{"id":"${id}"}`, '?ack=store'), 'outcome_unknown');
        assert.deepEqual([problem['reached'], problem['id']], ['log', id]);
        assert.equal(problem['partition'], partitionOf(id, partitions));
        assert.ok(Number.isInteger(problem['offset']));
        places.set(id, problem as unknown as SingleAnswer);
      }),
    );
    // A client does what the answer says: it sends the same event again.
    for (const id of places.keys()) await jsonOf(running.post(`{"id":"${id}"}`));
    const { conservation } = await atRest(running);
    assert.deepEqual([conservation.accepted, conservation.stored, conservation.duplicates], [40, 20, 20]);
    for (const [id, place] of places) {
      const found = await jsonOf<SingleAnswer>(fetch(`${running.url}/events/${id}`));
      assert.deepEqual([found.id, found.partition, found.offset], [id, place.partition, place.offset]);
    }
  });

  test('a batch with ack=store names every event that is not known to be stored', async () => {
    const running = await start({ 'sink-linger-ms': 2000, 'http-deadline-ms': 300 });
    const body = '[{"id":"b0"},{"id":5},{"id":"b2"},{"id":"b3"}]';
    const outcome = await outcomeOf(await running.post(body, '?ack=store'));
    assert.equal(outcome.status, 503);
    assert.match(outcome.header('retry-after') ?? '', /^[1-9]\d*$/);
    const answer = JSON.parse(outcome.text) as BatchAnswer;
    assert.deepEqual([answer.accepted, answer.rejected], [0, 4]);
    const byIndex = answer.errors.toSorted((a, b) => a.index - b.index);
    assert.deepEqual(
      byIndex.map(({ code, id }) => [code, id]),
      [
        ['outcome_unknown', 'b0'],
        ['invalid_event', undefined],
        ['outcome_unknown', 'b2'],
        ['outcome_unknown', 'b3'],
      ],
    );
    assert.equal((await atRest(running)).conservation.stored, 3);
  });

  test('a late answer finds its slot moved on and reaches nobody else', async () => {
    // The shortest deadline and few slots: nearly every slot is used again while an old answer is still on its way.
    const running = await start({
      producers: 1,
      'http-deadline-ms': 10,
      'slots-max': 8,
      'ring-bytes': 2 ** 20,
      'http-body-bytes-max': 500_000,
    });
    const filler = 'x'.repeat(100_000);
    const seen = new Map<number, number>();
    await Promise.all(
      Array.from({ length: 16 }, async (_, client) => {
        const connection = await Connection.open(running.url);
        for (let i = 0; i < 150; i += 1) {
          const id = `own-${client}-${i}`;
          connection.send(requestText('POST', '/events', JSON.stringify({ id, filler })));
          const answer = await connection.answer();
          assert.ok(answer !== null);
          seen.set(answer.status, (seen.get(answer.status) ?? 0) + 1);
          const { id: answered = id, code } = JSON.parse(answer.body) as {
            readonly id?: string;
            readonly code?: string;
          };
          assert.equal(answered, id);
          if (answer.status !== 200)
            assert.ok(code === 'outcome_unknown' || code === 'overloaded', answer.body);
          if (code === 'overloaded') await sleep(1);
        }
        connection.destroy();
      }),
    );
    const { counters, conservation } = await atRest(running);
    assert.ok((seen.get(200) ?? 0) > 0, 'nothing was ever in time');
    assert.ok((counters['late_acks'] ?? 0) > 0, 'nothing was ever late');
    // Whatever was answered 200 is stored; what was not may be, but never twice.
    assert.ok(conservation.stored >= (seen.get(200) ?? 0));
    assert.equal(conservation.duplicates, 0);
  });
});
