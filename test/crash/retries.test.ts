// Client retries: the same source and id again are one event, and the first copy wins, whatever lies between the
// copies: an hour, a month, a restart, a full memory.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { auditLedger, eventsOf } from '../sink/audit.ts';
import { drain, Rig, type RigOptions, type TestEvent } from '../sink/rig.ts';
import { EssProcess } from '../support/ess_process.ts';

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const windowMs = 10 * minuteMs;

async function withRig(options: RigOptions, run: (rig: Rig) => Promise<void>): Promise<void> {
  const rig = await Rig.open({ ...options, limits: { retryWindowMs: windowMs, ...options.limits } });
  try {
    await run(rig);
  } finally {
    await rig.close();
  }
}

/** Bodies of an id's rows, as reads see them. */
async function bodiesOf(rig: Rig, id: string): Promise<string[]> {
  const rows = await rig.store.rows<{ body: string }>(
    'SELECT body FROM events FINAL WHERE id = {id:String} ORDER BY ingest_time',
    { id },
  );
  return rows.map(({ body }) => body);
}

const first = { id: 'x', body: '{"copy":1}' };
const second = { id: 'x', body: '{"copy":2}' };

const boundaries = [
  ['within an hour', Date.UTC(2026, 10, 22, 12, 30)],
  ['across an hour', Date.UTC(2026, 10, 22, 13)],
  ['across a month', Date.UTC(2026, 11, 1)],
  ['across a year before 1970', Date.UTC(1960, 0, 1)],
] as const;

for (const [where, atMs] of boundaries) {
  for (const time of ['no time of its own', 'a time of its own'] as const) {
    for (const between of ['nothing', 'a restart', 'other events and a restart'] as const) {
      test(`a retry ${where}, with ${time} and ${between} in between, is dropped and the first copy stays`, () =>
        withRig({}, async (rig) => {
          const own = time === 'a time of its own' ? { timeMs: atMs - 5 * hourMs } : {};
          await rig.append([{ ...first, ...own, ingestMs: atMs - windowMs / 2 }]);
          let sink = await rig.startSink();
          await drain(sink, 1);
          let end = 1;
          if (between === 'other events and a restart') {
            await rig.append(
              Array.from({ length: 50 }, (_, i) => ({ id: `o${i}`, ingestMs: atMs - windowMs / 4 + i })),
            );
            end += 50;
            await drain(sink, end);
          }
          await rig.append([{ ...second, ...own, ingestMs: atMs + windowMs / 2 - 1 }]);
          end += 1;
          if (between !== 'nothing') sink = await rig.startSink();
          await drain(sink, end);
          const totals = await auditLedger(rig.store, rig.epoch, [end]);
          assert.deepEqual(totals, { rows: end - 1, duplicates: 1, parked: 0, holes: 0 });
          assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
        }));
    }
  }
}

test('copies in one range are one event, also where the range is cut at the month', () =>
  withRig({}, async (rig) => {
    const midnight = Date.UTC(2026, 11, 1);
    await rig.append([
      { ...first, ingestMs: midnight - 2 },
      { ...second, ingestMs: midnight - 1 },
      { ...second, ingestMs: midnight },
      { ...second, ingestMs: midnight + 1 },
    ]);
    await drain(await rig.startSink(), 4);
    assert.deepEqual(await auditLedger(rig.store, rig.epoch, [4]), {
      rows: 1,
      duplicates: 3,
      parked: 0,
      holes: 0,
    });
    assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
  }));

test('past the window a copy with a time of its own is still one event to reads, and the first copy wins', () =>
  withRig({}, async (rig) => {
    const atMs = Date.UTC(2026, 10, 30, 20);
    const timeMs = atMs - hourMs;
    // The last one even lies in another month, that is, in another part of the table.
    for (const [i, laterMs] of [0, windowMs + 1, 8 * hourMs].entries()) {
      await rig.append([{ id: 'x', body: `{"copy":${i + 1}}`, timeMs, ingestMs: atMs + laterMs }]);
      await drain(await rig.startSink(), i + 1);
    }
    const totals = await auditLedger(rig.store, rig.epoch, [3], false);
    assert.equal(totals.rows, 3);
    assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
    await rig.store.command('OPTIMIZE TABLE events FINAL');
    assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
  }));

test('past the window a copy without a time of its own is another event: the stated limit', () =>
  withRig({}, async (rig) => {
    const atMs = Date.UTC(2026, 10, 22, 12, 55);
    await rig.append([
      { ...first, ingestMs: atMs },
      { ...second, ingestMs: atMs + windowMs + 1 },
    ]);
    await drain(await rig.startSink(), 2);
    assert.equal((await bodiesOf(rig, 'x')).length, 2);
  }));

test('the same id of two sources is two events', () =>
  withRig({}, async (rig) => {
    const ingestMs = Date.UTC(2026, 10, 22, 12);
    await rig.append([
      { id: 'x', source: 'a', ingestMs },
      { id: 'x', source: 'b', ingestMs: ingestMs + 1 },
      { id: 'x', ingestMs: ingestMs + 2 },
      { id: 'x', source: 'a', ingestMs: ingestMs + 3 },
    ]);
    await drain(await rig.startSink(), 4);
    assert.deepEqual(
      (await eventsOf(rig.store, true)).map(({ source }) => source),
      ['a', 'b', ''],
    );
  }));

