// A folder and a cache of its own for each test of the build, and a compiler that is a shell script.
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, vi } from 'vitest';
import { type BuildOptions, type Built, build } from '../../codegen/build/build.ts';
import { outputRoot } from '../../codegen/build/output-root.ts';
import type { Kernel } from '../../codegen/index.ts';
import { type FakeCompiler, fakeCompiler } from './fake-compiler.ts';

export interface BuildSandbox {
  readonly folder: string;
  /** Where libraries go; it has the printed ops, which take long, and nothing else. */
  readonly cache: string;
  /** Makes CXX a compiler that behaves so. */
  use(behaviour?: string, version?: string): FakeCompiler;
}

/** For every test of a file, another. */
export function buildSandbox(): BuildSandbox {
  const root = mkdtempSync(join(tmpdir(), 'build-'));
  const shared = outputRoot();
  const sandbox = { folder: '', cache: '', use };
  function use(behaviour = '', version?: string): FakeCompiler {
    const compiler = fakeCompiler(sandbox.folder, behaviour, version);
    vi.stubEnv('CXX', compiler.path);
    return compiler;
  }
  beforeEach(() => {
    sandbox.folder = mkdtempSync(join(root, 'case-'));
    sandbox.cache = join(sandbox.folder, 'cache');
    mkdirSync(sandbox.cache);
    for (const ops of readdirSync(shared).filter((name) => /^ops-\w+\.json$/.test(name))) {
      copyFileSync(join(shared, ops), join(sandbox.cache, ops));
    }
    vi.stubEnv('ONELAUNCH_CACHE', sandbox.cache);
    vi.stubEnv('ONELAUNCH_CPU_PATHS', undefined);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
  });
  afterAll(() => rmSync(root, { recursive: true, force: true }));
  return sandbox;
}

/** A build, and what it had to say. */
export async function noted(
  kernel: Kernel,
  options: BuildOptions = {},
): Promise<{ built: Built; notes: string[] }> {
  const notes: string[] = [];
  const onProgress: BuildOptions['onProgress'] = (progress) => {
    if (progress.event === 'note') notes.push(progress.line);
  };
  return { built: await build(kernel, { ...options, onProgress }), notes };
}

export function editManifest(directory: string, change: (manifest: Built['manifest']) => object): void {
  const path = join(directory, 'manifest.json');
  writeFileSync(path, JSON.stringify(change(JSON.parse(readFileSync(path, 'utf8')))));
}
