// A real browser for tests of the page: Debian's Chromium without a window, steered by playwright-core. It can reach the
// loopback address only, and whatever it asks for outside the server's own origin is written down.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { type Browser, chromium, type Locator, type Page } from 'playwright-core';

/** How long something that has to come may take on a slow, busy machine, ms. */
export const patienceMs = 60_000;
const screenshotFolder = '.build/screenshots';

function chromiumPath(): string | null {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  return folders.map((folder) => join(folder, 'chromium')).find((file) => existsSync(file)) ?? null;
}

/** As needsKafka of kafka_cluster.ts: skips loudly, or fails with ESS_REQUIRE_ALL=1. */
export function needsBrowser(): { readonly skip: string | false } {
  if (chromiumPath() !== null) return { skip: false };
  const why = 'chromium is not on PATH (node scripts/tools.mjs chromium installs it)';
  assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', `${why}, and ESS_REQUIRE_ALL=1`);
  console.error(`SKIPPED: ${why}`);
  return { skip: why };
}

/** The caller closes it. */
export function openBrowser(): Promise<Browser> {
  const executablePath = chromiumPath();
  assert.ok(executablePath !== null);
  return chromium.launch({
    executablePath,
    args: [
      // Chromium's sandbox does not work as root, which is what tests in a container run as.
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-dev-shm-usage',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1',
    ],
  });
}

/** What a person reads there. */
export async function textOf(locator: Locator): Promise<string> {
  return (await locator.allInnerTexts()).join('\n');
}

export interface LookOptions {
  readonly colorScheme?: 'light' | 'dark';
  /** CSS pixels. Default: a desktop's. */
  readonly width?: number;
  readonly height?: number;
  /** For axe, which is put into the page from outside: the page's own policy would refuse it. */
  readonly bypassCSP?: boolean;
}

/** A page of a service in a browser context of its own. */
export class BrowserPage {
  readonly page: Page;
  /** What it asked for outside the server's origin. */
  readonly outside: string[];
  /** Errors in its console and uncaught ones. */
  readonly errors: string[];

  private constructor(page: Page, outside: string[], errors: string[]) {
    this.page = page;
    this.outside = outside;
    this.errors = errors;
  }

  /** Opens `url` + `path`. */
  static async open(
    browser: Browser,
    url: string,
    path = '/',
    options: LookOptions = {},
  ): Promise<BrowserPage> {
    const { colorScheme = 'light', width = 1366, height = 900, bypassCSP = false } = options;
    const context = await browser.newContext({
      colorScheme,
      viewport: { width, height },
      bypassCSP,
      acceptDownloads: true,
      timezoneId: 'Europe/Zurich',
    });
    context.setDefaultTimeout(patienceMs);
    const page = await context.newPage();
    const outside: string[] = [];
    const errors: string[] = [];
    const note = (asked: string): void => {
      const { origin } = new URL(asked.replace(/^ws/, 'http'));
      if (origin !== url && !asked.startsWith(`blob:${url}/`)) outside.push(asked);
    };
    page.on('request', (request) => note(request.url()));
    page.on('websocket', (socket) => note(socket.url()));
    page.on('console', (message) => {
      if (message.type() === 'error') errors.push(message.text());
    });
    page.on('pageerror', (error) => errors.push(error.message));
    await page.goto(url + path);
    return new BrowserPage(page, outside, errors);
  }

  /** A form's control, by its name. */
  control(name: string): Locator {
    return this.page.locator(`[name="${name}"]`);
  }

  /** The text of the figure with this name. */
  async figure(name: string): Promise<string> {
    return (await this.page.locator(`[data-figure="${name}"]`).first().textContent()) ?? '';
  }

  /** Waits until the page shows this as its state: Ready, Degraded, ... */
  async untilState(text: string, timeout = patienceMs): Promise<void> {
    await this.page.locator('#state strong', { hasText: new RegExp(`^${text}$`) }).waitFor({ timeout });
  }

  /** Waits until something holds. */
  async until(what: string, holds: () => Promise<boolean>, waitMs = patienceMs): Promise<void> {
    const untilMs = Date.now() + waitMs;
    while (!(await holds())) {
      if (Date.now() > untilMs) assert.fail(`waited in vain for ${what}`);
      await this.page.waitForTimeout(50);
    }
  }

  /** A table's body as texts, by its caption. */
  async table(caption: string): Promise<string[][]> {
    const rows = await this.page
      .locator('table', { has: this.page.locator('caption', { hasText: caption }) })
      .locator('tbody tr')
      .all();
    return Promise.all(rows.map((row) => row.locator('th, td').allInnerTexts()));
  }

  /** Holds that nothing outside was asked for, and that nothing went wrong unless told to expect it. */
  check(expected: RegExp = /^$/): void {
    assert.deepEqual(this.outside, []);
    assert.deepEqual(
      this.errors.filter((text) => !expected.test(text)),
      [],
    );
  }

  /** Holds that axe finds nothing wrong. */
  async checkAccessible(): Promise<void> {
    const file = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
    await this.page.evaluate(readFileSync(file, 'utf8'));
    const found = await this.page.evaluate<string[]>(
      `axe.run().then(({ violations }) => violations.flatMap(({ id, help, nodes }) =>
        nodes.map(({ html, failureSummary }) => id + ': ' + help + '\\n' + html + '\\n' + failureSummary)))`,
    );
    assert.deepEqual(found, []);
  }

  /** Holds that the page itself does not scroll sideways. */
  async checkWidth(): Promise<void> {
    const [wide, width] = await this.page.evaluate<[number, number]>(
      '[document.documentElement.scrollWidth, innerWidth]',
    );
    assert.ok(wide <= width, `the page is ${wide} px wide in a window of ${width} px`);
  }

  /** Saves what is to be seen, from top to bottom, for people to look at. */
  async screenshot(name: string): Promise<void> {
    mkdirSync(screenshotFolder, { recursive: true });
    await this.page.screenshot({ path: join(screenshotFolder, `${name}.png`), fullPage: true });
  }

  async close(): Promise<void> {
    await this.page.context().close();
  }
}
