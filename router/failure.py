"""A call that a backend has answered with an error."""

from __future__ import annotations

from typing import Any

import grpc

from router.ledger import Reports, Trailers, add_to_error, add_to_trailers
from services.common.call import CallRecord
from services.common.errors import BackendError
from services.common.handlers import Context
from services.common.trailers import build_trailers, cut_message, read_reason, read_report


class CallFailed(Exception):
    """The error of a call, which its caller gets unless another model answers.

    initial: metadata that has not been sent yet.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, trailers: Trailers, initial: Any = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailers = trailers
        self.initial = tuple(initial)
        self.reason = read_reason(trailers)

    @property
    def reports(self) -> Reports:
        """What the call took. An error without a report took nothing."""
        report = read_report(self.trailers)
        return () if report is None else (report,)

    def after(self, reports: Reports, failed_models: str = "") -> CallFailed:
        """Return the same error with what earlier attempts took, and the models that failed."""
        if not reports and not failed_models:
            return self
        message = self.message
        if failed_models:
            message = cut_message(f"{message} (models that failed before: {failed_models})")
        trailers = add_to_trailers(self.trailers, reports, failed_models)
        return CallFailed(self.code, message, trailers, self.initial)

    async def send(self, context: Context, record: CallRecord) -> None:
        """End the caller's call with the error. Always raises."""
        if self.initial:
            await context.send_initial_metadata(self.initial)
        record.status = self.code.name
        if self.reason:
            record.add(reason=self.reason)
        await context.abort(self.code, self.message, self.trailers)


def extend_own(error: BackendError, reports: Reports, failed_models: str) -> CallFailed:
    """Return an error of the router itself, with what earlier attempts took.

    As a CallFailed, so that their usage is not counted again. That of a BackendError would be.
    """
    error.metadata["failed_models"] = failed_models
    add_to_error(error, reports)
    return CallFailed(error.code, cut_message(error.message), build_trailers(error))
