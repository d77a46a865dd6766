// GET /debug/pprof/profile and /debug/pprof/heap: profiles in pprof's format, gzipped, on the paths where Go services
// have them, so that `go tool pprof` and scrapers of profiles need no telling.

import { EssError, problemJson } from '../errors.ts';
import { problemType } from './answer.ts';
import type { Answer, GetRequest } from './server.ts';

const secondsDefault = 10;
const secondsMax = 60;

/** A profile, or another one of its kind is under way. */
export type CollectedProfile =
  | {
      readonly type: 'profile';
      /** Gzipped profile.proto. */
      readonly bytes: Uint8Array;
      /** Threads that were asked and gave nothing. */
      readonly missing: readonly string[];
    }
  | { readonly type: 'busy'; readonly retryAfterS: number };

/** Where profiles come from. Both reject with `invalid_parameter`, `overloaded`, `platform_unsupported`, `stopping`. */
export interface ProfileSource {
  /** Samples the stack of one thread, or of all, for some seconds; shorter if the client goes away. */
  time(seconds: number, thread: string | null, client: AbortSignal): Promise<CollectedProfile>;
  /** The live allocations of one thread, or of all. */
  heap(thread: string | null, client: AbortSignal): Promise<CollectedProfile>;
}

/** Answers with `seconds` and `thread` as parameters. `source` is null while the option is off. */
export async function timeProfileAnswer(
  source: ProfileSource | null,
  request: GetRequest,
  client: AbortSignal,
): Promise<Answer> {
  if (source === null) throw profilesAreOff();
  const given = parameters(request.query, ['seconds', 'thread']);
  const text = given.get('seconds') ?? String(secondsDefault);
  const seconds = /^\d{1,3}$/.test(text) ? Number(text) : 0;
  if (seconds < 1 || seconds > secondsMax) {
    throw new EssError(
      'invalid_parameter',
      `seconds must be a whole number from 1 to ${secondsMax}, not "${text}"`,
    );
  }
  return profileAnswer('profile', await source.time(seconds, given.get('thread') ?? null, client));
}

/** Answers with `thread` as a parameter. `source` is null while the option is off. */
export async function heapProfileAnswer(
  source: ProfileSource | null,
  request: GetRequest,
  client: AbortSignal,
): Promise<Answer> {
  if (source === null) throw profilesAreOff();
  const given = parameters(request.query, ['thread']);
  return profileAnswer('heap', await source.heap(given.get('thread') ?? null, client));
}

function profilesAreOff(): EssError {
  return new EssError(
    'not_found',
    'profiles are off: start this process with --debug-profiles on (ESS_DEBUG_PROFILES=on)',
  );
}

function parameters(query: string, names: readonly string[]): ReadonlyMap<string, string> {
  const given = new Map<string, string>();
  for (const [name, value] of new URLSearchParams(query)) {
    if (!names.includes(name)) {
      throw new EssError(
        'invalid_parameter',
        `unknown parameter "${name}"; there is only ${names.join(' and ')}`,
      );
    }
    if (given.has(name)) throw new EssError('invalid_parameter', `${name} is given twice`);
    given.set(name, value);
  }
  return given;
}

function profileAnswer(name: string, collected: CollectedProfile): Answer {
  if (collected.type === 'busy') {
    const { retryAfterS } = collected;
    return {
      status: 503,
      contentType: problemType,
      body: problemJson('overloaded', `another ${name} is being collected; it is done in ${retryAfterS} s`),
      headers: { 'retry-after': String(retryAfterS) },
    };
  }
  const { bytes, missing } = collected;
  return {
    status: 200,
    contentType: 'application/octet-stream',
    body: bytes,
    headers: {
      'content-disposition': `attachment; filename="${name}.pb.gz"`,
      // As reads say which shards are missing.
      ...(missing.length > 0 ? { 'ess-partial': `threads=${missing.join(',')}` } : {}),
    },
  };
}
