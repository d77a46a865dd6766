// A Prometheus that scrapes ESS processes once a second, with the alert rules as they are and once more without their
// patience, so that a test need not wait for minutes.

import assert from 'node:assert/strict';
import { readFileSync, statfsSync } from 'node:fs';
import { resolve } from 'node:path';
import { parse, stringify } from 'yaml';
import type { EssProcess } from '../support/ess_process.ts';
import { type AlertRule, PrometheusProcess } from '../support/prometheus.ts';
import { readAlerts, rulesPath } from './rule_files.ts';

/** How long Prometheus may take to see something on a slow, busy machine, ms. */
const patienceMs = 120_000;

const hastyRules = 'hasty.rules.yml';

export class Scraper {
  readonly prometheus: PrometheusProcess;
  readonly #processes: readonly EssProcess[];

  private constructor(prometheus: PrometheusProcess, processes: readonly EssProcess[]) {
    this.prometheus = prometheus;
    this.#processes = processes;
  }

  /** Waits until every process was scraped. Alerts link to the first one. */
  static async start(...processes: readonly [EssProcess, ...EssProcess[]]): Promise<Scraper> {
    const config = parse(readFileSync('compose/prometheus/prometheus.yml', 'utf8')) as Record<
      string,
      unknown
    >;
    const targets = processes.map(({ url }) => new URL(url).host);
    const here = {
      ...config,
      global: {
        scrape_interval: '1s',
        evaluation_interval: '1s',
        external_labels: { ess_url: processes[0].url },
      },
      rule_files: [resolve(rulesPath), hastyRules],
      scrape_configs: [{ job_name: 'ess', static_configs: [{ targets }] }],
    };
    const rules = readFileSync(rulesPath, 'utf8').replaceAll(/^( +for:) \w+$/gm, '$1 1s');
    const prometheus = await PrometheusProcess.start({
      'prometheus.yml': stringify(here),
      [hastyRules]: rules,
    });
    const scraper = new Scraper(prometheus, processes);
    await scraper.until('all targets are up', async () => {
      const found = await prometheus.targets();
      return found.length === targets.length && found.every(({ health }) => health === 'up');
    });
    return scraper;
  }

  /** Waits until all rules, of both files, were evaluated twice more. */
  async evaluated(): Promise<void> {
    for (let round = 0; round < 2; round += 1) {
      const nowMs = Date.now();
      for (const file of [rulesPath, hastyRules])
        await this.until(
          `${file} is evaluated`,
          async () => (await this.prometheus.alertRules(file)).evaluatedMs > nowMs,
        );
    }
  }

  /** Every alert of both files; asserts that none is missing and that all could be evaluated. */
  async rules(): Promise<AlertRule[]> {
    const names = readAlerts()
      .map(({ alert }) => alert)
      .toSorted();
    const all: AlertRule[] = [];
    for (const file of [rulesPath, hastyRules]) {
      const { rules } = await this.prometheus.alertRules(file);
      assert.deepEqual(rules.map(({ name }) => name).toSorted(), names);
      for (const { name, health, lastError } of rules) assert.equal(health, 'ok', `${name}: ${lastError}`);
      all.push(...rules);
    }
    return all;
  }

  /** Names of the alerts that are pending or firing, but for what is true of this machine's disk. */
  async noticed(): Promise<string[]> {
    const isDiskFull = this.#processes.some(({ dataDir }) => isNearlyFull(dataDir));
    const names = (await this.rules()).filter(({ state }) => state !== 'inactive').map(({ name }) => name);
    return [...new Set(names)].filter(
      (name) => !isDiskFull || !(name.endsWith('DiskLow') || name === 'EssDegraded'),
    );
  }

  /** Waits until the alert fires, its patience left out; gives what it says. */
  async fired(alert: string): Promise<AlertRule['alerts']> {
    let alerts: AlertRule['alerts'] = [];
    await this.until(`${alert} fires`, async () => {
      const { rules } = await this.prometheus.alertRules(hastyRules);
      alerts = rules.find(({ name, state }) => name === alert && state === 'firing')?.alerts ?? [];
      return alerts.length > 0;
    });
    return alerts;
  }

  async until(what: string, isSo: () => Promise<boolean>): Promise<void> {
    const endMs = Date.now() + patienceMs;
    while (!(await isSo())) {
      assert.ok(Date.now() < endMs, `not within ${patienceMs} ms: ${what}`);
      await new Promise((done) => setTimeout(done, 200));
    }
  }

  dispose(): Promise<void> {
    return this.prometheus.dispose();
  }
}

/** A little earlier than the alert says so, since the disk may fill up meanwhile. */
function isNearlyFull(path: string): boolean {
  const { bavail, blocks, bsize } = statfsSync(path);
  return bavail / blocks < 0.12 || bavail * bsize < 1.2 * 1024 ** 3;
}
