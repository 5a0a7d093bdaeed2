// The commands end to end on the CPU, inside this process.
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { report } from '../../cli/errors.ts';
import { exitCode } from '../../cli/exit-code.ts';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { outputRoot } from '../../codegen/build/output-root.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';
import type { Cost } from '../../codegen/schedule/cost.ts';
import type { Spread } from '../../lab/measure.ts';
import { readGolden } from '../../runtime/verify/golden.ts';
import { tinyDirectory } from '../support/model-directory.ts';

const root = packageRoot();
const tiny = ['--model', 'qwen3-tiny', '--target', 'cpu'];
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-cli-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function gen(args: readonly string[], stdin?: string) {
  const { io, written } = memoryIo(stdin === undefined ? {} : { stdin });
  const code = await run(args, io);
  return { code, ...written };
}

beforeAll(async () => {
  expect(await gen(tiny)).toMatchObject({ code: 0 });
});

describe('help', () => {
  const commands = [
    'build',
    'explain',
    'verify',
    'bench',
    'chat',
    'complete',
    'serve',
    'demo',
    'doctor',
    'models',
    'pull',
    'diff',
    'quality',
    'quantize',
    'resources',
    'simulate',
    'profile',
    'report',
  ];

  it('lists the commands, an example and the exit codes', async () => {
    const { code, out, err } = await gen(['--help']);
    expect(code).toBe(0);
    expect(err).toBe('');
    for (const word of commands) {
      expect(out).toMatch(new RegExp(`^  ${word} `, 'm'));
    }
    expect(out).toContain('Exit codes: 0 ok');
  });

  it.each(commands)(
    'of %s has an example that begins with the command, and the exit codes',
    async (command) => {
      const { code, out } = await gen([command, '--help']);
      expect(code).toBe(0);
      expect(out).toMatch(/Example:\n {2}(gen|echo)/);
      expect(out).toContain('Exit codes: 0 ok, 1 failed, 2 wrong usage');
      expect(out).toContain('--json');
    },
  );

  it('and version leave with 0', async () => {
    const version = await gen(['--version']);
    expect(version.out).toMatch(/^onelaunch \d+\.\d+\.\d+\n$/);
    expect(await gen(['-v'])).toEqual(version);
    expect(await gen(['-h'])).toEqual(await gen(['--help']));
    expect((await gen(['help', 'chat'])).out).toContain('--topK');
  });
});

describe('build', () => {
  it('is what gen does without a command, and finds what was built', async () => {
    const { code, out, err } = await gen([...tiny, '--json']);
    const built = JSON.parse(out) as { directory: string; library: string; cached: boolean; millis: number };
    expect(code).toBe(0);
    expect(built.cached).toBe(true);
    expect(existsSync(built.library)).toBe(true);
    expect(readdirSync(built.directory)).toEqual(
      expect.arrayContaining(['kernel.cpp', 'model.h', 'manifest.json']),
    );
    expect(err).toContain('built before');
  });

  it('prints the folder alone on stdout, and nothing on stderr when quiet', async () => {
    const { out, err } = await gen([...tiny, '--quiet']);
    expect(out.trim().split('\n')).toHaveLength(1);
    expect(out).toContain('qwen3-tiny-cpu-cooperative');
    expect(err).toBe('');
  });
});

