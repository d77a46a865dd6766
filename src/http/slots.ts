// Requests in progress. A slot is taken when a request begins and given back when it is answered or its client goes
// away; its generation then moves on, so that an answer which comes late finds nobody instead of somebody else.
// Main thread only.

import type { HttpResponse } from 'uWebSockets.js';
import { PartialBody } from './partial_body.ts';

export type SlotPhase = 'free' | 'receiving' | 'waiting';

export class Slot {
  readonly index: number;
  /** Unsigned 32-bit; counts how often the slot was used. */
  generation = 0;
  phase: SlotPhase = 'free';
  response: HttpResponse | null = null;
  /** True while it counts towards the share of ack=store. */
  isStore = false;
  /** Past this moment (epoch ms) the request is answered without an outcome, or as timed out while receiving. */
  deadlineMs = 0;
  /** While receiving: the latest moment for the body to be whole, however steadily it comes, epoch ms. */
  wholeByMs = 0;
  /** While receiving: when uWebSockets.js's own clock was last set back, epoch ms. */
  clockSetMs = 0;
  /** When the request was first seen, shared clock, microseconds. */
  seenUs = 0;
  /** What has come of a body that comes in several pieces. */
  readonly body = new PartialBody();
  /** Bytes of a body past the limit that were thrown away; 0 while it is within the limit. */
  discardedBytes = 0;
  /** Earlier pieces of a large answer. */
  readonly answerParts: Buffer[] = [];
  answerStatus = 0;
  answerRetryAfterS = 0;

  constructor(index: number) {
    this.index = index;
  }
}

/** A fixed number of slots; taking one when all are used gives null. */
export class Slots {
  readonly max: number;
  readonly storeMax: number;
  readonly #slots: Slot[] = [];
  readonly #free: Slot[] = [];
  #used = 0;
  #storeUsed = 0;

  /** At most `max` requests at once, of which `storeMax` may wait for the store. */
  constructor(max: number, storeMax: number) {
    this.max = max;
    this.storeMax = storeMax;
  }

  get used(): number {
    return this.#used;
  }

  get storeUsed(): number {
    return this.#storeUsed;
  }

  /** A slot for this response, or null if all are used, or all that ack=store may hold. */
  tryTake(response: HttpResponse, isStore: boolean): Slot | null {
    if (this.#used === this.max || (isStore && this.#storeUsed === this.storeMax)) return null;
    let slot = this.#free.pop();
    if (slot === undefined) {
      slot = new Slot(this.#slots.length);
      this.#slots.push(slot);
    }
    this.#used += 1;
    if (isStore) this.#storeUsed += 1;
    slot.isStore = isStore;
    slot.response = response;
    slot.phase = 'receiving';
    return slot;
  }

  /** The slot if it still belongs to this generation, else null. */
  find(index: number, generation: number): Slot | null {
    const slot = this.#slots[index];
    return slot !== undefined && slot.generation === generation && slot.phase !== 'free' ? slot : null;
  }

  /** Gives the slot back; whoever still holds its old generation finds nothing. */
  release(slot: Slot): void {
    if (slot.phase === 'free') return;
    slot.phase = 'free';
    slot.generation = (slot.generation + 1) >>> 0;
    slot.response = null;
    slot.body.clear();
    slot.discardedBytes = 0;
    if (slot.answerParts.length > 0) slot.answerParts.length = 0;
    this.#used -= 1;
    if (slot.isStore) this.#storeUsed -= 1;
    this.#free.push(slot);
  }

  /** Every slot in use. */
  *inUse(): Generator<Slot> {
    for (const slot of this.#slots) if (slot.phase !== 'free') yield slot;
  }
}
