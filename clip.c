/* clip.c - CLIP: text and pictures in one space.      (transformers CLIPModel; Radford et al. 2021)
 * Read in this order: the layer, the text tower, the image tower, opening, preparing a picture,
 * embedding.
 * Not here: training, ResNet towers. */
#include "clip.h"
#include "original.h"

#include <math.h>
#include <stdlib.h>

/* ---- one layer, both towers ------------------------------------------------------------------ */

static const Bind layer_table[] = {                                       /* w width, m mlp */
    { F(ClipLayer, norm1.w), "layer_norm1.weight",        "w",  0 },
    { F(ClipLayer, norm1.b), "layer_norm1.bias",          "w",  0 },
    { F(ClipLayer, q.w),     "self_attn.q_proj.weight",   "ww", 0 },
    { F(ClipLayer, q.b),     "self_attn.q_proj.bias",     "w",  0 },
    { F(ClipLayer, k.w),     "self_attn.k_proj.weight",   "ww", 0 },
    { F(ClipLayer, k.b),     "self_attn.k_proj.bias",     "w",  0 },
    { F(ClipLayer, v.w),     "self_attn.v_proj.weight",   "ww", 0 },
    { F(ClipLayer, v.b),     "self_attn.v_proj.bias",     "w",  0 },
    { F(ClipLayer, out.w),   "self_attn.out_proj.weight", "ww", 0 },
    { F(ClipLayer, out.b),   "self_attn.out_proj.bias",   "w",  0 },
    { F(ClipLayer, norm2.w), "layer_norm2.weight",        "w",  0 },
    { F(ClipLayer, norm2.b), "layer_norm2.bias",          "w",  0 },
    { F(ClipLayer, fc1.w),   "mlp.fc1.weight",            "mw", 0 },
    { F(ClipLayer, fc1.b),   "mlp.fc1.bias",              "m",  0 },
    { F(ClipLayer, fc2.w),   "mlp.fc2.weight",            "wm", 0 },
    { F(ClipLayer, fc2.b),   "mlp.fc2.bias",              "w",  0 },
    { 0 } };

/* x = x + self_attn(layer_norm1(x));  x = x + mlp(layer_norm2(x))       CLIPEncoderLayer.forward */
static void clip_layer(Arena *m, const ClipEncoder *e, const ClipLayer *w, Tensor x, bool causal)
{
    const size_t top = m->used;
    Tensor h = layer_norm(m, x, &w->norm1, e->eps);                       /* [B,T,C] */
    Tensor q = linear(m, h, &w->q), k = linear(m, h, &w->k), v = linear(m, h, &w->v);
    linear_into(m, x, attention(m, q, k, v, e->heads, causal), &w->out);
    m->used = top;
    h = layer_norm(m, x, &w->norm2, e->eps);
    linear_into(m, x, linear_act(m, h, &w->fc1, e->act), &w->fc2);        /* [B,T,mlp] between */
    m->used = top;
}

/* The first n layers, in place. */
static void clip_encode(Arena *m, const ClipEncoder *e, Tensor x, int n, bool causal)
{
    for (int i = 0; i < n; i++) {
        clip_layer(m, e, &e->layer[i], x, causal);
        trace(x, "encoder.layers.%d", i);
    }
}

/* ---- the towers ------------------------------------------------------------------------------ */

/* Rows of the table; an id from the vocabulary on is a new word's and a row of the added ones. */
static Tensor token_rows(Arena *m, const ClipText *t, const int *ids, int b, int n)
{
    Tensor x = rows(m, t->tokens, ids, b, n);
    const size_t top = m->used;
    for (int i = 0; t->added.at && m->base && i < b * n; i++)
        if (ids[i] >= t->vocabulary) {
            const int id = ids[i] - t->vocabulary;
            copy_to(position(x, i / n, i % n), rows(m, t->added, &id, 1, 1));
            m->used = top;
        }
    return x;
}

