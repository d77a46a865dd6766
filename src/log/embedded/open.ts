// Opens the embedded log: one appender in each producer worker, one consumer in each sink worker, and readers
// wherever states and dead letters are shown. Each thread opens its own and closes it before it ends; who would end a
// thread or the process otherwise closes the gate first.

import { EssError } from '../../errors.ts';
import type { DeadLetterReader, LogAppender, LogConsumer, PartitionState } from '../log.ts';
import { EmbeddedAppender } from './appender.ts';
import { type ConsumerPlacement, EmbeddedConsumer } from './consumer.ts';
import { EmbeddedDeadLetters } from './dead_letters.ts';
import { type EmbeddedLogOptions, openEnvironment } from './environment.ts';

export type { EmbeddedLogOptions } from './environment.ts';

/**
 * How long records of another process stay unseen at most: part of the second from arrival to statistics. One look
 * costs about 3 us.
 */
export const pollMsDefault = 20;

export interface EmbeddedConsumerOptions extends EmbeddedLogOptions {
  /** This sink thread's number, 0 to count - 1: it owns the partitions p with p % count === index. */
  readonly index: number;
  /** Sink threads in all. */
  readonly count: number;
  /** Milliseconds between looks for new records; 0: never look, only `wake()`. @default 20 */
  readonly pollMs?: number;
}

/** A consumer that can be told of new records by an appender of the same process. */
export interface EmbeddedLogConsumer extends LogConsumer {
  /** Says that records may have arrived; `dataArrived` follows at once. Call it on the consumer's thread. */
  wake(): void;
}

/**
 * Ids of the other processes on this machine that have the log open: those that take events into it, and the one that
 * stores them. Makes the log if it is missing. Rejects as `openEmbeddedAppender` does.
 */
export async function otherProcesses(options: EmbeddedLogOptions): Promise<number[]> {
  const environment = await openEnvironment(options);
  try {
    return environment.otherProcesses();
  } finally {
    await environment.close();
  }
}

/** Reads what any thread may read. */
export interface EmbeddedLogReader extends DeadLetterReader {
  readonly epoch: string;
  readonly partitions: number;
  /** The state of every partition, by index. */
  states(): Promise<PartitionState[]>;
  close(): Promise<void>;
}

/** Rejects with `format_unknown` if a newer ESS wrote the log, `log_unavailable` if it cannot be opened. */
export async function openEmbeddedAppender(options: EmbeddedLogOptions): Promise<LogAppender> {
  return new EmbeddedAppender(await openEnvironment(options), options);
}

/** Rejects as `openEmbeddedAppender` does. */
export async function openEmbeddedConsumer(options: EmbeddedConsumerOptions): Promise<EmbeddedLogConsumer> {
  const { index, count, pollMs = pollMsDefault } = options;
  if (!(index >= 0 && index < count)) throw new EssError('internal', `sink ${index} of ${count} cannot be`);
  const placement: ConsumerPlacement = { index, count, pollMs };
  return new EmbeddedConsumer(await openEnvironment(options), placement);
}

/** Rejects as `openEmbeddedAppender` does. */
export async function openEmbeddedReader(options: EmbeddedLogOptions): Promise<EmbeddedLogReader> {
  const environment = await openEnvironment(options);
  const letters = new EmbeddedDeadLetters(environment);
  return {
    epoch: environment.identity.epoch,
    partitions: environment.identity.partitions,
    states: async () => environment.states(),
    isParked: (partition, offset) => letters.isParked(partition, offset),
    deadLetters: (limit, after, which) => letters.deadLetters(limit, after, which),
    deadLetterCount: (which) => letters.deadLetterCount(which),
    close: () => environment.close(),
  };
}
