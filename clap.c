/* clap.c - CLAP: text and sound in one space.          (transformers ClapModel; Wu et al. 2023)
 * Read in this order: the text tower (RoBERTa), the sound tower (HTSAT), the mel front end,
 * opening, embedding.
 * Not here: training, classification heads. */
#include "clap.h"

#include "clip.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

/* ---- the text tower: RoBERTa --------------------------------------------------------------- */

/* x = LayerNorm(x + attention(x));  x = LayerNorm(x + mlp(x))            ClapTextLayer.forward
 * x lies at `at` and so does the result. */
static Tensor roberta_layer(Arena *m, const ClapText *t, const RobertaLayer *w, size_t at, Tensor x)
{
    Tensor q = linear(m, x, &w->q), k = linear(m, x, &w->k), v = linear(m, x, &w->v);  /* [1,T,C] */
    Tensor h = linear_plus(m, attention(m, q, k, v, t->heads, false), &w->out, x);
    x = keep(m, at, layer_norm(m, h, &w->norm1, t->eps));
    h = linear_plus(m, linear_act(m, x, &w->up, t->act), &w->down, x);     /* [1,T,mlp] between */
    return keep(m, at, layer_norm(m, h, &w->norm2, t->eps));
}

/* Words, their kind (always 0) and their places: counted from pad + 1, padding stays at pad. */
static Tensor roberta_embeddings(Arena *m, const ClapText *t, const int *ids, int n)
{
    const size_t top = m->used;
    int *kinds = (int *)(void *)tensor(m, 1, n, 1, 1).at;                  /* as wide as floats */
    int *places = (int *)(void *)tensor(m, 1, n, 1, 1).at;
    for (int i = 0, place = t->pad; m->base && i < n; i++) {
        kinds[i] = 0;
        places[i] = ids[i] == t->pad ? t->pad : ++place;
    }
    Tensor x = rows(m, t->tokens, ids, 1, n);                              /* [1,T,C] */
    add_(x, rows(m, t->types, kinds, 1, n));
    add_(x, rows(m, t->places, places, 1, n));
    return keep(m, top, layer_norm(m, x, &t->norm, t->eps));
}

Tensor clap_text(Arena *m, const ClapText *t, const int *ids, int n)
{
    const size_t top = m->used;
    trace_enter("text_model");
    Tensor x = roberta_embeddings(m, t, ids, n);
    trace(x, "embeddings");
    for (int i = 0; i < t->layers; i++) {
        x = roberta_layer(m, t, &t->layer[i], top, x);
        trace(x, "encoder.layer.%d", i);
    }
    Tensor pooled = linear_act(m, position(x, 0, 0), &t->pooler, TANH);    /* <s>: [1,C] */
    trace(pooled, "pooler");
    trace_leave();
    x = linear_act(m, pooled, &t->project1, t->projection_act);
    x = keep(m, top, linear(m, x, &t->project2));                          /* [1,dim] */
    trace(x, "text_projection");
    return x;
}

/* ---- the sound tower: HTSAT ---------------------------------------------------------------- */

typedef struct {
    Norm norm1, norm2;
    Linear q, k, v, out, up, down;
    Weight table; float *bias;             /* [(2 side - 1)^2][heads]; [heads][side^2][side^2] */
} SwinBlock;

/* One resolution: h x w positions of c channels, cut into windows of side x side.  The lists are
 * for rows_at, [0] plain and [1] shifted: `into` windows, with zeros right and below, and `back`.
 * pairs is for merging; mask for shifted windows. */
typedef struct {
    int h, w, c, heads, mlp, depth, windows, shift;
    int *into[2], *back[2], *pairs;        /* pairs [h/2 * w/2][4] */
    float *mask;                           /* [windows][side^2][side^2] */
    SwinBlock *block;
    Norm merge_norm;
    Linear merge;                          /* [2c,4c] */
} SwinStage;

typedef struct { Weight w, b, mean, var; } BatchNorm;
/* Attentional feature fusion: each path is conv1x1, batch norm, relu, conv1x1, batch norm. */
typedef struct { Linear conv1, conv2; BatchNorm norm1, norm2; Linear first, second; } FusionPath;

typedef enum { PAD, REPEAT, REPEAT_PAD } Fill;

struct ClapAudio {
    /* the front end: preprocessor_config.json */
    int rate, hop, fft, mels, samples, frames;
    double low, high;
    Fill fill;
    bool fuses;                            /* truncation "fusion" */
    float *filters;                        /* [fft/2+1][mels] */
    /* the tower: audio_config */
    int spec, ratio, side, patch[2], stride[2], pad[2], grid[2], inner, stages;
    bool fusion;
    Act act, projection_act;
    float eps;
    BatchNorm batch_norm;
    float *scale, *offset;                 /* batch_norm as x * scale + offset, [mels] */
    Linear patches, wide_patches;     /* [C,1,p,p] and, over three crops side by side, [C,1,p,3p] */
    Norm patch_norm, norm;
    FusionPath local, global;
    int *taps, *wide_taps, *crops, wide_grid;
    SwinStage stage[8];
    Linear project1, project2;
    void **owned; int owned_count;
};

static const char *const TOWER = "audio_model.audio_encoder.";
static const float NORM_EPS = 1e-5f;   /* of the norms that the class builds with torch's default */

/* Attention inside windows; odd blocks shift them by half a window.      ClapAudioLayer.forward */
static void swin_block(Arena *m, const ClapAudio *a, const SwinStage *s, int number, Tensor x)
{
    const size_t top = m->used;
    const SwinBlock *w = &s->block[number];
    const int area = a->side * a->side, shifted = number % 2 && s->shift;
    Tensor h = layer_norm(m, x, &w->norm1, a->eps);
    h = rows_at(m, h, s->into[shifted], s->windows, area, 1);              /* [windows,side^2,C] */
    Tensor q = linear(m, h, &w->q), k = linear(m, h, &w->k), v = linear(m, h, &w->v);
    h = attention_biased(m, q, k, v, s->heads, w->bias, s->mask, shifted ? s->windows : 0);
    linear_into(m, x, rows_at(m, h, s->back[shifted], 1, s->h * s->w, 1), &w->out);
    m->used = top;
    h = layer_norm(m, x, &w->norm2, a->eps);
    linear_into(m, x, linear_act(m, h, &w->up, a->act), &w->down);         /* [1,N,mlp] between */
    m->used = top;
}

/* Four neighbours become one position: norm, then 4C to 2C.        ClapAudioPatchMerging.forward */
static Tensor swin_merge(Arena *m, const SwinStage *s, size_t at, Tensor x)
{
    const int n = s->h / 2 * (s->w / 2);
    x = rows_at(m, x, s->pairs, 1, n, 4);                                  /* [1,N/4,4,C] */
    x = (Tensor){ .at = x.at, .b = 1, .h = n, .w = 1, .c = 4 * s->c };
    x = layer_norm(m, x, &s->merge_norm, NORM_EPS);
    return keep(m, at, linear(m, x, &s->merge));                           /* [1,N/4,2C] */
}

/* x = 2 x s + 2 y (1 - s), s = sigmoid(local(x + y) + global(x + y)).  `second` is stored halved:
 * 2 sigmoid(z) = 1 + tanh(z / 2).                                    ClapAudioAFFBlock.forward */
