"""Checking a log, and what follows it, against each other."""

from sa_eventsource.verification.findings import Check, Finding, Verification
from sa_eventsource.verification.proof_checks import ProofOptions
from sa_eventsource.verification.verification import verify

__all__ = ["Check", "Finding", "ProofOptions", "Verification", "verify"]
