/* tok.c - text to ids.  A text goes through five steps:
 *
 *     repair      bytes that are not UTF-8 become U+FFFD
 *     added       tokens found as whole strings: <|endoftext|>, <mask>, a word of textual inversion
 *     normalise   CLIP only: NFC, white space to one space, lower case
 *     words       cut by the model's pattern
 *     merge       the bytes of each word, lowest rank first, leftmost first (Sennrich et al., 2016)
 *
 * Source of the rules: transformers 5 (CLIPTokenizer, RobertaTokenizer) and tokenizers 0.23, and
 * measurements where their text leaves a choice.  These classes take the vocabulary, the merges and
 * the added tokens from tokenizer.json and nothing else: normalizer and pattern are their own. */
#include "tok.h"
#include "unicode.h"

#include <limits.h>
#include <stdlib.h>

enum {
    IDS_MOST = 1 << 21,                    /* so that a hostile id cannot ask for memory */
    TEXT_MOST = 1 << 28,                   /* bytes; NFC can triple them, and int counts ids */
};
static const size_t FILE_MOST = (size_t)1 << 28;

typedef struct { char *at; size_t n, room; } Bytes;
typedef struct { uint32_t *at; size_t n, room; } Points;

typedef struct { const char *at; int length; } Piece;      /* at is NULL if no token has the id */
typedef struct { int a, b, rank, result; } Merge;          /* a is -1 in an empty slot */

/* A token that is found in the text as a string, before any word is cut. */
typedef struct {
    int id, turn;                          /* of two with one id the later turn counts */
    bool special, normalized, lstrip, rstrip;
    bool unsaid;                           /* normalized is not stated: the opposite of special */
    bool plain;                            /* of added_tokens.json: a text and an id only */
    bool role;                             /* start, end, padding ... */
    bool given;                            /* such, or listed as special, and plain heeds it */
    bool fallback;                         /* a role that no file gives: the class's own token */
    bool string;                           /* not an object */
    char *text; size_t length;             /* as its file spells it */
    char *match; size_t match_length;      /* what is looked for, in the text as it is by then */
} Added;
typedef struct { Added *at; size_t n, room; } AddedList;

struct Tok {
    bool clip;                             /* else RoBERTa */
    bool prefix_space, split_special;
    struct { char **at; size_t n, room; } owned;           /* memory that pieces point into */
    struct { Piece *at; size_t n, room; } piece;           /* by id */
    int *slot; size_t slots, used;         /* piece by its text: open addressing, a power of two */
    Merge *merge; size_t merges, merge_slots;
    int byte[2][256];                      /* ids or -1; [1] for the last byte of a CLIP word */
    AddedList added;                       /* by id */
    struct { const Added **at; size_t n; bool first[256]; } sought[2];     /* in text; normalised */
    int start, end, padding, unknown, max_length;
};

/* ---- memory --------------------------------------------------------------------------------- */

/* Let the list whose pointer lies in *field hold need elements of each bytes. */
static bool reserve(void *field, size_t *room, size_t need, size_t each, Error *e)
{
    void *old, *new;
    size_t more = zmax(need, *room + *room / 2), bytes;
    memcpy(&old, field, sizeof old);
    if (!size_mul(more, each, &bytes) || !(new = realloc(old, zmax(bytes, 1))))
        return fail(e, "tokenizer: out of memory for %zu elements of %zu bytes", more, each);
    memcpy(field, &new, sizeof new);
    *room = more;
    return true;
}
#define ROOM(list, need, e) \
    ((need) <= (list)->room || reserve(&(list)->at, &(list)->room, need, sizeof *(list)->at, e))

static bool append(Bytes *b, const char *at, size_t n, Error *e)
{
    if (!ROOM(b, b->n + n, e)) return false;
    if (n) memcpy(b->at + b->n, at, n);
    b->n += n;
    return true;
}

static char *duplicate(const char *at, size_t n, Error *e)
{
    char *new = malloc(n + 1);
    if (!new) return fail(e, "tokenizer: out of memory for %zu bytes", n + 1), NULL;
    memcpy(new, at, n);
    new[n] = 0;
    return new;
}

/* ---- UTF-8 ---------------------------------------------------------------------------------- */

/* The code point at s of n > 0 bytes, and how many bytes it takes.  A byte that begins no shortest
 * form of a scalar value is U+FFFD and takes one; no valid form of U+FFFD does. */
static size_t utf8_read(const char *s, size_t n, uint32_t *point)
{
    const uint8_t *b = (const uint8_t *)s;
    *point = b[0];
    if (b[0] < 0x80) return 1;
    size_t length = b[0] >= 0xf0 ? 4 : b[0] >= 0xe0 ? 3 : 2;
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    uint32_t c = b[0] & (0x7f >> length);
    bool good = b[0] >= 0xc2 && b[0] <= 0xf4 && length <= n;
    for (size_t i = 1; good && i < length; i++) {
        good = (b[i] & 0xc0) == 0x80;
        c = c << 6 | (b[i] & 0x3f);
    }
    good = good && c >= least[length] && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
    *point = good ? c : 0xfffd;
    return good ? length : 1;
}

static size_t utf8_write(uint32_t c, char out[4])
{
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t length = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = length - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> length & 0xff) | c);
    return length;
}

static bool append_point(Bytes *b, uint32_t c, Error *e)
{
    if (!ROOM(b, b->n + 4, e)) return false;
    b->n += utf8_write(c, b->at + b->n);
    return true;
}

/* s with U+FFFD for each bad byte. */
static bool repair(Bytes *out, const char *s, size_t n, Error *e)
{
    uint32_t c;
    for (size_t i = 0; i < n; ) {
        size_t good = i;
        while (i < n && ((uint8_t)s[i] < 0x80 || utf8_read(s + i, n - i, &c) > 1))
            i += (uint8_t)s[i] < 0x80 ? 1 : utf8_read(s + i, n - i, &c);
        if (!append(out, s + good, i - good, e)) return false;
        if (i < n && !append_point(out, 0xfffd, e)) return false;
        i += i < n;
    }
    return true;
}

/* ---- Unicode -------------------------------------------------------------------------------- */

/* The last row of a table that begins at or below c, or NULL. */
static const uint32_t *row_of(const void *table, size_t rows, size_t width, uint32_t c)
{
    const uint32_t *at = table;
    size_t low = 0, high = rows;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (at[middle * width] <= c) low = middle + 1;
        else high = middle;
    }
    return low ? at + (low - 1) * width : NULL;
}
#define ROW(table, c) row_of(table, countof(table), countof(table[0]), c)

typedef enum { OTHER, SPACE, LETTER, NUMBER } Kind;

static Kind kind_of(uint32_t c)
{
    if (c < 0x80) {
        if ((c | 32) >= 'a' && (c | 32) <= 'z') return LETTER;
        if (c >= '0' && c <= '9') return NUMBER;
        return c == ' ' || (c >= '\t' && c <= '\r') ? SPACE : OTHER;
    }
    if (c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
        c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000) return SPACE;
    const uint32_t *row = ROW(letters, c);
    if (row && c <= row[1]) return LETTER;
    row = ROW(numbers, c);
    return row && c <= row[1] ? NUMBER : OTHER;
}

