// The errors of files that are no model for us, all of one form.
import { ModelNotSupportedError, OnelaunchError } from '../errors.ts';

/** Of a model that no kernel computes, whatever its file. */
export const otherModel =
  'Use a dense Qwen3, Qwen2, Qwen2.5, Llama, Mistral, Phi-3, Phi-4, Granite 3, SmolLM2 or SmolLM3 model.';

const copyAgain = "Copy the file from the model's own repository again.";

/** A file that is damaged, or no GGUF file. @param what goes on after the path */
export const broken = (path: string, what: string, hint = copyAgain): OnelaunchError =>
  new OnelaunchError('usage', `${path} ${what}`, { hint });

/** A whole file of what no kernel computes. @param setting its key in the metadata */
export const unsupportedIn = (
  path: string,
  what: string,
  options: { readonly modelType: unknown; readonly setting: string; readonly hint?: string },
): ModelNotSupportedError => {
  const { modelType, setting, hint = otherModel } = options;
  const named = typeof modelType === 'string' ? modelType : undefined;
  return new ModelNotSupportedError(`${path} ${what}`, { modelType: named, setting, hint });
};

/** A name or value of the file, short and on one line. */
export function shown(value: unknown): string {
  const text = typeof value === 'bigint' ? String(value) : (JSON.stringify(value) ?? 'missing');
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
