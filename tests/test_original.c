/* test_original.c - layouts: the small models of tests/models written in the original names, by a
 * map of this file's own, must give the same bytes as their folders.  With LAYOUTS=DIR what is
 * written stays there, for tests/layouts.sh and tests/layouts.py. */
#include "base.h"
#include "clip.h"
#include "original.h"
#include "sd.h"
#include "test.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static char room[600];                     /* the folder of all that is written */

/* A path below it. */
static const char *at(const char *name)
{
    static char path[4][700];
    static int next;
    char *p = path[next++ % 4];
    snprintf(p, sizeof path[0], "%s/%s", room, name);
    return p;
}

/* ---- the names of diffusers in the original ones --------------------------------------------- */

static bool replace(char *name, const char *from, const char *to)
{
    char *found = strstr(name, from), tail[300];
    if (!found) return false;
    snprintf(tail, sizeof tail, "%s", found + strlen(from));
    snprintf(found, 300 - (size_t)(found - name), "%s%s", to, tail);
    return true;
}

static void resnet_name(char *name)
{
    static const char *const pairs[][2] = {
        { "norm1", "in_layers.0" }, { "conv1", "in_layers.2" }, { "time_emb_proj", "emb_layers.1" },
        { "norm2", "out_layers.0" }, { "conv2", "out_layers.3" },
        { "conv_shortcut", "skip_connection" } };
    for (size_t i = 0; i < countof(pairs); i++) replace(name, pairs[i][0], pairs[i][1]);
}

/* One resnet a level on the way down, two on the way up; only the last level of the way up has no
 * attention in these models, the first one. */
static void unet_original(const char *ours, char *out)
{
    static const char *const pairs[][2] = {
        { "time_embedding.linear_1", "time_embed.0" },
        { "time_embedding.linear_2", "time_embed.2" },
        { "conv_in", "input_blocks.0.0" }, { "conv_norm_out", "out.0" }, { "conv_out", "out.2" },
        { "mid_block.attentions.0", "middle_block.1" } };
    char rest[200], name[300];
    int l, j;
    snprintf(name, sizeof name, "%s", ours);
    if (sscanf(ours, "down_blocks.%d.resnets.%d.%199s", &l, &j, rest) == 3) {
        resnet_name(rest);
        snprintf(name, sizeof name, "input_blocks.%d.0.%s", 1 + 2 * l + j, rest);
    } else if (sscanf(ours, "down_blocks.%d.attentions.%d.%199s", &l, &j, rest) == 3)
        snprintf(name, sizeof name, "input_blocks.%d.1.%s", 1 + 2 * l + j, rest);
    else if (sscanf(ours, "down_blocks.%d.downsamplers.0.conv.%199s", &l, rest) == 2)
        snprintf(name, sizeof name, "input_blocks.%d.0.op.%s", 2 * l + 2, rest);
    else if (sscanf(ours, "up_blocks.%d.resnets.%d.%199s", &l, &j, rest) == 3) {
        resnet_name(rest);
        snprintf(name, sizeof name, "output_blocks.%d.0.%s", 2 * l + j, rest);
    } else if (sscanf(ours, "up_blocks.%d.attentions.%d.%199s", &l, &j, rest) == 3)
        snprintf(name, sizeof name, "output_blocks.%d.1.%s", 2 * l + j, rest);
    else if (sscanf(ours, "up_blocks.%d.upsamplers.0.conv.%199s", &l, rest) == 2)
        snprintf(name, sizeof name, "output_blocks.%d.%d.conv.%s", 2 * l + 1, l ? 2 : 1, rest);
    else if (sscanf(ours, "mid_block.resnets.%d.%199s", &j, rest) == 2) {
        resnet_name(rest);
        snprintf(name, sizeof name, "middle_block.%d.%s", 2 * j, rest);
    } else
        for (size_t i = 0; i < countof(pairs); i++) replace(name, pairs[i][0], pairs[i][1]);
    snprintf(out, 300, "model.diffusion_model.%.250s", name);
}

