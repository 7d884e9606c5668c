// What a convolution needs to know of its maps, made once for each size by pomona.runtime.formats.conv_plan.
#pragma once
#include <cstdint>

namespace pomona {

// One of the sub-maps that a stride takes apart: rows and columns of the input from the first one on, a stride apart.
struct Phase {
    int64_t begin;  // of its region in a channel's plane
    int64_t end;
    int64_t first;  // where in the region its first value goes
    int64_t row, rows;
    int64_t column, columns;
};

// Output positions are numbered row by row, `pitch` apart, so that all taps read whole registers at fixed offsets; the lanes between
// the end of a row and the beginning of the next are computed and dropped.
struct Map {
    int64_t groups, channels, rows;  // of a group: input and output channels
    int64_t height, width;           // of the input
    int64_t stride_rows, stride_columns;
    int64_t pitch, plane;            // floats from row to row and from channel to channel of what the taps read
    int64_t lanes, outputs;          // output positions with and without the dropped ones
    int64_t copies;                  // whether the input is copied into phases; else taps read it where it is
    int64_t phases;
    const Phase* phase;
    const int32_t* offsets;  // of every tap
    const uint8_t* valid;    // one bit a lane
    const int32_t* places;   // of every eight lanes: where in the output map the first valid one goes
};

}  // namespace pomona
