// The alerts on what only a cluster has, by real parts: a Prometheus over an ingest and a sink process, three brokers and
// four nodes finds nothing wrong while all is well, and tells of a broker that stops, once.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { ClusterRig, type Scope } from '../cluster/rig.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { needsPrometheus, promtool } from '../support/prometheus.ts';
import { dashboardExpressions, isFilter, kafkaMetrics, metricsIn } from './rule_files.ts';
import { Scraper } from './scraper.ts';

const skip = needsKafka().skip || needsPrometheus().skip;

describe('the alerts on a cluster', { skip }, () => {
  let rig: ClusterRig;
  let scope: Scope;
  let ingest: EssProcess;
  let scraper: Scraper;

  before(async () => {
    rig = await ClusterRig.start();
    scope = await rig.scope();
    ingest = await scope.start('ingest');
    const sink = await scope.start('sink');
    assert.equal((await ingest.post('{"id":"first"}', '?ack=store')).status, 200);
    scraper = await Scraper.start(ingest, sink);
  });
  after(async () => {
    await scraper?.dispose();
    await scope?.end();
    await rig?.dispose();
  });

  test('find nothing wrong while all is well, and every metric of Kafka is there', async () => {
    await scraper.until('nothing is wrong', async () => {
      await scraper.evaluated();
      return (await scraper.noticed()).length === 0;
    });
    const metrics = await (await fetch(`${ingest.url}/metrics`)).text();
    for (const name of kafkaMetrics) assert.ok(metricsIn(metrics).has(name), name);
    assert.equal(promtool(['check', 'metrics'], metrics), '');
    for (const expression of dashboardExpressions()) {
      const series = await scraper.prometheus.count(expression);
      if (!isFilter(expression)) assert.ok(series > 0, expression);
    }
  });

  test('tell of a broker that stops once, however many processes see it, and of what it may lead to', async () => {
    const [node] = rig.kafka.nodes;
    assert.ok(node !== undefined);
    await node.stop();
    const down = await scraper.fired('EssBrokerDown');
    assert.equal(down.length, 1);
    const replicas = await scraper.fired('EssInSyncReplicasAtMinimum');
    assert.equal(new Set(replicas.map(({ labels }) => labels['partition'])).size, replicas.length);
    const [alert] = replicas;
    assert.equal(alert?.annotations['runbook_url'], `${ingest.url}/operations#in-sync-replicas`);
    assert.ok(!(await scraper.noticed()).includes('EssInSyncReplicasLow'));
    await node.restart();
    await scraper.until(
      'EssBrokerDown is over',
      async () => !(await scraper.noticed()).includes('EssBrokerDown'),
    );
  });

  test('tell of a node that is down, and of a shard only when all its replicas are', async () => {
    const [node] = rig.nodes;
    assert.ok(node !== undefined);
    await node.setFault(0, 'down');
    const down = await scraper.fired('EssStoreNodeDown');
    assert.deepEqual(
      down.map(({ labels }) => [labels['shard'], labels['replica']]),
      [['0', '0']],
    );
    assert.ok(!(await scraper.noticed()).includes('EssShardDown'));
    await node.setFault(1, 'down');
    const shards = await scraper.fired('EssShardDown');
    assert.deepEqual(
      shards.map(({ labels }) => labels['shard']),
      ['0'],
    );
    for (const replica of [0, 1]) await node.setFault(replica, 'none');
    await scraper.until(
      'EssStoreNodeDown is over',
      async () => !(await scraper.noticed()).includes('EssStoreNodeDown'),
    );
  });
});
