// Pointwise ops as C text, remembered with the hashes of all files that were read: reading TypeScript takes longer than all else.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { z } from 'zod';
import { makeFolder } from '../../files/make-folder.ts';
import { writeWhole } from '../../files/whole-file.ts';
import { outputRoot } from '../build/output-root.ts';
import { packageRoot } from '../build/package-root.ts';
import { type OpName, opNames, opTable } from '../model/ops.ts';
import { pathOf } from '../plan/call-site.ts';
import type { FusionPlan } from '../plan/plan.ts';
import type { PointwiseOptions } from './pointwise.ts';

/** Raised when codegen/emit/pointwise.ts prints the same source differently. */
const printerVersion = 3;

/** What is remembered of an op file: its text as C, the names of the ops asked for, and every file that was read. */
const remembered = z.strictObject({
  text: z.string(),
  names: z.array(z.string()),
  /** Path -> hash of its bytes. */
  files: z.record(z.string(), z.string()),
});

const configs = (file: string) => join(packageRoot(), 'configs', file);

/** The ops of a kernel. */
export interface OpsText {
  /** One C function an op or helper, each ending without a line feed, and what stands around them. */
  readonly text: readonly string[];
  /** What the generated code calls the ops that the plan brings, behind `ops::`. */
  readonly functions: Readonly<Partial<Record<OpName, string>>>;
}

/** The decoder's pointwise ops, those that the plan brings in a namespace of their own: they may be called as anything else is.
 *  @throws PointwiseError for what cannot be printed */
export async function opsOf({ ops }: Pick<FusionPlan, 'ops'>): Promise<OpsText> {
  const brought = Object.entries(ops);
  if (brought.length === 0) return { text: await opsText(), functions: {} };
  const kept = opNames.flatMap((op) => (op in ops ? [] : (opTable[op].pointwise?.function ?? [])));
  const sites = brought.map(([, site]) => site);
  const file = pathOf(sites[0]!);
  const { text, names } = await printed(file, {
    sites,
    shown: relative(process.cwd(), file),
    dsl: configs('dsl.ts'),
  });
  return {
    text: [
      ...(kept.length > 0 ? await opsText(undefined, undefined, [...new Set(kept)]) : []),
      'namespace plan {',
      ...split(text),
      '}  // namespace plan',
    ],
    functions: Object.fromEntries(brought.map(([op], i) => [op, `plan::${names[i]}`])),
  };
}

/** The ops of a file, or some of them, and their helpers. `file` is shown in messages as `shown`. */
export async function opsText(
  file = configs('ops.ts'),
  shown = 'configs/ops.ts',
  ops?: readonly string[],
): Promise<string[]> {
  return split((await printed(file, { shown, ...(ops && { ops }) })).text);
}

async function printed(file: string, options: PointwiseOptions) {
  const key = createHash('sha256')
    .update(JSON.stringify([printerVersion, file, options]))
    .digest('hex');
  const cached = join(outputRoot(), `ops-${key.slice(0, 12)}.json`);
  const known = readIfCurrent(cached);
  if (known) return known;
  const { printOps } = await import('./pointwise.ts');
  const { text, ops, files } = await printOps(file, options);
  const hashes = Object.fromEntries(files.map((path) => [path, hashOf(path)]));
  const made = { text, names: ops.map((op) => op.name), files: hashes };
  remember(cached, JSON.stringify(made));
  return made;
}

const hashOf = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex');

const split = (text: string): string[] => text.trimEnd().split(/\n(?=DEVICE )/);

/** What is remembered, if no file that it was printed from has changed since. */
function readIfCurrent(path: string): z.infer<typeof remembered> | null {
  try {
    const found = remembered.parse(JSON.parse(readFileSync(path, 'utf8')));
    return Object.entries(found.files).every(([file, hash]) => hashOf(file) === hash) ? found : null;
  } catch {
    return null;
  }
}

/** Best effort: without the file the ops are only printed again. */
function remember(path: string, text: string): void {
  try {
    makeFolder(outputRoot());
    writeWhole(path, text);
  } catch {
    // A read-only cache folder is reported by the build, which needs it.
  }
}
