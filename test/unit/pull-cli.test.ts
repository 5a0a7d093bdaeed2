// gen pull and gen models end to end, inside this process, over a Hub that runs on this machine.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { models } from '../../configs/models.ts';
import { resolveModel } from '../../configs/resolve.ts';
import { type FakeHub, fakeHub } from '../support/fake-hub.ts';
import { configOf, layOut } from '../support/hub-cache.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-pull-'));
afterAll(() => rmSync(folder, { recursive: true }));

const commit = 'abcdef'.padEnd(40, '0');
const small = models.find((model) => model.name === 'qwen3-0.6b')!;
const fixture = join(import.meta.dirname, '../fixtures/qwen3-micro');
const micro = {
  'config.json': readFileSync(join(fixture, 'config.json')),
  'model.safetensors': readFileSync(join(fixture, 'model.safetensors')),
};
const repos = {
  'Qwen/Qwen3-0.6B': { commit, files: { 'config.json': configOf(small), 'model.safetensors': 'weights' } },
  'Org/Micro': { commit, files: micro },
  'old/micro': { id: 'Org/Micro', commit, files: micro },
  'google/Other-1B': { commit, files: { ...micro, 'config.json': '{"model_type":"gemma3"}' } },
  'Org/Broken': { commit, files: { ...micro, 'config.json': '{"model_type":' } },
};

let hub: FakeHub;
let cache: string;
beforeEach(async () => {
  hub = await fakeHub(repos);
  cache = mkdtempSync(join(folder, 'hub-'));
  vi.stubEnv('HF_HUB_CACHE', cache);
  vi.stubEnv('HF_ENDPOINT', `${hub.url}/`);
  vi.stubEnv('HF_HOME', folder);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await hub.close();
});

async function gen(...args: readonly string[]) {
  const { io, written } = memoryIo();
  return { code: await run(args, io), ...written };
}
const asked = () => hub.seen.map(({ path }) => path);
const weightsAsked = () => asked().filter((path) => path.endsWith('.safetensors'));

