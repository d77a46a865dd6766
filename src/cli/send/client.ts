// Posts one batch and says what its answer means. Retrying is not done here: the sender decides with the whole run in
// view.

import { Agent as HttpAgent, request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { EssError, errorKinds } from '../../errors.ts';

/** A socket on which nothing happens for so long is given up: well beyond the service's own deadline of 10 s. */
const silenceMsMax = 30_000;
/** An answer names each rejected event: 100,000 of them with long messages. */
const answerBytesMax = 64 * 1024 * 1024;

/** One rejected event of a batch. */
export interface Rejection {
  /** Position in the batch, from 0. */
  readonly index: number;
  readonly code: string;
  readonly message: string;
}

export type Answer =
  /** Every event was accepted or rejected; `rejections` may name fewer than `rejected`. */
  | { readonly type: 'settled'; readonly rejected: number; readonly rejections: readonly Rejection[] }
  /** Send the same batch again, after `waitMs` if the service said so. */
  | { readonly type: 'retry'; readonly reason: string; readonly waitMs: number | null }
  /** The batch was refused as a whole for what is in it: send its halves, or reject its only event. */
  | { readonly type: 'narrow'; readonly code: string; readonly message: string }
  /** Every further batch would meet the same. */
  | { readonly type: 'fatal'; readonly reason: string };

export interface ClientOptions {
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly isGzip: boolean;
  /** Connections at once. */
  readonly concurrency: number;
}

export class Client {
  readonly #options: ClientOptions;
  readonly #agent: HttpAgent;

  constructor(options: ClientOptions) {
    this.#options = options;
    const agentOptions = { keepAlive: true, maxSockets: options.concurrency };
    this.#agent =
      options.url.protocol === 'https:' ? new HttpsAgent(agentOptions) : new HttpAgent(agentOptions);
  }

  /** Posts a body of `count` events. Never rejects. */
  async post(body: Buffer, count: number): Promise<Answer> {
    try {
      const { status, headers, text } = await this.#exchange(body);
      return classify(status, headers, text, count, Date.now());
    } catch (error) {
      return { type: 'retry', reason: connectionReason(error), waitMs: null };
    }
  }

  /** Closes connections that are kept open. */
  close(): void {
    this.#agent.destroy();
  }

  #exchange(body: Buffer): Promise<{ status: number; headers: IncomingHttpHeaders; text: string }> {
    const { url, headers, isGzip } = this.#options;
    const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const outgoing = request(
        url,
        {
          method: 'POST',
          agent: this.#agent,
          timeout: silenceMsMax,
          headers: {
            ...headers,
            'content-type': 'application/x-ndjson',
            'content-length': body.length,
            ...(isGzip ? { 'content-encoding': 'gzip' } : {}),
          },
        },
        (response) => {
          const chunks: Buffer[] = [];
          let bytes = 0;
          response.on('data', (chunk: Buffer) => {
            bytes += chunk.length;
            if (bytes > answerBytesMax)
              response.destroy(new EssError('outcome_unknown', 'the answer is too large'));
            else chunks.push(chunk);
          });
          response.on('error', reject);
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
          });
        },
      );
      outgoing.on('timeout', () => {
        outgoing.destroy(new EssError('outcome_unknown', `no answer for ${silenceMsMax / 1000} s`));
      });
      outgoing.on('error', reject);
      outgoing.end(body);
    });
  }
}

/** What an answer to a batch of `count` events means. Pure, so that every case can be tested without a server. */
export function classify(
  status: number,
  headers: IncomingHttpHeaders,
  text: string,
  count: number,
  nowMs: number,
): Answer {
  const body = parseObject(text);
  const waitMs = retryAfterMs(headers['retry-after'], nowMs);
  const reason = problemText(status, body);
  // 408 and 425 ask for another attempt as 503 does; 500, 502 and 504 come from what stands between, or from a fault.
  if ([408, 425, 429, 500, 502, 503, 504].includes(status)) return { type: 'retry', reason, waitMs };
  if (status === 200 || status === 422) {
    const settled = settledAnswer(body, count);
    if (settled !== null) {
      const open = settled.rejections.find(({ code }) => canRetry(code));
      if (open === undefined) return settled;
      return { type: 'retry', reason: `${open.code}: ${open.message}`, waitMs };
    }
  }
  const code = typeof body?.['code'] === 'string' ? body['code'] : `http_${status}`;
  if (status === 413)
    return { type: 'narrow', code: code === 'http_413' ? 'too_large' : code, message: reason };
  // A wrong query parameter is wrong in every batch.
  const isAboutContent = (status === 400 || status === 422) && code !== 'invalid_parameter';
  if (isAboutContent && body !== null) return { type: 'narrow', code, message: reason };
  const isStrange = status >= 200 && status < 300;
  return { type: 'fatal', reason: isStrange ? `not an answer of an event service: ${reason}` : reason };
}

function settledAnswer(
  body: Readonly<Record<string, unknown>> | null,
  count: number,
): Extract<Answer, { type: 'settled' }> | null {
  const { accepted, rejected, errors = [] } = body ?? {};
  if (typeof accepted !== 'number' || typeof rejected !== 'number' || !Array.isArray(errors)) return null;
  if (accepted + rejected !== count || accepted < 0 || rejected < 0) return null;
  const rejections: Rejection[] = [];
  for (const error of errors) {
    const { index, code, message }: Record<string, unknown> = Object(error);
    if (typeof index !== 'number' || !Number.isInteger(index) || index < 0 || index >= count) return null;
    rejections.push({ index, code: String(code), message: String(message ?? '') });
  }
  return rejections.length > rejected ? null : { type: 'settled', rejected, rejections };
}

function canRetry(code: string): boolean {
  return Object.entries(errorKinds).some(([name, kind]) => name === code && kind.canRetry);
}

function parseObject(text: string): Readonly<Record<string, unknown>> | null {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return null;
    return value as Record<string, unknown>;
  } catch {
    return null;
  }
}

function problemText(status: number, body: Readonly<Record<string, unknown>> | null): string {
  const words = [body?.['code'], body?.['title'], body?.['detail']].filter(
    (word) => typeof word === 'string',
  );
  return `HTTP status ${status}${words.length === 0 ? '' : ` ${words.join(': ')}`}`;
}

function retryAfterMs(value: string | undefined, nowMs: number): number | null {
  if (value === undefined) return null;
  const ms = /^\d{1,9}$/.test(value) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}

function connectionReason(error: unknown): string {
  // A refused connection to a name with several addresses comes as an AggregateError without a message.
  if (error instanceof AggregateError && error.errors.length > 0) return connectionReason(error.errors[0]);
  return error instanceof Error ? error.message : String(error);
}
