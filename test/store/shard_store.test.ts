// The replicas of a shard as one store. The invariant throughout: a block is stored exactly once, or the error says
// what is known of it.

import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { EssError } from '../../src/errors.ts';
import { describe as describeError } from '../../src/sink/patience.ts';
import { openStore } from '../../src/store/client.ts';
import { failurePolicy } from '../../src/store/failure.ts';
import { ensureSchema } from '../../src/store/migrate.ts';
import { type LedgerRow, ledgerBlock } from '../../src/store/native/ledger_block.ts';
import { createLedger, ledgerColumns } from '../../src/store/schema.ts';
import { ensureLayout } from '../../src/store/shard_layout.ts';
import { openShard, type ShardOptions, ShardStore } from '../../src/store/shard_store.ts';
import { type InsertOptions, type Store, StoreError } from '../../src/store/store.ts';
import { ClickHouseNode, type Fault } from '../support/clickhouse_node.ts';

const columnNames = ledgerColumns.map(({ name }) => name);

const row: LedgerRow = {
  epoch: 'e',
  partition: 0,
  first: 0,
  last: 9,
  rows: 10,
  duplicates: 0,
  parked: 0,
  holes: 0,
  storeTimeMs: Date.UTC(2026, 10, 22),
};

/** Rejects with a StoreError of this number, outcome and history. */
async function rejectsWith(
  promise: Promise<unknown>,
  expected: readonly [code: number, outcome: string, isAmbiguousBefore: boolean],
): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof StoreError, String(error));
    assert.deepEqual([error.code, error.outcome, error.isAmbiguousBefore], expected, error.message);
    return true;
  });
}

