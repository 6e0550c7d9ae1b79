/* make.c - the verb image: text to picture.
 * Read in this order: the request, adapters, ranking, the pictures, image. */
#include "clip.h"
#include "command.h"
#include "sd.h"
#include "styles.h"
#include "views.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* Everything of one run of `image`. */
typedef struct {
    Args *a;
    Sd sd;
    SdRequest r;
    Picture init, mask;
    double *list;                          /* --timesteps or --sigmas */
    Views views;
    float *latents, *saved, *embeds[2];    /* [items][C,h,w] given and final; prompt and negative */
    int latent_items;
    size_t count;                          /* values of one picture's latents */
    Clip clip;                             /* with --candidates */
    Arena m;
    float *wanted, *seen;                  /* embeddings [clip.dim] */
    Candidate *ranked;                     /* best first */
    char *models;                          /* lines of sha256 and name */
    double started, spent[SD_STAGES];
    bool bar, silent;                      /* a progress bar; not even the seed */
} Maker;

/* ---- the request ----------------------------------------------------------------------------- */

static bool read_init(Maker *k, Error *e)
{
    Args *a = k->a;
    const int f = k->sd.vae.factor;
    if (!a->init) return true;
    if (!picture_read(&k->init, a->init, e)) return false;
    if (!a->width) a->width = imax(f, k->init.w / f * f);
    if (!a->height) a->height = imax(f, k->init.h / f * f);
    return true;
}

/* The mask at the size of the picture; some of it must be white on the grid of the latents. */
static bool read_mask(Maker *k, Error *e)
{
    const Args *a = k->a;
    const int f = k->sd.vae.factor;
    bool some = false;
    if (!a->mask) return true;
    if (!picture_read(&k->mask, a->mask, e)
        || !picture_resize(&k->mask, a->width, a->height, LANCZOS, e)) return false;
    for (int y = 0; y < a->height; y += f)
        for (int x = 0; x < a->width; x += f)
            some = some || picture_white(&k->mask, (size_t)y * (size_t)a->width + (size_t)x);
    return some || fail(e, "%s: mask: found nothing white at any %dth pixel, want what is to be "
                        "repainted to be white", a->mask, f);
}

/* Tensors that stand for the noise and for the texts. */
static bool read_tensors(Maker *k, Error *e)
{
    const int f = k->sd.vae.factor;
    const int latents[4] = { 0, k->sd.vae.latents, k->r.height / f, k->r.width / f };
    const int embeds[3] = { 1, 0, k->sd.text.encoder.width };
    if (!read_latents(k->a, latents, &k->latents, &k->latent_items, e)
        || !read_embeds(k->a, embeds, 3, k->embeds, &k->r.embed_tokens, e)) return false;
    k->r.prompt_embeds = k->embeds[0];
    k->r.negative_embeds = k->embeds[1];
    return true;
}

static bool check_request(const Maker *k, Error *e)
{
    Error inner = { 0 };
    return sd_check(&k->sd, &k->r, &inner) || misuse_option(&inner, e);
}

/* Every prompt of a file; the request is left with the longest, which the plan is for. */
static bool check_lines(Maker *k, Error *e)
{
    const Lines *l = k->a->each;
    int most = 0;
    const char *longest = k->r.prompt;
    for (int i = 0; l && i < l->count; i++) {
        Error inner = { 0 };
        Prompt p[2];
        k->r.prompt = l->at[i];
        if (!sd_prompts(&k->sd, &k->r, p, &inner)) {
            fail(e, "%s:%d: %s", k->a->prompt_file, l->number[i], inner.text);
            e->code = inner.code;
            return false;
        }
        if (p[1].chunks > most) longest = l->at[i];
        most = imax(most, p[1].chunks);
        prompt_free(&p[0]);
        prompt_free(&p[1]);
    }
    k->r.prompt = longest;
    return true;
}

/* Write the choices that the model made back into the options: they are echoed with the picture. */
static bool resolve(Maker *k, Error *e)
{
    const SamplerOptions o = sd_sampler(&k->r);
    SamplerPlan plan = { 0 };
    bool ok = sampler_plan(&plan, sd_schedule(&k->sd, &k->r), &o, e);
    if (ok) {
        k->a->method = sampler_name(plan.method);
        k->a->schedule = sampler_schedule_name(plan.schedule);
    }
    sampler_plan_free(&plan);
    return ok;
}

