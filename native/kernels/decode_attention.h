// One position's attention over a cache of keys and values.
//
// Keys of one head lie in tiles of W positions, (ceil(context / W), key_width, W): a register holds one entry of W keys, so that scores
// need no sums over lanes. Values lie as they come, (context, value_width).
#pragma once
#include "decode_maths.h"

namespace pomona::POMONA_ISA {
namespace {

inline int64_t tiles(int64_t positions) { return (positions + W - 1) / W; }

inline void append_key(float* keys, const float* key, int64_t width, int64_t position) {
    float* lane = keys + position / W * width * W + position % W;
    for (int64_t d = 0; d < width; ++d) lane[d * W] = key[d];
}

// scores[i][t] = query i . key t, for t below tiles * W; those past the last key are of whatever lies there.
template <int Q>
void scores_of(const float* queries, const float* keys, int64_t width, int64_t count, float* scores, int64_t row) {
    for (int64_t tile = 0; tile < count; ++tile, keys += width * W) {
        F even[Q], odd[Q];  // two chains a query: one would wait for its own sums
        for (int i = 0; i < Q; ++i) even[i] = odd[i] = zero();
        int64_t d = 0;
        for (; d + 2 <= width; d += 2) {
            const F a = load(keys + d * W), b = load(keys + (d + 1) * W);
            for (int i = 0; i < Q; ++i) {
                even[i] = fma(set1(queries[i * width + d]), a, even[i]);
                odd[i] = fma(set1(queries[i * width + d + 1]), b, odd[i]);
            }
        }
        if (d < width)
            for (int i = 0; i < Q; ++i) even[i] = fma(set1(queries[i * width + d]), load(keys + d * W), even[i]);
        for (int i = 0; i < Q; ++i) store(scores + i * row + tile * W, add(even[i], odd[i]));
    }
}

// In place, the first `length` of scores; the rest of the last register becomes 0.
inline void softmax(float* scores, int64_t length) {
    F highest = set1(-3.4e38f);
    const int64_t whole = tiles(length) * W;
    for (int64_t t = length; t < whole; ++t) scores[t] = -3.4e38f;
    for (int64_t t = 0; t < whole; t += W) highest = max(highest, load(scores + t));
    const F top_score = set1(top(highest));
    F total = zero();
    for (int64_t t = 0; t < whole; t += W) {
        F e = exp(sub(load(scores + t), top_score));
        store(scores + t, e);
        if (t + W > length) {
            for (int64_t past = length; past < whole; ++past) scores[past] = 0.0f;
            e = load(scores + t);
        }
        total = add(total, e);
    }
    scale_by(scores, whole, 1.0f / sum(total));
}

#if defined(POMONA_AVX512)
constexpr int kValueRegisters = 4;  // 3 queries x 4 of the 32 registers
#else
constexpr int kValueRegisters = 2;
#endif

// out[i][d] = sum over t of weights[i][t] * values[t][d]
template <int Q>
void weighted(const float* weights, int64_t row, const float* values, int64_t width, int64_t length, float* out) {
    constexpr int D = kValueRegisters;
    int64_t d = 0;
    for (; d + D * W <= width; d += D * W) {
        F sums[Q][D];
        for (int i = 0; i < Q; ++i)
            for (int k = 0; k < D; ++k) sums[i][k] = zero();
        for (int64_t t = 0; t < length; ++t) {
            F v[D];
            for (int k = 0; k < D; ++k) v[k] = load(values + t * width + d + k * W);
            for (int i = 0; i < Q; ++i) {
                const F w = set1(weights[i * row + t]);
                for (int k = 0; k < D; ++k) sums[i][k] = fma(w, v[k], sums[i][k]);
            }
        }
        for (int i = 0; i < Q; ++i)
            for (int k = 0; k < D; ++k) store(out + i * width + d + k * W, sums[i][k]);
    }
    for (; d < width; d += W) {
        const int lanes = width - d < W ? static_cast<int>(width - d) : W;
        F sums[Q];
        for (int i = 0; i < Q; ++i) sums[i] = zero();
        for (int64_t t = 0; t < length; ++t) {
            const F v = load_up_to(values + t * width + d, lanes);
            for (int i = 0; i < Q; ++i) sums[i] = fma(set1(weights[i * row + t]), v, sums[i]);
        }
        for (int i = 0; i < Q; ++i) store_up_to(out + i * width + d, sums[i], lanes);
    }
}

// The queries of one key head: `queries` (count, key_width) scaled already, `scores` (count, row) scratch, `out` (count, value_width).
struct Attention {
    const float *keys, *values;
    int64_t key_width, value_width, length;
    float* scores;
    int64_t row;

    template <int Q>
    void run(const float* queries, float* out) const {
        scores_of<Q>(queries, keys, key_width, tiles(length), scores, row);
        for (int i = 0; i < Q; ++i) softmax(scores + i * row, length);
        weighted<Q>(scores, row, values, value_width, length, out);
    }

    void attend(const float* queries, int64_t count, float* out) const {
        for (; count >= 3; count -= 3, queries += 3 * key_width, out += 3 * value_width) run<3>(queries, out);
        if (count == 2) run<2>(queries, out);
        if (count == 1) run<1>(queries, out);
    }
};

}  // namespace
}  // namespace pomona::POMONA_ISA
