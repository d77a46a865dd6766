// One partition's way into ClickHouse, against the real log and the real store: what a sink that starts anew finds,
// what a failing store leaves behind, and where ranges are cut.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { StoreError } from '../../src/store/store.ts';
import { until } from '../log/eventually.ts';
import { auditLedger, eventsOf, ledgerOf } from './audit.ts';
import { drain, type Insert, Rig, type RigOptions, type TestEvent } from './rig.ts';

const noon = Date.UTC(2026, 10, 22, 12);

/** Events e<from>..e<from+count-1>, one millisecond apart. */
function events(count: number, from = 0, bodyBytes = 20): TestEvent[] {
  return Array.from({ length: count }, (_, i) => ({
    id: `e${from + i}`,
    ingestMs: noon + from + i,
    body: 'b'.repeat(bodyBytes),
  }));
}

/** Runs with a rig and closes it. */
async function withRig(options: RigOptions, run: (rig: Rig) => Promise<void>): Promise<void> {
  const rig = await Rig.open(options);
  try {
    await run(rig);
  } finally {
    await rig.close();
  }
}

/** A failure that is worth another try and proves that nothing was stored. */
const refused = () => new StoreError(241, 'refused', 'too much memory');
const unknown = () => new StoreError(0, 'unknown', 'the connection broke');
const isEvents = (insert: Insert): boolean => insert.table === 'events';

test('a range is announced as an intent, stored, written into the ledger and completed', () =>
  withRig({}, async (rig) => {
    await rig.append(events(10));
    const sink = await rig.startSink();
    await drain(sink, 10);
    assert.deepEqual(await ledgerOf(rig.store, rig.epoch), [
      { partition: 0, first: 0, last: 9, rows: 10, duplicates: 0, parked: 0, holes: 0 },
    ]);
    const [state] = await rig.appender.states();
    assert.equal(state?.committed, 10);
    assert.equal(rig.board.get(0, 'stored'), 10);
    assert.deepEqual(await auditLedger(rig.store, rig.epoch, [10]), {
      rows: 10,
      duplicates: 0,
      parked: 0,
      holes: 0,
    });
  }));

test('a position that is not of our own making is committed anew even if nothing follows, and is reported', () =>
  withRig({}, async (rig) => {
    await rig.append(events(10));
    await drain(await rig.startSink(), 10);
    const own = await rig.startSink();
    assert.equal(own.isAwaitingCompletion, false);
    const isReported = () => rig.messages.some((one) => one.type === 'log' && /by hand/.test(one.message));
    assert.equal(isReported(), false);
    const moved = await rig.startSink(0, {}, { isForeign: true });
    assert.ok(isReported());
    assert.equal(moved.isAwaitingCompletion, true);
    await moved.completeWhenIdle(Number.POSITIVE_INFINITY);
    assert.equal(moved.isAwaitingCompletion, false);
  }));

test('a block that landed without its ledger row is completed and not sent again', async () => {
  let isCut = true;
  const options: RigOptions = {
    // The thread dies right after the block: nothing of it comes back to the sink.
    afterInsert: (insert) => {
      if (isCut && isEvents(insert)) throw unknown();
    },
  };
  await withRig(options, async (rig) => {
    await rig.append(events(10));
    const sink = await rig.startSink();
    sink.read(1024 * 1024);
    const storing = sink.store();
    await until(() => rig.inserts.length > 0);
    sink.stop();
    await storing;
    isCut = false;
    assert.deepEqual(await ledgerOf(rig.store, rig.epoch), []);
    rig.inserts.length = 0;
    await rig.append(events(5, 10));
    const successor = await rig.startSink();
    assert.deepEqual(rig.inserts.filter(isEvents), []);
    await drain(successor, 15);
    const totals = await auditLedger(rig.store, rig.epoch, [15]);
    assert.equal(totals.rows, 15);
    assert.equal((await eventsOf(rig.store, true)).length, 15);
  });
});

test('after an answer that got lost the same range is sent again under the same token, and is stored once', async () => {
  let lost = 3;
  const options: RigOptions = {
    afterInsert: (insert) => {
      if (isEvents(insert) && lost-- > 0) throw unknown();
    },
  };
  await withRig(options, async (rig) => {
    await rig.append(events(10));
    await drain(await rig.startSink(), 10);
    const tokens = rig.inserts.filter(isEvents).map(({ token }) => token);
    assert.equal(tokens.length, 4);
    assert.equal(new Set(tokens).size, 1);
    assert.equal((await eventsOf(rig.store, false)).length, 10);
    await auditLedger(rig.store, rig.epoch, [10]);
  });
});

