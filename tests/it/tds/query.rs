//! SELECT in SQLite's words, with the types of its columns.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use sqlparser::ast::{
    Distinct, Expr, Function, GroupByExpr, Ident, Join, JoinConstraint, JoinOperator, LimitClause, OrderBy, OrderByKind, Query,
    Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetOperator, SetQuantifier, TableFactor, TableWithJoins,
    TopQuantity, Visit, Visitor, WildcardAdditionalOptions,
};
use sqlparser::dialect::MsSqlDialect;
use sqlparser::parser::Parser;

use super::call::is_aggregate;
use super::catalogue::{Column, ObjectName, quote};
use super::error::{Outcome, SqlError, strict};
use super::scalar::{Frame, Source, Translator, Typed, unify};
use super::statement::object_name;
use super::types::{Family, Type};

/// A column of a result.
#[derive(Debug, Clone)]
pub(super) struct Output {
    pub(super) column: Column,
    /// Is it a column of a table, no more and no less?
    pub(super) plain: bool,
    /// Is its type said: a column, a literal, a CAST, or made of such?
    pub(super) explicit: bool,
}

/// A query in SQLite's words.
pub(super) struct Translated {
    pub(super) sql: String,
    pub(super) columns: Vec<Output>,
}

/// `SELECT 1` without the 1: what is left of a SELECT when all that we understand is taken out.
static BARE: LazyLock<(Query, Select)> = LazyLock::new(|| {
    let query = Parser::new(&MsSqlDialect {}).try_with_sql("SELECT 1").and_then(|mut parser| parser.parse_query()).unwrap();
    let mut select = query.body.as_select().unwrap().clone();
    select.projection.clear();
    (*query, select)
});

