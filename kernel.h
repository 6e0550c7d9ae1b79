/* kernel.h - the inner loops, one text for every instruction set.  tensor.c includes it once a set,
 * after defining ISA; each copy ends as one row of kernels[] there.  Nothing else in the house
 * knows vectors.
 *
 * A set contributes the vocabulary below: a vector V of VL floats, how to fuse, how to widen a
 * half.  All arithmetic is spelled in it, and every lane does the same operations in the same order
 * whatever VL is, so all sets give the same bits.  Sums across lanes go through 16 virtual lanes
 * and one tree.
 *
 *     ISA_C        VL 1    tiles 4 x 8    fused multiply-add by software where the machine has none
 *     ISA_NEON     VL 4    tiles 6 x 16
 *     ISA_AVX2     VL 8    tiles 6 x 16   with FMA and F16C
 *     ISA_AVX512   VL 16   tiles 8 x 32
 */
#ifndef KERNEL_H
#define KERNEL_H

#define ISA_C 1
#define ISA_NEON 2
#define ISA_AVX2 3
#define ISA_AVX512 4

/* Output channels of the widest panel: buffers that hold one are this wide. */
enum { NR_MAX = 32, MR_MAX = 8 };

/* What one instruction set can do.  Panels are [k][nr], nr output channels side by side. */
typedef struct {
    const char *name;
    int mr, nr;
    /* c[i][nr] = (add ? c[i][nr] : 0) + sum over k of row[i][at + k * step] * panel[k][nr],
     * i < rows <= mr */
    void (*tile)(int rows, size_t k, const float *const *row, size_t at, size_t step,
                 const float *panel, float *c, size_t ldc, bool add);
    /* Rows of a weight become a panel: values first .. first + count of `outs` rows ld apart, value
     * j to panel[j % taps * plane + j / taps * nr + row]; lanes from outs on are zero. */
    void (*pack)(int type, const void *w, size_t ld, int outs, size_t first, size_t count,
                 size_t taps, float *panel, size_t plane);
    /* The reverse for attention: y[row][j] = panel[j][row] * scale[row], rows ld apart. */
    void (*unpack)(const float *panel, size_t count, int rows, const float *scale, float *y,
                   size_t ld);
    /* y = r + act(c + bias) for rows x outs; r may be NULL.
     * gated: y = (c + bias) * gelu(gate + gate_bias) */
    void (*finish)(const float *c, size_t ldc, int rows, int outs, const float *bias, Act act,
                   const float *r, size_t ldr, float *y, size_t ldy);
    void (*gated)(const float *c, const float *gate, size_t ldc, int rows, int outs,
                  const float *bias, const float *gate_bias, float *y, size_t ldy);
    /* Winograd F(4x4,3x3): 36 pixels of a tile -> v, each WINO_CHUNK channels `chunk` apart;
     * [9][n][nr] weights -> u; 36 sums -> h x w pixels. */
    void (*wino_in)(const float *const pixel[36], size_t channels, float *v, size_t plane,
                    size_t chunk);
    void (*wino_weights)(const float *g, size_t g_plane, size_t n, float *u, size_t plane);
    void (*wino_out)(const float *m, size_t plane, int outs, const float *bias, const float *r,
                     size_t r_row, size_t r_pixel, float *y, size_t y_row, size_t y_pixel,
                     int h, int w);
    /* F(4,3): 6 positions, through a leaky relu, `per` channels a chunk; `taps` of [3][n][nr]
     * weights, the others zero; 6 sums -> count <= 4 positions. */
    void (*wino_in_1d)(const float *const pixel[6], size_t channels, float slope, float *v,
                       size_t plane, size_t per, size_t chunk);
    void (*wino_weights_1d)(const float *g, size_t g_plane, int taps, size_t n, float *u,
                            size_t plane);
    void (*wino_out_1d)(const float *m, size_t plane, int outs, const float *bias, const float *r,
                        float *y, size_t step, int count);
    /* s[keys][nr] -> exp(s - column maximum); inverse[nr] = 1 / column sum */
    void (*softmax)(float *s, size_t keys, float *inverse);
    void (*act)(float *x, size_t n, Act act);
    /* y[row][c] = act(x[row][c] * scale[c] + shift[c]) */
    void (*affine)(const float *x, size_t ldx, size_t rows, size_t c, const float *scale,
                   const float *shift, Act act, float *y, size_t ldy);
    void (*layer_norm)(const float *x, size_t c, const float *w, const float *b, float eps,
                       float *y);
    /* sum[c] += x - origin[c], square[c] += (x - origin[c])^2 over at most 64 rows */
    void (*channel_sums)(const float *x, size_t ld, size_t rows, size_t c, const float *origin,
                         float *sum, float *square);
    void (*scale)(float *x, size_t n, float by);
    /* n dependent chains of fused multiply-adds; for measuring the peak.  Returns the adds done. */
    double (*burn)(size_t n, float *sink);
} Kernels;

