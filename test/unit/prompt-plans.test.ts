// Plans for prompts as users ask for them: what is refused, what is chosen beside them, and what a library and a report say of them.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { currentHash, type Report } from '../../cli/report-file.ts';
import { run } from '../../cli/run.ts';
import { described } from '../../codegen/build/describe.ts';
import { generate } from '../../codegen/index.ts';
import { planNames, promptPlanNames, resolvePromptPlan } from '../../configs/resolve.ts';
import { Problems } from '../../errors.ts';
import { load } from '../../load.ts';
import { preflight } from '../../preflight.ts';
import { writeRandomModel } from '../support/random-model.ts';

async function gen(...args: readonly string[]) {
  const { io, written } = memoryIo();
  return { code: await run(args, io), ...written };
}
const asked = ['--model', 'qwen3-0.6b', '--target', 'h100'];
const kernelOf = async (promptPlan?: string, plan: string | undefined = 'stream', target = 'h100') =>
  generate(await preflight({ model: 'qwen3-0.6b', target, plan, promptPlan }, {}));

test('a plan that is asked for has none unless that is asked for too', async () => {
  expect(promptPlanNames()[0]).toBe('prefill');
  expect(planNames()).not.toContain('prefill');
  expect((await kernelOf()).prompts).toBeNull();
  expect((await kernelOf('prefill')).prompts?.plan.name).toBe('prefill');
});

test.each([
  ['qwen3-0.6b', 'h100', 'prefill'],
  ['qwen3-0.6b', 'h200', 'prefill'],
  ['qwen2.5-0.5b', 'h100', 'prefill'],
  ['qwen3-0.6b', 'a100', undefined],
  ['qwen3-tiny', 'cpu', undefined],
] as const)('%s on %s, where no plan is named, has %s', async (model, target, name) => {
  const { promptPlan } = await preflight({ model, target }, {});
  expect(promptPlan?.name).toBe(name);
});

test.each([
  [48, 'prefill-heads-apart'],
  [96, undefined], // four warps together attend to no such heads
])(
  'where heads of %i do not fit tiles, their norm and rotation stand apart, or passes take prompts in',
  async (headDim, name) => {
    const folder = mkdtempSync(join(tmpdir(), 'prompt-plans-'));
    const shape = { type: 'qwen3', dtype: 'bfloat16', hidden: 192, ffn: 320, layers: 2, qHeads: 4 } as const;
    writeRandomModel(folder, { ...shape, kvHeads: 2, headDim, vocab: 128, tied: true });
    const { promptPlan } = await preflight({ model: folder, target: 'h100' }, {});
    rmSync(folder, { recursive: true });
    expect(promptPlan?.name).toBe(name);
  },
);

test('beside it a stream decodes, also where that is not the plan otherwise', async () => {
  const { plan, planReason } = await preflight(
    { model: 'qwen3-0.6b', target: 'a100', promptPlan: 'prefill' },
    {},
  );
  expect([plan.name, planReason]).toEqual(['stream', 'prefill reads the weights of a stream']);
  expect((await preflight({ model: 'qwen3-0.6b', target: 'a100' }, {})).plan.name).not.toBe('stream');
});

describe('what cannot be is said', () => {
  const refused = (options: object) =>
    preflight({ model: 'qwen3-0.6b', target: 'h100', ...options }, { weights: true }).then(
      () => 'taken',
      (error: Error) =>
        error instanceof Problems ? error.problems.map(({ message }) => message) : error.message,
    );
  const noWeights = 'there are no weights of qwen3-0.6b here';

  test.each([
    [{ plan: 'prefill' }, 'plan prefill takes in prompts and makes no tokens'],
    [{ promptPlan: 'stream' }, 'plan stream decodes: a plan for prompts has tiles'],
    [
      { plan: 'cooperative', promptPlan: 'prefill' },
      'plan prefill reads the weights of a stream, and cooperative has barriers',
    ],
    [{ promptPlan: 'prefil' }, "unknown prompt plan 'prefil'"],
  ])('with all else: %j', async (options, message) => {
    expect(await refused(options)).toEqual([noWeights, message]);
  });

  test('of an unknown name with those that are known', async () => {
    await expect(resolvePromptPlan('prefil')).rejects.toMatchObject({
      hint: "did you mean 'prefill'? known: prefill (and 7 variants, prefill-..., in configs/plans/prefill.ts); or the path of a .ts or .js file",
    });
  });

  test('of a CPU by the rule that knows', async () => {
    const { code, err } = await gen(
      ...['explain', 'qwen3-tiny', '--target', 'cpu', '--plan', 'cooperative', '--prompt-plan', 'prefill'],
    );
    expect(code).toBe(2);
    expect(err).toBe(
      [
        'error: the plan does not fit this model on this target, 1 issue',
        '  prefill: cpu has no matrix instructions for tiles; it takes prompts through passes of its plan',
        'hint: where --prompt-plan is given, leave it out or give another one; else give a smaller model',
        '',
      ].join('\n'),
    );
    await expect(load({ model: 'qwen3-tiny', target: 'cpu', promptPlan: 'prefill' })).rejects.toThrow(
      'tiles-without-cores',
    );
  });
});

