/* main.c - the only main(): the table of verbs, the table of options, signals, exit codes.
 * Read in this order: the two tables, help, what verbs share, signals, main. */
#include "command.h"
#include "fusion.h"
#include "opencl.h"
#include "original.h"
#include "sampler.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the verbs ------------------------------------------------------------------------------- */

enum {
    IMAGE = 1, EMBED = 2, SCORE = 4, CLASSIFY = 8, TOKENIZE = 16, INSPECT = 32, COMPARE = 64,
    VERIFY = 128, BENCH = 256, SELFTEST = 512, VERSION_ = 1024, HELP = 2048, AUDIO = 4096,
    MAKES = IMAGE | AUDIO,
    READS = EMBED | SCORE | CLASSIFY,
    CAPTION = 1 << 21, SOUNDSCAPE = 1 << 22, CHECK = 1 << 23, SOUNDS = AUDIO | SOUNDSCAPE,
    JOINS = CAPTION | SOUNDSCAPE | CHECK,
    STORY = 1 << 24,
    INDEX = 1 << 13, SEARCH = 1 << 14, ORGANIZE = 1 << 15, DUPLICATES = 1 << 16,
    FINDS = INDEX | SEARCH | ORGANIZE | DUPLICATES,
    COMPUTES = FINDS | JOINS | MAKES | STORY | READS | VERIFY | BENCH | SELFTEST,
    ALL = COMPUTES | TOKENIZE | INSPECT | COMPARE | VERSION_
};

typedef struct {
    const char *name; unsigned bit; Verb *run;
    int operands_least, operands_most;
    const char *usage, *summary, *more;
} Command;

static const Command commands[] = {
    { "image", IMAGE, verb_image, 0, 0, "-p TEXT [-o FILE]", "text to picture",
      "  fusion image -m DIR -p \"a serene lake at sunrise\" --seed 7 -o lake.png\n"
      "  fusion image -m DIR -p \"an oil painting\" -i photo.jpg --strength 0.6 -o new.png\n" },
    { "audio", AUDIO, verb_audio, 0, 0, "-p TEXT [-o FILE]", "text to sound",
      "  fusion audio -m DIR -p \"a dog barks in the rain\" --seconds 10 --seed 7 -o dog.wav\n"
      "  fusion audio -m DIR -p \"a piano\" -i guitar.wav --strength 0.5 -o new.wav\n"
      "  The length is exact: seconds times the rate, rounded.  What changes the sound comes in\n"
      "  this order: --loop, the fades, then --gain-db, --peak or --rms.  Candidates are ranked\n"
      "  as they would be written, by the cosine of CLAP's embeddings of text and sound.\n" },
    { "story", STORY, verb_story, 1, 1, "SCRIPT -o DIR", "scenes to pictures and sounds in time",
      "  fusion story lake.txt -m DIR -o lake --seed 7\n"
      "  SCRIPT has a paragraph a scene, of the lines scene: TEXT, sound: TEXT (else the scene's\n"
      "  text; none: silence), seconds: X (else 4, or what the narration needs), seed: N (else\n"
      "  --seed plus the scene's place), narration: FILE.wav, says: ITS WORDS; before the first\n"
      "  title: TEXT and lang: en or fr.  Writes scene-N.png, scene-N.wav, story.avi, story.vtt,\n"
      "  story.html; prints scene, start, seconds, seed, text.\n" },
    { "soundscape", SOUNDSCAPE, verb_soundscape, 1, 1, "PICTURE [-o FILE]", "picture to sound",
      "  fusion soundscape lake.png -m DIR --seconds 10 --loop 1 --seed 7 -o lake.wav --lang fr\n"
      "  CLIP describes the picture by its phrases, the bank says which sounds belong to them,\n"
      "  AudioLDM makes each, with its largest sample at its level; they are added, then come\n"
      "  --loop, the fades, and a peak of -1 dB or what --gain-db, --peak or --rms say.  Prints\n"
      "  what the picture shows, what is heard, and why.\n" },
    { "caption", CAPTION, verb_caption, 1, 1 << 20, "FILE...",
      "say what a picture shows, a sound lets hear",
      "  fusion caption -m DIR lake.png market.wav --lang fr\n"
      "  Prints file, sentence; with --top N then the best N phrases of each slot: file, slot,\n"
      "  words, probability in its slot, cosine; of a sound: how many standard deviations a\n"
      "  phrase stands above the mean of all, cosine.\n" },
    { "check", CHECK, verb_check, 0, 0, "[-p TEXT] [--image FILE] [--audio FILE]",
      "do text, picture and sound agree?",
      "  fusion check -m DIR -p \"a dog in the rain\" --image dog.png --audio dog.wav\n"
      "  Prints each pair, its cosine, its percentile among pairs that do not belong together,\n"
      "  the answer, then a verdict in words; exit 0: they agree; 3: not.\n" },
    { "embed", EMBED, verb_embed, 0, 1 << 20, "[-p TEXT]... [FILE]... [-o FILE]",
      "texts, pictures and sounds to vectors",
      "  fusion embed -m DIR -p \"a cat\" -p \"a dog\" cat.jpg -o vectors.safetensors\n"
      "  Tensors text_embeds and image_embeds [n,d], float32, not normalised; audio_embeds of\n"
      "  sounds, with a CLAP model.\n" },
    { "score", SCORE, verb_score, 1, 1 << 20, "-p TEXT [-p TEXT]... FILE...",
      "how well texts and pictures or sounds agree",
      "  fusion score -m DIR -p \"a cat\" -p \"a dog\" cat.jpg\n"
      "  Prints text, file, cosine, logit, probability (softmax over the texts of one file).\n" },
    { "classify", CLASSIFY, verb_classify, 1, 1 << 20, "FILE... --labels A,B,C",
      "name what a picture shows, a sound is",
      "  fusion classify -m DIR cat.jpg --labels cat,dog --template \"a photo of a {}\" --top 1\n"
      "  Prints file, label, probability, cosine, best first.\n" },
    { "index", INDEX, verb_index, 1, 1 << 20, "DIR -o INDEX", "the pictures and sounds of a folder",
      "  fusion index photos -m DIR -o photos.safetensors\n"
      "  fusion index photos -m DIR --shard 2/4 -o 2.safetensors\n"
      "  fusion index --merge 1.safetensors 2.safetensors ... -o photos.safetensors\n"
      "  Pictures (PNG, JPEG, PNM) by CLIP, sounds (WAV) by CLAP, at any depth; links to folders\n"
      "  are not followed.  Run again, it reads only what is new or changed by size or time, and\n"
      "  embeds only what has new bytes.  Saved every 256 files or 30 s: run it again after an\n"
      "  interruption.  What is broken or cannot be read is told and skipped.  A shard holds\n"
      "  every N-th file by a hash of its path; all N merged are the bytes of the whole index.\n"
      "  Prints how many pictures, sounds, added, changed, renamed, deleted, unchanged and\n"
      "  skipped files.\n" },
    { "search", SEARCH, verb_search, 1, 1, "INDEX [-p TEXT] [-i FILE] [--minus TEXT]",
      "find by text, picture, sound, or their sum",
      "  fusion search photos.safetensors -m DIR -p \"a dog on a beach\" --minus sunset --top 5\n"
      "  fusion search photos.safetensors -m DIR -i dog.jpg -p \"at night::0.5\"\n"
      "  Prints score, path (below the folder of the index), best first, equal ones by path.  The\n"
      "  query is the sum of its terms, each of length 1, times the number behind ::, or 1;\n"
      "  --minus takes away.  The score is its cosine.  Texts find pictures by CLIP and sounds by\n"
      "  CLAP, whose scores have scales of their own; --clip DIR or --clap DIR alone asks one.\n" },
    { "organize", ORGANIZE, verb_organize, 1, 1, "DIR --labels A,B,C",
      "files into a folder a label",
      "  fusion organize photos -m DIR --labels cat,dog,boat --template \"a photo of a {}\"\n"
      "  fusion organize photos -m DIR --labels cat,dog,boat --apply\n"
      "  fusion organize photos --undo photos/organize-1.log\n"
      "  Prints from, to, and moves nothing; --apply moves, never over a file (a second name gets\n"
      "  -2), and writes a log into DIR that --undo takes back.  What lies below its label's\n"
      "  folder stays there, and so do symbolic links.\n" },
    { "duplicates", DUPLICATES, verb_duplicates, 1, 1, "DIR",
      "pairs of files that are nearly equal",
      "  fusion duplicates photos -m DIR --threshold 0.95\n"
      "  Prints cosine, path, path, and `same bytes` where they are: those first, then the\n"
      "  nearest.\n" },
    { "tokenize", TOKENIZE, verb_tokenize, 0, 0, "-p TEXT", "text to token ids",
      "  fusion tokenize -m DIR -p \"a photo of a cat\" -v\n" },
    { "inspect", INSPECT, verb_inspect, 1, 1 << 20, "FILE...",
      "what a model, tensors, picture or sound holds",
      "  fusion inspect model.safetensors       name, dtype, shape, offsets; metadata; totals\n"
      "  fusion inspect DIR                     bound, ignored and missing tensors of a model\n"
      "  fusion inspect DIR --stats             each tensor: least, greatest, mean, deviation\n"
      "  fusion inspect DIR --card              its model card: on what it learnt, its licence\n"
      "  fusion inspect --diff A B              what a fine-tuning changed, most first\n"
      "  fusion inspect lake.png dog.wav        format, size, how to make it again\n" },
    { "compare", COMPARE, verb_compare, 2, 2, "A B", "two tensors files or traces, name by name",
      "  fusion compare ours.safetensors theirs.safetensors --tolerance 1e-4\n"
      "  Prints name, error (largest |a - b| over largest |b|); exit 3 if one is beyond.\n" },
    { "verify", VERIFY, verb_verify, 1, 1, "FILE [-m MODEL]",
      "make a picture or sound again, compare the bytes",
      "  fusion verify lake.png -m DIR          exit 0: the same bytes; 3: not\n" },
    { "bench", BENCH, verb_bench, 0, 0, "[-m MODEL]",
      "this machine, the kernels, a model, measured", "  fusion bench -m DIR --json\n" },
    { "selftest", SELFTEST, verb_selftest, 0, 0, "",
      "do the shipped weights give the recorded hashes here?", "" },
    { "version", VERSION_, verb_version, 0, 0, "[--json]", "version and instruction sets", "" },
    { "help", HELP, verb_help, 0, 1, "[VERB]", "this, or the options of a verb", "" },
};

