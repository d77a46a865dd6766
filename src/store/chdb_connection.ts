// The connection under @clickhouse/client that runs statements on chDB in this process. Runs on every thread that has
// an embedded store. Each request has an engine session of its own: settings and parameters are SET there and vanish
// with it. (chDB's own connection leaves settings behind on one shared session, and binds the parameters of all
// threads in one slot of the process: https://github.com/chdb-io/chdb-node, index.js, globalParamChain.)
//
//   request -> gate -> new session -> SET settings, param_<name> -> statement, on a libuv thread -> close session
//   INSERT with a body -> spool file -> INSERT ... FROM INFILE '<file>' -> remove the file
//   blocking read      -> SELECT ... INTO OUTFILE '<file>' on the calling thread -> read and remove the file

import { mkdirSync, statfsSync } from 'node:fs';
import { Readable } from 'node:stream';
import { type createClient, parseError } from '@clickhouse/client';
import { EssError } from '../errors.ts';
import { type ChdbModule, type ChdbSession, type EmbeddedEngine, loadEmbeddedEngine } from './chdb_engine.ts';
import type { EngineGate } from './engine_gate.ts';
import { formatQueryParam, quoteLiteral } from './query_params.ts';
import { Spool } from './spool.ts';
import { StoreError } from './store.ts';

type ClientConfig = NonNullable<Parameters<typeof createClient>[0]>;
/** The client's contract for what runs its requests; it does not export the name. */
type Connection = NonNullable<ClientConfig['connection']>;
type RequestParams = Parameters<Connection['query']>[0];
type ExecParams = Parameters<Connection['exec']>[0];
type InsertParams = Parameters<Connection['insert']>[0];

/** The engine's default of max_query_size, bytes; a SET with longer parameters needs it raised first. */
const queryBytesMax = 262_144;

/** Format of a result whose statement names none: the default of the HTTP interface. */
const defaultFormat = 'TabSeparated';

/**
 * What has to stay free on the disk for a block to be taken, and for merges to go on. The engine does not survive the end of
 * its disk: a merge that meets it leaves a part of empty files in the place of those that it was to replace.
 */
const spareBytes = 64 * 1024 * 1024;
/** ClickHouse's error number for a disk without room. */
const notEnoughSpace = 243;

const settingName = /^[A-Za-z_]\w*$/;
const formatClause = /\sFORMAT\s+(\w+)\s*$/i;

export class ChdbConnection implements Connection {
  readonly #chdb: ChdbModule;
  readonly #gate: EngineGate;
  readonly #path: string;
  readonly #blocking: boolean;
  readonly #spool: Spool;
  /** Keeps the engine up between requests: it would shut down with its last session. */
  #root: ChdbSession;
  /** The gate's generation in which #root was opened. */
  #generation: number;
  /** Statements that the engine is still running, also those whose caller has given up; none of them rejects. */
  readonly #running = new Set<Promise<void>>();
  #isClosed = false;
  /** Null: not known; an engine that another thread has told to stop goes on when the next one opens. */
  #areMergesStopped: boolean | null = null;

  /**
   * Opens the database in the directory `path`, which is made if it is missing. One process at a time can have it
   * open. `blocking` runs statements on the calling thread (see OpenOptions in client.ts).
   */
  static async open(path: string, blocking: boolean): Promise<ChdbConnection> {
    const engine = await loadEmbeddedEngine();
    mkdirSync(path, { recursive: true });
    await engine.gate.enter();
    try {
      return new ChdbConnection(engine, path, blocking);
    } finally {
      engine.gate.leave();
    }
  }

  private constructor({ chdb, gate }: EmbeddedEngine, path: string, blocking: boolean) {
    this.#chdb = chdb;
    this.#gate = gate;
    this.#path = path;
    this.#blocking = blocking;
    this.#generation = gate.generation;
    this.#root = this.#newSession();
    this.#spool = new Spool(path);
    this.#spool.removeStale();
  }

  async query(params: RequestParams): ReturnType<Connection['query']> {
    const answer = await this.#read(params);
    return { ...resultOf(params), stream: Readable.from(answer) };
  }

  async exec(params: ExecParams): ReturnType<Connection['exec']> {
    if (params.values === undefined) return this.query(params);
    await this.#insert(params, params.values);
    return { ...resultOf(params), stream: Readable.from(Buffer.alloc(0)) };
  }

