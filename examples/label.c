/* label.c - which text fits a picture best, by CLIP.     label FOLDER PICTURE TEXT... */
#include "clip.h"

/* Cosines of n texts with the picture; why it failed in message.  Plain types, so that other
 * languages can call it: examples/label.py. */
bool label(const char *folder, const char *path, const char *const *texts, int n, double *cosines,
           char message[1024])
{
    enum { DIM_MOST = 4096 };
    static float text[DIM_MOST], image[DIM_MOST];
    Error e = { 0 };
    Clip c;
    Arena m = { 0 };
    Picture p = { 0 };
    bool ok = clip_open(&c, folder, NULL, &e);
    const bool opened = ok;
    if (ok && c.dim > DIM_MOST) ok = fail(&e, "%s: found vectors of %d, want fewer", folder, c.dim);
    ok = ok && arena_open(&m, clip_memory(&c), NULL, &e) && picture_read(&p, path, &e)
        && clip_embed_picture(&c, &m, &p, image, &e);
    for (int i = 0; ok && i < n; i++) {
        ok = clip_embed_text(&c, &m, texts[i], text, NULL, &e);
        cosines[i] = cosine(text, image, c.dim);
    }
    picture_free(&p);
    arena_close(&m);
    if (opened) clip_close(&c);
    memcpy(message, e.text, sizeof e.text);
    return ok;
}

int main(int argc, char **argv)
{
    double cosines[16];
    char message[1024];
    Error e = { 0 };
    if (argc < 4 || argc > 19) return fputs("label FOLDER PICTURE TEXT...\n", stderr), 2;
    if (!machine_choose(0, NULL, &e)) return fprintf(stderr, "%s\n", e.text), 1;
    if (!label(argv[1], argv[2], (const char *const *)argv + 3, argc - 3, cosines, message))
        return fprintf(stderr, "%s\n", message), 1;
    for (int i = 3; i < argc; i++) printf("%.4f\t%s\n", cosines[i - 3], argv[i]);
}
