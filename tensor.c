/* tensor.c - the operations of tensor.h over the inner loops of kernel.h.
 * Read in this order: the machine, memory, weights, products, Winograd, attention, norms, trace.
 * OpenMP and instruction sets are named here and in kernel.h alone.  Every parallel loop splits
 * outputs. */
#include "device.h"

#include <math.h>
#include <stdlib.h>
#if defined(_OPENMP)
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif
#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* ---- the inner loops, once an instruction set ------------------------------------------------ */

/* fmaf in plain C.  The product of two floats is exact in double; rounding their sum twice errs
 * only when the double falls exactly between two floats, or is too small to be a normal float: then
 * ask libm. */
static inline float fused(float a, float b, float c)
{
#if defined(FP_FAST_FMAF)
    return fmaf(a, b, c);
#else
    double sum = (double)a * b + c;
    uint64_t bits;
    memcpy(&bits, &sum, 8);
    bool tie = (bits & 0x1fffffff) == 0x10000000, small = fabs(sum) < 0x1p-125 && sum != 0;
    return tie || small ? fmaf(a, b, c) : (float)sum;
#endif
}

static inline float bits_value(uint32_t u)
{
    float x;
    memcpy(&x, &u, 4);
    return x;
}
static inline float float_value(const uint8_t *p)
{
    return bits_value(p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
}
static inline float brain_value(const uint8_t *p)
{
    return bits_value((uint32_t)p[0] << 16 | (uint32_t)p[1] << 24);
}
static inline float half_value(const uint8_t *p)
{
    uint32_t h = p[0] | (uint32_t)p[1] << 8, sign = (h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00)                          /* infinity, or NaN: made quiet as hardware does */
        return bits_value(sign | 0x7f800000 | rest << 13 | (rest > 0x7c00 ? 0x400000 : 0));
    float magnitude = bits_value(rest << 13) * 0x1p112f;            /* exact, subnormals included */
    return sign ? -magnitude : magnitude;
}
static inline float any_value(int type, const uint8_t *p)
{
    return type == F32 ? float_value(p) : type == F16 ? half_value(p) : brain_value(p);
}

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"           /* wide vectors never cross a call that exists */
#endif
#define ISA ISA_C
#include "kernel.h"
#if defined(__x86_64__) && defined(__GNUC__)
#define ISA ISA_AVX2
#include "kernel.h"
#define ISA ISA_AVX512
#include "kernel.h"
#elif defined(__aarch64__) && defined(__GNUC__)
#define ISA ISA_NEON
#include "kernel.h"
#endif

/* ---- the machine ----------------------------------------------------------------------------- */

static struct { const Kernels *k; int threads; const Device *device; } machine;

#if defined(__x86_64__) && defined(__GNUC__)
static bool runs_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
static bool runs_avx512(void)
{
#if defined(WIDE_BY_HALVES)
    return runs_avx2();
#endif
    return runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#endif
static bool runs_always(void) { return true; }

/* Best first. */
static const struct { const Kernels *kernels; bool (*runs)(void); } kernels[] = {
#if defined(__x86_64__) && defined(__GNUC__)
    { &kernels_avx512, runs_avx512 },
    { &kernels_avx2, runs_avx2 },
#elif defined(__aarch64__) && defined(__GNUC__)
    { &kernels_neon, runs_always },
#endif
    { &kernels_c, runs_always },
};

const char *machine_isas(void)
{
    static char list[64];
    size_t used = 0;
    for (size_t i = 0; i < countof(kernels); i++)
        if (kernels[i].runs())
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "",
                                     kernels[i].kernels->name);
    return list;
}

bool machine_choose(int threads, const char *isa, Error *e)
{
    const Kernels *best = NULL;
    for (size_t i = 0; i < countof(kernels) && !best; i++)
        if (kernels[i].runs() && (!isa || !strcmp(isa, kernels[i].kernels->name)))
            best = kernels[i].kernels;
    if (!best)
        return fail(e, "instruction set: found '%s', this machine has %s", isa ? isa : "none",
                    machine_isas());
    if (threads < 0 || threads > 1024) return fail(e, "threads: found %d, want 1..1024", threads);
    machine.k = best;
#if defined(_OPENMP)
    machine.threads = threads ? threads : omp_get_num_procs();
#else
    machine.threads = 1;
#endif
    return true;
}

/* The kernels in use; a library caller who never chose gets the best and all cores. */
static const Kernels *chosen(void)
{
    if (!machine.k) machine_choose(0, NULL, &(Error){ 0 });
    return machine.k;
}
int machine_threads(void) { chosen(); return machine.threads; }
const char *machine_isa(void) { return chosen()->name; }
void machine_device(const Device *d) { machine.device = d; }
bool machine_arena(const void *base, size_t size, Error *e)
{
    return !machine.device || machine.device->open(base, size, e);
}
void machine_arena_gone(const void *base)
{
    if (machine.device && base) machine.device->close(base);
}
void machine_weights_gone(void)
{
    if (machine.device) machine.device->forget();
}
void machine_wait(void)
{
    if (machine.device) machine.device->wait();
}
const char *machine_device_name(void) { return machine.device ? machine.device->name : NULL; }

double machine_peak(void)
{
    const Kernels *k = chosen();
    double best = 0;
    if (machine.device) return machine.device->peak();
    for (int round = 0; round < 10; round++) {
        double start = now(), adds = 0;
        #pragma omp parallel for num_threads(machine.threads) schedule(static)
        for (int t = 0; t < machine.threads; t++) {
            float sink[2] = { 0.999f, 1e-3f };
            double done = k->burn(2000000, sink);
            if (!t) adds = done * machine.threads;
        }
        double rate = adds / (now() - start);
        if (rate > best) best = rate;
    }
    return best;
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Bytes at the top of the arena, on a cache line.  An arena smaller than its plan stops computing
 * and goes on counting: its owner finds base gone and peak telling the need. */
static void *take(Arena *m, size_t bytes)
{
    size_t at = m->used;
    m->used += (bytes + 63) / 64 * 64;
    m->peak = zmax(m->peak, m->used);
    if (m->base && m->used > m->size) m->base = NULL;
    return m->base ? m->base + at : NULL;
}
static float *take_floats(Arena *m, size_t count) { return take(m, count * sizeof(float)); }

size_t tensor_count(Tensor x) { return (size_t)x.b * (size_t)x.h * (size_t)x.w * (size_t)x.c; }
static size_t positions(Tensor x) { return (size_t)x.h * (size_t)x.w; }
static size_t rows_of(Tensor x) { return (size_t)x.b * positions(x); }

Tensor tensor(Arena *m, int b, int h, int w, int c)
{
    Tensor x = { .b = b, .h = h, .w = w, .c = c };
    x.at = take_floats(m, tensor_count(x));
    return x;
}

/* Values of an arena to another place in it. */
static void move(float *to, const float *from, size_t count)
{
    if (machine.device) machine.device->copy(to, count, from, count, 1, count);
    else memmove(to, from, count * sizeof *to);
}

void copy_to(Tensor y, Tensor x)
{
    if (y.at) move(y.at, x.at, tensor_count(x));
}

Tensor keep(Arena *m, size_t top, Tensor x)
{
    float *from = x.at;
    m->used = top;
    x.at = take_floats(m, tensor_count(x));
    if (m->base && x.at != from) move(x.at, from, tensor_count(x));
    return x;
}

/* Where the channels of a position lie: the head, and for a concat its tail. */
typedef struct { const float *at; size_t ld; int c; } Source;
static int sources(Tensor x, Source s[2])
{
    int head = x.c - x.tail_c;
    s[0] = (Source){ x.at, (size_t)head, head };
    s[1] = (Source){ x.tail, (size_t)x.tail_c, x.tail_c };
    return x.tail_c ? 2 : 1;
}

Tensor copy(Arena *m, Tensor x)
{
    Tensor y = tensor(m, x.b, x.h, x.w, x.c);
    Source s[2];
    size_t first = 0;
    if (!m->base) return y;
    for (int i = 0, n = sources(x, s); i < n; first += (size_t)s[i++].c)
        if (machine.device)
            machine.device->copy(y.at + first, (size_t)x.c, s[i].at, s[i].ld, rows_of(x),
                                 (size_t)s[i].c);
        else
            for (size_t r = 0; r < rows_of(x); r++)
                memcpy(y.at + r * (size_t)x.c + first, s[i].at + r * s[i].ld,
                       (size_t)s[i].c * sizeof(float));
    return y;
}

Tensor concat(Tensor x, Tensor y)
{
    x.tail = y.at;
    x.tail_c = y.c;
    x.c += y.c;
    return x;
}

Tensor item(Tensor x, int i)
{
    if (x.at) x.at += (size_t)i * positions(x) * (size_t)x.c;
    x.b = 1;
    return x;
}

Tensor band(Tensor x, int first, int count)
{
    if (x.at) x.at += (size_t)first * (size_t)x.w * (size_t)x.c;
    x.h = count;
    return x;
}

Tensor as_tokens(Tensor x) { x.h *= x.w; x.w = 1; return x; }
Tensor as_picture(Tensor x, int h, int w) { x.h = h; x.w = w; return x; }

Tensor from_host(Arena *m, int b, int h, int w, int c, const float *values)
{
    Tensor x = tensor(m, b, h, w, c);
    if (m->base && machine.device) machine.device->put(x.at, values, tensor_count(x));
    else if (m->base) memcpy(x.at, values, tensor_count(x) * sizeof(float));
    return x;
}
void to_host(Tensor x, float *values)
{
    if (x.at && machine.device) machine.device->fetch(x.at, values, tensor_count(x));
    else if (x.at) memcpy(values, x.at, tensor_count(x) * sizeof(float));
}
void host_wrote(Tensor x)
{
    if (x.at && machine.device) machine.device->put(x.at, x.at, tensor_count(x));
}
void host_reads(Tensor x)
{
    if (x.at && machine.device) machine.device->fetch(x.at, x.at, tensor_count(x));
}

/* ---- weights --------------------------------------------------------------------------------- */

size_t weight_count(Weight w)
{
    size_t n = w.at ? 1 : 0;
    for (int i = 0; i < w.rank; i++) n *= (size_t)w.dim[i];
    return n;
}
static size_t value_bytes(int type) { return type == F32 ? 4 : 2; }
size_t weight_bytes(Weight w) { return weight_count(w) * value_bytes(w.type); }

void weight_read(Weight w, size_t first, size_t count, float *out)
{
    size_t size = value_bytes(w.type);
    const uint8_t *p = (const uint8_t *)w.at + first * size;
    for (size_t i = 0; i < count; i++) out[i] = any_value(w.type, p + i * size);
}

/* A vector of n floats in scratch, zeros (or `absent`) where the weight is missing, padded for a
 * panel. */
static float *take_vector(Arena *m, Weight w, size_t n, float absent)
{
    size_t padded = (n + NR_MAX - 1) / NR_MAX * NR_MAX;
    float *v = take_floats(m, padded);
    m->weight_bytes += (double)weight_bytes(w);
    if (!m->base || machine.device) return v;
    for (size_t i = 0; i < padded; i++) v[i] = i < n ? absent : 0;
    if (w.at) weight_read(w, 0, n, v);
    return v;
}

/* ---- products -------------------------------------------------------------------------------- */

enum { BLOCK_ROWS = 96, GROUP_OUTS = 128, PANEL_BYTES = 2 << 20 };       /* caches, not results */

/* One chunk of the sum: n channels of one source, all taps. */
typedef struct { Source source; size_t from, first, n; } Part;

/* Step to the next chunk; part starts all zero.  Chunks do not cross from head to tail of a
 * concat. */
static bool next_part(const Product *p, Part *part)
{
    Source s[2];
    int count = sources(p->x, s), head = s[0].c;
    size_t done = part->first + part->n;
    if (done == (size_t)p->x.c) return false;
    const bool tail = count == 2 && done >= (size_t)head;
    part->source = s[tail];
    part->first = done;
    part->from = tail ? done - (size_t)head : done;
    part->n = zmin(CHUNK, (size_t)part->source.c - part->from);
    return true;
}

/* torch's nearest neighbour: floor(i * (float)from / to). */
static int nearest(int i, int from, int to)
{
    return from == to ? i : imin((int)((float)i * ((float)from / (float)to)), from - 1);
}

static int around(int i, int n) { i %= n; return i < 0 ? i + n : i; }

/* Pointers to the source rows of outputs first .. first + n of tap (ky, kx). */
static void point_rows(const Product *p, Source s, size_t first, size_t n, int ky, int kx,
                       const float **row)
{
    const Tensor y = p->y, x = p->x;
    if (!p->at.stride) {
        for (size_t i = 0; i < n; i++) row[i] = s.at + (first + i) * s.ld;
        return;
    }
    const int h = p->at.h ? p->at.h : x.h, w = p->at.w ? p->at.w : x.w;
    size_t b = first / positions(y), rest = first % positions(y);
    int oy = (int)(rest / (size_t)y.w), ox = (int)(rest % (size_t)y.w);
    const int dilation = imax(1, p->at.dilation), beside = p->kw > 1 ? p->at.before : 0;
    for (size_t i = 0; i < n; i++) {
        int iy = (oy + p->at.above) * p->at.stride + ky * dilation - p->at.before;
        int ix = ox * p->at.stride + kx * dilation - beside;
        if (p->wrap) { iy = around(iy, h); ix = around(ix, w); }
        bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
        row[i] = !inside ? p->zero
            : s.at + ((b * (size_t)x.h + (size_t)nearest(iy, x.h, h)) * (size_t)x.w
                      + (size_t)nearest(ix, x.w, w)) * s.ld;
        if (++ox == y.w) { ox = 0; if (++oy == y.h) { oy = 0; b++; } }
    }
}

/* The changes of p's weight. */
static void find_changes(const Arena *m, Product *p)
{
    const uintptr_t at = (uintptr_t)p->w.at;
    int low = 0, high = m->change_count;
    while (low < high) {
        const int middle = (low + high) / 2;
        if ((uintptr_t)m->changes[middle].weight < at) low = middle + 1;
        else high = middle;
    }
    for (high = low; high < m->change_count && m->changes[high].weight == p->w.at;) high++;
    p->changes = high > low ? m->changes + low : NULL;
    p->change_count = high - low;
}

/* panel += scale * up down, for values first .. first + count of rows out .. out + outs: itself a
 * product, whose rows are the values and whose sum runs over the rank. */
static void change_panel(const Change *c, int out, int outs, size_t ld, size_t first, size_t count,
                         size_t taps, float *panel, size_t plane)
{
    enum { RANKS = LORA_RANKS, VALUES = 16 * LORA_TAPS };
    const Kernels *k = machine.k;
    const size_t nr = (size_t)k->nr, rank = (size_t)c->down.dim[0], block = VALUES / taps * taps;
    float up[RANKS * NR_MAX], down[RANKS * VALUES];
    const float *row[VALUES];
    for (size_t r = 0; r < rank; r += RANKS) {
        const size_t ranks = zmin(RANKS, rank - r);
        memset(up, 0, sizeof up);
        for (size_t i = 0; i < (size_t)outs; i++)
            for (size_t j = 0; j < ranks; j++) {
                weight_read(c->up, ((size_t)out + i) * rank + r + j, 1, &up[j * nr + i]);
                up[j * nr + i] *= c->scale;
            }
        for (size_t v = 0; v < count; v += block) {
            const size_t n = zmin(block, count - v);
            for (size_t j = 0; j < ranks; j++)
                weight_read(c->down, (r + j) * ld + first + v, n, down + j * n);
            for (size_t tap = 0; tap < taps; tap++) {
                float *to = panel + tap * plane + v / taps * nr;
                for (size_t i = 0; i < n / taps; i++) row[i] = down + i * taps + tap;
                for (size_t i = 0; i < n / taps; i += (size_t)k->mr)
                    k->tile((int)zmin((size_t)k->mr, n / taps - i), ranks, row + i, 0, n, up,
                            to + i * nr, nr, true);
            }
        }
    }
}

/* Values first .. first + count of rows out .. out + outs of p's weight, changed, as a panel. */
static void pack_panel(const Product *p, int out, int outs, size_t first, size_t count, size_t taps,
                       float *panel, size_t plane)
{
    const size_t ld = (size_t)p->x.c * taps;
    const uint8_t *w = (const uint8_t *)p->w.at + (size_t)out * ld * value_bytes(p->w.type);
    machine.k->pack(p->w.type, w, ld, outs, first, count, taps, panel, plane);
    for (int i = 0; i < p->change_count; i++)
        change_panel(&p->changes[i], out, outs, ld, first, count, taps, panel, plane);
}

/* Weights of outputs from `out` on, panel by panel, part by part: [part][panel][tap][k][nr]. */
static void pack_group(const Product *p, int out, int panels, float *packed)
{
    const Kernels *k = machine.k;
    const size_t taps = (size_t)p->kh * (size_t)p->kw;
    for (Part part = { 0 }; next_part(p, &part);)
        for (int j = 0; j < panels * (p->gated ? 2 : 1); j++) {
            int o = out + j % panels * k->nr, gate = j >= panels ? p->y.c : 0;
            pack_panel(p, o + gate, imin(k->nr, p->y.c - o), part.first * taps, part.n * taps, taps,
                       packed, part.n * (size_t)k->nr);
            packed += part.n * taps * (size_t)k->nr;
        }
}

/* Bias, activation and residual of rows first .. first + n, outputs out .. out + outs. */
static void finish_rows(const Product *p, size_t first, size_t n, int out, int outs,
                        const float *sum, size_t ld)
{
    const size_t c = (size_t)p->y.c, per = positions(p->y);
    const bool spread = p->r.at && (positions(p->r) != per || p->r.b != p->y.b);
    const size_t step = c * imax(1, p->apart);
    for (size_t end = first + n; first < end; first += n, sum += n * ld) {
        n = spread ? zmin(end - first, per - first % per)
            : end - first;                                            /* one item, one row to add */
        float *y = p->y.at + first * step + out;
        const float *r = !p->r.at ? NULL
            : p->r.at + (!spread ? first : p->r.b == 1 ? 0 : first / per) * c + out;
        if (p->gated)
            machine.k->gated(sum, sum + ld / 2, ld, (int)n, outs, p->bias + out,
                             p->bias + p->y.c + out, y, step);
        else
            machine.k->finish(sum, ld, (int)n, outs, p->bias + out, p->act, r, spread ? 0 : c,
                              y, step);
    }
}

/* Outputs of rows first .. last and `panels` panels from output `out` on. */
static void product_task(const Product *p, size_t first, size_t last, int out, int panels,
                         float *packed, float *sum)
{
    const Kernels *k = machine.k;
    const int all = panels * (p->gated ? 2 : 1), mr = k->mr;
    const size_t ld = (size_t)(all * k->nr);
    const float *row[BLOCK_ROWS];
    pack_group(p, out, panels, packed);
    for (; first < last; first += BLOCK_ROWS) {
        const int n = (int)zmin(BLOCK_ROWS, last - first);
        const float *panel = packed;
        for (Part part = { 0 }; next_part(p, &part);) {
            const size_t size = part.n * (size_t)k->nr, taps = (size_t)(p->kh * p->kw);
            for (int tap = 0; tap < p->kh * p->kw; tap++) {
                point_rows(p, part.source, first, (size_t)n, tap / p->kw, tap % p->kw, row);
                for (int j = 0; j < all; j++)
                    for (int i = 0; i < n; i += mr)
                        k->tile(imin(mr, n - i), part.n, row + i, part.from, 1,
                                panel + ((size_t)j * taps + (size_t)tap) * size,
                                sum + (size_t)i * ld + j * k->nr, ld, part.first || tap);
            }
            panel += (size_t)all * taps * size;
        }
        finish_rows(p, first, (size_t)n, out, imin(panels * k->nr, p->y.c - out), sum, ld);
    }
}

/* Cut the outputs into tasks: groups of panels that stay in cache, and rows where there are few
 * groups. */
static void product(Arena *m, Product p)
{
    const Kernels *k = chosen();
    const size_t top = m->used, depth = (size_t)(p.kh * p.kw) * (size_t)p.x.c, rows = rows_of(p.y);
    const int gates = p.gated ? 2 : 1, panels = (p.y.c + k->nr - 1) / k->nr;
    const size_t panel_bytes = depth * (size_t)(k->nr * gates) * sizeof(float);
    int group = imax(1, imin(GROUP_OUTS / k->nr, (int)(PANEL_BYTES / panel_bytes)));
    const int groups = (panels + group - 1) / group;
    group = (panels + groups - 1) / groups;
    const size_t most = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const size_t cuts = zmin(most, (size_t)((4 * machine.threads + groups - 1) / groups));
    const size_t span = (most + cuts - 1) / cuts * BLOCK_ROWS;
    const size_t packed = (size_t)group * panel_bytes / sizeof(float);
    const size_t scratch = packed + (size_t)(BLOCK_ROWS * group * gates * k->nr);
    float *memory = take_floats(m, scratch * (size_t)machine.threads);
    m->macs += (double)rows * p.y.c * gates * (double)depth;
    m->weight_bytes += (double)weight_bytes(p.w);
    m->used = top;
    if (!m->base) return;
    find_changes(m, &p);
    if (machine.device) { machine.device->product(&p); return; }
    #pragma omp parallel for num_threads(machine.threads) schedule(dynamic, 1)
    for (size_t t = 0; t < (size_t)groups * cuts; t++) {
        const int out = (int)(t / cuts) * group * k->nr;
        const int count = imin(group, panels - (int)(t / cuts) * group);
        const size_t first = t % cuts * span, last = zmin(first + span, rows);
        float *mine = memory + (size_t)THREAD * scratch;
        if (first < last && count > 0)
            product_task(&p, first, last, out, count, mine, mine + packed);
    }
}

static void linear_to(Arena *m, Tensor y, Tensor x, const Linear *w, Act act, Tensor r, bool gated)
{
    const size_t top = m->used;
    const float *bias = take_vector(m, w->b, (size_t)y.c * (gated ? 2 : 1), 0);
    product(m, (Product){ .x = x, .w = w->w, .b = w->b, .bias = bias, .kh = 1, .kw = 1,
                          .gated = gated, .act = act, .r = r, .y = y });
    m->used = top;
}

Tensor linear_act(Arena *m, Tensor x, const Linear *w, Act act)
{
    Tensor y = tensor(m, x.b, x.h, x.w, w->w.dim[0]);
    linear_to(m, y, x, w, act, (Tensor){ 0 }, false);
    return y;
}
Tensor linear(Arena *m, Tensor x, const Linear *w) { return linear_act(m, x, w, IDENTITY); }
Tensor linear_plus(Arena *m, Tensor x, const Linear *w, Tensor r)
{
    Tensor y = tensor(m, x.b, x.h, x.w, w->w.dim[0]);
    linear_to(m, y, x, w, IDENTITY, r, false);
    return y;
}
void linear_into(Arena *m, Tensor y, Tensor x, const Linear *w)
{
    linear_to(m, y, x, w, IDENTITY, y, false);
}
Tensor geglu(Arena *m, Tensor x, const Linear *w)
{
    Tensor y = tensor(m, x.b, x.h, x.w, w->w.dim[0] / 2);
    linear_to(m, y, x, w, IDENTITY, (Tensor){ 0 }, true);
    return y;
}

/* ---- convolutions: a product that finds its rows, or Winograd -------------------------------- */

/* By the layer's shape alone, so that every machine takes the same way. */
static bool by_winograd(const Product *p)
{
    return p->kh == 3 && p->kw == 3 && p->at.stride == 1 && p->at.before == 1 && p->at.after == 1
        && p->at.dilation <= 1 && p->y.h >= 4 && p->y.w >= 4
        && p->x.c % 16 == 0 && p->y.c % 16 == 0;
}
static bool by_winograd_1d(const Product *p)
{
    return p->kh >= 3 && p->kh <= 11 && p->y.h >= 4 * p->at.dilation
        && p->x.c % 16 == 0 && p->y.c % 16 == 0;
}

enum { WINO_ROWS = 36 * 128, WINO_BYTES = 12 << 20, LINE = 16 };         /* caches, not results */

/* F(4x4,3x3): 36 products make 16 outputs of 9 taps; F(4,3), for rows: 6 make 4 of 3.  A longer row
 * of taps is cut in groups of 3, that stand side by side in the sum over k; a dilated one looks at
 * every dilation-th position, phase by phase.
 * The scratch of one convolution: V holds a block of transformed tiles for all threads; each thread
 * has the weights of a panel and chunk as they come (G), transformed (U), and the sums (M).  V is
 * [plane][chunk][tile][k], so that a product reads it in one stream; k: `per` channels of each
 * group.  The planes of each lie one cache line further apart than their size, else they would
 * share one cache set. */

/* Tile t: its item, and the first of its 4x4 or 4 outputs. */
static void wino_place(const Wino *n, size_t t, size_t *b, int *y, int *x)
{
    size_t per = (size_t)n->across * (size_t)n->down;
    *b = t / per;
    *y = (int)(t % per / (size_t)n->across) * 4;
    *x = (int)(t % (size_t)n->across) * 4;
    if (!n->flat) {
        *y = *y * n->across + *x / 4;
        *x = 0;
    }
}

static void wino_input(const Product *p, const Wino *n, size_t t, float *v)
{
    const Tensor x = p->x;
    const int h = p->y.h + p->at.above + p->at.below, w = p->y.w, side = n->flat ? 6 : 1,
              apart = imax(1, p->at.dilation);
    const float *pixel[36];
    size_t b;
    int y0, x0;
    wino_place(n, t, &b, &y0, &x0);
    for (int g = 0; g < n->groups; g++, v += n->per) {
        for (int i = 0; i < n->planes; i++) {
            int iy = y0 + p->at.above + (3 * g + i / side) * apart - p->at.before;
            int ix = n->flat ? x0 + i % side - 1 : 0;
            if (p->wrap) { iy = around(iy, h); ix = around(ix, w); }
            bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;
            pixel[i] = !inside ? p->zero
                : x.at + ((b * (size_t)x.h + (size_t)nearest(iy, x.h, h)) * (size_t)x.w
                          + (size_t)nearest(ix, x.w, w)) * (size_t)x.c;
        }
        if (n->flat) machine.k->wino_in(pixel, (size_t)x.c, v, n->v_plane, n->v_chunk);
        else machine.k->wino_in_1d(pixel, (size_t)x.c, p->slope, v, n->v_plane, n->per,
                                   n->v_chunk);
    }
}

/* The sums of tile t, back to its outputs. */
static void wino_output(const Product *p, const Wino *n, size_t t, const float *sum, int out,
                        int outs)
{
    const size_t yc = (size_t)p->y.c, line = (size_t)p->y.w * yc;
    size_t b;
    int y0, x0;
    wino_place(n, t, &b, &y0, &x0);
    const size_t at = ((b * (size_t)p->y.h + (size_t)y0) * (size_t)p->y.w + (size_t)x0) * yc
                    + (size_t)out;
    const bool spread = p->r.at && positions(p->r) == 1;
    const float *r = !p->r.at ? NULL
        : p->r.at + (!spread ? at : (p->r.b == 1 ? 0 : b * yc) + (size_t)out);
    if (n->flat)
        machine.k->wino_out(sum, n->m_plane, outs, p->bias + out, r, spread ? 0 : line,
                            spread ? 0 : yc, p->y.at + at, line, yc, imin(4, p->y.h - y0),
                            imin(4, p->y.w - x0));
    else if (y0 < p->y.h)                              /* the last tiles of some phases are empty */
        machine.k->wino_out_1d(sum, n->m_plane, outs, p->bias + out, r, p->y.at + at,
                               yc * (size_t)n->across,
                               imin(4, (p->y.h - y0 + n->across - 1) / n->across));
}

/* Tiles first .. last of the block that begins at tile `block`, one panel of outputs. */
static void wino_panel(const Product *p, const Wino *n, size_t block, size_t first, size_t last,
                       int out, float *own)
{
    const Kernels *k = machine.k;
    const size_t c = (size_t)p->x.c, nr = (size_t)k->nr, mr = (size_t)k->mr, count = last - first;
    const size_t taps = (size_t)(p->kh * p->kw), groups = (size_t)n->groups;
    const int outs = imin(k->nr, p->y.c - out);
    float *g = own, *u = g + taps * n->g_plane, *sum = u + (size_t)n->planes * n->u_plane;
    const float *row[WINO_ROWS / 6];
    for (size_t t = 0; t < count; t++) row[t] = n->v + (first + t) * WINO_CHUNK;
    for (size_t from = 0; from < c; from += n->per) {
        const size_t some = zmin(n->per, c - from), depth = some + n->per * (groups - 1);
        pack_panel(p, out, outs, from * taps, some * taps, taps, g, n->g_plane);
        for (size_t i = 0; i < groups; i++) {
            const float *mine = g + i * (size_t)n->taps * n->g_plane;
            float *to = u + i * n->per * nr;
            if (n->flat) k->wino_weights(mine, n->g_plane, some, to, n->u_plane);
            else k->wino_weights_1d(mine, n->g_plane, imin(3, p->kh - 3 * (int)i), some, to,
                                    n->u_plane);
        }
        for (size_t i = 0; i < (size_t)n->planes; i++)
            for (size_t t = 0; t < count; t += mr)
                k->tile((int)zmin(mr, count - t), depth, row + t,
                        i * n->v_plane + from / n->per * n->v_chunk, 1, u + i * n->u_plane,
                        sum + i * n->m_plane + t * nr, nr, from > 0);
    }
    for (size_t t = 0; t < count; t++)
        wino_output(p, n, block + first + t, sum + t * nr, out, outs);
}

/* How the tiles are cut: in blocks that all threads share, those in ranges where the panels of
 * outputs are fewer than the threads. */
static Wino wino_plan(const Product *p, bool flat, int panels, size_t nr)
{
    const size_t c = (size_t)p->x.c;
    Wino n = { .flat = flat, .planes = flat ? 36 : 6, .taps = flat ? 9 : 3,
               .groups = flat ? 1 : (p->kh + 2) / 3,
               .across = flat ? (p->y.w + 3) / 4 : imax(1, p->at.dilation) };
    n.down = flat ? (p->y.h + 3) / 4 : (p->y.h + 4 * n.across - 1) / (4 * n.across);
    n.tiles = (size_t)p->y.b * (size_t)n.across * (size_t)n.down;
    const size_t planes = (size_t)(n.planes * n.groups);
    n.per = n.groups == 1 ? WINO_CHUNK : n.groups == 2 && c % 32 == 0 ? 32 : 16;
    const size_t cuts = (size_t)((4 * machine.threads + panels - 1) / panels);
    n.range = WINO_ROWS / planes;
    n.block = zmax(16, zmin(n.range * cuts, WINO_BYTES / (planes * c * sizeof(float))));
    const size_t blocks = (n.tiles + n.block - 1) / n.block;
    n.block = (n.tiles + blocks - 1) / blocks;
    n.range = zmin(n.range, (n.block + cuts - 1) / cuts);
    n.v_chunk = n.block * WINO_CHUNK;
    n.v_plane = (c + n.per - 1) / n.per * n.v_chunk + LINE;
    n.g_plane = n.u_plane = WINO_CHUNK * nr + LINE;
    n.m_plane = n.range * nr + LINE;
    return n;
}

static void winograd(Arena *m, Product p, bool flat)
{
    const Kernels *k = chosen();
    const size_t top = m->used;
    const int panels = (p.y.c + k->nr - 1) / k->nr;
    Wino n = wino_plan(&p, flat, panels, (size_t)k->nr);
    const size_t taps = (size_t)(p.kh * p.kw), planes = (size_t)n.planes;
    const size_t scratch = taps * n.g_plane + planes * (n.u_plane + n.m_plane);
    n.v = take_floats(m, planes * n.v_plane);
    n.own = take_floats(m, scratch * (size_t)machine.threads);
    m->macs += (double)taps * (double)rows_of(p.y) * p.x.c * p.y.c;
    m->weight_bytes += (double)weight_bytes(p.w);
    m->used = top;
    if (!m->base) return;
    find_changes(m, &p);
    if (machine.device) { machine.device->winograd(&p, &n); return; }
    for (size_t block = 0; block < n.tiles; block += n.block) {
        const size_t count = zmin(n.block, n.tiles - block);
        const size_t ranges = (count + n.range - 1) / n.range;
        #pragma omp parallel num_threads(machine.threads)
        {
            #pragma omp for schedule(static)
            for (size_t t = 0; t < count; t++) wino_input(&p, &n, block + t, n.v + t * WINO_CHUNK);
            #pragma omp for schedule(dynamic, 1)
            for (size_t j = 0; j < (size_t)panels * ranges; j++) {
                const size_t first = j % ranges * n.range;
                wino_panel(&p, &n, block, first, zmin(first + n.range, count),
                           (int)(j / ranges) * k->nr, n.own + (size_t)THREAD * scratch);
            }
        }
    }
}

static void conv2d_to(Arena *m, Tensor y, Tensor x, const Linear *w, Window at, Tensor r)
{
    const size_t top = m->used;
    Product p = { .x = x, .w = w->w, .b = w->b, .kh = w->w.dim[2], .kw = w->w.dim[3], .at = at,
                  .r = r, .y = y, .wrap = m->wrap };
    p.bias = take_vector(m, w->b, (size_t)y.c, 0);
    p.zero = take_vector(m, (Weight){ 0 }, (size_t)x.c, 0);
    if (by_winograd(&p)) winograd(m, p, true);
    else product(m, p);
    m->used = top;
}

/* The picture that a convolution makes. */
static Tensor conv2d_out(Arena *m, Tensor x, const Linear *w, Window at)
{
    int h = (at.h ? at.h : x.h) + at.before + at.after - w->w.dim[2];
    int across = (at.w ? at.w : x.w) + at.before + at.after - w->w.dim[3];
    return tensor(m, x.b, h / at.stride + 1 - at.above - at.below, across / at.stride + 1,
                  w->w.dim[0]);
}

Tensor conv2d_plus(Arena *m, Tensor x, const Linear *w, Window at, Tensor r)
{
    Tensor y = conv2d_out(m, x, w, at);
    conv2d_to(m, y, x, w, at, r);
    return y;
}
Tensor conv2d(Arena *m, Tensor x, const Linear *w, Window at)
{
    return conv2d_plus(m, x, w, at, (Tensor){ 0 });
}
void conv2d_into(Arena *m, Tensor y, Tensor x, const Linear *w, Window at)
{
    conv2d_to(m, y, x, w, at, y);
}

static void conv1d_to(Arena *m, Tensor y, Tensor x, const Linear *w, int dilation, float slope,
                      Tensor r)
{
    const size_t top = m->used;
    const int k = w->w.dim[2];
    Product p = { .x = x, .w = w->w, .b = w->b,
                  .bias = take_vector(m, w->b, (size_t)y.c, 0), .kh = k, .kw = 1,
                  .at = { .stride = 1, .before = (k - 1) / 2 * dilation, .dilation = dilation },
                  .slope = slope, .r = r, .y = y,
                  .zero = take_vector(m, (Weight){ 0 }, (size_t)x.c, 0) };
    if (by_winograd_1d(&p)) {
        winograd(m, p, false);
    } else {
        if (slope != 1) {
            p.x = copy(m, x);
            leaky_relu_(p.x, slope);
        }
        product(m, p);
    }
    m->used = top;
}

Tensor conv1d_leaky(Arena *m, Tensor x, const Linear *w, int dilation, float slope)
{
    Tensor y = tensor(m, x.b, x.h, 1, w->w.dim[0]);
    conv1d_to(m, y, x, w, dilation, slope, (Tensor){ 0 });
    return y;
}
Tensor conv1d(Arena *m, Tensor x, const Linear *w, int dilation)
{
    return conv1d_leaky(m, x, w, dilation, 1);
}
void conv1d_leaky_to(Arena *m, Tensor y, Tensor x, const Linear *w, float slope, Tensor r)
{
    conv1d_to(m, y, x, w, 1, slope, r);
}

/* Output t takes x[i] * w[t + pad - i * stride]: of every stride-th output the taps are the same,
 * those from `first` on in steps of stride.  Their weights [I,O,k] become [O,I,taps], the last tap
 * first. */
static void phase_weights(Weight w, int stride, int first, int taps, float *to)
{
    const size_t outs = (size_t)w.dim[1], ins = (size_t)w.dim[0], k = (size_t)w.dim[2];
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t o = 0; o < outs; o++)
        for (size_t i = 0; i < ins; i++)
            for (int j = 0; j < taps; j++) {
                const size_t tap = (size_t)(first + (taps - 1 - j) * stride);
                float *value = to + (o * ins + i) * (size_t)taps + j;
                *value = 0;                        /* a stride longer than the kernel leaves gaps */
                if (tap < k) weight_read(w, (i * outs + o) * k + tap, 1, value);
            }
}

Tensor conv1d_transposed(Arena *m, Tensor x, const Linear *w, int stride, int pad)
{
    const int k = w->w.dim[2], outs = w->w.dim[1], most = (k + stride - 1) / stride;
    Tensor y = tensor(m, x.b, (x.h - 1) * stride - 2 * pad + k, 1, outs);
    const size_t top = m->used;
    const float *bias = take_vector(m, w->b, (size_t)outs, 0);
    const float *zero = take_vector(m, (Weight){ 0 }, (size_t)x.c, 0);
    float *weights = take_floats(m, (size_t)outs * (size_t)x.c * (size_t)most);
    chosen();
    for (int phase = 0; phase < stride && phase < y.h; phase++) {
        const int first = (phase + pad) % stride;
        const int taps = imax(1, (k - first + stride - 1) / stride);
        if (m->base) phase_weights(w->w, stride, first, taps, weights);
        host_wrote((Tensor){ .at = weights, .b = 1, .h = outs, .w = taps, .c = x.c });
        for (int b = 0; b < x.b; b++) {
            Tensor part = item(y, b);
            if (part.at) part.at += phase * outs;
            part.h = (y.h - phase + stride - 1) / stride;
            product(m, (Product){ .x = item(x, b), .b = w->b, .bias = bias, .kh = taps, .kw = 1,
                                  .y = part, .apart = stride,
                                  .w = { weights, F32, 3, { outs, x.c, taps } },
                                  .zero = zero,
                                  .at = { .stride = 1,
                                          .before = taps - 1 - (phase + pad) / stride } });
        }
    }
    m->used = top;
    return y;
}

/* ---- attention: queries in the lanes --------------------------------------------------------- */

static void gather_head(const Attention *a, Tensor from, size_t head, bool turned, float *to)
{
    const size_t d = (size_t)a->d, c = (size_t)from.c, b = head / (size_t)a->heads;
    const float *row = from.at + b * a->keys * c + head % (size_t)a->heads * d;
    if (turned)                                            /* 16 keys at a time stay in cache */
        for (size_t y = 0; y < a->keys; y += 16)
            for (size_t x = 0; x < d; x++)
                for (size_t i = y; i < zmin(y + 16, a->keys); i++)
                    to[x * a->keys + i] = row[i * c + x];
    else
        for (size_t y = 0; y < a->keys; y++) memcpy(to + y * d, row + y * c, d * sizeof *to);
}

/* The first of nr queries of one head in q and y. */
static size_t query_at(const Attention *a, size_t head, size_t first)
{
    const size_t heads = (size_t)a->heads;
    return (head / heads * positions(a->q) + first) * (size_t)a->q.c + head % heads * (size_t)a->d;
}

/* What nr queries of one head see: S'[key][query] = K Q', the micro-kernel with keys as rows, then
 * softmax down the lanes, not yet times inverse.  Returns how many keys. */
static size_t attention_scores(const Attention *a, size_t head, size_t first, float *panel,
                               float *s, float *inverse)
{
    const Kernels *k = machine.k;
    const size_t c = (size_t)a->q.c, nr = (size_t)k->nr, mr = (size_t)k->mr, d = (size_t)a->d;
    const size_t n = positions(a->q), count = zmin(nr, n - first), at = query_at(a, head, first);
    const size_t keys = a->causal ? zmin(a->keys, first + nr) : a->keys;
    const float *key = a->k + head * a->keys * d, *row[MR_MAX];
    k->pack(F32, a->q.at + at, c, (int)count, 0, d, 1, panel, 0);
    k->scale(panel, d * nr, 1.0f / sqrtf((float)a->d));
    for (size_t y = 0; y < keys; y += mr) {
        for (size_t i = 0; i < mr; i++) row[i] = key + (y + i) * d;
        k->tile((int)zmin(mr, keys - y), d, row, 0, 1, panel, s + y * nr, nr, false);
    }
    if (a->causal)                                 /* query i of the block sees keys to first + i */
        for (size_t y = first + 1; y < keys; y++)
            for (size_t i = 0; i < nr && first + i < y; i++) s[y * nr + i] = -INFINITY;
    for (size_t i = 0; a->bias && i < count; i++) {
        const float *bias = a->bias + (head % (size_t)a->heads * n + first + i) * keys;
        const size_t item = head / (size_t)a->heads;
        const float *mask = a->masks
            ? a->mask + (item % (size_t)a->masks * n + first + i) * keys : NULL;
        for (size_t y = 0; y < keys; y++) s[y * nr + i] += mask ? bias[y] + mask[y] : bias[y];
    }
    k->softmax(s, keys, inverse);
    return keys;
}

/* The same queries' outputs O'[d][query] = V' S': the micro-kernel with the head's channels as
 * rows. */
static void attention_task(const Attention *a, size_t head, size_t first, float *panel, float *s,
                           float *o)
{
    const Kernels *k = machine.k;
    const size_t nr = (size_t)k->nr, mr = (size_t)k->mr, d = (size_t)a->d;
    const size_t count = zmin(nr, positions(a->q) - first);
    const float *value = a->v + head * a->keys * d, *row[MR_MAX];
    float inverse[NR_MAX];
    const size_t keys = attention_scores(a, head, first, panel, s, inverse);
    for (size_t y = 0; y < keys; y += KEY_CHUNK)
        for (size_t x = 0; x < d; x += mr) {
            for (size_t i = 0; i < mr; i++) row[i] = value + (x + i) * a->keys;
            k->tile((int)zmin(mr, d - x), zmin(KEY_CHUNK, keys - y), row, y, 1, s + y * nr,
                    o + x * nr, nr, y > 0);
        }
    k->unpack(o, d, (int)count, inverse, a->y.at + query_at(a, head, first), (size_t)a->q.c);
}

/* a has what differs from plain attention. */
static Tensor attend(Arena *m, Attention a, Tensor q, Tensor k, Tensor v)
{
    Tensor y = tensor(m, q.b, q.h, q.w, q.c);
    const size_t top = m->used, nr = (size_t)chosen()->nr, all = (size_t)q.b * (size_t)a.heads;
    float *keys = take_floats(m, tensor_count(k)), *values = take_floats(m, tensor_count(v));
    a.q = q;
    a.y = y;
    a.from_k = k;
    a.from_v = v;
    a.k = keys;
    a.v = values;
    a.d = q.c / a.heads;
    a.keys = positions(k);
    const size_t d = (size_t)a.d, scratch = (2 * d + a.keys) * nr,
                 blocks = (positions(q) + nr - 1) / nr;
    float *memory = take_floats(m, scratch * (size_t)machine.threads);
    m->macs += 2.0 * (double)rows_of(q) * (double)a.keys * q.c;
    m->used = top;
    if (!m->base) return y;
    if (machine.device) return machine.device->attention(&a), y;
    #pragma omp parallel num_threads(machine.threads)
    {
        float *mine = memory + (size_t)THREAD * scratch;
        #pragma omp for schedule(static)
        for (size_t t = 0; t < 2 * all; t++)
            gather_head(&a, t < all ? k : v, t % all, t >= all,
                        (t < all ? keys : values) + t % all * a.keys * d);
        #pragma omp for schedule(dynamic, 1)
        for (size_t t = 0; t < all * blocks; t++)
            attention_task(&a, t / blocks, t % blocks * nr, mine, mine + 2 * d * nr, mine + d * nr);
    }
    return y;
}

Tensor attention(Arena *m, Tensor q, Tensor k, Tensor v, int heads, bool causal)
{
    return attend(m, (Attention){ .heads = heads, .causal = causal }, q, k, v);
}

Tensor attention_biased(Arena *m, Tensor q, Tensor k, Tensor v, int heads, const float *bias,
                        const float *mask, int masks)
{
    return attend(m, (Attention){ .heads = heads, .bias = bias, .mask = mask, .masks = masks },
                  q, k, v);
}

/* The rows of the map that belong to nr queries of one item; heads add in their order. */
static void map_task(const Attention *a, size_t b, size_t first, float *panel, float *s)
{
    const size_t nr = (size_t)machine.k->nr, n = positions(a->q), count = zmin(nr, n - first);
    float inverse[NR_MAX], *y = a->y.at + (b * n + first) * a->keys;
    memset(y, 0, count * a->keys * sizeof *y);
    for (size_t head = 0; head < (size_t)a->heads; head++) {
        attention_scores(a, b * (size_t)a->heads + head, first, panel, s, inverse);
        for (size_t i = 0; i < count; i++)
            for (size_t j = 0; j < a->keys; j++)
                y[i * a->keys + j] += s[j * nr + i] * inverse[i] / (float)a->heads;
    }
}

Tensor attention_map(Arena *m, Tensor q, Tensor k, int heads)
{
    Tensor y = tensor(m, q.b, q.h, q.w, (int)positions(k));
    const size_t top = m->used, nr = (size_t)chosen()->nr;
    float *keys = take_floats(m, tensor_count(k));
    const Attention a = { .q = q, .y = y, .from_k = k, .k = keys, .heads = heads, .d = q.c / heads,
                          .keys = positions(k) };
    const size_t d = (size_t)a.d, scratch = (d + a.keys) * nr,
                 blocks = (positions(q) + nr - 1) / nr, items = (size_t)q.b;
    float *memory = take_floats(m, scratch * (size_t)machine.threads);
    m->macs += (double)rows_of(q) * (double)a.keys * q.c;
    m->used = top;
    if (!m->base) return y;
    if (machine.device) return machine.device->attention_map(&a), y;
    #pragma omp parallel num_threads(machine.threads)
    {
        float *mine = memory + (size_t)THREAD * scratch;
        #pragma omp for schedule(static)
        for (size_t t = 0; t < items * (size_t)heads; t++)
            gather_head(&a, k, t, false, keys + t * a.keys * d);
        #pragma omp for schedule(dynamic, 1)
        for (size_t t = 0; t < items * blocks; t++)
            map_task(&a, t / blocks, t % blocks * nr, mine, mine + d * nr);
    }
    return y;
}

/* ---- norms ----------------------------------------------------------------------------------- */

Tensor layer_norm(Arena *m, Tensor x, const Norm *w, float eps)
{
    Tensor y = tensor(m, x.b, x.h, x.w, x.c);
    const size_t top = m->used, c = (size_t)x.c;
    const float *weight = take_vector(m, w->w, c, 1), *bias = take_vector(m, w->b, c, 0);
    const Kernels *k = chosen();
    m->used = top;
    if (!m->base) return y;
    if (machine.device) return machine.device->layer_norm(y, x, w, eps), y;
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t r = 0; r < rows_of(x); r++)
        k->layer_norm(x.at + r * c, c, weight, bias, eps, y.at + r * c);
    return y;
}

