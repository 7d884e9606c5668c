// Loops over threads. The pool is ours: torch's OpenMP pool and a second one would fight for the same cores, and OpenMP hangs after fork.
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
