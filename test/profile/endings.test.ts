// What ends while it is profiled: a thread, the process, a client's patience with a thread that does not answer. And many
// starts and stops, since a native addon in worker threads is what usually goes wrong there.

import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MessageChannel } from 'node:worker_threads';
import { pino } from 'pino';
import { Profiles } from '../../src/engine/profiles.ts';
import type { FromProfiler, ToProfiler } from '../../src/profile/messages.ts';
import { atRest, problemOf, statsUntil } from '../http/answers.ts';
import { EssProcess } from '../support/ess_process.ts';
import { readProfile, threadsOf } from './pprof.ts';

const flags = {
  producers: 2,
  sinks: 2,
  readers: 2,
  partitions: 4,
  'sink-linger-ms': 5,
  'debug-profiles': 'on',
};

/** Sends single events until something holds; what comes of each is its own business. */
async function loadUntil(ess: EssProcess, isOver: () => boolean): Promise<void> {
  while (!isOver()) await (await ess.post('{"type":"x"}')).arrayBuffer();
}

test('a thread that dies while it is profiled is left out and named, and the others are there', async () => {
  const ess = await EssProcess.start({ flags, env: { ESS_FAULT: 'producer.after_append:60:throw' } });
  try {
    let isOver = false;
    const profiling = fetch(`${ess.url}/debug/pprof/profile?seconds=60`);
    await sleep(300);
    const loading = loadUntil(ess, () => isOver);
    await statsUntil(ess, ({ counters }) => (counters['worker_deaths'] ?? 0) > 0);
    isOver = true;
    await loading;
    // An orderly end of the process ends the profile before its minute is over.
    const ending = ess.end('SIGTERM');
    const response = await profiling;
    assert.equal(response.status, 200);
    const missing = /^threads=(producer-[01](,producer-1)?)$/.exec(response.headers.get('ess-partial') ?? '');
    assert.ok(missing?.[1] !== undefined, String(response.headers.get('ess-partial')));
    const threads = threadsOf(readProfile(new Uint8Array(await response.arrayBuffer())));
    for (const thread of missing[1].split(',')) assert.ok(!threads.includes(thread));
    for (const thread of ['main', 'sink-0', 'sink-1']) assert.ok(threads.includes(thread), thread);
    assert.equal(await ending, 0);
  } finally {
    await ess.dispose();
  }
});

test('a thread that dies while it alone is profiled ends the profile, and its successor can be profiled', async () => {
  const ess = await EssProcess.start({
    flags: { ...flags, producers: 1 },
    env: { ESS_FAULT: 'producer.after_append:60:throw' },
  });
  try {
    let isOver = false;
    const profiling = fetch(`${ess.url}/debug/pprof/profile?seconds=60&thread=producer-0`);
    await sleep(300);
    const loading = loadUntil(ess, () => isOver);
    const { detail } = await problemOf(profiling, 'overloaded');
    assert.match(detail, /producer-0: it ended/);
    isOver = true;
    await loading;
    await statsUntil(ess, (stats) => stats.threads.every(({ alive }) => alive));
    const again = await fetch(`${ess.url}/debug/pprof/profile?seconds=1&thread=producer-0`);
    assert.equal(again.status, 200);
    await atRest(ess);
  } finally {
    await ess.dispose();
  }
});

test('a stop ends a profile with what was seen, within the time to stop, and new ones are refused', async () => {
  const ess = await EssProcess.start({ flags: { ...flags, 'stop-deadline-ms': 20_000 } });
  try {
    const profiling = fetch(`${ess.url}/debug/pprof/profile?seconds=60`);
    const client = new AbortController();
    const busy = loadUntil(ess, () => client.signal.aborted).catch(() => {});
    await sleep(2000);
    const ending = ess.end('SIGTERM');
    const response = await profiling;
    client.abort();
    assert.equal(response.status, 200);
    assert.equal(response.headers.get('ess-partial'), null);
    const { durationSeconds, ...profile } = readProfile(new Uint8Array(await response.arrayBuffer()));
    assert.ok(durationSeconds < 30);
    assert.ok(threadsOf({ durationSeconds, ...profile }).length >= 3);
    assert.equal(await ending, 0);
    assert.ok(!ess.output.join('').includes('the time to stop is over'));
    await busy;
  } finally {
    await ess.dispose();
  }
});

