// The conservation line as an equation: what the log took is what became of it, or something is lost. Runs in the browser.

import type { LiveSnapshot } from '../../live/snapshot.ts';
import { element, panel, setAttribute, setText, troubleHref } from '../dom.ts';
import { count } from '../format.ts';
import type { OverviewPart } from './part.ts';

type Term = 'accepted' | 'stored' | 'duplicates' | 'parked' | 'holes' | 'in_flight';

const terms: readonly (readonly [sign: string, term: Term, label: string])[] = [
  ['', 'accepted', 'in the log'],
  ['=', 'stored', 'stored'],
  ['+', 'duplicates', 'duplicates'],
  ['+', 'parked', 'parked'],
  ['+', 'holes', 'holes'],
  ['+', 'in_flight', 'in flight'],
];

export class Conservation implements OverviewPart {
  readonly root: HTMLElement;
  readonly #values = new Map<Term, HTMLElement>();
  readonly #verdict = element('a');
  readonly #more = element('span', { class: 'muted' });

  constructor() {
    const line = element('p', { class: 'equation' });
    for (const [sign, term, label] of terms) {
      if (sign !== '') line.append(element('span', { class: 'sign' }, sign));
      const value = element('b', { 'data-figure': term });
      this.#values.set(term, value);
      line.append(element('span', { class: 'term' }, value, ' ', element('span', { class: 'muted' }, label)));
    }
    const verdict = element('p', { class: 'verdict' }, this.#verdict, ' ', this.#more);
    this.root = panel('Conservation', 'conservation', line, verdict);
  }

  show({ conservation }: LiveSnapshot): void {
    for (const [term, value] of this.#values) setText(value, count(conservation[term]));
    const { exact, memory_pending: pending } = conservation;
    const [text, tone] =
      exact === null
        ? (['Not known here: the store belongs to another process.', 'plain'] as const)
        : exact
          ? (['Exact: every record of the log is accounted for.', 'good'] as const)
          : (['NOT exact: this is a bug, keep the data.', 'bad'] as const);
    setText(this.#verdict, text);
    setAttribute(this.#verdict, 'class', `tone ${tone}`);
    setAttribute(this.#verdict, 'href', exact === false ? troubleHref('conservation') : null);
    setText(
      this.#more,
      pending > 0 ? `Beside it, ${count(pending)} answered with ack=memory, not in the log yet.` : '',
    );
  }
}
