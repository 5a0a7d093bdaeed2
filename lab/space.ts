// --vary as plans: every combination of its values, each an edit of the base, and those left out that are illegal.
import type { Graph } from '../codegen/model/graph.ts';
import { firstIssue } from '../codegen/plan/check.ts';
import { didYouMean } from '../codegen/plan/did-you-mean.ts';
import { type Issue, PlanError } from '../codegen/plan/issue.ts';
import { barriers, type FusionPlan, type PlanEdit, stream, tiles } from '../codegen/plan/plan.ts';
import type { Target } from '../codegen/schedule/target.ts';
import { OnelaunchError } from '../errors.ts';
import { editable, editsOf } from './edits.ts';
import {
  allValues,
  type OptionValue,
  optionNames,
  optionText,
  readOption,
  type SchemeKind,
  takenBy,
} from './option-values.ts';
import type { Axis } from './vary.ts';

/** A plan that is tried. */
export interface Variant {
  /** What differs from the base: `cooperative+prefetch=2+attn_norm=own:tokens`. */
  readonly label: string;
  /** Key -> value. */
  readonly edits: Readonly<Record<string, string>>;
  readonly plan: FusionPlan;
}

/** A combination of edits of which one leaves another nothing to change. */
export interface Impossible extends Pick<Variant, 'label' | 'edits'> {
  readonly issue: Issue;
}

export interface SpaceInput {
  readonly graph: Graph;
  readonly base: FusionPlan;
  readonly target: Target;
}

/** One value of an axis. */
export type Choice = { readonly key: string; readonly text: string } & (
  | { readonly is: 'scheme'; readonly kind: SchemeKind }
  | { readonly is: 'option'; readonly value: OptionValue }
  | { readonly is: 'edit'; readonly edit: PlanEdit }
  /** As the base has it. */
  | { readonly is: 'base' }
);

/** Other words for options. */
const aliases: ReadonlyMap<string, string> = new Map([['window', 'copiesInFlight']]);
const schemes = { barriers, stream, tiles } as const;
const schemeKinds: readonly SchemeKind[] = ['barriers', 'stream'];

/** The values of each axis, all of them known. @throws OnelaunchError usage for a key or value that there is not */
export function choicesOf(axes: readonly Axis[], input: SpaceInput): readonly (readonly Choice[])[] {
  const { kind } = input.base.scheme;
  const ofScheme = axes.find(({ key }) => key === 'scheme');
  const scheme = ofScheme ? schemeChoices(ofScheme, kind) : [];
  const kinds = [...new Set([kind, ...scheme.flatMap((one) => (one.is === 'scheme' ? [one.kind] : []))])];
  const others = axes
    .filter((axis) => axis !== ofScheme)
    .map(({ key, values }) => ({ key: optionOf(key, kinds), values }));
  const twice = others.find(({ key }, i) => others.findIndex((other) => other.key === key) !== i);
  if (twice) throw new OnelaunchError('usage', `--vary has '${twice.key}' twice, under two names`);
  const chosen = others.map((axis) => {
    const owners = kinds.filter((one) => optionNames(one).includes(axis.key));
    return owners.length > 0 ? optionChoices(axis, owners) : editChoices(axis, kinds, input);
  });
  return scheme.length > 0 ? [scheme, ...chosen] : chosen;
}

const isOption = (key: string, kinds: readonly SchemeKind[]): boolean =>
  kinds.some((kind) => optionNames(kind).includes(key));

const optionOf = (key: string, kinds: readonly SchemeKind[]): string => {
  const other = aliases.get(key);
  return other !== undefined && isOption(other, kinds) ? other : key;
};

/** An option that other schemes have. */
function optionOfOthers(key: string, kinds: readonly SchemeKind[], { name }: FusionPlan) {
  const other = Object.keys(schemes).find((kind) => isOption(aliases.get(key) ?? key, [kind as SchemeKind]));
  if (other === undefined) return null;
  const text = `--vary has '${key}', an option of ${other}(), and ${name} has ${kinds.join('() or ')}()`;
  return new OnelaunchError('usage', text, {
    hint:
      other === 'tiles'
        ? 'variants are of plans that decode'
        : `give a --plan with ${other}(), or vary 'scheme=${other}', too`,
  });
}

function schemeChoices({ values }: Axis, base: SchemeKind): Choice[] {
  const words = values.flatMap((value): readonly string[] => (value === '*' ? schemeKinds : [value]));
  return words.map((text): Choice => {
    const kind = schemeKinds.find((one) => one === text);
    if (text === 'base' || kind === base) return { key: 'scheme', text: 'base', is: 'base' };
    if (!kind) throw unknownValue('scheme', text, schemeKinds);
    return { key: 'scheme', text, is: 'scheme', kind };
  });
}

function optionChoices({ key, values }: Axis, owners: readonly SchemeKind[]): Choice[] {
  return values.flatMap((text): Choice[] => {
    if (text === 'base') return [{ key, text, is: 'base' }];
    if (text === '*') return owners.flatMap((kind) => everyValue(kind, key));
    const value = owners.map((kind) => readOption(kind, key, text)).find((read) => read !== undefined);
    if (value === undefined) {
      const words = owners.flatMap((kind) => allValues(kind, key) ?? []).map(String);
      throw unknownValue(key, text, words, owners.map((kind) => takenBy(kind, key)).join('; or '));
    }
    return [{ key, text, is: 'option', value }];
  });
}

