// One request of the Kafka protocol with the decoder of its answer, in the form that a kafkajs connection sends
// (kafkajs/src/network/connection.js, `send`). Producer and sink workers make these; nothing here touches a socket.

import { RequestWriter } from './request_writer.ts';
import { ResponseReader } from './response_reader.ts';

/** The body of a request, as kafkajs's Encoder#writeEncoder takes it: it reads `buf` and `buffer`. */
export interface WireBody {
  readonly buf: Buffer;
  readonly buffer: Buffer;
  size(): number;
}

/** A decoded answer and how long the broker wants this connection to be silent (KIP-219), ms. */
export interface WireAnswer<T> {
  readonly answer: T;
  /** Read by kafkajs's connection after `decode`: it holds back the next requests for as long. */
  readonly clientSideThrottleTime: number;
}

/** What `Connection#send` of kafkajs takes; it gives a `T`. */
export interface WireCall<T> {
  readonly request: {
    readonly apiKey: number;
    readonly apiVersion: number;
    readonly apiName: string;
    encode(): Promise<WireBody>;
    expectResponse?(): boolean;
  };
  readonly response: {
    /** Throws EssError `internal` if the bytes are not an answer to this request. */
    decode(raw: Buffer): Promise<WireAnswer<T>>;
    parse(data: WireAnswer<T>): Promise<T>;
  };
  /**
   * Milliseconds that kafkajs waits for the answer at least, if that is above the time-out of the connection: for
   * requests that a broker may hold.
   */
  readonly requestTimeout?: number;
  /** The same question in an older version, for a broker that does not take this one; absent if there is none. */
  readonly older?: () => WireCall<T>;
}

/** Which request it is. `isFlexible`: that its version has the headers with tagged fields (KIP-482). */
export interface WireApi {
  readonly key: number;
  readonly version: number;
  readonly name: string;
  readonly isFlexible: boolean;
}

/**
 * Builds a call. `write` runs at once, so that what it reads may be reused as soon as this returns; `read` is given
 * the answer after its header and gives the answer with the broker's throttle time.
 */
export function makeCall<T>(
  api: WireApi,
  write: (body: RequestWriter) => void,
  read: (body: ResponseReader) => WireAnswer<T>,
  requestTimeout?: number,
): WireCall<T> {
  const writer = new RequestWriter();
  // kafkajs writes request header 1. Version 2 is the same with tagged fields after the client id, which is where
  // the body begins.
  if (api.isFlexible) writer.noTags();
  write(writer);
  const { bytes } = writer;
  const body: WireBody = { buf: bytes, buffer: bytes, size: () => bytes.length };
  return {
    request: {
      apiKey: api.key,
      apiVersion: api.version,
      apiName: api.name,
      encode: async () => body,
    },
    response: {
      decode: async (raw) => {
        const reader = new ResponseReader(raw, api.name);
        // Response header 1, likewise: kafkajs has read the correlation id only.
        if (api.isFlexible) reader.skipTags();
        const answer = read(reader);
        reader.end();
        return answer;
      },
      parse: async (data) => data.answer,
    },
    ...(requestTimeout === undefined ? {} : { requestTimeout }),
  };
}
