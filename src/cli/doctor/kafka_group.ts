// What `ess doctor` looks at in the consumer group of the sinks: who is in it, how far it has come, and whether its
// positions are of the topic that there is now. Runs on the main thread of a process of its own.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Bounds } from '../../log/kafka/bounds.ts';
import type { CommittedPosition } from '../../log/kafka/group_calls.ts';
import { stampedEpoch } from '../../log/kafka/position_stamp.ts';
import { noTopicId } from '../../log/kafka/wire/metadata.ts';
import { reasonOf } from '../init/patience.ts';
import type { CheckId } from './checks.ts';
import type { KafkaFacts } from './kafka_facts.ts';
import { counted, listed } from './names.ts';
import type { Task } from './patient.ts';
import { failure, type Line, ok, unknown, warning } from './report.ts';

/** Lag over this is the alert of the seeds, and makes the status degraded, ms. */
const lagMsMax = 60_000;
/** A rebalance is over in less: a group that is not stable at either end of it is stuck, or never rests. ms */
const settleMs = 3_000;

const startSinks = 'start a process with --role sink or --role all';

export function groupTasks(facts: KafkaFacts): Task[] {
  const { group } = facts.target;
  const task = (id: CheckId, run: () => Promise<readonly Line[]>): Task => ({
    ids: [id],
    subject: group,
    run,
  });
  return [
    task('group_coordinator', () => coordinatorLines(facts)),
    task('group_members', () => memberLines(facts)),
    task('group_lag', () => lagLines(facts)),
    task('group_positions', () => positionLines(facts)),
    task('topic_identity', () => identityLines(facts)),
  ];
}

async function coordinatorLines(facts: KafkaFacts): Promise<Line[]> {
  const { group } = facts.target;
  try {
    return [ok('group_coordinator', group, `broker ${await facts.coordinator()}`)];
  } catch (error) {
    const mend = 'start the brokers that are missing: those with the copies of __consumer_offsets';
    return [failure('group_coordinator', group, `none: ${reasonOf(error)}`, mend)];
  }
}

async function memberLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'group_members';
  const { group } = facts.target;
  let found = await facts.group();
  if (found !== null && found.members.length > 0 && found.state !== 'Stable') {
    await sleep(settleMs);
    found = await facts.group();
  }
  const members = found?.members.length ?? 0;
  if (found === null || members === 0) {
    const waiting = await waitingCount(facts).catch(() => null);
    const text = `no member: no sink runs${waiting === null ? '' : `, and ${counted(waiting, 'record')} ${waiting === 1 ? 'waits' : 'wait'}`}`;
    const isHarm = waiting === null || waiting > 0;
    return [isHarm ? failure(check, group, text, startSinks) : warning(check, group, text, startSinks)];
  }
  if (found.state !== 'Stable') {
    const names = listed(found.members.map(({ clientId, clientHost }) => `${clientId} at ${clientHost}`));
    const text = `${found.state} for more than ${settleMs / 1000} s: ${names}`;
    const mend =
      'restart the sinks that take longer than --kafka-session-timeout-ms to answer (their logs say so), one by one';
    return [failure(check, group, text, mend)];
  }
  return [ok(check, group, `stable, ${counted(members, 'member')}`)];
}

/** Where a partition stands: the next offset to store, and where its records begin and end. */
interface Place extends Bounds {
  readonly partition: number;
  readonly committed: number;
  readonly next: number;
}

async function placesOf(facts: KafkaFacts): Promise<Place[]> {
  const bounds = await facts.bounds();
  const positions = await currentPositions(facts);
  return [...bounds].map(([partition, { start, end }]) => {
    const committed = positions.find((each) => each.partition === partition)?.offset ?? -1;
    return { partition, committed, start, end, next: Math.max(committed, start) };
  });
}

/** Without those that were committed for another topic of this name: they count as none. */
async function currentPositions(facts: KafkaFacts): Promise<CommittedPosition[]> {
  const topicId = (await facts.metadataOf(facts.target.topic))?.topicId ?? noTopicId;
  return (await facts.positions()).filter(({ metadata }) => {
    const stamped = stampedEpoch(metadata);
    return stamped === null || stamped === topicId;
  });
}

async function waitingCount(facts: KafkaFacts): Promise<number> {
  return (await placesOf(facts)).reduce((sum, { next, end }) => sum + Math.max(end - next, 0), 0);
}

