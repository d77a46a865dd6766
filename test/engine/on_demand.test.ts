// A figure that is fetched only while somebody wants it, against a clock that the test moves.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OnDemand } from '../../src/engine/on_demand.ts';

test('nothing is fetched before somebody asks, nor more often than the interval, nor twice at once', async () => {
  let nowMs = 0;
  let fetches = 0;
  let answer: (value: number) => void = () => {};
  const fetch = (): Promise<number> => {
    fetches += 1;
    return new Promise((resolve) => {
      answer = resolve;
    });
  };
  const figure = new OnDemand(fetch, 1000, () => nowMs);
  assert.deepEqual([figure.known, figure.ageMs, fetches], [null, null, 0]);
  const first = figure.refresh();
  nowMs = 5000;
  const second = figure.refresh();
  assert.equal(fetches, 1);
  answer(7);
  await Promise.all([first, second]);
  assert.deepEqual(figure.known, { value: 7, atMs: 5000 });
  nowMs = 5900;
  assert.equal(figure.ageMs, 900);
  void figure.refresh();
  assert.equal(fetches, 2, 'the interval counts from the start of a fetch');
  answer(8);
  await figure.refresh();
  nowMs = 6800;
  await figure.refresh();
  assert.equal(fetches, 2);
  nowMs = 6900;
  void figure.refresh();
  assert.equal(fetches, 3);
});

test('a fetch that fails leaves what is known, which grows old, and the next one is tried', async () => {
  let nowMs = 0;
  let isFailing = false;
  const figure = new OnDemand(
    async () => {
      if (isFailing) throw new Error('away');
      return nowMs;
    },
    1000,
    () => nowMs,
  );
  await figure.refresh();
  isFailing = true;
  nowMs = 3000;
  await figure.refresh();
  assert.deepEqual([figure.known?.value, figure.ageMs], [0, 3000]);
  isFailing = false;
  nowMs = 4000;
  await figure.refresh();
  assert.deepEqual([figure.known?.value, figure.ageMs], [4000, 0]);
});
