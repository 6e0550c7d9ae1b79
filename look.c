/* look.c - the verbs that look inside: tokenize, inspect, compare. */
#include "audioldm.h"
#include "command.h"
#include "original.h"
#include "sd.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* ---- tokenize -------------------------------------------------------------------------------- */

static bool tokenizer_in(const char *folder)
{
    static const char *const names[] = { "vocab.json", "tokenizer.json" };
    bool found = false;
    for (size_t i = 0; i < countof(names) && !found; i++) {
        char *path = path_join(folder, names[i]);
        found = path && file_exists(path);
        free(path);
    }
    return found;
}

/* The tokenizer's folder: --tokenizer, or where a model of any kind keeps it.  The caller frees. */
static char *tokenizer_folder(const Args *a, Error *e)
{
    static const char *const places[] = { "", "tokenizer", "clip", "sd/tokenizer",
                                          "clap", "audioldm/tokenizer" };
    const char *const options[] = { a->tokenizer, a->clip, a->sd, a->clap, a->audioldm };
    const char *given = NULL;
    for (size_t i = 0; i < countof(options) && !given; i++) given = options[i];
    char *path = given ? strdup(given) : model_path(a, e);
    if (!path || a->tokenizer) return path;
    char *beside = file_exists(path) ? original_tokenizer(path) : NULL;
    if (beside) {
        free(path);
        return beside;
    }
    for (size_t i = 0; i < countof(places); i++) {
        char *inside = path_join(path, places[i]);
        if (inside && tokenizer_in(inside)) {
            free(path);
            return inside;
        }
        free(inside);
    }
    if (folder_exists(path))
        fail(e, "%s: no tokenizer here, want vocab.json + merges.txt, or tokenizer.json", path);
    else
        fail(e, "%s: found %s, want a folder with a tokenizer", path,
             file_exists(path) ? "a file" : "nothing");
    free(path);
    return NULL;
}

/* How many tokens the model sees, by the tokenizer or the text tower beside it; 0: unknown. */
static int token_limit(const Tok *t, const char *folder)
{
    int limit = tok_max_length(t);
    char *path = path_join(folder, "config.json");
    Json *config =
        !limit && path && file_exists(path) ? json_read(path, 1 << 20, &(Error){ 0 }) : NULL;
    const Json *text = config ? json_get(config, "text_config") : NULL;
    if (config)
        json_int(text ? text : config, "max_position_embeddings", 2, 1 << 20, &limit, path,
                 &(Error){ 0 });
    json_free(config);
    free(path);
    return limit;
}

static void print_tokens(const Args *a, const Tok *t, const Ids *ids, int kept, const char *lost)
{
    if (a->json) fputs("{\"ids\": [", stdout);
    for (int i = 0; i < ids->count; i++) printf("%s%d", !i ? "" : a->json ? ", " : " ", ids->at[i]);
    if (a->json) {
        fputs("], \"pieces\": [", stdout);
        for (int i = 0; i < ids->count; i++) {
            if (i) fputs(", ", stdout);
            print_json(tok_piece(t, ids->at[i]));
        }
        fputs("], \"cut\": ", stdout);
        if (lost) print_json(lost);
        else fputs("null", stdout);
        putchar('}');
    }
    putchar('\n');
    for (int i = 0; a->verbose && !a->json && i < ids->count; i++) {
        printf("%d\t", ids->at[i]);
        print_field(tok_piece(t, ids->at[i]));
        puts(i >= kept && i < ids->count - 1 ? "\tcut" : "");
    }
}

