// The fetch loop against a leader that is made up: it answers with real record batches, and with faults.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../../src/errors.ts';
import { RecordCursor, recordFlags } from '../../../src/event/record.ts';
import { extentOf, FetchedBatches } from '../../../src/log/kafka/fetched.ts';
import { type FetchClient, Fetcher } from '../../../src/log/kafka/fetcher.ts';
import { KafkaError } from '../../../src/log/kafka/kafka_error.ts';
import { BatchPacker } from '../../../src/log/kafka/packer.ts';
import type { TopicView } from '../../../src/log/kafka/topic_view.ts';
import { encodeBatch, encodePlainBatch } from '../../../src/log/kafka/wire/batch_encoder.ts';
import type { WireCall } from '../../../src/log/kafka/wire/call.ts';
import { crc32c } from '../../../src/log/kafka/wire/crc32c.ts';
import { kafkaErrors } from '../../../src/log/kafka/wire/errors.ts';
import type { FetchedPartition } from '../../../src/log/kafka/wire/fetch.ts';
import { attributeBits, batchAt } from '../../../src/log/kafka/wire/record_batch.ts';
import { RequestWriter } from '../../../src/log/kafka/wire/request_writer.ts';
import { ResponseReader } from '../../../src/log/kafka/wire/response_reader.ts';
import { until } from '../eventually.ts';
import { packed } from '../records.ts';

const epoch = 'f'.repeat(32);
const limits = { eventBytesMax: 1_000_000, eventDepthMax: 64 };
const fetchKey = 1;

interface BatchSettings {
  readonly base: number;
  readonly producerId?: number;
  readonly attributes?: number;
  /** Last offset less the base; default: what the records say. */
  readonly lastOffsetDelta?: number;
}

/** Sets the header's fields and the checksum. */
function sealed(
  batch: Buffer,
  { base, producerId = -1, attributes = 0, lastOffsetDelta }: BatchSettings,
): Buffer {
  batch.writeBigInt64BE(BigInt(base), batchAt.baseOffset);
  batch.writeBigInt64BE(BigInt(producerId), batchAt.producerId);
  batch.writeInt16BE(attributes, batchAt.attributes);
  if (lastOffsetDelta !== undefined) batch.writeInt32BE(lastOffsetDelta, batchAt.lastOffsetDelta);
  batch.writeUInt32BE(crc32c(batch, batchAt.attributes, batch.length), batchAt.crc);
  return batch;
}

function batchOf(ids: readonly string[], settings: BatchSettings, bodyBytes = 20): Buffer {
  return sealed(encodeBatch(packed(ids, bodyBytes), ids.length, 'none'), settings);
}

const transactional = (base: number, producerId: number): BatchSettings => ({
  base,
  producerId,
  attributes: attributeBits.isTransactional,
});

function marker(base: number, producerId: number, type: 'abort' | 'commit'): Buffer {
  const key = Buffer.from([0, 0, 0, type === 'commit' ? 1 : 0]);
  const batch = encodePlainBatch([{ key, value: Buffer.alloc(6), timestampMs: 0, headers: [] }]);
  return sealed(batch, {
    base,
    producerId,
    attributes: attributeBits.isTransactional | attributeBits.isControl,
  });
}

function answerOf(records: Buffer, aborted: FetchedPartition['aborted'] = []): FetchedPartition {
  return {
    partition: 0,
    errorCode: 0,
    highWatermark: 0,
    lastStableOffset: 0,
    logStartOffset: 0,
    aborted,
    records,
  };
}

interface Visited {
  /** By offset. */
  readonly ids: Map<number, string>;
  readonly flags: Map<number, number>;
  readonly types: Map<number, string>;
}

function visitor(visited: Visited): (base: number, count: number, bytes: Buffer) => void {
  return (base, count, bytes) => {
    const cursor = new RecordCursor();
    cursor.open(bytes);
    let offset = base;
    while (cursor.next()) {
      assert.equal(visited.ids.has(offset), false, `offset ${offset} came twice`);
      visited.ids.set(offset, bytes.toString('utf8', cursor.idStart, cursor.typeStart));
      visited.types.set(offset, bytes.toString('utf8', cursor.typeStart, cursor.sourceStart));
      visited.flags.set(offset, cursor.flags);
      offset += 1;
    }
    assert.equal(offset - base, count);
  };
}