test('the process starts and stops cleanly again and again, profiled and not', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'ess-test-'));
  try {
    for (let i = 0; i < 12; i += 1) {
      const ess = await EssProcess.start({ flags, dataDir });
      await (await ess.post('{"type":"x"}', '?ack=store')).arrayBuffer();
      const path = i % 3 === 0 ? 'profile?seconds=1' : i % 3 === 1 ? 'profile?seconds=30' : 'heap';
      const profiling = fetch(`${ess.url}/debug/pprof/${path}`);
      if (i % 3 === 1) await sleep(i * 30);
      else await (await profiling).arrayBuffer();
      const code = await ess.end(i % 2 === 0 ? 'SIGTERM' : 'SIGINT');
      assert.equal(code, 0, ess.output.join('').slice(-2000));
      assert.equal((await profiling).status, 200);
    }
    const ess = await EssProcess.start({ flags, dataDir });
    const { conservation } = await atRest(ess);
    assert.equal(conservation.stored, 12);
    await ess.dispose();
  } finally {
    rmSync(dataDir, { recursive: true, force: true });
  }
});

test('workers that die one after the other while they are profiled do not take the process with them', async () => {
  const ess = await EssProcess.start({
    flags,
    env: { ESS_FAULT: 'sink.after_insert:3:throw' },
  });
  try {
    let isOver = false;
    const loading = loadUntil(ess, () => isOver);
    for (let i = 0; i < 8; i += 1) {
      const response = await fetch(`${ess.url}/debug/pprof/profile?seconds=1`);
      assert.equal(response.status, 200, await response.clone().text());
      readProfile(new Uint8Array(await response.arrayBuffer()));
    }
    isOver = true;
    await loading;
    const { counters } = await ess.getJson<{ readonly counters: Readonly<Record<string, number>> }>('/stats');
    assert.ok((counters['worker_deaths'] ?? 0) >= 2);
    assert.equal(await ess.end('SIGTERM'), 0);
  } finally {
    await ess.dispose();
  }
});

test('a thread that does not come back from native code is waited for a bounded time, and its late answer is dropped', async () => {
  const profiles = await Profiles.open(pino({ level: 'silent' }));
  const { port1, port2 } = new MessageChannel();
  // Stands for a thread inside native code: what it is told stays in its port.
  const told: ToProfiler[] = [];
  port2.on('message', (message: ToProfiler) => told.push(message));
  profiles.add('sink-0', port1);
  try {
    const client = new AbortController().signal;
    const both = await profiles.time(1, null, client);
    assert.ok(both.type === 'profile');
    assert.deepEqual(both.missing, ['sink-0']);
    assert.deepEqual(threadsOf(readProfile(both.bytes)), ['main']);
    await assert.rejects(profiles.heap('sink-0', client), { code: 'overloaded' });
    // Now it comes back, and says what nobody waits for any more.
    for (const message of told) {
      if (!('request' in message)) continue;
      const late: FromProfiler = { type: 'failed', request: message.request, why: 'late' };
      port2.postMessage(late);
    }
    await sleep(50);
    assert.deepEqual(
      told.map(({ type }) => type),
      ['start_time', 'stop_time', 'heap'],
    );
    await profiles.stop();
    await assert.rejects(profiles.heap(null, client), { code: 'stopping' });
  } finally {
    port1.close();
  }
});

test('where the package is missing the service runs, and says what was tried', async () => {
  // The built service beside every installed package but the profiler.
  const folder = mkdtempSync(join(tmpdir(), 'ess-test-'));
  try {
    cpSync(dirname(fileURLToPath(import.meta.url)), join(folder, 'dist-test'), { recursive: true });
    mkdirSync(join(folder, 'node_modules'));
    const installed = join(process.cwd(), 'node_modules');
    for (const name of readdirSync(installed).filter((each) => each !== '@datadog'))
      symlinkSync(join(installed, name), join(folder, 'node_modules', name));
    const entry = join(folder, 'dist-test', 'ess.js');
    const ess = await EssProcess.start({ flags, entry });
    try {
      const { detail } = await problemOf(
        fetch(`${ess.url}/debug/pprof/profile?seconds=1`),
        'platform_unsupported',
      );
      assert.match(detail, /@datadog\/pprof.*Node\.js v\d+.*ABI \d+.*(Cannot find|No native build)/);
      assert.equal((await ess.post('{"type":"x"}', '?ack=store')).status, 200);
      assert.equal(await ess.end('SIGTERM'), 0);
    } finally {
      await ess.dispose();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
