// The closed table of what to do with ClickHouse's errors.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failurePolicy } from '../../src/sink/failure.ts';
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

test('no error that leaves the outcome open is taken for poison', () => {
  for (const code of Object.keys(unknownOutcomes)) assert.equal(policyOf(Number(code)), 'retry');
});
