// Inline PTX: a statement's text is read once where it stands, and then carried out with the operands of each thread.
#pragma once
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

namespace emu {

/** What stands behind %0, %1, ... */
struct Operand {
  void* to;  // null: it is only read
  uint64_t bits;
  unsigned bytes;
};

template <class T>
uint64_t bits_of(const T& value) {
  static_assert(sizeof(T) <= 8);
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}

/** An operand "+": read and written. One that is only written ("=") must not be read: its bits are noise. */
template <class T>
Operand inout(T& value) {
  return {&value, bits_of(value), sizeof(T)};
}
template <class T>
Operand out(T& value) {
  return {&value, 0xfeedfacecafebeefull, sizeof(T)};
}
template <class T>
Operand in(const T& value) {
  return {nullptr, bits_of(value), sizeof(T)};
}

struct Argument {
  enum Kind { kOperand, kLocal, kNumber, kSpecial, kNothing, kVector, kMemory } kind;
  uint64_t number = 0;  // of the operand or local; the value; added to an address
  std::string name;
  std::vector<Argument> parts;  // of a vector; the address
};

struct Frame;
struct Instruction;
using Carry = void (*)(const Instruction& i, Frame& f);

struct Instruction {
  std::string text;
  std::vector<std::string> words;  // of the opcode, as in ld, global, u32
  std::vector<Argument> arguments;
  int predicate = -1;  // local
  bool negated = false;
  Carry carry = nullptr;
  size_t target = 0;                 // of a branch
  unsigned bytes = 4, width = 1;     // of an element; elements of a vector

  enum Space { kGeneric, kShared, kGlobal } space = kGeneric;
  bool looks = false;  // at what others change

  bool has(const char* word) const;
};

/** A statement. */
struct Code {
  explicit Code(const char* text, const char* file = "", int line = 0);
  const char* file;
  int line;
  std::vector<Instruction> instructions;
  int locals = 0;
};

/** A statement while one thread carries it out. */
struct Frame {
  const Code& code;
  Operand* operands;
  uint64_t locals[32];

  uint64_t get(const Argument& a) const;
  void set(const Argument& a, uint64_t bits);
  /** Address in brackets. */
  uint64_t address(const Argument& a) const;
  /** Elements of a vector, or of one. */
  static const Argument& part(const Argument& a, unsigned i) { return a.kind == Argument::kVector ? a.parts[i] : a; }
};

/** What carries an opcode out; fails when that is not known. */
Carry carry_of(const Instruction& i);

void ptx(const Code& code, std::initializer_list<Operand> operands);

}  // namespace emu

#define EMU_CODE(text)                                       \
  ([]() -> const emu::Code& {                                \
    static const emu::Code code(text, __FILE__, __LINE__);   \
    return code;                                             \
  }())
