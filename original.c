/* original.c - layouts: checkpoints in the names that their authors gave, bound as they lie.
 * Read in this order: families; names of blocks; names of text towers; UNet; VAE; configs; opening.
 * Not here: pickles (.ckpt), converting. */
#include "original.h"

#include <stdlib.h>

/* Move on behind word, if it stands here. */
static bool skip(const char **at, const char *word)
{
    const size_t n = strlen(word);
    if (strncmp(*at, word, n)) return false;
    *at += n;
    return true;
}

/* Move on behind a number and a dot. */
static bool skip_number(const char **at, int *number)
{
    const char *c = *at;
    *number = 0;
    while (*c >= '0' && *c <= '9' && *number < 1000) *number = 10 * *number + *c++ - '0';
    if (c == *at || *c != '.') return false;
    *at = c + 1;
    return true;
}

/* ---- families -------------------------------------------------------------------------------- */

#define OPEN_CLIP "cond_stage_model.model."
#define OPEN_CLIP_SGM "conditioner.embedders.0.model."
#define TRANSFORMER "cond_stage_model.transformer."
#define UNET "model.diffusion_model."
#define VAE "first_stage_model."

/* Signs of what is no checkpoint of Stable Diffusion 1.x or 2.x, the surest first: how a tensor's
 * name begins; or what it holds, behind a *. */
static const struct { const char *sign, *what, *hint; } families[] = {
    { "*.lora_down.", "a LoRA", ": add it to a model with --lora" },
    { "*.lora_A.", "a LoRA", ": add it to a model with --lora" },
    { "*.lora.down.", "a LoRA", ": add it to a model with --lora" },
    { "*_lora.down.", "a LoRA", ": add it to a model with --lora" },
    { "*.hada_w1", "a LoHa adapter", "" },
    { "*.lokr_w1", "a LoKr adapter", "" },
    { "emb_params", "a textual inversion", ": add it to a model with --embedding" },
    { "<", "a textual inversion", ": add it to a model with --embedding" },
    { "control_model.", "a ControlNet", "" },
    { "controlnet_cond_embedding.", "a ControlNet", "" },
    { "conditioner.embedders.1.", "Stable Diffusion XL", "" },
    { UNET "label_emb.", "Stable Diffusion XL", "" },
    { "add_embedding.", "a UNet of Stable Diffusion XL", "" },
    { UNET "joint_blocks.", "Stable Diffusion 3", "" },
    { "joint_blocks.", "Stable Diffusion 3", "" },
    { UNET "double_blocks.", "FLUX", "" },
    { "double_blocks.", "FLUX", "" },
    { "single_transformer_blocks.", "FLUX", "" },
    { "transformer_blocks.", "a transformer of diffusers, as of Stable Diffusion 3", "" },
    { VAE "vocoder.", "an AudioLDM checkpoint", ": its diffusers folder is read" },
    { "time_embedding.", "a UNet of a diffusers folder", ": give the whole folder" },
    { "encoder.down_blocks.", "a VAE of a diffusers folder", ": give the whole folder" },
    { "decoder.up_blocks.", "a VAE of a diffusers folder", ": give the whole folder" },
    { "encoder.down.", "a VAE alone, in the original names", "" },
    { "vision_model.", "a CLIP model of a transformers folder", ": give the whole folder" },
    { "text_model.", "a text encoder of a diffusers folder", ": give the whole folder" },
    { "embeddings.token_embedding.", "a text encoder of a diffusers folder",
      ": give the whole folder" },
    { "visual.", "an open_clip model", ": give its folder, with open_clip_config.json" },
};

/* Does a name begin with sign, or hold it? */
static bool any_name(const Weights *w, const char *sign)
{
    for (int i = 0; i < w->count; i++) {
        const char *name = w->entries[i].name;
        if (*sign == '*' ? strstr(name, sign + 1) != NULL : skip(&name, sign)) return true;
    }
    return false;
}

Family original_family(const Weights *w)
{
    for (size_t i = 0; i < countof(families); i++)
        if (any_name(w, families[i].sign))
            return (Family){ families[i].what, families[i].hint, 0 };
    const bool unet = any_name(w, UNET), vae = any_name(w, VAE), one = any_name(w, TRANSFORMER),
               two = any_name(w, OPEN_CLIP) || any_name(w, OPEN_CLIP_SGM);
    if (unet && vae && two) return (Family){ "a Stable Diffusion 2.x checkpoint", "", 2 };
    if (unet && vae && one) return (Family){ "a Stable Diffusion 1.x checkpoint", "", 1 };
    if (unet && vae)
        return (Family){ "a checkpoint without a text encoder", " (" TRANSFORMER "* or " OPEN_CLIP
                         "*)", 0 };
    if (unet) return (Family){ "a checkpoint without a VAE", " (" VAE "*)", 0 };
    if (vae) return (Family){ "a checkpoint without a UNet", " (" UNET "*)", 0 };
    return (Family){ NULL, "", 0 };
}

