"""Roles of PostgreSQL: which rights each of them has on the library's tables, how they get them, and whether they have others."""

from sa_eventsource.roles.declared_rights import Rights, rights_on
from sa_eventsource.roles.grants import create_roles, grant_statements, rights_statements, role_statement
from sa_eventsource.roles.role_faults import RoleFault, faults_of_roles, role_faults, tables_to_grant

__all__ = [
    "Rights",
    "RoleFault",
    "create_roles",
    "faults_of_roles",
    "grant_statements",
    "rights_on",
    "rights_statements",
    "role_faults",
    "role_statement",
    "tables_to_grant",
]
