/* opencl.c - a Device (device.h) by OpenCL 1.2: one queue, in order; twins of arenas; weights as
 * stored, uploaded when first read and kept while there is room.
 * Read in this order: the library, devices, memory, running a kernel, products, the rest, opening.
 * The kernels are in kernels.cl. */
#include "opencl.h"

#if !defined(OPENCL)
bool opencl_built(void) { return false; }
void opencl_devices(void (*each)(void *self, int number, const OpenclDevice *d), void *self,
                    Error *none)
{
    (void)each;
    (void)self;
    fail(none, "OpenCL: this build has none: make OPENCL=1");
}
bool opencl_open(int number, Error *e)
{
    return fail(e, "--device: found 'opencl:%d', this build has no OpenCL: make OPENCL=1", number);
}
void opencl_close(void) {}
bool opencl_worked(Error *e) { (void)e; return true; }
#else
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

typedef cl_long whole;
#include "device.h"
#include "kernels.h"

/* ---- the library ----------------------------------------------------------------------------- */

#define FUNCTIONS(f)                                                                            \
    f(clGetPlatformIDs) f(clGetDeviceIDs) f(clGetDeviceInfo) f(clCreateContext)                 \
    f(clReleaseContext) f(clCreateCommandQueue) f(clReleaseCommandQueue)                        \
    f(clCreateProgramWithSource) f(clBuildProgram) f(clGetProgramBuildInfo) f(clReleaseProgram) \
    f(clCreateKernel) f(clReleaseKernel) f(clSetKernelArg) f(clEnqueueNDRangeKernel)            \
    f(clCreateBuffer) f(clReleaseMemObject) f(clEnqueueWriteBuffer) f(clEnqueueReadBuffer)      \
    f(clFinish)
#define FIELD(name) __typeof__(&name) name;
#define FIND(name) && (*(void **)(void *)&cl.name = dlsym(cl.library, #name)) != NULL

static struct { void *library; FUNCTIONS(FIELD) } cl;

static bool load_library(Error *e)
{
    static const char *const names[] = { "libOpenCL.so.1", "libOpenCL.so", "libOpenCL.dylib" };
    for (size_t i = 0; !cl.library && i < countof(names); i++)
        cl.library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!cl.library) return fail(e, "OpenCL: found no libOpenCL.so.1, want a driver's loader");
    bool all = true FUNCTIONS(FIND);
    return all || fail(e, "OpenCL: libOpenCL: a function of OpenCL 1.2 is missing");
}

static const char *code_name(cl_int code, char out[32])
{
    static const struct { cl_int code; const char *name; } known[] = {
        { CL_DEVICE_NOT_AVAILABLE, "device not available" },
        { CL_MEM_OBJECT_ALLOCATION_FAILURE, "out of device memory" },
        { CL_OUT_OF_RESOURCES, "out of resources" }, { CL_OUT_OF_HOST_MEMORY, "out of memory" },
        { CL_INVALID_BUFFER_SIZE, "more than the device gives in one piece" },
        { CL_INVALID_COMMAND_QUEUE, "device lost" },
    };
    for (size_t i = 0; i < countof(known); i++)
        if (known[i].code == code) return known[i].name;
    snprintf(out, 32, "error %d", code);
    return out;
}

/* ---- devices --------------------------------------------------------------------------------- */

typedef void Visit(void *self, int number, cl_device_id id);

/* Every device in order; the number of them. */
static int visit_devices(Visit *each, void *self, Error *e)
{
    enum { PLATFORMS = 16, DEVICES = 32 };
    cl_platform_id platforms[PLATFORMS];
    cl_device_id ids[DEVICES];
    cl_uint count = 0, some;
    int number = 0;
    if (!load_library(e)) return 0;
    if (cl.clGetPlatformIDs(PLATFORMS, platforms, &count) || !count)
        return fail(e, "OpenCL: found no platform: its driver is not installed"), 0;
    for (cl_uint p = 0; p < count && p < PLATFORMS; p++) {
        if (cl.clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, DEVICES, ids, &some)) continue;
        for (cl_uint d = 0; d < some && d < DEVICES; d++) each(self, number++, ids[d]);
    }
    if (!number) fail(e, "OpenCL: found %u platforms without a device", count);
    return number;
}

static bool has_double(cl_device_id id)
{
    cl_device_fp_config config = 0;
    return !cl.clGetDeviceInfo(id, CL_DEVICE_DOUBLE_FP_CONFIG, sizeof config, &config, NULL)
        && config;
}

static OpenclDevice describe(cl_device_id id, bool *rounds)
{
    OpenclDevice d = { .name = "unknown" };
    cl_device_fp_config config = 0;
    const cl_device_fp_config all = CL_FP_DENORM | CL_FP_FMA | CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    cl_ulong memory = 0, largest = 0;
    cl.clGetDeviceInfo(id, CL_DEVICE_NAME, sizeof d.name, d.name, NULL);
    cl.clGetDeviceInfo(id, CL_DEVICE_VERSION, sizeof d.version, d.version, NULL);
    cl.clGetDeviceInfo(id, CL_DEVICE_SINGLE_FP_CONFIG, sizeof config, &config, NULL);
    cl.clGetDeviceInfo(id, CL_DEVICE_GLOBAL_MEM_SIZE, sizeof memory, &memory, NULL);
    cl.clGetDeviceInfo(id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, sizeof largest, &largest, NULL);
    d.name[sizeof d.name - 1] = d.version[sizeof d.version - 1] = 0;
    d.memory = memory;
    d.largest = largest;
    d.exact = (config & all) == all && has_double(id);
    if (rounds) *rounds = config & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    return d;
}