#define UNROLL _Pragma("GCC unroll 36")
#define ALWAYS static inline __attribute__((always_inline, unused))
#endif

/* ---- the vocabulary of a set ----------------------------------------------------------------- */

#if ISA == ISA_C
#define KER(name) name##_c
#define VL 1
#define MR 4
#define NV 8
#define vfma(a, b, c) fused(a, b, c)
#define vhalf(p) half_value(p)

#elif ISA == ISA_NEON
#define KER(name) name##_neon
#define VL 4
#define MR 6
#define NV 4
#define vfma(a, b, c) ((V)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define vhalf(p) ((V)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))))

#elif ISA == ISA_AVX2
#define KER(name) name##_avx2
#define VL 8
#define MR 6
#define NV 2
#define vfma(a, b, c) ((V)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vhalf(p) ((V)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p))))
#define TARGET "avx2,fma,f16c"

#elif ISA == ISA_AVX512
#define KER(name) name##_avx512
#define VL 16
#define MR 8
#define NV 2
#if defined(WIDE_BY_HALVES)             /* the same text on AVX2: tests where AVX-512 is missing */
#define vfma(a, b, c) KER(fma_halves)(a, b, c)
#define vhalf(p) KER(half_halves)(p)
#define TARGET "avx2,fma,f16c"
#else
#define vfma(a, b, c) ((V)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vhalf(p) ((V)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p))))
#define TARGET "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma,f16c"
#endif
#endif

#define NR (VL * NV)

#if defined(TARGET) && defined(__clang__)
#define PUSH_(text) _Pragma(#text)
#define PUSH(text) PUSH_(clang attribute push(__attribute__((target(text))), apply_to = function))
PUSH(TARGET)
#elif defined(TARGET)
#pragma GCC push_options
#define PUSH_(text) _Pragma(#text)
#define PUSH(text) PUSH_(GCC target(text))
PUSH(TARGET)
#endif

#define V KER(V)
#define U KER(U)
#define VU KER(VU)
#if VL == 1
typedef float V;
typedef uint32_t U;
typedef float VU __attribute__((aligned(1), may_alias));
ALWAYS U KER(bits)(V x) { U u; memcpy(&u, &x, 4); return u; }
ALWAYS V KER(value)(U u) { V x; memcpy(&x, &u, 4); return x; }
#define vbits KER(bits)
#define vvalue KER(value)
#define vdup(x) (x)
#define vgreater(a, b) ((a) > (b) ? 0xffffffffu : 0u)
#define vfloats(p) float_value(p)
#define vbrain(p) brain_value(p)
#else
typedef float V __attribute__((vector_size(4 * VL)));
typedef uint32_t U __attribute__((vector_size(4 * VL)));
typedef float VU __attribute__((vector_size(4 * VL), aligned(1), may_alias));
typedef uint16_t KER(H) __attribute__((vector_size(2 * VL), aligned(1), may_alias));
#define vbits(x) ((U)(x))
#define vvalue(u) ((V)(u))
#define vdup(x) ((x) - (V){ 0 })                    /* 0 + x would not be an identity; x - 0 is */
#define vgreater(a, b) ((U)((a) > (b)))
#define vfloats(p) ((V)*(const VU *)(p))
#define vbrain(p) vvalue(__builtin_convertvector(*(const KER(H) *)(p), U) << 16)
#endif

