/* png.c - PNG in and out, with the deflate of both directions.  PNG: W3C REC-PNG third edition;
 * zlib and deflate: RFC 1950 and 1951. */
#include "picture.h"
#include <stdlib.h>

static const uint8_t signature[8] = { 0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n' };

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* CRC-32 by half bytes; start with crc 0. */
static uint32_t crc32(uint32_t crc, const uint8_t *p, size_t n)
{
    static const uint32_t half[16] = {
        0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158,
        0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4,
        0xa00ae278, 0xbdbdf21c };
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        crc = crc >> 4 ^ half[crc & 15];
        crc = crc >> 4 ^ half[crc & 15];
    }
    return ~crc;
}

static uint32_t adler32(const uint8_t *p, size_t n)
{
    uint32_t a = 1, b = 0;
    while (n > 0) {
        size_t part = zmin(n, 5552);                       /* b stays below 2^32 */
        for (size_t i = 0; i < part; i++) b += a += p[i];
        a %= 65521;
        b %= 65521;
        p += part;
        n -= part;
    }
    return b << 16 | a;
}

/* ---- deflate: tables of both directions ------------------------------------------------------ */

enum { LITERALS = 288, DISTANCES = 30, WINDOW = 32768, LONGEST = 258 };

static const uint16_t length_base[29] = {
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258 };
static const uint8_t length_bits[29] = {
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0 };
static const uint16_t distance_base[DISTANCES] = {
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049,
    3073, 4097, 6145, 8193, 12289, 16385, 24577 };
static const uint8_t distance_bits[DISTANCES] = {
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13 };
static const uint8_t meta_order[19] = {
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15 };

/* ---- inflate --------------------------------------------------------------------------------- */

/* A Huffman code: by its first QUICK bits where it is that short, else canonically. */
enum { QUICK = 10 };
typedef struct {
    uint16_t quick[1 << QUICK];                    /* symbol << 4 | length, 0: longer */
    uint16_t count[16], symbol[LITERALS];          /* codes of each length; symbols in code order */
} Code;

typedef struct {
    const uint8_t *in; size_t size, next;
    uint64_t bits; int held;                       /* read ahead, first bit lowest */
    uint8_t *out; size_t room, used;
    const char *wrong;                             /* the first thing that is */
    Code literal, distance;
} Inflate;

static void refill(Inflate *z)
{
    while (z->held <= 56 && z->next < z->size) {
        z->bits |= (uint64_t)z->in[z->next++] << z->held;
        z->held += 8;
    }
}

/* Drop n of the bits held. */
static void drop(Inflate *z, int n)
{
    if (n > z->held) {
        if (!z->wrong) z->wrong = "the data ends early";
        n = z->held;
    }
    z->bits >>= n;
    z->held -= n;
}

static uint32_t take(Inflate *z, int n)
{
    refill(z);
    uint32_t value = (uint32_t)(z->bits & ((1u << n) - 1));
    drop(z, n);
    return value;
}

/* From the length of each symbol's code.  A code must be complete, save a lone one of one bit,
 * and none at all where may_lack is set. */
static const char *code_make(Code *c, const uint8_t *length, int n, bool may_lack)
{
    uint16_t at[16] = {0};
    uint32_t code = 0, next[16] = {0};
    int left = 1, symbols = 0;
    memset(c, 0, sizeof *c);
    for (int i = 0; i < n; i++) c->count[length[i]]++;
    c->count[0] = 0;
    for (int k = 1; k < 16; k++) {
        next[k] = code = (code + c->count[k - 1]) << 1;
        at[k] = (uint16_t)symbols;
        symbols += c->count[k];
        left = left * 2 - c->count[k];
        if (left < 0) return "an oversubscribed Huffman code";
    }
    bool lone = symbols <= 1 && symbols == c->count[1];
    if (left > 0 && !(may_lack && lone)) return "an incomplete Huffman code";
    for (int i = 0; i < n; i++) {
        int k = length[i];
        if (k == 0) continue;
        c->symbol[at[k]++] = (uint16_t)i;
        uint32_t straight = next[k]++, reversed = 0;
        for (int b = 0; b < k; b++) reversed |= (straight >> b & 1) << (k - 1 - b);
        for (uint32_t q = reversed; k <= QUICK && q < 1 << QUICK; q += 1u << k)
            c->quick[q] = (uint16_t)(i << 4 | k);
    }
    return NULL;
}

static int decode(Inflate *z, const Code *c)
{
    refill(z);
    int entry = c->quick[z->bits & ((1 << QUICK) - 1)];
    if (entry) {
        drop(z, entry & 15);
        return entry >> 4;
    }
    int code = 0, first = 0, index = 0;
    for (int k = 1; k < 16; k++) {
        code = code << 1 | (int)(z->bits >> (k - 1) & 1);
        if (code - first < c->count[k]) {
            drop(z, k);
            return c->symbol[index + code - first];
        }
        index += c->count[k];
        first = (first + c->count[k]) << 1;
    }
    if (!z->wrong)
        z->wrong = z->held < 15 ? "the data ends early" : "a code that stands for nothing";
    return 0;
}

