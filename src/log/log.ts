// The log seam: what ESS needs of a durable, partitioned log. Two drivers stand behind it: `embedded/` (lmdb) and,
// for clusters, Kafka. Producer workers hold a LogAppender, sink workers a LogConsumer; each thread opens its own.
// test/log/contract.ts is the suite that every driver passes.

import type { EssError } from '../errors.ts';
import type { LetterChange, LetterFilter, LetterState } from './letter_state.ts';

/** Packed records (event/record.ts) of one partition, to be appended as one unit. */
export interface AppendBatch {
  readonly partition: number;
  /** Number of packed records in `bytes`; at least 1. */
  readonly count: number;
  /** Copied or written before `append` settles; the caller may reuse it afterwards. */
  readonly bytes: Buffer;
}

/** Where a partition stands, as far as this driver can tell cheaply. Offsets are safe integers. */
export interface PartitionState {
  /** First offset that can still be read. */
  readonly start: number;
  /** Offset that the next appended record gets. */
  readonly end: number;
  /** Bytes held by the partition, consumed ones included. */
  readonly bytes: number;
  /**
   * Committed consumer position: the next offset to be consumed. 0 if none was committed in this epoch. One that is
   * foreign (see LogPosition) counts as it is, up to `end`: this is for showing the lag, which must come back to 0 however
   * the position got there, and not for believing that anything is stored.
   */
  readonly committed: number;
}

/** A consumer's durable position: the next offset to consume, with the text that was committed beside it. */
export interface LogPosition {
  /** -1 when none was ever committed in this epoch, or it has expired. */
  readonly offset: number;
  /** Empty when none was committed. */
  readonly metadata: string;
  /**
   * True if it cannot be told that a consumer of this log committed it, in this epoch: somebody moved it by hand, or an
   * older ESS left it. It proves nothing, but the partition's owner should know of it. A commit puts an end to it. The
   * embedded log has no such positions.
   */
  readonly isForeign?: boolean;
}

/** A record that the store refused for good, kept durably under epoch:partition:offset. */
export interface DeadLetter {
  readonly partition: number;
  readonly offset: number;
  /** When it was parked, epoch milliseconds. */
  readonly timeMs: number;
  /** The store's error code, or a code of ours. */
  readonly code: string;
  readonly reason: string;
  /** The packed record. */
  readonly record: Buffer;
  /** What a person did about it; absent while it is parked and nobody has touched it. */
  readonly state?: LetterState;
}

/** What became of one batch: the offset of its first record, or why it has none. */
export type AppendResult = number | EssError;

/** Reading the dead letters; every driver's handles have it. */
export interface DeadLetterReader {
  /** True if the record at this offset of the current epoch was parked, whatever was done about it since. */
  isParked(partition: number, offset: number): Promise<boolean>;
  /** Up to `limit` letters in (partition, offset) order, after the given position, that stand as asked; default all. */
  deadLetters(limit: number, after?: LetterPlace, which?: LetterFilter): Promise<DeadLetter[]>;
  /** Number of letters in the current epoch that stand as asked; default all. */
  deadLetterCount(which?: LetterFilter): Promise<number>;
}

/** Where the record of a letter is in the log. */
export interface LetterPlace {
  readonly partition: number;
  readonly offset: number;
}

export interface BrokerDescription {
  readonly id: number;
  /** "host:port" */
  readonly address: string;
  /** It has answered a moment ago. */
  readonly isUp: boolean;
  readonly isController: boolean;
}

/** Where the copies of a partition are, as node ids. */
export interface PartitionDescription {
  /** -1 if there is none now. */
  readonly leader: number;
  readonly replicas: readonly number[];
  readonly inSync: readonly number[];
}

export interface GroupMemberDescription {
  /** A sink of ours: "host/node/index/count"; else the client id. */
  readonly name: string;
  readonly host: string;
  /** Ascending. */
  readonly partitions: readonly number[];
  /** Number of the sink in its process, and how many that has; null for a member that is none of ours. */
  readonly sink: { readonly index: number; readonly count: number } | null;
}

export interface GroupDescription {
  readonly id: string;
  /** Kafka's word for it, or Unknown. */
  readonly state: string;
  readonly members: readonly GroupMemberDescription[];
}

/** What lies behind the log. The embedded one has no brokers, no copies and no group; Kafka's disks are not seen. */
export interface LogDescription {
  /** By id. Those that are down are among them. */
  readonly brokers: readonly BrokerDescription[];
  /** By partition; empty while it is not known. */
  readonly partitions: readonly PartitionDescription[];
  /** In-sync replicas below which appends are refused. */
  readonly minInSyncReplicas: number | null;
  readonly group: GroupDescription | null;
  readonly disk: { readonly freeBytes: number; readonly totalBytes: number } | null;
}

/** A way to look at what lies behind the log, apart from everybody's work with it. For people, not for decisions. */
export interface LogDescriber {
  /** Bounded in time; may reject. Not to be called while it is under way. */
  describe(): Promise<LogDescription>;
  close(): Promise<void>;
}

