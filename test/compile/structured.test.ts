// Replies that are JSON of a schema, by the bundled model: what they are is judged by another reader of schemas.
import { Ajv2020 } from 'ajv/dist/2020.js';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { z } from 'zod';
import { load } from '../../load.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import { makeTinyDirectory } from '../support/model-directory.ts';
import { randomSchema } from '../support/random-schemas.ts';
import { thorough } from '../support/thorough.ts';
import { hermes } from '../support/tool-templates.ts';

let llm: LanguageModel;
beforeAll(async () => {
  llm = await load({ model: 'qwen3-tiny', target: 'cpu', parallel: 4 });
});
afterAll(() => llm?.close());

const question = [{ role: 'user', content: 'What is a daemon?' }];
const ajv = new Ajv2020({ strict: false, validateFormats: false });

it('schemas at random are met, several at a time, as by each alone', async () => {
  const one = async (seed: number) => {
    const schema = randomSchema(seed);
    const options = { schema, temperature: 1, seed, maxTokens: 480 };
    const reply = llm.chat(question, options);
    const { finish, text } = await reply.result();
    expect(finish, JSON.stringify(schema)).toBe('stop');
    expect(ajv.validate(schema, await reply.json()), `${JSON.stringify(schema)} is not met by ${text}`).toBe(
      true,
    );
    return text;
  };
  const seeds = Array.from({ length: 20 }, (_, seed) => seed);
  const together: string[] = [];
  for (let at = 0; at < seeds.length; at += 4) {
    together.push(...(await Promise.all(seeds.slice(at, at + 4).map(one))));
  }
  for (const seed of [0, 7, 13]) expect(await one(seed)).toBe(together[seed]);
});

it('a schema of zod gives its type; greedy replies end with the last brace', async () => {
  const person = z.object({ name: z.string().max(12), age: z.int().min(0).max(120).transform(String) });
  const reply = llm.chat(question, { schema: person, temperature: 0 });
  const { name, age } = await reply.json();
  expect([typeof name, typeof age]).toEqual(['string', 'string']);
  expect((await reply.result()).text).toMatch(/^\{"name": ".{0,12}", "age": \d{1,3}\}$/u);
});

it('what never ends is cut at maxTokens, and is no JSON', async () => {
  const endless = { type: 'object', properties: { in: { $ref: '#' } }, required: ['in'] };
  const reply = llm.chat(question, { schema: endless, maxTokens: 40 });
  expect((await reply.result()).finish).toBe('length');
  await expect(reply.json()).rejects.toThrow('it ended at "length"');
});

it('grammars are followed to their end, and refused with their reasons', async () => {
  const said = (grammar: string | { regex: string }) =>
    llm.chat(question, { grammar, temperature: 1, maxTokens: 50 }).text();
  expect(await said('root ::= "yes" | "no"')).toMatch(/^(yes|no)$/);
  expect(await said({ regex: '[0-9]{3}-[a-f]{2}' })).toMatch(/^[0-9]{3}-[a-f]{2}$/);
  await expect(said('root ::= x')).rejects.toThrow('Rule "x" is not defined');
  await expect(said({ regex: '(a' })).rejects.toThrow('parenthesis is not closed');
  await expect(said('root ::= root')).rejects.toThrow('no token goes on');
  expect(await said('root ::= "yes"')).toBe('yes');
});

it('calls of tools have arguments as their parameters say, and go back into the conversation', async () => {
  // The context of the bundled model has no room for schemas.
  const names = hermes.replace('tool | tojson', 'tool.function.name');
  await using caller = await load({ model: makeTinyDirectory(names), target: 'cpu', parallel: 4 });
  const parametersOf = (seed: number) => {
    const { $defs = {}, ...one } = randomSchema(seed);
    return { type: 'object', properties: { one }, required: ['one'], $defs };
  };
  const one = async (seed: number) => {
    const tools = [2 * seed, 2 * seed + 1].map((at) => ({
      function: { name: `call_${at}`, parameters: parametersOf(at) },
    }));
    const options = { tools, toolChoice: 'required', parallelToolCalls: false, temperature: 1 } as const;
    const reply = caller.chat(question, { ...options, seed, maxTokens: 480 });
    const { finish, text, usage } = await reply.result();
    expect([finish, text]).toEqual(['tool_calls', '']);
    const calls = await reply.toolCalls();
    expect(calls).toHaveLength(1);
    const [{ id, name, arguments: given }] = calls as [(typeof calls)[number]];
    const { parameters } = tools.find((tool) => tool.function.name === name)!.function;
    expect(ajv.validate(parameters, given), `${JSON.stringify(parameters)}: ${JSON.stringify(given)}`).toBe(
      true,
    );
    const called = { role: 'assistant', toolCalls: calls };
    const result = { role: 'tool', tool_call_id: id, content: 'Done.' };
    const next = await caller.chat([...question, called, result], { tools, maxTokens: 4 }).result();
    expect(next.usage.prompt).toBeGreaterThan(usage.prompt);
  };
  const seeds = Array.from({ length: thorough ? 100 : 4 }, (_, seed) => seed);
  for (let at = 0; at < seeds.length; at += 4) await Promise.all(seeds.slice(at, at + 4).map(one));
});
