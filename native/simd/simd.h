// The words that kernels are written in, for the instruction set that is being compiled for.
//
// F is a register of W floats. Over arrays p that may be misaligned:
//   zero(), set1(v), load(p), store(p, f)         all W lanes
//   load_some(p, n), store_some(p, f, n)          the first n lanes (0..W), the others 0 / untouched; nothing else is read or written
//   fma(a, b, c) = a * b + c, add, sub, mul, max, abs
//   div, min; nearest(f): the integer next to it, ties to even; power_of_two(f): 2^f of integers from -126 to 127
//   sum(f), top(f)                                 over the lanes
//   above(a, b)                                    bits: where a > b, nowhere beside NaN
//   nans(f)                                        bits
//   compress(p, bits, f)                            at p one after another the lanes where a bit is set; WRITES W values
//   turn<R>(f)                                     lane l is lane (l + R) % 4 of the same four
//   store_bools(p, bits)                           W bytes of 0 or 1
//   where(p, f)                                    f where the byte is not 0, of W bytes, else 0
//   expand(bits, p)                                lane i is the next of p's values where bit i is set, else 0. May READ W values from p.
//   compress(bits, f)                              the lanes of f whose bits are set, in order, from lane 0; whatever behind them
//   gather(x, i)                                   lane l is x[i[l]], i of uint16
//   gather_some(x, i, n)
//   load_bf16(p)                                   W bfloat16 values (uint16), widened
//   load_i8(p)                                     W int8 as floats
//   keep(f, n)                                     the first n lanes, the others 0
//   store_bytes(p, f)                              W bytes: the lanes, -127 to 127, rounded to nearest even, plus ZERO_POINT
// I is a register of 4 * W unsigned or signed bytes in groups of four, and sums of W int32:
//   izero(), iload(p)                              4 * W bytes
//   iload_some(p, n)                               the first n bytes, the others 0
//   iexpand(bits, p)                               as expand, of 4 * W int8. May READ 4 * W bytes.
//   wexpand(bits, p)                               as expand, of 2 * W bfloat16 (uint16). May READ 4 * W bytes.
//   even_bf16(i), odd_bf16(i)                      every second of 2 * W bfloat16 as floats, from the first or the second on
//   dot(acc, x, w)                                 acc[l] + sum over four of x[4l+k] * w[4l+k], x as store_bytes wrote it, w signed
//   iadd(a, b), isum(acc)                          of sums; over the lanes
//   REGISTERS                                      of F, to size tiles by
//   transpose(r)                                   W registers as a square: lane j of r[i] and lane i of r[j] change places
//   fields<B>(p)                                   (an I) lane l is the B bits (1..4) from bit B * l of p on. May READ 8 bytes.
//   pick<B>(table, where)                          lane l is table[where[l]], where of fields<B>. May READ 16 values of the table.
// prefetch(p): this cache line soon, to be read once or more. load_up_to(p, n), store_up_to(p, f, n): the first n lanes, all or some.
#pragma once
#include <cstdint>
#include <cstring>

#include "../core/export.h"

#if defined(POMONA_AVX512)
#define POMONA_ISA avx512
#include "avx512.h"
#elif defined(POMONA_AVX2)
#define POMONA_ISA avx2
#include "avx2.h"
#elif defined(POMONA_NEON)
#define POMONA_ISA neon
#include "neon.h"
#else
#define POMONA_ISA portable
#include "portable.h"
#endif

namespace pomona::POMONA_ISA {
namespace {

inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }
inline int count_bits(uint64_t bits) { return __builtin_popcountll(bits); }
inline F load_up_to(const float* p, int lanes) { return lanes == W ? load(p) : load_some(p, lanes); }
inline void store_up_to(float* p, F f, int lanes) {
    if (lanes == W)
        store(p, f);
    else
        store_some(p, f, lanes);
}
inline float from_bf16(uint16_t value) {
    const uint32_t wide = static_cast<uint32_t>(value) << 16;
    float out;
    memcpy(&out, &wide, sizeof out);
    return out;
}

}  // namespace
}  // namespace pomona::POMONA_ISA
