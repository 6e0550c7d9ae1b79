/* test_ops.c - every operation against numbers that PyTorch printed (tests/ops.py), against its
 * plain twin in double on odd shapes, and against itself: the same bits for every instruction set
 * and thread count. */
#include "../io.h"
#include "../tensor.h"
#include "test.h"

static Arena arena;
static Weights fixture;

static void open_once(void)
{
    Error e = { 0 };
    if (arena.base) return;
    if (!arena_open(&arena, 512 << 20, NULL, &e)
        || !weights_open(&fixture, "tests/ops.safetensors", "", &e)) {
        printf("%s\n", e.text);
        exit(1);
    }
}

/* ---- from the fixture ------------------------------------------------------------------------ */

static Weight weight(const char *op, const char *part)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", op, part);
    const Entry *t = weights_find(&fixture, name);
    if (!t) { printf("%s is not in the fixture\n", name); exit(1); }
    Weight w = { t->at, t->type, t->rank, { 1, 1, 1, 1 } };
    for (int i = 0; i < t->rank; i++) w.dim[i] = (int)t->shape[i];
    return w;
}

/* [B,T,C] or [B,H,W,C]. */
static Tensor input(const char *op, const char *part)
{
    Weight w = weight(op, part);
    Tensor x = w.rank == 3 ? tensor(&arena, w.dim[0], w.dim[1], 1, w.dim[2])
                           : tensor(&arena, w.dim[0], w.dim[1], w.dim[2], w.dim[3]);
    weight_read(w, 0, weight_count(w), x.at);
    return x;
}

static void same_as_torch(Tensor y, const char *op, const char *part, double bound)
{
    Tensor want = input(op, part);
    CHECK(tensor_count(y) == tensor_count(want));
    if (tensor_count(y) != tensor_count(want)) return;
    double worst = worst_relative(y.at, want.at, tensor_count(y));
    if (!(worst <= bound)) {
        checks_failed++;
        printf("%s.%s on %s with %d threads: off by %.2e, bound %.2e\n", op, part, machine_isa(),
               machine_threads(), worst, bound);
    }
}

static Linear layer(const char *op) { return (Linear){ weight(op, "w"), weight(op, "b") }; }

static void conv_like_torch(const char *op, Window at)
{
    Linear w = layer(op);
    same_as_torch(conv2d(&arena, input(op, "x"), &w, at), op, "y", 2e-6);
}

static void attention_like_torch(const char *op, int heads, bool causal)
{
    Tensor y = attention(&arena, input(op, "q"), input(op, "k"), input(op, "v"), heads, causal);
    same_as_torch(y, op, "y", 2e-6);
}

static void transposed_like_torch(const char *op, int stride, int pad)
{
    Linear w = layer(op);
    same_as_torch(conv1d_transposed(&arena, input(op, "x"), &w, stride, pad), op, "y", 1e-6);
}