Tensor clip_text(Arena *m, const ClipText *t, const int *ids, int b, int n, int skip)
{
    const size_t top = m->used;
    trace_enter("text_model");
    Tensor x = token_rows(m, t, ids, b, n);                               /* [B,T,C] */
    add_rows_(x, t->places);
    trace(x, "embeddings");
    clip_encode(m, &t->encoder, x, t->encoder.layers - skip, true);
    x = keep(m, top, layer_norm(m, x, &t->norm, t->encoder.eps));
    trace(x, "final_layer_norm");
    trace_leave();
    return x;
}

Tensor clip_vision(Arena *m, const ClipVision *v, Tensor pixels)
{
    const size_t top = m->used;
    trace_enter("vision_model");
    Tensor x = linear(m, patches(m, pixels, v->patch), &v->patches);      /* [B,(size/patch)^2,C] */
    x = prepend(m, v->class, x);
    add_rows_(x, v->places);
    trace(x, "embeddings");
    x = keep(m, top, layer_norm(m, x, &v->before, v->encoder.eps));
    trace(x, "pre_layrnorm");
    clip_encode(m, &v->encoder, x, v->encoder.layers, false);
    Tensor pooled = tensor(m, x.b, 1, 1, x.c);                            /* the class token's */
    for (int i = 0; i < x.b; i++) copy_to(item(pooled, i), position(x, i, 0));
    pooled = keep(m, top,
                  layer_norm(m, pooled, &v->after, v->encoder.eps));      /* [B,C] */
    trace(pooled, "post_layernorm");
    trace_leave();
    return pooled;
}

/* ---- configuration --------------------------------------------------------------------------- */

static bool read_act(const Json *config, Act *act, const char *where, Error *e)
{
    static const struct { const char *name; Act act; } known[] = {
        { "quick_gelu", QUICK_GELU }, { "gelu", GELU }, { "gelu_new", GELU_TANH },
        { "gelu_pytorch_tanh", GELU_TANH }, { "silu", SILU },
    };
    const char *name = NULL;
    if (!json_string(config, "hidden_act", &name, where, e)) return false;
    for (size_t i = 0; name && i < countof(known); i++)
        if (!strcmp(name, known[i].name)) { *act = known[i].act; return true; }
    return fail(e, "%s: hidden_act: found %s%s%s, want quick_gelu (OpenAI's weights), "
                "gelu (OpenCLIP's), gelu_new or silu",
                where, name ? "'" : "", name ? name : "nothing", name ? "'" : "");
}

/* The part of a config that both towers share; e holds the class's defaults when it comes. */
static bool encoder_read(ClipEncoder *e, const Json *config, const char *where, Error *error)
{
    double eps = 1e-5;
    if (!json_int(config, "hidden_size", 1, 1 << 16, &e->width, where, error)
        || !json_int(config, "intermediate_size", 1, 1 << 18, &e->mlp, where, error)
        || !json_int(config, "num_hidden_layers", 1, 256, &e->layers, where, error)
        || !json_int(config, "num_attention_heads", 1, 1 << 16, &e->heads, where, error)
        || !json_float(config, "layer_norm_eps", 0, 1, &eps, where, error)
        || !read_act(config, &e->act, where, error)) return false;
    if (e->width % e->heads)
        return fail(error, "%s: num_attention_heads: found %d, want a divisor of hidden_size %d",
                    where, e->heads, e->width);
    e->eps = (float)eps;
    return true;
}

static bool encoder_bind(ClipEncoder *e, const Weights *w, const char *prefix, Error *error)
{
    e->layer = calloc((size_t)e->layers, sizeof *e->layer);
    if (!e->layer) return fail(error, "out of memory: needed room for %d layers", e->layers);
    for (int i = 0; i < e->layers; i++)
        if (!bind((Weights *)w, &e->layer[i], layer_table, DIMS(['w'] = e->width, ['m'] = e->mlp),
                  error, "%sencoder.layers.%d.", prefix, i)) return false;
    return true;
}

static bool text_read(ClipText *t, const Json *config, const char *where, Error *e)
{
    t->encoder = (ClipEncoder){ .width = 512, .mlp = 2048, .layers = 12, .heads = 8 };
    t->vocabulary = 49408;
    t->positions = 77;
    t->end = 49407;
    return encoder_read(&t->encoder, config, where, e)
        && json_int(config, "vocab_size", 1, 1 << 24, &t->vocabulary, where, e)
        && json_int(config, "max_position_embeddings", 2, 1 << 16, &t->positions, where, e)
        && json_int(config, "eos_token_id", 0, 1 << 24, &t->end, where, e);
}