/* Sums of one span of rows of one item: per channel of x - origin and of its square, origin the
 * item's first position, so that a mean far from zero costs no digits. */
static void span_sums(Tensor x, size_t b, size_t span, double *sum, double *square)
{
    const size_t n = positions(x), first = span * SPAN_ROWS, last = zmin(first + SPAN_ROWS, n);
    Source s[2];
    float a[SUM_ROWS], q[SUM_ROWS];
    for (int i = 0, count = sources(x, s); i < count; sum += s[i].c, square += s[i].c, i++)
        for (size_t c = 0; c < (size_t)s[i].c; c += SUM_ROWS) {
            const size_t wide = zmin(SUM_ROWS, (size_t)s[i].c - c);
            const float *origin = s[i].at + b * n * s[i].ld + c;
            for (size_t j = 0; j < wide; j++) sum[c + j] = square[c + j] = 0;
            for (size_t r = first; r < last; r += SUM_ROWS) {
                machine.k->channel_sums(origin + r * s[i].ld, s[i].ld, zmin(SUM_ROWS, last - r),
                                        wide, origin, a, q);
                for (size_t j = 0; j < wide; j++) { sum[c + j] += a[j]; square[c + j] += q[j]; }
            }
        }
}

/* From sums to y = x * scale + shift, channel by channel, for one item. */
static void group_affine(Tensor x, size_t b, int groups, float eps, const double *sums,
                         size_t spans, const float *weight, const float *bias, float *scale,
                         float *shift)
{
    const size_t c = (size_t)x.c, per = c / (size_t)groups, head = c - (size_t)x.tail_c,
                 n = positions(x);
    for (size_t g = 0; g < c; g += per) {
        double mean = 0, spread = 0, total[2];
        for (int pass = 0; pass < 2; pass++)               /* the mean, then what lies around it */
            for (size_t i = g; i < g + per; i++) {
                const float *origin = i < head ? x.at + b * n * head + i
                                               : x.tail + b * n * (size_t)x.tail_c + (i - head);
                total[0] = total[1] = 0;
                for (size_t s = 0; s < spans; s++) {
                    total[0] += sums[s * 2 * c + i];
                    total[1] += sums[s * 2 * c + c + i];
                }
                double own = *origin + total[0] / (double)n;
                if (!pass) mean += own / (double)per;
                else spread += total[1] / (double)n - total[0] / (double)n * (total[0] / (double)n)
                             + (own - mean) * (own - mean);
            }
        double inverse = 1 / sqrt(spread / (double)per + (double)eps);
        for (size_t i = g; i < g + per; i++) {
            scale[i] = (float)(weight[i] * inverse);
            shift[i] = (float)(bias[i] - mean * inverse * weight[i]);
        }
    }
}

