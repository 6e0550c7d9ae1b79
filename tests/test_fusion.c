/* Phrase banks, captions, soundscapes and agreement, with the random models of tests/models. */
#include "fusion.h"
#include "test.h"

#include <unistd.h>

#define CLIP "tests/models/clip"
#define CLAP "tests/models/clap"
#define PICTURE "tests/models/pictures/rgb.png"

/* The message for a phrase file of this text, without the path; "" when it is read. */
static const char *told(const char *text, size_t n)
{
    static Error e;
    static char path[64];
    Phrases p = { 0 };
    e = (Error){ 0 };
    snprintf(path, sizeof path, "/tmp/fusion-phrases-%ld.txt", (long)getpid());
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(text, 1, n, f) != n || fclose(f)) return "cannot write";
    const bool ok = phrases_read(&p, path, &e);
    CHECK(ok == !e.code);
    phrases_free(&p);
    unlink(path);
    const size_t skip = strncmp(e.text, path, strlen(path)) ? 0 : strlen(path);
    return e.text + skip;
}
#define TOLD(text, want) CHECK_STR(told(text, sizeof text - 1), want)

TEST(phrase_files_say_where_they_are_wrong)
{
    TOLD("", "");
    TOLD("# nothing\n\n  \t\n[ place ]\r\nin a wood | in a wood | dans un bois\r\n", "");
    TOLD("\xef\xbb\xbf[subject]\na cat | a cat | un chat", "");
    TOLD("a cat | a cat | un chat\n",
         ":1: found 'a cat | a cat | un chat' before any section, want a line [subject] or "
         "another");
    TOLD("\n[colour]\n", ":2: section: found '[colour]', want one of [subject], [place], "
         "[weather], [light], [mood], [style], [sound], [soundscape]");
    TOLD("[\n", ":1: section: found '[', want one of [subject], [place], [weather], [light], "
         "[mood], [style], [sound], [soundscape]");
    TOLD("[subject]\na cat | a cat\n", ":2: [subject]: found 2 fields, want query | English | "
         "French");
    TOLD("[subject]\na cat | | un chat\n",
         ":2: field 2: found nothing between the bars, want a phrase, or - for none");
    TOLD("[place]\n\n# ok\nx | - | y\n",
         ":4: words: found - in one language, want words or - in both");
    TOLD("[subject]\nx | - | -\n", ":2: words: found -, want words: a subject is always said");
    TOLD("[place]\nx | - | -\n", "");
    TOLD("[sound]\nwind | wind | \xe9t\xe9\n",
         ":2: found bytes that are not UTF-8, want UTF-8 text");
    TOLD("[sound]\nwind\0| a | b\n", ": found a zero byte, want a phrase file");
    char *many = malloc(20001 * 24 + 16);
    size_t n = (size_t)sprintf(many, "[place]\n");
    for (int i = 0; i <= 20000; i++) n += (size_t)sprintf(many + n, "p%d | a | b\n", i);
    CHECK_STR(told(many, n), ":20002: [place]: found more than 20000 phrases, want fewer");
    free(many);
    TOLD("[place]\na|b|c|d|e|f|g|h|i|j|k|l|m|n|o|p|q|r|s|t|u|v|w|x|y|z|a|b|c|d|e|f|g\n",
         ":2: fields: found more than 32, want fewer");
}

#define BANK "[subject]\na cat / a kitten | a cat | un chat\n" \
    "[sound]\nwind blowing | wind | le vent\n"

TEST(soundscapes_name_phrases_that_are_there)
{
    TOLD(BANK "[soundscape]\na cat | wind blowing -6 | wind blowing -60\n", "");
    TOLD(BANK "[soundscape]\na cat\n", ":6: [soundscape]: found 1 field, want phrase | sound dB | "
         "...");
    TOLD(BANK "[soundscape]\na dog | wind blowing -6\n", ":6: phrase: found 'a dog', want the "
         "first wording of a phrase of a slot above or in a file read before");
    TOLD(BANK "[soundscape]\na cat | rain -6\n", ":6: sound: found 'rain', want the first "
         "wording of a phrase of [sound] above or in a file read before");
    static const char *const levels[] = { "wind blowing", "wind blowing 1", "wind blowing -61",
                                          "wind blowing -", "wind blowing nan", "wind blowing 0x0",
                                          "-6" };
    for (size_t i = 0; i < countof(levels); i++) {
        char text[256], want[256];
        snprintf(text, sizeof text, BANK "[soundscape]\na cat | %s\n", levels[i]);
        snprintf(want, sizeof want, ":6: level: found '%s', want a sound and its dB in -60..0, as "
                 "'wind blowing -6'", levels[i]);
        CHECK_STR(told(text, strlen(text)), want);
    }
}

