// A plan from a user file, checked for its shape; what it means is checked by checkPlan.
import { relative } from 'node:path';
import { z } from 'zod';
import { OnelaunchError } from '../../errors.ts';
import { nowhere, type Site } from './call-site.ts';
import { PlanError } from './issue.ts';
import { barriers, type FusionPlan, type PlanData, planOf, type Scheme, stream, tiles } from './plan.ts';
import { schemeOptions, shapeIssues } from './shape.ts';
import { shown } from './shown.ts';

const site: z.ZodType<Site> = z.object({ file: z.string(), line: z.number(), column: z.number() });
const kinds = Object.keys(schemeOptions) as FusionPlan['scheme']['kind'][];
/** What must be there before anything else can be said of a plan; `shapeIssues` has the options. */
const planSchema = z.looseObject({
  name: z.string(),
  stages: z.array(z.looseObject({ name: z.string(), ops: z.array(z.string()), at: site })),
  scheme: z.looseObject({ kind: z.enum(kinds) }),
  ops: z.record(z.string(), site).default({}),
  file: z.string().nullable().default(null),
  at: site,
});

const usual: Readonly<Record<Scheme['kind'], Scheme>> = {
  barriers: barriers(),
  stream: stream(),
  tiles: tiles(),
};

/**
 * A plan of the right shape, from the default export of `file`. Ops are checked by `checkPlan`, where each has its place.
 * An option of the scheme that it was written without, as in a journal from before there was one, is as where nobody asks for it.
 * A stage whose line is not known, since a loader kept no source map, gets line 0 of the file: messages then find it by its name.
 * @param name of what is no default export, for messages
 * @throws PlanError for options that there are not, OnelaunchError of kind usage that names the first wrong field of what is no plan.
 */
export function parsePlan(value: unknown, file = '', name?: string): FusionPlan {
  const parsed = planSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const isPlan = typeof value !== 'object' || value === null || Object.keys(value).length > 0;
    if (name !== undefined || (isPlan && issue.path.length > 0) || issue.code !== 'invalid_type')
      throw fieldError(value, issue, name);
    if (value instanceof Promise) {
      const hint = 'wait for it: export default await ...';
      throw new OnelaunchError('usage', 'the default export is a promise', { hint });
    }
    const text = value === undefined ? 'there is no default export' : 'the default export is no plan';
    const hint = 'end the file with: export default plan(name, [stage(...), ...])';
    throw new OnelaunchError('usage', text, { hint });
  }
  const { functions = {} } = value as Partial<FusionPlan>;
  const plan = planOf(completed(parsed.data as unknown as PlanData, file), functions);
  const issues = shapeIssues(plan);
  if (issues.length > 0) throw new PlanError(issues, plan.file);
  return plan;
}

function completed(plan: PlanData, file: string): PlanData {
  const known = (at: Site): Site => (at.file === '' ? { ...nowhere, file } : at);
  const stages = plan.stages.map((stage) => ({ ...stage, at: known(stage.at) }));
  const path = relative(process.cwd(), file);
  const shown = path.startsWith('..') ? path : `./${path}`;
  const scheme = { ...usual[plan.scheme.kind], ...plan.scheme } as Scheme;
  return { ...plan, stages, scheme, file: file === '' ? plan.file : shown, at: known(plan.at) };
}

/** That a plan has all that is asked of one before its options are looked at. @param name of it, for messages
 *  @throws OnelaunchError of kind usage that names the first wrong field */
export function checkPlanFields(value: unknown, name: string): void {
  const parsed = planSchema.safeParse(value);
  if (!parsed.success) throw fieldError(value, parsed.error.issues[0]!, name);
}

function fieldError(value: unknown, issue: z.core.$ZodIssue, name = 'plan'): OnelaunchError {
  const found = issue.path.reduce((at: unknown, key) => (at as Record<PropertyKey, unknown>)?.[key], value);
  const field = issue.path.reduce<string>(
    (path, key) => path + (typeof key === 'number' ? `[${key}]` : `.${String(key)}`),
    name,
  );
  const error = (hint: string) =>
    new OnelaunchError('usage', `${field} is ${found === undefined ? 'missing' : shown(found)}`, {
      hint,
    });
  switch (issue.code) {
    case 'invalid_value':
      return error(`there is: ${issue.values.map((choice) => `'${String(choice)}'`).join(', ')}`);
    case 'invalid_type':
      return error(`it must be ${issue.expected === 'array' ? 'a list' : `of type ${issue.expected}`}`);
    default:
      return error(issue.message);
  }
}
