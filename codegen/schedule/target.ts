// What the generator knows of a machine. Bandwidth is what a plain read loop reaches where that was measured, else the datasheet's.
import type { OpName } from '../model/graph.ts';
import { type Platform, platforms } from './platform.ts';

export interface Target {
  readonly name: string;
  readonly kind: Platform['kind'];
  /** nvcc architecture, such as sm_90a; empty on a CPU. */
  readonly arch: string;
  /** Streaming multiprocessors, or threads of a CPU team (0: decided when the library is loaded). */
  readonly sms: number;
  /** Shared memory that one block can have [bytes]; 0: no limit (CPU). */
  readonly sharedBytes: number;
  /** L2 cache [bytes]. */
  readonly l2Bytes: number;
  /** Read bandwidth [GB/s], or null where it is not known. */
  readonly bandwidth: number | null;
  readonly bandwidthFrom: 'measured' | 'datasheet' | 'unknown';
  /** Cost of one barrier over the whole grid [us]. */
  readonly barrierMicros: number;
  /** Cost of handing 1,024 values from all blocks to all blocks, word by word [us]; where it was not measured, a barrier's. */
  readonly exchangeMicros?: number;
  /**
   * For the stages of a stream: clock cycles after the start of a stage before which its input has never been there, so that polling
   * earlier only keeps others waiting. By an op of the stage; 0 where it was not measured.
   */
  readonly pollCycles?: Readonly<Partial<Record<OpName, number>>>;
}

export const platformOf = ({ kind }: Target): Platform => platforms[kind];
