/* test_wav.c - sounds: files as SciPy writes them and NumPy's resampling (tests/sounds, made by
 * tests/sounds.py), bytes made here, hostile headers, out and in again, levels.  Letters and
 * numbers in names (E04) are the rows of the catalogue of hostile inputs. */
#include "../wav.h"
#include "test.h"

#include <unistd.h>

#define LENGTH(literal) (sizeof(literal) - 1)

/* ---- files made here ------------------------------------------------------------------------- */

typedef struct { uint8_t at[1 << 16]; size_t n; } Bytes;

static void add(Bytes *b, const void *bytes, size_t n)
{
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}

static void add_number(Bytes *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++) b->at[b->n++] = (uint8_t)(v >> 8 * i);
}

static void set32(Bytes *b, size_t at, uint32_t v)
{
    for (size_t i = 0; i < 4; i++) b->at[at + i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get32(const Bytes *b, size_t at)
{
    return b->at[at] | (uint32_t)b->at[at + 1] << 8 | (uint32_t)b->at[at + 2] << 16 |
           (uint32_t)b->at[at + 3] << 24;
}

static void riff(Bytes *b)
{
    b->n = 0;
    add(b, "RIFF....WAVE", 12);
}

static void add_chunk(Bytes *b, const char *id, const void *bytes, size_t n)
{
    add(b, id, 4);
    add_number(b, n, 4);
    add(b, bytes, n);
    if (n % 2) add_number(b, 0, 1);
}

static void add_fmt(Bytes *b, int tag, int channels, uint32_t rate, int bits)
{
    int align = channels * ((bits + 7) / 8);
    add(b, "fmt \x10\0\0\0", 8);
    add_number(b, (uint64_t)tag, 2);
    add_number(b, (uint64_t)channels, 2);
    add_number(b, rate, 4);
    add_number(b, rate * (uint32_t)align, 4);
    add_number(b, (uint64_t)align, 2);
    add_number(b, (uint64_t)bits, 2);
}

static void add_extensible(Bytes *b, int tag, int channels, uint32_t rate, int bits, int valid)
{
    add_fmt(b, 0xfffe, channels, rate, bits);
    set32(b, b->n - 20, 40);
    add_number(b, 22, 2);
    add_number(b, (uint64_t)valid, 2);
    add_number(b, 3, 4);
    add_number(b, (uint64_t)tag, 2);
    add(b, "\0\0\0\0\x10\0\x80\0\0\xaa\0\x38\x9b\x71", 14);
}

static void end(Bytes *b) { set32(b, 4, (uint32_t)b->n - 8); }

/* A whole file of one fmt and these data. */
static void simple(Bytes *b, int tag, int channels, int bits, const void *data, size_t n)
{
    riff(b);
    add_fmt(b, tag, channels, 16000, bits);
    add_chunk(b, "data", data, n);
    end(b);
}

static void four_samples(Bytes *b) { simple(b, 1, 1, 16, "\1\0\2\0\3\0\4\0", 8); }

/* Refused, in one line that names the file first and holds wanted. */
#define REFUSED(bytes, size, wanted)                                                            \
    do { Sound s_; Error e_ = {0};                                                              \
         CHECK(!sound_parse(&s_, (const uint8_t *)(bytes), size, "FILE", &e_));                 \
         CHECK(e_.code == 1 && !strncmp(e_.text, "FILE: ", 6) && !strchr(e_.text, '\n'));       \
         CHECK(!s_.at && !s_.texts && !s_.text_count && !s_.frames);                            \
         if (!strstr(e_.text, wanted)) CHECK_STR(e_.text, wanted);                              \
         sound_free(&s_); } while (0)

/* Accepted; copied first, so that a sanitizer sees a read behind the end. */
static bool accepted(Sound *s, const void *bytes, size_t n)
{
    Error e = {0};
    uint8_t *own = malloc(n);
    memcpy(own, bytes, n);
    bool done = sound_parse(s, own, n, "FILE", &e);
    free(own);
    CHECK(done);
    CHECK_STR(e.text, "");
    return done;
}

static bool is_four_samples(const Bytes *b)
{
    Sound s;
    bool same = accepted(&s, b->at, b->n) && s.frames == 4;
    for (int i = 0; same && i < 4; i++) same = s.at[i] == (float)(i + 1) / 32768;
    sound_free(&s);
    return same;
}

static const char *text_of(const Sound *s, const char *key)
{
    for (int i = 0; i < s->text_count; i++)
        if (!strcmp(s->texts[i].key, key)) return s->texts[i].value;
    return "";
}

/* ---- what comes in --------------------------------------------------------------------------- */

static bool load(Sound *s, const char *name)
{
    char path[128];
    Error e = {0};
    snprintf(path, sizeof path, "tests/sounds/%s.wav", name);
    bool done = sound_read(s, path, &e);
    CHECK_STR(e.text, "");
    return done;
}

TEST(files_of_scipy)
{
    static const struct { const char *name, *format; int rate, bits; } files[] = {
        { "u8", "WAV 8-bit", 8000, 8 },          { "s16", "WAV 16-bit", 44100, 16 },
        { "s24", "WAV 24-bit", 48000, 24 },      { "s32", "WAV 32-bit", 48000, 32 },
        { "f32", "WAV 32-bit float", 22050, 0 }, { "f64", "WAV 64-bit float", 96000, 0 },
    };
    for (size_t f = 0; f < countof(files); f++) {
        Sound s;
        if (!load(&s, files[f].name)) continue;
        CHECK_STR(s.format, files[f].format);
        CHECK(s.rate == files[f].rate && s.channels == 2 && s.frames == 50 && !s.text_count);
        bool same = true;
        for (uint32_t i = 0; i < 100; i++) {
            int64_t v = (int64_t)(uint32_t)(i * 2654435761u) - 2147483648;
            int64_t step = files[f].bits ? (int64_t)1 << (32 - files[f].bits) : 1;
            int64_t cut = (v + 2147483648) / step * step - 2147483648;
            same = same && s.at[i] == (float)((double)cut / 2147483648.0);
        }
        CHECK(same);
        sound_free(&s);
    }
}

TEST(extremes_of_every_format)
{
    static const struct { int tag, bits; const char *data; size_t n; float want[3]; } cases[] = {
        { 1, 8, "\x00\x80\xff", 3, { -1, 0, 127 / 128.f } },
        { 1, 16, "\x00\x80\x00\x00\xff\x7f", 6, { -1, 0, 32767 / 32768.f } },
        { 1, 24, "\x00\x00\x80\xff\xff\xff\xff\xff\x7f", 9, { -1, -0x1p-23f, 1 - 0x1p-23f } },
        { 1, 32, "\x00\x00\x00\x80\x00\x00\x00\x40\x80\xff\xff\x7f", 12,
          { -1, 0.5f, 1 - 0x1p-24f } },
        { 1, 12, "\x00\x80\x10\x00\xf0\x7f", 6, { -1, 1 / 2048.f, 2047 / 2048.f } },       /* E06 */
        { 1, 20, "\x00\x00\x80\x10\x00\x00\xf0\xff\x7f", 9, { -1, 0x1p-19f, 1 - 0x1p-19f } },
        { 3, 32, "\x00\x00\x80\xbf\x00\x00\x00\x80\x00\x00\x20\x40", 12, { -1, -0.f, 2.5f } },
        { 3, 64, "\0\0\0\0\0\0\xf0\xbf\0\0\0\0\0\0\xe0\x3f\0\0\0\0\0\0\x04\x40", 24,
          { -1, 0.5f, 2.5f } },
    };
    for (size_t i = 0; i < countof(cases); i++)
        for (int extended = 0; extended < 2; extended++) {
            static Bytes b;
            Sound s;
            const int bits = cases[i].bits, container = (bits + 7) / 8 * 8;
            riff(&b);
            if (extended) add_extensible(&b, cases[i].tag, 1, 16000, container, bits);
            else add_fmt(&b, cases[i].tag, 1, 16000, bits);
            add_chunk(&b, "data", cases[i].data, cases[i].n);
            end(&b);
            if (!accepted(&s, b.at, b.n)) continue;
            CHECK(s.frames == 3 && s.channels == 1 && s.rate == 16000);
            CHECK(!memcmp(s.at, cases[i].want, sizeof cases[i].want));
            sound_free(&s);
        }
}

TEST(E06_formats_refused_by_name)
{
    static Bytes b;
    static const struct { int tag, bits; const char *name; } cases[] = {
        { 6, 8, "found A-law, wanted PCM" }, { 7, 8, "mu-law" },      { 0x11, 4, "IMA ADPCM" },
        { 0x55, 16, "MP3" },                 { 0x1234, 16, "0x1234" }, { 1, 64, "bits, found 64" },
        { 1, 4, "bits, found 4, wanted 8 to 32" }, { 1, 0, "bits, found 0" },
        { 3, 16, "bits of a float, found 16" },
    };
    for (size_t i = 0; i < countof(cases); i++) {
        simple(&b, cases[i].tag, 1, cases[i].bits, "\0\0\0\0\0\0\0\0", 8);
        REFUSED(b.at, b.n, cases[i].name);
    }
    riff(&b);
    add_extensible(&b, 6, 1, 8000, 8, 8);
    REFUSED(b.at, b.n, "found A-law");
    b.at[b.n - 1] = 0;
    REFUSED(b.at, b.n, "unknown subformat");
    riff(&b);
    add_extensible(&b, 1, 1, 8000, 16, 17);
    REFUSED(b.at, b.n, "found 17 valid of 16");
    riff(&b);
    add_extensible(&b, 1, 1, 8000, 12, 12);
    REFUSED(b.at, b.n, "found 12 valid of 12");
    riff(&b);
    add_fmt(&b, 0xfffe, 1, 8000, 16);
    REFUSED(b.at, b.n, "found 16 bytes, wanted 40");
}

TEST(fmt_of_18_bytes)
{
    static Bytes b;
    riff(&b);
    add_fmt(&b, 1, 1, 16000, 16);
    set32(&b, 16, 18);
    add_number(&b, 0, 2);
    add_chunk(&b, "data", "\1\0\2\0\3\0\4\0", 8);
    end(&b);
    CHECK(is_four_samples(&b));
}

TEST(E01_cut_header)
{
    static Bytes b;
    four_samples(&b);
    for (size_t n = 1; n < b.n; n++) {
        uint8_t *own = malloc(n);
        memcpy(own, b.at, n);
        REFUSED(own, n, "");
        free(own);
    }
    REFUSED(b.at, 0, "empty file, wanted WAV");
    REFUSED(b.at, 11, "header, found 11 bytes, wanted 12");
    REFUSED(b.at, 12, "wanted a fmt chunk");
    REFUSED(b.at, 15, "found 3 bytes at byte 12");
    REFUSED(b.at, 30, "chunk fmt  at byte 12, found 10 bytes in the file, wanted the 16");
    REFUSED(b.at, 36, "wanted a data chunk");
    b.at[16] = 15;
    REFUSED(b.at, b.n, "fmt chunk, found 15 bytes, wanted 16");
}

TEST(E02_riff_size_wrong)
{
    static Bytes b;
    static const uint32_t sizes[] = { 0, 1, 36, 43, 45, 1000, 0x7fffffff, 0xfffffffe, 0xffffffff };
    for (size_t i = 0; i < countof(sizes); i++) {
        four_samples(&b);
        set32(&b, 4, sizes[i]);
        CHECK(is_four_samples(&b));
    }
}

TEST(E02_streamed)
{
    static Bytes b;
    static const uint32_t sizes[][2] = {           /* RIFF, data */
        { 0, 0 }, { 0xffffffff, 0xffffffff }, { 0, 0xffffffff }, { 0xffffffff, 0 }, { 36, 0 },
        { 44, 0xffffffff }, { 0, 0x7ffff000 }, { 0xffffffff, 1000 },
    };
    for (size_t i = 0; i < countof(sizes); i++) {
        four_samples(&b);
        set32(&b, 4, sizes[i][0]);
        set32(&b, 40, sizes[i][1]);
        CHECK(is_four_samples(&b));
    }
    four_samples(&b);                              /* cut in the middle of a sample */
    set32(&b, 40, 0xffffffff);
    add_number(&b, 9, 1);
    CHECK(is_four_samples(&b));
}

TEST(E03_data_larger_than_the_file)
{
    static Bytes b;
    four_samples(&b);
    set32(&b, 40, 10);
    REFUSED(b.at, b.n, "data chunk, found 8 bytes in the file, wanted the 10 it promises");
    set32(&b, 40, 0xfffffffe);
    REFUSED(b.at, b.n, "found 8 bytes in the file, wanted the 4294967294");
}

TEST(E04_chunks_in_any_order)
{
    static Bytes b;
    Sound s;
    for (int padded = 0; padded < 2; padded++)
        for (int odd = 0; odd < 2; odd++) {
            riff(&b);
            add_chunk(&b, "LIST", "INFOISFT\5\0\0\0abcd\0", 17);
            if (!padded) b.n--;
            add_chunk(&b, "JUNK", "1234567", 6 + (size_t)odd);
            if (odd && !padded) b.n--;
            add_fmt(&b, 1, 1, 16000, 16);
            add_chunk(&b, "data", "\1\0\2\0\3\0\4\0", 8);
            add_chunk(&b, "cue ", "\0\0\0\0", 4);
            end(&b);
            CHECK(is_four_samples(&b));
            if (!accepted(&s, b.at, b.n)) continue;
            CHECK_STR(text_of(&s, "Software"), "abcd");
            sound_free(&s);
        }
    riff(&b);
    add_chunk(&b, "JUNK", "1", 1);
    b.at[b.n - 1] = 'x';                           /* a pad byte that could begin a name */
    add_fmt(&b, 1, 1, 16000, 16);
    add_chunk(&b, "data", "\1\0\2\0\3\0\4\0", 8);
    end(&b);
    CHECK(is_four_samples(&b));
    riff(&b);
    add_chunk(&b, "data", "\1\0", 2);
    add_fmt(&b, 1, 1, 16000, 16);
    end(&b);
    REFUSED(b.at, b.n, "data chunk at byte 12, found before a fmt chunk");
    four_samples(&b);
    add_fmt(&b, 1, 1, 16000, 16);
    REFUSED(b.at, b.n, "fmt chunk at byte 52, found behind the data");
    four_samples(&b);
    add_chunk(&b, "data", "\1\0", 2);
    REFUSED(b.at, b.n, "data chunk at byte 52, found a second one");
    riff(&b);
    add_fmt(&b, 1, 1, 16000, 16);
    add_fmt(&b, 1, 1, 16000, 16);
    REFUSED(b.at, b.n, "fmt chunk at byte 36, found a second one");
    riff(&b);
    add(&b, "JU\nK\xff\0\0\0", 8);
    REFUSED(b.at, b.n, "chunk JU\\x0aK at byte 12, found 0 bytes in the file, wanted the 255");
}

TEST(E04_odd_data)                                 /* 8-bit mono, with and without the pad byte */
{
    static Bytes b;
    Sound s;
    for (int padded = 0; padded < 2; padded++)
        for (int more = 0; more < 2; more++) {
            simple(&b, 1, 1, 8, "\x80\x81\x82", 3);
            if (!padded) b.n--;
            if (more) add_chunk(&b, "LIST", "INFOINAM\3\0\0\0ab\0", 15);
            if (more && !padded) b.n--;
            end(&b);
            if (!accepted(&s, b.at, b.n)) continue;
            CHECK(s.frames == 3 && s.at[2] == 2 / 128.f);
            CHECK_STR(text_of(&s, "Title"), more ? "ab" : "");
            sound_free(&s);
        }
}

TEST(behind_the_data)
{
    static Bytes b;
    four_samples(&b);
    add(&b, "TAGxyz\0\0\0\0\xff\xff\xff", 13);     /* beyond the end that RIFF tells */
    CHECK(is_four_samples(&b));
    set32(&b, 4, (uint32_t)b.n - 8);               /* and inside it */
    REFUSED(b.at, b.n, "chunk TAGx at byte 52");
    four_samples(&b);
    add(&b, "\0\0\0\0\0\0\0", 7);
    end(&b);
    CHECK(is_four_samples(&b));
    simple(&b, 1, 2, 16, "\1\0\2\0\3\0", 6);       /* a frame and a half: whole frames count */
    Sound s;
    if (accepted(&s, b.at, b.n)) CHECK(s.frames == 1 && s.channels == 2);
    sound_free(&s);
}

TEST(E05_E10_E11_zeros_and_limits)
{
    static Bytes b;
    static const struct { size_t at; int bytes; uint32_t value; const char *wanted; } cases[] = {
        { 22, 2, 0, "channels, found 0, wanted 1 to 64" },
        { 22, 2, 65, "channels, found 65" },
        { 22, 2, 65535, "channels, found 65535, wanted 1 to 64" },
        { 24, 4, 0, "rate, found 0 Hz, wanted 1000 to 768000" },
        { 24, 4, 1, "rate, found 1 Hz" },
        { 24, 4, 768001, "rate, found 768001 Hz" },
        { 24, 4, 4294967295, "rate, found 4294967295 Hz" },
        { 32, 2, 0, "block align, found 0, wanted 2" },
        { 32, 2, 4, "block align, found 4, wanted 2 for 1 x 16 bits" },
    };
    for (size_t i = 0; i < countof(cases); i++) {
        four_samples(&b);
        for (int k = 0; k < cases[i].bytes; k++)
            b.at[cases[i].at + (size_t)k] = (uint8_t)(cases[i].value >> 8 * k);
        REFUSED(b.at, b.n, cases[i].wanted);
    }
    uint8_t silence[128] = {0};
    Sound s;
    simple(&b, 1, 64, 16, silence, 128);
    if (accepted(&s, b.at, b.n)) CHECK(s.channels == 64 && s.frames == 1);
    sound_free(&s);
}

TEST(E07_samples_that_are_no_numbers)
{
    static Bytes b;
    simple(&b, 3, 2, 32, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xc0\x7f", 16);
    REFUSED(b.at, b.n, "sample 1 of channel 1, found nan, wanted a finite float32");
    simple(&b, 3, 1, 32, "\0\0\x80\xff", 4);
    REFUSED(b.at, b.n, "sample 0 of channel 0, found -inf");
    simple(&b, 3, 1, 64, "\0\0\0\0\0\0\xf0\x7f", 8);
    REFUSED(b.at, b.n, "sample 0 of channel 0, found inf");
    simple(&b, 3, 1, 64, "\x9c\x75\0\x88\x3c\xe4\x37\x7e", 8);
    REFUSED(b.at, b.n, "found 1e+300, wanted a finite float32");
}

TEST(E08_E09_none_and_one)
{
    static Bytes b;
    Sound s;
    simple(&b, 1, 1, 16, "", 0);
    REFUSED(b.at, b.n, "samples, found 0, wanted 1 at least");
    set32(&b, 4, 0);
    REFUSED(b.at, b.n, "samples, found 0");
    simple(&b, 1, 1, 16, "", 0);
    add_chunk(&b, "LIST", "INFOINAM\2\0\0\0a\0", 14);
    end(&b);
    REFUSED(b.at, b.n, "samples, found 0");        /* the list is no sound */
    simple(&b, 1, 2, 16, "\1\0", 2);
    REFUSED(b.at, b.n, "samples, found 0");
    simple(&b, 1, 1, 16, "\0\x40", 2);
    if (accepted(&s, b.at, b.n)) CHECK(s.frames == 1 && s.at[0] == 0.5f);
    sound_free(&s);
}

TEST(E13_E14_other_formats_named)
{
    static const struct { const char *bytes; size_t n; const char *name; } cases[] = {
#define FORMAT(bytes, name) { bytes, LENGTH(bytes), name }
        FORMAT("RF64\xff\xff\xff\xffWAVEds64", "RF64"),
        FORMAT("RIFX\0\0\0\x24WAVEfmt ", "RIFX (WAV of big-endian bytes)"),
        FORMAT("FORM\0\0\0\x24" "AIFFCOMM", "an AIFF sound"),
        FORMAT("FORM\0\0\0\x24" "AIFCFVER", "an AIFF-C sound"),
        FORMAT("ID3\4\0\0\0\0\0\0", "an MP3 sound"),
        FORMAT("\xff\xfb\x90\x64", "an MP3 sound"),
        FORMAT("\xff\xf1\x50\x80", "an AAC sound"),
        FORMAT("fLaC\0\0\0\x22", "a FLAC sound"),
        FORMAT("OggS\0\2\0\0", "an Ogg sound"),
        FORMAT(".snd\0\0\0\x18", "an AU sound"),
        FORMAT("\0\0\0\x20" "ftypM4A ", "an MP4 file"),
        FORMAT("RIFF\4\0\0\0AVI LIST", "an AVI film"),
        FORMAT("\x89PNG\r\n\x1a\n", "a PNG picture"),
        FORMAT("<!DOCTYPE html><html>", "HTML"),
        FORMAT("RIFF\4\0\0\0ABCDxxxx", "an unknown format"),
        FORMAT("RI", "an unknown format"),
        FORMAT("\1\2\3\4\5\6\7", "an unknown format"),
#undef FORMAT
    };
    for (size_t i = 0; i < countof(cases); i++) {
        REFUSED(cases[i].bytes, cases[i].n, cases[i].name);
        REFUSED(cases[i].bytes, cases[i].n, "wanted WAV");
    }
    Sound s;
    Error e = {0};
    CHECK(!sound_read(&s, "tests/sounds/absent.wav", &e) && !s.at);
    CHECK(!strncmp(e.text, "tests/sounds/absent.wav: ", 25));
}

TEST(texts_that_are_broken)
{
    static Bytes b;
    Sound s;
    four_samples(&b);
    add_chunk(&b, "LIST", "INFOINAM\7\0\0\0abcdef", 18);
    end(&b);
    REFUSED(b.at, b.n, "text INAM at byte 64, found 7 bytes, wanted at most the 6 left");
    four_samples(&b);
    add_chunk(&b, "fusn", "a=b\nc\n", 6);
    REFUSED(b.at, b.n, "fusn chunk, found a line without =, at byte 64");
    four_samples(&b);
    add_chunk(&b, "fusn", "\\", 1);
    REFUSED(b.at, b.n, "line without =");

    static const struct { const char *list; size_t n; } lists[] = {
        { "INFO", 4 }, { "INF", 3 }, { "", 0 }, { "adtlINAM\xff\xff\xff\xff", 12 },
        { "INFO\0\0\0\0\0\0\0\0\0\0\0\0", 16 }, { "INFOINAM\1\0\0", 11 },
    };
    for (size_t i = 0; i < countof(lists); i++) {
        four_samples(&b);
        add_chunk(&b, "LIST", lists[i].list, lists[i].n);
        end(&b);
        CHECK(is_four_samples(&b));
        if (accepted(&s, b.at, b.n)) CHECK(s.text_count == 0);
        sound_free(&s);
    }
    four_samples(&b);                              /* Latin-1, an unknown key, no NUL, no pad */
    add_chunk(&b, "LIST", "INFOINAM\3\0\0\0\xe9t\xe9ITCH\1\0\0\0x", 24);
    end(&b);
    if (accepted(&s, b.at, b.n)) {
        CHECK_STR(text_of(&s, "Title"), "\xc3\xa9t\xc3\xa9");
        CHECK_STR(text_of(&s, "ITCH"), "x");
    }
    sound_free(&s);
}

/* ---- what goes out --------------------------------------------------------------------------- */

static Sound sound_of(int rate, int channels, size_t frames)
{
    size_t count = frames * (size_t)channels;
    Sound s = { .rate = rate, .channels = channels, .frames = frames };
    s.at = calloc(count, sizeof *s.at);
    return s;
}

/* The bytes that wav_write makes; n = 0 where it failed. */
static void written(Bytes *b, const Sound *s, bool as_float, const char *const *texts, Error *e)
{
    char path[] = "/tmp/fusion-test-wav-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) exit(2);
    close(fd);
    Output *o = output_open(path, e);
    b->n = 0;
    if (o && wav_write(o, s, as_float, texts, e)) {
        CHECK(output_commit(o, e));
        FILE *f = fopen(path, "rb");
        b->n = f ? fread(b->at, 1, sizeof b->at, f) : 0;
        if (f) fclose(f);
    } else
        output_discard(o);
    unlink(path);
}

TEST(bytes_of_16_bits)
{
    static Bytes b, want;
    static const float values[] = { 0, -0.f, 1, -1, 2, -1e30f, 0.5f, 0.5f / 32768, 1.5f / 32768,
                                    -2.5f / 32768, 32766.5f / 32768, 3e38f };
    static const int codes[] = { 0, 0, 32767, -32768, 32767, -32768,
                                 16384, 0, 2, -2, 32766, 32767 };
    Sound s = sound_of(44100, 2, 6);
    Error e = {0};
    memcpy(s.at, values, sizeof values);
    written(&b, &s, false, NULL, &e);
    riff(&want);
    add_fmt(&want, 1, 2, 44100, 16);
    add(&want, "data\x18\0\0\0", 8);
    for (int i = 0; i < 12; i++) add_number(&want, (uint64_t)codes[i], 2);
    end(&want);
    CHECK(b.n == want.n && !memcmp(b.at, want.at, b.n));
    CHECK_STR(e.text, "");
    sound_free(&s);
}

TEST(bytes_of_floats)
{
    static Bytes b, want;
    static const float values[] = { 0, -0.f, 1.5f, -3e38f, 1e-45f, 0.1f };
    Sound s = sound_of(16000, 1, 6);
    Error e = {0};
    memcpy(s.at, values, sizeof values);
    written(&b, &s, true, NULL, &e);
    riff(&want);
    add_fmt(&want, 3, 1, 16000, 32);
    set32(&want, 16, 18);
    add(&want, "\0\0fact\4\0\0\0\6\0\0\0data\x18\0\0\0", 22);
    for (int i = 0; i < 6; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, 4);
        add_number(&want, bits, 4);
    }
    end(&want);
    CHECK(b.n == want.n && !memcmp(b.at, want.at, b.n));
    Sound back;
    if (accepted(&back, b.at, b.n)) CHECK(!memcmp(back.at, values, sizeof values));
    sound_free(&back);
    sound_free(&s);
}

TEST(every_16_bit_code_comes_back)
{
    static uint8_t codes[2 * 32768];
    static Bytes b;
    for (int half = 0; half < 2; half++) {
        Sound s = sound_of(16000, 1, 32700), back;
        Error e = {0};
        for (size_t i = 0; i < s.frames; i++)
            s.at[i] = (float)((int)i * (half ? 1 : -1)) / 32768;
        written(&b, &s, false, NULL, &e);
        if (accepted(&back, b.at, b.n)) CHECK(!memcmp(back.at, s.at, s.frames * sizeof *s.at));
        memcpy(codes, b.at + 44, 2 * s.frames);
        CHECK(codes[2] == (half ? 1 : 255) && codes[3] == (half ? 0 : 255));
        sound_free(&s);
        sound_free(&back);
    }
}

/* Every chunk inside its parent, every size even or padded, nothing left. */
static bool chunks_add_up(const Bytes *b, size_t at, size_t n)
{
    while (at + 8 <= n) {
        size_t size = get32(b, at + 4), next = at + 8 + size + size % 2;
        if (next > n || (size % 2 && b->at[next - 1])) return false;
        bool list = !memcmp(b->at + at, "LIST", 4);
        if (list && !chunks_add_up(b, at + 12, at + 8 + size)) return false;
        at = next;
    }
    return at == n;
}

TEST(texts_come_back)
{
    static const char *const texts[] = {
        "Software", "fusion 1.0", "prompt", "Un march\xc3\xa9 anim\xc3\xa9", "seed", "7",
        "options", "a=b\nc\\d\\\n\n=", "we=i\nrd\\key=", "x", "empty", "", "Comment", "",
        "Title", "odd", "Product", "two\nlines", "models", "sha a\nsha b", "", "no key", "tab",
        "\t\r\x01", NULL };
    for (int count = 0; texts[2 * count]; count++)
        for (int as_float = 0; as_float < 2; as_float++) {
            static Bytes b;
            Sound s = sound_of(16000, 1, 5), back;
            Error e = {0};
            written(&b, &s, as_float, texts + 2 * count, &e);
            CHECK_STR(e.text, "");
            CHECK(get32(&b, 4) == b.n - 8 && chunks_add_up(&b, 12, b.n));
            if (accepted(&back, b.at, b.n)) {
                int pairs = 0;
                for (int i = 2 * count; texts[i]; i += 2, pairs++)
                    CHECK_STR(text_of(&back, texts[i]), texts[i + 1]);
                CHECK(back.text_count == pairs && back.frames == 5);
            }
            sound_free(&back);
            sound_free(&s);
        }
}

TEST(bytes_of_texts)
{
    static const char *const texts[] = { "Title", "odd", "key", "a\nb", "Comment", "even.", NULL };
    static const char want[] = "LIST\x1e\0\0\0INFOINAM\4\0\0\0odd\0ICMT\6\0\0\0even.\0"
                               "fusn\x09\0\0\0key=a\\nb\n";
    static Bytes b;
    Sound s = sound_of(16000, 1, 1);
    Error e = {0};
    written(&b, &s, false, texts, &e);
    CHECK(b.n == 46 + sizeof want && !memcmp(b.at + 46, want, sizeof want));
    sound_free(&s);
}

TEST(H28_H29_refused_by_the_writer)
{
    static Bytes b;
    static const struct { float value; const char *wanted; } cases[] = {
        { NAN, "WAV: sample 2 of channel 1, found nan" }, { -INFINITY, "found -inf, wanted" } };
    for (size_t i = 0; i < 4; i++) {
        Sound s = sound_of(16000, 2, 4);
        Error e = {0};
        s.at[5] = cases[i / 2].value;
        written(&b, &s, i % 2, NULL, &e);
        CHECK(b.n == 0 && e.code == 1 && strstr(e.text, cases[i / 2].wanted));
        sound_free(&s);
    }
    static const struct { Sound s; bool as_float; const char *wanted; } shapes[] = {
        { { .rate = 16000, .channels = 2, .frames = (size_t)1 << 30 }, false,
          "WAV: size, found 4294967332 bytes, wanted less than 4294967295" },
        { { .rate = 16000, .channels = 1, .frames = (size_t)1 << 30 }, true, "found 4294967346" },
        { { .rate = 16000, .channels = 2, .frames = ((size_t)1 << 30) + 1 }, false, "together" },
        { { .rate = 16000, .channels = 2, .frames = SIZE_MAX }, false, "together" },
        { { .rate = 16000, .channels = 0, .frames = 1 }, false, "channels, found 0" },
        { { .rate = 16000, .channels = 65, .frames = 1 }, false, "channels, found 65" },
        { { .rate = 0, .channels = 1, .frames = 1 }, false, "rate, found 0" },
        { { .rate = 16000, .channels = 1, .frames = 0 }, false, "samples, found 0" },
    };
    for (size_t i = 0; i < countof(shapes); i++) {
        Error e = {0};
        written(&b, &shapes[i].s, shapes[i].as_float, NULL, &e);
        CHECK(b.n == 0 && e.code == 1);
        if (!strstr(e.text, shapes[i].wanted)) CHECK_STR(e.text, shapes[i].wanted);
    }
}

/* ---- resampling ------------------------------------------------------------------------------ */

static const double turn = 6.283185307179586;

static Sound sine(int rate, double hertz, double seconds)
{
    Sound s = sound_of(rate, 1, (size_t)(rate * seconds));
    for (size_t i = 0; i < s.frames; i++)
        s.at[i] = (float)(0.5 * sin(turn * hertz * (double)i / rate + 0.3));
    return s;
}

static bool resampled(Sound *s, int rate)
{
    Error e = {0};
    bool done = sound_resample(s, rate, &e);
    CHECK_STR(e.text, "");
    return done;
}

/* The largest difference from the same sine (or, with 0, silence), a margin from both ends. */
static double astray(const Sound *s, double hertz)
{
    double worst = 0;
    size_t margin = s->frames / 4;
    for (size_t i = margin; i < s->frames - margin; i++) {
        double want = hertz > 0 ? 0.5 * sin(turn * hertz * (double)i / s->rate + 0.3) : 0;
        if (!(fabs(s->at[i] - want) <= worst)) worst = fabs(s->at[i] - want);
    }
    return worst;
}

static const int rates[][2] = {
    { 48000, 16000 }, { 44100, 16000 }, { 44101, 16000 }, { 16000, 48000 }, { 16000, 44100 },
    { 22050, 48000 }, { 8000, 16000 }, { 96000, 1000 }, { 16000, 15999 }, { 768000, 48000 },
};

TEST(a_sine_below_stays_one_above_vanishes)
{
    for (size_t i = 0; i < countof(rates); i++) {
        const int from = rates[i][0], to = rates[i][1], low = imin(from, to);
        const double seconds = 600.0 / low;
        for (double part = 0.01; part < 0.9; part += 0.22) {
            Sound s = sine(from, part * low / 2, seconds);
            if (resampled(&s, to)) CHECK(astray(&s, part * low / 2) < 0.5e-4);
            sound_free(&s);
        }
        for (double part = 1.001; part < 1.5 && part * to < from; part += 0.13) {
            Sound s = sine(from, part * to / 2, seconds);
            if (resampled(&s, to)) CHECK(astray(&s, 0) < 0.5e-4);
            sound_free(&s);
        }
    }
}

TEST(up_and_down_again)
{
    Sound s = sine(16000, 5000, 0.1);
    if (resampled(&s, 44100) && resampled(&s, 16000)) {
        CHECK(s.frames == 1600 && s.rate == 16000);
        CHECK(astray(&s, 5000) < 1e-4);
    }
    sound_free(&s);
}

TEST(numbers_of_numpy)
{
    static const struct { int from, to; } cases[] = {
        { 44100, 16000 }, { 48000, 16000 }, { 8000, 44101 }, { 44101, 8000 } };
    for (size_t i = 0; i < countof(cases); i++) {
        Sound s, want;
        char name[64];
        snprintf(name, sizeof name, "noise-%d", cases[i].from);
        if (!load(&s, name)) continue;
        snprintf(name, sizeof name, "noise-%d-to-%d", cases[i].from, cases[i].to);
        if (load(&want, name) && resampled(&s, cases[i].to)) {
            CHECK(s.rate == want.rate && s.frames == want.frames);
            if (s.frames == want.frames) CLOSE(s.at, want.at, want.frames, 2e-7);
        }
        sound_free(&s);
        sound_free(&want);
    }
}

TEST(length_and_silence)
{
    static const size_t frames[] = { 1, 2, 3, 100, 441, 442 };
    for (size_t i = 0; i < countof(rates); i++)
        for (size_t k = 0; k < countof(frames); k++) {
            Sound s = sound_of(rates[i][0], 2, frames[k]);
            uint64_t want = ((uint64_t)frames[k] * (uint64_t)rates[i][1] +
                             (uint64_t)rates[i][0] - 1) / (uint64_t)rates[i][0];
            if (resampled(&s, rates[i][1])) {
                CHECK(s.frames == want && s.channels == 2 && s.rate == rates[i][1]);
                CHECK(sound_peak(&s) == 0);
            }
            sound_free(&s);
        }
}

TEST(a_constant_stays)
{
    for (size_t i = 0; i < countof(rates); i++) {
        const int from = rates[i][0], to = rates[i][1];
        Sound s = sound_of(from, 1, (size_t)from * 600 / (size_t)imin(from, to));
        for (size_t k = 0; k < s.frames; k++) s.at[k] = 0.75f;
        if (resampled(&s, to)) CHECK(s.at[s.frames / 2] == 0.75f);
        sound_free(&s);
    }
}

/* A table of phases (long sounds), phases made anew (short ones), one channel of many. */
TEST(every_way_gives_the_same_bits)
{
    Sound whole, pair = sound_of(44100, 2, 3000), part = sound_of(44100, 1, 430);
    if (!load(&whole, "noise-44100")) return;
    for (size_t i = 0; i < 3000; i++) {
        pair.at[2 * i] = -whole.at[i];
        pair.at[2 * i + 1] = whole.at[i];
    }
    memcpy(part.at, whole.at, part.frames * sizeof *part.at);
    if (resampled(&whole, 16000) && resampled(&pair, 16000) && resampled(&part, 16000)) {
        bool same = pair.frames == whole.frames;
        for (size_t i = 0; same && i < whole.frames; i++)
            same = pair.at[2 * i + 1] == whole.at[i] && pair.at[2 * i] == -whole.at[i];
        CHECK(same);
        CHECK(part.frames == 157 && !memcmp(part.at, whole.at, 90 * sizeof *part.at));
    }
    sound_free(&whole);
    sound_free(&pair);
    sound_free(&part);
}

TEST(resampling_refused_or_nothing_to_do)
{
    static const struct { int rate; const char *wanted; } cases[] = {
        { 0, "resample: rate, found 0 Hz, wanted 1000 to 768000" }, { 999, "found 999" },
        { 768001, "found 768001" }, { -1, "resample: rate" } };
    Sound s = sound_of(16000, 1, 10), huge = { .rate = 1000, .channels = 2, .frames = 1 << 29 };
    float *at = s.at;
    for (size_t i = 0; i < countof(cases); i++) {
        Error e = {0};
        CHECK(!sound_resample(&s, cases[i].rate, &e) && strstr(e.text, cases[i].wanted));
        CHECK(s.at == at && s.frames == 10 && s.rate == 16000);
    }
    CHECK(resampled(&s, 16000) && s.at == at && s.frames == 10);
    Error e = {0};
    CHECK(!sound_resample(&huge, 768000, &e) && strstr(e.text, "samples, found 412316860416 "));
    sound_free(&s);
}

/* ---- levels ---------------------------------------------------------------------------------- */

TEST(mono_peak_rms_gain)
{
    Sound s = sound_of(16000, 3, 2);
    static const float values[] = { 1, 2, 6, -3, 0, -1.5f };
    memcpy(s.at, values, sizeof values);
    CHECK(sound_peak(&s) == 6);
    CHECK(sound_rms(&s) == sqrt((1 + 4 + 36 + 9 + 0 + 2.25) / 6));
    sound_gain(&s, -0.5);
    CHECK(s.at[2] == -3 && s.at[5] == 0.75f && sound_peak(&s) == 3);
    sound_mono(&s);
    CHECK(s.channels == 1 && s.frames == 2 && s.at[0] == -1.5f && s.at[1] == 0.75f);
    sound_mono(&s);
    CHECK(s.channels == 1 && s.frames == 2 && s.at[0] == -1.5f && s.at[1] == 0.75f);
    sound_free(&s);
}

static Sound ones(int channels, size_t frames)
{
    Sound s = sound_of(1000, channels, frames);
    for (size_t i = 0; i < frames * (size_t)channels; i++) s.at[i] = 1;
    return s;
}

TEST(fades)
{
    Sound s = ones(2, 100);
    sound_fade(&s, 0.01, 0.02);
    CHECK(s.at[0] == 0 && s.at[1] == 0 && s.at[198] == 0 && s.at[199] == 0);
    CHECK(fabs(s.at[2 * 5] - 0.5) < 1e-7 && fabs(s.at[2 * 89 + 1] - 0.5) < 1e-7);
    CHECK(fabs(s.at[2 * 2] - (0.5 - 0.5 * cos(turn / 10))) < 1e-7);
    CHECK(s.at[2 * 10] == 1 && s.at[2 * 79] == 1 && s.at[2 * 80] < 1);
    sound_free(&s);

    static const double nothing[] = { 0, -1, NAN, -INFINITY, 0.0004 };
    for (size_t i = 0; i < countof(nothing); i++) {
        s = ones(1, 10);
        sound_fade(&s, nothing[i], nothing[i]);
        CHECK(sound_rms(&s) == 1);
        sound_free(&s);
    }
    s = ones(1, 10);                               /* longer than the sound: all of it */
    sound_fade(&s, INFINITY, 1e300);
    CHECK(s.at[0] == 0 && s.at[9] == 0 && s.at[5] > 0.1 && s.at[5] < 0.5);
    sound_free(&s);
}

TEST(loop_joins_without_a_step)
{
    Error e = {0};
    Sound s = sound_of(16000, 2, 4000);
    for (size_t i = 0; i < s.frames; i++) {
        s.at[2 * i] = (float)sin(0.05 * (double)i);
        s.at[2 * i + 1] = (float)cos(0.031 * (double)i);
    }
    float next = s.at[2 * 3200], after = s.at[2 * 800];
    CHECK(sound_loop(&s, 0.05, &e) && s.frames == 3200 && s.channels == 2);
    CHECK(s.at[0] == next && s.at[2 * 800] == after);
    for (size_t c = 0; c < 2; c++) {
        bool smooth = true;                        /* from the last frame to the first, too */
        for (size_t i = 0; i < s.frames; i++) {
            float before = s.at[2 * (i ? i - 1 : s.frames - 1) + c];
            smooth = smooth && fabs(s.at[2 * i + c] - before) < (i ? 0.08 : 0.05);
        }
        CHECK(smooth);
    }
    sound_free(&s);
}

TEST(loop_keeps_the_power)
{
    Error e = {0};
    Sound s = sound_of(16000, 1, 16000);
    Rng r;
    rng_seed(&r, 3);
    randn(&r, s.at, s.frames);
    CHECK(sound_loop(&s, 0.4, &e) && s.frames == 9600);
    Sound middle = { .rate = 16000, .channels = 1, .frames = 2000, .at = s.at + 2200 };
    CHECK(fabs(sound_rms(&middle) - 1) < 0.06);
    sound_free(&s);
}

TEST(loop_limits)
{
    static const double seconds[] = { 0.0515, -0.001, NAN, 1e300, INFINITY };
    for (size_t i = 0; i < countof(seconds); i++) {
        Sound s = ones(1, 101);
        Error e = {0};
        CHECK(!sound_loop(&s, seconds[i], &e) && s.frames == 101);
        CHECK(strstr(e.text, "loop: seconds, found ") && strstr(e.text, "wanted 0 to 0.05, half"));
        sound_free(&s);
    }
    Error e = {0};
    Sound s = ones(1, 101);
    CHECK(sound_loop(&s, 0, &e) && s.frames == 101 && s.at[50] == 1);
    CHECK(sound_loop(&s, 0.05, &e) && s.frames == 51);
    sound_free(&s);
}
