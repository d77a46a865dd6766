// What lies around this process as it was seen last: brokers, replicas, the consumer group, ClickHouse nodes, disks, dead
// letters; and what is wrong with any of it. Pure; main thread only.

import type { LiveBroker, LiveMember, LiveNode, LiveSnapshot } from './snapshot.ts';
import type { Trouble } from './troubles.ts';

export interface Disk {
  readonly free_bytes: number;
  readonly total_bytes: number;
}

/** Where a partition's copies are. Node ids; leader -1 if there is none. */
export interface PartitionReplicas {
  readonly leader: number;
  readonly replicas: readonly number[];
  readonly in_sync: readonly number[];
}

export interface ClusterMember extends Omit<LiveMember, 'is_here'> {
  /** Of a sink of ESS: its number among the sinks of its process, and their number; null for others. */
  readonly sink: { readonly index: number; readonly count: number } | null;
}

export interface ClusterGroup {
  readonly id: string;
  readonly state: string;
  readonly members: readonly ClusterMember[];
  /** How long it has been seen in states other than Stable, ms; 0 while it is Stable. */
  readonly unstable_ms: number;
}

export type ClusterNode = Omit<LiveNode, 'insert_p99_ms'>;

/** Empty or null where it is not known, or not yet. */
export interface ClusterView {
  readonly kind: 'embedded' | 'kafka';
  readonly brokers: readonly LiveBroker[];
  readonly min_in_sync_replicas: number | null;
  /** By partition. */
  readonly partitions: readonly PartitionReplicas[];
  readonly group: ClusterGroup | null;
  readonly nodes: readonly ClusterNode[];
  /** Where the embedded log lies. */
  readonly log_disk: Disk | null;
  readonly data_dir: Disk | null;
  /** The log or the store is embedded: a full data directory stops it. */
  readonly is_data_dir_used: boolean;
  readonly dead_letters: LiveSnapshot['dead_letters'];
}

/** States of a rebalance pass within a session; one that lasts is a trouble. ms */
const unstableMsMax = 10_000;
/** Free space below either is nearly full. */
const diskFreeShareMin = 0.1;
const diskFreeBytesMin = 1024 ** 3;
/** Share of the parts at which ClickHouse refuses inserts. */
const partsShareMax = 0.5;
/** What the store in this process is called. */
const embeddedNodeName = 'chdb';
/** Names in one text; of more partitions the number is told. */
const namedMax = 8;

/** Everything wrong with it. `hasSinks`: this process consumes, so that the group's state is its business. */
export function clusterTroubles(view: ClusterView, hasSinks: boolean): Trouble[] {
  return [
    ...brokerTroubles(view),
    ...groupTroubles(view.group, hasSinks),
    ...nodeTroubles(view.nodes),
    ...(view.is_data_dir_used ? diskTroubles('the data directory', view.data_dir) : []),
    ...letterTroubles(view.dead_letters.total ?? 0),
  ];
}

function brokerTroubles({ brokers, partitions, min_in_sync_replicas: least }: ClusterView): Trouble[] {
  const troubles: Trouble[] = [];
  for (const { id, address, is_up: isUp } of brokers) {
    if (!isUp) troubles.push({ kind: 'broker_down', text: `broker ${id} (${address}) does not answer` });
  }
  const short = [...partitions.entries()].filter(([, { in_sync: inSync }]) => inSync.length < (least ?? 0));
  if (short.length > 0) {
    const names = short.map(([partition, { in_sync: inSync }]) => `${partition} (${inSync.length})`);
    const listed = names.slice(0, namedMax).join(', ');
    const more = names.length > namedMax ? ` and ${names.length - namedMax} more` : '';
    const text = `fewer than ${least} replicas are in sync of partition ${listed}${more}`;
    troubles.push({ kind: 'in_sync_replicas', text });
  }
  const leaderless = [...partitions.entries()].filter(([, { leader }]) => leader < 0);
  if (leaderless.length > 0) {
    const names = leaderless.map(([partition]) => partition);
    const listed = names.slice(0, namedMax).join(', ');
    const more = names.length > namedMax ? ` and ${names.length - namedMax} more` : '';
    troubles.push({ kind: 'in_sync_replicas', text: `no broker leads partition ${listed}${more}` });
  }
  return troubles;
}

function groupTroubles(group: ClusterGroup | null, hasSinks: boolean): Trouble[] {
  if (group === null || !hasSinks || group.unstable_ms <= unstableMsMax) return [];
  const seconds = Math.round(group.unstable_ms / 1000);
  return [
    { kind: 'group_unstable', text: `consumer group ${group.id} has been ${group.state} for ${seconds} s` },
  ];
}

function nodeTroubles(nodes: readonly ClusterNode[]): Trouble[] {
  return nodes.flatMap((node): Trouble[] => {
    const { name, shard, replica, parts, parts_max: limit } = node;
    const where = `${name} (shard ${shard}, replica ${replica})`;
    if (!node.is_up) return [{ kind: 'store_node_down', text: `${where}: ${node.error ?? 'no answer'}` }];
    const troubles: Trouble[] = [];
    if (parts !== null && limit !== null && limit > 0 && parts > limit * partsShareMax) {
      const text = `${where} has ${parts} parts in one partition; at ${limit} it refuses inserts`;
      troubles.push({ kind: 'store_parts', text });
    }
    const { disk_free_bytes: free, disk_total_bytes: total } = node;
    // Of the embedded store the data directory tells already.
    if (name !== embeddedNodeName && free !== null && total !== null)
      troubles.push(...diskTroubles(where, { free_bytes: free, total_bytes: total }));
    return troubles;
  });
}

function diskTroubles(where: string, disk: Disk | null): Trouble[] {
  if (disk === null || disk.total_bytes <= 0) return [];
  const { free_bytes: free, total_bytes: total } = disk;
  if (free >= diskFreeBytesMin && free >= total * diskFreeShareMin) return [];
  const text = `${where}: ${gibibytes(free)} of ${gibibytes(total)} GiB are free`;
  return [{ kind: 'disk', text }];
}

function letterTroubles(total: number): Trouble[] {
  if (total === 0) return [];
  const text = total === 1 ? '1 event is a dead letter' : `${total} events are dead letters`;
  return [{ kind: 'dead_letters', text }];
}

function gibibytes(bytes: number): string {
  return (bytes / 1024 ** 3).toFixed(1);
}