OriginalPlace original_place(const Entry *t)
{
    static const struct { const char *prefix; OriginalPlace place; } places[] = {
        { UNET, IN_UNET }, { VAE, IN_VAE }, { "cond_stage_model.", IN_TEXT },
        { "conditioner.", IN_TEXT }, { "model_ema.", IN_EMA } };
    static const char *const schedule[] = {
        "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
        "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
        "lvlb_weights", "logvar", "scale_factor", "global_step", "denoiser.sigmas", "v_pred",
        "ztsnr", "epoch" };
    for (size_t i = 0; i < countof(places); i++) {
        const char *at = t->name;
        if (skip(&at, places[i].prefix)) return places[i].place;
    }
    for (size_t i = 0; i < countof(schedule); i++)
        if (!strcmp(t->name, schedule[i])) return IN_SCHEDULE;
    return IN_NOTHING;
}

/* ---- names of blocks ------------------------------------------------------------------------- */

/* The beginnings of names: theirs, ours. */
typedef struct { const char *from, *to; } Pair;

static const Pair resnet_pairs[] = {                     /* of the UNet */
    { "in_layers.0.", "norm1." }, { "in_layers.2.", "conv1." },
    { "emb_layers.1.", "time_emb_proj." }, { "out_layers.0.", "norm2." },
    { "out_layers.3.", "conv2." }, { "skip_connection.", "conv_shortcut." }, { 0 } };
static const Pair vae_resnet_pairs[] = {
    { "norm1.", "norm1." }, { "conv1.", "conv1." }, { "norm2.", "norm2." }, { "conv2.", "conv2." },
    { "nin_shortcut.", "conv_shortcut." }, { 0 } };
static const Pair vae_attention_pairs[] = {
    { "norm.", "group_norm." }, { "q.", "to_q." }, { "k.", "to_k." }, { "v.", "to_v." },
    { "proj_out.", "to_out.0." }, { 0 } };
static const Pair layer_pairs[] = {                      /* of open_clip's transformers */
    { "ln_1.", "layer_norm1." }, { "ln_2.", "layer_norm2." },
    { "attn.out_proj.", "self_attn.out_proj." }, { "mlp.c_fc.", "mlp.fc1." },
    { "mlp.c_proj.", "mlp.fc2." }, { 0 } };

/* prefix and the rest of the name at `at`, whose beginning is one of pairs. */
static bool paired(char out[VIEW_NAME], const Pair *pairs, const char *prefix, const char *at)
{
    for (; pairs->from; pairs++)
        if (skip(&at, pairs->from))
            return snprintf(out, VIEW_NAME, "%s%s%s", prefix, pairs->to, at) < VIEW_NAME;
    return false;
}

/* ---- names of text towers -------------------------------------------------------------------- */

/* What is not known keeps its name, so that it can be told. */
static Renaming keep_name(char out[VIEW_NAME], const Entry *t)
{
    snprintf(out, VIEW_NAME, "%.*s", VIEW_NAME - 1, t->name);
    return RENAMED;
}

/* Behind resblocks.N.: our name below prefix; in_proj is q, k and v. */
static Renaming layer_name(char out[3][VIEW_NAME], const char *prefix, const char *at)
{
    static const char *const thirds[] = { "q_proj", "k_proj", "v_proj" };
    if (skip(&at, "attn.in_proj_")) {
        for (int i = 0; i < 3; i++)
            if (snprintf(out[i], VIEW_NAME, "%sself_attn.%s.%s", prefix, thirds[i], at)
                >= VIEW_NAME) return ELSEWHERE;
        return THIRDS;
    }
    return paired(out[0], layer_pairs, prefix, at) ? RENAMED : ELSEWHERE;
}

/* open_clip's text tower, whose layers from `layers` on are of no use.  ELSEWHERE: not known. */
static Renaming open_clip_text(int layers, const char *at, char out[3][VIEW_NAME])
{
    static const Pair pairs[] = {
        { "token_embedding.", "embeddings.token_embedding." },
        { "positional_embedding", "embeddings.position_embedding.weight" },
        { "ln_final.", "final_layer_norm." }, { 0 } };
    char prefix[64];
    int n;
    if (!strcmp(at, "attn_mask")) return USELESS;
    if (skip(&at, "transformer.resblocks.")) {
        if (!skip_number(&at, &n)) return ELSEWHERE;
        if (n >= layers) return USELESS;
        snprintf(prefix, sizeof prefix, "text_model.encoder.layers.%d.", n);
        return layer_name(out, prefix, at);
    }
    return paired(out[0], pairs, "text_model.", at) ? RENAMED : ELSEWHERE;
}

