// --vary as plans: what is read, what is refused, what falls together, and a plan as a file again.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { generate } from '../../codegen/index.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { parsePlan } from '../../codegen/plan/parse-plan.ts';
import { byContext, type FusionPlan, stream } from '../../codegen/plan/plan.ts';
import { schemeOptions } from '../../codegen/plan/shape.ts';
import { resolveModel, resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import type { OnelaunchError } from '../../errors.ts';
import { alone, optionVariants } from '../../lab/ablate.ts';
import { candidatesOf, combinationsOf } from '../../lab/enumerate.ts';
import { allValues, optionText, othersThan, readOption } from '../../lab/option-values.ts';
import { mark, planFile } from '../../lab/plan-file.ts';
import { choicesOf, sizeOf } from '../../lab/space.ts';
import { readVary } from '../../lab/vary.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-space-'));
afterAll(() => rmSync(folder, { recursive: true }));

const { dims } = resolveModel('qwen3-tiny');
const graph = decoderGraph(dims);
const cpu = resolveTarget('cpu');
const h100 = resolveTarget('h100');
const cooperative = await resolvePlan('cooperative');
const ringed = await resolvePlan('stream');

const choices = (vary: string, base: FusionPlan = cooperative, target = cpu) =>
  choicesOf(readVary([vary]), { graph, base, target });
const texts = (vary: string, base?: FusionPlan) =>
  choices(vary, base).map((axis) => axis.map(({ text }) => text));

const explored = (vary: string, base: FusionPlan = cooperative, target = cpu) => {
  const axes = choices(vary, base, target);
  const input = { dims, target, base, positions: [1, 200] };
  return candidatesOf(combinationsOf(axes, base, null), input, sizeOf(axes));
};
const labels = ({ candidates }: Awaited<ReturnType<typeof explored>>) =>
  candidates.map(({ record }) => record.label);

