// The alerts and the dashboard as data, for the tests of this folder: what promtool has accepted, read by a YAML parser.

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { headingSlug } from '../../src/live/heading_slug.ts';

export const rulesPath = 'compose/prometheus/ess.rules.yml';
export const ruleTestsPath = 'compose/prometheus/ess.rules.test.yml';
export const dashboardPath = 'compose/grafana/ess.json';
export const operationsPath = 'docs/operations.md';

/** What only Kafka as the log has to tell. */
export const kafkaMetrics: ReadonlySet<string> = new Set([
  'ess_broker_up',
  'ess_partition_leader',
  'ess_partition_replicas',
  'ess_partition_in_sync_replicas',
  'ess_min_in_sync_replicas',
  'ess_group_members',
  'ess_group_stable',
]);

export interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export function readAlerts(): Alert[] {
  const file = parse(readFileSync(rulesPath, 'utf8')) as {
    readonly groups: readonly { readonly rules: readonly Alert[] }[];
  };
  return file.groups.flatMap(({ rules }) => rules);
}

export interface AlertTest {
  readonly alertname: string;
  readonly exp_alerts: readonly unknown[];
}

export function readAlertTests(): AlertTest[] {
  const file = parse(readFileSync(ruleTestsPath, 'utf8')) as {
    readonly tests: readonly { readonly alert_rule_test: readonly AlertTest[] }[];
  };
  return file.tests.flatMap(({ alert_rule_test }) => alert_rule_test);
}

/** The anchor of docs/operations.md to which an alert leads. */
export function runbookAnchor({ annotations }: Alert): string {
  return (
    /^\{\{ \$externalLabels\.ess_url \}\}\/operations#([a-z-]+)$/.exec(
      annotations['runbook_url'] ?? '',
    )?.[1] ?? ''
  );
}

/** Metrics of Prometheus itself that expressions may name. */
const builtIn: ReadonlySet<string> = new Set(['up', 'ALERTS']);

/** True if an expression gives nothing while all is well, since it compares with a number. */
export function isFilter(expr: string): boolean {
  return /[<>=] ?-?\d/.test(expr);
}

/** The metrics that an expression names: what has a selector or a range, and everything that begins with ess_. */
export function metricsOf(expr: string): Set<string> {
  const bare = expr.replaceAll(/"(?:[^"\\]|\\.)*"/g, '""');
  const names = [...bare.matchAll(/\b(?:ess_\w+|[A-Za-z_:][\w:]*(?=[{[]))/g)].map(([name]) => name);
  return new Set(names.filter((name) => !builtIn.has(name)));
}

/** Names of the series that a text of /metrics has, with those of a histogram's parts. */
export function metricsIn(text: string): Set<string> {
  const names = new Set<string>();
  for (const [, name = '', type] of text.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    if (type !== 'histogram') names.add(name);
    else for (const part of ['bucket', 'sum', 'count']) names.add(`${name}_${part}`);
  }
  return names;
}

export interface Dashboard {
  readonly templating: { readonly list: readonly { readonly name: string }[] };
  readonly annotations: { readonly list: readonly { readonly expr: string }[] };
  readonly panels: readonly {
    readonly id: number;
    readonly type: string;
    readonly title: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly links?: readonly { readonly url: string }[];
    readonly targets?: readonly { readonly datasource: { readonly uid: string }; readonly expr: string }[];
  }[];
}

export function readDashboard(): Dashboard {
  return JSON.parse(readFileSync(dashboardPath, 'utf8')) as Dashboard;
}

/** Every expression of the dashboard, with values where Grafana puts in those of its variables. */
export function dashboardExpressions(): string[] {
  const { panels, annotations } = readDashboard();
  const texts = [...panels.flatMap(({ targets = [] }) => targets), ...annotations.list].map(
    ({ expr }) => expr,
  );
  return texts.map((text) =>
    text.replaceAll('$__rate_interval', '1m').replaceAll('$job', 'ess').replaceAll('$instance', '.*'),
  );
}

/** The anchors of docs/operations.md. */
export function operationsAnchors(): Set<string> {
  const headings = readFileSync(operationsPath, 'utf8').matchAll(/^## (.+)$/gm);
  return new Set([...headings].map(([, heading = '']) => headingSlug(heading)));
}
