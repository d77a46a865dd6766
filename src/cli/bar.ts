// The progress bar of every command, on a terminal. Runs on the main thread of a command.

import type { Writable } from 'node:stream';
import type { SingleBar } from 'cli-progress';

/** Shows the cursor and wraps lines again: for a process that ends while a bar is on its terminal. */
export const terminalReset = '\x1b[?25h\x1b[?7h';

export interface BarLook {
  /** cli-progress's: {bar}, {percentage}, {value}, {total}, and {text}, which each update may give. */
  readonly format: string;
  readonly total: number;
  /** Default 0. */
  readonly done?: number;
  readonly text?: string;
  /** Whether nothing of it stays. Default false. */
  readonly isClearedAtEnd?: boolean;
}

/** Shows it until its `stop`. */
export async function startBar(
  stderr: Writable,
  { format, total, done = 0, text = '', isClearedAtEnd = false }: BarLook,
): Promise<SingleBar> {
  // Imported here because the bundle would load it at the start of every command.
  const { default: cliProgress } = await import('cli-progress');
  const bar = new cliProgress.SingleBar({
    format,
    stream: stderr,
    hideCursor: true,
    // It would take an interrupt for itself, and the command would go on unseen.
    gracefulExit: false,
    barCompleteChar: '#',
    barIncompleteChar: '.',
    clearOnComplete: isClearedAtEnd,
  });
  bar.start(total, done, { text });
  return bar;
}
