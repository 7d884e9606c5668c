// Tiles of a batch turned over: (lanes, columns) to (columns, lanes) and back, squares of W by W at a time.
#pragma once
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

// x (n, columns) of row stride `stride` to tile (columns rounded up to W, T): lane n and more are 0.
template <int T>
inline void lanes_in(const float* x, int64_t stride, int n, int64_t columns, float* tile) {
    for (int lane = 0; lane < T; lane += W)
        for (int64_t k = 0; k < columns; k += W) {
            F square[W];
            for (int i = 0; i < W; ++i) {
                const float* from = x + (lane + i) * stride + k;
                const int64_t left = columns - k;
                square[i] = lane + i >= n ? zero() : left >= W ? load(from) : load_some(from, static_cast<int>(left));
            }
            transpose(square);
            for (int i = 0; i < W; ++i) store(tile + (k + i) * T + lane, square[i]);
        }
}

// The first n lanes of tile (rows rounded up to W, T) to y (n, rows) of row stride `stride`.
template <int T>
inline void lanes_out(const float* tile, int64_t rows, int n, float* y, int64_t stride) {
    for (int lane = 0; lane < n; lane += W)
        for (int64_t row = 0; row < rows; row += W) {
            F square[W];
            for (int i = 0; i < W; ++i) square[i] = load(tile + (row + i) * T + lane);
            transpose(square);
            for (int i = 0; i < W && lane + i < n; ++i) {
                float* to = y + (lane + i) * stride + row;
                if (row + W <= rows)
                    store(to, square[i]);
                else
                    store_some(to, square[i], static_cast<int>(rows - row));
            }
        }
}

}  // namespace
}  // namespace pomona::POMONA_ISA
