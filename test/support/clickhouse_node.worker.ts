// Entry of the process behind clickhouse_node.ts: ClickHouse's HTTP interface over chDB, one port for each replica, all
// over one engine. What it takes and answers follows src/Server/HTTPHandler.cpp: settings, database and parameters in
// the URL or as multipart fields, authentication by headers or URL, compressed bodies, errors with their number.
//
// It is not ClickHouse in these points:
//   - The replicas of a node share their data and their deduplication window at once; nothing is ever behind.
//   - With `isReplicated` it pretends that tables are replicated, since chDB cannot replicate. CREATE TABLE with
//     ReplicatedReplacingMergeTree('path', 'replica', version) makes a ReplacingMergeTree(version) whose own window is
//     as long as the replicated one; its path is kept in the table's comment. system.tables shows the engine as it was
//     asked for, system.replicas says what the test has set, and getMacro knows `shard` and `replica`.
//   - A query goes on when its client has gone away.

import { randomUUID } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { brotliDecompress, gunzip, gzip, inflate } from 'node:zlib';
import { Session } from 'chdb';
import { quoteIdentifier, quoteLiteral } from '../../src/store/query_params.ts';
import type {
  Fault,
  NodeMessage,
  NodeOrders,
  NodeRequest,
  ReceivedInsert,
  ReplicaState,
} from './clickhouse_node.ts';

// Only clickhouse_node.ts starts this file.
const orders = JSON.parse(process.argv[2] ?? '') as NodeOrders;

/** URL parameters that the HTTP interface of a real server takes for itself; all others are settings. */
const ownParameters: ReadonlySet<string> = new Set([
  'query',
  'query_id',
  'database',
  'default_format',
  'session_id',
  'session_timeout',
  'session_check',
  'role',
  'user',
  'password',
  'quota_key',
  'compress',
  'decompress',
  'wait_end_of_query',
  'buffer_size',
  'stacktrace',
  'client_protocol_version',
]);

/** HTTP status by error number, as in ClickHouse's exceptionCodeToHTTPStatus.cpp; all others are 500. */
const statuses: Readonly<Record<number, readonly number[]>> = {
  400: [
    6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 441, 675,
    676,
  ],
  401: [194],
  403: [192, 193, 497, 512, 516],
  404: [46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511],
  408: [159],
  411: [381],
  413: [229],
  415: [779],
  501: [48],
  503: [76, 209, 439],
};

/** The engine's default of max_query_size, bytes. */
const queryBytesMax = 262_144;

/** Where ports are looked for: below the range from which systems take the ports of outgoing connections. */
const ports = { first: 20_000, count: 12_000 } as const;

const decoders: Readonly<Record<string, (body: Buffer) => Promise<Buffer>>> = {
  gzip: promisify<Buffer, Buffer>(gunzip),
  deflate: promisify<Buffer, Buffer>(inflate),
  br: promisify<Buffer, Buffer>(brotliDecompress),
};
const compress = promisify<Buffer, Buffer>(gzip);

/** An error as a server writes it. */
class NodeFailure extends Error {
  constructor(code: number, name: string, text: string) {
    super(`Code: ${code}. DB::Exception: ${text}. (${name})`);
  }
}

interface Answer {
  readonly bytes: Buffer;
  readonly format: string;
  readonly rows: number;
}

// ---- the engine -----------------------------------------------------------------------------------------------

mkdirSync(orders.path, { recursive: true });
mkdirSync(orders.spool, { recursive: true });
/** Keeps the engine up between requests, each of which has a session of its own. */
const root = new Session(orders.path);
const knownSettings: ReadonlySet<string> = new Set(
  root.query('SELECT name FROM system.settings', 'TabSeparated').trim().split('\n'),
);
const version = root.query('SELECT version()', 'TabSeparated').trim();