bool opencl_built(void) { return true; }

typedef struct { void (*each)(void *self, int number, const OpenclDevice *d); void *self; } Teller;

static void tell_device(void *self, int number, cl_device_id id)
{
    const Teller *t = self;
    const OpenclDevice d = describe(id, NULL);
    t->each(t->self, number, &d);
}

void opencl_devices(void (*each)(void *self, int number, const OpenclDevice *d), void *self,
                    Error *none)
{
    visit_devices(tell_device, &(Teller){ each, self }, none);
}

/* ---- memory ---------------------------------------------------------------------------------- */

enum { ARENAS = 16 };

typedef struct { const void *at; size_t bytes; cl_mem memory; uint64_t used; } Twin;

typedef enum {
    MULTIPLY, CHANGE, TILES_IN, TILES_WEIGHTS, TILES_OUT, SOFTMAX, LOOK, LAYER_NORM, GROUP_SUMS,
    GROUP_SCALE, SCALE_ROWS, ACT_ALL, LEAKY_ALL, AFFINE_ALL, ADD_EACH, MIX_ALL, COPY_ROWS,
    TABLE_ROWS, ADD_TABLE, PICK_ROWS, CUT_PATCHES, MEAN_OF_ROWS, BURN, KERNELS
} Kernel;
static const char *const kernel_names[KERNELS] = {
    "multiply", "change", "tiles_in", "tiles_weights", "tiles_out", "softmax", "look", "layer_norm",
    "group_sums", "group_scale", "scale_rows", "act_all", "leaky_all", "affine_all", "add_all",
    "mix_all", "copy_rows", "table_rows", "add_table", "pick_rows", "cut_patches", "mean_of_rows",
    "burn",
};

static struct {
    cl_device_id id;
    OpenclDevice is;
    cl_context context;
    cl_command_queue queue;
    cl_program program;
    cl_kernel kernels[KERNELS];
    Twin arenas[ARENAS];
    Twin *weights;                     /* a table by address */
    size_t weight_room;
    Twin scratch;                      /* of one operation */
    cl_mem nothing;                    /* stands where a kernel reads no buffer */
    uint64_t held, clock;              /* bytes of all twins; orders uses */
    bool real_is_double;
    Error broken;
} cd;

/* Remember the first thing that goes wrong. */
static bool works(cl_int code, const char *what)
{
    char name[32];
    if (code && !cd.broken.code)
        fail(&cd.broken, "OpenCL: %s: %s: %s", cd.is.name, what, code_name(code, name));
    return !code && !cd.broken.code;
}
bool opencl_worked(Error *e)
{
    if (!cd.broken.code) return true;
    *e = cd.broken;
    return false;
}

static void release(Twin *t)
{
    if (t->memory) cl.clReleaseMemObject(t->memory);
    cd.held -= t->memory ? t->bytes : 0;
    *t = (Twin){ 0 };
}

/* Forget the weights that the last `but` looks did not find. */
static void forget(uint64_t but)
{
    for (size_t i = 0; i < cd.weight_room; i++)
        if (cd.clock - cd.weights[i].used >= but) release(&cd.weights[i]);
}
static void device_forget(void) { forget(0); }

enum { LOOKS = 64 };                                   /* more than one operation takes */

/* A buffer, with room made by forgetting weights where the device is small. */
static bool twin_open(Twin *t, const void *at, size_t bytes, const char *what)
{
    cl_int code = CL_SUCCESS;
    char why[128];
    if (cd.held + bytes > cd.is.memory / 10 * 9) {
        works(cl.clFinish(cd.queue), "waiting");
        forget(LOOKS);
    }
    *t = (Twin){ at, bytes, NULL, ++cd.clock };
    if (cd.broken.code) return false;
    t->memory = cl.clCreateBuffer(cd.context, CL_MEM_READ_WRITE, zmax(bytes, 8), NULL, &code);
    if (t->memory) cd.held += bytes;
    snprintf(why, sizeof why, "%s, %zu bytes of %llu, at most %llu in one piece", what, bytes,
             (unsigned long long)cd.is.memory, (unsigned long long)cd.is.largest);
    return works(code, why);
}

static bool device_open(const void *base, size_t size, Error *e)
{
    int i = 0;
    while (i < ARENAS && cd.arenas[i].at) i++;
    if (i == ARENAS) return fail(e, "OpenCL: found more than %d arenas at once", ARENAS);
    if (!twin_open(&cd.arenas[i], base, size, "activations")) {
        cd.arenas[i] = (Twin){ 0 };
        return opencl_worked(e);
    }
    return true;
}

static void device_close(const void *base)
{
    for (int i = 0; i < ARENAS; i++)
        if (cd.arenas[i].at == base) release(&cd.arenas[i]);
    device_forget();
}

static cl_mem scratch(size_t bytes)
{
    if (cd.scratch.bytes < bytes) {
        works(cl.clFinish(cd.queue), "waiting");
        release(&cd.scratch);
        twin_open(&cd.scratch, NULL, bytes, "scratch");
    }
    return cd.scratch.memory;
}

