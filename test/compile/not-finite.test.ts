// Weights that are no numbers, on the CPU target.
import { notFiniteSuite } from '../support/not-finite-suite.ts';

notFiniteSuite('cpu', 'cooperative');
