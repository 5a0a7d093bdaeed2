// The format of a model's KV cache, from what is asked for, and where it is refused.
import { OnelaunchError } from '../errors.ts';
import type { ModelDims } from './model/dims.ts';
import { type CacheName, cacheNames } from './model/formats.ts';
import { platformOf, type Target } from './schedule/target.ts';

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

/** Refuses a KV cache that no kernel of the target reads. @throws OnelaunchError usage */
export function checkCache({ cache, dtype }: Pick<ModelDims, 'cache' | 'dtype'>, target: Target): void {
  if (cache === undefined || platformOf(target).cacheFormats) return;
  throw new OnelaunchError(
    'usage',
    `a KV cache in ${cache} is for a CPU, and kernels of ${target.name} keep it in ${dtype}`,
    {
      hint: `leave --cache ${cache} out, or give --target cpu`,
    },
  );
}
