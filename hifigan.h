/* hifigan.h - HiFi-GAN: from a mel spectrogram to samples.
 *                                                (transformers SpeechT5HifiGan; Kong et al. 2020)
 *
 *     HifiGan g;
 *     hifigan_open(&g, "audioldm-s-full-v2/vocoder", &e);
 *     Tensor samples = hifigan(&m, &g, mel);      mel [1,T,1,mels] -> [1,hifigan_samples(T),1,1]
 *
 * Weights may be plain, weight_g and weight_v, or parametrizations.weight.original0 and 1: weight
 * norm is applied when opening, over dimension 0. */
#ifndef HIFIGAN_H
#define HIFIGAN_H
#include "base.h"
#include "io.h"
#include "tensor.h"

enum { HIFIGAN_UPS = 8, HIFIGAN_KERNELS = 8, HIFIGAN_DILATIONS = 8 };

typedef struct {
    int kernel, dilations, dilation[HIFIGAN_DILATIONS];
    Linear conv1[HIFIGAN_DILATIONS], conv2[HIFIGAN_DILATIONS];
} HifiResblock;

typedef struct {
    Weights weights;
    /* hop: samples a frame, the product of the upsampling rates; width: channels before them */
    int mels, rate, hop, width, ups, kernels;
    int up_rate[HIFIGAN_UPS], up_kernel[HIFIGAN_UPS];
    float slope;
    bool normalize;
    Weight mean, scale;                    /* [mels] */
    Linear pre, post, up[HIFIGAN_UPS];
    HifiResblock block[HIFIGAN_UPS][HIFIGAN_KERNELS];
    float *plain;                          /* weights made from weight norm, owned */
} HifiGan;

bool hifigan_open(HifiGan *g, const char *folder, Error *e);
void hifigan_close(HifiGan *g);
Tensor hifigan(Arena *m, const HifiGan *g, Tensor mel);
/* Samples that T frames give: T * hop, and some more where a kernel minus its rate is odd. */
size_t hifigan_samples(const HifiGan *g, int frames);

#endif
