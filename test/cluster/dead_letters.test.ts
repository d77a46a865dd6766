// Invariant: on Kafka, too, an event that was parked is stored exactly once when it is replayed, whoever is killed in
// between and whichever process is asked; what never was an event is stored only as a person corrects it.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { poison } from '../crash/journal.ts';
import { type DlqEnd, dlq, type LetterJson, listed, positionOf } from '../support/dlq_command.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { kcat, needsKcat } from '../support/kcat.ts';
import { ClusterRig, type Scope } from './rig.ts';

const canRun = needsKafka().skip === false ? needsKcat() : needsKafka();

describe('dead letters on a cluster', canRun, () => {
  let rig: ClusterRig;

  before(async () => {
    rig = await ClusterRig.start({ brokers: 1, shards: 1, replicas: 1 });
  });
  after(() => rig?.dispose());

  async function command(scope: Scope, statement: string): Promise<void> {
    for (const store of await scope.openStores()) {
      await store.command(statement);
      await store.close();
    }
  }

  /** Rows by id, physical ones included. */
  async function rowsOf(scope: Scope): Promise<Map<string, number>> {
    const [store] = await scope.openStores();
    assert.ok(store !== undefined);
    const rows = await store.rows<{ id: string; n: string }>(
      'SELECT id, toString(count()) AS n FROM events GROUP BY id',
    );
    await store.close();
    return new Map(rows.map(({ id, n }) => [id, Number(n)]));
  }

  test('are replayed exactly once by split roles, through a kill, and corrected where they were no events', async () => {
    const scope = await rig.scope({ partitions: 4 });
    const folder = mkdtempSync(join(tmpdir(), 'ess-dlq-'));
    try {
      await command(
        scope,
        `ALTER TABLE events ADD CONSTRAINT no_poison CHECK position(body, '${poison}') = 0`,
      );
      const sink = await scope.start('sink');
      const cut = await scope.start('ingest', { env: { ESS_FAULT: 'replay.after_append:1' } });
      const own = JSON.stringify({ id: 'own', source: 'here', key: 'k', text: poison });
      assert.equal((await cut.post(own, '?ack=store')).status, 422);
      const foreign = [JSON.stringify({ text: `${poison} of another producer` }), 'no JSON at all'];
      await kcat.produce(rig.kafka.brokers, scope.topic, foreign, { partition: 2 });
      await scope.drained();
      const letters = await listed(sink.url);
      assert.equal(letters.length, 3);
      const where = (wanted: (letter: LetterJson) => boolean): string => {
        const letter = letters.find(wanted);
        assert.ok(letter !== undefined);
        return positionOf(letter);
      };
      const ofOwn = where(({ id }) => id === 'own');
      const ofForeign = where(({ code, id }) => code === '469' && id !== 'own');
      const ofGarbage = where(({ code }) => code === 'malformed_json');

      await command(scope, 'ALTER TABLE events DROP CONSTRAINT no_poison');
      const dead = await dlq(cut.url, ['replay', ofOwn, ofForeign]);
      assert.equal(dead.code, 1, dead.out);
      assert.equal(await cut.ended(), 'SIGKILL');
      // It still needs a person, who asks another process now.
      assert.equal((await listed(sink.url)).length, 3);
      const replayed = await dlq(sink.url, ['replay', '--all', '--code', '469']);
      assertStored(replayed, 2);
      const ingest = await scope.start('ingest');
      const again = await dlq(ingest.url, ['replay', ofOwn, ofForeign]);
      assertStored(again, 2);
      for (const line of again.lines) assert.match(line, /already replayed/);

      const refused = await dlq(ingest.url, ['replay', ofGarbage]);
      assert.equal(refused.code, 1);
      assert.match(refused.out, /refused: not_replayable/);
      const file = join(folder, 'corrected.json');
      writeFileSync(file, '{"text":"as it was meant"}');
      assertStored(await dlq(ingest.url, ['replay', ofGarbage, '--with', file]), 1);

      const states = await scope.drained();
      assert.equal(
        states.reduce((sum, { end }) => sum + end, 0),
        6,
      );
      const rows = await rowsOf(scope);
      const { epoch } = await ingest.getJson<{ epoch: string }>('/stats');
      assert.deepEqual(
        new Map([...rows].sort()),
        new Map(
          (
            [
              [`${epoch}:${ofForeign}`, 1],
              [`${epoch}:${ofGarbage}`, 1],
              ['own', 1],
            ] as const
          ).toSorted(),
        ),
      );
      const { event } = await ingest.getJson<{ event: unknown }>('/events/own?source=here');
      assert.deepEqual(event, JSON.parse(own));
      for (const { url } of [sink, ingest]) {
        assert.deepEqual(await listed(url), []);
        assert.equal((await listed(url, 'replayed')).length, 3);
      }
      const { conservation } = await sink.drained();
      assert.deepEqual([conservation.exact, conservation.parked, conservation.stored], [true, 3, 3]);
    } finally {
      rmSync(folder, { recursive: true });
      await scope.end();
    }
  });
});

function assertStored({ code, lines, out, err }: DlqEnd, count: number): void {
  assert.equal(code, 0, out + err);
  assert.equal(lines.length, count);
  for (const line of lines) assert.match(line, /replayed to \d+:\d+, stored$/);
}
