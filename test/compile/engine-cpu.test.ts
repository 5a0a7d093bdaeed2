// The engine suite on the CPU target.
import { engineSuite } from '../support/engine-suite.ts';

engineSuite('cpu');
