// Copying short runs of bytes. Keys, ids and headers are short, and there a loop is several times faster than
// Buffer#copy, which makes a view for every call. Producer and sink workers use it for every record.

const loopBytesMax = 96;

/** Copies `source` from `start` to `end` to `position` of `target`, which has the room; gives the position after. */
export function copyBytes(
  source: Buffer,
  start: number,
  end: number,
  target: Buffer,
  position: number,
): number {
  const bytes = end - start;
  if (bytes > loopBytesMax) return position + source.copy(target, position, start, end);
  for (let i = 0; i < bytes; i += 1) target[position + i] = source[start + i] ?? 0;
  return position + bytes;
}

/** True if the two runs hold the same bytes; the second has as many as the first. */
export function isSameBytes(
  left: Buffer,
  start: number,
  end: number,
  right: Buffer,
  position: number,
): boolean {
  for (let i = start; i < end; i += 1) if (left[i] !== right[position + i - start]) return false;
  return true;
}