/* A place in a buffer: its floats, or values of a weight; at -1: none. */
typedef struct { cl_mem in; whole at; } Place;

static const Place nowhere = { NULL, -1 };

static bool find_arena(const void *at, Place *p)
{
    for (int i = 0; i < ARENAS; i++) {
        const size_t from = (size_t)((uintptr_t)at - (uintptr_t)cd.arenas[i].at);
        if (!cd.arenas[i].at || from >= cd.arenas[i].bytes) continue;
        *p = (Place){ cd.arenas[i].memory, (whole)(from / sizeof(float)) };
        return true;
    }
    return false;
}

/* The place of a weight in the table, or the first free one of those where it may lie; NULL: no
 * memory.  A few lie together; where all are taken by others the table grows. */
static Twin *weight_slot(const void *at)
{
    enum { NEAR = 16 };
    const size_t hash = (size_t)((uint64_t)(uintptr_t)at * 0x9e3779b97f4a7c15u >> 32);
    Twin *room = NULL;
    for (size_t i = 0; cd.weight_room && i < NEAR; i++) {
        Twin *t = &cd.weights[(hash + i) % cd.weight_room];
        if (t->at == at) return t;
        if (!t->at && !room) room = t;
    }
    if (room) return room;
    const size_t count = cd.weight_room;
    Twin *old = cd.weights, *more = calloc(count ? 2 * count : 1024, sizeof *more);
    if (!more) return NULL;
    cd.weights = more;
    cd.weight_room = count ? 2 * count : 1024;
    for (size_t i = 0; i < count; i++) {
        Twin *to = old[i].at ? weight_slot(old[i].at) : NULL;
        if (to) *to = old[i];
        else release(&old[i]);
    }
    free(old);
    return weight_slot(at);
}

/* Where bytes of the host lie on the device, which takes what it has not. */
static Place place_bytes(const void *at, size_t bytes)
{
    Place p = nowhere;
    if (!at || find_arena(at, &p)) return p;
    Twin made, *t = weight_slot(at);
    if (t && t->at && t->bytes < bytes) release(t);            /* a part of it was met first */
    if (t && t->at) {
        t->used = ++cd.clock;
        return (Place){ t->memory, 0 };
    }
    if (!t) works(CL_OUT_OF_HOST_MEMORY, "weights");
    if (!t || !twin_open(&made, at, bytes, "weights")) return (Place){ cd.nothing, 0 };
    *t = made;
    works(cl.clEnqueueWriteBuffer(cd.queue, t->memory, CL_TRUE, 0, bytes, at, 0, NULL, NULL),
          "uploading weights");
    return (Place){ t->memory, 0 };
}

static Place place(const float *x, size_t count) { return place_bytes(x, count * sizeof *x); }
static Place place_weight(Weight w) { return place_bytes(w.at, weight_bytes(w)); }
static Place place_tensor(Tensor x)
{
    x.c -= x.tail_c;
    return place(x.at, tensor_count(x));
}
static Place place_tail(Tensor x) { x.c = x.tail_c; return place(x.tail, tensor_count(x)); }

static void device_put(float *to, const float *values, size_t count)
{
    const Place p = place(to, count);
    if (count && !cd.broken.code)
        works(cl.clEnqueueWriteBuffer(cd.queue, p.in, CL_TRUE, (size_t)p.at * sizeof *to,
                                      count * sizeof *to, values, 0, NULL, NULL), "uploading");
}

static void device_fetch(const float *from, float *values, size_t count)
{
    Place p;
    if (!count || !find_arena(from, &p)) {             /* the host's own */
        if (values != from) memcpy(values, from, count * sizeof *values);
        return;
    }
    if (!cd.broken.code
        && works(cl.clEnqueueReadBuffer(cd.queue, p.in, CL_TRUE, (size_t)p.at * sizeof *from,
                                        count * sizeof *from, values, 0, NULL, NULL),
                 "reading back")) return;
    for (size_t i = 0; i < count; i++) values[i] = NAN;
}

static void device_wait(void) { works(cl.clFinish(cd.queue), "waiting"); }

/* ---- running a kernel ------------------------------------------------------------------------ */

typedef struct { size_t size; const void *at; } Argument;

#define ARG(x)  { sizeof(x), &(x) }
#define MEM(p)  { sizeof(cl_mem), (p).in ? &(p).in : &cd.nothing }
#define INT(n)  { sizeof(cl_int), &(cl_int){ (cl_int)(n) } }
#define LONG(n) { sizeof(whole), &(whole){ (whole)(n) } }
#define REAL(x) { sizeof(cl_float), &(cl_float){ x } }
/* A buffer and where in it; a weight also with its type. */
#define AT(p)   MEM(p), ARG((p).at)
#define WEIGHT(p, w) MEM(p), ARG((p).at), INT((w).type)
#define SIZES(...) (const size_t[3]){ __VA_ARGS__ }
#define ARGUMENTS(...) (const Argument[]){ __VA_ARGS__ }, \
                       sizeof((const Argument[]){ __VA_ARGS__ }) / sizeof(Argument)

/* size: items along each dimension, 0 for 1; group: of how many, NULL: neighbours along the first,
 * as many up to 64 as divide it. */
