// What a schedule of tiles adds: how every product is cut, and what stays in memory between stages.
import { invariant } from '../../../errors.ts';
import type { OpName, TensorName } from '../../model/graph.ts';
import type { CommonSchedule, ScheduledStage } from '../../schedule/schedule.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import type { ProductShape } from '../stream/schedule.ts';

/** What a stage does: `heads` norms and turns queries and keys and fills the cache. A product is followed by ops on its rows. */
export type TileBody = 'embed' | 'norm' | 'product' | 'heads' | 'attend';

export interface TileStage extends ScheduledStage {
  readonly body: TileBody;
  /** The op that the body is called by. */
  readonly op: OpName;
  /** Pointwise ops on the rows of a product. */
  readonly epilogue: readonly OpName[];
  /** The norm of a product's input of which only the factor is made here. */
  readonly norm: OpName | null;
  /** Norm and rotation of queries and keys, and the cache, are in the epilogue. */
  readonly heads: boolean;
  /** The norm whose weights the residual stream that this stage makes is multiplied by, beside its squares: another stage's `norm`. */
  readonly ahead: OpName | null;
}

/** The kernel of prompts of up to `most` tokens. */
export interface TileKernel {
  readonly most: number;
  /** Tokens of a tile. */
  readonly tokens: number;
  /** Rows of a tile of each product. */
  readonly rows: Readonly<Partial<Record<OpName, number>>>;
}

/**
 * Activations in memory. `float`: as they are; `rows`: rounded to the type of the weights, [tokens][stride]; `operand`: as the input of a
 * product takes them, groups of 8 tokens as cells.
 */
export interface TileBuffer {
  readonly name: string;
  readonly tensors: readonly TensorName[];
  readonly form: 'float' | 'rows' | 'operand';
  /** The product that takes an operand. */
  readonly product: OpName | null;
  readonly columns: number;
  /** Elements of a token. */
  readonly stride: number;
  /** Tokens that it has room for. */
  readonly tokens: number;
}

/** The matrices of one layer as numbers: where that of each product begins, and all of them [bytes]. */
interface Unpacked {
  readonly at: Readonly<Partial<Record<OpName, number>>>;
  readonly layerBytes: number;
}

export interface TilesSchedule extends CommonSchedule {
  readonly scheme: 'tiles';
  readonly stages: readonly TileStage[];
  readonly syncs: readonly Meeting[];
  readonly products: readonly ProductShape[];
  /** The fewest tokens of a launch; null: to be chosen beside the schedule that takes fewer through passes. */
  readonly leastTokens: number | null;
  /** From that of short prompts to that of long ones. */
  readonly kernels: readonly TileKernel[];
  readonly buffers: readonly TileBuffer[];
  /**
   * Where matrices of layers are in blocks: those of a layer become numbers in memory in front of its first stage, where products read them,
   * and all blocks meet. Null: products read the stream.
   */
  readonly unpacked: Unpacked | null;
  /**
   * True where the numbers of the cache share scales: in front of attention a prompt's keys and values become codes, and the layer's positions
   * become numbers in memory, and all blocks meet. False: attention reads the cache.
   */
  readonly readsCodes: boolean;
  /** False where the head is in blocks: it is not unpacked, and logits are decoding's. */
  readonly makesLogits: boolean;
  /** Positions of a tile of attention. */
  readonly keyTile: number;
  /** Those that are in shared memory. */
  readonly keyTiles: number;
  readonly multiply: 'mma' | 'wgmma';
  /** Shared memory of a block beside the library's own [bytes]; of it, what steps have, and the results of a tile; and the most steps. */
  readonly sharedBytes: number;
  readonly slotsBytes: number;
  readonly resultsBytes: number;
  readonly mostSteps: number;
}

/** The fewest tokens of a launch, once that was chosen. */
export function leastTokensOf({ plan, leastTokens }: Pick<TilesSchedule, 'plan' | 'leastTokens'>): number {
  invariant(leastTokens !== null, `launches of ${plan.name} have a least length`);
  return leastTokens;
}
