// Settings that a config.json can spell in more than one way: which spelling counts, and what is said when two disagree.
import { type Problem, show } from './dims-problems.ts';

/**
 * The spellings of each setting, in the order in which transformers takes them. `rope` is rope_scaling where that holds anything, else
 * rope_parameters; `other` is rope_parameters where rope_scaling replaces it as a whole.
 * Source: PreTrainedConfig and RotaryEmbeddingConfigMixin of transformers 5.
 */
export const spellings = {
  dtype: ['dtype', 'torch_dtype'],
  ropeType: ['rope.rope_type', 'rope.type', 'other.rope_type', 'other.type'],
  ropeTheta: ['rope.rope_theta', 'rope_theta', 'other.rope_theta'],
  factor: ['rope.factor', 'other.factor'],
  lowFreqFactor: ['rope.low_freq_factor', 'other.low_freq_factor'],
  highFreqFactor: ['rope.high_freq_factor', 'other.high_freq_factor'],
  originalPositions: [
    'original_max_position_embeddings',
    'rope.original_max_position_embeddings',
    'other.original_max_position_embeddings',
  ],
  betaFast: ['rope.beta_fast', 'other.beta_fast'],
  betaSlow: ['rope.beta_slow', 'other.beta_slow'],
  attentionFactor: ['rope.attention_factor', 'other.attention_factor'],
  partialRotary: ['rope.partial_rotary_factor', 'partial_rotary_factor', 'other.partial_rotary_factor'],
} as const;
export type Setting = keyof typeof spellings;

/** One spelling that a file has. */
export interface Spelled {
  /** As it stands in the file, such as rope_scaling.factor. */
  readonly key: string;
  readonly value: unknown;
}

type Config = Readonly<Record<string, unknown>>;

/** The dictionary of rotary settings that counts, and the one that it replaces. */
export function ropeKeys(config: Config): { readonly rope: string; readonly other: string | null } {
  const holds = (key: string) => isDictionary(config[key]) && Object.keys(config[key]).length > 0;
  const replaced = holds('rope_scaling') && holds('rope_parameters');
  if (replaced) return { rope: 'rope_scaling', other: 'rope_parameters' };
  return { rope: holds('rope_scaling') ? 'rope_scaling' : 'rope_parameters', other: null };
}

/** Every spelling of a setting that the file has, the one that counts first. */
export function spelled(config: Config, setting: Setting): Spelled[] {
  const { rope, other } = ropeKeys(config);
  return spellings[setting].flatMap((spelling): Spelled[] => {
    const [place, inner] = spelling.split('.') as [string, string | undefined];
    if (place === 'other' && other === null) return [];
    const key = place === 'rope' ? rope : place === 'other' ? other! : place;
    const at = config[key];
    const value = inner === undefined ? at : isDictionary(at) ? at[inner] : undefined;
    if (value === undefined || value === null) return [];
    return [{ key: inner === undefined ? key : `${key}.${inner}`, value }];
  });
}

/** What is said of settings with two values: a note where transformers takes one of them, a problem where it would drop the only one. */
export function findDisagreements(config: Config): { notes: string[]; problems: Problem[] } {
  const notes: string[] = [];
  const problems: Problem[] = [];
  const { rope, other } = ropeKeys(config);
  for (const setting of Object.keys(spellings) as Setting[]) {
    const [taken, ...others] = spelled(config, setting);
    if (taken === undefined) continue;
    if (other !== null && taken.key.startsWith(`${other}.`)) {
      const text = `${taken.key} is ${show(taken.value)}, and ${rope} takes the place of all of ${other}`;
      const hint = `Write all rotary settings in ${other}, and take ${rope} out.`;
      problems.push({ key: other, text, hint });
    }
    for (const { key, value } of others) {
      if (value === taken.value) continue;
      notes.push(
        `${taken.key} is ${show(taken.value)} and ${key} is ${show(value)}: ${taken.key} counts, as in transformers`,
      );
    }
  }
  return { notes, problems };
}

function isDictionary(value: unknown): value is Config {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
