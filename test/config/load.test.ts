// The order of the sources, the checks, and the messages' parts that a person needs (never their wording).

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { inspect } from 'node:util';
import * as fc from 'fast-check';
import { loadConfig, memoryBudget, suggestion } from '../../src/config/load.ts';
import {
  type Option,
  optionFlag,
  optionKey,
  optionNames,
  options,
  optionVariable,
} from '../../src/config/options.ts';
import { EssError } from '../../src/errors.ts';
import { viewerBacklogBytesMax, viewersMax } from '../../src/live/bounds.ts';
import { appendsMax } from '../../src/log/kafka/target.ts';
import { file, folder, refusesOption } from './files.ts';

/** Asserts that the configuration is refused, and that the message has every one of these parts in it. */
function refuses(argv: readonly string[], env: NodeJS.ProcessEnv, ...parts: readonly string[]): void {
  refusesOption(() => loadConfig(argv, env, 8), parts);
}

test('without any source every option has its default', () => {
  const config = loadConfig([], {}, 8);
  for (const name of optionNames) {
    if (options[name].default !== 'auto') assert.equal(config[name], options[name].default);
  }
});

test('a flag wins over the environment, which wins over the file, which wins over the default', () => {
  const config = file({ port: 1001, sinks: 2, ack: 'memory' });
  const byFile = loadConfig(['--config', config], {}, 8);
  assert.deepEqual([byFile.port, byFile.sinks, byFile.ack, byFile.readers], [1001, 2, 'memory', 2]);
  const byEnvironment = loadConfig([], { ESS_CONFIG: config, ESS_PORT: '1002', ESS_SINKS: '3' }, 8);
  assert.deepEqual([byEnvironment.port, byEnvironment.sinks, byEnvironment.ack], [1002, 3, 'memory']);
  const byFlag = loadConfig(['--port', '1003'], { ESS_CONFIG: config, ESS_PORT: '1002', ESS_SINKS: '3' }, 8);
  assert.deepEqual([byFlag.port, byFlag.sinks, byFlag.ack], [1003, 3, 'memory']);
});

test('--config wins over ESS_CONFIG', () => {
  const config = loadConfig(['--config', file({ port: 1 })], { ESS_CONFIG: file({ port: 2 }) }, 8);
  assert.equal(config.port, 1);
});

test('a flag takes its value after a space or an equals sign, and the last of two counts', () => {
  assert.equal(loadConfig(['--port', '8081'], {}, 8).port, 8081);
  assert.equal(loadConfig(['--port=8081'], {}, 8).port, 8081);
  assert.equal(loadConfig(['--port=8081', '--port', '8082'], {}, 8).port, 8082);
});

test('every option is taken from each of its sources', () => {
  for (const name of optionNames) {
    const option: Option = options[name];
    if (option.type === 'secret') continue;
    const value =
      option.type === 'choice' ? option.choices[0] : option.type === 'number' ? option.max : option.example;
    // The largest value of one option can contradict the default of another: then exactly that is said.
    const load = (argv: readonly string[], env: NodeJS.ProcessEnv): unknown => {
      try {
        return loadConfig(argv, env, 8)[name];
      } catch (error) {
        assert.ok(error instanceof EssError && error.message.includes(`--${optionFlag(name)}`));
        return value;
      }
    };
    assert.equal(load([`--${optionFlag(name)}`, String(value)], {}), value);
    assert.equal(load([], { [optionVariable(name)]: String(value) }), value);
    assert.equal(load(['--config', file({ [optionKey(name)]: value })], {}), value);
  }
});

test('every example in the option table is a valid value', () => {
  for (const name of optionNames) {
    if (options[name].type === 'secret') continue;
    const flags = [`--${optionFlag(name)}`, options[name].example];
    if (name === 'httpBodyBytesMax') flags.push('--ring-bytes', '67108864');
    loadConfig(flags, {}, 8);
  }
});

test('an unknown flag is refused with the nearest one named', () => {
  refuses(['--prot', '8080'], {}, '--prot', '--port');
  refuses(['--sinkLingerMs=5'], {}, '--sinkLingerMs', '--sink-linger-ms');
  refuses(['-p', '8080'], {}, '-p');
});

test('an unknown environment variable that begins with ESS_ is refused with the nearest one named', () => {
  refuses([], { ESS_PROT: '8080' }, 'ESS_PROT', 'ESS_PORT');
});

/** The options that are secrets, each with a value that nothing else holds. */
const secrets = optionNames.filter((name) => options[name].type === 'secret');
const secret = 'hunter2-hunter2';

