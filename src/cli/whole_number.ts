// A whole number out of a command's own flag, such as --wait-ms. Runs on the main thread of a command.

import { EssError } from '../errors.ts';

/** The number that `text` is. Throws EssError `bad_option`, naming the flag and the range, if it is none in it. */
export function wholeNumberOf(flag: string, text: string, min: number, max: number): number {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  const range = `a whole number from ${min} to ${max}`;
  throw new EssError('bad_option', `${flag} is ${JSON.stringify(text)}, but must be ${range}`);
}
