"""Makes tests/tok/ again: small tokenizers of each kind and layout, texts, and the reference's ids.

    python tests/tok.py               for developers; the tests read only what it wrote

clip/ and roberta/ have vocab.json and merges.txt, clip-new/ and roberta-new/ what transformers 5
saves of them.  texts.json: texts in many scripts and of every awkward kind, with their ids.
variants.json: files laid beside a vocabulary, texts, and the ids that transformers then gives.
"""
import json
import os
import random
import shutil
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, RobertaTokenizer

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tok")

SENTENCES = """
A serene lake surrounded by snow-capped mountains at sunrise, 4k, highly detailed
a photo of a cat sitting on a windowsill, it's raining outside and she'll be back
The quick brown fox jumps over the lazy dog; they're late, I've seen 1,234.56 of them!
a dog barks, birds sing, thunder rolls in the distance and someone's playing the piano
an astronaut riding a horse on mars, artstation, oil painting by claude monet
Une cabane chaleureuse dans les bois sous la neige.
Un marché animé avec des conversations, l'été, à Orléans; où êtes-vous, cœur naïf ?
Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich. STRASSE, Straße, ẞ
El pingüino Wenceslao hizo kilómetros bajo exhaustiva lluvia y frío. ¿Qué? ¡Añoraba!
Luís argüia à Júlia que brações, fé, chá, óxido, pôr, zângão eram palavras do português
Høj bly gom vandt fræk sexquiz på wc; på Åland, blåbærsyltetøy og ørret
Pchnąć w tę łódź jeża lub ośm skrzyń fig. Zażółć gęślą jaźń
Příliš žluťoučký kůň úpěl ďábelské ódy; ŠČŘŽÝÁÍÉ
Árvíztűrő tükörfúrógép, ősz és tűz
Pijamalı hasta yağız şoföre çabucak güvendi. İSTANBUL, ISPARTA, ığdır
Kæmi ný öxi hér, ykist þjófum nú bæði víl og ádrepa. ÞÆÖ
Do bạch kim rất quý nên sẽ dùng để lắp vô xương; Tiếng Việt, người, ế ệ ỡ
Ξεσκεπάζω την ψυχοφθόρα βδελυγμία. ΟΔΥΣΣΕΥΣ ΣΑΣ, ὁ ἄνθρωπος, ᾧ, ΐ
Съешь же ещё этих мягких французских булок, да выпей чаю. ЁЖИК, йод
Щебетанье птиц в лесу у озера, їжак і ґанок, љубав и џеп
Ծիածանի յոթ գույները, ԲԱՐԵՎ, և ուրիշներ
ჩვენ გვიყვარს ზღვა და მთა, ᲗᲑᲘᲚᲘᲡᲘ
דג סקרן שט בים מאוכזב ולפתע מצא חברה, שָׁלוֹם עוֹלָם
نص حكيم له سر قاطع وذو شأن عظيم، مَرْحَبًا بِالعَالَم ٠١٢٣٤٥
گربه‌ای روی دیوار نشسته است، می‌خواهم چای بنوشم ۱۲۳
ویڈیو میں ایک بلی ہے، اردو زبان
सभी मनुष्यों को गौरव और अधिकारों के मामले में स्वतन्त्रता प्राप्त है। क्षेत्र, हिन्दी, क़िला १२३
আমার সোনার বাংলা, আমি তোমায় ভালোবাসি। ড় য়
ਸਤਿ ਸ੍ਰੀ ਅਕਾਲ, ਪੰਜਾਬੀ; ગુજરાતી ભાષા, નમસ્તે
தமிழ் மொழி, வணக்கம் உலகம், கொக்கு
తెలుగు భాష, నమస్కారం; ಕನ್ನಡ ನಾಡು, ಕೊಡು; മലയാളം, നമസ്കാരം
සිංහල භාෂාව, ආයුබෝවන්
เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน น้ำ ๑๒๓
ສະບາຍດີຊາວໂລກ, ພາສາລາວ; ភាសាខ្មែរ សួស្តី; မြန်မာဘာသာ မင်္ဂလာပါ
བོད་སྐད། བཀྲ་ཤིས་བདེ་ལེགས།
いろはにほへと ちりぬるを。ガギグゲゴ パピプペポ ｶﾞｷﾞ 東京タワーの写真、２０２４年
雪山环绕的宁静湖泊，日出时分，倒影清晰。漢字與简体字、〇一二三
다람쥐 헌 쳇바퀴에 타고파. 키스의 고유조건은 입술끼리 만나야 하고
አማርኛ፣ ሰላም ለዓለም፤ ፩፪፫
ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ, ꭲꮀ; ᐃᓄᒃᑎᑐᑦ; ⵜⴰⵎⴰⵣⵉⵖⵜ
Монгол хэл ᠮᠣᠩᠭᠣᠯ; ߒߞߏ; ދިވެހި; ⲘⲈⲦⲢⲈⲘⲚⲬⲎⲘⲒ
𐐔𐐇𐐝𐐀𐐡𐐇𐐓 𐐨𐐩; 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛; 𠜎𠜱𠝹
😀 grinning, 👩‍👩‍👧‍👦 family, 🏳️‍🌈 flag, 🇫🇷🇯🇵, 👍🏽, ❤️, 1️⃣ #️⃣
½ ¼ ² ³ Ⅷ ⅷ ① ㊿ ٤ ۵ ໕ ꧕ 𝟘 ½cup x² H₂O
""".strip().split("\n")

