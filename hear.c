/* hear.c - the verb audio: text to sound.
 * Read in this order: the request, levels, ranking, the sounds, layers, audio. */
#include "audioldm.h"
#include "clip.h"
#include "command.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* One --layer: a text of its own, its level and seed. */
typedef struct {
    const char *text, *level; int level_length;      /* the level as it is spelt */
    double gain_db; uint64_t seed; char *echo;
} Layer;

/* Everything of one run of `audio`. */
typedef struct {
    Args *a;
    AudioLdm model;
    AudioRequest r;
    Sound init;
    float *latents, *saved, *embeds[2];    /* [items][C,h,w] given and final; prompt and negative */
    int latent_items, shape[4];            /* [batch,C,h,w] */
    size_t count;                          /* values of one sound's latents */
    Clap clap;                             /* with --candidates */
    Arena m;
    float *wanted, *heard;                 /* embeddings [clap.dim] */
    Candidate *ranked;                     /* best first */
    Layer *layers; int layer_count;        /* with --layer */
    char *models;                          /* lines of sha256 and name */
    double started, spent[AUDIO_STAGES];
    bool bar, silent;                      /* a progress bar; not even the seed */
} Maker;

/* ---- the request ----------------------------------------------------------------------------- */

/* All that can be refused by the options alone. */
static bool check_options(const Args *a, Error *e)
{
    static const char *const levels[] = { "gain-db", "peak", "rms" };
    static const char *const single[] = { "batch-count", "latents", "prompt-embeds" };
    static const char *const alone[] = { "prompt", "init-audio", "batch-count", "latents",
                                         "prompt-embeds", "save-latents" };
    const char *first = NULL;
    if (!check_making(a, SOUND_NAMES, "sounds", e)
        || !check_names(a, "spectrogram", a->spectrogram, ".png", e)) return false;
    for (size_t i = 0; i < countof(levels); i++) {
        if (!opt_given(a->options, levels[i])) continue;
        if (first) return misuse(e, "--%s: of no use with --%s", first, levels[i]);
        first = levels[i];
    }
    for (size_t i = 0; a->candidates > 1 && i < countof(single); i++)
        if (opt_given(a->options, single[i]))
            return misuse(e, "--%s: of no use with --candidates", single[i]);
    for (size_t i = 0; a->layers.count && i < countof(alone); i++)
        if (opt_given(a->options, alone[i]))
            return misuse(e, "--%s: of no use with --layer", alone[i]);
    if (a->json && a->spectrogram && !strcmp(a->spectrogram, "-"))
        return misuse(e, "--json: of no use with --spectrogram -: both would be on standard "
                      "output");
    if (a->output && a->spectrogram && !strcmp(a->output, a->spectrogram))
        return misuse(e, "--spectrogram: found '%s', which --output names too", a->spectrogram);
    return true;
}

static size_t samples_in(const Maker *k, double seconds)
{
    return (size_t)(seconds * k->model.vocoder.rate + 0.5);
}

static bool check_request(const Maker *k, Error *e)
{
    Error inner = { 0 };
    return audioldm_check(&k->model, &k->r, &inner) || misuse_option(&inner, e);
}

/* What --loop takes away is made first. */
static bool set_length(Maker *k, Error *e)
{
    Args *a = k->a;
    if (!opt_given(a->options, "seconds"))
        a->length = a->init ? (double)k->init.frames / k->init.rate : k->r.seconds;
    k->r.seconds = a->length;
    if (!check_request(k, e)) return false;
    const size_t n = samples_in(k, a->length), more = samples_in(k, a->loop);
    if (more > n)
        return misuse(e, "--loop: found %g, want at most the %g seconds of the sound", a->loop,
                      a->length);
    k->r.seconds = (double)(n + more) / k->model.vocoder.rate;
    return check_request(k, e);
}

/* Write the choices that the model made back into the options: they are echoed with the sound. */
static bool resolve(Maker *k, Error *e)
{
    SamplerOptions o = { .method = k->r.method, .schedule = k->r.schedule, .steps = k->r.steps,
                         .eta = k->r.eta };
    SamplerPlan plan = { 0 };
    const bool ok = sampler_plan(&plan, &k->model.schedule, &o, e);
    if (ok) {
        k->a->method = sampler_name(plan.method);
        k->a->schedule = sampler_schedule_name(plan.schedule);
    }
    sampler_plan_free(&plan);
    return ok;
}

