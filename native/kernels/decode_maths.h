// What a decoder computes beside its linear layers, over arrays of any length.
#pragma once
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

// f(k, lanes) for k = 0, W, 2 W, ... below n; lanes is W but for the last.
template <class Each>
inline void each_register(int64_t n, Each&& f) {
    int64_t k = 0;
    for (; k + W <= n; k += W) f(k, W);
    if (k < n) f(k, static_cast<int>(n - k));
}

// e^x of x cut to [-87, 88], relative error below 2e-7: 2^n e^r, |r| <= ln(2) / 2, (e^r - 1 - r) / r^2 by Chebyshev interpolation (1e-8).
// NaN stays NaN: max and min give their second argument then.
inline F exp(F x) {
    x = min(set1(88.0f), max(set1(-87.0f), x));
    const F n = nearest(mul(x, set1(1.44269504f)));
    // ln 2 in two parts, the first of few bits, so that n times it is exact.
    const F r = fma(n, set1(2.12194440e-4f), fma(n, set1(-0.693359375f), x));
    F p = fma(set1(1.39261761e-3f), r, set1(8.36317307e-3f));
    p = fma(p, r, set1(4.16665547e-2f));
    p = fma(p, r, set1(1.6666577e-1f));
    p = fma(p, r, set1(0.5f));
    return mul(add(fma(mul(r, r), p, r), set1(1.0f)), power_of_two(n));
}

// gate = silu(gate) * up.
inline void swiglu(float* gate, const float* up, int64_t n) {
    each_register(n, [&](int64_t k, int lanes) {
        const F g = load_up_to(gate + k, lanes);
        const F sigmoid = div(set1(1.0f), add(set1(1.0f), exp(sub(zero(), g))));
        store_up_to(gate + k, mul(mul(g, sigmoid), load_up_to(up + k, lanes)), lanes);
    });
}

struct Norm {
    const float* weight;  // null: there is no norm here
    float epsilon;
};

// out = x / sqrt(mean(x^2) + epsilon) * weight, out may be x. False where x is not finite: the caller gives up.
inline bool rms_norm(const float* x, int64_t n, Norm norm, float* out) {
    F squares = zero();
    each_register(n, [&](int64_t k, int lanes) {
        const F v = load_up_to(x + k, lanes);
        squares = fma(v, v, squares);
    });
    const float mean = sum(squares) / static_cast<float>(n) + norm.epsilon;
    if (!(mean <= 3.4e38f)) return false;
    const F scale = set1(1.0f / __builtin_sqrtf(mean));
    each_register(n, [&](int64_t k, int lanes) {
        store_up_to(out + k, mul(mul(load_up_to(x + k, lanes), scale), load_up_to(norm.weight + k, lanes)), lanes);
    });
    return true;
}

// The halves of a head's first 2 * pairs entries turned against each other, as transformers' Llama does it.
inline void rotate(float* head, int64_t pairs, const float* cosines, const float* sines) {
    each_register(pairs, [&](int64_t k, int lanes) {
        const F a = load_up_to(head + k, lanes), b = load_up_to(head + pairs + k, lanes);
        const F c = load_up_to(cosines + k, lanes), s = load_up_to(sines + k, lanes);
        store_up_to(head + k, sub(mul(a, c), mul(b, s)), lanes);
        store_up_to(head + pairs + k, fma(b, c, mul(a, s)), lanes);
    });
}

inline void scale_by(float* x, int64_t n, float factor) {
    each_register(n, [&](int64_t k, int lanes) { store_up_to(x + k, mul(load_up_to(x + k, lanes), set1(factor)), lanes); });
}

inline void add_to(float* x, const float* y, int64_t n) {
    each_register(n, [&](int64_t k, int lanes) { store_up_to(x + k, add(load_up_to(x + k, lanes), load_up_to(y + k, lanes)), lanes); });
}

}  // namespace
}  // namespace pomona::POMONA_ISA
