// A member of a consumer group in a process of its own, for tests that stop it: argv[2] is its target. It commits one
// offset after the other for everything it owns, and writes what becomes of it, a JSON text for each line.

import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { EssError } from '../../../src/errors.ts';
import { openKafkaConsumer } from '../../../src/log/kafka/consumer.ts';

export type MemberReport =
  | { readonly type: 'assigned'; readonly partition: number; readonly offset: number }
  | { readonly type: 'revoked'; readonly partition: number }
  | { readonly type: 'committed'; readonly partition: number; readonly offset: number }
  | { readonly type: 'rejected'; readonly partition: number; readonly offset: number; readonly code: string };

function report(message: MemberReport): void {
  writeSync(1, `${JSON.stringify(message)}\n`);
}

const consumer = await openKafkaConsumer(JSON.parse(process.argv[2] ?? ''), {
  index: 0,
  count: 1,
  shard: 0,
  shards: 1,
  node: 'node',
});
const next = new Map<number, number>();

async function commitNext(partition: number, offset: number): Promise<void> {
  try {
    await consumer.commit(partition, offset, 'member');
    next.set(partition, offset + 1);
    report({ type: 'committed', partition, offset });
  } catch (error) {
    const code = error instanceof EssError ? error.code : String(error);
    report({ type: 'rejected', partition, offset, code });
  }
}

await consumer.start({
  assigned: (partition, { offset }) => {
    next.set(partition, Math.max(offset, 0) + 1);
    report({ type: 'assigned', partition, offset });
  },
  revoked: (partition) => {
    next.delete(partition);
    report({ type: 'revoked', partition });
  },
  dataArrived: () => {},
  changed: () => {},
});
for (;;) {
  // Without asking whether it is owned: what is under test is that this is safe.
  await Promise.all([...next].map(([partition, offset]) => commitNext(partition, offset)));
  await sleep(20);
}
