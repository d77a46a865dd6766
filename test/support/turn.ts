// Turns between test processes on one machine: three brokers and the nodes behind them fill two cores, and several
// clusters at a time starve each other until every time-out is a lottery. Waiting for a turn is cheaper.

import { closeSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const path = join(tmpdir(), 'ess-test-cluster.lock');
const lookEveryMs = 250;
/** After this the turn is taken all the same: a slow test beats one that never runs. */
const patienceMs = 600_000;

let depth = 0;

/** Waits until no other process has a turn; within one process turns nest. */
export async function takeTurn(): Promise<void> {
  depth += 1;
  if (depth > 1) return;
  const untilMs = Date.now() + patienceMs;
  while (!tryTake() && Date.now() < untilMs) await sleep(lookEveryMs);
}

export function endTurn(): void {
  depth -= 1;
  if (depth === 0 && holder() === process.pid) rmSync(path, { force: true });
}

function tryTake(): boolean {
  const held = holder();
  // Whoever had it died without giving it back.
  if (held !== null && !isAlive(held)) rmSync(path, { force: true });
  try {
    const file = openSync(path, 'wx');
    writeSync(file, String(process.pid));
    closeSync(file);
    return true;
  } catch {
    return false;
  }
}

function holder(): number | null {
  try {
    return Number(readFileSync(path, 'utf8')) || null;
  } catch {
    return null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
