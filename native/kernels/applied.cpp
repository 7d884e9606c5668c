// A mask applied to values of any kind of 4 or 8 bytes.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int64_t kGrain = 1 << 16;

template <class Bits>
int apply(const Bits* values, const uint8_t* mask, int64_t n, Bits* out, int threads) {
    parallel(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) out[i] = values[i] & static_cast<Bits>(-static_cast<Bits>(mask[i]));
    });
    return 0;
}

}  // namespace

// values and out (n), which may be the same; mask (n) of 0 or 1: the values where it is 1, +0.0 elsewhere, whatever stood there.
POMONA_KERNEL(apply_32)(const uint32_t* values, const uint8_t* mask, int64_t n, uint32_t* out, int threads) {
    return apply(values, mask, n, out, threads);
}
POMONA_KERNEL(apply_64)(const uint64_t* values, const uint8_t* mask, int64_t n, uint64_t* out, int threads) {
    return apply(values, mask, n, out, threads);
}

}  // namespace pomona::POMONA_ISA
