/* prompt.c - from a prompt to what the text encoder reads: ids, weights, chunks, words.
 * Read in this order: brackets, chunks, reading, weights, words.
 * Not here: prompts that change between steps. */
#include "prompt.h"

#include <stdlib.h>

enum { DEEPEST = 64, CHUNKS_MOST = 64, BEHIND_COMMA = 20 };
#define SPACES " \t\n\r\v\f"

/* ---- brackets -------------------------------------------------------------------------------- */

/* A text without its brackets, each byte with its weight; a zero byte stands for BREAK. */
typedef struct { char *text; double *weights; size_t n; } Marked;

/* Brackets of one kind that are open: where in the marked text. */
typedef struct { size_t at[DEEPEST]; int count; } Open;

static void put(Marked *m, char c)
{
    m->text[m->n] = c;
    m->weights[m->n++] = 1;
}

/* The text since the last bracket that is open weighs so many times more. */
static void close_bracket(Marked *m, Open *open, double weight)
{
    for (size_t i = open->at[--open->count]; i < m->n; i++) m->weights[i] *= weight;
}

/* A decimal number at the whole of [at, end): sign, digits, at most one point. */
static bool read_weight(const char *at, const char *end, double *weight)
{
    double value = 0, scale = 1;
    bool point = false, digits = false;
    const double sign = at < end && *at == '-' ? -1 : 1;
    if (at < end && (*at == '-' || *at == '+')) at++;
    for (; at < end; at++) {
        if (*at == '.' && !point) { point = true; continue; }
        if (*at < '0' || *at > '9' || value >= 1e14) return false;    /* exact: below 2^53 */
        value = 10 * value + (*at - '0');
        if (point) scale *= 10;
        digits = true;
    }
    *weight = sign * value / scale;
    return digits;
}

/* The length of ":1.3" and the bracket behind it, spaces allowed; 0: that does not stand here. */
static size_t weight_here(const char *c, char bracket, double *weight)
{
    if (*c != ':') return 0;
    const char *at = c + 1 + strspn(c + 1, SPACES), *end = at + strspn(at, "+-.0123456789"),
               *last = end + strspn(end, SPACES);
    return *last == bracket && read_weight(at, end, weight) ? (size_t)(last + 1 - c) : 0;
}

static bool in_word(char c)
{
    const char lower = (char)(c | 0x20);
    return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '_'
        || (unsigned char)c >= 0x80;
}

static bool break_here(const char *text, const char *c)
{
    return !strncmp(c, "BREAK", 5) && !in_word(c[5]) && (c == text || !in_word(c[-1]));
}

/* What the web interface takes for more than a weight. */
static bool refuse_others(const char *c, bool square, const char *where, Error *e)
{
    double when;
    if (!strncmp(c, "<lora:", 6))
        return fail(e, "%s: found '<lora:', want the file with --lora FILE:WEIGHT", where);
    if (square && (*c == '|' || weight_here(c, ']', &when)))
        return fail(e, "%s: found '%s' in [ ], words that change between steps, want weights as "
                    "(word:1.3), or \\[ for the sign itself", where, *c == '|' ? "|" : ":number");
    return true;
}

static bool open_bracket(const Marked *m, Open *open, const char *where, Error *e)
{
    if (open->count == DEEPEST)
        return fail(e, "%s: found more than %d brackets of a kind open at once", where, DEEPEST);
    open->at[open->count++] = m->n;
    return true;
}

/* parse_prompt_attention: m has room for all of text. */
static bool read_marks(Marked *m, const char *text, const char *where, Error *e)
{
    Open round = { .count = 0 }, square = { .count = 0 };
    double weight;
    size_t n;
    for (const char *c = text; *c; ) {
        if (!refuse_others(c, square.count, where, e)) return false;
        if (*c == '\\') {                              /* alone, it vanishes */
            c++;
            if (*c && strchr("()[]\\", *c)) put(m, *c++);
        } else if (*c == '(' || *c == '[') {
            if (!open_bracket(m, *c++ == '(' ? &round : &square, where, e)) return false;
        } else if (round.count && (n = weight_here(c, ')', &weight))) {
            close_bracket(m, &round, weight);
            c += n;
        } else if (round.count && *c == ')') {
            close_bracket(m, &round, 1.1);
            c++;
        } else if (square.count && *c == ']') {
            close_bracket(m, &square, 1 / 1.1);
            c++;
        } else if (break_here(text, c)) {
            put(m, 0);
            c += 5;
        } else
            put(m, *c++);
    }
    while (round.count) close_bracket(m, &round, 1.1);
    while (square.count) close_bracket(m, &square, 1 / 1.1);
    return true;
}

static void marked_free(Marked *m)
{
    free(m->text);
    free(m->weights);
}

static bool marked_read(Marked *m, const char *text, const char *where, Error *e)
{
    const size_t n = strlen(text) + 1;
    *m = (Marked){ .text = malloc(n), .weights = calloc(n, sizeof *m->weights) };
    if (!m->text || !m->weights)
        fail(e, "%s: out of memory: needed room for %zu bytes and their weights", where, n);
    else if (read_marks(m, text, where, e)) {
        m->text[m->n] = 0;
        return true;
    }
    marked_free(m);
    return false;
}

