// Tiles for prompts: which barriers they have, that these suffice, that fewer would not do, and how a prompt is fed to them.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { choiceOf, estimate, generate, launchesOf, passesOf, passesText } from '../../codegen/index.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { isLegal } from '../../codegen/plan/check.ts';
import { tokensOfPass } from '../../codegen/prompts.ts';
import { tilesScheme } from '../../codegen/schemes/tiles/index.ts';
import { programOf } from '../../codegen/schemes/tiles/program.ts';
import { settleWeights } from '../../codegen/settle-weights.ts';
import { models } from '../../configs/models.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import { targetNamed } from '../../configs/targets.ts';
import { oddDims } from '../support/odd-dims.ts';
import { faultsOfTiles, unmissedTiles } from '../support/tiles.ts';

const qwen = models.find(({ name }) => name === 'qwen3-0.6b')!;
const some = ['h100', 'a100', 'rtx4090'].map((name) => targetNamed(name)!);
const [h100] = some;

/** Fused, and every norm and the heads as stages of their own: for heads that no tile holds, too. */
const apart = variants.find(({ name }) => name === 'prefill-apart')!;

test('the syncs of the plan for prompts', () => {
  const { syncs } = tilesScheme.lower(decoderGraph(qwen), prefill, h100!);
  expect(
    syncs.map(({ scope, after, reason }) => `${scope} after ${after.stage}: ${reason}`),
  ).toMatchInlineSnapshot(`
    [
      "grid after embed: attn_norm needs whole tokens of x, which embed makes in other blocks",
      "grid after qkv: attend needs whole q heads of qr, which rope makes in other blocks",
      "grid after attention: o_proj needs all of att, which attn_merge makes in other blocks",
      "grid after attn_out: ffn_norm needs whole tokens of x, which attn_add makes in other blocks",
      "grid after ffn_up: down_proj needs all of h, which swiglu makes in other blocks",
      "grid after ffn_down: attn_norm needs whole tokens of x, which ffn_add makes in other blocks",
      "grid after final_norm: lm_head needs all of xf, which final_norm makes in other blocks",
    ]
  `);
});

describe.each(some)('on $name', (target) => {
  test.each([...models, ...oddDims])('all conflicts of $name are ordered', (dims) => {
    const made = [...(isLegal(decoderGraph(dims), prefill, target) ? [prefill] : []), apart];
    for (const plan of made)
      expect(tilesScheme.uncovered(tilesScheme.lower(decoderGraph(dims), plan, target)), plan.name).toEqual(
        [],
      );
  });

  test.each(oddDims.slice(0, 2))('each sync of $name is missed where it is left out', (dims) => {
    expect(faultsOfTiles(dims, apart, target)).toEqual([]);
    const { syncs, unmissed } = unmissedTiles(dims, apart, target);
    expect(syncs).toHaveLength(9);
    expect(unmissed).toEqual([]);
  });
});

test('each sync of the plan for prompts is missed where it is left out', () => {
  expect(faultsOfTiles(qwen, prefill, h100!)).toEqual([]);
  const { syncs, unmissed } = unmissedTiles(qwen, prefill, h100!);
  expect(syncs).toHaveLength(7);
  expect(unmissed).toEqual([]);
});

test('matrices in blocks are unpacked when nobody reads those of the layer before', () => {
  const schedule = tilesScheme.lower(decoderGraph(settleWeights(qwen, 'int4')), prefill, h100!);
  expect(tilesScheme.uncovered(schedule)).toEqual([]);
  const syncs = schedule.syncs.filter(({ after }) => after.stage !== 'ffn_down');
  expect(tilesScheme.uncovered({ ...schedule, syncs })).toContainEqual(
    expect.objectContaining({
      ...{ kind: 'WAR', tensor: 'plain' },
      from: expect.objectContaining({ stage: 'ffn_down', layer: 0 }),
      to: expect.objectContaining({ stage: 'unpack', layer: 1 }),
    }),
  );
});

test.each(['int8', 'int4'] as const)(
  'a launch waits as often as its table says, with weights in %s too',
  (format) => {
    const settled = settleWeights(qwen, format);
    for (const [dims, tokens] of [
      [qwen, 64],
      [settled, 64],
      [settled, 500],
    ] as const) {
      const schedule = tilesScheme.lower(decoderGraph(dims), prefill, h100!);
      const { syncsPerToken, stages } = estimate(schedule, 0, tokens);
      // Once in front of the layers, then in each, and none that only the head needs.
      const meets = programOf(schedule, { blocks: 2, tokens, position: 0 }, 0).filter(
        (step) => step.kind === 'meet' && step.after !== 'final_norm',
      );
      const [first, second] = ['embed', 'ffn_down'].map((name) =>
        meets.findIndex((step) => step.kind === 'meet' && step.after === name),
      );
      expect(syncsPerToken).toBe(first! + 1 + dims.layers * (second! - first!));
      const unpack = stages.find(({ name }) => name === 'unpack');
      expect(unpack === undefined).toBe(dims === qwen);
      if (!unpack) continue;
      expect(unpack.syncs).toHaveLength(1);
      // Codes with their scales are read, numbers of 16 bits are written.
      const written = estimate(tilesScheme.lower(decoderGraph(qwen), prefill, h100!)).stages.reduce(
        (sum, { weightBytes }) => sum + weightBytes,
        0,
      );
      expect(unpack.weightBytes).toBeGreaterThan(written);
      expect(unpack.weightBytes).toBeLessThan(2 * written);
    }
  },
);

