/* avi.c - films.  Contract: avi.h.
 *              (Microsoft's AVI RIFF File Reference; OpenDML AVI File Format Extensions 1.02, 1996)
 *
 *     RIFF 'AVI '  LIST hdrl  avih
 *                             LIST strl  strh strf indx      pictures
 *                             LIST strl  strh strf indx      sound
 *                             LIST odml  dmlh
 *                  LIST movi  00db 01wb 00db 01wb ... ix00 ix01
 *                  idx1
 *     RIFF 'AVIX'  LIST movi  00db 01wb ... ix00 ix01
 *
 * indx says where each ix is, ix where the chunks of its segment are, idx1 the same for readers
 * that know no OpenDML. */
#include "avi.h"
#include <stdlib.h>

enum {
    STREAMS = 2, IX_HEAD = 32, IX_ENTRY = 8, IDX1_ENTRY = 16, SUPER_HEAD = 32, SUPER_ENTRY = 16,
    SEGMENTS_MOST = 1024, SIDE_MOST = 32767, DMLH = 248
};
#define SEGMENT ((uint64_t)1 << 30)

struct Avi {
    Output *o;
    AviShape shape;
    uint32_t picture, sound;               /* bytes of a frame's chunks, their heads not counted */
    uint64_t each, last;                   /* frames in a segment, in the last one */
    uint64_t segments, head;               /* head: bytes from the first one to the list movi */
    uint64_t done;                         /* frames written */
    size_t room, used;
    uint8_t *bytes;                        /* one frame, or the largest head or index */
};

/* ---- sizes ----------------------------------------------------------------------------------- */

static uint64_t pair(const Avi *a) { return 8 + (uint64_t)a->picture + 8 + a->sound; }

static uint64_t stream_size(const Avi *a, bool pictures)
{
    return 12 + (8 + 56) + (8 + (pictures ? 40 : 16)) + SUPER_HEAD + SUPER_ENTRY * a->segments;
}

static uint64_t header_size(const Avi *a)                  /* the list hdrl, its head counted */
{
    return 12 + (8 + 56) + stream_size(a, true) + stream_size(a, false) + 12 + 8 + DMLH;
}

static uint64_t index_size(uint64_t frames) { return IX_HEAD + IX_ENTRY * frames; }

static uint64_t movi_size(const Avi *a, uint64_t frames)   /* the list, its head counted */
{
    return 12 + frames * pair(a) + STREAMS * index_size(frames);
}

static uint64_t frames_in(const Avi *a, uint64_t segment)
{
    return segment + 1 == a->segments ? a->last : a->each;
}

/* A RIFF with its head. */
static uint64_t segment_size(const Avi *a, uint64_t segment)
{
    const uint64_t n = frames_in(a, segment);
    if (segment) return 12 + movi_size(a, n);
    return a->head + movi_size(a, n) + 8 + STREAMS * IDX1_ENTRY * n;
}

/* The first byte of a RIFF; all between the first and the last are alike. */
static uint64_t segment_at(const Avi *a, uint64_t segment)
{
    return segment ? segment_size(a, 0) + (segment - 1) * (12 + movi_size(a, a->each)) : 0;
}

/* Where the four letters movi stand. */
static uint64_t movi_at(const Avi *a, uint64_t segment)
{
    return segment_at(a, segment) + (segment ? 12 : a->head) + 8;
}

