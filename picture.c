/* picture.c - pictures: which format, PNM in and out, texts, resampling, masks. */
#include "picture.h"
#include <math.h>
#include <stdlib.h>

/* ---- pictures -------------------------------------------------------------------------------- */

enum { SIDE_LIMIT = 32768, PIXEL_LIMIT = 1 << 28, TEXT_COUNT_LIMIT = 1024 };
#define FILE_LIMIT ((size_t)1 << 30)

bool picture_make(Picture *p, uint64_t w, uint64_t h, const char *where, Error *e)
{
    if (w < 1 || h < 1 || w > SIDE_LIMIT || h > SIDE_LIMIT || w * h > PIXEL_LIMIT)
        return fail(e, "%s: size, found %llu x %llu, wanted 1 to %d a side and at most %d pixels",
                    where, (unsigned long long)w, (unsigned long long)h, SIDE_LIMIT, PIXEL_LIMIT);
    size_t bytes = (size_t)(w * h) * 3;
    p->w = (int)w;
    p->h = (int)h;
    p->rgb = malloc(bytes);
    if (!p->rgb) return fail(e, "%s: out of memory, wanted %zu bytes for the pixels", where, bytes);
    return true;
}

void picture_free(Picture *p)
{
    for (int i = 0; i < p->text_count; i++) {
        free(p->texts[i].key);
        free(p->texts[i].value);
    }
    free(p->texts);
    free(p->rgb);
    *p = (Picture){0};
}

static bool pnm_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e);

bool picture_known(const uint8_t *head, size_t n)
{
    const char *format = foreign_format(head, n);
    if (n > 2 && head[0] == 'P' && head[1] >= '1' && head[1] <= '6')
        return memchr(" \t\r\n#", head[2], 5) != NULL;
    return format && (!strcmp(format, "a PNG picture") || !strcmp(format, "a JPEG picture"));
}

bool picture_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e)
{
    bool done;
    *p = (Picture){0};
    if (n == 0) return fail(e, "%s: picture, found an empty file, wanted PNG, JPEG or PNM", where);
    if (n >= 4 && !memcmp(bytes, "\x89PNG", 4))
        done = png_parse(p, bytes, n, where, e);
    else if (n >= 2 && bytes[0] == 0xff && bytes[1] == 0xd8)
        done = jpeg_parse(p, bytes, n, where, e);
    else if (n >= 2 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '7')
        done = pnm_parse(p, bytes, n, where, e);
    else {
        const char *found = foreign_format(bytes, n);
        done = fail(e, "%s: picture, found %s, wanted PNG, JPEG or PNM", where,
                    found ? found : "an unknown format");
    }
    if (!done) picture_free(p);
    return done;
}

bool picture_read(Picture *p, const char *path, Error *e)
{
    File f;
    *p = (Picture){0};
    if (!file_map(&f, path, FILE_LIMIT, e)) return false;
    bool done = picture_parse(p, f.at, f.size, path, e);
    file_unmap(&f);
    return done;
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* UTF-8 as RFC 3629 has it: shortest forms, no surrogates, up to U+10FFFF. */
bool utf8_valid(const void *bytes, size_t n)
{
    const uint8_t *s = bytes;
    for (size_t i = 0; i < n; ) {
        int more = s[i] < 0x80 ? 0 : s[i] < 0xe0 ? 1 : s[i] < 0xf0 ? 2 : 3;
        bool leads = s[i] < 0x80 || (s[i] >= 0xc2 && s[i] < 0xf5);
        if (!leads || (size_t)more >= n - i) return false;
        for (int k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80) return false;
        if ((s[i] == 0xe0 && s[i + 1] < 0xa0) || (s[i] == 0xed && s[i + 1] > 0x9f) ||
            (s[i] == 0xf0 && s[i + 1] < 0x90) || (s[i] == 0xf4 && s[i + 1] > 0x8f)) return false;
        i += (size_t)more + 1;
    }
    return true;
}

/* The bytes up to the first NUL as an UTF-8 string of its own. */
static char *text_copy(const void *bytes, size_t n, bool latin1)
{
    const uint8_t *s = bytes, *nul = n ? memchr(s, 0, n) : NULL;
    if (nul) n = (size_t)(nul - s);
    bool widen = latin1 || !utf8_valid(s, n);
    char *copy = malloc(2 * n + 1);
    if (!copy) return NULL;
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (widen && s[i] >= 0x80) {
            copy[used++] = (char)(0xc0 | s[i] >> 6);
            copy[used++] = (char)(0x80 | (s[i] & 0x3f));
        } else
            copy[used++] = (char)s[i];
    }
    copy[used] = 0;
    return copy;
}