static void inflate_stored(Inflate *z)
{
    drop(z, z->held & 7);
    uint32_t n = take(z, 16), check = take(z, 16);
    if (z->wrong) return;
    if ((n ^ check) != 0xffff) z->wrong = "a stored block whose two lengths disagree";
    else if (n > z->room - z->used) z->wrong = "more data than belongs there";
    for (; n > 0 && !z->wrong; n--) z->out[z->used++] = (uint8_t)take(z, 8);
}

static const char *fixed_codes(Inflate *z)
{
    uint8_t length[LITERALS];
    for (int i = 0; i < LITERALS; i++) length[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    const char *wrong = code_make(&z->literal, length, LITERALS, false);
    memset(length, 5, 32);                                 /* 30 and 31 have codes and no meaning */
    return wrong ? wrong : code_make(&z->distance, length, 32, false);
}

static const char *dynamic_codes(Inflate *z)
{
    uint8_t length[LITERALS + 32] = {0};
    int literals = (int)take(z, 5) + 257, distances = (int)take(z, 5) + 1;
    int metas = (int)take(z, 4) + 4;
    if (literals > 286 || distances > DISTANCES) return "too many lengths of codes";
    for (int i = 0; i < metas; i++) length[meta_order[i]] = (uint8_t)take(z, 3);
    const char *wrong = code_make(&z->literal, length, 19, false);
    if (wrong) return wrong;
    memset(length, 0, 19);
    for (int i = 0; i < literals + distances; ) {
        int symbol = decode(z, &z->literal), times = 1, value = symbol;
        if (symbol == 16 && i == 0) return "a repeat of nothing";
        if (symbol == 16) value = length[i - 1], times = 3 + (int)take(z, 2);
        if (symbol == 17) value = 0, times = 3 + (int)take(z, 3);
        if (symbol == 18) value = 0, times = 11 + (int)take(z, 7);
        if (z->wrong) return z->wrong;
        if (times > literals + distances - i) return "too many lengths of codes";
        while (times-- > 0) length[i++] = (uint8_t)value;
    }
    if (length[256] == 0) return "no code for the end of a block";
    wrong = code_make(&z->literal, length, literals, true);
    return wrong ? wrong : code_make(&z->distance, length + literals, distances, true);
}

static void inflate_coded(Inflate *z)
{
    while (!z->wrong) {
        int symbol = decode(z, &z->literal);
        if (z->wrong || symbol == 256) return;
        if (symbol < 256) {
            if (z->used == z->room) z->wrong = "more data than belongs there";
            else z->out[z->used++] = (uint8_t)symbol;
            continue;
        }
        symbol -= 257;
        if (symbol >= 29) { z->wrong = "a length that stands for nothing"; return; }
        size_t n = length_base[symbol] + take(z, length_bits[symbol]);
        int code = decode(z, &z->distance);
        if (z->wrong) return;
        if (code >= DISTANCES) { z->wrong = "a distance that stands for nothing"; return; }
        size_t back = distance_base[code] + take(z, distance_bits[code]);
        if (z->wrong) return;
        if (back > z->used) z->wrong = "a distance before the beginning";
        else if (n > z->room - z->used) z->wrong = "more data than belongs there";
        else for (; n > 0; n--, z->used++) z->out[z->used] = z->out[z->used - back];
    }
}

/* A zlib stream into out, at most room bytes; *used tells how many.  NULL, or what is wrong. */
static const char *inflate(const uint8_t *in, size_t n, uint8_t *out, size_t room, size_t *used)
{
    Inflate *z = calloc(1, sizeof *z);
    if (!z) return "too little memory for its codes";
    z->in = in;
    z->size = n;
    z->out = out;
    z->room = room;
    uint32_t head = take(z, 8), flags = take(z, 8);
    if (!z->wrong && ((head & 15) != 8 || head >> 4 > 7 || (head << 8 | flags) % 31 || flags & 32))
        z->wrong = "no zlib header";
    for (bool last = false; !last && !z->wrong; ) {
        last = take(z, 1);
        uint32_t type = take(z, 2);
        if (z->wrong) break;
        if (type == 3) z->wrong = "a block of type 3";
        else if (type == 0) inflate_stored(z);
        else {
            z->wrong = type == 1 ? fixed_codes(z) : dynamic_codes(z);
            if (!z->wrong) inflate_coded(z);
        }
    }
    drop(z, z->held & 7);
    uint32_t sum = 0;
    for (int i = 0; i < 4; i++) sum = sum << 8 | take(z, 8);
    if (!z->wrong && sum != adler32(out, z->used)) z->wrong = "a wrong Adler-32 sum";
    const char *wrong = z->wrong;
    *used = z->used;
    free(z);
    return wrong;
}

/* ---- PNG in ---------------------------------------------------------------------------------- */

enum { GREY = 0, COLOUR = 2, PALETTE = 3, GREY_ALPHA = 4, COLOUR_ALPHA = 6 };

typedef struct {
    Picture *p; const char *where; Error *e;
    uint32_t w, h;
    int depth, type, channels; bool interlaced;
    uint8_t palette[256][4]; int colours;          /* RGBA */
    bool keyed; unsigned key[3];                   /* the transparent colour, as stored */
    uint8_t *data; size_t size;                    /* all IDAT together */
    int past;                                      /* a palette index without a colour, or -1 */
} Png;

/* fail with the name of the file in front. */
PRINTF(2, 3) static bool bad(const Png *g, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(g->e, "%s: %s", g->where, text);
}

static bool png_header(Png *g, const uint8_t *d, uint32_t n)
{
    static const uint8_t channels[7] = { 1, 0, 3, 1, 2, 0, 4 };
    if (n != 13) return bad(g, "IHDR, found %u bytes, wanted 13", n);
    g->w = be32(d);
    g->h = be32(d + 4);
    g->depth = d[8];
    g->type = d[9];
    bool small = g->depth == 1 || g->depth == 2 || g->depth == 4, wide = g->depth == 16;
    if (!(g->depth == 8 || (small && (g->type == GREY || g->type == PALETTE)) ||
          (wide && g->type != PALETTE)) || g->type > 6 || !channels[g->type])
        return bad(g, "IHDR, found colour type %d at %d bits, which PNG does not have", g->type,
                   g->depth);
    if (d[10] || d[11] || d[12] > 1)
        return bad(g, "IHDR, found compression %d, filter %d, interlace %d, wanted 0, 0, 0 or 1",
                   d[10], d[11], d[12]);
    g->channels = channels[g->type];
    g->interlaced = d[12];
    return true;
}

static bool png_palette(Png *g, const uint8_t *d, uint32_t n)
{
    if (g->colours) return bad(g, "PLTE, found a second one");
    if (n == 0 || n % 3 || n > 768)
        return bad(g, "PLTE, found %u bytes, wanted 3 to 768 by threes", n);
    g->colours = (int)n / 3;
    for (int i = 0; i < g->colours; i++) {
        memcpy(g->palette[i], d + 3 * i, 3);
        g->palette[i][3] = 255;
    }
    return true;
}

static bool png_transparency(Png *g, const uint8_t *d, uint32_t n)
{
    if (g->type == PALETTE) {
        if (!g->colours || n > (uint32_t)g->colours)
            return bad(g, "tRNS, found %u entries after %d colours", n, g->colours);
        for (uint32_t i = 0; i < n; i++) g->palette[i][3] = d[i];
    } else if (g->type == GREY || g->type == COLOUR) {
        if (n != 2u * (uint32_t)g->channels)
            return bad(g, "tRNS, found %u bytes, wanted %d", n, 2 * g->channels);
        g->keyed = true;
        for (int c = 0; c < g->channels; c++)
            g->key[c] = (d[2 * c] << 8 | d[2 * c + 1]) & ((1u << g->depth) - 1);
    }
    return true;
}

/* tEXt: key 0 text; zTXt: key 0 method zlib; iTXt: key 0 packed method language 0 key 0 text.
 * One that has not this form is passed over: the picture does not depend on it. */
static bool png_text(Png *g, const uint8_t *d, size_t n, char kind)
{
    const uint8_t *end = d + n, *value = n ? memchr(d, 0, n) : NULL;
    if (!value || value == d) return true;
    size_t key_size = (size_t)(value++ - d);
    bool packed = kind == 'z';
    if (kind != 't') {
        if (end - value < 2) return true;
        packed = packed || value[0] == 1;
        if (kind == 'z' ? value[0] != 0 : value[0] > 1 || (packed && value[1] != 0)) return true;
        value += kind == 'z' ? 1 : 2;
    }
    for (int skipped = 0; kind == 'i' && skipped < 2; skipped++) {
        value = value < end ? memchr(value, 0, (size_t)(end - value)) : NULL;
        if (!value) return true;
        value++;
    }
    size_t size = (size_t)(end - value);
    uint8_t *plain = NULL;
    if (packed) {
        size_t room = size > TEXT_LIMIT / 1032 ? TEXT_LIMIT : (size + 1) * 1032;
        plain = malloc(room);
        if (!plain) return bad(g, "out of memory, wanted %zu bytes for a text", room);
        const char *wrong = inflate(value, size, plain, room, &size);
        if (wrong) {
            free(plain);
            return bad(g, "%cTXt, found %s (after %zu bytes)", kind, wrong, size);
        }
        value = plain;
    }
    bool kept = kind == 'i' && !utf8_valid(value, size);
    if (!kept) kept = picture_text(g->p, d, key_size, value, size, kind != 'i', g->where, g->e);
    free(plain);
    return kept;
}

static bool png_data(Png *g, const uint8_t *d, size_t n, size_t rest)
{
    if (g->type == PALETTE && !g->colours)
        return bad(g, "IDAT, found before the palette that it needs");
    if (!g->data) g->data = malloc(rest);
    if (!g->data) return bad(g, "out of memory, wanted %zu bytes for the data", rest);
    memcpy(g->data + g->size, d, n);
    g->size += n;
    return true;
}

/* All chunks up to IEND: order, sums, contents. */
static bool png_chunks(Png *g, const uint8_t *b, size_t n)
{
    char last[5] = "";
    for (size_t at = 8; ; ) {
        if (n - at < 12)
            return bad(g, "found the end of the file at byte %zu, wanted a chunk up to IEND", n);
        uint32_t size = be32(b + at);
        const uint8_t *d = b + at + 8;
        char name[5] = { (char)d[-4], (char)d[-3], (char)d[-2], (char)d[-1], 0 };
        for (int i = 0; i < 4; i++)
            if ((name[i] | 32) < 'a' || (name[i] | 32) > 'z')
                return bad(g, "chunk at byte %zu, its name is not four letters", at);
        if (size > n - at - 12)
            return bad(g, "chunk %s at byte %zu, found %zu bytes, wanted %u", name, at,
                       n - at - 12, size);
        uint32_t found = be32(d + size), sum = crc32(0, d - 4, (size_t)size + 4);
        if (found != sum)
            return bad(g, "chunk %s at byte %zu, found CRC %08x, wanted %08x", name, at, found,
                       sum);
        bool first = at == 8, data = !strcmp(name, "IDAT"), ok = true;
        if (first != !strcmp(name, "IHDR"))
            return bad(g, "chunk %s at byte %zu, wanted IHDR first and once", name, at);
        bool early = !strcmp(name, "PLTE") || !strcmp(name, "tRNS");
        if (g->data && (early || (data && strcmp(last, "IDAT"))))
            return bad(g, "chunk %s at byte %zu, found after the data", name, at);
        if (!strcmp(name, "IEND")) break;
        if (first) ok = png_header(g, d, size);
        else if (data) ok = png_data(g, d, size, n - at);
        else if (!strcmp(name, "PLTE")) ok = png_palette(g, d, size);
        else if (!strcmp(name, "tRNS")) ok = png_transparency(g, d, size);
        else if (!strcmp(name, "tEXt") || !strcmp(name, "zTXt") || !strcmp(name, "iTXt"))
            ok = png_text(g, d, size, name[0]);
        else if (!(name[0] & 32))
            return bad(g, "chunk %s at byte %zu, which must not be passed over, is not known",
                       name, at);
        if (!ok) return false;
        memcpy(last, name, sizeof last);
        at += (size_t)size + 12;
    }
    return g->data || bad(g, "found no IDAT");
}

/* Sample i of a row, as stored. */
static unsigned sample(const Png *g, const uint8_t *row, size_t i)
{
    if (g->depth == 8) return row[i];
    if (g->depth == 16) return (unsigned)row[2 * i] << 8 | row[2 * i + 1];
    size_t bit = i * (size_t)g->depth;
    return row[bit / 8] >> (8 - g->depth - (int)(bit % 8)) & ((1u << g->depth) - 1);
}

/* To 8 bits: the high byte of 16, smaller ones spread over 0..255. */
static unsigned eight(const Png *g, unsigned v)
{
    static const uint8_t spread[9] = { [1] = 255, [2] = 85, [4] = 17, [8] = 1 };
    return g->depth == 16 ? v >> 8 : v * spread[g->depth];
}

/* Pillow's alpha_composite of v over white: its integers give the exact quotient, rounded. */
static uint8_t over_white(unsigned v, unsigned alpha)
{
    if (alpha == 255) return (uint8_t)v;
    return (uint8_t)((v * alpha + 255 * (255 - alpha) + 127) / 255);
}

/* Pixel x of an unfiltered row, on white.  A key counts where all stored bits agree (PNG
 * 11.3.1.1); Pillow compares 16-bit keys by one byte and scales 2- and 4-bit grey first. */
static void pixel(Png *g, const uint8_t *row, size_t x, uint8_t out[3])
{
    unsigned v[4] = {0}, alpha = 255;
    for (int c = 0; c < g->channels; c++)
        v[c] = sample(g, row, x * (size_t)g->channels + (size_t)c);
    if (g->type == PALETTE) {
        if (v[0] >= (unsigned)g->colours) {
            g->past = (int)v[0];
            v[0] = 0;
        }
        const uint8_t *colour = g->palette[v[0]];
        for (int c = 0; c < 3; c++) out[c] = over_white(colour[c], colour[3]);
        return;
    }
    bool grey = g->type == GREY || g->type == GREY_ALPHA;
    bool key = g->keyed && v[0] == g->key[0];
    if (key && (grey || (v[1] == g->key[1] && v[2] == g->key[2]))) alpha = 0;
    if (g->type == GREY_ALPHA) alpha = eight(g, v[1]);
    if (g->type == COLOUR_ALPHA) alpha = eight(g, v[3]);
    for (int c = 0; c < 3; c++) out[c] = over_white(eight(g, v[grey ? 0 : c]), alpha);
}

/* Paeth: of left, above and above left the one nearest to left + above - above left. */
static int paeth(int a, int b, int c)
{
    int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);
    return pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
}

