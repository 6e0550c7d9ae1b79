/* safetensors.c - weights: reading them, binding them to structs, writing tensors.
 *
 * A file is  u64 N little-endian | N bytes of JSON | data;  the JSON maps names to dtype, shape and
 * data_offsets [begin, end) counted from the start of the data.  Every rule of the format's README
 * and of its reference reader is checked here, once, so that an Entry can be trusted: its bytes lie
 * in the map and are as many as its shape needs. */
#include "io.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>

enum { HEADER_MOST = 100 * 1000 * 1000, INDEX_MOST = 64 << 20, SHARDS_MOST = 1024 };
enum { NAME_MOST = 512 };                  /* of names that the program makes */

static const struct { const char *name; unsigned bits; int type; } dtypes[] = {
    { "F32", 32, F32 },             { "F16", 16, F16 },             { "BF16", 16, BF16 },
    { "F64", 64, NOT_COMPUTED },    { "I64", 64, NOT_COMPUTED },    { "I32", 32, NOT_COMPUTED },
    { "I16", 16, NOT_COMPUTED },    { "I8", 8, NOT_COMPUTED },      { "U64", 64, NOT_COMPUTED },
    { "U32", 32, NOT_COMPUTED },    { "U16", 16, NOT_COMPUTED },    { "U8", 8, NOT_COMPUTED },
    { "BOOL", 8, NOT_COMPUTED },    { "C64", 64, NOT_COMPUTED },    { "F4", 4, NOT_COMPUTED },
    { "F6_E2M3", 6, NOT_COMPUTED }, { "F6_E3M2", 6, NOT_COMPUTED }, { "F8_E5M2", 8, NOT_COMPUTED },
    { "F8_E4M3", 8, NOT_COMPUTED }, { "F8_E8M0", 8, NOT_COMPUTED },
    { "F8_E4M3FNUZ", 8, NOT_COMPUTED }, { "F8_E5M2FNUZ", 8, NOT_COMPUTED },
};

typedef unsigned long long ull;            /* what printf takes */

static bool out_of_memory(Error *e, const char *path, size_t bytes, const char *purpose)
{
    return fail(e, "%s: out of memory: needed %zu bytes for %s", path, bytes, purpose);
}

/* The part of alternatives "a|b|c" that begins at *at; moves on, to NULL after the last. */
static size_t next_alternative(const char **at, const char **part)
{
    size_t n = strcspn(*at, "|");
    *part = *at;
    *at = (*at)[n] ? *at + n + 1 : NULL;
    return n;
}

/* ---- one header ------------------------------------------------------------------------------ */

static uint64_t header_length(const File *f)
{
    uint64_t n = 0;
    for (int i = 7; i >= 0; i--) n = n << 8 | f->at[i];
    return n;
}

/* The format's only reserved key: strings to strings. */
static bool check_metadata(const Json *header, const char *path, Error *e)
{
    const Json *metadata = json_get(header, "__metadata__");
    char shown[SHOWN];
    if (metadata && metadata->type != JSON_OBJECT)
        return fail(e, "%s: __metadata__ is not an object of strings", path);
    for (const Json *j = metadata ? metadata->first : NULL; j; j = j->next)
        if (j->type != JSON_STRING)
            return fail(e, "%s: __metadata__: the value of \"%s\" is not a string", path,
                        name_shown(j->key, j->key_length, shown));
    return true;
}

/* The header of file i into w->headers. */
static bool read_header(Weights *w, int i, Error *e)
{
    const File *f = &w->files[i];
    if (f->size < 8)
        return fail(e, "%s: too short for the header length of safetensors, found %zu bytes,"
                    " want at least 8", f->path, f->size);
    uint64_t n = header_length(f);
    const char *foreign = f->size > 8 && f->at[8] == '{' ? NULL : foreign_format(f->at, f->size);
    const char *hint = foreign ? "; it looks like " : "";
    if (!foreign) foreign = "";
    if (n > HEADER_MOST)
        return fail(e, "%s: not safetensors: header length is %llu, want at most %d%s%s",
                    f->path, (ull)n, HEADER_MOST, hint, foreign);
    if (n > f->size - 8)
        return fail(e, "%s: file has %zu bytes, needs %llu for its header: %s%s%s", f->path,
                    f->size, (ull)n + 8, *foreign ? "not safetensors" : "truncated download?",
                    hint, foreign);

    Error inner = { 0 };
    w->headers[i] = json_parse_header((const char *)f->at + 8, (size_t)n, 8, f->path, &inner);
    if (!w->headers[i]) return fail(e, "%s%s%s", inner.text, hint, foreign);
    if (w->headers[i]->type != JSON_OBJECT)
        return fail(e, "%s: the header is not a JSON object%s%s", f->path, hint, foreign);
    return check_metadata(w->headers[i], f->path, e);
}

/* ---- its tensors ----------------------------------------------------------------------------- */

