// Rules about plans with a stream: what its kernel needs of the plan, the model and the target.
import {
  endBefore,
  ofTokens,
  recomputeToo,
  stageOfItsOwn,
  withBarriers,
  withScheme,
} from '../../plan/edits.ts';
import { atPlan, atStage, type Context, type Edit, type Finding, isPure, opOf } from '../../plan/finding.ts';
import { fit, type StreamScheme } from '../../plan/plan.ts';
import { overBudget, passText } from '../../plan/rules/size.ts';
import { hasBulkCopies } from '../../schedule/platform.ts';
import { sizeInput } from './lower.ts';
import {
  fewestSlots,
  headBytes,
  kvTile,
  mostQueries,
  neededBytes,
  slotSizes,
  streamTokens,
} from './sizes.ts';
import { formOf, isRefusal } from './stages.ts';

/** The scheme of a context whose rules these are. */
const schemeOf = ({ plan }: Context): StreamScheme => plan.scheme as StreamScheme;

export function streamStage(context: Context): Finding[] {
  const { graph, plan } = context;
  return plan.stages.flatMap((stage): Finding[] => {
    const form = formOf(graph, stage);
    if (!form || !isRefusal(form)) return [];
    const { token, why, legal } = form;
    const first = stage.ops.indexOf(token) === 0;
    const edits: Edit[] = [
      first ? stageOfItsOwn(context, stage, token) : endBefore(context, stage, token),
      ...(isPure(opOf(graph, token)) && !stage.recompute.includes(token)
        ? [recomputeToo(context, stage, [token])]
        : []),
      withBarriers(context),
    ];
    return [
      {
        rule: 'stream-stage',
        ...atStage(stage, 'ops', token),
        why: `stage '${stage.name}' ${why}; a stream can have ${legal}`,
        edits,
      },
    ];
  });
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
  if (kvHeads <= target.sms) return [];
  const why = `each of the ${kvHeads} kv heads of ${name} needs a block of its own, and ${target.name} has room for ${target.sms}`;
  return atStream(context, 'kv-heads-without-block', why);
}

const groupOf = ({ graph }: Context): number => graph.dims.qHeads / graph.dims.kvHeads;

export function queriesDoNotFit(context: Context): Finding[] {
  const group = groupOf(context);
  if (group <= mostQueries) return [];
  const why = `${group} query heads of ${context.graph.dims.name} share a kv head, and a block of a stream has room for ${mostQueries}`;
  return atStream(context, 'queries-do-not-fit', why);
}

const ofSlots = (context: Context, slotBytes: StreamScheme['slotBytes']): Edit => ({
  text: `slotBytes: ${slotBytes}`,
  plans: () => [withScheme(context.plan, { ...schemeOf(context), slotBytes })],
});

export function slotSize(context: Context): Finding[] {
  const { graph, plan } = context;
  const scheme = schemeOf(context);
  const { slotBytes } = scheme;
  const sizes = slotSizes(graph.dims);
  if (slotBytes === fit || sizes.includes(slotBytes)) return [];
  const needed = headBytes(graph.dims);
  const why = `a slot of ${slotBytes} bytes has no room for ${kvTile} cached positions of a head of ${graph.dims.headDim}, which take ${needed}`;
  const edits = [ofSlots(context, fit), ...sizes.map((size) => ofSlots(context, size))];
  return [{ rule: 'slot-size', ...atPlan(plan, 'scheme', String(slotBytes)), why, edits }];
}

const ofCopy = (context: Context, copy: StreamScheme['copy']): Edit => ({
  text: `copy: '${copy}'`,
  plans: () => [withScheme(context.plan, { ...schemeOf(context), copy })],
});

export function bulkWithoutEngine(context: Context): Finding[] {
  const { plan, target } = context;
  if (schemeOf(context).copy !== 'bulk' || hasBulkCopies(target.arch)) return [];
  const why = `${target.name} is ${target.arch}, and the copy engine that makes bulk copies came with sm_90`;
  const edits = [ofCopy(context, 'cp.async'), ofCopy(context, fit)];
  return [{ rule: 'bulk-without-engine', ...atPlan(plan, 'value', 'copy'), why, edits }];
}

