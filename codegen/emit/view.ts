// The view of what every kernel prints, whatever its scheme: header, constants of the model, packed weights.

import { sourceDtype } from '../../abi/abi.ts';
import type { LayerKind, ModelDims } from '../model/dims.ts';
import { blockFormats, cacheFormats, type Format, formatType, isBlocks } from '../model/formats.ts';
import { kindOf, kindsText } from '../model/kinds.ts';
import type { Field } from '../model/packing.ts';
import { attentionScale, inverseFrequencies, largerBy, rotatedOf, rotatedSize } from '../model/rope.ts';
import { formatOf, formatsText } from '../model/weights.ts';
import { megabytes } from '../schedule/bytes-text.ts';
import { type Cost, syncText } from '../schedule/cost.ts';
import type { CommonSchedule } from '../schedule/schedule.ts';
import { platformOf } from '../schedule/target.ts';
import { type ConstantView, cFloat, constantOf } from './c-text.ts';

interface FieldView {
  readonly name: string;
  readonly type: string;
  readonly shape: string;
  readonly offset: string;
}

/** What most layers return, and those that return something else: layer % period == at. */
interface ByLayer {
  readonly usual: string;
  readonly others: readonly { period: number; at: number; value: string }[];
}

/** Where a kernel comes from, in its header. */
export interface Origin {
  /** The command that prints it again. */
  readonly command: string;
  /** Pointwise ops, printed from their TypeScript source. */
  readonly ops: readonly string[];
}

export interface CommonView {
  readonly command: string;
  readonly model: string;
  readonly modelLine: string;
  readonly planLine: string;
  readonly targetLine: string;
  readonly table: readonly string[];
  readonly typesHeader: string;
  readonly function: string;
  readonly hostFunction: string;
  readonly weightType: string;
  readonly cacheType: string;
  /** Of a position: how many of that type, and their shape. */
  readonly cachePosition: string;
  readonly cacheShape: string;
  readonly constants: readonly ConstantView[];
  /** Functions of a layer that its kind decides. */
  readonly windows: ByLayer;
  readonly rotations: ByLayer;
  readonly layerFields: readonly FieldView[];
  readonly modelFields: readonly FieldView[];
  readonly ops: readonly string[];
}

export interface SlotsView {
  readonly command: string;
  readonly hash: string;
  readonly slots: readonly {
    rows: number;
    cols: number;
    offset: number;
    stride: number;
    dtype: number;
    /** Rows of a head and those that are rotated, where the slot has them in another order than the checkpoint. */
    heads: readonly number[];
    tensor: string;
  }[];
  readonly invFreq: readonly string[];
  readonly rotatedPairs: number;
  readonly rotatedSize: string;
}

/** @param facts what the scheme says of itself in the header, behind the name of the plan; `cost` what stands in the table of stages */
export function commonView(
  schedule: CommonSchedule,
  origin: Origin,
  facts: readonly string[],
  cost: Cost,
): CommonView {
  const { dims, target, plan } = schedule;
  const platform = platformOf(target);
  const kinds = kindsText(dims);
  return {
    command: origin.command,
    model: dims.name,
    modelLine:
      `${dims.layers} layers, hidden ${dims.hidden}, ffn ${dims.ffn}, ${dims.qHeads} q heads over ${dims.kvHeads} kv heads ` +
      `of ${dims.headDim}, vocab ${dims.vocab}, ${formatsText(dims)}${kinds && `; ${kinds}`}`,
    planLine: `${plan.name}: ${[...facts, `up to ${schedule.passTokens} tokens a pass`].join(', ')}`,
    targetLine:
      target.sms > 0
        ? `${target.name}: ${target.arch}, ${target.sms} SMs`
        : `${target.name}: one block a thread`,
    table: stageTable(schedule, cost),
    typesHeader: platform.typesHeader,
    function: platform.inlineFunction,
    hostFunction: platform.hostFunction,
    weightType: formatType(formatOf(dims, 'qkv')),
    ...cacheView(dims),
    constants: constants(schedule),
    windows: byLayer(dims, ({ window }) => String(window ?? 0)),
    rotations: byLayer(dims, ({ rope }) => String(rope)),
    layerFields: schedule.packing.layer.map((field) => fieldView(field, dims)),
    modelFields: schedule.packing.model.map((field) => fieldView(field, dims)),
    ops: origin.ops,
  };
}

/** The view of slots.h: the packed layout, tensor by tensor. */
export function slotsView(schedule: CommonSchedule, command: string, hash: string): SlotsView {
  const { dims } = schedule;
  return {
    command,
    hash,
    slots: schedule.slots.map((slot) => ({
      rows: slot.shape[0],
      cols: slot.shape[1],
      offset: slot.offset,
      stride: slot.stride,
      dtype: slotCode(slot.dtype),
      heads: dims.rotated !== undefined && isRotated(slot.tensor) ? [dims.headDim, dims.rotated] : [],
      tensor: slot.tensor,
    })),
    invFreq: inverseFrequencies(dims).map(cFloat),
    rotatedPairs: rotatedOf(dims) / 2,
    rotatedSize: cFloat(rotatedSize(dims)),
  };
}

