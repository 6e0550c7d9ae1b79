/* ldm.c - latent diffusion: the UNet that predicts noise, the autoencoder between pixels and
 * latents.
 * Read in this order: resnet, attention, transformer, unet, the VAE's halves; then what reads and
 * binds them.
 * Not here: training, SDXL's added conditions, transformers over patches. */
#include "ldm.h"

#include <stdlib.h>

/* ---- between torch's layout and ours --------------------------------------------------------- */

void channels_last(const float *from, size_t c, size_t n, float *to)
{
    for (size_t i = 0; i < c; i++)
        for (size_t j = 0; j < n; j++) to[j * c + i] = from[i * n + j];
}
void channels_first(const float *from, size_t c, size_t n, float *to)
{
    for (size_t j = 0; j < n; j++)
        for (size_t i = 0; i < c; i++) to[i * n + j] = from[j * c + i];
}

/* ---- the blocks ------------------------------------------------------------------------------ */

/* What all blocks of one model share. */
typedef struct { int groups; float eps; } NormRule;

/* A large picture goes through norm1 and conv1 band by band, so that no whole normalised copy of it
 * stands beside it.  Rows of a band: whole tiles of Winograd, so that all bits are those of the
 * picture at once. */
enum { BAND = 48 };
static const size_t LARGE = (size_t)1 << 23;                                   /* values */

static bool by_bands(const Arena *m, Tensor x)
{
    return tensor_count(x) >= LARGE && x.b == 1 && x.h > 2 * BAND && !x.tail_c && !m->wrap;
}

/* conv1(silu(norm1(x))) of rows first .. first + n, the scales of norm1 being known; above: the row
 * before them, which may stand elsewhere. */
static Tensor band_conv1(Arena *m, const Resnet *w, Tensor x, Tensor above, Tensor scales,
                         int first, int n)
{
    const int before = first > 0, behind = first + n < x.h;
    const double counted = m->weight_bytes;
    Tensor in = tensor(m, 1, before + n + behind, x.w, x.c);
    if (before) scale_to(band(in, 0, 1), above, scales, SILU);
    scale_to(band(in, before, n + behind), band(x, first, n + behind), scales, SILU);
    Tensor h = conv2d(m, in, &w->conv1, (Window){ .stride = 1, .before = 1, .after = 1,
                                                  .above = before, .below = behind });
    if (first) m->weight_bytes = counted;                                      /* the same again */
    return h;
}

/* conv1(silu(norm1(x))) into a tensor of its own. */
static Tensor bands_conv1(Arena *m, NormRule rule, const Resnet *w, Tensor x)
{
    Tensor h = tensor(m, 1, x.h, x.w, w->conv1.w.dim[0]);
    const size_t top = m->used;
    Tensor scales = group_scales(m, x, &w->norm1, rule.groups, rule.eps);
    const size_t used = m->used;
    for (int first = 0, n; first < x.h; first += n, m->used = used) {
        n = imin(BAND, x.h - first);
        Tensor above = band(x, imax(0, first - 1), 1);
        copy_to(band(h, first, n), band_conv1(m, w, x, above, scales, first, n));
    }
    m->used = top;
    return h;
}

/* The same for half the channels or fewer, in the place of x, which nobody needs any more: h from
 * its beginning on, and behind it shortcut(x), which moves on as h grows.  Returns h; *y: the
 * other. */
static Tensor bands_in_place(Arena *m, NormRule rule, const Resnet *w, Tensor x, Tensor *y)
{
    const size_t top = m->used;
    Tensor h = x, s = x, scales = group_scales(m, x, &w->norm1, rule.groups, rule.eps);
    Tensor above = tensor(m, 1, 1, x.w, x.c);              /* of x, where it has been overwritten */
    const size_t used = m->used;
    h.c = s.c = w->conv1.w.dim[0];
    for (int first = 0, n; first < x.h; first += n, m->used = used) {
        n = imin(BAND, x.h - first);
        Tensor part = linear(m, band(x, first, n), &w->shortcut);
        Tensor made = band_conv1(m, w, x, above, scales, first, n);
        copy_to(above, band(x, first + n - 1, 1));
        copy_to(band(s, first + n, first), band(s, first, first));
        copy_to(band(h, first, n), made);
        copy_to(band(s, first + n + first, n), part);
    }
    m->used = top;
    *y = band(s, x.h, x.h);
    return h;
}

/* h = conv1(silu(norm1(x))) + time_emb_proj(silu(temb));
 * return shortcut(x) + conv2(silu(norm2(h)))                                  ResnetBlock2D.forward
 * ts = silu(temb), at NULL in a VAE.  owned: nobody needs x any more, the result may take its
 * place. */
static Tensor resnet(Arena *m, NormRule rule, const Resnet *w, Tensor x, Tensor ts, bool owned)
{
    const size_t top = m->used;
    const bool wider = w->shortcut.w.at != NULL,
               bands = owned && !w->time.w.at && by_bands(m, x),
               in_place = bands && wider && 2 * w->conv1.w.dim[0] <= x.c;
    Tensor y = x, h = x, time = { 0 };
    if (x.tail_c && !wider) y = x = copy(m, x);
    if (in_place) h = bands_in_place(m, rule, w, x, &y);
    else if (wider) y = linear(m, x, &w->shortcut);                            /* [B,H,W,O] */
    if (w->time.w.at) time = linear(m, ts, &w->time);            /* [1,1,1,O] or [B,1,1,O] */
    if (bands && !in_place) h = bands_conv1(m, rule, w, x);
    if (!bands) {
        if (owned && wider) group_norm_(m, h, &w->norm1, rule.groups, rule.eps, SILU);
        else h = group_norm(m, x, &w->norm1, rule.groups, rule.eps, SILU);     /* [B,H,W,I] */
        h = conv2d_plus(m, h, &w->conv1, SAME3, time);                         /* [B,H,W,O] */
    }
    group_norm_(m, h, &w->norm2, rule.groups, rule.eps, SILU);
    if (owned || wider) conv2d_into(m, y, h, &w->conv2, SAME3);
    else y = conv2d_plus(m, h, &w->conv2, SAME3, x);
    if (in_place || (owned && !wider)) { m->used = top; return y; }
    return keep(m, top, y);
}

/* Tell who watches where the last item looks. */
static void look(Arena *m, const Unet *u, Tensor q, Tensor k, int heads)
{
    const size_t top = m->used;
    Tensor looks = attention_map(m, item(q, q.b - 1), item(k, k.b - 1), heads);     /* [1,H,W,T] */
    if (m->base) u->watch(u->watcher, looks);
    m->used = top;
}

