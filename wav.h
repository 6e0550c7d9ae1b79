/* wav.h - sounds in and out: WAV files, resampling, levels.
 *
 *     Sound s;
 *     if (!sound_read(&s, "market.wav", &e)) ...         8 to 32-bit integers, 32 and 64-bit floats
 *     sound_mono(&s);  sound_resample(&s, 16000, &e);
 *     wav_write(o, &s, false, NULL, &e);                     16-bit; true: 32-bit float
 *     sound_free(&s);
 *
 * A sound is float32 samples, channels interleaved, 1.0 full scale.  Limits, told in messages:
 * 1..64 channels, 1000..768000 Hz, 2^31 samples.  Files are untrusted: every size is checked,
 * samples must be finite. Streamed files (RIFF or data size 0 or 0xffffffff) end where the file
 * ends. */
#ifndef WAV_H
#define WAV_H
#include "base.h"
#include "io.h"
#include "picture.h"

typedef struct {
    int rate, channels;
    size_t frames;                         /* samples a channel */
    float *at;                             /* [frames][channels], owned */
    Text *texts; int text_count;           /* LIST INFO and our own chunk: how to make it again */
    const char *format;                    /* "WAV 16-bit", ... for inspect */
} Sound;

/* Whether a file that begins with these bytes (12 are enough) is meant to be a sound. */
bool sound_known(const uint8_t *head, size_t n);
bool sound_parse(Sound *s, const uint8_t *bytes, size_t n, const char *where, Error *e);
bool sound_read(Sound *s, const char *path, Error *e);
void sound_free(Sound *s);

void sound_mono(Sound *s);                 /* the mean of the channels */
/* Band-limited: a windowed sinc in exact rational phases; the length becomes ceil(frames * to /
 * from).  The same bytes on every machine.  Equal rates change nothing. */
bool sound_resample(Sound *s, int rate, Error *e);

/* Write s; refused if a sample is not finite.  texts: pairs key, value, ended by NULL (LIST INFO
 * where a key has a place there, else a chunk of our own), may be NULL.  16-bit: rounded half to
 * even, clipped at full scale. */
bool wav_write(Output *o, const Sound *s, bool as_float, const char *const *texts, Error *e);

/* The same rounding, of one sample. */
int16_t sound_16_bits(float x);

/* Levels of samples: the largest magnitude, the root of the mean square. */
double sound_peak(const Sound *s), sound_rms(const Sound *s);
void sound_gain(Sound *s, double factor);
/* Raised-cosine fades, in seconds. */
void sound_fade(Sound *s, double in, double out);
/* The last `seconds` run into the beginning (equal power); the length becomes shorter by them. */
bool sound_loop(Sound *s, double seconds, Error *e);

#endif
