// What is wrong with a model, its files or this machine is said before a compiler starts, all of it at once.
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it, test, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { runsOn } from '../../codegen/build/can-run.ts';
import { type OnelaunchError, Problems } from '../../errors.ts';
import { load } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import { changedModels, firstRows, rewrite, type Stored } from '../support/changed-models.ts';

const { root, whole, copyOf } = changedModels('preflight');
const mark = join(root, 'a-compiler-was-started');

beforeAll(() => {
  const compiler = join(root, 'compiler');
  writeFileSync(
    compiler,
    `#!/bin/sh\ntouch '${mark}'\n[ "$1" = --version ] && echo fake 1.0 && exit 0\nexit 1\n`,
  );
  const none = join(root, 'nvidia-smi');
  writeFileSync(none, '#!/bin/sh\nexit 1\n');
  for (const file of [compiler, none]) chmodSync(file, 0o755);
  vi.stubEnv('CUDA_VISIBLE_DEVICES', undefined);
  vi.stubEnv('CXX', compiler);
  vi.stubEnv('NVCC', compiler);
  vi.stubEnv('PATH', `${root}:${process.env['PATH']}`);
  vi.stubEnv('ONELAUNCH_CACHE', join(root, 'cache'));
});
beforeEach(() => rmSync(mark, { force: true }));
afterAll(() => vi.unstubAllEnvs());

/** A command in this process: its exit code, and the lines that begin with error: or note:. */
async function gen(...args: string[]) {
  const { io, written } = memoryIo();
  const code = await run(args, io);
  const lines = written.err.split('\n');
  const of = (word: string) =>
    lines.filter((line) => line.startsWith(word)).map((line) => line.replaceAll(root, 'ROOT'));
  return { code, errors: of('error: '), hints: of('hint: '), notes: of('note: '), out: written.out };
}

const chat = (model: string) => ['chat', '--model', model, '--target', 'cpu', '--prompt', 'x'];
const complete = (model: string) => ['complete', '--model', model, '--target', 'cpu', '--prompt', 'x'];
const verify = (model: string) => ['verify', '--model', model, '--target', 'cpu'];
const weights = readFileSync(join(whole, 'model.safetensors'));

