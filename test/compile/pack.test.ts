// The package as users get it: packed, unpacked elsewhere, with its declared dependencies and nothing else.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { outputRoot } from '../../codegen/build/output-root.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { buildKernel } from '../../load.ts';
import { esbuild } from '../support/bundled.ts';
import { oneOf, thorough } from '../support/thorough.ts';

const root = packageRoot();
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-pack-'));
const app = join(folder, 'app');
const today = join(root, 'node_modules', 'typescript');
const installed = join(app, 'node_modules', 'onelaunch');
// Libraries of the same sources have the same place: none is compiled twice.
const env = { ...process.env, ONELAUNCH_CACHE: outputRoot(), NO_COLOR: '1' };

interface PackageJson {
  readonly dependencies: Record<string, string>;
  readonly bin: Record<string, string>;
  readonly exports: Record<string, unknown>;
}
const packageJson = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as PackageJson;
const gen = (...args: string[]) =>
  spawnSync(process.execPath, [join(installed, packageJson.bin['gen']!), ...args], {
    cwd: app,
    env,
    encoding: 'utf8',
  });

/** Whether dist is what `npm run build` would make: it has a file of each source and none of another, each later than its source and than what says how. */
function isBuilt(): boolean {
  const dist = join(root, 'dist');
  if (!existsSync(dist)) return false;
  const { include } = JSON.parse(readFileSync(join(root, 'tsconfig.build.json'), 'utf8')) as {
    include: readonly string[];
  };
  const below = (folder: string, ending: string) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith(ending));
  const sources = include
    .filter((name) => !name.endsWith('.ts'))
    .flatMap((name) => below(join(root, name), '.ts').map((file) => join(name, file)));
  const compiled = below(dist, '.js').map((file) => file.replace(/\.js$/, '.ts'));
  const changed = (path: string) =>
    statSync(join(root, path), { throwIfNoEntry: false })?.mtimeMs ?? Number.POSITIVE_INFINITY;
  const how = Math.max(
    ...[
      'package-lock.json',
      'package.json',
      'tsconfig.json',
      'tsconfig.build.json',
      'require-entries.ts',
    ].map(changed),
  );
  return (
    compiled.length > 0 &&
    sources.every((source) => compiled.includes(source)) &&
    compiled.every((source) => {
      const made = changed(join('dist', source.replace(/\.ts$/, '.js')));
      return made > changed(source) && made > how;
    })
  );
}

