// Matrices of quantised checkpoints: codes of 4 or 8 bits, whose scales and zero points are tensors of their own.
// Formats: compressed-tensors (pack_quantized.py), AutoGPTQ (qlinear_cuda_old.py), AutoAWQ (packing_utils.py), fp8 of transformers.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "blocks.h"
#include "files.h"

/** Where codes, scales and zero points lie. Sizes in elements. */
struct PackedMatrix {
  int dtype;  // of the codes
  int64_t rows, columns;
  int64_t group_rows, group_columns;
  int scales_dtype, zeros_added;
  int64_t file_rows;  // of turned ones a line of the file has so many rows, of which these follow each other
  /** A descriptor, the first byte and the name of a file; without zero points fd is -1. */
  struct Part {
    int fd;
    int64_t offset;
    std::string path;
  } codes, scales, zeros;

  /** A column of the matrix is a row of these formats. */
  bool turned() const { return dtype == kDtypeGptq4 || dtype == kDtypeGptq8 || dtype == kDtypeAwq4; }
  int bits() const { return dtype == kDtypePacked4 || dtype == kDtypeGptq4 || dtype == kDtypeAwq4 ? 4 : 8; }
  int64_t groups() const { return (columns + group_columns - 1) / group_columns; }
  /** Of a turned matrix, bits of a row in a line of codes: a word of GPTQ is of several columns, of AWQ of several rows. */
  int64_t code_bits() const { return dtype == kDtypeAwq4 ? 4 : 32; }
  int64_t code_lines() const { return columns * bits() / code_bits(); }
  /** From the first of the rows to the end of the last, where each has so many bits of a line. */
  int64_t turned_bytes(int64_t lines, int64_t row_bits) const { return ((lines - 1) * file_rows + rows) * row_bits / 8; }
  int64_t code_bytes() const { return turned() ? turned_bytes(code_lines(), code_bits()) : rows * columns * bits() / 8; }
  int64_t scale_bytes() const {
    const int64_t scale = dtype_bytes(scales_dtype);
    return turned() ? turned_bytes(groups(), 8 * scale) : (rows + group_rows - 1) / group_rows * groups() * scale;
  }
  /** Zero points are packed as codes are; of signed bytes they are bytes, of other rows words along a column. */
  int64_t zero_bytes() const {
    if (turned()) return turned_bytes(groups(), bits());
    return dtype == kDtypeI8 ? rows * groups() : (rows * bits() + 31) / 32 * 4 * groups();
  }
  /** The zero point of codes that have none: the middle of unsigned ones. */
  int middle() const { return dtype == kDtypeI8 || dtype == kDtypeF8 ? 0 : bits() == 4 ? 8 : 128; }
};

inline bool is_packed(int dtype) { return dtype >= kDtypeF8 && dtype <= kDtypeAwq4; }

/** e4m3: sign, 4 bits of exponent with a bias of 7, 3 of fraction; no infinities, and NaN where all bits but the sign are set. */
inline float from_f8_e4m3(uint8_t bits) {
  if ((bits & 127) == 127) return bits_float(0x7fc00000u);
  const float magnitude = bits_float(uint32_t{bits & 127u} << 20) * bits_float(0x7b800000u);  // 2^120
  return bits & 128 ? -magnitude : magnitude;
}

/** By their bits. */
struct F8Numbers {
  float of[256];
  F8Numbers() {
    for (int bits = 0; bits < 256; ++bits) of[bits] = from_f8_e4m3(static_cast<uint8_t>(bits));
  }
};

/** Rows of a matrix: parts of a file are read for several of them, best asked for in ascending order. */
class PackedRows {
 public:
  explicit PackedRows(const PackedMatrix& matrix) : matrix_(matrix) {}