Tensor group_scales(Arena *m, Tensor x, const Norm *w, int groups, float eps)
{
    Tensor y = tensor(m, x.b, 2, 1, x.c);
    const size_t top = m->used, c = (size_t)x.c, n = positions(x), items = (size_t)x.b,
                 spans = (n + SPAN_ROWS - 1) / SPAN_ROWS;
    const float *weight = take_vector(m, w->w, c, 1), *bias = take_vector(m, w->b, c, 0);
    double *sums = take(m, items * spans * 2 * c * sizeof(double));
    chosen();
    m->used = top;
    if (!m->base) return y;
    if (machine.device) return machine.device->group_scales(y, x, w, groups, eps), y;
    #pragma omp parallel for num_threads(machine.threads) schedule(dynamic, 1)
    for (size_t t = 0; t < items * spans; t++)
        span_sums(x, t / spans, t % spans, sums + t * 2 * c, sums + t * 2 * c + c);
    for (size_t b = 0; b < items; b++)
        group_affine(x, b, groups, eps, sums + b * spans * 2 * c, spans, weight, bias,
                     y.at + b * 2 * c, y.at + b * 2 * c + c);
    return y;
}

void scale_to(Tensor y, Tensor x, Tensor scales, Act act)
{
    const size_t n = positions(x), c = (size_t)x.c, blocks = (n + SUM_ROWS - 1) / SUM_ROWS;
    const Kernels *k = chosen();
    if (!y.at) return;
    if (machine.device) { machine.device->scale_to(y, x, scales, act); return; }
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t t = 0; t < (size_t)x.b * blocks; t++) {
        const size_t b = t / blocks, r = t % blocks * SUM_ROWS, at = b * n + r;
        const float *scale = scales.at + b * 2 * c;
        Source s[2];
        size_t first = 0;
        for (int i = 0, count = sources(x, s); i < count; first += (size_t)s[i++].c)
            k->affine(s[i].at + at * s[i].ld, s[i].ld, zmin(SUM_ROWS, n - r), (size_t)s[i].c,
                      scale + first, scale + c + first, act, y.at + at * c + first, c);
    }
}

