// Fills the packed weights: every slot from its source, converted, rows padded with zeros.
// The packed bytes are cut into chunks and the chunks dealt to threads, whichever tensors lie in them.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "backend.h"
#include "blocks.h"
#include "convert.h"
#include "files.h"
#include "model_facts.h"
#include "packed.h"
#include "quantise.h"
#include "random.h"

/** A Packing that owns its paths; without zero points theirs is empty. */
struct SourcePacking {
  std::string scales, zeros;
  int64_t scales_offset, zeros_offset;
  int32_t scales_dtype, group_rows, group_columns, zeros_added, file_rows;
};

/** A TensorSource that owns its paths. */
struct Source {
  std::string path;
  int64_t offset;
  int32_t slot, dtype, head_rows;
  uint64_t seed;
  float mean, scale;
  SourcePacking packing;
};

/** One slot of the model with its source, opened. Sizes in elements unless the name says bytes. */
struct Tensor {
  int64_t rows, columns, width, stride;  // width: columns with their padding, all that is written of a row
  int64_t first_byte;                    // in the packed weights
  int dtype;
  Source source;
  int fd;
  std::optional<PackedMatrix> packed;
  int64_t head_rows = 0, rotated_rows = 0;  // of the slot

  bool in_other_order() const { return source.head_rows != 0 || head_rows != 0; }
  /** The row of the file that becomes a row of the slot. In a head, elements i and i + half are a rotary pair. */
  int64_t file_row(int64_t row) const {
    if (head_rows != 0) return row_of_part(row);
    if (source.head_rows == 0) return row;
    const int64_t in_head = row % source.head_rows, half = source.head_rows / 2;
    return row - in_head + (in_head % half) * 2 + in_head / half;
  }
  /** Of heads whose first rotated_rows the file has as pairs (i, i + rotated_rows / 2), and then the others: these are the last pairs of the slot. */
  int64_t row_of_part(int64_t row) const {
    const int64_t in_head = row % head_rows, half = head_rows / 2, pairs = rotated_rows / 2;
    const int64_t pair = in_head % half, second = in_head / half;
    const int64_t from = pair < pairs ? pair + second * pairs : rotated_rows + pair - pairs + second * (half - pairs);
    return row - in_head + from;
  }
  /** Bytes of elements in the slot: of whole blocks where it has blocks. */
  int64_t bytes(int64_t elements) const {
    const Blocks blocks = blocks_of(dtype);
    return elements / blocks.elements * blocks.bytes;
  }
  int64_t row_bytes() const { return bytes(stride); }
  int64_t end_byte() const { return first_byte + (rows - 1) * row_bytes() + bytes(width); }
};

/** Throws a Failure where a file is too short. */
inline void check_room(const File& file, const std::string& path, int32_t slot, int64_t offset, int64_t bytes) {
  if (offset <= file.bytes && bytes <= file.bytes - offset) return;
  fail(kStatusIo, "%s is too short: slot %d needs bytes %lld to %lld, the file has %lld", path.c_str(), slot,
       static_cast<long long>(offset), static_cast<long long>(offset + bytes), static_cast<long long>(file.bytes));
}

/** The codes of a source with their scales, opened. */
inline PackedMatrix open_packed(const Source& source, const WeightSlot& slot, Files& files) {
  const SourcePacking& p = source.packing;
  PackedMatrix matrix{source.dtype, slot.rows, slot.cols, p.group_rows, p.group_columns, p.scales_dtype, p.zeros_added, p.file_rows, {}, {}, {-1, 0, ""}};
  if (slot.cols % 8 != 0 || (matrix.turned() && (slot.rows % 8 != 0 || p.zeros.empty() || p.group_rows != 1 || p.file_rows < slot.rows)) || source.head_rows != 0) {
    fail(kStatusBadArgument, "slot %d, %d rows of %d, is not of whole words of codes", source.slot, slot.rows, slot.cols);
  }
  const auto part = [&](const std::string& path, int64_t offset, int64_t bytes) -> PackedMatrix::Part {
    const File& file = files.open(path);
    check_room(file, path, source.slot, offset, bytes);
    return {file.fd, offset, path};
  };
  matrix.codes = part(source.path, source.offset, matrix.code_bytes());
  matrix.scales = part(p.scales, p.scales_offset, matrix.scale_bytes());
  if (!p.zeros.empty()) matrix.zeros = part(p.zeros, p.zeros_offset, matrix.zero_bytes());
  return matrix;
}

