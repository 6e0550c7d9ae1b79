/* test_opt.c - options: the command line, settings lines, sizes, the echo. */
#include "../opt.h"
#include "test.h"

enum { DRAW = 1, SING = 2 };

typedef struct {
    bool quiet, loud; const char *prompt, *method, *wide; Texts words;
    int steps; uint64_t seed, room; double scale;
} Fields;

static const char *methods(void) { return "ddim, euler, k:N, best"; }
static const char *only(void) { return "one"; }

#define A(name) F(Fields, name)
static const Opt table[] = {
    { "quiet", 'q', OPT_FLAG, A(quiet), .verbs = DRAW | SING, .echo = true, .help = "say less" },
    { "loud", 'l', OPT_FLAG, A(loud), .verbs = SING, .help = "say more" },
    { "prompt", 'p', OPT_TEXT, A(prompt), .value = "TEXT", .verbs = DRAW, .echo = true,
    .help = "what" },
    { "words", 'w', OPT_TEXTS, A(words), .value = "TEXT", .verbs = DRAW, .echo = true,
    .help = "which" },
    { "method", 0, OPT_TEXT, A(method), .names = methods, .value = "NAME", .verbs = DRAW,
    .help = "how",
      .echo = true, .needs = "prompt" },
    { "wide", 0, OPT_TEXT, A(wide), .names = only, .value = "NAME", .verbs = DRAW,
    .help = "how wide" },
    { "steps", 's', OPT_WHOLE, A(steps), .low = 1, .high = 10, .standard = "5", .value = "N",
      .verbs = DRAW, .echo = true, .help = "steps", .needs = "quiet" },
    { "seed", 0, OPT_SEED, A(seed), .standard = "7", .value = "N", .verbs = DRAW, .echo = true,
      .if_given = true, .help = "seed" },
    { "room", 0, OPT_SIZE, A(room), .value = "SIZE", .verbs = DRAW, .echo = true,
    .help = "memory" },
    { "scale", 0, OPT_NUMBER, A(scale), .low = -1, .high = 2, .value = "X", .verbs = DRAW,
    .echo = true,
      .help = "scale" },
    { "config", 0, OPT_TEXT, A(wide), .value = "FILE", .verbs = DRAW,
    .help = "a file of settings" },
    { 0 } };

/* What the words make of the fields; "" or the message. */
static const char *parse(Fields *f, char **words)
{
    static Error e;
    Options o = { .table = table, .verb = DRAW, .fields = f };
    int n = 0;
    while (words[n]) n++;
    e = (Error){ 0 };
    *f = (Fields){ 0 };
    opt_parse(&o, n, words, &e);
    opt_free(&o);
    return e.text;
}

#define PARSE(f, ...) parse(f, (char *[]){ __VA_ARGS__, NULL })

TEST(a_command_line)
{
    Fields f;
    CHECK_STR(PARSE(&f, "-qpcat", "--seed", "18446744073709551615", "--scale=-1", "--", "--x"), "");
    CHECK(f.quiet && f.seed == UINT64_MAX && f.scale == -1 && f.steps == 5);
    CHECK_STR(f.prompt, "cat");
    CHECK_STR(PARSE(&f, "-p", "cat", "--method", "k12"), "--method: found 'k12', want one of "
              "ddim, euler, k:N, best");
    CHECK_STR(PARSE(&f, "-p", "cat", "--method", "k:12"), "");
    CHECK_STR(PARSE(&f, "-p", "cat", "--method", "best"), "");
    CHECK_STR(PARSE(&f, "--wide", "two"), "--wide: found 'two', want one");
    CHECK_STR(PARSE(&f, "--method", "ddim"), "--method: of no use without -p");
    CHECK_STR(PARSE(&f, "--loud"), "--loud: of no use here");
    CHECK_STR(PARSE(&f, "-ql"), "--loud: of no use here");
    CHECK_STR(PARSE(&f, "-x"), "-x: unknown option");
    CHECK_STR(PARSE(&f, "--none=1"), "--none: unknown option");
    CHECK_STR(PARSE(&f, "-qq"), "--quiet: given twice");
    CHECK_STR(PARSE(&f, "--quiet=1"), "--quiet: takes no value, found '1'");
    CHECK_STR(PARSE(&f, "--seed"), "--seed: its value is missing");
    CHECK_STR(PARSE(&f, "-s"), "-s: its value is missing");
    CHECK_STR(PARSE(&f, "-s0"), "--steps: found '0', want a whole number in 1..10");
    CHECK_STR(PARSE(&f, "--seed=-1"),
               "--seed: found '-1', want a whole number in 0..18446744073709551615");
    CHECK_STR(PARSE(&f, "--scale", "nan"), "--scale: found 'nan', want a number in -1..2");
    CHECK_STR(PARSE(&f, "--scale", "3"), "--scale: found '3', want a number in -1..2");
    CHECK_STR(PARSE(&f, "-p", ""), "--prompt: found '', want a text that is not empty");
    CHECK_STR(PARSE(&f, ""), "operand: found '', want a text that is not empty");
    CHECK_STR(PARSE(&f, "-"), "");
}

