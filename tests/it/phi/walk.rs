//! Reads the sources of `src` as syntax: which types hold personal values and show them, and where a value goes into words.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// The types that are personal by themselves. Each redacts its own `Debug`.
const LEAVES: [&str; 4] = ["Phi", "EncounterId", "Clinical", "Gender"];
/// Fields of these names hold a person's value, so their types must be leaves.
const PERSONAL_NAMES: [&str; 13] = [
    "encounter",
    "admitted",
    "discharged",
    "birth",
    "birth_date",
    "born",
    "gender",
    "eid",
    "encounter_id",
    "family",
    "given",
    "mrn",
    "patient_name",
];
/// Foreign words as they came: in these rooms they are messages of patients, or files.
const RAW: [&str; 2] = ["Value", "Bytes"];
const RAW_ROOMS: [&str; 4] = ["codec", "http", "host", "workflow"];
/// Traits that show a value.
const SHOWING: [&str; 5] = ["Display", "Serialize", "Deref", "ToString", "LowerHex"];
/// Macros that make words.
const WORDS: [&str; 20] = [
    "format",
    "write",
    "writeln",
    "print",
    "println",
    "eprint",
    "eprintln",
    "say",
    "panic",
    "assert",
    "assert_eq",
    "unreachable",
    "trace",
    "debug",
    "info",
    "warn",
    "error",
    "event",
    "span",
    "format_args",
];
/// Those of them that make lines of a log.
const LOGGING: [&str; 7] = ["trace", "debug", "info", "warn", "error", "event", "span"];
/// Methods whose arguments become words of a log, an error or the trail.
const SAYING: [&str; 4] = ["caused_by", "detail", "log", "expect"];

/// What was found: where, and what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) file: String,
    pub(super) what: String,
}

#[derive(Default)]
struct Type {
    file: String,
    /// Identifiers of its fields' types.
    parts: BTreeSet<String>,
    /// A field that holds a person's value as it is.
    raw: bool,
    derives: BTreeSet<String>,
}

impl Type {
    fn room(&self) -> &str {
        room_of(&self.file)
    }
}

fn room_of(file: &str) -> &str {
    file.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

/// Everything in `sources`, pairs of a path below `src` and its text.
pub(super) fn walk(sources: &[(String, String)]) -> BTreeSet<Finding> {
    let mut walker = Walker::default();
    for (file, text) in sources {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        walker.file.clone_from(file);
        walker.visit_file(&syntax);
    }
    let personal = closure(&walker.types);
    for (name, types) in &walker.types {
        for kind in types {
            let holds = personal.contains(&(kind.room().to_owned(), name.clone())) || kind.raw;
            let shown = kind.derives.iter().filter(|word| SHOWING.contains(&word.as_str()) || (*word == "Debug" && kind.raw));
            for word in shown.filter(|_| holds) {
                walker.found.insert(Finding { file: kind.file.clone(), what: format!("{name} derives {word}") });
            }
        }
    }
    for (file, name, word) in &walker.impls {
        let raw = walker.types.get(name).is_some_and(|types| types.iter().any(|kind| kind.raw));
        let holds = LEAVES.contains(&name.as_str()) || personal.contains(&(room_of(file).to_owned(), name.clone()));
        if (holds || raw) && (word == "Debug" || SHOWING.contains(&word.as_str())) {
            walker.found.insert(Finding { file: file.clone(), what: format!("{name} has its own {word}") });
        }
    }
    walker.found
}

/// The types that hold a leaf, at whatever depth, by room and name. A name means the type of its own room, if that has one.
fn closure(types: &BTreeMap<String, Vec<Type>>) -> BTreeSet<(String, String)> {
    let mut personal: BTreeSet<(String, String)> = BTreeSet::new();
    loop {
        let of_room = |name: &str, room: &str| types.get(name).is_some_and(|kinds| kinds.iter().any(|kind| kind.room() == room));
        let holds = |name: &str, room: &str| match of_room(name, room) {
            true => personal.contains(&(room.to_owned(), name.to_owned())),
            false => personal.iter().any(|(_, held)| held == name),
        };
        let held = |kind: &Type| kind.parts.iter().any(|part| LEAVES.contains(&part.as_str()) || holds(part, kind.room()));
        let mut more = BTreeSet::new();
        for (name, kinds) in types {
            for kind in kinds.iter().filter(|kind| LEAVES.contains(&name.as_str()) || held(kind)) {
                more.insert((kind.room().to_owned(), name.clone()));
            }
        }
        if more.is_subset(&personal) {
            return personal;
        }
        personal.extend(more);
    }
}

#[derive(Default)]
struct Walker {
    file: String,
    types: BTreeMap<String, Vec<Type>>,
    /// File, type and trait of each `impl`.
    impls: Vec<(String, String, String)>,
    /// Names in the function at hand that hold a revealed value.
    tainted: BTreeSet<String>,
    found: BTreeSet<Finding>,
}

impl Walker {
    fn find(&mut self, what: impl Into<String>) {
        self.found.insert(Finding { file: self.file.clone(), what: what.into() });
    }

    fn add(&mut self, name: &syn::Ident, attributes: &[syn::Attribute], fields: Vec<&syn::Field>) {
        let room = room_of(&self.file).to_owned();
        let mut kind = Type { file: self.file.clone(), ..Type::default() };
        let named = |name: &str| fields.iter().any(|field| field.ident.as_ref().is_some_and(|ident| ident == name));
        // A file's name: hospitals name files after patients.
        kind.raw = named("container") && named("name");
        for field in fields {
            let parts: BTreeSet<String> = identifiers(quote(&field.ty));
            let named = field.ident.as_ref().is_some_and(|ident| PERSONAL_NAMES.contains(&ident.to_string().as_str()));
            let plain = ["String", "str", "NaiveDate", "Value", "i32", "i64"].iter().any(|word| parts.contains(*word));
            let wrapped = LEAVES.iter().any(|leaf| parts.contains(*leaf));
            let foreign = RAW_ROOMS.contains(&room.as_str()) && RAW.iter().any(|word| parts.contains(*word));
            kind.raw |= !wrapped && ((named && plain) || foreign);
            kind.parts.extend(parts);
        }
        // A day beside a person is that person's.
        let person = ["EncounterId", "PersonName", "Clinical", "Gender"].iter().any(|part| kind.parts.contains(*part));
        kind.raw |= person && kind.parts.contains("NaiveDate") && !kind.parts.contains("Phi");
        for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            kind.derives.extend(identifiers(quote(&attribute.meta)));
        }
        self.types.entry(name.to_string()).or_default().push(kind);
    }

    /// Does what becomes words hold a revealed value?
    fn leaks(&self, tokens: TokenStream) -> bool {
        let words = identifiers(tokens);
        words.contains("reveal") || words.iter().any(|word| self.tainted.contains(word))
    }
}

