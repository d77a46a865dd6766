// One plot over time: uPlot with the page's colours, a legend that is text, and a width that follows its place. Runs in
// the browser. A series differs from the others by its dashes too, not by colour alone.

import uPlot from 'uplot';
import { element, setText } from './dom.ts';
import { clockTime } from './format.ts';

/** More cannot be told apart. The last one stands for the rest. */
export const plotSeriesMax = 11;

const height = 190;
const dashes: readonly (readonly number[])[] = [[], [7, 3], [2, 3], [10, 3, 2, 3]];

export interface PlotSeries {
  readonly label: string;
  /** In grey: what is left over. */
  readonly isRest?: boolean;
}

export interface PlotOptions {
  readonly title: string;
  /** Short, behind the title: "per second". */
  readonly unit: string;
  readonly series: readonly PlotSeries[];
  readonly format: (value: number | null | undefined) => string;
  /** What the axis shows, epoch seconds. */
  readonly range: () => readonly [number, number];
  /** Values belong to the whole time up to the next one. */
  readonly isStepped?: boolean;
  /** Plots with the same name show the same time under the pointer. */
  readonly syncName?: string;
}

export type PlotColumn = readonly (number | null)[];

const darkScheme = window.matchMedia('(prefers-color-scheme: dark)');

export class TimePlot {
  readonly root: HTMLElement;
  readonly #options: PlotOptions;
  readonly #box = element('div', { class: 'plot-box', role: 'img' });
  readonly #values: HTMLElement[] = [];
  readonly #time = element('span', { class: 'muted' });
  readonly #observer: ResizeObserver;
  readonly #redraw = (): void => this.#plot?.redraw(false, true);
  #plot: uPlot | null = null;
  #times: readonly number[] = [];
  #columns: readonly PlotColumn[] = [];

  constructor(options: PlotOptions) {
    this.#options = options;
    const legend = element('ul', { class: 'legend' });
    for (const [i, { label, isRest = false }] of options.series.entries()) {
      const value = element('b');
      this.#values.push(value);
      const swatch = element('span', { class: 'swatch', 'aria-hidden': 'true' });
      swatch.style.setProperty('--colour', `var(${colourName(i, isRest)})`);
      swatch.dataset['dash'] = String(i % dashes.length);
      legend.append(element('li', {}, swatch, `${label} `, value));
    }
    this.root = element(
      'figure',
      { class: 'plot' },
      element(
        'figcaption',
        {},
        element('b', {}, options.title),
        ' ',
        element('span', { class: 'muted' }, options.unit),
        ' ',
        this.#time,
      ),
      this.#box,
      legend,
    );
    this.#box.setAttribute('aria-label', `${options.title}, ${options.unit}, over time`);
    this.#observer = new ResizeObserver(() => this.#resize());
    this.#observer.observe(this.#box);
    darkScheme.addEventListener('change', this.#redraw);
  }

  /** Times in epoch seconds, rising; a column for each series. */
  set(times: readonly number[], columns: readonly PlotColumn[]): void {
    this.#times = times;
    this.#columns = columns;
    this.#resize();
    this.#plot?.setData(this.#data());
    this.#showValues(this.#plot?.cursor.idx ?? null);
  }

  dispose(): void {
    this.#observer.disconnect();
    darkScheme.removeEventListener('change', this.#redraw);
    this.#plot?.destroy();
  }

  #data(): uPlot.AlignedData {
    return [[...this.#times], ...this.#columns.map((column) => [...column])];
  }

  /** Made only where it has a width: a hidden view has none. */
  #resize(): void {
    const width = Math.floor(this.#box.clientWidth);
    if (width === 0) return;
    if (this.#plot === null) this.#plot = new uPlot(this.#uplotOptions(width), this.#data(), this.#box);
    else if (this.#plot.width !== width) this.#plot.setSize({ width, height });
  }

  #uplotOptions(width: number): uPlot.Options {
    const { series, format, range, isStepped = false, syncName } = this.#options;
    const stepped = uPlot.paths.stepped?.({ align: 1 });
    const axis = {
      stroke: () => colour('--muted'),
      grid: grid(),
      ticks: grid(),
      font: '12px system-ui, sans-serif',
    };
    return {
      width,
      height,
      legend: { show: false },
      padding: [10, 24, 0, 0],
      cursor: {
        y: false,
        drag: { x: false, y: false },
        points: { size: 6 },
        ...(syncName === undefined ? {} : { sync: { key: syncName } }),
      },
      scales: {
        x: { time: true, range: () => [...range()] as [number, number] },
        y: { range: (_plot, _min, max) => [0, max > 0 ? max * 1.08 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 28,
          space: 76,
          values: (_plot, splits, _axis, _space, step) => splits.map((at) => axisTime(at, step)),
        },
        { ...axis, size: 64, values: (_plot, splits) => splits.map((value) => format(value)) },
      ],
      series: [
        {},
        ...series.map(({ label, isRest = false }, i) => ({
          label,
          stroke: () => colour(colourName(i, isRest)),
          width: 1.75,
          dash: [...(dashes[i % dashes.length] ?? [])],
          // A point shows what stands alone between two holes.
          points: { show: false },
          spanGaps: false,
          ...(isStepped && stepped !== undefined ? { paths: stepped } : {}),
        })),
      ],
      hooks: { setCursor: [(plot) => this.#showValues(plot.cursor.idx ?? null)] },
    };
  }

  /** The values under the pointer; else the latest, which of steps would be one that is not over yet: none. */
  #showValues(index: number | null): void {
    const { format, isStepped = false } = this.#options;
    const at = index ?? this.#times.length - 1;
    const isSilent = isStepped && index === null;
    for (const [i, value] of this.#values.entries())
      setText(value, isSilent ? '' : format(this.#columns[i]?.[at] ?? null));
    const time = this.#times[at];
    setText(this.#time, index === null || time === undefined ? '' : `at ${clockTime(time * 1000)}`);
  }
}

function colourName(index: number, isRest: boolean): string {
  return isRest ? '--series-rest' : `--series-${(index % (plotSeriesMax - 1)) + 1}`;
}

function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name);
}

function grid(): uPlot.Axis.Grid {
  return { stroke: () => colour('--line'), width: 1 };
}

/** `stepSeconds`: from one mark to the next. */
function axisTime(seconds: number, stepSeconds: number): string {
  const date = new Date(seconds * 1000);
  const time = clockTime(seconds * 1000);
  const day = `${String(date.getMonth() + 1).padStart(2, '0')}-${String(date.getDate()).padStart(2, '0')}`;
  if (stepSeconds >= 86_400 * 28) return `${date.getFullYear()}-${day.slice(0, 2)}`;
  if (stepSeconds >= 86_400) return day;
  if (time === '00:00:00') return day;
  return stepSeconds < 60 ? time : time.slice(0, 5);
}
