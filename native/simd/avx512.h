// AVX-512 as Ice Lake and Zen 4 have it.
#pragma once
#include <immintrin.h>

namespace pomona::avx512 {
namespace {

constexpr int W = 16;
using F = __m512;
using I = __m512i;

inline __mmask16 first(int n) { return static_cast<__mmask16>((1u << n) - 1); }
inline __mmask64 first_bytes(int n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

inline F zero() { return _mm512_setzero_ps(); }
inline F set1(float v) { return _mm512_set1_ps(v); }
inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline F load_some(const float* p, int n) { return _mm512_maskz_loadu_ps(first(n), p); }
inline void store(float* p, F f) { _mm512_storeu_ps(p, f); }
inline void store_some(float* p, F f, int n) { _mm512_mask_storeu_ps(p, first(n), f); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F max(F a, F b) { return _mm512_max_ps(a, b); }
inline F abs(F a) { return _mm512_abs_ps(a); }
inline F div(F a, F b) { return _mm512_div_ps(a, b); }
inline F min(F a, F b) { return _mm512_min_ps(a, b); }
inline F nearest(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F power_of_two(F a) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23));
}
inline float sum(F a) { return _mm512_reduce_add_ps(a); }
inline float top(F a) { return _mm512_reduce_max_ps(a); }
inline uint32_t above(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
inline uint32_t nans(F a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
inline void compress(float* p, uint32_t bits, F a) { _mm512_storeu_ps(p, _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), a)); }
template <int R>
inline F turn(F a) {
    return _mm512_permute_ps(a, R % 4 | (R + 1) % 4 << 2 | (R + 2) % 4 << 4 | (R + 3) % 4 << 6);
}
inline void store_bools(uint8_t* p, uint32_t bits) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_maskz_set1_epi8(static_cast<__mmask16>(bits), 1));
}
inline F where(const uint8_t* p, F a) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm512_maskz_mov_ps(_mm_test_epi8_mask(bytes, bytes), a);
}
inline F expand(uint32_t bits, const float* p) { return _mm512_maskz_expand_ps(static_cast<__mmask16>(bits), _mm512_loadu_ps(p)); }
inline F compress(uint32_t bits, F f) { return _mm512_maskz_compress_ps(static_cast<__mmask16>(bits), f); }
inline F gather(const float* x, const uint16_t* i) {
    return _mm512_i32gather_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(i))), x, 4);
}
inline F gather_some(const float* x, const uint16_t* i, int n) {
    const __mmask16 m = first(n);
    return _mm512_mask_i32gather_ps(zero(), m, _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, i)), x, 4);
}
inline F widen(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
inline F load_bf16(const uint16_t* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
inline F load_i8(const int8_t* p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
inline F keep(F f, int n) { return _mm512_maskz_mov_ps(first(n), f); }
constexpr int ZERO_POINT = 128;
inline void store_bytes(uint8_t* p, F f) {
    const I whole = _mm512_add_epi32(_mm512_cvtps_epi32(f), _mm512_set1_epi32(ZERO_POINT));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(whole));
}

inline I izero() { return _mm512_setzero_si512(); }
inline I iload(const void* p) { return _mm512_loadu_si512(p); }
inline I iload_some(const void* p, int n) { return _mm512_maskz_loadu_epi8(first_bytes(n), p); }
inline I iexpand(uint64_t bits, const int8_t* p) { return _mm512_maskz_expand_epi8(bits, _mm512_loadu_si512(p)); }
inline I wexpand(uint32_t bits, const uint16_t* p) { return _mm512_maskz_expand_epi16(bits, _mm512_loadu_si512(p)); }
inline F even_bf16(I v) { return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16)); }
inline F odd_bf16(I v) { return _mm512_castsi512_ps(_mm512_and_si512(v, _mm512_set1_epi32(static_cast<int>(0xffff0000u)))); }
inline I dot(I acc, I x, I w) { return _mm512_dpbusd_epi32(acc, x, w); }
inline I iadd(I a, I b) { return _mm512_add_epi32(a, b); }
inline int32_t isum(I a) { return _mm512_reduce_add_epi32(a); }

constexpr int REGISTERS = 32;
inline void transpose(F (&r)[16]) {
    F t[16];
    for (int i = 0; i < 8; ++i) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 4; ++i) {
        const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
        const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
        r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
    }
    for (int i = 0; i < 8; ++i) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0x88);
        r[8 + i] = _mm512_shuffle_f32x4(t[i], t[8 + i], 0xdd);
    }
}
template <int B>
inline I fields(const uint8_t* p) {
    const __m512i shifts = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), _mm512_set1_epi32(B));
    const __m512i all = _mm512_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    return _mm512_and_si512(_mm512_multishift_epi64_epi8(shifts, all), _mm512_set1_epi32((1 << B) - 1));
}
template <int B>
inline F pick(const float* table, I where) {
    return _mm512_permutexvar_ps(where, _mm512_loadu_ps(table));
}

}  // namespace
}  // namespace pomona::avx512