static Renaming open_clip_vision(const char *at, char out[3][VIEW_NAME])
{
    static const Pair pairs[] = {
        { "class_embedding", "embeddings.class_embedding" },
        { "positional_embedding", "embeddings.position_embedding.weight" },
        { "conv1.", "embeddings.patch_embedding." }, { "ln_pre.", "pre_layrnorm." },
        { "ln_post.", "post_layernorm." }, { 0 } };
    char prefix[64];
    int n;
    if (skip(&at, "transformer.resblocks.")) {
        if (!skip_number(&at, &n)) return ELSEWHERE;
        snprintf(prefix, sizeof prefix, "vision_model.encoder.layers.%d.", n);
        return layer_name(out, prefix, at);
    }
    return paired(out[0], pairs, "vision_model.", at) ? RENAMED : ELSEWHERE;
}

/* A whole open_clip model; its projections are made for x @ P. */
static Renaming open_clip_rename(const void *self, const Entry *t, char out[3][VIEW_NAME])
{
    const char *at = t->name;
    (void)self;
    if (!strcmp(at, "visual.proj") || !strcmp(at, "text_projection")) {
        snprintf(out[0], VIEW_NAME, "%s", *at == 'v' ? "visual_projection.weight"
                                                     : "text_projection.weight");
        return TRANSPOSED;
    }
    if (!strcmp(at, "logit_scale")) {
        snprintf(out[0], VIEW_NAME, "logit_scale");
        return RENAMED;
    }
    const Renaming how = skip(&at, "visual.") ? open_clip_vision(at, out)
                                              : open_clip_text(1000, at, out);
    return how == ELSEWHERE ? keep_name(out[0], t) : how;
}

/* ---- the layout of one checkpoint ------------------------------------------------------------ */

/* Which level and which block of it a numbered block is. */
enum { BLOCKS = 100 };
typedef struct { int level, index; } Place;

typedef struct {
    OriginalPlace part;                    /* that a view is of */
    int sd;
    Place in[BLOCKS], out[BLOCKS];         /* of input_blocks, output_blocks */
    int vae_levels;
    int text_layers;                       /* that open_clip's tower is used for: all but one */
} Layout;

/* Input blocks from 1 on are the blocks of a level and what halves it; the last output block of a
 * level also doubles. */
static void number_blocks(Layout *l, const bool *halves, const bool *doubles)
{
    Place in = { 0 }, out = { 0 };
    for (int i = 0; i < BLOCKS; i++) {
        l->in[i] = in;
        l->out[i] = out;
        in.index += i > 0;
        out.index++;
        if (halves[i]) in = (Place){ in.level + 1, 0 };
        if (doubles[i]) out = (Place){ out.level + 1, 0 };
    }
}

static void layout_read(Layout *l, const Weights *w)
{
    bool halves[BLOCKS] = { false }, doubles[BLOCKS] = { false };
    for (int i = 0; i < w->count; i++) {
        const char *at = w->entries[i].name;
        int n, m;
        if (skip(&at, UNET "input_blocks.")) {
            if (skip_number(&at, &n) && n < BLOCKS && skip(&at, "0.op.")) halves[n] = true;
        } else if (skip(&at, UNET "output_blocks.")) {
            if (skip_number(&at, &n) && n < BLOCKS && skip_number(&at, &m) && skip(&at, "conv."))
                doubles[n] = true;
        } else if (skip(&at, VAE "encoder.down.") || skip(&at, VAE "decoder.up.")) {
            if (skip_number(&at, &n)) l->vae_levels = imax(l->vae_levels, n + 1);
        } else if (skip(&at, OPEN_CLIP "transformer.resblocks.")
                   || skip(&at, OPEN_CLIP_SGM "transformer.resblocks."))
            if (skip_number(&at, &n)) l->text_layers = imax(l->text_layers, n);
    }
    number_blocks(l, halves, doubles);
}

/* ---- names of the UNet ----------------------------------------------------------------------- */

