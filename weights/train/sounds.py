"""The sounds of the small world: what can be heard, and how English and French say so.

    python weights/train/sounds.py [COUNT]     prints sample scenes with captions, then checks COUNT of them

A sound scene is a plain dict: {'layers': [layer, ...]} with one or two layers, each
    {'key': 'rain', 'level': 'soft' | 'medium' | 'loud', 'far': bool, 'pace': None | 'slow' | 'fast'}
`far` only goes with 'soft' (a distant sound is duller and echoes), `pace` only with sounds that have a beat.
synth.py makes the waveform; this file has only words. Captions come from a grammar: a noun phrase for each
layer, with or without article, its level as adjective, adverb or own noun ("a downpour"), put into a frame.
Some combinations and some frames are held out: training never meets them, the tests ask for them.
"""
import hashlib
import re
import sys

import numpy as np

# One block a sound. English names carry their article where they have one; an adjective goes behind it.
# French names: `*` marks where an adjective goes, and what follows `|` how it agrees (ms, fs, mp, fp) or
# `v` where an adverb stands there. soft and loud hold nouns that already say the level by themselves.
WORDS = {
    'wind': dict(
        en='the wind; wind; wind blowing; gusts of wind; the wind whistling; a windy place',
        fr='le vent*|ms; du vent*|ms; le vent qui souffle*|v; des rafales* de vent|fp; un souffle* de vent|ms',
        en_soft='a gentle breeze; a light wind', fr_soft='une petite brise; un vent léger',
        en_loud='a strong wind; a howling gale', fr_loud='un vent violent; de fortes bourrasques'),
    'rain': dict(
        en='rain; the rain; falling rain; rain falling; raindrops; rain on the roof; rainfall',
        fr='la pluie*|fs; de la pluie*|fs; la pluie qui tombe*|v; des gouttes* de pluie|fp; la pluie* sur le toit|fs',
        en_soft='a light rain; drizzle', fr_soft='une pluie fine; une petite pluie',
        en_loud='heavy rain; a downpour', fr_loud='une forte pluie; une averse'),
    'thunder': dict(
        en='thunder; a clap of thunder; thunder rumbling; a thunderstorm; rolling thunder; a storm',
        fr='le tonnerre*|ms; un coup* de tonnerre|ms; le tonnerre qui gronde*|v; un orage*|ms; un grondement* de tonnerre|ms',
        en_soft='a low rumble of thunder', fr_soft='un faible grondement de tonnerre',
        en_loud='a violent thunderstorm', fr_loud='un orage violent'),
    'sea': dict(
        en='the sea; waves; sea waves; waves breaking on the beach; the ocean; ocean waves; surf',
        fr='la mer*|fs; des vagues*|fp; les vagues* de la mer|fp; des vagues qui se brisent*|v; l\'océan*|ms; le ressac*|ms',
        en_soft='small waves; a calm sea', fr_soft='de petites vagues; une mer calme',
        en_loud='big waves; a rough sea', fr_loud='de grosses vagues; une mer agitée'),
    'stream': dict(
        en='a stream; a babbling brook; running water; a bubbling stream; a small river flowing; a brook',
        fr='un ruisseau*|ms; un ruisseau qui coule*|v; de l\'eau qui coule*|v; une petite rivière*|fs; le murmure* d\'un ruisseau|ms'),
    'waterfall': dict(
        en='a waterfall; falling water; a cascade; water rushing down; a waterfall roaring',
        fr='une cascade*|fs; une chute d\'eau*|fs; une cascade qui gronde*|v; de l\'eau* qui tombe d\'une falaise|fs',
        en_loud='a mighty waterfall', fr_loud='une puissante chute d\'eau',
        en_soft='a small waterfall', fr_soft='une petite cascade'),
    'fire': dict(
        en='a fire; a crackling fire; fire crackling; a campfire; a fireplace; burning wood; a wood fire',
        fr='un feu*|ms; un feu qui crépite*|v; un feu* de bois|ms; un feu* de camp|ms; le crépitement* du feu|ms; une cheminée*|fs',
        en_soft='a small fire', fr_soft='un petit feu', en_loud='a roaring fire', fr_loud='un grand feu'),
    'birds': dict(
        en='birds; birds singing; birdsong; chirping birds; songbirds; birds chirping; a bird singing',
        fr='des oiseaux*|mp; des oiseaux qui chantent*|v; le chant* des oiseaux|ms; un oiseau qui chante*|v; des gazouillis*|mp'),
    'gulls': dict(
        en='seagulls; gulls; gulls crying; seagulls screaming; the cry of gulls; a seagull',
        fr='des mouettes*|fp; des goélands*|mp; des mouettes qui crient*|v; le cri* des mouettes|ms; une mouette*|fs'),
    'crickets': dict(
        en='crickets; crickets chirping; a cricket; the song of crickets; insects at night; chirping crickets',
        fr='des grillons*|mp; des grillons qui chantent*|v; le chant* des grillons|ms; un grillon*|ms; des insectes* la nuit|mp'),
    'market': dict(
        en='a market; a lively market; a busy market; a market full of people; a crowd; a street market; '
           'a lively market full of voices; a market with chatter; a crowded market place; a market with conversations',
        fr='un marché*|ms; un marché animé; un marché plein de monde; une foule*|fs; un marché animé plein de voix; '
           'un marché avec des conversations; une place de marché animée; une foule animée; une foule avec des conversations; '
           'un marché animé avec des voix; une place animée avec des conversations; un marché rempli de conversations',
        en_soft='a quiet market; a calm market', fr_soft='un marché calme; un marché tranquille',
        en_loud='a noisy market; a very lively market; a noisy crowd',
        fr_loud='un marché bruyant; un marché très animé; un marché bruyant avec des conversations'),
    'conversation': dict(
        en='a conversation; people talking; two people talking; voices; a few people chatting; speech; a chat',
        fr='une conversation*|fs; des conversations*|fp; des gens qui parlent*|v; deux personnes qui discutent*|v; des voix*|fp; une discussion*|fs',
        en_soft='people whispering; a murmur of voices', fr_soft='des gens qui chuchotent; un murmure de voix',
        en_loud='people shouting; a heated conversation', fr_loud='des gens qui crient; une vive discussion'),
    'bell': dict(
        en='a church bell; a bell ringing; church bells; bells ringing; a tolling bell; the bells of a church',
        fr='une cloche*|fs; les cloches* de l\'église|fp; une cloche qui sonne*|v; des cloches*|fp; une cloche* d\'église|fs'),
    'footsteps': dict(
        en='footsteps; footsteps on gravel; footsteps in the snow; steps; a person walking; walking on snow; crunching steps',
        fr='des pas*|mp; des pas* dans la neige|mp; des pas* sur le gravier|mp; quelqu\'un qui marche*|v; un bruit* de pas|ms'),
    'train': dict(
        en='a train; a train passing; a train on the rails; a railway train; a train blowing its horn; a rolling train',
        fr='un train*|ms; un train qui passe*|v; un train* sur les rails|ms; un train qui roule*|v; un train qui klaxonne*|v'),
    'engine': dict(
        en='a car; an engine; a car engine; a running engine; a motor; a car driving; traffic',
        fr='une voiture*|fs; un moteur*|ms; un moteur* de voiture|ms; un moteur qui tourne*|v; une voiture qui roule*|v; la circulation*|fs',
        en_loud='a roaring engine', fr_loud='un moteur rugissant', en_soft='a humming engine', fr_soft='un moteur ronronnant'),
    'dog': dict(
        en='a dog; a dog barking; a barking dog; barking; dog barks; a dog that barks',
        fr='un chien*|ms; un chien qui aboie*|v; des aboiements*|mp; des aboiements* de chien|mp; un chien en train d\'aboyer'),
    'cat': dict(
        en='a cat; a cat meowing; a meowing cat; meows; a cat that meows; a kitten meowing',
        fr='un chat*|ms; un chat qui miaule*|v; des miaulements*|mp; des miaulements* de chat|mp; un chaton qui miaule*|v'),
    'owl': dict(
        en='an owl; an owl hooting; a hooting owl; the hoot of an owl; an owl at night',
        fr='un hibou*|ms; une chouette*|fs; un hibou qui hulule*|v; une chouette qui hulule*|v; le cri* du hibou|ms'),
    'horse': dict(
        en='a horse; horse hooves; a trotting horse; hoofbeats; a horse trotting; hooves on cobblestones; a galloping horse',
        fr='un cheval*|ms; les sabots* d\'un cheval|mp; un cheval qui trotte*|v; un cheval au galop; des sabots* sur les pavés|mp'),
    'music_box': dict(
        en='a music box; a music box playing; a tinkling melody; music; a music box melody; a lullaby',
        fr='une boîte à musique*|fs; une boîte à musique qui joue*|v; une mélodie*|fs; de la musique*|fs; une berceuse*|fs'),
    'children': dict(
        en='children; children playing; children laughing; kids playing; laughing children; a playground',
        fr='des enfants*|mp; des enfants qui jouent*|v; des enfants qui rient*|v; des rires* d\'enfants|mp; une cour de récréation*|fs'),
    'frogs': dict(
        en='frogs; frogs croaking; croaking frogs; a frog; a frog croaking; frogs in a pond',
        fr='des grenouilles*|fp; des grenouilles qui coassent*|v; une grenouille*|fs; des coassements*|mp; des grenouilles* dans un étang|fp'),
    'hammer': dict(
        en='a hammer; hammering; a blacksmith hammering; a hammer on an anvil; hammer blows; metal being hammered',
        fr='un marteau*|ms; des coups* de marteau|mp; un forgeron qui frappe*|v; un marteau* sur une enclume|ms; une enclume*|fs'),
    'clock': dict(
        en='a clock; a ticking clock; a clock ticking; a tick-tock; a watch ticking; an old clock',
        fr='une horloge*|fs; le tic-tac* d\'une horloge|ms; un tic-tac*|ms; une pendule*|fs; une montre*|fs'),
    'siren': dict(
        en='a siren; a police siren; an ambulance; an ambulance siren; a fire engine siren; sirens',
        fr='une sirène*|fs; une sirène* de police|fs; une ambulance*|fs; une sirène* d\'ambulance|fs; une sirène* de pompiers|fs'),
    'foghorn': dict(
        en='a foghorn; a ship horn; a ship blowing its horn; a boat horn; the horn of a big ship',
        fr='une corne de brume*|fs; une corne* de bateau|fs; la sirène* d\'un bateau|fs; un navire qui corne*|v'),
    'rooster': dict(
        en='a rooster; a rooster crowing; a crowing cock; a cock; the crow of a rooster',
        fr='un coq*|ms; un coq qui chante*|v; le chant* du coq|ms; un cocorico*|ms'),
}

