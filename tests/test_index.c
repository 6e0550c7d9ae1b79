/* test_index.c - the index of a library: what is embedded again and what is not, the file and its
 * enemies, nearest vectors against a plain search.  The embedder is a toy: DIM numbers from a sum
 * of the file's bytes. */
#include "../index.h"
#include "../clip.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 37 };

static char dir[64], folder[128], file[128];
static int embedded, skipped;

static void path_in(char out[256], const char *in, const char *name)
{
    snprintf(out, 256, "%s/%s", in, name);
}

static void write_file(const char *name, const char *text)
{
    char path[256];
    path_in(path, folder, name);
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    if (!f) return;
    fputs(text, f);
    fclose(f);
}

static void remove_file(const char *name)
{
    char path[256];
    path_in(path, folder, name);
    CHECK(!unlink(path));
}

static bool toy(void *self, int kind, const uint8_t *bytes, size_t n, const char *path, float *out,
                Error *e)
{
    uint32_t state = kind == SOUNDS ? 77 : 5;
    (void)self;
    embedded++;
    for (size_t i = 0; i < n; i++) state = state * 31 + bytes[i];
    if (n > 3 && memmem(bytes, n, "fail", 4)) return fail(e, "%s: found fail", path);
    for (int i = 0; i < DIM; i++) {
        state = state * 1664525u + 1013904223u;
        out[i] = (float)(state >> 8) / 16777216.0f - 0.5f;
    }
    return true;
}
static void count_skipped(void *self, const char *why) { (void)self; (void)why; skipped++; }

static IndexJob toy_job(void)
{
    IndexJob job = { .dim = { DIM, DIM }, .embed = toy, .skip = count_skipped };
    memset(job.model[PICTURES], 'a', 64);
    memset(job.model[SOUNDS], 'b', 64);
    return job;
}

static void begin(void)
{
    snprintf(dir, sizeof dir, "/tmp/fusion-index-XXXXXX");
    CHECK(mkdtemp(dir) != NULL);
    snprintf(folder, sizeof folder, "%s/lib", dir);
    snprintf(file, sizeof file, "%s/index", dir);
    CHECK(!mkdir(folder, 0777));
}

static void end(void)
{
    Listing l;
    Error e = { 0 };
    CHECK(folder_list(dir, &l, NULL, NULL, &e));
    for (size_t i = 0; i < l.count; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, l.at[i].path);
        unlink(path);
    }
    listing_free(&l);
    rmdir(folder);
    CHECK(!rmdir(dir));
}

static IndexCounts update(const char *path, const IndexJob *job, Index *x)
{
    IndexCounts n;
    Error e = { 0 };
    embedded = skipped = 0;
    CHECK(index_update(x, folder, path, job, &n, &e));
    CHECK_STR(e.text, "");
    return n;
}

TEST(only_new_bytes_are_embedded)
{
    const IndexJob job = toy_job();
    Index x;
    begin();
    write_file("one.ppm", "P3 one");
    write_file("two.ppm", "P3 two");
    write_file("three.wav", "RIFF____WAVEthree");
    write_file("text", "no picture");
    IndexCounts n = update(file, &job, &x);
    CHECK(n.added == 3 && embedded == 3 && x.count[PICTURES] == 2 && x.count[SOUNDS] == 1);
    CHECK_STR(x.files[PICTURES][0].path, "one.ppm");
    index_close(&x);
    n = update(file, &job, &x);
    CHECK(n.unchanged == 3 && embedded == 0);
    index_close(&x);

    remove_file("one.ppm");
    write_file("zwei.ppm", "P3 one");                      /* renamed */
    write_file("two.ppm", "P3 two, longer");               /* changed */
    write_file("copy.wav", "RIFF____WAVEthree");           /* added, with known bytes */
    n = update(file, &job, &x);
    CHECK(n.renamed == 1 && n.changed == 1 && n.added == 1 && n.deleted == 0 && embedded == 1);
    CHECK(x.count[PICTURES] == 2 && x.count[SOUNDS] == 2);
    CHECK_STR(x.files[PICTURES][1].path, "zwei.ppm");
    index_close(&x);

    write_file("two.ppm", "RIFF____WAVEnow a sound");
    n = update(file, &job, &x);
    CHECK(n.changed == 1 && x.count[PICTURES] == 1 && x.count[SOUNDS] == 3);
    index_close(&x);
    write_file("two.ppm", "nothing known, but its name says so: fail");
    n = update(file, &job, &x);
    CHECK(n.skipped == 1 && skipped == 1 && x.count[SOUNDS] == 2 && x.count[PICTURES] == 1);
    index_close(&x);
    remove_file("copy.wav");
    remove_file("three.wav");
    n = update(file, &job, &x);
    CHECK(n.deleted == 2 && x.count[SOUNDS] == 0 && x.model[SOUNDS][0] == 0);
    index_close(&x);
    end();
}