#define vld(p) ((V)*(const VU *)(p))
#define vst(p, v) (*(VU *)(p) = (v))
#define vselect(mask, a, b) vvalue((vbits(a) & (mask)) | (vbits(b) & ~(mask)))
#if ISA == ISA_AVX512 && defined(WIDE_BY_HALVES)
typedef union { V v; __m256 half[2]; } KER(Halves);
ALWAYS V KER(fma_halves)(V a, V b, V c)
{
    KER(Halves) x = { a }, y = { b }, z = { c };
    for (int i = 0; i < 2; i++) z.half[i] = _mm256_fmadd_ps(x.half[i], y.half[i], z.half[i]);
    return z.v;
}
ALWAYS V KER(half_halves)(const uint8_t *p)
{
    KER(Halves) z;
    for (int i = 0; i < 2; i++)
        z.half[i] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16 * i)));
    return z.v;
}
#endif
#define vmax(a, b) KER(larger)(a, b)
ALWAYS V KER(larger)(V a, V b) { U m = vgreater(a, b); return vselect(m, a, b); }

/* The first n < VL floats of p, zeros behind; and back. */
ALWAYS V KER(load_some)(const float *p, size_t n)
{
    float lane[VL] = { 0 };
    memcpy(lane, p, n * sizeof *p);
    return vld(lane);
}
ALWAYS void KER(store_some)(float *p, V v, size_t n)
{
    float lane[VL];
    vst(lane, v);
    memcpy(p, lane, n * sizeof *p);
}
#define vld_upto(p, n) ((n) >= VL ? vld(p) : KER(load_some)(p, n))
#define vst_upto(p, v, n) do { if ((n) >= VL) vst(p, v); else KER(store_some)(p, v, n); } while (0)

#include "lanes.h"

/* ---- products -------------------------------------------------------------------------------- */

/* The micro-kernel.  k runs upward in every lane; accumulators stay in registers. */
ALWAYS void KER(tile_of)(const int rows, size_t k, const float *const *row, size_t at, size_t step,
                         const float *panel, float *c, size_t ldc, bool add)
{
    V sum[MR][NV];
    const float *a[MR];
    UNROLL for (int i = 0; i < rows; i++) {
        a[i] = row[i] + at;
        UNROLL for (int j = 0; j < NV; j++) sum[i][j] = vdup(0.0f);
    }
    for (size_t to = 0; k; k--, to += step, panel += NR) {
        V b[NV];
        UNROLL for (int j = 0; j < NV; j++) b[j] = vld(panel + j * VL);
        UNROLL for (int i = 0; i < rows; i++) {
            V x = vdup(a[i][to]);
            UNROLL for (int j = 0; j < NV; j++) sum[i][j] = vfma(x, b[j], sum[i][j]);
        }
    }
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int j = 0; j < NV; j++) {
            float *to = c + (size_t)i * ldc + j * VL;
            vst(to, add ? vld(to) + sum[i][j] : sum[i][j]);
        }
}

static void KER(tile)(int rows, size_t k, const float *const *row, size_t at, size_t step,
                      const float *panel, float *c, size_t ldc, bool add)
{
    switch (rows) {
    case 1: KER(tile_of)(1, k, row, at, step, panel, c, ldc, add); break;
    case 2: KER(tile_of)(2, k, row, at, step, panel, c, ldc, add); break;
    case 3: KER(tile_of)(3, k, row, at, step, panel, c, ldc, add); break;
    case 4: KER(tile_of)(4, k, row, at, step, panel, c, ldc, add); break;
#if MR >= 6
    case 5: KER(tile_of)(5, k, row, at, step, panel, c, ldc, add); break;
    case 6: KER(tile_of)(6, k, row, at, step, panel, c, ldc, add); break;
#endif
#if MR >= 8
    case 7: KER(tile_of)(7, k, row, at, step, panel, c, ldc, add); break;
    case 8: KER(tile_of)(8, k, row, at, step, panel, c, ldc, add); break;
#endif
    }
}