KEYS = list(WORDS)
MAIN = ['wind', 'rain', 'thunder', 'sea', 'stream', 'fire', 'birds', 'market', 'conversation', 'bell',
        'footsteps', 'train', 'engine', 'music_box', 'dog', 'cat']            # the 16 of the ranking test
PACED = ['bell', 'footsteps', 'train', 'horse', 'music_box', 'hammer', 'clock', 'dog']
LEVELS = ['soft', 'medium', 'loud']


def split(text):
    return [name.strip() for name in text.split(';') if name.strip()]


def plain(name):
    """A French name without its grammar marks."""
    return name.split('|')[0].replace('*', '')


SOUNDS = {key: {'en': split(words['en']), 'fr': [plain(name) for name in split(words['fr'])]}
          for key, words in WORDS.items()}

ADJECTIVES = {
    'en': {'soft': 'soft quiet gentle faint'.split(), 'far': 'distant faraway far-off'.split(),
           'loud': 'loud powerful intense'.split()},
    'fr': {'soft': ['doux douce doux douces', 'faible faible faibles faibles', 'léger légère légers légères',
                    'discret discrète discrets discrètes'],
           'far': ['lointain lointaine lointains lointaines', 'éloigné éloignée éloignés éloignées'],
           'loud': ['fort forte forts fortes', 'puissant puissante puissants puissantes',
                    'intense intense intenses intenses']}}
