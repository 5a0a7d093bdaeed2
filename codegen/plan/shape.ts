// What the words of a plan may say: options that there are and values that they take, whoever wrote them and whatever their types were.
import { z } from 'zod';
import { opNames, opTable } from '../model/ops.ts';
import { nowhere, type Site } from './call-site.ts';
import { didYouMean } from './did-you-mean.ts';
import type { Issue } from './issue.ts';
import { type FusionPlan, fit, type Scheme } from './plan.ts';
import { shown } from './shown.ts';

interface Option {
  readonly is: z.ZodType;
  /** The values that it takes, for people. */
  readonly takes: string;
}

const quoted = (words: readonly (string | number)[]): string =>
  words.map((word) => (typeof word === 'string' ? `'${word}'` : word)).join(', ');
const oneOf = (...values: readonly (string | number)[]): Option => ({
  is: z.literal([...values]),
  takes: quoted(values),
});
const whole = (least: number, most: number): Option => ({
  is: z.int().min(least).max(most),
  takes: `a whole number from ${least} to ${most}`,
});
const orFit = ({ is, takes }: Option): Option => ({
  is: z.union([z.literal(fit), is]),
  takes: `'${fit}', ${takes}`,
});

const tokens: Option = { is: z.union([z.literal('many'), z.number()]), takes: "'many', a whole number" };
/** Into a stage before which its input is not polled, by a plan or a target. */
export const mostPollCycles = 100_000;
const splitStep = z.strictObject({ splits: z.int().min(1).max(16), from: z.int().min(0) });

type Options = Readonly<Record<string, Option>>;

const stageOptions: Options = {
  over: oneOf('rows', 'q_heads', 'kv_heads', 'tokens', 'once'),
  recompute: { is: z.array(z.string()), takes: 'a list of ops' },
  split: oneOf('positions', 'none'),
};

export const schemeOptions: Readonly<Record<Scheme['kind'], Options>> = {
  barriers: {
    prefetch: whole(0, 8),
    prefetchBy: oneOf('all', 'idle'),
    blocks: orFit(whole(1, 1024)),
    warps: orFit(oneOf(4, 8, 16, 32)),
    loadBits: oneOf(64, 128),
    loadsInFlight: whole(1, 16),
    buffers: whole(0, 3),
    producers: whole(0, 4),
    barrier: oneOf('atomic', 'grid.sync'),
    inputs: oneOf('shared', 'global'),
    inputBits: oneOf(8, 16),
    tokens,
  },
  stream: {
    slots: whole(4, 64),
    slotBytes: orFit(oneOf(4096, 8192, 16384, 32768)),
    copiesInFlight: orFit(whole(1, 16)),
    headCopiesInFlight: whole(1, 16),
    handoff: oneOf('sentinel', 'epoch'),
    splits: orFit({
      is: z.array(splitStep).min(1),
      takes: 'byContext({ splits: position }) of 1 to 16 splits',
    }),
    copy: orFit(oneOf('bulk', 'cp.async')),
    blocks: orFit(whole(1, 1024)),
    pollCycles: orFit({
      is: z.partialRecord(z.enum(opNames), z.int().min(0).max(mostPollCycles)),
      takes: `cycles from 0 to ${mostPollCycles} by op: { o_proj: 300 }`,
    }),
    tokens,
  },
  tiles: {
    tokenTile: orFit(oneOf(64, 128)),
    rowTile: orFit(oneOf(64, 128)),
    multiply: orFit(oneOf('mma', 'wgmma')),
    slots: whole(2, 16),
    from: orFit(whole(1, 2048)),
    tokens,
  },
};

/** What makes each of these what it is, besides its options. */
const given = {
  stage: ['name', 'ops', 'at'],
  scheme: ['kind'],
  plan: ['name', 'stages', 'scheme', 'file', 'at'],
} as const;

/** Options that there are not, values that they do not take, and names that are none. */
export function shapeIssues(plan: FusionPlan): Issue[] {
  const { kind } = plan.scheme;
  const inPlan = { at: plan.at, call: plan.name };
  const others = Object.entries(schemeOptions).filter(([name]) => name !== kind);
  return [
    ...nameIssues(plan),
    ...optionIssues(inPlan, 'a plan', { ops: { is: z.unknown(), takes: '' } }, withoutKeys(plan, given.plan)),
    ...opIssues(plan),
    ...optionIssues(inPlan, `${kind}()`, schemeOptions[kind], withoutKeys(plan.scheme, given.scheme), others),
    ...plan.stages.flatMap((stage) =>
      optionIssues(
        { at: stage.at, call: stage.name },
        `stage '${stage.name}'`,
        stageOptions,
        withoutKeys(stage, given.stage),
      ),
    ),
  ];
}

