// The independent check of a schedule: walks what every block touches, on addresses, and reports each pair that no sync orders.

import type { Uncovered } from '../../schedule/uncovered.ts';
import { type Machine, programOf, type Step, type Touch } from './accesses.ts';
import type { BarrierSchedule } from './schedule.ts';

/** A run whose conflicts are looked for, between some of its blocks. */
export interface Run extends Machine {
  readonly walked: readonly number[];
}

/**
 * The conflicts that no sync orders; empty for a correct schedule.
 *
 * One block takes all units one after the other; with three, dealings that differ meet; and the first and last blocks of the target have
 * narrow ranges. Every kind of layers is walked beside the next one, two layers where all are alike: a layer has a grid barrier, so nothing
 * reaches further.
 * The pass is the widest one: any other touches a subset.
 */
export function uncoveredBarriers(schedule: BarrierSchedule, runs = runsOf(schedule)): Uncovered[] {
  const found = new Map<string, Uncovered>();
  for (const run of runs) findUnordered(schedule, run, found);
  return [...found.values()];
}

function runsOf(schedule: BarrierSchedule): Run[] {
  const { dims, passTokens: tokens, splits, blocks } = schedule;
  const last = tokens - 1;
  const position = 2 * splits + 1; // no split of the positions is empty
  const layers = Math.min(dims.pattern.length + 1, dims.layers);
  const machine = { tokens, position, layers, watched: [...new Set([0, Math.min(2, last), last])] };
  const one: Run = {
    ...machine,
    layers: Math.min(dims.pattern.length, dims.layers),
    watched: [last],
    blocks: 1,
    walked: [0],
  };
  const three: Run = { ...machine, blocks: 3, walked: [0, 1, 2] };
  const all: Run = { ...machine, watched: [last], blocks, walked: [0, 1, blocks - 2, blocks - 1] };
  return blocks > 3 ? [one, three, all] : [one, three];
}

/** A touch, and when: steps of one block are ordered by its syncs, steps of different blocks by grid barriers alone. */
interface Moment {
  readonly touch: Touch;
  readonly step: Step;
  readonly block: number;
  readonly blockEpoch: number;
  readonly order: number;
}

function findUnordered(schedule: BarrierSchedule, run: Run, found: Map<string, Uncovered>): void {
  const epochs: Map<string, { moments: Moment[]; written: boolean }>[] = [];
  for (const block of run.walked) {
    let [gridEpoch, blockEpoch] = [0, 0];
    for (const [order, event] of programOf(schedule, run, block).entries()) {
      if (event.kind === 'wait') {
        blockEpoch++;
        if (event.sync.scope === 'grid') gridEpoch++;
        continue;
      }
      epochs[gridEpoch] ??= new Map();
      const spaces = epochs[gridEpoch]!;
      for (const touch of event.touches) {
        // Scratch is the block's own, so what its syncs part cannot conflict.
        const name = touch.space.startsWith('scratch') ? `${touch.space} ${blockEpoch}` : touch.space;
        const space = spaces.get(name) ?? { moments: [], written: false };
        spaces.set(name, space);
        space.moments.push({ touch, step: event, block, blockEpoch, order });
        space.written ||= touch.writes;
      }
    }
  }
  for (const spaces of epochs) {
    for (const { moments, written } of spaces?.values() ?? []) if (written) sweep(moments, found);
  }
}

function sweep(moments: Moment[], found: Map<string, Uncovered>): void {
  moments.sort((a, b) => a.touch.lo - b.touch.lo);
  let open: Moment[] = [];
  for (const moment of moments) {
    open = open.filter((other) => other.touch.hi > moment.touch.lo);
    for (const other of open) {
      const [from, to] = other.order <= moment.order ? [other, moment] : [moment, other];
      const scope = missingScope(from, to);
      if (scope) report(from, to, scope, found);
    }
    open.push(moment);
  }
}

/** What two overlapping touches of one grid epoch lack, or null if they are ordered. */
function missingScope(from: Moment, to: Moment): Uncovered['scope'] | null {
  if (!from.touch.writes && !to.touch.writes) return null;
  if (from.block !== to.block) return 'grid';
  if (from.step === to.step) return from.step.together || sameItems(from.touch, to.touch) ? null : 'phase';
  return from.blockEpoch === to.blockEpoch ? 'block' : null;
}

/** True if whoever touches an item of one touches the same item of the other. */
const sameItems = (a: Touch, b: Touch): boolean =>
  a.each > 0 && a.each === b.each && a.lo === b.lo && a.hi === b.hi && a.token === b.token;

function report(from: Moment, to: Moment, scope: Uncovered['scope'], found: Map<string, Uncovered>): void {
  const kind = !from.touch.writes ? 'WAR' : to.touch.writes ? 'WAW' : 'RAW';
  const end = ({ step }: Moment) => ({ stage: step.stage.name, phase: step.phase, layer: step.layer });
  const key = [
    kind,
    scope,
    to.touch.tensor,
    from.step.stage.name,
    from.step.phase,
    to.step.stage.name,
    to.step.phase,
  ];
  if (found.has(key.join())) return;
  const name = ({ step }: Moment) => step.stage.phases[step.phase]!.ops.join(' + ');
  const verbs = { RAW: ['writes', 'reads'], WAR: ['reads', 'writes'], WAW: ['writes', 'writes'] }[kind];
  const gap = { grid: 'no grid barrier', block: 'no block sync', phase: 'nothing' }[scope];
  found.set(key.join(), {
    kind,
    tensor: to.touch.tensor,
    from: end(from),
    to: end(to),
    scope,
    why:
      `block ${from.block} ${verbs[0]} ${from.touch.tensor} in ${name(from)}, block ${to.block} ${verbs[1]} it in ` +
      `${name(to)}, and ${gap} is between`,
  });
}
