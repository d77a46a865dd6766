import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { inflateSync } from 'node:zlib';
import fc from 'fast-check';
import { decodeFromCompressedBase64, Float64Histogram, type Histogram } from 'hdr-histogram-js';
import { bucketCount, bucketOf, clampMicroseconds, highestOf, lowestOf } from '../../src/stats/buckets.ts';
import { mergeSnapshots, type StageJson, sumSnapshots } from '../../src/stats/merge.ts';
import { StageRecorder, type StageSnapshot } from '../../src/stats/recorder.ts';
import { type Stage, type StatsWindow, stages, statsWindows } from '../../src/stats/stages.ts';
import { runTask, tortureValues } from './torture.ts';

const hourUs = 3_600_000_000;
const duration = fc.oneof(
  fc.integer({ min: 1, max: 5000 }),
  fc.integer({ min: 1, max: hourUs }),
  fc.double({ min: 0, max: 31.7, noNaN: true }).map((exponent) => Math.floor(2 ** exponent)),
  fc.nat(32).map((exponent) => Math.min(2 ** exponent, hourUs)),
);

const microseconds = (ms: number): number => Math.round(ms * 1000);

function recorded(values: Iterable<number>, stage: Stage = 'insert'): StageRecorder {
  const recorder = new StageRecorder([stage], () => 0);
  for (const value of values) recorder.record(stage, value);
  return recorder;
}

function merged(...recorders: StageRecorder[]): Record<Stage, StageJson> {
  return mergeSnapshots(recorders.map((recorder) => recorder.snapshot('all')));
}

/** Decodes with counts of 64 bits; 32, the default, would wrap. */
const decode = (hdr: string): Histogram => decodeFromCompressedBase64(hdr, 64);

/** The count of a value's bucket, which the library's interface hides. */
function countAt(histogram: Histogram, value: number): number {
  assert.ok(histogram instanceof Float64Histogram);
  return histogram.getCountAtIndex(histogram.countsArrayIndex(value));
}

describe('histogram buckets', () => {
  it('are those of HdrHistogram for every duration', () => {
    const theirs = new Float64Histogram(1, hourUs, 3);
    assert.equal(theirs.countsArrayLength, bucketCount);
    fc.assert(
      fc.property(duration, (value) => {
        const bucket = bucketOf(value);
        assert.equal(bucket, theirs.countsArrayIndex(value));
        assert.equal(lowestOf(bucket), theirs.lowestEquivalentValue(value));
        assert.equal(highestOf(bucket), theirs.highestEquivalentValue(value));
      }),
      { numRuns: 2000 },
    );
  });

  it('follow each other without gap or overlap', () => {
    for (let bucket = 1; bucket < bucketCount; bucket += 1) {
      assert.equal(lowestOf(bucket), highestOf(bucket - 1) + 1);
      assert.equal(bucketOf(lowestOf(bucket)), bucket);
      assert.equal(bucketOf(highestOf(bucket)), bucket);
    }
  });
});

