/* wav.c - sounds: WAV in and out, resampling, levels.  Contract: wav.h.
 *
 * RIFF WAVE by the Multimedia Programming Interface of 1991 and Microsoft's WAVE_FORMAT_EXTENSIBLE.
 * Numbers are put together byte by byte, so the machine's own order never matters. */
#include "wav.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { CHANNEL_LIMIT = 64, RATE_LOW = 1000, RATE_HIGH = 768000 };
#define SAMPLE_LIMIT ((uint64_t)1 << 31)
#define UNKNOWN 0xffffffffu                    /* the size a program writes that cannot seek back */

static const double pi = 0x1.921fb54442d18p1;

static uint32_t get16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t get32(const uint8_t *p) { return get16(p) | get16(p + 2) << 16; }
static uint64_t get64(const uint8_t *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void put32(uint8_t *p, uint32_t v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

void sound_free(Sound *s)
{
    for (int i = 0; i < s->text_count; i++) {
        free(s->texts[i].key);
        free(s->texts[i].value);
    }
    free(s->texts);
    free(s->at);
    *s = (Sound){0};
}

/* ---- limits ---------------------------------------------------------------------------------- */

static bool fits(uint32_t channels, uint32_t rate, const char *where, Error *e)
{
    if (channels < 1 || channels > CHANNEL_LIMIT)
        return fail(e, "%s: channels, found %u, wanted 1 to %d", where, channels, CHANNEL_LIMIT);
    if (rate < RATE_LOW || rate > RATE_HIGH)
        return fail(e, "%s: rate, found %u Hz, wanted %d to %d", where, rate, RATE_LOW, RATE_HIGH);
    return true;
}

/* channels is 1 at least. */
static bool frames_fit(uint64_t frames, uint32_t channels, const char *where, Error *e)
{
    if (frames < 1)
        return fail(e, "%s: samples, found 0, wanted 1 at least", where);
    if (frames > SAMPLE_LIMIT / channels)
        return fail(e, "%s: samples, found %llu in each of %u channels, wanted %llu together",
                    where, (unsigned long long)frames, channels, (unsigned long long)SAMPLE_LIMIT);
    return true;
}

static bool not_finite(size_t i, int channels, double found, const char *where, Error *e)
{
    size_t width = (size_t)channels;
    return fail(e, "%s: sample %zu of channel %zu, found %g, wanted a finite float32", where,
                i / width, i % width, found);
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* Keys as PNG spells them, and their places in LIST INFO. */
static const struct { const char *key, *id; } places[] = {
    { "Title", "INAM" },     { "Author", "IART" },   { "Description", "ISBJ" },
    { "Software", "ISFT" },  { "Comment", "ICMT" },  { "Creation Time", "ICRD" },
    { "Copyright", "ICOP" }, { "Product", "IPRD" },  { "Genre", "IGNR" },
    { "Keywords", "IKEY" },  { "Source", "ISRC" },   { "Engineer", "IENG" },
};

static const char *place_of(const char *key)
{
    for (size_t i = 0; i < countof(places); i++)
        if (!strcmp(places[i].key, key)) return places[i].id;
    return NULL;
}

static const char *key_of(const char *id)
{
    for (size_t i = 0; i < countof(places); i++)
        if (!strcmp(places[i].id, id)) return places[i].key;
    return id;
}

/* ---- WAV in ---------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at; size_t n;               /* the file */
    Sound *s;
    Picture kept;                              /* its texts alone: picture_text has their limits */
    bool is_float;
    uint32_t bytes, align;                     /* of a sample, of a frame; 0: no fmt chunk yet */
    const char *where; Error *e;
} Wav;

typedef struct { size_t at, begin, size; char id[5]; } Chunk;

/* fail with the name of the file in front. */
PRINTF(2, 3) static bool bad(const Wav *w, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(w->e, "%s: %s", w->where, text);
}

static Chunk chunk_at(const uint8_t *bytes, size_t at)
{
    Chunk c = { .at = at, .begin = at + 8, .size = get32(bytes + at + 4) };
    memcpy(c.id, bytes + at, 4);
    return c;
}

/* A name of four printable characters and a size; whole: one that n holds. */
static bool may_be_chunk(const uint8_t *bytes, size_t n, size_t at, bool whole)
{
    if (n < 8 || at > n - 8) return false;
    for (int i = 0; i < 4; i++)
        if (bytes[at + i] < 0x20 || bytes[at + i] > 0x7e) return false;
    return !whole || get32(bytes + at + 4) <= n - at - 8;
}

/* Where the next chunk begins.  Behind one of odd size lies a pad byte, which some programs forget:
 * it is missing where a chunk can begin at once and none that fits begins a byte later.  At the end
 * of the file the pad byte may count without being there. */
static size_t behind(const uint8_t *bytes, size_t n, Chunk c)
{
    size_t end = c.begin + c.size;
    if (c.size % 2 == 0) return end;
    bool forgotten = may_be_chunk(bytes, n, end, false) && !may_be_chunk(bytes, n, end + 1, true);
    return forgotten ? end : end + 1;
}

static bool info_chunk(Wav *w, Chunk list)
{
    size_t n = list.begin + list.size;
    if (list.size < 4 || memcmp(w->at + list.begin, "INFO", 4)) return true;
    for (size_t at = list.begin + 4; may_be_chunk(w->at, n, at, false); ) {
        Chunk c = chunk_at(w->at, at);
        if (c.size > n - c.begin)
            return bad(w, "text %s at byte %zu, found %zu bytes, wanted at most the %zu left of "
                       "its list", c.id, at, c.size, n - c.begin);
        const char *key = key_of(c.id);
        if (!picture_text(&w->kept, key, strlen(key), w->at + c.begin, c.size, false, w->where,
                          w->e)) return false;
        at = behind(w->at, n, c);
    }
    return true;
}

/* Undo what add_escaped does, in place: the length. */
static size_t unescape(char *s, size_t n)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        bool escaped = s[i] == '\\' && i + 1 < n;
        if (escaped) i++;
        s[used++] = escaped && s[i] == 'n' ? '\n' : s[i];
    }
    return used;
}