static bool lay_out(Avi *a, const AviShape *shape, Error *e)
{
    const AviShape s = *shape;
    const uint64_t limit = s.segment ? s.segment : SEGMENT;
    a->shape = s;
    if (s.w < 1 || s.h < 1 || s.w > SIDE_MOST || s.h > SIDE_MOST)
        return fail(e, "AVI: size, found %dx%d, wanted 1 to %d a side", s.w, s.h, SIDE_MOST);
    if (s.rate < AVI_FPS || s.rate % AVI_FPS)
        return fail(e, "AVI: rate, found %d Hz, wanted a multiple of %d: as many samples behind "
                    "every picture", s.rate, AVI_FPS);
    const uint64_t picture = (uint64_t)((s.w * 3 + 3) / 4 * 4) * (uint64_t)s.h;
    a->sound = 2 * (uint32_t)(s.rate / AVI_FPS);
    a->segments = SEGMENTS_MOST;
    a->head = 12 + header_size(a);                         /* no more than this */
    if (picture > SEGMENT || a->head + 64 + picture + a->sound + 1000 > limit)
        return fail(e, "AVI: a picture of %dx%d, found %llu bytes, wanted less than a segment of "
                    "%llu", s.w, s.h, (unsigned long long)picture, (unsigned long long)limit);
    a->picture = (uint32_t)picture;
    a->each = (limit - a->head - 12 - 8 - STREAMS * IX_HEAD)
              / (pair(a) + STREAMS * (IX_ENTRY + IDX1_ENTRY));
    if (s.frames < 1 || s.frames > a->each * SEGMENTS_MOST)
        return fail(e, "AVI: frames, found %llu of %dx%d, wanted 1 to %llu: %d segments of %llu "
                    "bytes", (unsigned long long)s.frames, s.w, s.h,
                    (unsigned long long)a->each * SEGMENTS_MOST, SEGMENTS_MOST,
                    (unsigned long long)limit);
    a->segments = (s.frames + a->each - 1) / a->each;
    a->last = s.frames - (a->segments - 1) * a->each;
    a->head = 12 + header_size(a);
    return true;
}

uint64_t avi_size(const AviShape *shape, Error *e)
{
    Avi a = { 0 };
    if (!lay_out(&a, shape, e)) return 0;
    return segment_at(&a, a.segments - 1) + segment_size(&a, a.segments - 1);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static void put(Avi *a, const void *bytes, size_t n)
{
    memcpy(a->bytes + a->used, bytes, n);
    a->used += n;
}

static void put_bits(Avi *a, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) a->bytes[a->used++] = (uint8_t)(value >> 8 * i);
}

static void put16(Avi *a, uint32_t value) { put_bits(a, value, 2); }
static void put32(Avi *a, uint64_t value) { put_bits(a, value, 4); }
static void put64(Avi *a, uint64_t value) { put_bits(a, value, 8); }

static void put_zeros(Avi *a, size_t n)
{
    memset(a->bytes + a->used, 0, n);
    a->used += n;
}

/* The head of a chunk of size bytes, what is between them not counted. */
static void put_chunk(Avi *a, const char *id, uint64_t size)
{
    put(a, id, 4);
    put32(a, size);
}

/* whole: with its head. */
static void put_list(Avi *a, const char *kind, const char *id, uint64_t whole)
{
    put_chunk(a, kind, whole - 8);
    put(a, id, 4);
}

static bool flush(Avi *a, Error *e)
{
    const size_t n = a->used;
    a->used = 0;
    return output_write(a->o, a->bytes, n, e);
}

/* ---- the headers ----------------------------------------------------------------------------- */

static void put_main_header(Avi *a)
{
    enum { HAS_INDEX = 0x10, INTERLEAVED = 0x100, TRUST_TYPES = 0x800 };
    put_chunk(a, "avih", 56);
    put32(a, 1000000 / AVI_FPS);                           /* microseconds a picture */
    put32(a, AVI_FPS * pair(a));                           /* bytes a second */
    put32(a, 0);                                           /* chunks are not aligned */
    put32(a, HAS_INDEX | INTERLEAVED | TRUST_TYPES);
    put32(a, frames_in(a, 0));                             /* of this RIFF; dmlh has them all */
    put32(a, 0);
    put32(a, STREAMS);
    put32(a, a->picture);
    put32(a, (uint32_t)a->shape.w);
    put32(a, (uint32_t)a->shape.h);
    put_zeros(a, 16);
}

