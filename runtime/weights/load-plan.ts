// Which bytes fill which weight slot: the list that the library's loader works through.
import type { Manifest, Slot } from '../../abi/manifest.ts';
import { OnelaunchError } from '../../errors.ts';
import type { Packed } from '../../quantised/tensors.ts';
import { notPacked } from '../engine/arguments.ts';
import { type Packing, sourceDtype, type TensorSource } from '../engine/bindings.ts';
import { listed, saveAsBf16, type TensorEntry, type Tensors } from './safetensors.ts';
import { lostByScales } from './scales.ts';

export interface LoadPlan {
  /** One for each slot of the manifest, in its order. */
  readonly sources: readonly TensorSource[];
  /** What the user should know, one line each. */
  readonly warnings: readonly string[];
}

/** By its name in a file: the loader's code, and the dtype of a slot that holds it as it is; null for blocks of GGUF files that none holds. */
const storedDtype: Readonly<Record<string, { code: number; name: Slot['dtype'] | null }>> = {
  BF16: { code: sourceDtype.bf16, name: 'bf16' },
  F16: { code: sourceDtype.fp16, name: 'fp16' },
  F32: { code: sourceDtype.fp32, name: 'fp32' },
  Q8_0: { code: sourceDtype.q8_0, name: 'int8' },
  Q4_0: { code: sourceDtype.q4_0, name: 'int4' },
  Q4_1: { code: sourceDtype.q4_1, name: 'int4-asym' },
  Q5_0: { code: sourceDtype.q5_0, name: null },
  Q5_1: { code: sourceDtype.q5_1, name: null },
  Q4_K: { code: sourceDtype.q4_k, name: null },
  Q5_K: { code: sourceDtype.q5_k, name: null },
  Q6_K: { code: sourceDtype.q6_k, name: null },
};
/** Of codes the name depends on their groups, too. */
const packedCode: Readonly<Record<string, number>> = {
  ...{ fp8: sourceDtype.f8, int8: sourceDtype.i8, 'packed int4': sourceDtype.packed4 },
  ...{ 'packed int8': sourceDtype.packed8, 'GPTQ int4': sourceDtype.gptq4, 'GPTQ int8': sourceDtype.gptq8 },
  'AWQ int4': sourceDtype.awq4,
};
function storedAs({ dtype, packed }: TensorEntry): { code: number; name: Slot['dtype'] | null } | undefined {
  if (packed) return { code: packedCode[dtype]!, name: packed.levels };
  return Object.hasOwn(storedDtype, dtype) ? storedDtype[dtype] : undefined;
}
const nameIn = (tensors: Tensors, tensor: string) => storedAs(tensors.get(tensor)!)!.name;

/** Types whose codes int4-asym has, besides its own. */
const fourBits: readonly string[] = ['Q4_0', 'Q4_K'];

/** Whether a slot of this format has the codes of a tensor, or its numbers. */
const keeps = (format: Slot['dtype'], entry: TensorEntry) =>
  storedAs(entry)!.name === format ||
  (format === 'int4-asym' && (fourBits.includes(entry.dtype) || entry.packed?.levels === 'int4'));

/** Scales and zero points as the loader takes them. */
function packingOf(packed: Packed | undefined): Packing {
  if (packed === undefined) return notPacked;
  const { scales, zeros, zerosAdded, group, fileRows } = packed;
  return {
    ...{ scales: scales.file, scales_offset: scales.offset, scales_dtype: storedDtype[scales.dtype]!.code },
    ...{ group_rows: group.rows, group_columns: group.columns },
    ...{ zeros: zeros?.file ?? null, zeros_offset: zeros?.offset ?? 0, zeros_added: zerosAdded },
    file_rows: fileRows,
  };
}

const isPlain = (name: string | null) => name === 'bf16' || name === 'fp16' || name === 'fp32';
const plainDtypes = Object.keys(storedDtype).filter((dtype) => isPlain(storedDtype[dtype]!.name));

/** Something about the weights that does not fit, and what to do. */
export interface TensorProblem {
  readonly text: string;
  readonly hint: string;
}

/** Sources for every slot of a library, out of the tensors of a checkpoint.
 *  @throws OnelaunchError of kind usage when a tensor is missing, or has another shape or dtype than the library was made for. */
export function loadPlan(manifest: Manifest, tensors: Tensors): LoadPlan {
  const problems = findTensorProblems(manifest.slots, tensors);
  if (problems.length > 0)
    throw refusal(
      manifest,
      problems.map(({ text }) => text),
    );
  const sources = manifest.slots.map((slot, index) => {
    const entry = tensors.get(slot.tensor)!;
    const { file: path, offset, headRows: head_rows = 0 } = entry;
    const { code } = storedAs(entry)!;
    const packing = packingOf(entry.packed);
    return { path, offset, slot: index, dtype: code, head_rows, seed: 0, mean: 0, scale: 0, packing };
  });
  const warnings = [
    ...findExtra(manifest, tensors),
    ...findConverted(manifest, tensors),
    ...findExpanded(manifest, tensors),
    ...findQuantised(manifest, tensors),
    ...findScales(manifest, tensors),
  ];
  return { sources, warnings };
}

