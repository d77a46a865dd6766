// Invariant: a worker thread that dies takes nothing acknowledged with it and doubles nothing; whoever waited for it
// is told at once that the outcome is unknown, and another thread takes its place in the same process.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { Journal, type SentEvent } from './journal.ts';
import { load, sendBatch, sendOne } from './load.ts';
import { between, seededRandom, testSeed } from './random.ts';

const flags = {
  producers: 2,
  sinks: 2,
  readers: 1,
  partitions: 4,
  'sink-linger-ms': 5,
  'sink-batch-rows-max': 100,
  'sink-inserts-per-second': 200,
};
const random = seededRandom(testSeed());

/** Sends every event again, as a client would, that is not known to be taken. A successor may die of the same fault. */
async function sendUntilPromised(ess: EssProcess, journal: Journal): Promise<void> {
  for (;;) {
    const open = journal.events.filter((event) => !event.isPromised);
    if (open.length === 0) return;
    await sendBatch(ess, open, '?ack=store');
  }
}

/** Waits until a thread whose name begins like this was replaced and its successor runs. */
async function replaced(ess: EssProcess, name: string): Promise<StatsJson> {
  for (;;) {
    const stats = await ess.getJson<StatsJson>('/stats');
    const threads = stats.threads.filter((thread) => thread.name.startsWith(name));
    if (threads.some(({ restarts }) => restarts > 0) && threads.every(({ alive }) => alive)) return stats;
    await sleep(20);
  }
}

for (const [point, name] of [
  ['producer.before_append', 'producer'],
  ['producer.after_append', 'producer'],
  ['sink.after_intent', 'sink'],
  ['sink.after_insert', 'sink'],
  ['sink.after_ledger', 'sink'],
] as const) {
  test(`a ${name} thread that dies at ${point} is replaced, and every promise is kept`, {
    timeout: 120_000,
  }, async () => {
    const journal = new Journal('threads');
    const env = { ESS_FAULT: `${point}:${between(random, 30, 80)}:throw` };
    const ess = await EssProcess.start({ flags, env });
    try {
      let isOver = false;
      const loading = load(ess, journal, random, () => isOver);
      const stats = await replaced(ess, name);
      assert.ok((stats.counters['worker_deaths'] ?? 0) > 0);
      isOver = true;
      await loading;
      // Service goes on in the same process; what nobody knows is sent again and stays one event.
      journal.create();
      await sendUntilPromised(ess, journal);
      const { conservation } = await ess.drained();
      assert.equal(conservation.exact, true);
      assert.equal(
        conservation.accepted,
        conservation.stored + conservation.duplicates + conservation.parked,
      );
      assert.equal(await ess.end('SIGTERM'), 0);
      await journal.check(ess.dataDir);
    } finally {
      await ess.dispose();
    }
  });
}

test('who waits for a producer that dies is told at once, however long the deadline is', {
  timeout: 120_000,
}, async () => {
  const journal = new Journal('waiters');
  // No block is due for a minute, no request for ten: only the death of the producer can answer them.
  const ess = await EssProcess.start({
    flags: { ...flags, producers: 1, 'sink-linger-ms': 60_000, 'http-deadline-ms': 600_000 },
    env: { ESS_FAULT: 'producer.after_append:20:throw' },
  });
  try {
    const waiting: Promise<string>[] = [];
    for (let i = 0; i < 20; i += 1) {
      const event: SentEvent = journal.create();
      waiting.push(sendOne(ess, event, '?ack=store'));
      // One append for each: the next one is sent when the log has the one before.
      while ((await ess.getJson<StatsJson>('/stats')).conservation.accepted <= i) await sleep(2);
    }
    const outcomes = await Promise.all(waiting);
    assert.deepEqual([...new Set(outcomes)], ['unknown']);
    const stats = await replaced(ess, 'producer');
    assert.equal(stats.counters['worker_deaths'], 1);
    assert.equal(stats.slots.used, 0);
    assert.equal(stats.slots.store_used, 0);
    for (const event of journal.events) assert.equal(await sendOne(ess, event, '?ack=log'), 'promised');
    assert.equal(await ess.end('SIGTERM'), 0);
    await journal.check(ess.dataDir);
  } finally {
    await ess.dispose();
  }
});
