/* tensor.h - numbers: an arena, the operations of the three models, noise, traces.
 *
 *     Arena m = {0};                                  base NULL: only count
 *     forward(&m, x);                                 shapes flow, nothing is computed
 *     arena_open(&m, m.peak, NULL, &e);               io.h; the same forward now computes
 *     Tensor y = linear(&m, x, &w);                   [B,T,I] -> [B,T,O]
 *
 * One layout.  A Tensor is positions x channels, float32, channels contiguous: tokens [B][T][C]
 * have h = T and w = 1, pictures [B][H][W][C], a vector an item [B][1][1][C].
 *
 * One rule of ownership.  An operation that returns a Tensor makes it at the top of the arena; one
 * that returns nothing works in place.  keep() slides a block's result down and frees the rest.
 * Scratch that an operation needs is taken above the top and given back before it returns.
 *
 * One rule of sums.  Every output is one sum in one order: k runs upward inside chunks of a fixed
 * length, each chunk starts at zero, chunks add in order.  Threads, vector width and tiles never
 * change it, so the bytes are the same on every machine.  Operations cannot fail: what could is
 * checked when opening.
 *
 * The machine: how many threads, which instruction set.  Set once by main, read by the
 * operations. */
#ifndef TENSOR_H
#define TENSOR_H
#include "base.h"

/* ---- the machine ----------------------------------------------------------------------------- */

/* Choose the number of threads, 1..1024 (0: all cores), and the instruction set by name (NULL: the
 * best that this machine has).  false, with the valid names in e, when the machine has no such
 * set. */
bool machine_choose(int threads, const char *isa, Error *e);
int machine_threads(void);
const char *machine_isa(void);
/* The instruction sets that this build has and this machine can run, best first, separated by
 * ", ". */
const char *machine_isas(void);
/* The device that does the operations, in words; NULL: this machine's own loops do. */
const char *machine_device_name(void);
/* What a device has to know: memory becomes an arena (false, with e: it has no room), an arena goes
 * (NULL: nothing), weights go.  io.h's functions say so. */
bool machine_arena(const void *base, size_t size, Error *e);
void machine_arena_gone(const void *base);
void machine_weights_gone(void);
void machine_wait(void);               /* until all operations are done, where others do them */
/* Measured float32 multiply-adds a second of all threads together, or of the device. */
double machine_peak(void);

/* ---- memory ---------------------------------------------------------------------------------- */

/* A stack of bytes.  With base NULL it only counts: peak is then what the same calls will need.
 * macs and weight_bytes count the arithmetic and the weights read, in both modes. */
typedef struct Change Change;
typedef struct {
    char *base;
    size_t used, size, peak;
    double macs, weight_bytes;
    const Change *changes; int change_count;                      /* of weights, sorted by weight */
    bool wrap;                    /* conv2d sees the other side of the picture beyond its edges */
} Arena;

/* The channels of a Tensor may lie in two places (concat): the first c - tail_c at `at`, the last
 * tail_c at `tail`.  group_norm, linear and copy read such a view; nothing else has to. */
typedef struct { float *at; int b, h, w, c; const float *tail; int tail_c; } Tensor;

Tensor tensor(Arena *m, int b, int h, int w, int c);               /* not initialised */
size_t tensor_count(Tensor x);                                     /* b*h*w*c */
/* Move x, made last, down to top and free what lies between; returns it there. */
Tensor keep(Arena *m, size_t top, Tensor x);
Tensor copy(Arena *m, Tensor x);
void copy_to(Tensor y, Tensor x);                    /* y = x; in one arena they may overlap */
Tensor concat(Tensor x, Tensor y);                                 /* a view: [..,Cx] + [..,Cy] */
Tensor item(Tensor x, int i);                                      /* a view: one of the batch */
Tensor band(Tensor x, int first, int count);           /* a view: rows of a batch of one */
Tensor as_tokens(Tensor x), as_picture(Tensor x, int h, int w);    /* views: [B,H*W,C] and back */

/* Values cross between host and tensor here alone.  Who fills x.at in a loop says host_wrote after
 * it, who reads there host_reads before: the operations may be done elsewhere (device.h). */
Tensor from_host(Arena *m, int b, int h, int w, int c, const float *values);
void to_host(Tensor x, float *values);
void host_wrote(Tensor x), host_reads(Tensor x);

/* ---- weights --------------------------------------------------------------------------------- */

enum { NOT_COMPUTED, F32, F16, BF16 };                   /* Weight.type */

/* A parameter where it lies in its file: as stored, possibly unaligned, row-major. */
typedef struct { const void *at; int type, rank, dim[4]; } Weight;