impl Translator<'_> {
    /// A query; `nested` if it stands inside another statement, where ORDER BY alone has no meaning.
    pub(super) fn query(&mut self, query: &Query, nested: bool) -> Outcome<Translated> {
        let mut rest = query.clone();
        (rest.with, rest.order_by, rest.limit_clause, rest.fetch) = (None, None, None, None);
        rest.body = BARE.0.body.clone();
        if rest != BARE.0 {
            return Err(strict(format!("a clause of the query: {query}")));
        }
        let known = self.ctes.len();
        let mut with = Vec::new();
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            if query.with.as_ref().is_some_and(|with| with.recursive) || !cte.alias.columns.is_empty() {
                return Err(strict("WITH RECURSIVE, or a column list in WITH"));
            }
            let inner = self.query(&cte.query, true)?;
            with.push(format!("{} AS ({})", quote(&cte.alias.name.value), inner.sql));
            self.ctes.push((cte.alias.name.value.clone(), named(inner.columns)?));
        }
        let limit = self.limit(query)?;
        let ordered = match (&query.order_by, &*query.body) {
            (Some(_), SetExpr::Select(select)) if nested && limit.is_none() && select.top.is_none() => {
                return Err(SqlError::new(
                    1033,
                    15,
                    "The ORDER BY clause is invalid in subqueries, unless OFFSET is also specified.",
                ));
            }
            (None, _) if limit.is_some() => {
                return Err(SqlError::new(102, 15, "Incorrect syntax near 'OFFSET': there is no ORDER BY."));
            }
            (order, _) => order.as_ref(),
        };
        let mut translated = self.body(&query.body, ordered)?;
        if let Some(limit) = limit {
            translated.sql += &limit;
        }
        if !with.is_empty() {
            translated.sql = format!("WITH {} {}", with.join(", "), translated.sql);
        }
        self.ctes.truncate(known);
        Ok(translated)
    }

    fn limit(&mut self, query: &Query) -> Outcome<Option<String>> {
        let offset = match &query.limit_clause {
            None if query.fetch.is_none() => return Ok(None),
            Some(LimitClause::LimitOffset { limit: None, offset: Some(offset), limit_by }) if limit_by.is_empty() => offset,
            _ => return Err(SqlError::new(102, 15, "Incorrect syntax near 'LIMIT' or 'FETCH'.")),
        };
        let number = |typed: Typed| match typed.kind {
            Type::Int | Type::BigInt | Type::SmallInt | Type::TinyInt => Ok(typed.sql),
            kind => Err(strict(format!("OFFSET or FETCH of {}", kind.name()))),
        };
        let offset = number(self.scalar(&offset.value)?)?;
        let fetch = match &query.fetch {
            Some(fetch) => match (&fetch.quantity, fetch.percent, fetch.with_ties) {
                (Some(count), false, false) => {
                    // The tokens of a batch have variables here as placeholders.
                    let count = match count {
                        Expr::Value(value) => match &value.value {
                            sqlparser::ast::Value::Placeholder(name) => Expr::Identifier(Ident::new(name.clone())),
                            _ => count.clone(),
                        },
                        _ => count.clone(),
                    };
                    format!("tds_rows({}, 1)", number(self.scalar(&count)?)?)
                }
                _ => return Err(strict("FETCH … PERCENT or WITH TIES")),
            },
            None => "-1".into(),
        };
        Ok(Some(format!(" LIMIT {fetch} OFFSET tds_rows({offset}, 0)")))
    }

    fn body(&mut self, body: &SetExpr, order: Option<&OrderBy>) -> Outcome<Translated> {
        match body {
            SetExpr::Select(select) => {
                self.frames.push(Frame::default());
                let translated = self.select(select, order);
                self.frames.pop();
                translated
            }
            SetExpr::SetOperation { left, op, set_quantifier, right } => {
                let operator = match (op, set_quantifier) {
                    (SetOperator::Union, SetQuantifier::All) => "UNION ALL",
                    (SetOperator::Union, SetQuantifier::None) => "UNION",
                    (SetOperator::Except, SetQuantifier::None) => "EXCEPT",
                    (SetOperator::Intersect, SetQuantifier::None) => "INTERSECT",
                    _ => return Err(strict(format!("the set operator {op} {set_quantifier}"))),
                };
                if !matches!(**right, SetExpr::Select(_)) {
                    return Err(strict("a set operation inside another"));
                }
                let (left, right) = (self.body(left, None)?, self.body(right, None)?);
                if left.columns.len() != right.columns.len() {
                    return Err(SqlError::new(
                        205,
                        16,
                        "All queries combined using a set operator must have an equal number of columns.",
                    ));
                }
                let mut columns = left.columns;
                for (a, b) in columns.iter_mut().zip(&right.columns) {
                    let kind = unify(a.column.kind, b.column.kind)?;
                    if kind.family() == Family::Text && a.column.collation != b.column.collation {
                        return Err(SqlError::new(468, 16, "Cannot resolve the collation conflict of a set operation."));
                    }
                    a.column.kind = kind;
                    a.column.nullable |= b.column.nullable;
                    a.plain = false;
                    a.explicit &= b.explicit;
                }
                let mut sql = format!("{} {operator} {}", left.sql, right.sql);
                sql += &self.order_by(order, &columns)?;
                Ok(Translated { sql, columns })
            }
            _ => Err(strict(format!("the query {body}"))),
        }
    }

    fn select(&mut self, select: &Select, order: Option<&OrderBy>) -> Outcome<Translated> {
        let mut rest = select.clone();
        rest.projection.clear();
        rest.from.clear();
        (rest.distinct, rest.top, rest.top_before_distinct, rest.selection, rest.having) = (None, None, false, None, None);
        rest.group_by.clone_from(&BARE.1.group_by);
        if rest != BARE.1 {
            return Err(strict(format!("a clause of the query: {select}")));
        }
        let from = self.from_clause(&select.from)?;
        let mut tail = from;
        if let Some(condition) = &select.selection {
            tail += &format!(" WHERE {}", self.condition(condition)?);
        }
        tail += &self.grouping(select, order)?;
        let columns = self.projection(&select.projection)?;
        if let Some(condition) = &select.having {
            tail += &format!(" HAVING {}", self.condition(condition)?);
        }
        let distinct = match &select.distinct {
            None => "",
            Some(Distinct::Distinct) => "DISTINCT ",
            Some(other) => return Err(strict(format!("SELECT {other}"))),
        };
        let outputs: Vec<Output> = columns.iter().map(|(_, output)| output.clone()).collect();
        tail += &self.order_by(order, &outputs)?;
        if let Some(top) = &select.top {
            let count = match &top.quantity {
                Some(TopQuantity::Constant(count)) => count.to_string(),
                Some(TopQuantity::Expr(Expr::Value(count))) => count.to_string(),
                _ => return Err(strict("TOP of what is no constant")),
            };
            if top.percent || top.with_ties {
                return Err(strict("TOP … PERCENT or WITH TIES"));
            }
            tail += &format!(" LIMIT {count}");
        }
        let list: Vec<_> = columns.iter().map(|(sql, _)| sql.as_str()).collect();
        Ok(Translated { sql: format!("SELECT {distinct}{}{tail}", list.join(", ")), columns: outputs })
    }

    fn order_by(&mut self, order: Option<&OrderBy>, columns: &[Output]) -> Outcome<String> {
        match order {
            None => Ok(String::new()),
            Some(OrderBy { kind: OrderByKind::Expressions(keys), interpolate: None }) => {
                let keys: Outcome<Vec<_>> = keys.iter().map(|key| self.order(key, columns)).collect();
                Ok(format!(" ORDER BY {}", keys?.join(", ")))
            }
            Some(other) => Err(strict(format!("{other}"))),
        }
    }

    /// GROUP BY; from here on columns that it does not name stand inside aggregates only.
    fn grouping(&mut self, select: &Select, order: Option<&OrderBy>) -> Outcome<String> {
        let keys = match &select.group_by {
            GroupByExpr::Expressions(keys, modifiers) if modifiers.is_empty() => keys.clone(),
            other => return Err(strict(format!("{other}"))),
        };
        let sql: Outcome<Vec<_>> = keys.iter().map(|key| Ok(self.scalar(key)?.collated())).collect();
        let sql = sql?;
        let mut finder = AggregateFinder::default();
        let _ = select.projection.visit(&mut finder);
        let _ = select.having.visit(&mut finder);
        if let Some(order) = order {
            let _ = order.visit(&mut finder);
        }
        if (finder.found || !keys.is_empty())
            && let Some(frame) = self.frames.last_mut()
        {
            frame.keys = Some(keys);
        }
        Ok(if sql.is_empty() { String::new() } else { format!(" GROUP BY {}", sql.join(", ")) })
    }

    /// The list after SELECT: each column's SQL, and what it is.
    fn projection(&mut self, items: &[SelectItem]) -> Outcome<Vec<(String, Output)>> {
        let mut columns = Vec::new();
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expression) => columns.push(self.projected(expression, None)?),
                SelectItem::ExprWithAlias { expr, alias } => columns.push(self.projected(expr, Some(&alias.value))?),
                SelectItem::Wildcard(options) => columns.extend(self.wildcard(None, options)?),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), options) => {
                    columns.extend(self.wildcard(Some(object_name(name)?.name), options)?);
                }
                _ => return Err(strict(format!("the column {item}"))),
            }
        }
        Ok(columns)
    }

    fn projected(&mut self, expression: &Expr, alias: Option<&str>) -> Outcome<(String, Output)> {
        let typed = self.scalar(expression)?;
        let own = typed.column.as_ref().map(|column| column.name.clone());
        let name = alias.map(str::to_owned).or(own).unwrap_or_default();
        let sql = if typed.column.is_some() { typed.sql.clone() } else { typed.collated() };
        let (identity, has_default) = typed.column.as_ref().map_or((false, false), |column| (column.identity, column.has_default));
        let column = Column {
            name: name.clone(),
            kind: typed.kind,
            nullable: typed.nullable,
            identity,
            has_default,
            collation: typed.collation.0,
        };
        let output = Output { column, plain: typed.column.is_some(), explicit: is_explicit(expression) };
        Ok((if name.is_empty() { sql } else { format!("{sql} AS {}", quote(&name)) }, output))
    }

    fn wildcard(&self, alias: Option<String>, options: &WildcardAdditionalOptions) -> Outcome<Vec<(String, Output)>> {
        if *options != WildcardAdditionalOptions::default() {
            return Err(strict("an option of *"));
        }
        let frame = self.frames.last().ok_or_else(|| strict("* without FROM"))?;
        if frame.keys.is_some() {
            return Err(SqlError::new(8120, 16, "Columns of * are not in an aggregate function or the GROUP BY clause."));
        }
        let wanted = |source: &&Source| alias.as_ref().is_none_or(|alias| source.alias.eq_ignore_ascii_case(alias));
        let columns = frame.sources.iter().filter(wanted).flat_map(|source| {
            source.columns.iter().map(|column| {
                let name = quote(&column.name);
                (format!("{}{name} AS {name}", source.qualifier), Output { column: column.clone(), plain: true, explicit: true })
            })
        });
        let columns: Vec<_> = columns.collect();
        if columns.is_empty() { Err(SqlError::new(107, 15, "The prefix of * matches no table.")) } else { Ok(columns) }
    }

    /// FROM; its tables become the sources of the innermost frame.
    pub(super) fn from_clause(&mut self, from: &[TableWithJoins]) -> Outcome<String> {
        let mut sql = String::new();
        for table in from {
            sql += if sql.is_empty() { " FROM " } else { ", " };
            sql += &self.factor(&table.relation, false)?;
            for join in &table.joins {
                sql += &self.join(join)?;
            }
        }
        Ok(sql)
    }

    fn join(&mut self, join: &Join) -> Outcome<String> {
        let (words, condition, optional) = match &join.join_operator {
            _ if join.global => return Err(strict("GLOBAL JOIN")),
            JoinOperator::Join(JoinConstraint::On(on)) | JoinOperator::Inner(JoinConstraint::On(on)) => ("JOIN", Some(on), false),
            JoinOperator::Left(JoinConstraint::On(on)) | JoinOperator::LeftOuter(JoinConstraint::On(on)) => {
                ("LEFT JOIN", Some(on), true)
            }
            JoinOperator::CrossJoin(JoinConstraint::None) => ("CROSS JOIN", None, false),
            other => return Err(strict(format!("the join {other:?}"))),
        };
        let factor = self.factor(&join.relation, optional)?;
        let mut sql = format!(" {words} {factor}");
        if let Some(condition) = condition {
            sql += &format!(" ON {}", self.condition(condition)?);
        }
        Ok(sql)
    }

    fn factor(&mut self, factor: &TableFactor, optional: bool) -> Outcome<String> {
        let (sql, alias, mut columns) = match factor {
            TableFactor::Table { .. } => self.table(factor)?,
            TableFactor::Derived { lateral: false, subquery, alias: Some(alias), sample: None } if alias.columns.is_empty() => {
                // A derived table does not see its neighbours.
                let neighbours = self.frames.last_mut().map(|frame| std::mem::take(&mut frame.sources));
                let inner = self.query(subquery, true);
                if let (Some(frame), Some(neighbours)) = (self.frames.last_mut(), neighbours) {
                    frame.sources = neighbours;
                }
                let inner = inner?;
                (format!("({})", inner.sql), alias.name.value.clone(), named(inner.columns)?)
            }
            _ => return Err(strict(format!("the table {factor}"))),
        };
        columns.iter_mut().for_each(|column| column.nullable |= optional);
        let frame = self.frames.last_mut().ok_or_else(|| strict("FROM outside of a query"))?;
        if frame.sources.iter().any(|source| source.alias.eq_ignore_ascii_case(&alias)) {
            return Err(SqlError::new(1011, 15, format!("The correlation name '{alias}' is specified multiple times.")));
        }
        frame.sources.push(Source::new(&alias, columns));
        Ok(format!("{sql} AS {}", quote(&alias)))
    }

    fn table(&mut self, factor: &TableFactor) -> Outcome<(String, String, Vec<Column>)> {
        let (object, alias) = table_factor(factor)?;
        let alias = alias.unwrap_or_else(|| object.name.clone());
        let cte = self.ctes.iter().rev().find(|(name, _)| object.schema == "dbo" && name.eq_ignore_ascii_case(&object.name));
        match cte {
            Some((name, columns)) => Ok((quote(name), alias, columns.clone())),
            None => Ok((object.quoted(), alias, self.catalogue.columns(&object)?)),
        }
    }
}

