// The doorbell: every order of ringing and parking that can be forced on one thread, then many that cannot on three.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { EssError } from '../../src/errors.ts';
import { createDoorbell, Doorbell } from '../../src/ring/doorbell.ts';
import type { BellPlayer } from './doorbell_torture.worker.ts';

const noWork = (): boolean => false;
const forEver = Number.POSITIVE_INFINITY;
const isInternal = (error: unknown): boolean => error instanceof EssError && error.code === 'internal';

/** Notifies whoever waits on this memory without ringing; gives how many did. */
function notifyAll(shared: SharedArrayBuffer): number {
  const words = new Int32Array(shared);
  let count = 0;
  for (let index = 0; index < words.length; index += 1) count += Atomics.notify(words, index);
  return count;
}

function startPlayer(player: BellPlayer): Worker {
  return new Worker(new URL('./doorbell_torture.worker.js', import.meta.url), { workerData: player });
}

// A park that never ends would otherwise hang the run.
describe('doorbell, one thread', { timeout: 120_000 }, () => {
  test('work that is there is found without sleeping', async () => {
    const shared = createDoorbell();
    const bell = new Doorbell(shared);
    assert.equal(await bell.park(() => true, forEver), true);
    assert.equal(notifyAll(shared), 0);
  });

  test('a ring wakes the sleeper, whose event loop turned meanwhile', async () => {
    const bell = new Doorbell(createDoorbell());
    const alive = setInterval(() => {}, 60_000);
    let isAwake = false;
    const woken = bell.park(noWork, forEver).then((value) => {
      isAwake = true;
      return value;
    });
    for (let i = 0; i < 20; i += 1) await turn();
    assert.equal(isAwake, false);
    bell.ring();
    assert.equal(await woken, true);
    clearInterval(alive);
  });

  test('a ring between looking for work and falling asleep is not lost', async () => {
    const shared = createDoorbell();
    const bell = new Doorbell(shared);
    const ringer = new Doorbell(shared);
    let asked = 0;
    const hasWork = (): boolean => {
      asked += 1;
      ringer.ring();
      return false;
    };
    assert.equal(await bell.park(hasWork, forEver), true);
    assert.equal(asked, 1);
    assert.equal(notifyAll(shared), 0);
  });

  test('without a ring the time passes, and no waiter stays behind', async () => {
    const shared = createDoorbell();
    const bell = new Doorbell(shared);
    for (const timeoutMs of [0, 1, 5]) assert.equal(await bell.park(noWork, timeoutMs), false);
    assert.equal(notifyAll(shared), 0);
  });

  test('a ring while awake is not remembered: the work itself is what the next park finds', async () => {
    const bell = new Doorbell(createDoorbell());
    bell.ring();
    assert.equal(await bell.park(noWork, 5), false);
    bell.ring();
    assert.equal(await bell.park(() => true, forEver), true);
  });

  test('a notification that comes late, from an earlier park, wakes nobody', async () => {
    const shared = createDoorbell();
    const bell = new Doorbell(shared);
    let isAwake = false;
    const woken = bell.park(noWork, 60_000).then((value) => {
      isAwake = true;
      return value;
    });
    for (let i = 0; i < 5; i += 1) {
      assert.equal(notifyAll(shared), 1, 'it sleeps, in one waiter');
      for (let j = 0; j < 20; j += 1) await turn();
      assert.equal(isAwake, false);
    }
    bell.ring();
    bell.ring();
    assert.equal(await woken, true);
    assert.equal(notifyAll(shared), 0);
  });

  test('a ringer that never gets to notify delays a limited park until its limit, not longer', async () => {
    const shared = createDoorbell();
    const bell = new Doorbell(shared);
    const woken = bell.park(noWork, 10);
    new Int32Array(shared).fill(0);
    assert.equal(await woken, true);
    assert.equal(notifyAll(shared), 0);
  });

  test('many parks follow each other, rung and timed out by turns', async () => {
    const shared = createDoorbell();
    const bell = new Doorbell(shared);
    for (let i = 0; i < 200; i += 1) {
      const parked = bell.park(noWork, i % 2 === 0 ? 1 : 60_000);
      if (i % 2 === 1) bell.ring();
      assert.equal(await parked, i % 2 === 1);
    }
    assert.equal(notifyAll(shared), 0);
  });

  test('only one park at a time, and a failing question leaves the doorbell usable', async () => {
    const bell = new Doorbell(createDoorbell());
    const first = bell.park(noWork, 60_000);
    await assert.rejects(bell.park(noWork, 60_000), isInternal);
    bell.ring();
    assert.equal(await first, true);
    const failure = new EssError('internal', 'asked in vain');
    const failing = bell.park(() => {
      throw failure;
    }, forEver);
    await assert.rejects(failing, failure);
    assert.equal(await bell.park(noWork, 1), false);
  });

  test('shared memory that is not a doorbell is refused', () => {
    assert.throws(() => new Doorbell(new SharedArrayBuffer(4)), isInternal);
  });
});