bool picture_text(Picture *p, const void *key, size_t key_size, const void *value, size_t size,
                  bool latin1, const char *where, Error *e)
{
    if (key_size > TEXT_LIMIT || size > TEXT_LIMIT || p->text_size + key_size + size > TEXT_LIMIT)
        return fail(e, "%s: texts, found %zu bytes, wanted at most %d together", where,
                    p->text_size + key_size + size, TEXT_LIMIT);
    if (p->text_count == TEXT_COUNT_LIMIT)
        return fail(e, "%s: texts, found more than %d", where, TEXT_COUNT_LIMIT);
    if (!p->texts) p->texts = calloc(TEXT_COUNT_LIMIT, sizeof *p->texts);
    Text t = { text_copy(key, key_size, latin1), text_copy(value, size, latin1) };
    if (!p->texts || !t.key || !t.value) {
        free(t.key);
        free(t.value);
        return fail(e, "%s: out of memory, wanted %zu bytes for a text", where, key_size + size);
    }
    p->texts[p->text_count++] = t;
    p->text_size += key_size + size;
    return true;
}

/* ---- PNM in ---------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *at; size_t n, next;
    Picture *p; const char *where; Error *e;
} Pnm;

/* fail with the name of the file in front. */
PRINTF(2, 3) static bool bad(const Pnm *f, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return fail(f->e, "%s: %s", f->where, text);
}

static bool is_space(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static int hex_digit(int c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Undo what ppm_write escapes: \n, \\ and \xNN; anything else stays.  Returns the new length. */
static size_t unescape(char *s, size_t n)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '\\' && n - i >= 2 && (s[i + 1] == 'n' || s[i + 1] == '\\'))
            c = s[++i] == 'n' ? '\n' : '\\';
        else if (c == '\\' && n - i >= 4 && s[i + 1] == 'x') {
            int high = hex_digit(s[i + 2]), low = hex_digit(s[i + 3]);
            if (high >= 0 && low >= 0 && high + low > 0) {
                c = (char)(high * 16 + low);
                i += 3;
            }
        }
        s[used++] = c;
    }
    return used;
}

/* At a #: keep what the line says, "key: value" or else a "comment", and stop before its end. */
static bool pnm_comment(Pnm *f)
{
    size_t from = f->next + 1;
    while (f->next < f->n && f->at[f->next] != '\n' && f->at[f->next] != '\r') f->next++;
    if (from < f->next && f->at[from] == ' ') from++;
    size_t n = f->next - from;
    if (n == 0) return true;
    char *line = malloc(n);
    if (!line) return bad(f, "out of memory, wanted %zu bytes for a comment", n);
    memcpy(line, f->at + from, n);
    size_t key = 1;
    while (key < n && !(line[key] == ':' && (key + 1 == n || line[key + 1] == ' '))) key++;
    bool kept;
    if (key < n) {
        size_t value = key + 2 < n ? key + 2 : n;
        size_t value_size = unescape(line + value, n - value);
        size_t key_size = unescape(line, key);
        kept = picture_text(f->p, line, key_size, line + value, value_size, false, f->where, f->e);
    } else
        kept = picture_text(f->p, "comment", 7, line, unescape(line, n), false, f->where, f->e);
    free(line);
    return kept;
}

static bool pnm_skip(Pnm *f)
{
    while (f->next < f->n && (is_space(f->at[f->next]) || f->at[f->next] == '#'))
        if (f->at[f->next] != '#') f->next++;
        else if (!pnm_comment(f)) return false;
    return true;
}

