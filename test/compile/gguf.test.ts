// A GGUF file replies as the folder that it was made from, and with weights in blocks as the oracle does over the same blocks.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { load } from '../../load.ts';
import { fixture } from '../support/changed-models.ts';
import { ggufOf, type MatrixType, writeGguf } from '../support/gguf.ts';
import { tinyDirectory } from '../support/model-directory.ts';
import { thorough } from '../support/thorough.ts';

const root = mkdtempSync(join(tmpdir(), 'onelaunch-gguf-'));
afterAll(() => rmSync(root, { recursive: true }));

const fileOf = (directory: string, type: MatrixType) =>
  writeGguf(
    join(root, `${type.toLowerCase()}.gguf`),
    ggufOf(directory, () => type),
  );

async function reply(model: string) {
  const llm = await load({ model, target: 'cpu', context: 256 });
  try {
    const { tokens, text } = await llm
      .chat([{ role: 'user', content: 'What is meta?' }], { maxTokens: 48 })
      .result();
    return { tokens, text, notes: llm.notes };
  } finally {
    await llm.close();
  }
}

/** @param named what the kernel's name has in it */
async function expectVerified(model: string, named = ''): Promise<void> {
  const { io, written } = memoryIo();
  const code = await run(['verify', '--model', model, '--target', 'cpu', '--json'], io);
  expect(JSON.parse(written.out)).toMatchObject({ ok: true, kernel: expect.stringContaining(named) });
  expect(code).toBe(0);
}

test('qwen3-tiny as BF16 and as F32 replies as its folder does, token by token', async () => {
  const { tokens, text } = await reply(tinyDirectory);
  for (const type of ['BF16', 'F32'] as const)
    expect(await reply(fileOf(tinyDirectory, type))).toEqual({ tokens, text, notes: [] });
}, 300_000);

test('weights in blocks that no format has become int8, and a note says what they are rounded by', async () => {
  const { notes } = await reply(fileOf(tinyDirectory, 'Q5_1'));
  expect(notes).toEqual([
    'quantised to int8 here: 43 of Q5_1; each number is rounded by at most 0.39 % of the largest of its 32',
  ]);
}, 300_000);

/** As llama.cpp mixes Q4_K_M: more bits for values, last matrices of some layers, and the embedding. */
const q4KM = (name: string): MatrixType =>
  /token_embd|blk\.[0-2]\.(attn_v|ffn_down)/.test(name) ? 'Q6_K' : 'Q4_K';

test('a file of Q4_K_M keeps the codes of 4 bits', async () => {
  const model = writeGguf(join(root, 'q4_k_m.gguf'), ggufOf(tinyDirectory, q4KM));
  const { notes } = await reply(model);
  expect(notes).toEqual([
    expect.stringMatching(/^quantised to int8 here: \d+ of Q4_K, \d+ of Q6_K; each number/),
    expect.stringMatching(/^codes kept as int4-asym, scales and minima rounded to fp16: \d+ of Q4_K$/),
  ]);
}, 300_000);

test('weights in blocks of a format are kept', async () => {
  const { notes } = await reply(fileOf(tinyDirectory, 'Q8_0'));
  expect(notes).toEqual([]);
}, 300_000);

test('layers, embedding and head of three formats are what the oracle computes', async () => {
  const typeOf = (name: string): MatrixType =>
    name.startsWith('token_embd') ? 'Q8_0' : name.startsWith('output') ? 'BF16' : 'Q4_0';
  const model = writeGguf(join(root, 'mixed.gguf'), ggufOf(fixture('llama3-micro'), typeOf));
  await expectVerified(model, '-int4-');
}, 300_000);

/** Each reader of blocks is held against one written again in the unit tests: here are those that stay blocks, one of those that do not, and
 *  the order of rows of each family. */
const verified: readonly [string, MatrixType][] = [
  ...(thorough ? (['Q8_0', 'Q4_0', 'Q5_1', 'Q4_K', 'Q5_K', 'Q6_K'] as const) : []).map(
    (type): [string, MatrixType] => [tinyDirectory, type],
  ),
  ...(thorough
    ? ([
        [fixture('qwen3-micro'), 'Q4_0'],
        [fixture('llama3-micro'), 'BF16'],
        [fixture('smollm2-micro'), 'F16'],
      ] satisfies [string, MatrixType][])
    : []),
  [fixture('llama3-micro'), 'Q4_1'],
  [fixture('qwen2-micro'), 'Q5_0'],
  [fixture('phi4-mini-micro'), 'Q8_0'],
];
test.each(verified)(
  '%s as %s is what the oracle computes',
  (directory, type) => expectVerified(fileOf(directory, type)),
  300_000,
);

/** Of llama.cpp's own quantiser, and the formats that they run in. */
const ofLlamaCpp = Object.entries({
  ...{ q8_0: 'int8', q4_k_m: 'int4-asym' },
  ...(thorough
    ? { q4_0: 'int4', q4_1: 'int4-asym', q5_0: 'int8', q5_1: 'int8', q5_k_m: 'int8', q6_k: 'int8' }
    : {}),
});
test.each(ofLlamaCpp)(
  '%s of llama.cpp is what the oracle computes, in %s',
  (name, format) => expectVerified(fixture(`llama-cpp/${name}.gguf`), `-${format}-`),
  300_000,
);