static void fuse_(Arena *m, const ClapAudio *a, Tensor x, Tensor y)
{
    const size_t top = m->used;
    Tensor both = copy(m, x);                                              /* [1,N,C] */
    add_(both, y);
    Tensor g = linear_act(m, mean_rows(m, both), &a->global.first, RELU);
    g = linear(m, g, &a->global.second);                                   /* [1,C] */
    Tensor s = linear_act(m, both, &a->local.first, RELU);
    s = linear_plus(m, s, &a->local.second, g);
    act_(s, TANH);
    mix_(x, y, s);
    m->used = top;
}

/* n patches of the picture that the mel folds into, by the list of their values; zeros outside. */
static Tensor patch_embed(Arena *m, Tensor mel, const int *taps, int n, const Linear *w)
{
    const int area = w->w.dim[2] * w->w.dim[3];
    Tensor x = rows_at(m, mel, taps, 1, n, area);                          /* [1,N,p*p,1] */
    return linear(m, (Tensor){ .at = x.at, .b = 1, .h = n, .w = 1, .c = area }, w);
}

/* mel [1,T*F,1,1], normalised, T = spec * ratio -> [1,N,1,C].  A single sound's four mels are
 * copies, so the three crops of the fused path are one, repeated.    ClapAudioPatchEmbed.forward */
static Tensor audio_embeddings(Arena *m, const ClapAudio *a, Tensor mel)
{
    const size_t top = m->used;
    const int n = a->grid[0] * a->grid[1], wide = a->grid[0] * a->wide_grid;
    Tensor x = patch_embed(m, mel, a->taps, n, &a->patches);
    if (a->fuses) {
        Tensor crop = patch_embed(m, mel, a->wide_taps, wide, &a->wide_patches);
        fuse_(m, a, x, rows_at(m, crop, a->crops, 1, n, 1));
    }
    return keep(m, top, layer_norm(m, x, &a->patch_norm, NORM_EPS));
}

/* ClapModel's audio half: mel [T][F] on the host -> [1,1,1,dim]. */
static Tensor clap_audio(Arena *m, const ClapAudio *a, const float *mel)
{
    const size_t top = m->used;
    trace_enter("audio_model.audio_encoder");
    Tensor x = from_host(m, 1, a->spec * a->ratio * a->mels, 1, 1, mel);
    x = keep(m, top, audio_embeddings(m, a, x));
    trace(x, "patch_embed");
    for (int i = 0; i < a->stages; i++) {
        const SwinStage *s = &a->stage[i];
        trace_enter("layers.%d", i);
        for (int j = 0; j < s->depth; j++) {
            swin_block(m, a, s, j, x);
            trace(x, "blocks.%d", j);
        }
        if (i + 1 < a->stages) {
            x = swin_merge(m, s, top, x);
            trace(x, "downsample");
        }
        trace_leave();
    }
    x = layer_norm(m, x, &a->norm, NORM_EPS);
    trace(x, "norm");
    trace_leave();
    x = linear_act(m, mean_rows(m, x), &a->project1, a->projection_act);
    x = keep(m, top, linear(m, x, &a->project2));
    trace(x, "audio_projection");
    return x;
}

/* ---- spectrograms -------------------------------------------------------------------------- */

/* slaney: linear to 1000 Hz = 15 mel, then 27 mel for each factor of 6.4.
 * htk: 2595 log10(1 + f / 700). */
static double to_mel(double hz, bool htk)
{
    if (htk) return 2595 / f_log(10) * f_log(1 + hz / 700);
    return hz < 1000 ? 3 * hz / 200 : 15 + f_log(hz / 1000) * (27 / f_log(6.4));
}
static double to_hertz(double mel, bool htk)
{
    if (htk) return 700 * (f_exp(mel * f_log(10) / 2595) - 1);
    return mel < 15 ? 200 * mel / 3 : 1000 * f_exp(f_log(6.4) / 27 * (mel - 15));
}

float *mel_filters(int bins, int mels, double low, double high, int rate, bool htk, bool norm,
                   Error *e)
{
    if (bins < 2 || mels < 1 || !(low >= 0) || !(high > low))
        return fail(e, "mel filters: found %d bins, %d mels, %g to %g Hz, want at least 2, 1 and a "
                    "rising range", bins, mels, low, high), NULL;
    float *filters = calloc((size_t)bins, (size_t)mels * sizeof *filters);
    if (!filters)
        return fail(e, "out of memory: needed room for %d x %d filters", bins, mels), NULL;
    const double first = to_mel(low, htk), step = (to_mel(high, htk) - first) / (mels + 1);
    for (int i = 0; i < mels; i++) {
        const double left = to_hertz(first + step * i, htk);
        const double top = to_hertz(first + step * (i + 1), htk);
        const double right = to_hertz(first + step * (i + 2), htk);
        for (int j = 0; j < bins; j++) {
            const double hz = (double)(rate / 2) * j / (bins - 1);
            const double up = (hz - left) / (top - left), down = (right - hz) / (right - top);
            const double value = up < down ? up : down;
            float *at = filters + (size_t)j * (size_t)mels + (size_t)i;
            if (value > 0) *at = (float)(norm ? value * 2 / (right - left) : value);
        }
    }
    return filters;
}

/* A discrete Fourier transform of n = 2^k real values under a periodic Hann window. */
typedef struct { int n; double *window, *cos, *sin, *re, *im; } Fourier;

static bool fourier_open(Fourier *f, int n, Error *e)
{
    *f = (Fourier){ .n = n };
    if (n < 2 || n > 1 << 20 || n & (n - 1))
        return fail(e, "spectrogram: window: found %d samples, want a power of two up to 2^20", n);
    const size_t size = (size_t)n;
    f->window = malloc(5 * size * sizeof *f->window);
    if (!f->window) return fail(e, "out of memory: needed %zu bytes for a transform",
                                5 * size * sizeof *f->window);
    f->cos = f->window + size;
    f->sin = f->cos + size;
    f->re = f->sin + size;
    f->im = f->re + size;
    for (int i = 0; i < n; i++) {
        const double angle = 2 * 3.14159265358979323846 * i / n;
        f->cos[i] = f_cos(angle);
        f->sin[i] = f_sin(angle);
        f->window[i] = 0.5 - 0.5 * f->cos[i];
    }
    return true;
}

/* The sample at i, reflected at both ends without repeating them (numpy's pad mode "reflect"). */
static double reflected(const float *x, size_t n, int64_t i)
{
    const int64_t period = 2 * ((int64_t)n - 1);
    if (!period) return x[0];
    i = (i % period + period) % period;
    return x[i < (int64_t)n ? i : period - i];
}

/* re, im = the transform of n samples of x from start on: radix 2, values first in bit-reversed
 * order. */
static void fourier(const Fourier *f, const float *x, size_t count, int64_t start)
{
    const int n = f->n;
    for (int i = 0, reversed = 0; i < n; i++) {
        f->re[reversed] = reflected(x, count, start + i) * f->window[i];
        f->im[reversed] = 0;
        int bit = n >> 1;
        for (; reversed & bit; bit >>= 1) reversed ^= bit;
        reversed |= bit;
    }
    for (int half = 1; half < n; half *= 2)
        for (int block = 0; block < n; block += 2 * half)
            for (int i = 0; i < half; i++) {
                const int a = block + i, b = a + half, turn = n / (2 * half) * i;
                const double re = f->re[b] * f->cos[turn] + f->im[b] * f->sin[turn];
                const double im = f->im[b] * f->cos[turn] - f->re[b] * f->sin[turn];
                f->re[b] = f->re[a] - re;
                f->im[b] = f->im[a] - im;
                f->re[a] += re;
                f->im[a] += im;
            }
}