/* What filter type predicts for a byte. */
static int predict(int type, int left, int above, int corner)
{
    switch (type) {
    case 0: return 0;
    case 1: return left;
    case 2: return above;
    case 3: return (left + above) / 2;
    default: return paeth(left, above, corner);
    }
}

/* row [n], in place; above is the unfiltered row before it or NULL; pixels are step bytes apart. */
static void unfilter(int type, uint8_t *row, const uint8_t *above, size_t n, size_t step)
{
    for (size_t i = 0; i < n; i++) {
        int left = i < step ? 0 : row[i - step], up = above ? above[i] : 0;
        int corner = i < step || !above ? 0 : above[i - step];
        row[i] = (uint8_t)(row[i] + predict(type, left, up, corner));
    }
}

/* The passes: where each starts and how far apart its pixels are.  Adam7, or all at once. */
typedef struct { uint8_t x, y, across, down; } Pass;
static const Pass adam7[7] = { { 0, 0, 8, 8 }, { 4, 0, 8, 8 }, { 0, 4, 4, 8 }, { 2, 0, 4, 4 },
                               { 0, 2, 2, 4 }, { 1, 0, 2, 2 }, { 0, 1, 1, 2 } };
static const Pass whole = { 0, 0, 1, 1 };

static size_t pass_row(const Png *g, Pass a)               /* bytes, without the filter's */
{
    size_t w = ((size_t)g->w + a.across - 1 - a.x) / a.across;
    return (w * (size_t)g->channels * (size_t)g->depth + 7) / 8;
}

