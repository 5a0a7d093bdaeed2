// Profiles of prompts: which launch is profiled, what its results need, and what is said of it.
import { beforeAll, describe, expect, it } from 'vitest';
import { launchTable } from '../../cli/profile-table.ts';
import { estimate, generate, type Kernel, launchesOf } from '../../codegen/index.ts';
import type { TilesSchedule } from '../../codegen/schemes/tiles/schedule.ts';
import prefill from '../../configs/plans/prefill.ts';
import stream from '../../configs/plans/stream.ts';
import { resolveModel, resolveTarget } from '../../configs/resolve.ts';
import { spreadOf } from '../../lab/measure.ts';
import { figuresOf, launchOf, launchText, profilePage, summarize } from '../../lab/profile/index.ts';
import type { Profile } from '../../lab/profile/record.ts';
import type { Phase, TrackEvent } from '../../runtime/engine/profile-events.ts';
import { oddDims } from '../support/odd-dims.ts';

const { dims } = resolveModel('qwen3-0.6b');
let kernel: Kernel;
let schedule: TilesSchedule;
beforeAll(async () => {
  kernel = await generate({ dims, plan: stream, promptPlan: prefill, target: resolveTarget('h100') });
  schedule = kernel.prompts!.schedule as TilesSchedule;
});

describe('the launch', () => {
  it('is the last one, or the one that is asked for', () => {
    const text = (prompt: number, number?: number) => launchText(launchOf(kernel, prompt, number));
    expect(text(1000)).toBe('tokens 0 to 999');
    expect(text(5000)).toBe('tokens 4,096 to 4,999, launch 3 of 3');
    expect(text(5000, 2)).toBe('tokens 2,048 to 4,095, launch 2 of 3');
  });

  it('is refused where there is none', () => {
    const hintOf = (...asked: [number, number?]) => {
      try {
        return launchOf(kernel, ...asked);
      } catch (error) {
        return [(error as Error).message, (error as { hint?: string }).hint];
      }
    };
    const { least } = launchesOf(kernel)!;
    expect(hintOf(16)).toEqual([
      'a prompt of 16 tokens has no launch: passes take it in',
      `ask for --prompt ${least} or more`,
    ]);
    expect(hintOf(least - 1)).toHaveLength(2);
    expect(hintOf(least)).toMatchObject({ position: 0, tokens: least });
    expect(hintOf(5000, 4)).toEqual([
      "--launch is '4', and a prompt of 5000 tokens has 3 launches",
      'for example: --launch 3',
    ]);
  });
});

describe('what the results need', () => {
  /** Every row of every product and every pair of a query and a position that it sees, one by one. */
  function plainFlop(model: typeof dims, position: number, tokens: number) {
    const { hidden, ffn, headDim, qHeads, kvHeads, layers, kinds, pattern } = model;
    let pairs = 0;
    for (let layer = 0; layer < layers; layer++) {
      const { window } = kinds.find(({ name }) => name === pattern[layer % pattern.length])!;
      for (let query = position; query < position + tokens; query++)
        for (let key = 0; key <= query; key++) if (window === null || query - key < window) pairs++;
    }
    const q = qHeads * headDim;
    return {
      qkv: 2 * tokens * hidden * (q + 2 * kvHeads * headDim),
      attention: (4 * pairs * q) / layers,
      attn_out: 2 * tokens * q * hidden,
      ffn_up: 2 * tokens * hidden * 2 * ffn,
      ffn_down: 2 * tokens * ffn * hidden,
    };
  }

  const flopOf = (made: TilesSchedule, position: number, tokens: number) =>
    Object.fromEntries(
      estimate(made, position, tokens).stages.flatMap(({ name, flop }) =>
        flop === null ? [] : [[name, flop]],
      ),
    );

  it('is counted by what causal attention sees, and by no more tokens than there are', () => {
    expect(flopOf(schedule, 200, 99)).toEqual(plainFlop(dims, 200, 99));
  });

  it('knows windows', () => {
    const windows = oddDims[1]!;
    const { attention } = flopOf({ ...schedule, dims: windows }, 40, 80);
    expect(attention).toBeCloseTo(plainFlop(windows, 40, 80).attention, 3);
  });
});

