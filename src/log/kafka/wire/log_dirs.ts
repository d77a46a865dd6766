// DescribeLogDirs, version 4: the log directories of one broker, how full they are, and what one topic takes in them. The
// first version with the space of the disk (Kafka 3.3); an older broker refuses it, and then it is not known. Runs on the
// main thread of `ess doctor`. Fields: DescribeLogDirsRequest.json and DescribeLogDirsResponse.json of Apache Kafka.

import { makeCall, type WireCall } from './call.ts';

const api = { key: 35, version: 4, name: 'DescribeLogDirs', isFlexible: true } as const;

export interface LogDir {
  /** 0, or a code of errors.ts: 56 (KAFKA_STORAGE_ERROR) for a directory that has failed. */
  readonly errorCode: number;
  readonly path: string;
  /** Of the disk; -1 if the broker cannot tell. */
  readonly totalBytes: number;
  readonly usableBytes: number;
  /** Bytes of each copy of the topic's partitions that lies here, by partition. */
  readonly partitions: ReadonlyMap<number, number>;
}

export interface LogDirsAnswer {
  /** Of the whole answer. */
  readonly errorCode: number;
  readonly dirs: readonly LogDir[];
}

/** Asks about all directories and these partitions of one topic. */
export function logDirsCall(topic: string, partitions: readonly number[]): WireCall<LogDirsAnswer> {
  return makeCall(
    api,
    (body) => {
      body.compactCount(1);
      body.compactString(topic);
      body.compactCount(partitions.length);
      for (const partition of partitions) body.int32(partition);
      body.noTags();
      body.noTags();
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const errorCode = body.int16();
      const dirs = body.compactArray((): LogDir => {
        const dirError = body.int16();
        const path = body.compactString();
        const sizes = body.compactArray(() => {
          body.compactString(); // the topic: we ask for one only
          const found = body.compactArray((): [number, number] => {
            const partition = body.int32();
            const bytes = body.int64();
            body.int64(); // by how much it is behind
            body.boolean(); // being moved here
            body.skipTags();
            return [partition, bytes];
          });
          body.skipTags();
          return found;
        });
        const totalBytes = body.int64();
        const usableBytes = body.int64();
        body.skipTags();
        return { errorCode: dirError, path, totalBytes, usableBytes, partitions: new Map(sizes.flat()) };
      });
      body.skipTags();
      return { clientSideThrottleTime, answer: { errorCode, dirs } };
    },
  );
}
