// Figures of other systems, as bench/peers writes them.
import { z } from 'zod';
import type { PeerFigures } from './input.ts';
import { range } from './read-kernel.ts';

const row = z.looseObject({
  peer: z.string(),
  variant: z.string().nullish(),
  version: z.string().nullish(),
  position: z.number().nullish(),
  prefill: z.number().nullish(),
  sequences: z.number().nullish(),
  tokensPerSecond: range.nullish(),
  why: z.string().nullish(),
});

const peers = z.looseObject({
  kind: z.literal('peers'),
  model: z.string().default('unknown model'),
  device: z.string().default('unknown device'),
  date: z.string().default(''),
  rows: z.array(row),
});

/** The first such file, of one peer at one position. */
const onePeer = z.looseObject({
  peer: z.string(),
  kernel: z.string(),
  date: z.string(),
  machine: z.string(),
  conditions: z.looseObject({ model: z.string(), prompt: z.number() }),
  decode: z.looseObject({ ours: range, theirs: range }),
  prefill: z.looseObject({ ours: range, theirs: range }),
});

/** Null where it is something else. */
export function readPeers(file: string, value: unknown): PeerFigures | null {
  const read = peers.safeParse(value);
  if (read.success) {
    const { model, device, date, rows } = read.data;
    return {
      ...{ file, model, device, date },
      rows: rows.map(({ peer, variant, version, position, prefill, sequences, tokensPerSecond, why }) => ({
        peer: [peer, ...(variant ? [variant] : []), ...(sequences ? [`${sequences} sequences`] : [])].join(
          ', ',
        ),
        version: version ?? null,
        position: prefill == null ? (position ?? null) : null,
        prefill: prefill ?? null,
        tokensPerSecond: tokensPerSecond ?? null,
        why: why ?? null,
      })),
    };
  }
  const one = onePeer.safeParse(value).data;
  if (!one) return null;
  const { prompt, model } = one.conditions;
  const none = { version: null, position: null, prefill: null, why: null };
  return {
    ...{ file, model, device: one.machine, date: one.date },
    rows: [
      { ...none, peer: one.kernel, position: prompt, tokensPerSecond: one.decode.ours },
      { ...none, peer: one.peer, position: prompt, tokensPerSecond: one.decode.theirs },
      { ...none, peer: one.kernel, prefill: prompt, tokensPerSecond: one.prefill.ours },
      { ...none, peer: one.peer, prefill: prompt, tokensPerSecond: one.prefill.theirs },
    ],
  };
}
