// The way of an answer through the ack ring: whole and in order, however large it is and however small the ring.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { AnswerBox, type ReceivedAnswer } from './answer_box.ts';

const answer: fc.Arbitrary<ReceivedAnswer> = fc.record({
  slot: fc.nat(),
  generation: fc.integer({ min: 0, max: 0xffff_ffff }),
  status: fc.constantFrom(200, 400, 422, 503),
  retryAfterS: fc.nat({ max: 30 }),
  body: fc.oneof(
    fc.string({ minLength: 1, unit: 'grapheme' }),
    fc
      .tuple(fc.constantFrom('x', 'é', '\u65e5', '\u{1f600}'), fc.integer({ min: 1, max: 9000 }))
      .map(([unit, times]) => unit.repeat(times)),
  ),
});

describe('answers in the ack ring', () => {
  test('every answer comes out once, whole and in order, whenever the reader makes room', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(8192, 65_536),
        fc.array(fc.oneof(answer, fc.constant('take' as const)), { maxLength: 60 }),
        (capacityBytes, steps) => {
          const box = new AnswerBox(capacityBytes);
          const sent: ReceivedAnswer[] = [];
          const received: ReceivedAnswer[] = [];
          for (const step of steps) {
            if (step === 'take') {
              received.push(...box.take());
              box.answers.flush();
            } else {
              sent.push({ ...step });
              const { slot, generation, status, body, retryAfterS } = step;
              box.answers.send(slot, generation, status, body, retryAfterS);
            }
          }
          for (let left = sent.length * 20; received.length < sent.length && left > 0; left -= 1) {
            box.answers.flush();
            received.push(...box.take());
          }
          assert.equal(box.answers.waiting, 0);
          assert.deepEqual(received, sent);
        },
      ),
    );
  });

  test('an answer that finds no room waits, and those after it wait behind it', () => {
    const box = new AnswerBox(8192);
    for (let slot = 0; slot < 1000; slot += 1) box.answers.send(slot, slot, 200, 'x'.repeat(100));
    assert.ok(box.answers.waiting > 0);
    const slots: number[] = [];
    while (slots.length < 1000) {
      const found = box.take();
      assert.ok(found.length > 0);
      slots.push(...found.map(({ slot }) => slot));
      box.answers.flush();
    }
    assert.deepEqual(slots, [...slots.keys()]);
  });
});
