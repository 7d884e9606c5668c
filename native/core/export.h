// What the library shows to the outside: plain C functions, everything else is hidden.
#pragma once
#include <cstdint>

#define POMONA_PASTE_(a, b, c) pomona_##a##_##b##c
#define POMONA_PASTE(a, b, c) POMONA_PASTE_(a, b, c)

#define POMONA_EXPORT extern "C" __attribute__((visibility("default")))
// Of a kernel, compiled once for each instruction set: pomona_avx512_<name>.
#define POMONA_KERNEL(name) POMONA_EXPORT int POMONA_PASTE(POMONA_ISA, name, )
