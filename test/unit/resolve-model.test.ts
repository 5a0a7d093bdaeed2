// What --model means: known names, names of the Hub, folders of its cache.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { hubIds, models } from '../../configs/models.ts';
import { resolveModel, resolvePlan, resolvePromptPlan, resolveTarget } from '../../configs/resolve.ts';
import { hubCache } from '../../hub/settings.ts';
import { configOf, layOut } from '../support/hub-cache.ts';
import { failureOf, refusalOf } from '../support/refusal.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-resolve-'));
afterAll(() => rmSync(folder, { recursive: true }));
let cache: string;
beforeEach(() => {
  cache = mkdtempSync(join(folder, 'hub-'));
  vi.stubEnv('HF_HUB_CACHE', cache);
});
afterEach(() => vi.unstubAllEnvs());

const small = models.find((model) => model.name === 'qwen3-0.6b')!;
const weights = { 'model.safetensors': 'weights' };
const complete = { 'config.json': configOf({ ...small, layers: 2 }), ...weights };
const other = 'Someone/My-Qwen3.v2';

it.each([5, null, {}, 'a\0b'])('%j is no name of a model, a plan or a target', async (name) => {
  expect(refusalOf(() => resolveModel(name as never)).message).toContain('the model is ');
  expect(refusalOf(() => resolveTarget(name as never)).message).toContain('the target is ');
  expect((await failureOf(resolvePlan(name as never))).message).toContain('the plan is ');
  expect((await failureOf(resolvePromptPlan(name as never))).message).toContain('neither a name nor a path');
});

describe('a known name', () => {
  it.each([...hubIds])('%s is %s on the Hub, and has the dims of its config.json', (name, id) => {
    const dims = models.find((model) => model.name === name)!;
    expect(resolveModel(name)).toEqual({ dims, directory: null, hubId: id, notes: [] });
    const root = layOut(
      cache,
      id,
      [{ commit: 'a1', files: { 'config.json': configOf(dims), ...weights } }],
      'a1',
    );
    const found = { dims, directory: join(root, 'snapshots', 'a1'), hubId: id, notes: [] };
    expect(resolveModel(name)).toEqual(found);
    expect(resolveModel(id)).toEqual(found);
    expect(id.toLowerCase().endsWith(`/${name}`)).toBe(true);
  });

  it.each(['QWEN3-0.6b', 'Qwen3-0.6B', 'Qwen/Qwen3-0.6B', 'qwen/QWEN3-0.6B'])(
    'is found as %s without files too: its dims are known',
    (name) => {
      expect(resolveModel(name)).toEqual({
        dims: small,
        directory: null,
        hubId: 'Qwen/Qwen3-0.6B',
        notes: [],
      });
    },
  );

  it('has the dims of its cached config.json where those are others', () => {
    layOut(cache, 'Qwen/Qwen3-0.6B', [{ commit: 'a1', files: complete }], 'a1');
    expect(resolveModel('qwen3-0.6b').dims).toEqual({ ...small, layers: 2 });
  });

  it('stays without files while its download is not complete', () => {
    layOut(cache, 'Qwen/Qwen3-0.6B', [{ commit: 'a1', files: { 'config.json': configOf(small) } }], 'a1');
    expect(resolveModel('qwen3-0.6b').directory).toBeNull();
  });

  it('that is bundled is the one of the package', () => {
    expect(resolveModel('qwen3-tiny').directory).toMatch(/models\/qwen3-tiny$/);
    expect(resolveModel('QWEN3-Tiny').directory).toMatch(/models\/qwen3-tiny$/);
  });
});