const nothing = (): Visited => ({ ids: new Map(), flags: new Map(), types: new Map() });

/** Reads a whole answer from an offset on; gives what was visited and where it ended. */
function readAll(
  records: Buffer,
  from: number,
  aborted: FetchedPartition['aborted'] = [],
): Visited & { next: number } {
  const visited = nothing();
  const fetched = new FetchedBatches(
    answerOf(records, aborted),
    extentOf(records),
    new BatchPacker(epoch, limits),
  );
  let next = from;
  while (fetched.bytesLeft > 0) next = fetched.readBatch(next, visitor(visited));
  return { ...visited, next };
}

describe('fetched batches', () => {
  it('give records as they were packed, from the asked offset on', () => {
    const bytes = packed(['a', 'b', 'c', 'd'], 30);
    const records = sealed(encodeBatch(bytes, 4, 'gzip'), { base: 100, attributes: 1 });
    const given: Buffer[] = [];
    const fetched = new FetchedBatches(answerOf(records), extentOf(records), new BatchPacker(epoch, limits));
    assert.equal(
      fetched.readBatch(100, (_base, _count, run) => given.push(Buffer.from(run))),
      104,
    );
    assert.ok(Buffer.concat(given).equals(bytes));
    const { ids, next } = readAll(records, 102);
    assert.deepEqual(
      [...ids],
      [
        [102, 'c'],
        [103, 'd'],
      ],
    );
    assert.equal(next, 104);
  });

  it('are only the whole ones', () => {
    const one = batchOf(['a', 'b'], { base: 5 });
    const two = batchOf(['c'], { base: 7 });
    for (let cut = 0; cut <= two.length; cut += 1) {
      const { bytes, next } = extentOf(Buffer.concat([one, two.subarray(0, cut)]));
      assert.deepEqual(
        { bytes, next },
        cut < two.length ? { bytes: one.length, next: 7 } : { bytes: one.length + cut, next: 8 },
      );
    }
  });

  it('leave out the offsets of records that were compacted away, and go past them', () => {
    const emptied = sealed(encodeBatch(packed(['x'], 0), 1, 'none').subarray(0, batchAt.records), {
      base: 12,
      lastOffsetDelta: 5,
    });
    emptied.writeInt32BE(emptied.length - 12, batchAt.length);
    emptied.writeInt32BE(0, batchAt.count);
    sealed(emptied, { base: 12, lastOffsetDelta: 5 });
    const records = Buffer.concat([batchOf(['a', 'b'], { base: 10, lastOffsetDelta: 1 }), emptied]);
    const { ids, next } = readAll(records, 10);
    assert.deepEqual(
      [...ids],
      [
        [10, 'a'],
        [11, 'b'],
      ],
    );
    assert.equal(next, 18);
  });

  it('leave out markers and what was aborted, and nothing else', () => {
    const records = Buffer.concat([
      batchOf(['a1', 'a2'], transactional(0, 7)),
      batchOf(['b1'], transactional(2, 8)),
      batchOf(['c1'], { base: 3 }),
      marker(4, 7, 'abort'),
      batchOf(['a3'], transactional(5, 7)),
      marker(6, 8, 'commit'),
      marker(7, 7, 'commit'),
      batchOf(['a4'], transactional(8, 7)),
      marker(9, 7, 'abort'),
    ]);
    const { ids, next } = readAll(records, 0, [
      { producerId: 7n, firstOffset: 8 },
      { producerId: 7n, firstOffset: 0 },
    ]);
    assert.deepEqual(
      [...ids],
      [
        [2, 'b1'],
        [3, 'c1'],
        [5, 'a3'],
      ],
    );
    assert.equal(next, 10);
  });

  it('that cannot be read are one broken record at their first offset, and hide nothing', () => {
    const damaged = batchOf(['x', 'y', 'z'], { base: 2 });
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    const unknown = batchOf(['x', 'y'], { base: 5, attributes: 7 });
    const records = Buffer.concat([
      batchOf(['a', 'b'], { base: 0 }),
      damaged,
      unknown,
      batchOf(['c'], { base: 7 }),
    ]);
    const { ids, types, flags, next } = readAll(records, 0);
    assert.deepEqual([...ids.keys()], [0, 1, 2, 5, 7]);
    assert.equal(types.get(2), 'crc_mismatch');
    assert.equal(types.get(5), 'unknown_compression');
    for (const offset of [2, 5]) {
      assert.equal(flags.get(offset), recordFlags.isForeign | recordFlags.isBroken | recordFlags.isKeyId);
      assert.equal(ids.get(offset), `${epoch}:0:${offset}`);
    }
    assert.equal(next, 8);
    assert.deepEqual([...readAll(damaged, 3).ids.keys()], [3]);
  });

  it('that were aborted are no broken records, even in an unknown compression', () => {
    const records = batchOf(['x', 'y'], {
      ...transactional(5, 9),
      attributes: attributeBits.isTransactional | 7,
    });
    const { ids, next } = readAll(records, 5, [{ producerId: 9n, firstOffset: 5 }]);
    assert.equal(ids.size, 0);
    assert.equal(next, 7);
  });

  it('take a header that is like ours but not ours for that of a foreign record', () => {
    const ours = packed(['a'], 10);
    ours.writeDoubleLE(Number.NaN, 16);
    const head = Buffer.concat([Buffer.from([1]), ours.subarray(0, ours.length - 10)]);
    const plain = { key: Buffer.from('k'), value: Buffer.from('{"id":"b"}'), timestampMs: 1 };
    const records = sealed(
      encodePlainBatch([
        { ...plain, key: Buffer.from('a'), headers: [{ name: 'ess', value: head }] },
        { ...plain, headers: [{ name: 'ess', value: Buffer.alloc(0) }] },
        { ...plain, headers: [{ name: 'ess', value: Buffer.alloc(80, 1) }] },
      ]),
      { base: 0 },
    );
    const { ids, flags } = readAll(records, 0);
    assert.deepEqual([...ids.values()], ['b', 'b', 'b']);
    for (const flag of flags.values()) assert.equal(flag & recordFlags.isForeign, recordFlags.isForeign);
  });
});

