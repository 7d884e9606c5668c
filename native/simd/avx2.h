// AVX2 with FMA and BMI2. Expansion goes through a table of lane numbers, of int8 through pdep.
#pragma once
#include <immintrin.h>

namespace pomona::avx2 {
namespace {

constexpr int W = 8;
using F = __m256;
using I = __m256i;

// lanes_of[bits][i]: which of the next values lane i takes.
struct Lanes {
    alignas(32) int32_t of[256][8];
    constexpr Lanes() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int lane = 0, next = 0; lane < 8; ++lane) of[bits][lane] = bits >> lane & 1 ? next++ : 0;
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
inline __m256 living(uint32_t bits) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), each), each));
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
inline F spread(uint32_t bits, F v) {
    const __m256i where = _mm256_load_si256(reinterpret_cast<const __m256i*>(lanes.of[bits & 255]));
    return _mm256_and_ps(_mm256_permutevar8x32_ps(v, where), living(bits));
}
inline F expand(uint32_t bits, const float* p) { return spread(bits, _mm256_loadu_ps(p)); }
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
inline F expand_bf16(uint32_t bits, const uint16_t* p) { return spread(bits, load_bf16(p)); }
inline F load_i8(const int8_t* p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
inline F keep(F f, int n) { return _mm256_and_ps(f, _mm256_castsi256_ps(first(n))); }
inline void store_bytes(uint8_t* p, F f) {
    const I whole = _mm256_add_epi32(_mm256_cvtps_epi32(f), _mm256_set1_epi32(128));
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}

inline I izero() { return _mm256_setzero_si256(); }
inline I iload(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
inline I iload_some(const void* p, int n) {
    alignas(32) uint8_t mine[32] = {0};
    memcpy(mine, p, static_cast<size_t>(n));
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(mine));
}
inline I iexpand(uint64_t bits, const int8_t* p) {
    alignas(32) uint64_t out[4];
    for (int part = 0; part < 4; ++part) {
        const uint64_t eight = bits >> (8 * part) & 255;
        const uint64_t bytes = _pdep_u64(eight, 0x0101010101010101ull) * 255;
        uint64_t next;
        memcpy(&next, p, sizeof next);
        out[part] = _pdep_u64(next, bytes);
        p += __builtin_popcountll(eight);
    }
    return _mm256_load_si256(reinterpret_cast<const __m256i*>(out));
}
// places[bits][i]: which of the next bytes byte i of eight words takes; 128 for none.
struct Places {
    alignas(16) uint8_t of[256][16];
    constexpr Places() : of() {
        for (int bits = 0; bits < 256; ++bits)
            for (int word = 0, next = 0; word < 8; ++word) {
                const bool lives = bits >> word & 1;
                of[bits][2 * word] = static_cast<uint8_t>(lives ? 2 * next : 128);
                of[bits][2 * word + 1] = static_cast<uint8_t>(lives ? 2 * next + 1 : 128);
                next += lives;
            }
    }
};
constexpr Places places{};
inline __m128i wexpand_half(uint32_t bits, const uint16_t* p) {
    return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)),
                            _mm_load_si128(reinterpret_cast<const __m128i*>(places.of[bits & 255])));
}
inline I wexpand(uint32_t bits, const uint16_t* p) {
    return _mm256_set_m128i(wexpand_half(bits >> 8, p + __builtin_popcount(bits & 255)), wexpand_half(bits, p));
}
inline F even_bf16(I v) { return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16)); }
inline F odd_bf16(I v) { return _mm256_castsi256_ps(_mm256_and_si256(v, _mm256_set1_epi32(static_cast<int>(0xffff0000u)))); }
// In words, since maddubs saturates: 255 * 127 * 2 does not fit into 16 bits.
inline I dot(I acc, I u, I s) {
    const __m256i low = _mm256_set1_epi16(255);
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u, low), _mm256_srai_epi16(_mm256_slli_epi16(s, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u, 8), _mm256_srai_epi16(s, 8));
    return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
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
