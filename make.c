/* make.c - the verbs that make: image, and verify, which makes an image again.
 * Read in this order: names, inputs, the request, what a picture says of itself, image, verify. */
#include "command.h"
#include "sd.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

/* Everything of one run of `image`. */
typedef struct {
    Args *a;
    Sd sd;
    SdRequest r;
    Picture init;
    float *latents, *saved, *embeds[2];    /* [items][C,h,w] given and final; prompt and negative */
    int latent_items;
    size_t count;                          /* values of one picture's latents */
    char *models;                          /* lines of sha256 and name */
    double started;
    bool bar, silent;                      /* a progress bar; not even the seed */
} Maker;

/* ---- names ----------------------------------------------------------------------------------- */

/* Where %d or %03d stands in a name, and how long it is; NULL when nowhere. */
static const char *find_counter(const char *name, size_t *length)
{
    for (const char *at = strchr(name, '%'); at; at = strchr(at + 1, '%')) {
        size_t digits = strspn(at + 1, "0123456789");
        *length = digits + 2;
        if (digits <= 2 && at[digits + 1] == 'd') return at;
    }
    return NULL;
}

/* The name of picture k; the caller frees. */
static char *output_name(const Args *a, int k, Error *e)
{
    const char *name = a->output ? a->output : a->batch > 1 ? "fusion-%d.png" : "fusion.png";
    size_t length, room = strlen(name) + 128;
    const char *counter = find_counter(name, &length);
    char *out = malloc(room);
    if (!out) fail(e, "out of memory: needed room for a name");
    else if (!counter) snprintf(out, room, "%s", name);
    else
        snprintf(out, room, "%.*s%0*d%s", (int)(counter - name), name,
                 (int)strtol(counter + 1, NULL, 10), k, counter + length);
    return out;
}

static bool is_special(const char *path)
{
    struct stat s;
    return !strcmp(path, "-") || (!stat(path, &s) && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode));
}

/* All that can be refused by the options alone. */
static bool check_options(const Args *a, Error *e)
{
    const char *o = a->output;
    size_t length;
    if (!a->prompt && !a->prompt_embeds && !a->plan)
        return misuse(e, "--prompt: missing, want -p TEXT");
    if (a->prompt && a->prompt_embeds) return misuse(e, "--prompt: of no use with --prompt-embeds");
    if (o && !ends_with(o, ".png") && !ends_with(o, ".ppm") && !is_special(o))
        return misuse(e, "--output: found '%s', want a name that ends in .png or .ppm", o);
    if (o && a->batch > 1 && !find_counter(o, &length))
        return misuse(e, "--output: found '%s', want %%d in it, as x-%%d.png", o);
    if (o && !strcmp(o, "-") && a->json)
        return misuse(e, "--json: of no use with -o -: both would be on standard output");
    if (a->save_latents && !ends_with(a->save_latents, ".safetensors"))
        return misuse(e, "--save-latents: found '%s', want a name that ends in .safetensors",
                      a->save_latents);
    if (a->seed > UINT64_MAX - (uint64_t)(a->batch - 1))
        return misuse(e, "--seed: found '%llu', want room for the seeds of %d pictures below 2^64",
                      (unsigned long long)a->seed, a->batch);
    return true;
}

/* Every output can be made, as far as can be known now. */
static bool check_outputs(const Args *a, Error *e)
{
    bool ok = true;
    for (int k = 0; ok && k < a->batch; k++) {
        char *name = output_name(a, k, e);
        Output *o = NULL;
        if (name && !is_special(name)) ok = (o = output_open(name, e)) != NULL;
        output_discard(o);
        ok = ok && name;
        free(name);
    }
    return ok;
}

/* ---- inputs ---------------------------------------------------------------------------------- */

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

