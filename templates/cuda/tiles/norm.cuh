// The residual stream of every token: its beginning, and its norms. A warp has a token.
#pragma once
#include "operands.cuh"

namespace tiles {

/** body(token) for the tokens [0, tokens), by the same warp in every stage; the warps of a block have the tokens of a group of operands. */
template <class Body>
DEVICE void for_tokens(const Block& b, int tokens, Body&& body) {
  if (b.feeds) return;
  __syncwarp();  // lanes read what others wrote in the stage before
  for (int token = b.index() * kWarps + warp(); token < tokens; token += kWarps * b.count()) body(token);
}

/** x [tokens][padded(kHidden)] = rows of the embedding. */
template <class W>
DEVICE void embed(const Block& b, float* x, const W* embedding) {
  for_tokens(b, b.tokens(), [&](int token) {
    const W* const row = stored_row(embedding, b.args.pass.ids[token], kHidden);
    for (int i = lane(); i < kHidden; i += 32) x[size_t(token) * padded(kHidden) + i] = number(row, i);
  });
}

/** The same, and what the norm in front of product P makes of it but for its factor; squares in `parts` parts, all but the first zero. */
template <class P, class W>
DEVICE void embed_ahead(const Block& b, float* x, const W* embedding, char* to, const Vector* weights, float* squares, int parts) {
  for_tokens(b, b.tokens(), [&](int token) {
    const W* const row = stored_row(embedding, b.args.pass.ids[token], kHidden);
    float square = 0;
    for (int i = 2 * lane(); i < kHidden; i += 64) {
      const bool both = i + 1 < kHidden;
      const float2 v = make_float2(number(row, i), both ? number(row, i + 1) : 0.0f);
      *reinterpret_cast<float2*>(x + size_t(token) * padded(kHidden) + i) = v;
      square = fmaf(v.x, v.x, fmaf(v.y, v.y, square));
      store_input<P>(to, token, i, v.x * to_float(weights[i]), both ? v.y * to_float(weights[i + 1]) : 0.0f);
    }
    square = warp_sum(square);
    for (int part = lane(); part < parts; part += 32) squares[size_t(token) * kSquareParts + part] = part == 0 ? square : 0.0f;
  });
}

/** The input of a product: x / sqrt(mean(x^2) + eps) weights, rounded once. x is [tokens][padded(kHidden)]. */
template <class P>
DEVICE void norm(const Block& b, char* to, const float* x, const Vector* weights, int tokens) {
  constexpr int kPairsOfHidden = divide_up(kHidden, 2);
  const auto weight = [&](int i) { return i < kHidden ? to_float(weights[i]) : 0.0f; };
  for_tokens(b, tokens, [&](int token) {
    const float2* const row = reinterpret_cast<const float2*>(x + size_t(token) * padded(kHidden));
    float square = 0;
    for (int i = lane(); i < kPairsOfHidden; i += 32) square = fmaf(row[i].x, row[i].x, fmaf(row[i].y, row[i].y, square));
    const float factor = rsqrtf(warp_sum(square) * (1.0f / kHidden) + kNormEps);
    for (int i = lane(); i < kPairsOfHidden; i += 32)
      store_input<P>(to, token, 2 * i, row[i].x * factor * weight(2 * i), row[i].y * factor * weight(2 * i + 1));
  });
}

}  // namespace tiles
