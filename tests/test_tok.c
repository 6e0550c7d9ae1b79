/* test_tok.c - ids against the reference's (tests/tok, made by tests/tok.py), a plain twin of
 * merging, hostile vocabularies and texts.  C05, F06 ... are rows of the hostile inputs. */
#include "../tok.h"
#include "test.h"

#include <unistd.h>

/* ---- a folder of our own -------------------------------------------------------------------- */

static const char *const names[] = { "vocab.json", "merges.txt", "tokenizer.json",
                                     "added_tokens.json", "tokenizer_config.json",
                                     "special_tokens_map.json" };
static char room[64];

static void empty(void)
{
    for (size_t i = 0; i < countof(names); i++) {
        char *path = path_join(room, names[i]);
        unlink(path);
        free(path);
    }
}

static void clean_up(void)
{
    empty();
    rmdir(room);
}

static void put(const char *name, const char *bytes, size_t n)
{
    if (!room[0]) {
        snprintf(room, sizeof room, "/tmp/fusion-test-tok-XXXXXX");
        if (!mkdtemp(room)) exit(2);
        atexit(clean_up);
    }
    char *path = path_join(room, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) exit(2);
    free(path);
}

static void say(const char *name, const char *text) { put(name, text, strlen(text)); }

/* Bytes of a file below tests/tok; the caller frees. */
static char *fixture(const char *folder, const char *name, size_t *n)
{
    char path[256];
    Error e = { 0 };
    File f;
    snprintf(path, sizeof path, "tests/tok/%s/%s", folder, name);
    if (!file_map(&f, path, 0, &e)) { printf("%s\n", e.text); exit(2); }
    char *bytes = malloc(f.size + 1);
    memcpy(bytes, f.at, f.size);
    bytes[*n = f.size] = 0;
    file_unmap(&f);
    return bytes;
}

/* Our folder with the two files of the older layout. */
static void lay(const char *folder)
{
    say("vocab.json", "");                 /* makes the room */
    empty();
    for (int i = 0; i < 2; i++) {
        size_t n;
        char *bytes = fixture(folder, names[i], &n);
        put(names[i], bytes, n);
        free(bytes);
    }
}

static Json *read_json(const char *path)
{
    Error e = { 0 };
    Json *root = json_read(path, 0, &e);
    if (!root) { printf("%s\n", e.text); exit(2); }
    return root;
}

static Tok *opened(const char *folder)
{
    Error e = { 0 };
    Tok *t = tok_open(folder, &e);
    if (!t) { printf("%s\n", e.text); exit(2); }
    return t;
}

/* ---- comparing ------------------------------------------------------------------------------ */

/* Does text give these ids (an array of numbers)? */
static bool gives(const Tok *t, const char *text, size_t n, const Json *want)
{
    Error e = { 0 };
    Ids ids;
    if (!tok_encode(t, text, n, &ids, &e)) return printf("%s\n", e.text), false;
    bool equal = ids.count == want->count;
    int i = 0;
    for (const Json *v = want->first; equal && v; v = v->next) equal = ids.at[i++] == atoi(v->text);
    if (!equal) {
        printf("'%.*s' gives", (int)n, text);
        for (i = 0; i < ids.count; i++) printf(" %d", ids.at[i]);
        printf("\n");
    }
    ids_free(&ids);
    return equal;
}

/* The same, with the ids spelled as in a shell: "598 320 599". */
static bool spells(const Tok *t, const char *text, const char *want)
{
    Error e = { 0 };
    Ids ids;
    char got[4096] = "";
    size_t used = 0;
    if (!tok_encode(t, text, strlen(text), &ids, &e)) return printf("%s\n", e.text), false;
    for (int i = 0; i < ids.count && used < sizeof got - 16; i++)
        used += (size_t)snprintf(got + used, 16, i ? " %d" : "%d", ids.at[i]);
    ids_free(&ids);
    if (strcmp(got, want)) printf("'%s' gives %s, want %s\n", text, got, want);
    return !strcmp(got, want);
}

static void all_texts(const char *folder, const char *kind)
{
    char path[256];
    snprintf(path, sizeof path, "tests/tok/%s", folder);
    Tok *t = opened(path);
    Json *texts = read_json("tests/tok/texts.json");
    CHECK(texts->count > 300);
    for (const Json *row = texts->first; row; row = row->next) {
        const Json *text = json_get(row, "text");
        CHECK(gives(t, text->text, text->length, json_get(row, kind)));
    }
    json_free(texts);
    tok_close(t);
}

