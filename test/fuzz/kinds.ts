// What is mutated: the files of a small model, and the options of a reply; and what reads each of them.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { readModelDims } from '../../codegen/model/read-config.ts';
import { OnelaunchError } from '../../errors.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { greedy, readGenerationConfig } from '../../runtime/generation-config.ts';
import { checkOptions, type ReplyOptions } from '../../runtime/sampling.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { readGolden } from '../../runtime/verify/golden.ts';
import { readTensors } from '../../runtime/weights/safetensors.ts';
import { llama2 } from '../support/model-directory.ts';
import { type Draw, drawFrom, mutateBytes, mutateJson, mutateText } from './mutate.ts';

/** How a case ended: as it should, by a refusal of ours or a run to the end, or as it never should. */
export type Outcome = 'refused' | 'ran' | `failed: ${string}`;

interface Kind {
  /** A mutant, as the bytes of a file. */
  readonly mutant: (draw: Draw) => string | Buffer;
  /** Where it is put, and what is beside it. */
  readonly file: string;
  readonly beside?: Readonly<Record<string, string>>;
  readonly read: (directory: string) => unknown;
}

const fixture = (path: string) => readFileSync(join(packageRoot(), path));
const once = <T>(make: () => T) => {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
};

const messages = [
  { role: 'system', content: 'Be kind.' },
  { role: 'user', content: 'What is a kernel? 1 ½, 世界 <|im_end|>' },
  { role: 'assistant', content: '<think>\nhm\n</think>\n\nA nut.' },
  { role: 'user', content: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!' },
];

/** JSON of a file, most times changed as JSON, sometimes as text. */
function ofJson(json: () => unknown): Kind['mutant'] {
  return (draw) => {
    if (draw.below(4) > 0) return JSON.stringify(mutateJson(json(), draw));
    return mutateText(JSON.stringify(json()), draw);
  };
}
const parsed = (path: string) => once(() => JSON.parse(fixture(path).toString('utf8')) as unknown);

/** A tokenizer of every step that real ones have. */
const rich = {
  ...llama2,
  normalizer: {
    type: 'Sequence',
    normalizers: [
      { type: 'NFC' },
      { type: 'Prepend', prepend: '▁' },
      { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    ],
  },
  pre_tokenizer: {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Digits', individual_digits: true },
      {
        type: 'Split',
        pattern: { Regex: '\\s+(?!\\S)|\\p{L}+|[^\\s\\p{L}]+' },
        behavior: 'Isolated',
        invert: false,
      },
      { type: 'Metaspace', replacement: '▁', prepend_scheme: 'first' },
    ],
  },
  post_processor: {
    type: 'TemplateProcessing',
    single: [{ SpecialToken: { id: '</s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
    special_tokens: { '</s>': { id: '</s>', ids: [1], tokens: ['</s>'] } },
  },
};

function readTokenizer(directory: string): void {
  const tokenizer = loadTokenizer(directory);
  for (const { content } of messages) {
    const ids = tokenizer.encode(tokenizer.plain(content), { addSpecialTokens: true });
    const stream = tokenizer.stream();
    [...ids.map((id) => stream.push(id)), stream.end()].join('');
    tokenizer.decode(ids);
  }
}

/** The header of a safetensors file, with the length that it has, or another. */
function withHeader(json: string, data: Buffer, draw: Draw): Buffer {
  const text = Buffer.from(json);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(
    BigInt(draw.below(8) === 0 ? draw.pick([0, 1, text.length + 1, 2 ** 40]) : text.length),
  );
  return Buffer.concat([length, text, data]);
}

const weights = once(() => {
  const bytes = fixture('test/fixtures/qwen3-micro/model.safetensors');
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  return { bytes, header: JSON.parse(bytes.toString('utf8', 8, end)) as unknown, data: bytes.subarray(end) };
});
const template = once(() => fixture('models/qwen3-tiny/chat_template.jinja').toString('utf8'));

const replyOptions = {
  ...{
    maxTokens: 4,
    temperature: 1,
    topK: 3,
    topP: 0.5,
    minP: 0.1,
    repetitionPenalty: 1.1,
    presencePenalty: 1,
    frequencyPenalty: 0.5,
    logitBias: { 5: -1 },
    topLogprobs: 2,
  },
  ...{ seed: 1, stop: ['x'], stopIds: [1], enableThinking: true, parseSpecialTokens: false },
};

export const kinds: Readonly<Record<string, Kind>> = {
  safetensors: {
    file: 'model.safetensors',
    mutant: (draw) => {
      const { bytes, header, data } = weights();
      if (draw.below(3) === 0) return mutateBytes(bytes, draw);
      return withHeader(ofJson(() => header)(draw).toString(), data, draw);
    },
    read: readTensors,
  },
  index: {
    file: 'model.safetensors.index.json',
    mutant: ofJson(() => ({
      metadata: { total_size: 9 },
      weight_map: { 'a.weight': 'one.safetensors', 'b.weight': 'two.safetensors' },
    })),
    read: readTensors,
  },
  config: {
    file: 'config.json',
    mutant: ofJson(parsed('test/fixtures/llama3-micro/config.json')),
    read: readModelDims,
  },
  tokenizer: { file: 'tokenizer.json', mutant: ofJson(() => rich), read: readTokenizer },
  'tokenizer of the bundled model': {
    file: 'tokenizer.json',
    mutant: ofJson(parsed('models/qwen3-tiny/tokenizer.json')),
    read: readTokenizer,
  },
  tokenizer_config: {
    file: 'tokenizer_config.json',
    mutant: ofJson(
      once(() => ({
        ...(parsed('models/qwen3-tiny/tokenizer_config.json')() as object),
        chat_template: template(),
      })),
    ),
    beside: { 'tokenizer.json': JSON.stringify(llama2) },
    read: (directory) => {
      loadTokenizer(directory);
      chatTemplate(directory)(messages);
    },
  },
  template: {
    file: 'chat_template.jinja',
    mutant: (draw) => mutateText(template(), draw),
    read: (directory) => chatTemplate(directory)(messages, { plain: (text) => text }),
  },
  generation_config: {
    file: 'generation_config.json',
    mutant: ofJson(() => ({
      do_sample: true,
      temperature: 0.6,
      top_k: 20,
      top_p: 0.9,
      min_p: 0,
      repetition_penalty: 1.1,
      eos_token_id: [1, 2],
    })),
    read: readGenerationConfig,
  },
  golden: {
    file: 'golden.json',
    mutant: ofJson(parsed('models/qwen3-tiny/golden.json')),
    read: (directory) => readGolden(join(directory, 'golden.json'), { vocab: 4096 }),
  },
  options: {
    file: 'options.json',
    mutant: (draw) => JSON.stringify(mutateJson(replyOptions, draw)),
    read: (directory) =>
      checkOptions(
        JSON.parse(readFileSync(join(directory, 'options.json'), 'utf8')) as ReplyOptions,
        greedy,
        4096,
      ),
  },
};

/** Longest that a case may take [ms]. */
export const mostMillis = 10_000;

/** Writes the mutant of a seed into a folder of its own, reads it, and says how that ended. */
export function runCase(name: string, seed: number): Outcome {
  const kind = kinds[name]!;
  const directory = mkdtempSync(join(tmpdir(), 'onelaunch-fuzz-'));
  const started = performance.now();
  try {
    for (const [file, text] of Object.entries(kind.beside ?? {})) writeFileSync(join(directory, file), text);
    writeFileSync(join(directory, kind.file), kind.mutant(drawFrom(seed)));
    kind.read(directory);
    return verdict('ran', performance.now() - started);
  } catch (error) {
    // Of bad input: exit code 2, or 3 for what this machine lacks.
    if (error instanceof OnelaunchError && error.kind !== 'failed') {
      return verdict('refused', performance.now() - started);
    }
    return `failed: ${error instanceof Error ? error.stack : String(error)}`;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const verdict = (outcome: 'ran' | 'refused', millis: number): Outcome =>
  millis <= mostMillis ? outcome : `failed: ${outcome} after ${(millis / 1000).toFixed(0)} s`;
