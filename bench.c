/* bench.c - the verb that measures.  Times differ by machine; the sums do not. */
#include "audioldm.h"
#include "command.h"
#include "sd.h"

#include <stdlib.h>

enum { ROUNDS = 3 };                       /* the best of */

/* ---- one measurement ------------------------------------------------------------------------- */

/* What is measured: an operation over the arena, returning what it made. */
typedef Tensor Run(Arena *m, const void *self);

static void tensor_sha256(Tensor x, char hex[65])
{
    Sha256 sum;
    host_reads(x);
    sha256_start(&sum);
    sha256_add(&sum, x.at, tensor_count(x) * sizeof *x.at);
    sha256_end(&sum, hex);
}

/* bytes counts for what moves numbers and multiplies none. */
static void print_result(const Args *a, const char *name, double seconds, double macs, double bytes,
                         double peak, size_t memory, const char *sum)
{
    const double rate = macs / seconds * 1e-9, moved = macs > 0 ? 0 : bytes / seconds * 1e-9;
    char size[32];
    if (a->json)
        printf("{\"name\": \"%s\", \"seconds\": %.6f, \"gmac_per_s\": %.3f, \"share\": %.4f, "
               "\"gb_per_s\": %.3f, \"memory\": %zu, "
               "\"sha256\": \"%s\"}\n",
               name, seconds, rate, rate * 1e9 / peak, moved, memory, sum);
    else if (macs > 0)
        printf("%-28s\t%10.3f ms\t%8.1f GMAC/s\t%5.1f %%\t%8s\t%.16s\n", name, seconds * 1e3, rate,
               1e11 * rate / peak, opt_size(memory, size), sum);
    else
        printf("%-28s\t%10.3f ms\t%8.1f GB/s  \t        \t%8s\t%.16s\n", name, seconds * 1e3, moved,
               opt_size(memory, size), sum);
    fflush(stdout);
}

/* Count, give it that much memory, run it, print the best time. */
static bool measure(const Args *a, const char *name, Run *run, const void *self, double peak,
                    Error *e)
{
    Arena count = { 0 }, m;
    char sum[65] = "";
    double best = 0, bytes = 0;
    run(&count, self);
    if (!arena_open(&m, count.peak, NULL, e)) return false;
    for (int i = 0; i < ROUNDS; i++) {
        m.used = 0;
        const double start = now();
        Tensor y = run(&m, self);
        machine_wait();
        const double seconds = now() - start;
        if (!i || seconds < best) best = seconds;
        if (!i) tensor_sha256(y, sum);
        bytes = 2.0 * (double)tensor_count(y) * sizeof(float);             /* read and written */
    }
    print_result(a, name, best, count.macs, bytes, peak, count.peak, sum);
    arena_close(&m);
    return true;
}

/* ---- kernels --------------------------------------------------------------------------------- */

/* One layer's shape: of a UNet at 512x512, of the VAE, of CLIP, of a vocoder. */
typedef struct {
    const char *name;
    enum { LINEAR, CONV, STRIDED, ROWS, ATTENTION, GROUP_NORM, LAYER_NORM } op;
    int h, w, in, out, keys, heads;        /* keys, heads: taps and dilation of ROWS */
} Shape;

static const Shape shapes[] = {
    { "linear 4096x320x320", LINEAR, 4096, 1, 320, 320, 0, 0 },
    { "linear 4096x2560x320", LINEAR, 4096, 1, 320, 2560, 0, 0 },
    { "linear 1024x640x640", LINEAR, 1024, 1, 640, 640, 0, 0 },
    { "linear 256x1280x1280", LINEAR, 256, 1, 1280, 1280, 0, 0 },
    { "conv 3x3 64x64 320>320", CONV, 64, 64, 320, 320, 0, 0 },
    { "conv 3x3 32x32 640>640", CONV, 32, 32, 640, 640, 0, 0 },
    { "conv 3x3 16x16 1280>1280", CONV, 16, 16, 1280, 1280, 0, 0 },
    { "conv 3x3 8x8 1280>1280", CONV, 8, 8, 1280, 1280, 0, 0 },
    { "conv 3x3 64x64 512>512", CONV, 64, 64, 512, 512, 0, 0 },
    { "conv 3x3/2 64x64 320>320", STRIDED, 64, 64, 320, 320, 0, 0 },
    { "conv 3/1 5120 512>512", ROWS, 5120, 1, 512, 512, 3, 1 },
    { "conv 11/5 5120 512>512", ROWS, 5120, 1, 512, 512, 11, 5 },
    { "conv 7/3 40960 128>128", ROWS, 40960, 1, 128, 128, 7, 3 },
    { "conv 3/1 163840 32>32", ROWS, 163840, 1, 32, 32, 3, 1 },
    { "conv 11/5 163840 32>32", ROWS, 163840, 1, 32, 32, 11, 5 },
    { "attention 4096x4096 8x40", ATTENTION, 4096, 1, 320, 0, 4096, 8 },
    { "attention 1024x1024 8x80", ATTENTION, 1024, 1, 640, 0, 1024, 8 },
    { "attention 4096x77 8x40", ATTENTION, 4096, 1, 320, 0, 77, 8 },
    { "group norm 64x64x320", GROUP_NORM, 64, 64, 320, 0, 0, 0 },
    { "layer norm 4096x320", LAYER_NORM, 4096, 1, 320, 0, 0, 0 },
};

