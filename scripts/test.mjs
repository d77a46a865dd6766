// Runs every compiled test under node:test, or only those whose file name contains one of the arguments:
//   npm test                      all of them
//   npm test -- ring test.log     dist-test/*ring*.test.js and dist-test/*test.log*.test.js
// In two lanes at once, each one file at a time: tests that start brokers wait for elections and sessions most of their
// time, and the others use what is left of the machine meanwhile. More at once would make every time-out a lottery.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { missingKafka } from './kafka.mjs';
import { missingTools, toolsPath } from './tools.mjs';

const missing = [...missingTools(), ...(await missingKafka())];
if (missing.length > 0) console.error(`not to be had, their tests are skipped: ${missing.join(', ')}`);

const wanted = process.argv.slice(2);
const names = readdirSync('dist-test')
  .filter((name) => name.endsWith('.test.js'))
  .filter((name) => wanted.length === 0 || wanted.some((part) => name.includes(part)));

/** dist-test/test.log.kafka.group.test.js is made of test/log/kafka/group.test.ts. */
function startsBrokers(name) {
  const source = `${name.slice(0, -'.test.js'.length).replaceAll('.', '/')}.test.ts`;
  const isOfBrokers = /^test\/(cluster|bench)\//.test(source);
  return isOfBrokers || (existsSync(source) && /\bneedsKafka\b/.test(readFileSync(source, 'utf8')));
}

const lanes = [names.filter(startsBrokers), names.filter((name) => !startsBrokers(name))].filter(
  (lane) => lane.length > 0,
);
const folder = mkdtempSync(join(tmpdir(), 'ess-lanes-'));

/** Gives the exit code. The first lane is shown as it goes, the other one when it has ended. */
async function run(lane, i) {
  const path = join(folder, `lane-${i}`);
  const output = i === 0 ? 'inherit' : openSync(path, 'a');
  const child = spawn(
    process.execPath,
    [
      '--enable-source-maps',
      '--test',
      '--test-concurrency=1',
      '--test-reporter=spec',
      ...lane.map((name) => `dist-test/${name}`),
    ],
    { stdio: ['inherit', output, output], env: { ...process.env, PATH: toolsPath } },
  );
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve(status ?? 1));
  });
  return { code, text: i === 0 ? '' : readFileSync(path, 'utf8') };
}

try {
  const ended = await Promise.all(lanes.map(run));
  for (const { text } of ended) process.stdout.write(text);
  process.exitCode = ended.some(({ code }) => code !== 0) ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
