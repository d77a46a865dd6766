// README.md: the start on the embedded default, and on a cluster that gets a shard more.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { commandLine } from './document.ts';
import { type Entry, installed } from './entry.ts';

export const readme: readonly Entry[] = [
  {
    how: 'serve',
    commands: ['npm ci && npm start'],
    in: 'embedded',
    instead: () => installed,
    env: { ESS_DEBUG_PROFILES: 'on', ESS_PRODUCERS: '1', ESS_SINKS: '1', ESS_READERS: '1' },
    as: 'embedded',
  },
  {
    how: 'run',
    commands: [/curl -X POST .*\?ack=store' .*"id": "order-1".*/],
    in: 'embedded',
    // The answer that README shows.
    holds: (_parts, ended) =>
      assert.ok(readFileSync('README.md', 'utf8').includes(`\`\`\`json\n${ended.out}\n\`\`\``), ended.out),
  },
  {
    how: 'run',
    commands: ['curl http://127.0.0.1:8080/events/order-1'],
    in: 'embedded',
    says: /"subject": ?"customer-7"/,
  },
  {
    how: 'run',
    commands: ["curl 'http://127.0.0.1:8080/events/statistics?group_by=country&value=amount'"],
    in: 'embedded',
    says: /"CH".*12\.5/,
  },
  {
    how: 'run',
    commands: [/node dist\/ess\.js send .*flights-20k\.json/],
    in: 'embedded',
    instead: (parts) => [[' send ', ` send --url ${parts.urlOf('embedded')} `]],
    says: /20,?000/,
  },
  { how: 'run', commands: ['npm ci && npm run build'], in: 'fresh', instead: () => installed },
  {
    how: 'run',
    commands: ['node dist/ess.js init'],
    in: 'cluster',
    // Where a shard is added it only shows what is recorded and what would be.
    code: ({ before }) => (before.some((line) => line.includes('ch5')) ? 1 : 0),
    // README: "1. stop the sinks", where a shard is added.
    first: async (parts) => {
      if (parts.has('sink')) assert.equal((await parts.stop('sink')).code, 0);
    },
  },
  { how: 'serve', commands: ['node dist/ess.js --role all'], in: 'cluster', as: null },
  { how: 'serve', commands: ['node dist/ess.js --role ingest --host 0.0.0.0'], in: 'cluster', as: 'ingest' },
  { how: 'serve', commands: ['node dist/ess.js --role sink'], in: 'cluster', as: 'sink' },
  {
    how: 'run',
    commands: [/(node dist\/ess\.js|ess) init --apply/],
    in: 'cluster',
    // README: "3. start the sinks with this list, and restart the ingest processes".
    holds: async (parts) => {
      if (parts.has('sink')) return;
      assert.equal((await parts.stop('ingest')).code, 0);
      for (const role of ['ingest', 'sink'])
        await parts.serve(role, commandLine(`node dist/ess.js --role ${role}`), 'cluster');
    },
  },
  {
    how: 'run',
    commands: [/node dist\/ess\.js verify( --[a-z-]+)?/],
    in: 'cluster',
    says: /^exact/m,
  },
  { how: 'run', commands: ['node dist/ess.js --help'], in: 'cluster', says: /^Usage:$/m },
];
