// gen quality: what it counts, that a kernel that is off is found out, and which text it takes.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it, test, vi } from 'vitest';
import { memoryIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { type Quality, qualityOf, qualityOfGolden } from '../../lab/quality.ts';
import { countedOf, readTexts } from '../../lab/quality-text.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { readGolden } from '../../runtime/verify/golden.ts';
import type { Scorer } from '../../runtime/verify/scorers.ts';
import { tinyDirectory } from '../support/model-directory.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-quality-'));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.unstubAllEnvs());

const dims = { layers: 2, hidden: 8, ffn: 8, qHeads: 2, headDim: 4 };
const options = { dims, dtype: 'bf16' as const, onTokens: () => {} };
const vocab = 4;

/** Logits that follow from the row, each off by `error` of its row. */
const scorer = (error: (row: number) => readonly number[] = () => [0, 0, 0, 0]): Scorer => ({
  vocab,
  reset: () => {},
  greedy: async () => [],
  score: async (ids, first, onRows) => {
    for (let row = first; row < ids.length; row++) {
      onRows(
        row,
        Float32Array.from([3, 1, 0, -1], (value, id) => value + error(row)[id]!),
      );
    }
  },
});

const text = {
  name: 'some',
  source: 'here',
  sequences: [
    { ids: [0, 1, 0, 2, 0], from: 2 },
    { ids: [0, 0], from: 1 },
  ],
};
const logSum = Math.log(Math.exp(3) + Math.exp(1) + Math.exp(0) + Math.exp(-1));

describe('quality', () => {
  it('of the reference itself is perfect, and counts each token that is not given once', async () => {
    const quality = await qualityOf(scorer(), scorer(), text, options);
    expect(quality).toMatchObject({ sequences: 2, tokens: 4, kl: { mean: 0, most: 0 }, problems: [] });
    expect(quality.top1).toEqual({ equal: 4, decided: 4, decidedEqual: 4 });
    // Tokens 0, 2, 0 and 0 of logits 3, 0, 3, 3.
    expect(quality.nll.reference).toBeCloseTo(logSum - 9 / 4, 6);
    expect(quality.perplexity.ours).toBeCloseTo(Math.exp(logSum - 9 / 4), 5);
  });

  it('of one row that is off is that of the formula', async () => {
    const shifted = scorer((row) => (row === 2 ? [0.01, 0, 0, 0] : [0, 0, 0, 0]));
    const { kl, nll, problems } = await qualityOf(shifted, scorer(), text, options);
    const p = Math.exp(3 - logSum);
    expect(kl.most).toBeCloseTo(Math.log(1 + p * (Math.exp(0.01) - 1)) - 0.01 * p, 7);
    expect(kl.mean).toBeCloseTo(kl.most / 4, 9);
    expect(nll.ours).toBeGreaterThan(nll.reference);
    expect(problems).toEqual([]);
  });

  it('names what no right kernel would do', async () => {
    const swapped = scorer((row) => (row === 3 ? [-4, 4, 0, 0] : [0, 0, 0, 0]));
    const { problems, top1 } = await qualityOf(swapped, scorer(), text, options);
    expect(top1.equal).toBe(3);
    expect(problems.map((problem) => problem.replaceAll(/\d[\d.e+-]*/g, '#'))).toEqual([
      'KL of a row # exceeds #',
      'NLL differs by #, more than #',
      '# best tokens differ that the reference decides',
    ]);
    const broken = await qualityOf(
      scorer(() => [Number.NaN, 0, 0, 0]),
      scorer(),
      text,
      options,
    );
    expect(broken.problems.length).toBeGreaterThan(0);
  });

  it('of a golden file is measured on its whole rows, and one without is refused', async () => {
    const logits = [3, 1, 0, -1];
    const one = { promptIds: [1], greedyIds: [0, 0], expected: [{ row: 0, kind: 'full' as const, logits }] };
    const golden = { source: 'file', vocab, decimals: null, nllDecimals: null, cases: [one] };
    expect(await qualityOfGolden(scorer(), golden, options)).toMatchObject({ tokens: 1, kl: { mean: 0 } });
    const tiny = readGolden(join(tinyDirectory, 'golden.json'));
    await expect(qualityOfGolden(scorer(), tiny, options)).rejects.toThrow('no whole row of logits');
  });
});

