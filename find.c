/* find.c - the verbs of a library: index, search, organize, duplicates. */
#include "index.h"
#include "read.h"

#include <errno.h>
#include <search.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const parts[KINDS] = { "clip", "clap" };

/* What embeds the files of a folder, and how that is told. */
typedef struct {
    Args *a;
    Reader r[KINDS];
    bool has[KINDS];
    const Texts *texts;                    /* for the plan */
    IndexJob job;
    bool bar;
    double began;
    Error *e;
} Finder;

/* ---- the models ------------------------------------------------------------------------------ */

/* Both parts of a bundle; where --clip or --clap stands without -m, what was named alone. */
static bool is_wanted(const Args *a, int kind, Error *e)
{
    if (kind == SOUNDS ? a->clap : a->clip) return true;
    return !((a->clip || a->clap) && !a->model) && part_given(a, parts[kind], e);
}

static bool open_part(Finder *k, int kind)
{
    Reader *r = &k->r[kind];
    IndexJob *job = &k->job;
    if (!reader_model(r, k->a, kind == SOUNDS, k->e)) return false;
    k->has[kind] = true;
    job->dim[kind] = r->dim;
    return index_identity(kind == SOUNDS ? &r->clap.weights : &r->clip.weights, r->folder,
                          job->model[kind], k->e);
}

static bool open_parts(Finder *k)
{
    bool any = false;
    for (int kind = 0; kind < KINDS; kind++) {
        const bool wanted = is_wanted(k->a, kind, k->e);
        if (k->e->code || (wanted && !open_part(k, kind))) return false;
        any |= wanted;
    }
    if (any) return true;
    free(model_part(k->a, "clip", k->e));                  /* it says what is there */
    return fail(k->e, "model: found neither CLIP nor CLAP");
}

static bool finder_close(Finder *k, bool ok)
{
    for (int kind = 0; kind < KINDS; kind++) ok = reader_close(&k->r[kind], ok, k->e);
    return ok;
}

/* Print the plan, or make room for it; false with --plan, or with e. */
static bool finder_begin(Finder *k, const size_t todo[KINDS])
{
    static const Texts none = { 0 };
    Stage stages[2 * KINDS] = { { 0 } };
    for (int kind = 0; kind < KINDS; kind++)
        if (k->has[kind] && !reader_plan(&k->r[kind], k->texts ? k->texts : &none, todo[kind],
                                         stages + 2 * kind, k->e)) return false;
    if (k->a->plan) print_plan(k->a, stages, 2 * KINDS);
    for (int kind = 0; !k->a->plan && kind < KINDS; kind++)
        if (k->has[kind] && !reader_begin(&k->r[kind], k->a, stages + 2 * kind, k->e)) return false;
    k->began = now();
    return !k->a->plan;
}

/* ---- bringing an index up to date ------------------------------------------------------------ */

static bool begin(void *self, const size_t todo[KINDS]) { return finder_begin(self, todo); }

static bool embed(void *self, int kind, const uint8_t *bytes, size_t n, const char *path,
                  float *out, Error *e)
{
    Finder *k = self;
    return reader_bytes(&k->r[kind], bytes, n, path, out, e);
}

static void step(void *self, size_t done, size_t all)
{
    Finder *k = self;
    if (k->bar) show_step(&k->began, (int)done, (int)all, NULL, NULL);
}

static void skip(void *self, const char *why)
{
    Finder *k = self;
    if (k->bar) fputs("\r\033[K", stderr);
    say(k->a, "skipped: %s", why);
}

static void tell_skipped(const Finder *k, const IndexCounts *n)
{
    for (int kind = 0; kind < KINDS; kind++)
        if (n->no_model[kind])
            say(k->a, "skipped: %zu %ss, since the model has no %s", n->no_model[kind],
                kind_names[kind], kind_models[kind]);
    if (n->skipped) say(k->a, "skipped: %zu in all that cannot be read", n->skipped);
}

/* The index of folder, in the file path or in memory; false with --plan, too. */
static bool update(Finder *k, Index *x, const char *folder, const char *path, IndexCounts *n)
{
    k->bar = !k->a->quiet && isatty(2);
    k->job.begin = begin;
    k->job.embed = embed;
    k->job.step = step;
    k->job.skip = skip;
    k->job.self = k;
    if (!open_parts(k) || !index_update(x, folder, path, &k->job, n, k->e)) return false;
    if (k->e->code || k->a->plan) {
        index_close(x);
        return false;
    }
    tell_skipped(k, n);
    return true;
}