describe('explain', () => {
  it('prints the stages of a plan for a GPU that is not here', async () => {
    const { code, out, err } = await gen(['explain', '--model', 'qwen3-0.6b', '--target', 'h100']);
    expect(code).toBe(0);
    expect(err).toBe('plan stream: h100 has a copy engine that feeds it\n');
    for (const stage of ['qkv', 'attention', 'attn_out', 'ffn_up', 'ffn_down', 'head'])
      expect(out).toContain(stage);
  });

  it('gives the same as data', async () => {
    const { out } = await gen(['explain', '--model', 'qwen3-0.6b', '--target', 'h100', '--json']);
    const data = JSON.parse(out) as {
      stages: { name: string; weightBytes: number }[];
      syncsPerToken: number;
      syncName: string;
    };
    expect(data.stages.map((stage) => stage.name)).toContain('ffn_up');
    expect(data.syncsPerToken).toBeGreaterThan(28);
    expect(data.syncName).toBe('exchanges');
  });

  it('tells of a token at a position, which reads the cache of those before it', async () => {
    const args = ['explain', '--model', 'qwen3-0.6b', '--target', 'h100'];
    const costAt = async (position: string) => {
      const { out } = await gen([...args, '--position', position, '--json']);
      return JSON.parse(out) as Cost & { model: string };
    };
    const [first, late] = [await costAt('0'), await costAt('2000')];
    expect(late).toMatchObject({ model: 'qwen3-0.6b', position: 2000, bytes: first.bytes });
    const attention = late.stages.find((stage) => stage.name === 'attention')!;
    expect(28 * attention.cacheBytes).toBe(2000 * late.bytes.kvPerPosition);
    expect(late.tokensPerSecond!).toBeLessThan(first.tokensPerSecond!);
    const table = await gen([...args, '--position', '2000']);
    expect(table.out).toMatch(/^predicted \d+ tok\/s at position 2000, /m);
    expect((await gen(args)).out).toMatch(/^predicted \d+ tok\/s at position 0, /m);
  });

  it('refuses a plan, with what would be legal', async () => {
    const plan = join(root, 'test', 'illegal', 'cannot-deal.ts');
    const { code, err } = await gen(['explain', '--model', 'qwen3-0.6b', '--target', 'h100', '--plan', plan]);
    expect(code).toBe(2);
    expect(err).toContain("Legal here: deal the stage over 'q_heads'; or deal the stage over 'kv_heads'.");
  });
});

describe('explain of a stream', () => {
  const args = ['explain', '--model', 'qwen3-0.6b', '--target', 'h100', '--plan', 'stream'];

  it('says what is exchanged, and what blocks read', async () => {
    const { code, out, err } = await gen(args);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(/^qkv .* exchange of q, k, v: /m);
    expect(out).toMatch(/^blocks {2}128; each streams 9\.31 to 9\.32 MB a token/m);
  });

  it('gives the same as data', async () => {
    const cost = JSON.parse((await gen([...args, '--json'])).out) as Cost;
    expect(cost).toMatchObject({ syncName: 'exchanges', syncsPerToken: 142, position: 0 });
    expect(cost.lines[0]).toMatch(/^blocks {2}128; /);
    const qkv = cost.stages.find((stage) => stage.name === 'qkv')!;
    expect(qkv.syncs).toMatchObject([{ scope: 'exchange', tensors: ['q', 'k', 'v'], isNeeded: true }]);
  });

  it('says on a CPU that its stages meet at barriers', async () => {
    const { code, out } = await gen([...args, '--target', 'cpu']);
    expect(code).toBe(0);
    expect(out).toMatch(/^qkv .* grid barrier: /m);
    expect(out).not.toContain('exchange');
  });
});

