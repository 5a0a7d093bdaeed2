// The smallest GGUF file that is a model: one layer, eight tokens, for tests that change one thing of it.
import type { Gguf, Tensor, Value } from './gguf.ts';

const [hidden, rows] = [32, 8];
const zeros = (name: string, ...shape: number[]): Tensor => ({
  ...{ name, shape, type: 'F32' },
  data: new Uint8Array(4 * shape.reduce((product, size) => product * size, 1)),
});

export const smallGguf: Gguf = {
  metadata: [
    ['general.architecture', { text: 'llama' }],
    ['llama.block_count', { u32: 1 }],
    ['llama.context_length', { u32: 64 }],
    ['llama.embedding_length', { u32: hidden }],
    ['llama.feed_forward_length', { u32: hidden }],
    ['llama.attention.head_count', { u32: 2 }],
    ['llama.attention.layer_norm_rms_epsilon', { f32: 1e-5 }],
    ['tokenizer.ggml.model', { text: 'gpt2' }],
    ['tokenizer.ggml.pre', { text: 'llama-bpe' }],
    ['tokenizer.ggml.tokens', { texts: ['<s>', '</s>', 'a', 'b', 'ab', 'Ġ', 'x', '[PAD7]'] }],
    ['tokenizer.ggml.token_type', { i32s: [3, 3, 1, 1, 1, 1, 4, 5] }],
    ['tokenizer.ggml.merges', { texts: ['a b'] }],
    ['tokenizer.ggml.bos_token_id', { u32: 0 }],
    ['tokenizer.ggml.eos_token_id', { u32: 1 }],
    ['tokenizer.chat_template', { text: '{{ bos_token }}{{ messages[0].content }}' }],
  ],
  tensors: [
    zeros('token_embd.weight', hidden, rows),
    zeros('blk.0.attn_norm.weight', hidden),
    ...['q', 'k', 'v'].map((name) => zeros(`blk.0.attn_${name}.weight`, hidden, hidden)),
    zeros('blk.0.attn_output.weight', hidden, hidden),
    zeros('blk.0.ffn_norm.weight', hidden),
    ...['gate', 'up', 'down'].map((name) => zeros(`blk.0.ffn_${name}.weight`, hidden, hidden)),
    zeros('output_norm.weight', hidden),
  ],
};

/** With another value of a key, or without it. */
export function withKey(key: string, value: Value | undefined): Gguf {
  const others = smallGguf.metadata.filter(([name]) => name !== key);
  return { ...smallGguf, metadata: value === undefined ? others : [...others, [key, value]] };
}

/** With the tensors of these names changed. */
export function withTensor(name: string, change: Partial<Tensor> | undefined): Gguf {
  const tensors = smallGguf.tensors.flatMap((tensor) => {
    if (tensor.name !== name) return [tensor];
    return change === undefined ? [] : [{ ...tensor, ...change }];
  });
  return { ...smallGguf, tensors };
}

export const withMore = (tensor: Tensor): Gguf => ({
  ...smallGguf,
  tensors: [...smallGguf.tensors, tensor],
});
export { zeros };

/** Pieces of a vocabulary of SentencePiece, the best first. */
const pieces = ['▁t', 'he', '▁the', 'in', '▁a', 'er', '▁▁', 'n', 'e', 'i', 'r', '▁', 't', 'h', 'a', 'é'];

/** The same model with such a vocabulary: three special tokens, all bytes, the pieces, and <tool>, which a user defined. */
export function sentencePieceGguf(addsSpace: boolean): Gguf {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...pieces, '<tool>'];
  const first = 3 + bytes.length;
  const types = tokens.map((token, id) =>
    id === 0 ? 2 : id < 3 ? 3 : id < first ? 6 : token === '<tool>' ? 4 : 1,
  );
  const vocabulary: Gguf['metadata'] = [
    ['tokenizer.ggml.model', { text: 'llama' }],
    ['tokenizer.ggml.tokens', { texts: tokens }],
    ['tokenizer.ggml.scores', { f32s: tokens.map((_, id) => Math.min(0, first - id)) }],
    ['tokenizer.ggml.token_type', { i32s: types }],
    ['tokenizer.ggml.bos_token_id', { u32: 1 }],
    ['tokenizer.ggml.eos_token_id', { u32: 2 }],
    ['tokenizer.ggml.unknown_token_id', { u32: 0 }],
    ['tokenizer.ggml.add_space_prefix', { flag: addsSpace }],
  ];
  const rows = zeros('token_embd.weight', hidden, tokens.length);
  return {
    metadata: [
      ...smallGguf.metadata.filter(([key]) => !String(key).startsWith('tokenizer.ggml.')),
      ...vocabulary,
    ],
    tensors: [rows, ...smallGguf.tensors.slice(1)],
  };
}
