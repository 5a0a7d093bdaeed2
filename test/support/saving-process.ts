// A program of its own: asks a question, saves the conversation into a file, says so, and goes on replying until it is killed.
import { load } from '../../load.ts';
import { conversation } from './conversation.ts';

const [file = '', parallel = '1'] = process.argv.slice(2);
const llm = await load({ model: 'qwen3-tiny', target: 'cpu', context: 1024, parallel: Number(parallel) });
const session = llm.session(conversation);
await session.chat('What is a daemon?').result();
await session.save(file);
console.log('saved');
for (;;) await session.fork().chat('What is meta?').result();