ADVERBS = {'soft': ['doucement', 'tout doucement'], 'far': ['au loin'], 'loud': ['fort', 'très fort']}
AFTER = {       # said after the name
    'en': {'soft': [', softly', ', very quiet', ', low volume'],
           'far': [' in the distance', ' far away', ', from far away'],
           'loud': [', very loud', ' close by', ', at full volume', ' very near']},
    'fr': {'soft': [', doucement', ', très doux', ', à faible volume'],
           'far': [' au loin', ' dans le lointain', ', de très loin'],
           'loud': [', très fort', ' tout près', ', à plein volume', ' très fort']}}
PACE = {'en': {'slow': [', slow', ', slowly', ', at a slow pace'], 'fast': [', fast', ', quickly', ', at a fast pace']},
        'fr': {'slow': [', lentement', ', lent', ', à un rythme lent'],
               'fast': [', vite', ', rapide', ', à un rythme rapide']}}

# {np} the noun phrase, {bare} without its article; French {de} and {debare}: the same behind "de".
FRAMES = {
    'en': ['{np}'] * 5 + ['{bare}'] * 4 + ['the sound of {np}'] * 2 + [
        'sound of {bare}', 'we hear {np}', 'you can hear {np}', 'a recording of {np}', 'listen to {np}',
        'audio: {bare}', 'the noise of {np}', '{np} can be heard', 'nothing but {np}', 'only {np}',
        'ambience: {bare}', 'this is {np}', 'just {np}', 'I hear {np}', 'a sound scene with {np}'],
    'fr': ['{np}'] * 5 + ['{bare}'] * 4 + ['le bruit {de}', 'le son {de}'] * 2 + [
        'bruit {debare}', 'on entend {np}', 'un enregistrement {de}', 'écoutez {np}', 'son : {bare}',
        'rien d\'autre que {np}', 'seulement {np}', 'ambiance : {bare}', 'voici {np}', 'il y a {np}', 'nous entendons {np}',
        'juste {np}', 'j\'entends {np}', 'une scène sonore avec {np}']}