/* x += attn1(norm1(x));  x += attn2(norm2(x), context);  x += ff(norm3(x))
 *                                                                  BasicTransformerBlock.forward */
static void ldm_block(Arena *m, const Unet *u, const LdmBlock *w, int heads, Tensor x,
                      Tensor context)
{
    const size_t top = m->used;
    Tensor h = layer_norm(m, x, &w->norm1, 1e-5f);                             /* [B,H,W,C] */
    Tensor q = linear(m, h, &w->self.q), k = linear(m, h, &w->self.k), v = linear(m, h, &w->self.v);
    linear_into(m, x, attention(m, q, k, v, heads, false), &w->self.out);
    m->used = top;
    h = layer_norm(m, x, &w->norm2, 1e-5f);
    const bool text = context.c != 0;
    if (!text) context = h;                           /* no text: the block attends to itself */
    q = linear(m, h, &w->cross.q), k = linear(m, context, &w->cross.k),
    v = linear(m, context, &w->cross.v);
    if (u->watch && text) look(m, u, q, k, heads);
    linear_into(m, x, attention(m, q, k, v, heads, false), &w->cross.out);
    m->used = top;
    h = layer_norm(m, x, &w->norm3, 1e-5f);
    linear_into(m, x, geglu(m, h, &w->geglu), &w->ff);
    m->used = top;
}

/* x += proj_out(blocks(proj_in(norm(x))))                             Transformer2DModel.forward */
static void transformer(Arena *m, const Unet *u, const LdmTransformer *w, Tensor x, Tensor context)
{
    const size_t top = m->used;
    Tensor h = group_norm(m, x, &w->norm, u->groups, 1e-6f, IDENTITY);         /* [B,H,W,C] */
    h = linear(m, h, &w->proj_in);                                             /* [B,H,W,C] */
    for (int i = 0; i < w->depth; i++) ldm_block(m, u, &w->block[i], w->heads, h, context);
    linear_into(m, x, h, &w->proj_out);
    m->used = top;
}

/* ---- the UNet -------------------------------------------------------------------------------- */

/* Sines and cosines of the guidance above 1, in thousandths.        get_guidance_scale_embedding */
static Tensor guidance_embedding(Arena *m, const Unet *u)
{
    const int half = u->guidance_width / 2;
    const float step = (float)f_log(10000) / (float)(half - 1);
    Tensor x = tensor(m, 1, 1, 1, u->guidance_width);
    if (m->base) x.at[u->guidance_width - 1] = 0;     /* an odd width has one more */
    for (int i = 0; m->base && i < half; i++) {       /* rounded to float where the reference is */
        const float angle = (float)(u->guidance - 1) * 1000 * (float)f_exp((float)i * -step);
        x.at[i] = (float)f_sin(angle);
        x.at[half + i] = (float)f_cos(angle);
    }
    host_wrote(x);
    return x;
}

/* time_embedding(time_proj(t)): sines and cosines of t at falling frequencies, two layers.
 *                                                      get_timestep_embedding, TimestepEmbedding */
static Tensor time_embedding(Arena *m, const Unet *u, double t)
{
    const int half = u->down[0].width / 2;
    Tensor x = tensor(m, 1, 1, 1, 2 * half);
    for (int i = 0; m->base && i < half; i++) {       /* rounded to float where the reference is */
        float exponent = (float)(-f_log(10000)) * (float)i / (float)(half - u->freq_shift);
        float angle = (float)t * (float)f_exp(exponent);
        x.at[u->flip_sin_to_cos ? half + i : i] = (float)f_sin(angle);
        x.at[u->flip_sin_to_cos ? i : half + i] = (float)f_cos(angle);
    }
    host_wrote(x);
    if (u->guidance_width) linear_into(m, x, guidance_embedding(m, u), &u->guide);
    x = linear(m, linear_act(m, x, &u->time1, SILU), &u->time2);               /* [1,1,1,T] */
    trace(x, "time_embedding");
    return x;
}

/* What every resnet adds, after silu: the time's embedding; with a class, that of the class beside
 * it or added to it, item by item. */
static Tensor embedding(Arena *m, const Unet *u, double t, Tensor class)
{
    Tensor x = time_embedding(m, u, t);                                        /* [1,1,1,T] */
    if (u->class_width) {
        Tensor c = linear(m, class, &u->class);                                /* [B,1,1,T] */
        trace(c, "class_embedding");
        if (u->class_concat) {
            Tensor both = tensor(m, c.b, 1, 1, 2 * c.c);                       /* [B,1,1,2T] */
            for (int i = 0; i < c.b; i++) {                               /* as two rows */
                const Tensor one = as_picture((Tensor){ item(both, i).at, .b = 1, .c = c.c }, 2, 1);
                copy_to(band(one, 0, 1), x);
                copy_to(band(one, 1, 1), item(c, i));
            }
            x = both;
        } else {
            add_(c, x);
            x = c;
        }
    }
    act_(x, SILU);
    return x;
}

/* What the way down leaves for the way up: a stack, each with where it begins in the arena. */
typedef struct { Tensor x[LEVELS * 16]; size_t at[LEVELS * 16]; int count; } Skips;

static Tensor push(Skips *s, size_t at, Tensor x)
{
    s->at[s->count] = at;
    return s->x[s->count++] = x;
}

static Tensor unet_down(Arena *m, const Unet *u, NormRule rule, Tensor x, Tensor ts, Tensor context,
                        Skips *skips)
{
    for (int i = 0; i < u->levels; i++) {
        const LdmLevel *level = &u->down[i];
        trace_enter("down_blocks.%d", i);
        for (int j = 0; j < level->layers; j++) {
            const size_t at = m->used;
            x = resnet(m, rule, &level->resnet[j], x, ts, false);
            trace(x, "resnets.%d", j);
            if (level->transformer) {
                transformer(m, u, &level->transformer[j], x, context);
                trace(x, "attentions.%d", j);
            }
            push(skips, at, x);
        }
        if (level->resize.w.at) {
            const size_t at = m->used;
            x = push(skips, at, conv2d(m, x, &level->resize,
                                       (Window){ .stride = 2, .before = 1, .after = 1 }));
            trace(x, "downsamplers.0");
        }
        trace_leave();
        trace(x, "down_blocks.%d", i);
    }
    return x;
}

