// What is to be seen of the cluster behind the log: which brokers answer, where the partitions' copies are, who is in
// the consumer group. Runs on the main thread when somebody looks, over connections of its own, so that it never stands
// before a batch or a heartbeat. Asks for what changes nothing; every question has a deadline.

import { performance } from 'node:perf_hooks';
import type {
  BrokerDescription,
  GroupDescription,
  GroupMemberDescription,
  LogDescriber,
  LogDescription,
  PartitionDescription,
} from '../log.ts';
import { KafkaClient } from './client.ts';
import { readAssignment, readSubscription } from './group_calls.ts';
import { KafkaError } from './kafka_error.ts';
import type { KafkaTarget } from './target.ts';
import type { TopicView } from './topic_view.ts';
import { readTopic, topicConfigNames } from './topics.ts';
import { metadataCall } from './wire/metadata.ts';

/** For each question, ms. */
const questionTimeoutMs = 1_500;
/** A broker that was heard of within this is not called down for one question without an answer, ms. */
const silenceMsMax = 5_000;
/** A broker that left the cluster, and has no copy of the topic, is shown as down for so long, ms. */
const departedMsMax = 600_000;
/** What the coordinator said last is shown for so long, ms; then the group's state is not known. */
const groupAgeMaxMs = 10_000;
/** The topic's settings are read again after this, ms. */
const configAgeMaxMs = 60_000;

/** Shown as the state of a group whose coordinator does not answer: Kafka's tools call it so, too. */
const unknownState = 'Unknown';

/** "host/node/index/count", as members of ESS call themselves. */
const sinkLabel = /^([^/]+)\/.+\/(\d+)\/(\d+)$/;

interface KnownBroker {
  readonly address: string;
  /** By the monotonic clock: in the metadata, and an answer of its own. */
  listedMs: number;
  answeredMs: number;
}

export class KafkaDescriber implements LogDescriber {
  readonly #target: KafkaTarget;
  readonly #client: KafkaClient;
  readonly #brokers = new Map<number, KnownBroker>();
  #view: TopicView | null = null;
  #coordinator: number | null = null;
  #group: { readonly description: GroupDescription; readonly atMs: number } | null = null;
  #minInsync: number;
  #configMs = Number.NEGATIVE_INFINITY;

  /** No I/O. */
  constructor(target: KafkaTarget) {
    this.#target = target;
    this.#client = new KafkaClient(target, { name: 'ess-describe', requestTimeoutMs: questionTimeoutMs });
    this.#minInsync = target.minInsyncReplicas;
  }

