// The first view: whether ESS is well, at one look. Runs in the browser. Puts the parts in order and hands each snapshot to
// them; a part that is not looked at is not drawn.

import type { LiveSnapshot } from '../../live/snapshot.ts';
import { element } from '../dom.ts';
import type { History } from '../history.ts';
import { Conservation } from './conservation.ts';
import { DeadLetters } from './dead_letters.ts';
import { FirstEvent } from './first_event.ts';
import { Group } from './group.ts';
import { Log } from './log.ts';
import { Nodes } from './nodes.ts';
import type { OverviewPart } from './part.ts';
import { Plots } from './plots.ts';
import { Threads } from './threads.ts';
import { Tiles } from './tiles.ts';
import { TroublesList } from './troubles_list.ts';

export class Overview {
  readonly #root: HTMLElement;
  readonly #parts: readonly OverviewPart[];
  readonly #waiting = element('p', { class: 'muted' }, 'Waiting for the first figures …');
  #latest: LiveSnapshot | null = null;
  #isShown = false;

  constructor(root: HTMLElement, history: History) {
    this.#root = root;
    this.#parts = [
      new TroublesList(),
      new FirstEvent(),
      new Tiles(),
      new Conservation(),
      new Plots(history),
      new Nodes(),
      new Log(),
      new Group(),
      new Threads(),
      new DeadLetters(),
    ];
    root.append(this.#waiting);
    document.addEventListener('visibilitychange', () => this.#draw());
  }

  set isShown(isShown: boolean) {
    this.#isShown = isShown;
    this.#root.hidden = !isShown;
    this.#draw();
  }

  show(snapshot: LiveSnapshot): void {
    if (this.#latest === null) this.#root.replaceChildren(...this.#parts.map((part) => part.root));
    this.#latest = snapshot;
    this.#draw();
  }

  #draw(): void {
    if (this.#latest === null || !this.#isShown || document.hidden) return;
    for (const part of this.#parts) part.show(this.#latest);
  }
}
