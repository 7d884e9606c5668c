// y = W * x for a W of R x 1 blocks: R output channels share their taps. A tile of output positions stays in registers for all of
// them while the living taps go by; no column matrix is made.
#include "convolution.h"

#include "../core/threads.h"
#include "../simd/simd.h"
#include "convolution_input.h"

#if defined(__GNUC__) && !defined(__clang__)
#define POMONA_UNROLL _Pragma("GCC unroll 16")
#else
#define POMONA_UNROLL
#endif

namespace pomona::POMONA_ISA {
namespace {

constexpr int kRegisters = W == 16 ? 32 : 16;

// Sums, one register a column and one for a weight must fit; more than eight columns gain nothing.
constexpr int columns_for(int rows) {
    const int most = (kRegisters - 1) / (rows + 1);
    return most < 8 ? most : 8;
}
constexpr int rows_at_once(int rows) { return rows < kRegisters / 4 ? rows : kRegisters / 4; }

struct Weight {
    const int32_t* starts;
    const uint16_t* taps;
    const float* values;
    const float* bias;
};

struct Tile {
    const uint16_t* taps;
    const float* values;
    int64_t blocks;
    int step;               // values from block to block
    const int32_t* offsets;
    const float* x;         // at the tile's first position
    int last;               // lanes of the last register that are there
    const uint8_t* valid;
    const int32_t* places;
    const float* bias;      // of the first row, or null; as the next two
    const float* residual;
    float* y;
    int64_t outputs;        // from row to row
    int rows;               // that are there
    bool relu;
};

inline uint32_t bits_of(const uint8_t* valid) {
    uint16_t found = 0;
    memcpy(&found, valid, W / 8);
    return found;
}

inline void finish(const Tile& t, int row, int column, F sum) {
    const uint32_t bits = bits_of(t.valid + column * (W / 8));
    const int64_t at = row * t.outputs + t.places[column * (W / 8)];
    const int count = count_bits(bits);
    if (count < W) sum = compress(bits, sum);
    if (t.residual) sum = add(sum, count < W ? load_some(t.residual + at, count) : load(t.residual + at));
    if (t.relu) sum = max(zero(), sum);  // in this order NaN stays
    count < W ? store_some(t.y + at, sum, count) : store(t.y + at, sum);
}

template <int H, int V, bool Some>
void tile(const Tile& t) {
    F sums[H][V];
    for (int r = 0; r < H; ++r) {
        const F bias = set1(t.bias && r < t.rows ? t.bias[r] : 0.0f);
        for (int v = 0; v < V; ++v) sums[r][v] = bias;
    }
    const float* values = t.values;
    for (int64_t k = 0; k < t.blocks; ++k, values += t.step) {
        const float* x = t.x + t.offsets[t.taps[k]];
        F lanes[V];
        POMONA_UNROLL
        for (int v = 0; v < V; ++v) lanes[v] = Some && v == V - 1 ? load_some(x + v * W, t.last) : load(x + v * W);
        POMONA_UNROLL
        for (int r = 0; r < H; ++r) {
            const F w = set1(values[r]);
            POMONA_UNROLL
            for (int v = 0; v < V; ++v) sums[r][v] = fma(w, lanes[v], sums[r][v]);
        }
    }
    POMONA_UNROLL
    for (int r = 0; r < H; ++r) {
        if (r >= t.rows) break;
        POMONA_UNROLL
        for (int v = 0; v < V; ++v) finish(t, r, v, sums[r][v]);
    }
}

template <int H, int V>
void tile_of(int columns, const Tile& t) {
    if constexpr (V > 1) {
        if (columns < V) return tile_of<H, V - 1>(columns, t);
    }
    t.last < W ? tile<H, V, true>(t) : tile<H, V, false>(t);
}

// What one image and group come to.
struct Unit {
    const float* x;
    const float* residual;
    float* y;
};

template <int R>
struct Convolution {
    static constexpr int H = rows_at_once(R), V = columns_for(H);

    const Map& m;
    const Weight& weight;
    bool relu;
    int64_t panels = (m.rows + R - 1) / R;  // of a group
    int64_t columns = (m.lanes + W - 1) / W;
    int64_t tiles = (columns + V - 1) / V;