/* One frame of decibels: to[mels]. */
static void mel_frame(const Fourier *f, const float *filters, int mels, double *power, float *to)
{
    const double least = 1e-10, decibel = 10 / f_log(10);
    for (int i = 0; i < mels; i++) power[i] = 0;
    for (int j = 0; j <= f->n / 2; j++, filters += mels) {   /* a bin is kept as two floats there */
        const double re = (float)f->re[j], im = (float)f->im[j], square = re * re + im * im;
        for (int i = 0; i < mels; i++) power[i] += filters[i] * square;
    }
    for (int i = 0; i < mels; i++)
        to[i] = (float)(decibel * f_log(power[i] < least ? least : power[i]));
}

float *mel_spectrogram(const float *x, size_t n, int window, int hop, const float *filters,
                       int mels,
                       int *frames, Error *e)
{
    size_t count;
    Fourier f;
    if (n < 1 || hop < 1 || mels < 1 || n / (size_t)hop >= INT_MAX)
        return fail(e, "spectrogram: found %zu samples, a hop of %d, %d mels, want at least 1 of "
                    "each and fewer than 2^31 frames", n, hop, mels), NULL;
    if (!fourier_open(&f, window, e)) return NULL;
    *frames = (int)(n / (size_t)hop) + 1;
    const bool fits = size_mul((size_t)*frames, (size_t)mels * sizeof(float), &count);
    float *out = fits ? malloc(count) : NULL;
    double *power = calloc((size_t)mels, sizeof *power);
    if (!out || !power) fail(e, "out of memory: needed room for %d frames of %d mels", *frames,
                             mels);
    for (int t = 0; t < *frames && out && power; t++) {
        fourier(&f, x, n, (int64_t)t * hop - window / 2);
        mel_frame(&f, filters, mels, power, out + (size_t)t * (size_t)mels);
    }
    if (!power) { free(out); out = NULL; }
    free(power);
    free(f.window);
    return out;
}

/* ---- preparing a sound --------------------------------------------------------------------- */

/* x[n], n <= samples, filled up to the window: again and again, then zeros.
 *                                                      ClapFeatureExtractor._get_input_mel */
static void fill_window(const ClapAudio *a, const float *x, size_t n, float *to)
{
    const size_t all = (size_t)a->samples;
    const size_t last = a->fill == REPEAT ? all : a->fill == REPEAT_PAD ? all / n * n : n;
    for (size_t i = 0; i < all; i++) to[i] = i < last ? x[i % n] : 0;
}

/* Cubic convolution with a = -0.75: the weights of the four neighbours of a point t after the
 * second. */
static void cubic_weights(float t, float w[4])
{
    const float a = -0.75f, u = 1 - t, far = t + 1, near = u + 1;
    w[0] = ((a * far - 5 * a) * far + 8 * a) * far - 4 * a;
    w[1] = ((a + 2) * t - (a + 3)) * t * t + 1;
    w[2] = ((a + 2) * u - (a + 3)) * u * u + 1;
    w[3] = ((a * near - 5 * a) * near + 8 * a) * near - 4 * a;
}

/* mel [frames][F], each bin scaled, then stretched in time to T = spec * ratio.  Places are in
 * float32, as torch counts them (bicubic, align_corners).       ClapAudioEncoder.reshape_mel2img */
static void stretch(const ClapAudio *a, const float *mel, float *to)
{
    const int length = a->spec * a->ratio, last = a->frames - 1;
    const float step = (float)last / (float)(length - 1);
    for (int t = 0; t < length; t++) {
        float w[4] = { 0, 1, 0, 0 };
        int from = t;
        if (length != a->frames) {
            const float at = step * (float)t;
            from = imin((int)at, last);
            cubic_weights(fminf(fmaxf(at - (float)from, 0), 1), w);
        }
        for (int i = 0; i < a->mels; i++) {
            float sum = 0;
            for (int k = 0; k < 4; k++) {
                const int row = imin(imax(from - 1 + k, 0), last);
                const float value = mel[(size_t)row * (size_t)a->mels + (size_t)i];
                sum += w[k] * (value * a->scale[i] + a->offset[i]);
            }
            *to++ = sum;
        }
    }
}

/* A window of sound as the tower reads it: [T][F].  Caller frees. */
static float *hear(const ClapAudio *a, const float *x, size_t n, Error *e)
{
    int frames = 0;
    float *wave = malloc((size_t)a->samples * sizeof *wave), *mel = NULL;
    float *out = malloc((size_t)a->spec * (size_t)a->ratio * (size_t)a->mels * sizeof *out);
    if (wave && out) {
        fill_window(a, x, n, wave);
        const size_t count = (size_t)a->samples;
        mel = mel_spectrogram(wave, count, a->fft, a->hop, a->filters, a->mels, &frames, e);
    } else
        fail(e, "out of memory: needed room for %d samples", a->samples);
    if (mel) {
        trace((Tensor){ .at = mel, .b = 1, .h = frames, .w = a->mels, .c = 1 }, "input_features");
        stretch(a, mel, out);
    }
    free(wave);
    if (!mel) { free(out); out = NULL; }
    free(mel);
    return out;
}

/* ---- opening: the text tower --------------------------------------------------------------- */

static bool read_act(const Json *config, const char *key, const char *absent, Act *act,
                     const char *where, Error *e)
{
    static const struct { const char *name; Act act; } known[] = {
        { "relu", RELU }, { "gelu", GELU }, { "gelu_new", GELU_TANH }, { "tanh", TANH },
        { "gelu_pytorch_tanh", GELU_TANH }, { "silu", SILU }, { "quick_gelu", QUICK_GELU },
    };
    const char *name = absent;
    if (!json_string(config, key, &name, where, e)) return false;
    for (size_t i = 0; i < countof(known); i++)
        if (!strcmp(name, known[i].name)) { *act = known[i].act; return true; }
    return fail(e, "%s: %s: found '%s', want gelu, gelu_new, relu, silu or tanh", where, key, name);
}

/* root holds what the projections share: the whole model's config, or the tower's own. */
static bool text_read(ClapText *t, int *types, const Json *config, const Json *root,
                      const char *where, Error *e)
{
    double eps = 1e-12;
    const char *places = "absolute";
    *t = (ClapText){ .vocabulary = 50265, .positions = 514, .pad = 1, .width = 768, .heads = 12,
                     .mlp = 3072, .layers = 12, .dim = 512 };
    *types = 1;
    if (!json_int(config, "vocab_size", 1, 1 << 24, &t->vocabulary, where, e)
        || !json_int(config, "max_position_embeddings", 4, 1 << 16, &t->positions, where, e)
        || !json_int(config, "pad_token_id", 0, t->positions - 3, &t->pad, where, e)
        || !json_int(config, "type_vocab_size", 1, 1 << 16, types, where, e)
        || !json_int(config, "hidden_size", 1, 1 << 16, &t->width, where, e)
        || !json_int(config, "num_attention_heads", 1, 1 << 16, &t->heads, where, e)
        || !json_int(config, "intermediate_size", 1, 1 << 18, &t->mlp, where, e)
        || !json_int(config, "num_hidden_layers", 1, 256, &t->layers, where, e)
        || !json_int(root, "projection_dim", 1, 1 << 16, &t->dim, where, e)
        || !json_float(config, "layer_norm_eps", 0, 1, &eps, where, e)
        || !json_string(config, "position_embedding_type", &places, where, e)
        || !read_act(config, "hidden_act", "gelu", &t->act, where, e)
        || !read_act(root, "projection_hidden_act", "relu", &t->projection_act, where, e))
        return false;
    if (t->width % t->heads)
        return fail(e, "%s: num_attention_heads: found %d, want a divisor of hidden_size %d", where,
                    t->heads, t->width);
    if (strcmp(places, "absolute"))
        return fail(e, "%s: position_embedding_type: found '%s', want absolute", where, places);
    t->eps = (float)eps;
    return true;
}