static void vae_original(const char *ours, char *out)
{
    static const char *const pairs[][2] = {
        { "conv_norm_out", "norm_out" }, { "conv_shortcut", "nin_shortcut" },
        { "mid_block.resnets.0", "mid.block_1" }, { "mid_block.resnets.1", "mid.block_2" },
        { "mid_block.attentions.0", "mid.attn_1" }, { "attn_1.group_norm", "attn_1.norm" },
        { "attn_1.to_q", "attn_1.q" }, { "attn_1.to_k", "attn_1.k" }, { "attn_1.to_v", "attn_1.v" },
        { "attn_1.query", "attn_1.q" }, { "attn_1.key", "attn_1.k" },
        { "attn_1.value", "attn_1.v" }, { "attn_1.to_out.0", "attn_1.proj_out" },
        { "attn_1.proj_attn", "attn_1.proj_out" }, { "downsamplers.0.conv", "downsample.conv" },
        { "upsamplers.0.conv", "upsample.conv" }, { ".resnets.", ".block." } };
    static const char *const ups[] = { "up.3.", "up.2.", "up.1.", "up.0." };
    char name[300], level[32];
    snprintf(name, sizeof name, "%s", ours);
    for (size_t i = 0; i < countof(pairs); i++) replace(name, pairs[i][0], pairs[i][1]);
    replace(name, "down_blocks.", "down.");
    for (int i = 0; i < 4; i++) {
        snprintf(level, sizeof level, "up_blocks.%d.", i);
        if (replace(name, level, ups[i])) break;
    }
    snprintf(out, 300, "first_stage_model.%.250s", name);
}

/* Below a text or vision tower of transformers, in open_clip's names. */
static void open_clip_original(const char *ours, char *out)
{
    static const char *const pairs[][2] = {
        { "embeddings.token_embedding", "token_embedding" },
        { "embeddings.position_embedding.weight", "positional_embedding" },
        { "embeddings.class_embedding", "class_embedding" },
        { "embeddings.patch_embedding", "conv1" }, { "pre_layrnorm", "ln_pre" },
        { "post_layernorm", "ln_post" }, { "final_layer_norm", "ln_final" },
        { "encoder.layers.", "transformer.resblocks." }, { "layer_norm1", "ln_1" },
        { "layer_norm2", "ln_2" }, { "self_attn.out_proj", "attn.out_proj" },
        { "mlp.fc1", "mlp.c_fc" }, { "mlp.fc2", "mlp.c_proj" } };
    snprintf(out, 300, "%s", ours);
    for (size_t i = 0; i < countof(pairs); i++) replace(out, pairs[i][0], pairs[i][1]);
}

/* ---- writing --------------------------------------------------------------------------------- */

static Error wrong;

static void put(SafeWriter *s, const Entry *t, const char *name)
{
    int shape[4];
    for (int i = 0; i < t->rank; i++) shape[i] = (int)t->shape[i];
    CHECK(safe_begin(s, name, t->dtype, t->rank, shape, &wrong)
          && safe_more(s, t->at, (size_t)(t->end - t->begin), &wrong));
}

/* q, k and v of one layer as in_proj; q is the entry, its name ends as ending. */
static void put_fused(SafeWriter *s, const Weights *w, const Entry *q, const char *name)
{
    char key[300], value[300];
    snprintf(key, sizeof key, "%s", q->name);
    snprintf(value, sizeof value, "%s", q->name);
    replace(key, "q_proj", "k_proj");
    replace(value, "q_proj", "v_proj");
    const Entry *parts[] = { q, weights_find(w, key), weights_find(w, value) };
    int shape[2] = { 3 * (int)q->shape[0], q->rank > 1 ? (int)q->shape[1] : 0 };
    CHECK(safe_begin(s, name, q->dtype, q->rank, shape, &wrong));
    for (int i = 0; i < 3; i++)
        CHECK(safe_more(s, parts[i]->at, (size_t)(parts[i]->end - parts[i]->begin), &wrong));
}

static void put_transposed(SafeWriter *s, const Entry *t, const char *name)
{
    const size_t n = (size_t)t->shape[0], m = (size_t)t->shape[1], size = t->type == F32 ? 4 : 2;
    const int shape[2] = { (int)m, (int)n };
    CHECK(safe_begin(s, name, t->dtype, 2, shape, &wrong));
    for (size_t j = 0; j < m; j++)
        for (size_t i = 0; i < n; i++)
            CHECK(safe_more(s, (const char *)t->at + (i * m + j) * size, size, &wrong));
}

