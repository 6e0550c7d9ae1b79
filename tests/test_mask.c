/* test_mask.c - repainting and what is seen of a run: masks, feathered edges, tiles, maps of
 * attention, colours of latents.  tests/masks.py made tests/models/inpaint, and says with what. */
#include "../sd.h"
#include "test.h"

#define INPAINT "tests/models/inpaint/"

static Arena arena;

static void start(size_t size)
{
    arena_close(&arena);
    CHECK(arena_open(&arena, size, NULL, &(Error){ 0 }));
}

static uint32_t state;
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

/* f once for every instruction set of this machine and 1, 2, 3, 7 threads: y [n] must be want, and
 * every time the same bits. */
static void everywhere(Tensor f(void), const float *want, size_t n)
{
    static const int threads[] = { 1, 2, 3, 7 };
    char list[64];
    float *first = NULL;
    snprintf(list, sizeof list, "%s", machine_isas());
    for (char *isa = strtok(list, ", "); isa; isa = strtok(NULL, ", "))
        for (size_t i = 0; i < countof(threads); i++) {
            const size_t top = arena.used;
            CHECK(machine_choose(threads[i], isa, &(Error){ 0 }));
            const Tensor y = f();
            CHECK(tensor_count(y) == n);
            CLOSE(y.at, want, n, 2e-6);
            if (!first) memcpy(first = malloc(n * sizeof *first), y.at, n * sizeof *first);
            CHECK(!memcmp(first, y.at, n * sizeof *first));
            arena.used = top;
        }
    free(first);
    machine_choose(0, NULL, &(Error){ 0 });
}

/* ---- maps of attention ----------------------------------------------------------------------- */

static Tensor q, k;
static int heads;
static Tensor map_it(void) { return attention_map(&arena, q, k, heads); }

static void twin_map(float *y)
{
    const int d = q.c / heads, n = q.h * q.w;
    for (int b = 0; b < q.b; b++)
        for (int i = 0; i < n; i++) {
            float *row = y + (size_t)(b * n + i) * k.h;
            memset(row, 0, (size_t)k.h * sizeof *row);
            for (int head = 0; head < heads; head++) {
                double sum = 0, p[128];
                for (int j = 0; j < k.h; j++) {
                    double s = 0;
                    for (int c = head * d; c < (head + 1) * d; c++)
                        s += (double)q.at[(size_t)(b * n + i) * q.c + c]
                           * k.at[(size_t)(b * k.h + j) * k.c + c];
                    sum += p[j] = exp(s / sqrt(d));
                }
                for (int j = 0; j < k.h; j++) row[j] += (float)(p[j] / sum / heads);
            }
        }
}

TEST(a_map_of_attention_is_what_a_plain_twin_says)
{
    static const struct { int b, h, w, keys, heads, d; } shapes[] = {
        { 1, 8, 8, 77, 2, 8 }, { 2, 5, 7, 77, 3, 5 }, { 1, 1, 1, 1, 1, 4 }, { 2, 9, 4, 6, 5, 40 } };
    for (size_t s = 0; s < countof(shapes); s++) {
        start(4 << 20);
        heads = shapes[s].heads;
        q = random_tensor(shapes[s].b, shapes[s].h, shapes[s].w, heads * shapes[s].d);
        k = random_tensor(shapes[s].b, shapes[s].keys, 1, heads * shapes[s].d);
        const size_t n = (size_t)q.b * q.h * q.w * k.h;
        float *want = malloc(n * sizeof *want);
        twin_map(want);
        everywhere(map_it, want, n);
        free(want);
    }
}

TEST(a_map_of_attention_needs_what_its_plan_says)
{
    start(4 << 20);
    q = random_tensor(1, 8, 8, 16);
    k = random_tensor(1, 77, 1, 16);
    heads = 2;
    machine_choose(3, NULL, &(Error){ 0 });
    Arena plan = { 0 };
    attention_map(&plan, (Tensor){ .b = 1, .h = 8, .w = 8, .c = 16 },
                  (Tensor){ .b = 1, .h = 77, .w = 1, .c = 16 }, 2);
    CHECK(plan.macs == 64.0 * 77 * 16);
    Arena exact = { 0 };
    CHECK(arena_open(&exact, plan.peak, NULL, &(Error){ 0 }));
    CHECK(attention_map(&exact, q, k, heads).at && exact.base && exact.peak == plan.peak);
    arena_close(&exact);
    machine_choose(0, NULL, &(Error){ 0 });
}

/* ---- tiles ----------------------------------------------------------------------------------- */

static Tensor x;
static Linear layer;
static Window window;
static Tensor conv_it(void) { return conv2d(&arena, x, &layer, window); }

static double weight_at(Weight w, size_t i)
{
    float value;
    weight_read(w, i, 1, &value);
    return value;
}