static bool text_bind(ClapText *t, int types, Weights *w, Error *e)
{
    static const Bind table[] = {
        { F(ClapText, tokens), "text_model.embeddings.word_embeddings.weight", "vw", 0 },
        { F(ClapText, places), "text_model.embeddings.position_embeddings.weight", "pw", 0 },
        { F(ClapText, types), "text_model.embeddings.token_type_embeddings.weight", "tw", 0 },
        { F(ClapText, norm.w), "text_model.embeddings.LayerNorm.weight", "w", 0 },
        { F(ClapText, norm.b), "text_model.embeddings.LayerNorm.bias", "w", 0 },
        { F(ClapText, pooler.w), "text_model.pooler.dense.weight", "ww", 0 },
        { F(ClapText, pooler.b), "text_model.pooler.dense.bias", "w", 0 },
        { F(ClapText, project1.w), "text_projection.linear1.weight", "dw", 0 },
        { F(ClapText, project1.b), "text_projection.linear1.bias", "d", 0 },
        { F(ClapText, project2.w), "text_projection.linear2.weight", "dd", 0 },
        { F(ClapText, project2.b), "text_projection.linear2.bias", "d", 0 },
        { 0 } };
    static const Bind layer[] = {
        { F(RobertaLayer, q.w), "attention.self.query.weight", "ww", 0 },
        { F(RobertaLayer, q.b), "attention.self.query.bias", "w", 0 },
        { F(RobertaLayer, k.w), "attention.self.key.weight", "ww", 0 },
        { F(RobertaLayer, k.b), "attention.self.key.bias", "w", 0 },
        { F(RobertaLayer, v.w), "attention.self.value.weight", "ww", 0 },
        { F(RobertaLayer, v.b), "attention.self.value.bias", "w", 0 },
        { F(RobertaLayer, out.w), "attention.output.dense.weight", "ww", 0 },
        { F(RobertaLayer, out.b), "attention.output.dense.bias", "w", 0 },
        { F(RobertaLayer, norm1.w), "attention.output.LayerNorm.weight", "w", 0 },
        { F(RobertaLayer, norm1.b), "attention.output.LayerNorm.bias", "w", 0 },
        { F(RobertaLayer, up.w), "intermediate.dense.weight", "mw", 0 },
        { F(RobertaLayer, up.b), "intermediate.dense.bias", "m", 0 },
        { F(RobertaLayer, down.w), "output.dense.weight", "wm", 0 },
        { F(RobertaLayer, down.b), "output.dense.bias", "w", 0 },
        { F(RobertaLayer, norm2.w), "output.LayerNorm.weight", "w", 0 },
        { F(RobertaLayer, norm2.b), "output.LayerNorm.bias", "w", 0 },
        { 0 } };
    const Dims dims = DIMS(['v'] = t->vocabulary, ['p'] = t->positions, ['t'] = types,
                           ['w'] = t->width,
                           ['m'] = t->mlp, ['d'] = t->dim);
    if (!bind(w, t, table, dims, e, "%s", "")) return false;
    t->layer = calloc((size_t)t->layers, sizeof *t->layer);
    if (!t->layer) return fail(e, "out of memory: needed room for %d layers", t->layers);
    for (int i = 0; i < t->layers; i++)
        if (!bind(w, &t->layer[i], layer, dims, e, "text_model.encoder.layer.%d.", i)) return false;
    return true;
}

bool clap_text_open(ClapText *t, Weights *w, const char *folder, Error *e)
{
    int types;
    *t = (ClapText){ 0 };
    *w = (Weights){ 0 };
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    const bool ok = config && text_read(t, &types, config, config, path, e)
        && weights_open(w, folder, "model|pytorch_model", e) && text_bind(t, types, w, e);
    json_free(config);
    free(path);
    return ok;
}

void clap_text_close(ClapText *t) { free(t->layer); t->layer = NULL; }

/* ---- opening: the sound tower -------------------------------------------------------------- */

/* Zeroed memory that lives as long as a. */
static void *own(ClapAudio *a, size_t count, size_t size, Error *e)
{
    void **list = realloc(a->owned, ((size_t)a->owned_count + 1) * sizeof *list), *memory = NULL;
    if (list) {
        a->owned = list;
        memory = a->owned[a->owned_count++] = calloc(count, size);
    }
    if (!memory) fail(e, "out of memory: needed room for %zu values", count);
    return memory;
}

static void audio_free(ClapAudio *a)
{
    for (int i = 0; a && i < a->owned_count; i++) free(a->owned[i]);
    if (a) free(a->owned);
    free(a);
}

/* A whole number, for both directions, or a list of two. */
static bool read_pair(const Json *config, const char *key, int low, int high, int pair[2],
                      const char *where, Error *e)
{
    const Json *value = json_get(config, key);
    double both[2] = { pair[0], pair[1] };
    if (value && value->type == JSON_NUMBER) {
        const bool ok = json_int(config, key, low, high, &pair[0], where, e);
        pair[1] = pair[0];
        return ok;
    }
    if (!json_floats(config, key, 2, low, high, both, where, e)) return false;
    pair[0] = (int)both[0];
    pair[1] = (int)both[1];
    return true;
}

/* A list of 1..8 whole numbers; *count is its length. */
static bool read_list(const Json *config, const char *key, int high, int *count, int list[8],
                      const char *where, Error *e)
{
    const Json *value = json_get(config, key);
    double values[8];
    if (!value || value->type == JSON_NULL) return true;
    if (value->type != JSON_ARRAY || value->count < 1 || value->count > 8)
        return fail(e, "%s: %s: found no list of 1 to 8 numbers", where, key);
    if (!json_floats(config, key, value->count, 1, high, values, where, e)) return false;
    *count = value->count;
    for (int i = 0; i < *count; i++) list[i] = (int)values[i];
    return true;
}

/* A switch that the class has and no published model turns off. */
static bool on(const Json *config, const char *key, const char *where, Error *e)
{
    bool value = true;
    if (!json_bool(config, key, &value, where, e)) return false;
    return value || fail(e, "%s: %s: found false, want true", where, key);
}