/* Each layer joins the newest skip; its result takes the place where that skip began. */
static Tensor unet_up(Arena *m, const Unet *u, NormRule rule, Tensor x, Tensor ts, Tensor context,
                      Skips *skips)
{
    for (int i = 0; i < u->levels; i++) {
        const LdmLevel *level = &u->up[i];
        size_t at = 0;
        trace_enter("up_blocks.%d", i);
        for (int j = 0; j < level->layers; j++) {
            const Tensor skip = skips->x[--skips->count];
            at = skips->at[skips->count];
            x = keep(m, at, resnet(m, rule, &level->resnet[j], concat(x, skip), ts, false));
            trace(x, "resnets.%d", j);
            if (level->transformer) {
                transformer(m, u, &level->transformer[j], x, context);
                trace(x, "attentions.%d", j);
            }
        }
        if (level->resize.w.at) {                     /* to the size of the skip that comes next */
            const Tensor next = skips->x[skips->count - 1];
            Window window = { .stride = 1, .before = 1, .after = 1, .h = next.h, .w = next.w };
            x = keep(m, at, conv2d(m, x, &level->resize, window));
            trace(x, "upsamplers.0");
        }
        trace_leave();
        trace(x, "up_blocks.%d", i);
    }
    return x;
}

Tensor unet(Arena *m, const Unet *u, Tensor x, double t, Tensor context, Tensor class)
{
    const size_t top = m->used;
    const NormRule rule = { u->groups, u->eps };
    Skips skips = { .count = 0 };
    Tensor ts = keep(m, top, embedding(m, u, t, class));                       /* [1,1,1,T] */
    const size_t first = m->used;
    x = push(&skips, first, conv2d(m, x, &u->conv_in, SAME3));                 /* [B,H,W,C0] */
    trace(x, "conv_in");
    x = unet_down(m, u, rule, x, ts, context, &skips);                         /* [B,H/8,W/8,C3] */
    if (u->has_middle) {
        const size_t middle = m->used;
        x = resnet(m, rule, &u->middle[0], x, ts, false);
        transformer(m, u, &u->middle_transformer, x, context);
        x = keep(m, middle, resnet(m, rule, &u->middle[1], x, ts, false));
        trace(x, "mid_block");
    }
    x = unet_up(m, u, rule, x, ts, context, &skips);                           /* [B,H,W,C0] */
    group_norm_(m, x, &u->norm_out, u->groups, u->eps, SILU);
    x = keep(m, top, conv2d(m, x, &u->conv_out, SAME3));                       /* [B,H,W,out] */
    trace(x, "conv_out");
    return x;
}

/* ---- the autoencoder ------------------------------------------------------------------------- */

/* x += to_out(attention(norm(x))), one head over all positions
 *                                                             Attention with residual_connection */
static void vae_attention(Arena *m, NormRule rule, const VaeAttention *w, Tensor x)
{
    const size_t top = m->used;
    Tensor h = as_tokens(
        group_norm(m, x, &w->norm, rule.groups, rule.eps, IDENTITY));          /* [B,H*W,C] */
    Tensor q = linear(m, h, &w->q), k = linear(m, h, &w->k), v = linear(m, h, &w->v);
    linear_into(m, x, as_picture(attention(m, q, k, v, 1, false), x.h, x.w), &w->out);
    m->used = top;
}

/* resnet, attention, resnet, in place                                     UNetMidBlock2D.forward */
static Tensor vae_middle(Arena *m, const Vae *v, NormRule rule, const VaeHalf *half, Tensor x)
{
    x = resnet(m, rule, &half->middle[0], x, (Tensor){ 0 }, true);
    trace(x, "mid_block.resnets.0");
    if (v->has_attention) vae_attention(m, rule, &half->attention, x);
    trace(x, "mid_block.attentions.0");
    x = resnet(m, rule, &half->middle[1], x, (Tensor){ 0 }, true);
    trace(x, "mid_block");
    return x;
}

/* The levels one after the other; every result slides down to at, where x begins. */
static Tensor vae_levels(Arena *m, const Vae *v, NormRule rule, const VaeHalf *half, bool up,
                         size_t at, Tensor x)
{
    for (int i = 0; i < v->levels; i++) {
        const LdmLevel *level = &half->level[i];
        const Window window =
            up ? (Window){ .stride = 1, .before = 1, .after = 1, .h = 2 * x.h, .w = 2 * x.w }
               : (Window){ .stride = 2, .before = 0, .after = 1 };
        trace_enter(up ? "up_blocks.%d" : "down_blocks.%d", i);
        for (int j = 0; j < level->layers; j++) {
            x = keep(m, at, resnet(m, rule, &level->resnet[j], x, (Tensor){ 0 }, true));
            trace(x, "resnets.%d", j);
        }
        if (level->resize.w.at) {
            x = keep(m, at, conv2d(m, x, &level->resize, window));
            trace(x, up ? "upsamplers.0" : "downsamplers.0");
        }
        trace_leave();
        trace(x, up ? "up_blocks.%d" : "down_blocks.%d", i);
    }
    return x;
}

Tensor vae_encode(Arena *m, const Vae *v, Tensor x)
{
    if (v->tiny) return taesd_encode(m, v->tiny, x);
    const size_t top = m->used;
    const NormRule rule = { v->groups, 1e-6f };
    const VaeHalf *half = &v->encoder;
    trace_enter("encoder");
    x = conv2d(m, x, &half->conv_in, SAME3);                                   /* [B,H,W,C0] */
    trace(x, "conv_in");
    x = vae_levels(m, v, rule, half, false, top, x);                           /* [B,H/f,W/f,C] */
    x = vae_middle(m, v, rule, half, x);
    group_norm_(m, x, &half->norm_out, v->groups, rule.eps, SILU);
    x = conv2d(m, x, &half->conv_out, SAME3);                                  /* [..,2*latents] */
    trace(x, "conv_out");
    trace_leave();
    if (v->quant.w.at) x = linear(m, x, &v->quant);
    trace(x, "quant_conv");
    return keep(m, top, x);
}

/* mean + exp(log variance / 2) * noise                              DiagonalGaussianDistribution */
void vae_sample(const Vae *v, Tensor moments, Rng *rng, float *latents)
{
    const size_t c = (size_t)v->latents, n = tensor_count(moments) / (size_t)moments.c;
    host_reads(moments);
    if (v->tiny) {                                     /* latents, not moments */
        channels_first(moments.at, c, n, latents);
        for (size_t i = 0; i < c * n; i++) latents[i] *= (float)v->scaling;
        return;
    }
    randn(rng, latents, c * n);
    for (size_t i = 0; i < c; i++)
        for (size_t j = 0; j < n; j++) {
            const float mean = moments.at[j * 2 * c + i], spread = moments.at[j * 2 * c + c + i];
            const float log_variance = spread < -30 ? -30 : spread > 20 ? 20 : spread;
            float *x = &latents[i * n + j];
            *x = (float)v->scaling * (mean + (float)f_exp(0.5f * log_variance) * *x);
        }
}

