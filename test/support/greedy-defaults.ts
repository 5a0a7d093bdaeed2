// Generation defaults of a model that says nothing of itself: greedy, without stops or limits.
import type { GenerationDefaults } from '../../runtime/generation-config.ts';

export const greedyDefaults: GenerationDefaults = {
  ...{ doSample: false, temperature: 0, topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 },
  ...{ stopIds: [], chatStopIds: [], stop: [], maxTokens: null, maxLength: null, notes: [] },
};
