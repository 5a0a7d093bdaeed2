// The formats that the matrices of a model get on a target, from what is asked for and what the file has.
import { OnelaunchError } from '../errors.ts';
import type { ModelDims } from './model/dims.ts';
import { type Format, isBlocks, type WeightName, weightNames } from './model/formats.ts';
import { platformOf, type Target } from './schedule/target.ts';

/**
 * Dims with the formats that were asked for; without a wish those that the file has, where the target has kernels for them.
 * int4 is for the layers: embedding and head, whose rows decide single tokens, are int8, unless the file has them in blocks.
 * @throws OnelaunchError usage for a format that the target has no kernels for, or that is none
 */
export function settleWeights(
  dims: ModelDims,
  asked: WeightName | undefined,
  target: Target | undefined,
): ModelDims {
  if (asked !== undefined && !weightNames.includes(asked)) {
    throw new OnelaunchError('usage', `there is no weight format '${String(asked)}'`, {
      hint: `known: ${weightNames.join(', ')}`,
    });
  }
  const { weights: stored, ...plain } = dims;
  const hasBlocks = target === undefined || platformOf(target).blockFormats;
  if (asked === 'plain' || (asked === undefined && !hasBlocks)) return plain;
  if (asked === undefined) return dims;
  const beside = (format: Format | undefined): Format =>
    asked === 'int4' && format !== undefined && isBlocks(format) ? format : 'int8';
  const weights = { layers: asked, embedding: beside(stored?.embedding), head: beside(stored?.head) };
  const settled = { ...plain, weights };
  if (target) checkWeights(settled, target);
  return settled;
}

/** @throws OnelaunchError usage for matrices in blocks, on a target that has no kernels for them */
export function checkWeights({ weights }: ModelDims, target: Target): void {
  if (weights === undefined || platformOf(target).blockFormats) return;
  throw new OnelaunchError('usage', `there are no ${weights.layers} kernels for ${target.name} yet`, {
    hint: 'give --target cpu, or leave out --weights: matrices are then numbers of the dtype of the model',
  });
}
