// The exact greedy way down of each row (Frantar et al., OBC, 2022); `pomona.native.walk` says what a step is.
#include <math.h>

#include "../core/threads.h"
#include "tile.h"
#include "workspace.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int kBurst = 16;   // steps that are looked ahead
constexpr int kPlaces = 48;  // columns among which they are expected
constexpr int R = rows_at_once(kBurst), V = read_at_once(R), T = V * W;  // a tile of sums: R rows of T columns
static_assert(kBurst % R == 0 && kPlaces % R == 0 && kPlaces % T == 0, "bursts and places are whole tiles");

constexpr int64_t whole(int64_t n, int64_t of) { return (n + of - 1) / of * of; }

struct Given {
    const float* inverse;  // P (columns, columns)
    int64_t columns, window;
    float floor;  // below it a pivot is only rounding
};

// out[r] += sum over i < depth of left[i][r] * right[i], for R rows of T columns that lie `stride` apart.
void add_product(const float* left, const float* right, int64_t depth, float* out, int64_t stride) {
    F sums[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] = load(out + r * stride + v * W);
    for (int64_t i = 0; i < depth; ++i, left += R, right += T) {
        F x[V];
        for (int v = 0; v < V; ++v) x[v] = load(right + v * W);
        for (int r = 0; r < R; ++r) {
            const F f = set1(left[r]);
            for (int v = 0; v < V; ++v) sums[r][v] = fma(f, x[v], sums[r][v]);
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) store(out + r * stride + v * W, sums[r][v]);
}

// The greatest of a heap gives way to `value`.
void replace_top(float* heap, int size, float value) {
    int at = 0;
    for (int child = 1; child < size; at = child, child = 2 * at + 1) {
        if (child + 1 < size && heap[child + 1] > heap[child]) ++child;
        if (heap[child] <= value) break;
        heap[at] = heap[child];
    }
    heap[at] = value;
}

// One row on its way. With U the columns that left, each as it was then and over the root of its pivot, what became of P is
// P - U^T U. U lies in bands of T columns, one step below the other, as products read it. Columns have slots, and once a quarter of
// those is empty, the others move up.
class Walk {
  public:
    static int64_t floats(int64_t columns, int64_t most) {
        const int64_t width = whole(columns, T);
        return 7 * width + (width + 2 * kPlaces + kBurst) * (most + kBurst);
    }

    Walk(const Given& given, int64_t most, float* room) : given_(given), depth_(most + kBurst) {
        const int64_t width = whole(given.columns, T);
        weight_ = room;
        diagonal_ = weight_ + width;
        closed_ = diagonal_ + width;
        others_ = closed_ + width;
        worth_ = others_ + width;
        column_ = reinterpret_cast<int32_t*>(worth_ + width);
        gone_ = reinterpret_cast<uint8_t*>(worth_ + 2 * width);
        taken_ = worth_ + 3 * width;
        left_ = taken_ + width * depth_;
        right_ = left_ + kPlaces * depth_;
        chosen_ = right_ + kPlaces * depth_;
    }

    // `steps` removals from `weight`, which becomes what is left; the quota, order and loss are this row's own.
    void run(float* weight, int64_t steps, int64_t* quota, int64_t* order, float* loss) {
        const int64_t n = given_.columns;
        quota_ = quota;
        done_ = empty_ = 0;
        for (int64_t c = 0; c < n; ++c) {
            weight_[c] = weight[c];
            diagonal_[c] = given_.inverse[c * n + c];
            closed_[c] = quota && quota[c / given_.window] <= 0 ? INFINITY : 0;
            column_[c] = static_cast<int32_t>(c);
            gone_[c] = 0;
        }
        fill_up(n);
        while (done_ < steps && find_places() > 0) {
            look_ahead(steps - done_);
            make_columns();
            for (int b = 0; b < holds_; ++b) {
                order[done_ + b] = column_[places_[at_[b]]];
                loss[done_ + b] = price_[b];
            }
            settle();
            if (4 * empty_ > slots_) move_up();
        }
        for (int64_t c = 0; c < slots_; ++c) weight[column_[c]] = weight_[c];
        for (int64_t k = 0; k < done_; ++k) weight[order[k]] = 0;
    }

  private:
    int64_t family_of(int64_t slot) const { return column_[slot] / given_.window; }

    // So many slots, and what fills the last band up.
    void fill_up(int64_t slots) {
        slots_ = slots, width_ = whole(slots, T);
        for (int64_t c = slots; c < width_; ++c) weight_[c] = 0, diagonal_[c] = 1, closed_[c] = INFINITY, column_[c] = 0;
    }

    void move_up() {
        int64_t to = 0;
        for (int64_t c = 0; c < slots_; ++c) {
            if (gone_[c]) continue;
            weight_[to] = weight_[c], diagonal_[to] = diagonal_[c], closed_[to] = closed_[c], column_[to] = column_[c], gone_[to] = 0;
            const float* old = taken_ + c / T * T * depth_ + c % T;
            float* now = taken_ + to / T * T * depth_ + to % T;
            for (int64_t i = 0; to < c && i < done_; ++i) now[i * T] = old[i * T];
            ++to;
        }
        empty_ = 0;
        fill_up(to);
    }

    // The cheapest slots, in ascending order.
    int find_places() {
        float heap[kPlaces];
        for (float& each : heap) each = INFINITY;
        const F floor = set1(given_.floor);
        for (int64_t c = 0; c < width_; c += W) {
            const F w = load(weight_ + c), price = add(div(mul(w, w), max(load(diagonal_ + c), floor)), load(closed_ + c));
            store(worth_ + c, price);
            if (above(set1(heap[0]), price))
                for (int64_t k = c; k < c + W; ++k)
                    if (worth_[k] < heap[0]) replace_top(heap, kPlaces, worth_[k]);
        }
        edge_ = heap[0];
        int ties = 0;  // that still fit in
        for (float each : heap) ties += each == edge_;
        count_ = 0;
        for (int64_t c = 0; c < slots_ && count_ < kPlaces; ++c)
            if (worth_[c] < edge_ || (worth_[c] == edge_ && edge_ < INFINITY && ties-- > 0)) places_[count_++] = c;
        memcpy(others_, closed_, sizeof(float) * static_cast<size_t>(width_));
        for (int k = 0; k < count_; ++k) others_[places_[k]] = INFINITY;
        return count_;
    }

    // U at the places, and P there as it is now.
    void gather() {
        for (int k = 0; k < kPlaces; ++k) {
            const int64_t c = k < count_ ? places_[k] : 0;
            const float *from = taken_ + c / T * T * depth_ + c % T, *row = given_.inverse + column_[c] * given_.columns;
            float *left = left_ + k / R * R * depth_ + k % R, *right = right_ + k / T * T * depth_ + k % T;
            for (int64_t i = 0; i < done_; ++i) {
                const float u = from[i * T];
                left[i * R] = -u;
                right[i * T] = u;
            }
            for (int j = 0; j < kPlaces; ++j)
                matrix_[k * kPlaces + j] = k < count_ && j < count_ ? row[column_[places_[j]]] : 0;
        }
        for (int k = 0; k < count_; k += R)
            for (int j = 0; j < count_; j += T)
                add_product(left_ + k * depth_, right_ + j * depth_, done_, matrix_ + k * kPlaces + j, kPlaces);
    }

    // Steps among the places alone, up to `most`.
    void look_ahead(int64_t most) {
        gather();
        float weight[kPlaces], diagonal[kPlaces], closed[kPlaces];
        for (int k = 0; k < kPlaces; ++k) {
            weight[k] = k < count_ ? weight_[places_[k]] : 0;
            diagonal[k] = k < count_ ? matrix_[k * kPlaces + k] : 1;
            closed[k] = k < count_ ? 0 : INFINITY;
        }
        for (ahead_ = 0; ahead_ < kBurst && ahead_ < most; ++ahead_) {
            int at = 0;
            float price = INFINITY;
            for (int k = 0; k < count_; ++k) {
                const float pivot = diagonal[k] > given_.floor ? diagonal[k] : given_.floor;
                const float mine = weight[k] * weight[k] / pivot + closed[k];
                if (mine < price) price = mine, at = k;
            }
            if (!(price < INFINITY) || (ahead_ && price > edge_)) break;  // beyond the edge, others are as cheap
            const float root = sqrtf(diagonal[at] > given_.floor ? diagonal[at] : given_.floor);
            const float share = weight[at] / root, scale = 1 / root;
            float* unit = unit_ + ahead_ * kPlaces;
            for (int k = 0; k < kPlaces; ++k) {
                unit[k] = matrix_[at * kPlaces + k] * scale;
                weight[k] -= share * unit[k];
                diagonal[k] -= unit[k] * unit[k];
            }
            for (int k = 0; k < count_; ++k) {
                const float f = unit[k];
                float* row = matrix_ + k * kPlaces;
                for (int j = 0; j < kPlaces; ++j) row[j] -= f * unit[j];
            }
            at_[ahead_] = at, price_[ahead_] = price, share_[ahead_] = share, scale_[ahead_] = scale;
            closed[at] = INFINITY;
            if (quota_) close_family(at, closed);
        }
    }

    // Where a burst has used up what may leave of a window, its other places are closed.
    void close_family(int at, float* closed) {
        const int64_t family = family_of(places_[at]);
        int64_t left = quota_[family];
        for (int b = 0; b <= ahead_; ++b) left -= family_of(places_[at_[b]]) == family;
        for (int k = 0; left <= 0 && k < count_; ++k)
            if (family_of(places_[k]) == family) closed[k] = INFINITY;
    }

    // The new rows of U at all columns, and how many of them hold: those before any other column was cheaper.
    void make_columns() {
        for (int b = 0; b < kBurst; ++b) {
            const float* from = b < ahead_ ? left_ + at_[b] / R * R * depth_ + at_[b] % R : nullptr;
            float* to = chosen_ + b / R * R * depth_ + b % R;
            for (int64_t i = 0; i < done_; ++i) to[i * R] = from ? from[i * R] : 0;
        }
        holds_ = ahead_;
        for (int64_t c = 0; c < width_; c += T) {
            float *band = taken_ + c * depth_, *units = band + done_ * T;
            for (int b = 0; b < whole(holds_, R); ++b) {
                const float* row = given_.inverse + column_[places_[at_[b < holds_ ? b : 0]]] * given_.columns;
                for (int k = 0; k < T; ++k) units[b * T + k] = row[column_[c + k]];
            }
            for (int b = 0; b < holds_; b += R) add_product(chosen_ + b * depth_, band, done_, units + b * T, T);
            for (int b = 0; b < holds_; ++b) make_orthogonal(units, b);
            check(units, c);
        }
    }

    void make_orthogonal(float* units, int b) const {
        F x[V];
        for (int v = 0; v < V; ++v) x[v] = load(units + b * T + v * W);
        for (int i = 0; i < b; ++i) {
            const F f = set1(-unit_[i * kPlaces + at_[b]]);
            for (int v = 0; v < V; ++v) x[v] = fma(f, load(units + i * T + v * W), x[v]);
        }
        const F scale = set1(scale_[b]);
        for (int v = 0; v < V; ++v) store(units + b * T + v * W, mul(scale, x[v]));
    }

    void check(const float* units, int64_t c) {
        const F floor = set1(given_.floor);
        for (int v = 0; v < V; ++v) {
            F w = load(weight_ + c + v * W), d = load(diagonal_ + c + v * W);
            const F other = load(others_ + c + v * W);
            for (int b = 1; b < holds_; ++b) {
                const F u = load(units + (b - 1) * T + v * W);
                w = sub(w, mul(set1(share_[b - 1]), u));
                d = sub(d, mul(u, u));
                if (above(mul(set1(price_[b]), max(d, floor)), add(mul(w, w), other))) holds_ = b;
            }
        }
    }

    void settle() {
        for (int64_t c = 0; c < width_; c += T) {
            const float* units = taken_ + c * depth_ + done_ * T;
            for (int v = 0; v < V; ++v) {
                F w = load(weight_ + c + v * W), d = load(diagonal_ + c + v * W);
                for (int b = 0; b < holds_; ++b) {
                    const F u = load(units + b * T + v * W);
                    w = sub(w, mul(set1(share_[b]), u));
                    d = sub(d, mul(u, u));
                }
                store(weight_ + c + v * W, w);
                store(diagonal_ + c + v * W, d);
            }
        }
        for (int b = 0; b < holds_; ++b) {
            const int64_t c = places_[at_[b]], family = family_of(c);
            closed_[c] = INFINITY;
            gone_[c] = 1;
            if (!quota_ || --quota_[family] > 0) continue;
            for (int64_t k = c; k >= 0 && family_of(k) == family; --k) closed_[k] = INFINITY;
            for (int64_t k = c; k < slots_ && family_of(k) == family; ++k) closed_[k] = INFINITY;
        }
        done_ += holds_;
        empty_ += holds_;
    }

    const Given& given_;
    const int64_t depth_;
    int64_t slots_ = 0, width_ = 0, empty_ = 0;  // in use; with what fills the last band up; of them empty
    float *weight_, *diagonal_, *closed_, *others_, *worth_;  // a number a slot; closed and others 0, or inf where none may leave
    int32_t* column_;
    uint8_t* gone_;
    float* taken_;                    // U
    float *left_, *right_, *chosen_;  // U at the places: negative by R, by T; those of the burst by R
    int64_t* quota_ = nullptr;
    int64_t done_ = 0, places_[kPlaces];
    int count_ = 0, ahead_ = 0, holds_ = 0, at_[kBurst];
    float edge_ = 0, price_[kBurst], share_[kBurst], scale_[kBurst];
    float matrix_[kPlaces * kPlaces], unit_[kBurst * kPlaces];
};

}  // namespace

// weight (rows, columns) becomes what is left after `steps` (rows) removals, `most` at most; quota (rows, columns / window), or null,
// falls by what left each window; order and loss (rows, most) are left alone where a row has ended. -1 where there is no memory.
POMONA_KERNEL(walk)
(const float* inverse, float* weight, const int64_t* steps, int64_t* quota, int64_t rows, int64_t columns, int64_t window, int64_t most,
 float floor, int64_t* order, float* loss, int threads) {
    const Given given{inverse, columns, window, floor};
    const int64_t each = whole(Walk::floats(columns, most), 16), lanes = threads < rows ? threads : rows;
    Workspace room(each * lanes);
    if (!room.floats()) return -1;
    parallel(lanes, 1, threads, [&](int64_t begin, int64_t end) {
        for (int64_t lane = begin; lane < end; ++lane) {
            Walk walk(given, most, room.floats() + each * lane);
            for (int64_t row = lane; row < rows; row += lanes)
                walk.run(weight + row * columns, steps[row], quota ? quota + row * (columns / window) : nullptr, order + row * most,
                         loss + row * most);
        }
    });
    return 0;
}

}  // namespace pomona::POMONA_ISA
