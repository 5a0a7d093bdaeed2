// What is wrong with the edits of a plan, told with their line where they are made: afterwards nothing is left of them.
import type { Site } from './call-site.ts';
import { didYouMean } from './did-you-mean.ts';
import { type Issue, PlanError } from './issue.ts';

/** @throws PlanError for edits or options that are none, as of a caller without types */
export function needEdits(where: Pick<Issue, 'at' | 'call'>, edits: unknown, options: unknown): void {
  const refuse = (argument: 'name' | 'value', token: string, why: string, known: string) =>
    new PlanError([{ rule: 'option-value', ...where, argument, token, nth: 0, why, known, legal: [] }]);
  const takes =
    'It takes: with(name, { attn_norm: own(...) }, { prefetch: 2 }), the last one where there is something to say';
  if (!isRecord(edits)) throw refuse('name', where.call, `the edits of with() are ${shown(edits)}`, takes);
  if (!isRecord(options))
    throw refuse('name', where.call, `the options of with() are ${shown(options)}`, takes);
  const wrong = Object.entries(edits).find(([, edit]) => typeof edit !== 'function');
  if (wrong === undefined) return;
  const known = 'It takes: own(...), into(...), dealt(...); options of the scheme stand behind the edits';
  throw refuse('value', wrong[0], `the edit ${wrong[0]} is ${shown(wrong[1])}`, known);
}

const isRecord = (value: unknown): value is object => typeof value === 'object' && value !== null;
const shown = (value: unknown): string =>
  (JSON.stringify(value) ?? String(value)).replaceAll('"', "'").slice(0, 60);

/** @param stages what the edit of `key` finds
 *  @throws PlanError where none of them has this name: the edit would change nothing, or lose an op */
export function needStage(
  stages: readonly { readonly name: string }[],
  stage: unknown,
  key: string,
  at: Site,
): void {
  const names = stages.map(({ name }) => name);
  if (names.some((name) => name === stage)) return;
  const question = typeof stage === 'string' ? didYouMean(stage, names).trim() : '';
  const why = `there is no stage ${shown(stage)}${question && `: ${question}`}`;
  const known = `There are: ${names.map((name) => `'${name}'`).join(', ')}`;
  throw new PlanError([
    { rule: 'unknown-stage', at, call: key, argument: 'key', token: key, nth: 0, why, known, legal: [] },
  ]);
}
