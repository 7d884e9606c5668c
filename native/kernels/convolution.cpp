// y = W * x for a W of R x 1 blocks: R output channels share their taps. A tile of output positions stays in registers for all of
// them while the living taps go by; no column matrix is made.
#include "convolution.h"

#include "../core/threads.h"
#include "../simd/simd.h"
#include "convolution_input.h"
#include "tile.h"
#include "workspace.h"

#if defined(__GNUC__) && !defined(__clang__)
#define POMONA_UNROLL _Pragma("GCC unroll 16")
#else
#define POMONA_UNROLL
#endif

namespace pomona::POMONA_ISA {
namespace {

// More than eight columns gain nothing.
constexpr int columns_for(int rows) { return read_at_once(rows) < 8 ? read_at_once(rows) : 8; }

// As in src/pomona/runtime/formats/conv_layer.py.
struct Weight {
    const int32_t* starts;  // (panels + 1)
    const uint16_t* taps;   // (blocks)
    const float* values;    // (blocks, rows)
    const float* bias;      // (out) or null
    int64_t rows;
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
    bool ahead;             // prefetch what the next tile reads
};

// Where the lanes of one register go: the map's positions that they are, in order.
struct Place {
    uint32_t bits;
    int count;
    int64_t at;
};

inline Place place_of(const Tile& t, int column) {
    uint16_t bits = 0;
    memcpy(&bits, t.valid + column * (W / 8), W / 8);
    return {bits, count_bits(bits), t.places[column * (W / 8)]};
}

inline void finish(const Tile& t, const Place& to, int row, F sum) {
    const int64_t at = row * t.outputs + to.at;
    const bool whole = to.count == W;
    if (!whole) sum = compress(to.bits, sum);
    if (t.residual) sum = add(sum, whole ? load(t.residual + at) : load_some(t.residual + at, to.count));
    if (t.relu) sum = max(zero(), sum);  // in this order NaN stays
    whole ? store(t.y + at, sum) : store_some(t.y + at, sum, to.count);
}

template <int H, int V, bool Some>
void tile(const Tile& t) {
    F sums[H][V];
    POMONA_UNROLL
    for (int r = 0; r < H; ++r) {
        const F bias = set1(t.bias && r < t.rows ? t.bias[r] : 0.0f);
        POMONA_UNROLL
        for (int v = 0; v < V; ++v) sums[r][v] = bias;
    }
    const float* values = t.values;
    for (int64_t k = 0; k < t.blocks; ++k, values += t.step) {
        const float* x = t.x + t.offsets[t.taps[k]];
        F lanes[V];
        if (t.ahead) {
            POMONA_UNROLL
            for (int v = 0; v < V; ++v) prefetch(x + (V + v) * W);
        }
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
    for (int v = 0; v < V; ++v) {
        const Place to = place_of(t, v);
        POMONA_UNROLL
        for (int r = 0; r < H; ++r)
            if (r < t.rows) finish(t, to, r, sums[r][v]);
    }
}

template <int H, int V>
void tile_of(int columns, const Tile& t) {
    if constexpr (V > 1) {
        if (columns < V) return tile_of<H, V - 1>(columns, t);
    }
    t.last < W ? tile<H, V, true>(t) : tile<H, V, false>(t);
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The work in equal parts: an image's group, a band of its positions, a share of its panels.
struct Parts {
    int64_t bands, shares;

    Parts(int64_t units, int64_t columns, int64_t most, int64_t panels, bool heavy, int threads)
        : bands((columns + most - 1) / most), shares(1) {
        if (threads == 1 || units * bands % threads == 0) return;
        // Where the weights are more than the input, threads share those: each keeps its own in its cache.
        if (heavy)
            shares = smaller(threads, panels);
        else
            while (units * bands % threads && bands < columns) ++bands;
    }
};

template <int R>
struct Convolution {
    static constexpr int H = rows_at_once(R), V = columns_for(H);

    const Map& m;
    const Weight& weight;
    bool relu;
    int64_t panels = (m.rows + R - 1) / R;  // of a group
    int64_t columns = (m.lanes + W - 1) / W;
    // Where the input is not copied and does not stay in the second-level cache; elsewhere it costs more than it gains.
    bool ahead = !m.phases && m.channels * m.height * m.width > 1 << 18;

    // The panel's rows at the positions of columns [begin, end), for a group's input as the taps read it.
    void tile(int64_t group, int64_t panel, int64_t begin, int64_t end, const float* x, const float* residual, float* y) const {
        const int32_t* start = weight.starts + group * panels + panel;
        for (int h = 0; h < R; h += H) {
            const int64_t row = panel * R + h;
            if (row >= m.rows) return;
            tile_of<H, V>(static_cast<int>(end - begin),
                          {weight.taps + start[0], weight.values + static_cast<int64_t>(start[0]) * R + h, start[1] - start[0], R,
                           m.offsets, x, static_cast<int>(smaller(m.lanes - (end - 1) * W, W)), m.valid + begin * (W / 8),
                           m.places + begin * (W / 8), weight.bias ? weight.bias + group * m.rows + row : nullptr,
                           residual ? residual + row * m.outputs : nullptr, y + row * m.outputs, m.outputs,
                           static_cast<int>(smaller(m.rows - row, H)), relu, ahead});
        }
    }

    // Panels [first, last) at the columns [begin, end) of a band. Tile by tile: what it reads of the input serves all panels.
    void band(int64_t unit, int64_t first, int64_t last, int64_t begin, int64_t end, const float* x, const float* residual, float* y,
              float* room) const {
        const int64_t in = unit * m.channels * m.height * m.width, out = unit * m.rows * m.outputs;
        const float* from = x + in + begin * W;
        if (m.phases) {
            const int64_t row = begin * W / m.pitch;
            copy_input(m, x + in, row, (smaller(end * W, m.lanes) - 1) / m.pitch + 1, room);
            from = room + begin * W - row * m.pitch;
        }
        const int64_t count = end - begin, tiles = (count + V - 1) / V;
        for (int64_t t = 0; t < tiles; ++t) {
            const int64_t left = t * count / tiles, right = (t + 1) * count / tiles;
            for (int64_t panel = first; panel < last; ++panel)
                tile(unit % m.groups, panel, begin + left, begin + right, from + left * W, residual ? residual + out : nullptr, y + out);
        }
    }

    void part(const Parts& parts, int64_t i, const float* x, const float* residual, float* y, float* room) const {
        const int64_t share = i % parts.shares, bands = i / parts.shares, begin = bands % parts.bands;
        band(bands / parts.bands, share * panels / parts.shares, (share + 1) * panels / parts.shares,
             begin * columns / parts.bands, (begin + 1) * columns / parts.bands, x, residual, y, room);
    }

    void all(const float* x, int64_t batch, const float* residual, float* y, float* room, int threads) const {
        const int64_t units = batch * m.groups;
        if (units * panels == 0) return;
        const bool heavy = static_cast<int64_t>(weight.starts[panels]) * R > m.channels * m.lanes;
        const Parts parts(units, columns, m.band / W, panels, heavy, threads);
        const int64_t count = units * parts.bands * parts.shares;
        // A thread keeps to its stretch of the parts, so that it finds its weights again, and has a room of its own to copy into.
        parallel(threads, 1, threads, [&](int64_t slot, int64_t last) {
            for (; slot < last; ++slot)
                for (int64_t i = slot * count / threads; i < (slot + 1) * count / threads; ++i)
                    part(parts, i, x, residual, y, room + slot * m.channels * m.plane);
        });
    }
};

template <int R>
void convolve(const Map& m, const Weight& weight, const float* x, int64_t batch, const float* residual, bool relu, float* y,
              float* room, int threads) {
    Convolution<R>{m, weight, relu}.all(x, batch, residual, y, room, threads);
}

}  // namespace

// x (batch, in, height, width), bias (out) or null, residual as y or null, y (batch, out, outputs); the layer's own bias is not looked
// at. -1: no memory, -2: no such rows, -3: no x.
POMONA_KERNEL(convolution_f32)
(const Weight* layer, const Map* map, const float* x, int64_t batch, const float* bias, const float* residual, int relu, float* y,
 int threads) {
    Weight weight = *layer;
    weight.bias = bias;
    const auto run = weight.rows == 1    ? convolve<1>
                     : weight.rows == 2  ? convolve<2>
                     : weight.rows == 4  ? convolve<4>
                     : weight.rows == 8  ? convolve<8>
                     : weight.rows == 16 ? convolve<16>
                                         : nullptr;
    if (!run) return -2;
    if (!x && batch > 0) return -3;
    // Where the input is copied, each thread has room for the planes of one group.
    Workspace room(map->phases ? threads * map->channels * map->plane : 0);
    if (!room.floats()) return -1;
    run(*map, weight, x, batch, residual, relu != 0, y, room.floats(), threads);
    return 0;
}

}  // namespace pomona::POMONA_ISA
