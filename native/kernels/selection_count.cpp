// How many values lie below each of a few edges: two or three such passes find any of them in the order of all.
#include "selection.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int64_t kBins = 2048;
constexpr int64_t kGrain = 1 << 16;

struct Counts {
    int64_t under = 0, bins[kBins] = {0};
};

// The places [low, high] cut into bins of 2^shift.
struct Edges {
    int32_t low, high;
    int shift;

    void tell(float value, Counts& counts) const {
        const int32_t place = place_of(value);
        if (place < low)
            ++counts.under;
        else if (place <= high)
            ++counts.bins[(static_cast<uint32_t>(place) - static_cast<uint32_t>(low)) >> shift];
    }
};

template <bool Size>
bool count(const float* values, int64_t begin, int64_t end, Edges edges, Counts& counts) {
    const F low = set1(at_place(edges.low)), high = set1(at_place(edges.high));
    uint32_t strange = 0;
    int64_t i = begin;
    for (; i + W <= end; i += W) {
        F v = load(values + i);
        if (Size) v = abs(v);
        strange |= nans(v);
        const uint32_t below = above(low, v);
        uint32_t within = kAll & ~(below | above(v, high));
        // One by one only what the edges are about: with edges near the answer that is one of hundreds.
        if (within == 0) {
            counts.under += count_bits(below);
            continue;
        }
        float each[W];
        store(each, v);
        if (within == kAll) {
            for (int lane = 0; lane < W; ++lane) edges.tell(each[lane], counts);
            continue;
        }
        counts.under += count_bits(below);
        for (; within; within &= within - 1) edges.tell(each[__builtin_ctz(within)], counts);
    }
    for (; i < end; ++i) {
        const float value = Size ? __builtin_fabsf(values[i]) : values[i];
        strange |= value != value;
        edges.tell(value, counts);
    }
    return strange != 0;
}

}  // namespace

// values (n), by |value| where `size`; low <= high are places, (high - low) >> shift < 2048. Adds to counts[0] how many are below
// `low`, to counts[1 + b] how many are in bin b. -1 where one is NaN.
POMONA_KERNEL(selection_count)
(const float* values, int64_t n, int size, int32_t low, int32_t high, int shift, int64_t* counts, int threads) {
    const Edges edges{low, high, shift};
    const int64_t bins = ((static_cast<int64_t>(high) - low) >> shift) + 1;
    int strange = 0;
    parallel(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        Counts mine;
        if (size ? count<true>(values, begin, end, edges, mine) : count<false>(values, begin, end, edges, mine))
            __atomic_store_n(&strange, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(counts, mine.under, __ATOMIC_RELAXED);
        for (int64_t b = 0; b < bins; ++b)
            if (mine.bins[b]) __atomic_fetch_add(counts + 1 + b, mine.bins[b], __ATOMIC_RELAXED);
    });
    return strange ? -1 : 0;
}

}  // namespace pomona::POMONA_ISA