/* A change of the weight that lies at `weight`, [O,I,..]: W + scale * up down, up [O,r],
 * down [r,I,..].  Every product over an arena with changes adds them to the panels it reads; the
 * weight itself stays as it is.  Of one weight there may be several, which add in their order.
 * Convolutions have at most LORA_TAPS taps. */
struct Change { const void *weight; Weight up, down; float scale; int order; };
enum { LORA_TAPS = 9 };

typedef struct { Weight w, b; } Linear;                  /* [O,I] or [O,I,kh,kw]; b may be absent */
typedef struct { Weight w, b; } Norm;                    /* [C] each */

size_t weight_count(Weight w);
size_t weight_bytes(Weight w);
/* count values from the first-th on, as float32. */
void weight_read(Weight w, size_t first, size_t count, float *out);

/* ---- products -------------------------------------------------------------------------------- */

typedef enum { IDENTITY, SILU, GELU, GELU_TANH, QUICK_GELU, RELU, TANH } Act;

/* torch.nn.Linear, and 1x1 convolutions: x [..,I] -> [..,O].
 *   linear_act   act(x W^T + b)
 *   linear_plus  r + (x W^T + b); r has the result's shape, or [B,1,1,O] (or [1,1,1,O]) and is then
 *                added to every position
 *   linear_into  y = y + (x W^T + b)
 *   geglu        diffusers GEGLU: (a, g) = x W^T + b; a * gelu(g); the [..,2O] tensor never
 *                exists */
Tensor linear(Arena *m, Tensor x, const Linear *w);
Tensor linear_act(Arena *m, Tensor x, const Linear *w, Act act);
Tensor linear_plus(Arena *m, Tensor x, const Linear *w, Tensor r);
void linear_into(Arena *m, Tensor y, Tensor x, const Linear *w);
Tensor geglu(Arena *m, Tensor x, const Linear *w);

/* Where a convolution looks: positions a step apart, `before` zeros at top and left, `after` at
 * bottom and right.  With h, w set, x is first resized to them by nearest neighbour (torch's rule);
 * no copy is made.  dilation (0 is 1): how far apart the taps look.  A kernel one wide has no zeros
 * beside it.  above, below: rows of the result that are left out there. */
typedef struct { int stride, before, after, h, w, dilation, above, below; } Window;
#define SAME3   (Window){ .stride = 1, .before = 1, .after = 1 }

/* torch.nn.Conv2d, weights [O,I,kh,kw]: x [B,H,W,I] -> [B,H',W',O].  3x3 at stride 1 from 4x4
 * positions on goes by Winograd F(4x4,3x3) where the channels fill its vectors: by the layer's
 * shape alone. */
Tensor conv2d(Arena *m, Tensor x, const Linear *w, Window at);
Tensor conv2d_plus(Arena *m, Tensor x, const Linear *w, Window at, Tensor r);
void conv2d_into(Arena *m, Tensor y, Tensor x, const Linear *w, Window at);

/* torch.nn.Conv1d with padding that keeps the length (odd k), weights [O,I,k]:
 * x [B,T,1,I] -> [B,T,1,O].  Three taps and more go by Winograd F(4,3) where the channels fill its
 * vectors.
 *   conv1d_leaky     conv1d(leaky_relu(x)); slope 1 is none
 *   conv1d_leaky_to  y = r + conv1d(leaky_relu(x)), dilation 1; r may be y, x may not */
Tensor conv1d(Arena *m, Tensor x, const Linear *w, int dilation);
Tensor conv1d_leaky(Arena *m, Tensor x, const Linear *w, int dilation, float slope);
void conv1d_leaky_to(Arena *m, Tensor y, Tensor x, const Linear *w, float slope, Tensor r);
/* torch.nn.ConvTranspose1d, weights [I,O,k]: x [B,T,1,I] -> [B,(T-1)*stride - 2*pad + k,1,O]. */
Tensor conv1d_transposed(Arena *m, Tensor x, const Linear *w, int stride, int pad);

/* softmax(q k^T / sqrt(d)) v, head by head: q [B,N,C], k and v [B,M,C] -> [B,N,C], d = C / heads.
 * causal: position i sees keys 0..i (N = M). */
Tensor attention(Arena *m, Tensor q, Tensor k, Tensor v, int heads, bool causal);

/* The same with bias[heads][N][M] added to the scores, and mask[item % masks][N][M]
 * if masks > 0. */
Tensor attention_biased(Arena *m, Tensor q, Tensor k, Tensor v, int heads, const float *bias,
                        const float *mask, int masks);

