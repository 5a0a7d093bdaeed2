// How the words of an exchange are used again.
import type { StreamScheme } from '../../plan/plan.ts';

/**
 * As templates/cuda/stream/words.cuh does it: epoch e has buffer e mod `buffers`; whoever publishes a word of epoch e then empties the same
 * word for epoch e + `ahead`, with what was there of epoch e + `ahead` - `buffers`.
 */
export interface Rotation {
  readonly buffers: number;
  /** null: nobody empties words. */
  readonly ahead: number | null;
  /** A word carries its epoch, so that an older one is not taken for it. */
  readonly flagged?: boolean;
}

/** Of each form that a plan can ask for. Either way what is overwritten is two epochs old. */
export const rotations: Readonly<Record<StreamScheme['handoff'], Rotation>> = {
  sentinel: { buffers: 4, ahead: 2 },
  epoch: { buffers: 2, ahead: null, flagged: true },
};
