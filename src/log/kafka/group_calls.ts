// The six requests of a consumer group, and what ESS's members write into them. Runs on sink threads. kafkajs has
// encoders for them too, but its JoinGroup hides the member id until the group is formed (a process that ends
// meanwhile leaves a ghost behind, which holds up the others for a session), and its OffsetFetch cannot ask for stable
// offsets only. Fields: the *Request.json and *Response.json of Apache Kafka; the versions are those that 3.7 and 4.1
// both take.

import type { MemberProfile } from './assigner.ts';
import { makeCall, type WireCall } from './wire/call.ts';
import { kafkaErrors } from './wire/errors.ts';
import { RequestWriter } from './wire/request_writer.ts';
import { ResponseReader } from './wire/response_reader.ts';

const api = {
  join: { key: 11, version: 4, name: 'JoinGroup', isFlexible: false },
  heartbeat: { key: 12, version: 2, name: 'Heartbeat', isFlexible: false },
  leave: { key: 13, version: 2, name: 'LeaveGroup', isFlexible: false },
  sync: { key: 14, version: 2, name: 'SyncGroup', isFlexible: false },
  commit: { key: 8, version: 5, name: 'OffsetCommit', isFlexible: false },
  // The first version with require_stable: without it a commit that is still being replicated is not seen.
  positions: { key: 9, version: 7, name: 'OffsetFetch', isFlexible: true },
} as const;

/** Makes the group one of consumers to Kafka's tools, and keeps its offsets from expiring while it has members. */
const protocolType = 'consumer';
/** Version of ConsumerProtocolSubscription and ConsumerProtocolAssignment: topics and user data only. */
const consumerProtocolVersion = 0;

/** Codes of Kafka's that the group's requests answer with. */
export const groupErrors = {
  none: kafkaErrors.NONE.code,
  unknownTopicOrPartition: kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code,
  requestTimedOut: kafkaErrors.REQUEST_TIMED_OUT.code,
  offsetMetadataTooLarge: kafkaErrors.OFFSET_METADATA_TOO_LARGE.code,
  coordinatorLoading: kafkaErrors.COORDINATOR_LOAD_IN_PROGRESS.code,
  coordinatorNotAvailable: kafkaErrors.COORDINATOR_NOT_AVAILABLE.code,
  notCoordinator: kafkaErrors.NOT_COORDINATOR.code,
  illegalGeneration: kafkaErrors.ILLEGAL_GENERATION.code,
  unknownMemberId: kafkaErrors.UNKNOWN_MEMBER_ID.code,
  rebalanceInProgress: kafkaErrors.REBALANCE_IN_PROGRESS.code,
  memberIdRequired: kafkaErrors.MEMBER_ID_REQUIRED.code,
  fencedInstanceId: kafkaErrors.FENCED_INSTANCE_ID.code,
  unstableOffsetCommit: kafkaErrors.UNSTABLE_OFFSET_COMMIT.code,
} as const;

/** Member of a group in one generation: what every request after joining carries. */
export interface Membership {
  readonly generation: number;
  readonly memberId: string;
}

export interface JoinRequest {
  readonly group: string;
  readonly sessionTimeoutMs: number;
  /** How long the coordinator waits for members to join again, ms. */
  readonly rebalanceTimeoutMs: number;
  /** Empty at first: the answer then is memberIdRequired, with the id to join with. */
  readonly memberId: string;
  readonly protocol: string;
  readonly subscription: Buffer;
}

export interface JoinAnswer extends Membership {
  readonly errorCode: number;
  readonly leaderId: string;
  /** Everybody's subscription, for the leader; empty for the others. */
  readonly members: readonly { readonly memberId: string; readonly subscription: Buffer }[];
}

export function joinCall(request: JoinRequest): WireCall<JoinAnswer> {
  return makeCall(
    api.join,
    (body) => {
      body.string(request.group);
      body.int32(request.sessionTimeoutMs);
      body.int32(request.rebalanceTimeoutMs);
      body.string(request.memberId);
      body.string(protocolType);
      body.count(1);
      body.string(request.protocol);
      body.blob(request.subscription);
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      const generation = body.int32();
      body.string(); // the protocol: we offer one only
      const leaderId = body.string();
      const memberId = body.string();
      const members = body.array(() => ({ memberId: body.string(), subscription: body.blob() }));
      return { clientSideThrottleTime, answer: { errorCode, generation, leaderId, memberId, members } };
    },
  );
}

export interface SyncAnswer {
  readonly errorCode: number;
  readonly assignment: Buffer;
}

/** `assignments` by member id, from the leader; none from the others. */
export function syncCall(
  group: string,
  { generation, memberId }: Membership,
  assignments: ReadonlyMap<string, Buffer>,
): WireCall<SyncAnswer> {
  return makeCall(
    api.sync,
    (body) => {
      body.string(group);
      body.int32(generation);
      body.string(memberId);
      body.count(assignments.size);
      for (const [member, assignment] of assignments) {
        body.string(member);
        body.blob(assignment);
      }
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      return { clientSideThrottleTime, answer: { errorCode, assignment: body.blob() } };
    },
  );
}

/** Answers with an error code. */
export function heartbeatCall(group: string, { generation, memberId }: Membership): WireCall<number> {
  return makeCall(
    api.heartbeat,
    (body) => {
      body.string(group);
      body.int32(generation);
      body.string(memberId);
    },
    (body) => ({ clientSideThrottleTime: body.int32(), answer: body.int16() }),
  );
}

