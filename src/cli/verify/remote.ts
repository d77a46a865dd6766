// `ess verify` by a running process: GET /verify, which may take as long as it takes. Runs on the main thread of the
// command's process.

import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { StoreError } from '../../store/store.ts';

/** How often it is asked how far it is, ms. */
const progressEveryMs = 500;

/** The address of the process that these options start, seen from this machine. */
export function addressOf({ host, port }: Config): string {
  const anyHost = new Map([
    ['0.0.0.0', '127.0.0.1'],
    ['::', '::1'],
  ]);
  const name = anyHost.get(host) ?? host;
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`;
}

/**
 * The JSON of GET /verify. `onProgress`: null if nobody looks. Rejects with EssError `store_unavailable` if it does not
 * answer, or with its own problem.
 */
export async function verifyRemotely(
  url: string,
  isDeep: boolean,
  signal: AbortSignal,
  onProgress: ((done: number, total: number) => void) | null,
): Promise<string> {
  const base = url.endsWith('/') ? url : `${url}/`;
  const watch =
    onProgress === null ? null : setInterval(() => void lookAtProgress(base, onProgress), progressEveryMs);
  try {
    const { status, body } = await get(new URL(`verify?deep=${isDeep ? 1 : 0}`, base), signal);
    if (status === 200) return body;
    throw new EssError('store_unavailable', `${url} answered ${status}: ${problemText(body)}`);
  } catch (error) {
    if (error instanceof EssError) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    throw new EssError('store_unavailable', `${url} does not answer: ${reason}`, { cause: error });
  } finally {
    if (watch !== null) clearInterval(watch);
  }
}

async function lookAtProgress(
  base: string,
  onProgress: (done: number, total: number) => void,
): Promise<void> {
  try {
    const { body } = await get(new URL('verify/progress', base), AbortSignal.timeout(progressEveryMs * 4));
    const { done, total } = JSON.parse(body) as { readonly done?: unknown; readonly total?: unknown };
    if (typeof done === 'number' && typeof total === 'number' && total > 0) onProgress(done, total);
  } catch {
    // It is only shown.
  }
}

/** Not fetch: that gives up an answer that does not begin within five minutes. */
function get(url: URL, signal: AbortSignal): Promise<{ readonly status: number; readonly body: string }> {
  return new Promise((resolve, reject) => {
    const onResponse = (response: IncomingMessage): void => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.once('error', reject);
      response.once('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      );
    };
    const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
    send(url, { signal, agent: false }, onResponse).once('error', reject).end();
  });
}

function problemText(body: string): string {
  try {
    const { detail } = JSON.parse(body) as { readonly detail?: unknown };
    if (typeof detail === 'string') return detail;
  } catch {
    // Not an ESS, or something before it.
  }
  return body.slice(0, 200);
}

/** Why nothing was proven, in words. */
export function failureText(error: unknown): string | null {
  return error instanceof EssError || error instanceof StoreError ? error.message : null;
}
