// One partition that a fetcher keeps filled: where it is read and fetched, and what was fetched and not yet read. Plain
// state of a sink thread; the fetcher alone changes it.

import type { Bounds } from './bounds.ts';
import type { FetchedBatches } from './fetched.ts';

/** A partition that is fetched, and what was fetched of it. */
export class Feed {
  readonly partition: number;
  /** Next offset to be read; -1 while nobody has said. */
  readAt: number;
  /** Next offset to be fetched. */
  fetchAt: number;
  readonly fetched: FetchedBatches[] = [];
  /** Why nothing after what was fetched can be. */
  gap: string | null = null;
  /** In a request, or being looked into. */
  isBusy = false;
  /** Changes when the position does: an answer to a question of before is none. */
  turn = 0;
  failures = 0;
  /** Not before this, by the monotonic clock, ms. */
  notBeforeMs = 0;
  /** Since when leaders say that the position is past their end, by the monotonic clock, ms; 0 while they do not. */
  beyondSinceMs = 0;
  /** Size of a batch that did not fit the last answer, bytes; 0 if there was none. */
  wantedBytes = 0;
  bounds: Bounds | null = null;

  constructor(partition: number, offset: number) {
    this.partition = partition;
    this.readAt = offset;
    this.fetchAt = offset;
  }

  get bytes(): number {
    let bytes = 0;
    for (const batches of this.fetched) bytes += batches.bytesLeft;
    return bytes;
  }

  moveTo(offset: number): void {
    this.readAt = offset;
    this.fetchAt = offset;
    this.fetched.length = 0;
    this.gap = null;
    this.beyondSinceMs = 0;
    this.wantedBytes = 0;
    this.turn += 1;
  }
}