Tensor vae_decode(Arena *m, const Vae *v, Tensor z)
{
    if (v->tiny) return taesd_decode(m, v->tiny, z);
    const size_t top = m->used;
    const NormRule rule = { v->groups, 1e-6f };
    const VaeHalf *half = &v->decoder;
    if (v->post_quant.w.at) z = linear(m, z, &v->post_quant);                  /* [B,h,w,latents] */
    trace(z, "post_quant_conv");
    trace_enter("decoder");
    Tensor x = keep(m, top, conv2d(m, z, &half->conv_in, SAME3));              /* [B,h,w,C] */
    trace(x, "conv_in");
    x = vae_middle(m, v, rule, half, x);
    x = vae_levels(m, v, rule, half, true, top, x);                            /* [B,f*h,f*w,C0] */
    group_norm_(m, x, &half->norm_out, v->groups, rule.eps, SILU);
    x = keep(m, top, conv2d(m, x, &half->conv_out, SAME3));                    /* [B,f*h,f*w,3] */
    trace(x, "conv_out");
    trace_leave();
    return x;
}

/* Solve A X = B, A n x n symmetric and positive, B n x 3 behind it in each row: by elimination; X
 * takes the place of B. */
static void solve(double *a, size_t n)
{
    const size_t ld = n + 3;
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < n; i++) {
            const double factor = a[i * ld + p] / a[p * ld + p];
            for (size_t j = p; i != p && j < ld; j++) a[i * ld + j] -= factor * a[p * ld + j];
        }
    for (size_t i = 0; i < n; i++)
        for (size_t j = n; j < ld; j++) a[i * ld + j] /= a[i * ld + i];
}

/* Add what one position says to A and B: s s^T and s y^T, s = (1, latents), y = its colour. */
static void add_sample(double *a, size_t n, const float *latents, const double y[3])
{
    for (size_t i = 0; i < n; i++) {
        const double s = i ? latents[i - 1] : 1;
        for (size_t j = 0; j < n + 3; j++)
            a[i * (n + 3) + j] += s * (j >= n ? y[j - n] : j ? latents[j - 1] : 1);
    }
}

void vae_colours(Arena *m, const Vae *v, float *map)
{
    enum { SIDE = 16, CELLS = SIDE / 2, SEED = 0 };
    const size_t top = m->used, c = (size_t)v->latents, n = c + 1, f = (size_t)v->factor;
    Rng rng;
    Tensor noise = tensor(m, 1, v->latents, CELLS, CELLS);                     /* as torch's */
    Tensor z = tensor(m, 1, SIDE, SIDE, v->latents), scaled = tensor(m, 1, SIDE, SIDE, v->latents);
    rng_seed(&rng, SEED);
    if (m->base) randn(&rng, noise.at, tensor_count(noise));
    for (size_t i = 0; m->base && i < tensor_count(z); i++) {
        const size_t y = i / c / SIDE / 2, x = i / c % SIDE / 2;
        z.at[i] = noise.at[(i % c * CELLS + y) * CELLS + x];
        scaled.at[i] = z.at[i] / (float)v->scaling;
    }
    host_wrote(scaled);
    const Tensor rgb = vae_decode(m, v, scaled);                               /* [1,f*16,f*16,3] */
    host_reads(rgb);
    double *a = (double *)tensor(m, 1, (int)n, (int)n + 3, sizeof(double) / sizeof(float)).at;
    if (m->base) memset(a, 0, n * (n + 3) * sizeof *a);
    for (size_t i = 0; m->base && i < n; i++) a[i * (n + 3) + i] = 1e-3;       /* never singular */
    for (size_t i = 0; m->base && i < SIDE * SIDE; i++) {
        double y[3] = { 0 };
        for (size_t k = 0; k < f * f; k++)
            for (size_t j = 0; j < 3; j++)
                y[j] += rgb.at[((i / SIDE * f + k / f) * (size_t)rgb.w + i % SIDE * f + k % f) * 3
                               + j] / (double)(f * f);
        add_sample(a, n, z.at + i * c, y);
    }
    if (m->base) solve(a, n);
    for (size_t i = 0; m->base && i < 3 * n; i++) map[i] = (float)a[i / 3 * (n + 3) + n + i % 3];
    m->used = top;
}

/* ---- configuration: what is read, what is refused -------------------------------------------- */

/* Settings that change the network and that this code does not have: absent, null, false or one of
 * these. */
typedef struct { const char *key, *known; } Fixed;

static const Fixed unet_fixed[] = {
    { "addition_embed_type", "null: another one is SDXL's, which is not supported" },
    { "num_class_embeds", "null" },             { "encoder_hid_dim", "null" },
    { "encoder_hid_dim_type", "null" },         { "center_input_sample", "false" },
    { "timestep_post_act", "null" },            { "dual_cross_attention", "false" },
    { "only_cross_attention", "false" },
    { "resnet_time_scale_shift", "default" },   { "time_embedding_type", "positional" },
    { "attention_type", "default" },            { "act_fn", "silu" },
    { "conv_in_kernel", "3" },                  { "conv_out_kernel", "3" },
    { "downsample_padding", "1" },              { "mid_block_scale_factor", "1" },
    { "resnet_skip_time_act", "false" },        { "class_embed_type", "simple_projection" },
    { "time_embedding_act_fn", "null" },        { "cross_attention_norm", "null" },
    { "addition_embed_type_num_heads", "64" },  { "num_attention_heads", "null" },
};
static const Fixed vae_fixed[] = {
    { "act_fn", "silu" }, { "latents_mean", "null" }, { "shift_factor", "null" } };

static bool all_fixed(const Json *config, const Fixed *fixed, size_t n, const char *where, Error *e)
{
    for (size_t i = 0; i < n; i++) {
        const Json *value = json_get(config, fixed[i].key);
        if (!value || value->type == JSON_NULL || (value->type == JSON_BOOL && !value->truth))
            continue;
        bool known = (value->type == JSON_STRING || value->type == JSON_NUMBER)
            && !strcmp(value->text, fixed[i].known);
        if (!known)
            return fail(e, "%s: %s: found %s, this program knows only %s", where, fixed[i].key,
                        value->type == JSON_STRING || value->type == JSON_NUMBER ? value->text
                        : value->type == JSON_BOOL ? "true" : "a list", fixed[i].known);
    }
    return true;
}

