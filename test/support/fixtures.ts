// The micro checkpoints of test/fixtures, one of each family and more, with what transformers makes of them.

/** Names of their folders. */
export const fixtures: readonly string[] = [
  ...['qwen3-micro', 'qwen2-micro', 'llama3-micro', 'smollm2-micro'],
  ...['mistral-micro', 'smollm3-micro', 'phi3-micro', 'phi4-mini-micro'],
  'granite-micro',
];
