// What is wrong, at the top of the overview: each trouble with what it means for the data and where to read what to do.
// Runs in the browser.

import type { LiveSnapshot } from '../../live/snapshot.ts';
import { type Trouble, type TroubleKind, troubleKinds } from '../../live/troubles.ts';
import { element, setText, troubleHref } from '../dom.ts';
import type { OverviewPart } from './part.ts';

export class TroublesList implements OverviewPart {
  readonly root = element('section', { class: 'troubles', 'aria-label': 'What is wrong' });
  readonly #list = element('ul');
  readonly #allWell = element('p', { class: 'all-well' });
  #kinds: readonly TroubleKind[] = [];
  #texts: readonly HTMLElement[] = [];

  constructor() {
    this.root.append(this.#allWell, this.#list);
  }

  show({ troubles, status }: LiveSnapshot): void {
    this.#allWell.hidden = troubles.length > 0 || status !== 'ready';
    setText(this.#allWell, 'Nothing is wrong: events are taken, stored and accounted for.');
    // The texts have numbers that move; the entries themselves stay, so that a link keeps its focus.
    if (this.#kinds.join() !== troubles.map(({ kind }) => kind).join()) this.#make(troubles);
    for (const [i, { text }] of troubles.entries()) {
      const node = this.#texts[i];
      if (node !== undefined) setText(node, text);
    }
  }

  #make(troubles: readonly Trouble[]): void {
    this.#kinds = troubles.map(({ kind }) => kind);
    const texts: HTMLElement[] = [];
    const entries = troubles.map(({ kind }) => {
      // A newer server may know a kind that this page does not.
      const { level, title, meaning } = troubleKinds[kind] ?? troubleKinds.other;
      const text = element('span');
      texts.push(text);
      const tone = level === 'error' ? 'bad' : 'warn';
      return element(
        'li',
        { class: `note ${tone}`, 'data-kind': kind },
        element(
          'p',
          {},
          element('strong', { class: `tone ${tone}` }, title),
          element('span', { class: 'tag' }, level),
        ),
        element('p', {}, text),
        element('p', { class: 'muted' }, meaning),
        element('p', {}, element('a', { href: troubleHref(kind) }, `What to do about it: ${kind}`)),
      );
    });
    this.#list.replaceChildren(...entries);
    this.#texts = texts;
  }
}