static bool text_bind(ClipText *t, Weights *w, const char *prefix, Error *e)
{
    static const Bind table[] = {
        { F(ClipText, tokens), "embeddings.token_embedding.weight",    "vw", 0 },
        { F(ClipText, places), "embeddings.position_embedding.weight", "pw", 0 },
        { F(ClipText, norm.w), "final_layer_norm.weight",              "w",  0 },
        { F(ClipText, norm.b), "final_layer_norm.bias",                "w",  0 },
        { 0 } };
    Dims dims = DIMS(['v'] = t->vocabulary, ['p'] = t->positions, ['w'] = t->encoder.width);
    return bind(w, t, table, dims, e, "%s", prefix) && encoder_bind(&t->encoder, w, prefix, e);
}

static bool vision_read(ClipVision *v, const Json *config, const char *where, Error *e)
{
    v->encoder = (ClipEncoder){ .width = 768, .mlp = 3072, .layers = 12, .heads = 12 };
    v->size = 224;
    v->patch = 32;
    if (!encoder_read(&v->encoder, config, where, e)
        || !json_int(config, "image_size", 1, 4096, &v->size, where, e)
        || !json_int(config, "patch_size", 1, v->size, &v->patch, where, e)) return false;
    return true;
}

static bool vision_bind(ClipVision *v, Weights *w, Error *e)
{
    static const Bind table[] = {
        { F(ClipVision, class),     "embeddings.class_embedding",           "w",    0 },
        { F(ClipVision, patches.w), "embeddings.patch_embedding.weight",    "w3pp", 0 },
        { F(ClipVision, places),    "embeddings.position_embedding.weight", "nw",   0 },
        { F(ClipVision, before.w),  "pre_layrnorm.weight",                  "w",    0 },
        { F(ClipVision, before.b),  "pre_layrnorm.bias",                    "w",    0 },
        { F(ClipVision, after.w),   "post_layernorm.weight",                "w",    0 },
        { F(ClipVision, after.b),   "post_layernorm.bias",                  "w",    0 },
        { 0 } };
    const int side = v->size / v->patch;
    Dims dims = DIMS(['w'] = v->encoder.width, ['p'] = v->patch, ['n'] = 1 + side * side);
    return bind(w, v, table, dims, e, "vision_model.")
        && encoder_bind(&v->encoder, w, "vision_model.", e);
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool text_bind_any(ClipText *t, Weights *w, Error *e)
{
    const char *bare = "embeddings.token_embedding.weight";         /* as transformers 5 saves it */
    return text_bind(t, w, weights_find(w, bare) ? "" : "text_model.", e);
}

bool clip_text_open_as(ClipText *t, Weights *w, const Json *config, const char *where, Error *e)
{
    return text_read(t, config, where, e) && text_bind_any(t, w, e);
}

bool clip_text_open(ClipText *t, Weights *w, const char *folder, Error *e)
{
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && text_read(t, config, path, e)
        && weights_open(w, folder, "model|pytorch_model", e) && text_bind_any(t, w, e);
    json_free(config);
    free(path);
    return ok;
}

void clip_text_close(ClipText *t) { free(t->encoder.layer); t->encoder.layer = NULL; }

/* A size of the preprocessor: a number or {shortest_edge}, the short side; or {height, width}. */
typedef struct { int side, h, w; } Size;

static bool read_size(const Json *config, const char *key, Size *size, const char *where, Error *e)
{
    const Json *value = json_get(config, key);
    if (!value || value->type == JSON_NULL) return true;
    if (value->type != JSON_OBJECT) return json_int(config, key, 1, 4096, &size->side, where, e);
    *size = (Size){ 0 };
    if (!json_int(value, "shortest_edge", 1, 4096, &size->side, where, e)
        || !json_int(value, "height", 1, 4096, &size->h, where, e)
        || !json_int(value, "width", 1, 4096, &size->w, where, e)) return false;
    return size->side || (size->h && size->w)
        || fail(e, "%s: %s: found neither shortest_edge nor height and width", where, key);
}

static bool prepare_from(ClipPrepare *p, const Json *config, const char *where, Error *e)
{
    static const Filter filters[] = {                                     /* Pillow's numbers */
        [1] = LANCZOS, [2] = BILINEAR, [3] = BICUBIC };
    Size size = { .side = p->side }, crop = { .h = p->crop_h, .w = p->crop_w };
    int resample = 3;
    if (!read_size(config, "size", &size, where, e)
        || !read_size(config, "crop_size", &crop, where, e)
        || !json_bool(config, "do_resize", &p->resize, where, e)
        || !json_bool(config, "do_center_crop", &p->crop, where, e)
        || !json_int(config, "resample", 1, 3, &resample, where, e)
        || !json_floats(config, "image_mean", 3, -1e6, 1e6, p->mean, where, e)
        || !json_floats(config, "image_std", 3, 1e-9, 1e6, p->std, where, e)) return false;
    p->side = size.side;
    p->h = size.h;
    p->w = size.w;
    p->crop_h = crop.side ? crop.side : crop.h;
    p->crop_w = crop.side ? crop.side : crop.w;
    p->filter = filters[resample];
    return true;
}

/* CLIPImageProcessor's defaults. */
static void prepare_standard(ClipPrepare *p, int size)
{
    *p = (ClipPrepare){ .side = size, .crop_h = size, .crop_w = size, .resize = true, .crop = true,
                        .filter = BICUBIC, .mean = { 0.48145466, 0.4578275, 0.40821073 },
                        .std = { 0.26862954, 0.26130258, 0.27577711 } };
}

/* preprocessor_config.json, or its part of processor_config.json.  Absent: the defaults. */
static bool prepare_read(ClipPrepare *p, const char *folder, int size, Error *e)
{
    static const char *const names[] = { "preprocessor_config.json", "processor_config.json" };
    prepare_standard(p, size);
    bool ok = true, found = false;
    for (size_t i = 0; i < countof(names) && !found; i++) {
        char *path = path_join(folder, names[i]);
        if ((found = file_exists(path))) {
            Json *root = json_read(path, 1 << 20, e);
            const Json *part = root ? json_get(root, "image_processor") : NULL;
            ok = root && prepare_from(p, part ? part : root, path, e);
            if (ok && (p->crop ? p->crop_h : p->h) != size)
                ok = fail(e, "%s: crop_size: found %d, want the model's image_size %d", path,
                          p->crop_h, size);
            json_free(root);
        }
        free(path);
    }
    return ok;
}

static bool clip_bind(Clip *c, Error *e)
{
    static const Bind table[] = {
        { F(Clip, text_projection.w), "text_projection.weight", "dt", 0 },
        { F(Clip, image_projection.w), "visual_projection.weight", "dv", 0 },
        { F(Clip, logit_weight), "logit_scale", "|1", 0 },
        { 0 } };
    float scale;
    Dims dims = DIMS(['d'] = c->dim, ['t'] = c->text.encoder.width,
                     ['v'] = c->vision.encoder.width);
    if (!text_bind(&c->text, &c->weights, "text_model.", e)
        || !vision_bind(&c->vision, &c->weights, e)
        || !bind(&c->weights, c, table, dims, e, "%s", "")) return false;
    weight_read(c->logit_weight, 0, 1, &scale);
    c->logit_scale = f_exp(scale);
    return true;
}

static bool clip_read(Clip *c, const Json *config, const char *where, Error *e)
{
    const Json *text = json_get(config, "text_config"), *vision = json_get(config, "vision_config");
    if (!json_is(json_get(config, "model_type"), "clip"))
        return fail(e, "%s: model_type: want clip; this folder holds another model", where);
    if (!text || !vision)
        return fail(e, "%s: %s: missing", where, text ? "vision_config" : "text_config");
    c->dim = 512;
    return json_int(config, "projection_dim", 1, 1 << 16, &c->dim, where, e)
        && text_read(&c->text, text, where, e) && vision_read(&c->vision, vision, where, e);
}

/* A transformers folder: configs and tensors. */
static bool folder_open(Clip *c, const char *folder, Error *e)
{
    char *path = path_join(folder, "config.json");
    Json *config = json_read(path, 1 << 20, e);
    bool ok = config && clip_read(c, config, path, e)
        && prepare_read(&c->prepare, folder, c->vision.size, e)
        && weights_open(&c->weights, folder, "model|pytorch_model", e) && clip_bind(c, e);
    json_free(config);
    free(path);
    return ok;
}

/* An open_clip folder. */
static bool open_clip_folder(Clip *c, const char *folder, Error *e)
{
    Json *config, *prepare;
    char *path = path_join(folder, "open_clip_config.json");
    bool ok = open_clip_open(&c->weights, &config, &prepare, folder, e)
        && clip_read(c, config, path, e);
    if (ok) prepare_standard(&c->prepare, c->vision.size);
    ok = ok && prepare_from(&c->prepare, prepare, path, e) && clip_bind(c, e);
    c->prepare.even = true;
    json_free(config);
    json_free(prepare);
    free(path);
    return ok;
}

bool clip_open(Clip *c, const char *folder, const char *tokenizer, Error *e)
{
    *c = (Clip){ 0 };
    bool ok = (open_clip_is(folder) ? open_clip_folder : folder_open)(c, folder, e)
        && (c->tok = tok_open(tokenizer ? tokenizer : folder, e)) != NULL;
    if (ok && tok_vocabulary(c->tok) > c->text.vocabulary)
        ok = fail(e, "%s: vocabulary: found %d tokens, the model has room for %d",
                  tokenizer ? tokenizer : folder, tok_vocabulary(c->tok), c->text.vocabulary);
    if (!ok) clip_close(c);
    return ok;
}

void clip_close(Clip *c)
{
    tok_close(c->tok);
    clip_text_close(&c->text);
    free(c->vision.encoder.layer);
    weights_close(&c->weights);
    *c = (Clip){ 0 };
}

/* ---- preparing a picture --------------------------------------------------------------------- */

/* (a - b) / 2 rounded down; or a half to the even number, as torchvision's CenterCrop. */
static int half_gap(int a, int b, bool even)
{
    const int down = a >= b ? (a - b) / 2 : -((b - a + 1) / 2);
    return even && (a - b) % 2 && down % 2 ? down + 1 : down;
}

/* CLIPImageProcessor: resize, crop the centre (zeros where the picture is smaller), scale to 0..1,
 * normalise. */
bool clip_prepare(const Clip *c, Picture *p, float *pixels, Error *e)
{
    const ClipPrepare *how = &c->prepare;
    int h = how->h, w = how->w;
    if (how->side) {                                               /* the long side: rounded down */
        h = p->h <= p->w ? how->side : (int)((int64_t)how->side * p->h / p->w);
        w = p->w <= p->h ? how->side : (int)((int64_t)how->side * p->w / p->h);
    }
    if (how->resize && !picture_resize(p, w, h, how->filter, e)) return false;
    const int size = c->vision.size;
    if (!how->crop && (p->h != size || p->w != size))
        return fail(e, "picture: found %dx%d, want %dx%d: this model's preprocessor does not crop",
                    p->w, p->h, size, size);
    const int top = half_gap(p->h, size, how->even), left = half_gap(p->w, size, how->even);
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++, pixels += 3) {
            int iy = y + top, ix = x + left;
            bool inside = iy >= 0 && iy < p->h && ix >= 0 && ix < p->w;
            for (int i = 0; i < 3; i++) {
                float value = inside
                    ? p->rgb[((size_t)iy * (size_t)p->w + (size_t)ix) * 3 + (size_t)i] : 0;
                pixels[i] = (value * (float)(1 / 255.0) - (float)how->mean[i]) / (float)how->std[i];
            }
        }
    return true;
}

