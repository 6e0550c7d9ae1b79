/* test_picture.c - pictures: against Pillow's bytes (tests/pictures, made by tests/pictures.py),
 * out and in again, hostile files.  Letters and numbers (D07) are the rows of the catalogue of
 * hostile inputs. */
#include "../picture.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#define LENGTH(literal) (sizeof(literal) - 1)

/* ---- helpers --------------------------------------------------------------------------------- */

static uint64_t fnv(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static size_t pixels_of(const Picture *p) { return (size_t)p->w * (size_t)p->h * 3; }

/* A file that the test may change. */
typedef struct { uint8_t at[1 << 17]; size_t n; } Bytes;

static void load(Bytes *b, const char *name)
{
    char path[128];
    File f;
    Error e = {0};
    snprintf(path, sizeof path, "tests/pictures/%s", name);
    b->n = 0;
    if (!file_map(&f, path, sizeof b->at, &e)) { CHECK_STR(e.text, ""); return; }
    if (f.size) memcpy(b->at, f.at, f.size);
    b->n = f.size;
    file_unmap(&f);
}

static void add(Bytes *b, const void *bytes, size_t n)
{
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}

/* Refused, in one line that names the file first and holds wanted. */
#define REFUSED(bytes, size, wanted)                                                            \
    do { Picture p_; Error e_ = {0};                                                            \
         CHECK(!picture_parse(&p_, (const uint8_t *)(bytes), size, "FILE", &e_));               \
         CHECK(e_.code == 1 && !strncmp(e_.text, "FILE: ", 6) && !strchr(e_.text, '\n'));       \
         CHECK(!p_.rgb && !p_.texts && !p_.text_count);                                         \
         if (!strstr(e_.text, wanted)) CHECK_STR(e_.text, wanted);                              \
         picture_free(&p_); } while (0)

#define ACCEPTED(p, bytes, size)                                                                \
    do { Error e_ = {0};                                                                        \
         CHECK(picture_parse(p, (const uint8_t *)(bytes), size, "FILE", &e_));                  \
         CHECK_STR(e_.text, ""); } while (0)

/* The value of a text, or "". */
static const char *text(const Picture *p, const char *key)
{
    for (int i = 0; i < p->text_count; i++)
        if (!strcmp(p->texts[i].key, key)) return p->texts[i].value;
    return "";
}

/* The bytes of pictures.py's noise(). */
static void noise(Picture *p, uint32_t x, int w, int h)
{
    *p = (Picture){ .w = w, .h = h, .rgb = malloc((size_t)w * (size_t)h * 3) };
    for (size_t i = 0; i < pixels_of(p); i++) {
        x = x * 1664525u + 1013904223u;
        p->rgb[i] = (uint8_t)(x >> 24);
    }
}

/* ---- Pillow's bytes -------------------------------------------------------------------------- */

static FILE *expected(void)
{
    FILE *f = fopen("tests/pictures/expected.txt", "r");
    CHECK(f);
    return f;
}

TEST(files_decode_to_the_bytes_of_pillow)                         /* D17, D21, D23 */
{
    FILE *f = expected();
    char line[256], name[64], path[128];
    int files = 0;
    while (f && fgets(line, sizeof line, f)) {
        int w, h;
        unsigned long long want;
        if (sscanf(line, "%63s %d %d %llx", name, &w, &h, &want) != 4 ||
            !strcmp(name, "resize")) continue;
        Picture p;
        Error e = {0};
        snprintf(path, sizeof path, "tests/pictures/%s", name);
        bool same = picture_read(&p, path, &e) && p.w == w && p.h == h &&
                    fnv(p.rgb, pixels_of(&p)) == want;
        if (!same) printf("%s: %s\n", name, e.code ? e.text : "other pixels");
        CHECK(same);
        picture_free(&p);
        files++;
    }
    CHECK(files >= 70);
    if (f) fclose(f);
}

TEST(resized_noise_has_the_bytes_of_pillow)
{
    FILE *f = expected();
    char line[256];
    int sizes = 0;
    while (f && fgets(line, sizeof line, f)) {
        unsigned seed;
        int w, h, to_w, to_h, filter;
        unsigned long long want;
        if (sscanf(line, "resize %u %d %d %d %d %d %llx", &seed, &w, &h, &to_w, &to_h, &filter,
                   &want) != 7)
            continue;
        Picture p;
        Error e = {0};
        noise(&p, seed, w, h);
        CHECK(picture_resize(&p, to_w, to_h, (Filter)filter, &e));
        bool same = p.w == to_w && p.h == to_h && fnv(p.rgb, pixels_of(&p)) == want;
        if (!same) printf("%s", line);
        CHECK(same);
        picture_free(&p);
        sizes++;
    }
    CHECK(sizes == 30);
    if (f) fclose(f);
}

TEST(one_colour_stays_one_colour)                                 /* D24 */
{
    for (int k = 0; k < 3; k++)
        for (int filter = 0; filter < 3; filter++) {
            Picture p;
            Error e = {0};
            int level = k * 255 / 2;
            noise(&p, 1, 31, 7);
            memset(p.rgb, level, pixels_of(&p));
            CHECK(picture_resize(&p, 11, 23, (Filter)filter, &e));
            for (size_t i = 0; i < pixels_of(&p); i++) CHECK(p.rgb[i] == level);
            picture_free(&p);
        }
}

TEST(a_resize_beyond_the_limits_is_refused)                       /* D12 */
{
    static const int to[][2] = { { 0, 5 }, { 5, 0 }, { -1, 5 }, { 32769, 1 }, { 32768, 32768 } };
    for (size_t i = 0; i < countof(to); i++) {
        Picture p;
        Error e = {0};
        noise(&p, 1, 3, 3);
        CHECK(!picture_resize(&p, to[i][0], to[i][1], BICUBIC, &e));
        CHECK(strstr(e.text, "wanted 1 to 32768 a side"));
        picture_free(&p);
    }
}

/* ---- texts ----------------------------------------------------------------------------------- */

TEST(the_texts_of_a_file_are_kept)
{
    Picture p;
    Error e = {0};
    CHECK(picture_read(&p, "tests/pictures/texts.png", &e));
    CHECK(p.text_count == 5);
    CHECK_STR(p.format, "PNG");
    CHECK_STR(text(&p, "Odd"), "\xc3\x83\xc2\xa9");
    CHECK_STR(text(&p, "Title"), "caf\xc3\xa9");
    CHECK(strlen(text(&p, "Prompt")) == 320 && !strncmp(text(&p, "Prompt"), "a lake at dawn, ",
                                                        16));
    CHECK_STR(text(&p, "Author"), "Zo\xc3\xab \xe6\xbc\xa2\xe5\xad\x97");
    CHECK_STR(text(&p, "Late"), "after the data");
    picture_free(&p);
    CHECK(picture_read(&p, "tests/pictures/p420.jpg", &e));
    CHECK_STR(p.format, "JPEG");
    CHECK_STR(text(&p, "comment"), "a test");
    picture_free(&p);
}

static const char *const texts[] = {
    "prompt", "a caf\xc3\xa9 \\ by the lake\nat \"dawn\"", "seed", "42", "long", "", "name",
    "\xe6\xbc\xa2\xe5\xad\x97 \xf0\x9f\x98\x80", "odd", "\x01\t\r\x7f: # \xc2\x80", NULL };

/* Writes a noise picture twice: the same bytes, in b; the same picture and texts come back. */
static void there_and_back(const char *ending, Bytes *b, bool smooth)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/fusion-test-picture-%ld%s", (long)getpid(), ending);
    uint64_t sum = 0;
    for (int k = 0; k < 2; k++) {
        Picture p, q;
        Error e = {0};
        File f;
        noise(&p, 5, 61, 47);
        for (size_t i = 0; smooth && i < pixels_of(&p); i++)
            p.rgb[i] = (uint8_t)(i % 183 + p.rgb[i] / 64);
        Output *o = output_open(path, &e);
        bool written = o && (!strcmp(ending, ".png") ? png_write : ppm_write)(o, p.w, p.h, p.rgb,
                                                                              texts, &e) &&
                       output_commit(o, &e);
        CHECK(written);
        CHECK_STR(e.text, "");
        CHECK(picture_read(&q, path, &e));
        CHECK(q.w == p.w && q.h == p.h && q.text_count == 5);
        CHECK(q.rgb && !memcmp(q.rgb, p.rgb, pixels_of(&p)));
        for (int i = 0; i < q.text_count && i < 5; i++) {
            CHECK_STR(q.texts[i].key, texts[2 * i]);
            CHECK_STR(q.texts[i].value, texts[2 * i + 1]);
        }
        CHECK(file_map(&f, path, sizeof b->at, &e));
        b->n = 0;
        add(b, f.at, f.size);
        CHECK(k == 0 || sum == fnv(b->at, b->n));
        sum = fnv(b->at, b->n);
        file_unmap(&f);
        unlink(path);
        picture_free(&p);
        picture_free(&q);
    }
}

