// docs/operations.md: looking, mending, dead letters, partitions and brokers.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Entry } from './entry.ts';

const broker = '--bootstrap-server kafka1:9092';
const group = `kafka-consumer-groups.sh ${broker} --describe --group event-statistics-service`;

export const operations: readonly Entry[] = [
  {
    how: 'run',
    commands: [/curl -s( -m 5)? '?http:\/\/127\.0\.0\.1:8080\/(readyz|healthz|stats(\?window=\d+[sm])?)'?/],
    in: 'cluster',
    holds: (_parts, ended) => assert.ok(Object.keys(JSON.parse(ended.out) as object).length > 0),
  },
  {
    how: 'run',
    commands: ['curl -s http://127.0.0.1:8080/metrics'],
    in: 'cluster',
    says: /^ess_requests_rejected_total\{/m,
  },
  { how: 'run', commands: ['ess init --wait-ms 10000'], in: 'cluster' },
  {
    how: 'run',
    commands: [/kafka-topics\.sh .* --describe --topic events --(unavailable|(under|at)-min-isr)-partitions/],
    in: 'cluster',
    // Nothing is wrong here.
    holds: (_parts, { output }) => assert.equal(output.trim(), ''),
  },
  {
    how: 'run',
    commands: [`kafka-topics.sh ${broker} --describe --topic events`],
    in: 'cluster',
    says: /Topic: events.*PartitionCount: 12.*ReplicationFactor: 3/,
  },
  {
    how: 'run',
    commands: [`kafka-metadata-quorum.sh ${broker} describe --status`],
    in: 'cluster',
    says: /LeaderId:\s+\d/,
  },
  {
    how: 'run',
    commands: [`kafka-log-dirs.sh ${broker} --describe --topic-list events`],
    in: 'cluster',
    says: /"partition":"events-0"/,
  },
  {
    how: 'run',
    commands: [`kafka-configs.sh ${broker} --describe --entity-type topics --entity-name events --all`],
    in: 'cluster',
    says: /min\.insync\.replicas=2.*unclean\.leader\.election\.enable=false/s,
  },
  {
    how: 'run',
    commands: [`kafka-broker-api-versions.sh ${broker}`],
    in: 'cluster',
    says: /id: 3 .*Produce\(0\)/s,
  },
  { how: 'run', commands: [`${group} --state`], in: 'cluster', says: /Stable\s+1/ },
  { how: 'run', commands: [`${group} --members --verbose`], in: 'cluster', says: /events\(/ },
  { how: 'run', commands: [group], in: 'cluster', says: /events\s+0\s/ },
  {
    how: 'run',
    commands: [`kafka-get-offsets.sh ${broker} --topic events --time earliest`],
    in: 'cluster',
    says: /^events:0:0$/m,
  },
  {
    how: 'run',
    commands: [
      `kafka-configs.sh ${broker} --alter --entity-type topics --entity-name events --add-config retention.ms=1209600000`,
    ],
    in: 'cluster',
    says: /Completed updating config for topic events/,
  },
  {
    how: 'run',
    commands: [`kafka-leader-election.sh ${broker} --election-type preferred --all-topic-partitions`],
    in: 'cluster',
  },
  { how: 'run', commands: ['curl -s -m 5 http://ch1:8123/ping'], in: 'cluster', says: /^Ok\.$/m },
  {
    how: 'run',
    commands: ["curl 'http://ch1:8123/?database=default' --data-binary @query.sql"],
    in: 'cluster',
    first: (parts) => writeFileSync(join(parts.clone, 'query.sql'), 'SELECT count() > 0 FROM ledger'),
    says: /^1$/m,
  },
  { how: 'run', commands: ['df -h ./ess-data'], in: 'embedded', says: /%/ },
  { how: 'run', commands: ['du -sh ./ess-data/log ./ess-data/store'], in: 'embedded', says: /store$/m },
  {
    how: 'run',
    commands: ['node dist/ess.js dlq list'],
    in: 'cluster',
    first: (parts) => parts.park(),
    says: /469.*malformed_json|malformed_json.*469/s,
  },
  {
    how: 'run',
    commands: ['node dist/ess.js dlq show 3:1234'],
    in: 'cluster',
    instead: ({ letters }) => [['3:1234', letters.refused[0] ?? '']],
    says: /refused-1/,
  },
  {
    how: 'run',
    commands: ['node dist/ess.js dlq replay 3:1234'],
    in: 'cluster',
    first: (parts) => parts.endRefusal(),
    instead: ({ letters }) => [['3:1234', letters.refused[0] ?? '']],
    says: /replayed to \d+:\d+, stored/,
  },
  {
    how: 'run',
    commands: ['node dist/ess.js dlq replay --all --code 469'],
    in: 'cluster',
    says: /replayed to \d+:\d+, stored/,
  },
  {
    how: 'run',
    commands: ['node dist/ess.js dlq replay 3:1234 --with corrected.json'],
    in: 'cluster',
    first: (parts) => writeFileSync(join(parts.clone, 'corrected.json'), '{"text":"as it was meant"}'),
    instead: ({ letters }) => [['3:1234', letters.garbage[0] ?? '']],
    says: /replayed to \d+:\d+, stored/,
  },
  {
    how: 'run',
    commands: ["node dist/ess.js dlq discard 3:1234 --reason 'ada: test data of the new producer'"],
    in: 'cluster',
    instead: ({ letters }) => [['3:1234', letters.garbage[1] ?? '']],
    says: /discarded/,
  },
  // Nothing is parked any more.
  { how: 'run', commands: [/(ess|node dist\/ess\.js) dlq replay --all/], in: 'cluster' },
  {
    how: 'run',
    commands: ['ess dlq list --state replayed'],
    in: 'cluster',
    says: /replayed/,
  },
  {
    how: 'run',
    commands: ['ess topics describe'],
    in: 'cluster',
    says: /events/,
  },
  {
    how: 'run',
    commands: ['ess topics add-partitions 24'],
    in: 'cluster',
    // It asks a terminal.
    instead: () => [['24', '24 --yes']],
    holds: async (parts) => assert.equal((await parts.kafka.partition('events', 23)).replicas.length, 3),
  },
  { how: 'run', commands: ['ess init --apply --partitions 24'], in: 'cluster' },
  {
    how: 'run',
    commands: ['ess topics move --brokers 1,2,3,4'],
    in: 'cluster',
    // The four brokers are 0 to 3 here; the last is to leave.
    instead: () => [['1,2,3,4', '0,1,2']],
    says: /Nothing was changed/,
  },
  {
    how: 'run',
    commands: ['ess topics move --brokers 1,2,3,4 --yes'],
    in: 'cluster',
    instead: () => [['1,2,3,4', '0,1,2']],
    holds: async ({ kafka }) => {
      for (let partition = 0; partition < 24; partition += 1) {
        const { replicas } = await kafka.partition('events', partition);
        assert.deepEqual(replicas.toSorted(), [0, 1, 2], `partition ${partition}`);
      }
    },
  },
  { how: 'run', commands: ['ess topics elect'], in: 'cluster' },
  { how: 'run', commands: [/ess topics move --(cancel|throttle-bytes 0)/], in: 'cluster' },
];
