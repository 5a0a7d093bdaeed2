// What crosses blocks, as the generated code declares it: read from the syncs of a schedule alone.
import { docOf, type TensorName } from '../../model/graph.ts';
import { sizeOf, sizes } from '../../model/ops.ts';
import type { ExchangeSync, Sync } from '../../schedule/syncs.ts';

export interface ExchangeView {
  readonly name: string;
  /** As C++, with how many words it has and where they lie. */
  readonly type: string;
  readonly doc: string;
}

/** Words that are no vector of activations which every block reads. */
const special: Readonly<Record<string, string>> = {
  qkv: 'Exchange<T * word_stride(kQkvRows)>',
  head_squares: 'Exchange<T * kTokenSquares>',
  partial: 'SplitExchange<SplitWords<T>::kSize, Whole>',
  argmax_candidates: 'Exchange<share_at(kBlocks)>',
  sampled_token: 'Exchange<1>',
};
const docs: Readonly<Record<string, string>> = {
  qkv: 'queries and keys as rotary pairs, values',
  x_after_attention: 'residual stream after attention',
  x: 'residual stream after the feed-forward part',
  argmax_candidates: 'the best score of each block; its share of a draw, see stream/draw.cuh',
  sampled_token: 'the sampled token',
};

export const isExchange = (sync: Sync): sync is ExchangeSync => sync.scope === 'exchange';

/** One declaration for all exchanges of the same words: some have two makers. */
export function exchangeViews(syncs: readonly Sync[]): ExchangeView[] {
  const found = new Map<string, ExchangeView>();
  for (const { words, tensors } of syncs.filter(isExchange)) {
    const tensor: TensorName = tensors[0]!;
    const type = special[words] ?? `VectorExchange<T, word_stride(${sizes[sizeOf(tensor)!].constant})>`;
    found.set(words, { name: words, type, doc: docs[words] ?? docOf(tensor) });
  }
  return [...found.values()];
}

/** The exchange by which a stage hands a tensor over, and the one by which it gets it; undefined where no sync carries it. */
export const publishes = (
  syncs: readonly Sync[],
  stage: string,
  tensor: TensorName,
): ExchangeSync | undefined =>
  syncs.filter(isExchange).find((s) => s.after.stage === stage && s.tensors.includes(tensor));
export const receives = (
  syncs: readonly Sync[],
  stage: string,
  tensor: TensorName,
): ExchangeSync | undefined =>
  syncs.filter(isExchange).find((s) => s.readers.includes(stage) && s.tensors.includes(tensor));
