// Bounds that options and the library have in common.

/** Sequences of an engine, at most: kMostSequences of templates/host/backend.h. */
export const mostSequences = 16;

/** Threads of an engine on a CPU, at most: as templates/cpu/backend.cpp has it. */
export const mostThreads = 1024;

/** Tokens that have a bias, at most. */
export const mostBiases = 1024;

/** Tokens beside the one that was chosen whose log probabilities are told, at most: kMostTopLogprobs of templates/host/logprobs.h. */
export const mostTopLogprobs = 20;
