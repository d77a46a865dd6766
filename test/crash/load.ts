// Clients that send without a pause and note every answer: single events, batches, retries of what was promised and
// of what nobody knows.

import { setTimeout as sleep } from 'node:timers/promises';
import type { EssProcess } from '../support/ess_process.ts';
import type { Journal, Outcome, SentEvent } from './journal.ts';
import { between, pick, type Random } from './random.ts';

export interface LoadOptions {
  /** Clients at the same time. */
  readonly clients?: number;
  /** Share of new events that are poisoned, 0..1. */
  readonly poisonShare?: number;
  /** Whether events are sent again, and some are sent twice in one batch. Default true. */
  readonly hasRetries?: boolean;
  /** Pause of each client between two requests, ms. Default 0. */
  readonly pauseMs?: number;
  /** Hears of every request's end. */
  readonly onAnswer?: OnAnswer;
}

/** How one request ended. */
export interface Answered {
  /** From the request to the whole answer, or to the news that none will come, ms. */
  readonly ms: number;
  /** Null if no whole answer came. */
  readonly status: number | null;
  /** What was wrong: with the request, or with each of its events. */
  readonly codes: readonly string[];
}

export type OnAnswer = (answered: Answered) => void;

/** Sends until `isOver`, or until the process is gone. */
export async function load(
  ess: EssProcess,
  journal: Journal,
  random: Random,
  isOver: () => boolean,
  options: LoadOptions = {},
): Promise<void> {
  const { clients = 12, poisonShare = 0, hasRetries = true, pauseMs = 0, onAnswer } = options;
  const create = (): SentEvent => journal.create(random() < poisonShare);
  const client = async (): Promise<void> => {
    while (!isOver() && ess.isRunning) {
      if (pauseMs > 0) await sleep(pauseMs);
      const query = random() < 0.25 ? '?ack=store' : '?ack=log';
      const kind = random();
      if (kind < 0.6) await sendOne(ess, create(), query, onAnswer);
      else if (kind < 0.75) {
        const old = hasRetries ? pick(random, journal.retried) : undefined;
        await sendOne(ess, old ?? create(), query, onAnswer);
      } else {
        const batch = Array.from({ length: between(random, 2, 60) }, create);
        // Copies within a batch, of its own events and of older ones.
        for (let i = hasRetries ? between(random, 0, 5) : 0; i > 0; i -= 1) {
          const again = pick(random, random() < 0.5 ? batch : journal.retried);
          if (again !== undefined) batch.push(again);
        }
        await sendBatch(ess, batch, query, onAnswer);
      }
    }
  };
  await Promise.all(Array.from({ length: clients }, client));
}

interface AnswerJson {
  readonly code?: string;
  readonly accepted?: number;
  readonly errors?: readonly { readonly index: number; readonly code: string }[];
}

/** Sends one event and notes its outcome, which it gives. */
export async function sendOne(
  ess: EssProcess,
  event: SentEvent,
  query: string,
  onAnswer?: OnAnswer,
): Promise<Outcome> {
  const answer = await post(ess, event.json, query, 'application/json', onAnswer);
  const outcome =
    answer === null ? 'unknown' : answer.status === 200 ? 'promised' : outcomeOf(answer.json.code);
  event.outcomes.add(outcome);
  return outcome;
}

/** Sends events as NDJSON and notes the outcome of each. */
export async function sendBatch(
  ess: EssProcess,
  events: readonly SentEvent[],
  query: string,
  onAnswer?: OnAnswer,
): Promise<void> {
  const lines = events.map(({ json }) => json).join('\n');
  const answer = await post(ess, lines, query, 'application/x-ndjson', onAnswer);
  const errors = new Map(answer?.json.errors?.map(({ index, code }) => [index, code]));
  for (const [i, event] of events.entries()) {
    if (answer === null) event.outcomes.add('unknown');
    // A problem document speaks of the whole batch.
    else if (answer.json.errors === undefined) event.outcomes.add(outcomeOf(answer.json.code));
    else event.outcomes.add(errors.has(i) ? outcomeOf(errors.get(i)) : 'promised');
  }
}

/** Codes that say that nothing was taken. */
const refusals: readonly string[] = ['overloaded', 'stopping', 'log_unavailable', 'log_changed'];

function outcomeOf(code: string | undefined): Outcome {
  if (code === 'parked') return 'parked';
  return refusals.includes(code ?? '') ? 'refused' : 'unknown';
}

/** Null if no whole answer came. */
async function post(
  ess: EssProcess,
  body: string,
  query: string,
  contentType: string,
  onAnswer: OnAnswer | undefined,
): Promise<{ readonly status: number; readonly json: AnswerJson } | null> {
  const sentMs = performance.now();
  try {
    const response = await ess.post(body, query, contentType);
    const { status } = response;
    const json = (await response.json()) as AnswerJson;
    const codes = json.errors?.map(({ code }) => code) ?? (json.code === undefined ? [] : [json.code]);
    onAnswer?.({ ms: performance.now() - sentMs, status, codes });
    return { status, json };
  } catch {
    onAnswer?.({ ms: performance.now() - sentMs, status: null, codes: [] });
    // Killed, or about to be: let its end be noticed before the next try.
    await sleep(10);
    return null;
  }
}