    Unit unit(int64_t number, const float* x, const float* residual, float* y) const {
        const int64_t out = number * m.rows * m.outputs;
        return {x + number * m.channels * m.height * m.width, residual ? residual + out : nullptr, y + out};
    }

    // The panel's rows over the tile, for a group's input as the taps read it.
    void panel(int64_t group, int64_t panel, int64_t tile, const float* x, const Unit& to) const {
        const int64_t begin = tile * columns / tiles, end = (tile + 1) * columns / tiles;
        const int32_t* start = weight.starts + group * panels + panel;
        for (int h = 0; h < R; h += H) {
            const int64_t row = panel * R + h, left = m.lanes - (end - 1) * W, rows = m.rows - row;
            if (rows <= 0) return;
            tile_of<H, V>(static_cast<int>(end - begin),
                          {weight.taps + start[0], weight.values + static_cast<int64_t>(start[0]) * R + h, start[1] - start[0], R,
                           m.offsets, x + begin * W, static_cast<int>(left < W ? left : W), m.valid + begin * (W / 8),
                           m.places + begin * (W / 8), weight.bias ? weight.bias + group * m.rows + row : nullptr,
                           to.residual ? to.residual + row * m.outputs : nullptr, to.y + row * m.outputs, m.outputs,
                           static_cast<int>(rows < H ? rows : H), relu});
        }
    }

    // Tile by tile: what a tile reads of the input is used by all panels while it is near.
    void part(int64_t group, int64_t begin, int64_t end, const float* x, const Unit& to) const {
        for (int64_t i = begin; i < end; ++i) panel(group, i % panels, i / panels, x, to);
    }
};

template <int R>
void convolve(const Map& m, const Weight& weight, const float* x, int64_t batch, const float* residual, bool relu, float* y,
              float* room, int64_t rooms, int threads) {
    const Convolution<R> all{m, weight, relu};
    const int64_t units = batch * m.groups;
    if (rooms > 1 || threads == 1) {  // every thread takes whole units, in a room of its own
        parallel(rooms, 1, threads, [&](int64_t first, int64_t last) {
            for (int64_t number = first * units / rooms; number < last * units / rooms; ++number) {
                const Unit to = all.unit(number, x, residual, y);
                float* mine = room + first * m.channels * m.plane;
                if (m.copies) copy_input(m, to.x, 0, m.channels, mine);
                all.part(number % m.groups, 0, all.panels * all.tiles, m.copies ? mine : to.x, to);
            }
        });
        return;
    }
    for (int64_t number = 0; number < units; ++number) {
        const Unit to = all.unit(number, x, residual, y);
        if (m.copies)
            parallel(m.channels, 1, threads, [&](int64_t begin, int64_t end) { copy_input(m, to.x, begin, end, room); });
        parallel(all.panels * all.tiles, 1, threads, [&](int64_t begin, int64_t end) {
            all.part(number % m.groups, begin, end, m.copies ? room : to.x, to);
        });
    }
}

}  // namespace

// starts (panels + 1) int32, taps (blocks) uint16, values (blocks, rows) float32; x (batch, in, height, width), bias (out) or null,
// residual as y or null, y (batch, out, outputs); room: space for `rooms` times the planes of one group, or null where nothing is
// copied. -1 for a number of rows that there is no kernel for.
POMONA_KERNEL(convolution_f32)
(const Map* map, const int32_t* starts, const uint16_t* taps, const float* values, int64_t rows, const float* x, int64_t batch,
 const float* bias, const float* residual, int relu, float* y, float* room, int64_t rooms, int threads) {
    const Weight weight{starts, taps, values, bias};
    const auto run = rows == 1    ? convolve<1>
                     : rows == 2  ? convolve<2>
                     : rows == 4  ? convolve<4>
                     : rows == 8  ? convolve<8>
                     : rows == 16 ? convolve<16>
                                  : nullptr;
    if (!run) return -1;
    run(*map, weight, x, batch, residual, relu != 0, y, room, rooms, threads);
    return 0;
}

}  // namespace pomona::POMONA_ISA