static size_t pass_rows(const Png *g, Pass a) { return ((size_t)g->h + a.down - 1 - a.y) / a.down; }

static bool pass_read(Png *g, Pass a, uint8_t *raw)
{
    size_t n = pass_row(g, a), step = zmax((size_t)(g->channels * g->depth) / 8, 1);
    uint8_t *above = NULL;
    for (size_t y = a.y; n && y < g->h; y += a.down) {
        int type = *raw++;
        if (type > 4) return bad(g, "row %zu, found filter %d, wanted 0 to 4", y, type);
        unfilter(type, raw, above, n, step);
        for (size_t x = a.x, i = 0; x < g->w; x += a.across, i++)
            pixel(g, raw, i, g->p->rgb + (y * g->w + x) * 3);
        above = raw;
        raw += n;
    }
    if (g->past >= 0)
        return bad(g, "pixel, found colour %d, wanted one of the palette's %d", g->past,
                   g->colours);
    return true;
}

static bool png_pixels(Png *g)
{
    int passes = g->interlaced ? 7 : 1;
    const Pass *pass = g->interlaced ? adam7 : &whole;
    size_t size[7] = {0}, total = 0, used;
    if (!picture_make(g->p, g->w, g->h, g->where, g->e)) return false;
    for (int i = 0; i < passes; i++) {
        size_t n = pass_row(g, pass[i]);
        bool fits = n == 0 || (size_mul(n + 1, pass_rows(g, pass[i]), &size[i]) &&
                               size_add(total, size[i], &total));
        if (!fits) return bad(g, "size, %u x %u is too large for this machine", g->w, g->h);
    }
    if (total / 1032 > g->size)                            /* deflate's best */
        return bad(g, "IDAT, found %zu bytes, which cannot hold the %zu of %u x %u pixels",
                   g->size, total, g->w, g->h);
    uint8_t *raw = malloc(total);
    if (!raw) return bad(g, "out of memory, wanted %zu bytes for the data", total);
    const char *wrong = inflate(g->data, g->size, raw, total, &used);
    bool ok = true;
    if (wrong) ok = bad(g, "IDAT, found %s (after %zu of %zu bytes)", wrong, used, total);
    else if (used < total) ok = bad(g, "IDAT, found %zu bytes, wanted %zu", used, total);
    uint8_t *from = raw;
    for (int i = 0; i < passes && ok; from += size[i++]) ok = pass_read(g, pass[i], from);
    free(raw);
    return ok;
}

