// The decoder's pointwise ops, one line each; codegen/emit/pointwise.ts prints them as C and CUDA.

import { type f32, pointwise, silu } from './dsl.ts';

/** The gated product of the feed-forward layer. Source: Shazeer 2020, eq. 6. */
export const swiglu = pointwise((gate: f32, up: f32) => silu(gate) * up);

/** The residual sum. */
export const add = pointwise((residual: f32, branch: f32) => residual + branch);
