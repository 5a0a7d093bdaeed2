// Ours against other systems, each in turns with ours on the same machine: `npm run bench:peers -- --help`.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { processIo } from '../../cli/io.ts';
import { table } from '../../cli/ui.ts';
import { nameValues, oneOf, whole, wholes } from '../../cli/values.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { weightNames } from '../../codegen/model/formats.ts';
import { didYouMean } from '../../codegen/plan/did-you-mean.ts';
import { resolveModel, resolveTarget } from '../../configs/resolve.ts';
import { OnelaunchError } from '../../errors.ts';
import { isGgufFile } from '../../gguf/header.ts';
import { cpuName, machineState } from '../../lab/measure.ts';
import { clocks, replyRoom } from '../../lab/together.ts';
import { mostSequences } from '../../runtime/engine/limits.ts';
import { runStarted } from '../run.ts';
import { blockTypes, type RandomType } from './gguf.ts';
import { randomGguf } from './llama-cpp.ts';
import {
  type Asked,
  alone,
  inTurns,
  type Rate,
  type Row,
  rateOf,
  rowOf,
  type Work,
  whereOf,
} from './measure.ts';
import { PeerProcess } from './peer-process.ts';
import { systems } from './systems.ts';

const io = processIo();

const program = new Command('bench:peers')
  .description(
    'decode by position and prefill of ours and of other systems, A B B A; one that cannot run is named with its reason, and where none can ours is timed alone',
  )
  .requiredOption('--model <name|dir>', 'the directory of a checkpoint, or with --random a known name')
  .option('--target <name>', 'cpu, h100, ...; auto: the GPU found here, where nvcc is too, else cpu', 'auto')
  .option('--plan <name|file>', 'fusion plan (default: the best one for the target)')
  .option('--random', 'random weights: only for peers that can make their own of the same dimensions')
  .option(
    '--blocks <type>',
    `random weights of a known name in blocks of one GGUF file that all read: ${blockTypes.join(', ')}`,
    oneOf(blockTypes),
  )
  .option(
    '--weights <format>',
    'ours: as gen --weights, for blocks of a file that no kernel has',
    oneOf(weightNames),
  )
  .option('--peers <list>', `of ${Object.keys(systems).join(', ')} (default: all)`)
  .option(
    '--positions <list>',
    'tokens in the cache when decoding is timed',
    wholes(1, 1_000_000),
    [1, 200, 1900],
  )
  .option(
    '--sequences <list>',
    'that decode at once, as well: tokens of all together',
    wholes(1, mostSequences),
    [],
  )
  .option('--clock <name>', `of all: ${clocks.join(', ')}`, oneOf(clocks), 'wall')
  .option('--prefill <n>', 'tokens of the prompt', whole(1, 1_000_000), 512)
  .option('--tokens <n>', 'timed tokens of a visit', whole(1, 100_000), 100)
  .option('--rounds <n>', 'rounds of A B B A', whole(1, 1000), 3)
  .option('--threads <n>', 'CPU threads of all', whole(1, 1024))
  .option('--gguf <file>', 'the weights as a GGUF file, for llama.cpp')
  .option('--python <path>', 'the Python that has the peers', process.env['PYTHON'] ?? 'python3')
  .option('--report', 'write the table to bench/reports/peers')
  .exitOverride()
  .configureOutput({ writeErr: () => {} });
nameValues(program);

type Options = ReturnType<ReturnType<typeof program.parse>['opts']>;

/** Ids spread over the vocabulary, the same for all; the first ones are special in some models. */
const idsBelow = (vocab: number) => (index: number) => (977 * index + 100) % vocab;

function chosenOf(list: string | undefined): readonly string[] {
  const known = Object.keys(systems);
  const names = list?.split(',').map((name) => name.trim()) ?? known;
  const wrong = names.find((name) => !known.includes(name));
  if (wrong === undefined) return names;
  throw new OnelaunchError('usage', `unknown peer '${wrong}'`, {
    hint: `${didYouMean(wrong, known)}known: ${known.join(', ')}`,
  });
}

/** The path of the file that is written for --blocks. */
function inBlocks({ model, random, gguf }: Options, type: RandomType): string {
  if (random || gguf !== undefined) {
    const other = random ? '--random' : '--gguf';
    throw new OnelaunchError('usage', `--blocks and ${other} are both given`, {
      hint: 'leave one of them out',
    });
  }
  return randomGguf(resolveModel(model).dims, type);
}

