// A model of two kinds of layers on the GPU found here, held against the reference: npm run test:cuda.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resolvePlan, resolveTarget } from '../../configs/resolve.ts';
import { kernelOfTwoKinds, makeTwoKinds, type TwoKinds, verifyTwoKinds } from '../support/two-kinds.ts';

const root = mkdtempSync(join(tmpdir(), 'layer-kinds-'));
let model: TwoKinds;
beforeAll(async () => {
  model = await makeTwoKinds(root);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe('on the GPU', () => {
  test.each(['cooperative', 'unfused', 'stream'])(
    'plan %s gives the logits and tokens of the reference',
    async (plan) => {
      const kernel = await kernelOfTwoKinds(model, resolveTarget(), await resolvePlan(plan));
      const result = await verifyTwoKinds(model, kernel);
      expect(result.cases.flatMap(({ problems }) => problems)).toEqual([]);
      expect(result.ok).toBe(true);
    },
  );
});
