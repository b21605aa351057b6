"""People who do not exist, with numbers that every check accepts.

True here: one seed invents the same people on every machine and in every release, so an integrator may
write them down. Each kind of thing is drawn from its own stream: inventing one mobile more changes
nobody's ID number. An inventor never repeats a number that has to be unique. An ID number alone tells who
is invented.

Never here: a number somebody could hold. These are the places that the standards leave empty:

- ID numbers begin with 19, which no edition of GB/T 2260 since 1980 has given to a province (11 to 15 are
  taken). Codes that begin with 0 are free too, but forms refuse a leading 0 and spreadsheets swallow it;
  99, as in our region codes, would make everybody a foreign resident.
- Residents from Hong Kong, Macau and Taiwan are all numbered under 810000, 820000 and 830000: 8199xx is
  nobody's.
- Foreign residents: 9, then 99 where a province stands, then 900 to 999, which ISO 3166-1 leaves to users.
- A retired region: 132701 (Qinhuangdao, while it was part of Tangshan prefecture) was withdrawn in 1983,
  a year before the first ID numbers were given out. Nobody born later can have been numbered there.
- Card identification codes and credit codes: regions 99xxxx. Organisation codes: PDY00001 to PDY99999,
  which GB 11714 keeps for private use. Bank numbers: 9999, national use (ISO/IEC 7812) by a country 999
  that is none.
- Mobiles: 154, a block never allotted to an operator. It may be one day, so a mobile alone proves nothing.
- Email addresses: the domain `example`, under which no mail is ever delivered (RFC 2606).
- Card numbers and household registers have no empty place: whose they are tells.
"""

import base64
import re
from collections.abc import Callable, Mapping
from datetime import date
from itertools import pairwise
from random import Random
from typing import Final

from service.numbers import (
    NATIONAL_CARD_NUMBER,
    BankNumber,
    CardNumber,
    CardNumberFormat,
    CreditCode,
    Mobile,
    Sex,
    card_number_check_character,
    credit_code_check_character,
    luhn_check_digit,
    resident_id_check_character,
)

HONG_KONG_PREFIX: Final = "819900"
MACAU_PREFIX: Final = "829900"
TAIWAN_PREFIX: Final = "839900"
FOREIGN_PREFIX: Final = "999900"
RETIRED_PREFIX: Final = "132701"
RETIRED_PREFIX_BORN_FROM: Final = date(1984, 1, 1)

_EMPTY_PREFIX: Final = re.compile(r"19[0-9]{4}|8[123]99[0-9]{2}|9999[0-9]{2}")
_INVENTED_REGION: Final = re.compile(r"99[0-9]{4}")
_MARK: Final = "假"
_LATIN_MARK: Final = "INVENTED"
_SURNAMES: Final[tuple[str, ...]] = (
    *"王李张刘陈杨赵黄周吴徐孙胡朱高林何郭马罗梁宋郑谢韩唐冯于董萧",
    *"程曹袁邓许傅沈曾彭吕苏卢蒋蔡贾丁魏薛叶阎余潘杜戴夏钟汪田",
    *("欧阳", "司马", "上官", "诸葛", "慕容", "夏侯"),
)
_GIVEN: Final = "安宁远舟川岚溪石禾麦青墨晴朗星云松竹梅兰秋冬晓初知行言书画琴棋诗茶陶帆海湖江山木林泉"
_LATIN_GIVEN: Final = (
    *("ADA", "BORIS", "CLARA", "DAVID", "ELENA", "FELIX"),
    *("GRETA", "HUGO", "IRIS", "JONAS", "KATYA", "LEO"),
)
# Without the letters and digits that are taken for one another when somebody types them from a screen.
_LOWER: Final = "abcdefghjkmnpqrstuvwxyz"
CARD_LETTERS: Final = _LOWER.upper()
_DIGITS: Final = "23456789"
_SEQUENCES_OF: Final[Mapping[Sex | None, tuple[int, int]]] = {None: (1, 1), "male": (1, 2), "female": (2, 2)}
_PIN_LENGTH: Final = 6
_PATIENCE: Final = 20_000


