// One step of a dot product: kStep weights of a row, and as many inputs of a token, in the numbers that are multiplied.
#pragma once

#include "lib/simd.h"

// Members of a class are not static; in a namespace without a name they stay in this instruction set's object, too.
namespace {

/** As std::integral_constant. */
template <int I> struct Constant {
  constexpr operator int() const { return I; }
};

/** In float32: weights are widened, inputs are exact. Inputs of a step lie in the order of load_first, load_second. */
template <class W> struct Exact {
  using Part = Vec;
  static constexpr int parts = 2;  // vectors of a step
  static Part weights(const W* p, int part) { return part == 0 ? load_first(p) : load_second(p); }
  static Part input(const float* p) { return load(p); }
  /** Inputs a, b of a step, as vector `part` of it. */
  static Vec stored(Vec a, Vec b, int part) {
    const W* const order = nullptr;
    return part == 0 ? first_of(order, a, b) : second_of(order, a, b);
  }
};

template <class W> struct SharedStep {
  using Type = Exact<W>;
};

#if defined(__AVX512BF16__)
/** Pairs of bf16 as they lie: weights are not widened, inputs are rounded to bf16. Twice the products of an FMA. */
struct Paired {
  using Part = Pairs;
  static constexpr int parts = 1;
  static Part weights(const bf16* p, int) { return load_pairs(p); }
  static Part input(const float* p) { return load_pairs(p); }
  static Vec stored(Vec a, Vec b, int) { return (Vec)pairs_of(a, b); }
};

template <> struct SharedStep<bf16> {
  using Type = Paired;
};
#endif

}  // namespace

/** f(0), ..., f(N - 1) as constants: an array that is indexed by them alone stays in registers. */
template <int N, int From = 0, class F> DEVICE __attribute__((always_inline)) void for_each(F&& f) {
  if constexpr (From < N) {
    f(Constant<From>{});
    for_each<N, From + 1>(f);
  }
}

/** use(count, first) for tokens from `first` on: T at a time, then half as many; count is a constant. */
template <int T, class Use> DEVICE __attribute__((always_inline)) void for_tokens(int first, int tokens, Use&& use) {
  for (; first + T <= tokens; first += T) use(Constant<T>{}, first);
  if constexpr (T > 1) for_tokens<T / 2>(first, tokens, use);
}

/** How several tokens are multiplied that share the loads of a row: in the weights' own format where the instruction set can. */
template <class W> using Shared = typename SharedStep<W>::Type;

/** Floats of room that a token's input of `width` elements takes: half of them where a step is one vector. */
template <class Step> DEVICE constexpr int input_floats(int width) { return width / kStep * Step::parts * kLanes; }
