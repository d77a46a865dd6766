// `ess send` against a double of the service: every row ends accepted exactly once, or is named with its reason.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable, Writable } from 'node:stream';
import { after, test } from 'node:test';
import * as fc from 'fast-check';
import { runSend } from '../../src/cli/send/run.ts';
import type { Summary } from '../../src/cli/send/tally.ts';
import { partial, problem, type Reply, type ServiceDouble, startService } from './service_double.ts';

const datasets = 'node_modules/vega-datasets/data';
const folder = mkdtempSync(join(tmpdir(), 'ess-send-'));
after(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

/** One row a line, with ids row-1, row-2 and so on. */
function numbered(count: number, name = 'numbered.ndjson'): string {
  return file(name, Array.from({ length: count }, (_, i) => `{"id":"row-${i + 1}","n":${i + 1}}\n`).join(''));
}

class Sink extends Writable {
  text = '';

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.text += chunk;
    callback();
  }
}

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function send(argv: readonly string[], stdin: Readable = Readable.from([])): Promise<Outcome> {
  const stdout = new Sink();
  const stderr = new Sink();
  const code = await runSend(argv, { stdin, stdout, stderr, signal: new AbortController().signal });
  return { code, out: stdout.text, err: stderr.text };
}

/** Sends to the double; gives the summary after checking that it accounts for every row. */
async function sendTo(
  service: ServiceDouble,
  argv: readonly string[],
  stdin?: Readable,
): Promise<Summary & { readonly code: number }> {
  const { code, out } = await send(['--url', service.url, '--json', '--quiet', ...argv], stdin);
  const summary: Summary = JSON.parse(out);
  const { rows, accepted, rejected, unconfirmed, unsent } = summary;
  assert.equal(accepted + rejected + unconfirmed + unsent, rows);
  return { ...summary, code };
}

async function withService(
  reply: Parameters<typeof startService>[0],
  body: (service: ServiceDouble) => Promise<void>,
): Promise<void> {
  const service = await startService(reply);
  try {
    await body(service);
  } finally {
    await service.close();
  }
}

test('20,000 flights of a JSON array arrive with the time of their date', () =>
  withService(undefined, async (service) => {
    const path = `${datasets}/flights-20k.json`;
    const flights: Record<string, unknown>[] = JSON.parse(readFileSync(path, 'utf8'));
    const options = ['--time', 'date', '--subject', 'origin', '--set', 'type=flight', '--id-from-content'];
    const summary = await sendTo(service, [...options, path]);
    assert.deepEqual([summary.code, summary.accepted, summary.rejected], [0, flights.length, 0]);
    assert.equal(service.stored.size, flights.length);
    // Several requests are under way at once: the order in which they arrive is not that of the file.
    const received = [...service.stored.values()].map(({ id, ...event }) => JSON.stringify(event)).sort();
    const expected = flights.map((flight) => {
      const time = `${String(flight['date']).replaceAll('/', '-').replace(' ', 'T')}:00.000Z`;
      return JSON.stringify({ time, subject: flight['origin'], type: 'flight', ...flight });
    });
    assert.deepEqual(received, expected.sort());
    for (const { path: requestPath, query, headers } of service.requests) {
      assert.equal(requestPath, '/events/');
      assert.equal(query.get('ids'), '0');
      assert.equal(headers['content-type'], 'application/x-ndjson');
    }
  }));

test('bird strikes of a CSV file arrive with numbers as numbers', () =>
  withService(undefined, async (service) => {
    const summary = await sendTo(service, [
      '--time',
      'Flight Date',
      '--ack',
      'store',
      `${datasets}/birdstrikes.csv`,
    ]);
    assert.deepEqual([summary.code, summary.accepted], [0, 10_000]);
    const first = service.requests
      .flatMap(({ events }) => events)
      .find((event) => event['time'] === '1990-01-08T00:00:00.000Z');
    assert.equal(first?.['Cost Total $'], 0);
    assert.equal(first?.['Origin State'], 'Louisiana');
    assert.ok(service.requests.every(({ query }) => query.get('ack') === 'store'));
  }));

