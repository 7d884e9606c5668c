// Rows that are read 64 columns at a time from one stream: a bit a weight and the living values, or all values.
#pragma once
#include "ahead.h"
#include "layer.h"

namespace pomona::POMONA_ISA {
namespace {

// The living of a row in order, and one bit a weight.
template <class K>
struct Bits {
    static constexpr bool expands = true;
    const uint8_t* bits;
    const typename K::Stored* next;

    static Bits at(const Linear& w, int64_t row) {
        return {w.bits + row * w.row_bytes, as<typename K::Stored>(w.values) + w.starts[row]};
    }
    // How many bytes ahead each of `together` rows from this one on asks: so many that it is behind them all, and soon enough.
    static int reach(const Linear& w, int64_t row, int together) {
        const int64_t bytes = static_cast<int64_t>(w.starts[row + together] - w.starts[row]) * static_cast<int64_t>(sizeof(*next));
        return bytes == 0 ? kAhead : static_cast<int>((2 * kAhead + bytes - 1) / bytes * bytes);
    }
    inline void word(typename K::Vector* out, int reach = kAhead) {
        uint64_t living;
        memcpy(&living, bits, sizeof living);
        ahead<sizeof(*next) == 4 ? 2 : 1>(next, reach);  // what 64 columns take where half of them live
        ahead<1>(bits, reach / 8);
        K::expand_word(living, next, out);
        bits += sizeof living;
        next += count_bits(living);
    }
    inline void tail(int, typename K::Vector* out) { word(out); }  // no bit is set behind the last column
};

// All weights of a row.
template <class K>
struct All {
    static constexpr bool expands = false;
    const typename K::Stored* next;

    static All at(const Linear& w, int64_t row) { return {as<typename K::Stored>(w.values) + row * w.columns}; }
    static int reach(const Linear&, int64_t, int) { return kAhead; }
    inline void word(typename K::Vector* out, int reach = kAhead) {
        ahead<sizeof(*next)>(next, reach);
        K::load_word(next, out);
        next += 64;
    }
    inline void tail(int n, typename K::Vector* out) { K::load_tail(next, n, out); }
};

// `words` words of N rows against B of x. C sums for each, taken in turn, so that additions need not wait for each other.
template <class K, int N, int B, int C, int words, class Row>
inline void meet(Row* rows, int reach, const Activation* x, int64_t k, typename K::Vector (*sums)[B][C]) {
    constexpr int V = K::vectors;
    typename K::Vector weights[N][words * V];
    for (int r = 0; r < N; ++r)
        for (int word = 0; word < words; ++word) rows[r].word(weights[r] + word * V, reach);
    for (int v = 0; v < words * V; ++v)
        for (int b = 0; b < B; ++b) {
            const typename K::Vector at = K::x(x[b], k + v * (64 / V));
            for (int r = 0; r < N; ++r) sums[r][b][v % C] = K::multiply_add(weights[r][v], at, sums[r][b][v % C]);
        }
}

// Rows that take turns, where there are registers for their sums: they share what is read of x, and hide from each other how long
// AVX-512 takes to expand words. Measured with weights from memory: where that costs less, rows come sooner one by one.
template <class K, int B>
constexpr int rows_together(bool expands) {
    constexpr bool halves = sizeof(typename K::Stored) == 2, bytes = sizeof(typename K::Stored) == 1;
    if (W < 16) return 1;
    if (B == 8) return 2;
    if (B == 4) return !bytes && (expands || halves) ? 4 : 1;
    return expands && halves ? 4 : 1;
}

// Rows [row, row + N) of w against B of x.
template <template <class> class Layout, class K, int N, int B>
inline void tile(const Linear& w, int64_t row, const Activation* x, float* y, int64_t stride) {
    // As many where N is less than it might be, so that the last rows of a thread are summed up in the order of all others.
    constexpr int C = rows_together<K, B>(Layout<K>::expands) * B >= 4 ? 1 : 4;
    constexpr int words = K::vectors >= C ? 1 : C / K::vectors;
    typename K::Vector sums[N][B][C];
    Layout<K> rows[N];
    for (int r = 0; r < N; ++r) {
        rows[r] = Layout<K>::at(w, row + r);
        for (int b = 0; b < B; ++b)
            for (int c = 0; c < C; ++c) sums[r][b][c] = K::none();
    }
    const int reach = N <= 2 ? kAhead : Layout<K>::reach(w, row, N);
    int64_t k = 0;
    for (; k + 64 * words <= w.columns; k += 64 * words) meet<K, N, B, C, words>(rows, reach, x, k, sums);
    for (; k + 64 <= w.columns; k += 64) meet<K, N, B, C, 1>(rows, reach, x, k, sums);
    if (k < w.columns)
        for (int r = 0; r < N; ++r) {
            typename K::Vector last[K::vectors];
            rows[r].tail(static_cast<int>(w.columns - k), last);
            for (int v = 0; v < K::vectors; ++v)
                for (int b = 0; b < B; ++b)
                    sums[r][b][0] = K::multiply_add(last[v], K::x(x[b], k + v * (64 / K::vectors)), sums[r][b][0]);
        }
    for (int r = 0; r < N; ++r)
        for (int b = 0; b < B; ++b) {
            for (int c = 1; c < C; ++c) sums[r][b][0] = K::plus(sums[r][b][0], sums[r][b][c]);
            y[b * stride + row + r] = finished<K>(w, row + r, sums[r][b][0], x[b]);
        }
}

template <template <class> class Layout, class K, int B>
inline void word_rows(const Linear& w, int64_t begin, int64_t end, const Activation* x, float* y, int64_t stride) {
    constexpr int N = rows_together<K, B>(Layout<K>::expands);
    int64_t row = begin;
    for (; row + N <= end; row += N) tile<Layout, K, N, B>(w, row, x, y, stride);
    for (; row < end; ++row) tile<Layout, K, 1, B>(w, row, x, y, stride);
}

}  // namespace
}  // namespace pomona::POMONA_ISA