HELD_FRAMES = {
    'en': ['you hear just the sound of {np}', 'close your eyes and hear {np}', 'field recording: {bare}',
           'listen, this is {np}'],
    'fr': ['on entend juste {np}', 'les yeux fermés, on écoute {np}', 'prise de son {de}', 'écoutez, voici {np}']}
SOUND_FRAMES = {    # the level as an adjective of "sound": {adj}
    'en': ['a {adj} sound of {bare}', 'the {adj} sound of {np}', 'the {adj} noise of {np}', '{adj} sound: {bare}'],
    'fr': ['le bruit {adj} {de}', 'un son {adj} {de}', 'un bruit {adj} {debare}', 'le son {adj} {de}']}
JOINS = {
    'en': ['{a} and {b}'] * 4 + ['{a} with {b}'] * 3 + ['{a}, {b}', '{a} over {b}', '{a} along with {b}',
           '{a} mixed with {b}', 'both {a} and {b}', '{a} and also {b}'],
    'fr': ['{a} et {b}'] * 4 + ['{a} avec {b}'] * 3 + ['{a}, {b}', '{a} sur fond {deb}', '{a} ainsi que {b}',
           '{a} et aussi {b}', '{a}, et puis {b}']}
HELD_JOINS = {
    'en': ['{a} together with {b}', '{a}, and also the sound of {b}', '{a} plus {b}', 'the noise of {a} over the sound of {b}'],
    'fr': ['{a} en même temps que {b}', 'à la fois {a} et {b}', '{a}, avec aussi {b}', 'le bruit {dea} avec le son {deb}']}
