// Random legal stream plans and tiny launches of them, for properties.
import fc from 'fast-check';
import { render } from '../../codegen/emit/render.ts';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { decoderGraph } from '../../codegen/model/graph.ts';
import { isLegal } from '../../codegen/plan/check.ts';
import {
  byContext,
  dealt,
  type FusionPlan,
  into,
  own,
  type PlanEdit,
  stream,
} from '../../codegen/plan/plan.ts';
import type { Sync } from '../../codegen/schedule/syncs.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { streamScheme } from '../../codegen/schemes/stream/index.ts';
import { lowerStream } from '../../codegen/schemes/stream/lower.ts';
import type { StreamSchedule } from '../../codegen/schemes/stream/schedule.ts';
import { simulateStream } from '../../codegen/schemes/stream/simulate.ts';
import type { StreamSimulation } from '../../codegen/schemes/stream/simulated-workers.ts';
import { uncoveredStream } from '../../codegen/schemes/stream/uncovered.ts';
import { models } from '../../configs/models.ts';
import base from '../../configs/plans/stream.ts';
import { targetNamed } from '../../configs/targets.ts';

export const h100 = targetNamed('h100')!;

const once = own({ over: 'tokens' });
const rows = own({ over: 'rows' });

/** What can be changed about the shipped plan, each on its own. */
const changes: readonly Readonly<Record<string, PlanEdit>>[] = [
  { qk_norm: into('qkv'), rope: into('qkv') },
  { attn_merge: into('attn_out', { recompute: true }) },
  { attention: dealt({ split: 'none' }) },
  { attn_norm: once },
  { ffn_norm: once },
  { final_norm: once },
  { attn_add: rows },
  { swiglu: rows },
  { ffn_add: rows },
];

/** A plan with some of the changes. */
export const streamPlans = fc
  .record({
    chosen: fc.subarray([...changes.keys()]),
    handoff: fc.constantFrom('sentinel' as const, 'epoch' as const),
  })
  .map(({ chosen, handoff }) => {
    const edits = Object.assign({}, ...chosen.map((at) => changes[at])) as Record<string, PlanEdit>;
    return base.with(`plan-${chosen.join('-') || 'base'}`, edits, stream({ handoff }));
  });

/** A model with everything a few elements long. */
const shrink = (sizes: Partial<ModelDims>): ModelDims => ({
  ...models[0]!,
  layers: 2,
  hidden: 4,
  ffn: 5,
  qHeads: 4,
  kvHeads: 2,
  headDim: 4,
  vocab: 4,
  ...sizes,
});

/** Sizes that deal a tile of each product to all blocks, or of a narrow residual to all but one: those of a real model would take a simulator for ever. */
const widened = (dims: ModelDims, blocks: number, narrow: boolean): ModelDims => ({
  ...dims,
  hidden: narrow ? 8 * (blocks - 1) : 16 * blocks,
  ffn: 16 * blocks,
  headDim: 8 * blocks,
});

const onBlocks = (blocks: number): Target => ({ ...h100, sms: blocks, sharedBytes: 1e9 });

/** The plan on `blocks` blocks with the sizes of a tiny model, its head split from a position on where the plan splits at all. */
export function tinyStream(
  plan: FusionPlan,
  sizes: Partial<ModelDims>,
  blocks: number,
  splitFrom: number,
  narrow = false,
): StreamSchedule {
  const dims = shrink(sizes);
  const { scheme } = plan;
  const most = Math.max(1, Math.floor(blocks / dims.kvHeads));
  const splits = splitFrom === 0 ? byContext({ [most]: 0 }) : byContext({ 1: 0, [most]: splitFrom });
  const split = scheme.kind === 'stream' && most > 1 ? plan.with(plan.name, {}, { ...scheme, splits }) : plan;
  const made = lowerStream(decoderGraph(widened(dims, blocks, narrow)), split, onBlocks(blocks));
  return { ...made, dims };
}

/** Legal for the real model of a name, whatever is random about it. */
export const isLegalFor = (plan: FusionPlan, model: string): boolean =>
  isLegal(decoderGraph(models.find(({ name }) => name === model)!), plan, h100);

export const smallDims: ModelDims = {
  ...models.find(({ name }) => name === 'qwen3-0.6b')!,
  ...{ layers: 2, hidden: 64, ffn: 96, qHeads: 4, kvHeads: 2, headDim: 8, vocab: 64 },
};

export const tinyMachine: StreamSimulation = {
  blocks: 4,
  tileRows: 1,
  warps: 2,
  tokens: 1,
  position: 2,
  passes: 3,
  greedy: true,
  slots: 2,
  seed: 1,
};

/** The kernel of a schedule as text. */
export const textOf = (made: StreamSchedule): string => {
  const view = streamScheme.view(made, { command: 'gen', ops: [] });
  const { kernel, model } = streamScheme.templates(made.target);
  return render(kernel, view) + render(model, view);
};

export const nameOf = (sync: Sync): string =>
  `${sync.scope} ${sync.after.stage}${sync.scope === 'exchange' ? ` ${sync.words}` : ''}`;

/** A run in which each sync is needed: all blocks and warps have several things to do, and the ring holds nobody back. */
const busy: StreamSimulation = {
  ...tinyMachine,
  warps: 3,
  passes: 4,
  slots: 256,
};
const busySizes = { hidden: 12, ffn: 12, headDim: 8, qHeads: 4, kvHeads: 2, vocab: 12 };

const isNoticed = (made: StreamSchedule): boolean =>
  [1, 2, 3, 4].some((seed) => {
    const run = { ...busy, blocks: made.blocks, seed, greedy: seed % 2 === 0 };
    return simulateStream(made, run).length > 0;
  });

/** Drops each sync of a plan, one at a time, and says which was not missed by whom. */
export function unmissed(plan: FusionPlan, splitFrom: number): string[] {
  // Which blocks have which rows and heads decides where warps wait for others anyway: so two numbers of blocks.
  const tiny = [4, 6].map((blocks) => tinyStream(plan, busySizes, blocks, splitFrom));
  const whole = lowerStream(decoderGraph({ ...smallDims, hidden: 256, headDim: 32 }), plan, h100);
  const text = textOf(whole);
  return [...new Set(whole.syncs.map(nameOf))].flatMap((name) => {
    const without = (made: StreamSchedule) => ({
      ...made,
      syncs: made.syncs.filter((s) => nameOf(s) !== name),
    });
    const here = tiny.filter(({ syncs }) => syncs.some((sync) => nameOf(sync) === name));
    return [
      ...(textOf(without(whole)) === text ? [`${name}: same text`] : []),
      ...(uncoveredStream(without(whole)).length > 0 ? [] : [`${name}: covered`]),
      ...(here.length === 0 || here.some((made) => isNoticed(without(made))) ? [] : [`${name}: no fault`]),
    ];
  });
}
