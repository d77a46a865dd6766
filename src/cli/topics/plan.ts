// Which brokers are to hold the replicas of partitions: an assignment that is as even as can be over the brokers named,
// and of those one that moves the fewest replicas. Pure; runs on the main thread of `ess topics`.

/** A partition as it is. */
export interface PlacedPartition {
  readonly topic: string;
  readonly partition: number;
  /** Node ids, the preferred leader first. */
  readonly replicas: readonly number[];
}

/** A partition that is to change. */
export interface Move extends PlacedPartition {
  readonly wanted: readonly number[];
}

/** One thing to be spread: it goes to `count` different brokers. */
interface Item {
  readonly count: number;
  /** What it costs to have it there; null where it may not be. By index of the broker. */
  readonly costs: readonly (number | null)[];
}

/**
 * The partitions of `moving` whose replicas, or whose order of replicas, change. Every partition keeps as many replicas
 * as it has, all on `brokers`, which must be at least as many. `staying` are partitions that keep their place and count
 * when it is judged what is even. Replicas are spread first; then the preferred leaders, among the replicas of each
 * partition, so that a leader that can stay does.
 */
export function planMoves(
  moving: readonly PlacedPartition[],
  brokers: readonly number[],
  staying: readonly PlacedPartition[] = [],
): Move[] {
  const nodes = [...new Set(brokers)].sort((a, b) => a - b);
  const held = nodes.map((node) => staying.filter(({ replicas }) => replicas.includes(node)).length);
  const led = nodes.map((node) => staying.filter(({ replicas }) => replicas[0] === node).length);
  const sets = spread(
    moving.map(({ replicas }) => ({
      count: replicas.length,
      costs: nodes.map((node) => (replicas.includes(node) ? 0 : 1)),
    })),
    held,
  );
  const leaders = spread(
    moving.map(({ replicas }, index) => ({
      count: Math.min(replicas.length, 1),
      costs: nodes.map((node, at) => {
        if (sets[index]?.has(at) !== true) return null;
        // A replica that has the records already leads sooner than one that has to fetch them first.
        return node === replicas[0] ? 0 : replicas.includes(node) ? 1 : 2;
      }),
    })),
    led,
  );
  return moving.flatMap((placed, index) => {
    const chosen = nodes.filter((_, at) => sets[index]?.has(at) === true);
    const leader = nodes.find((_, at) => leaders[index]?.has(at) === true);
    const kept = placed.replicas.filter((node) => node !== leader && chosen.includes(node));
    const added = chosen.filter((node) => node !== leader && !placed.replicas.includes(node));
    const wanted = [...(leader === undefined ? [] : [leader]), ...kept, ...added];
    const isSame = wanted.every((node, at) => node === placed.replicas[at]);
    return isSame ? [] : [{ ...placed, wanted }];
  });
}

/** Replicas that have to be copied to another broker. */
export function copiesOf(moves: readonly Move[]): number {
  return moves.reduce((sum, { replicas, wanted }) => sum + comers(replicas, wanted).length, 0);
}

/** Nodes of `wanted` that are not among `replicas`. */
export function comers(replicas: readonly number[], wanted: readonly number[]): number[] {
  return wanted.filter((node) => !replicas.includes(node));
}

/**
 * Spreads items over brokers, of which each has `base` of its own: first as even as can be (the least sum of squares),
 * then with the least cost. Gives the brokers of each item, by index. A flow of least cost, grown by one unit at a time
 * along the shortest path (Bellman-Ford over the brokers: from one to the next goes an item that can change places).
 */
function spread(items: readonly Item[], base: readonly number[]): Set<number>[] {
  const placed = items.map(() => new Set<number>());
  const load = [...base];
  const units = items.reduce((sum, { count }) => sum + count, 0);
  /** Costs more than all that can be saved elsewhere. */
  const uneven = 4 * units + 1;
  for (const [index, { count, costs }] of items.entries()) {
    for (let unit = 0; unit < count; unit += 1) {
      const own = placed[index] ?? new Set<number>();
      const distance = base.map((_, at) => (own.has(at) ? Infinity : (costs[at] ?? Infinity)));
      /** The broker before it and the item that goes from there to it; null: the new unit itself. */
      const from: ({ readonly broker: number; readonly item: number } | null)[] = base.map(() => null);
      for (let isChanged = true; isChanged; ) {
        isChanged = false;
        for (const [item, brokers] of placed.entries()) {
          const itemCosts = items[item]?.costs ?? [];
          for (const broker of brokers) {
            const saved = (distance[broker] ?? Infinity) - (itemCosts[broker] ?? 0);
            if (saved === Infinity) continue;
            for (const [next, cost] of itemCosts.entries()) {
              if (cost === null || brokers.has(next) || saved + cost >= (distance[next] ?? Infinity))
                continue;
              distance[next] = saved + cost;
              from[next] = { broker, item };
              isChanged = true;
            }
          }
        }
      }
      let end = -1;
      let least = Infinity;
      for (const [at, far] of distance.entries()) {
        const cost = far + uneven * (load[at] ?? 0);
        if (cost < least) {
          least = cost;
          end = at;
        }
      }
      // Fewer brokers than replicas: the caller has refused that.
      if (end === -1) break;
      load[end] = (load[end] ?? 0) + 1;
      for (let step = from[end] ?? null; step !== null; step = from[end] ?? null) {
        placed[step.item]?.delete(step.broker);
        placed[step.item]?.add(end);
        end = step.broker;
      }
      own.add(end);
    }
  }
  return placed;
}
