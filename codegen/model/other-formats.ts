// What a path holds that is not the folder of a model, told by name, with what makes one of it.
import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { OnelaunchError } from '../../errors.ts';

const usage = (message: string, hint: string) => new OnelaunchError('usage', message, { hint });

const saveHint =
  'In Python, AutoModelForCausalLM.from_pretrained(DIR, dtype="bfloat16").save_pretrained(OUT) writes the folder that is needed.';

/** A file in the place of the folder of a model. */
export function notADirectory(path: string): OnelaunchError {
  if (/\.(bin|pt|pth|ckpt)$/i.test(path)) {
    return usage(`${path} is a PyTorch checkpoint, and those are not read`, saveHint);
  }
  if (/\.safetensors(\.index\.json)?$|\.json$/i.test(path)) {
    return usage(`${path} is one file of a model`, `Give its folder: ${dirname(path)}`);
  }
  return usage(`${path} is not a directory`, 'Give the directory that holds config.json, not a file in it.');
}

/** A folder without config.json. */
export function noConfig(directory: string): OnelaunchError {
  const files = readdirSync(directory);
  const gguf = files.filter((file) => /\.gguf$/i.test(file)).sort();
  if (gguf.length > 0) {
    const what = gguf.length === 1 ? `the GGUF file ${gguf[0]}` : `${gguf.length} GGUF files`;
    return usage(
      `no config.json in ${directory}, which holds ${what}`,
      `Give the file itself: ${join(directory, gguf[0]!)}`,
    );
  }
  const hint = files.includes('params.json')
    ? 'params.json is of the original Llama format: use the repository whose name ends in -hf, or the one with model.safetensors.'
    : 'Download a Hugging Face model: config.json, tokenizer.json and *.safetensors in one directory.';
  return usage(`no config.json in ${directory}`, hint);
}

/** A folder with a LoRA adapter, which transformers would apply to another model. */
export function findAdapter(directory: string): OnelaunchError | undefined {
  const file = join(directory, 'adapter_config.json');
  if (!existsSync(file)) return undefined;
  const merge =
    'in Python, AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload().save_pretrained(OUT); then give OUT.';
  const weights = ['model.safetensors', 'model.safetensors.index.json'];
  const isMerged = weights.some((name) => existsSync(join(directory, name)));
  return usage(
    `${file} makes ${basename(directory)} an adapter, which is applied to another model`,
    isMerged
      ? `If these weights have it merged already, take adapter_config.json away; else merge it: ${merge}`
      : `Merge the adapter: ${merge}`,
  );
}
