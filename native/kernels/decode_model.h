// A Llama-like model as it lies in memory: weights that somebody else owns, cache and scratch of its own.
#pragma once
#include <cstdlib>

#include "decode_attention.h"
#include "linear.h"

namespace pomona::POMONA_ISA {
namespace {

enum LinearName { kQuery, kKey, kValue, kOut, kGate, kUp, kDown, kLinears };
enum NormName { kBeforeAttention, kBeforeNeurons, kOfQuery, kOfKey, kNorms };

struct Layer {
    int64_t query_heads, key_heads, key_width, value_width, neurons;
    float scaling;
    Linear linears[kLinears];
    Norm norms[kNorms];
    float *keys, *values;  // (key_heads, tiles, key_width, W) and (key_heads, context, value_width)
};

constexpr int kPrompt = 120;  // tokens at once of a long prompt: a multiple of what meets a panel at once

// What the stages of a step hand on, for kPrompt tokens; stages take turns, so each array is as long as its longest use.
struct Scratch {
    float *stream, *normed, *query, *key, *value, *heads, *gate, *up, *scores;
    float* room;   // the input of a stage, of up to kBatch tokens, in the forms that its layers want: kForms times 2 kBatch times `stride` floats
    float* rest;   // what bytes leave of an input
    float* twice;  // the outputs of a stage's layers for both, (2 kBatch, rows) each
    int64_t stride;
};
constexpr int kForms = 3;  // no more than there are layers that share an input

struct Model {
    int64_t n_layers, hidden, vocabulary, context, pairs;  // pairs: of entries that rotary turns, in every head
    const void* embedding;                                 // (vocabulary, hidden)
    int embedding_is_bf16;
    const float *cosines, *sines;  // (context, pairs)
    Layer* layers;
    Norm last_norm;
    Linear head;
    int64_t length;  // positions in the cache
    Scratch scratch;
    void* memory;
};

inline bool is(const Linear& linear, int64_t rows, int64_t columns) {
    return linear.values != nullptr && linear.rows == rows && linear.columns == columns;
}

inline bool fits(const Model& model, const Layer& layer) {
    const int64_t q = layer.query_heads, k = layer.key_heads, width = layer.key_width, value = layer.value_width;
    const Linear* linears = layer.linears;
    const bool heads = q > 0 && k > 0 && q % k == 0 && width >= 2 * model.pairs && value > 0 && layer.neurons > 0;
    const bool norms = layer.norms[kBeforeAttention].weight && layer.norms[kBeforeNeurons].weight;
    return heads && norms && is(linears[kQuery], q * width, model.hidden) && is(linears[kKey], k * width, model.hidden) &&
           is(linears[kValue], k * value, model.hidden) && is(linears[kOut], model.hidden, q * value) &&
           is(linears[kGate], layer.neurons, model.hidden) && is(linears[kUp], layer.neurons, model.hidden) &&
           is(linears[kDown], model.hidden, layer.neurons);
}

inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Hands out parts of one allocation, each on its own cache lines. With no memory yet it only counts.
struct Arena {
    char* memory = nullptr;
    int64_t used = 0;

    float* floats(int64_t n) {
        char* found = memory ? memory + used : nullptr;
        used += (n * static_cast<int64_t>(sizeof(float)) + 127) / 64 * 64;  // 64 bytes behind each: whole registers may be read
        return reinterpret_cast<float*>(found);
    }
};

inline void lay_out(Model& model, Arena& arena) {
    int64_t query = 0, key = 0, value = 0, heads = 0, neurons = 0, scores = 0;  // the widest of all layers
    for (int64_t i = 0; i < model.n_layers; ++i) {
        Layer& layer = model.layers[i];
        layer.keys = arena.floats(layer.key_heads * tiles(model.context) * W * layer.key_width);
        layer.values = arena.floats(layer.key_heads * model.context * layer.value_width);
        query = larger(query, layer.query_heads * layer.key_width);
        key = larger(key, layer.key_heads * layer.key_width);
        value = larger(value, layer.key_heads * layer.value_width);
        heads = larger(heads, layer.query_heads * layer.value_width);
        neurons = larger(neurons, layer.neurons);
        scores = larger(scores, layer.query_heads * tiles(model.context) * W);
    }
    Scratch& scratch = model.scratch;
    scratch.stride = room_of(larger(model.hidden, larger(heads, neurons)));
    scratch.stream = arena.floats(kPrompt * model.hidden);
    scratch.normed = arena.floats(kPrompt * model.hidden);
    scratch.query = arena.floats(kPrompt * query);
    scratch.key = arena.floats(kPrompt * key);
    scratch.value = arena.floats(kPrompt * value);
    scratch.heads = arena.floats(kPrompt * heads);
    scratch.gate = arena.floats(kPrompt * neurons);
    scratch.up = arena.floats(kPrompt * neurons);
    scratch.scores = arena.floats(scores);
    scratch.room = arena.floats(kForms * 2 * kBatch * scratch.stride);
    scratch.rest = arena.floats(scratch.stride);
    const int64_t rows = larger(larger(query + key + value, 2 * neurons), larger(model.hidden, model.vocabulary));
    scratch.twice = arena.floats(2 * kBatch * rows);
}

}  // namespace
}  // namespace pomona::POMONA_ISA
