// What tiles should cost: the busiest block's share of every product and of attention, and a barrier behind every stage.
import { meanCached } from '../../model/kinds.ts';
import { columnsOf, matrixRowsOf } from '../../model/ops.ts';
import { type Cost, costOf } from '../../schedule/cost.ts';
import { hasWarpgroupProducts } from '../../schedule/platform.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import type { Meeting } from '../../schedule/syncs.ts';
import type { Work } from '../../schedule/terms.ts';
import { positionBytes, streamPlaces } from '../stream/sizes.ts';
import type { TileStage, TilesSchedule } from './schedule.ts';
import { queryTile } from './sizes.ts';
import { readingCache, unpacking } from './stages.ts';

/** As many tokens as a launch behind `position` others can have: it ends where the positions do. */
const mostBehind = ({ passTokens, dims }: TilesSchedule, position: number): number =>
  Math.max(1, Math.min(passTokens, dims.maxPositions - position));

/** A launch of so many tokens, behind `position` others. @param makesToken and the one of the last token's logits, and the choice by them */
export function tilesCost(
  schedule: TilesSchedule,
  position = 0,
  tokens = mostBehind(schedule, position),
  makesToken = false,
): Cost {
  const { syncs, unpacked, multiply, target } = schedule;
  const isAsOther = multiply === 'mma' && hasWarpgroupProducts(target.arch);
  const stages = schedule.stages.flatMap((stage) => [
    ...(unpacksBefore(schedule, stage) ? [unpackStage(schedule)] : []),
    ...(schedule.readsCodes && stage.body === 'attend' ? [readCacheStage(schedule, position, tokens)] : []),
    stage,
  ]);
  const of = (name: string): readonly Pick<Meeting, 'reason'>[] => {
    const added = [unpacking, readingCache].find(({ stage }) => stage === name);
    return added ? [added] : syncs.filter(({ after }) => after.stage === name);
  };
  const isRun = ({ part }: Pick<TileStage, 'part'>) => makesToken || part !== 'end';
  const launchOf = ({ part }: Pick<TileStage, 'part'>) => ({ position, tokens: part === 'end' ? 1 : tokens });
  const tileStage = ({ name }: Pick<TileStage, 'name'>) => schedule.stages.find((one) => one.name === name);
  return costOf(
    { ...schedule, stages },
    {
      position,
      tokens,
      syncName: 'grid barriers',
      splits: [1, 1],
      weightBytes: (stage) => (isRun(stage) ? stage.weightBytes : 0),
      syncs: (stage) =>
        of(stage.name).map(({ reason }) => ({
          scope: 'grid',
          isNeeded: isRun(stage),
          tensors: [],
          when: '',
          reason,
        })),
      notes: () => [],
      waits: (stage) =>
        isRun(stage) ? of(stage.name).map((): Work => ({ term: 'barrier', amount: 1 })) : [],
      work: (stage) => {
        const made = tileStage(stage);
        return made && isRun(stage) ? stageWork(schedule, made, launchOf(made)) : [];
      },
      chains: (stage) => {
        const made = tileStage(stage);
        return made?.body === 'product' && isRun(stage)
          ? [tilesWork(schedule, made, launchOf(made).tokens)]
          : [];
      },
      flop: (stage) => {
        const made = tileStage(stage);
        return made && isRun(stage) ? stageFlop(schedule, made, launchOf(made)) : null;
      },
      slowdown: () => 1,
      beside: false,
      unmeasured: isAsOther ? ['products by mma'] : [],
      lines: [
        ...(isAsOther ? ['products by mma are predicted as those by wgmma'] : []),
        `for ${tokens === 1 ? '1 token' : `${tokens} tokens together`}; the ${schedule.makesLogits ? 'logits of the last token of a prompt are a launch of their own' : "last token of a prompt, and its logits, are decoding's"}`,
        ...(unpacked
          ? [
              `the matrices of a layer become numbers in front of its first stage, in ${Math.ceil(unpacked.layerBytes / 1e6)} MB`,
            ]
          : []),
        ...(schedule.readsCodes
          ? [
              `the cache of a layer becomes numbers in front of attention, in ${(plainBytes(schedule) / 1e3).toFixed(1)} kB for every position of the context`,
            ]
          : []),
        ...schedule.kernels.map(
          ({ most, tokens, rows }) =>
            `up to ${most} tokens: tiles of ${tokens} tokens; rows ${Object.entries(rows)
              .map(([op, side]) => `${op} ${side}`)
              .join(', ')}`,
        ),
      ],
    },
  );
}

