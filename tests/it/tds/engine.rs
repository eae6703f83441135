//! One session's statements, executed. Everything here blocks; it runs on a thread of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{Connection, InterruptHandle};
use sqlparser::ast::Expr;

use super::answer::{Answer, Change};
use super::catalogue::{Catalogue, ObjectName};
use super::control::Shared;
use super::error::{Outcome, STRICT, SqlError, strict};
use super::functions;
use super::query::{Output, Translated};
use super::scalar::{Facts, Translator, Variables, conversion};
use super::statement::{Setting, Settings, Statement, parse_batch};
use super::types::Type;

/// How long a writer waits for another before it is told of a deadlock.
const BUSY: Duration = Duration::from_secs(30);

/// A bulk load that INSERT BULK announced.
pub(super) struct Announced {
    pub(super) table: ObjectName,
    pub(super) columns: Vec<(String, Type)>,
}

/// One session.
pub(super) struct Engine {
    pub(super) catalogue: Catalogue,
    pub(super) shared: Arc<Shared>,
    pub(super) session: u64,
    user: String,
    transaction: Option<u64>,
    transactions_begun: u64,
    settings: Settings,
    row_count: i64,
    pub(super) announced: Option<Announced>,
    /// Set by an attention and at the end of the session: give up waiting.
    pub(super) cancelled: Arc<AtomicBool>,
    /// In a procedure call (`sp_executesql`), whose temporary tables and settings end with it.
    in_call: bool,
}

/// How a batch goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Next,
    Return,
}

