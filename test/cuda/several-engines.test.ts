// Several engines on one GPU, whose kernels wait for each other's end or run by turns: npm run test:cuda.
import { severalEnginesSuite } from '../support/several-engines.ts';

for (const plan of ['stream', 'cooperative']) {
  severalEnginesSuite({ target: 'auto', plan, model: 'qwen3-0.6b', tokens: 200, rounds: 10 });
}