/* Tensor `name` of w as floats; a dimension 0 in want takes any length.  The caller frees. */
static float *read_tensor(const Weights *w, const char *name, const int *want, int rank, int *found,
                          Error *e)
{
    const Entry *t = weights_find(w, name);
    size_t n = 1;
    char shown[64] = "", wanted[64] = "";
    if (!t) return fail(e, "%s: tensor '%s': missing", w->path, name), NULL;
    bool fits = t->rank == rank;
    for (int i = 0; i < rank; i++) {
        snprintf(wanted + strlen(wanted), sizeof wanted - strlen(wanted), want[i] ? "%s%d" : "%sN",
                 i ? "," : "", want[i]);
        if (i >= t->rank) continue;
        snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%s%llu", i ? "," : "",
                 (unsigned long long)t->shape[i]);
        fits = fits && t->shape[i] && t->shape[i] < 1 << 20
               && (!want[i] || t->shape[i] == (uint64_t)want[i]);
        found[i] = fits ? (int)t->shape[i] : 0;
        fits = fits && size_mul(n, (size_t)found[i], &n);
    }
    float *values = fits && t->type != NOT_COMPUTED ? malloc(n * sizeof *values) : NULL;
    if (!fits)
        fail(e, "%s: tensor '%s': found shape [%s] of rank %d, want [%s]", w->path, name, shown,
             t->rank, wanted);
    else if (t->type == NOT_COMPUTED)
        fail(e, "%s: tensor '%s': found dtype %s, want F32, F16 or BF16", w->path, name, t->dtype);
    else if (!values)
        fail(e, "%s: tensor '%s': out of memory: needed %zu bytes", w->path, name,
             n * sizeof *values);
    else
        weight_read((Weight){ .at = t->at, .type = t->type }, 0, n, values);
    return values;
}

static bool read_latents(Maker *k, Error *e)
{
    const int f = k->sd.vae.factor,
              want[4] = { 0, k->sd.vae.latents, k->r.height / f, k->r.width / f };
    int found[4] = { 0 };
    Weights w;
    if (!k->a->latents) return true;
    if (!weights_open(&w, k->a->latents, "model", e)) return false;
    k->latents = read_tensor(&w, "latents", want, 4, found, e);
    k->latent_items = found[0];
    if (k->latents && found[0] != 1 && found[0] != k->a->batch)
        fail(e, "%s: tensor 'latents': found %d items, want 1%s", w.path, found[0],
             k->a->batch > 1 ? " or one a picture" : "");
    weights_close(&w);
    return !e->code;
}

static bool read_embeds(Maker *k, Error *e)
{
    const int want[3] = { 1, 0, k->sd.text.encoder.width };
    int found[4] = { 0 }, other[4] = { 0 };
    Weights w;
    if (!k->a->prompt_embeds) return true;
    if (!weights_open(&w, k->a->prompt_embeds, "model", e)) return false;
    k->r.prompt_embeds = k->embeds[0] = read_tensor(&w, "prompt_embeds", want, 3, found, e);
    bool negative = k->embeds[0] && weights_find(&w, "negative_prompt_embeds");
    if (negative)
        k->r.negative_embeds = k->embeds[1] =
            read_tensor(&w, "negative_prompt_embeds", want, 3, other, e);
    if (negative && k->embeds[1] && found[1] != other[1])
        fail(e, "%s: negative_prompt_embeds: found %d tokens, prompt_embeds has %d", w.path,
             other[1], found[1]);
    if (negative && k->a->negative)
        misuse(e, "--negative: of no use with negative_prompt_embeds in %s", w.path);
    k->r.embed_tokens = found[1];
    weights_close(&w);
    return !e->code;
}

/* ---- the request ----------------------------------------------------------------------------- */

/* sd_check and the samplers say "width: ..." or "pndm: eta: ..."; here these are options. */
static bool check_request(const Maker *k, Error *e)
{
    static const char *const words[] = { "width: ", "height: ",   "steps: ",
                                         "eta: ",   "strength: ", "schedule: " };
    Error inner = { 0 };
    if (sd_check(&k->sd, &k->r, &inner)) return true;
    for (size_t i = 0; i < countof(words); i++) {
        const char *at = strstr(inner.text, words[i]);
        if (at == inner.text) return misuse(e, "--%s", at);
        if (at && at - inner.text > 2 && at[-2] == ':')
            return misuse(e, "--%s (%.*s)", at, (int)(at - inner.text - 2), inner.text);
    }
    return misuse(e, "%s%s", strstr(inner.text, " steps: ") ? "--steps: " : "", inner.text);
}

