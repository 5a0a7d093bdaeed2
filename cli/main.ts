#!/usr/bin/env node
// The gen command.
import { exitCode } from './errors.ts';
import { leave, processIo } from './io.ts';
import { run } from './run.ts';

/** How Node ends where what a module awaits can no longer come: without a word. */
const unsettled = 13;
process.on('exit', () => {
  if (process.exitCode !== unsettled) return;
  process.exitCode = exitCode.failed;
  process.stderr.write(
    'error: what is waited for never comes\nhint: where a plan file is read, see what it awaits\n',
  );
});

leave(await run(process.argv.slice(2), processIo()));
