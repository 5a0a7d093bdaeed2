// How a model writes calls of functions: read off what its chat template makes of a conversation that has some.
import { OnelaunchError } from '../../errors.ts';
import type { ChatTemplate } from './chat-template.ts';

/** The text of calls: open NAME middle ARGUMENTS (next NAME middle ARGUMENTS)* close. */
export interface ToolForm {
  readonly open: string;
  readonly middle: string;
  /** Null: a message has one call. */
  readonly next: string | null;
  readonly close: string;
  /** Begins calls wherever it stands. Null: calls are at the beginning of a reply, or there are none. */
  readonly trigger: string | null;
  /** What stands for no calls, where they are a list. */
  readonly none: string | null;
}

/** Words that no template has. */
const probe = { name: 'zq_name', key: 'zq_key', value: 'zq_value', said: 'zq_said', asked: 'zq_asked' };
const described = {
  type: 'function',
  function: {
    name: probe.name,
    description: 'A probe.',
    parameters: { type: 'object', properties: { [probe.key]: { type: 'string' } }, required: [probe.key] },
  },
};
const written = new RegExp(`\\{\\s*"${probe.key}":\\s*"${probe.value}"\\s*\\}`, 'g');

/** @throws OnelaunchError of kind usage: the template knows no tools, or writes calls in a form that is not read here */
export function toolForm(template: ChatTemplate): ToolForm {
  const tools = [described];
  const user = { role: 'user', content: probe.asked };
  if (!template([user], { tools }).includes(probe.name)) {
    throw refuse('knows no tools', 'Qwen3, Llama 3.2, SmolLM2 and SmolLM3 do, each in its Instruct version.');
  }
  const asked = (message: object) =>
    template([user, { role: 'assistant', content: '', ...message }, user], {
      tools,
      addGenerationPrompt: false,
    });
  const plain = asked({ content: probe.said });
  const [before, behind] = plain.split(probe.said);
  const unread = () =>
    refuse(
      'writes calls in a form that is not read here',
      'It must have the name of a function, then its arguments as JSON.',
    );
  if (behind === undefined) throw unread();
  const callsOf = (count: number): string[] => {
    const one = { type: 'function', function: { name: probe.name, arguments: { [probe.key]: probe.value } } };
    const text = asked({
      tool_calls: Array.from({ length: count }, (_, i) => ({ id: `call_${i}`, ...one })),
    });
    if (!text.startsWith(before!) || !text.endsWith(behind)) throw unread();
    const parts = text.slice(before!.length, text.length - behind.length).split(written);
    if (parts.length !== count + 1) throw unread();
    return parts;
  };
  const [first, close] = callsOf(1) as [string, string];
  const [open, middle, ...more] = first.split(probe.name);
  if (open === undefined || open === '' || middle === undefined || more.length > 0) throw unread();
  const trigger = /^\s*(<[^<>]+>)/.exec(open)?.[1] ?? null;
  return {
    ...{ open, middle, close, trigger },
    next: nextOf(() => callsOf(2), middle),
    none: listWithout(open, close),
  };
}

/** What stands between two calls; null where the template refuses two. */
function nextOf(callsOf: () => string[], middle: string): string | null {
  let between: string;
  try {
    [, between] = callsOf() as [string, string];
  } catch {
    return null;
  }
  return between.endsWith(probe.name + middle) ? between.slice(0, -(probe.name + middle).length) : null;
}

/** The brackets of a list of calls, without any. */
function listWithout(open: string, close: string): string | null {
  const [begin, end] = [open.indexOf('['), close.indexOf(']')];
  return begin < 0 || end < 0 ? null : open.slice(0, begin + 1) + close.slice(end);
}

const refuse = (why: string, hint: string) =>
  new OnelaunchError('usage', `the chat template of this model ${why}`, { hint });