  /** Columns [first, first + n) of a row, code minus zero point: whole numbers, but of fp8. All are of one group.
   *  Gives their scale. @param zero_point theirs */
  float codes(int64_t row, int64_t first, int64_t n, float* out, int* zero_point = nullptr) {
    load(row);
    const int64_t group = first / matrix_.group_columns;
    const int zero = zero_of(row, group);
    if (zero_point != nullptr) *zero_point = zero;
    put_codes(row, first, n, zero, out);
    return scale_of(row, group);
  }

  /** Columns [first, first + n) of a row. */
  void numbers(int64_t row, int64_t first, int64_t n, float* out) {
    while (n > 0) {
      const int64_t some = std::min(n, matrix_.group_columns - first % matrix_.group_columns);
      const float scale = codes(row, first, some, out);
      for (int64_t i = 0; i < some; ++i) out[i] *= scale;
      first += some;
      out += some;
      n -= some;
    }
  }

 private:
  static constexpr int64_t kBytes = 1 << 20;  // of codes that are held: of turned ones a read is of few rows

  /** Bytes [column, column + width) of rows [row, row + count) of a part that has `stride` bytes a row. */
  static void read_part(const PackedMatrix::Part& part, int64_t stride, int64_t row, int64_t count, int64_t column, int64_t width, std::vector<uint8_t>& out) {
    out.resize(static_cast<size_t>(count * width));
    if (column == 0 && width == stride) {
      read_exactly(part.fd, part.offset + row * stride, out.data(), count * stride, part.path);
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      read_exactly(part.fd, part.offset + (row + i) * stride + column, out.data() + i * width, width, part.path);
    }
  }

  void load(int64_t row) {
    if (row >= begin_ && row < end_) return;
    const PackedMatrix& m = matrix_;
    const int64_t row_bytes = m.columns * m.bits() / 8;
    // A word holds codes, or zero points, of up to eight rows.
    const int64_t rows = std::max<int64_t>(1, kBytes / row_bytes / 8) * 8;
    begin_ = row / 8 * 8;
    end_ = std::min(begin_ + rows, m.rows);
    const int64_t count = end_ - begin_, scale = dtype_bytes(m.scales_dtype);
    first_scale_ = begin_ / m.group_rows;
    scale_rows_ = (end_ - 1) / m.group_rows + 1 - first_scale_;
    if (m.turned()) {
      const auto read = [&](const PackedMatrix::Part& part, int64_t lines, int64_t row_bits, std::vector<uint8_t>& out) {
        read_part(part, m.file_rows * row_bits / 8, 0, lines, begin_ * row_bits / 8, count * row_bits / 8, out);
      };
      read(m.codes, m.code_lines(), m.code_bits(), codes_);
      read(m.scales, m.groups(), 8 * scale, scales_);
      read(m.zeros, m.groups(), m.bits(), zeros_);
    } else {
      read_part(m.codes, row_bytes, begin_, count, 0, row_bytes, codes_);
      read_part(m.scales, m.groups() * scale, first_scale_, scale_rows_, 0, m.groups() * scale, scales_);
      if (m.zeros.fd < 0) return;
      if (m.dtype == kDtypeI8) read_part(m.zeros, m.groups(), begin_, count, 0, m.groups(), zeros_);
      else read_part(m.zeros, m.groups() * 4, begin_ * m.bits() / 32, (count * m.bits() + 31) / 32, 0, m.groups() * 4, zeros_);
    }
  }

