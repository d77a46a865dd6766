// Events that were parked: how many, and why the latest were. Runs in the browser.

import type { LiveDeadLetter, LiveSnapshot } from '../../live/snapshot.ts';
import { element, panel, scrollBox, setAttribute, setText, troubleHref } from '../dom.ts';
import { count, dateTime } from '../format.ts';
import { LiveTable } from '../table.ts';
import type { OverviewPart } from './part.ts';

export class DeadLetters implements OverviewPart {
  readonly root: HTMLElement;
  readonly #total = element('a', { 'data-figure': 'dead-letters' });
  readonly #table = new LiveTable<LiveDeadLetter>('Latest dead letters', [
    { title: 'Place', cell: ({ partition, offset }) => `partition ${partition}, offset ${offset}` },
    { title: 'Time', cell: ({ time }) => dateTime(Date.parse(time)) },
    { title: 'Id', cell: ({ id }) => id ?? 'no event' },
    { title: 'Code', cell: ({ code }) => code },
    { title: 'Reason', cell: ({ reason }) => reason },
  ]);
  readonly #box = scrollBox('Latest dead letters', this.#table.root);

  constructor() {
    const all = element('a', { href: '/dead-letters' }, 'All of them, with their events');
    this.root = panel('Dead letters', 'dead-letters', element('p', {}, this.#total, ' ', all), this.#box);
  }

  show({ dead_letters: { total, latest } }: LiveSnapshot): void {
    const text =
      total === null
        ? 'Not known here.'
        : total === 0
          ? 'None.'
          : `${count(total)} parked: durable, not in the statistics.`;
    const isAny = total !== null && total > 0;
    setText(this.#total, text);
    setAttribute(this.#total, 'class', isAny ? 'tone warn' : null);
    setAttribute(this.#total, 'href', isAny ? troubleHref('dead_letters') : null);
    this.#box.hidden = latest.length === 0;
    this.#table.set(latest);
  }
}
