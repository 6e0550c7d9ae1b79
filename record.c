/* record.c - what the verbs that make share: names of outputs, what options alone can refuse,
 * tensors given, the progress bar, and the texts that say how an output was made.
 * Pictures are make.c's, sounds hear.c's. */
#include "command.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

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

char *numbered(const char *name, int k, Error *e)
{
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

bool is_special(const char *path)
{
    struct stat s;
    return !strcmp(path, "-") || (!stat(path, &s) && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode));
}

bool is_wav(const char *path)
{
    uint8_t head[12];
    return sound_known(head, file_head(path, head, sizeof head, &(Error){ 0 }));
}

bool is_picture(const char *path)
{
    uint8_t head[16];
    return picture_known(head, file_head(path, head, sizeof head, &(Error){ 0 }));
}

bool check_names(const Args *a, const char *option, const char *name, const char *endings, Error *e)
{
    size_t length;
    bool fits = !name || is_special(name);
    if (name && folder_exists(name)) return fail(e, "%s: cannot write: it is a folder", name);
    for (const char *at = endings; !fits && (at = strchr(at, '.')); at++) {
        const size_t n = strcspn(at, " "), all = strlen(name);
        fits = all >= n && !strncmp(name + all - n, at, n);
    }
    if (!fits)
        return misuse(e, "--%s: found '%s', want a name that ends in %s", option, name, endings);
    if (name && a->batch > 1 && !find_counter(name, &length))
        return misuse(e, "--%s: found '%s', want %%d in it, as x-%%d.%.3s", option, name,
                      strchr(endings, '.') + 1);
    return true;
}

bool check_making(const Args *a, const char *endings, const char *things, Error *e)
{
    const bool layered = a->layers.count || a->options->verb == verb_bit("soundscape");
    if (!a->prompt && !a->prompt_embeds && !a->plan && !layered)
        return misuse(e, "--prompt: missing, want -p TEXT");
    if (a->prompt && a->prompt_embeds) return misuse(e, "--prompt: of no use with --prompt-embeds");
    if (!check_names(a, "output", a->output, endings, e)) return false;
    if (a->output && !strcmp(a->output, "-") && a->json)
        return misuse(e, "--json: of no use with -o -: both would be on standard output");
    if (a->save_latents && !ends_with(a->save_latents, ".safetensors"))
        return misuse(e, "--save-latents: found '%s', want a name that ends in .safetensors",
                      a->save_latents);
    const uint64_t more = (uint64_t)imax(a->batch, a->candidates) - 1;
    if (a->seed > UINT64_MAX - more)
        return misuse(e, "--seed: found '%llu', want room for the seeds of %llu %s below 2^64",
                      (unsigned long long)a->seed, (unsigned long long)more + 1, things);
    if (a->variation_seed > UINT64_MAX - more)
        return misuse(e, "--variation-seed: found '%llu', want room for those of %llu %s below "
                      "2^64", (unsigned long long)a->variation_seed,
                      (unsigned long long)more + 1, things);
    return true;
}

bool check_outputs(const Args *a, const char *name, Error *e)
{
    bool ok = true;
    for (int k = 0; ok && k < a->batch; k++) {
        char *path = numbered(name, k, e);
        Output *o = NULL;
        if (path && !is_special(path)) ok = (o = output_open(path, e)) != NULL;
        output_discard(o);
        ok = ok && path;
        free(path);
    }
    return ok;
}

Output *making_open(const Args *a, const char *name, Error *e)
{
    return a->into ? output_memory(name, e) : output_open(name, e);
}

bool making_commit(const Args *a, Output *o, Error *e)
{
    if (!a->into) return output_commit(o, e);
    *a->into = o;
    return true;
}

bool choose_seed(Args *a, Error *e)
{
    if (opt_given(a->options, "seed")) return true;
    if (getrandom(&a->seed, sizeof a->seed, 0) != (ssize_t)sizeof a->seed)
        return fail(e, "--seed: the system gives no random numbers: %s", strerror(errno));
    a->seed >>= 1;                                         /* room for the seeds of a batch */
    return true;
}

