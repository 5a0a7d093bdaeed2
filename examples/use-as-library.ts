// Load a model, chat with it, and print the reply as it is made.
import { load } from 'onelaunch';

const llm = await load({ model: 'qwen3-tiny', target: 'cpu' }); // the bundled model; its kernel is compiled on first use
try {
  const reply = llm.chat([{ role: 'user', content: 'What is a daemon?' }], { maxTokens: 60 });
  for await (const piece of reply) process.stdout.write(piece.text);
  const { finish, usage } = await reply.result();
  console.log(`\n${usage.completion} tokens, finish: ${finish}`);
} finally {
  await llm.close();
}
