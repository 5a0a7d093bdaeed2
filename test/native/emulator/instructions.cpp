// The opcodes of PTX that kernels use. One that is missing fails the launch: add it here.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

#include "launch.h"
#include "matrix.h"
#include "tensor_maps.h"
#include "warpgroup.h"
#include "ptx.h"

namespace emu {

namespace {

float float_of(uint64_t bits) {
  const auto low = uint32_t(bits);
  float x;
  memcpy(&x, &low, 4);
  return x;
}

/** Where a statement stands; `current->place` is set before it is carried out. */
const Place& here() { return current->place; }

char* memory(const Instruction& i, Frame& f, const Argument& address, size_t bytes) {
  const uint64_t at = f.address(address);
  switch (i.space) {
    case Instruction::kShared: return shared_memory(uint32_t(at), bytes);
    case Instruction::kGlobal: return global_memory(at, bytes);
    default: return reinterpret_cast<char*>(at);
  }
}

// ---- loads, stores, atomics

void load(const Instruction& i, Frame& f) {
  if (i.looks) poll(here());
  const char* const from = memory(i, f, i.arguments[1], size_t{i.bytes} * i.width);
  for (unsigned n = 0; n < i.width; ++n) {
    uint64_t bits = 0;
    memcpy(&bits, from + n * i.bytes, i.bytes);
    if (i.words.back()[0] == 's' && i.bytes < 4) bits = uint64_t(int64_t(bits << (64 - 8 * i.bytes)) >> (64 - 8 * i.bytes));
    f.set(Frame::part(i.arguments[0], n), bits);
  }
}

void store(const Instruction& i, Frame& f) {
  char* const to = memory(i, f, i.arguments[0], size_t{i.bytes} * i.width);
  for (unsigned n = 0; n < i.width; ++n) {
    const uint64_t bits = f.get(Frame::part(i.arguments[1], n));
    memcpy(to + n * i.bytes, &bits, i.bytes);
  }
  progress();
}

uint64_t changed(const Instruction& i, uint64_t before, uint64_t x, uint64_t swap) {
  const std::string& type = i.words.back();
  const bool is_signed = type[0] == 's', less = is_signed ? (i.bytes == 4 ? int32_t(before) < int32_t(x) : int64_t(before) < int64_t(x)) : before < x;
  if (i.has("add") && type == "f32") return bits_of(float_of(before) + float_of(x));
  if (i.has("add")) return before + x;
  if (i.has("min")) return less ? before : x;
  if (i.has("max")) return less ? x : before;
  if (i.has("or")) return before | x;
  if (i.has("and")) return before & x;
  if (i.has("xor")) return before ^ x;
  if (i.has("exch")) return x;
  if (i.has("inc")) return before >= x ? 0 : before + 1;
  if (i.has("cas")) return before == x ? swap : before;
  fail("PTX: this atomic is not known to the emulator");
}

void atomic(const Instruction& i, Frame& f) {
  const bool returns = i.words[0] == "atom";
  const auto argument = [&](size_t n) -> const Argument& { return i.arguments[n + (returns ? 1 : 0)]; };
  char* const at = memory(i, f, argument(0), i.bytes);
  uint64_t before = 0;
  memcpy(&before, at, i.bytes);
  const uint64_t after = changed(i, before, f.get(argument(1)), i.has("cas") ? f.get(argument(2)) : 0);
  memcpy(at, &after, i.bytes);
  if (after != before) progress();
  if (returns) f.set(i.arguments[0], before);
  if (returns && after == before) poll(here());
}

// ---- arithmetic

uint64_t masked(const Instruction& i, uint64_t bits) { return i.bytes == 8 ? bits : bits & ((uint64_t{1} << 8 * i.bytes) - 1); }

void move(const Instruction& i, Frame& f) {
  const Argument &to = i.arguments[0], &from = i.arguments[1];
  if (from.kind == Argument::kVector) {
    uint64_t bits = 0;
    const unsigned each = 8 * i.bytes / unsigned(from.parts.size());
    for (size_t n = 0; n < from.parts.size(); ++n) bits |= (f.get(from.parts[n]) & ((uint64_t{1} << each) - 1)) << each * n;
    f.set(to, bits);
  } else if (to.kind == Argument::kVector) {
    const uint64_t bits = f.get(from);
    const unsigned each = 8 * i.bytes / unsigned(to.parts.size());
    for (size_t n = 0; n < to.parts.size(); ++n) f.set(to.parts[n], bits >> each * n & ((uint64_t{1} << each) - 1));
  } else {
    f.set(to, f.get(from));
  }
}

void compare(const Instruction& i, Frame& f) {
  uint64_t a = masked(i, f.get(i.arguments[1])), b = masked(i, f.get(i.arguments[2]));
  const std::string& type = i.words.back();
  const int order = type[0] == 'f' ? (float_of(a) < float_of(b) ? -1 : float_of(a) > float_of(b))
                    : type[0] == 's' && i.bytes == 4 ? (int32_t(a) < int32_t(b) ? -1 : int32_t(a) > int32_t(b))
                    : type[0] == 's' ? (int64_t(a) < int64_t(b) ? -1 : int64_t(a) > int64_t(b))
                                     : (a < b ? -1 : a > b);
  const std::string& how = i.words[1];
  const bool is = how == "eq" ? order == 0 : how == "ne" ? order != 0 : how == "lt" || how == "lo" ? order < 0 : how == "le" || how == "ls" ? order <= 0
                  : how == "gt" || how == "hi" ? order > 0 : how == "ge" || how == "hs" ? order >= 0 : (fail("PTX: this comparison is not known to the emulator"), false);
  f.set(i.arguments[0], is);
}

void select(const Instruction& i, Frame& f) { f.set(i.arguments[0], f.get(i.arguments[f.get(i.arguments[3]) ? 1 : 2])); }

void integer(const Instruction& i, Frame& f) {
  const std::string& op = i.words[0];
  const uint64_t a = masked(i, f.get(i.arguments[1])), b = i.arguments.size() > 2 ? f.get(i.arguments[2]) : 0;
  uint64_t result = 0;
  if (op == "add") result = a + b;
  if (op == "sub") result = a - b;
  if (op == "mul") result = a * b;
  if (op == "mad") result = a * b + f.get(i.arguments[3]);
  if (op == "shl") result = a << b;
  if (op == "shr") result = i.words.back()[0] == 's' ? uint64_t(i.bytes == 4 ? int64_t(int32_t(a)) >> b : int64_t(a) >> b) : a >> b;
  if (op == "and") result = a & b;
  if (op == "or") result = a | b;
  if (op == "xor") result = a ^ b;
  if (op == "not") result = i.bytes == 1 ? !a : ~a;
  f.set(i.arguments[0], masked(i, result));
}

/** Functions of float32 that the hardware approximates; `ftz` is not imitated. */
void function(const Instruction& i, Frame& f) {
  const std::string& op = i.words[0];
  const float x = float_of(f.get(i.arguments[1]));
  const auto y = [&] { return float_of(f.get(i.arguments[2])); };
  float result = 0;
  if (op == "ex2") result = exp2f(x);
  if (op == "lg2") result = log2f(x);
  if (op == "rcp") result = 1 / x;
  if (op == "sqrt") result = sqrtf(x);
  if (op == "rsqrt") result = 1 / sqrtf(x);
  if (op == "tanh") result = tanhf(x);
  if (op == "add") result = x + y();
  if (op == "sub") result = x - y();
  if (op == "mul") result = x * y();
  if (op == "max") result = fmaxf(x, y());
  if (op == "min") result = fminf(x, y());
  if (op == "fma") result = fmaf(x, y(), float_of(f.get(i.arguments[3])));
  f.set(i.arguments[0], bits_of(result));
}

/** cvt.rn of two floats: the first becomes the upper half. */
void convert_pair(const Instruction& i, Frame& f) {
  const float high = float_of(f.get(i.arguments[1])), low = float_of(f.get(i.arguments[2]));
  if (i.has("bf16x2")) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    f.set(i.arguments[0], bits_of(pair));
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    f.set(i.arguments[0], bits_of(pair));
  }
}

// ---- synchronisation

void nothing(const Instruction&, Frame&) {}
void pause(const Instruction&, Frame&) { poll(here()); }
void zero(const Instruction& i, Frame& f) { f.set(i.arguments[0], 0); }

void barrier(const Instruction& i, Frame& f) {
  if (i.has("warp")) return sync_warp(uint32_t(f.get(i.arguments[0])), here());
  const auto value = [&](size_t n) { return n < i.arguments.size() ? int(f.get(i.arguments[n])) : 0; };
  cross(value(0), value(1), i.has("sync"), here());
}

char* mbarrier_at(Frame& f, const Argument& address) { return shared_memory(uint32_t(f.address(address)), 8); }

void mbarrier(const Instruction& i, Frame& f) {
  const std::string& op = i.words[1];
  const auto& a = i.arguments;
  const auto value = [&](size_t n, uint32_t otherwise) { return n < a.size() ? uint32_t(f.get(a[n])) : otherwise; };
  if (op == "init") return init_barrier(mbarrier_at(f, a[0]), value(1, 0));
  if (op == "inval") return;
  if (op == "expect_tx") return expect_bytes(mbarrier_at(f, a[0]), value(1, 0));
  if (op == "arrive") {
    // Of some forms the state comes first.
    const size_t at = a[0].kind == Argument::kMemory ? 0 : 1;
    char* const barrier = mbarrier_at(f, a[at]);
    if (i.has("noComplete")) fail("PTX: this arrival is not known to the emulator");
    if (i.has("expect_tx")) expect_bytes(barrier, value(at + 1, 0));
    return arrive(barrier, i.has("expect_tx") ? 1 : value(at + 1, 1));
  }
  if ((op == "try_wait" || op == "test_wait") && i.has("parity")) {
    const bool first = is_past(mbarrier_at(f, a[1]), value(2, 0));
    if (!first || op == "test_wait") poll(here());
    return f.set(a[0], is_past(mbarrier_at(f, a[1]), value(2, 0)));
  }
  fail("PTX: this use of an mbarrier is not known to the emulator");
}

// ---- copies

void copy(const Instruction& i, Frame& f) {
  const auto& a = i.arguments;
  if (i.has("commit_group")) return end_group();
  if (i.has("wait_group")) return wait_groups(int(f.get(a[0])));
  if (i.has("wait_all")) return end_group(), wait_groups(0);
  if (i.has("mbarrier")) return arrive_copied(mbarrier_at(f, a[0]), !i.has("noinc"));
  if (i.has("prefetch")) return;
  if (i.has("tensor")) {
    const bool known = i.has("4d") && i.has("tile") && i.has("global") && i.has("mbarrier::complete_tx::bytes") && a[1].parts.size() == 2;
    if (!known) fail("PTX: this tensor copy is not known to the emulator");
    int at[4];
    for (int n = 0; n < 4; ++n) at[n] = int(uint32_t(f.get(a[1].parts[1].parts.at(n))));
    return copy_box(uint32_t(f.address(a[0])), reinterpret_cast<const void*>(f.address(a[1])), at, mbarrier_at(f, a[2]));
  }
  if (i.has("bulk")) {
    const bool whole = i.has("mbarrier::complete_tx::bytes") && !i.has("tensor") && !i.has("multicast::cluster") && i.has("global");
    if (!whole || a[0].kind != Argument::kMemory) fail("PTX: this bulk copy is not known to the emulator");
    const auto bytes = uint32_t(f.get(a[2]));
    const uint64_t to = f.address(a[0]), from = f.address(a[1]);
    if (bytes % 16 || to % 16 || from % 16) fail("a bulk copy of %u bytes: not all are multiples of 16", bytes);
    if (bytes == 0) return;
    return bulk_copy(shared_memory(uint32_t(to), bytes), global_memory(from, bytes), bytes, mbarrier_at(f, a[3]));
  }
  if (!i.has("ca") && !i.has("cg")) fail("PTX: this copy is not known to the emulator");
  const auto bytes = unsigned(f.get(a[2]));
  const bool legal = i.has("cg") ? bytes == 16 : bytes == 4 || bytes == 8 || bytes == 16;
  if (!legal) fail("cp.async of %u bytes", bytes);
  const bool shorter = a.size() > 3 && !i.has("L2::cache_hint");
  const auto taken = shorter ? unsigned(f.get(a[3])) : bytes;
  if (taken > bytes) fail("cp.async of %u bytes of %u", taken, bytes);
  char* const to = shared_memory(uint32_t(f.address(a[0])), bytes);
  const uint64_t from = f.address(a[1]);
  if (from % bytes != 0) fail("cp.async of %u bytes from an address that is no multiple of it", bytes);
  begin_copy(to, taken > 0 ? global_memory(from, taken < bytes ? 1 : bytes) : to, int(bytes), int(taken));
}

// ---- warps

template <Element Type>
void multiply_matrices(const Instruction& i, Frame& f) {
  const auto& a = i.arguments;
  uint32_t left[4], right[2];
  float sum[4], result[4];
  for (int n = 0; n < 4; ++n) left[n] = uint32_t(f.get(a[1].parts.at(n)));
  for (int n = 0; n < 2; ++n) right[n] = uint32_t(f.get(a[2].parts.at(n)));
  for (int n = 0; n < 4; ++n) sum[n] = float_of(f.get(Frame::part(a[3], n)));
  multiply(Type, result, left, right, sum, here());
  for (int n = 0; n < 4; ++n) f.set(a[0].parts.at(n), bits_of(result[n]));
}

/** Products of four warps: carried out when their group is waited for. */
void warpgroup(const Instruction& i, Frame& f) {
  const auto& a = i.arguments;
  const std::string& op = i.words[1];
  if (op == "fence") return;
  if (op == "commit_group") return end_products();
  if (op == "wait_group") return wait_products(int(f.get(a[0])));
  // d, a, b, scale of d, scales of a and b, and which of the matrices in shared memory lie the other way
  const bool in_registers = a.size() == 7;
  const bool known = op == "mma_async" && (i.has("bf16") || i.has("f16")) && i.has("f32") && (in_registers || (a.size() == 8 && f.get(a[6]) == 0)) &&
                     f.get(a[4]) == 1 && f.get(a[5]) == 1;
  if (!known) fail("PTX: this use of wgmma is not known to the emulator");
  const Element type = i.has("bf16") ? Element::kBf16 : Element::kFp16;
  Products products{type, {}, in_registers ? 0 : f.get(a[1]), f.get(a[2]), in_registers, {}, f.get(a.back()) != 0, f.get(a[3]) == 0};
  if (in_registers) {
    uint32_t rows[4];
    for (int n = 0; n < 4; ++n) rows[n] = uint32_t(f.get(a[1].parts.at(size_t(n))));
    rows_of(type, products.x, rows, here());
  }
  for (const Argument& part : a[0].parts) products.sums.push_back(static_cast<float*>(f.operands[part.number].to));
  begin_products(products, here());
}

unsigned matrices_of(const Instruction& i) {
  if (!i.has("m8n8") || !i.has("b16")) fail("PTX: this matrix is not known to the emulator");
  return i.has("x4") ? 4 : i.has("x2") ? 2 : 1;
}

void load_matrix(const Instruction& i, Frame& f) {
  uint32_t registers[4] = {};
  const unsigned count = matrices_of(i);
  load_matrices(registers, count, i.has("trans"), uint32_t(f.address(i.arguments[1])), here());
  for (unsigned n = 0; n < count; ++n) f.set(Frame::part(i.arguments[0], n), registers[n]);
}

void store_matrix(const Instruction& i, Frame& f) {
  uint32_t registers[4] = {};
  const unsigned count = matrices_of(i);
  for (unsigned n = 0; n < count; ++n) registers[n] = uint32_t(f.get(Frame::part(i.arguments[1], n)));
  store_matrices(registers, count, i.has("trans"), uint32_t(f.address(i.arguments[0])), here());
}

/** shfl.sync d(|p), a, b, c, mask. */
void shuffle_lanes(const Instruction& i, Frame& f) {
  const auto& a = i.arguments;
  const size_t n = a.size() - 4;
  const auto c = unsigned(f.get(a[n + 2]));
  const Shuffle kind = i.has("bfly") ? Shuffle::kXor : i.has("up") ? Shuffle::kUp : i.has("down") ? Shuffle::kDown : Shuffle::kIndex;
  bool found;
  const uint64_t got = shuffle(kind, uint32_t(f.get(a[n + 3])), f.get(a[n]), unsigned(f.get(a[n + 1])), 32 - (c >> 8 & 31), &found, here());
  f.set(a[0], got);
  if (n == 2) f.set(a[1], found);
}

void vote(const Instruction& i, Frame& f) {
  const auto mask = uint32_t(f.get(i.arguments[2]));
  const uint32_t yes = ballot(mask, f.get(i.arguments[1]) != 0, here());
  f.set(i.arguments[0], i.has("ballot") ? yes : i.has("any") ? yes != 0 : (yes | ~mask) == ~0u);
}

void elect(const Instruction& i, Frame& f) {
  const auto mask = uint32_t(f.get(i.arguments[2]));
  const uint32_t there = ballot(mask, true, here());
  f.set(i.arguments[0], uint64_t(__builtin_ctz(there)));
  f.set(i.arguments[1], __builtin_ctz(there) == current->lane);
}

void reduce_lanes(const Instruction& i, Frame& f) {
  const Reduce kind = i.has("add") ? Reduce::kAdd : i.has("min") ? Reduce::kMin : i.has("max") ? Reduce::kMax : i.has("and") ? Reduce::kAnd : i.has("or") ? Reduce::kOr : Reduce::kXor;
  f.set(i.arguments[0], reduce(kind, i.has("s32"), uint32_t(f.get(i.arguments[2])), uint32_t(f.get(i.arguments[1])), here()));
}

/** Bit by bit: the last argument is a table of three bits. */
void look_up(const Instruction& i, Frame& f) {
  const auto& a = i.arguments;
  const auto x = uint32_t(f.get(a[1])), y = uint32_t(f.get(a[2])), z = uint32_t(f.get(a[3])), table = uint32_t(f.get(a[4]));
  uint32_t result = 0;
  for (int bit = 0; bit < 32; ++bit) result |= (table >> ((x >> bit & 1) * 4 + (y >> bit & 1) * 2 + (z >> bit & 1)) & 1) << bit;
  f.set(a[0], result);
}

struct Known {
  const char* word;
  Carry carry;
};
constexpr Known kKnown[] = {
    {"ld", load}, {"ldu", load}, {"st", store}, {"red", atomic}, {"atom", atomic}, {"mov", move}, {"setp", compare}, {"selp", select},
    {"add", integer}, {"sub", integer}, {"mul", integer}, {"mad", integer}, {"shl", integer}, {"shr", integer}, {"and", integer}, {"or", integer},
    {"xor", integer}, {"not", integer}, {"ex2", function}, {"lg2", function}, {"rcp", function}, {"sqrt", function}, {"rsqrt", function}, {"tanh", function},
    {"fma", function}, {"bar", barrier}, {"barrier", barrier}, {"membar", nothing}, {"fence", nothing}, {"prefetch", nothing}, {"prefetchu", nothing},
    {"discard", nothing}, {"applypriority", nothing}, {"createpolicy", zero}, {"setmaxnreg", nothing}, {"nanosleep", pause}, {"griddepcontrol", nothing},
    {"mbarrier", mbarrier}, {"cp", copy}, {"ldmatrix", load_matrix}, {"stmatrix", store_matrix}, {"shfl", shuffle_lanes},
    {"vote", vote}, {"elect", elect}, {"redux", reduce_lanes}, {"wgmma", warpgroup},
    {"lop3", look_up},
};

}  // namespace

Carry carry_of(const Instruction& i) {
  const std::string& type = i.words.back();
  if (i.words[0] == "cvt" && i.has("rn") && (i.has("bf16x2") || i.has("f16x2")) && type == "f32") return convert_pair;
  if (i.words[0] == "mma" && i.has("sync") && i.has("m16n8k16") && i.has("row") && i.has("col") && type == "f32") {
    if (i.has("bf16")) return multiply_matrices<Element::kBf16>;
    if (i.has("f16")) return multiply_matrices<Element::kFp16>;
  }
  if (type == "f32")
    for (const char* const op : {"add", "sub", "mul", "max", "min", "fma"})
      if (i.words[0] == op) return function;
  const bool wide = i.has("wide") || i.has("hi") || i.has("sat") || i.has("cc");
  const bool other_float = type == "f64" || type == "f16" || type == "bf16" || type == "f16x2" || type == "bf16x2";
  for (const Known& known : kKnown)
    if (i.words[0] == known.word && !((other_float || wide) && (known.carry == integer || known.carry == function))) return known.carry;
  fail("PTX: the emulator does not know \"%s\"", i.text.c_str());
}

}  // namespace emu
