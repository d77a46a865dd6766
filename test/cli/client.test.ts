// What each answer of the service means to `ess send`.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Answer, classify } from '../../src/cli/send/client.ts';

const now = Date.UTC(2026, 0, 1);

function answer(status: number, body: unknown, headers: Record<string, string> = {}, count = 3): Answer {
  return classify(status, headers, typeof body === 'string' ? body : JSON.stringify(body), count, now);
}

test('the contract of a batch settles every event', () => {
  assert.deepEqual(answer(200, { accepted: 3, rejected: 0, errors: [] }), {
    type: 'settled',
    rejected: 0,
    rejections: [],
  });
  const errors = [{ index: 2, code: 'invalid_event', message: 'x' }];
  assert.deepEqual(answer(200, { accepted: 2, rejected: 1, errors }), {
    type: 'settled',
    rejected: 1,
    rejections: errors,
  });
  assert.equal(answer(422, { accepted: 0, rejected: 3, errors }).type, 'settled');
  assert.equal(answer(200, { accepted: 3, rejected: 0 }).type, 'settled');
});

test('an event whose error may pass makes the whole batch go again', () => {
  const errors = [
    { index: 0, code: 'invalid_event', message: 'x' },
    { index: 1, code: 'outcome_unknown', message: 'x' },
  ];
  assert.equal(answer(200, { accepted: 1, rejected: 2, errors }).type, 'retry');
  assert.equal(answer(503, { accepted: 1, rejected: 2, errors }).type, 'retry');
});

test('what may pass is retried after the time that the service names', () => {
  for (const status of [408, 425, 429, 500, 502, 503, 504]) {
    assert.deepEqual(
      { ...answer(status, 'no JSON'), reason: '' },
      { type: 'retry', reason: '', waitMs: null },
    );
  }
  const waitMs = (value: string): number | null => {
    const retry = answer(503, { code: 'overloaded' }, { 'retry-after': value });
    assert.ok(retry.type === 'retry');
    return retry.waitMs;
  };
  assert.equal(waitMs('0'), 0);
  assert.equal(waitMs('7'), 7000);
  assert.equal(waitMs(new Date(now + 9000).toUTCString()), 9000);
  assert.equal(waitMs(new Date(now - 9000).toUTCString()), 0);
  assert.equal(waitMs('soon'), null);
});

test('a batch that is refused for what is in it is narrowed down', () => {
  assert.deepEqual({ ...answer(413, ''), message: '' }, { type: 'narrow', code: 'too_large', message: '' });
  assert.deepEqual(
    { ...answer(400, { code: 'malformed_json' }), message: '' },
    { type: 'narrow', code: 'malformed_json', message: '' },
  );
  assert.equal(answer(422, { code: 'invalid_event' }).type, 'narrow');
});

test('what every batch would meet ends the run', () => {
  for (const status of [301, 400, 401, 403, 404, 405, 415])
    assert.equal(answer(status, 'text').type, 'fatal');
  assert.equal(answer(400, { code: 'invalid_parameter' }).type, 'fatal');
  assert.equal(answer(415, { code: 'unsupported_media_type' }).type, 'fatal');
});

test('a 200 that is not the contract is never taken for an acceptance', () => {
  for (const body of [
    '',
    '<html>',
    '[]',
    {},
    { accepted: 2, rejected: 0, errors: [] },
    { accepted: 4, rejected: -1, errors: [] },
    { accepted: 2, rejected: 1, errors: [{ index: 3, code: 'x', message: 'x' }] },
    { accepted: 2, rejected: 1, errors: [null] },
    { accepted: 3, rejected: 0, errors: [{ index: 0, code: 'x', message: 'x' }] },
    { accepted: 3, rejected: 0, errors: 'none' },
  ]) {
    assert.equal(answer(200, body).type, 'fatal', JSON.stringify(body));
  }
});
