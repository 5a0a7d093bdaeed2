// How far right logits may lie from the reference, computed from the number formats and the lengths of the sums.

export interface ToleranceInput {
  readonly dims: {
    readonly layers: number;
    readonly hidden: number;
    readonly ffn: number;
    readonly qHeads: number;
    readonly headDim: number;
    /** Storage of the KV cache where its numbers share scales. */
    readonly cache?: 'int8' | undefined;
    /** Formats of matrices in blocks; none: they are plain numbers. */
    readonly weights?: object | undefined;
  };
  /** Storage of the KV cache otherwise, and of the extra roundings. */
  readonly dtype: 'bf16' | 'fp16' | 'fp32';
  /** Length of the longest sequence: attention's sum. */
  readonly positions: number;
  /** Logits that decide: compared rows times vocabulary. */
  readonly counted: number;
  /** Root of the mean square of the reference logits. */
  readonly logitRms: number;
  /** Digits after the point of printed reference logits; null: exact. */
  readonly decimals: number | null;
  /** Mean likelihoods compared: how many, the fewest distinct ids that one of them predicts, their printed digits. */
  readonly nll?: { readonly cases: number; readonly targets: number; readonly decimals: number | null };
  /** Roundings of activations to dtype besides those of K and V, in each layer and once: an engine that feeds matrix units of
   *  that format states them. Bits of inputs of rows in blocks, where they are not 16. */
  readonly extraRoundings?: {
    readonly perLayer: number;
    readonly once: number;
    readonly inputBits?: 8 | undefined;
  };
}

interface ToleranceTerm {
  readonly name: string;
  /** In logits, except `sigmas`. */
  readonly value: number;
}

export interface Tolerance {
  /** Greatest |ours - reference| of any logit. */
  readonly logit: number;
  /** Greatest KL(reference || ours) of a row [nats]. */
  readonly kl: number;
  /** Greatest |ours - reference| of a mean negative log likelihood [nats per token]; null: none is compared. */
  readonly nll: number | null;
  /** Two candidates closer than this in the reference may change places. */
  readonly margin: number;
  readonly terms: readonly ToleranceTerm[];
}

/** Unit roundoff 2^-p of a format with p significant bits: the largest relative error of one rounding to nearest. */
const roundoff = { bf16: 2 ** -8, fp16: 2 ** -11, fp32: 2 ** -24 };

/** The same of a row of D numbers that share a scale, relative to their root of mean squares. In int8 a step is the 127th part of the largest, and of D
 *  Gaussian numbers the largest is expected at sqrt(2 ln 2D) of that root: half a step is sqrt(2 ln 2D) / 254. */
const rowRoundoff = { int8: (headDim: number) => Math.sqrt(2 * Math.log(2 * headDim)) / 254 };

/** Largest relative error of 32 inputs that share a scale, as norms, by their bits: each is off by half a step at most, 2^-16 of the largest or the 254th part,
 *  which is no more than the norm of them all. */
const blockInput = { 16: 2 ** -16 * Math.sqrt(32), 8: Math.sqrt(32) / 254 };

/** Chance that a right engine fails a whole verification. A choice, not a measurement. */
const falseAlarm = 1e-6;

