"""The small world in words: what a picture can show, and how people say it in English and French.

A scene is a plain dict with the keys subject, setting, weather, time, season, mood, style, count
and colour; a value of None means that the scene does not say (painter.py then picks the plainest).

    sample(rng)             a scene for training      sample(rng, True)   one kept for testing
    caption(scene, rng, l)  one of many wordings in language l, 'en' or 'fr'; it says the subject
                            and a random part of the rest
    is_held_out(scene)      a fixed rule: about a tenth of the (subject, setting, weather, time)
                            combinations never occur in training
    SOUNDS_OF(scene)        the sounds (keys of sounds.py) that one would hear there

`python weights/train/world.py` prints captions of random scenes and checks 2000 of each language:
no empty word, no double space, no wrong elision, no test wording or course prompt in training.
"""
import re
import sys
import zlib

import numpy as np

# ---------------------------------------------------------------- nouns
# key: English (singular, plural) names; French (singular, plural, gender) names;
# the settings it can stand in; English and French verbs that tell what it does there.
_SUBJECTS = {
    'cabin': ([('cabin', 'cabins'), ('log cabin', 'log cabins'), ('hut', 'huts')],
              [('cabane', 'cabanes', 'f'), ('cabane en bois', 'cabanes en bois', 'f'), ('hutte', 'huttes', 'f')],
              'woods mountains field river hill beach', 'stands', 'se trouve'),
    'lake': ([('lake', 'lakes'), ('pond', 'ponds')],
             [('lac', 'lacs', 'm'), ('étang', 'étangs', 'm')],
             'mountains woods field hill park', 'lies', "s'étend"),
    'mountains': ([('mountains', 'mountains'), ('mountain peaks', 'mountain peaks')],
                  [('montagnes', 'montagnes', 'f'), ('sommets', 'sommets', 'm')],
                  'woods field desert sea river', 'rise', 'se dressent'),
    'market': ([('market', 'markets'), ('street market', 'street markets'), ('marketplace', 'marketplaces')],
               [('marché', 'marchés', 'm'), ('marché en plein air', 'marchés en plein air', 'm')],
               'street park beach field desert', 'is held', 'se tient'),
    'lighthouse': ([('lighthouse', 'lighthouses')], [('phare', 'phares', 'm')],
                   'sea beach hill', 'stands', 'se dresse'),
    'boat': ([('boat', 'boats'), ('sailboat', 'sailboats')],
             [('bateau', 'bateaux', 'm'), ('voilier', 'voiliers', 'm')],
             'sea river beach mountains', 'sails', 'navigue'),
    'castle': ([('castle', 'castles'), ('fortress', 'fortresses')],
               [('château', 'châteaux', 'm'), ('château fort', 'châteaux forts', 'm'), ('forteresse', 'forteresses', 'f')],
               'hill woods mountains field sea river desert', 'stands', 'se dresse'),
    'bridge': ([('bridge', 'bridges'), ('stone bridge', 'stone bridges')],
               [('pont', 'ponts', 'm'), ('pont de pierre', 'ponts de pierre', 'm')],
               'river woods mountains sea park street', 'stands', 'se trouve'),
    'train': ([('train', 'trains'), ('steam train', 'steam trains')],
              [('train', 'trains', 'm'), ('train à vapeur', 'trains à vapeur', 'm')],
              'field mountains desert woods hill sea', 'passes', 'passe'),
    'city': ([('city', 'cities'), ('city skyline', 'city skylines')],
             [('ville', 'villes', 'f'), ('grande ville', 'grandes villes', 'f')],
             'sea river hill desert mountains field', 'stands', "s'élève"),
    'tent': ([('tent', 'tents'), ('camping tent', 'camping tents')],
             [('tente', 'tentes', 'f'), ('tente de camping', 'tentes de camping', 'f')],
             'woods beach field mountains desert river hill', 'stands', 'est plantée'),
    'tree': ([('tree', 'trees'), ('big tree', 'big trees')],
             [('arbre', 'arbres', 'm'), ('grand arbre', 'grands arbres', 'm')],
             'field hill park desert street river mountains', 'grows', 'pousse'),
    'cat': ([('cat', 'cats'), ('kitten', 'kittens')],
            [('chat', 'chats', 'm'), ('chaton', 'chatons', 'm')],
            'street field park beach woods hill', 'sits', 'est assis'),
    'dog': ([('dog', 'dogs'), ('puppy', 'puppies')],
            [('chien', 'chiens', 'm'), ('chiot', 'chiots', 'm')],
            'street field park beach woods hill mountains', 'waits', 'attend'),
    'bird': ([('bird', 'birds'), ('small bird', 'small birds')],
             [('oiseau', 'oiseaux', 'm'), ('petit oiseau', 'petits oiseaux', 'm')],
             'woods park beach river field sea mountains', 'sings', 'chante'),
    'fire': ([('campfire', 'campfires'), ('fire', 'fires'), ('bonfire', 'bonfires')],
             [('feu de camp', 'feux de camp', 'm'), ('feu', 'feux', 'm'), ('feu de bois', 'feux de bois', 'm')],
             'woods beach field desert mountains river hill', 'burns', 'brûle'),
    'windmill': ([('windmill', 'windmills'), ('mill', 'mills')],
                 [('moulin à vent', 'moulins à vent', 'm'), ('moulin', 'moulins', 'm')],
                 'field hill sea river mountains beach', 'turns', 'tourne'),
    'car': ([('car', 'cars'), ('automobile', 'automobiles')],
            [('voiture', 'voitures', 'f'), ('automobile', 'automobiles', 'f')],
            'street desert field beach mountains woods hill', 'drives', 'roule'),
    'church': ([('church', 'churches'), ('chapel', 'chapels')],
               [('église', 'églises', 'f'), ('chapelle', 'chapelles', 'f')],
               'hill field mountains street woods sea', 'stands', 'se dresse'),
    'flower': ([('flower', 'flowers')], [('fleur', 'fleurs', 'f')],
               'field park woods hill desert mountains river', 'blooms', 'fleurit'),
    'horse': ([('horse', 'horses'), ('pony', 'ponies')],
              [('cheval', 'chevaux', 'm'), ('poney', 'poneys', 'm')],
              'field beach desert hill woods mountains river', 'stands', 'se tient'),
    'balloon': ([('hot-air balloon', 'hot-air balloons'), ('balloon', 'balloons')],
                [('montgolfière', 'montgolfières', 'f'), ('ballon à air chaud', 'ballons à air chaud', 'm')],
                'field mountains desert sea hill river street beach', 'floats', 'flotte'),
    'waterfall': ([('waterfall', 'waterfalls'), ('cascade', 'cascades')],
                  [('cascade', 'cascades', 'f'), ("chute d'eau", "chutes d'eau", 'f')],
                  'woods mountains river hill desert', 'falls', 'tombe'),
    'fountain': ([('fountain', 'fountains'), ('water fountain', 'water fountains')],
                 [('fontaine', 'fontaines', 'f'), ("jet d'eau", "jets d'eau", 'm')],
                 'park street field hill beach', 'flows', 'coule'),
}
_COUNTED = ('boat', 'tent', 'tree', 'cat', 'dog', 'bird', 'flower', 'balloon', 'horse')
_NUMBER = {'en': {2: ['two'], 3: ['three']}, 'fr': {2: ['deux'], 3: ['trois']}}

