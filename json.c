/* json.c - strict JSON: RFC 8259 to the letter, UTF-8 only, no key twice in an object, 128 levels.
 *
 * One pass over the text, linear but for the keys of an object, which are sorted once to find equal
 * ones.  Everything of a document lies in chunks that grow; a failure leaves nothing behind. */
#include "io.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>

enum { DEPTH_MOST = 128, CHUNK_LEAST = 4096, CHUNK_GROWN = 1 << 20 };

typedef struct Chunk { struct Chunk *next; size_t used, size; } Chunk;     /* size bytes follow */
typedef struct { Json value; size_t key_at; } Node;                  /* key_at: where in the text */
typedef struct { Node root; Chunk *chunks; } Document;               /* its address is the root's */

typedef struct {
    const uint8_t *text;
    size_t n, at;
    const char *where;
    bool lines;                            /* messages give line and column; else origin + byte */
    size_t origin;
    Document *document;
    const Node **keys; size_t keys_room;   /* of the object being closed */
    Error *e;
} Parser;

/* ---- failing --------------------------------------------------------------------------------- */

PRINTF(3, 4) static bool wrong(Parser *p, size_t at, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    if (!p->lines) return fail(p->e, "%s: byte %zu: %s", p->where, p->origin + at, what);

    size_t line = 1, column = 1;
    for (size_t i = 0; i < at; i++) {
        if (p->text[i] == '\n') line++, column = 1;
        else if ((p->text[i] & 0xc0) != 0x80) column++;                  /* characters, not bytes */
    }
    return fail(p->e, "%s: line %zu, column %zu: %s", p->where, line, column, what);
}

static bool unexpected(Parser *p, const char *wanted)
{
    if (p->at >= p->n) return wrong(p, p->at, "the text ends, want %s", wanted);
    uint8_t c = p->text[p->at];
    if (c < 0x20 || c > 0x7e) return wrong(p, p->at, "found byte 0x%02x, want %s", c, wanted);
    return wrong(p, p->at, "found '%c', want %s", c, wanted);
}

const char *name_shown(const char *name, size_t n, char out[SHOWN])
{
    size_t used = 0, i = 0;
    while (i < n && used < SHOWN - 8) {
        if (name[i]) out[used++] = name[i++];
        else used += (size_t)snprintf(out + used, 5, "\\x00"), i++;
    }
    if (i < n) {
        for (; used && ((uint8_t)name[i] & 0xc0) == 0x80; i--) used--;     /* no half character */
        memcpy(out + used, "...", 3);
        used += 3;
    }
    out[used] = 0;
    return out;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* n bytes of the document, aligned for a Node. */
static void *take(Parser *p, size_t n)
{
    Chunk *c = p->document->chunks;
    size_t need = (n + 7) & ~(size_t)7;
    if (!c || c->size - c->used < need) {
        size_t size = zmax(need, c ? zmin(c->size * 2, CHUNK_GROWN) : CHUNK_LEAST);
        c = malloc(sizeof *c + size);
        if (!c) {
            fail(p->e, "%s: out of memory: needed %zu bytes for its JSON", p->where, size);
            return NULL;
        }
        *c = (Chunk){ p->document->chunks, 0, size };
        p->document->chunks = c;
    }
    void *at = (char *)(c + 1) + c->used;
    c->used += need;
    return at;
}

void json_free(Json *root)
{
    if (!root) return;
    Document *d = (Document *)root;
    for (Chunk *c = d->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(d);
}

/* ---- strings --------------------------------------------------------------------------------- */

/* Length of the UTF-8 character at s, of n bytes; 0 if it is none.  RFC 3629, section 4. */
static size_t utf8_length(const uint8_t *s, size_t n)
{
    uint8_t low = 0x80, high = 0xbf;       /* of the second byte */
    size_t length = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3
                  : s[0] < 0xf5 ? 4 : 0;
    if (length < 2) return length;
    if (s[0] == 0xe0) low = 0xa0;          /* overlong */
    if (s[0] == 0xed) high = 0x9f;         /* surrogates */
    if (s[0] == 0xf0) low = 0x90;          /* overlong */
    if (s[0] == 0xf4) high = 0x8f;         /* above U+10FFFF */
    if (n < length || s[1] < low || s[1] > high) return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return length;
}

static size_t utf8_write(uint32_t c, char *out)
{
    static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, c >>= 6) out[i] = (char)(0x80 | (c & 63));
    out[0] = (char)(lead[n] | c);
    return n;
}

static int hex_digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
         : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The four digits of \uXXXX; p->at is at the first of them and goes behind the last. */
static bool parse_hex(Parser *p, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, p->at++) {
        int digit = p->at < p->n ? hex_digit(p->text[p->at]) : -1;
        if (digit < 0) return unexpected(p, "four hexadecimal digits after \\u");
        *out = *out << 4 | (uint32_t)digit;
    }
    return true;
}

