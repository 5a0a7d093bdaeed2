// Copies into shared memory, in groups, and barriers in shared memory at which threads and copies arrive.
#pragma once
#include "loads.cuh"

DEVICE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

/** What this thread has begun to copy since the last group is a group. */
DEVICE void end_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/** Returns when all groups of this thread but the last `Left` are there. */
template <int Left>
DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

DEVICE void mbarrier_init(uint64_t* barrier, int count) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
}

/** What this thread has initialised is there for the copy engine, and for all threads when they have met. */
DEVICE void publish_mbarriers() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

DEVICE void mbarrier_arrive(uint64_t* barrier) {
  asm volatile("{\n\t.reg .b64 state;\n\tmbarrier.arrive.shared.b64 state, [%0];\n\t}" ::"r"(shared_address(barrier)) : "memory");
}

/** Arrives when the cp.async copies that this thread has begun are there. */
DEVICE void mbarrier_arrive_copied(uint64_t* barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
}

/** True when the phase of this parity is over. */
DEVICE bool mbarrier_test_wait(const uint64_t* barrier, unsigned parity) {
  uint32_t past;
  asm volatile("{\n\t.reg .pred p;\n\tmbarrier.test_wait.parity.shared.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
               : "=r"(past)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return past != 0;
}

/** The same, and where the hardware can it first sleeps a while: for waiting. */
DEVICE bool mbarrier_try_wait(const uint64_t* barrier, unsigned parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t passed;
  asm volatile("{\n\t.reg .pred p;\n\tmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\tselp.u32 %0, 1, 0, p;\n\t}"
               : "=r"(passed)
               : "r"(shared_address(barrier)), "r"(parity)
               : "memory");
  return passed != 0;
#else
  return mbarrier_test_wait(barrier, parity);
#endif
}