/* A name of the folder's file for people; the caller frees. */
static char *below(const char *folder, const char *path, Error *e)
{
    char *joined = path_join(folder, path);
    if (!joined) fail(e, "%s: out of memory: needed room for a name", folder);
    return joined;
}

/* ---- index ----------------------------------------------------------------------------------- */

static void print_counts(const Args *a, const IndexCounts *n, const Index *x)
{
    const struct { const char *name; size_t count; } rows[] = {
        { "pictures", x->count[PICTURES] }, { "sounds", x->count[SOUNDS] }, { "added", n->added },
        { "changed", n->changed }, { "renamed", n->renamed }, { "deleted", n->deleted },
        { "unchanged", n->unchanged }, { "skipped", n->skipped + n->no_model[PICTURES]
                                                    + n->no_model[SOUNDS] },
    };
    for (size_t i = 0; i < countof(rows); i++)
        if (a->json)
            printf("%s\"%s\": %zu%s", i ? ", " : "{", rows[i].name, rows[i].count,
                   i + 1 == countof(rows) ? "}\n" : "");
        else printf("%s\t%zu\n", rows[i].name, rows[i].count);
}

int verb_index(Args *a, Error *e)
{
    const Texts *names = &a->options->operands;
    Finder k = { .a = a, .e = e };
    Index x = { 0 };
    IndexCounts n;
    if (!a->output || is_special(a->output))
        return misuse(e, "--output: %s, want the file of the index",
                      a->output ? "found what is no file" : "missing"), 2;
    if (a->merge && a->shard) return misuse(e, "--shard: of no use with --merge"), 2;
    if (a->merge) return index_merge(names->at, names->count, a->output, e) ? 0 : 1;
    if (names->count > 1)
        return misuse(e, "operand: found '%.200s', want DIR -o FILE", names->at[1]), 2;
    if (a->shard && !read_shard(a->shard, &k.job.shard, &k.job.shards))
        return misuse(e, "--shard: found '%s', want I/N, I in 1..N", a->shard), 2;
    const bool ok = update(&k, &x, names->at[0], a->output, &n);
    if (ok) print_counts(a, &n, &x);
    index_close(&x);
    return finder_close(&k, !e->code) ? 0 : 1;
}

/* ---- search: the query ----------------------------------------------------------------------- */

/* A text, or the file of a picture or sound, and how much it counts. */
typedef struct { char *text; int kind; double weight; } Term;         /* kind KINDS: a text */
typedef struct { Term *at; int count; } Query;

/* Cut `::WEIGHT` off the end of a term. */
static bool cut_weight(char *text, const char *option, double *weight, Error *e)
{
    char *mark = NULL, *end;
    for (char *at = text; (at = strstr(at, "::")); at++) mark = at;
    if (!mark || mark == text || !mark[2] || mark[2 + strspn(mark + 2, "0123456789.-")])
        return true;
    const double value = strtod(mark + 2, &end);
    if (*end) return true;
    if (!(value >= -1000 && value <= 1000) || value == 0)
        return misuse(e, "%s: found weight %s, want a number in -1000..1000 but 0", option,
                      mark + 2);
    *weight = value;
    *mark = 0;
    return true;
}

static bool add_terms(Query *q, const Texts *texts, const char *option, double sign, bool files,
                      Error *e)
{
    for (int i = 0; i < texts->count; i++) {
        Term *t = &q->at[q->count];
        *t = (Term){ .text = strdup(texts->at[i]), .kind = KINDS, .weight = 1 };
        if (!t->text) return fail(e, "out of memory: needed room for the query");
        q->count++;
        if (!(files && file_exists(t->text)) && !cut_weight(t->text, option, &t->weight, e))
            return false;
        t->weight *= sign;
        if (!files) continue;
        File f;                                            /* does it open? */
        if (!file_map(&f, t->text, 0, e)) return false;
        file_unmap(&f);
        t->kind = is_wav(t->text) ? SOUNDS : PICTURES;
    }
    return true;
}

static bool query_open(Query *q, const Args *a, Error *e)
{
    const int n = a->prompts.count + a->inputs.count + a->minus.count;
    *q = (Query){ .at = calloc((size_t)n + 1, sizeof *q->at) };
    if (!n) return misuse(e, "search: nothing to look for: give -p TEXT or -i FILE");
    return (q->at || fail(e, "out of memory: needed room for the query"))
        && add_terms(q, &a->prompts, "-p", 1, false, e)
        && add_terms(q, &a->inputs, "-i", 1, true, e)
        && add_terms(q, &a->minus, "--minus", -1, false, e);
}