/* r[i][j] becomes r[j][i]: blocks of s lanes change places across the diagonal, s = 1, 2, 4, 8. */
#if VL == 1
#define TRANSPOSE(r) ((void)0)
#else
#if defined(__clang__)
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (U){ __VA_ARGS__ })
#endif
#define LOW(l, s) ((l) & (s) ? VL + (l) - (s) : (l))
#define HIGH(l, s) ((l) & (s) ? VL + (l) : (l) + (s))
#define LANES4(f, l, s) f(l, s), f((l) + 1, s), f((l) + 2, s), f((l) + 3, s)
#if VL == 4
#define LANES(f, s) LANES4(f, 0, s)
#elif VL == 8
#define LANES(f, s) LANES4(f, 0, s), LANES4(f, 4, s)
#else
#define LANES(f, s) LANES4(f, 0, s), LANES4(f, 4, s), LANES4(f, 8, s), LANES4(f, 12, s)
#endif
#define EXCHANGE(r, s)                                                                      \
    UNROLL for (int i_ = 0; i_ < VL; i_++)                                                  \
        if (!(i_ & (s))) {                                                                  \
            V a_ = r[i_], b_ = r[i_ + (s)];                                                 \
            r[i_] = SHUFFLE(a_, b_, LANES(LOW, s));                                         \
            r[i_ + (s)] = SHUFFLE(a_, b_, LANES(HIGH, s));                                  \
        }
#if VL == 4
#define TRANSPOSE(r) do { EXCHANGE(r, 1) EXCHANGE(r, 2) } while (0)
#elif VL == 8
#define TRANSPOSE(r) do { EXCHANGE(r, 1) EXCHANGE(r, 2) EXCHANGE(r, 4) } while (0)
#else
#define TRANSPOSE(r) do { EXCHANGE(r, 1) EXCHANGE(r, 2) EXCHANGE(r, 4) EXCHANGE(r, 8) } while (0)
#endif
#endif

ALWAYS void KER(pack_as)(const int type, const void *w, size_t ld, int outs, size_t first,
                         size_t count, size_t taps, float *panel, size_t plane)
{
    const size_t size = type == F32 ? 4 : 2;
    for (int o = 0; o < NR; o += VL) {
        size_t j = 0, tap = 0;
        float *to = panel + o;                                             /* the row of j / taps */
        for (; j + VL <= count; j += VL) {
            V r[VL];
            UNROLL for (int q = 0; q < VL; q++) {
                const uint8_t *p = (const uint8_t *)w + ((size_t)(o + q) * ld + first + j) * size;
                r[q] = o + q >= outs ? vdup(0.0f) : type == F32 ? vfloats(p)
                    : type == F16 ? vhalf(p) : vbrain(p);
            }
            TRANSPOSE(r);
            UNROLL for (int q = 0; q < VL; q++) {
                vst(to + tap * plane, r[q]);
                if (++tap == taps) { tap = 0; to += NR; }
            }
        }
        for (; j < count; j++) {
            for (int q = 0; q < VL; q++) {
                const uint8_t *p = (const uint8_t *)w + ((size_t)(o + q) * ld + first + j) * size;
                to[tap * plane + (size_t)q] = o + q < outs ? any_value(type, p) : 0;
            }
            if (++tap == taps) { tap = 0; to += NR; }
        }
    }
}

static void KER(pack)(int type, const void *w, size_t ld, int outs, size_t first, size_t count,
                      size_t taps, float *panel, size_t plane)
{
    switch (type) {
    case F32: KER(pack_as)(F32, w, ld, outs, first, count, taps, panel, plane); break;
    case F16: KER(pack_as)(F16, w, ld, outs, first, count, taps, panel, plane); break;
    case BF16: KER(pack_as)(BF16, w, ld, outs, first, count, taps, panel, plane); break;
    }
}

static void KER(unpack)(const float *panel, size_t count, int rows, const float *scale, float *y,
                        size_t ld)
{
    for (int o = 0; o < rows; o += VL) {
        V by = vld(scale + o);
        size_t j = 0;
        for (; j + VL <= count; j += VL) {
            V r[VL];
            UNROLL for (int q = 0; q < VL; q++) r[q] = vld(panel + (j + (size_t)q) * NR + o) * by;
            TRANSPOSE(r);
            UNROLL for (int q = 0; q < VL; q++)
                if (o + q < rows) vst(y + (size_t)(o + q) * ld + j, r[q]);
        }
        for (; j < count; j++)
            for (int q = 0; q < VL && o + q < rows; q++)
                y[(size_t)(o + q) * ld + j] = panel[j * NR + (size_t)(o + q)] * scale[o + q];
    }
}

