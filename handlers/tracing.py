"""A span for every request.

True here: it is called by the route as the table names it, and says the method, the status, the code and the request id; it
goes on the trace of whoever called. Never here: anything else of a request.
"""

from handlers.answers import Response
from handlers.metrics import known_method
from handlers.wire import Answering, Request
from service.tracing import Tracing


def traced(answer: Answering, tracing: Tracing) -> Answering:
    """The same, with a span around it; the answer says where in the trace it stands."""

    async def serve(request: Request) -> Response:
        with tracing.within("request", "server", request.headers.get("traceparent")) as span:
            response = await answer(request)
            method = known_method(request.method)
            span.name(f"{method} {request.route}")
            span.say(
                {
                    "http.request.method": method,
                    "http.route": request.route,
                    "http.response.status_code": response.status,
                    "yika.code": request.code,
                    "yika.request_id": request.request_id,
                }
            )
            if response.status >= 500:  # noqa: PLR2004  a status reads best as its number
                span.fail(request.code)
            response.headers["traceparent"] = span.traceparent
            return response

    return serve
