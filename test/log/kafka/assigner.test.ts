import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { assignPartitions, type GroupMember } from '../../../src/log/kafka/assigner.ts';

const shardsMax = 4;

/** Members that agree about the shards; labels may repeat, ids do not. */
const agreeing = fc
  .integer({ min: 1, max: shardsMax })
  .chain((shards) =>
    fc.tuple(
      fc.constant(shards),
      fc.array(fc.tuple(fc.nat(shards - 1), fc.nat(8)), { minLength: 1, maxLength: 12 }),
    ),
  )
  .map(([shards, list]) =>
    list.map(
      ([shard, label], i): GroupMember => ({
        memberId: `member-${i}`,
        profile: { shard, shards, node: `node-${shard}`, label: `label-${label}` },
      }),
    ),
  );
const partitionCounts = fc.integer({ min: 0, max: 64 });

function member(memberId: string, shard: number, shards: number, label = memberId): GroupMember {
  return { memberId, profile: { shard, shards, node: `node-${shard}`, label } };
}

function spread(loads: readonly number[]): number {
  return loads.length === 0 ? 0 : Math.max(...loads) - Math.min(...loads);
}

describe('the assigner', () => {
  it('gives every partition to exactly one member', () => {
    fc.assert(
      fc.property(agreeing, partitionCounts, (members, partitions) => {
        const dealt = [...assignPartitions(members, partitions).partitions.values()].flat();
        assert.deepEqual(
          dealt.sort((a, b) => a - b),
          [...Array(partitions).keys()],
        );
      }),
    );
  });

  it('gives the partitions of a shard to the members of that shard, evenly within one', () => {
    fc.assert(
      fc.property(agreeing, partitionCounts, (members, partitions) => {
        const { shards, partitions: dealt } = assignPartitions(members, partitions);
        for (let shard = 0; shard < shards; shard += 1) {
          const owners = members.filter(({ profile }) => profile?.shard === shard);
          const loads = owners.map(
            ({ memberId }) => (dealt.get(memberId) ?? []).filter((p) => p % shards === shard).length,
          );
          assert.ok(spread(loads) <= 1);
          const expected = [...Array(partitions).keys()].filter((p) => p % shards === shard).length;
          if (owners.length > 0)
            assert.equal(
              loads.reduce((a, b) => a + b, 0),
              expected,
            );
        }
      }),
    );
  });

  it('gives the partitions of a shard without members to the least loaded of the others', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 1, max: 20 }), (count, turns) => {
        const members = Array.from({ length: count }, (_, i) => member(`m${i}`, 0, 2));
        const { partitions } = assignPartitions(members, turns * 2);
        assert.ok(spread([...partitions.values()].map((own) => own.length)) <= 1);
      }),
    );
  });

  it('answers the same whatever the order of the members', () => {
    const shuffled = agreeing.chain((members) =>
      fc.tuple(
        fc.constant(members),
        fc.shuffledSubarray(members, { minLength: members.length, maxLength: members.length }),
      ),
    );
    fc.assert(
      fc.property(shuffled, partitionCounts, ([members, other], partitions) => {
        const one = assignPartitions(members, partitions);
        const two = assignPartitions(other, partitions);
        assert.equal(one.shards, two.shards);
        for (const { memberId } of members)
          assert.deepEqual(one.partitions.get(memberId), two.partitions.get(memberId));
      }),
    );
  });

  it('gives nothing to a member that disagrees with the majority about the shards', () => {
    const members = [member('a', 0, 2), member('b', 1, 2), member('c', 2, 3)];
    const { shards, partitions } = assignPartitions(members, 12);
    assert.equal(shards, 2);
    assert.deepEqual(partitions.get('c'), []);
    assert.equal([...partitions.values()].flat().length, 12);
  });

  it('gives nothing to members whose profile cannot be, and leaves nothing out', () => {
    const odd: GroupMember[] = [
      { memberId: 'none', profile: null },
      member('high', 2, 2),
      member('negative', -1, 2),
      member('half', 0.5, 2),
      member('zero', 0, 0),
    ];
    assert.deepEqual([...assignPartitions(odd, 4).partitions.values()].flat(), []);
    const { partitions } = assignPartitions([...odd, member('good', 0, 1)], 4);
    assert.deepEqual(partitions.get('good'), [0, 1, 2, 3]);
  });

  it('moves little when a member comes or goes', () => {
    const partitions = 60;
    let moved = 0;
    let least = 0;
    for (let count = 1; count <= 9; count += 1) {
      for (let round = 0; round < 20; round += 1) {
        const members = Array.from({ length: count + 1 }, (_, i) =>
          member(`m${i}`, 0, 1, `host-${round}:${i}`),
        );
        const before = assignPartitions(members.slice(0, count), partitions).partitions;
        const after = assignPartitions(members, partitions).partitions;
        for (const [memberId, own] of before) {
          const kept = new Set(after.get(memberId));
          moved += own.filter((partition) => !kept.has(partition)).length;
        }
        least += Math.floor(partitions / (count + 1));
      }
    }
    // Round robin over sorted members would move several times the least.
    assert.ok(moved <= 2 * least, `${moved} partitions moved, ${least} would have to`);
  });
});
