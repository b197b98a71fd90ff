"""A broker with TLS, SASL and permissions, its certificates made on the spot: what a guarded cluster looks like."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

from tests import kafka_broker
from tests.kafka_broker import Cluster
from tests.kafka_settings import Extra

USER, PASSWORD = "ada", "correct-horse-battery"
GUEST, GUEST_PASSWORD = "guest", "staple-of-guests"  # may log in, and nothing else
KEY_PASSWORD = "key-to-the-key"
_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")
_LOGIN = "org.apache.kafka.common.security.{}LoginModule required"


@dataclass(frozen=True)
class Secured:
    """The cluster, and the files with which one gets in.

    Attributes:
        sasl: where to log in with a password, over TLS.
        tls: where a client's certificate is asked for.
        ca: who has signed the broker's certificate; *other_ca* has not.
        certificate: of a client that may do anything, with its *key*, and with the same *locked_key* under a password.
    """

    cluster: Cluster
    sasl: str
    tls: str
    ca: Path
    other_ca: Path
    certificate: Path
    key: Path
    locked_key: Path


@contextlib.contextmanager
def secured(directory: Path, settings: Mapping[str, str] | None = None) -> Iterator[Secured]:
    """Give a test such a cluster; its plain listener, where nobody has a name, may do anything too."""
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(directory / "ca.pem")
    other.cert_pem.write_to_path(directory / "other-ca.pem")
    server = authority.issue_cert("127.0.0.1", "localhost")
    chain = b"".join(blob.bytes() for blob in server.cert_chain_pems)
    (directory / "server.pem").write_bytes(_key(server) + chain)
    client = authority.issue_cert("streamal", common_name="streamal")
    (directory / "client.pem").write_bytes(b"".join(blob.bytes() for blob in client.cert_chain_pems))
    (directory / "client.key").write_bytes(_key(client))
    (directory / "locked.key").write_bytes(_key(client, KEY_PASSWORD))
    extra = Extra(
        {**_settings(directory), **(settings or {})},
        {"SASL": "SASL_SSL", "TLS": "SSL"},
        [
            f"{mechanism}=[name={name},password={password}]"
            for mechanism in _SCRAM
            for name, password in ((USER, PASSWORD), (GUEST, GUEST_PASSWORD))
        ],
    )
    with kafka_broker.fragile(1, extra) as cluster:
        files = (directory / name for name in ("ca.pem", "other-ca.pem", "client.pem", "client.key", "locked.key"))
        yield Secured(cluster, cluster.listeners["SASL"], cluster.listeners["TLS"], *files)


def _settings(directory: Path) -> dict[str, str]:
    users = f'user_{USER}="{PASSWORD}" user_{GUEST}="{GUEST_PASSWORD}"'
    return {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(directory / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.pem"),
        "listener.name.tls.ssl.client.auth": "required",
        "listener.name.tls.ssl.principal.mapping.rules": "RULE:^CN=([^,]+),.*$/$1/,DEFAULT",
        "listener.name.sasl.sasl.enabled.mechanisms": ",".join(["PLAIN", *_SCRAM]),
        "listener.name.sasl.plain.sasl.jaas.config": f"{_LOGIN.format('plain.Plain')} {users};",
        **{
            f"listener.name.sasl.{mechanism.lower()}.sasl.jaas.config": f"{_LOGIN.format('scram.Scram')};"
            for mechanism in _SCRAM
        },
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:ANONYMOUS;User:streamal;User:{USER}",
    }


def _key(certificate: trustme.LeafCert, password: str | None = None) -> bytes:
    """Return the private key in the form that Java reads too, under *password* if there is one."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    lock = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
