// y = x W^T + bias of a packed layer.
#include "linear.h"

#include "../core/threads.h"

namespace pomona::POMONA_ISA {

// x (batch, columns), y (batch, rows), room: room_of(columns) floats for each of up to kBatch of x.
POMONA_KERNEL(linear)(const Linear* w, const float* x, int64_t batch, float* room, float* y, int threads) {
    for (int64_t done = 0; done < batch; done += kBatch) {
        const int now = batch - done < kBatch ? static_cast<int>(batch - done) : kBatch;
        Activation ready[kBatch];
        for (int b = 0; b < now; ++b)
            ready[b] = prepare(form_of(*w), x + (done + b) * w->columns, w->columns, room + b * room_of(w->columns));
        parallel(cost_of(*w), kPart, threads, [&](int64_t begin, int64_t end) {
            linear_rows(*w, row_at(*w, begin), row_at(*w, end), ready, now, y + done * w->rows, w->rows);
        });
    }
    return 0;
}

}  // namespace pomona::POMONA_ISA
