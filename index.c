/* index.c - a library of pictures and sounds: the file, keeping it up to date, asking it. */
#include "index.h"
#include "clip.h"
#include "picture.h"
#include "wav.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>

const char *const kind_names[KINDS] = { "picture", "sound" };
const char *const kind_models[KINDS] = { "CLIP", "CLAP" };
static const char *const kind_tensors[KINDS] = { "image_embeds", "audio_embeds" };
static const char *const kind_keys[KINDS] = { "clip", "clap" };

static const char format_name[] = "fusion index", format_version[] = "1";

enum { DIM_MOST = 1 << 16, SUM = 32 };

typedef unsigned long long ull;            /* what printf takes */

static bool out_of_memory(Error *e, const char *where, size_t bytes)
{
    return fail(e, "%s: out of memory: needed %zu bytes for the index", where, bytes);
}

/* ---- opening: every byte is checked once ----------------------------------------------------- */

#define ANY UINT64_MAX

/* Tensor `name`, of this dtype and shape; columns 0: of rank 1. */
static const Entry *want_tensor(const Index *x, const char *name, const char *dtype, uint64_t rows,
                                uint64_t columns, Error *e)
{
    const Entry *t = weights_find(&x->map, name);
    const int rank = columns ? 2 : 1;
    if (!t) return fail(e, "%s: index: tensor '%s' is missing", x->path, name), NULL;
    if (strcmp(t->dtype, dtype) || t->rank != rank)
        return fail(e, "%s: index: tensor '%s': found %s of rank %d, want %s of rank %d", x->path,
                    name, t->dtype, t->rank, dtype, rank), NULL;
    if (rows != ANY && t->shape[0] != rows)
        return fail(e, "%s: index: tensor '%s': found %llu rows, want %llu", x->path, name,
                    (ull)t->shape[0], (ull)rows), NULL;
    if (columns && columns != ANY && t->shape[1] != columns)
        return fail(e, "%s: index: tensor '%s': found rows of %llu, want %llu", x->path, name,
                    (ull)t->shape[1], (ull)columns), NULL;
    return t;
}

static bool is_hex(const Json *j)
{
    return j && j->type == JSON_STRING && j->length == 64
        && strspn(j->text, "0123456789abcdef") == 64;
}

/* Vectors of one kind: how many, how long, of which model. */
static bool open_kind(Index *x, int kind, const Json *metadata, const float **rows, Error *e)
{
    if (!weights_find(&x->map, kind_tensors[kind])) return true;
    const Entry *t = want_tensor(x, kind_tensors[kind], "F32", ANY, ANY, e);
    const Json *model = json_get(metadata, kind_keys[kind]);
    if (!t) return false;
    if (!t->shape[0] || t->shape[0] > INT_MAX || !t->shape[1] || t->shape[1] > DIM_MOST)
        return fail(e, "%s: index: tensor '%s': found %llu x %llu, want 1..%d vectors of 1..%d",
                    x->path, kind_tensors[kind], (ull)t->shape[0], (ull)t->shape[1], INT_MAX,
                    DIM_MOST);
    if ((uintptr_t)t->at % _Alignof(float))
        return fail(e, "%s: index: tensor '%s': begins at byte %llu, want a multiple of %zu",
                    x->path, kind_tensors[kind], (ull)t->begin, _Alignof(float));
    if (!is_hex(model))
        return fail(e, "%s: index: %s: want the sum of the model, 64 hexadecimal digits", x->path,
                    kind_keys[kind]);
    memcpy(x->model[kind], model->text, 65);
    x->dim[kind] = (int)t->shape[1];
    x->count[kind] = (size_t)t->shape[0];
    *rows = t->at;
    return true;
}

bool read_shard(const char *text, int *shard, int *shards)
{
    const size_t n = strspn(text, "0123456789");
    if (n < 1 || n > 6 || text[n] != '/') return false;
    const size_t m = strspn(text + n + 1, "0123456789");
    if (m < 1 || m > 6 || text[n + 1 + m]) return false;
    *shard = (int)strtol(text, NULL, 10);
    *shards = (int)strtol(text + n + 1, NULL, 10);
    return *shard >= 1 && *shard <= *shards;
}