/* A unit lasts scale / rate seconds; there are length of them, of size bytes if all are alike. */
static void put_stream_header(Avi *a, const char *type, const char *handler, uint32_t scale,
                              uint32_t rate, uint64_t length, uint32_t largest, uint32_t size)
{
    const bool pictures = !size;
    put_chunk(a, "strh", 56);
    put(a, type, 4);
    put(a, handler, 4);
    put_zeros(a, 12);                                      /* flags, priority, language, delay */
    put32(a, scale);
    put32(a, rate);
    put32(a, 0);
    put32(a, length);
    put32(a, largest);
    put32(a, 0xffffffff);                                  /* no quality of compression */
    put32(a, size);
    put32(a, 0);
    put16(a, pictures ? (uint32_t)a->shape.w : 0);
    put16(a, pictures ? (uint32_t)a->shape.h : 0);
}

static void put_picture_format(Avi *a)                     /* BITMAPINFOHEADER */
{
    put_chunk(a, "strf", 40);
    put32(a, 40);
    put32(a, (uint32_t)a->shape.w);
    put32(a, (uint32_t)a->shape.h);                        /* positive: bottom up */
    put16(a, 1);
    put16(a, 24);
    put32(a, 0);                                           /* not compressed */
    put32(a, a->picture);
    put_zeros(a, 16);
}

static void put_sound_format(Avi *a)                       /* PCMWAVEFORMAT */
{
    put_chunk(a, "strf", 16);
    put16(a, 1);
    put16(a, 1);
    put32(a, (uint32_t)a->shape.rate);
    put32(a, 2 * (uint32_t)a->shape.rate);
    put16(a, 2);
    put16(a, 16);
}

/* Where the index ix of a stream is in every segment.  A picture lasts one unit, so does a
 * sample. */
static void put_super_index(Avi *a, const char *chunk, int stream, uint32_t units)
{
    put_chunk(a, "indx", SUPER_HEAD - 8 + SUPER_ENTRY * a->segments);
    put16(a, 4);                                           /* 32-bit words an entry */
    put16(a, 0);                                           /* an index of indexes */
    put32(a, a->segments);
    put(a, chunk, 4);
    put_zeros(a, 12);
    for (uint64_t i = 0; i < a->segments; i++) {
        const uint64_t n = frames_in(a, i);
        put64(a, movi_at(a, i) + 4 + n * pair(a) + (stream ? index_size(n) : 0));
        put32(a, index_size(n));
        put32(a, n * units);
    }
}

static void put_headers(Avi *a)
{
    const uint32_t samples = a->sound / 2;
    put_list(a, "RIFF", "AVI ", segment_size(a, 0));
    put_list(a, "LIST", "hdrl", header_size(a));
    put_main_header(a);
    put_list(a, "LIST", "strl", stream_size(a, true));
    put_stream_header(a, "vids", "DIB ", 1, AVI_FPS, a->shape.frames, a->picture, 0);
    put_picture_format(a);
    put_super_index(a, "00db", 0, 1);
    put_list(a, "LIST", "strl", stream_size(a, false));
    put_stream_header(a, "auds", "\0\0\0", 2, 2 * (uint32_t)a->shape.rate,
                      a->shape.frames * samples, a->sound, 2);
    put_sound_format(a);
    put_super_index(a, "01wb", 1, samples);
    put_list(a, "LIST", "odml", 12 + 8 + DMLH);
    put_chunk(a, "dmlh", DMLH);
    put32(a, a->shape.frames);
    put_zeros(a, DMLH - 4);
}

/* ---- the segments ---------------------------------------------------------------------------- */

static void begin_segment(Avi *a, uint64_t segment)
{
    if (segment) put_list(a, "RIFF", "AVIX", segment_size(a, segment));
    else put_headers(a);
    put_list(a, "LIST", "movi", movi_size(a, frames_in(a, segment)));
}