/* A 3x3 convolution around the edges; x is first resized to the window's size, if it has one. */
static void twin_conv(int h, int w, int o, float *y)
{
    const int in_h = window.h ? window.h : x.h, in_w = window.w ? window.w : x.w;
    for (size_t to = 0; to < (size_t)x.b * h * w * o; to++) {
        const int out = (int)(to % o), ox = (int)(to / o % w), oy = (int)(to / o / w % h),
                  b = (int)(to / o / w / h);
        double sum = weight_at(layer.b, (size_t)out);
        for (int t = 0; t < 9; t++) {
            const int iy = (oy * window.stride + t / 3 - window.before + in_h) % in_h,
                      ix = (ox * window.stride + t % 3 - window.before + in_w) % in_w;
            const int sy = iy * x.h / in_h, sx = ix * x.w / in_w;
            for (int c = 0; c < x.c; c++)
                sum += x.at[(((size_t)b * x.h + sy) * x.w + sx) * x.c + c]
                    * weight_at(layer.w, ((size_t)out * x.c + c) * 9 + t);
        }
        y[to] = (float)sum;
    }
}

TEST(a_convolution_goes_around_the_edges)
{
    static const struct { int h, w, c, o; Window at; int out_h, out_w; } shapes[] = {
        { 8, 8, 16, 32, SAME3, 8, 8 },                           /* Winograd, whole tiles */
        { 9, 13, 16, 16, SAME3, 9, 13 },                         /* ragged */
        { 6, 5, 5, 7, SAME3, 6, 5 },                             /* direct */
        { 2, 1, 16, 16, SAME3, 2, 1 },
        { 8, 6, 16, 16, { .stride = 2, .before = 1, .after = 1 }, 4, 3 },
        { 4, 3, 16, 16, { .stride = 1, .before = 1, .after = 1, .h = 8, .w = 6 }, 8, 6 } };
    for (size_t s = 0; s < countof(shapes); s++) {
        start(8 << 20);
        x = random_tensor(2, shapes[s].h, shapes[s].w, shapes[s].c);
        const Tensor w = random_tensor(1, 1, 9 * shapes[s].o, shapes[s].c),
                     b = random_tensor(1, 1, 1, shapes[s].o);
        layer = (Linear){ { w.at, F32, 4, { shapes[s].o, shapes[s].c, 3, 3 } },
                          { b.at, F32, 1, { shapes[s].o } } };
        window = shapes[s].at;
        const size_t n = (size_t)2 * shapes[s].out_h * shapes[s].out_w * shapes[s].o;
        float *want = malloc(n * sizeof *want);
        twin_conv(shapes[s].out_h, shapes[s].out_w, shapes[s].o, want);
        arena.wrap = true;
        everywhere(conv_it, want, n);
        arena.wrap = false;
        const Tensor y = conv_it();
        CHECK(worst_relative(y.at, want, n) > 1e-2);
        free(want);
    }
}

/* ---- masks ----------------------------------------------------------------------------------- */

static Picture flat(int w, int h, int value)
{
    Picture p = { .w = w, .h = h, .rgb = malloc(3 * (size_t)w * (size_t)h) };
    memset(p.rgb, value, 3 * (size_t)w * (size_t)h);
    return p;
}

TEST(white_is_grey_of_128_as_pillow_has_it)
{
    static const struct { uint8_t rgb[3]; bool white; } cases[] = {
        { { 0, 0, 0 }, false }, { { 127, 127, 127 }, false }, { { 128, 128, 128 }, true },
        { { 255, 255, 255 }, true }, { { 255, 0, 0 }, false }, { { 0, 255, 0 }, true },
        { { 0, 0, 255 }, false }, { { 255, 86, 6 }, false }, { { 255, 86, 7 }, true } };
    for (size_t i = 0; i < countof(cases); i++) {
        uint8_t rgb[3];
        memcpy(rgb, cases[i].rgb, 3);
        CHECK(picture_white(&(Picture){ .w = 1, .h = 1, .rgb = rgb }, 0) == cases[i].white);
    }
}

TEST(an_edge_fades_evenly_outside_the_white)
{
    Picture under = flat(40, 30, 0), mask = flat(40, 30, 0);
    memset(mask.rgb + 3 * (15 * 40 + 20), 255, 3);                       /* one white pixel */
    for (int feather = 0; feather <= 9; feather += 3) {
        Picture p = flat(40, 30, 200);
        CHECK(picture_blend(&p, &under, &mask, feather, &(Error){ 0 }));
        for (int y = 0; y < 30; y++)
            for (int x0 = 0; x0 < 40; x0++) {
                const double far = hypot(x0 - 20, y - 15) / (feather + 1);
                const double want = far < 1 ? 200 * (1 - far) : 0;
                CHECK(fabs(p.rgb[3 * (y * 40 + x0) + 1] - want) <= 0.5 + 1e-9);
            }
        picture_free(&p);
    }
    picture_free(&under);
    picture_free(&mask);
}

