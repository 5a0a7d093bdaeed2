// The kept kernels are what the generator prints; test/compile/golden-kernels.test.ts has compilers accept them.
import { beforeAll, expect, test } from 'vitest';
import type { Kernel } from '../../codegen/index.ts';
import { keptKernels, printedFiles, readKept } from '../golden/kernels.ts';
import { losingWord } from '../support/losing-word.ts';

let kernels: readonly Kernel[];
beforeAll(async () => {
  kernels = await keptKernels();
});

test('the kept kernels are what the generator prints (npm run golden -- --update)', () => {
  for (const kernel of kernels) {
    const kept = readKept(kernel);
    for (const [name, text] of printedFiles(kernel))
      expect(kept.get(name), `${kernel.name}/${name}`).toBe(text);
    expect([...kept.keys()].sort()).toEqual(
      printedFiles(kernel)
        .map(([name]) => name)
        .sort(),
    );
  }
});

test('the same input gives the same bytes', async () => {
  const again = await keptKernels();
  expect(again.map((kernel) => kernel.hash)).toEqual(kernels.map((kernel) => kernel.hash));
});

test('generated sources hold no path of this machine and no date', () => {
  for (const kernel of kernels) {
    for (const [name, text] of Object.entries(kernel.sources)) {
      expect(text.includes(process.cwd()), `${kernel.name}/${name}`).toBe(false);
      expect(/\b20\d\d-\d\d-\d\d\b/.test(text), `${kernel.name}/${name}`).toBe(false);
    }
  }
});

test('a stream can be made to lose a word, which a GPU must notice (test/cuda/lost-word.test.ts)', () => {
  const stream = kernels.find(({ schedule }) => schedule.scheme === 'stream')!;
  const losing = losingWord(stream);
  expect(losing.sources['stream/words.cuh']!.match(/atomicExch\(&lost, 1\)/g)).toHaveLength(2);
  expect(losing.hash).not.toBe(stream.hash);
});
