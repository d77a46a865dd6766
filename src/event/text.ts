// Writing short texts as UTF-8. Ids, types and keys are short and nearly always ASCII: a loop in JavaScript writes
// those several times faster than a call into the runtime.

const loopUnitsMax = 64;

/** Writes `text` (well-formed) at `position`, where there is room for 3 bytes a UTF-16 unit; gives its bytes. */
export function writeText(buffer: Buffer, text: string, position: number): number {
  const { length } = text;
  if (length > loopUnitsMax) return buffer.write(text, position);
  for (let i = 0; i < length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) return buffer.write(text, position);
    buffer[position + i] = unit;
  }
  return length;
}
