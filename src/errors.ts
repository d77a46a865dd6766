// Every error that a client, an operator or another thread can meet, as one closed list. HTTP answers, log lines
// and tests refer to the code, never to a message.

interface ErrorKind {
  /** HTTP status when it becomes an answer. */
  readonly status: number;
  /** RFC 9457 `title`: the same words every time. */
  readonly title: string;
  /** True if the same request may succeed later. */
  readonly canRetry: boolean;
  /** What a person should do. */
  readonly action: string;
}

const kinds = {
  malformed_json: {
    status: 400,
    title: 'The body is not valid JSON',
    canRetry: false,
    action: 'Send UTF-8 JSON: one object, an array of objects, or NDJSON.',
  },
  malformed_encoding: {
    status: 400,
    title: 'The compressed body cannot be read',
    canRetry: false,
    action: 'Send a body that matches its Content-Encoding.',
  },
  invalid_parameter: {
    status: 400,
    title: 'A parameter is not valid',
    canRetry: false,
    action: 'Correct the parameter that is named.',
  },
  forbidden: {
    status: 403,
    title: 'Pages of other sites may not do this',
    canRetry: false,
    action: 'Open the page at the address of the service itself.',
  },
  not_found: { status: 404, title: 'Nothing is here', canRetry: false, action: 'Check the path or the id.' },
  method_not_allowed: {
    status: 405,
    title: 'This method is not supported here',
    canRetry: false,
    action: 'Use a method named in the Allow header.',
  },
  request_timeout: {
    status: 408,
    title: 'The body did not arrive in time',
    canRetry: true,
    action: 'Send the whole body within the time limit.',
  },
  ambiguous_id: {
    status: 409,
    title: 'Several sources use this id',
    canRetry: false,
    action: 'Add ?source= with one of the sources that are listed.',
  },
  letter_settled: {
    status: 409,
    title: 'The dead letter was dealt with already',
    canRetry: false,
    action: 'See its state: GET /dead-letters?state=all, or ess dlq show.',
  },
  too_large: {
    status: 413,
    title: 'A size limit is exceeded',
    canRetry: false,
    action: 'Send smaller events or smaller batches, or raise the limit that is named.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'This content type or encoding is not supported',
    canRetry: false,
    action: 'Use application/json or application/x-ndjson, and an encoding named in Accept-Encoding.',
  },
  invalid_event: {
    status: 422,
    title: 'An event is not valid',
    canRetry: false,
    action: 'Correct the field that is named.',
  },
  parked: {
    status: 422,
    title: 'The event is durable, but the store refused it',
    canRetry: false,
    action: 'See GET /dead-letters for the reason; once the cause is mended, ess dlq replay stores it.',
  },
  not_replayable: {
    status: 422,
    title: 'The dead letter is no event that could be stored',
    canRetry: false,
    action: 'Replay it with a corrected event (ess dlq replay --with FILE), or discard it.',
  },
  overloaded: {
    status: 503,
    title: 'Too much is in progress',
    canRetry: true,
    action: 'Retry after the time in Retry-After.',
  },
  stopping: {
    status: 503,
    title: 'This process is stopping',
    canRetry: true,
    action: 'Retry against another instance, or after the restart.',
  },
  log_unavailable: {
    status: 503,
    title: 'The log does not take events now; nothing was written',
    canRetry: true,
    action: 'Retry with the same id after Retry-After; check disk space and /readyz.',
  },
  log_changed: {
    status: 503,
    title: 'The topic was made anew or has other partitions now; nothing was written',
    canRetry: true,
    action: 'Retry with the same id after Retry-After: ESS opens the topic again by itself.',
  },
  outcome_unknown: {
    status: 503,
    title: 'The outcome is not known',
    canRetry: true,
    action: 'Retry with the same id: it stays one event.',
  },
  store_unavailable: {
    status: 503,
    title: 'The store does not answer reads now',
    canRetry: true,
    action: 'Retry after Retry-After; check /readyz.',
  },
  query_timeout: {
    status: 503,
    title: 'The query took longer than the limit',
    canRetry: true,
    action: 'Narrow the time range or the grouping, or raise read-timeout-ms.',
  },
  service_unreachable: {
    status: 503,
    title: 'The service does not answer a command',
    canRetry: true,
    action: 'Start the service, or give its address with --url.',
  },
  internal: {
    status: 500,
    title: 'A promise inside ESS was broken',
    canRetry: true,
    action: 'Please report it with the log lines around it.',
  },
  bad_option: {
    status: 500,
    title: 'An option is not valid',
    canRetry: false,
    action: 'See ess --help.',
  },
  format_unknown: {
    status: 500,
    title: 'The data was written by a newer ESS',
    canRetry: false,
    action: 'Run the ESS version that wrote it, or a newer one.',
  },
  platform_unsupported: {
    status: 500,
    title: 'A native module does not load here',
    canRetry: false,
    action: 'Use a Node.js and glibc that the message names.',
  },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof kinds;

/** Every code with its status, title, retry rule and advice. */
export const errorKinds: Readonly<Record<ErrorCode, ErrorKind>> = kinds;

/** The only error class that ESS throws on purpose. */
export class EssError extends Error {
  readonly code: ErrorCode;
  override readonly name = 'EssError';

  constructor(code: ErrorCode, detail: string, options?: { readonly cause?: unknown }) {
    super(detail, options);
    this.code = code;
  }

  get status(): number {
    return errorKinds[this.code].status;
  }

  get canRetry(): boolean {
    return errorKinds[this.code].canRetry;
  }
}

/** Members of an RFC 9457 problem document beside `type`, `title`, `status`, `detail` and `code`. */
export type ProblemExtras = Readonly<Record<string, unknown>>;

/** The RFC 9457 problem+json text for an error code. */
export function problemJson(code: ErrorCode, detail: string, extras: ProblemExtras = {}): string {
  const { status, title, action } = errorKinds[code];
  return JSON.stringify({ type: `urn:ess:error:${code}`, title, status, code, detail, action, ...extras });
}
