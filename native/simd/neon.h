// NEON as every 64-bit Arm has it. Two registers make one of eight lanes, so that bits and tails are those of AVX2.
#pragma once
#include <arm_neon.h>

#include "tables.h"

namespace pomona::neon {
namespace {

constexpr int W = 8;
struct F {
    float32x4_t a, b;
};
struct I {
    uint8x16_t a, b;  // as bytes; sums are the same bits as int32
};

inline F zero() { return {vdupq_n_f32(0), vdupq_n_f32(0)}; }
inline F set1(float v) { return {vdupq_n_f32(v), vdupq_n_f32(v)}; }
inline F load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4)}; }
inline F load_some(const float* p, int n) {
    float mine[8] = {0};
    memcpy(mine, p, sizeof(float) * static_cast<size_t>(n));
    return load(mine);
}
inline void store(float* p, F f) {
    vst1q_f32(p, f.a);
    vst1q_f32(p + 4, f.b);
}
inline void store_some(float* p, F f, int n) {
    float mine[8];
    store(mine, f);
    memcpy(p, mine, sizeof(float) * static_cast<size_t>(n));
}
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.a, a.a, b.a), vfmaq_f32(c.b, a.b, b.b)}; }
inline F add(F a, F b) { return {vaddq_f32(a.a, b.a), vaddq_f32(a.b, b.b)}; }
inline F sub(F a, F b) { return {vsubq_f32(a.a, b.a), vsubq_f32(a.b, b.b)}; }
inline F mul(F a, F b) { return {vmulq_f32(a.a, b.a), vmulq_f32(a.b, b.b)}; }
inline F max(F a, F b) { return {vmaxq_f32(a.a, b.a), vmaxq_f32(a.b, b.b)}; }
inline F abs(F a) { return {vabsq_f32(a.a), vabsq_f32(a.b)}; }
inline F div(F a, F b) { return {vdivq_f32(a.a, b.a), vdivq_f32(a.b, b.b)}; }
inline F min(F a, F b) { return {vminq_f32(a.a, b.a), vminq_f32(a.b, b.b)}; }
inline F nearest(F a) { return {vrndnq_f32(a.a), vrndnq_f32(a.b)}; }
inline float32x4_t power_of_two(float32x4_t a) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(a), vdupq_n_s32(127)), 23));
}
inline F power_of_two(F a) { return {power_of_two(a.a), power_of_two(a.b)}; }
inline float sum(F a) { return vaddvq_f32(vaddq_f32(a.a, a.b)); }
inline float top(F a) { return vmaxvq_f32(vmaxq_f32(a.a, a.b)); }
inline uint32_t as_bits(uint32x4_t a, uint32x4_t b) {
    const uint32_t low[4] = {1, 2, 4, 8}, high[4] = {16, 32, 64, 128};
    return vaddvq_u32(vandq_u32(a, vld1q_u32(low))) + vaddvq_u32(vandq_u32(b, vld1q_u32(high)));
}
inline uint32_t above(F a, F b) { return as_bits(vcgtq_f32(a.a, b.a), vcgtq_f32(a.b, b.b)); }
inline uint32_t nans(F a) { return 255 & ~as_bits(vceqq_f32(a.a, a.a), vceqq_f32(a.b, a.b)); }
constexpr Expansion<4, 4> spread{};
constexpr Compression<4, 4> gathered{};
inline float32x4_t shuffled(float32x4_t a, const uint8_t* from) {
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(a), vld1q_u8(from)));
}
inline void compress(float* p, uint32_t bits, F a) {
    vst1q_f32(p, shuffled(a.a, gathered.of[bits & 15]));
    vst1q_f32(p + __builtin_popcount(bits & 15), shuffled(a.b, gathered.of[bits >> 4 & 15]));
}
template <int R>
inline F turn(F a) {
    return {vextq_f32(a.a, a.a, R % 4), vextq_f32(a.b, a.b, R % 4)};
}
inline void store_bools(uint8_t* p, uint32_t bits) {
    for (int i = 0; i < 8; ++i) p[i] = bits >> i & 1;
}
inline F where(const uint8_t* p, F a) {
    const uint16x8_t bytes = vmovl_u8(vld1_u8(p));
    const uint32x4_t low = vmovl_u16(vget_low_u16(bytes)), high = vmovl_u16(vget_high_u16(bytes));
    const uint32x4_t c = vandq_u32(vtstq_u32(low, low), vreinterpretq_u32_f32(a.a));
    const uint32x4_t d = vandq_u32(vtstq_u32(high, high), vreinterpretq_u32_f32(a.b));
    return {vreinterpretq_f32_u32(c), vreinterpretq_f32_u32(d)};
}
inline F expand(uint32_t bits, const float* p) {
    const float* q = p + __builtin_popcount(bits & 15);
    return {shuffled(vld1q_f32(p), spread.of[bits & 15]), shuffled(vld1q_f32(q), spread.of[bits >> 4 & 15])};
}
inline F compress(uint32_t bits, F f) {
    float mine[8] = {0};
    compress(mine, bits, f);
    return load(mine);
}
inline F gather(const float* x, const uint16_t* i) {
    const float mine[8] = {x[i[0]], x[i[1]], x[i[2]], x[i[3]], x[i[4]], x[i[5]], x[i[6]], x[i[7]]};
    return load(mine);
}
inline F gather_some(const float* x, const uint16_t* i, int n) {
    float mine[8] = {0};
    for (int lane = 0; lane < n; ++lane) mine[lane] = x[i[lane]];
    return load(mine);
}
inline F load_bf16(const uint16_t* p) {
    const uint16x8_t v = vld1q_u16(p);
    return {vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(v), 16)), vreinterpretq_f32_u32(vshll_n_u16(vget_high_u16(v), 16))};
}
inline F load_i8(const int8_t* p) {
    const int16x8_t v = vmovl_s8(vld1_s8(p));
    return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(v))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(v)))};
}
inline F keep(F f, int n) {
    float mine[8];
    store(mine, f);
    return load_some(mine, n);
}
constexpr int ZERO_POINT = 0;
inline void store_bytes(uint8_t* p, F f) {
    const int16x8_t words = vcombine_s16(vqmovn_s32(vcvtnq_s32_f32(f.a)), vqmovn_s32(vcvtnq_s32_f32(f.b)));
    vst1_u8(p, vreinterpret_u8_s8(vqmovn_s16(words)));
}