static Phrases read_folder(const char *folder)
{
    Error e = { 0 };
    Phrases p = { 0 };
    CHECK(phrases_folder(&p, folder, &e));
    CHECK_STR(e.text, "");
    return p;
}

TEST(the_banks_that_come_along_are_whole)
{
    Phrases all = read_folder("weights/phrases"),
            small = read_folder("weights/phrases/small-world");
    CHECK(all.bank[SUBJECT].count >= 200 && all.bank[SOUND].count >= 100);
    CHECK(small.bank[SUBJECT].count == 24 && small.bank[PLACE].count == 10);
    CHECK(small.bank[SOUND].count == 28 && small.bank[LIGHT].count == 4);
    for (int b = 0; b < BANKS; b++)                        /* what the small world has, all have */
        for (int i = 0; i < small.bank[b].count; i++) {
            CHECK(small.bank[b].at[i].line > 0);
            if (b == SUBJECT) CHECK(phrases_find(&all.bank[b], small.bank[b].at[i].query) >= 0);
        }
    for (int i = 0; i < small.bank[SUBJECT].count; i++) {  /* and each has a sound */
        bool heard = false;
        for (int k = 0; k < small.belongs_count; k++)
            heard |= small.belongs[k].slot == SUBJECT && small.belongs[k].phrase == i;
        CHECK(heard);
    }
    phrases_free(&all);
    phrases_free(&small);
}

TEST(a_folder_without_phrases_is_refused)
{
    Error e = { 0 };
    Phrases p = { 0 };
    CHECK(!phrases_folder(&p, "tests/models", &e));
    CHECK_STR(e.text, "tests/models: no phrases here, want captions.txt, sounds.txt or "
              "soundscape.txt");
    phrases_free(&p);
}

/* ---- with models ----------------------------------------------------------------------------- */

static bool begin(Fusion *f, const char *text)
{
    Error e = { 0 };
    char path[64];
    bool ok = fusion_open(f, CLIP, CLAP, NULL, NULL, &e);
    if (ok && text) {
        snprintf(path, sizeof path, "/tmp/fusion-bank-%ld.txt", (long)getpid());
        FILE *out = fopen(path, "wb");
        ok = out && fputs(text, out) >= 0 && !fclose(out) && phrases_read(&f->phrases, path, &e);
        unlink(path);
    } else ok = ok && phrases_folder(&f->phrases, "weights/phrases/small-world", &e);
    CHECK_STR(e.text, "");
    CHECK(ok);
    return ok;
}

static Sound chirp(void)
{
    Sound s = { .rate = 16000, .channels = 1, .frames = 8000, .at = malloc(8000 * sizeof(float)) };
    for (int i = 0; i < 8000; i++) s.at[i] = (float)((i * i / 97) % 200 - 100) / 120;
    return s;
}

static Picture read_rgb(void)
{
    Error e = { 0 };
    Picture p = { 0 };
    CHECK(picture_read(&p, PICTURE, &e));
    return p;
}

#define TWO "[subject]\na cat | a cat | un chat\nan island | an island | \xc3\xaele\n" \
    "[place]\nin a wood | in a wood | dans un bois\n[weather]\nno weather | - | -\n" \
    "[light]\nat night | at night | la nuit\n" \
    "[sound]\nwind blowing | wind | le vent\nwaves | the \xc5\x93uvre | \xc5\x93uvre\n" \
    "rain | rain | la pluie\n" \
    "[soundscape]\na cat | wind blowing -6\nin a wood | wind blowing 0 | rain -20\n"