/* ---- the options ----------------------------------------------------------------------------- */

static const char *devices(void)
{
    return opencl_built() ? "cpu, opencl, opencl:N" : "cpu, opencl by make OPENCL=1";
}
static const char *noise_names(void) { return "torch, cuda, numpy"; }
static const char *on_off(void) { return "on, off"; }

#define A(field) offsetof(Args, field)

const Opt option_table[] = {
    { "model", 'm', OPT_TEXT, A(model), .value = "PATH", .verbs = (COMPUTES & ~SELFTEST) | TOKENIZE,
      .help = "bundle, model folder or checkpoint [$FUSION_MODEL, weights/tiny]" },
    { "clip", 0, OPT_TEXT, A(clip), .value = "PATH",
      .verbs = IMAGE | JOINS | STORY | READS | FINDS | TOKENIZE | BENCH,
      .help = "the CLIP model from elsewhere" },
    { "sd", 0, OPT_TEXT, A(sd), .value = "PATH", .verbs = IMAGE | STORY | VERIFY | TOKENIZE | BENCH,
      .help = "the Stable Diffusion model from elsewhere" },
    { "vae", 0, OPT_TEXT, A(vae), .value = "DIR", .verbs = IMAGE | STORY | VERIFY,
      .help = "another VAE (AutoencoderKL, or TAESD: AutoencoderTiny) in the model's place" },
    { "audioldm", 0, OPT_TEXT, A(audioldm), .value = "PATH",
      .verbs = SOUNDS | STORY | VERIFY | TOKENIZE | BENCH,
      .help = "the AudioLDM model from elsewhere" },
    { "clap", 0, OPT_TEXT, A(clap), .value = "PATH",
      .verbs = SOUNDS | CAPTION | CHECK | STORY | READS | FINDS | TOKENIZE | BENCH,
      .help = "the CLAP model from elsewhere" },
    { "tokenizer", 0, OPT_TEXT, A(tokenizer), .value = "PATH",
      .verbs = MAKES | JOINS | READS | FINDS | VERIFY | TOKENIZE,
      .help = "folder with vocab.json + merges.txt, or tokenizer.json" },

    { "prompt", 'p', OPT_TEXT, A(prompt), .value = "TEXT",
      .verbs = MAKES | CHECK | TOKENIZE, .echo = true,
      .help = "the text" },
    { "prompt", 'p', OPT_TEXTS, A(prompts), .value = "TEXT", .verbs = EMBED | SCORE | SEARCH,
      .help = "a text; may be given again" },
    { "input", 'i', OPT_TEXTS, A(inputs), .value = "FILE", .verbs = SEARCH,
      .help = "a picture or sound; may be given again" },
    { "minus", 0, OPT_TEXTS, A(minus), .value = "TEXT", .verbs = SEARCH,
      .help = "a text to take away; may be given again" },
    { "negative-prompt", 'n', OPT_TEXT, A(negative), .value = "TEXT",
      .verbs = MAKES | SOUNDSCAPE | STORY,
      .echo = true,
      .help = "what should not be there" },
    { "weighting", 0, OPT_TEXT, A(weighting), .names = on_off, .standard = "off", .value = "NAME",
      .verbs = IMAGE, .echo = true, .if_given = true,
      .help = "on: (word:1.3) and [word] weigh, BREAK and long texts make chunks; one of" },
    { "prompt-file", 0, OPT_TEXT, A(prompt_file), .value = "FILE", .verbs = IMAGE,
      .help = "a prompt a line, a picture each, all with one seed; %d in -o counts them" },
    { "style", 0, OPT_TEXT, A(style), .value = "NAME", .verbs = IMAGE,
      .help = "words around the prompt, from a list of styles" },
    { "styles", 0, OPT_TEXT, A(styles), .value = "FILE", .needs = "style", .verbs = IMAGE,
      .help = "lines of name, prompt with {prompt}, negative; tabs between [weights/styles.txt]" },
    { "output", 'o', OPT_TEXT, A(output), .value = "FILE", .verbs = IMAGE,
      .help = ".png or .ppm, %d counts a batch, - is stdout [fusion.png]" },
    { "output", 'o', OPT_TEXT, A(output), .value = "FILE", .verbs = SOUNDS,
      .help = ".wav, %d counts a batch, - is stdout [fusion.wav]" },
    { "output", 'o', OPT_TEXT, A(output), .value = "FILE", .verbs = EMBED,
      .help = ".safetensors, .npy or .json [print]" },
    { "output", 'o', OPT_TEXT, A(output), .value = "INDEX", .verbs = INDEX,
      .help = "the index, a safetensors file; brought up to date where it is there" },
    { "output", 'o', OPT_TEXT, A(output), .value = "DIR", .verbs = STORY,
      .help = "the folder of all that is written; made if missing" },
    { "seconds", 0, OPT_NUMBER, A(length), .low = 0, .high = 3600, .value = "X", .verbs = SOUNDS,
      .echo = true, .help = "how long, to the sample [as -i, the model's]" },
    { "width", 'W', OPT_WHOLE, A(width), .low = 1, .high = 8192, .value = "N",
      .verbs = IMAGE | STORY, .echo = true, .help = "pixels, a multiple of 8 [the model's]" },
    { "height", 'H', OPT_WHOLE, A(height), .low = 1, .high = 8192, .value = "N",
      .verbs = IMAGE | STORY, .echo = true, .help = "pixels, a multiple of 8 [the model's]" },
    { "steps", 0, OPT_WHOLE, A(steps), .low = 1, .high = 1000, .standard = "50", .value = "N",
      .verbs = IMAGE | STORY, .echo = true, .help = "steps of the sampler, 1..1000" },
    { "steps", 0, OPT_WHOLE, A(steps), .low = 1, .high = 1000, .standard = "10", .value = "N",
      .verbs = SOUNDS, .echo = true, .help = "steps of the sampler, 1..1000" },
    { "cfg-scale", 0, OPT_NUMBER, A(guidance), .low = 0, .high = 1e30, .standard = "7.5",
      .value = "X", .verbs = IMAGE | STORY, .echo = true, .help = "guidance; 1 and below: off" },
    { "cfg-scale", 0, OPT_NUMBER, A(guidance), .low = 0, .high = 1e30, .standard = "2.5",
      .value = "X", .verbs = SOUNDS, .echo = true, .help = "guidance; 1 and below: off" },
    { "seed", 0, OPT_SEED, A(seed), .value = "N", .verbs = MAKES | SOUNDSCAPE | STORY, .echo = true,
      .help = "0..2^64-1 [random, printed]" },
    { "batch-count", 'b', OPT_WHOLE, A(batch), .low = 1, .high = 100000, .standard = "1",
      .value = "N", .verbs = MAKES, .help = "how many, with seeds N, N+1, ..." },
    { "candidates", 0, OPT_WHOLE, A(candidates), .low = 1, .high = 100000, .standard = "1",
      .value = "N", .verbs = IMAGE, .help = "the best of N, ranked by CLIP; seeds as of a batch" },
    { "candidates", 0, OPT_WHOLE, A(candidates), .low = 1, .high = 100000, .standard = "1",
      .value = "N", .verbs = SOUNDS, .help = "the best of N, ranked by CLAP; seeds as of a batch" },
    { "layer", 0, OPT_TEXTS, A(layers), .value = "\"DB TEXT\"", .verbs = SOUNDS, .echo = true,
      .help = "one of the sounds to be added; may be given again" },
    { "sampling-method", 0, OPT_TEXT, A(method), .names = sampler_methods, .value = "NAME",
      .verbs = MAKES | SOUNDSCAPE | STORY, .echo = true, .help = "one of" },
    { "schedule", 0, OPT_TEXT, A(schedule), .names = sampler_schedules, .value = "NAME",
      .verbs = MAKES | SOUNDSCAPE | STORY, .echo = true, .help = "one of" },
    { "timesteps", 0, OPT_TEXT, A(timesteps), .value = "T,T,...", .verbs = IMAGE, .echo = true,
      .help = "the steps themselves, falling, in place of --steps and --schedule" },
    { "each-steps", 0, OPT_TEXT, A(each_steps), .value = "N,N,...", .verbs = IMAGE,
      .help = "a picture with each number of steps; rows of a contact sheet" },
    { "each-guidance", 0, OPT_TEXT, A(each_guidance), .value = "X,X,...", .verbs = IMAGE,
      .help = "a picture with each --cfg-scale; columns of a contact sheet" },
    { "sigmas", 0, OPT_TEXT, A(sigmas), .value = "S,S,...", .verbs = IMAGE, .echo = true,
      .help = "the same by noise over signal; the last one, mostly 0, is where it ends" },
    { "eta", 0, OPT_NUMBER, A(eta), .low = 0, .high = 1, .standard = "0", .value = "X",
      .verbs = MAKES | SOUNDSCAPE | STORY, .echo = true,
      .help = "noise of ddim, gamma of tcd, 0..1" },
    { "guidance-rescale", 0, OPT_NUMBER, A(rescale), .low = 0, .high = 1, .standard = "0",
      .value = "X", .verbs = IMAGE, .echo = true, .if_given = true,
      .help = "how far guidance is brought back to the spread of the prediction, 0..1" },
    { "noise-size", 0, OPT_TEXT, A(noise_size), .value = "WxH", .verbs = IMAGE, .echo = true,
      .help = "the middle is the noise of a picture of that size: its composition at another" },
    { "rng", 0, OPT_TEXT, A(rng), .names = noise_names, .value = "NAME", .verbs = IMAGE,
      .echo = true, .standard = "torch",
      .if_given = true, .help = "whose random numbers a seed means, one of" },
    { "clip-skip", 0, OPT_WHOLE, A(clip_skip), .low = 0, .high = 100, .standard = "0", .value = "N",
      .verbs = IMAGE | STORY, .echo = true,
      .help = "last layers of the text encoder to leave out" },
    { "init-img", 'i', OPT_TEXT, A(init), .value = "FILE", .verbs = IMAGE,
      .help = "picture to start from" },
    { "init-audio", 'i', OPT_TEXT, A(init), .value = "FILE", .verbs = AUDIO,
      .help = "sound to start from" },
    { "init-img", 'i', OPT_TEXT, A(init), .value = "FILE", .verbs = VERIFY,
      .help = "the picture or sound it was made from" },
    { "strength", 0, OPT_NUMBER, A(strength), .low = 0, .high = 1, .standard = "0.75", .value = "X",
      .needs = "init-img", .verbs = IMAGE, .echo = true,
      .help = "how far from that picture, 0..1" },
    { "strength", 0, OPT_NUMBER, A(strength), .low = 0, .high = 1, .standard = "0.75", .value = "X",
      .needs = "init-audio", .verbs = AUDIO, .echo = true,
      .help = "how far from that sound, 0..1" },
    { "mask", 0, OPT_TEXT, A(mask), .value = "FILE", .needs = "init-img", .verbs = IMAGE | VERIFY,
      .help = "repaint what is white in it; the rest keeps the picture's own pixels" },
    { "feather", 0, OPT_WHOLE, A(feather), .low = 0, .high = 1024, .standard = "0", .value = "N",
      .needs = "mask", .verbs = IMAGE, .echo = true, .if_given = true,
      .help = "pixels around the white in which new fades into old" },
    { "variation-seed", 0, OPT_SEED, A(variation_seed), .value = "N",
      .needs = "variation-strength", .verbs = IMAGE, .echo = true, .if_given = true,
      .help = "turn the seed's noise to that of seed N; a batch counts N, not the seed" },
    { "variation-strength", 0, OPT_NUMBER, A(variation), .low = 0, .high = 1, .value = "X",
      .needs = "variation-seed", .verbs = IMAGE, .echo = true, .if_given = true,
      .help = "how far, 0: the seed's own, 1: that seed's" },
    { "tiling", 0, OPT_FLAG, A(tiling), .verbs = IMAGE, .echo = true,
      .help = "edges that fit one another: the picture can be laid side by side" },
    { "preview", 0, OPT_TEXT, A(preview), .value = "FILE", .verbs = IMAGE,
      .help = "a picture after every step, .png or .ppm: what the latents promise" },
    { "preview-vae", 0, OPT_TEXT, A(preview_vae), .value = "DIR", .verbs = IMAGE,
      .help = "decode previews and film with this VAE (TAESD) [a linear map]" },
    { "film", 0, OPT_TEXT, A(film), .value = "FILE", .verbs = IMAGE,
      .help = "those side by side, the final one last, .png" },
    { "heatmap", 0, OPT_TEXT, A(heatmap), .value = "DIR", .verbs = IMAGE,
      .help = "a grey picture a word of where it was looked at, white the most; made if missing" },
    { "contact-sheet", 0, OPT_TEXT, A(sheet), .value = "FILE", .verbs = IMAGE,
      .help = "all pictures of a batch on one, .png" },
    { "lora", 0, OPT_TEXTS, A(loras), .value = "FILE:WEIGHT",
      .verbs = IMAGE | STORY | VERIFY,
      .help = "a LoRA, added to the weights as they are read; repeatable [weight 1]" },
    { "embedding", 0, OPT_TEXTS, A(embeddings), .value = "FILE",
      .verbs = IMAGE | STORY | VERIFY,
      .help = "a new word of prompts (textual inversion); repeatable" },
    { "latents", 0, OPT_TEXT, A(latents), .value = "FILE", .verbs = IMAGE | VERIFY,
      .help = "tensor latents [1,C,H/8,W/8] in place of the noise" },
    { "latents", 0, OPT_TEXT, A(latents), .value = "FILE", .verbs = AUDIO,
      .help = "tensor latents [1,C,frames/4,mels/4] in place of the noise" },
    { "save-latents", 0, OPT_TEXT, A(save_latents), .value = "FILE", .verbs = MAKES,
      .help = "write the final latents" },
    { "prompt-embeds", 0, OPT_TEXT, A(prompt_embeds), .value = "FILE", .verbs = MAKES | VERIFY,
      .help = "tensors prompt_embeds, negative_prompt_embeds" },

    { "crossfade", 0, OPT_NUMBER, A(crossfade), .low = 0, .high = 60, .standard = "0.5",
      .value = "X", .verbs = STORY,
      .help = "seconds that scenes share, at most half of either" },
    { "sound-steps", 0, OPT_WHOLE, A(sound_steps), .low = 1, .high = 1000, .standard = "10",
      .value = "N", .verbs = STORY, .help = "steps of the sampler of sounds" },
    { "sound-cfg-scale", 0, OPT_NUMBER, A(sound_guidance), .low = 0, .high = 1e30,
      .standard = "2.5", .value = "X", .verbs = STORY, .help = "guidance of sounds" },
    { "verify", 0, OPT_WHOLE, A(tries), .low = 0, .high = 1000, .standard = "0", .value = "N",
      .verbs = STORY,
      .help = "make what CLIP or CLAP does not recognise again, with the next seed, N times" },
    { "describe", 0, OPT_FLAG, A(describe), .verbs = STORY,
      .help = "in page and captions what CLIP sees and CLAP hears, not what was asked for" },

    { "loop", 0, OPT_NUMBER, A(loop), .low = 0, .high = 3600, .standard = "0", .value = "S",
      .verbs = SOUNDS, .echo = true, .if_given = true,
      .help = "seconds of end that run into the beginning" },
    { "fade-in", 0, OPT_NUMBER, A(fade_in), .low = 0, .high = 3600, .standard = "0", .value = "S",
      .verbs = SOUNDS, .echo = true, .if_given = true, .help = "seconds from silence" },
    { "fade-out", 0, OPT_NUMBER, A(fade_out), .low = 0, .high = 3600, .standard = "0", .value = "S",
      .verbs = SOUNDS, .echo = true, .if_given = true, .help = "seconds into silence" },
    { "gain-db", 0, OPT_NUMBER, A(gain_db), .low = -200, .high = 200, .standard = "0",
      .value = "X", .verbs = SOUNDS, .echo = true, .if_given = true,
      .help = "louder by X dB" },
    { "peak", 0, OPT_NUMBER, A(peak), .low = -200, .high = 200, .value = "DB", .verbs = SOUNDS,
      .echo = true, .if_given = true, .help = "the largest sample, in dB of full scale" },
    { "rms", 0, OPT_NUMBER, A(rms), .low = -200, .high = 200, .value = "DB", .verbs = SOUNDS,
      .echo = true, .if_given = true, .help = "the root of the mean square, in dB of full scale" },
    { "float", 0, OPT_FLAG, A(as_float), .verbs = SOUNDS, .echo = true,
      .help = "32-bit float samples, not 16-bit integers" },
    { "spectrogram", 0, OPT_TEXT, A(spectrogram), .value = "FILE", .verbs = SOUNDS,
      .help = "mel picture of the sound, .png" },

    { "normalize", 0, OPT_FLAG, A(normalize), .verbs = EMBED,
      .help = "divide each vector by its length" },
    { "merge", 0, OPT_FLAG, A(merge), .verbs = INDEX,
      .help = "the operands are indexes: make one" },
    { "shard", 0, OPT_TEXT, A(shard), .value = "I/N", .verbs = INDEX,
      .help = "only the I-th of N parts, for N runs at once" },
    { "index", 0, OPT_TEXT, A(index), .value = "INDEX", .verbs = ORGANIZE | DUPLICATES,
      .help = "an index of DIR, brought up to date first [in memory]" },
    { "apply", 0, OPT_FLAG, A(apply), .verbs = ORGANIZE, .help = "make the moves" },
    { "undo", 0, OPT_TEXT, A(undo), .value = "LOG", .verbs = ORGANIZE,
      .help = "take the moves of that log back" },
    { "labels", 0, OPT_TEXT, A(labels), .value = "A,B,C", .verbs = CLASSIFY | ORGANIZE,
      .help = "the names to choose from" },
    { "labels-file", 0, OPT_TEXT, A(labels_file), .value = "FILE",
      .verbs = CLASSIFY | ORGANIZE,
      .help = "the same, one a line" },
    { "template", 0, OPT_TEXTS, A(templates), .value = "TEXT",
      .verbs = CLASSIFY | ORGANIZE,
      .help = "around a label; may be given again, averaged [{}]" },
    { "top", 0, OPT_WHOLE, A(top), .low = 1, .high = 1000000, .value = "N", .verbs = CLASSIFY,
      .help = "only the best N [all]" },
    { "top", 0, OPT_WHOLE, A(top), .low = 1, .high = 1000000, .standard = "10", .value = "N",
      .verbs = SEARCH, .help = "only the best N" },
    { "top", 0, OPT_WHOLE, A(top), .low = 1, .high = 1000000, .value = "N", .verbs = CAPTION,
      .help = "the best N phrases of each slot too" },
    { "threshold", 0, OPT_NUMBER, A(threshold), .low = 0, .high = 1, .standard = "0", .value = "X",
      .verbs = CLASSIFY, .help = "answer none where no probability reaches X" },
    { "threshold", 0, OPT_NUMBER, A(threshold), .low = 0, .high = 1, .standard = "0", .value = "X",
      .verbs = ORGANIZE, .help = "leave a file where no probability reaches X" },
    { "threshold", 0, OPT_NUMBER, A(threshold), .low = 0, .high = 1, .standard = "0.97",
      .value = "X", .verbs = DUPLICATES, .help = "the cosine from which files are nearly equal" },
    { "threshold", 0, OPT_NUMBER, A(threshold), .low = 0, .high = 100, .standard = "80",
      .value = "X", .verbs = CHECK | STORY,
      .help = "the percentile from which a pair agrees, or several do on the mean" },
    { "image", 0, OPT_TEXT, A(image), .value = "FILE", .verbs = CHECK, .help = "the picture" },
    { "audio", 0, OPT_TEXT, A(audio), .value = "FILE", .verbs = CHECK, .help = "the sound" },
    { "sounds", 0, OPT_WHOLE, A(sounds), .low = 1, .high = LAYERS_MOST, .standard = "4",
      .value = "N", .verbs = SOUNDSCAPE, .help = "how many at most are added" },
    { "phrases", 0, OPT_TEXTS, A(phrases), .value = "PATH", .verbs = JOINS | STORY,
      .help = "a file adds phrases, a folder takes the place of the built-in ones" },
    { "lang", 0, OPT_TEXT, A(lang), .names = languages, .standard = "en", .value = "NAME",
      .verbs = JOINS, .help = "language of what is printed, one of" },
    { "sha256", 0, OPT_FLAG, A(sha256), .verbs = INSPECT, .help = "the sum of each file" },
    { "stats", 0, OPT_FLAG, A(stats), .verbs = INSPECT, .help = "what each tensor's values are" },
    { "diff", 0, OPT_FLAG, A(diff), .verbs = INSPECT,
      .help = "how two files' tensors differ, most first" },
    { "card", 0, OPT_FLAG, A(card), .verbs = INSPECT, .help = "the model card of a folder" },
    { "tolerance", 0, OPT_NUMBER, A(tolerance), .low = 0, .high = 1e30, .standard = "1e-4",
      .value = "X", .verbs = COMPARE, .help = "largest relative error that is still equal" },

    { "threads", 't', OPT_WHOLE, A(threads), .low = 1, .high = 1024, .value = "N",
      .verbs = COMPUTES, .help = "1..1024 [all cores]" },
    { "isa", 0, OPT_TEXT, A(isa), .names = machine_isas, .value = "NAME", .verbs = COMPUTES,
      .help = "instruction set, the best of" },
    { "device", 0, OPT_TEXT, A(device), .names = devices, .standard = "cpu", .value = "NAME",
      .verbs = COMPUTES, .help = "where to compute" },
    { "plan", 0, OPT_FLAG, A(plan), .verbs = MAKES | JOINS | STORY | READS | FINDS,
      .help = "print memory and arithmetic of each stage, and stop" },
    { "max-mem", 0, OPT_SIZE, A(max_mem), .value = "SIZE",
      .verbs = MAKES | JOINS | STORY | READS | FINDS,
      .help = "refuse a larger plan (64M, 2G)" },
    { "scratch", 0, OPT_TEXT, A(scratch), .value = "FILE",
      .verbs = MAKES | JOINS | STORY | READS | FINDS,
      .help = "hold activations in a mapped file" },
    { "trace", 0, OPT_TEXT, A(trace), .value = "FILE",
      .verbs = MAKES | JOINS | READS,
      .help = "write every activation (.safetensors)" },
    { "json", 0, OPT_FLAG, A(json), .verbs = ALL & ~SELFTEST,
      .help = "results as JSON, one object a line" },
    { "quiet", 'q', OPT_FLAG, A(quiet), .verbs = ALL, .help = "no talk on standard error" },
    { "verbose", 'v', OPT_FLAG, A(verbose), .verbs = ALL, .help = "more talk" },
    { "config", 0, OPT_TEXT, A(config), .value = "FILE", .verbs = ALL,
      .help = "options as name = value lines" },
    { "save-config", 0, OPT_TEXT, A(save_config), .value = "FILE", .verbs = MAKES,
      .help = "write the options that make the output again, for --config" },
    { "help", 'h', OPT_FLAG, A(help), .verbs = ALL | HELP, .help = "this" },
    { 0 }
};
_Static_assert(countof(option_table) <= OPT_MOST, "Options.given must hold a flag for every row");

