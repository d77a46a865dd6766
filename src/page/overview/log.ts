// The log: its partitions, who leads and who consumes each, how far the store is behind, and Kafka's brokers. Runs in the
// browser.

import type { LiveBroker, LivePartition, LiveSnapshot } from '../../live/snapshot.ts';
import type { TroubleKind } from '../../live/troubles.ts';
import { element, panel, scrollBox, setText } from '../dom.ts';
import { bytes, count, countOf, span, unknown } from '../format.ts';
import { type Cell, type Column, LiveTable } from '../table.ts';
import { isTroubled, type OverviewPart, troubledCell } from './part.ts';

interface Row extends LivePartition {
  readonly snapshot: LiveSnapshot;
}

/** Kinds of trouble whose text names partitions. */
const partitionKinds: readonly TroubleKind[] = ['partition_halted', 'partition_waiting'];

function nameCell({ partition, snapshot }: Row): Cell | string {
  const kind = partitionKinds.find((candidate) => isTroubled(snapshot, candidate, `partition ${partition}`));
  if (kind === undefined) return String(partition);
  return troubledCell(String(partition), kind, kind === 'partition_halted' ? 'bad' : 'warn');
}

function leaderCell({ leader }: Row): Cell | string {
  if (leader === null) return unknown;
  return leader < 0 ? troubledCell('none', 'in_sync_replicas') : `broker ${leader}`;
}

function inSyncCell({ in_sync: inSync, replicas, snapshot }: Row): Cell | string {
  if (inSync === null || replicas === null) return unknown;
  const text = `${inSync.length}/${replicas.length}`;
  const least = snapshot.log.min_in_sync_replicas;
  if (least !== null && inSync.length < least) return troubledCell(text, 'in_sync_replicas');
  return inSync.length < replicas.length ? troubledCell(text, 'broker_down', 'warn') : text;
}

function ownerCell({ owner, snapshot }: Row): Cell | string {
  if (owner !== null) return owner;
  return snapshot.group === null ? unknown : troubledCell('none', 'group_unstable', 'warn');
}

const name: Column<Row> = { title: 'Partition', cell: nameCell };
const positions: readonly Column<Row>[] = [
  { title: 'End', isNumber: true, cell: ({ end }) => count(end) },
  { title: 'Position', isNumber: true, cell: ({ committed }) => count(committed) },
  { title: 'Lag, records', isNumber: true, cell: ({ in_flight: records }) => count(records) },
  { title: 'Lag', isNumber: true, cell: ({ lag_seconds: seconds }) => span(seconds) },
];
const cluster: readonly Column<Row>[] = [
  { title: 'Leader', cell: leaderCell },
  { title: 'In sync', isNumber: true, cell: inSyncCell },
];
const owner: Column<Row> = { title: 'Owner', cell: ownerCell };

const brokers: readonly Column<LiveBroker>[] = [
  { title: 'Broker', cell: ({ id }) => String(id) },
  { title: 'Address', cell: ({ address }) => address },
  {
    title: 'State',
    cell: ({ is_up: isUp }) => (isUp ? { text: 'up', tone: 'good' } : troubledCell('down', 'broker_down')),
  },
  { title: 'Role', cell: ({ is_controller: isController }) => (isController ? 'controller' : '') },
];

export class Log implements OverviewPart {
  readonly root: HTMLElement;
  readonly #line = element('p', { class: 'muted' });
  readonly #disk = element('p', { class: 'muted' });
  readonly #brokerTable = new LiveTable<LiveBroker>('Brokers', brokers);
  readonly #brokerBox = scrollBox('Brokers', this.#brokerTable.root);
  readonly #embedded = new LiveTable<Row>('Partitions', [name, ...positions, owner]);
  readonly #kafka = new LiveTable<Row>('Partitions', [name, ...positions, ...cluster, owner]);
  readonly #partitionBox = scrollBox('Partitions');

  constructor() {
    this.#partitionBox.classList.add('tall');
    this.root = panel('Log', 'log', this.#line, this.#brokerBox, this.#partitionBox, this.#disk);
  }

  show(snapshot: LiveSnapshot): void {
    const { log, partitions, epoch } = snapshot;
    const isKafka = log.kind === 'kafka';
    const least = log.min_in_sync_replicas;
    setText(
      this.#line,
      `${isKafka ? 'Kafka' : 'Embedded'}, ${countOf(partitions.length, 'partition')}, epoch ${epoch}${
        least === null ? '' : `, at least ${least} replicas in sync or nothing is taken`
      }.`,
    );
    this.#brokerBox.hidden = log.brokers.length === 0;
    this.#brokerTable.set(log.brokers);
    const table = isKafka ? this.#kafka : this.#embedded;
    if (this.#partitionBox.firstChild !== table.root) this.#partitionBox.replaceChildren(table.root);
    table.set(partitions.map((partition) => ({ ...partition, snapshot })));
    const { disk_free_bytes: free, disk_total_bytes: total } = log;
    this.#disk.hidden = free === null;
    setText(this.#disk, `Disk of the log: ${bytes(free)} free of ${bytes(total)}.`);
  }
}
