// gen explore list, merge: what is done with journals, without timing anything.
import { existsSync } from 'node:fs';
import { OnelaunchError } from '../errors.ts';
import { modelText } from '../lab/journal-format.ts';
import { exitCode } from './exit-code.ts';
import { rowsOf, showFindings } from './findings-table.ts';
import { needWritable } from './output-file.ts';
import type { Ui } from './ui.ts';

interface JournalFlags {
  readonly journal?: string | undefined;
  readonly markdown?: true | undefined;
}

/** The tables of journals. */
export async function listJournals(ui: Ui, paths: readonly string[], flags: JournalFlags): Promise<number> {
  if (paths.length === 0)
    throw new OnelaunchError('usage', 'no journal to list', { hint: 'gen explore list FILE' });
  const { readJournal } = await import('../lab/journal.ts');
  const { findingsOf } = await import('../lab/findings.ts');
  for (const path of paths) {
    const { header, records } = readJournal(path);
    if (!header) {
      throw new OnelaunchError('usage', `${path} has no experiment: it was left before its first line`, {
        hint: 'the command that was left begins it anew',
      });
    }
    const findings = findingsOf(records, header.positions);
    if (ui.json) ui.result({ journal: path, ...header, variants: rowsOf(findings, header) });
    else {
      const run = records.findLast((one) => one.kind === 'run' && one.device !== null);
      const timed = run?.kind === 'run' ? `on ${run.device}` : 'not timed yet';
      const part = header.shard === null ? '' : `, ${shardText(header.shard)}`;
      const title = `${path}: ${modelText(header)}, ${header.target}, ${timed}${part}`;
      // Of several tables each has its name where it goes.
      if (paths.length > 1) ui.data(title);
      else ui.note(title);
      showFindings(ui, findings, header, flags.markdown);
    }
  }
  return exitCode.ok;
}

/** Such as `shard 1,3 of 4`. */
const shardText = (shard: string): string => `shard ${shard.replace('/', ' of ')}`;

/** Journals of shards as one, and its table. */
export async function mergeJournals(ui: Ui, paths: readonly string[], flags: JournalFlags): Promise<number> {
  if (paths.length < 2 || flags.journal === undefined) {
    throw new OnelaunchError(
      'usage',
      'merge takes two journals or more, and --journal for what they become',
      {
        hint: 'for example: gen explore merge a.jsonl b.jsonl --journal all.jsonl',
      },
    );
  }
  if (existsSync(flags.journal)) {
    throw new OnelaunchError('usage', `${flags.journal} is there already`, {
      hint: 'give another --journal',
    });
  }
  needWritable('journal', flags.journal, 'all.jsonl');
  const { merged } = await import('../lab/merge.ts');
  const { writeJournal } = await import('../lab/journal.ts');
  const { header, records } = merged(paths);
  await writeJournal(flags.journal, header, records);
  if (header.shard !== null)
    ui.warn(`variants of other shards are missing: ${flags.journal} has ${shardText(header.shard)}`);
  return await listJournals(ui, [flags.journal], flags);
}
