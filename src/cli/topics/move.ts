// `ess topics move`: plans where replicas are to be, has the controller move them, and watches until they are in sync.
// Safe to interrupt and to repeat: what is under way is watched first, and only then is it seen what is left to do.

import { EssError } from '../../errors.ts';
import { kafkaError, kafkaErrors } from '../../log/kafka/wire/errors.ts';
import type { TopicMetadata } from '../../log/kafka/wire/metadata.ts';
import type { OngoingReassignment } from '../../log/kafka/wire/reassignments.ts';
import type { PartitionOutcome } from '../../log/kafka/wire/topic_partitions.ts';
import type { ClusterView, TopicsCluster } from './cluster.ts';
import type { TopicsIo } from './io.ts';
import type { TopicsOptions } from './options.ts';
import { copiesOf, type Move, type PlacedPartition, planMoves } from './plan.ts';
import { removeThrottle, setThrottle, unthrottleCommand as unthrottle } from './throttle.ts';
import { type WatchOutcome, watchMoves } from './watch.ts';

/** Brokers hear of what the controller has done within this, ms. */
const hearMs = 10_000;

/** Gives the exit code. */
export async function moveReplicas(
  cluster: TopicsCluster,
  options: TopicsOptions,
  io: TopicsIo,
): Promise<number> {
  let view = await cluster.view();
  const ongoing = await cluster.ongoing(view);
  if (options.isCancel) return cancel(cluster, ongoing, io);
  if (options.brokers.length === 0) return release(cluster, true, io);
  // Refused before anything is waited for.
  planFor(view, ongoing, options);
  if (ongoing.length > 0) {
    const underWay = ongoing.map(ongoingMove);
    io.stdout.write(`Under way already:\n${movesText(underWay)}`);
    if (options.isYes) {
      await throttled(cluster, view, underWay, options, io);
      const code = await watch(cluster, underWay, options, io);
      if (code !== 0) return code;
      view = await cluster.view();
    }
  }
  const moves = planFor(view, options.isYes ? [] : ongoing, options);
  if (moves.length === 0) {
    io.stdout.write('Nothing to move: the replicas are spread evenly over these brokers.\n');
    // Of a move that has ended unwatched.
    return options.isYes && options.throttleBytes !== null ? release(cluster, false, io) : 0;
  }
  io.stdout.write(`Plan (${copiesOf(moves)} replicas to copy):\n${movesText(moves)}`);
  if (!options.isYes) {
    io.stdout.write('Nothing was changed: --yes carries it out.\n');
    return 0;
  }
  await throttled(cluster, view, moves, options, io);
  const refused = (
    await cluster.reassign(
      moves.map(({ topic, partition, wanted }) => ({ topic, partition, replicas: wanted })),
    )
  ).filter(({ errorCode }) => errorCode !== kafkaErrors.NONE.code);
  io.stdout.write(refused.map(refusedText).join(''));
  const isRefused = ({ topic, partition }: PlacedPartition): boolean =>
    refused.some((other) => other.topic === topic && other.partition === partition);
  const code = await watch(
    cluster,
    moves.filter((move) => !isRefused(move)),
    options,
    io,
  );
  return refused.length > 0 ? 1 : code;
}

/** Puts the throttle that was asked for in force, if any was, before anything is copied. */
async function throttled(
  cluster: TopicsCluster,
  view: ClusterView,
  moves: readonly Move[],
  { throttleBytes }: TopicsOptions,
  io: TopicsIo,
): Promise<void> {
  if (throttleBytes === null) return;
  if (throttleBytes === 0) {
    await release(cluster, true, io);
    return;
  }
  // Said before: whatever happens from here on, somebody has to know what may be left.
  io.stdout.write(
    `Throttle: ${throttleBytes} bytes a second for each broker. ${unthrottle} takes it away.\n`,
  );
  await setThrottle(cluster, view, moves, throttleBytes);
}

/** Takes a throttle away, and says so; gives the exit code. */
async function release(cluster: TopicsCluster, isForced: boolean, { stdout }: TopicsIo): Promise<number> {
  const isRemoved = await removeThrottle(cluster, isForced);
  if (isRemoved) stdout.write('The throttle is taken away.\n');
  else if (isForced) stdout.write('There is no throttle.\n');
  return 0;
}

