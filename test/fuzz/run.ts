// npm run fuzz -- --seed S --count N [--kind K]: mutants of a model's files, read in processes of their own.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { kinds, mostMillis, type Outcome, runCase } from './kinds.ts';

interface Case {
  readonly seed: number;
  readonly outcome: Outcome;
}

/** Cases of one kind in a process; one that ends it, or hangs, is a failure, and the rest go on in the next. */
async function runKind(kind: string, first: number, count: number): Promise<Case[]> {
  const cases: Case[] = [];
  while (cases.length < count) {
    const from = first + cases.length;
    const end = await runBatch(kind, from, count - cases.length, (outcome) =>
      cases.push({ seed: first + cases.length, outcome }),
    );
    if (end !== undefined && cases.length < count) {
      cases.push({ seed: first + cases.length, outcome: `failed: ${end}` });
    }
  }
  return cases;
}

/** How the process ended, undefined when it did all its cases. */
function runBatch(
  kind: string,
  from: number,
  count: number,
  tell: (outcome: Outcome) => void,
): Promise<string | undefined> {
  const args = ['--import', 'tsx', fileURLToPath(import.meta.url), '--batch', '--kind', kind];
  const child = spawn(process.execPath, [...args, '--seed', String(from), '--count', String(count)], {
    stdio: ['ignore', 'inherit', 'pipe', 'ipc'],
  });
  let said = '';
  child.stderr!.on('data', (text) => {
    said = (said + text).slice(-2000);
  });
  let isHung = false;
  const watch = () =>
    setTimeout(() => {
      isHung = true;
      child.kill('SIGKILL');
    }, 2 * mostMillis);
  // The first includes the start of the process.
  let timer = watch();
  child.on('message', (outcome) => {
    tell(outcome as Outcome);
    clearTimeout(timer);
    timer = watch();
  });
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      if (isHung) resolve(`hung for more than ${(2 * mostMillis) / 1000} s`);
      else resolve(code === 0 ? undefined : `the process ended with ${signal ?? code}\n${said}`);
    });
  });
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    count: { type: 'string', default: '2000' },
    kind: { type: 'string' },
    batch: { type: 'boolean', default: false },
  },
});
const [seed, count] = [Number(values.seed), Number(values.count)];
const known = Object.keys(kinds);
if (values.kind !== undefined && !known.includes(values.kind)) {
  throw new Error(`no kind '${values.kind}'; known: ${known.join(', ')}`);
}

if (values.batch) {
  for (let at = seed; at < seed + count; at++) process.send!(runCase(values.kind!, at));
  process.disconnect();
} else {
  const wanted = values.kind === undefined ? known : [values.kind];
  console.log(`seed ${seed}, ${count} mutants\n${'kind'.padEnd(32)}refused     ran  failed`);
  let failures = 0;
  for (const [at, kind] of wanted.entries()) {
    const share = Math.floor(count / wanted.length) + (at < count % wanted.length ? 1 : 0);
    const cases = await runKind(kind, seed, share);
    const failed = cases.filter(({ outcome }) => outcome.startsWith('failed'));
    failures += failed.length;
    const numbers = ['refused', 'ran'].map((word) => cases.filter(({ outcome }) => outcome === word).length);
    console.log(
      kind.padEnd(32) + [...numbers, failed.length].map((number) => String(number).padStart(7)).join(' '),
    );
    for (const { seed, outcome } of failed)
      console.log(`  --kind '${kind}' --seed ${seed} --count 1\n  ${outcome}`);
  }
  process.exitCode = failures === 0 ? 0 : 1;
}