/* Tensors that stand for the noise and for the texts. */
static bool read_tensors(Maker *k, Error *e)
{
    const int latents[4] = { 0, k->shape[1], k->shape[2], k->shape[3] };
    const int embeds[2] = { 1, k->model.text.dim };
    int width;
    if (!read_latents(k->a, latents, &k->latents, &k->latent_items, e)
        || !read_embeds(k->a, embeds, 2, k->embeds, &width, e)) return false;
    k->r.prompt_embeds = k->embeds[0];
    k->r.negative_embeds = k->embeds[1];
    return true;
}

static bool make_request(Maker *k, Error *e)
{
    Args *a = k->a;
    AudioRequest *r = &k->r;
    int frames, mels;
    *r = audioldm_defaults(&k->model);
    if (a->init && !sound_read(&k->init, a->init, e)) return false;
    if (a->init && !(sound_peak(&k->init) > 0))
        return fail(e, "%s: found silence in all its %zu samples, want a sound to start from",
                    a->init, k->init.frames);
    r->prompt = k->layer_count ? k->layers[0].text : a->prompt;
    r->negative = a->negative;
    r->steps = a->steps;
    r->guidance = a->guidance;
    r->eta = a->eta;
    r->strength = a->strength;
    r->method = a->method ? sampler_method(a->method) : -1;
    r->schedule = a->schedule ? sampler_schedule(a->schedule) : -1;
    r->init = a->init ? &k->init : NULL;
    r->scratch = a->scratch;
    r->seconds_spent = k->spent;
    r->self = &k->started;
    r->step = k->bar ? show_step : NULL;
    if (!set_length(k, e)) return false;
    audioldm_shape(&k->model, r, &k->shape[1], &k->shape[2], &k->shape[3], &frames, &mels);
    k->shape[0] = a->batch;
    k->count = (size_t)k->shape[1] * (size_t)k->shape[2] * (size_t)k->shape[3];
    return read_tensors(k, e) && resolve(k, e);
}

/* Print the plan, or hold it against --max-mem. */
static bool plan_request(const Maker *k, Error *e)
{
    const int times = imax(k->a->batch, k->a->candidates) * imax(1, k->layer_count);
    AudioStage all[AUDIO_STAGES];
    Stage stages[AUDIO_STAGES + 1];
    size_t need = 0;
    int n = 0;
    audioldm_plan(&k->model, &k->r, all);
    for (int i = 0; i < AUDIO_STAGES; i++)
        if (all[i].calls)
            stages[n++] = (Stage){ all[i].name, all[i].memory, all[i].macs * all[i].calls * times,
                                   all[i].weight_bytes };
    if (k->clap.audio) {
        Arena m = { 0 };
        clap_sound(&m, &k->clap, NULL);
        stages[n++] = (Stage){ "rank", clap_memory(&k->clap), m.macs * times, m.weight_bytes };
    }
    for (int i = 0; i < n; i++) need = zmax(need, stages[i].memory);
    if (k->a->plan) print_plan(k->a, stages, n);
    return k->a->plan || check_memory(k->a, need, e);
}

static bool tell_lost(const Maker *k, Error *e)
{
    const char *texts[2] = { k->r.prompt_embeds ? NULL : k->r.prompt,
                             k->r.negative_embeds ? NULL : k->r.negative };
    for (int i = 0; i < 2; i++) {
        char *lost = texts[i] ? audioldm_lost(&k->model, texts[i], e) : NULL;
        if (lost)
            say(k->a, "%s: too long for the text encoder, cut off: %s",
                i ? "negative prompt" : "prompt", lost);
        free(lost);
    }
    return !e->code;
}

/* ---- levels ---------------------------------------------------------------------------------- */

static double from_dB(double dB) { return f_pow(10, dB / 20); }

/* Loop, fades, then one of gain, peak and rms; a mix of layers that none is asked for peaks at
 * -1 dB. */
