// The JSON of answers, as it is put together from parts.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import type { ErrorCode } from '../../src/errors.ts';
import {
  type BatchRequest,
  batchAnswer,
  batchErrorsListedMax,
  failAccepted,
  jsonText,
  singleAnswer,
} from '../../src/ingest/requests.ts';

interface Parsed {
  readonly accepted: number;
  readonly rejected: number;
  readonly errors: readonly { readonly index: number; readonly code: string; readonly id?: string }[];
  readonly errors_omitted?: number;
  readonly ids?: readonly (string | null)[];
}

/** A batch whose events were accepted (null) or refused with a code, by index. */
function batchOf(outcomes: readonly (ErrorCode | null)[], wantsIds: boolean): BatchRequest {
  const batch: BatchRequest = {
    kind: 'batch',
    slot: 1,
    generation: 1,
    ack: 'log',
    takenUs: 0,
    startedUs: 0,
    wantsIds,
    errors: [],
    indexes: [],
    ids: [],
    partitions: [],
    positions: [],
  };
  for (const [index, code] of outcomes.entries()) {
    if (code === null) {
      batch.indexes.push(index);
      batch.ids.push(`id-${index}`);
      batch.partitions.push(0);
      batch.positions.push(batch.positions.length);
    } else batch.errors.push({ index, code, message: code });
  }
  return batch;
}

const outcomes = fc.array(
  fc.constantFrom<(ErrorCode | null)[]>(null, null, 'invalid_event', 'malformed_json', 'too_large'),
  {
    minLength: 1,
    maxLength: 50,
  },
);

describe('the JSON of answers', () => {
  test('any text becomes its JSON literal', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        assert.equal(JSON.parse(jsonText(text)), text);
      }),
    );
    for (const text of ['"', '\\', '\u0000', '\u001f', '\u007f', '\u0085', '\u2028', '\u2029', '/']) {
      assert.equal(JSON.parse(jsonText(text)), text);
    }
  });

  test('the answer to one event has its four members', () => {
    const answer: unknown = JSON.parse(singleAnswer('a"b', 'log', 3, 17));
    assert.deepEqual(answer, { id: 'a"b', ack: 'log', partition: 3, offset: 17 });
    assert.deepEqual(JSON.parse(singleAnswer('a', 'memory', 3, null)), {
      id: 'a',
      ack: 'memory',
      partition: 3,
      offset: null,
    });
  });

  test('the answer to a batch counts and lists every event, 200 if any was accepted and 422 if none', () => {
    fc.assert(
      fc.property(outcomes, fc.boolean(), (codes, wantsIds) => {
        const { status, body } = batchAnswer(batchOf(codes, wantsIds));
        const answer = JSON.parse(body) as Parsed;
        const accepted = codes.filter((code) => code === null).length;
        assert.equal(status, accepted > 0 ? 200 : 422);
        assert.deepEqual([answer.accepted, answer.rejected], [accepted, codes.length - accepted]);
        assert.deepEqual(
          answer.errors.map(({ index, code }) => [index, code]),
          [...codes.entries()].filter(([, code]) => code !== null),
        );
        const ids = codes.map((code, i) => (code === null ? `id-${i}` : null));
        assert.deepEqual(answer.ids, wantsIds ? ids : undefined);
      }),
    );
  });

  test('when the log did not take it, a batch is 503 and every event that may be sent again is listed with its id', () => {
    fc.assert(
      fc.property(
        outcomes,
        fc.constantFrom('log_unavailable' as const, 'outcome_unknown' as const),
        (codes, failure) => {
          const batch = batchOf(codes, true);
          const accepted = batch.indexes.length;
          failAccepted(batch, failure, 'why');
          const { status, body } = batchAnswer(batch);
          const answer = JSON.parse(body) as Parsed;
          assert.equal(status, accepted > 0 ? 503 : 422);
          assert.deepEqual([answer.accepted, answer.rejected], [0, codes.length]);
          const again = answer.errors
            .filter(({ code }) => code === failure)
            .map(({ index, id }) => [index, id]);
          assert.deepEqual(
            again,
            [...codes.entries()].filter(([, code]) => code === null).map(([index]) => [index, `id-${index}`]),
          );
          assert.deepEqual(answer.ids, Array(codes.length).fill(null));
        },
      ),
    );
  });

  test('of very many faults those that may be sent again are all listed, of the others a thousand', () => {
    const codes: (ErrorCode | null)[] = Array(batchErrorsListedMax + 500).fill('invalid_event');
    codes.push(null, null);
    const batch = batchOf(codes, false);
    const partly = JSON.parse(batchAnswer(batch).body) as Parsed;
    assert.deepEqual([partly.errors.length, partly.errors_omitted], [batchErrorsListedMax, 500]);
    failAccepted(batch, 'outcome_unknown', 'why');
    const none = JSON.parse(batchAnswer(batch).body) as Parsed;
    assert.deepEqual([none.errors.length, none.errors_omitted], [batchErrorsListedMax + 2, 500]);
    assert.equal(none.errors.filter(({ code }) => code === 'outcome_unknown').length, 2);
  });
});
