// The best of every row, exactly so many: a threshold is tried on the whole row, which lies in the cache, until it parts it right.
#include "selection.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int32_t kInfinity = 0x7F800000;

int64_t not_above(const float* row, int64_t n, float threshold) {
    const F t = set1(threshold);
    int64_t up[4] = {0, 0, 0, 0}, i = 0;
    for (; i + 4 * W <= n; i += 4 * W)
        for (int part = 0; part < 4; ++part) up[part] += count_bits(above(load(row + i + part * W), t));
    for (; i + W <= n; i += W) up[0] += count_bits(above(load(row + i), t));
    for (; i < n; ++i) up[0] += row[i] > threshold;
    return n - (up[0] + up[1] + up[2] + up[3]);
}

struct Range {
    float low, high;
    bool strange;
};

Range range_of(const float* row, int64_t n) {
    F low = set1(at_place(kInfinity)), high = set1(at_place(-kInfinity));
    uint32_t strange = 0;
    int64_t i = 0;
    for (; i + W <= n; i += W) {
        const F v = load(row + i);
        strange |= nans(v);
        low = min(low, v), high = max(high, v);
    }
    Range found{-top(sub(zero(), low)), top(high), false};
    for (; i < n; ++i) {
        strange |= row[i] != row[i];
        found.low = row[i] < found.low ? row[i] : found.low;
        found.high = row[i] > found.high ? row[i] : found.high;
    }
    found.strange = strange != 0;
    return found;
}

struct Cut {
    float threshold;
    int64_t room;  // how many at the threshold stay
};

// 0 < leave < n. After every trial the answer is above `few` and not above `enough`, whichever way the trial was chosen.
Cut cut_of(const float* row, int64_t n, int64_t leave, Range range) {
    int64_t few = static_cast<int64_t>(place_of(range.low)) - 1, enough = place_of(range.high);
    int64_t at_few = 0, at_enough = n;
    for (int trial = 0; enough - few > 1; ++trial) {
        int64_t next = few + (enough - few) / 2;
        if (trial % 3 != 2) {  // where a line between the ends has it; halves in between, for what is no line
            const float a = at_place(static_cast<int32_t>(few < -kInfinity ? -kInfinity : few)), b = at_place(static_cast<int32_t>(enough));
            const float share = (static_cast<float>(leave - at_few) + 0.5f) / static_cast<float>(at_enough - at_few + 1);
            const float guess = a + (b - a) * share;
            if (guess == guess) {
                const int64_t place = place_of(guess);
                next = place <= few ? few + 1 : place >= enough ? enough - 1 : place;
            }
        }
        const float threshold = at_place(static_cast<int32_t>(next));
        const int64_t gone = not_above(row, n, threshold);
        if (gone == leave) return {threshold, 0};
        if (gone < leave)
            few = next, at_few = gone;
        else
            enough = next, at_enough = gone;
    }
    return {at_place(static_cast<int32_t>(enough)), at_enough - leave};
}

void keep_row(const float* row, int64_t n, Cut cut, uint8_t* out) {
    const F t = set1(cut.threshold);
    int64_t i = 0;
    for (; i + W <= n; i += W) store_bools(out + i, living(load(row + i), t, cut.room));
    if (i < n) {
        uint8_t rest[W];
        store_bools(rest, living(load_some(row + i, static_cast<int>(n - i)), t, cut.room));
        memcpy(out + i, rest, static_cast<size_t>(n - i));
    }
}

}  // namespace

// values (rows, n), keep (rows) in [0, n], out (rows, n) bool: the keep highest of every row, of equals the first. -1 where one is NaN.
POMONA_KERNEL(selection_rows)
(const float* values, int64_t rows, int64_t n, const int64_t* keep, uint8_t* out, int threads) {
    if (n == 0) return 0;
    int strange = 0;
    parallel(rows, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const float* row = values + r * n;
            const Range range = range_of(row, n);
            if (range.strange) __atomic_store_n(&strange, 1, __ATOMIC_RELAXED);
            if (range.strange || keep[r] == 0 || keep[r] == n)
                memset(out + r * n, keep[r] == n, static_cast<size_t>(n));
            else
                keep_row(row, n, cut_of(row, n, n - keep[r], range), out + r * n);
        }
    });
    return strange ? -1 : 0;
}

}  // namespace pomona::POMONA_ISA