  async command(params: RequestParams): ReturnType<Connection['command']> {
    await this.#run(params, params.query, this.#blocking);
    return resultOf(params);
  }

  async insert(params: InsertParams): ReturnType<Connection['insert']> {
    await this.#insert(params, params.values);
    return resultOf(params);
  }

  async ping(): ReturnType<Connection['ping']> {
    try {
      await this.#read({ query: 'SELECT 1' });
      return { success: true };
    } catch (error) {
      return { success: false, error: error instanceof Error ? error : new Error(String(error)) };
    }
  }

  /** Waits until the engine has finished every statement of this connection, then lets go of the engine. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.all(this.#running);
    await this.#gate.enter();
    try {
      if (this.#gate.generation === this.#generation) this.#root.close();
      else forget(this.#root);
      // Session.close() puts a close off while any statement runs on this thread, also one of another connection.
      await this.#chdb.drainPending();
    } finally {
      this.#gate.leave();
    }
  }

  async #insert(params: RequestParams, values: string | Readable): Promise<void> {
    const [head, format] = splitFormat(params.query);
    if (format === null)
      throw new EssError('internal', 'an INSERT with a body has to end in its FORMAT clause');
    const pieces: Uint8Array[] = [];
    if (typeof values === 'string') pieces.push(Buffer.from(values));
    else
      for await (const piece of values) pieces.push(typeof piece === 'string' ? Buffer.from(piece) : piece);
    await this.#assertRoom(pieces.reduce((sum, piece) => sum + piece.length, 0));
    const file = this.#spool.write(pieces);
    const statement = `${head}\nFROM INFILE ${quoteLiteral(file)} COMPRESSION 'none' FORMAT ${format}`;
    await this.#run(params, statement, this.#blocking, () => this.#spool.remove(file));
  }

  /** Rejects with StoreError, refused, while the disk has no room for a block of so many bytes; merges rest meanwhile. */
  async #assertRoom(bytes: number): Promise<void> {
    const { bavail, bsize } = statfsSync(this.#path);
    const isFull = bavail * bsize < spareBytes + bytes;
    if (isFull !== this.#areMergesStopped) {
      await this.#run({ query: '' }, isFull ? 'SYSTEM STOP MERGES' : 'SYSTEM START MERGES', this.#blocking);
      this.#areMergesStopped = isFull;
    }
    if (isFull)
      throw new StoreError(
        notEnoughSpace,
        'refused',
        `the disk is full that holds ${this.#path}: make room on it`,
      );
  }

