// `ess topics`: looks at the topics in Kafka, gives them more partitions, moves their replicas and elects their leaders.
// Runs on the main thread of a process of its own; the service goes on meanwhile.

import type { Writable } from 'node:stream';
import { kafkaTarget } from '../config/kafka.ts';
import { EssError, errorKinds } from '../errors.ts';
import { exitBadUsage, exitInterrupted } from './exit_code.ts';
import type { OnWaiting } from './init/patience.ts';
import { addPartitions } from './topics/add_partitions.ts';
import { TopicsCluster } from './topics/cluster.ts';
import { describeTopics } from './topics/describe.ts';
import { electLeaders } from './topics/elect.ts';
import type { TopicsIo } from './topics/io.ts';
import { moveReplicas } from './topics/move.ts';
import { parseTopicsOptions, type TopicsOptions, topicsHelpText } from './topics/options.ts';
import { reportJson, reportText } from './topics/report.ts';

/** Something is left to be done. */
const exitNotDone = 1;

/** Runs the command line after `topics`; gives the exit code. Never rejects for what a user or Kafka does. */
export async function runTopics(argv: readonly string[], io: TopicsIo): Promise<number> {
  try {
    const options = parseTopicsOptions(argv, io.env, io.cores);
    if (options === null) {
      io.stdout.write(topicsHelpText());
      return 0;
    }
    const target = kafkaTarget(options.config);
    if (target === null) {
      throw new EssError('bad_option', 'the embedded log has no topics: --kafka-brokers says where Kafka is');
    }
    const cluster = new TopicsCluster(target, io.signal, waitingTeller(io.stderr));
    try {
      const code = await act(cluster, options, io);
      return io.signal.aborted && code !== 0 ? exitInterrupted : code;
    } finally {
      await cluster.close();
    }
  } catch (error) {
    if (!(error instanceof EssError)) throw error;
    if (io.signal.aborted && error.code !== 'bad_option') {
      const text = error.code === 'stopping' ? 'ess topics describe shows how things are' : error.message;
      io.stderr.write(`ess topics: interrupted: ${text}\n`);
      return exitInterrupted;
    }
    io.stderr.write(`ess topics: ${error.message}\n${adviceFor(error)}\n`);
    return error.code === 'bad_option' ? exitBadUsage : exitNotDone;
  }
}

async function act(cluster: TopicsCluster, options: TopicsOptions, io: TopicsIo): Promise<number> {
  switch (options.action) {
    case 'describe': {
      const report = await describeTopics(cluster, options);
      io.stdout.write(options.isJson ? reportJson(report) : reportText(report));
      return 0;
    }
    case 'add-partitions':
      return addPartitions(cluster, options, io);
    case 'move':
      return moveReplicas(cluster, options, io);
    case 'elect':
      return electLeaders(cluster, options, io);
  }
}

/** Tells once why something is waited for: else a cluster that does not answer is a minute of silence. */
function waitingTeller(stderr: Writable): OnWaiting {
  const told = new Set<string>();
  return (what, reason) => {
    const text = `waiting for ${what}: ${reason}`;
    if (reason === null || told.has(text)) return;
    told.add(text);
    stderr.write(`${text}\n`);
  };
}

function adviceFor({ code }: EssError): string {
  if (code === 'bad_option') return 'See ess topics --help.';
  // The usual advice is for who sends events.
  if (code === 'log_unavailable') return 'Check the brokers, and run it again: it goes on where it was.';
  return errorKinds[code].action;
}
