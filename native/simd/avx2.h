// AVX2 with FMA and BMI2. Expansion goes through tables of lane numbers.
#pragma once
#include <immintrin.h>

#include "tables.h"

namespace pomona::avx2 {
namespace {

constexpr int W = 8;
using F = __m256;
using I = __m256i;

// lanes.of[bits][i]: which of the next values lane i takes; negative, from which a permutation reads nothing that counts, for none.
struct Lanes {
    alignas(32) int32_t of[256][8];
    constexpr Lanes() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int lane = 0, next = 0; lane < 8; ++lane) of[bits][lane] = bits >> lane & 1 ? next++ : INT32_MIN;
    }
};
constexpr Lanes lanes{};

// set.of[bits][i]: the i-th bit that is set, 0 behind the last.
struct Set {
    alignas(32) int32_t of[256][8];
    constexpr Set() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int bit = 0, next = 0; bit < 8; ++bit)
                if (bits >> bit & 1) of[bits][next++] = bit;
    }
};
constexpr Set set{};

inline __m256i first(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F zero() { return _mm256_setzero_ps(); }
inline F set1(float v) { return _mm256_set1_ps(v); }
inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline F load_some(const float* p, int n) { return _mm256_maskload_ps(p, first(n)); }
inline void store(float* p, F f) { _mm256_storeu_ps(p, f); }
inline void store_some(float* p, F f, int n) { _mm256_maskstore_ps(p, first(n), f); }
inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F add(F a, F b) { return _mm256_add_ps(a, b); }
inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F max(F a, F b) { return _mm256_max_ps(a, b); }
inline F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
inline F div(F a, F b) { return _mm256_div_ps(a, b); }
inline F min(F a, F b) { return _mm256_min_ps(a, b); }
inline F nearest(F a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F power_of_two(F a) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23));
}
inline float sum(F a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float top(F a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
inline uint32_t above(F a, F b) { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ))); }
inline uint32_t nans(F a) { return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, a, _CMP_UNORD_Q))); }
inline void compress(float* p, uint32_t bits, F a) {
    const uint64_t lanes = _pext_u64(0x0706050403020100ull, _pdep_u64(bits, 0x0101010101010101ull) * 255);
    _mm256_storeu_ps(p, _mm256_permutevar8x32_ps(a, _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(lanes)))));
}
template <int R>
inline F turn(F a) {
    return _mm256_permute_ps(a, R % 4 | (R + 1) % 4 << 2 | (R + 2) % 4 << 4 | (R + 3) % 4 << 6);
}
inline void store_bools(uint8_t* p, uint32_t bits) {
    const uint64_t bytes = _pdep_u64(bits, 0x0101010101010101ull);
    memcpy(p, &bytes, sizeof bytes);
}
inline F where(const uint8_t* p, F a) {
    const __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpeq_epi32(bytes, _mm256_setzero_si256())), a);
}
inline F expand(uint32_t bits, const float* p) {
    const __m256 where = _mm256_load_ps(reinterpret_cast<const float*>(lanes.of[bits & 255]));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(p), _mm256_castps_si256(where)), zero(), where);
}
inline F compress(uint32_t bits, F f) {
    return _mm256_permutevar8x32_ps(f, _mm256_load_si256(reinterpret_cast<const __m256i*>(set.of[bits & 255])));
}
inline F gather(const float* x, const uint16_t* i) {
    return _mm256_i32gather_ps(x, _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(i))), 4);
}
inline F gather_some(const float* x, const uint16_t* i, int n) {
    uint16_t mine[8] = {0};
    memcpy(mine, i, sizeof(uint16_t) * static_cast<size_t>(n));
    const __m256i where = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(mine)));
    return _mm256_mask_i32gather_ps(zero(), x, where, _mm256_castsi256_ps(first(n)), 4);
}
inline F widen(__m128i v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16)); }
inline F load_bf16(const uint16_t* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
inline F load_i8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline F keep(F f, int n) { return _mm256_and_ps(f, _mm256_castsi256_ps(first(n))); }
constexpr int ZERO_POINT = 0;
inline void store_bytes(uint8_t* p, F f) {
    const I whole = _mm256_cvtps_epi32(f);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}

inline I izero() { return _mm256_setzero_si256(); }
inline I iload(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline I iload_some(const void* p, int n) {
    alignas(32) uint8_t mine[32] = {0};
    memcpy(mine, p, static_cast<size_t>(n));
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(mine));
}
constexpr Expansion<8, 1> low_bytes{};
constexpr Expansion<8, 1, 8> high_bytes{};  // the same of what lies in the upper eight
inline __m128i eight_and_eight(const void* low, const void* high) {
    const __m128i first = _mm_loadl_epi64(static_cast<const __m128i*>(low));
    return _mm_castps_si128(_mm_loadh_pi(_mm_castsi128_ps(first), static_cast<const __m64*>(high)));
}
inline __m128i iexpand_half(uint32_t bits, const int8_t* p) {
    const uint32_t low = bits & 255, high = bits >> 8 & 255;
    return _mm_shuffle_epi8(eight_and_eight(p, p + __builtin_popcount(low)), eight_and_eight(low_bytes.of[low], high_bytes.of[high]));
}
inline I iexpand(uint64_t bits, const int8_t* p) {
    const uint32_t low = bits & 0xffff;
    return _mm256_set_m128i(iexpand_half(static_cast<uint32_t>(bits) >> 16, p + __builtin_popcount(low)), iexpand_half(low, p));
}
constexpr Expansion<8, 2> words{};
inline __m128i wexpand_half(uint32_t bits, const uint16_t* p) {
    return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)),
                            _mm_load_si128(reinterpret_cast<const __m128i*>(words.of[bits & 255])));
}
inline I wexpand(uint32_t bits, const uint16_t* p) {
    return _mm256_set_m128i(wexpand_half(bits >> 8, p + __builtin_popcount(bits & 255)), wexpand_half(bits, p));
}
inline F even_bf16(I v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
inline F odd_bf16(I v) { return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))); }
// maddubs takes unsigned bytes first, so signs change sides; two products of at most 128 * 127 fit into 16 bits.
inline I dot(I acc, I x, I w) {
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline I iadd(I a, I b) { return _mm256_add_epi32(a, b); }
inline int32_t isum(I a) {
    __m128i s = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

constexpr int REGISTERS = 16;
inline void transpose(F (&r)[8]) {
    F t[8];
    for (int i = 0; i < 4; ++i) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
    for (int i = 0; i < 8; ++i) r[i] = t[i];
}
template <int B>
inline I fields(const uint8_t* p) {
    const __m256i shifts = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(B));
    int32_t all;
    memcpy(&all, p, sizeof all);
    return _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(all), shifts), _mm256_set1_epi32((1 << B) - 1));
}
template <int B>
inline F pick(const float* table, I where) {
    const F low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), where);
    if (B < 4) return low;
    const F high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), where);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(where, 28)));
}

}  // namespace
}  // namespace pomona::avx2