ALWAYS void KER(finish_as)(const float *c, size_t ldc, int rows, int outs, const float *bias,
                           const Act act, const float *r, size_t ldr, float *y, size_t ldy)
{
    for (int i = 0; i < rows; i++, c += ldc, y += ldy, r = r ? r + ldr : r)
        for (int o = 0; o < outs; o += VL) {
            size_t n = (size_t)(outs - o);
            V x = KER(apply)(vld(c + o) + vld(bias + o), act);
            if (r) x = vld_upto(r + o, n) + x;
            vst_upto(y + o, x, n);
        }
}

static void KER(finish)(const float *c, size_t ldc, int rows, int outs, const float *bias, Act act,
                        const float *r, size_t ldr, float *y, size_t ldy)
{
    if (act != IDENTITY) KER(finish_as)(c, ldc, rows, outs, bias, act, r, ldr, y, ldy);
    else if (r) KER(finish_as)(c, ldc, rows, outs, bias, IDENTITY, r, ldr, y, ldy);
    else KER(finish_as)(c, ldc, rows, outs, bias, IDENTITY, NULL, 0, y, ldy);
}

static void KER(gated)(const float *c, const float *gate, size_t ldc, int rows, int outs,
                       const float *bias, const float *gate_bias, float *y, size_t ldy)
{
    for (int i = 0; i < rows; i++, c += ldc, gate += ldc, y += ldy)
        for (int o = 0; o < outs; o += VL) {
            int n = outs - o;
            V g = KER(gelu)(vld(gate + o) + vld(gate_bias + o));
            vst_upto(y + o, (vld(c + o) + vld(bias + o)) * g, (size_t)n);
        }
}

/* ---- Winograd: tiles in, weights in, sums out; the transforms are those of lanes.h ----------- */

static void KER(wino_in)(const float *const pixel[36], size_t channels, float *v, size_t plane,
                         size_t chunk)
{
    for (size_t c = 0; c < channels; c += VL) {
        float *to = v + c / WINO_CHUNK * chunk + c % WINO_CHUNK;
        V d[36];
        UNROLL for (int i = 0; i < 36; i++) d[i] = vld(pixel[i] + c);
        UNROLL for (int i = 0; i < 6; i++) KER(wino_b)(d + i, 6);
        UNROLL for (int i = 0; i < 6; i++) KER(wino_b)(d + 6 * i, 1);
        UNROLL for (int i = 0; i < 36; i++) vst(to + (size_t)i * plane, d[i]);
    }
}

static void KER(wino_weights)(const float *g, size_t g_plane, size_t n, float *u, size_t plane)
{
    for (size_t i = 0; i < n * NR; i += VL) {
        V t[18], r[6];
        UNROLL for (int x = 0; x < 3; x++)
            KER(wino_g)(vld(g + (size_t)x * g_plane + i), vld(g + (size_t)(3 + x) * g_plane + i),
                        vld(g + (size_t)(6 + x) * g_plane + i), t + x, 3);
        UNROLL for (int y = 0; y < 6; y++) {
            KER(wino_g)(t[3 * y], t[3 * y + 1], t[3 * y + 2], r, 1);
            UNROLL for (int x = 0; x < 6; x++) vst(u + (size_t)(6 * y + x) * plane + i, r[x]);
        }
    }
}

static void KER(wino_out)(const float *m, size_t plane, int outs, const float *bias, const float *r,
                          size_t r_row, size_t r_pixel, float *y, size_t y_row, size_t y_pixel,
                          int h, int w)
{
    for (int o = 0; o < outs; o += VL) {
        V d[36], t[24], out[16];
        UNROLL for (int i = 0; i < 36; i++) d[i] = vld(m + (size_t)i * plane + o);
        UNROLL for (int i = 0; i < 6; i++) KER(wino_a)(d + i, 6, t + i, 6);
        UNROLL for (int i = 0; i < 4; i++) KER(wino_a)(t + 6 * i, 1, out + 4 * i, 1);
        V b = vld(bias + o);
        for (int i = 0; i < h; i++)
            for (int j = 0; j < w; j++) {
                V x = out[4 * i + j] + b;
                if (r) x = vld(r + (size_t)i * r_row + (size_t)j * r_pixel + o) + x;
                vst(y + (size_t)i * y_row + (size_t)j * y_pixel + o, x);
            }
    }
}

