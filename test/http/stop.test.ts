// An orderly stop as clients see it: what is in progress is answered, what comes new is sent elsewhere, and nothing
// that was answered is lost.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess } from '../support/ess_process.ts';
import { assertProblem, atRest, jsonOf, problemOf, type SingleAnswer, statsUntil } from './answers.ts';
import { Connection, requestText } from './connection.ts';

describe('while the process stops', () => {
  let ess: EssProcess | null = null;
  afterEach(async () => {
    await ess?.dispose();
    ess = null;
  });

  test('new requests are refused, open ones are finished, and a wait for the store ends with what is known', async () => {
    ess = await EssProcess.start({
      flags: { 'sink-linger-ms': 60_000, 'stop-deadline-ms': 16_000, 'http-deadline-ms': 60_000 },
    });
    const running = ess;
    const { dataDir } = running;
    const waiting = await Connection.open(running.url);
    waiting.send(requestText('POST', '/events?ack=store', '{"id":"waits"}'));
    const body = '{"id":"half"}';
    const half = await Connection.open(running.url);
    half.send(requestText('POST', '/events', body.slice(0, 5), { 'content-length': String(body.length) }));
    await statsUntil(running, ({ slots, conservation }) => slots.used === 2 && conservation.accepted === 1);
    running.child.kill('SIGTERM');
    for (;;) {
      const { status } = await fetch(`${running.url}/readyz`);
      if (status === 503) break;
      await sleep(5);
    }
    for (const query of ['', '?ack=store', '?ack=memory'])
      await problemOf(running.post('{"id":"new"}', query), 'stopping');
    await problemOf(fetch(`${running.url}/events/waits`), 'stopping');
    assert.equal((await fetch(`${running.url}/healthz`)).status, 200);
    half.send(body.slice(5));
    const finished = await half.answer();
    assert.equal(finished?.status, 200);
    assert.equal((JSON.parse(finished?.body ?? '') as SingleAnswer).id, 'half');
    const answer = await waiting.answer();
    assert.ok(answer !== null, 'the connection was cut without an answer');
    const { status, headers, body: text } = answer;
    const problem = assertProblem(
      { status, text, header: (name) => headers[name] ?? null },
      'outcome_unknown',
    );
    assert.deepEqual([problem['reached'], problem['id']], ['log', 'waits']);
    assert.equal(await running.ended(), 0);
    ess = await EssProcess.start({ dataDir });
    const { conservation } = await atRest(ess);
    assert.deepEqual([conservation.accepted, conservation.stored], [2, 2]);
    assert.equal((await fetch(`${ess.url}/events/new`)).status, 404);
  });

  test('traffic up to the end is answered or refused, and everything answered is there after the restart', async () => {
    ess = await EssProcess.start();
    const running = ess;
    const { dataDir } = running;
    const acknowledged: string[] = [];
    let stopping = 0;
    const clients = Array.from({ length: 8 }, async (_, client) => {
      const connection = await Connection.open(running.url);
      for (let i = 0; ; i += 1) {
        const id = `traffic-${client}-${i}`;
        connection.send(requestText('POST', '/events', `{"id":"${id}"}`));
        const answer = await connection.answer();
        if (answer === null) return;
        if (answer.status === 200) {
          assert.equal((JSON.parse(answer.body) as SingleAnswer).id, id);
          acknowledged.push(id);
          continue;
        }
        const { status, headers, body } = answer;
        assertProblem({ status, text: body, header: (name) => headers[name] ?? null }, 'stopping');
        stopping += 1;
        await sleep(5);
      }
    });
    await statsUntil(running, ({ conservation }) => conservation.accepted > 200);
    assert.equal(await running.end('SIGTERM'), 0);
    await Promise.all(clients);
    assert.ok(stopping > 0);
    ess = await EssProcess.start({ dataDir });
    const { conservation } = await atRest(ess);
    assert.equal(conservation.stored, acknowledged.length);
    assert.equal(conservation.duplicates, 0);
    await jsonOf(ess.post('{}'));
  });
});
