import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { OnelaunchError } from '../../errors.ts';
import { readGolden } from '../../runtime/verify/golden.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'golden-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Two new tokens over five ids, with the logits in a file. */
const rows = Float32Array.from([3, 1, 0, -1, -2.5, 0.125, 4.25, 1, 0, 0]);
const exact = {
  prompt_ids: [1, 2, 3],
  greedy_ids: [0, 1],
  margin: [2, 3],
  top5_ids: [
    [0, 1],
    [1, 2],
  ],
  top5_logits: [
    [3, 1],
    [4.25, 1],
  ],
  nll: 0.5,
  logits_file: 'rows.f32',
};
const listed = { ...exact, logits_file: undefined };

describe('the three shapes', () => {
  test('a fixture gives the whole row after its prompt', () => {
    const golden = readGolden(join(root, 'test/fixtures/qwen3-micro/golden.json'));
    expect(golden).toMatchObject({ vocab: 512, decimals: 4, nllDecimals: 6 });
    expect(golden.cases.map((c) => [c.promptIds.length, c.greedyIds.length, c.nll?.rows])).toEqual([
      [1, 24, 24],
      [7, 24, 30],
      [40, 24, 63],
      [130, 24, 153],
    ]);
    expect(golden.cases[1]?.expected).toMatchObject([{ row: 6, kind: 'full', logits: { length: 512 } }]);
  });

  test('greedy ids made with id 0 masked as padding are marked', () => {
    const golden = readGolden(join(root, 'test/fixtures/llama3-micro/golden.json'));
    expect(golden.cases.map((c) => c.greedyUnusable !== undefined)).toEqual([false, false, false, true]);
  });

  test('a model gives its five best ids for every new token', () => {
    const golden = readGolden(join(root, 'models/qwen3-tiny/golden.json'));
    expect(golden).toMatchObject({ decimals: 5, nllDecimals: 6 });
    expect(golden.vocab).toBeUndefined();
    const first = golden.cases[0]!;
    expect(first.expected).toHaveLength(80);
    expect(first.expected[1]).toEqual({
      row: 15,
      kind: 'top',
      ids: [1049, 1566, 1031, 1718, 296],
      logits: [33.47106, 29.75519, 28.21571, 26.3431, 25.82009],
    });
    expect(first.margin?.[1]).toBeCloseTo(33.47106 - 29.75519, 10);
    expect(first.nll).toEqual({ value: 3.259046, rows: 14 });
  });

  test('a logits file gives every whole row, exactly', () => {
    const golden = readGolden(write([exact], rows));
    expect(golden).toMatchObject({ vocab: 5, decimals: null, nllDecimals: 1 });
    expect(golden.cases[0]?.expected).toEqual([
      { row: 2, kind: 'full', logits: rows.subarray(0, 5) },
      { row: 3, kind: 'full', logits: rows.subarray(5) },
    ]);
    expect(golden.cases[0]?.nll?.rows).toBe(4);
  });
});

