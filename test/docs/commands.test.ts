// Every command line of README.md, ARCHITECTURE.md and the documents is run, in the order in which a reader comes upon it,
// against real parts; or it is named why it is not. A command that nobody has told this test of fails it, and so does
// an entry of its table that no document has any more.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ReportLine } from '../cli/doctor_run.ts';
import { needsKafka } from '../support/kafka_cluster.ts';
import { blocks, type Command, commandLine, commands, looksLikeCommand } from './document.ts';
import type { Entry, Run, Serve } from './entry.ts';
import { commandIn, isFault, optionsOfTools } from './mends.ts';
import { Parts } from './parts.ts';
import type { Ended } from './running.ts';
import { entriesOf, isOf, table } from './table.ts';

/** How long it may take until a change is known to every broker, ms. */
const patienceMs = 120_000;

const placeOf = ({ file, line, text }: Command): string => `${file}:${line}: ${text}`;

describe('the documents', () => {
  test('have commands in blocks of shell and in running text, nowhere else', () => {
    assert.ok(commands.length > 80);
    const languages = new Set(blocks.map(({ language }) => language));
    assert.deepEqual([...languages].toSorted(), ['', 'alloy', 'json', 'sh', 'sql']);
    for (const { file, language, text } of blocks.filter((block) => block.language !== 'sh'))
      for (const line of text.split('\n'))
        assert.ok(!looksLikeCommand(line), `${file}, ${language}: ${line}`);
  });

  test('have no command that the table does not know, or knows twice', () => {
    const wrong = commands.filter(({ text }) => entriesOf(text).length !== 1);
    assert.deepEqual(wrong.map(placeOf), []);
  });

  test('have a command for everything in the table', () => {
    const patterns = table.flatMap((entry) => entry.commands);
    const unused = patterns.filter((pattern) => !commands.some(({ text }) => isOf(pattern, text)));
    assert.deepEqual(unused, []);
  });

  test('have commands that a shell can read, and that another shell than bash reads in the same way', () => {
    for (const command of commands) {
      const { status, stderr } = spawnSync('bash', ['-n', '-c', command.text], { encoding: 'utf8' });
      assert.equal(status, 0, `${placeOf(command)}: ${stderr}`);
      // zsh takes an unquoted ? for a pattern, finds no such file, and runs nothing.
      const unquoted = command.text.replace(/'[^']*'|"[^"]*"/g, '');
      assert.doesNotMatch(unquoted, /\?/, placeOf(command));
    }
  });
});

/** Those that are run: once for each line and what stands before it; in running text only if they are new. */
function toBeRun(): { readonly command: Command; readonly entry: Entry }[] {
  const seen = new Set<string>();
  return commands.flatMap((command) => {
    const { text, before: lines, isInline } = command;
    const key = JSON.stringify([...lines, text]);
    const isRepeated = seen.has(key) || (isInline && seen.has(text));
    seen.add(key).add(text);
    const [entry] = entriesOf(text);
    return isRepeated || entry === undefined ? [] : [{ command, entry }];
  });
}

/** Where the programs are that a command may need. */
const searchPath = `${process.env['PATH']}:${resolve('.cache/tools/usr/bin')}:/usr/local/go/bin`;

/** Why a command cannot be run here, said loudly; false if it can. ESS_REQUIRE_ALL=1 forbids that. */
function skipReason({ needs }: Run | Serve): string | false {
  if (needs === undefined) return false;
  const found = spawnSync('sh', ['-c', `command -v ${needs}`], { env: { PATH: searchPath } });
  if (found.status === 0) return false;
  const why = `NOT RUN: there is no ${needs} here`;
  // What is not made for machines without systemd is not missing there.
  if (needs !== 'systemctl') assert.notEqual(process.env['ESS_REQUIRE_ALL'], '1', why);
  console.error(why);
  return why;
}

describe('the commands of the documents', needsKafka(), () => {
  let parts: Parts;
  before(() => {
    parts = Parts.start();
  });
  after(() => parts?.dispose());

  async function runOne(entry: Run, command: Command): Promise<void> {
    await entry.first?.(parts);
    const ended = await parts.run(command, entry.in, entry.instead?.(parts), entry.env);
    assert.equal(ended.code, entry.code?.(command) ?? 0, ended.output);
    if (entry.says !== undefined) assert.match(ended.output, entry.says);
    await entry.holds?.(parts, ended, command.text);
  }

  async function serveOne(entry: Serve, command: Command): Promise<void> {
    const name = entry.as ?? 'briefly';
    await parts.serve(name, command, entry.in, entry.instead?.(parts), entry.env);
    await parts.get(name, '/');
    if (entry.as !== null) return;
    const { code, output } = await parts.stop(name);
    // pprof knows no other end than a signal.
    if (command.text.includes('dist/ess.js')) assert.equal(code, 0, output);
  }

  for (const { command, entry } of toBeRun()) {
    if (entry.how === 'not run') {
      test(`${placeOf(command)} is not run: ${entry.why}`, () => entry.check(command.text));
      continue;
    }
    test(placeOf(command), { skip: skipReason(entry) }, () =>
      entry.how === 'run' ? runOne(entry, command) : serveOne(entry, command),
    );
  }

  describe('what ess doctor says mends something', () => {
    const run = (text: string): Promise<Ended> => parts.run(commandLine(text), 'cluster');

    /** Lines of these checks that name a fault, as soon as they are what is waited for. */
    async function untilFaults(
      checks: readonly string[],
      isWanted: (faults: readonly ReportLine[]) => boolean,
    ): Promise<readonly ReportLine[]> {
      const untilMs = Date.now() + patienceMs;
      for (;;) {
        const { out } = await run('ess doctor --json');
        const { checks: lines } = JSON.parse(out) as { readonly checks: readonly ReportLine[] };
        const faults = lines.filter((line) => checks.includes(line.check) && isFault(line));
        if (isWanted(faults)) return faults;
        assert.ok(Date.now() < untilMs, JSON.stringify(faults));
      }
    }

    test('has options that Kafka knows', async () => {
      const tools = optionsOfTools();
      assert.ok(tools.size > 3);
      for (const [tool, options] of tools) {
        const { output } = await run(`${tool} --help || true`);
        for (const option of options) assert.ok(output.includes(option), `${tool} ${option}`);
      }
    });

    test('mends it, where it is a setting of the topics', async () => {
      const { kafka } = parts;
      await kafka.setConfig('events', {
        'min.insync.replicas': '3',
        'unclean.leader.election.enable': 'true',
        'max.message.bytes': '2097152',
        'retention.ms': '7200000',
        'retention.bytes': '1048576',
      });
      await kafka.setConfig('events-dead-letters', { 'cleanup.policy': 'delete' });
      const checks = [
        'topic_min_isr',
        'topic_unclean_election',
        'topic_message_size',
        'topic_retention',
        'topic_cleanup',
      ];
      const faults = await untilFaults(checks, (lines) =>
        checks.every((id) => lines.some(({ check }) => check === id)),
      );
      for (const mend of new Set(faults.map((line) => line.mend))) {
        const command = commandIn(mend);
        assert.ok(command !== null, mend);
        const { code, output } = await run(command);
        assert.equal(code, 0, `${command}: ${output}`);
      }
      await untilFaults(checks, (lines) => lines.length === 0);
    });
  });
});