static void put_numbers(SafeWriter *s, const char *name, int n)
{
    static const float zeros[64];
    CHECK(safe_add(s, name, F32, 1, &n, zeros, &wrong));
}

/* A tower in open_clip's names below prefix; first: only the layer of that number, as layer as. */
static void put_tower(SafeWriter *s, const Weights *w, const char *tower, const char *prefix,
                      int only, int as)
{
    char name[300], full[400], layer[40], other[40];
    snprintf(layer, sizeof layer, ".resblocks.%d.", only);
    snprintf(other, sizeof other, ".resblocks.%d.", as);
    for (int i = 0; i < w->count; i++) {
        const Entry *t = &w->entries[i];
        if (strncmp(t->name, tower, strlen(tower)) || strstr(t->name, "position_ids")
            || strstr(t->name, "k_proj") || strstr(t->name, "v_proj")) continue;
        open_clip_original(t->name + strlen(tower), name);
        const bool fused = replace(name, "self_attn.q_proj.", "attn.in_proj_");
        if (only >= 0 && !replace(name, layer, other)) continue;
        snprintf(full, sizeof full, "%s%s", prefix, name);
        if (fused) put_fused(s, w, t, full);
        else put(s, t, full);
    }
}

/* What a checkpoint should be like. */
typedef struct {
    bool bare;                             /* names of the text encoder without text_model. */
    const char *text;                      /* prefix of the text encoder */
    const char *lacks, *flat;              /* no tensor of this name; this one in one dimension */
    const float *answers;                  /* conv_out gives this, whatever it sees */
    const char *twice;                     /* this tensor of the text encoder in both forms */
} Like;

static void put_unet(SafeWriter *s, const Weights *w, const Like *like)
{
    char name[300];
    for (int i = 0; i < w->count; i++) {
        const Entry *t = &w->entries[i];
        const int n = (int)((t->end - t->begin) / (t->type == F32 ? 4 : 2));
        unet_original(t->name, name);
        float values[4096] = { 0 };
        const int shape[4] = { (int)t->shape[0], t->rank > 1 ? (int)t->shape[1] : 1, 3, 3 };
        if (like->lacks && !strcmp(name, like->lacks)) continue;
        if (like->flat && !strcmp(name, like->flat)) put_numbers(s, name, 8);
        else if (like->answers && !strncmp(t->name, "conv_out", 8)) {
            for (int j = 0; j < n && t->rank == 1; j++) values[j] = *like->answers;
            CHECK(safe_add(s, name, F32, t->rank, shape, values, &wrong));
        } else put(s, t, name);
    }
}

static void put_text(SafeWriter *s, const Weights *w, const Like *like)
{
    char name[300];
    for (int i = 0; i < w->count; i++) {
        const Entry *t = &w->entries[i];
        const char *below = t->name;
        if (!strncmp(below, "text_model.", 11)) below += 11;
        for (int form = 0; form < 2; form++) {
            if (form != like->bare && !(like->twice && !strcmp(below, like->twice))) continue;
            snprintf(name, sizeof name, "cond_stage_model.transformer.%s%s",
                     form ? "" : "text_model.", below);
            put(s, t, name);
        }
    }
}

/* Every tensor of the diffusers folder tests/models/NAME as one file. */
static void checkpoint(const char *model, const char *file, const Like *like)
{
    Weights w;
    Error *e = &wrong;
    char path[200], name[300];
    SafeWriter *s = safe_open(file, e);
    CHECK(s != NULL);
    if (!s) return;
    put_numbers(s, "betas", 10);
    put_numbers(s, "model_ema.diffusion_modelinput_blocks00weight", 4);
    put_numbers(s, "model_ema.decay", 1);
    snprintf(path, sizeof path, "tests/models/%s/unet", model);
    CHECK(weights_open(&w, path, "diffusion_pytorch_model", e));
    put_unet(s, &w, like);
    weights_close(&w);
    snprintf(path, sizeof path, "tests/models/%s/vae", model);
    CHECK(weights_open(&w, path, "diffusion_pytorch_model", e));
    for (int i = 0; i < w.count; i++) {
        vae_original(w.entries[i].name, name);
        put(s, &w.entries[i], name);
    }
    put_numbers(s, "first_stage_model.loss.logvar", 1);
    weights_close(&w);
    snprintf(path, sizeof path, "tests/models/%s/text_encoder", model);
    CHECK(weights_open(&w, path, "model", e));
    if (!like->text) put_text(s, &w, like);
    else {
        put_tower(s, &w, weights_find(&w, "embeddings.token_embedding.weight") ? "" : "text_model.",
                  like->text, -1, -1);
        put_tower(s, &w, weights_find(&w, "embeddings.token_embedding.weight") ? "" : "text_model.",
                  like->text, 0, 2);                               /* the last one, of no use */
        snprintf(name, sizeof name, "%stext_projection", like->text);
        put_numbers(s, name, 40);
    }
    weights_close(&w);
    CHECK(safe_commit(s, NULL, e));
    CHECK_STR(wrong.text, "");
}

