// Requests at random to gen serve over a socket, eight at a time: what server-random.test.ts asks in one process, of the program that ships.
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { expectAnswer, type RandomRequest, randomRequests, Statuses } from '../support/random-requests.ts';
import { serve } from '../support/serving-process.ts';
import { within } from '../support/within.ts';

const count = Number(process.env['ONELAUNCH_TEST_REQUESTS'] ?? 2000);
const clients = 8;
const bodyKiB = 48;

/** Memory of a process [MB]. */
const memoryOf = (pid: number): number =>
  Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))![1]) / 1000;

it(`each of ${count} requests is answered over a socket, and the server is well afterwards`, async () => {
  const flags = ['--context', '256', '--parallel', '4', '--body-limit', String(bodyKiB)];
  const serving = await serve(...flags);
  const post = ({ path, body }: RandomRequest) =>
    fetch(`${serving.url}${path}`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  try {
    const asked = fc.sample(randomRequests(bodyKiB * 1024), count);
    const statuses = new Statuses();
    const memory: number[] = [];
    let next = 0;
    const client = async () => {
      while (next < asked.length) {
        // Four times, and at the end.
        if (next % Math.ceil(count / 4) === 0) memory.push(memoryOf(serving.child.pid!));
        const request = asked[next++]!;
        const about = () => `an answer to ${request.path} ${request.body.slice(0, 500)}`;
        const answer = await within(post(request), about);
        const said = await within(answer.text(), about);
        statuses.add(answer.status);
        expect([answer.status, said], about()).not.toContain(500);
        expectAnswer(answer.status, said);
      }
    };
    await Promise.all(Array.from({ length: clients }, client));
    memory.push(memoryOf(serving.child.pid!));
    statuses.expectBoth(count);
    const metrics = await (await fetch(`${serving.url}/metrics`)).text();
    for (const state of ['running', 'waiting']) {
      expect(metrics).toMatch(new RegExp(`^vllm:num_requests_${state}(\\{.*\\})? 0$`, 'm'));
    }
    const body = JSON.stringify({ model: 'qwen3-tiny', prompt: 'A daemon is', max_tokens: 8 });
    expect((await post({ path: '/v1/completions', body })).status).toBe(200);
    console.info(`${statuses}; memory ${memory.map((mb) => mb.toFixed(0)).join(', ')} MB`);
  } finally {
    serving.child.kill('SIGTERM');
  }
  expect(await serving.ended()).toBe(0);
});
