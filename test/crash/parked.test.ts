// Invariant: an event that the store refuses is told to its client, kept and shown with the reason, and never in the
// way of others. And: a store that is lost is filled again from the log, or the hole is named.

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess, type StatsJson } from '../support/ess_process.ts';
import { Journal, refusePoison, type SentEvent } from './journal.ts';
import { sendBatch, sendOne } from './load.ts';

const flags = {
  producers: 1,
  sinks: 2,
  readers: 1,
  partitions: 4,
  'sink-linger-ms': 5,
  'sink-inserts-per-second': 200,
};

interface LettersJson {
  readonly dead_letters: readonly {
    readonly partition: number;
    readonly offset: number;
    readonly code: string;
    readonly reason: string;
    readonly id: string;
  }[];
}

describe('events that the store refuses', () => {
  const journal = new Journal('parked');
  let ess: EssProcess;

  before(async () => {
    ess = await EssProcess.start({ flags });
    assert.equal(await ess.end('SIGTERM'), 0);
    await refusePoison(ess.dataDir);
    ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
  });
  after(() => ess.dispose());

  const many = (count: number, isPoison: boolean): SentEvent[] =>
    Array.from({ length: count }, () => journal.create(isPoison));

  test('with ack=store the answer is 422 parked with the position, and the letter is there', async () => {
    const event = journal.create(true);
    const response = await ess.post(event.json, '?ack=store');
    const problem = (await response.json()) as Record<string, unknown>;
    event.outcomes.add('parked');
    assert.equal(response.status, 422);
    assert.equal(problem['code'], 'parked');
    assert.equal(problem['id'], event.id);
    const { dead_letters: letters } = await ess.getJson<LettersJson>('/dead-letters');
    const letter = letters.find(({ id }) => id === event.id);
    assert.equal(letter?.partition, problem['partition']);
    assert.equal(letter?.offset, problem['offset']);
    assert.equal(letter?.code, '469');
    assert.ok(letter?.reason.includes('no_poison'));
  });

  test('with ack=log the answer is 200: it is durable, and becomes a letter', async () => {
    const event = journal.create(true);
    assert.equal(await sendOne(ess, event, '?ack=log'), 'promised');
  });

  test('a batch with ack=store takes the good ones and lists the others as parked', async () => {
    const batch = [
      ...many(3, true),
      ...many(4, false),
      ...many(1, true),
      ...many(5, false),
      ...many(2, true),
    ];
    const body = batch.map(({ json }) => json).join('\n');
    const response = await ess.post(body, '?ack=store', 'application/x-ndjson');
    const answer = (await response.json()) as {
      accepted: number;
      rejected: number;
      errors: { index: number; code: string; id: string }[];
    };
    assert.equal(response.status, 200);
    assert.equal(answer.accepted, 9);
    assert.equal(answer.rejected, 6);
    const listed = answer.errors.sort((a, b) => a.index - b.index);
    assert.deepEqual(
      listed.map(({ index, code, id }) => [index, code, id]),
      batch.flatMap(({ isPoison, id }, index) => (isPoison ? [[index, 'parked', id]] : [])),
    );
    for (const event of batch) event.outcomes.add(event.isPoison ? 'parked' : 'promised');
  });

  test('a batch of nothing else with ack=store answers 422', async () => {
    const batch = many(5, true);
    const response = await ess.post(
      batch.map(({ json }) => json).join('\n'),
      '?ack=store',
      'application/x-ndjson',
    );
    assert.equal(response.status, 422);
    const answer = (await response.json()) as { accepted: number; errors: { code: string }[] };
    assert.equal(answer.accepted, 0);
    assert.deepEqual([...new Set(answer.errors.map(({ code }) => code))], ['parked']);
    for (const event of batch) event.outcomes.add('parked');
  });

  test('scattered among a thousand others only they are parked, and everything adds up', async () => {
    const batch = Array.from({ length: 1000 }, (_, i) => journal.create(i % 83 === 5));
    await sendBatch(ess, batch, '?ack=store');
    assert.deepEqual(
      batch.filter(({ outcomes }) => outcomes.has('parked')),
      batch.filter(({ isPoison }) => isPoison),
    );
    const { conservation, reasons } = await ess.drained();
    assert.deepEqual(reasons, []);
    assert.equal(conservation.exact, true);
    assert.equal(conservation.parked, journal.events.filter(({ isPoison }) => isPoison).length);
    assert.equal(conservation.accepted, conservation.stored + conservation.duplicates + conservation.parked);
    await journal.checkReads(ess);
    assert.equal(await ess.end('SIGTERM'), 0);
    await journal.check(ess.dataDir);
  });
});

