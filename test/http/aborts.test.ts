// Clients that go away at every stage of a request. Nobody may get somebody else's answer, no slot and no byte may
// stay taken, and what was answered is stored.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssProcess } from '../support/ess_process.ts';
import { atRest, type SingleAnswer } from './answers.ts';
import { Connection, requestText } from './connection.ts';

/** What a client does with a request, by turns. */
const fates = [
  'whole',
  'abort at once',
  'abort later',
  'half a body',
  'half a header',
  'store and abort',
] as const;

const clients = 24;
const requestsEach = 80;

describe('clients that go away', () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start({ flags: { 'slots-max': 32, producers: 2 } });
  });
  after(() => ess.dispose());

  test('every answer belongs to its request, and in the end everything is free and stored', async () => {
    const acknowledged: string[] = [];
    let refused = 0;
    await Promise.all(
      Array.from({ length: clients }, async (_, client) => {
        let connection = await Connection.open(ess.url);
        for (let i = 0; i < requestsEach; i += 1) {
          if (connection.isEnded) connection = await Connection.open(ess.url);
          const id = `abort-${client}-${i}`;
          const event = JSON.stringify({ id, x: 'x'.repeat((i % 7) * 5000) });
          const fate = fates[(client + i) % fates.length] ?? 'whole';
          const text = requestText(
            'POST',
            fate === 'store and abort' ? '/events?ack=store' : '/events',
            event,
          );
          if (fate === 'whole') {
            connection.send(text);
            const answer = await connection.answer();
            assert.ok(answer !== null, 'the service cut a connection');
            if (answer.status === 503) {
              refused += 1;
              continue;
            }
            assert.equal(answer.status, 200, answer.body);
            assert.equal((JSON.parse(answer.body) as SingleAnswer).id, id);
            acknowledged.push(id);
            continue;
          }
          const length =
            fate === 'half a header' ? 40 : fate === 'half a body' ? text.length - 5 : text.length;
          connection.send(text.slice(0, length));
          if (fate === 'abort later') await sleep(i % 4);
          else if (fate !== 'abort at once') await new Promise((resolve) => setImmediate(resolve));
          connection.destroy();
        }
        connection.destroy();
      }),
    );
    assert.ok(acknowledged.length > 0);
    const { conservation, counters } = await atRest(ess);
    assert.equal(conservation.duplicates, 0);
    assert.ok((counters['aborted_requests'] ?? 0) > 0);
    assert.equal(counters['worker_deaths'], 0);
    // An event of a client that went away may be taken or not; one that was acknowledged must be there.
    assert.ok(conservation.stored >= acknowledged.length);
    assert.ok(acknowledged.length + refused === (clients * requestsEach) / fates.length);
    for (let i = 0; i < acknowledged.length; i += 25) {
      assert.equal((await fetch(`${ess.url}/events/${acknowledged[i]}`)).status, 200, acknowledged[i]);
    }
  });

  test('a client that goes away before a large answer is whole leaves nothing behind', async () => {
    const events = JSON.stringify(
      Array.from({ length: 5000 }, (_, i) => ({ id: `${i}-${'x'.repeat(200)}` })),
    );
    const text = requestText('POST', '/events?ids=1', events);
    for (let i = 0; i < 10; i += 1) {
      const connection = await Connection.open(ess.url);
      connection.send(text);
      await sleep(i * 3);
      connection.destroy();
    }
    await atRest(ess);
  });
});
