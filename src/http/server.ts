// The HTTP server: uWebSockets.js on the main thread, and which path goes where. Nothing here waits or computes;
// reads run in the reader pool, events in the producer workers.

import uws, {
  type HttpRequest,
  type HttpResponse,
  type us_listen_socket,
  type us_socket,
} from 'uWebSockets.js';
import { type ErrorCode, EssError, errorKinds, problemJson } from '../errors.ts';
import { problemType, sendHead, sendLarge, sendProblem } from './answer.ts';
import { type CommandRoute, takeCommand } from './command_route.ts';
import type { EventsRoute } from './events_route.ts';
import type { LiveRoute } from './live_route.ts';

/** What a GET gets; the same shape wherever it is made. */
export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string | Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
}

/** A GET or HEAD request, copied out of uWebSockets.js before its request object dies. */
export interface GetRequest {
  readonly path: string;
  readonly query: string;
  readonly accept: string;
  /** The If-None-Match header; empty without one. */
  readonly ifNoneMatch: string;
}

/**
 * Answers GET requests of one path, and HEAD, of which the body is left out. `client` aborts when the client goes away:
 * for handlers whose work nobody should do then.
 */
export type GetHandler = (request: GetRequest, client: AbortSignal) => Promise<Answer>;

export interface ServerOptions {
  readonly host: string;
  readonly port: number;
  /** POST /events; null where this role takes no events. */
  readonly events: EventsRoute | null;
  /** By path; `/events/` stands for everything below it. */
  readonly gets: ReadonlyMap<string, GetHandler>;
  /** By path. */
  readonly commands: ReadonlyMap<string, CommandRoute>;
  readonly live: LiveRoute;
}

export interface RunningServer {
  /** The port that was bound. */
  readonly port: number;
  /** Stops listening and closes every connection at once; open answers must have been written before. */
  close(): void;
}

type ListenExclusively = (
  host: string,
  port: number,
  options: number,
  onListen: (token: us_listen_socket | false) => void,
) => void;

/** LIBUS_LISTEN_EXCLUSIVE_PORT: without it a second process could bind the same port and take half of the connections. */
const exclusivePort = 1;

/** Starts to listen. Rejects with `bad_option` if the address cannot be bound. */
export function startServer(options: ServerOptions): Promise<RunningServer> {
  const app = uws.App();
  const { events } = options;
  const post = (response: HttpResponse, request: HttpRequest): void => {
    if (events !== null) events.handle(response, request);
    else sendProblem(response, 'not_found', 'this role takes no events: send them to an ingest role');
  };
  options.live.attach(app);
  app.post('/events', post);
  app.post('/events/', post);
  for (const [path, route] of options.commands)
    app.post(path, (response, request) => takeCommand(route, response, request));
  app.any('/*', (response, request) => dispatch(options, response, request));
  return new Promise((resolve, reject) => {
    const onListen = (token: us_listen_socket | false): void => {
      if (token === false) {
        reject(
          new EssError(
            'bad_option',
            `cannot listen on ${options.host}:${options.port}: it is in use or not ours`,
          ),
        );
        return;
      }
      // us_listen_socket and us_socket are unrelated types in index.d.ts, but one and the same at run time.
      const port = uws.us_socket_local_port(token as unknown as us_socket);
      resolve({ port, close: () => void app.close() });
    };
    // index.d.ts does not know listen(host, port, options, callback), which the binding has.
    const listen = app.listen as unknown as ListenExclusively;
    listen.call(app, options.host, options.port, exclusivePort, onListen);
  });
}

function dispatch(options: ServerOptions, response: HttpResponse, request: HttpRequest): void {
  const path = request.getUrl();
  const method = request.getMethod();
  const handler =
    options.gets.get(path) ?? (path.startsWith('/events/') ? options.gets.get('/events/') : undefined);
  const isEvents = path === '/events' || path === '/events/';
  const client = new AbortController();
  let isGone = false;
  response.onAborted(() => {
    isGone = true;
    client.abort();
  });
  const send = ({ status, contentType, body, headers = {} }: Answer): void => {
    if (isGone) return;
    const bytes = typeof body === 'string' ? Buffer.from(body) : body;
    // 304 has the length that 200 would have, and no body either.
    if (method === 'head' || status === 304) sendHead(response, status, contentType, bytes.length, headers);
    else sendLarge(response, status, contentType, bytes, headers, () => isGone);
  };
  const isCommand = options.commands.has(path);
  if (handler === undefined && !isEvents && !isCommand) {
    send(problemAnswer('not_found', `there is no ${path}`));
    return;
  }
  if ((method !== 'get' && method !== 'head') || handler === undefined) {
    const methods = [
      ...(handler === undefined ? [] : ['GET', 'HEAD']),
      ...(isEvents || isCommand ? ['POST'] : []),
    ];
    const allow = methods.join(', ');
    send(problemAnswer('method_not_allowed', `${path} takes ${allow}`, { allow }));
    return;
  }
  const get = {
    path,
    query: request.getQuery() ?? '',
    accept: request.getHeader('accept'),
    ifNoneMatch: request.getHeader('if-none-match'),
  };
  handler(get, client.signal).then(send, (error: unknown) => {
    const code = error instanceof EssError ? error.code : 'internal';
    const detail = error instanceof Error ? error.message : String(error);
    const isBusy = error instanceof EssError && error.canRetry;
    send(problemAnswer(code, detail, isBusy ? { 'retry-after': '1' } : {}));
  });
}

function problemAnswer(
  code: ErrorCode,
  detail: string,
  headers: Readonly<Record<string, string>> = {},
): Answer {
  return {
    status: errorKinds[code].status,
    contentType: problemType,
    body: problemJson(code, detail),
    headers,
  };
}