test('the features of a GeoJSON document arrive with ids and times from inside them', () =>
  withService(undefined, async (service) => {
    const path = `${datasets}/earthquakes.json`;
    const { features } = JSON.parse(readFileSync(path, 'utf8'));
    const options = [
      '--items',
      'features',
      '--id',
      'id',
      '--time',
      'properties.time',
      '--set',
      'type=earthquake',
    ];
    const summary = await sendTo(service, [...options, path]);
    assert.deepEqual([summary.code, summary.accepted], [0, features.length]);
    for (const { id, properties, geometry } of features) {
      const event = service.stored.get(id);
      assert.equal(event?.['time'], new Date(properties.time).toISOString());
      assert.deepEqual(event?.['geometry'], geometry);
    }
  }));

test('the same file sent twice adds nothing, and rows that are repeated in it stay separate', () =>
  withService(undefined, async (service) => {
    const path = `${datasets}/flights-2k.json`;
    const twice = file(
      'twice.json',
      JSON.stringify([...JSON.parse(readFileSync(path, 'utf8')), { delay: 1 }, { delay: 1 }]),
    );
    const first = await sendTo(service, ['--id-from-content', twice]);
    assert.equal(service.stored.size, first.rows);
    await sendTo(service, ['--id-from-content', '--gzip', '--batch-events', '7', twice]);
    assert.equal(service.stored.size, first.rows);
  }));

test('a batch answered 503 goes again whole with the same ids', () =>
  withService(
    ({ number }) => (number % 3 === 2 ? 'accept' : problem(503, 'overloaded', { 'retry-after': '0' })),
    async (service) => {
      const path = file('no_ids.csv', `a\n${'1\n'.repeat(50)}`);
      const summary = await sendTo(service, ['--batch-events', '10', '--concurrency', '1', path]);
      assert.deepEqual([summary.code, summary.accepted, summary.retries], [0, 50, 10]);
      assert.equal(service.stored.size, 50);
      for (const [i, request] of service.requests.entries()) {
        assert.equal(request.text, service.requests[i - (i % 3)]?.text);
      }
    },
  ));

test('a batch of which some outcomes are unknown goes again, and is counted once', () =>
  withService(
    ({ number, events }) => {
      const errors = [{ index: 1, code: 'outcome_unknown', message: '', id: 'row-2' }];
      const body = { accepted: events.length - 1, rejected: 1, errors };
      return number === 0 ? { status: 503, headers: { 'retry-after': '0' }, body } : 'accept';
    },
    async (service) => {
      const summary = await sendTo(service, [numbered(3)]);
      assert.deepEqual([summary.code, summary.accepted, summary.retries], [0, 3, 1]);
      assert.equal(service.stored.size, 3);
    },
  ));

test('a connection that is cut before or after the events were stored is retried without doubling any', () =>
  withService(
    ({ number }) => (['reset', 'accept and reset', 'accept'] as const)[number % 3] ?? 'accept',
    async (service) => {
      const path = file('no_ids.ndjson', '{"a":1}\n'.repeat(40));
      const summary = await sendTo(service, ['--batch-events', '10', path]);
      assert.deepEqual([summary.code, summary.accepted], [0, 40]);
      assert.equal(service.stored.size, 40);
    },
  ));

test('a service that comes up later is waited for', async () => {
  const taken = await startService();
  const { port } = taken;
  await taken.close();
  const sending = send(['--url', `http://127.0.0.1:${port}`, '--json', '--quiet', numbered(5)]);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const service = await startService(undefined, port);
  const { code } = await sending;
  await service.close();
  assert.equal(code, 0);
  assert.equal(service.stored.size, 5);
});