describe('text', () => {
  const tokenizer = loadTokenizer(tinyDirectory);
  const reader = { tokenizer, template: () => chatTemplate(tinyDirectory) };

  test('of questions counts the answers alone', () => {
    const path = join(folder, 'one.json');
    const entries = [{ question: 'What is a <|im_end|>?', answer: 'A mark.' }];
    writeFileSync(path, JSON.stringify({ source: 'here', texts: { some: entries } }));
    const [read] = readTexts(path, reader, 3);
    const { ids, from } = read!.sequences[0]!;
    expect(tokenizer.decode(ids.slice(from))).toBe('A mark.');
    expect(tokenizer.decode(ids.slice(0, from))).toContain('What is a <|im_end|>?');
  });

  test('that is plain is cut into sequences, of which so many tokens count', () => {
    const path = join(folder, 'plain.txt');
    writeFileSync(path, 'A word after another, and no end of it. '.repeat(100));
    const [read] = readTexts(path, reader, 600);
    expect(read!.sequences.reduce((sum, one) => sum + countedOf(one), 0)).toBe(600);
    expect(Math.max(...read!.sequences.map(({ ids }) => ids.length))).toBe(256);
    expect(() => readTexts(path, reader, 1_000_000)).toThrow('are asked for');
  });

  test('of the bundled model has 4,096 tokens that count of each kind, and what is held out was not trained on', () => {
    const read = readTexts(join(tinyDirectory, 'text.json'), reader, 4096);
    expect(read.map(({ name }) => name)).toEqual(['trained', 'held-out']);
    const [trained, heldOut] = read.map(({ sequences }) => new Set(sequences.map(({ ids }) => ids.join())));
    expect([...heldOut!].filter((ids) => trained!.has(ids))).toEqual([]);
  });
});

describe('gen quality', () => {
  const gen = async (...args: readonly string[]) => {
    const { io, written } = memoryIo();
    return { code: await run(['quality', ...args], io), ...written };
  };

  it('measures the bundled model within what its formats allow', async () => {
    const { code, out } = await gen('--model', 'qwen3-tiny', '--target', 'cpu', '--tokens', '40', '--json');
    expect(code).toBe(0);
    const { ok, texts } = JSON.parse(out) as { ok: boolean; texts: Quality[] };
    expect(ok).toBe(true);
    // It was trained on the one, and has never seen the other.
    expect(texts[0]!.perplexity.ours).toBeLessThan(texts[1]!.perplexity.ours);
    expect(texts[1]!.kl.mean).toBeGreaterThan(0);
  });

  const whole = `${tinyDirectory}/../../test/fixtures/qwen3-micro/golden.json`;
  it.each([
    [['--random-weights'], '--random-weights has nothing to compare with', '--golden FILE'],
    [['--golden', whole, '--text', 'x'], '--golden and --text are both given', 'leave one'],
    [['--golden', whole, '--tokens', '9'], '--golden and --tokens are both given', 'leave one'],
    [['--text', 'nowhere.txt'], 'nowhere.txt', ''],
    [['--tokens', '9000'], 'tokens that count, 9000 are asked for', '--tokens'],
  ])('refuses %j', async (flags, line, hint) => {
    const { code, err } = await gen('--model', 'qwen3-tiny', '--target', 'cpu', ...flags);
    expect(err).toContain(line);
    expect(err).toContain(hint);
    expect(code).toBe(2);
  });

  it.each([
    [['--text', 'nowhere.txt'], 'nowhere.txt'],
    [['--tokens', '9000'], 'tokens that count, 9000 are asked for'],
    [['--context', '5'], 'the context holds 5'],
  ])('says of %j what is wrong before it looks for a compiler', async (flags, line) => {
    vi.stubEnv('ONELAUNCH_CACHE', join(folder, 'cache'));
    vi.stubEnv('CXX', '/nowhere/c++');
    const { code, err } = await gen('--model', 'qwen3-tiny', '--target', 'cpu', ...flags);
    expect(err).toContain(line);
    expect(code).toBe(2);
  });
});
