// Bounds that options and the library have in common.

/** Sequences of an engine, at most: kMostSequences of templates/host/backend.h. */
export const mostSequences = 16;