describe('--vary', () => {
  it('is keys with values: ranges, lists, all', () => {
    expect(readVary(['prefetch=0..3,attention=*', 'slots=8,10, 12'])).toEqual([
      { key: 'prefetch', values: ['0', '1', '2', '3'] },
      { key: 'attention', values: ['*'] },
      { key: 'slots', values: ['8', '10', '12'] },
    ]);
  });

  it.each([
    ['prefetch', "--vary 'prefetch' has no values behind the key 'prefetch'"],
    ['=3', "--vary '=3' has no key at '=3'"],
    ['prefetch=', "--vary 'prefetch=' has no value at 'prefetch='"],
    ['prefetch=3..1', "has the range '3..1', from more to less or too long"],
    ['prefetch=a..b', "has 'a..b', which is no range of whole numbers"],
    ['prefetch=1,prefetch=2', "has 'prefetch' twice"],
    ['prefetsh=1', "--vary has an unknown key 'prefetsh'"],
    ['prefetch=9', "--vary has 'prefetch=9', and prefetch has no such value"],
    ['slots=8', "--vary has 'slots', an option of stream(), and cooperative has barriers()"],
    ['window=2', "--vary has 'window', an option of stream(), and cooperative has barriers()"],
    ['tokenTile=64', "--vary has 'tokenTile', an option of tiles(), and cooperative has barriers()"],
    ['scheme=base,slots=8', "--vary has 'slots', an option of stream(), and cooperative has barriers()"],
    ['constructor=*', "--vary has an unknown key 'constructor'"],
    ['scheme=streams', "--vary has 'scheme=streams', and scheme has no such value"],
    ['attn_norm=onw', "--vary has 'attn_norm=onw', and attn_norm has no such value"],
    ['embed=split', "--vary has 'embed=split', and embed has no such value"],
    ['tokens=*', "tokens has too many values for '*': it takes 'many', a whole number"],
  ])('%s is refused', (vary, message) => {
    expect(() => choices(vary)).toThrow(message);
  });

  it('names as known what the scheme of the plan has', () => {
    const hint = (base: FusionPlan) => {
      try {
        choices('slotz=1', base, h100);
        return '';
      } catch (error) {
        return (error as OnelaunchError).hint ?? '';
      }
    };
    expect([hint(cooperative), hint(ringed)].map((text) => text.includes(' window,'))).toEqual([false, true]);
  });

  it.each([
    ['slots=9.5', 'it takes: a whole number from 4 to 64'],
    ['slots=xx', 'it takes: a whole number from 4 to 64'],
    ['handoff=epok', "did you mean 'epoch'? it takes: 'sentinel', 'epoch'"],
  ])('%s: no number is what was meant', (vary, hint) => {
    expect(() => choices(vary, ringed)).toThrow(expect.objectContaining({ hint }));
  });

  it('refuses an option under two names', () => {
    expect(() => choices('window=1,copiesInFlight=2', ringed)).toThrow("--vary has 'copiesInFlight' twice");
  });

  it.each([
    ['prefetsh=1', "did you mean 'prefetch'? known: prefetch, prefetchBy"],
    ['attn_norm=onw', "did you mean 'own'? it takes: own:tokens"],
    ['prefetch=9', 'it takes: a whole number from 0 to 8'],
    ['slots=9', "give a --plan with stream(), or vary 'scheme=stream', too"],
    ['slots=3,scheme=stream', 'it takes: a whole number from 4 to 64'],
    [
      'splits=4,scheme=stream',
      "it takes: 'fit', or up to 16 splits and the position from which on: 1:0+4:128",
    ],
    ['pollCycles=4,scheme=stream', "it takes: 'fit'; cycles are given in a plan file"],
  ])('%s is answered with %j', (vary, hint) => {
    expect(() => choices(vary)).toThrow(expect.objectContaining({ hint: expect.stringContaining(hint) }));
  });

  it('knows every value of every option of shape.ts, or that there is no end of them', () => {
    for (const [kind, options] of Object.entries(schemeOptions)) {
      for (const key of Object.keys(options)) {
        const values = allValues(kind as 'barriers', key);
        for (const value of values ?? [])
          expect(readOption(kind as 'barriers', key, optionText(value)!)).toEqual(value);
        expect(values === null || values.length > 0, key).toBe(true);
      }
    }
    expect(allValues('barriers', 'prefetch')).toHaveLength(9);
    expect(allValues('stream', 'slotBytes')).toEqual(['fit', 4096, 8192, 16384, 32768]);
    expect(othersThan('stream', 'slots', 12)).toEqual([6, 24]);
    expect(othersThan('stream', 'copiesInFlight', 'fit')).toEqual([1, 2, 4, 8]);
    expect(othersThan('barriers', 'tokens', 'many')).toEqual([1]);
  });

  it('reads an op and a stage as what can become of them', () => {
    expect(texts('attn_norm=*')).toEqual([['base', 'own:tokens', 'recompute:qkv']]);
    expect(texts('attention=split,unsplit,q_heads')).toEqual([['kv_heads:split', 'kv_heads', 'q_heads']]);
    expect(texts('window=1..3', ringed)).toEqual([['1', '2', '3']]);
    expect(texts('scheme=*,slots=8,prefetch=2')).toEqual([['base', 'stream'], ['8'], ['2']]);
    expect(texts('splits=fit,1:0+16:192', ringed)).toEqual([['fit', '1:0+16:192']]);
  });
});

