/* test_models.c - the towers, the UNet and the VAE, layer by layer, against the activations that
 * the reference wrote beside the tiny random models of tests/models (tests/reference.py made
 * both). */
#include "../sd.h"
#include "test.h"

static Weights reference;
static const char *prefix;                 /* before a probe's name in the reference */
static int compared;

static Weight find(const char *name)
{
    const Entry *t = weights_find(&reference, name);
    Weight w = { 0 };
    if (!t) return w;
    w = (Weight){ t->at, t->type, t->rank, { 1, 1, 1, 1 } };
    for (int i = 0; i < t->rank; i++) w.dim[i] = (int)t->shape[i];
    return w;
}

static float *values(Weight w)
{
    float *v = malloc((weight_count(w) + 1) * sizeof *v);
    weight_read(w, 0, weight_count(w), v);
    return v;
}

/* x as torch lays it out: [B,T,C] as it is, [B,C,H,W] from [B,H,W,C]. */
static void torch_layout(Tensor x, int rank, float *out)
{
    const size_t n = (size_t)x.h * (size_t)x.w, c = (size_t)x.c;
    for (size_t b = 0; b < (size_t)x.b; b++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < c; j++)
                out[b * n * c + (rank == 4 ? j * n + i : i * c + j)] = x.at[(b * n + i) * c + j];
}

static void compare(const char *name, Tensor x, double bound)
{
    Weight w = find(name);
    if (!w.at) return;
    const size_t n = tensor_count(x),
                 items = (size_t)w.dim[0];        /* what is the same for all items we make once */
    float *want = values(w), *got = calloc(n + 1, sizeof *got);
    CHECK(n == weight_count(w) || (x.b == 1 && n * items == weight_count(w)));
    torch_layout(x, w.rank, got);
    const double worst = worst_relative(got, want, n);
    if (!(worst <= bound)) {
        checks_failed++;
        printf("%s: %s is off by %.2e of the largest value, bound %.0e\n", reference.path, name,
               worst, bound);
    }
    compared++;
    free(want);
    free(got);
}

static void probe(void *self, const char *name, Tensor x)
{
    char full[600];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    compare(full, x, *(double *)self);
}

/* Run with probes on; the number of activations that the reference knew. */
static void begin(const char *path, const char *before, double *bound)
{
    Error e = { 0 };
    CHECK(weights_open(&reference, path, "", &e));
    prefix = before;
    compared = 0;
    trace_to(probe, bound);
}
static void end(int least)
{
    trace_to(NULL, NULL);
    CHECK(compared >= least);
    weights_close(&reference);
}

static Arena arena_of(size_t bytes)
{
    Error e = { 0 };
    Arena m;
    CHECK(arena_open(&m, bytes, NULL, &e));
    return m;
}

/* [B,C,H,W] of the reference -> [B,H,W,C] */
static Tensor picture_of(Arena *m, const char *name)
{
    Weight w = find(name);
    CHECK(w.rank == 4);
    Tensor x = tensor(m, w.dim[0], w.dim[2], w.dim[3], w.dim[1]);
    float *v = values(w);
    const size_t n = (size_t)x.h * (size_t)x.w, c = (size_t)x.c;
    for (size_t b = 0; b < (size_t)x.b; b++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < c; j++) x.at[(b * n + i) * c + j] = v[b * n * c + j * n + i];
    free(v);
    return x;
}

static int *ids_of(const char *name)
{
    Weight w = find(name);
    float *v = values(w);
    int *ids = malloc((weight_count(w) + 1) * sizeof *ids);
    for (size_t i = 0; i < weight_count(w); i++) ids[i] = (int)v[i];
    free(v);
    return ids;
}

TEST(clip_towers_layer_by_layer)
{
    Error e = { 0 };
    Clip c;
    double bound = 1e-5;
    CHECK(clip_open(&c, "tests/models/clip", NULL, &e));
    CHECK_STR(e.text, "");
    if (e.code) return;
    begin("tests/models/clip/reference.safetensors", "", &bound);
    Arena m = arena_of(64 << 20);
    int *ids = ids_of("input_ids");
    clip_text(&m, &c.text, ids, 2, 77, 0);
    clip_vision(&m, &c.vision, picture_of(&m, "pixel_values"));
    end(7);
    free(ids);
    arena_close(&m);
    clip_close(&c);
}

TEST(clip_pictures_of_every_kind)
{
    static const char *const names[] = { "colour-key.png", "exact.png", "grey-16.png",
        "grey-alpha.png", "grey.png", "jpeg-420.jpg", "jpeg-422.jpg", "jpeg-444.jpg",
        "jpeg-grey.jpg", "jpeg-progressive.jpg", "one-bit.png", "palette-alpha.png", "palette.png",
        "plain.ppm", "rgb-16.png", "rgb-alpha.png", "rgb.png", "tiny.png", "wide.png" };
    Error e = { 0 };
    Clip c;
    CHECK(clip_open(&c, "tests/models/clip", NULL, &e));
    if (e.code) return;
    Arena m = arena_of(clip_memory(&c));
    CHECK(weights_open(&reference, "tests/models/clip/reference.safetensors", "", &e));
    float *want = values(find("image_embeds")),
          *got = calloc(countof(names) * (size_t)c.dim, sizeof *got);
    for (size_t i = 0; i < countof(names); i++) {
        char path[128];
        Picture p;
        snprintf(path, sizeof path, "tests/models/pictures/%s", names[i]);
        CHECK(picture_read(&p, path, &e)
              && clip_embed_picture(&c, &m, &p, got + i * (size_t)c.dim, &e));
        CHECK_STR(e.text, "");
        double worst = worst_relative(got + i * (size_t)c.dim, want + i * (size_t)c.dim,
                                      (size_t)c.dim);
        if (!(worst <= 1e-5)) { checks_failed++; printf("%s: off by %.2e\n", names[i], worst); }
        picture_free(&p);
    }
    free(want);
    free(got);
    weights_close(&reference);
    arena_close(&m);
    clip_close(&c);
}

