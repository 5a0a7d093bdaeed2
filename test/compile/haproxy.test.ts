// Two replicas of gen serve behind HAProxy, one of them killed under load.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../codegen/build/package-root.ts';
import { heldTemperature } from '../support/held-replies.ts';
import { type Serving, serve } from '../support/serving-process.ts';
import { until, within } from '../support/within.ts';

const config = join(packageRoot(), 'deploy', 'haproxy.cfg');
const isHere = spawnSync('haproxy', ['-v']).status === 0;
const name = isHere ? 'HAProxy' : 'HAProxy (skipped: it is not installed)';

/** A port that was free a moment ago. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

const ask = (url: string, number: number, init: object = {}) =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      ...{ model: 'qwen3-tiny', temperature: 0, max_tokens: 40 },
      messages: [
        { role: 'system', content: `You are number ${number}.` },
        { role: 'user', content: 'What is a daemon?' },
      ],
      ...init,
    }),
  });

/** Whether the balancer holds both replicas for well, and each of its requests for over: until then it may send the next one elsewhere. */
async function isIdle(socket: string): Promise<boolean> {
  const [header, ...servers] = (await text(connect(socket).end('show stat replicas 4 -1\n'))).split('\n');
  const [sessions, status] = ['scur', 'status'].map((name) => header!.split(',').indexOf(name));
  const rows = servers.filter((line) => line !== '').map((line) => line.split(','));
  return rows.length === 2 && rows.every((row) => row[sessions!] === '0' && row[status!] === 'UP');
}

const answered = ({ written }: Serving) =>
  written.out.split('\n').filter((line) => line.includes('"prompt":'));
const waiting = async ({ url }: Serving) =>
  Number(/^vllm:num_requests_waiting\S* (\d+)/m.exec(await (await fetch(`${url}/metrics`)).text())![1]);

describe.skipIf(!isHere)(name, () => {
  it('sends what begins alike to one replica, and loses no request that had not begun when one is killed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'haproxy-'));
    const replicas = await Promise.all([serve(), serve()]);
    const [one, two] = replicas;
    const bind = `127.0.0.1:${await freePort()}`;
    const url = `http://${bind}`;
    const balancer = spawn('haproxy', ['-f', config], {
      env: {
        ...process.env,
        REPLICA_1: new URL(one.url).host,
        REPLICA_2: new URL(two.url).host,
        HAPROXY_BIND: bind,
        HAPROXY_SOCKET: join(folder, 'socket'),
      },
      stdio: 'ignore',
    });
    try {
      const healthy = async () => (await fetch(`${url}/health`).catch(() => null))?.ok === true;
      await until(healthy, () => 'a healthy replica behind HAProxy');

      // One after the other, so that none is moved for the load.
      const before = replicas.map((replica) => answered(replica).length);
      for (const number of [0, 1, 2, 3, 4, 5, 6, 7]) {
        const places: number[] = [];
        for (const _ of [1, 2]) {
          await until(
            () => isIdle(join(folder, 'socket')),
            () => 'a balancer without requests',
          );
          expect((await ask(url, number, { max_tokens: 1 })).status).toBe(200);
          let moved: number[] = [];
          const isLogged = () => {
            moved = replicas.map((replica, i) => answered(replica).length - before[i]!);
            return moved[0]! + moved[1]! > 0;
          };
          await until(isLogged, () => 'the line of a request that was answered');
          places.push(moved[0]! > 0 ? 0 : 1);
          for (const i of [0, 1]) before[i]! += moved[i]!;
        }
        expect(places[0], `number ${number}`).toBe(places[1]);
      }
      expect(Math.min(...before), 'both have something to do').toBeGreaterThan(0);

      // Held: the first of each replica goes on when the other replica is gone, and those behind it wait until then.
      const held = { max_tokens: 40, temperature: heldTemperature };
      const all = Promise.all(Array.from({ length: 40 }, (_, i) => ask(url, i % 8, held)));
      await until(
        async () => (await waiting(one)) >= 5,
        () => 'requests that wait for the first replica',
      );
      one.child.kill('SIGKILL');
      two.letGo();
      const answers = await within(all, () => 'an answer to each request');
      expect(answers.map(({ status }) => status)).toEqual(Array(40).fill(200));
      for (const answer of answers) {
        const body = (await answer.json()) as { choices: { message: { content: string } }[] };
        expect(body.choices[0]!.message.content).toMatch(/^A program that is not invoked explicitly/);
      }
    } finally {
      balancer.kill('SIGKILL');
      for (const { child } of replicas) child.kill('SIGKILL');
      await Promise.all(replicas.map(({ ended }) => ended()));
      rmSync(folder, { recursive: true });
    }
  });
});
