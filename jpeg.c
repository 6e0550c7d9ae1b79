/* jpeg.c - JPEG in: baseline, extended sequential and progressive Huffman at 8 bits (ITU-T
 * T.81), to the bytes that libjpeg-turbo gives by default: its islow inverse DCT, its triangle
 * upsampling where a side is halved and replication elsewhere, its 16-bit fixed-point colours.
 * CMYK as Pillow's convert("RGB").  What libjpeg only warns of - data missing, codes that stand
 * for nothing - is an error here. */
#include "picture.h"
#include <stdlib.h>

/* A Huffman code: by its first QUICK bits where it is that short, else canonically. */
enum { QUICK = 9 };
typedef struct {
    bool given;
    uint16_t quick[1 << QUICK];                    /* length << 8 | symbol, 0: longer */
    int32_t top[17];                               /* the largest code of each length, or -1 */
    int32_t offset[17];                            /* code + offset is the index of its symbol */
    uint8_t symbol[256]; int symbols;
} Code;

/* cols and rows count the blocks that hold pixels; the plane and the coefficients lie in wide x
 * high blocks, whole MCUs.  state[k]: the lowest bit of coefficient k that is known, or -1. */
typedef struct {
    int id, h, v, table;
    int cols, rows, wide, high;
    int w, n;                                      /* samples that hold pixels */
    uint8_t *plane; int16_t *coef;
    uint16_t quant[64]; bool scanned;
    int dc, ac, last;                              /* tables of the scan, prediction */
    int8_t state[64];
} Part;

typedef struct Jpeg {
    Picture *p; const char *where; Error *e;
    const uint8_t *at; size_t n, next;
    uint64_t bits; int held;                       /* read ahead, first bit highest */
    const char *wrong;                             /* the first thing that is, in a scan */
    uint16_t quant[4][64]; bool quantised[4];
    Code dc[4], ac[4];
    Part part[4]; int parts, h, v;                 /* h, v: the largest factors */
    int w, height, mcu_cols, mcu_rows;
    bool progressive, jfif, adobe; int transform;
    int interval, scans;
    int first, to, high, low, run;                 /* the scan: band, bits, blocks left to skip */
    Part *in[4]; int ins;
} Jpeg;

static const uint8_t zigzag[64] = {
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48,
    41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22,
    15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63 };

static int be16(const uint8_t *p) { return p[0] << 8 | p[1]; }

/* fail with the name of the file in front. */
PRINTF(2, 3) static bool bad(const Jpeg *j, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(j->e, "%s: %s", j->where, text);
}

/* ---- bits and codes -------------------------------------------------------------------------- */

/* Read ahead, up to a marker; FF 00 stands for FF. */
static void refill(Jpeg *j)
{
    while (j->held <= 56 && j->next < j->n) {
        size_t after = j->next + 1;
        if (j->at[j->next] == 0xff) {
            while (after < j->n && j->at[after] == 0xff) after++;
            if (after == j->n || j->at[after++]) return;
        }
        j->bits |= (uint64_t)j->at[j->next] << (56 - j->held);
        j->held += 8;
        j->next = after;
    }
}

static void drop(Jpeg *j, int n)
{
    if (n > j->held) {
        if (!j->wrong) j->wrong = "the data ends early";
        n = j->held;
    }
    j->bits <<= n;
    j->held -= n;
}

static int take(Jpeg *j, int n)                    /* n <= 16 */
{
    if (n == 0) return 0;
    if (j->held < n) refill(j);
    int value = (int)(j->bits >> (64 - n));
    drop(j, n);
    return value;
}

/* A number of n bits whose sign is its first: T.81 F.12. */
static int take_signed(Jpeg *j, int n)
{
    int value = take(j, n);
    return n && value < 1 << (n - 1) ? value - (1 << n) + 1 : value;
}