/* path: tensor 'NAME': message. */
PRINTF(4, 5)
static bool wrong(Error *e, const char *path, const Entry *t, const char *format, ...)
{
    char what[300], shown[SHOWN];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return fail(e, "%s: tensor '%s': %s", path, name_shown(t->name, t->name_length, shown), what);
}

/* An integer of the format: digits alone, 0..2^64-1. */
static bool read_u64(const Json *j, uint64_t *out)
{
    *out = 0;
    if (j->type != JSON_NUMBER) return false;
    for (const char *c = j->text; *c; c++) {
        if (*c < '0' || *c > '9') return false;
        uint64_t digit = (uint64_t)(*c - '0');
        if (*out > (UINT64_MAX - digit) / 10) return false;
        *out = *out * 10 + digit;
    }
    return true;
}

/* The dtype of t, with its width in bits. */
static bool read_dtype(Entry *t, const Json *dtype, const char *path, unsigned *bits, Error *e)
{
    char shown[SHOWN];
    if (!dtype) return wrong(e, path, t, "dtype is missing");
    if (dtype->type != JSON_STRING) return wrong(e, path, t, "dtype is not a string");
    for (size_t i = 0; i < countof(dtypes); i++) {
        if (!json_is(dtype, dtypes[i].name)) continue;
        t->dtype = dtypes[i].name;
        t->type = dtypes[i].type;
        *bits = dtypes[i].bits;
        return true;
    }
    return wrong(e, path, t, "dtype \"%s\" is not known, want one of safetensors 0.8 (F32, F16,"
                 " BF16, I64, ...)", name_shown(dtype->text, dtype->length, shown));
}

/* The shape of t into shape, and the bytes that it needs. */
static bool read_shape(Entry *t, const Json *json, const char *path, unsigned bits, uint64_t *shape,
                       uint64_t *bytes, Error *e)
{
    char shown[SHOWN];
    uint64_t size = 1;
    if (!json) return wrong(e, path, t, "shape is missing");
    if (json->type != JSON_ARRAY) return wrong(e, path, t, "shape is not an array");
    t->rank = json->count;
    t->shape = shape;
    for (const Json *j = json->first; j; j = j->next, shape++) {
        if (!read_u64(j, shape))
            return wrong(e, path, t, "shape: found %s, want whole numbers in 0..2^64-1",
                         j->type == JSON_NUMBER ? name_shown(j->text, j->length, shown)
                                                : "what is no number");
        if (*shape && size > UINT64_MAX / *shape)
            return wrong(e, path, t, "size overflows: more than 2^64 values");
        size *= *shape;
    }
    if (size > UINT64_MAX / bits)
        return wrong(e, path, t, "size overflows: %llu values of %u bits", (ull)size, bits);
    if (size * bits % 8)
        return wrong(e, path, t, "%llu values of %u bits do not fill whole bytes", (ull)size, bits);
    *bytes = size * bits / 8;
    return true;
}

static bool read_offsets(Entry *t, const Json *json, const char *path, uint64_t bytes, Error *e)
{
    if (!json) return wrong(e, path, t, "data_offsets is missing");
    if (json->type != JSON_ARRAY || json->count != 2)
        return wrong(e, path, t, "data_offsets is not an array of two numbers");
    if (!read_u64(json->first, &t->begin) || !read_u64(json->first->next, &t->end))
        return wrong(e, path, t, "data_offsets: want whole numbers in 0..2^64-1");
    if (t->end < t->begin)
        return wrong(e, path, t, "data_offsets run backwards, from %llu to %llu",
                     (ull)t->begin, (ull)t->end);
    if (t->end - t->begin != bytes)
        return wrong(e, path, t, "its shape needs %llu bytes of %s, data_offsets has %llu",
                     (ull)bytes, t->dtype, (ull)(t->end - t->begin));
    return true;
}

/* One member of a header into t, whose file is set; t->at waits until the offsets are checked. */
static bool read_entry(const Weights *w, const Json *json, Entry *t, uint64_t *shape, Error *e)
{
    const char *path = w->files[t->file].path;
    unsigned bits = 0;
    uint64_t bytes = 0;
    t->name = json->key;
    t->name_length = json->key_length;
    if (json->type != JSON_OBJECT)
        return wrong(e, path, t, "its entry is not an object of dtype, shape and data_offsets");
    return read_dtype(t, json_get(json, "dtype"), path, &bits, e)
        && read_shape(t, json_get(json, "shape"), path, bits, shape, &bytes, e)
        && read_offsets(t, json_get(json, "data_offsets"), path, bytes, e);
}