static const Command *find_command(const char *name)
{
    for (size_t i = 0; i < countof(commands); i++)
        if (!strcmp(commands[i].name, name)) return &commands[i];
    return NULL;
}

unsigned verb_bit(const char *name)
{
    const Command *c = find_command(name);
    return c ? c->bit : 0;
}

/* ---- help and version ------------------------------------------------------------------------ */

static void general_help(void)
{
    printf("fusion " VERSION ": CLIP, Stable Diffusion, CLAP and AudioLDM in plain C\n\n");
    for (size_t i = 0; i < countof(commands); i++)
        printf("  fusion %-10s %-38s %s\n", commands[i].name, commands[i].usage,
               commands[i].summary);
    printf("\n`fusion help VERB` lists its options.  Exit codes: 0 done, 1 failed, 2 misused, 3 "
           "the answer is no.\n");
}

static void command_help(const Command *c)
{
    printf("fusion %s %s\n%s\n\n", c->name, c->usage, c->summary);
    opt_help(option_table, c->bit, stdout);
    if (*c->more) printf("\n%s", c->more);
}

static bool unknown_verb(const char *name, Error *e)
{
    char names[256];
    size_t used = 0;
    for (size_t i = 0; i < countof(commands); i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "",
                                 commands[i].name);
    return misuse(e, "verb: found '%.200s', want one of %s", name, names);
}