TEST(phrases_are_ranked_by_the_cosine_of_the_model)
{
    Error e = { 0 };
    Fusion f;
    Caption c;
    if (!begin(&f, TWO)) return;
    float *picture = malloc(2 * (size_t)f.clip.dim * sizeof *picture), *text = picture + f.clip.dim;
    Picture p = read_rgb();
    CHECK(clip_embed_picture(&f.clip, &f.m, &p, picture, &e));
    CHECK(caption_vector(&f, picture, 0.9999, &c, &e));
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        const Ranked *r = &c.ranked[SUBJECT][i];
        CHECK(clip_embed_text(&f.clip, &f.m, f.phrases.bank[SUBJECT].at[r->phrase].query, text,
                              NULL, &e));
        CHECK(r->cosine == cosine(text, picture, f.clip.dim));
        sum += r->probability;
    }
    CHECK(c.count[SUBJECT] == 2 && c.ranked[SUBJECT][0].cosine >= c.ranked[SUBJECT][1].cosine);
    CHECK(fabs(sum - 1) < 1e-12);
    CHECK(c.said[SUBJECT] && c.said[PLACE] && !c.said[WEATHER] && c.said[LIGHT]);
    const bool cat = c.ranked[SUBJECT][0].phrase == 0;
    CHECK_STR(c.sentence[ENGLISH], cat ? "A cat in a wood, at night."
                                       : "An island in a wood, at night.");
    CHECK_STR(c.sentence[FRENCH], cat ? "Un chat dans un bois, la nuit."
                                      : "\xc3\x8ele dans un bois, la nuit.");
    caption_free(&c);
    picture_free(&p);
    free(picture);
    fusion_close(&f);
}

TEST(several_wordings_are_averaged)
{
    Error e = { 0 };
    Fusion f;
    if (!begin(&f, "[subject]\na cat / a dog | a cat | un chat\n")) return;
    const size_t dim = (size_t)f.clip.dim;
    float *v = malloc(2 * dim * sizeof *v);
    CHECK(fusion_see_phrases(&f, &e));
    CHECK(clip_embed_text(&f.clip, &f.m, "a cat", v, NULL, &e));
    CHECK(clip_embed_text(&f.clip, &f.m, "a dog", v + dim, NULL, &e));
    normalize(v, f.clip.dim);
    normalize(v + dim, f.clip.dim);
    for (size_t i = 0; i < dim; i++) v[i] += v[dim + i];
    CLOSE(f.phrases.bank[SUBJECT].vectors, v, dim, 1e-7);
    char *prompt = phrase_prompt(&f.phrases.bank[SUBJECT].at[0], &e);
    CHECK_STR(prompt, "a cat");
    free(prompt);
    free(v);
    fusion_close(&f);
}

TEST(what_is_heard_stands_above_the_mean)
{
    Error e = { 0 };
    Fusion f;
    Hearing h;
    if (!begin(&f, TWO)) return;
    Sound s = chirp();
    CHECK(caption_sound(&f, &s, -9, &h, &e));
    double sum = 0, squares = 0;
    for (int i = 0; i < h.count; i++) {
        sum += h.heard[i].above, squares += h.heard[i].above * h.heard[i].above;
        CHECK(!i || h.heard[i - 1].cosine >= h.heard[i].cosine);
        CHECK(h.heard[i].said);
    }
    CHECK(h.count == 3 && fabs(sum) < 1e-9 && fabs(squares - 3) < 1e-9);
    hearing_free(&h);
    CHECK(caption_sound(&f, &s, 9, &h, &e));               /* the best is said in any case */
    CHECK(h.heard[0].said && !h.heard[1].said);
    const int first = h.heard[0].phrase;
    CHECK_STR(h.sentence[ENGLISH], first == 0 ? "[Wind]" : first == 1 ? "[The \xc5\x93uvre]"
              : "[Rain]");
    CHECK_STR(h.sentence[FRENCH], first == 0 ? "[Le vent]" : first == 1 ? "[\xc5\x92uvre]"
              : "[La pluie]");
    hearing_free(&h);
    sound_free(&s);
    fusion_close(&f);
}

