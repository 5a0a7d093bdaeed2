// What a call refuses with.
import { OnelaunchError } from '../../errors.ts';

/** The OnelaunchError that run() throws; any other error goes on, and none is one too. */
export function refusalOf(run: () => unknown): OnelaunchError {
  try {
    run();
  } catch (error) {
    if (error instanceof OnelaunchError) return error;
    throw error;
  }
  throw new Error('nothing was refused');
}
