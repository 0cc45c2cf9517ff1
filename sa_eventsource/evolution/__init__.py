"""Evolution: can the code read what earlier code has stored? Shapes in a file, the check of them, and of a log."""

from sa_eventsource.evolution.causation import Link, links, observed_causation
from sa_eventsource.evolution.compatibility import differences
from sa_eventsource.evolution.declared_system import KINDS, ConsumerKind, DeclaredSystem, declared_system, kind_of
from sa_eventsource.evolution.log_scan import LogFinding, LogScan, scan_log
from sa_eventsource.evolution.schema_check import ChangedDefault, Mode, Problem, changed_defaults, changed_models, check
from sa_eventsource.evolution.schema_file import Document, document_of, events_of, json_schema_of, merged, read_document, written
from sa_eventsource.evolution.schema_page import schema_page
from sa_eventsource.evolution.shapes import Shape, digest_of_shape, shape_of, shape_of_type
from sa_eventsource.evolution.simple_values import Difference, Verdict

__all__ = [
    "KINDS",
    "ChangedDefault",
    "ConsumerKind",
    "DeclaredSystem",
    "Difference",
    "Document",
    "Link",
    "LogFinding",
    "LogScan",
    "Mode",
    "Problem",
    "Shape",
    "Verdict",
    "changed_defaults",
    "changed_models",
    "check",
    "declared_system",
    "differences",
    "digest_of_shape",
    "document_of",
    "events_of",
    "json_schema_of",
    "kind_of",
    "links",
    "merged",
    "observed_causation",
    "read_document",
    "scan_log",
    "schema_page",
    "shape_of",
    "shape_of_type",
    "written",
]