/** What a node is left with that is killed between writing a block's token down and putting its part in place. */
async function loseRows(rig: Rig, table: string): Promise<void> {
  await rig.store.command(`ALTER TABLE ${table} DELETE WHERE true SETTINGS mutations_sync = 2`);
}

for (const isRestarted of [false, true]) {
  test(`a block of which the node remembers the token, but has no row, is stored all the same ${isRestarted ? 'by the next owner' : 'when it is repeated'}`, async () => {
    let isFirst = true;
    let landed = (): void => {};
    const hasLanded = new Promise<void>((resolve) => {
      landed = resolve;
    });
    const options: RigOptions = {
      afterInsert: async (insert) => {
        if (!isEvents(insert) || !isFirst) return;
        isFirst = false;
        await loseRows(rig, 'events');
        landed();
        if (isRestarted) await new Promise(() => {});
        throw unknown();
      },
    };
    const rig = await Rig.open(options);
    try {
      await rig.append(events(10));
      const sink = await rig.startSink();
      sink.read(1024 * 1024);
      const storing = sink.store();
      await hasLanded;
      if (isRestarted) await drain(await rig.startSink(), 10);
      else await storing;
      const [token, ...later] = rig.inserts.filter(isEvents).map((insert) => insert.token);
      assert.deepEqual(later, [token, `${token}:1`]);
      assert.equal(rig.counters.get('tokens_without_rows'), 1);
      assert.equal((await eventsOf(rig.store, false)).length, 10);
      await auditLedger(rig.store, rig.epoch, [10]);
    } finally {
      await rig.close();
    }
  });
}

test('a ledger row of which the node remembers the token, but not the row, is written again', async () => {
  let isFirst = true;
  const options: RigOptions = {
    afterInsert: async (insert) => {
      if (isEvents(insert) || !isFirst) return;
      isFirst = false;
      await loseRows(rig, 'ledger');
      throw unknown();
    },
  };
  const rig = await Rig.open(options);
  try {
    await rig.append(events(10));
    await drain(await rig.startSink(), 10);
    await auditLedger(rig.store, rig.epoch, [10]);
  } finally {
    await rig.close();
  }
});

/** From now on every block pushes the token of the one before it out of the window. */
async function forgetTokensAtOnce(rig: Rig): Promise<() => Promise<void>> {
  await rig.store.command('ALTER TABLE events MODIFY SETTING non_replicated_deduplication_window = 1');
  let blocks = 0;
  return async () => {
    blocks += 1;
    await rig.store.command(
      `INSERT INTO events SELECT * REPLACE ('other' AS epoch, concat('o', '${blocks}') AS id) FROM events LIMIT 1
       SETTINGS insert_deduplication_token = 'other ${blocks}'`,
    );
  };
}

test('after an answer that got lost the rows are looked for once the token may be forgotten', async () => {
  let forget = async (): Promise<void> => {};
  let attempts = 0;
  const options: RigOptions = {
    limits: { tokenKnownMs: 1 },
    afterInsert: async (insert) => {
      if (!isEvents(insert)) return;
      attempts += 1;
      if (attempts > 1) return;
      await forget();
      throw unknown();
    },
  };
  await withRig(options, async (rig) => {
    forget = await forgetTokensAtOnce(rig);
    await rig.append(events(10));
    await drain(await rig.startSink(), 10);
    assert.equal(attempts, 1);
    await auditLedger(rig.store, rig.epoch, [10], true, ['other']);
    assert.equal((await eventsOf(rig.store, false, rig.epoch)).length, 10);
  });
});

test('a pending range whose block lands only after it was looked for is not stored twice, however late it is sent again', async () => {
  let attempts = 0;
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let lateEnds: Promise<void> = Promise.resolve();
  let forget = async (): Promise<void> => {};
  const options: RigOptions = {
    limits: { tokenKnownMs: 1 },
    beforeInsert: async (insert) => {
      if (!isEvents(insert)) return;
      attempts += 1;
      const attempt = attempts;
      // The first owner's block is on its way when the partition goes to another one.
      if (attempt === 1) await held;
      // The second owner's first attempt is refused for sure, and the late block lands meanwhile.
      if (attempt === 2) {
        release();
        await lateEnds;
        await forget();
        throw refused();
      }
    },
  };
  await withRig(options, async (rig) => {
    forget = await forgetTokensAtOnce(rig);
    await rig.append(events(10));
    const late = await rig.startSink();
    while (late.next < 10) late.read(1024 * 1024);
    lateEnds = late.store();
    await until(() => attempts === 1);
    late.revoke();
    await drain(await rig.startSink(), 10);
    assert.equal(attempts, 2);
    await auditLedger(rig.store, rig.epoch, [10], true, ['other']);
    assert.equal((await eventsOf(rig.store, false, rig.epoch)).length, 10);
  });
});

