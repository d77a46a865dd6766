// What `ess doctor` found, line by line, and how it is printed. Runs on the main thread of a process of its own.

import { wrapped } from '../../config/help.ts';
import { type CheckGroup, type CheckId, checkGroups, checkIds, checks } from './checks.ts';

/** From the best to the worst; `unknown` means that it could not be looked at, which is no fault by itself. */
export const verdicts = ['ok', 'unknown', 'warning', 'error'] as const;

export type Verdict = (typeof verdicts)[number];

/** One line of the report. */
export interface Line {
  readonly check: CheckId;
  /** What it is about: a topic, a broker, a node. May be empty. */
  readonly subject: string;
  readonly verdict: Verdict;
  /** What was found; for `unknown` the reason why it is not known. */
  readonly found: string;
  /** The command or statement that mends it; empty where there is nothing to mend. */
  readonly mend: string;
}

export function ok(check: CheckId, subject: string, found: string): Line {
  return { check, subject, verdict: 'ok', found, mend: '' };
}

export function unknown(check: CheckId, subject: string, reason: string, mend = ''): Line {
  return { check, subject, verdict: 'unknown', found: reason, mend };
}

export function warning(check: CheckId, subject: string, found: string, mend: string): Line {
  return { check, subject, verdict: 'warning', found, mend };
}

export function failure(check: CheckId, subject: string, found: string, mend: string): Line {
  return { check, subject, verdict: 'error', found, mend };
}

/** The worst verdict of all lines; `ok` where there are none. */
export function worstOf(lines: readonly Line[]): Verdict {
  return verdicts.findLast((verdict) => lines.some((line) => line.verdict === verdict)) ?? 'ok';
}

/** In the order of the checks; those of one check in the order given. */
export function inOrder(lines: readonly Line[]): Line[] {
  return checkIds.flatMap((id) => lines.filter(({ check }) => check === id));
}

/** How many lines have each verdict. */
function countsOf(lines: readonly Line[]): Record<Verdict, number> {
  const count = (verdict: Verdict): number => lines.filter((line) => line.verdict === verdict).length;
  return { ok: count('ok'), unknown: count('unknown'), warning: count('warning'), error: count('error') };
}

/** The whole report as one JSON object on one line. */
export function reportJson(lines: readonly Line[]): string {
  const found = inOrder(lines).map(({ check, subject, verdict, found: text, mend }) => ({
    check,
    group: checks[check].group,
    subject,
    verdict,
    found: text,
    why: checks[check].why,
    mend,
  }));
  return `${JSON.stringify({ verdict: worstOf(lines), counts: countsOf(lines), checks: found })}\n`;
}

/**
 * The report for a person: grouped, one line each; below what is not well, why it matters and what mends it. Checks of one
 * group that are unknown for the same reason share a line.
 */
export function reportText(lines: readonly Line[]): string {
  const width = Math.max(0, ...lines.map(({ check }) => check.length));
  const groups = groupNames().flatMap((group) => {
    const own = inOrder(lines).filter(({ check }) => checks[check].group === group);
    if (own.length === 0) return [];
    const dark = own.filter(isDark);
    const told = own.filter((line) => !isDark(line)).flatMap((line) => lineText(line, width));
    return [checkGroups[group], ...told, ...darkText(dark, width), ''];
  });
  const { ok: well, unknown: dark, warning: warnings, error: errors } = countsOf(lines);
  const sum = `${errors} errors, ${warnings} warnings, ${dark} unknown, ${well} ok.`;
  return `${groups.join('\n')}\n${sum}\n`;
}

function groupNames(): CheckGroup[] {
  return [...new Set(checkIds.map((id) => checks[id].group))];
}

/** Nothing is known, and there is nothing to do about it here. */
function isDark({ verdict, mend }: Line): boolean {
  return verdict === 'unknown' && mend === '';
}

function darkText(lines: readonly Line[], width: number): string[] {
  const reasons = new Set(lines.map(({ found }) => found));
  return [...reasons].flatMap((reason) => {
    const own = lines.filter(({ found }) => found === reason);
    const [first] = own;
    if (first !== undefined && own.length === 1) return lineText(first, width);
    const names = [...new Set(own.map(({ check }) => check))].join(', ');
    const verdict = 'unknown'.padEnd('warning'.length);
    return [`  ${verdict}  ${`${own.length} lines`.padEnd(width)}  ${reason}`, indented(names)];
  });
}

function lineText({ check, subject, verdict, found, mend }: Line, width: number): string[] {
  const about = subject === '' ? found : `${subject}: ${found}`;
  const line = `  ${verdict.padEnd('warning'.length)}  ${check.padEnd(width)}  ${about}`;
  if (verdict === 'ok' || (verdict === 'unknown' && mend === '')) return [line];
  return [line, indented(`why: ${checks[check].why}`), ...(mend === '' ? [] : [indented(`mend: ${mend}`)])];
}

function indented(text: string): string {
  return wrapped(text, 11).trimEnd();
}
