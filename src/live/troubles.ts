// Everything that can be wrong with a running service, as one closed list: what the page turns red for, what /readyz and
// /stats name, and which section of docs/operations.md tells what to do. Any thread may import this, and the page does.

/** How much it matters: `error` breaks a promise or stops work; `warning` will, if nobody acts. */
export type TroubleLevel = 'warning' | 'error';

interface TroubleKindInfo {
  readonly level: TroubleLevel;
  /** A few words, the same every time. */
  readonly title: string;
  /** What it means for the events that were sent, in one sentence for a person in a hurry. */
  readonly meaning: string;
}

const kinds = {
  stopping: {
    level: 'warning',
    title: 'This process is stopping',
    meaning:
      'What was accepted is being made durable; new requests are refused and can be repeated elsewhere.',
  },
  log_unavailable: {
    level: 'error',
    title: 'The log does not take events',
    meaning: 'New events are answered 503; nothing that was answered 200 is lost.',
  },
  log_changed: {
    level: 'warning',
    title: 'The topic was made anew or has other partitions',
    meaning: 'Events are refused until the log is open again, which happens by itself.',
  },
  in_sync_replicas: {
    level: 'error',
    title: 'Too few replicas are in sync',
    meaning:
      'Events of the partitions named are refused, since they would not be safe; nothing accepted is lost.',
  },
  broker_down: {
    level: 'warning',
    title: 'A Kafka broker does not answer',
    meaning: 'Its partitions are led by others; one more failure may make the log refuse events.',
  },
  group_unstable: {
    level: 'warning',
    title: 'The consumer group is not settled',
    meaning: 'Partitions without an owner are not stored now; they wait in the log.',
  },
  lag: {
    level: 'warning',
    title: 'Events wait long before they can be read',
    meaning: 'Everything is safe in the log; statistics are behind by the time shown.',
  },
  conservation: {
    level: 'error',
    title: 'The figures do not add up',
    meaning: 'Events may have been lost or counted twice. This is a bug: keep the data and report it.',
  },
  partition_halted: {
    level: 'error',
    title: 'A partition has halted',
    meaning:
      'Its events are not stored until a person decides; nothing is stepped over. Other partitions go on.',
  },
  partition_waiting: {
    level: 'warning',
    title: 'A partition waits for the store',
    meaning: 'Its events are safe in the log and are stored as soon as the store takes them.',
  },
  store_node_down: {
    level: 'warning',
    title: 'A ClickHouse node does not answer',
    meaning: 'Its sibling replicas take over; without one its shard waits, and reads say what is missing.',
  },
  store_parts: {
    level: 'warning',
    title: 'A ClickHouse node has many parts',
    meaning: 'Merges do not keep up; inserts are slowed down and will be refused if it goes on.',
  },
  worker_down: {
    level: 'error',
    title: 'A worker thread is not running',
    meaning: 'Its open requests were answered outcome_unknown; it is being replaced.',
  },
  dead_letters: {
    level: 'warning',
    title: 'Events were parked as dead letters',
    meaning: 'They are durable and not in the statistics; each has its reason.',
  },
  disk: {
    level: 'warning',
    title: 'A disk is nearly full',
    meaning: 'When it is full the log refuses events or the store takes no more.',
  },
  other: {
    level: 'warning',
    title: 'Something is wrong',
    meaning: 'The text says what.',
  },
} as const satisfies Record<string, TroubleKindInfo>;

export type TroubleKind = keyof typeof kinds;

/** Every kind with its level, title and meaning. */
export const troubleKinds: Readonly<Record<TroubleKind, TroubleKindInfo>> = kinds;

/** One thing that is wrong now. */
export interface Trouble {
  readonly kind: TroubleKind;
  /** What exactly, with names and numbers. */
  readonly text: string;
}

/** The heading's anchor in docs/operations.md, and at /operations of a running service. */
export function troubleAnchor(kind: TroubleKind): string {
  return kind.replaceAll('_', '-');
}
