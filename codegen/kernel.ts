// What the generator makes, and the builds compile.

import type { Lowered } from './emit/emit.ts';
import type { FusionPlan } from './plan/plan.ts';
import type { Schedule } from './schemes/index.ts';

/** One specialised library, not yet compiled. */
export interface Kernel {
  readonly schedule: Schedule;
  readonly plan: FusionPlan;
  /** What takes in prompts, where that has kernels of its own. */
  readonly prompts: Lowered | null;
  /** File name -> text. */
  readonly sources: Readonly<Record<string, string>>;
  readonly hash: string;
  /** <model>-<target>-<plan>, behind the model the format of its layers where that is in blocks and cache-<format> where the KV cache has scales, last the plan of prompts where there is one */
  readonly name: string;
}
