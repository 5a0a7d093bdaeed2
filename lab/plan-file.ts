// A plan as a file of its own, for --plan: what stage(...), plan(...) and the scheme's function were called with.
import { dirname, relative, resolve } from 'node:path';
import { barriers, type FusionPlan, type Stage, stream, tiles } from '../codegen/plan/plan.ts';
import { optionText } from './option-values.ts';

const defaults = { barriers, stream, tiles } as const;
const lineWidth = 110;

/** How every file begins that is written here. */
export const mark = '// Written by gen explore: ';

/**
 * The text of a module whose default export is the plan. Ops that the plan computes in its own way are imported from the file that has them.
 * @param note what one should know of it, in one line; @param path where the file will be
 * @param opsFrom the plan file of these ops, where the plan is a variant of that one
 */
export function planFile(plan: FusionPlan, note: string, path: string, opsFrom = plan.file): string {
  const { scheme } = plan;
  const options = changedOptions(plan);
  const names = ['plan', 'stage', scheme.kind, ...(options.includes('byContext(') ? ['byContext'] : [])];
  const own = Object.keys(plan.functions).length > 0 ? opsFrom : null;
  const call = `${scheme.kind}(${options})`;
  return `${[
    `${mark}${note.replaceAll(/\s+/g, ' ')}`,
    `import { ${names.sort().join(', ')} } from 'onelaunch/codegen';`,
    ...(own === null ? [] : [`import base from ${quoted(importPath(own, path))};`]),
    '',
    'export default plan(',
    `  ${quoted(plan.name)},`,
    '  [',
    ...plan.stages.map((stage) => `    ${stageText(stage)},`),
    '  ],',
    `  ${call},`,
    ...(own === null ? [] : ['  { ops: base.functions },']),
    ');',
  ].join('\n')}\n`;
}

/** The path of a plan file as another file imports it. */
function importPath(file: string, path: string): string {
  const near = relative(dirname(resolve(path)), resolve(file));
  return near.startsWith('.') ? near : `./${near}`;
}

function stageText({ name, ops, over, recompute, split }: Stage): string {
  const options = [
    `over: ${quoted(over)}`,
    ...(recompute.length > 0 ? [`recompute: ${listed(recompute)}`] : []),
    ...(split === 'positions' ? [`split: 'positions'`] : []),
  ];
  const line = `stage(${quoted(name)}, ${listed(ops)}, { ${options.join(', ')} })`;
  if (line.length + 5 <= lineWidth) return line;
  return `stage(${quoted(name)}, ${listed(ops)}, {\n${options.map((one) => `      ${one},\n`).join('')}    })`;
}

/** Options that are not as they are where nobody gives them: `{ prefetch: 2 }`, or nothing. */
function changedOptions({ scheme }: FusionPlan): string {
  const usual = new Map<string, unknown>(Object.entries(defaults[scheme.kind]()));
  const changed = Object.entries(scheme).filter(
    ([key, value]) => JSON.stringify(value) !== JSON.stringify(usual.get(key)),
  );
  return changed.length === 0
    ? ''
    : `{ ${changed.map(([key, value]) => `${key}: ${literal(value)}`).join(', ')} }`;
}

function literal(value: unknown): string {
  if (Array.isArray(value) && optionText(value) !== null) {
    return `byContext({ ${(optionText(value) ?? '').replaceAll('+', ', ').replaceAll(':', ': ')} })`;
  }
  if (typeof value === 'object' && value !== null) {
    return `{ ${Object.entries(value)
      .map(([key, one]) => `${key}: ${literal(one)}`)
      .join(', ')} }`;
  }
  return typeof value === 'string' ? quoted(value) : String(value);
}

const quoted = (text: string): string => `'${text.replaceAll(/[\\']/g, '\\$&')}'`;
const listed = (words: readonly string[]): string => `[${words.map(quoted).join(', ')}]`;
