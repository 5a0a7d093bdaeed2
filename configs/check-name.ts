// What is given as the name of a model, a plan or a target, by a caller without types.
import { shown } from '../codegen/plan/shown.ts';
import { OnelaunchError } from '../errors.ts';

/** @throws OnelaunchError of kind usage for what can be neither a name nor a path */
export function checkName(value: unknown, what: 'model' | 'plan' | 'target'): asserts value is string {
  if (typeof value === 'string' && !value.includes('\0')) return;
  throw new OnelaunchError('usage', `the ${what} is ${shown(value)}, and neither a name nor a path`, {
    hint: `Give the name of a ${what}, or the path of one, as text.`,
  });
}
