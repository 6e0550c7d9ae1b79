/* test_prompt.c - brackets, weights, chunks, words and lists of prompts.  Whole pictures beside the
 * reference are in tests/prompts.sh. */
#include "../prompt.h"
#include "../styles.h"
#include "test.h"

#include <unistd.h>

enum { LENGTH = 77 };
static Adapters none;

static Tok *open_tok(void)
{
    Tok *t = tok_open("tests/models/sd1/tokenizer", &(Error){ 0 });
    CHECK(t);
    return t;
}

static void plain_is(const char *text, const char *want)
{
    Error e = { 0 };
    char *plain = prompt_plain(text, &e);
    CHECK_STR(plain ? plain : e.text, want);
    free(plain);
}

TEST(brackets_go_and_signs_stay)
{
    plain_is("a (cat:1.3) and [the (dog)]", "a cat and the dog");
    plain_is("\\(a\\) \\[b\\] \\\\ \\c \\", "(a) [b] \\ c ");
    plain_is("a) b] (c: d) (e:1.2.3) :1.2)", "a) b] c: d e:1.2.3 :1.2)");
    plain_is("a BREAK b BREAKS xBREAK BREAK", "a   b BREAKS xBREAK  ");
    plain_is("((((", "");
    plain_is("", "");
}

/* The weight of the only token of a text's last letter "a". */
static float weight_of(const Tok *t, const char *text)
{
    Prompt p;
    Error e = { 0 };
    float weight = NAN;
    CHECK(prompt_read(&p, t, &none, text, LENGTH, true, "prompt", &e));
    for (int i = 1; !e.code && i <= p.used[0]; i++)
        if (!strcmp(tok_piece(t, p.ids[i]), "a</w>")) weight = p.weights[i];
    prompt_free(&p);
    return weight;
}

TEST(weights_are_those_of_the_web_interface)
{
    static const struct { const char *text; double weight; } cases[] = {
        { "a", 1 }, { "(a)", 1.1 }, { "((a))", 1.1 * 1.1 }, { "[a]", 1 / 1.1 }, { "(a:1.3)", 1.3 },
        { "(a : 1.3 )", 1.3 }, { "((a:1.3))", 1.3 * 1.1 }, { "([a]:2)", 2 / 1.1 },
        { "(a", 1.1 }, { "[[a", 1 / 1.1 / 1.1 }, { "(a:+.5)", 0.5 }, { "(a:-2.)", -2 },
        { "(a:0)", 0 }, { "(a:1.2.3)", 1.1 }, { "(a:)", 1.1 }, { "(a:.)", 1.1 }, { "a:1.3)", 1 },
        { "\\(a:1.3)", 1 }, { "([a)]", 1.1 / 1.1 }, { "(x:1.3) a", 1 },
        { "(a:123456789012345)", 123456789012345.0 }, { "(a:1234567890123456)", 1.1 } };
    Tok *t = open_tok();
    for (size_t i = 0; i < countof(cases); i++) {
        const double off = fabs(weight_of(t, cases[i].text) - cases[i].weight);
        if (off <= 1e-7 * fabs(cases[i].weight)) continue;
        printf("%s: off by %g\n", cases[i].text, off);
        checks_failed++;
    }
    tok_close(t);
}

/* n times "a ", then the rest. */
static const char *many(int n, const char *rest)
{
    static char text[4096];
    text[0] = 0;
    for (int i = 0; i < n; i++) strcat(text, "a ");
    return strcat(text, rest);
}

static void chunks_are(const Tok *t, const Adapters *a, const char *text, int count,
                       const int *used)
{
    Prompt p;
    Error e = { 0 };
    CHECK(prompt_read(&p, t, a, text, LENGTH, true, "prompt", &e));
    CHECK(p.chunks == count);
    for (int i = 0; i < p.chunks && i < count; i++) {
        const int *ids = p.ids + i * LENGTH;
        CHECK(p.used[i] == used[i]);
        CHECK(ids[0] == tok_start(t) && ids[p.used[i] + 1] == tok_end(t));
        for (int j = p.used[i] + 2; j < LENGTH; j++) CHECK(ids[j] == tok_padding(t));
    }
    prompt_free(&p);
}

