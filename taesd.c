/* taesd.c - the tiny autoencoder.
 * Read in this order: the block, the two ways, what is read and bound. */
#include "taesd.h"

#include <stdlib.h>

/* ---- the two ways ---------------------------------------------------------------------------- */

/* x = relu(conv(relu(conv(relu(conv(x))))) + x), in place           AutoencoderTinyBlock.forward */
static void tiny_block(Arena *m, const TinyBlock *w, Tensor x)
{
    const size_t top = m->used;
    Tensor h = conv2d(m, x, &w->conv1, SAME3);                                 /* [B,H,W,C] */
    act_(h, RELU);
    h = conv2d(m, h, &w->conv2, SAME3);
    act_(h, RELU);
    conv2d_into(m, x, h, &w->conv3, SAME3);
    act_(x, RELU);
    m->used = top;
}

/* The blocks of a level; *layer: the place of the first among the reference's layers. */
static void tiny_blocks(Arena *m, const TinyLevel *w, Tensor x, int *layer)
{
    for (int i = 0; i < w->blocks; i++) {
        tiny_block(m, &w->block[i], x);
        trace(x, "layers.%d", (*layer)++);
    }
}

/* layers(x.add(1).div(2))                                                   EncoderTiny.forward */
Tensor taesd_encode(Arena *m, const Taesd *t, Tensor x)
{
    const size_t top = m->used;
    const Window half = { .stride = 2, .before = 1, .after = 1 };
    int layer = 0;
    x = copy(m, x);
    affine_(x, 1, 1, 2);
    trace_enter("encoder");
    for (int i = 0; i < t->levels; i++) {
        const TinyLevel *level = &t->encoder.level[i];
        x = keep(m, top, conv2d(m, x, &level->conv, i ? half : SAME3));        /* [B,H/2,W/2,C] */
        trace(x, "layers.%d", layer++);
        tiny_blocks(m, level, x, &layer);
    }
    x = keep(m, top, conv2d(m, x, &t->encoder.edge, SAME3));                   /* [B,h,w,latents] */
    trace(x, "layers.%d", layer);
    trace_leave();
    return x;
}

/* layers(tanh(x / 3) * 3).mul(2).sub(1)                                     DecoderTiny.forward */
Tensor taesd_decode(Arena *m, const Taesd *t, Tensor z)
{
    const size_t top = m->used;
    int layer = 2;                                     /* the ReLU is the reference's layers.1 */
    Tensor x = copy(m, z);
    affine_(x, 0, 1, 3);
    act_(x, TANH);
    affine_(x, 0, 3, 1);
    trace_enter("decoder");
    x = keep(m, top, conv2d(m, x, &t->decoder.edge, SAME3));                   /* [B,h,w,C] */
    trace(x, "layers.0");
    act_(x, RELU);
    for (int i = 0; i < t->levels; i++) {
        const TinyLevel *level = &t->decoder.level[i];
        const bool last = i + 1 == t->levels;
        const Window twice = { .stride = 1, .before = 1, .after = 1, .h = 2 * x.h, .w = 2 * x.w };
        tiny_blocks(m, level, x, &layer);
        layer += !last;                                /* Upsample */
        x = keep(m, top, conv2d(m, x, &level->conv, last ? SAME3 : twice));    /* [B,2h,2w,C] */
        trace(x, "layers.%d", layer++);
    }
    trace_leave();
    affine_(x, -0.5f, 2, 1);
    return x;
}

/* ---- what is read and bound ------------------------------------------------------------------ */

/* A list of whole numbers in low..high, one a level; absent: out keeps its values. */
static bool read_list(const Json *config, const char *key, int levels, int low, int high,
                      int out[TINY_LEVELS], const char *where, Error *e)
{
    double list[TINY_LEVELS];
    for (int i = 0; i < levels; i++) list[i] = out[i];
    if (!json_floats(config, key, levels, low, high, list, where, e)) return false;
    for (int i = 0; i < levels; i++) {
        out[i] = (int)list[i];
        if (out[i] != list[i])
            return fail(e, "%s: %s: found %g, want whole numbers", where, key, list[i]);
    }
    return true;
}