static void group_norm_to(Arena *m, Tensor y, Tensor x, const Norm *w, int groups, float eps,
                          Act act)
{
    const size_t top = m->used;
    scale_to(y, x, group_scales(m, x, w, groups, eps), act);
    m->used = top;
}

Tensor group_norm(Arena *m, Tensor x, const Norm *w, int groups, float eps, Act act)
{
    Tensor y = tensor(m, x.b, x.h, x.w, x.c);
    group_norm_to(m, y, x, w, groups, eps, act);
    return y;
}
void group_norm_(Arena *m, Tensor x, const Norm *w, int groups, float eps, Act act)
{
    group_norm_to(m, x, x, w, groups, eps, act);
}

/* ---- element by element ---------------------------------------------------------------------- */

enum { STRIP = 1 << 14 };                                  /* values a task */

void act_(Tensor x, Act act)
{
    const size_t n = tensor_count(x);
    const Kernels *k = chosen();
    if (!x.at) return;
    if (machine.device) { machine.device->act(x, act); return; }
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t i = 0; i < n; i += STRIP) k->act(x.at + i, zmin(STRIP, n - i), act);
}

void leaky_relu_(Tensor x, float slope)
{
    const size_t n = x.at ? tensor_count(x) : 0;
    chosen();
    if (n && machine.device) { machine.device->leaky_relu(x, slope); return; }
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t s = 0; s < n; s += STRIP)
        for (size_t i = s; i < zmin(s + STRIP, n); i++)
            x.at[i] = x.at[i] > 0 ? x.at[i] : x.at[i] * slope;
}