/* A line key=value of our own chunk. */
static bool own_line(Wav *w, const uint8_t *bytes, size_t n)
{
    size_t key = 0;
    while (key < n && bytes[key] != '=') key += bytes[key] == '\\' ? 2 : 1;
    if (key >= n)
        return bad(w, "fusn chunk, found a line without =, at byte %zu", (size_t)(bytes - w->at));
    char *line = malloc(n);
    if (!line) return bad(w, "out of memory, wanted %zu bytes for a text", n);
    memcpy(line, bytes, n);
    size_t key_size = unescape(line, key), size = unescape(line + key + 1, n - key - 1);
    bool kept = picture_text(&w->kept, line, key_size, line + key + 1, size, false, w->where, w->e);
    free(line);
    return kept;
}

static bool own_chunk(Wav *w, Chunk c)
{
    const uint8_t *at = w->at + c.begin, *end = at + c.size;
    while (at < end) {
        const uint8_t *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        if (!own_line(w, at, (size_t)(stop - at))) return false;
        at = stop < end ? stop + 1 : end;
    }
    return true;
}

enum { PCM = 1, IEEE_FLOAT = 3, EXTENSIBLE = 0xfffe };

static bool refuse_tag(const Wav *w, uint32_t tag)
{
    static const struct { uint32_t tag; const char *name; } names[] = {
        { 0x02, "Microsoft ADPCM" }, { 0x06, "A-law" },    { 0x07, "mu-law" },
        { 0x11, "IMA ADPCM" },       { 0x31, "GSM 6.10" }, { 0x40, "G.721 ADPCM" },
        { 0x50, "MPEG" },            { 0x55, "MP3" },      { 0xff, "AAC" },
        { 0x160, "Windows Media" },  { 0x161, "Windows Media" },
    };
    for (size_t i = 0; i < countof(names); i++)
        if (names[i].tag == tag)
            return bad(w, "samples, found %s, wanted PCM or IEEE float", names[i].name);
    return bad(w, "samples, found format 0x%04x, wanted PCM or IEEE float", tag);
}

