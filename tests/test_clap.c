/* test_clap.c - CLAP's two towers, their front ends and the rule for long sounds, against what
 * transformers says of the tiny random models tests/models/clap and tests/models/clap-fused
 * (tests/clap.py made both). */
#include "../clap.h"
#include "../clip.h"
#include "test.h"

#include <unistd.h>

enum { RATE = 8000, WINDOW = 8000 };       /* of the tiny models */

static Weights reference;
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

/* A named activation beside the reference's, which lies as ours does: [1,T,C], or one channel. */
static void probe(void *self, const char *name, Tensor x)
{
    const double bound = !strcmp(name, "input_features") ? 1e-4 : *(double *)self;
    Weight w = find(name);
    if (!w.at) return;
    float *want = values(w);
    CHECK(tensor_count(x) == weight_count(w));
    const double worst = worst_relative(x.at, want, zmin(tensor_count(x), weight_count(w)));
    if (!(worst <= bound)) {
        checks_failed++;
        printf("%s: %s is off by %.2e of the largest value, bound %.0e\n", reference.path, name,
               worst, bound);
    }
    compared++;
    free(want);
}

static bool begin(Clap *c, Arena *m, const char *folder)
{
    Error e = { 0 };
    char path[128];
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    bool ok = clap_open(c, folder, NULL, &e) && arena_open(m, clap_memory(c), NULL, &e)
        && weights_open(&reference, path, "", &e);
    CHECK_STR(e.text, "");
    return ok;
}

static void end(Clap *c, Arena *m)
{
    weights_close(&reference);
    arena_close(m);
    clap_close(c);
}

static Sound sound_of(int i)
{
    char name[32];
    snprintf(name, sizeof name, "sound.%d", i);
    Weight w = find(name);
    CHECK(w.at != NULL);
    return (Sound){ .rate = RATE, .channels = 1, .frames = weight_count(w), .at = values(w) };
}

static void towers(const char *folder, int activations)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    double bound = 1e-5;
    if (!begin(&c, &m, folder)) return;
    float *out = malloc((size_t)c.dim * sizeof *out);
    const char *text = NULL;
    compared = 0;
    trace_to(probe, &bound);
    CHECK(json_string(weights_metadata(&reference, 0), "text.0", &text, folder, &e) && text);
    CHECK(clap_embed_text(&c, &m, text, out, NULL, &e));
    Sound s = sound_of(0);
    CHECK(clap_embed_sound(&c, &m, &s, out, &e));
    trace_to(NULL, NULL);
    CHECK_STR(e.text, "");
    CHECK(compared == activations);
    CHECK(m.base && m.used == 0 && m.peak <= m.size);
    sound_free(&s);
    free(out);
    end(&c, &m);
}

TEST(towers_layer_by_layer) { towers("tests/models/clap", 14); }
TEST(towers_with_fusion_layer_by_layer) { towers("tests/models/clap-fused", 16); }

/* Texts that are cut, empty, or hold special tokens; sounds that are repeated, exact, five samples,
 * too long. */
static void embeddings(const char *folder)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    if (!begin(&c, &m, folder)) return;
    const size_t dim = (size_t)c.dim;
    float *out = malloc(dim * sizeof *out);
    float *texts = values(find("text_embeds")), *sounds = values(find("sound_embeds"));
    float *cut = values(find("lost"));
    const int text_count = find("text_embeds").dim[0], sound_count = find("sound_embeds").dim[0];
    CHECK(text_count == 5 && sound_count == 4);
    for (int i = 0; i < text_count; i++) {
        char key[32];
        const char *text = NULL;
        int lost = -1;
        snprintf(key, sizeof key, "text.%d", i);
        CHECK(json_string(weights_metadata(&reference, 0), key, &text, folder, &e) && text);
        CHECK(clap_embed_text(&c, &m, text, out, &lost, &e));
        CLOSE(out, texts + (size_t)i * dim, dim, 1e-5);
        CHECK(lost == (int)cut[i] && (lost > 0) == (i == text_count - 1));
    }
    for (int i = 0; i < sound_count; i++) {
        Sound s = sound_of(i);
        CHECK(clap_embed_sound(&c, &m, &s, out, &e));
        CLOSE(out, sounds + (size_t)i * dim, dim, 1e-5);
        Sound same = sound_of(i);
        CHECK(s.frames == same.frames && !memcmp(s.at, same.at, s.frames * sizeof *s.at));
        sound_free(&same);
        sound_free(&s);
    }
    CHECK_STR(e.text, "");
    free(texts);
    free(sounds);
    free(cut);
    free(out);
    end(&c, &m);
}

