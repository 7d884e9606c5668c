// What the machine can do at most: bytes read, float multiply-adds, and products of bytes, a second. Python holds the clock.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int CHAINS = 12;        // independent sums: more than latency times width of any core, and they leave room in 16 registers
constexpr int64_t ROUNDS = 4096;  // within one part of a loop over threads

// What the compiler knows of this object is wrong from here on: it neither folds rounds into one nor leaves a result out.
template <class T>
inline void forget(T& object) {
    asm volatile("" : "+m"(object));
}

void read(const float* data, int64_t count) {
    F sums[8];
    for (F& s : sums) s = zero();
    int64_t i = 0;
    for (; i + 8 * W <= count; i += 8 * W)
        for (int k = 0; k < 8; ++k) sums[k] = add(sums[k], load(data + i + k * W));
    for (; i < count; i += W) sums[0] = add(sums[0], load_some(data + i, static_cast<int>(count - i < W ? count - i : W)));
    for (F s : sums) forget(s);
}

void multiply(int64_t rounds) {
    F sums[CHAINS];
    for (F& s : sums) s = zero();
    float one = 1.0f, little = 1e-9f;
    forget(one), forget(little);
    const F a = set1(one), b = set1(little);
    for (int64_t round = 0; round < rounds; ++round)
#pragma GCC unroll 12
        for (F& s : sums) s = fma(s, a, b);
    for (F s : sums) forget(s);
}

void multiply_bytes(int64_t rounds) {
    I sums[CHAINS];
#pragma GCC unroll 12
    for (I& s : sums) s = izero();
    alignas(64) uint8_t weights[CHAINS][4 * W], x[4 * W];
    memset(weights, 1, sizeof weights);
    memset(x, 1, sizeof x);
    for (int64_t round = 0; round < rounds; ++round) {
        forget(weights), forget(x);
        const I mine = iload(x);
#pragma GCC unroll 12
        for (int k = 0; k < CHAINS; ++k) sums[k] = dot(sums[k], mine, iload(weights[k]));  // weights are read, as they are in a layer
    }
#pragma GCC unroll 12
    for (I s : sums) forget(s);  // copies: the sums themselves must stay in registers
}

}  // namespace

// Reads `count` floats `times` over.
POMONA_KERNEL(roofline_read)(const float* data, int64_t count, int64_t times, int threads) {
    for (int64_t t = 0; t < times; ++t)
        parallel(count, 8 * W, threads, [&](int64_t begin, int64_t end) { read(data + begin, end - begin); });
    return 0;
}

// So many parts of ROUNDS * CHAINS * W multiply-adds of floats; `operations` counts two for each.
POMONA_KERNEL(roofline_fma)(int64_t parts, double* operations, int threads) {
    parallel(parts, 1, threads, [&](int64_t begin, int64_t end) { multiply((end - begin) * ROUNDS); });
    *operations = 2.0 * W * CHAINS * ROUNDS * static_cast<double>(parts);
    return 0;
}

// The same of bytes summed up in fours, by VNNI where there is one.
POMONA_KERNEL(roofline_dot)(int64_t parts, double* operations, int threads) {
    parallel(parts, 1, threads, [&](int64_t begin, int64_t end) { multiply_bytes((end - begin) * ROUNDS); });
    *operations = 2.0 * 4 * W * CHAINS * ROUNDS * static_cast<double>(parts);
    return 0;
}

}  // namespace pomona::POMONA_ISA
