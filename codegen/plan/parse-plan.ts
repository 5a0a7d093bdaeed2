// A plan from a user file, checked for its shape; what it means is checked by checkPlan.
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { type FusionPlan, type PlanData, planOf, type Site } from './plan.ts';

const site: z.ZodType<Site> = z.object({ file: z.string(), line: z.number(), column: z.number() });
const words = z.array(z.string());
const tokens = z.union([z.literal('many'), z.number()]);
const planSchema = z.strictObject({
  name: z.string(),
  stages: z.array(
    z.strictObject({
      name: z.string(),
      ops: words,
      over: z.enum(['rows', 'q_heads', 'kv_heads', 'tokens', 'once']),
      recompute: words,
      split: z.enum(['positions', 'none']),
      at: site,
    }),
  ),
  scheme: z.discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('barriers'), prefetch: z.int().min(0).max(8), tokens }),
    z.strictObject({
      kind: z.literal('stream'),
      slots: z.int().min(4).max(64),
      slotBytes: z.union([z.literal('fit'), z.literal([4096, 8192, 16384, 32768])]),
      copiesInFlight: z.union([z.literal('fit'), z.int().min(1).max(16)]),
      headCopiesInFlight: z.int().min(1).max(16),
      handoff: z.enum(['sentinel', 'epoch']),
      splits: z.union([
        z.literal('fit'),
        z.array(z.strictObject({ splits: z.int().min(1).max(16), from: z.int().min(0) })).min(1),
      ]),
      tokens,
    }),
  ]),
  at: site,
});

/**
 * A plan of the right shape, from the default export of `file`. Ops are checked by `checkPlan`, where each has its place.
 * A stage whose line is not known, since a loader kept no source map, gets line 0 of the file: messages then find it by its name.
 * @throws OnelaunchError of kind usage that names the first wrong field.
 */
export function parsePlan(value: unknown, file = ''): FusionPlan {
  const parsed = planSchema.safeParse(value);
  if (parsed.success) return withFile(parsed.data as PlanData, file);
  const issue = parsed.error.issues[0]!;
  if (issue.path.length === 0 && issue.code === 'invalid_type') {
    const text = value === undefined ? 'there is no default export' : 'the default export is no plan';
    const hint = 'end the file with: export default plan(name, [stage(...), ...])';
    throw new OnelaunchError('usage', text, { hint });
  }
  throw fieldError(value, issue);
}

function withFile(plan: PlanData, file: string): FusionPlan {
  const known = (at: Site): Site => (at.file === '' ? { file, line: 0, column: 0 } : at);
  const stages = plan.stages.map((stage) => ({ ...stage, at: known(stage.at) }));
  return planOf({ ...plan, stages, at: known(plan.at) });
}

function fieldError(value: unknown, issue: z.core.$ZodIssue): OnelaunchError {
  const found = issue.path.reduce((at: unknown, key) => (at as Record<PropertyKey, unknown>)?.[key], value);
  const field = issue.path.reduce<string>(
    (path, key) => path + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`),
    'plan',
  );
  const error = (text: string, hint: string) => new OnelaunchError('usage', text, { hint });
  const is = `${field} is ${found === undefined ? 'missing' : JSON.stringify(found)?.slice(0, 60)}`;
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = Object.keys(found as object).filter((key) => !issue.keys.includes(key));
      return error(`${field} has no option ${issue.keys[0]}`, `there are: ${known.join(', ')}`);
    }
    case 'invalid_value':
      return error(is, `there is: ${listed(issue.values)}`);
    case 'invalid_type': {
      const types: Record<string, string> = { array: 'a list', int: 'a whole number' };
      return error(is, `it must be ${types[issue.expected] ?? `of type ${issue.expected}`}`);
    }
    case 'invalid_union':
      return error(is, issue.discriminator ? `there is: ${listed(kinds)}` : `it must be a number or 'many'`);
    case 'too_small':
      return error(is, `it must be at least ${issue.minimum}`);
    case 'too_big':
      return error(is, `it must be at most ${issue.maximum}`);
    default:
      return error(is, issue.message);
  }
}

const kinds = planSchema.shape.scheme.options.map((option) => option.shape.kind.value);

const listed = (choices: readonly unknown[]): string =>
  choices.map((choice) => (typeof choice === 'string' ? `'${choice}'` : String(choice))).join(', ');