/* Pictures of few and many colours, in runs and not: all that a block's codes may look like. */
TEST(every_texture_survives_png)
{
    char path[64];
    snprintf(path, sizeof path, "/tmp/fusion-test-picture-%ld.png", (long)getpid());
    for (int k = 1; k <= 64; k++) {
        Picture p, q;
        Error e = {0};
        noise(&p, (uint32_t)k, 1 + k * 7 % 90, 1 + k * 5 % 60);
        for (size_t i = 3; i < pixels_of(&p); i++) {
            if (p.rgb[i] % 8 < k % 8) p.rgb[i] = p.rgb[i - 3];
            else p.rgb[i] = (uint8_t)(p.rgb[i] & 255 << k % 7);
        }
        Output *o = output_open(path, &e);
        CHECK(o && png_write(o, p.w, p.h, p.rgb, NULL, &e) && output_commit(o, &e));
        CHECK(picture_read(&q, path, &e));
        CHECK_STR(e.text, "");
        CHECK(q.w == p.w && q.h == p.h && q.rgb && !memcmp(q.rgb, p.rgb, pixels_of(&p)));
        picture_free(&p);
        picture_free(&q);
    }
    unlink(path);
}

TEST(what_is_written_comes_back)
{
    static Bytes b;
    there_and_back(".ppm", &b, false);
    static const char head[] = "P6\n# prompt: a caf\xc3\xa9 \\\\ by the lake\\nat \"dawn\"\n"
                               "# seed: 42\n";
    CHECK(!memcmp(b.at, head, LENGTH(head)));
    there_and_back(".png", &b, false);
    there_and_back(".png", &b, true);
    CHECK(b.n < 61 * 47 * 3 / 2);
    CHECK(fnv(b.at, b.n) == 0xc4d31dbbdb036abb);                  /* the same bytes everywhere */
}

