// A conversation with a model: all that was said is kept, and what fits into the context is sent.
import type { ChatMessage } from '../../runtime/chat/chat-template.ts';
import type { LanguageModel } from '../../runtime/model.ts';
import type { ReplyResult } from '../../runtime/reply.ts';
import { printReply, type ReplySettings } from '../reply.ts';
import type { Ui } from '../ui.ts';

export interface Turn {
  readonly question: string;
  readonly answer: string;
}

/** What was said so far. */
export interface Transcript {
  readonly system: string | undefined;
  readonly turns: readonly Turn[];
}

/** What a conversation needs of a model. */
export type ChatModel = Pick<LanguageModel, 'chat' | 'context'>;

/** Of all replies. */
interface Totals {
  readonly replies: number;
  readonly tokens: number;
  readonly decodeMs: number;
  /** Positions of the context that the last question and its answer reached. */
  readonly used: number;
}

export interface Conversation {
  /** Prints the answer. Where the context is full the oldest turns are no longer sent; a question that does not fit even alone
   *  changes nothing. @throws OnelaunchError as `LanguageModel.chat` does */
  ask(question: string, onInterrupt?: Ui['io']['onInterrupt']): Promise<ReplyResult>;
  /** Begins anew with what was said elsewhere. */
  begin(transcript: Transcript): void;
  setSystem(system: string | undefined): void;
  set(settings: ReplySettings): void;
  transcript(): Transcript;
  settings(): ReplySettings;
  totals(): Totals;
}

export function createConversation(
  ui: Ui,
  llm: ChatModel,
  system: string | undefined,
  options: ReplySettings,
): Conversation {
  let said: Transcript = { system, turns: [] };
  /** Turns before this one are no longer sent. */
  let sentFrom = 0;
  let settings = options;
  let totals: Totals = { replies: 0, tokens: 0, decodeMs: 0, used: 0 };

  const send = async (question: string, from: number, onInterrupt?: Ui['io']['onInterrupt']) => {
    const messages = toMessages({ ...said, turns: said.turns.slice(from) }, question);
    return printReply(ui, (told) => llm.chat(messages, { ...settings, ...told }), onInterrupt);
  };
  const keep = (question: string, result: ReplyResult) => {
    const { text, tokens, usage, timings } = result;
    totals = {
      replies: totals.replies + 1,
      tokens: totals.tokens + tokens.length,
      decodeMs: totals.decodeMs + timings.decodeMs,
      used: usage.prompt + usage.completion,
    };
    // Stopped before its first word, it is as if it had not been asked.
    if (result.finish === 'abort' && text === '') return;
    said = { ...said, turns: [...said.turns, { question, answer: text }] };
  };
  return {
    ask: async (question, onInterrupt) => {
      const { ContextOverflowError } = await import('../../errors.ts');
      for (let from = sentFrom; ; from++) {
        try {
          const result = await send(question, from, onInterrupt);
          keep(question, result);
          if (from > sentFrom) ui.warn(forgotten(llm.context, from - sentFrom));
          sentFrom = from;
          return result;
        } catch (error) {
          if (!(error instanceof ContextOverflowError) || from >= said.turns.length) throw error;
        }
      }
    },
    begin: (transcript) => {
      said = transcript;
      sentFrom = 0;
    },
    setSystem: (text) => {
      said = { ...said, system: text };
    },
    set: (changed) => {
      settings = { ...settings, ...changed };
    },
    transcript: () => said,
    settings: () => settings,
    totals: () => totals,
  };
}

/** What is sent, with a question at the end. */
export function toMessages({ system, turns }: Transcript, question: string): readonly ChatMessage[] {
  return [
    ...(system === undefined ? [] : [{ role: 'system', content: system }]),
    ...turns.flatMap((turn) => [
      { role: 'user', content: turn.question },
      { role: 'assistant', content: turn.answer },
    ]),
    { role: 'user', content: question },
  ];
}

const forgotten = (context: number, turns: number): string =>
  turns === 1
    ? `the context of ${context} tokens is full: the oldest question and its answer are forgotten`
    : `the context of ${context} tokens is full: the ${turns} oldest questions and their answers are forgotten`;
