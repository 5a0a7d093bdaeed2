// Plan files of users, in a folder without a package around it.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import cooperative from '../../configs/plans/cooperative.ts';
import stream from '../../configs/plans/stream.ts';

const stagesOf = ({ stages }: typeof cooperative): string =>
  stages
    .map(({ name, ops, over, split, recompute }) => {
      const options = JSON.stringify({ over, split, recompute });
      return `  stage('${name}', ${JSON.stringify(ops)}, ${options}),\n`;
    })
    .join('');

export const planFolder = (): string => mkdtempSync(join(tmpdir(), 'plans-'));

/** Writes a plan with ops of its own. @param ops what stands in front of the plan, `replaced` its option @returns its path */
export function writePlan(
  folder: string,
  name: string,
  { ops = '', replaced = '', streamed = false, file = `${name}.ts` } = {},
): string {
  const path = join(folder, file);
  const types = /\.ts$/.test(file) ? 'type f32, ' : '';
  writeFileSync(
    path,
    `import { ${types}barriers, plan, pointwise, stage, stream } from 'onelaunch/codegen';
${ops}
export default plan('${name}', [
${stagesOf(streamed ? stream : cooperative)}], ${streamed ? 'stream()' : 'barriers()'}, { ops: { ${replaced} } });
`,
  );
  return path;
}

/** Ops that models have in the place of SwiGLU and the plain residual. */
export const ownOps = {
  geglu: {
    ops: `const gelu = (x: f32): f32 => 0.5 * x * (1 + Math.tanh(0.7978845608 * (x + 0.044715 * x ** 3)));
const geglu = pointwise((gate: f32, up: f32) => gelu(gate) * up);`,
    replaced: 'swiglu: geglu',
  },
  'relu-squared': {
    ops: 'const squared = pointwise((gate: f32, up: f32) => Math.max(gate, 0) ** 2 * up);',
    replaced: 'swiglu: squared',
  },
  'half-residual': {
    ops: 'const half = pointwise((x: f32, branch: f32) => x + 0.5 * branch);',
    replaced: 'attn_add: half, ffn_add: half',
  },
} as const;