static bool code_make(Code *c, const uint8_t *count, const uint8_t *symbol, int symbols)
{
    int code = 0, index = 0;
    memset(c, 0, sizeof *c);
    memcpy(c->symbol, symbol, (size_t)symbols);
    for (int k = 1; k <= 16; k++, code <<= 1) {
        c->offset[k] = index - code;
        c->top[k] = count[k - 1] ? code + count[k - 1] - 1 : -1;
        for (int i = 0; i < count[k - 1]; i++, code++, index++) {
            if (code >= (1 << k) - 1) return false;        /* all ones is no code */
            for (int q = 0; k <= QUICK && q < 1 << (QUICK - k); q++)
                c->quick[code << (QUICK - k) | q] = (uint16_t)(k << 8 | symbol[index]);
        }
    }
    c->symbols = symbols;
    return c->given = true;
}

static int decode(Jpeg *j, const Code *c)
{
    if (j->held < 16) refill(j);
    int entry = c->quick[j->bits >> (64 - QUICK)];
    if (entry) {
        drop(j, entry >> 8);
        return entry & 255;
    }
    for (int k = QUICK + 1; k <= 16; k++) {
        int32_t code = (int32_t)(j->bits >> (64 - k));
        if (code > c->top[k]) continue;
        drop(j, k);
        return c->symbol[code + c->offset[k]];
    }
    if (!j->wrong)
        j->wrong = j->held < 16 ? "the data ends early" : "a code that stands for nothing";
    return 0;
}

/* ---- one block of a scan, T.81 F.2.2 and G.2 ------------------------------------------------- */

typedef void Block(Jpeg *j, Part *c, int16_t *b);

static void block_dc(Jpeg *j, Part *c, int16_t *b) /* also the DC of a whole block: low is 0 */
{
    int n = decode(j, &j->dc[c->dc]);
    c->last = (int16_t)(c->last + take_signed(j, n));
    b[0] = (int16_t)(c->last * (1 << j->low));
}

static void block_dc_bit(Jpeg *j, Part *c, int16_t *b)
{
    (void)c;
    b[0] = (int16_t)(b[0] | take(j, 1) << j->low);
}

static void block_ac(Jpeg *j, Part *c, int16_t *b)
{
    if (j->run > 0) {
        j->run--;
        return;
    }
    for (int k = imax(j->first, 1); k <= j->to; k++) {
        int symbol = decode(j, &j->ac[c->ac]), zeros = symbol >> 4, n = symbol & 15;
        if (n == 0 && zeros < 15) {
            if (j->progressive) j->run = (1 << zeros) + take(j, zeros) - 1;
            return;
        }
        k += zeros;
        if (n == 0) continue;                              /* sixteen zeros */
        if (k > j->to) {
            if (!j->wrong) j->wrong = "a coefficient beyond its block";
            return;
        }
        b[zigzag[k]] = (int16_t)(take_signed(j, n) * (1 << j->low));
    }
}

static void block_whole(Jpeg *j, Part *c, int16_t *b)
{
    block_dc(j, c, b);
    block_ac(j, c, b);
}

/* One more bit for what is not zero. */
static void correct(Jpeg *j, int16_t *v)
{
    if (take(j, 1)) *v = (int16_t)(*v + (*v < 0 ? -1 : 1) * (1 << j->low));
}

static void block_ac_bit(Jpeg *j, Part *c, int16_t *b)
{
    int k = j->first;
    while (j->run == 0 && k <= j->to && !j->wrong) {
        int symbol = decode(j, &j->ac[c->ac]), zeros = symbol >> 4, n = symbol & 15, value = 0;
        if (n == 0 && zeros < 15) {
            j->run = (1 << zeros) + take(j, zeros);
            break;
        }
        if (n > 1 && !j->wrong) j->wrong = "a new coefficient of more than one bit";
        if (n) value = (take(j, 1) ? 1 : -1) * (1 << j->low);
        for (; k <= j->to; k++) {                  /* pass over so many zeros, and all others */
            if (b[zigzag[k]]) correct(j, &b[zigzag[k]]);
            else if (zeros-- == 0) break;
        }
        if (k <= j->to) b[zigzag[k]] = (int16_t)value;
        else if (n && !j->wrong) j->wrong = "a coefficient beyond its block";
        k++;
    }
    if (j->run == 0) return;
    for (; k <= j->to; k++) if (b[zigzag[k]]) correct(j, &b[zigzag[k]]);
    j->run--;
}

