// Apart from the records, whose reader takes long to load.

/** Goes up when an older reader would misread a journal. */
export const journalFormat = 1;
