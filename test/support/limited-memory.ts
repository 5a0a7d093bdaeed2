// A program of its own that may map little more than it has: opens an engine that takes more, then one that does not. Prints what came of it as JSON.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { InsufficientMemoryError } from '../../errors.ts';
import { buildKernel, openEngine } from '../../load.ts';

const spareBytes = 400 * 2 ** 20;
const built = await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
// The model was made for fewer positions, which do not matter here.
const long = { ...built, dims: { ...built.dims, maxPositions: 2 ** 24 } };
const settings = { threads: 1, randomWeights: { seed: 1 } };
// All that is loaded once is.
(await openEngine(long, { ...settings, context: 64 })).engine.close();

const mappedBytes = () =>
  1024 * Number(/^VmSize:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'))![1]);
const before = mappedBytes();
const { status, stderr } = spawnSync('prlimit', [`--pid=${process.pid}`, `--as=${before + spareBytes}:`]);
if (status !== 0) throw new Error(`prlimit: ${stderr}`);

const context = 2 ** 20;
const error: InsufficientMemoryError = await openEngine(long, { ...settings, context }).then(
  () => {
    throw new Error('it was opened');
  },
  (thrown: InsufficientMemoryError) => thrown,
);
const { name, kind, message, hint, neededBytes, freeBytes, fittingContext = 0 } = error;
const keptBytes = mappedBytes() - before;
const { engine } = await openEngine(long, { ...settings, context: Math.floor(fittingContext / 2) });
const opened = engine.context;
engine.close();
const told = { name, kind, message, hint, neededBytes, freeBytes, fittingContext };
console.log(JSON.stringify({ ...told, context, spareBytes, keptBytes, opened }));