static void run(Kernel k, const size_t *size, const size_t *group, const Argument *a, size_t count)
{
    size_t all[3], beside[3] = { zmin(64, size[0]), 1, 1 };
    for (int i = 0; i < 3; i++) all[i] = size[i] ? size[i] : 1;
    while (beside[0] > 1 && all[0] % beside[0]) beside[0]--;
    for (size_t i = 0; i < count && !cd.broken.code; i++)
        works(cl.clSetKernelArg(cd.kernels[k], (cl_uint)i, a[i].size, a[i].at), kernel_names[k]);
    if (cd.broken.code || !size[0]) return;
    works(cl.clEnqueueNDRangeKernel(cd.queue, cd.kernels[k], 3, NULL, all,
                                    group ? group : beside, 0, NULL, NULL),
          kernel_names[k]);
}

static size_t positions(Tensor x) { return (size_t)x.h * (size_t)x.w; }
static size_t rows_of(Tensor x) { return (size_t)x.b * positions(x); }

/* ---- products -------------------------------------------------------------------------------- */

static void multiply(const Multiply *a, int batches, Place x, Place tail, Place w, Place b, Place r,
                     Place y)
{
    const size_t tile = 64, wide = a->finish == GATED ? 32 : 64;
    const size_t outs = ((size_t)a->outs + wide - 1) / wide,
                 rows = ((size_t)a->rows + tile - 1) / tile;
    run(MULTIPLY, SIZES(16 * outs, 16 * rows, (size_t)batches), SIZES(16, 16, 1),
        ARGUMENTS(ARG(*a), MEM(x), MEM(tail), MEM(w), MEM(b), MEM(r), MEM(y)));
}

/* The weight of p, or where it has changes, the changed one as floats in scratch, `floats` of it
 * left for who asks behind; *type is what it is then. */
static Place product_weight(const Product *p, size_t floats, int *type)
{
    const size_t count = weight_count(p->w), outs = (size_t)p->w.dim[0], per = count / outs;
    Place w = place_weight(p->w);
    *type = p->w.type;
    if (!p->change_count) {
        if (floats) scratch(floats * sizeof(float));
        return w;
    }
    const Place to = { scratch((floats + count) * sizeof(float)), (whole)floats };
    Place from = w;
    for (int i = 0; i < p->change_count; i++, from = to, *type = F32) {
        const Change *c = &p->changes[i];
        const Place up = place_weight(c->up), down = place_weight(c->down);
        run(CHANGE, SIZES(per, outs), NULL,
            ARGUMENTS(WEIGHT(from, (Weight){ .type = *type }), MEM(up), INT(c->up.type), MEM(down),
                      INT(c->down.type), INT(c->down.dim[0]), REAL(c->scale), LONG(per), AT(to)));
    }
    return to;
}

static int how_added(const Product *p)
{
    if (!p->r.at) return ADD_NOTHING;
    if (positions(p->r) == positions(p->y) && p->r.b == p->y.b) return ADD_SAME;
    return p->r.b == 1 ? ADD_ALL : ADD_ITEM;
}

static void device_product(const Product *p)
{
    const int taps = p->kh * p->kw, h = p->at.h ? p->at.h : p->x.h, w = p->at.w ? p->at.w : p->x.w;
    int type;
    const Place weight = product_weight(p, 0, &type), x = place_tensor(p->x),
                tail = place_tail(p->x), b = place_weight(p->b), y = place_tensor(p->y),
                r = p->r.at ? place_tensor(p->r) : nowhere;
    const Multiply a = {
        .x = x.at, .tail = tail.at, .x_row = p->x.c - p->x.tail_c, .x_k = 1,
        .tail_row = p->x.tail_c, .w = weight.at, .w_out = (whole)p->x.c * taps, .w_k = taps,
        .b = b.at, .y = y.at, .y_row = (whole)p->y.c * imax(1, p->apart), .r = r.at,
        .rows = (int)rows_of(p->y), .outs = p->y.c, .inners = 1, .depth = p->x.c - p->x.tail_c,
        .tail_depth = p->x.tail_c, .chunk = CHUNK, .taps = taps, .kw = p->kw,
        .stride = p->at.stride, .before = p->at.before, .beside = p->kw > 1 ? p->at.before : 0,
        .dilation = imax(1, p->at.dilation), .above = p->at.above, .wrap = p->wrap,
        .in_h = p->x.h, .in_w = p->x.w, .h = h, .w_ = w, .out_h = p->y.h, .out_w = p->y.w,
        .w_type = type, .b_type = p->b.type, .finish = p->gated ? GATED : BIASED, .act = p->act,
        .added = how_added(p), .down = (float)p->x.h / (float)h, .across = (float)p->x.w / (float)w,
        .by = 1,
    };
    multiply(&a, 1, x, tail, weight, b, r, y);
}

enum { PIECE = 1 << 24 };                              /* floats of V, of U, of M or of scores */

