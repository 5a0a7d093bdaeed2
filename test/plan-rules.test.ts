// Each rule has one smallest illegal plan and its whole message.
import { describe, expect, test } from 'vitest';
import { checkPlan, parsePlan } from '../codegen/check.ts';
import { decoderGraph } from '../codegen/graph.ts';
import { formatIssues } from '../codegen/issue.ts';
import type { FusionPlan } from '../codegen/plan.ts';
import { models } from '../configs/models.ts';
import { targets } from '../configs/targets.ts';
import opUnknown from './illegal/op-unknown.ts';

const graph = decoderGraph(models.find((model) => model.name === 'qwen3-0.6b')!);
const h100 = targets.find((target) => target.name === 'h100')!;

import { readdirSync } from 'node:fs';

test('x', async () => {
  for (const f of readdirSync('test/illegal')) {
    if (f === 'around.ts') continue;
    const p = (await import(`./illegal/${f}`)).default as FusionPlan;
    console.log(`${f}\n${formatIssues(checkPlan(graph, p, h100))}`);
  }
});
