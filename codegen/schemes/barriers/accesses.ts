// Which elements every block touches, phase by phase: worked out from what the generated code does, not from the graph's extents.
import { invariant } from '../../../errors.ts';
import type { ModelDims } from '../../model/dims.ts';
import type { OpName, TensorName } from '../../model/graph.ts';
import { kindOf } from '../../model/kinds.ts';
import { padded } from '../../model/packing.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import { columnsOf, rowsOf } from '../independent-sizes.ts';
import { freeScratchOf } from './lower.ts';
import type { BarrierSchedule, BarrierStage, Placement } from './schedule.ts';

/** A run of one pass. Every token gets logits: fewer tokens, or fewer logits, touch a subset. */
export interface Machine {
  readonly blocks: number;
  readonly tokens: number;
  /** The tokens whose touches are wanted: addresses are linear in the token, so a few can stand for all. */
  readonly watched: readonly number[];
  /** Of the first token; the cache holds all positions before it. */
  readonly position: number;
  readonly layers: number;
}

/** Elements [lo, hi) of one space that a phase touches for one token. */
export interface Touch {
  /** A global buffer, `cache <layer>` (elements are positions of a head), `scratch <block>`, or a register of one phase. */
  readonly space: string;
  /** `work`: scratch that a library function keeps for itself. */
  readonly tensor: TensorName | 'work';
  readonly token: number;
  readonly lo: number;
  readonly hi: number;
  /** Element of the tensor, for this token, that lies at `lo`. */
  readonly first: number;
  /** Elements that one warp or thread touches alone, item by item; 0: every warp may touch all of them. */
  readonly each: number;
  readonly writes: boolean;
}

/** One phase of one unit, by one block. */
export interface Step {
  readonly kind: 'step';
  readonly layer: number;
  readonly stage: BarrierStage;
  readonly phase: number;
  readonly unit: number;
  /** All warps work together; the library orders them inside the phase. */
  readonly together: boolean;
  readonly touches: readonly Touch[];
}

export interface Wait {
  readonly kind: 'wait';
  readonly sync: Meeting;
}

/** What block `block` does in one pass, in order. */
export function programOf(schedule: BarrierSchedule, machine: Machine, block: number): (Step | Wait)[] {
  const program: (Step | Wait)[] = [];
  const of = (part: BarrierStage['part'], layer: number) => {
    for (const stage of schedule.stages) {
      if (stage.part === part) program.push(...stageProgram(schedule, machine, block, stage, layer));
    }
  };
  of('begin', 0);
  for (let layer = 0; layer < machine.layers; layer++) of('layer', layer);
  of('end', machine.layers - 1);
  return program;
}

function stageProgram(
  schedule: BarrierSchedule,
  machine: Machine,
  block: number,
  stage: BarrierStage,
  layer: number,
): (Step | Wait)[] {
  const syncs = schedule.syncs.filter((sync) => sync.after.stage === stage.name);
  const program: (Step | Wait)[] = [];
  for (const unit of unitsOf(stage, machine, block)) {
    for (const phase of stage.phases.keys()) {
      const { together, touches } = touchesOf(schedule, machine, { block, layer, stage, phase, unit });
      program.push({ kind: 'step', layer, stage, phase, unit, together, touches });
      const sync = syncs.find((s) => s.scope === 'block' && s.after.phase === phase);
      if (sync) program.push({ kind: 'wait', sync });
    }
  }
  for (const sync of syncs) if (sync.scope === 'grid') program.push({ kind: 'wait', sync });
  return program;
}

/** The units that a block takes one after the other; a range of rows is one unit. */
function unitsOf(stage: BarrierStage, machine: Machine, block: number): number[] {
  if (stage.over === 'rows') return [block];
  if (stage.over === 'tokens') return machine.watched.filter((token) => token % machine.blocks === block);
  const mine: number[] = [];
  for (let unit = block; unit < stage.units; unit += machine.blocks) mine.push(unit);
  return mine;
}