inline I izero() { return {vdupq_n_u8(0), vdupq_n_u8(0)}; }
inline I iload(const void* p) { return {vld1q_u8(static_cast<const uint8_t*>(p)), vld1q_u8(static_cast<const uint8_t*>(p) + 16)}; }
inline I iload_some(const void* p, int n) {
    uint8_t mine[32] = {0};
    memcpy(mine, p, static_cast<size_t>(n));
    return iload(mine);
}
constexpr Expansion<8, 1> bytes{};
constexpr Expansion<8, 2> words{};
inline uint8x16_t iexpand_half(uint32_t bits, const int8_t* p) {
    const int8_t* q = p + __builtin_popcount(bits & 255);
    const uint8x8_t low = vtbl1_u8(vreinterpret_u8_s8(vld1_s8(p)), vld1_u8(bytes.of[bits & 255]));
    return vcombine_u8(low, vtbl1_u8(vreinterpret_u8_s8(vld1_s8(q)), vld1_u8(bytes.of[bits >> 8 & 255])));
}
inline I iexpand(uint64_t bits, const int8_t* p) {
    const uint32_t all = static_cast<uint32_t>(bits);
    return {iexpand_half(all, p), iexpand_half(all >> 16, p + __builtin_popcount(all & 0xffff))};
}
inline uint8x16_t wexpand_half(uint32_t bits, const uint16_t* p) {
    return vqtbl1q_u8(vreinterpretq_u8_u16(vld1q_u16(p)), vld1q_u8(words.of[bits & 255]));
}
inline I wexpand(uint32_t bits, const uint16_t* p) {
    return {wexpand_half(bits, p), wexpand_half(bits >> 8, p + __builtin_popcount(bits & 255))};
}
inline F even_bf16(I v) {
    return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(v.a), 16)), vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(v.b), 16))};
}
inline F odd_bf16(I v) {
    const uint32x4_t high = vdupq_n_u32(0xffff0000u);
    return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(v.a), high)),
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(v.b), high))};
}
// Two products of at most 128 * 127 fit into 16 bits.
inline uint8x16_t dot_half(uint8x16_t acc, int8x16_t x, int8x16_t w) {
    const int16x8_t pairs = vpaddq_s16(vmull_s8(vget_low_s8(x), vget_low_s8(w)), vmull_s8(vget_high_s8(x), vget_high_s8(w)));
    return vreinterpretq_u8_s32(vpadalq_s16(vreinterpretq_s32_u8(acc), pairs));
}
inline I dot(I acc, I x, I w) {
    return {dot_half(acc.a, vreinterpretq_s8_u8(x.a), vreinterpretq_s8_u8(w.a)),
            dot_half(acc.b, vreinterpretq_s8_u8(x.b), vreinterpretq_s8_u8(w.b))};
}
inline I iadd(I a, I b) {
    return {vreinterpretq_u8_s32(vaddq_s32(vreinterpretq_s32_u8(a.a), vreinterpretq_s32_u8(b.a))),
            vreinterpretq_u8_s32(vaddq_s32(vreinterpretq_s32_u8(a.b), vreinterpretq_s32_u8(b.b)))};
}
inline int32_t isum(I a) { return vaddvq_s32(vaddq_s32(vreinterpretq_s32_u8(a.a), vreinterpretq_s32_u8(a.b))); }