describe('before any compiler is started', () => {
  const cases: [what: string, args: () => string[], code: number, error: string, hint: string][] = [
    [
      'no weights',
      () => chat('qwen3-0.6b'),
      2,
      'there are no weights of qwen3-0.6b here',
      'give the directory of its checkpoint',
    ],
    [
      'no file of weights',
      () => chat(copyOf(whole, { 'model.safetensors': undefined })),
      2,
      'no model.safetensors in',
      'Copy the weights',
    ],
    [
      'weights cut short',
      () => verify(copyOf(whole, { 'model.safetensors': weights.subarray(0, 900_000) })),
      2,
      'it is cut short',
      'Copy the file',
    ],
    [
      'a git-lfs pointer',
      () => complete(copyOf(whole, { 'model.safetensors': 'version https://git-lfs.github.com/spec/v1\n' })),
      2,
      'is not a safetensors file',
      'git lfs pull',
    ],
    [
      'a missing tensor',
      () => verify(rewrite(copyOf(whole), ({ 'model.norm.weight': _, ...rest }) => rest)),
      2,
      'model.safetensors lacks model.norm.weight',
      'Copy all files',
    ],
    [
      'a head that is not there',
      () => verify(copyOf(whole, { 'config.json': { tie_word_embeddings: false } })),
      2,
      'model.safetensors lacks lm_head.weight',
      '"tie_word_embeddings": true',
    ],
    [
      'another width',
      () => verify(copyOf(whole, { 'config.json': { intermediate_size: 512 } })),
      2,
      'model.layers.0.mlp.gate_proj.weight is [384, 128] in',
      'another model',
    ],
    [
      'another vocabulary',
      () => complete(copyOf(whole, { 'config.json': { vocab_size: 400 } })),
      2,
      'model.embed_tokens.weight is [512, 128] in',
      'set it to 512',
    ],
    [
      'float8 weights',
      () => verify(rewrite(copyOf(whole), asFloat8)),
      2,
      'are F8_E4M3FNUZ in',
      'save_pretrained',
    ],
    [
      'a LoRA in the place of weights',
      () =>
        verify(
          rewrite(copyOf(whole), (tensors) => ({
            'model.layers.0.self_attn.q_proj.lora_A.weight': tensors['model.norm.weight']!,
          })),
        ),
      2,
      'lacks model.layers.0',
      'merge',
    ],
    [
      'what torch.compile puts before the names',
      () =>
        verify(
          rewrite(copyOf(whole), (tensors) =>
            Object.fromEntries(
              Object.entries(tensors).map(([name, tensor]) => [`_orig_mod.${name}`, tensor] as const),
            ),
          ),
        ),
      2,
      'lacks model.layers.0',
      'The file has _orig_mod.model.',
    ],
    [
      'an adapter folder',
      () =>
        chat(
          copyOf(whole, {
            ...{ 'adapter_config.json': {}, 'config.json': undefined, 'model.safetensors': undefined },
          }),
        ),
      2,
      'adapter_config.json makes',
      'Merge the adapter',
    ],
    [
      'an adapter beside weights',
      () => chat(copyOf(whole, { 'adapter_config.json': {} })),
      2,
      'adapter_config.json makes',
      'take adapter_config.json away',
    ],
    [
      'a GGUF file',
      () => chat(join(copyOf(whole, { 'm.gguf': 'GGUF' }), 'm.gguf')),
      2,
      'm.gguf has 4 bytes, too few for a GGUF file',
      'repository',
    ],
    [
      'a folder of GGUF',
      () => chat(copyOf(whole, { 'm.gguf': 'GGUF', 'config.json': undefined })),
      2,
      'which holds the GGUF file m.gguf',
      'Give the file itself',
    ],
    [
      'a file of the model',
      () => chat(join(whole, 'model.safetensors')),
      2,
      'is one file of a model',
      'Give its folder',
    ],
    [
      'no tokenizer',
      () => complete(copyOf(whole, { 'tokenizer.json': undefined })),
      2,
      'no tokenizer.json in',
      'Copy tokenizer.json',
    ],
    [
      'a broken tokenizer',
      () => complete(copyOf(whole, { 'tokenizer.json': '{' })),
      2,
      'tokenizer.json:1:2: not valid JSON, the file ends too early',
      'Copy the file',
    ],
    [
      'a broken tokenizer_config',
      () => chat(copyOf(whole, { 'tokenizer_config.json': '[' })),
      2,
      'tokenizer_config.json:1:2: not valid JSON, the file ends too early',
      'Copy the file',
    ],
    [
      'no template',
      () => chat(copyOf(whole, { 'chat_template.jinja': undefined })),
      2,
      'no chat template in',
      'complete command',
    ],
    [
      'an empty config',
      () => chat(copyOf(whole, { 'config.json': '' })),
      2,
      'config.json is empty',
      'Copy the file',
    ],
    [
      'a config that is a pointer',
      () => chat(copyOf(whole, { 'config.json': 'version https://git-lfs.github.com/spec/v1\n' })),
      2,
      'config.json:1:1: not valid JSON, unexpected "v"',
      'git lfs pull',
    ],
    [
      'a broken template',
      () => chat(copyOf(whole, { 'chat_template.jinja': '{% if %}' })),
      2,
      'the chat template in',
      'Compare',
    ],
    [
      'a template of tokens without rows',
      () => chat(rewrite(copyOf(whole, { 'config.json': { vocab_size: 2 } }), firstRows)),
      2,
      '<|im_end|> (2)',
      'resize_token_embeddings',
    ],
    [
      'a broken generation_config',
      () => complete(copyOf(whole, { 'generation_config.json': { top_p: 3 } })),
      2,
      'generation_config.json: top_p is 3',
      'Compare',
    ],
    [
      'too long a context',
      () => [...chat(whole), '--context', '5000'],
      2,
      'a context of 5000 is more than',
      'At most 512',
    ],
    [
      'a context of one',
      () => [...chat('qwen3-tiny'), '--context', '1'],
      2,
      'a context of 1 has no room',
      'give 2 or more',
    ],
    [
      'no GPU for a GPU',
      () => [...chat('qwen3-tiny'), '--target', 'h100'],
      3,
      'no GPU found here, and a kernel for h100 runs on one',
      '--target cpu',
    ],
    [
      'an unknown plan',
      () => [...chat('qwen3-tiny'), '--plan', 'fused'],
      2,
      "unknown plan 'fused'",
      'known: ',
    ],
    [
      'a golden file that is not there',
      () => [...verify('qwen3-tiny'), '--golden', 'nowhere.json'],
      2,
      'cannot read the golden file nowhere.json',
      'a golden file holds',
    ],
    [
      'a golden file too long',
      () => [...verify('qwen3-tiny'), '--context', '16'],
      2,
      'a case of the golden file has 96 tokens',
      '--context 96',
    ],
    [
      'a context of the demo without room for what it verifies',
      () => ['demo', '--target', 'cpu', '--context', '20'],
      2,
      'a case of the golden file has 96 tokens',
      '--context 96',
    ],
    [
      'positions too far',
      () => ['bench', '--model', 'qwen3-tiny', '--target', 'cpu', '--positions', '5000'],
      2,
      '5101 positions are needed',
      'smaller',
    ],
  ];
  it.each(cases.map(([what, ...rest]) => ({ what, rest })))(
    '$what is refused',
    async ({ rest: [args, code, error, hint] }) => {
      const result = await gen(...args());
      expect(result.errors[0]).toContain(error);
      expect(result.errors).toHaveLength(1);
      expect(result.hints[0]).toContain(hint);
      expect(result.code).toBe(code);
      expect(existsSync(mark)).toBe(false);
      expect(existsSync(join(root, 'cache'))).toBe(false);
    },
  );

  it('all of it is refused at once, with the exit code of the gravest', async () => {
    const folder = copyOf(whole, {
      'model.safetensors': weights.subarray(0, 900_000),
      'chat_template.jinja': undefined,
      'config.json': { hidden_act: 'gelu', head_dim: 63 },
      'generation_config.json': { top_p: 3 },
      'tokenizer.json': '{',
    });
    const { code, errors, hints } = await gen(
      'chat',
      ...['--model', folder, '--target', 'h100', '--plan', 'nix', '--prompt', 'x'],
    );
    expect(errors.map((line) => line.replaceAll(/ROOT\/model-\d+/g, 'DIR'))).toEqual([
      'error: DIR/config.json: hidden_act is "gelu", supported: silu',
      'error: DIR/config.json: head_dim is 63, must be even',
      'error: no GPU found here, and a kernel for h100 runs on one',
      'error: no chat template in DIR: neither chat_template.jinja nor tokenizer_config.json has one',
      'error: DIR/model.safetensors has 900000 bytes, and its header describes 1118440: it is cut short',
      "error: unknown plan 'nix'",
      'error: DIR/tokenizer.json:1:2: not valid JSON, the file ends too early',
      'error: DIR/generation_config.json: top_p is 3, expected at most 1',
    ]);
    expect(hints).toHaveLength(errors.length);
    expect(code).toBe(3);
    expect(existsSync(mark)).toBe(false);
  });

  it('all of it is JSON with --json', async () => {
    const { code, out } = await gen(
      'chat',
      ...['--model', 'qwen3-tiny', '--prompt', 'x', '--context', '5000', '--target', 'h100', '--json'],
    );
    const { error } = JSON.parse(out) as {
      error: { message: string; problems: { kind: string; hint: string }[] };
    };
    expect(error).toMatchObject({
      kind: 'environment',
      exitCode: 3,
      message: expect.stringContaining('no GPU'),
    });
    expect(error.problems.map(({ kind }) => kind)).toEqual(['environment', 'usage']);
    expect(code).toBe(3);
  });

  it('load refuses all of it in one error', async () => {
    const folder = copyOf(whole, { 'tokenizer.json': '{', 'generation_config.json': '[' });
    const error = await load({ model: folder, target: 'cpu', context: 5000 }).catch((one: unknown) => one);
    expect(error).toBeInstanceOf(Problems);
    expect((error as Problems).problems.map(({ message }) => message.slice(0, 20))).toHaveLength(3);
    expect((error as OnelaunchError).hint).toContain('also: ');
    expect(existsSync(mark)).toBe(false);
  });

  it('a model that is whole gets as far as the compiler', async () => {
    await gen(...chat('qwen3-tiny'));
    expect(existsSync(mark)).toBe(true);
  });

  it('gen build needs neither weights nor the GPU', async () => {
    await gen('build', '--model', copyOf(whole, { 'model.safetensors': undefined }), '--target', 'h100');
    expect(existsSync(mark)).toBe(true);
  });
});

