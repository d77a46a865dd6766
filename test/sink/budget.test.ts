// The budget of inserts a second.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { InsertBudget } from '../../src/sink/budget.ts';

test('inserts that wait for the budget never exceed the rate and the burst', () => {
  const step = fc.record({ ms: fc.nat(500), wishes: fc.nat(5) });
  fc.assert(
    fc.property(
      fc.double({ min: 0.1, max: 1000, noNaN: true }),
      fc.integer({ min: 1, max: 10 }),
      fc.array(step, { maxLength: 60 }),
      (perSecond, burst, steps) => {
        const budget = new InsertBudget(perSecond, burst, 0);
        let nowMs = 0;
        let spent = 0;
        for (const { ms, wishes } of steps) {
          nowMs += ms;
          for (let i = 0; i < wishes && budget.waitMs(nowMs) === 0; i += 1) {
            budget.spend(nowMs);
            spent += 1;
          }
          assert.ok(spent <= burst + (nowMs / 1000) * perSecond + 1e-6);
        }
      },
    ),
  );
});

test('whoever waits as long as it says may insert', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.1, max: 1000, noNaN: true }), fc.nat(30), (perSecond, inserts) => {
      const budget = new InsertBudget(perSecond, 4, 0);
      for (let i = 0; i < inserts; i += 1) budget.spend(0);
      const wait = budget.waitMs(0);
      // One microsecond for the rounding of a double.
      assert.equal(budget.waitMs(wait + 0.001), 0);
      if (inserts < 4) assert.equal(wait, 0);
    }),
  );
});

test('full blocks overdraw by no more than the burst, so that the pause after them is bounded', () => {
  const budget = new InsertBudget(10, 4, 0);
  for (let i = 0; i < 1000; i += 1) budget.spend(0);
  assert.equal(budget.waitMs(0), 500);
});