/* What follows a backslash; the bytes it stands for go to out, which moves on. */
static bool parse_escape(Parser *p, char **out)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    size_t start = p->at - 1;
    int c = p->at < p->n ? p->text[p->at] : 0;
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        *(*out)++ = meant[letter - letters];
        p->at++;
        return true;
    }
    if (c != 'u') return unexpected(p, "one of \"\\/bfnrtu after a backslash");
    p->at++;
    uint32_t code, second;
    if (!parse_hex(p, &code)) return false;
    if (code >= 0xd800 && code < 0xe000) {                         /* RFC 8259, section 7: a pair */
        bool pair = code < 0xdc00 && p->n - p->at >= 2 && !memcmp(p->text + p->at, "\\u", 2);
        if (!pair) return wrong(p, start, "found half a surrogate pair");
        p->at += 2;
        if (!parse_hex(p, &second)) return false;
        if (second < 0xdc00 || second > 0xdfff)
            return wrong(p, start, "found half a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
    }
    *out += utf8_write(code, *out);
    return true;
}

/* p->at is at the opening quote.  An escape is never shorter than what it stands for, so the raw
 * length is room enough. */
static bool parse_string(Parser *p, const char **text, size_t *length)
{
    size_t start = p->at++, end = p->at;
    while (end < p->n && p->text[end] != '"') end += p->text[end] == '\\' ? 2 : 1;
    if (end >= p->n) return wrong(p, start, "this string has no end");
    char *out = take(p, end - p->at + 1);
    if (!out) return false;
    *text = out;
    while (p->at < end) {
        uint8_t c = p->text[p->at];
        size_t bytes = utf8_length(p->text + p->at, p->n - p->at);
        if (c == '\\') {
            p->at++;
            if (!parse_escape(p, &out)) return false;
            continue;
        }
        if (c < 0x20) return wrong(p, p->at, "found control byte 0x%02x in a string", c);
        if (!bytes) return wrong(p, p->at, "found byte 0x%02x in a string, want UTF-8", c);
        for (; bytes; bytes--) *out++ = (char)p->text[p->at++];
    }
    p->at++;
    *out = 0;
    *length = (size_t)(out - *text);
    return true;
}

/* ---- values ---------------------------------------------------------------------------------- */

static void skip_space(Parser *p)
{
    while (p->at < p->n && p->text[p->at] && strchr(" \t\n\r", p->text[p->at])) p->at++;
}

static bool next_is(Parser *p, char c)
{
    if (p->at >= p->n || p->text[p->at] != (uint8_t)c) return false;
    p->at++;
    return true;
}

static bool next_digit(const Parser *p)
{
    return p->at < p->n && p->text[p->at] >= '0' && p->text[p->at] <= '9';
}

static bool parse_digits(Parser *p)
{
    if (!next_digit(p)) return unexpected(p, "a digit");
    while (next_digit(p)) p->at++;
    return true;
}

/* [-] (0 | 1-9 digits) [. digits] [e [+-] digits]: RFC 8259, section 6.  A config may also say
 * -Infinity, as diffusers writes for DPMSolverMultistepScheduler's lambda_min_clipped. */