static uint32_t lower_of(uint32_t c)
{
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    const uint32_t *row = ROW(lowers, c);
    return row && c <= row[1] && (c - row[0]) % row[2] == 0 ? c + row[3] : c;
}

/* In NFC a code point carries its combining class above bit 21. */
#define CLASS(c) ((c) >> 21)
#define POINT(c) ((c) & 0x1fffff)
enum { L = 0x1100, V = 0x1161, T = 0x11a7, S = 0xac00, LS = 19, VS = 21, TS = 28 };    /* Hangul */

static uint32_t with_class(uint32_t c)
{
    const uint32_t *row = c < 0x300 ? NULL : ROW(marks, c);
    return row && c <= row[1] ? c | row[2] << 21 : c;
}

static void decompose(Points *out, uint32_t c)             /* has room for DECOMPOSED_MOST more */
{
    uint32_t tail[DECOMPOSED_MOST];
    int tails = 0;
    if (c - S < LS * VS * TS) {
        uint32_t s = c - S;
        if (s % TS) tail[tails++] = T + s % TS;
        tail[tails++] = V + s / TS % VS;
        c = L + s / TS / VS;
    }
    for (const uint32_t *row; (row = ROW(decompositions, c)) && row[0] == c; c = row[1])
        if (row[2]) tail[tails++] = row[2];
    out->at[out->n++] = with_class(c);
    while (tails) out->at[out->n++] = with_class(tail[--tails]);
}

/* Sort the marks at[0..n) by class, equal ones as they stand. */
static bool order(uint32_t *at, size_t n, Points *spare, Error *e)
{
    size_t start[257] = { 0 };
    if (n < 12) {
        for (size_t i = 1; i < n; i++)
            for (size_t j = i; j > 0 && CLASS(at[j - 1]) > CLASS(at[j]); j--) {
                uint32_t swap = at[j];
                at[j] = at[j - 1];
                at[j - 1] = swap;
            }
        return true;
    }
    if (!ROOM(spare, n, e)) return false;
    for (size_t i = 0; i < n; i++) start[CLASS(at[i]) + 1]++;
    for (int k = 0; k < 256; k++) start[k + 1] += start[k];
    for (size_t i = 0; i < n; i++) spare->at[start[CLASS(at[i])]++] = at[i];
    memcpy(at, spare->at, n * sizeof *at);
    return true;
}

/* The code point that a and b make together, or 0. */
static uint32_t composed(uint32_t a, uint32_t b)
{
    if (a - L < LS && b - V < VS) return S + ((a - L) * VS + b - V) * TS;
    if (a - S < LS * VS * TS && (a - S) % TS == 0 && b - T - 1 < TS - 1) return a + b - T;
    size_t low = 0, high = countof(compositions);
    while (low < high) {
        size_t middle = (low + high) / 2;
        const uint32_t *row = decompositions[compositions[middle]];
        if (row[1] == a && row[2] == b) return row[0];
        if (row[1] < a || (row[1] == a && row[2] < b)) low = middle + 1;
        else high = middle;
    }
    return 0;
}

/* Unicode's algorithm: decompose, order the marks, compose what nothing blocks with its starter. */
static bool nfc(Points *in, Points *out, Points *spare, Error *e)
{
    out->n = 0;
    for (size_t i = 0; i < in->n; i++) {
        if (!ROOM(out, out->n + DECOMPOSED_MOST, e)) return false;
        decompose(out, in->at[i]);
    }

    uint32_t *at = out->at;
    for (size_t i = 0, end; i < out->n; i = end + 1) {
        for (end = i; end < out->n && CLASS(at[end]); ) end++;
        if (end > i + 1 && !order(at + i, end - i, spare, e)) return false;
    }
    size_t kept = 0, starter = SIZE_MAX;
    for (size_t i = 0; i < out->n; i++) {
        uint32_t c = at[i], whole = 0;
        bool blocked = starter == SIZE_MAX ||
                       (kept > starter + 1 && CLASS(at[kept - 1]) >= CLASS(c));
        if (!blocked && (whole = composed(at[starter], POINT(c)))) {
            at[starter] = whole;
            continue;
        }
        if (!CLASS(c)) starter = kept;
        at[kept++] = c;
    }
    out->n = kept;
    return true;
}

/* The normalised text of CLIP grows in out; the points are room to work in. */
typedef struct { Points in, out, spare; } Scratch;

static bool normalise(Scratch *w, Bytes *out, const char *s, size_t n, Error *e)
{
    uint32_t c, all = 0;
    if (!ROOM(&w->in, n, e)) return false;
    w->in.n = 0;
    for (size_t i = 0; i < n; ) {
        i += utf8_read(s + i, n - i, &c);
        w->in.at[w->in.n++] = c;
        all = c > all ? c : all;
    }
    /* below U+0300 nothing combines and every letter is whole */
    if (all >= 0x300 && !nfc(&w->in, &w->out, &w->spare, e)) return false;
    const Points *p = all >= 0x300 ? &w->out : &w->in;

    for (size_t i = 0; i < p->n; i++) {
        c = POINT(p->at[i]);
        if (kind_of(c) == SPACE) {
            if (i > 0 && kind_of(POINT(p->at[i - 1])) == SPACE) continue;
            c = ' ';
        }
        if (!append_point(out, c == 0x130 ? 'i' : lower_of(c), e)) return false;
        if (c == 0x130 && !append_point(out, 0x307, e)) return false;      /* I with a dot */
    }
    return true;
}

static void scratch_free(Scratch *w)
{
    free(w->in.at);
    free(w->out.at);
    free(w->spare.at);
}

/* ---- vocabulary ----------------------------------------------------------------------------- */

/* A byte stands in a vocabulary as a printable character: its own if there is one, else U+0100 on
 * (GPT-2). */
static uint32_t byte_char(int byte)
{
    if ((byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad)) return (uint32_t)byte;
    return 0x100u + (uint32_t)(byte <= ' ' ? byte : byte <= 0xa0 ? byte - 0x7f + 33 : 67);
}

static int char_byte(uint32_t c)
{
    if (c < 0x100) return byte_char((int)c) == c ? (int)c : -1;
    c -= 0x100;
    return c < 33 ? (int)c : c < 67 ? (int)c - 33 + 0x7f : c == 67 ? 0xad : -1;
}