static bool after_step(void *self, int call, int calls, const float *latents, const float *x0)
{
    Maker *k = self;
    if (k->bar) show_step(&k->started, call, calls, latents, x0);
    return views_step(&k->views, call, calls, x0);
}

/* "5,10,20" as numbers, which the caller frees; how many: *count. */
static double *read_numbers(const char *option, const char *text, int *count, Error *e)
{
    enum { MOST = 1000 };
    double *list = malloc(MOST * sizeof *list);
    *count = 0;
    if (!list) fail(e, "--%s: out of memory: needed room for %d numbers", option, MOST);
    for (const char *at = text; list && at; (*count)++) {
        char one[64];
        const size_t length = strcspn(at, ",");
        snprintf(one, sizeof one, "%.*s", (int)zmin(length, sizeof one - 1), at);
        if (*count == MOST || !opt_read_number(one, &list[*count])) {
            misuse(e, "--%s: found '%s', want at most %d numbers with commas between them", option,
                   one, MOST);
            free(list);
            return NULL;
        }
        at = at[length] ? at + length + 1 : NULL;
    }
    return list;
}

/* --timesteps or --sigmas, in the request and as its steps. */
static bool read_list(Maker *k, const char *option, const char *text, Error *e)
{
    const bool sigmas = *option == 's';
    int n;
    if (!text) return true;
    if (k->list) return misuse(e, "--sigmas: of no use with --timesteps");
    if (!(k->list = read_numbers(option, text, &n, e))) return false;
    if (n < 1 + sigmas)
        return misuse(e, "--%s: found '%s', want two numbers or more", option, text);
    if (opt_given(k->a->options, "steps") && k->a->steps != n - sigmas)
        return misuse(e, "--steps: found '%d', --%s has %d", k->a->steps, option, n - sigmas);
    if (sigmas) k->r.sigmas = k->list;
    else k->r.timesteps = k->list;
    k->r.steps = k->a->steps = n - sigmas;
    return true;
}

/* --noise-size WxH */
static bool read_noise_size(Maker *k, Error *e)
{
    enum { MOST = 8192 };
    const char *text = k->a->noise_size, *x = text ? strchr(text, 'x') : NULL;
    const uint64_t f = (uint64_t)k->sd.vae.factor;
    char wide[8] = "";
    uint64_t w = 0, h = 0;
    if (!text) return true;
    if (k->a->latents) return misuse(e, "--noise-size: of no use with --latents");
    if (x && x - text < (int)sizeof wide) memcpy(wide, text, (size_t)(x - text));
    if (!x || !opt_read_whole(wide, &w) || !opt_read_whole(x + 1, &h) || w < f || h < f || w > MOST
        || h > MOST || w % f || h % f)
        return misuse(e, "--noise-size: found '%s', want WxH, multiples of %d up to %d", text,
                      (int)f, MOST);
    k->r.noise_w = (int)w;
    k->r.noise_h = (int)h;
    return true;
}

/* ---- the grid -------------------------------------------------------------------------------- */

static int cells(const Args *a) { return a->grid.rows * a->grid.columns; }

/* The numbers of picture i of the grid, in the options and in the request. */
static void take_cell(Maker *k, int i)
{
    Args *a = k->a;
    if (!cells(a)) return;
    a->steps = k->r.steps = (int)a->grid.steps[i / a->grid.columns];
    a->guidance = k->r.guidance = a->grid.guidance[i % a->grid.columns];
}

/* All that a picture of the grid could refuse, before the first is made. */
static bool check_cells(Maker *k, Error *e)
{
    bool ok = true;
    for (int i = cells(k->a) - 1; ok && i >= 0; i--) {
        take_cell(k, i);
        ok = check_request(k, e);
    }
    return ok;
}

/* ---- the whole request ----------------------------------------------------------------------- */