/** Joins every source with its slot, in the order of their bytes.
 *  Throws a Failure when a slot has no source or two, or when a file is too short. */
inline std::vector<Tensor> match_sources(const ModelFacts& model, const std::vector<Source>& sources, Files& files) {
  std::vector<Tensor> tensors;
  std::vector<bool> filled(static_cast<size_t>(model.slot_count), false);
  for (const Source& source : sources) {
    if (filled[source.slot]) fail(kStatusBadArgument, "slot %d has two sources", source.slot);
    filled[source.slot] = true;
    const WeightSlot& slot = model.slots[source.slot];
    Tensor tensor{slot.rows, slot.cols, 0, slot.stride, slot.offset, slot.dtype, source, -1, {}, slot.head_rows, slot.rotated_rows};
    // Vectors may lie side by side, so padding never goes past the stride.
    tensor.width = std::min<int64_t>((tensor.columns + 31) / 32 * 32, tensor.stride);
    if (is_packed(source.dtype)) {
      tensor.packed = open_packed(source, slot, files);
    } else if (source.dtype != kDtypeRandom) {
      const File& file = files.open(source.path);
      const Blocks blocks = blocks_of(source.dtype);
      if (tensor.columns % blocks.elements != 0 || (source.head_rows != 0 && tensor.rows % source.head_rows != 0)) {
        fail(kStatusBadArgument, "slot %d, %lld rows of %lld, is not of whole blocks of %d or heads of %d rows", source.slot,
             static_cast<long long>(tensor.rows), static_cast<long long>(tensor.columns), blocks.elements, source.head_rows);
      }
      const int64_t bytes = tensor.rows * tensor.columns / blocks.elements * blocks.bytes;
      check_room(file, source.path, source.slot, source.offset, bytes);
      tensor.fd = file.fd;
    }
    tensors.push_back(std::move(tensor));
  }
  for (size_t slot = 0; slot < filled.size(); ++slot) {
    if (!filled[slot]) fail(kStatusBadArgument, "slot %zu has no source", slot);
  }
  return tensors;
}

/** Puts elements of one tensor into memory; reads the file a window at a time, best in ascending order. */
class ElementReader {
 public:
  ElementReader(const Tensor& tensor, std::vector<char>& window) : tensor_(tensor), window_(window) {
    if (tensor.packed) packed_.emplace(*tensor.packed);
  }

  /** Whether codes of the file can be those of the slot's blocks. */
  bool has_levels() const { return packed_ && has_codes_of(tensor_.dtype, *tensor_.packed); }

  /** The block of columns [first, first + 32) of a row, with the codes of the file; false: it has no place for their zero point. */
  bool put_levels(int64_t row, int64_t first, uint8_t* block) {
    float levels[32];
    int zero;
    const float scale = packed_->codes(row, first, 32, levels, &zero);
    if (tensor_.dtype != kDtypeQ4_1 && zero != tensor_.packed->middle()) return false;
    put_block(tensor_.dtype, levels, scale, zero, block);
    return true;
  }