static size_t hash_of(const char *a, size_t na, const char *b, size_t nb)
{
    uint64_t h = 0xcbf29ce484222325u;      /* FNV-1a */
    for (size_t i = 0; i < na; i++) h = (h ^ (uint8_t)a[i]) * 0x100000001b3u;
    for (size_t i = 0; i < nb; i++) h = (h ^ (uint8_t)b[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

/* The id of the piece a followed by b, or -1. */
static int piece_find(const Tok *t, const char *a, size_t na, const char *b, size_t nb)
{
    if (!t->slots) return -1;
    for (size_t i = hash_of(a, na, b, nb);; i++) {
        int id = t->slot[i & (t->slots - 1)];
        if (id < 0) return -1;
        const Piece *p = &t->piece.at[id];
        if ((size_t)p->length == na + nb && !memcmp(p->at, a, na) && !memcmp(p->at + na, b, nb))
            return id;
    }
}

static void piece_place(Tok *t, int id)
{
    const Piece *p = &t->piece.at[id];
    size_t i = hash_of(p->at, (size_t)p->length, NULL, 0);
    while (t->slot[i & (t->slots - 1)] >= 0) i++;
    t->slot[i & (t->slots - 1)] = id;
}

/* block, which lives as long as t from now on; NULL stays NULL. */
static char *own(Tok *t, char *block, Error *e)
{
    if (block && ROOM(&t->owned, t->owned.n + 1, e)) return t->owned.at[t->owned.n++] = block;
    free(block);
    return NULL;
}

/* Give id, which has none, a piece that is no other's; at is owned. */
static bool piece_add(Tok *t, int id, const char *at, int length, Error *e)
{
    size_t need = (size_t)id + 1;
    if (!ROOM(&t->piece, need, e)) return false;
    for (; t->piece.n < need; t->piece.n++) t->piece.at[t->piece.n] = (Piece){ NULL, 0 };
    t->piece.at[id] = (Piece){ at, length };
    if (2 * ++t->used <= t->slots) return piece_place(t, id), true;

    size_t slots = t->slots ? 4 * t->slots : 1024;
    int *slot = realloc(t->slot, slots * sizeof *slot);
    if (!slot) return fail(e, "tokenizer: out of memory for %zu pieces", slots);
    t->slot = slot;
    t->slots = slots;
    for (size_t i = 0; i < slots; i++) slot[i] = -1;
    for (size_t i = 0; i < t->piece.n; i++)
        if (t->piece.at[i].at) piece_place(t, (int)i);
    return true;
}

static Merge *merge_slot(const Tok *t, int a, int b)
{
    uint64_t h = ((uint64_t)(uint32_t)a << 32 | (uint32_t)b) * 0x9e3779b97f4a7c15u;
    for (size_t i = (size_t)(h >> 32 ^ h >> 20);; i++) {
        Merge *m = &t->merge[i & (t->merge_slots - 1)];
        if (m->a < 0 || (m->a == a && m->b == b)) return m;
    }
}

static const Merge *merge_find(const Tok *t, int a, int b)
{
    const Merge *m = t->merge_slots ? merge_slot(t, a, b) : NULL;
    return m && m->a >= 0 ? m : NULL;
}

static bool merges_grow(Tok *t, Error *e)
{
    Merge *old = t->merge;
    size_t slots = t->merge_slots;
    t->merge_slots = slots ? 4 * slots : 1024;
    t->merge = malloc(t->merge_slots * sizeof *t->merge);
    for (size_t i = 0; t->merge && i < t->merge_slots; i++) t->merge[i].a = -1;
    for (size_t i = 0; t->merge && i < slots; i++)
        if (old[i].a >= 0) *merge_slot(t, old[i].a, old[i].b) = old[i];
    free(old);
    if (t->merge) return true;
    t->merge_slots = 0;
    return fail(e, "tokenizer: out of memory for %zu merges", t->merges);
}

/* The next merge; number is its line or its place, as unit says.  A pair given twice has the later
 * rank, as in the reference. */
static bool merge_add(Tok *t, const char *a, size_t na, const char *b, size_t nb,
                      const char *where, const char *unit, size_t number, Error *e)
{
    int left = piece_find(t, a, na, "", 0), right = piece_find(t, b, nb, "", 0);
    int result = piece_find(t, a, na, b, nb);
    if (left < 0 || right < 0 || result < 0) {
        char first[SHOWN], second[SHOWN];
        return fail(e, "%s: %s %zu: '%s' + '%s', the vocabulary lacks %s, wanted all three",
                    where, unit, number, name_shown(a, na, first), name_shown(b, nb, second),
                    left < 0 ? "the first" : right < 0 ? "the second" : "what they make");
    }
    if (2 * (t->merges + 1) > t->merge_slots && !merges_grow(t, e)) return false;
    *merge_slot(t, left, right) = (Merge){ left, right, (int)t->merges++, result };
    return true;
}

/* ---- files ---------------------------------------------------------------------------------- */

/* What a folder has; a document that is absent is NULL. */
typedef struct {
    char *config_at, *map_at, *added_at, *vocab_at, *merges_at, *tokenizer_at;
    Json *config, *map, *added, *vocab, *tokenizer;
} Folder;

static bool document(Json **out, char **at, const char *folder, const char *name, Error *e)
{
    if (!(*at = path_join(folder, name)))
        return fail(e, "%s: out of memory for the path of %s", folder, name);
    if (!file_exists(*at)) return true;
    if (!(*out = json_read(*at, FILE_MOST, e))) return false;
    if ((*out)->type == JSON_OBJECT) return true;
    return fail(e, "%s: not an object, wanted one", *at);
}

static bool folder_read(Folder *f, const char *folder, Error *e)
{
    if (!document(&f->config, &f->config_at, folder, "tokenizer_config.json", e) ||
        !document(&f->map, &f->map_at, folder, "special_tokens_map.json", e) ||
        !document(&f->added, &f->added_at, folder, "added_tokens.json", e) ||
        !document(&f->tokenizer, &f->tokenizer_at, folder, "tokenizer.json", e)) return false;
    if (f->tokenizer) return true;         /* it wins over the older pair of files */
    if (!document(&f->vocab, &f->vocab_at, folder, "vocab.json", e)) return false;
    if (!f->vocab)
        return fail(e, "%s: no tokenizer, wanted tokenizer.json, or vocab.json and merges.txt",
                    folder);
    if (!(f->merges_at = path_join(folder, "merges.txt")))
        return fail(e, "%s: out of memory for a path", folder);
    return file_exists(f->merges_at) ||
           fail(e, "%s: missing, wanted beside vocab.json", f->merges_at);
}

static void folder_free(Folder *f)
{
    char *paths[] = { f->config_at, f->map_at, f->added_at, f->vocab_at, f->merges_at,
                      f->tokenizer_at };
    Json *documents[] = { f->config, f->map, f->added, f->vocab, f->tokenizer };
    for (size_t i = 0; i < countof(paths); i++) free(paths[i]);
    for (size_t i = 0; i < countof(documents); i++) json_free(documents[i]);
}

/* An id: digits only, below IDS_MOST. */
static bool id_read(const char *text, size_t n, int *out)
{
    *out = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (text[i] - '0');
        if (*out >= IDS_MOST) return false;
    }
    return n > 0;
}

static bool vocabulary_read(Tok *t, const Json *vocab, const char *where, Error *e)
{
    char name[SHOWN], first[SHOWN];
    if (!vocab || vocab->type != JSON_OBJECT || !vocab->count)
        return fail(e, "%s: no vocabulary, wanted an object of tokens with their ids", where);
    size_t all = 0;
    for (const Json *v = vocab->first; v; v = v->next) all += v->key_length + 1;
    char *at = own(t, malloc(all), e);
    if (!at) return fail(e, "%s: out of memory for %zu bytes", where, all);

    for (const Json *v = vocab->first; v; v = v->next) {
        int id;
        if (v->type != JSON_NUMBER || !id_read(v->text, v->length, &id))
            return fail(e, "%s: token '%s' has the id %.40s, wanted a whole number from 0 to %d",
                        where, name_shown(v->key, v->key_length, name),
                        v->type == JSON_NUMBER ? v->text : "that is no number", IDS_MOST - 1);
        if ((size_t)id < t->piece.n && t->piece.at[id].at)
            return fail(e, "%s: tokens '%s' and '%s' have the same id %d, wanted one token an id",
                        where, name_shown(tok_piece(t, id), strlen(tok_piece(t, id)), first),
                        name_shown(v->key, v->key_length, name), id);
        memcpy(at, v->key, v->key_length);
        at[v->key_length] = 0;
        if (!piece_add(t, id, at, (int)v->key_length, e)) return false;
        at += v->key_length + 1;
    }
    return true;
}

/* a and b of "a b"; false unless there is one space. */
static bool pair_read(const char *line, size_t n, size_t *na, const char **b, size_t *nb)
{
    const char *space = memchr(line, ' ', n);
    if (!space || memchr(space + 1, ' ', n - (size_t)(space + 1 - line))) return false;
    *na = (size_t)(space - line);
    *b = space + 1;
    *nb = n - *na - 1;
    return true;
}

/* Lines "a b"; one that begins with #version is a comment. */
static bool merges_read(Tok *t, const char *path, Error *e)
{
    File f;
    if (!file_map(&f, path, FILE_MOST, e)) return false;
    const char *at = f.size ? (const char *)f.at : "", *end = at + f.size;
    bool good = true;
    for (size_t line = 1; good && at < end; line++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *b;
        size_t n = (size_t)((stop ? stop : end) - at), na, nb;
        const char *next = at + n + (stop != NULL);
        if (n && at[n - 1] == '\r') n--;
        char found[SHOWN];
        if (n < 8 || memcmp(at, "#version", 8))
            good = pair_read(at, n, &na, &b, &nb)
                 ? merge_add(t, at, na, b, nb, path, "line", line, e)
                 : fail(e, "%s: line %zu: found '%s', wanted two tokens with one space between",
                        path, line, name_shown(at, n, found));
        at = next;
    }
    file_unmap(&f);
    return good;
}

/* The merges of tokenizer.json: ["a", "b"] since tokenizers 0.20, "a b" before. */
static bool merges_of(Tok *t, const Json *merges, const char *where, Error *e)
{
    if (!merges || merges->type != JSON_ARRAY)
        return fail(e, "%s: no model.merges, wanted a list of them", where);
    size_t number = 1;
    for (const Json *m = merges->first; m; m = m->next, number++) {
        const Json *a = m->first, *b = a ? a->next : NULL;
        size_t na = 0, nb = 0;
        const char *first = m->text, *second = NULL;
        bool two = b && m->count == 2 && a->type == JSON_STRING && b->type == JSON_STRING;
        if (m->type == JSON_ARRAY && two)
            first = a->text, na = a->length, second = b->text, nb = b->length;
        else if (m->type != JSON_STRING || !pair_read(m->text, m->length, &na, &second, &nb))
            return fail(e, "%s: merge %zu is not two tokens, wanted \"a b\" or [\"a\", \"b\"]",
                        where, number);
        if (!merge_add(t, first, na, second, nb, where, "merge", number, e)) return false;
    }
    return true;
}

/* Vocabulary and merges, and the ids of single bytes. */
static bool model_read(Tok *t, const Folder *f, Error *e)
{
    if (f->tokenizer) {
        const Json *model = json_get(f->tokenizer, "model");
        const char *type = "BPE";          /* older files do not say */
        if (!json_string(model, "type", &type, f->tokenizer_at, e)) return false;
        if (strcmp(type, "BPE"))
            return fail(e, "%s: model.type is %.40s, wanted BPE", f->tokenizer_at, type);
        if (!vocabulary_read(t, json_get(model, "vocab"), f->tokenizer_at, e) ||
            !merges_of(t, json_get(model, "merges"), f->tokenizer_at, e)) return false;
    } else if (!vocabulary_read(t, f->vocab, f->vocab_at, e) || !merges_read(t, f->merges_at, e)) {
        return false;
    }
    for (int byte = 0; byte < 256; byte++) {
        char c[4];
        size_t n = utf8_write(byte_char(byte), c);
        t->byte[0][byte] = piece_find(t, c, n, "", 0);
        t->byte[1][byte] = piece_find(t, c, n, "</w>", 4);
    }
    return true;
}

/* Which class reads this folder: tokenizer_class, or else the vocabulary tells. */
static bool front_end(Tok *t, const Folder *f, Error *e)
{
    bool ends = false;
    for (int byte = 0; byte < 256; byte++) ends |= t->byte[1][byte] >= 0;
    t->clip = ends;
    const char *name = NULL, *model = f->tokenizer ? f->tokenizer_at : f->vocab_at;
    if (!json_string(f->config, "tokenizer_class", &name, f->config_at, e)) return false;
    if (!name || !strcmp(name, "PreTrainedTokenizerFast") || !strcmp(name, "TokenizersBackend"))
        return true;
    bool clip = !strcmp(name, "CLIPTokenizer") || !strcmp(name, "CLIPTokenizerFast");
    if (!clip && strcmp(name, "RobertaTokenizer") && strcmp(name, "RobertaTokenizerFast"))
        return fail(e, "%s: tokenizer_class is %.40s, wanted CLIPTokenizer or RobertaTokenizer",
                    f->config_at, name);
    if (clip == ends) return true;
    return fail(e, "%s: another tokenizer's vocabulary: %s with </w>, wanted that of %s", model,
                ends ? "bytes" : "no byte", name);
}

/* ---- added tokens --------------------------------------------------------------------------- */

static void added_free(Added *a)
{
    free(a->match);
    free(a->text);
}

/* A token as files write it, a string or an object; special where the object does not say. */
static bool added_read(Added *a, const Json *v, bool special, const char *where, Error *e)
{
    *a = (Added){ .id = -1, .special = special };
    const Json *text = v->type == JSON_OBJECT ? json_get(v, "content") : v;
    if (!text || text->type != JSON_STRING)
        return fail(e, "%s: an added token without text, wanted a string or an object with content",
                    where);
    const Json *flags = v->type == JSON_OBJECT ? v : NULL, *said = json_get(flags, "normalized");
    bool single = false;
    a->string = !flags;
    a->unsaid = !said || said->type == JSON_NULL;
    if (!json_bool(flags, "special", &a->special, where, e) ||
        !json_bool(flags, "normalized", &a->normalized, where, e) ||
        !json_bool(flags, "lstrip", &a->lstrip, where, e) ||
        !json_bool(flags, "rstrip", &a->rstrip, where, e) ||
        !json_bool(flags, "single_word", &single, where, e)) return false;
    char name[SHOWN];
    if (single)
        return fail(e, "%s: added token '%s' has single_word true, wanted false (not supported)",
                    where, name_shown(text->text, text->length, name));
    a->length = text->length;
    return (a->text = duplicate(text->text, text->length, e)) != NULL;
}

/* Append a to the list, which then owns it; a token without text is none. */
static bool added_put(AddedList *list, Added a, Error *e)
{
    if (!a.length || !ROOM(list, list->n + 1, e)) {
        added_free(&a);
        return !a.length;
    }
    a.turn = (int)list->n;
    list->at[list->n++] = a;
    return true;
}

static int by_id(const void *p, const void *q)
{
    const Added *a = p, *b = q;
    return a->id != b->id ? (a->id > b->id) - (a->id < b->id)
                          : (a->turn > b->turn) - (a->turn < b->turn);
}

/* Sort by id; of those with one id keep the last turn, and what part any of them plays. */
static void added_settle(AddedList *list)
{
    if (list->n) qsort(list->at, list->n, sizeof *list->at, by_id);
    size_t kept = 0;
    for (size_t i = 0; i < list->n; i++) {
        if (kept && list->at[kept - 1].id == list->at[i].id) {
            list->at[i].role |= list->at[kept - 1].role;
            list->at[i].given |= list->at[kept - 1].given;
            added_free(&list->at[--kept]);
        }
        list->at[kept++] = list->at[i];
    }
    list->n = kept;
}

/* Give a token its id: the vocabulary's, else the next, which must be the one its file states. */
static bool added_identify(Tok *t, Added *a, const char *where, Error *e)
{
    char name[SHOWN];
    int id = piece_find(t, a->text, a->length, "", 0), next = (int)t->piece.n;
    if (a->id >= 0 && a->id != (id < 0 ? next : id))
        return fail(e, "%s: added token '%s' has the id %d, wanted %d, %s", where,
                    name_shown(a->text, a->length, name), a->id, id < 0 ? next : id,
                    id < 0 ? "the first after the vocabulary" : "which the vocabulary gives it");
    if (id < 0 && next >= IDS_MOST) return fail(e, "%s: more than %d tokens", where, IDS_MOST);
    a->id = id < 0 ? next : id;
    if (id >= 0) return true;
    char *text = own(t, duplicate(a->text, a->length, e), e);
    return text && piece_add(t, next, text, (int)a->length, e);
}

/* Put a token with its stated id, n digits, into t->added. */
static bool declare(Tok *t, const Json *token, bool number, const char *id, size_t n, bool plain,
                    const char *where, Error *e)
{
    Added a;
    char name[SHOWN];
    if (!added_read(&a, token, false, where, e)) return false;
    if (plain) a.plain = a.normalized = true, a.unsaid = false;
    bool good = number && id_read(id, n, &a.id);
    if (!good)
        fail(e, "%s: added token '%s' has the id %.40s, wanted a whole number from 0 to %d", where,
             name_shown(a.text, a.length, name), id ? id : "that is missing", IDS_MOST - 1);
    return added_put(&t->added, a, e) && good;
}

/* The tokens with a stated id: added_tokens_decoder if the config has one (transformers 4.34 on),
 * else added_tokens.json and then tokenizer.json, which counts where both give an id. */
static bool declared_read(Tok *t, const Folder *f, Error *e)
{
    const Json *decoder = json_get(f->config, "added_tokens_decoder");
    const Json *list = decoder ? NULL : json_get(f->tokenizer, "added_tokens");
    const char *where = decoder ? f->config_at : f->tokenizer ? f->tokenizer_at : f->added_at;
    for (const Json *v = decoder ? decoder->first : NULL; v; v = v->next)
        if (!declare(t, v, v->key, v->key, v->key_length, false, where, e)) return false;
    for (const Json *v = f->added && !decoder ? f->added->first : NULL; v; v = v->next) {
        const Json key = { .type = JSON_STRING, .text = v->key, .length = v->key_length };
        bool number = v->type == JSON_NUMBER;
        if (!declare(t, &key, number, v->text, v->length, true, f->added_at, e)) return false;
    }
    for (const Json *v = list ? list->first : NULL; v; v = v->next) {
        const Json *id = json_get(v, "id");
        bool number = id && id->type == JSON_NUMBER;
        if (!declare(t, v, number, id ? id->text : NULL, id ? id->length : 0, false, where, e))
            return false;
    }
    added_settle(&t->added);
    for (size_t i = 0; i < t->added.n; i++) {
        Added *a = &t->added.at[i];
        if (!added_identify(t, a, a->plain ? f->added_at : where, e)) return false;
        a->turn = INT_MAX;                 /* what is declared counts before what is only named */
    }
    return true;
}

/* The tokens that have a part to play, in the reference's order. */
enum { BOS, EOS, UNK, SEP, PAD, CLS, MASK, NAMED };
static const char *const named_keys[NAMED] = { "bos_token", "eos_token", "unk_token", "sep_token",
                                               "pad_token", "cls_token", "mask_token" };
typedef struct { Added named[NAMED]; AddedList extra[2]; } Specials;   /* under own keys; listed */

static bool specials_default(Specials *s, bool clip, Error *e)
{
    static const char *const text[2][NAMED] = {
        { "<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>" },
        { "<|startoftext|>", "<|endoftext|>", "<|endoftext|>", NULL, "<|endoftext|>", NULL, NULL },
    };
    for (int i = 0; i < NAMED; i++) {
        const char *name = text[clip][i];
        s->named[i] = (Added){ .id = -1, .unsaid = true, .fallback = true, .string = true };
        if (!name) continue;
        s->named[i].length = strlen(name);
        if (!(s->named[i].text = duplicate(name, strlen(name), e))) return false;
    }
    return true;
}

static bool ends_with(const Json *v, const char *tail)
{
    size_t n = strlen(tail);
    return v->key_length >= n && !memcmp(v->key + v->key_length - n, tail, n);
}

/* What tokenizer_config.json or special_tokens_map.json (of_map) says of them. */
static bool specials_read(Specials *s, const Json *object, bool of_map, const char *where, Error *e)
{
    for (const Json *v = object ? object->first : NULL; v; v = v->next) {
        bool several = !strcmp(v->key, "additional_special_tokens") ||
                       !strcmp(v->key, "extra_special_tokens");
        bool one = v->type == JSON_STRING || json_get(v, "content");
        if (!several && !(ends_with(v, "_token") && one)) continue;
        Added a, *named = NULL;
        for (int i = 0; i < NAMED; i++)
            if (!strcmp(v->key, named_keys[i])) named = &s->named[i];
        for (const Json *w = several ? v->first : v; w; w = several ? w->next : NULL) {
            if (!added_read(&a, w, of_map || w->type == JSON_STRING, where, e)) return false;
            a.given = of_map || a.string;
            if (!named && !added_put(&s->extra[several], a, e)) return false;
            if (!named) continue;
            added_free(named);
            *named = a;
        }
    }
    return true;
}

static bool same(const Added *a, const Added *b)
{
    return a->length == b->length && (!a->length || !memcmp(a->text, b->text, a->length)) &&
           a->string == b->string && a->unsaid == b->unsaid && a->normalized == b->normalized &&
           a->lstrip == b->lstrip && a->rstrip == b->rstrip;
}

/* Append a copy of a to t->added, with its id. */
static bool place(Tok *t, const Added *a, const char *where, Error *e)
{
    Added new = *a;
    return (new.text = duplicate(a->text, a->length, e)) && added_put(&t->added, new, e) &&
           added_identify(t, &t->added.at[t->added.n - 1], where, e);
}

/* Put the special tokens into t->added with their ids, and note the ones that a sequence needs.
 * One that is only a default of the class and not in the vocabulary is no token. */
static bool specials_place(Tok *t, Specials *s, const char *model, Error *e)
{
    const int start = t->clip ? BOS : CLS, end = t->clip ? EOS : SEP;
    int ids[NAMED];
    for (int i = 0; i < NAMED; i++) {
        Added a = s->named[i];
        char name[SHOWN];
        ids[i] = a.length ? piece_find(t, a.text, a.length, "", 0) : -1;
        if (ids[i] < 0 && (i == start || i == end || i == PAD))
            return fail(e, "%s: the vocabulary has no '%s', wanted it as %s", model,
                        name_shown(a.text, a.length, name), named_keys[i]);
        bool again = false;
        for (int j = 0; j < i; j++) again |= same(&a, &s->named[j]);
        if (!a.length || (ids[i] < 0 && a.fallback)) continue;
        a.role = a.special = true;
        if (!place(t, &a, model, e)) return false;
        if (again) t->added.at[t->added.n - 1].turn = -1;  /* says nothing new */
    }
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < s->extra[k].n; i++)
            if (!place(t, &s->extra[k].at[i], model, e)) return false;
    added_settle(&t->added);
    for (size_t i = 0; i < t->added.n; i++) {
        Added *a = &t->added.at[i];
        if (a->role || (a->plain && a->given)) a->special = true;
        if (a->unsaid || (a->plain && a->given)) a->normalized = !a->special;
    }
    t->start = ids[start];
    t->end = ids[end];
    t->padding = ids[PAD];
    return true;
}

static int by_match(const void *p, const void *q)
{
    const Added *a = *(const Added *const *)p, *b = *(const Added *const *)q;
    int order = memcmp(a->match, b->match, zmin(a->match_length, b->match_length));
    if (order) return order;
    if (a->match_length != b->match_length) return a->match_length < b->match_length ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

/* The sorted list of what is looked for in pass 0, text as it came, or pass 1, normalised text. */
static bool sought_build(Tok *t, int pass, Scratch *scratch, Error *e)
{
    const Added **list = malloc(zmax(t->added.n, 1) * sizeof *list);
    if (!list) return fail(e, "tokenizer: out of memory for %zu tokens", t->added.n);
    t->sought[pass].at = list;
    for (size_t i = 0; i < t->added.n; i++) {
        Added *a = &t->added.at[i];
        if (a->normalized != pass || (a->special && t->split_special)) continue;
        Bytes match = { 0 };
        bool good = t->clip && pass ? normalise(scratch, &match, a->text, a->length, e)
                                    : append(&match, a->text, a->length, e);
        a->match = match.at;
        a->match_length = match.n;
        if (!good) return false;
        t->sought[pass].first[(uint8_t)match.at[0]] = true;
        list[t->sought[pass].n++] = a;
    }
    qsort(list, t->sought[pass].n, sizeof *list, by_match);
    return true;
}

static bool added_tokens(Tok *t, const Folder *f, Error *e)
{
    const char *model = f->tokenizer ? f->tokenizer_at : f->vocab_at;
    bool decoder = json_get(f->config, "added_tokens_decoder") != NULL;
    Specials s = { 0 };
    Scratch scratch = { 0 };
    bool good = specials_default(&s, t->clip, e) &&
                specials_read(&s, f->config, false, f->config_at, e) &&
                (decoder || specials_read(&s, f->map, true, f->map_at, e));
    /* only a token of the vocabulary itself stands for bytes that it lacks, and only in CLIP */
    if (good && t->clip) t->unknown = piece_find(t, s.named[UNK].text, s.named[UNK].length, "", 0);
    good = good && declared_read(t, f, e) && specials_place(t, &s, model, e) &&
           sought_build(t, 0, &scratch, e) && sought_build(t, 1, &scratch, e);
    scratch_free(&scratch);
    for (int i = 0; i < NAMED; i++) added_free(&s.named[i]);
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < s.extra[k].n; i++) added_free(&s.extra[k].at[i]);
        free(s.extra[k].at);
    }
    return good;
}

