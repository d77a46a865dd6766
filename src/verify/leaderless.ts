// Partitions of which the log cannot tell where it ends: what it says of them is only what it knew last. Runs where the
// proof does, when something seems to lie beyond an end.

import { type LogTarget, openDescriber } from '../log/open.ts';

/** Partitions whose leader does not answer. Rejects as LogDescriber.describe. */
export async function leaderlessPartitions(target: LogTarget): Promise<ReadonlySet<number>> {
  if (target.kind === 'embedded') return new Set();
  const describer = await openDescriber(target);
  try {
    const { brokers, partitions } = await describer.describe();
    const up = new Set(brokers.filter(({ isUp }) => isUp).map(({ id }) => id));
    return new Set(partitions.flatMap(({ leader }, partition) => (up.has(leader) ? [] : partition)));
  } finally {
    await describer.close();
  }
}