TEST(clip_texts) { all_texts("clip", "clip"); }
TEST(clip_texts_tokenizer_json) { all_texts("clip-new", "clip"); }
TEST(roberta_texts) { all_texts("roberta", "roberta"); }
TEST(roberta_texts_tokenizer_json) { all_texts("roberta-new", "roberta"); }

/* Special and added tokens as the configs of published folders give them, and in rarer ways. */
TEST(variants)
{
    Json *rows = read_json("tests/tok/variants.json");
    CHECK(rows->count > 10);
    for (const Json *row = rows->first; row; row = row->next) {
        lay(json_get(row, "base")->text);
        for (const Json *f = json_get(row, "files")->first; f; f = f->next)
            put(f->key, f->text, f->length);
        Tok *t = opened(room);
        CHECK(tok_padding(t) == atoi(json_get(row, "padding")->text));
        CHECK(tok_vocabulary(t) == atoi(json_get(row, "vocabulary")->text));
        CHECK(tok_max_length(t) == atoi(json_get(row, "longest")->text));
        for (const Json *v = json_get(row, "texts")->first; v; v = v->next) {
            const Json *text = json_get(v, "text");
            CHECK(gives(t, text->text, text->length, json_get(v, "ids")));
        }
        tok_close(t);
    }
    json_free(rows);
}

/* ---- the rest of the contract --------------------------------------------------------------- */

TEST(pieces)
{
    Tok *t = opened("tests/tok/clip");
    int n = tok_vocabulary(t);
    CHECK(tok_start(t) == n - 2 && tok_end(t) == n - 1 && tok_padding(t) == n - 1);
    CHECK(tok_max_length(t) == 77);
    CHECK_STR(tok_piece(t, 0), "!");
    CHECK_STR(tok_piece(t, 256), "!</w>");
    CHECK_STR(tok_piece(t, n - 1), "<|endoftext|>");
    CHECK(!tok_piece(t, n) && !tok_piece(t, -1));
    tok_close(t);
    tok_close(NULL);
}

/* F07: 75, 76, 77, 78 tokens. */
TEST(fit)
{
    Tok *t = opened("tests/tok/clip");
    char text[256];
    for (int words = 0; words < 90; words++) {
        Error e = { 0 };
        Ids ids;
        int lost = -1;
        for (int i = 0; i < words; i++) memcpy(text + 2 * i, "a ", 2);
        CHECK(tok_encode(t, text, (size_t)(2 * words), &ids, &e) && ids.count == words + 2);
        CHECK(tok_fit(t, &ids, 77, &lost, &e));
        CHECK(ids.count == 77 && lost == imax(words - 75, 0));
        int a = ids.at[1], end = imin(words, 75) + 1;
        CHECK(ids.at[0] == tok_start(t) && ids.at[end] == tok_end(t));
        for (int i = 1; i < end; i++) CHECK(ids.at[i] == a);
        for (int i = end + 1; i < 77; i++) CHECK(ids.at[i] == tok_padding(t));
        CHECK(tok_fit(t, &ids, 2, &lost, &e) && ids.count == 2 && ids.at[1] == tok_end(t));
        CHECK(!tok_fit(t, &ids, 1, &lost, &e) && e.code == 1 && ids.count == 2);
        ids_free(&ids);
    }
    tok_close(t);
}

static void decodes(const char *folder, const char *text, const char *want)
{
    Tok *t = opened(folder);
    Error e = { 0 };
    Ids ids;
    CHECK(tok_encode(t, text, strlen(text), &ids, &e));
    char *got = tok_decode(t, ids.at, ids.count, &e);
    CHECK_STR(got ? got : e.text, want);
    free(got);
    ids_free(&ids);
    tok_close(t);
}

TEST(decode)
{
    decodes("tests/tok/clip", "", "");
    decodes("tests/tok/clip", "A photo  of caf\xc3\xa9, 42!", "a photo of caf\xc3\xa9 , 4 2 !");
    decodes("tests/tok/clip", "a<|endoftext|>b", "a b");
    decodes("tests/tok/roberta", "", "");
    decodes("tests/tok/roberta", " A  <mask>caf\xc3\xa9, 42!", " A  caf\xc3\xa9, 42!");
    decodes("tests/tok/roberta-new", "\xf0\x9f\x98\x80!", "\xf0\x9f\x98\x80!");

    Tok *t = opened("tests/tok/roberta");  /* cut inside a character */
    Error e = { 0 };
    Ids ids;
    CHECK(tok_encode(t, "\xf0\x9f\xaa\xbf", 4, &ids, &e) && ids.count > 3);
    char *got = tok_decode(t, ids.at + 1, 1, &e);
    CHECK(got && !strncmp(got, "\xef\xbf\xbd", 3));
    free(got);
    ids.at[1] = tok_vocabulary(t);
    CHECK(!tok_decode(t, ids.at, ids.count, &e) && strstr(e.text, "wanted below"));
    ids_free(&ids);
    tok_close(t);
}