TEST(embeddings_of_texts_and_sounds) { embeddings("tests/models/clap"); }
TEST(embeddings_with_fusion) { embeddings("tests/models/clap-fused"); }

TEST(a_long_sound_is_the_mean_of_its_windows)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    if (!begin(&c, &m, "tests/models/clap")) return;
    const size_t dim = (size_t)c.dim;
    float *whole = malloc(dim * sizeof *whole), *part = malloc(dim * sizeof *part);
    float *sum = calloc(dim, sizeof *sum);
    Sound s = sound_of(3);
    CHECK(s.frames == WINDOW + 3000 && clap_embed_sound(&c, &m, &s, whole, &e));
    for (int i = 0; i < 2; i++) {
        Sound window = { .rate = RATE, .channels = 1, .frames = WINDOW,
                         .at = s.at + (i ? 3000 : 0) };
        CHECK(clap_embed_sound(&c, &m, &window, part, &e));
        normalize(part, c.dim);
        for (size_t j = 0; j < dim; j++) sum[j] += part[j] / 2;
    }
    CLOSE(whole, sum, dim, 1e-6);
    sound_free(&s);
    free(whole);
    free(part);
    free(sum);
    end(&c, &m);
}

TEST(channels_are_averaged)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    if (!begin(&c, &m, "tests/models/clap")) return;
    const size_t dim = (size_t)c.dim;
    float *one = malloc(dim * sizeof *one), *two = malloc(dim * sizeof *two);
    Sound s = sound_of(0), pair = s;
    pair.channels = 2;
    pair.at = malloc(2 * s.frames * sizeof *pair.at);
    for (size_t i = 0; i < s.frames; i++) {
        pair.at[2 * i] = 1.5f * s.at[i];
        pair.at[2 * i + 1] = 0.5f * s.at[i];
    }
    CHECK(clap_embed_sound(&c, &m, &s, one, &e) && clap_embed_sound(&c, &m, &pair, two, &e));
    CHECK(pair.channels == 2);
    CLOSE(two, one, dim, 1e-5);
    sound_free(&pair);
    sound_free(&s);
    free(one);
    free(two);
    end(&c, &m);
}

TEST(the_same_bytes_on_every_machine)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    char isas[256];
    if (!begin(&c, &m, "tests/models/clap-fused")) return;
    const size_t bytes = (size_t)c.dim * sizeof(float);
    float *first = malloc(2 * bytes), *out = malloc(2 * bytes);
    Sound s = sound_of(0);
    CHECK(clap_embed_text(&c, &m, "rain", first, NULL, &e));
    CHECK(clap_embed_sound(&c, &m, &s, first + c.dim, &e));
    snprintf(isas, sizeof isas, "%s", machine_isas());
    for (char *isa = strtok(isas, ", "); isa; isa = strtok(NULL, ", "))
        for (int threads = 1; threads <= 7; threads += 3) {
            CHECK(machine_choose(threads, isa, &e));
            arena_close(&m);
            CHECK(arena_open(&m, clap_memory(&c), NULL, &e));
            CHECK(clap_embed_text(&c, &m, "rain", out, NULL, &e));
            CHECK(clap_embed_sound(&c, &m, &s, out + c.dim, &e));
            CHECK_STR(e.text, "");
            CHECK(!memcmp(out, first, 2 * bytes));
        }
    CHECK(machine_choose(0, NULL, &e));
    sound_free(&s);
    free(first);
    free(out);
    end(&c, &m);
}

