/* draw.c - text to picture, by Stable Diffusion.     draw FOLDER TEXT out.png|out.ppm */
#include "sd.h"

/* Called after each call of the UNet; false would stop the run. */
static bool told(void *self, int call, int calls, const float *latents, const float *x0)
{
    (void)self, (void)latents, (void)x0;
    fprintf(stderr, "%d of %d\n", call, calls);
    return true;
}

int main(int argc, char **argv)
{
    static const char *const nothing[] = { NULL };
    Error e = { 0 };
    Sd sd;
    Picture p;
    if (argc != 4) return fputs("draw FOLDER TEXT out.png|out.ppm\n", stderr), 2;
    if (!machine_choose(0, NULL, &e) || !sd_open(&sd, argv[1], NULL, &e))
        return fprintf(stderr, "%s\n", e.text), 1;
    SdRequest r = sd_defaults(&sd);
    r.prompt = argv[2], r.seed = 7, r.steps = 20, r.step = told;
    Output *o = output_open(argv[3], &e);
    bool ok = o && sd_generate(&sd, &r, &p, &e);
    if (ok) {
        ok = (strstr(argv[3], ".ppm") ? ppm_write : png_write)(o, p.w, p.h, p.rgb, nothing, &e);
        if (ok) ok = output_commit(o, &e);
        else output_discard(o);
        picture_free(&p);
    } else if (o) output_discard(o);
    sd_close(&sd);
    if (!ok) fprintf(stderr, "%s\n", e.text);
    return !ok;
}
