// The way that one event has gone: its stages with time and place, and how long each took. Runs in the browser.

import { isObject } from '../api.ts';
import { element } from '../dom.ts';
import { dateTime, millis } from '../format.ts';

export interface JourneyStage {
  readonly stage: string;
  /** RFC 3339; null if it was not recorded. */
  readonly time: string | null;
  /** Where: a partition and offset, a shard. */
  readonly place: string | null;
}

const titles: Readonly<Record<string, string>> = {
  received: 'Received',
  durable: 'Durable in the log',
  stored: 'Stored, can be read',
};

/** The journey of an answer of GET /events/{id}. */
export function journeyOf(event: Readonly<Record<string, unknown>>): JourneyStage[] {
  const given = event['journey'];
  if (Array.isArray(given) && given.length > 0) {
    return given.filter(isObject).map(({ stage, time, place }) => ({
      stage: String(stage),
      time: typeof time === 'string' ? time : null,
      place: typeof place === 'string' ? place : null,
    }));
  }
  const text = (name: string): string | null => (typeof event[name] === 'string' ? event[name] : null);
  return [
    { stage: 'received', time: text('ingest_time'), place: null },
    { stage: 'durable', time: null, place: `partition ${event['partition']}, offset ${event['offset']}` },
    { stage: 'stored', time: text('store_time'), place: null },
  ];
}

/** The journey as a list from first to last. */
export function journeyList(stages: readonly JourneyStage[]): HTMLElement {
  const list = element('ol', { class: 'journey', 'aria-label': 'Journey of the event' });
  let before: number | null = null;
  for (const { stage, time, place } of stages) {
    const at = time === null ? null : Date.parse(time);
    const entry = element('li', { 'data-stage': stage }, element('strong', {}, titles[stage] ?? stage));
    if (at !== null && time !== null) entry.append(' ', element('time', { datetime: time }, dateTime(at)));
    else entry.append(' ', element('span', { class: 'muted' }, 'time not recorded'));
    if (at !== null && before !== null)
      entry.append(' ', element('span', { class: 'tag' }, `after ${millis(at - before)}`));
    if (place !== null) entry.append(element('br'), element('span', { class: 'muted' }, place));
    list.append(entry);
    if (at !== null) before = at;
  }
  return list;
}
