// What an op is written with: the type of a value, the mark of an op, and the functions that ops share.
import { callSite } from '../codegen/plan/call-site.ts';
import { shown } from '../codegen/plan/shown.ts';
import { OnelaunchError } from '../errors.ts';

/** A float32 on the device; the same function runs on JavaScript's numbers as its own reference. */
export type f32 = number;

/** The op itself, which knows from now on where it was written: its source becomes a C and CUDA function of the variable's name.
 *
 *      export const swiglu = pointwise((gate: f32, up: f32) => silu(gate) * up);
 *
 *  Inside: parameters, const, numbers, + - * / **, comparisons, && || !, ?:, Math.*, and other such arrow functions. */
export const pointwise = <Values extends f32[]>(
  op: (...values: Values) => f32,
): ((...values: Values) => f32) => {
  if (typeof op !== 'function') {
    throw new OnelaunchError('usage', `pointwise() is given ${shown(op)}, and no function`, {
      hint: 'Write it as pointwise((gate: f32, up: f32) => silu(gate) * up).',
    });
  }
  return Object.defineProperty(op, 'at', { value: callSite(), configurable: true });
};

/** x · sigmoid(x). Source: Elfwing et al. 2017, eq. 1. */
export const silu = (x: f32): f32 => x / (1 + Math.exp(-x));