bool png_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e)
{
    Png *g = calloc(1, sizeof *g);
    if (!g) return fail(e, "%s: out of memory, wanted %zu bytes", where, sizeof *g);
    g->p = p;
    g->where = where;
    g->e = e;
    g->past = -1;
    p->format = "PNG";
    bool ok = n >= 8 && !memcmp(bytes, signature, 8);
    if (!ok) fail(e, "%s: PNG signature, found it damaged (sent as text?)", where);
    ok = ok && png_chunks(g, bytes, n) && png_pixels(g);
    free(g->data);
    free(g);
    return ok;
}

/* ---- deflate --------------------------------------------------------------------------------- */

/* Blocks of dynamic codes over LZ77 with hash chains; each block leaves as an IDAT of its own.
 * BLOCK symbols of at most 48 bits and the codes' lengths fit ROOM. */
enum { BLOCK = 1 << 15, ROOM = BLOCK * 6 + 1024, CHAIN = 48, SHORTEST = 4, HASHES = 1 << 15 };

typedef struct {
    Output *o; Error *e;
    const uint8_t *in; size_t n;                   /* the whole input */
    uint32_t head[HASHES], before[WINDOW];         /* position + 1 of the last, of the one before */
    uint16_t symbol[BLOCK], back[BLOCK];           /* a literal, or 256 + length and a distance */
    int count;
    uint32_t literals[LITERALS], distances[DISTANCES];                     /* how often */
    uint8_t out[ROOM]; size_t used;
    uint64_t bits; int held;
} Deflate;

