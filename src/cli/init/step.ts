// What `ess init` did or found, part by part, and how it is printed. Runs on the main thread of a process of its own.

/** One point in which something is not as wanted. */
export interface Finding {
  readonly what: string;
  readonly found: string;
  readonly wanted: string;
  /** The promise of ESS that does not hold like this. */
  readonly breaks: string;
  /** The command or statement that mends it. */
  readonly mend: string;
}

/** Every state but the last two is as it should be. */
export type StepState =
  | 'as_wanted'
  /** It was missing and has been made. */
  | 'made'
  /** It differed and has been changed, which only --apply allows. */
  | 'changed'
  | 'differs'
  | 'unreachable';

/** One part of what ESS depends on: a topic, a node, the embedded log. */
export interface Step {
  readonly part: string;
  readonly state: StepState;
  /** What it is like now, or why it cannot be reached. May be empty. */
  readonly detail: string;
  /** What still differs; empty unless the state says so. */
  readonly findings: readonly Finding[];
}

/** True if nothing is left to be done about it. */
export function isAsWanted({ state }: Step): boolean {
  return state !== 'differs' && state !== 'unreachable';
}

/** A step that is about differences: `otherwise` where there are none. */
export function stepOf(
  part: string,
  findings: readonly Finding[],
  otherwise: 'as_wanted' | 'made' | 'changed',
  detail = '',
): Step {
  return { part, state: findings.length > 0 ? 'differs' : otherwise, detail, findings };
}

/** All steps as one JSON object on one line. */
export function stepsJson(steps: readonly Step[]): string {
  return `${JSON.stringify({ is_as_wanted: steps.every(isAsWanted), steps })}\n`;
}

/** All steps as a table, what differs below its part, and a last line with the sum. */
export function stepsText(steps: readonly Step[]): string {
  const width = Math.max(...steps.map(({ part }) => part.length));
  const lines = steps.flatMap(({ part, state, detail, findings }) => [
    `${part.padEnd(width)}  ${state.replaceAll('_', ' ').padEnd('unreachable'.length)}  ${detail}`.trimEnd(),
    ...findings.flatMap(findingLines),
  ]);
  const left = steps.filter((step) => !isAsWanted(step)).length;
  const sum =
    left === 0
      ? 'Everything is as wanted.'
      : `${left} of ${steps.length} ${left === 1 ? 'is' : 'are'} not as wanted.`;
  return `${lines.join('\n')}\n${sum}\n`;
}

function findingLines({ what, found, wanted, breaks, mend }: Finding): string[] {
  return [
    `    ${what}`,
    `        found   ${found}`,
    `        wanted  ${wanted}`,
    `        breaks  ${breaks}`,
    `        mend    ${mend}`,
  ];
}
