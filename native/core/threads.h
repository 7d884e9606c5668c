// Loops over threads: on the team that the process has already, where Python names one (`pomona_use_team`), since two that wait busily
// for work take the cores from each other; else, and after fork, where OpenMP would hang, on a pool of our own.
#pragma once
#include <cstdint>

namespace pomona {

using Task = void (*)(void* context, int64_t begin, int64_t end);

// Call `task` on parts of [0, count) that cover it once, on up to `threads` threads, this one among them; back when all are done.
// Parts are multiples of `grain`, but the last. Never throws; a thread that cannot be started leaves its share to the others.
void parallel_for(int64_t count, int64_t grain, int threads, Task task, void* context);

// The same for anything callable as f(begin, end).
template <class Body>
inline void parallel(int64_t count, int64_t grain, int threads, Body&& body) {
    parallel_for(
        count, grain, threads, [](void* context, int64_t begin, int64_t end) { (*static_cast<Body*>(context))(begin, end); }, &body);
}

}  // namespace pomona