/** All that keeps the tensors of a checkpoint from filling these slots. */
export function findTensorProblems(
  slots: readonly { readonly tensor: string; readonly shape: readonly [number, number] }[],
  tensors: Tensors,
): TensorProblem[] {
  const problems: TensorProblem[] = [];
  const missing = slots.filter((slot) => !tensors.has(slot.tensor)).map((slot) => slot.tensor);
  if (missing.length > 0) {
    problems.push({
      text: `${placeOf(tensors)} lacks ${listed(missing)}`,
      hint: missingHint(missing, tensors),
    });
  }
  const mismatches: TensorProblem[] = [];
  const unread = new Map<string, string[]>();
  for (const { tensor, shape } of slots) {
    const entry = tensors.get(tensor);
    if (entry === undefined) continue;
    const problem = findMismatch(tensor, shape, entry);
    if (problem !== undefined) mismatches.push(problem);
    else if (storedAs(entry) === undefined) {
      const key = `${entry.dtype} in ${entry.file}, supported: ${plainDtypes.join(', ')}`;
      unread.set(key, [...(unread.get(key) ?? []), tensor]);
    }
  }
  for (const hint of new Set(mismatches.map((one) => one.hint))) {
    const [first, ...others] = mismatches.filter((one) => one.hint === hint);
    const more = others.length > 0 ? `, and ${others.length} more have other shapes than they should` : '';
    problems.push({ text: `${first!.text}${more}`, hint });
  }
  for (const [what, names] of unread) {
    problems.push({
      text: `${listed(names)} ${names.length === 1 ? 'is' : 'are'} ${what}`,
      hint: saveAsBf16,
    });
  }
  return problems;
}

/** The file of a checkpoint, or how many it has. */
function placeOf(tensors: Tensors): string {
  const files = [...new Set([...tensors.values()].map(({ file }) => file))];
  if (files.length === 0) return 'the checkpoint';
  return files.length === 1 ? files[0]! : `${files[0]} with ${files.length - 1} more`;
}

function missingHint(missing: readonly string[], tensors: Tensors): string {
  const has = (pattern: RegExp) => [...tensors.keys()].some((name) => pattern.test(name));
  if (has(/\.lora_[AB]\./)) {
    return 'The file holds a LoRA adapter: merge it into its model, in Python by merge_and_unload() of peft, and save that.';
  }
  const wrapped = [...tensors.keys()].find((name) => missing.some((tensor) => name.endsWith(`.${tensor}`)));
  if (wrapped !== undefined) {
    return `The file has ${wrapped}: it was saved with what was around the model, such as torch.compile or a trainer. In Python, save the model inside of it.`;
  }
  if (has(/\.(qweight|weight_packed|weight_scale|absmax)\b/)) {
    return 'The weights are quantized, and config.json has no quantization_config that says how: copy it again, or use the unquantized checkpoint.';
  }
  if (missing.includes('lm_head.weight')) {
    return 'If head and embedding of this model are one matrix, set "tie_word_embeddings": true in config.json; else copy the file that holds lm_head.weight.';
  }
  return 'Copy all files of the model again, config.json too: the tensors follow from it.';
}

function findMismatch(
  tensor: string,
  [rows, columns]: readonly [number, number],
  { shape, file }: TensorEntry,
): TensorProblem | undefined {
  const isVector = rows === 1 && shape.length === 1;
  if ((isVector ? `1,${shape[0]}` : shape.join()) === `${rows},${columns}`) return undefined;
  const expected = rows === 1 ? `[${columns}]` : `[${rows}, ${columns}]`;
  const isVocabulary = /embed_tokens\.weight$|^lm_head\.weight$/.test(tensor) && shape[1] === columns;
  return {
    text: `${tensor} is [${shape.join(', ')}] in ${file}, ${expected} is needed`,
    hint: isVocabulary
      ? `config.json says vocab_size ${rows}: set it to ${shape[0]} if these are the right weights.`
      : 'config.json is of another model than the weights: copy both from one repository.',
  };
}

/** Tensors that no slot takes: part of the model would not run. Some are known to change nothing. */
function findExtra(manifest: Manifest, tensors: Tensors): string[] {
  const taken = new Set(manifest.slots.map((slot) => slot.tensor));
  const extra = [...tensors.keys()].filter((name) => {
    const isHarmless =
      name.endsWith('rotary_emb.inv_freq') || (manifest.dims.tiedHead && name === 'lm_head.weight');
    return !taken.has(name) && !isHarmless;
  });
  return extra.length === 0 ? [] : [`not used from the checkpoint: ${listed(extra)}`];
}

/** Matrices that lose digits or range on the way into their slot. */
function findConverted(manifest: Manifest, tensors: Tensors): string[] {
  const converted = manifest.slots.filter(({ tensor, dtype }) => {
    const stored = nameIn(tensors, tensor);
    return isPlain(stored) && isPlain(dtype) && stored !== dtype && dtype !== 'fp32';
  });
  if (converted.length === 0) return [];
  return [
    `rounded to ${converted[0]!.dtype}, as the library was made for it: ${listed(converted.map((slot) => slot.tensor))}`,
  ];
}

