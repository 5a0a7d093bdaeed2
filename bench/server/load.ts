// The server under load: `npm run bench:server -- --help`. Clients are in this process, the server is one of its own.
import { Command } from '@commander-js/extra-typings';
import { processIo } from '../../cli/io.ts';
import { needWritable } from '../../cli/output-file.ts';
import { table } from '../../cli/ui.ts';
import { nameValues, whole, wholes } from '../../cli/values.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { OnelaunchError } from '../../errors.ts';
import { cpuName, machineState, spreadOf } from '../../lab/measure.ts';
import { writeText } from '../../lab/write-text.ts';
import { mostSequences } from '../../runtime/engine/limits.ts';
import { runStarted } from '../run.ts';
import { Serving } from './serving.ts';
import { type Asked, stream } from './stream.ts';
import { judge, type Percentiles, type Visit, visit, watchMemory } from './visits.ts';

const io = processIo();

const program = new Command('bench:server')
  .description(
    'streamed completions of gen serve by number of clients, in turns, each compared with the reply that its request gets alone; then memory over many requests',
  )
  .option('--model <name|dir>', 'as of gen serve', 'qwen3-tiny')
  .option('--target <name>', 'as of gen serve', 'cpu')
  .option('--threads <n>', 'CPU threads of the server', whole(1, 1024))
  .option('--parallel <n>', 'replies at a time', whole(1, mostSequences), mostSequences)
  .option('--clients <list>', 'at once; the first is what others are compared with', wholes(1, 512), [1, 64])
  .option('--seconds <n>', 'of a visit', whole(1, 3600), 15)
  .option('--rounds <n>', 'rounds of A B B A', whole(1, 100), 1)
  .option('--tokens <n>', 'of a reply', whole(2, 4096), 100)
  .option('--requests <n>', 'short ones, over which memory is watched', whole(0, 10_000_000), 10_000)
  .option('--report <file>', 'write all figures as JSON')
  .exitOverride()
  .configureOutput({ writeErr: () => {} });
nameValues(program);

type Options = ReturnType<ReturnType<typeof program.parse>['opts']>;

/** Requests that differ, every other one sampled by a seed of its own. */
const requestsOf = (count: number, tokens: number): Asked[] =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `Text number ${i} is about`,
    max_tokens: tokens,
    temperature: i % 2 === 0 ? 0 : 1,
    seed: i,
  }));

async function measure(options: Options): Promise<void> {
  const { model, target, threads, parallel, clients, seconds, rounds, tokens } = options;
  needWritable('report', options.report, 'load.json');
  const gpu = resolveTarget(target).kind === 'cuda' ? 0 : null;
  const before = machineState(gpu);
  const flags = [
    ...['--target', target, '--parallel', String(parallel), '--served-model-name', 'm'],
    ...['--queue', '1024', '--queue-timeout', '10m'],
  ];
  if (threads !== undefined) flags.push('--threads', String(threads));
  const server = await Serving.start(model, flags);
  try {
    const send = (asked: Asked) => stream(server.url, 'm', asked);
    const requests = requestsOf(2 * Math.max(...clients), tokens);
    const alone = new Map<Asked, string>();
    for (const asked of requests) alone.set(asked, (await send(asked)).text);

    const { signal } = io;
    const during = (count: number, millis: number) =>
      visit(server, send, alone, { clients: count, millis, signal });
    const visits: Visit[] = [];
    for (const count of clients) await during(count, Math.min(2000, seconds * 1000));
    for (let round = 0; round < rounds; round++)
      for (const count of [...clients, ...clients.toReversed()]) {
        visits.push(await during(count, seconds * 1000));
        io.err(`${lineOf(visits.at(-1)!).join('  ')}\n`);
      }

    const short: Asked[] = requests.map((asked) => ({ ...asked, max_tokens: 2 }));
    const { memory, failed } = await watchMemory(server, send, short, {
      clients: Math.max(...clients),
      requests: options.requests,
      signal,
    });

    const base = rateOf(visits, clients[0]!);
    const ratios = clients.slice(1).map((count) => ({
      clients: count,
      tokensPerSecond: rateOf(visits, count),
      ratio: rateOf(visits, count).median / base.median,
    }));
    io.out(`${table(heads, visits.map(lineOf))}\n`);
    for (const { clients: count, ratio } of ratios)
      io.out(`\n${count} clients: ${ratio.toFixed(2)} times ${clients[0]}\n`);
    if (memory.length > 0) {
      const megabytes = memory.map(({ bytes }) => bytes / 1e6);
      const listed = megabytes.map((size) => size.toFixed(0)).join(', ');
      const { spread } = spreadOf(megabytes.slice(megabytes.length / 2 - 1));
      io.out(
        `\nmemory of the server after each tenth of ${options.requests} short requests, MB: ${listed}\n` +
          `over the last half it differs by ${(100 * spread).toFixed(0)} %\n`,
      );
    }
    if (options.report !== undefined) {
      const machine = { cpu: cpuName(), before, after: machineState(gpu) };
      const conditions = { model, target, threads: threads ?? null, parallel, seconds, rounds, tokens };
      const written = { kind: 'server', machine, conditions, visits, ratios, memory, failed };
      writeText(options.report, `${JSON.stringify(written, null, 2)}\n`);
    }
    const { note, wrong } = judge(visits, { failed, onGpu: gpu !== null });
    if (note !== null) io.out(`\n${note}\n`);
    if (wrong !== null) throw new OnelaunchError('failed', wrong);
  } finally {
    await server.close();
  }
}

const rateOf = (visits: readonly Visit[], count: number) =>
  spreadOf(visits.filter(({ clients }) => clients === count).map(({ tokensPerSecond }) => tokensPerSecond));

const heads = [
  'clients',
  'replies',
  'lost',
  'others',
  'tok/s',
  'processors',
  'first text p50 / p99, ms',
  'between p50 / p99, ms',
];
const both = ({ p50, p99 }: Percentiles) => `${p50.toFixed(1)} / ${p99.toFixed(1)}`;
const lineOf = (one: Visit): string[] => [
  ...[one.clients, one.replies, one.lost, one.others].map(String),
  one.tokensPerSecond.toFixed(0),
  one.processors.toFixed(2),
  both(one.firstText),
  both(one.between),
];

await runStarted(import.meta.url, 'bench:server', io, () => measure(program.parse().opts()));