/* A sample of fewer bits than its bytes hold lies in their upper part, so the bytes alone count. */
static bool fmt_chunk(Wav *w, Chunk c)
{
    static const uint8_t guid[14] = { 0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xaa, 0, 0x38, 0x9b, 0x71 };
    static const char *const formats[2][9] = {
        { [1] = "WAV 8-bit", "WAV 16-bit", "WAV 24-bit", "WAV 32-bit" },
        { [4] = "WAV 32-bit float", [8] = "WAV 64-bit float" } };
    const uint8_t *f = w->at + c.begin;
    if (w->align) return bad(w, "fmt chunk at byte %zu, found a second one", c.at);
    if (c.size < 16) return bad(w, "fmt chunk, found %zu bytes, wanted 16, 18 or 40", c.size);
    uint32_t tag = get16(f), channels = get16(f + 2), rate = get32(f + 4), align = get16(f + 12),
             bits = get16(f + 14);
    if (tag == EXTENSIBLE) {
        if (c.size < 40)
            return bad(w, "extensible fmt chunk, found %zu bytes, wanted 40", c.size);
        if (memcmp(f + 26, guid, sizeof guid))
            return bad(w, "samples, found an unknown subformat, wanted PCM or IEEE float");
        uint32_t valid = get16(f + 18);
        if (valid > bits || bits % 8)
            return bad(w, "bits, found %u valid of %u, wanted whole bytes that hold them", valid,
                       bits);
        tag = get16(f + 24);
    }
    if (tag != PCM && tag != IEEE_FLOAT) return refuse_tag(w, tag);
    if (tag == PCM && (bits < 8 || bits > 32))
        return bad(w, "bits, found %u, wanted 8 to 32", bits);
    if (tag == IEEE_FLOAT && bits != 32 && bits != 64)
        return bad(w, "bits of a float, found %u, wanted 32 or 64", bits);
    if (!fits(channels, rate, w->where, w->e)) return false;
    uint32_t bytes = (bits + 7) / 8;
    if (align != channels * bytes)
        return bad(w, "block align, found %u, wanted %u for %u x %u bits", align, channels * bytes,
                   channels, bits);
    w->is_float = tag == IEEE_FLOAT;
    w->bytes = bytes;
    w->align = align;
    w->s->channels = (int)channels;
    w->s->rate = (int)rate;
    w->s->format = formats[w->is_float][bytes];
    return true;
}

static double integer_sample(const uint8_t *p, uint32_t bytes)           /* 8 bits are unsigned */
{
    uint32_t v = 0;
    for (uint32_t i = 0; i < bytes; i++) v |= (uint32_t)p[i] << 8 * (4 - bytes + i);
    if (bytes > 1) v ^= 0x80000000;
    return (v - 0x1p31) * 0x1p-31;
}