/* A whole number for every level, given once or as a list.  Absent: out keeps its values. */
static bool level_ints(const Json *config, const char *key, int levels, int low, int high, int *out,
                       const char *where, Error *e)
{
    const Json *value = json_get(config, key);
    if (!value || value->type == JSON_NULL) return true;
    if (value->type != JSON_ARRAY) {
        if (!json_int(config, key, low, high, out, where, e)) return false;
        for (int i = 1; i < levels; i++) out[i] = out[0];
        return true;
    }
    double list[LEVELS];
    if (!json_floats(config, key, levels, low, high, list, where, e)) return false;
    for (int i = 0; i < levels; i++) {
        out[i] = (int)list[i];
        if (out[i] != list[i])
            return fail(e, "%s: %s: found %g, want whole numbers", where, key, list[i]);
    }
    return true;
}

/* block_out_channels: how many levels, and their widths. */
static bool read_widths(const Json *config, int groups, int *levels, int width[LEVELS],
                        const char *where, Error *e)
{
    const Json *list = json_get(config, "block_out_channels");
    if (!list || list->type != JSON_ARRAY || list->count < 1 || list->count > LEVELS)
        return fail(e, "%s: block_out_channels: want a list of 1 to %d widths", where, LEVELS);
    *levels = list->count;
    if (!level_ints(config, "block_out_channels", *levels, 1, 1 << 14, width, where, e))
        return false;
    for (int i = 0; i < *levels; i++)
        if (width[i] % groups)
            return fail(e, "%s: block_out_channels: found %d, want multiples of norm_num_groups %d",
                        where, width[i], groups);
    return true;
}

/* down_block_types and up_block_types: names[0] has no attention, names[1] has.  attends[i]
 * receives which. */
static bool read_kinds(const Json *config, const char *key, int levels, const char *const names[2],
                       bool *attends, const char *where, Error *e)
{
    const Json *list = json_get(config, key);
    if (!list || list->type != JSON_ARRAY || list->count != levels)
        return fail(e, "%s: %s: want a list of %d names, one a level", where, key, levels);
    int i = 0;
    for (const Json *kind = list->first; kind; kind = kind->next, i++) {
        attends[i] = names[1] && json_is(kind, names[1]);
        if (!attends[i] && !json_is(kind, names[0]))
            return fail(e, "%s: %s: found %s, want %s%s%s", where, key,
                        kind->type == JSON_STRING ? kind->text : "no name",
                        names[0], names[1] ? " or " : "", names[1] ? names[1] : "");
    }
    return true;
}

/* ---- binding --------------------------------------------------------------------------------- */

#define NORM(type, field, name, c)                                                          \
    { F(type, field.w), name ".weight", c, 0 }, { F(type, field.b), name ".bias", c, 0 }
#define WEIGHT(type, field, name, shape, o, flags)                                          \
    { F(type, field.w), name ".weight", shape, flags }, { F(type, field.b), name ".bias", o, flags }

static const Bind resnet_table[] = {                        /* i in, o out, t time */
    NORM(Resnet, norm1, "norm1", "i"),
    WEIGHT(Resnet, conv1, "conv1", "oi33", "o", 0),
    WEIGHT(Resnet, time, "time_emb_proj", "ot", "o", OPTIONAL),
    NORM(Resnet, norm2, "norm2", "o"),
    WEIGHT(Resnet, conv2, "conv2", "oo33", "o", 0),
    WEIGHT(Resnet, shortcut, "conv_shortcut", "oi11", "o", OPTIONAL),
    { 0 } };

static const Bind block_table[] = {                         /* c width, x context, g 4 c, h 8 c */
    NORM(LdmBlock, norm1, "norm1", "c"),
    NORM(LdmBlock, norm2, "norm2", "c"),
    NORM(LdmBlock, norm3, "norm3", "c"),
    { F(LdmBlock, self.q.w), "attn1.to_q.weight", "cc", 0 },
    { F(LdmBlock, self.k.w), "attn1.to_k.weight", "cc", 0 },
    { F(LdmBlock, self.v.w), "attn1.to_v.weight", "cc", 0 },
    WEIGHT(LdmBlock, self.out, "attn1.to_out.0", "cc", "c", 0),
    { F(LdmBlock, cross.q.w), "attn2.to_q.weight", "cc", 0 },
    { F(LdmBlock, cross.k.w), "attn2.to_k.weight", "cx", 0 },
    { F(LdmBlock, cross.v.w), "attn2.to_v.weight", "cx", 0 },
    WEIGHT(LdmBlock, cross.out, "attn2.to_out.0", "cc", "c", 0),
    WEIGHT(LdmBlock, geglu, "ff.net.0.proj", "hc", "h", 0),
    WEIGHT(LdmBlock, ff, "ff.net.2", "cg", "c", 0),
    { 0 } };

static bool resnet_bind(Resnet *r, Weights *w, int in, int out, int time, const char *prefix,
                        Error *e)
{
    if (!bind(w, r, resnet_table, DIMS(['i'] = in, ['o'] = out, ['t'] = time), e, "%s", prefix))
        return false;
    if ((in != out) != (r->shortcut.w.at != NULL))
        return fail(e, "%s: %sconv_shortcut.weight: %s, with %d channels in and %d out",
                    w->path, prefix, in != out ? "missing" : "not expected", in, out);
    if ((time != 0) != (r->time.w.at != NULL))
        return fail(e, "%s: %stime_emb_proj.weight: %s", w->path, prefix,
                    time ? "missing" : "not expected in a VAE");
    return true;
}

static bool transformer_bind(LdmTransformer *t, Weights *w, int width, int context,
                             const char *prefix, Error *e)
{
    static const Bind table[] = {
        NORM(LdmTransformer, norm, "norm", "c"),
        WEIGHT(LdmTransformer, proj_in, "proj_in", "cc|cc11", "c", 0),
        WEIGHT(LdmTransformer, proj_out, "proj_out", "cc|cc11", "c", 0),
        { 0 } };
    if (width % t->heads)
        return fail(e, "%s: %sheads: found %d, want a divisor of the width %d", w->path, prefix,
                    t->heads, width);
    t->block = calloc((size_t)t->depth, sizeof *t->block);
    if (!t->block) return fail(e, "out of memory: needed room for %d transformer blocks", t->depth);
    Dims dims = DIMS(['c'] = width, ['x'] = context, ['g'] = 4 * width, ['h'] = 8 * width);
    if (!bind(w, t, table, dims, e, "%s", prefix)) return false;
    for (int i = 0; i < t->depth; i++)
        if (!bind(w, &t->block[i], block_table, dims, e, "%stransformer_blocks.%d.", prefix, i))
            return false;
    return true;
}

