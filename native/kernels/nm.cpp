// y = W x where of every m columns at most n live: the lanes are 16 rows, and each takes its x out of the m by a permutation.
#include "../core/threads.h"
#include "finite.h"
#include "lanes.h"
#include "workspace.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int L = 16;
constexpr int AHEAD = 2048;  // bytes of values, fetched before they are asked for

// As in src/pomona/runtime/formats/nm.py.
struct NM {
    const void* values;        // (panels, units, n, L) of this kind, padded by 64 bytes: a unit is m columns
    const uint8_t* positions;  // (panels, units, n, 2 * log2(m)), padded too: of L lanes log2(m) bits each, from the lowest on
    const float* scales;       // (rows) or null
    const float* bias;         // (rows) or null
    int64_t rows, columns, units;
    int64_t stride;  // floats from one sample of x to the next: units * m and the 16 that a permutation reads
    int32_t n, m;
    Kind kind;
};

// Panels [begin, end) against `batch` samples, up to B; m is 2 to the power of Bits.
template <class K, int Bits, int B>
void panels(const NM& w, int64_t begin, int64_t end, const float* x, int64_t batch, float* y) {
    constexpr int V = L / W, U = B * V >= 4 ? 1 : 4 / (B * V), M = 1 << Bits;  // U units at once hide each other's latency
    const float* xs[B];
    float* ys[B];
    each_sample(x, w.stride, batch, xs);
    each_sample(y, w.rows, batch, ys);
    for (int64_t panel = begin; panel < end; ++panel) {
        F sums[U][B][V];
        for (int u = 0; u < U; ++u)
            for (int b = 0; b < B; ++b)
                for (int v = 0; v < V; ++v) sums[u][b][v] = zero();
        const int64_t first = panel * w.units * w.n;
        const auto add_slot = [&](int64_t unit, int64_t slot, F(&to)[B][V]) {
            const auto* values = as<typename K::Stored>(w.values) + (first + slot) * L;
            const uint8_t* positions = w.positions + (first + slot) * (L * Bits / 8);
            prefetch(reinterpret_cast<const char*>(values) + AHEAD);
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) {
                const I where = fields<Bits>(positions + v * W * Bits / 8);
                const F weights = K::load_lanes(values + v * W);
#pragma GCC unroll 8
                for (int b = 0; b < B; ++b) to[b][v] = fma(pick<Bits>(xs[b] + unit * M, where), weights, to[b][v]);
            }
        };
        int64_t unit = 0;
        for (; unit + U <= w.units; unit += U)
            for (int slot = 0; slot < w.n; ++slot)
#pragma GCC unroll 4
                for (int u = 0; u < U; ++u) add_slot(unit + u, (unit + u) * w.n + slot, sums[u]);
        for (; unit < w.units; ++unit)
            for (int slot = 0; slot < w.n; ++slot) add_slot(unit, unit * w.n + slot, sums[0]);
        for (int b = 0; b < B; ++b) {
            for (int u = 1; u < U; ++u)
                for (int v = 0; v < V; ++v) sums[0][b][v] = add(sums[0][b][v], sums[u][b][v]);
            finish(sums[0][b], panel * L, w.rows, w.scales, w.bias, ys[b]);
        }
    }
}

template <class K, int Bits>
int nm(const NM& w, const float* x, int64_t batch, float* y, int threads) {
    constexpr int MOST = REGISTERS >= 32 ? 8 : 4;  // samples whose sums fit
    const int64_t count = (w.rows + L - 1) / L, slots = count * w.units * w.n;
    const int64_t bytes = slots * (L * static_cast<int64_t>(sizeof(typename K::Stored)) + L * Bits / 8);
    parallel(count, grain_of(count, bytes), threads, [&](int64_t begin, int64_t end) {
        for (int64_t b = 0; b < batch; b += MOST) {
            const int64_t now = batch - b < MOST ? batch - b : MOST;
            const float* from = x + b * w.stride;
            float* to = y + b * w.rows;
            if (now == 1)
                panels<K, Bits, 1>(w, begin, end, from, now, to);
            else if (now == 2)
                panels<K, Bits, 2>(w, begin, end, from, now, to);
            else if (now <= 4)
                panels<K, Bits, 4>(w, begin, end, from, now, to);
            else
                panels<K, Bits, MOST>(w, begin, end, from, now, to);
        }
    });
    return 0;
}

template <class K>
int nm_of(const NM& w, const float* x, int64_t batch, float* y, int threads) {
    switch (w.m) {
        case 2: return nm<K, 1>(w, x, batch, y, threads);
        case 4: return nm<K, 2>(w, x, batch, y, threads);
        case 8: return nm<K, 3>(w, x, batch, y, threads);
        case 16: return nm<K, 4>(w, x, batch, y, threads);
        default: return -2;
    }
}

}  // namespace

// x (batch, columns), bias (rows) or null, y (batch, rows); the layer's own bias is not looked at. -1: no memory, -2: no such m,
// -3: no x, -4: x is not finite.
POMONA_KERNEL(nm)(const NM* layer, const float* x, int64_t batch, const float* bias, float* y, int threads) {
    NM w = *layer;
    w.bias = bias;
    if (!x && batch > 0 && w.columns > 0) return -3;
    if (!finite(x, batch * w.columns)) return kNotFinite;
    Workspace room(batch * w.stride);
    float* wide = room.floats();
    if (!wide) return -1;
    for (int64_t b = 0; b < batch; ++b) {
        if (w.columns) memcpy(wide + b * w.stride, x + b * w.columns, static_cast<size_t>(w.columns) * sizeof(float));
        memset(wide + b * w.stride + w.columns, 0, static_cast<size_t>(w.stride - w.columns) * sizeof(float));
    }
    switch (w.kind) {
        case Kind::f32: return nm_of<F32>(w, wide, batch, y, threads);
        case Kind::bf16: return nm_of<BF16>(w, wide, batch, y, threads);
        default: return nm_of<I8>(w, wide, batch, y, threads);
    }
}

}  // namespace pomona::POMONA_ISA