/* The files of one kind from file `first` on; *at moves over their paths. */
static bool open_files(Index *x, int kind, size_t first, const float *rows, const Entry *columns[3],
                       const char **at, const char *end, Error *e)
{
    const size_t n = x->count[kind];
    Indexed *f = x->files[kind] = calloc(n + 1, sizeof *f);
    if (!f) return out_of_memory(e, x->path, n * sizeof *f);
    for (size_t i = 0; i < n; i++) {
        const size_t row = first + i;
        const char *stop = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
        if (!stop)
            return fail(e, "%s: index: tensor 'paths': found %zu, want more: one a vector", x->path,
                        row);
        f[i] = (Indexed){ .path = *at, .sum = (const uint8_t *)columns[2]->at + row * SUM,
                          .at = rows + i * (size_t)x->dim[kind] };
        memcpy(&f[i].size, (const char *)columns[0]->at + row * sizeof f->size, sizeof f->size);
        memcpy(&f[i].changed, (const char *)columns[1]->at + row * sizeof f->size, sizeof f->size);
        if (stop == *at || (i && strcmp(f[i - 1].path, f[i].path) >= 0))
            return fail(e, "%s: index: path %zu: found '%.200s', want names sorted by their bytes",
                        x->path, row, f[i].path);
        *at = stop + 1;
    }
    return true;
}

static bool open_all(Index *x, Error *e)
{
    const Json *metadata = weights_metadata(&x->map, 0), *shard;
    const float *rows[KINDS] = { NULL };
    if (!json_is(json_get(metadata, "format"), format_name))
        return fail(e, "%s: found other tensors, want an index that fusion index has made",
                    x->path);
    if (!json_is(json_get(metadata, "version"), format_version))
        return fail(e, "%s: index: found another version, want %s", x->path, format_version);
    shard = json_get(metadata, "shard");
    if (shard && !read_shard(shard->text, &x->shard, &x->shards))
        return fail(e, "%s: index: shard: found '%.40s', want I/N", x->path, shard->text);
    for (int kind = 0; kind < KINDS; kind++)
        if (!open_kind(x, kind, metadata, &rows[kind], e)) return false;
    const uint64_t files = x->count[PICTURES] + x->count[SOUNDS];
    const Entry *columns[3] = { want_tensor(x, "sizes", "I64", files, 0, e),
                                want_tensor(x, "changed", "I64", files, 0, e),
                                want_tensor(x, "sha256", "U8", files, SUM, e) };
    const Entry *paths = want_tensor(x, "paths", "U8", ANY, 0, e);
    if (e->code) return false;
    const char *at = paths->at, *end = at + paths->shape[0];
    size_t first = 0;
    for (int kind = 0; kind < KINDS; first += x->count[kind++])
        if (!open_files(x, kind, first, rows[kind], columns, &at, end, e)) return false;
    return at == end || fail(e, "%s: index: tensor 'paths': found %td bytes after the last one",
                             x->path, end - at);
}

bool index_open(Index *x, const char *path, Error *e)
{
    *x = (Index){ .path = strdup(path) };
    bool ok = x->path || out_of_memory(e, path, strlen(path));
    ok = ok && weights_open(&x->map, path, NULL, e) && open_all(x, e);
    if (!ok) index_close(x);
    return ok;
}

void index_close(Index *x)
{
    for (int kind = 0; kind < KINDS; kind++) free(x->files[kind]);
    weights_close(&x->map);
    free(x->memory);
    free(x->path);
    *x = (Index){ 0 };
}

/* ---- models ---------------------------------------------------------------------------------- */

enum { WHOLE = 16 << 10, SAMPLE = 4 << 10, SAMPLES = 4 };

static void add_tensor(Sha256 *sum, const Entry *t)
{
    const size_t n = (size_t)(t->end - t->begin);
    sha256_add(sum, t->name, t->name_length);
    sha256_add(sum, "", 1);
    sha256_add(sum, t->dtype, strlen(t->dtype) + 1);
    sha256_add(sum, t->shape, (size_t)t->rank * sizeof *t->shape);
    if (n <= WHOLE) {
        sha256_add(sum, t->at, n);
        return;
    }
    for (size_t i = 0; i < SAMPLES; i++)
        sha256_add(sum, (const char *)t->at + (n - SAMPLE) * i / (SAMPLES - 1), SAMPLE);
}

bool index_identity(const Weights *w, const char *folder, char hex[65], Error *e)
{
    static const char *const configs[] = { "config.json", "preprocessor_config.json",
                                           "processor_config.json" };
    Sha256 sum;
    sha256_start(&sum);
    for (size_t i = 0; i < countof(configs); i++) {
        char *path = path_join(folder, configs[i]);
        File f = { 0 };
        bool ok = path || out_of_memory(e, folder, strlen(folder));
        if (ok && file_exists(path)) ok = file_map(&f, path, 0, e);
        free(path);
        if (!ok) return false;
        sha256_add(&sum, f.at, f.size);
        file_unmap(&f);
    }
    for (int i = 0; i < w->count; i++) add_tensor(&sum, &w->entries[w->by_name[i]]);
    sha256_end(&sum, hex);
    return true;
}

