// A Hub cache as the Python tools lay it out.
import { mkdirSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ModelDims } from '../../codegen/model/dims.ts';

export interface Snapshot {
  readonly commit: string;
  readonly files: Readonly<Record<string, string>>;
  /** When it was made, in seconds after a fixed day. */
  readonly at?: number;
}

/** Puts snapshots of a model into a cache, their files as links to blobs. @returns models--ORG--NAME */
export function layOut(cache: string, id: string, snapshots: readonly Snapshot[], main?: string): string {
  const folder = join(cache, `models--${id.replace('/', '--')}`);
  for (const { commit, files, at = 0 } of snapshots) {
    const path = join(folder, 'snapshots', commit);
    mkdirSync(path, { recursive: true });
    mkdirSync(join(folder, 'blobs'), { recursive: true });
    for (const [name, text] of Object.entries(files)) {
      const blob = `${commit}-${name}`;
      writeFileSync(join(folder, 'blobs', blob), text);
      symlinkSync(join('..', '..', 'blobs', blob), join(path, name));
    }
    utimesSync(path, 1.7e9 + at, 1.7e9 + at);
  }
  if (main !== undefined) {
    mkdirSync(join(folder, 'refs'), { recursive: true });
    writeFileSync(join(folder, 'refs', 'main'), main);
  }
  return folder;
}

/** The config.json of a checkpoint with these dims. */
export const configOf = (dims: ModelDims): string =>
  JSON.stringify({
    model_type: dims.family,
    hidden_size: dims.hidden,
    intermediate_size: dims.ffn,
    num_hidden_layers: dims.layers,
    num_attention_heads: dims.qHeads,
    num_key_value_heads: dims.kvHeads,
    head_dim: dims.headDim,
    vocab_size: dims.vocab,
    max_position_embeddings: dims.maxPositions,
    rms_norm_eps: dims.normEps,
    rope_theta: dims.ropeTheta,
    rope_scaling:
      dims.ropeScaling?.type === 'llama3'
        ? {
            rope_type: dims.ropeScaling.type,
            factor: dims.ropeScaling.factor,
            low_freq_factor: dims.ropeScaling.lowFreqFactor,
            high_freq_factor: dims.ropeScaling.highFreqFactor,
            original_max_position_embeddings: dims.ropeScaling.originalPositions,
          }
        : null,
    tie_word_embeddings: dims.tiedHead,
    torch_dtype: 'bfloat16',
  });