/* F03: each byte that is not UTF-8 counts as U+FFFD. */
TEST(invalid_utf8)
{
    static const struct { const char *bad, *same; } rows[] = {
        { "a\x80 b", "a\xef\xbf\xbd b" },
        { "\xff\xfe", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xc3", "\xef\xbf\xbd" },                                        /* cut */
        { "\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xf0\x9f\x98 x", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd x" },
        { "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },                        /* longer than needed */
        { "\xc1\x81", "\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xf0\x80\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },        /* a surrogate */
        { "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },    /* 110000 */
        { "\xf8\x88\x80\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
        { "caf\xc3\xa9\xc3", "caf\xc3\xa9\xef\xbf\xbd" },
    };
    static const char *const folders[] = { "tests/tok/clip", "tests/tok/roberta" };
    for (int k = 0; k < 2; k++) {
        Tok *t = opened(folders[k]);
        for (size_t i = 0; i < countof(rows); i++) {
            Error e = { 0 };
            Ids a, b;
            CHECK(tok_encode(t, rows[i].bad, strlen(rows[i].bad), &a, &e));
            CHECK(tok_encode(t, rows[i].same, strlen(rows[i].same), &b, &e));
            CHECK(a.count == b.count && !memcmp(a.at, b.at, (size_t)a.count * sizeof *a.at));
            ids_free(&a);
            ids_free(&b);
        }
        tok_close(t);
    }
}

static uint32_t dice(uint32_t *state, uint32_t sides)
{
    *state = *state * 1664525u + 1013904223u;
    return (*state >> 8) % sides;
}

/* Any bytes have ids, all below the vocabulary, the first the start, the last the end. */
TEST(any_bytes)
{
    static const char *const folders[] = { "tests/tok/clip-new", "tests/tok/roberta-new" };
    uint32_t seed = 7;
    for (int k = 0; k < 2; k++) {
        Tok *t = opened(folders[k]);
        for (int i = 0; i < 3000; i++) {
            char text[64];
            size_t n = dice(&seed, sizeof text + 1);
            for (size_t j = 0; j < n; j++)
                text[j] = (char)(dice(&seed, 3) ? dice(&seed, 256) : 0x20 + dice(&seed, 96));
            char *tight = malloc(n + !n);      /* so that a sanitizer sees a read beyond it */
            memcpy(tight, text, n);
            Error e = { 0 };
            Ids ids;
            CHECK(tok_encode(t, tight, n, &ids, &e) && ids.count >= 2);
            CHECK(ids.at[0] == tok_start(t) && ids.at[ids.count - 1] == tok_end(t));
            for (int j = 0; j < ids.count; j++)
                CHECK(ids.at[j] >= 0 && ids.at[j] < tok_vocabulary(t));
            ids_free(&ids);
            free(tight);
        }
        tok_close(t);
    }
}

/* ---- merging against its plain twin --------------------------------------------------------- */

typedef char Text[12];
typedef struct { Text left, right; } Rule;

/* Byte pair encoding as the paper has it: again and again, join the first pair of the best rule. */
static int twin(const char *word, const Rule *rules, int count, Text *out)
{
    int n = (int)strlen(word);
    for (int i = 0; i < n; i++)
        snprintf(out[i], sizeof out[i], "%c%s", word[i], i + 1 == n ? "</w>" : "");
    for (int r = 0; r < count; ) {
        int i = 0;
        while (i + 1 < n && (strcmp(out[i], rules[r].left) || strcmp(out[i + 1], rules[r].right)))
            i++;
        if (i + 1 >= n) { r++; continue; }
        memcpy(out[i] + strlen(out[i]), out[i + 1], strlen(out[i + 1]) + 1);
        memmove(out + i + 1, out + i + 2, (size_t)(n - i - 2) * sizeof out[0]);
        n--;
        r = 0;                             /* a new pair may have a better rule */
    }
    return n;
}

/* Random rules over a and b, in random order, so that ranks do not rise from parts to wholes. */
TEST(merging_equals_its_twin)
{
    static Rule rules[4096];
    static Text pieces[128], want[64];
    static char vocabulary[4096], merges[65536];
    uint32_t seed = 3;
    for (int round = 0; round < 40; round++) {
        int count = 0, n = 0;
        size_t used = 1;
        for (int length = 1; length <= 5; length++)
            for (int bits = 0; bits < 1 << length; bits++)
                for (int end = 0; end < 2; end++) {
                    char letters[8] = "";
                    for (int i = 0; i < length; i++) letters[i] = bits >> i & 1 ? 'b' : 'a';
                    if (length > 1 && !dice(&seed, 2 + (uint32_t)round % 6)) continue;
                    snprintf(pieces[n], sizeof pieces[n], "%s%s", letters, end ? "</w>" : "");
                    n++;
                }
        strcpy(vocabulary, "{");
        for (int i = 0; i < n; i++)
            used += (size_t)snprintf(vocabulary + used, 32, "\"%s\":%d,", pieces[i], i);
        snprintf(vocabulary + used, 64, "\"<|startoftext|>\":%d,\"<|endoftext|>\":%d}", n, n + 1);
        for (int a = 0; a < n; a++)
            for (int b = 0; b < n; b++)
                for (int c = 0; c < n && !strstr(pieces[a], "<"); c++) {
                    size_t left = strlen(pieces[a]);
                    if (strncmp(pieces[c], pieces[a], left) || strcmp(pieces[c] + left, pieces[b]))
                        continue;
                    strcpy(rules[count].left, pieces[a]);
                    strcpy(rules[count++].right, pieces[b]);
                }
        for (int i = count - 1; i > 0; i--) {
            int j = (int)dice(&seed, (uint32_t)i + 1);
            Rule swap = rules[i];
            rules[i] = rules[j];
            rules[j] = swap;
        }
        used = 0;
        merges[0] = 0;
        for (int i = 0; i < count; i++)
            used += (size_t)snprintf(merges + used, 32, "%s %s\n", rules[i].left, rules[i].right);
        lay("clip");
        say("vocab.json", vocabulary);
        say("merges.txt", merges);
        Tok *t = opened(room);
        for (int i = 0; i < 200; i++) {
            char word[64] = "";
            int length = 1 + (int)dice(&seed, 60);
            for (int j = 0; j < length; j++) word[j] = dice(&seed, 1 + (uint32_t)i % 4) ? 'b' : 'a';
            Error e = { 0 };
            Ids ids;
            CHECK(tok_encode(t, word, (size_t)length, &ids, &e));
            bool equal = ids.count == twin(word, rules, count, want) + 2;
            for (int j = 0; equal && j < ids.count - 2; j++)
                equal = !strcmp(tok_piece(t, ids.at[j + 1]), want[j]);
            CHECK(equal);
            ids_free(&ids);
        }
        tok_close(t);
    }
}

/* C15, F05, F06: a word of 10^6 letters, 10^6 marks on one letter, 10^7 bytes of words. */
TEST(long_texts)
{
    static const char *const folders[] = { "tests/tok/clip", "tests/tok/roberta" };
    static const char *const units[] = { "a", "ab", "e\xcc\x81\xcc\xa3", "\xcc\xa7\xcc\x81", " ",
                                         "!", "<|endoftext|", "a photo of a cat ",
                                         "\xe7\x8c\xab", "\xea\xb0\x80\xe1\x86\xa8" };
    for (int k = 0; k < 2; k++) {
        Tok *t = opened(folders[k]);
        for (size_t u = 0; u < countof(units); u++) {
            size_t step = strlen(units[u]), n = strchr(units[u], 'p') ? 10000000 : 1000000;
            n = n / step * step;
            char *text = malloc(n);
            for (size_t i = 0; i < n; i++) text[i] = units[u][i % step];
            Error e = { 0 };
            Ids ids;
            double begin = now();
            CHECK(tok_encode(t, text, n, &ids, &e));
            CHECK(now() - begin < 30);     /* what is not linear takes hours; a sanitizer is slow */
            ids_free(&ids);
            free(text);
        }
        tok_close(t);
    }
}

TEST(too_long)
{
    Tok *t = opened("tests/tok/clip");
    Error e = { 0 };
    Ids ids;
    CHECK(!tok_encode(t, "", ((size_t)1 << 28) + 1, &ids, &e) && strstr(e.text, "268435456"));
    CHECK(!ids.at && !ids.count);
    tok_close(t);
}

/* ---- lucky files ---------------------------------------------------------------------------- */

static const char *const small = "{\"a\":0,\"b\":1,\"c\":2,\"a</w>\":3,\"b</w>\":4,\"c</w>\":5,"
    "\"ab\":6,\"bc</w>\":7,\"abc</w>\":8,\"<|startoftext|>\":9,\"<|endoftext|>\":10,\"ab</w>\":11,"
    "\"abc\":12}";

static Tok *small_opened(const char *merges)
{
    lay("clip");
    say("vocab.json", small);
    say("merges.txt", merges);
    return opened(room);
}

/* C02, C03, C04, C07. */
TEST(merges_spelled_otherwise)
{
    static const struct { const char *merges, *abc; } rows[] = {
        { "#version: 0.2\na b\nb c</w>\n", "9 6 5 10" },
        { "#version: 0.2\nb c</w>\na b\n", "9 0 7 10" },
        { "a b\nb c</w>\n", "9 6 5 10" },
        { "a b\nb c</w>", "9 6 5 10" },
        { "#version: 0.2\r\na b\r\nb c</w>\r\n", "9 6 5 10" },
        { "#version: 0.2\r\nb c</w>\r\na b", "9 0 7 10" },
        { "a b\n#version a b c\nab c</w>\n", "9 8 10" },
        { "a b\nb c</w>\na b\n", "9 0 7 10" },                     /* the later rank counts */
        { "#version: 0.2\n", "9 0 1 5 10" },
        { "", "9 0 1 5 10" },
    };
    for (size_t i = 0; i < countof(rows); i++) {
        Tok *t = small_opened(rows[i].merges);
        CHECK(spells(t, "abc", rows[i].abc));
        tok_close(t);
    }
}

TEST(bytes_that_the_vocabulary_lacks)
{
    Tok *t = small_opened("a b\nb c</w>\n");
    CHECK(spells(t, "abz za", "9 6 10 10 3 10"));              /* unk_token is <|endoftext|> */
    tok_close(t);

    say("tokenizer_config.json", "{\"unk_token\":\"b\"}");
    t = opened(room);
    CHECK(spells(t, "zz", "9 1 1 10"));
    tok_close(t);

    say("merges.txt", "a b\nab c\n");     /* ab stands for z at once, and is made of a, b later */
    say("tokenizer_config.json", "{\"unk_token\":\"ab\",\"split_special_tokens\":true}");
    t = opened(room);
    CHECK(spells(t, "abczcabcb", "9 12 12 12 4 10"));
    tok_close(t);

    say("merges.txt", "");
    say("tokenizer_config.json", "{\"unk_token\":\"<unk>\"}");  /* added, not of the vocabulary */
    t = opened(room);
    CHECK(spells(t, "ab", "9 0 4 10") && tok_vocabulary(t) == 14);
    Error e = { 0 };
    Ids ids;
    CHECK(!tok_encode(t, "abz", 3, &ids, &e) && strstr(e.text, "unk_token") && !ids.at);
    tok_close(t);

    lay("roberta");
    say("vocab.json", "{\"<s>\":0,\"<pad>\":1,\"</s>\":2,\"<unk>\":3,\"a\":4,\"b\":5,\"ab\":6}");
    say("merges.txt", "a b\n");
    t = opened(room);
    CHECK(spells(t, "azb", "0 6 2"));      /* RoBERTa: dropped, before merging */
    CHECK(spells(t, "<mask>", "0 4 2"));   /* the class names it, the vocabulary has none: text */
    tok_close(t);
}

TEST(ids_with_holes)
{
    lay("clip");
    say("vocab.json", "{\"a\":7,\"b\":3,\"a</w>\":9,\"<|startoftext|>\":40,\"<|endoftext|>\":20}");
    say("merges.txt", "");
    Tok *t = opened(room);
    CHECK(spells(t, "aba", "40 7 3 9 20") && tok_vocabulary(t) == 41);
    CHECK(!tok_piece(t, 8));
    CHECK_STR(tok_piece(t, 40), "<|startoftext|>");
    tok_close(t);
    /* a piece with a character that stands for no byte is meant as it is */
    say("vocab.json",
        "{\"a\":0,\"a</w>\":4,\"b\xe7\x8c\xab</w>\":1,"
        "\"<|startoftext|>\":2,\"<|endoftext|>\":3}");
    t = opened(room);
    char *got = tok_decode(t, (const int[]){ 0, 1, 0 }, 3, &(Error){ 0 });
    CHECK_STR(got, "ab\xe7\x8c\xab</w>a");
    free(got);
    tok_close(t);
    static const char *const classes[] = { "CLIPTokenizerFast", "PreTrainedTokenizerFast",
                                           "TokenizersBackend" };
    say("vocab.json",
        "{\"a\":0,\"a</w>\":1,\"<|startoftext|>\":2,\"<|endoftext|>\":3}");
    for (size_t i = 0; i < countof(classes); i++) {
        char config[200];
        snprintf(config, sizeof config,
                 "{\"tokenizer_class\":\"%s\",\"bos_token\":{\"content\":\"<|startoftext|>\","
                 "\"normalized\":null},\"eos_token\":\"<|endoftext|>\"}", classes[i]);
        say("tokenizer_config.json", config);
        t = opened(room);
        CHECK(spells(t, "aa", "2 0 1 3"));
        tok_close(t);
    }
}

TEST(tokenizer_json_wins)
{
    Tok *t = small_opened("b c</w>\n");
    CHECK(spells(t, "abc", "9 0 7 10"));
    tok_close(t);
    say("tokenizer.json", "{\"added_tokens\":[],\"model\":{\"vocab\":{\"a\":0,\"b\":1,\"c\":2,"
        "\"c</w>\":5,\"ab\":6,\"<|startoftext|>\":9,\"<|endoftext|>\":10},\"merges\":[\"a b\"]}}");
    t = opened(room);
    CHECK(spells(t, "abc", "9 6 5 10"));
    tok_close(t);
}

/* C13, C14: a chain of merges, each of a token longer than the last; a token of 1 MB. */
TEST(large_vocabulary)
{
    enum { CHAIN = 2000, LONG = 1000000 };
    size_t half = (size_t)CHAIN * (CHAIN + 32), v = 0, m = 0;
    char *vocabulary = malloc(half + 2 * LONG), *merges = malloc(half), *line = malloc(LONG + 1);
    v += (size_t)sprintf(vocabulary, "{\"a\":0,\"a</w>\":1,"
                         "\"<|startoftext|>\":2,\"<|endoftext|>\":3");
    memset(line, 'a', LONG);
    line[0] = 'b';
    line[LONG] = 0;
    for (int i = 1; i <= CHAIN; i++) {     /* b, ba, baa ... */
        v += (size_t)sprintf(vocabulary + v, ",\"%.*s\":%d", i, line, i + 3);
        if (i > 1) m += (size_t)sprintf(merges + m, "%.*s a\n", i - 1, line);
    }
    v += (size_t)sprintf(vocabulary + v, ",\"%s\":%d}", line, CHAIN + 4);
    lay("clip");
    put("vocab.json", vocabulary, v);
    put("merges.txt", merges, m);
    Tok *t = opened(room);
    Error e = { 0 };
    Ids ids;
    CHECK(tok_encode(t, line, CHAIN + 1, &ids, &e) && ids.count == 4 && ids.at[1] == CHAIN + 3);
    ids_free(&ids);
    CHECK(strlen(tok_piece(t, CHAIN + 4)) == LONG);
    tok_close(t);
    free(line);
    free(merges);
    free(vocabulary);
}

/* C13: a million merges open in linear time. */
TEST(million_merges)
{
    enum { SIDE = 1000, COUNT = SIDE * SIDE };
    char *vocabulary = malloc((size_t)COUNT * 24), *merges = malloc((size_t)COUNT * 16);
    size_t v = 0, m = 0;
    v += (size_t)sprintf(vocabulary, "{\"a</w>\":0,\"<|startoftext|>\":1,\"<|endoftext|>\":2");
    for (int i = 0; i < SIDE; i++)
        v += (size_t)sprintf(vocabulary + v, ",\"l%03d\":%d,\"r%03d\":%d", i, 3 + 2 * i, i,
                             4 + 2 * i);
    for (int i = 0; i < COUNT; i++) {
        int l = i / SIDE, r = i % SIDE;
        v += (size_t)sprintf(vocabulary + v, ",\"l%03dr%03d\":%d", l, r, 3 + 2 * SIDE + i);
        m += (size_t)sprintf(merges + m, "l%03d r%03d\n", l, r);
    }
    vocabulary[v++] = '}';
    lay("clip");
    put("vocab.json", vocabulary, v);
    put("merges.txt", merges, m);
    double begin = now();
    Tok *t = opened(room);
    CHECK(tok_vocabulary(t) == COUNT + 2 * SIDE + 3);
    CHECK(now() - begin < 30);
    tok_close(t);
    free(vocabulary);
    free(merges);
}

/* ---- hostile files -------------------------------------------------------------------------- */

/* CLIP's folder with one file replaced (NULL: removed) is refused, in one line that says part. */
static void refused(const char *name, const char *text, const char *part)
{
    lay("clip");
    if (text) say(name, text);
    else {
        char *path = path_join(room, name);
        unlink(path);
        free(path);
    }
    Error e = { 0 };
    Tok *t = tok_open(room, &e);
    bool wanted = strstr(e.text, "want") || strstr(e.text, "column");      /* as json.c says it */
    bool good = !t && e.code == 1 && strstr(e.text, part) && wanted && !strchr(e.text, '\n') &&
                !strncmp(e.text, room, strlen(room));
    if (!good) printf("%s: says '%s', want '%s' in it\n", name, e.text, part);
    CHECK(good);
    tok_close(t);
}

TEST(missing_files)
{
    refused("vocab.json", NULL, "no tokenizer");
    refused("merges.txt", NULL, "merges.txt: missing");
    Error e = { 0 };
    CHECK(!tok_open("tests/tok/none", &e) && strstr(e.text, "tests/tok/none: no tokenizer"));
}

/* C01, C08, C09, C11, C12, C16. */
TEST(hostile_vocabularies)
{
    static const char *const ids[] = { "-1", "2147483648", "99999999999999999999", "1.5", "1e3",
                                       "\"5\"", "null", "[0]", "true", "4000000", "-0" };
    char text[256];
    for (size_t i = 0; i < countof(ids); i++) {
        snprintf(text, sizeof text, "{\"a</w>\":%s,\"<|startoftext|>\":1,\"<|endoftext|>\":2}",
                 ids[i]);
        refused("vocab.json", text, "token 'a</w>' has the id");
    }
    refused("vocab.json", "", "vocab.json");
    refused("vocab.json", "[]", "not an object");
    refused("vocab.json", "{}", "no vocabulary");
    refused("vocab.json", "{\"a\":0", "line 1");
    refused("vocab.json", "{\"a\":0,\"a\":1}", "column 8");
    refused("vocab.json", "{\"a\":0,\"\\ud800\":1}", "line 1");
    refused("vocab.json", "{\"a\":0,\"\xff\":1}", "line 1");
    refused("vocab.json", "{\"a</w>\":0,\"b\":1,\"c\":1}", "'b' and 'c' have the same id 1");
    lay("clip");
    refused("tokenizer_config.json", "{\"eos_token\":\"<end>\"}", "no '<end>', wanted it as eos");
    refused("tokenizer_config.json", "{\"pad_token\":\"\"}", "has no '', wanted it as pad_token");
    refused("tokenizer_config.json", "{\"tokenizer_class\":\"RobertaTokenizer\"}",
            "another tokenizer's vocabulary: bytes with </w>");
    refused("tokenizer_config.json", "{\"tokenizer_class\":\"T5Tokenizer\"}", "T5Tokenizer");
    refused("tokenizer_config.json", "{\"tokenizer_class\":5}", "tokenizer_class");
    refused("tokenizer_config.json", "{\"model_max_length\":-1}", "model_max_length");
    refused("tokenizer_config.json", "{\"model_max_length\":7.5}", "model_max_length");
    refused("tokenizer_config.json", "{\"padding_side\":\"left\"}", "padding_side is left");
    refused("tokenizer_config.json", "[]", "not an object");

    Error e = { 0 };
    lay("roberta");
    say("tokenizer_config.json", "{\"tokenizer_class\":\"CLIPTokenizer\"}");
    CHECK(!tok_open(room, &e) && strstr(e.text, "tokenizer's vocabulary: no byte with </w>"));
    e.code = 0;
    say("tokenizer_config.json", "{\"cls_token\":\"[CLS]\"}");
    CHECK(!tok_open(room, &e) && strstr(e.text, "no '[CLS]', wanted it as cls_token"));
}

/* C05, C06: the line is named as an editor counts it. */
TEST(hostile_merges)
{
    refused("merges.txt", "#version: 0.2\nà ¤\na\n", "line 3: found 'a', want");
    refused("merges.txt", "a b c\n", "line 1: found 'a b c', want");
    refused("merges.txt", "a b \n", "line 1: found 'a b '");
    refused("merges.txt", " a b\n", "line 1");
    refused("merges.txt", "a  b\n", "line 1");
    refused("merges.txt", "a\tb\n", "line 1: found 'a\\x09b'");
    refused("merges.txt", "#version: 0.2\n\n", "line 2: found ''");
    refused("merges.txt", "a \xff\n", "line 1");
    refused("merges.txt", "zq zq\n", "the vocabulary lacks the first");
    refused("merges.txt", "a zq\n", "the vocabulary lacks the second");
    refused("merges.txt", "#version\nq !\n", "line 2: 'q' + '!', the vocabulary lacks what they");
    refused("merges.txt", " \n", "the vocabulary lacks the first");
    refused("merges.txt", "\xef\xbb\xbf#version: 0.2\n", "line 1");
}

TEST(hostile_tokenizer_json)
{
    static const char *const model = "{\"added_tokens\":%s,\"model\":{\"type\":\"%s\",\"vocab\":{"
        "\"a</w>\":0,\"a\":1,\"<|startoftext|>\":2,\"<|endoftext|>\":3},\"merges\":%s}}";
    static const struct { const char *added, *type, *merges, *part; } rows[] = {
        { "[]", "Unigram", "[]", "model.type is Unigram, wanted BPE" },
        { "[]", "BPE", "null", "no model.merges" },
        { "[]", "BPE", "[\"a\"]", "merge 1 is not two tokens" },
        { "[]", "BPE", "[\"a b c\"]", "merge 1 is not" },
        { "[]", "BPE", "[[\"a\"]]", "merge 1 is not" },
        { "[]", "BPE", "[[\"a\",\"a\",\"a\"]]", "merge 1 is not" },
        { "[]", "BPE", "[[\"a\",1]]", "merge 1 is not" },
        { "[]", "BPE", "[7]", "merge 1 is not" },
        { "[]", "BPE", "[\"a a\"]", "merge 1: 'a' + 'a', the vocabulary lacks what they make" },
        { "[{\"id\":3,\"content\":\"a\"}]", "BPE", "[]", "'a' has the id 3, wanted 1, which the" },
        { "[{\"id\":9,\"content\":\"x\"}]", "BPE", "[]", "'x' has the id 9, wanted 4, the first" },
        { "[{\"content\":\"x\"}]", "BPE", "[]", "'x' has the id that is missing" },
        { "[{\"id\":-4,\"content\":\"x\"}]", "BPE", "[]", "'x' has the id -4" },
        { "[{\"id\":\"4\",\"content\":\"x\"}]", "BPE", "[]", "'x' has the id" },
        { "[{\"id\":4}]", "BPE", "[]", "an added token without text" },
        { "[4]", "BPE", "[]", "an added token without text" },
        { "[{\"id\":4,\"content\":\"x\",\"lstrip\":1}]", "BPE", "[]", "lstrip" },
        { "[{\"id\":4,\"content\":\"x\",\"single_word\":true}]", "BPE", "[]", "single_word" },
    };
    for (size_t i = 0; i < countof(rows); i++) {
        char text[512];
        snprintf(text, sizeof text, model, rows[i].added, rows[i].type, rows[i].merges);
        refused("tokenizer.json", text, rows[i].part);
    }
    refused("tokenizer.json", "{}", "no vocabulary");
    refused("tokenizer.json", "{\"model\":{\"vocab\":[[\"a\",0]],\"merges\":[]}}", "no vocabulary");
}

/* Every way to cut a folder's largest file short is an error, none a crash. */
TEST(cut_short)
{
    size_t n;
    char *bytes = fixture("clip-new", "tokenizer.json", &n);
    lay("clip");
    for (size_t i = 0; i < n - 2; i += i < 400 ? 1 : 97) {
        Error e = { 0 };
        put("tokenizer.json", bytes, i);
        Tok *t = tok_open(room, &e);
        CHECK(!t && e.code == 1);
        tok_close(t);
    }
    free(bytes);
}

/* Tokens with one text after normalising, and tokens inside tokens: the longest is found. */
TEST(added_tokens_overlap)
{
    lay("clip");
    Tok *t = opened(room);
    int next = tok_vocabulary(t), start = tok_start(t), end = tok_end(t);
    tok_close(t);
    char text[256], want[64];
    snprintf(text, sizeof text, "{\"<a>\":%d,\"<A>\":%d,\"<a><b>\":%d,\"<c\":%d}", next, next + 1,
             next + 2, next + 3);
    say("added_tokens.json", text);
    t = opened(room);
    snprintf(want, sizeof want, "%d %d %d %d %d", start, next + 2, next, next + 3, end);
    CHECK(spells(t, "<A><B><a> <C", want));
    tok_close(t);
}
