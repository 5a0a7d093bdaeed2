// llama.cpp as a peer: its own llama-bench where that is built, else node-llama-cpp on the CPU, with random F16 weights where there is no file.
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import type { ModelDims } from '../../codegen/model/dims.ts';
import { models } from '../../configs/models.ts';
import { userCache } from '../../files/home.ts';
import { secondsBy, timedTogether } from '../../lab/together.ts';
import { type RandomType, writeRandomGguf } from './gguf.ts';
import { type Answer, PeerProcess, type Request, type Started } from './peer-process.ts';

const run = promisify(execFile);
const version = '3.22.1';

/** Of the package and of files that were written for it, outside the project. */
const cache = () => join(userCache(), 'peers');

/** A file of random weights of these dimensions; the first call writes it. */
export function randomGguf(dims: ModelDims, type: RandomType): string {
  const path = join(cache(), `${dims.name}-random-${type.toLowerCase()}.gguf`);
  mkdirSync(cache(), { recursive: true });
  if (!existsSync(path)) writeRandomGguf(path, dims, type);
  return path;
}

interface LlamaOptions {
  readonly model: string;
  readonly context: number;
  readonly threads: number | undefined;
  readonly gguf: string | undefined;
  readonly sequences: number;
}

/** $LLAMA_BENCH, else llama-bench on the path; null where neither runs. */
export function findLlamaBench(): string | null {
  const named = process.env['LLAMA_BENCH']?.trim() || 'llama-bench';
  return spawnSync(named, ['--help'], { timeout: 60_000 }).status === 0 ? named : null;
}

const benchSchema = z
  .array(
    z.looseObject({
      build_commit: z.string(),
      avg_ts: z.number().positive(),
      gpu_info: z.string().optional(),
    }),
  )
  .min(1);

/** llama-bench loads the model for each request, and is not timed while it does. It makes up its own tokens. */
export class LlamaBench {
  readonly variants = ['llama-bench'];
  readonly version: string;
  readonly device: string;
  readonly #base: readonly string[];
  readonly #path: string;

  constructor(
    path: string,
    gguf: string,
    { threads, device }: { threads: number | undefined; device: 'cuda' | 'cpu' },
  ) {
    this.#path = path;
    this.version = `${path} on ${gguf}`;
    this.device = device;
    const team = threads === undefined ? [] : ['-t', String(threads)];
    const layers = ['-ngl', device === 'cuda' ? '999' : '0'];
    this.#base = ['-m', gguf, '-o', 'json', '-r', '3', '-fa', '1', ...layers, ...team];
  }

