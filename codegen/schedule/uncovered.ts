// What the independent check of a schedule finds.

/** Two touches of the same elements, one a write, without a sync of the needed scope between them. */
export interface Uncovered {
  readonly kind: 'RAW' | 'WAR' | 'WAW';
  readonly tensor: string;
  readonly from: { readonly stage: string; readonly phase: number; readonly layer: number };
  readonly to: { readonly stage: string; readonly phase: number; readonly layer: number };
  /** The scope that is missing: between blocks, between threads of a block, or inside one phase. */
  readonly scope: 'grid' | 'block' | 'phase';
  readonly why: string;
}