test('a plan is chosen by a prediction only where there is one', async () => {
  const reasonOn = async (target: string) => (await gen('explain', 'qwen3-tiny', '--target', target)).err;
  expect(await reasonOn('cpu')).toContain('this one is predicted to wait and work less');
  expect(await reasonOn('a100')).toContain('this one is predicted to be faster');
});

describe('gen explain', () => {
  test('shows both plans, and how a prompt is taken in', async () => {
    const { code, out } = await gen('explain', ...asked, '--prompt-plan', 'prefill', '--prompt', '2100');
    expect(code).toBe(0);
    expect(out).toMatch(/^qwen3-0.6b on h100, plan stream: 28 layers, up to 16 tokens a pass$/m);
    expect(out).toMatch(/^qwen3-0.6b on h100, plan prefill: 28 layers, up to 2048 tokens a launch$/m);
    expect(out).toMatch(/^stage .* MB a launch /m);
    expect(out).toMatch(/ grid barriers a launch$/m);
    const [passes, why] = out.trimEnd().split('\n').slice(-2);
    expect(passes).toBe(
      'a prompt of 2,100 tokens: 1 launch of 2,048 tokens (tiles of 128), 1 launch of 52 tokens (tiles of 64)',
    );
    expect(why).toMatch(
      /^predicted [\d.]+ ms, through passes alone [\d.]+ ms; launches from \d+ tokens on, where they are predicted quicker/,
    );
  });

  test('of a launch no longer than the positions that are left', async () => {
    const { out } = await gen('explain', ...asked, '--prompt-plan', 'prefill', '--position', '40000');
    expect(out).toMatch(/^for 960 tokens together;/m);
  });

  test('says where a prediction is of other instructions', async () => {
    const { out } = await gen('explain', ...asked, '--prompt-plan', 'prefill-mma', '--json');
    expect(JSON.parse(out)).toMatchObject({
      unmeasured: [],
      promptPlan: { unmeasured: ['products by mma'] },
    });
  });

  test('in us as well, and says of a stream why they are less than its columns', async () => {
    const { out } = await gen('explain', ...asked, '--prompt-plan', 'prefill');
    expect(out).toMatch(/, [\d.]+ us a token, since reads go on beside waits and work, at /);
    expect(out).toMatch(/, [\d.]+ us a launch, at /);
  });

  test.each([
    [1, '1 token: 1 pass of 1 token'],
    [16, '16 tokens: 1 pass of 16 tokens'],
    [17, '17 tokens: 1 pass of 16 tokens, 1 pass of 1 token'],
  ])('of a stream alone: %i tokens, the last of which is with the others', async (tokens, passes) => {
    const { out } = await gen('explain', ...asked, '--prompt', String(tokens));
    expect(out.trimEnd().split('\n').at(-2)).toBe(`a prompt of ${passes}`);
  });

  test('as JSON too', async () => {
    const { out } = await gen('explain', ...asked, '--prompt-plan', 'prefill', '--prompt', '70', '--json');
    expect(JSON.parse(out)).toMatchObject({
      ...{ plan: 'stream', passTokens: 16, per: 'token' },
      promptPlan: { plan: 'prefill', launchTokens: 2048, per: 'launch' },
      prompt: {
        tokens: 70,
        passes: [{ tokens: 70, tile: 64 }],
      },
    });
  });

  test('behind the tokens before --position', async () => {
    const prompt = ['--prompt-plan', 'prefill', '--prompt', '2000'];
    const first = await gen('explain', ...asked, ...prompt, '--json');
    const behind = await gen('explain', ...asked, ...prompt, '--position', '20000', '--json');
    const microsOf = ({ out }: typeof first) => JSON.parse(out).prompt.micros as number;
    expect(microsOf(behind)).toBeGreaterThan(2 * microsOf(first));
    const { out } = await gen('explain', ...asked, ...prompt, '--position', '20000');
    expect(out).toContain('\na prompt of 2,000 tokens behind 20,000 others: 1 launch of 2,000 tokens');
    const { code, err } = await gen('explain', ...asked, ...prompt, '--position', '40000');
    expect([code, err]).toEqual([2, expect.stringContaining('has 960 positions behind --position 40000')]);
  });

  test('refuses a prompt that the model has no positions for', async () => {
    const { code, err } = await gen('explain', ...asked, '--prompt', '50000');
    expect([code, err]).toEqual([2, expect.stringContaining("--prompt is '50000'")]);
  });
});