/* Sizes of each stage, and that the class could run them. */
static bool stages_read(ClapAudio *a, const Json *config, const char *where, Error *e)
{
    int depths[8] = { 2, 2, 6, 2 }, heads[8] = { 4, 8, 16, 32 }, count = 4, width = 96;
    double ratio = 4;
    a->stages = 4;
    if (!read_list(config, "depths", 64, &a->stages, depths, where, e)
        || !read_list(config, "num_attention_heads", 256, &count, heads, where, e)
        || !json_int(config, "patch_embeds_hidden_size", 1, 1 << 12, &width, where, e)
        || !json_float(config, "mlp_ratio", 1, 64, &ratio, where, e)) return false;
    if (count != a->stages)
        return fail(e, "%s: num_attention_heads: found %d stages, want %d as depths has", where,
                    count, a->stages);
    for (int i = 0; i < a->stages; i++) {
        SwinStage *s = &a->stage[i];
        const int c = width << i;
        *s = (SwinStage){ .h = a->grid[0] >> i, .w = a->grid[1] >> i, .c = c, .heads = heads[i],
                          .mlp = (int)(ratio * c), .depth = depths[i] };
        if (c % s->heads)
            return fail(e, "%s: num_attention_heads: found %d, want a divisor of stage %d's %d",
                        where, s->heads, i, c);
        if (s->h < a->side || s->w < a->side)
            return fail(e, "%s: window_size: found %d, want at most stage %d's %dx%d positions",
                        where, a->side, i, s->h, s->w);
        if (i + 1 < a->stages && (s->h % 2 || s->w % 2))
            return fail(e, "%s: spec_size: found %d, which leaves stage %d %dx%d positions, want "
                        "even sides", where, a->spec, i, s->h, s->w);
        s->windows = ((s->h + a->side - 1) / a->side) * ((s->w + a->side - 1) / a->side);
        s->shift = imin(s->h, s->w) <= a->side ? 0 : a->side / 2;
    }
    return true;
}

static bool audio_read(ClapAudio *a, const Json *config, const Json *root, const char *where,
                       Error *e)
{
    int inputs = 1, shrink = 4;
    double eps = 1e-5;
    const char *kind = "";
    a->side = 8;
    a->mels = 64;
    a->spec = 256;
    a->patch[0] = a->patch[1] = a->stride[0] = a->stride[1] = 4;
    if (!json_int(config, "window_size", 1, 16, &a->side, where, e)
        || !json_int(config, "num_mel_bins", 1, 1024, &a->mels, where, e)
        || !json_int(config, "spec_size", 2, 2048, &a->spec, where, e)
        || !read_pair(config, "patch_size", 1, 256, a->patch, where, e)
        || !read_pair(config, "patch_stride", 1, 256, a->stride, where, e)
        || !json_int(config, "patch_embed_input_channels", 1, 1, &inputs, where, e)
        || !json_int(config, "aff_block_r", 1, 1 << 12, &shrink, where, e)
        || !json_bool(config, "enable_fusion", &a->fusion, where, e)
        || !json_string(config, "fusion_type", &kind, where, e)
        || !json_float(config, "layer_norm_eps", 0, 1, &eps, where, e)
        || !on(config, "flatten_patch_embeds", where, e)
        || !on(config, "enable_patch_layer_norm", where, e) || !on(config, "qkv_bias", where, e)
        || !read_act(config, "hidden_act", "gelu", &a->act, where, e)
        || !read_act(root, "projection_hidden_act", "relu", &a->projection_act, where, e))
        return false;
    if (a->fusion && !strcmp(kind, "channel_map"))
        return fail(e, "%s: fusion_type: found channel_map, want another: the class cannot run it",
                    where);
    if (a->spec % a->mels)
        return fail(e, "%s: spec_size: found %d, want a multiple of num_mel_bins %d", where,
                    a->spec, a->mels);
    a->eps = (float)eps;
    a->ratio = a->spec / a->mels;
    for (int i = 0; i < 2; i++) {
        a->pad[i] = (a->patch[i] - a->stride[i]) / 2;
        a->grid[i] = a->spec / a->stride[i];
        if (a->patch[i] < a->stride[i] || a->patch[i] > 2 * a->stride[i] || a->grid[i] < 1
            || a->grid[i] > 256
            || (a->spec + 2 * a->pad[i] - a->patch[i]) / a->stride[i] + 1 != a->grid[i])
            return fail(e, "%s: patch_size: found %d at a stride of %d over %d values, want 1 to 2 "
                        "strides and at most 256 patches in a row", where, a->patch[i],
                        a->stride[i], a->spec);
    }
    if (!stages_read(a, config, where, e)) return false;
    a->inner = a->stage[0].c / shrink;
    a->wide_grid = (a->spec + 2 * a->pad[1] - 3 * a->patch[1]) / (3 * a->stride[1]) + 1;
    if (a->fusion && (a->inner < 1 || a->spec + 2 * a->pad[1] < 3 * a->patch[1]))
        return fail(e, "%s: aff_block_r, patch_size: found %d, %d, which leave the fusion nothing",
                    where, shrink, a->patch[1]);
    return true;
}

/* For each patch the places of its values in the mel [T][F], or -1.  The mel lies folded into a
 * square: its time in `ratio` pieces, one below the other, each turned so that rows are bins. */
static int *tap_list(ClapAudio *a, int columns, int wide, Error *e)
{
    const int high = a->patch[0], across = a->patch[1] * wide;
    const int n = a->grid[0] * columns;
    int *list = own(a, (size_t)n * (size_t)(high * across), sizeof *list, e), *at = list;
    for (int i = 0; list && i < n; i++)
        for (int j = 0; j < high * across; j++) {
            const int y = i / columns * a->stride[0] - a->pad[0] + j / across;
            const int x = i % columns * a->stride[1] * wide - a->pad[1] + j % across;
            const bool inside = y >= 0 && y < a->spec && x >= 0 && x < a->spec;
            *at++ = inside ? (y / a->mels * a->spec + x) * a->mels + y % a->mels : -1;
        }
    return list;
}

/* Which part of a shifted picture a line belongs to: 0, or 1 and 2 that the shift put together. */
static int region(int at, int length, int side, int shift)
{
    return (at >= length - side) + (at >= length - shift);
}

static bool window_lists(ClapAudio *a, SwinStage *s, Error *e)
{
    const int side = a->side, area = side * side, across = (s->w + side - 1) / side;
    const int h = (s->h + side - 1) / side * side, w = across * side;      /* with the zeros */
    const size_t rows = (size_t)s->windows * (size_t)area;
    int *part = own(a, rows, sizeof *part, e);
    for (int k = 0; k < 2; k++) {
        const int shift = k ? s->shift : 0;
        s->into[k] = own(a, rows, sizeof *s->into[k], e);
        s->back[k] = own(a, (size_t)s->h * (size_t)s->w, sizeof *s->back[k], e);
        for (int i = 0; part && s->into[k] && s->back[k] && i < (int)rows; i++) {
            const int window = i / area, in = i % area;
            const int y = window / across * side + in / side;
            const int x = window % across * side + in % side;
            const int from_y = (y + shift) % h, from_x = (x + shift) % w;
            const bool inside = from_y < s->h && from_x < s->w;
            s->into[k][i] = inside ? from_y * s->w + from_x : -1;
            if (inside) s->back[k][from_y * s->w + from_x] = i;
            part[i] = region(y, h, side, shift) * 3 + region(x, w, side, shift);
        }
    }
    if (e->code || !s->shift) return !e->code;
    s->mask = own(a, rows, (size_t)area * sizeof *s->mask, e);
    float *at = s->mask;
    for (size_t i = 0; at && i < rows; i++) {
        const int *window = part + i / (size_t)area * (size_t)area;
        for (int j = 0; j < area; j++) *at++ = part[i] == window[j] ? 0 : -100;
    }
    return s->mask != NULL;
}

