/* hifigan.c - HiFi-GAN: from a mel spectrogram to samples.
 * Read in this order: the generator, opening.
 * Not here: training, the discriminators. */
#include "hifigan.h"

#include <math.h>
#include <stdlib.h>

/* ---- the generator --------------------------------------------------------------------------- */

/* (x - mean) / scale, mel by mel. */
static Tensor normalized(Arena *m, const HifiGan *g, Tensor x)
{
    Tensor y = copy(m, x);
    host_reads(y);
    for (int j = 0; m->base && j < g->mels; j++) {
        float mean, scale;
        weight_read(g->mean, (size_t)j, 1, &mean);
        weight_read(g->scale, (size_t)j, 1, &scale);
        for (size_t i = (size_t)j; i < tensor_count(y); i += (size_t)g->mels)
            y.at[i] = (y.at[i] - mean) / scale;
    }
    host_wrote(y);
    return y;
}

/* x + conv2(leaky(conv1(leaky(x)))), dilation after dilation       HifiGanResidualBlock.forward */
static Tensor resblock(Arena *m, const HifiResblock *w, float slope, Tensor x)
{
    Tensor y = tensor(m, x.b, x.h, 1, x.c);                                    /* [1,T,1,C] */
    const size_t top = m->used;
    for (int i = 0; i < w->dilations; i++) {
        Tensor h = conv1d_leaky(m, x, &w->conv1[i], w->dilation[i], slope);
        conv1d_leaky_to(m, y, h, &w->conv2[i], slope, x);
        x = y;
        m->used = top;
    }
    return y;
}

/* Multi-receptive field fusion: the mean of what all resblocks of one resolution make of x. */
static Tensor fusion(Arena *m, const HifiGan *g, const HifiResblock *blocks, Tensor x)
{
    Tensor sum = resblock(m, &blocks[0], g->slope, x);
    const size_t top = m->used;
    for (int j = 1; j < g->kernels; j++) {
        add_(sum, resblock(m, &blocks[j], g->slope, x));
        m->used = top;
    }
    affine_(sum, 0, 1, (float)g->kernels);
    return sum;
}

/* The last leaky relu has torch's slope, not the configured one.         SpeechT5HifiGan.forward */
Tensor hifigan(Arena *m, const HifiGan *g, Tensor mel)
{
    const size_t top = m->used;
    Tensor x = g->normalize ? normalized(m, g, mel) : mel;
    x = keep(m, top, conv1d(m, x, &g->pre, 1));                                /* [1,T,1,C] */
    trace(x, "conv_pre");
    for (int i = 0; i < g->ups; i++) {
        leaky_relu_(x, g->slope);
        const int pad = (g->up_kernel[i] - g->up_rate[i]) / 2;
        x = keep(m, top, conv1d_transposed(m, x, &g->up[i], g->up_rate[i], pad));
        trace(x, "upsampler.%d", i);                                           /* [1,rT,1,C/2] */
        x = keep(m, top, fusion(m, g, g->block[i], x));
    }
    leaky_relu_(x, 0.01f);
    x = conv1d(m, x, &g->post, 1);                                             /* [1,N,1,1] */
    act_(x, TANH);
    return keep(m, top, x);
}

size_t hifigan_samples(const HifiGan *g, int frames)
{
    size_t n = (size_t)frames;
    for (int i = 0; i < g->ups; i++)
        n = n * (size_t)g->up_rate[i] + (size_t)((g->up_kernel[i] - g->up_rate[i]) % 2);
    return n;
}

/* ---- configuration --------------------------------------------------------------------------- */

/* A list of 1 to most whole numbers, of which *n receives the count.  Absent: both keep theirs. */
static bool read_list(const Json *list, const char *name, int most, int low, int high, int *out,
                      int *n, const char *where, Error *e)
{
    if (!list || list->type == JSON_NULL) return true;
    if (list->type != JSON_ARRAY || list->count < 1 || list->count > most)
        return fail(e, "%s: %s: want a list of 1 to %d numbers", where, name, most);
    *n = 0;
    for (const Json *v = list->first; v; v = v->next) {
        const double number = v->type == JSON_NUMBER ? strtod(v->text, NULL) : NAN;
        if (!(number >= low && number <= high) || number != (int)number)
            return fail(e, "%s: %s: found %s, want whole numbers from %d to %d", where, name,
                        v->type == JSON_NUMBER ? v->text : "no number", low, high);
        out[(*n)++] = (int)number;
    }
    return true;
}

