// Gathers what one snapshot of the live page is made of: memory is read, threads are asked for the last ten seconds, and
// of the cluster what is known is taken, without waiting for it. Main thread only.

import { hostname } from 'node:os';
import type { LiveFigures } from '../live/builder.ts';
import type { ClusterGroup, ClusterMember, ClusterView } from '../live/cluster.ts';
import type { LiveGroup, LiveNode, LivePartition, LiveStage } from '../live/snapshot.ts';
import { counterKinds, type EngineCounters } from '../stats/counters.ts';
import { stageFigures } from '../stats/merge.ts';
import type { StageSnapshot } from '../stats/recorder.ts';
import type { Stage } from '../stats/stages.ts';
import { type Figures, lagOf, type PartitionStatus } from './figures.ts';
import { type Health, statusOf, troublesOf } from './health.ts';
import type { Session } from './session.ts';

export interface LiveParts {
  readonly role: 'all' | 'ingest' | 'sink';
  readonly version: string;
  readonly figures: Figures;
  readonly health: Health;
  /** What is known; being asked, it has newer news fetched. */
  readonly cluster: () => ClusterView;
}

const rejectedNames = [...counterKinds]
  .filter(([, { metric }]) => metric === 'requests_rejected')
  .map(([name]) => name);

export async function gatherLive({
  role,
  version,
  figures,
  health,
  cluster,
}: LiveParts): Promise<LiveFigures> {
  const { session, counters } = figures;
  const view = cluster();
  const { all, bySink } = await windowOf(figures, session);
  const partitions = figures.partitions();
  const findings = health.find(partitions);
  const slots = figures.slots();
  const group = view.group === null ? null : groupOf(view.group, session, counters);
  return {
    time_ms: Date.now(),
    started_ms: figures.startedMs,
    version,
    role,
    epoch: session.log.epoch,
    status: statusOf(findings),
    troubles: troublesOf(findings),
    requests: counters.get('requests'),
    refused: rejectedNames.reduce((total, name) => total + counters.get(name), 0),
    stages: stagesOf(all),
    slots: slots === null ? null : { used: slots.used, max: slots.max },
    threads: figures.threads(),
    rss_bytes: process.memoryUsage.rss(),
    conservation: figures.conservation(partitions),
    lag: lagOf(partitions),
    log: {
      kind: view.kind,
      brokers: view.brokers,
      min_in_sync_replicas: view.min_in_sync_replicas,
      disk_free_bytes: view.log_disk?.free_bytes ?? null,
      disk_total_bytes: view.log_disk?.total_bytes ?? null,
    },
    partitions: partitions.map((partition) => partitionOf(partition, view, group)),
    group,
    nodes: nodesOf(view, session, bySink),
    dead_letters: view.dead_letters,
  };
}

/** Snapshots of the last ten seconds: of everybody, and of each sink by itself. */
async function windowOf(
  figures: Figures,
  session: Session,
): Promise<{ readonly all: readonly StageSnapshot[]; readonly bySink: readonly StageSnapshot[][] }> {
  const [bySink, others] = await Promise.all([
    Promise.all(session.sinks.map((thread) => thread.snapshots('10s'))),
    Promise.all(session.producers.map((thread) => thread.snapshots('10s'))),
  ]);
  return { all: [figures.ownSnapshot('10s'), ...others.flat(), ...bySink.flat()], bySink };
}

function stagesOf(snapshots: readonly StageSnapshot[]): Readonly<Record<Stage, LiveStage>> {
  const of = (stage: Stage): LiveStage => stageFigures(stage, snapshots);
  return {
    receive: of('receive'),
    ring: of('ring'),
    produce: of('produce'),
    log_wait: of('log_wait'),
    insert: of('insert'),
    end_to_end: of('end_to_end'),
    event_loop_delay: of('event_loop_delay'),
  };
}

function partitionOf(partition: PartitionStatus, view: ClusterView, group: LiveGroup | null): LivePartition {
  const { duplicates: _d, parked: _p, holes: _h, bytes: _b, ...figures } = partition;
  const copies = view.partitions[partition.partition];
  const member = group?.members.find(({ partitions }) => partitions.includes(partition.partition));
  return {
    ...figures,
    leader: copies?.leader ?? null,
    replicas: copies?.replicas ?? null,
    in_sync: copies?.in_sync ?? null,
    owner: partition.owner ?? member?.name ?? null,
  };
}

/** Which members are sinks of this process: by their names, and where two processes share one, by what they own. */
export function groupOf(group: ClusterGroup, session: Session, counters: EngineCounters): LiveGroup {
  const { board, sinks } = session;
  const isHere = ({ host, sink, partitions }: ClusterMember): boolean => {
    if (sink === null || host !== hostname() || sink.count !== sinks.length) return false;
    const number = sink.index + 1;
    return partitions.every(
      (partition) => partition < board.partitions && board.get(partition, 'owner') === number,
    );
  };
  return {
    id: group.id,
    state: group.state,
    members: group.members.map((member) => ({
      name: member.name,
      host: member.host,
      partitions: member.partitions,
      is_here: isHere(member),
    })),
    last_rebalance_ms: session.lastDealtMs,
    rebalances: counters.get('rebalances'),
  };
}

/**
 * A sink thread owns one node, which its blocks go to first: so its inserts are taken for that node's. While a node fails
 * they go to its sibling, and the node's figure is how long its blocks took to get there.
 */
export function nodesOf(
  view: ClusterView,
  session: Session,
  bySink: readonly (readonly StageSnapshot[])[],
): LiveNode[] {
  return view.nodes.map((node) => {
    const own = bySink.filter((_, index) => {
      const place = session.sinkPlaces[index];
      return place?.shard === node.shard && place.replica === node.replica;
    });
    const insert = stageFigures('insert', own.flat());
    return { ...node, insert_p99_ms: insert.count === 0 ? null : insert.p99_ms };
  });
}