void affine_(Tensor x, float plus, float times, float over)
{
    const size_t n = x.at ? tensor_count(x) : 0;
    chosen();
    if (n && machine.device) { machine.device->affine(x, plus, times, over); return; }
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t s = 0; s < n; s += STRIP)
        for (size_t i = s; i < zmin(s + STRIP, n); i++) x.at[i] = (x.at[i] + plus) * times / over;
}

void add_(Tensor x, Tensor y)
{
    const size_t n = tensor_count(y), all = tensor_count(x);
    if (!x.at || !y.at) return;
    chosen();
    if (machine.device) { machine.device->add(x, y); return; }
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t s = 0; s < all; s += STRIP)
        for (size_t i = s; i < zmin(s + STRIP, all); i++) x.at[i] += y.at[n == all ? i : i % n];
}

Tensor rows(Arena *m, Weight table, const int *ids, int b, int t)
{
    const size_t c = (size_t)table.dim[table.rank - 1];
    Tensor y = tensor(m, b, t, 1, (int)c);
    m->weight_bytes += (double)b * t * (double)(c * value_bytes(table.type));
    if (m->base && machine.device) machine.device->rows(y, table, ids);
    else if (m->base)
        for (size_t i = 0; i < (size_t)b * (size_t)t; i++) {
            if (ids[i] < table.dim[0]) weight_read(table, (size_t)ids[i] * c, c, y.at + i * c);
            else memset(y.at + i * c, 0, c * sizeof *y.at);
        }
    return y;
}