/** Answers with an error code. */
export function leaveCall(group: string, memberId: string): WireCall<number> {
  return makeCall(
    api.leave,
    (body) => {
      body.string(group);
      body.string(memberId);
    },
    (body) => ({ clientSideThrottleTime: body.int32(), answer: body.int16() }),
  );
}

export interface CommittedPosition {
  readonly partition: number;
  readonly offset: number;
  /** At most the broker's offset.metadata.max.bytes, 4,096 by default. */
  readonly metadata: string;
}

/** Answers with an error code for each partition. */
export function commitCall(
  group: string,
  { generation, memberId }: Membership,
  topic: string,
  positions: readonly CommittedPosition[],
): WireCall<ReadonlyMap<number, number>> {
  return makeCall(
    api.commit,
    (body) => {
      body.string(group);
      body.int32(generation);
      body.string(memberId);
      body.count(1);
      body.string(topic);
      body.count(positions.length);
      for (const { partition, offset, metadata } of positions) {
        body.int32(partition);
        body.int64(offset);
        body.string(metadata);
      }
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const topics = body.array(() => {
        body.string();
        return body.array((): [number, number] => [body.int32(), body.int16()]);
      });
      return { clientSideThrottleTime, answer: new Map(topics.flat()) };
    },
  );
}

export interface PositionsAnswer {
  /** Of the whole answer, else the first of a partition. */
  readonly errorCode: number;
  /** Offset -1 with empty metadata where none was committed. */
  readonly positions: readonly CommittedPosition[];
}

/**
 * Waits for nothing: where a commit is still being replicated, the answer is unstableOffsetCommit if `isStableOnly`, else
 * the position before it.
 */
export function positionsCall(
  group: string,
  topic: string,
  partitions: readonly number[],
  isStableOnly: boolean,
): WireCall<PositionsAnswer> {
  return makeCall(
    api.positions,
    (body) => {
      body.compactString(group);
      body.compactCount(1);
      body.compactString(topic);
      body.compactCount(partitions.length);
      for (const partition of partitions) body.int32(partition);
      body.noTags();
      body.boolean(isStableOnly);
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      let partitionError: number = groupErrors.none;
      const topics = body.compactArray(() => {
        body.compactString();
        const positions = body.compactArray(() => {
          const partition = body.int32();
          const offset = body.int64();
          body.int32(); // leader epoch, as committed: we commit none
          const metadata = body.compactNullableString() ?? '';
          const errorCode = body.int16();
          if (partitionError === groupErrors.none) partitionError = errorCode;
          body.skipTags();
          return { partition, offset, metadata };
        });
        body.skipTags();
        return positions;
      });
      const errorCode = body.int16();
      body.skipTags();
      return {
        clientSideThrottleTime,
        answer: {
          errorCode: errorCode === groupErrors.none ? partitionError : errorCode,
          positions: topics.flat(),
        },
      };
    },
  );
}

/** What a member says when it joins (ConsumerProtocolSubscription): the topic and, as user data, its profile. */
export function writeSubscription(topic: string, { shard, shards, node, label }: MemberProfile): Buffer {
  const writer = new RequestWriter();
  writer.int16(consumerProtocolVersion);
  writer.count(1);
  writer.string(topic);
  writer.blob(Buffer.from(JSON.stringify({ shard, shards, node, label })));
  return Buffer.from(writer.bytes);
}

/** The profile in a subscription; null if it is not one of ours. */
export function readSubscription(bytes: Buffer): MemberProfile | null {
  try {
    const reader = new ResponseReader(bytes, 'subscription');
    reader.int16();
    reader.array(() => reader.string());
    const profile: unknown = JSON.parse(reader.blob().toString());
    if (typeof profile !== 'object' || profile === null) return null;
    if (!('shard' in profile && 'shards' in profile && 'node' in profile && 'label' in profile)) return null;
    const { shard, shards, node, label } = profile;
    if (typeof shard !== 'number' || typeof shards !== 'number') return null;
    if (typeof node !== 'string' || typeof label !== 'string') return null;
    return { shard, shards, node, label };
  } catch {
    return null;
  }
}

/** What the leader gives to a member. */
export interface MemberAssignment {
  readonly partitions: readonly number[];
  /** The number of shards that the group goes by; 0 if the leader did not say. */
  readonly shards: number;
}

/** A member's share (ConsumerProtocolAssignment), with the agreed number of shards as user data. */
export function writeAssignment(topic: string, { partitions, shards }: MemberAssignment): Buffer {
  const writer = new RequestWriter();
  writer.int16(consumerProtocolVersion);
  writer.count(1);
  writer.string(topic);
  writer.count(partitions.length);
  for (const partition of partitions) writer.int32(partition);
  const userData = Buffer.alloc(4);
  userData.writeInt32BE(shards);
  writer.blob(userData);
  return Buffer.from(writer.bytes);
}

/** Reads a share; empty bytes, which a coordinator gives to a member that the leader left out, are no partitions. */
export function readAssignment(bytes: Buffer, topic: string): MemberAssignment {
  if (bytes.length === 0) return { partitions: [], shards: 0 };
  const reader = new ResponseReader(bytes, 'assignment');
  reader.int16();
  const topics = reader.array(() => ({
    name: reader.string(),
    partitions: reader.array(() => reader.int32()),
  }));
  const userData = reader.blob();
  return {
    partitions: topics.find(({ name }) => name === topic)?.partitions ?? [],
    shards: userData.length === 4 ? userData.readInt32BE(0) : 0,
  };
}
