// The form of the explore view's statistics. Runs in the browser. Paths and types are typed as the HTTP interface takes
// them.

import { element, field, select } from '../dom.ts';
import { buckets, clocks, measures, type Range, ranges, type StatisticsQuestion } from './question.ts';

const rangeTexts: Readonly<Record<Range, string>> = {
  '15m': 'last 15 minutes',
  '1h': 'last hour',
  '24h': 'last 24 hours',
  all: 'all there is',
  custom: 'from … to …',
};

const measureTexts = {
  count: 'count',
  unique_subjects: 'unique subjects',
  lag_p95: 'lag p95 (arrival until stored)',
  value_sum: 'value: sum',
  value_avg: 'value: average',
  value_p95: 'value: p95',
} as const;

const clockTexts = { time: "events' own time", ingest: 'time of arrival' } as const;

export class StatisticsForm {
  readonly root = element('form', { class: 'form' });
  readonly #range = select(
    'range',
    ranges.map((range) => [range, rangeTexts[range]] as const),
  );
  readonly #from = element('input', { type: 'datetime-local', name: 'from', step: '1' });
  readonly #to = element('input', { type: 'datetime-local', name: 'to', step: '1' });
  readonly #clock = select(
    'clock',
    clocks.map((clock) => [clock, clockTexts[clock]] as const),
  );
  readonly #type = textInput('type', 'all types');
  readonly #groupBy = textInput('group_by', 'country');
  readonly #value = textInput('value', 'amount');
  readonly #bucket = select(
    'bucket',
    buckets.map((bucket) => [bucket, bucket] as const),
  );
  readonly #measure = select(
    'show',
    measures.map((measure) => [measure, measureTexts[measure]] as const),
  );
  readonly #custom = [field('From', this.#from), field('To', this.#to)];

  constructor(onSubmit: () => void) {
    this.root.append(
      field('Range', this.#range),
      ...this.#custom,
      field('Clock', this.#clock),
      field('Type', this.#type),
      field('Group by', this.#groupBy, 'path, or several with commas'),
      field('Value', this.#value, 'path to numbers'),
      field('Bucket', this.#bucket),
      field('Plot', this.#measure),
      element('div', { class: 'buttons' }, element('button', { type: 'submit' }, 'Show')),
    );
    this.#range.addEventListener('change', () => this.#showCustom());
    this.root.addEventListener('submit', (event) => {
      event.preventDefault();
      onSubmit();
    });
  }

  get question(): StatisticsQuestion {
    return {
      range: pick(ranges, this.#range.value),
      from: utcText(this.#from.value),
      to: utcText(this.#to.value),
      clock: pick(clocks, this.#clock.value),
      type: this.#type.value.trim(),
      groupBy: this.#groupBy.value.trim(),
      value: this.#value.value.trim(),
      bucket: pick(buckets, this.#bucket.value),
      measure: pick(measures, this.#measure.value),
    };
  }

  set question(question: StatisticsQuestion) {
    this.#range.value = question.range;
    this.#from.value = localText(question.from);
    this.#to.value = localText(question.to);
    this.#clock.value = question.clock;
    this.#type.value = question.type;
    this.#groupBy.value = question.groupBy;
    this.#value.value = question.value;
    this.#bucket.value = question.bucket;
    this.#measure.value = question.measure;
    this.#showCustom();
  }

  #showCustom(): void {
    for (const part of this.#custom) part.hidden = this.#range.value !== 'custom';
  }
}

export function textInput(name: string, placeholder: string): HTMLInputElement {
  return element('input', {
    type: 'text',
    name,
    placeholder,
    autocomplete: 'off',
    autocapitalize: 'off',
    spellcheck: 'false',
  });
}

/** The option that is chosen; a select has no other values than those it was made with. */
function pick<T extends string>(values: readonly [T, ...T[]], text: string): T {
  return values.find((value) => value === text) ?? values[0];
}

/** What a datetime-local input has, which is in the browser's time zone, as RFC 3339 in UTC; empty if it is no time. */
function utcText(local: string): string {
  const date = new Date(local);
  return Number.isNaN(date.getTime()) ? '' : date.toISOString();
}

function localText(utc: string): string {
  const date = new Date(utc);
  if (Number.isNaN(date.getTime())) return '';
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
