// Asks the running service about dead letters, and has it do something about them. Every failure becomes an EssError out
// of the closed list. Runs on the main thread of a command's process.

import { type ErrorCode, EssError, errorKinds } from '../../errors.ts';
import type { Position } from './options.ts';

/** The service waits for its store some seconds, for each of several letters whose replay nobody saw the end of. ms */
const answerWithinMs = 300_000;
const pageLetters = 1000;

export interface Letter extends Position {
  readonly state: string;
  readonly time: string;
  readonly code: string;
  readonly reason: string;
  readonly id: string | null;
  /** All that the service told. */
  readonly members: Readonly<Record<string, unknown>>;
}

/** What became of a letter. */
export interface Result extends Position {
  readonly state: string | null;
  readonly outcome: string;
  readonly stage: string | null;
  readonly replayedTo: Position | null;
  readonly code: string | null;
  readonly detail: string | null;
  readonly members: Readonly<Record<string, unknown>>;
}

type Members = Readonly<Record<string, unknown>>;

export class Service {
  readonly #url: URL;
  readonly #interrupt: AbortSignal;

  /** `url` ends with a slash. `interrupt` ends what only reads. */
  constructor(url: URL, interrupt: AbortSignal) {
    this.#url = url;
    this.#interrupt = interrupt;
  }

  /** The letters that stand so, in the order of their positions, as they are read. */
  async *letters(state: string): AsyncGenerator<Letter> {
    for (let cursor = ''; ; ) {
      const query = `state=${state}&limit=${pageLetters}${cursor}`;
      const { dead_letters: found, next_cursor: next } = membersOf(await this.#ask(`dead-letters?${query}`));
      if (!Array.isArray(found)) throw foreign();
      for (const letter of found) yield letterOf(letter);
      if (typeof next !== 'string') return;
      cursor = `&cursor=${encodeURIComponent(next)}`;
    }
  }

  /** One letter: its members, and its JSON as the service sent it. */
  async letter({ partition, offset }: Position): Promise<{ readonly letter: Letter; readonly json: string }> {
    const json = await this.#ask(`dead-letters?position=${partition}:${offset}`);
    return { letter: letterOf(membersOf(json)), json };
  }

  /** `event`: the JSON text of another event, for one letter alone. */
  replay(positions: readonly Position[], event: string | null): Promise<Result[]> {
    const [one] = positions;
    return this.#command('replay', event === null ? { letters: positions } : { ...one, event });
  }

  discard(positions: readonly Position[], reason: string): Promise<Result[]> {
    return this.#command('discard', { letters: positions, reason });
  }

  async #command(name: string, body: Members): Promise<Result[]> {
    const { results } = membersOf(await this.#ask(`dead-letters/${name}`, body));
    if (!Array.isArray(results)) throw foreign();
    return results.map(resultOf);
  }

  async #ask(path: string, body?: Members): Promise<string> {
    const url = new URL(path, this.#url);
    const signal = AbortSignal.timeout(answerWithinMs);
    const reading = AbortSignal.any([signal, this.#interrupt]);
    const post = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    };
    let status: number;
    let text: string;
    try {
      const response = await fetch(url, body === undefined ? { signal: reading } : { ...post, signal });
      status = response.status;
      text = await response.text();
    } catch (cause) {
      const code = body === undefined ? 'service_unreachable' : 'outcome_unknown';
      throw new EssError(code, `no answer from ${this.#url.href}: ${reasonOf(cause)}`, { cause });
    }
    if (status === 200) return text;
    const { code, detail } = membersOf(text);
    if (!isCode(code)) throw foreign();
    throw new EssError(code, String(detail));
  }
}

function letterOf(value: unknown): Letter {
  const members = objectOf(value);
  const { state, time, code, reason, id } = members;
  return {
    ...positionIn(members),
    state: String(state),
    time: String(time),
    code: String(code),
    reason: String(reason),
    id: typeof id === 'string' ? id : null,
    members,
  };
}

function resultOf(value: unknown): Result {
  const members = objectOf(value);
  const { state, outcome, stage, code, detail, replayed_to: to } = members;
  const text = (member: unknown): string | null => (typeof member === 'string' ? member : null);
  return {
    ...positionIn(members),
    state: text(state),
    outcome: String(outcome),
    stage: text(stage),
    replayedTo: to === undefined ? null : positionIn(objectOf(to)),
    code: text(code),
    detail: text(detail),
    members,
  };
}

function positionIn({ partition, offset }: Members): Position {
  if (typeof partition !== 'number' || typeof offset !== 'number') throw foreign();
  return { partition, offset };
}

function membersOf(text: string): Members {
  try {
    return objectOf(JSON.parse(text));
  } catch (error) {
    if (error instanceof SyntaxError) throw foreign();
    throw error;
  }
}

function objectOf(value: unknown): Members {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw foreign();
  return { ...value };
}

function isCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(errorKinds, value);
}

function foreign(): EssError {
  return new EssError('service_unreachable', 'what answers there is no ESS that knows dead letters so');
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return reasonOf(error.errors[0]);
  if (error instanceof Error && error.cause !== undefined) return reasonOf(error.cause);
  return error instanceof Error ? error.message : String(error);
}