/* However many runs made it. */
TEST(the_bytes_do_not_depend_on_the_way)
{
    const IndexJob job = toy_job();
    char other[160], name[32], text[64];
    Index x;
    File a, b;
    Error e = { 0 };
    begin();
    snprintf(other, sizeof other, "%s/other", dir);
    for (int i = 0; i < 700; i++) {                        /* more than two batches */
        snprintf(name, sizeof name, "%d.ppm", i * 7919 % 1000);
        snprintf(text, sizeof text, "P3 %d", i);
        write_file(name, text);
        if (i % 300) continue;
        update(other, &job, &x);
        index_close(&x);
    }
    update(other, &job, &x);
    index_close(&x);
    update(file, &job, &x);
    CHECK(embedded == 700);
    CHECK(file_map(&a, file, 0, &e) && file_map(&b, other, 0, &e));
    CHECK(a.size == b.size && !memcmp(a.at, b.at, a.size));
    Index memory;
    update(NULL, &job, &memory);
    CHECK(memory.count[PICTURES] == 700);
    for (size_t i = 0; i < 700; i++)
        CHECK(!memcmp(memory.files[PICTURES][i].at, x.files[PICTURES][i].at, DIM * sizeof(float))
              && !strcmp(memory.files[PICTURES][i].path, x.files[PICTURES][i].path)
              && !memcmp(memory.files[PICTURES][i].sum, x.files[PICTURES][i].sum, 32));
    index_close(&memory);
    index_close(&x);
    file_unmap(&a);
    file_unmap(&b);

    char shards[3][160];
    size_t all = 0;
    for (int i = 0; i < 3; i++) {
        IndexJob part = job;
        part.shard = i + 1;
        part.shards = 3;
        snprintf(shards[i], sizeof shards[i], "%s/%d", dir, i);
        update(shards[i], &part, &x);
        CHECK(x.count[PICTURES] > 150 && x.shard == i + 1 && x.shards == 3);
        all += x.count[PICTURES];
        index_close(&x);
    }
    CHECK(all == 700);
    CHECK(index_merge((const char *[]){ shards[1], shards[2], shards[0] }, 3, other, &e));
    CHECK(file_map(&a, file, 0, &e) && file_map(&b, other, 0, &e));
    CHECK(a.size == b.size && !memcmp(a.at, b.at, a.size));
    file_unmap(&a);
    file_unmap(&b);
    end();
}

/* ---- asking ---------------------------------------------------------------------------------- */

TEST(dots_are_dot_products)
{
    Error e = { 0 };
    float x[5 * 45], q[45], got[5], want[5];
    for (int i = 0; i < 5 * 45; i++) x[i] = (float)((i * 37) % 101) / 50 - 1;
    for (int i = 0; i < 45; i++) q[i] = (float)((i * 17) % 29) / 15 - 1;
    CHECK(machine_choose(2, NULL, &e));
    for (int c = 1; c <= 45; c += 11) {
        for (int r = 0; r < 5; r++) {
            double sum = 0;
            for (int i = 0; i < c; i++) sum += (double)x[r * c + i] * q[i];
            want[r] = (float)sum;
        }
        dots((Tensor){ .at = x, .b = 1, .h = 5, .w = 1, .c = c }, q, got);
        CLOSE(got, want, 5, 1e-6);
    }
}

