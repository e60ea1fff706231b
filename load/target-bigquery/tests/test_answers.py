"""What BigQuery's errors are taken for, and what somebody who reads them is told to do."""

from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.auth import exceptions as auth

from target_bigquery.answers import explained, passes

DENIED = "Access Denied: {}: Permission {} denied on {} (or it may not exist)."


def of_call(status: int, reason: str, message: str) -> Any:
    """Return the error of a call that was answered with it."""
    return exceptions.from_http_status(  # type: ignore[no-untyped-call]
        status,
        message,
        errors=[{"reason": reason, "message": message}],
        response=requests.Response(),
    )


def of_job(reason: str, message: str, status: int = 400) -> Any:
    """Return the error of a job that was taken and failed; the client makes up the status."""
    return exceptions.from_http_status(  # type: ignore[no-untyped-call]
        status, message, errors=[{"reason": reason, "message": message}]
    )


def refused(message: str, *, retryable: bool = False) -> Any:
    """Return the error of credentials that get no token."""
    return auth.RefreshError(message, retryable=retryable)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "error",
    [
        of_call(400, "invalidQuery", "Could not serialize access to table p:d.t due to conc…"),
        of_job("invalidQuery", "Table p:d.t was modified by concurrent UPDATE/DELETE/MERGE DML"),
        of_job("invalidQuery", "Exceeded rate limits: too many table update operations"),
        of_job("quotaExceeded", "Your table exceeded quota for … dml jobs, pending + running", 403),
        of_job("resourcesExceeded", "Too many DML statements outstanding against table p:d.t"),
        of_job("jobBackendError", "…", 500),
        of_job("tableUnavailable", "…"),
        of_call(409, "aborted", "…"),
        of_call(412, "conditionNotMet", "Precondition Failed"),
        of_call(429, "rateLimitExceeded", "…"),
        of_call(502, "", "<html>"),
        requests.exceptions.ReadTimeout(),
        requests.exceptions.ChunkedEncodingError(),
        ConnectionResetError(),
        refused("try again", retryable=True),
    ],
)
def test_what_passes_is_tried_again(error: BaseException) -> None:
    assert passes(error)


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (of_job("quotaExceeded", "Quota exceeded: imports per table", 403), "iam-admin/quotas"),
        (of_job("quotaExceeded", "Custom quota exceeded: QueryUsagePerDay", 403), "wait until"),
        (of_job("billingNotEnabled", "Billing has not been enabled. DML …", 403), "link one at"),
        (of_call(403, "accessDenied", "BigQuery: DML … in the free tier"), "billing account"),
        (
            of_job("bytesBilledLimitExceeded", "Query exceeded limit for bytes billed: 1.", 500),
            "maximum_bytes_billed",
        ),
        (
            of_call(403, "accessDenied", DENIED.format("Project p", "bigquery.jobs.create", "p")),
            "the role BigQuery Job User (project)",
        ),
        (
            of_call(403, "accessDenied", DENIED.format("Dataset d", "bigquery.tables.create", "d")),
            "the role BigQuery Data Editor (dataset)",
        ),
        (
            of_job(
                "accessDenied",
                "Access Denied: Table p:d.t: User does not have permission to query it",
                403,
            ),
            "the role BigQuery Data Editor (dataset)",
        ),
        (
            of_call(
                403, "accessDenied", DENIED.format("Project p", "bigquery.datasets.create", "p")
            ),
            "make the dataset, or give",
        ),
        (
            of_call(403, "vpcServiceControls", "Request is prohibited by organization's policy."),
            "VPC Service Controls",
        ),
        (of_call(412, "", "violates constraint constraints/gcp.resourceLocations"), "policy of"),
        (of_call(403, "accessDenied", "… cloudkms.cryptoKeyVersions.useToEncrypt …"), "kms_key"),
        (
            of_call(403, "forbidden", "Caller does not have required permission to use project q. "
                    "Grant … serviceusage.services.use"),
            "quota_project",
        ),
        (
            of_call(403, "accessNotConfigured", "BigQuery API has not been used in project 1"),
            "apis/library",
        ),
        (of_call(404, "notFound", "Not found: Project my-name"), "must be the ID"),
        (
            of_job("notFound", "Not found: Dataset p:d was not found in location EU", 404),
            "one location",
        ),
        (of_call(404, "notFound", "Not found: Table p:d.t"), "dropped or renamed"),
        (of_call(401, "authError", "Request had invalid authentication"), "credentials_path"),
        (refused("('invalid_grant: Token has been expired or revoked.')"), "gcloud auth"),
        (
            refused("Unable to acquire impersonated credentials"),
            "Service Account Token Creator",
        ),
        (of_call(501, "notImplemented", "no"), "no"),
        (of_job("invalidQuery", "Syntax error: Unexpected end of script"), "Syntax error"),
        (of_job("stopped", "Job execution was cancelled: User requested it", 400), "cancelled"),
    ],
)  # fmt: skip
def test_what_does_not_pass_says_what_to_do(error: Any, advice: str) -> None:
    assert advice in explained(error)
    assert "\n" not in explained(error)
    assert not passes(error)
