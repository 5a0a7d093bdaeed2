// Settings that a file can spell twice: none is lost unread.
import { describe, expect, test } from 'vitest';
import { parseConfig, parseDims } from '../../codegen/model/parse-dims.ts';
import { type Setting, spellings } from '../../codegen/model/spellings.ts';
import { Problems } from '../../errors.ts';
import { refusalOf } from '../support/refusal.ts';

const plain = {
  model_type: 'llama',
  hidden_size: 64,
  intermediate_size: 128,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  vocab_size: 100,
  max_position_embeddings: 512,
};

/** Settings that a config needs besides the one that is looked at. */
const llama3 = {
  rope_type: 'llama3',
  rope_theta: 1e4,
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};

const yarn = { rope_type: 'yarn', rope_theta: 1e4, factor: 8, original_max_position_embeddings: 64 };
const scalingOf = (setting: Setting) =>
  ['betaFast', 'betaSlow', 'attentionFactor'].includes(setting) ? yarn : llama3;

/** Of each setting: two values that it can have, and where the dims show the one that was read. */
const values: Record<Setting, readonly [first: unknown, second: unknown, shown: (dims: object) => unknown]> =
  {
    dtype: ['float16', 'bfloat16', (dims) => ({ fp16: 'float16', bf16: 'bfloat16' })[at(dims, 'dtype')]],
    ropeType: ['llama3', 'default', (dims) => at(dims, 'ropeScaling', 'type') ?? 'default'],
    ropeTheta: [2e4, 3e4, (dims) => at(dims, 'ropeTheta')],
    factor: [4, 16, (dims) => at(dims, 'ropeScaling', 'factor')],
    lowFreqFactor: [1.5, 2, (dims) => at(dims, 'ropeScaling', 'lowFreqFactor')],
    highFreqFactor: [5, 6, (dims) => at(dims, 'ropeScaling', 'highFreqFactor')],
    originalPositions: [32, 128, (dims) => at(dims, 'ropeScaling', 'originalPositions')],
    betaFast: [16, 24, (dims) => at(dims, 'ropeScaling', 'betaFast')],
    betaSlow: [2, 3, (dims) => at(dims, 'ropeScaling', 'betaSlow')],
    attentionFactor: [1.5, 1.25, (dims) => at(dims, 'ropeScaling', 'attention')],
    partialRotary: [1, 0.5, () => 1],
  };

function at(value: unknown, ...path: readonly string[]): string {
  return path.reduce(
    (inner: unknown, key) => (inner as Record<string, unknown> | null)?.[key],
    value,
  ) as string;
}

/** A config with this value in a spelling; `rope` is rope_scaling, `other` rope_parameters. */
function put(config: Record<string, unknown>, spelling: string, value: unknown): Record<string, unknown> {
  const [place, inner] = spelling.split('.') as [string, string | undefined];
  if (inner === undefined) return { ...config, [place]: value };
  const key = place === 'rope' ? 'rope_scaling' : 'rope_parameters';
  return { ...config, [key]: { ...(config[key] as object | undefined), [inner]: value } };
}
const without = (dictionary: object, keys: readonly string[]) =>
  Object.fromEntries(Object.entries(dictionary).filter(([key]) => !keys.includes(key)));

const settings = Object.keys(spellings) as Setting[];
const pairs = settings.flatMap((setting) =>
  spellings[setting].flatMap((first, i) =>
    spellings[setting]
      .slice(i + 1)
      .map((second) => ({ setting, first: first as string, second: second as string })),
  ),
);
const named = (spelling: string) =>
  spelling.replace(/^rope\./, 'rope_scaling.').replace(/^other\./, 'rope_parameters.');

/** A config whose setting has these two spellings and no third. */
function twice({ setting, first, second }: (typeof pairs)[number], [a, b]: readonly [unknown, unknown]) {
  const inner = spellings[setting].map((spelling) => spelling.split('.').at(-1)!);
  const base = { ...plain, dtype: 'bfloat16', rope_scaling: without(scalingOf(setting), inner) };
  const bare = setting === 'dtype' ? without(base, ['dtype']) : base;
  return put(put(bare, first, a), second, b);
}