static bool set_levels(const Args *a, Sound *s, Error *e)
{
    const bool peak = opt_given(a->options, "peak"), rms = opt_given(a->options, "rms"),
               mix = a->layers.count && !opt_given(a->options, "gain-db");
    if (a->loop > 0 && !sound_loop(s, a->loop, e)) return false;
    sound_fade(s, a->fade_in, a->fade_out);
    const double level = rms ? sound_rms(s) : sound_peak(s);
    if (!(level > 0)) return fail(e, "levels: found silence, want a sound");
    if (peak || rms) sound_gain(s, from_dB(rms ? a->rms : a->peak) / level);
    else if (mix) sound_gain(s, from_dB(-1) / level);
    else if (a->gain_db != 0) sound_gain(s, from_dB(a->gain_db));
    return true;
}

static void tell_clipped(const Args *a, const Sound *s)
{
    size_t clipped = 0;
    for (size_t i = 0; i < s->frames; i++) clipped += fabsf(s->at[i]) > 1;
    if (clipped && !a->as_float)
        say(a, "%zu of %zu samples are beyond full scale and were clipped: --peak or --float keeps "
            "them", clipped, s->frames);
}

/* ---- ranking --------------------------------------------------------------------------------- */

/* Open the CLAP model that ranks candidates. */
static bool ranking_open(Maker *k, Error *e)
{
    const Args *a = k->a;
    Error inner = { 0 };
    if (a->candidates < 2) return true;
    char *folder = model_part(a, "clap", &inner);
    if (!folder) return no_ranking(a, "clap", "CLAP", &inner, e);
    const bool open = clap_open(&k->clap, folder, NULL, e);
    free(folder);
    if (!open) return false;
    tell_unused(k->a, &k->clap.weights);
    k->wanted = calloc(2 * (size_t)k->clap.dim, sizeof *k->wanted);
    k->ranked = calloc((size_t)a->candidates, sizeof *k->ranked);
    if (!k->wanted || !k->ranked)
        return fail(e, "--candidates: out of memory: needed room for %d scores", a->candidates);
    k->heard = k->wanted + k->clap.dim;
    return true;
}

static bool ranking_start(Maker *k, const char *text, Error *e)
{
    if (!k->clap.audio) return true;
    if (!k->m.base && !arena_open(&k->m, clap_memory(&k->clap), NULL, e)) return false;
    trace_enter("clap");
    const bool ok = clap_embed_text(&k->clap, &k->m, text, k->wanted, NULL, e);
    trace_leave();
    return ok;
}

/* Put seed in its place among the n before it; *best: it is the first now. */
static bool rank(Maker *k, int n, const Sound *s, bool *best, Error *e)
{
    trace_enter("clap");
    const bool ok = clap_embed_sound(&k->clap, &k->m, s, k->heard, e);
    trace_leave();
    if (!ok) return false;
    const Candidate new = { k->a->seed, cosine(k->wanted, k->heard, k->clap.dim) };
    *best = rank_candidate(k->ranked, n, new);
    return true;
}

/* ---- the sounds ------------------------------------------------------------------------------ */

static const char *output_name(const Args *a)
{
    return a->output ? a->output : a->batch > 1 ? "fusion-%d.wav" : "fusion.wav";
}

/* The sound of the seed in the options, its levels set, unless it is to be mixed. */
static bool generate(Maker *k, Sound *s, float *latents_out, Error *e)
{
    k->r.seed = k->a->seed;
    k->r.latents_out = latents_out;
    k->started = now();
    const bool ok = audioldm_generate(&k->model, &k->r, s, e);
    if (k->bar && !ok) fputc('\n', stderr);
    return ok && (k->layer_count || set_levels(k->a, s, e));
}

/* Sound i of the batch. */
static bool generate_one(Maker *k, int i, Sound *s, Error *e)
{
    const Args *a = k->a;
    if (!a->quiet) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    k->r.latents = k->latents ? k->latents + (k->latent_items > 1 ? (size_t)i * k->count : 0)
                              : NULL;
    if (a->batch > 1) trace_enter("sound%d", i);
    const bool ok = generate(k, s, k->saved ? k->saved + (size_t)i * k->count : NULL, e);
    if (a->batch > 1) trace_leave();
    return ok;
}