/* Winograd: V [plane][tile][k], U [plane][out][k], their products M [plane][tile][out]. */
static void device_winograd(const Product *p, const Wino *n)
{
    const size_t planes = (size_t)n->planes, depth = (size_t)p->x.c * (size_t)n->groups,
                 outs = zmin((size_t)p->y.c, zmax(16, PIECE / (planes * depth) / 16 * 16)),
                 most = zmax(16, PIECE / (planes * zmax(depth, outs))),
                 tiles = zmin(n->tiles, most), v = planes * tiles * depth,
                 u = planes * outs * depth,
                 sums = planes * tiles * outs;
    const int h = p->y.h + p->at.above + p->at.below;
    int type;
    const Place weight = product_weight(p, v + u + sums, &type), x = place_tensor(p->x),
                b = place_weight(p->b), y = place_tensor(p->y),
                r = p->r.at ? place_tensor(p->r) : nowhere, s = { scratch(0), 0 };
    Tiles t = {
        .x = x.at, .w = weight.at, .b = b.at, .y = y.at, .r = r.at, .flat = n->flat,
        .across = n->across, .down = n->down, .planes = n->planes, .groups = n->groups,
        .per = (int)n->per, .c = p->x.c, .all = p->y.c, .taps = p->kh * p->kw,
        .dilation = imax(1, p->at.dilation), .before = p->at.before, .above = p->at.above,
        .wrap = p->wrap, .in_h = p->x.h, .in_w = p->x.w, .h = h, .w_ = p->y.w, .out_h = p->y.h,
        .out_w = p->y.w, .w_type = type, .b_type = p->b.type, .added = how_added(p),
        .stretch_down = (float)p->x.h / (float)h, .stretch_across = (float)p->x.w / (float)p->y.w,
        .slope = p->slope,
    };
    for (size_t first = 0; first < n->tiles; first += tiles) {
        const size_t count = zmin(tiles, n->tiles - first);
        t.first = (int)first;
        t.count = (int)count;
        run(TILES_IN, SIZES((size_t)p->x.c, count), NULL, ARGUMENTS(ARG(t), MEM(x), MEM(s)));
        for (size_t out = 0; out < (size_t)p->y.c; out += outs) {
            t.out = (int)out;
            t.outs = (int)zmin(outs, (size_t)p->y.c - out);
            const size_t some = (size_t)t.outs;
            /* U begins behind V, M behind U: as buffers of their own they would need three */
            const Multiply a = {
                .x_inner = (whole)(count * depth), .x_row = (whole)depth, .x_k = 1, .w = (whole)v,
                .w_inner = (whole)(some * depth), .w_out = (whole)depth, .w_k = 1, .b = -1,
                .y = (whole)(v + u), .y_inner = (whole)(count * some), .y_row = (whole)some,
                .rows = t.count, .outs = t.outs, .inners = t.planes, .depth = (int)depth,
                .chunk = t.per * t.groups, .taps = 1, .kw = 1, .w_type = F32, .finish = RAW,
                .by = 1,
            };
            run(TILES_WEIGHTS, SIZES((size_t)p->x.c, some), NULL,
                ARGUMENTS(ARG(t), MEM(weight), MEM(s), LONG(v)));
            multiply(&a, t.planes, s, nowhere, s, nowhere, nowhere, s);
            run(TILES_OUT, SIZES(some, count), NULL,
                ARGUMENTS(ARG(t), MEM(s), LONG(v + u), MEM(b), MEM(r), MEM(y)));
        }
    }
}

/* ---- attention ------------------------------------------------------------------------------- */

/* A block: `queries` queries from query0 on of `heads` heads from head0 on of one item. */
typedef struct { int item, head0, heads, query0, queries; } Block;

/* Its scores [head][key][query] and, behind them, the inverse sums of their columns. */
static Place block_scores(const Attention *a, Block n, Place *inverse)
{
    const whole d = a->d, keys = (whole)a->keys, c = a->q.c;
    const size_t all = a->keys * (size_t)n.queries * (size_t)n.heads;
    const Place q = place_tensor(a->q), k = place_tensor(a->from_k),
                s = { scratch((all + (size_t)(n.queries * n.heads)) * sizeof(float)), 0 },
                bias = place(a->bias, (size_t)a->heads * positions(a->q) * a->keys),
                mask = place(a->mask, (size_t)a->masks * positions(a->q) * a->keys);
    const Multiply scores = {
        .x = k.at + (n.item * keys) * c + n.head0 * d, .x_inner = d, .x_row = c, .x_k = 1,
        .w = q.at + (n.item * (whole)positions(a->q) + n.query0) * c + n.head0 * d, .w_inner = d,
        .w_out = c, .w_k = 1, .b = -1, .y_inner = keys * n.queries, .y_row = n.queries,
        .rows = (int)keys, .outs = n.queries, .inners = n.heads, .depth = a->d, .chunk = a->d,
        .taps = 1, .kw = 1, .w_type = F32, .finish = RAW, .by = 1.0f / sqrtf((float)a->d),
    };
    const Softmax soft = {
        .bias = bias.at, .mask = mask.at, .keys = (int)keys, .queries = n.queries,
        .query0 = n.query0, .n = (int)positions(a->q), .z0 = n.item * a->heads + n.head0,
        .heads = a->heads, .masks = a->masks, .has_bias = a->bias != NULL, .causal = a->causal,
    };
    *inverse = (Place){ s.in, (whole)all };
    multiply(&scores, n.heads, k, nowhere, q, nowhere, nowhere, s);
    run(SOFTMAX, SIZES((size_t)n.queries, (size_t)n.heads), NULL,
        ARGUMENTS(ARG(soft), MEM(bias), MEM(mask), MEM(s), MEM(*inverse), LONG(all)));
    return s;
}

