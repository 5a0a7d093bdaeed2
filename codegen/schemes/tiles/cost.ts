// What tiles should cost: the busiest block's share of every product and of attention, and a barrier behind every stage.
import { meanCached } from '../../model/kinds.ts';
import { columnsOf, matrixRowsOf } from '../../model/ops.ts';
import { type Cost, costOf } from '../../schedule/cost.ts';
import type { Work } from '../../schedule/terms.ts';
import { streamPlaces } from '../stream/sizes.ts';
import type { TileStage, TilesSchedule } from './schedule.ts';
import { queryTile } from './sizes.ts';

/** A launch of so many tokens, behind `position` others. */
export function tilesCost(schedule: TilesSchedule, position = 0, tokens = schedule.passTokens): Cost {
  const { syncs } = schedule;
  const of = (name: string) => syncs.filter(({ after }) => after.stage === name);
  const isRun = ({ part }: Pick<TileStage, 'part'>) => part !== 'end';
  return costOf(schedule, {
    position,
    tokens,
    syncName: 'grid barriers',
    splits: [1, 1],
    weightBytes: (stage) => (isRun(stage) ? stage.weightBytes + unpackedBytes(schedule, stage) : 0),
    syncs: (stage) =>
      of(stage.name).map(({ reason }) => ({
        scope: 'grid',
        isNeeded: isRun(stage),
        tensors: [],
        when: '',
        reason,
      })),
    notes: () => [],
    waits: (stage) => {
      const barriers = of(stage.name).length + (unpacksBefore(schedule, stage) ? 1 : 0);
      return isRun(stage)
        ? Array.from({ length: barriers }, (): Work => ({ term: 'barrier', amount: 1 }))
        : [];
    },
    work: (stage) => (isRun(stage) ? stageWork(schedule, stage as TileStage, { position, tokens }) : []),
    flop: (stage) => (isRun(stage) ? stageFlop(schedule, stage as TileStage, { position, tokens }) : null),
    slowdown: () => 1,
    beside: false,
    lines: [
      `for ${tokens} tokens together; the last token of a prompt, and its logits, are decoding's`,
      ...(schedule.unpacked
        ? [
            `the matrices of a layer become numbers in front of its first stage, in ${Math.ceil(schedule.unpacked.layerBytes / 1e6)} MB, and all blocks meet`,
          ]
        : []),
      ...schedule.kernels.map(
        ({ most, tokens, rows }) =>
          `up to ${most} tokens: tiles of ${tokens} tokens; rows ${Object.entries(rows)
            .map(([op, side]) => `${op} ${side}`)
            .join(', ')}`,
      ),
    ],
  });
}

const unpacksBefore = ({ stages, unpacked }: TilesSchedule, { name }: Pick<TileStage, 'name'>): boolean =>
  unpacked !== null && name === stages.find(({ part }) => part === 'layer')!.name;

/** Bytes that a layer's unpacking reads and writes. */
function unpackedBytes(schedule: TilesSchedule, stage: Pick<TileStage, 'name'>): number {
  if (!unpacksBefore(schedule, stage)) return 0;
  return streamPlaces(schedule.dims).layerBytes + schedule.unpacked!.layerBytes;
}

interface Launch {
  /** Tokens before it. */
  readonly position: number;
  readonly tokens: number;
}

function stageWork(schedule: TilesSchedule, stage: TileStage, { position, tokens }: Launch): Work[] {
  const { dims, blocks } = schedule;
  const busiest = (units: number) => Math.ceil(units / blocks);
  switch (stage.body) {
    case 'embed':
      return [
        { term: 'chunk', amount: 1 },
        { term: 'passed', amount: (busiest(tokens) * dims.hidden) / 1024 },
      ];
    case 'norm':
      return [{ term: 'passed', amount: (busiest(tokens) * dims.hidden) / 1024 }];
    case 'heads': {
      const columns = (dims.qHeads + 2 * dims.kvHeads) * dims.headDim;
      return [{ term: 'passed', amount: (busiest(tokens) * columns) / 1024 }];
    }
    case 'product': {
      const kernel = schedule.kernels.find(({ most }) => most >= tokens)!;
      const side = kernel.rows[stage.op]!;
      const units = Math.ceil(tokens / kernel.tokens) * Math.ceil(matrixRowsOf(stage.op, dims) / side);
      const flop = 2 * kernel.tokens * side * columnsOf(stage.op, dims);
      return [{ term: 'tiled', amount: (busiest(units) * flop) / 1e7 }];
    }
    case 'attend': {
      const units = Math.ceil(tokens / queryTile) * dims.qHeads;
      const flop = 4 * queryTile * (position + tokens / 2) * dims.headDim;
      return [{ term: 'flash', amount: (Math.max(1, units / blocks) * flop) / 1e7 }];
    }
    default:
      return stage.body satisfies never;
  }
}

/** What the results of a product or of attention need: tiles that are not full compute more. On average over the layers. */
function stageFlop({ dims }: TilesSchedule, stage: TileStage, { position, tokens }: Launch): number | null {
  if (stage.body === 'product') return 2 * tokens * matrixRowsOf(stage.op, dims) * columnsOf(stage.op, dims);
  if (stage.body !== 'attend') return null;
  let seen = 0;
  for (let token = 0; token < tokens; token++) seen += meanCached(dims, position + token) + 1;
  return 4 * dims.qHeads * dims.headDim * seen;
}