describe('models and doctor', () => {
  it('list every known model with its size', async () => {
    const { out } = await gen(['models', '--json']);
    const models = JSON.parse(out) as { name: string; weightBytes: number; bundled: boolean }[];
    expect(models.filter((model) => model.bundled).map((model) => model.name)).toEqual(['qwen3-tiny']);
    const qwen = models.find((model) => model.name === 'qwen3-0.6b')!;
    expect(qwen.weightBytes / 1e9).toBeCloseTo(1.19, 1);
    expect((await gen(['models'])).out).toMatch(/^qwen3-tiny .* bundled$/m);
  });

  it('doctor says what is missing of what is missing alone', async () => {
    const { out } = await gen(['doctor', '--json']);
    const checks = JSON.parse(out).checks as { found: string | null; without: string | null }[];
    for (const { found, without } of checks) expect(found === null).toBe(without !== null);
    expect(out).not.toContain('undefined');
  });

  it('say that the CPU path works here', async () => {
    const { code, out } = await gen(['doctor']);
    expect(code).toBe(0);
    expect(out).toMatch(/^C\+\+ compiler {2,}\S/m);
    expect(out).toMatch(/^CPU .*plain C\+\+/m);
  });

  it.each([
    ['cuobjdump', 'GPUs', 'CUDA toolkit'],
    ['objdump', 'the CPU', 'binutils'],
  ])('say what does not work without %s', async (name, of, hint) => {
    const variable = name.toUpperCase();
    vi.stubEnv(variable, '/nowhere');
    const { code, out } = await gen(['doctor']);
    vi.stubEnv(variable, 'echo mine');
    const found = await gen(['doctor']);
    vi.unstubAllEnvs();
    const without = `${variable} is '/nowhere', which does not run: gen resources does not work for ${of}; `;
    expect(out).toMatch(new RegExp(`^${name} +none: ${without}.*${hint}`, 'm'));
    expect(code).toBe(0);
    expect(found.out).toMatch(new RegExp(`^${name} .* \\(echo\\)$`, 'm'));
  });

  it('say that a file is no cache', async () => {
    const file = join(folder, 'file');
    writeFileSync(file, '');
    vi.stubEnv('ONELAUNCH_CACHE', file);
    const { code, out } = await gen(['doctor']);
    const built = await gen(['build', ...tiny]);
    const calibrated = await gen(['calibrate', '--target', 'cpu', '--out', join(folder, 'cpu.json')]);
    vi.unstubAllEnvs();
    const text = `cannot write in ${file}: it is no folder`;
    const error = `error: ${text}\nhint: set ONELAUNCH_CACHE to a folder that can be written\n`;
    expect(built).toEqual({ code: 3, out: '', err: error });
    expect(calibrated).toEqual(built);
    expect(out).toContain(`${text}; set ONELAUNCH_CACHE`);
    expect(code).toBe(3);
  });
});

describe('verify', () => {
  it('passes the bundled model against the logits of transformers', async () => {
    const { code, out } = await gen(['verify', ...tiny]);
    expect(out).toMatch(/pass: 8 cases/);
    expect(out).toContain('tolerance of a logit');
    expect(code).toBe(0);
  });

  it('fails, with exit code 1, against logits of another model', async () => {
    const golden = readGolden(join(root, 'models', 'qwen3-tiny', 'golden.json'));
    const wrong = {
      source: 'shifted',
      cases: golden.cases.slice(0, 1).map((one) => ({
        prompt_ids: one.promptIds,
        greedy_ids: one.greedyIds,
        top5_ids: one.expected.map((row) => row.ids),
        top5_logits: one.expected.map((row) => Array.from(row.logits, (logit) => logit + 1)),
      })),
    };
    const file = join(folder, 'wrong.json');
    writeFileSync(file, JSON.stringify(wrong));
    const { code, out } = await gen(['verify', ...tiny, '--golden', file]);
    expect(code).toBe(1);
    expect(out).toMatch(/FAIL: 1 of 1 cases/);
  });
});

describe('bench', () => {
  it('measures each position and the prefill, on random weights too', async () => {
    const flags = [
      '--positions',
      '1,64',
      '--tokens',
      '8',
      '--prompt',
      '32',
      '--runs',
      '2',
      '--random-weights',
      '--json',
    ];
    const { code, out } = await gen(['bench', ...tiny, ...flags]);
    expect(code).toBe(0);
    const result = JSON.parse(out) as {
      decode: { position: number; tokensPerSecond: { median: number; least: number }; tokensHash: string }[];
      prefill: { tokens: number };
      machine: { before: object; after: object };
      hash: string;
    };
    expect(result.decode.map((figure) => figure.position)).toEqual([1, 64]);
    for (const { tokensPerSecond, tokensHash } of result.decode) {
      expect(tokensPerSecond.median).toBeGreaterThanOrEqual(tokensPerSecond.least);
      expect(tokensHash).toMatch(/^[0-9a-f]{12}$/);
    }
    expect(result.prefill.tokens).toBe(32);
  });

  it('measures a model that drafts beside the same without drafts', async () => {
    const flags = ['--positions', '1', '--tokens', '8', '--prompt', '0', '--runs', '3', '--json'];
    const { code, out } = await gen(['bench', ...tiny, '--draft', 'qwen3-tiny', ...flags]);
    expect(code).toBe(0);
    const { decode, runs } = JSON.parse(out) as {
      readonly runs: number;
      readonly decode: readonly {
        readonly tokensPerSecond: Spread;
        readonly drafts: { readonly plainTokensPerSecond: Spread; readonly gain: Spread };
      }[];
    };
    expect(runs).toBe(3);
    const { tokensPerSecond: drafted, drafts } = decode[0]!;
    const { plainTokensPerSecond: plain, gain } = drafts;
    // Run by run: within what the slowest and the fastest make of each other.
    expect(gain.least).toBeGreaterThanOrEqual(drafted.least / plain.most);
    expect(gain.most).toBeLessThanOrEqual(drafted.most / plain.least);
    expect(plain.median).not.toBe(drafted.median);
  });

  it('lists reports without a model', async () => {
    const { code, out } = await gen(['bench', '--reports', '--json']);
    expect(code).toBe(0);
    expect(Array.isArray(JSON.parse(out))).toBe(true);
  });
});

