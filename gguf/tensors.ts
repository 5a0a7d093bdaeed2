// The tensors of a GGUF file under the names that checkpoints have, and whether they are those that its sizes ask for.
import { gather, type OnelaunchError } from '../errors.ts';
import type { GgufFile, GgufTensor } from './header.ts';
import { broken, shown } from './refusals.ts';
import { longRopeFactors } from './scaled-positions.ts';
import { type GgufShape, readShape } from './shape.ts';

/** A tensor as the loader takes it. */
export interface CheckpointTensor {
  readonly file: string;
  /** F32, BF16, Q4_K, ... */
  readonly dtype: string;
  /** Rows first; [n] for a vector. */
  readonly shape: readonly number[];
  readonly offset: number;
  readonly bytes: number;
  /** Rows of a head in which the two of a rotary pair lie next to each other; 0: rows lie as in a checkpoint. */
  readonly headRows: number;
}

interface Expected {
  /** In the file. */
  readonly name: string;
  /** In a checkpoint. */
  readonly tensor: string;
  readonly shape: readonly number[];
  readonly headRows: number;
}

/** Frequencies of rotary pairs, which are settings (see rope-scaling.ts). */
export const ropeFactors = 'rope_freqs.weight';

/** The model's tensors. @throws OnelaunchError of kind usage: one that is missing, of another shape, or of another model */
export function checkpointTensorsOf(
  file: GgufFile,
  shape: GgufShape = readShape(file),
): Map<string, CheckpointTensor> {
  const { path, tensors } = file;
  const expected = expectedTensors(shape, tensors.has('output.weight'));
  const missing = expected.filter(({ name }) => !tensors.has(name)).map(({ name }) => name);
  const known = new Set(expected.map(({ name }) => name));
  const others = [...tensors.keys()].filter((name) => !known.has(name) && !isSetting(name));
  const problems: OnelaunchError[] = [];
  if (missing.length > 0) problems.push(broken(path, `lacks ${listed(missing)}`));
  if (others.length > 0) {
    const text = `holds ${listed(others)}, which a dense ${shape.architecture} model does not have`;
    problems.push(
      broken(
        path,
        text,
        'It is of another model, or made by another program: use the safetensors files of the model.',
      ),
    );
  }
  const found = expected.flatMap((one) => {
    const tensor = tensors.get(one.name);
    return tensor === undefined ? [] : [{ ...one, stored: tensor }];
  });
  const wrong = found.filter(({ shape, stored }) => [...stored.shape].reverse().join() !== shape.join());
  if (wrong.length > 0) {
    const [{ name, shape, stored }] = wrong as [(typeof wrong)[0]];
    const more = wrong.length > 1 ? `, and ${wrong.length - 1} more have other shapes than they should` : '';
    problems.push(
      broken(
        path,
        `has ${name} as [${stored.shape.join(', ')}], [${[...shape].reverse().join(', ')}] is needed${more}`,
      ),
    );
  }
  if (problems.length > 0) throw gather(problems);
  return new Map(found.map((one) => [one.tensor, entryOf(path, one, one.stored)]));
}

function entryOf(
  path: string,
  { shape, headRows }: Expected,
  { type, offset, bytes }: GgufTensor,
): CheckpointTensor {
  return { file: path, dtype: type.name, shape, offset, bytes, headRows };
}

const isSetting = (name: string) => name === ropeFactors || Object.values(longRopeFactors).includes(name);

const listed = (names: readonly string[]) => {
  const first = names.slice(0, 3).map((name) => shown(name).slice(1, -1));
  return names.length > 3 ? `${first.join(', ')} and ${names.length - 3} more` : first.join(', ');
};

/** Source: the tensor names of llama.cpp (gguf-py, constants.py and tensor_mapping.py), and LlamaModel.permute of its converter. */
function expectedTensors(shape: GgufShape, hasHead: boolean): Expected[] {
  const { architecture, layers, hidden, ffn, headDim, vocab } = shape;
  const [q, kv] = [shape.qHeads * headDim, shape.kvHeads * headDim];
  const headRows = ['llama', 'smollm3', 'granite'].includes(architecture) ? headDim : 0;
  const layer = (index: number): Expected[] => {
    const one = (name: string, tensor: string, size: readonly number[], headRows = 0): Expected => ({
      name: `blk.${index}.${name}`,
      tensor: `model.layers.${index}.${tensor}`,
      shape: size,
      headRows,
    });
    const biases = [
      one('attn_q.bias', 'self_attn.q_proj.bias', [q]),
      one('attn_k.bias', 'self_attn.k_proj.bias', [kv]),
      one('attn_v.bias', 'self_attn.v_proj.bias', [kv]),
    ];
    const norms = [
      one('attn_q_norm.weight', 'self_attn.q_norm.weight', [headDim]),
      one('attn_k_norm.weight', 'self_attn.k_norm.weight', [headDim]),
    ];
    const isFused = architecture === 'phi3';
    const apart = [
      one('attn_q.weight', 'self_attn.q_proj.weight', [q, hidden], headRows),
      one('attn_k.weight', 'self_attn.k_proj.weight', [kv, hidden], headRows),
      one('attn_v.weight', 'self_attn.v_proj.weight', [kv, hidden]),
    ];
    const gateUp = [
      one('ffn_gate.weight', 'mlp.gate_proj.weight', [ffn, hidden]),
      one('ffn_up.weight', 'mlp.up_proj.weight', [ffn, hidden]),
    ];
    return [
      one('attn_norm.weight', 'input_layernorm.weight', [hidden]),
      ...(isFused ? [one('attn_qkv.weight', 'self_attn.qkv_proj.weight', [q + 2 * kv, hidden])] : apart),
      ...(architecture === 'qwen2' ? biases : []),
      ...(architecture === 'qwen3' ? norms : []),
      one('attn_output.weight', 'self_attn.o_proj.weight', [hidden, q]),
      one('ffn_norm.weight', 'post_attention_layernorm.weight', [hidden]),
      ...(isFused ? [one('ffn_up.weight', 'mlp.gate_up_proj.weight', [2 * ffn, hidden])] : gateUp),
      one('ffn_down.weight', 'mlp.down_proj.weight', [hidden, ffn]),
    ];
  };
  const outside = (name: string, tensor: string, size: readonly number[]) => ({
    name,
    tensor,
    shape: size,
    headRows: 0,
  });
  return [
    outside('token_embd.weight', 'model.embed_tokens.weight', [vocab, hidden]),
    ...Array.from({ length: layers }, (_, index) => layer(index)).flat(),
    outside('output_norm.weight', 'model.norm.weight', [hidden]),
    ...(hasHead ? [outside('output.weight', 'lm_head.weight', [vocab, hidden])] : []),
  ];
}
