// What the blocks of a head do in a stream: they share its cached positions, and each other's results where those are merged.
import type { TensorName } from '../../model/graph.ts';
import { kindOf } from '../../model/kinds.ts';
import { dealt, type Range } from './deal.ts';
import { type Launch, slotsFor } from './events.ts';
import type { StreamSchedule, StreamStage } from './schedule.ts';
import type { TensorTrace } from './tensor-trace.ts';

/** What a block attends to for some tokens of one sequence. */
interface Attended {
  readonly tokens: Range;
  readonly head: number;
  readonly split: number;
  /** The space of cached positions, and those that are the block's. */
  readonly cache: string;
  readonly cached: Range;
  /** Where it appends the tokens themselves; null: another block does. */
  readonly appended: Range | null;
  /** Whether it publishes whole heads: no other block has a part of their positions. Then which slice of them, of how many. */
  readonly isWhole: boolean;
  readonly slice: number;
  readonly slices: number;
  /** Whether a warp makes queries ready for all, which meet then, or each warp its own. */
  readonly readiesForAll: boolean;
}

/** Some elements of a head's attention output, for a token. */
interface Elements extends Range {
  readonly token: number;
  readonly head: number;
}

export class AttentionProgram {
  readonly #trace: TensorTrace;
  readonly #schedule: StreamSchedule;
  readonly #launch: Launch;
  readonly #block: number;

  constructor(trace: TensorTrace, schedule: StreamSchedule, launch: Launch, block: number) {
    this.#trace = trace;
    this.#schedule = schedule;
    this.#launch = launch;
    this.#block = block;
  }

  attend(stage: StreamStage, epoch: number): void {
    const { rows } = this.#launch;
    if (rows) this.#attendRows(stage, epoch, rows);
    else this.#attendPass(stage, epoch);
  }

