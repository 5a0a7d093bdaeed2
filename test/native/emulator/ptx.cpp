#include "ptx.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>

#include "launch.h"

namespace emu {

namespace {

std::string trimmed(const std::string& text) {
  const size_t from = text.find_first_not_of(" \t\n\r"), to = text.find_last_not_of(" \t\n\r");
  return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

/** Parts between separators that are in no bracket. */
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (c == separator && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

struct Reader {
  Code& code;
  std::map<std::string, int> locals;
  std::map<std::string, size_t> labels;

  int local(const std::string& name) {
    const auto [at, fresh] = locals.try_emplace(name, code.locals);
    if (fresh) ++code.locals;
    return at->second;
  }

  Argument argument(const std::string& given) {
    const std::string text = trimmed(given);
    const auto rest = [&] { return text.substr(1, text.size() - 2); };
    if (text == "_") return {Argument::kNothing, 0, text, {}};
    if (text[0] == '{') {
      Argument vector{Argument::kVector, 0, text, {}};
      for (const std::string& part : split(rest(), ',')) vector.parts.push_back(argument(part));
      return vector;
    }
    if (text[0] == '[') {
      // A map and coordinates in it, or an address.
      const std::vector<std::string> parts = split(rest(), ',');
      const std::vector<std::string> sum = split(parts[0], '+');
      Argument memory{Argument::kMemory, 0, text, {argument(sum[0])}};
      if (parts.size() > 1) memory.parts.push_back(argument(parts[1]));
      if (sum.size() > 1) memory.number = strtoull(trimmed(sum[1]).c_str(), nullptr, 0);
      return memory;
    }
    if (text[0] == '%' && isdigit(text[1])) return {Argument::kOperand, strtoull(text.c_str() + 1, nullptr, 10), text, {}};
    if (text[0] == '%') return {Argument::kSpecial, 0, text, {}};
    if (text.size() == 10 && (text.compare(0, 2, "0f") == 0 || text.compare(0, 2, "0F") == 0))
      return {Argument::kNumber, strtoull(text.c_str() + 2, nullptr, 16), text, {}};
    if (isdigit(text[0]) || text[0] == '-') {
      if (text.find('.') != std::string::npos) return {Argument::kNumber, bits_of(strtof(text.c_str(), nullptr)), text, {}};
      return {Argument::kNumber, uint64_t(strtoll(text.c_str(), nullptr, 0)), text, {}};
    }
    return {Argument::kLocal, uint64_t(local(text)), text, {}};
  }

  void declare(const std::string& text) {
    // .reg .pred p, q
    const std::string names = text.substr(text.find_first_of(" \t", text.find('.', 1)));
    for (const std::string& name : split(names, ',')) local(trimmed(name));
  }

  void statement(std::string text) {
    text = trimmed(text);
    while (!text.empty() && (text[0] == '{' || text[0] == '}')) text = trimmed(text.substr(1));
    if (text.empty()) return;
    if (text.compare(0, 4, ".reg") == 0) return declare(text);
    const size_t colon = text.find(':');
    if (colon != std::string::npos && text.compare(colon, 2, "::") != 0 && text.find_first_of(" \t.[") > colon) {
      labels[text.substr(0, colon)] = code.instructions.size();
      return statement(text.substr(colon + 1));
    }
    Instruction i;
    i.text = text;
    if (text[0] == '@') {
      const size_t end = text.find_first_of(" \t");
      i.negated = text[1] == '!';
      const std::string name = text.substr(i.negated ? 2 : 1, end - (i.negated ? 2 : 1));
      i.predicate = local(name);
      text = trimmed(text.substr(end));
    }
    const size_t end = text.find_first_of(" \t");
    i.words = split(text.substr(0, end), '.');
    if (i.words[0] == "bra") {
      i.arguments.push_back({Argument::kNothing, 0, trimmed(text.substr(end)), {}});
    } else if (end != std::string::npos) {
      for (const std::string& part : split(text.substr(end), ',')) {
        const std::vector<std::string> pair = split(part, '|');
        for (const std::string& one : pair) i.arguments.push_back(argument(one));
      }
    }
    for (const std::string& word : i.words) {
      if (word == "v2" || word == "v4" || word == "v8") i.width = unsigned(word[1] - '0');
      if (word.size() >= 2 && std::string("usbf").find(word[0]) != std::string::npos && isdigit(word[1]))
        i.bytes = std::max(1, atoi(word.c_str() + 1) / 8);
    }
    i.space = i.has("global") ? Instruction::kGlobal : i.has("shared") || i.has("shared::cta") || i.has("shared::cluster") ? Instruction::kShared : Instruction::kGeneric;
    i.looks = i.has("relaxed") || i.has("acquire") || i.has("volatile");
    i.carry = i.words[0] == "bra" ? nullptr : carry_of(i);
    code.instructions.push_back(i);
  }
};

uint64_t special(const std::string& name) {
  if (name == "%globaltimer") return nanoseconds();
  if (name == "%clock64" || name == "%clock") return turns();
  if (name == "%laneid") return uint64_t(current->lane);
  if (name == "%tid.x") return current->index.x;
  if (name == "%ntid.x") return launched->size.x;
  if (name == "%ctaid.x") return current->block->index.x;
  if (name == "%nctaid.x") return launched->grid.x;
  if (name == "%smid") return uint64_t(current->block->number);
  fail("PTX: %s is not known to the emulator", name.c_str());
}

}  // namespace

bool Instruction::has(const char* word) const { return std::find(words.begin(), words.end(), word) != words.end(); }

Code::Code(const char* text, const char* file, int line) : file(file), line(line) {
  Reader reader{*this, {}, {}};
  std::string plain;
  for (const char* at = text; *at; ++at) {
    // A brace that opens or closes a scope stands apart from those of vectors.
    const bool begins = *at == '{' && (trimmed(plain).empty() || trimmed(plain).back() == ';');
    const bool ends = *at == '}' && !trimmed(plain).empty() && trimmed(plain).back() == ';';
    plain += begins || ends ? ' ' : *at;
  }
  for (const std::string& statement : split(plain, ';')) reader.statement(statement);
  if (locals > int(sizeof Frame::locals / sizeof(uint64_t))) fail("PTX: too many registers in %s", text);
  for (Instruction& i : instructions) {
    if (i.words[0] != "bra") continue;
    const auto label = reader.labels.find(i.arguments[0].name);
    if (label == reader.labels.end()) fail("PTX: no label %s", i.arguments[0].name.c_str());
    i.target = label->second;
  }
}

uint64_t Frame::get(const Argument& a) const {
  switch (a.kind) {
    case Argument::kOperand: return operands[a.number].bits;
    case Argument::kLocal: return locals[a.number];
    case Argument::kNumber: return a.number;
    case Argument::kSpecial: return special(a.name);
    default: fail("PTX: %s is no value", a.name.c_str());
  }
}

void Frame::set(const Argument& a, uint64_t bits) {
  if (a.kind == Argument::kNothing) return;
  if (a.kind == Argument::kLocal) {
    locals[a.number] = bits;
    return;
  }
  if (a.kind != Argument::kOperand || operands[a.number].to == nullptr) fail("PTX: %s cannot be written", a.name.c_str());
  Operand& operand = operands[a.number];
  memcpy(operand.to, &bits, operand.bytes);
  operand.bits = bits;
}

uint64_t Frame::address(const Argument& a) const {
  if (a.kind != Argument::kMemory) fail("PTX: %s is no address", a.name.c_str());
  const Argument& base = a.parts[0];
  uint64_t at = get(base);
  if (base.kind == Argument::kOperand && operands[base.number].bytes == 4) at = uint32_t(at);
  return at + a.number;
}

void ptx(const Code& code, std::initializer_list<Operand> given) {
  Operand operands[72];
  std::copy(given.begin(), given.end(), operands);
  Frame frame{code, operands, {}};
  for (size_t at = 0; at < code.instructions.size();) {
    const Instruction& i = code.instructions[at++];
    current->place = {i.text.c_str(), code.file, code.line};
    if (i.predicate >= 0 && (frame.locals[i.predicate] != 0) == i.negated) continue;
    if (i.carry == nullptr)
      at = i.target;
    else
      i.carry(i, frame);
  }
}

}  // namespace emu