static void query_close(Query *q)
{
    for (int i = 0; q->at && i < q->count; i++) free(q->at[i].text);
    free(q->at);
}

/* The kinds that can answer: those of the files in the query, or all. */
static bool can_answer(const Query *q, int kind)
{
    for (int i = 0; i < q->count; i++)
        if (q->at[i].kind != KINDS && q->at[i].kind != kind) return false;
    return true;
}

static bool embed_term(Finder *k, int kind, const Term *t, float *out)
{
    int lost = 0;
    if (t->kind != KINDS) return reader_file(&k->r[kind], t->text, out, k->e);
    const bool ok = reader_text(&k->r[kind], t->text, out, &lost, k->e);
    if (lost) say(k->a, "%s: %d tokens beyond what the model takes are cut off", t->text, lost);
    return ok;
}

/* The sum of all terms, each of length 1 times its weight; of length 1. */
static bool embed_query(Finder *k, int kind, const Query *q, float *out)
{
    const int dim = k->r[kind].dim;
    float *one = malloc((size_t)dim * sizeof *one);
    double *sum = calloc((size_t)dim, sizeof *sum), square = 0;
    bool ok = (one && sum) || fail(k->e, "out of memory: needed room for the query");
    for (int i = 0; ok && i < q->count; i++) {
        ok = embed_term(k, kind, &q->at[i], one);
        if (!ok) break;
        normalize(one, dim);
        for (int c = 0; c < dim; c++) sum[c] += q->at[i].weight * one[c];
    }
    for (int c = 0; ok && c < dim; c++) {
        square += sum[c] * sum[c];
        out[c] = (float)sum[c];
    }
    if (ok) normalize(out, dim);
    free(one);
    free(sum);
    return ok && (square > 1e-12 || fail(k->e, "query: its terms cancel out, nothing is left"));
}

/* ---- search ---------------------------------------------------------------------------------- */

static void print_hit(const Args *a, const Hit *h)
{
    if (!a->json) {
        printf("%.6f\t", h->score);
        print_field(h->file->path);
        putchar('\n');
        return;
    }
    printf("{\"score\": %.9g, \"kind\": \"%s\", \"path\": ", h->score, kind_names[h->kind]);
    print_json(h->file->path);
    puts("}");
}

/* Open the models that answer; asked: how many kinds. */
static bool open_search(Finder *k, const Index *x, const Query *q, bool answers[KINDS])
{
    const char *lacks = NULL;
    int kinds = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        if (!x->count[kind] || !can_answer(q, kind)) continue;
        if (!is_wanted(k->a, kind, k->e)) {
            if (k->e->code) return false;
            if (!lacks) lacks = parts[kind];
            continue;
        }
        if (!open_part(k, kind)
            || !index_of_model(x, kind, k->job.model[kind], k->job.dim[kind], k->e)) return false;
        answers[kind] = true;
        kinds++;
    }
    if (kinds && lacks)
        say(k->a, "only %ss are searched: no %s model", kind_names[answers[SOUNDS]],
            kind_models[answers[PICTURES]]);
    if (kinds) return true;
    if (lacks) {
        free(model_part(k->a, lacks, k->e));               /* it says what is there */
        return false;
    }
    if (!x->count[PICTURES] && !x->count[SOUNDS]) return true;
    return fail(k->e, "%s: index: found only %ss, the query has a %s, and no model compares them",
                x->path, kind_names[!x->count[PICTURES]], kind_names[x->count[PICTURES] > 0]);
}

static bool search(Finder *k, const Index *x, const Query *q, const bool answers[KINDS])
{
    const int top = k->a->top;
    Hit *hits = malloc(KINDS * (size_t)top * sizeof *hits);
    int found = 0;
    bool ok = hits || fail(k->e, "out of memory: needed room for %d results", top);
    for (int kind = 0; ok && kind < KINDS; kind++) {
        int more = 0;
        if (!answers[kind]) continue;
        float *query = malloc((size_t)k->r[kind].dim * sizeof *query);
        ok = (query || fail(k->e, "out of memory: needed room for the query"))
            && embed_query(k, kind, q, query)
            && index_search(x, kind, query, top, hits + found, &more, k->e);
        free(query);
        found += more;
    }
    if (ok) qsort(hits, (size_t)found, sizeof *hits, hit_order);
    for (int i = 0; ok && i < imin(top, found); i++) print_hit(k->a, &hits[i]);
    free(hits);
    return ok;
}

