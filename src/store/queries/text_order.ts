// The order of texts as ClickHouse has it: by the bytes of their UTF-8. JavaScript compares UTF-16 units, which differs
// where a character beyond U+FFFF meets one from U+E000 on. Runs on reader threads.

/** First unit of a surrogate pair's range; below it both orders agree. */
const surrogatesFirst = 0xd800;
const surrogatesEnd = 0xe000;
/** Moves the surrogates behind everything else. */
const behindAll = 0x10000;

/** Below 0, 0 or above 0, as sort functions want it. */
export function compareText(a: string, b: string): number {
  if (a === b) return 0;
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i += 1) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA !== unitB) return weight(unitA) - weight(unitB);
  }
  return a.length - b.length;
}

function weight(unit: number): number {
  return unit >= surrogatesFirst && unit < surrogatesEnd ? unit + behindAll : unit;
}
