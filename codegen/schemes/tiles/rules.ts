// Rules about plans with tiles: what their kernels need of the plan, the model and the target.

import { padded } from '../../model/packing.ts';
import { endBefore, stageOfItsOwn, withScheme } from '../../plan/edits.ts';
import { atPlan, atStage, type Context, type Edit, type Finding, opsOf } from '../../plan/finding.ts';
import type { TilesScheme } from '../../plan/plan.ts';
import { overBudget } from '../../plan/rules/size.ts';
import { hasWarpgroupProducts } from '../../schedule/platform.ts';
import { platformOf } from '../../schedule/target.ts';
import { headRowsStage } from './rewrite.ts';
import {
  leastBytes,
  leastPositionsBytes,
  leastRows,
  mostTokens,
  multiplyOf,
  slotsRoom,
  tileSides,
} from './sizes.ts';
import { formOf, isRefusal } from './stages.ts';

const schemeOf = ({ plan }: Context): TilesScheme => plan.scheme as TilesScheme;

export function tilesStage(context: Context): Finding[] {
  const { graph, plan } = context;
  return plan.stages.flatMap((stage): Finding[] => {
    const form = formOf(stage, opsOf(graph, stage));
    if (!form || !isRefusal(form)) return [];
    const { token, why, legal } = form;
    const edits: Edit[] = [
      stage.ops[0] === token ? stageOfItsOwn(context, stage, token) : endBefore(context, stage, token),
    ];
    return [
      {
        rule: 'tiles-stage',
        ...atStage(stage, 'ops', token),
        why: `stage '${stage.name}' ${why}; tiles can have ${legal}`,
        edits,
      },
    ];
  });
}

/** What no other tiles would cure: prompts go through passes of decoding. */
function atTiles(context: Context, rule: string, why: string): Finding[] {
  return [{ rule, ...atPlan(context.plan, 'scheme', 'tiles'), why, edits: [] }];
}

export function tilesWithoutCores(context: Context): Finding[] {
  const { target } = context;
  if (platformOf(target).streams) return [];
  return atTiles(
    context,
    'tiles-without-cores',
    `${target.name} has no matrix instructions for tiles; it takes prompts through passes of its plan`,
  );
}

export function tilesNotHalf(context: Context): Finding[] {
  const { name, dtype } = context.graph.dims;
  if (dtype !== 'fp32') return [];
  const why = `the weights of ${name} are ${dtype}, and the matrix instructions of tiles take bf16 or fp16`;
  return atTiles(context, 'tiles-not-half', why);
}

export function tilesOddHead(context: Context): Finding[] {
  const { plan, target } = context;
  const { name, headDim } = context.graph.dims;
  const head = `a head of ${name} has ${headDim} elements`;
  if (headDim % 2 !== 0) return atTiles(context, 'tiles-odd-head', `${head}, and tiles store them in pairs`);
  const isWarpgroups = multiplyOf(schemeOf(context), target) === 'wgmma';
  if (!isWarpgroups || Number.isInteger(Math.log2(padded(headDim)))) return [];
  // Threads that feed attention each copy the same piece of every position of theirs.
  const why = `${head}, which in the cache are ${padded(headDim)}, and four warps together attend to a power of two`;
  const edits: Edit[] = [
    {
      text: `multiply: 'mma'`,
      plans: () => [withScheme(plan, { ...schemeOf(context), multiply: 'mma' })],
    },
  ];
  return [{ rule: 'tiles-odd-head', ...atPlan(plan, 'scheme', 'tiles'), why, edits }];
}

/** In the epilogue of their product heads are whole, or their norm would need other blocks. */
export function tilesWithSplitHeads(context: Context): Finding[] {
  const { graph, plan } = context;
  const { name, headDim, qkNorm, qkvBias } = graph.dims;
  const stage = headRowsStage(plan);
  if (!stage) return [];
  const { rowTile } = schemeOf(context);
  const most = rowTile === 'fit' ? tileSides.at(-1)! : rowTile;
  const finding = (why: string): Finding[] => [
    {
      rule: 'tiles-with-split-heads',
      ...atStage(stage, 'ops', 'kv_append'),
      why,
      edits: [endBefore(context, stage, qkNorm ? 'qk_norm' : 'rope')],
    },
  ];
  if (most % headDim !== 0 || headDim % 8 !== 0)
    return finding(`a tile of ${most} rows has no whole heads of ${headDim}, as ${name} has them`);
  return qkNorm && qkvBias
    ? finding(`queries of ${name} have biases and norms, and a tile norms what has none`)
    : [];
}

export function wgmmaWithoutCores(context: Context): Finding[] {
  const { plan, target } = context;
  if (schemeOf(context).multiply !== 'wgmma' || hasWarpgroupProducts(target.arch)) return [];
  const edits: Edit[] = (['mma', 'fit'] as const).map((multiply) => ({
    text: `multiply: '${multiply}'`,
    plans: () => [withScheme(plan, { ...schemeOf(context), multiply })],
  }));
  const why = `${target.name} is ${target.arch}, and products of four warps together are sm_90a's alone`;
  return [{ rule: 'wgmma-without-cores', ...atPlan(plan, 'value', 'multiply'), why, edits }];
}

export function tiledTokens(context: Context): Finding[] {
  const { plan } = context;
  const { tokens } = plan.scheme;
  if (tokens === 'many' || (Number.isInteger(tokens) && tokens >= 1 && tokens <= mostTokens)) return [];
  const edits: Edit[] = [
    { text: `tokens: 'many'`, plans: () => [withScheme(plan, { ...schemeOf(context), tokens: 'many' })] },
  ];
  const why = `a launch of tiles has 1 to ${mostTokens} tokens, not ${tokens}`;
  return [{ rule: 'tokens', ...atPlan(plan, 'tokens', String(tokens)), why, edits }];
}

/** Asked last: two steps and the results of the smallest tiles that the plan allows, and the tiles of attention. */
export function tilesBudget(context: Context): Finding[] {
  const { graph, plan, target } = context;
  const { tokenTile, rowTile } = schemeOf(context);
  const tokens = tokenTile === 'fit' ? tileSides[0]! : tokenTile;
  const rows = rowTile === 'fit' ? leastRows(graph.dims, headRowsStage(plan) !== undefined) : rowTile;
  const room = slotsRoom(graph.dims, target);
  const positions = leastPositionsBytes(graph.dims, multiplyOf(schemeOf(context), target));
  const least = Math.max(leastBytes(tokens, rows), positions);
  if (least <= room) return [];
  return [
    overBudget(context, 1, 'two steps of a tile and its results', target.sharedBytes - room + least, []),
  ];
}
