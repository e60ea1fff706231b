"""As whom BigQuery is asked: files that Google's tools write, and acting as another account."""

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from target_bigquery.connection import SCOPES, connect
from target_bigquery.settings import settings

USER = {
    "type": "authorized_user",
    "client_id": "c",
    "client_secret": "s",
    "refresh_token": "t",
    "quota_project_id": "of-the-user",
}
WORKLOAD = {
    "type": "external_account",
    "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/x",
    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
    "token_url": "https://sts.googleapis.com/v1/token",
    "credential_source": {"file": "/var/run/token"},
}


@pytest.fixture(scope="module")
def service_account() -> dict[str, str]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "type": "service_account",
        "client_email": "loader@p.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
        "private_key": text.decode(),
    }


def credentials(**config: Any) -> Any:
    client = connect(settings({"project": "p", "dataset": "d", **config}, {}))
    try:
        return client._credentials
    finally:
        client.close()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("setting", ["credentials_path", "credentials_json"])
@pytest.mark.parametrize("kind", ["user", "workload", "service account"])
def test_credentials_of_every_kind_are_taken(
    tmp_path: Path, service_account: dict[str, str], kind: str, setting: str
) -> None:
    info = {"user": USER, "workload": WORKLOAD, "service account": service_account}[kind]
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(info))
    found = credentials(**{setting: str(path) if setting == "credentials_path" else info})
    # A user has agreed to scopes at login: others would be refused.
    assert found.scopes == (None if kind == "user" else SCOPES)
    assert not any("drive" in scope for scope in SCOPES)


def test_default_credentials_of_a_user_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "application_default_credentials.json"
    path.write_text(json.dumps({**USER, "quota_project_id": None}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    assert credentials(quota_project="q").quota_project_id == "q"


def test_another_account_and_quota_project_can_be_named(service_account: dict[str, str]) -> None:
    found = credentials(
        credentials_json=service_account,
        impersonate_service_account="other@p.iam.gserviceaccount.com",
        quota_project="counted-here",
    )
    assert found.service_account_email == "other@p.iam.gserviceaccount.com"
    assert found.quota_project_id == "counted-here"
    assert credentials(credentials_json=USER).quota_project_id == "of-the-user"
