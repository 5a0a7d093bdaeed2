// What callers without types give the generator: what is no model, plan, target, schedule or kernel is refused by name, before a pass trips over it.
import { OnelaunchError } from '../errors.ts';
import { isPlain } from '../files/json-text.ts';
import { checkDims } from './model/check-dims.ts';
import type { ModelDims } from './model/dims.ts';
import { mostOf } from './model/dims-problems.ts';
import { checkPlanFields } from './plan/parse-plan.ts';
import { shown } from './plan/shown.ts';
import { platforms } from './schedule/platform.ts';

const refusal = (what: string, value: unknown, why: string, hint: string) =>
  new OnelaunchError('usage', `${what} is ${shown(value)}, ${why}`, { hint });

/** Looks at what was given. What a getter or a proxy in it throws becomes a usage error. */
function looking(what: string, look: () => void): void {
  try {
    look();
  } catch (cause) {
    if (cause instanceof OnelaunchError) throw cause;
    const hint = 'Something in it is of another type, or a getter of it throws: give plain values.';
    throw new OnelaunchError('usage', `${what} cannot be read`, { hint, cause });
  }
}

/** Whether it is an object, all of whose fields can be read. */
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).length >= 0;

/** An argument that is an object of others. @param form how it is written @param fields that it has */
export const needArguments = (
  call: string,
  given: unknown,
  form: string,
  ...fields: readonly string[]
): void =>
  looking(`what ${call}() is given`, () => {
    if (isObject(given) && fields.every((field) => field in given)) return;
    throw refusal(`what ${call}() is given`, given, `and not ${form}`, `Write ${call}(${form}).`);
  });

/** An argument that is a list of objects. @param form how it is written */
export const needList = (call: string, given: unknown, form: string): void =>
  looking(`what ${call}() is given`, () => {
    if (!Array.isArray(given) || given.length > mostOf.maxPositions || !Array.from(given).every(isObject))
      throw refusal(`what ${call}() is given`, given, `and not ${form}`, `Write ${call}(${form}).`);
  });

/** @throws OnelaunchError of kind usage, as checkDims does */
export const needDims = (dims: unknown): void =>
  looking('the model', () => {
    if (!isPlain(dims) || typeof dims['name'] !== 'string') {
      const hint = "resolveModel(name) of 'onelaunch/configs' has those of a model.";
      throw refusal('the model', dims, 'and no dims', hint);
    }
    checkDims(dims as unknown as ModelDims);
  });

/** @param name of the argument */
export const needPlan = (plan: unknown, name: 'plan' | 'promptPlan' = 'plan'): void =>
  looking(name, () => {
    if (!isPlain(plan)) {
      const hint =
        "plan(name, [stage(...), ...]) makes one; resolvePlan(name) of 'onelaunch/configs' finds one.";
      throw refusal(name, plan, 'and no plan', hint);
    }
    checkPlanFields(plan, name);
  });

const isCount = (value: unknown, most: number = Number.MAX_SAFE_INTEGER): boolean =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) <= most;
const isText = (value: unknown): boolean => typeof value === 'string';
const kinds = Object.keys(platforms);
/** What passes compute with, and what it may be. */
const targetFields: readonly (readonly [field: string, is: (value: unknown) => boolean, takes: string])[] = [
  ['name', isText, 'a text'],
  ['kind', (value) => kinds.some((kind) => kind === value), kinds.map((kind) => `'${kind}'`).join(' or ')],
  ['arch', isText, "a text: 'sm_90a', or '' on a CPU"],
  ['sms', isCount, 'a whole number'],
  ['sharedBytes', isCount, 'a whole number'],
  ['l2Bytes', isCount, 'a whole number'],
  ['bandwidth', (value) => value === null || Number(value) > 0, 'GB/s, or null where nobody knows them'],
];

export const needTarget = (target: unknown): void =>
  looking('the target', () => {
    if (!isPlain(target)) {
      const hint = "resolveTarget(name) of 'onelaunch/configs' is one, and a file of gen calibrate has one.";
      throw refusal('the target', target, 'and no target', hint);
    }
    const wrong = targetFields.find(([field, is]) => !is(target[field]));
    if (wrong === undefined) return;
    const [field, , takes] = wrong;
    const value = target[field];
    const said = value === undefined ? 'missing' : shown(value);
    throw new OnelaunchError('usage', `target.${field} is ${said}`, { hint: `it must be ${takes}` });
  });

export const needSchedule = (schedule: unknown): void =>
  looking('the schedule', () => {
    if (isObject(schedule) && isText(schedule['scheme']) && Array.isArray(schedule['stages'])) return;
    throw refusal('the schedule', schedule, 'and no schedule', 'makeSchedule(dims, plan, target) makes one.');
  });

/** @param parts that are looked at */
export const needKernel = (kernel: unknown, ...parts: readonly ('schedule' | 'sources')[]): void =>
  looking('the kernel', () => {
    if (isObject(kernel) && parts.every((part) => isObject(kernel[part]))) return;
    throw refusal('the kernel', kernel, 'and no kernel', 'generate({ dims, plan, target }) makes one.');
  });

/** So many tokens, or a position: no context is longer. */
export function needCount(name: string, value: unknown): void {
  if (isCount(value, mostOf.maxPositions)) return;
  const text = `${name} is ${shown(value)}, and not a whole number from 0 to ${mostOf.maxPositions}`;
  throw new OnelaunchError('usage', text, { hint: 'Give so many tokens as a prompt or a context has.' });
}