/* F(4,3) on rows: one dimension of the above. */
static void KER(wino_in_1d)(const float *const pixel[6], size_t channels, float slope, float *v,
                            size_t plane, size_t per, size_t chunk)
{
    for (size_t c = 0; c < channels; c += VL) {
        float *to = v + c / per * chunk + c % per;
        V d[6];
        UNROLL for (int i = 0; i < 6; i++) {
            V x = vld(pixel[i] + c);
            d[i] = vselect(vgreater(x, vdup(0.0f)), x, x * vdup(slope));
        }
        KER(wino_b)(d, 1);
        UNROLL for (int i = 0; i < 6; i++) vst(to + (size_t)i * plane, d[i]);
    }
}

static void KER(wino_weights_1d)(const float *g, size_t g_plane, int taps, size_t n, float *u,
                                 size_t plane)
{
    for (size_t i = 0; i < n * NR; i += VL) {
        V r[6], zero = vdup(0.0f);
        KER(wino_g)(vld(g + i), taps > 1 ? vld(g + g_plane + i) : zero,
                    taps > 2 ? vld(g + 2 * g_plane + i) : zero, r, 1);
        UNROLL for (int x = 0; x < 6; x++) vst(u + (size_t)x * plane + i, r[x]);
    }
}

static void KER(wino_out_1d)(const float *m, size_t plane, int outs, const float *bias,
                             const float *r, float *y, size_t step, int count)
{
    for (int o = 0; o < outs; o += VL) {
        V d[6], out[4], b = vld(bias + o);
        UNROLL for (int i = 0; i < 6; i++) d[i] = vld(m + (size_t)i * plane + o);
        KER(wino_a)(d, 1, out, 1);
        for (int i = 0; i < count; i++) {
            V x = out[i] + b;
            if (r) x = vld(r + (size_t)i * step + o) + x;
            vst(y + (size_t)i * step + o, x);
        }
    }
}

/* ---- softmax, norms, activations ------------------------------------------------------------- */

static void KER(softmax)(float *s, size_t keys, float *inverse)
{
    for (int j = 0; j < NR; j += VL) {
        float *column = s + j;
        V top = vld(column), total = vdup(0.0f);
        for (size_t y = 1; y < keys; y++) top = vmax(vld(column + y * NR), top);
        for (size_t y = 0; y < keys;) {
            V sum = vdup(0.0f);
            for (size_t end = zmin(y + KEY_CHUNK, keys); y < end; y++) {
                V e = KER(exp_to_88)(vld(column + y * NR) - top);
                vst(column + y * NR, e);
                sum = sum + e;
            }
            total = total + sum;
        }
        vst(inverse + j, vdup(1.0f) / total);
    }
}

static void KER(act)(float *x, size_t n, Act act)
{
    for (size_t i = 0; i < n; i += VL)
        vst_upto(x + i, KER(apply)(vld_upto(x + i, n - i), act), n - i);
}

static void KER(affine)(const float *x, size_t ldx, size_t rows, size_t c, const float *scale,
                        const float *shift, Act act, float *y, size_t ldy)
{
    for (; rows; rows--, x += ldx, y += ldy)
        for (size_t i = 0; i < c; i += VL) {
            V a = vld_upto(scale + i, c - i), b = vld_upto(shift + i, c - i);
            vst_upto(y + i, KER(apply)(vfma(vld_upto(x + i, c - i), a, b), act), c - i);
        }
}

/* Sum over i < c of (x[i] - from)^power, power 1 or 2: element i in virtual lane i mod 16, then a
 * tree. */
ALWAYS float KER(lane_sum)(const float *x, size_t c, float from, const int power)
{
    V lane[16 / VL];
    float sum[16];
    size_t i = 0;
    UNROLL for (int l = 0; l < 16 / VL; l++) lane[l] = vdup(0.0f);
    for (; i + 16 <= c; i += 16)
        UNROLL for (int l = 0; l < 16 / VL; l++) {
            V d = vld(x + i + l * VL) - vdup(from);
            lane[l] = power == 1 ? lane[l] + d : vfma(d, d, lane[l]);
        }
    UNROLL for (int l = 0; l < 16 / VL; l++) vst(sum + l * VL, lane[l]);
    for (int l = 0; i < c; i++, l++) {
        float d = x[i] - from;
        sum[l] = power == 1 ? sum[l] + d : fused(d, d, sum[l]);
    }
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++) sum[l] += sum[l + half];
    return sum[0];
}