int verb_help(Args *a, Error *e)
{
    const Texts *words = &a->options->operands;
    const Command *c = words->count ? find_command(words->at[0]) : NULL;
    if (words->count && !c) return unknown_verb(words->at[0], e), 2;
    if (c) command_help(c);
    else general_help();
    return 0;
}

/* A device and what it promises. */
static void print_device(void *self, int number, const OpenclDevice *d)
{
    const Args *a = self;
    char memory[32];
    if (!a->json)
        printf("opencl:%d\t%s\t%s\t%s\t%s\n", number, d->name, d->version,
               opt_size(d->memory, memory), d->exact ? "the same bytes" : "within 1e-5");
    else {
        printf("%s{\"number\": %d, \"name\": ", number ? ", " : "", number);
        print_json(d->name);
        printf(", \"exact\": %s, \"memory\": %llu}", d->exact ? "true" : "false",
               (unsigned long long)d->memory);
    }
}

static void print_name(void *self, int number, const OpenclDevice *d)
{
    (void)self;
    (void)d;
    printf(", \"opencl:%d\"", number);
}

int verb_version(Args *a, Error *e)
{
    const char *openmp = "no";
    Error none = { 0 };
    (void)e;
#if defined(_OPENMP)
    openmp = "yes";
#endif
    if (a->json)
        printf("{\"program\": \"fusion\", \"version\": \"%s\", \"isa\": [\"%s\"", VERSION,
               machine_isa());
    else
        printf("fusion %s\ninstruction sets\t%s\nOpenMP\t%s\n", VERSION, machine_isas(), openmp);
    if (!a->json) {
        opencl_devices(print_device, a, &none);
        if (opencl_built() && none.code) printf("%s\n", none.text);
        return 0;
    }
    for (const char *at = machine_isas() + strlen(machine_isa());
         *at;) { /* the best is the first */
        at += strspn(at, ", ");
        printf(", \"%.*s\"", (int)strcspn(at, ","), at);
        at += strcspn(at, ",");
    }
    printf("], \"openmp\": %s, \"devices\": [\"cpu\"", *openmp == 'y' ? "true" : "false");
    opencl_devices(print_name, a, &none);
    fputs("], \"opencl\": [", stdout);
    opencl_devices(print_device, a, &none);
    puts("]}");
    return 0;
}