static void all_like_torch(void)
{
    arena.used = 0;
    Linear w = layer("linear");
    Tensor x = input("linear", "x"), r = input("linear", "r");
    same_as_torch(linear(&arena, x, &w), "linear", "y", 1e-6);
    same_as_torch(linear_act(&arena, x, &w, SILU), "linear", "silu", 1e-6);
    same_as_torch(linear_act(&arena, x, &w, GELU), "linear", "gelu", 1e-6);
    same_as_torch(linear_act(&arena, x, &w, GELU_TANH), "linear", "gelu_tanh", 1e-6);
    same_as_torch(linear_act(&arena, x, &w, QUICK_GELU), "linear", "quick_gelu", 1e-6);
    same_as_torch(linear_plus(&arena, x, &w, r), "linear", "plus", 1e-6);
    linear_into(&arena, r, x, &w);
    same_as_torch(r, "linear", "plus", 1e-6);
    w = layer("geglu");
    same_as_torch(geglu(&arena, input("geglu", "x"), &w), "geglu", "y", 1e-6);
    conv_like_torch("conv_winograd", SAME3);
    conv_like_torch("conv_direct", SAME3);
    conv_like_torch("conv_small", SAME3);
    conv_like_torch("conv_down", (Window){ .stride = 2, .before = 1, .after = 1 });
    conv_like_torch("conv_down_vae", (Window){ .stride = 2, .before = 0, .after = 1 });
    conv_like_torch("up_winograd",
                    (Window){ .stride = 1, .before = 1, .after = 1, .h = 10, .w = 8 });
    conv_like_torch("up_odd", (Window){ .stride = 1, .before = 1, .after = 1, .h = 5, .w = 9 });
    conv_like_torch("up_direct", (Window){ .stride = 1, .before = 1, .after = 1, .h = 4, .w = 6 });
    attention_like_torch("attention", 2, false);
    attention_like_torch("attention_causal", 3, true);
    attention_like_torch("attention_long", 1, false);
    Norm norm = { weight("group_norm", "w"), weight("group_norm", "b") };
    x = input("group_norm", "x");
    same_as_torch(group_norm(&arena, x, &norm, 4, 1e-5f, IDENTITY), "group_norm", "y", 2e-6);
    group_norm_(&arena, x, &norm, 4, 1e-5f, SILU);
    same_as_torch(x, "group_norm", "silu", 2e-6);
    norm = (Norm){ weight("layer_norm", "w"), weight("layer_norm", "b") };
    same_as_torch(layer_norm(&arena, input("layer_norm", "x"), &norm, 1e-5f), "layer_norm", "y",
                  1e-6);
    w = layer("conv1d");
    same_as_torch(conv1d(&arena, input("conv1d", "x"), &w, 3), "conv1d", "y", 1e-6);
    transposed_like_torch("transposed", 5, 5);
    transposed_like_torch("transposed_short", 4, 0);
    transposed_like_torch("transposed_odd", 3, 2);
    Tensor y = attention_biased(&arena, input("attention_biased", "q"),
                                input("attention_biased", "k"), input("attention_biased", "v"), 2,
                                input("attention_biased", "bias").at,
                                input("attention_biased", "mask").at, 2);
    same_as_torch(y, "attention_biased", "y", 2e-6);
    act_(x = input("act", "x"), TANH);
    same_as_torch(x, "act", "tanh", 1e-7);
    act_(x = input("act", "x"), RELU);
    same_as_torch(x, "act", "relu", 0);
    leaky_relu_(x = input("act", "x"), 0.1f);
    same_as_torch(x, "act", "leaky", 1e-7);
    w = (Linear){ weight("patches", "w"), { 0 } };
    same_as_torch(linear(&arena, patches(&arena, input("patches", "x"), 4), &w), "patches", "y",
                  1e-6);
}

/* f once for every instruction set of this machine and 1, 2, 3, 7 threads. */
static void everywhere(void f(void))
{
    static const int threads[] = { 1, 2, 3, 7 };
    char list[64];
    snprintf(list, sizeof list, "%s", machine_isas());
    for (char *isa = strtok(list, ", "); isa; isa = strtok(NULL, ", "))
        for (size_t i = 0; i < countof(threads); i++) {
            Error e = { 0 };
            CHECK(machine_choose(threads[i], isa, &e));
            f();
        }
    machine_choose(0, NULL, &(Error){ 0 });
}

TEST(every_op_is_like_torch_on_every_instruction_set)
{
    open_once();
    everywhere(all_like_torch);
}

/* ---- plain twins, in double ------------------------------------------------------------------ */

static uint32_t state = 1;
static float noise(void)
{
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state / 2147483648.0f;
}

static Tensor random_tensor(int b, int h, int w, int c)
{
    Tensor x = tensor(&arena, b, h, w, c);
    for (size_t i = 0; i < tensor_count(x); i++) x.at[i] = noise();
    return x;
}

/* A weight in the arena, values that every storage type holds exactly, at an odd address. */
static Weight random_weight(int type, int rank, int a, int b, int c, int d)
{
    Weight w = { NULL, type, rank, { a, b, c, d } };
    w.at = "";
    const size_t n = weight_count(w), size = type == F32 ? 4 : 2;
    uint8_t *p = (uint8_t *)tensor(&arena, 1, 1, 1, (int)n + 1).at + 1;
    for (size_t i = 0; i < n; i++) {
        const float value = (float)(int)(noise() * 64) / 64;      /* 7 bits: exact in BF16 too */
        uint32_t u, h;
        memcpy(&u, &value, 4);
        const uint32_t exponent = u >> 23 & 255;
        h = type == BF16 ? u >> 16 : value == 0 ? 0
            : (u >> 16 & 0x8000) | (exponent - 112) << 10 | (u >> 13 & 1023);
        memcpy(p + i * size, type == F32 ? &u : &h, size);
    }
    w.at = p;
    return w;
}