bool index_of_model(const Index *x, int kind, const char *model, int dim, Error *e)
{
    if (!x->count[kind]) return true;
    if (strcmp(x->model[kind], model))
        return fail(e, "%s: index: made with another %s model: found %.12s, this one is %.12s",
                    x->path, kind_models[kind], x->model[kind], model);
    return x->dim[kind] == dim
        || fail(e, "%s: index: tensor '%s': found vectors of %d, this model has %d", x->path,
                kind_tensors[kind], x->dim[kind], dim);
}

/* ---- writing --------------------------------------------------------------------------------- */

/* What an index is made of: sorted lists, the models behind them. */
typedef struct {
    Indexed *at[KINDS]; size_t count[KINDS];
    int dim[KINDS]; const char *model[KINDS];
    int shard, shards;
} Lists;

static int by_path(const void *a, const void *b)
{
    return strcmp(((const Indexed *)a)->path, ((const Indexed *)b)->path);
}

/* One column of all files, value by value. */
static bool write_column(SafeWriter *s, const Lists *l, int column, Error *e)
{
    bool ok = true;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; ok && i < l->count[kind]; i++) {
            const Indexed *f = &l->at[kind][i];
            ok = column == 0   ? safe_more(s, &f->size, sizeof f->size, e)
                 : column == 1 ? safe_more(s, &f->changed, sizeof f->changed, e)
                 : column == 2 ? safe_more(s, f->sum, SUM, e)
                               : safe_more(s, f->path, strlen(f->path) + 1, e);
        }
    return ok;
}

static bool write_tensors(SafeWriter *s, const Lists *l, const char *path, Error *e)
{
    size_t files = l->count[PICTURES] + l->count[SOUNDS], names = 0;
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < l->count[kind]; i++) names += strlen(l->at[kind][i].path) + 1;
    if (files > INT_MAX || names > INT_MAX)          /* unreached: it takes 2 GB of paths */
        return fail(e, "%s: index: found %zu files, %zu bytes of paths, want at most %d", path,
                    files, names, INT_MAX);
    for (int kind = 0; kind < KINDS; kind++) {
        const int shape[] = { (int)l->count[kind], l->dim[kind] };
        if (!shape[0]) continue;
        if (!safe_begin(s, kind_tensors[kind], "F32", 2, shape, e)) return false;
        for (size_t i = 0; i < l->count[kind]; i++)
            if (!safe_more(s, l->at[kind][i].at, (size_t)shape[1] * sizeof(float), e)) return false;
    }
    const int n = (int)files;
    return safe_begin(s, "sizes", "I64", 1, &n, e) && write_column(s, l, 0, e)
        && safe_begin(s, "changed", "I64", 1, &n, e) && write_column(s, l, 1, e)
        && safe_begin(s, "sha256", "U8", 2, (int[]){ n, SUM }, e) && write_column(s, l, 2, e)
        && safe_begin(s, "paths", "U8", 1, (int[]){ (int)names }, e) && write_column(s, l, 3, e);
}

static bool write_index(const Lists *l, const char *path, Error *e)
{
    const char *metadata[11] = { "format", format_name, "version", format_version };
    char shard[32];
    int used = 4;
    for (int kind = 0; kind < KINDS; kind++) {
        if (!l->count[kind]) continue;
        metadata[used++] = kind_keys[kind];
        metadata[used++] = l->model[kind];
    }
    snprintf(shard, sizeof shard, "%d/%d", l->shard, l->shards);
    if (l->shards) { metadata[used++] = "shard"; metadata[used++] = shard; }
    SafeWriter *s = safe_open(path, e);
    if (s && write_tensors(s, l, path, e)) return safe_commit(s, metadata, e);
    safe_discard(s);
    return false;
}

/* The same in memory: vectors, sums, paths in one block. */
static bool build_index(Index *x, const Lists *l, const char *where, Error *e)
{
    size_t vectors = 0, bytes = 0;
    for (int kind = 0; kind < KINDS; kind++) {
        vectors += l->count[kind] * (size_t)l->dim[kind];
        for (size_t i = 0; i < l->count[kind]; i++)
            bytes += SUM + strlen(l->at[kind][i].path) + 1;
    }
    *x = (Index){ .path = strdup(where), .memory = malloc(vectors * sizeof(float) + bytes + 1) };
    float *row = x->memory;
    char *at = (char *)(row + vectors);
    bool ok = x->path && x->memory;
    for (int kind = 0; ok && kind < KINDS; kind++) {
        const size_t dim = (size_t)l->dim[kind];
        Indexed *f = x->files[kind] = calloc(l->count[kind] + 1, sizeof *f);
        if (!(ok = f != NULL)) break;
        for (size_t i = 0; i < l->count[kind]; i++, row += dim) {
            const Indexed *from = &l->at[kind][i];
            const size_t n = strlen(from->path) + 1;
            f[i] = (Indexed){ at + SUM, from->size, from->changed, (uint8_t *)at, row };
            memcpy(row, from->at, dim * sizeof *row);
            memcpy(at, from->sum, SUM);
            memcpy(at + SUM, from->path, n);
            at += SUM + n;
        }
        x->count[kind] = l->count[kind];
        x->dim[kind] = l->dim[kind];
        if (l->count[kind]) memcpy(x->model[kind], l->model[kind], 65);
    }
    if (ok) return true;
    index_close(x);
    return out_of_memory(e, where, vectors * sizeof(float) + bytes);
}