TEST(scores_use_the_scale_of_sounds)
{
    Clap c;
    Arena m;
    if (!begin(&c, &m, "tests/models/clap")) return;
    CHECK(fabs(c.logit_scale - 24.532530197) < 1e-5);          /* e^3.2 */
    end(&c, &m);
}

TEST(every_tensor_is_accounted_for)
{
    static const char *const folders[] = { "tests/models/clap", "tests/models/clap-fused" };
    const char *known = "position_ids|token_type_ids|relative_position_index|num_batches_tracked";
    for (size_t i = 0; i < countof(folders); i++) {
        Error e = { 0 };
        Clap c;
        CHECK(clap_open(&c, folders[i], NULL, &e));
        CHECK_STR(e.text, "");
        CHECK(weights_unbound(&c.weights, known, NULL, NULL) == 0);
        CHECK(weights_unbound(&c.weights, "", NULL, NULL) > 0);
        clap_close(&c);
    }
}

TEST(an_arena_too_small_says_what_it_needed)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    if (!begin(&c, &m, "tests/models/clap")) return;
    float *out = malloc((size_t)c.dim * sizeof *out);
    arena_close(&m);
    CHECK(arena_open(&m, 4096, NULL, &e));
    Sound s = sound_of(0);
    CHECK(!clap_embed_sound(&c, &m, &s, out, &e)
          && strstr(e.text, "sound: out of memory: needed an arena of"));
    e = (Error){ 0 };
    CHECK(!clap_embed_text(&c, &m, "rain", out, NULL, &e) && strstr(e.text, "text: out of memory"));
    sound_free(&s);
    free(out);
    end(&c, &m);
}

TEST(sounds_that_cannot_be_heard)
{
    Error e = { 0 };
    Clap c;
    Arena m;
    if (!begin(&c, &m, "tests/models/clap")) return;
    float *out = malloc((size_t)c.dim * sizeof *out), samples[3] = { 0.5f, NAN, 0 };
    Sound s = { .rate = RATE, .channels = 1, .frames = 0, .at = samples };
    CHECK(!clap_embed_sound(&c, &m, &s, out, &e));
    CHECK_STR(e.text, "sound: found no samples, want at least one");
    e = (Error){ 0 };
    s.frames = 3;
    CHECK(!clap_embed_sound(&c, &m, &s, out, &e));
    CHECK_STR(e.text, "sound: found NaN or infinity at sample 1, want numbers");
    e = (Error){ 0 };
    samples[0] = samples[1] = 0;                                /* silence is a sound */
    CHECK(clap_embed_sound(&c, &m, &s, out, &e));
    free(out);
    end(&c, &m);
}

TEST(spectrograms_of_known_sounds)
{
    Error e = { 0 };
    enum { N = 1000, HOP = 100, FFT = 256, MELS = 8 };
    float x[N], *filters = mel_filters(FFT / 2 + 1, MELS, 0, 4000, RATE, true, false, &e);
    int frames = 0;
    for (int i = 0; i < N; i++) x[i] = (float)cos(2 * 3.14159265358979 * 1000 * i / RATE);
    float *mel = mel_spectrogram(x, N, FFT, HOP, filters, MELS, &frames, &e);
    CHECK(filters && mel && frames == N / HOP + 1);
    /* a cosine of 1000 Hz is bin 32; the window sums to FFT/2: the bins hold FFT/4, twice FFT/8 */
    double want = 0;
    for (int j = 31; j <= 33; j++) want += filters[j * MELS + 3] * (j == 32 ? 64.0 * 64
            : 32.0 * 32);
    CHECK(want > 0 && fabs(mel[5 * MELS + 3] - 10 * log10(want)) < 1e-3);
    free(mel);
    memset(x, 0, sizeof x);
    mel = mel_spectrogram(x, 1, FFT, HOP, filters, MELS, &frames, &e);
    CHECK(mel && frames == 1 && fabsf(mel[0] + 100) < 1e-4f);   /* the floor, 1e-10 */
    free(mel);
    CHECK(!mel_spectrogram(x, N, 240, HOP, filters, MELS, &frames, &e)
          && strstr(e.text, "found 240 samples"));
    e = (Error){ 0 };
    CHECK(!mel_spectrogram(x, 0, FFT, HOP, filters, MELS, &frames, &e) && e.code);
    e = (Error){ 0 };
    CHECK(!mel_filters(FFT / 2 + 1, MELS, 4000, 100, RATE, true, false, &e) && e.code);
    free(filters);
}