static void put32(uint8_t *p, uint32_t v)
{
    for (int k = 0; k < 4; k++) p[k] = (uint8_t)(v >> (24 - 8 * k));
}

static bool put_chunk(Output *o, const char *name, const uint8_t *d, size_t n, Error *e)
{
    uint8_t head[8];
    memcpy(head + 4, name, 4);
    uint8_t tail[4];
    put32(head, (uint32_t)n);
    put32(tail, crc32(crc32(0, head + 4, 4), d, n));
    return output_write(o, head, 8, e) && output_write(o, d, n, e) && output_write(o, tail, 4, e);
}

static void put(Deflate *z, uint32_t value, int n)
{
    z->bits |= (uint64_t)value << z->held;
    for (z->held += n; z->held >= 8; z->held -= 8, z->bits >>= 8)
        z->out[z->used++] = (uint8_t)z->bits;
}

/* Huffman: join the two lightest until one is left; where a code grows longer than limit,
 * flatten the weights and begin again.  At least two symbols get a code, so that every code is
 * complete. */
static void code_lengths(uint32_t *weight, int n, int limit, uint8_t *length)
{
    uint32_t node[2 * LITERALS];
    int parent[2 * LITERALS], most, some = 0;
    for (int i = 0; i < n; i++) some += weight[i] > 0;
    for (int i = 0; some < 2; i++) if (!weight[i]) weight[i] = 1, some++;
    do {
        int nodes = n;
        memset(parent, 0, sizeof parent);
        for (int i = 0; i < n; i++) node[i] = weight[i];
        for (int joined = 1; joined < some; joined++, nodes++) {
            int light[2] = { -1, -1 };
            for (int i = 0; i < nodes; i++) {
                if (!node[i] || parent[i]) continue;
                if (light[0] < 0 || node[i] < node[light[0]]) light[1] = light[0], light[0] = i;
                else if (light[1] < 0 || node[i] < node[light[1]]) light[1] = i;
            }
            node[nodes] = node[light[0]] + node[light[1]];
            parent[light[0]] = parent[light[1]] = nodes;
        }
        most = 0;
        for (int i = 0; i < n; i++) {
            int depth = 0;
            for (int k = i; weight[i] && parent[k]; k = parent[k]) depth++;
            length[i] = (uint8_t)depth;
            most = imax(most, depth);
            if (weight[i]) weight[i] = (weight[i] + 1) / 2;
        }
    } while (most > limit);
}

/* Canonical codes, first bit lowest. */
static void codes_of(const uint8_t *length, int n, uint16_t *code)
{
    uint32_t next = 0;
    for (int k = 1; k < 16; k++, next <<= 1)
        for (int i = 0; i < n; i++) {
            if (length[i] != k) continue;
            code[i] = 0;
            for (int b = 0; b < k; b++) code[i] |= (uint16_t)((next >> b & 1) << (k - 1 - b));
            next++;
        }
}

/* Lengths as runs: symbols 0..15, 16 repeats the last, 17 and 18 are zeros; extra: what follows. */
static int runs_of(const uint8_t *length, int n, uint8_t *symbol, uint8_t *extra)
{
    int runs = 0;
    for (int i = 0, run; i < n; i += run) {
        for (run = 1; i + run < n && length[i + run] == length[i] && run < 138; run++) {}
        bool repeats = length[i] && i > 0 && length[i - 1] == length[i];
        if (!length[i] && run >= 3) {
            symbol[runs] = run < 11 ? 17 : 18;
            extra[runs++] = (uint8_t)(run - (run < 11 ? 3 : 11));
        } else if (repeats && run >= 3) {
            run = imin(run, 6);
            symbol[runs] = 16;
            extra[runs++] = (uint8_t)(run - 3);
        } else {
            run = 1;
            symbol[runs] = length[i];
            extra[runs++] = 0;
        }
    }
    return runs;
}

static int length_code(int n)
{
    int k = 28;
    while (length_base[k] > n) k--;
    return k;
}

static int distance_code(int back)
{
    int k = DISTANCES - 1;
    while (distance_base[k] > back) k--;
    return k;
}

