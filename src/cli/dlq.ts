// `ess dlq`: shows the dead letters of a running service, replays and discards them. Runs on the main thread of a process
// of its own; the service does the work.

import { readFileSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { EssError, errorKinds } from '../errors.ts';
import {
  type DlqOptions,
  dlqHelpText,
  type Position,
  parseDlqOptions,
  type Selection,
} from './dlq/options.ts';
import { startProgress } from './dlq/progress.ts';
import { type Letter, type Result, Service } from './dlq/service.ts';
import { exitBadUsage, exitInterrupted } from './exit_code.ts';

/** Exit code beside 0, which means that everything was done, or had been done before. */
const exitNotAll = 1;

/** Letters in the first request, which shows whether the cause is mended, and in each one after it. */
const lettersAtFirst = 10;
const lettersAtATime = 50;
/** Of a reason in the list. Characters. */
const reasonMax = 80;

/** What the command uses of its process. */
export interface DlqIo {
  readonly env: NodeJS.ProcessEnv;
  /** Cores of the machine, for the defaults of `serve`. */
  readonly cores: number;
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Aborted when the user interrupts: nothing more is begun, and what was begun is waited for. */
  readonly signal: AbortSignal;
}

/** Runs the command line after `dlq`; gives the exit code. Never rejects for what a user or a service does. */
export async function runDlq(argv: readonly string[], io: DlqIo): Promise<number> {
  try {
    const options = parseDlqOptions(argv, io.env, io.cores);
    if (options === null) {
      io.stdout.write(dlqHelpText());
      return 0;
    }
    const code = await run(options, io);
    return io.signal.aborted && code !== 0 ? exitInterrupted : code;
  } catch (error) {
    if (!(error instanceof EssError)) throw error;
    if (io.signal.aborted && error.code !== 'bad_option') {
      // What only reads is ended by the interrupt itself.
      const isReading = error.code === 'service_unreachable';
      const text = isReading ? 'nothing more was begun' : error.message;
      io.stderr.write(`ess dlq: interrupted: ${text}\n`);
      return exitInterrupted;
    }
    const isUsage = error.code === 'bad_option';
    const advice = isUsage ? 'See ess dlq --help.' : errorKinds[error.code].action;
    io.stderr.write(`ess dlq: ${error.message}\n${advice}\n`);
    return isUsage ? exitBadUsage : exitNotAll;
  }
}

async function run(options: DlqOptions, io: DlqIo): Promise<number> {
  const { action, url } = options;
  const service = new Service(url, io.signal);
  switch (action.type) {
    case 'list': {
      for await (const letter of service.letters(action.state)) {
        if (action.code !== null && letter.code !== action.code) continue;
        io.stdout.write(options.isJson ? `${JSON.stringify(letter.members)}\n` : listLine(letter));
      }
      return 0;
    }
    case 'show': {
      const { letter, json } = await service.letter(action.position);
      io.stdout.write(options.isJson ? `${json}\n` : letterText(letter, json));
      return 0;
    }
    case 'replay': {
      const event = action.file === null ? null : readEvent(action.file);
      return await settle(options, io, service, action.letters, (some) => service.replay(some, event));
    }
    case 'discard':
      return await settle(options, io, service, action.letters, (some) =>
        service.discard(some, action.reason),
      );
  }
}

/** Does it piece by piece, says what became of each letter, and stops where going on would do no good. */
async function settle(
  options: DlqOptions,
  io: DlqIo,
  service: Service,
  letters: Selection,
  work: (positions: readonly Position[]) => Promise<Result[]>,
): Promise<number> {
  // All at first: what is parked again meanwhile is not taken up once more.
  const positions = letters.type === 'some' ? letters.positions : await parkedNow(service, letters.code);
  if (positions.length === 0 && !options.isQuiet) {
    const which = letters.type === 'all' && letters.code !== null ? ` with the code ${letters.code}` : '';
    io.stderr.write(`ess dlq: no dead letter${which} is parked: there is nothing to do.\n`);
  }
  const progress = await startProgress(
    io.stderr,
    positions.length,
    // On one terminal with them, the lines of results are what shows how far it is.
    !options.isQuiet && positions.length > lettersAtATime && io.stdout.isTTY !== true,
  );
  let isAllDone = true;
  let done = 0;
  try {
    while (done < positions.length) {
      if (io.signal.aborted) {
        progress.stop();
        const left = positions.length - done;
        io.stderr.write(
          `ess dlq: interrupted. ${left} of ${positions.length} letters are left as they were: the same command goes on.\n`,
        );
        return exitInterrupted;
      }
      const some = positions.slice(done, done + (done === 0 ? lettersAtFirst : lettersAtATime));
      const results = await work(some);
      for (const result of results) {
        io.stdout.write(options.isJson ? `${JSON.stringify(result.members)}\n` : resultLine(result));
        if (!isDone(result)) isAllDone = false;
      }
      done += some.length;
      progress.update(done);
      const replayed = results.filter(({ outcome }) => outcome === 'replayed');
      const isInVain = replayed.length > 0 && replayed.every(({ stage }) => stage === 'parked');
      if (isInVain && done < positions.length) {
        const left = positions.length - done;
        io.stderr.write(
          `ess dlq: the store refused all of these again: the cause is not mended. ${left} letters are left as they were.\n`,
        );
        break;
      }
    }
  } finally {
    progress.stop();
  }
  return isAllDone ? 0 : exitNotAll;
}

async function parkedNow(service: Service, code: string | null): Promise<Position[]> {
  const positions: Position[] = [];
  for await (const letter of service.letters('parked')) {
    const { partition, offset } = letter;
    if (code === null || letter.code === code) positions.push({ partition, offset });
  }
  return positions;
}

function isDone({ outcome, stage }: Result): boolean {
  return outcome !== 'refused' && outcome !== 'unknown' && stage !== 'parked';
}

function readEvent(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EssError('bad_option', `--with: cannot read ${file}: ${reason}`, { cause });
  }
}

