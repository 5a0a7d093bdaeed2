// What a stream should cost: the bytes that blocks read beside the chain of words that they wait for.
import { weightBytesOf } from '../../model/packing.ts';
import { kibibytes, megabytes } from '../../schedule/bytes-text.ts';
import { type Cost, costOf } from '../../schedule/cost.ts';
import type { ScheduledStage } from '../../schedule/schedule.ts';
import type { ExchangeSync } from '../../schedule/syncs.ts';
import { isSplitSync, type StreamSchedule, splitsAt } from './schedule.ts';
import { tilesOf } from './sizes.ts';
import { isExchange } from './words.ts';
import { hopWork, isNeeded, passWork, polledValues, stageWork, standing } from './work.ts';

/** Copies that a block has under way [bytes]: at most `usual`, or `most` while a quarter of the ring is free. */
interface UnderWay {
  readonly usual: number;
  readonly most: number;
}

export interface StreamFacts {
  /** Bytes of the stream that a block reads for a token: least and most, since whole tiles are dealt. */
  readonly leastBytes: number;
  readonly mostBytes: number;
  /** Bytes of zeros among the bytes of the stream, as a share. */
  readonly padding: number;
  /** Bytes of exchanges that a block of attention, which merges where heads are split, reads for a token at position 0, each word counted once. */
  readonly polledBytes: number;
  /** In a pass of one token: in the layers, there in a block that has all positions of a head (null: none has), in the LM head. */
  readonly inFlight: { readonly layers: UnderWay; readonly alone: UnderWay | null; readonly head: UnderWay };
}

export function streamFacts(schedule: StreamSchedule): StreamFacts {
  const { blocks, ring, kernels, splitSteps, dims } = schedule;
  const perBlock = Array.from({ length: blocks }, (_, block) => blockBytes(schedule, block));
  const underWay = (window: number) => copies(window, kernels[0]!.slots, ring.slotBytes);
  return {
    leastBytes: Math.min(...perBlock),
    mostBytes: Math.max(...perBlock),
    padding: 1 - weightBytesOf(dims) / schedule.streamBytes,
    polledBytes: polledBytes(schedule),
    inFlight: {
      layers: underWay(ring.copiesInFlight),
      alone: splitSteps.some(({ splits }) => splits === 1) ? underWay(ring.copiesInFlight + 1) : null,
      head: underWay(ring.headCopiesInFlight),
    },
  };
}

/**
 * A token at a position: the stream goes on beside the chain, and the longer of the two is the time. What blocks compute is left out.
 * @param tokens of a pass, which is a launch of its own; without it one of many tokens of a launch
 * @param makesToken whether the pass ends with the head and a choice
 */
export function streamCost(made: StreamSchedule, position = 0, tokens?: number, makesToken = true): Cost {
  const schedule = (tokens ?? 1) > 1 ? { ...made, slices: 1 } : made;
  const { products, syncs, splitSteps } = schedule;
  const splits = splitsAt(splitSteps, position);
  const isRun = ({ part }: Pick<ScheduledStage, 'part'>) => makesToken || part !== 'end';
  return costOf(schedule, {
    position,
    ...(tokens !== undefined && { tokens, around: [{ term: 'pass', amount: 1 }] }),
    syncName: 'exchanges',
    splits: [Math.min(...splitSteps.map((step) => step.splits)), schedule.splits],
    weightBytes: (stage) => {
      const product = products.find((one) => one.stage === stage.name);
      return product && isRun(stage) ? product.tiles * product.tileBytes : 0;
    },
    syncs: ({ name }) =>
      syncs
        .filter(isExchange)
        .filter((sync) => sync.after.stage === name)
        .map((sync) => ({
          scope: 'exchange',
          isNeeded: isNeeded(schedule, sync, splits),
          tensors: sync.tensors,
          when: whenText(schedule, sync),
          reason: sync.reason,
        })),
    notes: ({ name }) =>
      syncs
        .filter((sync) => !isExchange(sync) && sync.after.stage === name)
        .map(({ scope, reason }) => ({
          where: '',
          text: `${scope === 'block' ? 'block sync' : 'cache'}: ${reason}`,
        })),
    waits: (stage) => (isRun(stage) ? hopWork(schedule, stage, splits) : []),
    work: (stage) =>
      isRun(stage)
        ? [...stageWork(schedule, stage, splits, position), ...passWork(schedule, stage, splits, tokens)]
        : [],
    stands: standing(schedule, splits, position),
    slowdown: ({ name }) => {
      const product = products.find((one) => one.stage === name);
      return product ? (product.mostTiles * schedule.blocks) / product.tiles : 1;
    },
    beside: true,
    lines: lines(made),
  });
}