static int by_offset(const void *a, const void *b)
{
    const Entry *x = *(const Entry *const *)a, *y = *(const Entry *const *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* The tensors of one file, sorted here by place, must tile its data: no hole, no overlap, nothing
 * after them. */
static bool check_tiling(const File *f, Entry **sorted, size_t n, Error *e)
{
    uint64_t end = 0, start = 8 + header_length(f), data = f->size - start;
    char shown[SHOWN];
    if (n) qsort(sorted, n, sizeof *sorted, by_offset);
    for (size_t i = 0; i < n; end = sorted[i++]->end) {
        const Entry *t = sorted[i], *before = i ? sorted[i - 1] : NULL;
        if (t->begin > end)
            return wrong(e, f->path, t, "begins at byte %llu of the data, want %llu: the %llu bytes"
                         " before it are no tensor's",
                         (ull)t->begin, (ull)end, (ull)(t->begin - end));
        if (t->begin < end)
            return wrong(e, f->path, t, "data_offsets [%llu, %llu] overlap those of '%s',"
                         " [%llu, %llu]", (ull)t->begin, (ull)t->end,
                         name_shown(before->name, before->name_length, shown),
                         (ull)before->begin, (ull)before->end);
    }
    /* unreached: shapes of 2^64 bytes are refused before */
    if (end > UINT64_MAX - start)
        return wrong(e, f->path, sorted[n - 1], "data_offsets end at %llu, no file is so long",
                     (ull)end);
    if (end > data)
        return fail(e, "%s: file has %zu bytes, needs %llu: truncated download?", f->path, f->size,
                    (ull)(start + end));
    if (end < data)
        return fail(e, "%s: file has %zu bytes, needs %llu: what are the %llu bytes after the last"
                    " tensor?", f->path, f->size, (ull)(start + end), (ull)(data - end));
    return true;
}

/* Entries of file i from w->count on; sorted has room for all entries. */
static bool read_file(Weights *w, int i, Entry **sorted, uint64_t **shapes, Error *e)
{
    const File *f = &w->files[i];
    size_t n = 0;
    for (const Json *j = w->headers[i]->first; j; j = j->next) {
        if (j->key_length == 12 && !memcmp(j->key, "__metadata__", 12)) continue;
        Entry *t = &w->entries[w->count];
        t->file = i;
        if (!read_entry(w, j, t, *shapes, e)) return false;
        *shapes += t->rank;
        sorted[n++] = t;
        w->count++;
    }
    if (!check_tiling(f, sorted, n, e)) return false;
    for (size_t k = 0; k < n; k++) sorted[k]->at = f->at + 8 + header_length(f) + sorted[k]->begin;
    return true;
}

static int compare_names(const char *x, size_t n, const char *y, size_t m)
{
    int order = memcmp(x, y, zmin(n, m));
    return order ? order : n < m ? -1 : n > m;
}

static int by_name(const void *a, const void *b)
{
    const Entry *x = *(const Entry *const *)a, *y = *(const Entry *const *)b;
    return compare_names(x->name, x->name_length, y->name, y->name_length);
}

/* by_name, which also tells whether two shards hold one name; inside a file JSON forbids it. */
static bool sort_names(Weights *w, Entry **sorted, Error *e)
{
    for (int i = 0; i < w->count; i++) sorted[i] = &w->entries[i];
    if (w->count) qsort(sorted, (size_t)w->count, sizeof *sorted, by_name);
    for (int i = 0; i < w->count; i++) {
        w->by_name[i] = (int)(sorted[i] - w->entries);
        if (i && !by_name(&sorted[i - 1], &sorted[i]))
            return wrong(e, w->files[sorted[i]->file].path, sorted[i], "is also in %s",
                         w->files[sorted[i - 1]->file].path);
    }
    return true;
}

/* All entries of all files, whose headers are parsed. */
static bool read_entries(Weights *w, Error *e)
{
    size_t count = 0, dims = 0;
    for (int i = 0; i < w->file_count; i++) {
        for (const Json *j = w->headers[i]->first; j; j = j->next) {
            const Json *shape = json_get(j, "shape");
            dims += shape ? (size_t)shape->count : 0;
            count++;
        }
    }
    if (count > INT_MAX)                           /* unreached: a header has 100 MB */
        return fail(e, "%s: holds %zu tensors, want at most %d", w->path, count, INT_MAX);
    Entry **sorted = malloc((count + 1) * sizeof *sorted);
    w->entries = calloc(count + 1, sizeof *w->entries);
    w->by_name = calloc(count + 1, sizeof *w->by_name);
    w->shapes = calloc(dims + 1, sizeof *w->shapes);
    bool ok = (sorted && w->entries && w->by_name && w->shapes)
           || out_of_memory(e, w->path, count * sizeof(Entry), "the list of its tensors");
    uint64_t *shapes = w->shapes;
    for (int i = 0; ok && i < w->file_count; i++) ok = read_file(w, i, sorted, &shapes, e);
    ok = ok && sort_names(w, sorted, e);
    free(sorted);
    return ok;
}

/* ---- which files ----------------------------------------------------------------------------- */

/* Room for count files and their headers. */
static bool make_room(Weights *w, int count, Error *e)
{
    w->files = calloc((size_t)count, sizeof *w->files);
    w->headers = calloc((size_t)count, sizeof *w->headers);
    if (!w->files || !w->headers)
        return out_of_memory(e, w->path, (size_t)count * sizeof *w->files, "the list of its files");
    w->file_count = count;
    return true;
}

static int by_text(const void *a, const void *b)
{
    const Json *x = *(const Json *const *)a, *y = *(const Json *const *)b;
    return compare_names(x->text, x->length, y->text, y->length);
}

/* A shard is a plain file name: an index must not lead out of its folder. */
static bool check_shard_name(const Json *j, const char *index, Error *e)
{
    char shown[SHOWN];
    bool string = j->type == JSON_STRING;
    if (string && j->length && !memchr(j->text, 0, j->length) && !memchr(j->text, '/', j->length)
        && !json_is(j, ".") && !json_is(j, "..")) return true;
    return fail(e, "%s: weight_map: found %s%s, want the name of a file in the same folder", index,
                string ? "file name " : "what is no string",
                string ? name_shown(j->text, j->length, shown) : "");
}

/* The distinct file names of map into names, which has room for all its members; how many, or 0. */
static int shard_names(const Json *map, const Json **names, const char *index, Error *e)
{
    size_t n = 0, distinct = 0;
    for (const Json *j = map->first; j; j = j->next) {
        if (!check_shard_name(j, index, e)) return 0;
        names[n++] = j;
    }
    qsort(names, n, sizeof *names, by_text);
    for (size_t i = 0; i < n; i++)
        if (!i || by_text(&names[distinct - 1], &names[i])) names[distinct++] = names[i];
    if (distinct <= SHARDS_MOST) return (int)distinct;
    fail(e, "%s: weight_map names %zu files, want at most %d", index, distinct, SHARDS_MOST);
    return 0;
}

/* Map each file that the index names once. */
static bool open_shards(Weights *w, const char *folder, const Json *index, Error *e)
{
    const Json *map = json_get(index, "weight_map");
    if (!map || map->type != JSON_OBJECT || !map->count)
        return fail(e, "%s: weight_map is not an object of tensor names and file names", w->path);
    const Json **names = malloc((size_t)map->count * sizeof *names);
    if (!names) return out_of_memory(e, w->path, (size_t)map->count * sizeof *names, "its shards");
    int count = shard_names(map, names, w->path, e);
    bool ok = count && make_room(w, count, e);
    for (int i = 0; ok && i < count; i++) {
        char *path = path_join(folder, names[i]->text);
        ok = path || out_of_memory(e, w->path, names[i]->length, "a shard's name");
        if (ok && !file_exists(path))
            ok = fail(e, "%s: missing, it is a shard that %s names", path, w->path);
        ok = ok && file_map(&w->files[i], path, 0, e);
        free(path);
    }
    free(names);
    return ok;
}

static const Entry *find(const Weights *w, const char *name, size_t n)
{
    for (int low = 0, high = w->count; low < high; ) {
        int middle = low + (high - low) / 2;
        const Entry *t = &w->entries[w->by_name[middle]];
        int order = compare_names(t->name, t->name_length, name, n);
        if (!order) return t;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return NULL;
}

const Entry *weights_find(const Weights *w, const char *name)
{
    return find(w, name, strlen(name));
}

/* Every tensor that the index names must be in the shard that it says. */
static bool check_index(const Weights *w, const Json *index, Error *e)
{
    const Json *map = json_get(index, "weight_map");
    for (const Json *j = map ? map->first : NULL; j; j = j->next) {
        Entry wanted = { .name = j->key, .name_length = j->key_length };
        const Entry *t = find(w, j->key, j->key_length);
        if (!t) return wrong(e, w->path, &wanted, "is not in any shard, want it in %s", j->text);
        const char *path = w->files[t->file].path, *slash = strrchr(path, '/');
        if (strcmp(slash ? slash + 1 : path, j->text))
            return wrong(e, w->path, &wanted, "is in %s, want it in %s", path, j->text);
    }
    return true;
}

/* Nothing was found: say what was looked for, and what lies there that looks like weights. */
static bool no_weights(const char *folder, const char *stem, Error *e)
{
    static const char *const others[] = { ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5",
                                          ".onnx", ".gguf" };
    char other[SHOWN] = "", names[400] = "";
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && !*other && (entry = readdir(d)); ) {
        const char *dot = strrchr(entry->d_name, '.');
        for (size_t i = 0; dot && i < countof(others); i++)
            if (!strcmp(dot, others[i])) name_shown(entry->d_name, strlen(entry->d_name), other);
    }
    if (d) closedir(d);
    size_t used = 0;
    for (const char *at = stem, *part; at && used < sizeof names; ) {
        const char *comma = at == stem ? "" : " or ";
        int n = (int)next_alternative(&at, &part);
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%.*s.safetensors",
                                 comma, n, part);
    }
    return fail(e, "%s: no weights here, looked for %s, its .index.json and their .fp16 forms"
                "%s%s%s", folder, names, *other ? "; found " : "", other,
                *other ? ", which is another format: convert it to safetensors" : "");
}

/* The first of the files that weights_open lists; *sharded when it is an index. */
static char *find_file(const char *folder, const char *stem, bool *sharded, Error *e)
{
    static const struct { const char *ending; bool sharded; } forms[] = {
        { ".safetensors", false },      { ".safetensors.index.json", true },
        { ".fp16.safetensors", false }, { ".safetensors.index.fp16.json", true },
    };
    if (!stem) {
        fail(e, "%s: is a folder, want a .safetensors file", folder);
        return NULL;
    }
    for (const char *at = stem, *part; at; ) {
        int n = (int)next_alternative(&at, &part);
        for (size_t i = 0; i < countof(forms); i++) {
            char name[NAME_MOST];
            snprintf(name, sizeof name, "%.*s%s", n, part, forms[i].ending);
            char *path = path_join(folder, name);
            if (!path) {
                out_of_memory(e, folder, strlen(folder), "a file name");
                return NULL;
            }
            *sharded = forms[i].sharded;
            if (file_exists(path)) return path;
            free(path);
        }
    }
    no_weights(folder, stem, e);
    return NULL;
}

/* Values are used where they lie in the file. */
static bool little_endian(void)
{
    const uint16_t one = 1;
    return *(const uint8_t *)&one == 1;
}

bool weights_open(Weights *w, const char *path, const char *stem, Error *e)
{
    *w = (Weights){ 0 };
    bool folder = folder_exists(path), sharded = false;
    w->path = folder ? find_file(path, stem, &sharded, e) : strdup(path);
    if (!w->path) return out_of_memory(e, path, strlen(path), "its name");  /* unless e says more */

    Json *index = sharded ? json_read(w->path, INDEX_MOST, e) : NULL;
    bool ok = !sharded || index;
    if (sharded) ok = ok && open_shards(w, path, index, e);
    else ok = make_room(w, 1, e) && file_map(&w->files[0], w->path, 0, e);
    for (int i = 0; ok && i < w->file_count; i++) ok = read_header(w, i, e);
    ok = ok && read_entries(w, e) && check_index(w, index, e);
    if (ok && !little_endian())                    /* unreached: no such machine measures this */
        ok = fail(e, "%s: values are little-endian, this machine is not", w->path);
    json_free(index);
    if (!ok) weights_close(w);
    return ok;
}

/* ---- views ----------------------------------------------------------------------------------- */

/* What the entries of a view point to. */
struct View { char (*names)[VIEW_NAME]; uint64_t *shapes; float *values; };

/* Room for the entries of a view of w, its names, shapes and copies. */
static struct View *view_room(const Weights *w, Rename *rename, const void *self, Entry **entries,
                              Error *e)
{
    char names[3][VIEW_NAME];
    size_t count = 0, dims = 0, values = 0;
    for (int i = 0; i < w->count; i++) {
        const Entry *t = &w->entries[i];
        const Renaming how = rename(self, t, names);
        count += how == THIRDS ? 3 : how != ELSEWHERE;
        if (how == THIRDS || how == TRANSPOSED) dims += (size_t)t->rank;
        if (how == TRANSPOSED) values += (size_t)(t->end - t->begin) / 2;     /* F16 at the least */
    }
    struct View *v = calloc(1, sizeof *v);
    *entries = calloc(count + 1, sizeof **entries);
    if (v) {
        v->names = calloc(count + 3, sizeof *v->names);     /* a Rename may use three */
        v->shapes = calloc(dims + 1, sizeof *v->shapes);
        v->values = calloc(values + 1, sizeof *v->values);
    }
    if (!v || !*entries || !v->names || !v->shapes || !v->values)
        out_of_memory(e, w->path, count * sizeof **entries, "the names of its tensors");
    return v;
}

/* A third of t; its shape goes to shape. */
static bool view_thirds(Entry *out, const Entry *t, uint64_t *shape, const char *path, Error *e)
{
    const uint64_t bytes = (t->end - t->begin) / 3;
    if (!t->rank || t->shape[0] % 3)
        return wrong(e, path, t, "want its first dimension to be three of one size");
    memcpy(shape, t->shape, (size_t)t->rank * sizeof *shape);
    shape[0] /= 3;
    for (int i = 0; i < 3; i++) {
        out[i].shape = shape;
        out[i].begin = t->begin + (uint64_t)i * bytes;
        out[i].end = out[i].begin + bytes;
        out[i].at = (const char *)t->at + (size_t)i * bytes;
    }
    return true;
}

/* [n,m] -> [m,n], in floats at values. */
static bool view_transpose(Entry *out, const Entry *t, uint64_t *shape, float *values,
                           const char *path, Error *e)
{
    if (t->rank != 2 || t->type == NOT_COMPUTED)
        return wrong(e, path, t, "found %s of rank %d, want a matrix of F32, F16 or BF16", t->dtype,
                     t->rank);
    const size_t n = (size_t)t->shape[0], m = (size_t)t->shape[1];
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < m; j++)
            weight_read((Weight){ .at = t->at, .type = t->type }, i * m + j, 1, &values[j * n + i]);
    shape[0] = m;
    shape[1] = n;
    out->shape = shape;
    out->type = F32;
    out->at = values;
    return true;
}

