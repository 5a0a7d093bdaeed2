// What a block of the stream kernel does in the passes of a launch, in order: a reading of the stages of its own, apart from the printed text.

import type { OpName, TensorName } from '../../model/graph.ts';
import { kindOf } from '../../model/kinds.ts';
import { columnsOf, rowsOf } from '../independent-sizes.ts';
import { type StreamSchedule, type StreamStage, splitsAt } from './schedule.ts';

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
  /** The block knows that all blocks have appended in this epoch; the producer waits for that. */
  | { readonly kind: 'progress' | 'gate'; readonly epoch: number }
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

/** A tensor as a stage makes it in an epoch. */
interface Made {
  readonly tensor: TensorName;
  readonly stage: string;
  readonly epoch: number;
}

/** Share `share` of n things. */
function dealt(n: number, share: number, shares: number): Range {
  const at = (i: number) => Math.floor((n * i) / shares);
  return { begin: at(share), end: at(share + 1) };
}

/** What a block has of n rows that are dealt in tiles. */
function dealtRows(n: number, { tileRows, blocks }: Launch, block: number): Range {
  const { begin, end } = dealt(Math.ceil(n / tileRows), block, blocks);
  return { begin: begin * tileRows, end: Math.min(n, end * tileRows) };
}

/** A product takes as many slots as it has tiles: two stand for all, one before its input is there and one behind. */
const slotsFor = (tiles: number): number => Math.min(2, tiles);

/** What pointwise ops make of the rows of the product in front of them. */
const results: Partial<Record<OpName, TensorName>> = { attn_add: 'x', ffn_add: 'x', swiglu: 'h' };
const normed: Partial<Record<OpName, TensorName>> = { attn_norm: 'xn', ffn_norm: 'hn', final_norm: 'xf' };

/** What a block does, pass after pass. */
export function streamProgram(schedule: StreamSchedule, launch: Launch, block: number): BlockProgram {
  const program = new Program(schedule, launch, block);
  for (let pass = 0; pass < launch.passes; pass++) program.pass(pass);
  return program;
}

class Program implements BlockProgram {
  readonly consumer: StreamEvent[] = [];
  readonly producer: StreamEvent[] = [];
  readonly #schedule: StreamSchedule;
  readonly #launch: Launch;
  readonly #block: number;
  #place: Place = { stage: '', layer: 0, pass: 0, order: -1 };
  #slots = 0;
  #sums = 0;
  #residual = 0;

  constructor(schedule: StreamSchedule, launch: Launch, block: number) {
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
  }

  pass(pass: number): void {
    const { stages, dims } = this.#schedule;
    const run = (part: StreamStage['part'], layer: number) => {
      for (const stage of stages) if (stage.part === part) this.#stage(stage, pass, layer);
    };
    run('begin', 0);
    for (let layer = 0; layer < dims.layers; layer++) run('layer', layer);
    run('end', dims.layers);
  }