/** At which positions an exchange is needed, where the splits change. */
function whenText(schedule: StreamSchedule, sync: ExchangeSync): string {
  const { splitSteps } = schedule;
  const from = splitSteps.find(({ splits }) => splits > 1)?.from;
  const split = isSplitSync(schedule, sync);
  if (split === null || from === undefined || from === 0) return '';
  return split ? `from position ${from} on` : `up to position ${from - 1}`;
}

/** Who streams how much, through which ring, and what blocks wait for. */
function lines(schedule: StreamSchedule): string[] {
  const { leastBytes, mostBytes, padding, polledBytes: polled, inFlight } = streamFacts(schedule);
  const { kernels, ring, splitSteps, slices, blocks, pollCycles } = schedule;
  const each =
    leastBytes === mostBytes ? megabytes(mostBytes) : `${megabytes(leastBytes)} to ${megabytes(mostBytes)}`;
  const [one, ...several] = kernels;
  const list = (of: (kernel: (typeof kernels)[number]) => number) => several.map(of).join(', ');
  const many =
    several.length === 0
      ? ''
      : `; ${list(({ slots }) => slots)} in passes of up to ${list(({ tokens }) => tokens)} tokens`;
  const text = ({ usual, most }: UnderWay) =>
    `${kibibytes(usual)}${most > usual ? ` or ${kibibytes(most)}` : ''}`;
  const { layers, alone, head } = inFlight;
  const delays = Object.entries(pollCycles).map(([op, cycles]) => `${cycles} (${op})`);
  const varies = layers.most > layers.usual || head.most > head.usual;
  const heads = splitSteps.map(({ splits, from }) => {
    const whole =
      slices > 1 ? `${slices} blocks a kv head, a slice of its values each` : 'one block a kv head';
    const who = splits === 1 ? whole : `${splits} blocks a kv head, whose splits are merged`;
    return from === 0 ? who : `from position ${from} on ${who}`;
  });
  return [
    `blocks  ${blocks}; each streams ${each} MB a token and polls ${kibibytes(polled)} KiB of exchanges; ${(100 * padding).toFixed(1)} % of the stream is padding`,
    `ring    ${one!.slots} slots of ${kibibytes(ring.slotBytes)} KiB${many}`,
    `copies  at most ${text(layers)} KiB under way${alone ? `, ${text(alone)} in blocks that have all positions of a head` : ''}, ${text(head)} in the LM head${varies ? '; the larger while a quarter of the ring is free' : ''}${ring.copy === 'bulk' ? '' : '; by a warp with cp.async'}`,
    `heads   ${heads.join('; ')}`,
    ...(delays.length > 0 ? [`polls   not before ${delays.join(', ')} cycles into a stage`] : []),
    `words   ${ring.handoff === 'epoch' ? 'flagged with their epoch, two buffers' : 'announced by a sentinel, four buffers'}`,
  ];
}

/** What Producer::fill of templates/cuda/stream/ring.cuh lets be under way. */
function copies(window: number, slots: number, slotBytes: number): UnderWay {
  const usual = Math.min(window, slots - 1);
  const hungry = Math.min(usual + 1, slots - Math.floor(slots / 4));
  return { usual: usual * slotBytes, most: Math.max(usual, hungry) * slotBytes };
}

const blockBytes = ({ products, dims, blocks }: StreamSchedule, block: number): number =>
  products.reduce((sum, product) => {
    const { first, end } = tilesOf(product, block, blocks);
    return sum + (end - first) * product.tileBytes * (product.op === 'lm_head' ? 1 : dims.layers);
  }, 0);

/**
 * A word is two values. What a norm that is its own stage reads is polled by one block a token, and is not counted. In the first layer x
 * comes from the embedding, no exchange. At the end each block reads the best logit of every block.
 */
function polledBytes(schedule: StreamSchedule): number {
  const { stages, syncs, splitSteps, ring, dims, blocks } = schedule;
  const splits = splitsAt(splitSteps, 0);
  const polling = stages.filter(({ body }) => body.kind !== 'norm');
  const inLayer = polling.filter(({ part }) => part === 'layer').map(({ name }) => name);
  const embedded = syncs
    .filter(isExchange)
    .some(({ words, readers }) => words === 'x' && readers.some((reader) => inLayer.includes(reader)));
  const values = polling.reduce((sum, { name }) => {
    const runs = inLayer.includes(name) ? dims.layers : 1;
    return sum + runs * polledValues(schedule, name, splits);
  }, 0);
  const words = (values - (embedded ? dims.hidden : 0)) / 2 + 2 * blocks;
  return words * (ring.handoff === 'epoch' ? 8 : 4);
}