/* ---- opening -------------------------------------------------------------------------------- */

/* The options of tokenizer_config.json that change ids. */
static bool options_read(Tok *t, const Folder *f, Error *e)
{
    static const char *const sides[] = { "padding_side", "truncation_side" };
    const char *where = f->config_at;
    double longest = 0;
    if (!json_float(f->config, "model_max_length", 0, 1e300, &longest, where, e) ||
        !json_bool(f->config, "add_prefix_space", &t->prefix_space, where, e) ||
        !json_bool(f->config, "split_special_tokens", &t->split_special, where, e)) return false;
    if (longest < INT_MAX && longest != (int)longest)
        return fail(e, "%s: model_max_length is %g, wanted a whole number", where, longest);
    t->max_length = longest < INT_MAX ? (int)longest : 0;                  /* 1e30 says: none */
    for (size_t i = 0; i < countof(sides); i++) {
        const char *side = "right";
        if (!json_string(f->config, sides[i], &side, where, e)) return false;
        if (strcmp(side, "right"))
            return fail(e, "%s: %s is %.40s, wanted right (no other is supported)", where, sides[i],
                        side);
    }
    return true;
}

Tok *tok_open(const char *folder, Error *e)
{
    Folder f = { 0 };
    Tok *t = calloc(1, sizeof *t);
    if (!t) return fail(e, "%s: out of memory for a tokenizer", folder), NULL;
    t->unknown = -1;
    bool good = folder_read(&f, folder, e) && model_read(t, &f, e) && front_end(t, &f, e) &&
                options_read(t, &f, e) && added_tokens(t, &f, e);
    folder_free(&f);
    if (good) return t;
    tok_close(t);
    return NULL;
}

