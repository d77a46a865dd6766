// docs/openapi.yaml as the service answers it: valid OpenAPI, complete in routes, methods and errors, and true: real
// answers keep to the schemas that it gives them.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { type ErrorCode, errorKinds } from '../../src/errors.ts';
import { findingKinds } from '../../src/verify/findings.ts';
import { poison, refusePoison } from '../crash/journal.ts';
import { EssProcess } from '../support/ess_process.ts';

interface Operation {
  readonly operationId: string;
  readonly parameters?: readonly { readonly name: string; readonly in: string }[];
  readonly responses: Readonly<Record<string, unknown>>;
}
interface Schema {
  readonly enum?: readonly string[];
  readonly properties?: Readonly<Record<string, unknown>>;
}
interface Document {
  readonly info: { readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

const source = readFileSync('docs/openapi.yaml', 'utf8');
const document = parse(source, { merge: true }) as Document;
const methods = ['get', 'post', 'put', 'delete', 'patch'];

/** What only the start of a process says, or a command that finds no service; never HTTP. */
const commandsOnly: readonly string[] = ['bad_option', 'service_unreachable'];

/** Of every literal by which the sources name a route: a key of the GETs, or a method of uWebSockets.js. */
function routesOfSources(): Set<string> {
  const files = ['src/engine/serve.ts', ...readdirSync('src/http').map((name) => join('src/http', name))];
  const routes = new Set<string>();
  for (const file of files) {
    const text = readFileSync(file, 'utf8');
    const patterns = [
      /\[\s*'(\/[^'*]*)',/g,
      /\.(?:get|post|put|patch|del|ws)(?:<\w+>)?\(\s*'(\/[^'*]*)'/g,
      /(?:Path|Paths)\b[^=\n]*=\s*'(\/[^']*)'/g,
      /'[\w.]+\.(?:html|json)': '(\/[^']*)'/g,
    ];
    for (const pattern of patterns) for (const [, route = ''] of text.matchAll(pattern)) routes.add(route);
  }
  return routes;
}

/** Codes that the document has, with the statuses under which it has them. */
function documentedCodes(): Map<string, number[]> {
  const codes = new Map<string, number[]>();
  for (const [name, schema] of Object.entries(document.components.schemas)) {
    const status = Number(/^Problem(\d+)$/.exec(name)?.[1]);
    if (Number.isNaN(status)) continue;
    const { enum: listed = [] } = (schema.properties?.['code'] ?? {}) as {
      readonly enum?: readonly string[];
    };
    for (const code of listed) codes.set(code, [...(codes.get(code) ?? []), status]);
  }
  return codes;
}

describe('docs/openapi.yaml', () => {
  test('is valid OpenAPI 3.1', async () => {
    const validator = new Validator();
    const result = await validator.validate({ ...structuredClone(document) });
    assert.ok(result.valid, JSON.stringify(result.errors, null, 2));
    assert.equal(validator.version, '3.1');
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { readonly version: string };
    assert.equal(document.info.version, version);
  });

  test('has every route of the sources', () => {
    const routes = routesOfSources();
    assert.ok(
      routes.has('/stats') && routes.has('/live') && routes.has('/events') && routes.has('/operations'),
    );
    const lacking = [...routes].filter((route) => !(route in document.paths));
    assert.deepEqual(lacking, [], `docs/openapi.yaml says nothing of ${lacking.join(', ')}`);
  });

  test('has every error code that HTTP answers, under its status, and no other', () => {
    const codes = documentedCodes();
    // In a 200: what became of one letter of several.
    const ofLetters = document.components.schemas['LetterCode']?.enum ?? [];
    for (const code of ofLetters) {
      assert.ok(code in errorKinds, `there is no code ${code}`);
      assert.ok(!codes.has(code), `${code} is listed twice`);
    }
    const elsewhere = [...commandsOnly, ...ofLetters];
    const known = (Object.keys(errorKinds) as ErrorCode[]).filter((code) => !elsewhere.includes(code));
    const lacking = known.filter((code) => !codes.has(code));
    assert.deepEqual(lacking, [], `docs/openapi.yaml says nothing of the codes ${lacking.join(', ')}`);
    for (const [code, statuses] of codes) {
      assert.ok(code in errorKinds && !commandsOnly.includes(code), `HTTP answers no code ${code}`);
      assert.deepEqual(statuses, [errorKinds[code as ErrorCode].status], code);
    }
  });

  test('has every kind of finding, and no other', () => {
    const { enum: kinds } = (document.components.schemas['Finding']?.properties?.['kind'] ?? {}) as Schema;
    assert.deepEqual(kinds, Object.keys(findingKinds));
  });

  test('docs/api.md tells of every path too', () => {
    const text = readFileSync('docs/api.md', 'utf8');
    for (const path of Object.keys(document.paths)) assert.ok(text.includes(path), path);
  });
});

