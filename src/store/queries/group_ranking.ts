// The largest groups of all shards, chosen from what each shard says of its own. Pure; runs on reader threads.

import { groupKey } from './statistics_statement.ts';
import { compareText } from './text_order.ts';

/** Groups of one shard. */
export interface ShardRanking {
  /** Largest first. */
  readonly groups: readonly { readonly values: readonly (string | null)[]; readonly count: number }[];
  /** The shard has more groups than these, none of which is larger than the last one here. */
  readonly isCut: boolean;
}

export interface RankedGroup {
  readonly key: string;
  readonly values: readonly (string | null)[];
  /** Events of the shards that have named it. */
  readonly count: number;
}

export interface GroupChoice {
  /** Largest first, then by their values, null last. */
  readonly chosen: readonly RankedGroup[];
  /** A group that was not chosen may be larger than one that was. */
  readonly isUncertain: boolean;
}

/** Chooses up to `groupsMax` groups by the counts that are known. */
export function chooseGroups(shards: readonly ShardRanking[], groupsMax: number): GroupChoice {
  // A group that a cut shard has not named may have as many events there as the last one that it has named.
  const floors = shards.map(({ groups, isCut }) => (isCut ? (groups.at(-1)?.count ?? 0) : 0));
  const unnamedMax = floors.reduce((sum, floor) => sum + floor, 0);
  const known = new Map<
    string,
    { key: string; values: readonly (string | null)[]; count: number; most: number }
  >();
  for (const [i, { groups }] of shards.entries()) {
    for (const { values, count } of groups) {
      const key = groupKey(values);
      const group = known.get(key) ?? { key, values, count: 0, most: unnamedMax };
      group.count += count;
      group.most += count - (floors[i] ?? 0);
      known.set(key, group);
    }
  }
  const ranked = [...known.values()].sort(compareGroups);
  const chosen = ranked.slice(0, groupsMax);
  const least = chosen.at(-1)?.count ?? 0;
  const isComplete = shards.every(({ isCut }) => !isCut);
  const isUncertain =
    !isComplete &&
    // Equal counts are in order of the values, which are not known of a group that was not named.
    (unnamedMax >= least || ranked.slice(groupsMax).some(({ count, most }) => most > count && most >= least));
  return { chosen: chosen.map(({ key, values, count }) => ({ key, values, count })), isUncertain };
}

/** Order of the groups in an answer, the same as in SQL: largest first, then by values, null last. */
export function compareGroups(
  a: { readonly values: readonly (string | null)[]; readonly count: number },
  b: { readonly values: readonly (string | null)[]; readonly count: number },
): number {
  if (a.count !== b.count) return b.count - a.count;
  for (const [i, value] of a.values.entries()) {
    const other = b.values[i] ?? null;
    if (value === other) continue;
    if (value === null) return 1;
    if (other === null) return -1;
    return compareText(value, other);
  }
  return 0;
}