describe('broken files', () => {
  const wrong: Record<string, () => string> = {
    'no such file': () => join(folder, 'none.json'),
    'not JSON': () => writeText('{"source": '),
    'no source': () => writeText(JSON.stringify({ cases: [exact] })),
    'no cases': () => write([]),
    'no prompt': () => write([{ ...listed, prompt_ids: [] }]),
    'no greedy ids': () => write([{ ...listed, greedy_ids: undefined }]),
    'a negative id': () => write([{ ...listed, prompt_ids: [1, -2] }]),
    'nothing to compare': () => write([{ ...listed, top5_ids: undefined, top5_logits: undefined }]),
    'ids without logits': () => write([{ ...listed, top5_logits: undefined }]),
    'a short margin': () => write([{ ...listed, margin: [1] }]),
    'too few rows': () => write([{ ...listed, top5_ids: [[0, 1]] }]),
    'a short row': () => write([{ ...listed, top5_logits: [[3, 1], [4]] }]),
    'an unsorted row': () =>
      write([
        {
          ...listed,
          top5_logits: [
            [3, 1],
            [1, 4],
          ],
        },
      ]),
    'an id outside the vocabulary': () => write([{ ...exact, prompt_ids: [1, 5] }], rows),
    'a listed id outside the vocabulary': () =>
      write(
        [
          {
            ...exact,
            top5_ids: [
              [0, 1],
              [1, 7],
            ],
          },
        ],
        rows,
      ),
    'two vocabularies': () => write([exact, { ...listed, last_prompt_logits: [1, 2, 3, 4] }], rows),
    'no logits file': () => write([{ ...exact, logits_file: 'other.f32' }]),
    'a logits file elsewhere': () => write([{ ...exact, logits_file: '../rows.f32' }], rows),
    'a cut logits file': () => write([exact], rows.subarray(0, 9)),
    'an empty logits file': () => write([exact], rows.subarray(0, 0)),
    'a logits file of another run': () =>
      write(
        [exact],
        Float32Array.from(rows, (v) => v * 1.01),
      ),
    'a logits file with a NaN': () =>
      write(
        [exact],
        Float32Array.from(rows, (v) => (v === 4.25 ? Number.NaN : v)),
      ),
  };
  const messages: string[] = [];

  test.each(Object.keys(wrong))('%s is refused', (name) => {
    const path = wrong[name]!();
    let error: unknown;
    try {
      readGolden(path);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(OnelaunchError);
    expect((error as OnelaunchError).kind).toBe('usage');
    expect((error as OnelaunchError).message).toContain(path);
    messages.push(`${name}: ${(error as Error).message.replaceAll(path, 'golden.json')}`);
  });

  test('every message says what is wrong', () => {
    expect(messages).toHaveLength(Object.keys(wrong).length);
    expect(messages.join('\n')).toMatchInlineSnapshot(`
      "no such file: cannot read the golden file golden.json
      not JSON: golden.json:1:12: not valid JSON, the file ends too early
      no source: broken golden file golden.json: source is missing
      no cases: broken golden file golden.json: cases is [], expected at least 1 item
      no prompt: broken golden file golden.json: cases[0].prompt_ids is [], expected at least 1 item
      no greedy ids: broken golden file golden.json: cases[0].greedy_ids is missing
      a negative id: broken golden file golden.json: cases[0].prompt_ids[1] is -2, expected at least 0
      nothing to compare: broken golden file golden.json: cases[0] has nothing to compare: last_prompt_logits, top5_ids and top5_logits, or logits_file
      ids without logits: broken golden file golden.json: cases[0] has top5_ids without top5_logits
      a short margin: broken golden file golden.json: cases[0].margin has 1 entries; 2 are needed, one for each of greedy_ids
      too few rows: broken golden file golden.json: cases[0].top5_ids has 1 entries; 2 are needed, one for each of greedy_ids
      a short row: broken golden file golden.json: cases[0].top5_logits[1] has 1 entries; 2 are needed, one for each of top5_ids[1]
      an unsorted row: broken golden file golden.json: cases[0].top5_logits[1] is not sorted
      an id outside the vocabulary: broken golden file golden.json: cases[0].prompt_ids has id 5; the vocabulary is 5
      a listed id outside the vocabulary: broken golden file golden.json: cases[0].top5_ids[1] has id 7; the vocabulary is 5
      two vocabularies: broken golden file golden.json: cases[1].last_prompt_logits has 4 logits a row; the vocabulary is 5
      no logits file: broken golden file golden.json: cases[0].logits_file: there is no other.f32 beside it
      a logits file elsewhere: broken golden file golden.json: cases[0].logits_file is ../rows.f32; it must be a file in the same folder
      a cut logits file: broken golden file golden.json: cases[0].logits_file: rows.f32 has 36 bytes, not 2 rows of float32
      an empty logits file: broken golden file golden.json: cases[0].logits_file: rows.f32 has 0 bytes, not 2 rows of float32
      a logits file of another run: broken golden file golden.json: cases[0].logits_file row 0 says 3.0299999713897705 for id 0, but top5_logits 3: the file is of another run
      a logits file with a NaN: broken golden file golden.json: cases[0].logits_file: rows.f32 holds NaN at float 6"
    `);
  });

  test('a golden file of another vocabulary is refused', () => {
    expect(() => readGolden(write([exact], rows), { vocab: 6 })).toThrow(
      'has 5 logits a row; the vocabulary is 6',
    );
  });
});

function write(cases: readonly object[], logits?: Float32Array): string {
  const path = writeText(JSON.stringify({ source: 'test', cases }));
  if (logits) {
    const bytes = Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength);
    writeFileSync(join(path, '../rows.f32'), bytes);
  }
  return path;
}

function writeText(text: string): string {
  const path = join(mkdtempSync(join(folder, 'case-')), 'golden.json');
  writeFileSync(path, text);
  return path;
}
