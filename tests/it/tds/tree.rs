//! The statements that this server knows.

use sqlparser::ast::{Expr, Query, TableWithJoins};

use super::catalogue::{Collation, ObjectName};
use super::types::Type;

pub(super) enum Statement {
    Query(Box<Query>),
    /// `SELECT @a = …` and `SET @a = …`.
    Assign(Vec<(String, Expr)>),
    Declare(Vec<(String, Type, Option<Expr>)>),
    Insert {
        table: ObjectName,
        columns: Option<Vec<String>>,
        output: Vec<(Expr, Option<String>)>,
        source: Box<Query>,
    },
    Update(Box<Update>),
    Delete {
        target: ObjectName,
        output: Vec<(Expr, Option<String>)>,
        from: Vec<TableWithJoins>,
        condition: Option<Expr>,
    },
    CreateTable {
        table: ObjectName,
        columns: Vec<NewColumn>,
        constraints: Vec<Constraint>,
    },
    AddColumn {
        table: ObjectName,
        column: NewColumn,
        constraints: Vec<Constraint>,
    },
    AlterColumn {
        table: ObjectName,
        column: NewColumn,
    },
    CreateIndex {
        name: String,
        table: ObjectName,
        unique: bool,
        columns: Vec<(String, bool)>,
        include: Vec<String>,
        condition: Option<Expr>,
    },
    CreateView {
        view: ObjectName,
        columns: Vec<String>,
        query: Box<Query>,
    },
    CreateSchema(String),
    /// AFTER these events (UPDATE, DELETE or INSERT) it throws, where there is a condition and that holds of `deleted`, and does no more.
    CreateTrigger {
        name: String,
        table: ObjectName,
        events: Vec<String>,
        condition: Option<Expr>,
        number: String,
        message: String,
    },
    DropTrigger(String),
    DropTables {
        tables: Vec<ObjectName>,
        kind: char,
        if_exists: bool,
    },
    DropSchema {
        name: String,
        if_exists: bool,
    },
    DropIndex {
        name: String,
        table: ObjectName,
    },
    If {
        condition: Expr,
        then: Vec<Statement>,
        otherwise: Vec<Statement>,
    },
    Block(Vec<Statement>),
    Set(Setting),
    Execute {
        into: Option<String>,
        procedure: String,
        arguments: Vec<(Option<String>, Expr)>,
    },
    ExecuteText(Expr),
    /// Number, message, state.
    Throw(Box<[Expr; 3]>),
    Begin,
    Commit,
    Rollback,
    Return,
    InsertBulk {
        table: ObjectName,
        columns: Vec<(String, Type)>,
        check: bool,
    },
    /// Accepted, and without effect here: GRANT, DENY, roles.
    Permission,
}

pub(super) struct Update {
    pub(super) target: ObjectName,
    pub(super) assignments: Vec<(String, Expr)>,
    pub(super) output: Vec<(Expr, Option<String>)>,
    pub(super) from: Vec<TableWithJoins>,
    pub(super) condition: Option<Expr>,
}

#[derive(Clone, Copy)]
pub(super) enum Setting {
    AbortOnError(bool),
    NoCount(bool),
    /// What follows is read and not done, but for settings.
    NoExec(bool),
    /// Milliseconds; below 0 for ever.
    LockTimeout(i64),
    /// A setting that this server has in any case.
    Given,
}

/// What a session has set.
#[derive(Clone, Copy, Default)]
pub(super) struct Settings {
    pub(super) abort_on_error: bool,
    pub(super) no_count: bool,
    pub(super) no_exec: bool,
    pub(super) lock_timeout: Option<i64>,
}

pub(super) struct NewColumn {
    pub(super) name: String,
    pub(super) kind: Type,
    pub(super) nullable: Option<bool>,
    pub(super) identity: bool,
    pub(super) collation: Collation,
    pub(super) default: Option<Expr>,
}

pub(super) struct Constraint {
    pub(super) name: Option<String>,
    pub(super) rule: Rule,
}

pub(super) enum Rule {
    Primary(Vec<String>),
    Unique(Vec<String>),
    Check(Box<Expr>),
    Foreign { columns: Vec<String>, table: ObjectName, refers: Vec<String>, cascade: bool },
}
