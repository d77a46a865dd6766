// A table whose rows are brought up to date in place. Runs in the browser. What is wrong in a cell has a mark and a link to
// the section that says what to do, not a colour alone.

import { element, setAttribute, setBar, setText } from './dom.ts';

export type Tone = 'good' | 'warn' | 'bad' | 'plain';

export interface Cell {
  readonly text: string;
  readonly tone?: Tone;
  readonly href?: string;
  /** How far a bar under the text is filled, 0 to 1. */
  readonly share?: number;
}

export interface Column<Row> {
  readonly title: string;
  readonly isNumber?: boolean;
  readonly cell: (row: Row) => Cell | string;
}

interface ShownCell {
  readonly box: HTMLElement;
  node: HTMLElement;
  href: string | null;
  bar: HTMLElement | null;
}

export class LiveTable<Row> {
  readonly root: HTMLTableElement;
  readonly #columns: readonly Column<Row>[];
  readonly #body = element('tbody');
  readonly #rows: { readonly row: HTMLTableRowElement; readonly cells: readonly ShownCell[] }[] = [];

  /** The first column names the row. */
  constructor(caption: string, columns: readonly Column<Row>[]) {
    this.#columns = columns;
    const head = element('tr');
    for (const { title, isNumber = false } of columns)
      head.append(element('th', { scope: 'col', class: isNumber ? 'number' : '' }, title));
    this.root = element(
      'table',
      {},
      element('caption', { class: 'hidden' }, caption),
      element('thead', {}, head),
      this.#body,
    );
  }

  set(rows: readonly Row[]): void {
    while (this.#rows.length > rows.length) this.#rows.pop()?.row.remove();
    for (const [i, row] of rows.entries()) {
      const shown = this.#rows[i] ?? this.#addRow();
      for (const [j, column] of this.#columns.entries()) {
        const cell = shown.cells[j];
        if (cell !== undefined) showCell(cell, column.cell(row));
      }
    }
  }

  #addRow(): { readonly row: HTMLTableRowElement; readonly cells: readonly ShownCell[] } {
    const row = element('tr');
    const cells = this.#columns.map(({ isNumber = false }, i) => {
      const attributes = i === 0 ? { scope: 'row' } : {};
      const box = element(i === 0 ? 'th' : 'td', { class: isNumber ? 'number' : '', ...attributes });
      const node = element('span');
      box.append(node);
      row.append(box);
      return { box, node, href: null, bar: null };
    });
    this.#body.append(row);
    const shown = { row, cells };
    this.#rows.push(shown);
    return shown;
  }
}

function showCell(shown: ShownCell, value: Cell | string): void {
  const { text, tone = 'plain', href = null, share } = typeof value === 'string' ? { text: value } : value;
  if ((shown.href === null) !== (href === null)) {
    const node = element(href === null ? 'span' : 'a');
    shown.node.replaceWith(node);
    shown.node = node;
  }
  shown.href = href;
  if (href !== null) setAttribute(shown.node, 'href', href);
  setText(shown.node, text);
  setAttribute(shown.node, 'class', tone === 'plain' ? null : `tone ${tone}`);
  if (share !== undefined && shown.bar === null) {
    shown.bar = element('span', { class: 'bar', 'aria-hidden': 'true' });
    shown.box.append(shown.bar);
  }
  if (shown.bar !== null) setBar(shown.bar, share ?? 0);
}
