"""The whole API on a page: method, path, handler, who may, and every refusal of its own."""

from typing import Final

from handlers import (
    activations,
    applications,
    approvals,
    cards,
    consents,
    contacts,
    contributions,
    counters,
    data_rights,
    dependants,
    diagnosis,
    ecards,
    health,
    holders,
    hotline,
    housing_funds,
    identity,
    insurance,
    lookups,
    operators,
    pages,
    production_batches,
    receipts,
    regions,
    sessions,
    staff_cards,
    visits,
)
from handlers.access import Access
from handlers.endpoints import Route
from handlers.metrics import Family
from schemas.activations import ActivationRequest, ActivationView
from schemas.applications import (
    Advance,
    ApplicationPage,
    ApplicationRowsView,
    ApplicationsQuery,
    ApplicationView,
    BulkApplication,
    FirstCardApplication,
    Replacement,
    StaffApplicationPage,
    StaffApplicationView,
    StaffReplacement,
)
from schemas.approvals import ApprovalPage, ApprovalsQuery, ApprovalView, Verdict
from schemas.cards import BalanceView, CardPage, CardsQuery, CardView, HistoryPage, LossCancel, LossReport, PinChange
from schemas.consents import ConsentGift, ConsentPage, ConsentView
from schemas.contacts import ContactPreferences, ContactsView, EmailCode, EmailCodeView, EmailToConfirm
from schemas.contributions import ContributionsQuery, ContributionsView
from schemas.counters import CounterActivation
from schemas.data_rights import ErasureView, ExportView
from schemas.dependants import DependantLink, DependantPage, DependantView
from schemas.diagnosis import DiagnosisView
from schemas.ecards import (
    EcardApplication,
    EcardCodeRequest,
    EcardCodeText,
    EcardCodeView,
    EcardQuery,
    EcardView,
    RedeemedEcardView,
)
from schemas.health import HealthView
from schemas.holders import AccessPage, MeView, Reveal, RevealedView
from schemas.hotline import HotlineCodeRequest, HotlineCodeView
from schemas.housing_funds import HousingFundView
from schemas.identity import FaceVerificationView, VerificationProof, VerificationStart, VerificationView
from schemas.insurance import (
    EmployeeRegistrations,
    EmploymentEnd,
    InsuranceStatusView,
    RegistrationRowsView,
    RegistrationView,
    SelfRegistration,
)
from schemas.lookups import LookedUpView, LookUp
from schemas.operators import OperatorView, StaffSignIn, StaffTokensView
from schemas.pages import PageView, RegionQuery
from schemas.production_batches import BatchCheck, BatchPage, BatchStart, BatchView
from schemas.receipts import IssuedReceiptView, ReceiptCheck, ReceiptPage, ReceiptsQuery, ReceiptView
from schemas.regions import ActivationGuideView, GuideQuery, RegionPage, RegionRulesView, RegionView
from schemas.sessions import JwksView, Refresh, SessionPage, TokensView
from schemas.staff_cards import (
    ActivationReversal,
    CardCancel,
    CardLock,
    CardUnlock,
    PinCheck,
    PinCheckView,
    Presented,
    StaffLossReport,
)
from schemas.visits import VisitReport, VisitView
from schemas.wire import Empty, PageQuery
from service.actors import STAFF_ROLES
from service.ecard_codes import REDEEMERS
from service.production import MOVING_ROLES
from service.staff_cards import who_may
from service.transitions import Action

_PUBLIC: Final = Access.PUBLIC
_HOLDER: Final = Access.HOLDER
_STAFF: Final = Access.STAFF
# How the code of a call can be refused, on routes that the hotline has too.
_READ_BACK: Final = ("verification_failed", "verification_locked", "verification_expired", "verification_used")

# fmt: off
# Health, also on the admin port
HEALTH_ROUTES: Final[tuple[Route, ...]] = (
    Route("GET", "/livez", health.live, _PUBLIC, HealthView, "Health"),
    Route("GET", "/readyz", health.ready, _PUBLIC, HealthView, "Health"),
)

# Only on the admin port
ADMIN_ROUTES: Final[tuple[Route, ...]] = (
    *HEALTH_ROUTES,
    Route("GET", "/metrics", health.show_metrics, _PUBLIC, None, "Health"),
)

