// Shows how far `ess send` has come, on standard error: a bar on a terminal, a line every few seconds elsewhere.

import type { Writable } from 'node:stream';
import { startBar } from '../bar.ts';
import type { Tally } from './tally.ts';

/** Between two lines where there is no terminal. */
const lineIntervalMs = 5000;
const barIntervalMs = 200;

export interface Progress {
  stop(): void;
}

/** Starts showing. `totalBytes` is null when the size of the input is not known. */
export async function startProgress(
  stderr: Writable & { readonly isTTY?: boolean },
  tally: Tally,
  readBytes: () => number,
  totalBytes: number | null,
): Promise<Progress> {
  if (stderr.isTTY === true && totalBytes !== null) return showBar(stderr, tally, readBytes, totalBytes);
  const timer = setInterval(() => {
    const share = totalBytes === null || totalBytes === 0 ? '' : `${percent(readBytes(), totalBytes)}, `;
    stderr.write(`${share}${tallyText(tally)}\n`);
  }, lineIntervalMs);
  return { stop: () => clearInterval(timer) };
}

async function showBar(
  stderr: Writable,
  tally: Tally,
  readBytes: () => number,
  totalBytes: number,
): Promise<Progress> {
  const bar = await startBar(stderr, { format: '{bar} {percentage}% | {text}', total: totalBytes });
  const update = (): void => bar.update(Math.min(readBytes(), totalBytes), { text: tallyText(tally) });
  const timer = setInterval(update, barIntervalMs);
  return {
    stop: () => {
      clearInterval(timer);
      update();
      bar.stop();
    },
  };
}

function percent(part: number, whole: number): string {
  return `${Math.floor((Math.min(part, whole) / whole) * 100)} % read`;
}

function tallyText({ rows, accepted, rejected, retries }: Tally): string {
  return `${rows} rows, ${accepted} accepted, ${rejected} rejected, ${retries} retries`;
}