static void put_codes(Deflate *z, const uint8_t *length, int literals, int distances)
{
    static const uint8_t more[19] = { [16] = 2, [17] = 3, [18] = 7 };
    uint8_t symbol[LITERALS + DISTANCES], extra[LITERALS + DISTANCES], meta[19];
    uint16_t code[19];
    uint32_t weight[19] = {0};
    int runs = runs_of(length, literals + distances, symbol, extra), metas = 19;
    for (int i = 0; i < runs; i++) weight[symbol[i]]++;
    code_lengths(weight, 19, 7, meta);
    codes_of(meta, 19, code);
    while (metas > 4 && !meta[meta_order[metas - 1]]) metas--;
    put(z, (uint32_t)literals - 257, 5);
    put(z, (uint32_t)distances - 1, 5);
    put(z, (uint32_t)metas - 4, 4);
    for (int i = 0; i < metas; i++) put(z, meta[meta_order[i]], 3);
    for (int i = 0; i < runs; i++) {
        put(z, code[symbol[i]], meta[symbol[i]]);
        put(z, extra[i], more[symbol[i]]);
    }
}

static bool put_block(Deflate *z, bool last)
{
    uint8_t length[LITERALS + DISTANCES];
    uint16_t literal[LITERALS], distance[DISTANCES];
    int literals = 286, distances = DISTANCES;
    z->literals[256] = 1;
    code_lengths(z->literals, literals, 15, length);
    while (!length[literals - 1]) literals--;
    code_lengths(z->distances, distances, 15, length + literals);
    while (!length[literals + distances - 1]) distances--;
    codes_of(length, literals, literal);
    codes_of(length + literals, distances, distance);
    put(z, last, 1);
    put(z, 2, 2);
    put_codes(z, length, literals, distances);
    for (int i = 0; i < z->count; i++) {
        int symbol = z->symbol[i], n = symbol - 256, back = z->back[i];
        if (symbol < 256) {
            put(z, literal[symbol], length[symbol]);
            continue;
        }
        int l = length_code(n), d = distance_code(back);
        put(z, literal[257 + l], length[257 + l]);
        put(z, (uint32_t)(n - length_base[l]), length_bits[l]);
        put(z, distance[d], length[literals + d]);
        put(z, (uint32_t)(back - distance_base[d]), distance_bits[d]);
    }
    put(z, literal[256], length[256]);
    if (last) {
        uint32_t sum = adler32(z->in, z->n);
        put(z, 0, -z->held & 7);
        for (int k = 24; k >= 0; k -= 8) put(z, sum >> k & 255, 8);
    }
    bool written = put_chunk(z->o, "IDAT", z->out, z->used, z->e);
    z->used = 0;
    z->count = 0;
    memset(z->literals, 0, sizeof z->literals);
    memset(z->distances, 0, sizeof z->distances);
    return written;
}

static uint32_t hash_of(const uint8_t *p) { return (be32(p) * 2654435761u) >> 17; }

/* Remember position at. */
static void enter(Deflate *z, size_t at)
{
    if (z->n - at < SHORTEST) return;
    uint32_t hash = hash_of(z->in + at);
    z->before[at % WINDOW] = z->head[hash];
    z->head[hash] = (uint32_t)at + 1;
}

/* The longest earlier run of what stands at `at`: its length, or 0; *back is how far. */
static int match(const Deflate *z, size_t at, int *back)
{
    size_t most = zmin(z->n - at, LONGEST), best = SHORTEST - 1;
    if (most < SHORTEST) return 0;
    uint32_t found = z->head[hash_of(z->in + at)];
    for (int tries = 0; found && tries < CHAIN && best < most; tries++) {
        size_t from = found - 1, n = 0;
        if (at - from > WINDOW - LONGEST) break;
        while (n < most && z->in[from + n] == z->in[at + n]) n++;
        if (n > best) best = n, *back = (int)(at - from);
        uint32_t older = z->before[from % WINDOW];
        if (older >= found) break;                         /* its place was taken by a newer one */
        found = older;
    }
    return best < SHORTEST ? 0 : (int)best;
}

static bool put_symbol(Deflate *z, int symbol, int back)
{
    z->symbol[z->count] = (uint16_t)symbol;
    z->back[z->count++] = (uint16_t)back;
    if (symbol < 256) z->literals[symbol]++;
    else {
        z->literals[257 + length_code(symbol - 256)]++;
        z->distances[distance_code(back)]++;
    }
    return z->count < BLOCK || put_block(z, false);
}

/* Greedy, but a literal where the next position has a longer match. */
static bool deflate(Deflate *z)
{
    bool ok = true;
    int back = 0, next_back = 0, n = match(z, 0, &back);
    put(z, 0x78, 8);                                       /* window of 32 KiB */
    put(z, 0x9c, 8);
    for (size_t at = 0; at < z->n && ok; ) {
        enter(z, at);
        int next = match(z, at + 1, &next_back);
        if (n < SHORTEST || next > n) {
            ok = put_symbol(z, z->in[at++], 0);
            n = next;
            back = next_back;
            continue;
        }
        ok = put_symbol(z, 256 + n, back);
        for (int k = 1; k < n; k++) enter(z, at + (size_t)k);
        at += (size_t)n;
        n = at < z->n ? match(z, at, &back) : 0;
    }
    return ok && put_block(z, true);
}