int verb_tokenize(Args *a, Error *e)
{
    Ids ids = { 0 };
    char *lost = NULL;
    if (!a->prompt) return misuse(e, "--prompt: missing, want -p TEXT"), 2;
    char *folder = tokenizer_folder(a, e);
    Tok *t = folder ? tok_open(folder, e) : NULL;
    bool ok = t && tok_encode(t, a->prompt, strlen(a->prompt), &ids, e);
    if (ok) {
        const int limit = token_limit(t, folder),
                  kept = limit && ids.count > limit ? limit - 1 : ids.count;
        const int cut = kept < ids.count ? ids.count - 1 - kept : 0;
        if (cut) lost = tok_decode(t, ids.at + kept, cut, e);
        ok = !cut || lost;
        if (ok) print_tokens(a, t, &ids, kept, lost);
        if (lost) say(a, "the model sees %d tokens; %d are cut off: %s", limit, cut, lost);
    }
    ids_free(&ids);
    free(lost);
    tok_close(t);
    free(folder);
    return ok ? 0 : 1;
}

/* ---- inspect: a safetensors file ------------------------------------------------------------- */

enum { STRIP = 1024 };                      /* values that are looked at together */

static uint64_t values_in(const Entry *t)
{
    uint64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->shape[i];
    return n;
}

static void strip_of(const Entry *t, uint64_t from, size_t count, float out[STRIP])
{
    weight_read((Weight){ .at = t->at, .type = t->type }, (size_t)from, count, out);
}

/* What the values of one tensor are; the finite ones, in double, in their order. */
typedef struct { double low, high, mean, deviation; uint64_t zeros, not_finite; } Stats;

static Stats stats_of(const Entry *t)
{
    const uint64_t n = values_in(t);
    Stats s = { .low = INFINITY, .high = -INFINITY };
    float x[STRIP];
    double sum = 0, squares = 0;
    /* the mean first, then what lies around it */
    for (int turn = 0; turn < 2; turn++) {
        for (uint64_t from = 0; from < n; from += STRIP) {
            const size_t count = zmin(STRIP, (size_t)(n - from));
            strip_of(t, from, count, x);
            for (size_t i = 0; i < count; i++) {
                if (!isfinite(x[i])) s.not_finite += !turn;
                else if (turn) squares += (x[i] - s.mean) * (x[i] - s.mean);
                else {
                    sum += x[i];
                    s.zeros += x[i] == 0;
                    s.low = x[i] < s.low ? x[i] : s.low;
                    s.high = x[i] > s.high ? x[i] : s.high;
                }
            }
        }
        if (n == s.not_finite) return (Stats){ .not_finite = s.not_finite };
        if (!turn) s.mean = sum / (double)(n - s.not_finite);
    }
    s.deviation = sqrt(squares / (double)(n - s.not_finite));
    return s;
}

/* The rest of the tensor's line: min, max, mean, deviation, zeros, values that are not finite. */
static void print_stats(const Args *a, const Entry *t)
{
    if (t->type == NOT_COMPUTED) {
        fputs(a->json ? ", \"stats\": null" : "\tno floats", stdout);
        return;
    }
    const Stats s = stats_of(t);
    printf(a->json ? ", \"stats\": {\"min\": %.9g, \"max\": %.9g, \"mean\": %.9g, "
                     "\"deviation\": %.9g, \"zeros\": %" PRIu64 ", \"not_finite\": %" PRIu64 "}"
                   : "\tmin %.6g\tmax %.6g\tmean %.6g\tdeviation %.6g\tzeros %" PRIu64
                     "\tnot finite %" PRIu64,
           s.low, s.high, s.mean, s.deviation, s.zeros, s.not_finite);
}

static void print_entry(const Args *a, const Entry *t)
{
    if (a->json) fputs("{\"name\": ", stdout);
    (a->json ? print_json_bytes : print_bytes)(t->name, t->name_length);
    printf(a->json ? ", \"dtype\": \"%s\", \"shape\": [" : "\t%s\t[", t->dtype);
    for (int i = 0; i < t->rank; i++)
        printf("%s%" PRIu64, !i ? "" : a->json ? ", " : ",", t->shape[i]);
    printf(a->json ? "], \"offsets\": [%" PRIu64 ", %" PRIu64 "]" : "]\t%" PRIu64 "\t%" PRIu64,
           t->begin, t->end);
    if (a->stats) print_stats(a, t);
    puts(a->json ? "}" : "");
}