impl<'s> Visit<'s> for Walker {
    fn visit_item_mod(&mut self, item: &'s syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_struct(&mut self, item: &'s syn::ItemStruct) {
        self.add(&item.ident, &item.attrs, item.fields.iter().collect());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'s syn::ItemEnum) {
        self.add(&item.ident, &item.attrs, item.variants.iter().flat_map(|variant| &variant.fields).collect());
        visit::visit_item_enum(self, item);
    }

    fn visit_item_impl(&mut self, item: &'s syn::ItemImpl) {
        if let (Some((_, path, _)), syn::Type::Path(of)) = (&item.trait_, &*item.self_ty) {
            let last = |path: &syn::Path| path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
            self.impls.push((self.file.clone(), last(&of.path), last(path)));
        }
        visit::visit_item_impl(self, item);
    }

    fn visit_item_fn(&mut self, item: &'s syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            let before = std::mem::take(&mut self.tainted);
            visit::visit_item_fn(self, item);
            self.tainted = before;
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'s syn::ImplItemFn) {
        let before = std::mem::take(&mut self.tainted);
        visit::visit_impl_item_fn(self, item);
        self.tainted = before;
    }

    fn visit_local(&mut self, local: &'s syn::Local) {
        if let Some(init) = &local.init
            && self.leaks(quote(&init.expr))
        {
            let names = identifiers(quote(&local.pat));
            self.tainted.extend(names.into_iter().filter(|name| name.starts_with(|c: char| c.is_lowercase())));
        }
        visit::visit_local(self, local);
    }

    fn visit_macro(&mut self, call: &'s syn::Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if WORDS.contains(&name.as_str()) && self.leaks(call.tokens.clone()) {
            self.find(format!("{name}! says a revealed value"));
        }
        if LOGGING.contains(&name.as_str()) && says_an_id(call.tokens.clone()) {
            self.find(format!("{name}! says an id"));
        }
        if identifiers(call.tokens.clone()).contains("reveal") {
            self.find("reveals");
        }
        visit::visit_macro(self, call);
    }

    fn visit_expr_call(&mut self, call: &'s syn::ExprCall) {
        let callee = quote(&call.func).to_string().replace(' ', "");
        if callee.starts_with("Error::") || callee == "Fault::new" {
            if call.args.iter().any(|value| self.leaks(quote(value))) {
                self.find(format!("{callee} says a revealed value"));
            }
            if call.args.iter().any(|value| says_an_id(quote(value))) {
                self.find(format!("{callee} says an id"));
            }
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_method_call(&mut self, call: &'s syn::ExprMethodCall) {
        let name = call.method.to_string();
        if name == "reveal" {
            self.find("reveals");
        }
        if SAYING.contains(&name.as_str()) && call.args.iter().any(|value| self.leaks(quote(value))) {
            self.find(format!(".{name}() says a revealed value"));
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'s syn::Path) {
        // `map(Phi::reveal)`
        if path.segments.len() > 1 && path.segments.last().is_some_and(|segment| segment.ident == "reveal") {
            self.find("reveals");
        }
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| attribute.path().is_ident("cfg") && identifiers(quote(&attribute.meta)).contains("test"))
}

fn quote(syntax: &impl quote::ToTokens) -> TokenStream {
    syntax.to_token_stream()
}

/// Is `.get()` in it, by which an encounter's id becomes a number?
fn says_an_id(tokens: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let get = |three: &[TokenTree]| match three {
        [TokenTree::Punct(dot), TokenTree::Ident(get), TokenTree::Group(call)] => {
            dot.as_char() == '.' && get == "get" && call.stream().is_empty()
        }
        _ => false,
    };
    tokens.windows(3).any(get)
        || tokens.into_iter().any(|token| matches!(token, TokenTree::Group(group) if says_an_id(group.stream())))
}

/// Every identifier, also those that a format text captures: `"{name}"`.
fn identifiers(tokens: TokenStream) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for token in tokens {
        match token {
            TokenTree::Group(group) => found.extend(identifiers(group.stream())),
            TokenTree::Ident(ident) => {
                found.insert(ident.to_string());
            }
            TokenTree::Literal(text) => {
                let text = text.to_string();
                let captured = text.split('{').skip(1).map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_'));
                found.extend(captured.map(Iterator::collect::<String>).filter(|name| !name.is_empty()));
            }
            TokenTree::Punct(_) => {}
        }
    }
    found
}
