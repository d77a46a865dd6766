// Invariant: an event that was parked and is replayed once its cause is mended is stored exactly once, however often it is
// replayed and at whatever moment the service is killed; what is discarded stays so.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { pinEmbeddedEngine } from '../../src/store/chdb_engine.ts';
import { openStore } from '../../src/store/client.ts';
import { dlq, listed, positionOf } from '../support/dlq_command.ts';
import { EssProcess } from '../support/ess_process.ts';
import { allowPoison, poison, refusePoison } from './journal.ts';

const flags = {
  producers: 1,
  sinks: 1,
  readers: 1,
  partitions: 4,
  'sink-linger-ms': 5,
  'sink-inserts-per-second': 200,
};

const ofPoison = (id: string): string => JSON.stringify({ id, text: `${poison} ${id}` });

/** A service whose store refuses poison, with these events parked. */
async function withParked(ids: readonly string[]): Promise<EssProcess> {
  const made = await EssProcess.start({ flags });
  assert.equal(await made.end('SIGTERM'), 0);
  await refusePoison(made.dataDir);
  const ess = await EssProcess.start({ flags, dataDir: made.dataDir });
  for (const id of ids) assert.equal((await ess.post(ofPoison(id), '?ack=store')).status, 422);
  return ess;
}

/** Stops it, mends the cause, and starts it again. */
async function mended(ess: EssProcess, env: Readonly<Record<string, string>> = {}): Promise<EssProcess> {
  assert.equal(await ess.end('SIGTERM'), 0);
  await allowPoison(ess.dataDir);
  return EssProcess.start({ flags, dataDir: ess.dataDir, env });
}

type OpenStore = Awaited<ReturnType<typeof openStore>>;