/* input_blocks.N.M., output_blocks.N.M. */
static bool unet_block(const Layout *l, bool up, const char *at, char out[VIEW_NAME])
{
    const char *way = up ? "up" : "down", *resize = up ? "conv." : "op.";
    int n, m;
    char prefix[64];
    if (!skip_number(&at, &n) || n >= BLOCKS || !skip_number(&at, &m) || m > 2) return false;
    const Place p = up ? l->out[n] : l->in[n];
    if (skip(&at, resize))
        return snprintf(out, VIEW_NAME, "%s_blocks.%d.%ssamplers.0.conv.%s", way, p.level, way, at)
            < VIEW_NAME;
    snprintf(prefix, sizeof prefix, "%s_blocks.%d.%s.%d.", way, p.level,
             m ? "attentions" : "resnets", p.index);
    return m ? snprintf(out, VIEW_NAME, "%s%s", prefix, at) < VIEW_NAME
             : paired(out, resnet_pairs, prefix, at);
}

static bool unet_name(const Layout *l, const char *at, char out[VIEW_NAME])
{
    static const Pair ends[] = {
        { "time_embed.0.", "time_embedding.linear_1." },
        { "time_embed.2.", "time_embedding.linear_2." }, { "input_blocks.0.0.", "conv_in." },
        { "out.0.", "conv_norm_out." }, { "out.2.", "conv_out." },
        { "middle_block.1.", "mid_block.attentions.0." }, { 0 } };
    if (paired(out, ends, "", at)) return true;
    if (skip(&at, "middle_block.0.")) return paired(out, resnet_pairs, "mid_block.resnets.0.", at);
    if (skip(&at, "middle_block.2.")) return paired(out, resnet_pairs, "mid_block.resnets.1.", at);
    if (skip(&at, "input_blocks.")) return unet_block(l, false, at, out);
    return skip(&at, "output_blocks.") && unet_block(l, true, at, out);
}

/* ---- names of the VAE ------------------------------------------------------------------------ */

/* Behind encoder. or decoder., whose levels count from the largest pictures, ours of a decoder from
 * the smallest. */
static bool vae_half(const Layout *l, const char *half, const char *at, char out[VIEW_NAME])
{
    static const Pair ends[] = { { "conv_in.", "conv_in." }, { "conv_out.", "conv_out." },
                                 { "norm_out.", "conv_norm_out." }, { 0 } };
    const bool up = !strcmp(half, "decoder.");
    const char *way = up ? "up" : "down";
    char prefix[64];
    int level, n;
    if (paired(out, ends, half, at)) return true;
    if (skip(&at, "mid.attn_1.")) {
        snprintf(prefix, sizeof prefix, "%smid_block.attentions.0.", half);
        return paired(out, vae_attention_pairs, prefix, at);
    }
    if (skip(&at, "mid.block_")) {
        if (!skip_number(&at, &n)) return false;
        snprintf(prefix, sizeof prefix, "%smid_block.resnets.%d.", half, n - 1);
        return paired(out, vae_resnet_pairs, prefix, at);
    }
    if (!skip(&at, up ? "up." : "down.") || !skip_number(&at, &level)) return false;
    if (up) level = l->vae_levels - 1 - level;
    if (skip(&at, up ? "upsample.conv." : "downsample.conv."))
        return snprintf(out, VIEW_NAME, "%s%s_blocks.%d.%ssamplers.0.conv.%s", half, way, level,
                        way, at) < VIEW_NAME;
    if (!skip(&at, "block.") || !skip_number(&at, &n)) return false;
    snprintf(prefix, sizeof prefix, "%s%s_blocks.%d.resnets.%d.", half, way, level, n);
    return paired(out, vae_resnet_pairs, prefix, at);
}

static bool vae_name(const Layout *l, const char *at, char out[VIEW_NAME])
{
    static const Pair ends[] = { { "quant_conv.", "quant_conv." },
                                 { "post_quant_conv.", "post_quant_conv." }, { 0 } };
    if (paired(out, ends, "", at)) return true;
    if (skip(&at, "encoder.")) return vae_half(l, "encoder.", at, out);
    return skip(&at, "decoder.") && vae_half(l, "decoder.", at, out);
}

/* ---- a view of one part ---------------------------------------------------------------------- */

/* ELSEWHERE: not known. */
static Renaming text_name(const Layout *l, const char *at, char out[3][VIEW_NAME])
{
    if (strstr(at, "text_projection") || strstr(at, "logit_scale")) return USELESS;
    if (skip(&at, OPEN_CLIP) || skip(&at, OPEN_CLIP_SGM))
        return open_clip_text(l->text_layers, at, out);
    if (!skip(&at, TRANSFORMER)) return ELSEWHERE;
    skip(&at, "text_model.");
    return snprintf(out[0], VIEW_NAME, "text_model.%s", at) < VIEW_NAME ? RENAMED : ELSEWHERE;
}