/* ---- keeping it up to date ------------------------------------------------------------------- */

enum { BATCH = 256, BATCH_SECONDS = 30, SAVING_SHARE = 20 };

typedef struct { const Listed *file; int kind; } Task;
typedef struct { uint8_t sum[SUM]; bool found_again; } Gone;

typedef struct {
    Index x;                               /* as saved last */
    const char *folder, *path;
    const IndexJob *job;
    IndexCounts *n;
    Listing found;                         /* of this shard */
    Task *tasks; size_t task_count;
    Gone *gone; size_t gone_count;         /* whose path is no more, sorted by sum */
    Indexed *by_sum[KINDS];                /* x.files, sorted by sum */
    Indexed *fresh[KINDS]; size_t fresh_count[KINDS], fresh_room[KINDS];   /* not saved yet */
    double saved, saving;                  /* when the last save ended, how long it took */
    Error *e;
} Update;

static void skip(Update *u, const char *why)
{
    u->n->skipped++;
    if (u->job->skip) u->job->skip(u->job->self, why);
}
static void skip_listed(void *self, const char *why) { skip(self, why); }

/* FNV-1a: which shard a path belongs to. */
static bool in_shard(const IndexJob *job, const char *path)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char *c = path; *c; c++) hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
    return !job->shards || (int)(hash % (uint64_t)job->shards) + 1 == job->shard;
}

static bool list_folder(Update *u)
{
    Listing *l = &u->found;
    size_t kept = 0;
    if (!folder_list(u->folder, l, skip_listed, u, u->e)) return false;
    for (size_t i = 0; i < l->count; i++)
        if (in_shard(u->job, l->at[i].path)) l->at[kept++] = l->at[i];
        else free(l->at[i].path);
    l->count = kept;
    return true;
}

/* The file of x with this path, whichever kind it was. */
static const Indexed *file_of(const Index *x, int kind, const char *path)
{
    const Indexed key = { .path = path };
    return x->count[kind] ? bsearch(&key, x->files[kind], x->count[kind], sizeof key, by_path)
                          : NULL;
}
static bool same_state(const Indexed *f, const Listed *l)
{
    return f && l && f->size == l->size && f->changed == l->changed;
}
static bool unchanged(const Index *x, const Listed *l)
{
    return same_state(file_of(x, PICTURES, l->path), l)
        || same_state(file_of(x, SOUNDS, l->path), l);
}

/* Picture, sound or, KINDS, neither: by content; or by the name, so that a broken one is told. */
static int kind_of(const uint8_t *head, size_t n, const char *path)
{
    static const struct { const char *ending; int kind; } endings[] = {
        { ".png", PICTURES }, { ".jpg", PICTURES }, { ".jpeg", PICTURES }, { ".ppm", PICTURES },
        { ".pgm", PICTURES }, { ".pbm", PICTURES }, { ".pnm", PICTURES },  { ".wav", SOUNDS },
    };
    const char *dot = strrchr(path, '.');
    if (picture_known(head, n)) return PICTURES;
    if (sound_known(head, n)) return SOUNDS;
    for (size_t i = 0; dot && i < countof(endings); i++)
        if (!strcasecmp(dot, endings[i].ending)) return endings[i].kind;
    return KINDS;
}

/* The kind of the file that l lists; KINDS, told, when it cannot be read. */
static int look_at(Update *u, const Listed *l)
{
    uint8_t head[16];
    Error why = { 0 };
    char *path = path_join(u->folder, l->path);
    const size_t n = path ? file_head(path, head, sizeof head, &why) : 0;
    if (!path) out_of_memory(&why, u->folder, strlen(l->path));
    free(path);
    if (why.code) skip(u, why.text);
    return why.code ? KINDS : kind_of(head, n, l->path);
}

