// What the options make of Kafka: their combinations, and the target that the threads get.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import zlib from 'node:zlib';
import * as fc from 'fast-check';
import { kafkaTarget } from '../../src/config/kafka.ts';
import { loadConfig } from '../../src/config/load.ts';
import type { KafkaTarget } from '../../src/log/kafka/target.ts';
import { certificate, privateKey } from './certificates.ts';
import { file, folder, refusesOption } from './files.ts';

const secret = 'correct horse battery staple';
const brokers = ['--kafka-brokers', 'kafka-1:9092,kafka-2:9092'];
const withTls = [...brokers, '--kafka-tls', 'on'];
const withSasl = [...brokers, '--kafka-sasl-mechanism', 'scram-sha-256', '--kafka-sasl-username', 'ess'];
const password = { ESS_KAFKA_SASL_PASSWORD: secret };

function target(argv: readonly string[], env: NodeJS.ProcessEnv = {}): KafkaTarget {
  const made = kafkaTarget(loadConfig(argv, env, 8));
  assert.ok(made !== null);
  return made;
}

function refuses(argv: readonly string[], env: NodeJS.ProcessEnv, ...parts: readonly string[]): void {
  refusesOption(() => kafkaTarget(loadConfig(argv, env, 8)), parts, secret);
}

test('without brokers the log is embedded, whatever the other options say', () => {
  assert.equal(kafkaTarget(loadConfig([], {}, 8)), null);
  assert.equal(kafkaTarget(loadConfig(['--kafka-brokers='], { ESS_KAFKA_BROKERS: 'a:1' }, 8)), null);
  const argv = ['--kafka-tls-ca-file', 'nowhere', '--kafka-min-insync-replicas', '9'];
  assert.equal(kafkaTarget(loadConfig(argv, password, 8)), null);
});

test('with brokers alone the target has the defaults', () => {
  assert.deepEqual(target(brokers), {
    kind: 'kafka',
    brokers: ['kafka-1:9092', 'kafka-2:9092'],
    topic: 'events',
    deadLetterTopic: 'events-dead-letters',
    group: 'event-statistics-service',
    tls: null,
    sasl: null,
    compression: 'none',
    minInsyncReplicas: 2,
    appendDeadlineMs: 8000,
    sessionTimeoutMs: 10_000,
    fetchBytesMax: 32 * 1024 * 1024,
    eventBytesMax: 1_000_000,
    eventDepthMax: 64,
  });
});

test('a new topic has 12 partitions unless another number is given', () => {
  assert.equal(loadConfig(brokers, {}, 8).partitions, 12);
  assert.equal(loadConfig([...brokers, '--partitions', '5'], {}, 8).partitions, 5);
  assert.equal(loadConfig(brokers, {}, 16).sinks, 8);
});

test('the topic of dead letters follows the topic unless it has a name of its own', () => {
  assert.equal(target([...brokers, '--kafka-topic', 'web']).deadLetterTopic, 'web-dead-letters');
  const own = target([...brokers, '--kafka-topic', 'web', '--kafka-dead-letter-topic', 'parked']);
  assert.equal(own.deadLetterTopic, 'parked');
  refuses(
    [...brokers, '--kafka-dead-letter-topic', 'events'],
    {},
    '--kafka-dead-letter-topic',
    '--kafka-topic',
  );
  const long = 'x'.repeat(240);
  refuses([...brokers, '--kafka-topic', long], {}, '--kafka-topic', '--kafka-dead-letter-topic');
  target([...brokers, '--kafka-topic', long, '--kafka-dead-letter-topic', 'parked']);
});

test('an append settles before its request, with half of the time at least', () => {
  const deadline = (ms: number): number =>
    target([...brokers, '--http-deadline-ms', `${ms}`]).appendDeadlineMs;
  assert.deepEqual(
    [60_000, 10_000, 5000, 2000, 1500, 11, 10].map(deadline),
    [48_000, 8000, 4000, 1000, 750, 5, 5],
  );
  fc.assert(
    fc.property(fc.integer({ min: 10, max: 600_000 }), (ms) => {
      const append = deadline(ms);
      assert.ok(Number.isInteger(append) && append >= Math.floor(ms / 2) && append <= ms * 0.8);
    }),
  );
});

test('a list of brokers, a topic or a codec that cannot be is refused with its option and origin', () => {
  refuses(['--kafka-brokers', 'kafka-1'], {}, '--kafka-brokers', 'the command line', 'kafka-1');
  refuses([], { ESS_KAFKA_BROKERS: 'a:1,a:1' }, '--kafka-brokers', 'ESS_KAFKA_BROKERS', 'a:1');
  const path = file({ kafka_brokers: 'a:1,' });
  refuses(['--config', path], {}, '--kafka-brokers', path);
  for (const topic of ['', '.', '..', 'a b', 'ä', 'x'.repeat(250)]) {
    refuses([...brokers, `--kafka-topic=${topic}`], {}, '--kafka-topic');
  }
  refuses([...brokers, '--kafka-compression', 'lz4'], {}, '--kafka-compression', 'lz4');
});

