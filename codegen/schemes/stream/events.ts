// What happens in a block of the stream kernel: the events of a launch, and their order as they are written down.

/** A launch. A word is one element here, and so is a tile of cached positions, so that small sizes are dealt to several blocks and warps. */
export interface Launch {
  readonly blocks: number;
  /** Rows of a product's tile. */
  readonly tileRows: number;
  /** Of a block, those that compute; the producer is one more worker. */
  readonly warps: number;
  readonly tokens: number;
  /** Of the first token; the cache holds all positions before it. */
  readonly position: number;
  readonly passes: number;
  /** Positions of tokens that belong to sequences of their own, in one pass; there may be fewer than tokens. */
  readonly rows?: readonly number[] | undefined;
  /** Each of them is whole, in a block of its own of a head; otherwise all are dealt in equal shares. */
  readonly wholeRows?: boolean | undefined;
  /** Every block finds the token from the candidates; otherwise block 0 samples it. */
  readonly greedy: boolean;
}

export interface Place {
  readonly stage: string;
  readonly layer: number;
  readonly pass: number;
  /** Stages since the launch began, counted alike in all blocks. */
  readonly order: number;
}

/** Elements [lo, hi) of a space that a block touches: words of an exchange (poll, publish), or plain memory. */
export interface Access {
  readonly kind: 'poll' | 'publish' | 'load' | 'store';
  readonly space: string;
  readonly lo: number;
  readonly hi: number;
  /** Which write is meant, when stages run one after the other. For words: the epoch. */
  readonly version: number;
  /** Words: the epoch whose buffer is touched. */
  readonly epoch: number;
  /** The warp that touches them, or `dealt`: elements are dealt to all warps. */
  readonly warp: number | 'dealt';
}

export type StreamEvent = { readonly place: Place } & (
  | Access
  /** All computing warps of the block. */
  | { readonly kind: 'meet' }
  /** Computing warps wait for a slot of the ring to be full, and give it back; the producer waits for it to be free, and fills it. */
  | { readonly kind: 'take' | 'free' | 'fill' | 'full'; readonly slot: number }
  /** What the block has appended to the cache is there for the copy engines of all blocks: until then no word says anything of it. */
  | { readonly kind: 'appended' }
  /** The block knows that all blocks have appended in this epoch; the producer waits for that. */
  | { readonly kind: 'progress' | 'gate'; readonly epoch: number }
);

export interface BlockProgram {
  readonly consumer: readonly StreamEvent[];
  readonly producer: readonly StreamEvent[];
}

/** What an event is, wherever it stands. */
type Act = StreamEvent extends infer E ? (E extends unknown ? Omit<E, 'place'> : never) : never;

/** A product takes as many slots as it has tiles: two stand for all, one before its input is there and one behind. */
export const slotsFor = (tiles: number): number => Math.min(2, tiles);

/** Writes down what a block does, at the place where it is. */
export class Trace implements BlockProgram {
  readonly consumer: StreamEvent[] = [];
  readonly producer: StreamEvent[] = [];
  place: Place = { stage: '', layer: 0, pass: 0, order: -1 };
  #slots = 0;

  /** The computing warps. @param act becomes the event */
  do(act: Act): void {
    this.consumer.push(Object.assign(act, { place: this.place }));
  }

  /** The producer. @param act becomes the event */
  feed(act: Act): void {
    this.producer.push(Object.assign(act, { place: this.place }));
  }

  /** Plain memory. */
  touch(
    kind: 'load' | 'store',
    space: string,
    lo: number,
    hi: number,
    version: number,
    warp: Access['warp'],
  ): void {
    if (lo < hi) this.do({ kind, space, lo, hi, version, epoch: 0, warp });
  }

  /** Slots of the ring, each taken and given back by every warp, the first before `between`; `cached` says what the producer copies. */
  takeSlots(count: number, between: () => void, cached?: (slot: number) => void): void {
    for (let i = 0; i < count; i++) {
      const slot = this.#slots++;
      this.feed({ kind: 'fill', slot });
      cached?.(i);
      this.feed({ kind: 'full', slot });
      this.do({ kind: 'take', slot });
      if (i === 0) between();
      this.do({ kind: 'free', slot });
    }
    if (count === 0) between();
  }
}
