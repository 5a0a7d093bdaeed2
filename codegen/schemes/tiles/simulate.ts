// Runs a tiny schedule's blocks as interleaved workers, and checks what every unit reads against what it would read if stages ran one by one.
import { chooser } from '../chooser.ts';
import type { Fault, TinyRun } from '../scheme.ts';
import { type Machine, programOf, type Region, type Step, type Unit } from './program.ts';
import type { TilesSchedule } from './schedule.ts';
import { readingCache } from './stages.ts';

/** Who wrote a cell last, and who touched it since the last barrier. */
interface Cell {
  writer: string;
  readonly readers: Map<number, number>;
  readonly writers: Map<number, number>;
}

type Cells = Map<string, Cell>;

export function simulateTiles(schedule: TilesSchedule, run: TinyRun): Fault[] {
  const machine: Machine = { blocks: run.blocks, tokens: run.tokens, position: run.position };
  const programs = Array.from({ length: run.blocks }, (_, block) => programOf(schedule, machine, block));
  const columns = columnsOf(programs);
  const wanted = writersInOrder(schedule, programs, columns, run.position);
  const choose = chooser(run.seed);
  const faults = new Map<string, Fault>();
  const cells: Cells = new Map();
  const next = programs.map(() => 0);
  const phase = programs.map(() => 0);
  const waiting = programs.map(() => false);
  for (;;) {
    const ready = programs.flatMap((program, block) =>
      !waiting[block] && next[block]! < program.length ? [block] : [],
    );
    if (ready.length === 0) {
      if (!waiting.some(Boolean)) break;
      if (!waiting.every(Boolean)) {
        const text = `block ${waiting.indexOf(true)} waits at a grid barrier for others that never come`;
        faults.set('deadlock', { kind: 'deadlock', text });
        break;
      }
      waiting.fill(false);
      continue;
    }
    const block = ready[choose(ready.length)]!;
    const step = programs[block]![next[block]!++]!;
    if (step.kind === 'meet') {
      waiting[block] = true;
      phase[block]!++;
    } else
      runUnit(step.unit, block, phase[block]!, { cells, columns, wanted, faults, position: run.position });
  }
  return [...faults.values()];
}

interface State {
  readonly cells: Cells;
  readonly columns: ReadonlyMap<string, readonly number[]>;
  readonly wanted: ReadonlyMap<string, string>;
  readonly faults: Map<string, Fault>;
  readonly position: number;
}

const nameOf = ({ stage, trip }: Unit): string => `${stage} of layer ${trip}`;

function runUnit(unit: Unit, block: number, phase: number, state: State): void {
  const { cells, columns, wanted, faults, position } = state;
  const report = (kind: Fault['kind'], region: Region, text: string) => {
    const key = `${kind} ${region.buffer} ${unit.stage}`;
    if (!faults.has(key)) faults.set(key, { kind, text: `${region.buffer}: ${nameOf(unit)} ${text}` });
  };
  const others = (touched: ReadonlyMap<number, number>) =>
    [...touched].some(([other, when]) => other !== block && when === phase);
  for (const region of unit.reads) {
    for (const at of cellsOf(region, columns)) {
      const cell = cellAt(cells, at, region, position);
      if (others(cell.writers)) report('race', region, 'reads what another block writes');
      if (cell.writer === '') report('unwritten', region, 'reads what nobody wrote');
      else if (cell.writer !== wanted.get(`${nameOf(unit)} ${at}`))
        report('stale', region, `reads what ${cell.writer} wrote`);
      cell.readers.set(block, phase);
    }
  }
  for (const region of unit.writes) {
    for (const at of cellsOf(region, columns)) {
      const cell = cellAt(cells, at, region, position);
      if (others(cell.writers) || others(cell.readers))
        report('race', region, 'writes what another block touches');
      cell.writer = nameOf(unit);
      cell.writers.set(block, phase);
    }
  }
}

/** Positions before the prompt are in the cache. */
function cellAt(cells: Cells, at: string, region: Region, position: number): Cell {
  const known = cells.get(at);
  if (known) return known;
  const token = Number(at.split(' ').at(-2));
  const isOld = region.buffer.startsWith('cache') && token < position;
  const cell: Cell = { writer: isOld ? 'before' : '', readers: new Map(), writers: new Map() };
  cells.set(at, cell);
  return cell;
}

/** Where regions of a buffer begin and end: columns between two of these are touched alike. */
function columnsOf(programs: readonly (readonly Step[])[]): Map<string, number[]> {
  const edges = new Map<string, Set<number>>();
  for (const step of programs.flat()) {
    if (step.kind === 'meet') continue;
    for (const { buffer, columns } of [...step.unit.reads, ...step.unit.writes]) {
      const of = edges.get(buffer) ?? new Set();
      edges.set(buffer, of.add(columns[0]).add(columns[1]));
    }
  }
  return new Map([...edges].map(([buffer, of]) => [buffer, [...of].sort((a, b) => a - b)]));
}

function cellsOf(
  { buffer, tokens, columns }: Region,
  edges: ReadonlyMap<string, readonly number[]>,
): string[] {
  const parts = edges.get(buffer)!.filter((edge) => edge >= columns[0] && edge < columns[1]);
  const cells: string[] = [];
  for (let token = tokens[0]; token < tokens[1]; token++)
    for (const part of parts) cells.push(`${buffer} ${token} ${part}`);
  return cells;
}

/** Who wrote what each unit reads, when stages run one after the other. */
function writersInOrder(
  schedule: TilesSchedule,
  programs: readonly (readonly Step[])[],
  columns: ReadonlyMap<string, readonly number[]>,
  position: number,
): Map<string, string> {
  const wanted = new Map<string, string>();
  const writers = new Map<string, string>();
  const units = programs.flat().flatMap((step) => (step.kind === 'unit' ? [step.unit] : []));
  const order = [...new Set(units.map(nameOf))];
  const { stages } = schedule;
  // What no stage of the plan is comes in front of the first one, or of attention.
  const place = (stage: string) =>
    stage === readingCache.stage
      ? stages.findIndex(({ body }) => body === 'attend') - 0.5
      : stages.findIndex(({ name }) => name === stage);
  const rank = (unit: Unit) => unit.trip * stages.length + place(unit.stage);
  const byRank = order
    .map((name) => units.filter((unit) => nameOf(unit) === name))
    .sort((a, b) => rank(a[0]!) - rank(b[0]!));
  for (const stage of byRank) {
    for (const unit of stage) {
      for (const region of unit.reads) {
        for (const at of cellsOf(region, columns)) {
          const isOld = region.buffer.startsWith('cache') && Number(at.split(' ').at(-2)) < position;
          wanted.set(`${nameOf(unit)} ${at}`, writers.get(at) ?? (isOld ? 'before' : ''));
        }
      }
    }
    for (const unit of stage) {
      for (const region of unit.writes)
        for (const at of cellsOf(region, columns)) writers.set(at, nameOf(unit));
    }
  }
  return wanted;
}
