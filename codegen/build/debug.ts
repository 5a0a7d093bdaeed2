// ONELAUNCH_DEBUG: 1 files and times, 2 schedule table, 3 hazards and syncs, 4 generated source, 5 view, 6 compiler commands.
import { OnelaunchError } from '../../errors.ts';

const levels = ['', '0', '1', '2', '3', '4', '5', '6'];

/** The level that an environment asks for, 0 for none. @throws OnelaunchError usage for what is none */
export function debugLevel(env: Readonly<Record<string, string | undefined>>): number {
  const text = env['ONELAUNCH_DEBUG'] ?? '';
  if (levels.includes(text)) return Number(text);
  throw new OnelaunchError('usage', `ONELAUNCH_DEBUG is '${text}', must be 0 to 6`, {
    hint: 'ONELAUNCH_DEBUG=1 shows files and times, each level to 6 one layer more',
  });
}

let here: number | undefined;

/** Prints to stderr when the level is asked for; each level shows one layer more. @throws OnelaunchError usage for a level that is none */
export function debug(from: 1 | 2 | 3 | 4 | 5 | 6, text: () => string): void {
  here ??= debugLevel(process.env);
  if (here >= from) process.stderr.write(`${text()}\n`);
}
