// `ess send`: reads rows, makes events of them, sends them, and says what became of each. Runs on the main thread of
// a process of its own.

import { createReadStream, statSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { EssError } from '../../errors.ts';
import { exitBadUsage, exitInterrupted } from '../exit_code.ts';
import { Client } from './client.ts';
import { EventBuilder } from './event.ts';
import { type Input, readRows } from './input.ts';
import { parseSendOptions, type SendOptions, sendHelpText } from './options.ts';
import { startProgress } from './progress.ts';
import { Sender } from './sender.ts';
import { summaryText, Tally } from './tally.ts';

/** Exit code beside 0, which means that every row was accepted. */
const exitNotAll = 1;

/** Read at a time; larger pieces cost less for each row. */
const readBytes = 256 * 1024;

/** What the command uses of its process. */
export interface SendIo {
  readonly stdin: Readable;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Aborted when the user interrupts: reading stops, what is in flight is waited for. */
  readonly signal: AbortSignal;
}

/** Runs the command line after `send`; gives the exit code. Never rejects for what a user or a service does. */
export async function runSend(argv: readonly string[], io: SendIo): Promise<number> {
  let options: SendOptions | null;
  let totalBytes: number | null;
  try {
    options = parseSendOptions(argv);
    totalBytes = options === null ? null : sizeOf(options.files);
  } catch (error) {
    if (!(error instanceof EssError)) throw error;
    io.stderr.write(`ess send: ${error.message}\nSee ess send --help.\n`);
    return exitBadUsage;
  }
  if (options === null) {
    io.stdout.write(sendHelpText());
    return 0;
  }

  const tally = new Tally(Date.now());
  const client = new Client(options);
  const sender = new Sender(options, client, tally);
  let bytesRead = 0;
  const progress = options.isQuiet
    ? null
    : await startProgress(io.stderr, tally, () => bytesRead, totalBytes);
  const interrupt = (): void => {
    sender.stop('interrupted');
    progress?.stop();
    io.stderr.write('ess send: interrupted; waiting for the answers to what is under way\n');
  };
  io.signal.addEventListener('abort', interrupt);
  if (io.signal.aborted) interrupt();

  await sendFiles(options, io, sender, tally, (bytes) => {
    bytesRead += bytes;
  });
  await sender.finish();
  client.close();
  io.signal.removeEventListener('abort', interrupt);
  if (!io.signal.aborted) progress?.stop();

  const summary = tally.summary(Date.now(), sender.stopReason);
  io.stdout.write(options.isJson ? `${JSON.stringify(summary)}\n` : summaryText(summary));
  if (io.signal.aborted) return exitInterrupted;
  return summary.stopped === null && summary.accepted === summary.rows ? 0 : exitNotAll;
}

async function sendFiles(
  options: SendOptions,
  io: SendIo,
  sender: Sender,
  tally: Tally,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const builder = new EventBuilder(options);
  for (const file of options.files) {
    if (sender.stopReason !== null) return;
    const input = open(file, io);
    // An input that waits for more (a terminal, a pipe) must not hold up the end.
    const end = (): void => {
      input.stream.destroy();
    };
    sender.signal.addEventListener('abort', end);
    for await (const row of readRows(input, options, onBytes)) {
      // Interrupted or given up; the row may be nothing but the sign of the stream's early end.
      if (sender.stopReason !== null) break;
      tally.rows += 1;
      const event = builder.build(row);
      if (event.type === 'refused') tally.reject(event.place, event.code, event.message);
      else await sender.add(event);
    }
    sender.signal.removeEventListener('abort', end);
  }
}

function open(file: string, io: SendIo): Input {
  return file === '-'
    ? { name: 'standard input', stream: io.stdin }
    : { name: file, stream: createReadStream(file, { highWaterMark: readBytes }) };
}

/** The size of all files together, or null if it cannot be known. Throws EssError `bad_option` for what is no file. */
function sizeOf(files: readonly string[]): number | null {
  let bytes: number | null = 0;
  for (const file of files) {
    if (file === '-') {
      bytes = null;
      continue;
    }
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined) throw new EssError('bad_option', `there is no file ${file}`);
    if (stat.isDirectory()) throw new EssError('bad_option', `${file} is a directory`);
    // A pipe (such as <(command) in a shell) has no size either.
    bytes = bytes === null || !stat.isFile() ? null : bytes + stat.size;
  }
  return bytes;
}
