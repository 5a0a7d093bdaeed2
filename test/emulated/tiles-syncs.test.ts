// Every barrier of every plan for prompts: where it is left out, the text differs and both checks notice.
import { expect, test } from 'vitest';
import { models } from '../../configs/models.ts';
import prefill, { variants } from '../../configs/plans/prefill.ts';
import { resolveTarget } from '../../configs/resolve.ts';
import { unmissedTiles } from '../support/tiles.ts';

test.each(models)('each sync of $name is missed where it is left out', (dims) => {
  expect(unmissedTiles(dims, prefill, resolveTarget('a100')).unmissed).toEqual([]);
});

test.each(variants)('each sync of $name is missed where it is left out', (plan) => {
  const dims = models.find(({ name }) => name === 'qwen3-0.6b')!;
  expect(unmissedTiles(dims, plan, resolveTarget('h100')).unmissed).toEqual([]);
});
