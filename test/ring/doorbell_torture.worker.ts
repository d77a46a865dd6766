// One of the threads around two doorbells: ping and pong pass a number back and forth, each sleeping until the other
// rings; noise rings both for no reason; lonely just sleeps.
import { parentPort, workerData } from 'node:worker_threads';
import { Doorbell } from '../../src/ring/doorbell.ts';

export interface BellPlayer {
  readonly role: 'ping' | 'pong' | 'noise' | 'lonely';
  readonly pingBell: SharedArrayBuffer;
  readonly pongBell: SharedArrayBuffer;
  /** Int32: the number as ping and as pong last said it. */
  readonly numbers: SharedArrayBuffer;
  readonly rounds: number;
  readonly seed: number;
}

const player: BellPlayer = workerData;
const numbers = new Int32Array(player.numbers);
const pingBell = new Doorbell(player.pingBell);
const pongBell = new Doorbell(player.pongBell);

let state = (player.seed ^ (player.role.length * 0x9e3779b1)) | 1;
/** A random integer below `bound` (xorshift32). */
function random(bound: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % bound;
}

/** Spends up to about a wake's time, so that rings fall into every moment of the other's going to sleep. */
function dawdle(): void {
  for (let left = random(4000); left > 0; left -= 1) Atomics.load(numbers, 0);
}

/** Plays all rounds: says each number in turn and waits for the other to say what it has to. */
async function play(me: number, own: Doorbell, other: Doorbell, lead: number): Promise<number> {
  let sleeps = 0;
  for (let round = 1; round <= player.rounds; round += 1) {
    const wanted = round - 1 + lead;
    const hasWork = (): boolean => {
      const isThere = Atomics.load(numbers, 1 - me) >= wanted;
      // Stretches the gap between looking and sleeping, where a careless doorbell loses its rings.
      if (random(8) === 0) dawdle();
      return isThere;
    };
    while (!hasWork()) {
      // Short limits now and then, so that time-outs and rings meet. A lost wake would be hidden by them only in that
      // one park; all others have no limit.
      const timeoutMs = random(64) === 0 ? 1 : Number.POSITIVE_INFINITY;
      await own.park(hasWork, timeoutMs);
      sleeps += 1;
    }
    if (random(4) === 0) dawdle();
    // Rings for no reason come before the number: after it, they would make up for one that was lost.
    if (random(16) === 0) own.ring();
    if (random(16) === 0) other.ring();
    Atomics.store(numbers, me, round);
    other.ring();
  }
  return sleeps;
}

/** Only in the first half of the game: in the second, nothing wakes a player whom the other forgot. */
function makeNoise(): void {
  const never = new Int32Array(new SharedArrayBuffer(4));
  while (Atomics.load(numbers, 1) < player.rounds / 2) {
    for (let left = random(50); left > 0; left -= 1) (random(2) === 0 ? pingBell : pongBell).ring();
    Atomics.wait(never, 0, 0, random(3));
  }
}

if (player.role === 'lonely') {
  // Nothing but the park itself keeps this thread alive.
  parentPort?.postMessage(await pingBell.park(() => false, 20));
} else {
  // A park without limit does not keep the thread alive.
  const alive = setInterval(() => {}, 60_000);
  let sleeps = 0;
  if (player.role === 'ping') sleeps = await play(0, pingBell, pongBell, 0);
  else if (player.role === 'pong') sleeps = await play(1, pongBell, pingBell, 1);
  else makeNoise();
  clearInterval(alive);
  parentPort?.postMessage(sleeps);
}
