/* phrases.c - phrase banks: text files to tables.  The format is told in weights/phrases/README.md.
 * Read in this order: a growing table, one line, a file. */
#include "fusion.h"

#include <stdlib.h>

const char *const language_names[LANGUAGES] = { "en", "fr" };
const char *const bank_names[BANKS] = { "subject", "place", "weather", "light", "mood", "style",
                                        "sound" };
const char *languages(void) { return "en, fr"; }

enum {
    FILE_MOST = 4 << 20,                   /* bytes of a phrase file */
    PHRASES_MOST = 20000,                  /* lines of one bank */
    FIELDS_MOST = 32,
    SOUNDSCAPE = BANKS, NO_SECTION         /* sections beside the banks */
};

/* Where a line stands, and the section that it belongs to. */
typedef struct { Phrases *p; const char *path; int line, section; } Reading;

/* ---- tables ---------------------------------------------------------------------------------- */

/* Room for one more item behind count of them; the table doubles at powers of two. */
static bool grow(void *table, int count, size_t size, Error *e)
{
    void *at;
    memcpy(&at, table, sizeof at);
    if (count & (count - 1)) return true;
    void *more = realloc(at, (count ? 2 * (size_t)count : 1) * size);
    if (!more) return fail(e, "out of memory: needed room for %d phrases", 2 * count + 1);
    memcpy(table, &more, sizeof more);
    return true;
}

static void free_words(Phrase *phrase)
{
    free(phrase->query);
    for (int l = 0; l < LANGUAGES; l++) free(phrase->words[l]);
    *phrase = (Phrase){ 0 };
}

void phrases_free(Phrases *p)
{
    for (int b = 0; b < BANKS; b++) {
        for (int i = 0; i < p->bank[b].count; i++) free_words(&p->bank[b].at[i]);
        free(p->bank[b].at);
        free(p->bank[b].vectors);
    }
    for (int i = 0; i < p->file_count; i++) free(p->files[i]);
    free(p->files);
    free(p->belongs);
    *p = (Phrases){ 0 };
}

static size_t first_alternative(const char *query)
{
    const char *cut = strstr(query, " / ");
    return cut ? (size_t)(cut - query) : strlen(query);
}

int phrases_find(const Bank *b, const char *query)
{
    const size_t n = first_alternative(query);
    for (int i = 0; i < b->count; i++) {
        const char *here = b->at[i].query;
        if (first_alternative(here) == n && !strncmp(here, query, n)) return i;
    }
    return -1;
}

char *phrase_prompt(const Phrase *p, Error *e)
{
    char *prompt = strndup(p->query, first_alternative(p->query));
    if (!prompt) fail(e, "out of memory: needed room for a prompt");
    return prompt;
}

/* ---- one line -------------------------------------------------------------------------------- */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* Blanks off both ends, in place; returns the new begin. */
static char *trim(char *from, char *end)
{
    while (from < end && blank(*from)) from++;
    while (end > from && blank(end[-1])) end--;
    *end = 0;
    return from;
}

/* Cut a line at its bars: how many fields, or -1 with e. */
static int split(const Reading *r, char *line, char *fields[FIELDS_MOST], Error *e)
{
    int n = 0;
    for (char *at = line, *end; at; at = end) {
        char *next = strchr(at, '|');
        end = next ? next + 1 : NULL;
        if (n == FIELDS_MOST) {
            fail(e, "%s:%d: fields: found more than %d, want fewer", r->path, r->line, FIELDS_MOST);
            return -1;
        }
        fields[n] = trim(at, next ? next : at + strlen(at));
        if (!*fields[n]) {
            fail(e, "%s:%d: field %d: found nothing between the bars, want a phrase, or - for none",
                 r->path, r->line, n + 1);
            return -1;
        }
        n++;
    }
    return n;
}

/* A copy of a field's words; NULL for "-". */
static bool copy_words(const char *from, char **to, Error *e)
{
    *to = NULL;
    return !strcmp(from, "-") || (*to = strdup(from))
        || fail(e, "out of memory: needed room for a phrase");
}

/* query | English | French, in the bank of the section. */
static bool add_phrase(const Reading *r, char *fields[], int n, Error *e)
{
    Bank *b = &r->p->bank[r->section];
    Phrase new = { .file = r->path, .line = r->line };
    if (n != 1 + LANGUAGES)
        return fail(e, "%s:%d: [%s]: found %d fields, want query | English | French", r->path,
                    r->line, bank_names[r->section], n);
    if (!strcmp(fields[1], "-") != !strcmp(fields[2], "-"))
        return fail(e, "%s:%d: words: found - in one language, want words or - in both", r->path,
                    r->line);
    if (!strcmp(fields[1], "-") && (r->section == SUBJECT || r->section == SOUND))
        return fail(e, "%s:%d: words: found -, want words: a %s is always said", r->path, r->line,
                    bank_names[r->section]);
    int i = phrases_find(b, fields[0]);
    if (i < 0 && b->count == PHRASES_MOST)
        return fail(e, "%s:%d: [%s]: found more than %d phrases, want fewer", r->path, r->line,
                    bank_names[r->section], PHRASES_MOST);
    bool ok = (i >= 0 || grow(&b->at, b->count, sizeof *b->at, e))
        && copy_words(fields[0], &new.query, e);
    for (int l = 0; ok && l < LANGUAGES; l++) ok = copy_words(fields[1 + l], &new.words[l], e);
    if (!ok) {
        free_words(&new);
        return false;
    }
    if (i >= 0) free_words(&b->at[i]);
    else i = b->count++;
    b->at[i] = new;
    return true;
}

