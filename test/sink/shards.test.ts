// Partitions whose shard changes when shards are added, against a real log and a database for each shard. Invariant: over
// all shards the ledger covers the log once, and an event is one row on one of them, whatever the sink before was doing.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { readShardTotals } from '../../src/sink/totals.ts';
import { openStore } from '../../src/store/client.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { type LayoutVersion, recordLayouts } from '../../src/store/shard_layout.ts';
import { type Store, StoreError } from '../../src/store/store.ts';
import { between, pick, seededRandom, testSeed } from '../crash/random.ts';
import { until } from '../log/eventually.ts';
import { ClickHouseNode } from '../support/clickhouse_node.ts';
import { auditLedger, eventsOf, ledgerOf } from './audit.ts';
import { drain, type Insert, Rig, type RigOptions, type TestEvent } from './rig.ts';

const noon = Date.UTC(2026, 10, 22, 12);
const minuteMs = 60_000;
/** A partition that goes from shard 0 to shard 2 when 2 shards become 3, and one that stays on shard 0. */
const moving = 2;
const staying = 0;

/** Events e<from>..e<from+count-1>, one millisecond apart. */
function events(count: number, from = 0, more: Partial<TestEvent> = {}): TestEvent[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `e${from + i}`,
    ingestMs: noon + from + i,
    ...more,
  }));
}

const isEvents = (insert: Insert): boolean => insert.table === 'events';
const unknown = () => new StoreError(0, 'unknown', 'the connection broke');

/** Records a number of shards on these stores, given by their numbers. */
async function record(
  stores: readonly Store[],
  counts: readonly number[],
  on = stores.keys(),
): Promise<void> {
  for (const shard of on) {
    const versions = counts.map(
      (shards, i): LayoutVersion => ({ version: i + 1, shards, shard, recordedMs: noon }),
    );
    const store = stores[shard];
    assert.ok(store !== undefined);
    await recordLayouts(store, versions);
  }
}