/* (x - mean) / sqrt(var + eps) * w + b over one row; mean and variance in two passes. */
static void KER(layer_norm)(const float *x, size_t c, const float *w, const float *b, float eps,
                            float *y)
{
    float mean = KER(lane_sum)(x, c, 0, 1) / (float)c;
    float var = KER(lane_sum)(x, c, mean, 2) / (float)c;
    float scale = 1.0f / sqrtf(var + eps);
    for (size_t i = 0; i < c; i += VL) {
        V d = (vld_upto(x + i, c - i) - vdup(mean)) * vdup(scale);
        vst_upto(y + i, vfma(d, vld_upto(w + i, c - i), vld_upto(b + i, c - i)), c - i);
    }
}

static void KER(channel_sums)(const float *x, size_t ld, size_t rows, size_t c, const float *origin,
                              float *sum, float *square)
{
    for (size_t i = 0; i < c; i += VL) {
        V from = vld_upto(origin + i, c - i), s = vdup(0.0f), q = vdup(0.0f);
        for (size_t r = 0; r < rows; r++) {
            V d = vld_upto(x + r * ld + i, c - i) - from;
            s = s + d;
            q = vfma(d, d, q);
        }
        vst_upto(sum + i, s, c - i);
        vst_upto(square + i, q, c - i);
    }
}

static void KER(scale)(float *x, size_t n, float by)
{
    for (size_t i = 0; i < n; i += VL) vst_upto(x + i, vld_upto(x + i, n - i) * vdup(by), n - i);
}

static double KER(burn)(size_t n, float *sink)
{
    V sum[12], a = vdup(sink[0]), b = vdup(sink[1]), total = vdup(0.0f);
    UNROLL for (int i = 0; i < 12; i++) sum[i] = vdup((float)i);
    for (size_t k = 0; k < n; k++)
        UNROLL for (int i = 0; i < 12; i++) sum[i] = vfma(sum[i], a, b);
    UNROLL for (int i = 0; i < 12; i++) total = total + sum[i];
    KER(store_some)(sink, total, 1);
    return (double)n * 12 * VL;
}

#define ROW_OF_KERNELS(text)                                                                \
    { text, MR, NR, KER(tile), KER(pack), KER(unpack), KER(finish), KER(gated), KER(wino_in),\
      KER(wino_weights), KER(wino_out), KER(wino_in_1d), KER(wino_weights_1d),\
      KER(wino_out_1d), KER(softmax), KER(act), KER(affine), KER(layer_norm),\
      KER(channel_sums), KER(scale), KER(burn) }
#if ISA == ISA_C
static const Kernels KER(kernels) = ROW_OF_KERNELS("c");
#elif ISA == ISA_NEON
static const Kernels KER(kernels) = ROW_OF_KERNELS("neon");
#elif ISA == ISA_AVX2
static const Kernels KER(kernels) = ROW_OF_KERNELS("avx2");
#else
static const Kernels KER(kernels) = ROW_OF_KERNELS("avx512");
#endif

#if defined(TARGET) && defined(__clang__)
#pragma clang attribute pop
#elif defined(TARGET)
#pragma GCC pop_options
#endif

#undef KER
#undef VL
#undef MR
#undef NV
#undef NR
#undef V
#undef U
#undef VU
#undef TARGET
#undef PUSH
#undef PUSH_
#undef vfma
#undef vhalf
#undef vbits
#undef vvalue
#undef vdup
#undef vgreater
#undef vfloats
#undef vbrain
#undef vld
#undef vst
#undef vselect
#undef vmax
#undef vld_upto
#undef vst_upto
#undef TRANSPOSE
#undef SHUFFLE
#undef LOW
#undef HIGH
#undef LANES
#undef LANES4
#undef EXCHANGE
#undef ROW_OF_KERNELS
#undef ISA
