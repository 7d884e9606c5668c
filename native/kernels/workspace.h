// What one call of a kernel works in: on the stack while that is small, since small layers take microseconds.
#pragma once
#include <cstdint>
#include <cstdlib>

namespace pomona::POMONA_ISA {
namespace {

class Workspace {
  public:
    explicit Workspace(int64_t floats) {
        if (floats <= kNear)
            memory_ = near_;
        else
            memory_ = far_ = static_cast<float*>(aligned_alloc(64, static_cast<size_t>((floats + 15) / 16 * 64)));
    }
    ~Workspace() { free(far_); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;

    float* floats() { return memory_; }  // null where the system has no memory

  private:
    static constexpr int64_t kNear = 8192;
    alignas(64) float near_[kNear];
    float *far_ = nullptr, *memory_;
};

}  // namespace
}  // namespace pomona::POMONA_ISA
