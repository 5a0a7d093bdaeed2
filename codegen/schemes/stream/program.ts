// What a block of the stream kernel does in the passes of a launch, in order: a reading of the stages of its own, apart from the printed text.

import type { OpName, TensorName } from '../../model/graph.ts';
import { kindOf } from '../../model/kinds.ts';
import { columnsOf, rowsOf } from '../independent-sizes.ts';
import { dealt, dealtRows, HeadDeal, type Range } from './deal.ts';
import { type Access, type BlockProgram, type Launch, Trace } from './events.ts';
import { passedByIn, type StreamSchedule, type StreamStage } from './schedule.ts';

/** A tensor as a stage makes it in an epoch. */
interface Made {
  readonly tensor: TensorName;
  readonly stage: string;
  readonly epoch: number;
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
  return program.trace;
}

class Program {
  readonly trace = new Trace();
  readonly #schedule: StreamSchedule;
  readonly #launch: Launch;
  readonly #block: number;
  readonly #deal: HeadDeal;
  #sums = 0;
  #residual = 0;

  constructor(schedule: StreamSchedule, launch: Launch, block: number) {
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
    this.#deal = new HeadDeal(schedule, launch, block);
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
    this.trace.place = { stage: stage.name, layer, pass, order: this.trace.place.order + 1 };
    const epoch = stage.part === 'end' ? pass : pass * dims.layers + layer;
    this.#body(stage, pass, epoch);
    for (const sync of syncs) {
      if (sync.after.stage !== stage.name) continue;
      if (sync.scope === 'block') this.trace.do({ kind: 'meet' });
      if (sync.scope !== 'cache' || layer < sync.layersBefore) continue;
      this.trace.do({ kind: 'appended' });
      this.trace.do({ kind: 'progress', epoch: pass * dims.layers + layer - sync.layersBefore });
    }
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
    const rows = this.#rowsOf(op);
    if (rows.begin === rows.end && passedByIn(this.#schedule.products).has(op)) return;
    this.trace.takeSlots(slotsFor(Math.ceil((rows.end - rows.begin) / this.#tileRows(op))), () => {
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
          const splits = this.#deal.splitsOf(this.trace.place.pass, token);
          if (this.#deal.isWhole(splits)) this.#gather(stage, 'att', epoch, lo, hi, warp);
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
      for (const split of this.#deal.splitsOf(this.trace.place.pass, token)) {
        const [lo, hi] = this.#deal.word(token * kvHeads + head, split);
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
    if (!here && stage.part === 'layer' && this.trace.place.layer === 0) return;
    const last = stage.part === 'end' ? (this.trace.place.pass + 1) * dims.layers - 1 : epoch - 1;
    this.#read({ tensor, stage: maker.name, epoch: here ? epoch : last }, lo, hi, warp);
  }

  /** Whether a stage makes a tensor at this position. */
  #makes({ body, epilogue }: StreamStage, tensor: TensorName): boolean {
    switch (body.kind) {
      case 'norm':
        return normed[body.op] === tensor;
      case 'attend':
        if (this.#launch.rows) return tensor === 'partial' || (tensor === 'att' && this.#deal.handsOverWhole);
        return this.#deal.splits(this.trace.place.pass) === 1 ? tensor === 'att' : tensor === 'partial';
      case 'merge_splits':
        return (
          tensor === 'att' &&
          (this.#launch.rows !== undefined || this.#deal.splits(this.trace.place.pass) > 1)
        );
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
    const { dims, syncs } = this.#schedule;
    // A block without rows publishes none, and waits for nothing before.
    const guards = syncs.some((sync) => sync.scope === 'cache' && sync.guard === name);
    if (guards && rows.begin < rows.end) this.trace.do({ kind: 'appended' });
    const kept = `rows of ${body.op} in block ${this.#block}`;
    const count = (rows.end - rows.begin) * this.#launch.tokens;
    if (body.kind === 'kept') this.trace.touch('load', kept, 0, count, epoch, 'dealt');
    if (body.op === 'qkv_proj') this.#writeQkv(stage, rows, epoch);
    if (body.op === 'lm_head' && !this.#launch.greedy) {
      this.trace.touch('store', 'stored logits', rows.begin, rows.end, this.trace.place.pass, 'dealt');
    }
    for (const step of epilogue) {
      if (step.kind === 'keep') this.trace.touch('store', kept, 0, count, epoch, 'dealt');
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
    this.#epilogue(stage, this.#rowsOf(stage.body.op), epoch);
  }

  /** Rows of an op in a tile: a row of gate_up is two of its matrix. */
  #tileRows(op: OpName): number {
    return Math.ceil(this.#launch.tileRows / (op === 'gate_up' ? 2 : 1));
  }

  /** What this block has of the rows of an op. */
  #rowsOf(op: OpName): Range {
    return dealtRows(rowsOf(op, this.#schedule.dims), this.#tileRows(op), this.#launch.blocks, this.#block);
  }

  /** Each warp leaves its share of the result for all warps. */
  #addUp(space: string): void {
    const { warps } = this.#launch;
    const { order } = this.trace.place;
    for (let warp = 0; warp < warps; warp++) this.trace.touch('store', space, warp, warp + 1, order, warp);
    this.trace.do({ kind: 'meet' });
    for (let warp = 0; warp < warps; warp++) this.trace.touch('load', space, 0, warps, order, warp);
  }

  get #work(): string {
    return `work of block ${this.#block}`;
  }

  /** The part of the block's work space that a warp has for itself: its columns of an input. */
  #ownWork(kind: 'load' | 'store'): void {
    const { warps } = this.#launch;
    for (let warp = 0; warp < warps; warp++)
      this.trace.touch(kind, this.#work, warp, warp + 1, this.trace.place.order, warp);
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
    const { begin, end } = this.#rowsOf('o_proj');
    const count = (end - begin) * this.#launch.tokens;
    const version = kind === 'store' ? ++this.#residual : this.#residual;
    this.trace.touch(kind, `residual of block ${this.#block}`, 0, count, version, 'dealt');
  }

  /** Attention of a batch: one row after the other. In a layer with a window fewer positions are dealt in the same shares. */
  #attendRows(stage: StreamStage, epoch: number): void {
    const { dims } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const most = this.#deal.mostSplits;
    const [head, split] = [Math.floor(this.#block / most), this.#block % most];
    if (head >= dims.kvHeads) return;
    const group = dims.qHeads / dims.kvHeads;
    const turned = stage.prologue.every((step) => step.kind !== 'rotate');
    const { window } = kindOf(dims, this.trace.place.layer);
    const made = (tensor: TensorName): Made => ({ tensor, stage: stage.name, epoch });
    for (let token = 0; token < tokens; token++) {
      const share = this.#deal.share(token, split);
      if (!share) continue;
      const position = this.#launch.rows![token]!;
      const seen = window === null ? position : Math.min(position, window - 1);
      const at = (item: number) =>
        position - seen + (position === 0 ? 0 : Math.floor((item * seen) / position));
      const [begin, end] = [at(share.cached.begin), at(share.cached.end)];
      const heads = (tensor: TensorName, first: number, each: number, warp: number, all: number) => {
        const lo = (token * all + first) * dims.headDim;
        this.#gather(stage, tensor, epoch, lo, lo + each * dims.headDim, warp);
      };
      const appends = share.own ? warps - 1 : -1;
      const slots = slotsFor(end - begin);
      const cache = `cache of layer ${this.trace.place.layer} and row ${token}`;
      const row = head * (position + 1);
      const ask = () => {
        for (let warp = 0; warp < warps; warp++) {
          if (warp >= end - begin && warp !== appends) continue;
          heads(turned ? 'qr' : 'q', head * group, group, warp, dims.qHeads);
          if (turned && dims.qkNorm) heads('squares', head * group, group, warp, dims.qHeads + dims.kvHeads);
        }
        this.#ownWork('store');
      };
      this.trace.takeSlots(slots, ask, (i) => {
        const part = dealt(end - begin, i, slots);
        const [lo, hi] = [row + begin + part.begin, row + begin + part.end];
        this.trace.feed({ kind: 'load', space: cache, lo, hi, version: 0, epoch: 0, warp: 0 });
      });
      if (share.own) {
        heads(turned ? 'kr' : 'k', head, 1, appends, dims.kvHeads);
        if (turned && dims.qkNorm)
          heads('squares', dims.qHeads + head, 1, appends, dims.qHeads + dims.kvHeads);
        heads('v', head, 1, appends, dims.kvHeads);
        this.trace.touch('store', cache, row + position, row + position + 1, 0, appends);
      }
      this.trace.do({ kind: 'meet' });
      for (let warp = 0; warp < warps; warp++)
        this.trace.touch('load', this.#work, 0, warps, this.trace.place.order, warp);
      const size = group * dims.headDim;
      const word = token * dims.kvHeads + head;
      if (this.#deal.isWhole(this.#deal.splitsOf(this.trace.place.pass, token)))
        this.#write(made('att'), word * size, (word + 1) * size, 'dealt');
      else this.#write(made('partial'), ...this.#deal.word(word, split), 'dealt');
      this.trace.do({ kind: 'meet' });
    }
  }

  #attend(stage: StreamStage, pass: number, epoch: number): void {
    if (this.#launch.rows) {
      this.#attendRows(stage, epoch);
      return;
    }
    const { dims, syncs } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const gated = syncs.some((sync) => sync.scope === 'cache');
    if (pass > 0 && gated) this.trace.feed({ kind: 'gate', epoch: epoch - dims.layers });
    const unit = this.#deal.unit(this.trace.place.pass);
    if (!unit) return;
    const { position, head, split, splits, group } = unit;
    const { window } = kindOf(dims, this.trace.place.layer);
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
    const cache = `cache of layer ${this.trace.place.layer}`;
    const row = head * (this.#launch.position + this.#launch.passes * tokens);
    const first = row + position - visible;
    this.trace.takeSlots(slots, ask, (i) => {
      const part = dealt(count, i, slots);
      const [lo, hi] = [first + cached.begin + part.begin, first + cached.begin + part.end];
      this.trace.feed({ kind: 'load', space: cache, lo, hi, version: 0, epoch: 0, warp: 0 });
    });
    if (appends >= 0) {
      heads(turned ? 'kr' : 'k', head, 1, appends, dims.kvHeads);
      if (factored) heads('squares', dims.qHeads + head, 1, appends, dims.qHeads + dims.kvHeads);
      heads('v', head, 1, appends, dims.kvHeads);
      this.trace.touch('store', cache, row + position, row + position + tokens, 0, appends);
      if (tokens > 1) this.trace.do({ kind: 'meet' });
    }
    this.trace.do({ kind: 'meet' });
    for (let warp = 0; warp < warps; warp++)
      this.trace.touch('load', this.#work, 0, warps, this.trace.place.order, warp);
    const size = group * dims.headDim;
    const made = (tensor: TensorName): Made => ({ tensor, stage: stage.name, epoch });
    for (let token = 0; token < tokens; token++) {
      const at = token * dims.kvHeads + head;
      if (splits === 1) this.#write(made('att'), at * size, (at + 1) * size, 'dealt');
      else this.#write(made('partial'), ...this.#deal.word(at, split), 'dealt');
    }
  }

  /** The blocks of a head share its words; a warp publishes a word as soon as it has its splits. */
  #merge(stage: StreamStage, epoch: number): void {
    const { dims } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const unit = this.#deal.unit(this.trace.place.pass);
    if (!unit || (unit.splits === 1 && !this.#launch.rows)) return;
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
          const parts = this.#deal.splitsOf(this.trace.place.pass, token);
          if (begin >= end || (this.#launch.rows && this.#deal.isWhole(parts))) continue;
          for (const other of parts) {
            const [lo, hi] = this.#deal.word(at, other);
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
    this.trace.do({ kind: 'meet' });
    if (this.#launch.rows) return; // another kernel chooses
    this.#write(candidates, this.#block, this.#block + 1, 0);
    if (greedy || this.#block === 0) {
      this.#read(candidates, 0, blocks, 'dealt');
      this.trace.do({ kind: 'meet' });
    }
    if (greedy) return;
    if (this.#block === 0) {
      this.trace.touch('load', 'stored logits', 0, this.#schedule.dims.vocab, pass, 'dealt');
      this.trace.do({ kind: 'meet' });
      this.#write(sampled, 0, 1, 0);
    }
    const embed = this.#schedule.stages.find((other) => other.body.kind === 'embed')!;
    this.#read(sampled, 0, 1, 0, embed.name);
    this.trace.do({ kind: 'meet' });
  }

  #writeRows(made: Made, rows: Range, columns: number): void {
    for (let token = 0; token < this.#launch.tokens; token++) {
      this.#write(made, token * columns + rows.begin, token * columns + rows.end, 'dealt');
    }
  }

  /** Words are waited for if an exchange carries them to the stage that reads. */
  #read(made: Made, lo: number, hi: number, warp: Access['warp'], reader = this.trace.place.stage): void {
    const isCarried = this.#exchanges(made).some((sync) => sync.readers.includes(reader));
    this.#words(isCarried ? 'poll' : 'load', made, lo, hi, warp);
  }

  #write(made: Made, lo: number, hi: number, warp: Access['warp']): void {
    this.#words(this.#exchanges(made).length > 0 ? 'publish' : 'store', made, lo, hi, warp);
  }

  #exchanges({ tensor, stage }: Made) {
    return this.#schedule.syncs
      .filter((sync) => sync.scope === 'exchange')
      .filter((sync) => sync.after.stage === stage && sync.tensors.includes(tensor));
  }

  /** The attention output has two makers, of which one is at work at a position; all else has a place for each. */
  #words(kind: Access['kind'], made: Made, lo: number, hi: number, warp: Access['warp']): void {
    const { tensor, stage, epoch } = made;
    const space = tensor === 'att' ? tensor : `${tensor} of ${stage}`;
    if (lo < hi) this.trace.do({ kind, space, lo, hi, version: epoch, epoch, warp });
  }
}
