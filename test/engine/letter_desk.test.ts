// Invariant: a letter whose replay was cut off is appended again only once it is certain that its event is neither stored
// nor in the log.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { Desk } from '../../src/engine/letter_desk.ts';
import { EssError } from '../../src/errors.ts';
import { RecordWriter, recordFlags } from '../../src/event/record.ts';
import { type LetterState, standingOf } from '../../src/log/letter_state.ts';
import type { AppendBatch, AppendResult, DeadLetter, LetterPlace, LogAppender } from '../../src/log/log.ts';

const place = { partition: 0, offset: 3 };
const keyOf = ({ partition, offset }: LetterPlace): string => `${partition}:${offset}`;

function recordOf(id: string, flags = 0): Buffer {
  const body = Buffer.from(`{"id":"${id}"}`);
  const writer = new RecordWriter();
  writer.append(flags, id, 'event', 'from', '', null, 1000, 1000, body, 0, body.length);
  return Buffer.from(writer.bytes);
}

/** A log of one partition in memory, and a store that holds what it is told. */
class World {
  readonly letters = new Map<string, DeadLetter>();
  readonly appended: AppendBatch[] = [];
  readonly stored = new Map<string, LetterPlace>();
  end = 10;
  committed = 10;
  /** What the next append does instead. */
  fails: EssError | null = null;
  readonly desk: Desk;

  constructor() {
    this.park(place, recordOf('one'));
    this.desk = new Desk({
      log: () => this.#log(),
      findStored: async (id, source) => this.stored.get(JSON.stringify([source, id])) ?? null,
      onAppended: () => {},
      isStopping: () => false,
      limits: { eventBytesMax: 1000, eventDepthMax: 10 },
      logger: pino({ level: 'silent' }),
    });
  }

  park(at: LetterPlace, record: Buffer, state?: LetterState): void {
    const letter = { ...at, timeMs: 5, code: '1', reason: 'r', record };
    this.letters.set(keyOf(at), state === undefined ? letter : { ...letter, state });
  }

  state(at: LetterPlace = place): LetterState | undefined {
    return this.letters.get(keyOf(at))?.state;
  }

  store(id: string, at: LetterPlace): void {
    this.stored.set(JSON.stringify(['from', id]), at);
  }

  #log(): LogAppender {
    const ordered = () => [...this.letters.values()].sort((a, b) => a.offset - b.offset);
    const log: LogAppender = {
      epoch: 'e'.repeat(32),
      partitions: 1,
      appendsMax: 1,
      append: async (batches): Promise<AppendResult[]> => {
        if (this.fails !== null) throw this.fails;
        return batches.map((batch) => {
          this.appended.push(batch);
          this.end += batch.count;
          this.committed = this.end;
          return this.end - batch.count;
        });
      },
      states: async () => [{ start: 0, end: this.end, bytes: 0, committed: this.committed }],
      committed: async () => [this.committed],
      isParked: async (partition, offset) => this.letters.has(keyOf({ partition, offset })),
      deadLetters: async (limit, after, which = 'all') =>
        ordered()
          .filter(({ offset }) => offset > (after?.offset ?? -1))
          .filter(({ state }) => which === 'all' || standingOf(state) === which)
          .slice(0, limit),
      deadLetterCount: async () => this.letters.size,
      deadLetter: async (at) => this.letters.get(keyOf(at)) ?? null,
      latestDeadLetters: async () => [],
      setLetterStates: async (changes) => {
        for (const { state, ...at } of changes) {
          const letter = this.letters.get(keyOf(at));
          assert.ok(letter !== undefined);
          this.letters.set(keyOf(at), { ...letter, state });
        }
      },
      trim: async () => 0,
      close: async () => {},
    };
    return log;
  }

  /** A replay that was cut off between its intent and its end. */
  async cutOff(): Promise<void> {
    this.fails = new EssError('outcome_unknown', 'cut off');
    const [outcome] = await this.desk.replay([place], null);
    assert.deepEqual([outcome?.outcome, outcome?.state], ['unknown', 'replaying']);
    this.fails = null;
  }
}

test('a replay whose end nobody saw waits until everything up to the end of the log is stored', async () => {
  const world = new World();
  await world.cutOff();
  world.end = 11;
  const [pending] = await world.desk.replay([place], null);
  assert.deepEqual([pending?.outcome, pending?.code], ['unknown', 'outcome_unknown']);
  assert.deepEqual(world.appended, []);
  // It was in the log: the sink has come to it.
  world.committed = 11;
  world.store('one', { partition: 0, offset: 10 });
  const [found] = await world.desk.replay([place], null);
  assert.deepEqual([found?.outcome, found?.replayedTo], ['replayed', { partition: 0, offset: 10 }]);
  assert.deepEqual(world.appended, []);
});