  /** Elements [first, first + n), flat and unpadded, as `dtype`; of blocks, whole ones. Other calls ask up to `last`. */
  void read(int64_t first, int64_t n, int64_t last, int dtype, char* out) {
    const Source& source = tensor_.source;
    if (source.dtype == kDtypeRandom) {
      random_weights(out, dtype, first, n, source.seed, source.mean, source.scale);
      return;
    }
    if (packed_) return read_packed(first, n, dtype, out);
    const Blocks blocks = blocks_of(source.dtype);
    const Blocks to = blocks_of(dtype);
    const int64_t capacity = static_cast<int64_t>(window_.size()) / blocks.bytes * blocks.elements;
    if (source.dtype == dtype && n >= capacity) {
      read_exactly(tensor_.fd, source.offset + first / to.elements * to.bytes, out, n / to.elements * to.bytes, source.path);
      return;
    }
    while (n > 0) {
      if (first >= end_ || first < begin_) {
        begin_ = first - first % blocks.elements;
        end_ = std::min(begin_ + capacity, (last + blocks.elements - 1) / blocks.elements * blocks.elements);
        read_exactly(tensor_.fd, source.offset + begin_ / blocks.elements * blocks.bytes, window_.data(),
                     (end_ - begin_) / blocks.elements * blocks.bytes, source.path);
      }
      const int64_t count = std::min(n, end_ - first);
      convert_blocks(window_.data(), source.dtype, first - begin_, out, dtype, count);
      first += count;
      n -= count;
      out += count / to.elements * to.bytes;
    }
  }

 private:
  void read_packed(int64_t first, int64_t n, int dtype, char* out) {
    float numbers[1024];
    while (n > 0) {
      const int64_t column = first % tensor_.columns;
      const int64_t some = std::min<int64_t>({n, tensor_.columns - column, 1024});
      packed_->numbers(first / tensor_.columns, column, some, numbers);
      convert(numbers, kDtypeFp32, out, dtype, some);
      out += some * dtype_bytes(dtype);
      first += some;
      n -= some;
    }
  }

  const Tensor& tensor_;
  std::vector<char>& window_;
  std::optional<PackedRows> packed_;
  int64_t begin_ = 0, end_ = 0;  // elements in the window
};

/** Blocks [first, first + count) of a row of the file, at out; those whose codes are others in the file are rounded. */
inline void fill_blocks(ElementReader& reader, const Tensor& tensor, int64_t row, int64_t first, int64_t count, int64_t last, char* out) {
  const Blocks blocks = blocks_of(tensor.dtype);
  const int64_t from = row * tensor.columns;
  const int source = tensor.source.dtype;
  if (source == tensor.dtype || (tensor.dtype == kDtypeQ4_1 && has_codes_of_q4_1(source))) {
    return reader.read(from + first * blocks.elements, count * blocks.elements, last, tensor.dtype, out);
  }
  constexpr int64_t kAtOnce = 32;
  float numbers[kAtOnce * kMostBlockElements];
  for (int64_t done = 0; done < count;) {
    const int64_t some = std::min(kAtOnce, count - done), column = (first + done) * blocks.elements;
    const int64_t wanted = some * blocks.elements, values = std::max<int64_t>(0, std::min(wanted, tensor.columns - column));
    const bool levels = reader.has_levels();  // then of whole blocks
    if (values > 0 && !levels) reader.read(from + column, values, last, kDtypeFp32, reinterpret_cast<char*>(numbers));
    std::fill(numbers + values, numbers + wanted, 0.0f);
    for (int64_t i = 0; i < some; ++i) {
      const int64_t at = column + i * blocks.elements;
      float* of = numbers + i * blocks.elements;
      auto* block = reinterpret_cast<uint8_t*>(out + (done + i) * blocks.bytes);
      if (levels && at < tensor.columns) {
        if (reader.put_levels(row, at, block)) continue;
        reader.read(from + at, blocks.elements, last, kDtypeFp32, reinterpret_cast<char*>(of));
      }
      quantise(tensor.dtype, of, block);
    }
    done += some;
  }
}

