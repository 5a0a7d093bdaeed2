// The oracle: a decoder's forward pass written from the papers, unfused, sharing no code with the generator or the engine.

/** What the pass needs to know of a model; the generator's own dims fit it structurally. */
export interface ReferenceDims {
  readonly layers: number;
  readonly hidden: number;
  readonly ffn: number;
  readonly qHeads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Numbers of a head that are rotated, the first ones. @default all */
  readonly rotated?: number;
  readonly vocab: number;
  readonly normEps: number;
  readonly ropeTheta: number;
  readonly ropeScaling:
    | { readonly type: 'linear'; readonly factor: number }
    | {
        readonly type: 'llama3';
        readonly factor: number;
        readonly lowFreqFactor: number;
        readonly highFreqFactor: number;
        readonly originalPositions: number;
      }
    | {
        readonly type: 'yarn';
        readonly factor: number;
        readonly originalPositions: number;
        readonly betaFast: number;
        readonly betaSlow: number;
        readonly attention: number;
      }
    | {
        readonly type: 'longrope';
        readonly shortFactors: readonly number[];
        readonly longFactors: readonly number[];
        readonly originalPositions: number;
        readonly attention: number;
      }
    | null;
  /** The longest context: where it is longer than the first one of LongRoPE, its long factors count. */
  readonly maxPositions: number;
  /** By how much each rotary frequency is lower than theta says. */
  readonly ropeFactors?: Float32Array;
  readonly qkNorm: boolean;
  readonly qkvBias: boolean;
  readonly tiedHead: boolean;
  /** Granite: outputs of attention and feed-forward part are multiplied by `branch` where they are added, in units of the embedding; scores in the place of
   *  1 / sqrt(D); logits. @default 1 and 1 / sqrt(D) */
  readonly factors?: { readonly branch: number; readonly scores: number; readonly logits: number };
  /** A position sees itself and the window - 1 before it, null: all before it; rope false: queries and keys are not rotated. */
  readonly kinds: readonly {
    readonly name: string;
    readonly window: number | null;
    readonly rope: boolean;
  }[];
  /** The kind of layer i is pattern[i mod pattern.length]. */
  readonly pattern: readonly string[];
}

/** A tensor by its Hugging Face name, row-major; throws when there is none. */
export type ReferenceTensors = (name: string) => Float32Array;

/** Format that keys and values are rounded to when stored; fp32 leaves them alone, int8 has a scale for each position and head. */
export type CacheStorage = 'fp32' | 'bf16' | 'fp16' | 'int8';

/** Keys and values of the positions seen so far, one array a layer: [capacity, kvHeads, headDim] float32. */
export interface ReferenceCache {
  /** Positions filled. */
  length: number;
  readonly keys: Float32Array[];
  readonly values: Float32Array[];
}

/** A function of single values in the place of what a decoder computes there; the generator's ops have the same names. */
export interface ReferenceOps {
  /** gate, up */
  readonly swiglu?: (...values: number[]) => number;
  /** residual, branch: after attention, and after the feed-forward part. */
  readonly attn_add?: (...values: number[]) => number;
  readonly ffn_add?: (...values: number[]) => number;
}

export interface ReferenceOptions {
  /** Continues the sequence of this cache and extends it. */
  readonly cache?: ReferenceCache;
  /** What an engine with a smaller cache would remember. */
  readonly storage?: CacheStorage;
  /** Logits are computed for ids [firstLogits, ids.length) only; 0 by default. */
  readonly firstLogits?: number;
  readonly ops?: ReferenceOps;
}

/** An empty cache. */
export function referenceCache(dims: ReferenceDims): ReferenceCache {
  const empty = () => Array.from({ length: dims.layers }, () => new Float32Array(0));
  return { length: 0, keys: empty(), values: empty() };
}

/** Logits [ids.length - firstLogits, vocab] float32 of the ids at positions cache.length, cache.length + 1, ...
 *  Stored values are float32, every sum is float64, so its own rounding is that of storing: about one part in 2^24 an op.
 *  Sources: RMSNorm: Zhang & Sennrich 2019, eq. 4; RoPE: Su et al. 2021, eq. 34, halves (i, i + D/2) as GPT-NeoX pairs them;
 *  grouped queries: Ainslie et al. 2023; SwiGLU: Shazeer 2020, eq. 6; norm of q and k heads: Qwen3 report, section 2. */
