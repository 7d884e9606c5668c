// Rows of which only the living are stored, each with its column: x is gathered.
#pragma once
#include "ahead.h"
#include "layer.h"

namespace pomona::POMONA_ISA {
namespace {

// Products of bytes are gathered as floats too; so many steps of them stay whole numbers below 2^24 over all lanes.
constexpr int64_t kExact = (1 << 24) / (127 * 127) / W * W;

template <class K, int B>
inline void csr16_row(const Linear& w, int64_t row, const Activation* x, float* y, int64_t stride) {
    const typename K::Stored* values = as<typename K::Stored>(w.values);
    int64_t j = w.starts[row];
    const int64_t end = w.starts[row + 1];
    int32_t whole[B] = {0};
    F sums[B];
    for (;;) {
        const int64_t until = w.kind == Kind::i8 && end - j > kExact ? j + kExact : end;
        F other[B];
        for (int b = 0; b < B; ++b) sums[b] = other[b] = zero();
        for (; j + 2 * W <= until; j += 2 * W) {
            ahead<sizeof(*values) == 4 ? 2 : 1>(values + j);
            ahead<1>(w.indices + j, kAhead / 2);
            const F v = K::load_lanes(values + j), u = K::load_lanes(values + j + W);
            for (int b = 0; b < B; ++b) {
                sums[b] = fma(gather(x[b].floats, w.indices + j), v, sums[b]);
                other[b] = fma(gather(x[b].floats, w.indices + j + W), u, other[b]);
            }
        }
        for (; j < until; j += W) {
            const int n = until - j >= W ? W : static_cast<int>(until - j);
            const F v = keep(K::load_lanes(values + j), n);
            for (int b = 0; b < B; ++b) sums[b] = fma(gather_some(x[b].floats, w.indices + j, n), v, sums[b]);
        }
        j = until;
        for (int b = 0; b < B; ++b) sums[b] = add(sums[b], other[b]);
        if (until == end) break;
        for (int b = 0; b < B; ++b) whole[b] += static_cast<int32_t>(sum(sums[b]));
    }
    for (int b = 0; b < B; ++b) {
        float found = sum(sums[b]);
        if (w.kind == Kind::i8) found = w.scales[row] * x[b].scale * static_cast<float>(whole[b] + static_cast<int32_t>(found));
        y[b * stride + row] = w.bias ? found + w.bias[row] : found;
    }
}

template <class K, int B>
inline void csr16_rows(const Linear& w, int64_t begin, int64_t end, const Activation* x, float* y, int64_t stride) {
    for (int64_t row = begin; row < end; ++row) csr16_row<K, B>(w, row, x, y, stride);
}

}  // namespace
}  // namespace pomona::POMONA_ISA
