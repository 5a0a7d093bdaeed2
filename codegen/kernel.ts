// What the generator makes, and the builds compile.
import type { Schedule } from './schemes/index.ts';

/** One specialised library, not yet compiled. */
export interface Kernel {
  readonly schedule: Schedule;
  /** File name -> text. */
  readonly sources: Readonly<Record<string, string>>;
  readonly hash: string;
  /** <model>-<target>-<plan> */
  readonly name: string;
}
