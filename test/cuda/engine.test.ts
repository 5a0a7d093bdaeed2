// The engine suite on the GPU found here: npm run test:cuda.
import { describe } from 'vitest';
import { engineSuite } from '../support/engine-suite.ts';

describe('on the GPU', () => engineSuite('auto'));