/* Texts and files of the query, for the plan. */
static bool begin_search(Finder *k, const Query *q)
{
    Texts texts = { .at = calloc((size_t)q->count, sizeof *texts.at) };
    size_t files[KINDS] = { 0 };
    bool ok = texts.at || fail(k->e, "out of memory: needed room for the query");
    for (int i = 0; ok && i < q->count; i++)
        if (q->at[i].kind == KINDS) texts.at[texts.count++] = q->at[i].text;
        else files[q->at[i].kind]++;
    k->texts = &texts;
    ok = ok && finder_begin(k, files);
    free(texts.at);
    k->texts = NULL;
    return ok;
}

int verb_search(Args *a, Error *e)
{
    Finder k = { .a = a, .e = e };
    Query q = { 0 };
    Index x = { 0 };
    bool answers[KINDS] = { false };
    if (query_open(&q, a, e) && choose_machine(a, e)
        && index_open(&x, a->options->operands.at[0], e) && open_search(&k, &x, &q, answers)
        && begin_search(&k, &q)) search(&k, &x, &q, answers);
    index_close(&x);
    query_close(&q);
    return finder_close(&k, !e->code) ? 0 : 1;
}

/* ---- duplicates ------------------------------------------------------------------------------ */

static bool print_alike(const Args *a, const char *folder, const Alike *p, Error *e)
{
    char *one = below(folder, p->a->path, e), *other = below(folder, p->b->path, e);
    if (one && other && !a->json) {
        printf("%.6f\t", p->score);
        print_field(one);
        putchar('\t');
        print_field(other);
        puts(p->same ? "\tsame bytes" : "");
    } else if (one && other) {
        printf("{\"score\": %.9g, \"same_bytes\": %s, \"a\": ", p->score,
               p->same ? "true" : "false");
        print_json(one);
        fputs(", \"b\": ", stdout);
        print_json(other);
        puts("}");
    }
    free(one);
    free(other);
    return !e->code;
}

int verb_duplicates(Args *a, Error *e)
{
    const char *folder = a->options->operands.at[0];
    Finder k = { .a = a, .e = e };
    Index x = { 0 };
    IndexCounts n;
    Alike *pairs[KINDS] = { NULL };
    size_t count[KINDS] = { 0 };
    bool ok = update(&k, &x, folder, a->index, &n);
    for (int kind = 0; ok && kind < KINDS; kind++)
        ok = index_alike(&x, kind, a->threshold, &pairs[kind], &count[kind], e);
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; ok && i < count[kind]; i++)
            ok = print_alike(a, folder, &pairs[kind][i], e);
        free(pairs[kind]);
    }
    index_close(&x);
    return finder_close(&k, !e->code) ? 0 : 1;
}

/* ---- organize: which file belongs where ------------------------------------------------------ */

typedef struct { char *from, *to; int label; double p; } Move;           /* below the folder */
typedef struct { const char *folder; Move *at; size_t count, room; void *targets; } Moves;

static int by_text(const void *a, const void *b) { return strcmp(a, b); }
static void keep_text(void *text) { (void)text; }

static void moves_free(Moves *m)
{
    tdestroy(m->targets, keep_text);
    for (size_t i = 0; i < m->count; i++) {
        free(m->at[i].from);
        free(m->at[i].to);
    }
    free(m->at);
}

/* Labels become folders. */
static bool check_labels(const Labels *l, Error *e)
{
    for (int i = 0; i < l->list.count; i++) {
        const char *label = l->list.at[i];
        if (strchr(label, '/') || *label == '.' || strlen(label) > 200)
            return misuse(e, "--labels: found '%.200s', want what can be the name of a folder",
                          label);
    }
    return true;
}

/* Nothing of that name is there, and nothing will be moved there. */
static bool is_free(const Moves *m, const char *to, Error *e)
{
    char *path = below(m->folder, to, e);
    const bool taken = !path || path_taken(path);
    free(path);
    return !taken && !tfind(to, &m->targets, by_text);
}

