// Kernels of which the lanes are output rows: several samples at once, and sums that become rows of y.
#pragma once
#include "values.h"

namespace pomona::POMONA_ISA {
namespace {

// Where so many samples of a batch begin; those that are missing are the last one again.
template <class T, int B>
inline void each_sample(T* first, int64_t stride, int64_t n, T* (&found)[B]) {
    for (int b = 0; b < B; ++b) found[b] = first + (b < n ? b : n - 1) * stride;
}

// y of the V * W rows from `row` on: times their scale (or null: 1), plus their bias (or null: 0).
template <int V>
inline void finish(const F (&sums)[V], int64_t row, int64_t rows, const float* scales, const float* bias, float* y) {
    for (int v = 0; v < V; ++v, row += W) {
        const int64_t left = rows - row;
        if (left <= 0) return;
        F sum = sums[v];
        if (left >= W) {
            if (scales) sum = mul(sum, load(scales + row));
            if (bias) sum = add(sum, load(bias + row));
            store(y + row, sum);
        } else {
            const int n = static_cast<int>(left);
            if (scales) sum = mul(sum, load_some(scales + row, n));
            if (bias) sum = add(sum, load_some(bias + row, n));
            store_some(y + row, sum, n);
        }
    }
}

// How many of `count` things that take so many bytes are worth handing to another thread.
inline int64_t grain_of(int64_t count, int64_t bytes) {
    constexpr int64_t least = 1 << 15;
    return bytes > least ? (count * least + bytes - 1) / bytes : count > 0 ? count : 1;
}

}  // namespace
}  // namespace pomona::POMONA_ISA
