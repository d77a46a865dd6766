// One TCP connection to the service, with every byte in the test's hand: what fetch would never send, or would hide.

import { once } from 'node:events';
import net from 'node:net';

/** An answer as it came over the wire. */
export interface RawAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** How long an answer may take on a slow, busy machine, ms. */
const patienceMs = 60_000;

/** The bytes of a request; with a body, also its length. */
export function requestText(
  method: string,
  path: string,
  body: string | null = null,
  headers: Readonly<Record<string, string>> = {},
): string {
  const all: Record<string, string> = { host: 'test', ...headers };
  if (body !== null) {
    all['content-type'] ??= 'application/json';
    all['content-length'] ??= String(Buffer.byteLength(body));
  }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n${body ?? ''}`;
}

export class Connection {
  readonly socket: net.Socket;
  #received = Buffer.alloc(0);
  #isEnded = false;
  #onChange: () => void = () => {};

  private constructor(socket: net.Socket) {
    this.socket = socket;
    socket.on('data', (chunk) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#onChange();
    });
    // A connection that the service cuts is an outcome to look at, not a failure of the test.
    socket.on('error', () => {});
    socket.on('close', () => {
      this.#isEnded = true;
      this.#onChange();
    });
  }

  /** Connects to http://host:port. */
  static async open(url: string): Promise<Connection> {
    const { hostname, port } = new URL(url);
    const socket = net.connect({ host: hostname, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    return new Connection(socket);
  }

  /** True when the service has closed the connection, or the test has. */
  get isEnded(): boolean {
    return this.#isEnded || this.socket.destroyed;
  }

  send(bytes: string | Uint8Array): void {
    this.socket.write(bytes);
  }

  /** Cuts the connection at once. */
  destroy(): void {
    this.socket.destroy();
  }

  /** Settles when the connection is closed. */
  async ended(): Promise<void> {
    await this.#until(() => this.#isEnded);
  }

  /** The next answer, or null if the connection is closed before it is whole. An answer to HEAD has no body. */
  async answer(hasBody = true): Promise<RawAnswer | null> {
    let found = parseAnswer(this.#received, hasBody);
    await this.#until(() => {
      found = parseAnswer(this.#received, hasBody);
      return found !== null || this.#isEnded;
    });
    if (found === null) return null;
    this.#received = this.#received.subarray(found.bytes);
    return found.answer;
  }

  /** Bytes that came and were not read as an answer yet. */
  get unread(): string {
    return this.#received.toString('latin1');
  }

  async #until(holds: () => boolean): Promise<void> {
    if (holds()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new Error(`nothing came within ${patienceMs} ms; so far: ${JSON.stringify(this.unread)}`));
      }, patienceMs);
      this.#onChange = () => {
        if (!holds()) return;
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

function parseAnswer(
  received: Buffer,
  hasBody: boolean,
): { readonly answer: RawAnswer; readonly bytes: number } | null {
  const headEnd = received.indexOf('\r\n\r\n');
  if (headEnd < 0) return null;
  const [statusLine = '', ...headerLines] = received.toString('latin1', 0, headEnd).split('\r\n');
  const status = Number(statusLine.split(' ')[1]);
  const headers: Record<string, string> = {};
  for (const line of headerLines) {
    const colon = line.indexOf(':');
    headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const bodyStart = headEnd + 4;
  if (status === 100 || !hasBody) return { answer: { status, headers, body: '' }, bytes: bodyStart };
  const length = headers['content-length'];
  // uWebSockets.js ends its own refusals by closing the connection.
  const bodyEnd = length === undefined ? received.length : bodyStart + Number(length);
  if (received.length < bodyEnd) return null;
  return { answer: { status, headers, body: received.toString('utf8', bodyStart, bodyEnd) }, bytes: bodyEnd };
}

/** Sends one request on a connection of its own and gives the answer; null if the connection was cut instead. */
export async function exchange(url: string, bytes: string | Uint8Array): Promise<RawAnswer | null> {
  const connection = await Connection.open(url);
  connection.send(bytes);
  const answer = await connection.answer();
  connection.destroy();
  return answer;
}