static void text_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0 && !fclose(f));
}

/* A folder with what lies in tests/models/NAME beside its weights; NULL ends the names. */
static void folder(const char *name, const char *model, const char *const *names)
{
    char here[500], from[800], to[800];
    CHECK(getcwd(here, sizeof here) != NULL);
    CHECK(!mkdir(at(name), 0777) || errno == EEXIST);
    for (; names && *names; names++) {
        snprintf(from, sizeof from, "%s/tests/models/%s/%s", here, model, *names);
        snprintf(to, sizeof to, "%s/%s", at(name), *names);
        CHECK(!symlink(from, to) || errno == EEXIST);
    }
}

static const char *const parts[] = {
    "unet", "vae", "text_encoder", "tokenizer", "scheduler", NULL };
static const char *const no_schedule[] = { "unet", "vae", "text_encoder", "tokenizer", NULL };

/* tests/models/NAME as an open_clip folder. */
static void open_clip(const char *name, const char *model, const char *config,
                      const char *const *tokenizer)
{
    char path[200], file[800];
    Weights w;
    folder(name, model, tokenizer);
    snprintf(path, sizeof path, "tests/models/%s", model);
    snprintf(file, sizeof file, "%s/open_clip_model.safetensors", at(name));
    SafeWriter *s = safe_open(file, &wrong);
    CHECK(s && weights_open(&w, path, "model", &wrong));
    if (!s) return;
    put_tower(s, &w, "text_model.", "", -1, -1);
    put_tower(s, &w, "vision_model.", "visual.", -1, -1);
    put_transposed(s, weights_find(&w, "text_projection.weight"), "text_projection");
    put_transposed(s, weights_find(&w, "visual_projection.weight"), "visual.proj");
    put(s, weights_find(&w, "logit_scale"), "logit_scale");
    CHECK(safe_commit(s, NULL, &wrong));
    weights_close(&w);
    snprintf(file, sizeof file, "%s/open_clip_config.json", at(name));
    text_file(file, config);
    CHECK_STR(wrong.text, "");
}

static const char clip_config[] =
    "{\"model_cfg\": {\"embed_dim\": 24, \"quick_gelu\": true, \"vision_cfg\": {\"image_size\": 32,"
    " \"layers\": 2, \"width\": 39, \"head_width\": 13, \"mlp_ratio\": 1.795, \"patch_size\": 8},"
    " \"text_cfg\": {\"context_length\": 77, \"vocab_size\": 600, \"width\": 32, \"heads\": 4,"
    " \"layers\": 2, \"mlp_ratio\": 1.625}}, \"preprocess_cfg\": {\"mean\": [0.48145466, 0.4578275,"
    " 0.40821073], \"std\": [0.26862954, 0.26130258, 0.27577711]}}";
static const char gelu_config[] =
    "{\"model_cfg\": {\"embed_dim\": 20, \"vision_cfg\": {\"image_size\": 28, \"layers\": 1,"
    " \"width\": 32, \"head_width\": 8, \"mlp_ratio\": 1.5, \"patch_size\": 7}, \"text_cfg\": {"
    "\"vocab_size\": 600, \"width\": 24, \"heads\": 2, \"layers\": 2, \"mlp_ratio\": 1.67}},"
    " \"preprocess_cfg\": {\"interpolation\": \"bicubic\", \"resize_mode\": \"squash\"}}";

