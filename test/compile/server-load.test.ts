// The bench of the server under load: its figures are of replies that were compared, and a wrong reply fails it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { stream } from '../../bench/server/stream.ts';
import { judge } from '../../bench/server/visits.ts';
import { packageRoot } from '../../codegen/build/package-root.ts';

const folder = mkdtempSync(join(tmpdir(), 'server-load-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const bench = (...flags: string[]) =>
  spawnSync(process.execPath, ['--import', 'tsx', join(packageRoot(), 'bench/server/load.ts'), ...flags], {
    encoding: 'utf8',
    cwd: packageRoot(),
  });

test('compares each reply with the one that its request gets alone', () => {
  const report = join(folder, 'report.json');
  const { status, stdout, stderr } = bench(
    ...['--seconds', '1', '--clients', '1,3', '--tokens', '8', '--requests', '20', '--report', report],
  );
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(/^3 clients: [\d.]+ times 1$/m);
  expect(stdout).toMatch(/^over the last half it differs by \d+ %$/m);
  const { visits, memory, failed } = JSON.parse(readFileSync(report, 'utf8'));
  expect(visits.map((one: { clients: number }) => one.clients)).toEqual([1, 3, 3, 1]);
  for (const one of visits) {
    expect(one).toMatchObject({ lost: 0, others: 0 });
    expect(one.replies).toBeGreaterThan(0);
    expect(one.tokensPerSecond).toBeGreaterThan(0);
  }
  expect(memory).toHaveLength(10);
  expect(memory.at(-1)).toMatchObject({ requests: 20 });
  expect(failed).toBe(0);
});

test('a server that does not start is told in its own words', () => {
  const { status, stderr } = bench('--model', 'nosuch');
  expect(status).toBe(1);
  expect(stderr).toMatch(/^error: the server did not start: unknown model 'nosuch'\nhint: known: qwen3-tiny/);
});

test('a stream that breaks off has no finish, and one that is refused throws', async () => {
  const event = { choices: [{ text: 'a', finish_reason: null }] };
  const server = createServer((request, response) => {
    let body = '';
    request.on('data', (bytes) => (body += bytes));
    request.on('end', () => {
      if (JSON.parse(body).prompt === 'no') response.writeHead(503).end('busy');
      else response.end(`data: ${JSON.stringify(event)}\n\n`);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const send = (prompt: string) =>
    stream(`http://127.0.0.1:${port}`, 'm', { prompt, max_tokens: 2, temperature: 0, seed: 0 });
  expect(await send('yes')).toMatchObject({ text: 'a', finish: null });
  await expect(send('no')).rejects.toThrow('status 503: busy');
  server.close();
});

test.each([
  ['none is wrong', [0, 0, 0], false, null, null],
  ['another one', [0, 2, 0], false, '2 replies are not those of their requests alone', null],
  ['another one on a GPU', [0, 2, 0], true, null, /^2 replies are not those .*: sums of a GPU/],
  ['a lost one', [1, 0, 0], true, '1 replies were lost', null],
  [
    'all of it',
    [1, 2, 3],
    false,
    '4 replies were lost, and 2 replies are not those of their requests alone',
    null,
  ],
] as const)('judges replies: %s', (_, [lost, others, failed], onGpu, wrong, note) => {
  const judged = judge(
    [
      { lost, others },
      { lost: 0, others: 0 },
    ],
    { failed, onGpu },
  );
  expect(judged.wrong).toBe(wrong);
  if (note === null) expect(judged.note).toBeNull();
  else expect(judged.note).toMatch(note);
});
