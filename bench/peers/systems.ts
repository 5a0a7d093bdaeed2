// The systems that ours is compared with, and how each is started.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findLlamaBench, LlamaBench, startLlamaCpp } from './llama-cpp.ts';
import { type Answer, PeerProcess, type Request } from './peer-process.ts';

/** What a peer is started for. */
export interface PeerOptions {
  /** Directory of the checkpoint; null: random weights of a known model. */
  readonly directory: string | null;
  readonly model: string;
  readonly device: 'cuda' | 'cpu';
  readonly context: number;
  /** Most sequences of a request. */
  readonly sequences: number;
  readonly threads: number | undefined;
  /** The same weights for llama.cpp, as convert_hf_to_gguf.py writes them. */
  readonly gguf: string | undefined;
  readonly python: string;
}

/** A peer that answers. */
export interface RunningPeer {
  readonly version: string;
  readonly variants: readonly string[];
  readonly device: string;
  readonly ask: (request: Request) => Promise<Answer>;
  readonly close: () => void;
}

type Start = (options: PeerOptions) => Promise<RunningPeer | { readonly missing: string }>;

/** A script in python/, in the interpreter that was named. */
const ofPython =
  (script: string): Start =>
  async ({ directory, device, context, threads, python }) => {
    if (directory === null) return { missing: 'it takes the weights of a checkpoint: --model DIR' };
    const path = join(fileURLToPath(new URL('python', import.meta.url)), script);
    const shared = ['--model', directory, '--context', String(context), '--device', device];
    const team = threads === undefined ? [] : ['--threads', String(threads)];
    const started = await PeerProcess.start(python, [path, ...shared, ...team]);
    return 'missing' in started ? started : alone(asRunning(started));
  };

/** Those scripts time one sequence, by the clock on the wall. */
const alone = (peer: RunningPeer): RunningPeer => ({
  ...peer,
  ask: async (request) => {
    if (request.op === 'batch') return { error: 'it is timed with one sequence alone' };
    if (request.clock === 'processor') return { error: 'it is timed by the clock on the wall alone' };
    return peer.ask(request);
  },
});

const asRunning = (peer: PeerProcess): RunningPeer => ({
  version: peer.version,
  variants: peer.variants,
  device: peer.device,
  ask: (request) => peer.ask(request),
  close: () => peer.close(),
});

/** llama-bench where it is built; on a CPU else the bindings for Node.js. */
const llamaCpp: Start = async (options) => {
  const { directory, gguf, device } = options;
  if (gguf !== undefined && !existsSync(gguf)) return { missing: `there is no file ${gguf}` };
  if (directory !== null && gguf === undefined) {
    return { missing: 'the weights of a checkpoint must be converted first: --gguf FILE' };
  }
  const bench = findLlamaBench();
  if (bench !== null && gguf !== undefined) return new LlamaBench(bench, gguf, options);
  if (device === 'cuda') {
    return { missing: 'llama-bench not found on the path nor in LLAMA_BENCH, or no --gguf FILE for it' };
  }
  const started = await startLlamaCpp(options);
  return started instanceof PeerProcess ? asRunning(started) : started;
};

/** By the names that --peers takes. All are told of, those that were not asked for too. */
export const systems: Readonly<Record<string, Start>> = {
  transformers: ofPython('transformers_peer.py'),
  'tensorrt-llm': ofPython('tensorrt_llm_peer.py'),
  vllm: ofPython('vllm_peer.py'),
  sglang: ofPython('sglang_peer.py'),
  exllamav2: ofPython('exllamav2_peer.py'),
  'llama.cpp': llamaCpp,
};
