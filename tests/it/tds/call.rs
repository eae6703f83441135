//! Functions, aggregates and globals.

use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, OrderByExpr, WindowSpec, WindowType,
};

use super::error::{Outcome, SqlError, strict};
use super::scalar::{Translator, Typed, compare, conversion, joined};
use super::statement::{literal_text, object_in_text};
use super::types::{Family, Type};

/// Are these aggregates, wherever no OVER follows?
pub(super) fn is_aggregate(name: &str) -> bool {
    matches!(name, "COUNT" | "COUNT_BIG" | "SUM" | "MIN" | "MAX" | "AVG")
}

impl Translator<'_> {
    pub(super) fn call(&mut self, function: &Function) -> Outcome<Typed> {
        let name = function.name.to_string().to_ascii_uppercase();
        let mut rest = function.clone();
        rest.name = sqlparser::ast::ObjectName(Vec::new());
        rest.args = FunctionArguments::None;
        rest.over = None;
        let plain = rest.parameters == FunctionArguments::None
            && rest.within_group.is_empty()
            && rest.filter.is_none()
            && rest.null_treatment.is_none()
            && !rest.uses_odbc_syntax;
        let (arguments, distinct) = match &function.args {
            FunctionArguments::List(list) if list.clauses.is_empty() => (list.args.as_slice(), list.duplicate_treatment),
            FunctionArguments::None => (&[] as &[FunctionArg], None),
            _ => return Err(strict(format!("the arguments of {name}"))),
        };
        if !plain {
            return Err(strict(format!("a clause of the function {name}: {function}")));
        }
        if is_aggregate(&name) || name == "ROW_NUMBER" {
            return self.aggregate(&name, arguments, distinct, function.over.as_ref());
        }
        if distinct.is_some() || function.over.is_some() {
            return Err(strict(format!("DISTINCT or OVER with {name}")));
        }
        let expressions = arguments.iter().map(expression).collect::<Option<Vec<_>>>();
        self.scalar_call(&name, &expressions.ok_or_else(|| strict(format!("the arguments of {name}")))?)
    }

    fn aggregate(
        &mut self,
        name: &str,
        arguments: &[FunctionArg],
        distinct: Option<DuplicateTreatment>,
        over: Option<&WindowType>,
    ) -> Outcome<Typed> {
        let window = match over {
            None => String::new(),
            Some(WindowType::WindowSpec(window)) => self.window(window)?,
            Some(other) => return Err(strict(format!("the window {other}"))),
        };
        if name == "ROW_NUMBER" {
            return if window.is_empty() {
                Err(strict("ROW_NUMBER without OVER"))
            } else {
                Ok(Typed::new(format!("row_number(){window}"), Type::BigInt))
            };
        }
        let counted = if name == "COUNT" { Type::Int } else { Type::BigInt };
        if let [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)] = arguments {
            return match name {
                "COUNT" | "COUNT_BIG" => Ok(Typed { nullable: false, ..Typed::new(format!("count(*){window}"), counted) }),
                _ => Err(strict(format!("{name}(*)"))),
            };
        }
        let [argument] = arguments else { return Err(strict(format!("the arguments of {name}"))) };
        let argument = expression(argument).ok_or_else(|| strict(format!("the argument of {name}")))?;
        if over.is_none() {
            self.shelter(1);
        }
        let value = self.scalar(argument);
        if over.is_none() {
            self.shelter(-1);
        }
        let value = value?;
        let each = if distinct == Some(DuplicateTreatment::Distinct) { "DISTINCT " } else { "" };
        let call = |function: &str| format!("{function}({each}{}){window}", value.collated());
        let number = value.kind.family() == Family::Number && value.kind != Type::Bit && value.kind != Type::Decimal;
        match (name, value.kind) {
            ("COUNT" | "COUNT_BIG", _) => Ok(Typed { nullable: false, ..Typed::new(call("count"), counted) }),
            ("MIN" | "MAX", kind) if kind != Type::Bit => {
                Ok(Typed { collation: value.collation, ..Typed::new(call(&name.to_ascii_lowercase()), kind) })
            }
            ("SUM", Type::Float) => Ok(Typed::new(format!("tds_finite({})", call("sum")), Type::Float)),
            ("AVG", Type::Float) => Ok(Typed::new(format!("tds_finite({})", call("avg")), Type::Float)),
            // The sum of ints is an int, and overflows as one.
            ("SUM", kind) if number => {
                let kind = if kind == Type::BigInt { Type::BigInt } else { Type::Int };
                Ok(Typed::new(format!("tds_convert({}, 'bigint', '{}', NULL)", call("sum"), kind.name()), kind))
            }
            _ => Err(strict(format!("{name} of {}", value.kind.name()))),
        }
    }

    fn window(&mut self, window: &WindowSpec) -> Outcome<String> {
        if window.window_name.is_some() || window.window_frame.is_some() {
            return Err(strict(format!("the window {window}")));
        }
        let mut parts = Vec::new();
        if !window.partition_by.is_empty() {
            let keys: Outcome<Vec<_>> = window.partition_by.iter().map(|key| Ok(self.scalar(key)?.collated())).collect();
            parts.push(format!("PARTITION BY {}", keys?.join(", ")));
        }
        if !window.order_by.is_empty() {
            let keys: Outcome<Vec<_>> = window.order_by.iter().map(|key| self.order(key, &[])).collect();
            parts.push(format!("ORDER BY {}", keys?.join(", ")));
        }
        Ok(format!(" OVER ({})", parts.join(" ")))
    }

    /// One key of ORDER BY. `names` are the columns of the result, which come first.
    pub(super) fn order(&mut self, key: &OrderByExpr, names: &[super::query::Output]) -> Outcome<String> {
        use sqlparser::ast::OrderBySort;
        let direction = match (&key.options.sort, key.options.nulls_first, &key.with_fill) {
            (None | Some(OrderBySort::Asc), None, None) => "",
            (Some(OrderBySort::Desc), None, None) => " DESC",
            _ => return Err(strict(format!("the order {key}"))),
        };
        let alias = match &key.expr {
            Expr::Identifier(name) => names.iter().find(|output| output.column.name.eq_ignore_ascii_case(&name.value)),
            Expr::Value(_) => return Err(strict("ORDER BY a constant: name the column")),
            _ => None,
        };
        let sql = match alias {
            Some(output) => {
                let typed = Typed::new(super::catalogue::quote(&output.column.name), output.column.kind);
                Typed { collation: (output.column.collation, super::scalar::Firmness::Column), ..typed }.collated()
            }
            None => self.scalar(&key.expr)?.collated(),
        };
        Ok(format!("{sql}{direction}"))
    }

    fn scalar_call(&mut self, name: &str, arguments: &[&Expr]) -> Outcome<Typed> {
        let wrong = || strict(format!("the function {name} with {} arguments is not understood", arguments.len()));
        match (name, arguments) {
            ("DATEDIFF", [unit, from, to]) => {
                let unit = unit.to_string().to_ascii_lowercase();
                let (from, to) = (self.scalar(from)?, self.scalar(to)?);
                let time = |kind: Type| matches!(kind.family(), Family::Date | Family::Instant);
                if !time(from.kind) || !time(to.kind) {
                    return Err(strict("DATEDIFF of what is no date: CAST it"));
                }
                return Ok(Typed::new(format!("tds_datediff('{unit}', {}, {})", from.sql, to.sql), Type::Int));
            }
            ("OBJECT_ID", [object] | [object, _]) => return self.object_id(object, arguments.get(1).copied()),
            // There are no principals here.
            ("DATABASE_PRINCIPAL_ID", [name]) if literal_text(name).is_some() => return Ok(Typed::new("NULL", Type::Int)),
            ("SCHEMA_ID", [schema]) => {
                let name = literal_text(schema).ok_or_else(wrong)?;
                let id = self.catalogue.schema(name)?;
                return Ok(Typed::new(id.map_or("NULL".into(), |id| id.to_string()), Type::Int));
            }
            ("SERVERPROPERTY", [property]) => return self.property(literal_text(property).ok_or_else(wrong)?),
            _ => {}
        }
        let mut values = Vec::new();
        for argument in arguments {
            values.push(self.scalar(argument)?);
        }
        self.typed_call(name, &values)
    }

    fn typed_call(&mut self, name: &str, values: &[Typed]) -> Outcome<Typed> {
        match (name, values) {
            ("COALESCE", [_, _, ..]) | ("ISNULL", [_, _]) => self.coalesce(name, values),
            ("NULLIF", [value, other]) => {
                let equal = compare(value, "=", other)?;
                let sql = format!("CASE WHEN {equal} THEN NULL ELSE {} END", value.sql);
                Ok(Typed { collation: value.collation, ..Typed::new(sql, value.kind) })
            }
            ("CONCAT", [_, _, ..]) => Self::concat(values),
            ("LEN" | "DATALENGTH" | "LOWER" | "UPPER" | "LTRIM" | "RTRIM" | "LEFT" | "SUBSTRING", _) => {
                Self::text_call(name, values)
            }
            ("ABS", [value]) if matches!(value.kind, Type::Int | Type::BigInt | Type::Float) => {
                Ok(Typed::new(format!("abs({})", value.sql), value.kind))
            }
            ("YEAR" | "MONTH" | "DAY", [value]) if matches!(value.kind.family(), Family::Date | Family::Instant) => {
                let (from, count) = match name {
                    "YEAR" => (1, 4),
                    "MONTH" => (6, 2),
                    _ => (9, 2),
                };
                Ok(Typed::new(format!("CAST(substr({}, {from}, {count}) AS INTEGER)", value.sql), Type::Int))
            }
            ("NEWID", []) => Ok(Typed::new("tds_newid()", Type::Text(Some(36)))),
            ("SYSDATETIMEOFFSET", []) => Ok(Typed::new("tds_now()", Type::Instant)),
            ("SYSUTCDATETIME", []) => Ok(Typed::new("tds_now()", Type::DateTime2)),
            ("DB_NAME", []) => Ok(named(&self.facts.database)),
            ("SUSER_SNAME" | "ORIGINAL_LOGIN" | "SUSER_NAME", []) => Ok(named(&self.facts.user)),
            ("USER_NAME", []) => Ok(named("dbo")),
            ("SCHEMA_NAME", []) => Ok(named("dbo")),
            _ => Err(strict(format!("the function {name} is not understood (with these {} arguments)", values.len()))),
        }
    }

    fn concat(values: &[Typed]) -> Outcome<Typed> {
        let text = |value: &Typed| value.kind.family() == Family::Text;
        let mut kind = Type::Text(Some(0));
        let mut collation = values[0].collation;
        let mut parts = Vec::new();
        for value in values {
            if !text(value) && value.kind != Type::Null && value.kind.range().is_none() {
                return Err(strict(format!("CONCAT of {}: CAST it", value.kind.name())));
            }
            let as_text = if text(value) { value.kind } else { Type::Text(Some(20)) };
            parts.push(format!("coalesce({}, '')", conversion(value, as_text, None)?));
            kind = joined(kind, as_text);
            let so_far = Typed { collation, ..Typed::new("", kind) };
            collation = super::scalar::common_collation(&so_far, value)?;
        }
        Ok(Typed { nullable: false, collation, ..Typed::new(format!("({})", parts.join(" || ")), kind) })
    }

    fn text_call(name: &str, values: &[Typed]) -> Outcome<Typed> {
        let text = |value: &Typed| value.kind.family() == Family::Text;
        match (name, values) {
            ("LEN", [value]) if text(value) => Ok(Typed::new(format!("tds_len({})", value.sql), Type::Int)),
            ("DATALENGTH", [value]) => match value.kind {
                Type::Text(size) => {
                    let kind = if size.is_none() { Type::BigInt } else { Type::Int };
                    Ok(Typed::new(format!("tds_text_bytes({})", value.sql), kind))
                }
                Type::Binary(size) => {
                    let kind = if size.is_none() { Type::BigInt } else { Type::Int };
                    Ok(Typed::new(format!("length({})", value.sql), kind))
                }
                kind => Err(strict(format!("DATALENGTH of {}", kind.name()))),
            },
            ("LOWER" | "UPPER", [value]) if text(value) => {
                let sql = format!("tds_{}({})", name.to_ascii_lowercase(), value.sql);
                Ok(Typed { collation: value.collation, ..Typed::new(sql, value.kind) })
            }
            ("LTRIM" | "RTRIM", [value]) if text(value) => {
                let sql = format!("{}({}, ' ')", name.to_ascii_lowercase(), value.sql);
                Ok(Typed { collation: value.collation, ..Typed::new(sql, value.kind) })
            }
            ("LEFT", [value, count]) if text(value) && count.kind.range().is_some() => {
                let sql = format!("tds_substring({}, 1, {})", value.sql, count.sql);
                Ok(Typed { collation: value.collation, ..Typed::new(sql, value.kind) })
            }
            ("SUBSTRING", [value, from, count]) if text(value) => {
                let sql = format!("tds_substring({}, {}, {})", value.sql, from.sql, count.sql);
                Ok(Typed { collation: value.collation, ..Typed::new(sql, value.kind) })
            }
            _ => Err(strict(format!("the function {name} is not understood (with these {} arguments)", values.len()))),
        }
    }

    pub(super) fn substring(&mut self, value: &Expr, from: &Expr, length: &Expr) -> Outcome<Typed> {
        let values = [self.scalar(value)?, self.scalar(from)?, self.scalar(length)?];
        self.typed_call("SUBSTRING", &values)
    }

    fn object_id(&mut self, object: &Expr, kind: Option<&Expr>) -> Outcome<Typed> {
        let text = literal_text(object).ok_or_else(|| strict("OBJECT_ID of what is no literal"))?;
        let wanted = kind.map(|kind| literal_text(kind).ok_or_else(|| strict("the type in OBJECT_ID"))).transpose()?;
        let object = object_in_text(text)?;
        if object.is_temporary() && !text.starts_with("tempdb..") {
            return Ok(Typed::new("NULL", Type::Int));
        }
        let found = self.catalogue.kind(&object)?.filter(|kind| wanted.is_none_or(|wanted| wanted == kind));
        // Any number that is the same for the same name.
        let id = object
            .stored()
            .bytes()
            .fold(7_i32, |id, byte| id.wrapping_mul(31).wrapping_add(byte.to_ascii_lowercase().into()) & 0x7fff_ffff);
        Ok(Typed::new(found.map_or("NULL".into(), |_| id.to_string()), Type::Int))
    }

    fn property(&self, name: &str) -> Outcome<Typed> {
        let value = match name.to_ascii_lowercase().as_str() {
            "babelfishversion" if self.facts.babelfish => Some("4.3.0"),
            "babelfishversion" => None,
            "productversion" => Some("12.0.2000.8"),
            "engineedition" => return Ok(Typed::new("3", Type::Int)),
            "edition" => Some("test server"),
            _ => return Err(strict(format!("SERVERPROPERTY('{name}')"))),
        };
        Ok(Typed::new(value.map_or("NULL".into(), |value| format!("'{value}'")), Type::Variant))
    }

    pub(super) fn global(&self, name: &str) -> Outcome<Typed> {
        let number = |number: i64, kind| Ok(Typed { nullable: false, ..Typed::new(number.to_string(), kind) });
        match name.to_ascii_uppercase().as_str() {
            "@@SPID" => number(self.facts.session as i64, Type::SmallInt),
            "@@TRANCOUNT" => number(self.facts.transactions, Type::Int),
            "@@ROWCOUNT" => number(self.facts.row_count, Type::Int),
            "@@VERSION" => Ok(named("hdai test server (SQLite behind TDS); not SQL Server")),
            _ => Err(SqlError::new(137, 15, format!("Must declare the scalar variable \"{name}\"."))),
        }
    }
}

fn named(text: &str) -> Typed {
    Typed::new(format!("'{}'", text.replace('\'', "''")), Type::Text(Some(300)))
}

fn expression(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
        _ => None,
    }
}