  /** Tokens of one sequence, behind each other. */
  #attendPass(stage: StreamStage, epoch: number): void {
    const { dims, syncs } = this.#schedule;
    const { tokens, passes } = this.#launch;
    const { pass, layer } = this.#trace.place;
    const gated = syncs.some((sync) => sync.scope === 'cache');
    if (pass > 0 && gated) this.#trace.feed({ kind: 'gate', epoch: epoch - dims.layers });
    const unit = this.#trace.deal.unit(pass);
    if (!unit) return;
    const { position, head, split, splits, slice, slices } = unit;
    const visible = this.#visible(position); // by the first token
    const row = head * (this.#launch.position + passes * tokens);
    const mine = dealt(visible, split, splits);
    const first = row + position - visible;
    this.#attendTo(stage, epoch, {
      ...{ tokens: { begin: 0, end: tokens }, head, split, slice, slices },
      cache: `cache of layer ${layer}`,
      cached: { begin: first + mine.begin, end: first + mine.end },
      appended: split === splits - 1 ? { begin: row + position, end: row + position + tokens } : null,
      isWhole: splits === 1,
      readiesForAll: tokens === 1,
    });
  }

  /** A batch: one row after the other. In a layer with a window fewer positions are dealt in the same shares. */
  #attendRows(stage: StreamStage, epoch: number, rows: readonly number[]): void {
    const { deal, place } = this.#trace;
    const unit = deal.unit(place.pass);
    if (!unit) return;
    const { head, split, group } = unit;
    for (const [token, position] of rows.entries()) {
      const share = deal.share(token, split);
      if (!share) continue;
      const visible = this.#visible(position);
      const row = head * (position + 1);
      const at = (item: number) =>
        row + position - visible + (position === 0 ? 0 : Math.floor((item * visible) / position));
      this.#attendTo(stage, epoch, {
        ...{ tokens: { begin: token, end: token + 1 }, head, split, slice: 0, slices: 1 },
        cache: `cache of layer ${place.layer} and row ${token}`,
        cached: { begin: at(share.cached.begin), end: at(share.cached.end) },
        appended: share.own ? { begin: row + position, end: row + position + 1 } : null,
        isWhole: deal.isWhole(deal.splitsOf(place.pass, token)),
        readiesForAll: false,
      });
      this.#trace.do({ kind: 'meet' });
    }
    if (split > 0 || !deal.rowsAreWhole()) return;
    // Nothing is merged, so nobody else publishes what products read of tokens without a row.
    const { dims } = this.#schedule;
    const size = group * dims.headDim;
    for (let token = rows.length; token < this.#launch.tokens; token++) {
      const at = token * dims.kvHeads + head;
      this.#trace.write({ tensor: 'att', stage: stage.name, epoch }, at * size, (at + 1) * size, 'dealt');
    }
  }

  /** Positions before this one that this layer sees. */
  #visible(position: number): number {
    const { window } = kindOf(this.#schedule.dims, this.#trace.place.layer);
    return window === null ? position : Math.min(position, window - 1);
  }

  #attendTo(stage: StreamStage, epoch: number, attended: Attended): void {
    const { dims } = this.#schedule;
    const { tokens, head, split, slice, slices, cache, cached, appended, isWhole, readiesForAll } = attended;
    const { warps } = this.#launch;
    const trace = this.#trace;
    const group = dims.qHeads / dims.kvHeads;
    const turned = stage.prologue.every((step) => step.kind !== 'rotate');
    const factored = turned && dims.qkNorm;
    const heads = (tensor: TensorName, first: number, each: number, warp: number, all: number) => {
      for (let token = tokens.begin; token < tokens.end; token++) {
        const lo = (token * all + first) * dims.headDim;
        trace.gather(stage, tensor, epoch, lo, lo + each * dims.headDim, warp);
      }
    };
    const appends = appended ? warps - 1 : -1;
    const count = cached.end - cached.begin;
    const slots = slotsFor(count);
    const queries = (first: number, each: number, warp: number) => {
      heads(turned ? 'qr' : 'q', head * group + first, each, warp, dims.qHeads);
      if (factored) heads('squares', head * group + first, each, warp, dims.qHeads + dims.kvHeads);
    };
    const askForAll = () => {
      const ready = `queries of block ${this.#block}`;
      const each = Math.ceil(group / warps);
      for (let first = 0; first < group; first += each) {
        const warp = first / each;
        queries(first, Math.min(each, group - first), warp);
        trace.touch('store', ready, warp, warp + 1, trace.place.order, warp);
      }
      trace.do({ kind: 'meet' });
      const [readers, order] = [Math.ceil(group / each), trace.place.order];
      for (let warp = 0; warp < warps; warp++) trace.touch('load', ready, 0, readers, order, warp);
    };
    const ask = () => {
      if (readiesForAll) askForAll();
      else
        for (let warp = 0; warp < warps; warp++)
          if (warp < count || warp === appends) queries(0, group, warp);
      trace.ownWork('store');
    };
    trace.takeSlots(slots, ask, (i) => {
      const part = dealt(count, i, slots);
      const [lo, hi] = [cached.begin + part.begin, cached.begin + part.end];
      trace.feed({ kind: 'load', space: cache, lo, hi, version: 0, epoch: 0, warp: 0 });
    });
    if (appended) {
      heads(turned ? 'kr' : 'k', head, 1, appends, dims.kvHeads);
      if (factored) heads('squares', dims.qHeads + head, 1, appends, dims.qHeads + dims.kvHeads);
      heads('v', head, 1, appends, dims.kvHeads);
      if (slice === 0) trace.touch('store', cache, appended.begin, appended.end, 0, appends);
      if (tokens.end - tokens.begin > 1) trace.do({ kind: 'meet' });
    }
    trace.do({ kind: 'meet' });
    trace.allWork();
    const size = group * dims.headDim;
    const made = (tensor: TensorName) => ({ tensor, stage: stage.name, epoch });
    for (let token = tokens.begin; token < tokens.end; token++) {
      const at = token * dims.kvHeads + head;
      if (!isWhole) {
        trace.write(made('partial'), ...trace.deal.word(at, split), 'dealt');
        continue;
      }
      const { begin, end } = dealt(dims.headDim, slice, slices);
      for (let first = at * size; first < (at + 1) * size; first += dims.headDim)
        trace.write(made('att'), first + begin, first + end, 'dealt');
    }
  }

  /** The blocks of a head share its words; a warp publishes a word as soon as it has its splits. */
  merge(stage: StreamStage, epoch: number): void {
    const { dims } = this.#schedule;
    const { warps, tokens } = this.#launch;
    const unit = this.#trace.deal.unit(this.#trace.place.pass);
    const isMerged = this.#launch.rows ? !this.#trace.deal.rowsAreWhole() : unit && unit.splits > 1;
    if (!unit || !isMerged) return;
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
          const parts = this.#trace.deal.splitsOf(this.#trace.place.pass, token);
          if (begin >= end || (this.#launch.rows && this.#trace.deal.isWhole(parts))) continue;
          this.#gatherHead(stage, epoch, { token, head, begin, end }, warp);
          this.#trace.write(
            { tensor: 'att', stage: stage.name, epoch },
            at * size + begin,
            at * size + end,
            warp,
          );
        }
      }
    }
  }

  /** The splits of some elements of a token's attention output. */
  gatherSplits(stage: StreamStage, epoch: number, token: number, elements: Range, warp: number): void {
    const { qHeads, kvHeads, headDim } = this.#schedule.dims;
    const size = (qHeads / kvHeads) * headDim;
    for (let head = 0; head < kvHeads; head++) {
      const begin = Math.max(0, elements.begin - head * size);
      const end = Math.min(size, elements.end - head * size);
      if (begin >= end) continue;
      this.#gatherHead(stage, epoch, { token, head, begin, end }, warp);
    }
  }

  /** What its splits say of them, and of their maximum and sum. */
  #gatherHead(stage: StreamStage, epoch: number, { token, head, begin, end }: Elements, warp: number): void {
    const { deal, place } = this.#trace;
    for (const split of deal.splitsOf(place.pass, token)) {
      const [lo, hi] = deal.word(token * this.#schedule.dims.kvHeads + head, split);
      this.#trace.gather(stage, 'partial', epoch, lo + begin, lo + end, warp);
      this.#trace.gather(stage, 'partial', epoch, hi - 1, hi, warp);
    }
  }
}
