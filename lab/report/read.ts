// Files into what a report is made of: each is known by what it holds, not by its name.
import { existsSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { OnelaunchError } from '../../errors.ts';
import { readPlainFile } from '../../files/plain-file.ts';
import { type Finding, findingsOf } from '../findings.ts';
import { readJournal } from '../journal.ts';
import { spreadOf } from '../measure.ts';
import { ranked } from '../ranking.ts';
import type { Experiment, ReportInput, VariantRow } from './input.ts';
import { readKernel } from './read-kernel.ts';
import { readPeers } from './read-peers.ts';

const mostBytes = 100_000_000;
const measureAgain = 'leave it out, or measure again';

/**
 * @param paths files, or folders whose .json and .jsonl files are read. What stands in a folder and is neither is one of the others; a file that
 * is named must be one of the three. @throws OnelaunchError usage
 */
export function readInput(paths: readonly string[]): ReportInput {
  const input = { experiments: [], kernels: [], peers: [], others: [] } as {
    -readonly [K in keyof ReportInput]: ReportInput[K][number][];
  };
  const seen = new Set<string>();
  for (const path of paths) {
    if (!existsSync(path)) {
      throw new OnelaunchError('usage', `there is no file ${path}`, {
        hint: 'gen explore and gen ablate write journals, gen bench --report writes figures',
      });
    }
    const isFolder = statSync(path).isDirectory();
    for (const file of isFolder ? filesOf(path) : [path]) {
      const place = realpathSync(file);
      if (seen.has(place)) continue;
      seen.add(place);
      if (extname(file) === '.jsonl') input.experiments.push(readExperiment(file));
      else if (!readFigures(file, input)) {
        if (!isFolder) throw unknownFile(file);
        input.others.push(file);
      }
    }
  }
  return { ...input, kernels: toldApart(input.kernels) };
}

/** A kernel that was measured twice is two. */
const toldApart = (kernels: ReportInput['kernels']): ReportInput['kernels'] =>
  kernels.map((one) =>
    kernels.filter(({ kernel }) => kernel === one.kernel).length === 1
      ? one
      : { ...one, name: `${one.name}, ${one.file}` },
  );

const filesOf = (folder: string): readonly string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.jsonl?$/.test(name))
    .sort()
    .map((name) => join(folder, name));

function readExperiment(file: string): Experiment {
  const { header, records } = readJournal(file);
  if (header === null)
    throw new OnelaunchError('usage', `${file} is an empty journal`, { hint: 'leave it out' });
  const runs = records.flatMap((record) => (record.kind === 'run' ? [record] : []));
  return { file, header, runs, rows: rowsOf(findingsOf(records, header.positions)) };
}

/** With the range of the rounds that a row's median is of. */
function rowsOf(findings: readonly Finding[]): VariantRow[] {
  return ranked(findings).map((row) => {
    const { variant, built, rounds: all } = findings.find((finding) => finding.variant.id === row.id)!;
    const rounds = row.isBase ? all : all.filter(({ rung }) => rung === row.rung);
    const ranges = row.rates.map((rate, i) =>
      rate === null ? null : spreadOf(rounds.map(({ rates }) => rates[i]!)),
    );
    const decode = built?.resources.find(({ name }) => name === 'decode' || name === 'decode<1>');
    return { ...row, ranges, plan: variant.plan, decodeSpillBytes: decode?.spillBytes ?? 0 };
  });
}

/** Whether it was one of kernels or peers. */
function readFigures(
  file: string,
  to: { kernels: ReportInput['kernels'][number][]; peers: ReportInput['peers'][number][] },
): boolean {
  let value: unknown;
  try {
    value = JSON.parse(readPlainFile(file, mostBytes, measureAgain).toString('utf8'));
  } catch (error) {
    if (error instanceof OnelaunchError) throw error;
    throw new OnelaunchError('usage', `${file} is not JSON`, {
      hint: measureAgain,
      cause: error,
    });
  }
  const kernel = readKernel(file, value);
  if (kernel) to.kernels.push(kernel);
  const peers = kernel ? null : readPeers(file, value);
  if (peers) to.peers.push(peers);
  return kernel !== null || peers !== null;
}

const unknownFile = (file: string) =>
  new OnelaunchError('usage', `${file} holds neither a journal nor figures of a kernel or of other systems`, {
    hint: 'for example: gen report bench/reports explore.jsonl --out report.html',
  });
