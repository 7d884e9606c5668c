// How many numbers are not zero.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int64_t kGrain = 1 << 18;
constexpr int64_t kRun = 1 << 16;  // counted in the type of the numbers, as vectors

// Numbers as bits without their sign: -0.0 is a zero, NaN is not.
template <class Bits>
int count(const Bits* x, int64_t n, int64_t* total, int threads) {
    parallel(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        int64_t mine = 0;
        for (int64_t at = begin; at < end; at += kRun) {
            const int64_t stop = at + kRun < end ? at + kRun : end;
            Bits few = 0;
            for (int64_t i = at; i < stop; ++i) few += static_cast<Bits>(x[i] << 1) != 0;
            mine += static_cast<int64_t>(few);
        }
        __atomic_fetch_add(total, mine, __ATOMIC_RELAXED);
    });
    return 0;
}

}  // namespace

// x (n) of 4 or 8 bytes each; adds to total[0].
POMONA_KERNEL(living_32)(const uint32_t* x, int64_t n, int64_t* total, int threads) { return count(x, n, total, threads); }
POMONA_KERNEL(living_64)(const uint64_t* x, int64_t n, int64_t* total, int threads) { return count(x, n, total, threads); }

}  // namespace pomona::POMONA_ISA
