// Stands in for the service in the tests of `ess send`: speaks the contract of POST /events/, remembers what it got,
// and fails in the ways that a test asks for. The real service is sent to in test/e2e.

import { createServer, type IncomingHttpHeaders, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gunzipSync } from 'node:zlib';

export interface ReceivedRequest {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  readonly events: readonly Record<string, unknown>[];
  /** Number of the request, from 0. */
  readonly number: number;
}

export type Reply =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>>; readonly body: unknown }
  /** The connection is cut without an answer. */
  | 'reset'
  /** Accepts everything. */
  | 'accept'
  /** Stores everything, and cuts the connection before the answer. */
  | 'accept and reset';

export interface ServiceDouble {
  readonly url: string;
  readonly port: number;
  readonly requests: readonly ReceivedRequest[];
  /** Accepted events by id, in the order in which they came; a repeated id counts once, as it does in ESS. */
  readonly stored: ReadonlyMap<string, Record<string, unknown>>;
  /** Most requests that were open at once. */
  readonly openMax: number;
  close(): Promise<void>;
}

/** Starts a double on 127.0.0.1; `reply` decides on each request. */
export async function startService(
  reply: (request: ReceivedRequest) => Reply | Promise<Reply> = () => 'accept',
  port = 0,
): Promise<ServiceDouble> {
  const requests: ReceivedRequest[] = [];
  const stored = new Map<string, Record<string, unknown>>();
  let open = 0;
  let openMax = 0;
  const accept = (events: readonly Record<string, unknown>[]): void => {
    for (const event of events) {
      const id = String(event['id']);
      if (!stored.has(id)) stored.set(id, event);
    }
  };
  const server = createServer((incoming, response) => {
    const chunks: Buffer[] = [];
    open += 1;
    openMax = Math.max(openMax, open);
    response.on('close', () => {
      open -= 1;
    });
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk));
    incoming.on('end', async () => {
      const bytes = Buffer.concat(chunks);
      const text = (incoming.headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes).toString();
      const url = new URL(incoming.url ?? '', 'http://double');
      const request: ReceivedRequest = {
        path: url.pathname,
        query: url.searchParams,
        headers: incoming.headers,
        text,
        events: text
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line)),
        number: requests.length,
      };
      requests.push(request);
      const decided = await reply(request);
      if (decided === 'reset' || decided === 'accept and reset') {
        if (decided !== 'reset') accept(request.events);
        incoming.socket.destroy();
      } else if (decided === 'accept') {
        accept(request.events);
        answer(response, 200, { accepted: request.events.length, rejected: 0, errors: [] });
      } else {
        const rejected = rejectedIndexes(decided.body);
        if (rejected !== null) accept(request.events.filter((_, i) => !rejected.has(i)));
        answer(response, decided.status, decided.body, decided.headers);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const address = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    requests,
    stored,
    get openMax() {
      return openMax;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answer(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(typeof body === 'string' ? body : JSON.stringify(body));
}

/** The rejected indexes of a body in the contract's shape; null for any other body, with which nothing is stored. */
function rejectedIndexes(body: unknown): Set<number> | null {
  if (typeof body !== 'object' || body === null || !('accepted' in body) || !('errors' in body)) return null;
  return new Set((body.errors as { index: number }[]).map(({ index }) => index));
}

/** The contract's body for a batch of `count` of which these were rejected. */
export function partial(count: number, errors: readonly { index: number; code: string }[]): Reply {
  const accepted = count - errors.length;
  return {
    status: accepted > 0 ? 200 : 422,
    body: {
      accepted,
      rejected: errors.length,
      errors: errors.map((error) => ({ ...error, message: `no. ${error.index}` })),
    },
  };
}

/** A problem+json answer. */
export function problem(status: number, code: string, headers: Readonly<Record<string, string>> = {}): Reply {
  return {
    status,
    headers: { 'content-type': 'application/problem+json', ...headers },
    body: { type: `urn:ess:error:${code}`, title: code, status, code, detail: code },
  };
}
