import { buildKernel, openEngine } from '../load.ts';
import type { Isa } from '../runtime/engine-options.ts';
const model = process.argv[2]!;
const random = process.argv[3] === 'random';
const threads = Number(process.argv[4] ?? 2);
const built = await buildKernel({ model, target: 'cpu' });
const { engine } = await openEngine(built, { context: 1024, threads, ...(random ? { randomWeights: { seed: 0 } } : {}) });
console.log(engine.device);
const prompt = Array.from({ length: 60 }, (_, i) => 5 + ((i % 20) * 37) % 400);
async function go(speculate: any, maxTokens: number, sampling?: any, p = prompt) {
  engine.reset(0);
  const ids: number[] = [];
  const run = engine.generate(p, { maxTokens, speculate, sampling });
  for (;;) {
    const n = await run.next();
    if (n.done) return { ids, ...n.value };
    ids.push(...n.value);
  }
}
const median = (v: number[]) => [...v].sort((a, b) => a - b)[v.length >> 1]!;
const n = Number(process.argv[5] ?? 100);
const kinds: any[] = ['off', 'auto', ...[1, 2, 3, 4, 5, 7, 11, 15].map((tokens) => ({ tokens, ngram: 2 }))];
const times = kinds.map(() => [] as number[]);
const info: any[] = [];
let plain = '';
for (let round = 0; round < 5; round++) {
  const order = round % 2 ? [...kinds.keys()].reverse() : [...kinds.keys()];
  for (const i of order) {
    const r = await go(kinds[i], n + 1);
    times[i]!.push(r.timings.decodeMs);
    info[i] = r;
    plain ||= r.ids.join();
    if (r.ids.join() !== plain) console.log('DIFFERENT', JSON.stringify(kinds[i]), plain, r.ids.join());
  }
}
const base = median(times[0]!) / n;
for (const [i, k] of kinds.entries()) {
  const r = info[i];
  const ms = median(times[i]!);
  const passes = n - r.accepted;
  console.log(JSON.stringify(k), `${(n / ms * 1000).toFixed(1)} tok/s, drafted ${r.drafted} accepted ${r.accepted}, ms a pass ${(ms / passes).toFixed(3)} = ${(ms / passes / base).toFixed(2)}, spread ${(Math.min(...times[i]!)/ms).toFixed(2)}-${(Math.max(...times[i]!)/ms).toFixed(2)}`);
}
console.log(plain.slice(0, 200));
engine.close();
