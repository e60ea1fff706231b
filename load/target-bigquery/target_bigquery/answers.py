"""What an error of BigQuery's means: whether it passes, and what somebody can do about it.

A failed job is told by its reason alone, a failed call by its status too. Some failures that pass
come as 400 invalidQuery or 403 quotaExceeded, and only their text tells.
https://cloud.google.com/bigquery/docs/error-messages
https://cloud.google.com/bigquery/docs/data-manipulation-language#dml_statement_conflicts
"""

import re
from typing import Any

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.resumable_media import common as media_exceptions
from requests import exceptions as requests_exceptions

from target_bigquery.errors import one_line

CONNECTION_ERRORS = (
    ConnectionError, TimeoutError, auth_exceptions.TransportError, media_exceptions.DataCorruption,
    media_exceptions.InvalidResponse, requests_exceptions.ConnectionError,
    requests_exceptions.ChunkedEncodingError, requests_exceptions.ContentDecodingError,
    requests_exceptions.InvalidJSONError, requests_exceptions.Timeout,
)  # fmt: skip
ERRORS = (*CONNECTION_ERRORS, exceptions.GoogleAPICallError, auth_exceptions.GoogleAuthError)
_PASSING_REASONS = {
    "backendError", "internalError", "jobBackendError", "jobInternalError", "jobRateLimitExceeded",
    "rateLimitExceeded", "tableUnavailable",
}  # fmt: skip
# 409 and 412: somebody else changed the same thing. 410: of an upload that has to begin anew.
_PASSING_STATUS = {408, 409, 410, 412, 429, *range(500, 600)} - {501}
_PASSING_TEXTS = re.compile(
    r"concurrent update|could not serialize access|transaction is aborted"
    r"|exceeded rate limits|too many dml statements outstanding|too many concurrent"
    r"|pending \+ running|quota for concurrent"
    r"|retrying (the job )?may solve|(please )?(try|retry)( the \w+)? again|please retry",
    re.IGNORECASE,
)
# By what is searched for in reason and text; the first that is found says what to do.
_ADVICE: dict[str, str] = {
    r"billingNotEnabled|billing (has not been|is not) enabled|billing .*(disabled|closed)"
    r"|free tier": "the project has no active billing account, and without one BigQuery runs no "
    "MERGE, INSERT, UPDATE or DELETE: link one at https://console.cloud.google.com/billing",
    r"bytesBilledLimitExceeded|limit for bytes billed": "raise or remove the setting "
    "maximum_bytes_billed, or cluster the table by its key so that less of it is read",
    r"quotaExceeded|quota exceeded|exceeded .*quota": "the message names the quota: wait until it "
    "is free again (most count a day), load less often (flush_seconds, flush_rows, flush_bytes), "
    "or ask for more at https://console.cloud.google.com/iam-admin/quotas; what each one counts: "
    "https://cloud.google.com/bigquery/docs/troubleshoot-quotas",
    r"vpc ?service ?controls|prohibited by organization|SECURITY_POLICY_VIOLATED": "a VPC Service "
    "Controls perimeter refuses: its administrator has to let this account and network in, and "
    "finds the case by the message's unique identifier",
    r"constraints/gcp\.resourceLocations|violates (the )?(org|constraint)|policyViolation": "a "
    "policy of the organization forbids it: choose another location or kms_key_name, or ask its "
    "administrator",
    r"cloud ?kms|kms ?key|cryptoKey": "the key in kms_key_name has to be where the dataset is, and "
    "BigQuery's service account needs the role Cloud KMS CryptoKey Encrypter/Decrypter on it: "
    "https://cloud.google.com/bigquery/docs/customer-managed-encryption",
    r"serviceusage\.services\.use|USER_PROJECT_DENIED": "the account needs the role Service Usage "
    "Consumer on the project in quota_project",
    r"SERVICE_DISABLED|accessNotConfigured|has not been used in project|API .*disabled": "enable "
    "the project's API at https://console.cloud.google.com/apis/library/bigquery.googleapis.com",
    r"getAccessToken|impersonat": "the account needs the role Service Account Token Creator on the "
    "one in impersonate_service_account, and its project the IAM Service Account Credentials API",
    r"datasets\.create": "make the dataset, or give the account the role BigQuery User (project), "
    "which may",
    r"jobs\.(create|get)|Access Denied: (BigQuery BigQuery: )?(Project|Job)": "the account needs "
    "the role BigQuery Job User (project)",
    r"policy ?tag|fineGrained": "the account needs the role Fine-Grained Reader on the policy tags "
    "of the columns",
    r"Access Denied: (BigQuery BigQuery: )?(Dataset|Table)|permission bigquery\.": "the account "
    "needs the role BigQuery Data Editor (dataset)",
    r"Not found: Project|invalid project|project \S+ (was |is )?(not found|deleted)"
    r"|project.* has been deleted": "the setting project must be the ID of a project that exists, "
    "not its name",
    r"not found in location|match the location|different locations?": "datasets of one job have to "
    "be in one location: check location and staging_dataset",
    r"(invalid|unsupported) location|location .* not supported": "check the setting location: "
    "https://cloud.google.com/bigquery/docs/locations",
    r"Not found: (Dataset|Table)": "it was dropped or renamed while it was in use, or the account "
    "may not see it",
    r"invalid_grant|reauth|token has been (expired|revoked)|invalid (jwt|authentication)"
    r"|invalid_client|authError": "check credentials_path, credentials_json or the application "
    "default ones (gcloud auth application-default login)",
}
_BY_STATUS = {
    401: "check credentials_path, credentials_json or the application default ones",
    403: "the account needs the roles BigQuery Data Editor (dataset) and BigQuery Job User "
    "(project)",
}


def passes(error: BaseException) -> bool:
    """Tell if the same call, or the same work in another job, may succeed later."""
    if isinstance(error, exceptions.GoogleAPICallError):
        if "constraints/" in one_line(error):  # a policy's refusal comes as 412 too
            return False
        if _reasons(error) & _PASSING_REASONS or _PASSING_TEXTS.search(one_line(error)):
            return True
        # The client makes a status up for the error of a job, and 500 of a reason it doesn't know.
        return error.response is not None and error.code in _PASSING_STATUS
    if isinstance(error, auth_exceptions.GoogleAuthError):
        return isinstance(error, auth_exceptions.TransportError) or error.retryable
    return isinstance(error, CONNECTION_ERRORS)


def explained(error: BaseException) -> str:
    """Return an error's text and what to do about it, on one line."""
    text = one_line(error)
    told = " ".join([*sorted(_reasons(error)), text])
    known = (a for pattern, a in _ADVICE.items() if re.search(pattern, told, re.IGNORECASE))
    advice = next(known, _BY_STATUS.get(getattr(error, "code", None) or 0))
    if isinstance(error, auth_exceptions.GoogleAuthError):
        text = f"the credentials are refused: {text}"
    return f"{text}; {advice}" if advice else text


def _reasons(error: BaseException) -> set[Any]:
    details = getattr(error, "errors", None) or ()
    return {detail.get("reason") for detail in details if isinstance(detail, dict)} - {None}
