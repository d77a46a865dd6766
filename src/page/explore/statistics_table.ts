// Statistics as a table: a row for each group, and one for all. Runs in the browser.

import { element, scrollBox } from '../dom.ts';
import { count, figure, millis, rate } from '../format.ts';
import { type Statistics, type Summary, type ValueFigure, valueFigures } from './answer.ts';

const valueTitles: Readonly<Record<ValueFigure, string>> = {
  count: 'Values',
  sum: 'Sum',
  avg: 'Average',
  min: 'Least',
  max: 'Greatest',
  p50: 'p50',
  p95: 'p95',
  p99: 'p99',
};

/** `paths`: the members that it is grouped by. */
export function statisticsTable(answer: Statistics, paths: readonly string[]): HTMLElement {
  const hasValue = answer.total.value !== undefined;
  const titles = ['Count', 'Unique subjects', 'Per second', 'Lag p95'];
  if (hasValue) titles.push(...valueFigures.map((name) => valueTitles[name]));
  const head = element('tr');
  const names = paths.length === 0 ? ['Group'] : paths;
  for (const name of names) head.append(element('th', { scope: 'col' }, name));
  for (const title of titles) head.append(element('th', { scope: 'col', class: 'number' }, title));
  const body = element('tbody');
  for (const group of answer.groups) {
    if (paths.length === 0) continue;
    const row = element('tr');
    for (const [i, path] of paths.entries()) row.append(nameCell(group.group[path] ?? null, i === 0));
    row.append(...numberCells(group, hasValue));
    body.append(row);
  }
  const total = element('tr', { class: 'total' });
  total.append(element('th', { scope: 'row', colspan: String(names.length) }, 'All events'));
  total.append(...numberCells(answer.total, hasValue));
  body.append(total);
  const caption = element('caption', { class: 'hidden' }, 'Statistics by group');
  return scrollBox(
    'Statistics by group',
    element('table', { id: 'statistics-table' }, caption, element('thead', {}, head), body),
  );
}

function nameCell(value: string | null, isFirst: boolean): HTMLElement {
  const text =
    value === null || value === ''
      ? element('i', { class: 'muted' }, value === null ? 'none' : 'empty')
      : element('span', {}, value);
  return isFirst ? element('th', { scope: 'row' }, text) : element('td', {}, text);
}

function numberCells(summary: Summary, hasValue: boolean): HTMLElement[] {
  const texts = [
    count(summary.count),
    count(summary.unique_subjects),
    rate(summary.rate_per_s),
    millis(summary.lag_ms.p95),
  ];
  if (hasValue) texts.push(...valueFigures.map((name) => figure(summary.value?.[name])));
  return texts.map((text) => element('td', { class: 'number' }, text));
}