describe('what is said of it', () => {
  const launch = { position: 1024, tokens: 500, launch: { number: 2, count: 2 } };
  const stageMicros = 20;
  /** Two blocks go through qkv and attention of all layers: the second has nothing to do in qkv. */
  const events: TrackEvent[] = [0, 1].flatMap((block) =>
    Array.from({ length: 2 * dims.layers }, (_, at): TrackEvent[] => {
      const [layer, stage] = [at >> 1, 1 + (at % 2)];
      const begin = at * stageMicros * 1000;
      const event = (phase: Phase, from: number, to: number): TrackEvent => ({
        ...{ block, role: 'block', stage, layer, phase, position: launch.position },
        ...{ begin: begin + from * 1000, end: begin + to * 1000 },
      });
      if (block === 1 && stage === 1) return [event('others', 0, stageMicros)];
      const works = [event('weights', 0, 2), event('compute', 2, 9), event('publish', 9, 12)];
      return [...works, event('others', 12, stageMicros)];
    }).flat(),
  );
  const tell = () => {
    const summary = summarize(
      events,
      schedule.stages.map(({ name }) => name),
    );
    return { summary, figures: figuresOf(summary, schedule, launch) };
  };

  it('has the rate of each product and of attention in the time of its stage, beside what was predicted', () => {
    const { summary, figures } = tell();
    const micros = dims.layers * stageMicros;
    const cost = estimate(schedule, launch.position, launch.tokens, true);
    const flop = (name: string) => dims.layers * cost.stages.find((stage) => stage.name === name)!.flop!;
    expect(summary.stages.map(({ stage, total }) => [stage, total])).toEqual([
      ['qkv', micros],
      ['attention', micros],
    ]);
    expect(figures.stages.map(({ teraflops }) => teraflops)).toEqual([
      flop('qkv') / micros / 1e6,
      flop('attention') / micros / 1e6,
    ]);
    expect(figures.all.predicted).toBe(cost.micros);
    expect(figures.stages[0]!.predicted).toBeLessThan(cost.micros!);
  });

  it('has the blocks that work less: median, nine tenths and all', () => {
    const [qkv, attention] = tell().summary.stages;
    const works = 12 * dims.layers;
    expect(qkv!.working).toEqual({ median: 0, p90: works });
    expect(attention!.working).toEqual({ median: works, p90: works });
    expect(qkv!.slowest).toEqual({ block: 0, working: works });
  });

  it('is a table, and a page that speaks of the launch', () => {
    const { summary, figures } = tell();
    const said = { launch: launchText(launch), seen: 'Seen.' };
    const table = launchTable(summary, figures, said).split('\n');
    expect(table[0]).toMatch(/^stage +visits +us +share +predicted +TFLOP\/s +operands/);
    expect(table[1]).toMatch(/^qkv +28 +560\.0 +50\.0 % /);
    expect(table.join(' ')).toContain('tokens 1,024 to 1,523, launch 2 of 2, mean of 2 blocks');
    const overhead = { without: spreadOf([9000]), with: spreadOf([8000]), ratio: spreadOf([1.1]) };
    const profile: Profile = {
      ...launch,
      sequences: 1,
      kernel: 'k',
      device: 'd',
      runs: 1,
      missed: 0,
      events,
      overhead,
    };
    const html = profilePage(schedule, profile, summary, { shown: events, figures });
    expect(html).toContain("Where a prompt's time goes");
    expect(html).toContain('tokens 1,024 to 1,523, launch 2 of 2, as they run');
    expect(html).toContain(`<td class="n">${figures.stages[1]!.teraflops!.toFixed(1)}</td>`);
    expect(html).not.toMatch(/a token|the token|position 1024/);
  });
});
