// Rows and columns of a matrix, picked in one reading.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

template <class Bits>
int pick(const Bits* x, int64_t width, const int64_t* rows, int64_t count, const int64_t* columns, int64_t wide, Bits* out,
         int threads) {
    parallel(count, 16, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const Bits* from = x + (rows ? rows[i] : i) * width;
            Bits* to = out + i * wide;
            if (columns == nullptr)
                memcpy(to, from, static_cast<size_t>(wide) * sizeof(Bits));
            else
                for (int64_t k = 0; k < wide; ++k) to[k] = from[columns[k]];
        }
    });
    return 0;
}

}  // namespace

// x (any, width) of 4 or 8 bytes each; rows (count) and columns (wide), each NULL for all in their order; out (count, wide).
POMONA_KERNEL(pick_32)
(const uint32_t* x, int64_t width, const int64_t* rows, int64_t count, const int64_t* columns, int64_t wide, uint32_t* out,
 int threads) {
    return pick(x, width, rows, count, columns, wide, out, threads);
}
POMONA_KERNEL(pick_64)
(const uint64_t* x, int64_t width, const int64_t* rows, int64_t count, const int64_t* columns, int64_t wide, uint64_t* out,
 int threads) {
    return pick(x, width, rows, count, columns, wide, out, threads);
}

}  // namespace pomona::POMONA_ISA