const ofBlocks = (context: Context, blocks: StreamScheme['blocks']): Edit => ({
  text: `blocks: ${blocks === fit ? `'${fit}'` : blocks}`,
  plans: () => [withScheme(context.plan, { ...schemeOf(context), blocks })],
});

export function fewerBlocksThanHeads(context: Context): Finding[] {
  const { plan, graph, target } = context;
  const { name, kvHeads } = graph.dims;
  const { blocks } = schemeOf(context);
  if (blocks === fit || blocks >= kvHeads || kvHeads > target.sms) return [];
  const why = `each of the ${kvHeads} kv heads of ${name} needs a block of its own, and the plan has ${blocks}`;
  const edits = [ofBlocks(context, kvHeads), ofBlocks(context, fit)];
  return [{ rule: 'fewer-blocks-than-heads', ...atPlan(plan, 'value', 'blocks'), why, edits }];
}

export function splitsInOrder(context: Context): Finding[] {
  const { plan } = context;
  const scheme = schemeOf(context);
  const { splits } = scheme;
  if (splits === fit) return [];
  const wrong = splits.find(({ splits: count, from }, i) => {
    const before = splits[i - 1];
    return before ? from <= before.from || count <= before.splits : from !== 0;
  });
  if (!wrong) return [];
  const why = `splits begin at position 0 and grow with the context, and ${wrong.splits} from position ${wrong.from} on do not`;
  const edits = [{ text: `splits: ${fit}`, plans: () => [withScheme(plan, { ...scheme, splits: fit })] }];
  return [{ rule: 'splits', ...atPlan(plan, 'scheme', String(wrong.from)), why, edits }];
}

/** Tokens that a pass of a stream can have, from many to few: a block has room for the queries of so many. */
export function streamedTokens(context: Context): Finding[] {
  const { plan } = context;
  const { tokens } = plan.scheme;
  const allowed = streamTokens.filter((count) => groupOf(context) * count <= mostQueries);
  if (tokens === 'many' || allowed.includes(tokens) || allowed.length === 0) return [];
  const [most, ...fewer] = streamTokens;
  const group = groupOf(context);
  const why = streamTokens.includes(tokens)
    ? `${tokens} tokens with ${group} query heads a kv head are ${tokens * group} queries, and a block of a stream has room for ${mostQueries}`
    : `a pass of a stream has ${fewer.toReversed().join(', ')} or ${most} tokens, not ${tokens}`;
  const legal = allowed.find((count) => count < tokens) ?? Math.max(...allowed);
  return [
    {
      rule: 'tokens',
      ...atPlan(plan, 'tokens', String(tokens)),
      why,
      edits: [ofTokens(context, legal), ofTokens(context, 'many')],
    },
  ];
}

/** Asked last: only a plan that is legal otherwise has a ring. */
export function streamBudget(context: Context): Finding[] {
  const { graph, plan, target } = context;
  const scheme = schemeOf(context);
  const wanted = scheme.tokens === 'many' ? 1 : scheme.tokens;
  const input = sizeInput(graph, plan, target, scheme);
  const fits = (tokens: number, slotBytes: number) =>
    neededBytes({ ...input, slotBytes }, tokens) <= target.sharedBytes;
  if (fits(wanted, input.slotBytes)) return [];
  const fewer = streamTokens.find((tokens) => tokens < wanted && fits(tokens, input.slotBytes));
  const smaller = slotSizes(graph.dims).findLast((size) => size < input.slotBytes && fits(wanted, size));
  const edits = [
    ...(fewer ? [ofTokens(context, fewer), ofTokens(context, 'many')] : []),
    ...(smaller ? [ofSlots(context, smaller)] : []),
    withBarriers(context),
  ];
  const what = `${passText(wanted)} with ${fewestSlots} slots of ${input.slotBytes / 1024} KiB`;
  return [overBudget(context, wanted, what, neededBytes(input, wanted), edits)];
}

/** What no other stream would cure. */
function atStream(context: Context, rule: string, why: string): Finding[] {
  return [{ rule, ...atPlan(context.plan, 'scheme', 'stream'), why, edits: [withBarriers(context)] }];
}
