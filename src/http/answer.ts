// Writing answers to uWebSockets.js responses. Main thread only; every write is corked, so that status, headers and
// body leave in one packet.

import type { HttpResponse } from 'uWebSockets.js';
import { type ErrorCode, errorKinds, type ProblemExtras, problemJson } from '../errors.ts';

const statusTexts: Readonly<Record<number, string>> = {
  200: '200 OK',
  304: '304 Not Modified',
  400: '400 Bad Request',
  403: '403 Forbidden',
  404: '404 Not Found',
  405: '405 Method Not Allowed',
  408: '408 Request Timeout',
  409: '409 Conflict',
  413: '413 Content Too Large',
  415: '415 Unsupported Media Type',
  422: '422 Unprocessable Content',
  500: '500 Internal Server Error',
  503: '503 Service Unavailable',
};

export function statusLine(status: number): string {
  return statusTexts[status] ?? String(status);
}

export const jsonType = 'application/json';
export const problemType = 'application/problem+json';

/** Writes a whole answer. `mustClose` ends the connection: the rest of a body that nobody reads would clog it. */
export function sendAnswer(
  response: HttpResponse,
  status: number,
  contentType: string,
  body: string | Uint8Array,
  headers: Readonly<Record<string, string>> = {},
  mustClose = false,
): void {
  response.cork(() => {
    if (status !== 200) response.writeStatus(statusLine(status));
    response.writeHeader('content-type', contentType);
    for (const name in headers) response.writeHeader(name, headers[name] ?? '');
    response.end(body, mustClose);
  });
}

/** Writes a problem+json answer. */
export function sendProblem(
  response: HttpResponse,
  code: ErrorCode,
  detail: string,
  options: {
    readonly extras?: ProblemExtras;
    readonly headers?: Readonly<Record<string, string>>;
    readonly mustClose?: boolean;
  } = {},
): void {
  const { extras, headers, mustClose } = options;
  sendAnswer(
    response,
    errorKinds[code].status,
    problemType,
    problemJson(code, detail, extras),
    headers,
    mustClose,
  );
}

/** Answers HEAD, and 304: status and headers as GET would get them, but no body, which would pass for the next answer. */
export function sendHead(
  response: HttpResponse,
  status: number,
  contentType: string,
  bodyBytes: number,
  headers: Readonly<Record<string, string>>,
): void {
  response.cork(() => {
    if (status !== 200) response.writeStatus(statusLine(status));
    response.writeHeader('content-type', contentType);
    for (const name in headers) response.writeHeader(name, headers[name] ?? '');
    // Given the length as an argument, endWithoutBody would go on waiting for that body and never free the connection.
    response.writeHeader('content-length', String(bodyBytes));
    response.endWithoutBody();
  });
}

/** Bodies up to this size are given to the socket in one go. */
const chunkBytes = 256 * 1024;

/** Writes a large body piece by piece as the client takes it; `isGone` tells that the client went away. */
export function sendLarge(
  response: HttpResponse,
  status: number,
  contentType: string,
  body: Uint8Array,
  headers: Readonly<Record<string, string>>,
  isGone: () => boolean,
): void {
  if (body.length <= chunkBytes) {
    sendAnswer(response, status, contentType, body, headers);
    return;
  }
  response.cork(() => {
    if (status !== 200) response.writeStatus(statusLine(status));
    response.writeHeader('content-type', contentType);
    for (const name in headers) response.writeHeader(name, headers[name] ?? '');
    const start = response.getWriteOffset();
    const pump = (): boolean => {
      for (;;) {
        const sent = response.getWriteOffset() - start;
        const [hasTaken, isDone] = response.tryEnd(body.subarray(sent, sent + chunkBytes), body.length);
        if (isDone) return true;
        if (!hasTaken) return false;
      }
    };
    if (!pump()) response.onWritable(() => isGone() || pump());
  });
}