TEST(nearest_first)
{
    const IndexJob job = toy_job();
    char name[32], text[64];
    Index x;
    Error e = { 0 };
    float query[DIM];
    Hit hits[700];
    int found;
    begin();
    for (int i = 0; i < 600; i++) {
        snprintf(name, sizeof name, "%d.ppm", i);
        snprintf(text, sizeof text, "P3 %d", i / 2);       /* every second one is a twin */
        write_file(name, text);
    }
    update(NULL, &job, &x);
    CHECK(toy(NULL, PICTURES, (const uint8_t *)"P3 42", 5, "", query, &e));
    normalize(query, DIM);
    for (int top = 1; top < 700; top += 99) {
        CHECK(index_search(&x, PICTURES, query, top, hits, &found, &e));
        CHECK(found == imin(top, 600));
        CHECK_STR(hits[0].file->path, "84.ppm");
        CHECK(hits[0].score > 0.9999 && hits[0].score < 1.0001);
        for (int i = 1; i < found; i++) CHECK(hit_order(&hits[i - 1], &hits[i]) < 0);
        if (found > 1) CHECK_STR(hits[1].file->path, "85.ppm");
    }
    CHECK(index_search(&x, PICTURES, query, 100, hits, &found, &e));
    size_t better = 0;                                     /* as a plain search counts them */
    for (size_t i = 0; i < x.count[PICTURES]; i++)
        better += cosine(query, x.files[PICTURES][i].at, DIM) > hits[99].score + 1e-6;
    CHECK(better <= 99 && better >= 97);
    CHECK(index_search(&x, SOUNDS, query, 100, hits, &found, &e) && found == 0);

    Alike *pairs;
    size_t count, near = 0;
    for (double threshold = 1; threshold >= 0.3; threshold -= 0.7) {
        CHECK(index_alike(&x, PICTURES, threshold, &pairs, &count, &e));
        near = 0;
        for (size_t i = 0; i < 600; i++)
            for (size_t j = i + 1; j < 600; j++) {
                const Indexed *a = &x.files[PICTURES][i], *b = &x.files[PICTURES][j];
                near += !memcmp(a->sum, b->sum, 32) || cosine(a->at, b->at, DIM) >= threshold;
            }
        CHECK(count == near);
        for (size_t i = 0; i < count; i++) CHECK(pairs[i].same == (i < 300));
        for (size_t i = 301; i < count; i++) CHECK(pairs[i - 1].score >= pairs[i].score);
        free(pairs);
    }
    CHECK(near > 310);
    index_close(&x);
    end();
}

/* ---- enemies --------------------------------------------------------------------------------- */

/* An index of two pictures, wrong in one place. */
typedef struct {
    const char *format, *version, *model, *shard, *paths;
    int dim, files, sums, names; float value; bool no_sizes, as_i64;
} Enemy;

static void write_enemy(Enemy w)
{
    Error e = { 0 };
    float rows[2 * 64] = { 0 };
    int64_t numbers[64] = { 0 };
    uint8_t sums[64 * 40] = { 0 };
    const char *metadata[] = { "format", w.format, "version", w.version, "clip", w.model,
                               w.shard ? "shard" : NULL, w.shard, NULL };
    rows[0] = rows[DIM] = w.value;
    SafeWriter *s = safe_open(file, &e);
    CHECK(s != NULL);
    safe_begin(s, "image_embeds", w.as_i64 ? "I32" : "F32", 2, (int[]){ 2, w.dim }, &e);
    safe_more(s, rows, 2 * (size_t)w.dim * 4, &e);
    if (!w.no_sizes) {
        safe_begin(s, "sizes", "I64", 1, &w.files, &e);
        safe_more(s, numbers, (size_t)w.files * 8, &e);
    }
    safe_begin(s, "changed", "I64", 1, &w.files, &e);
    safe_more(s, numbers, (size_t)w.files * 8, &e);
    safe_begin(s, "sha256", "U8", 2, (int[]){ w.files, w.sums }, &e);
    safe_more(s, sums, (size_t)(w.files * w.sums), &e);
    safe_begin(s, "paths", "U8", 1, &w.names, &e);
    safe_more(s, w.paths, (size_t)w.names, &e);
    CHECK(safe_commit(s, metadata, &e));
    CHECK_STR(e.text, "");
}

static void refused(const char *fragment, Enemy w)
{
    Index x;
    Error e = { 0 };
    write_enemy(w);
    CHECK(!index_open(&x, file, &e));
    if (strncmp(e.text, file, strlen(file)) || !strstr(e.text, fragment))
        CHECK_STR(e.text, fragment);
    CHECK(x.path == NULL && x.files[0] == NULL);
}