describe('a name of the Hub', () => {
  it.each([other, 'someone/my-qwen3.V2'])('%s is found in its cache, in any letter case', (name) => {
    const root = layOut(cache, other, [{ commit: 'a1', files: complete }], 'a1');
    expect(resolveModel(name)).toEqual({
      dims: { ...small, layers: 2, name: 'my-qwen3.v2' },
      directory: join(root, 'snapshots', 'a1'),
      hubId: other,
      notes: [],
    });
  });

  it('that is a folder here is that folder', () => {
    layOut(cache, other, [{ commit: 'a1', files: complete }], 'a1');
    const here = mkdtempSync(join(folder, 'here-'));
    mkdirSync(join(here, other), { recursive: true });
    writeFileSync(join(here, other, 'config.json'), configOf({ ...small, layers: 3 }));
    const before = process.cwd();
    process.chdir(here);
    try {
      expect(resolveModel(other)).toMatchObject({
        dims: { layers: 3 },
        directory: join(here, other),
        hubId: null,
      });
    } finally {
      process.chdir(before);
    }
  });

  it.each<[string, Parameters<typeof layOut>[2], string | undefined, string]>([
    ['refs/main, not a newer one', [at('old', 1), at('new', 2)], 'old', 'old'],
    [
      'the newest, where there is no refs/main',
      [at('older', 1), at('newest', 3), at('old', 2)],
      undefined,
      'newest',
    ],
    [
      'a complete one, where refs/main is not',
      [at('older', 1), at('old', 2), { commit: 'new', files: { 'config.json': '{}' }, at: 3 }],
      'new',
      'old',
    ],
    ['the newest, where refs/main is of a commit that is not here', [at('a', 1), at('b', 2)], 'gone', 'b'],
  ])('has of its snapshots %s', (_, snapshots, main, wanted) => {
    const root = layOut(cache, other, snapshots, main);
    expect(resolveModel(other).directory).toBe(join(root, 'snapshots', wanted));
  });

  it.each<[string, Readonly<Record<string, string>>]>([
    ['config.json', weights],
    ['model.safetensors', { 'config.json': '{}', 'pytorch_model.bin': 'x' }],
    [
      'model-2.safetensors',
      { 'config.json': '{}', 'model.safetensors.index.json': map(1, 2), 'model-1.safetensors': 'x' },
    ],
    [
      'model.safetensors.index.json',
      { 'config.json': '{}', 'model.safetensors.index.json': '{"weight_map"' },
    ],
    [
      'model.safetensors.index.json',
      { 'config.json': '{}', 'model.safetensors.index.json': '{"weight_map":{"a":"../b"}}' },
    ],
  ])('whose snapshot lacks %s says so, and how to go on', (missing, files) => {
    layOut(cache, other, [{ commit: 'a1', files }], 'a1');
    expect(refusalOf(() => resolveModel(other))).toMatchObject({
      kind: 'environment',
      message: `${other} is not complete in the Hub cache: no ${missing}`,
      hint: `gen pull ${other} fetches the rest`,
    });
  });

  it('whose blob is gone is not complete', () => {
    const root = layOut(cache, other, [{ commit: 'a1', files: complete }], 'a1');
    rmSync(join(root, 'blobs', 'a1-model.safetensors'));
    expect(refusalOf(() => resolveModel(other)).message).toMatch(/no model.safetensors$/);
  });

  it.each([
    [
      'Nobody/No-Model',
      'environment',
      'Nobody/No-Model is neither a folder nor in the Hub cache',
      'gen pull Nobody/No-Model fetches it',
    ],
    [
      'Qwen/Qwen3-0.6',
      'environment',
      'Qwen/Qwen3-0.6 is neither a folder nor in the Hub cache',
      'gen pull Qwen/Qwen3-0.6 fetches it',
    ],
    ['my-qwen3.v2', 'usage', "unknown model 'my-qwen3.v2'", `did you mean '${other}'? known: `],
    ['qwen3-0.7b', 'usage', "unknown model 'qwen3-0.7b'", "did you mean 'qwen3-0.6b'? "],
    ...[
      'Qwen/Qwen3-0.6B@main',
      'Qwen/Qwen3-0.6B:Q4_K_M',
      'hf.co/Qwen/Qwen3-0.6B',
      'https://huggingface.co/Qwen/Qwen3-0.6B',
      'https://huggingface.co/Qwen/Qwen3-0.6B/tree/main?x#y',
    ].map((name): [string, string, string, string] => [
      name,
      'usage',
      `${name} is neither a folder nor ORG/NAME of the Hub`,
      "did you mean 'Qwen/Qwen3-0.6B'? gen pull --revision",
    ]),
    ['https://huggingface.co/Qwen', 'usage', 'no directory ', 'config.json'],
    ['@/x', 'usage', 'no directory ', 'config.json'],
    ['a/b/', 'usage', 'no directory ', 'config.json'],
    ['a/b/c', 'usage', 'no directory ', 'config.json'],
    ['./Qwen3-0.6B', 'usage', 'no directory ', 'config.json'],
  ])('%s, which is not here, is told in one line', (name, kind, message, hint) => {
    layOut(cache, other, [{ commit: 'a1', files: complete }], 'a1');
    const error = refusalOf(() => resolveModel(name));
    expect(error.kind).toBe(kind);
    expect(error.message.slice(0, message.length)).toBe(message);
    expect(error.hint).toContain(hint);
  });
});