const withoutKeys = (value: object, keys: readonly string[]): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(value).filter(([key]) => !keys.includes(key)));

const issue = (
  at: { readonly at: Site; readonly call: string },
  rule: string,
  argument: Issue['argument'],
  token: string,
  why: string,
  more: Partial<Pick<Issue, 'known' | 'legal'>>,
): Issue => ({ rule, ...at, token, argument, nth: 0, why, legal: [], ...more });

/** A sentence with the question that may help. */
const asked = (sentence: string, word: string, known: readonly string[]): string => {
  const question = didYouMean(word, known).trim();
  return question ? `${sentence}: ${question}` : sentence;
};

/** @param others the other schemes, of which one may have an option that this one lacks */
function optionIssues(
  at: { readonly at: Site; readonly call: string },
  owner: string,
  options: Options,
  written: Readonly<Record<string, unknown>>,
  others: readonly (readonly [string, Options])[] = [],
): Issue[] {
  const known = Object.keys(options);
  const unknown = Object.keys(written).filter((key) => !known.includes(key));
  const unknownIssue = (key: string): Issue => {
    const other = others.find(([, has]) => Object.hasOwn(has, key));
    const why = other
      ? `${owner} has no option '${key}': it is one of ${other[0]}()`
      : asked(`${owner} has no option '${key}'`, key, known);
    return issue(at, 'unknown-option', 'key', key, why, { known: `It has: ${quoted(known)}` });
  };
  return [
    ...unknown.map(unknownIssue),
    ...known
      .filter((key) => !options[key]!.is.safeParse(written[key]).success)
      .map((key) => {
        const value = written[key];
        const said = value === undefined ? 'missing' : shown(value);
        const words = [...options[key]!.takes.matchAll(/'([\w.]+)'/g)].map((found) => found[1]!);
        const why = asked(`${key} of ${owner} is ${said}`, typeof value === 'string' ? value : '', words);
        return issue(at, 'option-value', 'value', key, why, { known: `It takes: ${options[key]!.takes}` });
      }),
  ];
}

/** A plan's name names folders. */
function nameIssues(plan: FusionPlan): Issue[] {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,79}$/.test(plan.name)) return [];
  const why = `${shown(plan.name)} cannot name a plan: up to 80 letters, digits, '-', '_' and '.', a letter or digit first`;
  const better = plan.name
    .replaceAll(/[^A-Za-z0-9._-]+/g, '-')
    .replaceAll(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '')
    .slice(0, 80);
  const at = { at: plan.at, call: plan.name };
  return [issue(at, 'plan-name', 'name', plan.name, why, { legal: better ? [`'${better}'`] : [] })];
}

const replaceable = Object.entries(opTable).flatMap(([name, { pointwise }]) => (pointwise ? [name] : []));

/** Ops that compute something else must be pointwise ones, and their functions marked as such. */
function opIssues(plan: FusionPlan): Issue[] {
  const at = { at: plan.at, call: plan.name };
  return Object.entries(plan.ops).flatMap(([op, site]) => {
    const args = opTable[op as keyof typeof opTable]?.pointwise?.args;
    if (!args) {
      const why = asked(`the plan cannot say what '${op}' computes`, op, replaceable);
      return [issue(at, 'op-not-pointwise', 'key', op, why, { known: `It can of ${quoted(replaceable)}` })];
    }
    // A copy of its fields has none.
    const made: unknown = plan.functions?.[op as keyof typeof plan.functions];
    const form = `const ${op} = pointwise((${args.map((arg) => `${arg}: f32`).join(', ')}) => ...)`;
    if (typeof made !== 'function' || (site ?? nowhere).line === 0) {
      const why = `what '${op}' computes is not written as pointwise(...) in a file`;
      return [issue(at, 'op-function', 'value', op, why, { known: `Write: ${form}` })];
    }
    if (made.length !== args.length) {
      const why = `${op} is a function of ${args.length} values, ${args.join(' and ')}, not of ${made.length}`;
      return [issue(at, 'op-function', 'value', op, why, { known: `Write: ${form}` })];
    }
    return [];
  });
}
