// GET /live: the WebSocket over which the page is told, once a second, how the service is. One text for all viewers, and
// nothing at all while there is none. Only pages of this very host may listen; what viewers send is not looked at.
// Main thread only.

import uws, {
  type HttpRequest,
  type HttpResponse,
  type TemplatedApp,
  type us_socket_context_t,
  type WebSocket,
} from 'uWebSockets.js';
import { type ErrorCode, errorKinds } from '../errors.ts';
import { viewerBacklogBytesMax, viewersMax } from '../live/bounds.ts';
import type { EngineCounters } from '../stats/counters.ts';
import { sendProblem } from './answer.ts';
import { isSameHost } from './same_host.ts';

export const livePath = '/live';

/** uWebSockets.js's name for what every viewer is subscribed to. */
const topic = 'live';
/** Viewers have nothing to say: a longer message ends the connection. Bytes. */
const messageBytesMax = 1024;
/** A viewer that does not even answer pings is let go after this, s. */
const idleTimeoutS = 60;
/** WebSocket's close code for a server that goes away (RFC 6455, 7.4.1). */
const goingAway = 1001;

/** Where snapshots come from. */
export interface LiveSource {
  /** Begins to publish: the first viewer is there. */
  start(publish: (text: string) => void): void;
  /** Ends it: the last viewer has gone. */
  stop(): void;
  /** The latest snapshot, if it is still good for a viewer who comes now; null if another one follows in a moment. */
  latest(): string | null;
}

export class LiveRoute {
  readonly #source: LiveSource;
  readonly #counters: EngineCounters;
  readonly #viewers = new Set<WebSocket<unknown>>();
  #app: TemplatedApp | null = null;
  #isClosed = false;

  constructor(source: LiveSource, counters: EngineCounters) {
    this.#source = source;
    this.#counters = counters;
  }

  attach(app: TemplatedApp): void {
    this.#app = app;
    app.ws<unknown>(livePath, {
      compression: uws.DISABLED,
      maxPayloadLength: messageBytesMax,
      maxBackpressure: viewerBacklogBytesMax,
      closeOnBackpressureLimit: 1,
      idleTimeout: idleTimeoutS,
      sendPingsAutomatically: true,
      upgrade: (response, request, context) => this.#upgrade(response, request, context),
      open: (viewer) => this.#open(viewer),
      close: (viewer) => this.#left(viewer),
    });
  }

  /** Sends every viewer away, and lets nobody in any more. */
  close(): void {
    this.#isClosed = true;
    for (const viewer of [...this.#viewers]) viewer.end(goingAway, 'this process is stopping');
  }

  #upgrade(response: HttpResponse, request: HttpRequest, context: us_socket_context_t): void {
    const refuse = (code: ErrorCode, detail: string): void => {
      this.#counters.add('live_viewers_rejected');
      const headers: Record<string, string> = errorKinds[code].canRetry ? { 'retry-after': '5' } : {};
      sendProblem(response, code, detail, { headers });
    };
    const origin = request.getHeader('origin');
    const host = request.getHeader('host');
    if (this.#isClosed) refuse('stopping', 'this process is stopping');
    else if (!isSameHost(origin, host)) refuse('forbidden', `a page of ${origin} may not watch ${host}`);
    else if (this.#viewers.size >= viewersMax) refuse('overloaded', `${viewersMax} pages watch already`);
    else {
      response.upgrade(
        // Anything but an object ends the whole process.
        {},
        request.getHeader('sec-websocket-key'),
        request.getHeader('sec-websocket-protocol'),
        request.getHeader('sec-websocket-extensions'),
        context,
      );
    }
  }

  #open(viewer: WebSocket<unknown>): void {
    this.#viewers.add(viewer);
    this.#counters.add('live_viewers');
    viewer.subscribe(topic);
    const text = this.#source.latest();
    if (text !== null) viewer.send(text);
    if (this.#viewers.size === 1)
      this.#source.start((snapshot) => void this.#app?.publish(topic, snapshot, false));
  }

  #left(viewer: WebSocket<unknown>): void {
    if (!this.#viewers.delete(viewer)) return;
    this.#counters.add('live_viewers', -1);
    if (this.#viewers.size === 0) this.#source.stop();
  }
}
