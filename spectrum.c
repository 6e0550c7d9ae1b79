/* spectrum.c - the mel spectrogram of a sound as a picture with axes.
 * Read in this order: scales, signs, ink, the picture. */
#include "clap.h"
#include "command.h"

#include <stdlib.h>

enum {
    WINDOW = 2048, BINS = WINDOW / 2 + 1, MELS = 128, ROW = 2, HIGH = MELS * ROW,
    FRAMES_A_SECOND = 100, WIDEST = 4000,
    LEFT = 40, RIGHT = 28, TOP = 10, BOTTOM = 28, TICK = 4, DOT = 2
};
static const double shown_dB = 80;                         /* from the loudest downward */

/* ---- scales ---------------------------------------------------------------------------------- */

/* 2595 log10(1 + f / 700), the scale of the filters below. */
static double mel(double hertz) { return 2595 / 2.302585092994045684 * f_log(1 + hertz / 700); }

/* The row of a frequency, from the top of the spectrogram. */
static int row_of(double hertz, int rate)
{
    /* filter i of 0..MELS-1 peaks at i + 1 of MELS + 1 steps */
    const double place = mel(hertz) / mel(rate / 2.0) * (MELS + 1) - 0.5;
    return HIGH - (int)(place * ROW + 0.5);
}

/* Dark to bright: lightness rises evenly, through violet, red and orange to a pale yellow. */
static void colour(double x, uint8_t rgb[3])
{
    static const uint8_t ramp[][3] = { { 4, 2, 16 },    { 62, 14, 92 },   { 138, 34, 98 },
                                       { 206, 68, 70 }, { 244, 134, 48 }, { 252, 248, 176 } };
    const int last = (int)countof(ramp) - 1;
    const double place = (x < 0 ? 0 : x > 1 ? 1 : x) * last;
    const int i = imin((int)place, last - 1);
    for (int c = 0; c < 3; c++)
        rgb[c] = (uint8_t)(ramp[i][c] + (place - i) * (ramp[i + 1][c] - ramp[i][c]) + 0.5);
}

/* ---- signs ----------------------------------------------------------------------------------- */

/* Three dots wide, five high: rows of three bits from the top. */
static const struct { char sign; uint16_t dots; } signs[] = {
    { '0', 075557 }, { '1', 026227 }, { '2', 071747 }, { '3', 071717 }, { '4', 055711 },
    { '5', 074717 }, { '6', 074757 }, { '7', 071111 }, { '8', 075757 }, { '9', 075717 },
    { 'k', 045655 },
};

typedef struct { Picture *p; uint8_t grey; } Ink;

static void dot(Ink ink, int x, int y)
{
    if (x < 0 || y < 0 || x >= ink.p->w || y >= ink.p->h) return;
    memset(ink.p->rgb + 3 * ((size_t)y * (size_t)ink.p->w + (size_t)x), ink.grey, 3);
}

static void box(Ink ink, int x, int y, int w, int h)
{
    for (int j = y; j < y + h; j++)
        for (int i = x; i < x + w; i++) dot(ink, i, j);
}

static int text_width(const char *text) { return (int)strlen(text) * 4 * DOT - DOT; }

static void write_text(Ink ink, int x, int y, const char *text)
{
    for (; *text; text++, x += 4 * DOT)
        for (size_t k = 0; k < countof(signs); k++)
            for (int i = 0; signs[k].sign == *text && i < 15; i++)
                if (signs[k].dots >> (14 - i) & 1)
                    box(ink, x + i % 3 * DOT, y + i / 3 * DOT, DOT, DOT);
}

/* ---- the picture ----------------------------------------------------------------------------- */

/* Ticks at each second; of long sounds at as many as have room. */
static void time_axis(Ink ink, int w, double column_seconds)
{
    static const int steps[] = { 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200 };
    size_t k = 0;
    char text[16];
    while (k + 1 < countof(steps) && steps[k] / column_seconds < 60) k++;
    for (int t = 0; t <= (int)(w * column_seconds); t += steps[k]) {
        const int x = LEFT + (int)(t / column_seconds);
        snprintf(text, sizeof text, "%d", t);                      /* seconds */
        box(ink, x, TOP + HIGH, 1, TICK);
        write_text(ink, x - text_width(text) / 2, TOP + HIGH + TICK + 4, text);
    }
}

static void frequency_axis(Ink ink, int rate)
{
    static const int kHz[] = { 1, 2, 4, 8, 16 };
    char text[16];
    for (size_t i = 0; i < countof(kHz) && kHz[i] * 2000 <= rate; i++) {
        const int y = TOP + imax(0, row_of(kHz[i] * 1000.0, rate));
        snprintf(text, sizeof text, "%dk", kHz[i]);
        box(ink, LEFT - TICK, y, TICK, 1);
        write_text(ink, LEFT - TICK - 4 - text_width(text), imax(0, y - 5), text);
    }
}

/* dB [frames][MELS], low frequencies first. */
static void draw_levels(Picture *p, const float *dB, int frames)
{
    float loudest = dB[0];
    for (size_t i = 0; i < (size_t)frames * MELS; i++)
        if (dB[i] > loudest) loudest = dB[i];
    for (int y = 0; y < HIGH; y++)
        for (int x = 0; x < frames; x++) {
            const float level = dB[(size_t)x * MELS + (size_t)(MELS - 1 - y / ROW)];
            colour(1 + (level - loudest) / shown_dB,
                   p->rgb + 3 * ((size_t)(TOP + y) * (size_t)p->w + (size_t)(LEFT + x)));
        }
}

bool spectrogram_draw(Picture *p, const Sound *s, Error *e)
{
    int frames;
    const size_t step = s->frames / WIDEST + 1;
    const int hop = (int)zmax(step, (size_t)imax(1, s->rate / FRAMES_A_SECOND));
    float *filters = mel_filters(BINS, MELS, 0, s->rate / 2.0, s->rate, true, false, e);
    float *dB = filters ? mel_spectrogram(s->at, s->frames, WINDOW, hop, filters, MELS, &frames, e)
                        : NULL;
    *p = (Picture){ 0 };
    bool ok = dB && picture_make(p, (uint64_t)(LEFT + frames + RIGHT), TOP + HIGH + BOTTOM,
                                 "spectrogram", e);
    if (ok) {
        const Ink black = { p, 0 };
        memset(p->rgb, 255, 3 * (size_t)p->w * (size_t)p->h);
        draw_levels(p, dB, frames);
        time_axis(black, frames, (double)hop / s->rate);
        frequency_axis(black, s->rate);
    }
    free(filters);
    free(dB);
    return ok;
}