/* Map the file that l lists; false, told, when that fails. */
static bool map_listed(Update *u, const Listed *l, File *f)
{
    Error why = { 0 };
    char *path = path_join(u->folder, l->path);
    const bool ok = path ? file_map(f, path, 0, &why)
                         : out_of_memory(&why, u->folder, strlen(l->path));
    free(path);
    if (!ok) skip(u, why.text);
    return ok;
}

/* What is new or changed, and of a kind that can be read. */
static bool list_tasks(Update *u, size_t todo[KINDS])
{
    u->tasks = calloc(u->found.count + 1, sizeof *u->tasks);
    if (!u->tasks) return out_of_memory(u->e, u->folder, u->found.count * sizeof *u->tasks);
    for (size_t i = 0; i < u->found.count; i++) {
        const Listed *l = &u->found.at[i];
        if (unchanged(&u->x, l)) { u->n->unchanged++; continue; }
        const int kind = look_at(u, l);
        if (kind == KINDS) continue;
        if (!u->job->model[kind][0]) { u->n->no_model[kind]++; continue; }
        u->tasks[u->task_count++] = (Task){ l, kind };
        todo[kind]++;
    }
    return true;
}

static int by_gone_sum(const void *a, const void *b) { return memcmp(a, b, SUM); }
static int by_file_sum(const void *a, const void *b)
{
    return memcmp(((const Indexed *)a)->sum, ((const Indexed *)b)->sum, SUM);
}

static bool list_gone(Update *u)
{
    const size_t most = u->x.count[PICTURES] + u->x.count[SOUNDS];
    u->gone = calloc(most + 1, sizeof *u->gone);
    if (!u->gone) return out_of_memory(u->e, u->folder, most * sizeof *u->gone);
    for (int kind = 0; kind < KINDS; kind++)
        for (size_t i = 0; i < u->x.count[kind]; i++)
            if (!listing_find(&u->found, u->x.files[kind][i].path))
                memcpy(u->gone[u->gone_count++].sum, u->x.files[kind][i].sum, SUM);
    qsort(u->gone, u->gone_count, sizeof *u->gone, by_gone_sum);
    return true;
}

static bool sort_by_sum(Update *u)
{
    for (int kind = 0; kind < KINDS; kind++) {
        const size_t n = u->x.count[kind];
        free(u->by_sum[kind]);
        u->by_sum[kind] = malloc((n + 1) * sizeof(Indexed));
        if (!u->by_sum[kind]) return out_of_memory(u->e, u->folder, n * sizeof(Indexed));
        if (!n) continue;
        memcpy(u->by_sum[kind], u->x.files[kind], n * sizeof(Indexed));
        qsort(u->by_sum[kind], n, sizeof(Indexed), by_file_sum);
    }
    return true;
}

/* x and what is fresh; with last, without what is gone or could not be read again. */
static bool join(Update *u, bool last, Lists *l)
{
    *l = (Lists){ .shard = u->job->shard, .shards = u->job->shards };
    for (int kind = 0; kind < KINDS; kind++) {
        const Index *x = &u->x;
        const size_t n = x->count[kind], m = u->fresh_count[kind];
        const Indexed *old = x->files[kind], *new = u->fresh[kind];
        Indexed *out = l->at[kind] = malloc((n + m + 1) * sizeof *out);
        if (!out) return out_of_memory(u->e, u->folder, (n + m) * sizeof *out);
        if (m) qsort(u->fresh[kind], m, sizeof *new, by_path);
        for (size_t i = 0, j = 0; i < n || j < m;) {
            const int order = i == n ? 1 : j == m ? -1 : strcmp(old[i].path, new[j].path);
            const Indexed *next = order < 0 ? &old[i] : &new[j];
            i += order <= 0;
            j += order >= 0;
            if (!last || same_state(next, listing_find(&u->found, next->path)))
                out[l->count[kind]++] = *next;
        }
        l->dim[kind] = n ? x->dim[kind] : u->job->dim[kind];
        l->model[kind] = n ? x->model[kind] : u->job->model[kind];
    }
    return true;
}

static void lists_free(Lists *l)
{
    for (int kind = 0; kind < KINDS; kind++) free(l->at[kind]);
}

static void drop_fresh(Update *u)
{
    for (int kind = 0; kind < KINDS; kind++) {
        for (size_t i = 0; i < u->fresh_count[kind]; i++) free((float *)u->fresh[kind][i].at);
        u->fresh_count[kind] = 0;
    }
}

/* Put lists in place of x: through the file, where there is one. */
static bool replace(Update *u, const Lists *l)
{
    Index next;
    const bool ok = !u->path ? build_index(&next, l, u->folder, u->e)
                             : write_index(l, u->path, u->e) && index_open(&next, u->path, u->e);
    if (!ok) return false;
    index_close(&u->x);
    u->x = next;
    drop_fresh(u);
    return true;
}