TEST(a_broken_index_is_refused)
{
    const char *sum = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const Enemy good = { "fusion index", "1", sum, NULL, "a\0b", DIM, 2, 32, 4, 1, false, false };
    Index x;
    Error e = { 0 };
    Enemy w;
    begin();
    write_enemy(good);
    CHECK(index_open(&x, file, &e) && x.count[PICTURES] == 2);
    index_close(&x);
#define BUT(change, fragment) (w = good, w.change, refused(fragment, w))
    BUT(format = "pt", "found other tensors");
    BUT(version = "2", "another version");
    BUT(model = "0123", "64 hexadecimal digits");
    BUT(model = "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", "64 hex");
    BUT(shard = "5/4", "shard: found '5/4'");
    BUT(shard = "99999999999/4", "shard: found");
    BUT(dim = 0, "found 2 x 0");
    BUT(files = 1, "'sizes': found 1 rows, want 2");
    BUT(files = 3, "'sizes': found 3 rows, want 2");
    BUT(sums = 31, "'sha256': found rows of 31, want 32");
    BUT(names = 3, "'paths': found 1, want more");
    BUT(names = 0, "'paths': found 0, want more");
    BUT(paths = "b\0a", "path 1: found 'a', want names sorted");
    BUT(paths = "a\0a", "want names sorted");
    BUT(paths = "\0\0a", "path 0: found ''");
    BUT(paths = "a\0\0\0", "path 1: found ''");
    BUT(no_sizes = true, "'sizes' is missing");
    BUT(as_i64 = true, "found I32 of rank 2, want F32");
    w = good;
    w.paths = "a\0b\0cd";
    w.names = 6;
    refused("found 2 bytes after the last one", w);

    Hit hits[2];
    float query[DIM] = { 1 };
    int found;
    w = good;
    w.value = NAN;
    write_enemy(w);
    CHECK(index_open(&x, file, &e) && !index_search(&x, PICTURES, query, 2, hits, &found, &e));
    CHECK(strstr(e.text, "row 0 is not finite") != NULL);
    Alike *pairs = NULL;
    size_t count = 0;
    e = (Error){ 0 };
    CHECK(!index_alike(&x, PICTURES, 0.5, &pairs, &count, &e) && !pairs);
    CHECK(strstr(e.text, "row 0 is not finite") != NULL);
    e = (Error){ 0 };
    CHECK(!index_of_model(&x, PICTURES, sum, DIM + 1, &e));
    CHECK(strstr(e.text, "found vectors of 37, this model has 38") != NULL);
    index_close(&x);

    write_enemy(good);                                     /* the header one byte longer */
    FILE *f = fopen(file, "rb+");
    static uint8_t bytes[4096];
    const size_t size = fread(bytes + 1, 1, sizeof bytes - 1, f);
    const size_t header = bytes[1] | (size_t)bytes[2] << 8;
    memmove(bytes, bytes + 1, 8 + header);
    bytes[8 + header] = ' ';
    bytes[0] = (uint8_t)(header + 1);
    bytes[1] = (uint8_t)((header + 1) >> 8);
    rewind(f);
    CHECK(fwrite(bytes, 1, size + 1, f) == size + 1 && !fclose(f));
    e = (Error){ 0 };
    CHECK(!index_open(&x, file, &e) && strstr(e.text, "want a multiple of 4"));
    end();
}

TEST(every_cut_is_refused)
{
    const IndexJob job = toy_job();
    Index x;
    File whole;
    Error e = { 0 };
    begin();
    write_file("one.ppm", "P3 one");
    write_file("two.wav", "RIFF____WAVEtwo");
    update(file, &job, &x);
    index_close(&x);
    CHECK(file_map(&whole, file, 0, &e));
    uint8_t *copy = malloc(whole.size);
    const size_t size = whole.size;
    memcpy(copy, whole.at, size);
    file_unmap(&whole);
    for (size_t n = 0; n < size; n++) {
        FILE *f = fopen(file, "wb");
        CHECK(f && fwrite(copy, 1, n, f) == n);
        if (f) fclose(f);
        e = (Error){ 0 };
        CHECK(!index_open(&x, file, &e));
    }
    free(copy);
    end();
}

