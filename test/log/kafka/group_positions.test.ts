// Reading a group's positions while its coordinator is silent, moves or refuses: against a client that is made up.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { EssError } from '../../../src/errors.ts';
import { groupErrors, type PositionsAnswer } from '../../../src/log/kafka/group_calls.ts';
import { GroupPositions, type PositionsClient } from '../../../src/log/kafka/group_positions.ts';
import { KafkaError } from '../../../src/log/kafka/kafka_error.ts';
import { stampText } from '../../../src/log/kafka/position_stamp.ts';
import { RequestWriter } from '../../../src/log/kafka/wire/request_writer.ts';

const epoch = 'a'.repeat(32);
const timeoutMs = 5_000;

/** As OffsetFetch version 7 has it. */
function answerOf({ errorCode, positions }: PositionsAnswer): Buffer {
  const body = new RequestWriter();
  body.noTags();
  body.int32(0);
  body.compactCount(1);
  body.compactString('events');
  body.compactCount(positions.length);
  for (const { partition, offset, metadata } of positions) {
    body.int32(partition);
    body.int64(offset);
    body.int32(-1);
    body.compactString(metadata);
    body.int16(0);
    body.noTags();
  }
  body.noTags();
  body.int16(errorCode);
  body.noTags();
  return Buffer.from(body.bytes);
}

/** What a node does with the question. */
type Reply = 'silent' | PositionsAnswer;

/** A cluster that gives its nodes in this order when it is asked for the coordinator, the last one for ever. */
class MadeUpCluster implements PositionsClient {
  readonly target = { group: 'sinks', topic: 'events' };
  /** Every question: whom, and how long it would have waited, ms. */
  readonly asked: { readonly node: number; readonly waitMs: number }[] = [];
  lookUps = 0;
  readonly #coordinators: readonly number[];
  readonly #replies: ReadonlyMap<number, Reply>;

  constructor(coordinators: readonly number[], replies: ReadonlyMap<number, Reply>) {
    this.#coordinators = coordinators;
    this.#replies = replies;
  }

  async coordinator(): Promise<number> {
    this.lookUps += 1;
    return this.#coordinators[Math.min(this.lookUps, this.#coordinators.length) - 1] ?? -1;
  }

  send: PositionsClient['send'] = async (nodeId, call, waitMs) => {
    const node = Number(nodeId);
    this.asked.push({ node, waitMs });
    const reply = this.#replies.get(node) ?? 'silent';
    // Its time is over at once here.
    if (reply === 'silent') throw new KafkaError('timeout', true, 'it did not answer in time');
    return call.response.parse(await call.response.decode(answerOf(reply)));
  };
}

const committed: PositionsAnswer = {
  errorCode: 0,
  positions: [
    { partition: 1, offset: 7, metadata: stampText(epoch, 'intent') },
    { partition: 0, offset: 9, metadata: '' },
  ],
};

describe("a group's positions", () => {
  it('are given in the order of the question, without their stamps', async () => {
    const positions = new GroupPositions(new MadeUpCluster([1], new Map([[1, committed]])), epoch);
    assert.deepEqual(await positions.read([0, 1, 2]), [
      { offset: 9, metadata: '', isForeign: true },
      { offset: 7, metadata: 'intent' },
      { offset: -1, metadata: '' },
    ]);
    positions.close();
  });

  it('are asked of the next coordinator long before the time is over in which one is silent', async () => {
    const cluster = new MadeUpCluster([1, 1, 2], new Map([[2, committed]]));
    const positions = new GroupPositions(cluster, epoch);
    assert.equal((await positions.read([1]))[0]?.offset, 7);
    assert.deepEqual(
      cluster.asked.map(({ node }) => node),
      [1, 1, 2],
    );
    for (const { waitMs } of cluster.asked) assert.ok(waitMs <= timeoutMs / 4, `${waitMs} ms`);
    // The one that answered is not looked for again.
    await positions.read([1]);
    assert.equal(cluster.lookUps, 3);
    positions.close();
  });

  it('are asked again of whoever is the coordinator after one has refused', async () => {
    const refused = { errorCode: groupErrors.notCoordinator, positions: [] };
    const cluster = new MadeUpCluster(
      [1, 2],
      new Map<number, Reply>([
        [1, refused],
        [2, committed],
      ]),
    );
    const positions = new GroupPositions(cluster, epoch);
    assert.equal((await positions.read([1]))[0]?.offset, 7);
    positions.close();
  });

  it('are unavailable once nobody waits any more', async () => {
    const positions = new GroupPositions(new MadeUpCluster([1], new Map()), epoch);
    positions.close();
    await assert.rejects(
      positions.read([1]),
      (error) => error instanceof EssError && error.code === 'log_unavailable',
    );
  });
});