/** A producer worker's handle on the log. */
export interface LogAppender extends DeadLetterReader {
  /** Identity of this log's history: offsets are comparable only within one epoch. 32 hex digits. */
  readonly epoch: string;
  readonly partitions: number;
  /**
   * Appends every batch and settles when each is durable (fsynced, or acknowledged by all in-sync replicas) or has
   * failed. Gives each batch's result, in order. The embedded log appends all or none; a cluster may take some
   * partitions and not others. Errors are `log_unavailable` (not appended, now or ever), `outcome_unknown` (may have
   * been appended) and `log_changed`. Rejects with one of them if it holds for every batch. Settles within the time
   * that the driver was opened with; several calls may be under way at once if `appendsMax` is above 1.
   */
  append(batches: readonly AppendBatch[]): Promise<AppendResult[]>;
  /** How many appends may usefully be under way at the same time: 1 for the embedded log. */
  readonly appendsMax: number;
  /** The state of every partition, by index. */
  states(): Promise<PartitionState[]>;
  /**
   * Up to where consumers of this log have said that everything is stored, for each of these partitions, in order; 0
   * where none has. `ack=store` is answered by it, so what was committed in another epoch, or is foreign, is 0 as well.
   * Rejects with `log_unavailable`.
   */
  committed(partitions: readonly number[]): Promise<number[]>;
  /** The letters that were parked last and about which nobody has done anything yet, the newest first. */
  latestDeadLetters(limit: number): Promise<DeadLetter[]>;
  /** The letter of this position; null if there is none. */
  deadLetter(place: LetterPlace): Promise<DeadLetter | null>;
  /**
   * Writes down what becomes of letters: durable when settled, in the place of what was written before. That a sink
   * parks the same record again does not undo it. Rejects with `outcome_unknown` (it may be written or not).
   */
  setLetterStates(changes: readonly LetterChange[]): Promise<void>;
  /** Removes consumed batches past the retention bounds, never past a committed position; gives the bytes freed. */
  trim(): Promise<number>;
  close(): Promise<void>;
}

/** What a consumer is told about its partitions. Called on the consumer's own thread, never re-entrantly. */
export interface AssignmentListener {
  /**
   * The partitions were dealt out anew among all consumers of the group; `assigned` follows for each one of this
   * thread, which may be none. The embedded log never does this.
   */
  dealt?(): void;
  /** From now on this thread owns the partition, from this committed position on. */
  assigned(partition: number, position: LogPosition): void;
  /** The partition is no longer owned: anything not yet committed will be done by somebody else. */
  revoked(partition: number): void;
  /** New records may be there (a hint: it may come without reason). */
  dataArrived(): void;
  /**
   * The log is no longer the one that was opened (the topic was made anew, or has more partitions now). Every
   * partition was revoked before. Nothing more will come: the handle must be closed and opened again.
   */
  changed(reason: string): void;
}

/**
 * Receives records of one partition: `count` packed records with consecutive offsets from `baseOffset` on. Offsets
 * left out between two calls hold no record (compacted away, transaction markers, aborted). `bytes` is valid only
 * within the call.
 */
export type RecordVisitor = (baseOffset: number, count: number, bytes: Buffer) => void;

/** A sink worker's handle on the log. */
export interface LogConsumer extends DeadLetterReader {
  readonly epoch: string;
  readonly partitions: number;
  /** Starts delivering assignments and hints to the listener. Called once. */
  start(listener: AssignmentListener): Promise<void>;
  /**
   * Visits records from `from` on, in offset order, until about `maxBytes` were visited (at least one stored batch or
   * Kafka batch if any is there). Returns the next offset to read, which is past offsets that hold no record; equal
   * to `from` if nothing is there yet, which may also mean that it still has to be fetched: `dataArrived` tells.
   * Reading an earlier offset again is allowed. Throws EssError `internal` with the gap named if `from` lies before
   * the first offset still held or beyond the end: never skips a record silently.
   */
  read(partition: number, from: number, maxBytes: number, visit: RecordVisitor): number;
  /**
   * True while this handle may act for the partition. To be asked before anything that must not be done twice: a
   * process that stood still for longer than its session learns here that others have gone on without it.
   */
  isOwned(partition: number): boolean;
  /**
   * Durably sets the position of an owned partition, forwards or back, with a text of at most 4,000 bytes. Rejects with
   * `outcome_unknown` if the ownership was lost.
   */
  commit(partition: number, offset: number, metadata: string): Promise<void>;
  /** Durable when settled; a repeat of the same position replaces the letter. Must precede the commit past it. */
  park(letters: readonly DeadLetter[]): Promise<void>;
  /**
   * The state of every partition, by index; of those whose leader does not answer, what was known last. Rejects with
   * `log_unavailable` only if that is the partition `needed`.
   */
  states(needed?: number): Promise<PartitionState[]>;
  close(): Promise<void>;
}
