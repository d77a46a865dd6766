// By how much a clock elsewhere differs from the one here, as far as one question can tell. Pure; main thread.

import type { CheckId } from './checks.ts';
import { durationText } from './names.ts';
import { failure, type Line, ok, warning } from './report.ts';

/** Lag is shown in seconds: a difference of one is seen. ms */
const noticedMs = 1000;
/** The lag at which the status is degraded: so much makes it a false alarm, or hides a true one. ms */
const misleadingMs = 60_000;

/** One look: the time there, between the times here before and after the question, epoch ms. */
export interface ClockLook {
  readonly sentMs: number;
  readonly thereMs: number;
  readonly receivedMs: number;
}

/** The least difference that explains what was seen, ms; above 0 the other clock is ahead. */
export function skewOf({ sentMs, thereMs, receivedMs }: ClockLook): number {
  if (thereMs > receivedMs) return thereMs - receivedMs;
  return thereMs < sentMs ? thereMs - sentMs : 0;
}

export function clockLine(check: CheckId, subject: string, look: ClockLook): Line {
  const skewMs = skewOf(look);
  const roundTrip = `asked within ${durationText(Math.max(look.receivedMs - look.sentMs, 0))}`;
  const size = Math.abs(skewMs);
  if (size < noticedMs) return ok(check, subject, `agrees with the clock here (${roundTrip})`);
  const found = `${durationText(size)} ${skewMs > 0 ? 'ahead of' : 'behind'} the clock here (${roundTrip})`;
  const mend = 'chronyc tracking, on both machines: let one time service set both clocks';
  return size < misleadingMs ? warning(check, subject, found, mend) : failure(check, subject, found, mend);
}
