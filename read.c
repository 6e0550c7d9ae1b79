/* read.c - the verbs that read: embed, score, classify.  Nothing is printed before all is done. */
#include "read.h"

#include <stdlib.h>

/* ---- opening --------------------------------------------------------------------------------- */

/* CLAP when the options give it alone; of two models, when the first file is a sound. */
static bool is_for_sounds(const Args *a, Error *e)
{
    const Texts *files = &a->options->operands;
    if (!a->clap != !a->clip) return a->clap != NULL;
    if (!part_given(a, "clap", e)) return false;
    return !part_given(a, "clip", e) || (files->count && is_wav(files->at[0]));
}

/* Count a text of n tokens, one picture, one window of sound. */
static void count_text(const Reader *r, Arena *m, int n)
{
    const ClapText *t = &r->clap.text;
    const Clip *c = &r->clip;
    if (r->hears) clap_text(m, t, NULL, imin(n, t->positions - t->pad - 1));
    else
        linear(m, position(clip_text(m, &c->text, NULL, 1, imin(n, c->text.positions), 0), 0, 0),
               &c->text_projection);
}

static void count_file(const Reader *r, Arena *m)
{
    const Clip *c = &r->clip;
    if (r->hears) clap_sound(m, &r->clap, NULL);
    else
        linear(m, clip_vision(m, &c->vision, tensor(m, 1, c->vision.size, c->vision.size, 3)),
               &c->image_projection);
}

bool reader_plan(const Reader *r, const Texts *texts, size_t files, Stage stages[2], Error *e)
{
    const Tok *tok = r->hears ? r->clap.tok : r->clip.tok;
    stages[0] = (Stage){ .name = "text" };
    stages[1] = (Stage){ .name = r->hears ? "sound" : "picture" };
    for (int i = 0; i < texts->count; i++) {
        Arena m = { 0 };
        Ids ids;
        if (!tok_encode(tok, texts->at[i], strlen(texts->at[i]), &ids, e)) return false;
        count_text(r, &m, ids.count);
        ids_free(&ids);
        stages[0].memory = zmax(stages[0].memory, m.peak);
        stages[0].macs += m.macs;
        stages[0].weight_bytes += m.weight_bytes;
    }
    if (files) {
        Arena m = { 0 };
        count_file(r, &m);
        stages[1].memory = m.peak;
        stages[1].macs = m.macs * (double)files;
        stages[1].weight_bytes = m.weight_bytes * (double)files;
    }
    return true;
}

bool reader_model(Reader *r, Args *a, bool hears, Error *e)
{
    *r = (Reader){ .hears = hears };
    if (!choose_machine(a, e)) return false;
    r->folder = model_part(a, r->hears ? "clap" : "clip", e);
    if (!r->folder || !(r->hears ? clap_open(&r->clap, r->folder, a->tokenizer, e)
                                 : clip_open(&r->clip, r->folder, a->tokenizer, e))) return false;
    r->dim = r->hears ? r->clap.dim : r->clip.dim;
    r->logit_scale = r->hears ? r->clap.logit_scale : r->clip.logit_scale;
    tell_unused(a, r->hears ? &r->clap.weights : &r->clip.weights);
    return true;
}

bool reader_begin(Reader *r, const Args *a, const Stage stages[2], Error *e)
{
    for (int i = 0; i < 2; i++) r->macs[i] = stages[i].macs;
    const size_t need = zmax(stages[0].memory, stages[1].memory);
    const size_t most = r->hears ? clap_memory(&r->clap) : clip_memory(&r->clip);
    return check_memory(a, need, e) && trace_begin(&r->trace, a, e)
        && arena_open(&r->m, zmax(need, most), a->scratch, e);
}

/* Open the model for these texts and files.  With --plan it is printed and *done set. */
static bool reader_open(Reader *r, Args *a, const Texts *texts, int files, bool *done, Error *e)
{
    Stage stages[2];
    *done = a->plan;
    *r = (Reader){ .hears = is_for_sounds(a, e) };
    if (e->code || !reader_model(r, a, r->hears, e)
        || !reader_plan(r, texts, (size_t)files, stages, e)) return false;
    if (a->plan) print_plan(a, stages, 2);
    return a->plan || reader_begin(r, a, stages, e);
}

bool reader_close(Reader *r, bool ok, Error *e)
{
    ok = trace_end(r->trace, ok, e);
    arena_close(&r->m);
    if (r->clip.tok) clip_close(&r->clip);
    if (r->clap.tok) clap_close(&r->clap);
    free(r->folder);
    return ok;
}

