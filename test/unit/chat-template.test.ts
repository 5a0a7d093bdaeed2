// Conversations into the text that a model was trained on.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { chatTemplate } from '../../runtime/chat/chat-template.ts';
import { loadTokenizer } from '../../runtime/tokenizer/tokenizer.ts';
import { makeDirectory, makeQwenDirectory, tinyDirectory } from '../support/model-directory.ts';
import { refusalOf } from '../support/refusal.ts';

describe('chat template', () => {
  const hello = [{ role: 'user', content: 'Hi' }];
  const opened = '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n';
  const qwenTemplate = chatTemplate(makeQwenDirectory());

  test('Qwen3 closes the thinking block only for enableThinking false', () => {
    expect(qwenTemplate(hello)).toBe(opened);
    expect(qwenTemplate(hello, { enableThinking: true })).toBe(opened);
    expect(qwenTemplate(hello, { enableThinking: false })).toBe(`${opened}<think>\n\n</think>\n\n`);
  });

  test('the reply is not opened when it is not asked for', () => {
    expect(qwenTemplate(hello, { addGenerationPrompt: false })).toBe('<|im_start|>user\nHi<|im_end|>\n');
  });

  test('content parts are joined and null is empty', () => {
    const parts = [
      { type: 'text', text: 'H' },
      { type: 'text', text: 'i' },
    ];
    expect(qwenTemplate([{ role: 'user', content: parts }])).toBe(opened);
    expect(qwenTemplate([...hello, { role: 'assistant', content: null }, ...hello])).toContain(
      'assistant\n<|im_end|>',
    );
  });

  test('thoughts of earlier turns are left out', () => {
    const thought = { role: 'assistant', content: '<think>\nhm\n</think>\n\nHello' };
    expect(qwenTemplate([...hello, thought, ...hello])).not.toContain('hm');
  });

  test('tools are written into the system message', () => {
    const tools = [{ type: 'function', function: { name: 'clock' } }];
    expect(qwenTemplate(hello, { tools })).toContain('{"type": "function", "function": {"name": "clock"}}');
  });

  test('the bundled model is prompted as it was trained', () => {
    const ids = loadTokenizer(tinyDirectory).encode(
      chatTemplate(tinyDirectory)([{ role: 'user', content: 'What is a kernel?' }]),
    );
    expect(ids).toEqual([1, 284, 201, 335, 342, 267, 504, 729, 411, 33, 2, 201, 1, 288, 201]);
  });

  test('chat_template.jinja goes before tokenizer_config.json', () => {
    const files = { 'chat_template.jinja': 'file', 'tokenizer_config.json': { chat_template: 'config' } };
    expect(chatTemplate(makeDirectory(files))(hello)).toBe('file');
  });

  test('those of additional_chat_templates have the names of their files', () => {
    const directory = makeDirectory({
      'chat_template.jinja': 'file',
      'tokenizer_config.json': { chat_template: [{ name: 'tool_use', template: 'config' }] },
    });
    const folder = join(directory, 'additional_chat_templates');
    writeFileSync(folder, 'no folder');
    expect(chatTemplate(directory)(hello, { tools: [{}] })).toBe('file');
    rmSync(folder);
    mkdirSync(folder);
    writeFileSync(join(folder, 'tool_use.jinja'), 'tools');
    writeFileSync(join(folder, 'notes.txt'), 'no template');
    expect(chatTemplate(directory)(hello)).toBe('file');
    expect(chatTemplate(directory)(hello, { tools: [{}] })).toBe('tools');
    writeFileSync(join(folder, 'tool_use.jinja'), '{% if %}');
    expect(refusalOf(() => chatTemplate(directory)).message).toContain(
      `${join(folder, 'tool_use.jinja')} cannot be read: `,
    );
  });

  test('of named templates tool_use is taken for tools, else default', () => {
    const chat_template = [
      { name: 'tool_use', template: 'tools' },
      { name: 'default', template: 'plain {{ bos_token }}' },
    ];
    const directory = makeDirectory({
      'tokenizer_config.json': { chat_template, bos_token: { content: '<s>' } },
    });
    expect(chatTemplate(directory)(hello)).toBe('plain <s>');
    expect(chatTemplate(directory)(hello, { tools: [{}] })).toBe('tools');
  });
});
