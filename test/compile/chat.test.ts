// The bundled model in a conversation under a real terminal.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it, onTestFinished } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { heldTemperature, holding } from '../support/held-replies.ts';
import { key, noPty, openPty, paste } from '../support/pty.ts';

const folder = mkdtempSync(join(tmpdir(), 'onelaunch-chat-'));
afterAll(() => rmSync(folder, { recursive: true }));
if (noPty !== null) console.warn(`SKIPPED: ${noPty}`);

describe.skipIf(noPty !== null)('gen chat qwen3-tiny at a terminal of 40 columns', () => {
  it('answers in lines that fit, stops, keeps the conversation and leaves', async () => {
    const command = [process.execPath, ...holding, join(packageRoot(), 'cli', 'main.ts')];
    const flags = ['chat', 'qwen3-tiny', '--target', 'cpu', '--quiet', '--seed', '4'];
    const pty = openPty([...command, ...flags], { columns: 40 });
    onTestFinished(pty.kill);
    const ask = (keys: string) => {
      pty.send(keys);
      return pty.until(/\n> $/);
    };
    await pty.until(/> $/);
    expect(await ask(`define water${key.enter}`)).toContain('\nnoun: binary compound');

    const answer = await ask(`What is a daemon?${key.enter}`);
    const lines = answer.split('\n').slice(1, -1);
    expect(lines.join(' ')).toContain('A program that is not invoked explicitly, but lies dormant');
    expect(lines.length).toBeGreaterThan(3);
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(40);

    // An answer that goes on until it is stopped.
    await ask(`/set temperature ${heldTemperature}${key.enter}`);
    pty.send(paste('And what\nis a kernel?') + key.enter);
    await pty.until(/kernel\?\n(.*\n){2}/);
    pty.send(`/stats${key.enter}`);
    pty.send(key.ctrlC);
    await pty.until(/(^|\n)> \/stats\nreplies: 3, [^>]*\n> $/);
    const file = join(folder, 'talk.json');
    expect(await ask(`/save ${file}${key.enter}`)).toContain('3 questions and their answers');
    const { messages } = JSON.parse(readFileSync(file, 'utf8')) as { messages: { content: string }[] };
    expect(messages[4]).toEqual({ role: 'user', content: 'And what\nis a kernel?' });
    pty.send(`/exit${key.enter}`);
    expect(await pty.exit()).toBe(0);
  });
});