  /**
   * The bytes of a result. chDB's blocking call gives its result as a C string that it does not end: it is cut at a
   * NUL inside and may have bytes of foreign memory behind it. So a blocking read goes through a file, and a statement
   * of which we cannot tell where its FORMAT clause stands does not block.
   */
  async #read(params: RequestParams): Promise<Buffer> {
    const [head, format] = splitFormat(params.query);
    if (!this.#blocking || format === null) return this.#run(params, params.query, false);
    const file = this.#spool.reserve();
    try {
      // Waited for to its end, whatever the signal says, or the file would be written after it was removed.
      await this.#start(
        params,
        `${head}\nINTO OUTFILE ${quoteLiteral(file)} FORMAT ${format}`,
        true,
        () => {},
      );
      return this.#spool.read(file);
    } finally {
      this.#spool.remove(file);
    }
  }

  /** Runs one statement as `#start` does, and rejects as soon as the caller gives up. */
  async #run(
    params: RequestParams,
    statement: string,
    isBlocking: boolean,
    afterwards: () => void = () => {},
  ): Promise<Buffer> {
    return unlessGivenUp(this.#start(params, statement, isBlocking, afterwards), params.abort_signal);
  }

  /**
   * Runs one statement in a session of its own and gives the bytes of its result, none if `isBlocking`. `afterwards`
   * is called once the engine has finished, however that goes: it cannot be interrupted.
   */
  async #start(
    params: RequestParams,
    statement: string,
    isBlocking: boolean,
    afterwards: () => void,
  ): Promise<Buffer> {
    if (this.#isClosed || params.abort_signal?.aborted === true) {
      afterwards();
      throw this.#isClosed ? new StoreError(0, 'refused', 'the embedded store is closed') : givenUp();
    }
    const answer = this.#runInside(params, statement, isBlocking);
    const finished = answer.then(afterwards, afterwards);
    this.#running.add(finished);
    void finished.then(() => this.#running.delete(finished));
    return answer;
  }

  async #runInside(params: RequestParams, statement: string, isBlocking: boolean): Promise<Buffer> {
    await this.#gate.enter();
    try {
      this.#renewRoot();
      const session = this.#newSession();
      try {
        configure(session, params);
        if (!isBlocking) return bytesOf(await session.queryAsync(statement, { format: defaultFormat }));
        session.query(statement, defaultFormat);
        return Buffer.alloc(0);
      } finally {
        session.close();
      }
    } catch (error) {
      throw engineError(error);
    } finally {
      // Not before closes that other requests of this thread had put off until now.
      setImmediate(() => this.#gate.leave());
    }
  }

  #newSession(): ChdbSession {
    return withEngineErrors(() => new this.#chdb.Session(this.#path));
  }

  /** Opens another root where a thread that has ended took the last one with it; the engine starts anew by that. */
  #renewRoot(): void {
    if (this.#gate.generation === this.#generation) return;
    forget(this.#root);
    this.#generation = this.#gate.generation;
    this.#root = this.#newSession();
  }
}

/** Drops a session whose connection is gone. To close it could close a new connection at the same address. */
function forget(session: ChdbSession): void {
  session.connection = null;
  session.close();
}

function bytesOf(result: Awaited<ReturnType<ChdbSession['queryAsync']>>): Buffer {
  const bytes = result.bytes();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A statement up to its FORMAT clause, and the format; null if the statement does not end in one. */
function splitFormat(statement: string): [head: string, format: string | null] {
  const clause = formatClause.exec(statement);
  return clause === null ? [statement, null] : [statement.slice(0, clause.index), clause[1] ?? null];
}

/** The parts of a result that an HTTP answer would have in its headers. */
function resultOf(params: RequestParams): { query_id: string; response_headers: Record<string, string> } {
  return { query_id: params.query_id ?? '', response_headers: {} };
}

/** Gives the settings and the parameters of a request to its session. */
function configure(session: ChdbSession, params: RequestParams): void {
  const parts: string[] = [];
  for (const [setting, value] of Object.entries(params.clickhouse_settings ?? {})) {
    if (value === undefined) continue;
    const text = typeof value === 'boolean' ? String(Number(value)) : String(value);
    parts.push(`${checkedName(setting)} = ${quoteLiteral(text)}`);
  }
  for (const [param, value] of Object.entries(params.query_params ?? {}))
    parts.push(`param_${checkedName(param)} = ${quoteLiteral(formatQueryParam(value))}`);
  if (parts.length === 0) return;
  const statement = `SET ${parts.join(', ')}`;
  const bytes = Buffer.byteLength(statement);
  if (bytes >= queryBytesMax) session.query(`SET max_query_size = ${bytes + 1}`);
  // On the calling thread: it takes a tenth of a millisecond, less than the way to a libuv thread and back.
  session.query(statement);
}

/** Names are the only part of SET that is not quoted. */
function checkedName(text: string): string {
  if (!settingName.test(text))
    throw new EssError('internal', `not a name of a setting or parameter: ${text}`);
  return text;
}

function withEngineErrors<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw engineError(error);
  }
}

/** chDB's errors as the client's HTTP connection would give them: with ClickHouse's number as `code`. */
function engineError(error: unknown): Error {
  return parseError(error instanceof Error ? error : String(error));
}

function givenUp(): StoreError {
  return new StoreError(0, 'unknown', 'given up before the engine had finished');
}

/** The answer, or a rejection as soon as the signal says that nobody waits for it any more. */
function unlessGivenUp(answer: Promise<Buffer>, signal: AbortSignal | undefined): Promise<Buffer> {
  if (signal === undefined) return answer;
  return new Promise((resolve, reject) => {
    const giveUp = (): void => reject(givenUp());
    signal.addEventListener('abort', giveUp, { once: true });
    answer.then(resolve, reject).finally(() => signal.removeEventListener('abort', giveUp));
  });
}
