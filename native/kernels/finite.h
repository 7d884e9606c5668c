// Kernels that leave zeros out would leave out NaN and infinities of x with them, where a dense product makes NaN of 0 * infinity.
#pragma once
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int kNotFinite = -4;  // what such a kernel returns then, with nothing done

// Whether all of x (n) are numbers.
inline bool finite(const float* x, int64_t n) {
    F wrong[4] = {zero(), zero(), zero(), zero()};  // 0, or NaN from the first that is not finite on
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (int u = 0; u < 4; ++u) wrong[u] = fma(load(x + i + u * W), zero(), wrong[u]);
    for (; i < n; i += W) {
        const int left = n - i < W ? static_cast<int>(n - i) : W;
        wrong[0] = fma(load_some(x + i, left), zero(), wrong[0]);
    }
    return sum(add(add(wrong[0], wrong[1]), add(wrong[2], wrong[3]))) == 0.0f;
}

}  // namespace
}  // namespace pomona::POMONA_ISA
