// A team that is lent, or a pool of threads that sleep between loops. A child of fork has no threads but its own: it starts a pool.
#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "export.h"

namespace pomona {
namespace {

constexpr int kMost = 256;
constexpr int kSpins = 4000;  // some 50 microseconds: as long as a layer's other work, shorter than waking up is dear

inline void pause() {
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

struct Loop {
    Task task;
    void* context;
    int64_t count, part;
    std::atomic<int64_t> next{0};

    void run() {
        for (;;) {
            const int64_t begin = next.fetch_add(part, std::memory_order_relaxed);
            if (begin >= count) return;
            task(context, begin, begin + part < count ? begin + part : count);
        }
    }
};

class Pool {
  public:
    // One loop at a time; a second caller, or a loop within a loop, runs alone.
    bool try_run(Loop& loop, int helpers) {
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) return false;
        grow(helpers);
        helpers = helpers < static_cast<int>(started_) ? helpers : static_cast<int>(started_);
        if (helpers == 0) return false;
        loop_ = &loop;
        busy_.store(helpers, std::memory_order_relaxed);
        invited_.store(helpers, std::memory_order_release);  // from here on a thread may come and read loop_
        {
            std::lock_guard<std::mutex> guard(sleep_);
            round_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        loop.run();
        // No invitation is left open: a helper that has not come yet need not come any more.
        const int late = invited_.exchange(0, std::memory_order_acq_rel);
        if (late > 0) busy_.fetch_sub(late, std::memory_order_acq_rel);
        while (busy_.load(std::memory_order_acquire) > 0) pause();
        loop_ = nullptr;
        return true;
    }

  private:
    void grow(int wanted) {
        while (static_cast<int>(started_) < wanted) {
            try {
                std::thread(&Pool::serve, this).detach();
            } catch (const std::system_error&) {
                return;  // the machine gives no more: fewer threads do the same work
            }
            ++started_;
        }
    }

    void serve() {
        uint64_t seen = 0;
        for (;;) {
            uint64_t now = seen;
            for (int spin = 0; spin < kSpins && now == seen; ++spin) {
                pause();
                now = round_.load(std::memory_order_acquire);
            }
            if (now == seen) {
                std::unique_lock<std::mutex> guard(sleep_);
                wake_.wait(guard, [&] { return round_.load(std::memory_order_acquire) != seen; });
                now = round_.load(std::memory_order_acquire);
            }
            seen = now;
            int open = invited_.load(std::memory_order_acquire);
            while (open > 0 && !invited_.compare_exchange_weak(open, open - 1, std::memory_order_acq_rel)) {
            }
            if (open <= 0) continue;
            loop_->run();
            busy_.fetch_sub(1, std::memory_order_acq_rel);
        }
    }

    std::mutex turn_, sleep_;
    std::condition_variable wake_;
    std::atomic<uint64_t> round_{0};
    std::atomic<int> invited_{0}, busy_{0};
    Loop* loop_ = nullptr;
    size_t started_ = 0;
};

std::atomic<Pool*> the_pool{nullptr};

// GOMP_parallel of the OpenMP that torch runs on: calls `work` with `data` on so many threads, this one among them.
using Team = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);
std::atomic<Team> the_team{nullptr};

// A child of fork has neither.
void mind_forks() {
#if defined(__unix__) || defined(__APPLE__)
    static std::once_flag once;
    std::call_once(once, [] {
        pthread_atfork(nullptr, nullptr, [] {
            the_pool.store(nullptr, std::memory_order_release);
            the_team.store(nullptr, std::memory_order_release);
        });
    });
#endif
}

// Never destroyed: its threads may outlive the statics of the library.
Pool& pool() {
    Pool* found = the_pool.load(std::memory_order_acquire);
    if (found == nullptr) {
        Pool* fresh = new Pool;
        if (the_pool.compare_exchange_strong(found, fresh, std::memory_order_acq_rel)) {
            found = fresh;
            mind_forks();
        } else {
            delete fresh;
        }
    }
    return *found;
}

}  // namespace

void parallel_for(int64_t count, int64_t grain, int threads, Task task, void* context) {
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    if (threads > kMost) threads = kMost;
    const int64_t grains = (count + grain - 1) / grain;
    if (threads > grains) threads = static_cast<int>(grains);
    if (threads <= 1) {
        task(context, 0, count);
        return;
    }
    // Four parts a thread: what one does slowly, another makes up for.
    Loop loop;
    loop.task = task;
    loop.context = context;
    loop.count = count;
    const int64_t parts = grains < 4 * threads ? grains : 4 * threads;
    loop.part = (grains + parts - 1) / parts * grain;
    if (const Team team = the_team.load(std::memory_order_acquire))
        team([](void* data) { static_cast<Loop*>(data)->run(); }, &loop, static_cast<unsigned>(threads), 0);
    else if (!pool().try_run(loop, threads - 1))
        task(context, 0, count);
}

}  // namespace pomona

// From now on loops run on this team, the address of GOMP_parallel; NULL: on the pool.
POMONA_EXPORT int pomona_use_team(void* team) {
    pomona::mind_forks();
    pomona::the_team.store(reinterpret_cast<pomona::Team>(team), std::memory_order_release);
    return 0;
}

// For the tests: adds 1 to each of `count` numbers, through the pool.
POMONA_EXPORT int pomona_count_up(int32_t* numbers, int64_t count, int64_t grain, int threads) {
    pomona::parallel(count, grain, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++numbers[i];
    });
    return 0;
}
