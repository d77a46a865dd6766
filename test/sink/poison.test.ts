// Rows that ClickHouse refuses for good: exactly those become dead letters, everything beside them is stored once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RecordCursor } from '../../src/event/record.ts';
import { StoreError } from '../../src/store/store.ts';
import { auditLedger, eventsOf } from './audit.ts';
import { drain, Rig, type RigOptions, type TestEvent } from './rig.ts';

const poison = 'POISON';

/** Makes ClickHouse refuse every event whose body has the word in it. */
async function refusePoison(rig: Rig): Promise<void> {
  await rig.store.command(
    `ALTER TABLE events ADD CONSTRAINT no_poison CHECK position(body, '${poison}') = 0`,
  );
}

/** One event a letter: `p` is a poisoned one. */
function eventsFrom(pattern: string): TestEvent[] {
  const nowMs = Date.now() - 1000;
  return [...pattern].map((letter, i) => ({
    id: `e${i}`,
    ingestMs: nowMs + i,
    body: letter === 'p' ? `{"why":"${poison} ${i}"}` : `{"n":${i}}`,
  }));
}

const offsetsOf = (pattern: string, letter: string): number[] =>
  [...pattern].flatMap((candidate, offset) => (candidate === letter ? [offset] : []));

/** The whole outcome of a pattern: rows, dead letters with their records, ledger. */
async function checkOutcome(rig: Rig, pattern: string): Promise<void> {
  const totals = await auditLedger(rig.store, rig.epoch, [pattern.length]);
  const good = offsetsOf(pattern, 'g');
  const bad = offsetsOf(pattern, 'p');
  assert.deepEqual(totals, { rows: good.length, duplicates: 0, parked: bad.length, holes: 0 });
  const stored = await eventsOf(rig.store, false);
  assert.deepEqual(
    stored.map(({ offset, id }) => [offset, id]),
    good.map((offset) => [offset, `e${offset}`]),
  );
  const letters = await rig.appender.deadLetters(1000);
  assert.deepEqual(
    letters.map(({ offset }) => offset),
    bad,
  );
  for (const letter of letters) {
    assert.equal(letter.code, '469');
    const cursor = new RecordCursor();
    cursor.open(letter.record);
    assert.ok(cursor.next());
    assert.equal(letter.record.toString('utf8', cursor.idStart, cursor.typeStart), `e${letter.offset}`);
    assert.equal(
      letter.record.toString('utf8', cursor.bodyStart, cursor.end),
      `{"why":"${poison} ${letter.offset}"}`,
    );
  }
}

for (const pattern of [
  'p',
  'pg',
  'gp',
  'pppp',
  'gggpgggggpgg',
  'pggggggggggp',
  'gggggppggggg',
  'pgpgpgpgpgpg',
  `${'g'.repeat(100)}p${'g'.repeat(99)}`,
]) {
  test(`of ${pattern.length > 20 ? '200 events with one poisoned in the middle' : pattern} exactly the poisoned become dead letters`, async () => {
    const rig = await Rig.open();
    try {
      await refusePoison(rig);
      await rig.append(eventsFrom(pattern));
      await drain(await rig.startSink(), pattern.length);
      await checkOutcome(rig, pattern);
      assert.equal(rig.condition(), null);
      const [state] = await rig.appender.states();
      assert.equal(state?.committed, pattern.length);
    } finally {
      await rig.close();
    }
  });
}

test('wherever the poison is and wherever the sink dies meanwhile, nothing is lost, doubled or parked in vain', {
  timeout: 120_000,
}, async () => {
  const pattern = fc.array(fc.constantFrom('g', 'g', 'g', 'p'), { minLength: 1, maxLength: 24 });
  await fc.assert(
    fc.asyncProperty(
      pattern,
      fc.array(fc.record({ after: fc.integer({ min: 1, max: 6 }), hasLanded: fc.boolean() }), {
        maxLength: 3,
      }),
      async (letters, deaths) => {
        const text = letters.join('');
        let inserts = 0;
        let dieAt = Number.POSITIVE_INFINITY;
        let hasLanded = false;
        let onDeath = (): void => {};
        const dead = async (): Promise<void> => {
          onDeath();
          // A dead thread hears nothing any more.
          await new Promise(() => {});
        };
        const options: RigOptions = {
          beforeInsert: () => {
            inserts += 1;
            return inserts >= dieAt && !hasLanded ? dead() : undefined;
          },
          afterInsert: () => (inserts >= dieAt && hasLanded ? dead() : undefined),
        };
        const rig = await Rig.open(options);
        try {
          await refusePoison(rig);
          await rig.append(eventsFrom(text));
          for (const death of deaths) {
            inserts = 0;
            dieAt = death.after;
            hasLanded = death.hasLanded;
            const died = new Promise<void>((resolve) => {
              onDeath = resolve;
            });
            await Promise.race([rig.startSink().then((sink) => drain(sink, text.length)), died]);
          }
          dieAt = Number.POSITIVE_INFINITY;
          await drain(await rig.startSink(), text.length);
          await checkOutcome(rig, text);
        } finally {
          await rig.close();
        }
      },
    ),
    { numRuns: 10, endOnFailure: true },
  );
});

test('a copy of a poisoned event is parked too, and a copy of a good one beside it is dropped', async () => {
  const rig = await Rig.open();
  try {
    await refusePoison(rig);
    const [good, bad] = eventsFrom('gp');
    if (good === undefined || bad === undefined) throw new TypeError('two events');
    await rig.append([good, bad, good, bad, good]);
    await drain(await rig.startSink(), 5);
    const totals = await auditLedger(rig.store, rig.epoch, [5]);
    assert.deepEqual(totals, { rows: 1, duplicates: 2, parked: 2, holes: 0 });
    assert.deepEqual(
      (await rig.appender.deadLetters(10)).map(({ offset }) => offset),
      [1, 3],
    );
  } finally {
    await rig.close();
  }
});

test('a refusal after an attempt without an answer looks for the rows before anything is narrowed', async () => {
  let attempts = 0;
  const rig = await Rig.open({
    // The first attempt is stored but its answer is lost; then the table changes and refuses the repeat.
    beforeInsert: ({ table }) => {
      if (table !== 'events') return;
      attempts += 1;
      if (attempts === 2) throw new StoreError(469, 'refused', 'a constraint that is new');
    },
    afterInsert: ({ table }) => {
      if (table === 'events' && attempts === 1) throw new StoreError(0, 'unknown', 'the connection broke');
    },
  });
  try {
    await rig.append(eventsFrom('gggg'));
    await drain(await rig.startSink(), 4);
    await checkOutcome(rig, 'gggg');
    assert.equal(attempts, 2);
  } finally {
    await rig.close();
  }
});
