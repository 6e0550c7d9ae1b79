/* lora.c - adapters: low-rank changes of weights, new words.
 * Read in this order: names, one module, a file, new words.
 * Not here: the sum itself (tensor.c), training. */
#include "lora.h"

#include <math.h>
#include <stdlib.h>

/* ---- names ----------------------------------------------------------------------------------- */

/* How the two halves of a module end.  kohya; PEFT; diffusers' three. */
static const struct { const char *down, *up; } endings[] = {
    { ".lora_down.weight", ".lora_up.weight" },
    { ".lora_A.weight", ".lora_B.weight" },
    { ".lora_A.default.weight", ".lora_B.default.weight" },
    { ".lora.down.weight", ".lora.up.weight" },
    { ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight" },
    { "_lora.down.weight", "_lora.up.weight" },
};

/* Parts of names that only other kinds of adapters have. */
static const struct { const char *part, *kind; } others[] = {
    { ".hada_", "LoHa" }, { ".lokr_", "LoKr" }, { ".oft_", "OFT" }, { ".dora_scale", "DoRA" },
    { ".lora_magnitude_vector", "DoRA" }, { ".lora_mid.", "LoRA in Tucker form" },
    { ".diff", "full difference" },
};

static bool ends(const char *text, size_t n, const char *ending)
{
    const size_t length = strlen(ending);
    return n > length && !memcmp(text + n - length, ending, length);
}

/* One module of a file: its path, and its two halves. */
typedef struct {
    const char *name; size_t length;       /* as in the file, without the ending */
    const Entry *down, *up;
    double alpha;                          /* NAN: none */
} Module;

static const Entry *sibling(const Weights *w, const char *name, size_t length, const char *ending)
{
    char full[512];
    const int n = snprintf(full, sizeof full, "%.*s%s", (int)length, name, ending);
    return n > 0 && (size_t)n < sizeof full ? weights_find(w, full) : NULL;
}

/* Skip a prefix of the path. */
static bool skip(const char **name, size_t *n, const char *prefix)
{
    const size_t length = strlen(prefix);
    if (*n < length || memcmp(*name, prefix, length)) return false;
    *name += length;
    *n -= length;
    return true;
}

/* Which part a path is of, behind its prefix; a bare path is the UNet's. */
static const char *part_of(const char **name, size_t *n)
{
    static const struct { const char *prefix, *part; } table[] = {
        { "lora_unet_", "unet" }, { "unet.", "unet" },
        { "lora_te1_", "text_encoder" }, { "lora_te_", "text_encoder" },
        { "text_encoder.", "text_encoder" } };
    for (size_t i = 0; i < countof(table); i++)
        if (skip(name, n, table[i].prefix)) return table[i].part;
    return "unet";
}

/* A weight's name and a module's path, where kohya's scripts write _ for every dot and diffusers
 * puts a processor between; "to_out" of a processor is "to_out.0". */
static bool same_module(const Entry *t, const char *path, size_t n)
{
    const char *name = t->name;
    size_t left = t->name_length;
    if (!ends(name, left, ".weight")) return false;
    left -= strlen(".weight");
    if (n < strlen("text_model.") || memcmp(path, "text_model", strlen("text_model")))
        skip(&name, &left, "text_model.");
    else if (left < strlen("text_model.") || memcmp(name, "text_model.", strlen("text_model.")))
        path += strlen("text_model."), n -= strlen("text_model.");
    while (n && left) {
        if (left < n && *path == '.' && skip(&path, &n, ".processor")) continue;
        if (*name != *path && !(*name == '.' && *path == '_')) {
            if (!skip(&path, &n, ".processor")) return false;
            continue;
        }
        name++, path++, left--, n--;
    }
    return !n && (!left || (left == 2 && !memcmp(name, ".0", 2)));
}

/* ---- one module ------------------------------------------------------------------------------ */

static Weight weight_of(const Entry *t)
{
    Weight w = { t->at, t->type, t->rank, { 1, 1, 1, 1 } };
    for (int i = 0; i < t->rank && i < 4; i++) w.dim[i] = (int)t->shape[i];
    return w;
}

/* down [r, a row of W] and up [O, r] for W [O, ...]. */
static bool fits(const Entry *t, const Entry *down, const Entry *up)
{
    const Weight w = weight_of(t), d = weight_of(down), u = weight_of(up);
    if (t->rank < 2 || t->rank > 4 || down->rank < 2 || down->rank > 4 || up->rank < 2
        || up->rank > 4) return false;
    const size_t rank = (size_t)d.dim[0];
    return d.dim[0] > 0 && u.dim[0] == w.dim[0] && weight_count(u) == rank * (size_t)u.dim[0]
        && weight_count(d) * (size_t)w.dim[0] == weight_count(w) * rank
        && (size_t)w.dim[2] * (size_t)w.dim[3] <= LORA_TAPS;
}

static const char *shape_text(const Entry *t, char out[64])
{
    size_t n = 0;
    out[0] = 0;
    for (int i = 0; i < t->rank && n < 64; i++)
        n += (size_t)snprintf(out + n, 64 - n, "%s%llu", i ? "," : "",
                              (unsigned long long)t->shape[i]);
    return out;
}

/* The change that a module makes; its weight is looked for by name. */
static bool module_change(const Weights *file, const Module *m, double scale,
                          const LoraTarget *into, int count, Change *out, Error *e)
{
    const char *path = m->name;
    size_t n = m->length;
    char a[64], b[64], c[64];
    const char *part = part_of(&path, &n);
    const Entry *found = NULL;
    for (int i = 0; i < count; i++)
        for (int j = 0; j < into[i].weights->count && !strcmp(part, into[i].name); j++)
            if (same_module(&into[i].weights->entries[j], path, n))
                found = &into[i].weights->entries[j];
    if (!found)
        return fail(e, "%s: module '%.*s': the model's %s has none of that name: made for another "
                    "model", file->path, (int)m->length, m->name, part);
    if (found->type == NOT_COMPUTED || m->down->type == NOT_COMPUTED
        || m->up->type == NOT_COMPUTED)
        return fail(e, "%s: module '%.*s': found %s and %s, want F32, F16 or BF16", file->path,
                    (int)m->length, m->name, m->down->dtype, m->up->dtype);
    if (!fits(found, m->down, m->up))
        return fail(e, "%s: module '%.*s': found down [%s] and up [%s], want them to fit the "
                    "weight [%s]", file->path, (int)m->length, m->name, shape_text(m->down, a),
                    shape_text(m->up, b), shape_text(found, c));
    const double rank = (double)m->down->shape[0];
    *out = (Change){ found->at, weight_of(m->up), weight_of(m->down),
                     (float)(scale * (isnan(m->alpha) ? 1 : m->alpha / rank)), 0 };
    return true;
}

/* ---- a file ---------------------------------------------------------------------------------- */

/* lora_alpha of a part ("unet") as diffusers writes it beside the tensors; NAN: not there. */
static double told_alpha(const Weights *w, const char *part)
{
    const Json *metadata = weights_metadata(w, 0);
    const Json *text = metadata ? json_get(metadata, "lora_adapter_metadata") : NULL;
    char key[64];
    double alpha = NAN;
    Error none = { 0 };
    if (!text || text->type != JSON_STRING) return NAN;
    Json *parsed = json_parse(text->text, text->length, w->path, &none);
    snprintf(key, sizeof key, "%s.lora_alpha", part);
    const Json *value = parsed ? json_get(parsed, key) : NULL;
    if (value && value->type == JSON_NUMBER) alpha = strtod(value->text, NULL);
    json_free(parsed);
    return alpha;
}

/* What entry t of the file begins: a module, where it is its lower half. */
static bool read_module(const Weights *w, const Entry *t, Module *m, Error *e)
{
    *m = (Module){ .name = t->name, .down = t, .alpha = NAN };
    for (size_t i = 0; i < countof(endings) && !m->length; i++)
        if (ends(t->name, t->name_length, endings[i].down)) {
            m->length = t->name_length - strlen(endings[i].down);
            m->up = sibling(w, m->name, m->length, endings[i].up);
        }
    if (!m->length) return true;
    if (!m->up)
        return fail(e, "%s: module '%.*s': its upper half is missing", w->path, (int)m->length,
                    m->name);
    const Entry *alpha = sibling(w, m->name, m->length, ".alpha");
    const char *path = m->name;
    size_t n = m->length;
    m->alpha = told_alpha(w, part_of(&path, &n));
    if (alpha) {
        float value = NAN;
        if (alpha->type != NOT_COMPUTED && alpha->end > alpha->begin)
            weight_read(weight_of(alpha), 0, 1, &value);
        if (!isfinite(value))
            return fail(e, "%s: module '%.*s': alpha: want a finite number", w->path,
                        (int)m->length, m->name);
        m->alpha = (double)value;
    }
    return true;
}

/* Is t a part of a LoRA at all? */
static bool known(const Weights *w, const Entry *t, Error *e)
{
    const size_t n = t->name_length;
    for (size_t i = 0; i < countof(others); i++)
        if (strstr(t->name, others[i].part))
            return fail(e, "%s: tensor '%s': found a %s adapter, want LoRA", w->path, t->name,
                        others[i].kind);
    if (ends(t->name, n, ".alpha") || !strncmp(t->name, "bundle_emb.", 11)) return true;
    for (size_t i = 0; i < countof(endings); i++)
        if (ends(t->name, n, endings[i].down) || ends(t->name, n, endings[i].up)) return true;
    return fail(e, "%s: tensor '%s': found no LoRA, want names that end as %s and %s", w->path,
                t->name, endings[0].down, endings[0].up);
}

static int by_weight(const void *a, const void *b)
{
    const Change *x = a, *y = b;
    if (x->weight != y->weight) return (uintptr_t)x->weight < (uintptr_t)y->weight ? -1 : 1;
    return x->order - y->order;
}

/* Keep one file open: its weights are read where they lie. */
static Weights *add_file(Adapters *a, const char *path, Error *e)
{
    Weights *files = realloc(a->files, ((size_t)a->file_count + 1) * sizeof *files);
    if (files) a->files = files;
    if (!files) { fail(e, "%s: out of memory", path); return NULL; }
    if (!weights_open(&files[a->file_count], path, "", e)) return NULL;
    return &files[a->file_count++];
}

static void drop_file(Adapters *a) { weights_close(&a->files[--a->file_count]); }

bool adapters_lora(Adapters *a, const char *path, double scale, const LoraTarget *into, int count,
                   Error *e)
{
    const int before = a->change_count;
    const Weights *w = add_file(a, path, e);
    if (!w) return false;
    Change *more = realloc(a->changes, (size_t)(before + w->count + 1) * sizeof *more);
    bool ok = more || fail(e, "%s: out of memory: needed room for %d modules", path, w->count);
    if (more) a->changes = more;
    for (int i = 0; ok && i < w->count; i++) {
        Module m;
        ok = known(w, &w->entries[i], e) && read_module(w, &w->entries[i], &m, e);
        if (!ok || !m.length) continue;
        Change *c = &a->changes[a->change_count];
        ok = module_change(w, &m, scale, into, count, c, e);
        c->order = a->change_count++;
    }
    if (ok && a->change_count == before) ok = fail(e, "%s: found no LoRA in it", path);
    if (!ok) {
        a->change_count = before;
        drop_file(a);
        return false;
    }
    qsort(a->changes, (size_t)a->change_count, sizeof *a->changes, by_weight);
    for (int i = 0; i < a->change_count; i++) a->changes[i].order = i;
    return true;
}

/* ---- new words ------------------------------------------------------------------------------- */

/* The name of a file without folder and ending. */
static char *stem(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char *text = strdup(name), *dot = text ? strrchr(text, '.') : NULL;
    if (dot && dot > text) *dot = 0;
    return text;
}

/* The one tensor that holds vectors, and the word they stand for. */
static const Entry *find_vectors(const Weights *w, int width, char **word, Error *e)
{
    const Entry *t = weights_find(w, "emb_params");
    char shape[64];
    if (!t && w->count != 1) {
        fail(e, "%s: found %d tensors, want one that is named as its word, or emb_params", w->path,
             w->count);
        return NULL;
    }
    *word = t ? stem(w->path) : strdup(w->entries[0].name);
    if (!t) t = &w->entries[0];
    if (!*word) { fail(e, "%s: out of memory", w->path); return NULL; }
    const uint64_t last = t->rank ? t->shape[t->rank - 1] : 0, n = t->rank == 2 ? t->shape[0] : 1;
    if (t->type != NOT_COMPUTED && (t->rank == 1 || t->rank == 2) && last == (uint64_t)width
        && n >= 1 && n <= 512 && **word) return t;
    fail(e, "%s: tensor '%s': found %s [%s], want vectors [n,%d] of the text encoder's width",
         w->path, t->name, t->dtype, shape_text(t, shape), width);
    return NULL;
}

bool adapters_word(Adapters *a, const char *path, int width, int vocabulary, Error *e)
{
    Weights w = { 0 };
    char *word = NULL;
    if (!weights_open(&w, path, "", e)) return false;
    const Entry *t = find_vectors(&w, width, &word, e);
    for (int i = 0; t && i < a->word_count; i++)
        if (!strcmp(a->words[i].text, word)) {
            fail(e, "%s: the word '%s': found it in another file too, want it once", path, word);
            t = NULL;
        }
    const size_t n = t && t->rank == 2 ? (size_t)t->shape[0] : 1, row = (size_t)width;
    NewWord *words = t ? realloc(a->words, ((size_t)a->word_count + 1) * sizeof *words) : NULL;
    if (words) a->words = words;
    float *vectors = !words ? NULL
        : realloc(a->vectors, ((size_t)a->vector_count + n) * row * sizeof *vectors);
    if (vectors) {
        a->vectors = vectors;
        weight_read(weight_of(t), 0, n * row, vectors + (size_t)a->vector_count * row);
        words[a->word_count++] = (NewWord){ word, vocabulary + a->vector_count, (int)n };
        a->vector_count += (int)n;
    } else {
        if (t) fail(e, "%s: out of memory", path);
        free(word);
    }
    weights_close(&w);
    return vectors != NULL;
}

/* The ids of n bytes of text, without start and end. */
static bool append_text(const Tok *t, const char *text, size_t n, Ids *out, Error *e)
{
    Ids part;
    if (!tok_encode(t, text, n, &part, e)) return false;
    const size_t count = (size_t)part.count - 2;
    int *more = realloc(out->at, ((size_t)out->count + count + 1) * sizeof *more);
    if (more) {
        memcpy(more + out->count, part.at + 1, count * sizeof *more);
        out->at = more;
        out->count += (int)count;
    }
    ids_free(&part);
    return more || fail(e, "out of memory: needed room for tokens");
}

static bool append_ids(Ids *out, int first, int count, Error *e)
{
    int *more = realloc(out->at, ((size_t)out->count + (size_t)count + 1) * sizeof *more);
    if (!more) return fail(e, "out of memory: needed room for tokens");
    out->at = more;
    for (int i = 0; i < count; i++) more[out->count++] = first + i;
    return true;
}

/* The first new word in text, the longest where several begin; NULL: none. */
static const NewWord *next_word(const Adapters *a, const char *text, const char **at)
{
    const NewWord *found = NULL;
    *at = NULL;
    for (int i = 0; i < a->word_count; i++) {
        const char *here = strstr(text, a->words[i].text);
        if (!here || (found && (here > *at || (here == *at
                      && strlen(a->words[i].text) <= strlen(found->text))))) continue;
        found = &a->words[i];
        *at = here;
    }
    return found;
}

bool adapters_encode(const Adapters *a, const Tok *t, const char *text, Ids *out, Error *e)
{
    if (!a->word_count) return tok_encode(t, text, strlen(text), out, e);
    *out = (Ids){ 0 };
    bool ok = append_ids(out, tok_start(t), 1, e);
    const char *at;
    for (const NewWord *w; ok && (w = next_word(a, text, &at)); text = at + strlen(w->text))
        ok = append_text(t, text, (size_t)(at - text), out, e)
            && append_ids(out, w->first, w->vectors, e);
    ok = ok && append_text(t, text, strlen(text), out, e) && append_ids(out, tok_end(t), 1, e);
    if (!ok) ids_free(out);
    return ok;
}

void adapters_close(Adapters *a)
{
    for (int i = 0; i < a->file_count; i++) weights_close(&a->files[i]);
    for (int i = 0; i < a->word_count; i++) free(a->words[i].text);
    free(a->files);
    free(a->changes);
    free(a->words);
    free(a->vectors);
    *a = (Adapters){ 0 };
}