/**
 * A topic in memory, with one leader for each partition, that answers fetches and questions about offsets: fetches by the
 * topic's id if it speaks version 13, else by its name.
 */
class MadeUpLeader implements FetchClient {
  /** Batches by partition, in offset order. */
  readonly batches: Buffer[][];
  /** First offset held, by partition. */
  readonly starts: number[];
  topicId = epoch;
  /** The topic id that the metadata tell. */
  toldId = epoch;
  /** What the next fetches of a partition answer: error codes, 'lost' for none at all; then all is well. */
  readonly faults: (number | 'lost')[] = [];
  fetches = 0;
  /** Most requests that one node had under way at the same time. */
  underWayMost = 0;
  readonly #underWay = new Map<number, number>();
  readonly #view: () => TopicView;

  readonly #hasIds: boolean;

  constructor(partitions: number, nodes: number, hasIds = true) {
    this.#hasIds = hasIds;
    this.batches = Array.from({ length: partitions }, () => []);
    this.starts = Array.from({ length: partitions }, () => 0);
    this.#view = () => ({
      topicId: this.toldId,
      controllerId: 0,
      brokers: [],
      partitions: this.batches.map((_, partition) => ({
        partition,
        leader: partition % nodes,
        leaderEpoch: 1,
        replicas: [],
        inSync: [],
        offline: [],
      })),
    });
  }

  end(partition: number): number {
    const last = this.batches[partition]?.at(-1);
    return last === undefined ? 0 : extentOf(last).next;
  }

  append(partition: number, ids: readonly string[], hole = 0, bodyBytes = 20): void {
    const base = this.end(partition) + hole;
    this.batches[partition]?.push(batchOf(ids, { base }, bodyBytes));
  }

  async metadata(): Promise<TopicView> {
    return this.#view();
  }

  forget(): void {}

  async send<T>(nodeId: number | 'any', asked: WireCall<T>): Promise<T> {
    const call = this.#hasIds ? asked : (asked.older?.() ?? asked);
    const node = Number(nodeId);
    const { buffer } = await call.request.encode();
    const isFetch = call.request.apiKey === fetchKey;
    if (isFetch) {
      this.fetches += 1;
      const underWay = (this.#underWay.get(node) ?? 0) + 1;
      this.#underWay.set(node, underWay);
      this.underWayMost = Math.max(this.underWayMost, underWay);
      await new Promise((resolve) => setTimeout(resolve, 1));
      this.#underWay.set(node, underWay - 1);
    }
    const fault = isFetch ? this.faults.shift() : undefined;
    if (fault === 'lost') throw new KafkaError('timeout', true, 'no answer');
    const request = new ResponseReader(buffer, 'request');
    const fetch = (code: number): Buffer =>
      this.#hasIds ? this.#fetchById(request, code) : this.#fetch(request, code);
    const raw = isFetch ? fetch(fault ?? 0) : this.#listOffsets(request);
    return call.response.parse(await call.response.decode(raw));
  }

  #fetch(request: ResponseReader, fault: number): Buffer {
    request.int32();
    request.int32();
    request.int32();
    const left = request.int32();
    request.int8();
    request.int32();
    request.int32();
    const answer = new RequestWriter();
    answer.int32(0);
    answer.int16(0);
    answer.int32(0);
    answer.count(1);
    request.array(() => {
      answer.string(request.string());
      const asked = request.array(() => {
        const partition = request.int32();
        request.int32();
        const offset = request.int64();
        request.int64();
        return { partition, offset, maxBytes: request.int32() };
      });
      answer.count(asked.length);
      for (const part of this.#partsOf(asked, left, fault)) {
        answer.int32(part.partition);
        answer.int16(part.errorCode);
        answer.int64(part.end);
        answer.int64(part.end);
        answer.int64(part.start);
        answer.count(0);
        answer.int32(-1);
        answer.blob(part.records);
      }
    });
    return Buffer.from(answer.bytes);
  }

  #fetchById(request: ResponseReader, fault: number): Buffer {
    request.skipTags(); // of the header
    for (const _ of ['replica', 'wait', 'min bytes']) request.int32();
    const left = request.int32();
    request.int8();
    request.int32();
    request.int32();
    const chunks: Buffer[] = [];
    const write = (fill: (writer: RequestWriter) => void): void => {
      const writer = new RequestWriter();
      fill(writer);
      chunks.push(Buffer.from(writer.bytes));
    };
    write((head) => {
      head.noTags();
      head.int32(0);
      head.int16(0);
      head.int32(0);
      head.compactCount(1);
    });
    request.compactArray(() => {
      const id = request.uuid();
      const asked = request.compactArray(() => {
        const partition = request.int32();
        request.int32();
        const offset = request.int64();
        request.int32();
        request.int64();
        const maxBytes = request.int32();
        request.skipTags();
        return { partition, offset, maxBytes };
      });
      request.skipTags();
      write((head) => {
        head.uuid(id);
        head.compactCount(asked.length);
      });
      const code = id === this.topicId ? fault : kafkaErrors.UNKNOWN_TOPIC_ID.code;
      for (const part of this.#partsOf(asked, left, code)) {
        write((head) => {
          head.int32(part.partition);
          head.int16(part.errorCode);
          head.int64(part.end);
          head.int64(part.end);
          head.int64(part.start);
          head.compactCount(0);
          head.int32(-1);
          head.compactCount(part.records.length);
        });
        chunks.push(part.records);
        write((tail) => tail.noTags());
      }
      write((tail) => tail.noTags());
    });
    write((tail) => tail.noTags());
    return Buffer.concat(chunks);
  }

  #partsOf(
    asked: readonly { readonly partition: number; readonly offset: number; readonly maxBytes: number }[],
    leftAtFirst: number,
    fault: number,
  ): readonly { partition: number; errorCode: number; start: number; end: number; records: Buffer }[] {
    let left = leftAtFirst;
    let isFirst = true;
    return asked.map(({ partition, offset, maxBytes }) => {
      const start = this.starts[partition] ?? 0;
      const end = this.end(partition);
      const isOutside = offset < start || offset > end;
      const errorCode = fault !== 0 ? fault : isOutside ? kafkaErrors.OFFSET_OUT_OF_RANGE.code : 0;
      if (errorCode !== 0) return { partition, errorCode, start: -1, end: -1, records: Buffer.alloc(0) };
      // As a broker does: the first batch of the first partition that has any comes whole.
      const batches = (this.batches[partition] ?? []).filter((batch) => extentOf(batch).next > offset);
      const all = Buffer.concat(batches);
      const whole = extentOf(all.subarray(0, Math.min(left, maxBytes))).bytes;
      const [first = all] = batches;
      const bytes = whole > 0 ? Math.min(left, maxBytes, all.length) : isFirst ? first.length : 0;
      if (bytes > 0) isFirst = false;
      left = Math.max(left - bytes, 0);
      return { partition, errorCode, start, end, records: all.subarray(0, bytes) };
    });
  }

  #listOffsets(request: ResponseReader): Buffer {
    request.int32();
    request.int8();
    const answer = new RequestWriter();
    answer.int32(0);
    answer.count(1);
    request.array(() => {
      answer.string(request.string());
      const asked = request.array(() => {
        const partition = request.int32();
        request.int32();
        return { partition, at: request.int64() };
      });
      answer.count(asked.length);
      for (const { partition, at } of asked) {
        answer.int32(partition);
        answer.int16(0);
        answer.int64(-1);
        answer.int64(at === -2 ? (this.starts[partition] ?? 0) : this.end(partition));
        answer.int32(-1);
      }
    });
    return Buffer.from(answer.bytes);
  }
}

