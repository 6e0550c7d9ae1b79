/* taesd.h - the tiny autoencoder: latents to pixels and back, blurred a little, in a few per cent
 * of the arithmetic.                              (diffusers AutoencoderTiny; TAESD by O. B. Bohan)
 *
 *     Vae v;
 *     if (!vae_open(&v, "taesd", &e)) ...            ldm.h opens it as any VAE, and calls what
 *     Tensor rgb = vae_decode(&m, &v, z);            stands here
 *
 * Plain 3x3 convolutions and ReLU, in blocks of three beside a skip; no norms, no attention, and no
 * randomness when it encodes. */
#ifndef TAESD_H
#define TAESD_H
#include "base.h"
#include "io.h"
#include "tensor.h"

enum { TINY_LEVELS = 8 };

/* AutoencoderTinyBlock. */
typedef struct { Linear conv1, conv2, conv3; } TinyBlock;

/* On the way down: a convolution, which halves all but the first, then blocks; on the way up:
 * blocks, then a convolution, which doubles all but the last. */
typedef struct { int blocks; TinyBlock *block; Linear conv; } TinyLevel;

/* edge: the encoder's last convolution, the decoder's first. */
typedef struct { int width; TinyLevel level[TINY_LEVELS]; Linear edge; } TinyHalf;

typedef struct { int levels; TinyHalf encoder, decoder; } Taesd;

/* What config.json says of the layers; where names it in messages. */
bool taesd_read(Taesd *t, const Json *config, const char *where, Error *e);
bool taesd_bind(Taesd *t, Weights *w, int pixels, int latents, Error *e);
void taesd_close(Taesd *t);
/* x [B,H,W,3] in -1..1 -> latents [B,H/f,W/f,latents], and back; f = 2^(levels - 1). */
Tensor taesd_encode(Arena *m, const Taesd *t, Tensor x);
Tensor taesd_decode(Arena *m, const Taesd *t, Tensor z);

#endif
