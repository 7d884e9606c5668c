// What this processor can do, of what the library was compiled for.
#include "export.h"

// 1 where `isa` can run here, 0 where not or where it is unknown.
POMONA_EXPORT int pomona_supports(const char* isa) {
    const auto is = [isa](const char* name) {
        const char* a = isa;
        while (*a && *a == *name) ++a, ++name;
        return *a == *name;
    };
    if (is("portable")) return 1;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
    if (is("avx2")) return avx2;
    // The level of Ice Lake and Zen 4: expansion of bytes and words, VNNI.
    if (is("avx512"))
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2") &&
               __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__)
    if (is("neon")) return 1;
#endif
    return 0;
}

// Changes when a kernel's arguments do: a library that an old build left behind is not called.
POMONA_EXPORT int pomona_version() { return 3; }
