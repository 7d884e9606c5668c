// y = x W^T + bias of a packed layer.
#include "panel.h"

#include "../core/threads.h"
#include "finite.h"
#include "workspace.h"

namespace pomona::POMONA_ISA {

// From `kMany` rows on all x meet the weights at once; those of int8 do not, since bytes meet bytes faster than floats meet floats.
//
// x (batch, columns), bias (rows) or null, y (batch, rows); the layer's own bias is not looked at. -1: no memory, -3: no x,
// -4: x is not finite.
POMONA_KERNEL(linear)(const Linear* layer, const float* x, int64_t batch, const float* bias, float* y, int threads) {
    Linear w = *layer;
    w.bias = bias;
    if (!x && batch > 0 && w.columns > 0) return -3;
    if (w.layout == Layout::csr16 && w.kind != Kind::i8 && !finite(x, batch * w.columns)) return kNotFinite;
    if (batch >= kMany && w.kind != Kind::i8) {
        parallel(panels_of(w), 1, threads, [&](int64_t begin, int64_t end) {
            many_rows(w, row_of(w, begin), row_of(w, end), x, batch, y, w.rows);
        });
        return 0;
    }
    const int64_t stride = room_of(w.columns);
    Workspace room(stride * (batch < kBatch ? batch : kBatch));
    if (!room.floats()) return -1;
    for (int64_t done = 0; done < batch; done += kBatch) {
        const int now = batch - done < kBatch ? static_cast<int>(batch - done) : kBatch;
        Activation ready[kBatch];
        for (int b = 0; b < now; ++b) ready[b] = prepare(form_of(w), x + (done + b) * w.columns, w.columns, room.floats() + b * stride);
        parallel(cost_of(w), kPart, threads, [&](int64_t begin, int64_t end) {
            linear_rows(w, row_at(w, begin), row_at(w, end), ready, now, y + done * w.rows, w.rows);
        });
    }
    return 0;
}

}  // namespace pomona::POMONA_ISA