// Where another producer writes, a text may hold anything: control characters must not reach the terminal.

function oneLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+/gu, ' ');
}

function positionText({ partition, offset }: Position): string {
  return `${partition}:${offset}`;
}

function listLine(letter: Letter): string {
  const { state, time, code, id, reason } = letter;
  const why = reason.length > reasonMax ? `${reason.slice(0, reasonMax)}...` : reason;
  return `${oneLine([positionText(letter), state, time, code, id ?? '-', why].join('  '))}\n`;
}

function letterText(letter: Letter, json: string): string {
  const { event, raw, ...facts } = letter.members;
  const lines = Object.entries(facts).map(([name, value]) => {
    return `${name}: ${oneLine(typeof value === 'string' ? value : JSON.stringify(value))}\n`;
  });
  if (typeof raw === 'string') return `${lines.join('')}raw (base64): ${raw}\n`;
  // Cut out as it was received: numbers may have more digits than a number here. Within strings, quotes are escaped.
  const mark = ',"event":';
  const at = json.indexOf(mark);
  return `${lines.join('')}event: ${event === null || at < 0 ? '-' : json.slice(at + mark.length, -1)}\n`;
}

const stageTexts: Readonly<Record<string, string>> = {
  store: 'stored',
  log: 'in the log, not stored yet',
  parked: 'but the store refused it again',
};

function resultLine(result: Result): string {
  const { outcome, stage, replayedTo, code, detail } = result;
  const to = replayedTo === null ? '' : ` to ${positionText(replayedTo)}`;
  const where = stage === null ? '' : `, ${stageTexts[stage] ?? stage}`;
  const why = code === null ? '' : `: ${code}: ${detail ?? ''}`;
  return `${oneLine(`${positionText(result)} ${outcome.replace('_', ' ')}${to}${where}${why}`)}\n`;
}
