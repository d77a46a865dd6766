// Rates, answer latency and end-to-end lag over the last ten minutes, as gathered while the page is open. Runs in the
// browser.

import type { LiveSnapshot } from '../../live/snapshot.ts';
import { element } from '../dom.ts';
import { millis, rate } from '../format.ts';
import type { History, HistoryColumn } from '../history.ts';
import { TimePlot } from '../plot.ts';
import type { OverviewPart } from './part.ts';

/** A page that was just opened has little to show: the axis grows with it, from this on, s. */
const shortestSeconds = 60;

interface Kind {
  readonly title: string;
  readonly unit: string;
  readonly format: (value: number | null | undefined) => string;
  readonly series: readonly (readonly [label: string, column: HistoryColumn])[];
}

const kinds: readonly Kind[] = [
  {
    title: 'Events',
    unit: 'per second',
    format: rate,
    series: [
      ['in', 'events_per_s'],
      ['stored', 'stored_per_s'],
    ],
  },
  {
    title: 'Answer latency',
    unit: 'until durable, 10 s windows',
    format: millis,
    series: [
      ['p50', 'produce_p50'],
      ['p95', 'produce_p95'],
      ['p99', 'produce_p99'],
    ],
  },
  {
    title: 'End-to-end lag',
    unit: 'until readable, 10 s windows',
    format: millis,
    series: [
      ['p50', 'end_to_end_p50'],
      ['p95', 'end_to_end_p95'],
      ['p99', 'end_to_end_p99'],
    ],
  },
];

export class Plots implements OverviewPart {
  readonly root = element('section', { class: 'plots', 'aria-label': 'The last ten minutes' });
  readonly #history: History;
  readonly #plots: readonly { readonly plot: TimePlot; readonly columns: readonly HistoryColumn[] }[];

  constructor(history: History) {
    this.#history = history;
    const range = (): readonly [number, number] => {
      const last = history.times.at(-1) ?? Date.now() / 1000;
      const gathered = last - (history.times[0] ?? last);
      return [last - Math.max(gathered, shortestSeconds), last];
    };
    this.#plots = kinds.map(({ title, unit, format, series }) => {
      const labels = series.map(([label]) => ({ label }));
      const plot = new TimePlot({ title, unit, format, range, series: labels, syncName: 'overview' });
      this.root.append(plot.root);
      return { plot, columns: series.map(([, column]) => column) };
    });
  }

  show(_snapshot: LiveSnapshot): void {
    const { times } = this.#history;
    for (const { plot, columns } of this.#plots)
      plot.set(
        times,
        columns.map((name) => this.#history.column(name)),
      );
  }
}
