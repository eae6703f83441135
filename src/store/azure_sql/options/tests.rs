use proptest::prelude::*;

use super::*;
use crate::azure::identity::Kind;

fn parse(text: &str) -> Result<Options> {
    Options::parse(&Secret::new(text), &Identity::default())
}

fn fails(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn the_string_that_the_portal_shows_is_read() {
    let options = parse(
        "Server=tcp:hospital.database.windows.net,1433;Initial Catalog=record;Persist Security Info=False;MultipleActiveResultSets=False;\
         Encrypt=True;TrustServerCertificate=False;Connection Timeout=30;Authentication=\"Active Directory Default\";",
    )
    .unwrap();
    assert_eq!((options.host.as_str(), options.port), ("hospital.database.windows.net", 1433));
    assert_eq!(options.database, "record");
    assert_eq!(options.connect, Duration::from_secs(30));
    assert!(!options.strict && !options.trust_certificate && options.certificate_host.is_none());
    assert!(matches!(options.login, Login::Entra(identity) if identity == Identity::default()));
}

#[test]
fn a_server_has_many_names() {
    for (server, host, port) in [
        ("(local)", "localhost", 1433),
        (".", "localhost", 1433),
        ("tcp:.,1500", "localhost", 1500),
        ("127.0.0.1,1500", "127.0.0.1", 1500),
        ("[::1],1500", "::1", 1500),
        ("TCP:db.example.org", "db.example.org", 1433),
        ("db , 1500", "db", 1500),
    ] {
        let options = parse(&format!("data source={server};database=d")).unwrap();
        assert_eq!((options.host.as_str(), options.port), (host, port), "{server}");
    }
    for server in [r"db\INSTANCE", "np:db", "db,0", "db,70000", "db,x", ",1433", "a b"] {
        assert!(fails(&format!("Server={server};Database=d")).contains("Server"), "{server}");
    }
}

#[test]
fn the_identity_is_the_one_that_the_string_names_or_else_ours() {
    let ours = Identity { kind: Kind::Workload, client_id: Some("ours".into()) };
    let login = |rest: &str| match Options::parse(&Secret::new(format!("Server=db;Database=d;{rest}")), &ours).unwrap().login {
        Login::Entra(identity) => (identity.kind, identity.client_id),
        Login::Sql { .. } => panic!("{rest}"),
    };
    assert_eq!(login(""), (Kind::Workload, Some("ours".into())));
    assert_eq!(login("Authentication=Active Directory Default"), (Kind::Workload, Some("ours".into())));
    assert_eq!(login("Authentication=Active Directory Managed Identity;User Id=theirs"), (Kind::Managed, Some("theirs".into())));
    assert_eq!(login("Authentication=ActiveDirectoryMSI"), (Kind::Managed, Some("ours".into())));
    assert_eq!(login("Authentication=Active Directory Workload Identity;UID=theirs"), (Kind::Workload, Some("theirs".into())));
}

#[tokio::test]
async fn a_source_may_know_passwords_alone_and_its_certificate_is_checked() {
    let source = |text: &str| {
        let settings = SqlSettings::new(crate::config::SqlConnection::Text(Secret::new(text)));
        async move { Options::resolve_source(&settings, &Identity::default()).await }
    };
    let options = source("Server=db.example.org;Database=d;UID=sa;PWD=x").await.unwrap();
    assert!(matches!(options.login, Login::Sql { .. }) && !options.trust_certificate);
    assert!(source("Server=db.example.org;Database=d;UID=sa;PWD=x;TrustServerCertificate=True").await.is_err());
}

#[test]
fn a_password_is_for_local_servers_only() {
    let options = parse("Server=localhost;Database=d;User=sa;PWD=\"a;b=c\";Authentication=SqlPassword").unwrap();
    assert!(matches!(options.login, Login::Sql { user, password } if user == "sa" && password.reveal() == "a;b=c"));
    for (text, word) in [
        ("Server=db.example.org;Database=d;UID=sa;PWD=x", "local servers only"),
        ("Server=localhost;Database=d;UID=sa", "go together"),
        ("Server=localhost;Database=d;PWD=x", "go together"),
        ("Server=localhost;Database=d;UID=sa;PWD=x;Authentication=Active Directory Default", "does not go with"),
        ("Server=db;Database=d;UID=a;PWD=x;Authentication=Active Directory Service Principal", "managed or a workload identity"),
        ("Server=db;Database=d;Authentication=Active Directory Interactive", "person"),
        ("Server=db;Database=d;Authentication=Active Directory Password", "person"),
        ("Server=db;Database=d;Authentication=Kerberos", "Authentication must be"),
        ("Server=db;Database=d;Integrated Security=SSPI", "Integrated Security"),
        ("Server=db;Database=d;Trusted_Connection=yes", "Integrated Security"),
    ] {
        assert!(fails(text).contains(word), "{text}: {}", fails(text));
    }
}

#[test]
fn encryption_cannot_be_switched_off_nor_weakened() {
    assert!(parse("Server=db;Database=d;Encrypt=Strict;HostNameInCertificate=sql.example.org").unwrap().strict);
    for encrypt in ["True", "Mandatory", "yes", "False", "Optional", "no"] {
        assert!(!parse(&format!("Server=db;Database=d;Encrypt={encrypt}")).unwrap().strict);
    }
    assert!(fails("Server=db;Database=d;Encrypt=maybe").contains("Encrypt"));
    assert!(fails("Server=db;Database=d;TrustServerCertificate=True").contains("HDAI_SQL_CA_FILE"));
    assert!(parse("Server=127.0.0.1;Database=d;Trust Server Certificate=True").unwrap().trust_certificate);
}

#[test]
fn what_is_missing_unknown_twice_or_out_of_range_is_named() {
    for (text, word) in [
        ("Database=d", "Server is missing"),
        ("Server=db", "Database is missing"),
        ("Server=db;Database=d;Failover Partner=x", "`failover partner` is not known"),
        ("Server=db;Data Source=db;Database=d", "server is there twice"),
        ("Server=db;Database=d;Connect Timeout=0", "connect timeout must be"),
        ("Server=db;Database=d;Command Timeout=x", "command timeout must be"),
        ("Server=db;Database=d;ApplicationIntent=ReadOnly", "ReadWrite"),
        ("Server=db;Database=d;Column Encryption Setting=Enabled", "Always Encrypted"),
        ("Server=db;Database", "cannot be read"),
    ] {
        assert!(fails(text).contains(word), "{text}: {}", fails(text));
    }
    assert_eq!(parse("Server=db;Database=d;Command Timeout=90").unwrap().command, Some(Duration::from_secs(90)));
}

#[test]
fn a_password_that_the_parser_would_change_is_refused() {
    for password in [r#""a""b""#, "O'Brien", "a'b'c", "{x}", r#"a"b"c"#, r#""a"b"#] {
        assert!(parse(&format!("Server=localhost;Database=d;User ID=sa;Password={password}")).is_err(), "{password}");
    }
    for (written, meant) in [(r#""a b""#, "a b"), ("'a;b'", "a;b"), ("ab", "ab"), ("p@ss/w0rd+", "p@ss/w0rd+")] {
        let options = parse(&format!("Server=localhost;Database=d;User ID=sa;Password={written} ;")).unwrap();
        assert!(matches!(options.login, Login::Sql { password, .. } if password.reveal() == meant), "{written}");
    }
}

#[test]
fn part_of_a_password_is_not_taken_for_a_keyword_and_shown() {
    let message = fails("Server=localhost;Database=d;User ID=sa;Password=abc;S3cr3t/Rest=1");
    assert!(!message.to_lowercase().contains("s3cr3t"), "{message}");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_soup_of_keywords_makes_it_panic(parts in prop::collection::vec(
        prop::sample::select(vec![
            "Server", "Database", "User ID", "Password", "Authentication", "Encrypt", "=", ";", "\"", "'", "{", "}", " ", "\n", ",", "tcp:", "Ü", "\\", "1433",
        ]), 0..40)) {
        let _ = parse(&parts.concat());
    }

    #[test]
    fn no_value_is_in_an_error_or_in_debug(keyword in prop::sample::select(vec![
        "Server", "Database", "User ID", "Password", "Authentication", "Encrypt", "TrustServerCertificate", "HostNameInCertificate",
        "Connect Timeout", "Command Timeout", "Application Name", "Integrated Security", "ApplicationIntent", "Packet Size",
    ]), value in "[ -!#-~]{0,4}ZqX[ -!#-~]{0,4}", quoted in any::<bool>()) {
        let value = if quoted { format!("\"{value}\"") } else { value };
        let rest = ["Server=localhost", "Database=d"].into_iter().filter(|pair| !pair.starts_with(keyword)).collect::<Vec<_>>().join(";");
        match parse(&format!("{keyword}={value};{rest}")) {
            // What follows an unquoted `;` is read as a keyword, and keywords are named.
            Err(error) => prop_assert!(!error.to_string().contains("ZqX") && (!quoted || !error.to_string().contains("zqx")), "{error}"),
            Ok(options) => {
                let shown = format!("{options:?}").to_lowercase();
                prop_assert!(!shown.contains("zqx"));
            }
        }
    }
}
