// Bodies that are anything at all: each gets one of the documented answers, and the answers add up.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import zlib from 'node:zlib';
import fc from 'fast-check';
import { jsonText, mutate, mutation } from '../event/json_arbitraries.ts';
import { EssProcess } from '../support/ess_process.ts';
import { assertProblem, atRest, type BatchAnswer, outcomeOf, type SingleAnswer } from './answers.ts';

const event = fc
  .record(
    {
      id: fc.oneof(fc.string({ minLength: 1, maxLength: 8, unit: 'binary' }), fc.constantFrom(null, '', 5)),
      type: fc.oneof(fc.constantFrom('a', 'b', ''), fc.integer()),
      key: fc.string({ maxLength: 4 }),
      time: fc.oneof(fc.integer(), fc.constantFrom('2026-11-22T00:00:00Z', 'never', 1e300)),
      data: fc.jsonValue({ maxDepth: 3 }),
    },
    { requiredKeys: [] },
  )
  .map((value) => JSON.stringify(value));

const text = fc
  .tuple(
    fc.oneof(
      event,
      jsonText,
      fc.array(event, { maxLength: 5 }).map((events) => `[${events.join(',')}]`),
      fc.array(event, { maxLength: 5 }).map((events) => events.join('\n')),
    ),
    fc.array(mutation, { maxLength: 3 }),
  )
  .map(([valid, changes]) => mutate(valid, changes));

const body = fc.oneof(
  { weight: 4, arbitrary: text.map((valid) => Buffer.from(valid)) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)) },
);

/** How a body is packed, some ways of which do not fit its header. */
const packings: Readonly<Record<string, (bytes: Buffer) => Buffer>> = {
  '': (bytes) => bytes,
  gzip: (bytes) => zlib.gzipSync(bytes),
  br: (bytes) => zlib.brotliCompressSync(bytes),
  deflate: (bytes) => zlib.deflateRawSync(bytes),
};

const request = fc.record({
  body,
  packing: fc.constantFrom('', '', '', 'gzip', 'br', 'deflate'),
  encoding: fc.option(fc.constantFrom('', 'gzip', 'br', 'deflate', 'zip')),
  type: fc.constantFrom('application/json', 'application/json', 'application/x-ndjson', 'text/plain'),
  query: fc.constantFrom('', '', '?ack=log', '?ack=memory', '?ids=1', '?ack=none', '?ids=1&ack=log'),
});

describe('POST /events with anything', () => {
  let ess: EssProcess;
  let accepted = 0;
  let rejected = 0;

  before(async () => {
    ess = await EssProcess.start({
      flags: { 'event-bytes-max': 2000, 'event-depth-max': 5, 'batch-events-max': 4 },
    });
  });
  after(() => ess.dispose());

  async function post({
    body,
    packing,
    encoding,
    type,
    query,
  }: typeof request extends fc.Arbitrary<infer T> ? T : never): Promise<void> {
    const packed = packings[packing]?.(body) ?? body;
    // Mostly the header tells the truth; now and then it is made up.
    const coding = encoding ?? packing;
    const headers: Record<string, string> = coding === '' ? {} : { 'content-encoding': coding };
    const outcome = await outcomeOf(await ess.post(packed, query, type, headers));
    const answer = JSON.parse(outcome.text) as Partial<SingleAnswer & BatchAnswer> & {
      readonly code?: string;
    };
    if (answer.accepted !== undefined && answer.rejected !== undefined) {
      assert.equal(outcome.status, answer.accepted > 0 ? 200 : 422);
      assert.equal(answer.errors?.length, answer.rejected);
      if (query.includes('ids=1')) assert.equal(answer.ids?.length, answer.accepted + answer.rejected);
      accepted += answer.accepted;
      rejected += answer.rejected;
      return;
    }
    if (outcome.status === 200) {
      assert.equal(typeof answer.id, 'string');
      accepted += 1;
      return;
    }
    const codes = [
      'malformed_json',
      'malformed_encoding',
      'invalid_event',
      'invalid_parameter',
      'too_large',
      'unsupported_media_type',
    ] as const;
    const code = codes.find((known) => known === answer.code);
    assert.ok(code !== undefined, outcome.text);
    assertProblem(outcome, code);
  }

  test('every answer is a documented one, and the accepted ones add up to what /stats counts', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 4 }), async (requests) => {
        await Promise.all(requests.map(post));
      }),
      { numRuns: 300, endOnFailure: true },
    );
    const { counters, conservation } = await atRest(ess);
    assert.ok(accepted > 0 && rejected > 0);
    assert.equal(counters['events_accepted'], accepted);
    assert.equal(conservation.accepted, accepted);
    assert.equal(counters['worker_deaths'], 0);
    assert.equal(counters['requests_rejected_internal'], 0);
  });
});
