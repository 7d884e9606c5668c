// Columns of a block settled one by one, each weight's row making up for what was lost (SparseGPT, within a block).
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int kMost = 128;   // columns at once
constexpr int kLanes = 4 * W;  // rows at once: four chains of additions hide each other's latency

// A block: now, alive and errors are (groups, width, rows), factor (groups, width, width), row j what column j is told.
struct Block {
    float* now;
    const float* factor;
    const uint8_t* alive;
    float* errors;
    int64_t width, rows;
};

// Columns [first, stop) of rows [row, row + here) of one group. Errors are kept in a small array, too: in their own one, columns lie
// a power of two apart and drive each other from the cache.
void settle(const Block& block, int64_t group, int64_t row, int here, int64_t first, int64_t stop) {
    float lost[kMost][kLanes];
    float value[kLanes] = {0};
    uint8_t lives[kLanes] = {0};
    const size_t floats = sizeof(float) * static_cast<size_t>(here);
    for (int64_t j = first; j < stop; ++j) {
        const int64_t column = (group * block.width + j) * block.rows + row;
        memcpy(value, block.now + column, floats);
        memcpy(lives, block.alive + column, static_cast<size_t>(here));
        F sums[4];
        for (int part = 0; part < 4; ++part) sums[part] = load(value + part * W);
        const float* told = block.factor + (group * block.width + j) * block.width;
        for (int64_t i = first; i < j; ++i) {
            const F f = set1(-told[i]);
            for (int part = 0; part < 4; ++part) sums[part] = fma(f, load(lost[i - first] + part * W), sums[part]);
        }
        const F scale = set1(told[j]);
        for (int part = 0; part < 4; ++part) {
            const F kept = where(lives + part * W, sums[part]);
            store(value + part * W, kept);
            store(lost[j - first] + part * W, div(sub(sums[part], kept), scale));
        }
        memcpy(block.now + column, value, floats);
        memcpy(block.errors + column, lost[j - first], floats);
    }
}

}  // namespace

// now (groups, width, rows), factor (groups, width, width) with factor[j][i] what column j is told of an error of column i and divides
// by at [j][j], alive bool and errors as now. Settles columns [first, stop), 128 at most: now becomes what stays, errors what it costs.
POMONA_KERNEL(sweep_settle)
(float* now, const float* factor, const uint8_t* alive, float* errors, int64_t groups, int64_t width, int64_t rows, int64_t first,
 int64_t stop, int threads) {
    const Block block{now, factor, alive, errors, width, rows};
    const int64_t parts = (rows + kLanes - 1) / kLanes;
    parallel(groups * parts, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; ++at) {
            const int64_t row = at % parts * kLanes;
            settle(block, at / parts, row, rows - row < kLanes ? static_cast<int>(rows - row) : kLanes, first, stop);
        }
    });
    return 0;
}

}  // namespace pomona::POMONA_ISA
