// Invariant: an orderly stop in the middle of load answers everybody, refuses who comes later, and leaves everything
// promised in the store; a second signal gives up the order and nothing else.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent, request as httpRequest } from 'node:http';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess } from '../support/ess_process.ts';
import { Journal } from './journal.ts';
import { load } from './load.ts';
import { seededRandom, testSeed } from './random.ts';

const flags = { producers: 2, sinks: 2, readers: 1, partitions: 4, 'sink-linger-ms': 20 };
const random = seededRandom(testSeed());

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} in the middle of load: exit code 0, everything promised is stored`, async () => {
    const journal = new Journal(signal);
    const ess = await EssProcess.start({ flags });
    try {
      const loading = load(ess, journal, random, () => false);
      await sleep(700);
      // Reads in progress must not keep the process either.
      void fetch(`${ess.url}/events/?limit=1000`).catch(() => {});
      assert.equal(await ess.end(signal), 0);
      await loading;
      assert.ok(journal.events.some((event) => event.isPromised));
      await journal.check(ess.dataDir);
      // Nothing was left to the next start.
      const next = await EssProcess.start({ flags, dataDir: ess.dataDir });
      const { counters } = await next.drained();
      assert.equal(counters['intents_replayed'], 0);
      assert.equal(counters['rows_inserted'], 0);
      await next.end('SIGKILL');
    } finally {
      await ess.dispose();
    }
  });
}

test('while a stop waits for somebody, who comes on an open connection is refused with 503 stopping', async () => {
  // The block is due in an hour: the request that waits for it holds the stop until half of the deadline.
  const ess = await EssProcess.start({
    flags: {
      ...flags,
      'sink-linger-ms': 60_000,
      'http-deadline-ms': 600_000,
      'stop-deadline-ms': 20_000,
    },
  });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  try {
    const waiting = ess.post('{"id":"waits"}', '?ack=store');
    assert.equal(await postOn(agent, ess.url, '{"id":"before"}'), 200);
    while ((await ess.getJson<{ slots: { used: number } }>('/stats')).slots.used === 0) await sleep(5);
    ess.child.kill('SIGTERM');
    let status = 200;
    let sent = 0;
    while (status === 200) {
      sent += 1;
      status = await postOn(agent, ess.url, `{"id":"later-${sent}"}`);
    }
    assert.equal(status, 503);
    const ready = await fetch(`${ess.url}/readyz`);
    assert.equal(ready.status, 503);
    // The one that waits is told how far it came, and in the end it is stored after all: the sinks stop last.
    const answer = await waiting;
    const problem = (await answer.json()) as { code: string; reached: string; id: string };
    assert.equal(answer.status, 503);
    assert.equal(problem.code, 'outcome_unknown');
    assert.equal(problem.reached, 'log');
    assert.equal(await ess.ended(), 0);
    const next = await EssProcess.start({ flags, dataDir: ess.dataDir });
    const { conservation } = await next.drained();
    assert.equal(conservation.stored, sent + 1);
    await next.end('SIGKILL');
  } finally {
    agent.destroy();
    await ess.dispose();
  }
});

test('a second signal ends the process at once and loses nothing that was promised', async () => {
  const journal = new Journal('second');
  const ess = await EssProcess.start({
    flags: { ...flags, 'sink-linger-ms': 60_000, 'http-deadline-ms': 600_000 },
  });
  try {
    let isOver = false;
    const loading = load(ess, journal, random, () => isOver);
    await sleep(500);
    isOver = true;
    ess.child.kill('SIGTERM');
    while (!ess.output.join('').includes('"stopping"')) await sleep(5);
    ess.child.kill('SIGTERM');
    assert.equal(await ess.ended(), 'SIGKILL');
    await loading;
    const next = await EssProcess.start({ flags, dataDir: ess.dataDir });
    await next.drained();
    assert.equal(await next.end('SIGTERM'), 0);
    await journal.check(ess.dataDir);
  } finally {
    await ess.dispose();
  }
});

/** Posts one event over a connection that is kept open; gives the status. */
async function postOn(agent: Agent, url: string, body: string): Promise<number> {
  const headers = { 'content-type': 'application/json', 'content-length': body.length };
  const request = httpRequest(`${url}/events/`, { method: 'POST', agent, headers });
  request.end(body);
  const [response] = await once(request, 'response');
  response.resume();
  await once(response, 'end');
  return response.statusCode;
}
