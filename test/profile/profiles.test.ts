// GET /debug/pprof/* of the real service on its embedded default, under load: what is in the profiles, and that taking
// them harms nothing.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { assertProblem, atRest, outcomeOf, problemOf } from '../http/answers.ts';
import { EssProcess } from '../support/ess_process.ts';
import { goPprof, ownFunctions, readProfile, threadsOf } from './pprof.ts';

const flags = { producers: 2, sinks: 2, readers: 2, partitions: 4, 'sink-linger-ms': 5 };
const threads = ['main', 'producer-0', 'producer-1', 'reader-0', 'reader-1', 'sink-0', 'sink-1'];

/** Posts batches and reads statistics until told to stop. */
class Load {
  readonly #ess: EssProcess;
  readonly #clients: Promise<void>[];
  #isOver = false;
  sent = 0;

  constructor(ess: EssProcess) {
    this.#ess = ess;
    this.#clients = [this.#post(), this.#post(), this.#read(), this.#read()];
  }

  async #post(): Promise<void> {
    while (!this.#isOver) {
      const events = Array.from({ length: 200 }, (_, i) => ({ type: `t${i % 5}`, subject: `s-${i}`, n: i }));
      const response = await this.#ess.post(
        events.map((event) => JSON.stringify(event)).join('\n'),
        '',
        ndjson,
      );
      assert.equal(response.status, 200, await response.text());
      this.sent += events.length;
    }
  }

  async #read(): Promise<void> {
    while (!this.#isOver)
      await (await fetch(`${this.#ess.url}/events/statistics?group_by=type`)).arrayBuffer();
  }

  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#clients);
  }
}

const ndjson = 'application/x-ndjson';

