/* fuzz.c - one fuzz target a parser, in one program that goes by its own name: fuzz_png is the parser
 * of PNG.  Built with libFuzzer (make fuzz), or with -DREPLAY as a plain program that runs the files it
 * is given, again with faults (make faults):
 *     fuzz_png tests/fuzz/png/...
 * Beside what sanitizers see, every refusal must be one printable line with a code, and whatever is
 * accepted must be whole, and survive being used and written again. */
#include "../../command.h"
#include "../../index.h"
#include "../../original.h"
#include "../../prompt.h"
#include "../../story.h"
#include "../../styles.h"
#include "../../fusion.h"
#include "../../tok.h"
#include "../../wav.h"

#include <stdlib.h>
#include <unistd.h>
#include <sys/stat.h>

static void must(bool fact) { if (!fact) abort(); }

/* A refusal is one line. */
static void judge(bool accepted, const Error *e)
{
    must(accepted == !e->code);
    must(accepted == !*e->text);
    for (const char *c = e->text; *c; c++) must((unsigned char)*c >= 0x20 && *c != 0x7f);
}

/* A folder of this process, on memory where there is some; a file in it. */
static const char *path_of(const char *name)
{
    static char folder[64], path[128];
    if (!*folder) {
        snprintf(folder, sizeof folder, "%s/fuzz-%ld", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm",
                 (long)getpid());
        mkdir(folder, 0700);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static const char *file_of(const char *name, const uint8_t *bytes, size_t n)
{
    const char *path = path_of(name);
    FILE *f = fopen(path, "wb");
    must(f && (!n || fwrite(bytes, 1, n, f) == n) && !fclose(f));
    return path;
}

static void clean_up(void)
{
    static const char *const names[] = { "x.safetensors", "y.safetensors", "x.txt", "vocab.json", "merges.txt",
                                         "tokenizer.json" };
    for (size_t i = 0; i < countof(names); i++) unlink(path_of(names[i]));
    rmdir(path_of(""));
}

/* ---- the parsers ----------------------------------------------------------------------------- */

static void fuzz_json(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Json *j = json_parse((const char *)bytes, n, "x.json", &e);
    judge(j, &e);
    json_free(j);
}

/* Some tensors get other names, some become three, some are turned. */
static Renaming rename_some(const void *self, const Entry *t, char out[3][VIEW_NAME])
{
    static const Renaming ways[] = { RENAMED, THIRDS, TRANSPOSED, USELESS, ELSEWHERE };
    (void)self;
    for (int i = 0; i < 3; i++) snprintf(out[i], VIEW_NAME, "%d.%.80s", i, t->name);
    return ways[t->name_length % countof(ways)];
}

static void write_tensors(const Weights *w)
{
    Error e = { 0 };
    SafeWriter *s = safe_open(path_of("y.safetensors"), &e);
    bool ok = s != NULL;
    for (int i = 0; ok && i < w->count; i++) {
        const Entry *t = &w->entries[i];
        int shape[4];
        if (t->rank > 4 || t->type == NOT_COMPUTED) continue;
        for (int k = 0; k < t->rank; k++) shape[k] = (int)zmin((size_t)t->shape[k], 1 << 30);
        ok = safe_begin(s, t->name, t->dtype, t->rank, shape, &e)
            && safe_more(s, t->at, (size_t)(t->end - t->begin), &e);
    }
    const char *metadata[] = { "prompt", "a \"cat\"\n", NULL };
    if (ok) ok = safe_commit(s, metadata, &e);
    else safe_discard(s);
    judge(ok, &e);
    Weights again;
    if (ok && weights_open(&again, path_of("y.safetensors"), NULL, &e)) weights_close(&again);
    unlink(path_of("y.safetensors"));
}

static void fuzz_safetensors(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Weights w;
    const bool ok = weights_open(&w, file_of("x.safetensors", bytes, n), NULL, &e);
    judge(ok, &e);
    for (int i = 0; ok && i < w.count; i++) {
        const Entry *t = &w.entries[i];
        must(t->begin <= t->end && (const char *)t->at >= (const char *)w.files[t->file].at);
        must((const uint8_t *)t->at + (t->end - t->begin) <= w.files[t->file].at + w.files[t->file].size);
        must(weights_find(&w, t->name) != NULL || t->name_length != strlen(t->name));
    }
    if (ok) original_family(&w);
    if (ok) write_tensors(&w);
    if (ok) judge(weights_view(&w, rename_some, NULL, &e), &e);
    if (ok) weights_close(&w);
}

static void fuzz_picture(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Picture p = { 0 };
    const bool ok = picture_parse(&p, bytes, n, "x.png", &e);
    judge(ok, &e);
    unsigned sum = 0;
    for (size_t i = 0; ok && i < 3 * (size_t)p.w * (size_t)p.h; i++) sum += p.rgb[i];
    must(!ok || (p.w > 0 && p.h > 0 && sum <= 255u * 3u * (unsigned)p.w * (unsigned)p.h));
    const char *texts[] = { "a", "b\n", "c", "\xc3\xa9", "d", "\xe7\x8c\xab", NULL };
    Output *o = ok && (size_t)p.w * (size_t)p.h < 1 << 14 ? output_memory("y.png", &e) : NULL;
    if (o && png_write(o, p.w, p.h, p.rgb, texts, &e)) {
        Picture again = { 0 };
        const uint8_t *written = output_bytes(o, &n);
        if (picture_parse(&again, written, n, "y.png", &e))
            must(again.w == p.w && again.h == p.h && again.text_count == 3
                 && !memcmp(again.rgb, p.rgb, 3 * (size_t)p.w * (size_t)p.h));
        picture_free(&again);
    }
    output_discard(o);
    picture_free(&p);
}

static void fuzz_wav(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Sound s = { 0 };
    const bool ok = sound_parse(&s, bytes, n, "x.wav", &e);
    judge(ok, &e);
    for (size_t i = 0; ok && i < s.frames * (size_t)s.channels; i++) must(s.at[i] - s.at[i] == 0);
    sound_free(&s);
}

/* The bytes as a prompt of several chunks, and its words. */
static void use_prompt(const Tok *t, const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Prompt p;
    Adapters none = { 0 };
    PromptWord *words;
    char text[100];
    int count;
    n = zmin(n, sizeof text - 1);
    memcpy(text, bytes, n);
    text[n] = 0;
    const bool ok = prompt_read(&p, t, &none, text, 16, true, "prompt", &e);
    judge(ok, &e);
    if (!ok) return;
    const bool told = prompt_words(&p, t, &none, &words, &count, &e);
    judge(told, &e);
    if (told) words_free(words, count);
    prompt_free(&p);
}

/* What a tokenizer makes of words and of bytes that are no text. */
static void use_tokenizer(const uint8_t *bytes, size_t n)
{
    static const char folder[] = "a photo of un \xc3\xa9t\xc3\xa9, \xe7\x8c\xab 12!";
    Error e = { 0 };
    Tok *t = tok_open(path_of(""), &e);
    judge(t, &e);
    for (int i = 0; t && i < 2; i++) {
        Ids ids = { 0 };
        Error inner = { 0 };
        const bool ok = i ? tok_encode(t, (const char *)bytes, zmin(n, 64), &ids, &inner)
                          : tok_encode(t, folder, sizeof folder - 1, &ids, &inner);
        judge(ok, &inner);
        for (int k = 0; k < ids.count; k++) must(ids.at[k] >= 0 && ids.at[k] < tok_vocabulary(t));
        inner = (Error){ 0 };
        char *back = ok ? tok_decode(t, ids.at, ids.count, &inner) : NULL;
        if (ok) judge(back, &inner);
        free(back);
        ids_free(&ids);
    }
    if (t) use_prompt(t, bytes, n);
    tok_close(t);
}

static void fuzz_tokenizer(const uint8_t *bytes, size_t n)
{
    file_of("tokenizer.json", bytes, n);
    use_tokenizer(bytes, n);
    unlink(path_of("tokenizer.json"));
}

/* vocab.json, a zero byte, merges.txt. */
static void fuzz_vocabulary(const uint8_t *bytes, size_t n)
{
    const uint8_t *cut = n ? memchr(bytes, 0, n) : NULL;
    const size_t first = cut ? (size_t)(cut - bytes) : n;
    file_of("vocab.json", bytes, first);
    file_of("merges.txt", bytes + first + !!cut, n - first - !!cut);
    use_tokenizer(bytes, n);
    unlink(path_of("vocab.json"));
    unlink(path_of("merges.txt"));
}

/* A verb and its words, a line each. */
static void fuzz_options(const uint8_t *bytes, size_t n)
{
    enum { WORDS = 32 };
    char *text = malloc(n + 1), *words[WORDS + 1];
    int count = 0;
    must(text != NULL);
    memcpy(text, bytes, n);
    text[n] = 0;
    for (char *at = text; at && count < WORDS;) {
        char *end = strchr(at, '\n');
        words[count++] = at;
        if (end) *end++ = 0;
        at = end;
    }
    words[count] = NULL;
    Error e = { 0 };
    Args args = { 0 };
    Options o = { .table = option_table, .verb = verb_bit(words[0]), .fields = &args };
    bool reads = false;                                    /* --config would open any file */
    for (int i = 1; i < count; i++) reads = reads || strstr(words[i], "conf");
    const bool ok = o.verb && !reads && opt_parse(&o, count - 1, words + 1, &e);
    if (o.verb && !reads) judge(ok, &e);
    char *echo = ok ? opt_echo(&o) : NULL;
    if (echo) {                                            /* what it says of itself is read again */
        Args more = { 0 };
        Options again = { .table = option_table, .verb = o.verb, .fields = &more };
        judge(opt_settings(&again, echo, strlen(echo), "x.conf", &e), &e);
        opt_free(&again);
    }
    free(echo);
    opt_free(&o);
    free(text);
}

/* What a short script tells of, with grey pictures and silence. */
static void tell_story(Script *script)
{
    enum { W = 4, H = 2, RATE = 100, FRAMES_MOST = 400 };
    static const uint64_t voices[SCENES_MOST];
    Error e = { 0 };
    Story s = { .script = *script, .rate = RATE };
    *script = (Script){ 0 };
    bool ok = timeline_make(&s.time, &s.script, voices, 0.4, &e)
        && s.time.frames < FRAMES_MOST && (s.parts = calloc((size_t)s.script.count, sizeof *s.parts));
    for (int i = 0; ok && i < s.script.count; i++) {
        Part *p = &s.parts[i];
        const size_t n = (size_t)s.time.spans[i].length * RATE / AVI_FPS;
        p->sound = (Sound){ .rate = RATE, .channels = 1, .frames = n, .at = calloc(n + 1, sizeof(float)) };
        ok = p->sound.at && picture_make(&p->picture, W, H, "x", &e) && (p->png = output_memory("png", &e));
        if (ok) memset(p->picture.rgb, 128, 3 * W * H);
        ok = ok && png_write(p->png, W, H, p->picture.rgb, NULL, &e);
    }
    Output *out = ok ? output_memory("y", &e) : NULL;
    if (out && story_mix(&s, &e))
        judge(story_captions(&s, out, &e) && story_page(&s, out, &e) && story_film(&s, out, &e), &e);
    output_discard(out);
    story_free(&s);
}

static void fuzz_story(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Script s = { 0 };
    const bool ok = script_read(&s, file_of("x.txt", bytes, n), &e);
    judge(ok, &e);
    must(!ok || s.count > 0);
    if (ok) tell_story(&s);
}

static void fuzz_phrases(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Phrases p = { 0 };
    judge(phrases_read(&p, file_of("x.txt", bytes, n), &e), &e);
    phrases_free(&p);
}

/* Prompts, a line each; then the same lines as styles. */
static void fuzz_styles(const uint8_t *bytes, size_t n)
{
    static const char *const names[] = { "a", "plain", "none such" };
    Error e = { 0 };
    Lines l;
    const char *path = file_of("x.txt", bytes, n);
    const bool ok = lines_read(&l, path, &e);
    judge(ok, &e);
    if (!ok) return;
    must(l.count > 0);
    lines_free(&l);
    for (size_t i = 0; i < countof(names); i++) {
        char *out[2];
        Error inner = { 0 };
        judge(style_apply(path, names[i], "a cat", i ? NULL : "rain", out, &inner), &inner);
        free(out[0]);
        free(out[1]);
    }
}

static void fuzz_index(const uint8_t *bytes, size_t n)
{
    Error e = { 0 };
    Index x = { 0 };
    const bool ok = index_open(&x, file_of("x.safetensors", bytes, n), &e);
    judge(ok, &e);
    if (!ok) return;
    char both[128], out[128];
    snprintf(both, sizeof both, "%s", path_of("x.safetensors"));
    snprintf(out, sizeof out, "%s", path_of("y.safetensors"));
    const char *const twice[] = { both, both };
    for (int kind = 0; kind < KINDS; kind++) {
        Hit hits[3];
        int found;
        Alike *pairs = NULL;
        size_t count;
        float *query = calloc((size_t)x.dim[kind] + 1, sizeof *query);
        Error inner = { 0 };
        must(query != NULL);
        if (x.count[kind]) judge(index_search(&x, kind, query, 3, hits, &found, &inner), &inner);
        inner = (Error){ 0 };
        if (x.count[kind]) judge(index_alike(&x, kind, 0.5, &pairs, &count, &inner), &inner);
        free(pairs);
        free(query);
    }
    judge(index_merge(twice, 2, out, &e), &e);
    unlink(out);
    index_close(&x);
}

/* ---- which of them --------------------------------------------------------------------------- */

static const struct { const char *name; void (*run)(const uint8_t *bytes, size_t n); } targets[] = {
    { "json", fuzz_json }, { "safetensors", fuzz_safetensors }, { "png", fuzz_picture },
    { "jpeg", fuzz_picture }, { "pnm", fuzz_picture }, { "wav", fuzz_wav },
    { "tokenizer", fuzz_tokenizer }, { "vocabulary", fuzz_vocabulary }, { "options", fuzz_options },
    { "story", fuzz_story }, { "phrases", fuzz_phrases }, { "styles", fuzz_styles }, { "index", fuzz_index } };
static size_t chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    const char *name = strstr(**argv, "fuzz_");
    (void)argc;
    while (name && strstr(name + 5, "fuzz_")) name = strstr(name + 5, "fuzz_");
    for (chosen = 0; chosen < countof(targets); chosen++)
        if (name && !strcmp(name + 5, targets[chosen].name)) break;
    if (chosen == countof(targets)) {
        fprintf(stderr, "%s: want a name like fuzz_png\n", **argv);
        exit(2);
    }
    atexit(clean_up);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    targets[chosen].run(bytes, n);
    return 0;
}

#ifdef REPLAY
/* tests/faults.c, which is linked with it: the n-th call from here fails (0: none); calls since then. */
void fault_at(long n);
long fault_calls(void);

/* Every file once as it is, then with up to PLACES of its allocations and I/O calls failing, one a run. */
int main(int argc, char **argv)
{
    enum { PLACES = 64 };
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        File f;
        Error e = { 0 };
        if (!file_map(&f, argv[i], 0, &e)) {
            fprintf(stderr, "%s\n", e.text);
            return 1;
        }
        fault_at(0);
        LLVMFuzzerTestOneInput(f.at, f.size);
        const long calls = fault_calls();
        for (long k = 0; k < calls && k < PLACES; k++) {
            fault_at(calls <= PLACES ? k + 1 : 1 + (k * calls + i % PLACES) / PLACES);
            LLVMFuzzerTestOneInput(f.at, f.size);
        }
        fault_at(0);
        file_unmap(&f);
    }
    return 0;
}
#endif
