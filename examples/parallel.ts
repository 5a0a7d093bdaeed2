// Several conversations at a time: they share passes over one copy of the weights, and each answer is the one it would be alone.
import { load } from 'onelaunch';

const questions = ['What is a daemon?', 'What is a kernel?', 'Define happiness.', 'What is recursion?'];
const llm = await load({ model: 'qwen3-tiny', target: 'cpu', parallel: questions.length });
const sessions = questions.map(() => llm.session({ reply: { maxTokens: 40 } }));

const answers = await Promise.all(sessions.map((session, i) => session.chat(questions[i]!).text()));
for (const [i, question] of questions.entries()) console.log(`${question}\n  ${answers[i]}\n`);
await llm.close();