/* resblock_kernel_sizes and resblock_dilation_sizes, the same at every resolution. */
static bool read_blocks(HifiGan *g, const Json *config, const char *where, Error *e)
{
    int kernel[HIFIGAN_KERNELS] = { 3, 7, 11 };
    HifiResblock *first = g->block[0];
    g->kernels = 3;
    if (!read_list(json_get(config, "resblock_kernel_sizes"), "resblock_kernel_sizes",
                   HIFIGAN_KERNELS, 1, 1023, kernel, &g->kernels, where, e)) return false;
    const Json *lists = json_get(config, "resblock_dilation_sizes");
    if (lists && (lists->type != JSON_ARRAY || lists->count != g->kernels))
        return fail(e, "%s: resblock_dilation_sizes: want %d lists, one a kernel", where,
                    g->kernels);
    const Json *list = lists ? lists->first : NULL;
    for (int j = 0; j < g->kernels; j++, list = list ? list->next : NULL) {
        first[j] = (HifiResblock){ .kernel = kernel[j], .dilations = 3, .dilation = { 1, 3, 5 } };
        if (kernel[j] % 2 == 0)
            return fail(e, "%s: resblock_kernel_sizes: found %d, want odd numbers", where,
                        kernel[j]);
        if (!read_list(list, "resblock_dilation_sizes", HIFIGAN_DILATIONS, 1, 1023,
                       first[j].dilation, &first[j].dilations, where, e)) return false;
    }
    for (int i = 1; i < g->ups; i++) memcpy(g->block[i], first, sizeof g->block[i]);
    return true;
}

static bool read_config(HifiGan *g, const Json *config, const char *where, Error *e)
{
    double slope = 0.1;
    int kernels = 4;
    g->mels = 80;
    g->rate = 16000;
    g->width = 512;
    g->normalize = true;
    g->ups = 4;
    for (int i = 0; i < 4; i++) { g->up_rate[i] = 4; g->up_kernel[i] = 8; }
    const Json *type = json_get(config, "model_type");        /* transformers 4's and 5's word */
    if (!json_is(type, "hifigan") && !json_is(type, "speecht5_hifigan"))
        return fail(e, "%s: model_type: want hifigan; this folder holds another model", where);
    if (!json_int(config, "model_in_dim", 1, 1 << 12, &g->mels, where, e)
        || !json_int(config, "sampling_rate", 1000, 768000, &g->rate, where, e)
        || !json_int(config, "upsample_initial_channel", 1, 1 << 14, &g->width, where, e)
        || !json_float(config, "leaky_relu_slope", -10, 10, &slope, where, e)
        || !json_bool(config, "normalize_before", &g->normalize, where, e)
        || !read_list(json_get(config, "upsample_rates"), "upsample_rates", HIFIGAN_UPS, 1, 1024,
                      g->up_rate, &g->ups, where, e)
        || !read_list(json_get(config, "upsample_kernel_sizes"), "upsample_kernel_sizes",
                      HIFIGAN_UPS, 1, 4096, g->up_kernel, &kernels, where, e)) return false;
    if (kernels != g->ups)
        return fail(e, "%s: upsample_kernel_sizes: found %d, want %d, one a rate", where, kernels,
                    g->ups);
    int64_t hop = 1;
    for (int i = 0; i < g->ups; i++) {
        if (g->up_kernel[i] < g->up_rate[i])
            return fail(e, "%s: upsample_kernel_sizes: found %d at rate %d, want at least the rate",
                        where, g->up_kernel[i], g->up_rate[i]);
        hop *= g->up_rate[i];
        if (hop > 1 << 14)
            return fail(e, "%s: upsample_rates: found more than %d samples a frame", where,
                        1 << 14);
    }
    if (g->width >> g->ups < 1)
        return fail(e, "%s: upsample_initial_channel: found %d, want at least %d: each of %d "
                    "resolutions halves it", where, g->width, 1 << g->ups, g->ups);
    g->hop = (int)hop;
    g->slope = (float)slope;
    return read_blocks(g, config, where, e);
}

/* ---- binding --------------------------------------------------------------------------------- */

/* What is bound so far: the model, and how much of g->plain is in use. */
typedef struct { HifiGan *g; size_t used; } Binder;

/* Room for every weight of the file as float32. */
static bool plain_room(HifiGan *g, Error *e)
{
    size_t bytes = 0;
    for (int i = 0; i < g->weights.count; i++)
        bytes += (size_t)(g->weights.entries[i].end - g->weights.entries[i].begin);
    if (!g->plain && !size_mul(bytes, 2, &bytes)) bytes = SIZE_MAX;     /* from 16 bits to 32 */
    if (!g->plain) g->plain = malloc(bytes + 1);
    return g->plain || fail(e, "out of memory: needed %zu bytes for weights", bytes);
}

