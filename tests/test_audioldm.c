/* test_audioldm.c - the UNet with a class, the mel VAE, HiFi-GAN and whole runs against what
 * diffusers and transformers wrote beside tests/models/audioldm (tests/audioldm.py made both). */
#include "../audioldm.h"
#include "../sd.h"
#include "test.h"

#include <unistd.h>

#define FOLDER "tests/models/audioldm"

static Weights reference;

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

/* [B,C,H,W] -> [B,H,W,C]; [B,T,C] -> [B,T,1,C]; [B,C] -> [B,1,1,C] */
static Tensor input(Arena *m, const char *name)
{
    Weight w = find(name);
    CHECK(w.at != NULL);
    float *v = values(w);
    Tensor x = w.rank == 4 ? tensor(m, w.dim[0], w.dim[2], w.dim[3], w.dim[1])
             : w.rank == 3 ? tensor(m, w.dim[0], w.dim[1], 1, w.dim[2])
                           : tensor(m, w.dim[0], 1, 1, w.dim[1]);
    const size_t n = (size_t)x.h * (size_t)x.w, each = n * (size_t)x.c;
    for (int b = 0; b < x.b; b++)
        if (w.rank == 4) channels_last(v + b * each, (size_t)x.c, n, item(x, b).at);
        else memcpy(item(x, b).at, v + b * each, each * sizeof(float));
    free(v);
    return x;
}

static int compared;

static void compare(const char *name, Tensor x, double bound)
{
    Weight w = find(name);
    if (!w.at) return;
    const size_t n = (size_t)x.h * (size_t)x.w, each = n * (size_t)x.c, count = tensor_count(x);
    float *want = values(w), *got = calloc(count + 1, sizeof *got);
    CHECK(count == weight_count(w));
    for (int b = 0; b < x.b && count == weight_count(w); b++)
        if (w.rank >= 3 && !strstr(name, "attn")) channels_first(item(x, b).at, (size_t)x.c, n,
                                                                 got + b * each);
        else memcpy(got + b * each, item(x, b).at, each * sizeof(float));
    const double worst = worst_relative(got, want, zmin(count, weight_count(w)));
    if (!(worst <= bound)) {
        checks_failed++;
        printf("%s is off by %.2e of the largest value, bound %.0e\n", name, worst, bound);
    }
    compared++;
    free(want);
    free(got);
}

static void probe(void *self, const char *name, Tensor x)
{
    char full[600];
    snprintf(full, sizeof full, "%s%s", (const char *)self, name);
    compare(full, x, 1e-4);
}

static Arena arena_of(size_t bytes)
{
    Error e = { 0 };
    Arena m = { 0 };
    CHECK(arena_open(&m, bytes, NULL, &e));
    return m;
}

static bool begin(AudioLdm *a)
{
    Error e = { 0 };
    bool ok = audioldm_open(a, FOLDER, NULL, &e);
    CHECK_STR(e.text, "");
    ok = ok && weights_open(&reference, FOLDER "/reference.safetensors", "", &e);
    CHECK_STR(e.text, "");
    compared = 0;
    return ok;
}
static void end(AudioLdm *a)
{
    trace_to(NULL, NULL);
    weights_close(&reference);
    audioldm_close(a);
}

TEST(part_by_part)
{
    AudioLdm a;
    if (!begin(&a)) return;
    Arena m = arena_of(64 << 20);
    Tensor none = { 0 }, class = input(&m, "class");
    trace_to(probe, "unet.");
    compare("unet", unet(&m, &a.unet, input(&m, "sample"), 481, none, class), 1e-4);
    trace_to(probe, "vae.");
    compare("vae.decoder", vae_decode(&m, &a.vae, input(&m, "latents")), 1e-4);
    Tensor mel = input(&m, "mel");
    vae_encode(&m, &a.vae,
               (Tensor){ .at = mel.at, .b = 1, .h = mel.h, .w = mel.c, .c = 1 });
    trace_to(probe, "vocoder.");
    compare("vocoder", hifigan(&m, &a.vocoder, mel), 1e-4);
    trace_to(NULL, NULL);
    CHECK(compared >= 23);
    compare("unet15", unet(&m, &a.unet, input(&m, "sample15"), 481, none, item(class, 0)), 1e-4);
    arena_close(&m);
    end(&a);
}