TEST(a_soundscape_takes_each_sound_once_for_its_best_reason)
{
    Error e = { 0 };
    Fusion f;
    Soundscape s;
    if (!begin(&f, TWO)) return;
    Ranked subject[] = { { 0, 0.5, 0.9 }, { 1, 0.4, 0.1 } }, place[] = { { 0, 0.3, 0.6 } };
    Caption c = { .ranked = { subject, place }, .count = { 2, 1 },
                  .sentence = { "A cat.", "Un chat." } };
    CHECK(soundscape_choose(&f, &c, 4, &s, &e));           /* 0.9 / 2 for the cat, 0.6 the wood */
    CHECK(s.count == 1 && s.layer[0].sound == 0 && s.layer[0].slot == PLACE);
    CHECK(s.layer[0].gain_db == 0 && fabs(s.layer[0].score - 0.6) < 1e-12);
    CHECK_STR(s.reason[ENGLISH], "A cat. You hear: wind (in a wood).");
    CHECK_STR(s.reason[FRENCH], "Un chat. On entend : le vent (dans un bois).");
    soundscape_free(&s);
    place[0].probability = 0.2;
    CHECK(soundscape_choose(&f, &c, 4, &s, &e));
    CHECK(s.count == 1 && s.layer[0].slot == SUBJECT && s.layer[0].gain_db == -6);
    CHECK_STR(s.reason[FRENCH], "Un chat. On entend : doucement, le vent (un chat).");
    soundscape_free(&s);
    fusion_close(&f);
}

TEST(soundscapes_are_sorted_and_no_longer_than_asked)
{
    Error e = { 0 };
    Fusion f;
    Caption c;
    Soundscape s;
    if (!begin(&f, NULL)) return;
    Picture p = read_rgb();
    CHECK(caption_picture(&f, &p, CONFIDENCE, &c, &e));
    for (int most = 1; most <= LAYERS_MOST; most++) {
        CHECK(soundscape_choose(&f, &c, most, &s, &e));
        CHECK(s.count >= 1 && s.count <= most);
        for (int i = 1; i < s.count; i++) {
            CHECK(s.layer[i - 1].score >= s.layer[i].score);
            for (int k = 0; k < i; k++) CHECK(s.layer[i].sound != s.layer[k].sound);
        }
        soundscape_free(&s);
    }
    caption_free(&c);
    picture_free(&p);
    fusion_close(&f);
}

/* ---- agreement ------------------------------------------------------------------------------- */

static Pair pair_of(Fusion *f, const char *text, const Sound *s, int which)
{
    Error e = { 0 };
    Verdict v;
    Picture p = which == TEXT_SOUND ? (Picture){ 0 } : read_rgb();
    CHECK(check_agree(f, which == PICTURE_SOUND ? NULL : text, p.rgb ? &p : NULL,
                      which == TEXT_PICTURE ? NULL : s, AGREE_FROM, &v, &e));
    CHECK_STR(e.text, "");
    picture_free(&p);
    for (int i = 0; i < PAIRS; i++) CHECK(v.pair[i].asked == (i == which));
    CHECK(v.agree == v.pair[which].agree);
    CHECK(v.pair[which].agree == (v.pair[which].percentile >= AGREE_FROM));
    return v.pair[which];
}

TEST(pairs_are_ranked_among_pairs_that_do_not_belong_together)
{
    Error e = { 0 };
    Fusion f;
    Caption c;
    if (!begin(&f, NULL)) return;
    Sound s = chirp();
    Picture p = read_rgb();
    CHECK(caption_picture(&f, &p, 0, &c, &e));
    const Bank *b = &f.phrases.bank[SUBJECT];
    const Pair best = pair_of(&f, b->at[c.ranked[SUBJECT][0].phrase].words[ENGLISH], &s,
                              TEXT_PICTURE);
    const Pair worst = pair_of(&f, b->at[c.ranked[SUBJECT][b->count - 1].phrase].words[ENGLISH],
                               &s, TEXT_PICTURE);
    CHECK(best.score > worst.score && best.percentile > worst.percentile);
    CHECK(best.among > 200 && best.among < 256 && !best.by_bank);
    const Pair sound = pair_of(&f, "rain", &s, TEXT_SOUND), scene = pair_of(&f, NULL, &s,
                                                                            PICTURE_SOUND);
    CHECK(sound.percentile >= 0 && sound.percentile <= 100 && scene.among > 200 && scene.by_bank);
    const Pair again = pair_of(&f, NULL, &s, PICTURE_SOUND);
    CHECK(scene.percentile == again.percentile && scene.score == again.score);
    caption_free(&c);
    picture_free(&p);
    sound_free(&s);
    fusion_close(&f);
}