static bool make_request(Maker *k, Error *e)
{
    Args *a = k->a;
    SdRequest *r = &k->r;
    *r = sd_defaults(&k->sd);
    if (!read_init(k, e)) return false;
    if (!a->width) a->width = r->width;
    if (!a->height) a->height = r->height;
    r->width = a->width;
    r->height = a->height;
    r->prompt = a->prompt;
    r->negative = a->negative;
    r->weighting = a->weighting && !strcmp(a->weighting, "on");
    r->steps = a->steps;
    r->guidance = a->guidance;
    r->eta = a->eta;
    r->strength = a->strength;
    r->clip_skip = a->clip_skip;
    r->method = a->method ? sampler_method(a->method) : -1;
    r->schedule = a->schedule ? sampler_schedule(a->schedule) : -1;
    r->rescale = a->rescale;
    r->noise = *a->rng == 'c' ? NOISE_CUDA : *a->rng == 'n' ? NOISE_NUMPY : NOISE_TORCH;
    if (!read_list(k, "timesteps", a->timesteps, e) || !read_list(k, "sigmas", a->sigmas, e)
        || !read_noise_size(k, e)) return false;
    r->scratch = a->scratch;
    r->seconds = k->spent;
    r->self = k;
    r->step = after_step;
    r->tiles = a->tiling;
    r->variation = a->variation;
    if (a->clip_skip >= k->sd.text.encoder.layers)
        return misuse(e, "--clip-skip: found '%d', want a whole number in 0..%d", a->clip_skip,
                      k->sd.text.encoder.layers - 1);
    if (a->init && !picture_resize(&k->init, a->width, a->height, LANCZOS, e)) return false;
    r->init = a->init ? &k->init : NULL;
    r->mask = a->mask ? &k->mask : NULL;
    if (!read_mask(k, e) || !check_request(k, e)) return false;
    k->count = (size_t)k->sd.vae.latents * (size_t)(a->height / k->sd.vae.factor)
               * (size_t)(a->width / k->sd.vae.factor);
    return read_tensors(k, e) && check_request(k, e) && check_lines(k, e)
        && check_cells(k, e) && resolve(k, e);
}

/* The stages of every picture: the memory and weights of the largest, the arithmetic of all. */
static int plan_pictures(Maker *k, Stage stages[SD_STAGES], size_t *held)
{
    SdStage one[SD_STAGES], all[SD_STAGES] = { 0 };
    const int count = imax(1, cells(k->a)),
              times = count > 1 ? 1 : imax(k->a->batch, k->a->candidates);
    int n = 0;
    for (int i = count - 1; i >= 0; i--) {
        take_cell(k, i);
        sd_plan(&k->sd, &k->r, one);
        for (int j = 0; j < SD_STAGES; j++) {
            all[j].name = one[j].name;
            all[j].calls += one[j].calls;
            all[j].macs += one[j].macs * one[j].calls * times;
            all[j].memory = zmax(all[j].memory, one[j].memory);
            all[j].weight_bytes = fmax(all[j].weight_bytes, one[j].weight_bytes);
            *held = zmax(*held, one[j].memory);
        }
    }
    for (int j = 0; j < SD_STAGES; j++)
        if (all[j].calls)
            stages[n++] = (Stage){ all[j].name, all[j].memory, all[j].macs, all[j].weight_bytes };
    return n;
}

/* Print the plan, or hold it against --max-mem. */
static bool plan_request(Maker *k, Error *e)
{
    Stage stages[SD_STAGES + 2];
    size_t need = 0, held = 0;
    int n = plan_pictures(k, stages, &held);
    if (views_stage(&k->views, held, &stages[n])) n++;
    if (k->clip.tok) {
        Arena m = { 0 };
        clip_count_picture(&k->clip, &m);
        stages[n++] = (Stage){ "rank", clip_memory(&k->clip),
                               m.macs * imax(k->a->batch, k->a->candidates), m.weight_bytes };
    }
    for (int i = 0; i < n; i++) need = zmax(need, stages[i].memory);
    if (k->a->plan) print_plan(k->a, stages, n);
    return k->a->plan || check_memory(k->a, need, e);
}

/* ---- what became of the texts ---------------------------------------------------------------- */

static const char *text_of(const Maker *k, int i) { return i ? k->r.prompt : k->r.negative; }

/* What was cut off; with -v how many tokens each text has. */
static bool tell_texts(const Maker *k, Error *e)
{
    Prompt p[2];
    if (!sd_prompts(&k->sd, &k->r, p, e)) return false;
    for (int i = 1; i >= 0; i--) {
        const char *name = i ? "prompt" : "negative prompt";
        if (k->a->verbose && p[i].chunks && text_of(k, i))
            say(k->a, "%s: %d token%s, %d chunk%s of %d", name, p[i].tokens,
                p[i].tokens == 1 ? "" : "s", p[i].chunks, p[i].chunks == 1 ? "" : "s",
                p[i].length);
        if (p[i].cut)
            say(k->a, "%s: too long for the text encoder, cut off: %s", name, p[i].cut);
        prompt_free(&p[i]);
    }
    return true;
}