/* ---- what the verbs share -------------------------------------------------------------------- */

static const char *program_name = "fusion";

bool ends_with(const char *text, const char *ending)
{
    size_t n = strlen(text), m = strlen(ending);
    return n >= m && !strcmp(text + n - m, ending);
}

void say(const Args *a, const char *format, ...)
{
    va_list args;
    if (a->quiet) return;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void tell_stage(const Args *a, const char *name, double seconds, double macs)
{
    static double peak;
    if (!a->verbose || a->quiet) return;
    if (!macs) {
        say(a, "%s: %.2f s", name, seconds);
        return;
    }
    if (!peak) peak = machine_peak();
    say(a, "%s: %.2f s, %.1f GMAC/s, %.0f %% of this machine's peak", name, seconds,
        macs / seconds * 1e-9, 100 * macs / seconds / peak);
}

void put_bytes(FILE *out, const char *text, size_t n)
{
    for (const unsigned char *c = (const unsigned char *)text, *end = c + n; c < end; c++)
        if (*c == '\t') fputs("\\t", out);
        else if (*c == '\n') fputs("\\n", out);
        else if (*c == '\\') fputs("\\\\", out);
        else if (*c < 0x20 || *c == 0x7f) fprintf(out, "\\x%02x", *c);
        else putc(*c, out);
}
void print_bytes(const char *text, size_t n) { put_bytes(stdout, text, n); }
void print_field(const char *text) { print_bytes(text, strlen(text)); }

void print_json_bytes(const char *text, size_t n) { json_print(stdout, text, n); }
void print_json(const char *text) { print_json_bytes(text, strlen(text)); }

static void say_unused(void *self, const Entry *t)
{
    char shown[SHOWN];
    say(self, "not used: %s", name_shown(t->name, t->name_length, shown));
}

void tell_unused(Args *a, const Weights *w)
{
    if (a->verbose) weights_unbound(w, IGNORED_TENSORS, say_unused, a);
}

bool choose_machine(const Args *a, Error *e)
{
    if (!machine_choose(a->threads, a->isa, e)) return false;
    const char *colon = strchr(a->device, ':');
    const long number = colon ? strtol(colon + 1, NULL, 10) : 0;
    return !strcmp(a->device, "cpu") || opencl_open(number < 1000 ? (int)number : 1000, e);
}

static void add_plan(Plans *p, const Stage *stages, int count)
{
    for (int i = 0; i < count; i++) {
        char name[sizeof p->names[0]];
        int k = 0;
        snprintf(name, sizeof name, "%s %s", p->of, stages[i].name);
        while (k < p->count && strcmp(p->names[k], name)) k++;
        if (k == PLANS_MOST) return;
        Stage *sum = &p->stages[k];
        if (k == p->count)
            *sum = (Stage){ .name = memcpy(p->names[p->count++], name, sizeof name) };
        sum->memory = zmax(sum->memory, stages[i].memory);
        sum->macs += stages[i].macs;
        if (stages[i].weight_bytes > sum->weight_bytes) sum->weight_bytes = stages[i].weight_bytes;
    }
}

void print_plan(const Args *a, const Stage *stages, int count)
{
    if (a->plans) {
        add_plan(a->plans, stages, count);
        return;
    }
    Stage total = { .name = "total" };
    char memory[32], weights[32];
    for (int i = 0; i <= count; i++) {
        const Stage *s = i < count ? &stages[i] : &total;
        if (i < count) {
            if (!s->memory) continue;                      /* a stage that this run has not */
            total.memory = zmax(total.memory, s->memory);
            total.macs += s->macs;
            total.weight_bytes += s->weight_bytes;
        }
        if (a->json)
            printf("{\"stage\": \"%s\", \"memory\": %zu, \"macs\": %.0f, \"weight_bytes\": %.0f}\n",
                   s->name, s->memory, s->macs, s->weight_bytes);
        else
            printf("%s\t%.3f GMAC\t%s of weights\t%s\n", s->name, s->macs * 1e-9,
                   opt_size((uint64_t)s->weight_bytes, weights), opt_size(s->memory, memory));
    }
}

bool check_memory(const Args *a, size_t need, Error *e)
{
    char needed[32], limit[32];
    if (!a->max_mem || need <= a->max_mem) return true;
    return fail(e, "--max-mem: found %s, this run needs %s (%zu bytes)",
                opt_size(a->max_mem, limit), opt_size(need, needed), need);
}

/* ---- finding the model ----------------------------------------------------------------------- */

char *beside_program(const char *name)
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0) n = snprintf(path, sizeof path, "%s", program_name);
    path[zmin((size_t)n, sizeof path - 1)] = 0;
    char *slash = strrchr(path, '/');
    if (slash) slash[1] = 0;
    return path_join(slash ? path : ".", name);
}

