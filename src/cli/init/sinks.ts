// Whether any sink runs that counts the shards as they were: while one does, no other layout is recorded. Runs on the
// main thread.

import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { KafkaClient } from '../../log/kafka/client.ts';
import type { KafkaTarget } from '../../log/kafka/target.ts';
import { makeCall, type WireCall } from '../../log/kafka/wire/call.ts';
import { type Patience, reasonOf } from './patience.ts';

/** DescribeGroups of Apache Kafka (DescribeGroupsRequest.json), in the last version that 2.x to 4.x take alike. */
const describeGroups = { key: 15, version: 2, name: 'DescribeGroups', isFlexible: false } as const;

interface GroupDescription {
  readonly errorCode: number;
  readonly members: number;
}

/**
 * Why members of the sinks' group stand in the way; null if it has none. Waits for them to leave: one that was killed
 * is a member until its session is over.
 */
export async function groupObstacle(target: KafkaTarget, patience: Patience): Promise<string | null> {
  const { group } = target;
  const client = new KafkaClient(target, { name: 'ess-init', requestTimeoutMs: 5_000 });
  try {
    await patience.until(`kafka group ${group}`, async (timeoutMs) => {
      const coordinator = await client.coordinator(group, timeoutMs);
      const { errorCode, members } = await client.send(coordinator, describeGroupCall(group), timeoutMs);
      if (errorCode !== 0) throw new EssError('log_unavailable', `Kafka error ${errorCode}`);
      if (members > 0) {
        const text = `${members} sink ${members === 1 ? 'thread is' : 'threads are'} running (members of group ${group})`;
        throw new EssError('log_unavailable', text);
      }
    });
    return null;
  } catch (error) {
    return reasonOf(error);
  } finally {
    await client.close();
  }
}

function describeGroupCall(group: string): WireCall<GroupDescription> {
  return makeCall(
    describeGroups,
    (body) => {
      body.count(1);
      body.string(group);
    },
    (body) => {
      const clientSideThrottleTime = body.int32();
      const groups = body.array((): GroupDescription => {
        const errorCode = body.int16();
        body.string(); // the group
        body.string(); // its state
        body.string(); // the type of its protocol
        body.string(); // the protocol
        const members = body.array(() => {
          body.string(); // member
          body.string(); // client
          body.string(); // host
          body.blob(); // subscription
          body.blob(); // assignment
        });
        return { errorCode, members: members.length };
      });
      const [answer = { errorCode: -1, members: 0 }] = groups;
      return { clientSideThrottleTime, answer };
    },
  );
}

/** Why processes that have the embedded log open stand in the way; null if there are none. Waits for their end. */
export async function logObstacle(path: string, config: Config, patience: Patience): Promise<string | null> {
  const { otherProcesses } = await import('../../log/embedded/open.ts');
  try {
    await patience.until(`embedded log ${path}`, async () => {
      const pids = await otherProcesses({
        path,
        partitions: config.partitions,
        bytesMax: config.logBytesMax,
        retentionMs: config.logRetentionMs,
        retentionBytes: config.logRetentionBytes,
      });
      if (pids.length > 0)
        throw new EssError('log_unavailable', `an ess is running on this log (process ${pids.join(', ')})`);
    });
    return null;
  } catch (error) {
    return reasonOf(error);
  }
}
