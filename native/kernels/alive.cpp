// Which rows and columns of a matrix hold anything but zeros, in one reading.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

// Numbers as bits without their sign: -0.0 is a zero, NaN is not.
template <class Bits>
int alive(const Bits* x, int64_t rows, int64_t columns, uint8_t* row_lives, Bits* column_bits) {
    for (int64_t k = 0; k < columns; ++k) column_bits[k] = 0;
    for (int64_t i = 0; i < rows; ++i) {
        const Bits* row = x + i * columns;
        Bits any = 0;
        for (int64_t k = 0; k < columns; ++k) {
            const Bits bits = static_cast<Bits>(row[k] << 1);
            any |= bits;
            column_bits[k] |= bits;
        }
        row_lives[i] = any != 0;
    }
    return 0;
}

}  // namespace

// x (rows, columns) of 4 or 8 bytes each; row_lives (rows) becomes 0 or 1, column_bits (columns) nonzero where a column lives.
POMONA_KERNEL(alive_32)(const uint32_t* x, int64_t rows, int64_t columns, uint8_t* row_lives, uint32_t* column_bits) {
    return alive(x, rows, columns, row_lives, column_bits);
}
POMONA_KERNEL(alive_64)(const uint64_t* x, int64_t rows, int64_t columns, uint8_t* row_lives, uint64_t* column_bits) {
    return alive(x, rows, columns, row_lives, column_bits);
}

}  // namespace pomona::POMONA_ISA