/* The chunks of one stream; offsets count from the letters movi to the chunk's data. */
static void put_index(Avi *a, uint64_t segment, int stream)
{
    const uint64_t n = frames_in(a, segment);
    put_chunk(a, stream ? "ix01" : "ix00", index_size(n) - 8);
    put16(a, 2);
    put16(a, 0x100);                                       /* an index of chunks */
    put32(a, n);
    put(a, stream ? "01wb" : "00db", 4);
    put64(a, movi_at(a, segment));
    put32(a, 0);
    for (uint64_t i = 0; i < n; i++) {
        put32(a, 4 + i * pair(a) + 8 + (stream ? (uint64_t)a->picture + 8 : 0));
        put32(a, stream ? a->sound : a->picture);
    }
}

/* Both streams in the order of the file; offsets count from the letters movi to the chunk. */
static void put_old_index(Avi *a)
{
    enum { KEY_FRAME = 0x10 };
    const uint64_t n = frames_in(a, 0);
    put_chunk(a, "idx1", STREAMS * IDX1_ENTRY * n);
    for (uint64_t i = 0; i < STREAMS * n; i++) {
        const bool sound = i % STREAMS;
        put(a, sound ? "01wb" : "00db", 4);
        put32(a, KEY_FRAME);
        put32(a, 4 + i / STREAMS * pair(a) + (sound ? 8 + (uint64_t)a->picture : 0));
        put32(a, sound ? a->sound : a->picture);
    }
}

static bool end_segment(Avi *a, uint64_t segment, Error *e)
{
    for (int stream = 0; stream < STREAMS; stream++) {
        put_index(a, segment, stream);
        if (!flush(a, e)) return false;
    }
    if (!segment) put_old_index(a);
    return flush(a, e);
}

/* ---- the film -------------------------------------------------------------------------------- */

Avi *avi_begin(Output *o, const AviShape *shape, Error *e)
{
    Avi a = { .o = o };
    if (!lay_out(&a, shape, e)) return NULL;
    const uint64_t largest = frames_in(&a, 0);
    a.room = (size_t)(a.head + 12 + pair(&a) + 8 + STREAMS * IDX1_ENTRY * largest
                      + index_size(largest));
    Avi *film = malloc(sizeof *film);
    a.bytes = malloc(a.room);
    if (film && a.bytes) {
        *film = a;
        return film;
    }
    fail(e, "AVI: out of memory, wanted %zu bytes for a frame and the index", a.room);
    free(film);
    free(a.bytes);
    return NULL;
}

bool avi_frame(Avi *a, const uint8_t *rgb, const int16_t *samples, Error *e)
{
    const size_t w = (size_t)a->shape.w, h = (size_t)a->shape.h;
    if (a->done == a->shape.frames)
        return fail(e, "AVI: frames, found one more, wanted %llu", (unsigned long long)a->done);
    const uint64_t segment = a->done / a->each, place = a->done % a->each;
    if (!place) begin_segment(a, segment);
    put_chunk(a, "00db", a->picture);
    for (size_t y = h; y-- > 0;) {
        const uint8_t *row = rgb + y * w * 3;
        for (size_t x = 0; x < w; x++)
            for (size_t c = 3; c-- > 0;) a->bytes[a->used++] = row[x * 3 + c];
        put_zeros(a, w % 4);                               /* 3 w is as far from a multiple of 4 */
    }
    put_chunk(a, "01wb", a->sound);
    for (uint32_t i = 0; i < a->sound / 2; i++) put16(a, (uint16_t)samples[i]);
    a->done++;
    return flush(a, e) && (place + 1 < frames_in(a, segment) || end_segment(a, segment, e));
}

bool avi_end(Avi *a, Error *e)
{
    if (!a) return false;
    const uint64_t done = a->done, wanted = a->shape.frames;
    free(a->bytes);
    free(a);
    return done == wanted || fail(e, "AVI: frames, found %llu, wanted %llu",
                                  (unsigned long long)done, (unsigned long long)wanted);
}
