// Slots against a model: who holds which one, and that an old generation finds nobody.

import type { HttpResponse } from 'uWebSockets.js';
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { DrainRate } from '../../src/http/lanes.ts';
import { type Slot, Slots } from '../../src/http/slots.ts';

/** A slot only holds its response, it never looks into it. */
const responseOf = (name: number): HttpResponse => ({ name }) as unknown as HttpResponse;

describe('slots', () => {
  test('any order of taking and giving back keeps the bounds, and only the present generation is found', () => {
    const action = fc.oneof(
      fc.record({ kind: fc.constant('take' as const), isStore: fc.boolean() }),
      fc.record({ kind: fc.constant('release' as const), which: fc.nat() }),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 6 }),
        fc.integer({ min: 1, max: 6 }),
        fc.array(action, { maxLength: 200 }),
        (max, storeMax, actions) => {
          const slots = new Slots(max, storeMax);
          const held: { slot: Slot; generation: number; isStore: boolean; response: HttpResponse }[] = [];
          const given: { index: number; generation: number }[] = [];
          for (const [i, step] of actions.entries()) {
            if (step.kind === 'take') {
              const response = responseOf(i);
              const isFull =
                held.length === max ||
                (step.isStore && held.filter(({ isStore }) => isStore).length >= storeMax);
              const slot = slots.tryTake(response, step.isStore);
              assert.equal(slot === null, isFull);
              if (slot !== null)
                held.push({ slot, generation: slot.generation, isStore: step.isStore, response });
            } else if (held.length > 0) {
              const [gone] = held.splice(step.which % held.length, 1);
              if (gone === undefined) continue;
              slots.release(gone.slot);
              // Giving back twice must not free what a third one holds.
              slots.release(gone.slot);
              given.push({ index: gone.slot.index, generation: gone.generation });
            }
            assert.equal(slots.used, held.length);
            assert.equal(slots.storeUsed, held.filter(({ isStore }) => isStore).length);
            for (const { slot, generation, response } of held) {
              assert.equal(slots.find(slot.index, generation), slot);
              assert.equal(slot.response, response);
            }
            for (const { index, generation } of given) assert.equal(slots.find(index, generation), null);
            assert.equal([...slots.inUse()].length, held.length);
          }
        },
      ),
    );
  });

  test('a slot that is given back has forgotten its request', () => {
    const slots = new Slots(1, 1);
    const slot = slots.tryTake(responseOf(1), true);
    assert.ok(slot !== null);
    slot.body.add(new Uint8Array(10));
    slot.answerParts.push(Buffer.alloc(10));
    slot.discardedBytes = 5;
    slots.release(slot);
    assert.deepEqual(
      [slot.response, slot.body.bytes, slot.answerParts.length, slot.discardedBytes],
      [null, 0, 0, 0],
    );
    assert.equal(slots.find(7, 0), null);
  });

  test('the generation wraps within 32 bits', () => {
    const slots = new Slots(1, 1);
    const slot = slots.tryTake(responseOf(1), false);
    assert.ok(slot !== null);
    slot.generation = 0xffff_ffff;
    slots.release(slot);
    assert.equal(slot.generation, 0);
  });
});

describe('the drain rate', () => {
  test('the wait is the time that what waits takes at the measured rate, within 1 to 30 seconds', () => {
    const rate = new DrainRate(0);
    assert.equal(rate.secondsFor(0), 1);
    assert.equal(rate.secondsFor(100), 5);
    for (let second = 1; second <= 20; second += 1) {
      rate.add(1000);
      rate.tick(second * 1000);
    }
    assert.equal(rate.secondsFor(1), 1);
    assert.equal(rate.secondsFor(4500), 5);
    assert.equal(rate.secondsFor(1_000_000), 30);
  });
});
