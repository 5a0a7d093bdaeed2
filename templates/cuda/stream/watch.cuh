// Waiting with a time budget: a word that never comes ends the launch with an error instead of a hang.
#pragma once
#include "lib/arrivals.cuh"
#include "lib/profile.cuh"

/** What a wait is for, as LaunchArgs.status tells it. */
enum WaitKind : int { kWaitsForWords = 0, kWaitsForTile = 1 };

/** Where in a pass a wait stands: the stage in the order of the plan, the layer, the kind. */
DEVICE unsigned place_of(Stage stage, int layer, WaitKind kind) { return unsigned(kind) << 24 | unsigned(layer) << 8 | unsigned(stage); }

/** Tracks of a block in a profile: lane 0 of the first and the last computing warp, of the producer, of the publisher. */
enum TrackNumber : int { kFirstTrack, kLastTrack, kProducerTrack, kPublisherTrack };

/** What all warps of a block share about the end of a launch. */
struct Flags {
  volatile int failed;              // a wait ran out of time, here or in another block: no wait waits any more
  volatile int finished;            // the last token is made: producer and watchdog leave
  volatile int progress;            // layers of this launch that the block has finished with all others
  volatile int appended;            // layers whose appended positions are there for the copy engines of all blocks
  volatile int stop;                // block 0: the host asks to end
  volatile unsigned heartbeat;      // changes with every stage
  volatile unsigned place[kWarps];  // what each warp waits for, or waited for last
#if PROFILE
  volatile unsigned appending;      // what the publisher is woken for, as a mark tells it
  volatile int append_position;
#endif
};

/** Calls ready() until it is true, or until the launch has failed; the watchdog keeps the time. */
template <class Ready>
DEVICE void wait_until(Flags& flags, unsigned place, Ready&& ready) {
  while (!ready()) {
    flags.place[warp()] = place;
    if (flags.failed) break;
  }
}

/** The same by a whole warp, whose lanes go on together: left to itself the compiler lets those go on alone that are ready first. */
template <class Ready>
DEVICE void warp_wait_until(Flags& flags, unsigned place, Ready&& ready) {
  wait_until(flags, place, ready);
  __syncwarp();
}

/** Barriers of the hardware: of the warps that compute, and of those with the warp that publishes the cache. */
constexpr int kConsumerBarrier = 1, kAppendBarrier = 2;

/** Threads that say together what is appended: of one token a single warp appends, which says so long before the others come here. */
template <int T>
constexpr int kAppenders = T == 1 ? 32 : kThreads;

/** A spare warp: what the block has appended to the cache becomes visible everywhere, while the others go on. A fence takes long. */
template <int T>
DEVICE void publish_cache([[maybe_unused]] const LaunchArgs& pass, Flags& flags) {
#if PROFILE
  Track track;
  if (lane() == 0) track.open(pass.profile, kPublisherTrack);
#endif
  for (int layers = 1;; ++layers) {
    warps_sync(kAppendBarrier, kAppenders<T> + 32);
#if PROFILE
    if (flags.finished) track.close();
    track.mark(flags.appending | kPhaseOthers << 24, flags.append_position);
#endif
    if (flags.finished) return;
    __threadfence();
#if BULK_COPIES
    asm volatile("fence.proxy.async;" ::: "memory");
#endif
    __syncwarp();
    if (lane() == 0) flags.appended = layers;
#if PROFILE
    track.mark(flags.appending | kPhasePublish << 24, flags.append_position);
    __syncwarp();
#endif
  }
}

/** Wakes publish_cache, by kAppenders threads. */
template <int T>
DEVICE void wake_publisher() {
  asm volatile("bar.arrive %0, %1;" ::"n"(kAppendBarrier), "n"(kAppenders<T> + 32) : "memory");
}

/** What a warp of this block waits for; 0 where none does. A warp that waits says so again and again, one that is done has only said it. */
DEVICE unsigned waited_for(Flags& flags) {
  for (int i = 0; i < kWarps; ++i) flags.place[i] = 0;
  __nanosleep(20000);
  unsigned place = 0;
  for (int i = 0; i < kWarps && place == 0; ++i) place = flags.place[i];
  return place;
}

/** How long the watchdog sleeps [ns], a power of two as a GPU has them: a launch may end so much later, since a sleep cannot be ended. Of the host's
 *  request it knows after a few of them. */
constexpr unsigned kWatchdogSleep = 512, kHostLooks = 32;

/**
 * The watchdog, a thread that computes nothing: ends the launch when no stage has begun for LaunchArgs.timeout_ns, and writes what its block waits
 * for; follows when another block has ended it; in block 0 looks at the host's stop request, which is slow to read.
 */
DEVICE void watchdog(const LaunchArgs& pass, Flags& flags) {
  unsigned heartbeat = flags.heartbeat;
  unsigned long long since = nanoseconds();
  for (unsigned look = 0; !flags.finished && !flags.failed; ++look) {
    const unsigned long long now = nanoseconds();
    if (flags.heartbeat != heartbeat) heartbeat = flags.heartbeat, since = now;
    const bool late = now - since > pass.timeout_ns;
    const unsigned place = late ? waited_for(flags) : 0;
    if (late && atomicCAS(pass.status, 0u, 1u + blockIdx.x) == 0u) pass.status[1] = place;
    if (const unsigned status = load_relaxed(pass.status); status != 0) {
      flags.failed = 1;
      pass.failure[0] = status;
      if (const unsigned of = load_relaxed(pass.status + 1); of != 0) pass.failure[1] = of;  // 0: the other block has not said it yet
    }
    if (blockIdx.x == 0 && look % kHostLooks == 0 && load_host(pass.stop_request) != 0) flags.stop = 1;
    __nanosleep(kWatchdogSleep);
  }
}
