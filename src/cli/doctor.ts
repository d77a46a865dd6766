// `ess doctor`: looks at a live deployment for everything that is known to go wrong with one, and says of each what was
// found and what mends it. Runs on the main thread of a process of its own; changes nothing.

import type { Writable } from 'node:stream';
import { clickhouseNodes } from '../config/clickhouse.ts';
import { kafkaTarget } from '../config/kafka.ts';
import { EssError, errorKinds } from '../errors.ts';
import { clickhouseTasks } from './doctor/clickhouse.ts';
import { type Machine, machineTasks } from './doctor/machine.ts';
import { type DoctorOptions, doctorHelpText, parseDoctorOptions } from './doctor/options.ts';
import { Deadline, type Task } from './doctor/patient.ts';
import { type Line, reportJson, reportText, type Verdict, worstOf } from './doctor/report.ts';
import { serviceTask } from './doctor/service.ts';
import { exitBadUsage } from './exit_code.ts';

/** Exit code of a report with something that is not well. */
const exitNotWell = 1;

/** What the command uses of its process. */
export interface DoctorIo {
  readonly env: NodeJS.ProcessEnv;
  /** Cores of the machine, for the defaults of `serve`. */
  readonly cores: number;
  readonly stdout: Writable;
  readonly stderr: Writable;
  readonly machine: Machine;
}

/** Runs the command line after `doctor`; gives the exit code. Never rejects for what a user or a dependency does. */
export async function runDoctor(argv: readonly string[], io: DoctorIo): Promise<number> {
  try {
    const options = parseDoctorOptions(argv, io.env, io.cores);
    if (options === null) {
      io.stdout.write(doctorHelpText());
      return 0;
    }
    const lines = await examine(options, io);
    io.stdout.write(options.isJson ? reportJson(lines) : reportText(lines));
    const failing: readonly Verdict[] = options.isStrict ? ['error', 'warning'] : ['error'];
    return failing.includes(worstOf(lines)) ? exitNotWell : 0;
  } catch (error) {
    if (!(error instanceof EssError)) throw error;
    const isUsage = error.code === 'bad_option';
    const advice = isUsage ? 'See ess doctor --help.' : errorKinds[error.code].action;
    io.stderr.write(`ess doctor: ${error.message}\n${advice}\n`);
    return isUsage ? exitBadUsage : exitNotWell;
  }
}

/** Everything at the same time, so that what hangs takes no time from the rest. */
async function examine(options: DoctorOptions, io: DoctorIo): Promise<Line[]> {
  const { config, given, waitMs, url } = options;
  // Files of passwords and certificates first: their faults are faults of the command line.
  const target = kafkaTarget(config);
  const nodes = clickhouseNodes(config);
  const deadline = new Deadline(waitMs);
  const tasks: Task[] = machineTasks(config, io.env, io.machine, {
    log: target === null,
    store: nodes === null,
  });
  if (url !== null) tasks.push(serviceTask(url, deadline));
  if (nodes !== null) tasks.push(...clickhouseTasks(nodes, deadline));
  if (target === null) return settleAll(tasks, deadline);
  const [{ KafkaFacts }, { clusterTasks }, { topicTasks }, { groupTasks }] = await Promise.all([
    import('./doctor/kafka_facts.ts'),
    import('./doctor/kafka_cluster.ts'),
    import('./doctor/kafka_topics.ts'),
    import('./doctor/kafka_group.ts'),
  ]);
  const facts = new KafkaFacts(target, deadline);
  tasks.push(
    ...clusterTasks(facts, config),
    ...topicTasks(facts, config, given.has('partitions'), deadline),
    ...groupTasks(facts),
  );
  try {
    return await settleAll(tasks, deadline);
  } finally {
    await facts.close();
  }
}

async function settleAll(tasks: readonly Task[], deadline: Deadline): Promise<Line[]> {
  return (await Promise.all(tasks.map((task) => deadline.settle(task)))).flat();
}
