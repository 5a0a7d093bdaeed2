// What a block of the stream kernel does in the passes of a launch, in order: a reading of the stages of its own, apart from the printed text.
import type { OpName, TensorName } from '../../model/graph.ts';
import { columnsOf, rowsOf } from '../independent-sizes.ts';
import { AttentionProgram } from './attention-program.ts';
import { dealt, dealtRows, type Range } from './deal.ts';
import { type BlockProgram, type Launch, slotsFor } from './events.ts';
import { passedByIn, type StreamSchedule, type StreamStage } from './schedule.ts';
import { type Made, normed, results, TensorTrace } from './tensor-trace.ts';

/** What a block does, pass after pass. */
export function streamProgram(schedule: StreamSchedule, launch: Launch, block: number): BlockProgram {
  const program = new Program(schedule, launch, block);
  for (let pass = 0; pass < launch.passes; pass++) program.pass(pass);
  return program.trace;
}

class Program {
  readonly trace: TensorTrace;
  readonly #schedule: StreamSchedule;
  readonly #launch: Launch;
  readonly #block: number;
  readonly #attention: AttentionProgram;
  #sums = 0;
  #residual = 0;

  constructor(schedule: StreamSchedule, launch: Launch, block: number) {
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
    this.trace = new TensorTrace(schedule, launch, block);
    this.#attention = new AttentionProgram(this.trace, schedule, launch, block);
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
        this.#attention.attend(stage, epoch);
        return;
      case 'merge_splits':
        this.#attention.merge(stage, epoch);
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
      this.trace.gather(stage, 'x', epoch, token * hidden, (token + 1) * hidden);
      this.#addUp(`sums ${this.#sums++ % 2} of block ${this.#block}`);
      this.trace.write({ tensor, stage: stage.name, epoch }, token * hidden, (token + 1) * hidden, 'dealt');
    }
  }

  /** This block's tiles of a product: the first slot is taken before the input is waited for; all warps add up before rows are used. */
  #product(stage: StreamStage, epoch: number): void {
    const { op } = stage.body;
    const rows = this.#rowsOf(op);
    if (rows.begin === rows.end && passedByIn(this.#schedule.products).has(op)) return;
    this.trace.takeSlots(slotsFor(Math.ceil((rows.end - rows.begin) / this.#tileRows(op))), () => {
      this.#input(stage, epoch);
      this.trace.ownWork('store');
    });
    this.trace.ownWork('load');
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
          if (step.kind === 'gather') this.trace.gather(stage, step.tensor, epoch, lo, hi, warp);
          if (step.kind !== 'merge_splits') continue;
          const splits = this.trace.deal.splitsOf(this.trace.place.pass, token);
          if (this.trace.deal.isWhole(splits)) this.trace.gather(stage, 'att', epoch, lo, hi, warp);
          else this.#attention.gatherSplits(stage, epoch, token, mine, warp);
        }
      }
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

  /** Every block hands over its best score, and all look at all. Where that does not decide, each hands over what it lists, and block 0 tells the token. Epochs are passes. */
  #choose(stage: StreamStage, pass: number): void {
    const { blocks, greedy } = this.#launch;
    const head = this.#schedule.stages.find((other) => other.body.op === 'lm_head')!;
    const candidates: Made = { tensor: 'logits', stage: head.name, epoch: pass };
    const sampled: Made = { tensor: 'next', stage: stage.name, epoch: pass };
    this.trace.do({ kind: 'meet' });
    if (this.#launch.rows) return; // another kernel chooses
    this.trace.write(candidates, this.#block, this.#block + 1, 0);
    this.trace.read(candidates, 0, blocks, 'dealt');
    this.trace.do({ kind: 'meet' });
    if (greedy) return;
    this.trace.write(candidates, blocks + this.#block, blocks + this.#block + 1, 0);
    if (this.#block === 0) {
      this.trace.read(candidates, blocks, 2 * blocks, 'dealt');
      this.trace.touch('load', 'stored logits', 0, this.#schedule.dims.vocab, pass, 'dealt');
      this.trace.do({ kind: 'meet' });
      this.trace.write(sampled, 0, 1, 0);
    }
    const embed = this.#schedule.stages.find((other) => other.body.kind === 'embed')!;
    this.trace.read(sampled, 0, 1, 0, embed.name);
    this.trace.do({ kind: 'meet' });
  }

  #writeRows(made: Made, rows: Range, columns: number): void {
    for (let token = 0; token < this.#launch.tokens; token++) {
      this.trace.write(made, token * columns + rows.begin, token * columns + rows.end, 'dealt');
    }
  }
}
