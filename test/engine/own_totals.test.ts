// Invariant: totals that are told add up, whatever moment a sink is caught in; only what stays wrong is told as wrong.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OwnTotalsReader } from '../../src/engine/own_totals.ts';
import { type LedgerTotals, noTotals } from '../../src/sink/ledger.ts';
import { type BoardField, createBoard, PartitionBoard } from '../../src/stats/board.ts';

const sumOf = ({ rows, duplicates, parked, holes }: Readonly<Record<string, number>>): number =>
  (rows ?? 0) + (duplicates ?? 0) + (parked ?? 0) + (holes ?? 0);

test('a sink caught between any two of its words is told as it was before, and never as one that lost something', () => {
  const board = new PartitionBoard(createBoard(2));
  const reader = new OwnTotalsReader(board);
  const steps: [BoardField, number][] = [
    ['rows', 7],
    ['duplicates', 2],
    ['parked', 1],
    ['holes', 3],
    ['ledger', 13],
  ];
  for (let round = 1; round <= 3; round += 1) {
    for (const [field, delta] of steps) {
      const totals = reader.read(1, 1000);
      assert.equal(sumOf(totals), totals.next);
      assert.equal(totals.next, 13 * (round - 1));
      board.add(1, field, delta);
    }
    assert.deepEqual(reader.read(1, 1000), {
      rows: 7 * round,
      duplicates: 2 * round,
      parked: round,
      holes: 3 * round,
      next: 13 * round,
    });
  }
});

test('totals that do not add up for a second are told as they are, until they do again', () => {
  const board = new PartitionBoard(createBoard(1));
  const reader = new OwnTotalsReader(board);
  board.set(0, 'rows', 5);
  board.set(0, 'ledger', 6);
  assert.equal(reader.read(0, 10_000).next, 0);
  assert.equal(reader.read(0, 10_999).next, 0);
  assert.deepEqual(reader.read(0, 11_000), { rows: 5, duplicates: 0, parked: 0, holes: 0, next: 6 });
  board.set(0, 'parked', 1);
  assert.equal(reader.read(0, 11_001).next, 6);
  board.add(0, 'rows', 1);
  assert.equal(reader.read(0, 11_002).rows, 5);
});

test('of a partition that nobody here owns the further of two is told: what a sink left, or what the ledger said', () => {
  const board = new PartitionBoard(createBoard(1));
  const reader = new OwnTotalsReader(board);
  const said = (next: number): LedgerTotals => ({ ...noTotals, rows: next, covered: next, next });
  assert.equal(reader.further(0, null), null);
  assert.equal(reader.further(0, said(0))?.next, 0);
  board.set(0, 'rows', 5);
  board.set(0, 'ledger', 5);
  assert.equal(reader.further(0, null)?.next, 5);
  assert.equal(reader.further(0, said(3))?.next, 5);
  assert.equal(reader.further(0, said(7))?.next, 7);
  // Killed between two of its words: they do not add up.
  board.set(0, 'ledger', 9);
  assert.equal(reader.further(0, said(7))?.next, 7);
});
