/* kernels.cl - the operations of tensor.h on a device.  Every output is the same sum in the same
 * order as there: chunks start at zero and add in order, multiply-adds are fused where kernel.h
 * fuses, nothing else is.  The Makefile puts the included files in and makes a text of it for
 * opencl.c, which defines what belongs to tensor.h and device.h: Act's and Weight.type's names, and
 * the lengths of sums. */
#pragma OPENCL FP_CONTRACT OFF
#ifdef HAS_DOUBLE
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
typedef double real;
#else
typedef float real;
#endif
typedef long whole;
typedef int Act;
#include "kernels.h"

/* The vocabulary of lanes.h: one float. */
#define KER(name) lane_##name
#define ALWAYS static inline
#define UNROLL
#define V float
#define U uint
#define vfma(a, b, c) fma(a, b, c)
#define vdup(x) (x)
#define vbits(x) as_uint(x)
#define vvalue(u) as_float(u)
#define vgreater(a, b) ((a) > (b) ? 0xffffffffu : 0u)
#define vselect(mask, a, b) vvalue((vbits(a) & (mask)) | (vbits(b) & ~(mask)))
#define vmax(a, b) ((a) > (b) ? (a) : (b))
#include "lanes.h"

/* Value i of a weight as stored. */
static inline float value(int type, global const uchar *w, whole i)
{
    if (type == F16) return vload_half((size_t)i, (global const half *)w);
    if (type == BF16) return as_float((uint)((global const ushort *)w)[i] << 16);
    return ((global const float *)w)[i];
}

/* torch's nearest neighbour: place i of a picture resized from `from`, by = from / to. */
static inline int nearest(int i, float by, int from, int to)
{
    return from == to ? i : min((int)((float)i * by), from - 1);
}

static inline int around(int i, int n) { i %= n; return i < 0 ? i + n : i; }

/* ---- products -------------------------------------------------------------------------------- */

enum { TILE = 64, DEEP = 16, EACH = 4 };          /* 16 x 16 items make a tile, each 4 x 4 of it */

/* The row that output row `row` of z reads for a tap, in positions of the input; -1: zeros. */
whole source_row(const Multiply *a, int row, int tap)
{
    if (!a->stride) return row;
    const int b = row / (a->out_h * a->out_w), rest = row % (a->out_h * a->out_w);
    int y = (rest / a->out_w + a->above) * a->stride + tap / a->kw * a->dilation - a->before;
    int x = rest % a->out_w * a->stride + tap % a->kw * a->dilation - a->beside;
    if (a->wrap) { y = around(y, a->h); x = around(x, a->w_); }
    if (y < 0 || y >= a->h || x < 0 || x >= a->w_) return -1;
    return ((whole)b * a->in_h + nearest(y, a->down, a->in_h, a->h)) * a->in_w
         + nearest(x, a->across, a->in_w, a->w_);
}

/* y = r + act(sum + bias) and its relatives, for one output. */
void finish_one(const Multiply *a, int z, int row, int out, float sum, float gate,
                global const uchar *b, global const float *r, global float *y)
{
    const whole at = a->y + z / a->inners * a->y_outer + z % a->inners * a->y_inner
                   + row * a->y_row + out;
    if (a->finish == BIASED || a->finish == GATED)
        sum = sum + (a->b < 0 ? 0.0f : value(a->b_type, b, a->b + out));
    if (a->finish == GATED)
        sum = sum * KER(gelu)(gate + (a->b < 0 ? 0.0f : value(a->b_type, b, a->b + a->outs + out)));
    if (a->finish == BIASED) sum = KER(apply)(sum, a->act);
    if (a->finish == SCALED) sum = sum * r[a->r + (whole)z * a->rows + row];
    const whole from = a->added == ADD_SAME ? row
        : a->added == ADD_ITEM ? row / (a->out_h * a->out_w) : 0;
    if (a->added != ADD_NOTHING) sum = r[a->r + from * a->outs + out] + sum;
    y[at] = sum;
}

