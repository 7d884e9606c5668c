// What a step of conjugate gradients does to each row once the product with the matrix is there.
#include "../core/threads.h"
#include "../simd/simd.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr float kTiny = 1.17549435e-38f;  // the least normal float

inline F some(const float* p, int n) { return n == W ? load(p) : load_some(p, n); }
inline void put(float* p, F f, int n) { n == W ? store(p, f) : store_some(p, f, n); }

// The mask of up to W places: where(p, f) reads W bytes.
inline const uint8_t* masks(const uint8_t* p, int n, uint8_t* room) {
    if (n == W) return p;
    memset(room, 0, W);
    memcpy(room, p, static_cast<size_t>(n));
    return room;
}

}  // namespace

// along, found, gradient, direction (groups, rows, columns); mask alike; scale (groups, columns); slope (groups, rows), as
// gradient . (gradient * scale). found and gradient go a step along direction, whose product with the matrix is `along`; then
// slope and direction are the next ones. Places that are not in the mask stay as they are in found, and 0 in the others.
POMONA_KERNEL(conjugate_step)
(const float* along, const uint8_t* mask, const float* scale, int64_t groups, int64_t rows, int64_t columns, float* found,
 float* gradient, float* direction, float* slope, int threads) {
    parallel(groups * rows, 8, threads, [&](int64_t begin, int64_t end) {
        uint8_t room[W];
        for (int64_t row = begin; row < end; ++row) {
            const int64_t at = row * columns;
            const float *a = along + at, *s = scale + row / rows * columns;
            const uint8_t* m = mask + at;
            float *x = found + at, *g = gradient + at, *d = direction + at;
            F whole = zero();
            for (int64_t k = 0; k < columns; k += W) {
                const int n = columns - k < W ? static_cast<int>(columns - k) : W;
                whole = fma(some(d + k, n), where(masks(m + k, n, room), some(a + k, n)), whole);
            }
            const float energy = sum(whole), before = slope[row];
            const F length = set1(before / (energy > kTiny ? energy : kTiny));
            F steep = zero();
            for (int64_t k = 0; k < columns; k += W) {
                const int n = columns - k < W ? static_cast<int>(columns - k) : W;
                put(x + k, fma(length, some(d + k, n), some(x + k, n)), n);
                const F now = sub(some(g + k, n), mul(length, where(masks(m + k, n, room), some(a + k, n))));
                put(g + k, now, n);
                steep = fma(mul(now, some(s + k, n)), now, steep);
            }
            slope[row] = sum(steep);
            const F turn = set1(slope[row] / (before > kTiny ? before : kTiny));
            for (int64_t k = 0; k < columns; k += W) {
                const int n = columns - k < W ? static_cast<int>(columns - k) : W;
                put(d + k, fma(turn, some(d + k, n), mul(some(g + k, n), some(s + k, n))), n);
            }
        }
    });
    return 0;
}

}  // namespace pomona::POMONA_ISA
