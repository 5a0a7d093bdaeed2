// A pair of connected sockets between an engine and its caller. Node owns the caller's end and closes it with the environment that
// opened it, however that ends: a thread of workers that is terminated runs no code of its own any more.
#pragma once
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "abi.h"
#include "errors.h"

/** ends[0]: the caller's; ends[1]: the engine's. */
inline void make_channel(int32_t* ends) {
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
    fail(kStatusInternal, "cannot make a pair of sockets (%s)", std::strerror(errno));
  }
}

/** The engine's end. */
class Channel {
 public:
  explicit Channel(int end) : end_(end) {}
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() { ::close(end_); }

  /** Wakes the caller for what is new: one byte until it looks, since whoever reads it looks at all there is; and one for each job that has ended, for
   *  which a caller that takes its time looks at once. To be called behind the change, and without the lock that the caller takes to look. */
  void tell(bool ended = false) {
    if (told_.exchange(true) && !ended) return;
    const auto byte = static_cast<char>(ended ? kToldEnd : kToldNews);
    // Fails when nobody reads, or when the buffer is full, and then the other end is readable anyway.
    [[maybe_unused]] const ssize_t sent = ::send(end_, &byte, 1, MSG_NOSIGNAL);
  }

  /** The caller is about to look: what is new from now on is told again. */
  void looked() { told_ = false; }

  /** Returns when the caller's end is closed, or after hang_up(). */
  void wait_for_end() const {
    pollfd end{end_, 0, 0};  // POLLHUP is always told: nothing goes either way any more
    while (::poll(&end, 1, -1) < 0 && errno == EINTR) {
    }
  }

  void hang_up() { ::shutdown(end_, SHUT_RDWR); }

 private:
  const int end_;
  std::atomic<bool> told_{false};
};
