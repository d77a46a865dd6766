// `ess init`: makes what the service depends on and what is missing, and compares what is there with what its promises
// need. Runs on the main thread of a process of its own; the comparison alone also at the start of `serve`.

import type { Writable } from 'node:stream';
import { clickhouseNodes } from '../config/clickhouse.ts';
import { kafkaTarget } from '../config/kafka.ts';
import type { Config } from '../config/options.ts';
import { EssError, errorKinds } from '../errors.ts';
import type { KafkaTarget } from '../log/kafka/target.ts';
import { exitBadUsage } from './exit_code.ts';
import { settleClickhouse } from './init/clickhouse.ts';
import type { FindObstacle } from './init/layout.ts';
import { type InitOptions, initHelpText, parseInitOptions } from './init/options.ts';
import { Patience } from './init/patience.ts';
import { Progress } from './init/progress.ts';
import { isAsWanted, type Step, stepsJson, stepsText } from './init/step.ts';
import type { Mode } from './init/tables.ts';

/** Exit code beside 0, which means that everything is as wanted. */
const exitDiffers = 1;

/** How long a check at the start waits for a dependency, ms: what does not answer is waited for later, by its user. */
const checkWaitMs = 5000;

/** What the command uses of its process. */
export interface InitIo {
  readonly env: NodeJS.ProcessEnv;
  /** Cores of the machine, for the defaults of `serve`. */
  readonly cores: number;
  readonly stdout: Writable;
  readonly stderr: Writable & { readonly isTTY?: boolean };
  /** Opens or makes the data directory (engine/data_dir.ts); given, since commands know nothing of the engine. */
  readonly openDataDir: (path: string) => { readonly logPath: string; readonly storePath: string };
}

/** Runs the command line after `init`; gives the exit code. Never rejects for what a user or a dependency does. */
export async function runInit(argv: readonly string[], io: InitIo): Promise<number> {
  try {
    const options = parseInitOptions(argv, io.env, io.cores);
    if (options === null) {
      io.stdout.write(initHelpText());
      return 0;
    }
    const steps = await settleAll(options, io);
    io.stdout.write(options.isJson ? stepsJson(steps) : stepsText(steps));
    return steps.every(isAsWanted) ? 0 : exitDiffers;
  } catch (error) {
    if (!(error instanceof EssError)) throw error;
    const isUsage = error.code === 'bad_option';
    const advice = isUsage ? 'See ess init --help.' : errorKinds[error.code].action;
    io.stderr.write(`ess init: ${error.message}\n${advice}\n`);
    return isUsage ? exitBadUsage : exitDiffers;
  }
}

async function settleAll(options: InitOptions, io: InitIo): Promise<Step[]> {
  const { config, given, isApply, waitMs } = options;
  const mode = isApply ? 'apply' : 'make';
  // Files of passwords and certificates first: their faults are faults of the command line.
  const target = kafkaTarget(config);
  const nodes = clickhouseNodes(config);
  const steps: Step[] = [];
  const progress = new Progress(io.stderr, waitMs);
  const patience = new Patience(waitMs, progress.onWaiting);
  try {
    if (target === null || nodes === null) {
      const { settleEmbeddedLog, settleEmbeddedStore } = await import('./init/embedded.ts');
      const { logPath, storePath } = io.openDataDir(config.dataDir);
      if (target === null) steps.push(await settleEmbeddedLog(logPath, config));
      if (nodes === null) steps.push(await settleEmbeddedStore(storePath, mode));
    }
    // At the same time, since both have the same time to be there.
    const settlingKafka = kafkaSteps(target, config, given.has('partitions'), mode, patience);
    const findObstacle: FindObstacle = async (isWaiting) => {
      const log = [...steps, ...(await settlingKafka)].find((step) => !isAsWanted(step));
      if (log !== undefined) return `${log.part} is not as wanted`;
      const { groupObstacle, logObstacle } = await import('./init/sinks.ts');
      const waiting = isWaiting ? patience : new Patience(0);
      if (target !== null) return groupObstacle(target, waiting);
      return logObstacle(io.openDataDir(config.dataDir).logPath, config, waiting);
    };
    const [ofKafka, ofClickhouse] = await Promise.all([
      settlingKafka,
      nodes === null ? [] : settleClickhouse(nodes, mode, patience, findObstacle),
    ]);
    return [...steps, ...ofKafka, ...ofClickhouse];
  } finally {
    progress.stop();
  }
}

/**
 * Compares what this role depends on with what its promises need, and changes nothing: Kafka's topics, and for a sink
 * database and tables of every ClickHouse node. What is embedded is made by `serve` itself and not looked at. Reads
 * the files of passwords and certificates. Waits a few seconds at most; see `refusalOf` for what to do with it. Throws
 * EssError `bad_option` for a file that cannot be used.
 */
export async function checkDependencies(config: Config, waitMs = checkWaitMs): Promise<Step[]> {
  const target = kafkaTarget(config);
  const nodes = config.role === 'ingest' ? null : clickhouseNodes(config);
  const patience = new Patience(waitMs);
  const steps = await Promise.all([
    kafkaSteps(target, config, false, 'check', patience),
    // A check never comes to ask.
    nodes === null ? [] : settleClickhouse(nodes, 'check', patience, async () => 'this is a check'),
  ]);
  return steps.flat();
}

async function kafkaSteps(
  target: KafkaTarget | null,
  config: Config,
  isPartitionsGiven: boolean,
  mode: Mode,
  patience: Patience,
): Promise<Step[]> {
  if (target === null) return [];
  const { settleKafka } = await import('./init/kafka.ts');
  return settleKafka(target, config, isPartitionsGiven, mode, patience);
}

/**
 * The error with which to refuse the start: the first thing that differs, and the command that mends it; null if
 * nothing does. What cannot be reached is no reason to refuse: it may come back, and the rest works without it.
 */
export function refusalOf(steps: readonly Step[]): EssError | null {
  for (const { part, findings } of steps) {
    for (const { what, found, wanted, breaks, mend } of findings) {
      const text = `${part}: ${what} is ${found}, but must be ${wanted} (or else this does not hold: ${breaks})`;
      return new EssError('bad_option', `${text}; this mends it: ${mend}`);
    }
  }
  return null;
}
