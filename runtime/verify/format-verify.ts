// The result of a verification as text.
import { short } from '../short.ts';
import type { VerifyResult } from './verify.ts';

/** A table of the cases, the tolerance with its terms, and what failed. */
export function formatVerify(result: VerifyResult): string {
  const { tolerance: bounds } = result;
  const fraction = (part: { equal: number; compared: number } | null) =>
    part ? `${part.equal}/${part.compared}` : '-';
  const table = [
    ['case', 'prompt', 'new', 'logit error', 'KL', 'NLL error', 'argmax', 'forced', 'free', ''],
    ...result.cases.map((c) => [
      String(c.index),
      String(c.promptTokens),
      String(c.newTokens),
      short(c.logit.error),
      short(c.kl.mean) + (c.kl.of === 'listed' ? '*' : ''),
      c.nll ? short(c.nll.error) : '-',
      fraction(c.argmax),
      fraction(c.forced),
      fraction(c.free),
      c.problems.length > 0 ? 'fail' : 'ok',
    ]),
    [
      'at most',
      '',
      '',
      short(bounds.logit),
      short(bounds.kl),
      bounds.nll === null ? '-' : short(bounds.nll),
      '',
      '',
      '',
      '',
    ],
  ];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)));
  const lines = table.map((row) =>
    row
      .map((cell, column) => cell.padStart(widths[column]!))
      .join('  ')
      .trimEnd(),
  );
  if (result.cases.some((c) => c.kl.of === 'listed')) lines.push('* of the listed ids only');

  lines.push('', `tolerance of a logit ${short(bounds.logit)}: sigmas x sigma + printed digits`);
  const width = Math.max(...bounds.terms.map((term) => term.name.length));
  for (const term of bounds.terms)
    lines.push(`  ${term.name.padEnd(width)}  ${short(term.value).padStart(7)}`);

  for (const c of result.cases) {
    if (c.skipped) lines.push(`case ${c.index}: tokens not compared, ${c.skipped}`);
    for (const problem of c.problems) lines.push(`case ${c.index}: ${problem}`);
  }
  const failed = result.cases.filter((c) => c.problems.length > 0).length;
  lines.push(
    result.ok ? `pass: ${result.cases.length} cases` : `FAIL: ${failed} of ${result.cases.length} cases`,
  );
  return lines.join('\n');
}
