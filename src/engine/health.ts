// Everything that is wrong now, found once: the texts of /readyz and /stats, and the troubles that the page shows, come
// from the same list. Looks at memory only, waits for nobody. Main thread only.

import type { AckLevel } from '../ingest/wire.ts';
import type { Trouble } from '../live/troubles.ts';
import type { Conditions } from './conditions.ts';
import { type Figures, lagOf, type PartitionStatus } from './figures.ts';

/** Lag past which the status is degraded, seconds: the alert of the load-test log that ESS comes from. */
export const lagDegradedSeconds = 60;

export interface HealthParts {
  readonly role: 'all' | 'ingest' | 'sink';
  readonly ack: AckLevel;
  readonly conditions: Conditions;
  readonly figures: Figures;
  readonly isStopping: () => boolean;
  /** What was found last about brokers, nodes and disks, as far as it is recent. */
  readonly clusterTroubles: () => readonly Trouble[];
}

/** What is wrong, in the order in which it is told. */
export interface Findings {
  /** Why the default ack cannot be kept here; empty if it can. */
  readonly blockers: readonly Trouble[];
  /** What makes the service less than healthy, whatever its ack. */
  readonly reasons: readonly Trouble[];
  /** Worth a look, though nothing is broken. */
  readonly notices: readonly Trouble[];
}

export class Health {
  readonly #parts: HealthParts;

  constructor(parts: HealthParts) {
    this.#parts = parts;
  }

  /** `partitions`: as figures.partitions() just gave them, where the caller has them already. */
  find(partitions: readonly PartitionStatus[] = this.#parts.figures.partitions()): Findings {
    const cluster = this.#parts.clusterTroubles();
    return {
      blockers: this.#blockers(),
      reasons: [...this.#own(partitions), ...cluster.filter(isReason)],
      notices: cluster.filter((trouble) => !isReason(trouble)),
    };
  }

  #blockers(): Trouble[] {
    const { role, ack, conditions, isStopping, figures } = this.#parts;
    const blockers: Trouble[] = [];
    if (isStopping()) blockers.push({ kind: 'stopping', text: 'this process is stopping' });
    if (role === 'sink') return blockers;
    if (!figures.session.producers.some((thread) => thread.isAlive))
      blockers.push({ kind: 'worker_down', text: 'log: no producer worker is running' });
    const log = conditions.get('log');
    if (log !== null && ack !== 'memory') blockers.push({ kind: log.kind, text: `log: ${log.text}` });
    if (ack === 'store')
      blockers.push(
        ...conditions
          .list()
          .filter(({ kind }) => kind === 'partition_waiting' || kind === 'partition_halted'),
      );
    return blockers;
  }

  #own(partitions: readonly PartitionStatus[]): Trouble[] {
    const { conditions, figures } = this.#parts;
    const { producers, sinks } = figures.session;
    const troubles = conditions.list();
    for (const thread of [...producers, ...sinks]) {
      if (!thread.isAlive) troubles.push({ kind: 'worker_down', text: `${thread.name} is not running` });
    }
    const { seconds } = lagOf(partitions);
    if (seconds > lagDegradedSeconds)
      troubles.push({ kind: 'lag', text: `lag: the oldest event waits for ${Math.round(seconds)} s` });
    if (figures.conservation(partitions).exact === false)
      troubles.push({ kind: 'conservation', text: 'conservation: the figures do not add up' });
    return troubles;
  }
}

/** Dead letters are the sender's mistakes more often than the service's: they are told, and degrade nothing. */
function isReason({ kind }: Trouble): boolean {
  return kind !== 'dead_letters';
}

/** As /readyz: `unready` is its 503. */
export function statusOf({ blockers, reasons }: Findings): 'ready' | 'degraded' | 'unready' {
  if (blockers.length > 0) return 'unready';
  return reasons.length > 0 ? 'degraded' : 'ready';
}

/** The texts of /readyz and /stats. */
export function textsOf({ blockers, reasons }: Findings): string[] {
  return [...blockers, ...reasons].map(({ text }) => text);
}

/** Each trouble once: a blocker is named again among the reasons in other words. */
export function troublesOf({ blockers, reasons, notices }: Findings): Trouble[] {
  const troubles = new Map<string, Trouble>();
  for (const trouble of [...blockers, ...reasons, ...notices]) {
    const { kind, text } = trouble;
    const key = `${kind} ${text.replace(/^log: /, '')}`;
    if (!troubles.has(key)) troubles.set(key, trouble);
  }
  return [...troubles.values()];
}
