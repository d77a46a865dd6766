// Thousands of open connections, most of them idle: each costs little, and traffic goes on beside them.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { EssProcess } from '../support/ess_process.ts';
import { atRest, type SingleAnswer } from './answers.ts';
import { Connection, requestText } from './connection.ts';

const connectionsWanted = 3500;
/** Connections that are opened at once: fewer than a listen queue holds. */
const openedAtOnce = 100;

describe('very many connections', () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start();
  });
  after(() => ess.dispose());

  async function residentBytes(): Promise<number> {
    const { memory } = await ess.getJson<{ readonly memory: { readonly rss: number } }>('/stats');
    return memory.rss;
  }

  async function post(connection: Connection, id: string): Promise<void> {
    connection.send(requestText('POST', '/events', `{"id":"${id}"}`));
    const answer = await connection.answer();
    assert.equal(answer?.status, 200);
    assert.equal((JSON.parse(answer?.body ?? '') as SingleAnswer).id, id);
  }

  test('3,500 keep-alive connections are served, each with its own answers, while others work', async (context) => {
    const before = await residentBytes();
    const busy = await Connection.open(ess.url);
    let isOver = false;
    let posted = 0;
    const traffic = (async (): Promise<void> => {
      for (; !isOver; posted += 1) await post(busy, `busy-${posted}`);
    })();
    const idle: Connection[] = [];
    while (idle.length < connectionsWanted) {
      const opened = await Promise.all(
        Array.from({ length: openedAtOnce }, async (_, i) => {
          const connection = await Connection.open(ess.url);
          await post(connection, `idle-${idle.length + i}-first`);
          return connection;
        }),
      );
      idle.push(...opened);
    }
    context.diagnostic(
      `${Math.round(((await residentBytes()) - before) / connectionsWanted)} bytes a connection`,
    );
    // Some may have been idle for too long by now, on a slow machine; whoever is still there is answered.
    const alive = idle.filter((connection) => !connection.isEnded);
    let answered = 0;
    await Promise.all(
      alive.map(async (connection, i) => {
        connection.send(requestText('POST', '/events', `{"id":"idle-${i}-second"}`));
        const answer = await connection.answer();
        if (answer === null) return;
        assert.equal(answer.status, 200);
        assert.equal((JSON.parse(answer.body) as SingleAnswer).id, `idle-${i}-second`);
        answered += 1;
      }),
    );
    assert.ok(answered > 0);
    isOver = true;
    await traffic;
    assert.ok(posted > 0);
    for (const connection of [...idle, busy]) connection.destroy();
    const { conservation } = await atRest(ess);
    assert.ok(conservation.stored >= connectionsWanted + answered + posted);
    assert.equal(conservation.duplicates, 0);
  });
});
