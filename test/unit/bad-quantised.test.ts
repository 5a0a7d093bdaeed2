// Quantised checkpoints that cannot be run: one line each, with a hint, before anything is compiled.
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readModel, readModelDims } from '../../codegen/model/read-config.ts';
import type { OnelaunchError } from '../../errors.ts';
import { preflight } from '../../preflight.ts';
import { checkpointTensors } from '../../runtime/weights/checkpoint.ts';
import { type Edit, kinds, writeQuantised } from '../support/quantised-model.ts';
import { failureOf } from '../support/refusal.ts';

const source = join(import.meta.dirname, '../fixtures/qwen3-micro');
const root = mkdtempSync(join(tmpdir(), 'onelaunch-bad-quantised-'));
afterAll(() => rmSync(root, { recursive: true }));

const matrix = 'model.layers.0.self_attn.q_proj';
const only = (name: string) => name.startsWith(matrix);
/** One setting of quantization_config. */
const with_ =
  (key: string, value: unknown): Edit =>
  (_, { quantization_config: config }) => {
    config[key] = value;
  };
/** One setting of the weights of compressed-tensors. */
const weights =
  (key: string, value: unknown): Edit =>
  (_, { quantization_config: config }) => {
    config.config_groups.group_0.weights[key] = value;
  };
const without =
  (part: string): Edit =>
  (tensors) => {
    delete tensors[`${matrix}.${part}`];
  };
/** Several edits. */
const all =
  (...edits: readonly Edit[]): Edit =>
  (tensors, config) => {
    for (const edit of edits) edit(tensors, config);
  };
/** A part in another shape or type, its bytes cut or filled up. */
const reshaped =
  (part: string, dtype: string, shape: number[]): Edit =>
  (tensors) => {
    const width = { I8: 1, F8_E4M3: 1, F16: 2, BF16: 2, F32: 4, I32: 4, I64: 8 }[dtype]!;
    const data = new Uint8Array(shape.reduce((a, b) => a * b, 1) * width);
    data.set(tensors[`${matrix}.${part}`]!.data.subarray(0, data.length));
    tensors[`${matrix}.${part}`] = { dtype, shape, data };
  };
const patched =
  (part: string, at: number, byte: number): Edit =>
  (tensors) => {
    const tensor = tensors[`${matrix}.${part}`]!;
    const data = Uint8Array.from(tensor.data);
    data[at] = byte;
    tensors[`${matrix}.${part}`] = { ...tensor, data };
  };

/** A group of rotations, one at each place. */
const rotated = (...locations: string[]) => ({
  type: 'hadamard',
  apply: locations.map((location) => ({ targets: ['Linear'], location })),
});

/** Of symmetric codes, each byte of their zero points this one. */
const symmetricBut = (byte: number): Edit =>
  all(weights('symmetric', true), (tensors) => {
    const zero = tensors[`${matrix}.weight_zero_point`]!;
    tensors[`${matrix}.weight_zero_point`] = { ...zero, data: new Uint8Array(zero.data.length).fill(byte) };
  });

