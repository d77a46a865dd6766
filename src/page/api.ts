// The page's requests to the service's own HTTP interface. Runs in the browser. A problem is an answer like any other: it
// is shown as the service words it.

/** An RFC 9457 problem as ESS answers it. */
export interface Problem {
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly action: string;
  /** Of `ambiguous_id`. */
  readonly sources: readonly string[];
  /** Shards that did not answer. */
  readonly missingShards: readonly number[];
}

export type Reply<T> =
  | { readonly isOk: true; readonly value: T; readonly response: Response }
  | { readonly isOk: false; readonly problem: Problem };

/** Asks for JSON. Rejects only if `signal` is aborted. */
export function fetchJson(path: string, init: RequestInit = {}): Promise<Reply<unknown>> {
  return send(path, init, async (response): Promise<unknown> => response.json());
}

/** Asks for another type than JSON. Rejects only if `signal` is aborted. */
export function fetchBlob(path: string, accept: string): Promise<Reply<Blob>> {
  return send(path, { headers: { accept } }, (response) => response.blob());
}

async function send<T>(
  path: string,
  init: RequestInit,
  read: (response: Response) => Promise<T>,
): Promise<Reply<T>> {
  try {
    const response = await fetch(path, init);
    if (!response.ok) return { isOk: false, problem: readProblem(response.status, await response.text()) };
    return { isOk: true, value: await read(response), response };
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    const detail = error instanceof Error ? error.message : String(error);
    return { isOk: false, problem: { ...noProblem, title: 'The server does not answer', detail } };
  }
}

const noProblem: Problem = {
  title: '',
  status: 0,
  code: '',
  detail: '',
  action: 'See whether the server runs and can be reached from here.',
  sources: [],
  missingShards: [],
};

function readProblem(status: number, text: string): Problem {
  const value = parse(text);
  return {
    title: textOf(value['title'], `Status ${status}`),
    status,
    code: textOf(value['code'], ''),
    detail: textOf(value['detail'], text.slice(0, 500)),
    action: textOf(value['action'], ''),
    sources: listOf(value['sources'], (item) => typeof item === 'string'),
    missingShards: listOf(value['missing_shards'], (item) => typeof item === 'number'),
  };
}

function parse(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

/** True for JSON objects: members may then be read, each of any kind. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function textOf(value: unknown, otherwise: string): string {
  return typeof value === 'string' ? value : otherwise;
}

function listOf<T extends string | number>(value: unknown, isWanted: (item: unknown) => item is T): T[] {
  return Array.isArray(value) ? value.filter(isWanted) : [];
}