/* Write the choices that the model made back into the options: they are echoed with the picture. */
static bool resolve(Maker *k, Error *e)
{
    SamplerOptions o = {
        .method = k->r.method, .schedule = k->r.schedule, .steps = k->r.steps, .eta = k->r.eta
    };
    SamplerPlan plan = { 0 };
    bool ok = sampler_plan(&plan, &k->sd.schedule, &o, e);
    if (ok) {
        k->a->method = sampler_name(plan.method);
        k->a->schedule = plan.karras ? "karras" : "discrete";
    }
    sampler_plan_free(&plan);
    return ok;
}

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
    r->steps = a->steps;
    r->guidance = a->guidance;
    r->eta = a->eta;
    r->strength = a->strength;
    r->clip_skip = a->clip_skip;
    r->method = a->method ? sampler_method(a->method) : -1;
    r->schedule = a->schedule ? sampler_schedule(a->schedule) : -1;
    r->scratch = a->scratch;
    if (a->clip_skip >= k->sd.text.encoder.layers)
        return misuse(e, "--clip-skip: found '%d', want a whole number in 0..%d", a->clip_skip,
                      k->sd.text.encoder.layers - 1);
    if (!check_request(k, e)) return false;
    if (a->init && !picture_resize(&k->init, a->width, a->height, LANCZOS, e)) return false;
    r->init = a->init ? &k->init : NULL;
    k->count = (size_t)k->sd.vae.latents * (size_t)(a->height / k->sd.vae.factor)
               * (size_t)(a->width / k->sd.vae.factor);
    return read_latents(k, e) && read_embeds(k, e) && check_request(k, e) && resolve(k, e);
}

/* Print the plan, or hold it against --max-mem. */
static bool plan_request(const Maker *k, Error *e)
{
    SdStage all[SD_STAGES];
    Stage stages[SD_STAGES];
    size_t need = 0;
    int n = 0;
    sd_plan(&k->sd, &k->r, all);
    for (int i = 0; i < SD_STAGES; i++) {
        if (!all[i].calls) continue;
        need = zmax(need, all[i].memory);
        stages[n++] = (Stage){ all[i].name, all[i].memory, all[i].macs * all[i].calls * k->a->batch,
                               all[i].weight_bytes };
    }
    if (k->a->plan) print_plan(k->a, stages, n);
    return k->a->plan || check_memory(k->a, need, e);
}

static bool tell_lost(const Maker *k, Error *e)
{
    const char *texts[2] = { k->r.prompt_embeds ? NULL : k->r.prompt,
                             k->r.negative_embeds ? NULL : k->r.negative };
    for (int i = 0; i < 2; i++) {
        char *lost = texts[i] ? sd_lost(&k->sd, texts[i], e) : NULL;
        if (lost)
            say(k->a, "%s: too long for the text encoder, cut off: %s",
                i ? "negative prompt" : "prompt", lost);
        free(lost);
    }
    return !e->code;
}

/* A bar with the time left, on one line that is written over. */
static bool show_step(void *self, int call, int calls, const float *latents, const float *x0)
{
    enum { WIDE = 30 };
    const Maker *k = self;
    const double left = (now() - k->started) / call * (calls - call);
    const int done = call * WIDE / calls;
    (void)latents;
    (void)x0;
    fprintf(stderr, "\r[%.*s%*s] %d/%d  %d:%02d left ", done,
            "==============================", WIDE - done, "", call, calls, (int)left / 60,
            (int)left % 60);
    if (call == calls) fputs("\r\033[K", stderr);
    fflush(stderr);
    return true;
}

/* ---- what a picture says of itself ----------------------------------------------------------- */

enum { HASHED = 1 << 30 };                 /* larger files are known by their header and size */

static void hash_file(const File *f, char hex[65])
{
    Sha256 sum;
    size_t n = f->size;
    if (n > HASHED) {
        uint64_t header = 0;
        for (int i = 7; i >= 0; i--) header = header << 8 | f->at[i];
        n = (size_t)header + 8;                            /* weights_open has checked it */
    }
    sha256_start(&sum);
    sha256_add(&sum, f->at, n);
    sha256_end(&sum, hex);
}

