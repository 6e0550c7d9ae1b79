/* story.h - scenes in time: the script, the timeline, film, captions and page.
 *
 *     title: A day at the lake
 *     lang: en
 *
 *     # one paragraph a scene; all but `scene:` may be left out
 *     scene: a serene lake at sunrise
 *     sound: birds and small waves
 *     seconds: 5
 *     seed: 7
 *     narration: voice/morning.wav
 *     says: The lake wakes before we do.
 *
 *     scene: a market in the rain
 *     sound: none
 *
 * A script is UTF-8, lines of `key: value`, scenes apart by empty lines; a line that begins with #
 * is a comment.  Without `sound:` the text of the scene is what it sounds like; `none` is silence.
 * narration: a WAV file below the script's folder; says: its words, for those who cannot hear them.
 *
 * Time.  25 pictures a second; the bounds of scenes are whole pictures.  A scene lasts `seconds`,
 * or 4, or as long as its narration needs, whichever of the two is longer.  Scenes overlap by the
 * crossfade: at most half of either of them.  The narration begins where the fade before it ends
 * and must end before the next begins: a scene whose `seconds` are too short for that is refused,
 * with the number that does.  Captions change in the middle of a fade.
 *
 * Sound.  Crossfades have equal power.  Under a narration the rest sinks by 12 dB, in ramps of
 * 0.3 s outside of it.  The two ends of the story fade in 20 ms.  Where the sum is beyond full
 * scale the whole story becomes quieter.
 *
 * Pictures crossfade linearly, in 8-bit integers.  All the same bytes on every machine. */
#ifndef STORY_H
#define STORY_H
#include "avi.h"
#include "base.h"
#include "io.h"
#include "picture.h"
#include "wav.h"

/* ---- the script ------------------------------------------------------------------------------ */

enum { SCENES_MOST = 100, LINE_MOST = 4000, SCENE_SECONDS_MOST = 600 };

typedef struct {
    char *text, *sound, *narration, *says; /* NULL: not given; narration: as written */
    double seconds;                        /* 0: not given */
    uint64_t seed; bool seeded;
    int line;                              /* of `scene:`, for messages */
} Scene;

typedef struct {
    char *path, *title, *lang;             /* lang: "en" or "fr"; title: NULL if not given */
    Scene *scenes; int count;
} Script;

/* Mistakes are told as "PATH:LINE: what: found X, want Y". */
bool script_parse(Script *s, const char *bytes, size_t n, const char *where, Error *e);
bool script_read(Script *s, const char *path, Error *e);
void script_free(Script *s);
/* What a scene should sound like; NULL: silence. */
const char *scene_sound(const Scene *s);

/* ---- the timeline ---------------------------------------------------------------------------- */

/* A scene's place, in pictures: its first one, how many, how many of them it shares with the scene
 * before, and where its narration begins. */
typedef struct { uint64_t begin, length, fade, voice; } Span;

typedef struct { Span *spans; int count; uint64_t frames; } Timeline;

/* voices: the pictures that each scene's narration lasts, 0 where there is none. */
bool timeline_make(Timeline *t, const Script *s, const uint64_t *voices, double crossfade,
                   Error *e);
void timeline_free(Timeline *t);
/* Milliseconds at which the captions of scene i begin; those of scene `count`: the end. */
uint64_t timeline_cue(const Timeline *t, int i);
/* How long a narration lasts, in whole pictures. */
uint64_t voice_frames(const Sound *voice);

/* ---- the story ------------------------------------------------------------------------------- */

/* What was made of a scene. */
typedef struct {
    Picture picture;                       /* all of one size */
    Sound sound;                           /* one channel, span.length pictures long */
    Sound voice;                           /* the same rate, one channel; frames 0: none */
    Output *png, *wav;                     /* their files, in memory */
    char *seen, *heard;                    /* what CLIP sees and CLAP hears in them, or NULL */
} Part;

typedef struct {
    Script script;
    Timeline time;
    Part *parts;                           /* [script.count] */
    int rate;
    Sound track;                           /* all that is heard: story_mix */
} Story;

bool story_mix(Story *s, Error *e);
/* Milliseconds at which narration i begins and has ended; false where there is none. */
bool story_says(const Story *s, int i, uint64_t *from, uint64_t *to);
/* One picture of the film, [h][w][3]. */
void story_picture(const Story *s, uint64_t frame, uint8_t *out);

/* story.avi, story.vtt (the text of a scene as description of its picture, what is heard in
 * brackets, the words of narrations), story.html. */
bool story_film(const Story *s, Output *o, Error *e);
bool story_captions(const Story *s, Output *o, Error *e);
/* One page that needs no other file and no network: pictures and sounds are inside (their bytes
 * times 4/3, the sound of the story twice: whole, and cut into scenes).  It plays with one clock,
 * by buttons and keys; without JavaScript it is the list of scenes. */
bool story_page(const Story *s, Output *o, Error *e);
void part_free(Part *p);
void story_free(Story *s);

#endif