/* Class embedding added, heads by level; weight norm under both of its names. */
TEST(other_forms)
{
    static const char *const vocoders[] = { "vocoder-g", "vocoder-original" };
    Error e = { 0 };
    Unet u;
    HifiGan g;
    CHECK(weights_open(&reference, FOLDER "/reference.safetensors", "", &e));
    compared = 0;
    Arena m = arena_of(64 << 20);
    CHECK(unet_open(&u, FOLDER "/unet-added", &e));
    CHECK_STR(e.text, "");
    if (e.code) return;
    CHECK(!u.class_concat && u.class_width == 20 && u.context == 0);
    compare("unet-added", unet(&m, &u, input(&m, "sample"), 481, (Tensor){ 0 },
                               input(&m, "class")), 1e-4);
    unet_close(&u);
    for (size_t i = 0; i < countof(vocoders); i++) {
        char path[128];
        snprintf(path, sizeof path, FOLDER "/%s", vocoders[i]);
        CHECK(hifigan_open(&g, path, &e));
        CHECK_STR(e.text, "");
        if (e.code) return;
        Tensor mel = input(&m, "mel"), x = hifigan(&m, &g, mel);
        CHECK((size_t)x.h == hifigan_samples(&g, mel.h));
        compare("vocoder-g", x, 1e-4);
        hifigan_close(&g);
    }
    CHECK(compared == 3);
    arena_close(&m);
    weights_close(&reference);
}

typedef struct {
    const char *method, *schedule;
    double guidance, seconds; int steps; double strength;
} How;
static const How runs[] = {                            /* RUNS of tests/audioldm.py */
    { "ddim", "discrete", 2.5, 0.1777, 4, 0 },    { "ddim", "discrete", 1, 0.2951, 4, 0 },
    { "pndm", "discrete", 2.5, 0.1777, 6, 0 },    { "dpm++2m", "discrete", 2.5, 0.17771, 5, 0 },
    { "dpm++2m", "karras", 1, 0.0339, 5, 0 },     { "euler_a", "discrete", 2.5, 0.1777, 4, 0 },
    { "ddim", "discrete", 2.5, 0.1777, 8, 0.5 },  { "euler", "karras", 1, 0.1777, 6, 0.7 } };

static AudioRequest request(const AudioLdm *a, const How *how, const Sound *start)
{
    AudioRequest r = audioldm_defaults(a);
    r.prompt = "Un marché animé avec des conversations.";
    r.negative = "low quality";
    r.seed = 7;
    r.method = sampler_method(how->method);
    r.schedule = sampler_schedule(how->schedule);
    r.guidance = how->guidance;
    r.seconds = how->seconds;
    r.steps = how->steps;
    if (how->strength > 0) { r.init = start; r.strength = how->strength; }
    return r;
}

/* The sound from which style transfer starts. */
static Sound start_sound(void)
{
    Weight w = find("sound");
    return (Sound){ .rate = 8000, .channels = 1, .frames = weight_count(w), .at = values(w) };
}

/* 10 log10 of the signal's power over that of the difference. */
static double snr(const float *got, const float *want, size_t n)
{
    double signal = 0, gap = 1e-30;
    for (size_t i = 0; i < n; i++) {
        signal += (double)want[i] * want[i];
        gap += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
    }
    return n ? 10 * log10(signal / gap) : 0;
}