export function referenceForward(
  dims: ReferenceDims,
  tensors: ReferenceTensors,
  ids: readonly number[],
  options: ReferenceOptions = {},
): Float32Array {
  const steps = referenceSteps(dims, tensors, ids, options);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** Matrices of a layer that are about to be multiplied by the same inputs. */
export interface ReferenceProducts {
  /** Their tensors, which are asked for when the pass goes on. */
  readonly names: readonly string[];
  /** [tokens, width]. */
  readonly inputs: Float32Array;
  readonly width: number;
}

/** The same pass, which stops before the products of each layer; the head's are none of these. */
export function* referenceSteps(
  dims: ReferenceDims,
  tensors: ReferenceTensors,
  ids: readonly number[],
  options: ReferenceOptions = {},
): Generator<ReferenceProducts, Float32Array, void> {
  const { hidden, ffn, qHeads, kvHeads, headDim, vocab, normEps } = dims;
  const { swiglu = gated, attn_add = sum, ffn_add = sum } = options.ops ?? {};
  const { branch: share = 1, logits: ofLogits = 1 } = dims.factors ?? {};
  const cache = options.cache ?? referenceCache(dims);
  const store = rounder(options.storage ?? 'fp32', headDim);
  const tokens = ids.length;
  const start = cache.length;
  const rotation = rotations(dims, start, tokens);

  const embedding = tensors('model.embed_tokens.weight');
  const x = new Float32Array(tokens * hidden);
  ids.forEach((id, t) => {
    if (!Number.isInteger(id) || id < 0 || id >= vocab)
      throw new Error(`token id ${id} is outside [0, ${vocab})`);
    x.set(embedding.subarray(id * hidden, (id + 1) * hidden), t * hidden);
  });

  for (let layer = 0; layer < dims.layers; layer++) {
    const weight = (name: string) => tensors(`model.layers.${layer}.${name}`);
    const kind = dims.kinds.find(({ name }) => name === dims.pattern[layer % dims.pattern.length]);
    if (!kind) throw new Error(`layer ${layer} has no kind`);
    const products = (inputs: Float32Array, width: number, ...names: string[]): ReferenceProducts => ({
      names: names.map((name) => `model.layers.${layer}.${name}.weight`),
      ...{ inputs, width },
    });
    const bias = (name: string) => (dims.qkvBias ? weight(`self_attn.${name}.bias`) : undefined);

    const a = rmsNorm(x, weight('input_layernorm.weight'), hidden, normEps);
    yield products(a, hidden, 'self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj');
    const q = linear(a, weight('self_attn.q_proj.weight'), hidden, qHeads * headDim, bias('q_proj'));
    const k = linear(a, weight('self_attn.k_proj.weight'), hidden, kvHeads * headDim, bias('k_proj'));
    const v = linear(a, weight('self_attn.v_proj.weight'), hidden, kvHeads * headDim, bias('v_proj'));
    if (dims.qkNorm) {
      q.set(rmsNorm(q, weight('self_attn.q_norm.weight'), headDim, normEps));
      k.set(rmsNorm(k, weight('self_attn.k_norm.weight'), headDim, normEps));
    }
    if (kind.rope) {
      rotate(q, rotation, qHeads, dims);
      rotate(k, rotation, kvHeads, dims);
    }
    append(cache.keys, layer, start, store(k), kvHeads * headDim);
    append(cache.values, layer, start, store(v), kvHeads * headDim);
    const window = kind.window ?? Number.POSITIVE_INFINITY;
    const att = attention(dims, q, cache.keys[layer]!, cache.values[layer]!, start, tokens, window);
    yield products(att, qHeads * headDim, 'self_attn.o_proj');
    const o = linear(att, weight('self_attn.o_proj.weight'), qHeads * headDim, hidden);
    mergeInto(x, attn_add, times(share, o));

    const b = rmsNorm(x, weight('post_attention_layernorm.weight'), hidden, normEps);
    yield products(b, hidden, 'mlp.gate_proj', 'mlp.up_proj');
    const gate = linear(b, weight('mlp.gate_proj.weight'), hidden, ffn);
    const up = linear(b, weight('mlp.up_proj.weight'), hidden, ffn);
    const act = gate.map((g, i) => swiglu(g, up[i]!));
    yield products(act, ffn, 'mlp.down_proj');
    mergeInto(x, ffn_add, times(share, linear(act, weight('mlp.down_proj.weight'), ffn, hidden)));
  }
  cache.length = start + tokens;

  const wanted = x.subarray((options.firstLogits ?? 0) * hidden);
  const final = rmsNorm(wanted, tensors('model.norm.weight'), hidden, normEps);
  return times(ofLogits, linear(final, dims.tiedHead ? embedding : tensors('lm_head.weight'), hidden, vocab));
}

/** x / sqrt(mean(x²) + eps) · w for every row of x [rows, width]. */
function rmsNorm(x: Float32Array, w: Float32Array, width: number, eps: number): Float32Array {
  const out = new Float32Array(x.length);
  for (let at = 0; at < x.length; at += width) {
    const scale = 1 / Math.sqrt(dot(x, at, x, at, width) / width + eps);
    for (let i = 0; i < width; i++) out[at + i] = x[at + i]! * scale * w[i]!;
  }
  return out;
}

/** x [n, inner] times w [outer, inner] transposed, plus bias [outer]: [n, outer]. */
function linear(
  x: Float32Array,
  w: Float32Array,
  inner: number,
  outer: number,
  bias?: Float32Array,
): Float32Array {
  if (w.length !== outer * inner) throw new Error(`a matrix has ${w.length} values, not ${outer} x ${inner}`);
  const n = x.length / inner;
  const out = new Float32Array(n * outer);
  for (let row = 0; row < outer; row++) {
    const offset = bias ? bias[row]! : 0;
    for (let t = 0; t < n; t++) out[t * outer + row] = dot(w, row * inner, x, t * inner, inner) + offset;
  }
  return out;
}

function dot(a: Float32Array, at: number, b: Float32Array, bt: number, n: number): number {
  let s0 = 0;
  let s1 = 0;
  let s2 = 0;
  let s3 = 0;
  const whole = n - (n % 4);
  for (let i = 0; i < whole; i += 4) {
    s0 += a[at + i]! * b[bt + i]!;
    s1 += a[at + i + 1]! * b[bt + i + 1]!;
    s2 += a[at + i + 2]! * b[bt + i + 2]!;
    s3 += a[at + i + 3]! * b[bt + i + 3]!;
  }
  for (let i = whole; i < n; i++) s0 += a[at + i]! * b[bt + i]!;
  return s0 + s1 + (s2 + s3);
}

/** softmax(q · k · scale) · v, scale 1 / sqrt(D) unless the model has its own; token t sees the last `window` of positions [0, start + t]; q head h reads kv head h / (Q/K). */
function attention(
  dims: ReferenceDims,
  q: Float32Array,
  keys: Float32Array,
  values: Float32Array,
  start: number,
  tokens: number,
  window: number,
): Float32Array {
  const { qHeads, kvHeads, headDim } = dims;
  const scale = dims.factors?.scores ?? 1 / Math.sqrt(headDim);
  const out = new Float32Array(q.length);
  const p = new Float64Array(start + tokens);
  const sum = new Float64Array(headDim);
  for (let t = 0; t < tokens; t++) {
    const seen = start + t + 1;
    const first = Math.max(0, seen - window);
    for (let h = 0; h < qHeads; h++) {
      const at = (t * qHeads + h) * headDim;
      const kv = Math.floor(h / (qHeads / kvHeads));
      const row = (position: number) => (position * kvHeads + kv) * headDim;
      let top = Number.NEGATIVE_INFINITY;
      for (let j = first; j < seen; j++) {
        p[j] = dot(q, at, keys, row(j), headDim) * scale;
        top = Math.max(top, p[j]!);
      }
      let mass = 0;
      sum.fill(0);
      for (let j = first; j < seen; j++) {
        const e = Math.exp(p[j]! - top);
        mass += e;
        for (let i = 0, vt = row(j); i < headDim; i++) sum[i]! += e * values[vt + i]!;
      }
      for (let i = 0; i < headDim; i++) out[at + i] = sum[i]! / mass;
    }
  }
  return out;
}

/** Cosine and sine of each position and frequency: [tokens, R/2, 2], R numbers of a head rotated. Frequencies and angles are float32, as transformers computes them. */
function rotations(dims: ReferenceDims, start: number, tokens: number): Float32Array {
  const half = (dims.rotated ?? dims.headDim) / 2;
  const out = new Float32Array(tokens * half * 2);
  const scaling = dims.ropeScaling;
  const size = scaling && 'attention' in scaling ? Math.fround(scaling.attention) : 1;
  for (let i = 0; i < half; i++) {
    const frequency = inverseFrequency(dims, i);
    for (let t = 0; t < tokens; t++) {
      const angle = Math.fround(frequency * (start + t));
      out[(t * half + i) * 2] = Math.fround(Math.cos(angle)) * size;
      out[(t * half + i) * 2 + 1] = Math.fround(Math.sin(angle)) * size;
    }
  }
  return out;
}

/** theta^(-2i/D), with Llama 3's division of the low frequencies by `factor` and its straight line between low and high. */
function inverseFrequency(dims: ReferenceDims, i: number): number {
  const f = Math.fround;
  const power = f(dims.ropeTheta ** f((2 * i) / (dims.rotated ?? dims.headDim)));
  const plain = f(1 / power);
  if (dims.ropeFactors) return f(plain / dims.ropeFactors[i]!);
  const scaling = dims.ropeScaling;
  if (!scaling) return plain;
  if (scaling.type === 'linear') return f(plain / scaling.factor);
  if (scaling.type === 'yarn') return yarnFrequency(dims, scaling, i);
  if (scaling.type === 'longrope') {
    const isLong = dims.maxPositions > scaling.originalPositions;
    return f(1 / f(f((isLong ? scaling.longFactors : scaling.shortFactors)[i]!) * power));
  }
  const turns = f(scaling.originalPositions / f((2 * Math.PI) / plain));
  if (turns < scaling.lowFreqFactor) return f(plain / scaling.factor);
  if (turns > scaling.highFreqFactor) return plain;
  const share = f(f(turns - scaling.lowFreqFactor) / (scaling.highFreqFactor - scaling.lowFreqFactor));
  return f(f(f(f(1 - share) * plain) / scaling.factor) + f(share * plain));
}

/** Peng et al. 2023: pairs that turn more than betaFast times in the first context keep their frequency, those that turn less than betaSlow times have
 *  it divided; between whole pairs the share of the division grows evenly. */
function yarnFrequency(
  { ropeTheta, headDim, rotated = headDim }: ReferenceDims,
  scaling: { factor: number; originalPositions: number; betaFast: number; betaSlow: number },
  i: number,
): number {
  const f = Math.fround;
  const power = f(ropeTheta ** f((2 * i) / rotated));
  // The pair, as a real number, of which 2 pi theta^(2 pair / headDim) positions are one turn.
  const pairOf = (turns: number) =>
    (rotated / 2) * (Math.log(scaling.originalPositions / (2 * Math.PI * turns)) / Math.log(ropeTheta));
  const from = Math.max(0, Math.floor(pairOf(scaling.betaFast)));
  const to = Math.min(rotated - 1, Math.ceil(pairOf(scaling.betaSlow)));
  const width = to === from ? 0.001 : to - from;
  const divided = f(Math.min(Math.max((i - from) / width, 0), 1));
  return f(f(f(1 / f(scaling.factor * power)) * divided) + f(f(1 / power) * f(1 - divided)));
}

function rotate(
  x: Float32Array,
  rotation: Float32Array,
  heads: number,
  { headDim, rotated = headDim }: ReferenceDims,
): void {
  const half = rotated / 2;
  for (let head = 0; head * headDim < x.length; head++) {
    const token = Math.floor(head / heads);
    for (let i = 0; i < half; i++) {
      const cos = rotation[(token * half + i) * 2]!;
      const sin = rotation[(token * half + i) * 2 + 1]!;
      const at = head * headDim + i;
      const a = x[at]!;
      const b = x[at + half]!;
      x[at] = a * cos - b * sin;
      x[at + half] = b * cos + a * sin;
    }
  }
}

function append(
  rows: Float32Array[],
  layer: number,
  start: number,
  added: Float32Array,
  width: number,
): void {
  const end = start * width + added.length;
  if (rows[layer]!.length < end) {
    const grown = new Float32Array(Math.max(end, rows[layer]!.length * 2));
    grown.set(rows[layer]!);
    rows[layer] = grown;
  }
  rows[layer]!.set(added, start * width);
}

const sum = (a: number, b: number): number => a + b;
const gated = (gate: number, up: number): number => (gate / (1 + Math.exp(-gate))) * up;

function mergeInto(x: Float32Array, merge: (a: number, b: number) => number, y: Float32Array): void {
  for (let i = 0; i < x.length; i++) x[i] = merge(x[i]!, y[i]!);
}

const times = (factor: number, x: Float32Array): Float32Array =>
  factor === 1 ? x : x.map((value) => factor * value);

/** Rounds rows [n, headDim] of float32 values to nearest, ties to even. */
function rounder(storage: CacheStorage, headDim: number): (rows: Float32Array) => Float32Array {
  switch (storage) {
    case 'fp32':
      return (rows) => rows;
    case 'bf16':
      return (rows) => rows.map((value) => significant(value, 8, -126));
    case 'fp16':
      return (rows) => rows.map((value) => significant(value, 11, -14));
    case 'int8':
      return (rows) => {
        const out = new Float32Array(rows.length);
        for (let at = 0; at < rows.length; at += headDim)
          out.set(scaled(rows.subarray(at, at + headDim), 127), at);
        return out;
      };
    default:
      throw new Error(`no rounding to ${storage satisfies never}`);
  }
}

/** One row: whole numbers from -largest to largest times a scale in float32; too little to have one, and it is zeros. */
function scaled(row: Float32Array, largest: number): Float32Array {
  const scale = Math.fround(row.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / largest);
  if (!(scale > 0)) return row.map((value) => value * scale);
  return row.map((value) => Math.max(-largest, Math.min(largest, whole(Math.fround(value / scale)))) * scale);
}

/** The nearest whole number, of two the even one. */
function whole(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

/** The nearest number of `bits` significant bits, with subnormals below 2^leastExponent. */
function significant(value: number, bits: number, leastExponent: number): number {
  if (value === 0 || !Number.isFinite(value)) return value;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(value))), leastExponent);
  const unit = 2 ** (exponent - bits + 1);
  return whole(value / unit) * unit;
}
