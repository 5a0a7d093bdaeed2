// The independent check of a schedule with tiles: what two blocks touch between the same two barriers, of which one writes.
import type { Uncovered } from '../../schedule/uncovered.ts';
import { type Machine, programOf, type Region, type Unit } from './program.ts';
import type { TilesSchedule } from './schedule.ts';

/** Prompts of one token, of a tile and a bit, and of several tiles, behind nothing and behind others. */
export function uncoveredTiles(schedule: TilesSchedule, machines = machinesOf(schedule)): Uncovered[] {
  const found = new Map<string, Uncovered>();
  for (const machine of machines) findUnordered(schedule, machine, found);
  return [...found.values()];
}

const machinesOf = ({ kernels, passTokens }: TilesSchedule): Machine[] => {
  const most = Math.min(passTokens, kernels[0]!.tokens + 5);
  return [
    { blocks: 3, tokens: most, position: 7 },
    { blocks: 7, tokens: Math.min(most, 3), position: 0 },
  ];
};

interface Placed {
  readonly block: number;
  readonly unit: Unit;
}

function findUnordered(schedule: TilesSchedule, machine: Machine, found: Map<string, Uncovered>): void {
  const programs = Array.from({ length: machine.blocks }, (_, block) => programOf(schedule, machine, block));
  const barriers = programs[0]!.filter((step) => step.kind === 'meet').length;
  const phases: Placed[][] = Array.from({ length: barriers + 1 }, () => []);
  for (const [block, program] of programs.entries()) {
    let phase = 0;
    for (const step of program) {
      if (step.kind === 'meet') phase++;
      else phases[phase]!.push({ block, unit: step.unit });
    }
  }
  for (const phase of phases) {
    const byBuffer = new Map<string, Touch[]>();
    for (const placed of phase) {
      for (const [writes, regions] of [
        [false, placed.unit.reads],
        [true, placed.unit.writes],
      ] as const) {
        for (const region of regions) {
          const list = byBuffer.get(region.buffer) ?? [];
          if (list.length === 0) byBuffer.set(region.buffer, list);
          list.push({ placed, region, writes });
        }
      }
    }
    for (const [buffer, touches] of byBuffer) {
      if (!touches.some(({ writes }) => writes)) continue;
      touches.sort((a, b) => a.region.columns[0] - b.region.columns[0]);
      for (const [i, a] of touches.entries()) {
        for (let j = i + 1; j < touches.length; j++) {
          const b = touches[j]!;
          if (b.region.columns[0] >= a.region.columns[1]) break;
          if (a.placed.block === b.placed.block || !(a.writes || b.writes) || !overlap(a.region, b.region))
            continue;
          const [from, to] =
            rankOf(schedule, a.placed.unit) <= rankOf(schedule, b.placed.unit) ? [a, b] : [b, a];
          const key = [buffer, from.placed.unit.stage, to.placed.unit.stage].join();
          if (!found.has(key)) found.set(key, conflict(buffer, from, to));
        }
      }
    }
  }
}

const rankOf = ({ stages }: TilesSchedule, { stage, trip }: Unit): number =>
  trip * stages.length + stages.findIndex(({ name }) => name === stage);

interface Touch {
  readonly placed: Placed;
  readonly region: Region;
  readonly writes: boolean;
}

function conflict(buffer: string, from: Touch, to: Touch): Uncovered {
  const place = ({ placed }: Touch) => ({ stage: placed.unit.stage, phase: 0, layer: placed.unit.trip });
  const verb = ({ writes }: Touch) => (writes ? 'writes' : 'reads');
  return {
    kind: from.writes ? (to.writes ? 'WAW' : 'RAW') : 'WAR',
    tensor: buffer,
    from: place(from),
    to: place(to),
    scope: 'grid',
    why:
      `block ${from.placed.block} ${verb(from)} ${buffer} in ${from.placed.unit.stage}, ` +
      `block ${to.placed.block} ${verb(to)} it in ${to.placed.unit.stage}, and no grid barrier is between`,
  };
}

const meets = ([a, b]: readonly [number, number], [c, d]: readonly [number, number]): boolean =>
  a < d && c < b;
const overlap = (a: Region, b: Region): boolean => meets(a.tokens, b.tokens) && meets(a.columns, b.columns);
