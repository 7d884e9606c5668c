// Rows of a packed layer against many x: a panel of rows is expanded to floats once, with the rows as lanes, and every x meets it there.
//
// Reading and expanding a weight costs as much as eight x or so that meet it; from there on the multiplications are all that counts.
#pragma once
#include "lanes.h"
#include "linear.h"
#include "transpose.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int kMany = 24;                 // of x from which a panel is faster than expanding anew for eight at a time
constexpr int kPanel = 2 * W;             // rows
constexpr int64_t kDeep = 256;            // columns that are expanded at a time: a panel of them stays in the first-level cache
constexpr int kMet = REGISTERS * 3 / 8;   // of x at once: their sums fill three quarters of the registers

// A row of a layout that is read 64 columns at a time, word by word as it is stored: n of them, zeros behind.
template <class K>
inline const typename K::Stored* next_word(Bits<K>& row, int, typename K::Stored* room) {
    uint64_t living;
    memcpy(&living, row.bits, sizeof living);
    ahead<sizeof(*row.next) == 4 ? 2 : 1>(row.next);
    K::spread_word(living, row.next, room);
    row.bits += sizeof living;
    row.next += count_bits(living);
    return room;
}

template <class K>
inline const typename K::Stored* next_word(All<K>& row, int n, typename K::Stored* room) {
    const typename K::Stored* found = row.next;
    row.next += n;
    if (n == 64) return found;
    memset(room, 0, 64 * sizeof *room);
    memcpy(room, found, static_cast<size_t>(n) * sizeof *room);
    return room;
}

// The living of a row with their columns.
template <class K>
struct Indexed {
    const typename K::Stored *next, *end;
    const uint16_t* index;
    int64_t column = 0;

    static Indexed at(const Linear& w, int64_t row) {
        const auto* values = as<typename K::Stored>(w.values);
        return {values + w.starts[row], values + w.starts[row + 1], w.indices + w.starts[row]};
    }
};

template <class K>
inline const typename K::Stored* next_word(Indexed<K>& row, int, typename K::Stored* room) {
    memset(room, 0, 64 * sizeof *room);
    for (; row.next < row.end && *row.index < row.column + 64; ++row.next, ++row.index) room[*row.index - row.column] = *row.next;
    row.column += 64;
    return room;
}

// `depth` more columns of `rows` rows, up to W, to tile (depth rounded up to 64, kPanel) from lane `lane` on; lanes without a row are 0.
template <class K, class Row>
inline void expand_rows(Row* from, int rows, int64_t depth, float* tile, int lane) {
    for (int64_t k = 0; k < depth; k += 64) {
        F squares[64 / W][W];
        const int n = depth - k < 64 ? static_cast<int>(depth - k) : 64;
        for (int r = 0; r < W; ++r) {
            typename K::Stored room[64];
            const typename K::Stored* word = r < rows ? next_word<K>(from[r], n, room) : nullptr;
            for (int v = 0; v < 64 / W; ++v) squares[v][r] = word ? K::load_lanes(word + v * W) : zero();
        }
        for (int v = 0; v < 64 / W; ++v) {
            transpose(squares[v]);
            for (int i = 0; i < W; ++i) store(tile + (k + v * W + i) * kPanel + lane, squares[v][i]);
        }
    }
}

// What `depth` columns of a panel add to y of B of x; to nothing where they are the first.
template <int B>
inline void meet_panel(const float* tile, int64_t depth, const float* const (&x)[B], float* const (&y)[B], int rows, bool first) {
    constexpr int V = kPanel / W;
    F sums[B][V];
    const int some[V] = {rows < W ? rows : W, rows < W ? 0 : rows - W};
    for (int b = 0; b < B; ++b)
        for (int v = 0; v < V; ++v) sums[b][v] = first ? zero() : load_up_to(y[b] + v * W, some[v]);
    for (int64_t k = 0; k < depth; ++k) {
        const F low = load(tile + k * kPanel), high = load(tile + k * kPanel + W);
#pragma GCC unroll 12
        for (int b = 0; b < B; ++b) {
            const F sample = set1(x[b][k]);
            sums[b][0] = fma(sample, low, sums[b][0]);
            sums[b][1] = fma(sample, high, sums[b][1]);
        }
    }
    for (int b = 0; b < B; ++b)
        for (int v = 0; v < V; ++v) store_up_to(y[b] + v * W, sums[b][v], some[v]);
}

