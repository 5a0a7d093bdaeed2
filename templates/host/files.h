// The checkpoint files of a load: opened once each, checked for size, read by position.
// Reads are pread, never mmap: a file that shrinks while it is read gives an error instead of a SIGBUS.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>

#include "errors.h"

struct File {
  int fd;
  int64_t bytes;
};

class Files {
 public:
  Files() = default;
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  ~Files() {
    for (const auto& [path, file] : files_) ::close(file.fd);
  }

  /** The file at path, opened at the first call. */
  const File& open(const std::string& path) {
    const auto [entry, added] = files_.try_emplace(path, File{-1, 0});
    if (!added) return entry->second;
    struct stat status;
    File& file = entry->second;
    file.fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block
    if (file.fd < 0 || fstat(file.fd, &status) != 0) {
      fail(kStatusIo, "cannot open %s (%s)", path.c_str(), std::strerror(errno));
    }
    if (!S_ISREG(status.st_mode)) fail(kStatusIo, "%s is not a file", path.c_str());
    file.bytes = status.st_size;
    posix_fadvise(file.fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return file;
  }

 private:
  std::map<std::string, File> files_;
};

/** Reads exactly bytes at offset; path is for the error. May be called from several threads. */
inline void read_exactly(int fd, int64_t offset, void* out, int64_t bytes, const std::string& path) {
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = pread(fd, to, static_cast<size_t>(bytes), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(kStatusIo, "cannot read %s (%s)", path.c_str(), std::strerror(errno));
    if (got == 0) fail(kStatusIo, "%s ended at byte %lld while it was read", path.c_str(), static_cast<long long>(offset));
    to += got;
    offset += got;
    bytes -= got;
  }
}
