// A doorbell: how one thread sleeps until any other has something for it, without blocking its event loop. It belongs
// to the sleeper, not to a ring, because a thread waits for several sources at once. Any thread rings, only one parks.
//
//    byte 0       128          256
//    +------------+------------+
//    | unused     | word  i32  |     awake = 0, parked = 1
//    +------------+------------+
//
// Why no wake is lost. Who brings work publishes it (1) and then loads the word (2); the sleeper sets the word to
// parked (3) and then looks for work (4). All four are Atomics operations, which every thread sees in one and the same
// order. If (2) comes before (3), then (1) comes before (4): the sleeper finds the work. If (3) comes before (2), the
// ringer finds it parked and wakes it. Either way, or both, never neither. What remains is the gap between (4) and the
// sleep itself: the ringer sets the word back to awake before it notifies, and waitAsync does not start to wait unless
// the word is still parked; looking and enqueueing is one step for it.

import { EssError } from '../errors.ts';
import { controlSpacingBytes } from './layout.ts';

/** The word keeps a cache line to itself: all ringers load it after every publication. */
const wordIndex = controlSpacingBytes / Int32Array.BYTES_PER_ELEMENT;
const doorbellBytes = 2 * controlSpacingBytes;

const awake = 0;
const parked = 1;

/** Longest time that setTimeout counts, 24.8 days. A longer park has no time-out. */
const timeoutMsMax = 2 ** 31 - 1;

/** Makes a doorbell's shared memory; each thread opens it with `new Doorbell`. */
export function createDoorbell(): SharedArrayBuffer {
  return new SharedArrayBuffer(doorbellBytes);
}

export class Doorbell {
  readonly #words: Int32Array;
  #isParking = false;
  #isTimedOut = false;

  constructor(shared: SharedArrayBuffer) {
    if (shared.byteLength !== doorbellBytes)
      throw new EssError('internal', 'shared memory that is not a doorbell');
    this.#words = new Int32Array(shared);
  }

  /**
   * Wakes the sleeper if it is parked. Call it after publishing something that its `hasWork` looks at; any thread may,
   * as often as it likes: while the sleeper is awake, it costs one atomic load.
   */
  ring(): void {
    if (Atomics.load(this.#words, wordIndex) !== parked) return;
    // The word first, then the notification: a sleeper that is not waiting yet must not start to (see above). Of
    // several ringers one finds it parked, and wakes it.
    if (Atomics.compareExchange(this.#words, wordIndex, parked, awake) === parked) {
      Atomics.notify(this.#words, wordIndex);
    }
  }

  /**
   * Sleeps until rung or until `timeoutMs` (at least 1; Infinity: no limit) passed; true if rung or if there was work,
   * false on time-out. Only the thread that owns this doorbell parks, once at a time, else it throws `internal`.
   *
   * `hasWork` is asked after the flag is set, and must load what the ringer stored through Atomics (RingReader.isEmpty,
   * RingWriter.tryReserve and plain Atomics.load do). True is a hint: look again, there may be nothing.
   *
   * A park without limit does not keep the event loop alive: a thread with nothing else open would end in it, so the
   * caller holds a handle. A limited one is kept alive by its timer, and also ends when a ringer's thread was terminated
   * half-way through ringing. Where `hasWork` is true at once, the loop gets no turn: who drains for ever has to let it
   * turn.
   */
  async park(hasWork: () => boolean, timeoutMs: number): Promise<boolean> {
    if (this.#isParking) throw new EssError('internal', 'a doorbell parks one at a time');
    const words = this.#words;
    Atomics.store(words, wordIndex, parked);
    let isBusy = true;
    try {
      isBusy = hasWork();
    } finally {
      // A ringer may have set it already, and its notification finds nobody: harmless, we are awake.
      if (isBusy) Atomics.store(words, wordIndex, awake);
    }
    if (isBusy) return true;

    this.#isParking = true;
    this.#isTimedOut = false;
    // Not waitAsync's own time-out: in Node its timer stays after the wake until the time has passed, so that a busy
    // thread would pile up one for each park (https://github.com/nodejs/node/pull/44409).
    const timer = timeoutMs <= timeoutMsMax ? setTimeout(this.#onTimeout, timeoutMs) : undefined;
    // A ringer that was held up between setting the word and notifying may wake a later park than it meant. The word
    // tells: still parked means that nobody rang for this one, so it goes on waiting.
    while (Atomics.load(words, wordIndex) === parked) {
      const waiting = Atomics.waitAsync(words, wordIndex, parked);
      if (waiting.async) await waiting.value;
    }
    clearTimeout(timer);
    this.#isParking = false;
    return !this.#isTimedOut;
  }

  /** Ends our own park the way a ringer would, so that no waiter stays behind in V8's list. */
  readonly #onTimeout = (): void => {
    this.#isTimedOut = Atomics.compareExchange(this.#words, wordIndex, parked, awake) === parked;
    // Also if a ringer was first: should its thread have been terminated before it notified, nobody else would.
    Atomics.notify(this.#words, wordIndex);
  };
}