TEST(whole_runs)
{
    AudioLdm a;
    if (!begin(&a)) return;
    Sound start = start_sound();
    for (size_t i = 0; i < countof(runs); i++) {
        Error e = { 0 };
        Sound s;
        char name[32];
        AudioRequest r = request(&a, &runs[i], &start);
        snprintf(name, sizeof name, "run.%zu", i);
        Weight w = find(name);
        float *want = values(w);
        CHECK(audioldm_generate(&a, &r, &s, &e));
        CHECK_STR(e.text, "");
        CHECK(s.rate == 8000 && s.channels == 1);
        CHECK(s.frames == (size_t)(runs[i].seconds * 8000 + 0.5));
        const double db = snr(s.at, want, zmin(s.frames, weight_count(w)));
        if (!(db >= 60)) {
            checks_failed++;
            printf("%s, %s %s: %.1f dB, want 60\n", name, runs[i].method, runs[i].schedule, db);
        }
        free(want);
        sound_free(&s);
    }
    sound_free(&start);
    end(&a);
}

TEST(lengths_to_the_sample)
{
    static const double seconds[] = { 0.00025, 0.0005, 0.01, 0.019999, 0.02, 0.0201, 0.1234567,
                                      0.3 };
    AudioLdm a;
    if (!begin(&a)) return;
    for (size_t i = 0; i < countof(seconds); i++) {
        Error e = { 0 };
        Sound s;
        int c, h, w, frames, mels;
        AudioRequest r = audioldm_defaults(&a);
        r.prompt = "rain";
        r.steps = 1;
        r.seconds = seconds[i];
        audioldm_shape(&a, &r, &c, &h, &w, &frames, &mels);
        CHECK(c == 4 && w == 5 && mels == 20 && frames == 4 * h);
        CHECK(audioldm_generate(&a, &r, &s, &e));
        CHECK_STR(e.text, "");
        CHECK(s.frames == (size_t)(seconds[i] * 8000 + 0.5));
        CHECK(frames * 40 >= (int)s.frames && (frames - 4) * 40 < (int)s.frames);
        sound_free(&s);
    }
    end(&a);
}

/* One run as bytes, for each number of threads and instruction set. */
TEST(same_bytes)
{
    static const int threads[] = { 1, 3, 1, 3 };
    static const char *const isa[] = { NULL, NULL, "c", "c" };
    AudioLdm a;
    if (!begin(&a)) return;
    Sound start = start_sound(), first = { 0 };
    for (size_t i = 0; i < countof(threads); i++) {
        Error e = { 0 };
        Sound s;
        AudioRequest r = request(&a, &runs[6], &start);
        CHECK(machine_choose(threads[i], isa[i], &e));
        CHECK(audioldm_generate(&a, &r, &s, &e));
        CHECK_STR(e.text, "");
        if (i) CHECK(s.frames == first.frames && s.at
                     && !memcmp(s.at, first.at, s.frames * sizeof(float)));
        if (i) sound_free(&s);
        else first = s;
    }
    machine_choose(0, NULL, &(Error){ 0 });
    sound_free(&first);
    sound_free(&start);
    end(&a);
}

/* Two equal channels are one; a longer sound at another rate is resampled and cut. */
TEST(start_of_any_form)
{
    AudioLdm a;
    if (!begin(&a)) return;
    Error e = { 0 };
    Sound start = start_sound(), one, two, far;
    AudioRequest r = request(&a, &runs[6], &start);
    CHECK(audioldm_generate(&a, &r, &one, &e));
    Sound stereo = { .rate = 8000, .channels = 2, .frames = start.frames,
                     .at = calloc(2 * start.frames, sizeof(float)) };
    for (size_t i = 0; i < 2 * start.frames; i++) stereo.at[i] = start.at[i / 2];
    r.init = &stereo;
    CHECK(audioldm_generate(&a, &r, &two, &e));
    CHECK(!memcmp(one.at, two.at, one.frames * sizeof(float)));
    stereo.rate = 1234;
    CHECK(audioldm_generate(&a, &r, &far, &e));
    CHECK_STR(e.text, "");
    CHECK(far.frames == one.frames && memcmp(one.at, far.at, one.frames * sizeof(float)));
    sound_free(&one);
    sound_free(&two);
    sound_free(&far);
    sound_free(&stereo);
    sound_free(&start);
    end(&a);
}

static void refused(const AudioLdm *a, const AudioRequest *r, int code, const char *what)
{
    Error e = { 0 };
    Sound s;
    CHECK(!audioldm_generate(a, r, &s, &e));
    CHECK(e.code == code);
    if (!strstr(e.text, what)) {
        checks_failed++;
        printf("got '%s', want it to say '%s'\n", e.text, what);
    }
    CHECK(!s.at);
}