test('one that was not in the log is appended then, to the partition of the first try', async () => {
  const world = new World();
  await world.cutOff();
  const [done] = await world.desk.replay([place], null);
  assert.deepEqual([done?.outcome, done?.stage], ['replayed', 'store']);
  assert.equal(world.appended.length, 1);
  const { state } = world.letters.get(keyOf(place)) ?? {};
  assert.equal(state?.type, 'replayed');
  const [again] = await world.desk.replay([place], null);
  assert.equal(again?.outcome, 'already_replayed');
  assert.equal(world.appended.length, 1);
});

test('one that was refused again is found among the later letters', async () => {
  const world = new World();
  await world.cutOff();
  world.end = 12;
  world.committed = 12;
  world.park({ partition: 0, offset: 10 }, recordOf('another'));
  world.park({ partition: 0, offset: 11 }, recordOf('one'));
  const [found] = await world.desk.replay([place], null);
  assert.deepEqual([found?.replayedTo?.offset, found?.stage], [11, 'parked']);
  assert.deepEqual(world.appended, []);
});

test('one with other content is refused while it is not known what became of the first', async () => {
  const world = new World();
  await world.cutOff();
  const [refused] = await world.desk.replay([place], '{"id":"two"}');
  assert.deepEqual([refused?.outcome, refused?.code], ['refused', 'letter_settled']);
  assert.deepEqual(world.appended, []);
});

test('a letter whose replay had begun is discarded only if its event is nowhere', async () => {
  const stored = new World();
  await stored.cutOff();
  stored.store('one', { partition: 0, offset: 10 });
  const [refused] = await stored.desk.discard([place], 'why');
  assert.deepEqual([refused?.outcome, refused?.state], ['refused', 'replayed']);
  assert.equal(stored.state()?.type, 'replayed');
  const absent = new World();
  await absent.cutOff();
  const [gone] = await absent.desk.discard([place], 'why');
  assert.equal(gone?.outcome, 'discarded');
});

test('what the log does not take is told for each letter, and may be replayed later', async () => {
  const world = new World();
  world.park({ partition: 0, offset: 4 }, recordOf('two'));
  world.fails = new EssError('log_unavailable', 'no');
  const places = [place, { partition: 0, offset: 4 }, { partition: 0, offset: 5 }];
  const refused = await world.desk.replay(places, null);
  assert.deepEqual(
    refused.map(({ code }) => code),
    ['log_unavailable', 'log_unavailable', 'not_found'],
  );
  world.fails = null;
  const done = await world.desk.replay(places, null);
  assert.deepEqual(
    done.map(({ outcome }) => outcome),
    ['replayed', 'replayed', 'refused'],
  );
  assert.deepEqual(
    world.appended.map(({ count }) => count),
    [2],
  );
});

test('requests for the same letter at the same time append it once, and too many are refused', async () => {
  const world = new World();
  const many = await Promise.allSettled(Array.from({ length: 12 }, () => world.desk.replay([place], null)));
  const outcomes = many.map((one) =>
    one.status === 'rejected' ? String((one.reason as EssError).code) : one.value[0]?.outcome,
  );
  assert.deepEqual(outcomes.slice(0, 2), ['replayed', 'already_replayed']);
  assert.deepEqual(
    outcomes.slice(8),
    Array.from({ length: 4 }, () => 'overloaded'),
  );
  assert.equal(world.appended.length, 1);
});

test('what never was an event is stored only as somebody corrects it, each time as the same record', async () => {
  const world = new World();
  const at = { partition: 0, offset: 7 };
  world.park(at, recordOf('place', recordFlags.isBroken));
  const [refused] = await world.desk.replay([at], null);
  assert.equal(refused?.code, 'not_replayable');
  for (const [event, code] of [
    ['{', 'malformed_json'],
    ['[]', 'invalid_event'],
    [`{"a":"${'x'.repeat(1000)}"}`, 'too_large'],
  ] as const)
    assert.equal((await world.desk.replay([at], event))[0]?.code, code);
  world.fails = new EssError('outcome_unknown', 'cut off');
  await world.desk.replay([at], ' {"text":"corrected"}\n');
  world.fails = null;
  const [done] = await world.desk.replay([at], '{"text":"corrected"}');
  assert.equal(done?.outcome, 'replayed');
  const [batch] = world.appended;
  assert.ok(batch?.bytes.includes('place') && batch.bytes.includes('{"text":"corrected"}'));
});

test('a record of which nothing is known can only be discarded, or replaced', async () => {
  const world = new World();
  const at = { partition: 0, offset: 8 };
  world.park(at, Buffer.alloc(0));
  assert.equal((await world.desk.replay([at], null))[0]?.code, 'not_replayable');
  assert.equal((await world.desk.discard([at], 'lost'))[0]?.outcome, 'discarded');
});