/* ---- inverse DCT ----------------------------------------------------------------------------- */

/* Eight points, step apart, of libjpeg's "slow" transform: Loeffler, Ligtenberg and Moschytz with
 * 13-bit constants, here multiplied out.  They are whole numbers, so the sums are the same. */
static void idct_8(const int32_t *x, int step, int32_t *out)
{
    int32_t x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step];
    int32_t x4 = x[4 * step], x5 = x[5 * step], x6 = x[6 * step], x7 = x[7 * step];
    int32_t a = (x0 + x4) * 8192, b = (x0 - x4) * 8192;
    int32_t c = x2 * 10703 + x6 * 4433, d = x2 * 4433 - x6 * 10704;
    int32_t e = x1 * 11363 + x3 * 9633 + x5 * 6437 + x7 * 2260;
    int32_t f = x1 * 9633 - x3 * 2259 - x5 * 11362 - x7 * 6436;
    int32_t g = x1 * 6437 - x3 * 11362 + x5 * 2261 + x7 * 9633;
    int32_t h = x1 * 2260 - x3 * 6436 + x5 * 9633 - x7 * 11363;
    out[0] = a + c + e;
    out[1] = b + d + f;
    out[2] = b - d + g;
    out[3] = a - c + h;
    out[4] = a - c - h;
    out[5] = b - d - g;
    out[6] = b + d - f;
    out[7] = a + c - e;
}

