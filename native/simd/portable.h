// Plain loops over eight lanes: what every compiler takes, and what most of them turn into vectors.
#pragma once
#include <cmath>

namespace pomona::portable {
namespace {

constexpr int W = 8;
struct F {
    float v[W];
};
struct I {
    union {
        int32_t sums[W];
        uint8_t bytes[4 * W];
    };
};

template <class Each>
inline F lanes(Each each) {
    F out;
    for (int i = 0; i < W; ++i) out.v[i] = each(i);
    return out;
}

inline F zero() { return lanes([](int) { return 0.0f; }); }
inline F set1(float v) { return lanes([v](int) { return v; }); }
inline F load(const float* p) { return lanes([p](int i) { return p[i]; }); }
inline F load_some(const float* p, int n) { return lanes([=](int i) { return i < n ? p[i] : 0.0f; }); }
inline void store(float* p, F f) { memcpy(p, f.v, sizeof f.v); }
inline void store_some(float* p, F f, int n) { memcpy(p, f.v, sizeof(float) * static_cast<size_t>(n)); }
inline F fma(F a, F b, F c) { return lanes([&](int i) { return a.v[i] * b.v[i] + c.v[i]; }); }
inline F add(F a, F b) { return lanes([&](int i) { return a.v[i] + b.v[i]; }); }
inline F sub(F a, F b) { return lanes([&](int i) { return a.v[i] - b.v[i]; }); }
inline F mul(F a, F b) { return lanes([&](int i) { return a.v[i] * b.v[i]; }); }
inline F max(F a, F b) { return lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline F abs(F a) { return lanes([&](int i) { return std::fabs(a.v[i]); }); }
inline F div(F a, F b) { return lanes([&](int i) { return a.v[i] / b.v[i]; }); }
inline F min(F a, F b) { return lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline F nearest(F a) { return lanes([&](int i) { return std::nearbyint(a.v[i]); }); }
inline F power_of_two(F a) {
    return lanes([&](int i) {
        const int32_t bits = (static_cast<int32_t>(a.v[i]) + 127) << 23;
        float out;
        memcpy(&out, &bits, sizeof out);
        return out;
    });
}
inline float sum(F a) { return ((a.v[0] + a.v[4]) + (a.v[2] + a.v[6])) + ((a.v[1] + a.v[5]) + (a.v[3] + a.v[7])); }
inline float top(F a) {
    float out = a.v[0];
    for (int i = 1; i < W; ++i) out = a.v[i] > out ? a.v[i] : out;
    return out;
}
template <class Claim>
inline uint32_t bits_of(Claim claim) {
    uint32_t bits = 0;
    for (int i = 0; i < W; ++i) bits |= static_cast<uint32_t>(claim(i)) << i;
    return bits;
}
inline uint32_t above(F a, F b) { return bits_of([&](int i) { return a.v[i] > b.v[i]; }); }
inline uint32_t nans(F a) { return bits_of([&](int i) { return a.v[i] != a.v[i]; }); }
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
    return lanes([&](int i) { return a.v[i / 4 * 4 + (i + R) % 4]; });
}
inline void store_bools(uint8_t* p, uint32_t bits) {
    for (int i = 0; i < W; ++i) p[i] = bits >> i & 1;
}
inline F where(const uint8_t* p, F a) { return lanes([&](int i) { return p[i] ? a.v[i] : 0.0f; }); }
inline float widen(uint16_t value) {
    const uint32_t wide = static_cast<uint32_t>(value) << 16;
    float out;
    memcpy(&out, &wide, sizeof out);
    return out;
}
inline F expand(uint32_t bits, const float* p) {
    return lanes([&](int i) { return bits >> i & 1 ? *p++ : 0.0f; });
}
inline F compress(uint32_t bits, F f) {
    F out = zero();
    for (int i = 0, next = 0; i < W; ++i)
        if (bits >> i & 1) out.v[next++] = f.v[i];
    return out;
}
inline F gather(const float* x, const uint16_t* index) { return lanes([=](int i) { return x[index[i]]; }); }
inline F gather_some(const float* x, const uint16_t* index, int n) { return lanes([=](int i) { return i < n ? x[index[i]] : 0.0f; }); }
inline F load_bf16(const uint16_t* p) { return lanes([p](int i) { return widen(p[i]); }); }
inline F load_i8(const int8_t* p) { return lanes([p](int i) { return static_cast<float>(p[i]); }); }
inline F keep(F f, int n) { return lanes([&](int i) { return i < n ? f.v[i] : 0.0f; }); }
constexpr int ZERO_POINT = 0;
inline void store_bytes(uint8_t* p, F f) {
    for (int i = 0; i < W; ++i) p[i] = static_cast<uint8_t>(static_cast<int>(__builtin_nearbyintf(f.v[i])) + ZERO_POINT);
}

inline I izero() {
    I out;
    memset(out.bytes, 0, sizeof out.bytes);
    return out;
}
inline I iload_some(const void* p, int n) {
    I out = izero();
    memcpy(out.bytes, p, static_cast<size_t>(n));
    return out;
}
inline I iload(const void* p) { return iload_some(p, 4 * W); }
inline I iexpand(uint64_t bits, const int8_t* p) {
    I out = izero();
    for (int i = 0; i < 4 * W; ++i)
        if (bits >> i & 1) out.bytes[i] = static_cast<uint8_t>(*p++);
    return out;
}
inline I wexpand(uint32_t bits, const uint16_t* p) {
    I out = izero();
    for (int i = 0; i < 2 * W; ++i)
        if (bits >> i & 1) memcpy(out.bytes + 2 * i, p++, 2);
    return out;
}
inline uint16_t word_of(const I& v, int i) {
    uint16_t found;
    memcpy(&found, v.bytes + 2 * i, sizeof found);
    return found;
}
inline F even_bf16(const I& v) { return lanes([&](int i) { return widen(word_of(v, 2 * i)); }); }
inline F odd_bf16(const I& v) { return lanes([&](int i) { return widen(word_of(v, 2 * i + 1)); }); }
inline I dot(I acc, I x, I w) {
    for (int i = 0; i < W; ++i)
        for (int k = 0; k < 4; ++k) acc.sums[i] += static_cast<int8_t>(x.bytes[4 * i + k]) * static_cast<int8_t>(w.bytes[4 * i + k]);
    return acc;
}
inline I iadd(I a, const I& b) {
    for (int i = 0; i < W; ++i) a.sums[i] += b.sums[i];
    return a;
}
inline int32_t isum(I a) {
    int32_t out = 0;
    for (int i = 0; i < W; ++i) out += a.sums[i];
    return out;
}

constexpr int REGISTERS = 16;
inline void transpose(F (&r)[W]) {
    for (int i = 0; i < W; ++i)
        for (int j = 0; j < i; ++j) {
            const float mine = r[i].v[j];
            r[i].v[j] = r[j].v[i];
            r[j].v[i] = mine;
        }
}
template <int B>
inline I fields(const uint8_t* p) {
    uint32_t all;
    memcpy(&all, p, sizeof all);
    I out;
    for (int i = 0; i < W; ++i) out.sums[i] = static_cast<int32_t>(all >> (B * i) & ((1u << B) - 1));
    return out;
}
template <int B>
inline F pick(const float* table, I where) {
    return lanes([&](int i) { return table[where.sums[i]]; });
}

}  // namespace
}  // namespace pomona::portable
