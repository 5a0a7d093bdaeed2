// What every target must pass: the fixtures, the bundled model, and random models of odd dims, with every plan.
// The CPU: test/compile/engine-cpu.test.ts. A GPU: test/cuda/engine.test.ts.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { fixtures } from './fixtures.ts';
import { type RandomModel, writeRandomModel } from './random-model.ts';
import { makeScaled, scaledPositions } from './scaled-positions.ts';
import { thorough } from './thorough.ts';

const root = packageRoot();

/** The plans of a target; a stream needs a GPU, and weights of 16 bits. */
const plansOf = (target: string) => ['cooperative', 'unfused', ...(target === 'cpu' ? [] : ['stream'])];
const takes = (plan: string, { dtype }: RandomModel) => plan !== 'stream' || dtype !== 'float32';

/** Dims that divide by nothing: no vector, warp, block or page. */
const oddModels: Readonly<Record<string, RandomModel>> = {
  'odd-qwen3': {
    ...{ type: 'qwen3', dtype: 'float16', hidden: 100, ffn: 150, layers: 3 },
    ...{ qHeads: 5, kvHeads: 1, headDim: 20, vocab: 333, tied: true },
  },
  'odd-qwen2': {
    ...{ type: 'qwen2', dtype: 'bfloat16', hidden: 130, ffn: 77, layers: 2 },
    ...{ qHeads: 6, kvHeads: 3, headDim: 42, vocab: 1001, tied: false },
  },
  'odd-llama': {
    ...{ type: 'llama', dtype: 'float32', hidden: 33, ffn: 65, layers: 2 },
    ...{ qHeads: 7, kvHeads: 7, headDim: 6, vocab: 97, tied: false },
    rope: {
      ...{ rope_type: 'llama3', rope_theta: 500, factor: 8 },
      ...{ low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 16 },
    },
  },
};

interface Verified {
  readonly ok: boolean;
  readonly source: string;
  readonly tolerance: { readonly logit: number };
  readonly cases: readonly { readonly logit: { readonly error: number } }[];
}

/** All tests of the suite for one target. */
export function engineSuite(target: string): void {
  const folder = mkdtempSync(join(tmpdir(), 'engine-suite-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, model] of Object.entries(oddModels)) writeRandomModel(join(folder, name), model);

  const verify = async (model: string, plan: string, more: readonly string[] = []) => {
    const { io, written } = memoryIo();
    const args = ['verify', '--model', model, '--target', target, '--plan', plan, '--json', ...more];
    const code = await run(args, io);
    return { code, out: written.out, result: JSON.parse(written.out) as Verified };
  };

  describe.each(plansOf(target))('plan %s', (plan) => {
    // A plan that differs from the first in its stages alone meets what stages depend on: head norms, biases, and sizes that divide by nothing.
    const all = thorough || target !== 'cpu' || plan === 'cooperative';
    const taken = (name: string) => all || ['qwen3-micro', 'qwen2-micro', 'odd-llama'].includes(name);
    const pathOf = (name: string) => (name === 'qwen3-tiny' ? name : join(root, 'test', 'fixtures', name));
    const known = [...fixtures, 'qwen3-tiny'].filter(taken).map(pathOf);
    test.each(known)('gives the logits and tokens of transformers: %s', async (model) => {
      const { code, out } = await verify(model, plan);
      expect(code, out).toBe(0);
    });

    test.each(scaledPositions.filter((name) => thorough || target !== 'cpu' || (all && name === 'yarn-set')))(
      'gives the logits and tokens of transformers with positions scaled: %s',
      async (name) => {
        const { code, out } = await verify(makeScaled(folder, name), plan);
        expect(code, out).toBe(0);
      },
    );

    const odd = Object.entries(oddModels).flatMap(([name, model]) =>
      takes(plan, model) && taken(name) ? [name] : [],
    );
    test.each(odd)(
      'gives the logits of the reference, without golden file or tokenizer: %s',
      async (name) => {
        const { code, out, result } = await verify(join(folder, name), plan);
        expect(code, out).toBe(0);
        expect(result).toMatchObject({ ok: true, source: 'the built-in reference' });
      },
    );
  });

  test('in its first context LongRoPE has its short factors', async () => {
    const model = join(root, 'test', 'fixtures', 'phi4-mini-micro');
    const golden = ['--golden', join(model, 'golden-short.json')];
    const [short, long] = [
      await verify(model, 'cooperative', [...golden, '--context', '64']),
      await verify(model, 'cooperative', golden),
    ];
    expect(short.code, short.out).toBe(0);
    const worst = (of: Verified) => Math.max(...of.cases.map((one) => one.logit.error));
    expect(worst(long.result)).toBeGreaterThan(long.result.tolerance.logit);
  });

  describe('a model that was changed behind its golden file is caught', () => {
    const changed = (
      path: string,
      change: (config: Record<string, unknown>) => Record<string, unknown>,
      of = 'qwen3-micro',
    ) => {
      const copy = join(folder, path);
      cpSync(join(root, 'test', 'fixtures', of), copy, { recursive: true });
      const config = JSON.parse(readFileSync(join(copy, 'config.json'), 'utf8')) as Record<string, unknown>;
      writeFileSync(join(copy, 'config.json'), JSON.stringify(change(config)));
      return copy;
    };
    const farOff = async (model: string) => {
      const { code, result } = await verify(model, 'cooperative');
      expect(code).toBe(1);
      const worst = Math.max(...result.cases.map((one) => one.logit.error));
      expect(worst).toBeGreaterThan(3 * result.tolerance.logit);
    };

    test('RoPE theta of 10,000 in the place of 1,000,000', async () => {
      await farOff(
        changed('theta', (config) => ({
          ...config,
          rope_parameters: { rope_type: 'default', rope_theta: 10000 },
        })),
      );
    });

    test('no q and k norm: the same weights as a llama model', async () => {
      const llama = { architectures: ['LlamaForCausalLM'], model_type: 'llama' };
      await farOff(changed('no-norm', (config) => ({ ...config, ...llama })));
    });

    test('a head rotated as a whole', async () => {
      const longer = (factors: number[]) => [...factors, ...factors.slice(-4)];
      const whole = (config: Record<string, unknown>) => {
        const rope = config['rope_parameters'] as { short_factor: number[]; long_factor: number[] };
        const { short_factor: short, long_factor: long } = rope;
        const lists = { short_factor: longer(short), long_factor: longer(long) };
        const rope_parameters = { ...rope, ...lists, partial_rotary_factor: 1 };
        return { ...config, rope_parameters, partial_rotary_factor: 1 };
      };
      await farOff(changed('whole-heads', whole, 'phi4-mini-micro'));
    });

    test('gate and up swapped in the checkpoint', async () => {
      // Of the same name and dims: its library is the fixture's.
      const copy = changed('swapped/qwen3-micro', (config) => config);
      const path = join(copy, 'model.safetensors');
      const bytes = readFileSync(path);
      const length = Number(bytes.readBigUInt64LE(0));
      const header = bytes.subarray(8, 8 + length).toString();
      const swapped = header
        .replaceAll('gate_proj', 'swap_proj')
        .replaceAll('up_proj', 'gate_proj')
        .replaceAll('swap_proj', 'up_proj');
      writeFileSync(
        path,
        Buffer.concat([bytes.subarray(0, 8), Buffer.from(swapped), bytes.subarray(8 + length)]),
      );
      await farOff(copy);
    });
  });
}
