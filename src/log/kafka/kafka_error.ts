// Why a broker gave no usable answer, as one kind of error for all that can go wrong between asking and hearing. Made on
// whichever thread asked, of what kafkajs and its sockets throw.

import { kafkaError, kafkaErrors } from './wire/errors.ts';

/** Codes that say who may not log in, rather than what may not be done. */
const saslCodes: ReadonlySet<number | undefined> = new Set<number>([
  kafkaErrors.UNSUPPORTED_SASL_MECHANISM.code,
  kafkaErrors.ILLEGAL_SASL_STATE.code,
  kafkaErrors.SASL_AUTHENTICATION_FAILED.code,
]);

export type KafkaErrorKind = 'unreachable' | 'authentication' | 'timeout' | 'closed' | 'protocol';

/** Why a broker gave no usable answer. Stays inside `log/kafka`, which turns it into an EssError for its callers. */
export class KafkaError extends Error {
  override readonly name = 'KafkaError';
  readonly kind: KafkaErrorKind;
  /** False: the request provably never left this process, so the broker cannot have acted on it. */
  readonly isSent: boolean;
  /** Kafka's error code, for kind `protocol` if the broker gave one. */
  readonly protocolCode?: number;

  constructor(
    kind: KafkaErrorKind,
    isSent: boolean,
    message: string,
    options: { readonly protocolCode?: number; readonly cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.kind = kind;
    this.isSent = isSent;
    if (options.protocolCode !== undefined) this.protocolCode = options.protocolCode;
  }
}

export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** kafkajs names its errors but exports no types for them. */
function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : '';
}

/** The first code of Kafka's in an error of kafkajs; CreateTopics wraps one for each topic. */
function protocolCodeOf(error: unknown): number | undefined {
  if (typeof error !== 'object' || error === null) return undefined;
  if ('code' in error && typeof error.code === 'number') return error.code;
  if ('errors' in error && Array.isArray(error.errors)) {
    for (const inner of error.errors) {
      const code = protocolCodeOf(inner);
      if (code !== undefined) return code;
    }
  }
  return undefined;
}

/** Takes an error of kafkajs's apart. `isSent` is what is known of the request at that moment. */
export function toKafkaError(error: unknown, isSent: boolean, address: string): KafkaError {
  if (error instanceof KafkaError) return error;
  const message = `${address}: ${messageOf(error)}`;
  switch (nameOf(error)) {
    case 'KafkaJSSASLAuthenticationError':
      return new KafkaError('authentication', false, message, { cause: error });
    case 'KafkaJSConnectionError':
    case 'KafkaJSConnectionClosedError':
    case 'KafkaJSLockTimeout':
      return new KafkaError('unreachable', isSent, message, { cause: error });
    case 'KafkaJSRequestTimeoutError':
      return new KafkaError('timeout', isSent, message, { cause: error });
    default: {
      const protocolCode = protocolCodeOf(error);
      if (saslCodes.has(protocolCode))
        return new KafkaError('authentication', false, message, { cause: error });
      return new KafkaError('protocol', isSent, message, {
        cause: error,
        ...(protocolCode === undefined ? {} : { protocolCode }),
      });
    }
  }
}

/** An error code in an answer, as an error, with what the broker said of it, if it did. */
export function refusal(code: number, said: string | null = null): KafkaError {
  const { name } = kafkaError(code);
  return new KafkaError('protocol', true, said === null ? name : `${name}: ${said}`, { protocolCode: code });
}

/** One error for several brokers: the most telling one, with all of them named. */
export function noneAnswered(failures: readonly KafkaError[]): KafkaError {
  const told =
    failures.find(({ kind }) => kind === 'authentication') ??
    failures.find(({ kind, protocolCode }) => kind === 'protocol' && protocolCode !== undefined) ??
    failures.find(({ kind }) => kind === 'closed');
  const text = failures.map(({ message }) => message).join('; ');
  const isSent = failures.some((failure) => failure.isSent);
  return new KafkaError(told?.kind ?? 'unreachable', isSent, text, {
    cause: failures[0],
    ...(told?.protocolCode === undefined ? {} : { protocolCode: told.protocolCode }),
  });
}
