// The input with its zeros around, taken apart by the strides, so that every tap reads neighbouring lanes.
#pragma once
#include "../simd/simd.h"
#include "convolution.h"

namespace pomona::POMONA_ISA {
namespace {

inline void fill_zeros(float* to, int64_t count) {
    for (; count > W; count -= W, to += W) store(to, zero());
    store_some(to, zero(), static_cast<int>(count));
}

inline void copy_row(const float* from, int64_t stride, float* to, int64_t count) {
    int64_t i = 0;
    if (stride == 1) {
        for (; i + W <= count; i += W) store(to + i, load(from + i));
        store_some(to + i, load_some(from + i, static_cast<int>(count - i)), static_cast<int>(count - i));
    } else if (stride == 2) {
        for (; i < count; ++i) to[i] = from[2 * i];  // a constant that the compiler makes shuffles of
    } else {
        for (; i < count; ++i) to[i] = from[stride * i];
    }
}

// What the output rows [begin, end) read of x (channels, height, width), into planes that begin with it.
inline void copy_input(const Map& m, const float* x, int64_t begin, int64_t end, float* planes) {
    for (int64_t channel = 0; channel < m.channels; ++channel) {
        for (int64_t number = 0; number < m.phases; ++number) {
            const Phase& phase = m.phase[number];
            const float* from = x + (channel * m.height + phase.row) * m.width + phase.column;
            float* to = planes + channel * m.plane + phase.begin;
            const int64_t last = end + phase.below, real = phase.above + phase.rows;
            int64_t done = 0;
            for (int64_t row = begin > phase.above ? begin : phase.above; row < last && row < real; ++row) {
                const int64_t at = (row - begin) * m.pitch + phase.left;
                fill_zeros(to + done, at - done);
                copy_row(from + (row - phase.above) * m.stride_rows * m.width, m.stride_columns, to + at, phase.columns);
                done = at + phase.columns;
            }
            fill_zeros(to + done, (last - begin) * m.pitch + phase.beyond - done);
        }
    }
}

}  // namespace
}  // namespace pomona::POMONA_ISA
