// A gate before every call of lmdb, for whoever wants to end a thread that uses it. `worker.terminate()`, and
// `process.exit()` while workers run, are dangerous otherwise (seen in most tries with three threads appending):
//
// - A thread that is stopped inside a write transaction never ends. lmdb-js's clean-up waits for the lock that the
//   thread itself holds (https://github.com/kriszyp/lmdb-js/issues/336), and so does every writer of every process.
// - A native call that lmdb-js begins while the thread is being stopped aborts the whole process (napi_throw).
//
// Close the gate, wait, then terminate. The gate may be shared by any number of threads of one process. Threads that
// close their handles and end by themselves need none.

const at = { closed: 0, inside: 1 } as const;
const words = 2;

/** How often `closeGate` looks; a transaction takes about 1 ms. */
const lookMs = 1;

/** What is passed to threads, with the options of the log. */
export type LogGate = SharedArrayBuffer;

export function makeGate(): LogGate {
  return new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
}

/** A thread's side of a gate. Without a gate everything may enter. */
export class GateKeeper {
  readonly #view: Int32Array | undefined;

  constructor(gate: LogGate | undefined) {
    this.#view = gate === undefined ? undefined : new Int32Array(gate);
  }

  /** False if the gate is closed. After true comes `leave`, always; it may be entered again in between. */
  tryEnter(): boolean {
    const view = this.#view;
    if (view === undefined) return true;
    // Counted first and looked at second, the reverse of closing: at least one of the two sees the other.
    Atomics.add(view, at.inside, 1);
    if (Atomics.load(view, at.closed) === 0) return true;
    Atomics.sub(view, at.inside, 1);
    return false;
  }

  leave(): void {
    if (this.#view !== undefined) Atomics.sub(this.#view, at.inside, 1);
  }
}

/**
 * Keeps every thread of this gate from using the log (they get `stopping`) and waits until none is inside. True: the
 * threads may be terminated and the process may exit. False: one was still inside at the deadline (a stalled disk,
 * or another process holds the write lock); then only a SIGKILL of this process ends it, which loses nothing that
 * was acknowledged.
 */
export async function closeGate(gate: LogGate, deadlineMs: number): Promise<boolean> {
  const view = new Int32Array(gate);
  Atomics.store(view, at.closed, 1);
  for (const until = Date.now() + deadlineMs; Atomics.load(view, at.inside) > 0; ) {
    if (Date.now() >= until) return false;
    await new Promise((resolve) => setTimeout(resolve, lookMs));
  }
  return true;
}
