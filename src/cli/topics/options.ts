// The command line of `ess topics`: an action, the options of `serve`, which name the cluster and its topics, and a few of
// its own. Runs on the main thread of a process of its own.

import { type FlagInfo, flagsText } from '../../config/help.ts';
import { configFrom, type Flag, parseConfigFlags, suggestion } from '../../config/load.ts';
import type { Config } from '../../config/options.ts';
import { EssError } from '../../errors.ts';
import { wholeNumberOf } from '../whole_number.ts';

export const topicsActions = ['describe', 'add-partitions', 'move', 'elect'] as const;
export type TopicsAction = (typeof topicsActions)[number];

export interface TopicsOptions {
  readonly action: TopicsAction;
  readonly config: Config;
  readonly isJson: boolean;
  /** Changes are made without a question. */
  readonly isYes: boolean;
  /** Ends what is being moved, instead of moving. */
  readonly isCancel: boolean;
  /** Number of partitions that `add-partitions` is to reach; 0 for the other actions. */
  readonly count: number;
  /** Node ids that are to hold the replicas; empty unless given. */
  readonly brokers: readonly number[];
  /** Partitions of the events that are moved; null: all, and the dead letters too. */
  readonly partitions: readonly number[] | null;
  /** What each broker may send and take of what is copied, bytes a second; 0: no throttle any more; null: left as it is. */
  readonly throttleBytes: number | null;
  /** How long a change is waited for, ms. */
  readonly waitMs: number;
}

interface TopicsFlag extends FlagInfo {
  readonly actions: readonly TopicsAction[];
}

const waitMsDefault = 3_600_000;
const waitMsMax = 7 * 86_400_000;
/** Kafka's node ids and partition numbers are below this. */
const numberMax = 2 ** 31 - 1;
/** Less than a batch a second never ends; more than a terabyte a second is a slip. Bytes a second. */
const throttleBytesMin = 1024;
const throttleBytesMax = 1e12;

const flags = {
  brokers: {
    type: 'string',
    placeholder: 'ID,ID,...',
    actions: ['move'],
    description:
      'Node ids of the brokers that are to hold all replicas; at least as many as there are replicas.',
  },
  partitions: {
    type: 'string',
    placeholder: 'N,N,...',
    actions: ['move'],
    description: 'Moves only these partitions of the events. Default: all, and the dead letters.',
  },
  yes: {
    type: 'boolean',
    actions: ['move', 'add-partitions'],
    description: 'Makes the change: move without it prints its plan only, add-partitions asks on a terminal.',
  },
  'dry-run': {
    type: 'boolean',
    actions: ['move'],
    description: 'Prints the plan and changes nothing, with --yes too.',
  },
  cancel: {
    type: 'boolean',
    actions: ['move'],
    description: 'Cancels what is under way: the replicas go back to where they were.',
  },
  'throttle-bytes': {
    type: 'string',
    placeholder: 'NUMBER',
    actions: ['move'],
    description: `What each broker may send, and take, of what is copied, in bytes a second (${throttleBytesMin} to ${throttleBytesMax}), until the move is done; it must be more than what the partitions get. 0 takes a throttle away, also without --brokers.`,
  },
  json: { type: 'boolean', actions: ['describe'], description: 'The description is one JSON object.' },
  'wait-ms': {
    type: 'string',
    placeholder: 'NUMBER',
    actions: topicsActions,
    description: `How long a change is watched. The change itself goes on. (0 to ${waitMsMax}; default ${waitMsDefault})`,
  },
  help: { type: 'boolean', actions: topicsActions, description: 'This text.' },
} as const satisfies Record<string, TopicsFlag>;

