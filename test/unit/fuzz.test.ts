// Mutated files are refused by an error of ours or read: `npm run fuzz` tries more of them.
import { expect, test } from 'vitest';
import { kinds, runCase } from '../fuzz/kinds.ts';

test.each(Object.keys(kinds))('mutants of the %s are refused or read', (kind) => {
  for (let seed = 1; seed <= 30; seed++) {
    expect
      .soft(runCase(kind, seed), `npm run fuzz -- --kind '${kind}' --seed ${seed} --count 1`)
      .toMatch(/^(ran|refused)$/);
  }
});
