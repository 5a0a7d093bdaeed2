// ONELAUNCH_DEBUG: 1 files and times, 2 schedule table, 3 hazards and syncs, 4 generated source, 5 view, 6 compiler commands.

const debugLevel = Number(process.env['ONELAUNCH_DEBUG'] ?? 0);

/** Prints to stderr when the level is asked for; each level shows one layer more. */
export function debug(from: 1 | 2 | 3 | 4 | 5 | 6, text: () => string): void {
  if (debugLevel >= from) process.stderr.write(`${text()}\n`);
}