/* The same as members of an object. */
static void print_texts(const Maker *k)
{
    Prompt p[2];
    if (!sd_prompts(&k->sd, &k->r, p, &(Error){ 0 })) return;
    for (int i = 1; i >= 0; i--) {
        if (p[i].chunks && text_of(k, i)) {
            printf(", \"%s\": {\"text\": ", i ? "prompt" : "negative_prompt");
            print_json(text_of(k, i));
            printf(", \"tokens\": %d, \"chunks\": %d, \"cut\": ", p[i].tokens, p[i].chunks);
            print_json(p[i].cut ? p[i].cut : "");
            fputc('}', stdout);
        }
        prompt_free(&p[i]);
    }
}

/* ---- adapters -------------------------------------------------------------------------------- */

static bool open_adapters(Maker *k, Error *e)
{
    const Args *a = k->a;
    bool ok = true;
    for (int i = 0; ok && i < a->loras.count; i++) {
        double weight;
        char *path = lora_file(a->loras.at[i], &weight, e);
        ok = path && sd_lora(&k->sd, path, weight, e);
        free(path);
    }
    for (int i = 0; ok && i < a->embeddings.count; i++)
        ok = sd_word(&k->sd, a->embeddings.at[i], e);
    return ok;
}

/* ---- ranking --------------------------------------------------------------------------------- */

/* All that --candidates can refuse by the options alone. */
static bool check_candidates(const Args *a, Error *e)
{
    static const char *const single[] = { "batch-count", "latents", "prompt-embeds", "film",
                                          "heatmap", "variation-seed" };
    for (size_t i = 0; a->candidates > 1 && i < countof(single); i++)
        if (opt_given(a->options, single[i]))
            return misuse(e, "--%s: of no use with --candidates", single[i]);
    return true;
}

/* Open the CLIP model that ranks candidates. */
static bool ranking_open(Maker *k, Error *e)
{
    const Args *a = k->a;
    Error inner = { 0 };
    if (a->candidates < 2) return true;
    char *folder = model_part(a, "clip", &inner);
    if (!folder) return no_ranking(a, "clip", "CLIP", &inner, e);
    const bool open = clip_open(&k->clip, folder, NULL, e);
    free(folder);
    if (!open) return false;
    tell_unused(k->a, &k->clip.weights);
    k->wanted = calloc(2 * (size_t)k->clip.dim, sizeof *k->wanted);
    k->ranked = calloc((size_t)a->candidates, sizeof *k->ranked);
    if (!k->wanted || !k->ranked)
        return fail(e, "--candidates: out of memory: needed room for %d scores", a->candidates);
    k->seen = k->wanted + k->clip.dim;
    return true;
}

static bool ranking_start(Maker *k, Error *e)
{
    if (!k->ranked) return true;
    if (!arena_open(&k->m, clip_memory(&k->clip), NULL, e)) return false;
    char *plain = k->r.weighting ? prompt_plain(k->a->prompt, e) : NULL;
    trace_enter("clip");
    const bool ok = (plain || !k->r.weighting)
        && clip_embed_text(&k->clip, &k->m, plain ? plain : k->a->prompt, k->wanted, NULL, e);
    trace_leave();
    free(plain);
    return ok;
}

/* Rank p, which stays as it is, among the n before it; *best: it is the first now. */
static bool rank(Maker *k, int n, const Picture *p, bool *best, Error *e)
{
    const size_t bytes = 3 * (size_t)p->w * (size_t)p->h;
    Picture copy = { .w = p->w, .h = p->h, .rgb = malloc(bytes) };
    if (!copy.rgb) return fail(e, "--candidates: out of memory: needed %zu bytes", bytes);
    memcpy(copy.rgb, p->rgb, bytes);
    trace_enter("clip");
    const bool ok = clip_embed_picture(&k->clip, &k->m, &copy, k->seen, e);
    trace_leave();
    picture_free(&copy);
    if (!ok) return false;
    const Candidate new = { k->a->seed, cosine(k->wanted, k->seen, k->clip.dim) };
    *best = rank_candidate(k->ranked, n, new);
    return true;
}