# ---------------------------------------------------------------- the rest of a scene
# 'en'/'fr': bare words for lists; then phrases. '@' in a French phrase agrees with the subject.
SETTINGS = {
    'woods': {'en': ['woods', 'forest'], 'fr': ['bois', 'forêt']},
    'beach': {'en': ['beach', 'sandy beach'], 'fr': ['plage', 'plage de sable']},
    'desert': {'en': ['desert', 'sand dunes'], 'fr': ['désert', 'dunes de sable']},
    'field': {'en': ['field', 'meadow'], 'fr': ['champ', 'prairie']},
    'sea': {'en': ['sea', 'ocean'], 'fr': ['mer', 'océan']},
    'street': {'en': ['street', 'town street'], 'fr': ['rue', 'rue de village']},
    'mountains': {'en': ['mountains', 'snow-capped mountains'], 'fr': ['montagnes', 'montagnes enneigées']},
    'park': {'en': ['park', 'garden'], 'fr': ['parc', 'jardin']},
    'river': {'en': ['river', 'stream'], 'fr': ['rivière', 'ruisseau']},
    'hill': {'en': ['hill', 'green hill'], 'fr': ['colline', 'colline verte']},
}
_PLACE = {
    'woods': {'en': ['in the woods', 'in a forest', 'in the forest', 'among pine trees', 'deep in the woods'],
              'fr': ['dans les bois', 'dans la forêt', 'dans une forêt', 'au milieu des sapins', 'en forêt']},
    'beach': {'en': ['on the beach', 'on a beach', 'on a sandy beach', 'at the beach'],
              'fr': ['sur la plage', 'sur une plage', 'sur une plage de sable', 'à la plage']},
    'desert': {'en': ['in the desert', 'in a desert', 'among sand dunes', 'on desert sand'],
               'fr': ['dans le désert', 'dans un désert', 'au milieu des dunes', 'sur le sable du désert']},
    'field': {'en': ['in a field', 'in a meadow', 'in the fields', 'in the countryside'],
              'fr': ['dans un champ', 'dans une prairie', 'dans les champs', 'à la campagne']},
    'sea': {'en': ['by the sea', 'by the ocean', 'near the sea', 'in front of the sea'],
            'fr': ['au bord de la mer', "au bord de l'océan", 'près de la mer', 'devant la mer']},
    'street': {'en': ['in the street', 'in a street', 'in a town street', 'between the houses'],
               'fr': ['dans la rue', 'dans une rue', 'dans une rue de village', 'entre les maisons']},
    'mountains': {'en': ['in the mountains', 'surrounded by snow-capped mountains', 'in front of snowy peaks',
                         'surrounded by mountains', 'with snow-capped mountains behind'],
                  'fr': ['dans les montagnes', 'entouré@ de montagnes enneigées', 'devant des sommets enneigés',
                         'entouré@ de montagnes', 'au pied des montagnes enneigées', 'à la montagne']},
    'park': {'en': ['in the park', 'in a park', 'in a garden', 'in a city park'],
             'fr': ['dans le parc', 'dans un parc', 'dans un jardin', 'dans un parc public']},
    'river': {'en': ['by the river', 'by a river', 'beside a stream', 'on the bank of a river'],
              'fr': ['au bord de la rivière', "au bord d'une rivière", "près d'un ruisseau", "sur la rive d'une rivière"]},
    'hill': {'en': ['on a hill', 'on the hill', 'on top of a hill', 'on a green hill'],
             'fr': ['sur une colline', 'sur la colline', "au sommet d'une colline", 'sur une colline verte']},
}
_PLACE_OF = {  # where the plain phrase would be wrong
    ('boat', 'sea'): {'en': ['on the sea', 'at sea', 'on the ocean'], 'fr': ['sur la mer', 'en mer', "sur l'océan"]},
    ('boat', 'river'): {'en': ['on the river', 'on a river'], 'fr': ['sur la rivière', 'sur une rivière']},
    ('boat', 'beach'): {'en': ['near the beach', 'off a sandy beach'], 'fr': ['près de la plage', "au large d'une plage"]},
    ('bridge', 'river'): {'en': ['over the river', 'over a river'], 'fr': ['sur la rivière', "au-dessus d'une rivière"]},
    ('bridge', 'sea'): {'en': ['over the sea', 'by the sea'], 'fr': ['au-dessus de la mer', 'au bord de la mer']},
    ('balloon', 'sea'): {'en': ['over the sea', 'above the sea'], 'fr': ['au-dessus de la mer', 'sur la mer']},
    ('balloon', 'desert'): {'en': ['over the desert', 'above sand dunes'],
                            'fr': ['au-dessus du désert', 'au-dessus des dunes']},
    ('balloon', 'field'): {'en': ['over a field', 'above the fields'],
                           'fr': ["au-dessus d'un champ", 'au-dessus des champs']},
    ('balloon', 'mountains'): {'en': ['over the mountains', 'above snow-capped mountains'],
                               'fr': ['au-dessus des montagnes', 'au-dessus des montagnes enneigées']},
    ('balloon', 'hill'): {'en': ['over a hill', 'above a green hill'],
                          'fr': ["au-dessus d'une colline", "au-dessus d'une colline verte"]},
    ('balloon', 'river'): {'en': ['over the river', 'above a river'],
                           'fr': ['au-dessus de la rivière', "au-dessus d'une rivière"]},
    ('balloon', 'street'): {'en': ['over the street', 'above the houses'],
                            'fr': ['au-dessus de la rue', 'au-dessus des maisons']},
    ('balloon', 'beach'): {'en': ['over the beach', 'above a sandy beach'],
                           'fr': ['au-dessus de la plage', "au-dessus d'une plage"]},
}
WEATHER = {
    'clear': {'en': ['clear sky', 'blue sky'], 'fr': ['ciel clair', 'beau temps']},
    'cloudy': {'en': ['clouds', 'cloudy'], 'fr': ['nuages', 'nuageux']},
    'rain': {'en': ['rain', 'rainy'], 'fr': ['pluie', 'temps de pluie']},
    'storm': {'en': ['storm', 'lightning'], 'fr': ['orage', 'éclair']},
    'snow': {'en': ['snow', 'snowfall'], 'fr': ['neige', 'chute de neige']},
    'fog': {'en': ['fog', 'mist'], 'fr': ['brouillard', 'brume']},
}
_SKY = {
    'clear': {'en': ['under a clear sky', 'in fine weather', 'under a cloudless sky'],
              'fr': ['sous un ciel clair', 'par beau temps', 'sous un ciel sans nuages']},
    'cloudy': {'en': ['under a cloudy sky', 'under grey clouds', 'in cloudy weather'],
               'fr': ['sous un ciel nuageux', 'sous des nuages gris', 'par temps couvert']},
    'rain': {'en': ['in the rain', 'under the rain', 'in rainy weather', 'while it rains'],
             'fr': ['sous la pluie', 'sous une pluie battante', 'par temps de pluie', 'pendant la pluie']},
    'storm': {'en': ['in a storm', 'during a thunderstorm', 'in a storm with lightning'],
              'fr': ["sous l'orage", 'pendant un orage', 'dans la tempête']},
    'snow': {'en': ['in the snow', 'under the snow', 'under falling snow', 'while it snows', 'covered in snow'],
             'fr': ['sous la neige', 'dans la neige', 'sous les flocons', 'pendant une chute de neige', 'couvert@ de neige']},
    'fog': {'en': ['in the fog', 'in the mist', 'in thick fog'],
            'fr': ['dans le brouillard', 'dans la brume', 'dans un épais brouillard']},
}
_IT_IS = {
    'clear': {'en': ['the sky is clear', 'the weather is fine'], 'fr': ['il fait beau', 'le ciel est clair']},
    'cloudy': {'en': ['the sky is cloudy', 'it is cloudy'], 'fr': ['le ciel est nuageux', 'le ciel est couvert']},
    'rain': {'en': ['it is raining', 'rain is falling'], 'fr': ['il pleut', 'la pluie tombe']},
    'storm': {'en': ['a storm is raging', 'lightning strikes'], 'fr': ["l'orage gronde", "c'est la tempête"]},
    'snow': {'en': ['it is snowing', 'snow is falling'], 'fr': ['il neige', 'la neige tombe']},
    'fog': {'en': ['it is foggy', 'there is fog'], 'fr': ['il y a du brouillard', 'la brume est épaisse']},
}
_WEATHER_ADJ = {
    'clear': {'en': ['clear'], 'fr': ['claire']}, 'cloudy': {'en': ['cloudy', 'overcast'], 'fr': ['nuageuse']},
    'rain': {'en': ['rainy', 'wet'], 'fr': ['pluvieuse']}, 'storm': {'en': ['stormy'], 'fr': ['orageuse']},
    'snow': {'en': ['snowy'], 'fr': ['enneigée', 'neigeuse']}, 'fog': {'en': ['foggy', 'misty'], 'fr': ['brumeuse']},
}
TIMES = {
    'day': {'en': ['day', 'daytime'], 'fr': ['jour', 'plein jour']},
    'sunrise': {'en': ['sunrise', 'dawn'], 'fr': ['lever du soleil', 'aube']},
    'sunset': {'en': ['sunset', 'dusk'], 'fr': ['coucher du soleil', 'crépuscule']},
    'night': {'en': ['night', 'moonlight'], 'fr': ['nuit', 'clair de lune']},
}
_WHEN = {
    'day': {'en': ['during the day', 'in daylight', 'by day'], 'fr': ['en plein jour', 'le jour', 'pendant la journée']},
    'sunrise': {'en': ['at sunrise', 'at dawn', 'in the early morning'],
                'fr': ['au lever du soleil', "à l'aube", 'au petit matin']},
    'sunset': {'en': ['at sunset', 'at dusk', 'in the evening'],
               'fr': ['au coucher du soleil', 'au crépuscule', 'le soir']},
    'night': {'en': ['at night', 'by night', 'in the moonlight'], 'fr': ['la nuit', 'de nuit', 'au clair de lune']},
}
_MOMENT = {  # feminine in French
    'day': {'en': ['day'], 'fr': ['journée']}, 'sunrise': {'en': ['morning', 'sunrise'], 'fr': ['aube', 'matinée']},
    'sunset': {'en': ['evening', 'sunset'], 'fr': ['soirée']}, 'night': {'en': ['night'], 'fr': ['nuit']},
}
SEASONS = {
    'spring': {'en': ['spring'], 'fr': ['printemps']}, 'summer': {'en': ['summer'], 'fr': ['été']},
    'autumn': {'en': ['autumn', 'fall'], 'fr': ['automne']}, 'winter': {'en': ['winter'], 'fr': ['hiver']},
}
_IN_SEASON = {
    'spring': {'en': ['in spring', 'in springtime'], 'fr': ['au printemps']},
    'summer': {'en': ['in summer', 'in summertime'], 'fr': ['en été', "pendant l'été"]},
    'autumn': {'en': ['in autumn', 'in the fall'], 'fr': ['en automne', "à l'automne"]},
    'winter': {'en': ['in winter', 'in wintertime'], 'fr': ['en hiver', "pendant l'hiver"]},
}
# French adjectives: masculine, feminine, masculine plural, feminine plural
_MOODS = {
    'happy': (['happy', 'cheerful', 'joyful'],
              [('joyeux', 'joyeuse', 'joyeux', 'joyeuses'), ('gai', 'gaie', 'gais', 'gaies')]),
    'gloomy': (['gloomy', 'dark', 'sad'],
               [('sombre', 'sombre', 'sombres', 'sombres'), ('triste', 'triste', 'tristes', 'tristes')]),
    'warm': (['warm', 'cosy', 'cozy'],
             [('chaleureux', 'chaleureuse', 'chaleureux', 'chaleureuses'),
              ('accueillant', 'accueillante', 'accueillants', 'accueillantes')]),
    'calm': (['serene', 'calm', 'peaceful', 'quiet'],
             [('serein', 'sereine', 'sereins', 'sereines'), ('calme', 'calme', 'calmes', 'calmes'),
              ('paisible', 'paisible', 'paisibles', 'paisibles')]),
    'lively': (['lively', 'busy', 'bustling'],
               [('animé', 'animée', 'animés', 'animées'), ('vivant', 'vivante', 'vivants', 'vivantes')]),
}
MOODS = {k: {'en': en, 'fr': [a[0] for a in fr]} for k, (en, fr) in _MOODS.items()}
STYLES = {
    'flat': {'en': ['flat drawing', 'simple illustration'], 'fr': ['dessin simple', 'illustration simple']},
    'sketch': {'en': ['sketch', 'pencil drawing'], 'fr': ['croquis', 'dessin au crayon']},
    'watercolour': {'en': ['watercolour', 'watercolor painting'], 'fr': ['aquarelle', "peinture à l'aquarelle"]},
}
_FR_FEMININE = {'illustration simple', 'aquarelle', "peinture à l'aquarelle"}
_COLOURS = {
    'red': ('red', ('rouge', 'rouge', 'rouges', 'rouges')),
    'blue': ('blue', ('bleu', 'bleue', 'bleus', 'bleues')),
    'yellow': ('yellow', ('jaune', 'jaune', 'jaunes', 'jaunes')),
    'green': ('green', ('vert', 'verte', 'verts', 'vertes')),
    'orange': ('orange', ('orange', 'orange', 'orange', 'orange')),
    'pink': ('pink', ('rose', 'rose', 'roses', 'roses')),
    'purple': ('purple', ('violet', 'violette', 'violets', 'violettes')),
    'white': ('white', ('blanc', 'blanche', 'blancs', 'blanches')),
    'black': ('black', ('noir', 'noire', 'noirs', 'noires')),
    'brown': ('brown', ('marron', 'marron', 'marron', 'marron')),
    'grey': ('grey', ('gris', 'grise', 'gris', 'grises')),
}
COLOURS = {k: {'en': [en], 'fr': [fr[0]]} for k, (en, fr) in _COLOURS.items()}
# colours a subject can have; the first ones are what the painter takes when none is said
COLOURS_OF = {
    'boat': 'white red blue yellow', 'tent': 'orange red blue green', 'cat': 'orange black grey white',
    'dog': 'brown black white', 'bird': 'red blue yellow', 'car': 'red blue yellow green white',
    'flower': 'red pink yellow purple blue', 'horse': 'brown white black', 'balloon': 'red blue yellow purple orange',
    'train': 'red blue green black', 'lighthouse': 'red blue',
}
COLOURS_OF = {k: v.split() for k, v in COLOURS_OF.items()}
SUBJECTS = {k: {'en': [n for n, _ in v[0]], 'fr': [n for n, _, _ in v[1]]} for k, v in _SUBJECTS.items()}
SETTINGS_OF = {k: v[2].split() for k, v in _SUBJECTS.items()}
_WARM = ('cabin', 'tent', 'fire', 'church', 'castle', 'market', 'lighthouse', 'train')
_LIVELY = ('market', 'city', 'fountain', 'bridge')
_KEYS = ('subject', 'setting', 'weather', 'time', 'season', 'mood', 'style', 'count', 'colour')


