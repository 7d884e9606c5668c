// A packed linear layer, and rows of it against up to eight x: what every kernel with linear layers in it is made of.
//
//   Activation ready[8];
//   for (...) ready[b] = prepare(form_of(w), x + b * w.columns, w.columns, room + b * room_of(w.columns));
//   parallel(cost_of(w), kPart, threads, [&](int64_t begin, int64_t end) {
//       linear_rows(w, row_at(w, begin), row_at(w, end), ready, batch, y, w.rows);
//   });
#pragma once
#include "bitmask.h"
#include "csr16.h"

namespace pomona::POMONA_ISA {
namespace {

constexpr int64_t kPart = 1 << 15;  // bytes: what is worth handing to another thread
constexpr int kBatch = 8;           // how many of x at once

// The form in which a layer wants x; layers of one form can share it.
inline Form form_of(const Linear& w) {
    if (w.layout == Layout::csr16) return w.kind == Kind::i8 ? Form::integers : Form::floats;
    return w.kind == Kind::i8 ? Form::bytes : w.kind == Kind::bf16 ? Form::pairs : Form::floats;
}

inline int64_t bytes_of(Kind kind) { return kind == Kind::f32 ? 4 : kind == Kind::bf16 ? 2 : 1; }

// About how many bytes are read of the rows before `row`: what threads share out, so that full rows do not wait for each other.
inline int64_t cost_before(const Linear& w, int64_t row) {
    const int64_t bytes = bytes_of(w.kind);
    if (w.layout == Layout::dense) return row * (bytes * w.columns + 16);
    if (w.layout == Layout::csr16) return row * 16 + (bytes + 2) * static_cast<int64_t>(w.starts[row]);
    return row * (w.row_bytes + 16) + bytes * static_cast<int64_t>(w.starts[row]);
}
inline int64_t cost_of(const Linear& w) { return cost_before(w, w.rows); }

// The first row that begins at or behind this cost.
inline int64_t row_at(const Linear& w, int64_t cost) {
    int64_t low = 0, high = w.rows;
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (cost_before(w, middle) < cost)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

template <class K, int B>
inline void rows_of(const Linear& w, int64_t begin, int64_t end, const Activation* x, float* y, int64_t stride) {
    if (w.layout == Layout::csr16)
        csr16_rows<K, B>(w, begin, end, x, y, stride);
    else if (w.layout == Layout::dense)
        word_rows<All, K, B>(w, begin, end, x, y, stride);
    else
        word_rows<Bits, K, B>(w, begin, end, x, y, stride);
}

template <int B>
inline void rows_of(const Linear& w, int64_t begin, int64_t end, const Activation* x, float* y, int64_t stride) {
    if (w.kind == Kind::f32)
        rows_of<F32, B>(w, begin, end, x, y, stride);
    else if (w.kind == Kind::bf16)
        rows_of<BF16, B>(w, begin, end, x, y, stride);
    else
        rows_of<I8, B>(w, begin, end, x, y, stride);
}

// y[b * stride + row] for the rows [begin, end) and b of [0, batch), batch up to kBatch, of x in the form that w wants.
inline void linear_rows(const Linear& w, int64_t begin, int64_t end, const Activation* x, int batch, float* y, int64_t stride) {
    while (batch > 0) {
        // Eight, four, two, one: each is code of its own, and a batch of seven is three of them.
        const int now = batch >= 8 ? 8 : batch >= 4 ? 4 : batch >= 2 ? 2 : 1;
        if (now == 8)
            rows_of<8>(w, begin, end, x, y, stride);
        else if (now == 4)
            rows_of<4>(w, begin, end, x, y, stride);
        else if (now == 2)
            rows_of<2>(w, begin, end, x, y, stride);
        else
            rows_of<1>(w, begin, end, x, y, stride);
        x += now, y += now * stride, batch -= now;
    }
}

}  // namespace
}  // namespace pomona::POMONA_ISA
