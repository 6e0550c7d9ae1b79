/* test_variants.c - models beside SD 1.5 and 2.1: TAESD, a latent consistency model whose UNet has
 * no middle.  tests/variants.py made tests/models/variants, and says with what. */
#include "../sd.h"
#include "test.h"

#define VARIANTS "tests/models/variants/"
#define INPAINT "tests/models/inpaint/"

/* The final latents, and if there is one the picture, of `name`. */
static void compare(const char *name, const float *latents, const Picture *got, bool pixels)
{
    char path[128];
    float want[4 * 8 * 8];
    Error e = { 0 };
    Weights w;
    Picture p;
    snprintf(path, sizeof path, VARIANTS "latents-%s.safetensors", name);
    CHECK(weights_open(&w, path, "model", &e));
    const Entry *t = weights_find(&w, "latents");
    CHECK(t && t->end - t->begin == sizeof want);
    memcpy(want, t->at, sizeof want);
    CLOSE(latents, want, countof(want), 2e-5);
    weights_close(&w);
    snprintf(path, sizeof path, VARIANTS "picture-%s.png", name);
    if (!pixels) return;
    CHECK(picture_read(&p, path, &e));
    int most = 0;
    for (size_t i = 0; i < 3 * 64 * 64; i++) most = imax(most, abs(p.rgb[i] - got->rgb[i]));
    CHECK(most <= 1);
    picture_free(&p);
}

static SdRequest request(const Sd *s)
{
    SdRequest r = sd_defaults(s);
    r.prompt = "a photo of a cat", r.negative = "dark";
    r.width = r.height = 64;
    r.steps = 4, r.guidance = 5, r.seed = 7;
    return r;
}

static void run(const Sd *s, SdRequest r, const char *name, bool pixels)
{
    Error e = { 0 };
    Picture p = { 0 };
    float latents[4 * 8 * 8];
    r.latents_out = latents;
    if (!sd_generate(s, &r, &p, &e)) { checks_failed++; printf("%s\n", e.text); return; }
    compare(name, latents, &p, pixels);
    picture_free(&p);
}

TEST(taesd_decodes_and_encodes_as_diffusers_does)
{
    Error e = { 0 };
    Sd s;
    Picture picture, mask;
    machine_choose(1, NULL, &e);
    CHECK(sd_open(&s, "tests/models/sd1", NULL, &e) && sd_vae(&s, VARIANTS "taesd", &e));
    CHECK(s.vae.tiny && s.vae.factor == 8 && s.vae.scaling == 1);
    CHECK(weights_unbound(&s.vae.weights, "", NULL, NULL) == 0);
    CHECK(picture_read(&picture, INPAINT "picture.png", &e));
    CHECK(picture_read(&mask, INPAINT "mask.png", &e));
    SdRequest r = request(&s);
    run(&s, r, "taesd", true);
    r.init = &picture;
    r.strength = 0.6;
    run(&s, r, "taesd-from", true);
    r.mask = &mask;
    r.strength = 0.75;
    run(&s, r, "taesd-mask", false);
    picture_free(&picture);
    picture_free(&mask);
    sd_close(&s);
}

TEST(taesd_needs_what_its_plan_says_and_is_the_same_everywhere)
{
    static const int threads[] = { 1, 2, 3, 7 };
    Error e = { 0 };
    Vae v;
    Arena m = { 0 };
    CHECK(vae_open(&v, VARIANTS "taesd", &e));
    const size_t n = 40 * 56 * 3;
    float *first = malloc(n * sizeof *first), z[5 * 7 * 4], odd[4 * 5 * 7];
    for (size_t i = 0; i < countof(z); i++) z[i] = (float)(i % 17) / 4 - 2;
    for (size_t i = 0; i < countof(threads); i++) {
        Arena plan = { 0 };
        machine_choose(threads[i], i == 2 ? "c" : NULL, &e);
        vae_decode(&plan, &v, (Tensor){ .b = 1, .h = 5, .w = 7, .c = 4 });
        CHECK(arena_open(&m, plan.peak, NULL, &e));
        Tensor rgb = vae_decode(&m, &v, (Tensor){ .at = z, .b = 1, .h = 5, .w = 7, .c = 4 });
        CHECK(rgb.h == 40 && rgb.w == 56 && rgb.c == 3 && m.peak == plan.peak);
        if (!i) memcpy(first, rgb.at, n * sizeof *first);
        CHECK(!memcmp(first, rgb.at, n * sizeof *first));
        arena_close(&m);
    }
    Tensor moments = { .at = z, .b = 1, .h = 5, .w = 7, .c = 4 };
    Rng rng, same;
    rng_seed(&rng, 1);
    same = rng;
    vae_sample(&v, moments, &rng, odd);
    CHECK(!memcmp(&rng, &same, sizeof rng));               /* no noise is drawn */
    CHECK(odd[0] == z[0] && odd[35] == z[1] && odd[34] == z[34 * 4]);
    free(first);
    vae_close(&v);
    machine_choose(0, NULL, &e);
}

TEST(a_consistency_model_without_a_middle_is_what_diffusers_makes)
{
    Error e = { 0 };
    Sd s, whole;
    machine_choose(1, NULL, &e);
    CHECK(sd_open(&whole, "tests/models/sd1", NULL, &e));
    s = whole;
    CHECK(unet_open(&s.unet, VARIANTS "unet", &e));
    CHECK(!s.unet.has_middle && s.unet.guidance_width == 16);
    CHECK(weights_unbound(&s.unet.weights, "", NULL, NULL) == 0);
    Json *config = json_read(VARIANTS "scheduler/scheduler_config.json", 1 << 20, &e);
    CHECK(config && schedule_read(&s.schedule, config, "config", &e));
    schedule_as_sd(&s.schedule, false);
    json_free(config);
    SdRequest r = request(&s);
    r.guidance = 8.5;
    SdStage stages[SD_STAGES], half[SD_STAGES];
    sd_plan(&s, &r, stages);
    r.guidance = 1;
    sd_plan(&s, &r, half);
    CHECK(stages[SD_UNET].macs == half[SD_UNET].macs);     /* asked once, whatever the guidance */
    r.guidance = 8.5;
    run(&s, r, "lcm", false);
    unet_close(&s.unet);
    sd_close(&whole);
}