TEST(a_size)
{
    static const struct { const char *text; uint64_t want; } sizes[] = {
        { "4096", 4096 }, { "64M", 64 << 20 }, { "64m", 64 << 20 }, { "1.5G", 3ull << 29 },
        { "2T", 2ull << 40 }, { "1K", 1024 }, { "1.5", 0 }, { "", 0 }, { "M", 0 }, { "0", 0 },
        { "-1", 0 }, { "1e3", 0 }, { "9999999T", 0 }, { "1.2.3M", 0 },
        { "00000000000000000000000000000000000001", 0 } };
    for (size_t i = 0; i < countof(sizes); i++) {
        Fields f;
        const char *said = PARSE(&f, "--room", (char *)sizes[i].text);
        CHECK(sizes[i].want ? !*said && f.room == sizes[i].want : strstr(said,
            "want a size") != NULL);
    }
    char out[32];
    CHECK_STR(opt_size(1023, out), "1023");
    CHECK_STR(opt_size(1024, out), "1.0K");
    CHECK_STR(opt_size(1025, out), "1.1K");                /* up */
    CHECK_STR(opt_size(40 << 20, out), "40.0M");
    CHECK_STR(opt_size(1ull << 60, out), "1048576.0T");
}

/* What the settings make of the fields, after these words; "" or the message. */
static const char *settings(Fields *f, const char *text, size_t n)
{
    static Error e;
    static char prompt[64];
    char *words[] = { "-q", NULL };
    Options o = { .table = table, .verb = DRAW, .fields = f };
    e = (Error){ 0 };
    *f = (Fields){ 0 };
    if (opt_parse(&o, 1, words, &e)) opt_settings(&o, text, n, "a.conf", &e);
    snprintf(prompt, sizeof prompt, "%s", f->prompt ? f->prompt : "");
    f->prompt = prompt;
    opt_free(&o);
    return e.text;
}

#define SETTINGS(f, text) settings(f, text, sizeof text - 1)

