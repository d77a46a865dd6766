// Making and changing elements of the page without a framework. Runs in the browser. Changes touch the document only
// where something is different, so that a second's figures cost little and a selection or focus stays where it is.

import { type TroubleKind, troubleAnchor } from '../live/troubles.ts';

export type Child = Node | string;

/** Makes an element. Attributes with the value true stand without a value, those with false are left out. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Readonly<Record<string, string | boolean>> = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) made.setAttribute(name, value === true ? '' : value);
  }
  made.append(...children);
  return made;
}

/** Sets a node's text if it is another one. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text;
}

/** Sets or removes an attribute if it is different. */
export function setAttribute(target: Element, name: string, value: string | null): void {
  if (target.getAttribute(name) === value) return;
  if (value === null) target.removeAttribute(name);
  else target.setAttribute(name, value);
}

/** Sets how far a bar made with `class="bar"` is filled, 0 to 1. */
export function setBar(bar: HTMLElement, share: number): void {
  const width = `${Math.round(Math.min(1, Math.max(0, share)) * 1000) / 10}%`;
  if (bar.style.getPropertyValue('--share') !== width) bar.style.setProperty('--share', width);
}

/** Gives an element of index.html; that it is there is part of the build. */
export function byId(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new TypeError(`index.html has no #${id}`);
  return found;
}

/** Where a kind of trouble is explained. */
export function troubleHref(kind: TroubleKind): string {
  return `/operations#${troubleAnchor(kind)}`;
}

let panels = 0;

/** A titled part of a view. */
export function panel(title: string, className: string, ...children: readonly Child[]): HTMLElement {
  panels += 1;
  const id = `panel-${panels}`;
  const heading = element('h2', { id }, title);
  return element('section', { class: `panel ${className}`, 'aria-labelledby': id }, heading, ...children);
}

/** A box in which wide content scrolls by itself, by keyboard too. */
export function scrollBox(label: string, ...children: readonly Child[]): HTMLElement {
  return element(
    'div',
    { class: 'scroll', role: 'region', 'aria-label': `${label}, table`, tabindex: '0' },
    ...children,
  );
}

/** A select with these values; the text beside each value is what is shown. */
export function select(
  name: string,
  options: readonly (readonly [value: string, text: string])[],
): HTMLSelectElement {
  const made = element('select', { name });
  for (const [value, text] of options) made.append(element('option', { value }, text));
  return made;
}

/** A labelled control of a form. */
export function field(label: string, control: HTMLElement, hint = ''): HTMLElement {
  const text = element('span', { class: 'label' }, label);
  if (hint !== '') text.append(' ', element('span', { class: 'muted' }, hint));
  return element('label', { class: 'field' }, text, control);
}
