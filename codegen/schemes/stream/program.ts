// What a block of the stream kernel does in the passes of a launch, in order: worked out from templates/cuda/stream, not from the plan's phases.

import type { OpName, TensorName } from '../../model/graph.ts';
import { rowsOf } from '../../model/sizes.ts';
import type { Schedule } from '../../schedule/schedule.ts';
import { outputsOf } from '../barriers/accesses.ts';

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
  /** Every block finds the token from the offers; otherwise block 0 samples it. */
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
  /** Which write is meant, when stages run one after the other. For words: the turn. */
  readonly version: number;
  /** Words: the turn whose copy is touched. */
  readonly turn: number;
  /** The warp that touches them, or `dealt`: elements are dealt to all warps. */
  readonly warp: number | 'dealt';
}

export type StreamEvent = { readonly place: Place } & (
  | Access
  /** All computing warps of the block. */
  | { readonly kind: 'meet' }
  /** Computing warps wait for a slot of the ring to be full, and give it back; the producer waits for it to be free, and fills it. */
  | { readonly kind: 'take' | 'free' | 'fill' | 'full'; readonly slot: number }
  /** Warp 0 has seen all of `mid` of this turn; the producer waits for that. */
  | { readonly kind: 'progress' | 'gate'; readonly turn: number }
);

interface BlockProgram {
  readonly consumer: readonly StreamEvent[];
  readonly producer: readonly StreamEvent[];
}

/** What an event is, wherever it stands. */
type Act = StreamEvent extends infer E ? (E extends unknown ? Omit<E, 'place'> : never) : never;

interface Range {
  readonly begin: number;
  readonly end: number;
}

/** A tensor as the stage of op `maker` makes it in a turn. */
interface Made {
  readonly tensor: TensorName;
  readonly maker: OpName;
  readonly turn: number;
}

/** Part `part` of n things. */
function dealt(n: number, part: number, parts: number): Range {
  const at = (i: number) => Math.floor((n * i) / parts);
  return { begin: at(part), end: at(part + 1) };
}

/** What a block has of n rows that are dealt in tiles. */
function dealtRows(n: number, { tileRows, blocks }: Launch, block: number): Range {
  const { begin, end } = dealt(Math.ceil(n / tileRows), block, blocks);
  return { begin: begin * tileRows, end: Math.min(n, end * tileRows) };
}

/** A product takes as many slots as it has tiles: two stand for all, one before its input is there and one behind. */
const slotsFor = (tiles: number): number => Math.min(2, tiles);

/** What a block does, pass after pass. */
export function streamProgram(schedule: Schedule, launch: Launch, block: number): BlockProgram {
  const program = new Program(schedule, launch, block);
  for (let pass = 0; pass < launch.passes; pass++) program.pass(pass);
  return program;
}

class Program implements BlockProgram {
  readonly consumer: StreamEvent[] = [];
  readonly producer: StreamEvent[] = [];
  readonly #schedule: Schedule;
  readonly #launch: Launch;
  readonly #block: number;
  readonly #stages: Readonly<Partial<Record<OpName, string>>>;
  #place: Place = { stage: '', layer: 0, pass: 0, order: -1 };
  #slots = 0;
  #sums = 0;

  constructor(schedule: Schedule, launch: Launch, block: number) {
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
    this.#stages = Object.fromEntries(schedule.stages.flatMap((s) => s.ops.map((op) => [op, s.name])));
  }