/* ---- embedding ------------------------------------------------------------------------------- */

/* Where the text ends: the largest id in older files (end token 2), else the first end token. */
static int text_end(const ClipText *t, const Ids *ids)
{
    int at = 0;
    for (int i = 0; i < ids->count; i++) {
        if (t->end == 2 && ids->at[i] > ids->at[at]) at = i;
        if (t->end != 2 && ids->at[i] == t->end) return i;
    }
    return at;
}

/* text_projection(last_hidden_state[end])                            CLIPModel.get_text_features */
static Tensor text_features(Arena *m, const Clip *c, const int *ids, int n, int end)
{
    Tensor states = clip_text(m, &c->text, ids, 1, n, 0);                 /* [1,T,C] */
    Tensor x = linear(m, position(states, 0, end), &c->text_projection);
    trace(x, "text_projection");
    return x;
}

/* visual_projection(pooler_output)                                  CLIPModel.get_image_features */
static Tensor image_features(Arena *m, const Clip *c, const float *pixels)
{
    Tensor x = from_host(m, 1, c->vision.size, c->vision.size, 3, pixels);    /* [1,size,size,3] */
    x = linear(m, clip_vision(m, &c->vision, x), &c->image_projection);
    trace(x, "visual_projection");
    return x;
}

size_t clip_memory(const Clip *c)
{
    Arena m = { 0 };
    text_features(&m, c, NULL, c->text.positions, 0);
    m.used = 0;
    image_features(&m, c, NULL);
    return m.peak;
}