char *model_path(const Args *a, Error *e)
{
    const char *path = a->model, *from = getenv("FUSION_MODEL");
    if (!path && from && *from) path = from;
    char *found = path ? strdup(path) : beside_program("weights/tiny");
    if (found && (path || folder_exists(found))) return found;
    if (!found) fail(e, "--model: out of memory: needed room for a name");
    else misuse(e, "--model: no model: give -m PATH, or set FUSION_MODEL");
    free(found);
    return NULL;
}

static bool holds(const char *folder, const char *name, Error *e)
{
    char *path = path_join(folder, name);
    bool found = path && (file_exists(path) || folder_exists(path));
    if (!path) fail(e, "%s: out of memory: needed room for a name", folder);
    free(path);
    return found;
}

/* The parts of a bundle: the class in model_index.json (the empty one is any), or class and
 * model_type in config.json; the words for messages; the option that gives the part. */
static const struct { const char *part, *class, *type, *folder, *name, *want; size_t given; }
parts[] = {
    { "audioldm", "AudioLDMPipeline", NULL, "an AudioLDM folder", "AudioLDM",
      "model_index.json, or a folder audioldm", A(audioldm) },
    { "sd", "", NULL, "a Stable Diffusion folder", "Stable Diffusion",
      "model_index.json, or a folder sd", A(sd) },
    { "clip", "CLIPModel", "clip", "a CLIP folder", "CLIP", "config.json, or a folder clip",
      A(clip) },
    { "clap", "ClapModel", "clap", "a CLAP folder", "CLAP", "config.json, or a folder clap",
      A(clap) },
};

