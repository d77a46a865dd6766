// A viewer of /live for tests and benches: the little of RFC 6455 that a reader needs. Node.js 20 has no WebSocket of its
// own, and a client that can hold its breath (`pause`) is wanted too.

import { randomBytes } from 'node:crypto';
import { request } from 'node:http';
import type { Socket } from 'node:net';
import type { LiveSnapshot } from '../../src/live/snapshot.ts';

const opcodes = { text: 1, close: 8, ping: 9, pong: 10 } as const;

/** The answer of a server that did not let it in. */
export class Refused extends Error {
  readonly status: number;

  constructor(status: number) {
    super(`refused with ${status}`);
    this.status = status;
  }
}

export class LiveViewer {
  /** In the order of their arrival. */
  readonly snapshots: LiveSnapshot[] = [];
  /** Of each snapshot, epoch ms. */
  readonly arrivedMs: number[] = [];
  /** The server's close code; null while it is open, -1 if the connection ended without one. */
  closeCode: number | null = null;
  readonly #socket: Socket;
  #bytes: Buffer;
  #onChange: () => void = () => {};

  private constructor(socket: Socket, head: Buffer) {
    this.#socket = socket;
    this.#bytes = head;
    socket.on('data', (chunk: Buffer) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#read();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closeCode ??= -1;
      this.#onChange();
    });
    this.#read();
  }

  /** `url`: of the service. Rejects with Refused. */
  static open(url: string, headers: Readonly<Record<string, string>> = {}): Promise<LiveViewer> {
    return new Promise((resolve, reject) => {
      const asking = request(`${url}/live`, {
        agent: false,
        headers: {
          connection: 'Upgrade',
          upgrade: 'websocket',
          'sec-websocket-version': '13',
          'sec-websocket-key': randomBytes(16).toString('base64'),
          ...headers,
        },
      });
      asking.on('upgrade', (_response, socket, head) => resolve(new LiveViewer(socket as Socket, head)));
      asking.on('response', (response) => {
        response.resume();
        reject(new Refused(response.statusCode ?? 0));
      });
      asking.on('error', reject);
      asking.end();
    });
  }

  /** Settles with the snapshot that is the first to pass, of those that came and those to come. */
  async until(isIt: (snapshot: LiveSnapshot) => boolean, waitMs = 60_000): Promise<LiveSnapshot> {
    const untilMs = Date.now() + waitMs;
    for (let next = 0; ; ) {
      for (; next < this.snapshots.length; next += 1) {
        const snapshot = this.snapshots[next];
        if (snapshot !== undefined && isIt(snapshot)) return snapshot;
      }
      if (this.closeCode !== null) throw new Error(`closed with ${this.closeCode}`);
      if (Date.now() > untilMs) {
        throw new Error(`not seen: ${JSON.stringify(this.snapshots.at(-1))?.slice(0, 4000)}`);
      }
      await this.#change(untilMs - Date.now());
    }
  }

  /** Forgets what came, so that `until` looks at what comes from now on. */
  forget(): void {
    this.snapshots.length = 0;
    this.arrivedMs.length = 0;
  }

  /** Settles with the close code. */
  async closed(waitMs = 60_000): Promise<number> {
    const untilMs = Date.now() + waitMs;
    while (this.closeCode === null) {
      if (Date.now() > untilMs) throw new Error('still open');
      await this.#change(untilMs - Date.now());
    }
    return this.closeCode;
  }

  /** Sends a text as a client does: masked, with a mask of zeros. */
  send(text: string): void {
    this.#socket.write(frame(opcodes.text, Buffer.from(text)));
  }

  /** Ends the connection without a word. */
  drop(): void {
    this.#socket.destroy();
  }

  #change(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, Math.max(1, ms));
      this.#onChange = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #read(): void {
    for (;;) {
      const bytes = this.#bytes;
      if (bytes.length < 2) return;
      const opcode = bytes.readUInt8(0) & 0x0f;
      const short = bytes.readUInt8(1) & 0x7f;
      const start = short === 126 ? 4 : short === 127 ? 10 : 2;
      if (bytes.length < start) return;
      let length = short;
      if (short === 126) length = bytes.readUInt16BE(2);
      else if (short === 127) length = Number(bytes.readBigUInt64BE(2));
      if (bytes.length < start + length) return;
      const payload = bytes.subarray(start, start + length);
      this.#bytes = bytes.subarray(start + length);
      this.#take(opcode, payload);
    }
  }

  #take(opcode: number, payload: Buffer): void {
    if (opcode === opcodes.ping) this.#socket.write(frame(opcodes.pong, payload));
    else if (opcode === opcodes.close) this.closeCode = payload.length < 2 ? -1 : payload.readUInt16BE(0);
    else if (opcode === opcodes.text) {
      this.snapshots.push(JSON.parse(payload.toString()) as LiveSnapshot);
      this.arrivedMs.push(Date.now());
    }
    this.#onChange();
  }
}

function frame(opcode: number, payload: Buffer): Buffer {
  const isLong = payload.length > 125;
  const head = Buffer.alloc(isLong ? 8 : 6);
  head.writeUInt8(0x80 | opcode, 0);
  head.writeUInt8(0x80 | (isLong ? 126 : payload.length), 1);
  if (isLong) head.writeUInt16BE(payload.length, 2);
  return Buffer.concat([head, payload]);
}