void tok_close(Tok *t)
{
    if (!t) return;
    for (size_t i = 0; i < t->added.n; i++) added_free(&t->added.at[i]);
    for (size_t i = 0; i < t->owned.n; i++) free(t->owned.at[i]);
    free(t->added.at);
    free(t->owned.at);
    free(t->sought[0].at);
    free(t->sought[1].at);
    free(t->merge);
    free(t->slot);
    free(t->piece.at);
    free(t);
}

/* ---- merging -------------------------------------------------------------------------------- */

/* A symbol of a word, and the merge that joins it with the one on its right. */
typedef struct { int id, left, right, rank, result; } Symbol;      /* rank is -1 if none does */
typedef struct { int place, next; } Waiting;
typedef struct { int first, last; } Queue;                 /* of Waiting; first is -1 when empty */

typedef struct {
    const Tok *t;
    Ids *out; size_t room;
    Scratch scratch;
    Bytes clean, plain, spaced;
    struct { Symbol *at; size_t n, room; } word;
    /* Pairs to come, as keys: rank above the place of the left symbol.  A token is made by one last
     * merge only, whatever is around it; so those of one rank come in order of place, and each rank
     * has a queue of them.  The heap holds the first of each queue; and what is out of order after
     * all, which takes an unk_token that merges make too. */
    struct { uint64_t *at; size_t n, room; } heap;
    struct { Waiting *at; size_t n, room; } waiting;
    Queue *queue;                          /* by rank */
    Error *e;
} Work;

