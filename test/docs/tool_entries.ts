// Profiles, load tests, benches and the tests themselves.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { commandOf } from '../../src/cli/command.ts';
import { ownFunctions, readProfile, threadsOf } from '../profile/pprof.ts';
import { type Entry, smallLoad } from './entry.ts';
import type { Parts } from './parts.ts';

/** The name of one function of ESS that is in the profile. */
function ownFunction(parts: Parts): string {
  const profile = readProfile(readFileSync(join(parts.clone, 'cpu.pb.gz')));
  const places = threadsOf(profile).flatMap((thread) => [...ownFunctions(profile, thread)]);
  const name = places.map((place) => place.split(' ')[0] ?? '').find((each) => /^\w+$/.test(each));
  assert.ok(name !== undefined, 'no function of ours was seen');
  return name;
}

const packageJson = JSON.parse(readFileSync('package.json', 'utf8')) as {
  readonly scripts: Readonly<Record<string, string>>;
};

/** The scripts of npm that a command line names are there. */
function checkScripts(text: string): void {
  for (const [, name = ''] of text.matchAll(/npm (?:run )?(?!ci\b)([\w:]+)/g))
    assert.ok(name in packageJson.scripts, name);
}

const pprof = /go tool pprof (?!-http).* (cpu|heap|later)\.pb\.gz/;

export const tools: readonly Entry[] = [
  {
    how: 'run',
    commands: [
      "curl -o cpu.pb.gz 'http://127.0.0.1:8080/debug/pprof/profile?seconds=10'",
      'curl -o heap.pb.gz http://127.0.0.1:8080/debug/pprof/heap',
    ],
    in: 'embedded',
    instead: () => [['seconds=10', 'seconds=2']],
    first: (parts) => parts.load('embedded'),
    holds: (parts, _ended, text) => {
      const [, file = ''] = /-o (\S+)/.exec(text) ?? [];
      assert.ok(threadsOf(readProfile(readFileSync(join(parts.clone, file)))).includes('sink-0'));
    },
  },
  {
    how: 'run',
    commands: [pprof],
    in: 'embedded',
    // Of a function of ours that was seen: the source is found in a clone.
    instead: (parts) => [['-list=NAME', `-list=${ownFunction(parts)}`]],
    needs: 'go',
    says: /(Type: )?(cpu|wall|space|objects|thread|ROUTINE)/,
  },
  {
    how: 'serve',
    commands: [
      'go tool pprof -http=: cpu.pb.gz',
      'go tool pprof -http=: -tagroot=thread cpu.pb.gz',
      "go tool pprof -http=: 'http://127.0.0.1:8080/debug/pprof/profile?seconds=10'",
    ],
    in: 'embedded',
    instead: () => [
      ['-http=:', '-no_browser -http=:'],
      ['seconds=10', 'seconds=1'],
    ],
    as: null,
    needs: 'go',
  },
  {
    how: 'run',
    commands: [/sleep 600; curl .*; go tool pprof .*/],
    in: 'embedded',
    instead: () => [['sleep 600', 'sleep 1']],
    needs: 'go',
    says: /inuse_space/,
  },
  {
    how: 'run',
    commands: [/curl --data-binary @cpu\.pb\.gz "http:\/\/pyroscope:4040\/ingest.*"/],
    in: 'embedded',
    // There is no Pyroscope here: what it would be sent is looked at.
    holds: ({ pushed }) => {
      const [last] = pushed;
      assert.ok(last !== undefined && pushed.length === 1);
      assert.match(last.url, /^\/ingest\?format=pprof&name=ess&from=\d{10}&until=\d{10}$/);
      assert.ok(threadsOf(readProfile(last.bytes)).includes('main'));
    },
  },
  {
    how: 'run',
    commands: ['k6 run -e URL=http://127.0.0.1:8080 k6/load.js'],
    in: 'embedded',
    env: smallLoad,
    instead: () => [[/^k6/g, '.cache/tools/usr/bin/k6']],
    needs: 'k6',
    says: /conservation: [1-9].*exact: true/,
  },
  { how: 'run', commands: ['node build.mjs --bench'], in: 'fresh' },
  {
    how: 'run',
    // Minutes each, and the machine for itself: test/bench runs each very small.
    commands: [/node dist-bench\/bench\.\w+\.js .*/, /npm run bench:(?!queries)\w+( -- .*)?/],
    in: 'fresh',
    instead: () => [[/^.*bench[.:](\w+)\b.*$/g, 'node dist-bench/bench.$1.js --help']],
    holds: (_parts, { output }, text) => {
      for (const flag of text.match(/--[a-z][a-z-]*/g) ?? [])
        assert.ok(flag === '--help' || output.includes(flag), `${text}: ${flag}`);
      const [, bench = ''] = /bench[.:](\w+)/.exec(text) ?? [];
      assert.ok(`bench:${bench}` in packageJson.scripts, text);
    },
  },
  {
    how: 'run',
    commands: [/npm run bench:queries( -- --rows 5000000)?/],
    in: 'fresh',
    instead: () => [[/^.*$/g, 'node dist-bench/bench.queries.js --rows 2000']],
  },
  {
    how: 'not run',
    commands: ['npm run bench'],
    why: 'it runs five of them one after the other',
    check: checkScripts,
  },
  {
    how: 'not run',
    commands: ['npm ci && npm test', 'npm test -- ring cluster', 'npm ci'],
    why: '.ci/run runs both, and this test is one of them',
    check: (text) => {
      checkScripts(text);
      const ci = readFileSync('.ci/run', 'utf8');
      for (const line of ['npm ci', 'npm test']) assert.match(ci, new RegExp(`^${line}$`, 'm'));
    },
  },
  {
    how: 'not run',
    commands: [/ess (dlq|send|serve|topics)/, 'node dist/ess.js'],
    why: 'it is the name of a command of ess, or of ess itself; the command lines are elsewhere',
    check: (text) => {
      if (text.startsWith('ess ')) assert.equal(commandOf([text.slice(4)]).type, text.slice(4));
    },
  },
  {
    how: 'not run',
    commands: ['go tool pprof', 'go install'],
    why: 'it is the name of a tool',
    check: () => {},
  },
];
