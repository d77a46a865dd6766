// What no honest client sends. Each has an answer or a cut connection, and the service goes on as if nothing was.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type ErrorCode, errorKinds } from '../../src/errors.ts';
import { EssProcess } from '../support/ess_process.ts';
import { atRest, type BatchAnswer, jsonOf, type Problem, problemOf, type SingleAnswer } from './answers.ts';
import { Connection, exchange, type RawAnswer, requestText } from './connection.ts';

const json = { 'content-type': 'application/json' };
const chunkedJson = { ...json, 'transfer-encoding': 'chunked' };

describe('a hostile client', () => {
  let ess: EssProcess;
  /** Events that the service said it took. */
  let taken = 0;

  before(async () => {
    ess = await EssProcess.start({ flags: { 'http-body-timeout-ms': 1000 } });
  });
  after(() => ess.dispose());

  function assertTaken(answer: RawAnswer | null, id: string): void {
    assert.equal(answer?.status, 200, answer?.body);
    assert.equal((JSON.parse(answer?.body ?? '') as SingleAnswer).id, id);
    taken += 1;
  }

  /** Whatever was sent before, an ordinary request on a new connection is answered. */
  async function assertAlive(): Promise<void> {
    assertTaken(await exchange(ess.url, requestText('POST', '/events', '{"id":"alive"}')), 'alive');
  }

  test('nesting of a million levels is refused, alone and in a batch', async () => {
    const levels = 1_000_000;
    const arrays = '['.repeat(levels) + ']'.repeat(levels);
    const cases: readonly (readonly [string, ErrorCode])[] = [
      ['{"a":'.repeat(levels), 'too_large'],
      [`{"a":${'['.repeat(900_000)}`, 'too_large'],
      [`{"a":${'['.repeat(400_000)}${']'.repeat(400_000)}}`, 'too_large'],
      ['['.repeat(levels), 'malformed_json'],
    ];
    for (const [body, code] of cases) await problemOf(ess.post(body), code);
    const answer = await jsonOf<BatchAnswer>(ess.post(`[${arrays},{"id":"deep"}]`));
    taken += answer.accepted;
    assert.deepEqual([answer.accepted, answer.errors[0]?.code], [1, 'too_large']);
  });

  test('an event of a million bytes of anything is taken or refused by its rules', async () => {
    const long = 'x'.repeat(999_900);
    const cases: readonly (readonly [string, ErrorCode | null])[] = [
      [`{"x":"${long}"}`, null],
      [`{"id":"${long}"}`, 'invalid_event'],
      [`{"${long}":1}`, null],
      [`{"x":${'9'.repeat(999_900)}}`, null],
      [`{"x":"${'\\u0000'.repeat(160_000)}"}`, null],
      [`{"x":"${'\u0000'.repeat(999_900)}"}`, 'malformed_json'],
      [`{"x":"${'"'.repeat(999_900)}"}`, 'malformed_json'],
      [`{"x":[${'1,'.repeat(499_000)}1]}`, null],
      [`{${'"a":1,'.repeat(160_000)}"a":1}`, 'invalid_event'],
      ['\\'.repeat(999_900), 'malformed_json'],
      ['-'.repeat(999_900), 'malformed_json'],
      [`{"x":"${'\u{1f600}'.repeat(240_000)}"}`, null],
    ];
    for (const [body, code] of cases) {
      if (code === null) {
        await jsonOf(ess.post(body));
        taken += 1;
      } else await problemOf(ess.post(body), code);
    }
  });

  test('bytes that are no text are refused', async () => {
    const everyByte = Uint8Array.from({ length: 256 }, (_, i) => i);
    for (const body of [
      everyByte,
      new Uint8Array(1000),
      new Uint8Array(1000).fill(0xff),
      Buffer.from('{"id":"\xe9"}', 'latin1'),
    ]) {
      await problemOf(ess.post(body), 'malformed_json');
      await problemOf(
        ess.post(Buffer.concat([Buffer.from('['), body, Buffer.from(']')])),
        'malformed_json',
      ).catch(async () => {
        // Where an element can be told apart from the array, it alone is refused.
        const answer = await jsonOf<BatchAnswer>(
          ess.post(Buffer.concat([Buffer.from('['), body, Buffer.from(']')])),
          422,
        );
        assert.ok(answer.errors.every(({ code }) => code === 'malformed_json'));
      });
    }
  });

  test('a body in single bytes is the same body', async () => {
    const text = requestText('POST', '/events?ids=0', '{"id":"bytes","x":"\u00e9\u{1f600}"}');
    const connection = await Connection.open(ess.url);
    // uWebSockets.js refuses a request line in pieces with 505; everything behind it may come as it likes.
    const requestLineEnd = text.indexOf('\r\n') + 2;
    connection.send(text.slice(0, requestLineEnd));
    for (const byte of Buffer.from(text.slice(requestLineEnd))) {
      connection.send(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assertTaken(await connection.answer(), 'bytes');
    connection.destroy();
  });

  test('a body in chunks is the same body, however it is cut', async () => {
    const body = Buffer.from('{"id":"chunks","x":"\u00e9\u{1f600}"}');
    for (const size of [1, 2, 3, 7, 1000]) {
      const connection = await Connection.open(ess.url);
      connection.send(requestText('POST', '/events', null, chunkedJson));
      for (let i = 0; i < body.length; i += size) {
        const chunk = body.subarray(i, i + size);
        connection.send(
          Buffer.concat([Buffer.from(`${chunk.length.toString(16)}\r\n`), chunk, Buffer.from('\r\n')]),
        );
        await new Promise((resolve) => setImmediate(resolve));
      }
      connection.send('0\r\n\r\n');
      assertTaken(await connection.answer(), 'chunks');
      connection.destroy();
    }
  });

  test('chunks that break the framing end the connection', async () => {
    for (const broken of ['zz\r\n{}\r\n', '-1\r\n', 'ffffffffffffffffffff\r\n']) {
      const connection = await Connection.open(ess.url);
      connection.send(requestText('POST', '/events', null, chunkedJson));
      connection.send(broken);
      const answer = await connection.answer();
      assert.ok(answer === null || answer.status === 400 || answer.status === 408, JSON.stringify(answer));
      connection.destroy();
    }
    await assertAlive();
  });

  test('a length that is contradicted or is no length is refused', async () => {
    for (const lines of [
      'Content-Length: 3\r\nTransfer-Encoding: chunked',
      'Content-Length: -10',
      'Content-Length: 9999999999999999999999',
      'Content-Length: 0x10',
      'Content-Length: 10, 10',
      'Transfer-Encoding: gzip',
    ]) {
      const head = `POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${lines}\r\n\r\n`;
      const answer = await exchange(ess.url, `${head}{"id":"e"}`);
      assert.ok(answer === null || answer.status >= 400, `${lines}: ${JSON.stringify(answer)}`);
    }
    await assertAlive();
  });

  test('a body longer than its length does not become part of the event', async () => {
    const connection = await Connection.open(ess.url);
    connection.send(`${requestText('POST', '/events', '{"id":"first"}')}{"id":"smuggled"}\r\n\r\n`);
    const answer = await connection.answer();
    // The rest is taken for a request of its own, which it is not: the connection may end before the answer.
    if (answer?.status === 200) assertTaken(answer, 'first');
    await connection.ended();
    taken = (await atRest(ess)).conservation.accepted;
    assert.equal((await fetch(`${ess.url}/events/smuggled`)).status, 404);
  });

  test('Expect: 100-continue is answered before the body', async () => {
    const body = '{"id":"expected"}';
    const connection = await Connection.open(ess.url);
    const headers = { ...json, expect: '100-continue', 'content-length': String(body.length) };
    connection.send(requestText('POST', '/events', null, headers));
    assert.equal((await connection.answer())?.status, 100);
    connection.send(body);
    assertTaken(await connection.answer(), 'expected');
    connection.destroy();
  });

  test('requests one after the other on one connection are answered in order', async () => {
    const connection = await Connection.open(ess.url);
    for (let i = 0; i < 50; i += 1) {
      if (i % 3 === 0) {
        connection.send(requestText('GET', '/healthz'));
        assert.equal((await connection.answer())?.status, 200);
      }
      if (i % 5 === 0) {
        connection.send(requestText('POST', '/nowhere', '{"id":"lost"}'));
        assert.equal((await connection.answer())?.status, 404);
      }
      connection.send(requestText('POST', '/events', `{"id":"order-${i}"}`));
      assertTaken(await connection.answer(), `order-${i}`);
    }
    connection.destroy();
  });

  test('posts that do not wait for the answer before end the connection, and mix up nothing', async () => {
    for (let round = 0; round < 20; round += 1) {
      const connection = await Connection.open(ess.url);
      const ids = Array.from({ length: 3 }, (_, i) => `piped-${round}-${i}`);
      connection.send(ids.map((id) => requestText('POST', '/events', `{"id":"${id}"}`)).join(''));
      for (const id of ids) {
        const answer = await connection.answer();
        // uWebSockets.js takes no second request while the first one waits: it cuts.
        if (answer === null) break;
        assert.equal((JSON.parse(answer.body) as SingleAnswer).id, id);
      }
      connection.destroy();
    }
    taken = (await atRest(ess)).conservation.accepted;
  });

  test('a header past the limit is refused and ends the connection', async () => {
    for (const header of [
      `x: ${'a'.repeat(1_000_000)}`,
      Array.from({ length: 2000 }, (_, i) => `x-${i}: 1`).join('\r\n'),
      `${'x'.repeat(500_000)}: 1`,
    ]) {
      const connection = await Connection.open(ess.url);
      connection.send(`POST /events HTTP/1.1\r\nHost: x\r\n${header}\r\nContent-Length: 2\r\n\r\n{}`);
      const answer = await connection.answer();
      assert.ok(answer === null || answer.status === 431 || answer.status === 400, String(answer?.status));
      connection.destroy();
    }
    await assertAlive();
  });

  test('what is no HTTP ends the connection', async () => {
    for (const bytes of [
      '\u0000\u0001\u0002\r\n\r\n',
      'GET\r\n\r\n',
      'hello\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      '\r\n'.repeat(100),
      Buffer.alloc(100_000, 0x41),
    ]) {
      const connection = await Connection.open(ess.url);
      connection.send(bytes);
      connection.socket.end();
      await connection.ended();
    }
    await assertAlive();
  });

  test('a client that reads nothing holds up nobody else', async () => {
    const deaf = await Connection.open(ess.url);
    deaf.socket.pause();
    const events = Array.from({ length: 20_000 }, (_, i) => ({ id: `deaf-${i}-${'x'.repeat(150)}` }));
    deaf.send(requestText('POST', '/events?ids=1', JSON.stringify(events)));
    for (let i = 0; i < 20; i += 1) await assertAlive();
    const { slots } = await atRest(ess);
    assert.equal(slots.used, 0);
    deaf.destroy();
    taken = (await atRest(ess)).conservation.accepted;
  });

  test('no answer was an internal error, and what was taken is stored', async () => {
    const { counters, conservation } = await atRest(ess);
    const internal: Problem['code'] = 'internal';
    assert.equal(counters[`requests_rejected_${internal}`], 0);
    assert.equal(errorKinds[internal].status, 500);
    assert.equal(counters['worker_deaths'], 0);
    assert.equal(conservation.accepted, taken);
  });
});