static double value(Weight w, size_t i)
{
    float x;
    weight_read(w, i, 1, &x);
    return x;
}

static void twin_conv(Tensor x, Linear w, Window at, Tensor r, Tensor y)
{
    const int i = w.w.dim[1], kh = w.w.dim[2], kw = w.w.dim[3];
    for (int b = 0; b < y.b; b++)
        for (int oy = 0; oy < y.h; oy++)
            for (int ox = 0; ox < y.w; ox++)
                for (int o = 0; o < y.c; o++) {
                    const size_t to = (((size_t)b * y.h + oy) * y.w + ox) * y.c + o;
                    double sum = value(w.b, o) + (r.at ? r.at[to] : 0);
                    for (int ky = 0; ky < kh; ky++)
                        for (int kx = 0; kx < kw; kx++) {
                            int iy = oy * at.stride + ky - at.before,
                                ix = ox * at.stride + kx - at.before;
                            if (iy < 0 || iy >= x.h || ix < 0 || ix >= x.w) continue;
                            for (int c = 0; c < i; c++)
                                sum += x.at[(((size_t)b * x.h + iy) * x.w + ix) * x.c + c]
                                     * value(w.w, ((size_t)(o * i + c) * kh + ky) * kw + kx);
                        }
                    y.at[to] = (float)sum;
                }
}

static void twin_attention(Tensor q, Tensor k, Tensor v, int heads, bool causal, Tensor y)
{
    const int d = q.c / heads, n = q.h, keys = k.h;
    double *p = malloc((size_t)keys * sizeof *p);
    for (int b = 0; b < q.b; b++)
        for (int head = 0; head < heads; head++)
            for (int i = 0; i < n; i++) {
                double sum = 0;
                for (int j = 0; j < keys; j++) {
                    double s = 0;
                    for (int c = head * d; c < (head + 1) * d; c++)
                        s += (double)q.at[((size_t)b * n + i) * q.c + c]
                            * k.at[((size_t)b * keys + j) * q.c + c];
                    sum += p[j] = causal && j > i ? 0 : exp(s / sqrt(d));
                }
                for (int c = head * d; c < (head + 1) * d; c++) {
                    double o = 0;
                    for (int j = 0; j < keys; j++)
                        o += p[j] * v.at[((size_t)b * keys + j) * q.c + c];
                    y.at[((size_t)b * n + i) * q.c + c] = (float)(o / sum);
                }
            }
    free(p);
}

/* The bits of y as a number to compare runs by. */
static uint64_t bits_of(Tensor y)
{
    uint64_t hash = 1469598103934665603u;
    const uint8_t *p = (const uint8_t *)y.at;
    for (size_t i = 0; i < tensor_count(y) * 4; i++) hash = (hash ^ p[i]) * 1099511628211u;
    return hash;
}

/* The shape under test, what its twin says, and the bits that the first machine gave. */
static struct {
    Tensor x, k, v, r, want;
    Linear w;
    Norm norm;
    Window at;
    int heads, groups;
    bool causal, first;
    uint64_t bits;
    const char *what;
} now_testing;

static void agrees(Tensor y, double bound)
{
    uint64_t bits = bits_of(y);
    CLOSE(y.at, now_testing.want.at, tensor_count(y), bound);
    if (now_testing.first) now_testing.bits = bits;
    now_testing.first = false;
    if (bits != now_testing.bits) {
        checks_failed++;
        printf("%s: other bits on %s with %d threads\n", now_testing.what, machine_isa(),
               machine_threads());
    }
}

static void run_conv(void)
{
    const size_t top = arena.used;
    agrees(conv2d_plus(&arena, now_testing.x, &now_testing.w, now_testing.at, now_testing.r), 2e-6);
    arena.used = top;
}

