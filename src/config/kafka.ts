// What the options say of Kafka: whether they fit together, and the target that the threads get. Runs once, at start,
// on the main thread.

import zlib from 'node:zlib';
import { EssError } from '../errors.ts';
import type { KafkaTarget } from '../log/kafka/target.ts';
import { parseBrokers } from './brokers.ts';
import { certificateOf, checkPair, privateKeyOf, secretOf } from './file.ts';
import type { Config, OptionName } from './options.ts';

/** An option with its origin and value, in words that begin a message. */
export type Describe = (name: OptionName) => string;

/** Kafka's longest name of a topic, characters. */
const topicCharactersMax = 249;
const deadLetterSuffix = '-dead-letters';

/** True if events go through Kafka, false if through the embedded log. */
export function hasKafka(config: { readonly kafkaBrokers: string }): boolean {
  return config.kafkaBrokers !== '';
}

/**
 * Throws EssError `bad_option` for Kafka options that contradict each other. Files are not looked at. Nothing is
 * checked where the log is embedded.
 */
export function checkKafka(config: Config, describe: Describe): void {
  if (!hasKafka(config)) return;
  const refuse = (name: OptionName, detail: string): never => {
    throw new EssError('bad_option', `${describe(name)}, ${detail}`);
  };
  if (deadLetterTopic(config).length > topicCharactersMax) {
    refuse('kafkaTopic', 'which with -dead-letters behind it is too long: set --kafka-dead-letter-topic');
  }
  if (deadLetterTopic(config) === config.kafkaTopic) {
    refuse('kafkaDeadLetterTopic', `but must not be the topic of the events, as ${describe('kafkaTopic')}`);
  }
  if (config.kafkaMinInsyncReplicas > config.kafkaReplicationFactor) {
    refuse(
      'kafkaMinInsyncReplicas',
      `but must be at most the number of replicas, as ${describe('kafkaReplicationFactor')}`,
    );
  }
  // The types of Node.js 20 do not have it.
  if (config.kafkaCompression === 'zstd' && !('zstdCompressSync' in zlib)) {
    refuse(
      'kafkaCompression',
      `but needs Node.js 22.15 or later, or 23.8 or later of Node.js 23; this is ${process.version}`,
    );
  }
  checkTls(config, refuse, describe);
  checkSasl(config, refuse, describe);
}

type Refuse = (name: OptionName, detail: string) => never;

function checkTls(config: Config, refuse: Refuse, describe: Describe): void {
  const { kafkaTlsCertFile: cert, kafkaTlsKeyFile: key } = config;
  if (config.kafkaTls === 'off') {
    for (const name of ['kafkaTlsCaFile', 'kafkaTlsCertFile', 'kafkaTlsKeyFile'] as const) {
      // Who names a certificate believes that the connection is encrypted.
      if (config[name] !== '') refuse(name, `but ${describe('kafkaTls')}`);
    }
  }
  if (cert !== '' && key === '') refuse('kafkaTlsCertFile', 'but --kafka-tls-key-file is not set');
  if (cert === '' && key !== '') refuse('kafkaTlsKeyFile', 'but --kafka-tls-cert-file is not set');
}

function checkSasl(config: Config, refuse: Refuse, describe: Describe): void {
  const given = (['kafkaSaslUsername', 'kafkaSaslPasswordFile', 'kafkaSaslPassword'] as const).find(
    (name) => config[name] !== '',
  );
  if (config.kafkaSaslMechanism === 'none') {
    if (given !== undefined) refuse(given, `but ${describe('kafkaSaslMechanism')}`);
    return;
  }
  if (config.kafkaSaslUsername === '') {
    refuse('kafkaSaslMechanism', 'but --kafka-sasl-username is not set');
  }
  if (config.kafkaSaslPasswordFile === '' && config.kafkaSaslPassword === '') {
    refuse(
      'kafkaSaslMechanism',
      'but there is no password: set --kafka-sasl-password-file or ESS_KAFKA_SASL_PASSWORD',
    );
  }
}

/** The name of the topic of dead letters, 'auto' resolved. */
function deadLetterTopic(config: Config): string {
  const { kafkaTopic, kafkaDeadLetterTopic } = config;
  return kafkaDeadLetterTopic === 'auto' ? `${kafkaTopic}${deadLetterSuffix}` : kafkaDeadLetterTopic;
}

/**
 * How to reach Kafka; null where the log is embedded. Reads the files of certificates and of the password: call it
 * once, on the main thread. Throws EssError `bad_option`, naming the option, for a file that cannot be read or used.
 */
export function kafkaTarget(config: Config): KafkaTarget | null {
  if (!hasKafka(config)) return null;
  const brokers = parseBrokers(config.kafkaBrokers);
  if (typeof brokers === 'string') throw new EssError('bad_option', `--kafka-brokers must ${brokers}`);
  return {
    kind: 'kafka',
    brokers,
    topic: config.kafkaTopic,
    deadLetterTopic: deadLetterTopic(config),
    group: config.kafkaGroup,
    tls: config.kafkaTls === 'on' ? tlsOf(config) : null,
    sasl:
      config.kafkaSaslMechanism === 'none'
        ? null
        : {
            mechanism: config.kafkaSaslMechanism,
            username: config.kafkaSaslUsername,
            password: secretOf(config, 'kafkaSaslPassword'),
          },
    compression: config.kafkaCompression,
    minInsyncReplicas: config.kafkaMinInsyncReplicas,
    appendDeadlineMs: appendDeadlineMs(config.httpDeadlineMs),
    sessionTimeoutMs: config.kafkaSessionTimeoutMs,
    fetchBytesMax: config.kafkaFetchBytesMax,
    eventBytesMax: config.eventBytesMax,
    eventDepthMax: config.eventDepthMax,
  };
}

function tlsOf(config: Config): NonNullable<KafkaTarget['tls']> {
  const ca = certificateOf(config, 'kafkaTlsCaFile');
  const cert = certificateOf(config, 'kafkaTlsCertFile');
  const key = privateKeyOf(config, 'kafkaTlsKeyFile');
  if (cert !== '') checkPair(cert, key, 'kafkaTlsKeyFile');
  return { ca, cert, key };
}

/**
 * An append has to settle before its requests' deadline, so that they get the log's answer and not the deadline's. A
 * second or a fifth of the time, whichever is more, is for the rings before and after it; but it gets at least half.
 */
function appendDeadlineMs(httpDeadlineMs: number): number {
  const kept = Math.max(1000, httpDeadlineMs / 5);
  return Math.floor(Math.max(httpDeadlineMs / 2, httpDeadlineMs - kept));
}
