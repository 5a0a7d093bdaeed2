// Weights that are no numbers, on a GPU: npm run test:cuda.
import { notFiniteSuite } from '../support/not-finite-suite.ts';

for (const plan of ['stream', 'cooperative']) notFiniteSuite('auto', plan);