/* ---- vectors --------------------------------------------------------------------------------- */

bool reader_text(Reader *r, const char *text, float *out, int *lost, Error *e)
{
    return r->hears ? clap_embed_text(&r->clap, &r->m, text, out, lost, e)
                    : clip_embed_text(&r->clip, &r->m, text, out, lost, e);
}

float *reader_texts(Reader *r, const Args *a, const Texts *texts, Error *e)
{
    const size_t dim = (size_t)r->dim;
    float *out = calloc((size_t)texts->count * dim + 1, sizeof *out);
    if (!out) fail(e, "out of memory: needed room for %d vectors", texts->count);
    for (int i = 0; out && i < texts->count; i++) {
        int lost = 0;
        if (texts->count > 1) trace_enter("text%d", i);
        if (!reader_text(r, texts->at[i], out + (size_t)i * dim, &lost, e)) {
            free(out);
            out = NULL;
        }
        if (texts->count > 1) trace_leave();
        if (lost) say(a, "text %d: %d tokens beyond what the model takes are cut off", i + 1, lost);
    }
    return out;
}

static bool picture_bytes(Reader *r, const uint8_t *bytes, size_t n, const char *path, float *out,
                          Error *e)
{
    Picture p;
    Error inner = { 0 };
    if (!picture_parse(&p, bytes, n, path, e)) return false;
    bool ok =
        clip_embed_picture(&r->clip, &r->m, &p, out, &inner) || fail(e, "%s: %s", path, inner.text);
    picture_free(&p);
    return ok;
}

static bool sound_bytes(Reader *r, const uint8_t *bytes, size_t n, const char *path, float *out,
                        Error *e)
{
    Sound s;
    Error inner = { 0 };
    if (!sound_parse(&s, bytes, n, path, e)) return false;
    bool ok =
        clap_embed_sound(&r->clap, &r->m, &s, out, &inner) || fail(e, "%s: %s", path, inner.text);
    sound_free(&s);
    return ok;
}

bool reader_bytes(Reader *r, const uint8_t *bytes, size_t n, const char *path, float *out, Error *e)
{
    return (r->hears ? sound_bytes : picture_bytes)(r, bytes, n, path, out, e);
}

bool reader_file(Reader *r, const char *path, float *out, Error *e)
{
    enum { PICTURE_MOST = 1 << 30 };
    File f;
    if (r->hears && is_picture(path))
        return fail(e, "%s: found a picture, want a sound: %s is a CLAP folder", path, r->folder);
    if (!r->hears && is_wav(path))
        return fail(e, "%s: found a sound, want a picture: %s is a CLIP folder", path, r->folder);
    if (!file_map(&f, path, r->hears ? 0 : PICTURE_MOST, e)) return false;
    bool ok = reader_bytes(r, f.at, f.size, path, out, e);
    file_unmap(&f);
    return ok;
}

static float *embed_files(Reader *r, const Texts *files, Error *e)
{
    const size_t dim = (size_t)r->dim;
    float *out = calloc((size_t)files->count * dim + 1, sizeof *out);
    if (!out) fail(e, "out of memory: needed room for %d vectors", files->count);
    for (int i = 0; out && i < files->count; i++) {
        if (files->count > 1) trace_enter(r->hears ? "sound%d" : "picture%d", i);
        if (!reader_file(r, files->at[i], out + (size_t)i * dim, e)) {
            free(out);
            out = NULL;
        }
        if (files->count > 1) trace_leave();
    }
    return out;
}

/* ---- embed ----------------------------------------------------------------------------------- */

/* Texts and files, each with its names and vectors. */
typedef struct { const char *tensor, *what; const Texts *names; float *at; } Vectors;

static void print_vectors(const Args *a, const Vectors *v, int dim)
{
    for (int i = 0; i < v->names->count; i++) {
        printf(a->json ? "{\"%s\": " : "%s\t", v->what);
        (a->json ? print_json : print_field)(v->names->at[i]);
        fputs(a->json ? ", \"embedding\": [" : "\t", stdout);
        for (int k = 0; k < dim; k++)
            printf("%s%.9g",
                   !k        ? ""
                   : a->json ? ", "
                             : " ",
                   (double)v->at[(size_t)i * (size_t)dim + (size_t)k]);
        puts(a->json ? "]}" : "");
    }
}