TEST(write_layouts)
{
    static const char *const vocabulary[] = { "vocab.json", "merges.txt", "tokenizer_config.json",
                                              "special_tokens_map.json", NULL };
    static const char *const tokenizer[] = { "tokenizer.json", "tokenizer_config.json", NULL };
    const char *given = getenv("LAYOUTS");
    if (given) snprintf(room, sizeof room, "%s", given);
    else {
        const char *temporary = getenv("TMPDIR");
        snprintf(room, sizeof room, "%s/fusion-original-XXXXXX", temporary ? temporary : "/tmp");
        CHECK(mkdtemp(room) != NULL);
    }
    folder("sd1", "sd1", parts);
    folder("sd2", "sd2", parts);
    folder("alone", "sd1", NULL);
    folder("asks", "sd2", no_schedule);
    checkpoint("sd1", at("sd1/model.safetensors"), &(Like){ 0 });
    checkpoint("sd1", at("sd1/bare.safetensors"), &(Like){ .bare = true });
    checkpoint("sd1", at("alone/model.safetensors"), &(Like){ 0 });
    checkpoint("sd2", at("sd2/model.safetensors"), &(Like){ .text = "cond_stage_model.model." });
    checkpoint("sd2", at("sd2/sgm.safetensors"),
               &(Like){ .text = "conditioner.embedders.0.model." });
    open_clip("clip", "clip", clip_config, vocabulary);
    open_clip("clip-gelu", "clip-gelu", gelu_config, tokenizer);
}

/* ---- the same pictures ----------------------------------------------------------------------- */

static Picture made(const char *path, const char *lora)
{
    Sd s;
    Picture p = { 0 };
    Error e = { 0 };
    CHECK(sd_open(&s, path, NULL, &e));
    CHECK_STR(e.text, "");
    if (e.code) return p;
    if (lora) CHECK(sd_lora(&s, lora, 0.7, &e));
    SdRequest r = sd_defaults(&s);
    r.prompt = "a photo of a cat!";
    r.width = r.height = 64;
    r.steps = 2;
    r.seed = 7;
    CHECK(sd_generate(&s, &r, &p, &e));
    CHECK_STR(e.text, "");
    sd_close(&s);
    return p;
}

static void same_pictures(const char *folder, const char *file, const char *lora)
{
    Picture a = made(folder, lora), b = made(at(file), lora);
    CHECK(a.w == 64 && a.w == b.w && a.h == b.h);
    CHECK(a.rgb && b.rgb && !memcmp(a.rgb, b.rgb, 3u * 64 * 64));
    picture_free(&a);
    picture_free(&b);
}

TEST(a_checkpoint_of_sd_1_gives_the_picture_of_its_folder)
{
    same_pictures("tests/models/sd1", "sd1/model.safetensors", NULL);
    same_pictures("tests/models/sd1", "sd1/bare.safetensors", NULL);
}

TEST(a_checkpoint_of_sd_2_gives_the_picture_of_its_folder)
{
    same_pictures("tests/models/sd2", "sd2/model.safetensors", NULL);
    same_pictures("tests/models/sd2", "sd2/sgm.safetensors", NULL);
}

TEST(a_lora_finds_its_weights_in_a_checkpoint)
{
    same_pictures("tests/models/sd1", "sd1/model.safetensors",
                  "tests/models/adapters/lora-kohya.safetensors");
    same_pictures("tests/models/sd1", "sd1/bare.safetensors",
                  "tests/models/adapters/lora-diffusers.safetensors");
}

/* ---- what a checkpoint says of itself -------------------------------------------------------- */

static int number(const Json *list, int i)
{
    const Json *j = list ? list->first : NULL;
    for (; j && i; i--) j = j->next;
    return j && j->type == JSON_NUMBER ? atoi(j->text) : -1;
}