bool misuse_option(const Error *inner, Error *e)
{
    static const char *const words[] = { "timesteps: ", "sigmas: ", "width: ", "height: ",
        "seconds: ", "steps: ", "eta: ", "strength: ", "schedule: ", "mask: ", "prompt: ",
        "negative-prompt: " };
    if (inner->code != 2) return fail(e, "%s", inner->text);
    for (size_t i = 0; i < countof(words); i++) {
        const char *at = strstr(inner->text, words[i]);
        if (at == inner->text) return misuse(e, "--%s", at);
        if (at && at - inner->text > 2 && at[-2] == ':')
            return misuse(e, "--%s (%.*s)", at, (int)(at - inner->text - 2), inner->text);
    }
    return misuse(e, "%s%s", strstr(inner->text, " steps: ") ? "--steps: " : "", inner->text);
}

/* ---- inputs ---------------------------------------------------------------------------------- */

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

bool read_latents(const Args *a, const int want[4], float **out, int *items, Error *e)
{
    int found[4] = { 0 };
    Weights w;
    if (!a->latents) return true;
    if (!weights_open(&w, a->latents, "model", e)) return false;
    *out = read_tensor(&w, "latents", want, 4, found, e);
    *items = found[0];
    if (*out && found[0] != 1 && found[0] != a->batch)
        fail(e, "%s: tensor 'latents': found %d items, want 1%s", w.path, found[0],
             a->batch > 1 ? " or one an output" : "");
    weights_close(&w);
    return !e->code;
}

bool read_embeds(const Args *a, const int *want, int rank, float *out[2], int *tokens, Error *e)
{
    int found[4] = { 0 }, other[4] = { 0 };
    Weights w;
    if (!a->prompt_embeds) return true;
    if (!weights_open(&w, a->prompt_embeds, "model", e)) return false;
    out[0] = read_tensor(&w, "prompt_embeds", want, rank, found, e);
    const bool negative = out[0] && weights_find(&w, "negative_prompt_embeds");
    if (negative) out[1] = read_tensor(&w, "negative_prompt_embeds", want, rank, other, e);
    if (negative && out[1] && found[1] != other[1])
        fail(e, "%s: negative_prompt_embeds: found %d tokens, prompt_embeds has %d", w.path,
             other[1], found[1]);
    if (negative && a->negative)
        misuse(e, "--negative-prompt: of no use with negative_prompt_embeds in %s", w.path);
    *tokens = found[1];
    weights_close(&w);
    return !e->code;
}

/* ---- candidates ------------------------------------------------------------------------------ */

bool rank_candidate(Candidate *ranked, int n, Candidate new)
{
    for (; n > 0 && ranked[n - 1].score < new.score; n--) ranked[n] = ranked[n - 1];
    ranked[n] = new;
    return n == 0;
}

void tell_candidates(const Args *a, const Candidate *ranked)
{
    for (int i = 0; i < a->candidates; i++)
        say(a, "%llu\t%.6f", (unsigned long long)ranked[i].seed, ranked[i].score);
}

void print_candidates(const Candidate *ranked, int count)
{
    for (int i = 0; i < count; i++)
        printf("%s{\"seed\": %llu, \"score\": %.9g}", i ? ", " : ", \"candidates\": [",
               (unsigned long long)ranked[i].seed, ranked[i].score);
    if (count) fputc(']', stdout);
}

bool no_ranking(const Args *a, const char *part, const char *name, const Error *inner, Error *e)
{
    const bool given = !strcmp(part, "clip") ? a->clip != NULL : a->clap != NULL;
    if (given) return fail(e, "%s", inner->text);
    return misuse(e, "--candidates: no %s model to rank them: give --%s PATH, or a bundle with a "
                  "folder %s", name, part, part);
}

/* ---- the progress bar ------------------------------------------------------------------------ */