static void check_conv(int type, int b, int h, int wide, int i, int o, int k, Window at)
{
    arena.used = 0;
    memset(&now_testing, 0, sizeof now_testing);
    now_testing.first = true;
    now_testing.what = k == 1 ? "linear" : "conv2d";
    now_testing.at = at;
    now_testing.x = random_tensor(b, h, wide, i);
    now_testing.w = (Linear){ random_weight(type, 4, o, i, k, k),
                              random_weight(F32, 1, o, 1, 1, 1) };
    const int pads = at.before + at.after - k;
    now_testing.r = random_tensor(b, (h + pads) / at.stride + 1, (wide + pads) / at.stride + 1, o);
    now_testing.want = tensor(&arena, b, now_testing.r.h, now_testing.r.w, o);
    twin_conv(now_testing.x, now_testing.w, at, now_testing.r, now_testing.want);
    everywhere(run_conv);
}

/* conv1d as a convolution of a picture that is one wide, of leaky_relu(x), taps far apart. */
static void twin_conv1d(Tensor x, Linear w, int dilation, float slope, Tensor r, Tensor y)
{
    const int i = w.w.dim[1], k = w.w.dim[2];
    for (int b = 0; b < y.b; b++)
        for (int t = 0; t < y.h; t++)
            for (int o = 0; o < y.c; o++) {
                const size_t to = ((size_t)b * y.h + t) * y.c + o;
                double sum = value(w.b, o) + (r.at ? r.at[to] : 0);
                for (int j = 0; j < k; j++) {
                    const int from = t + (j - (k - 1) / 2) * dilation;
                    for (int c = 0; from >= 0 && from < x.h && c < i; c++) {
                        const double v = x.at[((size_t)b * x.h + from) * x.c + c];
                        sum += (v > 0 ? v : v * slope) * value(w.w, (size_t)(o * i + c) * k + j);
                    }
                }
                y.at[to] = (float)sum;
            }
}

static void run_conv1d(void)
{
    const size_t top = arena.used;
    agrees(conv1d_leaky(&arena, now_testing.x, &now_testing.w, now_testing.heads, 0.2f), 2e-6);
    arena.used = top;
}
static void run_conv1d_to(void)
{
    const size_t top = arena.used;
    Tensor y = copy(&arena, now_testing.r);
    conv1d_leaky_to(&arena, y, now_testing.x, &now_testing.w, 0.2f, y);
    agrees(y, 2e-6);
    arena.used = top;
}

static void check_conv1d(int type, int b, int t, int i, int o, int k, int dilation, bool to)
{
    arena.used = 0;
    memset(&now_testing, 0, sizeof now_testing);
    now_testing.first = true;
    now_testing.what = "conv1d";
    now_testing.heads = dilation;
    now_testing.x = random_tensor(b, t, 1, i);
    now_testing.w = (Linear){ random_weight(type, 3, o, i, k, 1),
                              random_weight(F32, 1, o, 1, 1, 1) };
    if (to) now_testing.r = random_tensor(b, t, 1, o);
    now_testing.want = tensor(&arena, b, t, 1, o);
    twin_conv1d(now_testing.x, now_testing.w, dilation, 0.2f, now_testing.r, now_testing.want);
    everywhere(to ? run_conv1d_to : run_conv1d);
}

TEST(convolutions_of_rows_are_like_their_twin_and_equal_everywhere)
{
    open_once();
    for (int to = 0; to < 2; to++) {
        check_conv1d(F16, 2, 21, 6, 9, 5, to ? 1 : 3, to);              /* direct */
        check_conv1d(F32, 2, 41, 16, 48, 3, 1, to);                     /* F(4,3), ragged */
        check_conv1d(BF16, 1, 4, 80, 16, 3, 1, to);                     /* one tile, two chunks */
        check_conv1d(F16, 1, 43, 48, 32, 5, to ? 1 : 2, to);            /* two groups of taps */
        check_conv1d(F16, 3, 37, 32, 16, 7, to ? 1 : 3, to);            /* three, phases uneven */
        check_conv1d(F32, 1, 1201, 32, 32, 11, to ? 1 : 5, to);         /* four, many blocks */
        check_conv1d(F32, 1, 30, 16, 16, 13, 1, to);                    /* too long: direct */
    }
}