describe('doorbell, several threads', () => {
  const game = (role: BellPlayer['role'], rounds = 0, seed = 1): BellPlayer => ({
    role,
    pingBell: createDoorbell(),
    pongBell: createDoorbell(),
    numbers: new SharedArrayBuffer(8),
    rounds,
    seed,
  });

  test('a limited park ends by itself on a thread that has nothing else open', async () => {
    const worker = startPlayer(game('lonely'));
    const answer = await Promise.race([
      once(worker, 'message').then(([value]) => value),
      once(worker, 'exit').then(() => 'ended in its sleep'),
    ]);
    assert.equal(answer, false);
    await worker.terminate();
  });

  test('ringing a thread that was terminated in its sleep is harmless', async () => {
    for (let i = 0; i < 8; i += 1) {
      // Pong waits for a number that never comes.
      const player = game('pong', 1, i + 1);
      const worker = startPlayer(player);
      const isOver = once(worker, 'exit');
      while (notifyAll(player.pongBell) === 0) await turn();
      const bell = new Doorbell(player.pongBell);
      const terminated = worker.terminate();
      if (i % 2 === 0) bell.ring();
      await terminated;
      await isOver;
      bell.ring();
      assert.equal(notifyAll(player.pongBell), 0);
    }
  });

  test('no wake is lost in 200,000 exchanges between two sleepers amid rings for no reason', async () => {
    const seed = Number(process.env['RING_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
    console.log(`seed: RING_SEED=${seed}`);
    const rounds = 200_000;
    const base = game('ping', rounds, seed);
    const numbers = new Int32Array(base.numbers);
    const workers: Worker[] = [];
    const run = (role: BellPlayer['role']): Promise<number> =>
      new Promise((resolve, reject) => {
        const worker = startPlayer({ ...base, role });
        workers.push(worker);
        worker.once('message', resolve);
        worker.once('error', reject);
        worker.once('exit', () => reject(new assert.AssertionError({ message: `${role} ended early` })));
      });
    let last = -1;
    let watch: NodeJS.Timeout | undefined;
    const stalled = new Promise<never>((_, reject) => {
      // Two equal looks, a minute apart: nobody says a number any more.
      watch = setInterval(() => {
        const now = Atomics.load(numbers, 0) + Atomics.load(numbers, 1);
        if (now === last)
          reject(new assert.AssertionError({ message: `stalled at ${[...numbers]}, seed ${seed}` }));
        last = now;
      }, 60_000);
    });
    try {
      const [pingSleeps, pongSleeps] = await Promise.race([
        Promise.all([run('ping'), run('pong'), run('noise')]),
        stalled,
      ]);
      assert.ok(pingSleeps > 0 && pongSleeps > 0, 'both slept');
    } finally {
      clearInterval(watch);
      await Promise.all(workers.map((worker) => worker.terminate()));
    }
    assert.deepEqual([...numbers], [rounds, rounds]);
  });
});