  /** Sets out[i] to code(column) - zero. */
  template <class Code>
  static void put(int64_t first, int64_t n, int zero, float* out, Code code) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(code(first + i) - zero);
  }

  void put_codes(int64_t row, int64_t first, int64_t n, int zero, float* out) const {
    const int64_t in = row - begin_, count = end_ - begin_, columns = matrix_.columns;
    const uint8_t* codes = codes_.data();
    switch (matrix_.dtype) {
      case kDtypeF8: {
        static const F8Numbers numbers;
        for (int64_t i = 0; i < n; ++i) out[i] = numbers.of[codes[in * columns + first + i]];
        return;
      }
      case kDtypeI8: return put(first, n, zero, out, [=](int64_t at) { return static_cast<int8_t>(codes[in * columns + at]); });
      case kDtypePacked8: return put(first, n, zero, out, [=](int64_t at) { return codes[in * columns + at]; });
      case kDtypePacked4: return put(first, n, zero, out, [=](int64_t at) { return codes[(in * columns + at) / 2] >> (at % 2 * 4) & 15; });
      case kDtypeGptq4: return put(first, n, zero, out, [=](int64_t at) { return codes[(at / 8 * count + in) * 4 + at % 8 / 2] >> (at % 2 * 4) & 15; });
      case kDtypeGptq8: return put(first, n, zero, out, [=](int64_t at) { return codes[(at / 4 * count + in) * 4 + at % 4]; });
      case kDtypeAwq4: {
        const int64_t half = awq_half(in);
        return put(first, n, zero, out, [=](int64_t at) { return codes[at * (count / 2) + half / 2] >> (half % 2 * 4) & 15; });
      }
    }
  }

  /** The halves of a word are, from the lowest, of rows 0, 2, 4, 6, 1, 3, 5, 7. */
  static int64_t awq_half(int64_t row) { return row / 8 * 8 + row % 2 * 4 + row % 8 / 2; }

  int zero_of(int64_t row, int64_t group) const {
    const PackedMatrix& m = matrix_;
    if (m.zeros.fd < 0) return m.middle();
    const int64_t in = row - begin_, count = end_ - begin_;
    switch (m.dtype) {
      case kDtypeI8: return static_cast<int8_t>(zeros_[static_cast<size_t>(in * m.groups() + group)]);
      case kDtypeGptq4: return (zeros_[static_cast<size_t>((group * count + in) / 2)] >> (in % 2 * 4) & 15) + m.zeros_added;
      case kDtypeGptq8: return zeros_[static_cast<size_t>(group * count + in)] + m.zeros_added;
      case kDtypeAwq4: return zeros_[static_cast<size_t>((group * count + awq_half(in)) / 2)] >> (awq_half(in) % 2 * 4) & 15;
      case kDtypePacked4: return zeros_[static_cast<size_t>((in / 8 * m.groups() + group) * 4 + in % 8 / 2)] >> (in % 2 * 4) & 15;
      default: return zeros_[static_cast<size_t>((in / 4 * m.groups() + group) * 4 + in % 4)];
    }
  }

  float scale_of(int64_t row, int64_t group) const {
    const PackedMatrix& m = matrix_;
    const int64_t at = m.turned() ? group * (end_ - begin_) + row - begin_ : (row / m.group_rows - first_scale_) * m.groups() + group;
    float scale;
    convert(scales_.data() + at * dtype_bytes(m.scales_dtype), m.scales_dtype, &scale, kDtypeFp32, 1);
    return scale;
  }

  const PackedMatrix& matrix_;
  int64_t begin_ = 0, end_ = 0;  // rows that are held
  int64_t first_scale_ = 0, scale_rows_ = 0;
  std::vector<uint8_t> codes_, scales_, zeros_;
};

/** Whether blocks of this format can have the codes of such a matrix, with the scale in fp16: Q4_1 whatever their zero point, others where it is the middle. */
inline bool has_codes_of(int dtype, const PackedMatrix& m) {
  if (m.group_columns % 32 != 0 || m.columns % 32 != 0) return false;
  switch (dtype) {
    case kDtypeQ8_0: return m.dtype == kDtypeI8 || m.dtype == kDtypePacked8 || m.dtype == kDtypeGptq8;
    case kDtypeQ4_0: return m.dtype == kDtypePacked4 || m.dtype == kDtypeGptq4;
    case kDtypeQ4_1: return m.bits() == 4;
    case kDtypeF8_block: return m.dtype == kDtypeF8;
    default: return false;
  }
}
