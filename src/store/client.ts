// The store over @clickhouse/client: one object for a node, whether it is reached by HTTP or is chDB in this process.
// Each thread opens its own. Only the connection under the client differs; statements, settings and errors are made
// here, once for both.

import { Readable } from 'node:stream';
import { type ClickHouseClient, ClickHouseLogLevel, createClient } from '@clickhouse/client';
import { EssError } from '../errors.ts';
import { ChdbConnection } from './chdb_connection.ts';
import { toStoreError } from './outcome.ts';
import { quoteIdentifier } from './query_params.ts';
import {
  type InsertOptions,
  type QueryOptions,
  type QueryParams,
  type Store,
  StoreError,
  type StoreTarget,
} from './store.ts';

export interface OpenOptions {
  /**
   * Embedded only: run statements on the calling thread instead of libuv's pool, whose threads (4 unless
   * UV_THREADPOOL_SIZE was set before the process began) are shared by the whole process. For threads that do nothing
   * else, such as dedicated readers: the event loop stands still meanwhile, so abort signals are not heard. A read of
   * `bytes` has to end in its FORMAT clause, or it goes through the pool all the same. Default false.
   */
  readonly blocking?: boolean;
  /**
   * HTTP only: time to wait for the answer to an insert, a command or a read without timeoutMs, milliseconds, at least
   * 1. Past it the outcome is unknown. The engine in this process cannot get lost, so it is always waited for.
   * Default 30,000.
   */
  readonly requestTimeoutMs?: number;
}

const defaultRequestTimeoutMs = 30_000;

/** A node that enforces timeoutMs itself answers at its end; so much later it is given up. Milliseconds. */
const answerGraceMs = 5_000;

/**
 * The client's own limit is for all its requests at once, and counts silence only; each request has a deadline of ours
 * instead. This one only has to be longer than any of them (read-timeout-ms is at most an hour). Milliseconds.
 */
const socketSilenceMsMax = 86_400_000;

/**
 * Idle sockets are closed by us before the node does it: a request on a socket that the node is just closing fails
 * with ECONNRESET. The shortest keep_alive_timeout in use is 3 s (ClickHouse before 23.11; 10 to 30 s since).
 */
const idleSocketMs = 2_000;

/** Sockets to one node, for each thread: two inserts at once and a few reads. Further requests wait. */
const openConnectionsMax = 8;

/** Blocks up to this long are sent as one piece, since each piece is a write of its own. Bytes. */
const joinedBytesMax = 256 * 1024;

/** The answer to a read is complete or an error, never an error in the middle of a text that began well. */
const httpSettings = { wait_end_of_query: 1 } as const;

/** A read that is given up stops on the node too. */
const httpReadSettings = { cancel_http_readonly_queries_on_client_close: 1 } as const;

/** One JSON array; UInt64 and Int64 as strings, since a JSON number loses what is above 2^53. */
const rowSettings = {
  output_format_json_array_of_rows: 1,
  output_format_json_quote_64bit_integers: 1,
} as const;

/** Settings of one statement. */
type Settings = Record<string, string | number>;

/**
 * Opens a node. For the embedded store this starts the engine (about 0.2 s the first time in a process) and rejects
 * with StoreError if another process holds the directory, or with EssError `platform_unsupported` if chDB is not
 * there; an HTTP node is not contacted before the first request.
 */
export async function openStore(target: StoreTarget, options: OpenOptions = {}): Promise<Store> {
  if (target.kind === 'embedded') {
    const connection = await openEmbedded(target.path, options.blocking === true);
    const client = createClient({ connection, log: { level: ClickHouseLogLevel.OFF } });
    return new ClientStore('chdb', client, null);
  }
  const client = createClient({
    url: target.url,
    username: target.user,
    password: target.password,
    database: target.database,
    ...(target.tls === null ? {} : { tls: { ca_cert: Buffer.from(target.tls.ca) } }),
    compression: { request: target.isCompressed },
    request_timeout: socketSilenceMsMax,
    max_open_connections: openConnectionsMax,
    keep_alive: { enabled: true, idle_socket_ttl: idleSocketMs, eagerly_destroy_stale_sockets: true },
    // Parameters that are too long for a URL go into the body.
    use_multipart_params_auto: true,
    clickhouse_settings: httpSettings,
    log: { level: ClickHouseLogLevel.OFF },
  });
  const requestTimeoutMs = options.requestTimeoutMs ?? defaultRequestTimeoutMs;
  return new ClientStore(new URL(target.url).host, client, requestTimeoutMs);
}

async function openEmbedded(path: string, blocking: boolean): Promise<ChdbConnection> {
  try {
    return await ChdbConnection.open(path, blocking);
  } catch (error) {
    throw error instanceof EssError ? error : toStoreError(error);
  }
}

class ClientStore implements Store {
  readonly name: string;
  readonly #client: ClickHouseClient;
  /** Null for the embedded store. */
  readonly #requestTimeoutMs: number | null;
  readonly #readSettings: Settings;