static void print_metadata(const Args *a, const Json *metadata)
{
    if (a->json) fputs("{\"metadata\": {", stdout);
    for (const Json *m = metadata->first; m; m = m->next) {
        fputs(a->json ? m == metadata->first ? "" : ", " : "metadata\t", stdout);
        (a->json ? print_json_bytes : print_bytes)(m->key, m->key_length);
        fputs(a->json ? ": " : "\t", stdout);
        (a->json ? print_json_bytes : print_bytes)(m->text, m->length);
        if (!a->json) putchar('\n');
    }
    if (a->json) puts("}}");
}

static void file_sha256(const File *f, char hex[65])
{
    Sha256 sum;
    sha256_start(&sum);
    sha256_add(&sum, f->at, f->size);
    sha256_end(&sum, hex);
}

static bool inspect_checkpoint(Args *a, const Weights *w, Error *e);

static bool inspect_tensors(Args *a, const char *path, Error *e)
{
    Weights w;
    char hex[65];
    uint64_t values = 0, bytes = 0;
    if (!weights_open(&w, path, "model", e)) return false;
    for (int i = 0; i < w.count; i++) {
        print_entry(a, &w.entries[i]);
        values += values_in(&w.entries[i]);
        bytes += w.entries[i].end - w.entries[i].begin;
    }
    if (weights_metadata(&w, 0)) print_metadata(a, weights_metadata(&w, 0));
    if (a->sha256) {
        file_sha256(&w.files[0], hex);
        printf(a->json ? "{\"sha256\": \"%s\"}\n" : "sha256\t%s\n", hex);
    }
    printf(a->json ? "{\"tensors\": %d, \"values\": %" PRIu64 ", \"bytes\": %" PRIu64 "}\n"
                   : "total\t%d tensors\t%" PRIu64 " values\t%" PRIu64 " bytes\n",
           w.count, values, bytes);
    const Family family = original_family(&w);
    if (family.what)
        printf(a->json ? "{\"holds\": \"%s\", \"supported\": %s}\n" : "holds\t%s%s\n", family.what,
               a->json ? family.sd ? "true" : "false" : family.sd ? "" : ", not read as a model");
    const bool ok = !family.sd || inspect_checkpoint(a, &w, e);
    weights_close(&w);
    return ok;
}

/* ---- inspect: a model folder ----------------------------------------------------------------- */

static void print_stranger(void *self, const Entry *t)
{
    const Args *a = self;
    fputs(a->json ? "{\"unknown\": " : "unknown\t", stdout);
    (a->json ? print_json_bytes : print_bytes)(t->name, t->name_length);
    puts(a->json ? "}" : "");
}

/* One part that opened: every tensor it needs is there, so none is missing. */
static void print_part(Args *a, const char *name, const Weights *w)
{
    char hex[65];
    int count = 0, bound = 0, unknown = weights_unbound(w, IGNORED_TENSORS, print_stranger, a);
    for (int i = 0; i < w->count; i++) {
        const Entry *t = &w->entries[i];
        if (i && t->stored && t->stored == t[-1].stored) continue;     /* thirds of one tensor */
        count++;
        bound += t->bound;
        if (a->stats) print_entry(a, t);
    }
    printf(a->json ? "{\"part\": \"%s\", \"tensors\": %d, \"bound\": %d, \"ignored\": %d, "
                     "\"unknown\": %d, \"missing\": 0}\n"
                   : "%s\t%d tensors\t%d bound\t%d ignored\t%d unknown\t0 missing\n",
           name, count, bound, count - bound - unknown, unknown);
    for (int i = 0; a->sha256 && !w->view && i < w->file_count; i++) {
        file_sha256(&w->files[i], hex);
        fputs(a->json ? "{\"file\": " : "sha256\t", stdout);
        (a->json ? print_json : print_field)(w->files[i].path);
        printf(a->json ? ", \"sha256\": \"%s\"}\n" : "\t%s\n", hex);
    }
}

static bool inspect_clip(Args *a, const char *folder, Error *e)
{
    Clip c;
    if (!clip_open(&c, folder, NULL, e)) return false;
    print_part(a, "clip", &c.weights);
    clip_close(&c);
    return true;
}