/* The four neighbours of each merged position: (0,0), (1,0), (0,1), (1,1) in (row, column). */
static bool pair_list(ClapAudio *a, SwinStage *s, Error *e)
{
    const int n = s->h / 2 * (s->w / 2) * 4;
    s->pairs = own(a, (size_t)n, sizeof *s->pairs, e);
    for (int i = 0; s->pairs && i < n; i++) {
        const int y = i / 4 / (s->w / 2) * 2 + i % 2, x = i / 4 % (s->w / 2) * 2 + i % 4 / 2;
        s->pairs[i] = y * s->w + x;
    }
    return s->pairs != NULL;
}

/* bias[head][i][j] = table[(yi - yj + side - 1) * (2 side - 1) + xi - xj + side - 1][head] */
static bool spread_bias(ClapAudio *a, SwinBlock *b, int heads, Error *e)
{
    const int side = a->side, area = side * side, span = 2 * side - 1;
    float *table = own(a, weight_count(b->table), sizeof *table, e);
    b->bias = own(a, (size_t)heads * (size_t)area, (size_t)area * sizeof *b->bias, e);
    if (!table || !b->bias) return false;
    weight_read(b->table, 0, weight_count(b->table), table);
    float *at = b->bias;
    for (int head = 0; head < heads; head++)
        for (int i = 0; i < area; i++)
            for (int j = 0; j < area; j++) {
                const int y = i / side - j / side + side - 1, x = i % side - j % side + side - 1;
                *at++ = table[(y * span + x) * heads + head];
            }
    return true;
}

/* A batch norm with its running statistics, as x * scale + offset. */
static bool norm_affine(ClapAudio *a, const BatchNorm *n, float **scale, float **offset, Error *e)
{
    const size_t count = weight_count(n->w);
    *scale = own(a, count, sizeof **scale, e);
    *offset = own(a, count, sizeof **offset, e);
    for (size_t i = 0; *scale && *offset && i < count; i++) {
        float w, b, mean, var;
        weight_read(n->w, i, 1, &w);
        weight_read(n->b, i, 1, &b);
        weight_read(n->mean, i, 1, &mean);
        weight_read(n->var, i, 1, &var);
        const double slope = w / sqrt((double)var + 1e-5);
        (*scale)[i] = (float)slope;
        (*offset)[i] = (float)(b - mean * slope);
    }
    return *scale && *offset;
}

/* A 1x1 convolution and the batch norm after it, times factor, as one linear layer. */
static bool fold(ClapAudio *a, Linear *to, const Linear *conv, const BatchNorm *n, float factor,
                 Error *e)
{
    const int out = conv->w.dim[0], in = conv->w.dim[1];
    float *scale, *offset, *w = own(a, (size_t)out * (size_t)in, sizeof *w, e);
    if (!w || !norm_affine(a, n, &scale, &offset, e)) return false;
    weight_read(conv->w, 0, (size_t)out * (size_t)in, w);
    for (int i = 0; i < out; i++) {
        float bias;
        weight_read(conv->b, (size_t)i, 1, &bias);
        for (int j = 0; j < in; j++) w[i * in + j] *= scale[i] * factor;
        offset[i] = (bias * scale[i] + offset[i]) * factor;
    }
    *to = (Linear){ .w = { w, F32, 2, { out, in } }, .b = { offset, F32, 1, { out } } };
    return true;
}

static bool path_bind(ClapAudio *a, FusionPath *p, Weights *w, const char *name, int first,
                      Error *e)
{
    static const Bind conv[] = {
        { F(FusionPath, conv1.w), "weight", "ic11", 0 },
        { F(FusionPath, conv1.b), "bias", "i", 0 },
        { 0 } };
    static const Bind back[] = {
        { F(FusionPath, conv2.w), "weight", "ci11", 0 },
        { F(FusionPath, conv2.b), "bias", "c", 0 },
        { 0 } };
    static const Bind norm[] = {
        { F(BatchNorm, w), "weight", "n", 0 }, { F(BatchNorm, b), "bias", "n", 0 },
        { F(BatchNorm, mean), "running_mean", "n", 0 },
        { F(BatchNorm, var), "running_var", "n", 0 },
        { 0 } };
    const char *format = "audio_model.audio_encoder.patch_embed.fusion_model.%s.%d.";
    const Dims dims = DIMS(['c'] = a->stage[0].c, ['i'] = a->inner);
    const Dims inner = DIMS(['n'] = a->inner), outer = DIMS(['n'] = a->stage[0].c);
    return bind(w, p, conv, dims, e, format, name, first)
        && bind(w, &p->norm1, norm, inner, e, format, name, first + 1)
        && bind(w, p, back, dims, e, format, name, first + 3)
        && bind(w, &p->norm2, norm, outer, e, format, name, first + 4)
        && fold(a, &p->first, &p->conv1, &p->norm1, 1, e)
        && fold(a, &p->second, &p->conv2, &p->norm2, 0.5f, e);
}

static bool fusion_bind(ClapAudio *a, Weights *w, Error *e)
{
    static const Bind table[] = {
        { F(ClapAudio, wide_patches.w), "mel_conv2d.weight", "c1px", 0 },
        { F(ClapAudio, wide_patches.b), "mel_conv2d.bias", "c", 0 }, { 0 } };
    const Dims dims = DIMS(['c'] = a->stage[0].c, ['p'] = a->patch[0], ['x'] = 3 * a->patch[1]);
    const int n = a->grid[0] * a->grid[1];
    if (!bind(w, a, table, dims, e, "%spatch_embed.", TOWER)
        || !path_bind(a, &a->local, w, "local_att", 0, e)
        || !path_bind(a, &a->global, w, "global_att", 1, e)) return false;
    a->wide_taps = tap_list(a, a->wide_grid, 3, e);
    a->crops = own(a, (size_t)n, sizeof *a->crops, e);
    for (int i = 0; a->crops && i < n; i++) {        /* three crops side by side, then zeros */
        const int x = i % a->grid[1];
        a->crops[i] = x < 3 * a->wide_grid ? i / a->grid[1] * a->wide_grid + x % a->wide_grid : -1;
    }
    return a->wide_taps && a->crops;
}

