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
  token: term(35, 'start and end of a pass'),
  choose: term(40, 'choosing a token from 100,000 logits'),
  barrier: term(1.2, 'a barrier over the whole grid, by one counter'),
  gridSync: term(1.3, 'the same by the grid.sync of cooperative groups'),
  stage: term(0.35, 'from a barrier to the first use of what a stage loads'),
  product: term(0.75, "a product's first weights, and its last sums"),
  loads: term(0.35, 'a wait for memory that all loads of a wave share'),
  sums: term(0.3, 'rows of a turn summed over lanes and warps'),
  multiply: term(0.085, '10 KiB of weights multiplied by a warp; on a CPU, 1 MB'),
  copies: term(0.15, '8 warp-wide copies of weights into shared memory, begun by a warp'),
  handed: term(0.1, 'a buffer that other warps fill, waited for and given back'),
  fetch: term(2, '1 MiB that an idle block asks for'),
  farInputs: term(0.05, '10 KiB of weights whose inputs a warp reads from global memory'),
  input: term(0.1, "1,024 values into a block's own memory"),
  norm: term(0.5, '1,024 values normed'),
  merge: term(0.1, '1,024 values of partial results merged by a block'),
  rowwise: term(0.1, 'a step over rows or heads alone'),
  attend: term(2.3, 'attention of one token, without positions'),
  positions: term(1, '100 cached positions in one block of 16 warps, for one query'),
  // Of a stream.
  hop: term(0.5, 'from the last stored word to its first use in another block'),
  words: term(0.2, '1,024 values polled by a block'),
  queue: term(
    0.25,
    'of the time of the copies under way, the share that a word waits, where they take 2 us; of less a smaller share',
  ),
  slot: term(0.07, 'a slot of the ring, waited for and given back'),
  cells: term(0.03, '8 cells of a warp, read and multiplied'),
  unpack: term(
    0.1,
    '8 cells of a warp made numbers of the model from codes of 4 bits; of 8 bits half as much',
  ),
  streamNorm: term(0.3, '1,024 values normed by a stage of its own'),
  streamAttend: term(0.6, 'attention of one token in a stream, without positions'),
  streamQueries: term(8, '1,024 elements of the queries of a kv head, made ready, and their results summed'),
  streamPositions: term(1, '100 cached positions of a head of 128 in one block of a stream'),
  streamMerge: term(0.35, '1,024 values of partial results merged in a stream'),
  mergedInput: term(0.7, 'the results of one split merged by every block, in front of a product'),
  streamChoose: term(5, 'choosing a token from 100,000 logits in a stream'),
  streamToken: term(25, 'start and end of a token in a stream'),
  // Of a pass of a prompt's tokens.
  pass: term(46, 'start and end of a pass that is a launch of its own'),
  manyWords: term(0.08, '1,024 values polled by a block for one more token of a pass'),
  manyAttend: term(0.35, 'attention of one more token of a pass'),
  // Of tiles.
  tiled: term(0.1, '10 MFLOP of a product, by the busiest block'),
  tileLoads: term(0.77, '64 KiB of operands of a tile, by the busiest block'),
  tileEnd: term(0.65, '4,096 results of a tile used and stored'),
  tileStage: term(3.9, 'from a barrier to the first step of a tile or unit, and behind its last'),
  flash: term(5.6, '10 MFLOP of attention in tiles, by the busiest block'),
  passed: term(0.65, '1,024 values of activations that a block reads and writes between products'),
  chunk: term(160, 'start and end of a launch of tiles'),
} as const satisfies Readonly<Record<string, TermSpec>>;

export type CostTerm = keyof typeof costTerms;
export const costTermNames = Object.keys(costTerms) as CostTerm[];

/** So many units of a term. */
export interface Work {
  readonly term: CostTerm;
  readonly amount: number;
}

/** Reads and work that are done `runs` times in a token. */
export interface TimePart {
  readonly runs: number;
  /** Read by all blocks together, as much as if each had as much to read as the busiest [bytes]. */
  readonly bytes: number;
  /**
   * steady: reads go on while others compute, as a ring lets them. bursts: all warps ask at once and then all compute, so that the memory
   * rests for part of the time.
   */
  readonly reads: 'steady' | 'bursts';
  /** What reads stand for, once `bytes` of them are done: a ring that is full while blocks wait for each other. */
  readonly stands?: { readonly bytes: number; readonly work: readonly Work[] } | undefined;
  /** What goes on beside the reads and beside each other: the longest of all of these decides. None: the reads alone. */
  readonly chains: readonly (readonly Work[])[];
  /** What is done before or behind them. */
  readonly work: readonly Work[];
}

export type TermValues = Readonly<Partial<Record<CostTerm, number>>>;

/** Work [us]. */
export const workMicros = (work: readonly Work[], terms: TermValues): number =>
  work.reduce((sum, { term, amount }) => sum + amount * (terms[term] ?? costTerms[term].assumed), 0);

/**
 * How sharply the longest wins. That of bursts is the one of 1, 1.4, 2 and 3 by which the calibrated kernels of an H100 come closest
 * (docs/devlog.md, "Predictions that rank"): the squares add up.
 */
const sharpness = { steady: 8, bursts: 2 } as const;

/** The time of what goes on beside each other: near a tie each delays the others. */
function longest(times: readonly number[], reads: TimePart['reads'] = 'steady'): number {
  const most = Math.max(0, ...times);
  if (most === 0) return 0;
  const power = sharpness[reads];
  return most * times.reduce((sum, time) => sum + (time / most) ** power, 0) ** (1 / power);
}

/** Reads that stand once a part of them is done, until `standMicros` are over [us]. */
export const readsMicros = (bytesMicros: number, heldMicros: number, standMicros: number): number =>
  bytesMicros - heldMicros + longest([heldMicros, standMicros]);

/** Reads beside chains [us]. */
export const besideMicros = (
  bytesMicros: number,
  chains: readonly number[],
  reads: TimePart['reads'],
): number => longest([bytesMicros, longest(chains)], reads);

/** One run of a part [us]. @param bandwidth [GB/s] */
export const partMicros = (
  { bytes, reads, stands, chains, work }: Omit<TimePart, 'runs'>,
  terms: TermValues,
  bandwidth: number,
): number => {
  const times = chains.map((chain) => workMicros(chain, terms));
  const ofBytes = (count: number) => count / (bandwidth * 1e3);
  const read = stands
    ? readsMicros(ofBytes(bytes), ofBytes(stands.bytes), workMicros(stands.work, terms))
    : ofBytes(bytes);
  return besideMicros(read, times, reads) + workMicros(work, terms);
};

/** A token [us]. @param bandwidth [GB/s] */
export const tokenMicros = (parts: readonly TimePart[], terms: TermValues, bandwidth: number): number =>
  parts.reduce((sum, part) => sum + part.runs * partMicros(part, terms, bandwidth), 0);

/** What a token is made of, by term, as if each were done after the other: what is hidden behind reads counts too [us]. */
export function microsByTerm(
  parts: readonly TimePart[],
  terms: TermValues,
  bandwidth: number,
): ReadonlyMap<CostTerm | 'reads', number> {
  const found = new Map<CostTerm | 'reads', number>();
  const add = (term: CostTerm | 'reads', micros: number) => found.set(term, (found.get(term) ?? 0) + micros);
  for (const { runs, bytes, chains, work } of parts) {
    add('reads', (runs * bytes) / (bandwidth * 1e3));
    for (const one of [...chains.flat(), ...work]) add(one.term, runs * workMicros([one], terms));
  }
  return found;
}
