// The threads of this process: who lives, how busy each is, how full its ring. Runs in the browser.

import type { LiveSnapshot, LiveThread } from '../../live/snapshot.ts';
import { element, panel, scrollBox, setText } from '../dom.ts';
import { bytes, count, millis, percent, unknown } from '../format.ts';
import { LiveTable } from '../table.ts';
import { type OverviewPart, troubledCell } from './part.ts';

export class Threads implements OverviewPart {
  readonly root: HTMLElement;
  readonly #line = element('p', { class: 'muted' });
  readonly #table = new LiveTable<LiveThread>('Threads of this process', [
    { title: 'Thread', cell: ({ name }) => name },
    {
      title: 'State',
      cell: ({ alive }) =>
        alive ? { text: 'running', tone: 'good' } : troubledCell('not running', 'worker_down'),
    },
    {
      title: 'Busy',
      isNumber: true,
      cell: ({ utilization }) => ({ text: percent(utilization), share: utilization }),
    },
    {
      title: 'Ring filled',
      isNumber: true,
      cell: ({ ring_used_bytes: used, ring_bytes: size }) =>
        used === null || size === null || size === 0
          ? unknown
          : { text: `${bytes(used)} of ${bytes(size)}`, share: used / size },
    },
    { title: 'Restarts', isNumber: true, cell: ({ restarts }) => count(restarts) },
  ]);

  constructor() {
    this.root = panel('Threads', 'threads', this.#line, scrollBox('Threads', this.#table.root));
  }

  show({ threads, stages, rss_bytes: rss }: LiveSnapshot): void {
    const { event_loop_delay: delay } = stages;
    const late = delay.count === 0 ? unknown : `p50 ${millis(delay.p50_ms)}, p99 ${millis(delay.p99_ms)}`;
    setText(this.#line, `Event-loop delay of the main thread: ${late}. Memory (RSS): ${bytes(rss)}.`);
    this.#table.set(threads);
  }
}