/** What one phase of one unit by one block touches. */
function touchesOf(
  schedule: BarrierSchedule,
  machine: Machine,
  place: Place,
): { together: boolean; touches: readonly Touch[] } {
  const { dims, splits } = schedule;
  const { stage, unit } = place;
  const phase = stage.phases[place.phase]!;
  const op = phase.ops[0]!;
  const to = new Touches(schedule, place);
  const apart = { together: false, touches: to.list };
  const together = { together: true, touches: to.list };
  const tokens = machine.watched;

  const { headDim } = dims;
  const head = Math.floor(unit / (stage.split ? splits : 1));
  const split = stage.split ? unit % splits : 0;
  const group = dims.qHeads / dims.kvHeads;
  const queries = stage.over === 'q_heads' ? 1 : group;
  const firstQ = head * queries * headDim;
  const endQ = firstQ + queries * headDim;
  const kvHead = stage.over === 'q_heads' ? Math.floor(head / group) : head;
  const firstK = kvHead * headDim;
  const partFloats = headDim + 2;
  const headParts = splits * partFloats;
  const cacheStart = kvHead * (machine.position + machine.tokens);

  switch (phase.kind) {
    case 'embed':
      for (const token of tokens) to.writeRows('x', token, rangeOf(dims.hidden, place, machine));
      return apart;
    case 'norm':
      to.read('x', unit, 0, dims.hidden, 0);
      to.write(normed[op]!, unit, 0, dims.hidden, 0);
      return together;
    case 'norm_input':
      for (const token of tokens) to.read('x', token, 0, dims.hidden, 0);
      for (const token of tokens) to.write(normed[op]!, token, 0, dims.hidden, 0);
      return together;
    case 'merge_input':
      for (const token of tokens) to.read('partial', token, 0, dims.qHeads * headParts, 0);
      for (const token of tokens) to.write('att', token, 0, dims.qHeads * headDim, 0);
      return together;
    case 'gather_input':
      for (const token of tokens) to.read(inputs[op]!, token, 0, columnsOf(op, dims), 0);
      for (const token of tokens) to.input(op, token, true);
      return together;
    case 'matmul':
    case 'matmul_from': {
      // From global memory: a pass of several tokens makes its copy inside, where the library lets all threads meet.
      const isFrom = phase.kind === 'matmul_from';
      const rows = rangeOf(rowsOf(op, dims), place, machine);
      for (const token of tokens) {
        if (isFrom) to.read(inputs[op]!, token, 0, columnsOf(op, dims), 0);
        to.input(op, token, isFrom);
        for (const { tensor, first, end } of outputsOf(dims, op)) {
          const [lo, hi] = [Math.max(rows.begin, first), Math.min(rows.end, end)];
          to.write(tensor, token, lo - first, hi - first, 1);
        }
        for (const name of phase.ops.slice(1)) to.rowwise(name, token, rows);
      }
      return isFrom ? together : apart;
    }
    case 'pointwise': {
      const rows = rangeOf(rowsOf(op, dims), place, machine);
      for (const token of tokens) for (const name of phase.ops) to.rowwise(name, token, rows);
      return apart;
    }
    case 'qk_norm':
      for (const token of tokens) {
        to.read('q', token, firstQ, endQ, headDim);
        to.write('qn', token, firstQ, endQ, headDim);
        to.read('k', token, firstK, firstK + headDim, headDim);
        to.write('kn', token, firstK, firstK + headDim, headDim);
      }
      return apart;
    case 'rope':
      for (const token of tokens) {
        to.read(dims.qkNorm ? 'qn' : 'q', token, firstQ, endQ, headDim);
        to.write('qr', token, firstQ, endQ, headDim);
        to.read(dims.qkNorm ? 'kn' : 'k', token, firstK, firstK + headDim, headDim);
        to.write('kr', token, firstK, firstK + headDim, headDim);
      }
      return apart;
    case 'kv_append':
      if (stage.split && split < splits - 1) return apart;
      for (const token of tokens) {
        to.read('kr', token, firstK, firstK + headDim, headDim);
        to.read('v', token, firstK, firstK + headDim, headDim);
        const at = cacheStart + machine.position + token;
        to.cache(token, at, at + 1, true);
      }
      return apart;
    case 'attend': {
      // What the first token does not see, no other sees.
      const { window } = kindOf(dims, place.layer);
      const unseen = window === null ? 0 : Math.max(0, machine.position - (window - 1));
      const at = (share: number) => unseen + Math.floor(((machine.position - unseen) * share) / splits);
      const isLast = !stage.split || split === splits - 1;
      const begin = stage.split ? at(split) : unseen;
      const end = isLast ? machine.position + machine.tokens : at(split + 1);
      for (const token of tokens) to.read('qr', token, firstQ, endQ, 0);
      to.cache(0, cacheStart + begin, cacheStart + end, false);
      to.work();
      for (const token of tokens) {
        for (let q = 0; q < queries; q++) {
          const at = (head * queries + q) * headParts + split * partFloats;
          to.write('partial', token, at, at + partFloats, 0);
        }
      }
      return together;
    }
    case 'attn_merge':
      for (const token of tokens) {
        to.read('partial', token, head * headParts, (head + 1) * headParts, headParts);
        to.write('att', token, head * headDim, (head + 1) * headDim, headDim);
      }
      return apart;
    case 'sample':
      to.read('logits', machine.tokens - 1, 0, dims.vocab, 0);
      to.work();
      to.write('next', 0, 0, 1, 0);
      return together;
    default:
      return phase.kind satisfies never;
  }
}

interface Place {
  readonly block: number;
  readonly layer: number;
  readonly stage: BarrierStage;
  readonly phase: number;
  readonly unit: number;
}

interface Rows {
  readonly begin: number;
  readonly end: number;
}

/** The rows of n that a block takes. */
function rangeOf(n: number, place: Place, machine: Machine): Rows {
  const at = (block: number) => Math.floor((n * block) / machine.blocks);
  return { begin: at(place.block), end: at(place.block + 1) };
}

/** Collects touches of tensors at the places that the schedule gave them; empty ones are left out. */
class Touches {
  readonly list: Touch[] = [];
  readonly #schedule: BarrierSchedule;
  readonly #place: Place;

