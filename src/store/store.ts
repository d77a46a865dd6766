// The store seam: what ESS needs of ClickHouse. Always spoken through @clickhouse/client; only the connection under
// it differs: HTTP to a node, or chDB in this process. test/store/contract.ts is the suite that both pass.

/** Values bound to {name:Type} placeholders; never spliced into SQL. */
export type QueryParams = Readonly<Record<string, unknown>>;

export interface QueryOptions {
  /** Server-side limit of the execution time, milliseconds (max_execution_time). Default: none. */
  readonly timeoutMs?: number;
  /** Gives up waiting when aborted. */
  readonly signal?: AbortSignal;
  /** Further ClickHouse settings of this statement. */
  readonly settings?: Readonly<Record<string, string | number>>;
}

export interface InsertOptions {
  /** insert_deduplication_token: a repeat with the same token stores nothing. */
  readonly token: string;
  /**
   * A store of several replicas offers the block to another one only within this time since the call: later the token
   * may be forgotten, and the block a second one. ms. Default: no limit.
   */
  readonly repeatWithinMs?: number;
  readonly signal?: AbortSignal;
}

/** One ClickHouse node, or the replicas of one shard (shard_store.ts). Every method rejects with StoreError. */
export interface Store {
  /** What it is called in logs and on pages: "chdb", "host:port" or "shard 0". */
  readonly name: string;
  /**
   * Inserts one Native block (given in pieces that follow each other) as one block. Settled means stored, fsynced and
   * readable on this node.
   */
  insertNative(
    table: string,
    columns: readonly string[],
    block: readonly Uint8Array[],
    options: InsertOptions,
  ): Promise<void>;
  /** Rows of a SELECT (no FORMAT clause) as objects. 64-bit integers come as decimal strings. */
  rows<Row>(sql: string, params?: QueryParams, options?: QueryOptions): Promise<Row[]>;
  /** The raw answer of a SELECT with a FORMAT clause of its own. */
  bytes(sql: string, params?: QueryParams, options?: QueryOptions): Promise<Buffer>;
  /** A statement without result. */
  command(sql: string, params?: QueryParams, options?: QueryOptions): Promise<void>;
  close(): Promise<void>;
}

/** What a failure says about the statement's effect. */
export type StoreOutcome =
  /** The node refused: nothing was stored. */
  | 'refused'
  /** No answer, or one that does not tell: it may have been stored. */
  | 'unknown';

/** A failure of a Store method. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  /** ClickHouse's error number, 0 when there was none (connection failures). */
  readonly code: number;
  /** Of the call as a whole: `refused` only if no attempt that was made within it can have stored anything. */
  readonly outcome: StoreOutcome;
  /**
   * The call made several attempts, and one before the attempt that `code` is about had no clear answer; `outcome` is
   * `unknown` then, even if `code` is a clear refusal. Only stores with several replicas set it.
   */
  readonly isAmbiguousBefore: boolean;
  /** Nothing was sent, because the tables are not as they have to be: a person has to mend them. */
  readonly needsPerson: boolean;

  constructor(code: number, outcome: StoreOutcome, detail: string, options: StoreErrorOptions = {}) {
    super(detail, options);
    this.code = code;
    this.outcome = outcome;
    this.isAmbiguousBefore = options.isAmbiguousBefore ?? false;
    this.needsPerson = options.needsPerson ?? false;
  }
}

export interface StoreErrorOptions {
  readonly cause?: unknown;
  /** Default false. */
  readonly isAmbiguousBefore?: boolean;
  /** Default false. */
  readonly needsPerson?: boolean;
}

/** chDB in this process. */
export interface EmbeddedTarget {
  readonly kind: 'embedded';
  /** Directory of the chDB database. */
  readonly path: string;
}

/** A ClickHouse node, reached over its HTTP interface. */
export interface HttpTarget {
  readonly kind: 'http';
  /** http(s)://host:port */
  readonly url: string;
  readonly user: string;
  /** In memory only: it comes from a file or the environment, never from the command line. */
  readonly password: string;
  readonly database: string;
  /** For https: certificates of the authorities to trust, as PEM text; null trusts those that Node.js comes with. */
  readonly tls: { readonly ca: string } | null;
  /** Inserts are sent with gzip: worth it only where the network is slower than a core. */
  readonly isCompressed: boolean;
}

/** How to reach one node. */
export type StoreTarget = EmbeddedTarget | HttpTarget;

/** Every node by shard and replica, of whatever kind. An embedded store is one shard of one replica. */
export interface StoreLayout {
  readonly shards: readonly (readonly StoreTarget[])[];
}

/** The shard that a partition's new events go to, where there are so many. What it had before: shard_layout.ts. */
export function shardOf(partition: number, shards: number): number {
  return partition % shards;
}