test('a secret on the command line or in the file is refused, not repeated, with what to do instead', () => {
  assert.ok(secrets.includes('kafkaSaslPassword') && secrets.includes('clickhousePassword'));
  for (const name of secrets) {
    const flag = `--${optionFlag(name)}`;
    const parts = [optionVariable(name), `${flag}-file`];
    const refusal = (argv: readonly string[]): void =>
      refusesOption(() => loadConfig(argv, {}, 8), parts, secret);
    refusal([flag, secret]);
    refusal([`${flag}=${secret}`]);
    refusal(['--port', '1', flag]);
    refusal(['--config', file({ [optionKey(name)]: secret })]);
  }
});

test('a secret under a misspelt name is not repeated', () => {
  for (const variable of ['ESS_CLICKHOUSE_PASWORD', 'ESS_SECRET', 'ESS_KAFKA_PASSWORD']) {
    refusesOption(() => loadConfig([], { [variable]: secret }, 8), [variable], secret);
  }
  for (const argv of [['--clickhouse-pass', secret], [`--kafka-password=${secret}`]]) {
    refusesOption(() => loadConfig(argv, {}, 8), [], secret);
  }
});

test('a secret is in the configuration for who asks for it by name, and nowhere that prints or copies it', () => {
  const env = Object.fromEntries(secrets.map((name) => [optionVariable(name), secret]));
  const config = loadConfig(['--clickhouse', 'http://a:8123'], env, 8);
  for (const name of secrets) assert.equal(config[name], secret);
  const texts = [JSON.stringify(config), inspect(config), JSON.stringify({ ...config })];
  texts.push(JSON.stringify(structuredClone(config)), JSON.stringify(memoryBudget(config)));
  for (const text of texts) assert.ok(!text.includes(secret));
});

test('variables of the tests and of other programs are no options', () => {
  const env = {
    ESS_FAULT: 'x:1',
    ESS_REQUIRE_ALL: '1',
    ESS_TEST_ANYTHING: '1',
    PATH: '/bin',
    PORT: '1',
    ESSAY: '1',
  };
  assert.deepEqual(loadConfig([], env, 8), loadConfig([], {}, 8));
});

test('an empty environment variable counts as not set', () => {
  assert.equal(loadConfig([], { ESS_PORT: '', ESS_CONFIG: '' }, 8).port, 8080);
});

test('an unknown key in the file is refused with the file and the nearest key named', () => {
  const path = file({ sink_linger: 5 });
  refuses(['--config', path], {}, 'sink_linger', path, 'sink_linger_ms');
});

test('a value out of range is refused with its option, origin, value and range', () => {
  refuses(['--port', '65536'], {}, '--port', '65536', '0 to 65535');
  refuses(['--port', '-1'], {}, '--port', '-1', '0 to 65535');
  refuses([], { ESS_PORT: '65536' }, '--port', 'ESS_PORT', '65536', '0 to 65535');
  const path = file({ port: 65536 });
  refuses(['--config', path], {}, '--port', path, '65536', '0 to 65535');
  refuses(['--ack', 'disk'], {}, '--ack', 'disk', 'memory');
});

test('a value of the wrong type is refused', () => {
  for (const text of ['', 'x', '8e3', '0x10', '1.5', ' 8', '1_000', '007', '99999999999999999999']) {
    refuses([`--port=${text}`], {}, '--port');
  }
  for (const value of ['8080', true, null, [8080], 80.5]) {
    refuses(['--config', file({ port: value })], {}, '--port', JSON.stringify(value));
  }
  refuses(['--config', file({ host: 1 })], {}, '--host');
  refuses(['--host='], {}, '--host');
  refuses(['--port', 'auto'], {}, '--port');
});

test('an invalid value is refused even where another source overrules it', () => {
  refuses(['--port', '1'], { ESS_PORT: 'x' }, 'ESS_PORT');
});

test('a flag without its value, and an argument that is no option, are refused', () => {
  refuses(['--port'], {}, '--port');
  refuses(['--port', '--host', 'x'], {}, '--port');
  refuses(['8080'], {}, '8080');
});

test('a file that is missing, is not JSON or holds no object is refused', () => {
  refuses(['--config', join(folder, 'none.json')], {}, 'none.json');
  for (const content of ['{"port": 8080', '[]', 'null', '8080']) {
    const path = file(content);
    refuses(['--config', path], {}, path);
  }
  refuses(['--config='], {}, '--config');
});

test('an option whose default is empty can be emptied, over a weaker source too', () => {
  const config = loadConfig(['--kafka-brokers='], { ESS_KAFKA_BROKERS: 'a:1', ESS_CLICKHOUSE: '' }, 8);
  assert.deepEqual([config.kafkaBrokers, config.clickhouse], ['', '']);
  refuses(['--kafka-group='], {}, '--kafka-group');
});

test('a value with an @ in it, which may be a password, is not repeated', () => {
  refusesOption(() => loadConfig(['--kafka-brokers', `u:${secret}@a:1`], {}, 8), ['--kafka-brokers'], secret);
});