/* { "text_embeds": [[...], ...], "image_embeds": [[...], ...] } */
static bool write_json(Output *o, const Vectors v[2], int dim, Error *e)
{
    char *text = NULL;
    size_t size = 0;
    bool first = true;
    FILE *out = open_memstream(&text, &size);
    if (!out) return fail(e, "out of memory: needed room for the vectors as text");
    fputc('{', out);
    for (int kind = 0; kind < 2; kind++) {
        if (!v[kind].names->count) continue;
        fprintf(out, "%s\n\"%s\": [", first ? "" : ",", v[kind].tensor);
        first = false;
        for (int i = 0; i < v[kind].names->count; i++)
            for (int k = 0; k < dim; k++)
                fprintf(out, "%s%.9g",
                        k   ? ", "
                        : i ? "],\n["
                            : "\n[",
                        (double)v[kind].at[(size_t)i * (size_t)dim + (size_t)k]);
        fputs("]]", out);
    }
    fputs("\n}\n", out);
    bool ok = !fclose(out) ? output_write(o, text, size, e)
                           : fail(e, "out of memory: needed room for the vectors as text");
    free(text);
    return ok;
}

/* What -o asks for, opened before anything is computed. */
typedef struct {
    enum { PRINT, SAFETENSORS, NPY, JSON } kind;
    SafeWriter *safe;
    Output *file;
} Target;

static bool target_open(Target *t, const Args *a, bool both, Error *e)
{
    const char *path = a->output;
    *t = (Target){ 0 };
    if (!path || !strcmp(path, "-")) return true;
    if (folder_exists(path)) return fail(e, "%s: cannot write: it is a folder", path);
    t->kind = ends_with(path, ".safetensors") ? SAFETENSORS
              : ends_with(path, ".npy")       ? NPY
              : ends_with(path, ".json")      ? JSON
                                              : PRINT;
    if (t->kind == PRINT)
        return misuse(
            e, "--output: found '%s', want a name that ends in .safetensors, .npy or .json", path);
    if (t->kind == NPY && both)
        return misuse(e, "--output: found '%s': one .npy holds texts or files, not both", path);
    if (t->kind == SAFETENSORS) return (t->safe = safe_open(path, e)) != NULL;
    if (!(t->file = output_open(path, e))) return false;
    if (t->kind == JSON) return true;
    output_discard(t->file);                               /* npy_write opens it again */
    t->file = NULL;
    return true;
}

static bool target_write(Target *t, const Args *a, const Vectors v[2], int dim, Error *e)
{
    static const char *const metadata[] = { "format", "pt", "program", "fusion " VERSION, NULL };
    const Vectors *only = &v[v[0].names->count ? 0 : 1];
    bool ok = true;
    for (int i = 0; i < 2; i++) {
        const int shape[2] = { v[i].names->count, dim };
        if (t->kind == PRINT) print_vectors(a, &v[i], dim);
        else if (t->kind == SAFETENSORS && v[i].names->count)
            ok = ok && safe_add(t->safe, v[i].tensor, F32, 2, shape, v[i].at, e);
    }
    if (t->kind == NPY)
        return npy_write(a->output, 2, (int[]){ only->names->count, dim }, only->at, e);
    if (t->kind == SAFETENSORS && ok) { ok = safe_commit(t->safe, metadata, e); t->safe = NULL; }
    if (t->kind == JSON && write_json(t->file, v, dim, e)) {
        ok = output_commit(t->file, e);
        t->file = NULL;
    }
    return ok && !e->code;
}

int verb_embed(Args *a, Error *e)
{
    const Texts *files = &a->options->operands;
    Reader r = { 0 };
    Target target = { 0 };
    bool done = false;
    if (!a->prompts.count && !files->count)
        return misuse(e, "embed: nothing to embed: give -p TEXT or FILE"), 2;
    bool ok = (a->plan || target_open(&target, a, a->prompts.count && files->count, e))
        && reader_open(&r, a, &a->prompts, files->count, &done, e);
    if (ok && !done) {
        const double began = now();
        Vectors v[2] = { { "text_embeds", "text", &a->prompts,
                           reader_texts(&r, a, &a->prompts, e) },
                         { r.hears ? "audio_embeds" : "image_embeds", "file", files, NULL } };
        const double read = now();
        if (v[0].at) v[1].at = embed_files(&r, files, e);
        ok = v[0].at && v[1].at;
        if (ok && a->prompts.count) tell_stage(a, "text", read - began, r.macs[0]);
        if (ok && files->count)
            tell_stage(a, r.hears ? "sound" : "picture", now() - read, r.macs[1]);
        for (int kind = 0; ok && a->normalize && kind < 2; kind++)
            for (int i = 0; i < v[kind].names->count; i++)
                normalize(v[kind].at + (size_t)i * (size_t)r.dim, r.dim);
        ok = ok && target_write(&target, a, v, r.dim, e);
        free(v[0].at);
        free(v[1].at);
    }
    ok = reader_close(&r, ok, e);
    safe_discard(target.safe);
    output_discard(target.file);
    return ok ? 0 : 1;
}

