// NEON as every 64-bit Arm has it. Two registers make one of eight lanes, so that bits and tails are those of AVX2.
#pragma once
#include <arm_neon.h>

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
inline void compress(float* p, uint32_t bits, F a) {
    float mine[8];
    store(mine, a);
    for (int i = 0, next = 0; i < 8; ++i) {
        p[next] = mine[i];
        next += bits >> i & 1;
    }
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
    float mine[8];
    for (int i = 0; i < 8; ++i) {
        mine[i] = bits >> i & 1 ? *p : 0.0f;
        p += bits >> i & 1;
    }
    return load(mine);
}
inline F compress(uint32_t bits, F f) {
    float from[8], mine[8] = {0};
    store(from, f);
    for (int i = 0, next = 0; i < 8; ++i)
        if (bits >> i & 1) mine[next++] = from[i];
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
inline F expand_bf16(uint32_t bits, const uint16_t* p) {
    uint16_t mine[8];
    for (int i = 0; i < 8; ++i) {
        mine[i] = bits >> i & 1 ? *p : 0;
        p += bits >> i & 1;
    }
    return load_bf16(mine);
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
inline void store_bytes(uint8_t* p, F f) {
    const int32x4_t zero_point = vdupq_n_s32(128);
    const uint16x4_t a = vqmovun_s32(vaddq_s32(vcvtnq_s32_f32(f.a), zero_point)), b = vqmovun_s32(vaddq_s32(vcvtnq_s32_f32(f.b), zero_point));
    vst1_u8(p, vmovn_u16(vcombine_u16(a, b)));
}

inline I izero() { return {vdupq_n_u8(0), vdupq_n_u8(0)}; }
inline I iload(const void* p) { return {vld1q_u8(static_cast<const uint8_t*>(p)), vld1q_u8(static_cast<const uint8_t*>(p) + 16)}; }
inline I iload_some(const void* p, int n) {
    uint8_t mine[32] = {0};
    memcpy(mine, p, static_cast<size_t>(n));
    return iload(mine);
}
inline I iexpand(uint64_t bits, const int8_t* p) {
    int8_t mine[32];
    for (int i = 0; i < 32; ++i) {
        mine[i] = bits >> i & 1 ? *p : static_cast<int8_t>(0);
        p += bits >> i & 1;
    }
    return iload(mine);
}
inline I wexpand(uint32_t bits, const uint16_t* p) {
    uint16_t mine[16];
    for (int i = 0; i < 16; ++i) {
        mine[i] = bits >> i & 1 ? *p : static_cast<uint16_t>(0);
        p += bits >> i & 1;
    }
    return iload(mine);
}
inline F even_bf16(I v) {
    return {vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(v.a), 16)), vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(v.b), 16))};
}
inline F odd_bf16(I v) {
    const uint32x4_t high = vdupq_n_u32(0xffff0000u);
    return {vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(v.a), high)),
            vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(v.b), high))};
}
inline int32x4_t dot_half(int32x4_t acc, uint8x16_t u, int8x16_t s) {
    const int16x8_t ul = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(u))), uh = vreinterpretq_s16_u16(vmovl_u8(vget_high_u8(u)));
    const int16x8_t sl = vmovl_s8(vget_low_s8(s)), sh = vmovl_s8(vget_high_s8(s));
    const int32x4_t a = vmull_s16(vget_low_s16(ul), vget_low_s16(sl)), b = vmull_s16(vget_high_s16(ul), vget_high_s16(sl));
    const int32x4_t c = vmull_s16(vget_low_s16(uh), vget_low_s16(sh)), d = vmull_s16(vget_high_s16(uh), vget_high_s16(sh));
    return vaddq_s32(acc, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
}
inline I dot(I acc, I u, I s) {
    return {vreinterpretq_u8_s32(dot_half(vreinterpretq_s32_u8(acc.a), u.a, vreinterpretq_s8_u8(s.a))),
            vreinterpretq_u8_s32(dot_half(vreinterpretq_s32_u8(acc.b), u.b, vreinterpretq_s8_u8(s.b)))};
}
inline I iadd(I a, I b) {
    return {vreinterpretq_u8_s32(vaddq_s32(vreinterpretq_s32_u8(a.a), vreinterpretq_s32_u8(b.a))),
            vreinterpretq_u8_s32(vaddq_s32(vreinterpretq_s32_u8(a.b), vreinterpretq_s32_u8(b.b)))};
}
inline int32_t isum(I a) { return vaddvq_s32(vaddq_s32(vreinterpretq_s32_u8(a.a), vreinterpretq_s32_u8(a.b))); }

constexpr int REGISTERS = 16;  // of eight lanes
inline void transpose(F (&r)[8]) {
    float from[8][8], to[8];
    for (int i = 0; i < 8; ++i) store(from[i], r[i]);
    for (int i = 0; i < 8; ++i) {
        for (int j = 0; j < 8; ++j) to[j] = from[j][i];
        r[i] = load(to);
    }
}
template <int B>
inline I fields(const uint8_t* p) {
    uint32_t all, mine[8];
    memcpy(&all, p, sizeof all);
    for (int i = 0; i < 8; ++i) mine[i] = all >> (B * i) & ((1u << B) - 1);
    return iload(mine);
}
template <int B>
inline F pick(const float* table, I where) {
    uint32_t from[8];
    float mine[8];
    vst1q_u32(from, vreinterpretq_u32_u8(where.a));
    vst1q_u32(from + 4, vreinterpretq_u32_u8(where.b));
    for (int i = 0; i < 8; ++i) mine[i] = table[from[i]];
    return load(mine);
}

}  // namespace
}  // namespace pomona::neon