/* LABEL/NAME for a file, or LABEL/NAME-2 and so on where that is taken; the caller frees. */
static char *find_place(const Moves *m, const char *label, const char *from, Error *e)
{
    const char *slash = strrchr(from, '/'), *name = slash ? slash + 1 : from;
    const char *dot = strrchr(name, '.'), *ending = dot && dot != name ? dot : name + strlen(name);
    const size_t room = strlen(label) + strlen(name) + 32;
    char *to = malloc(room);
    if (!to) return fail(e, "%s: out of memory: needed room for a name", from), NULL;
    snprintf(to, room, "%s/%s", label, name);
    for (unsigned i = 2; !is_free(m, to, e) && !e->code; i++)
        snprintf(to, room, "%s/%.*s-%u%s", label, (int)(ending - name), name, i, ending);
    return to;
}

static bool add_move(Moves *m, const char *from, const char *label, int number, double p, Error *e)
{
    if (m->count == m->room) {
        Move *more = realloc(m->at, (2 * m->room + 64) * sizeof *more);
        if (!more) return fail(e, "%s: out of memory: needed room for its moves", m->folder);
        m->at = more;
        m->room = 2 * m->room + 64;
    }
    Move *move = &m->at[m->count];
    *move = (Move){ strdup(from), find_place(m, label, from, e), number, p };
    m->count++;
    return (move->from && move->to && !e->code && tsearch(move->to, &m->targets, by_text))
        || fail(e, "%s: out of memory: needed room for its moves", m->folder);
}

/* Where one file belongs.  It stays below its label's folder, where no label is likely, and where
 * it is a link, which may lead nowhere from another folder. */
static bool place(Finder *k, Moves *m, const Labels *l, int kind, const float *texts,
                  const Indexed *f, double *judged)
{
    const int n = l->list.count;
    double *p = judged + 2 * n;
    int best = 0;
    char *path = below(m->folder, f->path, k->e);
    if (!path) return false;
    const bool link = path_is_link(path);
    if (link) say(k->a, "stays: %s: a symbolic link", path);
    free(path);
    reader_judge(&k->r[kind], texts, n, f->at, judged, judged + n, p);
    for (int i = 1; i < n; i++)
        if (p[i] > p[best]) best = i;
    const char *label = l->list.at[best];
    const size_t length = strlen(label);
    if (link || p[best] < k->a->threshold
        || (!strncmp(f->path, label, length) && f->path[length] == '/')) return true;
    return add_move(m, f->path, label, best, p[best], k->e);
}

static bool plan_moves(Finder *k, Moves *m, const Labels *l, const Index *x)
{
    double *judged = malloc(3 * (size_t)l->list.count * sizeof *judged);
    bool ok = judged || fail(k->e, "out of memory: needed room for %d scores", l->list.count);
    for (int kind = 0; ok && kind < KINDS; kind++) {
        if (!k->has[kind] || !x->count[kind]) continue;
        float *texts = reader_labels(&k->r[kind], k->a, l, k->e);
        ok = texts != NULL;
        for (size_t i = 0; ok && i < x->count[kind]; i++)
            ok = place(k, m, l, kind, texts, &x->files[kind][i], judged);
        free(texts);
    }
    free(judged);
    return ok;
}

static bool print_move(const Args *a, const char *folder, const char *from, const char *to,
                       const char *label, double p, Error *e)
{
    char *one = below(folder, from, e), *other = below(folder, to, e);
    if (one && other && !a->json) {
        print_field(one);
        putchar('\t');
        print_field(other);
        putchar('\n');
    } else if (one && other) {
        fputs("{\"from\": ", stdout);
        print_json(one);
        fputs(", \"to\": ", stdout);
        print_json(other);
        if (label) {
            fputs(", \"label\": ", stdout);
            print_json(label);
            printf(", \"probability\": %.9g", p);
        }
        puts("}");
    }
    free(one);
    free(other);
    return !e->code;
}

/* ---- organize: moving, and taking it back ---------------------------------------------------- */

static const char log_head[] = "# fusion organize: fusion organize DIR --undo THIS takes it back\n";

/* A file or folder below folder, moved without overwriting. */
static bool move_below(const char *folder, const char *from, const char *to, Error *e)
{
    char *one = below(folder, from, e), *other = below(folder, to, e);
    const bool ok = one && other && file_move(one, other, e);
    free(one);
    free(other);
    return ok;
}