async function profileOf(ess: EssProcess, path: string): Promise<Uint8Array> {
  const response = await fetch(`${ess.url}/debug/pprof/${path}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  assert.equal(response.status, 200, Buffer.from(bytes).toString());
  assert.equal(response.headers.get('content-type'), 'application/octet-stream');
  assert.equal(response.headers.get('ess-partial'), null);
  return bytes;
}

const hasAddon = (ess: EssProcess): boolean =>
  /dd_pprof/.test(readFileSync(`/proc/${ess.child.pid}/maps`, 'utf8'));

test('profiles are off by default, which the answer says how to change, and nothing of them is loaded', async () => {
  const ess = await EssProcess.start({ flags });
  try {
    for (const path of ['profile', 'heap', 'profile?seconds=900', 'heap?thread=nobody']) {
      const { detail } = await problemOf(fetch(`${ess.url}/debug/pprof/${path}`), 'not_found');
      assert.match(detail, /--debug-profiles on/);
    }
    if (process.platform === 'linux') assert.equal(hasAddon(ess), false);
  } finally {
    await ess.dispose();
  }
});

describe('with profiles on', () => {
  let ess: EssProcess;
  let load: Load;
  before(async () => {
    ess = await EssProcess.start({ flags: { ...flags, 'debug-profiles': 'on' } });
    // Readers come a moment after the service is ready.
    for (;;) {
      const unknown = await outcomeOf(await fetch(`${ess.url}/debug/pprof/heap?thread=nobody`));
      const { detail } = assertProblem(unknown, 'invalid_parameter');
      if (threads.every((thread) => detail.includes(thread))) break;
      await sleep(20);
    }
    load = new Load(ess);
  });
  after(async () => {
    await load.end();
    await ess.dispose();
  });

  test('a time profile has every thread by name, with our functions in the files of the sources', async (context) => {
    const bytes = await profileOf(ess, 'profile?seconds=4');
    const profile = readProfile(bytes);
    assert.deepEqual(profile.sampleTypes, ['sample/count', 'wall/nanoseconds', 'cpu/nanoseconds']);
    assert.ok(profile.durationSeconds >= 3.5 && profile.durationSeconds < 30);
    assert.deepEqual(threadsOf(profile), threads);
    for (const thread of threads.filter((name) => name !== 'main'))
      assert.ok(ownFunctions(profile, thread).size > 0, thread);
    const places = profile.samples.flatMap(({ stack }) => stack);
    assert.ok(!places.some((place) => /chunk-|\.js\.map|dist-test|offerProfiler2/.test(place)));
    if (process.platform === 'linux') assert.equal(hasAddon(ess), true);

    const tags = goPprof(context, bytes, '-tags');
    if (tags !== null) for (const thread of threads) assert.match(tags, new RegExp(`: ${thread}$`, 'm'));
    for (const thread of ['producer-0', 'sink-0']) {
      const focus = ['-top', '-lines', '-nodecount=200', '-nodefraction=0', `-tagfocus=thread=^${thread}$`];
      const top = goPprof(context, bytes, ...focus);
      if (top !== null) assert.match(top, / src\/[a-z_/]+\.ts:\d+/);
    }
  });

  test('each thread can be profiled alone', async (context) => {
    for (const thread of threads) {
      const bytes = await profileOf(ess, `profile?seconds=2&thread=${thread}`);
      const profile = readProfile(bytes);
      assert.deepEqual(threadsOf(profile), [thread]);
      assert.ok(ownFunctions(profile, thread).size > 0, `${thread}: no function of ours`);
      const top = goPprof(context, bytes, '-top', '-lines', '-nodecount=500', '-nodefraction=0');
      if (top !== null) assert.match(top, / src\/[a-z_/]+\.ts:\d+/, thread);
    }
  });

  test('a heap profile has the live allocations of every thread by the place that made them', async (context) => {
    const bytes = await profileOf(ess, 'heap');
    const profile = readProfile(bytes);
    assert.deepEqual(
      profile.sampleTypes,
      ['objects/count', 'space/bytes'].map((type) => `inuse_${type}`),
    );
    assert.deepEqual(threadsOf(profile), threads);
    assert.ok(threads.some((thread) => ownFunctions(profile, thread).size > 0));
    const top = goPprof(context, bytes, '-top', '-lines', '-nodecount=500', '-nodefraction=0');
    if (top !== null) {
      assert.match(top, /^Type: inuse_space$/m);
      assert.match(top, / src\/[a-z_/]+\.ts:\d+/);
    }
    for (const thread of threads) {
      const alone = readProfile(await profileOf(ess, `heap?thread=${thread}`));
      assert.deepEqual(threadsOf(alone), [thread]);
    }
  });

  test('parameters that are wrong are named', async () => {
    for (const [path, named] of [
      ['profile?seconds=0', /seconds/],
      ['profile?seconds=61', /1 to 60/],
      ['profile?seconds=1.5', /1\.5/],
      ['profile?seconds=', /seconds/],
      ['profile?seconds=1&seconds=1', /twice/],
      ['profile?second=1', /second"/],
      ['profile?thread=', /producer-0/],
      ['heap?seconds=1', /seconds/],
      ['heap?thread=sink-9', /sink-9.*main, producer-0, producer-1, sink-0, sink-1, reader-0, reader-1$/],
    ] as const) {
      const { detail } = await problemOf(fetch(`${ess.url}/debug/pprof/${path}`), 'invalid_parameter');
      assert.match(detail, named);
    }
    assert.equal((await fetch(`${ess.url}/debug/pprof/profile`, { method: 'POST' })).status, 405);
  });

  test('a second time profile is sent away until the first is done, a heap profile is not', async () => {
    const first = profileOf(ess, 'profile?seconds=3&thread=main');
    await sleep(500);
    const second = await outcomeOf(await fetch(`${ess.url}/debug/pprof/profile?seconds=1`));
    assertProblem(second, 'overloaded');
    assert.ok(Number(second.header('retry-after')) <= 3);
    await profileOf(ess, 'heap?thread=main');
    await first;
    await profileOf(ess, 'profile?seconds=1&thread=main');
  });

  test('a client that goes away ends its profile', async () => {
    const client = new AbortController();
    const gone = fetch(`${ess.url}/debug/pprof/profile?seconds=60`, { signal: client.signal });
    await sleep(500);
    client.abort();
    await assert.rejects(gone, { name: 'AbortError' });
    // It had most of its minute left.
    const sinceMs = Date.now();
    while ((await fetch(`${ess.url}/debug/pprof/profile?seconds=1&thread=main`)).status === 503)
      await sleep(100);
    assert.ok(Date.now() - sinceMs < 30_000);
  });

  test('after all that everything that was taken is stored once', async () => {
    await load.end();
    const { conservation } = await atRest(ess);
    assert.equal(conservation.stored, load.sent);
    assert.equal(conservation.exact, true);
    assert.equal(await ess.end('SIGTERM'), 0);
  });
});
