// The engine suite on the CPU target.
import { engineSuite } from './engine-suite.ts';

engineSuite('cpu');
