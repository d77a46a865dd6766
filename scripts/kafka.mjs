// Gets Apache Kafka for the tests: the broker's jars by Maven, checked by formatting a node and starting it once.
// Nothing of it is installed outside .cache/tools/kafka-VERSION:
//   libs/                  the jars; only a JRE 17 is needed to run them
//   tools/                 one jar more, which a broker does not load: what kafka-topics.sh and the like start
//   bootstrap.checkpoint   what StorageTool writes into a new node's folder (the same for every node of a version)
//   classes.jsa            an archive of the loaded classes (class data sharing), which halves a node's start
//   whole.json             written last: the size of every file, and the Java and path that the archive is good for
//
//   node scripts/kafka.mjs [--optional] [VERSION...]      VERSION: by default every one that the tests use
// Prints the folder of each. Exit code as in tools.mjs. 0: all are there. 1: one could not be had, which is then
// named; with --optional it is only said.
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { env, folder, missingTools } from './tools.mjs';

const versions = ['3.7.0', '4.1.0'];
const fetchMs = 600_000;
const startMs = 120_000;

/** Where a version lies once it is there. */
const folderOf = (version) => join(folder, `kafka-${version}`);

const jarsIn = (home) =>
  readdirSync(join(home, 'libs'))
    .sort()
    .map((name) => join(home, 'libs', name));
// The order counts: the class archive is only used with the class path that it was made with.
const classPath = (home) => jarsIn(home).join(':');

const sizesIn = (home) =>
  Object.fromEntries(
    [...jarsIn(home), join(home, 'bootstrap.checkpoint')].map((file) => [
      file.slice(home.length + 1),
      statSync(file).size,
    ]),
  );

function readJson(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return null;
  }
}

function isWhole(home) {
  const sizes = readJson(join(home, 'whole.json'))?.sizes;
  return (
    sizes !== undefined &&
    Object.entries(sizes).every(
      ([name, size]) => statSync(join(home, name), { throwIfNoEntry: false })?.size === size,
    )
  );
}

/** What class archives depend on; the version goes to stderr. */
const javaVersion = () => spawnSync('java', ['-version'], { env, encoding: 'utf8' }).stderr;

const pom = (dependencies) => `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>ess</groupId><artifactId>kafka-jars</artifactId><version>1</version>
  <dependencies>
    ${dependencies}
  </dependencies>
</project>
`;

// slf4j-simple: without a binding a broker says nothing at all, not even why it does not start.
const brokerJars = (version) => `
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>${version}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>`;

// Alone: what else the tools depend on is a server for Kafka Connect, which none of those that we start needs.
const toolsJar = (version) => `
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>${version}</version>
    <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>`;

/** Runs to the end; throws with what it says of the cause if it fails. */
function must(command, args, cwd) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    env,
    cwd,
    encoding: 'utf8',
    timeout: fetchMs,
  });
  if (status === 0) return;
  const output = `${stdout}${stderr}`;
  const cause = output.split('\n').find((line) => line.includes('[ERROR]')) ?? output.slice(-1000);
  throw new Error(`${command} failed, ${error?.message ?? `status ${status}`}: ${cause.trim()}`);
}

async function freePorts(count) {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1');
      await once(server, 'listening');
      return server;
    }),
  );
  const ports = servers.map((server) => server.address().port);
  for (const server of servers) server.close();
  return ports;
}

function canConnect(port) {
  return new Promise((settle) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => settle(true)).once('error', () => settle(false));
    socket.once('connect', () => socket.destroy());
  });
}

const quickStart = ['-Xmx512m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-XX:-UsePerfData'];

/** Writes the configuration of a single node below `scratch`, and gives its path. */
function writeProperties(scratch, [port, controllerPort]) {
  const file = join(scratch, 'server.properties');
  writeFileSync(
    file,
    [
      'process.roles=broker,controller',
      'node.id=0',
      `controller.quorum.voters=0@127.0.0.1:${controllerPort}`,
      `listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controllerPort}`,
      'controller.listener.names=CONTROLLER',
      'listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT',
      'offsets.topic.replication.factor=1',
      `log.dirs=${join(scratch, 'data')}`,
      '',
    ].join('\n'),
  );
  return file;
}

