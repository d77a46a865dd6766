// Alerts, dashboard and docs/operations.md against a running service: every metric that they name is there, and a real
// Prometheus that scrapes it finds nothing wrong until something is.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { EssProcess } from '../support/ess_process.ts';
import { needsPrometheus, promtool } from '../support/prometheus.ts';
import {
  dashboardExpressions,
  isFilter,
  kafkaMetrics,
  metricsIn,
  metricsOf,
  operationsPath,
  readAlerts,
} from './rule_files.ts';
import { Scraper } from './scraper.ts';

describe('a running service', () => {
  let ess: EssProcess;
  let metrics: string;

  before(async () => {
    ess = await EssProcess.start({ flags: { producers: 1, sinks: 1, readers: 1 } });
    assert.equal((await ess.post('{"id":"first"}', '?ack=store')).status, 200);
    await ess.drained();
    metrics = await (await fetch(`${ess.url}/metrics`)).text();
  });
  after(() => ess?.dispose());

  test('has every metric that alerts, dashboard and document name, or Kafka has it', () => {
    const known = metricsIn(metrics);
    const expressions = [...readAlerts().map(({ expr }) => expr), ...dashboardExpressions()];
    const named = new Set(expressions.flatMap((expr) => [...metricsOf(expr)]));
    for (const [name] of readFileSync(operationsPath, 'utf8').matchAll(/\bess_\w+/g)) named.add(name);
    assert.ok(named.size > 40);
    for (const name of named) assert.ok(known.has(name) || kafkaMetrics.has(name), name);
    for (const name of kafkaMetrics) {
      assert.ok(!known.has(name), `${name} is there without Kafka`);
      assert.ok(named.has(name), `nobody asks for ${name}`);
    }
  });

  test('has metrics that promtool finds nothing wrong with', needsPrometheus(), () => {
    assert.equal(promtool(['check', 'metrics'], metrics), '');
  });

  describe('scraped by Prometheus', needsPrometheus(), () => {
    let scraper: Scraper;

    before(async () => {
      scraper = await Scraper.start(ess);
      await scraper.evaluated();
    });
    after(() => scraper?.dispose());

    test('fires no alert while it is well', async () => {
      assert.deepEqual(await scraper.noticed(), []);
    });

    test('shows something in every panel of the dashboard that asks for what it has', async () => {
      for (const expression of dashboardExpressions()) {
        const isOfKafka = [...metricsOf(expression)].some((name) => kafkaMetrics.has(name));
        const series = await scraper.prometheus.count(expression);
        if (!isFilter(expression) && !isOfKafka) assert.ok(series > 0, expression);
      }
    });

    // The last one: it ends the service.
    test('fires EssDown when the service is killed, with a link to what to do', async () => {
      await ess.end('SIGKILL');
      const [alert] = await scraper.fired('EssDown');
      const instance = new URL(ess.url).host;
      assert.deepEqual(alert?.labels, { alertname: 'EssDown', instance, job: 'ess', severity: 'critical' });
      assert.equal(alert.annotations['summary'], `ESS at ${instance} does not answer`);
      assert.equal(alert.annotations['runbook_url'], `${ess.url}/operations#process-not-answering`);
    });
  });
});
