// The reference in the place of a golden file: minutes of a large model, in which somebody may ask it to end.
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { referenceGolden } from '../../lab/reference-golden.ts';

const model = join(packageRoot(), 'test/fixtures/qwen3-micro');

it('hears between any two products that it is to end', async () => {
  const ended = new Error('ended');
  let [told, turns] = [0, 0];
  const turning = setInterval(() => turns++, 0);
  const golden = referenceGolden(model, (done) => {
    expect(done).toBe(0);
    if (++told === 8) throw ended;
  });
  await expect(golden).rejects.toBe(ended);
  clearInterval(turning);
  expect(told).toBe(8);
  expect(turns).toBeGreaterThan(0);
});