/** The text of `ess topics --help`, at most 100 columns wide. */
export function topicsHelpText(): string {
  const told = Object.entries<TopicsFlag>(flags).map(([name, { actions, ...flag }]) => {
    const isCommon = actions.length === topicsActions.length;
    return [name, isCommon ? flag : { ...flag, remark: ` (${actions.join(', ')})` }];
  });
  return `Usage: ess topics describe [--json] [OPTIONS]
       ess topics add-partitions NUMBER [--yes] [OPTIONS]
       ess topics move --brokers ID,ID,... [--partitions N,N,...] [--yes] [OPTIONS]
       ess topics move --cancel | --throttle-bytes 0 [OPTIONS]
       ess topics elect [OPTIONS]

describe        What the topics of the events and of the dead letters are like: leaders, replicas,
                offsets, how far the sinks are, settings, and what is uneven or at risk.
add-partitions  Gives the topic of the events more partitions: a multiple of the shards.
move            Spreads the replicas evenly over the brokers named, moving as few as possible, and
                watches until they are in sync. Interrupt it as you like: the move goes on, and the
                same command goes on watching.
elect           Makes the preferred replica of every partition its leader.

Options, beside those of serve (ess --help):
${flagsText(Object.fromEntries(told))}
Exit code: 0 done, 1 not done or not yet, 2 an option is not valid, 130 interrupted.
`;
}

/** Reads the command line after `topics`. Throws EssError `bad_option`. Gives null for --help. */
export function parseTopicsOptions(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  cores: number,
): TopicsOptions | null {
  const [first, ...rest] = argv;
  if (argv.some((argument) => argument === '--help' || argument === '-h')) return null;
  const action = topicsActions.find((name) => name === first);
  if (first === undefined || first.startsWith('-')) {
    throw bad(`what to do is missing: one of ${topicsActions.join(', ')} comes first`);
  }
  if (action === undefined)
    throw bad(`unknown action ${JSON.stringify(first)}${suggestion(first, topicsActions)}`);
  const isAdding = action === 'add-partitions';
  const [given, ...others] = rest;
  if (isAdding && (given === undefined || given.startsWith('-')))
    throw bad('how many partitions there are to be is missing: ess topics add-partitions NUMBER');
  const own = Object.entries<TopicsFlag>(flags);
  const parsed = parseConfigFlags(
    isAdding ? others : rest,
    // --partitions of `serve` is how many a new log gets: of no use where `move` has another one of that name.
    new Map<string, Flag>(own.filter(([name]) => name !== 'partitions' || action === 'move')),
  );
  for (const [name, { actions }] of own) {
    const isForeign = !actions.includes(action) && name !== 'partitions';
    if (isForeign && parsed.values.has(name))
      throw bad(`--${name} is of no use to ess topics ${action}: it belongs to ${actions.join(', ')}`);
  }
  const values = new Map(parsed.values);
  if (action === 'move') values.delete('partitions');
  const { config } = configFrom({ ...parsed, values }, env, cores);
  const text = (name: keyof typeof flags): string | undefined => parsed.values.get(name)?.at(-1);
  const partitions = action === 'move' ? text('partitions') : undefined;
  const brokers = text('brokers');
  const isCancel = parsed.values.has('cancel');
  const throttle = text('throttle-bytes');
  const throttleBytes = throttle === undefined ? null : throttleOf(throttle);
  const whats = [isCancel, brokers !== undefined || throttleBytes === 0];
  if (action === 'move' && whats.filter((isAsked) => isAsked).length !== 1)
    throw bad(
      'ess topics move needs one of --brokers, with the brokers to move to, --cancel and --throttle-bytes 0',
    );
  if (isCancel && throttleBytes !== null)
    throw bad('--throttle-bytes is of no use with --cancel, which takes a throttle away');
  return {
    action,
    config,
    isJson: parsed.values.has('json'),
    isYes: parsed.values.has('yes') && !parsed.values.has('dry-run'),
    isCancel,
    count: isAdding ? wholeNumberOf('the number of partitions', given ?? '', 1, numberMax) : 0,
    brokers: brokers === undefined ? [] : listOf('--brokers', brokers),
    partitions: partitions === undefined ? null : listOf('--partitions', partitions),
    throttleBytes,
    waitMs: wholeNumberOf('--wait-ms', text('wait-ms') ?? String(waitMsDefault), 0, waitMsMax),
  };
}

function listOf(name: string, text: string): number[] {
  return text.split(',').map((part) => wholeNumberOf(`each of ${name}`, part.trim(), 0, numberMax));
}

function throttleOf(text: string): number {
  const bytes = wholeNumberOf('--throttle-bytes', text, 0, throttleBytesMax);
  return bytes === 0 ? 0 : wholeNumberOf('--throttle-bytes', text, throttleBytesMin, throttleBytesMax);
}

function bad(text: string): EssError {
  return new EssError('bad_option', text);
}