/* A shape with numbers to work on. */
typedef struct { const Shape *shape; Linear linear; Norm norm; Tensor x, keys; } Kernel;

static Tensor run_kernel(Arena *m, const void *self)
{
    const Kernel *k = self;
    const Shape *s = k->shape;
    switch (s->op) {
    case LINEAR: return linear(m, k->x, &k->linear);
    case CONV: return conv2d(m, k->x, &k->linear, SAME3);
    case STRIDED:
        return conv2d(m, k->x, &k->linear, (Window){ .stride = 2, .before = 1, .after = 1 });
    case ROWS: return conv1d_leaky(m, k->x, &k->linear, s->heads, 0.1f);
    case ATTENTION: return attention(m, k->x, k->keys, k->keys, s->heads, false);
    case GROUP_NORM: return group_norm(m, k->x, &k->norm, 32, 1e-5f, SILU);
    case LAYER_NORM: return layer_norm(m, k->x, &k->norm, 1e-5f);
    }
    return k->x;
}

/* The same numbers everywhere, in -1..1, times scale: a multiplicative hash of the index. */
static void fill(float *x, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t h = (uint32_t)i * 2654435761u;
        h = (h ^ h >> 15) * 2246822519u;
        x[i] = scale * ((float)(h >> 8) * 0x1p-23f - 1.0f);
    }
}

static bool bench_kernel(const Args *a, const Shape *s, double peak, Error *e)
{
    const int taps = s->op == CONV || s->op == STRIDED ? 9 : s->op == ROWS ? s->keys : 1;
    const size_t pixels = (size_t)s->h * (size_t)s->w, in = (size_t)s->in,
                 weights = (size_t)s->out * in * (size_t)taps;
    Kernel k = { .shape = s,
                 .x = { .b = 1, .h = s->h, .w = s->w, .c = s->in },
                 .keys = { .b = 1, .h = s->keys, .w = 1, .c = s->in } };
    float *x = malloc(pixels * in * sizeof *x), *w = malloc((weights + in) * sizeof *w);
    float *keys = malloc(((size_t)s->keys * in + 1) * sizeof *keys);
    bool ok = (x && w && keys) || fail(e, "out of memory: needed room for %s", s->name);
    if (ok) {
        fill(x, pixels * in, 1);
        fill(keys, (size_t)s->keys * in, 1);
        fill(w, weights + in, 0.1f);
        k.x.at = x;
        k.keys.at = keys;
        k.linear.w = taps == 9 ? (Weight){ w, F32, 4, { s->out, s->in, 3, 3 } }
            : taps > 1 ? (Weight){ w, F32, 3, { s->out, s->in, taps } }
            : (Weight){ w, F32, 2, { s->out, s->in } };
        k.norm.w = k.norm.b = (Weight){ w, F32, 1, { s->in } };
        ok = measure(a, s->name, run_kernel, &k, peak, e);
    }
    free(x);
    free(w);
    free(keys);
    return ok;
}

/* ---- models ---------------------------------------------------------------------------------- */

typedef struct {
    const Sd *sd; const Clip *clip; const Clap *clap; const AudioLdm *audioldm;
    int h, w, frames, mels;                /* of a sound: latents, mel */
    const int *ids; float *values;
} Parts;

static Tensor run_text(Arena *m, const void *self)
{
    const Parts *k = self;
    return clip_text(m, &k->sd->text, k->ids, 2, k->sd->text.positions, 0);
}

static Tensor run_unet(Arena *m, const void *self)
{
    const Parts *k = self;
    const Unet *u = &k->sd->unet;
    Tensor context = from_host(m, 2, k->sd->text.positions, 1, u->context, k->values);
    Tensor x = from_host(m, 2, u->size, u->size, u->in, k->values);
    return unet(m, u, x, 500, context, (Tensor){ 0 });
}

