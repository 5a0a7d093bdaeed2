// Every public function, given what no caller should give: a usage error that names the argument, never another error.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  build,
  byContext,
  choiceOf,
  estimate,
  estimatePrompt,
  explainTable,
  generate,
  launchesOf,
  leastWithLaunch,
  makeSchedule,
  optionsWithoutEffect,
  passesOf,
  passesText,
  plan,
  stage,
} from '../../codegen/index.ts';
import { models } from '../../configs/models.ts';
import cooperative from '../../configs/plans/cooperative.ts';
import { targetNamed } from '../../configs/targets.ts';
import { OnelaunchError } from '../../errors.ts';
import { load } from '../../load.ts';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { Engine } from '../../runtime/engine/engine.ts';
import { greedy } from '../../runtime/generation-config.ts';
import { LanguageModel } from '../../runtime/model.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { fakeEngines, randomSource, randomSources } from '../support/fake-engines.ts';
import { tinyDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

const { fake, readyEngine } = await fakeEngines();
const tokenizer = loadTokenizer(tinyDirectory);

/** Throws whatever is asked of it. */
function trap(): object {
  const refuse = () => {
    throw new TypeError('the trap was touched');
  };
  const names = ['get', 'has', 'ownKeys', 'getPrototypeOf', 'getOwnPropertyDescriptor'] as const;
  return new Proxy({}, Object.fromEntries(names.map((name) => [name, refuse])));
}
function revoked(target: object): object {
  const { proxy, revoke } = Proxy.revocable(target, {});
  revoke();
  return proxy;
}
const throwing = (key: string, more: object = {}) => ({
  ...more,
  get [key](): never {
    throw new Error('a getter threw');
  },
});
const unprintable = Object.assign(Object.create(null), { toString: null });

/** Values that are nothing that any argument may be. */
const never: readonly (readonly [string, unknown])[] = [
  ['null', null],
  ['a number', 5],
  ['NaN', Number.NaN],
  ['a bigint', 5n],
  ['true', true],
  ['a symbol', Symbol('s')],
  ['an array that holds null', [null]],
  ['a hole', new Array(3)],
  ['holes without end', new Array(2 ** 32 - 1)],
  [
    'an array of itself',
    (() => {
      const a: unknown[] = [];
      a.push(a);
      return a;
    })(),
  ],
  ['an object that cannot be printed', unprintable],
  ['a proxy that throws', trap()],
  ['a revoked proxy', revoked({})],
  ['a revoked proxy of an array', revoked([])],
  [
    'an array whose length throws',
    new Proxy([1], {
      get: (_t, key) => {
        if (key === 'length') throw new RangeError('length');
        return 1;
      },
    }),
  ],
];

type Call = (value: never) => unknown;
const ignored = async (value: AsyncIterable<unknown>) => {
  for await (const _ of value);
};

describe('given what it cannot be', () => {
  async function subjects() {
    const engine = await readyEngine();
    const parts = { engine, tokenizer, template: () => chatTemplate(tinyDirectory) };
    const model = new LanguageModel({ ...parts, manifest: fake.manifest, defaults: greedy });
    const said = [{ role: 'user', content: 'x' }];
    const calls: Readonly<Record<string, Call>> = {
      'chat(messages)': (value) => model.chat(value).result(),
      'chat(message)': (value) => model.chat([value]).result(),
      'chat(content)': (value) => model.chat([{ role: 'user', content: [value] }]).result(),
      'chat(role)': (value) => model.chat([{ role: value, content: 'x' }]).result(),
      'chat(options)': (value) => model.chat(said, value).result(),
      'complete(text)': (value) => model.complete(value).result(),
      'complete(options)': (value) => model.complete('x', value).result(),
      'generate(ids)': (value) => model.generate(value).result(),
      'generate(id)': (value) => model.generate([[value] as never]).result(),
      'generate(options)': (value) => model.generate([1], value).result(),
      ...Object.fromEntries(
        [
          'maxTokens',
          'temperature',
          'topK',
          'topP',
          'minP',
          'repetitionPenalty',
          'presencePenalty',
          'frequencyPenalty',
          'logitBias',
          'logprobs',
          'topLogprobs',
          'seed',
          'stop',
          'stopIds',
          'signal',
          'enableThinking',
        ].map((key) => [
          `generate(options.${key})`,
          (value: never) => model.generate([1], { [key]: [[value]] as never }).result(),
        ]),
      ),
      'tokenize(text)': (value) => model.tokenize(value),
      'tokenize(options)': (value) => model.tokenize('x', value),
      'detokenize(ids)': (value) => model.detokenize(value),
      'detokenize(id)': (value) => model.detokenize([[value] as never]),
      'load(options)': (value) => load(value),
      'load(name, options)': (value) => load('qwen3-tinny', value),
      'load(options.model)': (value) => load({ model: [value] as never }),
      'load(options.context)': (value) => load({ model: 'qwen3-tiny', context: [value] as never }),
      'Engine.open(settings)': (value) => Engine.open(fake.path, fake.manifest, value),
      'Engine.open(isa)': (value) => Engine.open(fake.path, fake.manifest, { context: 8, isa: value }),
      'engine.load(sources)': (value) => engine.load(value),
      'engine.load(source)': (value) => engine.load([value]),
      'engine.load(source.path)': (value) => engine.load([{ ...randomSource(0), dtype: 0, path: value }]),
      'engine.load(options)': (value) => engine.load([randomSource(0)], value),
      'engine.generate(ids)': (value) => ignored(engine.generate(value, { maxTokens: 1 })),
      'engine.generate(options)': (value) => ignored(engine.generate([1], value)),
      'engine.generate(sampling)': (value) =>
        ignored(engine.generate([1], { maxTokens: 1, sampling: value })),
      'engine.generate(signal)': (value) => ignored(engine.generate([1], { maxTokens: 1, signal: value })),
      'engine.score(ids)': (value) => engine.score(value, 0),
      'engine.score(first)': (value) => engine.score([1], [value] as never),
      'engine.score(options)': (value) => engine.score([1], 0, value),
      'engine.scoreRows(onRows)': (value) => engine.scoreRows([1], 0, value),
      'engine.reset(length)': (value) => engine.reset([value] as never),
    };
    return { engine, model, calls };
  }

  /** What a call comes to: a usage error, or anything else. */
  async function outcomeOf(call: Call, value: unknown): Promise<unknown> {
    try {
      const made = await call(value as never);
      // What is left out has a default, also where nothing is given for it.
      if (made instanceof Engine) made.close();
      return 'no error';
    } catch (error) {
      return error instanceof OnelaunchError ? error.kind : error;
    }
  }

  it('every function says so, and replies afterwards as before', async () => {
    const { calls, model, engine } = await subjects();
    const wrong: unknown[] = [];
    for (const [name, call] of Object.entries(calls)) {
      for (const [what, value] of never) {
        const outcome = await outcomeOf(call, value);
        if (outcome !== 'usage') wrong.push([name, what, outcome]);
      }
      for (const key of ['model', 'role', 'maxTokens', 'context', 'slot', 'signal', 'addSpecialTokens']) {
        const outcome = await outcomeOf(call, throwing(key, { [`no ${key}`]: 1 }));
        if (outcome !== 'usage') wrong.push([name, `a getter of ${key} that throws`, outcome]);
      }
    }
    expect(wrong).toEqual([]);
    await engine.load(randomSources()); // a source alone was given, with options that were none
    expect((await model.generate([1], { maxTokens: 2, stopIds: [] }).result()).tokens).toHaveLength(2);
    await model.close();
    await model.close();
  });

  it('no value makes another error', async () => {
    const { calls } = await subjects();
    const names = Object.keys(calls).filter((name) => !name.startsWith('load(options.'));
    const values = fc.anything({
      withBigInt: true,
      withNullPrototype: true,
      withSparseArray: true,
      withTypedArray: true,
      maxDepth: 3,
    });
    const property = fc.asyncProperty(fc.constantFrom(...names), values, async (name, value) => {
      // Any text may be a path: that there is no such file is an error of another kind.
      fc.pre(name !== 'engine.load(source.path)' || typeof value !== 'string');
      const outcome = await outcomeOf(calls[name]!, value);
      if (outcome !== 'usage' && outcome !== 'no error') throw new Error(`${name}`, { cause: outcome });
    });
    await fc.assert(property, { numRuns: 400 });
  });

  it('so does every function of the generator', async () => {
    const [dims, target] = [models[0]!, targetNamed('h100')!];
    const given = { dims, plan: cooperative, target };
    const kernel = await generate(given);
    const { schedule } = kernel;
    const one = (name: never, ops: never) => plan('a', [stage(name, ops, { over: 'rows' })]);
    const calls: Readonly<Record<string, Call>> = {
      generate: (value) => generate(value),
      'generate(dims)': (value) => generate({ ...given, dims: value }),
      'generate(kinds)': (value) => generate({ ...given, dims: { ...dims, kinds: [value] } }),
      'generate(plan)': (value) => generate({ ...given, plan: value }),
      'generate(name)': (value) => generate({ ...given, plan: plan(value, cooperative.stages) }),
      'generate(stage)': (value) => generate({ ...given, plan: plan('a', [value]) }),
      'generate(stage name)': (value) => generate({ ...given, plan: one(value, ['attend'] as never) }),
      'generate(op)': (value) => generate({ ...given, plan: one('a' as never, [value] as never) }),
      'generate(scheme)': (value) => generate({ ...given, plan: plan('a', cooperative.stages, value ?? 0) }),
      'generate(promptPlan)': (value) => generate({ ...given, promptPlan: value ?? 0 }),
      'generate(target)': (value) => generate({ ...given, target: value }),
      'generate(target kind)': (value) => generate({ ...given, target: { ...target, kind: value } }),
      'makeSchedule(dims)': (value) => makeSchedule(value, cooperative, target),
      'makeSchedule(plan)': (value) => makeSchedule(dims, value, target),
      'makeSchedule(target)': (value) => makeSchedule(dims, cooperative, value),
      'estimate(schedule)': (value) => estimate(value),
      'estimate(position)': (value) => estimate(schedule, [value] as never),
      'estimatePrompt(tokens)': (value) => estimatePrompt([value] as never, kernel),
      'estimatePrompt(kernel)': (value) => estimatePrompt(5, value),
      'choiceOf(kernel)': (value) => choiceOf(5, value),
      'explainTable(schedule)': (value) => explainTable(value, estimate(schedule)),
      'explainTable(cost)': (value) => explainTable(schedule, value),
      'build(kernel)': (value) => build(value),
      'launchesOf(kernel)': (value) => launchesOf(value),
      'passesOf(kernel)': (value) => passesOf(5, value),
      'passesText(passes)': (value) => passesText(value),
      'leastWithLaunch(launches)': (value) => leastWithLaunch(value),
      'optionsWithoutEffect(plan)': (value) => optionsWithoutEffect(value, target),
      'optionsWithoutEffect(target)': (value) => optionsWithoutEffect(cooperative, value),
    };
    const wrong: unknown[] = [];
    for (const [name, call] of Object.entries(calls)) {
      for (const [what, value] of [...never, ['undefined', undefined]] as const) {
        const outcome = await outcomeOf(call, value);
        if (outcome !== 'usage') wrong.push([name, what, outcome]);
      }
    }
    expect(wrong).toEqual([]);
    expect(
      refusalOf(() => makeSchedule(dims, cooperative, { ...target, kind: 'tpu' as never })),
    ).toMatchObject({ message: "target.kind is 'tpu'", hint: "it must be 'cpu' or 'cuda'" });
    expect(refusalOf(() => byContext(null as never)).message).toContain(
      'the options of byContext() are null',
    );
    expect(refusalOf(() => makeSchedule(dims, null as never, target))).toMatchObject({
      ...{ message: 'plan is null, and no plan', hint: expect.stringContaining('resolvePlan(name)') },
    });
  });

  it.each<[string, unknown, string]>([
    ['a content of 5', [{ role: 'user', content: 5 }], 'messages.0.content: expected a text or parts'],
    ['a content of {}', [{ role: 'user', content: {} }], 'messages.0.content: expected a text or parts'],
    [
      'a content of [null]',
      [{ role: 'user', content: [null] }],
      'messages.0.content: expected a text or parts',
    ],
    ['a message of null', [null], 'messages.0: expected object, received null'],
    ['a getter that throws', [throwing('role')], 'messages cannot be read'],
  ])('a message says which it is: %s', async (_what, messages, text) => {
    const { model } = await subjects();
    await expect(model.chat(messages as never).result()).rejects.toMatchObject({ message: text });
  });

  const said = [{ role: 'user', content: 'x' }];
  const one = new Map([['maxTokens', 3]]) as never;
  it.each<[string, (model: LanguageModel) => unknown, string]>([
    ['chat(options)', (model) => model.chat(said, one).result(), 'options: expected a plain object'],
    [
      'complete(options)',
      (model) => model.complete('x', new Date() as never).result(),
      'options: expected a',
    ],
    [
      'schema',
      (model) => model.chat(said, { schema: one }).result(),
      'options.schema: expected a JSON Schema',
    ],
    [
      'a part of the schema',
      (model) => model.chat(said, { schema: { properties: one } }).result(),
      'options.schema.properties is an instance of a class, which JSON does not have',
    ],
    [
      'a getter in the schema',
      (model) => model.chat(said, { schema: { type: 'object', properties: throwing('a') } }).result(),
      'options.schema cannot be read',
    ],
    [
      'a number that JSON does not have',
      (model) => model.chat(said, { schema: { const: 5n } }).result(),
      'options.schema.const is a bigint',
    ],
    [
      'parameters',
      (model) => model.chat(said, { tools: [{ function: { name: 'a', parameters: one } }] }).result(),
      'options.tools.0.function.parameters: expected a JSON Schema',
    ],
    [
      'a getter in parameters',
      (model) =>
        model
          .chat(said, { tools: [{ function: { name: 'a', parameters: throwing('type') as never } }] })
          .result(),
      'the parameters of a cannot be read',
    ],
    ['score(options)', (model) => model.score('abc', one), 'options: expected a plain object'],
    ['embed(options)', (model) => model.embed('abc', one), 'options: expected a plain object'],
    [
      'save(session)',
      (model) => model.save('nowhere', { reply: { banana: 5n } } as never),
      'options.reply has no banana',
    ],
    ['session(options)', async (model) => model.session(one), 'options: expected a plain object'],
    ...['session.chat(question)', 'session.chat(questions)'].map(
      (what, i): [string, (model: LanguageModel) => unknown, string] => [
        what,
        (model) =>
          model
            .session()
            .chat(revoked(i === 0 ? {} : []) as never)
            .result(),
        'messages cannot be read',
      ],
    ),
    [
      'an instance of a class without a name',
      (model) => model.complete(new (class {})() as never).result(),
      'text: expected string, received an instance of a class',
    ],
    ['score(text)', (model) => model.score(undefined as never), 'text: expected a text or tokens'],
    ['score([])', (model) => model.score([]), 'there are 0 tokens, and 2 are needed'],
    ['score() of one token', (model) => model.score([1]), 'there are 1 tokens, and 2 are needed'],
    [
      'session.chat(options)',
      (model) => model.session().chat('a', one).result(),
      'options: expected a plain',
    ],
    [
      'a message of itself',
      (model) => {
        const round: Record<string, unknown> = { role: 'user', content: 'x' };
        round['extra'] = round;
        return model.chat([round as never]).result();
      },
      'messages nests more than 100 levels deep',
    ],
    [
      'a bigint in a message',
      (model) => model.chat([{ role: 'user', content: 'x', extra: [5n] }]).result(),
      'messages.0.extra.0 is a bigint, which JSON does not have',
    ],
  ])('a Map, or what else is no plain object, is told: %s', async (_what, call, text) => {
    const { model } = await subjects();
    await expect(call(model)).rejects.toMatchObject({
      ...{ message: expect.stringContaining(text), kind: 'usage', hint: expect.any(String) },
    });
  });

  it.each<[string, (model: LanguageModel) => unknown, string]>([
    ['tokenize(null)', (model) => model.tokenize(null as never), 'text: expected string, received null'],
    [
      "detokenize('x')",
      (model) => model.detokenize('x' as never),
      'tokenIds: expected array, received string',
    ],
    ['detokenize([512])', (model) => model.detokenize([512]), 'tokenIds.0: expected less than 512'],
    ['detokenize([1.5])', (model) => model.detokenize([1.5]), 'tokenIds.0: expected int, received number'],
  ])('%s', async (_what, call, text) => {
    const { model } = await subjects();
    expect(() => call(model)).toThrow(text);
  });
});
