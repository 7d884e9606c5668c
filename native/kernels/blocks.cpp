// Y = X W^T for batches, where R rows of W share the columns that live in them.
//
// X is turned over, so that a register holds a column for W samples of the batch; a tile of T samples by R rows stays in
// registers while the blocks of R living weights pass, each weight broadcast once. Columns are cut so that what is turned over of
// X, which is read at random, stays in the L1 cache; sums wait in L2 from cut to cut. Within a cut and a band of rows the panels of
// R rows come by falling number of blocks: loops of equal length in a row are what a branch predictor gets right.
#include <cstdlib>

#include "../core/threads.h"
#include "finite.h"
#include "tile.h"
#include "transpose.h"
#include "values.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int BAND = 256;     // rows; panels of a band are numbered in a byte
constexpr int64_t PART = 16;  // bands: the sums of so many rows and 64 samples are 1 MB, which L2 has
constexpr int TILE = 64;      // samples at once, at most
constexpr int AHEAD = 512;    // weights: 2 kB, some 60 blocks of 8 rows

constexpr int least(int a, int b) { return a < b ? a : b; }

// Registers of samples in a tile of so many rows: sums of 16 are as good as more, and one row alone takes X from memory.
constexpr int tile_for(int rows) { return rows == 1 ? TILE / W : least(least(16 / rows, read_at_once(rows)), TILE / W); }

// As in src/pomona/runtime/formats/blocks.py. Blocks lie cut by cut, band by band of 256 rows, panel by panel in their order.
struct Blocks {
    const void* values;       // (blocks, R) of this kind, padded by 64 bytes
    const uint8_t* index;     // (blocks): column within the cut, padded too
    const uint8_t* order;     // (cuts, panels): panel within the band
    const uint8_t* lengths;   // (cuts, panels): blocks of these
    const uint32_t* starts;   // (cuts * bands + 1): where their blocks begin
    const float* bias;        // (rows) or null
    int64_t rows, columns, cut, cuts, panels, bands;
    int32_t height;  // R
    Kind kind;
};

// What one thread works in: x of a cut, the sums, values widened.
struct Room {
    float *x, *y, *values;
};

// Values as floats, widened once for a band and cut: a broadcast from memory is then all that a weight costs.
template <class K>
inline const float* floats(const typename K::Stored* values, int64_t count, float* room) {
    if constexpr (sizeof(*values) == sizeof(float)) {
        return values;
    } else {
        for (int64_t i = 0; i < count; i += W) store(room + i, K::load_lanes(values + i));
        return room;
    }
}

// The panels of one band and cut against one tile of V * W samples: y (rows of the band, T) += blocks * x (cut, T).
template <int R, int V>
void band(const Blocks& w, int64_t first_panel, int64_t cut, const float* values, const float* x, float* y) {
    constexpr int T = V * W, S = rows_at_once(R);  // S rows at once
    constexpr int U = S * V >= 4 ? 1 : 4;  // chains of additions hide each other's latency; the next panel hides that of four
    const uint8_t* order = w.order + cut * w.panels + first_panel;
    const uint8_t* lengths = w.lengths + cut * w.panels + first_panel;
    const uint8_t* index = w.index + w.starts[cut * w.bands + first_panel / (BAND / R)];
    const int64_t panels = w.panels - first_panel < BAND / R ? w.panels - first_panel : BAND / R;
    for (int64_t p = 0; p < panels; ++p) {
        const int length = lengths[p];
        if (length == 0 && cut) break;
        if (p + 2 < panels)  // the sums of panels do not follow each other, which no hardware foresees
            for (int r = 0; r < R; ++r)
                for (int v = 0; v < V; ++v) prefetch(y + (order[p + 2] * R + r) * T + v * W);
        for (int part = 0; part < R; part += S) {
            float* sums_of = y + (order[p] * R + part) * T;
            F sums[U][S][V];
            for (int r = 0; r < S; ++r) {
                const int64_t row = (first_panel + order[p]) * R + part + r;
                for (int v = 0; v < V; ++v)
                    sums[0][r][v] = cut ? load(sums_of + r * T + v * W) : set1(w.bias && row < w.rows ? w.bias[row] : 0.0f);
            }
            for (int u = 1; u < U; ++u)
                for (int r = 0; r < S; ++r)
                    for (int v = 0; v < V; ++v) sums[u][r][v] = zero();
            const auto add_block = [&](int j, F(&to)[S][V]) {
                const float* column = x + index[j] * T;
                const float* weights = values + j * R + part;
                if (R > 2) prefetch(weights + AHEAD);  // with fewer rows the loads are what there is too much of already
                F found[V];
                for (int v = 0; v < V; ++v) found[v] = load(column + v * W);
#pragma GCC unroll 8
                for (int r = 0; r < S; ++r) {
                    const F weight = set1(weights[r]);
#pragma GCC unroll 8
                    for (int v = 0; v < V; ++v) to[r][v] = fma(weight, found[v], to[r][v]);
                }
            };
            int j = 0;
            for (; j + U <= length; j += U)
#pragma GCC unroll 4
                for (int u = 0; u < U; ++u) add_block(j + u, sums[u]);
            for (; j < length; ++j) add_block(j, sums[0]);
            for (int r = 0; r < S; ++r)
                for (int v = 0; v < V; ++v) {
                    F sum = sums[0][r][v];
                    for (int u = 1; u < U; ++u) sum = add(sum, sums[u][r][v]);
                    store(sums_of + r * T + v * W, sum);
                }
        }
        index += length;
        values += static_cast<int64_t>(length) * R;
    }
}