TEST(chunks_end_where_they_are_full_or_behind_a_comma)
{
    Tok *t = open_tok();
    chunks_are(t, &none, "", 1, (int[]){ 0 });
    chunks_are(t, &none, "BREAK", 2, (int[]){ 0, 0 });
    chunks_are(t, &none, "a BREAK (a a BREAK a:2)", 3, (int[]){ 1, 2, 1 });
    chunks_are(t, &none, many(75, ""), 1, (int[]){ 75 });
    chunks_are(t, &none, many(76, ""), 2, (int[]){ 75, 1 });
    chunks_are(t, &none, many(151, ""), 3, (int[]){ 75, 75, 1 });
    chunks_are(t, &none, many(55, ", a a a a a a a a a a a a a a a a a a a a"), 2,
               (int[]){ 56, 20 });                     /* 19 behind the comma, and one more */
    chunks_are(t, &none, many(54, ", a a a a a a a a a a a a a a a a a a a a a"), 2,
               (int[]){ 75, 1 });                      /* the comma is too far back */
    chunks_are(t, &none, many(74, ", a"), 2, (int[]){ 75, 1 });
    chunks_are(t, &none, many(70, ", a a a a ,"), 2, (int[]){ 75, 1 });        /* a comma stays */
    tok_close(t);
}

TEST(without_weighting_one_chunk_is_cut_as_ever)
{
    Tok *t = open_tok();
    Prompt p;
    Error e = { 0 };
    CHECK(prompt_read(&p, t, &none, many(80, "(a:2)"), LENGTH, false, "prompt", &e));
    CHECK(p.chunks == 1 && p.used[0] == 75 && p.tokens > 80);
    CHECK(p.cut && !strncmp(p.cut, "a a a a a (", 11));
    for (int i = 0; i < LENGTH; i++) CHECK(p.weights[i] == 1);
    CHECK(p.ids[76] == tok_end(t));
    CHECK(prompt_pad(&p, t, 3, &e) && p.chunks == 3 && p.ids[2 * LENGTH + 1] == tok_end(t));
    prompt_free(&p);
    CHECK(!prompt_read(&p, t, &none, "a", 1, false, "prompt", &e) && strstr(e.text, "want 2"));
    tok_close(t);
}

TEST(a_new_word_stays_whole)
{
    Error e = { 0 };
    Adapters a = { 0 };
    Tok *t = open_tok();
    CHECK(adapters_word(&a, "tests/models/adapters/word.safetensors", 32, tok_vocabulary(t), &e));
    chunks_are(t, &a, many(74, "<cat-toy>"), 2, (int[]){ 74, 2 });
    chunks_are(t, &a, many(73, "<cat-toy>"), 1, (int[]){ 75 });
    chunks_are(t, &a, many(75, "(<cat-toy>:1.2)"), 2, (int[]){ 75, 2 });
    Prompt p;
    PromptWord *words;
    int count;
    CHECK(prompt_read(&p, t, &a, many(74, "<cat-toy> (a)"), LENGTH, true, "prompt", &e));
    CHECK(prompt_words(&p, t, &a, &words, &count, &e) && count == 76);
    CHECK_STR(words[74].text, "<cat-toy>");
    CHECK(words[74].first == LENGTH + 1 && words[74].end == LENGTH + 3);
    CHECK_STR(words[75].text, "a");
    words_free(words, count);
    prompt_free(&p);
    adapters_close(&a);
    tok_close(t);
}

TEST(weights_keep_the_mean_of_each_chunk)
{
    enum { WIDTH = 4 };
    Tok *t = open_tok();
    Prompt p;
    static float z[2 * LENGTH * WIDTH], was[countof(z)];
    CHECK(prompt_read(&p, t, &none, "a (a:1.5) BREAK a", LENGTH, true, "prompt", &(Error){ 0 }));
    double before = 0, after = 0;
    for (size_t i = 0; i < countof(z); i++) was[i] = z[i] = (float)(i % 13) - 4;
    prompt_weigh(&p, z, WIDTH);
    for (size_t i = 0; i < LENGTH * WIDTH; i++) before += was[i], after += z[i];
    CHECK(fabs(before - after) < 1e-3 * fabs(before));
    const size_t one = WIDTH + 1, two = 2 * WIDTH + 1;
    CHECK(fabs(z[two] / z[one] / (was[two] / was[one]) - 1.5) < 1e-5);
    CHECK(z[0] != was[0]);
    CHECK(!memcmp(z + LENGTH * WIDTH, was + LENGTH * WIDTH, LENGTH * WIDTH * sizeof *z));
    prompt_free(&p);
    tok_close(t);
}

