// The second view: statistics by range, type and group, and the look-up of one event. Runs in the browser. The address holds
// the whole question, so that it can be kept and shared; the forms only write it.

import { element, panel } from '../dom.ts';
import { type Lag, Lookup } from './lookup.ts';
import { type Question, readHash, writeHash } from './question.ts';
import { StatisticsForm } from './statistics_form.ts';
import { StatisticsView } from './statistics_view.ts';

export interface ExploreParts {
  /** The server's clock, epoch ms. */
  readonly nowMs: () => number;
  /** How far the store is behind; null if it is not known. */
  readonly lag: () => Lag | null;
}

export class Explore {
  readonly #root: HTMLElement;
  readonly #form: StatisticsForm;
  readonly #statistics: StatisticsView;
  readonly #lookup: Lookup;
  /** What is shown now. */
  #statisticsKey: string | null = null;
  #lookupKey: string | null = null;

  constructor(root: HTMLElement, parts: ExploreParts) {
    this.#root = root;
    this.#statistics = new StatisticsView(parts.nowMs);
    this.#form = new StatisticsForm(() => {
      // Asked again although nothing has changed: there may be new events.
      this.#statisticsKey = null;
      this.#go({ ...readHash(location.hash), statistics: this.#form.question });
    });
    this.#lookup = new Lookup({
      onAsk: (lookup) => {
        this.#lookupKey = null;
        this.#go({ ...readHash(location.hash), lookup });
      },
      lag: parts.lag,
    });
    const hint = element(
      'p',
      { class: 'muted' },
      'A path is type, source, subject or any member of an event: country, data.origin, items.0.price.',
    );
    root.append(
      panel('Statistics', 'statistics', this.#form.root, hint, this.#statistics.root),
      panel('One event', 'lookup', this.#lookup.form, this.#lookup.answer),
    );
  }

  /** Shows what the address asks; null hides the view. */
  show(hash: string | null): void {
    this.#root.hidden = hash === null;
    if (hash === null) return;
    const { statistics, lookup } = readHash(hash);
    const statisticsKey = JSON.stringify(statistics);
    if (statisticsKey !== this.#statisticsKey) {
      this.#statisticsKey = statisticsKey;
      this.#form.question = statistics;
      void this.#statistics.ask(statistics);
    }
    const lookupKey = JSON.stringify(lookup);
    if (lookupKey !== this.#lookupKey) {
      this.#lookupKey = lookupKey;
      this.#lookup.question = lookup;
      void this.#lookup.ask(lookup);
    }
  }

  #go(question: Question): void {
    const hash = writeHash(question);
    if (hash === location.hash) this.show(hash);
    else location.hash = hash;
  }
}
