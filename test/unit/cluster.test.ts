// The examples for clusters: a script that bash reads, a manifest whose lines are YAML, and flags that gen explore has.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

const folder = join(packageRoot(), 'examples', 'cluster');
const slurm = readFileSync(join(folder, 'slurm.sh'), 'utf8');
const kubernetes = readFileSync(join(folder, 'kubernetes.yaml'), 'utf8');

const parses = (script: string) =>
  execFileSync('bash', ['-n'], { input: script, stdio: ['pipe', 'pipe', 'pipe'] });

/** The lines of a manifest that say something, with their depth: two blanks each. */
const lines = kubernetes
  .split('\n')
  .filter((line) => line.trim() !== '' && !/^\s*#/.test(line))
  .map((line) => ({ line, depth: /^ */.exec(line)![0].length / 2, text: line.trim() }));

describe('examples/cluster', () => {
  it('slurm.sh is bash', () => {
    expect(() => parses(slurm)).not.toThrow();
    expect(() => parses('if true; then')).toThrow();
  });

  it('kubernetes.yaml is of keys, items and one folded text, each at a depth of whole steps', () => {
    const folded = lines.findIndex(({ text }) => text === '- >-');
    const end = lines.findIndex(({ depth }, i) => i > folded && depth <= lines[folded]!.depth);
    const others = [...lines.slice(0, folded + 1), ...lines.slice(end)];
    for (const { line, depth, text } of others) {
      expect(Number.isInteger(depth), line).toBe(true);
      expect(text, line).toMatch(/^(- )?([\w./-]+:( [^\s].*)?|[\w-]+|>-|-c)$/);
    }
    expect(() =>
      parses(
        lines
          .slice(folded + 1, end)
          .map(({ text }) => text)
          .join(' '),
      ),
    ).not.toThrow();
  });

  it('has as many shards as pods', () => {
    const completions = /completions: (\d+)/.exec(kubernetes)![1];
    expect(kubernetes).toContain(`--shard "$((JOB_COMPLETION_INDEX + 1))/${completions}"`);
    expect(kubernetes).toContain(`parallelism: ${completions}`);
  });

  it('uses flags and variants that there are', async () => {
    const { io, written } = memoryIo();
    expect(await run(['explore', '--help'], io)).toBe(0);
    for (const text of [slurm, kubernetes]) {
      const flags = [...text.matchAll(/(--(?:model|plan|vary|shard|journal)\b)/g)].map((found) => found[1]!);
      expect(new Set(flags).size).toBe(5);
      for (const flag of flags) expect(written.out).toContain(`${flag} <`);
    }
    const [, vary] = /VARY:-(\S+)\}/.exec(slurm)!;
    expect(kubernetes).toContain(vary);
    const { choicesOf, sizeOf } = await import('../../lab/space.ts');
    const { readVary } = await import('../../lab/vary.ts');
    const { decoderGraph } = await import('../../codegen/model/graph.ts');
    const names = await import('../../configs/resolve.ts');
    const input = {
      graph: decoderGraph(names.resolveModel('qwen3-0.6b').dims),
      base: await names.resolvePlan('stream'),
      target: names.resolveTarget('h100'),
    };
    expect(sizeOf(choicesOf(readVary([vary!]), input))).toBeGreaterThan(8);
  });
});