TEST(any_bytes_are_read_or_refused)
{
    static const char letters[] = "()[]\\:1.5 a,BREAK\xc3\xa9\xff|<lora:";
    uint32_t state = 1;
    Tok *t = open_tok();
    for (int i = 0; i < 3000; i++) {
        char text[64];
        Prompt p;
        Error e = { 0 };
        const int n = i % 63;
        for (int j = 0; j < n; j++) {
            state = state * 1664525u + 1013904223u;
            text[j] = letters[(state >> 16) % (sizeof letters - 1)];
        }
        text[n] = 0;
        if (prompt_read(&p, t, &none, text, LENGTH, true, "prompt", &e)) {
            CHECK(p.chunks >= 1 && p.used[0] <= LENGTH - 2);
            prompt_free(&p);
        } else
            CHECK(e.code == 1 && !strncmp(e.text, "prompt: found ", 14));
    }
    tok_close(t);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static const char *written(const char *bytes, size_t n)
{
    static char path[64];
    snprintf(path, sizeof path, "/tmp/fusion-test-list-%ld", (long)getpid());
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n && !fclose(f));
    return path;
}

TEST(lines_are_what_is_not_blank)
{
    Lines l;
    const char text[] = "\xef\xbb\xbfone\r\n\n \t\nfour\n\nsix";
    const char *path = written(text, sizeof text - 1);
    CHECK(lines_read(&l, path, &(Error){ 0 }) && l.count == 3);
    CHECK_STR(l.at[0], "one");
    CHECK_STR(l.at[2], "six");
    CHECK(l.number[0] == 1 && l.number[1] == 4 && l.number[2] == 6);
    lines_free(&l);
    static const struct { const char *bytes; size_t n; const char *want; } bad[] = {
        { "", 0, "found no line with text" },
        { "a\nb\xc3\n", 5, ":2: found bytes that are no UTF-8" },
        { "a\0b", 3, "found a zero byte, want a text file" } };
    char *many = malloc(200002);
    for (int i = 0; i < 100001; i++) memcpy(many + 2 * i, "a\n", 2);
    Error much = { 0 };
    CHECK(lines_read(&l, written(many, 200000), &much) && l.count == 100000);
    lines_free(&l);
    CHECK(!lines_read(&l, written(many, 200002), &much) && strstr(much.text,
        ":100001: found more than 100000"));
    free(many);
    for (size_t i = 0; i < countof(bad); i++) {
        Error e = { 0 };
        CHECK(!lines_read(&l, written(bad[i].bytes, bad[i].n), &e) && strstr(e.text, bad[i].want));
    }
    unlink(path);
}

TEST(a_style_is_words_around_the_prompt)
{
    static const struct { const char *name, *prompt, *negative, *want[2]; } cases[] = {
        { "ink", "a cat", NULL, { "ink of a cat!", "color" } },
        { "ink", "", "dark", { "ink of !", "dark, color" } },
        { "end", "a cat", NULL, { "a cat, by hand", NULL } },
        { "end", "", "dark", { "by hand", "dark" } },
        { "bare", "{prompt}", NULL, { "{prompt}", NULL } } };
    const char list[] = "# c\nink\tink of {prompt}!\tcolor\nend\tby hand\nbare\t{prompt}\t\n";
    const char *path = written(list, sizeof list - 1);
    for (size_t i = 0; i < countof(cases); i++) {
        char *out[2];
        CHECK(style_apply(path, cases[i].name, cases[i].prompt, cases[i].negative, out,
                          &(Error){ 0 }));
        for (int j = 0; j < 2; j++) {
            CHECK(!out[j] == !cases[i].want[j]);
            if (out[j]) CHECK_STR(out[j], cases[i].want[j]);
            free(out[j]);
        }
    }
    Error e = { 0 };
    char *out[2];
    CHECK(!style_apply(path, "other", "a", NULL, out, &e) && e.code == 2);
    CHECK(strstr(e.text, "found 'other', want one of ink, end, bare"));
    unlink(path);
}
