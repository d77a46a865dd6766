// ack=memory: the answer comes before the event is durable, and an orderly stop still loses none of them.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { EssProcess } from '../support/ess_process.ts';
import { atRest, type BatchAnswer, jsonOf, problemOf, type SingleAnswer, statsUntil } from './answers.ts';

describe('ack=memory', () => {
  let ess: EssProcess | null = null;
  afterEach(async () => {
    await ess?.dispose();
    ess = null;
  });

  test('events are answered, are in the log soon after, and none is pending in the end', async () => {
    ess = await EssProcess.start({ flags: { ack: 'memory' } });
    const running = ess;
    await Promise.all(
      Array.from({ length: 10 }, async (_, client) => {
        for (let i = 0; i < 50; i += 1) {
          const id = `memory-${client}-${i}`;
          const answer = await jsonOf<SingleAnswer>(running.post(`{"id":"${id}"}`));
          assert.deepEqual([answer.id, answer.ack, answer.offset], [id, 'memory', null]);
        }
      }),
    );
    const answer = await jsonOf<BatchAnswer>(running.post('[{"id":"m1"},{"id":5},{"id":"m2"}]', '?ids=1'));
    assert.deepEqual(answer.ids, ['m1', null, 'm2']);
    const stats = await atRest(running);
    assert.equal(stats.counters['events_memory_pending'], 0);
    assert.equal(stats.conservation.stored, 502);
  });

  test('an orderly stop right after the answers keeps every event', async () => {
    ess = await EssProcess.start();
    const { dataDir } = ess;
    const running = ess;
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) =>
        jsonOf<SingleAnswer>(running.post(`{"id":"stop-${i}"}`, '?ack=memory')),
      ),
    );
    assert.equal(answers.length, 200);
    assert.equal(await ess.end('SIGTERM'), 0);
    ess = await EssProcess.start({ dataDir });
    assert.equal((await atRest(ess)).conservation.stored, 200);
    assert.equal((await fetch(`${ess.url}/events/stop-199`)).status, 200);
  });

  test('while the log takes nothing, so many events wait for it and the rest is refused', async () => {
    ess = await EssProcess.start({
      flags: {
        producers: 2,
        'log-bytes-max': 64 * 1024,
        'event-bytes-max': 10_000,
        'group-bytes-max': 16 * 1024,
        'sink-linger-ms': 60_000,
      },
    });
    const running = ess;
    const event = (i: number): string => JSON.stringify({ id: `full-${i}`, x: 'x'.repeat(2000) });
    let memory = 0;
    for (let i = 0; ; i += 1) {
      const response = await running.post(event(i), '?ack=memory');
      if (response.status !== 200) {
        await problemOf(response, 'overloaded');
        break;
      }
      assert.ok(i < 1000, 'nothing was ever refused');
      memory += 1;
    }
    await problemOf(running.post(event(-1)), 'log_unavailable');
    const { conservation } = await statsUntil(running, ({ conservation }) => conservation.accepted > 0);
    // Every event that was answered is either in the log or shown as waiting for it.
    assert.equal(conservation.accepted + conservation.memory_pending, memory);
    assert.ok(conservation.memory_pending > 0);
    const ready = await fetch(`${running.url}/readyz`);
    assert.equal(ready.status, 503);
    // Each producer meets the same trouble, and the default ack waits for the log: it is one reason all the same.
    const { reasons } = (await ready.json()) as { readonly reasons: readonly string[] };
    assert.equal(reasons.length, 1, reasons.join(' / '));
    assert.match(reasons[0] ?? '', /^log: /);
  });
});