void add_rows_(Tensor x, Weight table)
{
    const size_t c = (size_t)x.c, n = positions(x);
    if (!x.at) return;
    if (machine.device) { machine.device->add_rows(x, table); return; }
    for (size_t r = 0; r < rows_of(x); r++)
        for (size_t i = 0; i < c; i++) {
            float value;
            weight_read(table, r % n * c + i, 1, &value);
            x.at[r * c + i] += value;
        }
}

Tensor patches(Arena *m, Tensor x, int p)
{
    Tensor y = tensor(m, x.b, (x.h / p) * (x.w / p), 1, x.c * p * p);
    const int across = x.w / p;
    if (!m->base) return y;
    if (machine.device) return machine.device->patches(y, x, p), y;
    for (size_t r = 0; r < rows_of(y); r++) {
        const int b = (int)(r / positions(y)), cell = (int)(r % positions(y));
        float *to = y.at + r * (size_t)y.c;
        for (int c = 0; c < x.c; c++)
            for (int i = 0; i < p * p; i++) {
                size_t iy = (size_t)(cell / across * p + i / p),
                       ix = (size_t)(cell % across * p + i % p);
                *to++ = item(x, b).at[(iy * (size_t)x.w + ix) * (size_t)x.c + (size_t)c];
            }
    }
    return y;
}

