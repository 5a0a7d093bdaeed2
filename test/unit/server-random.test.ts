// Requests at random, that know the shape of a good one: each is answered, good ones whole, bad ones with an error in OpenAI's shape.
// $ONELAUNCH_TEST_REQUESTS asks for more of them.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { expectAnswer, randomRequests, Statuses } from '../support/random-requests.ts';
import { chatBody, post, served } from '../support/served.ts';
import { within } from '../support/within.ts';

const count = Number(process.env['ONELAUNCH_TEST_REQUESTS'] ?? 200);
const mostBodyBytes = 50_000;
// Replies are an object, which `response_format` allows.
const { app, engine, service, reported, lines } = served({ mostBodyBytes, text: '{"kernel": "a nut"}' });

test(`each of ${count} requests is answered, and the server is well afterwards`, async () => {
  const statuses = new Statuses();
  const property = fc.asyncProperty(randomRequests(mostBodyBytes), async ({ path, body }) => {
    const answer = await within(post(app, path, body), () => `an answer to ${body.slice(0, 500)}`);
    const said = await within(answer.text(), () => `the end of the answer to ${body.slice(0, 500)}`);
    statuses.add(answer.status);
    expectAnswer(answer.status, said);
    expect(reported).toEqual([]);
  });
  await fc.assert(property, { numRuns: count });
  statuses.expectBoth(count);
  expect(service.queue).toMatchObject({ running: 0, waiting: 0 });
  expect(lines.length).toBeGreaterThanOrEqual(count);
  const calls = engine.calls.length;
  expect((await post(app, '/v1/chat/completions', chatBody())).status).toBe(200);
  expect(engine.calls).toHaveLength(calls + 1);
});