TEST(configs_come_from_the_shapes)
{
    static const int widths[] = { 8, 16, 20 };
    Original o;
    Error e = { 0 };
    CHECK(original_open(&o, at("alone/model.safetensors"), &e));
    CHECK_STR(e.text, "");
    CHECK(o.sd == 1 && !o.asks_unet);
    for (int i = 0; i < 3; i++) {
        CHECK(number(json_get(o.unet.config, "block_out_channels"), i) == widths[i]);
        CHECK(number(json_get(o.unet.config, "layers_per_block"), i) == 1);
        CHECK(number(json_get(o.unet.config, "attention_head_dim"), i) == 8);
    }
    const Json *down = json_get(o.unet.config, "down_block_types"),
               *up = json_get(o.unet.config, "up_block_types");
    CHECK(down && down->count == 3 && json_is(down->first, "CrossAttnDownBlock2D")
          && json_is(down->first->next->next, "DownBlock2D"));
    CHECK(up && up->count == 3 && json_is(up->first, "UpBlock2D")
          && json_is(up->first->next, "CrossAttnUpBlock2D"));
    CHECK(json_is(json_get(o.text.config, "hidden_act"), "quick_gelu"));
    CHECK(number(json_get(o.vae.config, "block_out_channels"), 3) == 16);
    CHECK(json_is(json_get(o.schedule, "_class_name"), "PNDMScheduler"));
    CHECK(json_is(json_get(o.schedule, "prediction_type"), "epsilon"));
    CHECK(!json_get(o.unet.config, "mid_block_type"));
    original_close(&o);
}

/* What a UNet that always answers so is taken for. */
static void answers(float value, int want)
{
    Sd s;
    Error e = { 0 };
    checkpoint("sd2", at("asks/model.safetensors"),
               &(Like){ .text = "cond_stage_model.model.", .answers = &value });
    CHECK(sd_open(&s, at("asks/model.safetensors"), NULL, &e));
    CHECK_STR(e.text, "");
    if (e.code) return;
    CHECK(s.schedule.prediction_type == want);
    CHECK(s.unet.size == 12);                                      /* the config beside says it */
    sd_close(&s);
}

TEST(a_unet_of_sd_2_is_asked_what_it_predicts)
{
    answers(0.5f, EPSILON);
    answers(-0.7f, V_PREDICTION);
}

TEST(every_tensor_is_bound_or_known)
{
    Weights w;
    Error e = { 0 };
    int places[IN_NOTHING + 1] = { 0 };
    CHECK(weights_open(&w, at("sd1/model.safetensors"), NULL, &e));
    for (int i = 0; i < w.count; i++) places[original_place(&w.entries[i])]++;
    CHECK(places[IN_EMA] == 2 && places[IN_SCHEDULE] == 1 && places[IN_NOTHING] == 0);
    weights_close(&w);
    for (int i = 0; i < 2; i++) {
        Sd s;
        CHECK(sd_open(&s, at(i ? "sd2/model.safetensors" : "sd1/model.safetensors"), NULL, &e));
        CHECK_STR(e.text, "");
        if (e.code) return;
        CHECK(weights_unbound(&s.text_weights, "position_ids", NULL, NULL) == 0);
        CHECK(weights_unbound(&s.unet.weights, "", NULL, NULL) == 0);
        CHECK(weights_unbound(&s.vae.weights, "", NULL, NULL) == 0);
        sd_close(&s);
    }
}

/* ---- the same embeddings --------------------------------------------------------------------- */

static void embed(const char *path, const char *text, const char *picture, float *out)
{
    Clip c;
    Arena m;
    Picture p;
    Error e = { 0 };
    CHECK(clip_open(&c, path, NULL, &e));
    CHECK_STR(e.text, "");
    if (e.code) return;
    CHECK(arena_open(&m, clip_memory(&c), NULL, &e));
    CHECK(clip_embed_text(&c, &m, text, out, NULL, &e));
    CHECK(picture_read(&p, picture, &e) && clip_embed_picture(&c, &m, &p, out + c.dim, &e));
    out[2 * c.dim] = (float)c.logit_scale;
    picture_free(&p);
    arena_close(&m);
    clip_close(&c);
}

TEST(open_clip_gives_the_embeddings_of_transformers)
{
    float a[49] = { 0 }, b[49] = { 1 };
    embed("tests/models/clip", "a photo of a cat", "tests/models/pictures/exact.png", a);
    embed(at("clip"), "a photo of a cat", "tests/models/pictures/exact.png", b);
    CHECK(!memcmp(a, b, sizeof a));
    const char *letters = "x y z";                               /* no id beyond the end token's */
    embed("tests/models/clip-gelu", letters, "tests/models/pictures/rgb.png", a);
    embed(at("clip-gelu"), letters, "tests/models/pictures/rgb.png", b);
    CHECK(!memcmp(a, b, 20 * sizeof *a));                       /* it prepares pictures otherwise */
    CHECK(a[40] == b[40]);
}

