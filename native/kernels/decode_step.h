// Some tokens in a row through a Llama-like model: one while text is made, up to kPrompt while a prompt is read.
#pragma once
#include "../core/threads.h"
#include "decode_model.h"
#include "panel.h"

namespace pomona::POMONA_ISA {
namespace {

// What the bytes of x leave of it.
inline void rest_of(const float* x, int64_t n, float* out) {
    const float most = largest(x, n);
    const F steps = set1(steps_of(most)), step = set1(-most / 127.0f);
    each_register(n, [&](int64_t k, int lanes) {
        const F v = load_up_to(x + k, lanes);
        store_up_to(out + k, fma(step, nearest(mul(v, steps)), v), lanes);
    });
}

// How threads share a layer's rows: by the bytes that they read for few tokens, by panels for many.
struct Shares {
    int batch;

    bool many() const { return batch >= kMany; }
    int64_t of(const Linear& w) const { return many() ? panels_of(w) : cost_of(w); }
    int64_t least() const { return many() ? 1 : kPart; }
    int64_t row(const Linear& w, int64_t share) const { return many() ? row_of(w, share) : row_at(w, share); }

    template <class Body>
    void each(const Linear& w, int threads, Body&& body) const {  // body(from row, to row)
        parallel(of(w), least(), threads, [&](int64_t begin, int64_t end) { body(row(w, begin), row(w, end)); });
    }
};

// Layers that read one x, and x (batch, columns) in the form that each of them wants.
//
// For int8 weights x is two bytes an entry: the bytes of x, and those of what they leave. A few entries of a language model's stream are a
// hundred times as large as the rest, which one byte would round away. Weights are read and expanded once for both.
// From kMany tokens on x stays as it is, and the weights are made floats.
template <int N>
struct Readers {
    const Linear* linears[N];
    Activation ready[N][2 * kBatch];
    float* twice[N];
    const float* given;
    int batch;

    Readers(const Linear* const (&readers)[N], const float* x, int count, const Scratch& scratch) : given(x), batch(count) {
        static_assert(N <= kForms, "there is room for so many forms");
        for (int i = 0; i < N; ++i) {
            linears[i] = readers[i];
            if (batch >= kMany) continue;
            twice[i] = i == 0 ? scratch.twice : twice[i - 1] + 2 * batch * linears[i - 1]->rows;
            int same = 0;
            while (form_of(*linears[same]) != form_of(*linears[i])) ++same;  // ends at i
            float* room = scratch.room + i * 2 * kBatch * scratch.stride;
            for (int b = 0; b < (in_two(i) ? 2 : 1) * batch; ++b)
                ready[i][b] = same < i ? ready[same][b] : prepared(i, x, b, room + b * scratch.stride, scratch);
        }
    }

    bool in_two(int i) const { return form_of(*linears[i]) == Form::bytes; }

    Activation prepared(int i, const float* x, int b, float* room, const Scratch& scratch) const {
        const int64_t columns = linears[i]->columns;
        if (b < batch) return prepare(form_of(*linears[i]), x + b * columns, columns, room);
        rest_of(x + (b - batch) * columns, columns, scratch.rest);
        return prepare(Form::bytes, scratch.rest, columns, room);
    }

    // Rows [begin, end) of layer i: y (batch, rows).
    void rows(int i, int64_t begin, int64_t end, float* y) const {
        const int64_t stride = linears[i]->rows;
        if (batch >= kMany) return many_rows(*linears[i], begin, end, given, batch, y, stride);
        if (!in_two(i)) return linear_rows(*linears[i], begin, end, ready[i], batch, y, stride);
        linear_rows(*linears[i], begin, end, ready[i], 2 * batch, twice[i], stride);
        for (int b = 0; b < batch; ++b) {
            const float *first = twice[i] + b * stride + begin, *second = first + batch * stride;
            const float* bias = linears[i]->bias;
            each_register(end - begin, [&](int64_t k, int lanes) {
                F sum = add(load_up_to(first + k, lanes), load_up_to(second + k, lanes));
                if (bias) sum = sub(sum, load_up_to(bias + begin + k, lanes));  // both have it
                store_up_to(y + b * stride + begin + k, sum, lanes);
            });
        }
    }

    // All rows of all layers as one loop over threads.
    void all(float* const (&y)[N], int threads) const {
        const Shares shares{batch};
        int64_t costs[N], total = 0;
        for (int i = 0; i < N; ++i) total += costs[i] = shares.of(*linears[i]);
        parallel(total, shares.least(), threads, [&](int64_t begin, int64_t end) {
            for (int i = 0; i < N; begin -= costs[i], end -= costs[i], ++i)
                if (begin < costs[i] && end > 0)
                    rows(i, shares.row(*linears[i], larger(begin, 0)), shares.row(*linears[i], end), y[i]);
        });
    }
};

struct Step {
    Model& model;
    int batch, threads;

    bool norm(Norm norm) const {
        for (int b = 0; b < batch; ++b)
            if (!rms_norm(scratch().stream + b * model.hidden, model.hidden, norm, scratch().normed + b * model.hidden)) return false;
        return true;
    }

