"""The whole API on a page: method, path, handler, who may, and every refusal of its own."""

from typing import Final

from handlers import activations, cards, health, holders, identity, pages, regions, sessions
from handlers.access import Access
from handlers.endpoints import Route
from schemas.activations import ActivationRequest, ActivationView, ReceiptCheck, ReceiptView
from schemas.cards import BalanceView, CardPage, CardView, HistoryPage
from schemas.health import HealthView
from schemas.holders import AccessPage, MeView, Reveal, RevealedView
from schemas.identity import FaceVerificationView, VerificationProof, VerificationStart, VerificationView
from schemas.pages import PageView, RegionQuery
from schemas.regions import RegionPage, RegionView
from schemas.sessions import JwksView, Refresh, SessionPage, TokensView
from schemas.wire import Empty, PageQuery

_PUBLIC: Final = Access.PUBLIC
_HOLDER: Final = Access.HOLDER

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
          "Identity", body=VerificationProof,
          refuses=("not_found", "verification_failed", "verification_locked", "verification_expired", "verification_used")),
    # Sessions
    Route("POST", "/v1/sessions/refresh", sessions.refresh_session, _PUBLIC, TokensView, "Sessions", body=Refresh,
          refuses=("token_invalid", "token_expired", "token_revoked")),
    Route("POST", "/v1/sessions/logout", sessions.logout, _HOLDER, Empty, "Sessions"),
    Route("GET", "/v1/sessions", sessions.list_sessions, _HOLDER, SessionPage, "Sessions", query=PageQuery),
    Route("POST", "/v1/sessions/{session_id}/revoke", sessions.revoke_session, _HOLDER, Empty, "Sessions",
          refuses=("not_found",)),
    Route("GET", "/.well-known/jwks.json", sessions.published_keys, _PUBLIC, JwksView, "Sessions"),
    # The holder's own data
    Route("GET", "/v1/me", holders.show_me, _HOLDER, MeView, "Me", paced=True),
    Route("POST", "/v1/me/reveal", holders.reveal, _HOLDER, RevealedView, "Me", body=Reveal, keyed=True, level=2,
          fresh=True, paced=True,
          refuses=("assurance_too_low",)),
    Route("GET", "/v1/me/access-log", holders.list_accesses, _HOLDER, AccessPage, "Me", query=PageQuery, paced=True),
    # Cards
    Route("GET", "/v1/cards", cards.list_cards, _HOLDER, CardPage, "Cards", query=PageQuery, paced=True,
          beside=True),
    Route("GET", "/v1/cards/{card_id}", cards.show_card, _HOLDER, CardView, "Cards", paced=True, beside=True,
          refuses=("not_found",)),
    Route("GET", "/v1/cards/{card_id}/balance", cards.show_balance, _HOLDER, BalanceView, "Cards", paced=True, beside=True,
          refuses=("not_found",)),
    Route("GET", "/v1/cards/{card_id}/history", cards.show_history, _HOLDER, HistoryPage, "Cards", query=PageQuery, paced=True,
          beside=True, refuses=("not_found",)),
    Route("POST", "/v1/activations", activations.activate, _HOLDER, ActivationView, "Cards", body=ActivationRequest,
          keyed=True, level=2,
          refuses=("assurance_too_low", "channel_not_allowed", "guardian_required", "region_not_interconnected",
                   "card_details_mismatch", "card_not_activatable", "too_many_attempts", "not_found")),
    Route("GET", "/v1/activations/{activation_id}", activations.show_activation, _HOLDER, ActivationView, "Cards", paced=True,
          beside=True, refuses=("not_found",)),
    Route("POST", "/v1/receipts/verify", activations.verify_receipt, _PUBLIC, ReceiptView, "Cards", body=ReceiptCheck),
    # Regions
    Route("GET", "/v1/regions", regions.list_regions, _PUBLIC, RegionPage, "Regions"),
    Route("GET", "/v1/regions/{region_code}", regions.show_region, _PUBLIC, RegionView, "Regions", refuses=("not_found",)),
    *HEALTH_ROUTES,
)
# fmt: on