/* inpaint's missing parts are sd1's: opened from there. */
static bool open_inpaint(Sd *s, Sd *other, Error *e)
{
    if (!sd_open(s, "tests/models/sd1", NULL, e)) return false;
    *other = *s;
    if (!unet_open(&s->unet, INPAINT "unet", e)) return false;
    s->inpaints = true;
    return true;
}

/* Run as tests/masks.py has run diffusers. */
static void repaint(const Sd *s, const char *name, const char *method, double strength)
{
    Error e = { 0 };
    Picture picture, mask, want, got;
    char path[128];
    float latents[4 * 8 * 8];
    SdRequest r = sd_defaults(s);
    CHECK(picture_read(&picture, INPAINT "picture.png", &e));
    CHECK(picture_read(&mask, INPAINT "mask.png", &e));
    r.prompt = "a photo of a cat", r.negative = "dark";
    r.width = r.height = 64;
    r.steps = 4, r.guidance = 5, r.seed = 7;
    r.method = sampler_method(method);
    r.strength = strength;
    r.init = &picture;
    r.mask = &mask;
    r.latents_out = latents;
    if (!sd_generate(s, &r, &got, &e)) { checks_failed++; printf("%s\n", e.text); return; }
    snprintf(path, sizeof path, INPAINT "latents-%s.safetensors", name);
    Weights w;
    CHECK(weights_open(&w, path, "model", &e));
    const Entry *t = weights_find(&w, "latents");
    CHECK(t && t->end - t->begin == sizeof latents);
    float reference[4 * 8 * 8];
    memcpy(reference, t->at, sizeof reference);
    CLOSE(latents, reference, countof(latents), 1e-4);
    weights_close(&w);
    snprintf(path, sizeof path, INPAINT "picture-%s.png", name);
    CHECK(picture_read(&want, path, &e));
    int most = 0, changed = 0;
    CHECK(picture_blend(&got, &picture, &mask, 0, &e));
    for (size_t i = 0; i < 64 * 64; i++)
        for (size_t c = 3 * i; c < 3 * i + 3; c++) {
            const int kept = abs(got.rgb[c] - picture.rgb[c]);
            if (picture_white(&mask, i)) most = imax(most, abs(got.rgb[c] - want.rgb[c]));
            else changed = imax(changed, kept);
        }
    CHECK(most <= 1 && changed == 0);
    picture_free(&picture);
    picture_free(&mask);
    picture_free(&want);
    picture_free(&got);
}

TEST(repainting_is_what_diffusers_does)
{
    Error e = { 0 };
    Sd s = { 0 }, whole = { 0 };
    machine_choose(1, NULL, &e);
    CHECK(open_inpaint(&s, &whole, &e));
    whole.inpaints = false;
    repaint(&whole, "ddim", "ddim", 0.75);
    repaint(&whole, "whole", "euler_a", 1);
    repaint(&s, "nine", "ddim", 0.75);
    repaint(&s, "nine-whole", "euler_a", 1);
    SdRequest r = sd_defaults(&s);
    CHECK(!sd_check(&s, &r, &e) && e.code == 2);
    CHECK(strstr(e.text, "mask: none") && strstr(e.text, "give a picture and a mask"));
    e = (Error){ 0 };
    r = sd_defaults(&whole);
    r.mask = &(Picture){ .w = r.width, .h = r.height };
    CHECK(!sd_check(&whole, &r, &e) && strstr(e.text, "mask: found no picture"));
    unet_close(&s.unet);
    sd_close(&whole);
}

/* ---- words and their maps -------------------------------------------------------------------- */