/* w = g v / |v|, the length taken over all but dimension 0                torch's weight_norm */
static Weight weight_norm(Binder *b, Weight length, Weight v)
{
    const size_t rows = (size_t)v.dim[0], n = weight_count(v) / rows;
    float *out = b->g->plain + b->used;
    b->used += rows * n;
    for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        float wanted;
        weight_read(v, r * n, n, out + r * n);
        weight_read(length, r, 1, &wanted);
        for (size_t i = 0; i < n; i++) sum += (double)out[r * n + i] * out[r * n + i];
        for (size_t i = 0; i < n; i++)
            out[r * n + i] = (float)(out[r * n + i] * ((double)wanted / sqrt(sum)));
    }
    return (Weight){ out, F32, v.rank, { v.dim[0], v.dim[1], v.dim[2] } };
}

/* A convolution [a,b,k] with its bias [o], stored plain or under weight norm. */
static bool conv_bind(Binder *binder, Linear *to, Dims dims, const char *prefix, Error *e)
{
    typedef struct { Weight w, length, b; } Conv;
    static const Bind plain[] = {
        { F(Conv, w), "weight", "abk", 0 }, { F(Conv, b), "bias", "o", 0 }, { 0 } };
    static const Bind normed[] = {
        { F(Conv, w), "weight_v|parametrizations.weight.original1", "abk", 0 },
        { F(Conv, length), "weight_g|parametrizations.weight.original0", "a11", 0 },
        { F(Conv, b), "bias", "o", 0 }, { 0 } };
    Weights *w = &binder->g->weights;
    Conv conv = { 0 };
    char v[96], original[96];
    snprintf(v, sizeof v, "%sweight_v", prefix);
    snprintf(original, sizeof original, "%sparametrizations.weight.original1", prefix);
    if (!weights_find(w, v) && !weights_find(w, original)) {
        if (!bind(w, &conv, plain, dims, e, "%s", prefix)) return false;
    } else {
        if (!bind(w, &conv, normed, dims, e, "%s", prefix) || !plain_room(binder->g, e))
            return false;
        conv.w = weight_norm(binder, conv.length, conv.w);
    }
    *to = (Linear){ conv.w, conv.b };
    return true;
}

static bool block_bind(Binder *b, int number, HifiResblock *r, int width, Error *e)
{
    const Dims dims = DIMS(['a'] = width, ['b'] = width, ['k'] = r->kernel, ['o'] = width);
    char prefix[64];
    for (int i = 0; i < r->dilations; i++) {
        snprintf(prefix, sizeof prefix, "resblocks.%d.convs1.%d.", number, i);
        if (!conv_bind(b, &r->conv1[i], dims, prefix, e)) return false;
        snprintf(prefix, sizeof prefix, "resblocks.%d.convs2.%d.", number, i);
        if (!conv_bind(b, &r->conv2[i], dims, prefix, e)) return false;
    }
    return true;
}

/* Transposed convolutions are stored [in,out,k], all others [out,in,k]. */
static bool generator_bind(HifiGan *g, Error *e)
{
    static const Bind table[] = {
        { F(HifiGan, mean), "mean", "m", OPTIONAL }, { F(HifiGan, scale), "scale", "m", OPTIONAL },
        { 0 } };
    Binder b = { g, 0 };
    Dims dims = DIMS(['a'] = g->width, ['b'] = g->mels, ['k'] = 7, ['o'] = g->width);
    char prefix[64];
    int width = g->width;
    if (!bind(&g->weights, g, table, DIMS(['m'] = g->mels), e, "%s", "")) return false;
    if (g->normalize && (!g->mean.at || !g->scale.at))
        return fail(e, "%s: mean and scale: missing, want them for normalize_before",
                    g->weights.path);
    if (!conv_bind(&b, &g->pre, dims, "conv_pre.", e)) return false;
    for (int i = 0; i < g->ups; i++, width /= 2) {
        dims = DIMS(['a'] = width, ['b'] = width / 2, ['k'] = g->up_kernel[i], ['o'] = width / 2);
        snprintf(prefix, sizeof prefix, "upsampler.%d.", i);
        if (!conv_bind(&b, &g->up[i], dims, prefix, e)) return false;
        for (int j = 0; j < g->kernels; j++)
            if (!block_bind(&b, i * g->kernels + j, &g->block[i][j], width / 2, e)) return false;
    }
    dims = DIMS(['a'] = 1, ['b'] = width, ['k'] = 7, ['o'] = 1);
    return conv_bind(&b, &g->post, dims, "conv_post.", e);
}

bool hifigan_open(HifiGan *g, const char *folder, Error *e)
{
    *g = (HifiGan){ 0 };
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && read_config(g, config, path, e)
        && weights_open(&g->weights, folder, "model|pytorch_model", e) && generator_bind(g, e);
    json_free(config);
    free(path);
    if (!ok) hifigan_close(g);
    return ok;
}

void hifigan_close(HifiGan *g)
{
    free(g->plain);
    weights_close(&g->weights);
    *g = (HifiGan){ 0 };
}
