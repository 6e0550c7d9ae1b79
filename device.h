/* device.h - what tensor.c's loops are told, for whoever does their work elsewhere.  A Device is a
 * table of the same operations; tensor.c keeps shapes, memory and counting, and hands over
 * pointers into arenas, which the device has twins of, and to weights as stored, which it takes
 * when it meets them.  Operations cannot fail: a device that did computes no more and tells when
 * asked, and what is then fetched is NaN. */
#ifndef DEVICE_H
#define DEVICE_H
#include "tensor.h"

/* rows x weights: Y[row][o] = sum over parts, taps and k of X[row(tap)][k] * W[o][k][tap], then the
 * finish.  A 1x1 product has one tap and rows as they lie; a convolution finds a row's source by
 * its Window. */
typedef struct {
    Tensor x;
    Weight w, b;
    const float *bias;         /* b as floats, on the host */
    int kh, kw;                /* taps */
    Window at;
    bool wrap;                 /* around the edges of a picture */
    bool gated;                /* GEGLU: outs more outputs behind the first ones are the gates */
    Act act;
    Tensor r;                  /* added after all; at NULL: nothing; [B,1,1,O]: to every position */
    Tensor y;
    int apart;                 /* rows of y lie so many rows apart; 0 is 1 */
    const float *zero;         /* the row outside a picture */
    float slope;               /* of a leaky relu before a convolution of rows; 1: none */
    const Change *changes; int change_count;               /* of this weight */
} Product;

/* Tiles of Winograd's convolutions: F(4x4,3x3) has 36 planes and one group; F(4,3), for rows, six
 * planes, and a group of three taps after another side by side in the sum over k, `per` channels
 * of each. */
typedef struct {
    bool flat;                                         /* F(4x4,3x3) */
    int planes, groups, taps;                          /* taps of a group */
    size_t per;                    /* channels of a chunk; of several groups it has whole ones */
    int across, down;                                  /* tiles of a picture; phases and theirs */
    size_t tiles, block, range;                        /* of the batch; at a time; of a task */
    size_t v_chunk, v_plane, g_plane, u_plane, m_plane;
    float *v, *own;
} Wino;

/* k and v, on the host, are laid out anew head by head, to be read in streams: k [B,head][key][d],
 * v [B,head][d][key]. */
typedef struct {
    Tensor q, y, from_k, from_v;
    const float *k, *v;
    int heads, d, masks;
    bool causal;
    size_t keys;
    const float *bias, *mask;          /* [heads][queries][keys], [masks][queries][keys]; or NULL */
} Attention;

/* Constants of the result, not of the machine.  After so many channels or keys, or ranks of a
 * change, a sum starts anew at zero; rows of a float sum and of a double sum of a norm. */
enum { CHUNK = 128, KEY_CHUNK = 128, WINO_CHUNK = 64, LORA_RANKS = 32 };
enum { SUM_ROWS = 64, SPAN_ROWS = 1024 };

typedef struct {
    char name[128];
    /* An arena's twin, and its end.  Weights that were taken are forgotten with any arena. */
    bool (*open)(const void *base, size_t size, Error *e);
    void (*close)(const void *base);
    void (*forget)(void);
    void (*put)(float *to, const float *values, size_t count);         /* host to twin */
    void (*fetch)(const float *from, float *values, size_t count);     /* twin to host */
    void (*wait)(void);
    double (*peak)(void);
    void (*product)(const Product *p);
    void (*winograd)(const Product *p, const Wino *n);
    void (*attention)(const Attention *a);
    void (*attention_map)(const Attention *a);
    void (*layer_norm)(Tensor y, Tensor x, const Norm *w, float eps);
    void (*group_scales)(Tensor y, Tensor x, const Norm *w, int groups, float eps);
    void (*scale_to)(Tensor y, Tensor x, Tensor scales, Act act);
    void (*act)(Tensor x, Act act);
    void (*leaky_relu)(Tensor x, float slope);
    void (*affine)(Tensor x, float plus, float times, float over);
    void (*add)(Tensor x, Tensor y);
    void (*mix)(Tensor x, Tensor y, Tensor s);
    void (*copy)(float *to, size_t to_ld, const float *from, size_t from_ld, size_t rows,
                 size_t c);                      /* one row: may overlap */
    void (*rows)(Tensor y, Weight table, const int *ids);
    void (*add_rows)(Tensor x, Weight table);
    void (*rows_at)(Tensor y, Tensor x, const int *from);
    void (*patches)(Tensor y, Tensor x, int p);
    void (*mean_rows)(Tensor y, Tensor x);
} Device;

/* All operations go to d from now on (NULL: to this machine's own loops). */
void machine_device(const Device *d);
#endif