async function lagLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'group_lag';
  const { group } = facts.target;
  const places = await placesOf(facts);
  const partitions = await facts.partitions();
  const silent = partitions.length - places.length;
  const lag = await waitingCount(facts);
  const records = `${counted(lag, 'record')} ${lag === 1 ? 'waits' : 'wait'}`;
  const late = await latePartitions(facts, places);
  if (late.length > 0) {
    const text = `${records}; for more than ${lagMsMax / 1000} s in partition ${listed(late)}`;
    const mend = `${startSinks}, if too few run; else see the section Lag of docs/operations.md: ClickHouse does not keep up`;
    return [warning(check, group, text, mend)];
  }
  if (silent > 0)
    return [unknown(check, group, `${records}; the leaders of ${counted(silent, 'partition')} do not tell`)];
  return [ok(check, group, `${records}, none for more than ${lagMsMax / 1000} s`)];
}

async function latePartitions(facts: KafkaFacts, places: readonly Place[]): Promise<number[]> {
  if (places.every(({ next, end }) => next >= end)) return [];
  const young = await facts.offsetsAt(Date.now() - lagMsMax);
  return places
    .filter(({ partition, next, end }) => {
      const first = young.get(partition);
      // -1: no record is that young, so that every one that waits is older.
      return first !== undefined && next < end && (first < 0 || next < first);
    })
    .map(({ partition }) => partition);
}

async function positionLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'group_positions';
  const { group } = facts.target;
  const places = await placesOf(facts);
  const gone = places.filter(({ committed, start }) => committed >= 0 && committed < start);
  if (gone.length > 0) {
    const ranges = listed(
      gone.map(({ partition, committed, start }) => `${partition} (${committed} to ${start - 1})`),
    );
    const mend =
      'they cannot be had back from Kafka: raise retention.ms and retention.bytes, send the events again if somebody has them, then ess verify --accept-losses (section Partition halted of docs/operations.md)';
    return [failure(check, group, `dropped before they were stored: partition ${ranges}`, mend)];
  }
  const beyond = places.filter(({ committed, end }) => committed > end);
  if (beyond.length > 0) {
    const text = `beyond the end of the log: partition ${listed(beyond.map(({ partition }) => partition))}`;
    const mend =
      'section Partition halted of docs/operations.md: the log has lost its end (unclean election), or somebody has moved the positions';
    return [failure(check, group, text, mend)];
  }
  const foreign = (await facts.positions()).filter(
    ({ offset, metadata }) => offset >= 0 && stampedEpoch(metadata) === null,
  );
  if (foreign.length > 0) {
    const text = `not written by ESS (kafka-consumer-groups.sh, or another consumer in the group): partition ${listed(foreign.map(({ partition }) => partition))}`;
    const mend = 'a --kafka-group of its own for ESS; the sinks go by the ledger and correct the position';
    return [warning(check, group, text, mend)];
  }
  const committed = places.filter((place) => place.committed >= 0).length;
  return [
    ok(
      check,
      group,
      `${committed} of ${counted(places.length, 'partition')} have one, none before the beginning of the log`,
    ),
  ];
}

async function identityLines(facts: KafkaFacts): Promise<Line[]> {
  const check = 'topic_identity';
  const { topic, group } = facts.target;
  const found = await facts.metadataOf(topic);
  if (found === null) return [unknown(check, group, `there is no topic ${topic}`)];
  const { topicId } = found;
  if (topicId === noTopicId) {
    const text = 'the topic has no id: the cluster was never raised to Kafka 2.8';
    return [failure(check, group, text, 'raise inter.broker.protocol.version to 2.8 or later')];
  }
  const stamps = (await facts.positions()).flatMap(({ partition, metadata }) => {
    const stamped = stampedEpoch(metadata);
    return stamped === null || stamped === topicId ? [] : [partition];
  });
  if (stamps.length > 0) {
    const text = `the positions of partition ${listed(stamps)} are of a former topic ${topic}; this one is ${topicId}`;
    const mend =
      'nothing, if the topic was made anew on purpose: sinks begin it at its first record and replace them; else restore the former topic and start ess with its name in --kafka-topic';
    return [failure(check, group, text, mend)];
  }
  return [ok(check, group, `topic id ${topicId}`)];
}