constexpr int REGISTERS = 16;  // of eight lanes
inline void transpose(float32x4_t& a, float32x4_t& b, float32x4_t& c, float32x4_t& d) {
    const float32x4x2_t even = vtrnq_f32(a, b), odd = vtrnq_f32(c, d);
    a = vcombine_f32(vget_low_f32(even.val[0]), vget_low_f32(odd.val[0]));
    b = vcombine_f32(vget_low_f32(even.val[1]), vget_low_f32(odd.val[1]));
    c = vcombine_f32(vget_high_f32(even.val[0]), vget_high_f32(odd.val[0]));
    d = vcombine_f32(vget_high_f32(even.val[1]), vget_high_f32(odd.val[1]));
}
inline void transpose(F (&r)[8]) {
    for (int i = 0; i < 8; i += 4) {
        transpose(r[i].a, r[i + 1].a, r[i + 2].a, r[i + 3].a);
        transpose(r[i].b, r[i + 1].b, r[i + 2].b, r[i + 3].b);
    }
    for (int i = 0; i < 4; ++i) {
        const float32x4_t mine = r[i].b;
        r[i].b = r[4 + i].a;
        r[4 + i].a = mine;
    }
}
template <int B>
inline I fields(const uint8_t* p) {
    const int32_t back[8] = {0, -B, -2 * B, -3 * B, -4 * B, -5 * B, -6 * B, -7 * B};  // a shift to the left by less than nothing
    uint32_t all;
    memcpy(&all, p, sizeof all);
    const uint32x4_t every = vdupq_n_u32(all), field = vdupq_n_u32((1u << B) - 1);
    return {vreinterpretq_u8_u32(vandq_u32(vshlq_u32(every, vld1q_s32(back)), field)),
            vreinterpretq_u8_u32(vandq_u32(vshlq_u32(every, vld1q_s32(back + 4)), field))};
}
template <int B>
inline float32x4_t pick_half(const float* table, uint8x16_t where) {
    // The four bytes of a float, wherever it lies.
    const uint32x4_t from = vmlaq_n_u32(vdupq_n_u32(0x03020100u), vreinterpretq_u32_u8(where), 0x04040404u);
    const uint8_t* at = reinterpret_cast<const uint8_t*>(table);
    const uint8x16_t bytes = vreinterpretq_u8_u32(from);
    if constexpr (B <= 2) return vreinterpretq_f32_u8(vqtbl1q_u8(vld1q_u8(at), bytes));
    else if constexpr (B == 3) return vreinterpretq_f32_u8(vqtbl2q_u8(uint8x16x2_t{{vld1q_u8(at), vld1q_u8(at + 16)}}, bytes));
    else return vreinterpretq_f32_u8(vqtbl4q_u8(uint8x16x4_t{{vld1q_u8(at), vld1q_u8(at + 16), vld1q_u8(at + 32), vld1q_u8(at + 48)}}, bytes));
}
template <int B>
inline F pick(const float* table, I where) {
    return {pick_half<B>(table, where.a), pick_half<B>(table, where.b)};
}

}  // namespace
}  // namespace pomona::neon