test('zstd is refused where this Node.js cannot do it, with the version that can', () => {
  const argv = [...brokers, '--kafka-compression', 'zstd'];
  if ('zstdCompressSync' in zlib) assert.equal(target(argv).compression, 'zstd');
  else refuses(argv, {}, '--kafka-compression', '22.15', process.version);
  assert.equal(target([...brokers, '--kafka-compression', 'gzip']).compression, 'gzip');
});

test('more in-sync replicas than replicas are refused with both options named', () => {
  const names = ['--kafka-min-insync-replicas', '--kafka-replication-factor'];
  refuses([...brokers, '--kafka-replication-factor', '1'], {}, ...names);
  refuses([...brokers, '--kafka-min-insync-replicas', '4'], {}, ...names);
  target([...brokers, '--kafka-replication-factor', '1', '--kafka-min-insync-replicas', '1']);
});

test('certificates get into the target as the texts of their files', () => {
  assert.deepEqual(target(withTls).tls, { ca: '', cert: '', key: '' });
  const files = ['--kafka-tls-ca-file', file(certificate), '--kafka-tls-cert-file', file(certificate)];
  const all = target([...withTls, ...files, '--kafka-tls-key-file', file(privateKey)]);
  assert.deepEqual(all.tls, { ca: certificate, cert: certificate, key: privateKey });
});

test('a certificate without its key, a key without its certificate, and either without TLS are refused', () => {
  refuses([...withTls, '--kafka-tls-cert-file', 'x'], {}, '--kafka-tls-cert-file', '--kafka-tls-key-file');
  refuses([...withTls, '--kafka-tls-key-file', 'x'], {}, '--kafka-tls-cert-file', '--kafka-tls-key-file');
  for (const name of ['ca', 'cert', 'key']) {
    refuses([...brokers, `--kafka-tls-${name}-file`, 'x'], {}, `--kafka-tls-${name}-file`, '--kafka-tls ');
  }
});

test('a file that cannot be read or used is refused with its option and its name', () => {
  const missing = join(folder, 'none.pem');
  refuses([...withTls, '--kafka-tls-ca-file', missing], {}, '--kafka-tls-ca-file', missing);
  refuses([...withTls, '--kafka-tls-ca-file', folder], {}, '--kafka-tls-ca-file', folder);
  const text = file(secret);
  refuses([...withTls, '--kafka-tls-ca-file', text], {}, '--kafka-tls-ca-file', text);
  const cert = ['--kafka-tls-cert-file', file(certificate), '--kafka-tls-key-file'];
  refuses([...withTls, ...cert, text], {}, '--kafka-tls-key-file', text);
  refuses([...withTls, ...cert, file(certificate)], {}, '--kafka-tls-key-file');
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  refuses(
    [...withTls, ...cert, file(other.export({ type: 'pkcs8', format: 'pem' }))],
    {},
    '--kafka-tls-key-file',
  );
});

test('the password comes from the environment or from the first line of its file', () => {
  const sasl = { mechanism: 'scram-sha-256', username: 'ess', password: secret };
  assert.deepEqual(target(withSasl, password).sasl, sasl);
  for (const ending of ['', '\n', '\r\n', '\nsecond line\n']) {
    const path = file(`${secret}${ending}`);
    assert.deepEqual(target([...withSasl, '--kafka-sasl-password-file', path]).sasl, sasl);
  }
  // Spaces belong to it.
  const spaced = target([...withSasl, '--kafka-sasl-password-file', file(' x \n')]).sasl;
  assert.equal(spaced?.password, ' x ');
});

test('a login with a part missing, or with parts that nobody uses, is refused', () => {
  const mechanism = [...brokers, '--kafka-sasl-mechanism', 'plain'];
  refuses(mechanism, password, '--kafka-sasl-mechanism', '--kafka-sasl-username');
  refuses(withSasl, {}, '--kafka-sasl-mechanism', '--kafka-sasl-password-file', 'ESS_KAFKA_SASL_PASSWORD');
  refuses(
    [...brokers, '--kafka-sasl-username', 'ess'],
    {},
    '--kafka-sasl-username',
    '--kafka-sasl-mechanism',
  );
  refuses(brokers, password, 'ESS_KAFKA_SASL_PASSWORD', '--kafka-sasl-mechanism');
  const flag = '--kafka-sasl-password-file';
  refuses([...withSasl, flag, join(folder, 'none')], {}, flag);
  refuses([...withSasl, flag, file('\nx\n')], {}, flag);
  refuses([...withSasl, flag, file(secret)], password, flag, 'ESS_KAFKA_SASL_PASSWORD');
});