const isRotated = (tensor: string): boolean => /\.self_attn\.[qk]_proj\.weight$/.test(tensor);

/** A row with a scale is one value of its type. */
const cacheView = ({ cache, dtype }: ModelDims) =>
  cache === undefined
    ? { cacheType: formatType(dtype), cachePosition: '2 * kHeadDim', cacheShape: '[2][kHeadDim]' }
    : {
        cacheType: `scaled_row<${cacheFormats[cache].type}, kHeadDim>`,
        cachePosition: '2',
        cacheShape: '[2]',
      };

function byLayer(dims: ModelDims, attribute: (kind: LayerKind) => string): ByLayer {
  const values = dims.pattern.map((_, layer) => attribute(kindOf(dims, layer)));
  const count = (value: string) => values.filter((other) => other === value).length;
  const usual = values.reduce((best, value) => (count(value) > count(best) ? value : best));
  const others = values.flatMap((value, at) =>
    value === usual ? [] : [{ period: values.length, at, value }],
  );
  return { usual, others };
}

/** Stages of the plan as `explain` has them, without what only orders the inside of one; weights as the model has them, without padding. */
function stageTable({ stages }: CommonSchedule, cost: Cost): string[] {
  const rows = stages.map(({ name, weightBytes }) => {
    const { ops, over, syncs, notes } = cost.stages.find((one) => one.name === name)!;
    const whole = notes.flatMap(({ where, text }) => (where === '' ? [text] : []));
    const weights = weightBytes ? `${megabytes(weightBytes)} MB` : '';
    return [name, ops.join(' '), over, weights, [...syncs.map(syncText), ...whole].join('; ')];
  });
  const widths = [0, 1, 2, 3].map((c) => Math.max(...rows.map((row) => row[c]!.length)));
  return rows.map((row) =>
    row
      .map((cell, c) => (c === 3 ? cell.padStart(widths[c]!) : c < 4 ? cell.padEnd(widths[c]!) : cell))
      .join('  ')
      .trimEnd(),
  );
}

function constants({ dims, packing, passTokens, splits }: CommonSchedule): ConstantView[] {
  const [int, long] = [constantOf('int'), constantOf('int64_t')];
  const float = (name: string, value: number, doc?: string) => constantOf('float')(name, cFloat(value), doc);
  return [
    int('kLayers', dims.layers),
    int('kHidden', dims.hidden, 'width of the residual stream'),
    int('kFfn', dims.ffn, 'width of the feed-forward part'),
    int('kQHeads', dims.qHeads),
    int('kKvHeads', dims.kvHeads),
    int('kHeadDim', dims.headDim),
    int('kVocab', dims.vocab, 'rows of the LM head'),
    int('kGroup', 'kQHeads / kKvHeads', 'q heads that share a kv head'),
    int('kQDim', 'kQHeads * kHeadDim'),
    int('kKvDim', 'kKvHeads * kHeadDim'),
    int('kQkvRows', 'kQDim + 2 * kKvDim'),
    int('kPassTokens', passTokens, 'most tokens of a pass'),
    int('kSplits', splits, 'most blocks that share a head: splits of the positions'),
    float('kNormEps', dims.normEps),
    float('kAttnScale', attentionScale(dims), attentionScaleText(dims)),
    ...(dims.factors
      ? [float('kBranchFactor', dims.factors.branch, 'of what is added to the residual stream')]
      : []),
    float('kLogitFactor', dims.factors?.logits ?? 1, 'of what the head makes'),
    long('kLayerBytes', packing.layerBytes, 'packed weights of a layer'),
    long('kWeightBytes', packing.bytes, 'packed weights in all'),
  ];
}

/** How kAttnScale comes about. */
function attentionScaleText({ ropeScaling, rotated, factors }: ModelDims): string {
  const usual = '1 / sqrt(kHeadDim)';
  const larger = largerBy(ropeScaling);
  if ((larger !== 1 && rotated === undefined) || ropeScaling?.type === 'yarn')
    return `${larger}^2 / sqrt(kHeadDim): in the place of larger cosines and sines`;
  return factors ? `in the place of ${usual}` : usual;
}

/** The loader's code of a format. */
const slotCode = (format: Format): number =>
  sourceDtype[isBlocks(format) ? blockFormats[format].stored : format];

/** `Matrix` is what query, key and value have. */
export const matrixType = (dims: ModelDims, field: Field['name']): string =>
  formatOf(dims, field) === formatOf(dims, 'qkv') ? 'Matrix' : formatType(formatOf(dims, field));

function fieldView(field: Field, dims: ModelDims): FieldView {
  const { isVector } = field;
  return {
    name: field.name,
    type: !isVector ? matrixType(dims, field.name) : field.dtype === 'fp32' ? 'float' : 'Vector',
    shape: isVector ? `[${field.columns}]` : `[${field.rows}][padded(${field.columns})]`,
    offset: String(field.offset),
  };
}