/* The best of the candidates, its seed in the options. */
static bool generate_best(Maker *k, Sound *best, Error *e)
{
    Args *a = k->a;
    const uint64_t first = a->seed;
    float *latents = k->saved ? k->saved + k->count : NULL;
    bool ok = true;
    for (int i = 0; ok && i < a->candidates; i++) {
        Sound s = { 0 };
        bool leads = false;
        a->seed = first + (uint64_t)i;
        trace_enter("candidate%d", i);
        ok = generate(k, &s, latents, e) && rank(k, i, &s, &leads, e);
        trace_leave();
        if (leads) {
            const Sound old = *best;
            *best = s;
            s = old;
            if (latents) memcpy(k->saved, latents, k->count * sizeof *latents);
        }
        sound_free(&s);
    }
    a->seed = k->ranked[0].seed;
    if (!ok) return false;
    tell_candidates(a, k->ranked);
    if (!a->quiet) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    return true;
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* "-6 birds singing", or with a seed of its own "-6 @17 birds singing". */
static bool read_layer(const char *from, Layer *out, Error *e)
{
    char *end;
    const char *at = from;
    out->gain_db = strtod(at, &end);
    out->level = from;
    out->level_length = (int)(end - at);
    bool ok = strspn(at, "-.0123456789") == (size_t)(end - at) && end > at && *end == ' '
        && out->gain_db >= -200 && out->gain_db <= 200;
    at = ok ? end + 1 : at;
    if (ok && *at == '@') {
        out->seed = strtoull(at + 1, &end, 10);
        ok = at[1] >= '0' && at[1] <= '9' && *end == ' ';
        at = ok ? end + 1 : at;
    }
    out->text = at;
    return (ok && at[strspn(at, " ")])
        || misuse(e, "--layer: found '%.200s', want a level in dB and a text, as '-6 birds "
                  "singing'", from);
}

/* Layers that name no seed take those behind --seed, each as many as it has candidates. */
static bool read_layers(Maker *k, Error *e)
{
    const Args *a = k->a;
    const int n = a->layers.count;
    if (!n) return true;
    if (!(k->layers = calloc((size_t)n, sizeof *k->layers)))
        return fail(e, "--layer: out of memory: needed room for %d layers", n);
    k->layer_count = n;
    if (a->seed > UINT64_MAX - (uint64_t)n * (uint64_t)a->candidates)
        return misuse(e, "--seed: found '%llu', want room for the seeds of %d layers below 2^64",
                      (unsigned long long)a->seed, n);
    for (int i = 0; i < n; i++) {
        k->layers[i].seed = a->seed + (uint64_t)i * (uint64_t)a->candidates;
        if (!read_layer(a->layers.at[i], &k->layers[i], e)) return false;
    }
    return true;
}

/* The layer as the options say it that make it again: with the seed that it was made with. */
static bool echo_layer(Maker *k, int i, Error *e)
{
    Layer *y = &k->layers[i];
    const size_t room = strlen(y->text) + (size_t)y->level_length + 64;
    y->echo = malloc(room);
    if (!y->echo) return fail(e, "--layer: out of memory: needed %zu bytes", room);
    snprintf(y->echo, room, "%.*s @%llu %s", y->level_length, y->level,
             (unsigned long long)y->seed, y->text);
    k->a->layers.at[i] = y->echo;
    return true;
}

/* Add what was made of a layer, its largest sample at the layer's level; the first is the sum. */
static bool add_layer(const Layer *y, Sound *s, Sound *sum, Error *e)
{
    const double peak = sound_peak(s);
    if (!(peak > 0)) return fail(e, "--layer '%.200s': made silence, want a sound", y->text);
    sound_gain(s, from_dB(y->gain_db) / peak);
    if (!sum->at) {
        *sum = *s;
        *s = (Sound){ 0 };
        return true;
    }
    for (size_t i = 0; i < sum->frames; i++) sum->at[i] += s->at[i];
    return true;
}

/* Every layer by itself, added in their order. */
static bool generate_layers(Maker *k, Sound *sum, Error *e)
{
    const uint64_t first = k->a->seed;
    bool ok = true;
    for (int i = 0; ok && i < k->layer_count; i++) {
        Layer *y = &k->layers[i];
        Sound s = { 0 };
        k->r.prompt = y->text;
        k->a->seed = y->seed;
        trace_enter("layer%d", i);
        ok = k->ranked ? ranking_start(k, y->text, e) && generate_best(k, &s, e)
                       : generate_one(k, 0, &s, e);
        trace_leave();
        y->seed = k->a->seed;
        ok = ok && echo_layer(k, i, e) && add_layer(y, &s, sum, e);
        sound_free(&s);
    }
    k->a->seed = first;
    return ok && set_levels(k->a, sum, e);
}

/* The spectrogram says of which sound it is; it cannot be made again by itself. */
static bool write_spectrogram(const Maker *k, Output *o, const Sound *s, const char *seed, Error *e)
{
    const char *prompt = k->a->prompt;
    const char *const texts[] = { "Software", "fusion " VERSION, "seed", seed,
                                  prompt ? "prompt" : NULL, prompt, NULL };
    Picture p = { 0 };
    const bool ok = spectrogram_draw(&p, s, e) && png_write(o, p.w, p.h, p.rgb, texts, e);
    picture_free(&p);
    return ok;
}

/* Write s with the texts that make it again, and its spectrogram if there is one to write. */
static bool write_sound(Maker *k, Output *o, Output *picture, const Sound *s, Error *e)
{
    const AudioLdm *l = &k->model;
    const Weights *parts[] = { &l->text_weights, &l->unet.weights, &l->vae.weights,
                               &l->vocoder.weights };
    Record r = { 0 };
    if (!k->models) k->models = hash_models(l->path, parts, countof(parts), e);
    const bool ok = k->models && record_make(&r, k->a, k->models, e)
        && wav_write(o, s, k->a->as_float, r.texts, e)
        && (!picture || write_spectrogram(k, picture, s, r.seed, e));
    record_free(&r);
    return ok;
}

static void print_layers(const Maker *k)
{
    for (int i = 0; i < k->layer_count; i++) {
        fputs(i ? ", {\"prompt\": " : ", \"layers\": [{\"prompt\": ", stdout);
        print_json(k->layers[i].text);
        printf(", \"gain_db\": %g, \"seed\": %llu}", k->layers[i].gain_db,
               (unsigned long long)k->layers[i].seed);
    }
    fputc(']', stdout);
}

static void tell_sound(const Maker *k, const char *name, const Sound *s)
{
    const Args *a = k->a;
    const double *t = k->spent;
    AudioStage stages[AUDIO_STAGES];
    audioldm_plan(&k->model, &k->r, stages);
    for (int i = 0; i < AUDIO_STAGES; i++)                 /* the plan's text is the longest */
        if (stages[i].calls)
            tell_stage(a, stages[i].name, t[i],
                       i == AUDIO_TEXT ? 0 : stages[i].macs * stages[i].calls);
    tell_clipped(a, s);
    if (a->quiet && !k->silent) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    if (!a->json) return;
    fputs("{\"file\": ", stdout);
    print_json(name);
    printf(", \"seed\": %llu, \"rate\": %d, \"samples\": %zu, \"peak\": %.6f, \"rms\": %.6f, "
           "\"method\": \"%s\", \"schedule\": \"%s\", \"steps\": %d",
           (unsigned long long)a->seed, s->rate, s->frames, sound_peak(s), sound_rms(s), a->method,
           a->schedule, a->steps);
    if (k->layer_count) print_layers(k);
    else if (k->ranked) print_candidates(k->ranked, a->candidates);
    printf(", \"seconds\": {\"text\": %.3f, \"encode\": %.3f, \"unet\": %.3f, \"decode\": %.3f, "
           "\"vocoder\": %.3f}}\n", t[AUDIO_TEXT], t[AUDIO_ENCODE],
           t[AUDIO_UNET], t[AUDIO_DECODE], t[AUDIO_VOCODER]);
}

/* Output i, with the seed in the options. */
static bool make_sound(Maker *k, int i, Error *e)
{
    const Args *a = k->a;
    char *name = numbered(output_name(a), i, e);
    char *drawn = a->spectrogram ? numbered(a->spectrogram, i, e) : NULL;
    Output *o = name ? making_open(a, name, e) : NULL,
           *p = o && drawn ? output_open(drawn, e) : NULL;
    Sound s = { 0 };
    bool ok = o && !a->spectrogram == !p
        && (k->layers   ? generate_layers(k, &s, e)
            : k->ranked ? generate_best(k, &s, e)
                        : generate_one(k, i, &s, e))
        && write_sound(k, o, p, &s, e);
    if (ok) {
        ok = making_commit(a, o, e);
        o = NULL;
    }
    if (ok && p) {
        ok = output_commit(p, e);
        p = NULL;
    }
    if (ok) tell_sound(k, name, &s);
    output_discard(o);
    output_discard(p);
    sound_free(&s);
    free(name);
    free(drawn);
    return ok;
}

/* Room for the latents of a batch, or of a candidate beside the best. */
static bool save_open(Maker *k, SafeWriter **save, Error *e)
{
    const Args *a = k->a;
    const size_t items = (size_t)(k->ranked ? 2 : a->batch);
    size_t n;
    *save = NULL;
    if (!a->save_latents) return true;
    if (!(*save = safe_open(a->save_latents, e))) return false;
    if (size_mul(k->count, items * sizeof *k->saved, &n) && (k->saved = malloc(n))) return true;
    return fail(e, "--save-latents: out of memory: needed room for %zu latents", items);
}

static bool make_batch(Maker *k, Error *e)
{
    const uint64_t first = k->a->seed;
    SafeWriter *save;
    bool ok = save_open(k, &save, e);
    for (int i = 0; ok && i < k->a->batch; i++) {
        k->a->seed = first + (uint64_t)i;
        ok = make_sound(k, i, e);
    }
    ok = ok && (!save || safe_add(save, "latents", F32, 4, k->shape, k->saved, e));
    if (save && ok) ok = safe_commit(save, NULL, e);
    else safe_discard(save);
    return ok;
}

/* ---- audio ----------------------------------------------------------------------------------- */

static void tell_unused_parts(const Maker *k)
{
    tell_unused(k->a, &k->model.text_weights);
    tell_unused(k->a, &k->model.unet.weights);
    tell_unused(k->a, &k->model.vae.weights);
    tell_unused(k->a, &k->model.vocoder.weights);
}

bool make_audio(Args *a, bool silent, Error *e)
{
    Maker k = { .a = a, .bar = !a->quiet && isatty(2), .silent = silent };
    Trace *trace = NULL;
    char *folder = choose_machine(a, e) ? model_part(a, "audioldm", e) : NULL;
    bool open = folder && audioldm_open(&k.model, folder, a->tokenizer, e), ok = open;
    if (open) tell_unused_parts(&k);
    ok = ok && read_layers(&k, e) && make_request(&k, e) && ranking_open(&k, e)
        && plan_request(&k, e);
    if (ok && !a->plan) {
        ok = tell_lost(&k, e) && trace_begin(&trace, a, e)
            && (k.layers || ranking_start(&k, a->prompt, e)) && make_batch(&k, e);
        ok = trace_end(trace, ok, e);
    }
    free(folder);
    free(k.latents);
    free(k.saved);
    free(k.embeds[0]);
    free(k.embeds[1]);
    free(k.wanted);
    free(k.ranked);
    free(k.models);
    for (int i = 0; i < k.layer_count; i++) free(k.layers[i].echo);
    free(k.layers);
    sound_free(&k.init);
    arena_close(&k.m);
    if (k.clap.tok) clap_close(&k.clap);
    if (open) audioldm_close(&k.model);
    return ok;
}

bool audio_ready(Args *a, Error *e)
{
    return choose_seed(a, e) && check_options(a, e)
        && (a->plan || (check_outputs(a, output_name(a), e)
                        && (!a->spectrogram || check_outputs(a, a->spectrogram, e))));
}

int verb_audio(Args *a, Error *e)
{
    return audio_ready(a, e) && check_config(a, e) && make_audio(a, false, e)
        && save_config(a, e) ? 0 : 1;
}