kernel __attribute__((reqd_work_group_size(16, 16, 1)))
void multiply(const Multiply a, global const float *x, global const float *tail,
              global const uchar *w, global const uchar *b, global const float *r,
              global float *y)
{
    local float xs[DEEP][TILE + 1], ws[DEEP][TILE + 1];
    const int i = get_local_id(1), j = get_local_id(0), me = 16 * i + j, z = get_group_id(2);
    const int wide = a.finish == GATED ? TILE / 2 : TILE;       /* behind half a tile its gates */
    const int row0 = get_group_id(1) * TILE, out0 = get_group_id(0) * wide;
    const int mine = me / DEEP, k = me % DEEP;                  /* what this item brings */
    const whole item = z / a.inners, part = z % a.inners;
    float total[EACH][EACH], sum[EACH][EACH];
    whole at[EACH], weight[EACH];
    bool first = true;
    for (int q = 0; q < EACH; q++) {
        const int column = mine + q * 16;
        const int out = out0 + column % wide;
        weight[q] = out >= a.outs ? -1 : a.w + item * a.w_outer + part * a.w_inner
            + (column < wide ? out : a.outs + out) * a.w_out;
    }
    for (int s = 0; s < 2; s++) {
        const int depth = s ? a.tail_depth : a.depth, before = s ? a.depth : 0;
        global const float *from = s ? tail + a.tail
            : x + a.x + item * a.x_outer + part * a.x_inner;
        for (int chunk = 0; chunk < depth; chunk += a.chunk)
            for (int tap = 0; tap < a.taps; tap++) {
                for (int q = 0; q < EACH; q++) {
                    const int row = row0 + mine + q * 16;
                    const whole place = row < a.rows ? source_row(&a, row, tap) : -1;
                    at[q] = place < 0 ? -1 : place * (s ? a.tail_row : a.x_row);
                    for (int p = 0; p < EACH; p++) sum[q][p] = 0.0f;
                }
                const int end = min(chunk + a.chunk, depth);
                for (int k0 = chunk; k0 < end; k0 += DEEP) {
                    const int n = min((int)DEEP, end - k0);
                    barrier(CLK_LOCAL_MEM_FENCE);
                    for (int q = 0; q < EACH && k < n; q++) {
                        xs[k][mine + q * 16] = at[q] < 0 ? 0.0f : from[at[q] + (k0 + k) * a.x_k];
                        ws[k][mine + q * 16] = weight[q] < 0 ? 0.0f : a.by
                            * value(a.w_type, w, weight[q] + (before + k0 + k) * a.w_k + tap);
                    }
                    barrier(CLK_LOCAL_MEM_FENCE);
                    for (int l = 0; l < n; l++)
                        for (int q = 0; q < EACH; q++)
                            for (int p = 0; p < EACH; p++)
                                sum[q][p] = fma(xs[l][i + q * 16], ws[l][j + p * 16], sum[q][p]);
                }
                for (int q = 0; q < EACH; q++)
                    for (int p = 0; p < EACH; p++)
                        total[q][p] = first ? sum[q][p] : total[q][p] + sum[q][p];
                first = false;
            }
    }
    for (int q = 0; q < EACH; q++)
        for (int p = 0; p < wide / 16; p++) {
            const int row = row0 + i + q * 16, out = out0 + j + p * 16;
            if (row < a.rows && out < a.outs)
                finish_one(&a, z, row, out, total[q][p], total[q][(p + 2) % EACH], b, r, y);
        }
}

/* w = W + scale * up down, value by value; per: values of a row, w's type that of `from`. */
kernel void change(global const uchar *from, whole at, int type, global const uchar *up,
                   int up_type, global const uchar *down, int down_type, int rank, float scale,
                   whole per, global float *to, whole to_at)
{
    const whole v = get_global_id(0), out = get_global_id(1);
    float w = value(type, from, at + out * per + v);
    for (int r = 0; r < rank; r += LORA_RANKS) {
        float sum = 0.0f;
        for (int q = r; q < min(rank, r + LORA_RANKS); q++)
            sum = fma(value(down_type, down, q * per + v),
                      value(up_type, up, out * rank + q) * scale, sum);
        w = w + sum;
    }
    to[to_at + out * per + v] = w;
}