/** So many other events that a memory of 1,024 forgets what came before. */
const others = (count: number, ingestMs: number, name: string): TestEvent[] =>
  Array.from({ length: count }, (_, i) => ({ id: `${name}${i}`, ingestMs }));

for (const [where, hour] of [
  ['an hour', Date.UTC(2026, 10, 22, 13)],
  ['a month', Date.UTC(2026, 11, 1)],
] as const) {
  test(`a copy that the full memory has forgotten is found in the store across ${where}`, () =>
    withRig({ limits: { identitiesMax: 1024 } }, async (rig) => {
      await rig.append([{ ...first, ingestMs: hour - 2 }, ...others(3000, hour - 1, 'o')]);
      const sink = await rig.startSink();
      await drain(sink, 3001);
      await rig.append([
        { id: 'new', ingestMs: hour },
        { ...second, ingestMs: hour + 1 },
      ]);
      await drain(sink, 3003);
      assert.ok(rig.counters.get('identity_lookups') > 0);
      const totals = await auditLedger(rig.store, rig.epoch, [3003]);
      assert.deepEqual(totals, { rows: 3002, duplicates: 1, parked: 0, holes: 0 });
      assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
    }));
}

test('a copy in the very block of its first one is found although the memory is smaller than the block', () =>
  withRig({ limits: { identitiesMax: 1024 } }, async (rig) => {
    const hour = Date.UTC(2026, 10, 22, 13);
    await rig.append([
      { ...first, ingestMs: hour - 2 },
      ...others(3000, hour - 1, 'o'),
      { ...second, ingestMs: hour },
    ]);
    await drain(await rig.startSink(), 3002);
    assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
    await auditLedger(rig.store, rig.epoch, [3002]);
  }));

test('a copy that the full memory has forgotten, within the hour, is one event to reads', () =>
  withRig({ limits: { identitiesMax: 1024 } }, async (rig) => {
    const atMs = Date.UTC(2026, 10, 22, 12, 30);
    await rig.append([
      { ...first, ingestMs: atMs },
      ...others(3000, atMs + 1, 'o'),
      { ...second, ingestMs: atMs + 2 },
    ]);
    await drain(await rig.startSink(), 3002);
    await auditLedger(rig.store, rig.epoch, [3002], false);
    assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
  }));

test('after a restart with more recent events than the memory holds, a copy is found in the store', () =>
  withRig({ limits: { identitiesMax: 1024 } }, async (rig) => {
    const hour = Date.UTC(2026, 10, 22, 13);
    await rig.append([{ ...first, ingestMs: hour - 2 }, ...others(3000, hour - 1, 'o')]);
    await drain(await rig.startSink(), 3001);
    await rig.append([{ ...second, ingestMs: hour + 5 * minuteMs }]);
    await drain(await rig.startSink(), 3002);
    const totals = await auditLedger(rig.store, rig.epoch, [3002]);
    assert.deepEqual(totals, { rows: 3001, duplicates: 1, parked: 0, holes: 0 });
    assert.deepEqual(await bodiesOf(rig, 'x'), [first.body]);
  }));

// ---- over HTTP ---------------------------------------------------------------------------------------------------

const flags = {
  sinks: 1,
  producers: 2,
  readers: 1,
  partitions: 4,
  'sink-linger-ms': 5,
  'sink-inserts-per-second': 200,
};

test('a retry at once, at the same moment, many times in a batch or after a restart is one event', async () => {
  let ess = await EssProcess.start({ flags });
  try {
    const post = async (ess: EssProcess, body: string, query: string, type?: string): Promise<void> => {
      const response = await ess.post(body, query, type);
      assert.equal(response.status, 200, await response.text());
    };
    let copies = 0;
    for (const [name, time] of [
      ['plain', undefined],
      ['timed', '2026-03-01T10:00:00Z'],
    ]) {
      const event = (id: string) => JSON.stringify({ id: `${name}-${id}`, time, copy: ++copies });
      await post(ess, event('once-more'), '?ack=store');
      await post(ess, event('once-more'), '?ack=store');
      await post(ess, event('once-more'), '?ack=log');
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => post(ess, event('together'), i % 2 ? '?ack=store' : '')),
      );
      const lines = Array.from({ length: 300 }, () => event('batch')).join('\n');
      await post(ess, lines, '?ack=store', 'application/x-ndjson');
      await post(ess, lines, '?ack=log', 'application/x-ndjson');
      await post(ess, `[${lines.replaceAll('\n', ',')}]`, '?ack=log');
      await post(ess, event('restart'), '?ack=log');
    }
    await ess.drained();
    assert.equal(await ess.end('SIGTERM'), 0);
    ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
    for (const [name, time] of [
      ['plain', undefined],
      ['timed', '2026-03-01T10:00:00Z'],
    ]) {
      await post(ess, JSON.stringify({ id: `${name}-restart`, time }), '?ack=store');
      await post(ess, JSON.stringify({ id: `${name}-once-more`, time, source: 'another' }), '?ack=store');
    }
    const stats = await ess.drained();
    // Four names and one more source, each with and without a time.
    assert.equal(stats.conservation.stored, 10);
    assert.equal(stats.conservation.parked, 0);
    assert.equal(stats.conservation.accepted, stats.conservation.stored + stats.conservation.duplicates);
    assert.equal(stats.conservation.exact, true);
  } finally {
    await ess.dispose();
  }
});
