// One stage as text: its signature, its statements in order, the syncs between them.

import { scratchName, strideName } from '../../emit/names.ts';
import { matrixType } from '../../emit/view.ts';
import type { OpName, TensorName } from '../../model/graph.ts';
import { isProduct, normOf, pointwiseOf, productOf, sizes } from '../../model/ops.ts';
import { argumentsOf, functionOf, markedOps } from '../../schedule/schedule.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import { freeScratchOf } from './lower.ts';
import { type BarrierSchedule, type BarrierStage, loops, type Phase, type Placement } from './schedule.ts';

/** What a partial of templates/stages prints; `template` names it. */
type Statement = { readonly template: string } & Readonly<Record<string, unknown>>;

export interface StageView {
  readonly name: string;
  readonly formula: string;
  readonly dealing: string;
  readonly reads: string;
  readonly writes: string;
  readonly weights: string;
  /** The layer that it works on; the number of layers outside them. */
  readonly layer: string;
  readonly statements: readonly Statement[];
}

/** The statements of a stage, and the comment above it. */
export function stageView(schedule: BarrierSchedule, stage: BarrierStage): StageView {
  const printer = new StagePrinter(schedule, stage);
  const statements = stage.phases.flatMap((phase, i) => [...printer.phase(phase), ...printer.syncAfter(i)]);
  return {
    name: stage.name,
    formula: markedOps(stage).join(' + '),
    dealing: dealing(schedule, stage),
    reads: printer.global('reads'),
    writes: printer.global('writes'),
    weights: stage.part === 'layer' ? 'LayerWeights' : 'ModelWeights',
    layer: stage.part === 'layer' ? 'w.layer' : 'kLayers',
    statements: loops(stage) ? [printer.loop(statements)] : statements,
  };
}

/** Where a token stands: on a CPU each token of a pass may belong to a sequence of its own. */
const rowsOf = {
  cpu: {
    turn: 'rope_row(b, pass, w, token)',
    row: 'token_row(b, pass, w, head, token)',
    attend: 'attend_rows',
    sample: 'sample_rows',
    once: 'block 0 alone, or a block for each sequence',
  },
  cuda: {
    turn: 'rope_row(pass, w, token)',
    row: 'cache_row(pass, w, head, pass.position + token)',
    attend: 'attend',
    sample: 'sample',
    once: 'block 0 alone',
  },
} as const;

function dealing({ target }: BarrierSchedule, stage: BarrierStage): string {
  switch (stage.over) {
    case 'rows':
      return 'each block takes a range of rows';
    case 'kv_heads':
      return stage.split ? 'a block for each kv head and split of the positions' : 'a block for each kv head';
    case 'q_heads':
      return stage.split ? 'a block for each q head and split of the positions' : 'a block for each q head';
    case 'tokens':
      return 'a block for each token';
    case 'once':
      return rowsOf[target.kind].once;
    default:
      return stage.over satisfies never;
  }
}

class StagePrinter {
  readonly #schedule: BarrierSchedule;
  readonly #stage: BarrierStage;
  readonly #isEnd: boolean;

  constructor(schedule: BarrierSchedule, stage: BarrierStage) {
    this.#schedule = schedule;
    this.#stage = stage;
    this.#isEnd = stage.part === 'end';
  }

