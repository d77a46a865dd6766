// Every refusal of POST /events: its status, its code and what it says, and that nothing of it is kept.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import zlib from 'node:zlib';
import { type ErrorCode, errorKinds } from '../../src/errors.ts';
import { EssProcess } from '../support/ess_process.ts';
import {
  assertProblem,
  atRest,
  type BatchAnswer,
  jsonOf,
  outcomeOf,
  problemOf,
  type SingleAnswer,
  statsUntil,
} from './answers.ts';
import { Connection, exchange, type RawAnswer, requestText } from './connection.ts';

const KiB = 1024;
const limits = {
  'http-body-bytes-max': 64 * KiB,
  'http-decompressed-bytes-max': 256 * KiB,
  'event-bytes-max': 10_000,
  'event-depth-max': 8,
  'batch-events-max': 100,
  'http-body-timeout-ms': 300,
};

/** An event of exactly so many bytes. */
function eventOf(bytes: number): string {
  return `{"x":"${'x'.repeat(bytes - 8)}"}`;
}

function assertRawProblem(answer: RawAnswer | null, code: ErrorCode): ReturnType<typeof assertProblem> {
  assert.ok(answer !== null, 'the connection was cut without an answer');
  const { status, headers, body } = answer;
  return assertProblem({ status, text: body, header: (name) => headers[name] ?? null }, code);
}

