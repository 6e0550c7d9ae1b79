/* styles.h - lists of texts: prompts, one a line; styles by their name.
 *
 *     Lines l;
 *     if (!lines_read(&l, "prompts.txt", &e)) ...        l.at[0] .. l.at[l.count - 1]
 *     char *styled[2];
 *     if (!style_apply("weights/styles.txt", "ink", "a cat", NULL, styled, &e)) ...
 *     styled[0] = "a cat, ink drawing, ...", styled[1] = what should not be there, or NULL
 *
 * Text files in UTF-8, a byte order mark and CR before the end of a line allowed, a zero byte not.
 * A line of styles is name, prompt and, if there is one, negative prompt, a tab between them.
 * {prompt} in a style's prompt is where the prompt goes, else it goes before it, and a comma; what
 * should not be there follows what was asked for.  A line of styles that begins with # is a
 * comment; two may not have one name. */
#ifndef STYLES_H
#define STYLES_H
#include "base.h"

/* Lines that are not blank, and which of the file they are, counting from 1. */
typedef struct Lines { char *text, **at; int *number, count; } Lines;
bool lines_read(Lines *l, const char *path, Error *e);
void lines_free(Lines *l);

/* prompt and negative (NULL: none) in the style of that name; the caller frees out[0], out[1]. */
bool style_apply(const char *path, const char *name, const char *prompt, const char *negative,
                 char *out[2], Error *e);

#endif