test('a ledger row that comes only after another owner has gone on covers what that one wrote, also without rows', async () => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  let isHeld = false;
  const options: RigOptions = {
    beforeInsert: async (insert) => {
      if (!isHeld || insert.table !== 'ledger') return;
      isHeld = false;
      await held;
    },
  };
  await withRig(options, async (rig) => {
    await rig.append(events(5));
    const late = await rig.startSink();
    await drain(late, 5);
    // Copies: a range without rows.
    await rig.append(events(5));
    isHeld = true;
    while (late.next < 10) late.read(1024 * 1024);
    const storing = late.store();
    await until(() => !isHeld);
    late.revoke();
    await rig.append(events(3));
    await drain(await rig.startSink(), 13);
    release();
    await storing;
    const totals = await auditLedger(rig.store, rig.epoch, [13]);
    assert.deepEqual(totals, { rows: 5, duplicates: 8, parked: 0, holes: 0 });
  });
});

for (const movedTo of [5, 8]) {
  test(`what was gone before the first read is one ledger row, whoever writes it (the log begins at 5, then at ${movedTo})`, async () => {
    let release = () => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    let ledgerRows = 0;
    const options: RigOptions = {
      beforeInsert: async (insert) => {
        if (insert.table !== 'ledger') return;
        ledgerRows += 1;
        if (ledgerRows === 1) await held;
      },
    };
    await withRig(options, async (rig) => {
      for (const count of [5, 3, 2]) await rig.append(events(count, (await rig.ends())[0]));
      await rig.trimTo(5);
      // Nothing was committed by a sink: the first one comes, and loses the partition while its row is on its way.
      const first = await rig.beginSink(0, { offset: -1, metadata: '' });
      await until(() => ledgerRows === 1);
      first.sink.revoke();
      const position = await rig.position();
      if (movedTo > 5) await rig.trimTo(movedTo);
      const second = await rig.beginSink(0, position);
      if (movedTo === 5) {
        await second.started;
        await drain(second.sink, 10);
      } else {
        // What has gone since was there when ESS came: it is lost, and a person is told.
        await until(() => /gap: .* ends at offset 5, .* 8 to 10/.test(rig.condition() ?? ''));
        second.sink.stop();
        await second.started;
      }
      release();
      await first.started;
      const hole = { partition: 0, first: 0, last: 4, rows: 0, duplicates: 0, parked: 0, holes: 5 };
      assert.deepEqual((await ledgerOf(rig.store, rig.epoch))[0], hole);
      if (movedTo === 5) await auditLedger(rig.store, rig.epoch, [10]);
      else assert.equal((await ledgerOf(rig.store, rig.epoch)).length, 1);
    });
  });
}

test('a sink that stops while the store refuses never stores what comes after the refused range', async () => {
  let isDown = true;
  const options: RigOptions = {
    limits: { sinkBatchRowsMax: 5 },
    beforeInsert: (insert) => {
      if (isDown && isEvents(insert)) throw refused();
    },
  };
  await withRig(options, async (rig) => {
    await rig.append(events(20));
    await rig.whileLooping(async () => {
      await until(() => rig.inserts.length > 0);
      // It comes back in the moment of the stop: the first range is given up, and so must be those after it.
      isDown = false;
    });
    const ledger = await ledgerOf(rig.store, rig.epoch);
    assert.equal(ledger[0]?.first ?? 0, 0, 'the ledger begins at the beginning');
    await drain(await rig.startSink(), 20);
    await auditLedger(rig.store, rig.epoch, [20]);
    assert.equal((await eventsOf(rig.store, true)).length, 20);
  });
});

