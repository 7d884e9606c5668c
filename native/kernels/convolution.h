// What a convolution needs to know of its maps, made once for each size by pomona.runtime.formats.conv_plan.
#pragma once
#include <cstdint>

namespace pomona {

// One of the sub-maps that a stride takes apart, with the zeros around: `rows` x `columns` values, a stride apart in the input from
// (row, column) on, below `above` rows of zeros and behind `left` columns of them.
struct Phase {
    int64_t begin;  // of its region in a channel's plane
    int64_t above, row, rows;
    int64_t left, column, columns;
    int64_t below;  // rows that taps reach down from an output row
    int64_t beyond; // zeros that they reach behind the last row
};

// Output positions are numbered row by row, `pitch` apart, so that all taps read whole registers at fixed offsets; the lanes between
// the end of a row and the beginning of the next are computed and dropped. A band is a range of positions; its input is copied
// into phases before its first tile, so that it stays in the cache.
struct Map {
    int64_t groups, channels, rows;  // of a group: input and output channels
    int64_t height, width;           // of the input
    int64_t stride_rows, stride_columns;
    int64_t pitch, plane;            // floats from row to row and from channel to channel of what the taps read
    int64_t lanes, outputs;          // output positions with and without the dropped ones
    int64_t band;                    // positions of a band at most: what a plane has room for
    int64_t phases;                  // 0: taps read the input where it is
    const Phase* phase;
    const int32_t* offsets;  // of every tap
    const uint8_t* valid;    // one bit a lane
    const int32_t* places;   // of every eight lanes: where in the output map the first valid one goes
};

}  // namespace pomona