function everyValue(kind: SchemeKind, key: string): Choice[] {
  const all = allValues(kind, key);
  if (all)
    return all.map((value) => ({ key, text: optionText(value) ?? String(value), is: 'option', value }));
  throw new OnelaunchError('usage', `${key} has too many values for '*': it takes ${takenBy(kind, key)}`, {
    hint: key === 'splits' ? `list them: splits=fit,8:0,1:0+4:128` : `list them: ${key}=1,8,many`,
  });
}

function editChoices({ key, values }: Axis, kinds: readonly SchemeKind[], input: SpaceInput): Choice[] {
  const { graph, base, target } = input;
  const all = editsOf(graph, base, key);
  if (all.length === 0) {
    const ofOthers = optionOfOthers(key, kinds, base);
    if (ofOthers) throw ofOthers;
    const known = [
      ...kinds.flatMap(optionNames),
      ...[...aliases].flatMap(([key, option]) => (isOption(option, kinds) ? [key] : [])),
      'scheme',
      ...editable(graph, base),
    ];
    throw new OnelaunchError('usage', `--vary has an unknown key '${key}'`, {
      hint: `${didYouMean(key, known)}known: ${[...new Set(known)].join(', ')}`,
    });
  }
  // How an op cannot be dealt has nothing to do with what else is varied.
  const possible = all.filter(
    ({ edit }) => firstIssue(graph, base.with(base.name, { [key]: edit }), target)?.rule !== 'cannot-deal',
  );
  const stage = base.stages.find(({ name }) => name === key);
  return values.flatMap((text): Choice[] => {
    if (text === 'base') return [{ key, text, is: 'base' }];
    const meant =
      text === '*'
        ? possible
        : text === 'own'
          ? possible.filter((one) => one.text.startsWith('own:'))
          : text === 'split' || text === 'unsplit'
            ? all.filter((one) => stage && one.text === stage.over + (text === 'split' ? ':split' : ''))
            : all.filter((one) => one.text === text);
    if (meant.length === 0) {
      const more = [
        ...(graph.ops.some(({ name }) => name === key) ? ['own'] : []),
        ...(stage ? ['split', 'unsplit'] : []),
      ];
      const words = [...possible.map((one) => one.text), ...more, 'base', '*'];
      throw unknownValue(key, text, words);
    }
    const choices = meant.map((one): Choice => ({ key, text: one.text, is: 'edit', edit: one.edit }));
    return text === '*' ? [{ key, text: 'base', is: 'base' }, ...choices] : choices;
  });
}

function unknownValue(
  key: string,
  text: string,
  words: readonly string[],
  takes = [...new Set(words)].join(', '),
) {
  // A number is not misspelt.
  const spelt = words.filter((word) => !/^\d+$/.test(word));
  return new OnelaunchError('usage', `--vary has '${key}=${text}', and ${key} has no such value`, {
    hint: `${/^[\d.]+$/.test(text) ? '' : didYouMean(text, spelt)}it takes: ${takes}`,
  });
}

/** Combinations, were each axis to take each of its values. */
export const sizeOf = (axes: readonly (readonly Choice[])[]): number =>
  axes.reduce((product, axis) => product * axis.length, 1);

/** One combination by its number. */
export function combination(axes: readonly (readonly Choice[])[], index: number): readonly Choice[] {
  let rest = index;
  return axes.map((axis) => {
    const choice = axis[rest % axis.length]!;
    rest = Math.floor(rest / axis.length);
    return choice;
  });
}

/** The base with these choices made; null: an option is not one of the scheme that was chosen. */
export function variantOf(base: FusionPlan, choices: readonly Choice[]): Variant | Impossible | null {
  const changed = choices.filter((choice) => !isOfBase(base, choice));
  const scheme = changed.find((choice) => choice.is === 'scheme');
  const { tokens, kind: before } = base.scheme;
  const kind = scheme?.kind ?? before;
  const options = changed.filter((choice) => choice.is === 'option');
  if (options.some(({ key }) => !optionNames(kind).includes(key))) return null;
  if (options.some(({ key, text }) => readOption(kind, key, text) === undefined)) return null;
  const values = Object.fromEntries(options.map(({ key, value }) => [key, value]));
  const tuned = scheme ? { ...schemes[kind]({ tokens }), ...values } : values;
  const edits = Object.fromEntries(
    changed.flatMap((one) => (one.is === 'edit' ? [[one.key, one.edit]] : [])),
  );
  const label = [base.name, ...changed.map(({ key, text }) => `${key}=${text}`)].join('+');
  const named = { label, edits: Object.fromEntries(changed.map(({ key, text }) => [key, text])) };
  try {
    return { ...named, plan: changed.length === 0 ? base : base.with(nameOf(label), edits, tuned) };
  } catch (error) {
    if (error instanceof PlanError) return { ...named, issue: error.issues[0]! };
    throw error;
  }
}

const isOfBase = ({ scheme }: FusionPlan, choice: Choice): boolean =>
  choice.is === 'base' ||
  (choice.is === 'option' &&
    choice.key in scheme &&
    optionText(Object.entries(scheme).find(([key]) => key === choice.key)?.[1]) === choice.text);

/** A label as the name of a plan: letters, digits and a few signs, 80 of them. */
const nameOf = (label: string): string => label.replaceAll(/[^A-Za-z0-9._-]+/g, '-').slice(0, 80);