static bool read_half(TinyHalf *half, int levels, const Json *config, const char *blocks_key,
                      const char *width_key, const int standard[4], const char *where, Error *e)
{
    int blocks[TINY_LEVELS] = { 0 }, width[TINY_LEVELS] = { 64, 64, 64, 64 };
    memcpy(blocks, standard, 4 * sizeof *blocks);
    if (!read_list(config, blocks_key, levels, 1, 64, blocks, where, e)
        || !read_list(config, width_key, levels, 1, 1 << 14, width, where, e)) return false;
    half->width = width[0];
    for (int i = 0; i < levels; i++) {
        if (width[i] != width[0])
            return fail(e, "%s: %s: found %d and %d, want one width", where, width_key, width[0],
                        width[i]);
        half->level[i] = (TinyLevel){ blocks[i], calloc((size_t)blocks[i], sizeof(TinyBlock)),
                                      { { 0 }, { 0 } } };
        if (!half->level[i].block)
            return fail(e, "%s: out of memory: needed room for %d blocks", where, blocks[i]);
    }
    return true;
}

bool taesd_read(Taesd *t, const Json *config, const char *where, Error *e)
{
    static const int down[4] = { 1, 3, 3, 3 }, up[4] = { 3, 3, 3, 1 };
    const Json *list = json_get(config, "num_decoder_blocks");
    const char *act = "relu", *filter = "nearest";
    int factor = 2;
    t->levels = list && list->type == JSON_ARRAY ? list->count : 4;
    if (t->levels < 1 || t->levels > TINY_LEVELS)
        return fail(e, "%s: num_decoder_blocks: found a list of %d, want 1 to %d numbers", where,
                    t->levels, TINY_LEVELS);
    if (!json_string(config, "act_fn", &act, where, e)
        || !json_string(config, "upsample_fn", &filter, where, e)
        || !json_int(config, "upsampling_scaling_factor", 1, 64, &factor, where, e)) return false;
    if (strcmp(act, "relu") || strcmp(filter, "nearest") || factor != 2)
        return fail(e, "%s: act_fn, upsample_fn, upsampling_scaling_factor: found %s, %s, %d, this "
                    "program knows only relu, nearest, 2", where, act, filter, factor);
    return read_half(&t->encoder, t->levels, config, "num_encoder_blocks",
                     "encoder_block_out_channels", down, where, e)
        && read_half(&t->decoder, t->levels, config, "num_decoder_blocks",
                     "decoder_block_out_channels", up, where, e);
}

static bool conv_bind(Linear *l, Weights *w, int in, int out, bool bias, const char *half,
                      int layer, Error *e)
{
    static const Bind table[] = { { F(Linear, w), "weight", "oi33", 0 }, { 0 } },
                      bias_table[] = { { F(Linear, b), "bias", "o", 0 }, { 0 } };
    const Dims dims = DIMS(['i'] = in, ['o'] = out);
    return bind(w, l, table, dims, e, "%s.layers.%d.", half, layer)
        && (!bias || bind(w, l, bias_table, dims, e, "%s.layers.%d.", half, layer));
}

static bool blocks_bind(TinyLevel *l, Weights *w, int width, const char *half, int *layer, Error *e)
{
#define CONV(field, name) { F(TinyBlock, field.w), name ".weight", "cc33", 0 }, \
                          { F(TinyBlock, field.b), name ".bias", "c", 0 }
    static const Bind table[] = { CONV(conv1, "conv.0"), CONV(conv2, "conv.2"),
                                  CONV(conv3, "conv.4"), { 0 } };
#undef CONV
    for (int i = 0; i < l->blocks; i++)
        if (!bind(w, &l->block[i], table, DIMS(['c'] = width), e, "%s.layers.%d.", half,
                  (*layer)++)) return false;
    return true;
}

bool taesd_bind(Taesd *t, Weights *w, int pixels, int latents, Error *e)
{
    TinyHalf *down = &t->encoder, *up = &t->decoder;
    int layer = 0;
    for (int i = 0; i < t->levels; i++)
        if (!conv_bind(&down->level[i].conv, w, i ? down->width : pixels, down->width, !i,
                       "encoder", layer++, e)
            || !blocks_bind(&down->level[i], w, down->width, "encoder", &layer, e)) return false;
    if (!conv_bind(&down->edge, w, down->width, latents, true, "encoder", layer, e)
        || !conv_bind(&up->edge, w, latents, up->width, true, "decoder", 0, e)) return false;
    layer = 2;
    for (int i = 0; i < t->levels; i++) {
        const bool last = i + 1 == t->levels;
        if (!blocks_bind(&up->level[i], w, up->width, "decoder", &layer, e)) return false;
        layer += !last;
        if (!conv_bind(&up->level[i].conv, w, up->width, last ? pixels : up->width, last,
                       "decoder", layer++, e)) return false;
    }
    return true;
}

void taesd_close(Taesd *t)
{
    for (int i = 0; i < TINY_LEVELS; i++) {                /* levels may be what was refused */
        free(t->encoder.level[i].block);
        free(t->decoder.level[i].block);
    }
    *t = (Taesd){ 0 };
}