  #stage(stage: StreamStage, pass: number, layer: number): void {
    const { syncs, dims } = this.#schedule;
    this.#place = { stage: stage.name, layer, pass, order: this.#place.order + 1 };
    const epoch = stage.part === 'end' ? pass : pass * dims.layers + layer;
    this.#body(stage, pass, epoch);
    const behind = (scope: 'cache' | 'block') =>
      syncs.some((sync) => sync.scope === scope && sync.after.stage === stage.name);
    if (behind('cache')) this.#do({ kind: 'progress', epoch });
    if (behind('block')) this.#do({ kind: 'meet' });
  }

  #body(stage: StreamStage, pass: number, epoch: number): void {
    const { body } = stage;
    switch (body.kind) {
      case 'embed':
        this.#keepResidual('store');
        return;
      case 'norm':
        this.#norm(stage, epoch);
        return;
      case 'product':
        this.#product(stage, epoch);
        return;
      case 'kept':
        this.#kept(stage, epoch);
        return;
      case 'attend':
        this.#attend(stage, pass, epoch);
        return;
      case 'merge_splits':
        this.#merge(stage, epoch);
        return;
      case 'sample':
        this.#choose(stage, pass);
        return;
      default:
        body satisfies never;
    }
  }

  /** One block a token has all of it, and makes all of its normed form. */
  #norm(stage: StreamStage, epoch: number): void {
    const { hidden } = this.#schedule.dims;
    const tensor = normed[stage.body.op]!;
    for (let token = this.#block; token < this.#launch.tokens; token += this.#launch.blocks) {
      this.#gather(stage, 'x', epoch, token * hidden, (token + 1) * hidden);
      this.#addUp(`sums ${this.#sums++ % 2} of block ${this.#block}`);
      this.#write({ tensor, stage: stage.name, epoch }, token * hidden, (token + 1) * hidden, 'dealt');
    }
  }

  /** This block's tiles of a product: the first slot is taken before the input is waited for; all warps add up before rows are used. */
  #product(stage: StreamStage, epoch: number): void {
    const { op } = stage.body;
    const { dims } = this.#schedule;
    const rows = dealtRows(rowsOf(op, dims), this.#launch, this.#block);
    this.#slotsOf(slotsFor(Math.ceil((rows.end - rows.begin) / this.#launch.tileRows)), () => {
      this.#input(stage, epoch);
      this.#ownWork('store');
    });
    this.#ownWork('load');
    this.#addUp(`sums ${this.#sums++ % 2} of block ${this.#block}`);
    this.#epilogue(stage, rows, epoch);
  }

  /** Everything that a product reads of what others make: each warp the columns that it multiplies. */
  #input(stage: StreamStage, epoch: number): void {
    const { warps, tokens } = this.#launch;
    const columns = columnsOf(stage.body.op, this.#schedule.dims);
    for (let warp = 0; warp < warps; warp++) {
      const mine = dealt(columns, warp, warps);
      for (let token = 0; token < tokens; token++) {
        const [lo, hi] = [token * columns + mine.begin, token * columns + mine.end];
        for (const step of stage.prologue) {
          if (step.kind === 'gather') this.#gather(stage, step.tensor, epoch, lo, hi, warp);
          if (step.kind !== 'merge_splits') continue;
          if (this.#splits() === 1) this.#gather(stage, 'att', epoch, lo, hi, warp);
          else this.#gatherSplits(stage, epoch, token, mine, warp);
        }
      }
    }
  }

  /** The splits of some elements of a token's attention output. */
  #gatherSplits(stage: StreamStage, epoch: number, token: number, elements: Range, warp: number): void {
    const { qHeads, kvHeads, headDim } = this.#schedule.dims;
    const size = (qHeads / kvHeads) * headDim;
    for (let head = 0; head < kvHeads; head++) {
      const begin = Math.max(0, elements.begin - head * size);
      const end = Math.min(size, elements.end - head * size);
      if (begin >= end) continue;
      for (let split = 0; split < this.#splits(); split++) {
        const [lo, hi] = this.#splitWord(token * kvHeads + head, split);
        this.#gather(stage, 'partial', epoch, lo + begin, lo + end, warp);
        this.#gather(stage, 'partial', epoch, hi - 1, hi, warp);
      }
    }
  }

  /** Words of a tensor, of the epoch in which they were made last; in layer 0 the residual stream is a table that nobody writes. */
  #gather(
    stage: StreamStage,
    tensor: TensorName,
    epoch: number,
    lo: number,
    hi: number,
    warp: Access['warp'] = 'dealt',
  ): void {
    const { stages, dims } = this.#schedule;
    const at = stages.indexOf(stage);
    const makes = (other: StreamStage) => this.#makes(other, tensor);
    const here = stages.findLast((other, i) => i < at && other.part === stage.part && makes(other));
    const before = stages.findLast((other) => other.part === 'layer' && makes(other));
    const maker = here ?? before!;
    if (!here && stage.part === 'layer' && this.#place.layer === 0) return;
    const last = stage.part === 'end' ? (this.#place.pass + 1) * dims.layers - 1 : epoch - 1;
    this.#read({ tensor, stage: maker.name, epoch: here ? epoch : last }, lo, hi, warp);
  }

  /** Whether a stage makes a tensor at this position. */
  #makes({ body, epilogue }: StreamStage, tensor: TensorName): boolean {
    switch (body.kind) {
      case 'norm':
        return normed[body.op] === tensor;
      case 'attend':
        return this.#splits() === 1 ? tensor === 'att' : tensor === 'partial';
      case 'merge_splits':
        return tensor === 'att' && this.#splits() > 1;
      case 'product':
      case 'kept':
        if (body.op === 'qkv_proj') {
          const turned = epilogue.some((step) => step.kind === 'rotate');
          const made = turned ? ['qr', 'kr', 'v', 'squares'] : ['q', 'k', 'v'];
          return made.includes(tensor);
        }
        return epilogue.some((step) => step.kind === 'pointwise' && results[step.op] === tensor);
      default:
        return false;
    }
  }

  #epilogue(stage: StreamStage, rows: Range, epoch: number): void {
    const { name, body, epilogue } = stage;
    const { dims } = this.#schedule;
    const kept = `rows of ${body.op} in block ${this.#block}`;
    const count = (rows.end - rows.begin) * this.#launch.tokens;
    if (body.kind === 'kept') this.#plain('load', kept, 0, count, epoch, 'dealt');
    if (body.op === 'qkv_proj') this.#writeQkv(stage, rows, epoch);
    if (body.op === 'lm_head' && !this.#launch.greedy) {
      this.#plain('store', 'stored logits', rows.begin, rows.end, this.#place.pass, 'dealt');
    }
    for (const step of epilogue) {
      if (step.kind === 'keep') this.#plain('store', kept, 0, count, epoch, 'dealt');
      if (step.kind !== 'pointwise') continue;
      const tensor = results[step.op]!;
      if (tensor === 'x') {
        this.#keepResidual('load');
        this.#keepResidual('store');
      }
      this.#writeRows({ tensor, stage: name, epoch }, rows, rowsOf(step.op, dims));
    }
  }

  #kept(stage: StreamStage, epoch: number): void {
    const rows = dealtRows(rowsOf(stage.body.op, this.#schedule.dims), this.#launch, this.#block);
    this.#epilogue(stage, rows, epoch);
  }

  /** Each warp leaves its share of the result for all warps. */
  #addUp(space: string): void {
    const { warps } = this.#launch;
    const { order } = this.#place;
    for (let warp = 0; warp < warps; warp++) this.#plain('store', space, warp, warp + 1, order, warp);
    this.#do({ kind: 'meet' });
    for (let warp = 0; warp < warps; warp++) this.#plain('load', space, 0, warps, order, warp);
  }

  get #work(): string {
    return `work of block ${this.#block}`;
  }

  /** The part of the block's work space that a warp has for itself: its columns of an input. */
  #ownWork(kind: 'load' | 'store'): void {
    const { warps } = this.#launch;
    for (let warp = 0; warp < warps; warp++)
      this.#plain(kind, this.#work, warp, warp + 1, this.#place.order, warp);
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

  /** Queries, keys and values stand behind each other in the rows of their product; squares are of the first two. */
  #writeQkv(stage: StreamStage, rows: Range, epoch: number): void {
    const { qHeads, kvHeads, headDim } = this.#schedule.dims;
    const turned = stage.epilogue.some((step) => step.kind === 'rotate');
    const [qEnd, kEnd] = [qHeads * headDim, (qHeads + kvHeads) * headDim];
    const outputs: readonly (readonly [TensorName, number, number])[] = [
      [turned ? 'qr' : 'q', 0, qEnd],
      [turned ? 'kr' : 'k', qEnd, kEnd],
      ['v', kEnd, kEnd + kvHeads * headDim],
      ...(turned && this.#schedule.dims.qkNorm ? ([['squares', 0, kEnd]] as const) : []),
    ];
    for (const [tensor, first, end] of outputs) {
      const mine = { begin: Math.max(rows.begin, first) - first, end: Math.min(rows.end, end) - first };
      this.#writeRows({ tensor, stage: stage.name, epoch }, mine, end - first);
    }
  }

  /** This block's rows of the residual, which it keeps; each store makes the next version. */
  #keepResidual(kind: 'load' | 'store'): void {
    const { begin, end } = dealtRows(this.#schedule.dims.hidden, this.#launch, this.#block);
    const count = (end - begin) * this.#launch.tokens;
    const version = kind === 'store' ? ++this.#residual : this.#residual;
    this.#plain(kind, `residual of block ${this.#block}`, 0, count, version, 'dealt');
  }

  #splits(): number {
    const { splitSteps } = this.#schedule;
    return Math.min(
      this.#mostSplits(),
      splitsAt(splitSteps, this.#launch.position + this.#place.pass * this.#launch.tokens),
    );
  }

  #mostSplits(): number {
    const { dims, splits } = this.#schedule;
    return Math.max(1, Math.min(splits, Math.floor(this.#launch.blocks / dims.kvHeads)));
  }

  /** The head and the split of the positions that this block works on, or null. */
  #unit() {
    const { dims } = this.#schedule;
    const position = this.#launch.position + this.#place.pass * this.#launch.tokens;
    const most = this.#mostSplits();
    const splits = this.#splits();
    const [head, split] = [Math.floor(this.#block / most), this.#block % most];
    const group = dims.qHeads / dims.kvHeads;
    return head < dims.kvHeads && split < splits ? { position, head, split, splits, group } : null;
  }

  #attend(stage: StreamStage, pass: number, epoch: number): void {
    const { dims, syncs } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const gated = syncs.some((sync) => sync.scope === 'cache');
    if (pass > 0 && gated)
      this.producer.push({ kind: 'gate', epoch: epoch - dims.layers, place: this.#place });
    const unit = this.#unit();
    if (!unit) return;
    const { position, head, split, splits, group } = unit;
    const { window } = kindOf(dims, this.#place.layer);
    const visible = window === null ? position : Math.min(position, window - 1); // by the first token
    const cached = dealt(visible, split, splits);
    const count = cached.end - cached.begin;
    const slots = slotsFor(count);
    const turned = stage.prologue.every((step) => step.kind !== 'rotate');
    const heads = (tensor: TensorName, first: number, each: number, warp: number, all: number) => {
      for (let token = 0; token < tokens; token++) {
        const lo = (token * all + first) * dims.headDim;
        this.#gather(stage, tensor, epoch, lo, lo + each * dims.headDim, warp);
      }
    };
    const factored = turned && dims.qkNorm;
    const queries = (warp: number) => {
      heads(turned ? 'qr' : 'q', head * group, group, warp, dims.qHeads);
      if (factored) heads('squares', head * group, group, warp, dims.qHeads + dims.kvHeads);
    };
    const appends = split === splits - 1 ? warps - 1 : -1;
    const ask = () => {
      for (let warp = 0; warp < warps; warp++) if (warp < count || warp === appends) queries(warp);
      this.#ownWork('store');
    };
    const cache = `cache of layer ${this.#place.layer}`;
    const row = head * (this.#launch.position + this.#launch.passes * tokens);
    const first = row + position - visible;
    this.#slotsOf(slots, ask, (i) => {
      const part = dealt(count, i, slots);
      this.#cached(cache, first + cached.begin + part.begin, first + cached.begin + part.end);
    });
    if (appends >= 0) {
      heads(turned ? 'kr' : 'k', head, 1, appends, dims.kvHeads);
      if (factored) heads('squares', dims.qHeads + head, 1, appends, dims.qHeads + dims.kvHeads);
      heads('v', head, 1, appends, dims.kvHeads);
      this.#plain('store', cache, row + position, row + position + tokens, 0, appends);
      if (tokens > 1) this.#do({ kind: 'meet' });
    }
    this.#do({ kind: 'meet' });
    for (let warp = 0; warp < warps; warp++)
      this.#plain('load', this.#work, 0, warps, this.#place.order, warp);
    const size = group * dims.headDim;
    const made = (tensor: TensorName): Made => ({ tensor, stage: stage.name, epoch });
    for (let token = 0; token < tokens; token++) {
      const at = token * dims.kvHeads + head;
      if (splits === 1) this.#write(made('att'), at * size, (at + 1) * size, 'dealt');
      else this.#write(made('partial'), ...this.#splitWord(at, split), 'dealt');
    }
  }

  /** Words of one split of a head: its elements, then one for the maximum and the sum. */
  #splitWord(head: number, split: number): [lo: number, hi: number] {
    const { qHeads, kvHeads, headDim } = this.#schedule.dims;
    const size = (qHeads / kvHeads) * headDim + 1;
    const first = (head * this.#mostSplits() + split) * size;
    return [first, first + size];
  }

  /** The blocks of a head share its words; a warp publishes a word as soon as it has its splits. */
  #merge(stage: StreamStage, epoch: number): void {
    const { dims } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const unit = this.#unit();
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
            const [lo, hi] = this.#splitWord(at, other);
            this.#gather(stage, 'partial', epoch, lo + begin, lo + end, warp);
            this.#gather(stage, 'partial', epoch, hi - 1, hi, warp);
          }
          this.#write({ tensor: 'att', stage: stage.name, epoch }, at * size + begin, at * size + end, warp);
        }
      }
    }
  }

  /** Every block hands over its best logit; all blocks look at all, or block 0 does and tells the token. Epochs are passes. */
  #choose(stage: StreamStage, pass: number): void {
    const { blocks, greedy } = this.#launch;
    const head = this.#schedule.stages.find((other) => other.body.op === 'lm_head')!;
    const candidates: Made = { tensor: 'logits', stage: head.name, epoch: pass };
    const sampled: Made = { tensor: 'next', stage: stage.name, epoch: pass };
    this.#do({ kind: 'meet' });
    this.#write(candidates, this.#block, this.#block + 1, 0);
    if (greedy || this.#block === 0) {
      this.#read(candidates, 0, blocks, 'dealt');
      this.#do({ kind: 'meet' });
    }
    if (greedy) return;
    if (this.#block === 0) {
      this.#plain('load', 'stored logits', 0, this.#schedule.dims.vocab, pass, 'dealt');
      this.#do({ kind: 'meet' });
      this.#write(sampled, 0, 1, 0);
    }
    const embed = this.#schedule.stages.find((other) => other.body.kind === 'embed')!;
    this.#read(sampled, 0, 1, 0, embed.name);
    this.#do({ kind: 'meet' });
  }

  #do(act: Act): void {
    this.consumer.push({ ...act, place: this.#place });
  }

  #writeRows(made: Made, rows: Range, columns: number): void {
    for (let token = 0; token < this.#launch.tokens; token++) {
      this.#write(made, token * columns + rows.begin, token * columns + rows.end, 'dealt');
    }
  }

  /** Words are waited for if an exchange carries them to the stage that reads. */
  #read(made: Made, lo: number, hi: number, warp: Access['warp'], reader = this.#place.stage): void {
    const isCarried = this.#exchanges(made).some((sync) => sync.readers.includes(reader));
    this.#words(isCarried ? 'poll' : 'load', made, lo, hi, warp);
  }

  #write(made: Made, lo: number, hi: number, warp: Access['warp']): void {
    this.#words(this.#exchanges(made).length > 0 ? 'publish' : 'store', made, lo, hi, warp);
  }

  #exchanges({ tensor, stage }: Made) {
    return this.#schedule.syncs.flatMap((sync) =>
      sync.scope === 'exchange' && sync.after.stage === stage && sync.tensors.includes(tensor) ? [sync] : [],
    );
  }

  /** The attention output has two makers, of which one is at work at a position; all else has a place for each. */
  #words(kind: Access['kind'], made: Made, lo: number, hi: number, warp: Access['warp']): void {
    const { tensor, stage, epoch } = made;
    const space = tensor === 'att' ? tensor : `${tensor} of ${stage}`;
    if (lo < hi) this.#do({ kind, space, lo, hi, version: epoch, epoch, warp });
  }

  #plain(
    kind: 'load' | 'store',
    space: string,
    lo: number,
    hi: number,
    version: number,
    warp: Access['warp'],
  ): void {
    if (lo < hi) this.#do({ kind, space, lo, hi, version, epoch: 0, warp });
  }

  /** Positions that the producer copies into the slot it fills. */
  #cached(space: string, lo: number, hi: number): void {
    this.producer.push({ kind: 'load', space, lo, hi, version: 0, epoch: 0, warp: 0, place: this.#place });
  }
}