NEVER = {'un marché animé avec des conversations'}   # the course's own sentence: for the demonstration only
ASPIRATED = ('hibou', 'hulul', 'hurl', 'haut', 'henn')


def one(rng, items):
    return items[int(rng.integers(len(items)))]


def bare(np_):
    np_ = re.sub(r'^(a|an|the) ', '', np_)
    return re.sub(r"^(un |une |des |du |de la |de l'|le |la |les |l')", '', np_)


def with_adjective(name, adjective):
    """English: behind the article, which follows the new first letter."""
    found = re.match(r'(a|an|the) (.*)', name)
    if not found:
        return f'{adjective} {name}'
    article, rest = found.groups()
    if article != 'the':
        article = 'an' if adjective[0] in 'aeiou' else 'a'
    return f'{article} {adjective} {rest}'


def de(np_):
    """French "de" in front of a noun phrase: du, des, d', and no partitive after it."""
    np_ = re.sub(r"^(des |du |de la |de l'|de (?=\w))", '', np_)
    if np_.startswith('le '):
        return 'du ' + np_[3:]
    if np_.startswith('les '):
        return 'des ' + np_[4:]
    vowel = np_[0].lower() in 'aeiouyâàéèêëîïôœùûh' and not np_.startswith(ASPIRATED)
    return ("d'" if vowel else 'de ') + np_


def loudness(layer):
    return 'far' if layer.get('far') else layer['level']


def phrase(layer, rng, lang, level_said=True):
    """One layer as a noun phrase, with its level said somehow if it is not the middle one."""
    words, level = WORDS[layer['key']], loudness(layer)
    name = one(rng, split(words[lang]))
    if level == 'medium' or not level_said:
        text = plain(name)
    else:
        way = rng.random()
        own = split(words.get(f'{lang}_{level}', ''))
        if own and way < 0.4:
            text = one(rng, own)
        elif lang == 'en' and way < 0.75:
            text = with_adjective(name, one(rng, ADJECTIVES['en'][level]))
        elif lang == 'fr' and '|' in name and way < 0.8:
            stem, gender = name.split('|')
            said = one(rng, ADVERBS[level]) if gender == 'v' else \
                one(rng, ADJECTIVES['fr'][level]).split()[('ms', 'fs', 'mp', 'fp').index(gender)]
            text = stem.replace('*', ' ' + said)
        else:
            text = plain(name) + one(rng, AFTER[lang][level])
    if layer.get('pace') and rng.random() < 0.8:
        text += one(rng, PACE[lang][layer['pace']])
    return text


def caption(scene, rng, lang, held_out=False):
    """A sentence about the scene; held_out=True: in a frame that training never uses."""
    while True:
        text = sentence(scene, rng, lang, held_out)
        if text.strip('. ').lower() not in NEVER:
            return text