static Renaming original_rename(const void *self, const Entry *t, char out[3][VIEW_NAME])
{
    const Layout *l = self;
    const char *at = t->name;
    if (original_place(t) != l->part || strlen(at) != t->name_length) return ELSEWHERE;
    if (l->part == IN_TEXT) {
        const Renaming how = text_name(l, at, out);
        return how == ELSEWHERE ? keep_name(out[0], t) : how;
    }
    const bool known = l->part == IN_UNET ? skip(&at, UNET) && unet_name(l, at, out[0])
                                          : skip(&at, VAE) && vae_name(l, at, out[0]);
    if (!known && !strncmp(at, "loss.", 5)) return USELESS;        /* of the VAE's training */
    return known ? RENAMED : keep_name(out[0], t);
}

/* ---- configs from shapes --------------------------------------------------------------------- */

typedef unsigned long long ull;            /* what printf takes */

/* Dimension d of the tensor that is called so, 0 where there is none. */
PRINTF(3, 4)
static ull size_of(const Weights *w, int d, const char *format, ...)
{
    char name[VIEW_NAME];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const Entry *t = weights_find(w, name);
    return t && d < t->rank ? t->shape[d] : 0;
}

/* ,"key":[a,b,...] of what each level says. */
#define LIST(text, key, levels, format, value)                                              \
    do { fprintf(text, ",\"%s\":[", key);                                                   \
         for (int i_ = 0; i_ < (levels); i_++)                                              \
             fprintf(text, "%s" format, i_ ? "," : "", value);                              \
         fputc(']', text); } while (0)

static int count_layers(const Weights *w, const char *blocks, int level)
{
    int n = 0;
    while (size_of(w, 0, "%s.%d.resnets.%d.conv1.weight", blocks, level, n)) n++;
    return n;
}

static int count_levels(const Weights *w, const char *blocks)
{
    int n = 0;
    while (count_layers(w, blocks, n)) n++;
    return n;
}

static bool attends(const Weights *w, const char *blocks, int level)
{
    return size_of(w, 0, "%s.%d.attentions.0.norm.weight", blocks, level) > 0;
}

static ull unet_width(const Weights *w, int level)
{
    return size_of(w, 0, "down_blocks.%d.resnets.0.conv1.weight", level);
}

/* Width of the text, by the first cross attention. */
static ull unet_context(const Weights *w)
{
    for (int i = 0; i < w->count; i++)
        if (strstr(w->entries[i].name, ".attn2.to_k.weight") && w->entries[i].rank == 2)
            return w->entries[i].shape[1];
    return 0;
}

static void unet_config(FILE *text, const Weights *w, int sd)
{
    const int levels = count_levels(w, "down_blocks");
    fprintf(text, "{\"_class_name\":\"UNet2DConditionModel\",\"in_channels\":%llu,"
            "\"out_channels\":%llu,\"cross_attention_dim\":%llu,\"sample_size\":64%s",
            size_of(w, 1, "conv_in.weight"), size_of(w, 0, "conv_out.weight"), unet_context(w),
            size_of(w, 0, "mid_block.resnets.0.conv1.weight") ? "" : ",\"mid_block_type\":null");
    LIST(text, "block_out_channels", levels, "%llu", unet_width(w, i_));
    LIST(text, "layers_per_block", levels, "%d", count_layers(w, "down_blocks", i_));
    LIST(text, "attention_head_dim", levels, "%llu", sd == 1 ? 8 : unet_width(w, i_) / 64);
    LIST(text, "down_block_types", levels, "\"%s\"",
         attends(w, "down_blocks", i_) ? "CrossAttnDownBlock2D" : "DownBlock2D");
    LIST(text, "up_block_types", levels, "\"%s\"",
         attends(w, "up_blocks", i_) ? "CrossAttnUpBlock2D" : "UpBlock2D");
    fputc('}', text);
}

static void vae_config(FILE *text, const Weights *w)
{
    const int levels = count_levels(w, "encoder.down_blocks");
    fprintf(text, "{\"_class_name\":\"AutoencoderKL\",\"in_channels\":%llu,"
            "\"latent_channels\":%llu,\"layers_per_block\":%d,\"mid_block_add_attention\":%s",
            size_of(w, 1, "encoder.conv_in.weight"), size_of(w, 1, "decoder.conv_in.weight"),
            count_layers(w, "encoder.down_blocks", 0),
            size_of(w, 0, "encoder.mid_block.attentions.0.to_q.weight") ? "true" : "false");
    LIST(text, "block_out_channels", levels, "%llu",
         size_of(w, 0, "encoder.down_blocks.%d.resnets.0.conv1.weight", i_));
    LIST(text, "down_block_types", levels, "%s", "\"DownEncoderBlock2D\"");
    LIST(text, "up_block_types", levels, "%s", "\"UpDecoderBlock2D\"");
    fputc('}', text);
}