static bool parse_number(Parser *p, Json *j)
{
    static const char below_all[] = "-Infinity";
    size_t start = p->at;
    const size_t word = sizeof below_all - 1;
    const bool infinite = p->lines && p->n - start >= word
        && !memcmp(p->text + start, below_all, word);
    next_is(p, '-');
    if (infinite) {
        p->at = start + word;
    } else if (next_is(p, '0')) {
        if (next_digit(p)) return wrong(p, start, "found a number that begins with 0");
    } else if (!parse_digits(p)) {
        return false;
    }
    if (next_is(p, '.') && !parse_digits(p)) return false;
    if (next_is(p, 'e') || next_is(p, 'E')) {
        if (!next_is(p, '-')) next_is(p, '+');
        if (!parse_digits(p)) return false;
    }
    j->type = JSON_NUMBER;
    j->length = p->at - start;
    char *text = take(p, j->length + 1);
    if (!text) return false;
    memcpy(text, p->text + start, j->length);
    text[j->length] = 0;
    j->text = text;
    return true;
}

static bool parse_word(Parser *p, Json *j)
{
    static const struct { const char *word; JsonType type; bool truth; } words[] = {
        { "null", JSON_NULL, false }, { "true", JSON_BOOL, true }, { "false", JSON_BOOL, false },
    };
    for (size_t i = 0; i < countof(words); i++) {
        size_t n = strlen(words[i].word);
        if (p->n - p->at < n || memcmp(p->text + p->at, words[i].word, n)) continue;
        p->at += n;
        j->type = words[i].type;
        j->truth = words[i].truth;
        return true;
    }
    return unexpected(p, "a value");
}

/* By bytes, then by place. */
static int by_key(const void *a, const void *b)
{
    const Node *x = *(const Node *const *)a, *y = *(const Node *const *)b;
    size_t n = x->value.key_length, m = y->value.key_length;
    int order = memcmp(x->value.key, y->value.key, zmin(n, m));
    if (order) return order;
    if (n != m) return n < m ? -1 : 1;
    return x->key_at < y->key_at ? -1 : 1;
}

static bool check_keys(Parser *p, const Json *object)
{
    size_t n = (size_t)object->count, i = 0;
    if (n > p->keys_room) {
        const Node **grown = realloc(p->keys, 2 * n * sizeof *grown);
        if (!grown) return fail(p->e, "%s: out of memory: needed %zu bytes for its JSON",
                                p->where, 2 * n * sizeof *grown);
        p->keys = grown;
        p->keys_room = 2 * n;
    }
    for (const Json *j = object->first; j; j = j->next) p->keys[i++] = (const Node *)j;
    qsort(p->keys, n, sizeof *p->keys, by_key);
    for (i = 1; i < n; i++) {
        const Json *x = &p->keys[i - 1]->value, *y = &p->keys[i]->value;
        char shown[SHOWN];
        if (x->key_length == y->key_length && !memcmp(x->key, y->key, y->key_length))
            return wrong(p, p->keys[i]->key_at, "key \"%s\" is here for the second time",
                         name_shown(y->key, y->key_length, shown));
    }
    return true;
}

static bool parse_value(Parser *p, Json *j, int depth);

static bool parse_key(Parser *p, Node *child)
{
    skip_space(p);
    child->key_at = p->at;
    if (p->at >= p->n || p->text[p->at] != '"') return unexpected(p, "a key in quotes");
    if (!parse_string(p, &child->value.key, &child->value.key_length)) return false;
    skip_space(p);
    return next_is(p, ':') || unexpected(p, "':'");
}

/* An array or an object; p->at is at its bracket. */
static bool parse_children(Parser *p, Json *j, int depth)
{
    bool object = p->text[p->at] == '{';
    char close = object ? '}' : ']';
    Json **last = &j->first;
    if (depth == DEPTH_MOST) return wrong(p, p->at, "nested deeper than %d", DEPTH_MOST);
    j->type = object ? JSON_OBJECT : JSON_ARRAY;
    p->at++;
    skip_space(p);
    if (next_is(p, close)) return true;
    do {
        Node *child = take(p, sizeof *child);
        if (!child) return false;
        *child = (Node){ .key_at = 0 };
        if (object && !parse_key(p, child)) return false;
        if (!parse_value(p, &child->value, depth + 1)) return false;
        *last = &child->value;
        last = &child->value.next;
        j->count++;
        skip_space(p);
    } while (next_is(p, ','));
    if (!next_is(p, close)) return unexpected(p, object ? "',' or '}'" : "',' or ']'");
    return !object || check_keys(p, j);
}

