// The page's entry: opens the connection, keeps the header true and shows the view that the address names. Runs in the
// browser, loaded by index.html.

import type { LiveSnapshot } from '../live/snapshot.ts';
import { type ConnectionState, LiveConnection } from './connection.ts';
import { byId, element, setAttribute, setText } from './dom.ts';
import { Explore } from './explore/explore.ts';
import { clockTime, span } from './format.ts';
import { History } from './history.ts';
import { Overview } from './overview/overview.ts';

const states = {
  ready: { text: 'Ready', more: 'takes events and stores them', tone: 'good' },
  degraded: { text: 'Degraded', more: 'takes events; something needs a look', tone: 'warn' },
  unready: { text: 'Unready', more: 'cannot keep its promise to new events', tone: 'bad' },
} as const;

const history = new History();
const overview = new Overview(byId('view-overview'), history);
let latest: LiveSnapshot | null = null;
let connectionState: ConnectionState = { type: 'connecting' };
const connection = new LiveConnection({ onSnapshot, onState });
const explore = new Explore(byId('view-explore'), {
  nowMs: () => connection.nowMs,
  lag: () => latest?.lag ?? null,
});

// ---- header and banner --------------------------------------------------------------------------------------------

const stateText = element('strong');
const stateMore = element('span', { class: 'muted' });
byId('state').append(stateText, ' ', stateMore);
const bannerText = element('span', { role: 'alert' });
const bannerMore = element('span');
const retry = element('button', { type: 'button' }, 'Try now');
retry.addEventListener('click', () => connection.retryNow());
byId('banner').append(bannerText, ' ', bannerMore, ' ', retry);

function onSnapshot(snapshot: LiveSnapshot): void {
  latest = snapshot;
  history.add(snapshot);
  showHeader();
  overview.show(snapshot);
}

function onState(state: ConnectionState): void {
  connectionState = state;
  showHeader();
  showBanner();
}

function showHeader(): void {
  const isLive = connectionState.type === 'live';
  document.body.classList.toggle('stale', latest !== null && !isLive);
  if (latest === null || !isLive) {
    const text = connectionState.type === 'connecting' ? 'Connecting' : 'No connection';
    showState(
      text,
      latest === null ? '' : 'the figures are old',
      connectionState.type === 'connecting' ? 'plain' : 'bad',
    );
  } else {
    const { text, more, tone } = states[latest.status];
    showState(text, more, tone);
  }
  if (latest === null) return;
  const { role, version, started_ms: startedMs, time_ms: nowMs } = latest;
  setText(
    byId('facts'),
    `role ${role} · version ${version} · up ${span(Math.floor((nowMs - startedMs) / 1000))}`,
  );
}

function showState(text: string, more: string, tone: string): void {
  setText(stateText, text);
  setText(stateMore, more);
  setAttribute(stateText, 'class', `tone ${tone}`);
  showTitle(text);
}

function showBanner(): void {
  const banner = byId('banner');
  const state = connectionState;
  banner.hidden = state.type === 'live' || state.type === 'connecting';
  retry.hidden = state.type !== 'lost';
  if (state.type === 'other_format') {
    setText(bannerText, 'The server has another version than this page. Reload the page.');
    setText(bannerMore, '');
  }
  if (state.type !== 'lost') return;
  const since = state.lastMs === null ? '' : ` The figures are those of ${clockTime(state.lastMs)}.`;
  setText(bannerText, `No connection to the server.${since}`);
  showCountdown();
}

/** Beside the text that is read aloud: seconds are not announced. */
function showCountdown(): void {
  const state = connectionState;
  if (state.type !== 'lost') return;
  const leftMs = state.retryMs === null ? 0 : state.retryMs - Date.now();
  setText(bannerMore, leftMs > 0 ? `Next try in ${Math.ceil(leftMs / 1000)} s.` : 'Trying …');
}
setInterval(showCountdown, 500);

// ---- views --------------------------------------------------------------------------------------------------------

const titles = { overview: 'Overview', explore: 'Explore' };

function viewOf(hash: string): keyof typeof titles {
  return /^#explore(?:\?|$)/.test(hash) ? 'explore' : 'overview';
}

function showView(): void {
  const view = viewOf(location.hash);
  overview.isShown = view === 'overview';
  for (const name of ['overview', 'explore'] as const)
    setAttribute(byId(`link-${name}`), 'aria-current', name === view ? 'page' : null);
  // To come back to what was asked last.
  if (view === 'explore') setAttribute(byId('link-explore'), 'href', location.hash);
  explore.show(view === 'explore' ? location.hash : null);
  showTitle(stateText.textContent ?? '');
}

function showTitle(state: string): void {
  const title = `${state === '' ? '' : `${state} · `}ESS ${titles[viewOf(location.hash)]}`;
  if (document.title !== title) document.title = title;
}

byId('skip').addEventListener('click', (event) => {
  // The address names the view: it must not change.
  event.preventDefault();
  byId('main').focus();
});
window.addEventListener('hashchange', showView);
showView();
connection.open();
