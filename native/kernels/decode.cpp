// Decoding with a Llama-like model: open, describe it part by part, feed tokens, close. One handle at a time belongs to one caller.
#include "decode_step.h"

namespace pomona::POMONA_ISA {
namespace {

enum Refusal { kNoMemory = -1, kDoesNotFit = -2, kNoRoom = -3, kUnknownToken = -4, kNotFinite = -5 };

Layer* layer_of(Model* model, int64_t index) { return index >= 0 && index < model->n_layers ? model->layers + index : nullptr; }

}  // namespace

// embedding (vocabulary, hidden) float32 or bfloat16; cosines, sines (context, pairs). All pointers here and below stay the caller's, and valid
// until the handle is closed.
POMONA_KERNEL(decode_open)
(int64_t n_layers, int64_t hidden, int64_t vocabulary, int64_t context, int64_t pairs, const void* embedding, int embedding_is_bf16,
 const float* cosines, const float* sines, void** handle) {
    if (n_layers < 1 || hidden < 1 || vocabulary < 1 || context < 1 || pairs < 0) return kDoesNotFit;
    Model* model = static_cast<Model*>(calloc(1, sizeof(Model)));
    Layer* layers = static_cast<Layer*>(calloc(static_cast<size_t>(n_layers), sizeof(Layer)));
    if (model == nullptr || layers == nullptr) {
        free(model);
        free(layers);
        return kNoMemory;
    }
    model->n_layers = n_layers, model->hidden = hidden, model->vocabulary = vocabulary, model->context = context, model->pairs = pairs;
    model->embedding = embedding, model->embedding_is_bf16 = embedding_is_bf16, model->cosines = cosines, model->sines = sines;
    model->layers = layers;
    *handle = model;
    return 0;
}

POMONA_KERNEL(decode_close)(void* handle) {
    Model* model = static_cast<Model*>(handle);
    free(model->memory);
    free(model->layers);
    free(model);
    return 0;
}

// Heads and widths of a layer.
POMONA_KERNEL(decode_layer)
(void* handle, int64_t index, int64_t query_heads, int64_t key_heads, int64_t key_width, int64_t value_width, int64_t neurons,
 double scaling) {
    Layer* layer = layer_of(static_cast<Model*>(handle), index);
    if (layer == nullptr) return kDoesNotFit;
    layer->query_heads = query_heads, layer->key_heads = key_heads, layer->key_width = key_width, layer->value_width = value_width;
    layer->neurons = neurons, layer->scaling = static_cast<float>(scaling);
    return 0;
}

// The norm `which` (NormName) of a layer, with as many weights as it has inputs; the last one for index -1.
POMONA_KERNEL(decode_norm)(void* handle, int64_t index, int64_t which, const float* weight, double epsilon) {
    Model* model = static_cast<Model*>(handle);
    Layer* layer = layer_of(model, index);
    if (index != -1 && (layer == nullptr || which < 0 || which >= kNorms)) return kDoesNotFit;
    (index == -1 ? model->last_norm : layer->norms[which]) = {weight, static_cast<float>(epsilon)};
    return 0;
}

// The weight `which` (LinearName) of a layer, as `linear.h` has it; the head for index -1.
POMONA_KERNEL(decode_linear)(void* handle, int64_t index, int64_t which, const Linear* linear) {
    Model* model = static_cast<Model*>(handle);
    Layer* layer = layer_of(model, index);
    if (index != -1 && (layer == nullptr || which < 0 || which >= kLinears)) return kDoesNotFit;
    (index == -1 ? model->head : layer->linears[which]) = *linear;
    return 0;
}

// Everything was said: memory for cache and steps, or a refusal where sizes do not go together.
POMONA_KERNEL(decode_ready)(void* handle) {
    Model* model = static_cast<Model*>(handle);
    for (int64_t i = 0; i < model->n_layers; ++i)
        if (!fits(*model, model->layers[i])) return kDoesNotFit;
    if (!model->last_norm.weight || !is(model->head, model->vocabulary, model->hidden) || model->memory) return kDoesNotFit;
    Arena arena;
    lay_out(*model, arena);
    // Zeros that the system gives page by page: a long context costs nothing before it is used.
    model->memory = calloc(static_cast<size_t>(arena.used + 64), 1);
    if (model->memory == nullptr) return kNoMemory;
    char* memory = static_cast<char*>(model->memory);
    arena = {memory + (64 - reinterpret_cast<uintptr_t>(memory) % 64) % 64, 0};
    lay_out(*model, arena);
    return 0;
}

// Back to the first `length` positions.
POMONA_KERNEL(decode_rewind)(void* handle, int64_t length) {
    Model* model = static_cast<Model*>(handle);
    if (length < 0 || length > model->length) return kDoesNotFit;
    model->length = length;
    return 0;
}

// `count` tokens, one after the other. logits (count, vocabulary) where `every`, else (vocabulary) of the last one; null for none.
// Nothing happens where they do not fit or one is unknown; where numbers stop being finite, the ones before it are in the cache.
POMONA_KERNEL(decode_feed)(void* handle, const int64_t* tokens, int64_t count, int every, float* logits, int threads) {
    Model* model = static_cast<Model*>(handle);
    if (model->memory == nullptr) return kDoesNotFit;
    if (count < 0 || count > model->context - model->length) return kNoRoom;
    for (int64_t i = 0; i < count; ++i)
        if (tokens[i] < 0 || tokens[i] >= model->vocabulary) return kUnknownToken;
    for (int64_t done = 0, now; done < count; done += now) {
        const int64_t left = count - done, most = left < kMany ? kBatch : kPrompt;
        now = left < most ? left : most;
        float* wanted = logits == nullptr ? nullptr : every ? logits + done * model->vocabulary : done + now == count ? logits : nullptr;
        if (!Step{*model, static_cast<int>(now), threads}.run(tokens + done, wanted, every != 0)) return kNotFinite;
    }
    return 0;
}

// For the tests: e^x of `count` numbers in place.
POMONA_KERNEL(decode_exp)(float* x, int64_t count) {
    each_register(count, [&](int64_t k, int lanes) { store_up_to(x + k, exp(load_up_to(x + k, lanes)), lanes); });
    return 0;
}

}  // namespace pomona::POMONA_ISA
