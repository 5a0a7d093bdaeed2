// What a token costs beyond the bytes that it reads: amounts of terms. By one description a cost is predicted and a target is calibrated.

interface TermSpec {
  /** What one unit is. */
  readonly doc: string;
  /** Taken where nobody has measured it [us]: about what an H100 needs. */
  readonly assumed: number;
}

const term = (assumed: number, doc: string): TermSpec => ({ doc, assumed });

/** A unit takes so many us on a target; `queue` alone is a share. */
export const costTerms = {
  // Between barriers.
  token: term(2, 'start and end of a pass'),
  choose: term(10, 'choosing a token from 100,000 logits'),
  barrier: term(1.2, 'a barrier over the whole grid, by one counter'),
  gridSync: term(1.3, 'the same by the grid.sync of cooperative groups'),
  stage: term(0.35, 'from a barrier to the first use of what a stage loads'),
  product: term(1.2, "a product's first weights, and its sums over warps"),
  loads: term(0.3, 'a wait for memory that all loads under way share'),
  multiply: term(0.05, '10 KiB of weights multiplied by a warp, loaded 128 bits at a time; on a CPU, 1 MB'),
  copies: term(0.3, 'a buffer of weights that is waited for in shared memory'),
  handed: term(0.3, 'a buffer that other warps fill'),
  fetch: term(2, '1 MiB that an idle block asks for'),
  farInputs: term(0.05, '10 KiB of weights whose inputs a warp reads from global memory'),
  input: term(0.1, "1,024 values into a block's own memory"),
  norm: term(0.2, '1,024 values normed'),
  merge: term(0.1, '1,024 values of partial results merged by a block'),
  rowwise: term(0.1, 'a step over rows or heads alone'),
  attend: term(2.3, 'attention of one token, without positions'),
  positions: term(1, '100 cached positions in one block of 16 warps, for one query'),
  // Of a stream.
  hop: term(0.5, 'from the last stored word to its first use in another block'),
  words: term(0.2, '1,024 values polled by a block'),
  queue: term(0.4, 'of the time of the copies under way, the share that a word waits behind them'),
  refill: term(0.5, 'the ring filled once while attention is waited for'),
  slot: term(0.07, 'a slot of the ring, waited for and given back'),
  cells: term(0.03, '8 cells of a warp, read and multiplied'),
  streamNorm: term(0.3, '1,024 values normed by a stage of its own'),
  streamAttend: term(2, 'attention of one token in a stream, without positions'),
  streamPositions: term(1, '100 cached positions of a head of 128 in one block of a stream'),
  streamMerge: term(0.35, '1,024 values of partial results merged in a stream'),
  streamChoose: term(5, 'choosing a token from 100,000 logits in a stream'),
  streamToken: term(25, 'start and end of a token in a stream'),
  // Of tiles.
  tiled: term(3.5, '10 MFLOP of a product, by the busiest block'),
  flash: term(6, '10 MFLOP of attention in tiles, by the busiest block'),
  passed: term(0.6, '1,024 values of activations that a block reads and writes between products'),
  chunk: term(25, 'start and end of a launch of tiles'),
} as const satisfies Readonly<Record<string, TermSpec>>;

export type CostTerm = keyof typeof costTerms;
export const costTermNames = Object.keys(costTerms) as CostTerm[];

/** So many units of a term. */
export interface Work {
  readonly term: CostTerm;
  readonly amount: number;
}

/** Reads and work that are done `runs` times in a token, either beside each other or one after the other. */
export interface TimePart {
  readonly runs: number;
  /** Read by all blocks together, as much as if each had as much to read as the busiest [bytes]. */
  readonly bytes: number;
  readonly work: readonly Work[];
  /** The longer of reads and work is the time; else their sum. */
  readonly beside: boolean;
}

export type TermValues = Readonly<Partial<Record<CostTerm, number>>>;

/** Work [us]. */
export const workMicros = (work: readonly Work[], terms: TermValues): number =>
  work.reduce((sum, { term, amount }) => sum + amount * (terms[term] ?? costTerms[term].assumed), 0);

/** How sharply the longer wins. */
const sharpness = 8;
/** The time of two that go on beside each other: near a tie each delays the other. */
export const longer = (a: number, b: number): number => {
  const [most, least] = [Math.max(a, b), Math.min(a, b)];
  return most === 0 ? 0 : most * (1 + (least / most) ** sharpness) ** (1 / sharpness);
};

/** A token [us]. @param bandwidth [GB/s] */
export const tokenMicros = (parts: readonly TimePart[], terms: TermValues, bandwidth: number): number =>
  parts.reduce((sum, { runs, bytes, work, beside }) => {
    const [reads, works] = [bytes / (bandwidth * 1e3), workMicros(work, terms)];
    return sum + runs * (beside ? longer(reads, works) : reads + works);
  }, 0);