static bool inspect_sd(Args *a, const char *folder, Error *e)
{
    Sd s;
    if (!sd_open(&s, folder, NULL, e)) return false;
    print_part(a, "text_encoder", &s.text_weights);
    print_part(a, "unet", &s.unet.weights);
    print_part(a, "vae", &s.vae.weights);
    sd_close(&s);
    return true;
}

static bool inspect_clap(Args *a, const char *folder, Error *e)
{
    Clap c;
    if (!clap_open(&c, folder, NULL, e)) return false;
    print_part(a, "clap", &c.weights);
    clap_close(&c);
    return true;
}

static bool inspect_audioldm(Args *a, const char *folder, Error *e)
{
    AudioLdm l;
    if (!audioldm_open(&l, folder, NULL, e)) return false;
    print_part(a, "text_encoder", &l.text_weights);
    print_part(a, "unet", &l.unet.weights);
    print_part(a, "vae", &l.vae.weights);
    print_part(a, "vocoder", &l.vocoder.weights);
    audioldm_close(&l);
    return true;
}

static bool inspect_unet(Args *a, const char *folder, Error *e)
{
    Unet u;
    if (!unet_open(&u, folder, e)) return false;
    print_part(a, "unet", &u.weights);
    unet_close(&u);
    return true;
}

static bool inspect_vae(Args *a, const char *folder, Error *e)
{
    Vae v;
    if (!vae_open(&v, folder, e)) return false;
    print_part(a, "vae", &v.weights);
    vae_close(&v);
    return true;
}

static bool inspect_text(Args *a, const char *folder, Error *e)
{
    ClipText t;
    Weights w;
    if (!clip_text_open(&t, &w, folder, e)) return false;
    print_part(a, "text_encoder", &w);
    clip_text_close(&t);
    weights_close(&w);
    return true;
}

static bool inspect_clap_text(Args *a, const char *folder, Error *e)
{
    ClapText t;
    Weights w;
    if (!clap_text_open(&t, &w, folder, e)) return false;
    print_part(a, "text_encoder", &w);
    clap_text_close(&t);
    weights_close(&w);
    return true;
}

static bool inspect_vocoder(Args *a, const char *folder, Error *e)
{
    HifiGan g;
    if (!hifigan_open(&g, folder, e)) return false;
    print_part(a, "vocoder", &g.weights);
    hifigan_close(&g);
    return true;
}

/* The class that config.json names, in out. */
static void folder_class(const char *folder, char *out, size_t room)
{
    char *path = path_join(folder, "config.json");
    Json *config = path ? json_read(path, 1 << 20, &(Error){ 0 }) : NULL;
    const Json *name = config ? json_get(config, "_class_name") : NULL,
               *list = config ? json_get(config, "architectures") : NULL;
    if (!name && list && list->type == JSON_ARRAY) name = list->first;
    snprintf(out, room, "%s", name && name->type == JSON_STRING ? name->text : "");
    json_free(config);
    free(path);
}

/* What is of no part: averages of training, the buffers of its schedule; and what nobody knows. */
static void print_rest(Args *a, const Weights *w)
{
    int averages = 0, buffers = 0, unknown = 0;
    for (int i = 0; i < w->count; i++) {
        const OriginalPlace place = original_place(&w->entries[i]);
        averages += place == IN_EMA;
        buffers += place == IN_SCHEDULE;
        if (place != IN_NOTHING) continue;
        print_stranger(a, &w->entries[i]);
        unknown++;
    }
    printf(a->json ? "{\"part\": \"rest\", \"tensors\": %d, \"model_ema\": %d, \"schedule\": %d, "
                     "\"unknown\": %d}\n"
                   : "rest\t%d tensors\t%d of model_ema ignored\t%d of the schedule ignored\t"
                     "%d unknown\n",
           averages + buffers + unknown, averages, buffers, unknown);
}

