// How large a tile of sums may be that stays in registers while weights pass.
#pragma once
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

// Rows at once, of so many that share what they read.
constexpr int rows_at_once(int rows) { return rows < REGISTERS / 4 ? rows : REGISTERS / 4; }

// Registers of what they read: that, the sums of all rows and one weight must fit.
constexpr int read_at_once(int rows) { return (REGISTERS - 1) / (rows + 1); }

}  // namespace
}  // namespace pomona::POMONA_ISA
