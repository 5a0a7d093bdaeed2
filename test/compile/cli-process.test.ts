// The command line as a process: its exit codes, its streams, and Ctrl-C.
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { buildKernel } from '../../load.ts';

const root = packageRoot();
const tiny = ['--model', 'qwen3-tiny', '--target', 'cpu'];
const folder = mkdtempSync(join(tmpdir(), 'onelaunch-process-'));
beforeAll(() => buildKernel({ model: 'qwen3-tiny', target: 'cpu' }));
afterAll(() => rmSync(folder, { recursive: true }));

/** A real process; node with tsx as its loader, so that signals reach it. */
const main = ['--import', 'tsx', join(root, 'cli', 'main.ts')];

describe('the process', () => {
  it('writes errors to stderr and exits with their code', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [...main, 'bild'], { encoding: 'utf8' });
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr.split('\n')[0]).toBe("error: unknown command 'bild'");
  });

  it('is quiet when its reader leaves', () => {
    const node = [process.execPath, ...main].map((word) => `'${word}'`).join(' ');
    const command = `${node} complete ${tiny.join(' ')} --prompt The --temperature 50 --maxTokens 900 --quiet | head -c 1`;
    const { stdout, stderr } = spawnSync('bash', ['-c', command], { encoding: 'utf8', cwd: root });
    expect(stdout).toHaveLength(1);
    expect(stderr).toBe('');
  });

  it.each([['models'], ['bild', '--json'], ['complete', ...tiny, '--prompt', 'The', '--quiet']])(
    '%j exits with 1 and says so in one line when its output cannot be written',
    (...args) => {
      const full = openSync('/dev/full', 'w');
      const { status, stderr } = spawnSync(process.execPath, [...main, ...args], {
        encoding: 'utf8',
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      expect(status).toBe(1);
      const errors = stderr.split('\n').filter((line) => line.startsWith('error: '));
      expect(errors).toEqual(['error: the output cannot be written: ENOSPC: no space left on device, write']);
      expect(stderr).not.toMatch(/^\s+at /m);
    },
  );

  it('leaves a build on Ctrl-C with 130 and no half-written output', async () => {
    const cache = mkdtempSync(join(folder, 'cache-'));
    const child = spawn(process.execPath, [...main, ...tiny], {
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
    await begun;
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(readdirSync(cache).filter((name) => name.startsWith('qwen3-tiny'))).toEqual([]);
    expect(err).toContain('interrupted');
    expect(err).not.toMatch(/^\s+at /m);
  });

  it('stops a reply on Ctrl-C and keeps what was said', async () => {
    const flags = ['--prompt', 'The', '--maxTokens', '900', '--temperature', '1', '--seed', '3'];
    const child = spawn(process.execPath, [...main, 'complete', ...tiny, ...flags], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stderr.on('data', (data: Buffer) => {
      err += data.toString();
    });
    const begun = new Promise<void>((resolve) => {
      child.stdout.on('data', (data: Buffer) => {
        out += data.toString();
        resolve();
      });
    });
    const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
    await begun;
    child.kill('SIGINT');
    expect(await ended).toBe(130);
    expect(out.length).toBeGreaterThan(1);
    expect(err).toContain('stopped]');
  });
});