/* Blocks of one item whose scores fit a piece, or a single head's 64 queries. */
static Block next_block(const Attention *a, Block n)
{
    const int queries = (int)positions(a->q),
              most = imin(queries, imax(64, (int)(PIECE / a->keys) / 64 * 64)),
              heads = imax(1, (int)(PIECE / (a->keys * (size_t)most)));
    n.query0 += n.queries;
    if (n.query0 >= queries || !n.queries) {
        n.query0 = 0;
        n.head0 += n.heads;
        if (n.head0 >= a->heads) { n.head0 = 0; n.item++; }
    }
    n.queries = imin(most, queries - n.query0);
    n.heads = imin(heads, a->heads - n.head0);
    return n;
}

static void device_attention(const Attention *a)
{
    const whole c = a->q.c;
    const Place v = place_tensor(a->from_v), y = place_tensor(a->y);
    for (Block n = next_block(a, (Block){ 0 }); n.item < a->q.b; n = next_block(a, n)) {
        Place inverse;
        const Place s = block_scores(a, n, &inverse);
        const Multiply values = {
            .x_inner = (whole)a->keys * n.queries, .x_row = 1, .x_k = n.queries,
            .w = v.at + n.item * (whole)a->keys * c + n.head0 * (whole)a->d, .w_inner = a->d,
            .w_out = 1, .w_k = c, .b = -1,
            .y = y.at + (n.item * (whole)positions(a->q) + n.query0) * c + n.head0 * (whole)a->d,
            .y_inner = a->d, .y_row = c, .r = inverse.at, .rows = n.queries, .outs = a->d,
            .inners = n.heads, .depth = (int)a->keys, .chunk = KEY_CHUNK, .taps = 1, .kw = 1,
            .w_type = F32, .finish = SCALED, .by = 1,
        };
        multiply(&values, n.heads, s, nowhere, v, nowhere, inverse, y);
    }
}

static void device_attention_map(const Attention *a)
{
    const size_t n = positions(a->q), most = zmax(64, PIECE / a->keys / 64 * 64);
    const Place y = place_tensor(a->y);
    for (int item = 0; item < a->q.b; item++)
        for (size_t first = 0; first < n; first += most)
            for (int head = 0; head < a->heads; head++) {
                const size_t queries = zmin(most, n - first);
                Place inverse;
                const Place s = block_scores(a, (Block){ item, head, 1, (int)first, (int)queries },
                                             &inverse);
                run(LOOK, SIZES(a->keys, queries), NULL,
                    ARGUMENTS(MEM(s), AT(inverse), INT(queries), INT(first), INT(a->keys),
                              INT(head), INT(a->heads), MEM(y),
                              LONG(y.at + (whole)((size_t)item * n * a->keys))));
            }
}

/* ---- norms ----------------------------------------------------------------------------------- */

static void device_layer_norm(Tensor y, Tensor x, const Norm *w, float eps)
{
    const Place from = place_tensor(x), to = place_tensor(y), weight = place_weight(w->w),
                bias = place_weight(w->b);
    run(LAYER_NORM, SIZES(16, rows_of(x)), SIZES(16, 1, 1),
        ARGUMENTS(AT(from), WEIGHT(weight, w->w), WEIGHT(bias, w->b), INT(x.c), REAL(eps), AT(to)));
}

static void device_group_scales(Tensor y, Tensor x, const Norm *w, int groups, float eps)
{
    const size_t n = positions(x), spans = (n + SPAN_ROWS - 1) / SPAN_ROWS;
    const int head = x.c - x.tail_c;
    const Place from = place_tensor(x), tail = place_tail(x), to = place_tensor(y),
                weight = place_weight(w->w), bias = place_weight(w->b),
                sums = { scratch((size_t)x.b * spans * 2 * (size_t)x.c * sizeof(double)), 0 };
    run(GROUP_SUMS, SIZES((size_t)head, spans, (size_t)x.b), NULL,
        ARGUMENTS(AT(from), INT(head), INT(0), INT(x.c), INT(n), MEM(sums)));
    if (x.tail_c)
        run(GROUP_SUMS, SIZES((size_t)x.tail_c, spans, (size_t)x.b), NULL,
            ARGUMENTS(AT(tail), INT(x.tail_c), INT(head), INT(x.c), INT(n), MEM(sums)));
    run(GROUP_SCALE, SIZES((size_t)groups, (size_t)x.b), NULL,
        ARGUMENTS(MEM(sums), INT(spans), AT(from), AT(tail), INT(head), INT(x.c), INT(x.c / groups),
                  INT(n), REAL(eps), WEIGHT(weight, w->w), WEIGHT(bias, w->b), AT(to)));
}

static void device_scale_to(Tensor y, Tensor x, Tensor scales, Act act)
{
    const int head = x.c - x.tail_c;
    const Place from = place_tensor(x), tail = place_tail(x), to = place_tensor(y),
                by = place_tensor(scales);
    run(SCALE_ROWS, SIZES((size_t)head, rows_of(x)), NULL,
        ARGUMENTS(AT(from), INT(head), INT(0), INT(x.c), INT(positions(x)), AT(by), INT(act),
                  AT(to)));
    if (x.tail_c)
        run(SCALE_ROWS, SIZES((size_t)x.tail_c, rows_of(x)), NULL,
            ARGUMENTS(AT(tail), INT(x.tail_c), INT(head), INT(x.c), INT(positions(x)), AT(by),
                      INT(act), AT(to)));
}

