// Rings of every size: what finds no room is refused, what fits comes through whole, in both directions.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { EssProcess } from '../support/ess_process.ts';
import { assertProblem, atRest, jsonOf, type Outcome, outcomeOf, type SingleAnswer } from './answers.ts';

const KiB = 1024;

describe('the rings', () => {
  let ess: EssProcess | null = null;

  async function start(flags: Readonly<Record<string, string | number>>): Promise<EssProcess> {
    ess = await EssProcess.start({ flags });
    return ess;
  }
  afterEach(async () => {
    await ess?.dispose();
    ess = null;
  });

  test('when the rings are full requests are refused, and every event that was not is stored', async () => {
    const flags = {
      producers: 1,
      'ring-bytes': 128 * KiB,
      'http-body-bytes-max': 60 * KiB,
      'group-bytes-max': 4 * KiB,
    };
    const running = await start(flags);
    const outcomes: Outcome[] = [];
    const clients = Array.from({ length: 32 }, async (_, client) => {
      for (let i = 0; i < 20; i += 1) {
        const event = { id: `ring-${client}-${i}`, x: 'x'.repeat(40 * KiB) };
        const outcome = await outcomeOf(await running.post(JSON.stringify(event)));
        outcomes.push(outcome);
        if (outcome.status === 200) assert.equal((JSON.parse(outcome.text) as SingleAnswer).id, event.id);
        else assertProblem(outcome, 'overloaded');
      }
    });
    await Promise.all(clients);
    const accepted = outcomes.filter(({ status }) => status === 200).length;
    assert.ok(accepted > 0);
    assert.ok(accepted < outcomes.length, 'no ring was ever full');
    const { conservation } = await atRest(running);
    assert.equal(conservation.accepted, accepted);
    assert.equal(conservation.stored, accepted);
  });

  test('a body of the largest size fits into the smallest ring', async () => {
    const flags = { producers: 1, 'ring-bytes': 64 * KiB, 'http-body-bytes-max': 28 * KiB };
    const running = await start(flags);
    for (let i = 0; i < 50; i += 1) {
      const event = `{"id":"fit-${i}","x":"`;
      const body = `${event}${'x'.repeat(28 * KiB - event.length - 2)}"}`;
      assert.equal((await jsonOf<SingleAnswer>(running.post(body))).id, `fit-${i}`);
    }
    assert.equal((await atRest(running)).conservation.stored, 50);
  });

  test('answers larger than the ack ring arrive whole, many at once', async () => {
    const running = await start({ producers: 1, 'ack-ring-bytes': 64 * KiB });
    const events = (client: number): { id: string }[] =>
      Array.from({ length: 2000 }, (_, i) => ({ id: `answer-${client}-${i}-${'\u00e9'.repeat(50)}` }));
    await Promise.all(
      Array.from({ length: 8 }, async (_, client) => {
        const sent = events(client);
        const answer = await jsonOf<{ readonly ids: readonly string[] }>(
          running.post(JSON.stringify(sent), '?ids=1'),
        );
        assert.deepEqual(
          answer.ids,
          sent.map(({ id }) => id),
        );
      }),
    );
    assert.equal((await atRest(running)).conservation.stored, 16_000);
  });
});