/* ---- the pictures ---------------------------------------------------------------------------- */

/* Write p with the texts that make it again. */
static bool write_picture(Maker *k, Output *o, const char *name, const Picture *p, Error *e)
{
    const Weights *parts[] = { &k->sd.text_weights, &k->sd.unet.weights, &k->sd.vae.weights };
    Record r = { 0 };
    if (!k->models) k->models = hash_models(k->sd.path, parts, countof(parts), e);
    const bool ok = k->models && record_make(&r, k->a, k->models, e)
        && (ends_with(name, ".ppm") ? ppm_write : png_write)(o, p->w, p->h, p->rgb, r.texts, e);
    record_free(&r);
    return ok;
}

static const char *output_name(const Args *a)
{
    return a->output ? a->output : a->batch > 1 ? "fusion-%d.png" : "fusion.png";
}

static void tell_picture(const Maker *k, const char *name, const Picture *p)
{
    const Args *a = k->a;
    const double *seconds = k->spent;
    SdStage stages[SD_STAGES];
    sd_plan(&k->sd, &k->r, stages);
    for (int i = 0; i < SD_STAGES; i++)
        if (stages[i].calls)
            tell_stage(a, stages[i].name, seconds[i], stages[i].macs * stages[i].calls);
    if (a->quiet && !k->silent) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    if (!a->json) return;
    fputs("{\"file\": ", stdout);
    print_json(name);
    printf(", \"seed\": %llu, \"width\": %d, \"height\": %d, \"method\": \"%s\", \"schedule\": "
           "\"%s\", \"steps\": %d, \"guidance\": %.9g", (unsigned long long)a->seed, p->w, p->h,
           a->method, a->schedule, a->steps, a->guidance);
    print_texts(k);
    if (k->ranked) print_candidates(k->ranked, a->candidates);
    views_print(&k->views);
    printf(", \"seconds\": {\"text\": %.3f, \"encode\": %.3f, \"unet\": %.3f, "
           "\"decode\": %.3f}}\n", seconds[SD_TEXT], seconds[SD_ENCODE], seconds[SD_UNET],
           seconds[SD_DECODE]);
}

/* The picture of the seed in the options. */
static bool generate(Maker *k, Picture *p, float *latents_out, Error *e)
{
    k->r.seed = k->a->seed;
    k->r.variation_seed = k->a->variation_seed;
    k->r.latents_out = latents_out;
    k->started = now();
    const bool ok = sd_generate(&k->sd, &k->r, p, e);
    if (k->bar && !ok) fputc('\n', stderr);
    if (k->views.error.code) *e = k->views.error;
    return ok && (!k->r.mask || picture_blend(p, k->r.init, k->r.mask, k->a->feather, e));
}

/* Picture i of the batch. */
static bool generate_one(Maker *k, int i, Picture *p, Error *e)
{
    const Args *a = k->a;
    if (!a->quiet) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    k->r.latents =
        k->latents ? k->latents + (k->latent_items > 1 ? (size_t)i * k->count : 0) : NULL;
    if (a->batch > 1) trace_enter("picture%d", i);
    const bool ok = generate(k, p, k->saved ? k->saved + (size_t)i * k->count : NULL, e);
    if (a->batch > 1) trace_leave();
    return ok;
}

/* The best of the candidates, its seed in the options. */
static bool generate_best(Maker *k, Picture *best, Error *e)
{
    Args *a = k->a;
    const uint64_t first = a->seed;
    float *latents = k->saved ? k->saved + k->count : NULL;
    bool ok = true;
    for (int i = 0; ok && i < a->candidates; i++) {
        Picture p = { 0 };
        bool leads = false;
        a->seed = first + (uint64_t)i;
        trace_enter("candidate%d", i);
        ok = generate(k, &p, latents, e) && rank(k, i, &p, &leads, e);
        trace_leave();
        if (leads) {
            const Picture old = *best;
            *best = p;
            p = old;
            if (latents) memcpy(k->saved, latents, k->count * sizeof *latents);
        }
        picture_free(&p);
    }
    a->seed = k->ranked[0].seed;
    if (!ok) return false;
    tell_candidates(a, k->ranked);
    if (!a->quiet) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    return true;
}

