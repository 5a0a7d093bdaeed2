// Ctrl-C, SIGTERM and SIGHUP: who hears of them, and with what a command exits then.
import { readFile } from 'node:fs';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { report } from '../../cli/errors.ts';
import { type Io, memoryIo, processIo } from '../../cli/io.ts';
import { run } from '../../cli/run.ts';
import { breathe } from '../../lab/breathe.ts';

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
let before: readonly NodeJS.SignalsListener[][];
let io: Io;
/** What the process exited with. */
let exits: unknown[];

beforeEach(() => {
  before = signals.map((signal) => process.rawListeners(signal) as NodeJS.SignalsListener[]);
  for (const signal of signals) process.removeAllListeners(signal);
  exits = [];
  vi.spyOn(process, 'exit').mockImplementation((code) => exits.push(code) as never);
  vi.spyOn(process.stdout, 'on').mockReturnThis();
  vi.spyOn(process.stderr, 'on').mockReturnThis();
  io = processIo();
});

afterEach(() => {
  vi.restoreAllMocks();
  for (const [i, signal] of signals.entries()) {
    process.removeAllListeners(signal);
    for (const listener of before[i]!) process.on(signal, listener);
  }
});

test.each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const)('the first %s ends a command with %i, the second the process', (signal, code) => {
  process.emit(signal);
  expect(io.signal.aborted).toBe(true);
  const quiet = { ...io, err: () => {} };
  expect(report(new Error('broken off'), quiet, { json: false, command: 'build' })).toBe(code);
  expect(exits).toEqual([]);
  process.emit(signal);
  expect(exits).toEqual([code]);
});

test('a command that came to its end while it was to be ended exits with 130 as well', async () => {
  const { io, written } = memoryIo();
  const stop = new AbortController();
  const out = (text: string) => {
    io.out(text);
    setImmediate(() => stop.abort());
  };
  expect(await run(['models'], { ...io, signal: stop.signal, out })).toBe(130);
  expect(written.out).toContain('qwen3-tiny');
});

test('a pause lets a signal in, wherever the event loop is', async () => {
  const heard = vi.fn();
  process.once('SIGUSR2', heard);
  // Goes on where the loop has looked for signals already.
  await new Promise((resolve) => readFile(import.meta.filename, resolve));
  process.kill(process.pid, 'SIGUSR2');
  await breathe();
  expect(heard).toHaveBeenCalledOnce();
});

test('a list of reports is not gone on with', async () => {
  const stop = new AbortController();
  const { io, written } = memoryIo({ signal: stop.signal });
  setImmediate(() => stop.abort());
  expect(await run(['bench', '--reports'], io)).toBe(130);
  expect(written).toEqual({ out: '', err: 'interrupted\n' });
});

test('who listens has them all, and who listens for the end of the process has SIGTERM and SIGHUP before', () => {
  const heard: string[] = [];
  const release = io.onInterrupt(() => heard.push('all'));
  const releaseEnd = io.onTerminate(() => heard.push('end'));
  for (const signal of signals) process.emit(signal);
  releaseEnd();
  for (const signal of signals) process.emit(signal);
  expect(heard).toEqual(['all', 'end', 'end', 'all', 'all', 'all']);
  expect(io.signal.aborted).toBe(false);
  release();
  process.emit('SIGTERM');
  expect(io.signal.aborted).toBe(true);
});