/* A line for each file of weights: sum and name below the model's folder. */
static char *hash_models(const Sd *sd)
{
    const Weights *parts[] = { &sd->text_weights, &sd->unet.weights, &sd->vae.weights };
    const size_t folder = strlen(sd->path);
    char *text = NULL, hex[65];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    for (size_t i = 0; out && i < countof(parts); i++)
        for (int j = 0; j < parts[i]->file_count; j++) {
            const File *f = &parts[i]->files[j];
            const char *name = strncmp(f->path, sd->path, folder) ? f->path : f->path + folder;
            hash_file(f, hex);
            fprintf(out, "%s%s %s", i + (size_t)j ? "\n" : "", hex, name + strspn(name, "/"));
            if (f->size > HASHED) fprintf(out, " (header of %zu bytes)", f->size);
        }
    if (out && !fclose(out)) return text;
    free(text);
    return NULL;
}

/* The sum of an input that the picture was made from. */
static bool hash_input(const char *path, char hex[65], Error *e)
{
    File f;
    hex[0] = 0;
    if (!path) return true;
    if (!file_map(&f, path, 0, e)) return false;
    Sha256 sum;
    sha256_start(&sum);
    sha256_add(&sum, f.at, f.size);
    sha256_end(&sum, hex);
    file_unmap(&f);
    return true;
}

static const char *const input_keys[3] = { "init sha256", "latents sha256",
                                           "prompt-embeds sha256" };

/* Write p with the texts that make it again. */
static bool write_picture(Maker *k, Output *o, const char *name, const Picture *p, Error *e)
{
    const Args *a = k->a;
    const char *inputs[3] = { a->init, a->latents, a->prompt_embeds };
    char sums[3][65], seed[24];
    const char *texts[24];
    int n = 0;
    if (!k->models) k->models = hash_models(&k->sd);
    char *options = opt_echo(a->options);
    bool ok =
        (k->models && options) || fail(e, "out of memory: needed room for the picture's texts");
    for (int i = 0; ok && i < 3; i++) ok = hash_input(inputs[i], sums[i], e);
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)a->seed);
#define TEXT(key, value) (texts[n++] = (key), texts[n++] = (value))
    TEXT("Software", "fusion " VERSION);
    if (a->prompt) TEXT("prompt", a->prompt);
    if (a->negative) TEXT("negative prompt", a->negative);
    TEXT("seed", seed);
    TEXT("options", options);
    TEXT("models", k->models);
    for (int i = 0; i < 3; i++)
        if (ok && sums[i][0]) TEXT(input_keys[i], sums[i]);
#undef TEXT
    texts[n] = NULL;
    if (ok) ok = (ends_with(name, ".ppm") ? ppm_write : png_write)(o, p->w, p->h, p->rgb, texts, e);
    free(options);
    return ok;
}

/* ---- image ----------------------------------------------------------------------------------- */

static void tell_picture(const Maker *k, const char *name, const double seconds[SD_STAGES],
                         const Picture *p)
{
    const Args *a = k->a;
    if (a->verbose)
        say(a, "text %.2f s, encode %.2f s, unet %.2f s, decode %.2f s", seconds[SD_TEXT],
            seconds[SD_ENCODE], seconds[SD_UNET], seconds[SD_DECODE]);
    if (a->quiet && !k->silent) fprintf(stderr, "seed %llu\n", (unsigned long long)a->seed);
    if (!a->json) return;
    fputs("{\"file\": ", stdout);
    print_json(name);
    printf(", \"seed\": %llu, \"width\": %d, \"height\": %d, \"method\": \"%s\", \"schedule\": "
           "\"%s\", \"steps\": %d, \"seconds\": "
           "{\"text\": %.3f, \"encode\": %.3f, \"unet\": %.3f, \"decode\": %.3f}}\n",
           (unsigned long long)a->seed, p->w, p->h, a->method, a->schedule, a->steps,
           seconds[SD_TEXT], seconds[SD_ENCODE], seconds[SD_UNET], seconds[SD_DECODE]);
}

