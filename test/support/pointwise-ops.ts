// Ops of every form of expression: printed from the text of this file, and run as they stand.
import { type f32, pointwise, silu } from '../../configs/dsl.ts';

const sharp = (x: f32): f32 => x ** 3;
export const gated = pointwise((gate: f32, up: f32) => silu(gate) * up);
export const gelu = pointwise(
  (x: f32) => 0.5 * x * (1 + Math.tanh(0.7978845608 * (x + 0.044715 * sharp(x)))),
);
export const clamped = pointwise((x: f32, r: f32) => {
  const sum = x + r;
  const big = sum > 5 || sum < -5;
  return big ? (sum > 0 ? 5 : -5) : sum;
});
export const grouping = pointwise((a: f32, b: f32) => a - (b - 1) - -(a + b) * (a / (b * b + 2)));
export const negated = pointwise((a: f32) => -(-a) + +a - -1);
export const powers = pointwise(
  (a: f32, b: f32) => (a + b) ** 2 * 0.01 + Math.abs(a) ** 1.5 * 1e-7 + Math.PI,
);
export const logic = pointwise((a: f32, b: f32) => (a > 0 && (b > 0 || !(a === b)) !== b < 1 ? a : b));
export const chained = pointwise(
  (a: f32, b: f32) => (a < b ? -1 : a > b ? 1 : 0) + (a !== b ? gated(a, b) : 0),
);
export const several = pointwise(
  (a: f32, b: f32) =>
    Math.max(Math.min(a, b), Math.sin(a) * Math.cos(b)) +
    Math.log1p(Math.exp(-Math.abs(a))) +
    Math.sqrt(b * b + 1),
);
