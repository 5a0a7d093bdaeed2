// The formats that the matrices of a model get, from what is asked for and what the file has.
import { OnelaunchError } from '../errors.ts';
import type { ModelDims } from './model/dims.ts';
import {
  type BlockFormat,
  blockFormats,
  type Format,
  isBlocks,
  type WeightName,
  weightNames,
} from './model/formats.ts';

/**
 * Dims with the formats that were asked for; without a wish those that the file has, where `canRun` says that there are kernels for them.
 * int4 and fp8 are for the layers: embedding and head, whose rows decide single tokens, are int8, beside int4 as the file has them in blocks.
 * @throws OnelaunchError usage for a format that is none
 */
export function settleWeights(
  dims: ModelDims,
  asked: WeightName | undefined,
  canRun: (dims: ModelDims) => boolean = () => true,
): ModelDims {
  if (asked !== undefined && !weightNames.includes(asked)) {
    throw new OnelaunchError('usage', `there is no weight format '${String(asked)}'`, {
      hint: `known: ${weightNames.join(', ')}`,
    });
  }
  const { weights: stored, ...plain } = dims;
  if (asked === 'plain') return plain;
  if (asked === undefined) return stored === undefined || canRun(dims) ? dims : plain;
  const layers = asked === 'mixed' ? 'int4' : asked;
  const beside = (format: Format | undefined): Format =>
    blockFormats[layers].bits === 4 && format !== undefined && isBlocks(format) ? format : 'int8';
  const qkv = asked === 'mixed' ? { qkv: 'int8' as const } : {};
  const weights = { layers, ...qkv, embedding: beside(stored?.embedding), head: beside(stored?.head) };
  return { ...plain, weights };
}

/** Dims with formats that have the codes of a file, where these are others than config.json says. @param levels of its matrices, null: of no format, or plain */
export function withLevels(dims: ModelDims, levels: readonly (BlockFormat | null)[]): ModelDims {
  const { weights, ...plain } = dims;
  if (weights === undefined || levels.every((format) => format === weights.layers)) return dims;
  const areFours = levels.every((format) => format !== null && blockFormats[format].bits === 4);
  return areFours ? { ...dims, weights: { ...weights, layers: 'int4-asym' } } : plain;
}
