// The derived syncs of random legal plans leave no race, none of them can be left out, and the simulator sees what it should see.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { render } from '../../codegen/emit/render.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph, type OpName, opNames } from '../../codegen/model/graph.ts';
import { isLegal } from '../../codegen/plan/check.ts';
import { withTokens } from '../../codegen/plan/edits.ts';
import { type FusionPlan, type Over, plan, type Stage, stage } from '../../codegen/plan/plan.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { lowerBarriers } from '../../codegen/schemes/barriers/lower.ts';
import type { BarrierSchedule } from '../../codegen/schemes/barriers/schedule.ts';
import { simulate } from '../../codegen/schemes/barriers/simulate.ts';
import { uncoveredBarriers as uncovered } from '../../codegen/schemes/barriers/uncovered.ts';
import { schemeOf } from '../../codegen/schemes/index.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import unfused from '../../configs/plans/unfused.ts';

const library = { attend: () => 8, sample: () => 8, staticBytes: 0, ringBytes: 0 };

/** A machine with `sms` blocks and room for everything. */
const tinyTarget = (sms: number): Target => ({
  name: 'tiny',
  kind: 'cuda',
  arch: '',
  sms,
  sharedBytes: 1e9,
  l2Bytes: 0,
  bandwidth: null,
  bandwidthFrom: 'unknown',
});

const schedule = (dims: ModelDims, made: FusionPlan, sms: number, tokens: number): BarrierSchedule =>
  lowerBarriers(decoderGraph(dims), withTokens(made, tokens), tinyTarget(sms), library);

const without = (made: BarrierSchedule, sync: BarrierSchedule['syncs'][number]): BarrierSchedule => ({
  ...made,
  syncs: made.syncs.filter((other) => other !== sync),
});

/** A model of the same family with everything a few elements long; row counts stay different from each other. */
const shrink = (dims: ModelDims, sizes: Partial<ModelDims> = {}): ModelDims => ({
  ...dims,
  layers: 2,
  hidden: 6,
  ffn: 8,
  qHeads: 6,
  kvHeads: 3,
  headDim: 2,
  vocab: 10,
  ...sizes,
});

const pure: readonly OpName[] = ['attn_norm', 'qk_norm', 'rope', 'attn_merge', 'ffn_norm', 'final_norm'];

/** Every legal stage, by its first op: all a stage's rules are about itself and who reads its results. */
function legalStages(): Map<OpName, Stage[]> {
  const graph = decoderGraph(shrink(models[0]!));
  const overs: readonly Over[] = ['rows', 'q_heads', 'kv_heads', 'tokens', 'once'];
  const stages = opNames.flatMap((first, i) =>
    [1, 2, 3, 4, 5].flatMap((count) => {
      const ops = opNames.slice(i, i + count);
      return subsets(ops.filter((op) => pure.includes(op))).flatMap((recompute) =>
        overs.flatMap((over) =>
          [{}, { split: 'positions' } as const].map((split) =>
            stage(`${first}_${count}`, ops, { over, recompute, ...split }),
          ),
        ),
      );
    }),
  );
  const found = new Map<OpName, Stage[]>(opNames.map((op) => [op, []]));
  for (const made of stages) {
    if (isLegal(graph, around(made), tinyTarget(4))) found.get(made.ops[0]!)!.push(made);
  }
  return found;
}

const subsets = <T>(list: readonly T[]): T[][] =>
  list.reduce<T[][]>((all, item) => all.concat(all.map((one) => one.concat([item]))), [[]]);

/** The unfused plan with one stage in the place of its ops. */
const around = (made: Stage): FusionPlan =>
  plan('random', [
    ...unfused.stages.slice(0, opNames.indexOf(made.ops[0]!)),
    made,
    ...unfused.stages.slice(opNames.indexOf(made.ops.at(-1)!) + 1),
  ]);

const legal = legalStages();

/** A legal plan: stage after stage, each chosen among the legal ones that begin where the last ended. */
const plans = fc.array(fc.nat(99), { minLength: 18, maxLength: 18 }).map((choices) => {
  const stages: Stage[] = [];
  let next = 0;
  while (next < opNames.length) {
    const options = legal.get(opNames[next]!)!;
    const chosen = options[choices[stages.length]! % options.length]!;
    stages.push(chosen);
    next += chosen.ops.length;
  }
  return plan('random', stages);
});

const dims = fc
  .record({
    model: fc.constantFrom(...models),
    kvHeads: fc.integer({ min: 1, max: 3 }),
    group: fc.integer({ min: 1, max: 2 }),
    headDim: fc.integer({ min: 1, max: 3 }),
    hidden: fc.integer({ min: 1, max: 7 }),
    ffn: fc.integer({ min: 1, max: 7 }),
    layers: fc.integer({ min: 1, max: 3 }),
  })
  .map(({ model, group, ...sizes }) => shrink(model, { ...sizes, qHeads: sizes.kvHeads * group }));

/**
 * Dims of which some block gets several heads and each a row, and no two counts of rows are the same, nor those of heads: with one q head
 * for each kv head the barrier between a stage over the ones and a stage over the others is not needed.
 */