static bool save_batch(Update *u)
{
    Lists l;
    const double began = now();
    const bool ok = join(u, false, &l) && replace(u, &l) && sort_by_sum(u);
    lists_free(&l);
    u->saved = now();
    u->saving = u->saved - began;
    return ok;
}

static bool save_last(Update *u)
{
    Lists l;
    bool same = u->path && file_exists(u->path), ok = join(u, true, &l);
    for (int kind = 0; ok && kind < KINDS; kind++)
        same = same && !u->fresh_count[kind] && l.count[kind] == u->x.count[kind];
    ok = ok && (same || replace(u, &l));
    lists_free(&l);
    return ok;
}

/* The vector of a file's bytes: of the file in the index that has them, or embedded; then a new
 * file of the index. */
static bool read_bytes(Update *u, const Task *t, const File *f, const uint8_t sum[SUM], Error *why)
{
    const int kind = t->kind;
    const size_t dim = (size_t)u->job->dim[kind], n = u->fresh_count[kind];
    if (n == u->fresh_room[kind]) {
        Indexed *more = realloc(u->fresh[kind], (2 * n + BATCH) * sizeof *more);
        if (!more) return out_of_memory(u->e, f->path, (2 * n + BATCH) * sizeof *more);
        u->fresh[kind] = more;
        u->fresh_room[kind] = 2 * n + BATCH;
    }
    float *at = malloc(dim * sizeof *at + SUM);
    if (!at) return out_of_memory(u->e, f->path, dim * sizeof *at);
    const Indexed key = { .sum = sum };
    const Indexed *like = u->x.count[kind] ? bsearch(&key, u->by_sum[kind], u->x.count[kind],
                                                     sizeof key, by_file_sum) : NULL;
    if (like) memcpy(at, like->at, dim * sizeof *at);
    else if (u->job->embed(u->job->self, kind, f->at, f->size, f->path, at, why))
        normalize(at, (int)dim);
    else {
        free(at);
        return false;
    }
    memcpy(at + dim, sum, SUM);
    u->fresh[kind][u->fresh_count[kind]++] =
        (Indexed){ t->file->path, t->file->size, t->file->changed, (uint8_t *)(at + dim), at };
    return true;
}

/* Whether the bytes of a path that is no more are these; each is found again once. */
static bool find_again(Update *u, const uint8_t sum[SUM])
{
    Gone *g = u->gone_count ? bsearch(sum, u->gone, u->gone_count, sizeof *g, by_gone_sum) : NULL;
    while (g && g > u->gone && !memcmp(g[-1].sum, sum, SUM)) g--;
    for (; g && g < u->gone + u->gone_count && !memcmp(g->sum, sum, SUM); g++)
        if (!g->found_again) return g->found_again = true;
    return false;
}

static void digest(const File *f, uint8_t out[SUM])
{
    Sha256 s;
    char hex[65];
    sha256_start(&s);
    sha256_add(&s, f->at, f->size);
    sha256_end(&s, hex);
    for (int i = 0; i < SUM; i++)
        out[i] = (uint8_t)((strchr("0123456789abcdef", hex[2 * i]) - "0123456789abcdef") << 4
                           | (strchr("0123456789abcdef", hex[2 * i + 1]) - "0123456789abcdef"));
}

/* One new or changed file.  False only for what ends the whole update. */
static bool do_task(Update *u, const Task *t)
{
    const Indexed *was = file_of(&u->x, t->kind, t->file->path);
    const bool there = was || file_of(&u->x, !t->kind, t->file->path);
    Error why = { 0 };
    uint8_t sum[SUM];
    File f;
    if (!map_listed(u, t->file, &f)) return true;
    digest(&f, sum);
    const bool touched = was && !memcmp(was->sum, sum, SUM);
    const bool ok = read_bytes(u, t, &f, sum, &why);
    file_unmap(&f);
    if (u->e->code) return false;
    if (!ok) skip(u, why.text);
    else if (touched) u->n->unchanged++;
    else if (there) u->n->changed++;
    else if (find_again(u, sum)) u->n->renamed++;
    else u->n->added++;
    return true;
}

static bool save_is_due(const Update *u)
{
    const double worked = now() - u->saved;
    return u->path && worked >= SAVING_SHARE * u->saving
        && (worked >= BATCH_SECONDS || u->fresh_count[PICTURES] + u->fresh_count[SOUNDS] >= BATCH);
}

