"""Generated captions with odd spellings of every kind, for comparing tokenizers."""

import random
from collections.abc import Callable

_PLAIN = (
    "a the two dog man woman runs sits on in with of and grass shirt white t-shirt sign plate x A The In Two You some"
).split()
_ABBREVIATIONS = (
    "St. Mr. Mrs. Dr. vs. etc. Jr. Sr. No. no. nos. Fig. fig. p. pp. Inc. Co. Corp. Ltd. Ave. Blvd. Rd. ft. lb. lbs. oz. "
    "in. sq. Ph.D. ph.d U.S. u.s. U.S.A. D.C. p.m. a.m. P.M. e.g. i.e. Jan. Feb. Sept. Tues. Mass. mass. Wash. wash. LA. "
    "Calif. Tex. tex. N.Y. ca. art. prop. op. J.K. J. b. T. min. hr. est. ext. dept. gen. Sgt. Prof. rev. Mt. Messrs. M.D. "
    "B.A. Bros. bros. capt. Capt. cf. al. al Ms. Mlle. Ala. Ariz. Va. Fla. Ga. Ill. ill. Miss. miss. Ore. Pa. pa. Del."
).split()
_CONTRACTIONS = (
    "can't don't isn't won't I'm you're we've he'd she'll couldn't've it's ISN'T CAN'T dog's dogs' James's cannot gonna "
    "Gotta gimme lemme wanna 'tis 'twas 'cause 'til 'em y'all o'clock ma'am rock'n'roll 'n' ol' c'mon s'mores ain't ne'er "
    "e'er O'Brien d'Or l'eau 70's '70s '09 1960's 'the 'S S' n't 're 's d'ye more'n 'bout jack-o'-lantern whatcha "
    "dunno 'twere should've who'd've y'know Hawai'i o' d' j' dont shan't mustn't've it'll that'd there're"
).split()
_FRENCH = (
    "c'est j'ai l'homme d'un qu'il n'est s'il m'a t'es aujourd'hui l’eau d’un C'est J'ai L'Oréal L'hôtel d'été d'Ivoire "
    "près garçon été ça où œuf naïve entr'acte presqu'île quelqu'un jusqu'à lorsqu'il puisqu'on dell'arte all'aperto"
).split()
_HYPHENS = (
    "black-and-white --dash dash-- a--b a-b -x x- co-op T-shirt 3-year-old 10-foot U.S.-based well-known twenty-one - -- "
    "--- ---- x-ray A-1 v-neck-tee on-the-go e-mail pre- -ing post-9/11 mid-1990s 1-2-3 a‑b a‐b a−b a–b a—b a―b – — ― ‑ ‐ − "
    "x-1 1-x f-16 f-16s B-52 and/or w/ w/o 9/11 a/b/c ad-hoc self--made -5 -a- un-American O'Neil-Smith pick-'em"
).split()
_URLS = (
    "http://a.com https://www.example.org/a-b?c=d#e www.x.com www.example.org/a-b example.com statefarm.com a.b.co.uk "
    "user@mail.com me.you@x.co ftp://f.org/x @user #tag #1 @@home http:// www. flickr.com/photos/1 .com x.org. Yahoo! "
    "yahoo.com, google.com's http://x.y/(z) http://a.com. WWW.X.COM e.bay bit.ly/abc index.html www.a-b.com x.net/y "
    "@a_b #a-b #a_b mail@ @ a@b HTTP://A.com https://x.y/z, <http://a.com> (www.a.com) .NET asp.net readme.txt x.edu #é"
).split()
_MONEY = (
    "$5 $5.00 $1,000 US$5 HK$20 A$5 C$3.50 5¢ 50¢ £5 €5 5€ ¥100 ₤5 ₩5 ₹5 $ £ € ¢ ¥ $$ $5k 5$ USD5 R$10 NZ$1 AU$9 ¤ ₪5 "
    "$.50 $5-10 $5/day $20s 1.5€ $a A$ us$5 hk$5 Rs.100 Rs. £5.50 €1,50 5p #5 # ₫ ฿5 cents $-5 -$5 +$5 $5m $5.5bn"
).split()
_NUMBERS = (
    "1 12 1,000 1,000,000 2.5 .5 1. 5:50 10:30am 10:30 1/2 1/4 3/4 1st 2nd 3rd 4th 22nd No.1 no.5 #1 50% 6' 6\" 5'10\" "
    "1960s 90's 3x3 4x4 2x 7-11 10,000-ton 1-800-555-1212 555-1212 (415) +1 -1 ±5 1e5 1.2.3 192.168.0.1 12/25/2010 "
    "2010-12-25 25-Dec-10 ½ 1½ ¼ ¾ ⅓ ⅔ ⅛ ⅜ ⅝ ⅞ ⅙ x² m³ 10° 90°F 5'11 1,2 1,23 1,2345 .5.5 1..2 1:2:3 12:00:00 3,5 0.5cm "
    "5lbs 5lb. 20oz. 1920x1080 1080p 3D 2D F15 747s mp3 h2o 1+1 1=1 2*3 ₂ ① Ⅷ 1'000 5'-6' 1/2-inch 10-1/2 415-555-1212 5.a"
).split()
_ELLIPSIS = "... .. .... … . . . ...a a... a...b !... ?... wait... …x x… .a ..a a.. ,... ...! ...?! .- -. .,. ;... .…".split()
_QUOTES = (
    "\"dog\" 'dog' “dog” ‘dog’ ``dog'' `dog' \"dog 'dog dog\" dog' „dog“ ‚dog‘ «dog» ‹dog› 「dog」 『dog』 《dog》 〈dog〉 ‛dog "
    "‟dog″ ′dog 5′ 5″ ´dog `dog` '' `` ' \" ` ´ \"a\"b '' ''' '''' \"\" \"\"\" don’t it’s dogs’ ’90s ‘til ‘em l’a ʼ x‘y a\"b a'b "
    "a''b \"'a'\" '\"a\"' ‹ › « » “ ” ‘ ’ „ ‚ ,, \u0092s \u0091a\u0092 \u0093a\u0094 don\u0092t `s a`s &quot;a&quot; \"s \"St.\" 'b.'"
).split()
_SCRIPTS = (
    "東京 犬が走る 狗在草地上 개가 달린다 собака бежит Σκύλος τρέχει कुत्ता घास में كَلْبٌ يركض عَلَى หมา วิ่ง שלום כֶּלֶב ខ្មែร ქართული հայ "
    "தமிழ் বাংলা తెలుగు ಕನ್ನಡ മലയാളം ລາວ မြန်မာ አማርኛ ᏣᎳᎩ 漢字、カタカナ。 ｶﾀｶﾅ ー ﷲ ﬁ ﬂ ß ẞ İ ı Ǆ ǅ 。 、 ・ 「犬」 ！ 犬！ 1犬 犬1 a犬 犬a ёлка Ё "
    "и-и кто-то що-небудь п.п. т.д. А. а. Б.В. 東京. ๑๒ ٣٤ १२ ７ ё́ ا، ؟ ؛ ۔ । ॥ ៕ ། 々 〆 〇 ㍿ ㋿ ㎏ ℃ № ™ ® © ª º µ"
).split()
_MARKS = (
    "cafe\u0301 e\u0301te\u0301 n\u0303 A\u030angstro\u0308m re\u0301sume\u0301s cafe\u0301's e\u0301. \u0301a a\u0301-b a\u0301b\u0302c "
    "x\u0323\u0307 l'e\u0301te\u0301 q\u0307 o\u0308l. \u0301 1\u0301 a\u20dd ☺\u20e3 1\u20e3 1\ufe0f\u20e3 é É œ Æ ñ Ø ç ü"
).split()
_EMOJI = (
    "🐶 😀 ☺ ☺️ ❤️ ❤ 👨‍👩‍👧 🇫🇷 👍🏽 dog🐶 🐶dog ★ ☆ ♥ ♡ ✓ ✔️ → ← ⇒ ■ ● • · ◦ ▪ ‣ ♪ ♫ ☎ ✈ ✂ ∞ ≈ ≠ ≤ ≥ √ ∑ π × ÷ ¬ ± § ¶ † ‡ ‰ ⁄ ⁰ ⅰ "
    "𝔞 𝐚b 🄰 💩's 🎉! ☀☁ ☺☺ a★b 1★ ►  ▶️ ⭐ ⭐5 ✨ 〰 ‼ ⁉ ⁈ ⁇ ‽ ¡hola! ¿que? ¦ | || ||| ¯ ¨ ¸ ˆ ˜ ^ ~ ~~ ´ \ufffd \ufffd\ufffd \ue000 〜 ～"
).split()
_INVISIBLE = (
    "a\u200bb a\u200cb a\u200db a\u2060b \ufeffa a\ufeff a\u00adb a\u200eb a\u200fb a\u202ab \u202eabc a\u00a0b a\u2003b a\u3000b a\u202fb "
    "a\u2009b a\u180eb \u200b a\u061cb a\u2066b a\u034fb a\ufe0fb a\u200b. dog\u200b's 1\u00a05 \u00a0 a\u2007b a\u1680b a\u205fb a\u2063b"
).split(" ")
_WIDE = (
    "ａｂｃ ＡＢＣ １２３ ａ－ｂ （ａ） ［ａ］ ｛ａ｝ ａ． ａ！ ａ？ ａ， ａ： ａ； ＄５ ￥５ ￡５ ％ ＆ ＃１ ＠ ａ／ｂ ＂ａ＂ ＇ａ＇ ～ ＊ ＋ ＝ ＜ ＞ ＿ ｜ ＼ ＾ ｀ ￠ dogｓ ｄｏｇ's"
).split()
_BRACKETS = (
    "(dog) [dog] {dog} <dog> ((dog)) (dog (dog dog) ( ) [ ] { } < > () [] {} <> << >> -lrb- -rrb- -LRB- -RRB- -lsb- -rsb- "
    "-lcb- -rcb- -lrb-dog -LSB- dog-rrb- (s) dog(s) a) 1) (1) [1] <b> </b> <br> <br/> <a></a> <3 </3 >.< (the) (dog). (dog)'s "
    "<unk> <a_b> <1> <!--x--> <p>dog</p> <B> <img> -lrb-7-rrb- ( dog ) <> <a-b> <é> -lrb -rrb lrb- <dog's> <a.b> <?x?> <x"
).split()
_ENTITIES = (
    "A&amp;M &amp; a&amp;b AT&T Q&A R&amp;B B&B a&b m&ms M&Ms &lt; &gt; &quot; &apos; &#39; &nbsp; &ndash; &mdash; &hellip; "
    "&eacute; caf&eacute; &#233; &#x27; &copy; &lt;b&gt; dog&#39;s dog&apos;s a&nbsp;b a&ndash;b &AMP; &lsquo;a&rsquo; "
    "&ldquo;a&rdquo; &pound;5 &euro;5 &cent; 5&cent; & && &a; &amp &x &amp;amp; A&amp;E Q&amp;a &middot; &bull; h&m H&M &frac12; "
    "&laquo;a&raquo; &Eacute; &deg; &times; &trade; &amp;nbsp; AT&amp;T's salt&amp;pepper black&white 1&2 &1 &yen; &#8217;"
).split()
_SMILEYS = (
    ":) :( :-) :-( ;) ;-) :D :-D :P :p XD xD :] :[ =) =( =D :o :O :'( :/ :\\ :| 8) B) ^_^ ^.^ -_- o_o O_O <3 >:( >:) :* :-* "
    ":3 :S :$ D: (: ): (-: )-: ;P ;D ;] =] =/ :)) :-)) :)a a:) :-/ ^^ T_T >_< \\o/ :-P =P :} :{ ;-D :-| o.O O.o (^_^) (o_o) x_x "
    "@_@ u_u >.> <.< :d :x :X :@ :# :! (^^) \\m/ :-] 8-) :'-( :'D :^) ;-( ;( (; [: ]: (= )= =-) =O ^-^ *_* -.- ._. v_v ^o^"
).split()
_CASE = "DOG Dog dOG CAN'T ITS ISN'T GONNA CANNOT iPhone McDonald's O'NEIL USA U.S.A A I I'M IPOD'S X's x'S 's AN'T N'T It'S".split()
_CONTROL = "a\x01b a\x08b \x7f a\x1bb a\x1fb \x00 a\x00b a\x85b a\x0bb a\x9fb \x02dog dog\x03 a\x1db a\tb a\x1eb".split(" ")
_SYMBOLS = (
    "a+b a=b a*b a_b a~b a^b a|b a\\b a\\/b \\ / // /// a/ /a a//b * ** *** *a* _ __ ___ _a_ a_ _b = == + ++ c++ c# C++ C# f# "
    "% a% %a @ ^ ~ ! !! !!! ? ?? ?! !? !?! , ,, ; ;; : :: a:b a;b a,b a!b a?b a.b. 1:a a:1 .a, a., a;. a:- (!) (?) a!? !a ?a ,a "
    "\\* \\/ and\\or AC/DC 1/a a/1 R/C +a a+ =a a= *dog *. _. #a# a# #. @. ^. ~. chair,couch street.The end.A x.y.z A.B a.B A.b"
).split()
_DATES = "12/25/10 1/1/2001 2001/1/1 1990-91 '90-'91 12-25-10 Jan-1 5pm 5p.m. 5:00p.m. 9am-5pm 10AM 7:30PM 7.30pm Mar. Sept Dec.25 1.1.2001 2/3".split()
_PHONES = "(415) 555-1212|415-555-1212|415.555.1212|1-800-FLOWERS|+44 20 7946 0958|555-1212|1 1/2|10 1/2|3 3/4 cup|(800)555-1212|1 ½|$ 5|# 5|555 1212|1 800 555 1212|2 1/2-inch|+1 415 555 1212".split("|")
_TAGS = '<a href="x y">|<img src=a>|<b >|< b>|<a b|a < b > c|<a b="c">dog</a>|<!-- a b -->|a <dog runs> b|<p class=x>|<br />|<DOC id=1>|a <3 b> c'.split("|")