/* Room for the layers of a level. */
static bool level_room(LdmLevel *l, bool attends, Error *e)
{
    l->resnet = calloc((size_t)l->layers, sizeof *l->resnet);
    if (attends) l->transformer = calloc((size_t)l->layers, sizeof *l->transformer);
    return (l->resnet && (l->transformer || !attends))
        || fail(e, "out of memory: needed room for %d layers", l->layers);
}

static bool resize_bind(LdmLevel *l, Weights *w, const char *prefix, Error *e)
{
    static const Bind table[] = { WEIGHT(LdmLevel, resize, "conv", "cc33", "c", 0), { 0 } };
    return bind(w, l, table, DIMS(['c'] = l->width), e, "%s", prefix);
}

static void level_close(LdmLevel *l)
{
    for (int j = 0; j < l->layers && l->transformer; j++) free(l->transformer[j].block);
    free(l->resnet);
    free(l->transformer);
}

/* ---- opening the UNet ------------------------------------------------------------------------ */

/* What of config.json is only needed to bind. */
typedef struct {
    int width[LEVELS], heads[LEVELS], depth[LEVELS], layers[LEVELS], context[LEVELS];
    bool down[LEVELS], up[LEVELS];
} UnetPlan;

/* class_embed_type: simple_projection is AudioLDM's, whose text comes as a class. */
static bool read_class(Unet *u, const Json *config, const char *where, Error *e)
{
    const char *kind = NULL;
    if (!json_string(config, "class_embed_type", &kind, where, e)
        || !json_bool(config, "class_embeddings_concat", &u->class_concat, where, e)) return false;
    if (!kind && u->class_concat)
        return fail(e, "%s: class_embeddings_concat: found true, want class_embed_type "
                    "simple_projection beside it", where);
    if (kind && !json_int(config, "projection_class_embeddings_input_dim", 1, 1 << 16,
                          &u->class_width, where, e)) return false;
    return !kind || u->class_width
        || fail(e, "%s: projection_class_embeddings_input_dim: missing, want the width of the "
                "class", where);
}

/* cross_attention_dim: one width of text for all levels.  With a class there is no text, attn2 sees
 * its own input: then every level's own width, or null. */
static bool read_context(Unet *u, UnetPlan *p, const Json *config, const char *where, Error *e)
{
    const Json *value = json_get(config, "cross_attention_dim");
    for (int i = 0; i < u->levels; i++)
        p->context[i] = u->class_width && value && value->type == JSON_NULL ? p->width[i] : 1280;
    if (!level_ints(config, "cross_attention_dim", u->levels, 1, 1 << 16, p->context, where, e))
        return false;
    for (int i = 0; i < u->levels; i++) {
        const int last = u->levels - 1;
        const bool attends = p->down[i] || p->up[last - i] || (i == last && u->has_middle);
        const int want = u->class_width ? p->width[i] : p->context[0];
        if (attends && p->context[i] != want)
            return fail(e, "%s: cross_attention_dim: found %d for level %d, want %d: %s", where,
                        p->context[i], i, want, u->class_width
                        ? "without a text a level attends to itself" : "all levels see one text");
    }
    u->context = u->class_width ? 0 : p->context[0];
    return true;
}

static bool unet_read(Unet *u, UnetPlan *p, const Json *config, const char *where, Error *e)
{
    static const char *const down[] = { "DownBlock2D", "CrossAttnDownBlock2D" };
    static const char *const up[] = { "UpBlock2D", "CrossAttnUpBlock2D" };
    const char *middle = "UNetMidBlock2DCrossAttn";
    double eps = 1e-5;
    *p = (UnetPlan){ .heads = { 8, 8, 8, 8, 8, 8, 8, 8 }, .depth = { 1, 1, 1, 1, 1, 1, 1, 1 },
                     .layers = { 2, 2, 2, 2, 2, 2, 2, 2 } };
    u->in = u->out = 4;
    u->size = 64;
    u->groups = 32;
    u->flip_sin_to_cos = true;
    if (!json_is(json_get(config, "_class_name"), "UNet2DConditionModel"))
        return fail(e, "%s: _class_name: want UNet2DConditionModel; this folder holds another "
                    "model", where);
    if (!all_fixed(config, unet_fixed, countof(unet_fixed), where, e)
        || !json_int(config, "norm_num_groups", 1, 1 << 14, &u->groups, where, e)
        || !read_widths(config, u->groups, &u->levels, p->width, where, e)
        || !read_kinds(config, "down_block_types", u->levels, down, p->down, where, e)
        || !read_kinds(config, "up_block_types", u->levels, up, p->up, where, e)
        || !level_ints(config, "attention_head_dim", u->levels, 1, 1 << 14, p->heads, where, e)
        || !level_ints(config, "transformer_layers_per_block", u->levels, 1, 64, p->depth, where, e)
        || !level_ints(config, "layers_per_block", u->levels, 1, 12, p->layers, where, e)
        || !json_int(config, "sample_size", 1, 1024, &u->size, where, e)
        || !json_int(config, "in_channels", 1, 1 << 14, &u->in, where, e)
        || !json_int(config, "out_channels", 1, 1 << 14, &u->out, where, e)
        || !read_class(u, config, where, e)
        || !json_int(config, "time_cond_proj_dim", 4, 1 << 16, &u->guidance_width, where, e)
        || !json_float(config, "norm_eps", 0, 1, &eps, where, e)
        || !json_float(config, "freq_shift", 0, p->width[0] / 2.0 - 0.5, &u->freq_shift, where, e)
        || !json_bool(config, "flip_sin_to_cos", &u->flip_sin_to_cos, where, e)) return false;
    const Json *kind = json_get(config, "mid_block_type");
    u->has_middle = !kind || kind->type != JSON_NULL;
    if (u->has_middle && !json_string(config, "mid_block_type", &middle, where, e)) return false;
    if (strcmp(middle, "UNetMidBlock2DCrossAttn"))
        return fail(e, "%s: mid_block_type: found %s, want UNetMidBlock2DCrossAttn or null", where,
                    middle);
    u->eps = (float)eps;
    u->time_width = 4 * p->width[0];
    return json_int(config, "time_embedding_dim", 1, 1 << 16, &u->time_width, where, e)
        && read_context(u, p, config, where, e);
}