/** Bounds of a right engine's distance from the reference, with the terms they are made of.
 *
 *  Let e be the relative error of the residual stream [H] after the last layer.
 *
 *  Stored values. Rounding every element of K and of V gives a branch's output two independent, zero-mean relative errors of
 *  at most u: that of V goes straight into the sum of p_j v_j; that of K changes a score of unit variance (what the
 *  1/sqrt(D) is for: Vaswani et al. 2017, section 3.2.1) by about u, and so each p_j by about u of itself. A layer adds its
 *  branch to the stream with a share of at most 1. Independent errors add in squares over the roundings r of a layer and over L
 *  layers: e² = L r u², r = 2 + extraRoundings.perLayer. As standard deviation of one rounding stands its largest value u,
 *  though errors spread evenly would have at most u / sqrt(3): this pays for what the sum in squares leaves out, that scores have
 *  more than unit variance and that a gated product carries the errors of both its factors. Where the reference rounds K and V, too,
 *  its own sums let some of them fall to the other side: two roundings differ by a step / sqrt(6) as standard deviation, which is less than half a step.
 *
 *  Inputs of blocks. A CPU multiplies rows in blocks by inputs of 16 bits, or 8 (templates/cpu/lib/blocks.h, bytes.h): four products of a layer and the
 *  head, whose errors add in squares like those of stored values. Engines that round them otherwise state that as extraRoundings.
 *
 *  Sums. n terms of random sign added in float32 wander to a relative error of u32 sqrt(n), in any order of addition (Higham
 *  2002, section 2.8). The layer's sums are the two norms, qkv, gate and up (H each), the scores (D), the softmax (positions), o
 *  (Q D) and down (F); the final norm and head add 2 H. Both sides do these sums, which doubles the square.
 *
 *  A logit is a product of the stream with a row of the head, so its error has the deviation sigma = e logitRms. Of N Gaussian
 *  errors all stay below sqrt(2 ln(N / p)) sigma, but with a chance of p (union bound, whatever their correlation; the
 *  usual sqrt(2 ln N) is where the largest of them is expected). A printed reference adds half a unit of its last digit.
 *
 *  KL of a row: if every logit is off by at most t, KL = ln E exp(d) - E d over the reference's probabilities, for d in [-t, t],
 *  and Hoeffding's lemma gives at most (2t)²/8 = t²/2, exactly. The mean over rows is no larger, nor is the KL of
 *  the distributions restricted to some listed ids, to which the same holds.
 *
 *  Mean NLL: a token's error is that of ln sum exp minus that of its logit: sqrt(2) sigma. Errors of one predicted id may be
 *  shared by all rows that predict it; different ids have independent head rows, so the mean over m distinct ones has sqrt(2 / m) sigma. */
export function tolerance(input: ToleranceInput): Tolerance {
  const { layers, hidden, ffn, qHeads, headDim } = input.dims;
  const { perLayer, once, inputBits = 16 } = { perLayer: 0, once: 0, ...input.extraRoundings };
  const u = roundoff[input.dtype];
  const { cache } = input.dims;
  const uStored = cache === undefined ? u : rowRoundoff[cache](headDim);
  const sums = layers * (5 * hidden + headDim + input.positions + qHeads * headDim + ffn) + 2 * hidden;

  const stored = uStored * Math.sqrt(2 * layers) * input.logitRms;
  const rounded = u * Math.sqrt(perLayer * layers + once) * input.logitRms;
  const summed = roundoff.fp32 * Math.sqrt(2 * sums) * input.logitRms;
  const blocks = input.dims.weights ? blockInput[inputBits] * Math.sqrt(4 * layers + 1) * input.logitRms : 0;
  const sigma = Math.hypot(stored, rounded, blocks, summed);
  const sigmas = Math.sqrt(2 * Math.log(input.counted / falseAlarm));
  const printed = halfUnit(input.decimals);
  const logit = sigmas * sigma + printed;

  return {
    logit,
    kl: logit ** 2 / 2,
    nll: input.nll
      ? Math.sqrt(2 * Math.log(input.nll.cases / falseAlarm)) * Math.sqrt(2 / input.nll.targets) * sigma +
        halfUnit(input.nll.decimals)
      : null,
    margin: 2 * logit,
    terms: [
      { name: `K and V stored in ${cache ?? input.dtype}`, value: stored },
      { name: `other roundings to ${input.dtype}`, value: rounded },
      ...(blocks > 0 ? [{ name: `inputs of blocks in ${inputBits} bits`, value: blocks }] : []),
      { name: 'float32 sums', value: summed },
      { name: 'sigma, their root of squares', value: sigma },
      { name: `sigmas for ${input.counted} logits`, value: sigmas },
      { name: 'printed digits', value: printed },
    ],
  };
}

function halfUnit(decimals: number | null): number {
  return decimals === null ? 0 : 0.5 * 10 ** -decimals;
}