void clip_count_picture(const Clip *c, Arena *m)
{
    image_features(m, c, NULL);
}

/* Out of the arena, when it was large enough and the numbers are numbers. */
static bool take_features(const Clip *c, const Arena *m, Tensor x, const char *what, float *out,
                          Error *e)
{
    if (!m->base)
        return fail(e, "%s: out of memory: needed an arena of %zu bytes, found %zu", what, m->peak,
                    m->size);
    if (!all_finite(x))
        return fail(e, "%s: %s embedding: not finite: the weights hold NaN or infinity",
                    c->weights.path, what);
    to_host(x, out);
    return true;
}

bool clip_embed_text(const Clip *c, Arena *m, const char *text, float *out, int *lost, Error *e)
{
    Ids ids = { 0 };
    int cut = 0;
    const size_t top = m->used;
    bool ok = tok_encode(c->tok, text, strlen(text), &ids, e);
    if (ok && ids.count > c->text.positions) ok = tok_fit(c->tok, &ids, c->text.positions, &cut, e);
    ok = ok && take_features(c, m, text_features(m, c, ids.at, ids.count, text_end(&c->text, &ids)),
                             "text", out, e);
    m->used = top;
    ids_free(&ids);
    if (lost) *lost = cut;
    return ok;
}

bool clip_embed_picture(const Clip *c, Arena *m, Picture *p, float *out, Error *e)
{
    const size_t count = (size_t)c->vision.size * (size_t)c->vision.size * 3, top = m->used;
    float *pixels = malloc(count * sizeof *pixels);
    if (!pixels)
        return fail(e, "out of memory: needed %zu bytes for pixels", count * sizeof *pixels);
    bool ok = clip_prepare(c, p, pixels, e)
        && take_features(c, m, image_features(m, c, pixels), "picture", out, e);
    m->used = top;
    free(pixels);
    return ok;
}

/* ---- comparing ------------------------------------------------------------------------------- */

double cosine(const float *a, const float *b, int n)
{
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < n; i++) {
        ab += (double)a[i] * b[i];
        aa += (double)a[i] * a[i];
        bb += (double)b[i] * b[i];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa) / sqrt(bb) : 0;
}

void normalize(float *a, int n)
{
    double square = 0;
    for (int i = 0; i < n; i++) square += (double)a[i] * a[i];
    for (int i = 0; i < n && square > 0; i++) a[i] = (float)(a[i] / sqrt(square));
}

void softmax(const double *x, int n, double *p)
{
    double top = x[0], sum = 0;
    for (int i = 1; i < n; i++) top = x[i] > top ? x[i] : top;
    for (int i = 0; i < n; i++) sum += p[i] = f_exp(x[i] - top);
    for (int i = 0; i < n; i++) p[i] /= sum;
}