static bool stage_bind(ClapAudio *a, int number, Weights *w, Error *e)
{
    static const Bind merge[] = {
        { F(SwinStage, merge.w), "reduction.weight", "of", 0 },
        { F(SwinStage, merge_norm.w), "norm.weight", "f", 0 },
        { F(SwinStage, merge_norm.b), "norm.bias", "f", 0 },
        { 0 } };
    static const Bind block[] = {
        { F(SwinBlock, norm1.w), "layernorm_before.weight", "c", 0 },
        { F(SwinBlock, norm1.b), "layernorm_before.bias", "c", 0 },
        { F(SwinBlock, table), "attention.self.relative_position_bias_table", "th", 0 },
        { F(SwinBlock, q.w), "attention.self.query.weight", "cc", 0 },
        { F(SwinBlock, q.b), "attention.self.query.bias", "c", 0 },
        { F(SwinBlock, k.w), "attention.self.key.weight", "cc", 0 },
        { F(SwinBlock, k.b), "attention.self.key.bias", "c", 0 },
        { F(SwinBlock, v.w), "attention.self.value.weight", "cc", 0 },
        { F(SwinBlock, v.b), "attention.self.value.bias", "c", 0 },
        { F(SwinBlock, out.w), "attention.output.dense.weight", "cc", 0 },
        { F(SwinBlock, out.b), "attention.output.dense.bias", "c", 0 },
        { F(SwinBlock, norm2.w), "layernorm_after.weight", "c", 0 },
        { F(SwinBlock, norm2.b), "layernorm_after.bias", "c", 0 },
        { F(SwinBlock, up.w), "intermediate.dense.weight", "mc", 0 },
        { F(SwinBlock, up.b), "intermediate.dense.bias", "m", 0 },
        { F(SwinBlock, down.w), "output.dense.weight", "cm", 0 },
        { F(SwinBlock, down.b), "output.dense.bias", "c", 0 }, { 0 } };
    SwinStage *s = &a->stage[number];
    const int span = 2 * a->side - 1;
    const Dims dims = DIMS(['c'] = s->c, ['m'] = s->mlp, ['h'] = s->heads, ['t'] = span * span,
                           ['o'] = 2 * s->c, ['f'] = 4 * s->c);
    s->block = own(a, (size_t)s->depth, sizeof *s->block, e);
    if (!s->block || !window_lists(a, s, e)) return false;
    for (int i = 0; i < s->depth; i++)
        if (!bind(w, &s->block[i], block, dims, e, "%slayers.%d.blocks.%d.", TOWER, number, i)
            || !spread_bias(a, &s->block[i], s->heads, e)) return false;
    return number + 1 == a->stages
        || (pair_list(a, s, e)
            && bind(w, s, merge, dims, e, "%slayers.%d.downsample.", TOWER, number));
}

static bool audio_bind(ClapAudio *a, int dim, Weights *w, Error *e)
{
    static const Bind table[] = {
        { F(ClapAudio, batch_norm.w), "batch_norm.weight", "n", 0 },
        { F(ClapAudio, batch_norm.b), "batch_norm.bias", "n", 0 },
        { F(ClapAudio, batch_norm.mean), "batch_norm.running_mean", "n", 0 },
        { F(ClapAudio, batch_norm.var), "batch_norm.running_var", "n", 0 },
        { F(ClapAudio, patches.w), "patch_embed.proj.weight", "c1yx", 0 },
        { F(ClapAudio, patches.b), "patch_embed.proj.bias", "c", 0 },
        { F(ClapAudio, patch_norm.w), "patch_embed.norm.weight", "c", 0 },
        { F(ClapAudio, patch_norm.b), "patch_embed.norm.bias", "c", 0 },
        { F(ClapAudio, norm.w), "norm.weight", "f", 0 },
        { F(ClapAudio, norm.b), "norm.bias", "f", 0 },
        { 0 } };
    static const Bind projection[] = {
        { F(ClapAudio, project1.w), "linear1.weight", "df", 0 },
        { F(ClapAudio, project1.b), "linear1.bias", "d", 0 },
        { F(ClapAudio, project2.w), "linear2.weight", "dd", 0 },
        { F(ClapAudio, project2.b), "linear2.bias", "d", 0 },
        { 0 } };
    const Dims dims = DIMS(['n'] = a->mels, ['c'] = a->stage[0].c, ['y'] = a->patch[0],
                           ['x'] = a->patch[1], ['f'] = a->stage[a->stages - 1].c, ['d'] = dim);
    if (!bind(w, a, table, dims, e, "%s", TOWER)
        || !bind(w, a, projection, dims, e, "audio_projection.")
        || !norm_affine(a, &a->batch_norm, &a->scale, &a->offset, e)
        || !(a->taps = tap_list(a, a->grid[1], 1, e))) return false;
    for (int i = 0; i < a->stages; i++)
        if (!stage_bind(a, i, w, e)) return false;
    return !a->fusion || fusion_bind(a, w, e);
}

/* ClapFeatureExtractor: rate, window, filters, and what happens to sounds that are too short. */
static bool ears_from(ClapAudio *a, const Json *config, const char *where, Error *e)
{
    static const char *const fills[] = { [PAD] = "pad", [REPEAT] = "repeat",
                                         [REPEAT_PAD] = "repeatpad" };
    const char *cut = a->fusion ? "fusion" : "rand_trunc", *fill = "repeatpad";
    int seconds = 10, mels = 64;
    a->rate = 48000;
    a->hop = 480;
    a->fft = 1024;
    a->high = 14000;
    if (!json_int(config, "sampling_rate", 1000, 768000, &a->rate, where, e)
        || !json_int(config, "hop_length", 1, 1 << 20, &a->hop, where, e)
        || !json_int(config, "fft_window_size", 2, 1 << 15, &a->fft, where, e)
        || !json_int(config, "max_length_s", 1, 600, &seconds, where, e)
        || !json_int(config, "feature_size", 1, 1024, &mels, where, e)
        || !json_float(config, "frequency_min", 0, 384000, &a->low, where, e)
        || !json_float(config, "frequency_max", 0, 384000, &a->high, where, e)
        || !json_string(config, "truncation", &cut, where, e)
        || !json_string(config, "padding", &fill, where, e)) return false;
    a->samples = a->rate * seconds;
    a->frames = a->samples / a->hop + 1;
    a->fuses = !strcmp(cut, "fusion");
    if (strcmp(cut, "fusion") && strcmp(cut, "rand_trunc"))
        return fail(e, "%s: truncation: found '%s', want fusion or rand_trunc", where, cut);
    if (a->fuses && !a->fusion)
        return fail(e, "%s: truncation: found fusion, want rand_trunc: the model's enable_fusion is"
                    " false", where);
    if (mels != a->mels)
        return fail(e, "%s: feature_size: found %d, want the model's num_mel_bins %d", where, mels,
                    a->mels);
    if (a->fft & (a->fft - 1))
        return fail(e, "%s: fft_window_size: found %d, want a power of two", where, a->fft);
    if (a->frames > a->spec * a->ratio)
        return fail(e, "%s: max_length_s: found %d s, which give %d frames, want at most %d", where,
                    seconds, a->frames, a->spec * a->ratio);
    for (size_t i = 0; i < countof(fills); i++)
        if (!strcmp(fill, fills[i])) { a->fill = (Fill)i; return true; }
    return fail(e, "%s: padding: found '%s', want repeatpad, repeat or pad", where, fill);
}

/* preprocessor_config.json, or its part of processor_config.json.  Absent: ClapFeatureExtractor's
 * defaults. */
static bool ears_read(ClapAudio *a, const char *folder, Error *e)
{
    static const char *const names[] = { "preprocessor_config.json", "processor_config.json" };
    bool ok = true, found = false;
    for (size_t i = 0; i < countof(names) && !found; i++) {
        char *path = path_join(folder, names[i]);
        if ((found = file_exists(path))) {
            Json *root = json_read(path, 1 << 20, e);
            const Json *part = root ? json_get(root, "feature_extractor") : NULL;
            ok = root && ears_from(a, part ? part : root, path, e);
            json_free(root);
        }
        free(path);
    }
    if (!found) ok = ears_from(a, NULL, folder, e);
    if (!ok) return false;
    float *filters = mel_filters(a->fft / 2 + 1, a->mels, a->low, a->high, a->rate, a->fuses,
                                 !a->fuses, e);
    const size_t count = (size_t)(a->fft / 2 + 1) * (size_t)a->mels;
    a->filters = filters ? own(a, count, sizeof *filters, e) : NULL;
    if (a->filters) memcpy(a->filters, filters, count * sizeof *filters);
    free(filters);
    return a->filters != NULL;
}

