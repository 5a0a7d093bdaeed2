// bench/reports: what was measured, where, and of which sources. A figure of other sources than today's is stale.
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../codegen/build/package-root.ts';
import type { Kernel, ModelDims } from '../codegen/index.ts';
import { unlisted } from '../configs/resolve.ts';
import { OnelaunchError } from '../errors.ts';
import { makeFolder } from '../files/make-folder.ts';
import { whyUnwritten } from '../files/write-failure.ts';
import { writeText } from '../lab/write-text.ts';

const section = z.looseObject({
  /** Of the sources that were measured. */
  hash: z.string(),
  date: z.string(),
});

const bench = section.extend({
  decode: z.array(
    z.looseObject({ position: z.number(), tokensPerSecond: z.looseObject({ median: z.number() }) }),
  ),
});

const quality = section.extend({
  texts: z.array(z.looseObject({ text: z.string(), kl: z.looseObject({ mean: z.number() }) })),
});

const reportSchema = z.looseObject({
  kernel: z.string(),
  model: z.string(),
  target: z.string(),
  /** All of a target that is not listed, or not as it is listed. */
  ownTarget: z.looseObject({}).optional(),
  plan: z.string(),
  /** The file of a plan that is not built in, from the working folder. */
  planFile: z.string().optional(),
  /** What took in prompts, where that had a plan of its own; and its file. */
  promptPlan: z.string().optional(),
  promptPlanFile: z.string().optional(),
  /** ModelDims: a name may mean a checkpoint of the user's. */
  dims: z.looseObject({}),
  bench: bench.optional(),
  verify: section.optional(),
  quality: quality.optional(),
});

export type Report = z.infer<typeof reportSchema>;
type Section = 'bench' | 'verify' | 'quality';

const reportRoot = () => join(packageRoot(), 'bench', 'reports');

const pollCycles = 'ONELAUNCH_POLL_CYCLES';

/** That figures may stand for their kernel, and can be written, before they are measured. @throws OnelaunchError usage or environment */
export function needReports(): void {
  if (process.env[pollCycles] !== undefined) {
    throw new OnelaunchError(
      'usage',
      `--report is given, and ${pollCycles} is set: its figures are not those of the target`,
      {
        hint: 'unset it, or leave --report out',
      },
    );
  }
  const root = reportRoot();
  try {
    makeFolder(root);
    accessSync(root, constants.W_OK);
  } catch (error) {
    throw new OnelaunchError(
      'environment',
      `--report is given, and ${root} cannot be written: ${whyUnwritten(root, error)}`,
      {
        hint: 'leave it out, or see whose it is: ls -ld',
        cause: error,
      },
    );
  }
}

/** Writes figures into bench/reports/<target>/<kernel>.json, in the place of earlier ones of the same kind.
 *  @returns the path from the package's root */
export function writeReport(kernel: Kernel, figures: Readonly<Partial<Record<Section, object>>>): string {
  const { plan, prompts } = kernel;
  const { dims, target } = kernel.schedule;
  const folder = join(reportRoot(), target.name);
  const file = join(folder, `${kernel.name}.json`);
  const date = new Date().toISOString().slice(0, 10);
  const before = readReport(file);
  const section = (name: Section) =>
    figures[name] === undefined ? before?.[name] : { hash: kernel.hash, date, ...figures[name] };
  const report = {
    ...{ kernel: kernel.name, model: dims.name, target: target.name, ownTarget: unlisted(target) },
    ...{ plan: plan.name, dims: { ...dims } },
    ...(plan.file === null ? {} : { planFile: plan.file }),
    ...(prompts && { promptPlan: prompts.plan.name }),
    ...(prompts?.plan.file ? { promptPlanFile: prompts.plan.file } : {}),
    ...{ bench: section('bench'), verify: section('verify'), quality: section('quality') },
  };
  makeFolder(folder);
  writeText(file, `${JSON.stringify(report, null, 2)}\n`);
  return join('bench', 'reports', target.name, `${kernel.name}.json`);
}

/** All reports, by target and kernel, and the paths of JSON files that are none. */
export function readReports(): { readonly reports: readonly Report[]; readonly others: readonly string[] } {
  const root = reportRoot();
  const files = existsSync(root) ? readdirSync(root, { recursive: true, encoding: 'utf8' }) : [];
  const reports: Report[] = [];
  const others: string[] = [];
  for (const file of files.filter((name) => name.endsWith('.json')).sort()) {
    const report = readReport(join(root, file));
    if (report === undefined) others.push(file);
    else reports.push(report);
  }
  return { reports, others };
}

/** Undefined where it is none. */
export function readReport(file: string): Report | undefined {
  try {
    return reportSchema.safeParse(JSON.parse(readFileSync(file, 'utf8'))).data;
  } catch {
    return undefined;
  }
}

/** Hash of the sources that today's tree prints for a report's dims, plans and target; null if it knows one of them no more. */
export async function currentHash(report: Report): Promise<string | null> {
  const codegen = await import('../codegen/index.ts');
  const names = await import('../configs/resolve.ts');
  const { checkDims } = await import('../codegen/model/check-dims.ts');
  try {
    const dims = checkDims(report.dims as unknown as ModelDims);
    const target = names.targetOfFigures(report.target, report.ownTarget);
    const plan = await names.resolvePlan(report.planFile ?? report.plan);
    const forPrompts = report.promptPlanFile ?? report.promptPlan;
    const promptPlan = forPrompts === undefined ? null : await names.resolvePromptPlan(forPrompts);
    return (await codegen.generate({ dims, target, plan, promptPlan })).hash;
  } catch {
    return null;
  }
}
