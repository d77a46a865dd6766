// The page's WebSocket to /live: one snapshot a second, and what to do when they stop. Runs in the browser. It never
// gives up; each try waits longer than the one before, up to a bound.

import { type LiveSnapshot, snapshotFormat } from '../live/snapshot.ts';

const pauseMsMin = 500;
const pauseMsMax = 10_000;
/** Snapshots come every second: after this long without one the connection is taken for dead, ms. */
const silenceMsMax = 5_000;
/** Where the time of the last reload for another format is kept, so that two versions do not reload for ever. */
const reloadKey = 'ess-format-reload';
const reloadPauseMs = 60_000;

export type ConnectionState =
  | { readonly type: 'connecting' }
  | { readonly type: 'live' }
  | {
      readonly type: 'lost';
      /** When the last snapshot came, epoch ms of the browser; null if none has yet. */
      readonly lastMs: number | null;
      /** When the next try begins, epoch ms; null while one is under way. */
      readonly retryMs: number | null;
    }
  /** The server is of another version than this page, and reloading did not help. */
  | { readonly type: 'other_format' };

export interface ConnectionListener {
  onSnapshot(snapshot: LiveSnapshot): void;
  onState(state: ConnectionState): void;
}

export class LiveConnection {
  readonly #listener: ConnectionListener;
  #socket: WebSocket | null = null;
  #state: ConnectionState = { type: 'connecting' };
  #pauseMs = pauseMsMin;
  #lastMs: number | null = null;
  #retryTimer: number | null = null;
  #silenceTimer: number | null = null;
  /** The server's clock less the browser's, ms. */
  #skewMs = 0;

  constructor(listener: ConnectionListener) {
    this.#listener = listener;
    // What ended the connection may be over: no need to wait for the pause.
    window.addEventListener('online', () => this.retryNow());
    document.addEventListener('visibilitychange', () => {
      if (!document.hidden) this.retryNow();
    });
  }

  /** The time of day by the server's clock as far as it is known, epoch ms. */
  get nowMs(): number {
    return Date.now() + this.#skewMs;
  }

  open(): void {
    if (this.#socket !== null) return;
    this.#clearRetry();
    if (this.#state.type === 'lost') this.#setState({ ...this.#state, retryMs: null });
    const scheme = location.protocol === 'https:' ? 'wss' : 'ws';
    const socket = new WebSocket(`${scheme}://${location.host}/live`);
    this.#socket = socket;
    this.#watchSilence(socket);
    socket.addEventListener('message', ({ data }) => {
      if (this.#socket === socket) this.#receive(socket, String(data));
    });
    socket.addEventListener('close', () => {
      if (this.#socket === socket) this.#lose();
    });
  }

  /** Tries at once if it is waiting for the next try. */
  retryNow(): void {
    if (this.#retryTimer !== null) this.open();
  }

  #receive(socket: WebSocket, text: string): void {
    const snapshot = readSnapshot(text);
    if (snapshot === null) {
      this.#meetOtherFormat();
      return;
    }
    this.#watchSilence(socket);
    this.#pauseMs = pauseMsMin;
    this.#lastMs = Date.now();
    this.#skewMs = snapshot.time_ms - this.#lastMs;
    if (this.#state.type !== 'live') this.#setState({ type: 'live' });
    this.#listener.onSnapshot(snapshot);
  }

  #watchSilence(socket: WebSocket): void {
    if (this.#silenceTimer !== null) clearTimeout(this.#silenceTimer);
    this.#silenceTimer = window.setTimeout(() => {
      // A connection whose other side is gone without a word may take minutes to close.
      if (this.#socket === socket) this.#lose();
      socket.close();
    }, silenceMsMax);
  }

  #lose(): void {
    this.#socket = null;
    if (this.#silenceTimer !== null) clearTimeout(this.#silenceTimer);
    this.#silenceTimer = null;
    if (this.#state.type === 'other_format') return;
    // Up to a fifth off, so that the pages of many viewers do not all come back in one moment.
    const pauseMs = this.#pauseMs * (0.8 + 0.2 * Math.random());
    this.#pauseMs = Math.min(this.#pauseMs * 2, pauseMsMax);
    this.#retryTimer = window.setTimeout(() => this.open(), pauseMs);
    this.#setState({ type: 'lost', lastMs: this.#lastMs, retryMs: Date.now() + pauseMs });
  }

  #meetOtherFormat(): void {
    const socket = this.#socket;
    this.#setState({ type: 'other_format' });
    this.#lose();
    socket?.close();
    const last = Number(sessionStorage.getItem(reloadKey) ?? 0);
    if (Date.now() - last < reloadPauseMs) return;
    sessionStorage.setItem(reloadKey, String(Date.now()));
    location.reload();
  }

  #clearRetry(): void {
    if (this.#retryTimer !== null) clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
  }

  #setState(state: ConnectionState): void {
    this.#state = state;
    this.#listener.onState(state);
  }
}

/** Null if it is of another format than this page. */
function readSnapshot(text: string): LiveSnapshot | null {
  const value: unknown = JSON.parse(text);
  return isSnapshot(value) ? value : null;
}

function isSnapshot(value: unknown): value is LiveSnapshot {
  return typeof value === 'object' && value !== null && 'format' in value && value.format === snapshotFormat;
}