/* Where queries look: the mean over heads of softmax(q k^T / sqrt(d)): q [B,N,C], k [B,M,C] ->
 * [B,N,M]. */
Tensor attention_map(Arena *m, Tensor q, Tensor k, int heads);

/* ---- norms, activations, rows ---------------------------------------------------------------- */

Tensor layer_norm(Arena *m, Tensor x, const Norm *w, float eps);                   /* over c */
/* act(GroupNorm(x)): over h, w and c / groups; group_norm_ in place. */
Tensor group_norm(Arena *m, Tensor x, const Norm *w, int groups, float eps, Act act);
void group_norm_(Arena *m, Tensor x, const Norm *w, int groups, float eps, Act act);
/* The same in two steps, for who normalises band by band: per item and channel a scale and a shift,
 * [B,2,1,C]; then y = act(scale x + shift). */
Tensor group_scales(Arena *m, Tensor x, const Norm *w, int groups, float eps);
void scale_to(Tensor y, Tensor x, Tensor scales, Act act);
void act_(Tensor x, Act act);                                                      /* in place */
void leaky_relu_(Tensor x, float slope);
void affine_(Tensor x, float plus, float times, float over);       /* x = (x + plus) times / over */
void add_(Tensor x, Tensor y);        /* x += y, same shape; or y has b = 1 and serves every item */
/* Rows of an embedding table [V,C]: ids [b][t] -> [b,t,1,C]; zeros for ids from V on. */
Tensor rows(Arena *m, Weight table, const int *ids, int b, int t);
void add_rows_(Tensor x, Weight table);                  /* x[b][i] += table[i], over positions i */
/* x [B,H,W,C] cut into squares of p x p -> [B,(H/p)*(W/p),1,C*p*p], each in the order of a weight
 * [C,p,p]. */
Tensor patches(Arena *m, Tensor x, int p);
Tensor prepend(Arena *m, Weight row, Tensor x);          /* [B,N,1,C] -> [B,1+N,1,C] */
/* Rows of x (all items counted through) in another order: row i of the result is x's row from[i],
 * zeros where from[i] is negative; from has b*h*w entries. */
Tensor rows_at(Arena *m, Tensor x, const int *from, int b, int h, int w);
Tensor mean_rows(Arena *m, Tensor x);                    /* over positions: [..,C] -> [1,1,1,C] */
void mix_(Tensor x, Tensor y, Tensor s);                 /* x = x (1 + s) + y (1 - s) */
Tensor position(Tensor x, int b, int i);                 /* a view: [1,1,1,C] */
/* Dot products of the rows of x, where they lie, with q [C]: out[b*h*w].  Element i goes to lane
 * i mod 16, lanes add in a fixed tree; memory is the limit, so one plain text does. */
void dots(Tensor x, const float *q, float *out);
/* True when every value is finite. */
bool all_finite(Tensor x);

/* ---- functions: the same bits everywhere, no libm -------------------------------------------- */

double f_exp(double x), f_log(double x), f_sin(double x), f_cos(double x),
       f_pow(double x, double y);

/* ---- noise: torch's CPU generator ------------------------------------------------------------ */

/* mt19937; the seed counts modulo 2^32, as torch.Generator().manual_seed on the CPU.  Other noises
 * for those who come from elsewhere, set after rng_seed: torch's CUDA generator, as web interfaces
 * imitate it on a CPU (Philox4x32-10, whose seed counts modulo 2^64), and numpy's RandomState. */
typedef enum { NOISE_TORCH, NOISE_CUDA, NOISE_NUMPY } Noise;
typedef struct {
    Noise noise;
    uint64_t seed; uint32_t draws;         /* of Philox: the key; calls of randn so far */
    uint32_t state[624]; int next;
    bool has_spare; double spare;
} Rng;
void rng_seed(Rng *r, uint64_t seed);
/* torch.randn(n): below 16 values another sequence than from 16 on, as there. */
void randn(Rng *r, float *out, size_t n);

/* ---- trace ----------------------------------------------------------------------------------- */

/* Every named activation goes to a function that main sets.  Off, a probe costs one test. */
typedef void TraceFn(void *self, const char *name, Tensor x);
void trace_to(TraceFn *f, void *self);
/* Names nest like modules: trace_enter("down_blocks.%d", i) ... trace(h, "conv1") ...
 * trace_leave(). */
PRINTF(1, 2) void trace_enter(const char *format, ...);
void trace_leave(void);
PRINTF(2, 3) void trace(Tensor x, const char *format, ...);

#endif