  pass(pass: number): void {
    const { hidden, ffn, qHeads, headDim, layers } = this.#schedule.dims;
    this.#begin('embed', pass, 0);
    this.#residual('store', 2 * pass * layers);
    for (let layer = 0; layer < layers; layer++) {
      const turn = pass * layers + layer;
      const x: Made = { tensor: 'x', maker: 'ffn_add', turn };
      const mid: Made = { tensor: 'x', maker: 'attn_add', turn };
      const att: Made = { tensor: 'att', maker: 'attn_merge', turn };
      const h: Made = { tensor: 'h', maker: 'swiglu', turn };
      // Layer 0 reads the embedding table, which nobody writes.
      const input = layer === 0 ? null : () => this.#readAll({ ...x, turn: turn - 1 }, hidden);
      this.#begin('qkv_proj', pass, layer);
      this.#product('qkv_proj', input, (rows) => this.#writeQkv(rows, turn));
      this.#begin('attend', pass, layer);
      this.#attend(pass, turn, att);
      this.#begin('attn_merge', pass, layer);
      this.#merge(pass, turn, att);
      this.#begin('o_proj', pass, layer);
      this.#product(
        'o_proj',
        () => this.#readAll(att, qHeads * headDim),
        (rows) => this.#addToResidual(mid, rows, 2 * turn),
      );
      this.#begin('gate_up', pass, layer);
      this.#product(
        'gate_up',
        () => this.#readAll(mid, hidden),
        (rows) => this.#writeRows(h, rows, ffn),
      );
      this.#do({ kind: 'progress', turn });
      this.#begin('down_proj', pass, layer);
      this.#product(
        'down_proj',
        () => this.#readAll(h, ffn),
        (rows) => this.#addToResidual(x, rows, 2 * turn + 1),
      );
    }
    this.#begin('lm_head', pass, layers);
    this.#product(
      'lm_head',
      () => this.#readAll({ tensor: 'x', maker: 'ffn_add', turn: (pass + 1) * layers - 1 }, hidden),
      ({ begin, end }) => {
        if (!this.#launch.greedy) this.#plain('store', 'stored logits', begin, end, pass, 'dealt');
      },
    );
    this.#choose(pass);
  }

  /** This block's tiles of a product: the first slot is taken before the input is waited for; all warps add up before rows are used. */
  #product(op: OpName, input: (() => void) | null, use: (rows: Range) => void): void {
    const rows = dealtRows(rowsOf(op, this.#schedule.dims), this.#launch, this.#block);
    this.#slotsOf(slotsFor(Math.ceil((rows.end - rows.begin) / this.#launch.tileRows)), input);
    this.#addUp(`sums ${this.#sums++ % 2} of block ${this.#block}`);
    use(rows);
  }

  /** Each warp leaves its part of the result for all warps. */
  #addUp(space: string): void {
    const { warps } = this.#launch;
    const { order } = this.#place;
    for (let warp = 0; warp < warps; warp++) this.#plain('store', space, warp, warp + 1, order, warp);
    this.#do({ kind: 'meet' });
    for (let warp = 0; warp < warps; warp++) this.#plain('load', space, 0, warps, order, warp);
  }

  /** Slots of the ring, each taken and given back by every warp, the first before `between`; `cached` says what the producer copies. */
  #slotsOf(count: number, between: (() => void) | null, cached?: (slot: number) => void): void {
    for (let i = 0; i < count; i++) {
      const slot = this.#slots++;
      this.producer.push({ kind: 'fill', slot, place: this.#place });
      cached?.(i);
      this.producer.push({ kind: 'full', slot, place: this.#place });
      this.#do({ kind: 'take', slot });
      if (i === 0) between?.();
      this.#do({ kind: 'free', slot });
    }
    if (count === 0) between?.();
  }

  #writeQkv(rows: Range, turn: number): void {
    for (const { tensor, first, end } of outputsOf(this.#schedule.dims, 'qkv_proj')) {
      const mine = { begin: Math.max(rows.begin, first) - first, end: Math.min(rows.end, end) - first };
      this.#writeRows({ tensor, maker: 'qkv_proj', turn }, mine, end - first);
    }
  }

  #addToResidual(made: Made, rows: Range, version: number): void {
    this.#residual('load', version);
    this.#residual('store', version + 1);
    this.#writeRows(made, rows, this.#schedule.dims.hidden);
  }

  /** This block's rows of the residual, which it keeps. */
  #residual(kind: 'load' | 'store', version: number): void {
    const { begin, end } = dealtRows(this.#schedule.dims.hidden, this.#launch, this.#block);
    const count = (end - begin) * this.#launch.tokens;
    this.#plain(kind, `residual of block ${this.#block}`, 0, count, version, 'dealt');
  }

  /** The head and the part of the positions that this block works on in a pass, or null. */
  #unit(pass: number) {
    const { dims, stream, splits: most } = this.#schedule;
    const position = this.#launch.position + pass * this.#launch.tokens;
    const parts = Math.min(most, Math.floor(this.#launch.blocks / dims.kvHeads));
    const splits = position < stream!.splitFrom ? 1 : parts;
    const [head, split] = [Math.floor(this.#block / parts), this.#block % parts];
    const group = dims.qHeads / dims.kvHeads;
    return head < dims.kvHeads && split < splits ? { position, head, split, splits, group } : null;
  }

  #attend(pass: number, turn: number, att: Made): void {
    const { dims } = this.#schedule;
    const { warps, tokens } = this.#launch;
    if (pass > 0) this.producer.push({ kind: 'gate', turn: turn - dims.layers, place: this.#place });
    const unit = this.#unit(pass);
    if (!unit) return;
    const { position, head, split, splits, group } = unit;
    const cached = dealt(position, split, splits);
    const count = cached.end - cached.begin;
    const slots = slotsFor(count);
    const heads = (tensor: 'q' | 'k' | 'v', first: number, each: number, warp: number) => {
      const all = tensor === 'q' ? dims.qHeads : dims.kvHeads;
      for (let token = 0; token < tokens; token++) {
        const lo = (token * all + first) * dims.headDim;
        this.#read({ tensor, maker: 'qkv_proj', turn }, lo, lo + each * dims.headDim, warp);
      }
    };
    const appends = split === splits - 1 ? warps - 1 : -1;
    const ask = () => {
      for (let warp = 0; warp < warps; warp++) {
        if (warp < count || warp === appends) heads('q', head * group, group, warp);
      }
    };
    const cache = `cache of layer ${this.#place.layer}`;
    const row = head * (this.#launch.position + this.#launch.passes * tokens);
    this.#slotsOf(slots, ask, (i) => {
      const part = dealt(count, i, slots);
      this.#cached(cache, row + cached.begin + part.begin, row + cached.begin + part.end);
    });
    if (appends >= 0) {
      heads('k', head, 1, appends);
      heads('v', head, 1, appends);
      this.#plain('store', cache, row + position, row + position + tokens, 0, appends);
      if (tokens > 1) this.#do({ kind: 'meet' });
    }
    this.#addUp(`attention of block ${this.#block}`);
    const size = group * dims.headDim;
    for (let token = 0; token < tokens; token++) {
      const at = token * dims.kvHeads + head;
      if (splits === 1) this.#write(att, at * size, (at + 1) * size, 'dealt');
      else this.#write(this.#parts(turn), ...this.#part(at, split, splits), 'dealt');
    }
    if (splits === 1) this.#do({ kind: 'meet' });
  }

  #parts = (turn: number): Made => ({ tensor: 'partial', maker: 'attend', turn });

  /** Words of one part of a head: its elements, then one for the maximum and the sum. */
  #part(head: number, split: number, splits: number): [lo: number, hi: number] {
    const { qHeads, kvHeads, headDim } = this.#schedule.dims;
    const size = (qHeads / kvHeads) * headDim + 1;
    return [(head * splits + split) * size, (head * splits + split + 1) * size];
  }

  /** The blocks of a head share its words; a warp publishes a word as soon as it has its parts. */
  #merge(pass: number, turn: number, att: Made): void {
    const { dims } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const unit = this.#unit(pass);
    if (!unit || unit.splits === 1) return;
    const { head, split, splits, group } = unit;
    const size = group * dims.headDim;
    const share = (of: Range, part: number, parts: number): Range => {
      const { begin, end } = dealt(of.end - of.begin, part, parts);
      return { begin: of.begin + begin, end: of.begin + end };
    };
    const mine = dealt(tokens * size, split, splits);
    const goes = 2; // stand for all that a warp makes one after the other
    for (let warp = 0; warp < warps; warp++) {
      for (let go = 0; go < goes; go++) {
        const items = share(share(mine, warp, warps), go, goes);
        for (let token = 0; token < tokens; token++) {
          const at = token * dims.kvHeads + head;
          const begin = Math.max(0, items.begin - token * size);
          const end = Math.min(size, items.end - token * size);
          if (begin >= end) continue;
          for (let other = 0; other < splits; other++) {
            const [lo, hi] = this.#part(at, other, splits);
            this.#read(this.#parts(turn), lo + begin, lo + end, warp);
            this.#read(this.#parts(turn), hi - 1, hi, warp);
          }
          this.#write(att, at * size + begin, at * size + end, warp);
        }
      }
    }
    this.#do({ kind: 'meet' });
  }

  /** Every block offers its best logit; all blocks look at the offers, or block 0 does and tells the token. Turns are passes. */
  #choose(pass: number): void {
    const { blocks, greedy } = this.#launch;
    const offers: Made = { tensor: 'logits', maker: 'lm_head', turn: pass };
    const chosen: Made = { tensor: 'next', maker: 'sample', turn: pass };
    this.#do({ kind: 'meet' });
    this.#write(offers, this.#block, this.#block + 1, 0);
    this.#begin('sample', pass, this.#schedule.dims.layers);
    if (greedy || this.#block === 0) {
      this.#read(offers, 0, blocks, 'dealt');
      this.#do({ kind: 'meet' });
    }
    if (greedy) return;
    if (this.#block === 0) {
      this.#plain('load', 'stored logits', 0, this.#schedule.dims.vocab, pass, 'dealt');
      this.#do({ kind: 'meet' });
      this.#write(chosen, 0, 1, 0);
    }
    this.#read(chosen, 0, 1, 0, 'embed');
    this.#do({ kind: 'meet' });
  }

  #begin(op: OpName, pass: number, layer: number): void {
    this.#place = { stage: this.#stages[op]!, layer, pass, order: this.#place.order + 1 };
  }

  #do(act: Act): void {
    this.consumer.push({ ...act, place: this.#place });
  }

  #readAll(made: Made, columns: number): void {
    this.#read(made, 0, this.#launch.tokens * columns, 'dealt');
  }

  #writeRows(made: Made, rows: Range, columns: number): void {
    for (let token = 0; token < this.#launch.tokens; token++) {
      this.#write(made, token * columns + rows.begin, token * columns + rows.end, 'dealt');
    }
  }

  /** Words are waited for if an exchange carries them to the stage that reads. */
  #read(made: Made, lo: number, hi: number, warp: Access['warp'], reader?: OpName): void {
    const stage = reader ? this.#stages[reader]! : this.#place.stage;
    const isCarried = this.#exchanges(made).some((sync) => sync.readers!.includes(stage));
    this.#words(isCarried ? 'poll' : 'load', made, lo, hi, warp);
  }

  #write(made: Made, lo: number, hi: number, warp: Access['warp']): void {
    this.#words(this.#exchanges(made).length > 0 ? 'publish' : 'store', made, lo, hi, warp);
  }

  #exchanges({ tensor, maker }: Made) {
    const stage = this.#stages[maker];
    return this.#schedule.syncs.filter(
      (s) => s.scope === 'exchange' && s.after.stage === stage && s.tensors!.includes(tensor),
    );
  }

  #words(kind: Access['kind'], made: Made, lo: number, hi: number, warp: Access['warp']): void {
    const { tensor, maker, turn } = made;
    const space = `${tensor} of ${this.#stages[maker]!}`;
    if (lo < hi) this.#do({ kind, space, lo, hi, version: turn, turn, warp });
  }

  #plain(
    kind: 'load' | 'store',
    space: string,
    lo: number,
    hi: number,
    version: number,
    warp: Access['warp'],
  ): void {
    if (lo < hi) this.#do({ kind, space, lo, hi, version, turn: 0, warp });
  }

  /** Positions that the producer copies into the slot it fills. */
  #cached(space: string, lo: number, hi: number): void {
    this.producer.push({ kind: 'load', space, lo, hi, version: 0, turn: 0, warp: 0, place: this.#place });
  }
}
