// What the stages of a stream do beside streaming: the chain of words from block to block.
import { blockFormats, isBlocks } from '../../model/formats.ts';
import { meanCached } from '../../model/kinds.ts';
import { productOf } from '../../model/ops.ts';
import { formatOf } from '../../model/weights.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import type { ExchangeSync } from '../../schedule/syncs.ts';
import type { TimePart, Work } from '../../schedule/terms.ts';
import { isSplitSync, type StreamSchedule } from './schedule.ts';
import { layerBytes } from './sizes.ts';
import { isExchange } from './words.ts';

/** Whether a pass whose heads have so many splits waits for this exchange. */
export const isNeeded = (schedule: StreamSchedule, sync: ExchangeSync, splits: number): boolean => {
  const split = isSplitSync(schedule, sync);
  return split === null || split === splits > 1;
};

/** What one run of a stage does for a token at a position, besides its waits. */
export function stageWork(
  schedule: StreamSchedule,
  { name }: Pick<ScheduledStage, 'name'>,
  splits: number,
  position: number,
): Work[] {
  const stage = schedule.stages.find((one) => one.name === name)!;
  if (stage.body.kind === 'merge_splits' && splits === 1) return [];
  const merges = splits > 1 && stage.prologue.some((step) => step.kind === 'merge_splits');
  return [
    ...bodyWork(schedule, stage, splits, position),
    ...(merges ? [{ term: 'mergedInput', amount: splits } as const] : []),
  ];
}

/** What a stage does beyond that in a pass of several tokens, which is a launch of its own. */
export function passWork(
  schedule: StreamSchedule,
  { name }: Pick<ScheduledStage, 'name'>,
  splits: number,
  tokens: number | undefined,
): Work[] {
  if (tokens === undefined) return [];
  const { body } = schedule.stages.find((one) => one.name === name)!;
  // A pass runs the smallest kernel that holds it, which polls and attends for as many tokens as it has room for.
  const more = (schedule.kernels.find((kernel) => kernel.tokens >= tokens)?.tokens ?? tokens) - 1;
  return [
    ...(body.kind === 'attend' ? [{ term: 'manyAttend', amount: more } as const] : []),
    { term: 'manyWords', amount: (more * polledValues(schedule, name, splits)) / 1024 },
  ];
}

/** From here on a word waits for the same share of the copies under way: three slots of each block of an H100, and more was not measured [us]. */
const longQueue = 2;

/** What a stage waits for: the words of one exchange or several, side by side. */
export function hopWork(
  schedule: StreamSchedule,
  { name }: Pick<ScheduledStage, 'name'>,
  splits: number,
): Work[] {
  const { ring, target, blocks } = schedule;
  if (exchangesFor(schedule, name, splits).length === 0) return [];
  const queued =
    (ring.copiesInFlight * ring.slotBytes * blocks) / ((target.bandwidth ?? Number.POSITIVE_INFINITY) * 1e3);
  const flags = ring.handoff === 'epoch' ? 2 : 1;
  return [
    { term: 'hop', amount: 1 },
    { term: 'words', amount: (flags * polledValues(schedule, name, splits)) / 1024 },
    { term: 'queue', amount: queued * Math.min(1, queued / longQueue) },
  ];
}

/** A layer is read as far as the ring holds it; then attention is waited for, and its result. */
export function standing(schedule: StreamSchedule, splits: number, position: number): TimePart['stands'] {
  const { stages, products, kernels, ring, blocks } = schedule;
  const at = stages.findIndex(({ body }) => body.kind === 'attend');
  const next = stages.findIndex(({ body }, i) => i > at && body.kind === 'product');
  const held = kernels[0]!.slots * ring.slotBytes;
  return {
    bytes: Math.min(layerBytes(products), held) * blocks,
    work: [
      ...stages.slice(at, next).flatMap((stage) => stageWork(schedule, stage, splits, position)),
      ...stages.slice(at, next + 1).flatMap((stage) => hopWork(schedule, stage, splits)),
    ],
  };
}

/** Values that a block polls in one run of a stage, those of the first layer's input among them. */
export const polledValues = (schedule: StreamSchedule, stage: string, splits: number): number =>
  exchangesFor(schedule, stage, splits).reduce((sum, sync) => sum + valuesOf(schedule, sync, splits), 0);

const exchangesFor = (schedule: StreamSchedule, stage: string, splits: number): ExchangeSync[] =>
  schedule.syncs.filter(
    (sync): sync is ExchangeSync =>
      isExchange(sync) && sync.readers.includes(stage) && isNeeded(schedule, sync, splits),
  );

/** Values of an exchange that a block polls in a stage. */
function valuesOf({ dims }: StreamSchedule, { words }: ExchangeSync, splits: number): number {
  switch (words) {
    case 'qkv':
      return (dims.qHeads / dims.kvHeads + 2) * dims.headDim;
    case 'partial':
      return splits * dims.headDim;
    case 'att':
      return dims.qHeads * dims.headDim;
    case 'h':
      return dims.ffn;
    case 'argmax_candidates':
    case 'sampled_token':
    case 'head_squares':
      return 0;
    default:
      return dims.hidden;
  }
}

function bodyWork(
  schedule: StreamSchedule,
  { name, body }: StreamSchedule['stages'][number],
  splits: number,
  position: number,
): Work[] {
  const { dims, ring, slices } = schedule;
  const read = splits === 1 ? (1 + 1 / slices) / 2 : 1; // of keys and values
  switch (body.kind) {
    case 'product': {
      const product = schedule.products.find((one) => one.stage === name)!;
      const { mostTiles, warpCells, tileBytes } = product;
      const format = formatOf(dims, productOf(product.op).weight);
      return [
        { term: 'cells', amount: (mostTiles * warpCells) / 8 },
        ...(isBlocks(format)
          ? [
              {
                term: 'unpack',
                amount: (mostTiles * warpCells) / 8 / (blockFormats[format].bits / 4),
              } as const,
            ]
          : []),
        { term: 'slot', amount: Math.ceil((mostTiles * tileBytes) / ring.slotBytes) },
      ];
    }
    case 'attend':
      return [
        { term: 'streamAttend', amount: 1 },
        { term: 'streamQueries', amount: ((dims.qHeads / dims.kvHeads) * schedule.headPad) / 1024 },
        {
          term: 'streamPositions',
          amount: ((read * meanCached(dims, position)) / splits / 100) * (schedule.headPad / 128),
        },
      ];
    case 'merge_splits':
      return [{ term: 'streamMerge', amount: (splits * dims.headDim) / 1024 }];
    case 'norm':
      return [{ term: 'streamNorm', amount: dims.hidden / 1024 }];
    case 'sample':
      return [{ term: 'streamChoose', amount: dims.vocab / 1e5 }];
    case 'embed':
      return [{ term: 'streamToken', amount: 1 }];
    case 'kept':
      return [];
    default:
      return body satisfies never;
  }
}