char *prompt_plain(const char *text, Error *e)
{
    Marked m;
    if (!marked_read(&m, text, "prompt", e)) return NULL;
    for (size_t i = 0; i < m.n; i++)
        if (!m.text[i]) m.text[i] = ' ';
    free(m.weights);
    return m.text;
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* Every token behind those of the text: the end, and padding. */
static void end_chunk(Prompt *p, const Tok *t, int chunk)
{
    int *ids = p->ids + (size_t)chunk * (size_t)p->length;
    float *weights = p->weights + (size_t)chunk * (size_t)p->length;
    for (int i = p->used[chunk] + 1; i < p->length; i++) {
        ids[i] = i == p->used[chunk] + 1 ? tok_end(t) : tok_padding(t);
        weights[i] = 1;
    }
}

/* A chunk more; the last `moved` tokens of the one before it go there. */
static bool next_chunk(Prompt *p, const Tok *t, int moved, const char *where, Error *e)
{
    const size_t length = (size_t)p->length, n = (size_t)p->chunks + 1;
    if (p->chunks == CHUNKS_MOST)
        return fail(e, "%s: found more tokens than %d chunks of %d hold", where, CHUNKS_MOST,
                    p->length - 2);
    int *ids = realloc(p->ids, n * length * sizeof *ids);
    if (ids) p->ids = ids;
    float *weights = realloc(p->weights, n * length * sizeof *weights);
    if (weights) p->weights = weights;
    int *used = realloc(p->used, n * sizeof *used);
    if (used) p->used = used;
    if (!ids || !weights || !used)
        return fail(e, "%s: out of memory: needed room for %zu tokens", where, n * length);
    ids += (n - 1) * length;
    weights += (n - 1) * length;
    ids[0] = tok_start(t);
    weights[0] = 1;
    p->used[p->chunks] = moved;
    if (moved) {
        const size_t from = (size_t)(p->used[p->chunks - 1] -= moved) + 1;
        memcpy(ids + 1, ids - length + from, (size_t)moved * sizeof *ids);
        memcpy(weights + 1, weights - length + from, (size_t)moved * sizeof *weights);
        end_chunk(p, t, p->chunks - 1);
    }
    end_chunk(p, t, p->chunks++);
    return true;
}

static bool is_comma(const Tok *t, int id)
{
    const char *piece = tok_piece(t, id);
    return piece && !strcmp(piece, ",</w>");
}

/* How many tokens of the full last chunk stand behind its last comma; 0: too many, or it has
 * none. */
static int behind_comma(const Prompt *p, const Tok *t)
{
    const int *ids = p->ids + (size_t)(p->chunks - 1) * (size_t)p->length + 1;
    const int n = p->used[p->chunks - 1];
    for (int i = n - 1; i >= imax(0, n - BEHIND_COMMA); i--)
        if (is_comma(t, ids[i])) return n - 1 - i;
    return 0;
}

/* The word of an adapter that begins with id, or NULL. */
static const NewWord *new_word(const Adapters *a, int id)
{
    for (int i = 0; i < a->word_count; i++)
        if (a->words[i].first == id) return &a->words[i];
    return NULL;
}

static bool put_tokens(Prompt *p, const Tok *t, const Adapters *a, const int *ids, int count,
                       float weight, const char *where, Error *e)
{
    const int room = p->length - 2;
    for (int i = 0; i < count; i++) {
        const NewWord *new = new_word(a, ids[i]);
        int *used = &p->used[p->chunks - 1];
        if (*used + imin(new ? new->vectors : 1, room) > room) {
            const bool full = *used == room && !is_comma(t, ids[i]);
            if (!next_chunk(p, t, full ? behind_comma(p, t) : 0, where, e)) return false;
            used = &p->used[p->chunks - 1];
        }
        const size_t at = (size_t)(p->chunks - 1) * (size_t)p->length + (size_t)++*used;
        p->ids[at] = ids[i];
        p->weights[at] = weight;
        end_chunk(p, t, p->chunks - 1);
    }
    p->tokens += count;
    return true;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* The text as it is, cut to one chunk. */
static bool read_plain(Prompt *p, const Tok *t, const Adapters *a, const char *text,
                       const char *where, Error *e)
{
    const int room = p->length - 2;
    Ids ids = { 0 };
    bool ok = next_chunk(p, t, 0, where, e) && adapters_encode(a, t, text, &ids, e);
    if (ok) {
        p->tokens = ids.count - 2;
        p->used[0] = imin(p->tokens, room);
        memcpy(p->ids + 1, ids.at + 1, (size_t)p->used[0] * sizeof *ids.at);
        end_chunk(p, t, 0);
    }
    if (ok && p->tokens > room) {
        p->cut = tok_decode(t, ids.at + 1 + room, p->tokens - room, e);
        ok = p->cut != NULL;
    }
    ids_free(&ids);
    return ok;
}

/* The bytes first .. end - 1, which weigh the same: tokenized by themselves. */
static bool read_run(Prompt *p, const Tok *t, const Adapters *a, const Marked *m, size_t first,
                     size_t end, const char *where, Error *e)
{
    Ids ids = { 0 };
    char *text = strndup(m->text + first, end - first);
    bool ok = text || fail(e, "%s: out of memory: needed %zu bytes", where, end - first);
    ok = ok && adapters_encode(a, t, text, &ids, e)
        && put_tokens(p, t, a, ids.at + 1, ids.count - 2, (float)m->weights[first], where, e);
    ids_free(&ids);
    free(text);
    return ok;
}

static bool read_weighted(Prompt *p, const Tok *t, const Adapters *a, const char *text,
                          const char *where, Error *e)
{
    Marked m;
    if (!marked_read(&m, text, where, e)) return false;
    bool ok = next_chunk(p, t, 0, where, e);
    for (size_t i = 0, end; ok && i < m.n; i = end) {
        for (end = i; end < m.n && m.text[end] && m.weights[end] == m.weights[i];) end++;
        if (!m.text[i]) ok = next_chunk(p, t, 0, where, e), end = i + 1;
        else ok = read_run(p, t, a, &m, i, end, where, e);
    }
    marked_free(&m);
    return ok;
}

bool prompt_read(Prompt *p, const Tok *t, const Adapters *a, const char *text, int length,
                 bool weighting, const char *where, Error *e)
{
    *p = (Prompt){ .length = length };
    if (length < 2) return fail(e, "%s: found room for %d tokens, want 2 or more", where, length);
    const bool ok = (weighting ? read_weighted : read_plain)(p, t, a, text ? text : "", where, e);
    if (!ok) prompt_free(p);
    return ok;
}

bool prompt_pad(Prompt *p, const Tok *t, int chunks, Error *e)
{
    while (p->chunks < chunks)
        if (!next_chunk(p, t, 0, "prompt", e)) return false;
    return true;
}

void prompt_free(Prompt *p)
{
    free(p->ids);
    free(p->weights);
    free(p->used);
    free(p->cut);
    *p = (Prompt){ 0 };
}

/* ---- weights --------------------------------------------------------------------------------- */

static double mean(const float *z, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += z[i];
    return sum / (double)n;
}

/* z *= weights;  z *= mean before / mean after                  EmphasisOriginal, chunk by chunk */
void prompt_weigh(const Prompt *p, float *z, int width)
{
    const size_t length = (size_t)p->length, wide = (size_t)width, n = length * wide;
    const float *weights = p->weights;
    for (int i = 0; i < p->chunks; i++, z += n, weights += length) {
        bool plain = true;
        for (size_t j = 0; j < length; j++) plain = plain && weights[j] == 1;
        if (plain) continue;
        const double before = mean(z, n);
        for (size_t j = 0; j < n; j++) z[j] *= weights[j / wide];
        const float back = (float)(before / mean(z, n));
        for (size_t j = 0; j < n; j++) z[j] *= back;
    }
}

/* ---- words ----------------------------------------------------------------------------------- */

void words_free(PromptWord *words, int count)
{
    for (int i = 0; i < count; i++) free(words[i].text);
    free(words);
}

/* Where the word that begins at token `first` ends, before `last`. */
static int word_end(const Tok *t, const Adapters *a, const int *ids, int first, int last)
{
    const NewWord *new = new_word(a, ids[first]);
    if (new) return imin(last, first + new->vectors);
    for (int i = first; i < last; i++) {
        const char *piece = tok_piece(t, ids[i]);
        const size_t n = piece ? strlen(piece) : 0;
        if (!piece) return imax(i, first + 1);       /* unreached: ids are the tokenizer's own */
        if (n >= 4 && !strcmp(piece + n - 4, "</w>")) return i + 1;
    }
    return last;
}

static char *word_text(const Tok *t, const Adapters *a, const int *ids, int count, Error *e)
{
    const NewWord *new = new_word(a, *ids);
    char *text = new ? strdup(new->text) : tok_decode(t, ids, count, e);
    if (!text) fail(e, "out of memory: needed room for a word");
    for (char *c = text ? text + strlen(text) : NULL; c && c > text && c[-1] == ' ';) *--c = 0;
    return text;
}

bool prompt_words(const Prompt *p, const Tok *t, const Adapters *a, PromptWord **out, int *count,
                  Error *e)
{
    PromptWord *words = calloc((size_t)p->chunks * (size_t)p->length, sizeof *words);
    int n = 0;
    *out = NULL;
    *count = 0;
    if (!words) return fail(e, "out of memory: needed room for %d words", p->tokens);
    for (int chunk = 0; chunk < p->chunks; chunk++) {
        const int begin = chunk * p->length, last = begin + 1 + p->used[chunk];
        for (int i = begin + 1, end; !e->code && i < last; i = end) {
            end = word_end(t, a, p->ids, i, last);
            words[n] = (PromptWord){ word_text(t, a, p->ids + i, end - i, e), i, end };
            if (words[n].text) n++;
        }
    }
    if (e->code) return words_free(words, n), false;
    *out = words;
    *count = n;
    return true;
}
