/* test_opencl.c - every operation on an OpenCL device and here, on odd shapes: the same bits where
 * the device promises them, else within OPENCL_ERROR.  A build without OPENCL=1, or a machine
 * without a device, has one thing to test: that it says so.  tests/opencl.sh runs this before a
 * library that fails on purpose. */
#include "../device.h"
#include "../io.h"
#include "../opencl.h"
#include "test.h"

enum { ROOM = 1 << 22 };                               /* floats of all weights of a case */

static float *pool;
static size_t pooled;
static uint32_t state;

static float noise(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state / 2147483648.0f;
}

static Tensor random_tensor(Arena *m, int b, int h, int w, int c)
{
    Tensor x = tensor(m, b, h, w, c);
    for (size_t i = 0; m->base && i < tensor_count(x); i++) x.at[i] = noise();
    host_wrote(x);
    return x;
}

/* A weight on the host: the upper halves of floats as BF16, as F16 any finite pattern. */
static Weight random_weight(int type, int rank, int a, int b, int c, int d)
{
    Weight w = { pool + pooled, type, rank, { a, b, c, d } };
    const size_t n = weight_count(w);
    uint16_t *halves = (uint16_t *)(void *)(pool + pooled);
    for (size_t i = 0; i < n; i++) {
        const float x = noise();
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (type == F32) pool[pooled + i] = x;
        else halves[i] = (uint16_t)(type == BF16 ? bits >> 16 : (bits >> 16 & 0xbfff) % 0xbc00);
    }
    pooled += n;
    return w;
}

static Linear layer(int type, int o, int i, int kh, int kw)
{
    Linear w = { random_weight(type, 4, o, i, kh, kw), random_weight(type, 1, o, 1, 1, 1) };
    if (kh == 1 && kw == 1) w.w.rank = 2;
    return w;
}
static Linear rows_layer(int type, int o, int i, int k)
{
    Linear w = layer(type, o, i, k, 1);
    w.w.rank = 3;
    return w;
}

/* ---- the operations -------------------------------------------------------------------------- */

