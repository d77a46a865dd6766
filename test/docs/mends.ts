// The commands that `ess doctor` says mend something, for the test that carries them out: they are told to people, too.

import { readdirSync, readFileSync } from 'node:fs';
import type { ReportLine } from '../cli/doctor_run.ts';

/** The command with which a text begins, without the remarks after it; null if it begins with none. */
export function commandIn(mend: string): string | null {
  const [first = ''] = mend.split(/, |; | \(/);
  return /^(kafka-[a-z-]+\.sh|ess) /.test(first) ? first : null;
}

export const isFault = ({ verdict }: ReportLine): boolean => verdict === 'error' || verdict === 'warning';

/** Kafka's tools that the sources of the doctor name, with the options that they give them. */
export function optionsOfTools(): Map<string, Set<string>> {
  const folder = 'src/cli/doctor';
  const found = new Map<string, Set<string>>();
  const texts = readdirSync(folder).map((name) => readFileSync(`${folder}/${name}`, 'utf8'));
  // To the end of the text in which it stands, or to the next command.
  for (const [, tool = '', rest = ''] of texts
    .join('\n')
    .matchAll(/(kafka-[a-z-]+\.sh)(?:'\)\})?([^`\n]*?)(?=`|',?$| ess |kafka-|\n)/gm)) {
    const options = found.get(tool) ?? new Set<string>();
    for (const option of rest.match(/--[a-z][a-z-]+/g) ?? []) options.add(option);
    found.set(tool, options);
  }
  return found;
}