// Rows [begin, end), whole bands of them, for n samples that begin at x and y.
template <class K, int R, int V>
void tile(const Blocks& w, const float* x, int n, int64_t begin, int64_t end, const Room& room, float* y) {
    constexpr int T = V * W;
    for (int64_t cut = 0; cut < w.cuts; ++cut) {
        const int64_t column = cut * w.cut, left = w.columns - column;
        lanes_in<T>(x + column, w.columns, n, left < w.cut ? left : w.cut, room.x);
        for (int64_t row = begin; row < end; row += BAND) {
            const uint32_t* starts = w.starts + cut * w.bands + row / BAND;
            const auto* stored = as<typename K::Stored>(w.values) + static_cast<int64_t>(starts[0]) * R;
            const float* values = floats<K>(stored, static_cast<int64_t>(starts[1] - starts[0]) * R, room.values);
            band<R, V>(w, row / R, cut, values, room.x, room.y + (row - begin) * T);
        }
    }
    lanes_out<T>(room.y, end - begin, n, y + begin, w.rows);
}

template <class K, int R>
int blocks(const Blocks& w, const float* x, int64_t batch, float* y, int threads) {
    constexpr int V = tile_for(rows_at_once(R)), T = V * W;
    const int64_t tiles = (batch + T - 1) / T;
    if (tiles == 0 || w.bands == 0) return 0;
    if (threads < 1) threads = 1;
    // Rows are shared out only where tiles are too few or the sums too many: every part turns X over again.
    const int64_t shares = threads == 1 || tiles >= 4 * threads ? 1 : (4 * threads + tiles - 1) / tiles;
    const int64_t fair = (w.bands + shares - 1) / shares, part = fair < PART ? fair : PART, parts = (w.bands + part - 1) / part;
    const int64_t slots = tiles * parts < threads ? tiles * parts : threads;
    const int64_t columns = w.cut * T, rows = part * BAND * T;
    const int64_t widened = sizeof(typename K::Stored) == sizeof(float) ? 0 : BAND * w.cut + W;
    const int64_t each = (columns + rows + widened + 1023) / 1024 * 1024;
    float* memory = static_cast<float*>(aligned_alloc(4096, static_cast<size_t>(slots * each) * sizeof(float)));
    if (!memory) return -1;
    int64_t next = 0;
    parallel(slots, 1, threads, [&](int64_t slot, int64_t) {
        const Room room = {memory + slot * each, memory + slot * each + columns, memory + slot * each + columns + rows};
        for (;;) {
            const int64_t task = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
            if (task >= tiles * parts) return;
            const int64_t number = task / parts, begin = task % parts * part * BAND;
            const int64_t end = begin + part * BAND < w.rows ? begin + part * BAND : w.rows;
            const int n = static_cast<int>(batch - number * T < T ? batch - number * T : T);
            const float* from = x + number * T * w.columns;
            float* to = y + number * T * w.rows;
            constexpr int half = (V + 1) / 2, little = (V + 3) / 4;
            if (n > half * W || V == 1)
                tile<K, R, V>(w, from, n, begin, end, room, to);
            else if (n > little * W || half == little)
                tile<K, R, half>(w, from, n, begin, end, room, to);
            else
                tile<K, R, little>(w, from, n, begin, end, room, to);
        }
    });
    free(memory);
    return 0;
}

template <class K>
int blocks_of(const Blocks& w, const float* x, int64_t batch, float* y, int threads) {
    switch (w.height) {
        case 1: return blocks<K, 1>(w, x, batch, y, threads);
        case 2: return blocks<K, 2>(w, x, batch, y, threads);
        case 4: return blocks<K, 4>(w, x, batch, y, threads);
        case 8: return blocks<K, 8>(w, x, batch, y, threads);
        case 16: return blocks<K, 16>(w, x, batch, y, threads);
        default: return -2;
    }
}

}  // namespace

// x (batch, columns), bias (rows) or null, y (batch, rows); the layer's own bias is not looked at. -1: no memory, -2: no such R,
// -3: no x, -4: x is not finite.
POMONA_KERNEL(blocks)(const Blocks* layer, const float* x, int64_t batch, const float* bias, float* y, int threads) {
    Blocks w = *layer;
    w.bias = bias;
    if (!x && batch > 0 && w.columns > 0) return -3;
    if (!finite(x, batch * w.columns)) return kNotFinite;
    return w.kind == Kind::f32 ? blocks_of<F32>(w, x, batch, y, threads) : blocks_of<BF16>(w, x, batch, y, threads);
}

}  // namespace pomona::POMONA_ISA
