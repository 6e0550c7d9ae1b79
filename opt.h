/* opt.h - options: one table is parser, help, defaults and echo.
 *
 *     typedef struct { int steps; const char *prompt; } Args;
 *     static const Opt table[] = {
 *         { "prompt", 'p', OPT_TEXT, F(Args, prompt), .value = "TEXT", .verbs = DRAW,
 *           .help = "what to draw" },
 *         { "steps", 0, OPT_WHOLE, F(Args, steps), .low = 1, .high = 1000, .standard = "50",
 *           .value = "N", .verbs = DRAW, .echo = true, .help = "steps of the sampler" },
 *         { 0 } };
 *     Options o = { .table = table, .verb = DRAW, .fields = &args };
 *     if (!opt_parse(&o, argc, argv, &e)) ...   --steps: found '0', want a whole number in 1..1000
 *
 * --name VALUE, --name=VALUE, -x VALUE, -xVALUE; flags without a value may stand together (-qv);
 * `--` ends the options, what else stands there is an operand.  A value is what follows, even where
 * it begins with a dash.  Numbers are read in the C locale, whole, in range.  A misuse has code 2
 * in e. */
#ifndef OPT_H
#define OPT_H
#include "base.h"
#include "io.h"

/* Kind of the value and, behind it, the C type of its field. */
typedef enum {
    OPT_FLAG,                              /* bool: no value */
    OPT_TEXT,                              /* const char *: not empty, one of `names` if any */
    OPT_TEXTS,                             /* Texts: may be given again */
    OPT_WHOLE,                             /* int, low..high */
    OPT_SEED,                              /* uint64_t, 0..2^64-1 */
    OPT_NUMBER,                            /* double, low..high */
    OPT_SIZE                               /* uint64_t: 4096, 64M, 1.5G; powers of 1024 */
} OptKind;

typedef struct { const char **at; int count; } Texts;

typedef struct {
    const char *name; char letter; OptKind kind; size_t field;
    double low, high;
    const char *(*names)(void);            /* the valid texts, separated by ", " */
    const char *standard;                  /* the default, as typed; NULL: zero */
    const char *value, *help;              /* placeholder and line of the help */
    const char *needs;                     /* of no use without this option */
    unsigned verbs;                        /* which verbs take it, a bit each */
    bool echo;                             /* part of what makes an output again */
    bool if_given;                         /* echoed only where it was given */
} Opt;

enum { OPT_MOST = 128 };                    /* rows of a table */

typedef struct {
    const Opt *table; unsigned verb; void *fields;
    bool given[OPT_MOST];
    Texts operands;
    File config; char *settings;           /* texts of --config live here */
} Options;

/* Set defaults, then read argv[0] .. argv[argc - 1], argv[argc] being NULL, then the file of
 * --config if there is one. */
bool opt_parse(Options *o, int argc, char **argv, Error *e);
/* Read `name = value` lines, as a --config file holds them; where names them in messages.  Rows
 * that were given before keep their value.  A value in double quotes is a JSON string. */
bool opt_settings(Options *o, const char *text, size_t n, const char *where, Error *e);
void opt_free(Options *o);

bool opt_given(const Options *o, const char *name);
/* A misuse: fail with code 2. */
PRINTF(2, 3) bool misuse(Error *e, const char *format, ...);

/* A whole number below 2^64 (digits and nothing else), a finite decimal number: as options are
 * read. */
bool opt_read_whole(const char *text, uint64_t *out);
bool opt_read_number(const char *text, double *out);

/* The rows of verb as lines of help. */
void opt_help(const Opt *table, unsigned verb, FILE *out);
/* The rows with echo as `name = value` lines that opt_settings reads again; texts that are NULL are
 * left out.  The caller frees; NULL when out of memory. */
char *opt_echo(const Options *o);

/* A size as --max-mem reads it, rounded up: "38.1M". */
const char *opt_size(uint64_t bytes, char out[32]);
/* True when name is one of a ", "-separated list; an entry that ends in :N stands for any number
 * there. */
bool opt_listed(const char *list, const char *name);

#endif