/* A checkpoint in the original names: its parts, which need no tokenizer here. */
static bool inspect_checkpoint(Args *a, const Weights *w, Error *e)
{
    Original o;
    ClipText t = { 0 };
    Unet u = { 0 };
    Vae v = { 0 };
    if (!original_open(&o, w->path, e)) return false;
    const bool ok = clip_text_open_as(&t, &o.text.weights, o.text.config, o.text.where, e)
        && unet_open_as(&u, &o.unet.weights, o.unet.config, o.unet.where, e)
        && vae_open_as(&v, &o.vae.weights, o.vae.config, o.vae.where, e);
    if (ok) {
        print_part(a, "text_encoder", &o.text.weights);
        print_part(a, "unet", &u.weights);
        print_part(a, "vae", &v.weights);
        print_rest(a, w);
    }
    clip_text_close(&t);
    unet_close(&u);
    vae_close(&v);
    original_close(&o);
    return ok;
}

typedef bool Inspect(Args *a, const char *folder, Error *e);

static const struct { const char *name; Inspect *inspect; } kinds[] = {
    { "clip", inspect_clip }, { "sd", inspect_sd }, { "audioldm", inspect_audioldm },
    { "clap", inspect_clap },
}, classes[] = {
    { "UNet2DConditionModel", inspect_unet }, { "AutoencoderKL", inspect_vae },
    { "CLIPTextModel", inspect_text }, { "ClapTextModelWithProjection", inspect_clap_text },
    { "SpeechT5HifiGan", inspect_vocoder },
};

/* Every part of a bundle that is there. */
static bool inspect_bundle(Args *a, const char *folder, const char *class, Error *e)
{
    bool ok = true, any = false;
    for (size_t i = 0; ok && i < countof(kinds); i++) {
        char *inside = path_join(folder, kinds[i].name);
        if (inside && folder_exists(inside)) {
            any = true;
            ok = kinds[i].inspect(a, inside, e);
        }
        free(inside);
    }
    if (any) return ok;
    if (*class)
        return fail(e, "%s/config.json: class: found %s, want CLIPModel, ClapModel or a part of "
                    "Stable Diffusion or AudioLDM", folder, class);
    return fail(e, "%s: no model here, want config.json, model_index.json, or folders clip, sd, "
                "audioldm, clap", folder);
}

static bool inspect_folder(Args *a, const char *folder, Error *e)
{
    const char *kind = model_kind(folder, e);
    char class[64];
    if (e->code) return false;
    for (size_t i = 0; kind && i < countof(kinds); i++)
        if (!strcmp(kind, kinds[i].name)) return kinds[i].inspect(a, folder, e);
    folder_class(folder, class, sizeof class);
    for (size_t i = 0; i < countof(classes); i++)
        if (!strcmp(class, classes[i].name)) return classes[i].inspect(a, folder, e);
    return inspect_bundle(a, folder, class, e);
}

/* ---- inspect: a picture or a sound ----------------------------------------------------------- */

/* What it says of itself; closes the object that the caller began. */
static void print_texts(const Args *a, const Text *texts, int count, const File *f)
{
    char hex[65];
    if (a->json) fputs(", \"texts\": {", stdout);
    for (int i = 0; i < count; i++) {
        if (a->json && i) fputs(", ", stdout);
        (a->json ? print_json : print_field)(texts[i].key);
        fputs(a->json ? ": " : "\t", stdout);
        (a->json ? print_json : print_field)(texts[i].value);
        if (!a->json) putchar('\n');
    }
    if (a->json) putchar('}');
    if (a->sha256) {
        file_sha256(f, hex);
        printf(a->json ? ", \"sha256\": \"%s\"" : "sha256\t%s\n", hex);
    }
    if (a->json) puts("}");
}

static bool inspect_picture(const Args *a, const File *f, const char *path, Error *e)
{
    Picture p;
    if (!picture_parse(&p, f->at, f->size, path, e)) return false;
    printf(a->json ? "{\"format\": \"%s\", \"width\": %d, \"height\": %d" : "%s\t%dx%d\n", p.format,
           p.w, p.h);
    print_texts(a, p.texts, p.text_count, f);
    picture_free(&p);
    return true;
}

