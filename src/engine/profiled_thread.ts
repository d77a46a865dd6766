// Threads as profiles see them: the main thread, which runs its profiler itself, and workers, whose profilers answer over
// a port of their own. Main thread only.

import type { MessagePort } from 'node:worker_threads';
import { EssError } from '../errors.ts';
import type { FromProfiler, ToProfiler } from '../profile/messages.ts';
import type { Profiler } from '../profile/profiler.ts';

/** A profile, or why there is none from this thread. */
export type ThreadAnswer =
  | { readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly bytes: null; readonly why: string };

export interface ProfiledThread {
  readonly name: string;
  /** Settles when the thread has ended. */
  readonly gone: Promise<void>;
  startTime(): void;
  /** Answers when the thread does, which while it is inside native code may take its time, or when it has ended. */
  stopTime(): Promise<ThreadAnswer>;
  dropTime(): void;
  /** Answers like stopTime. */
  heap(): Promise<ThreadAnswer>;
}

export class MainThread implements ProfiledThread {
  readonly name = 'main';
  readonly gone = new Promise<void>(() => {});
  readonly #profiler: Profiler;

  constructor(profiler: Profiler) {
    this.#profiler = profiler;
  }

  startTime(): void {
    this.#profiler.startTime();
  }

  async stopTime(): Promise<ThreadAnswer> {
    const bytes = this.#profiler.stopTime();
    return bytes === null ? { bytes, why: 'it had not begun' } : { bytes };
  }

  dropTime(): void {
    this.#profiler.dropTime();
  }

  async heap(): Promise<ThreadAnswer> {
    return { bytes: this.#profiler.heap() };
  }
}

export class WorkerThread implements ProfiledThread {
  readonly name: string;
  readonly gone: Promise<void>;
  readonly #port: MessagePort;
  readonly #open = new Map<number, (answer: ThreadAnswer) => void>();
  #requests = 0;
  #isGone = false;

  /** @param port the one that the thread has offered; it closes when the thread ends */
  constructor(name: string, port: MessagePort) {
    this.name = name;
    this.#port = port;
    port.on('message', (message: FromProfiler) => this.#onMessage(message));
    this.gone = new Promise((resolve) => {
      port.once('close', () => {
        this.#isGone = true;
        for (const settle of this.#open.values()) settle({ bytes: null, why: 'it ended' });
        this.#open.clear();
        resolve();
      });
    });
  }

  startTime(): void {
    this.#send({ type: 'start_time' });
  }

  stopTime(): Promise<ThreadAnswer> {
    return this.#ask('stop_time');
  }

  dropTime(): void {
    this.#send({ type: 'drop_time' });
  }

  heap(): Promise<ThreadAnswer> {
    return this.#ask('heap');
  }

  #send(message: ToProfiler): void {
    this.#port.postMessage(message);
  }

  #ask(type: 'stop_time' | 'heap'): Promise<ThreadAnswer> {
    if (this.#isGone) return Promise.resolve({ bytes: null, why: 'it ended' });
    this.#requests += 1;
    const request = this.#requests;
    return new Promise((resolve) => {
      this.#open.set(request, resolve);
      this.#send({ type, request });
    });
  }

  #onMessage(message: FromProfiler): void {
    const settle = this.#open.get(message.request);
    this.#open.delete(message.request);
    switch (message.type) {
      case 'profile':
        settle?.({ bytes: message.bytes });
        break;
      case 'failed':
        settle?.({ bytes: null, why: message.why });
        break;
      default:
        throw new EssError('internal', `a profiler says ${JSON.stringify(message satisfies never)}`);
    }
  }
}
