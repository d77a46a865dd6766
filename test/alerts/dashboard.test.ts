// The Grafana dashboard and its provisioning as files: every panel can be read, every expression can be parsed, nothing
// lies on top of another. That the metrics exist is checked in service.test.ts.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { parse, stringify } from 'yaml';
import { needsPrometheus, promtool } from '../support/prometheus.ts';
import { dashboardExpressions, operationsAnchors, readDashboard } from './rule_files.ts';

const provisioning = 'compose/grafana/provisioning';

describe('the dashboard', () => {
  const dashboard = readDashboard();

  test('has expressions that Prometheus can parse', needsPrometheus(), () => {
    const expressions = dashboardExpressions();
    assert.ok(expressions.length > 40);
    const folder = mkdtempSync(join(tmpdir(), 'ess-dashboard-'));
    const file = join(folder, 'expressions.yml');
    const rules = expressions.map((expr, i) => ({ record: `expression:${i}`, expr }));
    writeFileSync(file, stringify({ groups: [{ name: 'dashboard', rules }] }));
    promtool(['check', 'rules', file]);
    rmSync(folder, { recursive: true, force: true });
  });

  test('asks the data source, the job and the processes that were chosen, in every panel', () => {
    const variables = dashboard.templating.list.map(({ name }) => name);
    assert.deepEqual(variables, ['datasource', 'job', 'instance', 'ess_url']);
    for (const { title, type, targets = [] } of dashboard.panels) {
      if (type === 'row') continue;
      assert.ok(targets.length > 0, title);
      for (const { datasource, expr } of targets) {
        assert.equal(datasource.uid, '$' + '{datasource}', title);
        // Every selector, not just one of them.
        for (const [, selector = ''] of expr.matchAll(/\{([^}]*)\}/g))
          assert.match(selector, /job="\$job"/, expr);
      }
    }
  });

  test('leads from its panels to sections of docs/operations.md that there are', () => {
    const anchors = operationsAnchors();
    const links = dashboard.panels.flatMap((panel) => panel.links ?? []);
    assert.ok(links.length > 10);
    for (const { url } of links) {
      const anchor = /^\$\{ess_url\}\/operations#(.+)$/.exec(url)?.[1] ?? url;
      assert.ok(anchors.has(anchor), url);
    }
  });

  test('has panels with names and ids of their own, none on top of another', () => {
    const { panels } = dashboard;
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    assert.equal(new Set(panels.map(({ title }) => title)).size, panels.length);
    const taken = new Map<string, string>();
    for (const { title, gridPos } of panels) {
      assert.ok(gridPos.x + gridPos.w <= 24, title);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          assert.equal(taken.get(`${x},${y}`), undefined, title);
          taken.set(`${x},${y}`, title);
        }
      }
    }
  });

  test('is found by Grafana: the provisioning names a data source and a folder of dashboards', () => {
    const sources = parse(readFileSync(`${provisioning}/datasources/prometheus.yml`, 'utf8')) as {
      readonly datasources: readonly { readonly type: string; readonly url: string }[];
    };
    assert.deepEqual(
      sources.datasources.map(({ type }) => type),
      ['prometheus'],
    );
    const boards = parse(readFileSync(`${provisioning}/dashboards/ess.yml`, 'utf8')) as {
      readonly providers: readonly { readonly type: string; readonly options: { readonly path: string } }[];
    };
    assert.deepEqual(
      boards.providers.map(({ type, options }) => [type, options.path]),
      [['file', '/var/lib/grafana/dashboards']],
    );
  });
});
