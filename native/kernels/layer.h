// A packed linear layer as kernels see it.
#pragma once
#include "values.h"

namespace pomona {

enum class Layout : int32_t { bitmask, dense, csr16 };

// As in src/pomona/native/linear.py. Values are followed by 64 readable bytes; what a layout or kind does not use is null.
struct Linear {
    int64_t rows, columns;
    int64_t row_bytes;        // bitmask: bytes of a row of bits, a multiple of 8
    const void* values;       // float, bfloat16 as uint16, or int8
    const uint8_t* bits;      // bitmask: bit i of byte j is column 8 j + i
    const uint32_t* starts;   // bitmask, csr16 (rows + 1): where each row begins in the values
    const uint16_t* indices;  // csr16: the column of each value, padded as the values are
    const float* scales;      // i8 (rows): what one step is worth
    const int32_t* sums;      // i8 (rows), bitmask and dense: the sum of the row's values
    const float* bias;        // (rows) or null
    Layout layout;
    Kind kind;
};

namespace POMONA_ISA {
namespace {

// A row's y from its sum.
template <class K>
inline float finished(const Linear& w, int64_t row, typename K::Vector sum, const Activation& x) {
    const float found = K::worth(sum, w.scales ? w.scales[row] : 1.0f, w.sums ? w.sums[row] : 0, x);
    return w.bias ? found + w.bias[row] : found;
}

}  // namespace
}  // namespace POMONA_ISA
}  // namespace pomona
