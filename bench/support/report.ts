// How a bench tells its result: a table to read, and one JSON line to keep.

import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Machine } from './machine.ts';
import type { BenchOptions } from './options.ts';

/** A figure that the project wants to reach. Missing it is no failure: a bench asserts nothing about time. */
export interface Aim {
  readonly what: string;
  readonly figure: number | null;
  readonly aim: string;
  /** Null where there is no figure. */
  readonly isMet: boolean | null;
}

/** One run of a bench, as it is printed and appended to results/NAME.jsonl. */
export interface Result {
  readonly bench: string;
  /** What ran where, in a sentence or two. */
  readonly method: string;
  /** Every round with its raw figures. */
  readonly rounds: readonly unknown[];
  /** Medians over the rounds, by what was measured. */
  readonly medians: Readonly<Record<string, unknown>>;
  readonly ratios: Readonly<Record<string, number | null>>;
  readonly aims: readonly Aim[];
  /** Promises that were found broken, such as events that are missing: these make the run fail. */
  readonly faults: readonly string[];
}

export function printHead(
  bench: string,
  method: string,
  machine: Machine,
  options: BenchOptions<string>,
): void {
  const { load_average: load, ...rest } = machine;
  const facts = [
    ...Object.entries(rest).map(([name, value]) => `${name.replaceAll('_', ' ')} ${value}`),
    `load average ${load.join(' ')}`,
  ];
  const scale = Object.entries(options.numbers).map(([name, value]) => `${name} ${value}`);
  const ess = Object.entries(options.ess).map(([name, value]) => `ess --${name} ${value}`);
  print(`${bench}: ${method}`);
  print(`  ${facts.join(', ')}`);
  print(`  ${[...scale, ...ess].join(', ')}\n`);
}

/** Prints rows under their heads, text to the left and numbers to the right. */
export function printTable(
  heads: readonly string[],
  rows: readonly (readonly (string | number | null)[])[],
): void {
  const cells = rows.map((row) =>
    row.map((cell) => (typeof cell === 'number' ? formatNumber(cell) : (cell ?? '-'))),
  );
  const widths = heads.map((head, i) => Math.max(head.length, ...cells.map((row) => (row[i] ?? '').length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  ');
  for (const row of [heads, widths.map((width) => '-'.repeat(width)), ...cells]) print(`  ${line(row)}`);
  print('');
}

/** Prints aims and faults, appends the result if asked to, and makes the exit code 1 if something was broken. */
export function finish(result: Result, machine: Machine, options: BenchOptions<string>): void {
  for (const { what, figure, aim, isMet } of result.aims) {
    const verdict = isMet === null ? 'not measured' : isMet ? 'met' : 'MISSED';
    print(`  aim: ${what} ${aim}: ${figure === null ? '-' : formatNumber(figure)} ${verdict}`);
  }
  for (const fault of result.faults) print(`  FAULT: ${fault}`);
  if (result.faults.length > 0) process.exitCode = 1;
  if (!options.save) return;
  mkdirSync(options.results, { recursive: true });
  const file = join(options.results, `${result.bench}.jsonl`);
  const { numbers, ess } = options;
  const line = { date: new Date().toISOString(), machine, options: { ...numbers, ess }, ...result };
  appendFileSync(file, `${JSON.stringify(line)}\n`);
  print(`\n  appended to ${file}`);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function formatNumber(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en-US');
  return String(Math.round(value * 100) / 100);
}
