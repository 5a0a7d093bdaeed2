// The table of schemes.
import type { FusionPlan, Scheme as PlanScheme } from '../plan/plan.ts';
import { platformOf, type Target } from '../schedule/target.ts';
import { barriersScheme } from './barriers/index.ts';
import type { Schedule } from './schedule.ts';
import type { Scheme } from './scheme.ts';
import { streamScheme } from './stream/index.ts';

const schemes = { barriers: barriersScheme, stream: streamScheme } as const satisfies Record<
  PlanScheme['kind'],
  unknown
>;

/** The scheme that lowers a plan: its own, or barriers on a target that cannot copy while it computes. */
export const schemeFor = ({ scheme }: FusionPlan, target: Target): Scheme =>
  schemes[platformOf(target).streams ? scheme.kind : 'barriers'] as unknown as Scheme;

/** The scheme of a schedule. */
export const schemeOf = ({ scheme }: Schedule): Scheme => schemes[scheme] as unknown as Scheme;
