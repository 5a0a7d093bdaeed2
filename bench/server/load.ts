// The server under load: `npm run bench:server -- --help`. Clients are in this process, the server is one of its own.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Command, CommanderError } from '@commander-js/extra-typings';
import { report as failure } from '../../cli/errors.ts';
import { processIo } from '../../cli/io.ts';
import { table } from '../../cli/ui.ts';
import { whole, wholes } from '../../cli/values.ts';
import { OnelaunchError } from '../../errors.ts';
import { cpuName, machineState, spreadOf } from '../../lab/measure.ts';
import { mostSequences } from '../../runtime/limits.ts';
import { Serving } from './serving.ts';
import { type Asked, type Streamed, stream } from './stream.ts';

const io = processIo();

const program = new Command('bench:server')
  .description(
    'streamed completions of gen serve by number of clients, in turns, each compared with the reply that its request gets alone; then memory over many requests',
  )
  .option('--model <name|dir>', 'as of gen serve', 'qwen3-tiny')
  .option('--target <name>', 'as of gen serve', 'cpu')
  .option('--threads <n>', 'CPU threads of the server', whole('--threads', 1, 1024))
  .option('--parallel <n>', 'replies at a time', whole('--parallel', 1, mostSequences), mostSequences)
  .option(
    '--clients <list>',
    'at once; the first is what others are compared with',
    wholes('--clients', 1, 512),
    [1, 64],
  )
  .option('--seconds <n>', 'of a visit', whole('--seconds', 1, 3600), 15)
  .option('--rounds <n>', 'rounds of A B B A', whole('--rounds', 1, 100), 1)
  .option('--tokens <n>', 'of a reply', whole('--tokens', 2, 4096), 100)
  .option(
    '--requests <n>',
    'short ones, over which memory is watched',
    whole('--requests', 0, 10_000_000),
    10_000,
  )
  .option('--report <file>', 'write all figures as JSON')
  .exitOverride()
  .configureOutput({ writeErr: () => {} });

type Options = ReturnType<ReturnType<typeof program.parse>['opts']>;

/** Requests that differ, every other one sampled by a seed of its own. */
const requestsOf = (count: number, tokens: number): Asked[] =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `Text number ${i} is about`,
    max_tokens: tokens,
    temperature: i % 2 === 0 ? 0 : 1,
    seed: i,
  }));

/** What clients saw for some seconds. */
interface Visit {
  readonly clients: number;
  readonly replies: number;
  /** Broken off, refused, or without an end. */
  readonly lost: number;
  /** Of another text than the request gets alone. */
  readonly others: number;
  readonly tokensPerSecond: number;
  /** Of the server, for each second. */
  readonly processors: number;
  /** [ms] */
  readonly firstText: Percentiles;
  readonly between: Percentiles;
}

interface Percentiles {
  readonly p50: number;
  readonly p99: number;
}

function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) =>
    sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
  return { p50: at(0.5), p99: at(0.99) };
}

/** As many clients as asked for, each with one request after the other until the time is over or all were made. @param next null: no more */
async function clientsOf(
  count: number,
  next: () => Asked | null,
  send: (asked: Asked) => Promise<Streamed>,
): Promise<{ asked: Asked; reply: Streamed | Error }[]> {
  const all: { asked: Asked; reply: Streamed | Error }[] = [];
  const client = async () => {
    for (let asked = next(); asked !== null; asked = next()) {
      const reply = await send(asked).catch((error: unknown) => error as Error);
      all.push({ asked, reply });
    }
  };
  await Promise.all(Array.from({ length: count }, client));
  return all;
}

