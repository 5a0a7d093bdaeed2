// What the generator knows of a machine. Bandwidth is what a plain read loop reaches where that was measured, else the datasheet's.
import type { OpName } from '../model/graph.ts';
import { type Platform, platforms } from './platform.ts';
import type { TermValues } from './terms.ts';

/** A machine that kernels are made for. */
export interface Target {
  readonly name: string;
  readonly kind: Platform['kind'];
  /** nvcc architecture, such as sm_90a; empty on a CPU. */
  readonly arch: string;
  /** Streaming multiprocessors, or threads of a CPU team (0: decided when the library is loaded). */
  readonly sms: number;
  /** Shared memory that one block can have [bytes]; 0: no limit (CPU). */
  readonly sharedBytes: number;
  /** L2 cache of a GPU, last cache of a CPU [bytes]. */
  readonly l2Bytes: number;
  /** Read bandwidth [GB/s], or null where it is not known. */
  readonly bandwidth: number | null;
  readonly bandwidthFrom: 'measured' | 'datasheet' | 'unknown';
  /** The same where all that is read fits `l2Bytes` [GB/s]; where it was not measured, that of memory. */
  readonly cacheBandwidth?: number;
  /**
   * For the stages of a stream: clock cycles after the start of a stage before which its input has never been there, so that polling
   * earlier only keeps others waiting. By an op of the stage; 0 where it was not measured. Splits are merged by all blocks of a head, or by few, which
   * do not wait so long.
   */
  readonly pollCycles?: Readonly<Partial<Record<OpName, number>>>;
  /** What stages cost beyond the bytes that they read (terms.ts); absent where nobody has calibrated it. */
  readonly terms?: TermValues;
  /** Where figures come from, by field or term; `*` for all others. */
  readonly origin?: Readonly<Record<string, string>>;
}

/** Read bandwidth of weights of so many bytes [GB/s]. */
export const bandwidthOf = (
  { bandwidth, cacheBandwidth, l2Bytes }: Pick<Target, 'bandwidth' | 'cacheBandwidth' | 'l2Bytes'>,
  bytes: number,
): number | null => (cacheBandwidth !== undefined && bytes <= l2Bytes ? cacheBandwidth : bandwidth);

export const platformOf = ({ kind }: Target): Platform => platforms[kind];
