"""A CA of the test's own, and what it issues."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOCAL = ("localhost", "127.0.0.1")


class Authority:
    """A private CA, known to nobody who is not told of `file`."""

    def __init__(self, folder: Path, *, name: str = "ca") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(f"The CA of a test ({name})")
        self.file = folder / f"{name}.crt"
        about = self._begun(self._name, self._key, days=(-1, 30))
        about = about.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.file.write_bytes(about.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *hosts: str, subject: str = "a server", days: tuple[int, int] = (-1, 30), password: str | None = None
    ) -> tuple[Path, Path]:
        """A certificate for `hosts`, good from and to so many days from now, and its key; the files are called `name`."""
        key = ec.generate_private_key(ec.SECP256R1())
        about = self._begun(_named(subject), key, days=days)
        if hosts:
            about = about.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
        certificate, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(about.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        key_file.touch(mode=0o600)
        encryption = (
            serialization.NoEncryption() if password is None else serialization.BestAvailableEncryption(password.encode("ascii"))
        )
        key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption))
        return certificate, key_file

    def revoke(self, certificate: Path) -> Path:
        """A revocation list with `certificate` on it."""
        now = datetime.now(UTC)
        number = x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number
        revoked = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(now).build()
        about = (
            x509.CertificateRevocationListBuilder().issuer_name(self._name).last_update(now).next_update(now + timedelta(days=1))
        )
        file = self._folder / "revoked.crl"
        listed = about.add_revoked_certificate(revoked).sign(self._key, hashes.SHA256())
        file.write_bytes(listed.public_bytes(serialization.Encoding.PEM))
        return file

    def server(self, name: str, *hosts: str, days: tuple[int, int] = (-1, 30)) -> ssl.SSLContext:
        """The TLS of a server with a certificate of this CA."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, *hosts, days=days))
        return context

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, days: tuple[int, int]) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=days[0]))
            .not_valid_after(now + timedelta(days=days[1]))
        )


def _named(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
