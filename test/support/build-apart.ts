// Builds the small kernel in a process or thread of its own, and says what came of it.
import { isMainThread, parentPort } from 'node:worker_threads';
import { build } from '../../codegen/index.ts';
import { microKernel } from './fake-compiler.ts';

const { cached, manifest, library } = await build(await microKernel());
const said = JSON.stringify({ cached, library, sha256: manifest.librarySha256 });
if (isMainThread) process.stdout.write(`${said}\n`);
else parentPort!.postMessage(said);