static void text_config(FILE *text, const Weights *w, int sd)
{
    int layers = 0;
    while (size_of(w, 0, "text_model.encoder.layers.%d.mlp.fc1.weight", layers)) layers++;
    const ull width = size_of(w, 1, "text_model.embeddings.token_embedding.weight");
    fprintf(text, "{\"hidden_size\":%llu,\"intermediate_size\":%llu,\"num_hidden_layers\":%d,"
            "\"num_attention_heads\":%llu,\"hidden_act\":\"%s\",\"vocab_size\":%llu,"
            "\"max_position_embeddings\":%llu}", width,
            size_of(w, 0, "text_model.encoder.layers.0.mlp.fc1.weight"), layers,
            width < 64 ? 1 : width / 64, sd == 1 ? "quick_gelu" : "gelu",
            size_of(w, 0, "text_model.embeddings.token_embedding.weight"),
            size_of(w, 0, "text_model.embeddings.position_embedding.weight"));
}

static void part_config(FILE *text, const Weights *w, OriginalPlace part, int sd)
{
    if (part == IN_TEXT) text_config(text, w, sd);
    else if (part == IN_UNET) unet_config(text, w, sd);
    else vae_config(text, w);
}

Json *original_schedule(int sd, bool v, Error *e)
{
    char text[512];
    const int n = snprintf(text, sizeof text, "{\"_class_name\":\"%s\",\"beta_start\":0.00085,"
        "\"beta_end\":0.012,\"beta_schedule\":\"scaled_linear\",\"num_train_timesteps\":1000,"
        "\"set_alpha_to_one\":false,\"skip_prk_steps\":true,\"steps_offset\":1,"
        "\"clip_sample\":false,\"prediction_type\":\"%s\"}",
        sd == 1 ? "PNDMScheduler" : "DDIMScheduler", v ? "v_prediction" : "epsilon");
    return json_parse(text, (size_t)n, "the schedule", e);
}

/* ---- opening --------------------------------------------------------------------------------- */

static bool exists(const char *folder, const char *name)
{
    char *path = path_join(folder, name);
    const bool found = path && file_exists(path);
    free(path);
    return found;
}

/* The folder of a file, which the caller frees. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == path ? strdup("/") : slash ? strndup(path, (size_t)(slash - path))
                                               : strdup(".");
}

/* The config beside the file, or NULL where there is none; *where is its path. */
static Json *config_beside(const char *path, const char *name, char **where, Error *e)
{
    char *folder = folder_of(path), *config = folder ? path_join(folder, name) : NULL;
    Json *read = NULL;
    if (!config) fail(e, "%s: out of memory", path);
    else if (file_exists(config)) read = json_read(config, 1 << 20, e);
    free(folder);
    if (read) *where = config;
    else free(config);
    return read;
}

static bool part_open(OriginalPart *p, const char *path, const char *config, Layout *l,
                      OriginalPlace part, Error *e)
{
    l->part = part;
    if (!weights_open(&p->weights, path, NULL, e)
        || !weights_view(&p->weights, original_rename, l, e)) return false;
    p->config = config_beside(path, config, &p->where, e);
    if (p->config || e->code) return p->config != NULL;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out) part_config(out, &p->weights, part, l->sd);
    p->where = strdup(path);
    if (!out || fclose(out) || !p->where) fail(e, "%s: out of memory", path);
    else p->config = json_parse(text, size, path, e);
    free(text);
    return p->config != NULL;
}

/* As the header says; true: v, or noise where *asks is not set. */
static bool predicts_v(const Weights *w, int sd, bool *asks)
{
    const Json *metadata = weights_metadata(w, 0),
               *told = metadata ? json_get(metadata, "modelspec.prediction_type") : NULL;
    *asks = false;
    if (told && json_is(told, "epsilon")) return false;
    if ((told && (json_is(told, "v") || json_is(told, "v_prediction")))
        || weights_find(w, "v_pred")) return true;
    *asks = sd == 2 && size_of(w, 1, UNET "input_blocks.0.0.weight") != 9;
    return false;
}

static bool schedule_open(Original *o, const Weights *w, const char *path, Error *e)
{
    o->schedule = config_beside(path, "scheduler/scheduler_config.json", &o->schedule_where, e);
    if (o->schedule || e->code) return o->schedule != NULL;
    const bool v = predicts_v(w, o->sd, &o->asks_unet);
    o->schedule_where = strdup(path);
    if (!o->schedule_where) return fail(e, "%s: out of memory", path);
    return o->asks_unet || (o->schedule = original_schedule(o->sd, v, e)) != NULL;
}

