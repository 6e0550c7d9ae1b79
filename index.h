/* index.h - a library of pictures and sounds: a vector a file, kept up to date, searched.
 *
 *     IndexJob job = { .embed = embed, .self = models, .dim = { clip.dim, clap.dim } };
 *     index_identity(&clip.weights, "clip", job.model[PICTURES], &e);
 *     Index x;
 *     IndexCounts n;
 *     index_update(&x, "photos", "photos.safetensors", &job, &n, &e);      reads what is new
 *     Hit best[10];
 *     int found;
 *     index_search(&x, PICTURES, query, 10, best, &found, &e);             query[dim], of length 1
 *     best[0].score, best[0].file->path
 *     index_close(&x);
 *
 * The file is safetensors.  Pictures come first, then sounds, each sorted by the bytes of their
 * paths; row i of image_embeds is picture i, row i of audio_embeds sound i.
 *
 *     image_embeds, audio_embeds   F32 [pictures,dim], [sounds,dim], each row of length 1
 *     sizes, changed               I64 [files]: bytes; ns since 1970 when the content changed
 *     sha256                       U8 [files,32] of each file's bytes
 *     paths                        U8 [bytes]: relative, each ended by a zero byte; any other byte
 *     __metadata__                 format, version; clip, clap: the models; shard: "2/4"
 *
 * A kind without files has no tensor and no model.  The bytes depend on the files and the models
 * alone, not on how many runs made them or which was killed.
 *
 * What counts as unchanged is not read again: size and time of change are those of the index.
 * What was read but has bytes that are in the index already (renamed, copied, touched) is not
 * embedded again. */
#ifndef INDEX_H
#define INDEX_H
#include "base.h"
#include "io.h"

enum { PICTURES, SOUNDS, KINDS };
/* "picture", "sound"; "CLIP", "CLAP". */
extern const char *const kind_names[KINDS], *const kind_models[KINDS];

typedef struct {
    const char *path;                      /* below the folder */
    int64_t size, changed;
    const uint8_t *sum;                    /* sha256 [32] of its bytes */
    const float *at;                       /* its vector [dim] */
} Indexed;

typedef struct {
    char *path;                            /* of the file, for messages; the folder if in memory */
    Indexed *files[KINDS]; size_t count[KINDS];
    int dim[KINDS];
    char model[KINDS][65];                 /* "" where there are no files of that kind */
    int shard, shards;                     /* 2 of 4; of a whole index 0 of 0 */
    Weights map;                           /* where it lies, if in a file */
    void *memory;                          /* where it lies, if in memory */
} Index;

/* Open an index; what is no index, or a broken one, fails in one line. */
bool index_open(Index *x, const char *path, Error *e);
void index_close(Index *x);

/* "2/4": shard 2 of 4. */
bool read_shard(const char *text, int *shard, int *shards);

/* What tells a model from another: the sha256 of its configs and, tensor by tensor in the order of
 * their names, of name, dtype, shape and values: all of up to 16 KiB, of larger ones 4 KiB at four
 * places.  So it costs milliseconds and does not depend on how tensors are spread over files. */
bool index_identity(const Weights *w, const char *folder, char hex[65], Error *e);
/* False, with both models in e, when x holds files of this kind by another model. */
bool index_of_model(const Index *x, int kind, const char *model, int dim, Error *e);

/* ---- keeping it up to date ------------------------------------------------------------------- */

typedef struct {
    char model[KINDS][65];                 /* index_identity; "": no model for this kind */
    int dim[KINDS];
    int shard, shards;                     /* only the files of shard 1..shards; 0 of 0: all */
    /* The embedding of a file's bytes, not normalised: out[dim]. */
    bool (*embed)(void *self, int kind, const uint8_t *bytes, size_t n, const char *path,
                  float *out, Error *e);
    /* What is to be read is known: go on?  false stops the update without a failure.  May be
     * NULL. */
    bool (*begin)(void *self, const size_t todo[KINDS]);
    void (*step)(void *self, size_t done, size_t all);     /* after each file; may be NULL */
    void (*skip)(void *self, const char *why);             /* a file or folder left out; or NULL */
    void *self;
} IndexJob;

typedef struct {
    size_t added, changed, renamed, deleted, unchanged;
    size_t skipped;                        /* broken, unreadable */
    size_t no_model[KINDS];                /* new or changed, but the job has no model for them */
} IndexCounts;

/* Bring the index in file path (NULL: only in memory) up to date with what lies below folder, and
 * open it.  It is saved after every 256 files or 30 s of work, so that an interrupted run loses no
 * more (fewer saves where they would take a twentieth of the time); each time it is replaced whole.
 * Fails, with nothing changed, when path holds something else, or an index of another model or
 * shard. */
bool index_update(Index *x, const char *folder, const char *path, const IndexJob *job,
                  IndexCounts *n, Error *e);
/* One index of many, of distinct files or equal ones. */
bool index_merge(const char *const *paths, int count, const char *out, Error *e);

/* ---- asking it ------------------------------------------------------------------------------- */

typedef struct { double score; int kind; const Indexed *file; } Hit;

/* The files of one kind nearest to query [dim], which has length 1: at most top of them, best
 * first. */
bool index_search(const Index *x, int kind, const float *query, int top, Hit *hits, int *count,
                  Error *e);
/* For qsort: best first, equal scores by the bytes of the path. */
int hit_order(const void *a, const void *b);

/* Two files as near to each other as threshold at least, or with the same bytes. */
typedef struct { double score; bool same; const Indexed *a, *b; } Alike;
/* All pairs of one kind: the same bytes first, then the nearest, then by paths; the caller
 * frees. */
bool index_alike(const Index *x, int kind, double threshold, Alike **pairs, size_t *count,
                 Error *e);

#endif
