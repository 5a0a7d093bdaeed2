// Which bytes fill which weight slot: the list that the library's loader works through.
import type { Manifest, Slot } from '../abi/manifest.ts';
import { OnelaunchError } from '../errors.ts';
import { sourceDtype, type TensorSource } from './bindings.ts';
import type { TensorEntry, Tensors } from './safetensors.ts';

export interface LoadPlan {
  /** One for each slot of the manifest, in its order. */
  readonly sources: readonly TensorSource[];
  /** What the user should know, one line each. */
  readonly warnings: readonly string[];
}

const storedDtype: Readonly<Record<string, { code: number; name: Slot['dtype'] }>> = {
  BF16: { code: sourceDtype.bf16, name: 'bf16' },
  F16: { code: sourceDtype.fp16, name: 'fp16' },
  F32: { code: sourceDtype.fp32, name: 'fp32' },
};

/** Sources for every slot of a library, out of the tensors of a checkpoint.
 *  @throws OnelaunchError of kind usage when a tensor is missing, or has another shape or dtype than the library was made for. */
export function loadPlan(manifest: Manifest, tensors: Tensors): LoadPlan {
  const missing = manifest.slots.filter((slot) => !tensors.has(slot.tensor)).map((slot) => slot.tensor);
  if (missing.length > 0) {
    throw refusal(manifest, [`the checkpoint lacks ${list(missing)}`]);
  }
  const problems: string[] = [];
  const sources = manifest.slots.map((slot, index) => {
    const entry = tensors.get(slot.tensor)!;
    const problem = findMismatch(slot, entry);
    if (problem !== undefined) problems.push(problem);
    const { file: path, offset } = entry;
    const dtype = storedDtype[entry.dtype]?.code ?? sourceDtype.bf16;
    return { path, offset, slot: index, dtype, seed: 0, mean: 0, scale: 0 };
  });
  if (problems.length > 0) throw refusal(manifest, problems);
  return { sources, warnings: [...findExtra(manifest, tensors), ...findConverted(manifest, tensors)] };
}

function findMismatch(
  { tensor, shape: [rows, columns] }: Slot,
  { shape, dtype, file }: TensorEntry,
): string | undefined {
  const wanted = `${rows},${columns}`;
  const isVector = rows === 1 && shape.length === 1;
  if ((isVector ? `1,${shape[0]}` : shape.join()) !== wanted) {
    const expected = rows === 1 ? `[${columns}]` : `[${rows}, ${columns}]`;
    return `${tensor} is [${shape.join(', ')}] in ${file}, ${expected} is needed`;
  }
  if (!Object.hasOwn(storedDtype, dtype))
    return `${tensor} is ${dtype} in ${file}, supported: BF16, F16, F32`;
  return undefined;
}

/** Tensors that no slot takes: part of the model would not run. Some are known to change nothing. */
function findExtra(manifest: Manifest, tensors: Tensors): string[] {
  const taken = new Set(manifest.slots.map((slot) => slot.tensor));
  const extra = [...tensors.keys()].filter((name) => {
    const isHarmless =
      name.endsWith('rotary_emb.inv_freq') || (manifest.dims.tiedHead && name === 'lm_head.weight');
    return !taken.has(name) && !isHarmless;
  });
  return extra.length === 0 ? [] : [`not used from the checkpoint: ${list(extra)}`];
}

/** Matrices that lose digits or range on the way into their slot. */
function findConverted(manifest: Manifest, tensors: Tensors): string[] {
  const converted = manifest.slots.filter(({ tensor, dtype }) => {
    const stored = storedDtype[tensors.get(tensor)!.dtype]!.name;
    return stored !== dtype && dtype !== 'fp32';
  });
  if (converted.length === 0) return [];
  return [
    `rounded to ${converted[0]!.dtype}, as the library was made for it: ${list(converted.map((slot) => slot.tensor))}`,
  ];
}

/** Random weights for every slot, of a size that keeps the activations of a deep model finite.
 *  @param seed whole number from 0 to 2^32 - 1; the same seed gives the same weights. */
export function randomPlan(manifest: Manifest, seed: number): TensorSource[] {
  return manifest.slots.map((slot, index) => {
    const [mean, scale] = distributionOf(slot);
    // Below 2^53, and another seed for every (seed, slot).
    return {
      path: null,
      offset: 0,
      slot: index,
      dtype: sourceDtype.random,
      seed: seed * 2 ** 20 + index,
      mean,
      scale,
    };
  });
}

/** Mean and standard deviation of the random weights of a slot. */
function distributionOf({ tensor, shape: [, columns] }: Slot): [mean: number, scale: number] {
  if (tensor.endsWith('norm.weight')) return [1, 0.2];
  if (tensor.endsWith('.bias')) return [0, 0.3];
  if (tensor.endsWith('embed_tokens.weight') || tensor === 'lm_head.weight') return [0, 0.1];
  return [0, 1.3 / Math.sqrt(columns)];
}

function list(names: readonly string[]): string {
  const shown = names.slice(0, 3).join(', ');
  return names.length > 3 ? `${shown} and ${names.length - 3} more` : shown;
}

function refusal(manifest: Manifest, [first, ...others]: string[]): OnelaunchError {
  const advice = `The library ${manifest.name} was made for ${manifest.model}: run it with those weights, or make one for these.`;
  const shown = others.slice(0, 4).map((text) => `also: ${text}`);
  if (others.length > 4) shown.push(`also: ${others.length - 4} more`);
  return new OnelaunchError('usage', first!, { hint: [advice, ...shown].join('\n') });
}