TEST(settings_lines)
{
    Fields f;
    CHECK_STR(SETTINGS(&f, ""), "");
    CHECK_STR(SETTINGS(&f, "# nothing\n\n  steps=3 # three\r\nquiet = false\nwords = "
               "a\nwords=b\n"), "");
    CHECK(f.steps == 3 && f.quiet);            /* the command line said -q */
    CHECK_STR(SETTINGS(&f, "prompt = a #1 cat\n"), "");
    CHECK_STR(f.prompt, "a");
    CHECK_STR(SETTINGS(&f, "prompt = a#1 cat\n"), "");
    CHECK_STR(f.prompt, "a#1 cat");
    CHECK_STR(SETTINGS(&f, "prompt = \"a \\\"cat\\\" # \\u00e9\" # so\n"), "");
    CHECK_STR(f.prompt, "a \"cat\" # \xc3\xa9");
    CHECK_STR(SETTINGS(&f, "# prompt = \"a\"\n"), "");
    CHECK_STR(f.prompt, "");
    CHECK_STR(SETTINGS(&f, "steps # = \"3\"\n"),
               "a.conf: line 1: found 'steps', want name = value");
    static const char *const unquoted[] = { "\"a", "\"a\\", "\"a\"b", "\"a\\u0000b\"" };
    for (size_t i = 0; i < countof(unquoted); i++) {
        char text[40], want[120];
        snprintf(text, sizeof text, "prompt = %s\n", unquoted[i]);
        snprintf(want, sizeof want, "a.conf: line 1: found %s, want a text in double quotes, "
                 "escaped as in JSON", unquoted[i]);
        CHECK_STR(settings(&f, text, strlen(text)), want);
    }
    CHECK_STR(SETTINGS(&f, "\nnothing = 1\n"), "a.conf: line 2: nothing: unknown option");
    CHECK_STR(SETTINGS(&f, "config = x\n"), "a.conf: line 1: config: unknown option");
    CHECK_STR(SETTINGS(&f, "loud = true\n"), "a.conf: line 1: loud: of no use here");
    CHECK_STR(SETTINGS(&f, "steps = 1\nsteps = 2\n"), "a.conf: line 2: steps: given twice");
    CHECK_STR(SETTINGS(&f, "steps = x\n"),
               "a.conf: line 1: steps: found 'x', want a whole number in 1..10");
    CHECK_STR(SETTINGS(&f, "steps = 1\0\n"), "a.conf: found a zero byte at 9, want a text");
}

TEST(flags_in_settings)
{
    Error e = { 0 };
    Fields f = { 0 };
    Options o = { .table = table, .verb = DRAW, .fields = &f };
    CHECK(opt_settings(&o, "quiet = true", 12, "a.conf", &e) && f.quiet && opt_given(&o, "quiet"));
    CHECK(!opt_given(&o, "steps") && !opt_given(&o, "nothing"));
    CHECK(!opt_settings(&o, "", 0, "a.conf", &e));
    CHECK_STR(e.text, "a.conf: settings were read before");
    opt_free(&o);
    e = (Error){ 0 };
    o = (Options){ .table = table, .verb = DRAW, .fields = &f };
    CHECK(!opt_settings(&o, "quiet = yes", 11, "a.conf", &e) && e.code == 2);
    CHECK_STR(e.text, "a.conf: line 1: quiet: found 'yes', want true or false");
    opt_free(&o);
}

TEST(an_echo_is_read_again)
{
    Fields f = { 0 };
    Error e = { 0 };
    char *words[] = { "-q", "-p", "a \"cat\"\n", "-w", "one", "-w", "two", "--scale", "0.1",
        "--room", "1M",
                      "--seed", "3", "-s", "2", "--method", "euler", NULL };
    Options o = { .table = table, .verb = DRAW, .fields = &f }, again = o;
    CHECK(opt_parse(&o, countof(words) - 1, words, &e));
    char *text = opt_echo(&o);
    CHECK_STR(text, "quiet = true\nprompt = \"a \\\"cat\\\"\\u000a\"\nwords = \"one\"\nwords = "
               "\"two\"\n"
              "method = \"euler\"\nsteps = 2\nseed = 3\nroom = 1048576\nscale = 0.1\n");
    opt_free(&o);
    f = (Fields){ 0 };
    CHECK(opt_settings(&again, text, strlen(text), "echo", &e));
    CHECK(f.quiet && f.words.count == 2 && f.steps == 2 && f.seed == 3 && f.room == 1 << 20
        && f.scale == 0.1);
    opt_free(&again);
    free(text);
    f = (Fields){ .scale = 0.1 + 0.2 };
    o = (Options){ .table = table, .verb = DRAW, .fields = &f };
    /* seed, method and steps depend on what was not given */
    text = opt_echo(&o);
    CHECK_STR(text, "room = 0\nscale = 0.30000000000000004\n");
    free(text);
    text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    opt_help(table, SING, out);
    fclose(out);
    CHECK_STR(text, "  -q, --quiet                    say less\n  -l, --loud                   "
               "  say more\n");
    free(text);
}
