/* opt.c - options: the parser, the reader of `name = value` lines, help and echo. */
#include "opt.h"

#include <errno.h>
#include <stdlib.h>

bool misuse(Error *e, const char *format, ...)
{
    char text[sizeof e->text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fail(e, "%s", text);
    e->code = 2;
    return false;
}

static void *field(const Options *o, const Opt *row) { return (char *)o->fields + row->field; }

bool opt_listed(const char *list, const char *name)
{
    static const char digits[] = "0123456789";
    const size_t n = strlen(name), stem = n - strspn(name + strcspn(name, digits), digits);
    for (const char *at = list; n && *at; at += strcspn(at, ","), at += strspn(at, ", ")) {
        const size_t length = strcspn(at, ",");
        const bool counted = length > 1 && !strncmp(at + length - 2, ":N", 2);
        if (counted ? stem < n && stem == length - 1 && !strncmp(at, name, stem)
                    : length == n && !strncmp(at, name, n)) return true;
    }
    return false;
}

/* ---- values ---------------------------------------------------------------------------------- */

/* Digits and nothing else, below 2^64. */
bool opt_read_whole(const char *text, uint64_t *out)
{
    if (!*text || text[strspn(text, "0123456789")]) return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    *out = value;
    return errno == 0;
}

/* A decimal number: no space before it, no hexadecimal, no infinity, no NaN. */
bool opt_read_number(const char *text, double *out)
{
    char *end;
    if (!*text || text[strspn(text, "0123456789.eE+-")] || *text == '+') return false;
    *out = strtod(text, &end);
    return !*end && *out - *out == 0;
}

static bool read_size(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    char digits[32];
    size_t n = strlen(text);
    const char *unit = n ? strchr(units, text[n - 1] & ~0x20) : NULL;
    double value, scale = 1;
    if (unit && *unit) {
        n--;
        for (const char *u = units; u <= unit; u++) scale *= 1024;
    }
    if (n >= sizeof digits || strspn(text, "0123456789.") < n) return false;
    memcpy(digits, text, n);
    digits[n] = 0;
    if (!opt_read_number(digits, &value) || value * scale < 1 || value * scale > 0x1p62)
        return false;
    *out = (uint64_t)(value * scale);
    return scale > 1 || value == (double)*out;
}

static bool add_text(Texts *t, const char *text, Error *e)
{
    const char **more = realloc(t->at, (size_t)(t->count + 1) * sizeof *more);
    if (!more) return fail(e, "out of memory: needed room for one more text");
    t->at = more;
    t->at[t->count++] = text;
    return true;
}

/* What stands before the message: "--steps", or "run.conf: line 3: steps". */
typedef struct { const char *where; int line; } Place;

static bool refuse(const Opt *row, Place at, Error *e, const char *found, const char *want)
{
    if (!at.line) return misuse(e, "--%s: found '%s', want %s", row->name, found, want);
    return misuse(e, "%s: line %d: %s: found '%s', want %s", at.where, at.line, row->name, found,
                  want);
}

static bool set_whole(const Opt *row, Place at, const char *text, void *to, Error *e)
{
    char want[96];
    uint64_t value;
    if (opt_read_whole(text, &value) && (double)value >= row->low && (double)value <= row->high) {
        *(int *)to = (int)value;
        return true;
    }
    snprintf(want, sizeof want, "a whole number in %.0f..%.0f", row->low, row->high);
    return refuse(row, at, e, text, want);
}

static bool set_number(const Opt *row, Place at, const char *text, void *to, Error *e)
{
    char want[96];
    double value;
    if (opt_read_number(text, &value) && value >= row->low && value <= row->high) {
        *(double *)to = value;
        return true;
    }
    snprintf(want, sizeof want, "a number in %g..%g", row->low, row->high);
    return refuse(row, at, e, text, want);
}

static bool set_text(const Opt *row, Place at, const char *text, void *to, Error *e)
{
    char want[512];
    if (!*text) return refuse(row, at, e, "", "a text that is not empty");
    if (row->names && !opt_listed(row->names(), text)) {
        snprintf(want, sizeof want, "%s%s", strchr(row->names(), ',') ? "one of " : "",
                 row->names());
        return refuse(row, at, e, text, want);
    }
    if (row->kind == OPT_TEXTS) return add_text(to, text, e);
    *(const char **)to = text;
    return true;
}

/* The value of one row, from the command line or a file. */
static bool set(const Options *o, const Opt *row, Place at, const char *text, Error *e)
{
    void *to = field(o, row);
    switch (row->kind) {
    case OPT_FLAG: *(bool *)to = true; return true;
    case OPT_TEXT: case OPT_TEXTS: return set_text(row, at, text, to, e);
    case OPT_WHOLE: return set_whole(row, at, text, to, e);
    case OPT_NUMBER: return set_number(row, at, text, to, e);
    case OPT_SEED:
        return opt_read_whole(text, to)
               || refuse(row, at, e, text, "a whole number in 0..18446744073709551615");
    default: return read_size(text, to) || refuse(row, at, e, text, "a size as 64M or 2G");
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

/* The row that o's verb takes, or else any row of that name. */
static const Opt *find(const Options *o, const char *name, size_t n, char letter)
{
    const Opt *other = NULL;
    for (const Opt *row = o->table; row->name; row++) {
        if (letter ? row->letter != letter : strlen(row->name) != n || strncmp(row->name, name, n))
            continue;
        if (row->verbs & o->verb) return row;
        other = row;
    }
    return other;
}

bool opt_given(const Options *o, const char *name)
{
    const Opt *row = find(o, name, strlen(name), 0);
    return row && o->given[row - o->table];
}

/* Mark row as given; it must be of use here and new. */
static bool take(Options *o, const Opt *row, Error *e)
{
    bool *given = &o->given[row - o->table];
    if (!(row->verbs & o->verb)) return misuse(e, "--%s: of no use here", row->name);
    if (*given && row->kind != OPT_TEXTS) return misuse(e, "--%s: given twice", row->name);
    return *given = true;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* --name, --name=value, --name value: how many words were used, 0 on failure. */
static int parse_long(Options *o, char **argv, Error *e)
{
    const char *name = argv[0] + 2, *value = strchr(name, '=');
    size_t n = value ? (size_t)(value++ - name) : strlen(name);
    const Opt *row = find(o, name, n, 0);
    if (!row) return misuse(e, "--%.*s: unknown option", (int)zmin(n, 200), name);
    if (!take(o, row, e)) return 0;
    if (row->kind == OPT_FLAG && value)
        return misuse(e, "--%s: takes no value, found '%s'", row->name, value);
    int used = row->kind == OPT_FLAG || value ? 1 : 2;
    if (used == 2 && !(value = argv[1])) return misuse(e, "--%s: its value is missing", row->name);
    return set(o, row, (Place){ 0 }, value, e) ? used : 0;
}

/* -x value, -xvalue, -qv. */
static int parse_short(Options *o, char **argv, Error *e)
{
    for (const char *at = argv[0] + 1; *at; at++) {
        const Opt *row = find(o, NULL, 0, *at);
        if (!row)
            return misuse(e, "-%.*s: unknown option", (unsigned char)*at > 0x7f ? 100 : 1, at);
        if (!take(o, row, e)) return 0;
        if (row->kind == OPT_FLAG) {
            if (!set(o, row, (Place){ 0 }, NULL, e)) return 0;
            continue;
        }
        const char *value = at[1] ? at + 1 : argv[1];
        if (!value) return misuse(e, "-%c: its value is missing", *at);
        return !set(o, row, (Place){ 0 }, value, e) ? 0 : at[1] ? 1 : 2;
    }
    return 1;
}

static bool parse_words(Options *o, int argc, char **argv, Error *e)
{
    bool ended = false;
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        int used = 1;
        if (!ended && !strcmp(word, "--")) ended = true;
        else if (!ended && !strncmp(word, "--", 2)) used = parse_long(o, argv + i, e);
        else if (!ended && word[0] == '-' && word[1]) used = parse_short(o, argv + i, e);
        else if (!*word) return misuse(e, "operand: found '', want a text that is not empty");
        else used = add_text(&o->operands, word, e);
        if (!used) return false;
        i += used;
    }
    return true;
}

/* Defaults are typed in the table as a user would type them. */
static bool set_defaults(const Options *o, Error *e)
{
    for (const Opt *row = o->table; row->name; row++)
        if (row->standard && row->verbs & o->verb && !set(o, row, (Place){ 0 }, row->standard, e))
            return false;                      /* unreached: the table's defaults are in range */
    return true;
}

static bool read_config(Options *o, Error *e)
{
    const Opt *row = find(o, "config", 6, 0);
    if (!row || !o->given[row - o->table]) return true;
    const char *path = *(const char **)field(o, row);
    if (!file_map(&o->config, path, 1 << 20, e)) return false;
    return opt_settings(o, (const char *)o->config.at, o->config.size, path, e);
}

static bool needs_met(const Options *o, Error *e)
{
    for (const Opt *row = o->table; row->name; row++)
        if (o->given[row - o->table] && row->needs && !opt_given(o, row->needs)) {
            const Opt *needed = find(o, row->needs, strlen(row->needs), 0);
            if (needed->letter)
                return misuse(e, "--%s: of no use without -%c", row->name, needed->letter);
            return misuse(e, "--%s: of no use without --%s", row->name, needed->name);
        }
    return true;
}

bool opt_parse(Options *o, int argc, char **argv, Error *e)
{
    return set_defaults(o, e) && parse_words(o, argc, argv, e) && read_config(o, e)
           && needs_met(o, e);
}

void opt_free(Options *o)
{
    for (const Opt *row = o->table; row->name; row++) {
        Texts *texts = field(o, row);
        if (row->kind != OPT_TEXTS || !(row->verbs & o->verb)) continue;
        free(texts->at);
        *texts = (Texts){ 0 };
    }
    free(o->operands.at);
    free(o->settings);
    file_unmap(&o->config);
    *o = (Options){ .table = o->table, .verb = o->verb, .fields = o->fields };
}

/* ---- settings: name = value ------------------------------------------------------------------ */

static bool blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* Blanks off both ends of a line, in place; returns its new begin. */
static char *trim(char *from, char *end)
{
    while (from < end && blank(*from)) from++;
    while (end > from && blank(end[-1])) end--;
    *end = 0;
    return from;
}

/* Cut a comment off: # at the start, or after a blank and outside of a quoted value. */
static void cut_comment(char *line)
{
    char *value = strchr(line, '='), *at = line;
    if (value && value[1 + strspn(value + 1, " \t")] == '"') {
        at = value + 2 + strspn(value + 1, " \t");
        while (*at && *at != '"') at += at[0] == '\\' && at[1] ? 2 : 1;
        if (memchr(line, '#', (size_t)(value - line))) at = line;
    }
    for (; *at; at++)
        if (*at == '#' && (at == line || blank(at[-1]))) {
            *at = 0;
            return;
        }
}

/* "a JSON string" -> its text, in place; other values stay. */
static bool unquote(char *value, const char *where, int line, Error *e)
{
    if (*value != '"') return true;
    Error inner = { 0 };
    Json *text = json_parse(value, strlen(value), "value", &inner);
    bool ok = text && text->type == JSON_STRING && !memchr(text->text, 0, text->length);
    if (ok) memcpy(value, text->text, text->length + 1); /* never longer than its spelling */
    else
        misuse(e, "%s: line %d: found %s, want a text in double quotes, escaped as in JSON", where,
               line, value);
    json_free(text);
    return ok;
}

static bool set_line(Options *o, char *name, char *value, bool *fresh, Place at, Error *e)
{
    const Opt *row = find(o, name, strlen(name), 0);
    if (!row || !strcmp(name, "config"))
        return misuse(e, "%s: line %d: %s: unknown option", at.where, at.line, name);
    if (!(row->verbs & o->verb))
        return misuse(e, "%s: line %d: %s: of no use here", at.where, at.line, name);
    int i = (int)(row - o->table);
    if (o->given[i] && !fresh[i]) return true; /* the command line wins */
    if (fresh[i] && row->kind != OPT_TEXTS)
        return misuse(e, "%s: line %d: %s: given twice", at.where, at.line, name);
    if (!unquote(value, at.where, at.line, e)) return false;
    o->given[i] = fresh[i] = true;
    if (row->kind != OPT_FLAG) return set(o, row, at, value, e);
    if (strcmp(value, "true") && strcmp(value, "false"))
        return refuse(row, at, e, value, "true or false");
    *(bool *)field(o, row) = value[0] == 't';
    return true;
}

bool opt_settings(Options *o, const char *text, size_t n, const char *where, Error *e)
{
    bool fresh[OPT_MOST] = { false };
    int line = 1;
    const char *zero = n ? memchr(text, 0, n) : NULL;
    if (zero)
        return fail(e, "%s: found a zero byte at %zu, want a text", where, (size_t)(zero - text));
    if (o->settings) return fail(e, "%s: settings were read before", where);
    o->settings = malloc(n + 1);
    if (!o->settings) return fail(e, "%s: out of memory: needed %zu bytes", where, n + 1);
    if (n) memcpy(o->settings, text, n);
    o->settings[n] = 0;
    for (char *at = o->settings, *next; at < o->settings + n; at = next, line++) {
        char *end = at + strcspn(at, "\n");
        next = end + 1;
        *end = 0;
        cut_comment(at);
        char *name = trim(at, at + strlen(at)), *equals = strchr(name, '=');
        if (!*name) continue;
        if (!equals)
            return misuse(e, "%s: line %d: found '%.80s', want name = value", where, line, name);
        char *value = trim(equals + 1, equals + 1 + strlen(equals + 1));
        name = trim(name, equals);
        if (!set_line(o, name, value, fresh, (Place){ where, line }, e)) return false;
    }
    return true;
}

/* ---- help and echo --------------------------------------------------------------------------- */

void opt_help(const Opt *table, unsigned verb, FILE *out)
{
    for (const Opt *row = table; row->name; row++) {
        char words[64], letter[8] = "    ";
        if (!(row->verbs & verb)) continue;
        if (row->letter) snprintf(letter, sizeof letter, "-%c, ", row->letter);
        snprintf(words, sizeof words, "%s--%s%s%s", letter, row->name, row->value ? " " : "",
                 row->value ? row->value : "");
        fprintf(out, "  %-30s %s", words, row->help);
        if (row->names) fprintf(out, ": %s", row->names());
        if (row->standard) fprintf(out, " [%s]", row->standard);
        fputc('\n', out);
    }
}

/* The fewest digits that give x back. */
static const char *shortest(double x, char out[32])
{
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, x);
        if (strtod(out, NULL) == x) break;
    }
    return out;
}

/* false: out of memory */
static bool echo_text(FILE *out, const char *name, const char *text)
{
    if (!text) return true;
    char *quoted = json_quote(text, strlen(text));
    if (quoted) fprintf(out, "%s = %s\n", name, quoted);
    free(quoted);
    return quoted != NULL;
}

/* What needs another option says nothing without it. */
static bool useful(const Options *o, const Opt *row)
{
    const Opt *needed = row->needs ? find(o, row->needs, strlen(row->needs), 0) : NULL;
    if (!needed || needed->kind != OPT_TEXT) return !needed || o->given[needed - o->table];
    return *(const char *const *)field(o, needed) != NULL;
}

char *opt_echo(const Options *o)
{
    char *text = NULL, number[32];
    size_t size;
    FILE *out = open_memstream(&text, &size);
    bool ok = out != NULL;
    if (!out) return NULL;
    for (const Opt *row = o->table; ok && row->name; row++) {
        const void *value = field(o, row);
        if (!row->echo || !(row->verbs & o->verb) || !useful(o, row)) continue;
        if (row->if_given && !o->given[row - o->table]) continue;
        switch (row->kind) {
        case OPT_FLAG: if (*(const bool *)value) fprintf(out, "%s = true\n", row->name); break;
        case OPT_TEXT: ok = echo_text(out, row->name, *(const char *const *)value); break;
        case OPT_TEXTS:
            for (int i = 0; ok && i < ((const Texts *)value)->count; i++)
                ok = echo_text(out, row->name, ((const Texts *)value)->at[i]);
            break;
        case OPT_WHOLE: fprintf(out, "%s = %d\n", row->name, *(const int *)value); break;
        case OPT_NUMBER:
            fprintf(out, "%s = %s\n", row->name, shortest(*(const double *)value, number));
            break;
        case OPT_SEED: case OPT_SIZE:
            fprintf(out, "%s = %llu\n", row->name, (unsigned long long)*(const uint64_t *)value);
            break;
        }
    }
    if (!fclose(out) && ok) return text;
    free(text);
    return NULL;
}

const char *opt_size(uint64_t bytes, char out[32])
{
    static const char units[] = "KMGT";
    double value = (double)bytes;
    int unit = -1;
    while (value >= 1024 && unit < 3) { value /= 1024; unit++; }
    uint64_t tenths = (uint64_t)(value * 10);
    if ((double)tenths < value * 10) tenths++; /* up: --max-mem must hold it */
    if (unit < 0) snprintf(out, 32, "%llu", (unsigned long long)bytes);
    else
        snprintf(out, 32, "%llu.%llu%c", (unsigned long long)tenths / 10,
                 (unsigned long long)tenths % 10, units[unit]);
    return out;
}
