// Words of the instruction set that is compiled for, on random numbers, beside the portable ones and plain C: prints what differs.
#include "../../native/simd/simd.h"
#include "../../native/simd/portable.h"

#include <cstdio>
#include <random>

namespace ours = pomona::POMONA_ISA;
namespace theirs = pomona::portable;

namespace {

constexpr int W = ours::W;
std::mt19937 chance(1);
long compared = 0, wrong = 0;

void same(const char* word, const void* a, const void* b, size_t bytes) {
    ++compared;
    if (memcmp(a, b, bytes) == 0) return;
    ++wrong;
    printf("%s differs\n", word);
}
uint32_t bits_up_to(int n) { return n == 32 ? chance() : chance() & ((1u << n) - 1); }

// W lanes of ours beside as many of theirs, which come eight at a time.
template <class Ours, class Theirs>
void lanes(const char* word, Ours mine, Theirs parts) {
    float a[W], b[W];
    ours::store(a, mine);
    for (int part = 0; part < W; part += 8) theirs::store(b + part, parts(part));
    same(word, a, b, sizeof a);
}

void floats() {
    float x[64], y[64];
    for (int i = 0; i < 64; ++i) x[i] = static_cast<float>(static_cast<int>(chance() % 2001) - 1000) / 8, y[i] = static_cast<float>(chance() % 7);
    const uint32_t bits = bits_up_to(W);
    float expanded[W];
    for (int i = 0, next = 0; i < W; ++i) expanded[i] = bits >> i & 1 ? x[next++] : 0.0f;
    lanes("expand", ours::expand(bits, x), [&](int part) { return theirs::load(expanded + part); });
    float packed[2 * W] = {0}, wanted[W] = {0};
    int living = 0;
    for (int i = 0; i < W; ++i)
        if (bits >> i & 1) wanted[living++] = x[i];
    ours::compress(packed, bits, ours::load(x));
    same("compress to memory", packed, wanted, sizeof(float) * static_cast<size_t>(living));
    ours::store(packed, ours::compress(bits, ours::load(x)));
    same("compress", packed, wanted, sizeof(float) * static_cast<size_t>(living));
    uint32_t found = 0;
    for (int i = 0; i < W; ++i) found |= static_cast<uint32_t>(x[i] > y[i]) << i;
    const uint32_t told = ours::above(ours::load(x), ours::load(y));
    same("above", &told, &found, sizeof told);
    lanes("turn", ours::turn<1>(ours::load(x)), [&](int part) { return theirs::turn<1>(theirs::load(x + part)); });
    lanes("nearest", ours::nearest(ours::load(x)), [&](int part) { return theirs::nearest(theirs::load(x + part)); });
    const int n = static_cast<int>(chance() % (W + 1));
    float some[W] = {0};
    memcpy(some, x, sizeof(float) * static_cast<size_t>(n));
    lanes("load_some", ours::load_some(x, n), [&](int part) { return theirs::load(some + part); });
    lanes("keep", ours::keep(ours::load(x), n), [&](int part) { return theirs::load(some + part); });
    uint8_t bools[W], chosen[W];
    ours::store_bools(bools, bits);
    for (int i = 0; i < W; ++i) chosen[i] = bits >> i & 1;
    same("store_bools", bools, chosen, sizeof bools);
    lanes("where", ours::where(chosen, ours::load(x)), [&](int part) { return theirs::where(chosen + part, theirs::load(x + part)); });
    uint16_t index[W];
    for (int i = 0; i < W; ++i) index[i] = static_cast<uint16_t>(chance() % 64);
    lanes("gather", ours::gather(x, index), [&](int part) { return theirs::gather(x, index + part); });
    ours::F square[W];
    float all[W * W], turned[W * W], expected[W * W];
    for (float& v : all) v = static_cast<float>(chance() % 1000);
    for (int i = 0; i < W; ++i) square[i] = ours::load(all + i * W);
    ours::transpose(square);
    for (int i = 0; i < W; ++i) ours::store(turned + i * W, square[i]);
    for (int i = 0; i < W * W; ++i) expected[i] = all[i % W * W + i / W];
    same("transpose", turned, expected, sizeof turned);
}

template <int B>
void fields() {
    uint8_t packed[16];
    for (uint8_t& v : packed) v = static_cast<uint8_t>(chance());
    float table[16], expected[W], found[W];
    for (float& v : table) v = static_cast<float>(chance() % 1000);
    for (int i = 0; i < W; ++i) {
        const int from = i * B, two = packed[from / 8] | packed[from / 8 + 1] << 8;
        expected[i] = table[two >> from % 8 & ((1 << B) - 1)];
    }
    ours::store(found, ours::pick<B>(table, ours::fields<B>(packed)));
    same("pick of fields", found, expected, sizeof found);
}

void bytes() {
    int8_t weights[128], living[4 * W] = {0};
    float x[4 * W];
    for (int8_t& v : weights) v = static_cast<int8_t>(chance() % 3 ? static_cast<int>(chance() % 256) - 128 : -128);
    for (float& v : x) v = chance() % 3 ? static_cast<float>(static_cast<int>(chance() % 255) - 127) : 127.0f;
    const uint64_t bits = static_cast<uint64_t>(chance()) << 32 | chance();
    for (int i = 0, next = 0; i < 4 * W; ++i) living[i] = bits >> i & 1 ? weights[next++] : static_cast<int8_t>(0);
    const ours::I expanded = ours::iexpand(bits, weights);
    same("iexpand", &expanded, living, sizeof living);
    uint8_t steps[4 * W];
    for (int i = 0; i < 4 * W; i += W) ours::store_bytes(steps + i, ours::load(x + i));
    int32_t exact = 0, sum = 0;
    for (int i = 0; i < 4 * W; ++i) exact += static_cast<int32_t>(x[i]) * weights[i], sum += weights[i];
    const int32_t told = ours::isum(ours::dot(ours::izero(), ours::iload(steps), ours::iload(weights))) - ours::ZERO_POINT * sum;
    same("dot", &told, &exact, sizeof told);
    uint16_t words[64], some[2 * W] = {0};
    for (uint16_t& v : words) v = static_cast<uint16_t>(chance());
    for (int i = 0, next = 0; i < 2 * W; ++i) some[i] = bits >> i & 1 ? words[next++] : static_cast<uint16_t>(0);
    const ours::I spread = ours::wexpand(static_cast<uint32_t>(bits), words);
    same("wexpand", &spread, some, sizeof some);
}

}  // namespace

int main() {
    for (int round = 0; round < 2000; ++round) floats(), fields<1>(), fields<2>(), fields<3>(), fields<4>(), bytes();
    printf("%ld compared, %ld wrong\n", compared, wrong);
    return wrong != 0;
}
