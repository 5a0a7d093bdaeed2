// How conversations of the tests of sessions begin: with a system prompt of more than 500 tokens.
import type { SessionOptions } from '../../runtime/session.ts';

const rules = Array.from({ length: 40 }, (_, i) => `Rule ${i}: define word ${i * i} as a dictionary does.`);

export const conversation: SessionOptions = {
  messages: [{ role: 'system', content: rules.join(' ') }],
  reply: { temperature: 0, maxTokens: 24 },
};
