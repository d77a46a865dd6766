// IncrementalAlterConfigs, version 1: sets some settings of topics and brokers and leaves the others as they are. Runs on the
// main thread of `ess topics`. Fields: IncrementalAlterConfigsRequest.json and its Response of Apache Kafka; 2.4 and later.

import { makeCall, type WireCall } from './call.ts';

const api = { key: 44, version: 1, name: 'IncrementalAlterConfigs', isFlexible: true } as const;

/** Kafka's numbers of what has settings. A broker takes its own only. */
export const configResources = { topic: 2, broker: 4 } as const;

const operations = { set: 0, remove: 1 } as const;
/** How a null string is written. */
const nullLength = -1;

/** What is to change of one topic or broker. */
export interface ConfigChange {
  /** Of `configResources`. */
  readonly type: number;
  /** Of the topic; of a broker its node id. */
  readonly name: string;
  /** By Kafka's names; null takes what is in force without it again. */
  readonly configs: ReadonlyMap<string, string | null>;
}

/** An answer about one topic or broker. */
export interface ConfigOutcome {
  /** 0, or a code of errors.ts. */
  readonly errorCode: number;
  readonly errorMessage: string | null;
  readonly type: number;
  readonly name: string;
}

export function alterConfigsCall(changes: readonly ConfigChange[]): WireCall<readonly ConfigOutcome[]> {
  return makeCall(
    api,
    (body) => {
      body.compactCount(changes.length);
      for (const { type, name, configs } of changes) {
        body.int8(type);
        body.compactString(name);
        body.compactCount(configs.size);
        for (const [config, value] of configs) {
          body.compactString(config);
          body.int8(value === null ? operations.remove : operations.set);
          if (value === null) body.compactCount(nullLength);
          else body.compactString(value);
          body.noTags();
        }
        body.noTags();
      }
      body.boolean(false); // not only validated
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const answer = body.compactArray((): ConfigOutcome => {
        const outcome = {
          errorCode: body.int16(),
          errorMessage: body.compactNullableString(),
          type: body.int8(),
          name: body.compactString(),
        };
        body.skipTags();
        return outcome;
      });
      body.skipTags();
      return { clientSideThrottleTime, answer };
    },
  );
}