static bool do_tasks(Update *u)
{
    u->saved = now();
    for (size_t i = 0; i < u->task_count; i++) {
        if (!do_task(u, &u->tasks[i]) || (save_is_due(u) && !save_batch(u))) return false;
        if (u->job->step) u->job->step(u->job->self, i + 1, u->task_count);
    }
    return save_last(u);
}

/* The index can be written, and one that is there already is of this job. */
static bool open_before(Update *u)
{
    const IndexJob *job = u->job;
    if (!u->path) return true;
    Output *o = output_open(u->path, u->e);
    output_discard(o);
    if (!o || !path_taken(u->path)) return o != NULL;
    if (!index_open(&u->x, u->path, u->e)) return false;
    for (int kind = 0; kind < KINDS; kind++)
        if (job->model[kind][0]
            && !index_of_model(&u->x, kind, job->model[kind], job->dim[kind], u->e)) return false;
    return (u->x.shard == job->shard && u->x.shards == job->shards)
        || fail(u->e, "%s: index: found shard %d/%d, this one is %d/%d (0/0: all files)", u->path,
                u->x.shard, u->x.shards, job->shard, job->shards);
}

bool index_update(Index *x, const char *folder, const char *path, const IndexJob *job,
                  IndexCounts *n, Error *e)
{
    Update u = { .folder = folder, .path = path, .job = job, .n = n, .e = e };
    size_t todo[KINDS] = { 0 };
    *n = (IndexCounts){ 0 };
    bool ok = open_before(&u) && list_folder(&u) && list_tasks(&u, todo) && list_gone(&u)
        && sort_by_sum(&u);
    if (ok && (!job->begin || job->begin(job->self, todo))) ok = do_tasks(&u);
    n->deleted = u.gone_count;
    for (size_t i = 0; i < u.gone_count; i++) n->deleted -= u.gone[i].found_again;
    drop_fresh(&u);
    for (int kind = 0; kind < KINDS; kind++) {
        free(u.fresh[kind]);
        free(u.by_sum[kind]);
    }
    free(u.gone);
    free(u.tasks);
    listing_free(&u.found);
    *x = u.x;
    if (!ok) index_close(x);
    return ok;
}

/* ---- merging --------------------------------------------------------------------------------- */

/* All files of one kind into l, sorted; of equal ones the first stays. */
static bool merge_kind(const Index *x, int count, int kind, Lists *l, Error *e)
{
    const Index *first = NULL;
    size_t n = 0;
    for (int i = 0; i < count; i++) n += x[i].count[kind];
    Indexed *all = l->at[kind] = malloc((n + 1) * sizeof *all);
    if (!all) return out_of_memory(e, x->path, n * sizeof *all);
    n = 0;
    for (int i = 0; i < count; i++) {
        if (!x[i].count[kind]) continue;
        if (!first) first = &x[i];
        if (!index_of_model(&x[i], kind, first->model[kind], first->dim[kind], e)) return false;
        memcpy(all + n, x[i].files[kind], x[i].count[kind] * sizeof *all);
        n += x[i].count[kind];
    }
    if (!first) return true;
    l->dim[kind] = first->dim[kind];
    l->model[kind] = first->model[kind];
    qsort(all, n, sizeof *all, by_path);
    for (size_t i = 0; i < n; i++) {
        const Indexed *last = l->count[kind] ? &all[l->count[kind] - 1] : NULL;
        if (!last || strcmp(last->path, all[i].path)) all[l->count[kind]++] = all[i];
        else if (memcmp(last->sum, all[i].sum, SUM) || last->changed != all[i].changed)
            return fail(e, "%s: is in two of the indexes, and not the same file", last->path);
    }
    return true;
}

bool index_merge(const char *const *paths, int count, const char *out, Error *e)
{
    Index *x = calloc((size_t)count + 1, sizeof *x);
    Lists l = { 0 };
    bool ok = x || out_of_memory(e, out, (size_t)count * sizeof *x);
    for (int i = 0; ok && i < count; i++) ok = index_open(&x[i], paths[i], e);
    for (int kind = 0; ok && kind < KINDS; kind++) ok = merge_kind(x, count, kind, &l, e);
    ok = ok && write_index(&l, out, e);
    lists_free(&l);
    for (int i = 0; x && i < count; i++) index_close(&x[i]);
    free(x);
    return ok;
}

/* ---- asking it ------------------------------------------------------------------------------- */

int hit_order(const void *a, const void *b)
{
    const Hit *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    const int order = strcmp(x->file->path, y->file->path);
    return order ? order : x->kind - y->kind;
}

