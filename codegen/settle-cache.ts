// The format of a model's KV cache, from what is asked for.
import { OnelaunchError } from '../errors.ts';
import type { ModelDims } from './model/dims.ts';
import { type CacheName, cacheNames } from './model/formats.ts';

/** Dims with the KV cache that was asked for. @throws OnelaunchError usage for a format that is none */
export function settleCache(dims: ModelDims, asked: CacheName | undefined): ModelDims {
  if (asked === undefined) return dims;
  if (!cacheNames.includes(asked)) {
    throw new OnelaunchError('usage', `there is no format '${String(asked)}' of a KV cache`, {
      hint: `known: ${cacheNames.join(', ')}`,
    });
  }
  const { cache: _, ...plain } = dims;
  return asked === 'plain' ? plain : { ...plain, cache: asked };
}
