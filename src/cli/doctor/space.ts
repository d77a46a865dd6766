// When a disk is nearly full, the same for every disk that `ess doctor` looks at. Pure; main thread.

import type { CheckId } from './checks.ts';
import { bytesText } from './names.ts';
import { failure, type Line, ok, warning } from './report.ts';

/** Below either it is time to act: as the page and /stats have it (live/cluster.ts). */
const freeShareMin = 0.1;
const freeBytesMin = 1024 ** 3;
/** Below either it is full but for a moment. */
const lastShare = 0.02;
const lastBytes = 128 * 1024 ** 2;

/** `mend`: how this one gets room. */
export function spaceLine(
  check: CheckId,
  subject: string,
  freeBytes: number,
  totalBytes: number,
  mend: string,
): Line {
  const found = `${bytesText(freeBytes)} of ${bytesText(totalBytes)} are free`;
  if (freeBytes < lastBytes || freeBytes < totalBytes * lastShare)
    return failure(check, subject, found, mend);
  if (freeBytes < freeBytesMin || freeBytes < totalBytes * freeShareMin)
    return warning(check, subject, found, mend);
  return ok(check, subject, found);
}
