// A profile of a prompt on the emulated GPU: what the kernels of prompts write down.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { generate } from '../../codegen/index.ts';
import { matrixRowsOf } from '../../codegen/model/ops.ts';
import type { TilesSchedule } from '../../codegen/schemes/tiles/schedule.ts';
import prefill from '../../configs/plans/prefill.ts';
import { launchOf, recordLaunch, summarize, traceOf } from '../../lab/profile/index.ts';
import type { Profile } from '../../lab/profile/record.ts';
import { type Visit, visitsOf } from '../../lab/profile/visits.ts';
import { preflight } from '../../preflight.ts';
import { cannotEmulate } from '../support/emulate.ts';
import { prepareEngine } from '../support/emulate-model.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'profile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = join(import.meta.dirname, '../fixtures/qwen3-micro');
const blocks = 4;

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  let schedule: TilesSchedule;
  let profile: Profile;
  beforeAll(async () => {
    const promptPlan = prefill.with('chunks', {}, { tokens: 64 });
    const target = smallGpu(folder, 'h100', blocks);
    const checked = await preflight({ model, plan: 'stream', promptPlan, target }, { weights: true });
    const kernel = await generate(checked);
    schedule = kernel.prompts!.schedule as TilesSchedule;
    // That of the engine that runs is not compiled for this: it is only timed.
    const engine = await (await prepareEngine(checked, kernel, { profile: true }))(138);
    try {
      const pair = { kernel: kernel.name, plain: engine, profiled: engine };
      const control = { signal: new AbortController().signal, onRun: () => {} };
      profile = await recordLaunch(pair, { ...launchOf(kernel, 130), runs: 1 }, control);
    } finally {
      engine.close();
    }
  });

  const tracks = (): Visit[][] => {
    const of = (block: number) => profile.events.filter((event) => event.block === block);
    return Array.from({ length: blocks }, (_, block) => visitsOf(of(block)));
  };
  const nameOf = ({ stage }: Visit) => schedule.stages[stage]!.name;

  test('it has the last launch alone, and room for all of it', () => {
    expect(profile).toMatchObject({ missed: 0, position: 64, tokens: 64, launch: { number: 2, count: 2 } });
    expect(new Set(profile.events.map(({ position }) => position))).toEqual(new Set([64]));
    expect(new Set(profile.events.map(({ role }) => role))).toEqual(new Set(['block']));
  });

  test('each block goes through all stages of all layers, and all but the last to arrive wait behind each', () => {
    const { layers } = schedule.dims;
    const ofLayer = (layer: number) =>
      ['qkv', 'attention', 'attn_out', 'ffn_up', 'ffn_down'].map((name) => `${name} ${layer}`);
    const expected = [
      `embed ${layers}`,
      ...Array.from({ length: layers }, (_, layer) => ofLayer(layer)).flat(),
    ];
    for (const visits of tracks()) {
      expect(visits.map((visit) => `${nameOf(visit)} ${visit.layer}`)).toEqual(expected);
    }
    for (const [at, name] of expected.entries()) {
      const ends = tracks().map((visits) => visits[at]!.events.at(-1)!.phase);
      expect(ends.filter((phase) => phase === 'others').length, name).toBeGreaterThanOrEqual(blocks - 1);
    }
  });

  test('a product has first operands, sums and results for each tile that a block has', () => {
    const [kernel] = schedule.kernels;
    for (const [block, visits] of tracks().entries()) {
      for (const visit of visits) {
        const { body, op } = schedule.stages[visit.stage]!;
        const phases = visit.events.map(({ phase }) => phase);
        if (body !== 'product') {
          expect(phases.filter((phase) => phase === 'weights' || phase === 'publish')).toEqual([]);
          continue;
        }
        const tiles = Math.ceil(matrixRowsOf(op, schedule.dims) / kernel!.rows[op]!);
        const own = Array.from({ length: tiles }, (_, tile) => tile).filter(
          (tile) => tile % blocks === block,
        );
        const works = phases.filter((phase) => phase !== 'meet' && phase !== 'others').join(' ');
        expect(works, `${nameOf(visit)} in block ${block}`).toMatch(
          new RegExp(`^(weights compute publish ?){${own.length}}(compute)?$`),
        );
      }
    }
  });

  test('it adds up, and is a trace whose flows lead from the last to arrive', () => {
    const names = schedule.stages.map(({ name }) => name);
    const { total } = summarize(profile.events, names);
    const all = profile.events.reduce((sum, { begin, end }) => sum + end - begin, 0);
    expect(total).toBeCloseTo(all / 1000 / blocks, 6);
    const starts = traceOf(schedule, profile.events).filter(({ ph }) => ph === 's');
    expect(starts.length).toBeGreaterThan(0);
    expect(new Set(starts.map(({ name }) => name))).toEqual(new Set(['barrier']));
  });
});