Tensor prepend(Arena *m, Weight row, Tensor x)
{
    Tensor y = tensor(m, x.b, 1 + x.h, 1, x.c);
    const size_t top = m->used;
    const Tensor first = rows(m, row, (int[]){ 0 }, 1, 1);
    for (int b = 0; b < x.b; b++) {
        copy_to(item(y, b), first);
        copy_to(band(item(y, b), 1, x.h), item(x, b));
    }
    m->used = top;
    return y;
}

Tensor rows_at(Arena *m, Tensor x, const int *from, int b, int h, int w)
{
    Tensor y = tensor(m, b, h, w, x.c);
    const size_t c = (size_t)x.c;
    if (!m->base) return y;
    if (machine.device) return machine.device->rows_at(y, x, from), y;
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t r = 0; r < rows_of(y); r++)
        if (from[r] >= 0) memcpy(y.at + r * c, x.at + (size_t)from[r] * c, c * sizeof(float));
        else memset(y.at + r * c, 0, c * sizeof(float));
    return y;
}

Tensor mean_rows(Arena *m, Tensor x)
{
    Tensor y = tensor(m, 1, 1, 1, x.c);
    if (!m->base) return y;
    if (machine.device) return machine.device->mean_rows(y, x), y;
    for (int c = 0; c < x.c; c++) {
        double sum = 0;
        for (size_t i = 0; i < rows_of(x); i++) sum += x.at[i * (size_t)x.c + (size_t)c];
        y.at[c] = (float)(sum / (double)rows_of(x));
    }
    return y;
}