bool weights_view(Weights *w, Rename *rename, const void *self, Error *e)
{
    Entry *entries, *out;
    struct View *v = view_room(w, rename, self, &entries, e);
    uint64_t *shape = v ? v->shapes : NULL;
    float *values = v ? v->values : NULL;
    size_t named = 0;
    bool ok = !e->code;
    out = entries;
    for (int i = 0; ok && i < w->count; i++) {
        const Entry *t = &w->entries[i];
        const Renaming how = rename(self, t, &v->names[named]);
        const int parts = how == ELSEWHERE ? 0 : how == THIRDS ? 3 : 1;
        for (int j = 0; j < parts; j++) {
            out[j] = *t;
            out[j].stored = t->name;
            if ((out[j].useless = how == USELESS)) continue;
            out[j].name = v->names[named++];
            out[j].name_length = strlen(out[j].name);
        }
        const char *path = w->files[t->file].path;
        if (how == THIRDS) ok = view_thirds(out, t, shape, path, e);
        if (how == TRANSPOSED) ok = view_transpose(out, t, shape, values, path, e);
        if (how == THIRDS || how == TRANSPOSED) shape += t->rank;
        if (how == TRANSPOSED) values += (size_t)(t->end - t->begin) / 2;
        out += parts;
    }
    w->view = v;
    free(w->entries);
    w->entries = entries;
    w->count = ok ? (int)(out - entries) : 0;
    free(w->by_name);
    w->by_name = calloc((size_t)w->count + 1, sizeof *w->by_name);
    Entry **sorted = calloc((size_t)w->count + 1, sizeof *sorted);
    if (ok && (!w->by_name || !sorted))
        ok = out_of_memory(e, w->path, (size_t)w->count * sizeof *sorted, "the list of its names");
    ok = ok && sort_names(w, sorted, e);
    free(sorted);
    return ok;
}

