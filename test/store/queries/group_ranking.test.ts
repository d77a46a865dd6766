// The choice of the largest groups of all shards out of what each shard names.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { chooseGroups, compareGroups, type ShardRanking } from '../../../src/store/queries/group_ranking.ts';
import { groupKey } from '../../../src/store/queries/statistics_statement.ts';

type Values = readonly (string | null)[];

/** Counts by group, as a shard with room for `named` groups tells them. */
function rankingOf(counts: ReadonlyMap<string, number>, named: number): ShardRanking {
  const groups = [...counts].map(([name, count]) => ({ values: [name === '' ? null : name], count }));
  groups.sort(compareGroups);
  return { groups: groups.slice(0, named), isCut: groups.length > named };
}

const name = fc.constantFrom('', ...'abcdefghijklmnop');
const shard = fc
  .array(fc.tuple(name, fc.integer({ min: 1, max: 30 })), { maxLength: 16 })
  .map((entries) => new Map(entries));

describe('the largest groups', () => {
  test('are right, or said to be uncertain', () => {
    let uncertain = 0;
    let cut = 0;
    fc.assert(
      fc.property(
        fc.array(shard, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 6, max: 16 }),
        (shards, groupsMax, named) => {
          const totals = new Map<string, number>();
          for (const counts of shards)
            for (const [group, count] of counts) totals.set(group, (totals.get(group) ?? 0) + count);
          const rankings = shards.map((counts) => rankingOf(counts, named));
          const { chosen, isUncertain } = chooseGroups(rankings, groupsMax);
          const right = rankingOf(totals, groupsMax).groups.map(({ values }) => groupKey(values));
          if (rankings.some(({ isCut }) => isCut)) cut += 1;
          else assert.equal(isUncertain, false);
          if (isUncertain) uncertain += 1;
          else assert.deepEqual(chosen.map(({ key }) => key).sort(), [...right].sort());
        },
      ),
      { numRuns: 5000 },
    );
    // Else the property would say nothing.
    assert.ok(cut > uncertain && uncertain > 0);
  });

  test('that are equal are in the order of their values, null last', () => {
    const values: Values[] = [
      ['b', 'a'],
      [null, 'a'],
      ['a', null],
      ['a', ''],
      ['', 'z'],
    ];
    const groups = values.map((some) => ({ values: some, count: 1 }));
    const { chosen } = chooseGroups([{ groups, isCut: false }], 10);
    assert.deepEqual(
      chosen.map((group) => group.values),
      [
        ['', 'z'],
        ['a', ''],
        ['a', null],
        ['b', 'a'],
        [null, 'a'],
      ],
    );
  });

  test('have keys that no other values have', () => {
    const some = fc.array(fc.option(fc.constantFrom('', 'n', 's', 's0:', '1:a', 'é', 's1:an')), {
      minLength: 2,
      maxLength: 2,
    });
    fc.assert(
      fc.property(some, some, (a, b) => {
        assert.equal(groupKey(a) === groupKey(b), JSON.stringify(a) === JSON.stringify(b));
      }),
    );
  });
});
