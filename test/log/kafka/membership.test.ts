// Members of one group against a real cluster: whoever is stopped, killed or added, at most one of them gets its
// positions through, and nobody is disturbed more than once for it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { EssError } from '../../../src/errors.ts';
import { KafkaCluster, needsKafka } from '../../support/kafka_cluster.ts';
import { until } from '../eventually.ts';
import type { MemberReport } from './member.worker.ts';
import { Reader } from './reader.ts';
import { targetOf } from './target.ts';

const memberPath = fileURLToPath(new URL('./member.worker.js', import.meta.url));

/** Positions here are of records that are not there. */
const idle = { isReading: false };

describe('members of a group', needsKafka(), () => {
  let cluster: KafkaCluster;
  before(async () => {
    cluster = await KafkaCluster.start();
    await cluster.createTopic({ topic: 'shared', partitions: 6 });
  });
  after(() => cluster?.dispose());

  it('go through exactly one rebalance each when one comes or leaves', async () => {
    const target = targetOf(cluster.brokers, 'shared', { group: 'comings' });
    const a = await Reader.start(target, idle);
    await until(() => a.partitions.length === 6);
    const b = await Reader.start(target, idle);
    await until(() => a.partitions.length === 3 && b.partitions.length === 3);
    const c = await Reader.start(target, idle);
    const all = () => [...a.partitions, ...b.partitions, ...c.partitions].sort();
    await until(() => [a, b, c].every(({ partitions }) => partitions.length === 2));
    assert.deepEqual(all(), [0, 1, 2, 3, 4, 5]);
    assert.deepEqual(
      [a, b, c].map(({ assignments }) => assignments),
      [3, 2, 1],
    );
    await b.close();
    await until(() => a.partitions.length === 3 && c.partitions.length === 3);
    assert.deepEqual([a.assignments, c.assignments], [4, 2]);
    assert.deepEqual([a.revocations, c.revocations], [3, 1]);
    await Promise.all([a.close(), c.close()]);
  });

  it('own the partitions of their shards', async () => {
    const target = targetOf(cluster.brokers, 'shared', { group: 'sharded' });
    const even = await Reader.start(target, { ...idle, shard: 0, shards: 2 });
    const odd = await Reader.start(target, { ...idle, shard: 1, shards: 2 });
    await until(() => even.partitions.length === 3 && odd.partitions.length === 3);
    assert.deepEqual(even.partitions, [0, 2, 4]);
    assert.deepEqual(odd.partitions, [1, 3, 5]);
    await odd.close();
    await until(() => even.partitions.length === 6);
    await even.close();
  });

  it('keep their positions and go on when the coordinator is killed', async () => {
    const group = 'orphaned';
    // Longer than the cluster takes to replace a dead coordinator.
    const target = targetOf(cluster.brokers, 'shared', { group, sessionTimeoutMs: 30_000 });
    const reader = await Reader.start(target, idle);
    await until(() => reader.partitions.length === 6);
    await reader.consumer.commit(2, 5, 'before');
    const coordinator = cluster.node(await cluster.coordinatorOf(group));
    await coordinator.kill();
    await reader.consumer.commit(2, 6, 'after');
    await Promise.all([0, 1, 3].map((partition) => reader.consumer.commit(partition, 1, '')));
    assert.equal(reader.assignments, 1);
    await coordinator.restart();
    await cluster.untilHealthy('__consumer_offsets');
    await reader.consumer.commit(2, 7, 'healed');
    await reader.close();
    const next = await Reader.start(target, idle);
    await until(() => next.partitions.length === 6);
    assert.deepEqual(next.owned.get(2), { offset: 7, metadata: 'healed' });
    assert.deepEqual(next.owned.get(4), { offset: -1, metadata: '' });
    await next.close();
  });

  it('that were stopped for longer than their session get nothing through afterwards, and hear that all is lost', async () => {
    const target = targetOf(cluster.brokers, 'shared', { group: 'zombie', sessionTimeoutMs: 3_000 });
    const child = spawn(process.execPath, ['--enable-source-maps', memberPath, JSON.stringify(target)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'exit');
    const reports: MemberReport[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (line.endsWith('}')) reports.push(JSON.parse(line));
    });
    const committed = () => reports.flatMap((report) => (report.type === 'committed' ? [report] : []));
    try {
      await until(() => new Set(committed().map(({ partition }) => partition)).size === 6);
      child.kill('SIGSTOP');
      const heir = await Reader.start(target, idle);
      await until(() => heir.partitions.length === 6);
      // Everything that the stopped one was told is durable is seen by whoever comes after it.
      for (const { partition, offset } of committed())
        assert.ok((heir.owned.get(partition)?.offset ?? -1) >= offset);
      for (const partition of heir.partitions) await heir.consumer.commit(partition, 1_000_000, 'heir');
      const before = reports.length;
      child.kill('SIGCONT');
      await until(() => reports.slice(before).some(({ type }) => type === 'assigned'));
      const rejoined = reports.findIndex(({ type }, i) => i >= before && type === 'assigned');
      const meanwhile = reports.slice(before, rejoined);
      assert.equal(meanwhile.filter(({ type }) => type === 'revoked').length, 6);
      // What was answered before it was stopped may only be written down now; nothing came through after that.
      for (const report of meanwhile) {
        if (report.type === 'committed') assert.ok(report.offset < 1_000_000);
        if (report.type === 'rejected') assert.equal(report.code, 'outcome_unknown');
      }
      for (let partition = 0; partition < 6; partition += 1) {
        const { offset } = await cluster.groupOffset('zombie', 'shared', partition);
        assert.ok(offset >= 1_000_000, `partition ${partition} went back to ${offset}`);
      }
      await heir.close();
    } finally {
      child.kill('SIGKILL');
      await ended;
    }
  });

  it('can be closed while every broker hangs', async () => {
    const target = targetOf(cluster.brokers, 'shared', { group: 'frozen' });
    const reader = await Reader.start(target, idle);
    await until(() => reader.partitions.length === 6);
    for (const node of cluster.nodes) node.pause();
    try {
      const commit = assert.rejects(
        reader.consumer.commit(0, 1, ''),
        (error) => error instanceof EssError && error.code === 'outcome_unknown',
      );
      await reader.close();
      await commit;
    } finally {
      for (const node of cluster.nodes) node.resume();
    }
  });
});