/// A plain table of a FROM: its name and its alias.
pub(super) fn table_factor(factor: &TableFactor) -> Outcome<(ObjectName, Option<String>)> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty()
            && partitions.is_empty()
            && index_hints.is_empty()
            && alias.as_ref().is_none_or(|alias| alias.columns.is_empty()) =>
        {
            Ok((object_name(name)?, alias.as_ref().map(|alias| alias.name.value.clone())))
        }
        _ => Err(strict(format!("the table {factor} (table functions and lock hints are not understood)"))),
    }
}

/// The columns of a derived table, each with a name of its own.
pub(super) fn named(outputs: Vec<Output>) -> Outcome<Vec<Column>> {
    let mut columns: Vec<Column> = Vec::new();
    for Output { mut column, .. } in outputs {
        if column.name.is_empty() {
            return Err(SqlError::new(8155, 16, format!("No column name was specified for column {}.", columns.len() + 1)));
        }
        if columns.iter().any(|other| other.name.eq_ignore_ascii_case(&column.name)) {
            return Err(SqlError::new(8156, 16, format!("The column '{}' was specified multiple times.", column.name)));
        }
        (column.identity, column.has_default) = (false, false);
        columns.push(column);
    }
    Ok(columns)
}

/// Is the type of a result's column said, so that it is the same on every server?
fn is_explicit(expression: &Expr) -> bool {
    match expression {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::Cast { .. } | Expr::Convert { .. } => true,
        Expr::Nested(inner) | Expr::Collate { expr: inner, .. } | Expr::UnaryOp { expr: inner, .. } => is_explicit(inner),
        Expr::Case { conditions, else_result, .. } => {
            conditions.iter().all(|when| is_explicit(&when.result)) && else_result.as_deref().is_none_or(is_explicit)
        }
        Expr::Function(function) => {
            let name = function.name.to_string().to_ascii_uppercase();
            let mut arguments = Arguments(Vec::new());
            arguments.of(function);
            matches!(name.as_str(), "COALESCE" | "ISNULL" | "NULLIF") && arguments.0.iter().all(|argument| is_explicit(argument))
        }
        _ => false,
    }
}

struct Arguments<'a>(Vec<&'a Expr>);

impl<'a> Arguments<'a> {
    fn of(&mut self, function: &'a Function) {
        use sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArguments};
        if let FunctionArguments::List(list) = &function.args {
            self.0.extend(list.args.iter().filter_map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
                _ => None,
            }));
        }
    }
}

/// Looks for aggregates of this very query, not of those inside it.
#[derive(Default)]
struct AggregateFinder {
    depth: u32,
    found: bool,
}

impl Visitor for AggregateFinder {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, over: None, .. }) = expression {
            self.found |= self.depth == 0 && is_aggregate(&name.to_string().to_ascii_uppercase());
        }
        ControlFlow::Continue(())
    }
}
