// How products are cut, by the numbers that predictions rest on and by the template itself.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { findCxx } from '../../codegen/build/tools.ts';
import { padded } from '../../codegen/model/packing.ts';
import { isCovered, rowCut } from '../../codegen/schemes/barriers/row-cut.ts';

const machines = [4, 5, 6, 7, 8, 14, 16, 32].flatMap((warps) =>
  [
    [2, 12],
    [4, 8],
    [8, 4],
    [8, 12],
    [8, 16],
  ].map(([loadElements, loadsInFlight]) => ({
    warps,
    loadElements: loadElements!,
    loadsInFlight: loadsInFlight!,
  })),
);
const products = [576, 896, 1024, 1536, 2048, 3072, 8192].flatMap((columns) =>
  [1, 2].map((parts) => ({ columns, parts })),
);

type Case = (typeof machines)[number] & (typeof products)[number];
/** Not where a slice would be empty: the template refuses to compile that. */
const productsOf = (machine: (typeof machines)[number]): Case[] =>
  products.map((product) => ({ ...machine, ...product })).filter((one) => isCovered(rowCut(one)));

/** The text of the template, with what it takes from other headers, once for each machine. */
function program(): string {
  const header = readFileSync(join(packageRoot(), 'templates/cuda/lib/one_token.cuh'), 'utf8');
  const between = (from: string, to: string) => header.slice(header.indexOf(from), header.indexOf(to));
  const cut = between('BOTH constexpr int slices_of', '/** sum + a lane');
  const spaces = machines.map(
    (machine, i) => `namespace machine${i} {
constexpr int kComputeWarps = ${machine.warps}, kLoadElements = ${machine.loadElements}, kInFlight = ${machine.loadsInFlight};
${cut}
void print() {
${productsOf(machine)
  .map(({ columns, parts }) => `  show<RowCut<${columns}, ${parts}>>();`)
  .join('\n')}
}
}`,
  );
  return `#include <cstdio>
#define BOTH
#define DEVICE inline
constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
constexpr int padded(int k) { return divide_up(k, ${padded(1)}) * ${padded(1)}; }
constexpr int power_of_two(int n) { return n <= 1 ? 1 : 2 * power_of_two((n + 1) / 2); }
template <class C> void show() {
  std::printf("%d %d %d %d %d %d\\n", C::slices, C::groups, C::slice, C::wave, C::waves, C::rows);
}
${spaces.join('\n')}
int main() {
${machines.map((_, i) => `  machine${i}::print();`).join('\n')}
}
`;
}

test.skipIf(findCxx() === null)('rows are cut as the template cuts them', () => {
  const folder = mkdtempSync(join(tmpdir(), 'row-cut-'));
  try {
    const [source, binary] = [join(folder, 'cuts.cpp'), join(folder, 'cuts')];
    writeFileSync(source, program());
    const { path, args } = findCxx()!;
    execFileSync(path, [...args, '-std=c++17', '-O0', source, '-o', binary]);
    const cuts = machines.flatMap((machine) =>
      productsOf(machine).map((one) => {
        const { slices, groups, slice, wave, waves, rows } = rowCut(one);
        return [slices, groups, slice, wave, waves, rows].join(' ');
      }),
    );
    expect(execFileSync(binary, { encoding: 'utf8' }).trim().split('\n')).toEqual(cuts);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