def is_invented(id_number: str) -> bool:
    """Whether a canonical ID number is one of ours, and nobody's. Production has to refuse such."""
    if id_number.startswith(RETIRED_PREFIX):
        return id_number[6:14] >= RETIRED_PREFIX_BORN_FROM.strftime("%Y%m%d")
    return _EMPTY_PREFIX.fullmatch(id_number[:6]) is not None


def is_invented_name(name: str) -> bool:
    """Whether a name carries our mark: 假, "not real", right after the surname, or INVENTED for a surname."""
    return _MARK in name[1:3] or name.endswith(f" {_LATIN_MARK}")


def invented_name(number: int) -> str:
    """A marked Chinese name for any number, the same for the same; there are a few thousand of them."""
    number, given = divmod(number, len(_GIVEN))
    return _SURNAMES[number % len(_SURNAMES)] + _MARK + _GIVEN[given]


def email_of(key: str) -> str:
    """The email address of an invented person, by their key."""
    return f"{key}@people.example"


def is_invented_region(region_code: str) -> bool:
    """Whether a region is one of the sandbox: six digits that begin with 99."""
    return _INVENTED_REGION.fullmatch(region_code) is not None


def _born_into(prefix: str, born: date) -> str:
    if _EMPTY_PREFIX.fullmatch(prefix) is None and (prefix != RETIRED_PREFIX or born < RETIRED_PREFIX_BORN_FROM):
        raise ValueError("somebody could have been numbered under that prefix")
    return prefix


def _invented(region_code: str) -> str:
    if not is_invented_region(region_code):
        raise ValueError("that region could be a real one")
    return region_code


def _is_weak(pin: str) -> bool:
    """Each digit is, or is next to, the one before: alike, running, to and fro; 0 is next to 9."""
    return all((int(later) - int(earlier)) % 10 in {0, 1, 9} for earlier, later in pairwise(pin))


