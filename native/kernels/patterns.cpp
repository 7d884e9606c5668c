// n of every m stay: who leads over whom is asked pair by pair, many groups at once.
#include "selection.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int kMost = 8;  // members of a group
constexpr int64_t kGrain = 1 << 14;

// Which lanes stay where groups are four neighbours: fewer than `keep` of the three others are ahead, a higher one or an equal before.
inline uint32_t best_of_four(F v, int keep) {
    const F a = turn<1>(v), b = turn<2>(v), c = turn<3>(v);
    // The partner comes before where the turn has passed the end of the group.
    constexpr uint32_t one = 0x88888888u, two = 0xCCCCCCCCu, three = 0xEEEEEEEEu;
    const uint32_t p = (one & ~above(v, a)) | (~one & above(a, v));
    const uint32_t q = (two & ~above(v, b)) | (~two & above(b, v));
    const uint32_t r = (three & ~above(v, c)) | (~three & above(c, v));
    const uint32_t gone = keep == 1 ? p | q | r : keep == 2 ? (p & q) | (q & r) | (p & r) : p & q & r;
    return kAll & ~gone;
}

// A number up to 7 in every lane, a register of bits for each digit.
struct Ahead {
    uint32_t digits[3] = {0, 0, 0};

    void add(uint32_t bits) {
        const uint32_t carry = digits[0] & bits;
        digits[0] ^= bits;
        digits[2] ^= digits[1] & carry;
        digits[1] ^= carry;
    }
    uint32_t less_than(int number) const {
        uint32_t less = 0, equal = ~0u;
        for (int digit = 2; digit >= 0; --digit) {
            if (number >> digit & 1) {
                less |= equal & ~digits[digit];
                equal &= digits[digit];
            } else {
                equal &= ~digits[digit];
            }
        }
        return less;
    }
};

// Lanes [begin, end), each a group: lane l is position l % k of group l / k, its members k apart.
bool groups(const float* values, int64_t begin, int64_t end, int keep, int m, int64_t k, uint8_t* out) {
    uint32_t strange = 0;
    int64_t group = begin / k, position = begin % k;
    for (int64_t lane = begin; lane < end; lane += W) {
        const int here = lane + W <= end ? W : static_cast<int>(end - lane);
        float members[kMost][W] = {{0}};
        int64_t first[W];
        for (int l = 0; l < here; ++l) {
            first[l] = group * m * k + position;
            for (int i = 0; i < m; ++i) members[i][l] = values[first[l] + i * k];
            if (++position == k) ++group, position = 0;
        }
        Ahead ahead[kMost];
        for (int j = 0; j < m; ++j) {
            const F later = load(members[j]);
            strange |= nans(later);
            for (int i = 0; i < j; ++i) {
                const uint32_t beaten = above(later, load(members[i]));
                ahead[i].add(beaten);
                ahead[j].add(~beaten);
            }
        }
        for (int i = 0; i < m; ++i) {
            const uint32_t stays = ahead[i].less_than(keep);
            for (int l = 0; l < here; ++l) out[first[l] + i * k] = stays >> l & 1;
        }
    }
    return strange != 0;
}

template <bool Packed>
bool fours(const float* values, int64_t begin, int64_t end, int keep, uint8_t* out) {
    uint32_t strange = 0;
    for (int64_t i = begin; i < end; i += W) {
        const int here = i + W <= end ? W : static_cast<int>(end - i);
        const F v = here == W ? load(values + i) : load_some(values + i, here);
        strange |= nans(v);
        const uint32_t bits = best_of_four(v, keep);
        uint8_t whole[W];
        if (Packed) {
            const uint32_t own = here == W ? bits : bits & ((1u << here) - 1);
            memcpy(whole, &own, W / 8);
        } else {
            store_bools(whole, bits);
        }
        if (here == W)
            memcpy(out + (Packed ? i / 8 : i), whole, Packed ? W / 8 : W);
        else
            memcpy(out + (Packed ? i / 8 : i), whole, static_cast<size_t>(Packed ? (here + 7) / 8 : here));
    }
    return strange != 0;
}

}  // namespace

// values (outer, m, k), out the same as bool: the `keep` highest of the m stay, of equals the first. 0 < keep < m <= 8. -1 where
// one is NaN.
POMONA_KERNEL(patterns_groups)
(const float* values, int64_t outer, int m, int64_t k, int keep, uint8_t* out, int threads) {
    int strange = 0;
    parallel(outer * k, kGrain, threads, [&](int64_t begin, int64_t end) {
        if (groups(values, begin, end, keep, m, k, out)) __atomic_store_n(&strange, 1, __ATOMIC_RELAXED);
    });
    return strange ? -1 : 0;
}

// The same for m = 4 and k = 1, values (n); out (n) bool, or `packed` (ceil(n / 8)) with bit i of byte j for value 8j + i.
POMONA_KERNEL(patterns_fours)
(const float* values, int64_t n, int keep, int packed, uint8_t* out, int threads) {
    int strange = 0;
    parallel(n, kGrain, threads, [&](int64_t begin, int64_t end) {
        if (packed ? fours<true>(values, begin, end, keep, out) : fours<false>(values, begin, end, keep, out))
            __atomic_store_n(&strange, 1, __ATOMIC_RELAXED);
    });
    return strange ? -1 : 0;
}

}  // namespace pomona::POMONA_ISA
