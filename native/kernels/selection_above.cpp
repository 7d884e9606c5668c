// Masks of the values above a threshold, as bools or as bits.
#include "selection.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int64_t kGrain = 1 << 16;

template <bool Size, bool Packed>
void mask(const float* values, int64_t begin, int64_t end, float threshold, int64_t room, uint8_t* out) {
    const F t = set1(threshold);
    for (int64_t i = begin; i < end; i += W) {
        const int here = i + W <= end ? W : static_cast<int>(end - i);
        F v = here == W ? load(values + i) : load_some(values + i, here);
        if (Size) v = abs(v);
        const uint32_t bits = living(v, t, room);
        uint8_t whole[W];
        if (Packed) {
            const uint32_t own = here == W ? bits : bits & ((1u << here) - 1);
            memcpy(whole, &own, W / 8);
        } else {
            store_bools(whole, bits);
        }
        const size_t bytes = Packed ? static_cast<size_t>(here + 7) / 8 : static_cast<size_t>(here);
        if (here == W)
            memcpy(out + (Packed ? i / 8 : i), whole, Packed ? W / 8 : W);
        else
            memcpy(out + (Packed ? i / 8 : i), whole, bytes);
    }
}

}  // namespace

// values (n), by |value| where `size`, none NaN. out: (n) bool or, `packed`, (ceil(n / 8)) with bit i of byte j for value 8j + i:
// whether a value is above the threshold or, of those at it, among the first `room` (n or more: all).
POMONA_KERNEL(selection_above)
(const float* values, int64_t n, int size, float threshold, int64_t room, int packed, uint8_t* out, int threads) {
    // Where only some of the equals stay, who comes first is known when all before have been seen.
    parallel(n, kGrain, room > 0 && room < n ? 1 : threads, [&](int64_t begin, int64_t end) {
        auto* does = size ? (packed ? mask<true, true> : mask<true, false>) : (packed ? mask<false, true> : mask<false, false>);
        does(values, begin, end, threshold, room, out);
    });
    return 0;
}

}  // namespace pomona::POMONA_ISA