describe('StageRecorder', () => {
  it('gives percentiles that are exact within 1/1024, and exact count, sum and maximum', () => {
    fc.assert(
      fc.property(fc.array(duration, { minLength: 1, maxLength: 3000 }), (values) => {
        const { insert } = merged(recorded(values));
        const sorted = values.toSorted((a, b) => a - b);
        assert.equal(insert.count, values.length);
        assert.equal(microseconds(insert.max_ms), sorted.at(-1));
        assert.equal(
          microseconds(insert.sum_ms),
          values.reduce((sum, value) => sum + value, 0),
        );
        const shown = [
          [500, insert.p50_ms],
          [900, insert.p90_ms],
          [950, insert.p95_ms],
          [990, insert.p99_ms],
          [999, insert.p999_ms],
        ] as const;
        for (const [perMille, ms] of shown) {
          const rank = Math.ceil((values.length * perMille) / 1000);
          const exact = sorted[rank - 1] ?? 0;
          const ours = microseconds(ms);
          assert.ok(
            exact <= ours && ours <= exact * (1 + 1 / 1024),
            `${perMille}: ${exact} shown as ${ours}`,
          );
        }
      }),
    );
  });

  it('bounds every duration to 1 us .. 1 h and rounds to whole microseconds', () => {
    for (const [given, kept] of [
      [Number.NaN, 1],
      [Number.NEGATIVE_INFINITY, 1],
      [-5, 1],
      [0, 1],
      [0.4, 1],
      [1.4, 1],
      [1.5, 2],
      [2 ** 31 + 0.5, 2 ** 31 + 1],
      [hourUs - 0.2, hourUs],
      [hourUs + 1, hourUs],
      [Number.POSITIVE_INFINITY, hourUs],
    ] as const) {
      assert.equal(clampMicroseconds(given), kept);
      const { insert } = merged(recorded([given]));
      assert.equal(insert.count, 1);
      assert.equal(microseconds(insert.max_ms), kept);
      assert.equal(microseconds(insert.sum_ms), kept);
    }
  });

  it('counts a value as often as it is told, beyond 32 bits', () => {
    const recorder = new StageRecorder(['end_to_end'], () => 0);
    recorder.record('end_to_end', 1500, 2 ** 40);
    recorder.record('end_to_end', 1500, 3);
    const { end_to_end: shown } = merged(recorder);
    assert.equal(shown.count, 2 ** 40 + 3);
    assert.equal(decode(shown.hdr).totalCount, 2 ** 40 + 3);
  });

  it('records nothing for a count that is not a whole number of at least 1', () => {
    const recorder = new StageRecorder(['insert'], () => 0);
    for (const count of [0, -1, Number.NaN, 0.5, Number.POSITIVE_INFINITY])
      recorder.record('insert', 5, count);
    assert.equal(merged(recorder).insert.count, 0);
  });

  it('refuses a stage that it does not hold', () => {
    const recorder = new StageRecorder(['insert'], () => 0);
    assert.throws(() => recorder.record('ring', 5), { code: 'internal' });
  });

  it('forgets what a window no longer covers, and never what all covers', () => {
    let nowMs = 1_000_000;
    const recorder = new StageRecorder(['insert'], () => nowMs);
    const counted = (window: StatsWindow): number => mergeSnapshots([recorder.snapshot(window)]).insert.count;
    const all = (): number[] => statsWindows.map(counted);
    recorder.record('insert', 100);
    assert.deepEqual(all(), [1, 1, 1]);
    nowMs += 10_000;
    assert.deepEqual(all(), [1, 1, 1]);
    nowMs += 5_000;
    assert.deepEqual(all(), [0, 1, 1]);
    recorder.record('insert', 100);
    assert.deepEqual(all(), [1, 2, 2]);
    nowMs += 45_000;
    assert.deepEqual(all(), [0, 2, 2]);
    nowMs += 5_000;
    assert.deepEqual(all(), [0, 1, 2]);
    nowMs += 86_400_000;
    assert.deepEqual(all(), [0, 0, 2]);
    recorder.record('insert', 100);
    assert.deepEqual(all(), [1, 1, 3]);
  });

  it('shows in every window exactly the values of the intervals that it covers', () => {
    const step = fc.record({
      waitMs: fc.oneof(fc.nat(200), fc.nat(20_000), fc.nat(200_000)),
      value: duration,
      count: fc.integer({ min: 1, max: 5 }),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        let nowMs = 0;
        const recorder = new StageRecorder(['insert', 'ring'], () => nowMs);
        const model: { interval: number; value: number; count: number }[] = [];
        for (const { waitMs, value, count } of steps) {
          nowMs += waitMs;
          recorder.record('insert', value, count);
          model.push({ interval: Math.floor(nowMs / 5000), value, count });
          const now = Math.floor(nowMs / 5000);
          for (const [window, intervals] of [
            ['10s', 2],
            ['1m', 12],
            ['all', Number.POSITIVE_INFINITY],
          ] as const) {
            const covered = model.filter(({ interval }) => interval >= now - intervals);
            const fresh = new StageRecorder(['insert'], () => 0);
            for (const entry of covered) fresh.record('insert', entry.value, entry.count);
            assert.deepEqual(recorder.snapshot(window), { ...fresh.snapshot('all'), window });
          }
        }
      }),
      { numRuns: 30 },
    );
  });

  it('keeps values when its clock goes back', () => {
    let nowMs = 60_000;
    const recorder = new StageRecorder(['insert'], () => nowMs);
    recorder.record('insert', 1);
    nowMs = 30_000;
    recorder.record('insert', 2);
    assert.deepEqual(recorder.snapshot('10s').stages.insert?.count, 2);
  });
});

