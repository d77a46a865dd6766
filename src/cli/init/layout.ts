// The layout that the ClickHouse nodes have recorded (store/shard_layout.ts), compared with the configured one: recorded
// where there is none yet, and with --apply a further version where shards were added at the end. What would make a
// partition's events be looked for on the wrong shard is refused. Runs on the main thread.
//
// A further version is written on the nodes that there were first, then on the new ones. Whatever it is cut off by, some
// node disagrees with any configuration then, so that roles refuse, and the same command completes it.

import {
  type LayoutVersion,
  placeText,
  readLayouts,
  recordLayouts,
  type ShardPlace,
} from '../../store/shard_layout.ts';
import type { Store } from '../../store/store.ts';
import { reasonOf } from './patience.ts';
import { type Finding, type Step, stepOf } from './step.ts';
import type { Mode } from './tables.ts';

/** A node that answers, with the number of the shard that the configuration gives it. */
export interface LayoutNode {
  readonly store: Store;
  readonly shard: number;
}

/** What is configured. */
export interface LayoutWanted {
  readonly shards: number;
  /** All nodes, those that cannot be reached included. */
  readonly nodes: number;
}

/** Says why a further version may not be recorded now, such as a sink that is running, or waits for its end; else null. */
export type FindObstacle = (isWaiting: boolean) => Promise<string | null>;

/** A node with what it has recorded, the latest version last. */
interface Recorded extends LayoutNode {
  readonly history: readonly LayoutVersion[];
}

const part = 'clickhouse layout';
const breaks = 'exactly once: a partition would be looked for on a shard that does not have it';

/** Compares what the nodes have recorded with what is wanted, and records it where that is safe. Never rejects. */
export async function settleLayout(
  nodes: readonly LayoutNode[],
  wanted: LayoutWanted,
  mode: Mode,
  findObstacle: FindObstacle,
): Promise<Step> {
  try {
    return await settle(await readAll(nodes), wanted, mode, findObstacle);
  } catch (error) {
    return { part, state: 'unreachable', detail: reasonOf(error), findings: [] };
  }
}

async function readAll(nodes: readonly LayoutNode[]): Promise<Recorded[]> {
  const recorded: Recorded[] = [];
  for (const node of nodes) recorded.push({ ...node, history: await readLayouts(node.store) });
  return recorded;
}

async function settle(
  nodes: readonly Recorded[],
  wanted: LayoutWanted,
  mode: Mode,
  findObstacle: FindObstacle,
): Promise<Step> {
  const reference = longest(nodes);
  const faults = faultsOf(nodes, reference, wanted.shards);
  if (faults.length > 0) return stepOf(part, faults, 'as_wanted');
  const target = targetOf(reference, wanted.shards);
  const lacking = nodes.filter(({ history }) => history.length < target.length);
  const detail = `version ${target.length}: ${wanted.shards} ${wanted.shards === 1 ? 'shard' : 'shards'}`;
  if (lacking.length === 0) return stepOf(part, [], 'as_wanted', detail);

  const isGrowing = target.length > 1 && lacking.some((node) => !hasCompleteSibling(node, nodes, target));
  const isReached = nodes.length === wanted.nodes;
  const strangers = await strangersAmong(lacking, nodes, target);
  if (strangers.length > 0) return stepOf(part, strangers, 'as_wanted');
  const command = isGrowing ? 'ess init --apply' : 'ess init';
  const refused = (mend: string): Step =>
    stepOf(part, lackingFindings(lacking, wanted.shards, mend), 'as_wanted');
  if (mode === 'check' || (isGrowing && mode !== 'apply')) return refused(command);
  if (!isReached) return refused(`${command}, once every node can be reached`);
  const obstacle = isGrowing ? await findObstacle(true) : null;
  if (obstacle !== null) return refused(`${command}, once this no longer is so: ${obstacle}`);
  const fromOldToNew = [...lacking].sort((a, b) => b.history.length - a.history.length);
  for (const node of fromOldToNew) await recordLayouts(node.store, versionsFor(node, target));
  if (!isGrowing) return stepOf(part, [], 'made', detail);
  return verified(nodes, target, detail, findObstacle);
}

/** Looks whether all have what was recorded, since another command may have recorded something else meanwhile. */
async function verified(
  nodes: readonly LayoutNode[],
  target: readonly LayoutVersion[],
  detail: string,
  findObstacle: FindObstacle,
): Promise<Step> {
  const recorded = await readAll(nodes);
  const shards = target.at(-1)?.shards ?? 0;
  const differing = recorded.filter(({ history }) => history.at(-1)?.shards !== shards);
  if (differing.length > 0) {
    return stepOf(part, lackingFindings(differing, shards, 'ess init --apply, one at a time'), 'as_wanted');
  }
  const before = target.at(-2)?.shards;
  const text = `${detail}, after ${before}; start the sinks with them`;
  // It loses and doubles nothing: what it sends goes to the shards that its partitions were on, until the next look at a
  // node refuses it, within a minute.
  const obstacle = await findObstacle(false);
  const warning = obstacle === null ? '' : `; warning, one began meanwhile with those before: ${obstacle}`;
  return stepOf(part, [], 'changed', text + warning);
}