static size_t part_number(const char *part)
{
    size_t i = 0;
    while (i + 1 < countof(parts) && strcmp(parts[i].part, part)) i++;
    return i;
}

/* What a checkpoint in one file is: "sd", or NULL. */
static const char *file_kind(const char *path)
{
    Weights w;
    if (!weights_open(&w, path, NULL, &(Error){ 0 })) return NULL;
    const char *kind = original_family(&w).sd ? "sd" : NULL;
    weights_close(&w);
    return kind;
}

const char *model_kind(const char *folder, Error *e)
{
    if (file_exists(folder)) return file_kind(folder);
    const bool pipeline = holds(folder, "model_index.json", e);
    const char *name = pipeline ? "model_index.json" : "config.json";
    char *path = e->code ? NULL : path_join(folder, name);
    if (!path) return fail(e, "%s: out of memory: needed room for a name", folder), NULL;
    Json *config = file_exists(path) ? json_read(path, 1 << 20, e) : NULL;
    const Json *type = config ? json_get(config, "model_type") : NULL, *class =
        config ? json_get(config, pipeline ? "_class_name" : "architectures") : NULL;
    const char *kind = NULL;
    if (class && class->type == JSON_ARRAY) class = class->first;
    for (size_t i = 0; !kind && i < countof(parts); i++) {
        const bool named = class && json_is(class, parts[i].class), any = !*parts[i].class;
        if (pipeline ? !parts[i].type && (named || any)
                     : parts[i].type && (named || (type && json_is(type, parts[i].type))))
            kind = parts[i].part;
    }
    json_free(config);
    free(path);
    return kind || pipeline || e->code || !open_clip_is(folder) ? kind : "clip";
}

/* False, with e, when the folder's config.json tells of another model. */
static bool config_agrees(const char *folder, const char *want, Error *e)
{
    char *path = path_join(folder, "config.json");
    Json *config = path ? json_read(path, 1 << 20, e) : NULL;
    const char *type = "nothing";
    if (config && json_string(config, "model_type", &type, path, e))
        fail(e, "%s: model_type: found %s, want %s", path, type, want);
    json_free(config);
    free(path);
    return false;
}

/* Why the file is no model of parts[i]. */
static void no_checkpoint(const char *path, size_t i, Error *e)
{
    const char *checkpoint = strcmp(parts[i].part, "sd") ? "" : " or a .safetensors checkpoint";
    Weights w;
    File f;
    if (!file_map(&f, path, 0, e)) return;
    const char *foreign = foreign_format(f.at, f.size);
    const bool other = foreign && strcmp(foreign, "a safetensors file");
    if (other) fail(e, "%s: model: found %s, want a model folder%s", path, foreign, checkpoint);
    file_unmap(&f);
    if (other || !weights_open(&w, path, NULL, e)) return;
    const Family family = original_family(&w);
    fail(e, "%s: model: found %s%s, want %s%s", path,
         family.what ? family.what : "tensors of no known model", family.hint, parts[i].folder,
         checkpoint);
    weights_close(&w);
}

/* Why path is no model of this kind. */
static void no_model(const char *path, const char *part, Error *e)
{
    const size_t i = part_number(part);
    const char *kind = folder_exists(path) ? model_kind(path, e) : NULL;
    if (file_exists(path)) no_checkpoint(path, i, e);
    else if (!folder_exists(path))
        fail(e, "%s: no such file or folder, want a model folder", path);
    else if (kind)
        fail(e, "%s: model: found %s, want %s", path, parts[part_number(kind)].folder,
             parts[i].name);
    else if (!holds(path, "config.json", e) || !parts[i].type
             || config_agrees(path, parts[i].type, e))
        fail(e, "%s: no model here, want %s", path, parts[i].want);
}

/* The folder that would be this part; right: it is.  NULL with e: that cannot be told. */
static char *find_part(const Args *a, const char *part, bool *right, Error *e)
{
    const char *given = *(const char *const *)((const char *)a + parts[part_number(part)].given);
    char *path = given ? strdup(given) : model_path(a, e);
    if (!path) {
        fail(e, "--%s: out of memory: needed room for a name", part);
        return NULL;
    }
    char *inside = given ? NULL : path_join(path, part);
    if (!given && !inside) fail(e, "--%s: out of memory: needed room for a name", part);
    if (inside && folder_exists(inside)) {
        free(path);
        path = inside;
        inside = NULL;
    }
    free(inside);
    const char *kind = e->code ? NULL : model_kind(path, e);
    *right = kind && !strcmp(kind, part);
    if (!e->code) return path;
    free(path);
    return NULL;
}

bool part_given(const Args *a, const char *part, Error *e)
{
    bool right = false;
    Error inner = { 0 };
    free(find_part(a, part, &right, &inner));
    if (inner.code == 1) fail(e, "%s", inner.text);        /* 2: no model is named at all */
    return right;
}

char *model_part(const Args *a, const char *part, Error *e)
{
    bool right = false;
    char *path = find_part(a, part, &right, e);
    if (right || !path) return path;
    no_model(path, part, e);
    free(path);
    return NULL;
}