/* ---- PNM ------------------------------------------------------------------------------------- */

#define PNM(literal, w_, h_, first)                                                             \
    do { Picture p; ACCEPTED(&p, literal, LENGTH(literal));                                     \
         CHECK(p.w == w_ && p.h == h_ && p.rgb && p.rgb[0] == first && p.rgb[2] == first);      \
         picture_free(&p); } while (0)

TEST(pnm_in_all_its_spellings)
{
    PNM("P6\n# Created by GIMP\n1 1\n255\nAAA", 1, 1, 'A');        /* D01, D11 */
    PNM("P6\r\n1\t#c\r\n 1\r\n255\r\nAAA", 1, 1, 'A');             /* D02 */
    PNM("P6 1 1 255\r\nAAA", 1, 1, 'A');                          /* CR LF: one blank */
    PNM("P6 1 1 255\r\n\n\n", 1, 1, '\n');                       /* but not here */
    PNM("P3 1 1 255\n65 65 65", 1, 1, 65);                        /* D03 */
    PNM("P5 2 1 255\nAB", 2, 1, 'A');
    PNM("P2 2 1 4 # c\n1 #\n4", 2, 1, 64);                        /* 63.75 */
    PNM("P1 3 1 01 0", 3, 1, 255);
    PNM("P4 9 2 \200\0\0\0", 9, 2, 0);
    PNM("P6 1 1 15\n\5\5\5", 1, 1, 85);                           /* D07 */
    PNM("P6 1 1 65535\n\1\200\1\200\1\200", 1, 1, 1);             /* 1.494 */
    PNM("P5 1 1 1000\n\1\364", 1, 1, 128);                        /* 127.5: half to even */
    PNM("P5 1 1 102\n\1", 1, 1, 2);                              /* 2.5 */
    PNM("P5 1 1 100\n\311", 1, 1, 255);                           /* above maxval */
    PNM("P6 1 1 255\nAAAP6 1 1 255\nBBB", 1, 1, 'A');             /* D09 */
    PNM("P6#c\n1 1 255#d\nAAA", 1, 1, 'A');
}

TEST(pnm_comments_are_texts)
{
    static const char file[] = "P6\n# Created by GIMP\n#prompt: a: b\\nc\\\\n\\x41\\q\\x00\n"
                               "1 1\n255\nAAA";
    Picture p;
    ACCEPTED(&p, file, LENGTH(file));
    CHECK(p.text_count == 2);
    CHECK_STR(text(&p, "comment"), "Created by GIMP");
    CHECK_STR(text(&p, "prompt"), "a: b\nc\\nA\\q\\x00");
    CHECK_STR(p.format, "PPM");
    picture_free(&p);
}

TEST(broken_pnm_is_refused)
{
    static const char *const files[][2] = {
        { "P6 0 1 255\n", "width at byte 3, found 0, wanted 1 to 32768" },                 /* D04 */
        { "P6 -4 1 255\n", "found -4" }, { "P6 99999999999 1 255\n", "found 99999999999" },
        { "P6 65536 65536 255\n", "found 65536" }, { "P6 46341 46341 255\n", "found 46341" },
        { "P6 32768 32768 255\n", "found 0 bytes, wanted 3221225472" },
        { "P6 1 100000 255\n", "height at byte 5, found 100000" },                         /* D12 */
        { "P6 2 2 0\n", "maxval at byte 7, found 0" }, { "P6 2 2 65536\n", "found 65536" },
        { "P6 2 2 255\nAAAAAAAAAAA", "found 11 bytes, wanted 12" },                        /* D08 */
        { "P6 1 1 255", "wanted one blank" }, { "P6 1 1 255xAAA", "found 255x" },          /* D10 */
        { "P6 1", "height, found the end of the file" }, { "P6", "width, found the end" },
        { "P61 1 255\nAAA", "without a blank" }, { "P3 1 1 9\n1 2 10", "found 10, wanted 0 to 9" },
        { "P3 1 1 9\n1 2 ", "sample, found the end" }, { "P1 2 1 12", "found 2, wanted 0 or 1" },
        { "P2 1 1 9\n1x", "found 1x" }, { "P7\nWIDTH 1\n", "PAM" }, { "hello", "found" } };
    for (size_t i = 0; i < countof(files); i++) REFUSED(files[i][0], strlen(files[i][0]),
                                                        files[i][1]);
    REFUSED("", 0, "empty");
}

