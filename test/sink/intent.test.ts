// The text beside a committed position, and the token of a block.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { blockToken, decodeIntent, encodeIntent } from '../../src/sink/intent.ts';

const offset = fc.maxSafeNat();
const epoch = fc.stringMatching(/^[0-9a-zA-Z_-]{1,32}$/);
const isGone = fc.constant<true>(true);
const layout = fc.integer({ min: 1, max: 65_535 });
const intent = fc.record(
  { epoch, first: offset, last: offset, layout, isGone },
  { noNullPrototype: true, requiredKeys: ['epoch', 'first', 'last', 'layout'] },
);

test('an intent comes back as it was written, in at most 100 bytes', () => {
  fc.assert(
    fc.property(intent, (value) => {
      const text = encodeIntent(value);
      assert.ok(Buffer.byteLength(text) <= 100);
      assert.deepEqual(decodeIntent(text), value);
    }),
  );
});

test('no text means that nothing is pending', () => {
  assert.equal(decodeIntent(''), 'none');
});

test('a text of another format is never taken for an intent', () => {
  const known = encodeIntent({ epoch: 'e', first: 1, last: 2, layout: 1 });
  const others = [
    known.replace(/^1 /, '2 '),
    `${known} `,
    `${known} lost`,
    ` ${known}`,
    known.replace('-', ' '),
    '{}',
    '1 e 1-',
    `${known} layout-`,
    `${known} 2`,
  ];
  for (const text of others) assert.equal(decodeIntent(text), 'unknown');
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), (text) => {
      const found = decodeIntent(text);
      if (found !== 'unknown' && found !== 'none') assert.deepEqual(decodeIntent(encodeIntent(found)), found);
    }),
  );
});

test('two ranges have the same token only if they are the same range of the same partition and history', () => {
  const place = fc.record({
    epoch,
    topic: fc.constantFrom('events', 'e'),
    partition: fc.nat(20),
    first: fc.nat(30),
    last: fc.nat(30),
  });
  fc.assert(
    fc.property(place, place, (a, b) => {
      const tokens = [a, b].map((range) =>
        blockToken(range.epoch, range.topic, range.partition, range.first, range.last),
      );
      const isSame = (['epoch', 'topic', 'partition', 'first', 'last'] as const).every(
        (name) => a[name] === b[name],
      );
      assert.equal(tokens[0] === tokens[1], isSame);
    }),
    { numRuns: 1000 },
  );
});