char *model_tokenizer(const Args *a, const char *model)
{
    const char *from = getenv("FUSION_MODEL");
    if (a->tokenizer) return strdup(a->tokenizer);
    if (!file_exists(model) || (!a->clip && !a->model && !(from && *from))) return NULL;
    char *beside = original_tokenizer(model);
    return beside ? beside : model_part(a, "clip", &(Error){ 0 });
}

/* ---- traces ---------------------------------------------------------------------------------- */

struct Trace { SafeWriter *out; Error *e; bool failed; Error first; };

/* One activation in torch's layout: vectors [B,C], tokens [B,T,C] where w is 1, else [B,C,H,W]. */
static void trace_write(void *self, const char *name, Tensor x)
{
    Trace *t = self;
    const size_t n = tensor_count(x), c = (size_t)x.c, area = (size_t)x.h * (size_t)x.w;
    const bool tokens = x.w == 1;
    const int rank = !tokens ? 4 : x.h > 1 ? 3 : 2;
    const int picture[] = { x.b, x.c, x.h, x.w }, sequence[] = { x.b, x.h, x.c };
    const int vector[] = { x.b, x.c }, *const shapes[] = { vector, sequence, picture };
    if (t->first.code) return;
    float *values = malloc((n + !n) * sizeof *values);
    if (!values) {
        fail(&t->first, "--trace: out of memory: needed %zu bytes for %s", n * sizeof *values,
             name);
        return;
    }
    for (size_t b = 0; b < (size_t)x.b; b++)
        for (size_t i = 0; i < area; i++)
            for (size_t k = 0; k < c; k++)
                values[b * area * c + (tokens ? i * c + k : k * area + i)] =
                    x.at[(b * area + i) * c + k];
    safe_add(t->out, name, F32, rank, shapes[rank - 2], values, &t->first);
    free(values);
}

bool trace_begin(Trace **t, const Args *a, Error *e)
{
    *t = NULL;
    if (!a->trace) return true;
    Trace *begun = calloc(1, sizeof *begun);
    if (!begun) return fail(e, "--trace: out of memory");
    begun->out = safe_open(a->trace, e);
    if (!begun->out) {
        free(begun);
        return false;
    }
    trace_to(trace_write, begun);
    *t = begun;
    return true;
}

bool trace_end(Trace *t, bool ok, Error *e)
{
    if (!t) return ok;
    trace_to(NULL, NULL);
    if (ok && t->first.code) ok = fail(e, "%s", t->first.text);
    if (ok) ok = safe_commit(t->out, NULL, e);
    else safe_discard(t->out);
    free(t);
    return ok;
}

/* ---- signals --------------------------------------------------------------------------------- */

/* Leave nothing behind, then die as the sender meant it. */
static void on_stop(int number)
{
    output_discard_all();
    raise(number);                                         /* pending until we return, then fatal */
}

/* A mapped file lost its pages: say which.  Any other fault is ours and keeps its name.  Threads
 * that read the same file fault together: the first speaks, the others wait for the end. */
static void on_fault(int number, siginfo_t *info, void *context)
{
    static atomic_flag speaking = ATOMIC_FLAG_INIT;
    static const char hex[] = "0123456789abcdef";
    static char line[1024] = "fusion: ";
    const char *path = file_at(info->si_addr), *tail = ": truncated while in use\n";
    size_t n = 8;
    (void)context;
    while (atomic_flag_test_and_set(&speaking)) pause();
    output_discard_all();
    if (!path) {
        signal(number, SIG_DFL);
        raise(number);
        return;
    }
    for (; *path && n < sizeof line - 40; path++) {
        unsigned char c = (unsigned char)*path;
        if (c >= 0x20 && c != 0x7f) { line[n++] = (char)c; continue; }
        const char escaped[4] = { '\\', 'x', hex[c >> 4], hex[c & 15] };
        for (int i = 0; i < 4; i++) line[n++] = escaped[i];
    }
    while (*tail) line[n++] = *tail++;
    n = write(2, line, n) < 0 ? 0 : n;
    _exit(1);
}

static void catch_signals(void)
{
    static const int stops[] = { SIGINT, SIGTERM, SIGHUP }, faults[] = { SIGBUS, SIGSEGV };
    struct sigaction stop = { .sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND }, old;
    struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
    sigfillset(&stop.sa_mask);
    sigfillset(&fault.sa_mask);              /* a fault inside on_fault kills, and does not wait */
    for (size_t i = 0; i < countof(stops); i++)            /* what nohup ignores stays ignored */
        if (!sigaction(stops[i], NULL, &old) && old.sa_handler != SIG_IGN)
            sigaction(stops[i], &stop, NULL);
    for (size_t i = 0; i < countof(faults); i++) sigaction(faults[i], &fault, NULL);
    signal(SIGPIPE, SIG_IGN);                              /* then write says what is wrong */
    signal(SIGXFSZ, SIG_IGN);
}

/* Descriptors 0 to 2 that came closed: nothing we open may land there.  A closed standard output
 * becomes one that cannot be written, so that results meant for it are an error. */
static void open_standard(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 2 ? O_WRONLY : O_RDONLY) < 0) return;
}

/* ---- main ------------------------------------------------------------------------------------ */

static bool count_operands(const Command *c, const Options *o, Error *e)
{
    const int n = o->operands.count;
    if (n > c->operands_most)
        return misuse(e, "operand: found '%.200s', want %s", o->operands.at[c->operands_most],
                      c->operands_most ? c->usage : "options only");
    if (n < c->operands_least) return misuse(e, "operand: missing, want %s", c->usage);
    return true;
}

static int run(const Command *c, int argc, char **argv, Error *e)
{
    Args args = { 0 };
    Options options = { .table = option_table, .verb = c->bit, .fields = &args };
    int code = 1;
    args.options = &options;
    if (opt_parse(&options, argc, argv, e)) {
        if (args.help) command_help(c), code = 0;
        else if (count_operands(c, &options, e)) code = c->run(&args, e);
    }
    if (e->code && !opencl_worked(e)) code = e->code;      /* why what came of it was refused */
    opencl_close();
    if (e->code) code = e->code;
    opt_free(&options);
    return code;
}

int main(int argc, char **argv)
{
    Error e = { 0 };
    int code = 0;
    open_standard();
    catch_signals();
    if (argc > 0 && argv[0]) program_name = argv[0];
    const char *verb = argc > 1 ? argv[1] : "";
    const Command *command = find_command(verb);
    if (argc < 2) misuse(&e, "verb: missing");
    else if (!strcmp(verb, "--help") || !strcmp(verb, "-h")) command = find_command("help");
    else if (!strcmp(verb, "--version")) command = find_command("version");
    else if (!command) unknown_verb(verb, &e);
    if (command) code = run(command, argc - 2, argv + 2, &e);
    if (!e.code && (fflush(stdout) || ferror(stdout)))
        fail(&e, "standard output: cannot write: %s", strerror(errno));
    if (!e.code) return code;
    fprintf(stderr, "fusion: %s\n", e.text);
    if (e.code == 2) {
        const bool of_verb = command && command->bit != HELP;
        fprintf(stderr, "try: fusion help%s%s\n", of_verb ? " " : "", of_verb ? command->name : "");
    }
    return e.code;
}