describe('variants', () => {
  it('are named by what differs, and those of equal sources are one', async () => {
    const found = await explored('tokens=many,1,attn_norm=own,base');
    expect(labels(found)).toEqual([
      ...['cooperative', 'cooperative+attn_norm=own:tokens', 'cooperative+tokens=1+attn_norm=own:tokens'],
      'cooperative+tokens=1',
    ]);
    expect(new Set(found.candidates.map(({ record }) => record.id)).size).toBe(4);
    // A norm that is recomputed where it is already.
    const same = await explored('attn_norm=base,recompute:qkv');
    expect(labels(same)).toEqual(['cooperative']);
    expect(same.dropped.alike).toBe(1);
    expect(same.candidates[0]!.record.alike).toEqual(['cooperative+attn_norm=recompute:qkv']);
  });

  it('of which one edit leaves another nothing to change are illegal, too', async () => {
    const { candidates, dropped } = await explored('ffn_add=own,base,down_proj=into:ffn_down');
    expect(candidates.map(({ record }) => record.label)).toEqual(['cooperative']);
    expect([...dropped.illegal]).toEqual([
      ['unknown-stage', { count: 1, why: "down_proj is all that stage 'ffn_down' has" }],
    ]);
  });

  it('that are illegal are counted by rule, with the first reason', async () => {
    const { candidates, dropped } = await explored('attn_norm=into:qkv,own');
    expect(candidates).toHaveLength(2);
    expect([...dropped.illegal]).toEqual([
      [
        'cannot-deal',
        { count: 1, why: "attn_norm works on whole tokens, so it cannot be dealt over 'rows'" },
      ],
    ]);
  });

  it('that ask for more than fits are counted by what they get; a CPU has no such options', async () => {
    const cutOf = async (base: FusionPlan, target: typeof cpu) => [
      ...(await explored('blocks=3,900', base, target)).dropped.cut,
    ];
    expect(await cutOf(cooperative, h100)).toEqual([
      [`${h100.sms} of 900 blocks`, { count: 1, first: 'cooperative+blocks=900' }],
    ]);
    expect(await cutOf(cooperative, cpu)).toEqual([]);
    const { dropped } = await explored('slots=8,60,64', ringed, h100);
    expect([...dropped.cut.values()]).toEqual([
      { count: 1, first: 'stream+slots=60' },
      { count: 1, first: 'stream+slots=64' },
    ]);
  });

  it('have options of the scheme that they chose only', async () => {
    const found = await explored('scheme=barriers,stream,slots=8,base', ringed, h100);
    expect(new Set(labels(found))).toEqual(new Set(['stream', 'stream+scheme=barriers', 'stream+slots=8']));
    expect(found.dropped.pointless).toBe(1);
  });

  it('are the same plan when they are read from a journal', async () => {
    const { candidates } = await explored('attn_norm=own');
    const { plan, id } = candidates[1]!.record;
    expect(
      (await generate({ dims, target: cpu, plan: parsePlan(JSON.parse(JSON.stringify(plan))) })).hash,
    ).toBe(id);
    expect(JSON.stringify(plan)).not.toContain('/configs/');
  });

  it('of an ablation differ in one thing each', () => {
    const made = optionVariants(ringed.with('tuned', {}, { slots: 10 }));
    expect(made.filter(({ label }) => label.includes('slots')).map(({ label }) => label)).toEqual([
      ...['tuned+slots=12', 'tuned+slots=5', 'tuned+slots=20'],
    ]);
    expect(made.every(({ edits }) => Object.keys(edits).length === 1)).toBe(true);
    const each = alone(cooperative, choices('attn_norm=own,prefetch=0..2'));
    expect(each.map(({ label }) => label)).toEqual([
      ...['cooperative+attn_norm=own:tokens', 'cooperative+prefetch=1', 'cooperative+prefetch=2'],
    ]);
  });
});

describe('a plan as a file', () => {
  const changed =
    "import { type f32, pointwise } from 'onelaunch/codegen';\nimport { resolvePlan } from 'onelaunch/configs';\n" +
    'const swiglu = pointwise((gate: f32, up: f32) => Math.max(gate, 0) * up);\n' +
    "export default (await resolvePlan('cooperative')).with('relu', {}, {}, { ops: { swiglu } });\n";
  writeFileSync(join(folder, 'relu.ts'), changed);

  it.each([
    ['cooperative', cpu, async () => cooperative],
    [
      'a plan of every option',
      h100,
      async () =>
        ringed.with(
          'it-s',
          {},
          stream({
            slots: 8,
            slotBytes: 16384,
            handoff: 'epoch',
            tokens: 8,
            splits: byContext({ 1: 0, 16: 192 }),
          }),
        ),
    ],
    ['one with an op of its own', cpu, () => resolvePlan(join(folder, 'relu.ts'))],
    [
      'a variant of that one',
      cpu,
      async () => (await resolvePlan(join(folder, 'relu.ts'))).with('varied', {}, { tokens: 1 }),
    ],
  ])('%s is the same kernel when it is read again', async (name, target, made) => {
    const plan = await made();
    const path = join(folder, `${name.replaceAll(' ', '-')}.ts`);
    writeFileSync(path, planFile(plan, 'a note\nof two lines', path, join(folder, 'relu.ts')));
    expect(readFileSync(path, 'utf8').split('\n')[0]).toBe(`${mark}a note of two lines`);
    const hashOf = async (one: FusionPlan) => (await generate({ dims, target, plan: one })).hash;
    expect(await hashOf(await resolvePlan(path))).toBe(await hashOf(plan));
  });
});