/** Of --json. */
interface Line {
  readonly piece?: { readonly text: string; readonly tokens: readonly number[] };
  readonly result?: { readonly text: string; readonly tokens: readonly number[] };
}

describe('chat and complete', () => {
  it('take model and prompt as words, and join a file and stdin to the prompt', async () => {
    const file = join(folder, 'words.txt');
    writeFileSync(file, 'of the file\n');
    const tokens = async (args: readonly string[], stdin?: string) => {
      const flags = ['--target', 'cpu', '--maxTokens', '1', '--json'];
      const { out } = await gen(['complete', 'qwen3-tiny', ...args, ...flags], stdin);
      const { result } = JSON.parse(out.trimEnd().split('\n').at(-1)!) as {
        result: { usage: { prompt: number } };
      };
      return result.usage.prompt;
    };
    const length = async (text: string) => {
      const { loadTokenizer } = await import('../../runtime/tokenizer/tokenizer.ts');
      return loadTokenizer(tinyDirectory).encode(text, { addSpecialTokens: true }).length;
    };
    expect(await tokens(['the word'])).toBe(await length('the word'));
    expect(await tokens([], 'two\nlines\n')).toBe(await length('two\nlines'));
    expect(await tokens(['a word', '--file', file], 'and stdin\n')).toBe(
      await length('a word\n\nof the file\n\nand stdin'),
    );
  });

  it('answer one question on stdout and tell the speed on stderr', async () => {
    const { code, out, err } = await gen(['chat', ...tiny, '--prompt', 'define water']);
    expect(out).toMatch(/^noun: binary compound .*\.\n$/);
    expect(err).toMatch(/\[\d+ tokens, [\d.]+ tok\/s, first after \d+ ms, prompt \d+\]/);
    expect(code).toBe(0);
  });

  it('answer each line of stdin with --lines', async () => {
    const { out } = await gen(
      ['chat', ...tiny, '--lines', '--quiet'],
      'define water\n\n/reset\nExplain foo.\n',
    );
    const lines = out.trimEnd().split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[0]).toMatch(/^noun: binary compound/);
    expect(lines[1]).toMatch(/sample name/);
  });

  it('leave on Ctrl-C while they wait for stdin: for its end, or for the next line of --lines', async () => {
    for (const flags of [
      ['--prompt', 'x'],
      ['--lines', '--quiet'],
    ]) {
      const stop = new AbortController();
      const { io, written } = memoryIo({ signal: stop.signal });
      const stdin = new PassThrough();
      stdin.write('define water\n');
      const out = (text: string) => {
        io.out(text);
        stop.abort();
      };
      if (flags.includes('--prompt')) setTimeout(() => stop.abort(), 10);
      expect(await run(['chat', ...tiny, ...flags], { ...io, stdin, out })).toBe(130);
      expect(written.out).toMatch(flags.includes('--prompt') ? /^$/ : /^noun: /);
    }
  });

  it('give the same reply for the same seed, and another for another', async () => {
    const reply = async (seed: string) => {
      const flags = [
        '--prompt',
        'The',
        '--temperature',
        '1.5',
        '--topK',
        '0',
        '--maxTokens',
        '16',
        '--seed',
        seed,
      ];
      return (await gen(['complete', ...tiny, ...flags, '--quiet'])).out;
    };
    expect(await reply('1')).toBe(await reply('1'));
    expect(await reply('1')).not.toBe(await reply('2'));
  });

  it('give a line of JSON for each piece and one for the result', async () => {
    const { out } = await gen(['complete', ...tiny, '--prompt', 'A kernel', '--maxTokens', '5', '--json']);
    const lines = out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
    const { result } = lines.at(-1)!;
    expect(result).toMatchObject({ finish: 'length', usage: { completion: 5 } });
    // How many tokens a piece holds is the reader's pace: a quick engine is read in one.
    const pieces = lines.slice(0, -1).map(({ piece }) => piece!);
    expect(pieces.length).toBeGreaterThan(0);
    expect(pieces.map(({ text }) => text).join('')).toBe(result!.text);
    expect(pieces.flatMap(({ tokens }) => tokens)).toEqual(result!.tokens);
  });

  it('say where the files of a model disagree, and end a chat at either of two tokens', async () => {
    const model = join(folder, 'two-ends');
    cpSync(join(root, 'models', 'qwen3-tiny'), model, { recursive: true });
    writeFileSync(join(model, 'generation_config.json'), JSON.stringify({ eos_token_id: 0 }));
    const flags = ['--model', model, '--target', 'cpu', '--prompt', 'define water', '--json'];
    const { out, err } = await gen(['chat', ...flags]);
    const { result } = JSON.parse(out.trimEnd().split('\n').at(-1)!);
    expect(result).toMatchObject({ finish: 'stop', text: expect.stringMatching(/^noun: binary/) });
    expect(err).toMatch(
      /^note: .*generation_config.json: a reply ends at token 0, .* a chat ends at either$/m,
    );
  });

  it('forget the oldest exchange when the context is full, and say so', async () => {
    const { code, err } = await gen(
      ['chat', ...tiny, '--lines', '--context', '96', '--maxTokens', '30'],
      'define water\n'.repeat(4),
    );
    expect(code).toBe(0);
    expect(err).toContain('the oldest question and its answer are forgotten');
  });
});