AWKWARD = [
    "", " ", "   ", "\t", "\n", " \n\t \r\n ", "\u3000", "\u00a0\u2003", "a", "A", "1", "!", "'",
    "''", "é", "e\u0301", "E\u0301", "\u0301", "\u0301\u0301", "\u0301e",
    "a\u0323\u0307 a\u0307\u0323 \u1ea1\u0307", "\u212b \u2126 \u212a \u1e9b\u0323",
    "\u0958 \u0929 \u09dc \ufb1d \ufb4e \u2adc", "\u0344 \u0340 \u0343 \u0374",
    "\U0001d15e \U0001d1bb\U0001d16f \U0002f800 \uf900 \ufa10",
    "\u1100\u1161\u11a8 \uac00\u11a8 \u1100\uac00\u11a8",
    "\u1100\u1161\u11a7 \u1112\u1175\u11c2\u11c2 \u1161\u11a8",
    "\u0b47\u0b3e \u0b47\u0b56 \u09c7\u09be \U00011099\U000110ba",
    "q\u0307\u0323 q\u0323\u0307 \u0f71\u0f72\u0f74 \u0f73", "e" + "\u0301\u0323\u0316\u0327" * 8,
    "x" + "\u0345\u0334" * 20,
    "\u0130 I\u0307 i\u0307 \u0131 \u01c5 \u01c4 \u03a3 \u03c2 A\u03a3 \u1e9e \u00df",
    "\u2160 \u24b6 \uff21 \u10a0",
    "İstanbul ΣΊΣΥΦΟΣ ǅungla", "zero\u200bwidth \u200djoin\ufeffer soft\u00adhyphen",
    "\u001c\u001d\u001e\u001f", "a\u001cb \u0085c", "a\u2028b\u2029c\u000bd\u000ce", "\u0000",
    "a\u0000b", "\u0001\u007f\u0080\u009f", "\ufffd \ufffe \uffff \U0010ffff \ue000",
    "it's IT'S it’s 'S 't 'RE we're they'd I'll I'm 'm' x'ss '' 's's", " 's 're",
    "don't  can't\tyou've", "l'œuvre d'art", "hello! world!!", "!!", "! !", "wow!!!!!!!!!!",
    "...", "-- --- ----", "a,b;c:d", "<a href=\"x\">&amp;&lt;</a>", "</w> a</w> w>", "3.14159",
    "1234567890", "1a2b3c", "v2.0-rc1", "50%", "$5 €10 £20", "C++ & C#",
    "snake_case camelCase kebab-case", "http://example.org/~user?q=1&r=a%20b#top",
    "user@example.org", "#hashtag @mention", "(paren) [brackets] {braces}", "<|startoftext|>",
    "<|endoftext|>", "a<|endoftext|>b", "a <|endoftext|> b", "<|endoftext|><|endoftext|>",
    "<|EndOfText|>", "<|ENDOFTEXT|>!!", "!!<|EndOfText|>x", "<|startoftext|", "<|endoftext|>s",
    "'<|STARTOFTEXT|>'s", "<|endoftext|>\u0301", "e<|endoftext|>\u0301", "<s>", "</s>",
    "a<s>b</s>c", "<mask>", "a <mask> b", "a  <mask>b", "<pad><unk>", "<MASK>", "< s>", "<s",
    "<s><s>  </s>", "  leading", "trailing  ", "  both  ", "two  spaces", "three   spaces",
    "a\n\nb", "a \n b", "tab\tbed", " \u3000x", "x \u3000", "\n\n\nx", "a" * 300, "ab" * 100,
    "supercalifragilisticexpialidocious", "aaaaaaaaab",
    "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz", "word " * 120, "é" * 60,
    "!" * 100, "猫" * 40, "😀" * 30, "1" * 50, " " * 50 + "x", "x" + " " * 50,
]


