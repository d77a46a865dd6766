// The consumer group: its state, its members and when it was last dealt out. Runs in the browser.

import type { LiveMember, LiveSnapshot } from '../../live/snapshot.ts';
import { element, panel, scrollBox, setAttribute, setText, troubleHref } from '../dom.ts';
import { ago, clockTime, count, countOf } from '../format.ts';
import { LiveTable } from '../table.ts';
import type { OverviewPart } from './part.ts';

export class Group implements OverviewPart {
  readonly root: HTMLElement;
  readonly #name = element('b');
  readonly #state = element('a');
  readonly #more = element('span', { class: 'muted' });
  readonly #table = new LiveTable<LiveMember>('Members of the consumer group', [
    { title: 'Member', cell: ({ name, is_here: isHere }) => (isHere ? `${name} (here)` : name) },
    { title: 'Host', cell: ({ host }) => host },
    { title: 'Partitions', isNumber: true, cell: ({ partitions }) => count(partitions.length) },
    { title: 'Which', cell: ({ partitions }) => ranges(partitions) },
  ]);

  constructor() {
    const line = element('p', {}, this.#name, ' ', this.#state, ' ', this.#more);
    this.root = panel(
      'Consumer group',
      'group',
      line,
      scrollBox('Members of the consumer group', this.#table.root),
    );
  }

  show({ group, time_ms: nowMs }: LiveSnapshot): void {
    this.root.hidden = group === null;
    if (group === null) return;
    const { id, state, members, last_rebalance_ms: lastMs, rebalances } = group;
    const isStable = state === 'Stable';
    setText(this.#name, id);
    setText(this.#state, state);
    setAttribute(this.#state, 'class', `tone ${isStable ? 'good' : 'warn'}`);
    setAttribute(this.#state, 'href', isStable ? null : troubleHref('group_unstable'));
    const last = lastMs === null ? 'none yet' : `${clockTime(lastMs)}, ${ago(lastMs, nowMs)}`;
    setText(
      this.#more,
      `${countOf(members.length, 'member')}. Last rebalance here: ${last}; ${count(rebalances)} in all.`,
    );
    this.#table.set(members);
  }
}

/** 0-3, 7, 9-11 */
export function ranges(numbers: readonly number[]): string {
  const pieces: string[] = [];
  let first: number | null = null;
  let last: number | null = null;
  const close = (): void => {
    if (first !== null && last !== null) pieces.push(first === last ? `${first}` : `${first}-${last}`);
  };
  for (const number of [...numbers].sort((a, b) => a - b)) {
    if (last === null || number !== last + 1) {
      close();
      first = number;
    }
    last = number;
  }
  close();
  return pieces.join(', ');
}