const unpacksBefore = ({ stages, unpacked }: TilesSchedule, { name }: Pick<TileStage, 'name'>): boolean =>
  unpacked !== null && name === stages.find(({ part }) => part === 'layer')!.name;

/** A stage of the table: what it reads, and its results as if they were read. */
const unpackStage = ({ dims, unpacked }: TilesSchedule): ScheduledStage => ({
  name: unpacking.stage,
  part: 'layer',
  over: 'rows',
  split: false,
  units: 0,
  weightBytes: streamPlaces(dims).layerBytes + unpacked!.layerBytes,
  ops: [],
  recompute: [],
});

/** Bytes of a position of a layer as numbers. */
const plainBytes = ({ dims: { cache: _, ...dims } }: TilesSchedule): number =>
  dims.kvHeads * positionBytes(dims);

/** A stage of the table: what it reads of a layer's cache, and its results as if they were read. */
function readCacheStage(schedule: TilesSchedule, position: number, tokens: number): ScheduledStage {
  const { dims } = schedule;
  const [codes, numbers] = [dims.kvHeads * positionBytes(dims), plainBytes(schedule)];
  return {
    name: readingCache.stage,
    part: 'layer',
    over: 'tokens',
    split: false,
    units: 0,
    weightBytes: meanCached(dims, position) * (codes + numbers) + tokens * (codes + 2 * numbers),
    ops: [],
    recompute: [],
  };
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
      const stageStart: Work = { term: 'tileStage', amount: 1 };
      return stage.part === 'end'
        ? [stageStart, { term: 'streamChoose', amount: dims.vocab / 1e5 }]
        : [stageStart];
    }
    case 'attend': {
      const units = Math.ceil(tokens / queryTile) * dims.qHeads;
      const flop = 4 * queryTile * (position + tokens / 2) * dims.headDim;
      return [
        { term: 'tileStage', amount: 1 },
        { term: 'flash', amount: (Math.max(1, units / blocks) * flop) / 1e7 },
      ];
    }
    default:
      return stage.body satisfies never;
  }
}

/** The tiles of the busiest block, which go on beside the reads of weights: their steps, and what becomes of their results. */
function tilesWork({ dims, kernels, blocks }: TilesSchedule, { op }: TileStage, tokens: number): Work[] {
  const kernel = kernels.find(({ most }) => most >= tokens)!;
  const side = kernel.rows[op]!;
  const columns = columnsOf(op, dims);
  const units = Math.ceil(tokens / kernel.tokens) * Math.ceil(matrixRowsOf(op, dims) / side);
  const busiest = Math.ceil(units / blocks);
  return [
    { term: 'tiled', amount: (busiest * 2 * kernel.tokens * side * columns) / 1e7 },
    { term: 'tileLoads', amount: (busiest * (kernel.tokens + side) * columns * 2) / 65536 },
    { term: 'tileEnd', amount: (busiest * kernel.tokens * side) / 4096 },
  ];
}

/** What the results of a product or of attention need: tiles that are not full compute more. On average over the layers. */
function stageFlop({ dims }: TilesSchedule, stage: TileStage, { position, tokens }: Launch): number | null {
  if (stage.body === 'product') return 2 * tokens * matrixRowsOf(stage.op, dims) * columnsOf(stage.op, dims);
  if (stage.body !== 'attend') return null;
  let seen = 0;
  for (let token = 0; token < tokens; token++) seen += meanCached(dims, position + token) + 1;
  return 4 * dims.qHeads * dims.headDim * seen;
}