test('a batch that is too large goes in halves, and an event that is too large is rejected by its line', () =>
  withService(
    ({ events }) => (events.length > 3 || events[0]?.['n'] === 6 ? problem(413, 'too_large') : 'accept'),
    async (service) => {
      const summary = await sendTo(service, [numbered(20)]);
      const { code, accepted, rejectedByCode, errors } = summary;
      assert.deepEqual([code, accepted, rejectedByCode], [1, 19, { too_large: 1 }]);
      assert.deepEqual(
        errors.map(({ line, code }) => [line, code]),
        [[6, 'too_large']],
      );
      assert.equal(service.stored.size, 19);
    },
  ));

test('events that the service rejects are named by file, line and code', () =>
  withService(
    ({ events }) =>
      partial(
        events.length,
        events.flatMap(({ n }, index) => (Number(n) % 50 === 0 ? [{ index, code: 'invalid_event' }] : [])),
      ),
    async (service) => {
      const path = numbered(1000);
      const summary = await sendTo(service, ['--batch-events', '7', '--concurrency', '1', path]);
      assert.deepEqual(
        [summary.code, summary.accepted, summary.rejectedByCode],
        [1, 980, { invalid_event: 20 }],
      );
      assert.deepEqual(
        summary.errors.map(({ file, line, row, code }) => [file, line, row, code]),
        Array.from({ length: 10 }, (_, i) => [path, (i + 1) * 50, (i + 1) * 50, 'invalid_event']),
      );
    },
  ));

test('rows that cannot be read are named by file and line, and the others are sent', () =>
  withService(undefined, async (service) => {
    const path = file(
      'times.csv',
      'when,n\n1/8/90 0:00,1\n13/45/2001,2\n2001-02-30,3\n"2001/01/10\n18:20",4\n1/9/90,5\n1/9/90\n',
    );
    const summary = await sendTo(service, ['--time', 'when', path]);
    assert.deepEqual([summary.code, summary.sent, summary.accepted], [1, 2, 2]);
    assert.deepEqual(
      summary.errors.map(({ file, line, code }) => [file, line, code]),
      [
        [path, 3, 'bad_time'],
        [path, 4, 'bad_time'],
        [path, 5, 'bad_time'],
        [path, 8, 'bad_row'],
      ],
    );
    assert.deepEqual(
      [...service.stored.values()].map(({ n, time }) => [n, time]),
      [
        [1, '1990-01-08T00:00:00.000Z'],
        [5, '1990-01-09T00:00:00.000Z'],
      ],
    );
  }));

test('standard input is read, several files and it together', () =>
  withService(undefined, async (service) => {
    const stdin = Readable.from(['{"id":"in-', '1"}\n{"id":"in-2"}']);
    const summary = await sendTo(service, [numbered(2), '-', file('more.csv', 'id\ncsv-1\n')], stdin);
    assert.deepEqual([summary.code, summary.accepted], [0, 5]);
    assert.deepEqual([...service.stored.keys()], ['row-1', 'row-2', 'in-1', 'in-2', 'csv-1']);
  }));

test('a batch that does not fill up goes all the same while standard input stays open', async () => {
  let arrived = (): void => {};
  const arrival = new Promise<void>((resolve) => {
    arrived = resolve;
  });
  await withService(
    () => {
      arrived();
      return 'accept';
    },
    async (service) => {
      const stdin = new Readable({ read: () => {} });
      const sending = sendTo(service, ['-'], stdin);
      stdin.push('{"id":"1"}\n');
      await arrival;
      stdin.push(null);
      assert.equal((await sending).accepted, 1);
    },
  );
});

test('compressed bodies and headers arrive as they should', () =>
  withService(undefined, async (service) => {
    const summary = await sendTo(service, ['--gzip', '--header', 'Authorization: Bearer x', numbered(100)]);
    assert.deepEqual([summary.code, summary.accepted], [0, 100]);
    const [request] = service.requests;
    assert.equal(request?.headers['content-encoding'], 'gzip');
    assert.equal(request?.headers['authorization'], 'Bearer x');
  }));

