#!/usr/bin/env node
// The gen command.
import { refuseExitsOfPlans } from '../configs/read-plan.ts';
import { OnelaunchError } from '../errors.ts';
import { keepStdoutForData, leave, processIo } from './io.ts';
import { reportUncaught, run } from './run.ts';

/** How Node ends where what a module awaits can no longer come: without a word. */
const unsettled = 13;
const argv = process.argv.slice(2);
const io = processIo();
process.on('exit', () => {
  if (process.exitCode !== unsettled) return;
  const hint = 'where a plan file is read, see what it awaits';
  process.exitCode = reportUncaught(
    new OnelaunchError('failed', 'what is waited for never comes', { hint }),
    argv,
    io,
  );
});
let isEnding = false;
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (error) => {
    if (!isEnding) leave(reportUncaught(error, argv, io));
    isEnding = true;
  });
}

refuseExitsOfPlans();
keepStdoutForData();
leave(await run(argv, io));
