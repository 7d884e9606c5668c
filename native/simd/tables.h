// Which bytes a shuffle takes: tables for instruction sets that have no expansion or compression of their own.
#pragma once
#include <cstdint>

namespace pomona {
namespace {

// of[bits]: for N values of Size bytes, where the next living value lies for every one whose bit is set, counted from byte First on;
// 128 or more, for which shuffles give 0, for the others.
template <int N, int Size, int First = 0>
struct Expansion {
    alignas(16) uint8_t of[1 << N][N * Size];
    constexpr Expansion() : of() {
        for (int bits = 0; bits < 1 << N; ++bits)
            for (int i = 0, next = First; i < N; ++i) {
                const bool lives = bits >> i & 1;
                for (int byte = 0; byte < Size; ++byte) of[bits][i * Size + byte] = static_cast<uint8_t>(lives ? next + byte : 128);
                next += lives ? Size : 0;
            }
    }
};

// of[bits]: where the values lie whose bits are set, in order; the first value behind the last of them.
template <int N, int Size>
struct Compression {
    alignas(16) uint8_t of[1 << N][N * Size];
    constexpr Compression() : of() {
        for (int bits = 0; bits < 1 << N; ++bits)
            for (int i = 0, next = 0; i < N; ++i)
                if (bits >> i & 1) {
                    for (int byte = 0; byte < Size; ++byte) of[bits][next * Size + byte] = static_cast<uint8_t>(i * Size + byte);
                    ++next;
                }
    }
};

}  // namespace
}  // namespace pomona