for (const lingerMs of [0, 1]) {
  test(`a pending range is sent again whole, however long it takes to read (linger ${lingerMs} ms)`, async () => {
    let isDown = true;
    const options: RigOptions = {
      beforeInsert: (insert) => {
        if (isDown && isEvents(insert)) throw refused();
      },
    };
    await withRig(options, async (rig) => {
      // Several turns of reading, each of about a mebibyte.
      await rig.append(events(3000, 0, 2000));
      const sink = await rig.startSink();
      while (sink.next < 3000) sink.read(1024 * 1024);
      const storing = sink.store();
      await until(() => rig.inserts.length > 0);
      sink.stop();
      await storing;
      const pending = rig.inserts[0]?.token;
      rig.inserts.length = 0;
      isDown = false;
      await rig.whileLooping(() => until(() => rig.board.get(0, 'ledger') === 3000), {
        sinkLingerMs: lingerMs,
      });
      assert.equal(rig.inserts.find(isEvents)?.token, pending);
      await auditLedger(rig.store, rig.epoch, [3000]);
    });
  });
}

test('a pending range larger than what a thread may hold by now is still sent again whole', async () => {
  let isDown = true;
  const options: RigOptions = {
    beforeInsert: (insert) => {
      if (isDown && isEvents(insert)) throw refused();
    },
  };
  await withRig(options, async (rig) => {
    await rig.append(events(3000, 0, 2000));
    const sink = await rig.startSink();
    while (sink.next < 3000) sink.read(1024 * 1024);
    const storing = sink.store();
    await until(() => rig.inserts.length > 0);
    sink.stop();
    await storing;
    const pending = rig.inserts[0]?.token;
    rig.inserts.length = 0;
    isDown = false;
    await rig.whileLooping(() => until(() => rig.board.get(0, 'ledger') === 3000), {
      sinkBatchBytesMax: 100_000,
      sinkBatchRowsMax: 10,
      sinkLingerMs: 0,
    });
    assert.equal(rig.inserts.find(isEvents)?.token, pending);
    await auditLedger(rig.store, rig.epoch, [3000]);
  });
});

test('a sink that is stopped in the middle of reading a pending range leaves it to the next one', async () => {
  let isDown = true;
  const options: RigOptions = {
    beforeInsert: (insert) => {
      if (isDown && isEvents(insert)) throw refused();
    },
  };
  await withRig(options, async (rig) => {
    await rig.append(events(3000, 0, 2000));
    const sink = await rig.startSink();
    while (sink.next < 3000) sink.read(1024 * 1024);
    const storing = sink.store();
    await until(() => rig.inserts.length > 0);
    sink.stop();
    await storing;
    const pending = rig.inserts[0]?.token;
    rig.inserts.length = 0;
    isDown = false;
    for (let i = 0; i < 3; i += 1) {
      rig.messages.length = 0;
      await rig.whileLooping(() => until(() => rig.messages.length > 0), { sinkLingerMs: 0 });
    }
    await rig.whileLooping(() => until(() => rig.board.get(0, 'ledger') === 3000));
    assert.deepEqual([...new Set(rig.inserts.filter(isEvents).map(({ token }) => token))], [pending]);
    await auditLedger(rig.store, rig.epoch, [3000]);
  });
});

test('a range is cut where the month of the ingest time changes, and replayed with the same cut', async () => {
  const midnight = Date.UTC(2026, 11, 1);
  const options: RigOptions = {};
  await withRig(options, async (rig) => {
    await rig.append([
      { id: 'a', ingestMs: midnight - 2 },
      { id: 'b', ingestMs: midnight - 1 },
      { id: 'c', ingestMs: midnight },
      // Another producer's clock was read earlier.
      { id: 'd', ingestMs: midnight - 1 },
      { id: 'e', ingestMs: midnight + 1 },
    ]);
    await drain(await rig.startSink(), 5);
    const ledger = await ledgerOf(rig.store, rig.epoch);
    assert.deepEqual(
      ledger.map(({ first, last }) => [first, last]),
      [
        [0, 1],
        [2, 2],
        [3, 3],
        [4, 4],
      ],
    );
    await auditLedger(rig.store, rig.epoch, [5]);
  });
});

test('a store that was lost is filled again from the ledger on, as far as the log goes', () =>
  withRig({ limits: { sinkBatchRowsMax: 4 } }, async (rig) => {
    await rig.append(events(10));
    await drain(await rig.startSink(), 10);
    await rig.store.command('TRUNCATE TABLE events');
    await rig.store.command('TRUNCATE TABLE ledger');
    await rig.append(events(5, 10));
    const sink = await rig.startSink();
    assert.equal(sink.next, 0);
    await drain(sink, 15);
    const [state] = await rig.appender.states();
    assert.equal(state?.committed, 15);
    await auditLedger(rig.store, rig.epoch, [15]);
    assert.equal((await eventsOf(rig.store, true)).length, 15);
  }));

