"""What is left to the packages ``rfc3161-client`` and ``cryptography``: requests to a time-stamping authority, and responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.x509 import load_pem_x509_certificates
from rfc3161_client import (  # pyright: ignore[reportMissingImports] - an extra
    HashAlgorithm,
    TimestampRequestBuilder,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

if TYPE_CHECKING:
    from datetime import datetime


def request_for(data: bytes) -> bytes:
    """Write a request for data, without a nonce: the response is kept, and checked long after the request is gone."""
    builder = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).nonce(nonce=False)
    request: bytes = builder.build().as_bytes()
    return request


def time_of(response: bytes, data: bytes, roots: bytes) -> datetime:
    """Check a response against root certificates; return when the authority saw the data.

    Certificates that the response brings are no roots: they count as far as these lead to them.

    Args:
        response: The response.
        data: What was time-stamped.
        roots: Root certificates that are trusted, in PEM.

    Raises:
        ValueError: It is no such response, of no such authority, or for other data; or the roots are none.
    """
    builder = VerifierBuilder()
    for each in load_pem_x509_certificates(roots):
        builder = builder.add_root_certificate(each)
    decoded = decode_timestamp_response(response)
    try:
        builder.build().verify_message(decoded, data)
    except VerificationError as error:
        raise ValueError(str(error)) from error
    moment: datetime = decoded.tst_info.gen_time
    return moment
