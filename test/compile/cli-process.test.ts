// The command line as a process: its exit codes, its streams, and Ctrl-C.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { buildKernel } from '../../load.ts';
import { bundled } from '../support/bundled.ts';
import { heldTemperature, holding } from '../support/held-replies.ts';
import { within } from '../support/within.ts';

const root = packageRoot();
const tiny = ['--model', 'qwen3-tiny', '--target', 'cpu'];
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-process-'));
beforeAll(() => buildKernel({ model: 'qwen3-tiny', target: 'cpu' }));
afterAll(() => {
  for (const made of [folder, program.folder]) rmSync(made, { recursive: true });
});

/** A real process. */
const program = bundled('cli/main.ts');

/** gen complete as a process, once it has said something; its reply ends when it is told to, and not before. */
async function replying() {
  const held = [...holding, join(root, 'cli', 'main.ts'), 'complete', ...tiny];
  const flags = ['--prompt', 'The', '--maxTokens', '900', '--temperature', String(heldTemperature)];
  const child = spawn(process.execPath, [...held, ...flags], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const written = { out: '', err: '' };
  child.stderr.on('data', (data: Buffer) => {
    written.err += data.toString();
  });
  const begun = new Promise<void>((resolve) => {
    child.stdout.on('data', (data: Buffer) => {
      written.out += data.toString();
      resolve();
    });
  });
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
  const ended = () => within(exit, () => `the end of gen complete, which wrote:\n${written.err}`);
  await within(begun, () => `the reply of gen complete, which wrote:\n${written.err}`).catch((error) => {
    child.kill('SIGKILL'); // held, it does not end
    throw error;
  });
  return { child, written, ended };
}

describe('the process', () => {
  it('writes errors to stderr and exits with their code', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program.path, 'bild'], {
      encoding: 'utf8',
    });
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr.split('\n')[0]).toBe("error: unknown command 'bild'");
  });

  it('is quiet when its reader leaves', async () => {
    const { child, written, ended } = await replying();
    child.stdout.destroy();
    await once(child.stdout, 'close');
    const before = written.err;
    child.kill('SIGUSR2'); // the reply goes on
    expect(await ended()).toBe(0);
    expect(written.err).toBe(before);
  });

  it.each([['models'], ['bild', '--json'], ['complete', ...tiny, '--prompt', 'The', '--quiet']])(
    '%j exits with 3 and says so in one line, with a hint, when its output cannot be written',
    (...args) => {
      const full = openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, [program.path, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      expect(status).toBe(3);
      const said = stderr.split('\n').filter((line) => /^(error|hint): /.test(line));
      expect(said).toEqual([
        'error: the output cannot be written: its disk is full',
        'hint: free some space, or write it to another place: > FILE',
      ]);
      expect(stderr).not.toMatch(/^\s+at /m);
    },
  );

  it('says that its stdin is a folder, which Node reads as an empty file', () => {
    const stdin = openSync(folder, 'r');
    const { status, stderr } = spawnSync(process.execPath, [program.path, 'complete', 'qwen3-tiny'], {
      encoding: 'utf8',
      stdio: [stdin, 'ignore', 'pipe'],
    });
    closeSync(stdin);
    const said = 'error: cannot read stdin: it is a folder\nhint: give a file of text\n';
    expect({ status, stderr }).toEqual({ status: 2, stderr: said });
  });

  it('says that its folder is gone where a plan file is to be read, for whose loader Node would wait for ever', () => {
    const gone = mkdtempSync(join(folder, 'gone-'));
    const asked = ['explain', ...tiny, '--plan', join(root, 'examples', 'my-plan.ts')];
    const { status, stderr } = spawnSync(
      'sh',
      ['-c', 'rmdir "$PWD" && exec "$@"', 'sh', process.execPath, program.path, ...asked],
      { cwd: gone, encoding: 'utf8', timeout: 20_000, killSignal: 'SIGKILL' },
    );
    const said = stderr.split('\n').find((line) => line.startsWith('error: '));
    expect({ status, said }).toEqual({ status: 3, said: 'error: the folder that gen is called in is gone' });
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('leaves a build on %s with %i and nothing of it behind', async (signal, code) => {
    const cache = mkdtempSync(join(folder, 'cache-'));
    const child = spawn(process.execPath, [program.path, ...tiny], {
      env: { ...process.env, ONELAUNCH_CACHE: cache },
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let err = '';
    const begun = new Promise<void>((resolve) => {
      child.stderr.on('data', (data: Buffer) => {
        err += data.toString();
        if (err.includes('compiling')) resolve();
      });
    });
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    await within(begun, () => `a build that compiles, of a process which wrote:\n${err}`);
    child.kill(signal);
    expect(await within(ended, () => 'the end of a build that was interrupted')).toBe(code);
    expect(readdirSync(cache).filter((name) => /^qwen3-tiny|\.(tmp|lock)$/.test(name))).toEqual([]);
    expect(err).toContain('interrupted');
    expect(err).not.toMatch(/^\s+at /m);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('stops a reply on %s and keeps what was said', async (signal, code) => {
    const { child, written, ended } = await replying();
    child.kill(signal);
    expect(await ended()).toBe(code);
    expect(written.out.length).toBeGreaterThan(1);
    expect(written.err).toContain('stopped]');
  });
});
