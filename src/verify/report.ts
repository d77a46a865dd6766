// What `ess verify` and GET /verify say: one JSON object, or the same as text for people. Runs where the proof does.

import { findingKinds, findingText } from './findings.ts';
import type { VerifyReport } from './verify.ts';

/** The report as the JSON that GET /verify answers and `--json` prints. */
export function reportJson(report: VerifyReport): string {
  const { partitions, findings } = report;
  const sum = (of: (partition: VerifyReport['partitions'][number]) => number): number =>
    partitions.reduce((total, partition) => total + of(partition), 0);
  return JSON.stringify({
    exact: report.isExact,
    deep: report.isDeep,
    epoch: report.epoch,
    records: sum(({ end }) => end),
    ranges: sum(({ ranges }) => ranges),
    rows: sum(({ rows }) => rows),
    duplicates: sum(({ duplicates }) => duplicates),
    parked: sum(({ parked }) => parked),
    holes: sum(({ holes }) => holes),
    in_flight: sum(({ inFlight }) => inFlight),
    events: report.events?.events ?? null,
    identities: report.events?.identities ?? null,
    partitions: partitions.map(({ ledgerEnd, inFlight, deadLetters, isExact, ...partition }) => ({
      ...partition,
      ledger_end: ledgerEnd,
      in_flight: inFlight,
      dead_letters: deadLetters,
      exact: isExact,
    })),
    findings: findings.map((finding) => ({
      ...finding,
      means: findingKinds[finding.kind].means,
      action: findingKinds[finding.kind].action,
      text: findingText(finding),
    })),
    findings_total: report.findingsTotal,
    took_ms: report.tookMs,
  });
}

/** What the text needs of such an object: it may come from another process, so each member is looked at. */
interface ReadReport {
  readonly isExact: boolean;
  readonly text: string;
}

/** Reads the object that `reportJson` made, here or in another process; null if it is something else. */
export function readReport(json: string): ReadReport | null {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    return null;
  }
  if (typeof value !== 'object' || value === null || !('exact' in value) || !('findings' in value))
    return null;
  const { exact: isExact, findings } = value;
  if (typeof isExact !== 'boolean' || !Array.isArray(findings)) return null;
  const report = new Map<string, unknown>(Object.entries(value));
  const figure = (name: string): number => Number(report.get(name) ?? 0);
  const lines = findings.map((finding: { readonly text?: unknown }) => String(finding.text));
  const left = figure('findings_total') - lines.length;
  if (left > 0) lines.push(`and ${left} more`);
  const deep =
    report.get('deep') === true
      ? `, ${figure('events')} events with ${figure('identities')} identities`
      : ' (its rows were counted only: --deep compares them)';
  const sums = `${figure('records')} records = ${figure('rows')} rows + ${figure('duplicates')} duplicates + ${figure('parked')} parked + ${figure('holes')} holes + ${figure('in_flight')} in flight, in ${figure('ranges')} ranges${deep}`;
  lines.push(isExact ? `exact: ${sums}` : `NOT exact, ${figure('findings_total')} findings: ${sums}`);
  return { isExact, text: `${lines.join('\n')}\n` };
}