describe('demo', () => {
  it('builds, explains, verifies and answers', async () => {
    const { code, out, err } = await gen(['demo', '--target', 'cpu']);
    expect(code).toBe(0);
    expect(out).toContain('pass: 8 cases');
    expect(out).toContain('A program that is not invoked explicitly, but lies dormant');
    expect(out).toContain('A strife of interests masquerading as a contest of principles');
    expect(err.match(/tok\/s/g)).toHaveLength(3);
    expect(err).toMatch(/\nNext: gen chat qwen3-tiny\nIn a checkout gen is: npm run -s gen --\n$/);
  });
});

it.each([
  ['ENOSPC', undefined, 'free some space, or set ONELAUNCH_CACHE to a folder on another disk'],
  ['EDQUOT', '/elsewhere/mine.json', 'free some space'],
  ['EACCES', join(outputRoot(), 'lib'), 'set ONELAUNCH_CACHE to a folder that can be written'],
  ['EACCES', `${outputRoot()}-not/mine.json`, 'see who may use it: ls -ld'],
])('%s of %s is a fault of the environment, with what to do', (code, path, hint) => {
  const { io, written } = memoryIo();
  const error = Object.assign(new Error(`${code}: said the system`), { code, path });
  expect(report(error, io, { json: false, command: 'build' })).toBe(exitCode.environment);
  expect(written.err).toMatch(
    path === undefined ? /^error: ENOSPC: said/ : /^error: \/\S+ cannot be used: \S/,
  );
  expect(written.err).toContain(`hint: ${hint}\n`);
});

it('a working folder that is gone is named, whatever asks for it', () => {
  const { io, written } = memoryIo();
  const gone = new Error('ENOENT: no such file or directory, uv_cwd');
  const error = Object.assign(gone, { code: 'ENOENT', syscall: 'uv_cwd' });
  expect(report(error, io, { json: false, command: 'build' })).toBe(exitCode.environment);
  expect(written.err).toBe(
    'error: the folder that gen is called in is gone\nhint: change to one that is there: cd\n',
  );
});