async function until(what: string, isSo: () => Promise<boolean>): Promise<void> {
  const untilMs = Date.now() + 30_000;
  while (!(await isSo())) {
    assert.ok(Date.now() < untilMs, `in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe('the replicas of a shard', () => {
  let node: ClickHouseNode;
  /** Looks into the node past the shard store. */
  let direct: Store;
  let shard: ShardStore;
  let tokens = 0;

  const open = (options: Partial<ShardOptions> & { requestTimeoutMs?: number } = {}): Promise<ShardStore> =>
    openShard(node.targets(), {
      shard: 0,
      shards: 1,
      preferred: 0,
      restMsMin: 20,
      restMsMax: 200,
      ...options,
    });
  const newToken = (): string => {
    tokens += 1;
    return String(tokens);
  };
  /** Inserts the one row that belongs to a token: of a range of its own, so that no merge makes one of two. */
  const insert = (store: Store, token: string, signal?: AbortSignal): Promise<void> =>
    store.insertNative('ledger', columnNames, ledgerBlock([{ ...row, first: Number(token) }]), {
      token,
      ...(signal === undefined ? {} : { signal }),
    });
  const stored = async (): Promise<number> => {
    const [counted] = await direct.rows<{ n: string }>('SELECT count() AS n FROM ledger');
    return Number(counted?.n);
  };
  /** How often a replica was sent a token. */
  const sent = async (replica: number, token: string): Promise<number> =>
    (await node.inserts(replica)).filter((received) => received.token === token).length;

  before(async () => {
    node = await ClickHouseNode.start({ replicas: 2, isReplicated: true });
    const target = node.targets()[1];
    assert.ok(target !== undefined);
    direct = await openStore(target);
    await ensureSchema(direct, 'replicated');
    await ensureLayout(direct, { shard: 0, shards: 1 });
    // Or two copies of a row could become one before they are counted.
    await direct.command('SYSTEM STOP MERGES');
  });
  after(async () => {
    await direct.close();
    await node.dispose();
  });
  beforeEach(async () => {
    shard = await open();
  });
  afterEach(async () => {
    await shard.close();
    for (const replica of [0, 1]) {
      await node.setFault(replica, 'none');
      await node.setState(replica, {});
    }
    await direct.command('TRUNCATE TABLE ledger');
  });

  test('while all are well, inserts go to the preferred one', async () => {
    const other = await open({ preferred: 1 });
    const [ours, theirs] = [newToken(), newToken()];
    await insert(shard, ours);
    await insert(other, theirs);
    assert.deepEqual([await sent(0, ours), await sent(1, ours)], [1, 0]);
    assert.deepEqual([await sent(0, theirs), await sent(1, theirs)], [0, 1]);
    const [first] = shard.replicas();
    assert.deepEqual(first, {
      name: new URL(node.urls[0] ?? '').host,
      isUp: true,
      lastError: null,
      failures: 0,
    });
    assert.equal(shard.name, 'shard 0');
    await other.close();
  });

  test('a replica that is recorded as one of other shards gets no insert, however it was configured', async () => {
    for (const place of [
      { shard: 1, shards: 2 },
      { shard: 0, shards: 3 },
    ]) {
      const other = await open(place);
      await rejectsWith(insert(other, newToken()), [0, 'refused', false]);
      assert.match(other.replicas()[0]?.lastError ?? '', /shard 0 of 1 \(layout version 1\)/);
      await other.close();
    }
    assert.equal(await stored(), 0);
  });

  const faults: readonly (readonly [Fault, name?: string])[] = [
    ['drop_before'],
    ['drop_after'],
    ['hang'],
    ['down'],
    [{ delay: 4_000 }, 'an answer past the deadline'],
    // Refusals of the replica: overload, memory, disk, too few replicas, something new.
    ...[202, 241, 243, 252, 285, 12_345].map((code) => [{ reject: code }] as const),
    // Those that leave the outcome open.
    ...[159, 209, 210, 225, 236, 242, 244, 286, 319, 394, 999, 1002].map(
      (code) => [{ reject: code }] as const,
    ),
  ];
  for (const [fault, name = JSON.stringify(fault)] of faults) {
    test(`a block is stored once, by the sibling under the same token, when the preferred one has: ${name}`, async () => {
      // Long enough for every insert that is not struck, also on a busy machine.
      const impatient = await open({ requestTimeoutMs: 2_000 });
      await insert(impatient, newToken());
      await node.setFault(0, fault, fault === 'down' ? null : Number.POSITIVE_INFINITY);
      const token = newToken();
      await insert(impatient, token);
      assert.deepEqual([await sent(0, token), await sent(1, token)], [fault === 'down' ? 0 : 1, 1]);
      assert.equal(await stored(), 2);
      const [first, second] = impatient.replicas();
      assert.deepEqual([first?.isUp, first?.failures, second?.isUp], [false, 1, true]);
      assert.equal(typeof first?.lastError, 'string');
      // What the preferred one still does with it changes nothing, nor does one more repeat.
      if (typeof fault === 'object' && 'delay' in fault)
        await until(
          'the late insert is executed',
          async () => (await node.inserts(0)).at(-1)?.isDone === true,
        );
      await node.setFault(0, 'none');
      await insert(direct, token);
      assert.equal(await stored(), 2);
      await impatient.close();
    });
  }

  test('while the preferred one fails the sibling is used, and it is used again when it is well', async () => {
    await insert(shard, newToken());
    await node.setFault(0, { reject: 252 }, Number.POSITIVE_INFINITY);
    for (let i = 0; i < 10; i += 1) await insert(shard, newToken());
    assert.equal(await stored(), 11);
    await node.setFault(0, 'none');
    await until('the preferred replica gets an insert', async () => {
      const token = newToken();
      await insert(shard, token);
      return (await sent(0, token)) === 1;
    });
    const token = newToken();
    await insert(shard, token);
    assert.deepEqual([await sent(0, token), await sent(1, token)], [1, 0]);
    assert.equal(shard.replicas()[0]?.isUp, true);
  });

  test('a preferred one that was killed or stood still is used again when it is back', async () => {
    await insert(shard, newToken());
    await node.setFault(0, 'down');
    await insert(shard, newToken());
    await node.setFault(0, 'none');
    await until('the preferred replica is up', async () => {
      await insert(shard, newToken());
      return shard.replicas()[0]?.isUp === true;
    });
  });

  test('with all of them down an insert was refused, and works as soon as one is back', async () => {
    const token = newToken();
    for (const replica of [0, 1]) await node.setFault(replica, 'down');
    for (let i = 0; i < 3; i += 1) await rejectsWith(insert(shard, token), [0, 'refused', false]);
    assert.deepEqual(
      shard.replicas().map(({ isUp }) => isUp),
      [false, false],
    );
    await node.setFault(1, 'none');
    // No pause in between: rests do not count while there is no other.
    await insert(shard, token);
    assert.equal(await stored(), 1);
  });

  test('with all of them losing their answers the outcome is unknown, and a repeat stores nothing twice', async () => {
    const token = newToken();
    await insert(shard, newToken());
    for (const replica of [0, 1]) await node.setFault(replica, 'drop_after', 1);
    await rejectsWith(insert(shard, token), [0, 'unknown', true]);
    assert.equal(await stored(), 2);
    await insert(shard, token);
    assert.equal(await stored(), 2);
  });

  test('with the whole node killed, the same block is stored once after it is back', async () => {
    const token = newToken();
    await node.setFault(0, 'drop_after', 1);
    await insert(shard, token);
    await node.kill();
    await assert.rejects(insert(shard, newToken()), StoreError);
    await node.restart();
    await insert(shard, token);
    assert.equal(await stored(), 1);
  });

  test('a node that stands still costs a deadline and no block', async () => {
    const impatient = await open({ requestTimeoutMs: 1_000, checkTimeoutMs: 1_000 });
    const token = newToken();
    node.pause();
    await assert.rejects(insert(impatient, token), StoreError).finally(() => node.resume());
    await insert(shard, token);
    await insert(shard, token);
    assert.equal(await stored(), 1);
    await impatient.close();
  });

  test("what is the block's own fault is passed on, and the sibling is not asked", async () => {
    const token = newToken();
    await node.setFault(0, { reject: 469 }, 1);
    await rejectsWith(insert(shard, token), [469, 'refused', false]);
    assert.equal(await sent(1, token), 0);
    // It says nothing of the replica.
    assert.equal(shard.replicas()[0]?.isUp, true);
  });

  test('a poisoned block of which an earlier attempt may have landed is not said to be refused', async () => {
    const token = newToken();
    await insert(shard, newToken());
    await node.setFault(0, 'drop_after', 1);
    await node.setFault(1, { reject: 469 }, 1);
    await rejectsWith(insert(shard, token), [469, 'unknown', true]);
    assert.equal(await stored(), 2);
  });

  test('a poisoned block that was not sent before is refused', async () => {
    await insert(shard, newToken());
    await node.setFault(0, { reject: 252 }, 1);
    await node.setFault(1, { reject: 469 }, 1);
    await rejectsWith(insert(shard, newToken()), [469, 'refused', false]);
  });

  test('what needs a person is passed on', async () => {
    const token = newToken();
    await node.setFault(0, { reject: 60 }, 1);
    await rejectsWith(insert(shard, token), [60, 'refused', false]);
    assert.equal(await sent(1, token), 0);
    assert.equal(shard.replicas()[0]?.isUp, false);
  });

  test('an insert that is given up is not tried elsewhere', async () => {
    const token = newToken();
    await insert(shard, newToken());
    await node.setFault(0, 'hang', 1);
    const giveUp = new AbortController();
    const inserting = insert(shard, token, giveUp.signal);
    await until('the preferred replica has it', async () => (await sent(0, token)) === 1);
    giveUp.abort();
    await rejectsWith(inserting, [0, 'unknown', false]);
    assert.equal(await sent(1, token), 0);
    assert.equal(shard.replicas()[0]?.isUp, true);
  });

  // ---- reads ----

  /** Who answered: the pretended macro tells the replicas apart. */
  const answeredBy = async (store: Store): Promise<unknown> =>
    (await store.rows<{ name: string }>("SELECT getMacro('replica') AS name"))[0]?.name;

  test('a read goes to the preferred replica, and to one that is up to date if that is behind', async () => {
    assert.equal(await answeredBy(shard), 'r1');
    for (const state of [{ absoluteDelay: 3 }, { insertsInQueue: 1 }, { isReadonly: true }]) {
      await node.setState(0, state);
      assert.equal(await answeredBy(shard), 'r2', JSON.stringify(state));
    }
    // To be behind is no failure.
    assert.equal(shard.replicas()[0]?.isUp, true);
    await node.setState(0, {});
    assert.equal(await answeredBy(shard), 'r1');
  });

  test('a read that no replica can answer for sure is refused, to be tried again', async () => {
    await node.setState(0, { absoluteDelay: 3 });
    await node.setState(1, { isReadonly: true });
    for (const read of [() => shard.rows('SELECT 1'), () => shard.bytes('SELECT 1 FORMAT TSV')]) {
      await assert.rejects(read, (error) => {
        assert.ok(error instanceof StoreError);
        assert.deepEqual([error.outcome, failurePolicy(error)], ['refused', 'retry']);
        return true;
      });
    }
    await node.setState(1, {});
    assert.equal(await answeredBy(shard), 'r2');
  });

  test('a read is answered by the sibling when the preferred one is down, drops it or stands still', async () => {
    for (const fault of ['down', 'drop_before', 'hang', { reject: 210 }] as const) {
      const impatient = await open({ requestTimeoutMs: 2_500, checkTimeoutMs: 2_500 });
      assert.equal(await answeredBy(impatient), 'r1');
      await node.setFault(0, fault);
      assert.equal(await answeredBy(impatient), 'r2', JSON.stringify(fault));
      assert.equal((await impatient.bytes("SELECT getMacro('replica') FORMAT TSV")).toString(), 'r2\n');
      await node.setFault(0, 'none');
      await until('the preferred replica answers again', async () => (await answeredBy(impatient)) === 'r1');
      await impatient.close();
    }
  });

  test("a read's own fault is passed on", async () => {
    await rejectsWith(shard.rows('SELECT * FROM no_such_table'), [60, 'refused', false]);
    await rejectsWith(shard.command('SELECT (1'), [62, 'refused', false]);
    const endless = 'SELECT sum(cityHash64(number)) AS s FROM numbers(1000000000000)';
    await rejectsWith(shard.rows(endless, {}, { timeoutMs: 100 }), [159, 'unknown', false]);
    assert.equal(shard.replicas()[0]?.isUp, true);
  });

  test('a command runs on one replica', async () => {
    await shard.command('CREATE TABLE once (n UInt8) ENGINE = Memory');
    await shard.command('DROP TABLE once');
    await insert(shard, newToken());
    await node.setFault(0, 'down');
    await shard.command('CREATE TABLE once (n UInt8) ENGINE = Memory');
    await node.setFault(0, 'none');
    await shard.command('DROP TABLE once');
  });
});

// ---- without nodes ----------------------------------------------------------------------------------------------

type Attempt = 'stored' | 'refused' | 'unclear' | 'lost' | 'poison' | 'stop';

/** A store that does what it is told to, attempt by attempt, and then stores. */
class ScriptedStore implements Store {
  readonly name: string;
  readonly script: Attempt[];
  readonly tokens: string[] = [];
  /** Tokens whose block is there. */
  readonly landed: string[] = [];

  constructor(name: string, script: readonly Attempt[]) {
    this.name = name;
    this.script = [...script];
  }

  async insertNative(
    _table: string,
    _columns: readonly string[],
    _block: readonly Uint8Array[],
    options: InsertOptions,
  ) {
    this.tokens.push(options.token);
    const attempt = this.script.shift() ?? 'stored';
    if (attempt === 'stored' || attempt === 'lost') this.landed.push(options.token);
    if (attempt === 'refused') throw new StoreError(252, 'refused', 'too many parts');
    if (attempt === 'unclear' || attempt === 'lost') throw new StoreError(0, 'unknown', 'no answer');
    if (attempt === 'poison') throw new StoreError(469, 'refused', 'a constraint');
    if (attempt === 'stop') throw new StoreError(60, 'refused', 'no table');
  }

  async rows<Row>(): Promise<Row[]> {
    return [];
  }

  async bytes(): Promise<Buffer> {
    return Buffer.alloc(0);
  }

  async command(): Promise<void> {}

  async close(): Promise<void> {}
}

const send = (store: Store, token: string): Promise<void> => store.insertNative('t', [], [], { token });

test('whatever the replicas do, an error says "refused" only if no attempt can have landed', async () => {
  const script = fc.array(
    fc.constantFrom<Attempt>('stored', 'refused', 'unclear', 'lost', 'poison', 'stop'),
    {
      maxLength: 6,
    },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(script, { minLength: 1, maxLength: 4 }),
      fc.nat(3),
      fc.array(fc.boolean(), { maxLength: 10 }),
      async (scripts, preferred, checks) => {
        const replicas = scripts.map((attempts, i) => new ScriptedStore(`r${i}`, attempts));
        const remaining = [...checks];
        const check = async (): Promise<void> => {
          if (remaining.shift() === false) throw new StoreError(0, 'unknown', 'no answer to the check');
        };
        const shard = new ShardStore(replicas, {
          shard: 0,
          shards: 1,
          preferred,
          check,
          restMsMin: 0,
          restMsMax: 0,
        });
        for (let call = 0; call < 8; call += 1) {
          const token = `${call}`;
          const error = await send(shard, token).then(
            () => null,
            (reason: unknown) => reason,
          );
          const asked = replicas.flatMap(({ tokens }) => tokens.filter((other) => other === token));
          const landed = replicas.filter((replica) => replica.landed.includes(token)).length;
          assert.ok(asked.length <= replicas.length);
          for (const { tokens } of replicas)
            assert.ok(tokens.filter((other) => other === token).length <= 1, 'a replica was asked twice');
          if (error === null) assert.ok(landed > 0);
          else {
            assert.ok(error instanceof StoreError);
            if (error.outcome === 'refused') assert.equal(landed, 0);
            if (error.isAmbiguousBefore) assert.equal(error.outcome, 'unknown');
          }
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('a replica that keeps failing is asked less and less often, and by one insert at a time', async () => {
  const bad = new ScriptedStore(
    'bad',
    Array.from({ length: 1000 }, () => 'refused' as const),
  );
  const good = new ScriptedStore('good', []);
  const shard = new ShardStore([bad, good], {
    shard: 0,
    shards: 1,
    preferred: 0,
    check: async () => {},
    restMsMin: 1_000_000,
    restMsMax: 1_000_000,
  });
  for (let i = 0; i < 50; i += 1) await Promise.all([send(shard, `${i}a`), send(shard, `${i}b`)]);
  // Both of the first pair found it well.
  assert.ok(bad.tokens.length <= 2);
  assert.equal(good.tokens.length, 100);
  assert.equal(shard.replicas()[0]?.failures, bad.tokens.length);
});

test('a block is offered to no other replica once its token may be forgotten', async () => {
  const replicas = [new ScriptedStore('r1', ['lost']), new ScriptedStore('r2', [])];
  const shard = new ShardStore(replicas, { shard: 0, shards: 1, preferred: 0, check: async () => {} });
  const late = shard.insertNative('t', [], [], { token: 'a', repeatWithinMs: 0 });
  await rejectsWith(late, [0, 'unknown', false]);
  assert.deepEqual(replicas[1]?.tokens, []);
  // It is the first one's turn no more.
  await shard.insertNative('t', [], [], { token: 'b', repeatWithinMs: 0 });
  assert.deepEqual(replicas[1]?.tokens, ['b']);
});

test('a shard of one replica passes everything through', async () => {
  const only = new ScriptedStore('only', ['refused', 'unclear', 'stop', 'poison']);
  const shard = new ShardStore([only], { shard: 3, shards: 4, preferred: 5, check: async () => {} });
  await rejectsWith(send(shard, 'a'), [252, 'refused', false]);
  await rejectsWith(send(shard, 'a'), [0, 'unknown', false]);
  await rejectsWith(send(shard, 'a'), [60, 'refused', false]);
  await rejectsWith(send(shard, 'a'), [469, 'refused', false]);
  assert.deepEqual(shard.replicas()[0]?.failures, 3);
  await send(shard, 'a');
  assert.deepEqual(shard.replicas(), [{ name: 'only', isUp: true, lastError: null, failures: 0 }]);
  assert.deepEqual(await shard.rows('SELECT 1'), []);
});

test('a replica is checked again when its last check is too long ago, without keeping the inserts waiting', async () => {
  const checked: string[] = [];
  const replicas = [new ScriptedStore('r1', []), new ScriptedStore('r2', [])];
  const check = async ({ name }: Store): Promise<void> => {
    checked.push(name);
    if (name === 'r1' && checked.filter((other) => other === 'r1').length === 2)
      throw new EssError('format_unknown', 'no window');
  };
  const shard = new ShardStore(replicas, {
    shard: 0,
    shards: 1,
    preferred: 0,
    check,
    recheckMs: 0,
    restMsMin: 1_000_000,
  });
  await send(shard, 'a');
  // This one finds what is wrong, and the next one knows of it.
  await send(shard, 'b');
  await send(shard, 'c');
  assert.deepEqual([replicas[0]?.tokens, replicas[1]?.tokens], [['a', 'b'], ['c']]);
});

test('where the tables of every replica are wrong, a person is needed', async () => {
  const replicas = [new ScriptedStore('r1', []), new ScriptedStore('r2', [])];
  const check = (): Promise<void> => Promise.reject(new EssError('format_unknown', 'no window'));
  const shard = new ShardStore(replicas, { shard: 0, shards: 1, preferred: 0, check });
  await assert.rejects(send(shard, 'a'), (error) => {
    assert.ok(error instanceof StoreError);
    assert.deepEqual([error.outcome, failurePolicy(error)], ['refused', 'stop']);
    return true;
  });
  assert.deepEqual([replicas[0]?.tokens, replicas[1]?.tokens], [[], []]);
});

// Invariant: nothing is inserted into tables that somebody has dropped or made anew under the running system, other
// than in the moment before that is noticed, and a dropped one does not come back by itself.
describe("a shard's only node, whose tables change under the running system", () => {
  let node: ClickHouseNode;
  let direct: Store;
  let tokens = 0;

  const open = (recheckMs: number): Promise<ShardStore> =>
    openShard(node.targets(), { shard: 0, shards: 1, preferred: 0, recheckMs });
  const insert = (store: Store): Promise<void> => {
    tokens += 1;
    const block = ledgerBlock([{ ...row, first: tokens }]);
    return store.insertNative('ledger', columnNames, block, { token: `${tokens}` });
  };
  const stops = (promise: Promise<void>, mend: RegExp): Promise<void> =>
    assert.rejects(promise, (error) => {
      assert.ok(error instanceof StoreError, String(error));
      assert.deepEqual([error.outcome, failurePolicy(error)], ['refused', 'stop']);
      assert.match(describeError(error), mend);
      return true;
    });
  const stored = async (): Promise<number> =>
    Number((await direct.rows<{ n: string }>('SELECT count() AS n FROM ledger'))[0]?.n);
  const makeAnew = (ddl: string): Promise<void> =>
    direct.command('DROP TABLE IF EXISTS ledger SYNC').then(() => direct.command(ddl));

  before(async () => {
    node = await ClickHouseNode.start();
    const [target] = node.targets();
    assert.ok(target !== undefined);
    direct = await openStore(target);
  });
  after(async () => {
    await direct.close();
    await node.dispose();
  });
  beforeEach(async () => {
    await ensureSchema(direct);
    await ensureLayout(direct, { shard: 0, shards: 1 });
    await makeAnew(createLedger('plain'));
  });

  test('an insert into a dropped table stops with the command that makes it, until somebody has made it', async () => {
    const shard = await open(60_000);
    await insert(shard);
    await direct.command('DROP TABLE ledger SYNC');
    // The node says so; from then on the check does, and it makes nothing.
    for (let i = 0; i < 3; i += 1) await stops(insert(shard), /this mends it: ess init$/);
    assert.equal(shard.replicas()[0]?.isUp, false);
    await direct.command(createLedger('plain'));
    await insert(shard);
    assert.deepEqual([await stored(), shard.replicas()[0]?.isUp], [1, true]);
    await shard.close();
  });

  test('a table that was made anew without a deduplication window gets nothing until it has one', async () => {
    const shard = await open(0);
    await insert(shard);
    await makeAnew(createLedger('plain').replace(/non_replicated_deduplication_window = \d+, /, ''));
    for (let i = 0; i < 2; i += 1)
      await stops(insert(shard), /non_replicated_deduplication_window.*ess init --apply/);
    assert.equal(await stored(), 0);
    await direct.command('ALTER TABLE ledger MODIFY SETTING non_replicated_deduplication_window = 10000');
    await insert(shard);
    assert.equal(await stored(), 1);
    await shard.close();
  });

  test('a node whose tables are not there yet gets no insert, and no tables', async () => {
    await direct.command('DROP TABLE ledger SYNC');
    const shard = await open(60_000);
    await stops(insert(shard), /table ledger is missing.*ess init$/);
    assert.deepEqual(
      await node.inserts(0).then((all) => all.some(({ token }) => token === `${tokens}`)),
      false,
    );
    await shard.close();
  });

  test('tables are not looked at again with every insert', async () => {
    const shard = await open(3_600_000);
    await insert(shard);
    await makeAnew(createLedger('plain').replace(/non_replicated_deduplication_window = \d+, /, ''));
    await insert(shard);
    assert.equal(await stored(), 1);
    await shard.close();
  });
});