test('a store that is lost is filled again from the log', async () => {
  const journal = new Journal('lost');
  let ess = await EssProcess.start({ flags });
  try {
    await sendBatch(
      ess,
      Array.from({ length: 500 }, () => journal.create()),
      '?ack=store',
    );
    assert.equal(await ess.end('SIGTERM'), 0);
    rmSync(join(ess.dataDir, 'store'), { recursive: true });
    ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
    await sendBatch(
      ess,
      Array.from({ length: 100 }, () => journal.create()),
      '?ack=store',
    );
    const { conservation } = await ess.drained();
    assert.equal(conservation.exact, true);
    assert.equal(conservation.stored, 600);
    assert.equal(await ess.end('SIGTERM'), 0);
    await journal.check(ess.dataDir);
  } finally {
    await ess.dispose();
  }
});

test('a store that is lost after the log was trimmed halts its partitions, says so, and the others go on', async () => {
  const trimming = { ...flags, 'log-retention-ms': 0, 'log-retention-bytes': 0 };
  let ess = await EssProcess.start({ flags: trimming });
  try {
    // One key: only one partition has records, and loses them.
    const sendTo = async (key: string, n: number): Promise<number> => {
      const response = await ess.post(JSON.stringify({ id: `${key}-${n}`, key }), '?ack=log');
      assert.equal(response.status, 200);
      return ((await response.json()) as { partition: number }).partition;
    };
    const lost = await sendTo('a', 0);
    await ess.drained();
    const startOf = async (): Promise<number | undefined> =>
      (await ess.getJson<{ partitions: { start: number }[] }>('/stats')).partitions[lost]?.start;
    while ((await startOf()) === 0) await sleep(20);
    assert.equal(await ess.end('SIGTERM'), 0);
    rmSync(join(ess.dataDir, 'store'), { recursive: true });
    ess = await EssProcess.start({ flags: trimming, dataDir: ess.dataDir });
    assert.equal(await sendTo('a', 1), lost);
    for (let n = 0; n < 50; n += 1) await sendTo(`other-${n}`, n);
    const isLeftAlone = ({ partition, end, stored }: StatsJson['partitions'][number]): boolean =>
      partition === lost || stored === end;
    let stats: StatsJson;
    for (;;) {
      stats = await ess.getJson<StatsJson>('/stats');
      if (stats.partitions.every(isLeftAlone) && stats.reasons.length > 0) break;
      await sleep(20);
    }
    assert.ok(stats.partitions.some(({ partition, end }) => partition !== lost && end > 0));
    const ready = await fetch(`${ess.url}/readyz`);
    const { status, reasons } = (await ready.json()) as { status: string; reasons: string[] };
    assert.equal(ready.status, 200);
    assert.equal(status, 'degraded');
    assert.ok(reasons.some((reason) => reason.includes(`partition ${lost} `) && reason.includes('gap')));
    const { troubles } = await ess.getJson<StatsJson>('/stats');
    assert.deepEqual(
      troubles.map(({ kind, help }) => [kind, help]),
      [['partition_halted', '/operations#partition-halted']],
    );
    // Somebody has to look at it: a stop does not pretend that it is done, and loses nothing of what is left.
    assert.equal(await ess.end('SIGTERM'), 0);
  } finally {
    await ess.dispose();
  }
});
