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
  readonly signal?: AbortSignal;
}

/** One ClickHouse node. Every method rejects with StoreError. */
export interface Store {
  /** What the node is called in logs and on pages: "chdb" or "host:port". */
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
  readonly outcome: StoreOutcome;

  constructor(code: number, outcome: StoreOutcome, detail: string, options?: { readonly cause?: unknown }) {
    super(detail, options);
    this.code = code;
    this.outcome = outcome;
  }
}

/** How to reach a node. */
export type StoreTarget =
  | { readonly kind: 'embedded' /** Directory of the chDB database. */; readonly path: string }
  | {
      readonly kind: 'http';
      readonly url: string;
      readonly user: string;
      readonly password: string;
      readonly database: string;
    };