static bool inspect_sound(const Args *a, const File *f, const char *path, Error *e)
{
    Sound s;
    if (!sound_parse(&s, f->at, f->size, path, e)) return false;
    printf(a->json ? "{\"format\": \"%s\", \"rate\": %d, \"channels\": %d%s, \"samples\": %zu, "
                     "\"seconds\": %.9g, \"peak\": %.6f, \"rms\": %.6f"
                   : "%s\t%d Hz\t%d channel%s\t%zu samples\t%.9g s\tpeak %.6f\trms %.6f\n",
           s.format, s.rate, s.channels, a->json || s.channels == 1 ? "" : "s", s.frames,
           (double)s.frames / s.rate, sound_peak(&s), sound_rms(&s));
    print_texts(a, s.texts, s.text_count, f);
    sound_free(&s);
    return true;
}

/* ---- inspect --diff -------------------------------------------------------------------------- */

/* How two tensors of one name differ.  by: the root mean square of b - a over that of a, the order
 * of the list; what is not of one shape or not in both comes before all. */
typedef struct {
    const Entry *a, *b;
    const char *note;
    double by, largest;
    uint64_t changed, values;
} Gap;

static Gap gap_of(const Entry *a, const Entry *b)
{
    Gap g = { .a = a, .b = b, .by = INFINITY };
    float x[STRIP], y[STRIP];
    double gaps = 0, squares = 0;
    g.note = !b                       ? "only in the first"
             : !a                     ? "only in the second"
             : a->rank != b->rank || memcmp(a->shape, b->shape, sizeof *a->shape * (size_t)a->rank)
                 ? "shapes differ"
             : (a->type == NOT_COMPUTED || b->type == NOT_COMPUTED) && strcmp(a->dtype, b->dtype)
                 ? "dtypes differ"
                 : NULL;
    if (g.note) return g;
    g.values = values_in(a);
    if (a->type == NOT_COMPUTED) {
        const bool same = !memcmp(a->at, b->at, (size_t)(a->end - a->begin));
        g.note = same ? NULL : "bytes differ";
        g.by = same ? 0 : INFINITY;
        return g;
    }
    for (uint64_t from = 0; from < g.values; from += STRIP) {
        const size_t count = zmin(STRIP, (size_t)(g.values - from));
        strip_of(a, from, count, x);
        strip_of(b, from, count, y);
        for (size_t i = 0; i < count; i++) {
            const bool both = isfinite(x[i]) && isfinite(y[i]);
            const double gap = both ? fabs((double)y[i] - x[i])
                                    : memcmp(&x[i], &y[i], sizeof *x) ? INFINITY : 0;
            g.changed += gap > 0;
            g.largest = gap > g.largest ? gap : g.largest;
            gaps += gap * gap;
            squares += isfinite(x[i]) ? (double)x[i] * x[i] : 0;
        }
    }
    g.by = gaps > 0 ? sqrt(gaps / squares) : 0;
    return g;
}

/* Largest first; ties stay as in the files. */
static int by_gap(const void *left, const void *right)
{
    const Gap *a = left, *b = right;
    if (a->by != b->by) return a->by < b->by ? 1 : -1;
    const Entry *x = a->a ? a->a : a->b, *y = b->a ? b->a : b->b;
    return strcmp(x->name, y->name);
}

static void print_gap(const Args *a, const Gap *g)
{
    const Entry *t = g->a ? g->a : g->b;
    if (a->json) fputs("{\"name\": ", stdout);
    (a->json ? print_json_bytes : print_bytes)(t->name, t->name_length);
    if (g->note) {
        printf(a->json ? ", \"note\": \"%s\"}\n" : "\t%s\n", g->note);
        return;
    }
    const char *from = g->a->dtype, *to = g->b->dtype;
    printf(a->json ? ", \"dtypes\": [\"%s\", \"%s\"], \"changed\": %" PRIu64 ", \"of\": %" PRIu64
                   : "\t%s\t%s\t%" PRIu64 " of %" PRIu64 " changed",
           from, to, g->changed, g->values);
    if (a->json && !isfinite(g->by)) puts(", \"largest\": null, \"relative\": null}");
    else printf(a->json ? ", \"largest\": %.9g, \"relative\": %.9g}\n"
                        : "\tlargest %.6g\trelative %.3e\n", g->largest, g->by);
}