static Tensor do_linear(Arena *m)
{
    const Linear w = layer(F16, 67, 1030, 1, 1);
    return linear_act(m, random_tensor(m, 2, 35, 1, 1030), &w, SILU);
}
static Tensor do_linear_plus(Arena *m)
{
    const Linear w = layer(BF16, 130, 77, 1, 1);
    const Tensor each = random_tensor(m, 3, 1, 1, 130);
    return linear_plus(m, random_tensor(m, 3, 5, 7, 77), &w, each);
}
static Tensor do_linear_into(Arena *m)
{
    Linear w = layer(F32, 33, 513, 1, 1);
    w.b = (Weight){ 0 };
    Tensor y = random_tensor(m, 1, 90, 1, 33);
    linear_into(m, y, concat(random_tensor(m, 1, 90, 1, 500), random_tensor(m, 1, 90, 1, 13)), &w);
    return y;
}
static Tensor do_geglu(Arena *m)
{
    const Linear w = layer(F16, 2 * 45, 51, 1, 1);
    return geglu(m, random_tensor(m, 2, 70, 1, 51), &w);
}
static Tensor do_changed(Arena *m)
{
    const Linear w = layer(F16, 40, 60, 1, 1);
    static Change c[2];
    for (int i = 0; i < 2; i++)
        c[i] = (Change){ .weight = w.w.at, .scale = 0.7f, .order = i,
                         .up = random_weight(F16, 2, 40, 35 + i, 1, 1),
                         .down = random_weight(F32, 2, 35 + i, 60, 1, 1) };
    m->changes = c;
    m->change_count = 2;
    Tensor y = linear(m, random_tensor(m, 1, 9, 1, 60), &w);
    m->change_count = 0;
    return y;
}
static Tensor do_conv(Arena *m)
{
    const Linear w = layer(F16, 20, 11, 3, 3);
    const Window at = { .stride = 2, .before = 0, .after = 1 };
    return conv2d(m, random_tensor(m, 2, 13, 9, 11), &w, at);
}
static Tensor do_resized(Arena *m)
{
    const Linear w = layer(F32, 5, 7, 3, 3);
    const Window at = { .stride = 1, .before = 1, .after = 1, .h = 11, .w = 7 };
    return conv2d(m, random_tensor(m, 1, 6, 5, 7), &w, at);
}
static Tensor do_winograd(Arena *m)
{
    const Linear w = layer(F16, 48, 80, 3, 3);
    Tensor r = random_tensor(m, 2, 13, 10, 48);
    return conv2d_plus(m, random_tensor(m, 2, 13, 10, 80), &w, SAME3, r);
}
static Tensor do_winograd_around(Arena *m)
{
    const Linear w = layer(BF16, 16, 32, 3, 3);
    Tensor each = random_tensor(m, 1, 1, 1, 16);
    m->wrap = true;
    Window at = SAME3;
    at.h = 14, at.w = 18;
    Tensor y = conv2d_plus(m, random_tensor(m, 2, 7, 9, 32), &w, at, each);
    m->wrap = false;
    return y;
}
static Tensor do_winograd_band(Arena *m)
{
    const Linear w = layer(F16, 16, 16, 3, 3);
    const Window at = { .stride = 1, .before = 1, .after = 1, .above = 2, .below = 3 };
    return conv2d(m, random_tensor(m, 1, 19, 12, 16), &w, at);
}
static Tensor do_conv1d(Arena *m)
{
    const Linear w = rows_layer(F32, 32, 48, 7);
    return conv1d_leaky(m, random_tensor(m, 1, 101, 1, 48), &w, 3, 0.1f);
}
static Tensor do_conv1d_narrow(Arena *m)
{
    const Linear w = rows_layer(F16, 3, 5, 5);
    return conv1d_leaky(m, random_tensor(m, 2, 31, 1, 5), &w, 2, 0.2f);
}
static Tensor do_transposed(Arena *m)
{
    const Linear w = { random_weight(F16, 3, 24, 10, 8, 1), random_weight(F32, 1, 10, 1, 1, 1) };
    return conv1d_transposed(m, random_tensor(m, 2, 17, 1, 24), &w, 4, 2);
}
static Tensor do_attention(Arena *m)
{
    Tensor q = random_tensor(m, 2, 70, 1, 3 * 20), k = random_tensor(m, 2, 300, 1, 3 * 20);
    return attention(m, q, k, random_tensor(m, 2, 300, 1, 3 * 20), 3, false);
}
static Tensor do_causal(Arena *m)
{
    Tensor q = random_tensor(m, 2, 77, 1, 64), k = random_tensor(m, 2, 77, 1, 64);
    return attention(m, q, k, random_tensor(m, 2, 77, 1, 64), 2, true);
}
static Tensor do_biased(Arena *m)
{
    Tensor x = random_tensor(m, 4, 16, 1, 24);
    const Weight bias = random_weight(F32, 3, 2, 16, 16, 1),
                 mask = random_weight(F32, 3, 2, 16, 16, 1);
    return attention_biased(m, x, x, x, 2, bias.at, mask.at, 2);
}
static Tensor do_map(Arena *m)
{
    Tensor q = random_tensor(m, 1, 9, 8, 30);
    return attention_map(m, q, random_tensor(m, 1, 77, 1, 30), 3);
}
static Tensor do_layer_norm(Arena *m)
{
    const Norm w = { random_weight(F16, 1, 77, 1, 1, 1), random_weight(F16, 1, 77, 1, 1, 1) };
    return layer_norm(m, random_tensor(m, 2, 9, 1, 77), &w, 1e-5f);
}
static Tensor do_group_norm(Arena *m)
{
    const Norm w = { random_weight(F32, 1, 30, 1, 1, 1), random_weight(F16, 1, 30, 1, 1, 1) };
    Tensor x = concat(random_tensor(m, 2, 41, 29, 13), random_tensor(m, 2, 41, 29, 17));
    return group_norm(m, x, &w, 3, 1e-5f, SILU);
}
static Tensor do_large_norm(Arena *m)
{
    const Norm w = { random_weight(F32, 1, 320, 1, 1, 1), random_weight(F32, 1, 320, 1, 1, 1) };
    return group_norm(m, random_tensor(m, 1, 64, 64, 320), &w, 32, 1e-5f, SILU);
}
static Tensor do_acts(Arena *m)
{
    static const Act acts[] = { SILU, GELU, GELU_TANH, QUICK_GELU, RELU, TANH };
    Tensor y = tensor(m, 6, 5, 1, 13);
    for (int i = 0; i < 6; i++) {
        Tensor x = random_tensor(m, 1, 5, 1, 13);
        affine_(x, 0.1f, 7, 1.5f);
        act_(x, acts[i]);
        copy_to(item(y, i), x);
    }
    leaky_relu_(y, 0.3f);
    return y;
}
static Tensor do_sums(Arena *m)
{
    Tensor x = random_tensor(m, 3, 7, 1, 9), y = random_tensor(m, 1, 7, 1, 9);
    add_(x, y);
    mix_(x, random_tensor(m, 3, 7, 1, 9), random_tensor(m, 3, 7, 1, 9));
    return x;
}
static Tensor do_mean(Arena *m) { return mean_rows(m, random_tensor(m, 1, 91, 1, 37)); }
static Tensor do_rows(Arena *m)
{
    const Weight table = random_weight(F16, 2, 11, 9, 1, 1),
                 places = random_weight(BF16, 2, 4, 9, 1, 1);
    Tensor x = rows(m, table, (const int[]){ 3, 0, 10, 11, 3, 7, 1, 2 }, 2, 4);
    add_rows_(x, places);
    x = prepend(m, random_weight(F32, 1, 9, 1, 1, 1), x);
    return rows_at(m, x, (const int[]){ 4, -1, 0, 9, 9, 2 }, 1, 3, 2);
}
static Tensor do_patches(Arena *m) { return patches(m, random_tensor(m, 2, 8, 12, 3), 4); }
static Tensor do_keep(Arena *m)
{
    const size_t top = m->used;
    tensor(m, 1, 1, 1, 100);
    Tensor x = random_tensor(m, 1, 50, 1, 7);              /* slides down over itself */
    return copy(m, concat(keep(m, top, x), random_tensor(m, 1, 50, 1, 4)));
}

