// `ess topics add-partitions`: gives the topic of the events more partitions, says what that means for keys, and waits
// until every broker knows them. Runs on the main thread of that command.

import { createInterface } from 'node:readline/promises';
import { shardCount } from '../../config/clickhouse.ts';
import { EssError } from '../../errors.ts';
import type { TopicMetadata } from '../../log/kafka/wire/metadata.ts';
import type { TopicsCluster } from './cluster.ts';
import type { TopicsIo } from './io.ts';
import type { TopicsOptions } from './options.ts';

/** The controller may take so long, ms. */
const changeTimeoutMs = 30_000;

/** Gives the exit code. Rejects with `bad_option` or `log_unavailable`. */
export async function addPartitions(
  cluster: TopicsCluster,
  { config, count, isYes, waitMs }: TopicsOptions,
  io: TopicsIo,
): Promise<number> {
  const shards = shardCount(config);
  if (count % shards !== 0) {
    throw new EssError(
      'bad_option',
      `${count} partitions cannot be divided among ${shards} shards: a key would not stay on its shard`,
    );
  }
  const { topics } = await cluster.view();
  const [{ name, partitions }] = topics;
  if (count < partitions.length) {
    throw new EssError(
      'bad_option',
      `topic ${name} has ${partitions.length} partitions, and Kafka takes none away: more than that is possible only`,
    );
  }
  if (count === partitions.length) {
    io.stdout.write(`Topic ${name} has ${count} partitions already.\n`);
    return 0;
  }
  io.stdout.write(
    `Topic ${name}: ${partitions.length} partitions, ${count} wanted.
This cannot be taken back. New events of a key may go to another partition than its earlier ones: their order among
each other is not kept across the change, and an event without time that is sent again across it may count twice.
Stop nothing: ESS opens the topic anew by itself.
`,
  );
  if (!isYes && !(await isConfirmed(io))) {
    io.stdout.write('Nothing was changed: --yes carries it out.\n');
    return 1;
  }
  await cluster.change('the change', (timeoutMs) =>
    cluster.client.withBroker('any', Math.max(timeoutMs, changeTimeoutMs), async (broker) => {
      await broker.createPartitions({ topicPartitions: [{ topic: name, count }], timeout: changeTimeoutMs });
    }),
  );
  const isKnown = (found: readonly TopicMetadata[]): boolean => {
    const now = found.find((topic) => topic.name === name)?.partitions ?? [];
    return now.length === count && now.every(({ leader }) => leader >= 0);
  };
  if (!(await cluster.isEverywhere(isKnown, waitMs))) {
    io.stdout.write(
      `Topic ${name} has them, but not every broker knows yet: the same command looks again.\n`,
    );
    return 1;
  }
  io.stdout.write(`Topic ${name} has ${count} partitions, and every broker knows.\n`);
  return 0;
}

async function isConfirmed({ stdin, stderr, signal }: TopicsIo): Promise<boolean> {
  if (stdin.isTTY !== true || signal.aborted) return false;
  // No terminal to it, or it would take Ctrl-C for itself.
  const lines = createInterface({ input: stdin, output: stderr, terminal: false });
  try {
    return /^y(es)?$/i.test((await lines.question('Go on? (yes/no) ', { signal })).trim());
  } catch {
    // Interrupted, or the input has ended.
    return false;
  } finally {
    lines.close();
  }
}
