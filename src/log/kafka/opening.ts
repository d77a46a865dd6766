// How a handle finds its topic: asks brokers until they tell of it, for as long as a cluster that starts together with ESS
// may need, and then says what is wrong. Runs on the thread that opens the handle.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../../errors.ts';
import type { KafkaClient } from './client.ts';
import { KafkaError } from './kafka_error.ts';
import type { KafkaTarget } from './target.ts';
import { kafkaError, kafkaErrors } from './wire/errors.ts';

/** How long brokers are waited for unless told otherwise, ms: a cluster that starts with ESS needs 10 to 20 s. */
const openTimeoutDefaultMs = 30_000;
/** But a topic that no broker knows, or a refused password, is believed after this, ms: it does not heal by itself. */
const openRefusedMs = 5_000;
const openRetryMs = 200;

/**
 * What `look` gives, which is asked again while it gives null or brokers do not answer. Rejects with `log_unavailable`,
 * naming the reason: after `timeoutMs` (default 30,000), or sooner if the brokers refuse.
 */
export async function openTopic<T>(
  client: KafkaClient,
  target: KafkaTarget,
  look: () => Promise<T | null>,
  timeoutMs = openTimeoutDefaultMs,
): Promise<T> {
  const startedMs = performance.now();
  for (;;) {
    try {
      const found = await look();
      if (found !== null) return found;
    } catch (error) {
      if (!(error instanceof KafkaError)) throw error;
      const isRefused = error.kind === 'authentication' || error.protocolCode !== undefined;
      const ageMs = performance.now() - startedMs;
      if (ageMs > Math.min(isRefused ? openRefusedMs : timeoutMs, timeoutMs))
        throw openFailure(target, error);
    }
    client.forget();
    await sleep(openRetryMs);
  }
}

function openFailure({ topic, brokers }: KafkaTarget, cause: KafkaError): EssError {
  const where = brokers.join(', ');
  if (cause.kind === 'authentication')
    return new EssError('log_unavailable', `Kafka at ${where} refuses the user name or password`, { cause });
  if (cause.protocolCode === undefined)
    return new EssError('log_unavailable', `no Kafka broker answers: ${cause.message}`, { cause });
  const text =
    cause.protocolCode === kafkaErrors.UNKNOWN_TOPIC_OR_PARTITION.code
      ? `topic ${topic} is not there; \`ess init\` creates it`
      : `Kafka at ${where} refuses topic ${topic}: ${kafkaError(cause.protocolCode).name}`;
  return new EssError('log_unavailable', text, { cause });
}
