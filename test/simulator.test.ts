// The derived syncs of random legal plans leave no race, none of them can be left out, and the simulator sees what it should see.
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { programOf } from '../codegen/accesses.ts';
import { checkPlan } from '../codegen/check.ts';
import type { ModelDims } from '../codegen/dims.ts';
import { decoderGraph, type OpName, opNames } from '../codegen/graph.ts';
import { type FusionPlan, type Over, plan, type Stage, stage } from '../codegen/plan.ts';
import { assignWork, type Schedule } from '../codegen/schedule.ts';
import { type Simulation, simulate } from '../codegen/simulate.ts';
import type { Target } from '../codegen/target.ts';
import { type Run, uncovered } from '../codegen/uncovered.ts';
import { models } from '../configs/models.ts';
import cooperative from '../configs/plans/cooperative.ts';
import unfused from '../configs/plans/unfused.ts';

const tinyScratch = { attend: () => 8, sample: () => 8 };

/** A machine with as many blocks as `sms`, and room for everything. */
const tinyTarget = (sms: number): Target => ({
  name: 'tiny',
  kind: 'cuda',
  arch: '',
  sms,
  sharedBytes: 1e9,
  l2Bytes: 0,
  bandwidth: null,
  bandwidthFrom: 'unknown',
  barrierMicros: 1,
});

/** Every way to make one stage of some neighbouring ops that is legal beside the unfused plan. */
function legalStages(dims: ModelDims): Map<OpName, Stage[]> {
  const graph = decoderGraph(dims);
  const overs: readonly Over[] = ['rows', 'q_heads', 'kv_heads', 'tokens', 'once'];
  const byFirst = new Map<OpName, Stage[]>();
  for (const [i, first] of opNames.entries()) {
    for (const end of opNames.keys()) {
      const ops = opNames.slice(i, end + 1);
      if (ops.length === 0 || ops.length > 5) continue;
      for (const recompute of subsets(ops)) {
        for (const over of overs) {
          for (const split of ['none', 'positions'] as const) {
            const made = { ...stage(`${first}_${ops.length}`, ops, { over, recompute }), split };
            if (checkPlan(graph, around(made), tinyTarget(4)).length === 0) {
              byFirst.set(first, [...(byFirst.get(first) ?? []), made]);
            }
          }
        }
      }
    }
  }
  return byFirst;
}

const around = (made: Stage): FusionPlan =>
  plan('random', [
    ...unfused.stages.slice(0, opNames.indexOf(made.ops[0]!)),
    made,
    ...unfused.stages.slice(opNames.indexOf(made.ops.at(-1)!) + 1),
  ]);

const subsets = <T>(list: readonly T[]): T[][] =>
  list.reduce<T[][]>((all, item) => [...all, ...all.map((one) => [...one, item])], [[]]);
test('x', () => {
  const t0 = process.cpuUsage();
  const m = legalStages({ ...models[0]!, });
  for (const [k, v] of m) console.log(k, v.map((s) => `${s.ops.length}:${s.over}${s.split === 'none' ? '' : '/s'}(${s.recompute})`).join('  '));
  console.log(process.cpuUsage(t0));
  // count paths
  const count = (i: number): number => i >= opNames.length ? 1 : (m.get(opNames[i]!) ?? []).reduce((n, s) => n + count(i + s.ops.length), 0);
  console.log(count(0));
});
