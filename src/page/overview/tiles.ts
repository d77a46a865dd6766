// The figures that are looked at first, as large numbers. Runs in the browser.

import type { LiveSnapshot, LiveStage } from '../../live/snapshot.ts';
import { element, setAttribute, setText } from '../dom.ts';
import { count, countOf, millis, rate, span, unknown } from '../format.ts';
import { isTroubled, type OverviewPart } from './part.ts';

interface TileValue {
  readonly value: string;
  readonly more: string;
  readonly isTroubled?: boolean;
}

interface Tile {
  readonly name: string;
  readonly title: string;
  readonly valueOf: (snapshot: LiveSnapshot) => TileValue;
}

const ofTenSeconds = 'of the last 10 s';

function percentile(stage: LiveStage, name: 'p50_ms' | 'p95_ms' | 'p99_ms'): string {
  return stage.count === 0 ? unknown : millis(stage[name]);
}

const tiles: readonly Tile[] = [
  {
    name: 'events',
    title: 'Events in, per second',
    valueOf: ({ events_per_s: events, requests_per_s: requests, refused_per_s: refused }) => ({
      value: rate(events),
      more:
        requests === null
          ? 'of the whole log'
          : `${rate(requests)} requests/s here, ${rate(refused)} refused`,
    }),
  },
  {
    name: 'stored',
    title: 'Stored, per second',
    valueOf: ({ stored_per_s: stored, conservation }) => ({
      value: rate(stored),
      more: `${count(conservation.stored)} in all`,
    }),
  },
  {
    // From the request being taken by a producer to its event being durable, which is when it is answered (ack=log).
    // The stages before it are named beside it: percentiles do not add up.
    name: 'answer',
    title: 'Answer latency p99',
    valueOf: ({ stages: { receive, ring, produce } }) => ({
      value: percentile(produce, 'p99_ms'),
      more:
        produce.count === 0
          ? 'no requests in the last 10 s'
          : `until durable; before: receive ${percentile(receive, 'p99_ms')}, ring ${percentile(ring, 'p99_ms')}`,
    }),
  },
  {
    name: 'end-to-end',
    title: 'Until readable, p99',
    valueOf: ({ stages: { end_to_end: stage } }) => ({
      value: percentile(stage, 'p99_ms'),
      more:
        stage.count === 0
          ? 'nothing stored here in the last 10 s'
          : `p50 ${percentile(stage, 'p50_ms')}, p95 ${percentile(stage, 'p95_ms')}, ${ofTenSeconds}`,
    }),
  },
  {
    name: 'lag',
    title: 'Lag',
    valueOf: (snapshot) => ({
      value: span(snapshot.lag.seconds),
      more: `${countOf(snapshot.lag.events, 'event')} not stored yet`,
      isTroubled: isTroubled(snapshot, 'lag'),
    }),
  },
  {
    name: 'slots',
    title: 'Slots used',
    valueOf: ({ slots }) =>
      slots === null
        ? { value: unknown, more: 'this role takes no events' }
        : { value: count(slots.used), more: `of ${count(slots.max)} requests in progress` },
  },
];

export class Tiles implements OverviewPart {
  readonly root = element('dl', { class: 'tiles' });
  readonly #shown = tiles.map((tile) => {
    const value = element('span', { class: 'value', 'data-figure': `tile-${tile.name}` });
    const more = element('span', { class: 'muted' });
    const box = element('div', { class: 'tile' });
    box.append(element('dt', {}, tile.title), element('dd', {}, value, more));
    this.root.append(box);
    return { tile, box, value, more };
  });

  show(snapshot: LiveSnapshot): void {
    for (const { tile, box, value, more } of this.#shown) {
      const now = tile.valueOf(snapshot);
      setText(value, now.value);
      setText(more, now.more);
      setAttribute(value, 'class', now.isTroubled === true ? 'value tone warn' : 'value');
      setAttribute(box, 'class', now.isTroubled === true ? 'tile warn' : 'tile');
    }
  }
}
