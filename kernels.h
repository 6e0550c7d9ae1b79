/* kernels.h - what the kernels of kernels.cl are told; one text for them and for opencl.c.  A
 * `whole` has 64 bits on both sides; it counts floats from the beginning of a buffer, or values of
 * a weight.  Those come first, so that both sides agree where the rest lies. */

/* Y[row][out] of batch z = finish(sum over sources, chunks, taps and k of X * W), as Product and
 * Attention of device.h say it.  Batch z is item z / inners, part z % inners. */
typedef struct {
    whole x, tail, x_outer, x_inner, x_row, x_k, tail_row;
    whole w, w_outer, w_inner, w_out, w_k, b;
    whole y, y_outer, y_inner, y_row, r;
    int rows, outs, inners, depth, tail_depth, chunk, taps, kw;
    int stride, before, beside, dilation, above, wrap;            /* stride 0: rows as they lie */
    int in_h, in_w, h, w_, out_h, out_w;              /* stored; after resizing; made */
    int w_type, b_type, finish, act, added;
    float down, across, by;                 /* nearest neighbour; what w is multiplied with */
} Multiply;

enum { RAW, BIASED, GATED, SCALED };              /* finish; SCALED: times r[row] of the batch */
enum { ADD_NOTHING, ADD_SAME, ADD_ITEM, ADD_ALL };                 /* added */

/* Winograd's tiles from `first` on, `count` of them, outputs from `out` on, `outs` of them. */
typedef struct {
    whole x, w, b, y, r;
    int flat, first, count, across, down, planes, groups, per, c, out, outs, all;
    int taps, dilation, before, above, wrap, in_h, in_w, h, w_, out_h, out_w;
    int w_type, b_type, added;
    float stretch_down, stretch_across, slope;
} Tiles;

/* Scores [batch][key][query] to probabilities, not yet times inverse: those of query0 and behind of
 * n, batches from z0 on. */
typedef struct {
    whole bias, mask;
    int keys, queries, query0, n, z0, heads, masks, has_bias, causal;
} Softmax;