TEST(misuse)
{
    static const double wrong[] = { 0, -1, 0.0001, 3601, NAN, INFINITY, -INFINITY };
    AudioLdm a;
    if (!begin(&a)) return;
    AudioRequest r = audioldm_defaults(&a);
    CHECK(r.seconds > 0.2399 && r.seconds < 0.2401 && r.steps == 10 && r.guidance == 2.5);
    for (size_t i = 0; i < countof(wrong); i++) {
        r.seconds = wrong[i];
        refused(&a, &r, 2, "seconds: found ");
    }
    r = audioldm_defaults(&a);
    r.steps = 0;
    refused(&a, &r, 2, "steps");
    r = audioldm_defaults(&a);
    r.init = &(Sound){ .rate = 8000, .channels = 1 };
    refused(&a, &r, 2, "found no samples");
    end(&a);
}

TEST(memory_is_planned)
{
    AudioLdm a;
    if (!begin(&a)) return;
    Error e = { 0 };
    Sound start = start_sound(), s;
    AudioStage stages[AUDIO_STAGES];
    AudioRequest r = request(&a, &runs[6], &start);
    size_t need = 0;
    audioldm_plan(&a, &r, stages);
    for (int i = 0; i < AUDIO_STAGES; i++) need = zmax(need, stages[i].memory);
    CHECK(stages[AUDIO_UNET].calls == 4 && stages[AUDIO_ENCODE].calls == 1);
    CHECK(stages[AUDIO_VOCODER].macs > 0 && stages[AUDIO_TEXT].macs > 0);
    r.max_memory = need - 1;
    refused(&a, &r, 1, "memory: this run needs ");
    r.max_memory = need;
    double spent[AUDIO_STAGES] = { 0 };
    r.seconds_spent = spent;
    CHECK(audioldm_generate(&a, &r, &s, &e));
    CHECK_STR(e.text, "");
    for (int i = 0; i < AUDIO_STAGES; i++) CHECK(spent[i] > 0);
    sound_free(&s);
    r.init = NULL;
    audioldm_plan(&a, &r, stages);
    CHECK(stages[AUDIO_ENCODE].memory == 0 && stages[AUDIO_UNET].calls == 8);
    sound_free(&start);
    end(&a);
}

/* A prompt's embedding given is the prompt; latents given are the seed's noise. */
TEST(embeddings_and_latents_given)
{
    AudioLdm a;
    if (!begin(&a)) return;
    Error e = { 0 };
    Sound s = { 0 }, same = { 0 };
    AudioRequest r = request(&a, &runs[1], NULL);
    CHECK(audioldm_generate(&a, &r, &s, &e));
    Ids ids = { 0 };
    Arena m = arena_of(4 << 20);
    float embedding[20], noise[4 * 15 * 5];
    int c, h, w, frames, mels;
    CHECK(tok_encode(a.tok, r.prompt, strlen(r.prompt), &ids, &e));
    to_host(clap_text(&m, &a.text, ids.at, ids.count), embedding);
    audioldm_shape(&a, &r, &c, &h, &w, &frames, &mels);
    CHECK(c == 4 && h == 15 && w == 5);
    Rng rng;
    rng_seed(&rng, 7);
    randn(&rng, noise, countof(noise));
    r.seed = 1;
    r.prompt = NULL;
    r.prompt_embeds = embedding;
    r.latents = noise;
    float *mel = calloc((size_t)(frames * mels), sizeof *mel), out[countof(noise)] = { 0 };
    r.mel_out = mel;
    r.latents_out = out;
    CHECK(audioldm_generate(&a, &r, &same, &e));
    CHECK_STR(e.text, "");
    CHECK(same.frames == s.frames && !memcmp(s.at, same.at, s.frames * sizeof(float)));
    CHECK(out[7] != 0 && mel[frames * mels - 1] != 0);
    free(mel);
    ids_free(&ids);
    sound_free(&s);
    sound_free(&same);
    arena_close(&m);
    end(&a);
}

