// The best variant of an exploration as a plan file that prints the same kernel.
import type { Candidate } from '../lab/enumerate.ts';
import { modelText } from '../lab/journal-format.ts';
import type { JournalHeader } from '../lab/journal-records.ts';
import type { RankedRow } from '../lab/ranking.ts';
import type { Prepared } from './experiment.ts';
import type { Ui } from './ui.ts';

/** How the best stands beside the incumbent, in words. */
export function standing({ ratio, verdict }: RankedRow, header: JournalHeader): string {
  const { plan, target } = header;
  const where = `with ${modelText(header)} on ${target}`;
  if (!ratio) return `the incumbent itself ${where}`;
  const interval = `${ratio.low.toFixed(3)} to ${ratio.high.toFixed(3)}`;
  return `${ratio.median.toFixed(3)} of the speed of ${plan} (${interval}: ${verdict}) ${where}`;
}

/** Writes the plan, reads it again, and makes sure that it is the same kernel. */
export async function writeWinner(
  ui: Ui,
  { checked: { dims, target }, base }: Prepared,
  { plan, record }: Candidate,
  note: string,
  path: string,
): Promise<void> {
  const { planFile } = await import('../lab/plan-file.ts');
  const { writeText } = await import('../lab/write-text.ts');
  const { resolvePlan } = await import('../configs/resolve.ts');
  const { generate } = await import('../codegen/index.ts');
  writeText(path, planFile(plan, note, path, base.file));
  const { hash } = await generate({ dims, target, plan: await resolvePlan(path) });
  if (hash !== record.id)
    throw new Error(`internal error: ${path} prints the kernel ${hash}, not ${record.id}`);
  ui.note(`the best as a plan: ${path}: ${note}`);
}