describe('gen pull', () => {
  it('fetches a model that can be used by its name from then on', async () => {
    const { code, out, err } = await gen('pull', 'Org/Micro');
    const directory = join(cache, 'models--Org--Micro', 'snapshots', commit);
    expect({ code, out }).toEqual({ code: 0, out: `${directory}\n` });
    expect(err).toMatch(/^Org\/Micro at abcdef000000: 1.1 MB\n/m);
    expect(err).toMatch(/^1.1 MB fetched and checked in [\d.]+ s\nNext: gen chat --model Org\/Micro\n$/m);
    expect(resolveModel('org/micro').directory).toBe(directory);
    expect((await gen('explain', '--model', 'Org/Micro', '--target', 'cpu')).code).toBe(0);

    const again = await gen('pull', 'Org/Micro');
    expect(again.err).toBe('Org/Micro at abcdef000000: 1.1 MB, all here\nNext: gen chat --model Org/Micro\n');
    expect(weightsAsked()).toHaveLength(2);
  });

  it.each(['qwen3-0.6b', 'QWEN3-0.6B'])('knows where the weights of %s are', async (name) => {
    const { out } = await gen('pull', name, '--json', '--quiet');
    expect(JSON.parse(out)).toMatchObject({
      ...{ id: 'Qwen/Qwen3-0.6B', commit, files: ['config.json', 'model.safetensors'] },
      directory: resolveModel('qwen3-0.6b').directory,
    });
  });

  it('says under which name a model that moved is found', async () => {
    const { err } = await gen('pull', 'old/micro');
    expect(err).toContain('note: old/micro is called Org/Micro now\n');
    expect(err).toContain('gen chat --model Org/Micro');
  });

  it('into a folder says that folder', async () => {
    const directory = join(folder, 'plain');
    const { out, err } = await gen('pull', 'Org/Micro', '--dir', directory);
    expect([out, err.split('\n').at(-2)]).toEqual([`${directory}\n`, `Next: gen chat --model ${directory}`]);
    expect(resolveModel(directory).dims.layers).toBe(2);
  });

  it('shows on a terminal how far it is, and leaves no line of it behind', async () => {
    const { io, written } = memoryIo();
    expect(
      await run(['pull', 'Org/Micro'], {
        ...io,
        errIsTty: true,
        env: { ...io.env, TERM: 'xterm', NO_COLOR: '1' },
      }),
    ).toBe(0);
    const lines = written.err.split('\r\u001b[K');
    expect(lines[1]).toMatch(/^fetching Org\/Micro [█░]+ [\d.]+ MB of 1.1 MB/);
    expect(lines.at(-1)).toMatch(/^1.1 MB fetched/);
  });

  it('on Ctrl-C keeps what came, says how to go on, and leaves with 130', async () => {
    hub.faults.set('model.safetensors', [{ kind: 'stall', after: 500_000 }]);
    const stop = new AbortController();
    const { io, written } = memoryIo({ signal: stop.signal });
    const ended = run(['pull', 'Org/Micro'], io);
    await vi.waitFor(() => expect(hub.sentBytes).toBeGreaterThan(500_000), { timeout: 30_000 });
    await vi.waitFor(() => expect(written.err).toContain('fetching'), { timeout: 30_000 });
    stop.abort(new DOMException('interrupted', 'AbortError'));
    expect(await ended).toBe(130);
    expect(written.err).toMatch(
      /\n[\d.]+ MB of 1.1 MB are here: the same command goes on from there\ninterrupted\n$/,
    );
    expect((await gen('models')).out).toMatch(/^Org\/Micro .* MB, incomplete$/m);
    expect((await gen('pull', 'Org/Micro')).err).toMatch(/1.1 MB, 0.\d MB of them here\n/);
  });

  it.each<[string, readonly string[], Readonly<Record<string, string>>, number, RegExp, RegExp]>([
    [
      'another family',
      ['google/Other-1B'],
      {},
      2,
      /config.json of other-1b: model_type is .*gemma3/,
      /Qwen3/,
    ],
    [
      'a broken config.json',
      ['Org/Broken'],
      {},
      2,
      /^config.json of Org\/Broken is not valid JSON$/,
      /--revision/,
    ],
    [
      'a misspelt name',
      ['Qwen/Qwen3-0.6'],
      {},
      2,
      /^there is no model Qwen\/Qwen3-0.6 on/,
      /did you mean 'Qwen\/Qwen3-0.6B'\?/,
    ],
    [
      'the bundled model',
      ['qwen3-tiny'],
      {},
      2,
      /^qwen3-tiny comes with the package$/,
      /gen chat --model qwen3-tiny/,
    ],
    [
      'no name of the Hub',
      ['qwen3-0.7b'],
      {},
      2,
      /is not the name of a model on the Hub$/,
      /did you mean 'qwen3-0.6b'\?/,
    ],
    [
      'an address with a revision',
      ['https://huggingface.co/Org/Micro@v1'],
      {},
      2,
      /is not the name of a model on the Hub$/,
      /did you mean 'Org\/Micro'\? A revision is given by --revision/,
    ],
    ['a word that every object knows', ['constructor'], {}, 2, /^'constructor' is not the name/, /gen pull/],
    ['no name', [], {}, 2, /^missing required argument 'model'$/, /gen pull --help/],
    ['two names', ['a/b', 'c/d'], {}, 2, /^too many arguments/, /./],
    ['work offline', ['Org/Micro'], { HF_HUB_OFFLINE: '1' }, 3, /^HF_HUB_OFFLINE is set/, /Unset it/],
    ['no address', ['Org/Micro'], { HF_ENDPOINT: 'hub.local' }, 2, /^HF_ENDPOINT is 'hub.local'/, /https:/],
    [
      'no network',
      ['Org/Micro'],
      { HF_ENDPOINT: 'http://127.0.0.1:65535' },
      3,
      /^127.0.0.1:65535 cannot be reached/,
      /mirror in HF_ENDPOINT/,
    ],
    [
      'no network, and a proxy',
      ['Org/Micro'],
      { HF_ENDPOINT: 'http://127.0.0.1:65535', HTTPS_PROXY: 'http://x' },
      3,
      /cannot be reached/,
      /NODE_USE_ENV_PROXY/,
    ],
  ])('of %s is refused in one line, before any weights come', async (_, args, env, status, message, hint) => {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
    const { code, out, err } = await gen('pull', ...args);
    const lines = err.trimEnd().split('\n');
    expect({ code, out }).toEqual({ code: status, out: '' });
    expect(lines[0]).toMatch(/^error: /);
    expect(lines[0]!.slice('error: '.length)).toMatch(message);
    expect(lines.slice(1).join('\n')).toMatch(/^hint: /);
    expect(lines.slice(1).join('\n')).toMatch(hint);
    expect(weightsAsked()).toEqual([]);
  });

  it('never prints a token that cannot be one', async () => {
    vi.stubEnv('HF_TOKEN', 'hf_sec\nret');
    const { code, err } = await gen('pull', 'Org/Micro');
    expect({ code, line: err.split('\n')[0] }).toEqual({
      code: 3,
      line: 'error: the token in HF_TOKEN has characters that no token has',
    });
    expect(err).not.toContain('hf_sec');
    expect(asked()).toEqual([]);
  });

  it('asks as whoever is logged in', async () => {
    writeFileSync(join(folder, 'token'), 'hf_file\n');
    const tokens = async () => {
      hub.seen.length = 0;
      await gen('pull', 'Org/Micro');
      return hub.seen[0]!.authorization;
    };
    expect(await tokens()).toBe('Bearer hf_file');
    vi.stubEnv('HF_TOKEN', ' hf_env ');
    expect(await tokens()).toBe('Bearer hf_env');
    vi.stubEnv('HF_HUB_DISABLE_IMPLICIT_TOKEN', '1');
    expect(await tokens()).toBeUndefined();
    rmSync(join(folder, 'token'));
  });
});

