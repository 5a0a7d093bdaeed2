// What a block of the stream kernel does with tensors: which stage has made what it reads, in which epoch, and whether words carry it.
import type { OpName, TensorName } from '../../model/graph.ts';
import { HeadDeal } from './deal.ts';
import { type Access, type Launch, Trace } from './events.ts';
import type { StreamSchedule, StreamStage } from './schedule.ts';

/** A tensor as a stage makes it in an epoch. */
export interface Made {
  readonly tensor: TensorName;
  readonly stage: string;
  readonly epoch: number;
}

/** What pointwise ops make of the rows of the product in front of them. */
export const results: Partial<Record<OpName, TensorName>> = { attn_add: 'x', ffn_add: 'x', swiglu: 'h' };
export const normed: Partial<Record<OpName, TensorName>> = {
  attn_norm: 'xn',
  ffn_norm: 'hn',
  final_norm: 'xf',
};

/** A trace that knows where tensors lie. */
export class TensorTrace extends Trace {
  readonly deal: HeadDeal;
  readonly #schedule: StreamSchedule;
  readonly #launch: Launch;
  readonly #block: number;

  constructor(schedule: StreamSchedule, launch: Launch, block: number) {
    super();
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
    this.deal = new HeadDeal(schedule, launch, block);
  }

  /** Words of a tensor, of the epoch in which they were made last; in layer 0 the residual stream is a table that nobody writes. */
  gather(
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
    if (!here && stage.part === 'layer' && this.place.layer === 0) return;
    const last = stage.part === 'end' ? (this.place.pass + 1) * dims.layers - 1 : epoch - 1;
    this.read({ tensor, stage: maker.name, epoch: here ? epoch : last }, lo, hi, warp);
  }

  /** Whether a stage makes a tensor at this position. */
  #makes({ body, epilogue }: StreamStage, tensor: TensorName): boolean {
    switch (body.kind) {
      case 'norm':
        return normed[body.op] === tensor;
      case 'attend':
        if (this.#launch.rows) return tensor === 'partial' || (tensor === 'att' && this.deal.handsOverWhole);
        return this.deal.splits(this.place.pass) === 1 ? tensor === 'att' : tensor === 'partial';
      case 'merge_splits':
        return tensor === 'att' && (this.#launch.rows !== undefined || this.deal.splits(this.place.pass) > 1);
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

  /** The part of the block's work space that each warp has for itself. */
  ownWork(kind: 'load' | 'store'): void {
    const { warps } = this.#launch;
    for (let warp = 0; warp < warps; warp++)
      this.touch(kind, this.#work, warp, warp + 1, this.place.order, warp);
  }

  /** All of it, which all warps read. */
  allWork(): void {
    const { warps } = this.#launch;
    for (let warp = 0; warp < warps; warp++) this.touch('load', this.#work, 0, warps, this.place.order, warp);
  }

  get #work(): string {
    return `work of block ${this.#block}`;
  }

  /** Words are waited for if an exchange carries them to the stage that reads. */
  read(made: Made, lo: number, hi: number, warp: Access['warp'], reader = this.place.stage): void {
    const isCarried = this.#exchanges(made).some((sync) => sync.readers.includes(reader));
    this.#words(isCarried ? 'poll' : 'load', made, lo, hi, warp);
  }

  write(made: Made, lo: number, hi: number, warp: Access['warp']): void {
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
    if (lo < hi) this.do({ kind, space, lo, hi, version: epoch, epoch, warp });
  }
}
