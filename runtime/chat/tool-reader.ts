// The text of a reply with tools as it comes: what is said, and the calls behind it.
import { randomBytes } from 'node:crypto';
import type { ToolForm } from './tool-form.ts';
import type { Tool, ToolCall } from './tools.ts';

/** What a reply added to a call. The first of a call has its id and name. */
export interface ToolCallPart {
  /** Which of the calls, from 0 on. */
  readonly index: number;
  readonly id?: string;
  readonly name?: string;
  /** A part of its JSON. */
  readonly arguments: string;
}

export interface Read {
  /** What is said, and is no part of a call. */
  readonly text: string;
  readonly parts: readonly ToolCallPart[];
}

/** Reads the texts of a grammar of tools. What is of another form is text, as it was written. */
export interface ToolReader {
  push(text: string): Read;
  /** What was held back, since it could have become a call. */
  end(): Read;
  /** Those that are complete. */
  readonly calls: readonly ToolCall[];
}

/** said: before calls; name: behind `open` or `next`; arguments; behind: a call; other: all that comes is text. */
type State = 'said' | 'name' | 'arguments' | 'behind' | 'other';

export function toolReader(form: ToolForm, tools: readonly Tool[]): ToolReader {
  const { open, middle, next, close, trigger, none } = form;
  const heads = tools.map(({ name }) => ({ name, head: name + middle }));
  const calls: ToolCall[] = [];
  let state: State = 'said';
  let held = '';
  let told = { text: '', parts: [] as ToolCallPart[] };
  let current = { id: '', name: '', json: '' };
  let endOf = jsonEnd();

  const say = (text: string): void => {
    told.text += text;
    held = held.slice(text.length);
  };
  /** Goes on behind one of these beginnings. False: more must come before it can be told. */
  const goOn = (beginnings: readonly { readonly text: string; readonly to: () => State }[]): boolean => {
    // One may be the beginning of another.
    if (beginnings.some(({ text }) => text.length > held.length && text.startsWith(held))) return false;
    const found = beginnings.find(({ text }) => held.startsWith(text));
    state = found === undefined ? 'other' : found.to();
    held = held.slice(found?.text.length ?? 0);
    return true;
  };
  const begin = (name: string): State => {
    current = { id: `call_${randomBytes(12).toString('hex')}`, name, json: '' };
    told.parts.push({ index: calls.length, id: current.id, name, arguments: '' });
    endOf = jsonEnd();
    return 'arguments';
  };
  /** Each takes what can be told of what is held; whether there may be more. */
  const steps: Readonly<Record<State, () => boolean>> = {
    said: () => {
      const at = trigger === null ? 0 : held.indexOf(trigger);
      // White space between what is said and a call belongs to neither.
      say(held.slice(0, at < 0 ? held.length - heldLength(held, trigger!) : at).trimEnd());
      if (at < 0) return false;
      if (trigger !== null) held = held.trimStart();
      const empty = none === null ? [] : [{ text: none, to: (): State => 'behind' }];
      return goOn([{ text: open, to: () => 'name' }, ...empty]);
    },
    name: () => goOn(heads.map(({ name, head }) => ({ text: head, to: () => begin(name) }))),
    arguments: () => {
      const end = endOf(held);
      const part = held.slice(0, end ?? held.length);
      held = held.slice(part.length);
      current.json += part;
      told.parts.push({ index: calls.length, arguments: part });
      if (end === null) return false;
      const { id, name, json } = current;
      calls.push({ id, name, arguments: JSON.parse(json) });
      state = 'behind';
      return true;
    },
    behind: () =>
      goOn([
        ...(next === null ? [] : [{ text: next, to: (): State => 'name' }]),
        { text: close, to: () => 'other' },
      ]),
    other: () => {
      say(held);
      return false;
    },
  };
  return {
    calls,
    push: (text) => {
      held += text;
      told = { text: '', parts: [] };
      while (held !== '' && steps[state]());
      return told;
    },
    end: () => {
      const isCall = state !== 'said' || (trigger !== null && held.startsWith(trigger));
      const rest = isCall ? '' : held;
      held = '';
      return { text: rest, parts: [] };
    },
  };
}

/** Length of the longest end of a text that another one begins with. */
function heldLength(text: string, start: string): number {
  let length = Math.min(text.length, start.length - 1);
  while (length > 0 && !text.endsWith(start.slice(0, length))) length--;
  return length;
}

/** Finds the end of an object of JSON that comes in parts: how much of a part belongs to it, null: all. */
function jsonEnd(): (part: string) => number | null {
  let depth = 0;
  let inString = false;
  let escaped = false;
  return (part) => {
    for (let i = 0; i < part.length; i++) {
      const letter = part[i];
      if (escaped) escaped = false;
      else if (inString) {
        if (letter === '\\') escaped = true;
        else if (letter === '"') inString = false;
      } else if (letter === '"') inString = true;
      else if (letter === '{' || letter === '[') depth++;
      else if ((letter === '}' || letter === ']') && --depth === 0) return i + 1;
    }
    return null;
  };
}