/* ---- Winograd -------------------------------------------------------------------------------- */

/* Tile t: its item and its first output; of rows, tiles of one phase lie `across` apart. */
void tile_place(const Tiles *n, int t, int *b, int *y, int *x)
{
    const int per = n->across * n->down;
    *b = t / per;
    *y = t % per / n->across * 4;
    *x = t % n->across * 4;
    if (!n->flat) {
        *y = *y * n->across + *x / 4;
        *x = 0;
    }
}

/* Where the sum over k finds channel c of group g. */
static inline whole deep(const Tiles *n, int g, int c)
{
    return (whole)(c / n->per) * n->per * n->groups + g * n->per + c % n->per;
}

kernel void tiles_in(const Tiles n, global const float *x, global float *v)
{
    const int c = get_global_id(0), t = get_global_id(1), side = n.flat ? 6 : 1;
    const whole depth = (whole)n.c * n.groups, plane = depth * n.count;
    int b, y0, x0;
    tile_place(&n, n.first + t, &b, &y0, &x0);
    for (int g = 0; g < n.groups; g++) {
        float d[36];
        for (int i = 0; i < n.planes; i++) {
            int y = y0 + n.above + (3 * g + i / side) * n.dilation - n.before;
            int xx = n.flat ? x0 + i % side - 1 : 0;
            if (n.wrap) { y = around(y, n.h); xx = around(xx, n.w_); }
            const bool inside = y >= 0 && y < n.h && xx >= 0 && xx < n.w_;
            d[i] = !inside ? 0.0f
                : x[n.x + (((whole)b * n.in_h + nearest(y, n.stretch_down, n.in_h, n.h)) * n.in_w
                           + nearest(xx, n.stretch_across, n.in_w, n.w_)) * n.c + c];
            if (!n.flat) d[i] = d[i] > 0.0f ? d[i] : d[i] * n.slope;
        }
        if (n.flat) {
            for (int i = 0; i < 6; i++) KER(wino_b)(d + i, 6);
            for (int i = 0; i < 6; i++) KER(wino_b)(d + 6 * i, 1);
        } else
            KER(wino_b)(d, 1);
        for (int i = 0; i < n.planes; i++) v[i * plane + t * depth + deep(&n, g, c)] = d[i];
    }
}

kernel void tiles_weights(const Tiles n, global const uchar *w, global float *u, whole u_at)
{
    const int c = get_global_id(0), o = get_global_id(1);
    const whole depth = (whole)n.c * n.groups, plane = depth * n.outs;
    const whole at = n.w + ((whole)(n.out + o) * n.c + c) * n.taps;
    float g[9], t[18], r[6];
    for (int group = 0; group < n.groups; group++) {
        for (int i = 0; i < 9; i++)
            g[i] = 3 * group + i < n.taps && (n.flat || i < 3)
                ? value(n.w_type, w, at + 3 * group + i) : 0.0f;
        global float *to = u + u_at + o * depth + deep(&n, group, c);
        if (!n.flat) {
            KER(wino_g)(g[0], g[1], g[2], r, 1);
            for (int i = 0; i < 6; i++) to[i * plane] = r[i];
            continue;
        }
        for (int i = 0; i < 3; i++) KER(wino_g)(g[i], g[3 + i], g[6 + i], t + i, 3);
        for (int y = 0; y < 6; y++) {
            KER(wino_g)(t[3 * y], t[3 * y + 1], t[3 * y + 2], r, 1);
            for (int i = 0; i < 6; i++) to[(6 * y + i) * plane] = r[i];
        }
    }
}