describe('a folder of the Hub cache', () => {
  it.each(['', 'snapshots', 'snapshots/a1', 'snapshots/a1/', '/'])(
    'leads to its snapshot: models--ORG--NAME/%s',
    (below) => {
      const root = layOut(cache, other, [{ commit: 'a1', files: complete }], 'a1');
      const { dims, directory } = resolveModel(`${root}/${below}`);
      expect([dims.name, directory]).toEqual(['my-qwen3.v2', join(root, 'snapshots', 'a1')]);
    },
  );

  it('without a snapshot says what to fetch', () => {
    mkdirSync(join(cache, 'models--Some--Thing', 'refs'), { recursive: true });
    expect(refusalOf(() => resolveModel(join(cache, 'models--Some--Thing')))).toMatchObject({
      message: 'Some/Thing is not complete in the Hub cache: no config.json',
      hint: 'gen pull Some/Thing fetches the rest',
    });
  });
});

describe('the Hub cache', () => {
  it.each([
    [{}, '/home/me/.cache/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ HF_HOME: '/h', XDG_CACHE_HOME: '/x' }, '/h/hub'],
    [{ HF_HOME: '~/h' }, '/home/me/h/hub'],
    [{ HUGGINGFACE_HUB_CACHE: '/old', HF_HOME: '/h' }, '/old'],
    [{ HF_HUB_CACHE: '/c', HUGGINGFACE_HUB_CACHE: '/old', HF_HOME: '/h' }, '/c'],
    [{ HF_HUB_CACHE: '', HF_HOME: '' }, '/home/me/.cache/huggingface/hub'],
  ])('with %j is %s', (env, path) => {
    vi.stubEnv('HOME', '/home/me');
    expect(hubCache(env)).toBe(path);
  });
});

describe('the command line', () => {
  const gen = async (...args: readonly string[]) => {
    const { io, written } = memoryIo();
    return { code: await run(args, io), ...written };
  };

  it('says what to pull, and leaves with 3', async () => {
    expect(await gen('explain', '--model', 'Qwen/Qwen3-14B')).toEqual({
      code: 3,
      out: '',
      err: 'error: Qwen/Qwen3-14B is neither a folder nor in the Hub cache\nhint: gen pull Qwen/Qwen3-14B fetches it; gen models lists what is here\n',
    });
  });

  it('says before anything is compiled what fetches the weights of a known name', async () => {
    const { err } = await gen('chat', '--model', 'Qwen/Qwen3-0.6B', '--target', 'cpu', '--prompt', 'Hi');
    expect(err).toMatch(
      /^error: there are no weights of qwen3-0.6b here\nhint: gen pull Qwen\/Qwen3-0.6B fetches them/,
    );
  });

  it('explains a cached model by its name on the Hub', async () => {
    layOut(cache, other, [{ commit: 'a1', files: complete }], 'a1');
    const { code, out, err } = await gen('explain', '--model', other, '--target', 'h100', '--json');
    expect({ code, err: err.split('\n')[0] }).toMatchObject({ code: 0 });
    expect(JSON.parse(out)).toMatchObject({ model: 'my-qwen3.v2' });
  });
});

function at(commit: string, seconds: number) {
  return { commit, files: complete, at: seconds };
}

function map(...shards: readonly number[]): string {
  return JSON.stringify({
    weight_map: Object.fromEntries(shards.map((i) => [`t${i}`, `model-${i}.safetensors`])),
  });
}
