// What is written down about a dead letter: it comes back as it was, and what a newer ESS wrote is never guessed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeLetterState,
  encodeLetterState,
  type LetterState,
  standingOf,
} from '../../src/log/letter_state.ts';

const count = fc.maxSafeNat();
const text = fc.string({ unit: 'binary' });
const state: fc.Arbitrary<LetterState> = fc.oneof(
  fc.record({
    type: fc.constant('replaying' as const),
    timeMs: count,
    partition: count,
    from: count,
    id: text,
    source: text,
    digest: text,
  }),
  fc.record({ type: fc.constant('replayed' as const), timeMs: count, partition: count, offset: count }),
  fc.record({ type: fc.constant('discarded' as const), timeMs: count, reason: text }),
);

test('every state comes back as it was written', () => {
  fc.assert(
    fc.property(state, (written) =>
      assert.deepEqual(decodeLetterState(encodeLetterState(written)), { ...written }),
    ),
  );
});

test('what is no state of this version is refused', () => {
  for (const bytes of [
    '',
    '{',
    'null',
    '[]',
    '{"type":"replayed","timeMs":1,"partition":1}',
    '{"type":"replaying","timeMs":1,"partition":1,"from":0}',
    '{"type":"discarded","reason":"r"}',
    '{"type":"archived","timeMs":1,"partition":1,"offset":1,"reason":"r"}',
  ])
    assert.throws(() => decodeLetterState(Buffer.from(bytes)), { code: 'format_unknown' }, bytes);
});

test('a letter whose replay has begun still needs a person', () => {
  assert.equal(standingOf(undefined), 'parked');
  const identity = { id: '', source: '', digest: '' };
  assert.equal(standingOf({ type: 'replaying', timeMs: 0, partition: 0, from: 0, ...identity }), 'parked');
  assert.equal(standingOf({ type: 'replayed', timeMs: 0, partition: 0, offset: 0 }), 'replayed');
  assert.equal(standingOf({ type: 'discarded', timeMs: 0, reason: '' }), 'discarded');
});