describe('the service against docs/openapi.yaml', () => {
  let ess: EssProcess;
  const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  before(async () => {
    ajv.addSchema(document, 'openapi');
    const made = await EssProcess.start();
    ess = made;
    assert.equal(await made.end('SIGTERM'), 0);
    await refusePoison(made.dataDir);
    ess = await EssProcess.start({ dataDir: made.dataDir });
  });
  after(() => ess?.dispose());

  /** Holds a body against the schema of an answer. */
  function assertAsDocumented(
    path: string,
    method: string,
    status: number,
    type: string,
    body: unknown,
  ): void {
    const response = document.paths[path]?.[method]?.responses[String(status)] as
      | { readonly $ref?: string }
      | undefined;
    assert.ok(
      response !== undefined,
      `${method} ${path} answers ${status}, which the document does not have`,
    );
    const at = (piece: string): string => piece.replaceAll('~', '~0').replaceAll('/', '~1');
    const place = response.$ref ?? `#/paths/${at(path)}/${method}/responses/${status}`;
    const validate = ajv.getSchema(`openapi${place}/content/${at(type)}/schema`);
    assert.ok(validate !== undefined, `${place} has no ${type}`);
    assert.ok(validate(body), `${method} ${path} ${status}: ${JSON.stringify(validate.errors, null, 1)}`);
  }

  async function check(path: string, url: string, init: RequestInit = {}): Promise<number> {
    const response = await fetch(ess.url + url, init);
    const type = (response.headers.get('content-type') ?? '').split(';')[0] ?? '';
    const text = await response.text();
    const body = /[+/]json$/.test(type) ? (JSON.parse(text) as unknown) : text;
    assertAsDocumented(path, (init.method ?? 'GET').toLowerCase(), response.status, type, body);
    return response.status;
  }

  const post = (body: string, type = 'application/json', query = ''): Promise<number> =>
    check('/events/', `/events/${query}`, { method: 'POST', body, headers: { 'content-type': type } });

  /** Sends a command: what it takes keeps to the schema of the request, and what it refuses as such does not. */
  async function command(path: string, body: unknown, headers: Record<string, string> = {}): Promise<number> {
    const status = await check(path, path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json', ...headers },
    });
    const at = path.replaceAll('/', '~1');
    const schema = `openapi#/paths/${at}/post/requestBody/content/application~1json/schema`;
    const validate = ajv.getSchema(schema);
    assert.ok(validate !== undefined, schema);
    if (status === 200 || status === 400) {
      const is = validate(body);
      assert.equal(is, status === 200, `${path} ${status} ${JSON.stringify([body, validate.errors])}`);
    }
    return status;
  }

  /** A letter of its own, by an event that the store refuses. */
  async function parkedLetter(id: string): Promise<{ readonly partition: number; readonly offset: number }> {
    assert.equal(await post(JSON.stringify({ id, text: poison }), undefined, '?ack=store'), 422);
    const { dead_letters: letters } = await ess.getJson<{
      readonly dead_letters: readonly { readonly id: string; partition: number; offset: number }[];
    }>('/dead-letters');
    const letter = letters.find((each) => each.id === id);
    assert.ok(letter !== undefined, id);
    return { partition: letter.partition, offset: letter.offset };
  }

  test('answers it at /openapi.json', async () => {
    const response = await fetch(`${ess.url}/openapi.json`);
    assert.equal(response.headers.get('content-type'), 'application/json');
    assert.deepEqual(await response.json(), JSON.parse(JSON.stringify(document)));
  });

  test('takes at each path the methods that the document has, and no others', async () => {
    for (const [path, item] of Object.entries(document.paths)) {
      // A WebSocket: without an upgrade there is nothing.
      if (path === '/live') continue;
      const response = await fetch(ess.url + path.replace('{id}', 'some'), { method: 'PATCH' });
      assert.equal(response.status, 405, path);
      const documented = methods.filter((method) => method in item).map((method) => method.toUpperCase());
      const allowed = (response.headers.get('allow') ?? '').split(', ').filter((method) => method !== 'HEAD');
      assert.deepEqual(allowed.toSorted(), documented.toSorted(), path);
    }
  });

  test('answers to events are as documented, also the refusals', async () => {
    assert.equal(
      await post('{"id":"one","type":"order","subject":"s","value":7}', undefined, '?ack=store'),
      200,
    );
    assert.equal(await post('{"id":"one","source":"elsewhere"}', undefined, '?ack=store'), 200);
    assert.equal(await post('{"id":"memory"}', undefined, '?ack=memory'), 200);
    assert.equal(await post('[{"id":"two"},{"id":7}]', undefined, '?ids=1'), 200);
    assert.equal(await post('{"id":"three"}\n', 'application/x-ndjson'), 200);
    assert.equal(await post('{'), 400);
    assert.equal(await post('{"id":7}'), 422);
    assert.equal(await post('[{"id":7}]'), 422);
    assert.equal(await post('{}', 'text/plain'), 415);
    assert.equal(await post('{}', undefined, '?ack=never'), 400);
    assert.equal(await post(`{"a":"${'x'.repeat(9_000_000)}"}`), 413);
  });

  test('reads are as documented, also the refusals', async () => {
    await ess.drained();
    assert.equal(await check('/events/{id}', '/events/two'), 200);
    assert.equal(await check('/events/{id}', '/events/one'), 409);
    assert.equal(await check('/events/{id}', '/events/nothing'), 404);
    for (const path of ['/events', '/events/']) {
      assert.equal(await check(path, `${path}?limit=2`), 200);
      assert.equal(await check(path, `${path}?limit=none`), 400);
    }
    const headers = { accept: 'application/x-ndjson' };
    assert.equal(await check('/events/', '/events/', { headers }), 200);
    const statistics = '/events/statistics?group_by=type&value=value&bucket=1h';
    assert.equal(await check('/events/statistics', statistics), 200);
    assert.equal(await check('/events/statistics', statistics, { headers: { accept: 'text/csv' } }), 200);
    assert.equal(await check('/events/statistics', '/events/statistics?bucket=2h'), 400);
  });

  test('what it says of itself is as documented', async () => {
    for (const path of ['/stats', '/dead-letters', '/healthz', '/readyz', '/metrics', '/', '/operations'])
      assert.equal(await check(path, path), 200);
    assert.equal(await check('/openapi.json', '/openapi.json'), 200);
    for (const window of ['10s', '1m']) assert.equal(await check('/stats', `/stats?window=${window}`), 200);
    assert.equal(await check('/stats', '/stats?window=2h'), 400);
    assert.equal(await check('/dead-letters', '/dead-letters?limit=0'), 400);
    for (const path of ['/debug/pprof/profile', '/debug/pprof/heap'])
      assert.equal(await check(path, path), 404);
  });

  test('dead letters, what is done about them, and the refusals are as documented', async () => {
    const replay = '/dead-letters/replay';
    const discard = '/dead-letters/discard';
    const kept = await parkedLetter('kept');
    const first = await parkedLetter('first');
    const second = await parkedLetter('second');
    const nowhere = { partition: 0, offset: 4_000_000 };
    assert.equal(await command(replay, nowhere), 200);
    assert.equal(await command(discard, { ...nowhere, reason: 'a test' }), 200);
    // Stored in its place; then it is settled, for a discard too.
    assert.equal(await command(replay, { ...first, event: '{"id":"first","text":"mended"}' }), 200);
    assert.equal(await command(replay, { letters: [first, nowhere] }), 200);
    assert.equal(await command(discard, { ...first, reason: 'a test' }), 200);
    assert.equal(await command(discard, { letters: [second], reason: 'a test' }), 200);
    assert.equal(await command(replay, { letters: [second] }), 200);
    assert.equal(await command(replay, { all: true, code: 'none has this', cursor: '0-0' }), 200);
    // The store refuses it again, and so it is parked again.
    assert.equal(await command(replay, kept), 200);
    assert.equal(await command(replay, { ...(await parkedLetter('kept again')), event: '{"id":7}' }), 200);

    for (const state of ['parked', 'replayed', 'discarded', 'all'])
      assert.equal(await check('/dead-letters', `/dead-letters?state=${state}&limit=1`), 200);
    const { dead_letters: all } = await ess.getJson<{
      readonly dead_letters: readonly { readonly state: string }[];
    }>('/dead-letters?state=all');
    assert.deepEqual([...new Set(all.map(({ state }) => state))].toSorted(), [
      'discarded',
      'parked',
      'replayed',
    ]);
    for (const { partition, offset } of [kept, first, second])
      assert.equal(await check('/dead-letters', `/dead-letters?position=${partition}:${offset}`), 200);
    assert.equal(await check('/dead-letters', '/dead-letters?position=0:4000000'), 404);
    for (const query of ['position=0-1', 'state=replaying', 'cursor=0:1'])
      assert.equal(await check('/dead-letters', `/dead-letters?${query}`), 400);

    for (const path of [replay, discard]) {
      const own = path === discard ? { reason: 'a test' } : {};
      for (const bad of [
        {},
        { partition: 0 },
        { partition: -1, offset: 0 },
        { letters: [] },
        { all: false },
        { all: true, ...nowhere },
        { ...nowhere, code: 'some' },
        { all: true, cursor: '0:1' },
        { ...nowhere, no_such: 1 },
      ])
        assert.equal(await command(path, { ...own, ...bad }), 400, JSON.stringify(bad));
      assert.equal(await command(path, [nowhere]), 400);
      assert.equal(await command(path, nowhere, { 'content-type': 'text/plain' }), 415);
      assert.equal(await command(path, nowhere, { origin: 'http://elsewhere.example' }), 403);
      const tooLarge = path === discard ? 70_000 : 2_100_000;
      assert.equal(await command(path, { ...own, code: 'x'.repeat(tooLarge) }), 413);
      const init = { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } };
      assert.equal(await check(path, path, init), 400);
    }
    assert.equal(await command(discard, nowhere), 400);
    assert.equal(await command(discard, { ...nowhere, reason: ' ' }), 400);
    assert.equal(await command(replay, { ...nowhere, event: { id: 'no text' } }), 400);
    assert.equal(await command(replay, { letters: [nowhere], event: '{}' }), 400);
  });

  test('the proof is as documented', async () => {
    await ess.drained();
    assert.equal(await check('/verify/progress', '/verify/progress'), 200);
    for (const query of ['', '?deep=0', '?deep=1'])
      assert.equal(await check('/verify', `/verify${query}`), 200);
    assert.equal((await ess.getJson<{ readonly exact: boolean }>('/verify')).exact, true);
    for (const query of ['?deep=2', '?deep=1&deep=1'])
      assert.equal(await check('/verify', `/verify${query}`), 400);
  });

  test('every query parameter of the document is taken, and one that it has not is refused', async () => {
    const letter = await parkedLetter('of a known position');
    const values: Readonly<Record<string, string>> = {
      ...{ from: '2026-01-01T00:00:00Z', to: '2026-01-02T00:00:00Z', limit: '5', order: 'asc', exact: '1' },
      ...{
        clock: 'ingest',
        bucket: '1h',
        group_by: 'type',
        value: 'value',
        where: 'type:order',
        window: '10s',
      },
      ...{ state: 'all', deep: '1', position: `${letter.partition}:${letter.offset}` },
    };
    for (const path of ['/events/', '/events/statistics', '/stats', '/dead-letters', '/verify']) {
      for (const { name, in: place } of document.paths[path]?.['get']?.parameters ?? []) {
        // A cursor is one that was given out.
        if (place !== 'query' || name === 'cursor') continue;
        const response = await fetch(
          `${ess.url}${path}?${name}=${encodeURIComponent(values[name] ?? 'text')}`,
        );
        assert.equal(response.status, 200, `${path}?${name}: ${await response.text()}`);
      }
      assert.equal((await fetch(`${ess.url}${path}?no_such=1`)).status, 400, path);
    }
  });
});