  /** Settles within 5 s: what is not answered is told as it was last known. */
  async describe(): Promise<LogDescription> {
    await this.#look();
    await Promise.all([this.#callBrokers(), this.#askGroup(), this.#readConfig()]);
    const view = this.#view;
    return {
      brokers: this.#describeBrokers(view),
      partitions: (view?.partitions ?? []).map(
        ({ leader, replicas, inSync }): PartitionDescription => ({ leader, replicas, inSync }),
      ),
      minInSyncReplicas: this.#minInsync,
      group: this.#describeGroup(),
      disk: null,
    };
  }

  close(): Promise<void> {
    return this.#client.close();
  }

  async #look(): Promise<void> {
    try {
      this.#view = await this.#client.metadata(0);
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      return;
    }
    const nowMs = performance.now();
    for (const { nodeId, host, port } of this.#view.brokers) {
      const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
      const known = this.#brokers.get(nodeId);
      if (known?.address === address) known.listedMs = nowMs;
      else this.#brokers.set(nodeId, { address, listedMs: nowMs, answeredMs: nowMs });
    }
  }

  /** Asks each broker something small: metadata list one that hangs, or was killed, until its session is over. */
  async #callBrokers(): Promise<void> {
    await Promise.all(
      [...this.#brokers].map(async ([nodeId, broker]) => {
        try {
          await this.#client.send(nodeId, metadataCall([]), questionTimeoutMs);
          broker.answeredMs = performance.now();
        } catch (error) {
          if (!(error instanceof KafkaError)) throw error;
          // One that refuses is there.
          if (error.kind === 'authentication' || error.kind === 'protocol')
            broker.answeredMs = performance.now();
        }
      }),
    );
  }

  #describeBrokers(view: TopicView | null): BrokerDescription[] {
    const nowMs = performance.now();
    const withCopies = new Set(view?.partitions.flatMap(({ replicas }) => replicas) ?? []);
    for (const nodeId of withCopies) {
      // Down since before this process first looked: only the topic tells of it.
      if (!this.#brokers.has(nodeId))
        this.#brokers.set(nodeId, {
          address: 'unknown address',
          listedMs: Number.NEGATIVE_INFINITY,
          answeredMs: Number.NEGATIVE_INFINITY,
        });
    }
    for (const [nodeId, { listedMs }] of this.#brokers)
      if (!withCopies.has(nodeId) && nowMs - listedMs > departedMsMax) this.#brokers.delete(nodeId);
    return [...this.#brokers]
      .sort(([a], [b]) => a - b)
      .map(([id, { address, answeredMs }]) => ({
        id,
        address,
        isUp: nowMs - answeredMs < silenceMsMax,
        isController: id === view?.controllerId,
      }));
  }

  async #askGroup(): Promise<void> {
    const { group, topic } = this.#target;
    try {
      this.#coordinator ??= await this.#client.coordinator(group, questionTimeoutMs);
      const { groups } = await this.#client.withBroker(this.#coordinator, questionTimeoutMs, (broker) =>
        broker.describeGroups({ groupIds: [group] }),
      );
      const found = groups.find(({ groupId }) => groupId === group);
      if (found === undefined) return;
      const members = found.members.map((member) => describeMember(member, topic));
      this.#group = { description: { id: group, state: found.state, members }, atMs: performance.now() };
    } catch (error) {
      // Whatever it was, the coordinator may have moved.
      this.#coordinator = null;
      if (!(error instanceof KafkaError)) throw error;
    }
  }

  #describeGroup(): GroupDescription {
    const known = this.#group;
    if (known !== null && performance.now() - known.atMs < groupAgeMaxMs) return known.description;
    return { id: this.#target.group, state: unknownState, members: [] };
  }

  async #readConfig(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#configMs < configAgeMaxMs) return;
    this.#configMs = nowMs;
    const { topic, minInsyncReplicas } = this.#target;
    // Not waited for: it has a longer deadline than the rest, and the last figure will do.
    void readTopic(this.#client, topic).then(
      (found) => {
        const inForce = Number(found?.configs?.get(topicConfigNames.minInsyncReplicas) ?? 0);
        // Brokers hold the one against an append, and ESS the other before it sends it.
        this.#minInsync = Math.max(minInsyncReplicas, inForce);
      },
      () => {},
    );
  }
}

interface FoundMember {
  readonly clientId: string;
  readonly clientHost: string;
  readonly memberMetadata: Buffer;
  readonly memberAssignment: Buffer;
}

/** Members of other programs may write what they like into these bytes. */
function describeMember(member: FoundMember, topic: string): GroupMemberDescription {
  const label = readSubscription(member.memberMetadata)?.label ?? null;
  const parts = label === null ? null : sinkLabel.exec(label);
  return {
    name: label ?? member.clientId,
    host: parts?.[1] ?? member.clientHost.replace(/^\//, ''),
    partitions: partitionsOf(member.memberAssignment, topic),
    sink: parts === null ? null : { index: Number(parts[2]), count: Number(parts[3]) },
  };
}

function partitionsOf(assignment: Buffer, topic: string): readonly number[] {
  try {
    return [...readAssignment(assignment, topic).partitions].sort((a, b) => a - b);
  } catch {
    return [];
  }
}