/* Width of what the resnets' time_emb_proj reads. */
static int embedding_width(const Unet *u)
{
    return u->class_concat ? 2 * u->time_width : u->time_width;
}

/* One level of the way down, or of the way up (its i then counts from the smallest pictures). */
static bool unet_level(Unet *u, const UnetPlan *p, int i, bool up, Error *e)
{
    const int last = u->levels - 1,
              at = up ? last - i : i;                 /* the level's place in the config's lists */
    LdmLevel *l = up ? &u->up[i] : &u->down[i];
    const bool attends = up ? p->up[i] : p->down[i];
    int in = up ? p->width[at == last ? last : at + 1] : p->width[at ? at - 1 : 0];
    char prefix[96];
    l->layers = p->layers[at] + up;
    l->width = p->width[at];
    if (!level_room(l, attends, e)) return false;
    for (int j = 0; j < l->layers; j++, in = l->width) {
        const int skip = !up ? 0 : j + 1 < l->layers ? l->width : p->width[at ? at - 1 : 0];
        snprintf(prefix, sizeof prefix, "%s_blocks.%d.resnets.%d.", up ? "up" : "down", i, j);
        if (!resnet_bind(&l->resnet[j], &u->weights, in + skip, l->width, embedding_width(u),
                         prefix, e)) return false;
        if (!attends) continue;
        l->transformer[j] = (LdmTransformer){ .heads = p->heads[at], .depth = p->depth[at] };
        snprintf(prefix, sizeof prefix, "%s_blocks.%d.attentions.%d.", up ? "up" : "down", i, j);
        if (!transformer_bind(&l->transformer[j], &u->weights, l->width, p->context[at], prefix, e))
            return false;
    }
    if (i == last) return true;
    snprintf(prefix, sizeof prefix,
             up ? "up_blocks.%d.upsamplers.0." : "down_blocks.%d.downsamplers.0.", i);
    return resize_bind(l, &u->weights, prefix, e);
}

static bool unet_bind(Unet *u, const UnetPlan *p, Error *e)
{
    static const Bind table[] = {                     /* c first width, t time, i in, o out */
        WEIGHT(Unet, time1, "time_embedding.linear_1", "tc", "t", 0),
        WEIGHT(Unet, time2, "time_embedding.linear_2", "tt", "t", 0),
        WEIGHT(Unet, conv_in, "conv_in", "ci33", "c", 0),
        NORM(Unet, norm_out, "conv_norm_out", "c"),
        WEIGHT(Unet, conv_out, "conv_out", "oc33", "o", 0),
        { 0 } };
    static const Bind class_table[] = {                                 /* k class */
        WEIGHT(Unet, class, "class_embedding", "tk", "t", 0), { 0 } };
    static const Bind guide_table[] = {                                 /* g guidance */
        { F(Unet, guide.w), "time_embedding.cond_proj.weight", "cg", 0 }, { 0 } };
    const int last = u->levels - 1, wide = p->width[last];
    Dims dims = DIMS(['c'] = p->width[0], ['t'] = u->time_width, ['i'] = u->in, ['o'] = u->out,
                     ['k'] = u->class_width, ['g'] = u->guidance_width);
    if (!bind(&u->weights, u, table, dims, e, "%s", "")
        || (u->class_width && !bind(&u->weights, u, class_table, dims, e, "%s", ""))
        || (u->guidance_width && !bind(&u->weights, u, guide_table, dims, e, "%s", "")))
        return false;
    for (int i = 0; i < u->levels; i++)
        if (!unet_level(u, p, i, false, e) || !unet_level(u, p, i, true, e)) return false;
    if (!u->has_middle) return true;
    u->middle_transformer = (LdmTransformer){ .heads = p->heads[last], .depth = p->depth[last] };
    return resnet_bind(&u->middle[0], &u->weights, wide, wide, embedding_width(u),
                       "mid_block.resnets.0.", e)
        && resnet_bind(&u->middle[1], &u->weights, wide, wide, embedding_width(u),
                       "mid_block.resnets.1.", e)
        && transformer_bind(&u->middle_transformer, &u->weights, wide, p->context[last],
                            "mid_block.attentions.0.", e);
}

bool unet_open(Unet *u, const char *folder, Error *e)
{
    *u = (Unet){ 0 };
    UnetPlan plan;
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && unet_read(u, &plan, config, path, e)
        && weights_open(&u->weights, folder, "diffusion_pytorch_model|model", e)
        && unet_bind(u, &plan, e);
    json_free(config);
    free(path);
    if (!ok) unet_close(u);
    return ok;
}

bool unet_open_as(Unet *u, Weights *w, const Json *config, const char *where, Error *e)
{
    UnetPlan plan;
    *u = (Unet){ .weights = *w };
    *w = (Weights){ 0 };
    const bool ok = unet_read(u, &plan, config, where, e) && unet_bind(u, &plan, e);
    if (!ok) unet_close(u);
    return ok;
}

void unet_close(Unet *u)
{
    for (int i = 0; i < u->levels; i++) { level_close(&u->down[i]); level_close(&u->up[i]); }
    free(u->middle_transformer.block);
    weights_close(&u->weights);
    *u = (Unet){ 0 };
}

/* ---- opening the VAE ------------------------------------------------------------------------- */

static const Bind vae_attention_table[] = {                 /* names of old files behind the bars */
    NORM(VaeAttention, norm, "group_norm", "c"),
    { F(VaeAttention, q.w),   "to_q.weight|query.weight",         "cc|cc11", 0 },
    { F(VaeAttention, q.b),   "to_q.bias|query.bias",             "c",       0 },
    { F(VaeAttention, k.w),   "to_k.weight|key.weight",           "cc|cc11", 0 },
    { F(VaeAttention, k.b),   "to_k.bias|key.bias",               "c",       0 },
    { F(VaeAttention, v.w),   "to_v.weight|value.weight",         "cc|cc11", 0 },
    { F(VaeAttention, v.b),   "to_v.bias|value.bias",             "c",       0 },
    { F(VaeAttention, out.w), "to_out.0.weight|proj_attn.weight", "cc|cc11", 0 },
    { F(VaeAttention, out.b), "to_out.0.bias|proj_attn.bias",     "c",       0 },
    { 0 } };