bool original_open(Original *o, const char *path, Error *e)
{
    Weights all;
    Layout l = { 0 };
    *o = (Original){ 0 };
    if (!weights_open(&all, path, NULL, e)) return false;
    const Family f = original_family(&all);
    o->sd = l.sd = f.sd;
    layout_read(&l, &all);
    char shown[SHOWN] = "no tensor";
    if (all.count) name_shown(all.entries[0].name, all.entries[0].name_length, shown);
    bool ok = f.sd;
    if (!ok && f.what)
        fail(e, "%s: found %s%s, want Stable Diffusion 1.x or 2.x", path, f.what, f.hint);
    else if (!ok)
        fail(e, "%s: found %s, want a checkpoint of Stable Diffusion 1.x or 2.x, with " UNET "*",
             path, shown);
    ok = ok && schedule_open(o, &all, path, e)
        && part_open(&o->text, path, "text_encoder/config.json", &l, IN_TEXT, e)
        && part_open(&o->unet, path, "unet/config.json", &l, IN_UNET, e)
        && part_open(&o->vae, path, "vae/config.json", &l, IN_VAE, e);
    weights_close(&all);
    if (!ok) original_close(o);
    return ok;
}

static void part_close(OriginalPart *p)
{
    weights_close(&p->weights);
    json_free(p->config);
    free(p->where);
}

void original_close(Original *o)
{
    part_close(&o->text);
    part_close(&o->unet);
    part_close(&o->vae);
    json_free(o->schedule);
    free(o->schedule_where);
    *o = (Original){ 0 };
}

char *original_tokenizer(const char *path)
{
    char *folder = folder_of(path), *inside = folder ? path_join(folder, "tokenizer") : NULL;
    char *const places[] = { inside, folder };
    char *found = NULL;
    for (size_t i = 0; i < countof(places) && !found; i++)
        if (places[i] && (exists(places[i], "tokenizer.json")
                          || (exists(places[i], "vocab.json") && exists(places[i], "merges.txt"))))
            found = strdup(places[i]);
    free(inside);
    free(folder);
    return found;
}

/* ---- open_clip folders ----------------------------------------------------------------------- */

bool open_clip_is(const char *folder)
{
    const bool transformers = exists(folder, "config.json")
        && (exists(folder, "model.safetensors") || exists(folder, "model.safetensors.index.json"));
    return !transformers && exists(folder, "open_clip_config.json");
}

/* A key that is there and says more than null or false must be one of known. */
static bool only_known(const Json *config, const char *const *known, const char *where, Error *e)
{
    char shown[SHOWN];
    for (const Json *j = config->first; j; j = j->next) {
        int i = 0;
        while (known[i] && strcmp(j->key, known[i])) i++;
        if (known[i] || j->type == JSON_NULL || (j->type == JSON_BOOL && !j->truth)) continue;
        return fail(e, "%s: %s: this program does not know it, want the CLIP of OpenAI's paper with"
                    " a vision transformer", where, name_shown(j->key, j->key_length, shown));
    }
    return true;
}

/* One tower: width, heads, layers, mlp in transformers' words. */
static bool open_clip_tower(FILE *text, const Json *config, bool vision, const char *act,
                            const char *where, Error *e)
{
    static const char *const known_vision[] = { "image_size", "layers", "width", "patch_size",
        "head_width", "mlp_ratio", "patch_dropout", NULL };
    static const char *const known_text[] = { "context_length", "vocab_size", "width", "heads",
        "layers", "mlp_ratio", "hf_tokenizer_name", NULL };
    int width = vision ? 768 : 512, layers = 12, head = 64, heads = 8, size = 224, patch = 16,
        positions = 77, vocabulary = 49408;
    double ratio = 4;
    if (!only_known(config, vision ? known_vision : known_text, where, e)
        || !json_int(config, "width", 1, 1 << 16, &width, where, e)
        || !json_int(config, "layers", 1, 256, &layers, where, e)
        || !json_int(config, "heads", 1, 1 << 16, &heads, where, e)
        || !json_int(config, "head_width", 1, 1 << 16, &head, where, e)
        || !json_float(config, "mlp_ratio", 0.001, 100, &ratio, where, e)
        || !json_int(config, "image_size", 1, 4096, &size, where, e)
        || !json_int(config, "patch_size", 1, size, &patch, where, e)
        || !json_int(config, "context_length", 2, 1 << 16, &positions, where, e)
        || !json_int(config, "vocab_size", 1, 1 << 24, &vocabulary, where, e)) return false;
    if (vision) heads = imax(1, width / head);
    fprintf(text, "{\"hidden_size\":%d,\"intermediate_size\":%d,\"num_hidden_layers\":%d,"
            "\"num_attention_heads\":%d,\"hidden_act\":\"%s\"", width, (int)(width * ratio), layers,
            heads, act);
    if (vision) fprintf(text, ",\"image_size\":%d,\"patch_size\":%d}", size, patch);
    else fprintf(text, ",\"vocab_size\":%d,\"max_position_embeddings\":%d,\"eos_token_id\":2}",
                 vocabulary, positions);
    return true;
}

