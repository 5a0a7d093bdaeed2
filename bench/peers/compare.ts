// Our CPU library against llama.cpp on Qwen3-0.6B's dimensions, random weights, in turns: `npm run bench:peers -- [rounds]`.
// Both run in processes of their own, A B A B ..., and the ratio is taken round by round; a line of JSON goes to bench/reports/cpu.
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { measureLlamaCpp } from './llama-cpp.ts';

const threads = 2;
const prompt = 512;
const tokens = 48;
const rounds = Number(process.argv[2] ?? 3);

const oursSchema = z.object({
  kernel: z.string(),
  hash: z.string(),
  decode: z.array(z.object({ tokensPerSecond: z.object({ median: z.number() }) })).min(1),
  prefill: z.object({ tokensPerSecond: z.object({ median: z.number() }) }),
});

/** One run of gen bench: decode after the prompt, and its prefill. */
function measureOurs() {
  const args = ['--import', 'tsx', join(packageRoot(), 'cli', 'main.ts'), 'bench', '--json', '--quiet'];
  const what = ['--model', 'qwen3-0.6b', '--target', 'cpu', '--random-weights', '--runs', '1'];
  const work = ['--positions', String(prompt), '--prompt', String(prompt), '--tokens', String(tokens)];
  const text = execFileSync('node', [...args, ...what, ...work, '--threads', String(threads)], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const { kernel, hash, decode, prefill } = oursSchema.parse(JSON.parse(text));
  return { kernel, hash, decode: decode[0]!.tokensPerSecond.median, prefill: prefill.tokensPerSecond.median };
}

const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
const spread = (values: readonly number[]) => ({
  median: median(values),
  least: Math.min(...values),
  most: Math.max(...values),
});

const runs: { ours: ReturnType<typeof measureOurs>; theirs: Awaited<ReturnType<typeof measureLlamaCpp>> }[] =
  [];
measureOurs(); // builds, and fills the page cache
for (let round = 0; round < rounds; round++) {
  const ours = measureOurs();
  const theirs = await measureLlamaCpp({ threads, prompt, tokens });
  runs.push({ ours, theirs });
  console.log(
    `round ${round + 1}: decode ${ours.decode.toFixed(1)} against ${theirs.decodeTokensPerSecond.toFixed(1)} tok/s, ` +
      `prefill ${ours.prefill.toFixed(0)} against ${theirs.prefillTokensPerSecond.toFixed(0)} tok/s`,
  );
}

const report = {
  date: new Date().toISOString().slice(0, 10),
  machine: `${cpus()[0]!.model}, ${cpus().length} CPUs`,
  conditions: {
    model: 'qwen3-0.6b, random weights',
    threads,
    prompt,
    tokens,
    rounds,
    ours: 'bf16',
    theirs: 'F16 GGUF',
  },
  kernel: runs[0]!.ours.kernel,
  hash: runs[0]!.ours.hash,
  peer: runs[0]!.theirs.peer,
  decode: {
    ours: spread(runs.map((r) => r.ours.decode)),
    theirs: spread(runs.map((r) => r.theirs.decodeTokensPerSecond)),
    ratio: spread(runs.map((r) => r.ours.decode / r.theirs.decodeTokensPerSecond)),
  },
  prefill: {
    ours: spread(runs.map((r) => r.ours.prefill)),
    theirs: spread(runs.map((r) => r.theirs.prefillTokensPerSecond)),
    ratio: spread(runs.map((r) => r.ours.prefill / r.theirs.prefillTokensPerSecond)),
  },
};
const folder = join(packageRoot(), 'bench', 'reports', 'cpu');
mkdirSync(folder, { recursive: true });
writeFileSync(join(folder, 'llama-cpp.json'), `${JSON.stringify(report, null, 2)}\n`);
console.log(JSON.stringify({ decode: report.decode, prefill: report.prefill }, null, 1));