impl Engine {
    pub(super) fn open(path: &Path, shared: Arc<Shared>, session: u64, user: String) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY;",
        )?;
        functions::register(&connection)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(Self {
            catalogue: Catalogue::open(connection)?,
            shared,
            session,
            user,
            transaction: None,
            transactions_begun: 0,
            settings: Settings::default(),
            row_count: 0,
            announced: None,
            cancelled: Arc::default(),
            in_call: false,
        })
    }

    pub(super) fn interrupt(&self) -> InterruptHandle {
        self.catalogue.connection.get_interrupt_handle()
    }

    /// Runs a batch.
    pub(super) fn batch(&mut self, sql: &str) -> Vec<u8> {
        let mut answer = Answer::new(false);
        self.run(sql, &mut Variables::new(), &mut answer);
        answer.finish(0)
    }

    /// Runs `sp_executesql`.
    pub(super) fn call(&mut self, sql: &str, mut parameters: Variables) -> Vec<u8> {
        let mut answer = Answer::new(true);
        let settings = self.settings;
        self.in_call = true;
        self.run(sql, &mut parameters, &mut answer);
        self.in_call = false;
        self.settings = settings;
        self.apply_lock_timeout();
        answer.finish(0)
    }

    /// Answers with an error that a test asked for, as if a statement had met it.
    pub(super) fn injected(&mut self, error: &SqlError, call: bool) -> Vec<u8> {
        let mut answer = Answer::new(call);
        self.fail(error.clone(), "", &mut answer);
        answer.finish(0)
    }

    fn run(&mut self, sql: &str, variables: &mut Variables, answer: &mut Answer) {
        let statements = match parse_batch(sql) {
            Ok(statements) => statements,
            Err(error) => return self.fail(error, sql, answer),
        };
        for statement in &statements {
            if self.settings.no_exec && !matches!(statement, Statement::Set(_)) {
                continue;
            }
            match self.statement(statement, variables, answer) {
                Ok(Flow::Next) => {}
                Ok(Flow::Return) => break,
                Err(error) => {
                    let goes_on = error.spares_the_batch() && !self.settings.abort_on_error;
                    self.fail(error, sql, answer);
                    if !goes_on {
                        break;
                    }
                }
            }
        }
        self.notice_lost_transaction(answer);
    }

    /// Sends an error, and rolls back where SQL Server does.
    pub(super) fn fail(&mut self, mut error: SqlError, sql: &str, answer: &mut Answer) {
        if error.number == 1205 && self.settings.lock_timeout.is_some_and(|timeout| timeout >= 0) {
            error = SqlError::new(1222, 16, "Lock request time out period exceeded.");
        }
        if error.number == STRICT {
            self.shared.refused(&error.message, sql);
        }
        if self.transaction.is_some() && (self.settings.abort_on_error || error.number == 1205) {
            self.end_transaction("ROLLBACK", answer);
        }
        answer.error(&error);
    }

    /// SQLite gives up a transaction by itself when a statement in it is interrupted.
    fn notice_lost_transaction(&mut self, answer: &mut Answer) {
        if self.transaction.is_some() && self.catalogue.connection.is_autocommit() {
            self.end_transaction("", answer);
        }
    }

    fn statement(&mut self, statement: &Statement, variables: &mut Variables, answer: &mut Answer) -> Outcome<Flow> {
        match statement {
            Statement::Query(query) => {
                let translated = self.translator(variables).query(query, false)?;
                if let Some(column) = translated.columns.iter().find(|column| !column.explicit) {
                    let name = &column.column.name;
                    return Err(strict(format!("untyped expression: the column '{name}' of the result has no explicit CAST")));
                }
                self.rows(&translated, variables, answer)?;
            }
            Statement::Insert { .. } | Statement::Update(_) | Statement::Delete { .. } => {
                let translated = self.translated_change(statement, variables)?;
                self.change(&translated, variables, answer)?;
            }
            Statement::Assign(pairs) => {
                for (name, expression) in pairs {
                    self.assign(name, expression, variables)?;
                }
            }
            Statement::Declare(declared) => self.declare(declared, variables)?,
            Statement::If { condition, then, otherwise } => {
                let condition = self.translator(variables).condition(condition)?;
                let taken = self.single(&format!("SELECT CASE WHEN {condition} THEN 1 ELSE 0 END"), variables)?;
                let branch = if taken == Value::Integer(1) { then } else { otherwise };
                return self.block(branch, variables, answer);
            }
            Statement::Block(inside) => return self.block(inside, variables, answer),
            Statement::ExecuteText(text) => {
                let Value::Text(text) = self.evaluate(text, variables)? else { return Err(strict("EXEC of what is no text")) };
                return self.block(&parse_batch(&text)?, &mut Variables::new(), answer);
            }
            Statement::Execute { into, procedure, arguments } => {
                self.procedure(into.as_deref(), procedure, arguments, variables)?;
            }
            Statement::Throw(thrown) => return Err(self.thrown(thrown, variables)?),
            Statement::Begin => self.begin(answer)?,
            Statement::Commit => self.commit(answer)?,
            Statement::Rollback => self.roll_back(answer)?,
            Statement::Set(setting) => self.set(*setting),
            Statement::Return => return Ok(Flow::Return),
            Statement::Permission => answer.done(None),
            Statement::InsertBulk { table, columns, check } => {
                if !check {
                    return Err(strict("a bulk load without CHECK_CONSTRAINTS"));
                }
                self.catalogue.columns(table)?;
                self.announced = Some(Announced { table: table.clone(), columns: columns.clone() });
                answer.done(None);
            }
            definition => {
                if let Statement::CreateTable { table, .. } = definition
                    && table.is_temporary()
                    && self.in_call
                {
                    return Err(strict("a temporary table made by a statement with parameters is gone when the statement ends"));
                }
                self.define(definition)?;
                answer.done(None);
            }
        }
        Ok(Flow::Next)
    }

    fn declare(&self, declared: &[(String, Type, Option<Expr>)], variables: &mut Variables) -> Outcome<()> {
        for (name, kind, start) in declared {
            variables.insert(name.to_ascii_lowercase(), (*kind, Value::Null));
            if let Some(start) = start {
                self.assign(name, start, variables)?;
            }
        }
        Ok(())
    }

    fn translated_change(&self, statement: &Statement, variables: &Variables) -> Outcome<Translated> {
        let mut translator = self.translator(variables);
        match statement {
            Statement::Insert { table, columns, output, source } => translator.insert(table, columns.as_deref(), output, source),
            Statement::Update(update) => translator.update(update),
            Statement::Delete { target, output, from, condition } => translator.delete(target, output, from, condition.as_ref()),
            _ => Err(strict("a statement that changes nothing")),
        }
    }

    fn block(&mut self, statements: &[Statement], variables: &mut Variables, answer: &mut Answer) -> Outcome<Flow> {
        for statement in statements {
            if self.statement(statement, variables, answer)? == Flow::Return {
                return Ok(Flow::Return);
            }
        }
        Ok(Flow::Next)
    }

    fn set(&mut self, setting: Setting) {
        match setting {
            Setting::AbortOnError(on) => self.settings.abort_on_error = on,
            Setting::NoCount(on) => self.settings.no_count = on,
            Setting::NoExec(on) => self.settings.no_exec = on,
            Setting::LockTimeout(milliseconds) => self.settings.lock_timeout = Some(milliseconds).filter(|timeout| *timeout >= 0),
            Setting::Given => {}
        }
        self.apply_lock_timeout();
    }

    fn apply_lock_timeout(&self) {
        let timeout = self.settings.lock_timeout.map_or(BUSY, |milliseconds| Duration::from_millis(milliseconds.unsigned_abs()));
        let _ = self.catalogue.connection.busy_timeout(timeout);
    }

    pub(super) fn facts(&self) -> Facts {
        Facts {
            session: self.session,
            database: self.shared.options.database.clone(),
            user: self.user.clone(),
            transactions: i64::from(self.transaction.is_some()),
            row_count: self.row_count,
            babelfish: self.shared.options.refuse_like_babelfish,
        }
    }

    fn translator<'e>(&'e self, variables: &'e Variables) -> Translator<'e> {
        Translator::new(&self.catalogue, self.facts(), variables)
    }

    fn rows(&mut self, translated: &Translated, variables: &Variables, answer: &mut Answer) -> Outcome<u64> {
        let columns: &[Output] = &translated.columns;
        let fixed = self.shared.options.fixed_length_types;
        let failed = |error: &rusqlite::Error| self.catalogue.error(error, &quoted(variables));
        let mut statement = self.catalogue.connection.prepare_cached(&translated.sql).map_err(|error| failed(&error))?;
        bind(&mut statement, variables).map_err(|error| failed(&error))?;
        answer.columns(columns, fixed)?;
        let mut rows = statement.raw_query();
        let mut count = 0;
        while let Some(row) = rows.next().map_err(|error| failed(&error))? {
            let values: rusqlite::Result<Vec<Value>> = (0..columns.len()).map(|place| row.get(place)).collect();
            answer.row(columns, &values.map_err(|error| failed(&error))?, fixed)?;
            count += 1;
        }
        drop(rows);
        drop(statement);
        self.counted(count, answer);
        Ok(count)
    }

    fn change(&mut self, translated: &Translated, variables: &Variables, answer: &mut Answer) -> Outcome<()> {
        if !translated.columns.is_empty() {
            return self.rows(translated, variables, answer).map(drop);
        }
        let count = {
            let failed = |error: rusqlite::Error| self.catalogue.error(&error, &quoted(variables));
            let mut statement = self.catalogue.connection.prepare_cached(&translated.sql).map_err(failed)?;
            bind(&mut statement, variables).map_err(failed)?;
            statement.raw_execute().map_err(failed)?
        };
        self.counted(count as u64, answer);
        Ok(())
    }

    pub(super) fn counted(&mut self, count: u64, answer: &mut Answer) {
        self.row_count = count as i64;
        answer.done((!self.settings.no_count).then_some(count));
    }

    /// The one value of a query of ours.
    fn single(&self, sql: &str, variables: &Variables) -> Outcome<Value> {
        self.catalogue.run(|connection| {
            let mut statement = connection.prepare(sql)?;
            bind(&mut statement, variables)?;
            let mut rows = statement.raw_query();
            rows.next()?.map_or(Ok(Value::Null), |row| row.get(0))
        })
    }

    fn evaluate(&self, expression: &Expr, variables: &Variables) -> Outcome<Value> {
        let typed = self.translator(variables).scalar(expression)?;
        self.single(&format!("SELECT {}", typed.sql), variables)
    }

    fn assign(&self, name: &str, expression: &Expr, variables: &mut Variables) -> Outcome<()> {
        let name = name.to_ascii_lowercase();
        let Some(kind) = variables.get(&name).map(|(kind, _)| *kind) else {
            return Err(SqlError::new(137, 15, format!("Must declare the scalar variable \"{name}\".")));
        };
        let typed = self.translator(variables).scalar(expression)?;
        let value = self.single(&format!("SELECT {}", conversion(&typed, kind, None)?), variables)?;
        variables.insert(name, (kind, value));
        Ok(())
    }

    fn thrown(&self, [number, message, state]: &[Expr; 3], variables: &Variables) -> Outcome<SqlError> {
        match (self.evaluate(number, variables)?, self.evaluate(message, variables)?, self.evaluate(state, variables)?) {
            (Value::Integer(number @ 50_000..=2_147_483_647), Value::Text(message), Value::Integer(state @ 0..=255)) => {
                Ok(SqlError { number: number as i32, class: 16, state: state as u8, message })
            }
            _ => Err(strict("the arguments of THROW")),
        }
    }

    fn procedure(
        &mut self,
        into: Option<&str>,
        procedure: &str,
        arguments: &[(Option<String>, Expr)],
        variables: &mut Variables,
    ) -> Outcome<()> {
        let mut given = Vec::new();
        for (name, expression) in arguments {
            let name = name.as_ref().ok_or_else(|| strict(format!("an unnamed argument of {procedure}")))?;
            given.push((name.to_ascii_lowercase(), self.evaluate(expression, variables)?));
        }
        let result = self.application_lock(procedure, &given)?;
        if let Some(into) = into {
            let into = into.to_ascii_lowercase();
            match variables.get_mut(&into) {
                Some((Type::Int | Type::BigInt, value)) => *value = Value::Integer(result),
                _ => return Err(SqlError::new(137, 15, format!("Must declare the int variable \"{into}\"."))),
            }
        }
        Ok(())
    }

    /// `sp_getapplock` and `sp_releaseapplock`.
    pub(super) fn application_lock(&mut self, procedure: &str, given: &[(String, Value)]) -> Outcome<i64> {
        let (mut resource, mut mode, mut owner, mut timeout) = (None, String::new(), "Transaction".to_owned(), 30_000);
        for (name, value) in given {
            match (name.as_str(), value) {
                ("@resource", Value::Text(text)) => resource = Some(text.clone()),
                ("@lockmode", Value::Text(text)) => mode.clone_from(text),
                ("@lockowner", Value::Text(text)) => owner.clone_from(text),
                ("@locktimeout", Value::Integer(milliseconds)) => timeout = *milliseconds,
                _ => return Err(strict(format!("the argument {name} of {procedure}"))),
            }
        }
        let resource = resource.ok_or_else(|| strict(format!("{procedure} without @Resource")))?;
        let for_transaction = match owner.to_ascii_lowercase().as_str() {
            "transaction" if self.transaction.is_none() => {
                return Err(SqlError::new(15_435, 16, "You must be in a transaction to take a transaction's application lock."));
            }
            "transaction" => true,
            "session" => false,
            _ => return Err(strict(format!("the lock owner {owner}"))),
        };
        match procedure.to_ascii_lowercase().as_str() {
            "sp_getapplock" if mode.eq_ignore_ascii_case("exclusive") => {
                let wait = if timeout < 0 { Duration::from_secs(600) } else { Duration::from_millis(timeout as u64) };
                Ok(self.shared.locks.acquire(&resource, self.session, for_transaction, wait, &self.cancelled))
            }
            "sp_releaseapplock" => Ok(if self.shared.locks.release(&resource, self.session) { 0 } else { -999 }),
            _ => Err(strict(format!("the procedure {procedure} (with mode '{mode}') is not understood"))),
        }
    }

    pub(super) fn begin(&mut self, answer: &mut Answer) -> Outcome<()> {
        if self.transaction.is_some() {
            return Err(strict("a transaction inside another"));
        }
        self.catalogue.run(|connection| connection.execute_batch("BEGIN"))?;
        self.transactions_begun += 1;
        let id = self.session << 32 | self.transactions_begun;
        self.transaction = Some(id);
        answer.change(&Change::Begun(id));
        answer.done(None);
        Ok(())
    }

    pub(super) fn commit(&mut self, answer: &mut Answer) -> Outcome<()> {
        if self.transaction.is_none() {
            return Err(SqlError::new(3902, 16, "The COMMIT TRANSACTION request has no corresponding BEGIN TRANSACTION."));
        }
        self.end_transaction("COMMIT", answer);
        answer.done(None);
        Ok(())
    }

    pub(super) fn roll_back(&mut self, answer: &mut Answer) -> Outcome<()> {
        if self.transaction.is_none() {
            return Err(SqlError::new(3903, 16, "The ROLLBACK TRANSACTION request has no corresponding BEGIN TRANSACTION."));
        }
        self.end_transaction("ROLLBACK", answer);
        answer.done(None);
        Ok(())
    }

    fn end_transaction(&mut self, how: &str, answer: &mut Answer) {
        let Some(id) = self.transaction.take() else { return };
        let ended = self.catalogue.run(|connection| connection.execute_batch(how));
        if ended.is_err() && !self.catalogue.connection.is_autocommit() {
            let _ = self.catalogue.run(|connection| connection.execute_batch("ROLLBACK"));
        }
        self.catalogue.unlocked();
        self.shared.locks.release_all(self.session, true);
        match (how, ended) {
            ("COMMIT", Ok(())) => answer.change(&Change::Committed(id)),
            (_, Err(error)) => {
                answer.change(&Change::RolledBack(id));
                answer.error(&error);
            }
            _ => answer.change(&Change::RolledBack(id)),
        }
    }

    /// Work of several statements that is done whole or not at all.
    pub(super) fn atomically<T>(&mut self, work: impl FnOnce(&mut Self) -> Outcome<T>) -> Outcome<T> {
        let outer = !self.catalogue.connection.is_autocommit();
        let (begin, end, undo) =
            if outer { ("SAVEPOINT tds", "RELEASE tds", "ROLLBACK TO tds; RELEASE tds") } else { ("BEGIN", "COMMIT", "ROLLBACK") };
        self.catalogue.run(|connection| connection.execute_batch(begin))?;
        let result = work(self).and_then(|value| {
            self.catalogue.run(|connection| connection.execute_batch(end))?;
            Ok(value)
        });
        if result.is_err() {
            let _ = self.catalogue.run(|connection| connection.execute_batch(undo));
        }
        if !outer {
            self.catalogue.unlocked();
        }
        result
    }

    /// Ends the session: nothing that was not committed stays.
    pub(super) fn close(self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let Self { catalogue, shared, session, .. } = self;
        drop(catalogue);
        shared.locks.release_all(session, false);
    }
}

fn bind(statement: &mut rusqlite::Statement<'_>, variables: &Variables) -> rusqlite::Result<()> {
    for place in 1..=statement.parameter_count() {
        let name = statement.parameter_name(place).unwrap_or_default().to_owned();
        let value = variables.get(&name).map_or(Value::Null, |(_, value)| value.clone());
        statement.raw_bind_parameter(place, value)?;
    }
    Ok(())
}

/// What SQL Server would quote of a statement's data in a message.
fn quoted(variables: &Variables) -> String {
    let texts = variables.values().filter_map(|(_, value)| match value {
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(", ")
}