/* model_cfg as config.json. */
static bool open_clip_config(FILE *text, const Json *root, const char *where, Error *e)
{
    static const char *const known[] = { "embed_dim", "vision_cfg", "text_cfg", "quick_gelu",
        "init_logit_scale", NULL };
    const Json *model = json_get(root, "model_cfg"),
               *vision = model ? json_get(model, "vision_cfg") : NULL,
               *words = model ? json_get(model, "text_cfg") : NULL;
    bool quick = false;
    int dim = 0;
    if (!vision || !words || vision->type != JSON_OBJECT || words->type != JSON_OBJECT)
        return fail(e, "%s: model_cfg: want an object with vision_cfg and text_cfg", where);
    if (!only_known(model, known, where, e)
        || !json_bool(model, "quick_gelu", &quick, where, e)
        || !json_int(model, "embed_dim", 1, 1 << 16, &dim, where, e)) return false;
    if (!dim) return fail(e, "%s: embed_dim: missing", where);
    const char *act = quick ? "quick_gelu" : "gelu";
    fprintf(text, "{\"model_type\":\"clip\",\"projection_dim\":%d,\"text_config\":", dim);
    if (!open_clip_tower(text, words, false, act, where, e)) return false;
    fputs(",\"vision_config\":", text);
    if (!open_clip_tower(text, vision, true, act, where, e)) return false;
    fputc('}', text);
    return true;
}

/* preprocess_cfg as preprocessor_config.json. */
static bool open_clip_prepare(FILE *text, const Json *root, const char *where, Error *e)
{
    const Json *model = json_get(root, "model_cfg"), *given = json_get(root, "preprocess_cfg");
    const char *filter = "bicubic", *resize = "shortest";
    double mean[3] = { 0.48145466, 0.4578275, 0.40821073 },
           std[3] = { 0.26862954, 0.26130258, 0.27577711 };
    int size = 224;
    if (given && (!json_floats(given, "mean", 3, -1e6, 1e6, mean, where, e)
                  || !json_floats(given, "std", 3, 1e-9, 1e6, std, where, e)
                  || !json_string(given, "interpolation", &filter, where, e)
                  || !json_string(given, "resize_mode", &resize, where, e))) return false;
    if (!json_int(json_get(model, "vision_cfg"), "image_size", 1, 4096, &size, where, e))
        return false;
    if (strcmp(filter, "bicubic") && strcmp(filter, "bilinear"))
        return fail(e, "%s: interpolation: found %s, want bicubic or bilinear", where, filter);
    if (strcmp(resize, "shortest") && strcmp(resize, "squash"))
        return fail(e, "%s: resize_mode: found %s, want shortest or squash", where, resize);
    fprintf(text, "{\"image_mean\":[%.17g,%.17g,%.17g],\"image_std\":[%.17g,%.17g,%.17g],"
            "\"resample\":%d,\"crop_size\":%d,\"size\":", mean[0], mean[1], mean[2], std[0], std[1],
            std[2], strcmp(filter, "bicubic") ? 2 : 3, size);
    if (strcmp(resize, "squash")) fprintf(text, "%d}", size);
    else fprintf(text, "{\"height\":%d,\"width\":%d}}", size, size);
    return true;
}

typedef bool Writes(FILE *text, const Json *root, const char *where, Error *e);

/* What a function writes, parsed. */
static Json *written(Writes *writes, const Json *root, const char *where, Error *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool ok = out || fail(e, "%s: out of memory", where);
    ok = ok && writes(out, root, where, e);
    if (out && fclose(out)) ok = fail(e, "%s: out of memory", where);
    Json *parsed = ok ? json_parse(text, size, where, e) : NULL;
    free(text);
    return parsed;
}

bool open_clip_open(Weights *w, Json **config, Json **prepare, const char *folder, Error *e)
{
    char *path = path_join(folder, "open_clip_config.json");
    Json *root = path ? json_read(path, 1 << 20, e) : NULL;
    *config = *prepare = NULL;
    const bool ok = root && (*config = written(open_clip_config, root, path, e))
        && (*prepare = written(open_clip_prepare, root, path, e))
        && weights_open(w, folder, "open_clip_model|open_clip_pytorch_model", e)
        && weights_view(w, open_clip_rename, NULL, e);
    json_free(root);
    free(path);
    return ok;
}
