// What a call, or a promise, refuses with.
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

/** The OnelaunchError that a promise fails with; any other error goes on, and none is one too. */
export async function failureOf(promise: Promise<unknown>): Promise<OnelaunchError> {
  const outcome: unknown = await promise.then(
    () => new Error('nothing was refused'),
    (error: unknown) => error,
  );
  if (outcome instanceof OnelaunchError) return outcome;
  throw outcome;
}
