// Rules about plans with barriers: which options of the machine need each other, and what its library cannot multiply.

import { blockFormats, blockNames, isBlocks } from '../../model/formats.ts';
import { isProduct } from '../../model/ops.ts';
import { formatOf, matricesText } from '../../model/weights.ts';
import { ofBarriers, withScheme } from '../../plan/edits.ts';
import { atPlan, type Context, type Finding } from '../../plan/finding.ts';
import { fit, stream } from '../../plan/plan.ts';
import { platformOf } from '../../schedule/target.ts';
import { isCovered, rowCutOf } from './row-cut.ts';
import { tuningOf } from './tuning.ts';

/** Whatever the target: a plan does not become legal by being moved. */
export function producersWithoutBuffers(context: Context): Finding[] {
  const { plan } = context;
  const { scheme } = plan;
  if (scheme.kind !== 'barriers' || scheme.producers === 0 || scheme.buffers > 0) return [];
  const why = 'producers copy weights into buffers in shared memory, and buffers: 0 has none';
  const edits = [ofBarriers(context, { buffers: 2 }), ofBarriers(context, { producers: 0 })];
  return [{ rule: 'producers-without-buffers', ...atPlan(plan, 'value', 'producers'), why, edits }];
}

export function partOfAWarp(context: Context): Finding[] {
  const { plan } = context;
  const { scheme } = plan;
  if (scheme.kind !== 'barriers' || scheme.warps === fit) return [];
  const { warps, producers } = scheme;
  const count = (producers * warps) / 8;
  if (Number.isInteger(count)) return [];
  const why = `${producers} of each 8 warps are ${count} of ${warps}, and a producer is a whole warp`;
  const edits = [producers - 1, producers + 1].map((other) => ofBarriers(context, { producers: other }));
  const wider = ofBarriers(context, { warps: 8 });
  return [{ rule: 'part-of-a-warp', ...atPlan(plan, 'value', 'producers'), why, edits: [...edits, wider] }];
}

/** Warps that share a row have a part of it each. */
export function warpsWithoutColumns(context: Context): Finding[] {
  const { graph, plan, target } = context;
  const tuning = tuningOf(plan, target);
  const { warps, loadBits, producerWarps } = tuning;
  if (plan.scheme.kind !== 'barriers' || platformOf(target).warps === 1) return [];
  if (!Number.isInteger(producerWarps)) return [];
  const { dims } = graph;
  const cuts = graph.ops
    .filter(({ name }) => isProduct(name))
    .map(({ name }) => ({ name, ...rowCutOf(name, dims, tuning) }));
  const left = cuts.find((cut) => !isCovered(cut));
  if (left === undefined) return [];
  const { name, slices, slice, chunks } = left;
  const why = `a row of ${name} of ${dims.name} is ${chunks} loads of ${loadBits} bits a lane, and of ${slices} warps of ${warps} that share it, ${slice} loads each, the last would have none`;
  const edits = ([16, 8] as const)
    .filter((other) => other < warps)
    .map((other) => ofBarriers(context, { warps: other }));
  const wider = ofBarriers(context, { loadBits: loadBits === 64 ? 128 : 64 });
  return [
    { rule: 'warps-without-columns', ...atPlan(plan, 'value', 'warps'), why, edits: [...edits, wider] },
  ];
}

export function blocksAtBarriers({ graph, plan, target }: Context): Finding[] {
  const { name, weights } = graph.dims;
  if (!weights || platformOf(target).blockFormats) return [];
  const why = `the matrices of ${name} are ${weights.layers}, and kernels of ${target.name} with barriers take plain numbers`;
  const edits = [{ text: 'stream()', plans: () => [withScheme(plan, stream())] }];
  return [{ rule: 'blocks-at-barriers', ...atPlan(plan, 'scheme', 'barriers'), why, edits }];
}

/** Inputs in 8 bits: integer sums alone take them, so that another matrix would be multiplied by what nobody asked for. */
export function bytesWithoutBlocks(context: Context): Finding[] {
  const { graph, plan } = context;
  const { scheme } = plan;
  if (scheme.kind !== 'barriers' || scheme.inputBits !== 8) return [];
  const { dims } = graph;
  const formats = (['qkv', 'o', 'gate_up', 'down', 'head'] as const).map((field) => formatOf(dims, field));
  if (formats.every((format) => isBlocks(format) && blockFormats[format].isWhole)) return [];
  const taken = blockNames.filter((format) => blockFormats[format].isWhole).join(', ');
  const why = `matrices of ${dims.name} are ${matricesText(dims)}, and inputs are rounded to 8 bits for rows in blocks alone, of ${taken}`;
  const edits = [ofBarriers(context, { inputBits: 16 })];
  return [{ rule: 'bytes-without-blocks', ...atPlan(plan, 'value', 'inputBits'), why, edits }];
}

/** A KV cache whose numbers share scales. */
export function scalesAtBarriers({ graph, plan, target }: Context): Finding[] {
  const { name, cache, dtype } = graph.dims;
  if (cache === undefined || platformOf(target).cacheFormats) return [];
  const why = `the KV cache of ${name} is ${cache}, and kernels of ${target.name} with barriers keep it in ${dtype}`;
  const edits = [{ text: 'stream()', plans: () => [withScheme(plan, stream())] }];
  return [{ rule: 'scales-at-barriers', ...atPlan(plan, 'scheme', 'barriers'), why, edits }];
}
