// What the answers of the service look like, and the state in which it must be once nothing is going on any more.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, errorKinds } from '../../src/errors.ts';
import type { EssProcess, StatsJson } from '../support/ess_process.ts';

export interface SingleAnswer {
  readonly id: string;
  readonly ack: string;
  readonly partition: number;
  readonly offset: number | null;
}

export interface BatchAnswer {
  readonly accepted: number;
  readonly rejected: number;
  readonly errors: readonly {
    readonly index: number;
    readonly code: string;
    readonly message: string;
    readonly id?: string;
  }[];
  readonly errors_omitted?: number;
  readonly ids?: readonly (string | null)[];
}

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ErrorCode;
  readonly detail: string;
  readonly action: string;
  readonly [extra: string]: unknown;
}

/** Any answer, taken apart. */
export interface Outcome {
  readonly status: number;
  readonly header: (name: string) => string | null;
  readonly text: string;
}

export async function outcomeOf(response: Response): Promise<Outcome> {
  return {
    status: response.status,
    header: (name) => response.headers.get(name),
    text: await response.text(),
  };
}

/** Checks an RFC 9457 answer down to its code and headers; gives its members. */
export function assertProblem(outcome: Outcome, code: ErrorCode): Problem {
  const { status, title, action } = errorKinds[code];
  assert.equal(outcome.status, status, outcome.text);
  assert.equal(outcome.header('content-type'), 'application/problem+json');
  const problem = JSON.parse(outcome.text) as Problem;
  assert.equal(problem.code, code, outcome.text);
  assert.deepEqual(
    [problem.type, problem.title, problem.status, problem.action],
    [`urn:ess:error:${code}`, title, status, action],
  );
  assert.equal(typeof problem.detail, 'string');
  const retryAfter = outcome.header('retry-after');
  if (status === 503) assert.match(retryAfter ?? '', /^[1-9]\d*$/);
  else assert.equal(retryAfter, null);
  return problem;
}

/** The problem that a response carries. */
export async function problemOf(response: Response | Promise<Response>, code: ErrorCode): Promise<Problem> {
  return assertProblem(await outcomeOf(await response), code);
}

/** The JSON of a response with this status. */
export async function jsonOf<T>(response: Response | Promise<Response>, status = 200): Promise<T> {
  const { status: got, text, header } = await outcomeOf(await response);
  assert.equal(got, status, text);
  assert.equal(header('content-type'), 'application/json');
  return JSON.parse(text) as T;
}

/** How long the service may take to come to rest, ms. */
const restWaitMs = 60_000;

/**
 * Waits until nothing is in progress: no slot, no byte of a body, no event on its way. Then everything must be
 * answering and adding up.
 */
export async function atRest(ess: EssProcess): Promise<StatsJson> {
  const untilMs = Date.now() + restWaitMs;
  for (;;) {
    const stats = await ess.drained(restWaitMs);
    const { slots, conservation } = stats;
    assert.equal(conservation.exact, true);
    if (slots.used === 0) {
      assert.equal(slots.store_used, 0);
      assert.equal(slots.pending_bytes, 0);
      assert.equal(
        conservation.accepted,
        conservation.stored + conservation.duplicates + conservation.parked,
      );
      assert.equal((await fetch(`${ess.url}/healthz`)).status, 200);
      return stats;
    }
    assert.ok(Date.now() < untilMs, `not at rest: ${JSON.stringify(slots)}`);
    await sleep(20);
  }
}

/** Waits until /stats shows what is asked for. */
export async function statsUntil(ess: EssProcess, holds: (stats: StatsJson) => boolean): Promise<StatsJson> {
  const untilMs = Date.now() + restWaitMs;
  for (;;) {
    const stats = await ess.getJson<StatsJson>('/stats');
    if (holds(stats)) return stats;
    assert.ok(Date.now() < untilMs, `it never came: ${JSON.stringify({ ...stats, stages: undefined })}`);
    await sleep(10);
  }
}
