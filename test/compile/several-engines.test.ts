// Several engines beside each other, on the CPU target.
import { severalEnginesSuite } from '../support/several-engines.ts';

severalEnginesSuite({ target: 'cpu', plan: 'cooperative', model: 'qwen3-tiny', tokens: 24, rounds: 3 });