TEST(words_are_looked_at_where_the_reference_says)
{
    Error e = { 0 };
    Sd s;
    PromptWord *words;
    int count;
    machine_choose(1, NULL, &e);
    float heat[5 * 8 * 8], latents[2][4 * 8 * 8];
    CHECK(sd_open(&s, "tests/models/sd1", NULL, &e));
    SdRequest r = sd_defaults(&s);
    r.prompt = "a photo of a cat", r.negative = "dark";
    r.width = r.height = 64;
    r.steps = 4, r.guidance = 5, r.seed = 7, r.method = sampler_method("ddim");
    CHECK(sd_words(&s, &r, &words, &count, &e));
    CHECK(count == 5);
    if (count == 5) {
        CHECK_STR(words[1].text, "photo");
        CHECK_STR(words[4].text, "cat");
        CHECK(words[0].first == 1 && words[0].end == words[1].first);
        SdStage without[SD_STAGES], with[SD_STAGES];
        Picture p = { 0 };
        sd_plan(&s, &r, without);
        r.latents_out = latents[0];
        CHECK(sd_generate(&s, &r, &p, &e));
        picture_free(&p);
        r.heat = heat, r.words = words, r.word_count = count;
        r.latents_out = latents[1];
        sd_plan(&s, &r, with);
        CHECK(with[SD_UNET].macs > without[SD_UNET].macs);
        CHECK(sd_generate(&s, &r, &p, &e));
        picture_free(&p);
        CHECK(!memcmp(latents[0], latents[1], sizeof *latents));
        Weights w;
        CHECK(weights_open(&w, INPAINT "shares.safetensors", "model", &e));
        const Entry *t = weights_find(&w, "shares");
        float want[5 * 8 * 8];
        CHECK(t && t->end - t->begin == sizeof want);
        memcpy(want, t->at, sizeof want);
        CLOSE(heat, want, countof(heat), 1e-5);
        weights_close(&w);
    }
    words_free(words, count);
    sd_close(&s);
}

static bool words_of(const Sd *s, const char *text, PromptWord **words, int *count, Error *e)
{
    SdRequest r = sd_defaults(s);
    r.prompt = text;
    return sd_words(s, &r, words, count, e);
}

TEST(words_end_where_tokens_do_and_the_last_that_fit)
{
    Error e = { 0 };
    Sd s;
    PromptWord *words;
    int count;
    CHECK(sd_open(&s, "tests/models/sd1", NULL, &e));
    CHECK(words_of(&s, "", &words, &count, &e) && count == 0);
    words_free(words, count);
    char text[1400] = "";
    for (int i = 0; i < 100; i++) strcat(text, "unbelievable ");
    CHECK(words_of(&s, text, &words, &count, &e));
    CHECK(count > 1 && words[count - 1].end == 76);
    for (int i = 1; i < count; i++) CHECK(words[i].first == words[i - 1].end);
    words_free(words, count);
    CHECK(sd_word(&s, "tests/models/adapters/word.safetensors", &e));
    CHECK(words_of(&s, "a <cat-toy>, red", &words, &count, &e));
    CHECK(count == 4 && !strcmp(words[1].text, "<cat-toy>"));
    CHECK(count == 4 && words[1].end - words[1].first == 2 && !strcmp(words[2].text, ","));
    words_free(words, count);
    sd_close(&s);
}

/* ---- colours --------------------------------------------------------------------------------- */

/* Mean square of what the map leaves of the colours of noise in squares; of map 0: all of it. */
static double left_of(const Vae *v, uint64_t seed, float map[5][3])
{
    double sum = 0;
    float values[4 * 8 * 8];
    Rng rng;
    Arena m = { 0 };
    CHECK(arena_open(&m, 64 << 20, NULL, &(Error){ 0 }));
    Tensor z = tensor(&m, 1, 16, 16, 4);
    rng_seed(&rng, seed);
    randn(&rng, values, countof(values));
    for (int i = 0; i < 1024; i++)
        z.at[i] = values[(i % 4 * 8 + i / 128) * 8 + i / 4 % 16 / 2] / (float)v->scaling;
    const Tensor rgb = vae_decode(&m, v, z);
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++) {
            double want = 0, got = map[0][c];
            for (int j = 0; j < 64; j++)
                want += rgb.at[((i / 16 * 8 + j / 8) * 128 + i % 16 * 8 + j % 8) * 3 + c] / 64;
            for (int j = 0; j < 4; j++) got += map[j + 1][c] * z.at[4 * i + j] * v->scaling;
            sum += (got - want) * (got - want) / 768;
        }
    arena_close(&m);
    return sum;
}

TEST(colours_are_the_least_squares)
{
    Error e = { 0 };
    Vae v;
    float map[5][3], none[5][3] = { { 0 } };
    Arena plan = { 0 };
    machine_choose(1, NULL, &e);
    CHECK(vae_open(&v, "tests/models/sd1/vae", &e));
    vae_colours(&plan, &v, NULL);
    start(plan.peak);
    vae_colours(&arena, &v, map[0]);
    CHECK(arena.base && arena.peak == plan.peak);
    const double best = left_of(&v, 0, map);
    CHECK(best < left_of(&v, 0, none));
    for (int i = 0; i < 15; i++)                           /* no other map is better */
        for (int sign = -1; sign <= 1; sign += 2) {
            const float was = map[i / 3][i % 3];
            map[i / 3][i % 3] += (float)sign * 1e-2f;
            CHECK(left_of(&v, 0, map) > best);
            map[i / 3][i % 3] = was;
        }
    CHECK(left_of(&v, 1, map) < left_of(&v, 1, none));     /* and it serves other latents */
    vae_close(&v);
    arena_close(&arena);
    machine_choose(0, NULL, &e);
}