TEST(convolutions_are_like_their_twin_on_odd_shapes_and_equal_everywhere)
{
    open_once();
    static const int types[] = { F32, F16, BF16 };
    for (size_t t = 0; t < countof(types); t++) {
        check_conv(types[t], 1, 5, 1, 3, 1, 1, (Window){ .stride = 1 });
        check_conv(types[t], 2, 13, 7, 37, 45, 1, (Window){ .stride = 1 });
        check_conv(types[t], 1, 3, 3, 530, 17, 1,
                   (Window){ .stride = 1 });                            /* more than a chunk of k */
        check_conv(types[t], 2, 9, 11, 5, 35, 3, SAME3);
        check_conv(types[t], 1, 7, 6, 33, 9, 3, (Window){ .stride = 2, .before = 1, .after = 1 });
        check_conv(types[t], 2, 4, 4, 16, 16, 3, SAME3);                /* Winograd, one tile */
        check_conv(types[t], 1, 9, 14, 80, 48, 3, SAME3);               /* ragged, two chunks */
        check_conv(types[t], 3, 5, 23, 32, 64, 3, SAME3);
    }
}

static void run_attention(void)
{
    const size_t top = arena.used;
    agrees(attention(&arena, now_testing.x, now_testing.k, now_testing.v, now_testing.heads,
                     now_testing.causal), 2e-6);
    arena.used = top;
}

TEST(attention_is_like_its_twin_and_equal_everywhere)
{
    static const int shapes[][4] = { { 1, 1, 1, 8 }, { 5, 3, 2, 40 }, { 33, 77, 3, 20 },
                                     { 40, 1100, 1, 9 }, { 65, 65, 2, 64 } };
    open_once();
    for (size_t i = 0; i < countof(shapes); i++)
        for (int causal = 0; causal <= (shapes[i][0] == shapes[i][1]); causal++) {
            const int c = shapes[i][2] * shapes[i][3];
            arena.used = 0;
            memset(&now_testing, 0, sizeof now_testing);
            now_testing.first = true;
            now_testing.what = "attention";
            now_testing.heads = shapes[i][2];
            now_testing.causal = causal;
            now_testing.x = random_tensor(2, shapes[i][0], 1, c);
            now_testing.k = random_tensor(2, shapes[i][1], 1, c);
            now_testing.v = random_tensor(2, shapes[i][1], 1, c);
            now_testing.want = tensor(&arena, 2, shapes[i][0], 1, c);
            twin_attention(now_testing.x, now_testing.k, now_testing.v, shapes[i][2], causal,
                           now_testing.want);
            everywhere(run_attention);
        }
}

static void run_group_norm(void)
{
    const size_t top = arena.used;
    Tensor two = concat(now_testing.x, now_testing.k);
    agrees(group_norm(&arena, two, &now_testing.norm, now_testing.groups, 1e-5f, SILU), 1e-5);
    arena.used = top;
}

TEST(group_norm_of_a_concat_is_like_that_of_its_copy)
{
    open_once();
    arena.used = 0;
    memset(&now_testing, 0, sizeof now_testing);
    now_testing.first = true;
    now_testing.what = "group_norm";
    now_testing.groups = 3;
    now_testing.x = random_tensor(2, 41, 29, 13);                   /* a group lies on both sides */
    now_testing.k = random_tensor(2, 41, 29, 17);
    for (size_t i = 0; i < tensor_count(now_testing.x); i++)
        now_testing.x.at[i] += 100;                                 /* far from zero */
    now_testing.norm = (Norm){ random_weight(F16, 1, 30, 1, 1, 1),
                               random_weight(F16, 1, 30, 1, 1, 1) };
    Tensor x = copy(&arena, concat(now_testing.x, now_testing.k));
    now_testing.want = tensor(&arena, 2, 41, 29, 30);
    for (int b = 0; b < 2; b++)
        for (int g = 0; g < 3; g++) {
            const size_t n = 41 * 29;
            double mean = 0, var = 0;
            for (int pass = 0; pass < 3; pass++)
                for (size_t r = 0; r < n; r++)
                    for (size_t c = (size_t)g * 10; c < (size_t)g * 10 + 10; c++) {
                        const size_t at = ((size_t)b * n + r) * 30 + c;
                        if (pass == 0) mean += x.at[at] / (double)(n * 10);
                        if (pass == 1)
                            var += (x.at[at] - mean) * (x.at[at] - mean) / (double)(n * 10);
                        double y = (x.at[at] - mean) / sqrt(var + 1e-5)
                                 * value(now_testing.norm.w, c) + value(now_testing.norm.b, c);
                        if (pass == 2) now_testing.want.at[at] = (float)(y / (1 + exp(-y)));
                    }
        }
    everywhere(run_group_norm);
}