/* One pass of each part of a Stable Diffusion folder on the reference's inputs. */
static void sd_parts(const char *folder)
{
    Error e = { 0 };
    Sd s;
    double bound = 1e-4;
    char path[128];
    CHECK(sd_open(&s, folder, NULL, &e));
    CHECK_STR(e.text, "");
    if (e.code) return;
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    begin(path, "text_encoder.", &bound);
    Arena m = arena_of(64 << 20);
    int *ids = ids_of("input_ids");
    float *t = values(find("timestep"));
    Tensor context = clip_text(&m, &s.text, ids, 2, 77, 0);
    prefix = "unet.";
    Tensor x = unet(&m, &s.unet, picture_of(&m, "sample"), t[0], context, (Tensor){ 0 });
    compare("unet", x, bound);
    prefix = "vae.";
    compare("vae.decoder", vae_decode(&m, &s.vae, picture_of(&m, "latents")), bound);
    compare("vae.quant_conv", vae_encode(&m, &s.vae, picture_of(&m, "picture")), bound);
    end(20);
    free(ids);
    free(t);
    arena_close(&m);
    sd_close(&s);
}

TEST(stable_diffusion_1_part_by_part) { sd_parts("tests/models/sd1"); }
TEST(stable_diffusion_2_part_by_part) { sd_parts("tests/models/sd2"); }

/* A large picture alone goes through its resnets band by band; two of a batch do not.  1024 x 1024
 * by the shipped weights: both ways of it, same channels and half of them, by Winograd. */
TEST(vae_by_bands_is_the_whole)
{
    Error e = { 0 };
    Vae v;
    Rng rng;
    if (!folder_exists("weights/tiny/sd/vae")) return;
    CHECK(vae_open(&v, "weights/tiny/sd/vae", &e));
    CHECK_STR(e.text, "");
    if (e.code) return;
    Arena m = { 0 };
    vae_decode(&m, &v, tensor(&m, 2, 128, 128, v.latents));
    m = arena_of(m.peak);
    Tensor z = tensor(&m, 2, 128, 128, v.latents);
    rng_seed(&rng, 1);
    randn(&rng, z.at, tensor_count(z));
    const size_t top = m.used, n = (size_t)3 * 1024 * 1024;
    Tensor alone = vae_decode(&m, &v, item(z, 1));
    float *kept = malloc(n * sizeof *kept);
    memcpy(kept, alone.at, n * sizeof *kept);
    m.used = top;
    CHECK(!memcmp(kept, item(vae_decode(&m, &v, z), 1).at, n * sizeof *kept));
    free(kept);
    arena_close(&m);
    vae_close(&v);
}

/* Whole runs: the final latents of every sampler, where the UNet's last digits have been multiplied
 * by the steps and the guidance; the pixels of one. */
static void sd_runs(const char *folder)
{
    static const char *const methods[] = { "ddim", "ddpm", "pndm", "euler", "euler_a", "heun",
                                           "lms", "dpm++2m", "unipc", "lcm" };
    static const char *const schedules[] = { "discrete", "karras" };
    Error e = { 0 };
    Sd s;
    char path[128], name[64];
    CHECK(sd_open(&s, folder, NULL, &e));
    if (e.code) return;
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    CHECK(weights_open(&reference, path, "", &e));
    int runs = 0;
    for (size_t i = 0; i < countof(methods); i++)
        for (size_t j = 0; j < countof(schedules); j++) {
            snprintf(name, sizeof name, "run.%s.%s", methods[i], schedules[j]);
            Weight w = find(name);
            if (!w.at) continue;
            SdRequest r = sd_defaults(&s);
            float *want = values(w), *got = calloc(weight_count(w) + 1, sizeof *got);
            Picture p = { 0 };
            r.prompt = "a photo of a cat";
            r.negative = "an oil painting of a lighthouse in a storm, highly detailed";
            r.steps = 6;
            r.seed = 7;
            r.width = 64;
            r.height = 48;
            r.method = sampler_method(methods[i]);
            r.schedule = sampler_schedule(schedules[j]);
            r.latents_out = got;
            CHECK(sd_generate(&s, &r, &p, &e));
            CHECK_STR(e.text, "");
            double worst = worst_relative(got, want, weight_count(w));
            if (!(worst <= 1.5e-4)) {
                checks_failed++;
                printf("%s: %s: off by %.2e\n", folder, name, worst);
            }
            snprintf(name, sizeof name, "pixels.%s", methods[i]);
            Weight pixels = find(name);
            if (pixels.at && !j) {
                float *level = values(pixels);
                int far = 0;
                for (size_t k = 0; k < weight_count(pixels); k++)
                    far = imax(far, abs((int)level[k] - p.rgb[k]));
                CHECK(far <= 1);
                free(level);
            }
            picture_free(&p);
            free(want);
            free(got);
            e = (Error){ 0 };
            runs++;
        }
    CHECK(runs >= 14);
    weights_close(&reference);
    sd_close(&s);
}

TEST(stable_diffusion_1_with_every_sampler) { sd_runs("tests/models/sd1"); }
TEST(stable_diffusion_2_with_every_sampler) { sd_runs("tests/models/sd2"); }
