// What the page is sent once a second while somebody looks: one JSON text, this type. Made on the main thread, read by
// the page in a browser; both import this file. Names follow /stats; null is "cannot be known here".

import type { Stage } from '../stats/stages.ts';
import type { Trouble } from './troubles.ts';

/** Changes when a page of before could not read it: the page reloads itself then. */
export const snapshotFormat = 1;

/** Of the last 10 seconds. */
export interface LiveStage {
  readonly count: number;
  readonly p50_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
}

export interface LivePartition {
  readonly partition: number;
  readonly start: number;
  readonly end: number;
  readonly committed: number;
  readonly stored: number | null;
  readonly rows: number | null;
  readonly in_flight: number;
  readonly lag_seconds: number;
  /** Broker that leads it; -1 if none does; null for the embedded log. */
  readonly leader: number | null;
  readonly replicas: readonly number[] | null;
  readonly in_sync: readonly number[] | null;
  /** Member that consumes it: a sink thread of this process ("sink-0"), or another member's name; null if none does. */
  readonly owner: string | null;
}

export interface LiveBroker {
  readonly id: number;
  /** "host:port"; "unknown address" of one that was down before anybody looked. */
  readonly address: string;
  /** It has answered in the last 5 s. */
  readonly is_up: boolean;
  readonly is_controller: boolean;
}

export interface LiveMember {
  /** "host/node/index/count" of a sink of ours, else the client id. */
  readonly name: string;
  readonly host: string;
  readonly partitions: readonly number[];
  readonly is_here: boolean;
}

export interface LiveGroup {
  readonly id: string;
  /** Kafka's word: Stable, PreparingRebalance, CompletingRebalance, Empty, Dead; Unknown if no coordinator answers. */
  readonly state: string;
  readonly members: readonly LiveMember[];
  /** When a sink of this process was last dealt its partitions, epoch ms; null if none was. */
  readonly last_rebalance_ms: number | null;
  readonly rebalances: number;
}

export interface LiveNode {
  /** "host:port", or "chdb". */
  readonly name: string;
  readonly shard: number;
  readonly replica: number;
  readonly is_up: boolean;
  /** Why not; null while it is up. */
  readonly error: string | null;
  /** Rows in `events`, copies not yet merged included; null if unknown. */
  readonly rows: number | null;
  readonly rows_per_s: number | null;
  /** Active parts in the table partition of `events` that has most of them, and the number at which it refuses inserts. */
  readonly parts: number | null;
  readonly parts_max: number | null;
  /** Of this process's inserts into it in the last 10 s; null if there were none. */
  readonly insert_p99_ms: number | null;
  readonly disk_free_bytes: number | null;
  readonly disk_total_bytes: number | null;
}

export interface LiveThread {
  readonly name: string;
  readonly alive: boolean;
  readonly restarts: number;
  /** Share of the time since the last snapshot in which its event loop was busy, 0..1. */
  readonly utilization: number;
  readonly ring_used_bytes: number | null;
  readonly ring_bytes: number | null;
}

export interface LiveDeadLetter {
  readonly partition: number;
  readonly offset: number;
  /** RFC 3339. */
  readonly time: string;
  readonly code: string;
  readonly reason: string;
  readonly id: string | null;
}

export interface LiveSnapshot {
  readonly format: typeof snapshotFormat;
  /** The server's clock, epoch ms. */
  readonly time_ms: number;
  /** Changes with every start of the process. */
  readonly started_ms: number;
  readonly version: string;
  readonly role: 'all' | 'ingest' | 'sink';
  readonly epoch: string;
  /** As /readyz: `unready` is its 503. */
  readonly status: 'ready' | 'degraded' | 'unready';
  readonly troubles: readonly Trouble[];
  /** Per second since the last snapshot; null in the first. Of the whole log, whichever processes did it. */
  readonly events_per_s: number | null;
  readonly stored_per_s: number | null;
  /** Of this process. */
  readonly requests_per_s: number | null;
  readonly refused_per_s: number | null;
  readonly stages: Readonly<Record<Stage, LiveStage>>;
  readonly slots: { readonly used: number; readonly max: number } | null;
  readonly threads: readonly LiveThread[];
  readonly rss_bytes: number;
  readonly conservation: {
    readonly accepted: number;
    readonly stored: number | null;
    readonly duplicates: number | null;
    readonly parked: number | null;
    readonly holes: number | null;
    readonly in_flight: number;
    readonly exact: boolean | null;
    readonly memory_pending: number;
  };
  readonly lag: { readonly events: number; readonly seconds: number };
  readonly log: {
    readonly kind: 'embedded' | 'kafka';
    /** Empty for the embedded log. */
    readonly brokers: readonly LiveBroker[];
    readonly min_in_sync_replicas: number | null;
    readonly disk_free_bytes: number | null;
    readonly disk_total_bytes: number | null;
  };
  readonly partitions: readonly LivePartition[];
  /** Null for the embedded log. */
  readonly group: LiveGroup | null;
  readonly nodes: readonly LiveNode[];
  readonly dead_letters: { readonly total: number | null; readonly latest: readonly LiveDeadLetter[] };
}