/** What would be moved once all that is under way has arrived. Throws `bad_option`. */
function planFor(
  view: ClusterView,
  ongoing: readonly OngoingReassignment[],
  { brokers, partitions }: TopicsOptions,
): Move[] {
  // One that stands still is no reason to stop watching what is on its way there.
  const known = [
    ...new Set([...view.brokers.map(({ nodeId }) => nodeId), ...ongoing.flatMap(({ adding }) => adding)]),
  ];
  const unknown = brokers.filter((node) => !known.includes(node));
  if (unknown.length > 0) {
    throw new EssError(
      'bad_option',
      `--brokers names ${unknown.join(', ')}, but the brokers that are up are ${known.join(', ')}`,
    );
  }
  const [events, letters] = view.topics.map((topic) =>
    topic.partitions.map(({ partition, replicas }): PlacedPartition => {
      const away = ongoing.find((other) => other.topic === topic.name && other.partition === partition);
      return {
        topic: topic.name,
        partition,
        replicas: replicas.filter((node) => away?.removing.includes(node) !== true),
      };
    }),
  );
  const all = [...(events ?? []), ...(letters ?? [])];
  const most = Math.max(...all.map(({ replicas }) => replicas.length));
  if (new Set(brokers).size < most) {
    throw new EssError(
      'bad_option',
      `--brokers names ${new Set(brokers).size}, but every replica needs a broker of its own: ${most} at least`,
    );
  }
  const missing = (partitions ?? []).filter((partition) => events?.[partition] === undefined);
  if (missing.length > 0)
    throw new EssError(
      'bad_option',
      `--partitions names ${missing.join(', ')}, but there are ${events?.length ?? 0}, from 0 on`,
    );
  const isMoving = ({ partition }: PlacedPartition): boolean => partitions?.includes(partition) ?? true;
  const moving = (events ?? []).filter(isMoving);
  const staying = (events ?? []).filter((placed) => !isMoving(placed));
  const moves = planMoves(moving, brokers, staying);
  if (partitions !== null) return moves;
  // The dead letters go where the events have left most room.
  const placed = moving.map((each) => {
    const move = moves.find(({ partition }) => partition === each.partition);
    return move === undefined ? each : { ...each, replicas: move.wanted };
  });
  return [...moves, ...planMoves(letters ?? [], brokers, placed)];
}

async function watch(
  cluster: TopicsCluster,
  moves: readonly Move[],
  { waitMs, throttleBytes }: TopicsOptions,
  io: TopicsIo,
): Promise<number> {
  const { stdout, stderr, signal } = io;
  const outcome = await watchMoves(cluster, moves, waitMs, signal, stderr);
  if (outcome === 'done') {
    const isThere = (topics: readonly TopicMetadata[]): boolean =>
      moves.every(({ topic, partition, wanted }) => {
        const now = topics.find(({ name }) => name === topic)?.partitions[partition];
        return now?.replicas.join() === wanted.join();
      });
    // Done it is, even if a broker that stands still hears of it later only.
    await cluster.isEverywhere(isThere, Math.min(waitMs, hearMs));
  }
  stdout.write(`${outcomeTexts[outcome]}\n`);
  const isOver = outcome === 'done' || outcome === 'lost';
  if (throttleBytes !== null && isOver) await release(cluster, false, io);
  else if (throttleBytes !== null && throttleBytes > 0)
    stdout.write(
      `The throttle stays until then; so does it if nobody watches: ${unthrottle} takes it away.\n`,
    );
  return outcome === 'done' ? 0 : 1;
}

const goesOn = 'The move goes on without this command. The same command goes on watching; --cancel ends it.';
const outcomeTexts: Readonly<Record<WatchOutcome, string>> = {
  done: 'Every replica is where it belongs and in sync. Leaders follow by themselves in minutes, or with: ess topics elect',
  timeout: `Not done within --wait-ms. ${goesOn}`,
  interrupted: `Interrupted. ${goesOn}`,
  lost: 'Nothing is under way any more, but replicas are not where they were to be: the move was cancelled. Run the same command again.',
};

async function cancel(
  cluster: TopicsCluster,
  ongoing: readonly OngoingReassignment[],
  io: TopicsIo,
): Promise<number> {
  const { stdout } = io;
  if (ongoing.length === 0) {
    stdout.write('Nothing is under way.\n');
    return release(cluster, false, io);
  }
  const refused = (
    await cluster.reassign(ongoing.map(({ topic, partition }) => ({ topic, partition, replicas: null })))
  ).filter(
    ({ errorCode }) =>
      errorCode !== kafkaErrors.NONE.code && errorCode !== kafkaErrors.NO_REASSIGNMENT_IN_PROGRESS.code,
  );
  stdout.write(refused.map(refusedText).join(''));
  if (refused.length > 0) return 1;
  const isBack = (topics: readonly TopicMetadata[]): boolean =>
    ongoing.every(({ topic, partition, adding }) => {
      const now = topics.find(({ name }) => name === topic)?.partitions[partition];
      return now !== undefined && !adding.some((node) => now.replicas.includes(node));
    });
  await cluster.isEverywhere(isBack, hearMs);
  stdout.write(`Cancelled: ${ongoing.length} partitions keep the replicas that they had.\n`);
  return release(cluster, false, io);
}

/** Replicas are those before, wanted those after: brokers list both together. */
function ongoingMove({ topic, partition, replicas, adding, removing }: OngoingReassignment): Move {
  return {
    topic,
    partition,
    replicas: replicas.filter((node) => !adding.includes(node)),
    wanted: replicas.filter((node) => !removing.includes(node)),
  };
}

function movesText(moves: readonly Move[]): string {
  return moves
    .map(({ topic, partition, replicas, wanted }) => {
      const isOrderOnly = wanted.every((node) => replicas.includes(node));
      const remark = isOrderOnly ? '  (only the preferred leader changes)' : '';
      return `  ${topic}-${partition}: ${replicas.join(',')} -> ${wanted.join(',')}${remark}\n`;
    })
    .join('');
}

function refusedText({ topic, partition, errorCode, errorMessage }: PartitionOutcome): string {
  return `  ${topic}-${partition}: refused, ${errorMessage ?? kafkaError(errorCode).name}\n`;
}
