/* styles.c - lists of texts: prompts, one a line; styles by their name. */
#include "styles.h"
#include "io.h"
#include "picture.h"

#include <stdlib.h>

enum { LIST_BYTES = 16 << 20, LINES_MOST = 100000 };

/* ---- lines ----------------------------------------------------------------------------------- */

static bool add_line(Lines *l, char *line, int number, const char *path, Error *e)
{
    if (!utf8_valid(line, strlen(line)))
        return fail(e, "%s:%d: found bytes that are no UTF-8, want a text", path, number);
    if (!line[strspn(line, " \t\r\v\f")]) return true;
    if (l->count == LINES_MOST)
        return fail(e, "%s:%d: found more than %d lines", path, number, LINES_MOST);
    if ((l->count & (l->count - 1)) == 0) {            /* room for twice as many */
        const size_t room = l->count ? 2 * (size_t)l->count : 1;
        char **at = realloc(l->at, room * sizeof *at);
        if (at) l->at = at;
        int *numbers = realloc(l->number, room * sizeof *numbers);
        if (numbers) l->number = numbers;
        if (!at || !numbers) return fail(e, "%s: out of memory: needed room for lines", path);
    }
    l->number[l->count] = number;
    l->at[l->count++] = line;
    return true;
}

static bool split_lines(Lines *l, size_t n, const char *path, Error *e)
{
    char *line = l->text;
    if (n >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) line += 3;
    for (int number = 1; line < l->text + n; number++) {
        char *end = memchr(line, '\n', (size_t)(l->text + n - line));
        if (!end) end = l->text + n;
        *end = 0;
        if (end > line && end[-1] == '\r') end[-1] = 0;
        if (!add_line(l, line, number, path, e)) return false;
        line = end + 1;
    }
    return l->count || fail(e, "%s: found no line with text", path);
}

bool lines_read(Lines *l, const char *path, Error *e)
{
    File f;
    *l = (Lines){ 0 };
    if (!file_map(&f, path, LIST_BYTES, e)) return false;
    const size_t n = f.size;
    const char *what = foreign_format(f.at, n);
    bool ok = (l->text = malloc(n + 1)) != NULL;
    if (!ok) fail(e, "%s: out of memory: needed %zu bytes", path, n + 1);
    if (ok && n) memcpy(l->text, f.at, n);
    if (ok && memchr(l->text, 0, n))
        ok = fail(e, "%s: found %s, want a text file", path, what ? what : "a zero byte");
    file_unmap(&f);
    ok = ok && split_lines(l, n, path, e);
    if (!ok) lines_free(l);
    return ok;
}

void lines_free(Lines *l)
{
    free(l->text);
    free(l->at);
    free(l->number);
    *l = (Lines){ 0 };
}

/* ---- styles ---------------------------------------------------------------------------------- */

typedef struct { const char *name, *prompt, *negative; } Style;

/* Cut a line at its tabs; false for a comment, or with e. */
static bool read_style(Style *s, char *line, int number, const char *path, Error *e)
{
    char *tab = strchr(line, '\t'), *second = tab ? strchr(tab + 1, '\t') : NULL;
    if (*line == '#') return false;
    if (!tab || tab == line || (second && strchr(second + 1, '\t')))
        return fail(e, "%s:%d: want name, prompt and negative prompt, a tab between them", path,
                    number);
    *tab = 0;
    if (second) *second = 0;
    *s = (Style){ line, tab + 1, second && second[1] ? second + 1 : NULL };
    return true;
}

/* Fill found, which is empty, with the style of that name. */
static bool find_style(Style *found, Lines *l, const char *name, const char *path, Error *e)
{
    char names[512] = "";
    size_t used = 0;
    for (int i = 0; i < l->count; i++) {
        Style s = { 0 };
        if (!read_style(&s, l->at[i], l->number[i], path, e)) {
            if (e->code) return false;
            continue;
        }
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "",
                                     s.name);
        if (strcmp(s.name, name)) continue;
        if (found->name)
            return fail(e, "%s:%d: found '%.80s' again, want a name once", path, l->number[i],
                        name);
        *found = s;
    }
    if (found->name) return true;
    fail(e, "%s: style: found '%.80s', want one of %s", path, name, names);
    e->code = 2;
    return false;
}

/* a and b with a word between them where both are there; the caller frees. */
static char *joined(const char *a, const char *between, const char *b, Error *e)
{
    const size_t n = strlen(a) + strlen(between) + strlen(b) + 1;
    char *text = malloc(n);
    if (text) snprintf(text, n, "%s%s%s", a, *a && *b ? between : "", b);
    else fail(e, "out of memory: needed %zu bytes for a prompt", n);
    return text;
}

static char *styled(const char *style, const char *prompt, Error *e)
{
    static const char hole[] = "{prompt}";
    const char *at = strstr(style, hole);
    if (!at) return joined(prompt, ", ", style, e);
    char *before = strndup(style, (size_t)(at - style)), *text = NULL;
    char *half = before ? joined(before, "", prompt, e) : NULL;
    if (half) text = joined(half, "", at + sizeof hole - 1, e);
    else fail(e, "out of memory: needed room for a prompt");
    free(before);
    free(half);
    return text;
}

bool style_apply(const char *path, const char *name, const char *prompt, const char *negative,
                 char *out[2], Error *e)
{
    Lines l;
    Style s = { 0 };
    out[0] = out[1] = NULL;
    if (!lines_read(&l, path, e)) return false;
    if (find_style(&s, &l, name, path, e)) {
        out[0] = styled(s.prompt, prompt, e);
        if (negative || s.negative)
            out[1] = joined(negative ? negative : "", ", ", s.negative ? s.negative : "", e);
    }
    lines_free(&l);
    for (int i = 0; i < 2 && e->code; i++) {
        free(out[i]);
        out[i] = NULL;
    }
    return !e->code;
}
