// A vocabulary of SentencePiece in a GGUF file, as the tokenizer.json that transformers makes of one: byte-level by fallback, merges by score.

interface Pieces {
  readonly tokens: readonly string[];
  /** A piece with a higher one is put together earlier. */
  readonly scores: readonly number[];
  /** Ids of the pieces that texts are put together of, without those that stand for a byte. */
  readonly plain: readonly number[];
  /** Stands for what no piece does. */
  readonly unknown: string | undefined;
  /** A text begins as after a space, and so does what is behind a special token. */
  readonly addsSpace: boolean;
}

const space = '▁';
const replace = (from: string, to: string) => ({
  ...{ type: 'Replace', pattern: { String: from }, content: to },
});

/** The parts of tokenizer.json that depend on the kind of vocabulary. `vocab` is filled by the caller.
 *  Source: SpmConverter and generate_merges of transformers 5, LlamaModel of llama.cpp's converter. */
export function sentencePieceSteps(pieces: Pieces) {
  const { unknown, addsSpace } = pieces;
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [...(addsSpace ? [{ type: 'Prepend', prepend: space }] : []), replace(' ', space)],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        replace(space, ' '),
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(addsSpace ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      ...{ type: 'BPE', dropout: null, unk_token: unknown ?? null, byte_fallback: true, fuse_unk: true },
      ...{ continuing_subword_prefix: null, end_of_word_suffix: null, ignore_merges: false },
      merges: mergesOf(pieces),
    },
  };
}

/** The pairs that make a piece, those of the highest score first. */
function mergesOf({ tokens, scores, plain }: Pieces): string[] {
  const ids = new Map(plain.map((id) => [tokens[id]!, id]));
  const pairs = plain.flatMap((id) => {
    const letters = [...tokens[id]!];
    const cuts = letters
      .slice(1)
      .map((_, i) => [letters.slice(0, i + 1).join(''), letters.slice(i + 1).join('')]);
    return cuts.flatMap(([left, right]) => {
      const [l, r] = [ids.get(left!), ids.get(right!)];
      return l === undefined || r === undefined
        ? []
        : [{ merge: `${left} ${right}`, score: scores[id]!, l, r }];
    });
  });
  pairs.sort((a, b) => b.score - a.score || a.l - b.l || a.r - b.r);
  return pairs.map(({ merge }) => merge);
}
