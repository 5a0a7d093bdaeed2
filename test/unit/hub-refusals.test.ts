// What a Hub does not have, does not give, or gives wrongly: told in one line, before weights come.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { OnelaunchError } from '../../errors.ts';
import { notWritten } from '../../hub/failures.ts';
import type { PullOptions } from '../../hub/pull.ts';
import type { Hub } from '../../hub/request.ts';
import { type FakeRepo, type Fault, hashes } from '../support/fake-hub.ts';
import { commit, config, id, pulls, weights } from '../support/pulls.ts';
import { failureOf } from '../support/refusal.ts';

const at = pulls();

const gated = { kind: 'status', status: 403, headers: { 'x-error-code': 'GatedRepo' } } as const;
const badToken = { 'x-error-message': 'Invalid credentials in Authorization header' };
const outside = { weight_map: { a: '../x.safetensors' } };

interface Case {
  readonly files?: FakeRepo['files'];
  readonly fault?: readonly [name: string, fault: Fault];
  readonly ask?: Partial<PullOptions>;
  readonly from?: Partial<Hub>;
  readonly says: readonly [kind: OnelaunchError['kind'], message: RegExp, hint: RegExp];
}

const cases: readonly (readonly [what: string, one: Case])[] = [
  [
    'a model behind terms, without a token',
    {
      fault: ['config.json', gated],
      says: [
        'environment',
        /^access to Qwen\/Qwen3-Micro is restricted$/,
        /^Accept its terms at \S+Qwen3-Micro, then set HF_TOKEN/,
      ],
    },
  ],
  [
    'a model behind terms, with a token',
    {
      fault: ['config.json', gated],
      from: { token: 'hf_x' },
      says: ['environment', /is restricted$/, /has no access yet: ask for it at/],
    },
  ],
  [
    'a token that the Hub does not know',
    {
      fault: ['info', { kind: 'status', status: 401, headers: badToken }],
      says: ['environment', /does not know the token in HF_TOKEN$/, /or unset it/],
    },
  ],
  [
    'a name that the Hub does not have',
    {
      ask: { id: 'Qwen/Qwen3-Mikro', suggest: () => "did you mean 'x'? " },
      says: [
        'usage',
        /^there is no model Qwen\/Qwen3-Mikro on 127.0.0.1:\d+, or it is private$/,
        /^did you mean 'x'\? A private one needs HF_TOKEN/,
      ],
    },
  ],
  [
    'a revision that the model does not have',
    {
      ask: { revision: 'v2' },
      says: ['usage', /^Qwen\/Qwen3-Micro has no revision 'v2'$/, /branches and tags/],
    },
  ],
  [
    'a revision that is a path out of refs/',
    { ask: { revision: '../../x' }, says: ['usage', /is not a revision$/, /--revision main/] },
  ],
  [
    'a name that is none',
    {
      ask: { id: 'a/b/c' },
      says: ['usage', /^'a\/b\/c' is not the name of a model on the Hub$/, /Qwen\/Qwen3-0.6B/],
    },
  ],
  [
    'a repository without config.json',
    { files: { 'README.md': 'x' }, says: ['usage', /has no config.json$/, /tokenizer.json/] },
  ],
  [
    'a repository of GGUF files',
    {
      files: { 'config.json': config, 'model-q4.gguf': 'x' },
      says: ['usage', /has no safetensors files$/, /the model that they were made from/],
    },
  ],
  [
    'a repository of PyTorch files',
    {
      files: { 'config.json': config, 'pytorch_model.bin': 'x' },
      says: ['usage', /has no safetensors files$/, /save them as safetensors/],
    },
  ],
  [
    'an adapter',
    {
      files: { 'adapter_config.json': '{}' },
      says: ['usage', /has no config.json$/, /merge it into its base model/],
    },
  ],
  [
    'an index that leads out of the folder',
    {
      files: {
        ...{ 'config.json': config, '../x.safetensors': 'x' },
        'model.safetensors.index.json': JSON.stringify(outside),
      },
      says: ['usage', /does not name its shards$/, /config.json/],
    },
  ],
  [
    'a folder that cannot be made',
    {
      ask: { directory: join(import.meta.filename, 'below') },
      says: [
        'environment',
        /^cannot write in .*test.ts\/below: what should be its folder is a file$/,
        /--dir/,
      ],
    },
  ],
  [
    'a Hub that nobody runs',
    {
      from: { endpoint: 'http://127.0.0.1:65535' },
      says: ['environment', /^127.0.0.1:65535 cannot be reached: connection refused$/, /HF_ENDPOINT/],
    },
  ],
  [
    'an address that is no Hub',
    {
      fault: ['info', { kind: 'page', text: '<html>Log in</html>' }],
      says: ['failed', /does not answer as a Hub/, /HF_ENDPOINT/],
    },
  ],
  [
    'an answer that is too long',
    {
      fault: ['info', { kind: 'page', text: 'x'.repeat(50_000_001) }],
      says: ['failed', /does not answer as a Hub: .* has more than 50000000 bytes$/, /HF_ENDPOINT/],
    },
  ],
];

describe('what cannot be had', () => {
  it.each(cases)(
    'is told in one line: %s',
    async (_, { files: own, fault, ask, from, says: [kind, message, hint] }) => {
      await at.serve(own ? { files: own } : {});
      if (fault) at.hub.faults.set(fault[0], [fault[1]]);
      const error = await failureOf(at.fetchIt(ask, from));
      expect(error).toMatchObject({
        ...{ kind, message: expect.stringMatching(message), hint: expect.stringMatching(hint) },
      });
      expect(at.hub.seen.filter(({ path }) => path.endsWith('.safetensors'))).toEqual([]);
    },
  );

  it('is refused before weights come when its config.json says so', async () => {
    await at.serve();
    const check = (text: string, name: string) => {
      expect([text, name]).toEqual([config, id]);
      throw new OnelaunchError('usage', 'not supported');
    };
    expect((await failureOf(at.fetchIt({ check }))).message).toBe('not supported');
    expect(at.hub.seen.map(({ path }) => path.split('/').at(-1))).toEqual(['main?blobs=true', 'config.json']);
    expect(readdirSync(at.cache)).toEqual([]);
  });

  it('is refused before weights come when the disk is too small', async () => {
    const text = JSON.stringify({ id, sha: commit, siblings: siblings(10 ** 15) });
    await at.serve();
    at.hub.faults.set('info', [{ kind: 'page', text }]);
    const error = await failureOf(at.fetchIt());
    expect(error).toMatchObject({ kind: 'environment', hint: expect.stringContaining('HF_HUB_CACHE') });
    expect(error.message).toMatch(/^1000000\.00 GB are to come, and \S+ has [\d.]+ [MG]B free$/);
    expect(at.ranges()).toEqual([]);
  });

  it.each([
    ['ENOSPC', 'the disk of /there is full'],
    ['EDQUOT', 'the disk of /there is full'],
    ['EROFS', 'cannot write in /there: its disk can only be read'],
  ])('for want of a disk, %s, is said in one line', (code, message) => {
    const error = notWritten(Object.assign(new Error(code), { code, syscall: 'write' }), '/there');
    expect(error).toMatchObject({ kind: 'environment', message, hint: expect.stringContaining('--dir') });
  });
});

const siblings = (bytes: number) => [
  { rfilename: 'config.json', size: config.length, blobId: hashes(Buffer.from(config)).git },
  {
    ...{ rfilename: 'model.safetensors', size: bytes, blobId: commit },
    lfs: { sha256: hashes(weights).sha256, size: bytes, pointerSize: 135 },
  },
];
