"""The roster of the sandbox: which parts there are to play, one row a part.

True here: a row says what is particular about a part, and nothing that the generator can make up. Never here: a name or a
number; those come from the key of the row (personas.py), so a key, once published, never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from service.actors import StaffRole
from service.operators import InstitutionKind
from service.sandbox.invention import HONG_KONG_PREFIX, RETIRED_PREFIX

Condition = Literal[
    "sealed", "active", "temporarilyLost", "formallyLost", "locked", "cancelled", "notDelivered", "testCard", "paidOut"
]
# What became of somebody's employment, as far as insurance goes.
Employment = Literal["runs", "left", "emigrated"]
# Employments began that many days ago, and ended so many days ago where they did.
HIRED_DAYS_AGO: Final = 1100
LEFT_DAYS_AGO: Final = 40

# Where everybody lives and works whose row does not say otherwise, and the bank on their cards.
HOME: Final = "990100"
_OWN_BANK: Final = "B901"
_OTHER_BANK: Final = "B902"

_CHILD: Final = (2016, 2020)


@dataclass(frozen=True, slots=True)
class CardRow:
    """A card, the condition a reset leaves it in, and who issued it."""

    condition: Condition = "sealed"
    region: str = HOME
    bank: str = _OWN_BANK
    generation: int = 3


@dataclass(frozen=True, slots=True)
class PersonRow:
    """A resident. `zh`, `en`: what the part is for.

    `insured`: region of insurance; `born`: first and last year; `prefix`: that of the ID number; `family`: the persona to
    whose household this one belongs; `guards`: personas for whom this one may act; `employment`: whether and how an
    institution, the `employer`, has registered them for social insurance; `agrees`: whether counters may look them up for an
    enquiry; `email`: whether they have confirmed an email address.
    """

    key: str
    zh: str
    en: str
    cards: tuple[CardRow, ...] = (CardRow(),)
    insured: str = HOME
    born: tuple[int, int] = (1962, 2003)
    prefix: str | None = None
    family: str | None = None
    guards: tuple[str, ...] = ()
    employment: Employment | None = None
    employer: str = "employer"
    agrees: bool = True
    email: bool = False


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """Somebody behind a counter of an institution."""

    key: str
    role: StaffRole
    institution: str
    zh: str
    en: str


@dataclass(frozen=True, slots=True)
class InstitutionRow:
    """An institution; `bank` is the code of a bank, `region` where it works; `redeems`: designated to redeem e-cards."""

    kind: InstitutionKind
    zh: str
    en: str
    bank: str | None = None
    region: str = HOME
    redeems: bool = False


# fmt: off
PEOPLE: Final = (
    PersonRow("sealed",
              "卡已领取、未激活：走完整个激活流程。",
              "Has collected a card and not activated it: walk the whole journey."),
    *(PersonRow(f"sealed{number}",
                "又一张未激活的卡。",
                "Another card that is not activated.") for number in (2, 3, 4, 5)),
    PersonRow("active",
              "卡已激活：查询余额，再次激活会得到同样的答复。",
              "The card is active: look at balances; activating it again says the same.",
              (CardRow("active"),), employment="runs"),
    PersonRow("temporarily-lost",
              "已临时挂失，到期自动恢复：拨快时钟可见。",
              "Reported lost for a time, which ends by itself: move the clock to see it.",
              (CardRow("temporarilyLost"),), employment="left"),
    PersonRow("formally-lost",
              "已正式挂失：不能激活和使用。",
              "Reported lost for good: the card can be neither activated nor used.",
              (CardRow("formallyLost"),)),
    PersonRow("locked",
              "卡应用已锁定：须到人社窗口解锁。",
              "The card's application is locked; a bureau window unlocks it.",
              (CardRow("locked"),)),
    PersonRow("cancelled",
              "卡已注销：不可恢复。",
              "The card is cancelled, which is final.",
              (CardRow("cancelled"),)),
    PersonRow("not-delivered",
              "卡还在路上，尚未领取：不能激活。",
              "The card is still on its way and cannot be activated.",
              (CardRow("notDelivered"),)),
    PersonRow("test-card",
              "卡属于测试批次：不能发放和激活。",
              "The card is of a test batch, which is neither delivered nor activated.",
              (CardRow("testCard"),)),
    PersonRow("frozen-medical",
              "旧卡已停用、新卡未激活，医保账户冻结：激活后自动解冻。",
              "The old card is retired and the new one sealed: the medical account is frozen until activation.",
              (CardRow(region="990400"),), "990400"),
    PersonRow("cross-region",
              "参保地与发卡地不同，两地互通：可以激活。",
              "Insured in one region, with a card of another; both are interconnected: activation works.",
              insured="990200"),
    PersonRow("not-interconnected",
              "发卡地未与参保地互通：线上不能激活，答复中说明去哪里办。",
              "The card's region is not interconnected: refused online, and told where to go.",
              (CardRow(region="990300", bank="B903"),)),
    PersonRow("two-generations",
              "旧一代卡仍在使用，新卡未激活：过渡期内两卡都有效。",
              "An old card in use and a new one not activated: both count during the transition.",
              (CardRow("active", region="990500", generation=2), CardRow(region="990500")), "990500"),
    PersonRow("old-generation",
              "只有旧一代卡、尚未换卡：停用日（2031 年 12 月 31 日）后医保账户冻结，拨快时钟可见。",
              "Only an old card, and no new one: from its cut-off on the medical account is frozen; move the clock to see it.",
              (CardRow("active", region="990500", generation=2),), "990500"),
    PersonRow("hk-resident",
              "持港澳台居民居住证，号码以 81 开头。",
              "A Hong Kong resident with a residence permit; the number begins with 81.",
              prefix=HONG_KONG_PREFIX),
    PersonRow("retired-region-id",
              "身份证号的地区码早已撤销：照样有效。",
              "The ID number begins with a region that is no more, and is valid all the same.",
              born=(1985, 1998), prefix=RETIRED_PREFIX),
    PersonRow("guardian",
              "监护人，已绑定 minor：可代其激活，onBehalfOf 填 dependantId。",
              "Guardian of minor: may activate that card, with dependantId as onBehalfOf.",
              (CardRow("active"),), born=(1982, 1988), guards=("minor",), employment="runs"),
    PersonRow("minor",
              "未成年人，已绑定监护人：只能由监护人激活。",
              "A minor with a linked guardian, who alone may activate the card.",
              born=_CHILD, family="guardian"),
    PersonRow("unlinked-minor",
              "未成年人，与 guardian 同户但未绑定：须先绑定。",
              "A minor of the guardian's household, not linked yet: link first.",
              born=_CHILD, family="guardian"),
    PersonRow("flexible-worker",
              "灵活就业人员：自己办理参保登记。",
              "A flexible worker, who registers for insurance in person.",
              (CardRow("active"),)),
    PersonRow("insurance-ended",
              "参保关系已终止，旧卡已停用：不再发新卡，医保个人账户余额已支付。",
              "The insurance has ended and the old card is retired: no new card; the medical account is paid out.",
              (CardRow("paidOut", region="990400", generation=2),), "990400", employment="emigrated", employer="employer2"),
    PersonRow("level3-region",
              "所在地区激活须人脸核验：短信核验级别不够。",
              "The region asks for face verification: a session by SMS is not enough to activate.",
              (CardRow(region="990700", bank="B902"),), "990700"),
    PersonRow("other-format",
              "所在地区卡号为 12 位、无校验码。",
              "The region numbers its cards with twelve characters and no check.",
              (CardRow(region="990600", bank="B904"),), "990600"),
    PersonRow("no-consent",
              "未同意柜台为咨询查询：以 enquiry 为由查询如同查无此人，同意后即可查到。",
              "Has not agreed to look-ups for an enquiry: with that reason there is nobody, until they agree.",
              (CardRow("active"),), agrees=False),
    PersonRow("with-email",
              "已确认邮箱，所在地区有免打扰时段：消息发到手机和邮箱。",
              "Has confirmed an email address, in a region with quiet hours: messages go to mobile and address.",
              (CardRow("active"),), "990200", email=True),
)
OPERATORS: Final = (
    OperatorRow("bank-own", "bankTeller", "bank-own",
                "sealed 等人卡面银行的柜员。",
                "Teller at the bank on the cards of sealed and others."),
    OperatorRow("bank-other", "bankTeller", "bank-other",
                "另一家银行的柜员：不能办理他行的卡。",
                "Teller at another bank, which may not touch those cards."),
    OperatorRow("hospital", "hospitalClerk", "hospital",
                "定点医院挂号员：首次就诊时激活，可核验电子社保卡。",
                "Clerk of a designated hospital: activates on the first visit, and redeems codes of e-cards."),
    OperatorRow("bureau", "bureauClerk", "bureau",
                "人社窗口经办人。",
                "Clerk at a social security bureau window."),
    OperatorRow("bureau-supervisor", "bureauSupervisor", "bureau",
                "人社窗口主管：复核须两人办理的事项。",
                "Supervisor at the bureau: the second person for what needs two."),
    OperatorRow("bureau-supervisor2", "bureauSupervisor", "bureau",
                "同一窗口的另一主管：主管自己提出的事项由其复核。",
                "Another supervisor there: the second person for what a supervisor asked for."),
    OperatorRow("bureau2", "bureauClerk", "bureau2",
                "另一地区的人社窗口经办人：不能办理 sealed 等人的卡。",
                "Clerk at a bureau of another region, which may not touch the cards of sealed and others."),
    OperatorRow("hotline", "hotlineAgent", "hotline",
                "12333 热线话务员。",
                "Agent of the 12333 hotline."),
    OperatorRow("employer", "employer", "employer",
                "用人单位经办人：为员工登记和申领。",
                "Clerk of an employer: registers employees and applies for their cards."),
    OperatorRow("employer2", "employer", "employer2",
                "另一地区用人单位的经办人：看不到也办不了 employer 的登记。",
                "Clerk of an employer in another region, who has nothing to do with the registrations of employer."),
    OperatorRow("production", "production", "production",
                "制卡单位：推进制卡进度。",
                "Card producer: moves cards through production."),
)
INSTITUTIONS: Final[Mapping[str, InstitutionRow]] = {
    "bank-own": InstitutionRow("bank", "虚构银行云栖支行", "Yunqi outlet of an invented bank", _OWN_BANK, redeems=True),
    "bank-other": InstitutionRow(
        "bank", "另一家虚构银行云栖支行", "Yunqi outlet of another invented bank", _OTHER_BANK
    ),
    "hospital": InstitutionRow("hospital", "云栖市虚构医院", "Invented hospital of Yunqi", redeems=True),
    "bureau": InstitutionRow("bureau", "云栖市虚构人社局", "Invented social security bureau of Yunqi"),
    "bureau2": InstitutionRow("bureau", "棠汀市虚构人社局", "Invented social security bureau of Tangting", region="990200"),
    "hotline": InstitutionRow("hotline", "云栖市虚构 12333 中心", "Invented 12333 centre of Yunqi"),
    "employer": InstitutionRow("employer", "云栖市虚构单位", "Invented employer in Yunqi"),
    "employer2": InstitutionRow("employer", "镜澜市虚构单位", "Invented employer in Jinglan", region="990400"),
    "production": InstitutionRow("producer", "云栖市虚构制卡中心", "Invented card producer of Yunqi"),
}
# fmt: on
