// `ess topics elect`: makes the preferred replica of every partition its leader, as far as it is in sync, and says what
// moved. Runs on the main thread of that command.

import { electLeadersCall } from '../../log/kafka/wire/elect_leaders.ts';
import { kafkaError, kafkaErrors } from '../../log/kafka/wire/errors.ts';
import type { TopicMetadata } from '../../log/kafka/wire/metadata.ts';
import { type ClusterView, check, type TopicsCluster } from './cluster.ts';
import type { TopicsIo } from './io.ts';
import type { TopicsOptions } from './options.ts';

interface Misled {
  readonly topic: string;
  readonly partition: number;
  readonly leader: number;
  readonly preferred: number;
}

/** Gives the exit code: 1 if a partition could not get its preferred leader. */
export async function electLeaders(
  cluster: TopicsCluster,
  { waitMs }: TopicsOptions,
  { stdout }: TopicsIo,
): Promise<number> {
  const misled = misledIn(await cluster.view());
  if (misled.length === 0) {
    stdout.write('Every partition is led by its preferred replica.\n');
    return 0;
  }
  const asked = new Map<string, number[]>();
  for (const { topic, partition } of misled) asked.set(topic, [...(asked.get(topic) ?? []), partition]);
  const outcomes = await cluster.change('the election', async (timeoutMs) => {
    const answer = await cluster.client.send('any', electLeadersCall(asked, timeoutMs), timeoutMs);
    check(answer.errorCode);
    return answer.partitions;
  });
  const refused = new Map(
    outcomes
      .filter(
        ({ errorCode }) =>
          errorCode !== kafkaErrors.NONE.code && errorCode !== kafkaErrors.ELECTION_NOT_NEEDED.code,
      )
      .map(({ topic, partition, errorCode }) => [`${topic}-${partition}`, errorCode]),
  );
  const elected = misled.filter(({ topic, partition }) => !refused.has(`${topic}-${partition}`));
  // The controller has elected them; the brokers hear of it a moment later.
  const isHeard = await cluster.isEverywhere((topics) => stillMisled(topics, elected) === 0, waitMs);
  for (const { topic, partition, leader, preferred } of misled) {
    const code = refused.get(`${topic}-${partition}`);
    const text =
      code === kafkaErrors.PREFERRED_LEADER_NOT_AVAILABLE.code
        ? `stays at ${leader}: broker ${preferred} is down or not in sync`
        : code !== undefined
          ? `stays at ${leader}: ${kafkaError(code).name}`
          : !isHeard
            ? `${leader} -> ${preferred}, which is not known everywhere yet`
            : `${leader} -> ${preferred}`;
    stdout.write(`  ${topic}-${partition}: ${text}\n`);
  }
  stdout.write(`${elected.length} of ${misled.length} partitions have been given their preferred leader.\n`);
  return isHeard && elected.length === misled.length ? 0 : 1;
}

/** Partitions that another than their first replica leads, or none. */
function misledIn({ topics }: ClusterView): Misled[] {
  return topics.flatMap(({ name, partitions }) =>
    partitions.flatMap(({ partition, leader, replicas: [preferred] }) =>
      preferred === undefined || leader === preferred ? [] : [{ topic: name, partition, leader, preferred }],
    ),
  );
}

/** How many of these a broker does not see led by their preferred replica. */
function stillMisled(topics: readonly TopicMetadata[], elected: readonly Misled[]): number {
  return elected.filter(({ topic, partition, preferred }) => {
    const now = topics.find(({ name }) => name === topic)?.partitions[partition];
    return now?.leader !== preferred;
  }).length;
}