static const struct { const char *name; Tensor (*run)(Arena *m); } operations[] = {
    { "linear", do_linear }, { "linear_plus", do_linear_plus }, { "linear_into", do_linear_into },
    { "geglu", do_geglu }, { "changed linear", do_changed }, { "conv2d", do_conv },
    { "conv2d, resized", do_resized }, { "conv2d, Winograd", do_winograd },
    { "conv2d, around", do_winograd_around }, { "conv2d, a band", do_winograd_band },
    { "conv1d", do_conv1d }, { "conv1d, narrow", do_conv1d_narrow },
    { "conv1d_transposed", do_transposed }, { "attention", do_attention },
    { "attention, causal", do_causal }, { "attention, biased", do_biased },
    { "attention_map", do_map }, { "layer_norm", do_layer_norm }, { "group_norm", do_group_norm },
    { "group_norm, large", do_large_norm },
    { "activations", do_acts }, { "add_ and mix_", do_sums }, { "mean_rows", do_mean },
    { "rows", do_rows }, { "patches", do_patches }, { "keep and copy", do_keep },
};

/* The result of one operation over a fresh arena; the caller frees. */
static float *result(Tensor (*run)(Arena *m), size_t *count, Error *e)
{
    Arena m = { 0 };
    state = 1;
    pooled = 0;
    run(&m);
    if (!arena_open(&m, m.peak, NULL, e)) return NULL;
    state = 1;
    pooled = 0;
    Tensor y = run(&m);
    *count = tensor_count(y);
    float *out = malloc(*count * sizeof *out);
    to_host(y, out);
    arena_close(&m);
    return out;
}

static bool exact;
static void learn(void *self, int number, const OpenclDevice *d)
{
    (void)self;
    if (!number) exact = d->exact;
}

TEST(every_operation_gives_what_the_cpu_gives)
{
    Error e = { 0 };
    pool = malloc(ROOM * sizeof *pool);
    opencl_devices(learn, NULL, &e);
    if (e.code) {
        CHECK(!opencl_open(0, &e));
        printf("SKIPPED: %s\n", e.text);
        return;
    }
    machine_choose(1, NULL, &e);
    for (size_t i = 0; i < countof(operations); i++) {
        size_t n = 0, same = 0;
        float *want = result(operations[i].run, &n, &e), *got = NULL;
        CHECK(opencl_open(0, &e));
        got = result(operations[i].run, &n, &e);
        for (size_t k = 0; k < n; k++) same += !memcmp(&got[k], &want[k], sizeof *got);
        const double worst = worst_relative(got, want, n);
        printf("%-20s %zu of %zu equal, off by %.1e\n", operations[i].name, same, n, worst);
        CHECK(exact ? same == n : worst <= OPENCL_ERROR);
        CHECK(opencl_worked(&e));
        opencl_close();
        free(want);
        free(got);
    }
    free(pool);
}
