// y = W x where of every m columns at most n live: the lanes are 16 rows, and each takes its x out of the m by a permutation.
#include "../core/threads.h"
#include "lanes.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int L = 16;
constexpr int AHEAD = 2048;  // bytes of values, fetched before they are asked for

struct NM {
    const void* values;        // (panels, units, n, L): a unit is m columns
    const uint8_t* positions;  // the same, each of log2(m) bits
    int n;
    int64_t rows, units, stride;  // stride: floats from one sample of x to the next
    const float *scales, *bias;
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
int nm(int m, const NM& w, const float* x, int64_t batch, float* y, int threads) {
    switch (m) {
        case 2: return nm<K, 1>(w, x, batch, y, threads);
        case 4: return nm<K, 2>(w, x, batch, y, threads);
        case 8: return nm<K, 3>(w, x, batch, y, threads);
        case 16: return nm<K, 4>(w, x, batch, y, threads);
        default: return -2;
    }
}

}  // namespace

// values (panels, units, n, 16) of this kind and positions (panels, units, n, 2 * log2(m)) uint8, lane by lane from the lowest
// bit on, both padded by 64 bytes; scales and bias (rows) or null; x (batch, stride), a stride at least units * m + 16, 0 beyond
// the columns; y (batch, rows). -2: no such m.
POMONA_KERNEL(nm)
(Kind kind, int n, int m, const void* values, const uint8_t* positions, int64_t rows, int64_t units, const float* scales,
 const float* x, int64_t stride, int64_t batch, const float* bias, float* y, int threads) {
    const NM w = {values, positions, n, rows, units, stride, scales, bias};
    switch (kind) {
        case Kind::f32: return nm<F32>(m, w, x, batch, y, threads);
        case Kind::bf16: return nm<BF16>(m, w, x, batch, y, threads);
        default: return nm<I8>(m, w, x, batch, y, threads);
    }
}

}  // namespace pomona::POMONA_ISA