template <int B>
inline void meet_samples(
    const float* tile, int64_t depth, const float* x, int64_t columns, int64_t n, float* y, int64_t stride, int rows, bool first) {
    const float* xs[B];
    float* ys[B];
    each_sample(x, columns, n, xs);
    each_sample(y, stride, n, ys);
    meet_panel<B>(tile, depth, xs, ys, rows, first);
}

template <template <class> class Layout, class K>
inline void panel_rows(const Linear& w, int64_t begin, int64_t end, const float* x, int64_t batch, float* y, int64_t stride) {
    alignas(64) float tile[kDeep * kPanel];
    for (int64_t row = begin; row < end; row += kPanel) {
        const int rows = static_cast<int>(end - row < kPanel ? end - row : kPanel);
        Layout<K> from[kPanel];
        for (int r = 0; r < rows; ++r) from[r] = Layout<K>::at(w, row + r);
        int64_t k = 0;
        do {  // once even where there are no columns, for then y is the bias
            const int64_t depth = w.columns - k < kDeep ? w.columns - k : kDeep;
            expand_rows<K>(from, rows < W ? rows : W, depth, tile, 0);
            expand_rows<K>(from + W, rows < W ? 0 : rows - W, depth, tile, W);
            for (int64_t b = 0; b < batch; b += kMet) {
                const int64_t n = batch - b < kMet ? batch - b : kMet;
                const float* samples = x + b * w.columns + k;
                float* to = y + b * stride + row;
                if (n <= kMet / 2)
                    meet_samples<kMet / 2>(tile, depth, samples, w.columns, n, to, stride, rows, k == 0);
                else
                    meet_samples<kMet>(tile, depth, samples, w.columns, n, to, stride, rows, k == 0);
            }
            k += depth;
        } while (k < w.columns);
        if (!w.scales && !w.bias) continue;
        for (int64_t b = 0; b < batch; ++b) {
            float* all = y + b * stride;
            const F sums[] = {load_up_to(all + row, rows < W ? rows : W), load_up_to(all + row + W, rows < W ? 0 : rows - W)};
            finish(sums, row, row + rows, w.scales, w.bias, all);
        }
    }
}

template <template <class> class Layout>
inline void panel_rows(const Linear& w, int64_t begin, int64_t end, const float* x, int64_t batch, float* y, int64_t stride) {
    if (w.kind == Kind::f32)
        panel_rows<Layout, F32>(w, begin, end, x, batch, y, stride);
    else if (w.kind == Kind::bf16)
        panel_rows<Layout, BF16>(w, begin, end, x, batch, y, stride);
    else
        panel_rows<Layout, I8>(w, begin, end, x, batch, y, stride);
}

inline int64_t panels_of(const Linear& w) { return (w.rows + kPanel - 1) / kPanel; }

// The first row of a panel, the end of the rows for the one behind the last.
inline int64_t row_of(const Linear& w, int64_t panel) { return panel * kPanel < w.rows ? panel * kPanel : w.rows; }

// y[b * stride + row] for the rows [begin, end) and all x (batch, columns), as floats whatever the weights are stored as.
inline void many_rows(const Linear& w, int64_t begin, int64_t end, const float* x, int64_t batch, float* y, int64_t stride) {
    if (w.layout == Layout::csr16)
        panel_rows<Indexed>(w, begin, end, x, batch, y, stride);
    else if (w.layout == Layout::dense)
        panel_rows<All>(w, begin, end, x, batch, y, stride);
    else
        panel_rows<Bits>(w, begin, end, x, batch, y, stride);
}

}  // namespace
}  // namespace pomona::POMONA_ISA