/* A heap whose root is the worst: hit i goes down to its place. */
static void sift(Hit *hits, int n, int i)
{
    for (int child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && hit_order(&hits[child + 1], &hits[child]) > 0) child++;
        if (hit_order(&hits[child], &hits[i]) <= 0) return;
        const Hit worse = hits[child];
        hits[child] = hits[i];
        hits[i] = worse;
    }
}

static Tensor rows_of(const Index *x, int kind, size_t first, size_t count)
{
    const size_t dim = (size_t)x->dim[kind];
    return (Tensor){ .at = (float *)x->files[kind]->at + first * dim, .b = 1, .h = (int)count,
                     .w = 1, .c = (int)dim };
}

static bool not_finite(const Index *x, int kind, size_t row, Error *e)
{
    return fail(e, "%s: index: tensor '%s': row %zu is not finite", x->path, kind_tensors[kind],
                row);
}

bool index_search(const Index *x, int kind, const float *query, int top, Hit *hits, int *count,
                  Error *e)
{
    const size_t n = x->count[kind];
    int found = 0;
    *count = 0;
    if (!n) return true;
    float *scores = malloc(n * sizeof *scores);
    if (!scores) return out_of_memory(e, x->path, n * sizeof *scores);
    dots(rows_of(x, kind, 0, n), query, scores);
    for (size_t i = 0; i < n; i++) {
        const Hit hit = { scores[i], kind, &x->files[kind][i] };
        if (!(scores[i] - scores[i] == 0)) {
            free(scores);
            return not_finite(x, kind, i, e);
        }
        if (found < top) {
            hits[found++] = hit;
            for (int at = found / 2 - 1; found == top && at >= 0; at--) sift(hits, found, at);
        } else if (hit_order(&hit, hits) < 0) {
            hits[0] = hit;
            sift(hits, found, 0);
        }
    }
    free(scores);
    qsort(hits, (size_t)found, sizeof *hits, hit_order);
    *count = found;
    return true;
}

static int alike_order(const void *a, const void *b)
{
    const Alike *x = a, *y = b;
    if (x->same != y->same) return x->same ? -1 : 1;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    const int order = strcmp(x->a->path, y->a->path);
    return order ? order : strcmp(x->b->path, y->b->path);
}

enum { SQUARE = 512 };                     /* files a side of one product */

/* The pairs of files from i and from j on, i before j. */
static bool alike_square(const Index *x, int kind, size_t i, size_t j, double threshold, Arena *m,
                         Alike **pairs, size_t *count, size_t *room, Error *e)
{
    const size_t n = x->count[kind], ni = zmin(SQUARE, n - i), nj = zmin(SQUARE, n - j);
    const Indexed *f = x->files[kind];
    const Linear others = { .w = { f[j].at, F32, 2, { (int)nj, x->dim[kind], 1, 1 } } };
    m->used = 0;
    const Tensor scores = linear(m, rows_of(x, kind, i, ni), &others);       /* [1,ni,1,nj] */
    for (size_t r = 0; m->base && r < ni; r++)
        for (size_t c = i == j ? r + 1 : 0; c < nj; c++) {
            const double score = scores.at[r * nj + c];
            const Indexed *a = &f[i + r], *b = &f[j + c];
            if (!(score - score == 0)) return not_finite(x, kind, i + r, e);
            const bool same = !memcmp(a->sum, b->sum, SUM);
            if (!same && score < threshold) continue;
            if (*count == *room) {
                Alike *more = realloc(*pairs, (2 * *room + 64) * sizeof *more);
                if (!more) return out_of_memory(e, x->path, (2 * *room + 64) * sizeof *more);
                *pairs = more;
                *room = 2 * *room + 64;
            }
            (*pairs)[(*count)++] = (Alike){ score, same, a, b };
        }
    return true;
}

bool index_alike(const Index *x, int kind, double threshold, Alike **pairs, size_t *count,
                 Error *e)
{
    const size_t n = x->count[kind];
    size_t room = 0;
    Arena m = { 0 };
    *pairs = NULL;
    *count = 0;
    if (!n) return true;
    for (size_t tail = (n - 1) / SQUARE * SQUARE, i = 0; i < 3; i++)        /* only counted */
        alike_square(x, kind, i == 2 ? tail : 0, i ? tail : 0, threshold, &m, pairs, count, &room,
                     e);
    bool ok = arena_open(&m, m.peak, NULL, e);
    for (size_t i = 0; ok && i < n; i += SQUARE)
        for (size_t j = i; ok && j < n; j += SQUARE)
            ok = alike_square(x, kind, i, j, threshold, &m, pairs, count, &room, e);
    arena_close(&m);
    if (ok && *count) qsort(*pairs, *count, sizeof **pairs, alike_order);
    if (ok) return true;
    free(*pairs);
    *pairs = NULL;
    return false;
}
