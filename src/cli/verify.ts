// `ess verify`: proves that nothing was lost or doubled, by itself or through the process that holds the store. Runs on
// the main thread of a process of its own.

import type { Writable } from 'node:stream';
import { EssError, errorKinds } from '../errors.ts';
import { readReport, reportJson } from '../verify/report.ts';
import { exitBadUsage, exitInterrupted } from './exit_code.ts';
import { parseVerifyOptions, type VerifyOptions, verifyHelpText } from './verify/options.ts';
import { Progress } from './verify/progress.ts';
import { addressOf, failureText, verifyRemotely } from './verify/remote.ts';

/** Exit code beside 0, which means exact. */
const exitNotExact = 1;

/** What the command uses of its process. */
export interface VerifyIo {
  readonly env: NodeJS.ProcessEnv;
  /** Cores of the machine, for the defaults of `serve`. */
  readonly cores: number;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Gives up when aborted. */
  readonly signal: AbortSignal;
}

/** Runs the command line after `verify`; gives the exit code. Never rejects for what a user, log or store does. */
export async function runVerify(argv: readonly string[], io: VerifyIo): Promise<number> {
  const { env, cores, stdout, stderr, signal } = io;
  try {
    const options = parseVerifyOptions(argv, env, cores);
    if (options === null) {
      stdout.write(verifyHelpText());
      return 0;
    }
    const json = await orInterrupted(reportOf(options, io), signal);
    const report = readReport(json);
    if (report === null) throw new EssError('store_unavailable', 'what answered is no ESS of this version');
    stdout.write(options.isJson ? `${json}\n` : report.text);
    return report.isExact ? 0 : exitNotExact;
  } catch (error) {
    if (signal.aborted) {
      stderr.write('ess verify: interrupted: nothing is proven, and nothing was changed\n');
      return exitInterrupted;
    }
    const text = failureText(error);
    if (text === null) throw error;
    const isUsage = error instanceof EssError && error.code === 'bad_option';
    const code = error instanceof EssError ? error.code : 'store_unavailable';
    const advice = isUsage ? 'See ess verify --help.' : errorKinds[code].action;
    stderr.write(`ess verify: nothing is proven: ${text}\n${advice}\n`);
    return isUsage ? exitBadUsage : exitNotExact;
  }
}

/** Rejects as soon as the user interrupts, whatever is still waited for: nothing has to be brought to an end. */
function orInterrupted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const end = (): void => reject(new EssError('stopping', 'interrupted'));
    signal.addEventListener('abort', end, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', end));
  });
}

async function reportOf(options: VerifyOptions, { stderr, signal }: VerifyIo): Promise<string> {
  const { config, isDeep, isAccepting, url } = options;
  const progress = stderr.isTTY === true ? new Progress(stderr) : null;
  signal.addEventListener('abort', () => progress?.stop(), { once: true });
  const remotely = (address: string): Promise<string> =>
    verifyRemotely(address, isDeep, signal, progress?.onProgress ?? null);
  try {
    if (url !== null) return await remotely(url);
    const { verifyDirectly } = await import('./verify/direct.ts');
    const onProgress = progress?.onProgress ?? ((): void => {});
    const report = await verifyDirectly({ config, isDeep, isAccepting, signal, onProgress });
    if (!('held' in report)) return reportJson(report);
    if (isAccepting) {
      const text = `the store in ${config.dataDir} does not open here; stop ess for --accept-losses: ${report.held}`;
      throw new EssError('store_unavailable', text);
    }
    return await remotely(addressOf(config)).catch((error: unknown) => {
      if (!(error instanceof EssError)) throw error;
      const detail = `${error.message}; and the store in ${config.dataDir} does not open here: ${report.held}`;
      throw new EssError('store_unavailable', detail, { cause: error });
    });
  } finally {
    progress?.stop();
  }
}
