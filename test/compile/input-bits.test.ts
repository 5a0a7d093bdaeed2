// Inputs of 8 bits on the CPU, end to end: the logits are the reference's within what their rounding allows, and the bits do not depend on how tokens pass.
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { resolvePlan } from '../../configs/resolve.ts';
import { referenceGolden } from '../../lab/reference-golden.ts';
import { engineScorer } from '../../lab/truth.ts';
import { buildKernel, openEngine } from '../../load.ts';
import { verify } from '../../runtime/verify/verify.ts';
import { thorough } from '../support/thorough.ts';

const model = join(packageRoot(), 'test/fixtures/qwen3-micro');

describe.skipIf(!thorough).each(['int4', 'int8'] as const)('%s weights', (weights) => {
  test('are multiplied by inputs of 8 bits as far off as these are rounded, token by token or together', async () => {
    const plan = (await resolvePlan('unfused')).with('bytes', {}, { inputBits: 8 });
    const built = await buildKernel({ model, target: 'cpu', plan, weights });
    const { engine } = await openEngine(built, { context: 128 });
    await using _ = engine;
    const { dims } = built;
    const golden = await referenceGolden(model, () => {}, { formats: dims.weights });
    const { signal } = new AbortController();
    const options = { dims, dtype: dims.dtype, extraRoundings: built.manifest.roundings };
    const { cases, tolerance } = await verify(engineScorer(engine, signal), golden, options);
    expect(cases.flatMap(({ problems }) => problems)).toEqual([]);
    const { extraRoundings: _all, ...usual } = options;
    const { tolerance: less } = await verify(engineScorer(engine, signal), golden, usual);
    expect(tolerance.logit).toBeGreaterThan(less.logit);

    const ids = Array.from({ length: 40 }, (_, i) => (i * 37) % dims.vocab);
    engine.reset(0);
    const together = await engine.score(ids, ids.length - 1);
    engine.reset(0);
    for (const id of ids.slice(0, -1)) await engine.score([id], 0);
    expect(await engine.score(ids.slice(-1), 0)).toEqual(together);
  });
});