/* ---- element by element ---------------------------------------------------------------------- */

static void device_act(Tensor x, Act act)
{
    const Place p = place_tensor(x);
    run(ACT_ALL, SIZES(tensor_count(x)), NULL, ARGUMENTS(AT(p), INT(act)));
}

static void device_leaky_relu(Tensor x, float slope)
{
    const Place p = place_tensor(x);
    run(LEAKY_ALL, SIZES(tensor_count(x)), NULL, ARGUMENTS(AT(p), REAL(slope)));
}

static void device_affine(Tensor x, float plus, float times, float over)
{
    const Place p = place_tensor(x);
    run(AFFINE_ALL, SIZES(tensor_count(x)), NULL,
        ARGUMENTS(AT(p), REAL(plus), REAL(times), REAL(over)));
}

static void device_add(Tensor x, Tensor y)
{
    const Place p = place_tensor(x), q = place_tensor(y);
    run(ADD_EACH, SIZES(tensor_count(x)), NULL, ARGUMENTS(AT(p), AT(q), LONG(tensor_count(y))));
}

static void device_mix(Tensor x, Tensor y, Tensor s)
{
    const Place p = place_tensor(x), q = place_tensor(y), by = place_tensor(s);
    run(MIX_ALL, SIZES(tensor_count(x)), NULL, ARGUMENTS(AT(p), AT(q), AT(by)));
}

static void device_copy(float *to, size_t to_ld, const float *from, size_t from_ld, size_t rows,
                        size_t c)
{
    Place x = place(from, (rows - 1) * from_ld + c);
    const Place y = place(to, (rows - 1) * to_ld + c);
    const size_t apart = (size_t)llabs((long long)(x.at - y.at));
    if (x.in == y.in && rows == 1 && apart < c) {      /* they overlap: by way of scratch */
        const Place s = { scratch(c * sizeof *to), 0 };
        run(COPY_ROWS, SIZES(c), NULL, ARGUMENTS(AT(x), LONG(0), AT(s), LONG(0)));
        x = s;
    }
    run(COPY_ROWS, SIZES(c, rows), NULL, ARGUMENTS(AT(x), LONG(from_ld), AT(y), LONG(to_ld)));
}

/* A list of the caller's, for one kernel. */
static cl_mem list(const int *at, size_t count)
{
    Twin t;
    if (!twin_open(&t, NULL, count * sizeof *at, "a list")) return NULL;
    cd.held -= t.bytes;                                /* gone when its kernel has run */
    works(cl.clEnqueueWriteBuffer(cd.queue, t.memory, CL_TRUE, 0, count * sizeof *at, at, 0, NULL,
                                  NULL), "uploading a list");
    return t.memory;
}
static void list_gone(cl_mem m)
{
    if (m) cl.clReleaseMemObject(m);
}

static void device_rows(Tensor y, Weight table, const int *ids)
{
    const Place w = place_weight(table), to = place_tensor(y),
                l = { list(ids, rows_of(y)), 0 };
    run(TABLE_ROWS, SIZES((size_t)y.c, rows_of(y)), NULL,
        ARGUMENTS(WEIGHT(w, table), INT(table.rank > 1 ? table.dim[0] : 1), MEM(l), AT(to)));
    list_gone(l.in);
}

static void device_add_rows(Tensor x, Weight table)
{
    const Place w = place_weight(table), to = place_tensor(x);
    run(ADD_TABLE, SIZES((size_t)x.c, rows_of(x)), NULL,
        ARGUMENTS(AT(to), WEIGHT(w, table), LONG(positions(x))));
}

static void device_rows_at(Tensor y, Tensor x, const int *from)
{
    const Place p = place_tensor(x), to = place_tensor(y), l = { list(from, rows_of(y)), 0 };
    run(PICK_ROWS, SIZES((size_t)y.c, rows_of(y)), NULL, ARGUMENTS(AT(p), MEM(l), AT(to)));
    list_gone(l.in);
}

static void device_patches(Tensor y, Tensor x, int p)
{
    const Place from = place_tensor(x), to = place_tensor(y);
    run(CUT_PATCHES, SIZES((size_t)y.c, rows_of(y)), NULL,
        ARGUMENTS(AT(from), INT(x.w), INT(x.c), INT(p), INT(positions(y)), INT(x.w / p), INT(x.h),
                  AT(to)));
}

static void device_mean_rows(Tensor y, Tensor x)
{
    const Place from = place_tensor(x), to = place_tensor(y);
    run(MEAN_OF_ROWS, SIZES((size_t)x.c), NULL, ARGUMENTS(AT(from), LONG(rows_of(x)), AT(to)));
}

static double device_peak(void)
{
    const size_t items = 1 << 16;
    const int chain = 4096;
    const cl_mem sink = scratch(items * sizeof(float));
    double best = 0;
    for (int round = 0; round < 5 && !cd.broken.code; round++) {
        const double start = now();
        run(BURN, SIZES(items), NULL,
            ARGUMENTS(ARG(sink), INT(chain), REAL(0.999f), REAL(1e-3f)));
        works(cl.clFinish(cd.queue), "burn");
        const double rate = 12.0 * chain * (double)items / (now() - start);
        if (round && rate > best) best = rate;
    }
    return best;
}