test('automatic thread counts follow the cores, and sinks also the partitions', () => {
  const threads = (cores: number, ...argv: string[]): number[] => {
    const { producers, sinks, readers } = loadConfig(argv, {}, cores);
    return [producers, sinks, readers];
  };
  assert.deepEqual(threads(1), [1, 1, 2]);
  assert.deepEqual(threads(2), [1, 1, 2]);
  assert.deepEqual(threads(8), [3, 4, 2]);
  assert.deepEqual(threads(16), [6, 4, 4]);
  assert.deepEqual(threads(16, '--partitions', '12'), [6, 8, 4]);
  assert.deepEqual(threads(8, '--partitions', '1', '--producers', 'auto'), [3, 1, 2]);
  assert.deepEqual(threads(1000, '--partitions', '1024'), [64, 64, 64]);
  assert.deepEqual(threads(8, '--producers', '1', '--sinks', '7', '--readers', '1'), [1, 7, 1]);
  assert.deepEqual(loadConfig(['--config', file({ producers: 'auto' })], {}, 8).producers, 3);
});

test('combinations that cannot work are refused with both options named', () => {
  refuses(['--ring-bytes', '1000000'], {}, '--ring-bytes', '1000000');
  refuses(['--ack-ring-bytes', '1000000'], {}, '--ack-ring-bytes');
  refuses(
    [],
    { ESS_RING_BYTES: '65536' },
    '--http-body-bytes-max',
    '--ring-bytes',
    'ESS_RING_BYTES',
    '28672',
  );
  loadConfig(['--ring-bytes', '65536', '--http-body-bytes-max', '28672'], {}, 8);
  refuses(['--ring-bytes', '65536', '--http-body-bytes-max', '28673'], {}, '--http-body-bytes-max');
  refuses(['--http-pending-bytes-max', '1048576'], {}, '--http-body-bytes-max', '--http-pending-bytes-max');
  refuses(['--event-bytes-max', '40000000'], {}, '--event-bytes-max', '--http-decompressed-bytes-max');
  refuses(['--log-bytes-max', '65536'], {}, '--event-bytes-max', '--log-bytes-max');
  // The bound of a log that is not there.
  loadConfig(['--log-bytes-max', '65536', '--kafka-brokers', 'a:1'], {}, 8);
});

/** Every role serves the live page, bytes. */
const inEveryRole = viewersMax * viewerBacklogBytesMax;

test('the memory budget has the bounds of the half that runs here, and grows with each of them', () => {
  const total = (...argv: string[]): number =>
    memoryBudget(loadConfig(argv, {}, 8)).reduce((sum, { bytes }) => sum + bytes, 0);
  const all = total();
  assert.equal(total('--role', 'ingest') + total('--role', 'sink'), all + inEveryRole);
  const MiB = 1024 * 1024;
  assert.equal(total('--ring-bytes', `${64 * MiB}`) - all, 3 * 32 * MiB);
  assert.equal(total('--http-pending-bytes-max', `${65 * MiB}`) - all, MiB);
  assert.equal(total('--identities-max', '2000001') - all, 64);
  assert.equal(total('--sink-batch-bytes-max', `${33 * MiB}`) - all, 4 * 3 * MiB);
  assert.equal(total('--sinks', '5') - all, 3 * 32 * MiB);
  for (const { name, bytes, why } of memoryBudget(loadConfig([], {}, 8))) {
    assert.ok(name !== '' && why !== '' && Number.isSafeInteger(bytes) && bytes > 0);
  }
});

test('with Kafka the memory budget also has what is on its way to it and what was fetched from it', () => {
  const total = (...argv: string[]): number =>
    memoryBudget(loadConfig(argv, {}, 8)).reduce((sum, { bytes }) => sum + bytes, 0);
  const MiB = 1024 * 1024;
  const kafka = ['--kafka-brokers', 'a:1'];
  const all = total(...kafka);
  assert.equal(total(...kafka, '--role', 'ingest') + total(...kafka, '--role', 'sink'), all + inEveryRole);
  assert.equal(total(...kafka, '--kafka-fetch-bytes-max', `${33 * MiB}`) - all, 4 * MiB);
  // One group fills; those under way, twice as many as the driver takes, are there twice.
  assert.equal(total(...kafka, '--group-bytes-max', `${5 * MiB}`) - all, 3 * (1 + 4 * appendsMax) * MiB);
  assert.equal(total('--group-bytes-max', `${5 * MiB}`) - total(), 3 * 2 * MiB);
});

test('a name with one slip in it gets the right suggestion, and a quite different one none', () => {
  const flags = optionNames.map(optionFlag);
  fc.assert(
    fc.property(fc.constantFrom(...flags.filter((flag) => flag.length > 9)), fc.nat(), (flag, at) => {
      const i = at % flag.length;
      assert.ok(suggestion(flag.slice(0, i) + flag.slice(i + 1), flags).includes(flag));
    }),
  );
  assert.equal(suggestion('zzzzzzzz', flags), '');
});
