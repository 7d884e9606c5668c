// What x becomes before it meets weights: padded, parted or quantised, once for all rows.
#pragma once
#include "../simd/simd.h"

namespace pomona {

enum class Form : int32_t {
    floats,    // as they are
    pairs,     // of every 2 W columns the even ones, then the odd ones: how bfloat16 comes out of its words
    bytes,     // round(x * 127 / max|x|), as store_bytes writes it
    integers,  // the same as floats: for what is gathered
};

// One x, ready. It is followed by whatever makes its columns a multiple of 64; only zero weights meet that.
struct Activation {
    const float* floats;   // of floats, pairs, integers
    const uint8_t* bytes;  // of bytes
    float scale;           // what one step of bytes and integers is worth; NaN where x is not finite
};

// Floats of room that an x of so many columns needs.
inline int64_t room_of(int64_t columns) { return (columns + 63) / 64 * 64; }

namespace POMONA_ISA {
namespace {

// The largest |x|, or NaN where one of them is not finite.
inline float largest(const float* x, int64_t n) {
    F most = zero(), wrong = zero();
    for (int64_t k = 0; k < n; k += W) {
        const F v = k + W <= n ? load(x + k) : load_some(x + k, static_cast<int>(n - k));
        most = max(most, abs(v));
        wrong = fma(v, zero(), wrong);  // 0, or NaN from the first that is not finite on
    }
    const float zeros = sum(wrong);
    return zeros == 0.0f ? top(most) : zeros;
}

// 127 / max|x|, by which x is multiplied; 0 for an x of zeros, or one so small that this is no float32.
inline float steps_of(float most) { return most > 0x1p-120f ? 127.0f / most : 0.0f; }

// x as bytes, `room_of` of them; returns the scale.
inline float quantise(const float* x, int64_t n, uint8_t* bytes) {
    const float most = largest(x, n);
    const F steps = set1(steps_of(most));
    for (int64_t k = 0; k < room_of(n); k += W) {
        const F v = k + W <= n ? load(x + k) : load_some(x + k, k < n ? static_cast<int>(n - k) : 0);
        store_bytes(bytes + k, most == most ? mul(v, steps) : zero());
    }
    return most > 0x1p-120f || most != most ? most / 127.0f : 0.0f;
}

// x in a form. `room` is of room_of(columns) floats and lives as long as what is returned; x too.
inline Activation prepare(Form form, const float* x, int64_t columns, float* room) {
    const int64_t padded = room_of(columns);
    if (form == Form::bytes) {
        uint8_t* bytes = reinterpret_cast<uint8_t*>(room);
        const float scale = quantise(x, columns, bytes);
        return {nullptr, bytes, scale};
    }
    if (form == Form::floats && columns == padded) return {x, nullptr, 1.0f};
    float scale = 1.0f;
    F steps = set1(1.0f);
    if (form == Form::integers) {
        const float most = largest(x, columns);
        scale = most > 0x1p-120f || most != most ? most / 127.0f : 0.0f;
        steps = set1(steps_of(most));
    }
    for (int64_t k = 0; k < padded; k += W) {
        const F v = k + W <= columns ? load(x + k) : load_some(x + k, k < columns ? static_cast<int>(columns - k) : 0);
        store(room + k, form == Form::integers ? (scale == scale ? nearest(mul(v, steps)) : zero()) : v);
    }
    if (form == Form::pairs)
        for (int64_t k = 0; k < padded; k += 2 * W) {
            float mine[2 * W];
            memcpy(mine, room + k, sizeof mine);
            for (int i = 0; i < W; ++i) room[k + i] = mine[2 * i], room[k + W + i] = mine[2 * i + 1];
        }
    return {room, nullptr, scale};
}

}  // namespace
}  // namespace POMONA_ISA
}  // namespace pomona
