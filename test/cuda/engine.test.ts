// The engine suite on the GPU found here: npm run test:cuda.
import { describe } from 'vitest';
import { findGpu, findNvcc } from '../../codegen/build/tools.ts';
import { engineSuite } from '../support/engine-suite.ts';

const missing = !findGpu() ? 'no NVIDIA GPU was found' : !findNvcc() ? 'nvcc was not found' : null;
if (missing) throw new Error(`test:cuda needs a GPU and nvcc: ${missing}`);

describe('on the GPU', () => engineSuite('auto'));
