// Rules about plans with a stream: what the kernel of a stream needs of the plan, the model and the target.

import { withBarriers, withOptions } from '../../plan/edits.ts';
import { atPlan, type Context, type Finding } from '../../plan/finding.ts';
import { stream } from '../../plan/plan.ts';
import { fewestSlots, mostQueries, tileSizes } from './stream.ts';

export function exchangeWithoutStream(context: Context): Finding[] {
  const { plan } = context;
  const { sync, weights } = plan.options;
  if ((sync === 'exchange') === (weights.kind === 'stream')) return [];
  if (sync === 'exchange') {
    const edits = [
      { text: 'weights: stream()', plans: () => [withOptions(plan, { weights: stream() })] },
      { text: "sync: 'barrier'", plans: () => [withOptions(plan, { sync: 'barrier' })] },
    ];
    const why =
      'only blocks with a stream exchange words: those that load their own weights meet at barriers';
    return [{ rule: 'exchange-without-stream', ...atPlan(plan, 'sync', 'exchange'), why, edits }];
  }
  const edits = [
    { text: "sync: 'exchange'", plans: () => [withOptions(plan, { sync: 'exchange' })] },
    { ...withBarriers(context), text: 'weights: direct()' },
  ];
  const why = 'the blocks of a stream exchange words: they have no barrier at which all meet';
  return [{ rule: 'stream-without-exchange', ...atPlan(plan, 'weights', 'stream'), why, edits }];
}

export function streamOffGpu(context: Context): Finding[] {
  if (context.target.kind === 'cuda') return [];
  const why = `${context.target.name} has no shared memory to stream weights through`;
  return atStream(context, 'stream-off-gpu', why);
}

export function weightsNotHalf(context: Context): Finding[] {
  const { name, dtype } = context.graph.dims;
  if (dtype !== 'fp32') return [];
  const why = `the weights of ${name} are ${dtype}, and the matrix instructions of a stream take bf16 or fp16`;
  return atStream(context, 'weights-not-half', why);
}

export function oddHead(context: Context): Finding[] {
  const { name, headDim } = context.graph.dims;
  if (headDim % 2 === 0) return [];
  const why = `a head of ${name} has ${headDim} elements, and a stream hands them over in pairs`;
  return atStream(context, 'odd-head', why);
}

export function kvHeadsWithoutBlock(context: Context): Finding[] {
  const { graph, target } = context;
  const { name, kvHeads } = graph.dims;
  if (target.kind !== 'cuda' || kvHeads <= target.sms) return [];
  const why = `each of the ${kvHeads} kv heads of ${name} needs a block of its own, and ${target.name} has room for ${target.sms}`;
  return atStream(context, 'kv-heads-without-block', why);
}

export function queriesDoNotFit(context: Context): Finding[] {
  const { name, qHeads, kvHeads } = context.graph.dims;
  const group = qHeads / kvHeads;
  if (group <= mostQueries) return [];
  const why = `${group} query heads of ${name} share a kv head, and a block of a stream has room for ${mostQueries}`;
  return atStream(context, 'queries-do-not-fit', why);
}

export function tileSize({ graph, plan }: Context): Finding[] {
  const { weights } = plan.options;
  const sizes = tileSizes(graph.dims);
  if (weights.kind !== 'stream' || sizes.includes(weights.tile)) return [];
  const { tile } = weights;
  const { headDim } = graph.dims;
  const why =
    tile < sizes[0]!
      ? `a slot of ${tile} bytes has no room for 16 cached positions of a head of ${headDim}, which take ${sizes[0]}`
      : `a slot has whole cells of all warps: ${sizes.join(', ')} bytes, not ${tile}`;
  const edits = sizes.map((size) => ({
    text: `tile: ${size}`,
    plans: () => [withOptions(plan, { weights: { ...weights, tile: size } })],
  }));
  return [{ rule: 'tile-size', ...atPlan(plan, 'weights', String(tile)), why, edits }];
}

export function tooFewSlots({ plan }: Context): Finding[] {
  const { weights } = plan.options;
  if (weights.kind !== 'stream' || weights.stages >= fewestSlots) return [];
  const why = `a ring of ${weights.stages} slots runs dry: ${fewestSlots} are the fewest`;
  const stages = fewestSlots;
  const edits = [
    {
      text: `stages: ${stages}`,
      plans: () => [withOptions(plan, { weights: { ...weights, stages } })],
    },
  ];
  return [{ rule: 'too-few-slots', ...atPlan(plan, 'weights', String(weights.stages)), why, edits }];
}

/** What no other stream would cure. */
function atStream(context: Context, rule: string, why: string): Finding[] {
  const { plan } = context;
  if (plan.options.weights.kind !== 'stream') return [];
  return [{ rule, ...atPlan(plan, 'weights', 'stream'), why, edits: [withBarriers(context)] }];
}
