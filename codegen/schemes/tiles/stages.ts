// The stages that tiles can have.
import type { Op, OpName } from '../../model/graph.ts';
import type { Stage } from '../../plan/plan.ts';
import type { TileBody } from './schedule.ts';

/** What makes numbers of a layer's matrices in blocks, in front of its first stage: no stage of the plan. */
export const unpacking = {
  stage: 'unpack',
  /** Of the barrier behind it. */
  reason: 'every product reads what other blocks unpacked',
} as const;

/** What makes numbers of a cache of codes, in front of attention, and codes of a prompt's keys and values: no stage of the plan. */
export const readingCache = {
  stage: 'read_cache',
  /** Of the barrier behind it. */
  reason: 'attention reads what other blocks read from the cache',
} as const;

export interface StageForm {
  readonly body: TileBody;
  readonly op: OpName;
  readonly epilogue: readonly OpName[];
  /** The norm of a product's input of which only the factor is made here: who made the input took its weights, and summed squares. */
  readonly norm: OpName | null;
  /** Norm and rotation of queries and keys, and the cache, are in the epilogue. */
  readonly heads: boolean;
}

/** Why a stage is none, at an op, and what there can be. */
export interface Refusal {
  readonly token: OpName;
  readonly why: string;
  readonly legal: string;
}

export const isRefusal = (form: StageForm | Refusal): form is Refusal => 'why' in form;

/** Ops that a model may lack are left out. */
const headOps: readonly OpName[] = ['qk_norm', 'rope', 'kv_append'];
const attendOps: readonly OpName[] = ['attend', 'attn_merge'];

/** How tiles run a stage, or why they cannot. */
export function formOf(stage: Stage, ops: readonly Op[]): StageForm | Refusal | null {
  const norm = ops.find(({ name, kind }) => kind === 'norm' && stage.recompute.includes(name)) ?? null;
  const [first, ...rest] = ops.filter((op) => op !== norm);
  if (!first) return null;
  const recomputed = ops.find((op) => op !== norm && stage.recompute.includes(op.name));
  if (recomputed) {
    const why = `recomputes ${recomputed.name}, and tiles of many tokens hand everything over in memory`;
    return {
      token: recomputed.name,
      why,
      legal: 'norms that are recomputed in front of a product, and nothing else',
    };
  }
  if (norm?.part === 'end') {
    const why = `recomputes ${norm.name}, and logits are made of a few tokens alone`;
    return { token: norm.name, why, legal: `a stage of ${norm.name} alone` };
  }
  if (stage.split === 'positions') {
    const why = 'splits the positions, and tokens are many enough';
    return { token: first.name, why, legal: 'attention without split' };
  }
  const together = (
    body: TileBody,
    names: readonly OpName[],
    op: OpName,
    members = ops,
  ): StageForm | Refusal => {
    const has = members.map(({ name }) => name);
    const other = has.find((name) => !names.includes(name));
    if (other) return { token: other, why: `goes on with ${other}`, legal: names.join(', ') };
    const missing = names.find((name) => name !== 'qk_norm' && !has.includes(name));
    if (missing) return { token: has.at(-1)!, why: `has no ${missing}`, legal: names.join(', ') };
    return { body, op, epilogue: [], norm: null, heads: false };
  };
  switch (first.kind) {
    case 'embed':
    case 'norm':
      return rest[0]
        ? { token: rest[0].name, why: `goes on with ${rest[0].name}`, legal: `${first.name} alone` }
        : { body: first.kind, op: first.name, epilogue: [], norm: null, heads: false };
    case 'matmul': {
      const made = { body: 'product', op: first.name, norm: norm?.name ?? null } as const;
      if (rest[0]?.kind === 'headwise') {
        const form = together('heads', headOps, 'rope', rest);
        return isRefusal(form) ? form : { ...made, epilogue: [], heads: true };
      }
      const other = rest.find(({ kind }) => kind !== 'pointwise');
      if (!other) {
        return { ...made, epilogue: rest.map(({ name }) => name), heads: false };
      }
      const legal = 'ops on the rows of a product behind it';
      return { token: other.name, why: `goes on with ${other.name} behind a product`, legal };
    }
    case 'headwise':
      return together('heads', headOps, 'rope');
    case 'attend':
      return together('attend', attendOps, 'attend');
    default: {
      const legal = 'a product first, and in its stage the ops on its rows';
      return { token: first.name, why: `begins with ${first.name}`, legal };
    }
  }
}