kernel void tiles_out(const Tiles n, global const float *m, whole m_at, global const uchar *b,
                      global const float *r, global float *y)
{
    const int o = get_global_id(0), t = get_global_id(1), out = n.out + o;
    const whole plane = (whole)n.outs * n.count;
    const float bias = n.b < 0 ? 0.0f : value(n.b_type, b, n.b + out);
    float d[36], half_way[24], sum[16];
    int item, y0, x0;
    tile_place(&n, n.first + t, &item, &y0, &x0);
    for (int i = 0; i < n.planes; i++) d[i] = m[m_at + i * plane + (whole)t * n.outs + o];
    if (n.flat) {
        for (int i = 0; i < 6; i++) KER(wino_a)(d + i, 6, half_way + i, 6);
        for (int i = 0; i < 4; i++) KER(wino_a)(half_way + 6 * i, 1, sum + 4 * i, 1);
    } else
        KER(wino_a)(d, 1, sum, 1);
    for (int i = 0; i < (n.flat ? 16 : 4); i++) {
        const int iy = n.flat ? y0 + i / 4 : y0 + i * n.across, ix = n.flat ? x0 + i % 4 : 0;
        if (iy >= n.out_h || ix >= n.out_w) continue;
        const whole at = (((whole)item * n.out_h + iy) * n.out_w + ix) * n.all + out;
        float s = sum[i] + bias;
        if (n.added != ADD_NOTHING)
            s = r[n.r + (n.added == ADD_SAME ? at
                         : n.added == ADD_ITEM ? (whole)item * n.all + out : out)] + s;
        y[n.y + at] = s;
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

kernel void softmax(const Softmax a, global const float *bias, global const float *mask,
                    global float *scores, global float *inverse, whole inverse_at)
{
    const int q = get_global_id(0), z = get_global_id(1), query = a.query0 + q;
    const int head = (a.z0 + z) % a.heads, item = (a.z0 + z) / a.heads;
    global float *s = scores + (whole)z * a.keys * a.queries + q;
    const whole at = ((whole)head * a.n + query) * a.keys;
    const whole masked = a.masks ? ((whole)(item % a.masks) * a.n + query) * a.keys : 0;
    float top = -INFINITY, total = 0.0f;
    for (int k = 0; k < a.keys; k++) {
        float x = s[(whole)k * a.queries];
        if (a.causal && k > query) x = -INFINITY;
        if (a.has_bias)
            x = x + (a.masks ? bias[a.bias + at + k] + mask[a.mask + masked + k]
                             : bias[a.bias + at + k]);
        s[(whole)k * a.queries] = x;
        top = k && !(x > top) ? top : x;
    }
    for (int k = 0; k < a.keys;) {
        float sum = 0.0f;
        for (int end = min(k + KEY_CHUNK, a.keys); k < end; k++) {
            const float x = KER(exp_to_88)(s[(whole)k * a.queries] - top);
            s[(whole)k * a.queries] = x;
            sum = sum + x;
        }
        total = total + sum;
    }
    inverse[inverse_at + (whole)z * a.queries + q] = 1.0f / total;
}

/* What a query saw, added up head by head: y[query][key]. */
kernel void look(global const float *scores, global const float *inverse, whole inverse_at,
                 int queries, int query0, int keys, int head, int heads, global float *y,
                 whole at)
{
    const int k = get_global_id(0), q = get_global_id(1);
    global float *to = y + at + (whole)(query0 + q) * keys + k;
    const float before = head ? *to : 0.0f;
    *to = before + scores[(whole)k * queries + q] * inverse[inverse_at + q] / (float)heads;
}

/* ---- norms ----------------------------------------------------------------------------------- */

/* Sixteen items a row: element i belongs to item i mod 16, then a tree. */
float lane_sum(global const float *x, int c, float from, int squares, local float *lanes)
{
    const int l = get_local_id(0);
    float sum = 0.0f;
    for (int i = l; i < c; i += 16) {
        const float d = x[i] - from;
        sum = squares ? fma(d, d, sum) : sum + d;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    lanes[l] = sum;
    for (int half_of = 8; half_of; half_of /= 2) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (l < half_of) lanes[l] = lanes[l] + lanes[l + half_of];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    return lanes[0];
}

kernel __attribute__((reqd_work_group_size(16, 1, 1)))
void layer_norm(global const float *x, whole x_at, global const uchar *w, whole w_at, int w_type,
                global const uchar *b, whole b_at, int b_type, int c, float eps,
                global float *y, whole y_at)
{
    local float lanes[16];
    const whole row = (whole)get_group_id(1) * c;
    global const float *from = x + x_at + row;
    const float mean = lane_sum(from, c, 0.0f, 0, lanes) / (float)c;
    const float var = lane_sum(from, c, mean, 1, lanes) / (float)c;
    const float scale = 1.0f / sqrt(var + eps);
    for (int i = get_local_id(0); i < c; i += 16) {
        const float weight = w_at < 0 ? 1.0f : value(w_type, w, w_at + i);
        const float bias = b_at < 0 ? 0.0f : value(b_type, b, b_at + i);
        y[y_at + row + i] = fma((from[i] - mean) * scale, weight, bias);
    }
}

/* Sums of one span of one channel of one item: of x - origin, and of its square, origin the item's
 * first position.  sums: [item][span][2][channels]; first, c: where this source's channels lie. */
kernel void group_sums(global const float *x, whole at, int c, int first, int all, int n,
                       global real *sums)
{
    const int i = get_global_id(0), span = get_global_id(1), b = get_global_id(2),
              spans = get_global_size(1), last = min(span * SPAN_ROWS + SPAN_ROWS, n);
    global const float *from = x + at + (whole)b * n * c + i;
    const float origin = *from;
    real sum = 0, square = 0;
    for (int r = span * SPAN_ROWS; r < last;) {
        float s = 0.0f, q = 0.0f;
        for (int end = min(r + SUM_ROWS, last); r < end; r++) {
            const float d = from[(whole)r * c] - origin;
            s = s + d;
            q = fma(d, d, q);
        }
        sum += s;
        square += q;
    }
    global real *to = sums + ((whole)b * spans + span) * 2 * all + first + i;
    to[0] = sum;
    to[all] = square;
}

/* From sums to y = x * scale + shift for one group of one item: [item][2][channels]. */
kernel void group_scale(global const real *sums, int spans, global const float *x, whole x_at,
                        global const float *tail, whole tail_at, int head, int all, int per, int n,
                        float eps, global const uchar *w, whole w_at, int w_type,
                        global const uchar *b, whole b_at, int b_type, global float *y, whole y_at)
{
    const int g = get_global_id(0) * per, item = get_global_id(1), tail_c = all - head;
    real mean = 0, spread = 0;
    for (int pass = 0; pass < 2; pass++)
        for (int i = g; i < g + per; i++) {
            const real origin = i < head ? x[x_at + (whole)item * n * head + i]
                                         : tail[tail_at + (whole)item * n * tail_c + (i - head)];
            real sum = 0, square = 0;
            for (int s = 0; s < spans; s++) {
                global const real *from = sums + ((whole)item * spans + s) * 2 * all + i;
                sum += from[0];
                square += from[all];
            }
            const real own = origin + sum / (real)n;
            if (!pass) mean += own / (real)per;
            else spread += square / (real)n - sum / (real)n * (sum / (real)n)
                         + (own - mean) * (own - mean);
        }
    const real inverse = 1 / sqrt(spread / (real)per + (real)eps);
    for (int i = g; i < g + per; i++) {
        const float weight = w_at < 0 ? 1.0f : value(w_type, w, w_at + i);
        const float bias = b_at < 0 ? 0.0f : value(b_type, b, b_at + i);
        global float *to = y + y_at + (whole)item * 2 * all + i;
        to[0] = (float)(weight * inverse);
        to[all] = (float)(bias - mean * inverse * weight);
    }
}

kernel void scale_rows(global const float *x, whole x_at, int c, int first, int all, int n,
                       global const float *scales, whole s_at, int act, global float *y,
                       whole y_at)
{
    const int i = get_global_id(0);
    const whole row = get_global_id(1), s = s_at + row / n * 2 * all + first + i;
    y[y_at + row * all + first + i] =
        KER(apply)(fma(x[x_at + row * c + i], scales[s], scales[s + all]), act);
}

/* ---- element by element ---------------------------------------------------------------------- */

kernel void act_all(global float *x, whole at, int act)
{
    const whole i = at + get_global_id(0);
    x[i] = KER(apply)(x[i], act);
}

kernel void leaky_all(global float *x, whole at, float slope)
{
    const whole i = at + get_global_id(0);
    x[i] = x[i] > 0.0f ? x[i] : x[i] * slope;
}

kernel void affine_all(global float *x, whole at, float plus, float times, float over)
{
    const whole i = at + get_global_id(0);
    x[i] = (x[i] + plus) * times / over;
}

kernel void add_all(global float *x, whole at, global const float *y, whole y_at, whole n)
{
    const whole i = get_global_id(0);
    x[at + i] = x[at + i] + y[y_at + i % n];
}

kernel void mix_all(global float *x, whole at, global const float *y, whole y_at,
                    global const float *s, whole s_at)
{
    const whole i = get_global_id(0);
    const float share = s[s_at + i];
    x[at + i] = x[at + i] * (1.0f + share) + y[y_at + i] * (1.0f - share);
}

kernel void copy_rows(global const float *x, whole x_at, whole x_row, global float *y, whole y_at,
                      whole y_row)
{
    const whole i = get_global_id(0), row = get_global_id(1);
    y[y_at + row * y_row + i] = x[x_at + row * x_row + i];
}

/* Rows of a table by number; zeros for those that it has not. */
kernel void table_rows(global const uchar *w, whole w_at, int type, int count,
                       global const int *ids, global float *y, whole y_at)
{
    const whole i = get_global_id(0), row = get_global_id(1), c = get_global_size(0);
    const int id = ids[row];
    y[y_at + row * c + i] = id < count ? value(type, w, w_at + id * c + i) : 0.0f;
}

kernel void add_table(global float *x, whole at, global const uchar *w, whole w_at, int type,
                      whole n)
{
    const whole i = get_global_id(0), row = get_global_id(1), c = get_global_size(0);
    x[at + row * c + i] = x[at + row * c + i] + value(type, w, w_at + row % n * c + i);
}

kernel void pick_rows(global const float *x, whole x_at, global const int *from, global float *y,
                      whole y_at)
{
    const whole i = get_global_id(0), row = get_global_id(1), c = get_global_size(0);
    const whole at = from[row];
    y[y_at + row * c + i] = at >= 0 ? x[x_at + at * c + i] : 0.0f;
}

/* Squares of p x p, channel by channel. */
kernel void cut_patches(global const float *x, whole x_at, int w, int c, int p, int cells,
                        int across, int h, global float *y, whole y_at)
{
    const int j = get_global_id(0), area = p * p;
    const whole row = get_global_id(1), b = row / cells, cell = row % cells;
    const whole iy = cell / across * p + j % area / p, ix = cell % across * p + j % area % p;
    y[y_at + row * area * c + j] = x[x_at + ((b * h + iy) * w + ix) * c + j / area];
}

kernel void mean_of_rows(global const float *x, whole x_at, whole n, global float *y, whole y_at)
{
    const whole i = get_global_id(0), c = get_global_size(0);
    real sum = 0;
    for (whole r = 0; r < n; r++) sum += x[x_at + r * c + i];
    y[y_at + i] = (float)(sum / (real)n);
}

/* Chains of dependent multiply-adds, for measuring the peak. */
kernel void burn(global float *sink, int n, float a, float b)
{
    float sum[12], total = 0.0f;
    for (int i = 0; i < 12; i++) sum[i] = (float)i + (float)get_global_id(0);
    for (int k = 0; k < n; k++)
        for (int i = 0; i < 12; i++) sum[i] = fma(sum[i], a, b);
    for (int i = 0; i < 12; i++) total = total + sum[i];
    sink[get_global_id(0)] = total;
}