describe('gen models', () => {
  const weights = { 'model.safetensors': 'x'.repeat(3_000_000) };
  const lay = (id: string, files: Readonly<Record<string, string>>) =>
    layOut(cache, id, [{ commit: 'a1', files }], 'a1');

  beforeEach(() => {
    lay('Qwen/Qwen3-0.6B', { 'config.json': configOf(small), ...weights });
    lay('HuggingFaceTB/SmolLM2-135M', { 'tokenizer.json': '{}' });
    lay('Org/Mine', { 'config.json': configOf({ ...small, layers: 5 }), ...weights });
    lay('google/Other', { 'config.json': '{"model_type":"gemma3"}', ...weights });
    lay('Org/Damaged', { 'config.json': '{' });
    writeFileSync(join(cache, 'version.txt'), '1');
  });

  it('shows what is bundled, in the Hub cache, begun, and to be fetched', async () => {
    const { code, out, err } = await gen('models');
    expect(code).toBe(0);
    const files = (name: string) =>
      out
        .split('\n')
        .find((line) => line.startsWith(`${name} `))
        ?.split(/ {2,}/)
        .at(-1);
    expect([files('qwen3-tiny'), files('qwen3-0.6b'), files('qwen3-4b')]).toEqual(['bundled', '3 MB', '-']);
    expect([files('smollm2-135m'), files('Org/Mine')]).toEqual(['0 MB, incomplete', '3 MB']);
    expect(out).not.toContain('Other');
    expect(err).toBe(
      '\nWithout files here, or incomplete: gen pull MODEL. Of other models: --model DIR, or gen pull ORG/NAME.\n' +
        'In the Hub cache, but not for this package: 2; --json says why.\n',
    );
  });

  it('tells programs of each where it is, how large, and what is wrong with it', async () => {
    const listed = JSON.parse((await gen('models', '--json')).out) as Readonly<Record<string, unknown>>[];
    const of = (hubId: string) => listed.find((model) => model['hubId'] === hubId);
    expect(of('Qwen/Qwen3-0.6B')).toMatchObject({
      ...{ name: 'qwen3-0.6b', files: 'cached', bundled: false },
      directory: join(cache, 'models--Qwen--Qwen3-0.6B', 'snapshots', 'a1'),
      diskBytes: 3_000_000 + configOf(small).length,
    });
    expect(of('Qwen/Qwen3-4B')).toMatchObject({ files: 'none', directory: null, diskBytes: 0 });
    expect(of('HuggingFaceTB/SmolLM2-135M')).toMatchObject({ files: 'incomplete', directory: null });
    expect(of('Org/Mine')).toMatchObject({ name: 'mine', layers: 5, files: 'cached' });
    expect(of('google/Other')).toMatchObject({ problem: expect.stringContaining('gemma3') });
    expect(of('Org/Damaged')).toMatchObject({ problem: expect.stringContaining('not valid JSON') });
  });

  it('does not fail at a known model whose cached files are broken', async () => {
    lay('Qwen/Qwen3-1.7B', { 'config.json': '{', ...weights });
    expect((await gen('models')).out).toMatch(/^qwen3-1.7b .* 3 MB$/m);
  });
});