static void view_free(struct View *v)
{
    if (!v) return;
    free(v->names);
    free(v->shapes);
    free(v->values);
    free(v);
}

void weights_close(Weights *w)
{
    for (int i = 0; i < w->file_count; i++) {
        file_unmap(&w->files[i]);
        json_free(w->headers[i]);
    }
    free(w->files);
    free(w->headers);
    free(w->entries);
    free(w->by_name);
    free(w->shapes);
    view_free(w->view);
    free(w->path);
    *w = (Weights){ 0 };
}

const Json *weights_metadata(const Weights *w, int i)
{
    return i >= 0 && i < w->file_count ? json_get(w->headers[i], "__metadata__") : NULL;
}

/* ---- binding --------------------------------------------------------------------------------- */

/* What a character of a Bind's shape stands for. */
static int dimension(char c, const Dims *dims)
{
    return c >= '0' && c <= '9' ? c - '0' : dims->of[c & 127];
}

/* "320x320x1x1 or 320x320" from "oi11|oi". */
static const char *wanted_shape(const char *letters, const Dims *dims, char out[200])
{
    size_t used = 0;
    for (const char *at = letters, *part; at && used < 100; ) {
        const char *or = at == letters ? "" : " or ";
        size_t n = next_alternative(&at, &part);
        used += (size_t)snprintf(out + used, 20, "%s%s", or, n ? "" : "a scalar");
        for (size_t i = 0; i < n && used < 150; i++)
            used += (size_t)snprintf(out + used, 20, i ? "x%d" : "%d", dimension(part[i], dims));
    }
    return out;
}

