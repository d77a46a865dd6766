// Who of the consumer group gets which partition: members that own a node of the partition's shard first, evenly, and
// with little movement when members come and go. A pure function of the members, run on the sink thread that leads
// the group; it keeps no memory of earlier assignments and gives the same answer for the members in any order.

import { murmur2 } from '../../event/partition.ts';

/** Name of the group protocol. Members that know another one only are refused by the coordinator. */
export const assignerName = 'ess-shards-1';

/** What a member says of itself; constant for its life, since any change of it would be a rebalance. */
export interface MemberProfile {
  /** The shard that the member's ClickHouse node belongs to, 0 to shards - 1. */
  readonly shard: number;
  /** Shards in the member's configuration; all members must agree. */
  readonly shards: number;
  /** The ClickHouse node that the member inserts into, for people. */
  readonly node: string;
  /** Tells members apart and stays the same when a process starts again, so that its partitions come back to it. */
  readonly label: string;
}

export interface GroupMember {
  readonly memberId: string;
  /** Null if the member did not say, or not readably. */
  readonly profile: MemberProfile | null;
}

export interface Assignment {
  /** The number of shards that most members agree on; 0 if no member says any. */
  readonly shards: number;
  /** Every member's partitions, ascending, by member id. Empty for members that disagree about the shards. */
  readonly partitions: ReadonlyMap<string, readonly number[]>;
}

/** A member that takes part, with what it has so far. */
interface Seat {
  readonly memberId: string;
  readonly profile: MemberProfile;
  readonly partitions: number[];
}

/** Deals out partitions 0 to `partitions` - 1. Every one goes to exactly one member if any member takes part. */
export function assignPartitions(members: readonly GroupMember[], partitions: number): Assignment {
  const shards = agreedShards(members);
  const seats: Seat[] = [];
  for (const { memberId, profile } of members) {
    if (profile !== null && isFit(profile, shards)) seats.push({ memberId, profile, partitions: [] });
  }
  // Two processes may carry the same label: then the id decides, which only costs movement.
  seats.sort((a, b) => compare(a.profile.label, b.profile.label) || compare(a.memberId, b.memberId));
  const orphans: number[] = [];
  for (let shard = 0; shard < shards; shard += 1) {
    const own: number[] = [];
    for (let partition = shard; partition < partitions; partition += shards) own.push(partition);
    const owners = seats.filter(({ profile }) => profile.shard === shard);
    if (owners.length > 0) dealEvenly(own, owners);
    else orphans.push(...own);
  }
  if (seats.length > 0)
    for (const partition of orphans) leastLoaded(seats, partition).partitions.push(partition);
  const dealt = new Map<string, readonly number[]>(members.map(({ memberId }) => [memberId, []]));
  for (const { memberId, partitions: own } of seats)
    dealt.set(
      memberId,
      own.sort((a, b) => a - b),
    );
  return { shards, partitions: dealt };
}

/** The number of shards that most members have; among equals the larger, since shards are added, not removed. */
function agreedShards(members: readonly GroupMember[]): number {
  const votes = new Map<number, number>();
  for (const { profile } of members) {
    if (profile !== null && isFit(profile, profile.shards))
      votes.set(profile.shards, (votes.get(profile.shards) ?? 0) + 1);
  }
  let agreed = 0;
  let most = 0;
  for (const [shards, count] of votes) {
    if (count < most || (count === most && shards < agreed)) continue;
    agreed = shards;
    most = count;
  }
  return agreed;
}

function isFit({ shard, shards }: MemberProfile, agreed: number): boolean {
  return (
    Number.isInteger(shards) &&
    shards >= 1 &&
    shards === agreed &&
    Number.isInteger(shard) &&
    shard >= 0 &&
    shard < shards
  );
}

/**
 * Rendezvous hashing with bounded loads: all pairs of partition and member in the order of their hash, each taken if
 * both are still free. Another member changes only the pairs that it wins and what these push on.
 */
function dealEvenly(partitions: readonly number[], seats: readonly Seat[]): void {
  const pairs: { readonly partition: number; readonly seat: Seat; readonly score: number }[] = [];
  for (const partition of partitions) {
    for (const seat of seats) pairs.push({ partition, seat, score: scoreOf(seat, partition) });
  }
  // The sort is stable, and the pairs were made in the order of partitions and of sorted members.
  pairs.sort((a, b) => b.score - a.score);
  const share = Math.floor(partitions.length / seats.length);
  let extras = partitions.length % seats.length;
  const taken = new Set<number>();
  for (const { partition, seat } of pairs) {
    if (taken.has(partition) || seat.partitions.length > share) continue;
    if (seat.partitions.length === share) {
      if (extras === 0) continue;
      extras -= 1;
    }
    seat.partitions.push(partition);
    taken.add(partition);
  }
}

/** The member with the fewest partitions; among equals the one that the hash prefers. */
function leastLoaded(seats: readonly Seat[], partition: number): Seat {
  return seats.reduce((best, seat) => {
    const difference = seat.partitions.length - best.partitions.length;
    if (difference !== 0) return difference < 0 ? seat : best;
    return scoreOf(seat, partition) > scoreOf(best, partition) ? seat : best;
  });
}

function scoreOf({ profile }: Seat, partition: number): number {
  return murmur2(Buffer.from(`${profile.label}/${partition}`)) >>> 0;
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