beforeAll(async () => {
  await buildKernel({ model: 'qwen3-tiny', target: 'cpu' });
  // On a fresh clone npm ci has made dist a moment ago, by the script that npm pack would run.
  const built = isBuilt() ? ['--ignore-scripts'] : [];
  const args = ['pack', '--silent', ...built, '--pack-destination', folder];
  execFileSync('npm', args, { cwd: root, stdio: 'pipe' });
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', tarball(), '--strip-components=1', '-C', installed]);
  for (const name of Object.keys(packageJson.dependencies)) {
    mkdirSync(dirname(join(app, 'node_modules', name)), { recursive: true });
    symlinkSync(join(root, 'node_modules', name), join(app, 'node_modules', name));
  }
  writeFileSync(join(app, 'package.json'), '{"type": "module"}\n');
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Of ES modules. */
const use = `import { load, type Reply, type ReplyResult, OnelaunchError } from 'onelaunch';
import { estimate, makeSchedule, plan, stage } from 'onelaunch/codegen';
import { resolveModel, resolveTarget } from 'onelaunch/configs';
const llm = await load({ model: 'qwen3-tiny', context: 256 });
const reply: Reply = llm.chat([{ role: 'user', content: 'Hi' }], { topK: 4, stop: ['x'] });
for await (const { text, tokens } of reply) console.log(text.length + tokens.length);
const result: ReplyResult = await reply.result();
const iterable: AsyncIterable<{ readonly text: string }> = llm.complete('a');
export const finish: 'stop' | 'length' | 'abort' | 'context' | 'tool_calls' = result.finish;
export const isOurs = (error: unknown): error is OnelaunchError => error instanceof OnelaunchError;
export const micros = estimate(makeSchedule(resolveModel('qwen3-0.6b').dims, plan('mine', []), resolveTarget('h100'))).micros;
console.log(stage, iterable);
// @ts-expect-error a misspelt option
await load({ model: 'qwen3-tiny', contex: 256 });`;

describe('the packed package', () => {
  it('holds templates, configs, the bundled model and no tests or training scripts', () => {
    for (const path of [
      'dist/index.js',
      'dist/index.d.ts',
      'templates/model.h.hbs',
      'models/qwen3-tiny/tokenizer.json',
      'server/chat.html',
    ]) {
      expect(existsSync(join(installed, path)), path).toBe(true);
    }
    for (const path of ['test', 'node_modules', 'models/qwen3-tiny/training', 'generated']) {
      expect(existsSync(join(installed, path)), path).toBe(false);
    }
  });

  it('has nothing that publint would change', async () => {
    const { buffer, byteOffset, byteLength } = readFileSync(tarball());
    const packed = buffer.slice(byteOffset, byteOffset + byteLength) as ArrayBuffer;
    const { messages, pkg } = await publint({ pack: { tarball: packed }, level: 'suggestion' });
    expect(messages.map((message) => formatMessage(message, pkg, { color: false }))).toEqual([]);
  });

  it('has an entry and types of the same kind for each way to import it', async () => {
    const result = await checkPackage(createPackageFromTarballData(readFileSync(tarball())));
    expect(result).toMatchObject({ types: { kind: 'included' }, problems: [] });
    const entries = Object.keys(packageJson.exports);
    expect(result.types && Object.keys(result.entrypoints)).toEqual(entries);
  });

  it('is one module, imported or required', () => {
    const program = "import('onelaunch').then((all) => console.log(all.load === require('onelaunch').load))";
    const args = ['--input-type=commonjs', '-e', program];
    const { stdout, stderr } = spawnSync(process.execPath, args, { cwd: app, encoding: 'utf8' });
    expect({ stdout, stderr }).toEqual({ stdout: 'true\n', stderr: '' });
  });

  it('imports no TypeScript source', () => {
    const files = readdirSync(join(installed, 'dist'), { recursive: true, encoding: 'utf8' });
    const sources = files.filter((file) => file.endsWith('.js'));
    expect(sources.length).toBeGreaterThan(50);
    for (const file of sources) {
      const text = readFileSync(join(installed, 'dist', file), 'utf8');
      expect(text, file).not.toMatch(/(from|import\()\s*['"]\.[^'"]*\.ts['"]/);
    }
  });

  it('runs the example of the README', () => {
    const example = /^```ts\n(.*?)^```$/ms.exec(readFileSync(join(installed, 'README.md'), 'utf8'))![1]!;
    writeFileSync(
      join(app, 'example.mjs'),
      example.replace("'qwen3-tiny' }", "'qwen3-tiny', target: 'cpu' }"),
    );
    const text = execFileSync(process.execPath, ['example.mjs'], { cwd: app, env, encoding: 'utf8' });
    expect(text).toMatch(/^A program that is not invoked explicitly, but lies dormant/);
  });

  it('answers on its command line, from another folder', () => {
    const { stdout, status } = gen(
      'chat',
      '--model',
      'qwen3-tiny',
      '--target',
      'cpu',
      '--prompt',
      'define water',
      '--quiet',
    );
    expect(stdout).toMatch(/binary compound/);
    expect(status).toBe(0);
  });

  it('explains a plan from a file of the user', () => {
    writeFileSync(
      join(app, 'mine.ts'),
      readFileSync(join(root, 'configs', 'plans', 'unfused.ts'), 'utf8')
        .replace('../../codegen/plan/plan.ts', 'onelaunch/codegen')
        .replace("plan('unfused'", "plan('mine'"),
    );
    const { stdout, stderr, status } = gen(
      'explain',
      '--model',
      'qwen3-tiny',
      '--target',
      'cpu',
      '--plan',
      './mine.ts',
    );
    expect(stderr).toBe('');
    expect(stdout).toContain('attn_norm');
    expect(status).toBe(0);
  });

  it('explains the plan of the README from a folder where no package is', () => {
    const elsewhere = join(folder, 'elsewhere');
    mkdirSync(elsewhere);
    copyFileSync(join(root, 'examples', 'my-plan.ts'), join(elsewhere, 'my-plan.ts'));
    const args = ['explain', '--model', 'qwen3-tiny', '--target', 'h100', '--plan', 'my-plan.ts'];
    const main = join(installed, packageJson.bin['gen']!);
    const { stdout, stderr, status } = spawnSync(process.execPath, [main, ...args], {
      ...{ cwd: elsewhere, env, encoding: 'utf8' },
    });
    expect(stderr).toBe('');
    expect(stdout).toContain('qwen3-tiny on h100, plan norms-once');
    expect(status).toBe(0);
  });

  it('shows its commands as gen --help', () => {
    const { stdout, stderr, status } = gen('--help');
    expect(readFileSync(join(installed, packageJson.bin['gen']!), 'utf8')).toMatch(
      /^#!\/usr\/bin\/env node\n/,
    );
    expect(stderr).toBe('');
    expect(stdout).toContain('gen chat qwen3-tiny');
    expect(status).toBe(0);
  });

  const formats = ['--format=esm', '--format=cjs'];

  it.each(oneOf(2, formats))(
    'says in a bundle that its templates are missing, and what to do: %s',
    (format) => {
      const text = runBundled(format);
      expect(text).toMatch(/^environment onelaunch was bundled: its templates are not around its code/);
      expect(text).toContain('--packages=external');
    },
  );

  it.each(formats)('runs beside a bundle that leaves it out: %s', (format) => {
    expect(runBundled(format, '--packages=external')).toBe('length\n');
  });

  it("runs what was built within Node's permissions, and names the one that is missing", () => {
    const program = `import { load } from 'onelaunch';
      const llm = await load({ model: 'qwen3-tiny', target: 'cpu' }).catch((error) => error);
      const options = { maxTokens: 1, grammar: 'root ::= "ab"+' };
      console.log(llm.hint ?? (await llm.complete('A', options).result()).finish);
      await llm.close?.();`;
    const flag = ['--permission', '--experimental-permission'].find((name) =>
      process.allowedNodeEnvironmentFlags.has(name),
    )!;
    const within = (cache: string, ...allowed: string[]) => {
      const flags = ['--no-warnings', flag, '--allow-fs-read=*', ...allowed];
      return execFileSync(process.execPath, [...flags, '--input-type=module', '-e', program], {
        ...{ cwd: app, env: { ...env, ONELAUNCH_CACHE: cache }, encoding: 'utf8' },
      });
    };
    // Without threads a grammar is compiled in the one there is.
    for (const allowed of [[], ['--allow-worker']])
      expect(within(outputRoot(), '--allow-addons', ...allowed)).toBe('length\n');
    expect(within(outputRoot())).toBe('--allow-addons allows it\n');
    const empty = join(folder, 'cache');
    expect(within(empty, '--allow-addons')).toMatch(/^--allow-child-process allows it/);
  });

  it('has types that a user of TypeScript 5.4, the oldest that is supported, can compile against', () => {
    writeFileSync(join(app, 'use.ts'), use);
    const { stdout, status } = compiled(oldestTypeScript(), ['--module', 'nodenext', '--noEmit', 'use.ts']);
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });

  it.each([
    // Beside one of ES modules: most of what a run of tsc takes is for what both import.
    ['node16', ['use.ts']],
    ...(thorough
      ? [['commonjs', ['--moduleResolution', 'node10', '--ignoreDeprecations', '6.0']] as const]
      : []),
  ] as const)(
    "has types and code for a program of CommonJS with module %s, to today's TypeScript",
    (module, more) => {
      writeFileSync(join(app, 'use.ts'), use);
      writeFileSync(
        join(app, 'required.cts'),
        `import { load, type LanguageModel, OnelaunchError } from 'onelaunch';
import { type FusionPlan, plan } from 'onelaunch/codegen';
import { resolveTarget } from 'onelaunch/configs';
export const mine = (): FusionPlan => plan('mine', []);
const told = (error: unknown): string => (error instanceof OnelaunchError ? error.kind : 'other');
const model: Promise<LanguageModel> = load({ model: 'no-such-model' });
// @ts-expect-error a misspelt option
void load({ model: 'no-such-model', contex: 256 }).catch(told);
model.catch((error: unknown) => console.log(told(error), resolveTarget('h100').name));
`,
      );
      const { stdout, status } = compiled(today, [
        '--module',
        module,
        ...more,
        '--outDir',
        'out',
        'required.cts',
      ]);
      expect(stdout).toBe('');
      expect(status).toBe(0);
      const program = spawnSync(process.execPath, [join('out', 'required.cjs')], {
        cwd: app,
        encoding: 'utf8',
      });
      expect(program).toMatchObject({ stdout: 'usage h100\n', stderr: '' });
    },
  );
});

/** What `npm pack` made. */
function tarball(): string {
  return join(folder, readdirSync(folder).find((name) => name.endsWith('.tgz'))!);
}

/** What tsc says of a program of the user, and how it ends. */
function compiled(typescript: string, flags: readonly string[]) {
  const options = [
    ...['--strict', '--target', 'es2022'],
    // Types that the oldest accepts were printed by today's. Its own are not what is asked, nor those of browsers.
    ...(typescript === today && !thorough
      ? ['--skipLibCheck']
      : ['--skipDefaultLibCheck', '--lib', 'es2022,esnext.disposable']),
    ...['--types', 'node', '--typeRoots', join(root, 'node_modules', '@types')],
  ];
  const tsc = [join(typescript, 'bin', 'tsc'), ...options, ...flags];
  return spawnSync(process.execPath, tsc, { cwd: app, encoding: 'utf8' });
}

/** Installed apart, beside a package.json that says its version. */
function oldestTypeScript(): string {
  const typescript = join(root, 'test', 'oldest-typescript', 'node_modules', 'typescript');
  const { version } = JSON.parse(readFileSync(join(typescript, 'package.json'), 'utf8')) as {
    version: string;
  };
  expect(version).toMatch(/^5\.4\./);
  return typescript;
}

/** What a program that uses the package prints, bundled by esbuild. */
function runBundled(...flags: readonly string[]): string {
  writeFileSync(
    join(app, 'bundled.js'),
    `import { load } from 'onelaunch';
load({ model: 'qwen3-tiny', target: 'cpu' }).then(
  async (llm) => {
    console.log((await llm.complete('The', { maxTokens: 2 }).result()).finish);
    await llm.close();
  },
  (error) => console.log(error.kind, error.message, error.hint),
);
`,
  );
  const out = join(app, 'out', flags.includes('--format=cjs') ? 'app.cjs' : 'app.mjs');
  const all = ['--bundle', '--platform=node', '--log-level=error', ...flags, `--outfile=${out}`];
  execFileSync(esbuild(), ['bundled.js', ...all], { cwd: app });
  return execFileSync(process.execPath, [out], { cwd: app, env, encoding: 'utf8' });
}