/* ---- opening ------------------------------------------------------------------------------- */

static bool clap_read(Clap *c, const Json *config, const char *where, Error *e)
{
    const Json *text = json_get(config, "text_config"), *audio = json_get(config, "audio_config");
    int types;
    if (!json_is(json_get(config, "model_type"), "clap"))
        return fail(e, "%s: model_type: want clap; this folder holds another model", where);
    if (!text || !audio)
        return fail(e, "%s: %s: missing", where, text ? "audio_config" : "text_config");
    c->audio = calloc(1, sizeof *c->audio);
    if (!c->audio) return fail(e, "out of memory: needed %zu bytes", sizeof *c->audio);
    if (!text_read(&c->text, &types, text, config, where, e)
        || !audio_read(c->audio, audio, config, where, e)) return false;
    c->dim = c->text.dim;
    return text_bind(&c->text, types, &c->weights, e)
        && audio_bind(c->audio, c->dim, &c->weights, e);
}

/* e^logit_scale_a.  The other one is for scores of texts against sounds: bound and not used. */
static bool scale_read(Clap *c, Error *e)
{
    typedef struct { Weight a, t; } Scales;
    static const Bind table[] = { { F(Scales, a), "logit_scale_a", "|1", 0 },
                                  { F(Scales, t), "logit_scale_t", "|1", 0 }, { 0 } };
    Scales scale;
    float value;
    if (!bind(&c->weights, &scale, table, (Dims){ 0 }, e, "%s", "")) return false;
    weight_read(scale.a, 0, 1, &value);
    c->logit_scale = f_exp(value);
    return true;
}

bool clap_open(Clap *c, const char *folder, const char *tokenizer, Error *e)
{
    *c = (Clap){ 0 };
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && weights_open(&c->weights, folder, "model|pytorch_model", e)
        && clap_read(c, config, path, e) && scale_read(c, e) && ears_read(c->audio, folder, e)
        && (c->tok = tok_open(tokenizer ? tokenizer : folder, e)) != NULL;
    if (ok && tok_vocabulary(c->tok) > c->text.vocabulary)
        ok = fail(e, "%s: vocabulary: found %d tokens, the model has room for %d",
                  tokenizer ? tokenizer : folder, tok_vocabulary(c->tok), c->text.vocabulary);
    json_free(config);
    free(path);
    if (!ok) clap_close(c);
    return ok;
}

void clap_close(Clap *c)
{
    tok_close(c->tok);
    clap_text_close(&c->text);
    audio_free(c->audio);
    weights_close(&c->weights);
    *c = (Clap){ 0 };
}

/* ---- embedding ----------------------------------------------------------------------------- */

/* The most tokens that a text may have: places begin after pad. */
static int longest_text(const Clap *c)
{
    const int room = c->text.positions - c->text.pad - 1, most = tok_max_length(c->tok);
    return most > 0 ? imin(room, most) : room;
}

size_t clap_memory(const Clap *c)
{
    Arena m = { 0 };
    clap_text(&m, &c->text, NULL, longest_text(c));
    m.used = 0;
    clap_audio(&m, c->audio, NULL);
    return m.peak;
}

size_t clap_mel_size(const Clap *c)
{
    return (size_t)(c->audio->spec * c->audio->ratio * c->audio->mels);
}
Tensor clap_sound(Arena *m, const Clap *c, const float *mel)
{
    return clap_audio(m, c->audio, mel);
}

/* Out of the arena, when it was large enough and the numbers are numbers. */
static bool take_features(const Clap *c, const Arena *m, Tensor x, const char *what, float *out,
                          Error *e)
{
    if (!m->base)
        return fail(e, "%s: out of memory: needed an arena of %zu bytes, found %zu", what, m->peak,
                    m->size);
    if (!all_finite(x))
        return fail(e, "%s: %s embedding: not finite: the weights hold NaN or infinity",
                    c->weights.path, what);
    to_host(x, out);
    return true;
}

bool clap_embed_text(const Clap *c, Arena *m, const char *text, float *out, int *lost, Error *e)
{
    Ids ids = { 0 };
    int cut = 0;
    const int most = longest_text(c);
    const size_t top = m->used;
    bool ok = tok_encode(c->tok, text, strlen(text), &ids, e);
    if (ok && ids.count > most) ok = tok_fit(c->tok, &ids, most, &cut, e);
    ok = ok && take_features(c, m, clap_text(m, &c->text, ids.at, ids.count), "text", out, e);
    m->used = top;
    ids_free(&ids);
    if (lost) *lost = cut;
    return ok;
}

/* One window of n samples at the model's rate. */
static bool embed_window(const Clap *c, Arena *m, const float *x, size_t n, float *out, Error *e)
{
    const size_t top = m->used;
    float *mel = hear(c->audio, x, n, e);
    const bool ok = mel && take_features(c, m, clap_audio(m, c->audio, mel), "sound", out, e);
    m->used = top;
    free(mel);
    return ok;
}

/* Whole windows side by side, the last one moved back to the end: the mean of their directions. */
static bool embed_windows(const Clap *c, Arena *m, const Sound *s, float *out, Error *e)
{
    const size_t window = (size_t)c->audio->samples, dim = (size_t)c->dim;
    const size_t count = (s->frames + window - 1) / window;
    double *sum = calloc(dim, sizeof *sum);
    bool ok = sum || fail(e, "out of memory: needed %zu bytes", dim * sizeof *sum);
    for (size_t i = 0; i < count && ok; i++) {
        const size_t at = zmin(i * window, s->frames - window);
        trace_enter("window%d", (int)i);
        ok = embed_window(c, m, s->at + at, window, out, e);
        trace_leave();
        if (ok) normalize(out, c->dim);
        for (size_t j = 0; j < dim && ok; j++) sum[j] += out[j];
    }
    for (size_t j = 0; j < dim && ok; j++) out[j] = (float)(sum[j] / (double)count);
    free(sum);
    return ok;
}

bool clap_embed_sound(const Clap *c, Arena *m, const Sound *s, float *out, Error *e)
{
    size_t count;
    Sound mono = { .rate = s->rate, .channels = s->channels, .frames = s->frames };
    if (!s->frames || s->channels < 1) return fail(e, "sound: found no samples, want at least one");
    if (!size_mul(s->frames, (size_t)s->channels, &count) || count > SIZE_MAX / sizeof(float)
        || !(mono.at = malloc(count * sizeof(float))))
        return fail(e, "out of memory: needed room for %zu samples", s->frames);
    memcpy(mono.at, s->at, count * sizeof(float));
    sound_mono(&mono);
    bool ok = sound_resample(&mono, c->audio->rate, e);
    for (size_t i = 0; i < mono.frames && ok; i++)
        ok = isfinite(mono.at[i])
            || fail(e, "sound: found NaN or infinity at sample %zu, want numbers", i);
    if (ok && mono.frames <= (size_t)c->audio->samples)
        ok = embed_window(c, m, mono.at, mono.frames, out, e);
    else if (ok)
        ok = embed_windows(c, m, &mono, out, e);
    sound_free(&mono);
    return ok;
}