class Inventor:
    """Invents one person, or as many as one likes, from a seed.

    Two seeds draw independently: 100,000 people born over sixty years share an ID number in one of forty such
    populations. Who needs certainty for a whole population takes one inventor for all of it.
    """

    def __init__(self, seed: str) -> None:
        self._seed: Final = seed
        self._streams: Final[dict[str, Random]] = {}
        self._handed_out: Final[dict[str, set[str]]] = {}

    def _stream(self, kind: str) -> Random:
        if kind not in self._streams:
            # These must come out the same again, and are no secrets.
            self._streams[kind] = Random(f"{self._seed}\0{kind}")  # noqa: S311  invented people must be the same every time
        return self._streams[kind]

    def _unrepeated(self, kind: str, draw: Callable[[Random], str]) -> str:
        stream, handed_out = self._stream(kind), self._handed_out.setdefault(kind, set())
        for _ in range(_PATIENCE):
            drawn = draw(stream)
            if drawn not in handed_out:
                handed_out.add(drawn)
                return drawn
        raise ValueError(f"no further {kind} of that description can be invented")

    def name(self) -> str:
        """A Chinese name of three or four characters, marked by 假. Names may repeat, as people's do."""
        stream = self._stream("name")
        return stream.choice(_SURNAMES) + _MARK + stream.choice(_GIVEN)

    def latin_name(self) -> str:
        """A foreign resident's name as printed on the card, for example `CLARA INVENTED`."""
        return f"{self._stream('latin_name').choice(_LATIN_GIVEN)} {_LATIN_MARK}"

    def birth_date(self, *, earliest: date, latest: date) -> date:
        """A day from `earliest` to `latest`, both included."""
        ordinal = self._stream("birth_date").randint(earliest.toordinal(), latest.toordinal())
        return date.fromordinal(ordinal)

    def resident_id(self, *, born: date, prefix: str | None = None, sex: Sex | None = None) -> str:
        """An ID number of 18 characters, under any prefix beginning with 19 unless a prefix is given.

        Raises ValueError for a prefix that could be somebody's, and when the sequences of a birthday run out.
        """

        def draw(stream: Random) -> str:
            first_six = f"19{stream.randrange(10_000):04d}" if prefix is None else _born_into(prefix, born)
            first, step = _SEQUENCES_OF[sex]
            sequence = stream.randrange(first, 1000, step)
            body = f"{first_six}{born:%Y%m%d}{sequence:03d}"
            return body + resident_id_check_character(body)

        return self._unrepeated("resident_id", draw)

    def mobile(self) -> Mobile:
        """A mobile number in the unallotted block 154."""
        return Mobile(self._unrepeated("mobile", lambda stream: f"154{stream.randrange(10**8):08d}"))

    def card_number(self, card_number_format: CardNumberFormat = NATIONAL_CARD_NUMBER) -> CardNumber:
        """A number for the face of a card; one of nine characters has a right check, enforced or not."""

        def draw(stream: Random) -> str:
            digits = card_number_format.length - 2
            body = f"{stream.choice(CARD_LETTERS)}{stream.randrange(10**digits):0{digits}d}"
            nine = card_number_format.length == NATIONAL_CARD_NUMBER.length
            return body + (card_number_check_character(body) if nine else str(stream.randrange(10)))

        return CardNumber(self._unrepeated("card_number", draw))

    def identification_code(self, region_code: str) -> str:
        """A card identification code of a sandbox region. Raises ValueError if the region could be real."""
        return self._unrepeated(
            "identification_code",
            lambda stream: f"{_invented(region_code)}D156000005{stream.getrandbits(64):016X}",
        )

    def bank_number(self) -> BankNumber:
        """A bank number of 19 digits under an issuer that does not exist."""

        def draw(stream: Random) -> str:
            body = f"9999{stream.randrange(10**14):014d}"
            return body + luhn_check_digit(body)

        return BankNumber(self._unrepeated("bank_number", draw))

    def credit_code(self, region_code: str) -> CreditCode:
        """A unified social credit code of a sandbox region. Raises ValueError if that could be real."""

        def draw(stream: Random) -> str:
            organisation = f"PDY{stream.randrange(1, 10**5):05d}"
            body = f"91{_invented(region_code)}{organisation}{card_number_check_character(organisation)}"
            return body + credit_code_check_character(body)

        return CreditCode(self._unrepeated("credit_code", draw))

    def household_register(self) -> str:
        """The number of a household register: nine digits. People of one household share it."""
        return self._unrepeated("household_register", lambda stream: f"99{stream.randrange(10**7):07d}")

    def service_pin(self, *, avoiding: str) -> str:
        """Six digits that are not weak: not alike, not running, not part of `avoiding` (the ID number)."""
        stream = self._stream("service_pin")
        while True:
            pin = f"{stream.randrange(10**_PIN_LENGTH):0{_PIN_LENGTH}d}"
            if not _is_weak(pin) and pin not in avoiding:
                return pin

    def query_password(self) -> str:
        """Ten letters and digits, some of each."""
        return self._password("query_password", 10)

    def username(self, role: str) -> str:
        """An operator's user name, for example `hospital.4821`."""
        return self._unrepeated("username", lambda stream: f"{role}.{stream.randrange(10**4):04d}")

    def password(self) -> str:
        """An operator's password: sixteen letters and digits, some of each."""
        return self._password("password", 16)

    def totp_secret(self) -> str:
        """A 160-bit secret for time-based codes (RFC 6238) in base32, 32 characters without padding."""
        return base64.b32encode(self._stream("totp_secret").randbytes(20)).decode("ascii")

    def _password(self, kind: str, length: int) -> str:
        stream = self._stream(kind)
        while True:
            password = "".join(stream.choices(_LOWER + CARD_LETTERS + _DIGITS, k=length))
            if all(set(password) & set(signs) for signs in (_LOWER, CARD_LETTERS, _DIGITS)):
                return password