static const char *found_shape(const Entry *t, char out[200])
{
    size_t used = 0;
    for (int i = 0; i < t->rank && used < 150; i++)
        used += (size_t)snprintf(out + used, 30, i ? "x%llu" : "%llu", (ull)t->shape[i]);
    return t->rank ? out : "a scalar";
}

/* True when one of the alternatives of letters is the shape of t. */
static bool shape_fits(const Entry *t, const char *letters, const Dims *dims)
{
    for (const char *at = letters, *part; at; ) {
        size_t n = next_alternative(&at, &part);
        bool fits = (int)n == t->rank && n <= 4;
        for (size_t i = 0; fits && i < n; i++) {
            int want = dimension(part[i], dims);
            fits = want >= 0 && t->shape[i] == (uint64_t)want;
        }
        if (fits) return true;
    }
    return false;
}

/* The first of the alternatives of names, each behind prefix, that w holds. */
static Entry *find_first(const Weights *w, const char *prefix, const char *names)
{
    for (const char *at = names, *part; at; ) {
        char name[2 * NAME_MOST];
        size_t n = next_alternative(&at, &part);
        int length = snprintf(name, sizeof name, "%s%.*s", prefix, (int)n, part);
        const Entry *t = length < (int)sizeof name ? weights_find(w, name) : NULL;
        if (t) return &w->entries[t - w->entries];
    }
    return NULL;
}