const [fp8, gptq, awq, packed, zeros, eights] = [
  'fp8, blocks of 128',
  'GPTQ of 4 bits, symmetric',
  'AWQ, groups of 128',
  'packed int4',
  'packed int4, zero points',
  'int8, zero points',
] as const;
type Case = readonly [what: string, kind: string, edit: Edit, message: string | RegExp];
const bad: readonly Case[] = [
  ['no method', gptq, with_('quant_method', undefined), 'quantization_config.quant_method is missing'],
  [
    'a list',
    gptq,
    (_, config) => (config['quantization_config'] = []),
    'quantization_config.quant_method is missing',
  ],
  [
    'bitsandbytes',
    gptq,
    with_('quant_method', 'bitsandbytes'),
    '.quant_method is "bitsandbytes", supported: fp8, gptq, awq, compressed-tensors',
  ],
  [
    'a method called as a property of objects is',
    gptq,
    with_('quant_method', 'toString'),
    '.quant_method is "toString"',
  ],
  ['GPTQ of 3 bits', gptq, with_('bits', 3), 'quantization_config.bits is 3, supported: 4, 8'],
  ['GPTQ of no bits', gptq, with_('bits', null), 'quantization_config.bits is null'],
  [
    'GPTQ in the order of activations',
    gptq,
    with_('desc_act', true),
    'quantization_config.desc_act is true, supported: false',
  ],
  [
    'GPTQ with settings of single matrices',
    gptq,
    with_('dynamic', { '+:.*down.*': { bits: 8 } }),
    'quantization_config.dynamic is {"+:.*down.*":{"bits":8}}, supported: one setting',
  ],
  [
    'GPTQ of marlin',
    gptq,
    with_('checkpoint_format', 'marlin'),
    '.checkpoint_format is "marlin", supported: gptq, gptq_v2',
  ],
  [
    'groups of none',
    gptq,
    with_('group_size', 0),
    'quantization_config.group_size is 0, supported: -1, or a multiple of 8',
  ],
  [
    'groups of a text',
    gptq,
    with_('group_size', '128'),
    'quantization_config.group_size is "128", which is not valid there',
  ],
  [
    'groups that do not divide a row',
    gptq,
    with_('group_size', 96),
    'has 128 columns, which are not whole groups of 96',
  ],
  [
    'groups of another size than the scales',
    gptq,
    with_('group_size', 64),
    `${matrix}.scales is [1, 256], [2, 256] is needed`,
  ],
  ['AWQ of 8 bits', awq, with_('bits', 8), 'quantization_config.bits is 8, supported: 4'],
  [
    'AWQ of another version',
    awq,
    with_('version', 'gemv'),
    'quantization_config.version is "gemv", supported: gemm',
  ],
  [
    'AWQ without zero points',
    awq,
    with_('zero_point', false),
    'quantization_config.zero_point is false, supported: true',
  ],
  [
    'fp8 of five bits of exponent',
    fp8,
    with_('fmt', 'e5m2'),
    'quantization_config.fmt is "e5m2", supported: e4m3',
  ],
  [
    'fp8 in blocks of one size',
    fp8,
    with_('weight_block_size', [128]),
    'quantization_config.weight_block_size',
  ],
  [
    'fp8 in blocks of nothing',
    fp8,
    with_('weight_block_size', [0, 128]),
    'quantization_config.weight_block_size.0 is 0',
  ],
  [
    'a format that is not read',
    packed,
    with_('format', 'nvfp4-pack-quantized'),
    '.format is "nvfp4-pack-quantized", supported: pack-quantized, int-quantized',
  ],
  [
    'two groups of settings',
    packed,
    (_, { quantization_config: config }) => (config.config_groups.more = config.config_groups.group_0),
    'quantization_config.config_groups is ["group_0","more"], supported: one group',
  ],
  [
    'no weights in a group',
    packed,
    (_, { quantization_config: config }) => (config.config_groups.group_0 = {}),
    'quantization_config.config_groups.group_0.weights is missing',
  ],
  ['packed 2 bits', packed, weights('num_bits', 2), '.weights.num_bits is 2, supported: 4, 8'],
  [
    'packed floats',
    packed,
    weights('type', 'float'),
    '.weights.type is "float", supported: int in pack-quantized',
  ],
  [
    'columns in another order',
    packed,
    weights('actorder', 'group'),
    '.weights.actorder is "group", supported: null, "weight"',
  ],
  [
    'an unknown strategy',
    packed,
    weights('strategy', 'token'),
    '.weights.strategy is "token", supported: tensor, channel, group, block',
  ],
  [
    'a strategy without its size',
    packed,
    weights('group_size', null),
    '.weights.group_size is null, supported: a multiple of 8',
  ],
  ...[4, 12].map(
    (size): Case => [
      `groups of ${size}`,
      packed,
      weights('group_size', size),
      `.weights.group_size is ${size}, supported: a multiple of 8`,
    ],
  ),
  [
    'sparse matrices',
    packed,
    with_('sparsity_config', { format: 'sparse-24-bitmask' }),
    '.sparsity_config.format is "sparse-24-bitmask", supported: dense',
  ],
  [
    'rotations of activations, as QuIP leaves them',
    packed,
    with_('transform_config', { config_groups: { v: rotated('weight_input', 'input') } }),
    '.transform_config.config_groups.v.apply.1.location is "input", supported: weight_input, weight_output',
  ],
  ['no scales', packed, without('weight_scale'), `${matrix}.weight_scale is missing`],
  ['no zero points', zeros, without('weight_zero_point'), `${matrix}.weight_zero_point is missing`],
  ['no scales of GPTQ', gptq, without('scales'), `${matrix}.scales is missing`],
  ['no zero points of GPTQ', gptq, without('qzeros'), `${matrix}.qzeros is missing`],
  ['no scales of fp8', fp8, without('weight_scale_inv'), `${matrix}.weight_scale_inv is missing`],
  ['no codes', awq, without('qweight'), 'config.json says awq, and no tensor is called qweight'],
  [
    'codes of another type',
    awq,
    reshaped('qweight', 'F32', [128, 32]),
    `${matrix}.qweight is F32, I32 is needed`,
  ],
  [
    'codes in a row',
    packed,
    reshaped('weight_packed', 'I32', [4096]),
    `${matrix}.weight_packed is [4096], not a matrix`,
  ],
  [
    'scales of whole numbers',
    packed,
    reshaped('weight_scale', 'I32', [256, 4]),
    `${matrix}.weight_scale is I32, F16 or BF16 or F32 is needed`,
  ],
  [
    'scales of fewer rows',
    packed,
    reshaped('weight_scale', 'BF16', [255, 4]),
    `${matrix}.weight_scale is [255, 4], [256, 4] is needed`,
  ],
  [
    'scales of too few blocks',
    fp8,
    reshaped('weight_scale_inv', 'F32', [1, 1]),
    `${matrix}.weight_scale_inv is [1, 1], [2, 1] is needed`,
  ],
  [
    'zero points of too few groups',
    awq,
    reshaped('qzeros', 'I32', [1, 16]),
    `${matrix}.qzeros is [1, 16], [1, 32] is needed`,
  ],
  [
    'zero points of another type',
    eights,
    reshaped('weight_zero_point', 'I32', [256, 4]),
    `${matrix}.weight_zero_point is I32, I8 is needed`,
  ],
  [
    'a zero point of a whole matrix',
    eights,
    all(
      weights('strategy', 'tensor'),
      reshaped('weight_scale', 'BF16', [1]),
      reshaped('weight_zero_point', 'I8', [1]),
    ),
    `${matrix}.weight_zero_point is of a whole matrix`,
  ],
  [
    'fp8 with zero points',
    'fp8 of compressed-tensors, a row',
    weights('symmetric', false),
    '.weights.symmetric is false, supported: true in float-quantized',
  ],
  [
    'symmetric codes with zero points, packed',
    zeros,
    symmetricBut(0x77),
    `${matrix}.weight_zero_point is not all zeros, and config.json says that the codes are symmetric`,
  ],
  [
    'symmetric codes with zero points of 8 bits',
    eights,
    symmetricBut(1),
    `${matrix}.weight_zero_point is not all zeros, and config.json says that the codes are symmetric`,
  ],
  [
    'codes of fewer columns than the model has',
    packed,
    reshaped('weight_packed', 'I32', [256, 8]),
    'which are not whole groups|says|is needed',
  ],
  [
    'another shape than the codes have',
    packed,
    patched('weight_shape', 8, 64),
    `${matrix}.weight_shape says [256, 64], the codes are of [256, 128]`,
  ],
  [
    'a column in another group',
    gptq,
    patched('g_idx', 4 * 7, 5),
    `${matrix}.g_idx puts column 7 in another group than its place says`,
  ],
  [
    'columns in an order of their own',
    packed,
    (tensors) => {
      tensors[`${matrix}.weight_g_idx`] = { dtype: 'I32', shape: [128], data: new Uint8Array(4 * 128) };
    },
    `${matrix}.weight_g_idx puts columns in another order`,
  ],
  [
    'codes of another model',
    awq,
    reshaped('qweight', 'I32', [128, 16]),
    /scales is \[1, 256\], \[1, 128\] is needed/,
  ],
  [
    'fp8 with int8 inside',
    fp8,
    reshaped('weight', 'I8', [256, 128]),
    `${matrix}.weight is I8, F8_E4M3 is needed`,
  ],
  [
    'a config of no quantisation',
    gptq,
    (_, config) => delete config['quantization_config'],
    /lacks .*q_proj.weight/,
  ],
];

