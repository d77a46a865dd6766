// Every fault that is put into a ledger, the dead letters or the table is found and named; none is invented.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { type Finding, findingKinds, findingText } from '../../src/verify/findings.ts';
import type { LedgerRange } from '../../src/verify/ledger_audit.ts';
import { audit, type Everything, whole } from './ledger.ts';

const pick = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

function chosen<T>(items: readonly T[], at: number): T | undefined {
  return items[Math.floor(at * items.length)];
}

/** Runs the property over whole partitions and a place to break them. */
function forAll(check: (all: Everything, at: number) => Promise<void>): Promise<void> {
  return Promise.resolve(fc.assert(fc.asyncProperty(whole, pick, check), { numRuns: 200 }));
}

const kindsOf = (findings: readonly Finding[]): string[] =>
  [...new Set(findings.map(({ kind }) => kind))].sort();

describe('what ess verify finds', () => {
  test('nothing, where nothing is wrong', () =>
    forAll(async (all) => {
      assert.deepEqual(await audit(all), []);
    }));

  test('a ledger row that is gone, and the rows that it covered', () =>
    forAll(async (all, at) => {
      const lost = chosen(all.ranges.slice(0, -1), at);
      assert.ok(lost !== undefined);
      const findings = await audit({ ...all, ranges: all.ranges.filter((range) => range !== lost) });
      const gap = findings.find(({ kind }) => kind === 'ledger_gap');
      assert.deepEqual(
        [gap?.first, gap?.last, gap?.count],
        [lost.first, lost.last, lost.last - lost.first + 1],
      );
      const outside = findings.filter(({ kind }) => kind === 'rows_outside');
      assert.equal(
        outside.reduce((sum, { count }) => sum + count, 0),
        lost.rows,
      );
      assert.deepEqual(kindsOf(findings), lost.rows > 0 ? ['ledger_gap', 'rows_outside'] : ['ledger_gap']);
    }));

  test('a ledger row too many', () =>
    forAll(async (all, at) => {
      const one = chosen(all.ranges, at);
      assert.ok(one !== undefined);
      const { shard, first } = one;
      const more = { shard, first, last: first, rows: 0, duplicates: 0, parked: 0, holes: 1 };
      const findings = await audit({ ...all, ranges: [...all.ranges, more] });
      // Where the range is of one offset, both are the same place: FINAL leaves one of them.
      assert.ok(kindsOf(findings).includes('ledger_overlap'));
      const overlap = findings.find(({ kind }) => kind === 'ledger_overlap');
      assert.equal(overlap?.first, first);
    }));

  test('a ledger row that does not add up, and one on a shard that never had the partition', () =>
    forAll(async (all, at) => {
      const one = chosen(all.ranges, at);
      assert.ok(one !== undefined);
      const replaced = (by: Partial<LedgerRange>): Everything => ({
        ...all,
        ranges: all.ranges.map((range) => (range === one ? { ...range, ...by } : range)),
      });
      const miscounted = await audit(replaced({ duplicates: one.duplicates + 1 }));
      assert.deepEqual(kindsOf(miscounted), ['range_miscounted']);
      const misplaced = await audit(replaced({ shard: 2 }));
      assert.ok(kindsOf(misplaced).includes('range_misplaced'));
    }));

  test('a row that is gone, by its offset', () =>
    forAll(async (all, at) => {
      const range = chosen(
        all.ranges.filter(({ rows }) => rows > 0),
        at,
      );
      if (range === undefined) return;
      const { shard, first, last } = range;
      const gone = all.rows[shard]?.find((offset) => offset >= first && offset <= last) ?? -1;
      const rows = all.rows.map((offsets) => offsets.filter((offset) => offset !== gone));
      const [finding, ...more] = await audit({ ...all, rows });
      assert.deepEqual(more, []);
      assert.deepEqual(
        [finding?.kind, finding?.first, finding?.last, finding?.count, finding?.shard],
        ['rows_missing', first, last, 1, shard],
      );
      assert.ok(finding?.examples.every((each) => each.startsWith('3:')) === true);
    }));

  test('a row that is there twice, by its offset, on its shard or on another', () =>
    forAll(async (all, at) => {
      const range = chosen(
        all.ranges.filter(({ rows }) => rows > 0),
        at,
      );
      if (range === undefined) return;
      const { shard, first, last } = range;
      const offset = all.rows[shard]?.find((each) => each >= first && each <= last) ?? -1;
      const doubled = all.rows.map((each, i) => (i === shard ? [...each, offset] : each));
      const [finding, ...more] = await audit({ ...all, rows: doubled });
      assert.deepEqual(more, []);
      assert.deepEqual([finding?.kind, finding?.examples], ['rows_doubled', [`3:${offset}`]]);
      const elsewhere = all.rows.map((each, i) => (i === 2 ? [...each, offset] : each));
      const [stray, ...others] = await audit({ ...all, rows: elsewhere });
      assert.deepEqual(others, []);
      assert.deepEqual([stray?.kind, stray?.shard, stray?.examples], ['rows_outside', 2, [`3:${offset}`]]);
    }));

  test('a row where the ledger says that there is none', () =>
    forAll(async (all, at) => {
      const range = chosen(
        all.ranges.filter(({ rows, first, last }) => rows <= last - first),
        at,
      );
      if (range === undefined) return;
      const { shard, first, last } = range;
      const taken = new Set(all.rows[shard]);
      let free = first;
      while (taken.has(free)) free += 1;
      const rows = all.rows.map((each, i) => (i === shard ? [...each, free] : each));
      const [finding, ...more] = await audit({ ...all, rows });
      assert.deepEqual(more, []);
      assert.deepEqual([finding?.kind, finding?.first, finding?.last], ['rows_surplus', first, last]);
    }));

  test('a dead letter that is gone, and one too many', () =>
    forAll(async (all, at) => {
      const letter = chosen(all.letters, at);
      if (letter !== undefined) {
        const findings = await audit({ ...all, letters: all.letters.filter((each) => each !== letter) });
        assert.deepEqual(kindsOf(findings), ['letters_missing']);
      }
      const offset = all.rows[0]?.[0] ?? all.rows[1]?.[0];
      if (offset === undefined || offset >= all.ends.committed) return;
      const letters = [...all.letters, offset].sort((a, b) => a - b);
      assert.deepEqual(kindsOf(await audit({ ...all, letters })), ['letters_unclaimed']);
    }));

  test('records that the log lost before they were stored, and a log that is behind its ledger', () =>
    forAll(async (all) => {
      const { end, committed } = all.ends;
      const gone = await audit({ ...all, ends: { start: committed + 1, end: end + 2, committed } });
      assert.deepEqual(kindsOf(gone), ['records_gone']);
      const behind = await audit({ ...all, ends: { start: 0, end: committed - 1, committed } });
      assert.deepEqual(kindsOf(behind), ['ledger_beyond_log']);
    }));

  test('a topic that was in use before ESS is no loss', async () => {
    const rows = [[], [], []];
    assert.deepEqual(
      await audit({ ranges: [], letters: [], rows, ends: { start: 40, end: 50, committed: 0 } }),
      [],
    );
  });

  test('one row in a ledger of many statements, also where only its last one has it', async () => {
    const ranges = Array.from({ length: 2_501 }, (_, i) => {
      return { shard: 1, first: i * 3, last: i * 3 + 2, rows: 3, duplicates: 0, parked: 0, holes: 0 };
    });
    const end = 2_501 * 3;
    const offsets = Array.from({ length: end }, (_, offset) => offset);
    const all = { ranges, letters: [], ends: { start: 0, end, committed: end } };
    assert.deepEqual(await audit({ ...all, rows: [[], offsets, []] }), []);
    for (const gone of [0, 2_999, 3_000, end - 1]) {
      const rows = [[], offsets.filter((offset) => offset !== gone), []];
      const [finding, ...more] = await audit({ ...all, rows });
      assert.deepEqual(more, []);
      assert.deepEqual([finding?.kind, finding?.examples], ['rows_missing', [`3:${gone}`]]);
    }
  });
});

test('each kind says what it means and what to do, in one line', () => {
  const at = { partition: 3, shard: 1, first: 5, last: 9, count: 5, detail: 'five', examples: ['3:5'] };
  for (const kind of Object.keys(findingKinds) as Finding['kind'][]) {
    const text = findingText({ kind, ...at });
    assert.ok(text.startsWith(`${kind} partition 3, offsets 5-9, shard 1: five (3:5); `), text);
    assert.ok(text.includes(findingKinds[kind].means) && text.includes(findingKinds[kind].action));
    assert.ok(!text.includes('\n'));
  }
});
