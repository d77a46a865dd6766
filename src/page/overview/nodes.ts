// The store: every ClickHouse node, whether it answers, how fast it takes rows and how many parts it has. Runs in the
// browser.

import type { LiveNode, LiveSnapshot } from '../../live/snapshot.ts';
import { panel, scrollBox } from '../dom.ts';
import { bytes, count, millis, rate, unknown } from '../format.ts';
import { type Cell, LiveTable } from '../table.ts';
import { isTroubled, type OverviewPart, troubledCell } from './part.ts';

interface Row extends LiveNode {
  readonly snapshot: LiveSnapshot;
}

function partsCell({ name, parts, parts_max: most, snapshot }: Row): Cell {
  const text = most === null ? count(parts) : `${count(parts)} of ${count(most)}`;
  const share = parts === null || most === null || most === 0 ? {} : { share: parts / most };
  const isMany = isTroubled(snapshot, 'store_parts', name);
  return isMany ? { ...troubledCell(text, 'store_parts', 'warn'), ...share } : { text, ...share };
}

function diskCell({ name, disk_free_bytes: free, disk_total_bytes: total, snapshot }: Row): Cell | string {
  if (free === null) return unknown;
  const text = `${bytes(free)} of ${bytes(total)}`;
  return isTroubled(snapshot, 'disk', name) ? troubledCell(text, 'disk', 'warn') : text;
}

export class Nodes implements OverviewPart {
  readonly root: HTMLElement;
  readonly #table = new LiveTable<Row>('ClickHouse nodes', [
    { title: 'Node', cell: ({ name }) => name },
    { title: 'Serves', cell: ({ shard, replica }) => `shard ${shard}, replica ${replica}` },
    {
      title: 'State',
      cell: ({ is_up: isUp, error }) =>
        isUp
          ? { text: 'up', tone: 'good' }
          : troubledCell(error === null ? 'down' : `down: ${error}`, 'store_node_down'),
    },
    { title: 'Rows', isNumber: true, cell: ({ rows }) => count(rows) },
    { title: 'Rows/s', isNumber: true, cell: ({ rows_per_s: rows }) => rate(rows) },
    { title: 'Parts', isNumber: true, cell: partsCell },
    { title: 'Insert p99', isNumber: true, cell: ({ insert_p99_ms: p99 }) => millis(p99) },
    { title: 'Disk free', isNumber: true, cell: diskCell },
  ]);

  constructor() {
    this.root = panel('ClickHouse', 'nodes', scrollBox('ClickHouse nodes', this.#table.root));
  }

  show(snapshot: LiveSnapshot): void {
    this.root.hidden = snapshot.nodes.length === 0;
    this.#table.set(
      snapshot.nodes.map((node) => ({ ...(node.is_up ? node : withoutFigures(node)), snapshot })),
    );
  }
}

/** A node that does not answer may be sent with its last figures, which would be taken for those of now. */
function withoutFigures(node: LiveNode): LiveNode {
  return {
    ...node,
    rows: null,
    rows_per_s: null,
    parts: null,
    parts_max: null,
    disk_free_bytes: null,
    disk_total_bytes: null,
  };
}