/** Runs one statement with the settings, parameters and database of its request. */
async function execute(sql: string, url: URLSearchParams, format: string, isReadonly: boolean) {
  const parts: string[] = [];
  for (const [name, value] of url) {
    if (ownParameters.has(name)) continue;
    if (!name.startsWith('param_') && !knownSettings.has(name))
      throw new NodeFailure(115, 'UNKNOWN_SETTING', `Unknown setting '${name}'`);
    parts.push(`${name} = ${quoteLiteral(value)}`);
  }
  if (isReadonly) parts.push('readonly = 2');
  const session = new Session(orders.path);
  try {
    const database = url.get('database') ?? '';
    if (database !== '') session.query(`USE ${quoteIdentifier(database)}`);
    const settings = `SET ${parts.join(', ')}`;
    const settingsBytes = Buffer.byteLength(settings);
    if (settingsBytes >= queryBytesMax) session.query(`SET max_query_size = ${settingsBytes + 1}`);
    if (parts.length > 0) session.query(settings);
    const result = await session.queryAsync(sql, { format });
    return { bytes: Buffer.from(result.bytes()), rows: result.rowsRead };
  } finally {
    session.close();
  }
}

// ---- the pretence ---------------------------------------------------------------------------------------------

const replicatedEngine =
  /\bReplicatedReplacingMergeTree\(\s*'((?:[^'\\]|\\.)*)'\s*,\s*'((?:[^'\\]|\\.)*)'\s*,\s*(\w+)\s*\)/;
const replicatedWindow = /\breplicated_deduplication_window\s*=\s*(\d+)/;
/** Begins the comment of a table that was asked for as replicated; the path follows. */
const commentMark = 'replicated ';

/** A statement as chDB has to be given it. */
function pretend(sql: string, replica: number, state: ReplicaState): string {
  if (!orders.isReplicated) return sql;
  const engine = replicatedEngine.exec(sql);
  if (engine !== null) {
    const [call, path = '', , versionColumn = ''] = engine;
    const window = replicatedWindow.exec(sql)?.[1] ?? '0';
    return `${sql.replace(call, `ReplacingMergeTree(${versionColumn})`)},
      non_replicated_deduplication_window = ${window} COMMENT '${commentMark}${path}'`;
  }
  const name = quoteLiteral(`r${replica + 1}`);
  return sql
    .replaceAll("getMacro('shard')", quoteLiteral(orders.shard))
    .replaceAll("getMacro('replica')", name)
    .replaceAll('system.tables', tablesAsAskedFor)
    .replaceAll('system.replicas', replicasOf(name, state));
}

const isMarked = `startsWith(comment, ${quoteLiteral(commentMark)})`;
const pathOf = `substring(comment, ${commentMark.length + 1})`;

const tablesAsAskedFor = `(SELECT * REPLACE (if(${isMarked},
    replaceOne(engine_full, 'ReplacingMergeTree(',
      concat('ReplicatedReplacingMergeTree(\\'', ${pathOf}, '\\', \\'{replica}\\', ')),
    engine_full) AS engine_full)
  FROM system.tables)`;

function replicasOf(name: string, state: ReplicaState): string {
  const { absoluteDelay, insertsInQueue, isReadonly } = state;
  const path = `replaceAll(replaceAll(${pathOf}, '{shard}', ${quoteLiteral(orders.shard)}), '{database}', database)`;
  return `(SELECT database, name AS table, ${Number(isReadonly)} AS is_readonly, ${Number(isReadonly)} AS is_session_expired,
      ${absoluteDelay} AS absolute_delay, ${insertsInQueue} AS inserts_in_queue, 0 AS log_max_index, 0 AS log_pointer,
      ${quoteLiteral(isReadonly ? 'Session expired' : '')} AS zookeeper_exception, ${path} AS zookeeper_path,
      ${name} AS replica_name
    FROM system.tables WHERE ${isMarked})`;
}

// ---- HTTP -----------------------------------------------------------------------------------------------------

class Replica {
  readonly #index: number;
  readonly #server: Server;
  #port = 0;
  #fault: Fault = 'none';
  /** INSERTs that the fault still strikes; null: it strikes every request. */
  #inserts: number | null = null;
  #state: ReplicaState = { absoluteDelay: 0, insertsInQueue: 0, isReadonly: false };
  readonly received: { table: string; token: string; isDone: boolean }[] = [];

  constructor(index: number) {
    this.#index = index;
    // A client that has gone away in the middle of its request needs no answer.
    this.#server = createServer((request, response) => void this.#answer(request, response).catch(() => {}));
    this.#server.keepAliveTimeout = 10_000;
  }

  /** Listens on the port, or on a free one if it is 0; gives the port. */
  async listen(port: number): Promise<number> {
    for (;;) {
      const tried = port === 0 ? ports.first + Math.floor(Math.random() * ports.count) : port;
      try {
        await new Promise<void>((resolve, reject) => {
          this.#server.once('error', reject);
          this.#server.listen(tried, orders.host, () => {
            this.#server.removeListener('error', reject);
            resolve();
          });
        });
        this.#port = tried;
        return tried;
      } catch (error) {
        if (port !== 0) throw error;
      }
    }
  }

  async setFault(fault: Fault, inserts: number | null): Promise<void> {
    const wasDown = this.#fault === 'down';
    this.#fault = fault;
    this.#inserts = inserts;
    if (fault === 'down' && !wasDown) {
      const closed = new Promise((resolve) => this.#server.close(resolve));
      this.#server.closeAllConnections();
      await closed;
    }
    if (fault !== 'down' && wasDown) await this.listen(this.#port);
  }

  setState(state: ReplicaState): void {
    this.#state = state;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams: url } = new URL(request.url ?? '', 'http://node');
    const body = await bodyOf(request);
    const isInsert = insertOf(url.get('query') ?? '') !== null;
    const insert = isInsert ? this.#note(url) : null;
    const fault = this.#strike(isInsert);
    if (fault === 'drop_before') {
      request.socket.destroy();
      return;
    }
    if (fault === 'hang') return;
    if (typeof fault === 'object' && 'delay' in fault) await sleep(fault.delay);
    const headers = {
      'Content-Type': 'text/plain; charset=UTF-8',
      'X-ClickHouse-Server-Display-Name': `node-${this.#port}`,
      'X-ClickHouse-Query-Id': url.get('query_id') ?? randomUUID(),
      'X-ClickHouse-Timezone': 'UTC',
    };
    if (pathname === '/ping') {
      response.writeHead(200, headers).end('Ok.\n');
      return;
    }
    try {
      if (typeof fault === 'object' && 'reject' in fault)
        throw new NodeFailure(fault.reject, 'REFUSED_ON_PURPOSE', 'Refused on purpose');
      const answer = await this.#run(request, url, body);
      if (insert !== null) insert.isDone = true;
      if (fault === 'drop_after' || fault === 'drop_success') {
        request.socket.destroy();
        return;
      }
      const isZipped =
        url.get('enable_http_compression') === '1' &&
        /\bgzip\b/.test(String(request.headers['accept-encoding'] ?? '')) &&
        answer.bytes.length > 0;
      const summary = { read_rows: String(answer.rows), written_rows: isInsert ? String(answer.rows) : '0' };
      response.writeHead(200, {
        ...headers,
        'X-ClickHouse-Format': answer.format,
        'X-ClickHouse-Summary': JSON.stringify(summary),
        ...(isZipped && { 'Content-Encoding': 'gzip' }),
      });
      response.end(isZipped ? await compress(answer.bytes) : answer.bytes);
    } catch (error) {
      if (fault === 'drop_after') {
        request.socket.destroy();
        return;
      }
      const text = error instanceof Error ? error.message.trim() : String(error);
      const code = Number(/Code: (\d+)/.exec(text)?.[1] ?? 1002);
      const status = Object.entries(statuses).find(([, codes]) => codes.includes(code))?.[0] ?? 500;
      response.writeHead(Number(status), { ...headers, 'X-ClickHouse-Exception-Code': code });
      response.end(`${text} (version ${version} (official build))\n`);
    }
  }

  /** The fault that strikes a request, if one does. */
  #strike(isInsert: boolean): Fault {
    if (this.#inserts === null) return this.#fault;
    if (!isInsert || this.#inserts === 0) return 'none';
    this.#inserts -= 1;
    return this.#fault;
  }

  #note(url: URLSearchParams): { isDone: boolean } {
    const table = /INTO\s+`?(\w+)/i.exec(url.get('query') ?? '')?.[1] ?? '';
    const insert = { table, token: url.get('insert_deduplication_token') ?? '', isDone: false };
    this.received.push(insert);
    return insert;
  }

  async #run(request: IncomingMessage, url: URLSearchParams, raw: Buffer): Promise<Answer> {
    authenticate(request, url);
    let body = await decoded(raw, request.headers['content-encoding'] ?? 'identity');
    const type = request.headers['content-type'] ?? '';
    if (type.startsWith('multipart/form-data')) {
      const fields = await new Response(body, { headers: { 'content-type': type } }).formData();
      for (const [name, value] of fields) url.set(name, String(value));
      body = Buffer.alloc(0);
    }
    const query = url.get('query') ?? '';
    const format =
      url.get('default_format') ?? String(request.headers['x-clickhouse-format'] ?? 'TabSeparated');
    const insert = insertOf(query);
    if (insert === null) {
      const sql = [query, body.toString()].filter((part) => part !== '').join('\n');
      const pretended = pretend(sql, this.#index, this.#state);
      return { ...(await execute(pretended, url, format, request.method === 'GET')), format };
    }
    // A server takes an INSERT without data for one of no rows.
    if (body.length === 0) return { bytes: body, format, rows: 0 };
    // Data that stands in the statement itself would be cut at the first blank line.
    const file = `${orders.spool}/${randomUUID()}`;
    try {
      await writeFile(file, body);
      const sql = `${insert.head}\nFROM INFILE ${quoteLiteral(file)} COMPRESSION 'none' FORMAT ${insert.format}`;
      return { ...(await execute(sql, url, format, request.method === 'GET')), format };
    } finally {
      await rm(file, { force: true });
    }
  }
}

/** An INSERT whose data follow in the body: what stands before its FORMAT clause, and the format. */
function insertOf(query: string): { readonly head: string; readonly format: string } | null {
  const clause = /^\s*INSERT\s+INTO\s.*(\sFORMAT\s+(\w+)\s*;?\s*)$/is.exec(query);
  if (clause === null) return null;
  const [, end = '', format = ''] = clause;
  return { head: query.slice(0, -end.length), format };
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function decoded(body: Buffer, encoding: string): Promise<Buffer> {
  if (encoding === 'identity') return body;
  const decode = decoders[encoding];
  if (decode === undefined)
    throw new NodeFailure(48, 'NOT_IMPLEMENTED', `Unknown compression method: ${encoding}`);
  return decode(body);
}

function authenticate(request: IncomingMessage, url: URLSearchParams): void {
  const basic = /^Basic (.+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const given =
    basic === undefined
      ? [
          request.headers['x-clickhouse-user'] ?? url.get('user') ?? 'default',
          request.headers['x-clickhouse-key'] ?? url.get('password') ?? '',
        ]
      : Buffer.from(basic, 'base64').toString().split(/:(.*)/s);
  const [user = '', password = ''] = given;
  if (user === orders.user && password === orders.password) return;
  throw new NodeFailure(
    516,
    'AUTHENTICATION_FAILED',
    `${user}: Authentication failed: password is incorrect, or there is no user with such name`,
  );
}

// ---- the process ----------------------------------------------------------------------------------------------

function send(message: NodeMessage): void {
  process.send?.(message);
}

const replicas = orders.ports.map((_port, index) => new Replica(index));

// Where the kernel does not end it with its parent, the closed channel does.
process.on('disconnect', () => process.exit());
process.on('message', async (request: NodeRequest) => {
  const replica = replicas[request.replica];
  let inserts: readonly ReceivedInsert[] = [];
  if (request.type === 'fault') await replica?.setFault(request.fault, request.inserts);
  else if (request.type === 'state') replica?.setState(request.state);
  else inserts = replica?.received ?? [];
  send({ type: 'done', id: request.id, inserts });
});

const listening = await Promise.all(replicas.map((replica, i) => replica.listen(orders.ports[i] ?? 0)));
send({ type: 'ready', ports: listening });