/* Picture i of the batch, with the seed in the options. */
static bool make_picture(Maker *k, int i, Error *e)
{
    double seconds[SD_STAGES] = { 0 };
    Picture p = { 0 };
    char *name = output_name(k->a, i, e);
    Output *o = name ? output_open(name, e) : NULL;
    bool ok = o != NULL;
    if (ok && !k->a->quiet) fprintf(stderr, "seed %llu\n", (unsigned long long)k->a->seed);
    k->r.seed = k->a->seed;
    k->r.seconds = seconds;
    k->r.latents =
        k->latents ? k->latents + (k->latent_items > 1 ? (size_t)i * k->count : 0) : NULL;
    k->r.latents_out = k->saved ? k->saved + (size_t)i * k->count : NULL;
    k->r.self = k;
    k->r.step = k->bar ? show_step : NULL;
    k->started = now();
    if (k->a->batch > 1) trace_enter("picture%d", i);
    ok = ok && sd_generate(&k->sd, &k->r, &p, e);
    if (k->a->batch > 1) trace_leave();
    if (k->bar && !ok) fputc('\n', stderr);
    ok = ok && write_picture(k, o, name, &p, e);
    if (ok) {
        ok = output_commit(o, e);
        o = NULL;
    }
    if (ok) tell_picture(k, name, seconds, &p);
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
    const uint64_t first = a->seed;
    SafeWriter *save = a->save_latents ? safe_open(a->save_latents, e) : NULL;
    bool ok = !a->save_latents || save;
    if (ok && save) {
        size_t n;
        if (!size_mul(k->count, (size_t)a->batch * sizeof *k->saved, &n) || !(k->saved = malloc(n)))
            ok = fail(e, "--save-latents: out of memory: needed room for %d latents", a->batch);
    }
    for (int i = 0; ok && i < a->batch; i++) {
        k->a->seed = first + (uint64_t)i;
        ok = make_picture(k, i, e);
    }
    ok = ok && (!save || safe_add(save, "latents", F32, 4, shape, k->saved, e));
    if (save && ok) ok = safe_commit(save, NULL, e);
    else safe_discard(save);
    return ok;
}

static bool make(Args *a, bool silent, Error *e)
{
    Maker k = { .a = a, .bar = !a->quiet && isatty(2), .silent = silent };
    Trace *trace = NULL;
    char *folder = choose_machine(a, e) ? model_part(a, "sd", e) : NULL;
    bool open = folder && sd_open(&k.sd, folder, a->tokenizer, e), ok = open;
    if (open) {
        tell_unused(a, &k.sd.text_weights);
        tell_unused(a, &k.sd.unet.weights);
        tell_unused(a, &k.sd.vae.weights);
    }
    ok = ok && make_request(&k, e) && plan_request(&k, e);
    if (ok && !a->plan) {
        ok = tell_lost(&k, e) && trace_begin(&trace, a, e) && make_batch(&k, e);
        ok = trace_end(trace, ok, e);
    }
    free(folder);
    free(k.latents);
    free(k.saved);
    free(k.embeds[0]);
    free(k.embeds[1]);
    free(k.models);
    picture_free(&k.init);
    if (open) sd_close(&k.sd);
    return ok;
}

int verb_image(Args *a, Error *e)
{
    if (!opt_given(a->options, "seed")
        && getrandom(&a->seed, sizeof a->seed, 0) != (ssize_t)sizeof a->seed)
        return fail(e, "--seed: the system gives no random numbers: %s", strerror(errno)), 1;
    if (!opt_given(a->options, "seed")) a->seed >>= 1;     /* room for the seeds of a batch */
    return check_options(a, e) && (a->plan || check_outputs(a, e)) && make(a, false, e) ? 0 : 1;
}

/* ---- verify ---------------------------------------------------------------------------------- */

static const char *find_text(const Picture *p, const char *key)
{
    for (int i = 0; i < p->text_count; i++)
        if (!strcmp(p->texts[i].key, key)) return p->texts[i].value;
    return NULL;
}

/* The inputs that the picture was made from must be given, and be the same. */
static bool check_inputs(const Args *a, const Picture *p, const char *path, Error *e)
{
    static const char *const words[3] = { "-i", "--latents", "--prompt-embeds" };
    const char *inputs[3] = { a->init, a->latents, a->prompt_embeds };
    char hex[65];
    for (int i = 0; i < 3; i++) {
        const char *want = find_text(p, input_keys[i]);
        if (!want && inputs[i])
            return misuse(e, "%s: of no use: %s was made without it", words[i], path);
        if (want && !inputs[i])
            return fail(e, "%s: made from a file of sha256 %.64s: give it with %s FILE", path, want,
                        words[i]);
        if (!hash_input(inputs[i], hex, e)) return false;
        if (want && strcmp(want, hex))
            return fail(e, "%s: sha256: found %s, %s was made from %.64s", inputs[i], hex, path,
                        want);
    }
    return true;
}

