// Floats in order as integers, and masks of what lies above a threshold.
#pragma once
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr uint32_t kAll = W == 32 ? ~0u : (1u << W) - 1;

// The place of a float in the order of all floats: 0 and -0 share place 0, NaN is beyond the infinities.
inline int32_t place_of(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits >= 0 ? bits : INT32_MIN - bits;
}
inline float at_place(int32_t place) {
    const int32_t bits = place >= 0 ? place : INT32_MIN - place;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// Of the bits the first `room`, which shrinks by what it was used for.
inline uint32_t first_of(uint32_t bits, int64_t& room) {
    int many = count_bits(bits);
    for (; many > room; --many) bits &= ~(1u << (31 - __builtin_clz(bits)));
    room -= many;
    return bits;
}

// Which of W values are above the threshold, and of those at it the first `room`.
inline uint32_t living(F value, F threshold, int64_t& room) {
    const uint32_t up = above(value, threshold), level = kAll & ~(up | above(threshold, value));
    return level == 0 ? up : up | first_of(level, room);
}

}  // namespace
}  // namespace pomona::POMONA_ISA