/* Picture i of the batch, with the seed in the options. */
static bool make_picture(Maker *k, int i, Error *e)
{
    Picture p = { 0 };
    char *name = numbered(output_name(k->a), i, e);
    Output *o = name ? making_open(k->a, name, e) : NULL;
    views_begin(&k->views, i);
    bool ok = o && (k->ranked ? generate_best(k, &p, e) : generate_one(k, i, &p, e))
        && write_picture(k, o, name, &p, e) && views_end(&k->views, &p, e);
    if (ok) {
        ok = making_commit(k->a, o, e);
        o = NULL;
    }
    if (ok) tell_picture(k, name, &p);
    output_discard(o);
    picture_free(&p);
    free(name);
    return ok;
}

static bool make_batch(Maker *k, Error *e)
{
    const Args *a = k->a;
    const int f = k->sd.vae.factor,
              shape[4] = { a->batch, k->sd.vae.latents, k->r.height / f, k->r.width / f };
    const uint64_t first = a->seed, first_variation = a->variation_seed;
    const size_t items = (size_t)(k->ranked ? 2 : a->batch);
    SafeWriter *save = a->save_latents ? safe_open(a->save_latents, e) : NULL;
    bool ok = !a->save_latents || save;
    if (ok && save) {
        size_t n;
        if (!size_mul(k->count, items * sizeof *k->saved, &n) || !(k->saved = malloc(n)))
            ok = fail(e, "--save-latents: out of memory: needed room for %zu latents", items);
    }
    for (int i = 0; ok && i < a->batch; i++) {
        if (a->each) {
            k->a->prompt = k->r.prompt = a->each->at[i];
            ok = tell_texts(k, e);
        } else if (cells(a)) {
            take_cell(k, i);
            say(a, "row %d, column %d: %d steps, guidance %g", i / a->grid.columns + 1,
                i % a->grid.columns + 1, a->steps, a->guidance);
        } else if (a->variation > 0) k->a->variation_seed = first_variation + (uint64_t)i;
        else k->a->seed = first + (uint64_t)i;
        ok = ok && make_picture(k, i, e);
    }
    ok = ok && (!save || safe_add(save, "latents", F32, 4, shape, k->saved, e));
    ok = ok && views_commit(&k->views, e);
    if (save && ok) ok = safe_commit(save, NULL, e);
    else safe_discard(save);
    return ok;
}

/* ---- image ----------------------------------------------------------------------------------- */

bool make_image(Args *a, bool silent, Error *e)
{
    Maker k = { .a = a, .bar = !a->quiet && isatty(2), .silent = silent };
    Trace *trace = NULL;
    char *folder = choose_machine(a, e) ? model_part(a, "sd", e) : NULL;
    char *tokenizer = folder ? model_tokenizer(a, folder) : NULL;
    bool open = folder && sd_open(&k.sd, folder, tokenizer, e);
    bool ok = open && (!a->vae || sd_vae(&k.sd, a->vae, e));
    if (ok) {
        tell_unused(a, &k.sd.text_weights);
        tell_unused(a, &k.sd.unet.weights);
        tell_unused(a, &k.sd.vae.weights);
    }
    k.views = (Views){ .a = a, .sd = &k.sd };
    ok = ok && open_adapters(&k, e) && make_request(&k, e) && ranking_open(&k, e)
        && views_open(&k.views, &k.r, e) && plan_request(&k, e);
    if (ok && !a->plan) {
        ok = (a->each || tell_texts(&k, e)) && views_start(&k.views, e) && trace_begin(&trace, a, e)
            && ranking_start(&k, e) && make_batch(&k, e);
        ok = trace_end(trace, ok, e);
    }
    free(folder);
    free(tokenizer);
    free(k.list);
    free(k.latents);
    free(k.saved);
    free(k.embeds[0]);
    free(k.embeds[1]);
    free(k.wanted);
    free(k.ranked);
    free(k.models);
    picture_free(&k.init);
    picture_free(&k.mask);
    views_close(&k.views);
    arena_close(&k.m);
    if (k.clip.tok) clip_close(&k.clip);
    if (open) sd_close(&k.sd);
    return ok;
}

/* ---- prompts from files ---------------------------------------------------------------------- */

/* All that --prompt-file can refuse by the options alone. */
static bool check_prompt_file(const Args *a, Error *e)
{
    static const char *const single[] = { "prompt", "prompt-embeds", "batch-count", "candidates",
                                          "heatmap" };
    for (size_t i = 0; a->prompt_file && i < countof(single); i++)
        if (opt_given(a->options, single[i]))
            return misuse(e, "--%s: of no use with --prompt-file", single[i]);
    return !a->style || a->prompt || a->prompt_file || a->plan
        || misuse(e, "--style: of no use without -p or --prompt-file");
}