describe('a setting with two spellings', () => {
  test.each(pairs.filter(({ first }) => !first.startsWith('other')))(
    'of $setting, $first counts over $second, and a note names both',
    (pair) => {
      const [first, second, shown] = values[pair.setting];
      if (pair.setting === 'partialRotary') {
        // Only 1 can be computed: any other value is refused, whichever spelling has it.
        for (const one of [[first, second] as const, [second, first] as const])
          expect(refusalOf(() => parseDims(twice(pair, one), 'm')).message).toContain(
            'partial_rotary_factor is 0.5',
          );
        return;
      }
      for (const [a, b] of [[first, second] as const, [second, first] as const]) {
        const { dims, notes } = parseConfig(twice(pair, [a, b]), 'm');
        expect(shown(dims)).toBe(a);
        const names = [named(pair.first), named(pair.second)];
        expect(notes).toEqual([
          `config.json of m: ${names[0]} is ${JSON.stringify(a)} and ${names[1]} is ${JSON.stringify(b)}: ${names[0]} counts, as in transformers`,
        ]);
      }
    },
  );

  test.each(pairs)('of $setting, $first and $second may agree', (pair) => {
    const [value] = values[pair.setting];
    const read = () => parseConfig(twice(pair, [value, value]), 'm').notes;
    // What rope_scaling does not repeat is refused below.
    if (pair.first.startsWith('other')) expect(read).toThrow('takes the place of all of');
    else expect(read()).toEqual([]);
  });

  test.each(settings.filter((setting) => spellings[setting].some((one) => one.startsWith('other.'))))(
    'of $0 is refused where only the dictionary that is not taken has it',
    (setting) => {
      const spelling = spellings[setting].find((one) => one.startsWith('other.'))!;
      const inner = spellings[setting].map((one) => one.split('.').at(-1)!);
      const config = put(
        { ...plain, dtype: 'bfloat16', rope_scaling: without(scalingOf(setting), inner) },
        spelling,
        values[setting][0],
      );
      const error = refusalOf(() => parseDims(config, 'm'));
      const messages = error instanceof Problems ? error.problems.map((one) => one.message) : [error.message];
      expect(messages.filter((text) => text.includes('rope_scaling takes the place of all of'))).toHaveLength(
        1,
      );
    },
  );

  test('of the rotary scaling is refused as the one that counts would be alone', () => {
    const dynamic = { type: 'dynamic', factor: 4, original_max_position_embeddings: 128 };
    const config = {
      ...plain,
      dtype: 'bfloat16',
      rope_parameters: { rope_type: 'default' },
      rope_scaling: dynamic,
    };
    expect(refusalOf(() => parseDims(config, 'm')).message).toBe(
      'config.json of m: rope_scaling.rope_type is "dynamic", supported: default, linear, llama3, yarn, longrope',
    );
  });

  test('is one where a dictionary is empty', () => {
    const config = { ...plain, dtype: 'bfloat16', rope_parameters: llama3, rope_scaling: {} };
    expect(parseConfig(config, 'm')).toMatchObject({ dims: { ropeScaling: { factor: 8 } }, notes: [] });
  });
});

test('a second configuration inside the file is refused, and not left unread', () => {
  const config = { ...plain, dtype: 'bfloat16', text_config: { tie_word_embeddings: true } };
  expect(refusalOf(() => parseDims(config, 'm')).message).toContain(
    'text_config holds a second configuration',
  );
});

