// The few values between two bounds, and how many are below: one pass, after which the many others need not be looked at again.
#include "selection.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int64_t kGrain = 1 << 16;
constexpr int kAtOnce = 4 * W;

// Gathers values on the stack before it takes room that threads share.
struct Found {
    float* all;
    int64_t room;
    int64_t* taken;
    int many = 0;
    float mine[512];

    void add(float value) {
        mine[many++] = value;
        if (many > 512 - kAtOnce) flush();
    }
    void flush() {
        const int64_t start = __atomic_fetch_add(taken, many, __ATOMIC_RELAXED);
        if (start + many <= room) memcpy(all + start, mine, sizeof(float) * static_cast<size_t>(many));
        many = 0;
    }
};

template <bool Size>
bool within(const float* values, int64_t begin, int64_t end, float low, float high, Found& found, int64_t& under) {
    const F l = set1(low), h = set1(high);
    uint32_t strange = 0;
    int64_t below = 0, i = begin;
    for (; i + kAtOnce <= end; i += kAtOnce) {
        for (int part = 0; part < 4; ++part) {
            F v = load(values + i + part * W);
            if (Size) v = abs(v);
            const uint32_t less = above(l, v), unlike = nans(v);
            strange |= unlike;
            below += count_bits(less);
            // Always, not only where there are some: whether there are cannot be foreseen, and a wrong guess costs more.
            const uint32_t inside = kAll & ~(less | unlike | above(v, h));
            compress(found.mine + found.many, inside, v);
            found.many += count_bits(inside);
        }
        if (found.many > 512 - kAtOnce) found.flush();
    }
    for (; i < end; ++i) {
        const float value = Size ? __builtin_fabsf(values[i]) : values[i];
        strange |= value != value;
        if (value < low)
            ++below;
        else if (value <= high)
            found.add(value);
    }
    found.flush();
    under += below;
    return strange != 0;
}

}  // namespace

// values (n), by |value| where `size`. counts[0] grows by how many are below `low`, counts[1] by how many are in [low, high], which lie
// in `out` (room) in any order; where they are more than `room`, some of them are missing. -1 where one is NaN.
POMONA_KERNEL(selection_within)
(const float* values, int64_t n, int size, float low, float high, float* out, int64_t room, int64_t* counts, int threads) {
    int strange = 0;
    parallel(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        Found found{out, room, counts + 1, 0, {}};
        int64_t under = 0;
        if (size ? within<true>(values, begin, end, low, high, found, under) : within<false>(values, begin, end, low, high, found, under))
            __atomic_store_n(&strange, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(counts, under, __ATOMIC_RELAXED);
    });
    return strange ? -1 : 0;
}

}  // namespace pomona::POMONA_ISA
