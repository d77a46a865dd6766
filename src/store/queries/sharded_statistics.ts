// Statistics over several shards. Runs on reader threads.
//
//   each shard   its groups by size, the largest with numbers and states (shard_groups.ts)
//   here         the largest groups of all shards are chosen (group_ranking.ts)
//   each shard   chosen groups that it has sent no numbers of, if there are any
//   one node     merges the states (summary_merge.ts)
//
// The second question is needed only where a shard has more groups than are asked for, and reads the events again.

import { Bindings } from './bindings.ts';
import type { FanOut } from './fan_out.ts';
import { chooseGroups, compareGroups, type RankedGroup } from './group_ranking.ts';
import type { ReadSession } from './read_session.ts';
import { RowBinaryCursor } from './row_binary.ts';
import { readShardGroups, type ShardGroup, type ShardGroups, type ShardSummary } from './shard_groups.ts';
import { groupKey, type StatisticsScope, shardStatement } from './statistics_statement.ts';
import { emptyCell, type StatisticsCells } from './summary.ts';
import { SummaryMerge } from './summary_merge.ts';
import { answerBucketsMax, checkBuckets } from './time_bucket.ts';

/**
 * Answers of all shards together, bytes: the states of some ten million events with exact=1. What a shard may send is
 * its share; beyond it the read is refused, as for its memory.
 */
const answersBytesMax = 256 * 1024 * 1024;

/** Rejects with ParameterError, if the answer would have too many buckets, or as `FanOut.each`. */
export async function readShardedCells(fanOut: FanOut, scope: StatisticsScope): Promise<StatisticsCells> {
  const { request } = scope;
  const isGrouped = request.groupBy.length > 0;
  const bytesMax = Math.floor(answersBytesMax / fanOut.alive.length);
  const answers = await fanOut.each((session) => readShard(session, scope, null, bytesMax));
  const shards = answers.map(({ session, answer }) => ({ session, ...answer }));
  const choice = isGrouped
    ? chooseGroups(shards, request.groupsMax)
    : { chosen: [{ key: '', values: [], count: 0 }], isUncertain: false };

  const found = new Map(shards.map((shard) => [shard.session, detailsOf(shard)]));
  const lacking = new Map(
    shards.map((shard) => [shard.session, lackingKeys(shard, found.get(shard.session), choice.chosen)]),
  );
  const sessions = shards
    .map(({ session }) => session)
    .filter((session) => lacking.get(session)?.length !== 0);
  if (isGrouped && sessions.length > 0) {
    const more = await fanOut.each(
      (session) => readShard(session, scope, lacking.get(session) ?? [], bytesMax),
      sessions,
    );
    for (const { session, answer } of more) {
      checkBuckets(answer.cellsOfAll);
      const details = found.get(session);
      for (const group of answer.groups) details?.set(groupKey(group.values), group);
    }
  }

  // A shard that stopped answering in between is missing as a whole.
  const alive = shards.filter(({ session }) => fanOut.alive.includes(session));
  const merge = new SummaryMerge(request);
  const totals = alive.flatMap(({ total }) => total ?? []);
  if (totals.length === 0) return { total: emptyCell, groups: [], isGroupChoiceUncertain: false };
  const total = isGrouped ? merge.add(totals) : null;
  const groups = choice.chosen.map(({ key, values }) => {
    const parts = alive.flatMap(({ session }) => found.get(session)?.get(key) ?? []);
    return mergeGroup(merge, values, parts);
  });
  if (isGrouped) checkBuckets(groups.reduce((sum, { cells }) => sum + cells.length, 0));
  await merge.run(fanOut);
  const rows = groups
    .filter(({ count }) => count > 0)
    // Events may have come in between the two questions.
    .sort(compareGroups)
    .map(({ values, summary, cells }) => ({
      values,
      summary: summary(),
      cells: cells.map((cell) => cell()),
    }));
  return {
    total: total === null ? (rows[0]?.summary ?? emptyCell) : total(),
    groups: rows,
    isGroupChoiceUncertain: choice.isUncertain,
  };
}

async function readShard(
  session: ReadSession,
  scope: StatisticsScope,
  only: readonly string[] | null,
  bytesMax: number,
): Promise<ShardGroups> {
  const { request } = scope;
  const bindings = new Bindings(true);
  const bytes = await session.bytes(shardStatement(scope, only, bindings), bindings, bytesMax);
  return readShardGroups(new RowBinaryCursor(bytes), request.groupBy.length > 0, request.value !== null);
}

/** The groups that came with everything, by key. */
function detailsOf({ groups, cellsOfAll }: ShardGroups): Map<string, ShardGroup> {
  if (cellsOfAll > answerBucketsMax) return new Map();
  const detailed = groups.filter(({ summary }) => summary !== null);
  return new Map(detailed.map((group) => [groupKey(group.values), group]));
}

/** Keys of chosen groups that the shard has, or may have, and has not sent everything of. */
function lackingKeys(
  { groups, isCut }: ShardGroups,
  details: ReadonlyMap<string, ShardGroup> | undefined,
  chosen: readonly RankedGroup[],
): string[] {
  const named = new Set(groups.map(({ values }) => groupKey(values)));
  return chosen.map(({ key }) => key).filter((key) => !details?.has(key) && (isCut || named.has(key)));
}

function mergeGroup(merge: SummaryMerge, values: readonly (string | null)[], parts: readonly ShardGroup[]) {
  const byBucket = new Map<number, ShardSummary[]>();
  for (const cell of parts.flatMap(({ cells }) => cells)) {
    const cells = byBucket.get(cell.tMs);
    if (cells === undefined) byBucket.set(cell.tMs, [cell]);
    else cells.push(cell);
  }
  return {
    values,
    count: parts.reduce((sum, part) => sum + part.count, 0),
    summary: merge.add(parts.flatMap(({ summary }) => summary ?? [])),
    cells: [...byBucket.values()].map((cells) => merge.add(cells)),
  };
}