describe('windows', () => {
  const qwen3 = {
    ...plain,
    ...{ model_type: 'qwen3', dtype: 'bfloat16', num_hidden_layers: 4, num_key_value_heads: 2 },
  };
  const windowed = { ...qwen3, use_sliding_window: true, sliding_window: 16 };
  const types = (...letters: string[]) =>
    letters.map((letter) => (letter === 's' ? 'sliding_attention' : 'full_attention'));
  const none = { kinds: [{ name: 'layer', window: null, rope: true }], pattern: ['layer'] };
  const window = { name: 'window', window: 16, rope: true };
  const full = { name: 'full', window: null, rope: true };

  const cases: [what: string, config: object, kinds: object][] = [
    ['are off without use_sliding_window', { ...qwen3, sliding_window: 16, max_window_layers: 0 }, none],
    [
      'begin at max_window_layers',
      { ...windowed, max_window_layers: 3 },
      { kinds: [full, window], pattern: ['full', 'full', 'full', 'window'] },
    ],
    ['are none where max_window_layers is the number of layers', { ...windowed, max_window_layers: 4 }, none],
    ['are none where max_window_layers is left out of a model of 28 layers or less', windowed, none],
    [
      'are in all layers where max_window_layers is 0',
      { ...windowed, max_window_layers: 0 },
      { kinds: [window], pattern: ['window'] },
    ],
    ['are none where no context is longer', { ...windowed, sliding_window: 512, max_window_layers: 0 }, none],
    [
      'are none where sliding_window is null',
      { ...windowed, sliding_window: null, max_window_layers: 0 },
      none,
    ],
    [
      'have 4096 positions where sliding_window is left out',
      { ...windowed, sliding_window: undefined, max_window_layers: 0, max_position_embeddings: 8192 },
      { kinds: [{ ...window, window: 4096 }], pattern: ['window'] },
    ],
    [
      'are where layer_types says',
      { ...windowed, max_window_layers: 0, layer_types: types('s', 'f', 's', 'f') },
      { kinds: [full, window], pattern: ['window', 'full'] },
    ],
    [
      'are none in a Llama, whose classes have no such keys',
      { ...windowed, model_type: 'llama', max_window_layers: 0, layer_types: types('s', 's', 's', 's') },
      none,
    ],
  ];
  const mistral = { ...windowed, model_type: 'mistral', use_sliding_window: undefined };
  const smollm3 = { ...qwen3, model_type: 'smollm3', num_hidden_layers: 8 };
  const unrotated = { name: 'unrotated', window: null, rope: false };
  const sliding = { use_sliding_window: true, sliding_window: 16 };
  cases.push(
    ['are in all layers of a Mistral', mistral, { kinds: [window], pattern: ['window'] }],
    ['are in none of its layers where sliding_window is null', { ...mistral, sliding_window: null }, none],
    [
      'have 4096 positions in a Mistral without sliding_window',
      { ...mistral, sliding_window: undefined, max_position_embeddings: 8192 },
      { kinds: [{ ...window, window: 4096 }], pattern: ['window'] },
    ],
    [
      'are none in a SmolLM3, of which every fourth layer is not rotated',
      { ...smollm3, sliding_window: 16, max_window_layers: 0 },
      { kinds: [full, unrotated], pattern: ['full', 'full', 'full', 'unrotated'] },
    ],
    [
      'of a SmolLM3 are in the layers that are not rotated',
      { ...smollm3, ...sliding, no_rope_layer_interval: 2, max_window_layers: 0 },
      {
        kinds: [full, { ...unrotated, name: 'window_unrotated', window: 16 }],
        pattern: ['full', 'window_unrotated'],
      },
    ],
    [
      'of a SmolLM3 are where layer_types says',
      { ...smollm3, ...sliding, no_rope_layers: [1, 1, 0, 0, 1, 1, 0, 0], layer_types: types(...'fsfsfsfs') },
      {
        kinds: [full, window, unrotated, { ...unrotated, name: 'window_unrotated', window: 16 }],
        pattern: ['full', 'window', 'unrotated', 'window_unrotated'],
      },
    ],
    [
      'and positions are as in a Llama where no_rope_layers has a 1 for all',
      { ...smollm3, no_rope_layers: Array(9).fill(1) },
      none,
    ],
  );
  test.each(cases)('%s', (_, config, kinds) => {
    expect(parseDims(config, 'm')).toMatchObject(kinds);
  });

  const refused: [config: object, message: string][] = [
    [
      { ...qwen3, layer_types: types('s', 'f', 'f', 'f') },
      'layer_types has sliding_attention, and no window is set',
    ],
    [{ ...windowed, layer_types: types('s') }, 'layer_types has 1 entries, must have num_hidden_layers, 4'],
    [
      { ...windowed, sliding_window: 2.5, max_window_layers: 0 },
      'sliding_window is 2.5, must be a whole number of 1 or more',
    ],
    [
      { ...windowed, layer_types: ['chunked_attention', ...types('f', 'f', 'f')] },
      'layer_types is "chunked_attention", supported: full_attention, sliding_attention',
    ],
    [
      { ...smollm3, no_rope_layers: [1, 1, 0] },
      'no_rope_layers has 3 entries, must have num_hidden_layers, 8',
    ],
    [
      { ...smollm3, no_rope_layer_interval: 0 },
      'no_rope_layer_interval is 0, must be a whole number of 1 or more',
    ],
    [
      { ...smollm3, layer_types: types(...'ffffffss') },
      'layer_types has sliding_attention, and no window is set',
    ],
    [{ ...mistral, sliding_window: 0 }, 'sliding_window is 0, must be a whole number of 1 or more'],
  ];
  test.each(refused)('of %j are refused', (config, message) => {
    expect(refusalOf(() => parseDims(config, 'm')).message).toBe(`config.json of m: ${message}`);
  });

  test('that layer_types and max_window_layers give to other layers are told', () => {
    const config = { ...windowed, max_window_layers: 0, layer_types: types('f', 'f', 'f', 'f') };
    const { dims, notes } = parseConfig(config, 'm');
    expect(dims).toMatchObject(none);
    expect(notes[0]).toContain('layer_types counts, as in transformers');
  });

  test('that a Mistral takes from sliding_window alone are told where layer_types says other', () => {
    const { dims, notes } = parseConfig({ ...mistral, layer_types: types('s', 'f', 's', 'f') }, 'm');
    expect(dims).toMatchObject({ pattern: ['window'] });
    expect(notes[0]).toContain('sliding_window counts, as in transformers');
  });
});
