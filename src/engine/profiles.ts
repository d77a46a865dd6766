// Profiles of the threads of this process, for GET /debug/pprof/*: which threads there are, one collection of each kind at
// a time, and a thread that finishes what they gave. Main thread; each thread profiles itself (src/profile/).

import { setTimeout as sleep } from 'node:timers/promises';
import { type MessagePort, Worker } from 'node:worker_threads';
import type { Logger } from 'pino';
import { EssError } from '../errors.ts';
import type { CollectedProfile, ProfileSource } from '../http/profile_route.ts';
import type { ThreadProfile } from '../profile/merged_profile.ts';
import type { ProfileData } from '../profile/profile.worker.ts';
import { Profiler } from '../profile/profiler.ts';
import { entryFile } from './entry.ts';
import { MainThread, type ProfiledThread, type ThreadAnswer, WorkerThread } from './profiled_thread.ts';

/**
 * How long a profile waits for threads past its own time, ms. A thread inside the embedded engine or a long synchronous
 * piece of work answers when it comes back; past this the profile is answered without it.
 */
const threadAnswerMsMax = 3000;

/** The order in which threads are named: by kind, then by number. */
const kindOrder = ['main', 'producer', 'sink', 'reader'];

/** A collection under way. */
interface Running {
  /** When it should have its answer, by Date.now(). */
  readonly untilMs: number;
  /** Ends the sampling before its time. */
  readonly ending: AbortController;
  readonly done: Promise<CollectedProfile>;
}

export class Profiles implements ProfileSource {
  readonly #threads = new Map<string, ProfiledThread>();
  readonly #fault: EssError | null;
  readonly #running = new Map<'time' | 'heap', Running>();
  #isStopping = false;

  /** Loads the main thread's profiler. One that does not load is said in the log, and with every answer. */
  static async open(log: Logger): Promise<Profiles> {
    try {
      return new Profiles(new MainThread(await Profiler.open()), null);
    } catch (error) {
      if (!(error instanceof EssError)) throw error;
      log.warn({ err: error }, 'debug_profiles is on, but profiles cannot be had here');
      return new Profiles(null, error);
    }
  }

  private constructor(main: MainThread | null, fault: EssError | null) {
    if (main !== null) this.#threads.set(main.name, main);
    this.#fault = fault;
  }

  /** A thread with a name of its own has offered its profiler. A successor takes its predecessor's place. */
  add(name: string, port: MessagePort): void {
    const thread = new WorkerThread(name, port);
    this.#threads.set(name, thread);
    void thread.gone.then(() => {
      if (this.#threads.get(name) === thread) this.#threads.delete(name);
    });
  }

  /** A thread of a kind whose threads have no names has offered its profiler: it gets the first free number. */
  addNumbered(kind: string, port: MessagePort): void {
    let number = 0;
    while (this.#threads.has(`${kind}-${number}`)) number += 1;
    this.add(`${kind}-${number}`, port);
  }

  time(seconds: number, thread: string | null, client: AbortSignal): Promise<CollectedProfile> {
    return this.#only('time', seconds * 1000, client, async (ending) => {
      const threads = this.#chosen(thread);
      try {
        for (const each of threads) each.startTime();
      } catch (error) {
        for (const each of threads) each.dropTime();
        throw error;
      }
      const isOver = sleep(seconds * 1000, undefined, { signal: ending }).catch(() => {});
      await Promise.race([isOver, Promise.all(threads.map(({ gone }) => gone))]);
      if (client.aborted) {
        for (const each of threads) each.dropTime();
        throw new EssError('overloaded', 'the client went away');
      }
      return this.#collect(threads, (each) => each.stopTime());
    });
  }

  heap(thread: string | null, client: AbortSignal): Promise<CollectedProfile> {
    return this.#only('heap', 0, client, () => this.#collect(this.#chosen(thread), (each) => each.heap()));
  }