/* ---- storage, functions, the arena ----------------------------------------------------------- */

TEST(all_halves_become_their_value)
{
    for (uint32_t h = 0; h < 65536; h++) {
        uint8_t bytes[2] = { h & 255, h >> 8 };
        const int exponent = h >> 10 & 31, fraction = h & 1023;
        double want = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        float got;
        if (h & 0x8000) want = -want;
        weight_read((Weight){ bytes, F16, 1, { 1 } }, 0, 1, &got);
        if (exponent == 31)
            CHECK(fraction ? isnan(got) : isinf(got) && !!signbit(got) == (int)(h >> 15));
        else CHECK(got == (float)want && !signbit(got) == !signbit(want));
        weight_read((Weight){ bytes, BF16, 1, { 1 } }, 0, 1, &got);
        uint32_t u, bits = h << 16;
        memcpy(&u, &got, 4);
        CHECK(u == bits);
    }
}

static void activations(void)
{
    static const float x[] = { -1e30f, -100, -20, -5.5f, -1, -1e-3f, 0, 1e-3f, 0.7f, 1, 3.9f, 4.1f,
                               20, 100, 1e30f };
    float silu[countof(x)], gelu[countof(x)], want[countof(x)];
    Tensor t = { .b = 1, .h = 1, .w = 1, .c = countof(x) };
    memcpy(silu, x, sizeof x);
    memcpy(gelu, x, sizeof x);
    t.at = silu;
    act_(t, SILU);
    t.at = gelu;
    act_(t, GELU);
    for (size_t i = 0; i < countof(x); i++) {
        want[i] = (float)(x[i] / (1 + exp(-(double)x[i])));
        CHECK(fabs((double)silu[i] - want[i]) <= 3e-7 * fabs(want[i]) + 1e-35);
        want[i] = (float)(x[i] * 0.5 * (1 + erf(x[i] / sqrt(2))));
        CHECK(fabs((double)gelu[i] - want[i])
              <= 2e-7 * fabs(x[i] < 0 ? fmax(x[i], -5) : want[i]) + 1e-35);
    }
}

TEST(activations_are_right_out_to_their_limits) { everywhere(activations); }

TEST(counting_predicts_the_memory_and_a_small_arena_computes_nothing)
{
    open_once();
    Weight w = { "", F32, 4, { 32, 16, 3, 3 } };
    Linear count_only = { w, { 0 } };
    Arena plan = { 0 };
    conv2d(&plan, tensor(&plan, 1, 20, 20, 16), &count_only, SAME3);
    CHECK(plan.peak > 20 * 20 * (16 + 32) * 4);
    CHECK(plan.macs == 20.0 * 20 * 9 * 16 * 32);
    arena.used = 0;
    Linear real = { random_weight(F32, 4, 32, 16, 3, 3), { 0 } };
    const size_t top = arena.used;
    Arena exact = { .base = arena.base + top, .size = plan.peak }, small = exact;
    conv2d(&exact, tensor(&exact, 1, 20, 20, 16), &real, SAME3);
    CHECK(exact.base && exact.peak == plan.peak);
    small.size = plan.peak - 64;
    conv2d(&small, tensor(&small, 1, 20, 20, 16), &real, SAME3);
    CHECK(!small.base && small.peak == plan.peak);
}

TEST(an_unknown_instruction_set_is_refused_with_the_known_ones)
{
    Error e = { 0 };
    CHECK(!machine_choose(1, "mmx", &e));
    CHECK(strstr(e.text, "mmx") && strstr(e.text, machine_isas()));
}

TEST(close_itself_can_fail)
{
    float a = 1, b = 1.1f, nan = NAN;
    CHECK(worst_relative(&a, &b, 1) > 0.05);
    CHECK(!(worst_relative(&nan, &b, 1) < 1e9));
}
