// compose/compose.yaml without a container engine: it keeps to the specification's schema, everything that it refers to
// exists, what must agree with other files does, and each command line of ess is read by ess itself.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { DOMParser, onErrorStopParsing } from '@xmldom/xmldom';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { parseInitOptions } from '../../src/cli/init/options.ts';
import { clickhouseNodes } from '../../src/config/clickhouse.ts';
import { loadConfig, memoryBudget } from '../../src/config/load.ts';
import { optionNames, optionVariable } from '../../src/config/options.ts';
import {
  composePath,
  environmentOf,
  imageEnvironment,
  readCompose,
  readVariables,
  required,
  type Service,
} from './compose_file.ts';

const compose = readCompose();
const services = Object.entries(compose.services);
const cores = 8;
/** Node.js with its threads before the first event, generously: 80 MiB were measured. */
const idleBytes = 512 * 1024 ** 2;

const serviceOf = (name: string): Service => {
  const service = compose.services[name];
  assert.ok(service !== undefined, name);
  return service;
};
const isHealthChecked = ({ healthcheck }: Service): boolean =>
  healthcheck?.test !== undefined && healthcheck.disable !== true;
/** Those that end by themselves. */
const oneShots = ['ess-init', 'k6'];
const essServices = ['ess-init', 'ess-ingest', 'ess-sink'];
const environmentOfEss = (name: string): Record<string, string> => ({
  ...imageEnvironment(),
  ...environmentOf(serviceOf(name)),
});