test('no batch exceeds its bounds, except by a single event', () =>
  withService(undefined, async (service) => {
    const large = file(
      'large.ndjson',
      `${'{"a":"x"}\n'.repeat(300)}{"a":"${'x'.repeat(3000)}"}\n{"a":"x"}\n`,
    );
    await sendTo(service, ['--batch-events', '50', '--batch-bytes', '1024', large]);
    for (const { events, text } of service.requests) {
      assert.ok(events.length <= 50);
      assert.ok(text.length <= 1024 || events.length === 1);
    }
    assert.equal(service.stored.size, 302);
  }));

test('no more requests are open than --concurrency says, and reading is held up by them', async () => {
  const batch = 10;
  const concurrency = 3;
  let produced = 0;
  let aheadMax = 0;
  let received = 0;
  await withService(
    async ({ events }): Promise<Reply> => {
      await new Promise((resolve) => setTimeout(resolve, 5));
      received += events.length;
      aheadMax = Math.max(aheadMax, produced - received);
      return 'accept';
    },
    async (service) => {
      const lines = function* (): Generator<Buffer> {
        for (produced = 0; produced < 1000; produced += 1) yield Buffer.from(`{"n":${produced}}\n`);
      };
      const limits = ['--batch-events', String(batch), '--concurrency', String(concurrency)];
      const summary = await sendTo(service, [...limits, '-'], Readable.from(lines(), { highWaterMark: 1 }));
      assert.equal(summary.accepted, 1000);
      assert.ok(service.openMax <= concurrency);
      // In flight, one batch waiting, and the pieces that the streams between hold.
      assert.ok(aheadMax <= (concurrency + 1) * batch + 20, `${aheadMax} rows were read ahead`);
    },
  );
});

test('without any progress sending is given up, and says so', () =>
  withService(
    () => problem(503, 'log_unavailable', { 'retry-after': '3600' }),
    async (service) => {
      const summary = await sendTo(service, ['--retry-seconds', '1', '--batch-events', '10', numbered(1000)]);
      assert.equal(summary.code, 1);
      assert.equal(summary.accepted, 0);
      assert.ok(summary.unconfirmed > 0 && summary.retries > 0 && summary.stopped !== null);
    },
  ));

test('giving up also ends a standard input that stays open', () =>
  withService(
    () => 'reset',
    async (service) => {
      const stdin = new Readable({ read: () => {} });
      stdin.push('{"id":"1"}\n');
      const summary = await sendTo(service, ['--retry-seconds', '0', '--batch-events', '1', '-'], stdin);
      assert.deepEqual([summary.code, summary.rows, summary.unconfirmed], [1, 1, 1]);
    },
  ));

test('an answer that every batch would meet ends the run at once', async () => {
  for (const reply of [
    problem(401, 'unauthorized'),
    problem(400, 'invalid_parameter'),
    { status: 404, body: 'nothing here' },
    { status: 200, body: '<html>a sign-in page</html>' },
  ] satisfies Reply[]) {
    await withService(
      () => reply,
      async (service) => {
        const summary = await sendTo(service, ['--concurrency', '1', '--batch-events', '10', numbered(100)]);
        assert.deepEqual([summary.code, summary.accepted, service.requests.length], [1, 0, 1]);
        assert.ok(summary.stopped !== null);
      },
    );
  }
});

test('an interrupt waits for what is in flight, counts it, and gives 130', async () => {
  const interrupt = new AbortController();
  await withService(
    async ({ number }): Promise<Reply> => {
      if (number === 1) interrupt.abort();
      await new Promise((resolve) => setTimeout(resolve, 50));
      return 'accept';
    },
    async (service) => {
      const stdin = new Readable({ read: () => {} });
      stdin.push('{"a":1}\n'.repeat(25));
      const stdout = new Sink();
      const argv = [
        '--url',
        service.url,
        '--json',
        '--quiet',
        '--batch-events',
        '10',
        '--concurrency',
        '1',
        '-',
      ];
      const code = await runSend(argv, { stdin, stdout, stderr: new Sink(), signal: interrupt.signal });
      const summary: Summary = JSON.parse(stdout.text);
      assert.equal(code, 130);
      assert.deepEqual([summary.accepted, service.stored.size], [20, 20]);
      assert.equal(summary.rows, summary.accepted + summary.unsent);
      assert.ok(stdin.destroyed);
    },
  );
});

