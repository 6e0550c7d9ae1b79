/* io.h - the door to the outside: the only room that opens files.  Nothing that comes in is
 * trusted.
 *
 *     Error e = {0};
 *     Weights w;
 *     if (!weights_open(&w, "model/unet", "diffusion_pytorch_model", &e)) ...       e.text says why
 *     const Entry *t = weights_find(&w, "conv_in.weight");
 *     weights_close(&w);
 *
 *     Output *o = output_open("lake.png", &e);      refused here if it could not be made at the end
 *     if (o && output_write(o, bytes, n, &e)) output_commit(o, &e); else output_discard(o);
 *
 * Files are mapped, never copied: a Weight points into the map and lives until weights_close.
 * Formats: safetensors as its README and reference reader define it, stricter where they are vague
 * (no key twice, no hole, no overlap, no byte after the last tensor); JSON by RFC 8259. */
#ifndef IO_H
#define IO_H
#include "base.h"
#include "tensor.h"

/* ---- files ----------------------------------------------------------------------------------- */

/* A regular file mapped for reading.  at is NULL for an empty one. */
typedef struct { const uint8_t *at; size_t size; char *path; } File;

/* Map path.  Fails for what is not a regular file, and for more than limit bytes (0 = no limit). */
bool file_map(File *f, const char *path, size_t limit, Error *e);
void file_unmap(File *f);

/* The first bytes of a regular file: at most n into head; how many there are, 0 with e. */
size_t file_head(const char *path, uint8_t *head, size_t n, Error *e);

/* The path of the mapped file that holds this address, or NULL.  Safe in a signal handler: main.c
 * names the file of a SIGBUS with it. */
const char *file_at(const void *address);

/* What bytes that are not what they should be look like: "a Git LFS pointer (run git lfs pull)",
 * "an HTML page", "a zip archive", "a pickle", "GGUF", "gzip", ...; NULL when nothing is
 * recognised. */
const char *foreign_format(const uint8_t *bytes, size_t size);

bool file_exists(const char *path);                       /* a regular file, through links */
bool folder_exists(const char *path);
/* folder/name, in memory the caller frees; name may itself hold slashes. */
char *path_join(const char *folder, const char *name);

/* A name from a file as a message shows it, in out: NUL spelled \x00, "..." where a long one was
 * cut. */
enum { SHOWN = 128 };
const char *name_shown(const char *name, size_t n, char out[SHOWN]);

/* ---- folders: folder.c ----------------------------------------------------------------------- */

/* A regular file below a folder: its path from there, its size, when its content changed (in ns
 * since 1970). */
typedef struct { char *path; int64_t size, changed; } Listed;
typedef struct { Listed *at; size_t count; } Listing;

/* All regular files below folder at any depth, sorted by the bytes of their paths.  Links to files
 * count as files; links to folders are not followed.  What cannot be read is told to lost (which
 * may be NULL) in one line each; only folder itself must be readable. */
typedef void Lost(void *self, const char *why);
bool folder_list(const char *folder, Listing *out, Lost *lost, void *self, Error *e);
void listing_free(Listing *l);
const Listed *listing_find(const Listing *l, const char *path);           /* NULL when absent */

bool path_taken(const char *path);                        /* anything of that name, even a link */
bool path_is_link(const char *path);
/* Rename, never over what exists. */
bool file_move(const char *from, const char *to, Error *e);
/* Make a folder; *made is false where it is there already. */
bool folder_make(const char *path, bool *made, Error *e);

/* ---- json ------------------------------------------------------------------------------------ */

typedef enum { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } JsonType;

/* A value of a parsed text.  Children of arrays and objects are linked in order through next. */
typedef struct Json {
    JsonType type;
    bool truth;                            /* JSON_BOOL */
    const char *text; size_t length;       /* JSON_STRING: bytes, unescaped, a NUL follows */
                                           /* JSON_NUMBER: its spelling */
    const char *key; size_t key_length;    /* inside an object; same rules */
    int count;                             /* children */
    struct Json *first, *next;
} Json;

/* A whole strict JSON text (UTF-8, no key twice, at most 128 deep; a leading byte order mark is
 * skipped). where names the file in messages, which give line and column.  json_free frees the
 * whole document. */
