/* ldm.h - latent diffusion: the UNet that predicts noise, the autoencoder between pixels and
 * latents.                     (diffusers UNet2DConditionModel, AutoencoderKL; Rombach et al. 2022)
 *
 *     Unet u;
 *     if (!unet_open(&u, "stable-diffusion-v1-5/unet", &e)) ...
 *     Tensor eps = unet(&m, &u, x, 981, context, (Tensor){ 0 });
 *                                                    x [B,H,W,in], context [B,T,C] -> [B,H,W,out]
 *
 *     Vae v;
 *     vae_open(&v, "stable-diffusion-v1-5/vae", &e);
 *     Tensor rgb = vae_decode(&m, &v, z);            z [B,h,w,4], already divided by v.scaling
 *                                                    -> [B,f*h,f*w,3]
 *
 * Both are built from config.json: widths, blocks, heads, projections are read, never guessed. */
#ifndef LDM_H
#define LDM_H
#include "base.h"
#include "io.h"
#include "taesd.h"
#include "tensor.h"

enum { LEVELS = 8 };                       /* most resolutions a model may have */

/* ResnetBlock2D.  A VAE has no time; shortcut is there where the width changes. */
typedef struct { Norm norm1, norm2; Linear conv1, conv2, time, shortcut; } Resnet;

/* BasicTransformerBlock: self attention, cross attention, GEGLU feed-forward. */
typedef struct {
    Norm norm1, norm2, norm3;
    struct { Linear q, k, v, out; } self, cross;
    Linear geglu, ff;
} LdmBlock;

/* Transformer2DModel. */
typedef struct {
    int heads, depth;
    Norm norm;
    Linear proj_in, proj_out;
    LdmBlock *block;
} LdmTransformer;

/* One level on the way down or up: resnets, after each a transformer (or none), then a change of
 * size. */
typedef struct {
    int layers, width;
    Resnet *resnet;
    LdmTransformer *transformer;           /* NULL: no attention here */
    /* down: stride 2; up: after nearest neighbour; at NULL: last level */
    Linear resize;
} LdmLevel;

/* Told after every cross attention where the last item of the batch looked: the mean over heads,
 * [1,h,w,T] for a text of T tokens. */
typedef void Watch(void *self, Tensor looks);

typedef struct {
    Weights weights;                       /* weights.path names it */
    int in, out, levels, groups, time_width;
    int context;                           /* width of the text; 0: attn2 sees its own input */
    int class_width; bool class_concat;    /* of class embeddings; 0: it takes none */
    int size;                              /* sample_size: latents a side it was trained on */
    int guidance_width;                    /* one that is told the guidance (LCM), or 0 */
    double guidance;                       /* set by who runs it */
    float eps;
    bool flip_sin_to_cos;
    double freq_shift;
    Linear time1, time2, class, guide, conv_in, conv_out;
    Norm norm_out;
    LdmLevel down[LEVELS], up[LEVELS];
    bool has_middle;
    Resnet middle[2];
    LdmTransformer middle_transformer;
    Watch *watch; void *watcher;           /* set by who wants to know; else NULL */
} Unet;

bool unet_open(Unet *u, const char *folder, Error *e);
/* The same of tensors that are open, which u takes; where: what messages call the config. */
bool unet_open_as(Unet *u, Weights *w, const Json *config, const char *where, Error *e);
void unet_close(Unet *u);
/* The noise (or v) in x at time t, seen with context (u.context > 0) or class [B,1,1,class_width]
 * (u.class_width > 0); what a UNet has not is {0}. */
Tensor unet(Arena *m, const Unet *u, Tensor x, double t, Tensor context, Tensor class);

/* Attention of the VAE's middle: one head over all positions. */
typedef struct { Norm norm; Linear q, k, v, out; } VaeAttention;

typedef struct {
    LdmLevel level[LEVELS];
    Resnet middle[2];
    VaeAttention attention;
    Linear conv_in, conv_out;
    Norm norm_out;
} VaeHalf;

typedef struct {
    Weights weights;                       /* weights.path names it */
    /* channels of either side; factor = 2^(levels - 1) */
    int pixels, latents, levels, groups, factor;
    double scaling;                        /* latents of the UNet = posterior * scaling */
    bool has_attention;
    VaeHalf encoder, decoder;
    Linear quant, post_quant;              /* 1x1; at NULL: absent */
    Taesd *tiny;                           /* AutoencoderTiny's layers in place of these, or NULL */
} Vae;

bool vae_open(Vae *v, const char *folder, Error *e);
bool vae_open_as(Vae *v, Weights *w, const Json *config, const char *where, Error *e);
void vae_close(Vae *v);
/* AutoencoderKL.encode: x [B,H,W,3] in -1..1 -> moments [B,H/f,W/f,2*latents]: mean, log
 * variance; of a tiny one the latents alone, which draw no noise. */
Tensor vae_encode(Arena *m, const Vae *v, Tensor x);
/* latent_dist.sample() * scaling_factor of one item's moments, as torch lays it out:
 * [latents][h][w]. */
void vae_sample(const Vae *v, Tensor moments, Rng *rng, float *latents);
/* AutoencoderKL.decode. */
Tensor vae_decode(Arena *m, const Vae *v, Tensor z);
/* A linear map from latents as the UNet sees them to colours in -1..1, for previews: the least
 * squares over what noise in squares of 2 x 2 decodes to (flat latents would not do: the norms make
 * their colours too strong).  map [1+latents][3]: the colour of zero, then what one of each channel
 * adds. */
void vae_colours(Arena *m, const Vae *v, float *map);

/* Between torch's layout and ours: [c][n] -> [n][c], and back. */
void channels_last(const float *from, size_t c, size_t n, float *to);
void channels_first(const float *from, size_t c, size_t n, float *to);

#endif
