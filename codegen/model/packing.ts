// Where every tensor of the checkpoint lies in the packed weights: one allocation, layers alike, rows padded so that all loads are aligned.
import type { ModelDims } from './dims.ts';
import { type Format, formatBytes } from './formats.ts';
import type { FieldName } from './ops.ts';
import { formatOf } from './weights.ts';

/** Elements of a packed row: K rounded up, so that any row starts at a 64-byte boundary and a vector loop has no tail. */
export const padded = (k: number): number => Math.ceil(k / 32) * 32;

const alignment = 256;
const align = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

/** One packed array of a layer, or of the model. */
export interface Field {
  readonly name: FieldName;
  /** Norms and biases: numbers without padding. A matrix of one row is none. */
  readonly isVector: boolean;
  readonly rows: number;
  readonly columns: number;
  readonly dtype: Format;
  /** Bytes from the start of its layer, or of the packed weights for fields of the model. */
  readonly offset: number;
  readonly bytes: number;
  /** Checkpoint tensors, each with the row of this field that its row 0 becomes and the distance of its rows. */
  readonly parts: readonly {
    readonly tensor: string;
    readonly rows: number;
    readonly firstRow: number;
    readonly rowStep: number;
  }[];
}

export interface Slot {
  readonly tensor: string;
  readonly shape: readonly [number, number];
  readonly offset: number;
  readonly stride: number;
  readonly dtype: Format;
}

/** Matrices that are loaded row by row and then repacked into the stream. Offsets are from the first of them, or of a layer. */
interface Staging {
  readonly layer: readonly Field[];
  readonly layerBytes: number;
  readonly model: readonly Field[];
}

export interface Packing {
  /** Fields of a layer; `{layer}` in tensor names. */
  readonly layer: readonly Field[];
  readonly layerBytes: number;
  readonly model: readonly Field[];
  /** Bytes that stay as they are; staged matrices lie behind them until they are repacked. */
  readonly keptBytes: number;
  readonly staging: Staging | null;
  readonly bytes: number;
}

/** The layout of the packed weights for a model; `streamed`: the matrices go into a stream, and norms have their type. */
export function packWeights(dims: ModelDims, streamed = false): Packing {
  const { hidden, ffn, headDim, dtype } = dims;
  const qDim = dims.qHeads * headDim;
  const kvDim = dims.kvHeads * headDim;
  const attn = 'model.layers.{layer}.self_attn';
  const vector = (name: FieldName, columns: number, tensor: string) =>
    ({
      name,
      isVector: true,
      rows: 1,
      columns,
      dtype: streamed ? dtype : 'fp32',
      parts: [{ tensor, rows: 1, firstRow: 0, rowStep: 1 }],
    }) as const;
  const matrix = (name: FieldName, columns: number, parts: Field['parts']) =>
    ({
      name,
      isVector: false,
      rows: parts.reduce((sum, part) => sum + part.rows, 0),
      columns,
      dtype: formatOf(dims, name),
      parts,
    }) as const;
  const stacked = (list: readonly (readonly [string, number])[]) => {
    let firstRow = 0;
    return list.map(([tensor, rows]) => {
      const part = { tensor, rows, firstRow, rowStep: 1 };
      firstRow += rows;
      return part;
    });
  };
  const interleaved = (tensors: readonly string[], rows: number) =>
    tensors.map((tensor, i) => ({ tensor, rows, firstRow: i, rowStep: tensors.length }));

  const qkv = (suffix: string) =>
    stacked([
      [`${attn}.q_proj.${suffix}`, qDim],
      [`${attn}.k_proj.${suffix}`, kvDim],
      [`${attn}.v_proj.${suffix}`, kvDim],
    ]);
  const mlp = 'model.layers.{layer}.mlp';
  const all = [
    vector('attn_norm', hidden, 'model.layers.{layer}.input_layernorm.weight'),
    matrix('qkv', hidden, qkv('weight')),
    ...(dims.qkvBias ? [biasField(qkv('bias'))] : []),
    ...(dims.qkNorm
      ? [
          vector('q_norm', headDim, `${attn}.q_norm.weight`),
          vector('k_norm', headDim, `${attn}.k_norm.weight`),
        ]
      : []),
    matrix('o', qDim, stacked([[`${attn}.o_proj.weight`, hidden]])),
    vector('ffn_norm', hidden, 'model.layers.{layer}.post_attention_layernorm.weight'),
    matrix('gate_up', hidden, interleaved([`${mlp}.gate_proj.weight`, `${mlp}.up_proj.weight`], ffn)),
    matrix('down', ffn, stacked([[`${mlp}.down_proj.weight`, hidden]])),
  ];
  const outside = [
    vector('final_norm', hidden, 'model.norm.weight'),
    matrix('embedding', hidden, stacked([['model.embed_tokens.weight', dims.vocab]])),
    ...(dims.tiedHead ? [] : [matrix('head', hidden, stacked([['lm_head.weight', dims.vocab]]))]),
  ];
  const isStaged = ({ name, isVector }: Pick<Field, 'name' | 'isVector'>) =>
    streamed && !isVector && name !== 'embedding';
  const kept = (field: Pick<Field, 'name' | 'isVector'>) => !isStaged(field);
  const layer = place(all.filter(kept));
  const model = place(outside.filter(kept), layer.bytes * dims.layers);
  const rest = { layer: layer.fields, layerBytes: layer.bytes, model: model.fields, keptBytes: model.end };
  if (!streamed) return { ...rest, staging: null, bytes: model.end };
  const stagedLayer = place(all.filter(isStaged));
  const stagedModel = place(outside.filter(isStaged), stagedLayer.bytes * dims.layers);
  const staging = { layer: stagedLayer.fields, layerBytes: stagedLayer.bytes, model: stagedModel.fields };
  return { ...rest, staging, bytes: model.end + stagedModel.end };
}

