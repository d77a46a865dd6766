// The page's files as the service answers them: types, caching, policy; and that each trouble leads to its section.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { type TroubleKind, troubleAnchor, troubleKinds } from '../../src/live/troubles.ts';
import { assertProblem, outcomeOf } from '../http/answers.ts';
import { EssProcess } from '../support/ess_process.ts';

/** The page must load quickly over a slow line, bytes. */
const programBytesMax = 150 * 1024;

describe('the files of the page', () => {
  let ess: EssProcess;
  before(async () => {
    ess = await EssProcess.start();
  });
  after(() => ess.dispose());

  const get = (path: string, init: RequestInit = {}) => fetch(ess.url + path, init);

  /** Paths of the program and the style, as the page names them. */
  async function assets(): Promise<{
    readonly program: string;
    readonly style: string;
    readonly icon: string;
  }> {
    const html = await (await get('/')).text();
    const pathOf = (pattern: RegExp): string => {
      const [path] = pattern.exec(html) ?? [];
      assert.ok(path !== undefined, html);
      return path;
    };
    return {
      program: pathOf(/\/app-\w+\.js/),
      style: pathOf(/\/app-\w+\.css/),
      icon: pathOf(/\/icon-\w+\.svg/),
    };
  }

  test('/ is a page that may use nothing from outside and is asked about each time', async () => {
    const page = await get('/');
    assert.equal(page.status, 200);
    assert.equal(page.headers.get('content-type'), 'text/html; charset=utf-8');
    assert.equal(page.headers.get('x-content-type-options'), 'nosniff');
    const policy = page.headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'self'/);
    assert.doesNotMatch(policy, /unsafe|\*|data:/);
    assert.equal(page.headers.get('cache-control'), 'no-cache');
    const html = await page.text();
    assert.doesNotMatch(
      html,
      /<script(?![^>]*\ssrc=)|<style|\son\w+=|https?:/,
      'nothing inline, nothing from outside',
    );
  });

  test('what has not changed is not sent again', async () => {
    for (const path of ['/', '/operations', ...Object.values(await assets())]) {
      const first = await get(path);
      const etag = first.headers.get('etag') ?? '';
      const { byteLength } = await first.arrayBuffer();
      assert.match(etag, /^"[\w-]+"$/, path);
      for (const tags of [etag, `W/${etag}`, `"x", ${etag}`, '*']) {
        const again = await get(path, { headers: { 'if-none-match': tags } });
        assert.equal(again.status, 304, `${path} ${tags}`);
        assert.equal(await again.text(), '');
        assert.equal(again.headers.get('etag'), etag);
      }
      assert.equal((await get(path, { headers: { 'if-none-match': '"x"' } })).status, 200);
      const head = await get(path, { method: 'HEAD' });
      assert.equal(head.status, 200);
      assert.equal(head.headers.get('content-length'), String(byteLength));
    }
  });

  test('program and style have a hash in their names and may be kept for ever', async () => {
    const { program, style, icon } = await assets();
    for (const [path, type] of [
      [program, 'text/javascript; charset=utf-8'],
      [style, 'text/css; charset=utf-8'],
      [icon, 'image/svg+xml'],
    ] as const) {
      const answer = await get(path);
      assert.equal(answer.status, 200);
      assert.equal(answer.headers.get('content-type'), type);
      assert.match(answer.headers.get('cache-control') ?? '', /max-age=31536000, immutable/);
      const { byteLength } = await answer.arrayBuffer();
      assert.ok(byteLength < programBytesMax, `${path} has ${byteLength} bytes`);
    }
  });

  test('what is not there is a problem, and nothing may be sent to a page', async () => {
    for (const path of ['/index.html', '/app.js', '/page/', '/../package.json', '/%2e%2e/ess.js', '/ess.js'])
      assertProblem(await outcomeOf(await get(path)), 'not_found');
    assertProblem(await outcomeOf(await get('/', { method: 'POST', body: '{}' })), 'method_not_allowed');
  });

  test('every kind of trouble has its section at /operations', {
    skip: existsSync('docs/operations.md') ? false : 'docs/operations.md is not there',
  }, async () => {
    const html = await (await get('/operations')).text();
    for (const kind of Object.keys(troubleKinds)) {
      const anchor = troubleAnchor(kind as TroubleKind);
      assert.ok(html.includes(` id="${anchor}"`), `/operations has no #${anchor}`);
    }
    const anchors = [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    assert.equal(new Set(anchors).size, anchors.length, 'an anchor is there twice');
    for (const [, target = ''] of html.matchAll(/href="#([^"]+)"/g))
      assert.ok(anchors.includes(decodeURIComponent(target)), `/operations has no #${target}`);
  });
});