static bool parse_value(Parser *p, Json *j, int depth)
{
    skip_space(p);
    uint8_t c = p->at < p->n ? p->text[p->at] : 0;
    if (c == '{' || c == '[') return parse_children(p, j, depth);
    if (c == '"') {
        j->type = JSON_STRING;
        return parse_string(p, &j->text, &j->length);
    }
    return c == '-' || next_digit(p) ? parse_number(p, j) : parse_word(p, j);
}

/* ---- documents ------------------------------------------------------------------------------- */

static Json *parse_document(Parser p)
{
    p.document = calloc(1, sizeof *p.document);
    if (!p.document) {
        fail(p.e, "%s: out of memory: needed %zu bytes for its JSON", p.where, sizeof *p.document);
        return NULL;
    }
    Json *root = &p.document->root.value;
    bool ok = p.n <= INT_MAX || fail(p.e, "%s: too long for JSON, found %zu bytes, want at most %d",
                                     p.where, p.n, INT_MAX);
    ok = ok && parse_value(&p, root, 0);
    skip_space(&p);
    if (ok && p.at < p.n) ok = unexpected(&p, "nothing after the value");
    free(p.keys);
    if (ok) return root;
    json_free(root);
    return NULL;
}

Json *json_parse(const char *text, size_t n, const char *where, Error *e)
{
    Parser p = { .text = (const uint8_t *)text, .n = n, .where = where, .lines = true, .e = e };
    const char *foreign = foreign_format(p.text, n);
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) p.text += 3, p.n -= 3;
    skip_space(&p);
    if (foreign && p.at < p.n && !memchr("{[\"", p.text[p.at], 3)) {
        fail(e, "%s: not JSON, it looks like %s", where, foreign);
        return NULL;
    }
    return parse_document(p);
}

Json *json_parse_header(const char *text, size_t n, size_t origin, const char *where, Error *e)
{
    return parse_document((Parser){ .text = (const uint8_t *)text, .n = n, .where = where,
                                    .origin = origin, .e = e });
}

Json *json_read(const char *path, size_t limit, Error *e)
{
    File f;
    if (!file_map(&f, path, limit, e)) return NULL;
    Json *root = json_parse((const char *)f.at, f.size, path, e);
    file_unmap(&f);
    return root;
}

/* The first character of text as a string holds it, in out; *length: how many bytes it took. */
static size_t quote_one(const uint8_t *text, size_t n, char out[8], size_t *length)
{
    const uint8_t c = *text;
    const bool escaped = c == '"' || c == '\\';
    *length = utf8_length(text, n);
    if (!*length) {
        *length = 1;
        memcpy(out, "\\ufffd", 6);
        return 6;
    }
    if (c < 0x20 || c == 0x7f) return (size_t)snprintf(out, 8, "\\u%04x", c);
    out[0] = '\\';
    memcpy(out + escaped, text, *length);
    return *length + escaped;
}

char *json_quote(const char *text, size_t n)
{
    size_t room;
    if (!size_mul(n, 6, &room) || !size_add(room, 3 + 8, &room)) return NULL;
    char *quoted = malloc(room), *out = quoted;
    if (!quoted) return NULL;
    *out++ = '"';
    for (size_t i = 0, length; i < n; i += length)
        out += quote_one((const uint8_t *)text + i, n - i, out, &length);
    *out++ = '"';
    *out = 0;
    return quoted;
}

void json_print(FILE *out, const char *text, size_t n)
{
    char one[8];
    putc('"', out);
    for (size_t i = 0, length; i < n; i += length)
        fwrite(one, 1, quote_one((const uint8_t *)text + i, n - i, one, &length), out);
    putc('"', out);
}

/* ---- reading --------------------------------------------------------------------------------- */

const Json *json_get(const Json *object, const char *key)
{
    size_t n = strlen(key);
    if (!object || object->type != JSON_OBJECT) return NULL;
    for (const Json *j = object->first; j; j = j->next)
        if (j->key_length == n && !memcmp(j->key, key, n)) return j;
    return NULL;
}

bool json_is(const Json *string, const char *text)
{
    return string && string->type == JSON_STRING && string->length == strlen(text)
        && !memcmp(string->text, text, string->length);
}