def mixtures(count):
    """Letters, marks, spaces, controls and specials of all kinds, side by side at random."""
    dice = random.Random(2)
    words = " ".join(SENTENCES).split()
    marks = [*map(chr, range(0x300, 0x346)), *"\u05b4\u05c1\u064b\u0651\u093c\u09be\u0e38\u20d0"]
    spaces = [" ", "  ", *"\t\n\u00a0\u2009\u3000\u200b\u001f\u0085"]
    special = ["'s", "'LL", "<|endoftext|>", "<mask>", "</s>", "!", "42", "..."]
    blocks = [(32, 127), (0xA0, 0x600), (0x1100, 0x1200), (0xAC00, 0xD7A4), (0x900, 0x3100),
              (0x1F300, 0x1F700), (0, 0xD800), (0xE000, 0x30000)]
    kinds = [lambda: dice.choice(words), lambda: dice.choice(words).upper(),
             lambda: dice.choice(words) + dice.choice(marks), lambda: dice.choice(spaces),
             lambda: "".join(dice.choices(marks, k=3)), lambda: dice.choice(special),
             *[lambda: chr(dice.randrange(*dice.choice(blocks)))] * 5]
    return ["".join(dice.choice(kinds)() for _ in range(dice.randrange(1, 12)))
            for _ in range(count)]


def learn(suffix, merges, tokenizer):
    """The first merges that a trainer finds in SENTENCES, cut into words as tokenizer does."""
    t = Tokenizer(models.BPE(end_of_word_suffix=suffix))
    t.normalizer = tokenizer.backend_tokenizer.normalizer
    t.pre_tokenizer = tokenizer.backend_tokenizer.pre_tokenizer
    t.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(
        vocab_size=5000, show_progress=False, end_of_word_suffix=suffix,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet())))
    return [tuple(m) for m in json.loads(t.to_str())["model"]["merges"]][:merges]