/* ---- score ----------------------------------------------------------------------------------- */

void reader_judge(const Reader *r, const float *texts, int n, const float *file, double *cosines,
                  double *logits, double *p)
{
    for (int i = 0; i < n; i++) {
        cosines[i] = cosine(texts + (size_t)i * (size_t)r->dim, file, r->dim);
        logits[i] = r->logit_scale * cosines[i];
    }
    softmax(logits, n, p);
}

static void print_score(const Args *a, const char *text, const char *file, double cosine,
                        double logit, double p)
{
    if (!a->json) {
        print_field(text);
        putchar('\t');
        print_field(file);
        printf("\t%.6f\t%.5f\t%.6f\n", cosine, logit, p);
        return;
    }
    fputs("{\"text\": ", stdout);
    print_json(text);
    fputs(", \"file\": ", stdout);
    print_json(file);
    printf(", \"cosine\": %.9g, \"logit\": %.9g, \"probability\": %.9g}\n", cosine, logit, p);
}

int verb_score(Args *a, Error *e)
{
    const Texts *files = &a->options->operands, *texts = &a->prompts;
    Reader r = { 0 };
    bool done = false;
    if (!texts->count) return misuse(e, "--prompt: missing, want -p TEXT"), 2;
    bool ok = reader_open(&r, a, texts, files->count, &done, e);
    if (ok && !done) {
        const size_t n = (size_t)texts->count, dim = (size_t)r.dim;
        double *judged = malloc(3 * n * sizeof *judged);
        float *text = reader_texts(&r, a, texts, e);
        float *file = text ? embed_files(&r, files, e) : NULL;
        ok = file && (judged || fail(e, "out of memory: needed room for %zu scores", n));
        for (int f = 0; ok && f < files->count; f++) {
            reader_judge(&r, text, texts->count, file + (size_t)f * dim, judged, judged + n,
                         judged + 2 * n);
            for (size_t i = 0; i < n; i++)
                print_score(a, texts->at[i], files->at[f], judged[i], judged[n + i],
                            judged[2 * n + i]);
        }
        free(text);
        free(file);
        free(judged);
    }
    return reader_close(&r, ok, e) ? 0 : 1;
}

/* ---- classify -------------------------------------------------------------------------------- */

static bool label_add(Labels *l, char *from, char *end, bool skip_empty, Error *e)
{
    while (from < end && (*from == ' ' || *from == '\t')) from++;
    while (end > from && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) end--;
    *end = 0;
    if (from == end) return skip_empty || misuse(e, "--labels: found an empty label");
    const char **more = realloc(l->list.at, (size_t)(l->list.count + 1) * sizeof *more);
    if (!more) return fail(e, "out of memory: needed room for labels");
    l->list.at = more;
    l->list.at[l->list.count++] = from;
    return true;
}

/* A,B,C from the command line, or the lines of a file. */
static bool labels_read(Labels *l, const Args *a, Error *e)
{
    File f = { 0 };
    const char *text = a->labels, cut = text ? ',' : '\n';
    if (!text == !a->labels_file)
        return misuse(e, "--labels: want either --labels A,B,C or --labels-file FILE");
    if (!text && !file_map(&f, a->labels_file, 16 << 20, e)) return false;
    size_t n = text ? strlen(text) : f.size;
    l->text = malloc(n + 1);
    bool ok = l->text || fail(e, "out of memory: needed %zu bytes for labels", n);
    if (ok && n) memcpy(l->text, text ? text : (const char *)f.at, n);
    file_unmap(&f);
    if (ok && memchr(l->text, 0, n))
        ok = fail(e, "%s: found a zero byte, want one label a line", a->labels_file);
    for (char *at = l->text, *end; ok && at <= l->text + n; at = end + 1) {
        end = memchr(at, cut, (size_t)(l->text + n - at));
        if (!end) end = l->text + n;
        ok = label_add(l, at, end, !text, e);
    }
    return ok && (l->list.count || fail(e, "%s: no labels in this file", a->labels_file));
}

