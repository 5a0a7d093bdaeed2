// Requests at random, that know the shape of a good one, and what every answer to them is.
import fc from 'fast-check';
import { expect } from 'vitest';

/** Texts that readers trip over: lone surrogates, nothing, control characters, special tokens, many bytes. */
const text = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    '',
    '\ud800',
    'a\udc00b',
    '\0',
    '\u202e\ufeff',
    '<|im_end|>',
    '{{ messages }}',
    '\\u0000',
    'é'.repeat(3000),
  ),
);
const number = fc.oneof(
  fc.double(),
  fc.integer(),
  fc.constantFrom(0, -0, -1, 1, 2, 1e308, -1e308, 2 ** 53, 0.1),
);
/** So deep that who walks it by recursion is at risk. */
const deep = fc
  .integer({ min: 1, max: 3000 })
  .map((depth) => JSON.parse('['.repeat(depth) + ']'.repeat(depth)) as unknown);
const anything = fc.oneof(
  { weight: 4, arbitrary: fc.oneof(text, number, fc.boolean(), fc.constant(null)) },
  { weight: 2, arbitrary: fc.jsonValue({ maxDepth: 3 }) as fc.Arbitrary<unknown> },
  { weight: 1, arbitrary: deep },
);
const rarely = <T>(good: fc.Arbitrary<T>) =>
  fc.oneof({ weight: 9, arbitrary: good as fc.Arbitrary<unknown> }, { weight: 1, arbitrary: anything });

const message = fc.record(
  {
    role: rarely(fc.constantFrom('user', 'user', 'assistant', 'system', 'tool')),
    content: rarely(
      fc.oneof(text, fc.array(fc.record({ type: fc.constant('text'), text }), { maxLength: 3 })),
    ),
    name: text,
  },
  { requiredKeys: ['role', 'content'] },
);
/** Parameters with values that they take, most of the time. */
const parameters: Readonly<Record<string, fc.Arbitrary<unknown>>> = {
  max_tokens: rarely(fc.integer({ min: 1, max: 30 })),
  temperature: rarely(fc.double({ min: 0, max: 2, noNaN: true })),
  top_p: rarely(fc.double({ min: 0.01, max: 1, noNaN: true })),
  top_k: rarely(fc.integer({ min: 0, max: 40 })),
  n: rarely(fc.constant(1)),
  seed: rarely(fc.nat()),
  stop: rarely(fc.oneof(text, fc.array(text, { maxLength: 5 }))),
  stream: rarely(fc.boolean()),
  stream_options: rarely(fc.record({ include_usage: fc.boolean() })),
  logprobs: rarely(fc.boolean()),
  logit_bias: rarely(fc.dictionary(fc.integer({ min: 0, max: 5000 }).map(String), number, { maxKeys: 4 })),
  presence_penalty: rarely(fc.double({ min: -2, max: 2, noNaN: true })),
  response_format: rarely(
    fc.constantFrom({ type: 'text' }, { type: 'json_object' }, { type: 'json_schema' }),
  ),
  tools: rarely(fc.constant([])),
  user: text,
  unknown: anything,
};
const some = fc
  .subarray(Object.keys(parameters), { maxLength: 3 })
  .chain((names) => fc.record(Object.fromEntries(names.map((name) => [name, parameters[name]!]))));

const model = rarely(fc.constant('qwen3-tiny'));
const bodies = fc.oneof(
  fc.record({
    path: fc.constant('/v1/chat/completions'),
    body: fc.record({ model, messages: rarely(fc.array(message, { maxLength: 4 })) }),
    more: some,
  }),
  fc.record({
    path: fc.constant('/v1/completions'),
    body: fc.record({ model, prompt: rarely(text) }),
    more: some,
  }),
  fc.record({
    path: fc.constant('/tokenize'),
    body: fc.record({ prompt: rarely(text) }),
    more: fc.constant({}),
  }),
  fc.record({
    path: fc.constant('/detokenize'),
    body: fc.record({ tokens: rarely(fc.array(fc.integer({ min: -1, max: 4500 }), { maxLength: 5 })) }),
    more: fc.constant({}),
  }),
);
export interface RandomRequest {
  readonly path: string;
  readonly body: string;
}

/** JSON, which may be cut, have a byte too many, be longer than is allowed, or a list. @param mostBodyBytes that are allowed */
export const randomRequests = (mostBodyBytes: number): fc.Arbitrary<RandomRequest> =>
  fc
    .record({
      asked: bodies,
      how: fc.oneof(
        { weight: 6, arbitrary: fc.constant('whole') },
        { weight: 1, arbitrary: fc.constantFrom('cut', 'more', 'huge', 'list') },
      ),
      at: fc.nat(),
    })
    .map(({ asked: { path, body, more }, how, at }) => {
      const whole = JSON.stringify({ ...body, ...more });
      if (how === 'cut') return { path, body: whole.slice(0, at % whole.length) };
      if (how === 'more') return { path, body: `${whole}${'}{,"'[at % 4]}` };
      if (how === 'huge')
        return { path, body: JSON.stringify({ ...body, user: 'x'.repeat(mostBodyBytes + (at % 5)) }) };
      if (how === 'list') return { path, body: JSON.stringify([body]) };
      return { path, body: whole };
    });

/** That an answer is whole, or an error in OpenAI's shape. */
export function expectAnswer(status: number, said: string): void {
  expect([200, 400, 404, 413]).toContain(status);
  if (status !== 200) {
    expect(JSON.parse(said)).toEqual({
      error: {
        message: expect.stringMatching(/^.{5,300}$/),
        type: 'invalid_request_error',
        param: said.includes('"param":null') ? null : expect.any(String),
        code: said.includes('"code":null') ? null : expect.any(String),
      },
    });
  } else if (!said.startsWith('data: ')) JSON.parse(said);
}

/** How often each status came; that of refusals alone a test would say little. */
export class Statuses {
  readonly #times = new Map<number, number>();

  add(status: number): void {
    this.#times.set(status, (this.#times.get(status) ?? 0) + 1);
  }

  expectBoth(count: number): void {
    expect(this.#times.get(200)).toBeGreaterThan(count / 20);
    expect(this.#times.get(400)).toBeGreaterThan(count / 10);
  }

  toString(): string {
    return [...this.#times].map(([status, times]) => `${times} x ${status}`).join(', ');
  }
}