/** Every matrix in a type of one byte. */
function asFloat8(tensors: Stored): Stored {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, data }]) => {
      const half = data.subarray(0, data.length / 2);
      return [
        name,
        shape.length === 2 ? { dtype: 'F8_E4M3FNUZ', shape, data: half } : { dtype: 'BF16', shape, data },
      ];
    }),
  );
}

test.each([
  ['sm_90a', 'sm_90', true],
  ['sm_90a', 'sm_120', false],
  ['sm_80', 'sm_90', true],
  ['sm_89', 'sm_86', false],
  ['sm_100a', 'sm_103', false],
  ['sm_120', 'sm_120', true],
])('code for %s on %s: %j', (compiled, gpu, is) => {
  expect(runsOn(compiled, gpu)).toBe(is);
});

const h100 = 'NVIDIA H100 80GB HBM3, 9.0, 560.1, 81559';
test.each([
  [h100, 'h100', 0, undefined],
  [`${h100}, 100`, 'h100', 0, undefined],
  [
    `${h100}, 10`,
    'h100',
    0,
    expect.stringMatching(
      /^qwen3-tiny takes 11\.\d MB of GPU memory .*, and 10\.5 MB of 85\.52 GB are free$/,
    ),
  ],
  [`${h100}, 10\n${h100}, 100`, 'h100', 1, undefined],
  [`${h100}, 10\n${h100}, [N/A]`, 'h100', 1, undefined],
  [h100, 'h100', 1, 'there is no GPU 1 here'],
  ['NVIDIA A100-SXM4-80GB, 8.0, 560.1, 81559', 'h100', 0, 'a kernel for h100 (sm_90a) runs on no GPU here'],
])('with %s, %s on device %i gives %j', async (listing, target, device, message) => {
  const smi = join(root, 'nvidia-smi');
  const before = readFileSync(smi);
  writeFileSync(smi, `#!/bin/sh\necho '${listing}'\n`);
  const outcome = await preflight({ model: 'qwen3-tiny', target }, { run: { device } })
    .then(() => undefined)
    .catch((error: OnelaunchError) => error);
  writeFileSync(smi, before);
  expect(outcome?.message).toEqual(message);
  expect(outcome?.kind).toBe(message && 'environment');
});