static Tensor run_decode(Arena *m, const void *self)
{
    const Parts *k = self;
    const int side = k->sd->unet.size;
    return vae_decode(m, &k->sd->vae, from_host(m, 1, side, side, k->sd->vae.latents, k->values));
}

static Tensor run_clip_text(Arena *m, const void *self)
{
    const Parts *k = self;
    return clip_text(m, &k->clip->text, k->ids, 1, k->clip->text.positions, 0);
}

static Tensor run_clip_vision(Arena *m, const void *self)
{
    const Parts *k = self;
    const int side = k->clip->vision.size;
    return clip_vision(m, &k->clip->vision, from_host(m, 1, side, side, 3, k->values));
}

static Tensor run_clap_text(Arena *m, const void *self)
{
    const Parts *k = self;
    return clap_text(m, &k->clap->text, k->ids, 16);
}

static Tensor run_clap_sound(Arena *m, const void *self)
{
    const Parts *k = self;
    return clap_sound(m, k->clap, k->values);
}

static Tensor run_audioldm_text(Arena *m, const void *self)
{
    const Parts *k = self;
    return clap_text(m, &k->audioldm->text, k->ids, 16);
}

static Tensor run_audioldm_unet(Arena *m, const void *self)
{
    const Parts *k = self;
    const Unet *u = &k->audioldm->unet;
    Tensor class = from_host(m, 2, 1, 1, u->class_width, k->values);
    Tensor x = from_host(m, 2, k->h, k->w, u->in, k->values);
    return unet(m, u, x, 500, (Tensor){ 0 }, class);
}

static Tensor run_audioldm_decode(Arena *m, const void *self)
{
    const Parts *k = self;
    const Vae *v = &k->audioldm->vae;
    return vae_decode(m, v, from_host(m, 1, k->h, k->w, v->latents, k->values));
}

static Tensor run_vocoder(Arena *m, const void *self)
{
    const Parts *k = self;
    return hifigan(m, &k->audioldm->vocoder, from_host(m, 1, k->frames, 1, k->mels, k->values));
}

/* Ids that any vocabulary has, and numbers enough for every input. */
static bool model_inputs(Parts *k, int positions, size_t values, int **ids, Error *e)
{
    *ids = calloc(2 * (size_t)positions, sizeof **ids);
    k->values = malloc(values * sizeof *k->values);
    if (!*ids || !k->values) return fail(e, "out of memory: needed room for the inputs");
    for (int i = 0; i < 2 * positions; i++) (*ids)[i] = i % positions % 16;
    fill(k->values, values, 1);
    k->ids = *ids;
    return true;
}

static bool bench_sd(const Args *a, const char *folder, double peak, Error *e)
{
    Sd sd;
    if (!sd_open(&sd, folder, NULL, e)) return false;
    Parts k = { .sd = &sd };
    int *ids = NULL;
    const size_t side = (size_t)sd.unet.size, channels = (size_t)imax(sd.unet.in, sd.vae.latents);
    const size_t values =
        zmax(2 * side * side * channels, 2 * (size_t)sd.text.positions * (size_t)sd.unet.context);
    bool ok = model_inputs(&k, sd.text.positions, values, &ids, e)
        && measure(a, "sd text encoder, two texts", run_text, &k, peak, e)
        && measure(a, "sd unet, a guided step", run_unet, &k, peak, e)
        && measure(a, "sd vae decoder", run_decode, &k, peak, e);
    free(ids);
    free(k.values);
    sd_close(&sd);
    return ok;
}

static bool bench_clip(const Args *a, const char *folder, double peak, Error *e)
{
    Clip clip;
    if (!clip_open(&clip, folder, NULL, e)) return false;
    Parts k = { .clip = &clip };
    int *ids = NULL;
    bool ok = model_inputs(&k, clip.text.positions,
                           3 * (size_t)clip.vision.size * (size_t)clip.vision.size, &ids, e)
              && measure(a, "clip text", run_clip_text, &k, peak, e)
              && measure(a, "clip picture", run_clip_vision, &k, peak, e);
    free(ids);
    free(k.values);
    clip_close(&clip);
    return ok;
}

static bool bench_clap(const Args *a, const char *folder, double peak, Error *e)
{
    Clap clap;
    if (!clap_open(&clap, folder, NULL, e)) return false;
    Parts k = { .clap = &clap };
    int *ids = NULL;
    bool ok = model_inputs(&k, 16, clap_mel_size(&clap), &ids, e)
        && measure(a, "clap text, 16 tokens", run_clap_text, &k, peak, e)
        && measure(a, "clap sound, a window", run_clap_sound, &k, peak, e);
    free(ids);
    free(k.values);
    clap_close(&clap);
    return ok;
}

