// Ends a function of a library that takes too long: a regular expression of a stranger may never end.
import { createContext, Script } from 'node:vm';

/** The function took longer than its limit. */
export class TimeLimit extends Error {}

const call = new Script('run()');
let context: { run?: () => unknown } | undefined;

/** What the function returns or throws. Costs about 0.1 ms; the limit is only there for what would not end.
 *  @throws TimeLimit after so many milliseconds */
export function withinTime<T>(millis: number, run: () => T): T {
  let result: { readonly value: T } | undefined;
  context ??= createContext({});
  context.run = () => {
    result = { value: run() };
  };
  try {
    call.runInContext(context, { timeout: Math.ceil(millis) });
  } catch (error) {
    if ((error as NodeJS.ErrnoException | null)?.code !== 'ERR_SCRIPT_EXECUTION_TIMEOUT') throw error;
    throw new TimeLimit(`it took more than ${(millis / 1000).toFixed(0)} s`);
  }
  return result!.value;
}
