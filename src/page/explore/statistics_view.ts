// Statistics of the explore view: asks GET /events/statistics and shows the answer as a plot, a table and a CSV file. Runs
// in the browser. An answer that is not whole says so before it shows a number.

import { fetchBlob, fetchJson } from '../api.ts';
import { element } from '../dom.ts';
import { countOf, dateTime, figure, millis, span } from '../format.ts';
import { TimePlot } from '../plot.ts';
import { problemBox } from '../problem_box.ts';
import { drawnMax, isStatistics, plotData, type Statistics } from './answer.ts';
import { type StatisticsQuestion, statisticsQuery } from './question.ts';
import { statisticsTable } from './statistics_table.ts';

const path = '/events/statistics';

export class StatisticsView {
  readonly root = element('div', { class: 'answer', 'aria-busy': 'false' });
  readonly #nowMs: () => number;
  #asking: AbortController | null = null;
  #plot: TimePlot | null = null;

  /** `nowMs`: the server's clock. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  async ask(question: StatisticsQuestion): Promise<void> {
    this.#asking?.abort();
    const asking = new AbortController();
    this.#asking = asking;
    this.root.setAttribute('aria-busy', 'true');
    const query = statisticsQuery(question, this.#nowMs());
    try {
      const reply = await fetchJson(`${path}?${query}`, { signal: asking.signal });
      this.#clear();
      if (!reply.isOk) this.root.append(problemBox(reply.problem));
      else if (isStatistics(reply.value)) this.#show(question, query, reply.value);
      this.root.setAttribute('aria-busy', 'false');
    } catch (error) {
      // Another question has taken its place.
      if (!asking.signal.aborted) throw error;
    }
  }

  #clear(): void {
    this.#plot?.dispose();
    this.#plot = null;
    this.root.replaceChildren();
  }

  #show(question: StatisticsQuestion, query: string, answer: Statistics): void {
    this.root.append(...warnings(answer));
    const from = dateTime(Date.parse(answer.from));
    const to = dateTime(Date.parse(answer.to));
    this.root.append(
      element(
        'p',
        { class: 'muted', 'data-figure': 'range' },
        `${countOf(answer.total.count, 'event')}, ${from} to ${to}, in buckets of ${span(answer.bucket_s)}.`,
      ),
    );
    this.#showPlot(question, answer);
    const listed = answer.groups.reduce((sum, { count }) => sum + count, 0);
    const more = answer.total.count - listed;
    if (more > 0)
      this.root.append(
        element('p', {}, `${countOf(more, 'event')} in smaller groups, which are not listed.`),
      );
    this.root.append(
      statisticsTable(answer, Object.keys(answer.groups[0]?.group ?? {})),
      this.#csvButton(query),
    );
  }

  #showPlot({ measure }: StatisticsQuestion, answer: Statistics): void {
    const data = plotData(answer, measure);
    if (data === null) {
      const where = answer.partial === true ? ' on the shards that answered' : '';
      this.root.append(element('p', {}, `There are no events in this range${where}.`));
      return;
    }
    const isSummed = measure === 'count' || measure === 'value_sum';
    const rest = answer.groups.length - data.drawn;
    const plot = new TimePlot({
      title: measure.replaceAll('_', ' '),
      unit: `in ${span(answer.bucket_s)}`,
      series: data.series,
      format: measure === 'lag_p95' ? millis : figure,
      range: () => data.range,
      isStepped: true,
    });
    this.#plot = plot;
    this.root.append(plot.root);
    if (rest > 0 && !isSummed)
      this.root.append(
        element(
          'p',
          { class: 'muted' },
          `The ${drawnMax} largest groups; this figure cannot be added up for the others.`,
        ),
      );
    plot.set(data.times, data.columns);
  }

  #csvButton(query: string): HTMLElement {
    const button = element('button', { type: 'button', id: 'download-csv' }, 'Download CSV');
    const line = element(
      'div',
      { class: 'buttons' },
      button,
      ' ',
      element('a', { href: `${path}?${query}` }, 'as JSON'),
    );
    button.addEventListener('click', async () => {
      button.disabled = true;
      const reply = await fetchBlob(`${path}?${query}`, 'text/csv');
      button.disabled = false;
      if (reply.isOk) save(reply.value, 'ess-statistics.csv');
      else line.append(problemBox(reply.problem));
    });
    return line;
  }
}

/** Everything that makes the numbers less than the whole truth. */
function warnings(answer: Statistics): HTMLElement[] {
  const texts: string[] = [];
  const shards = (numbers: readonly number[]): string => numbers.map((shard) => `shard ${shard}`).join(', ');
  if (answer.partial === true)
    texts.push(
      `PARTIAL: ${shards(answer.missing_shards ?? [])} did not answer. Its events are missing from every number.`,
    );
  if (answer.stale_shards !== undefined)
    texts.push(`STALE: ${shards(answer.stale_shards)} is behind. Its newest events may be missing.`);
  if (answer.groups_uncertain === true)
    texts.push(
      'A group that is not listed may be larger than one that is. The numbers of those listed are right.',
    );
  return texts.map((text) =>
    element(
      'p',
      { class: 'note warn', role: 'alert' },
      element('strong', { class: 'tone warn' }, text),
      ' ',
      element('a', { href: '/operations#store-node-down' }, 'What to do'),
    ),
  );
}

/** Hands a file to the browser's downloads. */
function save(blob: Blob, name: string): void {
  const href = URL.createObjectURL(blob);
  const link = element('a', { href, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  // The download has begun once the click was handled.
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}