/** The history that tells most; the others have to be its beginning. */
function longest(nodes: readonly Recorded[]): readonly LayoutVersion[] {
  return nodes.reduce<readonly LayoutVersion[]>(
    (best, { history }) => (history.length > best.length ? history : best),
    [],
  );
}

/** The history that all nodes are to have: with a further version if shards were added. */
function targetOf(reference: readonly LayoutVersion[], shards: number): readonly LayoutVersion[] {
  const latest = reference.at(-1);
  if (latest !== undefined && latest.shards === shards) return reference;
  const version = reference.length + 1;
  return [...reference, { version, shards, shard: 0, recordedMs: Date.now() }];
}

/** What the node lacks of the history, with its own shard's number. */
function versionsFor({ shard, history }: Recorded, target: readonly LayoutVersion[]): LayoutVersion[] {
  return target.slice(history.length).map((version) => ({ ...version, shard }));
}

/** In what the recorded shards contradict each other or the configuration: nothing of it can be mended from here. */
function faultsOf(
  nodes: readonly Recorded[],
  reference: readonly LayoutVersion[],
  shards: number,
): Finding[] {
  const findings: Finding[] = [];
  for (const { store, shard, history } of nodes) {
    const what = `layout of ${store.name}`;
    const latest = history.at(-1);
    if (latest === undefined) continue;
    if (history.some((version, i) => version.shards !== reference[i]?.shards)) {
      const found = history.map(placeText).join(', ');
      const wanted = `the beginning of ${reference.map(({ shards: count }) => count).join(', ')} shards, as another node has it`;
      const mend = 'by hand: one of the two has never been in use';
      findings.push({ what, found, wanted, breaks, mend });
    } else if (latest.shard !== shard) {
      const found = placeText(latest);
      const mend =
        'list the shards in --clickhouse in the order of their recorded numbers, new ones at the end';
      findings.push({ what, found, wanted: placeText({ shard, shards }), breaks, mend });
    }
  }
  const latest = reference.at(-1);
  if (findings.length === 0 && latest !== undefined && latest.shards > shards) {
    findings.push({
      what: 'number of shards',
      found: `${latest.shards} (layout version ${latest.version}, ${new Date(latest.recordedMs).toISOString()})`,
      wanted: String(shards),
      breaks: 'what is stored on a shard that is left out would no longer be read',
      mend: `list all ${latest.shards} shards in --clickhouse: a shard cannot be taken away`,
    });
  }
  return findings;
}

/** True if another replica of the node's shard has it all: then the node is a new or a mended replica. */
function hasCompleteSibling(
  node: Recorded,
  nodes: readonly Recorded[],
  target: readonly LayoutVersion[],
): boolean {
  return nodes.some(({ shard, history }) => shard === node.shard && history.length === target.length);
}

/**
 * Nodes with nothing recorded in the place of a shard that has been in use: their ledger is empty where those of other
 * nodes are not. (Where the very first recording was cut off, the ledgers tell that the node is no stranger.)
 */
async function strangersAmong(
  lacking: readonly Recorded[],
  nodes: readonly Recorded[],
  target: readonly LayoutVersion[],
): Promise<Finding[]> {
  const isAnyRecorded = nodes.some(({ history }) => history.length > 0);
  /** Shards that are not new in the latest version. */
  const known = (target.at(-2) ?? target.at(-1))?.shards ?? 0;
  const alone = lacking.filter(
    (node) => node.history.length === 0 && node.shard < known && !hasCompleteSibling(node, nodes, target),
  );
  if (!isAnyRecorded || alone.length === 0) return [];
  const used = await Promise.all(nodes.map(({ store }) => hasLedgerRows(store)));
  if (!used.some((isUsed) => isUsed)) return [];
  return alone
    .filter((node) => used[nodes.indexOf(node)] === false)
    .map(({ store, shard }) => {
      const { shards } = target.at(-1) ?? { shards: 0 };
      return {
        what: `layout of ${store.name}`,
        found: 'not recorded, and an empty ledger',
        wanted: placeText({ shard, shards }),
        breaks,
        mend: `list the node that has been this shard; if that is lost for good, on this one: INSERT INTO layout VALUES (1, ${shards}, ${shard}, now64(3))`,
      };
    });
}

async function hasLedgerRows(store: Store): Promise<boolean> {
  return (await store.rows('SELECT 1 AS one FROM ledger LIMIT 1')).length > 0;
}

function lackingFindings(lacking: readonly Recorded[], shards: number, mend: string): Finding[] {
  return lacking.map(({ store, shard, history }) => {
    const place: ShardPlace = { shard, shards };
    const latest = history.at(-1);
    const found = latest === undefined ? 'not recorded' : placeText(latest);
    return { what: `layout of ${store.name}`, found, wanted: placeText(place), breaks, mend };
  });
}
