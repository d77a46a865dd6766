// Whether the store has an event, asked through the reader threads the way clients ask, so that all shards are. Runs
// on the main thread.

import { EssError } from '../errors.ts';
import type { GetHandler } from '../http/server.ts';
import type { LetterPlace } from '../log/log.ts';

/**
 * Where in the log the stored event of this identity comes from; null if no shard has it. Rejects with
 * `store_unavailable` where that cannot be said.
 */
export async function findStored(read: GetHandler, id: string, source: string): Promise<LetterPlace | null> {
  // Every byte is encoded: an id may be "statistics", or have a slash.
  const path = `/events/${Buffer.from(id).toString('hex').replace(/../g, '%$&')}`;
  const query = `source=${encodeURIComponent(source)}`;
  const request = { path, query, accept: 'application/json', ifNoneMatch: '' };
  const { status, body } = await read(request, new AbortController().signal);
  if (status === 404) return null;
  const text = typeof body === 'string' ? body : Buffer.from(body).toString();
  const answer: unknown = JSON.parse(text);
  if (typeof answer === 'object' && answer !== null) {
    if (status === 200 && 'partition' in answer && 'offset' in answer) {
      const { partition, offset } = answer;
      if (typeof partition === 'number' && typeof offset === 'number') return { partition, offset };
    }
    if ('detail' in answer) throw new EssError('store_unavailable', String(answer.detail));
  }
  throw new EssError('store_unavailable', `the store answered ${status}`);
}