  /** Ends what is under way, with an answer of what was seen so far, and refuses new ones. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    const running = [...this.#running.values()];
    for (const { ending } of running) ending.abort();
    await Promise.allSettled(running.map(({ done }) => done));
  }

  async #only(
    kind: 'time' | 'heap',
    durationMs: number,
    client: AbortSignal,
    collect: (ending: AbortSignal) => Promise<CollectedProfile>,
  ): Promise<CollectedProfile> {
    if (this.#fault !== null) throw this.#fault;
    if (this.#isStopping) throw new EssError('stopping', 'this process is stopping');
    const other = this.#running.get(kind);
    if (other !== undefined) {
      const retryAfterS = Math.max(1, Math.ceil((other.untilMs - Date.now()) / 1000));
      return { type: 'busy', retryAfterS };
    }
    const ending = new AbortController();
    const onGone = (): void => ending.abort();
    client.addEventListener('abort', onGone, { once: true });
    const done = collect(ending.signal).finally(() => {
      client.removeEventListener('abort', onGone);
      ending.abort();
      this.#running.delete(kind);
    });
    this.#running.set(kind, { untilMs: Date.now() + durationMs, ending, done });
    return done;
  }

  #chosen(name: string | null): readonly ProfiledThread[] {
    if (name === null) return [...this.#threads.values()];
    const thread = this.#threads.get(name);
    if (thread !== undefined) return [thread];
    const names = [...this.#threads.keys()].sort(byKindAndNumber).join(', ');
    throw new EssError('invalid_parameter', `there is no thread "${name}" now; there are ${names}`);
  }

  async #collect(
    threads: readonly ProfiledThread[],
    ask: (thread: ProfiledThread) => Promise<ThreadAnswer>,
  ): Promise<CollectedProfile> {
    const asked = threads.map(async (thread) => ({ thread: thread.name, answer: await inTime(ask(thread)) }));
    const answers = await Promise.all(asked);
    const parts: ThreadProfile[] = [];
    const missing: { readonly thread: string; readonly why: string }[] = [];
    for (const { thread, answer } of answers) {
      if (answer.bytes === null) missing.push({ thread, why: answer.why });
      else parts.push({ thread, bytes: answer.bytes });
    }
    if (parts.length === 0) {
      const whys = missing.map(({ thread, why }) => `${thread}: ${why}`).join('; ');
      throw new EssError('overloaded', `no thread gave a profile (${whys})`);
    }
    return {
      type: 'profile',
      bytes: await finished(parts),
      missing: missing.map(({ thread }) => thread).sort(byKindAndNumber),
    };
  }
}

/** The thread's answer if it comes in time; a later one finds nobody. */
async function inTime(answer: Promise<ThreadAnswer>): Promise<ThreadAnswer> {
  const why = `it was busy in native code or a long task for ${threadAnswerMsMax} ms past the profile's end`;
  const done = new AbortController();
  const late = sleep<ThreadAnswer>(threadAnswerMsMax, { bytes: null, why }, { signal: done.signal });
  // Aborted, it rejects, and nobody looks at it any more.
  late.catch(() => {});
  return Promise.race([answer, late]).finally(() => done.abort());
}

function byKindAndNumber(a: string, b: string): number {
  const [kindA = '', numberA = '0'] = a.split('-');
  const [kindB = '', numberB = '0'] = b.split('-');
  return kindOrder.indexOf(kindA) - kindOrder.indexOf(kindB) || Number(numberA) - Number(numberB);
}

/** The parts as one gzipped profile, made in a thread of its own. */
function finished(parts: readonly ThreadProfile[]): Promise<Uint8Array> {
  const data: ProfileData = { parts };
  const worker = new Worker(entryFile('profile.worker'), {
    name: 'profile',
    workerData: data,
    transferList: parts.map(({ bytes }) => bytes.buffer),
  });
  return new Promise((resolve, reject) => {
    worker.once('message', (bytes: Uint8Array) => resolve(bytes));
    worker.once('error', reject);
    worker.once('exit', (code) =>
      reject(new EssError('internal', `the profile's thread ended with ${code}`)),
    );
  });
}
