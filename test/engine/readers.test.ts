// The reader threads as the main thread sees them. Invariant: every read gets an answer within a bound, and nothing of
// it is held afterwards, whatever becomes of the threads.

import assert from 'node:assert/strict';
import { EventEmitter } from 'node:events';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { Piscina } from 'piscina';
import { Conditions } from '../../src/engine/conditions.ts';
import { type ReaderPool, Readers, type ReadersParts, readMarginMs } from '../../src/engine/readers.ts';
import { EssError } from '../../src/errors.ts';
import type { Answer, GetRequest } from '../../src/http/server.ts';
import { Counters, counterNames, createCounters } from '../../src/stats/counters.ts';

const request: GetRequest = { path: '/events/', query: '', accept: '', ifNoneMatch: '' };
const answer: Answer = { status: 200, contentType: 'text/plain', body: 'well' };
const timeoutMs = 1000;
const log = pino({ level: 'silent' });

/** A pool that answers when it is told to. */
class ScriptedPool extends EventEmitter implements ReaderPool {
  threads: { readonly threadId: number }[];
  isDestroyed = false;
  readonly reads: { readonly resolve: (answer: Answer) => void; readonly signal: AbortSignal | undefined }[] =
    [];
  readonly #rejections: ((error: Error) => void)[] = [];

  constructor(threadIds: readonly number[]) {
    super();
    this.threads = threadIds.map((threadId) => ({ threadId }));
  }

  run(_request: GetRequest, { signal }: { readonly signal?: AbortSignal }): Promise<Answer> {
    return new Promise((resolve, reject) => {
      this.reads.push({ resolve, signal });
      this.#rejections.push(reject);
      signal?.addEventListener('abort', () => reject(new Error('aborted')));
    });
  }

  async close(): Promise<void> {}