/** fill of a slot in blocks. Bytes [begin, end) may cut blocks: of such a one, what lies in them. */
inline void fill_rows_of_blocks(const Tensor& tensor, int64_t begin, int64_t end, char* out, std::vector<char>& window) {
  const int64_t size = blocks_of(tensor.dtype).bytes;
  const int64_t first_row = std::max<int64_t>(0, (begin - tensor.first_byte) / tensor.row_bytes());
  const int64_t last_row = std::min(tensor.rows, (end - 1 - tensor.first_byte) / tensor.row_bytes() + 1);
  // Rows of a head are read in another order than they are written in.
  const int64_t last = (tensor.in_other_order() ? tensor.rows : last_row) * tensor.columns;
  ElementReader reader(tensor, window);
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t row_begin = tensor.first_byte + row * tensor.row_bytes();
    const int64_t low = std::max(begin, row_begin);
    const int64_t high = std::min(end, row_begin + tensor.bytes(tensor.width));
    for (int64_t at = low; at < high;) {
      const int64_t block = (at - row_begin) / size, cut = (at - row_begin) % size;
      const int64_t whole = cut == 0 ? (high - at) / size : 0;
      if (whole > 0) {
        fill_blocks(reader, tensor, tensor.file_row(row), block, whole, last, out + (at - begin));
        at += whole * size;
      } else {
        char one[kMostBlockBytes];
        fill_blocks(reader, tensor, tensor.file_row(row), block, 1, last, one);
        const int64_t bytes = std::min(size - cut, high - at);
        std::memcpy(out + (at - begin), one + cut, static_cast<size_t>(bytes));
        at += bytes;
      }
    }
  }
}

/** Writes what of the tensor lies in packed bytes [begin, end); out is where byte `begin` goes. Neighbours' bytes stay. */
inline void fill(const Tensor& tensor, int64_t begin, int64_t end, char* out, std::vector<char>& window) {
  if (blocks_of(tensor.dtype).elements > 1) return fill_rows_of_blocks(tensor, begin, end, out, window);
  const int64_t element = dtype_bytes(tensor.dtype);
  // Rows without gaps are one long row.
  const bool flat = tensor.stride == tensor.columns && !tensor.in_other_order();
  const int64_t rows = flat ? 1 : tensor.rows;
  const int64_t columns = flat ? tensor.rows * tensor.columns : tensor.columns;
  const int64_t width = flat ? columns : tensor.width;
  const int64_t row_bytes = flat ? columns * element : tensor.row_bytes();

  const int64_t first_row = std::max<int64_t>(0, (begin - tensor.first_byte) / row_bytes);
  const int64_t last_row = std::min(rows, (end - 1 - tensor.first_byte) / row_bytes + 1);
  // Rows of a head are read in another order than they are written in.
  const int64_t last = flat ? (end - tensor.first_byte) / element
                            : (tensor.in_other_order() ? tensor.rows : last_row) * columns;
  ElementReader reader(tensor, window);
  for (int64_t row = first_row; row < last_row; ++row) {
    const int64_t row_begin = tensor.first_byte + row * row_bytes;
    const int64_t low = std::max(begin, row_begin);
    const int64_t high = std::min(end, row_begin + width * element);
    if (low >= high) continue;
    const int64_t column = (low - row_begin) / element;
    const int64_t values = std::max<int64_t>(0, std::min((high - row_begin) / element, columns) - column);
    char* to = out + (low - begin);
    if (values > 0) reader.read((flat ? 0 : tensor.file_row(row)) * columns + column, values, last, tensor.dtype, to);
    std::memset(to + values * element, 0, static_cast<size_t>(high - low - values * element));
  }
}

/** Chunks that are being filled, filled, and written; shared by the filling threads and the job's own. */
struct LoadQueue {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<int64_t, std::vector<char>> filled;  // first byte, staged bytes (empty when mapped)
  std::vector<std::vector<char>> spare;                      // staging buffers free for use
  int64_t next = 0;                                          // first byte of the next chunk
  bool stop = false;
  int status = kStatusOk;
  std::string error;
};