ROUTES: Final[tuple[Route, ...]] = (
    # Pages
    Route("GET", "/v1/pages/{page_id}", pages.show_page, Access.EITHER, PageView, "Pages", query=RegionQuery, cached=True,
          refuses=("not_found", "rate_limited")),
    # Identity
    Route("POST", "/v1/identity/verifications", identity.start_verification, _PUBLIC, VerificationView | FaceVerificationView,
          "Identity", status=201, body=VerificationStart, refuses=("rate_limited",)),
    Route("POST", "/v1/identity/verifications/{verification_id}/resend", identity.resend_code, _PUBLIC, VerificationView,
          "Identity",
          refuses=("not_found", "verification_used", "verification_expired", "verification_locked", "rate_limited")),
    Route("POST", "/v1/identity/verifications/{verification_id}/confirm", identity.confirm_verification, _PUBLIC, TokensView,
          "Identity", body=VerificationProof, counts=(Family.SIGN_INS, "unknown"),
          refuses=("not_found", "verification_failed", "verification_locked", "verification_expired", "verification_used")),
    # Sessions
    Route("POST", "/v1/sessions/refresh", sessions.refresh_session, _PUBLIC, TokensView, "Sessions", body=Refresh,
          refuses=("token_invalid", "token_expired", "token_revoked")),
    Route("POST", "/v1/sessions/logout", sessions.logout, Access.SIGNED_IN, Empty, "Sessions", leaves="signOut"),
    Route("GET", "/v1/sessions", sessions.list_sessions, _HOLDER, SessionPage, "Sessions", query=PageQuery,
          leaves="seeSessions"),
    Route("POST", "/v1/sessions/{session_id}/revoke", sessions.revoke_session, _HOLDER, Empty, "Sessions",
          refuses=("not_found",), leaves="endSession"),
    Route("GET", "/.well-known/jwks.json", sessions.published_keys, _PUBLIC, JwksView, "Sessions"),
    # The holder's own data
    Route("GET", "/v1/me", holders.show_me, _HOLDER, MeView, "Me", paced=True, leaves="seeMe"),
    Route("POST", "/v1/me/reveal", holders.reveal, _HOLDER, RevealedView, "Me", body=Reveal, keyed=True, level=2,
          fresh=True, paced=True, reveals=True,
          refuses=("assurance_too_low",)),
    Route("GET", "/v1/me/access-log", holders.list_accesses, _HOLDER, AccessPage, "Me", query=PageQuery, paced=True),
    # Contacts
    Route("GET", "/v1/me/contacts", contacts.show_contacts, _HOLDER, ContactsView, "Me", paced=True, leaves="seeContacts"),
    Route("POST", "/v1/me/contacts/email", contacts.ask_email_code, _HOLDER, EmailCodeView, "Me", body=EmailToConfirm,
          keyed=True, level=2, fresh=True, refuses=("assurance_too_low", "rate_limited"), leaves="askEmailCode"),
    Route("POST", "/v1/me/contacts/email/confirm", contacts.confirm_email, _HOLDER, ContactsView, "Me", body=EmailCode,
          keyed=True, level=2,
          refuses=("assurance_too_low", "verification_failed", "verification_locked", "verification_expired")),
    Route("POST", "/v1/me/contacts/email/remove", contacts.remove_email, _HOLDER, ContactsView, "Me", keyed=True, level=2,
          fresh=True, refuses=("assurance_too_low",)),
    Route("POST", "/v1/me/contacts/preferences", contacts.change_preferences, _HOLDER, ContactsView, "Me",
          body=ContactPreferences, keyed=True, level=2, refuses=("assurance_too_low",)),
    Route("POST", "/v1/me/export", data_rights.export_my_data, _HOLDER, ExportView, "Me", level=2, fresh=True, paced=True,
          refuses=("assurance_too_low", "rate_limited")),
    Route("POST", "/v1/me/erasure", data_rights.erase_my_data, _HOLDER, ErasureView, "Me", status=202, keyed=True, level=2,
          fresh=True, refuses=("assurance_too_low", "erasure_not_allowed")),
    # Consents
    Route("GET", "/v1/me/consents", consents.list_consents, _HOLDER, ConsentPage, "Me", paced=True, leaves="seeConsents"),
    Route("POST", "/v1/me/consents", consents.give_consent, _HOLDER, ConsentView, "Me", body=ConsentGift, keyed=True, level=2,
          refuses=("assurance_too_low", "guardian_required", "rate_limited")),
    # Taking back is as easy as can be, so it asks for no more than a session.
    Route("POST", "/v1/me/consents/{consent_id}/withdraw", consents.withdraw_consent, _HOLDER, ConsentView, "Me", keyed=True,
          refuses=("not_found", "rate_limited")),
    # Dependants
    Route("POST", "/v1/dependants", dependants.link_dependant, _HOLDER, DependantView, "Dependants", status=201,
          body=DependantLink, keyed=True, level=2,
          refuses=("assurance_too_low", "guardian_required", "household_mismatch", "dependant_not_linkable",
                   "too_many_attempts")),
    Route("GET", "/v1/dependants", dependants.list_dependants, _HOLDER, DependantPage, "Dependants", query=PageQuery,
          paced=True, leaves="seeDependants"),
    Route("POST", "/v1/dependants/{dependant_id}/end", dependants.end_dependant_link, _HOLDER, Empty, "Dependants", keyed=True,
          level=2, refuses=("assurance_too_low", "not_found")),
    # Cards
    Route("GET", "/v1/cards", cards.list_cards, _HOLDER, CardPage, "Cards", query=CardsQuery, paced=True,
          beside=True, refuses=("not_found",), leaves="seeCards"),
    Route("GET", "/v1/cards/{card_id}", cards.show_card, _HOLDER, CardView, "Cards", paced=True, beside=True,
          refuses=("not_found",), leaves="seeCard"),
    Route("GET", "/v1/cards/{card_id}/balance", cards.show_balance, _HOLDER, BalanceView, "Cards", paced=True, beside=True,
          refuses=("not_found",), leaves="seeBalance"),
    Route("GET", "/v1/cards/{card_id}/history", cards.show_history, _HOLDER, HistoryPage, "Cards", query=PageQuery, paced=True,
          beside=True, refuses=("not_found",), leaves="seeHistory"),
    Route("GET", "/v1/cards/{card_id}/diagnosis", diagnosis.show_diagnosis, _HOLDER, DiagnosisView, "Cards", paced=True,
          beside=True, refuses=("not_found",), leaves="seeDiagnosis"),
    Route("POST", "/v1/cards/{card_id}/loss", cards.report_loss, _HOLDER, CardView, "Cards", body=LossReport, keyed=True,
          level=2, refuses=("assurance_too_low", "not_found", "channel_not_allowed", "transition_not_allowed")),
    Route("POST", "/v1/cards/{card_id}/loss/cancel", cards.cancel_loss, _HOLDER, CardView, "Cards", body=LossCancel, keyed=True,
          level=2, refuses=("assurance_too_low", "not_found", "channel_not_allowed", "transition_not_allowed")),
    Route("POST", "/v1/cards/{card_id}/pin", cards.change_pin, _HOLDER, CardView, "Cards", body=PinChange, keyed=True, level=2,
          refuses=("assurance_too_low", "not_found", "channel_not_allowed", "transition_not_allowed", "pin_incorrect",
                   "pin_locked")),
    Route("POST", "/v1/activations", activations.activate, _HOLDER, ActivationView, "Cards", body=ActivationRequest,
          keyed=True, level=2, counts=(Family.ACTIVATIONS, "app"),
          refuses=("assurance_too_low", "channel_not_allowed", "guardian_required", "region_not_interconnected",
                   "card_details_mismatch", "card_not_activatable", "too_many_attempts", "not_found")),
    Route("GET", "/v1/activations/{activation_id}", activations.show_activation, _HOLDER, ActivationView, "Cards", paced=True,
          beside=True, refuses=("not_found",), leaves="seeActivation"),
    Route("GET", "/v1/receipts", receipts.list_receipts, _HOLDER, ReceiptPage, "Cards", query=ReceiptsQuery, paced=True,
          beside=True, refuses=("not_found",), leaves="seeReceipts"),
    Route("GET", "/v1/receipts/{receipt_id}", receipts.show_receipt, _HOLDER, IssuedReceiptView, "Cards", paced=True,
          beside=True, refuses=("not_found",), leaves="seeReceipt"),
    Route("POST", "/v1/receipts/verify", receipts.verify_receipt, _PUBLIC, ReceiptView, "Cards", body=ReceiptCheck),
    # E-cards
    Route("POST", "/v1/ecard", ecards.apply_for_ecard, _HOLDER, EcardView, "E-cards", body=EcardApplication, keyed=True,
          level=2, refuses=("assurance_too_low", "not_found", "consent_required", "ecard_not_allowed", "too_many_attempts")),
    Route("GET", "/v1/ecard", ecards.show_ecard, _HOLDER, EcardView, "E-cards", query=EcardQuery, paced=True,
          refuses=("not_found", "consent_required"), leaves="seeEcard"),
    Route("POST", "/v1/ecard/codes", ecards.issue_ecard_code, _HOLDER, EcardCodeView, "E-cards", body=EcardCodeRequest,
          refuses=("not_found", "consent_required", "ecard_unusable", "ecard_password_incorrect", "ecard_password_locked",
                   "rate_limited")),
    Route("POST", "/v1/ecard/codes/svg", ecards.draw_ecard_code, _HOLDER, None, "E-cards", body=EcardCodeText, paced=True,
          media_type=ecards.IMAGE, refuses=("ecard_code_invalid", "ecard_code_used", "ecard_code_expired")),
    # Applications for cards
    Route("GET", "/v1/applications", applications.list_applications, _HOLDER, ApplicationPage, "Applications", query=PageQuery,
          paced=True, beside=True, leaves="seeApplications"),
    Route("GET", "/v1/applications/{application_id}", applications.show_application, _HOLDER, ApplicationView, "Applications",
          paced=True, beside=True, refuses=("not_found",), leaves="seeApplication"),
    Route("POST", "/v1/applications", applications.apply_for_card, _HOLDER, ApplicationView, "Applications", status=201,
          body=FirstCardApplication, keyed=True, level=2,
          refuses=("assurance_too_low", "channel_not_allowed", "region_not_interconnected", "application_exists",
                   "application_not_allowed"), leaves="applyForCard"),
    Route("POST", "/v1/cards/{card_id}/replacement", applications.replace_card, _HOLDER, ApplicationView, "Applications",
          status=201, body=Replacement, keyed=True, level=2,
          refuses=("assurance_too_low", "not_found", "channel_not_allowed", "transition_not_allowed", "application_exists",
                   "application_not_allowed"), leaves="replace"),
    # Regions
    Route("GET", "/v1/regions", regions.list_regions, _PUBLIC, RegionPage, "Regions", cached=True),
    Route("GET", "/v1/regions/{region_code}", regions.show_region, _PUBLIC, RegionView, "Regions", cached=True,
          refuses=("not_found",)),
    Route("GET", "/v1/regions/{region_code}/rules", regions.show_rules, _PUBLIC, RegionRulesView, "Regions", cached=True,
          refuses=("not_found",)),
    Route("GET", "/v1/regions/{region_code}/guides/activation", regions.show_activation_guide, _PUBLIC, ActivationGuideView,
          "Regions", query=GuideQuery, cached=True, refuses=("not_found",)),
    # Staff
    Route("POST", "/v1/staff/sessions", operators.open_staff_session, _PUBLIC, StaffTokensView, "Staff", body=StaffSignIn,
          counts=(Family.SIGN_INS, "staff"),
          refuses=("sign_in_failed", "too_many_attempts", "rate_limited")),
    Route("GET", "/v1/staff/me", operators.show_operator, _STAFF, OperatorView, "Staff", roles=STAFF_ROLES),
    # Counters
    Route("POST", "/v1/staff/holders/lookup", lookups.look_up_holder, _STAFF, LookedUpView, "Staff", body=LookUp,
          roles=who_may(Action.ACTIVATE), refuses=("not_found", "rate_limited")),
    Route("POST", "/v1/staff/activations", counters.activate_at_counter, _STAFF, ActivationView, "Staff",
          body=CounterActivation, keyed=True, roles=who_may(Action.ACTIVATE), counts=(Family.ACTIVATIONS, "unknown"),
          refuses=("card_details_mismatch", "card_not_activatable", "guardian_required", "household_mismatch",
                   "region_not_interconnected", "too_many_attempts", "transition_not_allowed", *_READ_BACK)),
    Route("POST", "/v1/staff/hotline/codes", hotline.send_hotline_code, _STAFF, HotlineCodeView, "Staff",
          body=HotlineCodeRequest, roles=("hotlineAgent",), refuses=("rate_limited",)),
    Route("POST", "/v1/staff/visits", visits.record_visit, _STAFF, VisitView, "Staff", body=VisitReport, keyed=True,
          roles=("hospitalClerk",), counts=(Family.ACTIVATIONS, "unknown"),
          refuses=("card_details_mismatch", "card_not_activatable", "guardian_required", "household_mismatch",
                   "region_not_interconnected", "too_many_attempts")),
    # Cards at a counter
    Route("POST", "/v1/staff/cards/{card_id}/loss", staff_cards.report_card_loss, _STAFF, CardView, "Staff",
          body=StaffLossReport, keyed=True, roles=who_may(Action.REPORT_TEMPORARY_LOSS, Action.REPORT_FORMAL_LOSS),
          refuses=("not_found", "transition_not_allowed", *_READ_BACK)),
    Route("POST", "/v1/staff/cards/{card_id}/loss/cancel", staff_cards.cancel_card_loss, _STAFF, CardView, "Staff",
          body=Presented, keyed=True, roles=who_may(Action.CANCEL_LOSS), refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/cards/{card_id}/pin/reset", staff_cards.reset_card_pin, _STAFF, CardView, "Staff", body=Presented,
          keyed=True, roles=who_may(Action.RESET_PIN), refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/cards/{card_id}/lock", staff_cards.lock_card, _STAFF, CardView, "Staff", body=CardLock, keyed=True,
          roles=who_may(Action.LOCK), refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/cards/{card_id}/unlock", staff_cards.unlock_card, _STAFF, CardView, "Staff", body=CardUnlock,
          keyed=True, roles=who_may(Action.UNLOCK), accepted=ApprovalView, refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/cards/{card_id}/cancel", staff_cards.cancel_card, _STAFF, ApprovalView, "Staff", status=202,
          body=CardCancel, keyed=True, roles=who_may(Action.CANCEL), refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/cards/{card_id}/activation/reverse", staff_cards.reverse_card_activation, _STAFF, ApprovalView,
          "Staff", status=202, body=ActivationReversal, keyed=True, roles=who_may(Action.REVERSE_ACTIVATION),
          refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/cards/{card_id}/bank-activation", staff_cards.activate_card_bank, _STAFF, CardView, "Staff",
          body=Presented, keyed=True, roles=who_may(Action.ACTIVATE_BANK), refuses=("not_found", "transition_not_allowed")),
    Route("POST", "/v1/staff/pin-checks", staff_cards.check_pin, _STAFF, PinCheckView, "Staff", body=PinCheck,
          roles=who_may(Action.CHECK_PIN),
          refuses=("not_found", "transition_not_allowed", "pin_incorrect", "pin_locked", "pin_change_required")),
    Route("POST", "/v1/staff/ecard-codes/redeem", ecards.redeem_ecard_code, _STAFF, RedeemedEcardView, "Staff",
          body=EcardCodeText, roles=tuple(REDEEMERS), counts=(Family.ECARD_REDEMPTIONS, "unknown"),
          refuses=("ecard_code_invalid", "ecard_code_used", "ecard_code_expired", "ecard_unusable", "region_not_interconnected",
                   "too_many_attempts")),
    # Insurance
    Route("GET", "/v1/insurance/status", insurance.show_status, _HOLDER, InsuranceStatusView, "Insurance", paced=True,
          beside=True, leaves="seeInsurance"),
    Route("GET", "/v1/insurance/contributions", contributions.list_contributions, _HOLDER, ContributionsView, "Insurance",
          query=ContributionsQuery, paced=True, refuses=("not_found",), leaves="seeContributions"),
    Route("GET", "/v1/housing-fund", housing_funds.show_housing_fund, _HOLDER, HousingFundView, "Insurance", paced=True,
          leaves="seeHousingFund"),
    Route("POST", "/v1/insurance/registrations", insurance.register_myself, _HOLDER, RegistrationView, "Insurance",
          body=SelfRegistration, keyed=True, level=2, refuses=("assurance_too_low", "already_insured", "under_working_age"),
          leaves="registerInsurance"),
    Route("POST", "/v1/employer/registrations", insurance.register_employees, _STAFF, RegistrationRowsView, "Insurance",
          body=EmployeeRegistrations, keyed=True, roles=("employer",), refuses=("rate_limited",)),
    Route("POST", "/v1/employer/registrations/{registration_id}/end", insurance.end_employment, _STAFF, RegistrationView,
          "Insurance", body=EmploymentEnd, keyed=True, roles=("employer",), refuses=("not_found",)),
    Route("POST", "/v1/staff/cards/{card_id}/replacement", applications.replace_card_at_counter, _STAFF, ApplicationView,
          "Staff", status=201, body=StaffReplacement, keyed=True, roles=who_may(Action.REPLACE),
          refuses=("not_found", "transition_not_allowed", "application_exists", "application_not_allowed")),
    # Cards in the making
    Route("POST", "/v1/employer/applications", applications.apply_for_employees, _STAFF, ApplicationRowsView, "Staff",
          body=BulkApplication, keyed=True, roles=("employer",), refuses=("rate_limited",)),
    Route("POST", "/v1/staff/applications", applications.apply_for_residents, _STAFF, ApplicationRowsView, "Staff",
          body=BulkApplication, keyed=True, roles=("bureauClerk", "bureauSupervisor"), refuses=("rate_limited",)),
    Route("GET", "/v1/staff/applications", applications.list_region_applications, _STAFF, StaffApplicationPage, "Staff",
          query=ApplicationsQuery, roles=MOVING_ROLES),
    Route("POST", "/v1/staff/applications/{application_id}/advance", applications.advance_application, _STAFF,
          StaffApplicationView, "Staff", body=Advance, keyed=True, roles=MOVING_ROLES,
          refuses=("not_found", "stage_not_allowed", "card_number_taken", "application_not_allowed")),
    Route("POST", "/v1/staff/batches", production_batches.begin_batch, _STAFF, BatchView, "Staff", status=201, body=BatchStart,
          keyed=True, roles=("production",), refuses=("not_found", "stage_not_allowed")),
    Route("GET", "/v1/staff/batches", production_batches.list_batches, _STAFF, BatchPage, "Staff", query=PageQuery,
          roles=("production", "bureauClerk", "bureauSupervisor")),
    Route("GET", "/v1/staff/batches/{batch_id}", production_batches.show_batch, _STAFF, BatchView, "Staff",
          roles=("production", "bureauClerk", "bureauSupervisor"), refuses=("not_found",)),
    Route("POST", "/v1/staff/batches/{batch_id}/checks", production_batches.check_batch, _STAFF, BatchView, "Staff",
          body=BatchCheck, keyed=True, roles=("bureauSupervisor",), refuses=("not_found", "batch_closed")),
    # The second person
    Route("GET", "/v1/staff/approvals", approvals.list_approvals, _STAFF, ApprovalPage, "Staff", query=ApprovalsQuery,
          roles=("bureauSupervisor",)),
    Route("POST", "/v1/staff/approvals/{approval_id}/approve", approvals.approve, _STAFF, ApprovalView, "Staff", body=Verdict,
          keyed=True, roles=("bureauSupervisor",), refuses=("not_found", "approval_decided", "approval_expired")),
    Route("POST", "/v1/staff/approvals/{approval_id}/reject", approvals.reject, _STAFF, ApprovalView, "Staff", body=Verdict,
          keyed=True, roles=("bureauSupervisor",), refuses=("not_found", "approval_decided", "approval_expired")),
    *HEALTH_ROUTES,
)
# fmt: on
