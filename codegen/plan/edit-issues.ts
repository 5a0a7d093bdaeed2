// What is wrong with the words of a plan, told with their line where they are written: afterwards nothing is left of them.
import { isPlain } from '../../files/json-text.ts';
import type { Site } from './call-site.ts';
import { didYouMean } from './did-you-mean.ts';
import { type Issue, PlanError } from './issue.ts';
import { shown } from './shown.ts';

type Where = Pick<Issue, 'at' | 'call'>;
type Told = Pick<Issue, 'rule' | 'argument' | 'token' | 'why'> & { readonly known: string };

const refusal = (where: Where, told: Told): PlanError =>
  new PlanError([{ ...where, nth: 0, legal: [], ...told }]);

/** @throws PlanError for edits or options that are none, as of a caller without types */
export function needEdits(where: Where, edits: unknown, options: unknown): void {
  const refuse = (argument: 'name' | 'value', token: string, why: string, known: string) =>
    refusal(where, { rule: 'option-value', argument, token, why, known });
  const takes =
    'It takes: with(name, { attn_norm: own(...) }, { prefetch: 2 }), the last one where there is something to say';
  if (!isPlain(edits)) throw refuse('name', where.call, `the edits of with() are ${shown(edits)}`, takes);
  if (!isPlain(options))
    throw refuse('name', where.call, `the options of with() are ${shown(options)}`, takes);
  if ('kind' in options && typeof options['kind'] !== 'string')
    throw refuse('value', 'kind', `the kind of a scheme is ${shown(options['kind'])}`, takes);
  const wrong = Object.entries(edits).find(([, edit]) => typeof edit !== 'function');
  if (wrong === undefined) return;
  const known = 'It takes: own(...), into(...), dealt(...); options of the scheme stand behind the edits';
  throw refuse('value', wrong[0], `the edit ${wrong[0]} is ${shown(wrong[1])}`, known);
}

/**
 * Options that would be dropped, or change what they are not for, before anybody looks at them.
 * @param refused the keys that `owner` gives otherwise; others are looked at with the plan. With `taken` all keys but these are refused
 * @throws PlanError for them, and for options that are none
 */
export function needOptions(
  where: Where,
  options: unknown,
  { owner, refused = [], taken }: { owner: string; refused?: readonly string[]; taken?: readonly string[] },
): void {
  if (!isPlain(options)) {
    const why = `the options of ${owner} are ${shown(options)}`;
    throw refusal(where, {
      rule: 'option-value',
      argument: 'name',
      token: where.call,
      why,
      known: 'They take: an object, or nothing',
    });
  }
  const isWrong = (key: string) => (taken ? !taken.includes(key) : refused.includes(key));
  const key = Object.keys(options).find(isWrong);
  if (key === undefined) return;
  const known = taken ? `It has: ${quoted(taken)}` : `Not in options: ${quoted(refused)}`;
  const question = didYouMean(key, taken ?? []).trim();
  const why = `${owner} has no option '${key}'${question && `: ${question}`}`;
  throw refusal(where, { rule: 'unknown-option', argument: 'key', token: key, why, known });
}

/** @throws PlanError for a switch that is neither on nor off: a text, 'no' too, would turn it on */
export function needSwitch(where: Where, key: string, value: unknown, owner: string): void {
  if (value === undefined || typeof value === 'boolean') return;
  const why = `${key} of ${owner} is ${shown(value)}`;
  throw refusal(where, {
    rule: 'option-value',
    argument: 'value',
    token: key,
    why,
    known: 'It takes: true or false',
  });
}

/** What a stage is called, whatever was given as its name. */
export const stageText = (name: unknown): string => `stage ${shown(name)}`;

interface Named {
  readonly name: string;
  readonly ops: readonly string[];
}

/** @param names of all ops
 *  @throws PlanError where an edit of an op has no op's name */
export function needOp(names: readonly string[], stages: readonly Named[], key: string, at: Site): void {
  if (names.includes(key)) return;
  const isStage = stages.some(({ name }) => name === key);
  const question = isStage ? 'it is a stage, which dealt(...) changes' : didYouMean(key, names).trim();
  const why = `there is no op '${key}'${question && `: ${question}`}`;
  const known = `There are: ${quoted(names)}`;
  throw refusal({ at, call: key }, { rule: 'op-unknown', argument: 'key', token: key, why, known });
}

/** @param stages what the edit of `key` finds
 *  @throws PlanError where none of them has this name: the edit would change nothing, or lose an op */
export function needStage(stages: readonly Named[], stage: unknown, key: string, at: Site): void {
  if (stages.some(({ name }) => name === stage)) return;
  const names = stages.map(({ name }) => name);
  const holder = typeof stage === 'string' && stages.find(({ ops }) => ops.includes(stage));
  const question = holder
    ? `it is an op, of stage '${holder.name}'`
    : typeof stage === 'string'
      ? didYouMean(stage, names).trim()
      : '';
  const why = `there is no stage ${shown(stage)}${question && `: ${question}`}`;
  const known = `There are: ${quoted(names)}`;
  throw refusal({ at, call: key }, { rule: 'unknown-stage', argument: 'key', token: key, why, known });
}

/** @throws PlanError where the op is all that the stage has: the edit would change nothing */
export function needCompany(stages: readonly Named[], stage: string, key: string, at: Site): void {
  const found = stages.find(({ name }) => name === stage);
  if (!found?.ops.every((op) => op === key)) return;
  const why = `${key} is all that stage '${stage}' has`;
  const known = 'It takes: the name of another stage';
  throw refusal({ at, call: key }, { rule: 'unknown-stage', argument: 'key', token: key, why, known });
}

const quoted = (words: readonly string[]): string => words.map((word) => `'${word}'`).join(', ');
