// Gets the tools that npm cannot, from Debian's packages: wrk (benches) is installed where we are root; promtool
// (checks /metrics) is only unpacked into .cache/tools, since installing its package would start a Prometheus.
//   node scripts/tools.mjs [--optional] [NAME...]
// Exit code 0: all (or the named ones) are there. 1: something is missing and could not be had, which is then named;
// with --optional it is only said.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const folder = resolve('.cache/tools');
/** For whoever starts the tools: this PATH finds them. */
export const toolsPath = `${join(folder, 'usr/bin')}:${process.env.PATH}`;

const env = { ...process.env, PATH: toolsPath, DEBIAN_FRONTEND: 'noninteractive' };
const isThere = (name) => spawnSync(name, ['--version'], { stdio: 'ignore', env }).error === undefined;
const run = (command, args, cwd) => spawnSync(command, args, { stdio: 'ignore', env, cwd }).status === 0;
// A fresh image has no package lists yet.
const withLists = (action) => action() || (run('apt-get', ['update']) && action());

const install = (packageName) =>
  withLists(() => run('apt-get', ['install', '-y', '--no-install-recommends', packageName]));

function unpack(packageName) {
  const download = mkdtempSync(join(tmpdir(), 'ess-tools-'));
  if (withLists(() => run('apt-get', ['download', packageName], download))) {
    mkdirSync(folder, { recursive: true });
    for (const file of readdirSync(download)) run('dpkg', ['-x', file, folder], download);
  }
  rmSync(download, { recursive: true, force: true });
}

const tools = {
  wrk: { packageName: 'wrk', get: install },
  promtool: { packageName: 'prometheus', get: unpack },
};

/** Names of the tools that are missing after every try to get them. */
export function missingTools(names = Object.keys(tools)) {
  for (const name of names) if (!isThere(name)) tools[name].get(tools[name].packageName);
  return names.filter((name) => !isThere(name));
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === import.meta.filename) {
  const args = process.argv.slice(2);
  const names = args.filter((arg) => !arg.startsWith('--'));
  const missing = missingTools(names.length > 0 ? names : undefined);
  for (const name of missing) {
    console.error(
      `${name} is missing and could not be had: install it (Debian package ${tools[name].packageName}).`,
    );
  }
  if (missing.length > 0 && !args.includes('--optional')) process.exit(1);
}
