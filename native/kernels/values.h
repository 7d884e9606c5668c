// The kinds of values: what 64 columns of them fill, as registers that meet x or spread out as stored, and what a row's sum is worth.
#pragma once
#include "quantise.h"

namespace pomona {

enum class Kind : int32_t { f32, bf16, i8 };

namespace POMONA_ISA {
namespace {

template <class T>
inline const T* as(const void* p) {
    return static_cast<const T*>(p);
}

// What float32 and bfloat16 share: sums of floats.
struct Floats {
    using Vector = F;
    static constexpr int vectors = 64 / W;
    static Vector none() { return zero(); }
    static Vector x(const Activation& a, int64_t at) { return load(a.floats + at); }
    static Vector multiply_add(Vector weights, Vector x, Vector sum) { return fma(x, weights, sum); }
    static Vector plus(Vector a, Vector b) { return add(a, b); }
    static float worth(Vector sum_of, float, int32_t, const Activation&) { return sum(sum_of); }
};

struct F32 : Floats {
    using Stored = float;
    static constexpr Form form = Form::floats;
    static void expand_word(uint64_t bits, const Stored* p, Vector* out) {
        for (int v = 0; v < vectors; ++v)
            out[v] = expand(static_cast<uint32_t>(bits >> (v * W)) & ((1u << W) - 1), p + count_bits(bits & ((1ull << (v * W)) - 1)));
    }
    static void spread_word(uint64_t bits, const Stored* p, Stored* out) {
        Vector words[vectors];
        expand_word(bits, p, words);
        for (int v = 0; v < vectors; ++v) store(out + v * W, words[v]);
    }
    static void load_word(const Stored* p, Vector* out) {
        for (int v = 0; v < vectors; ++v) out[v] = load(p + v * W);
    }
    static void load_tail(const Stored* p, int n, Vector* out) {
        for (int v = 0; v < vectors; ++v) out[v] = n >= W ? load(p + v * W) : n > 0 ? load_some(p + v * W, n) : zero(), n -= W;
    }
    static F load_lanes(const Stored* p) { return load(p); }
};

struct BF16 : Floats {
    using Stored = uint16_t;
    static constexpr Form form = Form::pairs;
    static void part(I words, Vector* out) { out[0] = even_bf16(words), out[1] = odd_bf16(words); }
    static I words(uint64_t bits, const Stored* p, int v) {
        return wexpand(static_cast<uint32_t>(bits >> (v * W) & ((1ull << 2 * W) - 1)), p + count_bits(bits & ((1ull << (v * W)) - 1)));
    }
    static void expand_word(uint64_t bits, const Stored* p, Vector* out) {
        for (int v = 0; v < vectors; v += 2) part(words(bits, p, v), out + v);
    }
    static void spread_word(uint64_t bits, const Stored* p, Stored* out) {
        for (int v = 0; v < vectors; v += 2) {
            const I found = words(bits, p, v);
            memcpy(out + v * W, &found, sizeof found);
        }
    }
    static void load_word(const Stored* p, Vector* out) {
        for (int v = 0; v < vectors; v += 2) part(iload(p + v * W), out + v);
    }
    static void load_tail(const Stored* p, int n, Vector* out) {
        for (int v = 0; v < vectors; v += 2, n -= 2 * W) part(n >= 2 * W ? iload(p + v * W) : iload_some(p + v * W, n > 0 ? 2 * n : 0), out + v);
    }
    static F load_lanes(const Stored* p) { return load_bf16(p); }
};

struct I8 {
    using Stored = int8_t;
    using Vector = I;
    static constexpr Form form = Form::bytes;
    static constexpr int vectors = 16 / W;
    static Vector none() { return izero(); }
    static Vector x(const Activation& a, int64_t at) { return iload(a.bytes + at); }
    static Vector multiply_add(Vector weights, Vector x, Vector sum) { return dot(sum, x, weights); }
    static Vector plus(Vector a, Vector b) { return iadd(a, b); }
    static float worth(Vector sum, float scale, int32_t values, const Activation& x) {
        return scale * x.scale * static_cast<float>(isum(sum) - ZERO_POINT * values);
    }
    static void expand_word(uint64_t bits, const Stored* p, Vector* out) {
        if constexpr (vectors == 1) {
            out[0] = iexpand(bits, p);
        } else {
            out[0] = iexpand(bits & 0xffffffffu, p);
            out[1] = iexpand(bits >> 32, p + count_bits(bits & 0xffffffffu));
        }
    }
    static void spread_word(uint64_t bits, const Stored* p, Stored* out) {
        Vector words[vectors];
        expand_word(bits, p, words);
        memcpy(out, words, sizeof words);
    }
    static void load_word(const Stored* p, Vector* out) {
        for (int v = 0; v < vectors; ++v) out[v] = iload(p + v * 4 * W);
    }
    static void load_tail(const Stored* p, int n, Vector* out) {
        for (int v = 0; v < vectors; ++v, n -= 4 * W) out[v] = n >= 4 * W ? iload(p + v * 4 * W) : iload_some(p + v * 4 * W, n > 0 ? n : 0);
    }
    static F load_lanes(const Stored* p) { return load_i8(p); }
};

}  // namespace
}  // namespace POMONA_ISA
}  // namespace pomona