async function inStore<T>(dataDir: string, work: (store: OpenStore) => Promise<T>): Promise<T> {
  await pinEmbeddedEngine();
  const store = await openStore({ kind: 'embedded', path: join(dataDir, 'store') });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/** Rows by id of a service that does not run, physical ones included. */
function rowsOf(dataDir: string): Promise<Record<string, number>> {
  return inStore(dataDir, async (store) => {
    const rows = await store.rows<{ id: string; n: string }>(
      'SELECT id, toString(count()) AS n FROM events GROUP BY id',
    );
    return Object.fromEntries(rows.map(({ id, n }) => [id, Number(n)]));
  });
}

interface LettersStats {
  readonly dead_letters: number;
  readonly conservation: { readonly exact: boolean; readonly parked: number; readonly stored: number };
}

describe('dead letters', () => {
  test('are stored exactly once when they are replayed after the cause is mended, and no sooner', async () => {
    const ids = Array.from({ length: 12 }, (_, i) => `replay-${i}`);
    let ess = await withParked(ids);
    try {
      const before = await listed(ess.url);
      assert.deepEqual(before.map(({ id }) => id).sort(), [...ids].sort());
      // The cause is not mended: the first ten are refused again, and the others left alone.
      const early = await dlq(ess.url, ['replay', '--all']);
      assert.equal(early.code, 1);
      assert.equal(early.lines.length, 10);
      for (const line of early.lines)
        assert.match(line, /replayed to \d+:\d+, but the store refused it again$/);
      assert.match(early.err, /2 letters are left/);
      assert.equal((await listed(ess.url)).length, 12);
      assert.equal((await listed(ess.url, 'replayed')).length, 10);
      // Whatever became of them, they were parked there.
      const [first] = before;
      assert.ok(first !== undefined);

      ess = await mended(ess);
      const parked = await listed(ess.url);
      const late = await dlq(ess.url, ['replay', '--all', '--json']);
      assert.equal(late.code, 0, late.out + late.err);
      const results = late.lines.map((line) => JSON.parse(line) as Record<string, unknown>);
      assert.deepEqual(
        [...new Set(results.map(({ outcome, stage }) => `${outcome} ${stage}`))],
        ['replayed store'],
      );
      assert.deepEqual(await listed(ess.url), []);
      const none = await dlq(ess.url, ['replay', '--all']);
      assert.deepEqual([none.code, none.out], [0, '']);
      assert.match(none.err, /no dead letter is parked: there is nothing to do/);
      const { conservation, partitions } = await ess.drained();
      assert.equal(conservation.exact, true);
      assert.equal(conservation.parked, 22);
      assert.equal(conservation.stored, 12);
      const again = await dlq(ess.url, ['replay', ...parked.map(positionOf)]);
      assert.equal(again.code, 0);
      for (const line of again.lines) assert.match(line, /already replayed to \d+:\d+, stored$/);
      const ends = (await ess.drained()).partitions.map(({ end }) => end);
      assert.deepEqual(
        ends,
        partitions.map(({ end }) => end),
      );
      const stats = await ess.getJson<LettersStats>('/stats');
      assert.equal(stats.dead_letters, 0);
      for (const id of ids) {
        const found = await ess.getJson<{ event: unknown }>(`/events/${id}`);
        assert.deepEqual(found.event, JSON.parse(ofPoison(id)));
      }
      const shown = await dlq(ess.url, ['show', positionOf(first)]);
      assert.equal(shown.code, 0);
      assert.match(shown.out, /^state: replayed$/m);
      assert.ok(shown.out.includes(`event: {"id":"${first.id}"`));
      assert.equal(await ess.end('SIGTERM'), 0);
      assert.deepEqual(await rowsOf(ess.dataDir), Object.fromEntries(ids.map((id) => [id, 1])));
    } finally {
      await ess.dispose();
    }
  });

  for (const [fault, records] of [
    ['replay.after_intent', 1],
    ['log.append.written', 1],
    ['replay.after_append', 1],
    ['replay.after_state', 1],
  ] as const) {
    test(`whose replay is killed at ${fault} are stored once when it is repeated`, async () => {
      let ess = await withParked(['killed']);
      try {
        const [letter] = await listed(ess.url);
        assert.ok(letter !== undefined);
        ess = await mended(ess, { ESS_FAULT: `${fault}:1` });
        const cut = await dlq(ess.url, ['replay', positionOf(letter)]);
        assert.equal(cut.code, 1, cut.out);
        assert.equal(await ess.ended(), 'SIGKILL');
        ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
        const again = await dlq(ess.url, ['replay', positionOf(letter)]);
        assert.equal(again.code, 0, again.out + again.err);
        assert.match(again.out, /replayed to \d+:\d+, stored$/m);
        const { conservation } = await ess.drained();
        assert.equal(conservation.exact, true);
        // Nothing was appended twice: that the event was in the log was found out.
        assert.equal(conservation.stored, records);
        assert.equal(conservation.duplicates, 0);
        assert.equal(conservation.parked, 1);
        assert.equal(await ess.end('SIGTERM'), 0);
        assert.deepEqual(await rowsOf(ess.dataDir), { killed: 1 });
      } finally {
        await ess.dispose();
      }
    });
  }

  test('that a client sent again meanwhile are not stored a second time', async () => {
    let ess = await withParked(['retried']);
    try {
      const [letter] = await listed(ess.url);
      assert.ok(letter !== undefined);
      ess = await mended(ess);
      assert.equal((await ess.post(ofPoison('retried'), '?ack=store')).status, 200);
      const { lines, code } = await dlq(ess.url, ['replay', positionOf(letter)]);
      assert.equal(code, 0);
      assert.match(lines[0] ?? '', /replayed to \d+:\d+, stored$/);
      const { conservation } = await ess.drained();
      assert.deepEqual([conservation.stored, conservation.accepted], [1, 2]);
    } finally {
      await ess.dispose();
    }
  });

  test('are discarded with a reason that outlives a kill, or replaced by a corrected event', async () => {
    let ess = await withParked(['gone', 'corrected', 'left']);
    const folder = mkdtempSync(join(tmpdir(), 'ess-dlq-'));
    try {
      const letters = await listed(ess.url);
      const [gone = '', corrected = ''] = ['gone', 'corrected'].map((id) => {
        const letter = letters.find((one) => one.id === id);
        return letter === undefined ? '' : positionOf(letter);
      });
      assert.equal(
        (await dlq(ess.url, ['discard', gone, '--reason', 'ada: a test of the producer'])).code,
        0,
      );
      const file = join(folder, 'event.json');
      writeFileSync(file, '{"text":"harmless","big":12345678901234567890}\n');
      const replaced = await dlq(ess.url, ['replay', corrected, '--with', file]);
      assert.equal(replaced.code, 0, replaced.out + replaced.err);
      await ess.drained();
      assert.equal(await ess.end('SIGKILL'), 'SIGKILL');
      ess = await EssProcess.start({ flags, dataDir: ess.dataDir });
      const found = await fetch(`${ess.url}/events/corrected`);
      assert.ok((await found.text()).includes('"event":{"text":"harmless","big":12345678901234567890}'));
      assert.deepEqual(
        (await listed(ess.url)).map(({ id }) => id),
        ['left'],
      );
      const text = await dlq(ess.url, ['list']);
      assert.match(text.out, /^\d:\d+ {2}parked {2}\S+Z {2}469 {2}left {2}.*no_poison/);
      assert.equal(text.lines.length, 1);
      const [discarded] = await listed(ess.url, 'discarded');
      assert.equal(discarded?.id, 'gone');
      assert.equal(discarded?.discard_reason, 'ada: a test of the producer');
      assert.equal((await listed(ess.url, 'all')).length, 3);
      // Done is done, and undone by nobody.
      const repeated = await dlq(ess.url, ['discard', gone, '--reason', 'once more']);
      assert.deepEqual([repeated.code, repeated.out], [0, `${gone} already discarded\n`]);
      const refused = await dlq(ess.url, ['replay', gone]);
      assert.equal(refused.code, 1);
      assert.match(refused.out, /refused: letter_settled/);
      const late = await dlq(ess.url, ['discard', corrected, '--reason', 'x']);
      assert.deepEqual([late.code, /letter_settled/.test(late.out)], [1, true]);
      const nowhere = await dlq(ess.url, ['replay', '3:999']);
      assert.deepEqual([nowhere.code, /not_found/.test(nowhere.out)], [1, true]);
      assert.equal((await dlq(ess.url, ['show', '3:999'])).code, 1);
      const { conservation } = await ess.drained();
      assert.deepEqual([conservation.exact, conservation.parked, conservation.stored], [true, 3, 1]);
    } finally {
      rmSync(folder, { recursive: true });
      await ess.dispose();
    }
  });
});

test('only pages of this very host change anything, only as JSON, and only so many at a time', async () => {
  const ess = await withParked(['guarded']);
  try {
    const post = async (path: string, body: unknown, headers: Record<string, string> = {}) => {
      const response = await fetch(`${ess.url}/dead-letters/${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: typeof body === 'string' ? body : JSON.stringify(body),
      });
      const answer = (await response.json()) as Record<string, unknown>;
      return [response.status, answer['code']];
    };
    const all = { all: true, reason: 'no' };
    assert.deepEqual(await post('discard', all, { origin: 'https://elsewhere.example' }), [403, 'forbidden']);
    assert.deepEqual(await post('discard', all, { origin: 'null' }), [403, 'forbidden']);
    for (const type of ['text/plain', 'application/x-www-form-urlencoded'])
      assert.deepEqual(await post('discard', all, { 'content-type': type }), [415, 'unsupported_media_type']);
    assert.deepEqual(await post('discard', '{'), [400, 'malformed_json']);
    assert.deepEqual(await post('discard', 'x'.repeat(100_000)), [413, 'too_large']);
    const many = Array.from({ length: 101 }, (_, offset) => ({ partition: 0, offset }));
    for (const body of [
      [],
      {},
      { all: false, reason: 'r' },
      { all: true },
      { all: true, reason: ' ' },
      { all: true, partition: 0, offset: 0, reason: 'r' },
      { partition: 0, reason: 'r' },
      { partition: -1, offset: 0, reason: 'r' },
      { letters: many, reason: 'r' },
      { letters: [many[0], many[0]], reason: 'r' },
      { all: true, reason: 'r', other: 1 },
      { all: true, cursor: 'x', reason: 'r' },
      { partition: 0, offset: 0, code: '469', reason: 'r' },
    ])
      assert.deepEqual(await post('discard', body), [400, 'invalid_parameter'], JSON.stringify(body));
    assert.deepEqual(await post('replay', { all: true, event: '{}' }), [400, 'invalid_parameter']);
    const get = await fetch(`${ess.url}/dead-letters/replay`);
    assert.deepEqual([get.status, get.headers.get('allow')], [405, 'POST']);
    for (const query of ['state=odd', 'position=1', 'cursor=x', 'limit=0', 'other=1'])
      assert.equal((await fetch(`${ess.url}/dead-letters?${query}`)).status, 400, query);
    assert.equal((await listed(ess.url)).length, 1);
    // A page of the service itself may; and what has another code is not meant.
    const own = { origin: ess.url };
    assert.deepEqual(await post('discard', { ...all, code: '1' }, own), [200, undefined]);
    assert.equal((await listed(ess.url)).length, 1);
    assert.deepEqual(await post('discard', { ...all, code: '469' }, own), [200, undefined]);
    assert.equal((await listed(ess.url)).length, 0);
  } finally {
    await ess.dispose();
  }
});