static bool pnm_number(Pnm *f, const char *what, uint32_t low, uint32_t high, uint32_t *out)
{
    if (!pnm_skip(f)) return false;
    size_t from = f->next;
    uint64_t value = 0;
    while (f->next < f->n && f->at[f->next] >= '0' && f->at[f->next] <= '9' && value <= high)
        value = value * 10 + (f->at[f->next++] - '0');
    bool ends = f->next == f->n || is_space(f->at[f->next]) || f->at[f->next] == '#';
    bool whole = f->next > from && ends;
    if (whole && value >= low && value <= high) {
        *out = (uint32_t)value;
        return true;
    }
    size_t end = from;
    while (end < f->n && end - from < 20 && !is_space(f->at[end])) end++;
    if (end == from)
        return bad(f, "%s, found the end of the file, wanted %u to %u", what, low, high);
    return bad(f, "%s at byte %zu, found %.*s, wanted %u to %u", what, from, (int)(end - from),
               (const char *)f->at + from, low, high);
}

/* The one blank between header and raster; a comment may stand before it.  CR LF counts as one
 * blank unless the raster would then be short by the LF. */
static bool pnm_blank(Pnm *f, size_t raster)
{
    if (f->next < f->n && f->at[f->next] == '#' && !pnm_comment(f)) return false;
    if (f->next == f->n || !is_space(f->at[f->next]))
        return bad(f, "header, wanted one blank before the pixels at byte %zu", f->next);
    bool two = f->n - f->next >= 2 && f->at[f->next] == '\r' && f->at[f->next + 1] == '\n';
    f->next += two && f->n - f->next - 2 >= raster ? 2 : 1;
    return true;
}

/* Samples of 0..most to 0..255 as Pillow does it: round(v / most * 255), halves to even.  Grey
 * above 255, which Pillow cuts off at white, goes by the same rule. */
static void scale_table(uint8_t *table, uint32_t most)
{
    for (uint32_t v = 0; v < 65536; v++) {
        double x = (double)v / most * 255;
        uint32_t down = v > most ? 255 : (uint32_t)x;
        double rest = v > most ? 0 : x - down;
        table[v] = (uint8_t)(down + (rest > 0.5 || (rest == 0.5 && down % 2)));
    }
}

static bool plain_bit(Pnm *f, uint32_t *bit)
{
    if (!pnm_skip(f)) return false;
    if (f->next == f->n) return bad(f, "pixels, found the end of the file");
    int c = f->at[f->next++];
    if (c != '0' && c != '1')
        return bad(f, "pixel at byte %zu, found %c, wanted 0 or 1", f->next - 1, c);
    *bit = (uint32_t)(c - '0');
    return true;
}

/* kind: the digit of the magic number, 1..6. */
static bool pnm_pixels(Pnm *f, int kind, uint32_t most, const uint8_t *scale)
{
    const uint8_t *in = f->at + f->next;
    int channels = kind % 3 == 0 ? 3 : 1, w = f->p->w, h = f->p->h;
    uint8_t *out = f->p->rgb;
    for (int y = 0; y < h; y++) {
        for (int x = 0; x < w; x++, out += 3)
            for (int c = 0; c < channels; c++) {
                uint32_t v = 0;
                if (kind == 1 && !plain_bit(f, &v)) return false;
                if ((kind == 2 || kind == 3) && !pnm_number(f, "sample", 0, most, &v)) return false;
                if (kind == 4) v = in[x / 8] >> (7 - x % 8) & 1;
                if (kind >= 5) {
                    v = *in++;
                    if (most > 255) v = v << 8 | *in++;
                }
                out[c] = kind % 3 == 1 ? (v ? 0 : 255) : scale[v];
                if (channels == 1) out[1] = out[2] = out[0];
            }
        if (kind == 4) in += (w + 7) / 8;
    }
    return true;
}