/* The folders of the labels in use; those that were not there go to the log. */
static bool make_folders(const Moves *m, const Labels *l, FILE *log, Error *e)
{
    bool ok = true;
    for (int i = 0; ok && i < l->list.count; i++) {
        size_t used = 0;
        bool made = false;
        while (used < m->count && m->at[used].label != i) used++;
        if (used == m->count) continue;
        char *path = below(m->folder, l->list.at[i], e);
        ok = path && folder_make(path, &made, e);
        free(path);
        if (!made) continue;
        fputs("made\t", log);
        put_bytes(log, l->list.at[i], strlen(l->list.at[i]));
        putc('\n', log);
    }
    return ok;
}

/* folder/organize-N.log, the first that is not there; the caller frees. */
static char *name_log(const char *folder, Error *e)
{
    char name[40], *path = NULL;
    for (int i = 1; !path; i++) {
        snprintf(name, sizeof name, "organize-%d.log", i);
        path = below(folder, name, e);
        if (!path || !path_taken(path)) return path;
        free(path);
        path = NULL;
    }
    return path;
}

/* All that will be done, on the disk before any of it is. */
static char *write_log(const Moves *m, const Labels *l, Error *e)
{
    char *text = NULL, *path = name_log(m->folder, e);
    size_t size = 0;
    FILE *log = path ? open_memstream(&text, &size) : NULL;
    bool ok = log != NULL;
    if (ok) {
        fputs(log_head, log);
        ok = make_folders(m, l, log, e);
        for (size_t i = 0; i < m->count; i++) {
            fputs("moved\t", log);
            put_bytes(log, m->at[i].from, strlen(m->at[i].from));
            putc('\t', log);
            put_bytes(log, m->at[i].to, strlen(m->at[i].to));
            putc('\n', log);
        }
        ok = !fclose(log) && ok;
    }
    Output *o = ok ? output_open(path, e) : NULL;
    ok = o && output_write(o, text, size, e);
    if (ok) ok = output_commit(o, e);
    else output_discard(o);
    free(text);
    if (ok) return path;
    fail(e, "%s: out of memory: needed room for the log", m->folder);      /* unless e says more */
    free(path);
    return NULL;
}

/* One line for each that fails; the rest goes on. */
static bool apply_moves(const Args *a, const Moves *m, const Labels *l, Error *e)
{
    size_t failed = 0;
    if (!m->count) return true;
    char *log = write_log(m, l, e);
    if (!log) return false;
    for (size_t i = 0; i < m->count; i++) {
        const Move *move = &m->at[i];
        Error why = { 0 };
        if (move_below(m->folder, move->from, move->to, &why)) {
            if (!print_move(a, m->folder, move->from, move->to, l->list.at[move->label], move->p,
                            e)) break;
            continue;
        }
        failed++;
        say(a, "stays: %s", why.text);
    }
    say(a, "taken back by: fusion organize %s --undo %s", m->folder, log);
    free(log);
    return !failed || fail(e, "%s: %zu of %zu files could not be moved", m->folder, failed,
                           m->count);
}