  constructor(schedule: BarrierSchedule, place: Place) {
    this.#schedule = schedule;
    this.#place = place;
  }

  read(tensor: TensorName, token: number, from: number, end: number, each: number): void {
    this.#touch(tensor, token, from, end, each, false);
  }

  write(tensor: TensorName, token: number, from: number, end: number, each: number): void {
    this.#touch(tensor, token, from, end, each, true);
  }

  writeRows(tensor: TensorName, token: number, rows: Rows): void {
    this.write(tensor, token, rows.begin, rows.end, 1);
  }

  /** A row-wise op, each row of a token by one thread. */
  rowwise(op: OpName, token: number, rows: Rows): void {
    const known = pointwise[op];
    invariant(known, `${op} has no line in pointwise of barriers/accesses.ts, which knows ops for itself`);
    const { args, result } = known;
    for (const tensor of args) this.read(tensor, token, rows.begin, rows.end, 1);
    this.writeRows(result, token, rows);
  }

  /** The block's copy of one token of a product's input. */
  input(op: OpName, token: number, writes: boolean): void {
    const columns = columnsOf(op, this.#schedule.dims);
    const lo = token * padded(columns);
    this.#push(this.#scratch, inputs[op]!, token, lo, lo + columns, 0, 0, writes);
  }

  /** Positions of a head, counted over all heads. */
  cache(token: number, lo: number, hi: number, writes: boolean): void {
    this.#push(`cache ${this.#place.layer}`, 'cache', token, lo, hi, lo, writes ? 1 : 0, writes);
  }

  /** All scratch that a library function may use for itself. */
  work(): void {
    const lo = freeScratchOf(this.#schedule, this.#place.stage);
    const hi = Math.max(lo + 1, this.#schedule.scratchFloats);
    this.#push(this.#scratch, 'work', 0, lo, hi, 0, 0, true);
  }

  get #scratch(): string {
    return `scratch ${this.#place.block}`;
  }

  #touch(tensor: TensorName, token: number, from: number, end: number, each: number, writes: boolean): void {
    const where: Placement | undefined =
      tensor === 'next'
        ? { space: 'global', buffer: 'next', offset: 0, stride: 1 }
        : this.#schedule.tensors[tensor];
    if (where?.space === 'global') {
      const lo = token * where.stride + where.offset + from;
      this.#push(where.buffer, tensor, token, lo, lo + end - from, from, each, writes);
    } else if (where?.space === 'scratch') {
      const lo = where.offset + token * where.stride + (from % where.stride);
      this.#push(this.#scratch, tensor, token, lo, lo + end - from, from, each, writes);
    } else if (where?.space === 'input') {
      this.input(productOf(this.#place.stage), token, writes);
    } else {
      invariant(where?.space === 'register', `${tensor} has no place`);
      const { block, layer, stage, phase } = this.#place;
      // Registers hold a value inside one phase.
      const space = `register ${tensor} ${token}, block ${block}, ${layer} ${stage.name} ${phase}`;
      this.#push(space, tensor, token, from, end, from, each, writes);
    }
  }

  #push(
    space: string,
    tensor: Touch['tensor'],
    token: number,
    lo: number,
    hi: number,
    first: number,
    each: number,
    writes: boolean,
  ): void {
    if (lo < hi) this.list.push({ space, tensor, token, lo, hi, first, each, writes });
  }
}

function productOf(stage: BarrierStage): OpName {
  return stage.phases.find((phase) => phase.kind === 'matmul' || phase.kind === 'matmul_from')!.ops[0]!;
}

const normed: Partial<Record<OpName, TensorName>> = { attn_norm: 'xn', ffn_norm: 'hn', final_norm: 'xf' };
const inputs: Partial<Record<OpName, TensorName>> = {
  qkv_proj: 'xn',
  o_proj: 'att',
  gate_up: 'hn',
  down_proj: 'h',
  lm_head: 'xf',
};
const pointwise: Partial<Record<OpName, { args: readonly TensorName[]; result: TensorName }>> = {
  attn_add: { args: ['x', 'o'], result: 'x' },
  swiglu: { args: ['gate', 'up'], result: 'h' },
  ffn_add: { args: ['x', 'd'], result: 'x' },
};

/** Where the rows of a product go: rows [first, end) become elements from 0 on. */
function outputsOf(dims: ModelDims, op: OpName): { tensor: TensorName; first: number; end: number }[] {
  const end = rowsOf(op, dims);
  const qDim = dims.qHeads * dims.headDim;
  const kDim = dims.kvHeads * dims.headDim;
  switch (op) {
    case 'qkv_proj':
      return [
        { tensor: 'q', first: 0, end: qDim },
        { tensor: 'k', first: qDim, end: qDim + kDim },
        { tensor: 'v', first: qDim + kDim, end },
      ];
    case 'o_proj':
      return [{ tensor: 'o', first: 0, end }];
    case 'gate_up':
      return [
        { tensor: 'gate', first: 0, end },
        { tensor: 'up', first: 0, end },
      ];
    case 'down_proj':
      return [{ tensor: 'd', first: 0, end }];
    default:
      return [{ tensor: 'logits', first: 0, end }];
  }
}
