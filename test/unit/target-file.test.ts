// A target as a file.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { resolveTarget } from '../../configs/resolve.ts';
import { targetText } from '../../configs/target-file.ts';
import { targetNamed, targets } from '../../configs/targets.ts';

vi.mock(import('../../configs/target-file.ts'), async (original) => {
  const real = await original();
  return { ...real, readTarget: vi.fn(real.readTarget) };
});

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-targets-'));
const written = (text: string): string => {
  const path = join(folder, 'a.json');
  writeFileSync(path, text);
  return path;
};

test.each(targets())('$name as a file is the same target', (target) => {
  expect(resolveTarget(written(targetText(target)))).toEqual(target);
});

describe('refused with the field', () => {
  const a100 = targetNamed('a100')!;
  const changed = (change: object) => JSON.stringify({ ...a100, ...change });
  test.each([
    ['no JSON', '{', 'a.json is no JSON'],
    ['a list', '[]', 'the file: '],
    ['nothing', '{}', 'name: '],
    ['another architecture', changed({ arch: 'gfx942' }), "arch: 'sm_90a'"],
    ['a name that is a path', changed({ name: '../x' }), 'name: small letters'],
    ['a bandwidth of 0', changed({ bandwidth: 0 }), 'bandwidth: '],
    ['a bandwidth of no machine', changed({ bandwidth: 1e-300 }), 'bandwidth: '],
    [
      'a bandwidth from nowhere',
      changed({ bandwidthFrom: 'unknown' }),
      "bandwidthFrom: 'unknown' where bandwidth",
    ],
    ['no bandwidth, as measured', changed({ bandwidth: null }), "bandwidthFrom: 'unknown' where bandwidth"],
    ['a term without end', changed({ terms: { barrier: 1e308 } }), 'terms.barrier: '],
    ['no multiprocessor', changed({ sms: 0 }), 'sms: 1 to 1024, of a GPU'],
    ['no shared memory', changed({ sharedBytes: 0 }), 'sharedBytes: above 0, of a GPU'],
    ['a GPU of no architecture', changed({ arch: '' }), "arch: 'sm_90a' or another from sm_80 on, of a GPU"],
    ['a GPU without the instructions', changed({ arch: 'sm_75' }), "arch: 'sm_90a' or another from sm_80 on"],
    ['delays that no int holds', changed({ pollCycles: { o_proj: 1e12 } }), 'pollCycles.o_proj: '],
    ['a CPU of an architecture', changed({ kind: 'cpu' }), "arch: '', of a CPU"],
    ['half a multiprocessor', changed({ sms: 1.5 }), 'sms: '],
    ['a term below 0', changed({ terms: { barrier: -1 } }), 'terms.barrier: '],
    [
      'a term that there is not',
      changed({ terms: { barier: 1 } }),
      "'barier' is nothing that terms of a target has",
    ],
    ['a field that there is not', changed({ bandwith: 1 }), "'bandwith' is nothing that a target has"],
    [
      'delays of no op',
      changed({ pollCycles: { qkv: 1 } }),
      "'qkv' is nothing that pollCycles of a target has",
    ],
  ])('%s', (_, text, message) => {
    expect(() => resolveTarget(written(text))).toThrow(message);
  });

  test('and a file that is not there', () => {
    expect(() => resolveTarget(join(folder, 'none.json'))).toThrow('no file');
  });
});

test('of the targets that are files the one that is asked for is read, once, and a list of names reads none', async () => {
  vi.resetModules();
  const { resolveTarget: resolve, targetNames } = await import('../../configs/resolve.ts');
  const { readTarget: read } = await import('../../configs/target-file.ts');
  const readFiles = () => vi.mocked(read).mock.calls.map(([path]) => basename(path));
  vi.mocked(read).mockClear();
  expect(targetNames()).toContain('h100');
  expect(() => resolve('h10')).toThrow("unknown target 'h10'");
  expect(resolve('cpu').kind).toBe('cpu');
  expect(readFiles()).toEqual([]);
  expect(resolve('h100')).toBe(resolve('h100'));
  expect(readFiles()).toEqual(['h100.json']);
});
