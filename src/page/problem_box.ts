// A problem of the HTTP interface as a box: what is wrong, in detail, and what to do. Runs in the browser.

import type { Problem } from './api.ts';
import { element } from './dom.ts';

/** The box; `headingLevel` fits it into the headings around it. */
export function problemBox(problem: Problem): HTMLElement {
  const { title, status, code, detail, action } = problem;
  const name = code === '' ? '' : ` (${status === 0 ? '' : `${status} `}${code})`;
  const box = element('div', { class: 'note bad', role: 'alert' });
  box.append(element('p', {}, element('strong', { class: 'tone bad' }, title), name));
  if (detail !== '') box.append(element('p', {}, detail));
  if (action !== '') box.append(element('p', { class: 'muted' }, action));
  return box;
}