Json *json_parse(const char *text, size_t n, const char *where, Error *e);
Json *json_read(const char *path, size_t limit, Error *e);                /* the same, of a file */
/* The same of a text that begins origin bytes into a file; messages give the byte of that file. */
Json *json_parse_header(const char *text, size_t n, size_t origin, const char *where, Error *e);
/* text as a JSON string, quotes included, in memory the caller frees; what is no UTF-8 becomes
 * U+FFFD. */
char *json_quote(const char *text, size_t n);
void json_print(FILE *out, const char *text, size_t n);            /* the same, and needs none */
void json_free(Json *root);
const Json *json_get(const Json *object, const char *key);         /* NULL if absent or no object */
bool json_is(const Json *string, const char *text);                     /* a string equal to text */

/* Typed reads of object[key].  Absent, or null: *out keeps its value.  Wrong type or out of range:
 * false, with where, key, found and wanted in e. */
bool json_int(const Json *object, const char *key, int low, int high, int *out,
              const char *where, Error *e);
bool json_float(const Json *object, const char *key, double low, double high, double *out,
                const char *where, Error *e);
/* An array of exactly n numbers in low..high. */
bool json_floats(const Json *object, const char *key, int n, double low, double high, double *out,
                 const char *where, Error *e);
bool json_bool(const Json *object, const char *key, bool *out, const char *where, Error *e);
/* The string's bytes, living as long as the document; refused if it holds NUL. */
bool json_string(const Json *object, const char *key, const char **out, const char *where,
                 Error *e);

/* ---- safetensors ----------------------------------------------------------------------------- */

/* One tensor of a file.  type is a Weight's type where the program can compute with it, else
 * NOT_COMPUTED. */
typedef struct {
    const char *name; size_t name_length;  /* as in the file: may hold any byte */
    const char *dtype;                     /* the format's spelling: "F32", "I64", ... */
    int type;                              /* F32, F16, BF16 or NOT_COMPUTED */
    int rank; const uint64_t *shape;
    uint64_t begin, end;                   /* bytes, from the start of its file's data part */
    const void *at;                        /* in the map; alignment is not promised */
    int file;                              /* index into Weights.files */
    bool bound;                            /* some block owns it */
    bool useless;                          /* a view knows it, and that no block wants it */
    const char *stored;                    /* of a view: its name in the file; else NULL */
} Entry;

/* The tensors of one file, or of all shards of one index. */
typedef struct {
    char *path;                            /* as opened: for messages */
    File *files; int file_count;
    Entry *entries; int count;             /* in the order of the header(s) */
    Json **headers;                        /* of each file: metadata and names live here */
    int *by_name;                          /* entry numbers sorted by name */
    uint64_t *shapes;
    struct View *view;                     /* what weights_view made; NULL: names of the file */
} Weights;

/* path: a .safetensors file, or a folder holding stem.safetensors, stem.safetensors.index.json with
 * its shards, or a variant (stem.fp16.safetensors, and its sharded form), looked for in that order.
 * stem may list alternatives, as "diffusion_pytorch_model|model". */
bool weights_open(Weights *w, const char *path, const char *stem, Error *e);
void weights_close(Weights *w);
const Entry *weights_find(const Weights *w, const char *name);            /* NULL when absent */
/* The string-to-string metadata of file i as a JSON object, or NULL. */
const Json *weights_metadata(const Weights *w, int i);

/* The tensors under other names, where they lie.  A Rename is asked for each tensor, twice, and
 * says what becomes of it; names go to out. */
enum { VIEW_NAME = 160 };
typedef enum {
    ELSEWHERE,                             /* it is not of this view, which loses it */
    USELESS,                               /* it keeps its name, no block will want it */
    RENAMED,
    THIRDS,                                /* its first dimension is three tensors: out[0..2] */
    TRANSPOSED                             /* of rank 2: its transpose, a float copy */
} Renaming;
typedef Renaming Rename(const void *self, const Entry *t, char out[3][VIEW_NAME]);
/* Make w, just opened, such a view. */
bool weights_view(Weights *w, Rename *rename, const void *self, Error *e);

/* ---- binding: from names in a file to fields of a struct ------------------------------------- */

/* One row of a block's table.
 *   field   where the Weight lies in the struct: F(Resnet, conv1.w)
 *   name    below the block's prefix; alternatives after |, the first one present counts
 *   shape   one character a dimension: a letter is looked up in DIMS, a digit stands for itself;
 *           alternatives after |.  "oi33", "o", "oi|oi11"
 *   flags   OPTIONAL: may be absent, the Weight is then all zero (at == NULL) */