# ---------------------------------------------------------------- scenes
def is_held_out(scene):
    """True for the tenth of the combinations that training never shows. What is not said counts
    as what the painter draws then. The two course pictures stay inside the training world."""
    s, p = scene['subject'], scene['setting'] or 'none'
    w, t = scene['weather'] or 'clear', scene['time'] or 'day'
    if (s, p) in (('cabin', 'woods'), ('lake', 'mountains')):
        return False
    return zlib.crc32(('%s|%s|%s|%s' % (s, p, w, t)).encode()) % 10 == 3


def _pick(rng, values, weights=None):
    if weights is None:
        return values[int(rng.integers(len(values)))]
    weights = np.asarray(weights, float)
    return values[int(rng.choice(len(values), p=weights / weights.sum()))]


def _draw(rng):
    subject = _pick(rng, list(_SUBJECTS))
    scene = dict.fromkeys(_KEYS)
    scene['subject'] = subject
    scene['setting'] = None if rng.random() < 0.08 else _pick(rng, SETTINGS_OF[subject])
    if rng.random() < 0.5:
        scene['weather'] = _pick(rng, list(WEATHER), [2, 1.5, 2, 1, 2.5, 1.2])
        if scene['weather'] == 'snow' and scene['setting'] in ('desert', 'beach'):
            scene['weather'] = None
    if rng.random() < 0.6:
        scene['time'] = _pick(rng, list(TIMES), [1, 1.6, 1.6, 1.8])
        if scene['weather'] in ('rain', 'storm') and scene['time'] in ('sunrise', 'sunset'):
            scene['weather'] = None
    if rng.random() < 0.3 and scene['setting'] not in ('desert', 'beach', 'sea'):
        season = _pick(rng, list(SEASONS), [1, 0.6, 1.2, 1])
        if scene['weather'] == 'snow' and season != 'winter' or subject == 'flower' and season == 'winter':
            season = None
        scene['season'] = season
    if subject == 'flower' and scene['weather'] == 'snow':
        scene['weather'] = None
    if rng.random() < 0.35:
        moods = ['happy', 'gloomy', 'calm'] + ['warm'] * (2 * (subject in _WARM)) + ['lively'] * (2 * (subject in _LIVELY))
        mood = _pick(rng, moods)
        if mood == 'happy' and scene['weather'] in ('storm', 'rain', 'fog') or subject == 'fire' and mood == 'gloomy':
            mood = None
        scene['mood'] = mood
    scene['style'] = _pick(rng, [None, 'flat', 'sketch', 'watercolour'], [0.5, 0.2, 0.14, 0.16])
    if subject in _COUNTED and rng.random() < 0.6:
        scene['count'] = _pick(rng, [1, 2, 3], [0.4, 0.3, 0.3])
    if subject in COLOURS_OF and rng.random() < 0.65:
        scene['colour'] = _pick(rng, COLOURS_OF[subject])
    course = rng.random()
    if course < 0.02:       # the world's two postcards are seen a little more often
        scene.update(subject='cabin', setting='woods', weather='snow', season=None, count=None, colour=None,
                     mood=_pick(rng, ['warm', 'warm', None]), style=_pick(rng, [None, 'flat']))
    elif course < 0.04:
        scene.update(subject='lake', setting='mountains', time='sunrise', season=None, count=None, colour=None,
                     weather=_pick(rng, ['clear', None]), mood=_pick(rng, ['calm', 'calm', None]),
                     style=_pick(rng, [None, 'flat']))
    return scene


