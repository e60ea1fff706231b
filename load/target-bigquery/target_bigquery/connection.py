"""The client of Google's library: where BigQuery is, and as whom it is asked."""

import json
import warnings
from typing import Any

import google.auth
from google.api_core.client_options import ClientOptions
from google.auth import exceptions as auth_exceptions
from google.auth.credentials import AnonymousCredentials
from google.cloud import bigquery
from google.oauth2 import service_account

from target_bigquery.errors import TargetError, one_line
from target_bigquery.settings import Settings

SCOPES = ["https://www.googleapis.com/auth/bigquery", "https://www.googleapis.com/auth/drive"]


def connect(settings: Settings) -> bigquery.Client:
    """Return the client.

    Raises:
        TargetError: there are no usable credentials.
    """
    if settings.emulator:
        host = settings.emulator if "://" in settings.emulator else f"http://{settings.emulator}"
        return bigquery.Client(
            project=settings.project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options=ClientOptions(api_endpoint=host),
            location=settings.location,
        )
    return bigquery.Client(
        project=settings.project, credentials=_credentials(settings), location=settings.location
    )


def _credentials(settings: Settings) -> Any:
    try:
        if settings.credentials_json:
            try:
                info = json.loads(settings.credentials_json)
            except ValueError:
                raise TargetError("setting 'credentials_json' is not JSON") from None
            return service_account.Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                info, scopes=SCOPES
            )
        if settings.credentials_path:
            with warnings.catch_warnings():
                # Its advice is for programs that are given a file by strangers.
                warnings.simplefilter("ignore", DeprecationWarning)
                return google.auth.load_credentials_from_file(  # type: ignore[no-untyped-call]
                    settings.credentials_path, scopes=SCOPES
                )[0]
        return google.auth.default(scopes=SCOPES)[0]
    except (auth_exceptions.GoogleAuthError, OSError, ValueError, KeyError) as error:
        raise TargetError(
            f"no usable credentials: {one_line(error)}; set credentials_path, credentials_json or "
            "GOOGLE_APPLICATION_CREDENTIALS"
        ) from None