test('a partition that is dealt to a sink which stops already is left to whoever comes next', () =>
  withRig({ partitions: 2 }, async (rig) => {
    await rig.append(events(5), 0);
    await rig.append(events(5), 1);
    await rig.whileLooping(
      () => until(() => rig.board.get(0, 'stored') === 5 && rig.board.get(1, 'stored') === 5),
      {},
      // As when another sink thread has left the group a moment before. A start from here would never come to an end.
      (listener) => {
        listener.revoked(1);
        listener.assigned(1, { offset: 5, metadata: '' });
      },
    );
    assert.equal(rig.board.get(1, 'owner'), 0);
    await auditLedger(rig.store, rig.epoch, [5, 5]);
  }));

test('records that are trimmed away and not in the store halt their partition with the gap named, and no other', () =>
  withRig({ partitions: 2 }, async (rig) => {
    await rig.append(events(10), 0);
    await rig.append(events(3, 10), 1);
    await drain(await rig.startSink(0), 10);
    await drain(await rig.startSink(1), 3);
    // Partition 0 only: partition 1 keeps its ledger.
    await rig.store.command('ALTER TABLE events DELETE WHERE partition = 0 SETTINGS mutations_sync = 2');
    await rig.store.command('ALTER TABLE ledger DELETE WHERE partition = 0 SETTINGS mutations_sync = 2');
    while ((await rig.appender.trim()) > 0);
    await rig.append(events(2, 20), 0);
    await rig.append(events(2, 30), 1);
    await rig.whileLooping(async () => {
      await until(() => rig.board.get(1, 'ledger') === 5 && rig.condition(0) !== null);
      assert.equal(rig.condition(1), null);
    });
    assert.match(rig.condition(0) ?? '', /10/);
    assert.deepEqual(
      (await eventsOf(rig.store, true)).map(({ partition }) => partition),
      [1, 1, 1, 1, 1],
    );
  }));

test('whatever fails and whenever a sink is replaced, every event is stored exactly once', {
  timeout: 120_000,
}, async () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        type: fc.constant('append' as const),
        ids: fc.array(fc.nat(30), { minLength: 1, maxLength: 12 }),
      }),
    },
    { weight: 4, arbitrary: fc.record({ type: fc.constant('store' as const) }) },
    { weight: 1, arbitrary: fc.record({ type: fc.constant('restart' as const) }) },
    {
      weight: 2,
      arbitrary: fc.record({
        type: fc.constant('cut' as const),
        table: fc.constantFrom('events', 'ledger'),
        hasLanded: fc.boolean(),
      }),
    },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 25 }),
      fc.integer({ min: 1, max: 9 }),
      async (steps, rowsMax) => {
        /** The next insert into this table ends with the sink's thread, before or after it is stored. */
        let cut: { table: string; hasLanded: boolean; hit: () => void } | null = null;
        const dieAt = async (table: string, hasLanded: boolean): Promise<void> => {
          if (cut === null || cut.table !== table || cut.hasLanded !== hasLanded) return;
          cut.hit();
          // A dead thread hears nothing any more.
          await new Promise(() => {});
        };
        const options: RigOptions = {
          limits: { sinkBatchRowsMax: rowsMax },
          beforeInsert: ({ table }) => dieAt(table, false),
          afterInsert: ({ table }) => dieAt(table, true),
        };
        await withRig(options, async (rig) => {
          const sent = new Set<string>();
          let end = 0;
          // Of now: a sink that starts with an empty log remembers what was stored lately by the clock.
          let at = Date.now() - 1000;
          let sink = await rig.startSink();
          for (const now of steps) {
            if (now.type === 'append') {
              const batch = now.ids.map((id) => ({ id: `e${id}`, ingestMs: ++at }));
              for (const { id } of batch) sent.add(id);
              await rig.append(batch);
              end += batch.length;
            } else if (now.type === 'restart') {
              sink = await rig.startSink();
            } else {
              if (sink.canRead) sink.read(100);
              if (sink.recordsHeld === 0) continue;
              if (now.type === 'store') {
                await sink.store();
                continue;
              }
              const died = new Promise<void>((hit) => {
                cut = { ...now, hit };
              });
              await Promise.race([sink.store(), died]);
              cut = null;
              sink = await rig.startSink();
            }
          }
          await drain(sink, end);
          const totals = await auditLedger(rig.store, rig.epoch, [end]);
          assert.equal(totals.rows, sent.size);
          const stored = (await eventsOf(rig.store, true)).map(({ id }) => id);
          assert.deepEqual(stored.sort(), [...sent].sort());
        });
      },
    ),
    { numRuns: 12, endOnFailure: true },
  );
});