  async ask(request: Request): Promise<Answer> {
    if (request.op === 'batch' || request.clock === 'processor')
      return { error: 'llama-bench is timed with one sequence and the clock on the wall alone' };
    const { length } = request.prompt;
    const what =
      request.op === 'decode'
        ? ['-p', '0', '-n', String(request.tokens), '-d', String(length)]
        : ['-p', String(length), '-n', '0'];
    const tokens = request.op === 'decode' ? request.tokens : length;
    try {
      const { stdout } = await run(this.#path, [...this.#base, ...what], { maxBuffer: 1 << 24 });
      const [result] = benchSchema.parse(JSON.parse(stdout));
      // It does not tell which tokens it made.
      const made = request.op === 'decode' ? request.tokens : 1;
      return { seconds: tokens / result!.avg_ts, ids: new Array<number>(made).fill(0) };
    } catch (error) {
      return { error: (error as Error).message.split('\n')[0]! };
    }
  }

  close(): void {}
}

/** node-llama-cpp in a process of its own. The first call installs it, and writes 1.2 GB of random weights, into a cache outside the project. */
export async function startLlamaCpp({
  model,
  context,
  threads,
  gguf,
  sequences,
}: LlamaOptions): Promise<Started> {
  const dims = models.find(({ name }) => name === model);
  if (gguf === undefined && dims === undefined)
    return { missing: `the dimensions of ${model} are not known` };
  const folder = await installed();
  if (folder === null) return { missing: `npm cannot install node-llama-cpp ${version} here` };
  const path = gguf ?? randomGguf(dims!, 'F16');
  const options: ChildOptions = { folder, path, context, threads: threads ?? 2, sequences };
  const self = fileURLToPath(import.meta.url);
  return PeerProcess.start(process.execPath, ['--import', 'tsx', self, '--child', JSON.stringify(options)]);
}

/** The folder that holds node-llama-cpp with its CPU library, without the 650 MB for GPUs; null where npm cannot get it. */
async function installed(): Promise<string | null> {
  const folder = join(cache(), `node-llama-cpp-${version}`);
  if (existsSync(join(folder, 'installed'))) return folder;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const packages = ['node-llama-cpp', `@node-llama-cpp/${process.platform}-${process.arch}`];
  const wanted = packages.map((name) => `${name}@${version}`);
  try {
    await run('npm', ['install', '--omit=optional', '--ignore-scripts', ...wanted], { cwd: folder });
  } catch {
    return null;
  }
  writeFileSync(join(folder, 'installed'), '');
  return folder;
}

/** The part of node-llama-cpp that is used here. */
interface Llama {
  loadModel(options: { modelPath: string; gpuLayers: number; useMmap: boolean }): Promise<{
    createContext(options: {
      contextSize: number;
      sequences: number;
      threads: number;
      batchSize: number;
    }): Promise<{ getSequence(): Sequence }>;
  }>;
}

interface Sequence {
  evaluate(ids: number[], options: { temperature: number; yieldEogToken: boolean }): AsyncIterable<number>;
  eraseContextTokenRanges(ranges: { start: number; end: number }[]): Promise<void>;
  readonly nextTokenIndex: number;
}

interface ChildOptions {
  readonly folder: string;
  readonly path: string;
  readonly context: number;
  readonly threads: number;
  readonly sequences: number;
}

async function child({ folder, path, context, threads, sequences: most }: ChildOptions): Promise<void> {
  const say = (value: unknown) => void process.stdout.write(`${JSON.stringify(value)}\n`);
  const entry = pathToFileURL(join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href;
  const { getLlama } = (await import(entry)) as { getLlama(options: object): Promise<Llama> };
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: threads });
  const model = await llama.loadModel({ modelPath: path, gpuLayers: 0, useMmap: false });
  const made = await model.createContext({
    ...{ contextSize: context + 64, sequences: most, threads, batchSize: 512 },
  });
  const sequences = Array.from({ length: most }, () => made.getSequence());
  const sequence = sequences[0]!;
  const greedy = { temperature: 0, yieldEogToken: true };
  const emptied = async (one: Sequence) => {
    if (one.nextTokenIndex > 0) await one.eraseContextTokenRanges([{ start: 0, end: one.nextTokenIndex }]);
    return one;
  };
  /** Its replies come a token at a time. */
  async function* reply(one: Sequence, prompt: readonly number[]) {
    for await (const id of one.evaluate([...prompt], greedy)) yield [id];
  }
  say({ version: `node-llama-cpp ${version} on ${basename(path)}`, variants: ['default'], device: 'CPU' });
  for await (const line of createInterface({ input: process.stdin })) {
    const request = JSON.parse(line) as Request;
    const clock = request.clock ?? 'wall';
    if (request.op === 'batch') {
      const taken = await Promise.all(sequences.slice(0, request.sequences).map(emptied));
      say(
        await timedTogether(
          taken.map((one) => reply(one, request.prompt)),
          request.tokens,
          clock,
        ),
      );
      continue;
    }
    const tokens = request.op === 'decode' ? request.tokens : 0;
    await emptied(sequence);
    const times = [secondsBy(clock)];
    const ids: number[] = [];
    for await (const id of sequence.evaluate([...request.prompt], greedy)) {
      ids.push(id);
      if (times.push(secondsBy(clock)) > tokens + 1) break;
    }
    const [started, first] = times as [number, number];
    const seconds = request.op === 'decode' ? times.at(-1)! - first : first - started;
    say({ seconds, ids: request.op === 'decode' ? ids.slice(1) : ids });
  }
  process.exit(0); // its threads would keep the process alive
}

const [flag, options] = process.argv.slice(2);
if (process.argv[1] === fileURLToPath(import.meta.url) && flag === '--child' && options) {
  await child(JSON.parse(options) as ChildOptions);
}
