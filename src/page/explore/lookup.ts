// Looks one event up by its id: the event and its journey, or what it means that it is not there. Runs in the browser.

import { fetchJson, isObject, type Problem } from '../api.ts';
import { element, field, troubleHref } from '../dom.ts';
import { count, countOf, dateTime, span } from '../format.ts';
import { problemBox } from '../problem_box.ts';
import { journeyList, journeyOf } from './journey.ts';
import type { LookupQuestion } from './question.ts';
import { textInput } from './statistics_form.ts';

export interface Lag {
  readonly events: number;
  readonly seconds: number;
}

/** Pages of dead letters that are searched for an id, each of `lettersPerPage`. */
const letterPagesMax = 10;
const lettersPerPage = 1000;

export interface LookupListener {
  onAsk(question: LookupQuestion): void;
  /** How far the store is behind; null if it is not known. */
  lag(): Lag | null;
}

export class Lookup {
  readonly form = element('form', { class: 'form' });
  readonly answer = element('div', { class: 'answer', 'aria-busy': 'false' });
  readonly #listener: LookupListener;
  readonly #id = textInput('event_id', 'order-1');
  readonly #source = textInput('event_source', 'any');
  #asking: AbortController | null = null;

  constructor(listener: LookupListener) {
    this.#listener = listener;
    this.#id.required = true;
    this.form.append(
      field('Id', this.#id),
      field('Source', this.#source, 'where several use the id'),
      element('div', { class: 'buttons' }, element('button', { type: 'submit' }, 'Look up')),
    );
    this.form.addEventListener('submit', (event) => {
      event.preventDefault();
      listener.onAsk(this.question);
    });
  }

  get question(): LookupQuestion {
    const source = this.#source.value;
    return { id: this.#id.value, source: source === '' ? null : source };
  }

  set question({ id, source }: LookupQuestion) {
    this.#id.value = id;
    this.#source.value = source ?? '';
  }

  async ask({ id, source }: LookupQuestion): Promise<void> {
    this.#asking?.abort();
    this.answer.replaceChildren();
    if (id === '') return;
    const asking = new AbortController();
    this.#asking = asking;
    this.answer.setAttribute('aria-busy', 'true');
    try {
      const shown = await this.#answerTo(id, source, asking.signal);
      if (!asking.signal.aborted) this.answer.replaceChildren(...shown);
    } catch (error) {
      // Another question has taken its place.
      if (!asking.signal.aborted) throw error;
      return;
    }
    this.answer.setAttribute('aria-busy', 'false');
  }

  async #answerTo(id: string, source: string | null, signal: AbortSignal): Promise<HTMLElement[]> {
    const path = eventPath(id, source);
    if (path === null)
      return [element('p', {}, 'No browser can ask for this id; curl can, with --path-as-is.')];
    const reply = await fetchJson(path, { signal });
    if (reply.isOk) return isObject(reply.value) ? eventBoxes(reply.value, path) : [];
    const { problem } = reply;
    if (problem.code === 'ambiguous_id') return [problemBox(problem), this.#sourcesList(id, problem)];
    if (problem.code !== 'not_found') return [problemBox(problem), ...this.#whatItMeans(false)];
    const letter = await findLetter(id, source, signal);
    return letter === null ? [problemBox(problem), ...this.#whatItMeans(true)] : [letterBox(letter)];
  }

  #sourcesList(id: string, { sources }: Problem): HTMLElement {
    const list = element('ul');
    for (const source of sources) {
      const text = source === '' ? '(empty source)' : source;
      const button = element('button', { type: 'button', class: 'quiet' }, text);
      button.addEventListener('click', () => this.#listener.onAsk({ id, source }));
      list.append(element('li', {}, button));
    }
    return list;
  }

  #whatItMeans(isSearched: boolean): HTMLElement[] {
    const lag = this.#listener.lag();
    const text =
      lag === null
        ? 'How far the store is behind is not known now.'
        : lag.events === 0
          ? 'The store is not behind: everything in the log is stored.'
          : `The store is behind now: ${countOf(lag.events, 'event')} not stored yet, the oldest waiting for ${span(lag.seconds)}.`;
    const list = element('ul');
    list.append(
      element('li', {}, 'It may not be stored yet. ', element('b', { 'data-figure': 'lag' }, text)),
      element(
        'li',
        {},
        'It may have been parked. ',
        isSearched
          ? `It is not among the ${count(letterPagesMax * lettersPerPage)} first dead letters. `
          : '',
        element('a', { href: '/dead-letters' }, 'All dead letters'),
      ),
      element('li', {}, 'It may never have been accepted: only an answer of 200 says that it was.'),
    );
    return [element('p', {}, 'What that can mean:'), list];
  }
}

/** Null for the two ids that a browser takes for folders. */
function eventPath(id: string, source: string | null): string | null {
  if (id === '.' || id === '..') return null;
  // /events/statistics is something else.
  const piece = id === 'statistics' ? '%73tatistics' : encodeURIComponent(id);
  return `/events/${piece}${source === null ? '' : `?source=${encodeURIComponent(source)}`}`;
}

function eventBoxes(event: Readonly<Record<string, unknown>>, path: string): HTMLElement[] {
  const { event: body, partial } = event;
  const boxes = [journeyList(journeyOf(event))];
  if (partial === true)
    boxes.unshift(
      element(
        'p',
        { class: 'note warn' },
        'PARTIAL: a shard did not answer; another event with this id may be there.',
      ),
    );
  const facts = element('dl', { class: 'facts' });
  for (const name of ['id', 'source', 'type', 'time'])
    facts.append(element('dt', {}, name), element('dd', {}, String(event[name] ?? '')));
  const json = element('code', { id: 'event-json' }, JSON.stringify(body, null, 2));
  return [
    ...boxes,
    facts,
    element('pre', { role: 'group', tabindex: '0', 'aria-label': 'The event as received' }, json),
    element('p', {}, element('a', { href: path }, 'The answer as JSON')),
  ];
}

type Letter = Readonly<Record<string, unknown>>;

/** The dead letter of an event; null if it is not among those that are searched. */
async function findLetter(id: string, source: string | null, signal: AbortSignal): Promise<Letter | null> {
  let cursor = '';
  for (let page = 0; page < letterPagesMax; page += 1) {
    const reply = await fetchJson(`/dead-letters?limit=${lettersPerPage}${cursor}`, { signal });
    if (!reply.isOk || !isObject(reply.value)) return null;
    const { dead_letters: letters, next_cursor: next } = reply.value;
    const found = Array.isArray(letters)
      ? letters
          .filter(isObject)
          .find((letter) => letter['id'] === id && (source === null || letter['source'] === source))
      : undefined;
    if (found !== undefined) return found;
    if (typeof next !== 'string') return null;
    cursor = `&cursor=${encodeURIComponent(next)}`;
  }
  return null;
}

function letterBox(letter: Letter): HTMLElement {
  const { partition, offset, time, code, reason, event } = letter;
  return element(
    'div',
    { class: 'note warn' },
    element(
      'p',
      {},
      element('strong', { class: 'tone warn' }, 'It was parked: durable, but the store refused it.'),
      ' ',
      element('a', { href: troubleHref('dead_letters') }, 'What to do'),
    ),
    element('p', {}, `${code}: ${reason}`),
    element(
      'p',
      { class: 'muted' },
      `partition ${partition}, offset ${offset}, ${dateTime(Date.parse(String(time)))}`,
    ),
    element(
      'pre',
      { tabindex: '0', 'aria-label': 'The event' },
      element('code', {}, JSON.stringify(event, null, 2)),
    ),
  );
}
