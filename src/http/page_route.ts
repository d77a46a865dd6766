// The page: the files that the build put beside the program, read once at start and answered from memory. Main thread
// only. What has a hash in its name may be kept for ever; the pages themselves are asked about each time, by their ETag.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { Answer, GetHandler, GetRequest } from './server.ts';

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
  '.json': 'application/json',
};

/** Paths of files whose names are not their paths. */
const pagePaths: Readonly<Record<string, string>> = {
  'index.html': '/',
  'operations.html': '/operations',
  // The HTTP interface for programs that read OpenAPI.
  'openapi.json': '/openapi.json',
};

/** Nothing from elsewhere, nothing inline, and no other page may frame it. */
const securityHeaders = {
  'content-security-policy':
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};

const asked = 'no-cache';
const forEver = 'public, max-age=31536000, immutable';

/** A handler for each path of the page. A build without the page has a text at `/` that says so. */
export function pageHandlers(folder: string): Map<string, GetHandler> {
  const handlers = new Map<string, GetHandler>();
  for (const name of fileNames(folder)) {
    const contentType = types[extname(name)];
    if (contentType === undefined) continue;
    const path = pagePaths[name];
    const cacheControl = path === undefined ? forEver : asked;
    handlers.set(
      path ?? `/${name}`,
      fileHandler(readFileSync(join(folder, name)), contentType, cacheControl),
    );
  }
  if (!handlers.has('/')) {
    const text =
      'This build has no page; the figures are at /stats, the interface is described in docs/api.md.\n';
    handlers.set('/', fileHandler(Buffer.from(text), 'text/plain; charset=utf-8', asked));
  }
  return handlers;
}

function fileNames(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function fileHandler(body: Uint8Array, contentType: string, cacheControl: string): GetHandler {
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
  const headers = { ...securityHeaders, etag, 'cache-control': cacheControl };
  const whole: Answer = { status: 200, contentType, body, headers };
  const unchanged: Answer = { ...whole, status: 304 };
  return async ({ ifNoneMatch }: GetRequest) => (matches(ifNoneMatch, etag) ? unchanged : whole);
}

/** RFC 9110, 13.1.2: a list of tags, compared without regard to W/. */
function matches(ifNoneMatch: string, etag: string): boolean {
  return ifNoneMatch.split(',').some((tag) => {
    const text = tag.trim();
    return text === '*' || text.replace(/^W\//, '') === etag;
  });
}