static bool pnm_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e)
{
    static const char *const formats[] = { "PPM", "PBM", "PGM" };
    Pnm f = { bytes, n, 2, p, where, e };
    int kind = bytes[1] - '0';
    uint32_t w, h, most = 1;
    if (kind == 7) return bad(&f, "picture, found PAM (P7), wanted PNG, JPEG or P1 to P6");
    if (n > 2 && !is_space(bytes[2]) && bytes[2] != '#')
        return fail(e, "%s: picture, found P%d without a blank behind it", where, kind);
    p->format = formats[kind % 3];
    if (!pnm_number(&f, "width", 1, SIDE_LIMIT, &w) ||
        !pnm_number(&f, "height", 1, SIDE_LIMIT, &h) ||
        (kind % 3 != 1 && !pnm_number(&f, "maxval", 1, 65535, &most))) return false;

    /* A plain sample takes a byte at least. */
    size_t wide = most > 255 && kind >= 5 ? 2 : 1;
    size_t row = kind == 4 ? ((size_t)w + 7) / 8 : (size_t)w * (kind % 3 == 0 ? 3 : 1) * wide;
    uint64_t raster = (uint64_t)row * h;
    if (!pnm_blank(&f, raster > SIZE_MAX ? SIZE_MAX : (size_t)raster)) return false;
    if (n - f.next < raster)
        return fail(e, "%s: pixels, found %zu bytes, wanted %llu for %u x %u", where, n - f.next,
                    (unsigned long long)raster, w, h);
    uint8_t *scale = malloc(65536);
    if (!scale) return fail(e, "%s: out of memory, wanted 65536 bytes", where);
    scale_table(scale, most);
    bool done = picture_make(p, w, h, where, e) && pnm_pixels(&f, kind, most, scale);
    free(scale);
    return done;
}

/* ---- PPM out --------------------------------------------------------------------------------- */

/* s so that it fits one comment line and pnm_comment finds it again; a key gives up its colons. */
static char *escape(char *to, const char *s, bool key)
{
    static const char hex[] = "0123456789abcdef";
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '\n' || c == '\\') {
            *to++ = '\\';
            *to++ = c == '\n' ? 'n' : '\\';
        } else if (c < 0x20 || c == 0x7f || (key && c == ':')) {
            *to++ = '\\';
            *to++ = 'x';
            *to++ = hex[c >> 4];
            *to++ = hex[c & 15];
        } else
            *to++ = (char)c;
    }
    return to;
}

bool ppm_write(Output *o, int w, int h, const uint8_t *rgb, const char *const *texts, Error *e)
{
    char size[64];
    if (!output_write(o, "P6\n", 3, e)) return false;
    for (; texts && texts[0]; texts += 2) {
        size_t room = 4 * (strlen(texts[0]) + strlen(texts[1])) + 5;
        char *line = malloc(room);
        if (!line) return fail(e, "PPM: out of memory, wanted %zu bytes for a comment", room);
        char *end = line;
        *end++ = '#';
        *end++ = ' ';
        end = escape(end, texts[0], true);
        *end++ = ':';
        *end++ = ' ';
        end = escape(end, texts[1], false);
        *end++ = '\n';
        bool written = output_write(o, line, (size_t)(end - line), e);
        free(line);
        if (!written) return false;
    }
    int n = snprintf(size, sizeof size, "%d %d\n255\n", w, h);
    return output_write(o, size, (size_t)n, e) &&
           output_write(o, rgb, (size_t)w * (size_t)h * 3, e);
}

/* ---- resize: Pillow, src/libImaging/Resample.c ----------------------------------------------- */

static double bilinear(double x)
{
    x = x < 0 ? -x : x;
    return x < 1 ? 1 - x : 0;
}