/* ---- folders that are not what they should be ---------------------------------------------- */

static const char *const files[] = { "config.json", "preprocessor_config.json", "vocab.json",
                                     "merges.txt", "tokenizer_config.json", "model.safetensors" };

/* A copy of tests/models/clap in a new folder, in which `from` of file `name` became `to`. */
static void altered(char folder[64], const char *name, const char *from, const char *to)
{
    snprintf(folder, 64, "/tmp/fusion-clap-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    for (size_t i = 0; i < countof(files); i++) {
        Error e = { 0 };
        File f;
        char path[128];
        snprintf(path, sizeof path, "tests/models/clap/%s", files[i]);
        CHECK(file_map(&f, path, 0, &e));
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        FILE *out = fopen(path, "wb");
        const bool this = !strcmp(files[i], name);
        const uint8_t *at = this ? memmem(f.at, f.size, from, strlen(from)) : NULL;
        const size_t before = at ? (size_t)(at - f.at) : f.size;
        CHECK(out && (at || !this));
        fwrite(f.at, 1, before, out);
        if (at) {
            fwrite(to, 1, strlen(to), out);
            fwrite(at + strlen(from), 1, f.size - before - strlen(from), out);
        }
        fclose(out);
        file_unmap(&f);
    }
}

static void removed(const char *folder)
{
    for (size_t i = 0; i < countof(files); i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        remove(path);
    }
    rmdir(folder);
}

static void refused(const char *name, const char *from, const char *to, const char *says)
{
    Error e = { 0 };
    Clap c;
    char folder[64];
    altered(folder, name, from, to);
    CHECK(!clap_open(&c, folder, NULL, &e));
    if (!strstr(e.text, says)) {
        checks_failed++;
        printf("%s -> %s: got '%s', want '%s'\n", from, to, e.text, says);
    }
    removed(folder);
}

TEST(short_sounds_are_filled_as_the_folder_says)
{
    static const char *const fills[] = { "repeat", "pad" };
    for (size_t i = 0; i < countof(fills); i++) {
        Error e = { 0 };
        Clap c;
        Arena m;
        char folder[64], name[64];
        snprintf(name, sizeof name, "\"%s\"", fills[i]);
        altered(folder, "preprocessor_config.json", "\"repeatpad\"", name);
        CHECK(clap_open(&c, folder, NULL, &e) && arena_open(&m, clap_memory(&c), NULL, &e)
              && weights_open(&reference, "tests/models/clap/reference.safetensors", "", &e));
        CHECK_STR(e.text, "");
        snprintf(name, sizeof name, "sound_embeds.%s", fills[i]);
        float *want = values(find(name)), *out = malloc((size_t)c.dim * sizeof *out);
        Sound s = sound_of(0);
        CHECK(clap_embed_sound(&c, &m, &s, out, &e));
        CLOSE(out, want, (size_t)c.dim, 1e-5);
        sound_free(&s);
        free(want);
        free(out);
        end(&c, &m);
        removed(folder);
    }
}