/* The texts that --prompt-file and --style make; what they own is in lines and styled. */
static bool read_texts(Args *a, Lines *lines, char ***styled, Error *e)
{
    if (!check_prompt_file(a, e)) return false;
    if (a->prompt_file) {
        if (!lines_read(lines, a->prompt_file, e)) return false;
        a->each = lines;
        a->batch = lines->count;
        a->prompt = lines->at[0];
    }
    if (!a->style || !a->prompt) return true;
    char *standard = a->styles ? NULL : beside_program("weights/styles.txt");
    const char *path = a->styles ? a->styles : standard, *negative = a->negative;
    char **all = *styled = calloc(2 * (size_t)a->batch, sizeof *all);
    bool ok = (all && path) || fail(e, "--style: out of memory: needed room for prompts");
    for (int i = 0; ok && i < (a->each ? a->batch : 1); i++, all += 2) {
        ok = style_apply(path, a->style, a->each ? lines->at[i] : a->prompt, negative, all, e);
        if (!ok) break;
        if (a->each) lines->at[i] = all[0];
        if (!i) a->prompt = all[0], a->negative = all[1];
    }
    free(standard);
    return ok;
}

/* One of the lists of the grid: *out [*count], or the option's own value alone. */
static bool read_side(const char *option, const char *text, double own, double least, bool whole,
                      double **out, int *count, Error *e)
{
    char one[32];
    const double most = whole ? 1000 : 1e30;                     /* as --steps and --cfg-scale */
    snprintf(one, sizeof one, "%.17g", own);
    if (!(*out = read_numbers(option, text ? text : one, count, e))) return false;
    for (int i = 0; i < *count; i++)
        if (!((*out)[i] >= least && (*out)[i] <= most) || (whole && (*out)[i] != floor((*out)[i])))
            return misuse(e, "--%s: found %g, want %snumbers in %g..%g", option, (*out)[i],
                          whole ? "whole " : "", least, most);
    return true;
}

/* --each-steps and --each-guidance: a batch of all pairs. */
static bool read_grid(Args *a, Error *e)
{
    const struct { const char *name; bool clashes; } others[] = {
        { "batch-count", true }, { "candidates", true }, { "prompt-file", true },
        { "variation-seed", true }, { "timesteps", true }, { "sigmas", true },
        { "steps", a->each_steps != NULL }, { "cfg-scale", a->each_guidance != NULL } };
    const char *first = a->each_steps ? "each-steps" : "each-guidance";
    if (!a->each_steps && !a->each_guidance) return true;
    for (size_t i = 0; i < countof(others); i++)
        if (others[i].clashes && opt_given(a->options, others[i].name))
            return misuse(e, "--%s: of no use with --%s", others[i].name,
                          !strcmp(others[i].name, "cfg-scale") ? "each-guidance" : first);
    if (!read_side("each-steps", a->each_steps, a->steps, 1, true, &a->grid.steps, &a->grid.rows, e)
        || !read_side("each-guidance", a->each_guidance, a->guidance, 0, false, &a->grid.guidance,
                      &a->grid.columns, e)) return false;
    a->batch = a->grid.rows * a->grid.columns;
    a->steps = (int)a->grid.steps[0];
    a->guidance = a->grid.guidance[0];
    return a->batch <= 1000 || misuse(e, "--%s: found %d pictures, want at most 1000", first,
                                      a->batch);
}

int verb_image(Args *a, Error *e)
{
    Lines lines = { 0 };
    char **styled = NULL;
    const bool ok = read_grid(a, e) && read_texts(a, &lines, &styled, e) && choose_seed(a, e)
        && check_making(a, PICTURE_NAMES, "pictures", e) && check_candidates(a, e)
        && views_check(a, e) && (a->plan || check_outputs(a, output_name(a), e))
        && check_config(a, e) && make_image(a, false, e) && save_config(a, e);
    for (int i = 0; styled && i < 2 * a->batch; i++) free(styled[i]);
    free(styled);
    lines_free(&lines);
    free(a->grid.steps);
    free(a->grid.guidance);
    return ok ? 0 : 1;
}
