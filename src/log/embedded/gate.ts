// A gate before lmdb's write transactions, for whoever wants to end a thread. A thread that is terminated inside a
// write transaction never ends: lmdb-js's clean-up waits for the lock that the thread itself holds, and every other
// writer, of other processes too, waits for it (https://github.com/kriszyp/lmdb-js/issues/336). With several threads
// appending, most calls of `worker.terminate()` and `process.exit()` meet this. Closing the gate first makes both
// safe. The gate may be shared by any number of threads of one process.

const at = { closed: 0, inside: 1 } as const;
const words = 2;

/** How often `closeGate` looks; a transaction takes about 1 ms. */
const lookMs = 1;

/** Passed to threads as it is, with the options of the log. */
export type LogGate = SharedArrayBuffer;

export function makeGate(): LogGate {
  return new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT);
}

/** Runs on the thread that writes: false if the gate is closed. After true comes `leaveGate`, always. */
export function tryEnterGate(gate: LogGate): boolean {
  const view = new Int32Array(gate);
  // Counted first and looked at second, the reverse of closing: at least one of the two sees the other.
  Atomics.add(view, at.inside, 1);
  if (Atomics.load(view, at.closed) === 0) return true;
  Atomics.sub(view, at.inside, 1);
  return false;
}

export function leaveGate(gate: LogGate): void {
  Atomics.sub(new Int32Array(gate), at.inside, 1);
}

/**
 * Keeps every thread of this gate from beginning another write transaction (they get `stopping`) and waits until none
 * is inside. True: the threads may be terminated and the process may exit. False: one was still inside at the
 * deadline (a stalled disk, or another process holds the lock); then only a SIGKILL of this process ends it, which
 * loses nothing that was acknowledged.
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
