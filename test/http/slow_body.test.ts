// Bodies that come slowly: the time limits are those of the options, and not those of the library underneath.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess } from '../support/ess_process.ts';
import { assertProblem, atRest } from './answers.ts';
import { Connection, requestText } from './connection.ts';

/** Longer than the 8 to 12 s after which uWebSockets.js would cut a slow connection. */
const bodyTimeoutMs = 13_000;

describe('a slow body', () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start({ flags: { 'http-body-timeout-ms': bodyTimeoutMs } });
  });
  after(() => ess.dispose());

  test('one that keeps coming is taken, one that stops is told so, and none is cut without a word', async () => {
    const body = `{"id":"slow","x":"${'x'.repeat(100)}"}`;
    const steady = async (): Promise<void> => {
      const connection = await Connection.open(ess.url);
      const half = body.length / 2;
      connection.send(
        requestText('POST', '/events', body.slice(0, half), { 'content-length': String(body.length) }),
      );
      for (let i = 0; i < 14; i += 1) {
        await sleep(1000);
        connection.send(body.charAt(half + i));
      }
      connection.send(body.slice(half + 14));
      assert.equal((await connection.answer())?.status, 200);
      connection.destroy();
    };
    const stalled = async (): Promise<void> => {
      const connection = await Connection.open(ess.url);
      connection.send(
        requestText('POST', '/events', body.slice(0, 9), { 'content-length': String(body.length) }),
      );
      const answer = await connection.answer();
      assert.ok(answer !== null, 'the connection was cut');
      const { status, headers, body: text } = answer;
      assertProblem({ status, text, header: (name) => headers[name] ?? null }, 'request_timeout');
    };
    await Promise.all([steady(), steady(), stalled(), stalled()]);
    assert.equal((await atRest(ess)).conservation.accepted, 2);
  });
});
