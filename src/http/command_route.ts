// POST requests of people that change something: small JSON bodies, answered when what they ask for is done. Only pages of
// this very host may send them, and only as application/json, which no foreign form can. Main thread only.

import type { HttpRequest, HttpResponse } from 'uWebSockets.js';
import { type ErrorCode, EssError, errorKinds, problemJson } from '../errors.ts';
import { jsonType, problemType, sendAnswer, sendProblem } from './answer.ts';
import { PartialBody } from './partial_body.ts';
import { isSameHost } from './same_host.ts';
import type { Answer } from './server.ts';

/** One path that takes such requests. What `run` rejects with becomes a problem document. */
export interface CommandRoute {
  readonly bodyBytesMax: number;
  readonly run: (body: Buffer) => Promise<Answer>;
}

/** The uWebSockets.js handler. `request` is dead once this returns. */
export function takeCommand(
  { bodyBytesMax, run }: CommandRoute,
  response: HttpResponse,
  request: HttpRequest,
): void {
  const origin = request.getHeader('origin');
  const host = request.getHeader('host');
  const mediaType = (request.getHeader('content-type').split(';')[0] ?? '').trim().toLowerCase();
  if (!isSameHost(origin, host)) {
    sendProblem(response, 'forbidden', `a page of ${origin} may not change anything on ${host}`);
    return;
  }
  if (mediaType !== jsonType || request.getHeader('content-encoding') !== '') {
    const headers = { accept: jsonType };
    sendProblem(response, 'unsupported_media_type', 'send it as application/json, not compressed', {
      headers,
    });
    return;
  }
  let isOver = false;
  const body = new PartialBody();
  response.onAborted(() => {
    isOver = true;
  });
  const send = ({ status, contentType, body: text, headers }: Answer): void => {
    if (isOver) return;
    isOver = true;
    sendAnswer(response, status, contentType, text, headers);
  };
  response.onData((chunk, isLast) => {
    if (isOver) return;
    if (body.bytes + chunk.byteLength > bodyBytesMax) {
      isOver = true;
      sendProblem(response, 'too_large', `the body has more than ${bodyBytesMax} bytes`, { mustClose: true });
      return;
    }
    body.add(new Uint8Array(chunk));
    if (!isLast) return;
    const whole = Buffer.allocUnsafe(body.bytes);
    body.copyTo(whole, 0);
    body.clear();
    run(whole).then(send, (error: unknown) => send(problemOf(error)));
  });
}

function problemOf(error: unknown): Answer {
  const code: ErrorCode = error instanceof EssError ? error.code : 'internal';
  const { status, canRetry } = errorKinds[code];
  return {
    status,
    contentType: problemType,
    body: problemJson(code, error instanceof Error ? error.message : String(error)),
    ...(canRetry && error instanceof EssError ? { headers: { 'retry-after': '1' } } : {}),
  };
}
