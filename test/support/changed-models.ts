// Copies of small models, with files changed, taken away or written anew.
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { readTensors, writeSafetensors } from '../../runtime/weights/safetensors.ts';

const tiny = join(packageRoot(), 'models', 'qwen3-tiny');
export const fixture = (name: string): string => join(packageRoot(), 'test', 'fixtures', name);

export type Stored = Parameters<typeof writeSafetensors>[1];

/** A folder of models, which is gone after the tests of the file. */
export function changedModels(name: string) {
  const root = mkdtempSync(join(tmpdir(), `onelaunch-${name}-`));
  afterAll(() => rmSync(root, { recursive: true }));
  /** A small model with all its files. */
  const whole = join(root, 'whole');
  cpSync(fixture('qwen3-micro'), whole, { recursive: true });
  for (const file of [
    'tokenizer.json',
    'tokenizer_config.json',
    'chat_template.jinja',
    'generation_config.json',
  ])
    cpSync(join(tiny, file), join(whole, file));
  let made = 0;
  /** A copy of a model, changed. Undefined takes a file away; an object is merged into the JSON that is there. */
  function copyOf(
    model: string,
    changes: Readonly<Record<string, string | Buffer | object | undefined>> = {},
  ): string {
    const folder = join(root, `model-${made++}`);
    cpSync(model, folder, { recursive: true });
    for (const [name, change] of Object.entries(changes)) {
      const path = join(folder, name);
      if (change === undefined) rmSync(path);
      else if (typeof change === 'string' || Buffer.isBuffer(change)) writeFileSync(path, change);
      else
        writeFileSync(
          path,
          JSON.stringify({ ...(existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {}), ...change }),
        );
    }
    return folder;
  }

  return { root, whole, copyOf };
}

/** The tensors of a model's file, changed and written again. */
export function rewrite(folder: string, change: (tensors: Record<string, Stored[string]>) => Stored): string {
  const path = join(folder, 'model.safetensors');
  const bytes = readFileSync(path);
  const tensors = [...readTensors(folder)].map(([name, { dtype, shape, offset, bytes: length }]) => {
    return [name, { dtype, shape, data: bytes.subarray(offset, offset + length) }] as const;
  });
  writeSafetensors(path, change(Object.fromEntries(tensors)));
  return folder;
}

/** Of the embedding the first two rows alone. */
export function firstRows(tensors: Stored): Stored {
  const { dtype, data } = tensors['model.embed_tokens.weight']!;
  return {
    ...tensors,
    'model.embed_tokens.weight': { dtype, shape: [2, 128], data: data.subarray(0, 2 * 128 * 2) },
  };
}