def sentence(scene, rng, lang, held_out):
    layers = sorted(scene['layers'], key=lambda layer: rng.random() < 0.35)     # mostly in the scene's order
    said = rng.random() < 0.85
    first = layers[0]
    frames = HELD_FRAMES[lang] if held_out else FRAMES[lang]
    if len(layers) == 1:
        level = loudness(first)
        if level != 'medium' and said and not held_out and rng.random() < 0.3:
            np_ = phrase(first, rng, lang, level_said=False)
            adjective = one(rng, ADJECTIVES[lang][level]).split()[0]
            text = one(rng, SOUND_FRAMES[lang]).format(
                np=np_, bare=bare(np_), de=de(np_), debare=de(bare(np_)), adj=adjective)
        else:
            np_ = phrase(first, rng, lang, said)
            text = one(rng, frames).format(np=np_, bare=bare(np_), de=de(np_), debare=de(bare(np_)))
    else:
        a, b = (phrase(layer, rng, lang, said) for layer in layers)
        if rng.random() < 0.2:
            a, b = bare(a), bare(b)
        join = one(rng, HELD_JOINS[lang] if held_out else JOINS[lang])
        text = join.format(a=a, b=b, dea=de(a), deb=de(b))
        if not held_out and rng.random() < 0.25:
            whole = [f for f in FRAMES[lang] if '{np}' in f and '{de}' not in f and 'can be' not in f]
            text = one(rng, whole).format(np=text)
    if lang == 'fr':
        text = re.sub(rf'\bque (?!{"|".join(ASPIRATED)})(?=[aeiouhéèê])', "qu'", text)
    else:
        text = re.sub(r'\ba (?=[aeiou])', 'an ', text)
    if rng.random() < 0.5:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.4:
        text += '.'
    return text


def share(*parts):
    """A fixed number from 0 to 1 for any names: the same on every machine and in every run."""
    return int(hashlib.sha256(' '.join(map(str, parts)).encode()).hexdigest()[:8], 16) / 2.0 ** 32


def is_held_out(scene):
    """An eighth of the pairs, and a seventh of (sound, level) where no noun of its own says the level, are for tests."""
    layers = scene['layers']
    if len(layers) == 2:
        return share('pair', *sorted(layer['key'] for layer in layers)) < 0.125
    key, level = layers[0]['key'], loudness(layers[0])
    return level != 'medium' and 'en_' + level not in WORDS[key] and share('level', key, level) < 0.15


def layer_of(key, rng, level=None):
    """One layer of a known sound, the rest drawn."""
    if level is None:
        level = one(rng, ['soft', 'far', 'medium', 'medium', 'medium', 'medium', 'loud', 'loud'])
    pace = one(rng, [None, None, 'slow', 'fast']) if key in PACED else None
    return {'key': key, 'level': 'soft' if level == 'far' else level, 'far': level == 'far', 'pace': pace}


def sample(rng, held_out=False):
    """A scene drawn at random: one layer seven times in ten, else two different ones."""
    while True:
        count = 1 if rng.random() < 0.7 else 2
        keys = rng.choice(len(KEYS), size=count, replace=False)
        scene = {'layers': [layer_of(KEYS[int(k)], rng) for k in keys]}
        if is_held_out(scene) == held_out:
            return scene


def check(count):
    """Draws many captions and stops at the first that is not right."""
    rng = np.random.default_rng(5)
    bad = {'en': re.compile(r"None|  |[{}*|]|\ba [aeiou]|\ban [^aeiou]| [,.]|''|,,", re.I),
           'fr': re.compile(r"None|  |[{}*|]|\b(de|le|la|que|je) [aeiouéèêœ]|\bde (le|les|des|du)\b| [,.]|''|,,", re.I)}
    for index in range(count):
        held = index % 4 == 3
        scene = sample(rng, held)
        lang = ('en', 'fr')[index % 2]
        text = caption(scene, rng, lang, held_out=held)
        found = bad[lang].search(text)
        assert not found, (text, found.group(0), scene)
        if index < 80:
            print(lang, 'held' if held else '    ', ' + '.join(
                f"{l['key']}/{loudness(l)}{'/' + l['pace'] if l['pace'] else ''}" for l in scene['layers']), '|', text)
    print(f'{count} captions right; {len(KEYS)} sounds, {len(MAIN)} of them in the ranking test')


if __name__ == '__main__':
    check(int(sys.argv[1]) if len(sys.argv) > 1 else 4000)