typedef struct { size_t field; const char *name, *shape; int flags; } Bind;
enum { OPTIONAL = 1 };
#define F(type, field) offsetof(type, field)

typedef struct { int of[128]; } Dims;      /* by letter */
#define DIMS(...) (Dims){ { __VA_ARGS__ } }                     /* DIMS(['i'] = 320, ['o'] = 640) */

#define bind bind_weights              /* libc has a bind, for sockets; drivers must not get ours */
/* Fill every field of block from w; the name in the file is prefix + name, prefix made by printf
 * rules. Fails at a missing tensor, a wrong shape, a dtype that is not computed with, naming file,
 * tensor, found and wanted.  A table ends with an all-zero row. */
PRINTF(6, 7)
bool bind(Weights *w, void *block, const Bind *table, Dims dims, Error *e, const char *prefix, ...);

/* How many tensors no block bound, not counting those whose name ends in one of the |-separated
 * endings of ignored ("position_ids|num_batches_tracked").  Names go to each(self, entry) if given.
 * */
int weights_unbound(const Weights *w, const char *ignored,
                    void (*each)(void *self, const Entry *t), void *self);

/* ---- output: whole or not at all ------------------------------------------------------------- */

typedef struct Output Output;

/* Begin an output.  "-" is standard output.  A regular target is written beside itself under a
 * temporary name; a FIFO or device directly.  Fails now if the folder is missing, not writable, or
 * path is a folder. */
Output *output_open(const char *path, Error *e);
bool output_write(Output *o, const void *bytes, size_t n, Error *e);
/* Flush, fsync, rename over the target; o is freed in any case. */
bool output_commit(Output *o, Error *e);
/* Remove the temporary file; the old target is untouched.  NULL is allowed. */
void output_discard(Output *o);
/* For formats whose head is known last: a nameless file beside o's target, written like any output,
 * then added to o with output_append.  It vanishes with output_discard. */
Output *output_aside(const Output *o, Error *e);
bool output_append(Output *o, Output *aside, Error *e);
/* An output into memory, for what writes formats; name is for messages.  output_bytes: what was
 * written so far, owned by o; output_discard ends it. */
Output *output_memory(const char *name, Error *e);
const uint8_t *output_bytes(const Output *o, size_t *n);
/* Remove the temporary files of all open outputs; safe in a signal handler. */
void output_discard_all(void);

/* ---- tensors out ----------------------------------------------------------------------------- */

/* A safetensors file written tensor by tensor; names must be distinct.  Entries lie in the order
 * added. */
typedef struct SafeWriter SafeWriter;
SafeWriter *safe_open(const char *path, Error *e);
/* dtype F32 or F16; shape of rank dims; data of product(shape) values, copied before this returns.
 * */
bool safe_add(SafeWriter *s, const char *name, int type, int rank, const int *shape,
              const void *data, Error *e);
/* The same in pieces, of any dtype of the format by its spelling ("U8", "I64"): safe_begin, then
 * safe_more until all the bytes are there. */
bool safe_begin(SafeWriter *s, const char *name, const char *dtype, int rank, const int *shape,
                Error *e);
bool safe_more(SafeWriter *s, const void *data, size_t n, Error *e);
/* metadata: pairs key, value, ended by NULL; may be NULL.  Commits; s is freed in any case. */
bool safe_commit(SafeWriter *s, const char *const *metadata, Error *e);
void safe_discard(SafeWriter *s);

/* One float32 array as NumPy's .npy (version 1.0, C order). */
bool npy_write(const char *path, int rank, const int *shape, const float *data, Error *e);

/* ---- memory and sums ------------------------------------------------------------------------- */

/* Give the arena size bytes: anonymous memory, or with scratch != NULL a mapped file of that name
 * that vanishes when closed. */
bool arena_open(Arena *m, size_t size, const char *scratch, Error *e);
void arena_close(Arena *m);

typedef struct { uint32_t state[8]; uint64_t bytes; uint8_t block[64]; } Sha256;
void sha256_start(Sha256 *s);
void sha256_add(Sha256 *s, const void *bytes, size_t n);
void sha256_end(Sha256 *s, char hex[65]);

#endif