/* A field as put_bytes wrote it, in place; false when it is none, or leads out of the folder. */
static bool read_field(char *text)
{
    char *out = text;
    unsigned byte;
    for (const char *c = text; *c; c++) {
        if (*c != '\\') { *out++ = *c; continue; }
        switch (*++c) {
        case 't': *out++ = '\t'; break;
        case 'n': *out++ = '\n'; break;
        case '\\': *out++ = '\\'; break;
        case 'x':
            if (strspn(c + 1, "0123456789abcdef") < 2) return false;
            byte = (unsigned)(strchr("0123456789abcdef", c[1]) - "0123456789abcdef") << 4;
            byte = (unsigned)(strchr("0123456789abcdef", c[2]) - "0123456789abcdef") | byte;
            if (!byte) return false;
            *out++ = (char)byte;
            c += 2;
            break;
        default: return false;
        }
    }
    *out = 0;
    for (const char *at = text; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
        if (!*at || *at == '/' || (!strncmp(at, "..", 2) && (!at[2] || at[2] == '/'))) return false;
    return true;
}

typedef struct { char *from, *to; } Done;  /* a file moved; to is NULL: a folder made */

/* "made LABEL" or "moved FROM TO", apart by tabs. */
static bool read_log_line(char *line, Done *d)
{
    char *tab = strchr(line, '\t'), *second = tab ? strchr(tab + 1, '\t') : NULL;
    if (!tab) return false;
    *tab = 0;
    if (second) *second = 0;
    *d = (Done){ tab + 1, second ? second + 1 : NULL };
    return !strcmp(line, second ? "moved" : "made") && read_field(d->from)
        && (!second || read_field(d->to));
}

/* The text of a log, in memory the caller frees; NULL with e. */
static char *read_log(const char *path, Error *e)
{
    File f;
    if (!file_map(&f, path, 1 << 30, e)) return NULL;
    char *text = malloc(f.size + 1);
    const size_t head = sizeof log_head - 1;
    if (!text) fail(e, "%s: out of memory: needed %zu bytes", path, f.size);
    else if (f.size < head || memcmp(f.at, log_head, head) || memchr(f.at, 0, f.size)
             || f.at[f.size - 1] != '\n')
        fail(e, "%s: found no log of organize, want what --apply has written", path);
    else {
        memcpy(text, f.at, f.size);
        text[f.size] = 0;
    }
    file_unmap(&f);
    if (!e->code) return text;
    free(text);
    return NULL;
}

/* What a log says was done, pointing into its text; the caller frees. */
static Done *parse_log(char *text, const char *path, size_t *count, Error *e)
{
    size_t lines = 0;
    for (const char *at = text; *at; at++) lines += *at == '\n';
    Done *done = malloc(lines * sizeof *done);
    if (!done) fail(e, "%s: out of memory: needed room for its lines", path);
    *count = 0;
    for (char *at = text + sizeof log_head - 1; done && *at;) {
        const size_t length = strcspn(at, "\n");
        at[length] = 0;
        if (!read_log_line(at, &done[(*count)++])) {
            fail(e, "%s: line %zu: found '%.80s', want made or moved, and paths below the folder",
                 path, *count + 1, at);
            break;
        }
        at += length + 1;
    }
    if (!e->code) return done;
    free(done);
    return NULL;
}

/* Take one thing back: false, told, when it cannot be. */
static bool undo_one(const Args *a, const char *folder, const Done *d, Error *e)
{
    Error why = { 0 };
    char *path = below(folder, d->to ? d->to : d->from, e);
    if (!path) return false;
    if (!d->to) rmdir(path);                               /* stays unless it is empty */
    const bool there = d->to && path_taken(path);
    free(path);
    if (!there) return true;                               /* it was never moved */
    if (move_below(folder, d->to, d->from, &why))
        return print_move(a, folder, d->to, d->from, NULL, 0, e);
    say(a, "stays: %s", why.text);
    return false;
}

/* The last thing first; the log goes when all is as it was. */
static bool undo(const Args *a, const char *folder, Error *e)
{
    size_t failed = 0, count;
    char *text = read_log(a->undo, e);
    Done *done = text ? parse_log(text, a->undo, &count, e) : NULL;
    while (done && !e->code && count--) failed += !undo_one(a, folder, &done[count], e);
    free(done);
    free(text);
    if (failed) return fail(e, "%s: %zu of its lines could not be taken back", a->undo, failed);
    return !e->code && (!unlink(a->undo)
                        || fail(e, "%s: cannot remove it: %s", a->undo, strerror(errno)));
}

static bool organize(Finder *k, const Labels *l)
{
    const char *folder = k->a->options->operands.at[0];
    Moves m = { .folder = folder };
    Index x = { 0 };
    IndexCounts n;
    bool ok = update(k, &x, folder, k->a->index, &n) && plan_moves(k, &m, l, &x);
    if (ok && k->a->apply) ok = apply_moves(k->a, &m, l, k->e);
    else
        for (size_t i = 0; ok && i < m.count; i++)
            ok = print_move(k->a, folder, m.at[i].from, m.at[i].to, l->list.at[m.at[i].label],
                            m.at[i].p, k->e);
    moves_free(&m);
    index_close(&x);
    return ok;
}

int verb_organize(Args *a, Error *e)
{
    Labels labels = { 0 };
    Finder k = { .a = a, .texts = &labels.filled, .e = e };
    if (a->undo && (a->apply || a->labels || a->labels_file))
        return misuse(e, "--undo: want it without --labels and --apply"), 2;
    if (a->undo) return undo(a, a->options->operands.at[0], e) ? 0 : 1;
    if (labels_open(&labels, a, e) && check_labels(&labels, e)) organize(&k, &labels);
    labels_close(&labels);
    return finder_close(&k, !e->code) ? 0 : 1;
}