constexpr int64_t kChunkBytes = 4 << 20;
constexpr int64_t kWindowBytes = 256 << 10;

/** One filling thread: takes chunks until there are none, or until told to stop. */
inline void fill_chunks(LoadQueue& queue, const std::vector<Tensor>& tensors, Backend* backend, int64_t total, bool mapped) {
  std::string error;
  const int status = guarded(&error, [&] {
    std::vector<char> window(kWindowBytes);
    for (;;) {
      int64_t begin;
      std::vector<char> staging;
      {
        std::unique_lock<std::mutex> lock(queue.mutex);
        queue.changed.wait(lock, [&] { return queue.stop || mapped || !queue.spare.empty(); });
        if (queue.stop || queue.next >= total) return;
        begin = queue.next;
        queue.next += kChunkBytes;
        if (!mapped) {
          staging = std::move(queue.spare.back());
          queue.spare.pop_back();
        }
      }
      const int64_t end = std::min(begin + kChunkBytes, total);
      if (!mapped) staging.assign(static_cast<size_t>(end - begin), 0);
      char* out = mapped ? static_cast<char*>(backend_map(backend, begin)) : staging.data();
      for (const Tensor& tensor : tensors) {
        if (tensor.first_byte >= end || tensor.end_byte() <= begin) continue;
        const int64_t low = std::max(begin, tensor.first_byte);
        fill(tensor, low, std::min(end, tensor.end_byte()), out + (low - begin), window);
      }
      std::lock_guard<std::mutex> lock(queue.mutex);
      queue.filled.emplace(begin, std::move(staging));
      queue.changed.notify_all();
    }
  });
  if (status == kStatusOk) return;
  std::lock_guard<std::mutex> lock(queue.mutex);
  if (queue.status == kStatusOk) {
    queue.status = status;
    queue.error.swap(error);
  }
  queue.stop = true;
  queue.changed.notify_all();
}

/** Fills all packed weights with `threads` threads. stopping() is asked and progress(bytes) told at every chunk.
 *  False: stopped before the end. All calls that write to the backend come from the calling thread. */
template <class Stopping, class OnProgress>
bool load_weights(Backend* backend, const std::vector<Tensor>& tensors, int64_t total, int threads, Stopping&& stopping,
                  OnProgress&& progress) {
  const bool mapped = backend_map(backend, 0) != nullptr;
  LoadQueue queue;
  queue.spare.resize(static_cast<size_t>(threads) * 2);

  struct Team {
    LoadQueue& queue;
    std::vector<std::thread> threads;
    ~Team() {
      {
        std::lock_guard<std::mutex> lock(queue.mutex);
        queue.stop = true;
        queue.changed.notify_all();
      }
      for (std::thread& thread : threads) thread.join();
    }
  } team{queue, {}};
  for (int i = 0; i < threads; ++i) {
    team.threads.emplace_back([&] { fill_chunks(queue, tensors, backend, total, mapped); });
  }

  std::string error;
  for (int64_t done = 0; done < total;) {
    std::vector<char> chunk;
    {
      std::unique_lock<std::mutex> lock(queue.mutex);
      queue.changed.wait(lock, [&] { return queue.status != kStatusOk || queue.filled.count(done) > 0; });
      check(queue.status, queue.error);
      chunk = std::move(queue.filled.extract(done).mapped());
    }
    const int64_t bytes = std::min(kChunkBytes, total - done);
    if (!mapped) {
      check(backend_write(backend, done, chunk.data(), bytes, &error), error);
      std::lock_guard<std::mutex> lock(queue.mutex);
      queue.spare.push_back(std::move(chunk));
      queue.changed.notify_all();
    }
    done += bytes;
    progress(done);
    if (stopping() && done < total) return false;
  }
  check(backend_finish_load(backend, &error), error);
  return true;
}