/* ---- refusals -------------------------------------------------------------------------------- */

#define REFUSED(call, words)                                                                \
    do { Error e = { 0 };                                                                   \
         CHECK(!(call));                                                                    \
         if (!strstr(e.text, words)) CHECK_STR(e.text, words); } while (0)

static bool opens(const char *path, Error *e)
{
    Sd s;
    const bool open = sd_open(&s, path, NULL, e);
    if (open) sd_close(&s);
    return open;
}

static bool clip_opens(const char *path, Error *e)
{
    Clip c;
    const bool open = clip_open(&c, path, NULL, e);
    if (open) clip_close(&c);
    return open;
}

TEST(other_families_are_named)
{
    static const char *const files[][2] = {
        { "lora_unet_x.lora_down.weight", "found a LoRA: add it to a model with --lora" },
        { "unet.x.lora_A.weight", "found a LoRA" }, { "unet.x.lora.down.weight", "found a LoRA" },
        { "x.to_q_lora.down.weight", "found a LoRA" }, { "x.hada_w1_a", "found a LoHa adapter" },
        { "x.lokr_w1", "found a LoKr adapter" },
        { "emb_params", "found a textual inversion: add it to a model with --embedding" },
        { "<cat>", "found a textual inversion" }, { "control_model.x", "found a ControlNet" },
        { "controlnet_cond_embedding.x", "found a ControlNet" },
        { "conditioner.embedders.1.model.x", "found Stable Diffusion XL, want" },
        { "model.diffusion_model.label_emb.0.0.bias", "found Stable Diffusion XL, want" },
        { "add_embedding.linear_1.bias", "found a UNet of Stable Diffusion XL" },
        { "model.diffusion_model.joint_blocks.0.x", "found Stable Diffusion 3" },
        { "joint_blocks.0.x", "found Stable Diffusion 3" },
        { "model.diffusion_model.double_blocks.0.x", "found FLUX" },
        { "double_blocks.0.x", "found FLUX" }, { "single_transformer_blocks.0.x", "found FLUX" },
        { "transformer_blocks.0.x", "found a transformer of diffusers" },
        { "first_stage_model.vocoder.x", "found an AudioLDM checkpoint: its diffusers folder" },
        { "time_embedding.linear_1.bias", "found a UNet of a diffusers folder: give the whole" },
        { "encoder.down_blocks.0.x", "found a VAE of a diffusers folder" },
        { "decoder.up_blocks.0.x", "found a VAE of a diffusers folder" },
        { "encoder.down.0.x", "found a VAE alone" },
        { "vision_model.x", "found a CLIP model of a transformers folder" },
        { "text_model.x", "found a text encoder of a diffusers folder" },
        { "embeddings.token_embedding.weight", "found a text encoder of a diffusers folder" },
        { "visual.conv1.weight", "found an open_clip model: give its folder" },
        { "model.diffusion_model.x", "found a checkpoint without a VAE (first_stage_model.*)" },
        { "first_stage_model.x", "found a checkpoint without a UNet" },
        { "strange", "found strange, want a checkpoint of Stable Diffusion" } };
    for (size_t i = 0; i < countof(files); i++) {
        SafeWriter *s = safe_open(at("other.safetensors"), &wrong);
        put_numbers(s, files[i][0], 1);
        CHECK(safe_commit(s, NULL, &wrong));
        REFUSED(opens(at("other.safetensors"), &e), files[i][1]);
    }
    SafeWriter *s = safe_open(at("other.safetensors"), &wrong);
    put_numbers(s, "model.diffusion_model.x", 1);
    put_numbers(s, "first_stage_model.x", 1);
    CHECK(safe_commit(s, NULL, &wrong));
    REFUSED(opens(at("other.safetensors"), &e), "found a checkpoint without a text encoder (cond_");
    s = safe_open(at("other.safetensors"), &wrong);
    CHECK(safe_commit(s, NULL, &wrong));
    REFUSED(opens(at("other.safetensors"), &e), "found no tensor, want");
}

