// The text beside a committed position: whose it is, and for which log it was said.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  provenOffset,
  readPosition,
  stampedEpoch,
  stampText,
  textBytesMax,
} from '../../../src/log/kafka/position_stamp.ts';

const epoch = '0123456789abcdef0123456789abcdef';
const other = 'f'.repeat(32);
const none = { offset: -1, metadata: '' };

test('a text is stamped with version and epoch, an empty one too', () => {
  assert.equal(stampText(epoch, 'intent'), `ess1:${epoch}:intent`);
  assert.equal(stampText(epoch, ''), `ess1:${epoch}:`);
  const longest = stampText(epoch, 'x'.repeat(textBytesMax));
  assert.ok(Buffer.byteLength(longest) < 4096, 'what brokers take');
});

test('the epoch of a stamp is told whatever it is, and none where there is no stamp that is known', () => {
  assert.equal(stampedEpoch(stampText(other, 'intent')), other);
  for (const text of ['', 'intent', `ess1:${epoch}`, `ess2:${epoch}:intent`, 'ess1:']) {
    assert.equal(stampedEpoch(text), null);
  }
});

test('a position of the same epoch comes back as it was committed, and proves what it says', () => {
  fc.assert(
    fc.property(fc.nat(), fc.string({ unit: 'binary' }), (offset, text) => {
      const position = readPosition(epoch, { offset, metadata: stampText(epoch, text) });
      assert.deepEqual(position, { offset, metadata: text });
      assert.equal(provenOffset(position), offset);
    }),
  );
});

test('a position of another epoch is none, whatever was said', () => {
  fc.assert(
    fc.property(fc.nat(), fc.string(), (offset, text) => {
      const position = readPosition(epoch, { offset, metadata: stampText(other, text) });
      assert.deepEqual(position, none);
      assert.equal(provenOffset(position), 0);
    }),
  );
});

test('a position without a stamp, or with one of another version, is passed on as it is and proves nothing', () => {
  const texts = [
    '',
    `1 ${epoch} 5-9`,
    'ess1:',
    `ess1:${epoch}`,
    `ess2:${epoch}:text`,
    `ess1 ${epoch}:`,
    `xess1:${epoch}:`,
  ];
  for (const metadata of texts) {
    const position = readPosition(epoch, { offset: 7, metadata });
    assert.deepEqual(position, { offset: 7, metadata, isForeign: true });
    assert.equal(provenOffset(position), 0);
  }
});

test('no position is none', () => {
  assert.deepEqual(readPosition(epoch, none), none);
  assert.equal(provenOffset(none), 0);
});