test('a GPU is no device of a CPU', async () => {
  const checked = (device: number) => preflight({ model: 'qwen3-tiny', target: 'cpu' }, { run: { device } });
  await checked(0);
  await expect(checked(1)).rejects.toMatchObject({
    kind: 'usage',
    message: 'device 1 is a GPU, and cpu is a CPU',
  });
});

describe('threads on a GPU', () => {
  const checked = async (target: string) => {
    const smi = join(root, 'nvidia-smi');
    const before = readFileSync(smi);
    writeFileSync(smi, `#!/bin/sh\necho '${h100}'\n`);
    return preflight({ model: 'qwen3-tiny', target }, { run: { threads: 2 } }).finally(() =>
      writeFileSync(smi, before),
    );
  };

  it('are refused where the GPU was asked for', async () => {
    await expect(checked('h100')).rejects.toMatchObject({
      kind: 'usage',
      message: 'threads are of a CPU, and h100 is a GPU',
      hint: 'leave them out, or give the target cpu',
    });
  });

  it('are told to have no effect where it was found', async () => {
    const { target, notes } = await checked('auto');
    expect(target.name).toBe('h100');
    expect(notes).toContain('threads are of a CPU, and h100 is a GPU: they change nothing');
  });

  it('are taken on a CPU', async () => {
    expect((await checked('cpu')).notes).toEqual([]);
  });
});

test.each([
  ['ONELAUNCH_WAIT_MS', 'abc', 'a whole number of milliseconds from 1'],
  ['ONELAUNCH_WAIT_MS', '0', 'a whole number of milliseconds from 1'],
  ['ONELAUNCH_WAIT_MS', '', 'a whole number of milliseconds from 1'],
  ['ONELAUNCH_WAIT_MS', '2s', 'a whole number of milliseconds from 1'],
  ['ONELAUNCH_POLL_CYCLES', '1200,x', 'whole numbers of cycles between commas'],
  ['ONELAUNCH_POLL_CYCLES', '-1', 'whole numbers of cycles between commas'],
  ['ONELAUNCH_WAIT_MS', '300', null],
  ['ONELAUNCH_POLL_CYCLES', '1200,0,900', null],
])('on a GPU %s as %j is what it is to be, or refused', async (name, value, legal) => {
  const smi = join(root, 'nvidia-smi');
  const before = readFileSync(smi);
  writeFileSync(smi, `#!/bin/sh\necho '${h100}'\n`);
  vi.stubEnv(name, value);
  const checked = (target: string) => preflight({ model: 'qwen3-tiny', target }, { run: {} });
  const outcome = await checked('h100').then(
    () => null,
    (error: OnelaunchError) => error.message,
  );
  await checked('cpu');
  vi.stubEnv(name, undefined);
  writeFileSync(smi, before);
  expect(outcome).toBe(legal && `${name} is '${value}', must be ${legal}`);
});