/* ---- PNG out --------------------------------------------------------------------------------- */

/* row into out [1 + n], by the filter whose bytes, as signed, have the least sum of sizes. */
static void filter_row(uint8_t *out, const uint8_t *row, const uint8_t *above, size_t n,
                       uint8_t *trial)
{
    uint64_t least = UINT64_MAX;
    for (int type = 0; type < 5; type++) {
        uint64_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            int left = i < 3 ? 0 : row[i - 3], up = above ? above[i] : 0;
            int corner = i < 3 || !above ? 0 : above[i - 3];
            trial[i] = (uint8_t)(row[i] - predict(type, left, up, corner));
            sum += trial[i] < 128 ? trial[i] : 256u - trial[i];
        }
        if (sum >= least) continue;
        least = sum;
        out[0] = (uint8_t)type;
        memcpy(out + 1, trial, n);
    }
}

static bool put_pixels(Output *o, int w, int h, const uint8_t *rgb, Error *e)
{
    size_t n = (size_t)w * 3, total;
    /* unreached: 4 GB of pixels */
    if (!size_mul(n + 1, (size_t)h, &total) || total >= UINT32_MAX)
        return fail(e, "PNG: size, found %d x %d, which is too large", w, h);
    Deflate *z = calloc(1, sizeof *z);
    uint8_t *raw = malloc(total), *trial = malloc(n);
    bool ok = z && raw && trial;
    if (!ok) fail(e, "PNG: out of memory, wanted %zu bytes for %d x %d", total + sizeof *z, w, h);
    for (size_t y = 0; ok && y < (size_t)h; y++)
        filter_row(raw + y * (n + 1), rgb + y * n, y ? rgb + (y - 1) * n : NULL, n, trial);
    if (ok) {
        z->o = o;
        z->e = e;
        z->in = raw;
        z->n = total;
        ok = deflate(z);
    }
    free(trial);
    free(raw);
    free(z);
    return ok;
}

/* The UTF-8 s as Latin-1 into out: its length, or SIZE_MAX where a character has no place there. */
static size_t latin1_of(const char *s, uint8_t *out)
{
    size_t n = 0;
    for (; *s; s++) {
        unsigned c = (uint8_t)*s;
        if ((c == 0xc2 || c == 0xc3) && ((uint8_t)s[1] & 0xc0) == 0x80)
            c = (c & 3) << 6 | ((uint8_t)*++s & 0x3f);
        else if (c >= 0x80) return SIZE_MAX;
        if ((c < 0x20 && c != '\n') || (c >= 0x7f && c < 0xa0)) return SIZE_MAX;
        out[n++] = (uint8_t)c;
    }
    return n;
}

/* tEXt where the value is Latin-1, or no UTF-8 at all; else iTXt. */
static bool put_text(Output *o, const char *key, const char *value, Error *e)
{
    size_t size = strlen(value), key_room = strlen(key) + 1;
    uint8_t *d = malloc(key_room + size + 5);
    if (!d) return fail(e, "PNG: out of memory, wanted %zu bytes for the text %s", key_room + size,
                        key);
    size_t n = latin1_of(key, d);
    bool ok = n >= 1 && n <= 79 && !memchr(d, '\n', n) && d[0] != ' ' && d[n - 1] != ' ';
    if (!ok) fail(e, "PNG: key of a text, found '%s', wanted 1 to 79 characters of Latin-1", key);
    if (ok) {
        const char *name = "tEXt";
        d[n++] = 0;
        size_t plain = latin1_of(value, d + n);
        if (plain == SIZE_MAX && utf8_valid(value, size)) {
            name = "iTXt";
            memset(d + n, 0, 4);                   /* not packed; no language, no other key */
            n += 4;
        }
        if (plain == SIZE_MAX) memcpy(d + n, value, size);
        ok = put_chunk(o, name, d, n + (plain == SIZE_MAX ? size : plain), e);
    }
    free(d);
    return ok;
}

bool png_write(Output *o, int w, int h, const uint8_t *rgb, const char *const *texts, Error *e)
{
    uint8_t head[13] = { [8] = 8, [9] = COLOUR };
    put32(head, (uint32_t)w);
    put32(head + 4, (uint32_t)h);
    if (!output_write(o, signature, 8, e) || !put_chunk(o, "IHDR", head, 13, e)) return false;
    for (; texts && texts[0]; texts += 2)
        if (!put_text(o, texts[0], texts[1], e)) return false;
    return put_pixels(o, w, h, rgb, e) && put_chunk(o, "IEND", head, 0, e);
}