/** A bias: one float a row of the matrix, each part [1, rows] in the checkpoint. */
function biasField(parts: Field['parts']): Omit<Field, 'offset' | 'bytes'> {
  const columns = parts.reduce((sum, part) => sum + part.rows, 0);
  return { name: 'qkv_bias', isVector: true, rows: 1, columns, dtype: 'fp32', parts };
}

function place(fields: readonly Omit<Field, 'offset' | 'bytes'>[], start = 0) {
  let at = start;
  const placed = fields.map((field): Field => {
    const elements = field.isVector ? field.columns : field.rows * padded(field.columns);
    const bytes = align(formatBytes(field.dtype, elements));
    const offset = at;
    at += bytes;
    return { ...field, offset, bytes };
  });
  return { fields: placed, bytes: at - start, end: at };
}

/** One slot for every tensor of the checkpoint, layers in order. */
export function slotsOf(dims: ModelDims, packing: Packing): Slot[] {
  const { keptBytes, staging } = packing;
  const slots = (fields: readonly Field[], base: number, layer: number) =>
    fields.flatMap((field) => field.parts.map((part) => slotOf(field, part, base, layer)));
  const layers = (fields: readonly Field[], base: number, bytes: number) =>
    Array.from({ length: dims.layers }, (_, layer) => slots(fields, base + layer * bytes, layer)).flat();
  return [
    ...layers(packing.layer, 0, packing.layerBytes),
    ...slots(packing.model, 0, 0),
    ...(staging ? layers(staging.layer, keptBytes, staging.layerBytes) : []),
    ...(staging ? slots(staging.model, keptBytes, 0) : []),
  ];
}

function slotOf(field: Field, part: Field['parts'][number], base: number, layer: number): Slot {
  const tensor = part.tensor.replace('{layer}', String(layer));
  if (field.isVector) {
    const columns = field.parts.length === 1 ? field.columns : part.rows;
    const first = field.parts.length === 1 ? 0 : part.firstRow;
    return {
      tensor,
      shape: [1, columns],
      offset: base + field.offset + formatBytes(field.dtype, first),
      stride: columns,
      dtype: field.dtype,
    };
  }
  const row = padded(field.columns);
  return {
    tensor,
    shape: [part.rows, field.columns],
    offset: base + field.offset + formatBytes(field.dtype, part.firstRow * row),
    stride: part.rowStep * row,
    dtype: field.dtype,
  };
}

/** Bytes that one decode pass reads of the weights, without padding: every one once, the embedding only as the head. */
export function weightBytesOf(dims: ModelDims): number {
  const qDim = dims.qHeads * dims.headDim;
  const kvDim = dims.kvHeads * dims.headDim;
  const ofLayer = [
    ['qkv', qDim + 2 * kvDim],
    ['o', qDim],
    ['gate_up', 2 * dims.ffn],
    ['down', dims.ffn],
  ] as const;
  return ofLayer.reduce(
    (sum, [field, each]) => sum + formatBytes(formatOf(dims, field), dims.layers * dims.hidden * each),
    formatBytes(formatOf(dims, 'head'), dims.vocab * dims.hidden),
  );
}
