// Which command a command line means. Only this, so that the entry point knows what to load.

import { suggestion } from '../config/load.ts';

export type Command =
  | { readonly type: 'serve' | 'init' | 'doctor' | 'dlq' | 'send'; readonly argv: readonly string[] }
  | { readonly type: 'help' | 'version' }
  | { readonly type: 'unknown'; readonly message: string };

const names = ['serve', 'init', 'doctor', 'dlq', 'send', 'help'] as const;

/** Those that have a help text of their own. */
const helped = ['init', 'doctor', 'dlq', 'send'] as const;

/** The command for the arguments after `node` and the script. Without a name it is `serve`. */
export function commandOf(argv: readonly string[]): Command {
  const [first, ...rest] = argv;
  const own = helped.find((name) => name === first);
  if (own !== undefined) return { type: own, argv: rest };
  if (first === 'help') {
    const [about] = rest;
    const named = helped.find((name) => name === about);
    return named === undefined ? { type: 'help' } : { type: named, argv: ['--help'] };
  }
  const isServe = first === undefined || first === 'serve' || first.startsWith('-');
  if (!isServe) {
    return {
      type: 'unknown',
      message: `unknown command ${JSON.stringify(first)}${suggestion(first, names)}`,
    };
  }
  if (argv.includes('--help') || argv.includes('-h')) return { type: 'help' };
  if (argv.includes('--version')) return { type: 'version' };
  return { type: 'serve', argv: first === 'serve' ? rest : argv };
}