/* "wind blowing -6" to the wind's number and its level. */
static bool read_level(const Reading *r, char *field, Belongs *out, Error *e)
{
    char *cut = strrchr(field, ' '), *end = NULL;
    out->gain_db = cut ? strtod(cut + 1, &end) : 0;
    if (!cut || end == cut + 1 || *end || cut[1 + strspn(cut + 1, "-.0123456789")]
        || !(out->gain_db >= -60 && out->gain_db <= 0))
        return fail(e, "%s:%d: level: found '%.80s', want a sound and its dB in -60..0, as "
                    "'wind blowing -6'", r->path, r->line, field);
    field = trim(field, cut);
    out->sound = phrases_find(&r->p->bank[SOUND], field);
    return out->sound >= 0
        || fail(e, "%s:%d: sound: found '%.80s', want the first wording of a phrase of [sound] "
                "above or in a file read before", r->path, r->line, field);
}

/* phrase of a slot | sound dB | sound dB ... */
static bool add_soundscape(const Reading *r, char *fields[], int n, Error *e)
{
    Belongs new = { .phrase = -1 };
    if (n < 2)
        return fail(e, "%s:%d: [soundscape]: found %d field, want phrase | sound dB | ...", r->path,
                    r->line, n);
    for (int s = 0; s < SLOTS && new.phrase < 0; s++) {
        new.slot = s;
        new.phrase = phrases_find(&r->p->bank[s], fields[0]);
    }
    if (new.phrase < 0)
        return fail(e, "%s:%d: phrase: found '%.80s', want the first wording of a phrase of a slot "
                    "above or in a file read before", r->path, r->line, fields[0]);
    for (int i = 1; i < n; i++) {
        Phrases *p = r->p;
        int at = 0;
        if (!read_level(r, fields[i], &new, e)) return false;
        while (at < p->belongs_count
               && (p->belongs[at].slot != new.slot || p->belongs[at].phrase != new.phrase
                   || p->belongs[at].sound != new.sound)) at++;
        if (at == p->belongs_count) {
            if (!grow(&p->belongs, at, sizeof *p->belongs, e)) return false;
            p->belongs_count++;
        }
        p->belongs[at] = new;
    }
    return true;
}

static bool read_section(Reading *r, const char *line, Error *e)
{
    const char *name = line + 1 + strspn(line + 1, " \t");
    const size_t n = strcspn(name, " \t]");
    const char *close = name + n + strspn(name + n, " \t");
    r->section = NO_SECTION;
    for (int b = 0; b <= BANKS; b++) {
        const char *known = b < BANKS ? bank_names[b] : "soundscape";
        if (strlen(known) == n && !strncmp(name, known, n)) r->section = b;
    }
    return (r->section != NO_SECTION && !strcmp(close, "]"))
        || fail(e, "%s:%d: section: found '%.80s', want one of [subject], [place], [weather], "
                "[light], [mood], [style], [sound], [soundscape]", r->path, r->line, line);
}

static bool read_line(Reading *r, char *line, Error *e)
{
    char *fields[FIELDS_MOST];
    line = trim(line, line + strlen(line));
    if (!*line || *line == '#') return true;
    if (!utf8_valid(line, strlen(line)))
        return fail(e, "%s:%d: found bytes that are not UTF-8, want UTF-8 text", r->path, r->line);
    if (*line == '[') return read_section(r, line, e);
    if (r->section == NO_SECTION)
        return fail(e, "%s:%d: found '%.80s' before any section, want a line [subject] or another",
                    r->path, r->line, line);
    const int n = split(r, line, fields, e);
    if (n < 0) return false;
    return (r->section == SOUNDSCAPE ? add_soundscape : add_phrase)(r, fields, n, e);
}

/* ---- a file ---------------------------------------------------------------------------------- */

static bool read_lines(Reading *r, char *text, size_t n, Error *e)
{
    if (memchr(text, 0, n)) return fail(e, "%s: found a zero byte, want a phrase file", r->path);
    if (n >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, n -= 3;
    for (char *at = text, *end; at < text + n; at = end + 1, r->line++) {
        end = at + strcspn(at, "\n");
        *end = 0;
        if (!read_line(r, at, e)) return false;
    }
    return true;
}

bool phrases_read(Phrases *p, const char *path, Error *e)
{
    File f;
    if (!file_map(&f, path, FILE_MOST, e)) return false;
    char *text = malloc(f.size + 1), *name = strdup(path);
    bool ok = text && name && grow(&p->files, p->file_count, sizeof *p->files, e);
    if (!ok) {
        fail(e, "%s: out of memory: needed %zu bytes", path, f.size + 1);
        free(name);
    } else {
        Reading r = { .p = p, .path = name, .line = 1, .section = NO_SECTION };
        p->files[p->file_count++] = name;
        if (f.size) memcpy(text, f.at, f.size);
        text[f.size] = 0;
        ok = read_lines(&r, text, f.size, e);
    }
    for (int b = 0; b < BANKS; b++) {                      /* embedded anew */
        free(p->bank[b].vectors);
        p->bank[b].vectors = NULL;
    }
    free(text);
    file_unmap(&f);
    return ok;
}

bool phrases_folder(Phrases *p, const char *folder, Error *e)
{
    static const char *const names[] = { "captions.txt", "sounds.txt", "soundscape.txt" };
    int found = 0;
    for (size_t i = 0; i < countof(names); i++) {
        char *path = path_join(folder, names[i]);
        if (!path) return fail(e, "out of memory: needed room for a name");
        const bool there = file_exists(path), ok = !there || phrases_read(p, path, e);
        free(path);
        if (!ok) return false;
        found += there;
    }
    return found
        || fail(e, "%s: no phrases here, want captions.txt, sounds.txt or soundscape.txt", folder);
}