describe('the fewest tokens of a launch', () => {
  const leastOf = async (target = h100!, promptPlan = prefill) => {
    const kernel = await generate({ dims: qwen, plan: stream, promptPlan, target });
    return { kernel, least: launchesOf(kernel)!.least };
  };

  test('are those from which it is predicted quicker than passes', async () => {
    const { kernel, least } = await leastOf();
    for (const [tokens, isLaunch] of [
      [least - 1, false],
      [least, true],
      [500, true],
    ] as const) {
      const { passes, predicted, otherwise } = choiceOf(tokens, kernel);
      expect(passes.some(({ tile }) => tile !== null)).toBe(isLaunch);
      expect(predicted.micros).toBeLessThanOrEqual(otherwise!.micros!);
    }
  });

  test('are more where launches are dear, those of the plan where it says so, and never what a pass holds', async () => {
    const dear = { ...h100!, terms: { ...h100!.terms, chunk: 3000 } };
    expect((await leastOf(dear)).least).toBeGreaterThan((await leastOf()).least + 16);
    expect((await leastOf(dear, prefill.with('own', {}, { from: 100 }))).least).toBe(100);
    expect((await leastOf(dear, prefill.with('low', {}, { from: 1 }))).least).toBe(17);
  });
});

test('launches are longer only where that is predicted to save time', () => {
  const mostOf = (chunk: number) => {
    const target = { ...h100!, terms: { ...h100!.terms, chunk, tileStage: 0, barrier: 0 } };
    return tilesScheme.lower(decoderGraph(qwen), prefill, target).passTokens;
  };
  expect(mostOf(5000)).toBe(2048);
  expect(mostOf(0)).toBeLessThan(2048);
});

describe('a prompt', () => {
  const folder = mkdtempSync(join(tmpdir(), 'tiles-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  test('is cut as the host cuts it', () => {
    const host = readFileSync(join(import.meta.dirname, '../../templates/host/generate.h'), 'utf8');
    const [rule] = /inline int32_t tokens_of_pass\([\s\S]*?\n\}/.exec(host)!;
    const cases = [
      [16, 1024, 33, true],
      [16, 1024, 33, false],
      [16, 0, 0, false],
      [1, 64, 1, false],
      [1, 64, 2, true],
      [8, 9, 9, true],
      [16, 1024, 7, false],
    ] as const;
    const lefts = [1, 2, 6, 7, 8, 9, 10, 16, 17, 18, 33, 34, 48, 64, 65, 66, 1024, 1025, 1026, 5000];
    const program = `#include <algorithm>
      #include <cstdint>
      #include <cstdio>
      #include <tuple>
      struct Backend { int32_t most, least; bool logits; };
      int32_t backend_prompt_tokens(Backend* b) { return b->most; }
      int32_t backend_prompt_least(Backend* b) { return b->least; }
      bool backend_prompt_logits(Backend* b) { return b->logits; }
      static struct { int32_t pass_tokens; } kModel;
      ${rule}
      int main() {
        for (auto [pass, most, least, logits] : {${cases.map((numbers) => `std::tuple{${numbers}}`)}}) {
          kModel.pass_tokens = pass;
          Backend backend{most, least, logits};
          for (int left : {${lefts}}) printf("%d\\n", tokens_of_pass(&backend, left, 1));
        }
      }`;
    const binary = join(folder, 'cut');
    execFileSync('g++', ['-x', 'c++', '-std=c++17', '-o', binary, '-'], { input: program });
    const printed = execFileSync(binary, { encoding: 'utf8' }).trim().split('\n').map(Number);
    const ours = cases.flatMap(([pass, most, least, makesLogits]) =>
      lefts.map((left) => tokensOfPass(left, pass, most > 0 ? { most, least, makesLogits } : null)),
    );
    expect(printed).toEqual(ours);
  });

  test('goes through launches of tiles; its last token through a pass where these make no logits', async () => {
    const of = (dims = qwen) => generate({ dims, plan: stream, promptPlan: prefill, target: h100! });
    const kernel = await of();
    const text = (tokens: number) => passesText(passesOf(tokens, kernel));
    expect([1, 16, 17, 65, 1060, 3000].map(text)).toMatchInlineSnapshot(`
      [
        "1 pass of 1 token",
        "1 pass of 16 tokens",
        "1 pass of 16 tokens, 1 pass of 1 token",
        "1 launch of 65 tokens (tiles of 64)",
        "1 launch of 1,060 tokens (tiles of 128)",
        "1 launch of 2,048 tokens (tiles of 128), 1 launch of 952 tokens (tiles of 128)",
      ]
    `);
    const codes = await of(settleWeights(qwen, 'int8'));
    expect(passesText(passesOf(1060, codes))).toMatchInlineSnapshot(
      `"1 launch of 1,059 tokens (tiles of 128), 1 pass of 1 token"`,
    );
    expect(passesOf(3000, kernel).reduce((sum, { tokens }) => sum + tokens, 0)).toBe(3000);
    expect(passesText(passesOf(100, { ...kernel, prompts: null }))).toMatchInlineSnapshot(
      `"6 passes of 16 tokens, 1 pass of 4 tokens"`,
    );
  });
});