#define KEY(rank, place) ((uint64_t)((rank) + 1) << 32 | (uint32_t)(place))            /* never 0 */
#define RANK(key) ((int)((key) >> 32) - 1)
#define PLACE(key) ((int)(uint32_t)(key))

static bool emit(Work *w, int id)
{
    size_t need = (size_t)w->out->count + 1;
    if (need > w->room && !reserve(&w->out->at, &w->room, need + 64, sizeof(int), w->e))
        return false;
    w->out->at[w->out->count++] = id;
    return true;
}

/* heap and waiting have room for every pair: a word of n symbols makes fewer than 3 n. */
static void heap_push(Work *w, uint64_t key)
{
    uint64_t *at = w->heap.at;
    size_t i = w->heap.n++;
    for (; i && at[(i - 1) / 2] > key; i = (i - 1) / 2) at[i] = at[(i - 1) / 2];
    at[i] = key;
}

/* Take the least key away and put key in, if that is not 0. */
static uint64_t heap_exchange(Work *w, uint64_t key)
{
    uint64_t *at = w->heap.at, least = at[0];
    if (!key) key = at[--w->heap.n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < w->heap.n; i = child) {
        if (child + 1 < w->heap.n && at[child + 1] < at[child]) child++;
        if (at[child] >= key) break;
        at[i] = at[child];
    }
    at[i] = key;
    return least;
}