def sample(rng, held_out=False):
    """A random scene, from the training part of the world or (held_out) from the rest."""
    while True:
        scene = _draw(rng)
        if is_held_out(scene) == held_out:
            return scene


# ---------------------------------------------------------------- captions
def _noun_phrase(scene, say, rng, lang, article):
    """The subject with its number, colour and mood; article: 'a', 'the' or ''.
    Returns the phrase and its French ending (gender and number: '', 'e', 's' or 'es')."""
    english, french = _SUBJECTS[scene['subject']][:2]
    count = scene['count'] or 1
    many = count > 1 or scene['subject'] == 'mountains'
    mood = scene['mood'] if 'mood' in say else None
    colour = scene['colour'] if 'colour' in say else None
    if lang == 'en':
        words = [_pick(rng, _MOODS[mood][0])] if mood else []
        words += [_COLOURS[colour][0]] if colour else []
        words.append(_pick(rng, english)[1 if many else 0])
        if count > 1:
            words.insert(0, _pick(rng, _NUMBER['en'][count]))
            return ('the ' if article == 'the' else '') + ' '.join(words), ''
        text = ' '.join(words)
        if article == 'a':
            text = text if many else ('an ' if text[0] in 'aeiou' else 'a ') + text
        elif article == 'the':
            text = 'the ' + text
        return text, ''
    single, plural, gender = _pick(rng, french)
    form = (2 if many else 0) + (gender == 'f')
    words = [plural if many else single]
    words += [_COLOURS[colour][1][form]] if colour else []
    words += [_pick(rng, _MOODS[mood][1])[form]] if mood else []
    text = ' '.join(words)
    if count > 1:
        text = _pick(rng, _NUMBER['fr'][count]) + ' ' + text
        text = 'les ' + text if article == 'the' else text
    elif article == 'a':
        text = ('des ' if many else 'une ' if gender == 'f' else 'un ') + text
    elif article == 'the':
        text = ('les ' if many else "l'" if text[0] in 'aeéiou' else 'la ' if gender == 'f' else 'le ') + text
    return text, ('e' if gender == 'f' else '') + ('s' if many else '')


