import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type BoardField, createBoard, PartitionBoard } from '../../src/stats/board.ts';
import { runTask } from './torture.ts';

const fields: readonly BoardField[] = [
  'end',
  'start',
  'committed',
  'stored',
  'rows',
  'duplicates',
  'parked',
  'pendingIngestMs',
  'bytes',
];

describe('PartitionBoard', () => {
  it('keeps every field of every partition apart, up to the largest safe integer', () => {
    const shared = createBoard(3);
    const board = new PartitionBoard(shared);
    const other = new PartitionBoard(shared);
    assert.equal(board.partitions, 3);
    for (let partition = 0; partition < 3; partition += 1) {
      for (const [i, field] of fields.entries()) {
        assert.equal(board.get(partition, field), 0);
        board.set(partition, field, Number.MAX_SAFE_INTEGER - partition * 100 - i);
      }
    }
    for (let partition = 0; partition < 3; partition += 1) {
      for (const [i, field] of fields.entries()) {
        assert.equal(other.get(partition, field), Number.MAX_SAFE_INTEGER - partition * 100 - i);
      }
    }
  });

  it('raises but never lowers, and adds both ways', () => {
    const board = new PartitionBoard(createBoard(1));
    board.raise(0, 'end', 10);
    board.raise(0, 'end', 4);
    assert.equal(board.get(0, 'end'), 10);
    board.add(0, 'rows', 7);
    board.add(0, 'rows', -3);
    assert.equal(board.get(0, 'rows'), 4);
  });

  it('refuses other partitions, other numbers and other memory', () => {
    const board = new PartitionBoard(createBoard(2));
    for (const partition of [-1, 2, 0.5, Number.NaN]) {
      assert.throws(() => board.get(partition, 'end'), { code: 'internal' });
    }
    for (const value of [0.5, Number.NaN, 2 ** 53]) {
      assert.throws(() => board.set(0, 'end', value), { code: 'internal' });
      assert.throws(() => board.raise(0, 'end', value), { code: 'internal' });
      assert.throws(() => board.add(0, 'end', value), { code: 'internal' });
    }
    assert.throws(() => createBoard(0), { code: 'internal' });
    assert.throws(() => new PartitionBoard(new SharedArrayBuffer(72)), { code: 'internal' });
  });

  it('never falls and loses no addition while several threads raise and add', async () => {
    const shared = createBoard(3);
    const threads = 4;
    const times = 50_000;
    const falls = await Promise.all(
      Array.from({ length: threads }, (_, thread) =>
        runTask({ type: 'raise', shared, times, thread, threads }),
      ),
    );
    assert.deepEqual(falls, [0, 0, 0, 0]);
    const board = new PartitionBoard(shared);
    assert.equal(board.get(1, 'stored'), times * threads - 1);
    assert.equal(board.get(1, 'rows'), times * threads);
    for (const partition of [0, 2]) for (const field of fields) assert.equal(board.get(partition, field), 0);
  });
});
