#!/usr/bin/env node
// The gen command.
import { leave, processIo } from './io.ts';
import { run } from './run.ts';

leave(await run(process.argv.slice(2), processIo()));