async function compare(options: Options): Promise<void> {
  const chosen = chosenOf(options.peers);
  const model = options.blocks === undefined ? options.model : inBlocks(options, options.blocks);
  const { dims, directory } = resolveModel(model);
  if (directory === null && !options.random) {
    throw new OnelaunchError('usage', `there are no weights of ${dims.name} here`, {
      hint: 'give the directory of a checkpoint, or --random for the peers that can',
    });
  }
  const target = resolveTarget(options.target);
  const {
    tokens,
    rounds,
    threads,
    positions,
    sequences,
    clock,
    prefill,
    plan,
    weights: format,
    python,
  } = options;
  const gguf = options.gguf ?? (directory !== null && isGgufFile(directory) ? directory : undefined);
  const most = Math.max(1, ...sequences);
  const context = Math.max(prefill, ...positions) + replyRoom(most, Math.max(...positions), tokens) + 8;
  if (context > dims.maxPositions) {
    throw new OnelaunchError(
      'usage',
      `${context} positions are needed, ${dims.name} has ${dims.maxPositions}`,
      {
        hint: 'ask for smaller --positions, --prefill or --tokens',
      },
    );
  }
  const works: Work[] = [
    ...positions.map((position): Work => ({ kind: 'decode', position, tokens })),
    ...sequences.flatMap((count) =>
      positions.map((position): Work => ({ kind: 'batch', position, tokens, sequences: count })),
    ),
    { kind: 'prefill', tokens: prefill },
  ];
  const random = options.random === true;
  const own = {
    model,
    target: target.name,
    plan,
    weights: format,
    context,
    sequences: most,
    threads,
    random,
  };
  const script = join(packageRoot(), 'bench', 'peers', 'ours.ts');
  const ours = await PeerProcess.start(process.execPath, ['--import', 'tsx', script, JSON.stringify(own)]);
  if (!(ours instanceof PeerProcess))
    throw new OnelaunchError('failed', `ours does not run: ${ours.missing}`);
  const us: Asked = {
    ...{ name: 'onelaunch', variant: ours.variants[0]!, version: ours.version },
    ask: (request) => ours.ask(request),
  };
  const gpu = target.kind === 'cuda' ? 0 : null;
  const before = machineState(gpu);
  const rows: Row[] = [];
  const samples = new Map(works.map((work) => [work, [] as readonly number[]]));
  /** What no peer that was asked has done. */
  const unmatched = new Set<Work>();
  try {
    for (const [name, start] of Object.entries(systems)) {
      const none = (why: string) =>
        rows.push({ peer: name, variant: null, version: null, tokensPerSecond: null, why });
      if (!chosen.includes(name)) {
        none('not asked for');
        continue;
      }
      io.err(`${name}: loading\n`);
      const device = target.kind === 'cuda' ? 'cuda' : 'cpu';
      const weights = random ? null : directory === null ? null : resolve(directory);
      const peer = await start({
        directory: weights,
        model: dims.name,
        device,
        context,
        sequences: most,
        threads,
        gguf,
        python,
      });
      if ('missing' in peer) {
        io.err(`${name}: ${peer.missing}\n`);
        none(peer.missing);
        continue;
      }
      try {
        for (const variant of peer.variants) {
          const them: Asked = { name, variant, version: peer.version, ask: (request) => peer.ask(request) };
          for (const work of works) {
            io.signal.throwIfAborted();
            const turns = await inTurns(us, them, work, rounds, idsBelow(dims.vocab), clock);
            if ('failed' in turns && turns.failed === 'ours')
              throw new OnelaunchError('failed', `ours: ${turns.why}`);
            if ('ours' in turns) samples.set(work, [...samples.get(work)!, ...turns.ours]);
            const row = rowOf(them, work, turns);
            rows.push(row);
            io.err(`${lineOf(row).join('  ')}\n`);
          }
        }
      } finally {
        peer.close();
      }
    }
    for (const work of works.filter((one) => samples.get(one)!.length === 0)) {
      io.signal.throwIfAborted();
      const rates = await alone(us, work, rounds, idsBelow(dims.vocab), clock);
      if (typeof rates === 'string') throw new OnelaunchError('failed', `ours: ${rates}`);
      samples.set(work, rates);
      unmatched.add(work);
    }
  } finally {
    ours.close();
  }
  const oursAt = works.map((work): Row => {
    const what = { peer: us.name, variant: us.variant, version: us.version, ...whereOf(work) };
    const tokensPerSecond = rateOf(samples.get(work)!);
    return { ...what, tokensPerSecond, ...(unmatched.has(work) ? { why: 'alone: no peer ran' } : {}) };
  });
  const all = [...oursAt, ...rows];
  io.out(
    `${table(['peer', 'variant', 'at', 'tok/s', 'least', 'most', 'ours / theirs', 'why'], all.map(lineOf))}\n`,
  );
  if (!options.report) return;
  const report = {
    kind: 'peers',
    ...{
      model: dims.name,
      target: target.name,
      device: ours.device,
      date: new Date().toISOString().slice(0, 10),
    },
    machine: { cpu: cpuName(), before, after: machineState(gpu) },
    conditions: {
      weights: random ? 'random, each its own' : 'the same checkpoint',
      ...{
        tokens,
        rounds,
        threads: threads ?? null,
        clock,
        order: 'A B B A, one visit each before that is thrown away',
      },
    },
    rows: all,
  };
  const folder = join(packageRoot(), 'bench', 'reports', 'peers');
  const file = join(folder, `${dims.name}-${target.name}.json`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(file, `${JSON.stringify(report, null, 2)}\n`);
  io.err(`report: ${relative(process.cwd(), file)}\n`);
}

function lineOf({ peer, variant, position, prefill, sequences, tokensPerSecond, ratio, why }: Row): string[] {
  const many = sequences === undefined ? '' : `, ${sequences} sequences`;
  const at =
    position !== undefined
      ? `position ${position}${many}`
      : prefill !== undefined
        ? `prefill ${prefill}`
        : '-';
  const figures = (rate: Rate | null) =>
    rate ? [rate.median, rate.least, rate.most].map((value) => value.toFixed(1)) : ['-', '-', '-'];
  return [peer, variant ?? '-', at, ...figures(tokensPerSecond), ratio?.median.toFixed(3) ?? '-', why ?? ''];
}

await runStarted(import.meta.url, 'bench:peers', io, () => compare(program.parse().opts()));
