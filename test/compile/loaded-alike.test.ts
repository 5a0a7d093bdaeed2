// Checkpoints that say a thing in an unusual way are computed as transformers computes them: its golden logits hold, or those of the reference.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { readTensors, writeSafetensors } from '../../runtime/weights/safetensors.ts';

const micro = join(packageRoot(), 'test', 'fixtures', 'qwen3-micro');
const root = mkdtempSync(join(tmpdir(), 'loaded-alike-'));
afterAll(() => rmSync(root, { recursive: true }));

type Stored = Parameters<typeof writeSafetensors>[1];
let made = 0;
/** The micro model with another config and other tensors; without golden logits, the reference computes them. */
function changed(config: object, change: (tensors: Stored) => Stored, golden: boolean): string {
  const folder = join(root, `model-${made++}`);
  cpSync(micro, folder, { recursive: true });
  const path = join(folder, 'config.json');
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...config }));
  const file = join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  const tensors = [...readTensors(folder)].map(([name, { dtype, shape, offset, bytes: length }]) => {
    return [name, { dtype, shape, data: bytes.subarray(offset, offset + length) }] as const;
  });
  writeSafetensors(file, change(Object.fromEntries(tensors)));
  if (!golden) rmSync(join(folder, 'golden.json'));
  return folder;
}

const embedding = 'model.embed_tokens.weight';
const same = (tensors: Stored) => tensors;
const renamed = (rename: (name: string) => string) => (tensors: Stored) =>
  Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [rename(name), tensor]));
/** The rows of the embedding in another order. */
function otherHead(tensors: Stored): Stored {
  const { data, ...rest } = tensors[embedding]!;
  const half = data.length / 2;
  return {
    ...tensors,
    'lm_head.weight': { ...rest, data: Buffer.concat([data.subarray(half), data.subarray(0, half)]) },
  };
}
const window = { layer_types: null, use_sliding_window: true, sliding_window: 4 };

test.each([
  ['tensors without prefix', {}, renamed((name) => name.replace(/^model\./, '')), 'golden.json'],
  [
    'an embedding stored as the head',
    {},
    renamed((name) => name.replace(embedding, 'lm_head.weight')),
    'golden.json',
  ],
  [
    'a head like the embedding',
    {},
    (tensors: Stored) => ({ ...tensors, 'lm_head.weight': tensors[embedding]! }),
    'golden.json',
  ],
  ['windows that begin behind the last layer', { ...window, max_window_layers: 2 }, same, 'golden.json'],
  ['a head unlike the embedding', {}, otherHead, 'reference'],
  ['a window in the last layer', { ...window, max_window_layers: 1 }, same, 'reference'],
  ['windows in all layers', { ...window, max_window_layers: 0 }, same, 'reference'],
] as const)('%s', async (_, config, change, source) => {
  const folder = changed(config, change, source === 'golden.json');
  const { io, written } = memoryIo();
  const code = await run(['verify', '--model', folder, '--target', 'cpu', '--json'], io);
  expect(written.err).not.toContain('error: ');
  const result = JSON.parse(written.out) as { ok: boolean; source: string };
  expect(result).toMatchObject({
    ok: true,
    source: expect.stringContaining(source === 'reference' ? 'reference' : 'transformers'),
  });
  expect(code).toBe(0);
});

test.each([
  ['a head unlike the embedding', {}, otherHead],
  ['windows', { ...window, max_window_layers: 0 }, same],
] as const)('%s changes the logits of the golden file', async (_, config, change) => {
  const { io, written } = memoryIo();
  const code = await run(
    ['verify', '--model', changed(config, change, true), '--target', 'cpu', '--json'],
    io,
  );
  expect(JSON.parse(written.out)).toMatchObject({ ok: false });
  expect(code).toBe(1);
});
