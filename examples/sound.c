/* sound.c - text to sound, by AudioLDM.     sound FOLDER TEXT out.wav */
#include "audioldm.h"

int main(int argc, char **argv)
{
    Error e = { 0 };
    AudioLdm a;
    Sound s;
    if (argc != 4) return fputs("sound FOLDER TEXT out.wav\n", stderr), 2;
    if (!machine_choose(0, NULL, &e) || !audioldm_open(&a, argv[1], NULL, &e))
        return fprintf(stderr, "%s\n", e.text), 1;
    AudioRequest r = audioldm_defaults(&a);
    r.prompt = argv[2], r.seed = 7, r.steps = 20, r.seconds = 4;
    Output *o = output_open(argv[3], &e);
    bool ok = o && audioldm_generate(&a, &r, &s, &e);
    if (ok) {
        ok = wav_write(o, &s, false, NULL, &e);
        if (ok) ok = output_commit(o, &e);
        else output_discard(o);
        sound_free(&s);
    } else if (o) output_discard(o);
    audioldm_close(&a);
    if (!ok) fprintf(stderr, "%s\n", e.text);
    return !ok;
}
