// What the generator makes, and the builds compile.
import type { FusionPlan } from './plan/plan.ts';
import type { Schedule } from './schemes/index.ts';

/** One specialised library, not yet compiled. */
export interface Kernel {
  readonly schedule: Schedule;
  readonly plan: FusionPlan;
  /** File name -> text. */
  readonly sources: Readonly<Record<string, string>>;
  readonly hash: string;
  /** <model>-<target>-<plan> */
  readonly name: string;
}