/** Starts a node with the flag that archives its classes when it ends, and ends it once it listens. */
async function archiveClasses(home, scratch) {
  const ports = await freePorts(2);
  const archive = join(scratch, 'classes.jsa');
  const node = spawn(
    'java',
    [
      ...quickStart,
      `-XX:ArchiveClassesAtExit=${archive}`,
      `-Djava.io.tmpdir=${scratch}`,
      '-cp',
      classPath(home),
      'kafka.Kafka',
      writeProperties(scratch, ports),
    ],
    { env, stdio: 'ignore' },
  );
  const ended = once(node, 'exit');
  const untilMs = Date.now() + startMs;
  while (node.exitCode === null && Date.now() < untilMs && !(await canConnect(ports[0]))) await sleep(100);
  node.kill('SIGTERM');
  const patience = setTimeout(() => node.kill('SIGKILL'), startMs);
  await ended;
  clearTimeout(patience);
  if (!existsSync(archive)) throw new Error('a node did not start, or did not end in order');
  renameSync(archive, join(home, 'classes.jsa'));
}

function format(home, scratch) {
  must('java', [
    ...quickStart,
    '-cp',
    classPath(home),
    'kafka.tools.StorageTool',
    'format',
    '--cluster-id',
    // A first character of its own: one of them in 64 would be a dash, and the id be taken for an option.
    `e${randomBytes(16).toString('base64url').slice(1)}`,
    '--config',
    writeProperties(scratch, [1, 2]),
  ]);
}

/** Puts the jars that the dependencies name, and all that they depend on, into a new folder. */
function fetchJars(dependencies, scratch, folderName) {
  if (missingTools(['mvn']).length > 0) throw new Error('there is no Maven');
  writeFileSync(join(scratch, 'pom.xml'), pom(dependencies));
  const output = `-DoutputDirectory=${folderName}`;
  // -U: else Maven would remember for a day that something could not be fetched.
  must('mvn', ['-q', '-B', '-U', 'dependency:copy-dependencies', '-DincludeScope=runtime', output], scratch);
}

/** Makes the folder of a version whole, or throws. Several processes may do so at once. */
async function get(version) {
  const home = folderOf(version);
  const missing = missingTools(['java']);
  if (missing.length > 0) throw new Error('there is no Java');
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(folder, `.kafka-${version}-`));
  try {
    if (!isWhole(home)) {
      const fresh = join(scratch, 'fresh');
      mkdirSync(fresh);
      fetchJars(brokerJars(version), scratch, join(fresh, 'libs'));
      format(fresh, scratch);
      renameSync(join(scratch, 'data/bootstrap.checkpoint'), join(fresh, 'bootstrap.checkpoint'));
      writeFileSync(join(fresh, 'whole.json'), JSON.stringify({ sizes: sizesIn(fresh) }));
      rmSync(join(scratch, 'data'), { recursive: true });
      // Another process may have been faster: then its folder is as good.
      if (!isWhole(home)) {
        rmSync(home, { recursive: true, force: true });
        renameSync(fresh, home);
      }
    }
    if (!existsSync(join(home, 'tools'))) {
      const fresh = join(scratch, 'tools');
      fetchJars(toolsJar(version), scratch, fresh);
      // As above: another process may have been faster.
      if (!existsSync(join(home, 'tools'))) renameSync(fresh, join(home, 'tools'));
    }
    const whole = readJson(join(home, 'whole.json'));
    const archivedFor = `${home}\n${javaVersion()}`;
    if (whole.archivedFor !== archivedFor) {
      rmSync(join(home, 'classes.jsa'), { force: true });
      format(home, scratch);
      await archiveClasses(home, scratch);
      writeFileSync(join(scratch, 'whole.json'), JSON.stringify({ ...whole, archivedFor }));
      renameSync(join(scratch, 'whole.json'), join(home, 'whole.json'));
    }
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return home;
}

/** Gets these versions; gives a line for each that could not be had: its name and why. */
export async function missingKafka(wanted = versions) {
  const missing = [];
  for (const version of wanted) {
    try {
      await get(version);
    } catch (error) {
      missing.push(`Apache Kafka ${version} (${error.message})`);
    }
  }
  return missing;
}

if (process.argv[1] !== undefined && resolve(process.argv[1]) === import.meta.filename) {
  const args = process.argv.slice(2);
  const named = args.filter((arg) => !arg.startsWith('--'));
  const wanted = named.length > 0 ? named : versions;
  const missing = await missingKafka(wanted);
  for (const version of wanted) if (isWhole(folderOf(version))) console.log(folderOf(version));
  for (const line of missing) {
    console.error(
      `could not be had: ${line}. It needs a JRE 17 or later, and Maven with a repository to fetch from.`,
    );
  }
  if (missing.length > 0 && !args.includes('--optional')) process.exit(1);
}