/* Every tensor of two files or folders whose values, shape or dtype are not the same. */
static bool inspect_diff(const Args *a, const char *first, const char *second, Error *e)
{
    Weights w[2] = { 0 };
    static const char stems[] = "model|diffusion_pytorch_model|pytorch_model";
    bool ok = weights_open(&w[0], first, stems, e) && weights_open(&w[1], second, stems, e);
    Gap *gaps = ok ? malloc(sizeof *gaps * (size_t)(w[0].count + w[1].count + 1)) : NULL;
    int n = 0, same = 0;
    if (ok && !gaps) ok = fail(e, "%s: out of memory for the list of tensors", first);
    for (int i = 0; ok && i < w[0].count; i++)
        gaps[n++] = gap_of(&w[0].entries[i], weights_find(&w[1], w[0].entries[i].name));
    for (int i = 0; ok && i < w[1].count; i++)
        if (!weights_find(&w[0], w[1].entries[i].name)) gaps[n++] = gap_of(NULL, &w[1].entries[i]);
    if (ok) qsort(gaps, (size_t)n, sizeof *gaps, by_gap);
    for (int i = 0; ok && i < n; i++) {
        const bool equal = !gaps[i].note && gaps[i].by == 0
                           && !strcmp(gaps[i].a->dtype, gaps[i].b->dtype);
        if (equal) same++;
        else print_gap(a, &gaps[i]);
    }
    if (ok)
        printf(a->json ? "{\"tensors\": %d, \"different\": %d, \"equal\": %d}\n"
                       : "total\t%d tensors\t%d different\t%d equal\n", n, n - same, same);
    free(gaps);
    weights_close(&w[0]);
    weights_close(&w[1]);
    return ok;
}

/* ---- inspect --card -------------------------------------------------------------------------- */

/* The folder's README.md, control bytes escaped: what is promised, on what it learnt, its
 * licence. */
static bool print_card(const char *folder, Error *e)
{
    char *path = path_join(folder, "README.md");
    File f = { 0 };
    bool ok = false;
    if (!path) fail(e, "%s: out of memory for a path", folder);
    else if (!file_exists(path)) fail(e, "%s: no model card here, want README.md", folder);
    else ok = file_map(&f, path, 1 << 20, e);
    for (size_t from = 0, to; ok && from < f.size; from = to + 1) {
        for (to = from; to < f.size && f.at[to] != '\n';) to++;
        print_bytes((const char *)f.at + from, to - from);
        putchar('\n');
    }
    file_unmap(&f);
    free(path);
    return ok;
}

int verb_inspect(Args *a, Error *e)
{
    const Texts *files = &a->options->operands;
    bool ok = true;
    if (a->diff && files->count != 2)
        return misuse(e, "--diff: found %d operand%s, want two: A B", files->count,
                      files->count == 1 ? "" : "s"), 2;
    if (a->diff) return inspect_diff(a, files->at[0], files->at[1], e) ? 0 : 1;
    for (int i = 0; ok && i < files->count; i++) {
        const char *path = files->at[i];
        File f = { 0 };
        if (files->count > 1) {
            fputs(a->json ? "{\"file\": " : "file\t", stdout);
            (a->json ? print_json : print_field)(path);
            puts(a->json ? "}" : "");
        }
        if (a->card) ok = print_card(path, e);
        else if (folder_exists(path)) ok = inspect_folder(a, path, e);
        else if ((ok = file_map(&f, path, 0, e)))
            ok = is_picture(path) ? inspect_picture(a, &f, path, e)
                 : is_wav(path)   ? inspect_sound(a, &f, path, e)
                                  : inspect_tensors(a, path, e);
        file_unmap(&f);
    }
    return ok ? 0 : 1;
}

