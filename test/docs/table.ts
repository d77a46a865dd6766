// What is known of each command of the documents: every command has exactly one entry, and every entry a command.

import { deploy } from './deploy_entries.ts';
import type { Entry } from './entry.ts';
import { operations } from './operations_entries.ts';
import { readme } from './readme_entries.ts';
import { tools } from './tool_entries.ts';

export const table: readonly Entry[] = [...readme, ...deploy, ...operations, ...tools];

/** An expression has to be the whole of the command. */
export function isOf(pattern: string | RegExp, text: string): boolean {
  if (typeof pattern === 'string') return pattern === text;
  return new RegExp(`^(?:${pattern.source})$`, pattern.flags).test(text);
}

/** The entries that a command has: one, if all is well. */
export function entriesOf(text: string): readonly Entry[] {
  return table.filter(({ commands }) => commands.some((pattern) => isOf(pattern, text)));
}
