// What an empty system shows: how to send the first event, and a button that sends one and shows the answer. Runs in the
// browser.

import type { LiveSnapshot } from '../../live/snapshot.ts';
import { fetchJson, isObject } from '../api.ts';
import { element, panel } from '../dom.ts';
import { problemBox } from '../problem_box.ts';
import type { OverviewPart } from './part.ts';

/** Waits until it can be read, so that the answer proves the whole way. */
const path = '/events/?ack=store';

export class FirstEvent implements OverviewPart {
  readonly root: HTMLElement;
  readonly #answer = element('div', { role: 'status' });
  readonly #send = element('button', { type: 'button' }, 'Send one now');
  readonly #copy = element('button', { type: 'button', class: 'quiet' }, 'Copy');
  readonly #command: HTMLElement;
  /** An answer stays to be read although the log is not empty any more. */
  #isUsed = false;

  constructor() {
    const event =
      '{"id": "order-1", "type": "order", "subject": "customer-7", "amount": 12.5, "country": "CH"}';
    this.#command = element(
      'code',
      {},
      `curl -X POST '${location.origin}${path}' \\\n  -H 'content-type: application/json' \\\n  -d '${event}'`,
    );
    this.root = panel(
      'No events yet',
      'first-event',
      element(
        'p',
        {},
        'Send the first one; with ',
        element('code', {}, 'ack=store'),
        ' the answer comes when it can be read:',
      ),
      element(
        'pre',
        { role: 'group', tabindex: '0', 'aria-label': 'Command that sends an event' },
        this.#command,
      ),
      element('p', { class: 'buttons' }, this.#copy, this.#send),
      this.#answer,
    );
    this.root.hidden = true;
    this.#send.addEventListener('click', () => void this.#sendOne());
    this.#copy.addEventListener('click', () => void this.#copyCommand());
  }

  show({ conservation: { accepted, memory_pending: pending }, role }: LiveSnapshot): void {
    this.root.hidden = !this.#isUsed && (accepted > 0 || pending > 0);
    this.#send.disabled = role === 'sink';
    if (role === 'sink') this.#send.textContent = 'This role takes no events: send them to an ingest role';
  }

  async #sendOne(): Promise<void> {
    this.#isUsed = true;
    this.#answer.replaceChildren();
    this.#send.disabled = true;
    const event = { type: 'sample', source: 'ess-page', subject: 'first-event', amount: 12.5, country: 'CH' };
    const reply = await fetchJson(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(event),
    });
    this.#send.disabled = false;
    if (!reply.isOk) {
      this.#answer.replaceChildren(problemBox(reply.problem));
      return;
    }
    const id = isObject(reply.value) ? String(reply.value['id']) : '';
    const state = new URLSearchParams({ id, source: event.source });
    this.#answer.replaceChildren(
      element(
        'div',
        { class: 'note good' },
        element(
          'p',
          {},
          element('strong', { class: 'tone good' }, 'It is durable and can be read.'),
          ' The answer:',
        ),
        element(
          'pre',
          { tabindex: '0', 'aria-label': 'Answer' },
          element('code', {}, JSON.stringify(reply.value, null, 2)),
        ),
        element('p', {}, element('a', { href: `#explore?${state}` }, 'See its journey')),
      ),
    );
  }

  async #copyCommand(): Promise<void> {
    try {
      await navigator.clipboard.writeText(this.#command.textContent ?? '');
      this.#copy.textContent = 'Copied';
    } catch {
      // Without TLS a browser lets no page write to the clipboard, except on the loopback address.
      getSelection()?.selectAllChildren(this.#command);
      this.#copy.textContent = 'Selected: now copy it';
    }
    setTimeout(() => {
      this.#copy.textContent = 'Copy';
    }, 3000);
  }
}