static void pair_push(Work *w, int rank, int place)
{
    Queue *q = &w->queue[rank];
    Waiting *at = w->waiting.at;
    bool empty = q->first < 0;
    if (empty || at[q->last].place > place) heap_push(w, KEY(rank, place));
    if (!empty && at[q->last].place > place) return;
    int new = (int)w->waiting.n++;
    at[new] = (Waiting){ place, -1 };
    *(empty ? &q->first : &at[q->last].next) = new;
    q->last = new;
}

static uint64_t pair_pop(Work *w)
{
    uint64_t key = w->heap.at[0], next = 0;
    Queue *q = &w->queue[RANK(key)];
    if (q->first >= 0 && w->waiting.at[q->first].place == PLACE(key)) {
        q->first = w->waiting.at[q->first].next;
        if (q->first >= 0) next = KEY(RANK(key), w->waiting.at[q->first].place);
    }
    return heap_exchange(w, next);
}

/* Look up what joins symbol i with its right neighbour. */
static void pair_up(Work *w, int i)
{
    Symbol *s = &w->word.at[i];
    const Merge *m = s->right < 0 ? NULL : merge_find(w->t, s->id, w->word.at[s->right].id);
    s->rank = m ? m->rank : -1;
    if (!m) return;
    s->result = m->result;
    pair_push(w, m->rank, i);
}

/* The symbols of a word of n bytes.  A byte that the vocabulary lacks is CLIP's unknown token;
 * RoBERTa's model knows none and drops it. */
static bool symbols(Work *w, const char *s, size_t n)
{
    const Tok *t = w->t;
    if (!ROOM(&w->word, n, w->e) || !ROOM(&w->heap, 3 * n, w->e) ||
        !ROOM(&w->waiting, 3 * n, w->e)) return false;
    w->word.n = w->heap.n = w->waiting.n = 0;
    for (size_t i = 0; i < n; i++) {
        int id = t->byte[t->clip && i + 1 == n][(uint8_t)s[i]], at = (int)w->word.n;
        if (id < 0 && t->clip && t->unknown < 0)
            return fail(w->e, "tokenizer: neither byte 0x%02x nor unk_token is in the vocabulary, "
                        "wanted one of them", (uint8_t)s[i]);
        if (id < 0) id = t->unknown;
        if (id >= 0) w->word.at[w->word.n++] = (Symbol){ id, at - 1, at + 1, -1, -1 };
    }
    if (w->word.n) w->word.at[w->word.n - 1].right = -1;
    return true;
}

/* The ids of a word: of all pairs that a merge joins, always the lowest rank first, of these the
 * leftmost.  O(n log n). */
static bool merge(Work *w, const char *s, size_t n)
{
    if (!symbols(w, s, n)) return false;
    Symbol *at = w->word.at;
    for (size_t i = 0; i < w->word.n; i++) pair_up(w, (int)i);
    while (w->heap.n) {
        uint64_t key = pair_pop(w);
        int i = PLACE(key), gone = at[i].right;
        if (at[i].rank != RANK(key)) continue;             /* one of the two has changed since */
        at[i].id = at[i].result;
        at[i].right = at[gone].right;
        at[gone].rank = -1;
        if (at[i].right >= 0) at[at[i].right].left = i;
        if (at[i].left >= 0) pair_up(w, at[i].left);
        pair_up(w, i);
    }
    for (int i = w->word.n ? 0 : -1; i >= 0; i = at[i].right)
        if (!emit(w, at[i].id)) return false;
    return true;
}

/* ---- words ---------------------------------------------------------------------------------- */

/* The length of an English contraction at s, or 0. */
static size_t contraction(const char *s, size_t n)
{
    if (n < 2 || s[0] != '\'') return 0;
    if (s[1] == 's' || s[1] == 't' || s[1] == 'm' || s[1] == 'd') return 2;
    if (n < 3) return 0;
    return !memcmp(s, "'re", 3) || !memcmp(s, "'ve", 3) || !memcmp(s, "'ll", 3) ? 3 : 0;
}

static Kind kind_at(const char *s, size_t n, size_t *length)
{
    uint32_t c;
    *length = utf8_read(s, n, &c);
    return kind_of(c);
}

/* How many bytes of s are of the kind it begins with; *last is where their last character is. */
static size_t run(const char *s, size_t n, Kind *kind, size_t *last)
{
    size_t length, i;
    *kind = kind_at(s, n, &length);
    *last = 0;
    for (i = length; i < n && kind_at(s + i, n - i, &length) == *kind; i += length) *last = i;
    return i;
}

/* <\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
 * What matches is cut again by GPT-2's pattern, which only changes the first two: < | word | >. */