/* ---- compare --------------------------------------------------------------------------------- */

/* The same dimensions, not counting those of 1. */
static bool same_shape(const Entry *a, const Entry *b)
{
    int i = 0, j = 0;
    for (;;) {
        while (i < a->rank && a->shape[i] == 1) i++;
        while (j < b->rank && b->shape[j] == 1) j++;
        if (i == a->rank || j == b->rank) return i == a->rank && j == b->rank;
        if (a->shape[i++] != b->shape[j++]) return false;
    }
}

/* Largest |a - b| over the largest |b|; infinity where something is not finite. */
static double relative_error(const Entry *a, const Entry *b)
{
    float x[STRIP], y[STRIP];
    double worst = 0, largest = 0;
    const uint64_t n = values_in(a);
    if (a->type == NOT_COMPUTED || b->type == NOT_COMPUTED)
        return !strcmp(a->dtype, b->dtype) && !memcmp(a->at, b->at, (size_t)(a->end - a->begin))
                   ? 0
                   : INFINITY;
    for (uint64_t from = 0; from < n; from += STRIP) {
        const size_t count = zmin(STRIP, (size_t)(n - from));
        strip_of(a, from, count, x);
        strip_of(b, from, count, y);
        for (size_t i = 0; i < count; i++) {
            const double gap = fabs((double)x[i] - y[i]), size = fabs((double)y[i]);
            if (!isfinite(gap)) return INFINITY;
            worst = gap > worst ? gap : worst;
            largest = size > largest ? size : largest;
        }
    }
    return worst == 0 ? 0 : largest > 0 ? worst / largest : INFINITY;
}

static void print_error(const Args *a, const Entry *t, double error, const char *note)
{
    if (a->json) fputs("{\"name\": ", stdout);
    (a->json ? print_json_bytes : print_bytes)(t->name, t->name_length);
    if (note) printf(a->json ? ", \"error\": null, \"note\": \"%s\"}\n" : "\t%s\n", note);
    else if (a->json && !isfinite(error)) puts(", \"error\": null, \"note\": \"not finite\"}");
    else printf(a->json ? ", \"error\": %.9g}\n" : "\t%.3e\n", error);
}

/* All names of both files; returns the first that is beyond the tolerance or in one file alone. */
static const Entry *compare_all(const Args *a, const Weights *wa, const Weights *wb,
                                double *first_error)
{
    const Entry *first = NULL;
    for (int i = 0; i < wa->count; i++) {
        const Entry *t = &wa->entries[i], *other = weights_find(wb, t->name);
        const char *note = !other                  ? "only in the first"
                           : !same_shape(t, other) ? "shapes differ"
                                                   : NULL;
        const double error = note ? INFINITY : relative_error(t, other);
        print_error(a, t, error, note);
        if (first || error <= a->tolerance) continue;
        first = t;
        *first_error = error;
    }
    for (int i = 0; i < wb->count; i++) {
        if (weights_find(wa, wb->entries[i].name)) continue;
        print_error(a, &wb->entries[i], INFINITY, "only in the second");
        if (!first) first = &wb->entries[i];
    }
    return first;
}

int verb_compare(Args *a, Error *e)
{
    const char *const *path = a->options->operands.at;
    Weights wa, wb;
    double error = INFINITY;
    if (!weights_open(&wa, path[0], "model", e)) return 1;
    if (!weights_open(&wb, path[1], "model", e)) {
        weights_close(&wa);
        return 1;
    }
    const Entry *first = compare_all(a, &wa, &wb, &error);
    if (first) {
        fputs(a->json ? "{\"beyond\": " : "beyond\t", stdout);
        (a->json ? print_json_bytes : print_bytes)(first->name, first->name_length);
        if (isfinite(error)) printf(a->json ? ", \"error\": %.9g" : "\t%.3e", error);
        printf(a->json ? ", \"tolerance\": %g}\n" : "\ttolerance %g\n", a->tolerance);
    }
    weights_close(&wa);
    weights_close(&wb);
    return first ? 3 : 0;
}
