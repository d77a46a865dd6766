// The list of ClickHouse nodes: "http://a:8123,http://b:8123;http://c:8123" are two replicas of one shard, and a
// second shard of one node.

/** Every shard needs a partition of its own, and there are at most this many (the option `partitions`). */
const shardsMax = 1024;

/** What a list of nodes must be and `text` is not, in words after "but must"; null if it is one. */
export function shardsFault(text: string): string | null {
  const shards = parseShards(text);
  return typeof shards === 'string' ? shards : null;
}

/**
 * The nodes' origins ("http://a:8123") by shard and replica, in the order given; or, as one text, what the list must
 * be and is not, in words after "but must". An empty text is a fault too.
 */
export function parseShards(text: string): string[][] | string {
  const known = new Set<string>();
  const shards: string[][] = [];
  for (const shard of text.split(';')) {
    const replicas: string[] = [];
    for (const part of shard.split(',')) {
      const origin = nodeOrigin(part.trim());
      if (typeof origin !== 'string') return origin.fault;
      // As two replicas or two shards it would have every block twice, or both halves of the events.
      if (known.has(origin)) return `name every node once, and has ${origin} twice`;
      known.add(origin);
      replicas.push(origin);
    }
    shards.push(replicas);
  }
  if (shards.length > shardsMax) return `have at most ${shardsMax} shards`;
  return shards;
}

function nodeOrigin(text: string): string | { readonly fault: string } {
  if (text === '') {
    return {
      fault: 'be URLs separated by commas (replicas) and semicolons (shards), with nothing empty between',
    };
  }
  const fault = { fault: 'be URLs like http://HOST:8123 or https://HOST:8443' };
  // Spelt out, since the parser takes http:a and http:\\a too.
  if (!/^https?:\/\/[^/\\]/i.test(text)) return fault;
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return fault;
  }
  if (url.username !== '' || url.password !== '' || text.includes('@')) {
    return {
      fault:
        'have no user or password in a URL: set --clickhouse-user, and --clickhouse-password-file or ESS_CLICKHOUSE_PASSWORD',
    };
  }
  if (url.pathname !== '/' || /[?#]/.test(text))
    return { fault: 'have URLs without a path, a query or a fragment' };
  return url.origin;
}
