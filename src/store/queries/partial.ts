// How an answer says that it may be smaller than it should be, because shards did not answer or are behind: in JSON by
// members that are only there then, and by headers, whatever the format. Runs on reader threads.

import type { FanOut } from './fan_out.ts';

export interface PartialMembers {
  readonly partial?: true;
  /** Shards that did not answer, ascending. */
  readonly missing_shards?: readonly number[];
  /** Shards whose newest events may be missing, ascending. */
  readonly stale_shards?: readonly number[];
}

/** The members of a JSON answer; none if it is whole. */
export function partialMembers({ missing, stale }: FanOut): PartialMembers {
  return {
    ...(missing.length === 0 ? {} : { partial: true, missing_shards: missing }),
    ...(stale.length === 0 ? {} : { stale_shards: stale }),
  };
}

/** The same as text to be put behind the last member of an object: empty or beginning with a comma. */
export function partialText(fanOut: FanOut): string {
  const text = JSON.stringify(partialMembers(fanOut)).slice(1, -1);
  return text === '' ? '' : `,${text}`;
}

/** The headers of an answer in any format; none if it is whole. */
export function partialHeaders({ missing, stale }: FanOut): Record<string, string> {
  return {
    ...(missing.length === 0 ? {} : { 'ess-partial': `shards=${missing.join(',')}` }),
    ...(stale.length === 0 ? {} : { 'ess-stale': `shards=${stale.join(',')}` }),
  };
}
