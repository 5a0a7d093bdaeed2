// The table of schemes: all that is known of them together.
import type { FusionPlan, Scheme as PlanScheme } from '../plan/plan.ts';
import { platformOf, type Target } from '../schedule/target.ts';
import { barriersScheme } from './barriers/index.ts';
import type { Scheme } from './scheme.ts';
import { streamScheme } from './stream/index.ts';
import { tilesScheme } from './tiles/index.ts';

const schemes = {
  barriers: barriersScheme,
  stream: streamScheme,
  tiles: tilesScheme,
} as const satisfies Record<PlanScheme['kind'], unknown>;

/** The schedule of any scheme. */
export type Schedule = ReturnType<(typeof schemes)[keyof typeof schemes]['lower']>;

/** The scheme that lowers a plan: its own, or barriers for a stream on a target that cannot copy while it computes. */
export const schemeFor = ({ scheme }: FusionPlan, target: Target): Scheme<Schedule> => {
  const isKept = scheme.kind !== 'stream' || platformOf(target).streams;
  return schemes[isKept ? scheme.kind : 'barriers'] as unknown as Scheme<Schedule>;
};

/** The scheme of a schedule. */
export const schemeOf = ({ scheme }: Schedule): Scheme<Schedule> =>
  schemes[scheme] as unknown as Scheme<Schedule>;
