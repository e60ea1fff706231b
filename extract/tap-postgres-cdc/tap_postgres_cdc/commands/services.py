"""Managed services: what differs from a server of one's own, and how to tell them apart.

Sources: AWS "Performing logical replication for Amazon RDS for PostgreSQL"; Google Cloud "Set up
logical replication and decoding"; Microsoft Learn "Logical replication and logical decoding" and
"Server parameters: replication"; Supabase "Manual replication"; Neon "Logical replication in Neon".
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from tap_postgres_cdc.commands.findings import Fix

_RESTART: Final = "restart the server; the value stays as it is until then"


@dataclass(frozen=True)
class Service:
    """Who runs a server and what they let its users do.

    Attributes:
        name: For the option `--service`.
        label: For people.
        administrator: Whoever stands for a superuser there.
        marker: Role that only servers of this service have.
        hosts: Ends of their host names.
        console: Where parameters are set; empty where SQL sets them.
        wal_level: Parameter and value that stand for `wal_level = logical`.
        fixed: Parameters that users can't change, and what to do about them instead.
        replication_role: Group whose members may replicate, in place of the attribute.
        roles_by_sql: Whether a role made by SQL can get the right to replicate.
        publishes: What beside single tables an administrator may publish.
        hashes: Whether a password may be given to the server hashed.
        caveat: What else to know.
    """

    name: str
    label: str
    administrator: str
    marker: str = ""
    hosts: tuple[str, ...] = ()
    console: str = ""
    wal_level: tuple[str, str] = ("wal_level", "logical")
    fixed: Mapping[str, str] = field(default_factory=dict)
    replication_role: str = ""
    roles_by_sql: bool = True
    publishes: frozenset[str] = frozenset()
    hashes: bool = True
    caveat: str = ""

    def set_parameter(self, name: str, value: str, *, restart: bool) -> Fix:
        """What sets a server parameter, whoever can."""
        if name in self.fixed:
            return Fix("you", do=self.fixed[name])
        if self.console:
            if name == "wal_level":
                name, value = self.wal_level
            after = ", then restart it" if restart else ""
            return Fix(self.administrator, do=f"in {self.console} set {name} to {value}{after}")
        statement = f"ALTER SYSTEM SET {name} = '{value}'"
        if restart:
            return Fix(self.administrator, (statement,), _RESTART)
        return Fix(self.administrator, (statement, "SELECT pg_reload_conf()"))

    def restart(self) -> Fix:
        """What makes a changed parameter hold."""
        where = f"in {self.console.split(',')[0]} " if self.console else ""
        return Fix(self.administrator, do=f"{where}restart the server")

    def grant_replication(self, role: str) -> Fix:
        """What lets a role replicate; the name is quoted already."""
        if self.replication_role:
            return Fix(self.administrator, (f"GRANT {self.replication_role} TO {role}",))
        if not self.roles_by_sql:
            return Fix(
                self.administrator,
                do=f"make the role {role} in {self.console}: one made by SQL can't replicate",
            )
        return Fix(self.administrator, (f"ALTER ROLE {role} REPLICATION",))


PLAIN: Final = Service(
    name="plain",
    label="PostgreSQL",
    administrator="a superuser",
    publishes=frozenset({"all", "schemas"}),
)

SERVICES: Final[Mapping[str, Service]] = {
    service.name: service
    for service in (
        PLAIN,
        Service(
            name="rds",
            label="Amazon RDS or Aurora",
            administrator="the master user (rds_superuser)",
            marker="rds_superuser",
            hosts=(".rds.amazonaws.com", ".rds.amazonaws.com.cn"),
            console="the parameter group of the instance (Aurora: of the cluster)",
            wal_level=("rds.logical_replication", "1"),
            replication_role="rds_replication",
            publishes=frozenset({"all"}),
        ),
        Service(
            name="cloud-sql",
            label="Google Cloud SQL",
            administrator="a member of cloudsqlsuperuser, such as postgres",
            marker="cloudsqlsuperuser",
            console="the flags of the instance",
            wal_level=("cloudsql.logical_decoding", "on"),
        ),
        Service(
            name="azure",
            label="Azure Database for PostgreSQL",
            administrator="the server's admin user (azure_pg_admin)",
            marker="azure_pg_admin",
            hosts=(".postgres.database.azure.com",),
            console="the server parameters in the portal",
            fixed={
                "max_slot_wal_keep_size": (
                    "watch the slot with the command lag, and drop it if the pipeline stops for "
                    "good: this service does not let the setting be changed"
                )
            },
        ),
        Service(
            name="supabase",
            label="Supabase",
            administrator="the role postgres",
            marker="supabase_admin",
            hosts=(".supabase.co", ".supabase.com"),
            console="the Supabase CLI (supabase postgres-config update)",
            publishes=frozenset({"all", "schemas"}),
            caveat="use the direct connection (db.<project>.supabase.co), not the pooler",
        ),
        Service(
            name="neon",
            label="Neon",
            administrator="a member of neon_superuser",
            marker="neon_superuser",
            hosts=(".neon.tech",),
            console="the Neon console",
            wal_level=("Logical Replication", "enabled"),
            fixed={
                "max_slot_wal_keep_size": (
                    "let the pipeline run at least daily: the service sets this itself, and "
                    "removes slots that are idle for long"
                )
            },
            roles_by_sql=False,
            publishes=frozenset({"all"}),
            hashes=False,
            caveat="use the host without -pooler",
        ),
    )
}


def detect(host: str, roles: Collection[str]) -> Service:
    """Which service a server is of, by the roles it has, else by its host's name."""
    for service in SERVICES.values():
        if service.marker and service.marker in roles:
            return service
    for service in SERVICES.values():
        if host.endswith(service.hosts):
            return service
    return PLAIN
