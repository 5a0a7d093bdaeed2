// What two plans should cost on a GPU that need not be here: waits of a token and the predicted rate, at a few positions.
import { estimate, makeSchedule } from 'onelaunch/codegen';
import { resolveModel, resolvePlan, resolveTarget } from 'onelaunch/configs';

const { dims } = resolveModel('qwen3-0.6b');
const target = resolveTarget('h100');

for (const name of ['cooperative', 'stream']) {
  const schedule = makeSchedule(dims, await resolvePlan(name), target);
  for (const position of [0, 1000, 10000]) {
    const { syncsPerToken, syncName, tokensPerSecond } = estimate(schedule, position);
    const rate = tokensPerSecond?.toFixed(0) ?? 'unknown';
    console.log(
      `${name} at position ${position}: ${syncsPerToken} ${syncName} a token, ${rate} tok/s predicted`,
    );
  }
}