describe('partitions whose shard changes', () => {
  let node: ClickHouseNode;
  let databases = 0;
  before(async () => {
    node = await ClickHouseNode.start();
  });
  after(() => node.dispose());

  /** Runs with a rig on so many databases, of which the first two are the shards. */
  async function withShards(
    count: number,
    options: RigOptions,
    run: (rig: Rig, grow: (shards: number) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    const stores: Store[] = [];
    for (let shard = 0; shard < count; shard += 1) {
      databases += 1;
      const [plain] = node.targets();
      const [target] = node.targets(`d${databases}`);
      assert.ok(plain !== undefined && target !== undefined);
      const root = await openStore(plain);
      await root.command(`CREATE DATABASE d${databases}`);
      await root.close();
      const store = await openStore(target);
      await ensureSchema(store);
      // Or two copies of a row could become one before they are counted.
      await store.command('SYSTEM STOP MERGES events');
      stores.push(store);
    }
    await record(stores, [2], [0, 1].values());
    const rig = await Rig.open({ partitions: 12, ...options, stores });
    rig.shards = 2;
    const counts = [2];
    const grow = async (shards: number): Promise<void> => {
      counts.push(shards);
      await record(stores, counts, Array.from({ length: shards }, (_, shard) => shard).values());
      rig.shards = shards;
    };
    try {
      await run(rig, grow);
    } finally {
      await rig.close();
    }
  }

  const storeOf = (rig: Rig, shard: number): Store => {
    const store = rig.stores[shard];
    assert.ok(store !== undefined);
    return store;
  };
  const idsOn = async (rig: Rig, shard: number): Promise<string[]> =>
    (await eventsOf(storeOf(rig, shard), false)).map(({ id }) => id);
  const drained = async (rig: Rig, partition: number): Promise<void> => {
    const sink = await rig.startSink(partition);
    assert.ok(sink.isOpen, rig.condition(partition) ?? '');
    await drain(sink, (await rig.ends())[partition] ?? 0);
  };
  const idsOf = (some: readonly TestEvent[]): string[] => some.map(({ id }) => id);

  test('a partition goes on from the ledger of the shard before, and what is new goes to the other one', () =>
    withShards(3, {}, async (rig, grow) => {
      await rig.append(events(10), moving);
      await rig.append(events(5, 100), staying);
      await drained(rig, moving);
      await drained(rig, staying);
      await grow(3);
      await rig.append(events(7, 10), moving);
      await rig.append(events(2, 105), staying);
      await drained(rig, moving);
      await drained(rig, staying);
      assert.deepEqual(await idsOn(rig, 2), idsOf(events(7, 10)));
      assert.deepEqual(await idsOn(rig, 0), idsOf([...events(7, 100), ...events(10)]));
      assert.equal(rig.board.get(moving, 'rows'), 17);
      assert.equal(rig.board.get(moving, 'ledger'), 17);
      await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3]);
      // The main thread's figures are the same.
      const totals = new Map<number, number>();
      for (const shard of [0, 1, 2])
        await readShardTotals(
          rig.stores,
          shard,
          rig.epoch,
          [staying, moving],
          (partition, { rows, covered, next }) => {
            assert.equal(covered, next);
            totals.set(partition, rows);
          },
        );
      assert.deepEqual([totals.get(staying), totals.get(moving)], [7, 17]);
    }));

  test('a retry across the change stays one event, with and without a time, and beyond what a sink can hold', () =>
    withShards(3, { limits: { identitiesMax: 1024 } }, async (rig, grow) => {
      // More than the sink's set holds (1,024), so that of the first ones only the store can tell.
      const timed = events(1500).map((event) => ({ ...event, timeMs: noon - event.ingestMs + noon }));
      const untimed = events(1500, 1500);
      await rig.append(timed, moving);
      await rig.append(untimed, moving);
      await drained(rig, moving);
      await grow(3);
      const again = (some: readonly TestEvent[]): TestEvent[] =>
        some.map((event) => ({ ...event, ingestMs: event.ingestMs + 5 * minuteMs }));
      await rig.append(again([...timed.slice(0, 20), ...timed.slice(-20)]), moving);
      await rig.append(again([...untimed.slice(0, 20), ...untimed.slice(-20)]), moving);
      await rig.append(events(3, 9000, { ingestMs: noon + 6 * minuteMs }), moving);
      await drained(rig, moving);
      assert.deepEqual(await idsOn(rig, 2), ['e9000', 'e9001', 'e9002']);
      const totals = await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3]);
      assert.deepEqual([totals.rows, totals.duplicates], [3003, 80]);
    }));

  test('a block that landed without its ledger row is completed where it landed', async () => {
    let isCut = true;
    const options: RigOptions = {
      afterInsert: (insert) => {
        if (isCut && isEvents(insert)) throw unknown();
      },
    };
    await withShards(3, options, async (rig, grow) => {
      await rig.append(events(10), moving);
      const sink = await rig.startSink(moving);
      sink.read(1024 * 1024);
      const storing = sink.store();
      await until(() => rig.inserts.length > 0);
      sink.stop();
      await storing;
      isCut = false;
      rig.inserts.length = 0;
      await grow(3);
      await rig.append(events(5, 10), moving);
      await drained(rig, moving);
      assert.deepEqual(
        rig.inserts.map(({ table, shard }) => `${table} ${shard}`),
        ['ledger 0', 'events 2', 'ledger 2'],
      );
      await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3]);
    });
  });

  for (const table of ['events', 'ledger']) {
    test(`what a sink sent to ${table} before it died may land after the next one has gone on elsewhere`, async () => {
      let release = (): void => {};
      const held = new Promise<void>((resolve) => {
        release = resolve;
      });
      let isHeld = true;
      const options: RigOptions = {
        beforeInsert: async (insert) => {
          if (!isHeld || insert.table !== table) return;
          isHeld = false;
          await held;
        },
      };
      await withShards(3, options, async (rig, grow) => {
        await rig.append(events(10), moving);
        const late = await rig.startSink(moving);
        late.read(1024 * 1024);
        const storing = late.store();
        await until(() => !isHeld);
        late.revoke();
        try {
          await grow(3);
          await rig.append(events(5, 10), moving);
          await drained(rig, moving);
        } finally {
          release();
        }
        await storing;
        assert.deepEqual(await idsOn(rig, 0), idsOf(events(10)));
        assert.deepEqual(await idsOn(rig, 2), idsOf(events(5, 10)));
        await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3]);
      });
    });
  }

  test('a sink that counts other shards than are recorded takes nothing and says why', () =>
    withShards(3, {}, async (rig, grow) => {
      await rig.append(events(10), moving);
      await drained(rig, moving);
      const refused = async (partition: number, why: RegExp): Promise<void> => {
        rig.messages.length = 0;
        const { sink, started } = await rig.beginSink(partition);
        try {
          await until(() => rig.condition(partition) !== null);
          assert.match(rig.condition(partition) ?? '', why);
          assert.ok(!sink.isOpen);
        } finally {
          sink.stop();
          await started;
        }
      };
      rig.shards = 3;
      await refused(moving, /no shard.*shard 2 of 3.*ess init/);
      // A recording that was cut off: the new shard and one of the others know of it.
      await record(rig.stores, [2, 3], [1, 2].values());
      await refused(moving, /shard 0 of 2.*shard 0 of 3.*ess init --apply/);
      await grow(3);
      rig.shards = 2;
      await refused(moving, /shard 0 of 3.*shard 0 of 2.*all 3 shards/);
      rig.shards = 3;
      await drained(rig, moving);
      await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3]);
    }));

  test('a former shard that is away holds up what was there, and nothing else', () =>
    withShards(3, {}, async (rig, grow) => {
      // Partition 3 goes from shard 1 to shard 0.
      for (const partition of [staying, 3]) {
        await rig.append(events(4), partition);
        await drained(rig, partition);
      }
      await grow(3);
      await storeOf(rig, 1).command('RENAME TABLE ledger TO away');
      await rig.append(events(4, 4), staying);
      await drained(rig, staying);
      const { sink, started } = await rig.beginSink(3);
      await until(() => rig.condition(3) !== null);
      assert.ok(!sink.isOpen);
      const told: number[] = [];
      await assert.rejects(
        readShardTotals(rig.stores, 0, rig.epoch, [staying, 3], (partition) => told.push(partition)),
        StoreError,
      );
      assert.deepEqual(told, [staying]);
      await storeOf(rig, 1).command('RENAME TABLE away TO ledger');
      await started;
      assert.ok(sink.isOpen);
      await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3]);
    }));

  test('whatever sinks die of while shards are added, every event is stored once', async () => {
    const random = seededRandom(testSeed());
    /** What becomes of the next inserts. */
    let fates: ('well' | 'refused' | 'lost' | 'late')[] = [];
    const late: (() => void)[] = [];
    const fateOf = new Map<Insert, string>();
    const options: RigOptions = {
      limits: { sinkBatchRowsMax: 20, identitiesMax: 1024 },
      beforeInsert: async (insert) => {
        const fate = fates.shift() ?? 'well';
        fateOf.set(insert, fate);
        if (fate === 'refused') throw new StoreError(241, 'refused', 'too much memory');
        if (fate === 'late') await new Promise<void>((resolve) => late.push(resolve));
      },
      afterInsert: (insert) => {
        if (fateOf.get(insert) === 'lost') throw unknown();
      },
    };
    await withShards(5, options, async (rig, grow) => {
      const partitions = [2, 3, 4, 11];
      const sent: TestEvent[] = [];
      const unsettled: Promise<void>[] = [];
      let nowMs = noon;
      let shards = 2;
      for (let round = 0; round < 24; round += 1) {
        const partition = pick(random, partitions) ?? 2;
        const batch: TestEvent[] = [];
        for (let i = between(random, 5, 60); i > 0; i -= 1) {
          nowMs += 10;
          // A retry has the partition of its first copy.
          const old = sent.filter(({ id }) => id.startsWith(`p${partition}-`));
          const retried = random() < 0.3 ? pick(random, old) : undefined;
          const id = retried?.id ?? `p${partition}-${sent.length}`;
          const timeMs = retried === undefined ? (random() < 0.5 ? nowMs : undefined) : retried.timeMs;
          const event = { id, ingestMs: nowMs, ...(timeMs === undefined ? {} : { timeMs }) };
          if (retried === undefined) sent.push(event);
          batch.push(event);
        }
        await rig.append(batch, partition);
        fates = Array.from({ length: between(random, 0, 3) }, () => 'well' as const);
        fates.push(pick(random, ['well', 'refused', 'lost', 'late'] as const) ?? 'well');
        const asked = rig.inserts.length + fates.length;
        const sink = await rig.startSink(partition);
        const end = (await rig.ends())[partition] ?? 0;
        const working = drain(sink, end);
        let isOver = false;
        unsettled.push(working.finally(() => (isOver = true)).then(() => {}));
        await until(() => isOver || rig.inserts.length >= asked);
        sink.revoke();
        // Late ones land in the middle of what comes after, or at the end.
        if (random() < 0.4) late.shift()?.();
        if (shards < 5 && random() < 0.25) {
          shards += 1;
          await grow(shards);
        }
      }
      while (shards < 5) {
        shards += 1;
        await grow(shards);
      }
      fates = [];
      try {
        for (const partition of partitions) await drained(rig, partition);
      } finally {
        for (const resolve of late.splice(0)) resolve();
      }
      await Promise.all(unsettled);
      const totals = await auditLedger(rig.stores, rig.epoch, await rig.ends(), true, [], [2, 3, 4, 5]);
      const stored = (await Promise.all(rig.stores.map((_, shard) => idsOn(rig, shard)))).flat();
      assert.deepEqual(stored.sort(), idsOf(sent).sort());
      assert.equal(totals.rows, sent.length);
      const ledgers = await Promise.all(rig.stores.map((store) => ledgerOf(store, rig.epoch)));
      assert.ok(ledgers.filter(({ length }) => length > 0).length > 2, 'several shards were in use');
    });
  });
});
