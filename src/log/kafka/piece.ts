// One partition's batch on its way to the log, and what its sender can be told of it. Runs on producer threads.

import { EssError } from '../../errors.ts';
import { skipRecords } from '../../event/record.ts';
import type { AppendResult } from '../log.ts';

/** One batch, or a part of one, on its way. */
export interface Piece {
  readonly partition: number;
  readonly count: number;
  readonly bytes: Buffer;
  /** Not sent again after this, by the monotonic clock. */
  readonly retryUntilMs: number;
  /** Settled by this. */
  readonly deadlineMs: number;
  readonly settle: (result: AppendResult) => void;
  attempts: number;
}

/** Nothing of it was written, now or ever. */
export const unavailable = (partition: number, reason: string, cause?: unknown): EssError =>
  new EssError('log_unavailable', `partition ${partition}: ${reason}`, { cause });
/** It may have been written. */
export const unknown = (partition: number, reason: string, cause?: unknown): EssError =>
  new EssError('outcome_unknown', `partition ${partition}: ${reason}`, { cause });

/** Where `count` packed records end; -1 if there are fewer. */
export function recordsEnd(bytes: Buffer, count: number): number {
  try {
    return skipRecords(bytes, count);
  } catch (error) {
    if (error instanceof RangeError) return -1;
    throw error;
  }
}