    // stream += linear(x)
    void add(const Linear& linear, const float* x) const {
        const Readers<1> reader({&linear}, x, batch, scratch());
        Shares{batch}.each(linear, threads, [&](int64_t from, int64_t to) {
            reader.rows(0, from, to, scratch().normed);
            for (int b = 0; b < batch; ++b)
                add_to(scratch().stream + b * model.hidden + from, scratch().normed + b * model.hidden + from, to - from);
        });
    }

    // Norm and rotary of all heads of one kind, (batch, count, width).
    bool place(float* heads, int64_t count, int64_t width, Norm norm) const {
        for (int b = 0; b < batch; ++b) {
            const int64_t turn = (model.length + b) * model.pairs;
            for (int64_t h = 0; h < count; ++h, heads += width) {
                if (norm.weight && !rms_norm(heads, width, norm, heads)) return false;
                rotate(heads, model.pairs, model.cosines + turn, model.sines + turn);
            }
        }
        return true;
    }

    // Key head h: the new positions join the cache, each attends to those up to itself.
    void attend(const Layer& layer, int64_t h) const {
        const int64_t width = layer.key_width, value_width = layer.value_width, group = layer.query_heads / layer.key_heads;
        const int64_t row = tiles(model.context) * W;
        float *keys = layer.keys + h * row * width, *values = layer.values + h * model.context * value_width;
        for (int b = 0; b < batch; ++b) {
            const int64_t at = model.length + b;
            append_key(keys, scratch().key + (b * layer.key_heads + h) * width, width, at);
            memcpy(values + at * value_width, scratch().value + (b * layer.key_heads + h) * value_width,
                   sizeof(float) * static_cast<size_t>(value_width));
            const Attention head{keys, values, width, value_width, at + 1, scratch().scores + h * group * row, row};
            const int64_t first = b * layer.query_heads + h * group;
            head.attend(scratch().query + first * width, group, scratch().heads + first * value_width);
        }
    }

    bool attention(const Layer& layer) const {
        const Linear* const linears[] = {&layer.linears[kQuery], &layer.linears[kKey], &layer.linears[kValue]};
        float* const y[] = {scratch().query, scratch().key, scratch().value};
        if (!norm(layer.norms[kBeforeAttention])) return false;
        Readers<3>(linears, scratch().normed, batch, scratch()).all(y, threads);
        if (!place(scratch().query, layer.query_heads, layer.key_width, layer.norms[kOfQuery])) return false;
        if (!place(scratch().key, layer.key_heads, layer.key_width, layer.norms[kOfKey])) return false;
        scale_by(scratch().query, batch * layer.query_heads * layer.key_width, layer.scaling);
        // Waking a thread costs more than attending to few positions.
        const int64_t work = batch * (model.length + batch) * layer.query_heads * (layer.key_width + layer.value_width);
        parallel(layer.key_heads, 1, work < 100000 ? 1 : threads, [&](int64_t begin, int64_t end) {
            for (int64_t h = begin; h < end; ++h) attend(layer, h);
        });
        add(layer.linears[kOut], scratch().heads);
        return true;
    }

    bool neurons(const Layer& layer) const {
        const Linear &gate = layer.linears[kGate], &up = layer.linears[kUp];
        if (!norm(layer.norms[kBeforeNeurons])) return false;
        const Readers<2> readers({&gate, &up}, scratch().normed, batch, scratch());
        Shares{batch}.each(gate, threads, [&](int64_t from, int64_t to) {
            readers.rows(0, from, to, scratch().gate);
            readers.rows(1, from, to, scratch().up);
            for (int b = 0; b < batch; ++b)
                swiglu(scratch().gate + b * layer.neurons + from, scratch().up + b * layer.neurons + from, to - from);
        });
        add(layer.linears[kDown], scratch().gate);
        return true;
    }

    void embed(const int64_t* tokens) const {
        for (int b = 0; b < batch; ++b) {
            float* stream = scratch().stream + b * model.hidden;
            const int64_t at = tokens[b] * model.hidden;
            if (!model.embedding_is_bf16)
                memcpy(stream, static_cast<const float*>(model.embedding) + at, sizeof(float) * static_cast<size_t>(model.hidden));
            else
                for (int64_t k = 0; k < model.hidden; ++k) stream[k] = from_bf16(static_cast<const uint16_t*>(model.embedding)[at + k]);
        }
    }

    // The tokens join the cache. logits: (batch, vocabulary), or of the last one where not `every`, or null for none.
    // False where numbers are no longer finite.
    bool run(const int64_t* tokens, float* logits, bool every) const {
        embed(tokens);
        for (int64_t i = 0; i < model.n_layers; ++i)
            if (!attention(model.layers[i]) || !neurons(model.layers[i])) return false;
        if (!norm(model.last_norm)) return false;
        model.length += batch;
        if (logits == nullptr) return true;
        const float* x = scratch().normed + (every ? 0 : (batch - 1) * model.hidden);
        Readers<1>({&model.head}, x, every ? batch : 1, scratch()).all({logits}, threads);
        return true;
    }

    const Scratch& scratch() const { return model.scratch; }
};

}  // namespace
}  // namespace pomona::POMONA_ISA
