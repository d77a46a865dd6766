// The embedded driver: the contract, and what only lmdb has: threads and processes that share one log, kills, byte
// bounds and full disks.

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it, type TestContext } from 'node:test';
import { open } from 'lmdb';
import { type ErrorCode, EssError } from '../../src/errors.ts';
import { closeGate, makeGate } from '../../src/log/embedded/gate.ts';
import { databaseNames, metaKeys } from '../../src/log/embedded/layout.ts';
import {
  type EmbeddedLogOptions,
  openEmbeddedAppender,
  openEmbeddedConsumer,
  openEmbeddedReader,
} from '../../src/log/embedded/open.ts';
import { needsSmallDisk, SmallDisk } from '../support/small_disk.ts';
import { actorProcess, actorThread } from './actor.ts';
import { logContract, offsetOf, readIds, started } from './contract.ts';
import { until } from './eventually.ts';
import type { ActorReport } from './log_actor.worker.ts';
import { idsOf, packed } from './records.ts';

const MiB = 1024 * 1024;

function temporary(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'ess-log-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** Runs with options for a log in a folder that does not exist yet, and removes it afterwards. */
const withOptions =
  (run: (options: EmbeddedLogOptions, context: TestContext) => Promise<void>) =>
  async (context: TestContext) => {
    const { path, remove } = temporary();
    try {
      const options = {
        path: join(path, 'data', 'log.v1'),
        partitions: 4,
        bytesMax: 1024 * MiB,
        retentionMs: 0,
        retentionBytes: 0,
      };
      await run(options, context);
    } finally {
      remove();
    }
  };

const hasCode = (code: ErrorCode) => (error: unknown) => error instanceof EssError && error.code === code;

async function openAll(options: EmbeddedLogOptions) {
  const appender = await openEmbeddedAppender(options);
  const { consumer, positions } = await started(
    await openEmbeddedConsumer({ ...options, index: 0, count: 1 }),
  );
  const close = async () => {
    await consumer.close();
    await appender.close();
  };
  return { appender, consumer, positions, close };
}

/** Every id of every partition that is still held. */
async function allIds(options: EmbeddedLogOptions): Promise<string[][]> {
  const { consumer, close } = await openAll(options);
  const ids: string[][] = [];
  for (const [partition, { start, end }] of (await consumer.states()).entries()) {
    ids.push(await readIds(consumer, partition, start, end));
  }
  await close();
  return ids;
}

/**
 * Checks a log of actors that append `count` records to each partition in one call: every settled call is at the
 * offsets that were given, every call that is there at all is whole, and nothing is there twice.
 */
function checkCalls(
  ids: readonly string[][],
  reportsByName: ReadonlyMap<string, readonly ActorReport[]>,
  count: number,
): void {
  const partsOfCall = new Map<string, number>();
  for (const [partition, list] of ids.entries()) {
    assert.equal(new Set(list).size, list.length);
    for (const [offset, id] of list.entries()) {
      const [name, call, within, index] = id.split('/');
      assert.equal(Number(within), partition);
      assert.equal(list[offset - Number(index)], `${name}/${call}/${partition}/0`);
      const key = `${name}/${call}`;
      partsOfCall.set(key, (partsOfCall.get(key) ?? 0) + 1);
    }
  }
  for (const parts of partsOfCall.values()) assert.equal(parts, ids.length * count);
  for (const [name, reports] of reportsByName) {
    for (const report of reports) {
      if (report.type !== 'settled') continue;
      for (const [partition, result] of report.offsets.entries()) {
        const offset = offsetOf(result);
        for (let i = 0; i < count; i += 1) {
          assert.equal(ids[partition]?.[offset + i], `${name}/${report.call}/${partition}/${i}`);
        }
      }
    }
  }
}

logContract('embedded', async () => {
  const { path, remove } = temporary();
  const options = { path, partitions: 5, bytesMax: 1024 * MiB, retentionMs: 0, retentionBytes: 0 };
  const handles: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(handle: T): T => {
    handles.push(handle);
    return handle;
  };
  return {
    openAppender: async () => keep(await openEmbeddedAppender(options)),
    openConsumer: async () => keep(await openEmbeddedConsumer({ ...options, index: 0, count: 1, pollMs: 2 })),
    dispose: async () => {
      for (const handle of handles) await handle.close();
      remove();
    },
  };
});

describe('embedded log', () => {
  it(
    'keeps its epoch and its number of partitions, whatever it is opened with later',
    withOptions(async (options) => {
      const first = await openEmbeddedAppender(options);
      assert.match(first.epoch, /^[0-9a-f]{32}$/);
      await first.close();
      const again = await openEmbeddedReader({ ...options, partitions: 7 });
      assert.equal(again.epoch, first.epoch);
      assert.equal(again.partitions, 4);
      await again.close();
      const other = await openEmbeddedAppender({ ...options, path: join(options.path, 'other') });
      assert.notEqual(other.epoch, first.epoch);
      await other.close();
    }),
  );

  it(
    'refuses a log of a newer format, and a file that is no log',
    withOptions(async (options) => {
      await (await openEmbeddedAppender(options)).close();
      const root = open({ path: options.path, noSubdir: false, overlappingSync: false, maxDbs: 8 });
      const meta = root.openDB<Uint8Array, Uint8Array>({
        name: databaseNames.meta,
        encoding: 'binary',
        keyEncoding: 'binary',
      });
      meta.putSync(metaKeys.log, Buffer.from('{"format":2,"shards":[]}'));
      await root.close();
      await assert.rejects(openEmbeddedAppender(options), hasCode('format_unknown'));
      await assert.rejects(
        openEmbeddedConsumer({ ...options, index: 0, count: 1 }),
        hasCode('format_unknown'),
      );
      const path = join(options.path, 'no-log');
      mkdirSync(path);
      writeFileSync(join(path, 'data.mdb'), Buffer.alloc(100_000, 'no log at all'));
      await assert.rejects(openEmbeddedReader({ ...options, path }), hasCode('format_unknown'));
      rmSync(join(path, 'data.mdb'));
      mkdirSync(join(path, 'data.mdb'));
      await assert.rejects(openEmbeddedReader({ ...options, path }), hasCode('log_unavailable'));
    }),
  );

  it(
    'appends nothing of a call with one bad batch',
    withOptions(async (options) => {
      const { appender, consumer, close } = await openAll(options);
      const good = { partition: 0, count: 1, bytes: packed(['a'], 10) };
      const bad = [
        { ...good, count: 2 },
        { ...good, count: 0 },
        { ...good, partition: 4 },
        { ...good, bytes: good.bytes.subarray(0, 20) },
      ];
      for (const batch of bad) await assert.rejects(appender.append([good, batch]), hasCode('internal'));
      assert.deepEqual(
        (await consumer.states()).map(({ end }) => end),
        [0, 0, 0, 0],
      );
      await close();
      await assert.rejects(appender.append([good]), hasCode('stopping'));
    }),
  );

  it(
    'moves a position forwards and back, and not past the end',
    withOptions(async (options) => {
      const { appender, consumer, close } = await openAll(options);
      await appender.append([{ partition: 1, count: 3, bytes: packed(['a', 'b', 'c'], 10) }]);
      await consumer.commit(1, 2, 'two');
      const outcomes = await Promise.allSettled([
        consumer.commit(1, 1, 'back'),
        consumer.commit(1, 2, 'same'),
        consumer.commit(1, 4, 'beyond'),
        consumer.commit(1, 3, 'end'),
        consumer.commit(0, 1, 'nothing is there'),
      ]);
      assert.deepEqual(
        outcomes.map(({ status }) => status),
        ['fulfilled', 'fulfilled', 'rejected', 'fulfilled', 'rejected'],
      );
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected') assert.ok(hasCode('internal')(outcome.reason));
      }
      const reader = await openEmbeddedReader(options);
      assert.deepEqual(
        (await reader.states()).map(({ committed }) => committed),
        [0, 3, 0, 0],
      );
      await reader.close();
      await close();
    }),
  );

  it(
    'deals partitions out by index and wakes without polling',
    withOptions(async (options) => {
      const appender = await openEmbeddedAppender(options);
      const consumer = await openEmbeddedConsumer({ ...options, index: 1, count: 3, pollMs: 0 });
      const assigned: number[] = [];
      let arrivals = 0;
      consumer.wake();
      await consumer.start({
        assigned: (partition) => assigned.push(partition),
        revoked: () => {},
        changed: () => {},
        dataArrived: () => {
          arrivals += 1;
        },
      });
      assert.deepEqual(assigned, [1]);
      assert.equal(arrivals, 0);
      await appender.append([{ partition: 1, count: 1, bytes: packed(['a'], 10) }]);
      consumer.wake();
      assert.equal(arrivals, 1);
      await assert.rejects(consumer.commit(2, 0, ''), hasCode('internal'));
      await consumer.close();
      consumer.wake();
      assert.equal(arrivals, 1);
      await appender.close();
    }),
  );

  it(
    'reports a gap where a batch is missing or damaged, and never skips it',
    withOptions(async (options) => {
      const { appender, consumer, close } = await openAll(options);
      for (const id of ['a', 'b', 'c', 'd']) {
        await appender.append([{ partition: 0, count: 1, bytes: packed([id], 10) }]);
      }
      const root = open({ path: options.path, noSubdir: false, overlappingSync: false, maxDbs: 8 });
      const batches = root.openDB<Uint8Array, Uint8Array>({
        name: databaseNames.batches,
        encoding: 'binary',
        keyEncoding: 'binary',
      });
      const keys = [...batches.getKeys({})];
      const [, second, , fourth] = keys;
      assert.ok(second !== undefined && fourth !== undefined && keys.length === 4);
      batches.removeSync(second);
      batches.putSync(fourth, Buffer.from('x'));
      const visited: string[] = [];
      const visit = (_base: number, _count: number, bytes: Buffer) => visited.push(...idsOf(bytes));
      assert.throws(() => consumer.read(0, 0, 1000, visit), hasCode('internal'));
      assert.throws(() => consumer.read(0, 1, 1000, visit), hasCode('internal'));
      assert.deepEqual(visited, []);
      assert.throws(() => consumer.read(0, 2, 1000, visit), hasCode('internal'));
      assert.deepEqual(visited, ['c']);
      await root.close();
      await close();
    }),
  );

  it(
    'reads single records of more than the size up to which lmdb copies values',
    withOptions(async (options) => {
      const { appender, consumer, close } = await openAll(options);
      const huge = packed(['huge'], 20 * MiB);
      await appender.append([{ partition: 0, count: 1, bytes: huge }]);
      await appender.append([{ partition: 0, count: 1, bytes: packed(['small'], 10) }]);
      const visited: Buffer[] = [];
      let next = 0;
      while (next < 2) {
        next = consumer.read(0, next, 1, (_base, _count, bytes) => {
          visited.push(Buffer.from(bytes));
        });
      }
      assert.ok(visited[0]?.equals(huge));
      assert.deepEqual(idsOf(visited[1] ?? Buffer.alloc(0)), ['small']);
      await close();
    }),
  );

  it(
    'refuses at its byte bound, and takes events again once they are consumed',
    withOptions(async (options) => {
      const bytesMax = 2 * MiB;
      // Retention would keep everything: the bound goes first.
      const bounds = { bytesMax, retentionMs: 1e12, retentionBytes: 1e12 };
      const { appender, consumer, close } = await openAll({ ...options, ...bounds });
      const batch = {
        partition: 0,
        count: 100,
        bytes: packed(
          Array.from({ length: 100 }, (_, i) => `${i}`),
          400,
        ),
      };
      const fill = async () => {
        for (;;) await appender.append([batch, { ...batch, partition: 2 }]);
      };
      await assert.rejects(fill(), hasCode('log_unavailable'));
      const full = await appender.states();
      assert.equal(full[0]?.end, full[2]?.end);
      const held = full.reduce((sum, { bytes }) => sum + bytes, 0);
      assert.ok(held <= bytesMax && held > bytesMax / 2);
      await assert.rejects(appender.append([batch]), hasCode('log_unavailable'));
      await appender.append([{ partition: 0, count: 1, bytes: packed(['fits'], 10) }]);
      await consumer.commit(0, 200, '');
      assert.equal(await appender.trim(), 0);
      await appender.append([batch]);
      const states = await appender.states();
      assert.ok((states[0]?.start ?? 0) > 0 && (states[0]?.start ?? 0) <= 200);
      assert.equal(states[2]?.start, 0);
      await close();
    }),
  );

  it(
    'trims by age and by size, oldest first over all partitions',
    withOptions(async (options) => {
      const bytes = packed(['a'], 1000);
      const kept = { ...options, retentionMs: 1e12, retentionBytes: 12_000 };
      const { appender, consumer, close } = await openAll(kept);
      for (let i = 0; i < 10; i += 1) {
        await appender.append([{ partition: i % 2, count: 1, bytes }]);
        // Batches of one millisecond have no order among partitions.
        const before = Date.now();
        await until(() => Date.now() > before);
      }
      assert.equal(await appender.trim(), 0);
      await consumer.commit(0, 5, '');
      await consumer.commit(1, 4, '');
      assert.equal(await appender.trim(), 0);
      await close();
      const smaller = await openAll({ ...kept, retentionBytes: 6000 });
      assert.ok((await smaller.appender.trim()) > 0);
      const starts = (await smaller.appender.states()).map(({ start }) => start);
      const [zero = Number.NaN, one = Number.NaN] = starts;
      assert.ok(zero - one === 0 || zero - one === 1);
      assert.ok(zero > 0 && zero < 5);
      await smaller.close();
      const aged = await openAll({ ...kept, retentionMs: 0 });
      assert.ok((await aged.appender.trim()) > 0);
      assert.deepEqual(
        (await aged.appender.states()).slice(0, 2).map(({ start, bytes: held }) => [start, held > 0]),
        [
          [5, false],
          [4, true],
        ],
      );
      await aged.close();
    }),
  );

  it(
    'does not let the file grow when much more than the retention passes through',
    withOptions(async (options) => {
      const retentionBytes = 2 * MiB;
      const { appender, consumer, close } = await openAll({ ...options, retentionMs: 1e12, retentionBytes });
      const file = join(options.path, 'data.mdb');
      let size = 0;
      let passed = 0;
      for (let call = 0; passed < 20 * retentionBytes; call += 1) {
        // Sizes vary, so that free space comes in pieces of all sizes.
        const count = 1 + ((call * 37) % 120);
        const bytes = packed(
          Array.from({ length: count }, (_, i) => `${i}`),
          250,
        );
        await appender.append([0, 1, 2, 3].map((partition) => ({ partition, count, bytes })));
        passed += 4 * bytes.length;
        if (call % 4 === 0) {
          const states = await consumer.states();
          await Promise.all(states.map(({ end }, partition) => consumer.commit(partition, end, 'all')));
          while ((await appender.trim()) > 0);
        }
        if (passed < 4 * retentionBytes) size = statSync(file).size;
      }
      assert.ok(statSync(file).size <= Math.max(1.5 * size, 4 * retentionBytes));
      const states = await consumer.states();
      assert.ok(states.reduce((sum, { bytes }) => sum + bytes, 0) <= 2 * retentionBytes);
      for (const [partition, { start, end }] of states.entries()) {
        await readIds(consumer, partition, start, end);
      }
      await close();
    }),
  );

  it(
    'is shared by threads: two append while this one reads',
    withOptions(async (options) => {
      const calls = 100;
      const count = 5;
      const task = { type: 'append', options, calls, count, bodyBytes: 100 } as const;
      const names = ['one', 'two'];
      const actors = names.map((name) => actorThread({ ...task, name }));
      const { consumer, close } = await openAll(options);
      const ids: string[][] = [[], [], [], []];
      const end = names.length * calls * count;
      await until(() => {
        for (const [partition, list] of ids.entries()) {
          consumer.read(partition, list.length, 10_000, (_base, _count, bytes) => {
            list.push(...idsOf(bytes));
          });
        }
        return ids.every((list) => list.length === end);
      });
      await Promise.all(actors.map(({ ended }) => ended));
      checkCalls(ids, new Map(names.map((name, i) => [name, actors[i]?.reports ?? []])), count);
      await close();
    }),
  );

  it(
    'lets threads be terminated at any moment once its gate is closed',
    withOptions(async (options) => {
      // Invariant: what was settled is there, and nobody waits for a lock of a thread that is gone.
      const reportsByName = new Map<string, ActorReport[]>();
      const count = 3;
      for (let round = 0; round < 3; round += 1) {
        const gate = makeGate();
        const task = { type: 'append', calls: 1e9, count, bodyBytes: 100 } as const;
        const actors = ['a', 'b', 'c'].map((letter) => {
          const name = `${letter}${round}`;
          const actor = actorThread({ ...task, name, options: { ...options, gate } });
          reportsByName.set(name, actor.reports);
          return actor;
        });
        await until(() => actors.every(({ reports }) => reports.length > 10));
        assert.equal(await closeGate(gate, 30_000), true);
        await Promise.all(actors.map(({ worker }) => worker.terminate()));
        await assert.rejects(openEmbeddedAppender({ ...options, gate }), hasCode('stopping'));
        checkCalls(await allIds(options), reportsByName, count);
      }
    }),
  );

  it(
    'keeps every settled append, whole, through kill -9 of processes that append',
    withOptions(async (options) => {
      // Invariant: what was reported as settled is there at its offsets, and no call is there in part.
      const count = 3;
      const reportsByName = new Map<string, ActorReport[]>();
      for (let round = 0; round < 4; round += 1) {
        const actors = ['a', 'b'].map((letter) => {
          const name = `${letter}${round}`;
          const actor = actorProcess({
            type: 'append',
            options,
            name,
            calls: 1e9,
            count,
            bodyBytes: 3000 * round,
          });
          reportsByName.set(name, actor.reports);
          return actor;
        });
        const patience = 20 + Math.floor(Math.random() * 40);
        await until(() => actors.every(({ reports }) => reports.length >= patience));
        for (const { child } of actors) child.kill('SIGKILL');
        for (const { ended } of actors) assert.equal((await ended).signal, 'SIGKILL');
        checkCalls(await allIds(options), reportsByName, count);
      }
    }),
  );

  it(
    'has all of an append whose process died after the commit, and nothing of one that died before',
    withOptions(async (options) => {
      // Invariant: the moment of durability is the commit, not the answer.
      const reportsByName = new Map<string, ActorReport[]>();
      const deaths = [
        { name: 'before', fault: 'log.append.written:3', calls: 2 },
        { name: 'after', fault: 'log.append.durable:3', calls: 3 },
      ];
      for (const { name, fault, calls } of deaths) {
        const actor = actorProcess(
          { type: 'append', options, name, calls: 10, count: 2, bodyBytes: 5000 },
          { env: { ESS_FAULT: fault } },
        );
        reportsByName.set(name, actor.reports);
        assert.equal((await actor.ended).signal, 'SIGKILL');
        assert.equal(actor.reports.length, 2);
        const ids = await allIds(options);
        checkCalls(ids, reportsByName, 2);
        assert.equal(ids[0]?.filter((id) => id.startsWith(`${name}/`)).length, calls * 2);
      }
    }),
  );

  it(
    'is shared by two processes: one appends from two threads and trims, the other consumes and commits',
    withOptions(async (options) => {
      const calls = 150;
      const count = 8;
      const names = ['main', 'thread'];
      const records = names.length * calls * count * options.partitions;
      // The other process starts with a small map, which has to grow while it runs.
      const consumer = actorProcess({ type: 'consume', options: { ...options, bytesMax: MiB }, records });
      const task = { type: 'append', options, calls, count, bodyBytes: 3000 } as const;
      const thread = actorThread({ ...task, name: 'thread' });
      const appender = await openEmbeddedAppender(options);
      let freed = 0;
      for (let call = 0; call < calls; call += 1) {
        await appender.append(
          [0, 1, 2, 3].map((partition) => ({
            partition,
            count,
            bytes: packed(
              Array.from({ length: count }, (_, i) => `main/${call}/${partition}/${i}`),
              3000,
            ),
          })),
        );
        if (call > calls / 2) freed += await appender.trim();
        await new Promise(setImmediate);
      }
      await thread.ended;
      assert.equal(thread.reports.length, calls + 1);
      assert.equal((await consumer.ended).code, 0);
      const expected = names.flatMap((name) =>
        [0, 1, 2, 3].map((partition) => [`${name}/${partition}`, calls * count]),
      );
      const consumed = consumer.reports.find((report) => report.type === 'consumed');
      assert.deepEqual(consumed?.counts, Object.fromEntries(expected));
      for (let more = 1; more > 0; freed += more) more = await appender.trim();
      assert.ok(freed > 0);
      for (const { start, end, committed, bytes } of await appender.states()) {
        assert.deepEqual({ start, committed, bytes }, { start: end, committed: end, bytes: 0 });
      }
      await appender.close();
    }),
  );

  it(
    'does not keep free space from reuse for a reader that was killed',
    withOptions(async (options) => {
      const { appender, consumer, close } = await openAll(options);
      const actor = actorProcess({ type: 'hold', options });
      await until(() => actor.reports.length === 1);
      actor.child.kill('SIGKILL');
      assert.equal((await actor.ended).signal, 'SIGKILL');
      const bytes = packed(['a'], 100_000);
      const file = join(options.path, 'data.mdb');
      for (let i = 1; i < 200; i += 1) {
        await appender.append([{ partition: 0, count: 1, bytes }]);
        await consumer.commit(0, i, '');
        await appender.trim();
      }
      assert.ok(statSync(file).size < 40 * bytes.length);
      await close();
    }),
  );

  it(
    'answers log_unavailable when the file may not grow, and goes on in the space that trimming frees',
    withOptions(async (options, context) => {
      if (process.platform === 'win32') return context.skip('no limit of file sizes here');
      const actor = actorProcess({ type: 'fill', options }, { shellPrefix: 'ulimit -f 8192' });
      assert.equal((await actor.ended).code, 0);
      const [filled] = actor.reports;
      assert.ok(filled?.type === 'filled');
      assert.equal(filled.code, 'log_unavailable');
      assert.ok(filled.isUnchanged && filled.settledAfter > 0);
    }),
  );

  it(
    'answers log_unavailable on a full disk, appends nothing, and works again once there is space',
    needsSmallDisk(),
    withOptions(async (options) => {
      mkdirSync(options.path, { recursive: true });
      const disk = new SmallDisk(options.path, 12);
      try {
        const { appender, consumer, close } = await openAll(options);
        const ballast = join(options.path, 'ballast');
        writeFileSync(ballast, Buffer.alloc(4 * MiB));
        let settled = 0;
        const fill = async () => {
          for (;;) {
            const bytes = packed([`${settled}`, `${settled}`, `${settled}`], 9000);
            const batches = [0, 1].map((partition) => ({ partition, count: 3, bytes }));
            assert.deepEqual(await appender.append(batches), [3 * settled, 3 * settled]);
            settled += 1;
          }
        };
        await assert.rejects(fill(), hasCode('log_unavailable'));
        await assert.rejects(fill(), hasCode('log_unavailable'));
        assert.ok(settled > 10);
        const ends = (await consumer.states()).map(({ end }) => end);
        assert.deepEqual(ends, [3 * settled, 3 * settled, 0, 0]);
        const full = settled;
        rmSync(ballast);
        await assert.rejects(fill(), hasCode('log_unavailable'));
        assert.ok(settled > full + 10);
        const ids = await readIds(consumer, 1, 0, 3 * settled);
        assert.deepEqual(
          ids,
          Array.from({ length: 3 * settled }, (_, i) => `${Math.floor(i / 3)}`),
        );
        await close();
      } finally {
        disk.unmount();
      }
    }),
  );
});