def _de(text):
    """French 'de' before a noun phrase: d'un, d'une, d'oiseaux, de montagnes, du, des."""
    for start, new in (('des ', 'de '), ('les ', 'des '), ('le ', 'du ')):
        if text.startswith(start):
            rest = text[len(start):]
            return "d'" + rest if new == 'de ' and rest[0] in 'aeéiouh' else new + rest
    return ("d'" if text[0] in 'aeéiou' else 'de ') + text


def _words(scene, say, rng, lang):
    """What the templates are filled from: bare words, phrases, and the noun phrases."""
    def one(table, key):
        return _pick(rng, table[scene[key]][lang]) if key in say else ''
    w = {'a': None, 'the': None, 'bare': None}
    for article, name in (('a', 'a'), ('the', 'the'), ('', 'bare')):
        w[name], end = _noun_phrase(scene, say, rng, lang, article)
        w['end_' + name] = end
    place = _PLACE_OF.get((scene['subject'], scene['setting']), _PLACE.get(scene['setting']))
    w['place'] = _pick(rng, place[lang]) if 'setting' in say else ''
    white = scene['weather'] == 'snow' or scene['season'] == 'winter'
    if white and scene['setting'] == 'hill':        # no green hill under the snow
        w['place'] = w['place'].replace('green hill', 'hill').replace('colline verte', 'colline')
    w['sky'], w['when'], w['season'] = one(_SKY, 'weather'), one(_WHEN, 'time'), one(_IN_SEASON, 'season')
    w['it_is'] = one(_IT_IS, 'weather')
    w['verb'] = _SUBJECTS[scene['subject']][3 if lang == 'en' else 4]
    w['k_place'], w['k_sky'] = one(SETTINGS, 'setting'), one(WEATHER, 'weather')
    if white and scene['setting'] == 'hill':
        w['k_place'] = w['k_place'].replace('green hill', 'hill').replace('colline verte', 'colline')
    w['k_when'], w['k_season'] = one(TIMES, 'time'), one(SEASONS, 'season')
    w['style'] = one(STYLES, 'style')
    adjective = one(_WEATHER_ADJ, 'weather')
    moment = _pick(rng, _MOMENT[scene['time']][lang]) if 'time' in say else ''
    w['moment'] = ''
    if moment:
        if lang == 'en':
            text = _join([adjective, moment])
            w['moment'] = ('an ' if text[0] in 'aeiou' else 'a ') + text
        else:
            w['moment'] = ' '.join(x for x in ('une', moment, adjective) if x)
    return w