interface Rig {
  readonly fetcher: Fetcher;
  readonly changes: string[];
  hints: number;
}

function rigOf(leader: MadeUpLeader, bytesMax = 1 << 20): Rig {
  const changes: string[] = [];
  const rig: Rig = {
    hints: 0,
    changes,
    fetcher: new Fetcher(leader, {
      topic: 'events',
      epoch,
      partitions: leader.batches.length,
      bytesMax,
      limits,
      onData: () => {
        rig.hints += 1;
      },
      onChanged: (reason) => changes.push(reason),
    }),
  };
  rig.fetcher.start();
  return rig;
}

/** Reads a partition up to its end, waiting for what is not there yet. */
async function readUpTo(
  fetcher: Fetcher,
  partition: number,
  from: number,
  end: number,
  maxBytes = 1000,
): Promise<Visited> {
  const visited = nothing();
  let next = from;
  await until(() => {
    for (;;) {
      const after = fetcher.read(partition, next, maxBytes, visitor(visited));
      if (after === next) break;
      assert.ok(after > next);
      next = after;
    }
    return next >= end;
  });
  assert.equal(next, end);
  return visited;
}

function assertGap(fetcher: Fetcher, partition: number, from: number): Promise<void> {
  return until(() => {
    try {
      fetcher.read(partition, from, 1, () => assert.fail('nothing is there to visit'));
      return false;
    } catch (error) {
      assert.ok(error instanceof EssError && error.code === 'internal', String(error));
      return true;
    }
  });
}

