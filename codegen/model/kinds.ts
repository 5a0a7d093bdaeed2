// Layers of named kinds: which layer is of which kind, and what sets the kinds apart, in words.
import type { LayerKind, ModelDims } from './dims.ts';

type Kinds = Pick<ModelDims, 'kinds' | 'pattern'>;

/** Of a model whose layers are all alike. */
export const oneKind: Kinds = {
  kinds: [{ name: 'layer', window: null, rope: true }],
  pattern: ['layer'],
};

/** The kind of a layer of checked dims. */
export function kindOf({ kinds, pattern }: Kinds, layer: number): LayerKind {
  const name = pattern[layer % pattern.length];
  return kinds.find((kind) => kind.name === name)!;
}

/** Cached positions that the token at a position reads, on average over the layers. */
export function meanCached(dims: ModelDims, position: number): number {
  const { layers } = dims;
  let sum = 0;
  for (let layer = 0; layer < layers; layer++) {
    const { window } = kindOf(dims, layer);
    sum += window === null ? position : Math.min(position, window - 1);
  }
  return sum / layers;
}

/** What the layers of each kind see and whether they rotate; empty where all are alike and see all. */
export function kindsText({ kinds, pattern }: Kinds): string {
  const isPlain = kinds.every(({ window, rope }) => window === null && rope);
  if (kinds.length === 1 && isPlain) return '';
  const attributes = kinds.map(({ name, window, rope }) => {
    const seen = window === null ? 'all positions' : `${window} positions`;
    return `${name} sees ${seen}${rope ? '' : ' and is not rotated'}`;
  });
  return `layers ${pattern.join(', ')} and so on: ${attributes.join(', ')}`;
}
