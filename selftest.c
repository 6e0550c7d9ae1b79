/* selftest.c - the verb selftest: do the shipped weights give the recorded sums on this machine?
 * Read in this order: what is made, the recorded sums, selftest. */
#include "audioldm.h"
#include "clip.h"
#include "command.h"
#include "sd.h"

#include <stdlib.h>
#include <sys/stat.h>

#define SCENE "Une cabane chaleureuse dans les bois sous la neige."
#define PLACE "Un marché animé avec des conversations."

/* The test's state: results are compared as they come. */
typedef struct {
    const Args *a;
    char *folder;                          /* of the bundle */
    File recorded;                         /* selftest.txt: lines "name<TAB>sha256" */
    int made, different, unknown;
    Picture picture;
    Sound sound;
} Selftest;

/* ---- the recorded sums ----------------------------------------------------------------------- */

/* The sum of a name, or NULL. */
static const char *recorded(const Selftest *s, const char *name)
{
    const char *at = (const char *)s->recorded.at, *end = at ? at + s->recorded.size : NULL;
    const size_t n = strlen(name);
    while (at && at < end) {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        if (!line) line = end;
        if ((size_t)(line - at) == n + 65 && !memcmp(at, name, n) && at[n] == '\t')
            return at + n + 1;
        at = line + 1;
    }
    return NULL;
}

static void result(Selftest *s, const char *name, const void *at, size_t bytes)
{
    Sha256 sum;
    char hex[65];
    sha256_start(&sum);
    sha256_add(&sum, at, bytes);
    sha256_end(&sum, hex);
    const char *want = recorded(s, name);
    const bool same = want && !memcmp(want, hex, 64);
    s->made++;
    s->unknown += !want;
    s->different += want && !same;
    if (s->a->json)
        printf("{\"name\": \"%s\", \"sha256\": \"%s\", \"same\": %s}\n", name, hex,
               !want ? "null" : same ? "true" : "false");
    else printf("%s\t%s\t%s\n", name, hex, !want ? "not recorded" : same ? "same" : "differs");
    fflush(stdout);
}

/* ---- what is made ---------------------------------------------------------------------------- */

static bool test_sd(Selftest *s, const char *folder, Error *e)
{
    Sd sd;
    if (!sd_open(&sd, folder, NULL, e)) return false;
    SdRequest r = sd_defaults(&sd);
    r.prompt = SCENE, r.steps = 4, r.seed = 1;
    const bool ok = sd_generate(&sd, &r, &s->picture, e);
    if (ok) result(s, "sd", s->picture.rgb, 3 * (size_t)s->picture.w * (size_t)s->picture.h);
    sd_close(&sd);
    return ok;
}

static bool test_audioldm(Selftest *s, const char *folder, Error *e)
{
    AudioLdm audioldm;
    if (!audioldm_open(&audioldm, folder, NULL, e)) return false;
    AudioRequest r = audioldm_defaults(&audioldm);
    r.prompt = PLACE, r.steps = 4, r.seed = 1, r.seconds = 1.00005;
    const bool ok = audioldm_generate(&audioldm, &r, &s->sound, e);
    if (ok) result(s, "audioldm", s->sound.at, s->sound.frames * sizeof *s->sound.at);
    audioldm_close(&audioldm);
    return ok;
}

/* The text, and the picture made before if there is one. */
static bool test_clip(Selftest *s, const char *folder, Error *e)
{
    Clip c;
    Arena m = { 0 };
    if (!clip_open(&c, folder, NULL, e)) return false;
    const size_t bytes = (size_t)c.dim * sizeof(float);
    float *out = malloc(bytes);
    bool ok = (out || fail(e, "out of memory: needed %zu bytes", bytes))
        && arena_open(&m, clip_memory(&c), NULL, e) && clip_embed_text(&c, &m, SCENE, out, NULL, e);
    if (ok) result(s, "clip text", out, bytes);
    ok = ok && (!s->picture.rgb || clip_embed_picture(&c, &m, &s->picture, out, e));
    if (ok && s->picture.rgb) result(s, "clip picture", out, bytes);
    arena_close(&m);
    free(out);
    clip_close(&c);
    return ok;
}

static bool test_clap(Selftest *s, const char *folder, Error *e)
{
    Clap c;
    Arena m = { 0 };
    if (!clap_open(&c, folder, NULL, e)) return false;
    const size_t bytes = (size_t)c.dim * sizeof(float);
    float *out = malloc(bytes);
    bool ok = (out || fail(e, "out of memory: needed %zu bytes", bytes))
        && arena_open(&m, clap_memory(&c), NULL, e) && clap_embed_text(&c, &m, PLACE, out, NULL, e);
    if (ok) result(s, "clap text", out, bytes);
    ok = ok && (!s->sound.at || clap_embed_sound(&c, &m, &s->sound, out, e));
    if (ok && s->sound.at) result(s, "clap sound", out, bytes);
    arena_close(&m);
    free(out);
    clap_close(&c);
    return ok;
}

/* ---- selftest -------------------------------------------------------------------------------- */

/* Every part that the bundle has: what is made comes first, for the models that look at it. */
static bool test_parts(Selftest *s, Error *e)
{
    typedef bool Test(Selftest *s, const char *folder, Error *e);
    static const struct { const char *name; Test *test; } parts[] = {
        { "sd", test_sd }, { "clip", test_clip }, { "audioldm", test_audioldm },
        { "clap", test_clap } };
    bool ok = true;
    for (size_t i = 0; ok && i < countof(parts); i++) {
        struct stat about;
        char *folder = path_join(s->folder, parts[i].name);
        if (!folder) return fail(e, "%s: out of memory", s->folder);
        if (!stat(folder, &about)) ok = parts[i].test(s, folder, e);
        free(folder);
    }
    return ok;
}

int verb_selftest(Args *a, Error *e)
{
    Selftest s = { .a = a, .folder = beside_program("weights/tiny") };
    char *sums = s.folder ? path_join(s.folder, "selftest.txt") : NULL;
    Error none = { 0 };
    bool ok = (sums || fail(e, "out of memory: needed room for a path")) && choose_machine(a, e);
    if (ok && !file_map(&s.recorded, sums, 1 << 16, &none)) s.recorded = (File){ 0 };
    ok = ok && test_parts(&s, e);
    if (ok && !s.made) ok = fail(e, "%s: no model there, want sd, clip, audioldm, clap", s.folder);
    if (ok && s.different)
        ok = fail(e, "selftest: %d of %d results differ from %s", s.different, s.made, sums);
    if (ok && s.unknown)
        ok = fail(e, "selftest: %d of %d results are not recorded in %s", s.unknown, s.made, sums);
    if (s.recorded.at) file_unmap(&s.recorded);
    picture_free(&s.picture);
    sound_free(&s.sound);
    free(sums);
    free(s.folder);
    return ok ? 0 : 1;
}