test('whatever the service does, every event is stored once and every row accounted for', async () => {
  const behaviours = ['accept', 'reset', 'accept and reset', 'overloaded', 'too_large', 'partial'] as const;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.constantFrom(...behaviours), { maxLength: 12 }),
      fc.integer({ min: 1, max: 60 }),
      fc.integer({ min: 1, max: 25 }),
      fc.integer({ min: 1, max: 4 }),
      async (script, rows, batch, concurrency) => {
        const refused = new Set<string>();
        await withService(
          ({ number, events }) => {
            const behaviour = script[number] ?? 'accept';
            if (behaviour === 'overloaded') return problem(503, 'overloaded', { 'retry-after': '0' });
            if (behaviour === 'too_large') {
              if (events.length === 1) refused.add(String(events[0]?.['id']));
              return problem(413, 'too_large');
            }
            if (behaviour !== 'partial') return behaviour;
            refused.add(String(events[0]?.['id']));
            return partial(events.length, [{ index: 0, code: 'invalid_event' }]);
          },
          async (service) => {
            const limits = ['--batch-events', String(batch), '--concurrency', String(concurrency)];
            const summary = await sendTo(service, [...limits, numbered(rows, 'property.ndjson')]);
            assert.equal(summary.accepted + summary.rejected, rows);
            assert.equal(summary.rejected, refused.size);
            // An event of a cut connection may have been stored and then refused when it came again.
            for (let i = 1; i <= rows; i += 1) {
              const id = `row-${i}`;
              assert.ok(service.stored.has(id) || refused.has(id), id);
            }
          },
        );
      },
    ),
    { numRuns: 25 },
  );
});

test('the summary for people names the first reasons with file and line', () =>
  withService(undefined, async (service) => {
    const path = file('bad.ndjson', `{"a":1}\n${'{"a":\n'.repeat(12)}`);
    const { code, out, err } = await send(['--url', service.url, path]);
    assert.equal(code, 1);
    assert.equal(err, '');
    for (let line = 2; line <= 11; line += 1) assert.ok(out.includes(`${path}:${line}:`));
    assert.ok(!out.includes(`${path}:12:`));
    assert.ok(out.includes('bad_row'));
  }));

test('a command line that is not valid sends nothing and gives 2', async () => {
  const good = numbered(1);
  for (const argv of [
    [],
    ['--url', 'ftp://x', good],
    ['--url', 'nowhere', good],
    ['--url', 'http://x/?a=1', good],
    ['--ack', 'disk', good],
    ['--ak', 'log', good],
    ['--format', 'xml', good],
    ['--batch-events', '0', good],
    ['--concurrency', 'x', good],
    ['--time-zone', 'Mars/Olympus', good],
    ['--time-format', 'guess', good],
    ['--set', 'x', good],
    ['--set', 'id=1', good],
    ['--set', 'time=soon', good],
    ['--set', 'a=1', '--set', 'a=2', good],
    ['--set', 'type=x', '--type', 'y', good],
    ['--id', 'x', '--id-from-content', good],
    ['--items', 'a', '--format', 'csv', good],
    ['--items', 'a..b', good],
    ['--delimiter', '""', good],
    ['--header', 'nothing', good],
    ['-', '-'],
    [join(folder, 'none.ndjson')],
    [folder],
  ]) {
    const { code, out, err } = await send(argv);
    assert.deepEqual([code, out], [2, ''], argv.join(' '));
    assert.notEqual(err, '');
  }
});

test('--help gives the options in at most 100 columns', async () => {
  const { code, out } = await send(['--help']);
  assert.equal(code, 0);
  assert.ok(out.includes('--id-from-content'));
  for (const line of out.split('\n')) assert.ok(line.length <= 100, line);
});