let next = 0;
const refusal = (directory: string): Promise<OnelaunchError> =>
  failureOf(preflight({ model: directory, target: 'cpu' }, { weights: true }));

test.each(bad)('%s', async (_, kind, edit, message) => {
  const directory = join(root, String(next++));
  writeQuantised(source, directory, kinds[kind]!, { only, edit });
  const error = await refusal(directory);
  expect(error.kind).toBe('usage');
  if (typeof message === 'string' && message.includes('|'))
    expect(error.message).toMatch(new RegExp(message));
  else if (typeof message === 'string') expect(error.message).toContain(message);
  else expect(error.message).toMatch(message);
  expect(error.message.split('\n')).toHaveLength(1);
  expect(error.hint).toMatch(/./);
});

test('a file that is cut short is refused as any other', async () => {
  const directory = join(root, 'cut');
  writeQuantised(source, directory, kinds[awq]!, { only });
  const file = join(directory, 'model.safetensors');
  truncateSync(file, readFileSync(file).length - 100);
  expect((await refusal(directory)).message).toContain('it is cut short');
  writeFileSync(file, '');
  expect((await refusal(directory)).kind).toBe('usage');
});

test.each([null, {}, { config_groups: { u: rotated('weight_input', 'weight_output') } }])(
  'rotations that are part of the weights are none to compute: %j',
  (transforms) => {
    const folder = mkdtempSync(join(root, 'rotated-'));
    writeQuantised(source, folder, kinds[packed]!, { only, edit: with_('transform_config', transforms) });
    expect(readModelDims(folder).weights?.layers).toBe('int4');
  },
);

test.each([
  [zeros, 0x88],
  [zeros, 0],
  [eights, 0],
] as const)('zero points of symmetric codes may be stored as zeros: %s, bytes of %d', (kind, byte) => {
  const folder = mkdtempSync(join(root, 'symmetric-'));
  writeQuantised(source, folder, kinds[kind]!, { only, edit: symmetricBut(byte) });
  expect(checkpointTensors(folder).get(`${matrix}.weight`)?.packed?.zeros).toBeNull();
});

test('of two objects that say how weights are quantised the newer one counts, and a note names both', () => {
  const folder = mkdtempSync(join(root, 'twice-'));
  const notesOf = (edit: Edit) => {
    writeQuantised(source, folder, kinds[packed]!, { only, edit });
    return readModel(folder).notes;
  };
  const older =
    (value: unknown): Edit =>
    (_, config) => {
      config['compression_config'] = value;
    };
  expect(notesOf(older({ quant_method: 'fp8' }))).toEqual([
    `${join(folder, 'config.json')}: quantization_config and compression_config differ: quantization_config counts, as in transformers`,
  ]);
  expect(notesOf((tensors, config) => older(config['quantization_config'])(tensors, config))).toEqual([]);
  expect(notesOf(older(null))).toEqual([]);
});