describe('the fetcher', () => {
  it('brings every record once and in order, whatever fails on the way', async () => {
    const batch = fc.record({
      partition: fc.nat(2),
      count: fc.integer({ min: 1, max: 8 }),
      hole: fc.constantFrom(0, 0, 0, 3),
      bodyBytes: fc.constantFrom(10, 10, 3000),
    });
    const fault = fc.constantFrom<number | 'lost'>(0, 0, 'lost', 3, 6, 74, 75, 78, 100, 103, -1);
    await fc.assert(
      fc.asyncProperty(
        fc.array(batch, { maxLength: 25 }),
        fc.array(fault, { maxLength: 6 }),
        fc.constantFrom(1, 500, 1 << 20),
        fc.boolean(),
        async (batches, faults, bytesMax, hasIds) => {
          const leader = new MadeUpLeader(3, 2, hasIds);
          const expected = new Map<number, string[]>();
          for (const [i, { partition, count, hole, bodyBytes }] of batches.entries()) {
            const ids = Array.from({ length: count }, (_, j) => `${i}-${j}`);
            leader.append(partition, ids, hole, bodyBytes);
            expected.set(partition, [...(expected.get(partition) ?? []), ...ids]);
          }
          leader.faults.push(...faults);
          const { fetcher } = rigOf(leader, bytesMax);
          try {
            for (const partition of [0, 1, 2]) fetcher.add(partition, partition === 1 ? -1 : 0);
            const read = [0, 1, 2].map((partition) => readUpTo(fetcher, partition, 0, leader.end(partition)));
            for (const [partition, { ids }] of (await Promise.all(read)).entries()) {
              assert.deepEqual([...ids.values()], expected.get(partition) ?? []);
              for (const bytes of leader.batches[partition] ?? []) {
                for (const [offset, id] of readAll(bytes, 0).ids) assert.equal(ids.get(offset), id);
              }
            }
            assert.ok(leader.underWayMost <= 1);
          } finally {
            fetcher.close();
          }
        },
      ),
      { numRuns: 25 },
    );
  });

  it('reads again from wherever it is told to, and hints when that is there', async () => {
    const leader = new MadeUpLeader(1, 1);
    for (let i = 0; i < 10; i += 1) leader.append(0, [`${i}-a`, `${i}-b`, `${i}-c`]);
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    await readUpTo(rig.fetcher, 0, 0, 30);
    for (const from of [0, 29, 7, 8, 15]) {
      const hints = rig.hints;
      assert.equal(
        rig.fetcher.read(0, from, 1, () => assert.fail('nothing is there yet')),
        from,
      );
      await until(() => rig.hints > hints);
      const { ids } = await readUpTo(rig.fetcher, 0, from, 30);
      assert.deepEqual(
        [...ids.keys()],
        Array.from({ length: 30 - from }, (_, i) => from + i),
      );
    }
    rig.fetcher.close();
  });

  it('keeps no more than its bound, but a batch that is larger comes all the same', async () => {
    const leader = new MadeUpLeader(2, 1);
    for (let i = 0; i < 20; i += 1) leader.append(0, [`${i}`], 0, 900);
    leader.append(1, ['large'], 0, 100_000);
    const rig = rigOf(leader, 4000);
    rig.fetcher.add(0, 0);
    rig.fetcher.add(1, 0);
    const { ids } = await readUpTo(rig.fetcher, 1, 0, 1);
    assert.deepEqual([...ids.values()], ['large']);
    // Nobody reads partition 0: what was fetched of it stays within its share, and is not fetched again and again.
    const fetches = leader.fetches;
    let fetched = 0;
    rig.fetcher.read(0, 0, Number.POSITIVE_INFINITY, (_base, count) => {
      fetched += count;
    });
    assert.ok(fetched <= 2, `${fetched} records of 900 bytes in a share of 2000`);
    assert.equal(leader.fetches, fetches);
    rig.fetcher.close();
  });

  it('names the gap where records are gone, and never moves the position by itself', async () => {
    const leader = new MadeUpLeader(1, 1);
    leader.append(0, ['a', 'b', 'c', 'd']);
    leader.starts[0] = 2;
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    await assertGap(rig.fetcher, 0, 0);
    await assertGap(rig.fetcher, 0, 0);
    await assertGap(rig.fetcher, 0, 5);
    const { ids } = await readUpTo(rig.fetcher, 0, 2, 4);
    assert.deepEqual([...ids.values()], ['c', 'd']);
    assert.deepEqual(rig.fetcher.bounds(0), { start: 2, end: 4 });
    rig.fetcher.close();
  });

  it('goes on where a leader said too early that an offset is outside', async () => {
    const leader = new MadeUpLeader(1, 1);
    leader.append(0, ['a']);
    leader.faults.push(kafkaErrors.OFFSET_OUT_OF_RANGE.code, kafkaErrors.OFFSET_OUT_OF_RANGE.code);
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    await readUpTo(rig.fetcher, 0, 0, 1);
    rig.fetcher.close();
  });

  it('does not believe a leader that knows of less than was fetched, as one of before does', async () => {
    const leader = new MadeUpLeader(1, 1);
    leader.append(0, ['a']);
    const before = [...(leader.batches[0] ?? [])];
    leader.append(0, ['b', 'c']);
    const all = [...(leader.batches[0] ?? [])];
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    await readUpTo(rig.fetcher, 0, 0, 3);
    leader.batches[0] = before;
    const { fetches } = leader;
    await until(() => leader.fetches > fetches + 3);
    leader.batches[0] = all;
    leader.append(0, ['d']);
    const { ids } = await readUpTo(rig.fetcher, 0, 3, 4);
    assert.deepEqual([...ids.values()], ['d']);
    rig.fetcher.close();
  });

  it('gives nothing of a partition that was taken away, not even what was under way', async () => {
    const leader = new MadeUpLeader(1, 1);
    leader.append(0, ['a']);
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    await until(() => leader.fetches > 0);
    rig.fetcher.clear();
    assert.equal(
      rig.fetcher.read(0, 0, 1, () => assert.fail('not ours')),
      0,
    );
    rig.fetcher.add(0, 1);
    leader.append(0, ['b']);
    const { ids } = await readUpTo(rig.fetcher, 0, 1, 2);
    assert.deepEqual([...ids.values()], ['b']);
    rig.fetcher.close();
  });

  it('fetches a damaged batch on from the offset that is certain', async () => {
    const leader = new MadeUpLeader(1, 1);
    leader.append(0, ['a', 'b', 'c']);
    const [batch] = leader.batches[0] ?? [];
    assert.ok(batch);
    // The checksum is wrong and the header says more than the records: then only the first offset is certain.
    batch.writeInt32BE(9, batchAt.lastOffsetDelta);
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    const { ids, types } = await readUpTo(rig.fetcher, 0, 0, 10, 1);
    assert.deepEqual(
      [...ids.keys()],
      Array.from({ length: 10 }, (_, i) => i),
    );
    assert.deepEqual([...new Set(types.values())], ['crc_mismatch']);
    rig.fetcher.close();
  });

  it('gives nothing of a topic that was made anew, however long the metadata do not tell of it', async () => {
    const leader = new MadeUpLeader(1, 1);
    leader.append(0, ['a', 'b']);
    const rig = rigOf(leader);
    rig.fetcher.add(0, 0);
    await readUpTo(rig.fetcher, 0, 0, 2);
    // The same offsets, and more.
    leader.batches[0] = [];
    leader.append(0, ['x', 'y', 'z']);
    leader.topicId = 'e'.repeat(32);
    const { fetches } = leader;
    await until(() => leader.fetches > fetches + 2);
    const never = () => assert.fail('it is of another topic');
    assert.equal(rig.fetcher.read(0, 2, 1000, never), 2);
    assert.equal(rig.changes.length, 0);
    leader.toldId = leader.topicId;
    await until(() => rig.changes.length > 0);
    assert.equal(rig.fetcher.read(0, 2, 1000, never), 2);
  });

  it('says once that the topic is another one, or has more partitions, and stops', async () => {
    for (const change of [
      (leader: MadeUpLeader) => {
        leader.topicId = 'e'.repeat(32);
        leader.toldId = leader.topicId;
      },
      (leader: MadeUpLeader) => {
        leader.batches.push([]);
      },
    ]) {
      const leader = new MadeUpLeader(1, 1);
      const rig = rigOf(leader);
      rig.fetcher.add(0, 0);
      await until(() => leader.fetches > 0);
      change(leader);
      await until(() => rig.changes.length > 0);
      const { fetches } = leader;
      await new Promise((resolve) => setTimeout(resolve, 50));
      assert.ok(leader.fetches <= fetches + 1);
      assert.equal(rig.changes.length, 1);
    }
  });
});