/* ---- opening --------------------------------------------------------------------------------- */

static const char source[] =
#include "kernels.text"
    ;

typedef struct { int wanted; cl_device_id id; bool found; } Choice;

static void choose(void *self, int number, cl_device_id id)
{
    Choice *c = self;
    if (number != c->wanted) return;
    c->id = id;
    c->found = true;
}

/* The compiler's options: what the kernels share with tensor.h and device.h. */
static void build_options(char *out, size_t room, bool rounds)
{
    snprintf(out, room, "-cl-std=CL1.2 %s%s-DIDENTITY=%d -DSILU=%d -DGELU=%d -DGELU_TANH=%d "
             "-DQUICK_GELU=%d -DRELU=%d -DTANH=%d -DF32=%d -DF16=%d -DBF16=%d -DKEY_CHUNK=%d "
             "-DLORA_RANKS=%d -DSUM_ROWS=%d -DSPAN_ROWS=%d",
             rounds ? "-cl-fp32-correctly-rounded-divide-sqrt " : "",
             cd.real_is_double ? "-DHAS_DOUBLE " : "", IDENTITY, SILU, GELU, GELU_TANH, QUICK_GELU,
             RELU, TANH, F32, F16, BF16, KEY_CHUNK, LORA_RANKS, SUM_ROWS, SPAN_ROWS);
}

static bool build(bool rounds)
{
    char options[512], log[4096] = "", why[256];
    const char *text = source;
    cl_int code;
    build_options(options, sizeof options, rounds);
    cd.program = cl.clCreateProgramWithSource(cd.context, 1, &text, NULL, &code);
    if (!works(code, "program")) return false;
    code = cl.clBuildProgram(cd.program, 1, &cd.id, options, NULL, NULL);
    if (code)
        cl.clGetProgramBuildInfo(cd.program, cd.id, CL_PROGRAM_BUILD_LOG, sizeof log, log, NULL);
    log[sizeof log - 1] = log[strcspn(log, "\r\n")] = 0;
    snprintf(why, sizeof why, "compiling the kernels%s%.200s", *log ? ": " : "", log);
    if (!works(code, why)) return false;
    for (int i = 0; i < KERNELS && !cd.broken.code; i++) {
        cd.kernels[i] = cl.clCreateKernel(cd.program, kernel_names[i], &code);
        works(code, kernel_names[i]);
    }
    return !cd.broken.code;
}

static Device device = {
    .open = device_open, .close = device_close, .forget = device_forget, .put = device_put,
    .fetch = device_fetch, .wait = device_wait, .peak = device_peak, .product = device_product,
    .winograd = device_winograd, .attention = device_attention,
    .attention_map = device_attention_map, .layer_norm = device_layer_norm,
    .group_scales = device_group_scales, .scale_to = device_scale_to, .act = device_act,
    .leaky_relu = device_leaky_relu, .affine = device_affine, .add = device_add, .mix = device_mix,
    .copy = device_copy, .rows = device_rows, .add_rows = device_add_rows,
    .rows_at = device_rows_at, .patches = device_patches, .mean_rows = device_mean_rows,
};

bool opencl_open(int number, Error *e)
{
    Choice c = { .wanted = number };
    cl_bool little = CL_FALSE;
    cl_int code;
    bool rounds;
    const int count = visit_devices(choose, &c, e);
    if (!count) return false;
    if (!c.found)
        return fail(e, "--device: found 'opencl:%d', this machine has %d device%s, from 0 on",
                    number, count, count == 1 ? "" : "s");
    memset(&cd, 0, sizeof cd);
    cd.id = c.id;
    cd.is = describe(c.id, &rounds);
    cd.real_is_double = has_double(c.id);
    cl.clGetDeviceInfo(c.id, CL_DEVICE_ENDIAN_LITTLE, sizeof little, &little, NULL);
    if (!little) return fail(e, "OpenCL: %s: found big-endian, want little", cd.is.name);
    cd.context = cl.clCreateContext(NULL, 1, &c.id, NULL, NULL, &code);
    if (works(code, "context"))
        cd.queue = cl.clCreateCommandQueue(cd.context, c.id, 0, &code);
    if (works(code, "queue") && build(rounds))
        cd.nothing = cl.clCreateBuffer(cd.context, CL_MEM_READ_WRITE, 64, NULL, &code);
    if (!works(code, "buffer")) {
        *e = cd.broken;
        opencl_close();
        return false;
    }
    memcpy(device.name, cd.is.name, sizeof device.name);
    machine_device(&device);
    return true;
}

void opencl_close(void)
{
    machine_device(NULL);
    if (cd.queue) cl.clFinish(cd.queue);
    device_forget();
    free(cd.weights);
    for (int i = 0; i < ARENAS; i++) release(&cd.arenas[i]);
    release(&cd.scratch);
    if (cd.nothing) cl.clReleaseMemObject(cd.nothing);
    for (int i = 0; i < KERNELS; i++)
        if (cd.kernels[i]) cl.clReleaseKernel(cd.kernels[i]);
    if (cd.program) cl.clReleaseProgram(cd.program);
    if (cd.queue) cl.clReleaseCommandQueue(cd.queue);
    if (cd.context) cl.clReleaseContext(cd.context);
    memset(&cd, 0, sizeof cd);
}
#endif
