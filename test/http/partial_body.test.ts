// A body in pieces is the body, whatever the pieces, and costs memory by its bytes and not by their number.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { PartialBody } from '../../src/http/partial_body.ts';

describe('a body in pieces', () => {
  test('it is written out as it came, again and again until it is cleared', () => {
    const body = new PartialBody();
    fc.assert(
      fc.property(
        fc.array(
          fc.oneof(
            fc.uint8Array({ maxLength: 3 }),
            fc.uint8Array({ maxLength: 2000 }),
            fc.constant(new Uint8Array(70_000).fill(7)),
          ),
        ),
        fc.nat({ max: 50 }),
        (pieces, position) => {
          for (const piece of pieces) {
            const borrowed = Uint8Array.from(piece);
            body.add(borrowed);
            borrowed.fill(0xee);
          }
          const whole = Buffer.concat(pieces);
          assert.equal(body.bytes, whole.length);
          const target = Buffer.alloc(position + whole.length + 1, 0xaa);
          assert.equal(body.copyTo(target, position), position + whole.length);
          assert.ok(target.subarray(position, -1).equals(whole));
          assert.ok(target.subarray(0, position).every((byte) => byte === 0xaa));
          assert.equal(target.at(-1), 0xaa);
          body.clear();
          assert.equal(body.bytes, 0);
          assert.equal(body.copyTo(target, 3), 3);
        },
      ),
    );
  });

  test('a body that comes byte by byte holds at most twice its bytes', () => {
    const pieces = 4_000_000;
    const heldBytes = (): number => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
    const before = heldBytes();
    const body = new PartialBody();
    const piece = new Uint8Array(1);
    for (let i = 0; i < pieces; i += 1) body.add(piece);
    assert.equal(body.bytes, pieces);
    // An object for each piece would be some hundred bytes a piece.
    assert.ok(heldBytes() - before < 20 * pieces, `${heldBytes() - before} bytes`);
    assert.equal(body.copyTo(Buffer.alloc(pieces), 0), pieces);
  });
});