/* A value as a message shows it. */
static const char *describe(const Json *j, char out[SHOWN + 2])
{
    char shown[SHOWN];
    switch (j->type) {
    case JSON_NULL: return "null";
    case JSON_BOOL: return j->truth ? "true" : "false";
    case JSON_ARRAY: return "an array";
    case JSON_OBJECT: return "an object";
    case JSON_NUMBER: return name_shown(j->text, j->length, out);
    case JSON_STRING: break;
    }
    snprintf(out, SHOWN + 2, "\"%s\"", name_shown(j->text, j->length, shown));
    return out;
}

/* *out = object[key], or NULL where it is absent or null; false when object is none. */
static bool lookup(const Json *object, const char *key, const Json **out, const char *where,
                   Error *e)
{
    char shown[SHOWN + 2];
    *out = json_get(object, key);
    if (*out && (*out)->type == JSON_NULL) *out = NULL;
    if (!object || object->type == JSON_OBJECT) return true;
    return fail(e, "%s: found %s, want an object that may hold %s", where,
                describe(object, shown), key);
}

bool json_int(const Json *object, const char *key, int low, int high, int *out, const char *where,
              Error *e)
{
    char shown[SHOWN + 2];
    const Json *j;
    if (!lookup(object, key, &j, where, e)) return false;
    if (!j) return true;
    bool whole = j->type == JSON_NUMBER && strspn(j->text, "-0123456789") == j->length;
    errno = 0;
    long long value = whole ? strtoll(j->text, NULL, 10) : 0;
    if (!whole || errno || value < low || value > high)
        return fail(e, "%s: %s: found %s, want a whole number in %d..%d", where, key,
                    describe(j, shown), low, high);
    *out = (int)value;
    return true;
}

/* Whether j is a number in low..high; *out receives it then. */
static bool number_in(const Json *j, double low, double high, double *out)
{
    double value = j->type == JSON_NUMBER ? strtod(j->text, NULL) : 0;   /* inf when it overflows */
    bool ok = j->type == JSON_NUMBER && value >= low && value <= high && isfinite(value);
    if (ok) *out = value;
    return ok;
}

bool json_float(const Json *object, const char *key, double low, double high, double *out,
                const char *where, Error *e)
{
    char shown[SHOWN + 2];
    const Json *j;
    if (!lookup(object, key, &j, where, e)) return false;
    return !j || number_in(j, low, high, out)
        || fail(e, "%s: %s: found %s, want a number in %g..%g", where, key, describe(j, shown),
                low, high);
}

bool json_floats(const Json *object, const char *key, int n, double low, double high, double *out,
                 const char *where, Error *e)
{
    char shown[SHOWN + 2];
    const Json *j;
    if (!lookup(object, key, &j, where, e)) return false;
    if (!j) return true;
    if (j->type != JSON_ARRAY)
        return fail(e, "%s: %s: found %s, want an array of %d numbers", where, key,
                    describe(j, shown), n);
    if (j->count != n)
        return fail(e, "%s: %s: found an array of %d, want %d numbers", where, key, j->count, n);
    for (j = j->first; j; j = j->next)
        if (!number_in(j, low, high, out++))
            return fail(e, "%s: %s: found %s, want numbers in %g..%g", where, key,
                        describe(j, shown), low, high);
    return true;
}

bool json_bool(const Json *object, const char *key, bool *out, const char *where, Error *e)
{
    char shown[SHOWN + 2];
    const Json *j;
    if (!lookup(object, key, &j, where, e)) return false;
    if (!j) return true;
    if (j->type != JSON_BOOL)
        return fail(e, "%s: %s: found %s, want true or false", where, key, describe(j, shown));
    *out = j->truth;
    return true;
}

bool json_string(const Json *object, const char *key, const char **out, const char *where, Error *e)
{
    char shown[SHOWN + 2];
    const Json *j;
    if (!lookup(object, key, &j, where, e)) return false;
    if (!j) return true;
    if (j->type != JSON_STRING || memchr(j->text, 0, j->length))
        return fail(e, "%s: %s: found %s, want a string%s", where, key, describe(j, shown),
                    j->type == JSON_STRING ? " without \\u0000" : "");
    *out = j->text;
    return true;
}
