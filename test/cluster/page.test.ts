// The page on a cluster: a broker that is stopped and a ClickHouse node that is dead turn red, each leads to the section
// that says what to do, and both turn back when they are there again.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { BrowserPage, needsBrowser, openBrowser, textOf } from '../support/browser.ts';
import type { EssProcess } from '../support/ess_process.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { ClusterRig, type Scope } from './rig.ts';

/** How long a cluster may take to notice and to recover on a slow, busy machine, ms. */
const patienceMs = 180_000;

const needs = (): { readonly skip: string | false } => {
  const kafka = needsKafka();
  return kafka.skip === false ? needsBrowser() : kafka;
};

describe('the page on a cluster', needs(), () => {
  let browser: Browser;
  let rig: ClusterRig;
  let scope: Scope;
  let ess: EssProcess;
  let look: BrowserPage;

  before(async () => {
    browser = await openBrowser();
    rig = await ClusterRig.start({ shards: 2, replicas: 1 });
    scope = await rig.scope({ partitions: 6, producers: 1, sinks: 2, readers: 1 });
    ess = await scope.start('all');
    look = await BrowserPage.open(browser, ess.url);
    look.page.context().setDefaultTimeout(patienceMs);
    await untilWell();
  });
  after(async () => {
    await browser?.close();
    await scope?.end();
    await rig?.dispose();
  });

  const troubleOf = (kind: string) => look.page.locator(`.troubles li[data-kind="${kind}"]`);

  async function rows(caption: string): Promise<string[][]> {
    return (await look.table(caption)).map((row) => row.map((text) => text.split('\n')[0] ?? ''));
  }

  async function untilWell(): Promise<void> {
    await look.until(
      'everything to be well',
      async () => {
        const [brokers, nodes, partitions] = await Promise.all(
          ['Brokers', 'ClickHouse nodes', 'Partitions'].map(rows),
        );
        return (
          (await textOf(look.page.locator('#state strong'))) === 'Ready' &&
          (await look.page.locator('.troubles li').count()) === 0 &&
          brokers?.map((row) => row[2]).join() === 'up,up,up' &&
          nodes?.map((row) => row[2]).join() === 'up,up' &&
          partitions?.length === 6 &&
          partitions.every((row) => row[6] === '3/3' && /^sink-/.test(row[7] ?? ''))
        );
      },
      patienceMs,
    );
  }

  test('shows brokers, replicas, the group and the nodes of both shards', async () => {
    const posted = await ess.post('{"id":"seen","type":"order"}', '?ack=store');
    assert.equal(posted.status, 200);
    await look.until('the event', async () => (await look.figure('stored')) === '1', patienceMs);
    assert.match(await textOf(look.page.locator('.panel.group')), /Stable/);
    const members = await rows('Members of the consumer group');
    assert.equal(members.length, 2);
    assert.ok(members.every(([name]) => name?.endsWith('(here)')));
    await look.screenshot('cluster-well');
    await look.checkWidth();
    look.check();
  });

  test('a stopped broker turns red, leads to what to do, and turns back', async () => {
    const broker = rig.kafka.node(1);
    await broker.stop();
    await troubleOf('broker_down').waitFor();
    await look.untilState('Degraded', patienceMs);
    const link = troubleOf('broker_down').locator('a');
    assert.equal(await link.getAttribute('href'), '/operations#broker-down');
    await look.until(
      'replicas that are missing',
      async () => (await rows('Partitions')).every((row) => row[6] === '2/3'),
      patienceMs,
    );
    const down = look.page.locator('.panel.log a.tone.bad', { hasText: 'down' });
    await down.waitFor();
    assert.equal(await down.getAttribute('href'), '/operations#broker-down');
    await look.screenshot('cluster-broker-down');
    await broker.restart();
    await untilWell();
    look.check();
  });

  test('a dead ClickHouse node turns red, leads to what to do, and turns back', async () => {
    const [, node] = rig.nodes;
    assert.ok(node !== undefined);
    await node.kill();
    const [url = ''] = node.urls;
    await troubleOf('store_node_down').waitFor();
    await look.untilState('Degraded', patienceMs);
    const entry = troubleOf('store_node_down');
    assert.ok((await textOf(entry)).includes(new URL(url).host));
    assert.equal(await entry.locator('a').getAttribute('href'), '/operations#store-node-down');
    const down = look.page.locator('.panel.nodes a.tone.bad', { hasText: 'down' });
    await down.waitFor();
    assert.equal(await down.getAttribute('href'), '/operations#store-node-down');
    assert.equal((await rows('ClickHouse nodes')).filter((row) => row[2] === 'up').length, 1);
    await look.screenshot('cluster-node-down');

    // A read that a shard did not answer says so before it shows a number.
    const other = await BrowserPage.open(browser, ess.url, '/#explore?range=all');
    await other.page.getByText(/^PARTIAL: shard 1 did not answer/).waitFor();
    await other.screenshot('explore-partial');
    other.check();
    await other.close();

    await node.restart();
    await untilWell();
    look.check();
  });
});