  /** Tokens that a stage works on: behind the last layer only those whose logits are wanted. */
  get #tokens(): string {
    return this.#isEnd ? 'pass.tokens - pass.first_logits' : 'pass.tokens';
  }

  get #rows() {
    return rowsOf[this.#schedule.target.kind];
  }

  #place(tensor: TensorName): Placement {
    const place = this.#schedule.tensors[tensor];
    if (!place) throw new Error(`internal error: ${tensor} has no place`);
    return place;
  }

  /** Start of a global tensor's rows; the residual behind the last layer starts at the first token that gets logits. */
  #base(tensor: TensorName): string {
    const place = this.#place(tensor);
    if (place.space !== 'global') throw new Error(`internal error: ${tensor} is not in global memory`);
    const skipped = this.#isEnd && tensor === 'x' ? ' + pass.first_logits * kHidden' : '';
    return `pass.${place.buffer}${skipped}`;
  }

  /** One row of one token, inside an epilogue. */
  #element(tensor: TensorName): string {
    const place = this.#place(tensor);
    if (place.space !== 'global') throw new Error(`internal error: ${tensor} is not in global memory`);
    return `pass.${place.buffer}[token * ${strideName(place.buffer)} + row]`;
  }

  /** The kv head of this unit, and how its q heads are counted. */
  get #heads(): { kv: string; group: string; firstQ: string } {
    return this.#stage.over === 'q_heads'
      ? { kv: 'head / kGroup', group: '1', firstQ: 'head' }
      : { kv: 'head', group: 'kGroup', firstQ: 'head * kGroup' };
  }

  /** A head vector: q heads are counted by `g` inside the unit. */
  #head(tensor: TensorName, isQuery: boolean, g = 'g'): string {
    const place = this.#place(tensor);
    const { kv, group, firstQ } = this.#heads;
    if (place.space === 'scratch') {
      const at = `b.scratch + ${scratchName(tensor)}`;
      if (!isQuery) return `${at} + token * kHeadDim`;
      return group === '1' ? `${at} + token * kHeadDim` : `${at} + (token * ${group} + ${g}) * kHeadDim`;
    }
    if (place.space !== 'global')
      throw new Error(`internal error: ${tensor} is neither in scratch nor in global memory`);
    const first = { q: '', k: ' + kQDim', v: ' + kQDim + kKvDim' }[tensor as 'q' | 'k' | 'v'] ?? '';
    const head = isQuery
      ? group === '1'
        ? firstQ
        : `(${firstQ} + ${g})`
      : kv.includes(' ')
        ? `(${kv})`
        : kv;
    return `pass.${place.buffer} + token * ${strideName(place.buffer)}${first} + ${head} * kHeadDim`;
  }

  #reader(op: OpName, choices: readonly TensorName[]): TensorName {
    const order = this.#schedule.dims.qkNorm ? choices : choices.filter((t) => t !== 'qn' && t !== 'kn');
    const found = order.find((tensor) => this.#schedule.tensors[tensor]);
    if (!found) throw new Error(`internal error: ${op} has nothing to read`);
    return found;
  }

  /** Columns of an input, and the type of the rows that it is multiplied with where that is not the usual one. */
  #columns(columns: string): string {
    const type = this.#isEnd ? matrixType(this.#schedule.dims, 'head') : 'Matrix';
    return type === 'Matrix' ? columns : `${columns}, ${type}`;
  }

  phase(phase: Phase): Statement[] {
    const op = phase.ops[0]!;
    const tokens = this.#tokens;
    const { kv, group, firstQ } = this.#heads;
    switch (phase.kind) {
      case 'embed':
        return [{ template: 'embed' }];
      case 'norm_input':
        return [
          {
            template: 'norm_input',
            op,
            columns: this.#columns('kHidden'),
            source: this.#base('x'),
            weight: normOf(op).weight,
            tokens,
          },
        ];
      case 'gather_input':
        return [
          {
            template: 'gather_input',
            columns: this.#columns(sizes[productOf(op).columns].constant),
            source: this.#base(productOf(op).input),
            tokens,
          },
        ];
      case 'merge_input':
        return [{ template: 'merge_input', op, source: 'pass.partial', tokens }];
      case 'matmul':
      case 'matmul_from': {
        const { columns, interleave, weight, rows, input } = productOf(op);
        return [
          {
            template: phase.kind,
            source: phase.kind === 'matmul_from' ? this.#base(input) : '',
            columns: sizes[columns].constant,
            parts: interleave,
            weight,
            rows: sizes[rows].constant,
            tokens,
            lines: this.#epilogue(phase.ops),
          },
        ];
      }
      case 'pointwise':
        return [
          {
            template: 'pointwise',
            rows: sizes[pointwiseOf(op).rows].constant,
            tokens,
            lines: this.#chain(phase.ops, new Map()),
          },
        ];
      case 'norm': {
        const target = `${this.#base(normOf(op).result)} + token * kHidden`;
        return [
          {
            template: 'norm',
            columns: 'kHidden',
            target,
            source: `${this.#base('x')} + token * kHidden`,
            weight: normOf(op).weight,
          },
        ];
      }
      case 'qk_norm':
        return [
          {
            template: 'qk_norm',
            group,
            qTarget: this.#head('qn', true),
            qSource: this.#head('q', true),
            kTarget: this.#head('kn', false),
            kSource: this.#head('k', false),
          },
        ];
      case 'rope':
        return [
          {
            template: 'rope',
            group,
            turn: this.#rows.turn,
            qTarget: this.#head('qr', true),
            qSource: this.#head(this.#reader(op, ['qn', 'q']), true),
            kTarget: this.#head('kr', false),
            kSource: this.#head(this.#reader(op, ['kn', 'k']), false),
          },
        ];
      case 'kv_append': {
        const owns = this.#stage.split ? 'split == kSplits - 1 ? pass.tokens : 0' : 'pass.tokens';
        return [
          {
            template: 'kv_append',
            tokens: owns,
            row: this.#rows.row,
            kSource: this.#head('kr', false),
            vSource: this.#head('v', false),
          },
        ];
      }
      case 'attend': {
        const place = this.#place('qr');
        const stride =
          place.space === 'scratch' ? (group === '1' ? 'kHeadDim' : 'kGroup * kHeadDim') : 'kQDim';
        const source =
          place.space === 'scratch' ? `b.scratch + ${scratchName('qr')}` : `pass.qr + ${firstQ} * kHeadDim`;
        return [
          {
            template: this.#rows.attend,
            group,
            scratch: String(freeScratchOf(this.#schedule, this.#stage)),
            source,
            stride,
            kvHead: kv,
            target: `pass.partial + ${firstQ} * kSplits * (kHeadDim + 2)`,
            split: this.#stage.split ? 'split' : '0',
          },
        ];
      }
      case 'attn_merge':
        return [
          {
            template: 'attn_merge',
            target: 'pass.att + token * kQDim + head * kHeadDim',
            source: 'pass.partial + token * kPartialFloats + head * kSplits * (kHeadDim + 2)',
          },
        ];
      case 'sample':
        return [{ template: this.#rows.sample, scratch: String(freeScratchOf(this.#schedule, this.#stage)) }];
      default:
        return phase.kind satisfies never;
    }
  }

  /** What a product's thread does with its sums: bias, the row-wise ops behind it, stores. */
  #epilogue(ops: readonly OpName[]): string[] {
    const [product, ...chain] = ops;
    if (product === 'qkv_proj') {
      const bias = this.#schedule.dims.qkvBias ? ' + w.qkv_bias[row]' : '';
      return [`pass.qkv[token * kQkvRows + row] = y[0]${bias};`];
    }
    const values = new Map<TensorName, string>();
    const stores = productOf(product!).outputs.flatMap((tensor, i) => {
      if (this.#place(tensor).space === 'register') {
        values.set(tensor, `y[${i}]`);
        return [];
      }
      const factor = tensor === 'logits' && this.#schedule.dims.factors ? 'kLogitFactor * ' : '';
      return [`${this.#element(tensor)} = ${factor}y[${i}];`];
    });
    return [...stores, ...this.#chain(chain, values)];
  }

  #chain(ops: readonly OpName[], values: Map<TensorName, string>): string[] {
    return ops.map((op) => {
      const { result } = pointwiseOf(op);
      const call = functionOf(this.#schedule, op);
      const args = argumentsOf(this.#schedule, op, (tensor) => values.get(tensor) ?? this.#element(tensor));
      const text = `ops::${call}(${args})`;
      if (this.#place(result).space !== 'register') return `${this.#element(result)} = ${text};`;
      values.set(result, result);
      return `const float ${result} = ${text};`;
    });
  }

  /** The block sync behind a phase; behind the last one only inside a loop, otherwise the caller prints it. */
  syncAfter(phase: number): Statement[] {
    const isLast = phase === this.#stage.phases.length - 1;
    const sync = this.#schedule.syncs.find(
      (s): s is Meeting =>
        s.scope === 'block' && s.after.stage === this.#stage.name && s.after.phase === phase,
    );
    if (!sync || this.#schedule.warps === 1 || (isLast && !loops(this.#stage))) return [];
    return [{ template: 'sync', call: '__syncthreads();', reason: sync.reason }];
  }

  /** The loop over the units that a block takes one after the other. */
  loop(statements: readonly Statement[]): Statement {
    const template = 'unit_loop';
    if (this.#stage.over === 'tokens') {
      return { template, unit: 'token', units: this.#tokens, locals: [], statements };
    }
    const units = unitsText(this.#stage);
    if (!this.#stage.split) return { template, unit: 'head', units, locals: [], statements };
    const locals = ['const int head = unit / kSplits, split = unit % kSplits;'];
    return { template, unit: 'unit', units, locals, statements };
  }

  /** Tensors in global memory that the stage's ops read or write, with their shapes. */
  global(side: 'reads' | 'writes'): string {
    const names = new Set<string>();
    for (const op of this.#schedule.ops.filter((o) => this.#stage.ops.includes(o.name))) {
      for (const { tensor } of op[side]) {
        const place = this.#schedule.tensors[tensor];
        if (place?.space === 'global') names.add(`${tensor} [${tensorShape(tensor)}]`);
        if (place?.space === 'cache') names.add('cache');
      }
      if (side === 'writes' || !isProduct(op.name)) continue;
      const { weight, rows, columns, interleave } = productOf(op.name);
      const taken = interleave > 1 ? `][${interleave}` : '';
      names.add(`w.${weight} [${sizes[rows].constant}${taken}][${sizes[columns].constant}]`);
    }
    return [...names].join(', ') || (side === 'reads' ? 'token ids' : 'the next token');
  }
}

/** How many units a stage over heads has. */
export function unitsText({ over, split }: Pick<BarrierStage, 'over' | 'split'>): string {
  const heads = over === 'q_heads' ? 'kQHeads' : 'kKvHeads';
  return split ? `${heads} * kSplits` : heads;
}

function tensorShape(tensor: TensorName): string {
  switch (tensor) {
    case 'q':
      return 'kQDim';
    case 'k':
    case 'v':
      return 'kKvDim';
    case 'partial':
      return 'kQHeads][kSplits][kHeadDim + 2';
    default:
      return strideName(tensor);
  }
}