KINDS: dict[str, list[str]] = {
    "abbreviations": _ABBREVIATIONS,
    "contractions": _CONTRACTIONS,
    "french": _FRENCH,
    "hyphens": _HYPHENS,
    "urls": _URLS,
    "currency": _MONEY,
    "numbers": _NUMBERS,
    "ellipsis": _ELLIPSIS,
    "quotes": _QUOTES,
    "scripts": _SCRIPTS,
    "marks": _MARKS,
    "emoji": _EMOJI,
    "invisible": _INVISIBLE,
    "full-width": _WIDE,
    "brackets": _BRACKETS,
    "entities": _ENTITIES,
    "smileys": _SMILEYS,
    "case": _CASE,
    "control": _CONTROL,
    "symbols": _SYMBOLS,
    "dates": _DATES,
    "phones": _PHONES,
    "tags": _TAGS,
}
_BEFORE = ["", "", "", "", "", "", "(", '"', "'", "“", "-", "$", "#", "a", "1", "&", "@", "‘", "[", "*", "_", ".", "A."]
_AFTER = ["", "", "", "", "", "", ".", ",", "!", "?", ")", '"', "'", "'s", "’s", "-", ":", ";", "...", "s", "1", "n't", "”", "/", "%", "*", "."]


def odd_captions(number: int, *, seed: int) -> list[tuple[str, str]]:
    """Return (kind, caption) pairs: ordinary words with one to three odd ones of a kind, often glued to punctuation.

    A fifth mixes kinds; a tenth ends in a single letter with a full stop. No caption has a line break.
    """
    generator = random.Random(seed)
    kinds = list(KINDS)
    return [_one(kinds[n % len(kinds)], generator) for n in range(number)]


def _one(kind: str, generator: random.Random) -> tuple[str, str]:
    words = [generator.choice(_PLAIN) for _ in range(generator.randint(1, 5))]
    for _ in range(generator.randint(1, 3)):
        pool = KINDS[generator.choice(list(KINDS))] if generator.random() < 0.1 else KINDS[kind]
        odd = _glued(generator.choice(pool), generator.choice) if generator.random() < 0.4 else generator.choice(pool)
        words.insert(generator.randint(0, len(words)), odd)
    if generator.random() < 0.1:
        words.append(generator.choice("abtxTB") + ".")
    elif generator.random() < 0.3:
        words[-1] += "."
    return kind, " ".join(words)


def _glued(odd: str, choose: Callable[[list[str]], str]) -> str:
    return choose(_BEFORE) + odd + choose(_AFTER)