TEST(more_texts_than_a_file_needs_are_refused)
{
    static Bytes b;
    b.n = 0;
    add(&b, "P6\n", 3);
    for (int i = 0; i < 1025; i++) add(&b, "#x\n", 3);
    add(&b, "1 1 255\nAAA", 11);
    REFUSED(b.at, b.n, "texts, found more than 1024");
    const size_t most = TEXT_LIMIT;
    char *long_one = malloc(most + 32);
    memcpy(long_one, "P6\n#", 4);
    memset(long_one + 4, 'x', most + 1);
    memcpy(long_one + 5 + most, "\n1 1 255\nAAA", 13);
    REFUSED(long_one, most + 18, "wanted at most 16777216 together");
    free(long_one);
}

/* ---- PNG ------------------------------------------------------------------------------------- */

static uint32_t crc(const uint8_t *p, size_t n)
{
    uint32_t c = ~0u;
    for (size_t i = 0; i < n; i++) {
        c ^= p[i];
        for (int k = 0; k < 8; k++) c = c >> 1 ^ (c & 1 ? 0xedb88320u : 0);
    }
    return ~c;
}

static void add32(Bytes *b, uint32_t v)
{
    uint8_t d[4] = { (uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v };
    add(b, d, 4);
}

static void chunk(Bytes *b, const char *name, const void *d, size_t n)
{
    add32(b, (uint32_t)n);
    add(b, name, 4);
    add(b, d, n);
    add32(b, crc(b->at + b->n - n - 4, n + 4));
}

/* Signature and IHDR. */
static void begin(Bytes *b, uint32_t w, uint32_t h, int depth, int colour)
{
    Bytes *d = calloc(1, sizeof *d);
    uint8_t rest[5] = { (uint8_t)depth, (uint8_t)colour };
    add32(d, w);
    add32(d, h);
    add(d, rest, 5);
    b->n = 0;
    add(b, "\x89PNG\r\n\x1a\n", 8);
    chunk(b, "IHDR", d->at, d->n);
    free(d);
}

/* A zlib stream of one stored block; the sum is right when the bytes are zeros. */
static void stored(Bytes *b, const void *d, size_t n)
{
    uint8_t head[7] = { 0x78, 0x9c, 1, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n,
                        (uint8_t)(~n >> 8) };
    add(b, head, 7);
    add(b, d, n);
    add32(b, (uint32_t)n << 16 | 1);
}

static const uint8_t zeros[4096];

/* A whole PNG of zeros: n bytes of raw data in IDAT. */
static void zero_png(Bytes *b, uint32_t w, uint32_t h, int depth, int colour, size_t n)
{
    Bytes *d = calloc(1, sizeof *d);
    begin(b, w, h, depth, colour);
    stored(d, zeros, n);
    chunk(b, "IDAT", d->at, d->n);
    chunk(b, "IEND", "", 0);
    free(d);
}

/* The byte where chunk k of a file begins. */
static size_t chunk_at(const Bytes *b, int k)
{
    size_t at = 8;
    while (k-- > 0) at += 12 + ((size_t)b->at[at + 2] << 8 | b->at[at + 3]);
    return at;
}

TEST(png_chunks_keep_their_order)                                 /* D16 */
{
    static Bytes b, c;
    Picture p;
    zero_png(&b, 2, 2, 8, 2, 14);
    ACCEPTED(&p, b.at, b.n);
    picture_free(&p);
    add(&b, "anything", 8);                                       /* behind IEND */
    ACCEPTED(&p, b.at, b.n);
    picture_free(&p);
    zero_png(&b, 2, 2, 8, 2, 14);
    size_t data = chunk_at(&b, 1), end = chunk_at(&b, 2);
    REFUSED(b.at, end, "up to IEND");
    REFUSED(b.at, data, "up to IEND");
    REFUSED(b.at, 8, "up to IEND");
    REFUSED(b.at, 7, "signature");
    for (size_t n = 0; n < b.n; n++) REFUSED(b.at, n, "");
    b.at[data + 10] ^= 1;
    REFUSED(b.at, b.n, "chunk IDAT at byte 33, found CRC");
    b.at[data + 10] ^= 1;

    c.n = 0;                                                      /* IDAT before IHDR */
    add(&c, b.at, 8);
    add(&c, b.at + data, end - data);
    add(&c, b.at + 8, data - 8);
    REFUSED(c.at, c.n, "chunk IDAT at byte 8, wanted IHDR first");
    c.n = 0;                                                      /* IHDR twice */
    add(&c, b.at, data);
    add(&c, b.at + 8, b.n - 8);
    REFUSED(c.at, c.n, "chunk IHDR at byte 33, wanted IHDR first and once");
    c.n = 0;                                                      /* no IDAT */
    add(&c, b.at, data);
    add(&c, b.at + end, 12);
    REFUSED(c.at, c.n, "no IDAT");
    c.n = 0;                                                      /* IDAT, another, IDAT */
    add(&c, b.at, end);
    chunk(&c, "tEXt", "a\0b", 3);
    add(&c, b.at + data, b.n - data);
    REFUSED(c.at, c.n, "chunk IDAT at byte 85, found after the data");
    c.n = 0;
    add(&c, b.at, end);
    chunk(&c, "PLTE", "abc", 3);
    REFUSED(c.at, c.n, "PLTE at byte 70, found after the data");
    c.n = 0;
    add(&c, b.at, data);
    chunk(&c, "ABcd", "abc", 3);
    REFUSED(c.at, c.n, "ABcd at byte 33, which must not be passed over");
}

/* What has not the form of a text is passed over: the picture does not depend on it. */
TEST(texts_of_another_form_are_passed_over)
{
    static const struct { const char *name, *bytes; size_t n; } odd[] = {
        { "tEXt", "", 0 }, { "tEXt", "no end", 6 }, { "tEXt", "\0empty key", 10 }, { "zTXt", "a\0",
        2 },
        { "zTXt", "a\0\1method", 9 }, { "iTXt", "a\0\0", 3 }, { "iTXt", "a\0\2\0\0\0x", 7 },
        { "iTXt", "a\0\1\1\0\0x", 7 }, { "iTXt", "a\0\0\0", 4 }, { "iTXt", "a\0\0\0en", 6 },
        { "iTXt", "a\0\0\0en\0", 7 }, { "iTXt", "a\0\0\0en\0key", 10 } };
    static Bytes b, d;
    Picture p;
    for (size_t i = 0; i < countof(odd); i++) {
        begin(&b, 1, 1, 8, 2);
        chunk(&b, odd[i].name, odd[i].bytes, odd[i].n);
        chunk(&b, "tEXt", "b\0after", 7);
        d.n = 0;
        stored(&d, zeros, 4);
        chunk(&b, "IDAT", d.at, d.n);
        chunk(&b, "IEND", "", 0);
        ACCEPTED(&p, b.at, b.n);
        CHECK(p.text_count == 1);
        CHECK_STR(text(&p, "b"), "after");
        picture_free(&p);
    }
}

TEST(png_sizes_are_checked_before_they_are_used)                  /* D15, D17, D20 */
{
    static Bytes b;
    zero_png(&b, 1u << 30, 1, 8, 6, 5);
    REFUSED(b.at, b.n, "found 1073741824 x 1, wanted 1 to 32768 a side");
    zero_png(&b, 0, 1, 8, 2, 5);
    REFUSED(b.at, b.n, "found 0 x 1");
    zero_png(&b, 32768, 32768, 8, 2, 5);
    REFUSED(b.at, b.n, "at most 268435456 pixels");
    zero_png(&b, 16384, 16384, 1, 0, 5);
    REFUSED(b.at, b.n, "which cannot hold");
    zero_png(&b, 1, 100000, 8, 2, 5);
    REFUSED(b.at, b.n, "found 1 x 100000");
    zero_png(&b, 2, 2, 8, 2, 13);
    REFUSED(b.at, b.n, "found 13 bytes, wanted 14");
    zero_png(&b, 2, 2, 8, 2, 15);
    REFUSED(b.at, b.n, "more data than belongs there");
    static const int none[][2] = { { 3, 0 }, { 4, 2 }, { 16, 3 }, { 2, 4 }, { 1, 6 }, { 8, 1 },
                                   { 8, 5 },
                                   { 8, 7 }, { 0, 0 }, { 32, 2 } };
    for (size_t i = 0; i < countof(none); i++) {
        zero_png(&b, 2, 2, none[i][0], none[i][1], 14);
        REFUSED(b.at, b.n, "which PNG does not have");
    }
    zero_png(&b, 2, 2, 8, 2, 14);
    memset(b.at + chunk_at(&b, 1), 0xff, 4);
    REFUSED(b.at, b.n, "wanted 4294967295");
}

TEST(png_palettes_and_filters_are_checked)
{
    static Bytes b, d;
    zero_png(&b, 1, 1, 8, 3, 2);
    REFUSED(b.at, b.n, "before the palette that it needs");
    begin(&b, 1, 1, 8, 3);
    chunk(&b, "PLTE", "abcd", 4);
    REFUSED(b.at, b.n, "found 4 bytes, wanted 3 to 768");
    begin(&b, 1, 1, 8, 3);
    chunk(&b, "PLTE", "abc", 3);
    size_t palette = b.n;
    chunk(&b, "PLTE", "abc", 3);
    REFUSED(b.at, b.n, "a second one");
    b.n = palette;
    chunk(&b, "tRNS", "ab", 2);
    REFUSED(b.at, b.n, "found 2 entries after 1 colours");
    static const uint8_t index_1[11] = { 0x78, 0x9c, 1, 2, 0, 0xfd, 0xff, 0, 1 };
    static const uint8_t filter_5[11] = { 0x78, 0x9c, 1, 2, 0, 0xfd, 0xff, 5, 0 };
    d.n = 0;
    add(&d, index_1, 9);
    add32(&d, 3u << 16 | 2);
    b.n = palette;
    chunk(&b, "IDAT", d.at, d.n);
    chunk(&b, "IEND", "", 0);
    REFUSED(b.at, b.n, "found colour 1, wanted one of the palette's 1");
    d.n = 0;
    add(&d, filter_5, 9);
    add32(&d, 12u << 16 | 6);
    b.n = palette;
    chunk(&b, "IDAT", d.at, d.n);
    chunk(&b, "IEND", "", 0);
    REFUSED(b.at, b.n, "found filter 5");
}

/* Bits of a deflate stream: numbers lowest bit first, codes highest bit first. */
typedef struct { Bytes *b; int used; } Bits;

static void bit(Bits *z, uint32_t v)
{
    if (z->used % 8 == 0) add(z->b, zeros, 1);
    z->b->at[z->b->n - 1] |= (uint8_t)(v << z->used++ % 8);
}

static void bits(Bits *z, uint32_t v, int n) { for (int i = 0; i < n; i++) bit(z, v >> i & 1); }
static void code(Bits *z, uint32_t v, int n) { while (n-- > 0) bit(z, v >> n & 1); }

/* A 2 x 2 picture whose IDAT is d. */
#define REFUSED_DATA(d, wanted)                                                                 \
    do { static Bytes b_; begin(&b_, 2, 2, 8, 2);                                               \
         chunk(&b_, "IDAT", (d)->at, (d)->n); chunk(&b_, "IEND", "", 0);                        \
         REFUSED(b_.at, b_.n, wanted); } while (0)

static Bits zlib(Bytes *d)
{
    d->n = 0;
    add(d, "\x78\x9c", 2);
    return (Bits){ d, 0 };
}

TEST(a_zlib_bomb_stops_at_the_size_of_the_picture)                /* D18 */
{
    static Bytes d;
    Bits z = zlib(&d);
    bits(&z, 3, 3);                                               /* last block, fixed codes */
    code(&z, 0x30, 8);                                            /* a zero */
    for (int i = 0; i < 60000; i++) {                             /* 258 more of them, 15 million */
        code(&z, 0xc5, 8);
        code(&z, 0, 5);
    }
    REFUSED_DATA(&d, "more data than belongs there (after 1 of 14 bytes)");
    z = zlib(&d);
    bits(&z, 3, 3);
    for (int i = 0; i < 20; i++) code(&z, 0x30, 8);
    REFUSED_DATA(&d, "more data than belongs there (after 14 of 14 bytes)");
}

TEST(broken_deflate_is_refused)                                   /* D19 */
{
    static Bytes d;
    Bits z = zlib(&d);
    bits(&z, 3, 3);
    code(&z, 0x30, 8);
    code(&z, 1, 7);                                               /* length 3 */
    code(&z, 1, 5);                                               /* distance 2 */
    bits(&z, 0, 20);
    REFUSED_DATA(&d, "a distance before the beginning");
    z = zlib(&d);
    bits(&z, 3, 3);
    code(&z, 0x30, 8);
    code(&z, 1, 7);
    code(&z, 30, 5);
    bits(&z, 0, 20);
    REFUSED_DATA(&d, "a distance that stands for nothing");
    z = zlib(&d);
    bits(&z, 3, 3);
    code(&z, 0xc6, 8);                                            /* length symbol 286 */
    bits(&z, 0, 20);
    REFUSED_DATA(&d, "a length that stands for nothing");
    z = zlib(&d);
    bits(&z, 7, 3);
    REFUSED_DATA(&d, "a block of type 3");
    for (int length = 1; length < 3; length++) {             /* nineteen codes of one bit; of two */
        z = zlib(&d);
        bits(&z, 5, 3);
        bits(&z, 0, 10);
        bits(&z, length == 1 ? 15 : 0, 4);
        for (int i = 0; i < (length == 1 ? 19 : 3); i++) bits(&z, (uint32_t)length, 3);
        bits(&z, 0, 30);
        REFUSED_DATA(&d, length == 1 ? "an oversubscribed Huffman code"
                     : "an incomplete Huffman code");
    }
    z = zlib(&d);                                                 /* 16 first: repeats nothing */
    bits(&z, 5, 3);
    bits(&z, 0, 14);
    bits(&z, 1, 3);
    bits(&z, 1, 3);
    bits(&z, 0, 30);
    REFUSED_DATA(&d, "a repeat of nothing");
    z = zlib(&d);                                  /* one distance, its code 0, and then a 1 */
    bits(&z, 5, 3);
    bits(&z, 1, 5);                                               /* 258 literals and lengths */
    bits(&z, 0, 5);                                               /* 1 distance */
    bits(&z, 14, 4);                                              /* 18 lengths of their codes */
    for (int i = 0; i < 18; i++) bits(&z, i == 2 ? 1 : i == 15 || i == 17 ? 2 : 0, 3);
    code(&z, 2, 2);                                               /* a zero: 1 bit */
    code(&z, 0, 1), bits(&z, 127, 7), code(&z, 0, 1), bits(&z, 106, 7);      /* 255 have none */
    /* end: 2, length 3: 2, distance: 1 */
    code(&z, 3, 2), code(&z, 3, 2), code(&z, 2, 2);
    code(&z, 0, 1), code(&z, 3, 2), code(&z, 1, 1);
    bits(&z, 0, 20);
    REFUSED_DATA(&d, "a code that stands for nothing");
    z = zlib(&d);                                  /* two literals, and none of them the end */
    bits(&z, 5, 3);
    bits(&z, 0, 10);                                              /* 257, 1 distance */
    bits(&z, 14, 4);
    for (int i = 0; i < 18; i++) bits(&z, i == 2 || i == 17 ? 1 : 0, 3);          /* 1: 0, 18: 1 */
    code(&z, 0, 1), code(&z, 0, 1);                               /* two literals of one bit */
    code(&z, 1, 1), bits(&z, 127, 7), code(&z, 1, 1), bits(&z, 106, 7);      /* 255 without */
    code(&z, 0, 1);                                               /* a distance */
    bits(&z, 0, 20);
    REFUSED_DATA(&d, "no code for the end of a block");
    d.n = 0;
    add(&d, "\x78\x9c\1\4\0\0\0abcd", 11);
    REFUSED_DATA(&d, "two lengths disagree");
    d.n = 0;
    add(&d, "\x79\x9c", 2);
    REFUSED_DATA(&d, "no zlib header");
    d.n = 0;
    stored(&d, zeros, 14);
    d.at[d.n - 1] ^= 1;
    REFUSED_DATA(&d, "a wrong Adler-32 sum");
    for (size_t n = d.n - 1; n > 0; n--) {
        d.n = n;
        REFUSED_DATA(&d, "the data ends early");
    }
}

/* ---- JPEG ------------------------------------------------------------------------------------ */

/* The byte of marker ff m, counted from the start of the file. */
static size_t marker(const Bytes *b, int m)
{
    size_t i = 0;
    while (i + 1 < b->n && !(b->at[i] == 0xff && b->at[i + 1] == m)) i++;
    CHECK(i + 1 < b->n);
    return i;
}

TEST(jpeg_of_other_kinds_is_refused_by_name)                      /* D21 */
{
    static const struct { int marker; const char *name; } kinds[] = {
        { 0xc3, "lossless JPEG" }, { 0xc5, "hierarchical JPEG" }, { 0xc6, "hierarchical JPEG" },
        { 0xc9, "arithmetic coding" }, { 0xca, "arithmetic coding" }, { 0xde, "hierarchical" },
        { 0xcb, "lossless JPEG with arithmetic" }, { 0xcf, "hierarchical JPEG with arithmetic" },
        { 0xf7, "JPEG-LS" } };
    static Bytes b;
    load(&b, "b420.jpg");
    size_t frame = marker(&b, 0xc0);
    for (size_t i = 0; i < countof(kinds); i++) {
        b.at[frame + 1] = (uint8_t)kinds[i].marker;
        REFUSED(b.at, b.n, kinds[i].name);
    }
    b.at[frame + 1] = 0xc1;
    b.at[frame + 4] = 12;
    REFUSED(b.at, b.n, "found 12 bits a sample, wanted 8");
}

TEST(broken_jpeg_is_refused)                                      /* D22 */
{
    static Bytes b, c;
    load(&b, "b420.jpg");
    size_t frame = marker(&b, 0xc0), codes = marker(&b, 0xc4), scan = marker(&b, 0xda);
    size_t quant = marker(&b, 0xdb);
    c.n = 0;
    add(&c, b.at, codes);
    add(&c, b.at + frame, b.n - frame);
    REFUSED(c.at, c.n, "a second frame header");
    c = b;
    c.at[codes + 4] = 4;
    REFUSED(c.at, c.n, "DHT, found table 4");
    c = b;
    memset(c.at + codes + 5, 3, 16);
    REFUSED(c.at, c.n, "DHT, found");
    c = b;
    memcpy(c.at + codes + 5, "\2\0\4", 3);
    REFUSED(c.at, c.n, "oversubscribed");
    memcpy(c.at + codes + 5, "\1\1\1\1\1\1\1\1\1\1\2\0\0\0\0\0", 16);
    REFUSED(c.at, c.n, "oversubscribed");                         /* no code is all ones */
    c = b;
    c.at[quant + 4] = 4;
    REFUSED(c.at, c.n, "for table 4");
    c = b;
    c.at[frame + 11] = 0x02;
    REFUSED(c.at, c.n, "found sampling 0 x 2");
    c = b;
    c.at[frame + 11] = 0x32;
    c.at[frame + 14] = 0x21;
    REFUSED(c.at, c.n, "found sampling 2 x 1, wanted a divisor of 3 x 2");
    c = b;
    c.at[frame + 5] = c.at[frame + 6] = 0;
    REFUSED(c.at, c.n, "height 0 (a DNL marker is not read)");
    c = b;
    c.at[frame + 5] = c.at[frame + 7] = 0x40;
    REFUSED(c.at, c.n, "cannot hold 16429 x 16419 pixels");
    c = b;
    c.at[frame + 5] = 0x80;
    REFUSED(c.at, c.n, "found 45 x 32803, wanted 1 to 32768 a side");
    c = b;
    c.at[frame + 9] = 2;
    REFUSED(c.at, c.n, "SOF, found");
    c = b;
    c.at[scan + 5] = 9;
    REFUSED(c.at, c.n, "component 9");
    c = b;
    c.at[scan + 6] = 0x40;
    REFUSED(c.at, c.n, "with tables 4 and 0");
    c.n = 0;
    add(&c, b.at, frame);
    add(&c, b.at + codes, b.n - codes);
    REFUSED(c.at, c.n, "before a frame header");
    c.n = 0;
    add(&c, b.at, codes);
    add(&c, b.at + scan, b.n - scan);
    REFUSED(c.at, c.n, "no Huffman table");
    c.n = 0;
    add(&c, b.at, scan);
    add(&c, "\xff\xd9", 2);
    REFUSED(c.at, c.n, "found no scan of it");
    REFUSED("\xff\xd8\xff\xd9", 4, "no frame header");
    REFUSED("\xff\xd8\xff\xc0\0\x0e\x08\0\1\0\1\2\1\x11\0\2\x11\0", 18,
        "found 2 components, wanted 1, 3 or 4");
    c = b;
    const size_t sof = marker(&b, 0xc0);
    for (int i = 0; i < 3; i++) c.at[sof + 11 + 3 * i] = 0x22;           /* twelve blocks */
    REFUSED(c.at, c.n, "found 12 blocks an MCU, wanted at most 10");
    for (size_t n = 2; n < b.n; n++) REFUSED(b.at, n, "");
    for (size_t n = scan + 20; n + 12 < b.n; n += 5) {           /* cut, and an end put behind it */
        c = b;
        c.n = n;
        add(&c, "\xff\xd9", 2);
        REFUSED(c.at, c.n, "the data ends early");
    }
}

TEST(broken_progressive_jpeg_is_refused)
{
    static Bytes b, c;
    load(&b, "p444.jpg");
    size_t scan[32];
    int scans = 0;
    for (size_t i = 0; i + 1 < b.n && scans < 32; i++)
        if (b.at[i] == 0xff && b.at[i + 1] == 0xda) scan[scans++] = i;
    CHECK(scans == 10);
    c = b;                                                        /* the last scan missing */
    c.n = scan[scans - 1];
    add(&c, "\xff\xd9", 2);
    REFUSED(c.at, c.n, "the scans end before coefficient");
    c = b;                                                        /* the last one twice */
    c.n -= 2;
    add(&c, b.at + scan[scans - 1], b.n - scan[scans - 1]);
    REFUSED(c.at, c.n, "out of turn");
    c = b;
    c.at[scan[0] + 12] = 5;
    REFUSED(c.at, c.n, "found coefficients 0 to 5");
    c = b;
    c.at[scan[0] + 13] = 0x0e;
    REFUSED(c.at, c.n, "found bits 0 to 14");
    for (size_t n = 2; n < b.n; n += 3) REFUSED(b.at, n, "");
}

TEST(restarts_must_come_in_order)
{
    static Bytes b, c;
    load(&b, "restart.jpg");
    Picture p;
    size_t first = marker(&b, 0xd0), second = marker(&b, 0xd1);
    c = b;
    c.at[second + 1] = 0xd2;
    REFUSED(c.at, c.n, "found marker d2, wanted restart 1");
    c.n = 0;                                                      /* a whole interval gone */
    add(&c, b.at, first);
    add(&c, b.at + second, b.n - second);
    REFUSED(c.at, c.n, "found marker d1, wanted restart 0");
    c.n = 0;                                           /* bytes that mean nothing are passed over */
    add(&c, b.at, first);
    add(&c, "\xff\0\1\2\xff", 5);
    add(&c, b.at + first, b.n - first);
    ACCEPTED(&p, c.at, c.n);
    picture_free(&p);
    REFUSED(b.at, first, "found the end of the file, wanted restart 0");
}

/* ---- files ----------------------------------------------------------------------------------- */

TEST(what_is_no_picture_file_is_refused)                          /* D13, D14 */
{
    char fifo[64];
    snprintf(fifo, sizeof fifo, "/tmp/fusion-test-fifo-%ld", (long)getpid());
    CHECK(!mkfifo(fifo, 0600));
    const char *const paths[] = { "tests", "/dev/zero", "/dev/null", fifo,
                                  "tests/pictures/nothing.png", "",
                                  "tests/pictures/expected.txt" };
    for (size_t i = 0; i < countof(paths); i++) {
        Picture p;
        Error e = {0};
        CHECK(!picture_read(&p, paths[i], &e));
        CHECK(e.code == 1 && !strncmp(e.text, paths[i], strlen(paths[i])));
        CHECK(!p.rgb);
    }
    unlink(fifo);
}

TEST(changed_files_never_do_harm)
{
    FILE *f = expected();
    static Bytes b, c;
    char line[256], name[64];
    uint32_t x = 7;
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "%63s", name) != 1 || !strcmp(name, "resize")) continue;
        load(&b, name);
        for (int k = 0; k < 60; k++) {
            c = b;
            for (int m = 0; m <= k % 3; m++) {
                x = x * 1664525u + 1013904223u;
                c.at[(x >> 8) % c.n] = (uint8_t)x;
            }
            for (size_t at = 8; c.at[0] == 0x89 && at + 12 <= c.n; ) {          /* sums put right */
                size_t n = (size_t)c.at[at + 2] << 8 | c.at[at + 3], whole = c.n;
                if (n > c.n - at - 12) break;
                c.n = at + 8 + n;
                add32(&c, crc(c.at + at + 4, n + 4));
                c.n = whole;
                at += n + 12;
            }
            Picture p;
            Error e = {0};
            bool read = picture_parse(&p, c.at, c.n, "FILE", &e);
            CHECK(read ? p.rgb != NULL : e.code == 1 && !p.rgb);
            picture_free(&p);
        }
    }
    if (f) fclose(f);
}