TEST(what_cannot_be_run_is_named)
{
    const char *config = "config.json", *ears = "preprocessor_config.json";
    refused(config, "\"clap\"", "\"clip\"", "model_type: want clap");
    refused(config, "\"text_config\"", "\"text_confix\"", "text_config: missing");
    refused(config, "\"num_attention_heads\": 3", "\"num_attention_heads\": 5",
            "want a divisor of hidden_size 24");
    refused(config, "\"hidden_act\": \"gelu\"", "\"hidden_act\": \"mish\"",
            "hidden_act: found 'mish'");
    refused(config, "\"num_mel_bins\": 10", "\"num_mel_bins\": 11",
            "want a multiple of num_mel_bins 11");
    refused(config, "\"window_size\": 4", "\"window_size\": 6",
            "window_size: found 6, want at most stage 1's 5x10");
    refused(config, "\"window_size\": 4", "\"window_size\": 3",
            "relative_position_bias_table: shape is 49x2, want 25x2");
    refused(config, "\"spec_size\": 40", "\"spec_size\": 60",
            "leaves stage 0 15x30 positions, want even");
    refused(config, "\"window_size\": 4", "\"window_size\": 4, \"qkv_bias\": false",
            "qkv_bias: found false, want true");
    refused(config, "\"window_size\": 4", "\"window_size\": 4, \"enable_fusion\": true",
            "mel_conv2d.weight: missing");
    refused(config, "\"depths\": [", "\"depths\": [0, ", "depths");
    refused(ears, "rand_trunc", "fusion", "want rand_trunc: the model's enable_fusion is false");
    refused(ears, "rand_trunc", "middle", "truncation: found 'middle'");
    refused(ears, "repeatpad", "mirror", "padding: found 'mirror'");
    refused(ears, "\"fft_window_size\": 256", "\"fft_window_size\": 200", "want a power of two");
    refused(ears, "\"hop_length\": 64", "\"hop_length\": 16", "501 frames, want at most 160");
    refused(ears, "\"feature_size\": 10", "\"feature_size\": 12",
            "want the model's num_mel_bins 10");
    refused("model.safetensors", "layers.0.downsample.norm.bias", "layers.0.downsample.norm.bios",
            "audio_model.audio_encoder.layers.0.downsample.norm.bias: missing");
}

TEST(the_text_tower_alone)
{
    Error e = { 0 };
    ClapText t;
    Weights w;
    Clap c;
    Arena m;
    if (!begin(&c, &m, "tests/models/clap")) return;
    /* the tiny folder's text_config stands for a ClapTextModelWithProjection's config.json */
    char folder[] = "/tmp/fusion-clap-XXXXXX", path[128], model[128], here[4096], target[4200];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/config.json", folder);
    FILE *f = fopen(path, "wb");
    fputs("{\"model_type\": \"clap_text_model\", \"vocab_size\": 321, \"hidden_size\": 24,"
          "\"num_hidden_layers\": 2, \"num_attention_heads\": 3, \"intermediate_size\": 40,"
          "\"projection_dim\": 20, \"max_position_embeddings\": 52}", f);
    fclose(f);
    snprintf(model, sizeof model, "%s/model.safetensors", folder);
    CHECK(getcwd(here, sizeof here) != NULL);
    snprintf(target, sizeof target, "%s/tests/models/clap/model.safetensors", here);
    CHECK(symlink(target, model) == 0);
    CHECK(clap_text_open(&t, &w, folder, &e));
    CHECK_STR(e.text, "");
    if (!e.code) {
        float *ids = values(find("input_ids")), *want = values(find("text_embeds"));
        const int n = (int)weight_count(find("input_ids"));
        int *whole = malloc((size_t)n * sizeof *whole);
        for (int i = 0; i < n; i++) whole[i] = (int)ids[i];
        Tensor x = clap_text(&m, &t, whole, n);
        CHECK(x.c == 20);
        CLOSE(x.at, want, 20, 1e-5);
        free(ids);
        free(want);
        free(whole);
        clap_text_close(&t);
        weights_close(&w);
    }
    remove(path);
    remove(model);
    rmdir(folder);
    end(&c, &m);
}