static bool words_clip(Work *w, const char *s, size_t n)
{
    static const char *const spelled[] = { "<|startoftext|>", "<|endoftext|>" };
    for (size_t i = 0, length, last; i < n; i += length) {
        size_t marker = 0;
        for (size_t k = 0; k < countof(spelled); k++)
            if (n - i >= strlen(spelled[k]) && !memcmp(s + i, spelled[k], strlen(spelled[k])))
                marker = strlen(spelled[k]);
        if (marker) {
            if (!merge(w, s + i, 2) || !merge(w, s + i + 2, marker - 4)) return false;
            i += marker - 2;
            length = 2;
        } else if (!(length = contraction(s + i, n - i))) {
            Kind kind;
            length = run(s + i, n - i, &kind, &last);
            if (kind == SPACE) continue;
            if (kind == NUMBER) kind_at(s + i, n - i, &length);
        }
        if (!merge(w, s + i, length)) return false;
    }
    return true;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static bool words_roberta(Work *w, const char *s, size_t n)
{
    if (w->t->prefix_space && n && s[0] != ' ') {
        w->spaced.n = 0;
        if (!append(&w->spaced, " ", 1, w->e) || !append(&w->spaced, s, n, w->e)) return false;
        s = w->spaced.at;
        n = w->spaced.n;
    }
    for (size_t i = 0, length, last; i < n; i += length) {
        Kind kind;
        if (!(length = contraction(s + i, n - i))) {
            length = run(s + i, n - i, &kind, &last);
            if (kind == SPACE && i + length < n) {         /* the last goes with what follows */
                if (last) length = last;
                else if (s[i] == ' ') length = 1 + run(s + i + 1, n - i - 1, &kind, &last);
            }
        }
        if (!merge(w, s + i, length)) return false;
    }
    return true;
}

/* ---- encoding ------------------------------------------------------------------------------- */

/* The longest token sought in this pass that s begins with, or NULL. */
static const Added *added_at(const Tok *t, int pass, const char *s, size_t n)
{
    const Added *const *at = t->sought[pass].at, *best = NULL;
    size_t low = 0, high = t->sought[pass].n;
    for (size_t k = 0; low < high; k++) {                  /* those that agree in k bytes */
        for (; low < high && at[low]->match_length == k; low++)
            if (!best || best->match_length < k) best = at[low];
        if (k == n) break;
        size_t a = low, b = high;
        while (a < b) {
            size_t middle = (a + b) / 2;
            if ((uint8_t)at[middle]->match[k] < (uint8_t)s[k]) a = middle + 1;
            else b = middle;
        }
        for (low = a, b = high; a < b; ) {
            size_t middle = (a + b) / 2;
            if ((uint8_t)at[middle]->match[k] <= (uint8_t)s[k]) a = middle + 1;
            else b = middle;
        }
        high = a;
    }
    return best;
}

/* A token found: where it stands with the white space it takes along, and where to look on. */
typedef struct { int id; size_t from, to, next; } Found;

/* The next token sought in s from f->next on; before done nothing is left to take along. */
static bool added_next(const Tok *t, int pass, const char *s, size_t n, size_t done, Found *f)
{
    const Added *a = NULL;
    size_t at = f->next, length;
    for (; at < n && !a; at += !a)
        if (t->sought[pass].first[(uint8_t)s[at]]) a = added_at(t, pass, s + at, n - at);
    if (!a) return false;
    *f = (Found){ a->id, at, at + a->match_length, at + a->match_length };
    while (a->lstrip && f->from > done) {
        size_t before = f->from - 1;
        while (before > done && ((uint8_t)s[before] & 0xc0) == 0x80) before--;
        if (kind_at(s + before, f->from - before, &length) != SPACE) break;
        f->from = before;
    }
    while (a->rstrip && f->to < n && kind_at(s + f->to, n - f->to, &length) == SPACE)
        f->to += length;
    return true;
}

/* s, in which the tokens of earlier passes do not occur. */
static bool encode(Work *w, int pass, const char *s, size_t n)
{
    const Tok *t = w->t;
    if (pass == 2) return t->clip ? words_clip(w, s, n) : words_roberta(w, s, n);
    if (pass == 1 && t->clip) {
        w->plain.n = 0;
        if (!normalise(&w->scratch, &w->plain, s, n, w->e)) return false;
        s = w->plain.at;
        n = w->plain.n;
    }
    size_t done = 0;
    for (Found f = { .next = 0 }; added_next(t, pass, s, n, done, &f); done = f.to) {
        if (done < f.from && !encode(w, pass + 1, s + done, f.from - done)) return false;
        if (!emit(w, f.id)) return false;
    }
    return done >= n || encode(w, pass + 1, s + done, n - done);
}

bool tok_encode(const Tok *t, const char *text, size_t n, Ids *out, Error *e)
{
    Work w = { .t = t, .out = out, .e = e, .queue = malloc(zmax(t->merges, 1) * sizeof *w.queue) };
    *out = (Ids){ NULL, 0 };
    for (size_t i = 0; w.queue && i < t->merges; i++) w.queue[i].first = -1;
    bool good = n <= TEXT_MOST ||
                fail(e, "tokenizer: %zu bytes of text, wanted at most %d", n, TEXT_MOST);
    good = good && (w.queue || fail(e, "tokenizer: out of memory for %zu queues", t->merges)) &&
           repair(&w.clean, text, n, e) && emit(&w, t->start) &&
           encode(&w, 0, w.clean.at, w.clean.n) && emit(&w, t->end);
    scratch_free(&w.scratch);
    free(w.clean.at);
    free(w.plain.at);
    free(w.spaced.at);
    free(w.word.at);
    free(w.heap.at);
    free(w.waiting.at);
    free(w.queue);
    if (!good) ids_free(out);
    return good;
}

void ids_free(Ids *ids)
{
    free(ids->at);
    *ids = (Ids){ NULL, 0 };
}

bool tok_fit(const Tok *t, Ids *ids, int length, int *lost, Error *e)
{
    *lost = 0;
    if (length < 2) return fail(e, "tokenizer: a length of %d, wanted at least 2", length);
    if (ids->count > length) {
        *lost = ids->count - length;
        ids->at[length - 1] = t->end;
        ids->count = length;
    }
    int *at = realloc(ids->at, (size_t)length * sizeof *at);
    if (!at) return fail(e, "tokenizer: out of memory for %d ids", length);
    ids->at = at;
    while (ids->count < length) at[ids->count++] = t->padding;
    return true;
}

int tok_vocabulary(const Tok *t) { return (int)t->piece.n; }
int tok_start(const Tok *t) { return t->start; }
int tok_end(const Tok *t) { return t->end; }
int tok_padding(const Tok *t) { return t->padding; }
void tok_pad_with(Tok *t, int id) { t->padding = id; }
int tok_max_length(const Tok *t) { return t->max_length; }

const char *tok_piece(const Tok *t, int id)
{
    return id >= 0 && (size_t)id < t->piece.n ? t->piece.at[id].at : NULL;
}

/* ---- decoding ------------------------------------------------------------------------------- */

static const Added *added_of(const Tok *t, int id)
{
    const Added key = { .id = id, .turn = -1 };
    size_t low = 0, high = t->added.n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (by_id(&t->added.at[middle], &key) < 0) low = middle + 1;
        else high = middle;
    }
    return low < t->added.n && t->added.at[low].id == id ? &t->added.at[low] : NULL;
}

/* The bytes that a piece stands for; with a character that stands for none it is meant as it is. */
static bool piece_bytes(const Tok *t, const Piece *p, Bytes *out, Error *e)
{
    size_t n = (size_t)p->length, before = out->n;
    bool ends = t->clip && n >= 4 && !memcmp(p->at + n - 4, "</w>", 4);
    uint32_t c;
    if (ends) n -= 4;
    for (size_t i = 0; i < n; ) {
        i += utf8_read(p->at + i, n - i, &c);
        int byte = char_byte(c);
        char one = (char)byte;
        if (byte < 0) {
            out->n = before;
            return append(out, p->at, (size_t)p->length, e);
        }
        if (!append(out, &one, 1, e)) return false;
    }
    return !ends || append(out, " ", 1, e);
}

char *tok_decode(const Tok *t, const int *ids, int count, Error *e)
{
    Bytes raw = { 0 }, text = { 0 };
    bool good = true;
    for (int i = 0; good && i < count; i++) {
        const Added *a = added_of(t, ids[i]);
        if (!tok_piece(t, ids[i]))
            good = fail(e, "tokenizer: id %d has no token, wanted below %zu", ids[i], t->piece.n);
        else if (a && !a->special) good = append(&raw, a->text, a->length, e);
        else if (!a) good = piece_bytes(t, &t->piece.at[ids[i]], &raw, e);
    }
    if (t->clip && raw.n && raw.at[raw.n - 1] == ' ') raw.n--;
    good = good && repair(&text, raw.at, raw.n, e) && append(&text, "", 1, e);
    free(raw.at);
    if (good) return text.at;
    free(text.at);
    return NULL;
}
