// Which ClickHouse nodes there are: shards, which divide the events between them, and each shard's replicas. Made once,
// on the main thread, from the configuration; travels to the worker threads as it is.

import { EssError } from '../errors.ts';
import type { EmbeddedTarget, HttpTarget, StoreLayout } from './store.ts';

/** ClickHouse nodes. */
export interface ClusterTarget {
  readonly kind: 'cluster';
  readonly shards: readonly (readonly HttpTarget[])[];
}

/** What the nodes of a cluster have in common. */
export type NodeAccess = Omit<HttpTarget, 'kind' | 'url'>;

/** The shard that has a partition's events, for ever: a change of the number of shards is a new layout. */
export function shardOf(partition: number, shards: number): number {
  return partition % shards;
}

/** All nodes of a store, whichever kind it is. */
export function layoutOf(target: EmbeddedTarget | ClusterTarget): StoreLayout {
  return target.kind === 'embedded' ? { shards: [[target]] } : { shards: target.shards };
}

/** A cluster whose nodes are all reached with the same user, database and TLS. */
export function clusterTarget({ shards }: ParsedCluster, access: NodeAccess): ClusterTarget {
  return {
    kind: 'cluster',
    shards: shards.map((replicas) => replicas.map(({ url }) => ({ kind: 'http', url, ...access }))),
  };
}

export interface ParsedCluster {
  /** By shard and replica, in the order given; `url` is "http(s)://host:port". */
  readonly shards: readonly (readonly { readonly url: string }[])[];
}

/**
 * Takes "http://a:8123,http://b:8123;http://c:8123" apart: `;` separates shards, `,` the replicas of one. Throws
 * EssError `bad_option`, naming the part that is wrong.
 */
export function parseCluster(text: string): ParsedCluster {
  const known = new Set<string>();
  const shards = text.split(';').map((shard, shardIndex) =>
    shard.split(',').map((part, replicaIndex) => {
      const url = parseNode(part.trim(), `replica ${replicaIndex + 1} of shard ${shardIndex + 1}`);
      // As two replicas it could not stand in for itself, as two shards it would have both halves of the events.
      if (known.has(url)) throw new EssError('bad_option', `--clickhouse: ${url} is there twice`);
      known.add(url);
      return { url };
    }),
  );
  return { shards };
}

function parseNode(text: string, place: string): string {
  // Before anything that would quote the text.
  if (text.includes('@')) {
    throw new EssError(
      'bad_option',
      `--clickhouse: ${place} has a user or password, which are options of their own`,
    );
  }
  const wrong = (what: string): EssError =>
    new EssError('bad_option', `--clickhouse: ${place} ${what}; expected a URL like http://HOST:8123`);
  if (text === '') throw wrong('is empty');
  // Spelt out, since the parser would take http:a too.
  if (!/^https?:\/\/[^/\\]/i.test(text) || !URL.canParse(text)) throw wrong(`is ${JSON.stringify(text)}`);
  const url = new URL(text);
  // The client would take a path for the name of a database.
  if (url.pathname !== '/' || /[?#]/.test(text))
    throw wrong(`is ${JSON.stringify(text)}, with more than an origin`);
  return url.origin;
}