/* Scenes that share a sound with the picture say nothing about it: here all do, then none. */
TEST(scenes_with_the_same_sound_are_left_out)
{
    static const char *const other[] = { "wind blowing 0", "rain 0" };
    Sound s = chirp();
    for (int i = 0; i < 2; i++) {
        char text[512];
        Fusion f;
        snprintf(text, sizeof text, "[subject]\na cat | a cat | un chat\na dog | a dog | un chien\n"
                 "[sound]\nwind blowing | wind | le vent\nrain | rain | la pluie\n"
                 "[soundscape]\na cat | wind blowing -6\na dog | %s\n", other[i]);
        if (!begin(&f, text)) continue;
        const Pair pair = pair_of(&f, NULL, &s, PICTURE_SOUND);
        CHECK(i ? pair.among > 1900 && pair.among < 2200 : pair.among == 0 && !pair.agree);
        CHECK(pair.percentile == 0 || (i && pair.percentile == 100));
        fusion_close(&f);
    }
    sound_free(&s);
}

/* The rank of texts that belong to nothing is any with equal chance: a fifth of them above 80. */
TEST(wrong_texts_stand_anywhere)
{
    Fusion f;
    int above = 0, below = 0, n = 0;
    if (!begin(&f, NULL)) return;
    Sound s = chirp();
    for (int i = 0; i < f.phrases.bank[SUBJECT].count; i++)
        for (int k = 0; k < f.phrases.bank[PLACE].count; k += 3, n++) {
            char text[128];
            snprintf(text, sizeof text, "%s %s.", f.phrases.bank[SUBJECT].at[i].words[ENGLISH],
                     f.phrases.bank[PLACE].at[k].words[ENGLISH]);
            const Pair pair = pair_of(&f, text, &s, TEXT_PICTURE);
            above += pair.percentile >= 80;
            below += pair.percentile < 20;
        }
    CHECK(n == 96 && above > n / 20 && above < n / 2 && below > n / 20 && below < n / 2);
    sound_free(&s);
    fusion_close(&f);
}

TEST(check_says_what_is_missing)
{
    Error e = { 0 };
    Fusion f;
    Verdict v;
    Sound s = chirp();
    if (!fusion_open(&f, CLIP, NULL, NULL, NULL, &e)) return;
    CHECK(!check_agree(&f, "a", NULL, NULL, 90, &v, &e));
    CHECK_STR(e.text, "check: found one thing, want two or three to compare");
    e = (Error){ 0 };
    CHECK(!check_agree(&f, "a", NULL, &s, 90, &v, &e));
    CHECK_STR(e.text, "check: no CLAP model is open, want one for the sound");
    e = (Error){ 0 };
    CHECK(!fusion_see_phrases(&f, &e));
    CHECK_STR(e.text, "phrases: no phrases for pictures, want lines in a section [subject]");
    sound_free(&s);
    fusion_close(&f);
}

TEST(the_language_of_a_text)
{
    CHECK(text_language("Une cabane chaleureuse dans les bois sous la neige.") == FRENCH);
    CHECK(text_language("Un march\xc3\xa9 anim\xc3\xa9 avec des conversations.") == FRENCH);
    CHECK(text_language("L'\xc3\xa9glise sur la colline") == FRENCH);
    CHECK(text_language("A serene lake surrounded by snow-capped mountains at sunrise") == ENGLISH);
    CHECK(text_language("THE CAT ON A HILL") == ENGLISH);
    CHECK(text_language("") == ENGLISH);
    CHECK(text_language("supercalifragilisticexpialidocious la la") == FRENCH);
}