static bool bind_row(Weights *w, Weight *field, const Bind *row, const Dims *dims,
                     const char *prefix, Error *e)
{
    char found[200], wanted[200];
    *field = (Weight){ 0 };
    Entry *t = find_first(w, prefix, row->name);
    if (!t)
        return row->flags & OPTIONAL
            || fail(e, "%s: %s%s: missing%s", w->path, prefix, row->name,
                    w->view ? " (in diffusers' and transformers' names)" : "");
    const char *path = w->files[t->file].path, *name = t->stored ? t->stored : t->name;
    if (!shape_fits(t, row->shape, dims))
        return fail(e, "%s: %s: shape is %s, want %s", path, name, found_shape(t, found),
                    wanted_shape(row->shape, dims, wanted));
    if (t->type == NOT_COMPUTED)
        return fail(e, "%s: %s: dtype is %s, want F32, F16 or BF16", path, name, t->dtype);
    *field = (Weight){ .at = t->at, .type = t->type, .rank = t->rank };
    for (int i = 0; i < t->rank; i++) field->dim[i] = (int)t->shape[i];
    t->bound = true;
    return true;
}

bool bind(Weights *w, void *block, const Bind *table, Dims dims, Error *e, const char *prefix, ...)
{
    char under[NAME_MOST];
    va_list args;
    va_start(args, prefix);
    vsnprintf(under, sizeof under, prefix, args);
    va_end(args);
    for (const Bind *row = table; row->name; row++)
        if (!bind_row(w, (Weight *)((char *)block + row->field), row, &dims, under, e))
            return false;
    return true;
}

static bool ends_in(const Entry *t, const char *endings)
{
    for (const char *at = endings, *part; at && *at; ) {
        size_t n = next_alternative(&at, &part);
        if (t->name_length >= n && !memcmp(t->name + t->name_length - n, part, n)) return true;
    }
    return false;
}

int weights_unbound(const Weights *w, const char *ignored,
                    void (*each)(void *self, const Entry *t), void *self)
{
    int count = 0;
    for (int i = 0; i < w->count; i++) {
        const Entry *t = &w->entries[i];
        if (t->bound || t->useless || ends_in(t, ignored)) continue;
        if (each) each(self, t);
        count++;
    }
    return count;
}

/* ---- writing --------------------------------------------------------------------------------- */

struct SafeWriter {
    char *path;
    Output *out, *data;                    /* the header is known last, so the data wait aside */
    FILE *text;                         /* ,"name":{...} of every tensor, in entries once flushed */
    char *entries; size_t entries_length;
    char **names; size_t count, room;      /* as JSON strings, to find equal ones */
    uint64_t end, written;                 /* of the tensors begun; bytes that came */
};

SafeWriter *safe_open(const char *path, Error *e)
{
    SafeWriter *s = calloc(1, sizeof *s);
    if (!s) {
        out_of_memory(e, path, sizeof *s, "its header");
        return NULL;
    }
    s->path = strdup(path);
    s->out = s->path ? output_open(path, e) : NULL;
    s->data = s->out ? output_aside(s->out, e) : NULL;
    s->text = s->data ? open_memstream(&s->entries, &s->entries_length) : NULL;
    if (s->text) return s;
    out_of_memory(e, path, BUFSIZ, "its header");                          /* unless e says more */
    safe_discard(s);
    return NULL;
}

/* The quoted name, kept for the search of equal ones; NULL without memory. */
static const char *keep_name(SafeWriter *s, const char *name)
{
    if (s->count == s->room) {
        char **grown = realloc(s->names, (2 * s->room + 16) * sizeof *grown);
        if (!grown) return NULL;
        s->names = grown;
        s->room = 2 * s->room + 16;
    }
    char *quoted = json_quote(name, strlen(name));
    if (quoted) s->names[s->count++] = quoted;
    return quoted;
}

/* Bits of one value of a dtype, 0 where there is no such. */
static unsigned dtype_bits(const char *dtype)
{
    for (size_t i = 0; i < countof(dtypes); i++)
        if (!strcmp(dtypes[i].name, dtype)) return dtypes[i].bits;
    return 0;
}

/* What was begun must have come whole. */
static bool check_whole(const SafeWriter *s, Error *e)
{
    if (s->written == s->end) return true;
    return fail(e, "%s: tensor %s: its bytes end at %llu, want %llu", s->path,
                s->names[s->count - 1], (ull)s->written, (ull)s->end);
}

