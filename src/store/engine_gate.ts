// Keeps the threads of one process from pulling the embedded engine away under each other. Runs on every thread that
// loads chDB; the main thread makes the gate, workers find it in their environment data.
//
// When a thread that has loaded chDB ends, chDB's addon closes every connection of the whole process, also those on
// which other threads are just running statements, and the process dies (chdb-node 3.4.0, lib/chdb_node.cpp: the
// environment's cleanup hook calls hard_close_all). So a thread that is about to end shuts the gate, waits until
// nobody is inside, and the main thread opens the gate once that thread is gone. Connections that were held open
// across it are dead then: their owners see it by `generation` and forget them.
//
//   Int32Array over shared memory:
//     0 shut        parties that hold the gate shut; requests wait outside while it is not 0
//     1 generation  counts the threads that ended and took all connections with them
//     2 ...         two words a thread: its requests inside the engine, and its state (unused, loaded, ending)
//   A request adds itself to its thread's word before it reads `shut`, and a thread that ends adds itself to `shut`
//   before it reads the words of the others: whichever is second sees the other. There is no sum of the words kept
//   beside them: a thread that is terminated between two updates would leave it wrong for ever.
//
// worker.terminate() gives a thread no chance to shut the gate: whoever calls it uses `whileIdle`. Nothing helps a thread
// that calls process.exit() or fails with an uncaught error while statements of its own are running in libuv's pool:
// the addon cannot deliver their results any more and aborts the process. Close the store first.

import {
  getEnvironmentData,
  isMainThread,
  setEnvironmentData,
  threadId,
  type Worker,
} from 'node:worker_threads';
import { EssError } from '../errors.ts';

const environmentKey = 'ess.embedded_engine_gate';

const at = { shut: 0, generation: 1, threads: 2 } as const;
const wordsPerThread = 2;
/** Thread ids only grow; two that share a slot would have to be alive together and this far apart. */
const threadSlots = 1024;

const threadState = { unused: 0, loaded: 1, ending: 2 } as const;

/** How often a request looks whether the gate is open again, and who shuts it whether all have left. Milliseconds. */
const pollMs = 2;

/** Longest wait of a thread that ends, milliseconds: longer than a read may take by default, so that it is not cut. */
const endingWaitMs = 60_000;

export class EngineGate {
  readonly #words: Int32Array;
  readonly #ownInside: number;
  readonly #ownState: number;

  private constructor(words: Int32Array) {
    this.#words = words;
    this.#ownInside = insideOf(threadId);
    this.#ownState = stateOf(threadId);
  }

  /**
   * The gate of this process. The main thread makes it, and with it every worker that it starts later finds it; a
   * worker without one throws `internal`: pinEmbeddedEngine was not called on the main thread before.
   */
  static ofProcess(): EngineGate {
    if (gate !== null) return gate;
    const shared = getEnvironmentData(environmentKey);
    if (shared instanceof SharedArrayBuffer) gate = new EngineGate(new Int32Array(shared));
    else if (isMainThread) gate = EngineGate.#make();
    else
      throw new EssError(
        'internal',
        'the main thread has to call pinEmbeddedEngine before it starts workers',
      );
    gate.#watch();
    return gate;
  }

  static #make(): EngineGate {
    const words = at.threads + threadSlots * wordsPerThread;
    const shared = new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
    setEnvironmentData(environmentKey, shared);
    return new EngineGate(new Int32Array(shared));
  }

  /** Changes whenever all connections of the process were closed from outside. */
  get generation(): number {
    return Atomics.load(this.#words, at.generation);
  }

  /** Waits until the gate is open and goes inside; every call needs one `leave`. */
  async enter(): Promise<void> {
    for (;;) {
      Atomics.add(this.#words, this.#ownInside, 1);
      if (Atomics.load(this.#words, at.shut) === 0) return;
      this.leave();
      await delay();
    }
  }

  leave(): void {
    Atomics.sub(this.#words, this.#ownInside, 1);
  }

  /** Runs `action`, such as terminating workers, while no thread is inside the engine. Requests wait meanwhile. */
  async whileIdle<T>(action: () => Promise<T>): Promise<T> {
    Atomics.add(this.#words, at.shut, 1);
    try {
      while (this.#inside() > 0) await delay();
      return await action();
    } finally {
      Atomics.sub(this.#words, at.shut, 1);
    }
  }

  /** Marks this thread as one whose end closes all connections. To be called before chDB is loaded. */
  markLoaded(): void {
    if (isMainThread || Atomics.load(this.#words, this.#ownState) !== threadState.unused) return;
    Atomics.store(this.#words, this.#ownState, threadState.loaded);
    process.on('exit', () => this.#end());
  }

  /** Called as this thread's last JavaScript. Requests of its own can no longer leave, so it waits for the others. */
  #end(): void {
    Atomics.store(this.#words, this.#ownState, threadState.ending);
    Atomics.add(this.#words, at.shut, 1);
    const deadline = performance.now() + endingWaitMs;
    while (this.#inside() > Atomics.load(this.#words, this.#ownInside) && performance.now() < deadline)
      Atomics.wait(this.#words, this.#ownState, threadState.ending, pollMs);
  }

  /** Requests of all threads that are inside the engine. */
  #inside(): number {
    let sum = 0;
    for (let id = 0; id < threadSlots; id += 1) sum += Atomics.load(this.#words, insideOf(id));
    return sum;
  }

  /** Clears up after every worker that this thread starts, once it is gone. */
  #watch(): void {
    process.on('worker', (worker: Worker) => {
      const id = worker.threadId;
      worker.once('exit', () => this.#ended(id));
    });
  }

  #ended(id: number): void {
    const state = Atomics.exchange(this.#words, stateOf(id), threadState.unused);
    if (state === threadState.unused) return;
    Atomics.add(this.#words, at.generation, 1);
    Atomics.store(this.#words, insideOf(id), 0);
    if (state === threadState.ending) Atomics.sub(this.#words, at.shut, 1);
  }
}

let gate: EngineGate | null = null;

function insideOf(id: number): number {
  return at.threads + (id % threadSlots) * wordsPerThread;
}

function stateOf(id: number): number {
  return insideOf(id) + 1;
}

/** A timer and not Atomics.waitAsync: a thread that waits must not end meanwhile. */
function delay(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, pollMs));
}