static double float_sample(const uint8_t *p, uint32_t bytes)
{
    if (bytes == 4) {
        uint32_t bits = get32(p);
        float v;
        memcpy(&v, &bits, sizeof v);
        return v;
    }
    uint64_t bits = get64(p);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static bool data_samples(Wav *w, const uint8_t *p, size_t size)
{
    Sound *s = w->s;
    const size_t frames = size / w->align, count = frames * (size_t)s->channels;
    size_t room;
    if (!frames_fit(frames, (uint32_t)s->channels, w->where, w->e)) return false;
    s->at = size_mul(count, sizeof *s->at, &room) ? malloc(room) : NULL;
    if (!s->at) return bad(w, "out of memory, wanted room for %zu samples", count);
    for (size_t i = 0; i < count; i++, p += w->bytes) {
        double v = w->is_float ? float_sample(p, w->bytes) : integer_sample(p, w->bytes);
        if (!(v >= -FLT_MAX && v <= FLT_MAX))
            return not_finite(i, s->channels, v, w->where, w->e);
        s->at[i] = (float)v;
    }
    s->frames = frames;
    return true;
}

/* Set the true size of a data chunk.  A program that could not seek back left 0 or 0xffffffff, in
 * the chunk or in the RIFF header; but 0 is true where that header tells where the file ends. */
static bool data_chunk(Wav *w, Chunk *c)
{
    const size_t rest = w->n - c->begin, riff = get32(w->at + 4);
    bool endless = riff == 0 || riff == UNKNOWN;
    if (!w->align)
        return bad(w, "data chunk at byte %zu, found before a fmt chunk, wanted behind it", c->at);
    if (w->s->at) return bad(w, "data chunk at byte %zu, found a second one", c->at);
    if (c->size == UNKNOWN || (c->size == 0 && riff != w->n - 8) || (c->size > rest && endless))
        c->size = rest;
    if (c->size > rest)
        return bad(w, "data chunk, found %zu bytes in the file, wanted the %zu it promises", rest,
                   c->size);
    return data_samples(w, w->at + c->begin, c->size);
}

/* Chunks in any order, but fmt before data.  Behind the data, what lies beyond the end that the
 * RIFF header tells and is no whole chunk is not of the sound (tags of MP3 players). */
static bool wav_chunks(Wav *w)
{
    const uint64_t riff_end = (uint64_t)get32(w->at + 4) + 8;
    char shown[SHOWN];
    size_t at = 12;
    while (at < w->n && w->n - at >= 8) {
        Chunk c = chunk_at(w->at, at);
        bool is_data = !strcmp(c.id, "data"), is_fmt = !strcmp(c.id, "fmt ");
        if (!is_data && c.size > w->n - c.begin) {
            if (w->s->at && at >= riff_end) break;
            return bad(w, "chunk %s at byte %zu, found %zu bytes in the file, wanted the %zu it "
                       "promises", name_shown(c.id, 4, shown), at, w->n - c.begin, c.size);
        }
        if (is_fmt && w->s->at)
            return bad(w, "fmt chunk at byte %zu, found behind the data, wanted before", at);
        if ((is_fmt && !fmt_chunk(w, c)) || (is_data && !data_chunk(w, &c)) ||
            (!strcmp(c.id, "LIST") && !info_chunk(w, c)) ||
            (!strcmp(c.id, "fusn") && !own_chunk(w, c))) return false;
        at = behind(w->at, w->n, c);
    }
    if (w->s->at) return true;
    if (at < w->n)
        return bad(w, "header, found %zu bytes at byte %zu, wanted a chunk", w->n - at, at);
    return bad(w, "header, found the end of the file at byte %zu, wanted a %s chunk", w->n,
               w->align ? "data" : "fmt");
}

static const char *other_sound(const uint8_t *bytes, size_t n)
{
    static const struct { size_t at; const char *magic, *name; } sounds[] = {
        { 0, "RF64", "RF64 (WAV beyond 4 GiB)" }, { 0, "BW64", "BW64 (WAV beyond 4 GiB)" },
        { 0, "RIFX", "RIFX (WAV of big-endian bytes)" },
        { 8, "AIFF", "an AIFF sound" },           { 8, "AIFC", "an AIFF-C sound" },
        { 0, ".snd", "an AU sound" },             { 0, "caff", "a CAF sound" },
        { 0, "riff", "a Wave64 sound" },          { 4, "ftyp", "an MP4 file" },
        { 8, "AVI ", "an AVI film" },
    };
    for (size_t i = 0; i < countof(sounds); i++)
        if (n >= sounds[i].at + 4 && !memcmp(bytes + sounds[i].at, sounds[i].magic, 4))
            return sounds[i].name;
    if (n >= 2 && bytes[0] == 0xff && (bytes[1] & 0xe6) == 0xe2) return "an MP3 sound";
    if (n >= 2 && bytes[0] == 0xff && (bytes[1] & 0xf6) == 0xf0) return "an AAC sound";
    const char *found = foreign_format(bytes, n);
    return found ? found : "an unknown format";
}

bool sound_known(const uint8_t *head, size_t n)
{
    return n >= 12 && !memcmp(head, "RIFF", 4) && !memcmp(head + 8, "WAVE", 4);
}

bool sound_parse(Sound *s, const uint8_t *bytes, size_t n, const char *where, Error *e)
{
    Wav w = { .at = bytes, .n = n, .s = s, .where = where, .e = e };
    *s = (Sound){0};
    if (n == 0) return bad(&w, "sound, found an empty file, wanted WAV");
    bool riff = n >= 4 && !memcmp(bytes, "RIFF", 4);
    if (riff && n < 12) return bad(&w, "header, found %zu bytes, wanted 12 at least", n);
    if (!riff || memcmp(bytes + 8, "WAVE", 4))
        return bad(&w, "sound, found %s, wanted WAV", other_sound(bytes, n));
    bool done = wav_chunks(&w);
    s->texts = w.kept.texts;
    s->text_count = w.kept.text_count;
    if (!done) sound_free(s);
    return done;
}

bool sound_read(Sound *s, const char *path, Error *e)
{
    File f;
    *s = (Sound){0};
    if (!file_map(&f, path, 0, e)) return false;
    bool done = sound_parse(s, f.at, f.size, path, e);
    file_unmap(&f);
    return done;
}

/* ---- WAV out --------------------------------------------------------------------------------- */

typedef struct { uint8_t *at; size_t n; } Bytes;                         /* at NULL: only counted */

static void add(Bytes *b, const void *bytes, size_t n)
{
    if (b->at) memcpy(b->at + b->n, bytes, n);
    b->n += n;
}

/* A chunk's head; its size comes with end_chunk, which takes what begin_chunk gave. */
static size_t begin_chunk(Bytes *b, const char *id)
{
    add(b, id, 4);
    add(b, "\0\0\0", 4);
    return b->n;
}

static void end_chunk(Bytes *b, size_t begin)
{
    if (b->at) put32(b->at + begin - 4, (uint32_t)(b->n - begin));
    if ((b->n - begin) % 2) add(b, "", 1);
}

/* s on a line of its own; in a key = is escaped too. */
static void add_escaped(Bytes *b, const char *s, bool key)
{
    for (; *s; s++) {
        if (*s == '\n' || *s == '\\' || (key && *s == '=')) add(b, "\\", 1);
        add(b, *s == '\n' ? "n" : s, 1);
    }
}

/* LIST INFO with the texts that have a place there, fusn with the others. */
static void add_texts(Bytes *b, const char *const *texts)
{
    size_t listed = 0, others = 0;
    for (size_t i = 0; texts && texts[i]; i += 2) (*(place_of(texts[i]) ? &listed : &others))++;
    if (listed) {
        size_t list = begin_chunk(b, "LIST");
        add(b, "INFO", 4);
        for (size_t i = 0; texts[i]; i += 2) {
            const char *id = place_of(texts[i]);
            if (!id) continue;
            size_t text = begin_chunk(b, id);
            add(b, texts[i + 1], strlen(texts[i + 1]) + 1);
            end_chunk(b, text);
        }
        end_chunk(b, list);
    }
    if (others) {
        size_t own = begin_chunk(b, "fusn");
        for (size_t i = 0; texts[i]; i += 2) {
            if (place_of(texts[i])) continue;
            add_escaped(b, texts[i], true);
            add(b, "=", 1);
            add_escaped(b, texts[i + 1], false);
            add(b, "\n", 1);
        }
        end_chunk(b, own);
    }
}

int16_t sound_16_bits(float x)                               /* halves to even, clipped */
{
    double v = (x * 32768.0 + 0x1.8p52) - 0x1.8p52;
    return (int16_t)(v < -32768 ? -32768 : v > 32767 ? 32767 : v);
}

static bool write_samples(Output *o, const Sound *s, bool as_float, Error *e)
{
    uint8_t block[4096];
    const size_t bytes = as_float ? 4 : 2, count = s->frames * (size_t)s->channels;
    size_t used = 0;
    for (size_t i = 0; i < count; i++, used += bytes) {
        if (used == sizeof block) {
            if (!output_write(o, block, used, e)) return false;
            used = 0;
        }
        if (as_float) {
            uint32_t bits;
            memcpy(&bits, s->at + i, sizeof bits);
            put32(block + used, bits);
        } else
            put16(block + used, (uint16_t)sound_16_bits(s->at[i]));
    }
    return output_write(o, block, used, e);
}

/* RIFF, fmt, for floats fact, the head of data. */
static size_t wav_head(uint8_t head[64], const Sound *s, bool as_float, uint32_t data,
                       uint32_t riff)
{
    const uint32_t bytes = as_float ? 4 : 2, align = bytes * (uint32_t)s->channels;
    size_t n = as_float ? 38 : 36;
    memcpy(head, "RIFF....WAVEfmt ", 16);
    put32(head + 4, riff);
    put32(head + 16, as_float ? 18 : 16);
    put16(head + 20, as_float ? IEEE_FLOAT : PCM);
    put16(head + 22, (uint32_t)s->channels);
    put32(head + 24, (uint32_t)s->rate);
    put32(head + 28, (uint32_t)s->rate * align);
    put16(head + 32, align);
    put16(head + 34, 8 * bytes);
    if (as_float) {
        put16(head + 36, 0);                                 /* nothing more about the format */
        memcpy(head + n, "fact", 4);
        put32(head + n + 4, 4);
        put32(head + n + 8, (uint32_t)s->frames);
        n += 12;
    }
    memcpy(head + n, "data", 4);
    put32(head + n + 4, data);
    return n + 8;
}

bool wav_write(Output *o, const Sound *s, bool as_float, const char *const *texts, Error *e)
{
    uint8_t head[64];
    if (!fits((uint32_t)s->channels, (uint32_t)s->rate, "WAV", e) ||
        !frames_fit(s->frames, (uint32_t)s->channels, "WAV", e)) return false;
    const size_t count = s->frames * (size_t)s->channels;
    const uint64_t data = (uint64_t)count * (as_float ? 4 : 2);
    Bytes tail = {0};
    add_texts(&tail, texts);
    const uint64_t riff = (as_float ? 50 : 36) + data + tail.n;
    if (riff >= UNKNOWN)
        return fail(e, "WAV: size, found %llu bytes, wanted less than %u (4 GiB)",
                    (unsigned long long)riff, UNKNOWN);
    for (size_t i = 0; i < count; i++)
        if (!isfinite(s->at[i])) return not_finite(i, s->channels, s->at[i], "WAV", e);

    tail.at = malloc(tail.n + 1);
    if (!tail.at) return fail(e, "WAV: out of memory, wanted %zu bytes for texts", tail.n);
    tail.n = 0;
    add_texts(&tail, texts);
    size_t n = wav_head(head, s, as_float, (uint32_t)data, (uint32_t)riff);
    bool done = output_write(o, head, n, e) && write_samples(o, s, as_float, e) &&
                output_write(o, tail.at, tail.n, e);
    free(tail.at);
    return done;
}

/* ---- resampling ------------------------------------------------------------------------------ */

/* y[n] = sum_k x[k] h(k - n M/L)                            L/M = to/from in lowest terms
 * h(t) ~ sinc(f t) I0(B sqrt(1 - (t/W)^2)), |t| < W         Kaiser 1974
 *
 * With s = min(1, L/M): W = 64/s input samples, f = 0.95 s of the input's highest frequency.  So
 * what lies below 0.9 of the lower of the two highest frequencies stays, what lies above vanishes,
 * both to 100 dB (B = 10.06).  Each phase's taps are divided by their sum: a constant stays one. */
enum { ZEROS = 64, TERMS = 24, TABLE_LIMIT = 1 << 20 };
static const double kaiser_b = 10.06, rolloff = 0.95;

typedef struct {
    uint32_t up, down;                         /* L, M */
    int half, taps;                            /* input samples k = 1 - half ... half */
    int64_t reach;                             /* L W */
    double step;                               /* the angle pi f from a sample to the next */
    double bessel[TERMS];                      /* I0(B sqrt v) as a power series in v */
    double *sine, *cosine;                     /* [taps], of k step */
    double *inside;                            /* [taps], scratch: 1 - (t/W)^2 */
    double *rows;                              /* the taps of every phase, or room for one */
    bool table;
} Resampler;

/* The taps of the place phase / L behind an input sample.  Term by term for all taps at once: so
 * compilers can use their vectors. */
static void phase_taps(const Resampler *r, uint32_t phase, double *row)
{
    const double offset = (double)phase / r->up * r->step;
    const double sine = f_sin(offset), cosine = f_cos(offset);
    const int64_t first = (int64_t)(1 - r->half) * r->up - phase;        /* L t of tap 0, exactly */
    double *v = r->inside, sum = 0;
    for (int j = 0; j < r->taps; j++) {
        double u = (double)(first + (int64_t)j * r->up) / (double)r->reach;
        v[j] = 1 - u * u;
        row[j] = r->bessel[TERMS - 1];
    }
    for (int i = TERMS - 2; i >= 0; i--)
        for (int j = 0; j < r->taps; j++) row[j] = row[j] * v[j] + r->bessel[i];
    for (int j = 0; j < r->taps; j++) {
        const int64_t place = first + (int64_t)j * r->up;
        const double wave = r->sine[j] * cosine - r->cosine[j] * sine;   /* sin(t step) */
        row[j] *= place == 0 ? r->step : wave / ((double)place / r->up);
        if (place <= -r->reach || place >= r->reach) row[j] = 0;
        sum += row[j];
    }
    for (int j = 0; j < r->taps; j++) row[j] /= sum;
}

/* A table of all phases where it is small and its rows serve more than once; else one row, made
 * anew for every output. */
static bool resampler_make(Resampler *r, uint32_t up, uint32_t down, uint64_t frames_out)
{
    const double scale = up < down ? (double)up / down : 1;
    r->up = up;
    r->down = down;
    r->reach = (int64_t)ZEROS * (up < down ? down : up);
    r->half = (int)((r->reach + up - 1) / up);
    r->taps = 2 * r->half;
    r->step = pi * rolloff * scale;
    r->bessel[0] = 1;
    for (int i = 1; i < TERMS; i++)
        r->bessel[i] = r->bessel[i - 1] * (kaiser_b * kaiser_b / 4) / (i * i);

    const size_t taps = (size_t)r->taps;
    r->table = up < frames_out && up <= TABLE_LIMIT / taps;
    r->sine = malloc(3 * taps * sizeof *r->sine);
    r->rows = malloc((r->table ? up : 1) * taps * sizeof *r->rows);
    if (!r->sine || !r->rows) return false;
    r->cosine = r->sine + taps;
    r->inside = r->cosine + taps;
    for (int j = 0; j < r->taps; j++) {
        r->sine[j] = f_sin((j - r->half + 1) * r->step);
        r->cosine[j] = f_cos((j - r->half + 1) * r->step);
    }
    for (uint32_t phase = 0; r->table && phase < up; phase++)
        phase_taps(r, phase, r->rows + phase * taps);
    return true;
}

/* Eight sums side by side, added in one order. */
static double weighted_sum(const double *taps, const float *x, size_t n, size_t stride)
{
    double sum[8] = {0};
    size_t j = 0;
    for (; j + 8 <= n; j += 8)
        for (size_t i = 0; i < 8; i++) sum[i] += taps[j + i] * x[(j + i) * stride];
    for (size_t i = 0; j + i < n; i++) sum[i] += taps[j + i] * x[(j + i) * stride];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

/* Outside the sound is silence. */
static void resample_frames(const Resampler *r, const Sound *s, float *out, size_t frames_out)
{
    const size_t channels = (size_t)s->channels, half = (size_t)r->half, taps = (size_t)r->taps;
    size_t centre = 0;
    uint32_t phase = 0;
    for (size_t i = 0; i < frames_out; i++) {
        double *row = r->rows + (r->table ? phase * taps : 0);
        if (!r->table) phase_taps(r, phase, row);
        size_t skip = centre + 1 < half ? half - 1 - centre : 0, first = centre + 1 + skip - half;
        size_t n = zmin(taps - skip, s->frames - first);
        for (size_t c = 0; c < channels; c++)
            *out++ = (float)weighted_sum(row + skip, s->at + first * channels + c, n, channels);
        phase += r->down;
        centre += phase / r->up;
        phase %= r->up;
    }
}

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

bool sound_resample(Sound *s, int rate, Error *e)
{
    if (!fits((uint32_t)s->channels, (uint32_t)rate, "resample", e) ||
        !fits((uint32_t)s->channels, (uint32_t)s->rate, "resample", e) ||
        !frames_fit(s->frames, (uint32_t)s->channels, "resample", e)) return false;
    if (rate == s->rate) return true;
    const uint32_t d = common_divisor((uint32_t)rate, (uint32_t)s->rate);
    const uint32_t up = (uint32_t)rate / d, down = (uint32_t)s->rate / d;
    const uint64_t frames = ((uint64_t)s->frames * up + down - 1) / down;
    if (!frames_fit(frames, (uint32_t)s->channels, "resample", e)) return false;

    size_t room;
    Resampler r = {0};
    float *out = size_mul((size_t)frames * (size_t)s->channels, sizeof *out, &room) ? malloc(room)
                                                                                    : NULL;
    bool made = out && resampler_make(&r, up, down, frames);
    if (made) {
        resample_frames(&r, s, out, (size_t)frames);
        free(s->at);
        s->at = out;
        s->frames = (size_t)frames;
        s->rate = rate;
    } else {
        free(out);
        fail(e, "resample: out of memory, wanted room for %llu samples in each of %d channels",
             (unsigned long long)frames, s->channels);
    }
    free(r.sine);
    free(r.rows);
    return made;
}

/* ---- levels ---------------------------------------------------------------------------------- */

static size_t sample_count(const Sound *s) { return s->frames * (size_t)s->channels; }

/* The sound is now shorter: give back what it no longer needs. */
static void shrink(Sound *s)
{
    float *less = realloc(s->at, zmax(1, sample_count(s)) * sizeof *less);
    if (less) s->at = less;
}

void sound_mono(Sound *s)
{
    const int channels = s->channels;
    if (channels == 1) return;
    for (size_t i = 0; i < s->frames; i++) {
        double sum = 0;
        for (int c = 0; c < channels; c++) sum += s->at[i * (size_t)channels + (size_t)c];
        s->at[i] = (float)(sum / channels);
    }
    s->channels = 1;
    shrink(s);
}

double sound_peak(const Sound *s)
{
    double peak = 0;
    for (size_t i = 0; i < sample_count(s); i++)
        if (fabs(s->at[i]) > peak) peak = fabs(s->at[i]);
    return peak;
}

double sound_rms(const Sound *s)
{
    double sum = 0;
    for (size_t i = 0; i < sample_count(s); i++) sum += (double)s->at[i] * s->at[i];
    return s->frames ? sqrt(sum / (double)sample_count(s)) : 0;
}

void sound_gain(Sound *s, double factor)
{
    for (size_t i = 0; i < sample_count(s); i++) s->at[i] = (float)(s->at[i] * factor);
}

/* Rounded, and no more than there are. */
static size_t frames_in(const Sound *s, double seconds)
{
    double frames = seconds * s->rate + 0.5;
    return !(frames >= 1) ? 0 : frames >= (double)s->frames ? s->frames : (size_t)frames;
}

static void scale_frame(Sound *s, size_t i, double factor)
{
    float *frame = s->at + i * (size_t)s->channels;
    for (int c = 0; c < s->channels; c++) frame[c] = (float)(frame[c] * factor);
}

void sound_fade(Sound *s, double in, double out)
{
    size_t n = frames_in(s, in);
    for (size_t i = 0; i < n; i++)
        scale_frame(s, i, 0.5 - 0.5 * f_cos(pi * (double)i / (double)n));
    n = frames_in(s, out);
    for (size_t i = 0; i < n; i++)
        scale_frame(s, s->frames - 1 - i, 0.5 - 0.5 * f_cos(pi * (double)i / (double)n));
}

/* The first frame is then the one that followed the new last frame: the join is a step of the
 * sound itself. */
bool sound_loop(Sound *s, double seconds, Error *e)
{
    const size_t n = frames_in(s, seconds), channels = (size_t)s->channels;
    if (!(seconds >= 0) || n > s->frames / 2)
        return fail(e, "loop: seconds, found %g, wanted 0 to %g, half of the sound", seconds,
                    (double)(s->frames / 2) / s->rate);
    const float *end = s->at + (s->frames - n) * channels;
    for (size_t i = 0; i < n; i++) {
        const double turn = pi / 2 * (double)i / (double)n, rise = f_sin(turn), fall = f_cos(turn);
        for (size_t c = i * channels; c < (i + 1) * channels; c++)
            s->at[c] = (float)(rise * s->at[c] + fall * end[c]);
    }
    s->frames -= n;
    shrink(s);
    return true;
}
