// The closed table of what to do with ClickHouse's errors.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failurePolicy } from '../../src/sink/failure.ts';
import { describe } from '../../src/sink/patience.ts';
import { unknownOutcomes } from '../../src/store/outcome.ts';
import { StoreError } from '../../src/store/store.ts';

const policyOf = (code: number) => failurePolicy(new StoreError(code, 'refused', 'text'));

test('a row that breaks a constraint is poison, a missing table needs a person, everything else is tried again', () => {
  assert.equal(policyOf(469), 'poison');
  assert.equal(policyOf(60), 'stop');
  for (const code of [0, 159, 202, 209, 241, 242, 243, 252, 285, 319, 999, 12_345])
    assert.equal(policyOf(code), 'retry');
  assert.equal(failurePolicy(new Error('of our own')), 'retry');
  assert.equal(failurePolicy(undefined), 'retry');
});

test('what a person must do is said with the command that does it', () => {
  assert.match(
    describe(new StoreError(60, 'refused', 'no such table')),
    /error 60: no such table; .*: ess init$/,
  );
  assert.match(describe(new StoreError(81, 'refused', 'no such database')), /: ess init$/);
  const unfit = new StoreError(0, 'refused', 'no window', { needsPerson: true });
  assert.equal(failurePolicy(unfit), 'stop');
  assert.equal(describe(unfit), 'no window');
  assert.equal(describe(new StoreError(241, 'refused', 'memory')), 'ClickHouse error 241: memory');
});

test('no error that leaves the outcome open is taken for poison', () => {
  for (const code of Object.keys(unknownOutcomes)) assert.equal(policyOf(Number(code)), 'retry');
});