describe('compose/compose.yaml', () => {
  test('keeps to the schema of the Compose specification', () => {
    const schema = JSON.parse(readFileSync('test/deploy/compose-spec.json', 'utf8')) as object;
    // `duration` and the like are formats of Compose's own.
    const validate = new Ajv2020({ strict: false, validateFormats: false, allErrors: true }).compile(schema);
    assert.ok(validate(compose), JSON.stringify(validate.errors, null, 2));
  });

  test('refers only to services, networks, volumes and files that exist, and declares nothing for nobody', () => {
    const volumes = new Set<string>();
    for (const [name, service] of services) {
      for (const network of service.networks ?? [])
        assert.ok(network in compose.networks, `${name}: ${network}`);
      for (const mount of service.volumes ?? []) {
        const [source = '', target = ''] = mount.split(':');
        assert.match(target, /^\//, mount);
        if (!source.startsWith('.')) volumes.add(source);
        else assert.ok(existsSync(join(dirname(composePath), source)), `${name}: ${source}`);
      }
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        const target = serviceOf(other);
        if (condition === 'service_healthy') assert.ok(isHealthChecked(target), `${name} waits for ${other}`);
        else assert.ok(condition === 'service_completed_successfully' && oneShots.includes(other), name);
        // Without the profile of what it depends on it could not start.
        for (const profile of target.profiles ?? []) assert.ok(service.profiles?.includes(profile), name);
      }
    }
    assert.deepEqual([...volumes].toSorted(), Object.keys(compose.volumes).toSorted());
  });

  test('pins every image, bounds every container, and says of each how it is restarted and looked at', () => {
    for (const [name, service] of services) {
      assert.match(service.image, /:v?\d+\.\d+(\.\d+)*$/, name);
      const limits = service.deploy?.resources?.limits;
      assert.ok(limits?.cpus !== undefined && limits.memory !== undefined, name);
      assert.equal(service.restart, oneShots.includes(name) ? 'no' : 'unless-stopped', name);
      assert.equal(isHealthChecked(service), !oneShots.includes(name), name);
      const opensMany = !(service.profiles ?? []).includes('monitoring');
      if (opensMany) assert.ok((service.ulimits?.nofile?.soft ?? 0) >= 65_536, name);
    }
  });

  test('publishes ports only on the loopback address unless told otherwise, and none twice', () => {
    const published = services.flatMap(([, { ports = [] }]) => ports);
    for (const port of published) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/);
    assert.equal(new Set(published.map((port) => port.split(':')[1])).size, published.length);
    for (const [variable, fallback] of readVariables())
      if (variable.endsWith('BIND')) assert.equal(fallback, '127.0.0.1');
  });

  test('env.example names every variable with its default, and no other', () => {
    const example = readFileSync('compose/env.example', 'utf8');
    const named = new Map(
      [...example.matchAll(/^(#?)([A-Z0-9_]+)=(.*)$/gm)].map(([, hash, name = '', value = '']) => [
        name,
        hash === '#' ? value : null,
      ]),
    );
    const variables = readVariables();
    assert.deepEqual([...named.keys()].toSorted(), [...variables.keys()].toSorted());
    for (const [name, fallback] of variables) {
      // k6's own defaults are in its scripts.
      if (fallback !== '') assert.equal(named.get(name), fallback, name);
    }
    assert.deepEqual(
      [...variables]
        .filter(([, value]) => value === null)
        .map(([name]) => name)
        .toSorted(),
      Object.keys(required).toSorted(),
    );
  });

  test('init comes before the roles, and after brokers and nodes', () => {
    for (const name of ['ess-ingest', 'ess-sink'])
      assert.equal(serviceOf(name).depends_on?.['ess-init']?.condition, 'service_completed_successfully');
    const before = Object.keys(serviceOf('ess-init').depends_on ?? {}).toSorted();
    assert.deepEqual(
      before,
      Object.keys(compose.services)
        .filter((name) => /^(kafka|clickhouse)-/.test(name))
        .toSorted(),
    );
  });

  test('every command line of ess is one, with variables that are options', () => {
    const known = new Set(optionNames.map((name) => optionVariable(name)));
    for (const name of essServices) {
      for (const variable of Object.keys(environmentOfEss(name)))
        assert.ok(known.has(variable) || variable === 'NODE_ENV', `${name}: ${variable}`);
    }
    const init = parseInitOptions(
      (serviceOf('ess-init').command ?? []).slice(1),
      environmentOfEss('ess-init'),
      cores,
    );
    assert.equal(serviceOf('ess-init').command?.[0], 'init');
    for (const role of ['ingest', 'sink']) {
      const name = `ess-${role}`;
      const config = loadConfig(serviceOf(name).command ?? [], environmentOfEss(name), cores);
      assert.equal(config.role, role);
      assert.equal(config.host, '0.0.0.0');
      assert.equal(config.clickhousePassword, required['ESS_CLICKHOUSE_PASSWORD']);
      // What init makes is what the roles look for.
      for (const option of [
        'kafkaBrokers',
        'kafkaTopic',
        'clickhouse',
        'clickhouseDatabase',
        'partitions',
      ] as const)
        assert.equal(init?.config[option], config[option], option);
      const graceS = Number(/^(\d+)s$/.exec(serviceOf(name).stop_grace_period ?? '')?.[1]);
      assert.ok(graceS * 1000 > config.stopDeadlineMs, name);
      for (const port of serviceOf(name).ports ?? [])
        assert.equal(port.split(':').at(-1), String(config.port));
    }
  });

  test('what an ess process may use at most fits into its container, however many cores the machine has', () => {
    for (const name of ['ess-ingest', 'ess-sink']) {
      const config = loadConfig(serviceOf(name).command ?? [], environmentOfEss(name), 128);
      const bytes = memoryBudget(config).reduce((sum, bound) => sum + bound.bytes, 0);
      const [, amount = '', unit = ''] =
        /^(\d+)([mg])$/.exec(serviceOf(name).deploy?.resources?.limits?.memory ?? '') ?? [];
      const limit = Number(amount) * 1024 ** (unit === 'g' ? 3 : 2);
      assert.ok(bytes + idleBytes < limit, `${name}: ${bytes} + ${idleBytes} of ${limit}`);
    }
  });

  test('the brokers are those that ess and they themselves are told of', () => {
    const config = loadConfig([], environmentOfEss('ess-sink'), cores);
    const brokers = config.kafkaBrokers.split(',');
    const names = Object.keys(compose.services).filter((name) => name.startsWith('kafka-'));
    assert.deepEqual(
      brokers,
      names.map((name) => `${name}:9092`),
    );
    const ids = new Set<string>();
    for (const name of names) {
      const env = environmentOf(serviceOf(name));
      assert.equal(env['KAFKA_ADVERTISED_LISTENERS'], `PLAINTEXT://${name}:9092`);
      assert.ok(
        env['KAFKA_CONTROLLER_QUORUM_VOTERS']?.split(',').includes(`${env['KAFKA_NODE_ID']}@${name}:9093`),
      );
      ids.add(env['KAFKA_NODE_ID'] ?? '');
      assert.equal(Buffer.from(env['CLUSTER_ID'] ?? '', 'base64url').length, 16);
      assert.equal(env['KAFKA_AUTO_CREATE_TOPICS_ENABLE'], 'false');
      assert.equal(env['KAFKA_UNCLEAN_LEADER_ELECTION_ENABLE'], 'false');
      assert.equal(env['KAFKA_MIN_INSYNC_REPLICAS'], String(config.kafkaMinInsyncReplicas));
      for (const factor of ['KAFKA_DEFAULT_REPLICATION_FACTOR', 'KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR'])
        assert.equal(env[factor], String(config.kafkaReplicationFactor));
    }
    assert.equal(ids.size, names.length);
    assert.ok(names.length >= config.kafkaReplicationFactor);
  });

  test('the ClickHouse nodes are those that ess is told of, in the order of their shards', () => {
    const config = loadConfig([], environmentOfEss('ess-sink'), cores);
    const shards = clickhouseNodes(config);
    assert.deepEqual(
      shards?.map((replicas) => replicas.length),
      [2, 2],
    );
    const replicas = new Set<string>();
    for (const [index, nodes] of (shards ?? []).entries()) {
      for (const { url } of nodes) {
        const { hostname, port } = new URL(url);
        const env = environmentOf(serviceOf(hostname));
        assert.equal(port, '8123');
        assert.equal(env['NODE_HOST'], hostname);
        assert.equal(env['NODE_SHARD'], String(index + 1));
        replicas.add(env['NODE_REPLICA'] ?? '');
        assert.equal(env['ESS_CLICKHOUSE_PASSWORD'], config.clickhousePassword);
      }
    }
    assert.equal(replicas.size, 4);
    assert.equal(config.partitions % (shards?.length ?? 1), 0);
  });

  test("ClickHouse's files are XML, take their values from variables that are set, and name Keepers that there are", () => {
    const mounted = services.flatMap(([name, { volumes = [] }]) =>
      volumes
        .filter((mount) => mount.includes('.xml:'))
        .map((mount) => ({ name, file: mount.split(':')[0] ?? '' })),
    );
    assert.equal(new Set(mounted.map(({ file }) => file)).size, 3);
    for (const { name, file } of mounted) {
      const document = new DOMParser({ onError: onErrorStopParsing }).parseFromString(
        readFileSync(join('compose', file), 'utf8'),
        'text/xml',
      );
      assert.equal(document.documentElement?.tagName, 'clickhouse', file);
      for (const element of Array.from(document.getElementsByTagName('*'))) {
        const variable = element.getAttribute('from_env');
        if (variable !== null) assert.ok(variable in environmentOf(serviceOf(name)), `${name}: ${variable}`);
      }
      const text = (tag: string): string[] =>
        Array.from(document.getElementsByTagName(tag)).map(({ textContent }) => textContent ?? '');
      for (const host of [...text('host'), ...text('hostname')]) assert.ok(host in compose.services, host);
      if (file.includes('keeper')) assert.equal(text('hostname').length, 3);
    }
  });

  test('Prometheus scrapes the ess services and is where Grafana looks for it', () => {
    const { scrape_configs: jobs } = parse(readFileSync('compose/prometheus/prometheus.yml', 'utf8')) as {
      readonly scrape_configs: readonly {
        readonly static_configs: readonly { readonly targets: readonly string[] }[];
      }[];
    };
    const targets = jobs.flatMap((job) => job.static_configs.flatMap((config) => config.targets));
    const { port } = loadConfig([], environmentOfEss('ess-sink'), cores);
    assert.deepEqual(
      targets,
      ['ess-ingest', 'ess-sink'].map((name) => `${name}:${port}`),
    );
    assert.ok('prometheus' in compose.services);
    const mounts = (serviceOf('grafana').volumes ?? []).map((mount) => mount.split(':')[1]);
    assert.ok(mounts.includes('/var/lib/grafana/dashboards/ess.json'));
    const k6 = environmentOf(serviceOf('k6'));
    for (const variable of ['URL', 'STATS_URL'])
      assert.ok(new URL(k6[variable] ?? '').hostname in compose.services);
  });
});