/* Every label in every template, label by label. */
static bool fill_templates(Labels *l, const Texts *templates, Error *e)
{
    const int k = templates->count;
    l->filled = (Texts){ calloc((size_t)l->list.count * (size_t)k, sizeof *l->filled.at),
                         l->list.count * k };
    bool ok = l->filled.at != NULL;
    for (int i = 0; ok && i < l->filled.count; i++) {
        const char *label = l->list.at[i / k], *form = templates->at[i % k],
                   *hole = strstr(form, "{}");
        size_t room = strlen(form) + strlen(label) + 1;
        char *text = malloc(room);
        if (text) snprintf(text, room, "%.*s%s%s", (int)(hole - form), form, label, hole + 2);
        l->filled.at[i] = text;
        ok = text != NULL;
    }
    return ok || fail(e, "out of memory: needed room for labels");
}

bool labels_open(Labels *l, const Args *a, Error *e)
{
    const char *bare[] = { "{}" };
    const Texts plain = { bare, 1 }, *templates = a->templates.count ? &a->templates : &plain;
    for (int i = 0; i < templates->count; i++)
        if (!strstr(templates->at[i], "{}"))
            return misuse(e, "--template: found '%s', want {} where the label goes",
                          templates->at[i]);
    return labels_read(l, a, e) && fill_templates(l, templates, e);
}

void labels_close(Labels *l)
{
    for (int i = 0; l->filled.at && i < l->filled.count; i++) free((char *)l->filled.at[i]);
    free(l->filled.at);
    free(l->list.at);
    free(l->text);
    *l = (Labels){ 0 };
}

/* Normalise the vector of each template, average, normalise again; in place. */
static void average_templates(float *v, int labels, int k, int dim)
{
    for (int i = 0; i < labels; i++) {
        float *out = v + (size_t)i * (size_t)dim;
        for (int j = 0; j < k; j++) normalize(v + (size_t)(i * k + j) * (size_t)dim, dim);
        for (int c = 0; c < dim; c++) {
            float sum = 0;
            for (int j = 0; j < k; j++) sum += v[(size_t)(i * k + j) * (size_t)dim + (size_t)c];
            out[c] = sum / (float)k;
        }
        normalize(out, dim);
    }
}

float *reader_labels(Reader *r, const Args *a, const Labels *l, Error *e)
{
    const int n = l->list.count;
    float *v = reader_texts(r, a, &l->filled, e);
    if (v) average_templates(v, n, l->filled.count / n, r->dim);
    return v;
}

static void print_class(const Args *a, const char *file, const char *label, double p, double cosine)
{
    if (!a->json) {
        print_field(file);
        putchar('\t');
        print_field(label);
        printf("\t%.6f\t%.6f\n", p, cosine);
        return;
    }
    fputs("{\"file\": ", stdout);
    print_json(file);
    fputs(", \"label\": ", stdout);
    print_json(label);
    printf(", \"probability\": %.9g, \"cosine\": %.9g}\n", p, cosine);
}

/* The labels of one file, best first; equal ones in the order given. */
static void print_classes(const Args *a, const char *file, const Labels *l, double *p,
                          const double *cosines)
{
    const int most = a->top ? a->top : l->list.count;
    for (int rank = 0; rank < imin(most, l->list.count); rank++) {
        int best = 0;
        for (int i = 1; i < l->list.count; i++)
            if (p[i] > p[best]) best = i;
        if (p[best] < a->threshold) {
            if (!rank) print_class(a, file, "none", p[best], cosines[best]);
            return;
        }
        print_class(a, file, l->list.at[best], p[best], cosines[best]);
        p[best] = -1;
    }
}

static bool classify(Reader *r, const Args *a, const Labels *l, Error *e)
{
    const Texts *files = &a->options->operands;
    const int n = l->list.count, dim = r->dim;
    double *judged = malloc(3 * (size_t)n * sizeof *judged);
    float *text = reader_labels(r, a, l, e), *file = text ? embed_files(r, files, e) : NULL;
    bool ok = file && (judged || fail(e, "out of memory: needed room for %d scores", n));
    for (int f = 0; ok && f < files->count; f++) {
        double *cosines = judged, *logits = judged + n, *p = judged + 2 * n;
        reader_judge(r, text, n, file + (size_t)f * (size_t)dim, cosines, logits, p);
        print_classes(a, files->at[f], l, p, cosines);
    }
    free(judged);
    free(text);
    free(file);
    return ok;
}

int verb_classify(Args *a, Error *e)
{
    Labels labels = { 0 };
    Reader r = { 0 };
    bool done = false;
    bool ok = labels_open(&labels, a, e)
        && reader_open(&r, a, &labels.filled, a->options->operands.count, &done, e);
    if (ok && !done) ok = classify(&r, a, &labels, e);
    ok = reader_close(&r, ok, e);
    labels_close(&labels);
    return ok ? 0 : 1;
}
