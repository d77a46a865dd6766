// Which replica of a shard a read goes to, with replicas that are made up.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { EssError } from '../../../src/errors.ts';
import { Bindings } from '../../../src/store/queries/bindings.ts';
import { ReadSession, ShardUnavailableError } from '../../../src/store/queries/read_session.ts';
import { Shard } from '../../../src/store/queries/shards.ts';
import { TimeLimit } from '../../../src/store/queries/time_limit.ts';
import { type QueryOptions, type Store, StoreError } from '../../../src/store/store.ts';

const never = new Promise<never>(() => {});

/** A replica whose answers a test decides. */
class MadeUpReplica implements Store {
  readonly name: string;
  readonly isRemote = true;
  isSuspect = false;
  /** What it was asked, in order: state, ping or read. */
  readonly asked: string[] = [];
  /** Rows of system.replicas; none if the table is not replicated. */
  state: () => readonly Record<string, number>[] = () => [current];
  read: () => Promise<unknown> = async () => this.name;
  ping: () => Promise<void> = async () => {};

  constructor(name: string) {
    this.name = name;
  }

  get store(): Store {
    return this;
  }

  async rows<Row>(sql: string, _params: unknown, options: QueryOptions = {}): Promise<Row[]> {
    if (sql.includes('system.replicas'))
      return (await this.#answer('state', async () => this.state(), options)) as Row[];
    if (sql === 'SELECT 1') return this.#answer('ping', async () => [await this.ping()] as Row[], options);
    return [(await this.#answer('read', this.read, options)) as Row];
  }

  async bytes(): Promise<Buffer> {
    return Buffer.alloc(0);
  }
  async command(): Promise<void> {}
  async insertNative(): Promise<void> {}
  async close(): Promise<void> {}

  /** As a store does: rejects when the caller gives up. */
  async #answer<T>(what: string, answer: () => Promise<T>, { signal }: QueryOptions): Promise<T> {
    this.asked.push(what);
    const isGivenUp = new Promise<never>((_, reject) =>
      signal?.addEventListener('abort', () => reject(new StoreError(0, 'unknown', 'given up'))),
    );
    return Promise.race([answer(), isGivenUp]);
  }
}

/** As replica_state.ts asks for it. */
const current = { tables: 1, lost: 0, delay: 0, inserts: 0, behind: 0 };
const broken = async (): Promise<never> => {
  throw new StoreError(0, 'unknown', 'connection refused');
};

function replicas(...names: string[]): [Shard, ...MadeUpReplica[]] {
  const made = names.map((name) => new MadeUpReplica(name));
  return [new Shard(3, made), ...made];
}

/** Name of the replica that answers. */
async function readFrom(session: ReadSession): Promise<string> {
  const [name = ''] = await session.rows<string>('SELECT 2', new Bindings());
  return name;
}

const sessionOf = (shard: Shard, timeoutMs = 60_000): ReadSession =>
  new ReadSession(shard, new TimeLimit(timeoutMs));

describe('a read of a shard', () => {
  test('stays on one replica, whose state it has looked at once', async () => {
    const [shard, a, b] = replicas('a', 'b');
    const session = sessionOf(shard);
    assert.deepEqual([await readFrom(session), await readFrom(session)], ['a', 'a']);
    assert.deepEqual(a?.asked, ['state', 'read', 'read']);
    assert.deepEqual(b?.asked, []);
    assert.equal(session.isStale, false);
  });

  test('does not ask an only replica about its state', async () => {
    const [shard, a] = replicas('a');
    assert.equal(await readFrom(sessionOf(shard)), 'a');
    assert.deepEqual(a?.asked, ['read']);
  });

  test('prefers a replica that has every block, by each sign that one has not', async () => {
    for (const sign of [{ lost: 1 }, { delay: 1 }, { inserts: 1 }, { behind: 1 }]) {
      const [shard, a, b] = replicas('a', 'b');
      if (a !== undefined) a.state = () => [{ ...current, ...sign }];
      const session = sessionOf(shard);
      assert.equal(await readFrom(session), 'b', JSON.stringify(sign));
      assert.equal(session.isStale, false);
      assert.deepEqual(b?.asked, ['state', 'read']);
    }
  });

  test('waits for a replica to have every block', async () => {
    const [shard, a, b] = replicas('a', 'b');
    let looks = 0;
    if (a !== undefined) a.state = () => [{ ...current, inserts: 1 }];
    if (b !== undefined)
      b.state = () => {
        looks += 1;
        return [{ ...current, inserts: looks < 3 ? 1 : 0 }];
      };
    const session = sessionOf(shard);
    assert.equal(await readFrom(session), 'b');
    assert.equal(session.isStale, false);
  });

  test('takes the replica that is least behind where none has every block, and says so', async () => {
    const [shard, a, b, c] = replicas('a', 'b', 'c');
    for (const [replica, delay] of [
      [a, 9],
      [b, 2],
      [c, 5],
    ] as const)
      if (replica !== undefined) replica.state = () => [{ ...current, delay }];
    const session = sessionOf(shard, 800);
    assert.equal(await readFrom(session), 'b');
    assert.equal(session.isStale, true);
  });

  test('goes to the next replica when one fails, and begins there the next time', async () => {
    const [shard, a, b] = replicas('a', 'b');
    if (a !== undefined) a.read = broken;
    const session = sessionOf(shard);
    assert.deepEqual([await readFrom(session), await readFrom(session)], ['b', 'b']);
    if (a !== undefined) a.read = async () => 'a';
    assert.equal(await readFrom(sessionOf(shard)), 'b');
    if (b !== undefined) b.read = broken;
    assert.equal(await readFrom(sessionOf(shard)), 'a');
    assert.equal(await readFrom(sessionOf(shard)), 'a');
    assert.equal(b?.asked.filter((what) => what === 'read').length, 4);
  });

  test('is unavailable once all replicas have failed, also for what is asked later', async () => {
    const [shard, a, b] = replicas('a', 'b');
    for (const replica of [a, b]) if (replica !== undefined) replica.read = broken;
    const session = sessionOf(shard);
    const isUnavailable = (error: unknown): boolean =>
      error instanceof ShardUnavailableError && error.shard === 3;
    await assert.rejects(readFrom(session), isUnavailable);
    if (a !== undefined) a.read = async () => 'a';
    await assert.rejects(readFrom(session), isUnavailable);
    assert.equal(await readFrom(sessionOf(shard)), 'a');
  });

  test("does not burden another replica with a statement's own fault", async () => {
    for (const code of [159, 160, 241, 396]) {
      const [shard, a, b] = replicas('a', 'b');
      if (a !== undefined)
        a.read = async () => {
          throw new StoreError(code, 'refused', 'too much');
        };
      await assert.rejects(
        readFrom(sessionOf(shard)),
        (error) => error instanceof StoreError && error.code === code,
      );
      assert.deepEqual(b?.asked, []);
    }
  });

  test('leaves a replica that gives no sign any more, for a shorter time the next time', async () => {
    const [shard, a, b] = replicas('a', 'b');
    if (a !== undefined) {
      a.read = () => never;
      a.ping = () => never;
    }
    assert.equal(await readFrom(sessionOf(shard, 2000)), 'b');
    assert.deepEqual(a?.asked, ['state', 'read', 'ping']);
    assert.equal(a?.isSuspect, true);
    if (b !== undefined) b.read = broken;
    if (a !== undefined) a.read = async () => 'a';
    assert.equal(await readFrom(sessionOf(shard, 2000)), 'a');
    assert.equal(a?.isSuspect, false);
  });

  test('waits for a statement for as long as its node shows that it is there', async () => {
    const [shard, a] = replicas('a', 'b');
    let finish = (_name: string): void => {};
    const answer = new Promise<string>((resolve) => {
      finish = resolve;
    });
    let pings = 0;
    if (a !== undefined) {
      a.read = () => answer;
      a.ping = async () => {
        pings += 1;
        if (pings === 5) finish('a');
        // An error is a sign too.
        if (pings % 2 === 0) throw new StoreError(202, 'refused', 'too many queries');
      };
    }
    assert.equal(await readFrom(sessionOf(shard, 4000)), 'a');
    assert.ok(pings >= 5);
  });

  test('ends with query_timeout when the time is over, whatever the nodes do', async () => {
    const [shard, a] = replicas('a', 'b');
    if (a !== undefined)
      a.read = async () => {
        await new Promise((resolve) => setTimeout(resolve, 60));
        throw new StoreError(0, 'unknown', 'connection reset');
      };
    await assert.rejects(
      readFrom(sessionOf(shard, 50)),
      (error) => error instanceof EssError && error.code === 'query_timeout',
    );
  });
});
