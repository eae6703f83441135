//! Who may do what in the database: contained users, roles and grants, as a script that the database's owner runs. Nothing is granted to
//! `public`, so whoever is in no role sees nothing; the denials hold even for whoever is in a second role that grants more.

use std::fmt::Write as _;

use super::ddl::DEIDENTIFIED;
use crate::store::columns::{FACILITIES, PATIENTS};

/// A database role: its name, who is in it, and what it may do to which table.
struct DatabaseRole {
    name: &'static str,
    who: &'static str,
    grants: &'static [(&'static str, &'static str)],
    denials: &'static [(&'static str, &'static str)],
    /// Does it see how everything is defined, without a row of it?
    sees_definitions: bool,
    /// The `sqlcmd` variable with the name of the Entra user, group or managed identity.
    member: &'static str,
}

/// Every role. The program deletes nothing but the survey, which is replaced, announcements that were published, and assignments
/// that are taken away.
const ROLES: [DatabaseRole; 5] = [
    DatabaseRole {
        name: "hdai_app",
        who: "the Functions app: what the program does, and no more",
        grants: &[
            ("SELECT, INSERT, UPDATE", PATIENTS),
            ("SELECT, INSERT, UPDATE", FACILITIES),
            ("SELECT, INSERT, UPDATE", "imports"),
            ("SELECT, INSERT, UPDATE", "importparts"),
            ("SELECT, INSERT", "rejects"),
            ("SELECT, INSERT", "models"),
            ("SELECT, INSERT", "audit"),
            ("SELECT, UPDATE", "audithead"),
            ("SELECT, INSERT, DELETE", "survey"),
            ("SELECT, INSERT, DELETE", "findings"),
            ("SELECT, INSERT, UPDATE, DELETE", "outbox"),
            ("SELECT, UPDATE", "outbox_lease"),
            ("SELECT, INSERT, UPDATE", "datakeys"),
            ("SELECT, INSERT, UPDATE, DELETE", "assignments"),
            ("SELECT, INSERT, UPDATE", "elevations"),
            ("SELECT", "schema_migrations"),
            ("SELECT, UPDATE", "auditrecord"),
            ("SELECT", "auditanchors"),
        ],
        denials: &[("UPDATE, DELETE", "audit"), ("INSERT, UPDATE, DELETE", "auditanchors")],
        sees_definitions: false,
        member: "AppName",
    },
    DatabaseRole {
        name: "hdai_analyst",
        who: "the database analyst: cares for the database, reads no patient",
        grants: &[
            ("SELECT", "imports"),
            ("SELECT", "importparts"),
            ("SELECT", "models"),
            ("SELECT", FACILITIES),
            ("SELECT", "schema_migrations"),
        ],
        denials: &[
            ("SELECT", PATIENTS),
            ("SELECT", DEIDENTIFIED),
            ("SELECT", "rejects"),
            ("SELECT", "audit"),
            ("SELECT", "datakeys"),
            ("SELECT", "elevations"),
        ],
        sees_definitions: true,
        member: "AnalystName",
    },
    DatabaseRole {
        name: "hdai_datascientist",
        who: "the data scientist: encounters without anything that names a patient",
        grants: &[
            ("SELECT", DEIDENTIFIED),
            ("SELECT", "models"),
            ("SELECT", "survey"),
            ("SELECT", "findings"),
            ("SELECT", FACILITIES),
        ],
        denials: &[("SELECT", PATIENTS), ("SELECT", "audit")],
        sees_definitions: false,
        member: "DataScientistName",
    },
    DatabaseRole {
        name: "hdai_auditor",
        who: "the auditor: the trail, to whose end its own questions are added, and whose patients callers reach",
        grants: &[
            ("SELECT, INSERT", "audit"),
            ("SELECT, UPDATE", "audithead"),
            ("SELECT", "auditrecord"),
            ("SELECT", "auditanchors"),
            ("SELECT", "assignments"),
            ("SELECT", "elevations"),
            ("SELECT", "schema_migrations"),
        ],
        denials: &[
            ("SELECT", PATIENTS),
            ("UPDATE, DELETE", "audit"),
            ("INSERT, UPDATE, DELETE", "auditanchors"),
            ("UPDATE", "auditrecord"),
        ],
        sees_definitions: false,
        member: "AuditorName",
    },
    DatabaseRole {
        name: "hdai_archivist",
        who: "whoever removes audit events whose time is over (`hdai audit purge`), and reads nothing else; empty but for that hour",
        grants: &[
            ("SELECT, INSERT, DELETE", "audit"),
            ("SELECT, UPDATE", "audithead"),
            ("SELECT, UPDATE", "auditrecord"),
            ("SELECT, INSERT", "auditanchors"),
            ("SELECT", "schema_migrations"),
        ],
        denials: &[("SELECT", PATIENTS), ("UPDATE", "audit"), ("UPDATE, DELETE", "auditanchors")],
        sees_definitions: false,
        member: "ArchivistName",
    },
];

/// The script, for `sqlcmd` in the database itself, connected as its Entra administrator. It may be run again.
pub fn roles(schema: &str) -> String {
    let mut text = String::from(
        "-- Contained users and roles of the record. Generated by `hdai schema --part roles`; not for editing.\n\
         -- Run after the migrations, in the database, as its Microsoft Entra administrator:\n\
         --   sqlcmd -S SERVER.database.windows.net -d DATABASE -G -i roles.sql \\\n",
    );
    for role in &ROLES {
        let _ = writeln!(text, "--     -v {}=\"NAME OF THE IDENTITY OR GROUP\" \\", role.member);
    }
    text.push_str(
        "-- Nothing is granted to public: whoever is in none of these roles sees nothing. A DENY outweighs every GRANT, so a second\n\
         -- role opens nothing that the first one closes (the owner of the database is outside all of this; its acts are for the\n\
         -- server's own auditing).\n-- Migrations are not the app's: let the owner run `hdai migrate`, or what `hdai migrate --script` prints.\n",
    );
    for role in &ROLES {
        write_role(&mut text, schema, role);
    }
    text.push_str("GO\n");
    text
}

fn write_role(text: &mut String, schema: &str, role: &DatabaseRole) {
    let DatabaseRole { name, who, member, .. } = role;
    let _ = write!(text, "GO\n\n-- {name}: {who}.\nIF DATABASE_PRINCIPAL_ID(N'{name}') IS NULL CREATE ROLE {name};\nGO\n");
    for (rights, table) in role.grants {
        let _ = writeln!(text, "GRANT {rights} ON {schema}.{table} TO {name};");
    }
    for (rights, table) in role.denials {
        let _ = writeln!(text, "DENY {rights} ON {schema}.{table} TO {name};");
    }
    if role.sees_definitions {
        let _ = writeln!(text, "GRANT VIEW DEFINITION ON SCHEMA::{schema} TO {name};");
    }
    let _ = write!(
        text,
        "GO\nIF DATABASE_PRINCIPAL_ID(N'$({member})') IS NULL CREATE USER [$({member})] FROM EXTERNAL PROVIDER;\n\
         ALTER ROLE {name} ADD MEMBER [$({member})];\n"
    );
}