const roomyDims = fc
  .record({
    model: fc.constantFrom(...models),
    kvHeads: fc.integer({ min: 3, max: 4 }),
    group: fc.integer({ min: 2, max: 3 }),
    headDim: fc.integer({ min: 2, max: 3 }),
    hidden: fc.integer({ min: 6, max: 7 }),
    ffn: fc.integer({ min: 8, max: 11 }),
    layers: fc.integer({ min: 2, max: 3 }),
  })
  .map(({ model, group, ...sizes }) => shrink(model, { ...sizes, qHeads: sizes.kvHeads * group }));

/** The kernel of a schedule without its comments, which tell of syncs too. */
function codeOf(built: BarrierSchedule): string {
  const scheme = schemeOf(built);
  const view = scheme.view(built, { command: 'gen', ops: [] });
  return render(scheme.templates(built.target).kernel, view).replaceAll(/ *\/\/.*/g, '');
}

const machines = fc.record({
  blocks: fc.integer({ min: 1, max: 5 }),
  warps: fc.integer({ min: 1, max: 3 }),
  tokens: fc.integer({ min: 1, max: 4 }),
  position: fc.integer({ min: 0, max: 5 }),
  seed: fc.integer(),
});

/** With fewer blocks than heads a block takes several units, with two warps threads of a block can race. */
const smallMachines = [
  { blocks: 2, warps: 2, tokens: 3, position: 5, seed: 1 },
  { blocks: 3, warps: 3, tokens: 2, position: 4, seed: 2 },
];

const races = (built: BarrierSchedule): boolean =>
  smallMachines.some((machine) => simulate(built, machine).some((fault) => fault.kind === 'race'));

// With one part the positions are not really cut, and the barrier between a stage that cuts them and one that does not is not needed.
const severalParts = fc.constantFrom(6, 9);

describe('random legal plans', () => {
  test('a legal plan has no race, no stale read and no deadlock, on any number of blocks', () => {
    fc.assert(
      fc.property(plans, dims, machines, fc.integer({ min: 1, max: 9 }), (made, shape, machine, sms) => {
        expect(isLegal(decoderGraph(shape), made, tinyTarget(sms))).toBe(true);
        const built = schedule(shape, made, sms, machine.tokens);
        expect(simulate(built, machine)).toEqual([]);
        expect(uncovered(built)).toEqual([]);
      }),
      { numRuns: 100 },
    );
  });

  test('dropping any sync is printed, lets the simulator see a race and leaves a conflict uncovered', () => {
    fc.assert(
      fc.property(plans, roomyDims, severalParts, (made, shape, sms) => {
        const built = schedule(shape, made, sms, 3);
        const code = codeOf(built);
        for (const sync of built.syncs) {
          const less = without(built, sync);
          const what = `${sync.scope} after ${sync.after.stage} ${sync.after.phase}`;
          expect(codeOf(less) !== code, what).toBe(true);
          expect(races(less), what).toBe(true);
          expect(uncovered(less), what).not.toEqual([]);
        }
      }),
      { numRuns: 12 },
    );
  });
});

/** A model scaled down: at most three kv heads, and three q heads for each. */
const scaled = (dims: ModelDims): ModelDims => {
  const kvHeads = Math.min(3, dims.kvHeads);
  return shrink(dims, { kvHeads, qHeads: kvHeads * Math.min(3, dims.qHeads / dims.kvHeads) });
};

describe.each([cooperative, unfused])('plan $name', (made) => {
  test.each(models)('has no fault on a small $name, and needs every sync', (model) => {
    const built = schedule(scaled(model), made, 7, 3);
    for (const machine of smallMachines) expect(simulate(built, machine)).toEqual([]);
    for (const sync of built.syncs) {
      expect(races(without(built, sync)), JSON.stringify(sync.after)).toBe(true);
    }
  });
});

describe('the simulator', () => {
  const built = schedule(shrink(models[0]!), cooperative, 7, 2);
  const machine = { blocks: 3, warps: 2, tokens: 2, position: 3, seed: 7 };

  test('a warp that leaves out a barrier stops the others for good', () => {
    const faults = simulate(built, {
      ...machine,
      skips: (sync, block, warp) =>
        sync.after.stage === 'ffn_up' && sync.scope === 'grid' && block + warp === 0,
    });
    expect(faults.map((fault) => fault.kind)).toContain('deadlock');
    expect(faults.at(-1)!.text).toMatchInlineSnapshot(
      `"warp 0 of block 0 waits at the sync of block 0 after ffn_down, passage 9 for others that never come"`,
    );
  });

  test('scratch placed over other scratch is seen as a stale read, though every access is ordered', () => {
    const { qr, kr } = built.tensors;
    expect(qr).toMatchObject({ space: 'scratch' });
    const clash = {
      ...built,
      tensors: { ...built.tensors, kr: { ...qr!, stride: 2 } as typeof kr & object },
    };
    expect(simulate(clash, { ...machine, warps: 1 }).map((fault) => fault.kind)).toContain('stale');
  });

  test('a stage that never ran is seen as a read of what nobody wrote', () => {
    const stages = built.stages.filter((made) => made.name !== 'qkv');
    const [fault] = simulate({ ...built, stages }, machine);
    expect(fault).toMatchInlineSnapshot(`
      {
        "kind": "unwritten",
        "text": "q: attention phase 0 of layer 0 reads what nobody wrote",
      }
    `);
  });
});