/** Half the distance of neighbours next to a power of two, as a part of it; of blocks, as a part of the block's largest number, which fp8 puts
 *  from 240 on: those from 256 on are 32 apart, and the least of those places is 288. Of int4 it is the root mean square of a block: it loses no more than with its largest number at -7.25, where none is off by more than half a step. */
const mostRounding: Readonly<Record<Slot['dtype'], number>> = {
  ...{ bf16: 2 ** -8, fp16: 2 ** -11, fp32: 2 ** -24 },
  ...{ int8: 1 / 254, int4: 1 / 14.5, 'int4-asym': 1 / 15, fp8: 16 / 288 },
};
const percent = (part: number) => Number((100 * part).toPrecision(2));
const percentOf = (dtype: Slot['dtype']) => percent(mostRounding[dtype]);

/** Counts of matrices by their type in the file: 28 of Q4_K. */
function typesOf(slots: readonly Slot[], tensors: Tensors): string {
  const counts = new Map<string, number>();
  for (const { tensor } of slots) {
    const { dtype } = tensors.get(tensor)!;
    counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  }
  return [...counts].map(([type, count]) => `${count} of ${type}`).join(', ');
}

/** Matrices that are blocks in the file, and plain numbers in their slots. */
function findExpanded({ slots }: Manifest, tensors: Tensors): string[] {
  const expanded = slots.filter(({ tensor, dtype }) => isPlain(dtype) && !isPlain(nameIn(tensors, tensor)));
  if (expanded.length === 0) return [];
  const to = expanded[0]!.dtype;
  return [
    `quantised in the file, ${to} here: ${typesOf(expanded, tensors)}; each number is rounded by at most ${percentOf(to)} % of itself`,
  ];
}

/** Matrices that are rounded to blocks, a line for each format. */
function findQuantised({ slots }: Manifest, tensors: Tensors): string[] {
  const quantised = slots.filter(
    ({ tensor, dtype }) => !isPlain(dtype) && !keeps(dtype, tensors.get(tensor)!),
  );
  return [...new Set(quantised.map(({ dtype }) => dtype))].map((to) => {
    const types = typesOf(
      quantised.filter(({ dtype }) => dtype === to),
      tensors,
    );
    const what = to === 'int4' ? 'root mean square, 32 numbers are' : 'each number is';
    return `quantised to ${to} here: ${types}; ${what} rounded by at most ${percentOf(to)} % of the largest of ${to === 'int4' ? 'them' : 'its 32'}`;
  });
}

/** Codes that are kept, with scales and minima in fp16 that are other numbers in the file, a line for each format. */
function findScales({ slots, dims }: Manifest, tensors: Tensors): string[] {
  const kept = slots.filter(({ tensor, dtype }) => {
    const entry = tensors.get(tensor)!;
    if (isPlain(dtype) || !keeps(dtype, entry)) return false;
    return entry.packed
      ? dtype === 'int4-asym' || entry.packed.scales.dtype !== 'F16'
      : entry.dtype === 'Q4_K';
  });
  return [...new Set(kept.map(({ dtype }) => dtype))].map((format) => {
    const of = kept.filter(({ dtype }) => dtype === format);
    const what = format === 'int4-asym' ? 'scales and minima' : 'scales';
    const lost = Math.max(...of.map(({ tensor }) => lostBy(tensors.get(tensor)!, format)));
    return `codes kept as ${format}, ${what} rounded to fp16: ${typesOf(of, tensors)}${lostText(lost, dims.dtype)}`;
  });
}

/** What scales of other formats than fp16 lose by their size. */
const lostBy = ({ packed }: TensorEntry, format: Slot['dtype']) =>
  packed && packed.scales.dtype !== 'F16' ? lostByScales(packed.scales, format === 'fp8' ? 256 : 1) : 0;

/** What to do where numbers would lose less. */
function lostText(lost: number, dtype: Slot['dtype']): string {
  if (lost <= mostRounding[dtype]) return '';
  const what = Number.isFinite(lost)
    ? `small scales lose up to ${percent(lost)} % of themselves`
    : 'some scales are too large for it';
  return `; ${what}, and numbers of ${dtype} (--weights plain) lose at most ${percentOf(dtype)} %`;
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
      head_rows: 0,
      seed: seed * 2 ** 20 + index,
      mean,
      scale,
      packing: notPacked,
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

function refusal(manifest: Manifest, [first, ...others]: string[]): OnelaunchError {
  const advice = `The library ${manifest.name} was made for ${manifest.model}: run it with those weights, or make one for these.`;
  const shown = others.slice(0, 4).map((text) => `also: ${text}`);
  if (others.length > 4) shown.push(`also: ${others.length - 4} more`);
  return new OnelaunchError('usage', first!, { hint: [advice, ...shown].join('\n') });
}
