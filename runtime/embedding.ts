// A text as a vector: of the hidden states of its tokens the last, or their mean, of length 1.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { OnelaunchError } from '../errors.ts';
import { isGgufFile, readGguf } from '../gguf/header.ts';
import { metadataOf } from '../gguf/metadata.ts';
import { plainObject } from '../plain-object.ts';
import type { Engine } from './engine/engine.ts';
import { checkShape, readJson } from './json-file.ts';

/** Which hidden states a vector is made of: that of the last token, or the mean of all. */
export type Pooling = 'last' | 'mean';

/** How a vector is made of a text; `signal` ends the work with its reason as the error. */
export interface EmbedOptions {
  /** @default what 1_Pooling/config.json of the model says, else 'last' */
  readonly pooling?: Pooling | undefined;
  /** The first so many numbers, as models allow that were trained for it. @default all */
  readonly dimensions?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** What a model makes of a text in the place of a reply. */
export interface TextEmbedding {
  /** Of length 1. */
  readonly vector: Float32Array;
  /** Tokens of the text. */
  readonly tokens: number;
}

export const embedSchema = plainObject({
  pooling: z.enum(['last', 'mean']).optional(),
  dimensions: z.int().min(1).optional(),
  signal: z.instanceof(AbortSignal).optional(),
});

const poolingFile = z.looseObject({
  pooling_mode: z.union([z.string(), z.array(z.string())]).nullish(),
});

/** By the name in pooling_mode, and by the flag that older files have for it. */
const poolings: Readonly<Record<string, Pooling>> = {
  ...{ lasttoken: 'last', pooling_mode_lasttoken: 'last' },
  ...{ mean: 'mean', pooling_mode_mean_tokens: 'mean' },
};

/** By the code in pooling_type of a GGUF file; 0, and no code, leave it to who asks. Source: llama_pooling_type of llama.cpp. */
const ggufPoolings: ReadonlyMap<number, Pooling> = new Map([
  [0, 'last'],
  [1, 'mean'],
  [3, 'last'],
]);

const hint = 'Of hidden states the last one is taken, or the mean of all.';

/** What the folder of a model says of its pooling, as sentence-transformers writes it, or a GGUF file.
 *  @throws OnelaunchError of kind usage for another one, and for several, which it joins to a longer vector */
export function readPooling(directory: string | null): Pooling {
  if (directory === null) return 'last';
  if (isGgufFile(directory)) return ggufPooling(directory);
  const path = join(directory, '1_Pooling', 'config.json');
  if (!existsSync(path)) return 'last';
  const { pooling_mode: mode, ...flags } = checkShape(poolingFile, readJson(path), path);
  const set = Object.keys(flags).filter((key) => /^pooling_mode_/.test(key) && flags[key] === true);
  const named = mode ? [mode].flat() : set;
  const [name, ...others] = named;
  const pooling = name !== undefined && Object.hasOwn(poolings, name) ? poolings[name] : undefined;
  if (pooling !== undefined && others.length === 0) return pooling;
  const what = named.length === 0 ? 'no pooling' : `the pooling ${named.join(' and ')}`;
  throw new OnelaunchError('usage', `${path} names ${what}, supported: lasttoken, mean`, { hint });
}

function ggufPooling(path: string): Pooling {
  const metadata = metadataOf(readGguf(path));
  const key = `${metadata.text('general.architecture')}.pooling_type`;
  const code = metadata.number(key) ?? 0;
  const pooling = ggufPoolings.get(code);
  if (pooling !== undefined) return pooling;
  const supported = [...ggufPoolings].map(([code, name]) => `${code} (${name})`).join(', ');
  throw new OnelaunchError('usage', `${path} has ${key} ${code}, supported: ${supported}`, { hint });
}

/** The vector of tokens, from an engine at position 0 whose logits begin with the hidden state.
 *  @param size of a hidden state
 *  @throws OnelaunchError; the signal's reason when aborted */
export async function embedding(
  engine: Pick<Engine, 'vocab' | 'scoreRows'>,
  tokens: readonly number[],
  {
    pooling,
    size,
    dimensions,
    signal,
  }: {
    readonly pooling: Pooling;
    readonly size: number;
    readonly dimensions: number;
    readonly signal: AbortSignal;
  },
): Promise<Float32Array> {
  const sum = new Float64Array(size);
  const take = (rows: Float32Array) => {
    for (let row = 0; row < rows.length; row += engine.vocab) {
      for (let i = 0; i < size; i++) sum[i]! += rows[row + i]!;
    }
  };
  await engine.scoreRows(tokens, pooling === 'last' ? tokens.length - 1 : 0, take, { signal });
  // The number of tokens is a factor that the length takes out.
  return ofLengthOne(sum.subarray(0, dimensions));
}

function ofLengthOne(vector: Float64Array): Float32Array {
  const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
  return Float32Array.from(vector, (x) => (length === 0 ? 0 : x / length));
}