static bool tiny_read(Vae *v, const Json *config, const char *where, Error *e)
{
    v->scaling = 1;
    v->tiny = calloc(1, sizeof *v->tiny);
    if (!v->tiny) return fail(e, "%s: out of memory", where);
    if (!json_int(config, "in_channels", 1, 1024, &v->pixels, where, e)
        || !json_int(config, "latent_channels", 1, 1024, &v->latents, where, e)
        || !json_float(config, "scaling_factor", 1e-9, 1e9, &v->scaling, where, e)
        || !taesd_read(v->tiny, config, where, e)) return false;
    v->factor = 1 << (v->tiny->levels - 1);
    return true;
}

static bool vae_read(Vae *v, int width[LEVELS], int *layers, const Json *config, const char *where,
                     Error *e)
{
    static const char *const down[] = { "DownEncoderBlock2D", NULL },
                      *const up[] = { "UpDecoderBlock2D", NULL };
    bool attends[LEVELS];
    v->pixels = 3;
    v->latents = 4;
    v->groups = 32;
    v->scaling = 0.18215;
    v->has_attention = true;
    *layers = 1;
    if (json_is(json_get(config, "_class_name"), "AutoencoderTiny"))
        return tiny_read(v, config, where, e);
    if (!json_is(json_get(config, "_class_name"), "AutoencoderKL"))
        return fail(e, "%s: _class_name: want AutoencoderKL or AutoencoderTiny; this folder holds "
                    "another model", where);
    if (!all_fixed(config, vae_fixed, countof(vae_fixed), where, e)
        || !json_int(config, "norm_num_groups", 1, 1 << 14, &v->groups, where, e)
        || !read_widths(config, v->groups, &v->levels, width, where, e)
        || !read_kinds(config, "down_block_types", v->levels, down, attends, where, e)
        || !read_kinds(config, "up_block_types", v->levels, up, attends, where, e)
        || !json_int(config, "layers_per_block", 1, 12, layers, where, e)
        || !json_int(config, "in_channels", 1, 1024, &v->pixels, where, e)
        || !json_int(config, "latent_channels", 1, 1024, &v->latents, where, e)
        || !json_float(config, "scaling_factor", 1e-9, 1e9, &v->scaling, where, e)
        || !json_bool(config, "mid_block_add_attention", &v->has_attention, where, e)) return false;
    v->factor = 1 << (v->levels - 1);
    return true;
}

/* The encoder, or the decoder with its levels from the smallest up and one resnet more a level. */
static bool vae_half(Vae *v, bool decoder, const int width[LEVELS], int layers, Error *e)
{
    static const Bind table[] = {                     /* i in, f first width, l last width, o out */
        WEIGHT(VaeHalf, conv_in, "conv_in", "fi33", "f", 0),
        NORM(VaeHalf, norm_out, "conv_norm_out", "l"),
        WEIGHT(VaeHalf, conv_out, "conv_out", "ol33", "o", 0),
        { 0 } };
    VaeHalf *half = decoder ? &v->decoder : &v->encoder;
    const char *name = decoder ? "decoder" : "encoder", *way = decoder ? "up" : "down";
    const int n = v->levels, wide = width[n - 1];
    char prefix[96];
    int in = width[decoder ? n - 1 : 0];
    Dims dims = DIMS(['i'] = decoder ? v->latents : v->pixels, ['f'] = in,
                     ['l'] = width[decoder ? 0 : n - 1],
                     ['o'] = decoder ? v->pixels : 2 * v->latents);
    if (!bind(&v->weights, half, table, dims, e, "%s.", name)) return false;
    for (int i = 0; i < n; i++) {
        LdmLevel *l = &half->level[i];
        l->layers = layers + decoder;
        l->width = width[decoder ? n - 1 - i : i];
        if (!level_room(l, false, e)) return false;
        for (int j = 0; j < l->layers; j++, in = l->width) {
            snprintf(prefix, sizeof prefix, "%s.%s_blocks.%d.resnets.%d.", name, way, i, j);
            if (!resnet_bind(&l->resnet[j], &v->weights, in, l->width, 0, prefix, e)) return false;
        }
        snprintf(prefix, sizeof prefix, "%s.%s_blocks.%d.%ssamplers.0.", name, way, i, way);
        if (i + 1 < n && !resize_bind(l, &v->weights, prefix, e)) return false;
    }
    for (int i = 0; i < 2; i++) {
        snprintf(prefix, sizeof prefix, "%s.mid_block.resnets.%d.", name, i);
        if (!resnet_bind(&half->middle[i], &v->weights, wide, wide, 0, prefix, e)) return false;
    }
    return !v->has_attention
        || bind(&v->weights, &half->attention, vae_attention_table, DIMS(['c'] = wide), e,
                "%s.mid_block.attentions.0.", name);
}

static bool vae_bind(Vae *v, const int width[LEVELS], int layers, Error *e)
{
    static const Bind table[] = {                     /* z latents, m moments */
        WEIGHT(Vae, quant, "quant_conv", "mm11", "m", OPTIONAL),
        WEIGHT(Vae, post_quant, "post_quant_conv", "zz11", "z", OPTIONAL),
        { 0 } };
    if (v->tiny) return taesd_bind(v->tiny, &v->weights, v->pixels, v->latents, e);
    return bind(&v->weights, v, table, DIMS(['z'] = v->latents, ['m'] = 2 * v->latents), e, "%s",
                "")
        && vae_half(v, false, width, layers, e) && vae_half(v, true, width, layers, e);
}

bool vae_open(Vae *v, const char *folder, Error *e)
{
    *v = (Vae){ 0 };
    int width[LEVELS], layers;
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && vae_read(v, width, &layers, config, path, e)
        && weights_open(&v->weights, folder, "diffusion_pytorch_model|model", e)
        && vae_bind(v, width, layers, e);
    json_free(config);
    free(path);
    if (!ok) vae_close(v);
    return ok;
}

bool vae_open_as(Vae *v, Weights *w, const Json *config, const char *where, Error *e)
{
    int width[LEVELS], layers;
    *v = (Vae){ .weights = *w };
    *w = (Weights){ 0 };
    const bool ok = vae_read(v, width, &layers, config, where, e) && vae_bind(v, width, layers, e);
    if (!ok) vae_close(v);
    return ok;
}

void vae_close(Vae *v)
{
    for (int i = 0; i < v->levels; i++) {
        level_close(&v->encoder.level[i]);
        level_close(&v->decoder.level[i]);
    }
    if (v->tiny) taesd_close(v->tiny);
    free(v->tiny);
    weights_close(&v->weights);
    *v = (Vae){ 0 };
}
