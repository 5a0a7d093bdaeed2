// gen profile of a prompt on the emulated GPU: what the kernels of prompts write down, and what is said of it.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { generate, type Kernel } from '../../codegen/index.ts';
import { matrixRowsOf } from '../../codegen/model/ops.ts';
import type { TilesSchedule } from '../../codegen/schemes/tiles/schedule.ts';
import { summarize, traceOf } from '../../lab/profile/index.ts';
import type { Profile } from '../../lab/profile/record.ts';
import { type Visit, visitsOf } from '../../lab/profile/visits.ts';
import { type AskedKernel, preflight } from '../../preflight.ts';
import { cannotEmulate, emulate } from '../support/emulate.ts';
import { emulatedManifest } from '../support/emulate-model.ts';
import { smallGpu } from '../support/small-gpu.ts';

const folder = mkdtempSync(join(tmpdir(), 'profile-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const root = join(import.meta.dirname, '../..');
const model = join(root, 'test/fixtures/qwen3-micro');
const blocks = 4;

/** What the command has built and recorded. */
const made = vi.hoisted(() => ({}) as { kernel: Kernel; profile: Profile });

// The emulator stands in for nvcc and the GPU. The library that is timed alone is that of the profile too: one is compiled.
vi.mock('../../codegen/build/can-run.ts', async (original) => ({
  ...(await original<object>()),
  checkDevice: () => {},
}));
vi.mock('../../load.ts', async (original) => ({
  ...(await original<object>()),
  buildKernel: async (asked: AskedKernel) => {
    const checked = await preflight(asked, { weights: true });
    made.kernel ??= await generate(checked);
    const library = await emulate(made.kernel, { profile: true });
    const manifest = emulatedManifest(made.kernel);
    const built = { kernel: made.kernel, manifest, library, directory: '', cached: true, millis: 0 };
    return { ...checked, modelDirectory: checked.directory, ...built };
  },
}));
vi.mock('../../lab/profile/index.ts', async (original) => {
  const lab = await original<typeof import('../../lab/profile/index.ts')>();
  const recordLaunch: typeof lab.recordLaunch = async (...given) =>
    (made.profile = await lab.recordLaunch(...given));
  return { ...lab, recordLaunch };
});

const why = cannotEmulate();
describe.skipIf(why !== null)(why ? `emulated (skipped: ${why})` : 'emulated', () => {
  const html = join(folder, 'profile.html');
  let written: { readonly out: string; readonly err: string };
  let schedule: TilesSchedule;
  let profile: Profile;
  beforeAll(async () => {
    const chunks = join(folder, 'chunks.ts');
    const prefill = join(root, 'configs/plans/prefill.ts');
    const text = `import prefill from '${prefill}';\nexport default prefill.with('chunks', {}, { tokens: 64 });\n`;
    writeFileSync(chunks, text);
    const plans = ['--plan', 'stream', '--prompt-plan', chunks];
    const asked = ['--target', smallGpu(folder, 'h100', blocks), ...plans, '--prompt', '130', '--runs', '1'];
    const { io, written: seen } = memoryIo();
    written = seen;
    const code = await run(['profile', model, ...asked, '--html', html], io);
    expect(code, written.err).toBe(0);
    profile = made.profile;
    schedule = made.kernel.prompts!.schedule as TilesSchedule;
  });

  test('the command says where the time of the launch goes, in a table and on a page', () => {
    for (const stage of ['embed', 'qkv', 'attention', 'attn_out', 'ffn_up', 'ffn_down', 'all'])
      expect(written.out).toMatch(new RegExp(`^${stage} `, 'm'));
    expect(written.out).toContain(`tokens 64 to 127, launch 2 of 2, mean of ${blocks} blocks`);
    expect(written.err).toMatch(/tok\/s of tokens 64 to 127, launch 2 of 2, .* while they are profiled/);
    expect(readFileSync(html, 'utf8')).toContain('tokens 64 to 127, launch 2 of 2, as they run');
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
