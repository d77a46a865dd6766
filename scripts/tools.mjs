// Gets the tools that npm cannot, from Debian's packages: wrk (benches), kcat, faketime and Java (tests with Kafka) and
// Chromium (tests of the page) are installed where we are root; prometheus and promtool (for /metrics and the alerts) are only
// unpacked into .cache/tools, since installing their package would start a Prometheus. Kafka itself comes by
// scripts/kafka.mjs. k6 (load tests) is built by Go, in a minute or two, where Go is there. What
// only benches need is got when it is named: Benthos, built by Go too, and peers-python, a virtual environment with
// bench/peers/requirements.txt.
//   node scripts/tools.mjs [--optional] [NAME...]
// Exit code 0: all (or the named ones) are there. 1: something is missing and could not be had, which is then named;
// with --optional it is only said.
import { spawnSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/** Everything that is not installed lies below it. */
export const folder = resolve('.cache/tools');
/** For whoever starts the tools: this PATH finds them. */
export const toolsPath = `${join(folder, 'usr/bin')}:${process.env.PATH}`;

export const env = { ...process.env, PATH: toolsPath, DEBIAN_FRONTEND: 'noninteractive' };
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

const bin = join(folder, 'usr/bin');
/** The Python that has the packages of the peers. */
export const peersPython = join(folder, 'peers-python/bin/python');

// To be the one that serves as long as its requirements are these: the stamp is written last.
const requirements = resolve('bench/peers/requirements.txt');
const stamp = join(folder, 'peers-python/requirements.txt');

function isPythonThere() {
  try {
    const isWanted = readFileSync(stamp, 'utf8') === readFileSync(requirements, 'utf8');
    return isWanted && run(peersPython, ['-c', 'import aiokafka, fastapi, orjson, uvicorn, uvloop']);
  } catch {
    return false;
  }
}

function makePython() {
  const home = join(folder, 'peers-python');
  rmSync(home, { recursive: true, force: true });
  const isMade =
    run('python3', ['-m', 'venv', home]) &&
    run(peersPython, ['-m', 'pip', 'install', '--no-deps', '--requirement', requirements]);
  if (isMade) writeFileSync(stamp, readFileSync(requirements));
}

/** Runs Go so that the program that it makes lies in our folder only once it is whole. */
function build(name, argv, cwd) {
  const scratch = mkdtempSync(join(tmpdir(), 'ess-tools-'));
  mkdirSync(bin, { recursive: true });
  const env = { ...process.env, GOBIN: scratch, GOFLAGS: '-buildvcs=false' };
  const { status } = spawnSync('go', [...argv(join(scratch, name))], { stdio: 'ignore', env, cwd });
  // Beside its place first: a rename does not cross file systems, and a program that is just being run is not written.
  if (status === 0 && run('cp', [join(scratch, name), join(bin, `${name}.new`)]))
    renameSync(join(bin, `${name}.new`), join(bin, name));
  rmSync(scratch, { recursive: true, force: true });
}

const tools = {
  wrk: { packageName: 'wrk', get: install },
  promtool: { packageName: 'prometheus', get: unpack },
  prometheus: { packageName: 'prometheus', get: unpack },
  kcat: { packageName: 'kcat', get: install },
  java: { packageName: 'default-jre-headless', get: install },
  openssl: { packageName: 'openssl', get: install },
  // Machines of their own, made of network namespaces.
  ip: { packageName: 'iproute2', get: install },
  // A machine whose clock is wrong, for tests of what notices it.
  faketime: { packageName: 'faketime', get: install },
  chromium: { packageName: 'chromium', get: install },
  // Only to fetch Kafka: kafka.mjs asks for it where the jars are not there yet.
  mvn: { packageName: 'maven', get: install, isOnDemand: true },
  'peers-python': {
    isThere: isPythonThere,
    get: makePython,
    isOnDemand: true,
    advice: 'it needs Python 3.11 with venv, and PyPI or a copy of it that pip is told of',
  },
  // Not one that happens to be installed: versions differ.
  benthos: {
    isThere: () => run(join(bin, 'benthos'), ['--version']),
    get: () =>
      build('benthos', (file) => ['build', '-trimpath', '-o', file, '.'], resolve('bench/peers/benthos')),
    isOnDemand: true,
    advice: 'it needs Go (bench/peers/benthos/go.mod says which) and a module proxy',
  },
  k6: {
    get: () => build('k6', () => ['install', 'go.k6.io/k6@v1.8.1']),
    // Without Go there is nothing to try: `npm test` then skips its tests and says so.
    isOnDemand: !isThere('go'),
    advice: 'it needs Go and a module proxy, or the package of its makers',
  },
};

const isToolThere = (name) => (tools[name].isThere ?? isThere)(name);

/** Names of the tools that are missing after every try to get them. */
export function missingTools(names = Object.keys(tools).filter((name) => !tools[name].isOnDemand)) {
  for (const name of names) if (!isToolThere(name)) tools[name].get(tools[name].packageName);
  return names.filter((name) => !isToolThere(name));
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === import.meta.filename) {
  const args = process.argv.slice(2);
  const names = args.filter((arg) => !arg.startsWith('--'));
  const missing = missingTools(names.length > 0 ? names : undefined);
  for (const name of missing) {
    const { packageName, advice = `install it (Debian package ${packageName})` } = tools[name];
    console.error(`${name} is missing and could not be had: ${advice}.`);
  }
  if (missing.length > 0 && !args.includes('--optional')) process.exit(1);
}