static bool bench_audioldm(const Args *a, const char *folder, double peak, Error *e)
{
    AudioLdm audioldm;
    if (!audioldm_open(&audioldm, folder, NULL, e)) return false;
    Parts k = { .audioldm = &audioldm };
    int *ids = NULL, channels;
    AudioRequest r = audioldm_defaults(&audioldm);
    r.seconds = 10.24;
    audioldm_shape(&audioldm, &r, &channels, &k.h, &k.w, &k.frames, &k.mels);
    const size_t latents = 2 * (size_t)channels * (size_t)k.h * (size_t)k.w,
                 mel = (size_t)k.frames * (size_t)k.mels,
                 class = 2 * (size_t)audioldm.unet.class_width;
    bool ok = model_inputs(&k, 16, zmax(class, zmax(latents, mel)), &ids, e)
        && measure(a, "audioldm text, 16 tokens", run_audioldm_text, &k, peak, e)
        && measure(a, "audioldm unet, a guided step", run_audioldm_unet, &k, peak, e)
        && measure(a, "audioldm vae decoder", run_audioldm_decode, &k, peak, e)
        && measure(a, "audioldm vocoder, 10.24 s", run_vocoder, &k, peak, e);
    free(ids);
    free(k.values);
    audioldm_close(&audioldm);
    return ok;
}

/* Every part of the bundle, or the one model that -m or an option of a part names. */
static bool bench_models(const Args *a, double peak, Error *e)
{
    typedef bool Bench(const Args *a, const char *folder, double peak, Error *e);
    static const struct { const char *name; Bench *bench; } parts[] = {
        { "clip", bench_clip }, { "sd", bench_sd }, { "clap", bench_clap },
        { "audioldm", bench_audioldm } };
    bool ok = true, any = false;
    for (size_t i = 0; ok && i < countof(parts); i++) {
        if (!part_given(a, parts[i].name, e)) {
            if (e->code) return false;
            continue;
        }
        char *folder = model_part(a, parts[i].name, e);
        any = true;
        ok = folder && parts[i].bench(a, folder, peak, e);
        free(folder);
    }
    if (any) return ok;
    free(model_part(a, "sd", e));                          /* to say why */
    return false;
}

/* ---- the machine ----------------------------------------------------------------------------- */

/* The processor's name, as Linux knows it. */
static void cpu_name(char *out, size_t room)
{
    static const char *const keys[] = { "model name", "Model", "Hardware" };
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(out, room, "unknown");
    while (f && fgets(line, sizeof line, f))
        for (size_t i = 0; i < countof(keys); i++) {
            const char *colon = strchr(line, ':');
            if (strncmp(line, keys[i], strlen(keys[i])) || !colon) continue;
            snprintf(out, room, "%s", colon + 1 + strspn(colon + 1, " "));
            out[strcspn(out, "\n")] = 0;
            fclose(f);
            return;
        }
    if (f) fclose(f);
}

static double print_machine(const Args *a)
{
    char cpu[128];
    const double peak = machine_peak();
    cpu_name(cpu, sizeof cpu);
    if (machine_device_name()) {
        if (a->json) {
            fputs("{\"device\": ", stdout);
            print_json(machine_device_name());
            printf(", \"peak_gmac_per_s\": %.3f, \"version\": \"%s\"}\n", peak * 1e-9, VERSION);
        } else
            printf("%s, by OpenCL: peak %.1f GMAC/s\n", machine_device_name(), peak * 1e-9);
    } else if (a->json) {
        fputs("{\"cpu\": ", stdout);
        print_json(cpu);
        printf(
            ", \"threads\": %d, \"isa\": \"%s\", \"peak_gmac_per_s\": %.3f, \"version\": \"%s\"}\n",
            machine_threads(), machine_isa(), peak * 1e-9, VERSION);
    } else
        printf("%s, %d threads, %s: peak %.1f GMAC/s\n", cpu, machine_threads(), machine_isa(),
               peak * 1e-9);
    fflush(stdout);
    return peak;
}

int verb_bench(Args *a, Error *e)
{
    if (!choose_machine(a, e)) return 1;
    const bool model = a->model || a->clip || a->sd || a->clap || a->audioldm
        || getenv("FUSION_MODEL");
    const double peak = print_machine(a);
    for (size_t i = 0; i < countof(shapes); i++)
        if (!bench_kernel(a, &shapes[i], peak, e)) return 1;
    return !model || bench_models(a, peak, e) ? 0 : 1;
}
