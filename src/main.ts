// The entry point: from the command line to a command. Everything heavy is behind a dynamic import, so that
// `ess --help` and `ess send` load neither the server nor the store.

import { availableParallelism } from 'node:os';
import { terminalReset } from './cli/bar.ts';
import { commandOf } from './cli/command.ts';
import { exitBadUsage } from './cli/exit_code.ts';
import { EssError, errorKinds } from './errors.ts';

/** Aborts at the first interrupt: the command ends in order. A second one ends the process at once. */
function firstInterrupt(): AbortSignal {
  const interrupt = new AbortController();
  process.once('SIGINT', () => {
    interrupt.abort();
    endAtInterrupt();
  });
  return interrupt.signal;
}

/** Ends as an interrupt does anyway, but not without giving the terminal back as it was before a progress bar. */
function endAtInterrupt(): void {
  process.once('SIGINT', () => {
    if (process.stderr.isTTY === true) process.stderr.write(terminalReset);
    process.kill(process.pid, 'SIGINT');
  });
}

async function run(argv: readonly string[]): Promise<number> {
  const command = commandOf(argv);
  switch (command.type) {
    case 'help': {
      const { helpText } = await import('./config/help.ts');
      process.stdout.write(helpText());
      return 0;
    }
    case 'version':
      process.stdout.write(`${__VERSION__}\n`);
      return 0;
    case 'unknown':
      process.stderr.write(`ess: ${command.message}\nSee ess --help.\n`);
      return exitBadUsage;
    case 'send': {
      const { runSend } = await import('./cli/send/run.ts');
      const { stdin, stdout, stderr } = process;
      return await runSend(command.argv, { stdin, stdout, stderr, signal: firstInterrupt() });
    }
    case 'init': {
      const { runInit } = await import('./cli/init.ts');
      const { openDataDir } = await import('./engine/data_dir.ts');
      const { stdout, stderr, env } = process;
      const cores = availableParallelism();
      endAtInterrupt();
      return await runInit(command.argv, { env, cores, stdout, stderr, openDataDir });
    }
    case 'dlq': {
      const { runDlq } = await import('./cli/dlq.ts');
      const { stdout, stderr, env } = process;
      const cores = availableParallelism();
      return await runDlq(command.argv, { env, cores, stdout, stderr, signal: firstInterrupt() });
    }
    case 'doctor': {
      const { runDoctor } = await import('./cli/doctor.ts');
      const { checkPlatform } = await import('./engine/platform.ts');
      const { stdout, stderr, env } = process;
      const io = { env, cores: availableParallelism(), stdout, stderr, machine: { checkPlatform } };
      const code = await runDoctor(command.argv, io);
      // What still hangs has cost its checks already: it is not waited for. First everything has to be written.
      await new Promise<void>((resolve) => stdout.write('', () => resolve()));
      return process.exit(code);
    }
    case 'verify': {
      const { runVerify } = await import('./cli/verify.ts');
      const { stdout, stderr, env } = process;
      const cores = availableParallelism();
      const signal = firstInterrupt();
      const code = await runVerify(command.argv, { env, cores, stdout, stderr, signal });
      // What still waits, or counts in the engine of this process, has nothing to finish.
      if (signal.aborted) process.kill(process.pid, 'SIGINT');
      return code;
    }
    case 'topics': {
      const { runTopics } = await import('./cli/topics.ts');
      const { stdin, stdout, stderr, env } = process;
      const cores = availableParallelism();
      const signal = firstInterrupt();
      return await runTopics(command.argv, { env, cores, stdin, stdout, stderr, signal });
    }
    case 'serve': {
      const { loadConfig } = await import('./config/load.ts');
      const config = loadConfig(command.argv, process.env, availableParallelism());
      const { checkPlatform } = await import('./engine/platform.ts');
      await checkPlatform();
      const { checkDependencies, refusalOf } = await import('./cli/init.ts');
      const refusal = refusalOf(await checkDependencies(config));
      if (refusal !== null) throw refusal;
      const { serve } = await import('./engine/serve.ts');
      await serve(config);
      return 0;
    }
  }
}

try {
  const code = await run(process.argv.slice(2));
  // A service that stopped because of a fault may have set its own.
  if (code !== 0) process.exitCode = code;
} catch (error) {
  const isKnown = error instanceof EssError;
  process.stderr.write(
    isKnown ? `ess: ${error.message}\n` : `${error instanceof Error ? error.stack : error}\n`,
  );
  if (isKnown && error.code !== 'bad_option') process.stderr.write(`${errorKinds[error.code].action}\n`);
  // Not by letting the event loop run dry: readers and sockets of a start that failed would keep it going.
  process.exit(isKnown && error.code === 'bad_option' ? exitBadUsage : 1);
}