TEST(a_shard_is_i_of_n)
{
    static const char *const bad[] = { "", "1", "/2", "1/", "0/2", "3/2", "1/2x", "x/2", "1/x",
        "1234567/2", "1/1234567" };
    int shard, shards;
    CHECK(read_shard("2/4", &shard, &shards) && shard == 2 && shards == 4);
    CHECK(read_shard("999999/999999", &shard, &shards));
    for (size_t i = 0; i < countof(bad); i++) CHECK(!read_shard(bad[i], &shard, &shards));
}

TEST(indexes_of_other_files_are_not_merged)
{
    IndexJob job = toy_job();
    Index x;
    char other[256];
    Error e = { 0 };
    begin();
    path_in(other, dir, "other");
    write_file("one.ppm", "P3 one");
    update(file, &job, &x);
    index_close(&x);
    write_file("one.ppm", "P3 two");
    update(other, &job, &x);
    index_close(&x);
    CHECK(!index_merge((const char *const[]){ file, other }, 2, file, &e));
    CHECK(strstr(e.text, "one.ppm: is in two of the indexes, and not the same file") != NULL);
    IndexCounts n;
    job.shard = 1, job.shards = 2;
    e = (Error){ 0 };
    CHECK(!index_update(&x, folder, file, &job, &n, &e));
    CHECK(strstr(e.text, "found shard 0/0, this one is 1/2") != NULL);
    unlink(other);
    end();
}

/* Three files of the same bytes are renamed, another of them is new. */
TEST(each_of_equal_files_is_found_again_once)
{
    const IndexJob job = toy_job();
    Index x;
    begin();
    for (int i = 0; i < 3; i++) write_file((const char *[]){ "a.ppm", "b.ppm", "c.ppm" }[i],
        "P3 same");
    update(file, &job, &x);
    index_close(&x);
    for (int i = 0; i < 3; i++) remove_file((const char *[]){ "a.ppm", "b.ppm", "c.ppm" }[i]);
    for (int i = 0; i < 4; i++)
        write_file((const char *[]){ "p.ppm", "q.ppm", "r.ppm", "s.ppm" }[i], "P3 same");
    const IndexCounts n = update(file, &job, &x);
    CHECK(n.renamed == 3 && n.added == 1 && n.deleted == 0 && x.count[PICTURES] == 4);
    index_close(&x);
    end();
}

TEST(another_model_is_refused)
{
    IndexJob job = toy_job();
    Index x;
    IndexCounts n;
    Error e = { 0 };
    begin();
    write_file("one.ppm", "P3 one");
    update(file, &job, &x);
    index_close(&x);
    job.model[SOUNDS][0] = 'f';                            /* holds no sound: any CLAP will do */
    update(file, &job, &x);
    index_close(&x);
    job.model[PICTURES][0] = 'f';
    CHECK(!index_update(&x, folder, file, &job, &n, &e));
    CHECK(strstr(e.text, "found aaaaaaaaaaaa, this one is faaaaaaaaaaa") != NULL);
    e = (Error){ 0 };
    job.model[PICTURES][0] = 0;                            /* no CLIP at all: what is there stays */
    write_file("new.ppm", "P3 new");
    n = update(file, &job, &x);
    CHECK(n.no_model[PICTURES] == 1 && x.count[PICTURES] == 1 && embedded == 0);
    index_close(&x);
    end();
}

/* One value of one tensor, near its end. */
TEST(a_model_is_known_by_its_values)
{
    Error e = { 0 };
    float values[9000] = { 0 };
    char sums[4][65];
    begin();
    for (int i = 0; i < 4; i++) {
        Weights w;
        values[8999] = (float)(i / 2);
        SafeWriter *s = safe_open(file, &e);
        CHECK(s && safe_add(s, "a", F32, 1, (int[]){ 9000 }, values, &e));
        CHECK(safe_add(s, i == 3 ? "c" : "b", F32, 1, (int[]){ 9 }, values, &e));
        CHECK(safe_commit(s, NULL, &e));
        CHECK(weights_open(&w, file, NULL, &e) && index_identity(&w, folder, sums[i], &e));
        weights_close(&w);
    }
    CHECK_STR(sums[0], sums[1]);
    CHECK(strcmp(sums[1], sums[2]) && strcmp(sums[2], sums[3]));
    write_file("config.json", "{}");
    Weights w;
    CHECK(weights_open(&w, file, NULL, &e) && index_identity(&w, folder, sums[0], &e));
    CHECK(strcmp(sums[0], sums[3]));
    weights_close(&w);
    end();
}
