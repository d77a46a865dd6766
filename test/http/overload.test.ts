// More than there is room for: slots, and bytes of bodies that arrive. Each bound refuses with 503 and Retry-After,
// keeps nothing of what it refused, and is free again afterwards.
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { EssProcess } from '../support/ess_process.ts';
import { assertProblem, atRest, jsonOf, problemOf, type SingleAnswer, statsUntil } from './answers.ts';
import { Connection, requestText } from './connection.ts';

const KiB = 1024;

describe('too much at once', () => {
  let ess: EssProcess | null = null;

  async function start(flags: Readonly<Record<string, string | number>>): Promise<EssProcess> {
    ess = await EssProcess.start({ flags });
    return ess;
  }
  afterEach(async () => {
    await ess?.dispose();
    ess = null;
  });

  /** A connection with a request whose body is not whole yet. */
  async function slow(
    running: EssProcess,
    part: string,
    wholeBytes: number,
    path = '/events',
  ): Promise<Connection> {
    const connection = await Connection.open(running.url);
    connection.send(requestText('POST', path, part, { 'content-length': String(wholeBytes) }));
    return connection;
  }

  test('when every slot is taken new requests are refused, and taken again when one is free', async () => {
    const running = await start({ 'slots-max': 4 });
    const event = '{"id":"slot"}';
    const holders = await Promise.all(
      Array.from({ length: 4 }, () => slow(running, event.slice(0, 5), event.length)),
    );
    await statsUntil(running, ({ slots }) => slots.used === 4);
    for (let i = 0; i < 10; i += 1) await problemOf(running.post('{"id":"refused"}'), 'overloaded');
    // Reads need no slot, nor do refusals.
    assert.equal((await fetch(`${running.url}/healthz`)).status, 200);
    await problemOf(running.post('{}', '?x=1'), 'invalid_parameter');
    holders[0]?.send(event.slice(5));
    assert.equal((await holders[0]?.answer())?.status, 200);
    assert.equal((await jsonOf<SingleAnswer>(running.post('{"id":"late"}'))).id, 'late');
    for (const holder of holders.slice(1)) holder.send(event.slice(5));
    for (const holder of holders.slice(1)) assert.equal((await holder.answer())?.status, 200);
    for (const holder of holders) holder.destroy();
    const { counters } = await atRest(running);
    assert.equal(counters['events_accepted'], 5);
    assert.equal(counters['requests_rejected_overloaded'], 10);
  });

  test('a slot whose client goes away in the middle of its body is free at once', async () => {
    const running = await start({ 'slots-max': 4 });
    const holders = await Promise.all(Array.from({ length: 4 }, () => slow(running, '{', 100)));
    await statsUntil(running, ({ slots }) => slots.used === 4);
    for (const holder of holders) holder.destroy();
    const { slots } = await statsUntil(running, (stats) => stats.slots.used === 0);
    assert.equal(slots.pending_bytes, 0);
    await jsonOf(running.post('{}'));
    assert.equal((await atRest(running)).counters['aborted_requests'], 4);
  });

  test('requests that wait for the store leave the other slots to the others', async () => {
    const flags = {
      'slots-max': 8,
      'store-slots-percent': 50,
      'sink-linger-ms': 60_000,
      'http-deadline-ms': 60_000,
    };
    const running = await start(flags);
    const waiting: Connection[] = [];
    for (let i = 0; i < 4; i += 1) {
      const connection = await Connection.open(running.url);
      connection.send(requestText('POST', '/events?ack=store', `{"id":"waits-${i}"}`));
      waiting.push(connection);
    }
    await statsUntil(running, ({ slots }) => slots.store_used === 4);
    await problemOf(running.post('{"id":"fifth"}', '?ack=store'), 'overloaded');
    assert.equal((await jsonOf<SingleAnswer>(running.post('{"id":"other"}'))).ack, 'log');
    for (const connection of waiting) connection.destroy();
    const stats = await statsUntil(running, ({ slots }) => slots.used === 0);
    assert.equal(stats.slots.store_used, 0);
    assert.equal(stats.conservation.accepted, 5);
  });

  test('bodies that are still arriving have a bound together, and what it refused is given back', async () => {
    const running = await start({ 'http-pending-bytes-max': 1024 * KiB, 'http-body-bytes-max': 1000 * KiB });
    const halves: Connection[] = [];
    const half = `{"x":"${'x'.repeat(400 * KiB)}`;
    for (let i = 0; i < 2; i += 1) {
      halves.push(await slow(running, half, half.length + 2));
      await statsUntil(running, ({ slots }) => slots.pending_bytes === (i + 1) * half.length);
    }
    const third = await slow(running, half, half.length + 2);
    const answer = await third.answer();
    assert.ok(answer !== null);
    const { status, headers, body } = answer;
    assertProblem({ status, text: body, header: (name) => headers[name] ?? null }, 'overloaded');
    third.destroy();
    await statsUntil(running, ({ slots }) => slots.pending_bytes === 2 * half.length);
    // A body that comes in one piece waits nowhere.
    await jsonOf(running.post('{}'));
    for (const connection of halves) {
      connection.send('"}');
      assert.equal((await connection.answer())?.status, 200);
      connection.destroy();
    }
    assert.equal((await atRest(running)).counters['events_accepted'], 3);
  });
});