static double bicubic(double x)                                          /* a = -0.5 */
{
    x = x < 0 ? -x : x;
    if (x < 1) return ((-0.5 + 2) * x - (-0.5 + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

static double sinc(double x)
{
    x *= 3.14159265358979323846;
    return x == 0 ? 1 : f_sin(x) / x;
}

static double lanczos(double x)                                          /* a = 3 */
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct { double (*at)(double); double reach; } filters[] = {
    [BICUBIC] = { bicubic, 2 }, [LANCZOS] = { lanczos, 3 }, [BILINEAR] = { bilinear, 1 },
};

/* Which inputs an output is made of, and how much of each in units of 2^-22. */
enum { WEIGHT_BITS = 32 - 8 - 2 };
typedef struct { int32_t *weight; int *first, *count, most; } Taps;      /* weight [out][most] */

static void taps_free(Taps *t)
{
    free(t->weight);
    free(t->first);
    free(t->count);
}

static void taps_fill(Taps *t, double *real, int in, int out, Filter filter, double stretch,
                      double reach)
{
    double scale = (double)in / out, turn = 1 / stretch;
    for (int i = 0; i < out; i++) {
        double center = (i + 0.5) * scale, sum = 0;
        int first = imax((int)(center - reach + 0.5), 0);
        int count = imin((int)(center + reach + 0.5), in) - first;
        for (int k = 0; k < count; k++)
            sum += real[k] = filters[filter].at((k + first - center + 0.5) * turn);
        for (int k = 0; k < count; k++) {
            double w = sum != 0 ? real[k] / sum : real[k];
            t->weight[(size_t)i * (size_t)t->most + (size_t)k] =
                (int32_t)(w * (1 << WEIGHT_BITS) + (w < 0 ? -0.5 : 0.5));
        }
        t->first[i] = first;
        t->count[i] = count;
    }
}

static bool taps_make(Taps *t, int in, int out, Filter filter)
{
    double stretch = imax(in, out) / (double)out, reach = filters[filter].reach * stretch;
    int up = (int)reach;
    t->most = (up + (reach > up)) * 2 + 1;
    t->weight = malloc((size_t)out * (size_t)t->most * sizeof *t->weight);
    t->first = malloc((size_t)out * sizeof *t->first);
    t->count = malloc((size_t)out * sizeof *t->count);
    double *real = malloc((size_t)t->most * sizeof *real);
    bool made = t->weight && t->first && t->count && real;
    if (made) taps_fill(t, real, in, out, filter, stretch, reach);
    free(real);
    return made;
}

static uint8_t rounded(int32_t sum)
{
    int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

static void resize_row(uint8_t *out, const uint8_t *in, int w, const Taps *t)
{
    for (int x = 0; x < w; x++, out += 3) {
        const uint8_t *from = in + (size_t)t->first[x] * 3;
        const int32_t *weight = t->weight + (size_t)x * (size_t)t->most;
        int32_t r = 1 << (WEIGHT_BITS - 1), g = r, b = r;
        for (int k = 0; k < t->count[x]; k++, from += 3) {
            r += from[0] * weight[k];
            g += from[1] * weight[k];
            b += from[2] * weight[k];
        }
        out[0] = rounded(r);
        out[1] = rounded(g);
        out[2] = rounded(b);
    }
}

/* Output row y of n bytes from the rows of in; sums [n]. */
static void resize_column(uint8_t *out, const uint8_t *in, size_t n, int y, const Taps *t,
                          int32_t *sums)
{
    for (size_t i = 0; i < n; i++) sums[i] = 1 << (WEIGHT_BITS - 1);
    for (int k = 0; k < t->count[y]; k++) {
        const uint8_t *from = in + (size_t)(t->first[y] + k) * n;
        int32_t weight = t->weight[(size_t)y * (size_t)t->most + (size_t)k];
        for (size_t i = 0; i < n; i++) sums[i] += from[i] * weight;
    }
    for (size_t i = 0; i < n; i++) out[i] = rounded(sums[i]);
}

/* One pass: columns w -> to (along = true) or rows h -> to. */
static bool resize_pass(Picture *p, int to, Filter filter, bool along, Error *e)
{
    Picture q = { .w = along ? to : p->w, .h = along ? p->h : to };
    Taps t = {0};
    size_t row = (size_t)q.w * 3, bytes = row * (size_t)q.h;
    q.rgb = malloc(bytes);
    int32_t *sums = malloc(row * sizeof *sums);
    bool made = q.rgb && sums && taps_make(&t, along ? p->w : p->h, to, filter);
    for (int y = 0; made && y < q.h; y++) {
        uint8_t *out = q.rgb + (size_t)y * row;
        if (along) resize_row(out, p->rgb + (size_t)y * (size_t)p->w * 3, q.w, &t);
        else resize_column(out, p->rgb, row, y, &t, sums);
    }
    taps_free(&t);
    free(sums);
    if (!made) {
        free(q.rgb);
        return fail(e, "resize: out of memory, wanted %zu bytes for %d x %d", bytes, q.w, q.h);
    }
    free(p->rgb);
    p->rgb = q.rgb;
    p->w = q.w;
    p->h = q.h;
    return true;
}

/* Rows first, but columns where the height loses more than twice what the width does: Pillow 13.
 * Older ones always take rows first; a pass rounds, so the order shows. */
bool picture_resize(Picture *p, int w, int h, Filter filter, Error *e)
{
    bool columns_first = h < p->h && (int64_t)p->h - h > 2 * ((int64_t)p->w - w);
    int64_t between = columns_first ? (int64_t)p->w * h : (int64_t)w * p->h;
    if (w < 1 || h < 1 || w > SIDE_LIMIT || h > SIDE_LIMIT || (int64_t)w * h > PIXEL_LIMIT ||
        between > PIXEL_LIMIT)
        return fail(e, "resize: size, found %d x %d to %d x %d, wanted 1 to %d a side and at most "
                    "%d pixels", p->w, p->h, w, h, SIDE_LIMIT, PIXEL_LIMIT);
    if (columns_first && !resize_pass(p, h, filter, false, e)) return false;
    if (w != p->w && !resize_pass(p, w, filter, true, e)) return false;
    return h == p->h || resize_pass(p, h, filter, false, e);
}

/* ---- masks ----------------------------------------------------------------------------------- */

bool picture_white(const Picture *mask, size_t i)
{
    const uint8_t *rgb = mask->rgb + 3 * i;
    return (rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16 >= 128;
}

/* reach[i]: how far the nearest white of the same row is from pixel i, at most `most`. */
static void row_reach(const Picture *mask, int most, int *reach)
{
    for (size_t y = 0, at = 0; y < (size_t)mask->h; y++, at += (size_t)mask->w) {
        for (int x = 0, far = most; x < mask->w; x++)
            reach[at + (size_t)x] = far =
                picture_white(mask, at + (size_t)x) ? 0 : imin(most, far + 1);
        for (int x = mask->w - 1, far = most; x >= 0; x--) {
            far = imin(reach[at + (size_t)x], imin(most, far + 1));
            reach[at + (size_t)x] = far;
        }
    }
}

/* How much of p is seen at (x, y): 1 at the white, falling evenly to 0 feather + 1 pixels away. */
static double cover(const Picture *mask, const int *reach, int feather, int x, int y)
{
    const int none = feather + 1;
    double nearest = (double)none * none;
    for (int i = imax(0, y - feather); i <= imin(mask->h - 1, y + feather); i++) {
        const double far = reach[(size_t)i * (size_t)mask->w + (size_t)x], down = i - y;
        const double square = far * far + down * down;
        if (far < none && square < nearest) nearest = square;
    }
    return 1 - sqrt(nearest) / none;
}

bool picture_blend(Picture *p, const Picture *under, const Picture *mask, int feather, Error *e)
{
    const size_t n = (size_t)p->w * (size_t)p->h;
    int *reach = malloc(n * sizeof *reach);
    if (!reach) return fail(e, "mask: out of memory, wanted %zu bytes", n * sizeof *reach);
    row_reach(mask, feather + 1, reach);
    for (size_t i = 0; i < n; i++) {
        const double of = cover(mask, reach, feather, (int)(i % (size_t)p->w),
                                (int)(i / (size_t)p->w));
        for (size_t k = 3 * i; k < 3 * i + 3; k++)
            p->rgb[k] = (uint8_t)(under->rgb[k] + of * (p->rgb[k] - under->rgb[k]) + 0.5);
    }
    free(reach);
    return true;
}