/* What breaks in the middle is told by stage and step, and no sound comes out. */
TEST(broken_in_the_middle)
{
    static float nan[64], zeros[4096];
    static const float nothing[20];
    AudioLdm a;
    if (!begin(&a)) return;
    for (size_t i = 0; i < countof(nan); i++) nan[i] = NAN;
    const AudioLdm whole = a;
    AudioRequest r = request(&a, &runs[0], NULL);
    a.unet.conv_out.b = (Weight){ nan, F32, 1, { 4 } };
    refused(&a, &r, 1, ": the prediction of step 1: not finite");
    a = whole;
    a.unet.conv_out.w.at = a.unet.conv_out.b.at = zeros;
    refused(&a, &r, 1, ": the prediction of step 1: every value is 0");
    a = whole;
    a.vae.decoder.conv_out.b = (Weight){ nan, F32, 1, { 1 } };
    refused(&a, &r, 1, ": decoding the mel: not finite");
    a = whole;
    a.vocoder.post.w.at = a.vocoder.post.b.at = zeros;
    refused(&a, &r, 1, ": samples: every value is 0");
    a = whole;
    r.prompt_embeds = nothing;
    refused(&a, &r, 1, "text embedding: every value is 0");
    r.prompt_embeds = NULL;
    r.init = &(Sound){ .rate = 8000, .channels = 2, .frames = 2000, .at = zeros };
    refused(&a, &r, 1, "sound to start from: silence");
    end(&a);
}

/* A folder of links: the parts of audioldm, but for one that comes from elsewhere. */
static void mixed(const char *base, const char *part, const char *from, char *folder)
{
    static const char *const names[] = { "model_index.json", "tokenizer", "text_encoder", "unet",
                                         "vae", "vocoder", "scheduler" };
    char here[512], target[1024], link[512];
    snprintf(folder, sizeof "/tmp/test_audioldm.XXXXXX", "/tmp/test_audioldm.XXXXXX");
    CHECK(mkdtemp(folder) && getcwd(here, sizeof here));
    for (size_t i = 0; i < countof(names); i++) {
        snprintf(target, sizeof target, "%s/%s/%s", here, strcmp(names[i], part) ? base : from,
                 names[i]);
        snprintf(link, sizeof link, "%s/%s", folder, names[i]);
        CHECK(!symlink(target, link));
    }
}

static void mixed_end(const char *folder)
{
    static const char *const names[] = { "model_index.json", "tokenizer", "text_encoder", "unet",
                                         "vae", "vocoder", "scheduler" };
    char link[512];
    for (size_t i = 0; i < countof(names); i++) {
        snprintf(link, sizeof link, "%s/%s", folder, names[i]);
        unlink(link);
    }
    rmdir(folder);
}

TEST(parts_of_another_model)
{
    static const struct { const char *part, *says; } parts[] = {
        { "unet", "class_embed_type: found null, want simple_projection" },
        { "vae", "in_channels: found 3, want 1 for mel spectrograms" },
        { "model_index.json", "_class_name: found StableDiffusionPipeline, want AudioLDMPipeline" },
        { "text_encoder", "/text_encoder/" },
        { "vocoder", "config.json" } };
    char folder[64];
    for (size_t i = 0; i < countof(parts); i++) {
        Error e = { 0 };
        AudioLdm a;
        mixed(FOLDER, parts[i].part, "tests/models/sd1", folder);
        CHECK(!audioldm_open(&a, folder, NULL, &e) && e.code == 1);
        if (!strstr(e.text, parts[i].says)) {
            checks_failed++;
            printf("got '%s', want it to say '%s'\n", e.text, parts[i].says);
        }
        mixed_end(folder);
    }
    Error e = { 0 };
    Sd s;
    mixed("tests/models/sd1", "unet", FOLDER, folder);
    CHECK(!sd_open(&s, folder, NULL, &e));
    CHECK(strstr(e.text, "class_embed_type: found simple_projection, want null"));
    mixed_end(folder);
}
