/* avi.h - films: uncompressed pictures and PCM in an AVI file, frame by frame.
 *
 *     AviShape shape = { .w = 512, .h = 512, .rate = 16000, .frames = 300 };
 *     Output *o = output_open("story.avi", &e);
 *     Avi *film = avi_begin(o, &shape, &e);
 *     for (...) avi_frame(film, rgb, samples, &e);           rgb [h][w][3], samples [rate / 25]
 *     avi_end(film, &e);  output_commit(o, &e);
 *
 * 25 pictures a second, 24-bit BGR, rows bottom up and padded to four bytes; one channel of 16-bit
 * samples, rate / 25 of them behind each picture: frames x rate = samples x 25, exactly.
 *
 * Every frame has the same size, so all sizes and both indexes are known before the first byte, and
 * the file is written front to back.  Old players read the first RIFF by idx1; what is longer than
 * a segment (1 GiB) goes on in RIFFs of type AVIX, found by the indexes of OpenDML. */
#ifndef AVI_H
#define AVI_H
#include "base.h"
#include "io.h"

enum { AVI_FPS = 25 };

typedef struct {
    int w, h, rate;                        /* rate: a multiple of AVI_FPS */
    uint64_t frames;
    uint64_t segment;                      /* most bytes of a RIFF; 0: 1 GiB */
} AviShape;

typedef struct Avi Avi;

/* Bytes that the whole file will have; 0, with e, for what no AVI can hold. */
uint64_t avi_size(const AviShape *shape, Error *e);
Avi *avi_begin(Output *o, const AviShape *shape, Error *e);
bool avi_frame(Avi *a, const uint8_t *rgb, const int16_t *samples, Error *e);
/* a is freed in any case; fails if the frames are not all there.  NULL is allowed. */
bool avi_end(Avi *a, Error *e);

#endif
