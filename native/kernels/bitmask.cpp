// y = W x for a W of which every row is one bit a weight and the living values in order.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int R = 4;  // rows at once: four chains of additions hide each other's latency

inline uint32_t bits_at(const uint8_t* bits, int64_t column) {
    uint16_t found = 0;
    memcpy(&found, bits + column / 8, W / 8);
    return found;
}

// Rows [row, row + N) against one x.
template <int N>
void rows(const uint8_t* bits, int64_t row_bytes, const float* values, const uint32_t* starts, int64_t row, int64_t columns,
          const float* x, const float* bias, float* y) {
    F sums[N];
    const float* next[N];
    for (int r = 0; r < N; ++r) sums[r] = zero(), next[r] = values + starts[row + r];
    int64_t k = 0;
    for (; k < columns; k += W) {
        const F v = k + W <= columns ? load(x + k) : load_some(x + k, static_cast<int>(columns - k));
        for (int r = 0; r < N; ++r) {
            const uint32_t living = bits_at(bits + (row + r) * row_bytes, k);
            sums[r] = fma(expand(living, next[r]), v, sums[r]);
            next[r] += count_bits(living);
        }
    }
    for (int r = 0; r < N; ++r) y[row + r] = sum(sums[r]) + (bias ? bias[row + r] : 0.0f);
}

}  // namespace

// bits (rows, row_bytes) uint8, values float32 padded by 64 bytes, starts (rows + 1) uint32 into values, x (batch, columns),
// bias (rows) or null, y (batch, rows).
POMONA_KERNEL(bitmask_f32)
(const uint8_t* bits, int64_t row_bytes, const float* values, const uint32_t* starts, int64_t n_rows, int64_t columns,
 const float* x, int64_t batch, const float* bias, float* y, int threads) {
    parallel(n_rows, R, threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = 0; b < batch; ++b) {
            int64_t row = begin;
            for (; row + R <= end; row += R) rows<R>(bits, row_bytes, values, starts, row, columns, x + b * columns, bias, y + b * n_rows);
            for (; row < end; ++row) rows<1>(bits, row_bytes, values, starts, row, columns, x + b * columns, bias, y + b * n_rows);
        }
    });
    return 0;
}

}  // namespace pomona::POMONA_ISA