def _join(parts, sep=' '):
    return sep.join(p for p in parts if p)


def _tail(w, rng, skip=()):
    """place, weather, time, season in one of the usual orders."""
    order = _pick(rng, [('place', 'sky', 'when', 'season'), ('place', 'when', 'sky', 'season'),
                        ('place', 'season', 'sky', 'when'), ('sky', 'place', 'when', 'season')])
    return _join(w[k] for k in order if k not in skip)


def _list(w, rng):
    rest = [x for x in (w['k_place'], w['k_sky'], w['k_when'], w['k_season']) if x]
    if rng.random() < 0.5:
        rest = [rest[i] for i in rng.permutation(len(rest))]
    return rest


def _first(w, key, rng, skip, article='a'):
    """'at night, a cabin in the woods'; without that key just the noun phrase and its tail."""
    return _join([w[key], _join([w[article], _tail(w, rng, skip)])], ', ')


# One function a wording: w (words), r (rng) -> text. '@' agrees with the noun phrase used.
_ENGLISH = [
    lambda w, r: _join([w['a'], _tail(w, r)]),
    lambda w, r: _join([w['a'], _tail(w, r)]),
    lambda w, r: _join([w['bare'], _tail(w, r)]),
    lambda w, r: _join([w['the'], _tail(w, r)]),
    lambda w, r: ', '.join([w['bare']] + _list(w, r)),
    lambda w, r: ' '.join([w['bare']] + _list(w, r)),
    lambda w, r: _first(w, 'when', r, ('when',)),
    lambda w, r: _first(w, 'place', r, ('place',)),
    lambda w, r: _first(w, 'season', r, ('season',)),
    lambda w, r: _first(w, 'it_is', r, ('sky',)),
    lambda w, r: _first(w, 'moment', r, ('when', 'sky') if w['moment'] else ()),
    lambda w, r: 'there %s ' % ('are' if w['many'] else 'is') + _join([w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['we see', 'you can see', 'one can see', 'I see']), w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['a photo of', 'a photograph of', 'photo of']), w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['a picture of', 'an image of', 'picture of']), w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['a drawing of', 'an illustration of', 'a painting of']), w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['draw', 'show me', 'paint', 'I want']), w['a'], _tail(w, r)]),
    lambda w, r: _join([w['a'], w['verb_n'], _tail(w, r)]),
    lambda w, r: _join([w['the'], w['verb_n'], _join([w['place'], w['when']]) ]) + (', ' + w['it_is'] if w['it_is'] else ''),
    lambda w, r: _join([w['a'], _join([w['place'], w['sky']])]) + (', ' + w['k_when'] if w['k_when'] else ''),
    lambda w, r: _join([_join([w['a'], w['place']])] + [x for x in (w['k_sky'], w['k_when'], w['k_season']) if x], ', '),
    lambda w, r: _join([_join([w['a'], w['sky']]), w['place'], _join([w['when'], w['season']])], ', '),
    lambda w, r: _join(['a scene with', w['a'], _tail(w, r)]),
]
_ENGLISH_HELD_OUT = [
    lambda w, r: _join(['a postcard showing', w['a'], _tail(w, r)]),
    lambda w, r: _join(['look at', w['the'], _tail(w, r)]),
    lambda w, r: _join(['here is', w['a'], _tail(w, r)]),
    lambda w, r: _join(['this shows', w['a'], _tail(w, r)]),
    lambda w, r: _join(['a beautiful view of', w['a'], _tail(w, r)]),
]
_FRENCH = [
    lambda w, r: _join([w['a'], _tail(w, r)]),
    lambda w, r: _join([w['a'], _tail(w, r)]),
    lambda w, r: _join([w['bare'], _tail(w, r)]),
    lambda w, r: _join([w['the'], _tail(w, r)]),
    lambda w, r: ', '.join([w['bare']] + _list(w, r)),
    lambda w, r: ' '.join([w['bare']] + _list(w, r)),
    lambda w, r: _first(w, 'when', r, ('when',)),
    lambda w, r: _first(w, 'place', r, ('place',)),
    lambda w, r: _first(w, 'season', r, ('season',)),
    lambda w, r: _first(w, 'it_is', r, ('sky',)),
    lambda w, r: _first(w, 'moment', r, ('when', 'sky') if w['moment'] else ()),
    lambda w, r: _join(['il y a', w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['on voit', 'nous voyons', 'on aperçoit', 'je vois']), w['a'], _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['une photo', 'une photographie', 'photo']), _de(w['a']), _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['une image', 'image', "l'image"]), _de(w['a']), _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['un dessin', 'une illustration', 'une peinture', 'dessin']), _de(w['a']), _tail(w, r)]),
    lambda w, r: _join([_pick(r, ['dessine', 'montre-moi', 'peins', 'je veux']), w['a'], _tail(w, r)]),
    lambda w, r: _join([w['a'], w['verb_n'], _tail(w, r)]),
    lambda w, r: _join([w['the'], w['verb_n'], _join([w['place'], w['when']])]) + (', ' + w['it_is'] if w['it_is'] else ''),
    lambda w, r: _join([w['a'], _join([w['place'], w['sky']])]) + (', ' + w['k_when'] if w['k_when'] else ''),
    lambda w, r: _join([_join([w['a'], w['place']])] + [x for x in (w['k_sky'], w['k_when'], w['k_season']) if x], ', '),
    lambda w, r: _join([_join([w['a'], w['sky']]), w['place'], _join([w['when'], w['season']])], ', '),
    lambda w, r: _join(['une scène avec', w['a'], _tail(w, r)]),
]
_FRENCH_HELD_OUT = [
    lambda w, r: _join(['une carte postale qui montre', w['a'], _tail(w, r)]),
    lambda w, r: _join(['regarde', w['the'], _tail(w, r)]),
    lambda w, r: _join(['voici', w['a'], _tail(w, r)]),
    lambda w, r: _join(['ceci montre', w['a'], _tail(w, r)]),
    lambda w, r: _join(['une belle vue', _de(w['a']), _tail(w, r)]),
]
TEMPLATES = {('en', False): _ENGLISH, ('en', True): _ENGLISH_HELD_OUT,
             ('fr', False): _FRENCH, ('fr', True): _FRENCH_HELD_OUT}
