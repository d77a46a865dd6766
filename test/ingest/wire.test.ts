// The flags of a request come out of the ring as they went in, and fit their field.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ackLevels, ackOf, encodingOf, encodings, requestFlags, wantsIdsOf } from '../../src/ingest/wire.ts';
import { recordTypeMax } from '../../src/ring/layout.ts';

test('every combination of ack, encoding and ids is told apart', () => {
  const seen = new Set<number>();
  for (const ack of ackLevels) {
    for (const encoding of encodings) {
      for (const wantsIds of [false, true]) {
        const flags = requestFlags(ack, encoding, wantsIds);
        assert.deepEqual([ackOf(flags), encodingOf(flags), wantsIdsOf(flags)], [ack, encoding, wantsIds]);
        assert.ok(flags <= recordTypeMax);
        seen.add(flags);
      }
    }
  }
  assert.equal(seen.size, ackLevels.length * encodings.length * 2);
});