TEST(a_broken_checkpoint_is_refused_by_its_own_names)
{
    REFUSED(opens(at("alone/model.safetensors"), &e), "no tokenizer beside it, want tokenizer/");
    checkpoint("sd1", at("sd1/broken.safetensors"),
               &(Like){ .lacks = "model.diffusion_model.middle_block.2.in_layers.2.weight" });
    REFUSED(opens(at("sd1/broken.safetensors"), &e), "broken.safetensors: mid_block.resnets.1.conv1"
            ".weight: missing (in diffusers' and transformers' names)");
    checkpoint("sd1", at("sd1/broken.safetensors"),
               &(Like){ .flat = "model.diffusion_model.input_blocks.0.0.weight" });
    REFUSED(opens(at("sd1/broken.safetensors"), &e),
            "model.diffusion_model.input_blocks.0.0.weight: shape is 8, want 8x4x3x3");
    checkpoint("sd1", at("sd1/broken.safetensors"),
               &(Like){ .twice = "final_layer_norm.weight" });
    REFUSED(opens(at("sd1/broken.safetensors"), &e),
            "tensor 'text_model.final_layer_norm.weight': is also in");
    CHECK(!unlink(at("sd1/broken.safetensors")));
}

static void write_one(const char *path, const char *name, int n)
{
    SafeWriter *s = safe_open(path, &wrong);
    put_numbers(s, name, n);
    CHECK(safe_commit(s, NULL, &wrong));
}

TEST(a_broken_open_clip_folder_is_refused)
{
    static const char *const configs[][2] = {
        { "{}", "model_cfg: want an object with vision_cfg and text_cfg" },
        { "{\"model_cfg\":{\"vision_cfg\":{},\"text_cfg\":{}}}", "embed_dim: missing" },
        { "{\"model_cfg\":{\"embed_dim\":4,\"custom_text\":true,\"vision_cfg\":{},"
          "\"text_cfg\":{}}}",
          "custom_text: this program does not know it" },
        { "{\"model_cfg\":{\"embed_dim\":4,\"vision_cfg\":{\"timm_model_name\":\"x\"},"
          "\"text_cfg\":{}}}", "timm_model_name: this program does not know it" },
        { "{\"model_cfg\":{\"embed_dim\":4,\"vision_cfg\":{\"layers\":[3,4]},\"text_cfg\":{}}}",
          "layers: " },
        { "{\"model_cfg\":{\"embed_dim\":4,\"vision_cfg\":{},\"text_cfg\":{}},"
          "\"preprocess_cfg\":{\"interpolation\":\"random\"}}", "interpolation: found random" },
        { "{\"model_cfg\":{\"embed_dim\":4,\"vision_cfg\":{},\"text_cfg\":{}},"
          "\"preprocess_cfg\":{\"resize_mode\":\"longest\"}}", "resize_mode: found longest" } };
    folder("broken", "clip", NULL);
    for (size_t i = 0; i < countof(configs); i++) {
        text_file(at("broken/open_clip_config.json"), configs[i][0]);
        REFUSED(clip_opens(at("broken"), &e), configs[i][1]);
    }
    text_file(at("broken/open_clip_config.json"), clip_config);
    text_file(at("broken/open_clip_pytorch_model.bin"), "");
    REFUSED(clip_opens(at("broken"), &e), "found open_clip_pytorch_model.bin, which is another");
    write_one(at("broken/open_clip_model.safetensors"),
              "transformer.resblocks.0.attn.in_proj_bias", 40);
    REFUSED(clip_opens(at("broken"), &e), "tensor 'transformer.resblocks.0.attn.in_proj_bias': want"
            " its first dimension to be three of one size");
    write_one(at("broken/open_clip_model.safetensors"), "visual.proj", 40);
    REFUSED(clip_opens(at("broken"), &e), "'visual.proj': found F32 of rank 1, want a matrix");
    write_one(at("broken/open_clip_model.safetensors"), "visual.attnpool.x", 40);
    REFUSED(clip_opens(at("broken"), &e), "missing (in diffusers' and transformers' names)");
}

TEST(leave_nothing)
{
    char command[700];
    if (getenv("LAYOUTS") || !strstr(room, "fusion-original-")) return;
    snprintf(command, sizeof command, "rm -rf '%s'", room);
    CHECK(!system(command));
}