/* How the picture made again differs from p: in words. */
static void tell_difference(const Args *a, const Picture *p, const char *again, Error *e)
{
    static const char *const keys[] = { "Software", "models", "options" };
    Picture q;
    size_t pixels = (size_t)p->w * (size_t)p->h, different = 0;
    if (!picture_read(&q, again, e)) return;
    for (size_t i = 0; i < pixels && p->w == q.w && p->h == q.h; i++)
        different += memcmp(p->rgb + 3 * i, q.rgb + 3 * i, 3) != 0;
    if (p->w != q.w || p->h != q.h)
        say(a, "sizes differ: %dx%d, made again %dx%d", p->w, p->h, q.w, q.h);
    else say(a, "%zu of %zu pixels differ", different, pixels);
    for (size_t i = 0; i < countof(keys); i++) {
        const char *was = find_text(p, keys[i]), *is = find_text(&q, keys[i]);
        if (!was || !is || strcmp(was, is))
            say(a, "%s differ: found\n%s\nmade again with\n%s", keys[i], was ? was : "nothing",
                is ? is : "nothing");
    }
    picture_free(&q);
}

/* Make what p's options say into the file again. */
static bool make_again(const Args *a, const Picture *p, const char *path, char *again, Error *e)
{
    Args image = { 0 };
    Options options = { .table = option_table, .verb = verb_bit("image"), .fields = &image };
    const char *settings = find_text(p, "options");
    image.options = &options;
    bool ok = opt_parse(&options, 0, NULL, e)
              && opt_settings(&options, settings, strlen(settings), path, e);
    if (!ok) e->code = 1; /* the picture is wrong, not the command */
    image.model = a->model, image.sd = a->sd, image.tokenizer = a->tokenizer;
    image.threads = a->threads, image.isa = a->isa;
    image.init = a->init, image.latents = a->latents, image.prompt_embeds = a->prompt_embeds;
    image.output = again;
    image.quiet = true;
    ok = ok && check_options(&image, e) && make(&image, true, e);
    opt_free(&options);
    return ok;
}

static bool same_bytes(const char *a, const char *b, bool *same, Error *e)
{
    File x = { 0 }, y = { 0 };
    bool ok = file_map(&x, a, 0, e) && file_map(&y, b, 0, e);
    *same = ok && x.size == y.size && !memcmp(x.at, y.at, x.size);
    file_unmap(&x);
    file_unmap(&y);
    return ok;
}

int verb_verify(Args *a, Error *e)
{
    const char *path = a->options->operands.at[0], *folder = getenv("TMPDIR");
    char name[64], *again = NULL;
    bool same = false, ok;
    Picture p;
    if (!picture_read(&p, path, e)) return 1;
    snprintf(name, sizeof name, "fusion-verify-%ld.%s", (long)getpid(),
             !strcmp(p.format, "PNG") ? "png" : "ppm");
    if (!find_text(&p, "options"))
        ok = fail(e, "%s: nothing here says how it was made, want a picture of fusion image", path);
    else if (!(again = path_join(folder && *folder ? folder : "/tmp", name)))
        ok = fail(e, "out of memory: needed room for a name");
    else
        ok = check_inputs(a, &p, path, e) && make_again(a, &p, path, again, e)
             && same_bytes(path, again, &same, e);
    if (ok && !same) tell_difference(a, &p, again, e);
    if (again) unlink(again);
    free(again);
    picture_free(&p);
    if (!ok) return 1;
    if (a->json) fputs("{\"file\": ", stdout);
    (a->json ? print_json : print_field)(path);
    printf(a->json ? ", \"same\": %s}\n" : "\t%s\n", a->json ? same ? "true" : "false"
                                                     : same  ? "same"
                                                             : "different");
    return same ? 0 : 3;
}