  async destroy(): Promise<void> {
    this.isDestroyed = true;
    for (const reject of this.#rejections) reject(new Error('Terminating worker thread'));
  }
}

/** Its code, once it has settled; "open" before that, "answered" if it was. */
function outcomeOf(reading: Promise<Answer>): () => Promise<string> {
  let outcome = 'open';
  reading.then(
    () => {
      outcome = 'answered';
    },
    (error: unknown) => {
      outcome = error instanceof EssError ? error.code : String(error);
    },
  );
  return async () => {
    for (let i = 0; i < 20; i += 1) await Promise.resolve();
    return outcome;
  };
}

describe('reads with threads that do not answer', () => {
  const counters = new Counters(counterNames, createCounters(counterNames));
  let conditions: Conditions;
  let pools: ScriptedPool[];
  let pool: ScriptedPool;
  const open = (more: Partial<ReadersParts> = {}): Readers =>
    new Readers({
      makePool: () => {
        pool = new ScriptedPool([1, 2]);
        pools.push(pool);
        return pool;
      },
      readers: 2,
      queueMax: 3,
      timeoutMs,
      isTerminable: false,
      onProfiler: () => {},
      counters,
      conditions,
      log,
      ...more,
    });

  beforeEach(() => {
    mock.timers.enable({ apis: ['setTimeout'] });
    conditions = new Conditions(log);
    pools = [];
  });
  afterEach(() => mock.timers.reset());

  const told = (): string[] => conditions.list().map(({ text }) => text);

  test('a read without an answer is given up, and its place is free when its thread comes back', async () => {
    const readers = open();
    const outcomes = [1, 2, 3].map(() => outcomeOf(readers.answer(request)));
    assert.equal(pool.reads.length, 2);
    // The third one waits for as long as a read may take.
    mock.timers.tick(timeoutMs);
    assert.deepEqual(await Promise.all(outcomes.map((outcome) => outcome())), ['open', 'open', 'overloaded']);
    mock.timers.tick(readMarginMs);
    assert.deepEqual(await Promise.all(outcomes.map((outcome) => outcome())), [
      'store_unavailable',
      'store_unavailable',
      'overloaded',
    ]);
    assert.equal(readers.open, 0);
    assert.match(told().join(), /2 of 2 reader threads/);
    assert.equal(counters.get('reads_abandoned'), 2);
    const late = readers.answer(request);
    assert.equal(pool.reads.length, 2);
    for (const read of pool.reads.slice()) read.resolve(answer);
    await outcomeOf(late)();
    assert.equal(pool.reads.length, 3);
    pool.reads.at(-1)?.resolve(answer);
    assert.equal(await late, answer);
    assert.deepEqual(told(), []);
    assert.equal(readers.open, 0);
  });

  test('a thread that may be terminated is, and its place is free at once', async () => {
    const readers = open({ isTerminable: true, readers: 1 });
    const first = outcomeOf(readers.answer(request));
    mock.timers.tick(timeoutMs + readMarginMs);
    assert.equal(await first(), 'store_unavailable');
    assert.equal(pool.reads[0]?.signal?.aborted, true);
    const second = readers.answer(request);
    pool.reads[1]?.resolve(answer);
    assert.equal(await second, answer);
    assert.deepEqual(told(), []);
  });

  test('past the queue a read is refused at once', async () => {
    const readers = open();
    const outcomes = Array.from({ length: 6 }, () => outcomeOf(readers.answer(request)));
    assert.deepEqual(await Promise.all(outcomes.map((outcome) => outcome())), [
      ...Array.from({ length: 5 }, () => 'open'),
      'overloaded',
    ]);
  });

  test('when the last thread is dead every read is answered, and others are started after longer and longer pauses', async () => {
    const readers = open();
    const outcomes = [1, 2, 3].map(() => outcomeOf(readers.answer(request)));
    const trouble = { kind: 'store_node_down', text: 'reads: the store cannot be opened' } as const;
    pool.emit('message', { type: 'condition', key: 'reader-2', trouble });
    assert.equal(conditions.of('reader').length, 1);
    const die = (): void => {
      pool.threads = [];
      pool.emit('error', new Error('no memory'));
    };
    die();
    for (const outcome of outcomes) assert.equal(await outcome(), 'store_unavailable');
    assert.equal(pool.isDestroyed, true);
    assert.deepEqual(told(), ['reads: no reader thread is running: no memory']);
    await assert.rejects(readers.answer(request), { code: 'store_unavailable' });
    // 0.25 s, 0.5 s, ... 16 s, then every half minute.
    let elapsedMs = 0;
    while (elapsedMs < 300_000) {
      const before = pools.length;
      mock.timers.tick(250);
      elapsedMs += 250;
      if (pools.length > before) die();
    }
    assert.ok(pools.length <= 18, `${pools.length} pools in five minutes`);
    mock.timers.tick(30_000);
    assert.deepEqual(told(), []);
    const read = readers.answer(request);
    pool.reads[0]?.resolve(answer);
    assert.equal(await read, answer);
  });
});

test('with threads that die before they are ready, reads are answered all the same', async () => {
  const counters = new Counters(counterNames, createCounters(counterNames));
  const conditions = new Conditions(log);
  const readers = new Readers({
    makePool: () =>
      new Piscina<GetRequest, Answer>({
        filename: fileURLToPath(new URL('./no_such.worker.js', import.meta.url)),
        minThreads: 2,
        maxThreads: 2,
        maxQueue: 2,
        atomics: 'disabled',
      }),
    readers: 2,
    queueMax: 10,
    timeoutMs: 60_000,
    isTerminable: true,
    onProfiler: () => {},
    counters,
    conditions,
    log,
  });
  // Far sooner than their deadlines, which are a minute away.
  for (let i = 0; i < 3; i += 1) await assert.rejects(readers.answer(request));
  const last = await readers.answer(request).catch((error: unknown) => error);
  assert.ok(last instanceof Error);
  assert.equal(readers.open, 0);
  assert.ok(conditions.list().length > 0);
  await readers.close();
});
