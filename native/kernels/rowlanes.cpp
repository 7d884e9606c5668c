// y = W x for blocks of L rows by one column: the rows are the lanes, x is broadcast.
#include "../core/threads.h"
#include "finite.h"
#include "lanes.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int AHEAD = 2048;  // bytes of values, fetched before they are asked for

// As in src/pomona/runtime/formats/rowlanes.py.
struct RowLanes {
    const void* values;      // (blocks, lanes) of this kind, padded by 64 bytes
    const uint16_t* index;   // (blocks): the column of each
    const uint32_t* starts;  // (panels + 1)
    const float* scales;     // (rows) or null
    const float* bias;       // (rows) or null
    int64_t rows, columns;
    int32_t lanes;  // 16 or 32
    Kind kind;
};

// Panels [begin, end) against n samples, n up to B.
template <class K, int L, int B>
void panels(const RowLanes& w, int64_t begin, int64_t end, const float* x, int64_t n, float* y) {
    constexpr int V = L / W, U = B * V >= 8 ? 1 : B * V >= 4 ? 2 : 4;  // chains of additions that hide each other's latency
    const float* xs[B];
    float* ys[B];
    each_sample(x, w.columns, n, xs);
    each_sample(y, w.rows, n, ys);
    for (int64_t panel = begin; panel < end; ++panel) {
        F sums[U][B][V];
        for (int u = 0; u < U; ++u)
            for (int b = 0; b < B; ++b)
                for (int v = 0; v < V; ++v) sums[u][b][v] = zero();
        const auto add_block = [&](int64_t j, F(&to)[B][V]) {
            const auto* values = as<typename K::Stored>(w.values) + j * L;
            prefetch(reinterpret_cast<const char*>(values) + AHEAD);
            F weights[V];
            for (int v = 0; v < V; ++v) weights[v] = K::load_lanes(values + v * W);
#pragma GCC unroll 8
            for (int b = 0; b < B; ++b) {
                const F sample = set1(xs[b][w.index[j]]);
                for (int v = 0; v < V; ++v) to[b][v] = fma(sample, weights[v], to[b][v]);
            }
        };
        int64_t j = w.starts[panel];
        const int64_t last = w.starts[panel + 1];
        for (; j + U <= last; j += U)
#pragma GCC unroll 4
            for (int u = 0; u < U; ++u) add_block(j + u, sums[u]);
        for (; j < last; ++j) add_block(j, sums[0]);
        for (int b = 0; b < B; ++b) {
            for (int u = 1; u < U; ++u)
                for (int v = 0; v < V; ++v) sums[0][b][v] = add(sums[0][b][v], sums[u][b][v]);
            finish(sums[0][b], panel * L, w.rows, w.scales, w.bias, ys[b]);
        }
    }
}

template <class K, int L>
int row_lanes(const RowLanes& w, const float* x, int64_t batch, float* y, int threads) {
    constexpr int V = L / W, fit = REGISTERS * 3 / 4 / V, MOST = fit >= 8 ? 8 : fit >= 4 ? 4 : 2;  // samples whose sums fit
    const int64_t count = (w.rows + L - 1) / L;
    if (count == 0) return 0;
    const int64_t bytes = static_cast<int64_t>(w.starts[count]) * (L * static_cast<int64_t>(sizeof(typename K::Stored)) + 2);
    parallel(count, grain_of(count, bytes), threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = 0; b < batch; b += MOST) {
            const int64_t n = batch - b < MOST ? batch - b : MOST;
            const float* from = x + b * w.columns;
            float* to = y + b * w.rows;
            if (n == 1)
                panels<K, L, 1>(w, begin, end, from, n, to);
            else if (n == 2)
                panels<K, L, 2>(w, begin, end, from, n, to);
            else if (n <= 4 && MOST > 4)
                panels<K, L, (MOST < 4 ? MOST : 4)>(w, begin, end, from, n, to);
            else
                panels<K, L, MOST>(w, begin, end, from, n, to);
        }
    });
    return 0;
}

template <class K>
int row_lanes_of(const RowLanes& w, const float* x, int64_t batch, float* y, int threads) {
    switch (w.lanes) {
        case 16: return row_lanes<K, 16>(w, x, batch, y, threads);
        case 32: return row_lanes<K, 32>(w, x, batch, y, threads);
        default: return -2;
    }
}

}  // namespace

// x (batch, columns), bias (rows) or null, y (batch, rows); the layer's own bias is not looked at. -2: no such lanes, -3: no x,
// -4: x is not finite.
POMONA_KERNEL(rowlanes)(const RowLanes* layer, const float* x, int64_t batch, const float* bias, float* y, int threads) {
    RowLanes w = *layer;
    w.bias = bias;
    if (!x && batch > 0 && w.columns > 0) return -3;
    if (!finite(x, batch * w.columns)) return kNotFinite;
    switch (w.kind) {
        case Kind::f32: return row_lanes_of<F32>(w, x, batch, y, threads);
        case Kind::bf16: return row_lanes_of<BF16>(w, x, batch, y, threads);
        default: return row_lanes_of<I8>(w, x, batch, y, threads);
    }
}

}  // namespace pomona::POMONA_ISA