void mix_(Tensor x, Tensor y, Tensor s)
{
    if (!x.at) return;
    if (machine.device) { machine.device->mix(x, y, s); return; }
    for (size_t i = 0; i < tensor_count(x); i++)
        x.at[i] = x.at[i] * (1 + s.at[i]) + y.at[i] * (1 - s.at[i]);
}

Tensor position(Tensor x, int b, int i)
{
    if (x.at) x.at += ((size_t)b * positions(x) + (size_t)i) * (size_t)x.c;
    return (Tensor){ .at = x.at, .b = 1, .h = 1, .w = 1, .c = x.c };
}

static float dot(const float *x, const float *q, size_t c)
{
    float lane[16] = { 0 };
    size_t i = 0;
    for (; i + 16 <= c; i += 16)
        for (size_t l = 0; l < 16; l++) lane[l] += x[i + l] * q[i + l];
    for (size_t l = 0; l < c - i; l++) lane[l] += x[i + l] * q[i + l];
    for (size_t half = 8; half; half /= 2)
        for (size_t l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}

void dots(Tensor x, const float *q, float *out)
{
    const size_t c = (size_t)x.c;
    #pragma omp parallel for num_threads(machine.threads) schedule(static)
    for (size_t r = 0; r < rows_of(x); r++) out[r] = dot(x.at + r * c, q, c);
}

bool all_finite(Tensor x)
{
    uint32_t worst = 0, bits;
    host_reads(x);
    for (size_t i = 0, n = x.at ? tensor_count(x) : 0; i < n; i++) {
        memcpy(&bits, x.at + i, 4);
        bits &= 0x7f800000;
        worst = bits > worst ? bits : worst;
    }
    return worst < 0x7f800000;
}

/* ---- trace ----------------------------------------------------------------------------------- */

static struct {
    TraceFn *f;
    void *self;
    char path[512];
    size_t used, starts[32];
    int depth;
} tracing;

void trace_to(TraceFn *f, void *self)
{
    memset(&tracing, 0, sizeof tracing);
    tracing.f = f;
    tracing.self = self;
}

/* Append to the path; what does not fit is cut. */
static void trace_append(const char *format, va_list args)
{
    size_t room = sizeof tracing.path - tracing.used;
    int n = vsnprintf(tracing.path + tracing.used, room, format, args);
    tracing.used += n < 0 ? 0 : zmin((size_t)n, room - 1);
}

void trace_enter(const char *format, ...)
{
    if (!tracing.f || tracing.depth == countof(tracing.starts)) return;
    va_list args;
    va_start(args, format);
    tracing.starts[tracing.depth++] = tracing.used;
    trace_append(format, args);
    va_end(args);
    if (tracing.used + 2 < sizeof tracing.path) tracing.path[tracing.used++] = '.';
    tracing.path[tracing.used] = 0;
}

void trace_leave(void)
{
    if (!tracing.f || !tracing.depth) return;
    tracing.used = tracing.starts[--tracing.depth];
    tracing.path[tracing.used] = 0;
}

void trace(Tensor x, const char *format, ...)
{
    if (!tracing.f || !x.at) return;
    va_list args;
    size_t used = tracing.used;
    va_start(args, format);
    trace_append(format, args);
    va_end(args);
    host_reads(x);
    tracing.f(tracing.self, tracing.path, x);
    tracing.used = used;
    tracing.path[used] = 0;
}
