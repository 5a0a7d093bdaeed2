// What a stream should cost: the bytes that blocks read, the words that they wait for, and the time of both.
import { bytesOf } from '../../model/packing.ts';
import type { Schedule } from '../../schedule/schedule.ts';
import { tilesOf } from './stream.ts';

/** Copies that a block has under way [bytes]: at most `usual`, or `most` while a quarter of the ring is free. */
export interface UnderWay {
  readonly usual: number;
  readonly most: number;
}

export interface StreamCost {
  readonly blocks: number;
  /** Bytes of the stream that a block reads for a token: least and most, since whole tiles are dealt. */
  readonly leastBytes: number;
  readonly mostBytes: number;
  /** Bytes of zeros among the bytes of the stream, as a share. */
  readonly padding: number;
  /** Bytes of exchanges that a block of attention reads for a token, each word counted once. */
  readonly polledBytes: number;
  /** Slots of the ring, by the most tokens of a pass. */
  readonly rings: readonly { readonly tokens: number; readonly slots: number }[];
  readonly slotBytes: number;
  /** In a pass of one token: in the layers, there in a block that has a head's positions alone (null: none has), in the LM head. */
  readonly inFlightBytes: {
    readonly layers: UnderWay;
    readonly alone: UnderWay | null;
    readonly head: UnderWay;
  };
  /** Parts of the positions from `splitFrom` on. */
  readonly splits: number;
  readonly splitFrom: number;
}

/** The cost of a schedule with a stream; null without one. */
export function streamCost(schedule: Schedule): StreamCost | null {
  const { stream, dims } = schedule;
  if (!stream) return null;
  const { blocks, weights, kernels, splits, splitFrom } = stream;
  const perBlock = Array.from({ length: blocks }, (_, block) => blockBytes(schedule, block));
  const underWay = (window: number) => copies(window, kernels[0]!.slots, weights.tile);
  return {
    blocks,
    leastBytes: Math.min(...perBlock),
    mostBytes: Math.max(...perBlock),
    padding: 1 - bytesOf(dims).weights / stream.bytes,
    polledBytes: polledBytes(schedule),
    rings: kernels.map(({ tokens, slots }) => ({ tokens, slots })),
    slotBytes: weights.tile,
    inFlightBytes: {
      layers: underWay(weights.inFlight),
      alone: splits === 1 || splitFrom > 0 ? underWay(weights.inFlight + 1) : null,
      head: underWay(weights.inFlightHead),
    },
    splits,
    splitFrom,
  };
}

/** What Producer::fill of templates/cuda/stream/ring.cuh lets be under way. */
function copies(window: number, slots: number, slotBytes: number): UnderWay {
  const usual = Math.min(window, slots - 1);
  const hungry = Math.min(usual + 1, slots - Math.floor(slots / 4));
  return { usual: usual * slotBytes, most: Math.max(usual, hungry) * slotBytes };
}

function blockBytes({ stream, dims }: Schedule, block: number): number {
  return stream!.products.reduce((sum, product) => {
    const { first, end } = tilesOf(product, block, stream!.blocks);
    return sum + (end - first) * product.tileBytes * (product.op === 'lm_head' ? 1 : dims.layers);
  }, 0);
}

/** A word is two values. The first layer's input comes from the embedding instead, the head's from the last layer; at the end each block reads the best logit of every block. */
function polledBytes({ stream, dims }: Schedule): number {
  const word = stream!.words === 'epoch' ? 8 : 4;
  const words = (values: number) => word * Math.ceil(values / 2);
  const input = (op: string) => words(stream!.products.find((product) => product.op === op)!.columns);
  const head = words((dims.qHeads / dims.kvHeads + 2) * dims.headDim);
  const layer = input('qkv_proj') + head + input('o_proj') + input('gate_up') + input('down_proj');
  const offers = 2 * word * stream!.blocks;
  return dims.layers * layer + offers;
}
