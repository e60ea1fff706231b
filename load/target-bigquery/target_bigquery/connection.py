"""The client of Google's library: where BigQuery is, and as whom it is asked."""

import json
import warnings
from typing import Any

import google.auth
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_exceptions
from google.auth import impersonated_credentials
from google.auth.credentials import with_scopes_if_required
from google.cloud import bigquery

from target_bigquery.errors import TargetError, one_line
from target_bigquery.settings import Settings

# What the roles of an account allow is allowed; a user's own credentials have this scope too.
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def connect(settings: Settings) -> bigquery.Client:
    """Return the client.

    Raises:
        TargetError: there are no usable credentials.
    """
    return bigquery.Client(
        project=settings.project,
        credentials=_credentials(settings),
        client_options=ClientOptions(quota_project_id=settings.quota_project),
        location=settings.location,
    )


def _credentials(settings: Settings) -> Any:
    """Return credentials of any kind that Google's tools write.

    They are a service account's key, a user's own, or a workload identity's.
    https://cloud.google.com/docs/authentication/application-default-credentials
    """
    try:
        found = with_scopes_if_required(_found(settings), SCOPES)  # type: ignore[no-untyped-call]
        if settings.impersonate_service_account:
            return impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]
                found, settings.impersonate_service_account, SCOPES
            )
    except (auth_exceptions.GoogleAuthError, OSError, ValueError, KeyError, TypeError) as error:
        why = f" ({one_line(error.__cause__)})" if error.__cause__ else ""
        raise TargetError(
            f"no usable credentials: {one_line(error)}{why}; set credentials_path, "
            "credentials_json or GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
    return found


def _found(settings: Settings) -> Any:
    with warnings.catch_warnings():
        # Their advice is for programs that are given a file by strangers.
        warnings.simplefilter("ignore", DeprecationWarning)
        if settings.credentials_json:
            try:
                info = json.loads(settings.credentials_json)
            except ValueError:
                raise TargetError("setting 'credentials_json' is not JSON") from None
            return google.auth.load_credentials_from_dict(info)[0]  # type: ignore[no-untyped-call]
        if settings.credentials_path:
            path = settings.credentials_path
            return google.auth.load_credentials_from_file(path)[0]  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # A user's credentials without a quota project: setting quota_project names one.
        warnings.simplefilter("ignore", UserWarning)
        return google.auth.default(scopes=SCOPES)[0]