describe('gen simulate', () => {
  test('runs the plan for prompts, and finds what a sync that is left out does', async () => {
    const simulate = ['simulate', ...asked, '--prompt-plan', 'prefill', '--seeds', '1'];
    expect((await gen(...simulate)).out).toBe('no fault in 12 interleavings\n');
    const { code, out } = await gen(...simulate, '--drop', 'grid after ffn_up');
    expect(code).toBe(1);
    expect(out).toContain('ffn_down of layer');
  });

  test('runs one plan', async () => {
    const { code, err } = await gen('simulate', ...asked, '--plan', 'stream', '--prompt-plan', 'prefill');
    expect([code, err]).toEqual([2, expect.stringContaining('one is simulated')]);
  });
});

describe('ops of its own', () => {
  const folder = mkdtempSync(join(tmpdir(), 'prompt-ops-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  /** A shipped plan whose gate is this one. */
  const gated = (base: string, gate: string) => {
    const file = join(folder, `${base}-${gate.replaceAll(/\W/g, '')}.ts`);
    const text = `import { type f32, pointwise } from 'onelaunch/codegen';
import { resolvePlan, resolvePromptPlan } from 'onelaunch/configs';
const gated = pointwise((gate: f32, up: f32) => ${gate} * up);
const base = await ${base === 'prefill' ? 'resolvePromptPlan' : 'resolvePlan'}('${base}');
export default base.with('${base}-gated', {}, {}, { ops: { swiglu: gated } });
`;
    writeFileSync(file, text);
    return file;
  };
  const relu = 'Math.max(gate, 0)';

  test.each([
    ['the shipped one', () => gated('stream', relu), () => 'prefill'],
    ['that of none', () => 'stream', () => gated('prefill', relu)],
    ['another function', () => gated('stream', relu), () => gated('prefill', 'Math.min(gate, 0)')],
  ])('are those of the plan beside it: %s is refused', async (_, plan, promptPlan) => {
    const { code, err } = await gen('explain', ...asked, '--plan', plan(), '--prompt-plan', promptPlan());
    expect([code, err]).toEqual([
      2,
      expect.stringMatching(/^error: plan \S+ computes swiglu of a prompt otherwise than \S+ of/m),
    ]);
  });

  test('are printed for both where they are the same, and compared beside a plan that has them', async () => {
    const kernel = await kernelOf(gated('prefill', relu), gated('stream', relu));
    for (const file of ['kernel.cu', 'prompt.cu'])
      expect(kernel.sources[file]).toContain('ops::plan::gated(');
    const { out } = await gen('diff', 'prefill', gated('prefill', relu), ...asked);
    expect(out).toMatch(/^\+.*ops::plan::gated\(/m);
  });
});

describe('gen diff', () => {
  test('compares two plans for prompts', async () => {
    const { out } = await gen('diff', 'prefill', 'prefill', ...asked);
    expect(out).toBe('prefill and prefill make the same kernel of qwen3-0.6b on h100\n');
  });

  test.each([
    ['prefill', 'stream'],
    ['stream', 'prefill'],
  ])('refuses %s beside %s', async (a, b) => {
    const { code, err } = await gen('diff', a, b, ...asked);
    expect([code, err]).toEqual([
      2,
      expect.stringContaining('plan prefill takes in prompts, and stream decodes'),
    ]);
  });
});

test('explore and ablate, whose variants decode, do not take it', async () => {
  for (const command of ['explore', 'ablate'])
    expect((await gen(command, 'qwen3-tiny', '--prompt-plan', 'prefill')).code).toBe(2);
});

describe('what a library and a report say', () => {
  test('in the manifest: its plan, the tokens of a launch, the roundings of the way that has more', async () => {
    const [plain, both] = [await kernelOf(), await kernelOf('prefill')];
    expect(described(plain, [])).toMatchObject({ promptPlan: null, promptTokens: 0 });
    expect(described(both, [])).toMatchObject({
      ...{ name: 'qwen3-0.6b-h100-stream-prefill', plan: 'stream' },
      ...{ promptPlan: 'prefill', promptTokens: 2048 },
    });
    const most = Math.max(both.schedule.roundings.perLayer, both.prompts!.schedule.roundings.perLayer);
    expect(described(both, []).roundings.perLayer).toBe(most);
  });

  test('a report of a kernel with one is of other sources than one without', async () => {
    const [plain, both] = [await kernelOf(), await kernelOf('prefill')];
    const { dims } = plain.schedule;
    const report: Report = {
      ...{ kernel: plain.name, model: 'qwen3-0.6b', target: 'h100', plan: 'stream', dims: { ...dims } },
    };
    expect(both.name).not.toBe(plain.name);
    expect(both.hash).not.toBe(plain.hash);
    expect(await currentHash(report)).toBe(plain.hash);
    expect(await currentHash({ ...report, promptPlan: 'prefill' })).toBe(both.hash);
  });
});