COURSE = ('Une cabane chaleureuse dans les bois sous la neige.',
          'A serene lake surrounded by snow-capped mountains at sunrise',
          'Un marché animé avec des conversations.')


def plain(text):
    """A caption without case, punctuation and spacing, to compare two of them."""
    return re.sub(r'[\W_]+', ' ', text.casefold()).strip()


_COURSE_PLAIN = {plain(c) for c in COURSE}
_VERB_PLURAL = {'se trouve': 'se trouvent', 'navigue': 'naviguent', 'est plantée': 'sont plantées', 'pousse': 'poussent',
                'est assis': 'sont assis', 'attend': 'attendent', 'chante': 'chantent', 'fleurit': 'fleurissent',
                'se tient': 'se tiennent', 'flotte': 'flottent', 'se dressent': 'se dressent'}


def _verb(verb, many, lang, subject):
    if not many or subject == 'mountains':
        return verb
    if lang == 'en':
        return verb[:-1]        # all of them end in a plain -s
    return _VERB_PLURAL[verb]


def _styled(text, w, rng, lang, template):
    """Put the style into a caption: 'a watercolour of ...' or '..., watercolour'."""
    style = w['style']
    if not style:
        return text
    if template < 2 and text.startswith(w['a']) and rng.random() < 0.6:
        if lang == 'en':
            return _join([_pick(rng, [('an ' if style[0] in 'aeiou' else 'a ') + style, style]), 'of', text])
        return _join([_pick(rng, [('une ' if style in _FR_FEMININE else 'un ') + style, style]), _de(text)])
    if rng.random() < 0.2:
        return style + ', ' + text
    if lang == 'en':
        return text + _pick(rng, [', ', ', ', ', in the style of a ', ' as a ']) + style
    return text + _pick(rng, [', ', ', ', ', style ']) + style