describe('merged snapshots', () => {
  it('of several recorders equal one recorder that saw everything', () => {
    const entry = fc.record({ recorder: fc.nat(3), stage: fc.constantFrom(...stages), value: duration });
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 500 }), (entries) => {
        const one = new StageRecorder(stages, () => 0);
        const several = Array.from({ length: 4 }, () => new StageRecorder(stages, () => 0));
        for (const { recorder, stage, value } of entries) {
          one.record(stage, value);
          several[recorder]?.record(stage, value);
        }
        assert.deepEqual(merged(...several), merged(one));
        const snapshots = several.map((recorder) => recorder.snapshot('all'));
        const half = sumSnapshots('all', snapshots.slice(0, 2));
        assert.deepEqual(sumSnapshots('all', [half, ...snapshots.slice(2)]), one.snapshot('all'));
      }),
    );
  });

  it('of real threads equal one recorder that saw everything', async () => {
    const seeds = [1, 2, 3, 4];
    const times = 20_000;
    const answers = await Promise.all(seeds.map((seed) => runTask({ type: 'record', seed, times })));
    const snapshots = answers as StageSnapshot[];
    const one = recorded(
      seeds.flatMap((seed) => [...tortureValues(seed, times)]),
      'produce',
    );
    assert.deepEqual(mergeSnapshots(snapshots), merged(one));
  });

  it('show every stage, with zeros and an empty histogram where nothing was recorded', () => {
    const shown = mergeSnapshots([]);
    assert.deepEqual(Object.keys(shown), stages);
    for (const stage of stages) {
      const { hdr, ...figures } = shown[stage];
      assert.ok(Object.values(figures).every((figure) => figure === 0));
      assert.equal(decode(hdr).totalCount, 0);
    }
  });

  it('refuse to mix windows', () => {
    const recorder = recorded([5]);
    assert.throws(() => sumSnapshots('all', [recorder.snapshot('10s')]), { code: 'internal' });
  });
});

describe('the HdrHistogram encoding', () => {
  it('is read by hdr-histogram-js as the histogram that it would have recorded', () => {
    const entry = fc.tuple(
      duration,
      fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 2 ** 45 })),
    );
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 300 }), (entries) => {
        const theirs = new Float64Histogram(1, hourUs, 3);
        const ours = new StageRecorder(['insert'], () => 0);
        for (const [value, count] of entries) {
          theirs.recordValueWithCount(value, count);
          ours.record('insert', value, count);
        }
        const decoded = decode(merged(ours).insert.hdr);
        assert.equal(decoded.totalCount, theirs.totalCount);
        for (const [value] of entries) {
          assert.equal(countAt(decoded, value), countAt(theirs, value));
        }
        for (const percentile of [0, 50, 90, 99, 99.9, 100]) {
          assert.equal(decoded.getValueAtPercentile(percentile), theirs.getValueAtPercentile(percentile));
        }
      }),
    );
  });

  it('of two processes can be added up by a third', () => {
    const first = decode(merged(recorded([10, 20, 3_000_000])).insert.hdr);
    first.add(decode(merged(recorded([20, 70_000])).insert.hdr));
    const together = decode(merged(recorded([10, 20, 3_000_000, 20, 70_000])).insert.hdr);
    assert.equal(first.totalCount, 5);
    assert.deepEqual(first.toJSON(), together.toJSON());
  });

  it('has the header that every port of HdrHistogram accepts', () => {
    const bytes = Buffer.from(merged(recorded([5])).insert.hdr, 'base64');
    assert.equal(bytes.readInt32BE(0), 0x1c849314);
    assert.equal(bytes.readInt32BE(4), bytes.length - 8);
    const plain = inflateSync(bytes.subarray(8));
    assert.equal(plain.readInt32BE(0), 0x1c849313);
    assert.equal(plain.readInt32BE(4), plain.length - 40);
    assert.equal(plain.readInt32BE(8), 0, 'normalizing offset');
    assert.equal(plain.readInt32BE(12), 3);
    assert.equal(plain.readBigInt64BE(16), 1n);
    assert.equal(plain.readBigInt64BE(24), BigInt(hourUs));
    assert.equal(plain.readDoubleBE(32), 1);
    // A run of five empty buckets, then a count of one.
    assert.deepEqual([...plain.subarray(40)], [9, 2]);
  });
});
