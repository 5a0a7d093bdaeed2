// Speed of llama.cpp (node-llama-cpp) on Qwen3-0.6B's dimensions with random F16 weights: `tsx bench/peers/llama-cpp.ts`.
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { z } from 'zod';
import { models } from '../../configs/models.ts';
import { invariant, OnelaunchError } from '../../errors.ts';
import { writeRandomGguf } from './gguf.ts';

const run = promisify(execFile);
const version = '3.22.1';
const promptId = (index: number) => (index * 977 + 13) % 150_000;

export interface PeerRun {
  readonly threads: number;
  /** Tokens of the prompt, and tokens generated after it. */
  readonly prompt: number;
  readonly tokens: number;
}

const speedSchema = z.object({
  peer: z.string(),
  threads: z.number(),
  prompt: z.number(),
  tokens: z.number(),
  prefillTokensPerSecond: z.number(),
  decodeTokensPerSecond: z.number(),
});
export type PeerSpeed = z.infer<typeof speedSchema>;

/**
 * Measures llama.cpp once, in a process of its own. The first call installs it and writes the model, 1.2 GB,
 * into a cache folder outside the project.
 */
export async function measureLlamaCpp(options: PeerRun): Promise<PeerSpeed> {
  const folder = await installed();
  const model = join(folder, 'qwen3-0.6b-random-f16.gguf');
  const dims = models.find(({ name }) => name === 'qwen3-0.6b');
  invariant(dims, 'qwen3-0.6b is among the models');
  if (!existsSync(model)) writeRandomGguf(model, dims);
  const self = fileURLToPath(import.meta.url);
  const args = ['--import', 'tsx', self, '--child', folder, model, JSON.stringify(options)];
  const { stdout } = await run(process.execPath, args, { maxBuffer: 1 << 24 });
  return speedSchema.parse(JSON.parse(stdout.trim().split('\n').at(-1) ?? ''));
}

/** The folder that holds node-llama-cpp with its CPU library, without the 650 MB for GPUs. */
async function installed(): Promise<string> {
  const cache = process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache');
  const folder = join(cache, 'onelaunch', 'peers', `node-llama-cpp-${version}`);
  if (existsSync(join(folder, 'installed'))) return folder;
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n');
  const packages = ['node-llama-cpp', `@node-llama-cpp/${process.platform}-${process.arch}`];
  const wanted = packages.map((name) => `${name}@${version}`);
  try {
    await run('npm', ['install', '--omit=optional', '--ignore-scripts', ...wanted], { cwd: folder });
  } catch (cause) {
    throw new OnelaunchError('environment', `npm cannot install ${wanted.join(' ')}: ${String(cause)}`, {
      hint: 'npm must reach its registry; the comparison needs nothing else from the network',
    });
  }
  writeFileSync(join(folder, 'installed'), '');
  return folder;
}

/** The part of node-llama-cpp that is used here. */
interface Llama {
  loadModel(options: { modelPath: string; gpuLayers: number; useMmap: boolean }): Promise<{
    createContext(options: { contextSize: number; threads: number; batchSize: number }): Promise<{
      getSequence(): Sequence;
    }>;
  }>;
}

interface Sequence {
  evaluateWithoutGeneratingNewTokens(ids: number[]): Promise<void>;
  evaluate(ids: number[], options: { temperature: number; yieldEogToken: boolean }): AsyncIterable<number>;
  eraseContextTokenRanges(ranges: { start: number; end: number }[]): Promise<void>;
  readonly nextTokenIndex: number;
}

async function child(folder: string, modelPath: string, options: PeerRun): Promise<PeerSpeed> {
  const { threads, prompt, tokens } = options;
  const entry = pathToFileURL(join(folder, 'node_modules/node-llama-cpp/dist/index.js')).href;
  const { getLlama } = (await import(entry)) as { getLlama(options: object): Promise<Llama> };
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: 'error', maxThreads: threads });
  const model = await llama.loadModel({ modelPath, gpuLayers: 0, useMmap: false });
  const context = await model.createContext({ contextSize: prompt + tokens + 64, threads, batchSize: 512 });
  const sequence = context.getSequence();

  // Once to warm up: the first pass touches every page.
  await sequence.evaluateWithoutGeneratingNewTokens([1, 2, 3]);
  await sequence.eraseContextTokenRanges([{ start: 0, end: sequence.nextTokenIndex }]);

  const ids = Array.from({ length: prompt }, (_, index) => promptId(index));
  const times = [performance.now()];
  for await (const _ of sequence.evaluate(ids, { temperature: 0, yieldEogToken: true })) {
    if (times.push(performance.now()) > tokens + 1) break;
  }
  const [started = 0, first = 0] = times;
  return {
    peer: `node-llama-cpp ${version}, F16`,
    threads,
    prompt,
    tokens,
    prefillTokensPerSecond: (prompt / (first - started)) * 1000,
    decodeTokensPerSecond: ((times.length - 2) / ((times.at(-1) ?? 0) - first)) * 1000,
  };
}

const [flag, folder, model, options] = process.argv.slice(2);
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (flag === '--child' && folder && model && options) {
    console.log(JSON.stringify(await child(folder, model, JSON.parse(options) as PeerRun)));
    process.exit(0); // node-llama-cpp's threads would keep the process alive
  }
  console.log(JSON.stringify(await measureLlamaCpp({ threads: 2, prompt: 512, tokens: 64 }), null, 1));
}