async function measure(options: Options): Promise<void> {
  const { model, target, threads, parallel, clients, seconds, rounds, tokens } = options;
  const before = machineState(null);
  const flags = [
    '--target',
    target,
    '--parallel',
    String(parallel),
    '--served-model-name',
    'm',
    '--queue',
    '1024',
    '--queue-timeout',
    '10m',
  ];
  if (threads !== undefined) flags.push('--threads', String(threads));
  const server = await Serving.start(model, flags);
  try {
    const send = (asked: Asked) => stream(server.url, 'm', asked);
    const requests = requestsOf(2 * Math.max(...clients), tokens);
    const alone = new Map<Asked, string>();
    for (const asked of requests) alone.set(asked, (await send(asked)).text);

    const visit = async (count: number, millis: number): Promise<Visit> => {
      io.signal.throwIfAborted();
      let made = 0;
      const begun = performance.now();
      const computed = server.processorSeconds();
      const over = () => performance.now() - begun > millis || io.signal.aborted;
      const all = await clientsOf(count, () => (over() ? null : requests[made++ % requests.length]!), send);
      const elapsed = (performance.now() - begun) / 1000;
      const whole = all.flatMap(({ asked, reply }) =>
        reply instanceof Error || reply.finish === null ? [] : [{ asked, reply }],
      );
      const sum = whole.reduce((total, { reply }) => total + reply.tokens, 0);
      return {
        clients: count,
        replies: all.length,
        lost: all.length - whole.length,
        others: whole.filter(({ asked, reply }) => reply.text !== alone.get(asked)).length,
        tokensPerSecond: sum / elapsed,
        processors: (server.processorSeconds() - computed) / elapsed,
        firstText: percentiles(
          whole.flatMap(({ reply }) => reply.times.slice(0, 1).map((time) => time - reply.begun)),
        ),
        between: percentiles(
          whole.flatMap(({ reply }) => reply.times.slice(1).map((time, i) => time - reply.times[i]!)),
        ),
      };
    };
    const visits: Visit[] = [];
    for (const count of clients) await visit(count, Math.min(2000, seconds * 1000));
    for (let round = 0; round < rounds; round++)
      for (const count of [...clients, ...clients.toReversed()]) {
        visits.push(await visit(count, seconds * 1000));
        io.err(`${lineOf(visits.at(-1)!).join('  ')}\n`);
      }

    const short: Asked[] = requests.map((asked) => ({ ...asked, max_tokens: 2 }));
    const memory: { requests: number; bytes: number }[] = [];
    let begun = 0;
    let failed = 0;
    const step = Math.max(1, Math.floor(options.requests / 10));
    while (begun < options.requests && !io.signal.aborted) {
      const goal = Math.min(options.requests, begun + step);
      const all = await clientsOf(
        Math.max(...clients),
        () => (begun < goal ? short[begun++ % short.length]! : null),
        send,
      );
      failed += all.filter(({ reply }) => reply instanceof Error || reply.finish === null).length;
      memory.push({ requests: begun, bytes: server.memory() });
    }
    io.signal.throwIfAborted();

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
      const megabytes = memory.map(({ bytes }) => (bytes / 1e6).toFixed(0)).join(', ');
      io.out(
        `\nmemory of the server after each tenth of ${options.requests} short requests, MB: ${megabytes}\n`,
      );
    }
    if (options.report !== undefined) {
      const machine = { cpu: cpuName(), before, after: machineState(null) };
      const conditions = { model, target, threads: threads ?? null, parallel, seconds, rounds, tokens };
      const written = { kind: 'server', machine, conditions, visits, ratios, memory, failed };
      writeFileSync(options.report, `${JSON.stringify(written, null, 2)}\n`);
    }
    const wrong = visits.reduce((sum, one) => sum + one.lost + one.others, failed);
    if (wrong > 0) {
      throw new OnelaunchError(
        'failed',
        `${wrong} replies were lost, or are not those of their requests alone`,
      );
    }
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

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await measure(program.parse().opts());
  } catch (error) {
    // Help was printed already.
    const isHelp = error instanceof CommanderError && error.exitCode === 0;
    if (!isHelp) process.exitCode = failure(error, io, { json: false, command: 'bench:server' });
  }
}
