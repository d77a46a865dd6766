// What every part of the overview is, and how the parts ask what is wrong. Runs in the browser. Whether something is red is
// for the server to say (live/troubles.ts): the page has no thresholds of its own.

import type { LiveSnapshot } from '../../live/snapshot.ts';
import type { TroubleKind } from '../../live/troubles.ts';
import { troubleHref } from '../dom.ts';
import type { Cell, Tone } from '../table.ts';

export interface OverviewPart {
  readonly root: HTMLElement;
  show(snapshot: LiveSnapshot): void;
}

/** True if the server says that such a thing is wrong; with `about`, that its text names this, too. */
export function isTroubled(snapshot: LiveSnapshot, kind: TroubleKind, about = ''): boolean {
  return snapshot.troubles.some((trouble) => trouble.kind === kind && names(trouble.text, about));
}

/** True if the text has these words by themselves: "partition 1" is not in "partition 12". */
function names(text: string, words: string): boolean {
  if (words === '') return true;
  for (let at = text.indexOf(words); at >= 0; at = text.indexOf(words, at + 1)) {
    const isPart = /\w/.test(text[at - 1] ?? '') || /\w/.test(text[at + words.length] ?? '');
    if (!isPart) return true;
  }
  return false;
}

/** A cell that is red, or yellow, and leads to the section that says what to do. */
export function troubledCell(text: string, kind: TroubleKind, tone: Tone = 'bad'): Cell {
  return { text, tone, href: troubleHref(kind) };
}