static int32_t clamp(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* Coefficients b times quant to 8 x 8 samples, rows stride apart.  Columns first, to 2 more bits.
 * Products keep 16 bits and columns saturate there, as in libjpeg-turbo's vectors: no sum leaves
 * 32.  A file whose samples are samples comes nowhere near. */
static void idct(const int16_t *b, const uint16_t *quant, uint8_t *out, size_t stride)
{
    int32_t in[64], line[8], middle[64];
    for (int i = 0; i < 64; i++) in[i] = (int16_t)(b[i] * (int32_t)quant[i]);
    for (int x = 0; x < 8; x++) {
        idct_8(in + x, 8, line);
        for (int y = 0; y < 8; y++)
            middle[8 * y + x] = clamp((line[y] + 1024) >> 11, -32768, 32767);
    }
    for (int y = 0; y < 8; y++, out += stride) {
        idct_8(middle + 8 * y, 1, line);
        for (int x = 0; x < 8; x++)
            out[x] = (uint8_t)(clamp((line[x] + (1 << 17)) >> 18, -128, 127) + 128);
    }
}

/* ---- scans ----------------------------------------------------------------------------------- */

/* Between intervals: the next marker must be RST number k. */
static bool restart(Jpeg *j, int k)
{
    j->bits = 0;
    j->held = 0;
    j->run = 0;
    for (int i = 0; i < j->ins; i++) j->in[i]->last = 0;
    while (j->next + 1 < j->n) {
        int marker = j->at[j->next] == 0xff ? j->at[j->next + 1] : 0;
        if (marker == 0xd0 + (k & 7)) {
            j->next += 2;
            return true;
        }
        if (marker && marker != 0xff)
            return bad(j, "scan at byte %zu, found marker %02x, wanted restart %d", j->next,
                       marker, k & 7);
        j->next++;
    }
    return bad(j, "scan, found the end of the file, wanted restart %d", k & 7);
}

static void scan_block(Jpeg *j, Part *c, Block *block, int x, int y)
{
    size_t at = (size_t)y * (size_t)c->wide + (size_t)x;
    if (j->progressive) {
        block(j, c, c->coef + 64 * at);
        return;
    }
    int16_t b[64] = {0};
    size_t stride = (size_t)c->wide * 8;
    block(j, c, b);
    idct(b, c->quant, c->plane + (size_t)y * 8 * stride + (size_t)x * 8, stride);
}

static bool scan_data(Jpeg *j, Block *block)
{
    bool single = j->ins == 1;
    int cols = single ? j->in[0]->cols : j->mcu_cols, rows = single ? j->in[0]->rows : j->mcu_rows;
    j->bits = 0;
    j->held = 0;
    j->run = 0;
    int left = j->interval, restarts = 0;
    for (int y = 0; y < rows; y++)
        for (int x = 0; x < cols; x++) {
            if (j->interval && left-- == 0) {
                if (!restart(j, restarts++)) return false;
                left = j->interval - 1;
            }
            for (int i = 0; i < j->ins; i++) {
                Part *c = j->in[i];
                int across = single ? 1 : c->h, down = single ? 1 : c->v;
                for (int k = 0; k < across * down; k++)
                    scan_block(j, c, block, x * across + k % across, y * down + k / across);
            }
            if (j->wrong)
                return bad(j, "scan %d, found %s (MCU %d of %d x %d)", j->scans, j->wrong,
                           y * cols + x, cols, rows);
        }
    return true;
}

/* A progressive scan must bring what is not known yet; see the states of its parts forward. */
static bool scan_progress(Jpeg *j)
{
    bool dc = j->first == 0;
    if (dc ? j->to != 0 : j->to < j->first || j->to > 63 || j->ins != 1)
        return bad(j, "scan %d, found coefficients %d to %d of %d components", j->scans, j->first,
                   j->to, j->ins);
    if (j->low > 13 || (j->high && j->high != j->low + 1))
        return bad(j, "scan %d, found bits %d to %d", j->scans, j->high, j->low);
    for (int i = 0; i < j->ins; i++)
        for (int k = j->first; k <= j->to; k++) {
            int8_t *state = &j->in[i]->state[k];
            if (j->high ? *state != j->high : *state >= 0)
                return bad(j, "scan %d, found bit %d of coefficient %d out of turn", j->scans,
                           j->low, k);
            *state = (int8_t)j->low;
        }
    return true;
}

/* The tables that the scan reads with; quantisation is kept at a part's first scan. */
static bool scan_tables(Jpeg *j)
{
    bool dc = j->first == 0 && !j->high, ac = !j->progressive || j->first > 0;
    for (int i = 0; i < j->ins; i++) {
        Part *c = j->in[i];
        c->last = 0;
        if (!c->scanned && !j->quantised[c->table])
            return bad(j, "scan %d, found no quantisation table %d", j->scans, c->table);
        if (!c->scanned) memcpy(c->quant, j->quant[c->table], sizeof c->quant);
        c->scanned = true;
        if ((dc && !j->dc[c->dc].given) || (ac && !j->ac[c->ac].given))
            return bad(j, "scan %d, found no Huffman tables %d and %d", j->scans, c->dc, c->ac);
        for (int k = 0; dc && k < j->dc[c->dc].symbols; k++)
            if (j->dc[c->dc].symbol[k] > 15)
                return bad(j, "scan %d, found a DC difference of %d bits", j->scans,
                           j->dc[c->dc].symbol[k]);
    }
    return true;
}

static bool scan_parts(Jpeg *j, const uint8_t *d, int n)
{
    int blocks = 0;
    j->ins = n >= 1 ? d[0] : 0;
    if (j->ins < 1 || j->ins > 4 || n != 4 + 2 * j->ins)
        return bad(j, "SOS, found %d bytes for %d components", n, j->ins);
    for (int i = 0; i < j->ins; i++) {
        int id = d[1 + 2 * i], tables = d[2 + 2 * i], k = 0;
        while (k < j->parts && j->part[k].id != id) k++;
        bool known = k < j->parts;
        for (int m = 0; m < i && known; m++) known = j->in[m] != &j->part[k];
        if (!known || tables >> 4 > 3 || (tables & 15) > 3)
            return bad(j, "SOS, found component %d with tables %d and %d", id, tables >> 4,
                       tables & 15);
        j->in[i] = &j->part[k];
        j->in[i]->dc = tables >> 4;
        j->in[i]->ac = tables & 15;
        blocks += j->in[i]->h * j->in[i]->v;
    }
    if (j->ins > 1 && blocks > 10)
        return bad(j, "SOS, found %d blocks an MCU, wanted at most 10", blocks);
    j->first = d[n - 3];
    j->to = d[n - 2];
    j->high = d[n - 1] >> 4;
    j->low = d[n - 1] & 15;
    return true;
}

static bool read_scan(Jpeg *j, const uint8_t *d, int n)
{
    enum { SCANS = 100 };                          /* writers use 3 to 20; a small file of many
                                                      would work for minutes */
    if (!j->parts) return bad(j, "SOS, found before a frame header");
    if (++j->scans > SCANS) return bad(j, "scans, found more than %d", SCANS);
    if (!scan_parts(j, d, n)) return false;
    if (!j->progressive) {                                 /* some writers leave zeros here */
        j->first = 0;
        j->to = 63;
        j->high = j->low = 0;
    } else if (!scan_progress(j)) return false;
    if (!scan_tables(j)) return false;
    Block *const progressive[2][2] = { { block_ac, block_ac_bit }, { block_dc, block_dc_bit } };
    return scan_data(j, j->progressive ? progressive[j->first == 0][j->high > 0] : block_whole);
}

/* ---- headers --------------------------------------------------------------------------------- */

static int divide_up(int a, int b) { return (a + b - 1) / b; }

/* The sizes of a part, and memory for its samples and coefficients. */
static bool part_make(Jpeg *j, Part *c)
{
    c->w = divide_up(j->w * c->h, j->h);
    c->n = divide_up(j->height * c->v, j->v);
    c->cols = divide_up(c->w, 8);
    c->rows = divide_up(c->n, 8);
    c->wide = j->mcu_cols * c->h;
    c->high = j->mcu_rows * c->v;
    size_t samples = (size_t)c->wide * (size_t)c->high * 64;
    memset(c->state, -1, sizeof c->state);
    c->plane = malloc(samples);
    if (j->progressive) c->coef = calloc(samples, sizeof *c->coef);
    if (!c->plane || (j->progressive && !c->coef))
        return bad(j, "out of memory, wanted %zu bytes for a component",
                   samples * (j->progressive ? 3 : 1));
    return true;
}

static bool frame_parts(Jpeg *j, const uint8_t *d)
{
    j->h = j->v = 1;
    for (int i = 0; i < j->parts; i++, d += 3) {
        Part *c = &j->part[i];
        *c = (Part){ .id = d[0], .h = d[1] >> 4, .v = d[1] & 15, .table = d[2] };
        if (c->h < 1 || c->h > 4 || c->v < 1 || c->v > 4 || c->table > 3)
            return bad(j, "component %d, found sampling %d x %d and quantisation table %d", c->id,
                       c->h, c->v, c->table);
        j->h = imax(j->h, c->h);
        j->v = imax(j->v, c->v);
    }
    for (int i = 0; i < j->parts; i++) {
        const Part *c = &j->part[i];
        if (j->h % c->h || j->v % c->v)
            return bad(j, "component %d, found sampling %d x %d, wanted a divisor of %d x %d",
                       c->id, c->h, c->v, j->h, j->v);
    }
    return true;
}

static bool read_frame(Jpeg *j, const uint8_t *d, int n)
{
    if (j->parts) return bad(j, "SOF, found a second frame header");
    if (n < 6 || n != 6 + 3 * d[5]) return bad(j, "SOF, found %d bytes", n);
    if (d[0] != 8) return bad(j, "SOF, found %d bits a sample, wanted 8", d[0]);
    if (d[5] != 1 && d[5] != 3 && d[5] != 4)
        return bad(j, "SOF, found %d components, wanted 1, 3 or 4", d[5]);
    j->height = be16(d + 1);
    j->w = be16(d + 3);
    if (j->height == 0) return bad(j, "SOF, found height 0 (a DNL marker is not read)");
    j->parts = d[5];
    if (!frame_parts(j, d + 6)) return false;
    j->mcu_cols = divide_up(j->w, 8 * j->h);
    j->mcu_rows = divide_up(j->height, 8 * j->v);
    uint64_t blocks = (uint64_t)j->mcu_cols * (uint64_t)j->mcu_rows;   /* of one bit at least */
    if (blocks / 8 > j->n)
        return bad(j, "found %zu bytes, which cannot hold %d x %d pixels", j->n, j->w, j->height);
    if (!picture_make(j->p, (uint64_t)j->w, (uint64_t)j->height, j->where, j->e)) return false;
    for (int i = 0; i < j->parts; i++) if (!part_make(j, &j->part[i])) return false;
    return true;
}

static bool read_codes(Jpeg *j, const uint8_t *d, int n)
{
    while (n > 0) {
        int symbols = 0;
        for (int k = 1; n >= 17 && k <= 16; k++) symbols += d[k];
        if (n < 17 || symbols > 256 || n < 17 + symbols)
            return bad(j, "DHT, found %d bytes for %d symbols", n, symbols);
        if ((d[0] & 15) > 3 || d[0] >> 4 > 1)
            return bad(j, "DHT, found table %d of class %d, wanted 0 to 3 of 0 or 1", d[0] & 15,
                       d[0] >> 4);
        if (!code_make((d[0] >> 4 ? j->ac : j->dc) + (d[0] & 15), d + 1, d + 17, symbols))
            return bad(j, "DHT, found an oversubscribed Huffman code");
        d += 17 + symbols;
        n -= 17 + symbols;
    }
    return true;
}

static bool read_quantisation(Jpeg *j, const uint8_t *d, int n)
{
    while (n > 0) {
        int table = d[0] & 15, bytes = d[0] >> 4 ? 2 : 1;
        if (table > 3 || d[0] >> 4 > 1 || n < 1 + 64 * bytes)
            return bad(j, "DQT, found %d bytes for table %d", n, table);
        for (int k = 0; k < 64; k++)
            j->quant[table][zigzag[k]] = (uint16_t)(bytes == 2 ? be16(d + 1 + 2 * k) : d[1 + k]);
        j->quantised[table] = true;
        d += 1 + 64 * bytes;
        n -= 1 + 64 * bytes;
    }
    return true;
}

/* Frames that are not read, by name. */
static const char *frame_name(int marker)
{
    switch (marker) {
    case 0xc3: return "lossless JPEG";
    case 0xc5: case 0xc6: case 0xc7: case 0xde: return "hierarchical JPEG";
    case 0xc9: case 0xca: return "arithmetic coding";
    case 0xcb: return "lossless JPEG with arithmetic coding";
    case 0xcd: case 0xce: case 0xcf: return "hierarchical JPEG with arithmetic coding";
    case 0xf7: return "JPEG-LS";
    default: return NULL;
    }
}

/* The segment behind a marker: d [n]. */
static bool read_segment(Jpeg *j, int marker, const uint8_t *d, int n)
{
    const char *other = frame_name(marker);
    if (other) return bad(j, "found %s, wanted baseline or progressive Huffman JPEG", other);
    switch (marker) {
    case 0xc0: case 0xc1: case 0xc2:
        j->progressive = marker == 0xc2;
        return read_frame(j, d, n);
    case 0xc4: return read_codes(j, d, n);
    case 0xdb: return read_quantisation(j, d, n);
    case 0xda: return read_scan(j, d, n);
    case 0xdd:
        if (n != 2) return bad(j, "DRI, found %d bytes, wanted 2", n);
        j->interval = be16(d);
        break;
    case 0xe0: j->jfif = j->jfif || (n >= 14 && !memcmp(d, "JFIF", 5)); break;
    case 0xee:
        if (n < 12 || memcmp(d, "Adobe", 5)) break;
        j->adobe = true;
        j->transform = d[11];
        break;
    case 0xfe: return picture_text(j->p, "comment", 7, d, (size_t)n, false, j->where, j->e);
    }
    return true;
}

/* Everything up to EOI.  What stands between segments without being a marker is passed over. */
static bool read_markers(Jpeg *j)
{
    for (;;) {
        while (j->next + 1 < j->n && (j->at[j->next] != 0xff || j->at[j->next + 1] == 0 ||
                                      j->at[j->next + 1] == 0xff)) j->next++;
        if (j->n - j->next < 2)
            return bad(j, "found the end of the file at byte %zu, wanted the picture up to EOI",
                       j->n);
        size_t from = j->next;
        int marker = j->at[from + 1];
        j->next += 2;
        if (marker == 0xd9) return true;
        if ((marker >= 0xd0 && marker <= 0xd7) || marker == 1) continue;         /* restarts, TEM */
        if (marker == 0xd8) return bad(j, "found a second SOI at byte %zu", from);
        int size = j->n - j->next >= 2 ? be16(j->at + j->next) : 0;
        if (size < 2 || (size_t)size > j->n - j->next)
            return bad(j, "marker %02x at byte %zu, found %zu bytes, wanted %d", marker, from,
                       j->n - j->next, size);
        const uint8_t *d = j->at + j->next + 2;
        j->next += (size_t)size;
        if (!read_segment(j, marker, d, size - 2)) return false;
    }
}

/* ---- samples to pixels ----------------------------------------------------------------------- */

/* Twice as wide, by a triangle: 3/4 of the nearer sample and 1/4 of the next.  in [n] is scaled
 * by four when it comes from two rows; the rounding alternates, so that it has no drift. */
static void widen(uint8_t *out, const int *in, int n, int shift)
{
    int one = shift == 4 ? 8 : 1, other = shift == 4 ? 7 : 2;
    for (int x = 0; x < n; x++) {
        out[2 * x] = (uint8_t)((in[x] * 3 + in[imax(x - 1, 0)] + one) >> shift);
        out[2 * x + 1] = (uint8_t)((in[x] * 3 + in[imin(x + 1, n - 1)] + other) >> shift);
    }
}

/* Row y of the picture from a part, full width (or a little more) in out; sums [w] is scratch. */
static const uint8_t *full_row(const Jpeg *j, const Part *c, int y, uint8_t *out, int *sums)
{
    size_t stride = (size_t)c->wide * 8;
    int across = j->h / c->h, down = j->v / c->v, own = y / down;
    const uint8_t *near = c->plane + (size_t)own * stride;
    if (across == 1 && down == 1) return near;
    int next = imin(imax(own + (y % 2 ? 1 : -1), 0), c->n - 1);        /* where down is 2 */
    const uint8_t *far = c->plane + (size_t)next * stride;
    if (across == 2 && down == 1 && c->w > 2) {
        for (int x = 0; x < c->w; x++) sums[x] = near[x];
        widen(out, sums, c->w, 2);
    } else if (across == 1 && down == 2) {
        int half = y % 2 ? 2 : 1;
        for (int x = 0; x < c->w; x++) out[x] = (uint8_t)((near[x] * 3 + far[x] + half) >> 2);
    } else if (across == 2 && down == 2 && c->w > 2) {
        for (int x = 0; x < c->w; x++) sums[x] = near[x] * 3 + far[x];
        widen(out, sums, c->w, 4);
    } else
        for (int x = 0; x < j->w; x++) out[x] = near[x / across];
    return out;
}

static uint8_t byte(int v) { return (uint8_t)clamp(v, 0, 255); }

/* CCIR 601, 16 fractional bits. */
static void ycc_to_rgb(int y, int cb, int cr, uint8_t *out)
{
    cb -= 128;
    cr -= 128;
    out[0] = byte(y + ((91881 * cr + 32768) >> 16));
    out[1] = byte(y + ((-22554 * cb - 46802 * cr + 32768) >> 16));
    out[2] = byte(y + ((116130 * cb + 32768) >> 16));
}

/* Which colours the parts are: libjpeg's guesses. */
static bool is_ycc(const Jpeg *j)
{
    if (j->parts == 4) return j->adobe && j->transform != 0;
    if (j->jfif) return true;
    if (j->adobe) return j->transform != 0;
    return !(j->part[0].id == 'R' && j->part[1].id == 'G' && j->part[2].id == 'B');
}

/* One row.  Four parts are CMYK stored inverted, as Adobe does; of YCCK the colours turn into
 * inverted CMY first.  Pillow's integers: R = K - K (255 - C) / 255, with K and C as stored. */
static void colours(const Jpeg *j, const uint8_t *const *in, bool ycc, uint8_t *out)
{
    for (int x = 0; x < j->w; x++, out += 3) {
        if (j->parts == 1) {
            out[0] = out[1] = out[2] = in[0][x];
            continue;
        }
        if (ycc) ycc_to_rgb(in[0][x], in[1][x], in[2][x], out);
        else for (int c = 0; c < 3; c++) out[c] = in[c][x];
        for (int c = 0; c < 3 && j->parts == 4; c++) {
            int ink = ycc ? out[c] : 255 - out[c], key = in[3][x], t = ink * key + 128;
            out[c] = byte(key - ((t + (t >> 8)) >> 8));
        }
    }
}

static bool pixels(Jpeg *j)
{
    for (int i = 0; i < j->parts && j->progressive; i++) {
        Part *c = &j->part[i];
        size_t stride = (size_t)c->wide * 8;
        for (int y = 0; y < c->rows; y++)
            for (int x = 0; x < c->cols; x++)
                idct(c->coef + 64 * ((size_t)y * (size_t)c->wide + (size_t)x), c->quant,
                     c->plane + (size_t)y * 8 * stride + (size_t)x * 8, stride);
    }
    size_t room = (size_t)j->w + 8;
    uint8_t *rows = malloc(4 * room);
    int *sums = malloc(room * sizeof *sums);
    bool ok = rows && sums, ycc = j->parts > 1 && is_ycc(j);
    for (int y = 0; ok && y < j->height; y++) {
        const uint8_t *in[4] = {0};
        for (int i = 0; i < j->parts; i++)
            in[i] = full_row(j, &j->part[i], y, rows + (size_t)i * room, sums);
        colours(j, in, ycc, j->p->rgb + (size_t)y * (size_t)j->w * 3);
    }
    free(rows);
    free(sums);
    return ok || bad(j, "out of memory, wanted %zu bytes for rows", 8 * room);
}

/* Every part must have come whole.  Of a progressive one the coefficients that libjpeg would
 * guess when they are missing, 0 to 9, must be known to the last bit. */
static bool complete(const Jpeg *j)
{
    if (!j->parts) return bad(j, "found no frame header before the end");
    for (int i = 0; i < j->parts; i++) {
        const Part *c = &j->part[i];
        if (!c->scanned) return bad(j, "component %d, found no scan of it", c->id);
        for (int k = 0; j->progressive && k < 10; k++)
            if (c->state[k] != 0)
                return bad(j, "component %d, the scans end before coefficient %d is complete",
                           c->id, k);
    }
    return true;
}

bool jpeg_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e)
{
    Jpeg *j = calloc(1, sizeof *j);
    if (!j) return fail(e, "%s: out of memory, wanted %zu bytes", where, sizeof *j);
    j->p = p;
    j->where = where;
    j->e = e;
    j->at = bytes;
    j->n = n;
    j->next = 2;
    p->format = "JPEG";
    bool ok = read_markers(j) && complete(j) && pixels(j);
    for (int i = 0; i < 4; i++) {
        free(j->part[i].plane);
        free(j->part[i].coef);
    }
    free(j);
    return ok;
}