def dump(value, *path):
    with open(os.path.join(HERE, *path), "w", encoding="utf-8") as f:
        json.dump(value, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


def folder(name, vocab, merges, cls, config):
    """The older layout, and under NAME-new what cls saves when it has read it."""
    os.makedirs(os.path.join(HERE, name), exist_ok=True)
    dump(vocab, name, "vocab.json")
    dump(config, name, "tokenizer_config.json")
    with open(os.path.join(HERE, name, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = cls.from_pretrained(os.path.join(HERE, name))
    new = os.path.join(HERE, name + "-new")
    tokenizer.save_pretrained(new)
    with open(os.path.join(new, "tokenizer.json"), encoding="utf-8") as f:
        saved = json.load(f)
    dump(saved, name + "-new", "tokenizer.json")           # without its indentation
    return tokenizer


def token(text, **flags):
    return {"content": text, "single_word": False, "lstrip": False, "rstrip": False, **flags}


def variants(size):
    """(folder, files beside its vocabulary): as published for CLIP, SD 1, SD 2, CLAP, and rarer."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    roles = {"bos_token": token(start, normalized=True), "eos_token": token(end, normalized=True),
             "unk_token": token(end, normalized=True)}
    clip = {**{k: {**v, "__type": "AddedToken"} for k, v in roles.items()}, "pad_token": end,
            "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
            "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    clap = {"bos_token": "<s>", "eos_token": "</s>", "model_max_length": 512,
            "mask_token": token("<mask>", lstrip=True, normalized=True, __type="AddedToken"),
            "tokenizer_class": "RobertaTokenizer"}
    last = size["clip"] - 1
    decoder = {"0": token("!", normalized=False, special=True),
               str(last): token(end, normalized=True, special=True)}
    listed = ["<cat>", token("ing", lstrip=True, rstrip=True, __type="AddedToken")]
    mask = token("<mask>", lstrip=True, rstrip=True, normalized=False)
    config, of_map, added = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
    return [
        ("clip", {}),
        ("clip", {config: clip, of_map: {**roles, "pad_token": end}}),
        ("clip", {config: clip, of_map: {**roles, "pad_token": "!"}}),
        ("clip", {config: {"pad_token": "!", "added_tokens_decoder": decoder}}),
        ("clip", {config: {"added_tokens_decoder": {str(last): {"content": end}}}}),
        ("clip", {config: {"additional_special_tokens": listed}}),
        ("clip", {added: {"<Cat>": last + 1, "the e\u0301": last + 2}}),
        ("clip", {added: {end: last}, of_map: {"pad_token": end}}),
        ("clip", {config: {"split_special_tokens": True, "model_max_length": 10 ** 30}}),
        ("roberta", {}),
        ("roberta", {config: clap}),
        ("roberta", {config: {**clap, "add_prefix_space": True}}),
        ("roberta", {of_map: {"mask_token": mask}}),
        ("roberta", {added: {"<Cat>": size["roberta"]}, config: {"pad_token": "<s>"}}),
    ]


def reference(base, files, cls, texts):
    """What cls makes of texts with the vocabulary of base and these files beside it."""
    with tempfile.TemporaryDirectory() as at:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(os.path.join(HERE, base, name), at)
        for name, value in files.items():
            with open(os.path.join(at, name), "w", encoding="utf-8") as f:
                json.dump(value, f)
        t = cls.from_pretrained(at)
    longest = t.model_max_length if t.model_max_length < 1 << 31 else 0
    return {"base": base, "files": {k: json.dumps(v) for k, v in files.items()},
            "padding": t.pad_token_id, "vocabulary": len(t), "longest": longest,
            "texts": [{"text": s, "ids": t(s).input_ids} for s in texts]}


def main():
    shutil.rmtree(HERE, ignore_errors=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    classes = {"clip": CLIPTokenizer, "roberta": RobertaTokenizer}
    merges = {"clip": learn("</w>", 500, CLIPTokenizer()),
              "roberta": learn("", 700, RobertaTokenizer())}
    joined = {k: [a + b for a, b in m] for k, m in merges.items()}
    pieces = {"clip": [*alphabet, *[b + "</w>" for b in alphabet], *joined["clip"],
                       "<|startoftext|>", "<|endoftext|>"],
              "roberta": ["<s>", "<pad>", "</s>", "<unk>", *alphabet, *joined["roberta"], "<mask>"]}
    size, tokenizers = {}, {}
    for k, cls in classes.items():
        vocabulary = {p: i for i, p in enumerate(dict.fromkeys(pieces[k]))}
        size[k] = len(vocabulary)
        config = {"model_max_length": 77 if k == "clip" else 512, "tokenizer_class": cls.__name__}
        tokenizers[k] = folder(k, vocabulary, merges[k], cls, config)

    texts = SENTENCES + [s.upper() for s in SENTENCES[:30:3]] + AWKWARD + mixtures(150)
    rows = [{"text": s, **{k: t(s).input_ids for k, t in tokenizers.items()}} for s in texts]
    dump(rows, "texts.json")
    special = [s for s in texts if any(mark in s for mark in "!<") and len(s) < 60][::2]
    special += ["<Cat> a<cat>b <CAT>", "the é THE E\u0301", "sing ing ring", "x  <mask>  y",
                "hello world", " hello", "hello! world!!", "<|EndOfText|>"]
    rows = [reference(base, files, classes[base], special) for base, files in variants(size)]
    dump(rows, "variants.json")


main()
