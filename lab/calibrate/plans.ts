// The plans that a calibration times: chosen so that each term occurs much in some and little in others.
import { dealt, type FusionPlan, into, own } from '../../codegen/plan/plan.ts';
import type { Target } from '../../codegen/schedule/target.ts';
import { platformOf } from '../../codegen/schedule/target.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import prefill from '../../configs/plans/prefill.ts';
import seed, { variants as seedVariants } from '../../configs/plans/seed.ts';
import stream, { variants } from '../../configs/plans/stream.ts';
import unfused from '../../configs/plans/unfused.ts';

const tokens = { over: 'tokens' } as const;
const rows = { over: 'rows' } as const;
const heads = { over: 'kv_heads' } as const;
const apart = { attn_norm: own(tokens), ffn_norm: own(tokens), final_norm: own(tokens) };
const addsApart = { attn_add: own(rows), ffn_add: own(rows), swiglu: own(rows) };
const merged = { attn_merge: own({ over: 'q_heads' }) } as const;

const atBarriers: readonly FusionPlan[] = [
  cooperative,
  unfused,
  cooperative.with('norms-apart', apart),
  cooperative.with('merge-apart', merged),
  cooperative.with('heads-apart', { qk_norm: own(heads), rope: own(heads) }),
  cooperative.with('adds-apart', addsApart),
  cooperative.with('merge-norms-apart', { ...apart, ...merged }),
  cooperative.with('unsplit', { attention: dealt({ split: 'none' }) }),
  unfused.with('unfused-unsplit', { attend: dealt({ split: 'none' }) }),
  unfused.with('rows-together', {
    attn_add: into('o_proj'),
    ffn_add: into('down_proj'),
    swiglu: into('gate_up'),
  }),
];

const chosenOfSeed = [
  ...['seed-no-prefetch', 'seed-128-bit', 'seed-shared-inputs', 'seed-in-flight-4', 'seed-cp-async'],
  ...['seed-double-buffer', 'seed-producers-2', 'seed-blocks-fit', 'seed-warps-16', 'seed-atomic-barrier'],
];
/** The options of the machine. */
const tuned: readonly FusionPlan[] = [
  seed,
  ...seedVariants.filter(({ name }) => chosenOfSeed.includes(name)),
  cooperative.with('eight-warps', {}, { warps: 8 }),
  cooperative.with('two-in-flight', {}, { loadsInFlight: 2 }),
  cooperative.with('few-fetch', {}, { prefetch: 2, prefetchBy: 'idle' }),
];

const chosen = [
  ...['stream-few-splits', 'stream-unsplit', 'stream-split-at-once', 'stream-norms-once'],
  ...['stream-attn-norm-once', 'stream-merged', 'stream-rotated', 'stream-epochs'],
];
const streamed: readonly FusionPlan[] = [
  stream,
  ...variants.filter(({ name }) => chosen.includes(name)),
  stream.with('few-slots', addsApart, { slots: 6 }),
  stream.with(
    'few-slots-norms-once',
    { ...addsApart, attn_norm: own(tokens), ffn_norm: own(tokens) },
    { slots: 6 },
  ),
  stream.with('two-copies', {}, { copiesInFlight: 2 }),
  stream.with('three-copies', {}, { copiesInFlight: 3 }),
  stream.with('small-slots', {}, { slotBytes: 8192, copiesInFlight: 2, slots: 24 }),
];

/** Launches from as few tokens on as there can be, so that their costs are seen where passes are quicker. */
const launches = prefill.with('launches', {}, { from: 1, tokens: 1024 });

/** A plan of prompts beside the stream, and how long the prompts are. */
export interface PromptRow {
  readonly plan: FusionPlan;
  readonly tokens: readonly number[];
}

/** The prompts that a calibration times: passes, then launches. @param at place of the model: further ones time none */
export const calibrationPrompts = (target: Target, at: number): readonly PromptRow[] =>
  platformOf(target).streams && at < fullyTimed
    ? [
        {
          plan: launches,
          tokens: [1, 2, 4, 8, 16, 17, 18, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 2049],
        },
      ]
    : [];

/** Models whose plans are all timed; of further ones the stream alone, to show how it grows with a model. */
const fullyTimed = 2;

/** The plans for a target. @param at place of the model: options of the machine are timed on the first one alone */
export function calibrationPlans(target: Target, at: number): readonly FusionPlan[] {
  if (!platformOf(target).streams) return atBarriers;
  if (at >= fullyTimed) return [stream];
  return [...atBarriers, ...(at === 0 ? tuned : []), ...streamed];
}

/** A few of them that differ most, for a rough target. */
export const quickPlans = (target: Target, at: number): readonly FusionPlan[] => {
  const names = [
    'cooperative',
    'unfused',
    'unsplit',
    'stream',
    'stream-unsplit',
    'stream-norms-once',
    'two-copies',
  ];
  return calibrationPlans(target, Math.max(1, at)).filter(({ name }) => names.includes(name));
};