describe('a refused POST /events', () => {
  let ess: EssProcess;

  before(async () => {
    ess = await EssProcess.start({ flags: limits });
  });
  after(() => ess.dispose());

  test('JSON that is broken is 400 with the byte of the body at which it breaks', async () => {
    const cases: readonly (readonly [string | Uint8Array, number])[] = [
      ['', 0],
      [' \n ', 3],
      ['{', 1],
      ['{"id":"a"', 9],
      ['{"id":"a"} x', 11],
      ['  {"id":x}', 8],
      ['{"é":x}', 6],
      ['nonsense', 0],
      ['[{"id":"a"},', 12],
      ['[{"id":"a"}] x', 13],
      ['  [1,,2]', 5],
      ['{"id":"a\u0000b"}', 8],
      ['\uFEFF{"id":"a"}', 0],
      [Buffer.from('  {"id":"a\xff"}', 'latin1'), 10],
      [Buffer.from([0xff, 0xfe, 0x7b, 0x00]), 0],
    ];
    for (const [body, position] of cases) {
      const problem = await problemOf(ess.post(body), 'malformed_json');
      assert.equal(problem['position'], position, JSON.stringify(String(body)));
    }
  });

  test('the position counts in the body after decompression', async () => {
    const body = zlib.gzipSync(`${' '.repeat(100)}{"a":1,}`);
    const problem = await problemOf(
      ess.post(body, '', 'application/json', { 'content-encoding': 'gzip' }),
      'malformed_json',
    );
    assert.equal(problem['position'], 107);
  });

  test('an event that breaks a rule is 422 with the member at fault', async () => {
    const cases: readonly (readonly [string, string])[] = [
      ['{"id":1}', 'id'],
      ['{"id":""}', 'id'],
      [JSON.stringify({ id: 'é'.repeat(129) }), 'id'],
      ['{"id":"\\ud800"}', 'id'],
      ['{"type":""}', 'type'],
      ['{"source":[]}', 'source'],
      [JSON.stringify({ subject: 'x'.repeat(1025) }), 'subject'],
      ['{"key":""}', 'key'],
      ['{"time":"yesterday"}', 'time'],
      ['{"time":1e999}', 'time'],
      ['{"time":"2026-02-29T00:00:00Z"}', 'time'],
    ];
    for (const [body, field] of cases) {
      assert.equal((await problemOf(ess.post(body), 'invalid_event'))['field'], field, body);
    }
  });

  test('JSON that is no object, or names a member twice, is 422', async () => {
    for (const body of [
      '1',
      '"x"',
      'null',
      '{"a":1,"a":2}',
      '{"a":{"b":1,"\\u0062":2}}',
      '{"__proto__":1,"__proto__":2}',
    ]) {
      await problemOf(ess.post(body), 'invalid_event');
    }
  });

  test('an event at a limit is taken, one past it is 413', async () => {
    const nested = (levels: number): string => `{"x":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
    await jsonOf(ess.post(eventOf(10_000)));
    await jsonOf(ess.post(nested(8)));
    await problemOf(ess.post(eventOf(10_001)), 'too_large');
    await problemOf(ess.post(nested(9)), 'too_large');
  });

  test('a batch with more events than the limit is 413 and none of them is kept', async () => {
    const before = (await atRest(ess)).conservation.accepted;
    for (const [body, type] of [
      [`[${'{},'.repeat(100)}{}]`, 'application/json'],
      ['{}\n'.repeat(101), 'application/x-ndjson'],
    ] as const) {
      await problemOf(ess.post(body, '', type), 'too_large');
    }
    assert.equal((await atRest(ess)).conservation.accepted, before);
    assert.equal(
      (await jsonOf<BatchAnswer>(ess.post('{}\n'.repeat(100), '', 'application/x-ndjson'))).accepted,
      100,
    );
  });

  test('a body past its limit is 413, whether its length was declared or not', async () => {
    const fits = `[${eventOf(9000)}${' '.repeat(64 * KiB - 9002)}]`;
    assert.equal((await jsonOf<BatchAnswer>(ess.post(fits))).accepted, 1);
    const declared = await Connection.open(ess.url);
    declared.send(requestText('POST', '/events', `${fits} `));
    assertRawProblem(await declared.answer(), 'too_large');
    // The rest of the body was read, so that the connection is in step.
    declared.send(requestText('POST', '/events', '{"id":"after-large"}'));
    assert.equal((await declared.answer())?.status, 200);
    declared.destroy();
    const chunked = await Connection.open(ess.url);
    const headers = { 'content-type': 'application/json', 'transfer-encoding': 'chunked' };
    chunked.send(requestText('POST', '/events', null, headers));
    for (let i = 0; i < 9; i += 1) chunked.send(`2000\r\n${'x'.repeat(8 * KiB)}\r\n`);
    chunked.send('0\r\n\r\n');
    assertRawProblem(await chunked.answer(), 'too_large');
    chunked.destroy();
  });

  test('a client that sends far past the limit still gets its 413, on every path', async () => {
    const body = Buffer.alloc(20 * 1024 * KiB, 'x');
    for (const query of ['', '?ack=log', '?ids=1']) {
      for (let i = 0; i < 5; i += 1) await problemOf(ess.post(body, query), 'too_large');
    }
  });

  test('a body past its limit that stops arriving, or never ends, is 413 and ends the connection', async () => {
    const stalled = await Connection.open(ess.url);
    stalled.send(requestText('POST', '/events', 'x'.repeat(70 * KiB), { 'content-length': '99999999999' }));
    assertRawProblem(await stalled.answer(), 'too_large');
    await stalled.ended();
    const endless = await Connection.open(ess.url);
    endless.send(requestText('POST', '/events', '', { 'content-length': '99999999999' }));
    const piece = Buffer.alloc(1024 * KiB, 'x');
    while (!endless.isEnded) {
      if (!endless.socket.writableNeedDrain) endless.send(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.equal((await fetch(`${ess.url}/healthz`)).status, 200);
  });

  test('a body that grows a thousandfold is 413 in every encoding, and is not read past the limit', async () => {
    // Spaces behind an event: without a limit there would be one to take.
    const bomb = Buffer.concat([Buffer.from('{"id":"bomb"}'), Buffer.alloc(60_000_000, ' ')]);
    const bodies = {
      gzip: zlib.gzipSync(bomb, { level: 9 }),
      br: zlib.brotliCompressSync(bomb, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 1 } }),
      deflate: zlib.deflateSync(bomb, { level: 9 }),
    };
    for (const [encoding, body] of Object.entries(bodies)) {
      assert.ok(body.length < limits['http-body-bytes-max']);
      // Whoever reads to the end finds the second one broken.
      for (const sent of [body, body.subarray(0, -20)]) {
        const headers = { 'content-encoding': encoding };
        await problemOf(ess.post(sent, '', 'application/json', headers), 'too_large');
      }
    }
  });

  test('decompression up to the limit is taken', async () => {
    const headers = { 'content-encoding': 'gzip' };
    const fits = zlib.gzipSync(`{}${' '.repeat(256 * KiB - 2)}`);
    await jsonOf(ess.post(fits, '', 'application/json', headers));
    const isLong = zlib.gzipSync(`{}${' '.repeat(256 * KiB - 1)}`);
    await problemOf(ess.post(isLong, '', 'application/json', headers), 'too_large');
  });

  test('a compressed body that is broken or something else is 400', async () => {
    const good = zlib.gzipSync('{"id":"a"}');
    const flipped = Buffer.from(good);
    flipped[good.length - 6] = (flipped[good.length - 6] ?? 0) ^ 0xff;
    const bodies: readonly (readonly [string, Uint8Array])[] = [
      ['gzip', good.subarray(0, -1)],
      ['gzip', good.subarray(0, 3)],
      ['gzip', flipped],
      ['gzip', Buffer.from('{"id":"a"}')],
      ['gzip', new Uint8Array(0)],
      ['br', good],
      ['br', zlib.brotliCompressSync('{"id":"a"}').subarray(0, 5)],
      ['br', new Uint8Array(0)],
      ['deflate', zlib.deflateSync('{"id":"a"}').subarray(0, -1)],
      ['deflate', Buffer.from([0xff, 0xff, 0xff])],
      ['deflate', new Uint8Array(0)],
    ];
    for (const [encoding, body] of bodies) {
      await problemOf(
        ess.post(body, '', 'application/json', { 'content-encoding': encoding }),
        'malformed_encoding',
      );
    }
  });

  test('an unknown type or encoding is 415 and says which ones there are', async () => {
    for (const type of [
      'text/plain',
      'application/x-www-form-urlencoded',
      'application/jsonp',
      'application',
      'json',
      'application/json, x',
    ]) {
      const outcome = await outcomeOf(await ess.post('{}', '', type));
      assertProblem(outcome, 'unsupported_media_type');
      assert.equal(outcome.header('accept'), 'application/json, application/x-ndjson');
    }
    for (const encoding of ['compress', 'gzip, gzip', 'x-gzip', 'gzip;q=1']) {
      const outcome = await outcomeOf(
        await ess.post('{}', '', 'application/json', { 'content-encoding': encoding }),
      );
      assertProblem(outcome, 'unsupported_media_type');
      assert.match(outcome.header('accept-encoding') ?? '', /^identity, gzip, br, deflate(, zstd)?$/);
    }
    assertRawProblem(
      await exchange(ess.url, 'POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}'),
      'unsupported_media_type',
    );
  });

  test('a parameter that is unknown, repeated or out of range is 400', async () => {
    for (const query of [
      '?ack=none',
      '?ack=',
      '?ack=LOG',
      '?ack=log&ack=memory',
      '?ack=log&ack=log',
      '?ids=2',
      '?ids=true',
      '?ids=1&ids=1',
      '?x=1',
      '?ack=log&x=1',
      '?Ack=log',
      '?%00',
      '?ack=%ff',
      '?ack%3dlog',
    ]) {
      await problemOf(ess.post('{}', query), 'invalid_parameter');
    }
    for (const query of ['?', '?&', '?ack=log&ids=0', '?%61ck=log']) await jsonOf(ess.post('{}', query));
  });

  test('a path that is not there is 404, whatever the method and body', async () => {
    for (const path of [
      '/index.html',
      '/event',
      '/events%2F',
      '/Events',
      '/stats/',
      '/%00',
      '//events',
      '/events.json',
    ]) {
      for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH']) {
        const body = method === 'GET' ? null : '{"id":"a"}';
        assertRawProblem(await exchange(ess.url, requestText(method, path, body)), 'not_found');
      }
    }
  });

  test('a method that a path does not take is 405 with those that it takes', async () => {
    const allowed: readonly (readonly [string, string, readonly string[]])[] = [
      ['/events', 'GET, HEAD, POST', ['PUT', 'DELETE', 'PATCH', 'OPTIONS']],
      ['/events/', 'GET, HEAD, POST', ['PUT', 'DELETE', 'PATCH', 'OPTIONS']],
      ['/events/some-id', 'GET, HEAD', ['POST', 'PUT', 'DELETE', 'OPTIONS']],
      ['/stats', 'GET, HEAD', ['POST', 'PUT', 'OPTIONS']],
      ['/metrics', 'GET, HEAD', ['POST']],
      ['/healthz', 'GET, HEAD', ['POST']],
      ['/readyz', 'GET, HEAD', ['POST']],
      ['/dead-letters', 'GET, HEAD', ['POST', 'DELETE']],
    ];
    for (const [path, allow, methods] of allowed) {
      for (const method of methods) {
        const answer = await exchange(ess.url, requestText(method, path, '{}'));
        assertRawProblem(answer, 'method_not_allowed');
        assert.equal(answer?.headers['allow'], allow);
      }
    }
  });

  test('HEAD gets what GET gets without the body, and leaves the connection in step', async () => {
    const connection = await Connection.open(ess.url);
    for (const path of ['/healthz', '/readyz', '/metrics', '/nowhere', '/events/nobody', '/events?limit=0']) {
      connection.send(requestText('GET', path));
      const get = await connection.answer();
      connection.send(requestText('HEAD', path));
      const head = await connection.answer(false);
      assert.equal(head?.status, get?.status, path);
      assert.equal(head?.headers['content-type'], get?.headers['content-type']);
      assert.match(head?.headers['content-length'] ?? '', /^\d+$/);
      connection.send(requestText('POST', '/events', '{"id":"after-head"}'));
      const next = await connection.answer();
      assert.equal(next?.status, 200, path);
      assert.equal((JSON.parse(next?.body ?? '') as SingleAnswer).id, 'after-head');
    }
    connection.destroy();
  });

  test('a body that stops arriving is 408 and ends the connection', async () => {
    for (const part of ['', '{"id":"half"']) {
      const connection = await Connection.open(ess.url);
      connection.send(requestText('POST', '/events', part, { 'content-length': '100' }));
      assertRawProblem(await connection.answer(), 'request_timeout');
      await connection.ended();
    }
    const chunked = await Connection.open(ess.url);
    chunked.send(
      requestText('POST', '/events', null, {
        'content-type': 'application/json',
        'transfer-encoding': 'chunked',
      }),
    );
    chunked.send('5\r\n{"id"\r\n');
    assertRawProblem(await chunked.answer(), 'request_timeout');
  });

  test('a body that trickles in for ever is 408 in the end', async () => {
    const connection = await Connection.open(ess.url);
    connection.send(requestText('POST', '/events', '', { 'content-length': '10000' }));
    const trickle = setInterval(() => connection.send(' '), 50);
    try {
      assertRawProblem(await connection.answer(), 'request_timeout');
    } finally {
      clearInterval(trickle);
    }
    connection.destroy();
  });

  test('each refusal is counted under its code, and nothing refused was kept', async () => {
    const { counters } = await statsUntil(ess, () => true);
    const seen = [
      'malformed_json',
      'malformed_encoding',
      'invalid_event',
      'invalid_parameter',
      'too_large',
      'unsupported_media_type',
      'request_timeout',
    ] as const;
    for (const code of seen) assert.ok((counters[`requests_rejected_${code}`] ?? 0) > 0, code);
    for (const code of Object.keys(errorKinds)) {
      if (!seen.some((expected) => expected === code))
        assert.equal(counters[`requests_rejected_${code}`], 0, code);
    }
    const { conservation } = await atRest(ess);
    assert.equal(conservation.accepted, counters['events_accepted']);
    for (const id of ['bomb', 'half', 'a'])
      assert.equal((await fetch(`${ess.url}/events/${id}`)).status, 404);
  });
});