def strange(text, rng):
    """The caption with one to three words of random letters somewhere, mostly before it."""
    words = text.split(" ")
    for _ in range(rng.integers(1, 4)):
        letters = rng.integers(ord("a"), ord("z") + 1, rng.integers(2, 9))
        words.insert(0 if rng.random() < 0.6 else rng.integers(len(words) + 1),
                     "".join(map(chr, letters)))
    return " ".join(words)


def caption(scene, rng, lang, held_out=False):
    """One way to say the scene in 'en' or 'fr'; held_out: one of the wordings kept for testing."""
    many = (scene['count'] or 1) > 1 or scene['subject'] == 'mountains'
    templates = TEMPLATES[lang, held_out]
    while True:
        chance = _pick(rng, [1.0, 0.8, 0.5], [0.4, 0.4, 0.2])
        say = {k for k in _KEYS[1:] if scene[k] is not None and rng.random() < chance}
        w = _words(scene, say, rng, lang)
        w['many'], w['verb_n'] = many, _verb(w['verb'], many, lang, scene['subject'])
        t = int(rng.integers(len(templates)))
        end = w['end_a']
        text = templates[t](w, rng)
        used = 'the' if w['the'] in text else 'a' if w['a'] in text else 'bare'
        end = w['end_' + used]
        text = _styled(text, w, rng, lang, 2 if held_out else t).replace('@', end)
        case, stop = rng.random(), rng.random()
        if case < 0.45:
            text = text[0].upper() + text[1:]
        elif case > 0.97:
            text = text.upper() if rng.random() < 0.3 else text.title() if lang == 'en' else text
        if stop < 0.35:
            text += '.'
        if held_out or plain(text) not in _COURSE_PLAIN:
            return text


# ---------------------------------------------------------------- pictures and sounds
_SOUND_OF_SUBJECT = {
    'market': ['market', 'conversation'], 'city': ['engine', 'siren'], 'lighthouse': ['sea', 'foghorn'], 'train': ['train'],
    'cat': ['cat'], 'dog': ['dog'], 'bird': ['birds'], 'fire': ['fire'], 'church': ['bell'], 'car': ['engine'],
    'horse': ['horse'], 'waterfall': ['waterfall'], 'fountain': ['stream'], 'windmill': ['wind'], 'balloon': ['wind'],
    'mountains': ['wind'], 'lake': ['frogs', 'birds'], 'boat': ['sea'], 'bridge': ['stream'], 'cabin': ['fire'],
    'tree': ['birds'], 'tent': ['crickets'], 'castle': ['wind'], 'flower': ['birds']}
_SOUND_OF_SETTING = {'woods': ['birds'], 'beach': ['sea', 'gulls'], 'desert': ['wind'], 'field': ['birds'], 'sea': ['sea', 'gulls'],
                     'street': ['footsteps'], 'mountains': ['wind'], 'park': ['birds', 'children'], 'river': ['stream'],
                     'hill': ['wind']}
_SOUND_OF_WEATHER = {'rain': ['rain'], 'storm': ['thunder', 'rain'], 'snow': ['wind'], 'fog': [], 'cloudy': ['wind']}


def SOUNDS_OF(scene):
    """The keys of sounds.py that belong to a scene, the subject's own first, without repeats."""
    keys = list(_SOUND_OF_SUBJECT.get(scene['subject'], []))
    keys += _SOUND_OF_WEATHER.get(scene['weather'], [])
    keys += _SOUND_OF_SETTING.get(scene['setting'], [])
    if scene['subject'] == 'boat' and scene['setting'] == 'river':
        keys.remove('sea')
    if scene['time'] == 'night':
        keys = [k for k in keys if k not in ('birds', 'gulls', 'children') or k == 'birds' and scene['subject'] == 'bird']
        keys += ['owl'] if scene['setting'] == 'woods' else []
        keys += ['crickets'] if scene['weather'] in (None, 'clear') and scene['season'] != 'winter' else []
    return list(dict.fromkeys(keys))


# ---------------------------------------------------------------- check
def _check(n=2000):
    rng = np.random.default_rng(1)
    common = r"None|  |@| ,|,,|^\W|,$|, ?\.|"
    bad = {'en': re.compile(common + r"\ba [aeiou]|\ban [^aeiou]", re.I),
           'fr': re.compile(common + r"\bde (un|une|des|le|les)\b|\b[ldj][ea] [aeéiou]|\bl'(un|une) ", re.I)}
    train, test = set(), set()
    for held in (False, True):
        for lang in ('en', 'fr'):
            for _ in range(n):
                scene = sample(rng, held)
                assert is_held_out(scene) == held
                text = caption(scene, rng, lang, held)
                assert not bad[lang].search(text), text
                assert held or plain(text) not in _COURSE_PLAIN, text
                (test if held else train).add(plain(text))
    assert len(SUBJECTS) == 24
    share = np.mean([is_held_out(_draw(rng)) for _ in range(4000)])
    print('%d training and %d test captions differ, %d in both; %.1f %% of the scenes are held out'
          % (len(train), len(test), len(train & test), 100 * share))


if __name__ == '__main__':
    r = np.random.default_rng(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    for held in (False, True):
        for _ in range(16):
            s = sample(r, held)
            print(', '.join(str(v) for v in s.values() if v is not None))
            print('    ' + caption(s, r, 'en', held) + '\n    ' + caption(s, r, 'fr', held))
    _check()
