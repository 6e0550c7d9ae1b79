/* picture.h - pictures in and out: PNM and resampling here, PNG in png.c, JPEG in jpeg.c.
 *
 *     Picture p;
 *     if (!picture_read(&p, "cat.jpg", &e)) ...        by content, whatever the name says
 *     picture_resize(&p, 224, 224, BICUBIC, &e);       the bytes that Pillow gives
 *     picture_free(&p);
 *
 * A picture is 8-bit RGB, rows top down, without padding.  What has alpha (RGBA, grey with alpha,
 * palette tRNS, colour keys) is composited on white, as transformers 5.24 does.  16-bit samples of
 * PNG keep their high byte; PNM samples of any maxval become round(255 v / maxval).
 * Limits, told in messages: 32768 a side, 2^28 pixels, files of 1 GiB.
 *
 * Text that a file carries (PNG tEXt/zTXt/iTXt, PNM comments `# key: value`, JPEG comments) is
 * kept: how to make it again. */
#ifndef PICTURE_H
#define PICTURE_H
#include "base.h"
#include "io.h"

typedef struct { char *key, *value; } Text;        /* UTF-8, owned by the picture */

typedef struct {
    int w, h;
    uint8_t *rgb;                                  /* [h][w][3], owned */
    Text *texts; int text_count;
    size_t text_size;                              /* bytes of all texts together */
    const char *format;                            /* "PNG", "JPEG", "PBM", "PGM" or "PPM" */
} Picture;

/* Whether a file that begins with these bytes (16 are enough) is meant to be a picture. */
bool picture_known(const uint8_t *head, size_t n);
/* Bytes of a PNG, JPEG (baseline or progressive) or PNM (P1 to P6) file; where names it in
 * messages, first of all.  What fails leaves an empty picture. */
bool picture_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e);
bool picture_read(Picture *p, const char *path, Error *e);
void picture_free(Picture *p);

/* The formats, one each; called by picture_parse. */
bool png_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e);
bool jpeg_parse(Picture *p, const uint8_t *bytes, size_t n, const char *where, Error *e);

/* Pillow 13's Image.resize with antialias: separable, coefficients in fixed point, a pass along
 * the rows first, unless the height shrinks by more than twice what the width does. */
typedef enum { BICUBIC, LANCZOS, BILINEAR } Filter;
bool picture_resize(Picture *p, int w, int h, Filter filter, Error *e);

/* Of a mask: whether pixel i, counted through, is white, of grey (as Pillow has it) 128 or more. */
bool picture_white(const Picture *mask, size_t i);
/* p over `under`: what is white in the mask stays p's, the rest becomes under's, and within feather
 * pixels around the white one fades into the other.  All three of one size. */
bool picture_blend(Picture *p, const Picture *under, const Picture *mask, int feather, Error *e);

/* What the parsers share.  picture_make checks the limits and gives p its rgb, not initialised.
 * picture_text keeps a text up to its first NUL; bytes that are not UTF-8, and all where latin1
 * is set, are Latin-1.  At most 1024 texts, of TEXT_LIMIT bytes together. */
enum { TEXT_LIMIT = 16 << 20 };
bool picture_make(Picture *p, uint64_t w, uint64_t h, const char *where, Error *e);
bool picture_text(Picture *p, const void *key, size_t key_size, const void *value, size_t size,
                  bool latin1, const char *where, Error *e);
bool utf8_valid(const void *bytes, size_t n);

/* Write rgb [h][w][3] in the format that o's path asks for.  texts: pairs key, value, ended by
 * NULL.  The bytes depend on the arguments alone. */
bool png_write(Output *o, int w, int h, const uint8_t *rgb, const char *const *texts, Error *e);
bool ppm_write(Output *o, int w, int h, const uint8_t *rgb, const char *const *texts, Error *e);

#endif