bool show_step(void *self, int call, int calls, const float *latents, const float *x0)
{
    enum { WIDE = 30 };
    const double *started = self;
    const double left = (now() - *started) / call * (calls - call);
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

/* ---- what an output says of itself ----------------------------------------------------------- */

enum { HASHED = 1 << 30 };                 /* larger files are known by their header and size */

static void hash_bytes(const uint8_t *at, size_t n, char hex[65])
{
    Sha256 sum;
    sha256_start(&sum);
    sha256_add(&sum, at, n);
    sha256_end(&sum, hex);
}

static void hash_file(const File *f, char hex[65])
{
    size_t n = f->size;
    if (n > HASHED) {
        uint64_t header = 0;
        for (int i = 7; i >= 0; i--) header = header << 8 | f->at[i];
        n = (size_t)header + 8;                            /* weights_open has checked it */
    }
    hash_bytes(f->at, n, hex);
}

char *hash_models(const char *folder, const Weights *const *parts, int count, Error *e)
{
    const size_t below = strlen(folder);
    char *text = NULL, hex[65];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    for (int i = 0; out && i < count; i++)
        for (int j = 0; j < parts[i]->file_count; j++) {
            const File *f = &parts[i]->files[j];
            const char *name = f->path + below;
            if (strncmp(f->path, folder, below))           /* elsewhere: no path, its name */
                name = strrchr(f->path, '/') ? strrchr(f->path, '/') : f->path;
            if (!*name) {                                  /* all parts in one file: counts once */
                if (i) continue;
                name = strrchr(folder, '/') ? strrchr(folder, '/') : folder;
            }
            hash_file(f, hex);
            fprintf(out, "%s%s %s", i + j ? "\n" : "", hex, name + strspn(name, "/"));
            if (f->size > HASHED) fprintf(out, " (header of %zu bytes)", f->size);
        }
    if (out && !fclose(out)) return text;
    free(text);
    fail(e, "out of memory: needed room for the names of models");
    return NULL;
}

/* The sum of an input that the output was made from. */
static bool hash_input(const char *path, char hex[65], Error *e)
{
    File f;
    hex[0] = 0;
    if (!path) return true;
    if (!file_map(&f, path, 0, e)) return false;
    hash_bytes(f.at, f.size, hex);
    file_unmap(&f);
    return true;
}

enum { INPUTS = 4 };
static const struct { const char *key, *word; size_t field; } inputs[INPUTS] = {
    { "init sha256", "-i", offsetof(Args, init) },
    { "mask sha256", "--mask", offsetof(Args, mask) },
    { "latents sha256", "--latents", offsetof(Args, latents) },
    { "prompt-embeds sha256", "--prompt-embeds", offsetof(Args, prompt_embeds) },
};

char *lora_file(const char *text, double *weight, Error *e)
{
    const char *colon = strrchr(text, ':');
    char *path = strdup(text);
    *weight = 1;
    if (!path) fail(e, "--lora: out of memory");
    else if (colon > text && opt_read_number(colon + 1, weight)) path[colon - text] = 0;
    else *weight = 1;
    return path;
}

/* A line for each adapter: its sum, and a LoRA's weight.  NULL where there is none, or with e. */
static char *hash_adapters(const Texts *given, bool weights, Error *e)
{
    char *text = NULL, hex[65];
    size_t size;
    if (!given->count) return NULL;
    FILE *out = open_memstream(&text, &size);
    bool ok = out != NULL || fail(e, "out of memory: needed room for the sums of adapters");
    for (int i = 0; ok && i < given->count; i++) {
        double weight = 1;
        char *path = weights ? lora_file(given->at[i], &weight, e) : strdup(given->at[i]);
        ok = path && hash_input(path, hex, e);
        fprintf(out, "%s%s", i ? "\n" : "", hex);
        if (weights) fprintf(out, " %.9g", weight);
        free(path);
    }
    if (out && fclose(out)) ok = fail(e, "out of memory: needed room for the sums of adapters");
    if (ok) return text;
    free(text);
    return NULL;
}

bool check_config(const Args *a, Error *e)
{
    if (!a->save_config || a->plan) return true;
    Output *o = output_open(a->save_config, e);
    output_discard(o);
    return o != NULL;
}

bool save_config(const Args *a, Error *e)
{
    if (!a->save_config || a->plan) return true;
    char *text = opt_echo(a->options);
    Output *o = text ? output_open(a->save_config, e) : NULL;
    if (!text) fail(e, "--save-config: out of memory: needed room for the options");
    const bool ok = o && output_write(o, text, strlen(text), e);
    free(text);
    if (ok) return output_commit(o, e);
    output_discard(o);
    return false;
}

static const char *input_path(const Args *a, int i)
{
    return *(const char *const *)((const char *)a + inputs[i].field);
}

bool record_make(Record *r, const Args *a, const char *models, Error *e)
{
    int n = 0;
    r->options = opt_echo(a->options);
    if (!r->options) return fail(e, "out of memory: needed room for the output's texts");
    for (int i = 0; i < INPUTS; i++)
        if (!hash_input(input_path(a, i), r->sums[i], e)) return false;
    r->loras = hash_adapters(&a->loras, true, e);
    r->embeddings = hash_adapters(&a->embeddings, false, e);
    if (e->code) return false;
    snprintf(r->seed, sizeof r->seed, "%llu", (unsigned long long)a->seed);
#define TEXT(key, value) (r->texts[n++] = (key), r->texts[n++] = (value))
    TEXT("Software", "fusion " VERSION);
    if (a->prompt) TEXT("prompt", a->prompt);
    if (a->negative) TEXT("negative prompt", a->negative);
    TEXT("seed", r->seed);
    TEXT("options", r->options);
    TEXT("models", models);
    for (int i = 0; i < INPUTS; i++)
        if (r->sums[i][0]) TEXT(inputs[i].key, r->sums[i]);
    if (r->loras) TEXT("loras", r->loras);
    if (r->embeddings) TEXT("embeddings", r->embeddings);
#undef TEXT
    r->texts[n] = NULL;
    return true;
}

void record_free(Record *r)
{
    free(r->options);
    free(r->loras);
    free(r->embeddings);
    *r = (Record){ 0 };
}

/* ---- verify ---------------------------------------------------------------------------------- */

/* A picture or a sound, and what it says of itself. */
typedef struct {
    const char *path;
    bool sounds;
    Picture p;
    Sound s;
    const Text *texts; int text_count;
    size_t count, bytes;                   /* pixels or samples, and bytes of one */
    const void *at;
} Made;

static bool made_read(Made *m, const char *path, Error *e)
{
    *m = (Made){ .path = path, .sounds = is_wav(path) };
    if (m->sounds) {
        if (!sound_read(&m->s, path, e)) return false;
        m->texts = m->s.texts, m->text_count = m->s.text_count;
        m->count = m->s.frames * (size_t)m->s.channels, m->bytes = sizeof *m->s.at;
        m->at = m->s.at;
        return true;
    }
    if (!picture_read(&m->p, path, e)) return false;
    m->texts = m->p.texts, m->text_count = m->p.text_count;
    m->count = (size_t)m->p.w * (size_t)m->p.h, m->bytes = 3;
    m->at = m->p.rgb;
    return true;
}

static void made_free(Made *m)
{
    sound_free(&m->s);
    picture_free(&m->p);
}

static const char *find_text(const Made *m, const char *key)
{
    for (int i = 0; i < m->text_count; i++)
        if (!strcmp(m->texts[i].key, key)) return m->texts[i].value;
    return NULL;
}

/* The inputs that it was made from must be given, and be the same. */
static bool check_inputs(const Args *a, const Made *m, Error *e)
{
    char hex[65];
    for (int i = 0; i < INPUTS; i++) {
        const char *want = find_text(m, inputs[i].key), *given = input_path(a, i);
        if (!want && given)
            return misuse(e, "%s: of no use: %s was made without it", inputs[i].word, m->path);
        if (want && !given)
            return fail(e, "%s: made from a file of sha256 %.64s: give it with %s FILE", m->path,
                        want, inputs[i].word);
        if (!hash_input(given, hex, e)) return false;
        if (want && strcmp(want, hex))
            return fail(e, "%s: sha256: found %s, %s was made from %.64s", given, hex, m->path,
                        want);
    }
    return true;
}

/* The adapters of m and those that are given: the same, in the same order. */
static bool check_adapters(const Texts *given, bool weights, const char *key, const char *word,
                           const Made *m, Error *e)
{
    const char *want = find_text(m, key);
    if (!want && given->count)
        return misuse(e, "%s: of no use: %s was made without it", word, m->path);
    if (want && !given->count)
        return fail(e, "%s: made with adapters of sha256 %.64s...: give each with %s", m->path,
                    want, word);
    char *found = hash_adapters(given, weights, e);
    const bool same = !want || (found && !strcmp(found, want));
    if (!same && !e->code)
        fail(e, "%s: found %s, %s was made with %s", word, found, m->path, want);
    free(found);
    return same && !e->code;
}

static void tell_values(const Args *a, const Made *m, const Made *n)
{
    size_t different = 0;
    for (size_t i = 0; i < m->count && m->count == n->count; i++)
        different += memcmp((const uint8_t *)m->at + i * m->bytes,
                            (const uint8_t *)n->at + i * m->bytes, m->bytes) != 0;
    if (m->sounds && m->count != n->count)
        say(a, "lengths differ: %zu samples, made again %zu", m->count, n->count);
    else if (m->p.w != n->p.w || m->p.h != n->p.h)
        say(a, "sizes differ: %dx%d, made again %dx%d", m->p.w, m->p.h, n->p.w, n->p.h);
    else
        say(a, "%zu of %zu %s differ", different, m->count, m->sounds ? "samples" : "pixels");
}

/* How what was made again differs from m: in words. */
static void tell_difference(const Args *a, const Made *m, const char *again, Error *e)
{
    static const char *const keys[] = { "Software", "models", "options" };
    Made n;
    if (!made_read(&n, again, e)) return;
    tell_values(a, m, &n);
    for (size_t i = 0; i < countof(keys); i++) {
        const char *was = find_text(m, keys[i]), *is = find_text(&n, keys[i]);
        if (!was || !is || strcmp(was, is))
            say(a, "%s differ: found\n%s\nmade again with\n%s", keys[i], was ? was : "nothing",
                is ? is : "nothing");
    }
    made_free(&n);
}

/* Make what m's options say into the file again. */
static bool make_again(const Args *a, const Made *m, char *again, Error *e)
{
    Args made = { 0 };
    Options options = { .table = option_table, .fields = &made,
                        .verb = verb_bit(m->sounds ? "audio" : "image") };
    const char *settings = find_text(m, "options");
    made.options = &options;
    bool ok = opt_parse(&options, 0, NULL, e)
              && opt_settings(&options, settings, strlen(settings), m->path, e);
    if (!ok) e->code = 1;                                  /* the file is wrong, not the command */
    made.model = a->model, made.sd = a->sd, made.audioldm = a->audioldm;
    made.tokenizer = a->tokenizer, made.vae = a->vae;
    made.threads = a->threads, made.isa = a->isa;
    made.init = a->init, made.mask = a->mask;
    made.latents = a->latents, made.prompt_embeds = a->prompt_embeds;
    made.loras = a->loras, made.embeddings = a->embeddings;
    made.output = again;
    made.quiet = true;
    ok = ok && (m->sounds ? check_making(&made, SOUND_NAMES, "sounds", e)
                                && make_audio(&made, true, e)
                          : check_making(&made, PICTURE_NAMES, "pictures", e)
                                && make_image(&made, true, e));
    made.loras = made.embeddings = (Texts){ 0 };           /* a's, lent */
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
    Made m;
    if (!made_read(&m, path, e)) return 1;
    snprintf(name, sizeof name, "fusion-verify-%ld.%s", (long)getpid(),
             m.sounds                     ? "wav"
             : !strcmp(m.p.format, "PNG") ? "png"
                                          : "ppm");
    if (!find_text(&m, "options"))
        ok = fail(e, "%s: nothing here says how it was made, want a picture of fusion image or a "
                  "sound of fusion audio", path);
    else if (!(again = path_join(folder && *folder ? folder : "/tmp", name)))
        ok = fail(e, "out of memory: needed room for a name");
    else
        ok = check_inputs(a, &m, e)
            && check_adapters(&a->loras, true, "loras", "--lora FILE:WEIGHT", &m, e)
            && check_adapters(&a->embeddings, false, "embeddings", "--embedding FILE", &m, e)
            && make_again(a, &m, again, e)
             && same_bytes(path, again, &same, e);
    if (ok && !same) tell_difference(a, &m, again, e);
    if (again) unlink(again);
    free(again);
    made_free(&m);
    if (!ok) return 1;
    if (a->json) fputs("{\"file\": ", stdout);
    (a->json ? print_json : print_field)(path);
    printf(a->json ? ", \"same\": %s}\n" : "\t%s\n", a->json ? same ? "true" : "false"
                                                     : same  ? "same"
                                                             : "different");
    return same ? 0 : 3;
}
