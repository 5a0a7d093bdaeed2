// Writes the headers that a generated folder has and templates/ has not, for editors: npm run headers. See .clangd.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { generate } from '../../codegen/index.ts';
import { resolveModel, resolvePlan, resolvePromptPlan, resolveTarget } from '../../configs/resolve.ts';

const root = join(import.meta.dirname, '..', '..');
for (const [folder, target, plan, promptPlan] of [
  ['cpu', 'cpu', 'cooperative', null],
  ['cuda', 'h100', 'cooperative', null],
  ['stream', 'h100', 'stream', 'prefill'],
] as const) {
  const { dims } = resolveModel('qwen3-tiny');
  const { sources } = await generate({
    dims,
    target: resolveTarget(target),
    plan: await resolvePlan(plan),
    promptPlan: promptPlan && (await resolvePromptPlan(promptPlan)),
  });
  const into = join(root, 'generated', 'headers', folder);
  mkdirSync(into, { recursive: true });
  for (const name of ['abi.h', 'model.h', 'slots.h', ...(promptPlan ? ['prompt.h'] : [])])
    writeFileSync(join(into, name), sources[name]!);
}
