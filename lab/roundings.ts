// What the engine of a kernel rounds.
import type { BuiltKernel } from '../load.ts';

/** For `tolerance`: as the path that runs here pairs, and as its plan has the inputs. */
export const roundingsOf = ({
  kernel,
  manifest,
}: Pick<BuiltKernel, 'kernel' | 'manifest'>): BuiltKernel['kernel']['schedule']['roundings'] => {
  const { inputBits } = kernel.schedule.roundings;
  return { ...manifest.roundings, ...(inputBits ? { inputBits } : {}) };
};
