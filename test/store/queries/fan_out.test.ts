// What becomes of a read when shards fail, with shards that are made up.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Bindings } from '../../../src/store/queries/bindings.ts';
import { FanOut, StoreUnavailableError } from '../../../src/store/queries/fan_out.ts';
import type { ReadSession } from '../../../src/store/queries/read_session.ts';
import { Shard, Shards } from '../../../src/store/queries/shards.ts';
import { TimeLimit } from '../../../src/store/queries/time_limit.ts';
import { type Store, StoreError } from '../../../src/store/store.ts';

/** A lone replica that answers with its number, or fails with an error of this code; it counts what it is asked. */
class MadeUpShard implements Store {
  readonly name: string;
  code: number | null = null;
  asked = 0;

  constructor(index: number) {
    this.name = `${index}`;
  }

  async rows<Row>(): Promise<Row[]> {
    this.asked += 1;
    if (this.code !== null) throw new StoreError(this.code, 'unknown', 'on purpose');
    return [this.name as Row];
  }

  async bytes(): Promise<Buffer> {
    return Buffer.alloc(0);
  }
  async command(): Promise<void> {}
  async insertNative(): Promise<void> {}
  async close(): Promise<void> {}
}

function start(count: number): { readonly fanOut: FanOut; readonly made: readonly MadeUpShard[] } {
  const made = Array.from({ length: count }, (_, i) => new MadeUpShard(i));
  const shards = made.map((store, i) => new Shard(i, [{ store, isRemote: true, isSuspect: false }]));
  return { fanOut: new FanOut(new Shards(shards), new TimeLimit(60_000)), made };
}

const ask = (session: ReadSession): Promise<string[]> => session.rows<string>('SELECT 2', new Bindings());
const names = async (fanOut: FanOut): Promise<string[]> =>
  (await fanOut.each(ask)).flatMap(({ answer }) => answer);
const fail = (shard: MadeUpShard | undefined, code = 0): void => {
  if (shard !== undefined) shard.code = code;
};

describe('a read of all shards', () => {
  test('goes on without a shard that fails, which is missing to the end of the read', async () => {
    const { fanOut, made } = start(3);
    assert.deepEqual(await names(fanOut), ['0', '1', '2']);
    fail(made[1]);
    assert.deepEqual(await names(fanOut), ['0', '2']);
    if (made[1] !== undefined) made[1].code = null;
    assert.deepEqual(await names(fanOut), ['0', '2']);
    assert.equal(made[1]?.asked, 2);
    assert.deepEqual(fanOut.missing, [1]);
  });

  test('fails only when all shards have failed, one after the other or at once', async () => {
    const { fanOut, made } = start(2);
    fail(made[1]);
    await names(fanOut);
    fail(made[0]);
    await assert.rejects(names(fanOut), (error) => {
      assert.ok(error instanceof StoreUnavailableError);
      assert.deepEqual(error.shards, [0, 1]);
      return true;
    });
  });

  test('fails as a whole with what is the fault of the statement', async () => {
    const { fanOut, made } = start(2);
    fail(made[0]);
    fail(made[1], 159);
    await assert.rejects(names(fanOut), (error) => error instanceof StoreError && error.code === 159);
  });

  test('lets another shard do what does not depend on its events, without calling the first one missing', async () => {
    const { fanOut, made } = start(2);
    assert.deepEqual(await fanOut.any(ask), ['0']);
    fail(made[0]);
    assert.deepEqual(await fanOut.any(ask), ['1']);
    assert.deepEqual(fanOut.missing, []);
    fail(made[1]);
    await assert.rejects(fanOut.any(ask), (error) => error instanceof StoreUnavailableError);
  });
});