  constructor(name: string, client: ClickHouseClient, requestTimeoutMs: number | null) {
    this.name = name;
    this.#client = client;
    this.#requestTimeoutMs = requestTimeoutMs;
    this.#readSettings = requestTimeoutMs === null ? {} : httpReadSettings;
  }

  async insertNative(
    table: string,
    columns: readonly string[],
    block: readonly Uint8Array[],
    options: InsertOptions,
  ): Promise<void> {
    const query = `INSERT INTO ${quoteIdentifier(table)} (${columns.map(quoteIdentifier).join(', ')}) FORMAT Native`;
    const settings: Settings = {
      insert_deduplication_token: options.token,
      // On by default since 26.3: the node would collect blocks of several inserts, and the token is for one.
      async_insert: 0,
    };
    await this.#answer(options.signal, null, async (signal) => {
      const { stream } = await this.#client.exec({
        query,
        values: Readable.from(joined(block)),
        clickhouse_settings: settings,
        abort_signal: signal,
      });
      const answer = await collect(stream, signal);
      // An INSERT has no result: whatever comes instead is not an acknowledgement.
      if (answer.length > 0) throw new StoreError(0, 'unknown', answer.toString('utf8', 0, 1000));
    });
  }

  async rows<Row>(sql: string, params: QueryParams = {}, options: QueryOptions = {}): Promise<Row[]> {
    return this.#answer(options.signal, options.timeoutMs ?? null, async (signal) => {
      const result = await this.#client.query({
        query: sql,
        format: 'JSONEachRow',
        query_params: params,
        clickhouse_settings: { ...this.#statementSettings(options), ...this.#readSettings, ...rowSettings },
        abort_signal: signal,
      });
      signal.addEventListener('abort', () => result.close(), { once: true });
      // The caller names the columns of its own statement.
      return JSON.parse(await result.text()) as Row[];
    });
  }

  async bytes(sql: string, params: QueryParams = {}, options: QueryOptions = {}): Promise<Buffer> {
    return this.#exec(sql, params, options, this.#readSettings);
  }

  async command(sql: string, params: QueryParams = {}, options: QueryOptions = {}): Promise<void> {
    await this.#exec(sql, params, options, {});
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  async #exec(sql: string, params: QueryParams, options: QueryOptions, more: Settings): Promise<Buffer> {
    return this.#answer(options.signal, options.timeoutMs ?? null, async (signal) => {
      const { stream } = await this.#client.exec({
        query: sql,
        query_params: params,
        clickhouse_settings: { ...this.#statementSettings(options), ...more },
        abort_signal: signal,
      });
      return collect(stream, signal);
    });
  }

  #statementSettings(options: QueryOptions): Settings {
    if (options.timeoutMs === undefined) return { ...options.settings };
    // Seconds, with fractions. 'throw' gives code 159; 'break' would give part of the result as if it were all.
    const limit = { max_execution_time: options.timeoutMs / 1000, timeout_overflow_mode: 'throw' };
    return { ...options.settings, ...limit };
  }

  /** Makes a request that ends at the caller's signal or at its deadline, whichever is first; errors are StoreError. */
  async #answer<T>(
    callerSignal: AbortSignal | undefined,
    timeoutMs: number | null,
    request: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const limitMs = this.#deadlineMs(timeoutMs);
    const giveUp = new AbortController();
    let reason = 'given up by the caller';
    const onAbort = (): void => giveUp.abort();
    const onDeadline = (): void => {
      reason = `no answer within ${limitMs} ms`;
      giveUp.abort();
    };
    callerSignal?.addEventListener('abort', onAbort, { once: true });
    const timer = limitMs === null ? null : setTimeout(onDeadline, limitMs);
    try {
      if (callerSignal?.aborted === true) throw new StoreError(0, 'unknown', reason);
      return await request(giveUp.signal);
    } catch (error) {
      if (giveUp.signal.aborted) throw new StoreError(0, 'unknown', reason, { cause: error });
      throw toStoreError(error);
    } finally {
      if (timer !== null) clearTimeout(timer);
      callerSignal?.removeEventListener('abort', onAbort);
    }
  }

  #deadlineMs(timeoutMs: number | null): number | null {
    if (this.#requestTimeoutMs === null) return null;
    return timeoutMs === null ? this.#requestTimeoutMs : timeoutMs + answerGraceMs;
  }
}

/** The pieces of a small block as one piece, those of a large one as they are. */
function joined(pieces: readonly Uint8Array[]): readonly Uint8Array[] {
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  return bytes <= joinedBytesMax ? [Buffer.concat(pieces)] : pieces;
}

/** All bytes of an answer. Rejects if the connection breaks before its end or the signal is given. */
async function collect(stream: Readable, signal: AbortSignal): Promise<Buffer> {
  const onAbort = (): void => void stream.destroy();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    return Buffer.concat(chunks);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