bool safe_begin(SafeWriter *s, const char *name, const char *dtype, int rank, const int *shape,
                Error *e)
{
    Entry t = { .name = name, .name_length = strlen(name) };
    const unsigned bits = dtype_bits(dtype);
    uint64_t bytes = bits / 8;
    if (!bits || bits % 8) return wrong(e, s->path, &t, "%s is not written", dtype);
    if (!strcmp(name, "__metadata__"))
        return wrong(e, s->path, &t, "the format keeps this name for itself");
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0 || (shape[i] && bytes > PTRDIFF_MAX / (uint64_t)shape[i]))
            return wrong(e, s->path, &t, "dimension %d is %d: negative or too large", i, shape[i]);
        bytes *= (uint64_t)shape[i];
    }
    if (!check_whole(s, e)) return false;
    const char *quoted = keep_name(s, name);
    if (!quoted) return out_of_memory(e, s->path, 6 * t.name_length, "a tensor's name");
    fprintf(s->text, ",%s:{\"dtype\":\"%s\",\"shape\":[", quoted, dtype);
    for (int i = 0; i < rank; i++) fprintf(s->text, i ? ",%d" : "%d", shape[i]);
    fprintf(s->text, "],\"data_offsets\":[%llu,%llu]}", (ull)s->end, (ull)(s->end + bytes));
    s->end += bytes;
    return true;
}

bool safe_more(SafeWriter *s, const void *data, size_t n, Error *e)
{
    s->written += n;
    return output_write(s->data, data, n, e);
}

bool safe_add(SafeWriter *s, const char *name, int type, int rank, const int *shape,
              const void *data, Error *e)
{
    Entry t = { .name = name, .name_length = strlen(name) };
    if (type != F32 && type != F16) return wrong(e, s->path, &t, "only F32 and F16 are written");
    return safe_begin(s, name, type == F32 ? "F32" : "F16", rank, shape, e)
        && safe_more(s, data, (size_t)(s->end - s->written), e);
}

static int by_string(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool check_distinct(SafeWriter *s, Error *e)
{
    if (s->count) qsort(s->names, s->count, sizeof *s->names, by_string);
    for (size_t i = 1; i < s->count; i++)
        if (!strcmp(s->names[i - 1], s->names[i]))
            return fail(e, "%s: two tensors of one name, %s", s->path, s->names[i]);
    return true;
}

/* The whole header into *out, which the caller frees.  Every entry brings a comma before it, which
 * serves only behind metadata. */
static bool build_header(SafeWriter *s, const char *const *metadata, char **out, size_t *length)
{
    bool ok = !fflush(s->text) && !ferror(s->text), some = metadata && *metadata;
    FILE *f = open_memstream(out, length);
    if (!f) return false;
    fputs(some ? "{\"__metadata__\":{" : "{", f);
    for (const char *const *pair = metadata; some && *pair; pair += 2) {
        char *key = json_quote(pair[0], strlen(pair[0]));
        char *value = json_quote(pair[1], strlen(pair[1]));
        ok = ok && key && value;
        if (ok) fprintf(f, "%s%s:%s", pair == metadata ? "" : ",", key, value);
        free(key);
        free(value);
    }
    if (some) fputs("}", f);
    if (s->count) fwrite(s->entries + !some, 1, s->entries_length - !some, f);
    fputs("}", f);
    ok = !ferror(f) && ok;
    return !fclose(f) && ok;
}

/* Length, header, spaces to a multiple of 8, data. */
static bool write_file(SafeWriter *s, const char *header, size_t length, Error *e)
{
    uint8_t head[8];
    size_t padded = (length + 7) / 8 * 8;
    for (int i = 0; i < 8; i++) head[i] = (uint8_t)((uint64_t)padded >> 8 * i);
    if (padded > HEADER_MOST)                      /* unreached: two million tensors */
        return fail(e, "%s: its header would have %zu bytes, want at most %d", s->path, padded,
                    HEADER_MOST);
    return output_write(s->out, head, sizeof head, e) && output_write(s->out, header, length, e)
        && output_write(s->out, "       ", padded - length, e) && output_append(s->out, s->data, e);
}

bool safe_commit(SafeWriter *s, const char *const *metadata, Error *e)
{
    char *header = NULL;
    size_t length = 0;
    bool ok = check_whole(s, e) && check_distinct(s, e);
    ok = ok && (build_header(s, metadata, &header, &length)
                || out_of_memory(e, s->path, length, "its header"));
    ok = ok && write_file(s, header, length, e);
    free(header);
    if (ok) {
        ok = output_commit(s->out, e);
        s->out = NULL;
    }
    safe_discard(s);
    return ok;
}

void safe_discard(SafeWriter *s)
{
    if (!s) return;
    output_discard(s->out);
    output_discard(s->data);
    if (s->text) fclose(s->text);
    free(s->entries);
    for (size_t i = 0; i < s->count; i++) free(s->names[i]);
    free(s->names);
    free(s->path);
    free(s);
}
